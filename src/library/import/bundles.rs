//! Writes what is known about a folder of files that belong together.

use super::committing::{Facts, commit_model, hub_origin};
use super::grouping;
use super::work::{BundleWork, HubFile, ModelUse, Shape};
use crate::base::{BlobId, EntryName, ModelType};
use crate::catalog::{BundleRow, CatalogError, NewBundle, OriginRow, Writer};
use crate::classify::{self, Evidence, Part, Rules, Verdict};
use crate::formats::{Header, decode_header, has_model_suffix};
use crate::library::danger;
use crate::library::shelf::Shelf;
use crate::tree::{BundleFile, HubRepo, Source};

/// Digits of the commit in the name of a second revision.
const COMMIT_DIGITS: usize = 10;

/// Registers a bundle whose files are in the catalog, or completes the one that is there. Says whether anything was new.
pub(super) fn commit_bundle(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    rules: &Rules,
    work: &BundleWork,
    contents: &[Option<BlobId>],
) -> Result<bool, CatalogError> {
    let mut files = Vec::new();
    for (member, blob) in work.members.iter().zip(contents) {
        let Some(blob) = *blob else { continue };
        files.push(BundleFile { path: member.relative.clone(), blob });
        if let Some((repo, commit)) = &work.hub {
            let hub = HubFile { repo: repo.clone(), commit: commit.clone(), path: member.relative.clone() };
            let origin = hub_origin(&hub);
            settle(w, shelf, &origin, blob)?;
            shelf.add_origin(w, blob, &origin)?;
        }
    }
    let headers = headers(w, &files)?;
    let verdict = judge(rules, work, &files, &headers);
    let in_views = match work.shape {
        Shape::Pipeline | Shape::Sharded => true,
        Shape::Configured => is_taken_as_folder(w, verdict.model_type, &files)?,
        Shape::Loose => false,
    };
    if work.shape == Shape::Configured && !in_views {
        register_models(w, shelf, rules, work, &files, &headers)?;
    }
    if let Some(known) = known_bundle(w, work, &files)? {
        let is_new = |file: &&BundleFile| !known.files.contains(file);
        let more: Vec<BundleFile> = files.iter().filter(is_new).cloned().collect();
        if !more.is_empty() {
            w.extend_bundle(known.id, &more)?;
            more.iter().try_for_each(|file| danger::is_called(w, file.blob, file.path.as_str()))?;
            shelf.place_bundle(w, known.id)?;
        }
        return Ok(!more.is_empty());
    }
    let (source, hub, commit) = match &work.hub {
        None => (Source::Local, None, None),
        Some((repo, commit)) => {
            let source = Source::HuggingFace;
            let is_first = w.bundles_of_repo(source, repo)?.is_empty();
            let directory_name = if is_first { work.name.clone() } else { revision_name(work, commit.as_str()) };
            (source, Some(HubRepo { source, repo: repo.clone(), directory_name }), Some(commit.clone()))
        }
    };
    let called: Vec<_> = files.iter().map(|file| (file.blob, file.path.file_name())).collect();
    let bundle = w.add_bundle(&NewBundle {
        name: work.name.clone(),
        in_views,
        model_type: verdict.model_type,
        base: verdict.base.clone(),
        source,
        hub,
        commit,
        files,
        mtime: w.now(),
    })?;
    shelf.place_bundle(w, bundle)?;
    called.iter().try_for_each(|(blob, name)| danger::is_called(w, *blob, name.as_str()))?;
    Ok(true)
}

/// A file that was registered by its place alone, because its hub publishes no hash of it, turns out to be this content.
fn settle(w: &mut Writer<'_>, shelf: &mut Shelf, origin: &OriginRow, blob: BlobId) -> Result<(), CatalogError> {
    let Some(known) = w.blob_of_origin(origin)?.filter(|known| *known != blob) else { return Ok(()) };
    let (known, here) = (w.blob(known)?, w.blob(blob)?);
    match (known, here) {
        (Some(known), Some(here)) if known.sha256.is_none() && known.size_bytes == here.size_bytes => {
            shelf.merge_blob(w, known.id, blob)
        }
        _ => Ok(()),
    }
}

fn revision_name(work: &BundleWork, commit: &str) -> EntryName {
    let digits = commit.get(..COMMIT_DIGITS).unwrap_or(commit);
    EntryName::new(&format!("{}@{digits}", work.name)).expect("a repository's name is short")
}

fn headers(w: &Writer<'_>, files: &[BundleFile]) -> Result<Vec<Option<Header>>, CatalogError> {
    let header = |file: &BundleFile| {
        let record = if has_model_suffix(file.path.as_str()) { w.header(file.blob)? } else { None };
        // A record of another version can be read anew from the file; it is no reason to fail.
        Ok(record.and_then(|record| decode_header(&record).ok()))
    };
    files.iter().map(header).collect()
}

fn judge(rules: &Rules, work: &BundleWork, files: &[BundleFile], headers: &[Option<Header>]) -> Verdict {
    let members = files.iter().map(|file| work.members.iter().find(|member| member.relative == file.path));
    let parts: Vec<Part<'_>> = members
        .zip(headers)
        .filter_map(|(member, header)| {
            let member = member?;
            Some(Part {
                path: member.relative.as_str(),
                size_bytes: member.size_bytes,
                header: header.as_ref(),
                json: member.json.as_deref(),
            })
        })
        .collect();
    classify::classify_bundle(rules, &parts, work.name.as_str(), &work.folders)
}

/// Whether the enabled applications take a model of this type and ending as a folder, and none of them as a file.
fn is_taken_as_folder(w: &Writer<'_>, model_type: ModelType, files: &[BundleFile]) -> Result<bool, CatalogError> {
    let names = files.iter().map(|file| file.path.file_name()).filter(|name| has_model_suffix(name.as_str()));
    let suffixes: Vec<String> = names.map(|name| name.suffix().to_ascii_lowercase()).collect();
    let targets = w.targets()?;
    let folders = targets.iter().filter(|target| target.enabled).flat_map(|target| &target.folders);
    let mut as_folder = false;
    for folder in folders.filter(|folder| folder.model_type == Some(model_type)) {
        if folder.directories {
            as_folder = true;
        } else if folder.suffixes.is_empty() || folder.suffixes.iter().any(|suffix| suffixes.contains(suffix)) {
            return Ok(false);
        }
    }
    Ok(as_folder)
}

/// A repository of one model under a name that says nothing: shown as a file with the repository's name.
fn register_models(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    rules: &Rules,
    work: &BundleWork,
    files: &[BundleFile],
    headers: &[Option<Header>],
) -> Result<(), CatalogError> {
    for (file, header) in files.iter().zip(headers) {
        let (Some(header), Some((repo, commit))) = (header, &work.hub) else { continue };
        let own = file.path.file_name();
        let is_top = file.path.parent().is_none();
        let name = if is_top && grouping::is_generic(own.as_str()) {
            EntryName::new(&format!("{}{}", work.name, own.suffix())).unwrap_or(own)
        } else {
            own
        };
        let size_bytes = w.blob(file.blob)?.map_or(0, |row| row.size_bytes);
        let mut folders: Vec<String> = repo.as_str().split('/').map(str::to_owned).collect();
        folders.extend(
            file.path
                .parent()
                .iter()
                .flat_map(|parent| parent.names().map(|n| n.as_str().to_owned()).collect::<Vec<_>>()),
        );
        let evidence =
            Evidence { header: Some(header), file_name: name.as_str(), folders: &folders, size_bytes, hub: &[] };
        let verdict = classify::classify(rules, &evidence);
        let hub = HubFile { repo: repo.clone(), commit: commit.clone(), path: file.path.clone() };
        let model = ModelUse { name, folders, hub: Some(hub) };
        let facts = Facts::of(header, file.path.file_name().as_str());
        commit_model(w, shelf, file.blob, &model, Some(&facts), &verdict)?;
    }
    Ok(())
}

/// The bundle this folder was registered as before.
fn known_bundle(w: &Writer<'_>, work: &BundleWork, files: &[BundleFile]) -> Result<Option<BundleRow>, CatalogError> {
    if let Some((repo, commit)) = &work.hub {
        return w.bundle_of_repo(Source::HuggingFace, repo, commit);
    }
    for file in files {
        for bundle in w.bundles_of_blob(file.blob)? {
            let Some(row) = w.bundle(bundle)? else { continue };
            let is_same = row.hub.is_none() && row.name == work.name && !row.deleted;
            if is_same && row.files.iter().all(|have| files.contains(have)) {
                return Ok(Some(row));
            }
        }
    }
    Ok(None)
}

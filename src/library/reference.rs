//! What a REF names: an id, a name, a path in a mount, a hash, a file of a hub.
//!
//! Invariant: a REF that names several models lists them and picks none.

use super::LibraryError;
use crate::base::{BlobId, Digest, Locator, ModelId, RelativePath, RepoId, Revision};
use crate::catalog::{CatalogError, ModelRow, Reader};
use crate::hub::source_of;
use crate::tree::{Occupant, Source};
use std::path::Path;

/// Fewer digits of a hash name too much by chance.
const HASH_DIGITS_MIN: usize = 8;
/// Candidates that are listed: a screen.
const CANDIDATES_MAX: usize = 20;
/// Deepest folder of the tree a name is looked for in: no path there is deeper.
const FOLDERS_MAX: usize = 32;

/// The one model a REF names. What is in the trash is named only when nothing else answers.
pub(super) fn resolve(r: &Reader<'_>, reference: &str) -> Result<ModelRow, LibraryError> {
    resolve_first(r, reference, |row| !row.deleted)
}

/// The same, but what is in the trash comes first.
pub(super) fn resolve_removed(r: &Reader<'_>, reference: &str) -> Result<ModelRow, LibraryError> {
    resolve_first(r, reference, |row| row.deleted)
}

fn resolve_first(
    r: &Reader<'_>,
    reference: &str,
    comes_first: impl Fn(&ModelRow) -> bool,
) -> Result<ModelRow, LibraryError> {
    let mut found = candidates(r, reference)?;
    found.sort_by_key(|row| row.id);
    found.dedup_by_key(|row| row.id);
    if found.iter().any(&comes_first) {
        found.retain(&comes_first);
    }
    match found.len() {
        0 => Err(LibraryError::NotFound { reference: reference.to_owned() }),
        1 => Ok(found.remove(0)),
        _ => Err(LibraryError::Ambiguous { reference: reference.to_owned(), candidates: shown(&found) }),
    }
}

/// The files a REF names: those of a repository or of a folder of it, else those of the one model.
pub(super) fn contents(r: &Reader<'_>, reference: &str) -> Result<Vec<BlobId>, LibraryError> {
    let mut found = of_repository(r, reference)?;
    if found.is_empty() {
        found.push(resolve(r, reference)?.blob);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Every file below the path of a REF that names a place at a hub; nothing for any other.
fn of_repository(r: &Reader<'_>, reference: &str) -> Result<Vec<BlobId>, LibraryError> {
    let (source, repo, commit, path) = if Locator::is_meant(reference) {
        let locator = Locator::parse(reference)?;
        let source = source_of(&locator);
        match locator {
            Locator::HuggingFace { repo, revision, path } | Locator::ModelScope { repo, revision, path } => {
                let commit = revision.filter(Revision::is_commit).map(|commit| commit.as_str().to_owned());
                (source, repo, commit.unwrap_or_default(), path)
            }
            Locator::Civitai { .. } | Locator::Web(_) | Locator::Folder(_) => {
                return Ok(by_locator(r, &locator)?.into_iter().map(|row| row.blob).collect());
            }
        }
    } else {
        let names: Vec<&str> = reference.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let Some((source, repo, digits, path)) = place_in_hubs(&names) else { return Ok(Vec::new()) };
        (source, repo, digits, RelativePath::new(&path).ok())
    };
    let mut found = Vec::new();
    for bundle in r.bundles_of_repo(source, &repo)? {
        let is_meant = bundle.commit.as_ref().map_or("", Revision::as_str).starts_with(&commit);
        let is_below = |file: &RelativePath| match &path {
            None => true,
            Some(path) => {
                file.as_str().strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        found.extend(bundle.files.iter().filter(|file| is_meant && is_below(&file.path)).map(|file| file.blob));
    }
    Ok(found)
}

fn shown(found: &[ModelRow]) -> Vec<String> {
    let mut shown: Vec<String> =
        found.iter().take(CANDIDATES_MAX).map(|row| format!("{} (id {})", row.name, row.id)).collect();
    if found.len() > CANDIDATES_MAX {
        shown.push(format!("and {} more", found.len() - CANDIDATES_MAX));
    }
    shown
}

fn candidates(r: &Reader<'_>, reference: &str) -> Result<Vec<ModelRow>, LibraryError> {
    if let Some(hex) = reference.strip_prefix("sha256:") {
        return by_sha256(r, reference, hex);
    }
    if Locator::is_meant(reference) {
        return Ok(by_locator(r, &Locator::parse(reference)?)?);
    }
    if reference.contains('/') {
        return Ok(by_path(r, reference)?);
    }
    if let Some(row) = reference.parse().ok().map(|id| r.model(ModelId::new(id))).transpose()?.flatten() {
        return Ok(vec![row]);
    }
    let named = r.models_named(reference)?;
    if !named.is_empty() {
        return Ok(named);
    }
    let is_hash = reference.len() >= HASH_DIGITS_MIN && reference.bytes().all(|digit| digit.is_ascii_hexdigit());
    Ok(if is_hash { r.models_by_hash(&reference.to_ascii_lowercase())? } else { Vec::new() })
}

fn by_sha256(r: &Reader<'_>, reference: &str, hex: &str) -> Result<Vec<ModelRow>, LibraryError> {
    let hex = hex.to_ascii_lowercase();
    let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex || !(HASH_DIGITS_MIN..=64).contains(&hex.len()) {
        return Err(LibraryError::BadReference {
            reference: reference.to_owned(),
            reason: format!("a sha256 is named by {HASH_DIGITS_MIN} to 64 hex digits"),
        });
    }
    let mut found = Vec::new();
    for row in r.models_by_hash(&hex)? {
        // Other hashes may begin with the same digits.
        let sha256 = r.blob(row.blob)?.and_then(|blob| blob.sha256);
        if sha256.is_some_and(|sha256| sha256.to_string().starts_with(&hex)) {
            found.push(row);
        }
    }
    Ok(found)
}

fn by_locator(r: &Reader<'_>, locator: &Locator) -> Result<Vec<ModelRow>, CatalogError> {
    let source = source_of(locator);
    match locator {
        Locator::HuggingFace { repo, revision, path } | Locator::ModelScope { repo, revision, path } => {
            // A branch's name is not kept: whatever was registered answers to it.
            let commit = revision.as_ref().filter(|revision| revision.is_commit());
            by_repository(r, source, repo, commit, path.as_ref())
        }
        Locator::Civitai { model, version, choice } => {
            let number = |number: &u64| number.to_string();
            let file = choice.id.as_ref().map(number);
            let places = r.places(source, model.as_ref().map(number).as_deref(), file.as_deref())?;
            let version = version.as_ref().map(number);
            let meant = |revision: &String| version.as_ref().is_none_or(|version| revision == version);
            models_at(r, places.into_iter().filter(|(_, revision)| meant(revision)).map(|(blob, _)| blob))
        }
        Locator::Web(address) => {
            let places = r.places(source, Some(address.repo().as_str()), Some(address.path().as_str()))?;
            models_at(r, places.into_iter().map(|(blob, _)| blob))
        }
        Locator::Folder(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let places = r.places(source, None, path.to_str().map(|path| path.trim_start_matches('/')))?;
            models_at(r, places.into_iter().map(|(blob, _)| blob))
        }
    }
}

fn models_at(r: &Reader<'_>, blobs: impl Iterator<Item = BlobId>) -> Result<Vec<ModelRow>, CatalogError> {
    let mut found = Vec::new();
    for blob in blobs {
        found.extend(r.models_of_blob(blob)?);
    }
    Ok(found)
}

fn by_repository(
    r: &Reader<'_>,
    source: Source,
    repo: &RepoId,
    commit: Option<&Revision>,
    path: Option<&RelativePath>,
) -> Result<Vec<ModelRow>, CatalogError> {
    let mut found = Vec::new();
    for bundle in r.bundles_of_repo(source, repo)? {
        if commit.is_some_and(|commit| bundle.commit.as_ref() != Some(commit)) {
            continue;
        }
        let files = bundle.files.iter().filter(|file| path.is_none_or(|path| file.path == *path));
        found.extend(models_at(r, files.map(|file| file.blob))?);
    }
    Ok(found)
}

/// A path somewhere in a mount, wherever that is mounted; or a file that was imported.
fn by_path(r: &Reader<'_>, reference: &str) -> Result<Vec<ModelRow>, CatalogError> {
    let names: Vec<&str> = reference.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let Some((name, folders)) = names.split_last() else { return Ok(Vec::new()) };
    if let [.., "store", sha256] = folders
        && let Ok(sha256) = Digest::parse(sha256)
    {
        return match r.blob_by_sha256(&sha256)? {
            Some(blob) => r.models_of_blob(blob.id),
            None => Ok(Vec::new()),
        };
    }
    let mut found = Vec::new();
    for row in by_shown_name(r, name)? {
        for start in folders.len().saturating_sub(FOLDERS_MAX)..folders.len() {
            let Ok(directory) = RelativePath::new(&folders[start..].join("/")) else { continue };
            let given = r.name_of(&directory, Occupant::Model(row.id))?;
            if given.is_some_and(|given| given.as_str() == *name) {
                found.push(row);
                break;
            }
        }
    }
    if found.is_empty() {
        found = in_repository(r, &names)?;
    }
    if found.is_empty() {
        let path = Path::new(reference);
        for path in [path.canonicalize(), std::path::absolute(path)].into_iter().flatten() {
            if let Some(import) = r.import_of(&path)? {
                return r.models_of_blob(import.blob);
            }
        }
    }
    Ok(found)
}

/// Models that may be shown under this name: by their own, or by a name with a mark.
fn by_shown_name(r: &Reader<'_>, name: &str) -> Result<Vec<ModelRow>, CatalogError> {
    let mut found = r.models_named(name)?;
    if let Some((_, mark)) = name.rsplit_once('~') {
        let mark = mark.split('.').next().unwrap_or_default();
        if let Some(id) = mark.strip_prefix('m').and_then(|id| id.split('-').next()?.parse().ok()) {
            found.extend(r.model(ModelId::new(id))?);
        } else if mark.len() >= HASH_DIGITS_MIN && mark.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            found.extend(r.models_by_hash(mark)?);
        }
    }
    Ok(found)
}

/// Hub, repository, digits of the commit and path in it, of `…/hubs/huggingface/org/name[@digits][/path]` or
/// `…/hubs/civitai/model/version[/path]`.
fn place_in_hubs(names: &[&str]) -> Option<(Source, RepoId, String, String)> {
    let hub = |pair: &[&str]| if pair[0] == "hubs" { Source::parse(pair[1]) } else { None };
    let start = names.windows(2).rposition(|pair| hub(pair).is_some())?;
    let source = hub(&names[start..start + 2])?;
    let [org, name, path @ ..] = &names[start + 2..] else { return None };
    let (short, digits) = name.split_once('@').unwrap_or((name, ""));
    let (repo, digits) = match source {
        Source::Civitai => ((*org).to_owned(), *name),
        _ => (format!("{org}/{short}"), digits),
    };
    Some((source, RepoId::new(&repo).ok()?, digits.to_owned(), path.join("/")))
}

/// What such a path leads to.
fn in_repository(r: &Reader<'_>, names: &[&str]) -> Result<Vec<ModelRow>, CatalogError> {
    let Some((source, repo, digits, path)) = place_in_hubs(names) else { return Ok(Vec::new()) };
    let Ok(path) = RelativePath::new(&path) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for bundle in r.bundles_of_repo(source, &repo)? {
        let commit = bundle.commit.as_ref().map_or("", Revision::as_str);
        if commit.starts_with(&digits) {
            let files = bundle.files.iter().filter(|file| file.path == path);
            found.extend(models_at(r, files.map(|file| file.blob))?);
        }
    }
    Ok(found)
}

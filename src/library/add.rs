//! Registering what hubs hold, repositories and single files: it appears in the mount before a byte of it is here.
//!
//! Invariants: everything is pinned to the state the hub answered; a content whose published sha256 is here already is
//! resident at once; running it again registers only what is new. One transaction for the rows, after all network work.
//! Not here: downloads (`fetch`), which directories show it (`shelf`).

use super::danger;
use super::judging;
use super::linked;
use super::models::{self, NewFacts};
use super::origins::row_of;
use super::probe::probe;
use super::shelf::Shelf;
use super::{AddSummary, Gate, Library, LibraryError, Refusal, enrich_facts};
use crate::base::{
    BlobId, BlobState, BundleId, EntryName, Fault, FaultKind, Label, Locator, ModelType, RelativePath, Timestamp,
};
use crate::catalog::{BlobRow, CatalogError, NewBlob, NewBundle, Writer};
use crate::classify::{Evidence, Rules, Verdict, classify, safety};
use crate::formats::{Header, encode_header, has_model_suffix};
use crate::hub::{Expected, HubSet, RemoteFile, RepoListing};
use crate::tree::{BundleFile, HubRepo, Source, directory_of_repo};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Headers read at once: the hub's own client opens eight connections.
const PROBE_THREADS: usize = 8;
/// Most headers read for one repository: with more, names alone decide until a file is opened.
const PROBE_FILES_MAX: usize = 512;
/// Most files of a repository that is looked into without being registered, and headers read of it.
const HIT_FILES_MAX: usize = 2000;
const HIT_PROBES_MAX: usize = 32;
/// Longest wait for their headers, but for those that are under way: somebody looks into a directory meanwhile. What is
/// not read then is withheld until it is.
const HIT_PROBING_MAX: Duration = Duration::from_secs(30);
/// Formats that cannot run anything.
const HARMLESS: [&str; 4] = [".safetensors", ".sft", ".gguf", ".onnx"];
/// Digits of the commit in the directory of a second revision.
const COMMIT_DIGITS: usize = 10;
/// The file that lists the parts of a diffusers folder.
const DIFFUSERS_INDEX: &str = "model_index.json";

/// A header by the index of its file in the listing.
type Headers = HashMap<usize, Header>;

pub(super) fn add(library: &Library, reference: &str) -> Result<AddSummary, LibraryError> {
    let locator = Locator::parse(reference)?;
    if library.options().hubs.offline && !matches!(locator, Locator::Folder(_)) {
        return Err(LibraryError::Offline);
    }
    let hubs = HubSet::new(library.options().hubs.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| super::mounted::machinery_fault(&error))?;
    let mut listing = runtime.block_on(hubs.describe(&locator)).map_err(|error| error.fault())?;
    let layout = Layout::of(&listing);
    if !is_repository(listing.source) && !layout.in_views {
        keep_models(&mut listing, reference)?;
    }
    let wanted = to_be_probed(library, &listing)?;
    let headers = probe_all(&hubs, runtime.handle(), &listing, wanted, None);
    let rules = library.rules();
    let registration = Registration { library, rules: &rules, listing: &listing, headers: &headers, layout };
    let summary = library.catalog().write(library.clock().now(), |writer| registration.write(writer))?;
    runtime.shutdown_background();
    Ok(summary)
}

/// Registers the files of a repository that a search found: they can be read, and are no models until `add`. Waits for the
/// network where a file may run something when it is loaded: its header tells.
pub(super) fn register_hit(
    library: &Library,
    hubs: &HubSet,
    runtime: &tokio::runtime::Handle,
    listing: &RepoListing,
) -> Result<Vec<BundleFile>, LibraryError> {
    if listing.files.len() > HIT_FILES_MAX {
        let what = format!("{} has {} files", listing.repo, listing.files.len());
        return Err(Fault::new(FaultKind::Unsupported, what, "register it with `modelfs add`").into());
    }
    let may_run = |index: &usize| {
        let path = listing.files[*index].path.as_str().to_ascii_lowercase();
        !HARMLESS.iter().any(|suffix| path.ends_with(suffix))
    };
    let wanted: Vec<usize> = to_be_probed(library, listing)?.into_iter().filter(may_run).take(HIT_PROBES_MAX).collect();
    let headers = probe_all(hubs, runtime, listing, wanted, Some(HIT_PROBING_MAX));
    let rules = library.rules();
    let layout = Layout::of(listing);
    let registration = Registration { library, rules: &rules, listing, headers: &headers, layout };
    let files = library.catalog().write(library.clock().now(), |writer| registration.write_files(writer))?;
    Ok(files)
}

/// Whether the hub keeps repositories, which are shown as directories with all they hold.
fn is_repository(source: Source) -> bool {
    match source {
        Source::HuggingFace | Source::Civitai | Source::ModelScope => true,
        Source::Local | Source::Web | Source::Folder => false,
    }
}

/// A file that belongs to no repository is shown as a model or nowhere.
fn keep_models(listing: &mut RepoListing, reference: &str) -> Result<(), LibraryError> {
    listing.files.retain(|file| has_model_suffix(file.path.as_str()));
    if listing.files.is_empty() && listing.refused.is_empty() {
        return Err(LibraryError::BadReference {
            reference: reference.split('?').next().unwrap_or_default().to_owned(),
            reason: "there is no model file".to_owned(),
        });
    }
    Ok(())
}

/// Model files whose content is not known yet.
fn to_be_probed(library: &Library, listing: &RepoListing) -> Result<Vec<usize>, LibraryError> {
    let wanted = library.catalog().read(|reader| {
        let mut wanted = Vec::new();
        for (index, file) in listing.files.iter().enumerate() {
            if !has_model_suffix(file.path.as_str()) || file.size_bytes == 0 {
                continue;
            }
            let known = match &file.sha256 {
                Some(sha256) => reader.blob_by_sha256(sha256)?.map(|row| row.id),
                None => reader.blob_of_origin(&row_of(&listing.origin_of(file)))?,
            };
            // One that a search looked into is known, and nothing is known of it.
            let is_read = match known {
                Some(blob) => {
                    let is_remote = reader.blob(blob)?.is_some_and(|row| row.state == BlobState::Remote);
                    !is_remote || reader.header(blob)?.is_some()
                }
                None => false,
            };
            if !is_read {
                wanted.push(index);
            }
        }
        Ok::<_, CatalogError>(wanted)
    })?;
    Ok(wanted.into_iter().take(PROBE_FILES_MAX).collect())
}

/// Reads headers, several at a time; begins none after `limit`.
fn probe_all(
    hubs: &HubSet,
    runtime: &tokio::runtime::Handle,
    listing: &RepoListing,
    wanted: Vec<usize>,
    limit: Option<Duration>,
) -> Headers {
    let start = Instant::now();
    let found = Mutex::new(Headers::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PROBE_THREADS.min(wanted.len()) {
            scope.spawn(|| {
                while limit.is_none_or(|limit| start.elapsed() < limit)
                    && let Some(&index) = wanted.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let file = &listing.files[index];
                    if let Some(header) = probe(hubs, runtime, &listing.origin_of(file), &expected(file)) {
                        found.lock().expect("no thread panics while it holds this").insert(index, header);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics while it holds this")
}

fn expected(file: &RemoteFile) -> Expected {
    Expected { size_bytes: file.size_bytes, sha256: file.sha256, etag: file.etag.clone() }
}

/// How the files of a repository belong together.
struct Layout {
    model_type: ModelType,
    /// Shown as one directory in app views.
    in_views: bool,
    /// Folders whose model files are parts, not models of their own; the root is the empty text.
    part_folders: HashSet<String>,
}

impl Layout {
    fn of(listing: &RepoListing) -> Self {
        let mut part_folders = HashSet::new();
        let paths = || listing.files.iter().map(|file| file.path.as_str());
        let is_diffusers = paths().any(|path| path == DIFFUSERS_INDEX);
        for path in paths() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if is_diffusers && !folder.is_empty() || is_shard_index(name) {
                part_folders.insert(folder.to_owned());
            }
        }
        // Only a language model has its shards beside its configuration at the root.
        let is_sharded = part_folders.contains("") && paths().any(|path| path == "config.json");
        let model_type = match (is_diffusers, is_sharded) {
            (true, _) => ModelType::Diffusers,
            (false, true) => ModelType::Llm,
            (false, false) => ModelType::Unknown,
        };
        Self { model_type, in_views: is_diffusers || is_sharded, part_folders }
    }

    fn is_model(&self, path: &RelativePath) -> bool {
        let folder = path.parent().map(|parent| parent.to_string()).unwrap_or_default();
        has_model_suffix(path.as_str()) && !self.part_folders.contains(&folder)
    }
}

/// `model.safetensors.index.json`, `pytorch_model.bin.index.json`.
fn is_shard_index(name: &str) -> bool {
    name.strip_suffix(".index.json").is_some_and(has_model_suffix)
}

struct Registration<'a> {
    library: &'a Library,
    rules: &'a Rules,
    listing: &'a RepoListing,
    headers: &'a Headers,
    layout: Layout,
}

/// One registered file.
struct Registered {
    blob: BlobId,
    state: BlobState,
    is_new_origin: bool,
}

impl Registration<'_> {
    fn write(&self, writer: &mut Writer<'_>) -> Result<AddSummary, CatalogError> {
        let mut shelf = Shelf::begin(writer)?;
        let mut summary = self.empty_summary();
        let mut files = Vec::with_capacity(self.listing.files.len());
        for (index, file) in self.listing.files.iter().enumerate() {
            let registered = self.register(writer, &mut shelf, index, file)?;
            summary.file_count += 1;
            summary.total_bytes += file.size_bytes;
            summary.resident_bytes += if registered.state == BlobState::Resident { file.size_bytes } else { 0 };
            summary.known_count += usize::from(!registered.is_new_origin);
            files.push(BundleFile { path: file.path.clone(), blob: registered.blob });
            if self.layout.is_model(&file.path) {
                summary.model_count += 1;
                self.register_model(writer, &mut shelf, index, file, registered.blob)?;
            }
        }
        let called: Vec<_> = files.iter().map(|file| (file.blob, file.path.file_name())).collect();
        if is_repository(self.listing.source) {
            let (bundle, hub) = self.bundle(writer, files)?;
            shelf.place_bundle(writer, bundle)?;
            summary.path = format!("{}/{}", directory_of_repo(&hub), hub.directory_name);
        } else if self.layout.in_views {
            self.folder_bundle(writer, &mut shelf, files)?;
        }
        for (blob, name) in called {
            danger::is_called(writer, blob, name.as_str())?;
        }
        Ok(summary)
    }

    /// The files alone.
    fn write_files(&self, writer: &mut Writer<'_>) -> Result<Vec<BundleFile>, CatalogError> {
        let mut shelf = Shelf::begin(writer)?;
        let mut files = Vec::with_capacity(self.listing.files.len());
        for (index, file) in self.listing.files.iter().enumerate() {
            let registered = self.register(writer, &mut shelf, index, file)?;
            danger::is_called(writer, registered.blob, file.path.file_name().as_str())?;
            files.push(BundleFile { path: file.path.clone(), blob: registered.blob });
        }
        Ok(files)
    }

    fn empty_summary(&self) -> AddSummary {
        let refusal = |(name, reason): &(String, String)| Refusal {
            path: PathBuf::from(name),
            reason: reason.clone(),
            remedy: "ask the owner of the repository to rename it".to_owned(),
        };
        AddSummary {
            repo: self.label(),
            commit: self.listing.commit.to_string(),
            file_count: 0,
            total_bytes: 0,
            resident_bytes: 0,
            model_count: 0,
            known_count: 0,
            path: format!("by/source/{}", self.listing.source.as_str()),
            gate: self.gate(),
            refused: self.listing.refused.iter().map(refusal).collect(),
        }
    }

    fn gate(&self) -> Gate {
        let hubs = &self.library.options().hubs;
        let token = match self.listing.source {
            Source::HuggingFace => &hubs.hf_token,
            Source::Civitai => &hubs.civitai_token,
            Source::ModelScope => &hubs.modelscope_token,
            Source::Local | Source::Web | Source::Folder => &None,
        };
        match (self.listing.gated, token) {
            (false, _) => Gate::Open,
            (true, None) => Gate::NeedsToken,
            (true, Some(_)) => Gate::HasToken,
        }
    }

    /// As `modelfs add` takes it.
    fn label(&self) -> String {
        let RepoListing { source, repo, .. } = self.listing;
        match source {
            Source::HuggingFace => format!("hf:{repo}"),
            Source::Local | Source::Civitai | Source::ModelScope => format!("{}:{repo}", source.as_str()),
            Source::Web | Source::Folder => {
                let first = self.listing.files.first().and_then(|file| file.known_by.as_ref());
                let path = first.map_or("", RelativePath::as_str);
                if *source == Source::Folder { format!("dir:/{path}") } else { format!("{repo}/{path}") }
            }
        }
    }

    fn register(
        &self,
        writer: &mut Writer<'_>,
        shelf: &mut Shelf,
        index: usize,
        file: &RemoteFile,
    ) -> Result<Registered, CatalogError> {
        let origin = row_of(&self.listing.origin_of(file));
        let by_origin = writer.blob_of_origin(&origin)?;
        let by_hash = match &file.sha256 {
            Some(sha256) => writer.blob_by_sha256(sha256)?.map(|row| row.id),
            None => None,
        };
        let known = match by_hash.or(by_origin) {
            Some(blob) => writer.blob(blob)?.filter(|row| is_same(row, file)),
            None => None,
        };
        if let Some(row) = known {
            if by_origin != Some(row.id) {
                shelf.add_origin(writer, row.id, &origin)?;
            }
            if let Some(header) = self.headers.get(&index).filter(|_| row.state == BlobState::Remote) {
                writer.set_header(row.id, &encode_header(header), safety(header, row.name.as_str()))?;
            }
            return Ok(Registered { blob: row.id, state: row.state, is_new_origin: by_origin != Some(row.id) });
        }
        let blob = writer.add_blob(&NewBlob {
            sha256: file.sha256,
            size_bytes: file.size_bytes,
            state: BlobState::Remote,
            mtime: writer.now(),
            name: file.path.file_name(),
            hashes: None,
            etag: file.etag.clone(),
        })?;
        writer.add_origin(blob, &origin)?;
        if let Some(header) = self.headers.get(&index) {
            let name = file.path.file_name();
            writer.set_header(blob, &encode_header(header), safety(header, name.as_str()))?;
        }
        if file.sha256.is_some() {
            shelf.touch_store(writer)?;
        }
        Ok(Registered { blob, state: BlobState::Remote, is_new_origin: true })
    }

    fn register_model(
        &self,
        writer: &mut Writer<'_>,
        shelf: &mut Shelf,
        index: usize,
        file: &RemoteFile,
        blob: BlobId,
    ) -> Result<(), CatalogError> {
        if let Some(row) = writer.models_of_blob(blob)?.first() {
            // One that is a model by a link, or was, is one by this, and more is known of it now.
            if !linked::is_by_link(writer, row.id)? {
                return Ok(());
            }
        }
        // One that a search looked into may be here already, with its header.
        let kept = match self.headers.get(&index) {
            Some(_) => None,
            None => match writer.blob(blob)? {
                Some(row) => judging::kept_header(writer, &row)?,
                None => None,
            },
        };
        let header = self.headers.get(&index).or(kept.as_ref());
        let folders = self.folders_of(file);
        let name = file.path.file_name();
        let mut verdict: Verdict = classify(
            self.rules,
            &Evidence { header, file_name: name.as_str(), folders: &folders, size_bytes: file.size_bytes, hub: &[] },
        );
        let about = &self.listing.about;
        let new_words = about.trigger_words.iter().filter(|word| !verdict.trigger_words.contains(word));
        verdict.trigger_words.extend(new_words.cloned().collect::<Vec<_>>());
        let facts = NewFacts {
            blob,
            name: &name,
            verdict: &verdict,
            format: header.map_or("", |header| header.format.as_str()),
            tensor_count: header.map(|header| header.tensors.len() as u64),
            folders: &folders,
            source: self.listing.source,
            creator: about.creator.as_deref().and_then(|creator| Label::new(creator).ok()),
            license: about.license.as_deref(),
            tags: &enrich_facts::tag_names(&about.tags),
        };
        let model = models::register(writer, shelf, &facts)?;
        // So that judging it again finds them too.
        let heading = self.listing.source.as_str();
        if !about.trigger_words.is_empty() && writer.facts(model, heading)?.is_empty() {
            let words = serde_json::json!(about.trigger_words).to_string();
            writer.set_facts(model, heading, &[(enrich_facts::TRIGGER_WORDS.to_owned(), words)])?;
        }
        Ok(())
    }

    /// The repository and the folders in it, and what the hub calls it: all say something about what a file is.
    fn folders_of(&self, file: &RemoteFile) -> Vec<String> {
        let names = |path: Option<RelativePath>| -> Vec<String> {
            path.iter().flat_map(RelativePath::names).map(|name| name.as_str().to_owned()).collect()
        };
        let mut folders = match self.listing.source {
            Source::HuggingFace | Source::ModelScope | Source::Local => {
                self.listing.repo.as_str().split('/').map(str::to_owned).chain(names(file.path.parent())).collect()
            }
            // Its repositories are numbers.
            Source::Civitai => Vec::new(),
            Source::Web | Source::Folder => names(file.known_by.as_ref().and_then(RelativePath::parent)),
        };
        folders.extend(file.folders.iter().cloned());
        folders
    }

    fn bundle(&self, writer: &mut Writer<'_>, files: Vec<BundleFile>) -> Result<(BundleId, HubRepo), CatalogError> {
        let RepoListing { source, repo, commit, .. } = self.listing;
        if let Some(row) = writer.bundle_of_repo(*source, repo, commit)?
            && let Some(hub) = row.hub
        {
            let known: HashSet<&RelativePath> = row.files.iter().map(|file| &file.path).collect();
            let new: Vec<BundleFile> = files.into_iter().filter(|file| !known.contains(&file.path)).collect();
            if !new.is_empty() {
                writer.extend_bundle(row.id, &new)?;
            }
            return Ok((row.id, hub));
        }
        let short = repo.as_str().rsplit('/').next().unwrap_or(repo.as_str());
        let name = EntryName::new(short).expect("a repository's name is an entry's name");
        let is_first = writer.bundles_of_repo(*source, repo)?.is_empty();
        let directory_name = match source {
            Source::Civitai => EntryName::new(commit.as_str()).unwrap_or_else(|_| name.clone()),
            _ if is_first => name.clone(),
            _ => {
                let digits = commit.as_str().get(..COMMIT_DIGITS).unwrap_or(commit.as_str());
                EntryName::new(&format!("{name}@{digits}")).unwrap_or_else(|_| name.clone())
            }
        };
        let hub = HubRepo { source: *source, repo: repo.clone(), directory_name };
        let bundle = writer.add_bundle(&self.new_bundle(name, Some(hub.clone()), files, writer.now()))?;
        Ok((bundle, hub))
    }

    /// A folder of this machine whose files make one model. Registered again it is found by its first file.
    fn folder_bundle(
        &self,
        writer: &mut Writer<'_>,
        shelf: &mut Shelf,
        files: Vec<BundleFile>,
    ) -> Result<(), CatalogError> {
        let Some(first) = files.first() else { return Ok(()) };
        for bundle in writer.bundles_of_blob(first.blob)? {
            if writer.bundle(bundle)?.is_some_and(|row| row.hub.is_none() && row.files == files) {
                return Ok(());
            }
        }
        let whole = self.listing.files.first().and_then(|file| file.known_by.as_ref());
        let inside = self.listing.files.first().map_or("", |file| file.path.as_str());
        let folder =
            whole.and_then(|whole| RelativePath::new(whole.as_str().strip_suffix(inside)?.trim_matches('/')).ok());
        let Some(name) = folder.map(|folder| folder.file_name()) else { return Ok(()) };
        let bundle = writer.add_bundle(&self.new_bundle(name, None, files, writer.now()))?;
        shelf.place_bundle(writer, bundle)
    }

    fn new_bundle(&self, name: EntryName, hub: Option<HubRepo>, files: Vec<BundleFile>, mtime: Timestamp) -> NewBundle {
        NewBundle {
            name,
            in_views: self.layout.in_views,
            model_type: self.layout.model_type,
            base: None,
            source: self.listing.source,
            commit: hub.as_ref().map(|_| self.listing.commit.clone()),
            hub,
            files,
            mtime,
        }
    }
}

/// Whether a content that is known from this place can still be what the hub lists there.
fn is_same(row: &BlobRow, file: &RemoteFile) -> bool {
    match (&row.sha256, &file.sha256) {
        (Some(known), Some(listed)) => known == listed,
        _ => row.size_bytes == file.size_bytes,
    }
}

//! Registering repositories of hubs: what they hold appears in the mount before a byte of it is here.
//!
//! Invariants: everything is pinned to the commit the hub answered; a content whose published sha256 is here already is
//! resident at once; running it again registers only what is new. One transaction for the rows, after all network work.
//! Not here: downloads (`fetch`), which directories show it (`shelf`).

use super::probe::probe;
use super::shelf::Shelf;
use super::{AddSummary, Library, LibraryError, Refusal};
use crate::base::{BlobId, BlobState, BundleId, EntryName, Locator, ModelId, ModelType, RelativePath};
use crate::catalog::{CatalogError, NewBlob, NewBundle, NewModel, OriginRow, Writer};
use crate::classify::{Evidence, Verdict, classify};
use crate::formats::{Header, encode_header, has_model_suffix};
use crate::hub::{Expected, HubSet, Origin, RemoteFile, RepoListing};
use crate::tree::{BundleFile, Home, HubRepo, Source};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Headers read at once: the hub's own client opens eight connections.
const PROBE_THREADS: usize = 8;
/// Most headers read for one repository: with more, names alone decide until a file is opened.
const PROBE_FILES_MAX: usize = 512;
/// Digits of the commit in the directory of a second revision.
const COMMIT_DIGITS: usize = 10;
/// A repository with more tags than this lists its languages and data sets.
const TAGS_MAX: usize = 32;
/// The file that lists the parts of a diffusers folder.
const DIFFUSERS_INDEX: &str = "model_index.json";

/// A header by the index of its file in the listing.
type Headers = HashMap<usize, Header>;

pub(super) fn add(library: &Library, reference: &str) -> Result<AddSummary, LibraryError> {
    let locator = Locator::parse(reference)?;
    if library.options().hubs.offline {
        return Err(LibraryError::Offline);
    }
    let hubs = HubSet::new(library.options().hubs.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| super::mounted::machinery_fault(&error))?;
    let listing = runtime.block_on(hubs.describe(&locator)).map_err(|error| error.fault())?;
    let wanted = to_be_probed(library, &listing)?;
    let headers = probe_all(&hubs, runtime.handle(), &listing, wanted);
    let registration = Registration { library, listing: &listing, headers: &headers, layout: Layout::of(&listing) };
    let summary = library.catalog().write(library.clock().now(), |writer| registration.write(writer))?;
    runtime.shutdown_background();
    Ok(summary)
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
                None => reader.blob_of_origin(&origin_row(listing, &file.path))?,
            };
            if known.is_none() {
                wanted.push(index);
            }
        }
        Ok::<_, CatalogError>(wanted)
    })?;
    Ok(wanted.into_iter().take(PROBE_FILES_MAX).collect())
}

fn probe_all(hubs: &HubSet, runtime: &tokio::runtime::Handle, listing: &RepoListing, wanted: Vec<usize>) -> Headers {
    let found = Mutex::new(Headers::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PROBE_THREADS.min(wanted.len()) {
            scope.spawn(|| {
                while let Some(&index) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = &listing.files[index];
                    if let Some(header) = probe(hubs, runtime, &origin(listing, file), &expected(file)) {
                        found.lock().expect("no thread panics while it holds this").insert(index, header);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics while it holds this")
}

fn origin(listing: &RepoListing, file: &RemoteFile) -> Origin {
    Origin {
        source: Source::HuggingFace,
        repo: listing.repo.clone(),
        commit: listing.commit.clone(),
        path: file.path.clone(),
    }
}

fn expected(file: &RemoteFile) -> Expected {
    Expected { size_bytes: file.size_bytes, sha256: file.sha256, etag: file.etag.clone() }
}

fn origin_row(listing: &RepoListing, path: &RelativePath) -> OriginRow {
    OriginRow {
        source: Source::HuggingFace,
        repo: listing.repo.to_string(),
        revision: listing.commit.to_string(),
        path: path.to_string(),
    }
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
        let (bundle, directory_name) = self.bundle(writer, files)?;
        shelf.place_bundle(writer, bundle)?;
        summary.path = match self.listing.repo.as_str().split_once('/') {
            Some((org, _)) => format!("hubs/huggingface/{org}/{directory_name}"),
            None => format!("hubs/huggingface/{directory_name}"),
        };
        Ok(summary)
    }

    fn empty_summary(&self) -> AddSummary {
        let refusal = |(name, reason): &(String, String)| Refusal {
            path: PathBuf::from(name),
            reason: reason.clone(),
            remedy: "ask the owner of the repository to rename it".to_owned(),
        };
        AddSummary {
            repo: format!("hf:{}", self.listing.repo),
            commit: self.listing.commit.to_string(),
            file_count: 0,
            total_bytes: 0,
            resident_bytes: 0,
            model_count: 0,
            known_count: 0,
            path: String::new(),
            refused: self.listing.refused.iter().map(refusal).collect(),
        }
    }

    fn register(
        &self,
        writer: &mut Writer<'_>,
        shelf: &mut Shelf,
        index: usize,
        file: &RemoteFile,
    ) -> Result<Registered, CatalogError> {
        let origin = origin_row(self.listing, &file.path);
        let by_origin = writer.blob_of_origin(&origin)?;
        let by_hash = match &file.sha256 {
            Some(sha256) => writer.blob_by_sha256(sha256)?.map(|row| row.id),
            None => None,
        };
        let known = match by_hash.or(by_origin) {
            Some(blob) => writer.blob(blob)?,
            None => None,
        };
        if let Some(row) = known {
            if by_origin != Some(row.id) {
                let homes = models_and_homes(writer, shelf, row.id)?;
                writer.add_origin(row.id, &origin)?;
                // A new source is a new folder under `by/source`.
                for (model, homes) in homes {
                    shelf.reshelve_model(writer, model, &homes)?;
                }
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
            writer.set_header(blob, &encode_header(header))?;
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
        if !writer.models_of_blob(blob)?.is_empty() {
            return Ok(());
        }
        let header = self.headers.get(&index);
        let folders = self.folders_of(&file.path);
        let name = file.path.file_name();
        let verdict: Verdict = classify(
            self.library.rules(),
            &Evidence { header, file_name: name.as_str(), folders: &folders, size_bytes: file.size_bytes },
        );
        let model = writer.add_model(&NewModel {
            blob,
            name,
            verdict,
            format: header.map_or("", |header| header.format.as_str()).to_owned(),
            tensor_count: header.map(|header| header.tensors.len() as u64),
            folders,
            source: Source::HuggingFace,
            creator: self.creator(),
            license: self.license(),
            tags: self.tags(),
            added: writer.now(),
        })?;
        shelf.place_model(writer, model)
    }

    /// The repository and the folders in it: both say something about what a file is.
    fn folders_of(&self, path: &RelativePath) -> Vec<String> {
        let repo = self.listing.repo.as_str().split('/').map(str::to_owned);
        let inner = path.parent().map(|parent| parent.to_string()).unwrap_or_default();
        repo.chain(inner.split('/').filter(|folder| !folder.is_empty()).map(str::to_owned)).collect()
    }

    fn creator(&self) -> Option<EntryName> {
        self.listing.repo.as_str().split_once('/').and_then(|(org, _)| EntryName::new(org).ok())
    }

    fn license(&self) -> Option<String> {
        self.listing.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned)
    }

    /// Words a person would search for; `region:us` and `base_model:…` are the hub's own bookkeeping.
    fn tags(&self) -> Vec<EntryName> {
        let mut tags: Vec<EntryName> = self
            .listing
            .tags
            .iter()
            .filter(|tag| !tag.contains(':'))
            .filter_map(|tag| EntryName::new(tag).ok())
            .take(TAGS_MAX)
            .collect();
        tags.sort();
        tags.dedup();
        tags
    }

    fn bundle(&self, writer: &mut Writer<'_>, files: Vec<BundleFile>) -> Result<(BundleId, EntryName), CatalogError> {
        let (repo, commit) = (&self.listing.repo, &self.listing.commit);
        if let Some(row) = writer.bundle_of_repo(Source::HuggingFace, repo, commit)?
            && let Some(hub) = row.hub
        {
            let known: HashSet<&RelativePath> = row.files.iter().map(|file| &file.path).collect();
            let new: Vec<BundleFile> = files.into_iter().filter(|file| !known.contains(&file.path)).collect();
            if !new.is_empty() {
                writer.extend_bundle(row.id, &new)?;
            }
            return Ok((row.id, hub.directory_name));
        }
        let short = repo.as_str().rsplit('/').next().unwrap_or(repo.as_str());
        let name = EntryName::new(short).expect("a repository's name is an entry's name");
        let is_first = writer.bundles_of_repo(Source::HuggingFace, repo)?.is_empty();
        let directory_name = if is_first {
            name.clone()
        } else {
            let digits = commit.as_str().get(..COMMIT_DIGITS).unwrap_or(commit.as_str());
            EntryName::new(&format!("{name}@{digits}")).unwrap_or_else(|_| name.clone())
        };
        let hub = HubRepo { source: Source::HuggingFace, repo: repo.clone(), directory_name: directory_name.clone() };
        let bundle = writer.add_bundle(&NewBundle {
            name,
            in_views: self.layout.in_views,
            model_type: self.layout.model_type,
            base: None,
            source: Source::HuggingFace,
            hub: Some(hub),
            commit: Some(commit.clone()),
            files,
            mtime: writer.now(),
        })?;
        Ok((bundle, directory_name))
    }
}

fn models_and_homes(
    writer: &Writer<'_>,
    shelf: &Shelf,
    blob: BlobId,
) -> Result<Vec<(ModelId, Vec<Home>)>, CatalogError> {
    writer.models_of_blob(blob)?.into_iter().map(|model| Ok((model.id, shelf.homes_of(writer, model.id)?))).collect()
}

//! A folder of this machine, or of a disk it mounts, as a hub: its files appear without being copied until they are read.
//!
//! Invariants: only regular files below the folder are listed, and no symlink is followed; a file whose size or time of
//! change is another than when it was listed is refused. Works offline.
//! Not here: importing, which takes files into the store at once (`library::import`).

use super::listing::{self, RawFile};
use super::{About, Expected, Hub, HubError, Origin, RangeStream, RepoListing};
use crate::base::{ByteRange, Locator, RelativePath, RepoId, Revision};
use crate::tree::Source;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files of one folder; a collection has a few thousand.
const FILES_MAX: usize = 100_000;
/// Deepest folder that is looked into, as in `RelativePath`.
const DEPTH_MAX: usize = 32;
/// Bytes read at once: one thread of the runtime is busy for a few milliseconds at most.
const PIECE_BYTES: u64 = 1 << 20;
/// The one repository there is.
const REPO: &str = "file";
const HOST: &str = "this machine";

pub(super) struct Folder;

impl Hub for Folder {
    fn source(&self) -> Source {
        Source::Folder
    }

    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>> {
        let Locator::Folder(path) = locator else {
            return Box::pin(std::future::ready(Err(HubError::NoHub { source_name: "folder" })));
        };
        let path = path.clone();
        Box::pin(async move { blocking(move || list(&path)).await })
    }

    fn open_range<'a>(
        &'a self,
        origin: &'a Origin,
        expected: &'a Expected,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<RangeStream, HubError>> {
        let (path, expected) = (PathBuf::from(format!("/{}", origin.path)), expected.clone());
        let asked_by = origin.commit.clone();
        Box::pin(async move {
            let file = blocking(move || open(&path, &asked_by, &expected)).await?;
            let reading = Reading { file: Arc::new(file), at: range.start(), end: range.end() };
            Ok(RangeStream::of_file(reading, range))
        })
    }
}

/// A file on its way out.
pub(super) struct Reading {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Reading {
    pub async fn next(&mut self) -> Result<Option<Bytes>, HubError> {
        let length = PIECE_BYTES.min(self.end - self.at);
        if length == 0 {
            return Ok(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let piece = blocking(move || {
            let mut piece = vec![0; length as usize];
            let failed = |error: io::Error| HubError::Unreachable { host: HOST.to_owned(), cause: error.to_string() };
            file.read_exact_at(&mut piece, at).map_err(failed)?;
            Ok(Bytes::from(piece))
        });
        let piece = piece.await?;
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// Disk work away from the threads that serve sockets: a network disk may hang.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let gone = |_| HubError::Unreachable { host: HOST.to_owned(), cause: "the program is ending".to_owned() };
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}

fn list(path: &Path) -> Result<RepoListing, HubError> {
    let missing = || HubError::RepoNotFound { host: HOST.to_owned(), subject: path.display().to_string() };
    let root = path.canonicalize().map_err(|_| missing())?;
    let mut files = Vec::new();
    // A single file is a folder with one entry.
    let folder = if root.is_file() { root.parent().map(Path::to_path_buf).ok_or_else(missing)? } else { root.clone() };
    collect(&folder, &root, 0, &mut files)?;
    let newest = files.iter().map(|(_, metadata)| mark_of(metadata)).max().unwrap_or_default();
    let newest = Revision::new(if newest.is_empty() { "empty" } else { &newest }).expect("digits and dots");
    let raw = files.into_iter().map(|(path, metadata)| RawFile {
        path: path.strip_prefix(&folder).unwrap_or(&path).to_string_lossy().into_owned(),
        size_bytes: Some(metadata.len()),
        sha256: None,
        git_sha1: None,
        known_by: RelativePath::new(path.to_string_lossy().trim_start_matches('/')).ok(),
        folders: Vec::new(),
    });
    let mut sifted = listing::sift(raw);
    for file in &mut sifted.files {
        let absolute = file.known_by.as_ref().map(|path| format!("/{path}"));
        file.etag = absolute.and_then(|path| std::fs::symlink_metadata(path).ok()).map(|metadata| mark_of(&metadata));
    }
    Ok(RepoListing {
        source: Source::Folder,
        repo: RepoId::new(REPO).expect("a name"),
        commit: newest.clone(),
        asked_by: newest,
        files: sifted.files,
        refused: sifted.refused,
        folded: sifted.folded,
        gated: false,
        tags: Vec::new(),
        about: About::default(),
    })
}

fn collect(folder: &Path, at: &Path, depth: usize, files: &mut Vec<(PathBuf, Metadata)>) -> Result<(), HubError> {
    let unreadable = |error: io::Error| HubError::Unreachable {
        host: HOST.to_owned(),
        cause: format!("{}: {error}", at.strip_prefix(folder).unwrap_or(at).display()),
    };
    let metadata = std::fs::symlink_metadata(at).map_err(unreadable)?;
    if metadata.is_file() {
        if files.len() == FILES_MAX {
            let subject = folder.display().to_string();
            return Err(HubError::OverLimit { host: HOST.to_owned(), subject, what: "files", limit: FILES_MAX as u64 });
        }
        files.push((at.to_owned(), metadata));
    } else if metadata.is_dir() && depth < DEPTH_MAX {
        for entry in std::fs::read_dir(at).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // Repositories keep their history in hidden folders; nobody loads a model from there.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                collect(folder, &entry.path(), depth + 1, files)?;
            }
        }
    }
    Ok(())
}

fn open(path: &Path, asked_by: &Revision, expected: &Expected) -> Result<File, HubError> {
    let subject = path.display().to_string();
    let missing = |_| HubError::EntryNotFound { host: HOST.to_owned(), subject: subject.clone() };
    let file = File::open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(missing)?;
    let mark = mark_of(&metadata);
    let registered = expected.etag.as_deref().unwrap_or(asked_by.as_str());
    if metadata.len() != expected.size_bytes || mark != registered && expected.sha256.is_none() {
        let detail = "it was written to since then".to_owned();
        return Err(HubError::Changed { subject, detail });
    }
    Ok(file)
}

/// Time of change and size: what tells one content of a path from the next. The newest sorts last.
fn mark_of(metadata: &Metadata) -> String {
    format!("{:020}.{:09}.{}", metadata.mtime().max(0), metadata.mtime_nsec(), metadata.len())
}

//! From a file outside to bytes that are ready to be published: copied, shared or looked at in place, and hashed.
//!
//! Invariants: a file in `staging/` is locked by the process that writes it for as long as it lives, so that only
//! leftovers of dead processes are cleaned away; it is never the only copy of anything, so cleaning loses nothing. A moved
//! file stays where it lies until it is published. Not here: publishing (`blob`).

use super::error::AtPath;
use super::hash::Hasher;
use super::pipeline::{self, Feed, FileFeed};
use super::source::{has_no_writer, open_source};
use super::{Cancel, FileStamp, Hashes, Store, StoreError};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// From this size on, room is taken before the first byte: a full disk is known at once and the file lies in one piece.
const PREALLOCATE_BYTES_MIN: u64 = 16 << 20;
/// A name is only ever taken when a cleaner looks at it in the same instant.
const CREATE_TRIES: u32 = 16;

/// A hashed file that is not visible yet. Dropping it gives it up and leaves everything as it was.
#[derive(Debug)]
pub struct Staged {
    pub(super) hashes: Hashes,
    pub(super) stamp: FileStamp,
    pub(super) bytes: StagedBytes,
    /// The file that a move takes away in the end, links resolved.
    pub(super) moved_from: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum StagedBytes {
    Copy(StagingFile),
    /// To be renamed into the store; open for reading.
    InPlace(File),
}

impl Staged {
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// The source as it was while its bytes were read.
    pub fn stamp(&self) -> &FileStamp {
        &self.stamp
    }
}

/// A file in `staging/`, locked while it lives and removed when it is dropped.
#[derive(Debug)]
pub(super) struct StagingFile {
    pub path: PathBuf,
    pub file: File,
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        // After publication the name is gone already; if removing fails, the next cleaning does it.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Copies and hashes in one pass over the bytes.
    pub fn stage_copy(
        &self,
        source: &Path,
        data_start: Option<u64>,
        progress: &dyn Fn(u64),
        cancel: &Cancel,
    ) -> Result<Staged, StoreError> {
        self.refuse_inside(source)?;
        let file = open_source(source)?;
        let stamp = FileStamp::of(&file.metadata().at("read", source)?);
        let target = self.new_staging_file()?;
        if stamp.size_bytes >= PREALLOCATE_BYTES_MIN {
            preallocate(&target, stamp.size_bytes)?;
        }
        let hasher = Hasher::new(stamp.size_bytes, data_start);
        let read = FileFeed::new(&file, source, 0, stamp.size_bytes, progress, cancel);
        let hasher = pipeline::drive(hasher, stamp.size_bytes, &mut CopyFeed { read, target: &target, at: 0 })?;
        pipeline::check_unchanged(&file, source, &stamp)?;
        Ok(Staged { hashes: hasher.finish(), stamp, bytes: StagedBytes::Copy(target), moved_from: None })
    }

    /// Shares the blocks of the source, then hashes the clone, which nothing else can change.
    pub fn stage_reflink(
        &self,
        source: &Path,
        data_start: Option<u64>,
        progress: &dyn Fn(u64),
        cancel: &Cancel,
    ) -> Result<Staged, StoreError> {
        self.refuse_inside(source)?;
        let file = open_source(source)?;
        let stamp = FileStamp::of(&file.metadata().at("read", source)?);
        let target = self.new_staging_file()?;
        clone_blocks(&file, source, &target)?;
        pipeline::check_unchanged(&file, source, &stamp)?;
        let (hasher, clone) = pipeline::hash_open_file(&target.file, &target.path, data_start, progress, cancel)?;
        if clone.size_bytes != stamp.size_bytes {
            return Err(StoreError::Changed { path: source.to_owned() });
        }
        Ok(Staged { hashes: hasher.finish(), stamp, bytes: StagedBytes::Copy(target), moved_from: None })
    }

    /// Whether `stage_reflink` can work from this folder or file: tried with a block of its own, without harm.
    pub fn can_reflink(&self, source: &Path) -> bool {
        let attempt = || {
            let file = open_source(source)?;
            clone_blocks(&file, source, &self.new_staging_file()?)
        };
        attempt().is_ok()
    }

    /// Hashes a file that is to become the store's own. Where its inode could still be changed from outside (another
    /// hard link, a writer, another filesystem, another owner), a copy is staged and the source is removed in the end.
    pub fn stage_move(
        &self,
        source: &Path,
        data_start: Option<u64>,
        progress: &dyn Fn(u64),
        cancel: &Cancel,
    ) -> Result<Staged, StoreError> {
        let source = source.canonicalize().at("open", source)?;
        self.refuse_inside(&source)?;
        let file = open_source(&source)?;
        if !self.can_take(&file, &source)? {
            let staged = self.stage_copy(&source, data_start, progress, cancel)?;
            return Ok(Staged { moved_from: Some(source), ..staged });
        }
        let (hasher, stamp) = pipeline::hash_open_file(&file, &source, data_start, progress, cancel)?;
        Ok(Staged { hashes: hasher.finish(), stamp, bytes: StagedBytes::InPlace(file), moved_from: Some(source) })
    }

    /// Whether the inode itself may become a blob.
    pub(super) fn can_take(&self, file: &File, source: &Path) -> Result<bool, StoreError> {
        let metadata = file.metadata().at("read", source)?;
        let staging = self.staging();
        let here = staging.metadata().at("read", &staging)?;
        let user = rustix::process::geteuid();
        // Root can give the file to itself, so that its former owner cannot change it any more.
        let own = user.is_root() || metadata.uid() == user.as_raw();
        Ok(metadata.dev() == here.dev() && metadata.nlink() == 1 && own && has_no_writer(file))
    }

    pub(super) fn refuse_inside(&self, source: &Path) -> Result<(), StoreError> {
        if source.canonicalize().at("open", source)?.starts_with(self.root()) {
            return Err(StoreError::InsideStore { path: source.to_owned() });
        }
        Ok(())
    }

    pub(super) fn new_staging_file(&self) -> Result<StagingFile, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let process = std::process::id();
        let folder = self.staging();
        for _ in 0..CREATE_TRIES {
            let path = folder.join(format!("{process}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
            let created = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match created {
                Ok(file) => file,
                // A dead process had the same number, and nobody has cleaned up yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).at("create", &path),
            };
            // A cleaner may have seen the file before it was locked; then it holds the lock or the name is gone.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && file.metadata().at("read", &path)?.nlink() == 1 {
                return Ok(StagingFile { path, file });
            }
        }
        Err(StoreError::Busy { path: folder })
    }

    /// Removes what dead processes left in `staging/`, and says how many files that were.
    pub fn clean_staging(&self) -> Result<usize, StoreError> {
        // Each is still locked when its name goes.
        let dead = self.dead_staging_files()?;
        Ok(dead.iter().filter(|(path, _lock)| fs::remove_file(path).is_ok()).count())
    }

    /// How many files dead processes left in `staging/`.
    pub fn staging_leftovers(&self) -> Result<usize, StoreError> {
        self.dead_staging_files().map(|dead| dead.len())
    }

    fn dead_staging_files(&self) -> Result<Vec<(PathBuf, File)>, StoreError> {
        let folder = self.staging();
        let mut dead = Vec::new();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let file = match open_source(&path) {
                Ok(file) => file,
                // Its owner was faster, or it is nothing that a store puts there.
                Err(_) => continue,
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                dead.push((path, file));
            }
        }
        Ok(dead)
    }
}

fn preallocate(target: &StagingFile, size_bytes: u64) -> Result<(), StoreError> {
    match fallocate(&target.file, FallocateFlags::empty(), 0, size_bytes).map_err(io::Error::from) {
        // Some filesystems cannot; the copy then takes room as it goes.
        Err(error) if error.kind() != io::ErrorKind::StorageFull && error.kind() != io::ErrorKind::QuotaExceeded => {
            Ok(())
        }
        result => result.at("write", &target.path),
    }
}

fn clone_blocks(file: &File, source: &Path, target: &StagingFile) -> Result<(), StoreError> {
    match rustix::fs::ioctl_ficlone(&target.file, file).map_err(io::Error::from) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(error).at("write", &target.path),
        // Every other failure means that these two places cannot share blocks: other filesystem, other device, no support.
        Err(_) => Err(StoreError::ReflinkUnsupported { path: source.to_owned() }),
    }
}

struct CopyFeed<'a> {
    read: FileFeed<'a>,
    target: &'a StagingFile,
    at: u64,
}

impl Feed for CopyFeed<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.read.fill(buffer)
    }

    fn hand_on(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.target.file.write_all_at(bytes, self.at).at("write", &self.target.path)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

//! What can go wrong on disk, in the store's own words.
//!
//! Invariant: every variant names the file it is about. Not here: errno and exit codes (the edges).

use crate::base::{Digest, Fault, FaultKind};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation of the operating system failed; `action` is a verb: "read", "rename".
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The filesystem of the store is full, or the user's quota is.
    #[error("no space left to {action} {}", path.display())]
    NoSpace {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Locks and memory maps are not dependable there, so neither are the databases.
    #[error("{} lies on {filesystem}", path.display())]
    NetworkFilesystem { path: PathBuf, filesystem: &'static str },
    /// There is no store at this path.
    #[error("{} is not a modelfs store", path.display())]
    NotAStore { path: PathBuf },
    /// A store would be made among other files.
    #[error("{} is no store and not empty: it holds {holds}", path.display())]
    Occupied { path: PathBuf, holds: String },
    /// A directory, device, socket or pipe where a file is needed.
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The file belongs to this very store.
    #[error("{} lies inside the store", path.display())]
    InsideStore { path: PathBuf },
    /// Size, time or identity changed between the first and the last byte.
    #[error("{} changed while it was read", path.display())]
    Changed { path: PathBuf },
    /// Blocks cannot be shared between these two places.
    #[error("{} cannot be shared with the store by reflink", path.display())]
    ReflinkUnsupported { path: PathBuf },
    /// Bytes do not hash to what they must hash to.
    #[error("{} is damaged: its bytes hash to {found}, not to {expected}", path.display())]
    Damaged { path: PathBuf, expected: Digest, found: Digest },
    /// Chunks of a partial file differ from what was written; they count as missing from now on.
    #[error("{count} chunks of {} are damaged on disk", path.display())]
    ChunksDamaged { path: PathBuf, count: usize },
    /// A range was read that has not arrived, or a whole file was asked for too early.
    #[error("{} does not have these bytes yet", path.display())]
    NotPresent { path: PathBuf },
    /// A chunk with an index or a length that this file cannot have, or one written after publication.
    #[error("chunk {index} with {bytes} bytes cannot be part of {}", path.display())]
    BadChunk { path: PathBuf, index: u64, bytes: usize },
    /// Written by a later version of this program; what it means cannot be known here.
    #[error("{} was written by a newer modelfs", path.display())]
    Newer { path: PathBuf },
    /// Larger than any file that is stored here.
    #[error("{} would have {size_bytes} bytes, more than {limit_bytes}", path.display())]
    TooLarge { path: PathBuf, size_bytes: u64, limit_bytes: u64 },
    /// Another process or another part of this one holds the file.
    #[error("{} is in use by another process", path.display())]
    Busy { path: PathBuf },
    /// The user stopped it.
    #[error("stopped while working on {}", path.display())]
    Cancelled { path: PathBuf },
}

impl StoreError {
    /// What happened, to which file, and what to do.
    pub fn fault(&self) -> Fault {
        let (kind, remedy) = match self {
            Self::Io { source, .. } => io_kind(source),
            Self::NoSpace { .. } => (FaultKind::NoSpace, "free some space or choose another store with --store"),
            Self::NetworkFilesystem { .. } => (
                FaultKind::Unsupported,
                "choose a folder on a local disk with --store, because SQLite and file locks cannot be trusted there",
            ),
            Self::NotAStore { .. } => (FaultKind::NotFound, "create one with `modelfs init`, or name it with --store"),
            Self::Occupied { .. } => {
                (FaultKind::Exists, "name an empty folder with --store, or one that does not exist yet")
            }
            Self::NotAFile { .. } => (FaultKind::Invalid, "name a regular file"),
            Self::InsideStore { .. } => (FaultKind::Invalid, "leave it where it is, for the store has it already"),
            Self::Changed { .. } => (FaultKind::Busy, "wait until nothing writes to it, then try again"),
            Self::ReflinkUnsupported { .. } => (FaultKind::Unsupported, "use --mode copy or --mode move"),
            Self::Damaged { .. } => (FaultKind::Integrity, "get the file again from where it came"),
            Self::ChunksDamaged { .. } => (FaultKind::Integrity, "read the file again to fetch them anew"),
            Self::NotPresent { .. } => (FaultKind::Internal, "fetch the file first"),
            Self::BadChunk { .. } => (FaultKind::Internal, "report this, with the log"),
            Self::Newer { .. } => (
                FaultKind::Unsupported,
                "use that version, or run `modelfs evict` to give up what arrived of the file and begin anew",
            ),
            Self::TooLarge { .. } => (FaultKind::Invalid, "check the size that its source gives"),
            Self::Busy { .. } => (FaultKind::Busy, "wait for the other process, or stop it"),
            Self::Cancelled { .. } => (FaultKind::Interrupted, "run the same command again to continue"),
        };
        let what = match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        };
        Fault::new(kind, what, remedy)
    }
}

fn io_kind(source: &io::Error) -> (FaultKind, &'static str) {
    match source.kind() {
        io::ErrorKind::NotFound => (FaultKind::NotFound, "check the path"),
        io::ErrorKind::PermissionDenied => {
            (FaultKind::AccessDenied, "check the permissions of the file and its folder")
        }
        io::ErrorKind::ReadOnlyFilesystem => (FaultKind::ReadOnly, "choose a place that can be written"),
        _ => (FaultKind::Internal, "check the disk and the kernel log"),
    }
}

/// Gives an `io::Error` the path it is about, at the place that knew it.
pub(super) trait AtPath<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| {
            let (source, path) = (error.into(), path.to_owned());
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StoreError::NoSpace { action, path, source }
                }
                _ => StoreError::Io { action, path, source },
            }
        })
    }
}

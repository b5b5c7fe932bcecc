//! Files outside the store: how they are opened, recognised again, and known to be at rest.
//!
//! Invariant: opening never blocks and never yields anything but a regular file. Not here: copying (`staging`).

use super::StoreError;
use super::error::AtPath;
use crate::formats::ByteSource;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Longest safetensors header that any reader accepts.
const SAFETENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;

/// Sets the signal of a broken lease; `fcntl.h`, the same on every architecture Rust supports on Linux.
const F_SETSIG: libc::c_int = 10;

/// Tells whether a path still holds the very bytes that were seen there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileStamp {
    pub size_bytes: u64,
    /// Since 1970.
    pub mtime_ns: i64,
    pub inode: u64,
    pub device: u64,
}

impl FileStamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size_bytes: metadata.len(),
            mtime_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// The stamp of what the path leads to, links followed.
    pub fn of_path(path: &Path) -> Result<Self, StoreError> {
        path.metadata().at("read", path).map(|metadata| Self::of(&metadata))
    }
}

/// Opens a regular file for reading, links followed.
pub(super) fn open_source(path: &Path) -> Result<File, StoreError> {
    // Without it, opening a named pipe would wait for somebody to write into it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).at("open", path)?;
    if file.metadata().at("read", path)?.is_file() {
        Ok(file)
    } else {
        Err(StoreError::NotAFile { path: path.to_owned() })
    }
}

/// Whether nobody can have the file open or mapped for writing. `false` also where the kernel cannot tell.
///
/// A read lease is granted only while there is no writer. It is given back at once: it only answers the question.
pub(super) fn has_no_writer(file: &File) -> bool {
    let descriptor = file.as_raw_fd();
    // SAFETY: `descriptor` is open for the whole call, and these commands take an integer.
    unsafe {
        // Somebody who opens the file for writing while the lease is held sends this signal, and that of the kernel's
        // choice (SIGIO) ends a process; SIGURG is ignored by default.
        if libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) != 0 {
            return false;
        }
        let granted = libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) == 0;
        if granted {
            libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK);
        }
        granted
    }
}

/// Random access to an open file whose size does not change.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size_bytes: u64,
}

impl FileSource {
    /// Opens a file anywhere; links are followed.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::new(open_source(path)?, path)
    }

    pub fn new(file: File, path: &Path) -> Result<Self, StoreError> {
        let size_bytes = file.metadata().at("read", path)?.len();
        Ok(Self { file, size_bytes })
    }

    pub fn stamp(&self, path: &Path) -> Result<FileStamp, StoreError> {
        self.file.metadata().at("read", path).map(|metadata| FileStamp::of(&metadata))
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ByteSource for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Where the tensor bytes of a safetensors file start; nothing for any other file.
pub fn safetensors_data_start(source: &(impl ByteSource + ?Sized)) -> Option<u64> {
    let mut head = [0; 9];
    let mut count = 0;
    while count < head.len() {
        match source.read_at(count as u64, &mut head[count..]).ok()? {
            0 => return None,
            more => count += more,
        }
    }
    let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
    let start = length.checked_add(8)?;
    (head[8] == b'{' && length <= SAFETENSORS_HEADER_BYTES_MAX && start <= source.size_bytes()).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("make a pipe");
        for path in [folder.path(), &pipe, Path::new("/dev/null")] {
            assert!(matches!(open_source(path), Err(StoreError::NotAFile { .. })), "{}", path.display());
        }
    }

    #[test]
    fn a_writer_is_seen() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "x").expect("write");
        let reader = File::open(&path).expect("open");
        assert!(has_no_writer(&reader));
        let writer = OpenOptions::new().append(true).open(&path).expect("open");
        assert!(!has_no_writer(&reader));
        drop(writer);
        assert!(has_no_writer(&reader));
    }

    #[test]
    fn data_start_is_told_from_the_bytes() {
        let file = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
        let check = |bytes: Vec<u8>, expected| assert_eq!(safetensors_data_start(&bytes[..]), expected, "{bytes:?}");
        check(file(2, b"{}data"), Some(10));
        check(file(2, b"{}"), Some(10));
        check(file(2, b"[]data"), None);
        check(file(90, b"{}data"), None);
        check(file(u64::MAX, b"{}data"), None);
        check(b"GGUF".to_vec(), None);
    }
}

//! Giving up a blob that can be had again: never under an open file, whichever process has it open.
//!
//! Whoever hands a blob to an application holds a shared lock on its file (`hold_blob`, and `partial` from the beginning);
//! an eviction takes the exclusive one without waiting. The kernel gives a lock up with its last descriptor, a passthrough
//! backing included, so a process that dies leaves nothing locked. Invariant: while an `Eviction` lives, nobody can begin
//! to hold the blob. Not here: whether a blob may go (`library`).

use super::error::AtPath;
use super::{Store, StoreError};
use crate::base::{Digest, EntryName};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A blob that nobody has open and nobody can open. Dropped, it is as it was.
#[derive(Debug)]
pub struct Eviction {
    store: Store,
    sha256: Digest,
    name: EntryName,
    _locked: File,
}

impl Eviction {
    /// Takes the file away; to be called after its catalog row no longer counts on it.
    pub fn finish(self) -> Result<(), StoreError> {
        self.store.remove_blob(&self.sha256, &self.name)
    }
}

impl Store {
    /// Opens a blob for an application: it is not evicted as long as the file or a copy of its descriptor is open. `Busy`
    /// while it is being evicted.
    pub fn hold_blob(&self, sha256: &Digest, name: &EntryName) -> Result<File, StoreError> {
        let path = self.blob_path(sha256, name);
        let file = self.open_blob(sha256, name)?;
        lock(&file, FlockOperation::NonBlockingLockShared, &path)?;
        // Evicted between the two steps: its bytes are still right, but they are no longer the store's.
        if file.metadata().at("read", &path)?.nlink() == 0 { Err(StoreError::Busy { path }) } else { Ok(file) }
    }

    /// `Busy` when somebody has it open.
    pub fn begin_eviction(&self, sha256: &Digest, name: &EntryName) -> Result<Eviction, StoreError> {
        let locked = self.open_blob(sha256, name)?;
        lock(&locked, FlockOperation::NonBlockingLockExclusive, &self.blob_path(sha256, name))?;
        Ok(Eviction { store: self.clone(), sha256: *sha256, name: name.clone(), _locked: locked })
    }
}

/// Holds a file that may become a blob while it is open.
pub(super) fn hold(file: &File, path: &Path) -> Result<(), StoreError> {
    lock(file, FlockOperation::NonBlockingLockShared, path)
}

fn lock(file: &File, how: FlockOperation, path: &Path) -> Result<(), StoreError> {
    match flock(file, how).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::Busy { path: path.to_owned() }),
        result => result.at("lock", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;

    #[test]
    fn an_open_blob_stays_and_one_that_goes_cannot_be_opened() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(folder.path()).expect("create");
        let (sha256, name) = (Digest::from_bytes([3; 32]), EntryName::new("a.gguf").expect("valid"));
        let path = store.blob_path(&sha256, &name);
        fs::create_dir(path.parent().expect("a folder")).expect("made");
        fs::write(&path, "bytes").expect("written");

        let mut held = store.hold_blob(&sha256, &name).expect("opens");
        let copy = held.try_clone().expect("a copy");
        assert!(store.hold_blob(&sha256, &name).is_ok(), "many may hold it");
        assert!(matches!(store.begin_eviction(&sha256, &name), Err(StoreError::Busy { .. })));
        let mut text = String::new();
        held.read_to_string(&mut text).expect("readable");
        drop(held);
        assert!(matches!(store.begin_eviction(&sha256, &name), Err(StoreError::Busy { .. })), "a copy holds it too");
        drop(copy);

        let given_up = store.begin_eviction(&sha256, &name).expect("nobody has it open");
        assert!(matches!(store.hold_blob(&sha256, &name), Err(StoreError::Busy { .. })));
        drop(given_up);
        assert!(store.hold_blob(&sha256, &name).is_ok(), "it was given back");
        store.begin_eviction(&sha256, &name).expect("again").finish().expect("removed");
        assert!(!path.exists() && !path.parent().expect("a folder").exists());
        assert!(matches!(store.begin_eviction(&sha256, &name), Err(StoreError::Io { .. })));
    }
}

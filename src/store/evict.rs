//! Giving up a blob that can be had again: never under an open file, whichever process has it open.
//!
//! Whoever hands a blob to an application, or is about to write a row that counts on it, holds a shared lock on its file
//! (`hold_blob`, `Published`, and `partial` from the beginning); an eviction takes the exclusive one without waiting. The
//! kernel gives a lock up with its last descriptor, a passthrough backing included, so a process that dies leaves nothing
//! locked. Invariant: while an `Eviction` lives, nobody can begin to hold the blob. Not here: whether a blob may go
//! (`library`).

use super::error::AtPath;
use super::{Store, StoreError};
use crate::base::{Digest, EntryName};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// An eviction holds a file for one transaction: a few milliseconds, on a bad disk a second.
pub const EVICTION_POLL: Duration = Duration::from_millis(5);
pub const EVICTION_POLLS_MAX: u32 = 400;

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

    /// The row that is written next counts on the file, and a move takes the source away.
    #[test]
    fn what_was_published_onto_a_blob_keeps_it_and_waits_for_one_that_goes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(&folder.path().join("store")).expect("create");
        let (source, name) = (folder.path().join("source"), EntryName::new("a.gguf").expect("valid"));
        fs::write(&source, "bytes").expect("written");
        let publish = || {
            let staged = store.stage_copy(&source, None, &|_| (), &crate::store::Cancel::new()).expect("staged");
            (staged.hashes().sha256, store.publish(staged, &name).expect("published"))
        };
        let (sha256, first) = publish();
        assert!(first.fresh);
        let (_, again) = publish();
        assert!(!again.fresh);
        assert!(matches!(store.begin_eviction(&sha256, &name), Err(StoreError::Busy { .. })));
        drop((first, again));
        let eviction = store.begin_eviction(&sha256, &name).expect("nobody counts on it");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(publish);
            eviction.finish().expect("removed");
            let (_, published) = waiting.join().expect("no panic");
            assert!(published.path.exists() && published.name == name);
        });
        let eviction = store.begin_eviction(&sha256, &name).expect("nobody counts on it");
        let staged = store.stage_copy(&source, None, &|_| (), &crate::store::Cancel::new()).expect("staged");
        assert!(matches!(store.publish(staged, &name), Err(StoreError::Busy { .. })), "it does not wait for ever");
        drop(eviction);
    }
}

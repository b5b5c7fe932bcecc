//! The end of a partial file: proving its bytes, and what becomes of it then.
//!
//! Invariants: only `verify` makes a `Verified`, and only a `Verified` is published, so nothing becomes visible whose
//! bytes were not hashed from the disk after they were written; with a published sha256, it was equal. Hashing is
//! incremental: `advance_prefix` may run while chunks still arrive, and `verify` continues where it stopped.
//! Not here: filling (`partial`).

use super::blob::{Durable, Published, seal};
use super::chunk_log::MAP;
use super::chunk_map::CHUNK_BYTES;
use super::disk;
use super::error::AtPath;
use super::hash::Hasher;
use super::layout::sync_folder;
use super::partial::{DATA, Partial, remove_folder};
use super::pipeline::{self, Feed, FileFeed};
use super::source::safetensors_data_start;
use super::{Cancel, Hashes, Store, StoreError};
use crate::base::EntryName;
use std::fs;
use std::path::PathBuf;

/// Hashes of the first chunks of a file.
#[derive(Default)]
pub(super) struct Prefix {
    /// `None` until the first chunk is here, because that tells where a safetensors header ends.
    hasher: Option<Hasher>,
    chunks: u32,
}

impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prefix({} chunks)", self.chunks)
    }
}

/// Proof that a partial file is complete and right.
#[derive(Debug)]
pub struct Verified {
    hashes: Hashes,
    data_path: PathBuf,
}

impl Verified {
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }
}

impl Partial {
    /// Hashes at most `bytes_max` further bytes (at least one chunk) of the contiguous beginning, and says how many it
    /// were; zero when the next chunk is not here. A damaged chunk counts as missing from then on.
    pub fn advance_prefix(&self, bytes_max: u64, cancel: &Cancel) -> Result<u64, StoreError> {
        let mut prefix = self.prefix.lock();
        let chunks_max = u32::try_from((bytes_max / CHUNK_BYTES).max(1)).unwrap_or(u32::MAX);
        let from = prefix.chunks;
        let end = u32::try_from(self.chunk_count()).unwrap_or(u32::MAX).min(from.saturating_add(chunks_max));
        let until =
            (from..end).take_while(|chunk| self.has_chunk(u64::from(*chunk))).last().map_or(from, |last| last + 1);
        self.hash_chunks(&mut prefix, until, &|_| (), cancel)
    }

    /// Bytes of the beginning that are hashed already.
    pub fn prefix_bytes(&self) -> u64 {
        (u64::from(self.prefix.lock().chunks) * CHUNK_BYTES).min(self.size_bytes)
    }

    /// Hashes what is not hashed yet and compares with the published sha256. `ChunksDamaged` when the disk lost bytes
    /// (they count as missing again); `Damaged` when the source delivered something else.
    pub fn verify(&self, progress: &dyn Fn(u64), cancel: &Cancel) -> Result<Verified, StoreError> {
        if !self.is_complete() {
            return Err(StoreError::NotPresent { path: self.data_path.clone() });
        }
        let mut prefix = self.prefix.lock();
        let all = u32::try_from(self.chunk_count()).expect("the size is bounded");
        self.hash_chunks(&mut prefix, all, progress, cancel)?;
        let hasher = prefix.hasher.clone().unwrap_or_else(|| Hasher::new(self.size_bytes, None));
        let hashes = hasher.finish();
        match self.sha256 {
            Some(expected) if expected != hashes.sha256 => {
                Err(StoreError::Damaged { path: self.data_path.clone(), expected, found: hashes.sha256 })
            }
            _ => Ok(Verified { hashes, data_path: self.data_path.clone() }),
        }
    }

    /// Brings the prefix to `until` chunks, all of which are here. On failure it stays where it was.
    fn hash_chunks(
        &self,
        prefix: &mut Prefix,
        until: u32,
        progress: &dyn Fn(u64),
        cancel: &Cancel,
    ) -> Result<u64, StoreError> {
        if until <= prefix.chunks {
            return Ok(0);
        }
        let hasher = match &prefix.hasher {
            Some(hasher) => hasher.clone(),
            None => Hasher::new(self.size_bytes, safetensors_data_start(self)),
        };
        let start = u64::from(prefix.chunks) * CHUNK_BYTES;
        let end = (u64::from(until) * CHUNK_BYTES).min(self.size_bytes);
        let read = FileFeed::new(&self.data, &self.data_path, start, end, progress, cancel);
        let mut feed = ChunkFeed { read, partial: self, next: prefix.chunks, damaged: Vec::new() };
        let hasher = pipeline::drive(hasher, end - start, &mut feed)?;
        if !feed.damaged.is_empty() {
            self.forget(&feed.damaged)?;
            return Err(StoreError::ChunksDamaged { path: self.data_path.clone(), count: feed.damaged.len() });
        }
        *prefix = Prefix { hasher: Some(hasher), chunks: until };
        Ok(end - start)
    }
}

/// Compares each chunk with its CRC32 on the way to the hashes.
struct ChunkFeed<'a> {
    read: FileFeed<'a>,
    partial: &'a Partial,
    next: u32,
    damaged: Vec<u32>,
}

const _: () = assert!(pipeline::BUFFER_BYTES as u64 == CHUNK_BYTES, "a buffer holds exactly one chunk");

impl Feed for ChunkFeed<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.read.fill(buffer)
    }

    fn hand_on(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.partial.chunk_crc32(self.next) != Some(crc32fast::hash(bytes)) {
            self.damaged.push(self.next);
        }
        self.next += 1;
        Ok(())
    }
}

impl Store {
    /// Moves a complete, proven file into the store and removes what is left of the partial. Open descriptors and
    /// `partial` itself go on reading the same inode. What failed (the disk may be full) can be tried again.
    pub fn publish_partial(
        &self,
        partial: &Partial,
        verified: Verified,
        name: &EntryName,
    ) -> Result<Published, StoreError> {
        if verified.data_path != partial.data_path || !partial.seal() {
            return Err(StoreError::NotPresent { path: partial.data_path.clone() });
        }
        seal(&partial.data, &partial.data_path)?;
        let sha256 = verified.hashes.sha256;
        let placed = self.place(&partial.data_path, &sha256, name, partial.size_bytes, Durable::Now)?;
        partial.retire();
        // Its data is in the store, and without data a map says nothing: what is left is in nobody's way.
        if let Err(error) = remove_folder(&partial.folder) {
            tracing::warn!(folder = %partial.folder.display(), "what is left of a download cannot be removed: {error}");
        }
        Ok(Published::stays(self.blob_path(&sha256, &placed.name), placed))
    }

    /// Takes a file whose source lied out of the way, keeping its bytes under `quarantine/` (the last one for each key).
    pub fn quarantine_partial(&self, partial: &Partial) -> Result<PathBuf, StoreError> {
        let folder = self.quarantine();
        fs::create_dir_all(&folder).at("create", &folder)?;
        let key = partial.folder.file_name().expect("a partial lies in a folder of its own");
        let target = folder.join(key);
        if partial.retire() {
            // The map goes first: it must never speak for another data file.
            let map = partial.folder.join(MAP);
            disk::remove_file(&map).at("remove", &map)?;
            sync_folder(&partial.folder)?;
            let data = partial.folder.join(DATA);
            disk::rename(&data, &target).at("rename", &data)?;
            remove_folder(&partial.folder)?;
            sync_folder(&folder)?;
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::partial::{PartialIdentity, PartialKey};
    use super::*;

    #[test]
    fn what_cannot_be_removed_behind_a_download_is_in_nobodys_way() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(&folder.path().join("store")).expect("create");
        let key = PartialKey::new("k").expect("a key");
        let identity = PartialIdentity { size_bytes: 5, sha256: None, etag: Some("e".to_owned()) };
        let open = || store.open_partial(&key, &identity).expect("opens");
        let partial = open();
        partial.write_chunk(0, b"bytes").expect("written");
        let stray = partial.folder.join("stray");
        fs::create_dir(&stray).expect("a folder");
        fs::write(stray.join("file"), b"of somebody else").expect("a file");
        let verified = partial.verify(&|_| (), &Cancel::new()).expect("whole");
        let name = EntryName::new("m.safetensors").expect("a name");
        let published = store.publish_partial(&partial, verified, &name).expect("it is in the store");
        assert_eq!(fs::read(&published.path).expect("here"), b"bytes");
        assert!(stray.exists(), "it cannot be removed");
        drop(partial);
        assert_eq!(open().present().bytes(), 0, "nothing of it is believed");
    }
}

//! The beginnings of chunks: what a stream that was cut, or a process that was killed, had received of a chunk.
//!
//! The bytes lie in the data file at their place; a slot of the map says how many they are, with their CRC. Invariants:
//! a beginning is never read as content, only continued; it counts only when the bytes in the file have its CRC, so that
//! slots need no sync: after a kill everything that was kept is found, after a power cut what reached the disk; a slot of
//! an earlier process is a claim until its bytes were read; the bytes come before the slot. Keeping one is a service: what cannot be kept is fetched again.

use super::StoreError;
use super::chunk_map::{Beginning, SLOTS};
use super::error::AtPath;
use super::partial::Partial;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

/// Whether the bytes of a beginning are in the data file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    /// A slot says so; a power cut may have taken them.
    Claimed,
    /// They were written or read by this process.
    Seen,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    slot: u32,
    beginning: Beginning,
    proof: Proof,
}

/// What is kept, by chunk; at most one for each slot.
#[derive(Default, Debug)]
pub(super) struct Begun {
    kept: BTreeMap<u32, Kept>,
}

impl Begun {
    /// As the slots of an earlier process tell.
    pub fn new(slots: Vec<(u32, Beginning)>) -> Self {
        let claimed =
            |(slot, beginning): (u32, Beginning)| (beginning.chunk, Kept { slot, beginning, proof: Proof::Claimed });
        Self { kept: slots.into_iter().map(claimed).collect() }
    }

    fn kept(&self, chunk: u32) -> Option<Kept> {
        self.kept.get(&chunk).copied().filter(|kept| kept.beginning.bytes > 0)
    }

    /// A beginning whose bytes need not be written again.
    pub fn seen(&self, chunk: u32) -> Option<Beginning> {
        self.kept(chunk).filter(|kept| kept.proof == Proof::Seen).map(|kept| kept.beginning)
    }

    /// Slots that say something.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Beginning)> + '_ {
        self.kept.values().filter(|kept| kept.beginning.bytes > 0).map(|kept| (kept.slot, kept.beginning))
    }

    pub fn remove(&mut self, chunk: u32) {
        self.kept.remove(&chunk);
    }

    /// A slot that is the chunk's from now on: its own, a free one, or that of the least loss.
    fn take_slot(&mut self, chunk: u32) -> u32 {
        if let Some(kept) = self.kept.get(&chunk) {
            return kept.slot;
        }
        let slot = self.slot_to_give();
        self.kept.retain(|_, kept| kept.slot != slot);
        let beginning = Beginning { chunk, bytes: 0, crc32: 0 };
        self.kept.insert(chunk, Kept { slot, beginning, proof: Proof::Claimed });
        slot
    }

    fn slot_to_give(&self) -> u32 {
        let free = (0..SLOTS).find(|slot| self.kept.values().all(|kept| kept.slot != *slot));
        let least = || self.kept.values().min_by_key(|kept| kept.beginning.bytes).map(|kept| kept.slot);
        free.or_else(least).expect("a slot is free or used")
    }

    /// Unless the slot was given to another chunk meanwhile.
    fn update(&mut self, now: Kept) {
        if let Some(kept) = self.kept.get_mut(&now.beginning.chunk).filter(|kept| kept.slot == now.slot) {
            *kept = now;
        }
    }
}

impl Partial {
    /// How many bytes are kept of chunks that are not here as a whole, by the number of the chunk.
    pub fn beginnings(&self) -> Vec<(u64, u64)> {
        let state = self.state.lock();
        state.begun.slots().map(|(_, found)| (u64::from(found.chunk), u64::from(found.bytes))).collect()
    }

    /// What is kept of a chunk, proven; empty when that is nothing.
    pub fn read_beginning(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let found = u32::try_from(index).ok().and_then(|chunk| self.state.lock().begun.kept(chunk));
        let (Some(kept), Some(range)) = (found, self.chunk_range(index)) else { return Ok(Vec::new()) };
        let beginning = kept.beginning;
        let mut bytes = Vec::with_capacity(range.len() as usize);
        bytes.resize(beginning.bytes as usize, 0);
        self.data.read_exact_at(&mut bytes, range.start()).at("read", &self.data_path)?;
        let is_there = crc32fast::hash(&bytes) == beginning.crc32;
        let mut state = self.state.lock();
        // Unless another thread kept more of it meanwhile.
        if state.begun.kept(beginning.chunk).is_some_and(|now| now.beginning == beginning) {
            match is_there {
                true => state.begun.update(Kept { proof: Proof::Seen, ..kept }),
                false => state.begun.remove(beginning.chunk),
            }
        }
        Ok(if is_there { bytes } else { Vec::new() })
    }

    /// Keeps `bytes` of a chunk that follow the `kept` first ones; with `kept` zero it begins anew. `false` when they do
    /// not follow what is kept, when the chunk is here, or when nothing is written any more.
    pub fn keep_beginning(&self, index: u64, kept: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let range = self.chunk_range(index).filter(|range| kept + (bytes.len() as u64) < range.len());
        let range = range.ok_or_else(|| self.bad_chunk(index, bytes))?;
        let chunk = u32::try_from(index).map_err(|_| self.bad_chunk(index, bytes))?;
        let mut state = self.state.lock();
        while state.claimed.contains(&chunk) {
            self.settled.wait(&mut state);
        }
        let before = state.begun.kept(chunk).filter(|_| kept > 0);
        let follows = before.map_or(0, |before| u64::from(before.beginning.bytes)) == kept;
        if !follows || bytes.is_empty() || state.map.has(chunk) || !state.is_filling() {
            return Ok(false);
        }
        state.claimed.insert(chunk);
        let slot = state.begun.take_slot(chunk);
        let slots = state.log.slots();
        drop(state);
        let before_crc32 = before.map_or(0, |before| before.beginning.crc32);
        let mut crc32 = crc32fast::Hasher::new_with_initial_len(before_crc32, kept);
        crc32.update(bytes);
        let beginning = Beginning { chunk, bytes: kept as u32 + bytes.len() as u32, crc32: crc32.finalize() };
        // Both without the lock: others append their records meanwhile.
        let written = self.write_data(bytes, range.start() + kept);
        let written = written.and_then(|()| slots?.map_or(Ok(()), |slots| slots.write(slot, beginning)));
        let mut state = self.state.lock();
        state.claimed.remove(&chunk);
        self.settled.notify_all();
        written?;
        let proof = before.map_or(Proof::Seen, |before| before.proof);
        state.begun.update(Kept { slot, beginning, proof });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk_log::MAP;
    use super::super::chunk_map::{CHUNK_BYTES, HEADER_BYTES, RECORD_BYTES};
    use super::super::partial::{DATA, PartialIdentity, PartialKey};
    use super::super::{Store, StoreError};
    use super::*;
    use crate::base::FaultKind;
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("temporary folder");
            let store = Store::create(&folder.path().join("store")).expect("create");
            Self { folder, store }
        }

        fn key() -> PartialKey {
            PartialKey::new("k").expect("a key")
        }

        fn try_open(&self) -> Result<Partial, StoreError> {
            let identity = PartialIdentity { size_bytes: SIZE_BYTES, sha256: None, etag: Some("e".to_owned()) };
            self.store.open_partial(&Self::key(), &identity)
        }

        fn open(&self) -> Partial {
            self.try_open().expect("opens")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("store/partial/k").join(name)
        }

        fn overwrite(&self, name: &str, at: u64, bytes: &[u8]) {
            let file = OpenOptions::new().write(true).open(self.path(name)).expect("opens");
            file.write_all_at(bytes, at).expect("written");
        }
    }

    const SIZE_BYTES: u64 = 200 * CHUNK_BYTES + 1000;

    fn chunk(index: u64) -> Vec<u8> {
        let len = CHUNK_BYTES.min(SIZE_BYTES - index * CHUNK_BYTES);
        (0..len).map(|at| (at * 7 + at / 251 + index) as u8).collect()
    }

    fn keep(partial: &Partial, index: u64, from: usize, to: usize) -> bool {
        partial.keep_beginning(index, from as u64, &chunk(index)[from..to]).expect("kept")
    }

    #[test]
    fn a_beginning_survives_a_kill_and_becomes_a_chunk() {
        let bench = Bench::new();
        let first = bench.open();
        assert!(keep(&first, 3, 0, 1000) && keep(&first, 3, 1000, 5000) && keep(&first, 200, 0, 999));
        assert!(!keep(&first, 3, 1000, 6000), "it does not follow");
        assert!(!first.has_chunk(3) && first.bytes_present() == 0);
        first.write_chunk(7, &chunk(7)).expect("written");
        drop(first);
        // Once with the log as it was left, once with the one that was written anew at the opening.
        for _ in 0..2 {
            let again = bench.open();
            assert_eq!(again.beginnings(), [(3, 5000), (200, 999)]);
            assert_eq!(again.read_beginning(3).expect("read"), &chunk(3)[..5000]);
            assert_eq!(again.read_beginning(200).expect("read"), &chunk(200)[..999]);
            assert!(again.read_beginning(7).expect("read").is_empty() && again.has_chunk(7));
        }
        let again = bench.open();
        assert_eq!(again.read_beginning(3).expect("read").len(), 5000);
        assert!(keep(&again, 3, 5000, 5001));
        // The rest alone is written: what is kept is not touched.
        bench.overwrite(DATA, 3 * CHUNK_BYTES, &[!chunk(3)[0]]);
        assert!(again.write_chunk(3, &chunk(3)).expect("written"));
        let mut bytes = vec![0; CHUNK_BYTES as usize];
        again.read_at(3 * CHUNK_BYTES, &mut bytes).expect("present");
        assert!(bytes[0] != chunk(3)[0] && bytes[1..] == chunk(3)[1..]);
        bench.overwrite(DATA, 3 * CHUNK_BYTES, &chunk(3)[..1]);
        assert!(!keep(&again, 3, 0, 10), "it is here");
        assert_eq!(again.beginnings(), [(200, 999)]);
        drop(again);
        let last = bench.open();
        assert!(last.has_chunk(3) && last.beginnings() == [(200, 999)]);
    }

    #[test]
    fn what_the_disk_lost_is_not_a_beginning() {
        let bench = Bench::new();
        let first = bench.open();
        assert!(keep(&first, 3, 0, 5000) && keep(&first, 4, 0, 5000));
        drop(first);
        bench.overwrite(DATA, 3 * CHUNK_BYTES + 4999, &[!chunk(3)[4999]]);
        bench.overwrite(MAP, Beginning::at(1), &[9]);
        let again = bench.open();
        assert_eq!(again.beginnings(), [(3, 5000)]);
        assert!(again.read_beginning(3).expect("read").is_empty());
        assert_eq!(again.beginnings(), []);
        assert!(keep(&again, 3, 0, 7) && again.read_beginning(3).expect("read") == chunk(3)[..7]);
    }

    /// A stream that comes by a beginning too short for a request of its own never reads it.
    #[test]
    fn a_chunk_is_written_over_a_beginning_that_the_disk_lost() {
        let bench = Bench::new();
        let first = bench.open();
        assert!(keep(&first, 3, 0, 5000) && keep(&first, 4, 0, 5000));
        drop(first);
        bench.overwrite(DATA, 3 * CHUNK_BYTES, &[0; 5000]);
        bench.overwrite(DATA, 4 * CHUNK_BYTES, &[0; 5000]);
        let again = bench.open();
        assert!(keep(&again, 4, 5000, 6000));
        for index in [3, 4] {
            assert!(again.write_chunk(index, &chunk(index)).expect("written"));
            let mut bytes = vec![0; CHUNK_BYTES as usize];
            again.read_at(index * CHUNK_BYTES, &mut bytes).expect("present");
            assert!(bytes == chunk(index), "chunk {index} is served with bytes that the disk lost");
        }
    }

    #[test]
    fn a_chunk_whose_beginning_is_of_other_bytes_is_written_whole() {
        let bench = Bench::new();
        let partial = bench.open();
        assert!(partial.keep_beginning(3, 0, &[1, 2, 3]).expect("kept"));
        assert!(partial.write_chunk(3, &chunk(3)).expect("written"));
        let mut bytes = vec![0; CHUNK_BYTES as usize];
        partial.read_at(3 * CHUNK_BYTES, &mut bytes).expect("present");
        assert_eq!(bytes, chunk(3));
        assert!(matches!(partial.keep_beginning(200, 990, &[0; 10]), Err(StoreError::BadChunk { .. })));
        assert!(matches!(partial.keep_beginning(201, 0, &[0]), Err(StoreError::BadChunk { .. })));
    }

    #[test]
    fn when_slots_are_short_the_least_is_given_up() {
        let bench = Bench::new();
        let partial = bench.open();
        for index in 0..u64::from(SLOTS) {
            assert!(keep(&partial, index, 0, 10 + index as usize));
        }
        assert!(keep(&partial, 150, 0, 100));
        assert!(!keep(&partial, 0, 10, 20), "nothing is known of it any more");
        drop(partial);
        let again = bench.open();
        let expected = (1..u64::from(SLOTS)).map(|index| (index, 10 + index)).chain([(150, 100)]);
        assert!(again.beginnings().into_iter().eq(expected), "{:?}", again.beginnings());
    }

    /// The layout before there were slots: nothing that was here is lost, and from then on there are slots.
    #[test]
    fn a_map_of_the_first_version_is_continued() {
        let bench = Bench::new();
        let partial = bench.open();
        partial.write_chunk(5, &chunk(5)).expect("written");
        partial.sync().expect("synced");
        drop(partial);
        let map = fs::read(bench.path(MAP)).expect("read");
        let mut old = map[..HEADER_BYTES].to_vec();
        old[8..12].copy_from_slice(&1u32.to_le_bytes());
        let crc32 = crc32fast::hash(&old[..HEADER_BYTES - 4]);
        old[HEADER_BYTES - 4..].copy_from_slice(&crc32.to_le_bytes());
        old.extend_from_slice(&map[4096..4096 + 2 * RECORD_BYTES]);
        fs::write(bench.path(MAP), old).expect("written");
        let info = bench.store.partial_info(&Bench::key()).expect("read").expect("a map");
        assert_eq!(info.bytes_present, CHUNK_BYTES);
        for _ in 0..2 {
            let again = bench.open();
            assert!(again.has_chunk(5) && again.bytes_present() == CHUNK_BYTES);
            assert!(keep(&again, 6, 0, 10));
        }
        assert_eq!(bench.open().beginnings(), [(6, 10)]);
    }

    #[test]
    fn a_map_of_a_newer_version_is_left_alone() {
        let bench = Bench::new();
        drop(bench.open());
        bench.overwrite(MAP, 8, &99u32.to_le_bytes());
        let before = fs::read(bench.path(MAP)).expect("read");
        let fault = bench.try_open().expect_err("it is newer").fault();
        assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
        assert_eq!(fs::read(bench.path(MAP)).expect("read"), before);
        assert!(bench.path(DATA).exists() && bench.store.partials().expect("listed").is_empty());
        bench.store.discard_partial(&Bench::key()).expect("given up");
        assert_eq!(bench.open().bytes_present(), 0);
    }
}

//! Which chunks of a partial file are here, in memory and as an append-only log.
//!
//! The file `map` is a header, slots and then records, all integers little-endian:
//!
//! ```text
//! header   100 bytes: magic "mfschunk", version u32, chunk bytes u32, file size u64, flags u32 (1 sha256, 2 etag),
//!          sha256 [32], sha256 of the etag [32], nonce u32, CRC32 of all this
//! slots    from byte 512, 112 times 32 bytes: the beginning of a chunk that is not here as a whole: chunk u32, its bytes
//!          u32, their CRC32, CRC32 over (nonce, number of the slot, these three), zeros [16]; written over, never synced
//! records  from byte 4096, 16 bytes each: kind u32, a u32, b u32, CRC32 over (nonce, position of the record, kind, a, b)
//!          kind 1 present: a = chunk, b = CRC32 of its bytes   written right after the chunk
//!          kind 2 removed: a = chunk                           synced before the chunk may be written again
//!          kind 3 synced:  a = count of leading records whose chunks are on disk; written after the data was synced
//! ```
//!
//! That is version 2. Version 1 had no slots and its records began at byte 100; it is read, and rewritten when opened.
//!
//! Invariants: replay stops at the first record that is not whole and in its place, so a torn tail costs chunks and
//! never invents them; records are only ever appended, or replaced as a whole; a slot is a claim that counts only when
//! its CRC is that of the bytes in the data file. Not here: files (`partial`, `chunk_log`).

use crate::base::{ByteRange, Digest};

/// The unit of presence: the size of one request of the kernel, and small beside a header probe's budget.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Bounds the memory of a map that a lying hub can ask for; the largest published files are below 1 TB.
pub const FILE_BYTES_MAX: u64 = 4 << 40;

pub(super) const HEADER_BYTES: usize = 100;
pub(super) const RECORD_BYTES: usize = 16;
pub(super) const SLOT_BYTES: usize = 32;
/// Chunks whose beginnings are kept: what can arrive at once, several times over for streams that were cut.
pub(super) const SLOTS: u32 = 112;
/// Sectors of their own for the slots, so that writing them over never touches the header or a record.
const SLOTS_AT: usize = 512;
const RECORDS_AT: usize = 4096;
const _: () = assert!(HEADER_BYTES <= SLOTS_AT && SLOTS_AT + SLOTS as usize * SLOT_BYTES <= RECORDS_AT);

const MAGIC: &[u8; 8] = b"mfschunk";
const VERSION: u32 = 2;
const FLAG_SHA256: u32 = 1;
const FLAG_ETAG: u32 = 2;

/// Which content a map is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub size_bytes: u64,
    pub sha256: Option<Digest>,
    /// Hash of the etag: fixed in size, and an etag of any length can be told apart.
    pub etag: Option<Digest>,
    /// Differs from log to log, so that no record of an older one is ever taken for one of this.
    pub nonce: u32,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = u32::from(self.sha256.is_some()) * FLAG_SHA256 + u32::from(self.etag.is_some()) * FLAG_ETAG;
        let zero = Digest::from_bytes([0; 32]);
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&self.size_bytes.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(self.sha256.unwrap_or(zero).as_bytes());
        bytes.extend_from_slice(self.etag.unwrap_or(zero).as_bytes());
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        let crc32 = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc32.to_le_bytes());
        bytes.try_into().expect("the fields add up to the header")
    }

    /// `None` for anything that is not a whole header of a version that is known here.
    pub fn decode(bytes: &[u8]) -> Option<(Self, Layout)> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let digest = |at: usize| Digest::from_bytes(bytes[at..at + 32].try_into().expect("32 bytes"));
        let whole = crc32fast::hash(&bytes[..HEADER_BYTES - 4]) == word(HEADER_BYTES - 4);
        let layout = Layout::of_version(word(8))?;
        let known = &bytes[..8] == MAGIC && u64::from(word(12)) == CHUNK_BYTES;
        let size_bytes = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
        let flags = word(24);
        let header = || Self {
            size_bytes,
            sha256: (flags & FLAG_SHA256 != 0).then(|| digest(28)),
            etag: (flags & FLAG_ETAG != 0).then(|| digest(60)),
            nonce: word(92),
        };
        (whole && known && size_bytes <= FILE_BYTES_MAX).then(|| (header(), layout))
    }

    /// Whether bytes fetched for `self` may be continued with bytes of `other`: only when something proves that both
    /// are one content. Equal sizes prove nothing.
    pub fn continues(&self, other: &Self) -> bool {
        let same = match (self.sha256, other.sha256) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.etag.is_some() && self.etag == other.etag,
        };
        same && self.size_bytes == other.size_bytes
    }
}

/// Where things lie in a map, by its version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// No slots.
    First,
    Current,
}

impl Layout {
    fn of_version(version: u32) -> Option<Self> {
        match version {
            1 => Some(Self::First),
            VERSION => Some(Self::Current),
            _ => None,
        }
    }

    /// Whether a map was made by a later version than this one: it may hold what nobody here knows, and is left alone.
    pub fn is_newer(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
            && bytes.get(8..12).is_some_and(|word| u32::from_le_bytes(word.try_into().expect("four bytes")) > VERSION)
    }

    pub const fn records_at(self) -> usize {
        match self {
            Self::First => HEADER_BYTES,
            Self::Current => RECORDS_AT,
        }
    }
}

/// The beginning of a chunk that is not here as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Beginning {
    pub chunk: u32,
    pub bytes: u32,
    pub crc32: u32,
}

impl Beginning {
    /// Offset of a slot in the file.
    pub const fn at(slot: u32) -> u64 {
        SLOTS_AT as u64 + slot as u64 * SLOT_BYTES as u64
    }

    pub fn encode(self, slot: u32, nonce: u32) -> [u8; SLOT_BYTES] {
        let fields = [self.chunk, self.bytes, self.crc32];
        let mut bytes = [0; SLOT_BYTES];
        for (field, value) in bytes.chunks_exact_mut(4).zip(fields.into_iter().chain([self.own_crc(slot, nonce)])) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8], slot: u32, nonce: u32) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let found = Self { chunk: word(0), bytes: word(4), crc32: word(8) };
        (word(12) == found.own_crc(slot, nonce)).then_some(found)
    }

    fn own_crc(self, slot: u32, nonce: u32) -> u32 {
        crc_of([nonce, slot, self.chunk, self.bytes, self.crc32])
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Present { chunk: u32, crc32: u32 },
    Removed { chunk: u32 },
    Synced { records: u32 },
}

impl Record {
    pub fn encode(self, position: u32, nonce: u32) -> [u8; RECORD_BYTES] {
        let (kind, a, b) = match self {
            Self::Present { chunk, crc32 } => (1u32, chunk, crc32),
            Self::Removed { chunk } => (2, chunk, 0),
            Self::Synced { records } => (3, records, 0),
        };
        let mut bytes = [0; RECORD_BYTES];
        for (field, value) in bytes.chunks_exact_mut(4).zip([kind, a, b, crc_of([nonce, position, kind, a, b])]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8], position: u32, nonce: u32) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (kind, a, b) = (word(0), word(4), word(8));
        if word(12) != crc_of([nonce, position, kind, a, b]) {
            return None;
        }
        match kind {
            1 => Some(Self::Present { chunk: a, crc32: b }),
            2 => Some(Self::Removed { chunk: a }),
            3 => Some(Self::Synced { records: a }),
            _ => None,
        }
    }
}

fn crc_of(words: [u32; 5]) -> u32 {
    let mut crc32 = crc32fast::Hasher::new();
    for word in words {
        crc32.update(&word.to_le_bytes());
    }
    crc32.finalize()
}

/// What a log says.
#[derive(Debug)]
pub(super) struct Replay {
    pub header: Header,
    pub layout: Layout,
    pub map: ChunkMap,
    /// Chunks whose bytes may not have reached the disk: to be compared with their CRC before they are believed.
    pub unproven: Vec<u32>,
    /// Beginnings of chunks that are missing, with their slots; one for each chunk. To be compared with their CRC.
    pub begun: Vec<(u32, Beginning)>,
    /// Count of whole records.
    pub records: u32,
    /// Whether bytes follow that are no record.
    pub torn: bool,
}

impl Replay {
    /// Reads a log; `None` when not even what lies before the records is whole.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (header, layout) = Header::decode(bytes)?;
        let (start, body) = bytes.split_at_checked(layout.records_at())?;
        let mut map = ChunkMap::new(header.size_bytes);
        let mut present_since = vec![0u32; map.crc32.len()];
        let (mut records, mut proven) = (0u32, 0u32);
        for slot in body.chunks_exact(RECORD_BYTES) {
            let Some(record) = Record::decode(slot, records, header.nonce) else { break };
            let fits = match record {
                Record::Present { chunk, crc32 } => map.insert(chunk, crc32),
                Record::Removed { chunk } => map.remove(chunk),
                Record::Synced { records: covered } => covered <= records,
            };
            match record {
                _ if !fits => break,
                Record::Present { chunk, .. } => present_since[chunk as usize] = records,
                Record::Removed { .. } => {}
                Record::Synced { records: covered } => proven = proven.max(covered),
            }
            records += 1;
        }
        let unproven = map.chunks().filter(|chunk| present_since[*chunk as usize] >= proven).collect();
        let torn = body.len() != records as usize * RECORD_BYTES;
        let begun = match layout {
            Layout::First => Vec::new(),
            Layout::Current => beginnings(start, &map, header.nonce),
        };
        Some(Self { header, layout, map, unproven, begun, records, torn })
    }
}

/// The longest beginning of each chunk that is missing.
fn beginnings(start: &[u8], map: &ChunkMap, nonce: u32) -> Vec<(u32, Beginning)> {
    let mut found: Vec<(u32, Beginning)> = Vec::new();
    for (slot, bytes) in (0..SLOTS).zip(start[SLOTS_AT..].chunks_exact(SLOT_BYTES)) {
        let Some(beginning) = Beginning::decode(bytes, slot, nonce).filter(|found| map.can_begin(found)) else {
            continue;
        };
        match found.iter_mut().find(|(_, known)| known.chunk == beginning.chunk) {
            Some((_, known)) if known.bytes >= beginning.bytes => {}
            Some(known) => *known = (slot, beginning),
            None => found.push((slot, beginning)),
        }
    }
    found
}

/// One bit and one CRC for each chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ChunkMap {
    size_bytes: u64,
    bits: Vec<u64>,
    crc32: Vec<u32>,
    bytes_present: u64,
}

impl ChunkMap {
    /// `size_bytes` is at most `FILE_BYTES_MAX`.
    pub fn new(size_bytes: u64) -> Self {
        let count = usize::try_from(size_bytes.div_ceil(CHUNK_BYTES)).expect("the size is bounded");
        Self { size_bytes, bits: vec![0; count.div_ceil(64)], crc32: vec![0; count], bytes_present: 0 }
    }

    pub fn count(&self) -> u32 {
        self.crc32.len() as u32
    }

    /// The bytes of a chunk of this file; the last one can be shorter.
    pub fn range(&self, chunk: u32) -> Option<ByteRange> {
        let start = u64::from(chunk) * CHUNK_BYTES;
        ByteRange::from_bounds(start, self.size_bytes.min(start + CHUNK_BYTES))
    }

    pub fn has(&self, chunk: u32) -> bool {
        self.bits.get(chunk as usize / 64).is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// The CRC32 recorded for a chunk that is here.
    pub fn crc32(&self, chunk: u32) -> Option<u32> {
        self.has(chunk).then(|| self.crc32[chunk as usize])
    }

    /// `false` when the file has no such chunk.
    pub fn insert(&mut self, chunk: u32, crc32: u32) -> bool {
        let Some(range) = self.range(chunk) else { return false };
        if !self.has(chunk) {
            self.bits[chunk as usize / 64] |= 1 << (chunk % 64);
            self.bytes_present += range.len();
        }
        self.crc32[chunk as usize] = crc32;
        true
    }

    /// `false` when the file has no such chunk.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let Some(range) = self.range(chunk) else { return false };
        if self.has(chunk) {
            self.bits[chunk as usize / 64] &= !(1 << (chunk % 64));
            self.crc32[chunk as usize] = 0;
            self.bytes_present -= range.len();
        }
        true
    }

    /// Whether this can be the beginning of a chunk that is missing.
    fn can_begin(&self, beginning: &Beginning) -> bool {
        let fits = |range: ByteRange| (1..range.len()).contains(&u64::from(beginning.bytes));
        !self.has(beginning.chunk) && self.range(beginning.chunk).is_some_and(fits)
    }

    /// The chunks that are here, in order.
    pub fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count()).filter(|chunk| self.has(*chunk))
    }

    /// The chunks that touch a range of this file.
    pub fn touching(&self, range: &ByteRange) -> std::ops::Range<u32> {
        let first = (range.start() / CHUNK_BYTES).min(u64::from(self.count()));
        let last = range.end().div_ceil(CHUNK_BYTES).min(u64::from(self.count()));
        first as u32..last as u32
    }

    pub fn bytes_present(&self) -> u64 {
        self.bytes_present
    }

    pub fn is_complete(&self) -> bool {
        self.bytes_present == self.size_bytes
    }

    /// A log that says the same in the fewest records, with everything proven, and with the same slots.
    pub fn to_log(&self, header: &Header, begun: impl Iterator<Item = (u32, Beginning)>) -> (Vec<u8>, u32) {
        let mut bytes = header.encode().to_vec();
        bytes.resize(RECORDS_AT, 0);
        for (slot, beginning) in begun {
            let at = Beginning::at(slot) as usize;
            bytes[at..at + SLOT_BYTES].copy_from_slice(&beginning.encode(slot, header.nonce));
        }
        let mut records = 0;
        for chunk in self.chunks() {
            let record = Record::Present { chunk, crc32: self.crc32[chunk as usize] };
            bytes.extend_from_slice(&record.encode(records, header.nonce));
            records += 1;
        }
        if records > 0 {
            bytes.extend_from_slice(&Record::Synced { records }.encode(records, header.nonce));
            records += 1;
        }
        (bytes, records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const CHUNKS: u32 = 9;

    fn header() -> Header {
        let sha256 = Some(Digest::from_bytes([7; 32]));
        Header { size_bytes: u64::from(CHUNKS) * CHUNK_BYTES - 5, sha256, etag: None, nonce: 0xDEAD_BEEF }
    }

    fn log_of(records: &[Record]) -> Vec<u8> {
        let header = header();
        let encoded = records.iter().zip(0..).flat_map(|(record, position)| record.encode(position, header.nonce));
        let mut start = header.encode().to_vec();
        start.resize(RECORDS_AT, 0);
        start.into_iter().chain(encoded).collect()
    }

    /// The obvious model: what a list of whole records means.
    fn model(records: &[Record]) -> (BTreeMap<u32, u32>, Vec<u32>) {
        let mut present: BTreeMap<u32, (u32, usize)> = BTreeMap::new();
        let mut proven = 0;
        for (position, record) in records.iter().enumerate() {
            match *record {
                Record::Present { chunk, crc32 } => drop(present.insert(chunk, (crc32, position))),
                Record::Removed { chunk } => drop(present.remove(&chunk)),
                Record::Synced { records } => proven = proven.max(records as usize),
            }
        }
        let unproven = present.iter().filter(|(_, (_, at))| *at >= proven).map(|(chunk, _)| *chunk).collect();
        (present.into_iter().map(|(chunk, (crc32, _))| (chunk, crc32)).collect(), unproven)
    }

    fn check(bytes: &[u8], expected: &[Record]) {
        let replay = Replay::of(bytes).expect("the header is whole");
        let found: BTreeMap<u32, u32> =
            replay.map.chunks().map(|chunk| (chunk, replay.map.crc32(chunk).expect("present"))).collect();
        assert_eq!((found, replay.unproven), model(expected));
        assert_eq!(replay.records as usize, expected.len());
        assert_eq!(replay.torn, bytes.len() != RECORDS_AT + expected.len() * RECORD_BYTES);
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = prop_oneof![
            4 => (0..CHUNKS, any::<u32>()).prop_map(|(chunk, crc32)| Record::Present { chunk, crc32 }),
            1 => (0..CHUNKS).prop_map(|chunk| Record::Removed { chunk }),
            2 => Just(Record::Synced { records: 0 }),
        ];
        prop::collection::vec((record, any::<u32>()), 0..24).prop_map(|drawn| {
            let count_before = |(position, (record, draw)): (usize, (Record, u32))| match record {
                Record::Synced { .. } => Record::Synced { records: draw % (position as u32 + 1) },
                other => other,
            };
            drawn.into_iter().enumerate().map(count_before).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Torn at every byte: exactly the whole records before the tear count.
        #[test]
        fn a_torn_tail_is_ignored(records in records()) {
            let bytes = log_of(&records);
            for len in (0..=HEADER_BYTES).chain(RECORDS_AT - 3..=bytes.len()) {
                if len < RECORDS_AT {
                    prop_assert!(Replay::of(&bytes[..len]).is_none());
                } else {
                    check(&bytes[..len], &records[..(len - RECORDS_AT) / RECORD_BYTES]);
                }
            }
        }

        /// Any single byte changed: the records before it count, and nothing after.
        #[test]
        fn a_changed_byte_ends_the_log(records in records(), at in any::<prop::sample::Index>(), by in 1..=255u8) {
            let mut bytes = log_of(&records);
            // What lies between the header and the records is empty here.
            let at = at.index(bytes.len() - RECORDS_AT + HEADER_BYTES);
            let at = if at < HEADER_BYTES { at } else { at - HEADER_BYTES + RECORDS_AT };
            bytes[at] ^= by;
            if at < HEADER_BYTES {
                prop_assert!(Replay::of(&bytes).is_none());
            } else {
                check(&bytes, &records[..(at - RECORDS_AT) / RECORD_BYTES]);
            }
        }

        /// Compaction keeps what is there and proves it.
        #[test]
        fn compaction_changes_nothing(records in records()) {
            let map = Replay::of(&log_of(&records)).expect("whole").map;
            let begun: Vec<(u32, Beginning)> = (0..CHUNKS)
                .filter(|chunk| !map.has(*chunk))
                .map(|chunk| (chunk * 7, Beginning { chunk, bytes: 1 + chunk, crc32: !chunk }))
                .collect();
            let (bytes, count) = map.to_log(&header(), begun.iter().copied());
            let again = Replay::of(&bytes).expect("whole");
            prop_assert_eq!(again.map, map);
            prop_assert_eq!((again.unproven, again.records, again.torn), (vec![], count, false));
            prop_assert_eq!((again.begun, again.layout), (begun, Layout::Current));
        }

        #[test]
        fn arbitrary_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Replay::of(&bytes);
            let mut log = log_of(&[]);
            log.extend(bytes);
            prop_assert!(Replay::of(&log).is_some());
        }
    }

    /// Version 1: the same header with another number, and the records right behind it.
    #[test]
    fn the_first_version_is_read() {
        let record = Record::Present { chunk: 3, crc32: 9 };
        let mut bytes = header().encode().to_vec();
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        let crc32 = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc32.to_le_bytes());
        bytes.extend(record.encode(0, header().nonce));
        let replay = Replay::of(&bytes).expect("whole");
        assert_eq!((replay.layout, replay.records, replay.torn), (Layout::First, 1, false));
        assert_eq!((replay.map.crc32(3), replay.begun), (Some(9), Vec::new()));
    }

    #[test]
    fn a_later_version_is_told_from_rubbish() {
        let mut later = header().encode();
        later[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert!(Layout::is_newer(&later) && Header::decode(&later).is_none());
        for other in [&header().encode()[..], &[0; 200], b"mfschunk", b""] {
            assert!(!Layout::is_newer(other), "{other:?}");
        }
    }

    #[test]
    fn only_slots_that_fit_count_and_the_longest_of_a_chunk() {
        let mut bytes = log_of(&[Record::Present { chunk: 1, crc32: 2 }]);
        let nonce = header().nonce;
        let last = (CHUNK_BYTES - 5) as u32;
        let mut put = |slot: u32, encoded: [u8; SLOT_BYTES]| {
            let at = Beginning::at(slot) as usize;
            bytes[at..at + SLOT_BYTES].copy_from_slice(&encoded);
        };
        let begun = |chunk, bytes| Beginning { chunk, bytes, crc32: chunk ^ bytes };
        put(0, begun(4, 10).encode(0, nonce));
        put(1, begun(4, 20).encode(1, nonce));
        put(2, begun(4, 15).encode(2, nonce));
        put(3, begun(1, 9).encode(3, nonce));
        put(4, begun(CHUNKS, 9).encode(4, nonce));
        put(5, begun(2, CHUNK_BYTES as u32).encode(5, nonce));
        put(6, begun(CHUNKS - 1, last).encode(6, nonce));
        put(7, begun(2, 0).encode(7, nonce));
        put(8, begun(3, 9).encode(8, nonce + 1));
        put(9, begun(3, 9).encode(10, nonce));
        put(SLOTS - 1, begun(CHUNKS - 1, last - 1).encode(SLOTS - 1, nonce));
        let found = Replay::of(&bytes).expect("whole").begun;
        assert_eq!(found, [(1, begun(4, 20)), (SLOTS - 1, begun(CHUNKS - 1, last - 1))]);
    }

    #[test]
    fn records_of_another_log_or_place_do_not_count() {
        let record = Record::Present { chunk: 1, crc32: 2 };
        for (position, nonce, counts) in [(0, 0xDEAD_BEEF, 1), (1, 0xDEAD_BEEF, 0), (0, 1, 0)] {
            let mut bytes = log_of(&[]);
            bytes.extend(record.encode(position, nonce));
            assert_eq!(Replay::of(&bytes).expect("whole").records, counts);
        }
        for beyond in [Record::Present { chunk: CHUNKS, crc32: 0 }, Record::Synced { records: 1 }] {
            check(&log_of(&[beyond])[..RECORDS_AT], &[]);
            assert_eq!(Replay::of(&log_of(&[beyond])).expect("whole").records, 0, "{beyond:?}");
        }
    }

    #[test]
    fn bytes_continue_only_with_proof() {
        let digest = |byte| Some(Digest::from_bytes([byte; 32]));
        let check = |(sha, etag): (u8, u8), (other_sha, other_etag): (u8, u8), expected| {
            let some = |byte: u8| if byte == 0 { None } else { digest(byte) };
            let one = Header { size_bytes: 10, sha256: some(sha), etag: some(etag), nonce: 1 };
            let other = Header { size_bytes: 10, sha256: some(other_sha), etag: some(other_etag), nonce: 2 };
            assert_eq!(one.continues(&other), expected, "{one:?} {other:?}");
            assert!(!one.continues(&Header { size_bytes: 11, ..other }));
        };
        check((1, 0), (1, 0), true);
        check((1, 5), (1, 6), true);
        check((1, 5), (2, 5), false);
        check((0, 5), (2, 5), true);
        check((0, 5), (0, 6), false);
        check((0, 0), (0, 0), false);
        check((1, 0), (0, 0), false);
    }
}

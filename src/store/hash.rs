//! The hashes that hubs and applications know a file by, computed in one pass.
//!
//! Definitions (those of the hub's own scanner): AutoV1 is SHA-256 of the 64 KiB at 1 MiB, 8 digits, none below 2 MiB;
//! AutoV2 is the first 10 digits of SHA-256; AutoV3 is SHA-256 of everything behind a safetensors header, 12 digits;
//! CRC32 is the IEEE one with its four bytes in little-endian order. Invariant: how the bytes are cut into updates
//! never changes a result. Not here: reading files and threads (`pipeline`).

use crate::base::Digest;
use sha2::{Digest as _, Sha256};

/// Where AutoV1 starts.
const AUTOV1_START: u64 = 0x10_0000;
/// How much AutoV1 covers.
const AUTOV1_BYTES: u64 = 0x1_0000;
/// The scanner gives no AutoV1 to smaller files.
const AUTOV1_FILE_BYTES_MIN: u64 = 0x20_0000;
const AUTOV1_DIGITS: usize = 8;
const AUTOV2_DIGITS: usize = 10;
const AUTOV3_DIGITS: usize = 12;

/// All hashes of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashes {
    pub sha256: Digest,
    pub blake3: Digest,
    /// In the order in which the hub prints them: "hello world" is `85 11 4a 0d`.
    pub crc32: [u8; 4],
    /// 8 digits.
    pub autov1: Option<String>,
    /// 12 digits.
    pub autov3: Option<String>,
}

impl Hashes {
    /// 10 digits.
    pub fn autov2(&self) -> String {
        self.sha256.prefix(AUTOV2_DIGITS)
    }

    /// 8 digits.
    pub fn crc32_hex(&self) -> String {
        self.crc32.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One or more hashes that take the same bytes on one thread.
pub(super) trait Lane {
    fn update(&mut self, bytes: &[u8]);
}

/// SHA-256 of the whole file: the slowest, so it has a thread of its own.
#[derive(Clone)]
pub(super) struct WholeLane(Sha256);

/// Everything cheap: together about a third of the cost of SHA-256.
#[derive(Clone)]
pub(super) struct CheapLane {
    blake3: blake3::Hasher,
    crc32: crc32fast::Hasher,
    autov1: Option<Window>,
}

/// SHA-256 of what follows the header.
#[derive(Clone)]
pub(super) struct DataLane(Window);

/// SHA-256 of the bytes `start .. end` of a stream.
#[derive(Clone)]
struct Window {
    sha256: Sha256,
    at: u64,
    start: u64,
    end: u64,
}

impl Window {
    fn new(start: u64, end: u64) -> Self {
        Self { sha256: Sha256::new(), at: 0, start, end }
    }

    fn update(&mut self, bytes: &[u8]) {
        let within = |position: u64| {
            let offset = position.saturating_sub(self.at);
            usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())
        };
        let (from, to) = (within(self.start), within(self.end));
        self.sha256.update(&bytes[from..to]);
        self.at += bytes.len() as u64;
    }
}

impl Lane for WholeLane {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl Lane for CheapLane {
    fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.crc32.update(bytes);
        if let Some(window) = &mut self.autov1 {
            window.update(bytes);
        }
    }
}

impl Lane for DataLane {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// SHA-256 of a short text.
pub(super) fn sha256_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Computes all hashes of a stream whose length is known.
#[derive(Clone)]
pub struct Hasher {
    pub(super) whole: WholeLane,
    pub(super) cheap: CheapLane,
    pub(super) data: Option<DataLane>,
}

impl Hasher {
    /// `data_start` is the end of the header of a safetensors file and nothing for every other format.
    pub fn new(size_bytes: u64, data_start: Option<u64>) -> Self {
        let autov1 =
            (size_bytes >= AUTOV1_FILE_BYTES_MIN).then(|| Window::new(AUTOV1_START, AUTOV1_START + AUTOV1_BYTES));
        // A file without tensor bytes gets no AutoV3: the hash of nothing would make all such files one.
        let data = data_start.filter(|start| *start < size_bytes).map(|start| DataLane(Window::new(start, u64::MAX)));
        Self {
            whole: WholeLane(Sha256::new()),
            cheap: CheapLane { blake3: blake3::Hasher::new(), crc32: crc32fast::Hasher::new(), autov1 },
            data,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.cheap.update(bytes);
        if let Some(data) = &mut self.data {
            data.update(bytes);
        }
    }

    pub fn finish(self) -> Hashes {
        let digits = |window: Window, count| Digest::from_bytes(window.sha256.finalize().into()).prefix(count);
        Hashes {
            sha256: Digest::from_bytes(self.whole.0.finalize().into()),
            blake3: Digest::from_bytes(self.cheap.blake3.finalize().into()),
            crc32: self.cheap.crc32.finalize().to_le_bytes(),
            autov1: self.cheap.autov1.map(|window| digits(window, AUTOV1_DIGITS)),
            autov3: self.data.map(|lane| digits(lane.0, AUTOV3_DIGITS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(bytes: &[u8], data_start: Option<u64>) -> Hashes {
        let mut hasher = Hasher::new(bytes.len() as u64, data_start);
        hasher.update(bytes);
        hasher.finish()
    }

    fn sha256(bytes: &[u8]) -> String {
        sha256_of(bytes).to_string()
    }

    #[test]
    fn the_scanners_own_vector() {
        let hashes = hash(b"hello world", None);
        assert_eq!(hashes.sha256.to_string(), "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        assert_eq!(hashes.autov2(), "b94d27b993");
        assert_eq!(hashes.crc32_hex(), "85114a0d");
        assert_eq!(hashes.blake3.to_string(), "d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24");
        assert_eq!((hashes.autov1, hashes.autov3), (None, None));
    }

    #[test]
    fn autov1_starts_at_two_mebibytes() {
        for (len, some) in [(0x1f_ffff, false), (0x20_0000, true), (0x20_0001, true)] {
            let bytes: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
            let expected = some.then(|| sha256(&bytes[0x10_0000..0x11_0000])[..8].to_owned());
            assert_eq!(hash(&bytes, None).autov1, expected, "{len} bytes");
        }
    }

    #[test]
    fn autov3_covers_what_follows_the_header() {
        let bytes: Vec<u8> = (0..1000u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(hash(&bytes, Some(100)).autov3, Some(sha256(&bytes[100..])[..12].to_owned()));
        assert_eq!(hash(&bytes, Some(1000)).autov3, None, "no tensor bytes");
        assert_eq!(hash(&bytes, Some(5000)).autov3, None, "a header that claims too much");
    }

    proptest! {
        /// Where the stream is cut makes no difference.
        #[test]
        fn cuts_change_nothing(cuts in prop::collection::vec(0usize..0x21_0000, 0..6), data_start in 0u64..0x21_0000) {
            let bytes: Vec<u8> = (0..0x21_0000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let mut hasher = Hasher::new(bytes.len() as u64, Some(data_start));
            let mut cuts = cuts;
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                hasher.update(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(hasher.finish(), hash(&bytes, Some(data_start)));
        }
    }
}

//! When a probe becomes a load: the distinct bytes that a file gave to its readers.
//!
//! Invariant: reading the same header again and again never promotes a file.

use crate::base::{ByteRange, RangeSet};

/// Scattered reads beyond this many are a load, however small; it bounds the memory for one file.
const RANGES_MAX: usize = 4096;

/// Counts what was handed out until the file is to be fetched whole.
#[derive(Debug)]
pub struct Promotion {
    after_bytes: u64,
    handed_out: RangeSet,
    reached: bool,
}

impl Promotion {
    /// With 0 the first read promotes.
    pub fn new(after_bytes: u64) -> Self {
        Self { after_bytes, handed_out: RangeSet::new(), reached: false }
    }

    /// Notes a read; says whether the file is to be fetched whole.
    pub fn note(&mut self, range: ByteRange) -> bool {
        if !self.reached && !self.handed_out.contains(&range) {
            self.handed_out.insert(range);
            self.reached = self.handed_out.bytes() > self.after_bytes || self.handed_out.iter().count() > RANGES_MAX;
            if self.reached {
                self.handed_out = RangeSet::new();
            }
        }
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len).expect("not empty")
    }

    #[test]
    fn repeated_probes_of_header_and_trailer_do_not_promote() {
        let mut promotion = Promotion::new(16 << 20);
        for _ in 0..10_000 {
            assert!(!promotion.note(range(0, 512 << 10)));
            assert!(!promotion.note(range(6 << 30, 64 << 10)));
        }
    }

    #[test]
    fn more_than_the_limit_promotes_and_stays_so() {
        let mut promotion = Promotion::new(100);
        assert!(!promotion.note(range(0, 60)));
        assert!(!promotion.note(range(30, 70)), "100 distinct bytes are not more than 100");
        assert!(promotion.note(range(1000, 1)));
        assert!(promotion.note(range(0, 1)));
        assert!(Promotion::new(0).note(range(5, 1)), "zero promotes at the first read");
    }

    #[test]
    fn scattered_reads_are_bounded() {
        let mut promotion = Promotion::new(u64::MAX);
        let promoted = (0..=RANGES_MAX as u64).map(|index| promotion.note(range(index * 2, 1))).last();
        assert_eq!(promoted, Some(true));
    }
}

//! Byte ranges of a file, and sets of them.
//!
//! Invariants: a `ByteRange` is never empty and never overflows; a `RangeSet` keeps its ranges sorted, disjoint and
//! not touching, so equal sets have one form. Not here: chunks and their map (`store`), what to fetch next (`plan`).

use std::fmt;
use std::num::NonZeroU64;

/// A half-open, non-empty range of bytes: `start .. start + len`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    len: NonZeroU64,
}

impl ByteRange {
    /// `None` when `len` is zero or the end does not fit in 64 bits.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len)?;
        Some(Self { start, len: NonZeroU64::new(len)? })
    }

    /// `None` unless `start < end`.
    pub fn from_bounds(start: u64, end: u64) -> Option<Self> {
        Self::new(start, end.checked_sub(start)?)
    }

    pub const fn start(&self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub const fn end(&self) -> u64 {
        self.start + self.len.get()
    }

    /// Length in bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range cannot be empty")]
    pub const fn len(&self) -> u64 {
        self.len.get()
    }

    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::from_bounds(self.start.max(other.start), self.end().min(other.end()))
    }

    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end())
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}", self.start, self.end() - 1)
    }
}

/// A set of bytes, kept as sorted disjoint ranges.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RangeSet {
    ranges: Vec<ByteRange>,
}

impl RangeSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, range: ByteRange) {
        let first = self.ranges.partition_point(|kept| kept.end() < range.start());
        let last = self.ranges.partition_point(|kept| kept.start() <= range.end());
        let start = self.ranges[first..last].first().map_or(range.start(), |kept| kept.start().min(range.start()));
        let end = self.ranges[first..last].last().map_or(range.end(), |kept| kept.end().max(range.end()));
        let merged = ByteRange { start, len: NonZeroU64::new(end - start).expect("contains the non-empty range") };
        self.ranges.splice(first..last, [merged]);
    }

    pub fn contains(&self, range: &ByteRange) -> bool {
        let index = self.ranges.partition_point(|kept| kept.end() <= range.start());
        self.ranges.get(index).is_some_and(|kept| kept.contains(range))
    }

    /// The parts of `within` that are not in the set, in order.
    pub fn gaps(&self, within: &ByteRange) -> Vec<ByteRange> {
        let mut gaps = Vec::new();
        let mut at = within.start();
        let first = self.ranges.partition_point(|kept| kept.end() <= within.start());
        for kept in self.ranges[first..].iter().take_while(|kept| kept.start() < within.end()) {
            gaps.extend(ByteRange::from_bounds(at, kept.start()));
            at = kept.end();
        }
        gaps.extend(ByteRange::from_bounds(at, within.end()));
        gaps
    }

    /// Number of bytes in the set.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(ByteRange::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACE: u64 = 64;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::from_bounds(start, end).expect("start < end")
    }

    #[test]
    fn empty_or_overflowing_ranges_cannot_be_made() {
        assert_eq!(ByteRange::new(5, 0), None);
        assert_eq!(ByteRange::new(u64::MAX, 1), None);
        assert_eq!(ByteRange::from_bounds(5, 4), None);
    }

    proptest! {
        /// The set agrees with one boolean per byte.
        #[test]
        fn set_equals_a_bitmap(inserts in prop::collection::vec((0..SPACE, 1..9u64), 0..24), ask in (0..SPACE, 1..SPACE)) {
            let mut set = RangeSet::new();
            let mut bitmap = vec![false; 2 * SPACE as usize + 9];
            for (start, len) in inserts {
                set.insert(range(start, start + len));
                bitmap[start as usize..(start + len) as usize].fill(true);
            }
            let asked = range(ask.0, ask.0 + ask.1);
            let missing: Vec<u64> = (asked.start()..asked.end()).filter(|at| !bitmap[*at as usize]).collect();
            let gaps: Vec<u64> = set.gaps(&asked).iter().flat_map(|gap| gap.start()..gap.end()).collect();
            prop_assert_eq!(&gaps, &missing);
            prop_assert_eq!(set.contains(&asked), missing.is_empty());
            prop_assert_eq!(set.bytes(), bitmap.iter().filter(|present| **present).count() as u64);
            let kept: Vec<ByteRange> = set.iter().collect();
            prop_assert!(kept.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        }
    }
}

//! How a file falls into chunks. Invariant: every range that is planned covers whole chunks of the file.

use crate::base::ByteRange;

/// The size of a file and the unit in which it is fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    size_bytes: u64,
    chunk_bytes: u64,
}

impl Geometry {
    /// `chunk_bytes` is not zero.
    pub const fn new(size_bytes: u64, chunk_bytes: u64) -> Self {
        assert!(chunk_bytes > 0);
        Self { size_bytes, chunk_bytes }
    }

    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub const fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// `None` for an empty file.
    pub fn whole(&self) -> Option<ByteRange> {
        ByteRange::from_bounds(0, self.size_bytes)
    }

    /// The part of a range that lies in the file.
    pub fn cut(&self, range: ByteRange) -> Option<ByteRange> {
        range.intersection(&self.whole()?)
    }

    /// The chunks that a range touches, as one range.
    pub fn cover(&self, range: ByteRange) -> Option<ByteRange> {
        let range = self.cut(range)?;
        let start = range.start() / self.chunk_bytes * self.chunk_bytes;
        ByteRange::from_bounds(start, self.chunk_end(range.end() - 1))
    }

    /// One past the last byte of the chunk that holds `offset`.
    pub fn chunk_end(&self, offset: u64) -> u64 {
        (offset / self.chunk_bytes).saturating_add(1).saturating_mul(self.chunk_bytes).min(self.size_bytes)
    }

    /// The beginning of a range of whole chunks, at most `bytes_max` long but at least one chunk.
    pub(super) fn head(&self, range: ByteRange, bytes_max: u64) -> ByteRange {
        let chunks = (bytes_max / self.chunk_bytes).max(1);
        let end = range.end().min(range.start().saturating_add(chunks.saturating_mul(self.chunk_bytes)));
        ByteRange::from_bounds(range.start(), end).expect("at least a byte of the range")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_whole_chunks_and_stops_at_the_end() {
        let geometry = Geometry::new(25, 10);
        let cover = |start, end| {
            let range = ByteRange::from_bounds(start, end).expect("not empty");
            geometry.cover(range).map(|range| (range.start(), range.end()))
        };
        assert_eq!(cover(0, 1), Some((0, 10)));
        assert_eq!(cover(9, 11), Some((0, 20)));
        assert_eq!(cover(10, 20), Some((10, 20)));
        assert_eq!(cover(24, 99), Some((20, 25)));
        assert_eq!(cover(25, 99), None);
        assert_eq!(Geometry::new(0, 10).whole(), None);
    }
}

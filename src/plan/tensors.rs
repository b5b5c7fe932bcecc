//! Where the tensors of a file lie: a reader that is inside one will want the rest of it.
//!
//! Invariants: tensors are in order and do not overlap; what is known of a file that is no tensor file is nothing, and then
//! nothing changes. Not here: reading headers (`formats`).

use super::Geometry;
use crate::base::ByteRange;

/// A file with more tensors than this has small ones: chunks are larger.
const TENSORS_MAX: usize = 100_000;

/// The tensors of one file.
#[derive(Debug, Default)]
pub struct Tensors {
    ranges: Vec<ByteRange>,
}

impl Tensors {
    /// In any order; what overlaps, or is more than anybody needs, makes the whole worthless.
    pub fn new(mut ranges: Vec<ByteRange>) -> Self {
        ranges.sort_unstable_by_key(ByteRange::start);
        let overlap = ranges.windows(2).any(|pair| pair[0].end() > pair[1].start());
        if overlap || ranges.len() > TENSORS_MAX {
            ranges = Vec::new();
        }
        ranges.shrink_to_fit();
        Self { ranges }
    }

    /// What follows `offset` in the tensor that holds the byte before it: the byte that was read last.
    pub fn rest(&self, offset: u64) -> Option<ByteRange> {
        let read = offset.checked_sub(1)?;
        let index = self.ranges.partition_point(|range| range.start() <= read).checked_sub(1)?;
        ByteRange::from_bounds(offset, self.ranges[index].end())
    }

    /// The same in whole chunks.
    pub fn rest_chunks(&self, offset: u64, geometry: Geometry) -> Option<ByteRange> {
        geometry.cover(self.rest(offset)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::from_bounds(start, end).expect("not empty")
    }

    #[test]
    fn the_rest_is_that_of_the_tensor_that_was_read() {
        let tensors = Tensors::new(vec![range(500, 900), range(100, 200), range(200, 500)]);
        for (offset, rest) in [
            (0, None),
            // The header was read.
            (100, None),
            (101, Some((101, 200))),
            (199, Some((199, 200))),
            // Read to its end: the next one is not asked for.
            (200, None),
            (201, Some((201, 500))),
            (899, Some((899, 900))),
            (900, None),
            (5000, None),
        ] {
            assert_eq!(tensors.rest(offset).map(|rest| (rest.start(), rest.end())), rest, "{offset}");
        }
        assert_eq!(Tensors::default().rest(5), None);
        let chunks = tensors.rest_chunks(250, Geometry::new(1000, 100));
        assert_eq!(chunks, Some(range(200, 500)));
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!(Tensors::new(vec![range(0, 10), range(9, 20)]).rest(5), None);
        let many = (0..=TENSORS_MAX as u64).map(|index| range(index * 2, index * 2 + 2)).collect();
        assert_eq!(Tensors::new(many).rest(5), None);
    }
}

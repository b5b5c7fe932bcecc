//! Where the tensors of a content lie, learnt from its own beginning as soon as that is here.
//!
//! Invariant: a header is looked for a few times at most, and only in what is here. Not here: what follows from it (`plan`).

use super::file::File;
use crate::formats::{ByteSource, tensor_places};
use crate::plan::Tensors;
use crate::store::Partial;
use std::io;
use std::sync::Arc;

/// A header that is longer guides nobody any more: most of a file is here before it is known.
const HEADER_BYTES_MAX: u64 = 32 << 20;

/// What is known of the tensors.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub tensors: Tensors,
    /// In so many bytes of the beginning the header was looked for.
    tried_bytes: u64,
}

impl Layout {
    /// Whether to look, now that so much of the beginning is here: at the first chunk, and when there is twice as much.
    pub fn is_due(&mut self, beginning_bytes: u64) -> bool {
        let due = beginning_bytes > 0 && beginning_bytes >= 2 * self.tried_bytes && self.tried_bytes < HEADER_BYTES_MAX;
        if due {
            self.tried_bytes = beginning_bytes;
        }
        due
    }

    fn learn(&mut self, tensors: Tensors) {
        (self.tensors, self.tried_bytes) = (tensors, HEADER_BYTES_MAX);
    }
}

/// The beginning of a partial file.
struct Beginning<'a> {
    partial: &'a Partial,
    size_bytes: u64,
    bytes: u64,
}

impl ByteSource for Beginning<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.size_bytes || buffer.is_empty() {
            return Ok(0);
        }
        let here = self.bytes.saturating_sub(offset).min(buffer.len() as u64);
        if here == 0 {
            return Err(io::Error::other("it is not here yet"));
        }
        let len = usize::try_from(here).expect("not longer than the buffer");
        self.partial.read_at(offset, &mut buffer[..len]).map_err(io::Error::other)?;
        Ok(len)
    }
}

impl File {
    /// Looks for the header in the beginning. Blocks on the disk.
    pub fn read_layout(self: &Arc<Self>, beginning_bytes: u64) {
        let partial = self.partial();
        let size_bytes = self.geometry.size_bytes();
        let source = Beginning { partial: &partial, size_bytes, bytes: beginning_bytes };
        // A header that is not whole, and a file that is none, are the same here: nothing is known.
        let Ok(places) = tensor_places(&source) else { return };
        self.state.lock().layout.learn(Tensors::new(places));
        self.pump();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_looked_for_a_few_times() {
        const MIB: u64 = 1 << 20;
        let mut layout = Layout::default();
        let due: Vec<u64> = (0..200).map(|mib| mib * MIB).filter(|bytes| layout.is_due(*bytes)).collect();
        assert_eq!(due, [1, 2, 4, 8, 16, 32].map(|mib| mib * MIB));
        let mut known = Layout::default();
        assert!(known.is_due(MIB));
        known.learn(Tensors::default());
        assert!(!known.is_due(16 * MIB), "it is known");
    }
}

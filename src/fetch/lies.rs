//! How often the bytes of contents were found to be wrong after some of them were handed out.
//!
//! Invariants: a content's number never becomes one that it had before a lie; memory is bounded. Not here: what a mount does
//! with pages of such bytes (`fuse::backing`).

use crate::base::BlobId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Contents whose numbers are kept apart. When there are more, all get one new number, and what a mount has of them is read
/// once more from here.
const CONTENTS_MAX: usize = 4096;

/// Its lock is a leaf.
#[derive(Debug, Default)]
pub(super) struct Lies {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<BlobId, u64>,
    /// Of every other content.
    others: u64,
}

impl Lies {
    pub fn note(&self, blob: BlobId) {
        let mut counts = self.counts.lock();
        if counts.of.len() == CONTENTS_MAX && !counts.of.contains_key(&blob) {
            // More than any of them ever had.
            counts.others = counts.of.values().max().map_or(counts.others, |most| most + 1);
            counts.of.clear();
        }
        let others = counts.others;
        *counts.of.entry(blob).or_insert(others) += 1;
    }

    pub fn of(&self, blob: BlobId) -> u64 {
        let counts = self.counts.lock();
        counts.of.get(&blob).copied().unwrap_or(counts.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_comes_back_after_a_lie_however_many_lied() {
        let lies = Lies::default();
        let blob = |number: usize| BlobId::new(i64::try_from(number).expect("small"));
        assert_eq!(lies.of(blob(1)), 0);
        let mut had: HashMap<usize, u64> = HashMap::new();
        for round in 0..3 {
            for number in 0..CONTENTS_MAX + 10 {
                lies.note(blob(number));
                let now = lies.of(blob(number));
                let before = had.insert(number, now);
                assert!(
                    before.is_none_or(|before| now > before),
                    "round {round}: {number} had {before:?} and has {now}"
                );
            }
            assert!(lies.counts.lock().of.len() <= CONTENTS_MAX);
        }
    }
}

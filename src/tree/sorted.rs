//! A sorted sequence with positions, whose versions share what they have in common.
//!
//! A directory of 100,000 names must be kept at its true size, answer "the entry at position n" for a listing, and change by
//! one name without being copied. So it is cut into parts of some hundred items: a change copies one part and the short
//! list of parts. Invariants: no part is empty, items are in the order of the caller's comparison, none twice.

use std::cmp::Ordering;
use std::sync::Arc;

/// Items in a part when it is made: room for as many again before it is cut.
pub(super) const PART_ITEMS: usize = 256;
/// A part with more is cut in two: copying it stays in the order of microseconds.
const PART_ITEMS_MAX: usize = 512;

pub(super) struct Sorted<T> {
    parts: Arc<Vec<Part<T>>>,
}

struct Part<T> {
    /// Position of its first item in the whole.
    start: usize,
    items: Arc<Vec<T>>,
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { start: self.start, items: Arc::clone(&self.items) }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { parts: Arc::new(Vec::new()) }
    }
}

impl<T> Sorted<T> {
    /// From items that are in order already.
    pub(super) fn from_ordered(items: Vec<T>) -> Self {
        let mut items = items.into_iter();
        let part = || Some(items.by_ref().take(PART_ITEMS).collect()).filter(|part: &Vec<T>| !part.is_empty());
        Self::of_parts(std::iter::from_fn(part).collect())
    }

    /// From ordered items that are cut in parts of at most `PART_ITEMS` already.
    pub(super) fn of_parts(parts: Vec<Vec<T>>) -> Self {
        let mut start = 0;
        let parts = parts.into_iter().filter(|part| !part.is_empty()).map(|mut part| {
            part.shrink_to_fit();
            start += part.len();
            Part { start: start - part.len(), items: Arc::new(part) }
        });
        Self { parts: Arc::new(parts.collect()) }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.start + part.items.len())
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        let part = self.part_at(index)?;
        part.items.get(index - part.start)
    }

    fn part_at(&self, index: usize) -> Option<&Part<T>> {
        let after = self.parts.partition_point(|part| part.start <= index);
        self.parts.get(after.checked_sub(1)?)
    }

    pub(super) fn iter_from(&self, index: usize) -> impl Iterator<Item = &T> {
        let first = self.parts.partition_point(|part| part.start <= index).saturating_sub(1);
        let skipped = self.parts.get(first).map_or(0, |part| index - part.start);
        self.parts[first.min(self.parts.len())..].iter().flat_map(|part| part.items.iter()).skip(skipped)
    }

    /// The item for which `compare` (item against the key) is `Equal`.
    pub(super) fn find(&self, compare: impl Fn(&T) -> Ordering) -> Option<&T> {
        let part = self.parts.get(self.part_of(&compare))?;
        part.items.binary_search_by(&compare).ok().map(|at| &part.items[at])
    }

    /// The part that holds the key, or would.
    fn part_of(&self, compare: impl Fn(&T) -> Ordering) -> usize {
        self.parts.partition_point(|part| part.items.last().is_some_and(|last| compare(last) == Ordering::Less))
    }
}

impl<T: Clone> Sorted<T> {
    /// Puts an item at the place of its key, in place of the one that has it.
    pub(super) fn put(&mut self, item: T, compare: impl Fn(&T) -> Ordering) -> Option<T> {
        let parts = Arc::make_mut(&mut self.parts);
        if parts.is_empty() {
            parts.push(Part { start: 0, items: Arc::new(vec![item]) });
            return None;
        }
        let found = parts.partition_point(|part| part.items.last().is_some_and(|last| compare(last) == Ordering::Less));
        let index = found.min(parts.len() - 1);
        let items = Arc::make_mut(&mut parts[index].items);
        match items.binary_search_by(&compare) {
            Ok(at) => Some(std::mem::replace(&mut items[at], item)),
            Err(at) => {
                items.insert(at, item);
                if items.len() > PART_ITEMS_MAX {
                    let second = items.split_off(items.len() / 2);
                    parts.insert(index + 1, Part { start: 0, items: Arc::new(second) });
                }
                renumber(parts, index);
                None
            }
        }
    }

    pub(super) fn take(&mut self, compare: impl Fn(&T) -> Ordering) -> Option<T> {
        let index = self.part_of(&compare);
        let at = self.parts.get(index)?.items.binary_search_by(&compare).ok()?;
        let parts = Arc::make_mut(&mut self.parts);
        let taken = Arc::make_mut(&mut parts[index].items).remove(at);
        if parts[index].items.is_empty() {
            parts.remove(index);
        }
        renumber(parts, index);
        Some(taken)
    }
}

/// Sets the starts from a part on.
fn renumber<T>(parts: &mut [Part<T>], from: usize) {
    let before = from.checked_sub(1).and_then(|index| parts.get(index));
    let mut start = before.map_or(0, |part| part.start + part.items.len());
    for part in parts.iter_mut().skip(from) {
        part.start = start;
        start += part.items.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(sorted: &Sorted<(u16, u8)>, model: &BTreeMap<u16, u8>) {
        let expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(sorted.iter_from(0).copied().collect::<Vec<_>>(), expected);
        assert_eq!(sorted.len(), expected.len());
        for index in [0, 1, 255, 256, 257, expected.len().saturating_sub(1), expected.len(), expected.len() + 1] {
            assert_eq!(sorted.get(index), expected.get(index));
            let rest: Vec<_> = expected.iter().skip(index).copied().collect();
            assert_eq!(sorted.iter_from(index).copied().collect::<Vec<_>>(), rest);
        }
    }

    proptest! {
        #[test]
        fn does_what_a_map_does_and_old_versions_stay(
            first in proptest::collection::btree_map(0u16..3000, any::<u8>(), 0..1500),
            changes in proptest::collection::vec((0u16..3000, proptest::option::of(any::<u8>())), 0..1500),
        ) {
            let mut sorted = Sorted::from_ordered(first.iter().map(|(key, value)| (*key, *value)).collect());
            let (old, mut model) = (sorted.clone(), first.clone());
            for (key, value) in changes {
                let (was, expected) = match value {
                    Some(value) => (sorted.put((key, value), |it| it.0.cmp(&key)), model.insert(key, value)),
                    None => (sorted.take(|it| it.0.cmp(&key)), model.remove(&key)),
                };
                prop_assert_eq!(was.map(|it| it.1), expected);
                prop_assert_eq!(sorted.find(|it| it.0.cmp(&key)).map(|it| it.1), value);
            }
            check(&sorted, &model);
            check(&old, &first);
        }
    }

    #[test]
    fn parts_stay_short() {
        let mut sorted = Sorted::default();
        for key in 0..5000u16 {
            sorted.put((key, 0u8), |it| it.0.cmp(&key));
        }
        assert!(sorted.parts.iter().all(|part| part.items.len() <= PART_ITEMS_MAX && !part.items.is_empty()));
        for key in 0..5000u16 {
            sorted.take(|it| it.0.cmp(&key));
        }
        assert!(sorted.parts.is_empty() && sorted.len() == 0);
    }
}

//! Who reads a file in order: several trackers per file, each with a window that grows with what was read in order.
//!
//! Invariants: no byte is read ahead before `RUN_BYTES_MIN` were read in order, so a probe of a header or a trailer
//! fetches only what it touches; the window is never longer than the run behind it; a far seek begins a new run.

use super::{Geometry, Tensors};
use crate::base::{ByteRange, RangeSet};

/// Streams that are told apart in one file; loaders with more threads than this read at random anyway.
const TRACKERS_MAX: usize = 8;
/// A run this long is no probe. More than `head` together with the kernel's own read-ahead of 1 MiB touches.
const RUN_BYTES_MIN: u64 = 2 << 20;
/// Longest window: a second of a fast line.
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// The kernel's read-ahead arrives out of order: up to 256 KiB late, 512 KiB early.
const DISORDER_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Tracker {
    /// Where the next read of this stream is expected.
    next: u64,
    /// Start of the read before: it can come again.
    last: u64,
    /// Bytes read in order up to here.
    run_bytes: u64,
    used: u64,
}

impl Tracker {
    fn window_bytes(&self) -> u64 {
        if self.run_bytes < RUN_BYTES_MIN {
            return 0;
        }
        // Doubles as the run does.
        (1 << self.run_bytes.ilog2()).min(WINDOW_BYTES_MAX)
    }

    fn expects(&self, range: ByteRange) -> bool {
        let late = self.next.saturating_sub(DISORDER_BYTES).min(self.last);
        let early = self.next.saturating_add(self.window_bytes().max(DISORDER_BYTES));
        (late..=early).contains(&range.start())
    }
}

/// The streams of one file.
#[derive(Debug, Default)]
pub struct Trackers {
    trackers: Vec<Tracker>,
    reads: u64,
}

impl Trackers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a read. A read that is noted twice counts once.
    pub fn note(&mut self, range: ByteRange) {
        self.reads += 1;
        let used = self.reads;
        let nearest = self.trackers.iter_mut().filter(|tracker| tracker.expects(range));
        if let Some(tracker) = nearest.min_by_key(|tracker| tracker.next.abs_diff(range.start())) {
            let further = range.end().saturating_sub(tracker.next);
            tracker.run_bytes = tracker.run_bytes.saturating_add(further.min(range.len()));
            tracker.next = tracker.next.max(range.end());
            (tracker.last, tracker.used) = (range.start(), used);
            return;
        }
        if self.trackers.len() == TRACKERS_MAX {
            // Random reads push each other out before they push out a stream.
            let least = (0..TRACKERS_MAX).min_by_key(|index| {
                let tracker = &self.trackers[*index];
                (tracker.window_bytes() > 0, tracker.used)
            });
            self.trackers.swap_remove(least.expect("there are trackers"));
        }
        self.trackers.push(Tracker { next: range.end(), last: range.start(), run_bytes: range.len(), used });
    }

    /// Whole chunks that are likely to be read soon, the most active stream first: a window, or the rest of a tensor that is
    /// being read in order.
    pub fn windows(&self, geometry: Geometry, tensors: &Tensors) -> Vec<ByteRange> {
        let window = |tracker: &Tracker| {
            let window_bytes = Some(tracker.window_bytes()).filter(|bytes| *bytes > 0)?;
            let tensor_bytes = tensors.rest(tracker.next).map_or(0, |rest| rest.len().min(WINDOW_BYTES_MAX));
            geometry.cover(ByteRange::new(tracker.next, window_bytes.max(tensor_bytes))?)
        };
        self.latest_first().filter_map(window).collect()
    }

    /// Whole chunks of the tensors in which somebody read, however little of them; the latest first.
    pub fn tensors(&self, geometry: Geometry, tensors: &Tensors) -> Vec<ByteRange> {
        self.latest_first().filter_map(|tracker| tensors.rest_chunks(tracker.next, geometry)).collect()
    }

    fn latest_first(&self) -> impl Iterator<Item = &Tracker> {
        let mut trackers: Vec<&Tracker> = self.trackers.iter().collect();
        trackers.sort_by_key(|tracker| std::cmp::Reverse(tracker.used));
        trackers.into_iter()
    }

    /// Whether everything that is likely to be read soon is in `present`.
    pub fn satisfied_by(&self, present: &RangeSet, geometry: Geometry, tensors: &Tensors) -> bool {
        self.windows(geometry, tensors).iter().all(|window| present.contains(window))
    }

    /// Forgets every stream.
    pub fn clear(&mut self) {
        self.trackers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry::new(1 << 30, 1 << 20);

    fn windows(trackers: &Trackers) -> Vec<ByteRange> {
        trackers.windows(GEOMETRY, &Tensors::default())
    }

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len).expect("not empty")
    }

    fn read_in_order(trackers: &mut Trackers, from: u64, to: u64) {
        for start in (from..to).step_by(128 << 10) {
            trackers.note(range(start, 128 << 10));
        }
    }

    #[test]
    fn the_window_doubles_with_the_run_and_has_an_end() {
        let mut trackers = Trackers::new();
        for (until_mib, window_mib) in [(1, 0), (2, 2), (3, 2), (4, 4), (8, 8), (40, 32), (100, 32)] {
            trackers.clear();
            read_in_order(&mut trackers, 0, until_mib << 20);
            let windows = windows(&trackers);
            assert_eq!(windows.iter().map(ByteRange::len).sum::<u64>(), window_mib << 20, "{until_mib} MiB read");
        }
    }

    #[test]
    fn a_far_seek_is_exact_and_the_stream_before_it_is_kept() {
        let mut trackers = Trackers::new();
        read_in_order(&mut trackers, 0, 8 << 20);
        trackers.note(range(500 << 20, 4096));
        assert_eq!(windows(&trackers), [range(8 << 20, 8 << 20)]);
        trackers.note(range(8 << 20, 4096));
        assert_eq!(windows(&trackers)[0].start(), 8 << 20, "the chunk that is being read");
    }

    #[test]
    fn two_streams_have_two_windows_and_random_reads_do_not_end_them() {
        let mut trackers = Trackers::new();
        read_in_order(&mut trackers, 0, 4 << 20);
        read_in_order(&mut trackers, 300 << 20, 304 << 20);
        for index in 0..100u64 {
            trackers.note(range((500 << 20) + index * (4 << 20), 4096));
        }
        assert_eq!(windows(&trackers).len(), 2);
    }

    #[test]
    fn disorder_of_the_kernel_is_one_stream() {
        let mut trackers = Trackers::new();
        for start_kib in [0u64, 256, 128, 512, 384, 1024, 640, 768, 896, 1536, 1152, 1280, 1408, 2048, 1664, 1792, 1920]
        {
            trackers.note(range(start_kib << 10, 128 << 10));
        }
        assert_eq!(trackers.trackers.len(), 1);
    }

    #[test]
    fn a_tensor_that_is_read_in_order_is_wanted_to_its_end_and_one_that_is_probed_is_not() {
        let mib = |start: u64, end: u64| range(start << 20, (end - start) << 20);
        let tensors = Tensors::new(vec![mib(1, 21), mib(21, 23), mib(23, 900)]);
        for (from_mib, read_kib, windows, rests) in [
            // Too little to tell a load from a probe.
            (1, 512, vec![], vec![mib(1, 21)]),
            (5, 1024, vec![], vec![mib(6, 21)]),
            // Of a small tensor, the window goes beyond it; of a large one, the window has its usual end.
            (1, 2048, vec![mib(3, 21)], vec![mib(3, 21)]),
            (20, 2048, vec![mib(22, 24)], vec![mib(22, 23)]),
            (23, 2048, vec![mib(25, 57)], vec![mib(25, 900)]),
            (0, 128, vec![], vec![]),
        ] {
            let mut trackers = Trackers::new();
            let from = from_mib << 20;
            read_in_order(&mut trackers, from, from + (read_kib << 10));
            assert_eq!(trackers.windows(GEOMETRY, &tensors), windows, "{read_kib} KiB from {from_mib} MiB on");
            assert_eq!(trackers.tensors(GEOMETRY, &tensors), rests, "{read_kib} KiB from {from_mib} MiB on");
        }
    }

    proptest! {
        /// Probes that add up to less than the shortest run never read ahead, wherever they fall.
        #[test]
        fn probes_never_read_ahead(probes in prop::collection::vec((0..1u64 << 30, 1..64u64 << 10), 0..31)) {
            let mut trackers = Trackers::new();
            for (start, len) in probes {
                trackers.note(range(start, len));
                prop_assert!(windows(&trackers).is_empty());
            }
        }
    }

    #[test]
    fn a_read_noted_twice_counts_once() {
        let mut trackers = Trackers::new();
        for start in (0..6u64 << 20).step_by(3 << 20) {
            trackers.note(range(start, 3 << 20));
            trackers.note(range(start, 3 << 20));
        }
        assert_eq!(windows(&trackers), [range(6 << 20, 4 << 20)]);
    }
}

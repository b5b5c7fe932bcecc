//! Who reads a file in order: several trackers per file, each with a window that grows with what was read in order.
//!
//! Invariants: no byte is read ahead before `RUN_BYTES_MIN` were read in order, so a probe of a header or a trailer
//! fetches only what it touches, unless as much was read at the places before it (`HABIT_BYTES_MIN`); the window is never
//! longer than the run behind it, or than those at these places; a far seek begins a new run.

use super::{Geometry, Tensors};
use crate::base::{ByteRange, RangeSet};

/// Streams that are told apart in one file: those of a loader's eight threads, and as many that ended. Loaders with more
/// threads than this read at random anyway.
const TRACKERS_MAX: usize = 16;
/// A run this long is no probe. More than `head` together with the kernel's own read-ahead of 1 MiB touches.
const RUN_BYTES_MIN: u64 = 2 << 20;
/// Reads at random places that are this long each are a habit. The kernel cuts them up, and asks for what lies in the next
/// chunk only when the first has come: a second round trip. What reads less is a probe.
const HABIT_BYTES_MIN: u64 = RUN_BYTES_MIN / 2;
/// Who reads more in order is a stream, which tells nothing about the next place; and what a place that breaks with the
/// habit costs in vain is less.
const HABIT_BYTES_MAX: u64 = 4 << 20;
/// Longest window: a second of a fast line.
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// The kernel's read-ahead arrives out of order: up to 256 KiB late, 512 KiB early.
const DISORDER_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Tracker {
    /// Where its first read began.
    first: u64,
    /// Where the next read of this stream is expected.
    next: u64,
    /// Start of the read before: it can come again.
    last: u64,
    /// Bytes read in order up to here.
    run_bytes: u64,
    /// As many are expected from its beginning on, as the places before it had them.
    habit_bytes: u64,
    used: u64,
}

impl Tracker {
    fn window_bytes(&self) -> u64 {
        if self.run_bytes < RUN_BYTES_MIN {
            return self.habit_bytes.saturating_sub(self.run_bytes);
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

    /// Notes a read. A read that is noted twice counts once. `waits` says whether a read of this byte has no answer yet.
    pub fn note(&mut self, range: ByteRange, waits: impl Fn(u64) -> bool) {
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
        let habit_bytes = self.habit_bytes(waits);
        if self.trackers.len() == TRACKERS_MAX {
            // Random reads push each other out before they push out a stream.
            let least = (0..TRACKERS_MAX).min_by_key(|index| {
                let tracker = &self.trackers[*index];
                (tracker.window_bytes() > 0, tracker.used)
            });
            self.trackers.swap_remove(least.expect("there are trackers"));
        }
        let (first, next, run_bytes) = (range.start(), range.end(), range.len());
        self.trackers.push(Tracker { first, next, last: first, run_bytes, habit_bytes, used });
    }

    /// What was read at both of the last two places, as long as it is known: where somebody waits there may be more to come.
    /// The beginning of a file is read for the sake of its header.
    fn habit_bytes(&self, waits: impl Fn(u64) -> bool) -> u64 {
        let known =
            |tracker: &&Tracker| tracker.first > 0 && (tracker.run_bytes >= HABIT_BYTES_MIN || !waits(tracker.last));
        let mut known = self.latest_first().filter(known).map(|tracker| tracker.run_bytes);
        let Some(one) = known.next() else { return 0 };
        let other = known.next().unwrap_or(one);
        let is_habit = |bytes: u64| (HABIT_BYTES_MIN..HABIT_BYTES_MAX).contains(&bytes);
        if is_habit(one) && is_habit(other) { one.min(other) } else { 0 }
    }

    /// Whole chunks that are likely to be read soon, the most active stream first: a window, or the rest of a tensor that is
    /// being read in order.
    pub fn windows(&self, geometry: Geometry, tensors: &Tensors) -> Vec<ByteRange> {
        let window = |tracker: &Tracker| {
            let window_bytes = Some(tracker.window_bytes()).filter(|bytes| *bytes > 0)?;
            let in_order = tracker.run_bytes >= RUN_BYTES_MIN;
            let tensor = tensors.rest(tracker.next).filter(|_| in_order);
            let tensor_bytes = tensor.map_or(0, |rest| rest.len().min(WINDOW_BYTES_MAX));
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

    /// Nobody waits.
    fn answered(_: u64) -> bool {
        false
    }

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len).expect("not empty")
    }

    fn read_in_order(trackers: &mut Trackers, from: u64, to: u64) {
        for start in (from..to).step_by(128 << 10) {
            trackers.note(range(start, 128 << 10), answered);
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
        trackers.note(range(500 << 20, 4096), answered);
        assert_eq!(windows(&trackers), [range(8 << 20, 8 << 20)]);
        trackers.note(range(8 << 20, 4096), answered);
        assert_eq!(windows(&trackers)[0].start(), 8 << 20, "the chunk that is being read");
    }

    #[test]
    fn two_streams_have_two_windows_and_random_reads_do_not_end_them() {
        let mut trackers = Trackers::new();
        read_in_order(&mut trackers, 0, 4 << 20);
        read_in_order(&mut trackers, 300 << 20, 304 << 20);
        for index in 0..100u64 {
            trackers.note(range((500 << 20) + index * (4 << 20), 4096), answered);
        }
        assert_eq!(windows(&trackers).len(), 2);
    }

    #[test]
    fn disorder_of_the_kernel_is_one_stream() {
        let mut trackers = Trackers::new();
        for start_kib in [0u64, 256, 128, 512, 384, 1024, 640, 768, 896, 1536, 1152, 1280, 1408, 2048, 1664, 1792, 1920]
        {
            trackers.note(range(start_kib << 10, 128 << 10), answered);
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

    /// What the kernel makes of one read; gives the window after its first request.
    fn read_at_random(
        trackers: &mut Trackers,
        at: u64,
        len: u64,
        waits: impl Fn(u64) -> bool + Copy,
    ) -> Vec<ByteRange> {
        let mut first = None;
        for start in (at..at + len).step_by(128 << 10) {
            trackers.note(range(start, 128 << 10), waits);
            first.get_or_insert_with(|| windows(trackers));
        }
        first.expect("something was read")
    }

    #[test]
    fn who_reads_as_much_at_each_place_gets_it_at_once_from_the_second_place_on() {
        const MIB: u64 = 1 << 20;
        for (lengths, ahead_kib) in [
            (vec![1024, 1024, 1024, 1024], vec![0, 896, 896, 896]),
            (vec![1536, 1024, 2048, 1536, 128, 128, 1024], vec![0, 1408, 896, 896, 1408, 0, 0]),
            // Less than a chunk is no habit, and neither is a stream.
            (vec![896; 8], vec![0; 8]),
            (vec![4096, 4096, 128, 1024, 4096, 128], vec![0; 6]),
        ] {
            let mut trackers = Trackers::new();
            for (index, (len_kib, ahead_kib)) in lengths.iter().zip(&ahead_kib).enumerate() {
                let at = (60 * index as u64 + 3) * MIB + MIB / 2;
                let windows = read_at_random(&mut trackers, at, len_kib << 10, answered);
                let first_end = at + (128 << 10);
                let expected = ByteRange::new(first_end, ahead_kib << 10).and_then(|ahead| GEOMETRY.cover(ahead));
                let mine = windows.iter().find(|window| window.start() / MIB == first_end / MIB).copied();
                assert_eq!(mine, expected, "place {index} of {lengths:?}");
            }
        }
    }

    #[test]
    fn a_place_where_somebody_waits_tells_nothing_yet() {
        let mut trackers = Trackers::new();
        let waits = |at: u64| at == 100 << 20;
        read_at_random(&mut trackers, 10 << 20, 1 << 20, answered);
        trackers.note(range(100 << 20, 128 << 10), answered);
        let mut answered_too = Trackers { trackers: trackers.trackers.clone(), ..trackers };
        let ahead = |windows: Vec<ByteRange>| windows.iter().any(|window| window.start() == 200 << 20);
        assert!(ahead(read_at_random(&mut trackers, 200 << 20, 1 << 20, waits)));
        assert!(!ahead(read_at_random(&mut answered_too, 200 << 20, 1 << 20, answered)), "a place with less");
    }

    #[test]
    fn a_long_header_is_no_habit() {
        let mut trackers = Trackers::new();
        read_at_random(&mut trackers, 0, 3 << 19, answered);
        assert_eq!(read_at_random(&mut trackers, 200 << 20, 1 << 20, answered), []);
    }

    proptest! {
        /// Probes that add up to less than the shortest run never read ahead, wherever they fall.
        #[test]
        fn probes_never_read_ahead(probes in prop::collection::vec((0..1u64 << 30, 1..64u64 << 10), 0..31)) {
            let mut trackers = Trackers::new();
            for (start, len) in probes {
                trackers.note(range(start, len), answered);
                prop_assert!(windows(&trackers).is_empty());
            }
        }
    }

    #[test]
    fn a_read_noted_twice_counts_once() {
        let mut trackers = Trackers::new();
        for start in (0..6u64 << 20).step_by(3 << 20) {
            trackers.note(range(start, 3 << 20), answered);
            trackers.note(range(start, 3 << 20), answered);
        }
        assert_eq!(windows(&trackers), [range(6 << 20, 4 << 20)]);
    }
}

//! Which range to fetch next.
//!
//! Invariants: a chunk that is here or under way is never planned; demanded chunks come before read-ahead, and that
//! before the rest of the file; a demand alone plans only the chunks it touches. Not here: how many requests may run
//! (`fetch` says whether one more may).

use super::Geometry;
use crate::base::{ByteRange, RangeSet};

/// Longest range of one request: its one round trip of 30-70 ms costs under a tenth on a line of 20 MB/s.
const PIECE_BYTES_MAX: u64 = 16 << 20;
/// Shortest piece of a fill, unless the gap is shorter: below this the round trips weigh.
const PIECE_BYTES_MIN: u64 = 4 << 20;
/// A piece of a window: the stream starts early, the next one runs beside it.
const AHEAD_BYTES: u64 = 8 << 20;
/// A demand waits for a running request this far ahead of its place, as a new request would not be sooner.
const REACH_BYTES: u64 = 2 << 20;

/// A request that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// Everything before is on disk.
    pub written: u64,
    /// Start of the chunk that is arriving.
    pub head: u64,
    pub end: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// A read waits for it.
    Demand,
    /// A read is expected to come to it.
    ReadAhead,
    /// The whole file is wanted.
    Fill,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Fetch {
        range: ByteRange,
        purpose: Purpose,
    },
    /// The running request with this index is to end at `at`, because a read waits for what it would reach late.
    Cut {
        running: usize,
        at: u64,
    },
}

/// For what one more request may be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub demand: bool,
    pub background: bool,
    /// Requests among which a fill is divided, so that they end together.
    pub fill_streams: u64,
}

/// One round of planning: the caller says what it did after each step.
#[derive(Debug)]
pub struct Planner<'a> {
    geometry: Geometry,
    present: &'a RangeSet,
    running: Vec<Running>,
    /// Whole chunks, the oldest first.
    demands: &'a [ByteRange],
    ahead: &'a [ByteRange],
    fill: bool,
    /// What of the fill comes first.
    near: &'a [ByteRange],
    /// Here or under way.
    taken: RangeSet,
}

impl<'a> Planner<'a> {
    pub fn new(
        geometry: Geometry,
        present: &'a RangeSet,
        running: Vec<Running>,
        demands: &'a [ByteRange],
        ahead: &'a [ByteRange],
        fill: bool,
    ) -> Self {
        let mut planner = Self { geometry, present, running, demands, ahead, fill, near: &[], taken: RangeSet::new() };
        planner.count_taken();
        planner
    }

    /// What the fill begins with: the rest of what somebody reads in. Not fetched for itself.
    #[must_use]
    pub fn near_first(mut self, near: &'a [ByteRange]) -> Self {
        self.near = near;
        self
    }

    fn count_taken(&mut self) {
        self.taken = self.present.clone();
        for running in &self.running {
            ByteRange::from_bounds(running.written, running.end).into_iter().for_each(|range| self.taken.insert(range));
        }
    }

    /// The step was taken.
    pub fn accept(&mut self, step: Step) {
        match step {
            Step::Fetch { range, .. } => {
                self.running.push(Running { written: range.start(), head: range.start(), end: range.end() });
                self.taken.insert(range);
            }
            Step::Cut { running, at } => {
                self.running[running].end = at;
                self.count_taken();
            }
        }
    }

    pub fn next(&self, limits: Limits) -> Option<Step> {
        let demanded = if limits.demand { self.next_demanded() } else { None };
        if demanded.is_some() || !limits.background {
            return demanded;
        }
        self.next_ahead().or_else(|| self.next_near()).or_else(|| self.next_fill(limits.fill_streams))
    }

    fn next_demanded(&self) -> Option<Step> {
        self.demands.iter().find_map(|demand| {
            let free = self.taken.gaps(demand).first().copied();
            match free {
                Some(gap) => Some(Step::Fetch { range: self.with_window(gap, demand), purpose: Purpose::Demand }),
                None => self.present.gaps(demand).iter().find_map(|gap| self.cut_for(gap)),
            }
        })
    }

    /// A demand that ends where a window goes on is fetched together with it.
    fn with_window(&self, gap: ByteRange, demand: &ByteRange) -> ByteRange {
        let piece = self.geometry.head(gap, PIECE_BYTES_MAX);
        if piece.end() < demand.end() {
            return piece;
        }
        let follows = |window: &ByteRange| {
            let rest = ByteRange::from_bounds(piece.end().max(window.start()), window.end())?;
            self.taken.gaps(&rest).first().copied().filter(|gap| gap.start() == piece.end())
        };
        let end = self.ahead.iter().find_map(follows).map_or(piece.end(), |window| window.end());
        let joined = ByteRange::from_bounds(piece.start(), end).expect("not shorter than the piece");
        self.geometry.head(joined, piece.len().max(AHEAD_BYTES))
    }

    fn cut_for(&self, gap: &ByteRange) -> Option<Step> {
        let far = |running: &Running| {
            running.written <= gap.start()
                && gap.start() < running.end
                && gap.start() > running.head.saturating_add(REACH_BYTES)
        };
        let running = self.running.iter().position(far)?;
        Some(Step::Cut { running, at: gap.start() })
    }

    fn next_ahead(&self) -> Option<Step> {
        let gap = self.ahead.iter().find_map(|window| self.taken.gaps(window).first().copied())?;
        Some(Step::Fetch { range: self.geometry.head(gap, AHEAD_BYTES), purpose: Purpose::ReadAhead })
    }

    fn next_near(&self) -> Option<Step> {
        let gap = self.near.iter().filter(|_| self.fill).find_map(|near| self.taken.gaps(near).first().copied())?;
        Some(Step::Fetch { range: self.geometry.head(gap, AHEAD_BYTES), purpose: Purpose::Fill })
    }

    /// The lowest gap, so that hashing from the beginning can follow.
    fn next_fill(&self, streams: u64) -> Option<Step> {
        let whole = self.geometry.whole().filter(|_| self.fill)?;
        let gap = self.taken.gaps(&whole).first().copied()?;
        let left_bytes = self.geometry.size_bytes().saturating_sub(self.present.bytes());
        let share = (left_bytes / streams.max(1)).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        Some(Step::Fetch { range: self.geometry.head(gap, share), purpose: Purpose::Fill })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tensors, Trackers};
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const FREE: Limits = Limits { demand: true, background: true, fill_streams: 4 };

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::from_bounds(start, end).expect("not empty")
    }

    fn mib(start: u64, end: u64) -> ByteRange {
        range(start * MIB, end * MIB)
    }

    fn geometry() -> Geometry {
        Geometry::new(100 * MIB + 5, MIB)
    }

    #[test]
    fn a_demand_is_exact_and_comes_first() {
        let present = RangeSet::new();
        let demands = [mib(50, 51)];
        let ahead = [mib(3, 5)];
        let planner = Planner::new(geometry(), &present, Vec::new(), &demands, &ahead, true);
        let step = planner.next(FREE);
        assert_eq!(step, Some(Step::Fetch { range: mib(50, 51), purpose: Purpose::Demand }));
        let background = planner.next(Limits { demand: false, ..FREE });
        assert_eq!(background, Some(Step::Fetch { range: mib(3, 5), purpose: Purpose::ReadAhead }));
    }

    #[test]
    fn the_rest_of_a_tensor_comes_before_the_rest_of_the_file_and_not_for_itself() {
        let present = RangeSet::new();
        let demands = [mib(50, 51)];
        let near = [mib(50, 61), mib(20, 21)];
        let planned = |fill: bool| {
            let mut planner = Planner::new(geometry(), &present, Vec::new(), &demands, &[], fill).near_first(&near);
            let mut steps = Vec::new();
            while let Some(step) = planner.next(FREE).filter(|_| steps.len() < 5) {
                planner.accept(step);
                let Step::Fetch { range, purpose } = step else { panic!("{step:?}") };
                steps.push((range.start() / MIB, range.end() / MIB, purpose));
            }
            steps
        };
        let demanded = (50, 51, Purpose::Demand);
        assert_eq!(planned(false), [demanded], "a probe is exact");
        let filled = [(51, 59), (59, 61), (20, 21), (0, 16)].map(|(start, end)| (start, end, Purpose::Fill));
        assert_eq!(planned(true), [&[demanded][..], &filled].concat());
    }

    #[test]
    fn a_demand_joins_the_window_that_follows_it() {
        let present = RangeSet::new();
        let demands = [mib(4, 5)];
        let ahead = [mib(5, 9)];
        let planner = Planner::new(geometry(), &present, Vec::new(), &demands, &ahead, false);
        assert_eq!(planner.next(FREE), Some(Step::Fetch { range: mib(4, 9), purpose: Purpose::Demand }));
    }

    #[test]
    fn a_demand_far_down_a_running_request_cuts_it() {
        let present = RangeSet::new();
        let demands = [mib(12, 13)];
        let running = vec![Running { written: 0, head: MIB, end: 16 * MIB }];
        let mut planner = Planner::new(geometry(), &present, running.clone(), &demands, &[], false);
        let step = planner.next(FREE).expect("it would come late");
        assert_eq!(step, Step::Cut { running: 0, at: 12 * MIB });
        planner.accept(step);
        assert_eq!(planner.next(FREE), Some(Step::Fetch { range: mib(12, 13), purpose: Purpose::Demand }));
        let near = [mib(3, 4)];
        assert_eq!(Planner::new(geometry(), &present, running, &near, &[], false).next(FREE), None);
    }

    #[test]
    fn a_fill_is_divided_among_its_requests_and_reaches_the_end() {
        let present = RangeSet::new();
        let mut planner = Planner::new(geometry(), &present, Vec::new(), &[], &[], true);
        let mut fetched = RangeSet::new();
        while let Some(step) = planner.next(FREE) {
            let Step::Fetch { range, purpose: Purpose::Fill } = step else { panic!("{step:?}") };
            assert!(range.len() <= PIECE_BYTES_MAX);
            fetched.insert(range);
            planner.accept(step);
        }
        assert!(fetched.contains(&geometry().whole().expect("not empty")));
    }

    fn aligned(size: u64) -> impl Strategy<Value = ByteRange> {
        (0..size, 1..40u64).prop_map(move |(start, len)| mib(start, (start + len).min(size)))
    }

    proptest! {
        /// Whatever is asked, nothing that is here or under way is planned, and every demand is served in the end.
        #[test]
        fn never_twice_and_never_forgotten(
            here in prop::collection::vec(aligned(100), 0..6),
            demands in prop::collection::vec(aligned(100), 0..6),
            ahead in prop::collection::vec(aligned(100), 0..3),
            started in prop::collection::vec(aligned(100), 0..4),
            fill: bool,
        ) {
            let mut present = RangeSet::new();
            here.into_iter().for_each(|range| present.insert(range));
            let mut running = Vec::new();
            let mut busy = present.clone();
            for range in started {
                let Some(range) = busy.gaps(&range).first().copied() else { continue };
                busy.insert(range);
                running.push(Running { written: range.start(), head: range.start(), end: range.end() });
            }
            let mut planner = Planner::new(geometry(), &present, running.clone(), &demands, &ahead, fill);
            let mut background = false;
            for _ in 0..1000 {
                let Some(step) = planner.next(FREE) else { break };
                match step {
                    Step::Fetch { range, purpose } => {
                        prop_assert!(range.start() % MIB == 0);
                        let under_way = planner.running.iter()
                            .filter_map(|running| ByteRange::from_bounds(running.written, running.end));
                        for other in present.iter().chain(under_way) {
                            prop_assert_eq!(range.intersection(&other), None);
                        }
                        prop_assert!(purpose != Purpose::Demand || !background, "a demand after the background");
                        background |= purpose != Purpose::Demand;
                    }
                    Step::Cut { running, at } => {
                        prop_assert!(at > planner.running[running].head && at < planner.running[running].end);
                    }
                }
                planner.accept(step);
            }
            prop_assert_eq!(planner.next(FREE), None, "planning ends");
            for demand in &demands {
                prop_assert!(planner.taken.gaps(demand).is_empty());
            }
        }

        /// Reading a file in order, whatever the size of the reads, asks for each chunk exactly once.
        #[test]
        fn reading_in_order_fetches_each_chunk_once(read_kib in 4..3000u64, size in 1..60 * MIB) {
            let geometry = Geometry::new(size, MIB);
            let (mut trackers, mut present) = (Trackers::new(), RangeSet::new());
            let mut fetched_bytes = 0;
            let mut at = 0;
            while at < size {
                let read = range(at, (at + (read_kib << 10)).min(size));
                trackers.note(read, |_| false);
                let demands: Vec<ByteRange> = geometry.cover(read).into_iter().collect();
                loop {
                    let windows = trackers.windows(geometry, &Tensors::default());
                    let planner = Planner::new(geometry, &present, Vec::new(), &demands, &windows, false);
                    let Some(Step::Fetch { range, .. }) = planner.next(FREE) else { break };
                    fetched_bytes += range.len();
                    present.insert(range);
                }
                prop_assert!(present.contains(&read));
                at = read.end();
            }
            prop_assert_eq!(fetched_bytes, size);
        }

        /// Probes fetch the chunks they touch and no other.
        #[test]
        fn probes_fetch_what_they_touch(probes in prop::collection::vec((0..100 * MIB, 1..64u64 << 10), 1..30)) {
            let (mut trackers, mut present, mut touched) = (Trackers::new(), RangeSet::new(), RangeSet::new());
            for (start, len) in probes {
                let read = range(start, start + len);
                trackers.note(read, |_| false);
                let demands: Vec<ByteRange> = geometry().cover(read).into_iter().collect();
                touched.insert(demands[0]);
                loop {
                    let windows = trackers.windows(geometry(), &Tensors::default());
                    let planner = Planner::new(geometry(), &present, Vec::new(), &demands, &windows, false);
                    let Some(Step::Fetch { range, .. }) = planner.next(FREE) else { break };
                    present.insert(range);
                }
            }
            prop_assert_eq!(present, touched);
        }
    }
}

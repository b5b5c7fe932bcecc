//! How many streams one file is worth: more while more bring more.
//!
//! Invariants: the number is never zero and never above its bound; it grows only after a look at what the streams of
//! before brought, and goes back when the new ones brought no more; a hub that says "too many" halves it. Not here: which
//! ranges the streams bring; clocks and sockets.

/// Streams a file begins with: enough for a line whose storage does not limit connections.
const START: usize = 4;
/// New connections take so long to come up to speed; nothing is measured meanwhile.
const RAMP_MS: u64 = 250;
/// The first streams are measured from their beginning: what that makes them look slower costs less than waiting.
const FIRST_MS: u64 = 250;
/// Time over which the streams of before are measured.
const BASE_MS: u64 = 500;
/// Time over which the new ones are: giving them up wrongly costs more than keeping them wrongly.
const VERDICT_MS: u64 = 1_000;
/// After so much of it, new streams that bring at least half of what those before bring each are kept without waiting for more.
const CLEAR_MS: u64 = 250;
/// New streams that bring less than this much more bring nothing.
const GAIN_PERCENT: u64 = 10;
/// After more did not help, the line has this long to become another one.
const HOLD_MS: u64 = 20_000;
/// After a hub refused: as long as its own pauses usually are.
const REFUSED_HOLD_MS: u64 = 60_000;
/// Refusals that come together are one.
const TOGETHER_MS: u64 = 2_000;

/// What a growth began with, until it is known whether it helped.
#[derive(Clone, Copy, Debug)]
struct Before {
    count: usize,
    bytes_per_s: u64,
}

impl Before {
    /// Whether each of the new streams brings at least half of what each of those before does.
    fn is_clearly_less(&self, count: usize, bytes_per_s: u64) -> bool {
        let (before, now) = (self.count as u64, count as u64);
        gained(self.bytes_per_s, bytes_per_s)
            && bytes_per_s.saturating_mul(2 * before) >= self.bytes_per_s.saturating_mul(before + now)
    }
}

/// The number of streams of one file.
#[derive(Debug)]
pub struct Width {
    count: usize,
    max: usize,
    before: Option<Before>,
    /// Nothing was decided yet.
    fresh: bool,
    ramp_ms: u64,
    hold_ms: u64,
    /// Since the last refusal.
    refused_ms: Option<u64>,
    measured_ms: u64,
    measured_bytes: u64,
    total_bytes: u64,
}

impl Width {
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            count: START.min(max),
            max,
            before: None,
            fresh: true,
            ramp_ms: 0,
            hold_ms: 0,
            refused_ms: None,
            measured_ms: 0,
            measured_bytes: 0,
            total_bytes: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// So many streams run in the background. `total_bytes` is everything that ever arrived. Says whether the number changed.
    pub fn look(&mut self, elapsed_ms: u64, total_bytes: u64, running: usize) -> bool {
        let arrived_bytes = total_bytes.saturating_sub(self.total_bytes);
        self.total_bytes = total_bytes;
        self.hold_ms = self.hold_ms.saturating_sub(elapsed_ms);
        self.refused_ms = self.refused_ms.map(|ms| ms.saturating_add(elapsed_ms));
        if running < self.count {
            // What fewer bring says nothing about this number.
            (self.measured_ms, self.measured_bytes) = (0, 0);
            return false;
        }
        if self.ramp_ms > 0 {
            self.ramp_ms = self.ramp_ms.saturating_sub(elapsed_ms);
            return false;
        }
        self.measured_ms += elapsed_ms;
        self.measured_bytes += arrived_bytes;
        let Some(bytes_per_s) = self.measured() else { return false };
        match self.before.take() {
            Some(before) if !gained(before.bytes_per_s, bytes_per_s) => {
                self.hold_ms = HOLD_MS;
                self.change(before.count)
            }
            _ if self.may_grow() && bytes_per_s > 0 => {
                self.before = Some(Before { count: self.count, bytes_per_s });
                // A hub that refused once is approached one by one.
                let step = if self.refused_ms.is_some() { 1 } else { self.count };
                self.change((self.count + step).min(self.max))
            }
            _ => self.change(self.count),
        }
    }

    /// What the streams bring, once they were measured for long enough to decide.
    fn measured(&self) -> Option<u64> {
        let bytes_per_s = self.measured_bytes.saturating_mul(1000) / self.measured_ms.max(1);
        let needed_ms = match self.before {
            Some(before) if before.is_clearly_less(self.count, bytes_per_s) => CLEAR_MS,
            Some(_) => VERDICT_MS,
            None if !self.may_grow() => return None,
            None if self.fresh => FIRST_MS,
            None => BASE_MS,
        };
        (self.measured_ms >= needed_ms).then_some(bytes_per_s)
    }

    /// The hub said that there are too many, or that it has too much to do.
    pub fn refused(&mut self) {
        if self.refused_ms.is_some_and(|ms| ms < TOGETHER_MS) {
            return;
        }
        (self.refused_ms, self.hold_ms, self.before) = (Some(0), REFUSED_HOLD_MS, None);
        self.change((self.count / 2).max(1));
    }

    fn may_grow(&self) -> bool {
        self.count < self.max && self.hold_ms == 0
    }

    fn change(&mut self, count: usize) -> bool {
        self.fresh = false;
        (self.ramp_ms, self.measured_ms, self.measured_bytes) = (RAMP_MS, 0, 0);
        std::mem::replace(&mut self.count, count) != count
    }
}

fn gained(before: u64, now: u64) -> bool {
    now.saturating_mul(100) >= before.saturating_mul(100 + GAIN_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOK_MS: u64 = 250;
    const MB: u64 = 1_000_000;

    /// Runs as many streams as are allowed; all numbers there were, in order.
    fn run(width: &mut Width, ms: u64, bytes_per_s: impl Fn(usize) -> u64) -> Vec<usize> {
        let (mut total_bytes, mut counts) = (width.total_bytes, vec![width.count()]);
        for _ in 0..ms / LOOK_MS {
            total_bytes += bytes_per_s(width.count()) * LOOK_MS / 1000;
            if width.look(LOOK_MS, total_bytes, width.count()) {
                counts.push(width.count());
            }
        }
        counts
    }

    #[test]
    fn the_number_follows_the_line() {
        let per_stream = |count: usize| 20 * MB * count as u64;
        let limited = |most: usize| move |count: usize| 20 * MB * count.min(most) as u64;
        for (what, max, counts) in [
            ("each stream is limited", 8, run(&mut Width::new(8), 15_000, per_stream)),
            ("each stream is limited", 12, run(&mut Width::new(12), 15_000, per_stream)),
            ("each stream is limited", 16, run(&mut Width::new(16), 1_000, per_stream)),
        ] {
            assert_eq!(counts.last(), Some(&max), "{what}: {counts:?}");
        }
        assert_eq!(run(&mut Width::new(12), 15_000, limited(4)), [4, 8, 4], "more do not help");
        assert_eq!(run(&mut Width::new(12), 15_000, limited(8)), [4, 8, 12, 8], "eight help, twelve do not");
        assert_eq!(run(&mut Width::new(16), 15_000, limited(4)), [4, 8, 4], "more do not help");
        assert_eq!(run(&mut Width::new(16), 15_000, limited(8)), [4, 8, 16, 8], "eight help, sixteen do not");
        assert_eq!(run(&mut Width::new(16), 15_000, limited(14)), [4, 8, 16], "most of them help");
        assert_eq!(run(&mut Width::new(2), 15_000, per_stream), [2], "the bound");
        assert_eq!(run(&mut Width::new(8), 15_000, |_| 0), [4], "nothing comes");
        assert_eq!(Width::new(0).count(), 1);
    }

    #[test]
    fn the_usual_bound_is_reached_with_the_first_look() {
        let mut width = Width::new(8);
        assert_eq!(run(&mut width, LOOK_MS, |count| 20 * MB * count as u64), [4, 8]);
    }

    #[test]
    fn a_gain_that_is_not_clear_is_looked_at_for_longer() {
        // A third more for twice as many.
        let some = |count: usize| if count <= 4 { 60 * MB } else { 80 * MB };
        let mut width = Width::new(16);
        assert_eq!(run(&mut width, FIRST_MS + RAMP_MS + VERDICT_MS - LOOK_MS, some), [4, 8]);
        assert_eq!(run(&mut width, LOOK_MS, some), [8, 16]);
        assert_eq!(run(&mut width, RAMP_MS + VERDICT_MS, some), [16, 8], "and sixteen bring no more than eight");
    }

    #[test]
    fn the_line_gets_another_chance_when_it_became_another() {
        let mut width = Width::new(8);
        assert_eq!(run(&mut width, 10_000, |_| 20 * MB), [4, 8, 4]);
        assert_eq!(run(&mut width, HOLD_MS, |count| 20 * MB * count as u64), [4, 8]);
    }

    #[test]
    fn a_refusal_halves_once_and_growth_is_careful_then() {
        let mut width = Width::new(12);
        run(&mut width, 10_000, |count| MB * count as u64);
        for _ in 0..8 {
            width.refused();
        }
        assert_eq!(width.count(), 6, "eight that are refused together are one refusal");
        assert_eq!(run(&mut width, REFUSED_HOLD_MS - 1000, |count| MB * count as u64), [6]);
        width.refused();
        assert_eq!(run(&mut width, REFUSED_HOLD_MS + 2000, |count| MB * count as u64)[..2], [3, 4]);
        for _ in 0..10 {
            run(&mut width, TOGETHER_MS, |_| MB);
            width.refused();
        }
        assert_eq!(width.count(), 1);
    }

    #[test]
    fn streams_that_do_not_run_are_no_measure() {
        let mut width = Width::new(8);
        for look in 1..100 {
            assert!(!width.look(LOOK_MS, look * MB, 3));
        }
        assert_eq!(width.count(), 4);
    }

    proptest! {
        #[test]
        fn always_within_its_bounds(
            max in 0..20usize,
            looks in prop::collection::vec((0..5_000u64, 0..1u64 << 40, 0..20usize, 0..10u8), 0..200),
        ) {
            let mut width = Width::new(max);
            let mut total_bytes = 0u64;
            for (elapsed_ms, bytes, running, refused) in looks {
                total_bytes += bytes;
                width.look(elapsed_ms, total_bytes, running);
                if refused == 0 {
                    width.refused();
                }
                prop_assert!((1..=max.max(1)).contains(&width.count()));
            }
        }
    }
}

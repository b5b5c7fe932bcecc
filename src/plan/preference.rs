//! Which of several places of one content is asked next: the fastest of those that work.
//!
//! Invariants: a place that fails is asked after those that do not; another is preferred only when it is clearly faster, so
//! that figures which differ by chance change nothing; a place nobody has measured is tried with one request beside others,
//! never with one that a read waits for. Not here: how the figures come about (`fetch`), which places rest (`fetch`).

/// What is compared: the time for a piece of this size, so that both the wait and the rate count.
const PIECE_BYTES: u64 = 4 << 20;
/// Another place must be faster by this much.
const CLEARLY_PERCENT: u64 = 130;

/// How fast a place was lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Until an answer begins.
    pub first_byte_ms: u64,
    /// Of one request.
    pub bytes_per_s: u64,
}

impl Figures {
    /// Between these and newer ones, so that one lucky or unlucky request does not decide alone.
    #[must_use]
    pub fn towards(self, newer: Self) -> Self {
        Self {
            first_byte_ms: self.first_byte_ms.midpoint(newer.first_byte_ms),
            bytes_per_s: self.bytes_per_s.midpoint(newer.bytes_per_s),
        }
    }

    fn cost_ms(&self) -> u64 {
        self.first_byte_ms.saturating_add(PIECE_BYTES * 1000 / self.bytes_per_s.max(1))
    }
}

/// A place that may be asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// It failed since it last gave something.
    pub troubled: bool,
    /// A request to it, or to another place of its host, is under way.
    pub busy: bool,
    /// Nothing when nobody has measured it.
    pub figures: Option<Figures>,
}

/// What one more request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// A read waits for it.
    Waited,
    /// Nobody does: it may find out how fast a place is.
    Unhurried,
}

/// The place for one more request, by its index; `None` without candidates. Equal ones keep their order.
pub fn prefer(candidates: &[Candidate], errand: Errand) -> Option<usize> {
    let sound: Vec<usize> = (0..candidates.len()).filter(|index| !candidates[*index].troubled).collect();
    let choice = if sound.is_empty() { (0..candidates.len()).collect() } else { sound };
    let is_unknown = |index: &&usize| !candidates[**index].busy && candidates[**index].figures.is_none();
    let one_works = choice.iter().any(|index| candidates[*index].busy);
    if errand == Errand::Unhurried
        && one_works
        && let Some(unknown) = choice.iter().find(is_unknown)
    {
        return Some(*unknown);
    }
    let mut best: Option<(usize, Option<u64>)> = None;
    for index in choice {
        let cost_ms = candidates[index].figures.map(|figures| figures.cost_ms());
        let better = match (best, cost_ms) {
            (None, _) => true,
            // Who is known to work goes before who may.
            (Some((_, None)), Some(_)) => true,
            (Some((_, Some(best_ms))), Some(cost_ms)) => {
                cost_ms.saturating_mul(CLEARLY_PERCENT) < best_ms.saturating_mul(100)
            }
            (Some(_), None) => false,
        };
        if better {
            best = Some((index, cost_ms));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn measured(first_byte_ms: u64, bytes_per_s: u64) -> Candidate {
        Candidate { troubled: false, busy: false, figures: Some(Figures { first_byte_ms, bytes_per_s }) }
    }

    const NEW: Candidate = Candidate { troubled: false, busy: false, figures: None };

    #[test]
    fn the_fastest_of_those_that_work() {
        let slow = measured(50, 2 * MIB);
        let fast = measured(50, 20 * MIB);
        let troubled = |place: Candidate| Candidate { troubled: true, ..place };
        let busy = |place: Candidate| Candidate { busy: true, ..place };
        let cases: [(&str, Vec<Candidate>, Errand, Option<usize>); 13] = [
            ("none", vec![], Errand::Waited, None),
            ("the faster", vec![slow, fast], Errand::Waited, Some(1)),
            ("the faster comes first", vec![fast, slow], Errand::Waited, Some(0)),
            ("by chance faster", vec![measured(50, 10 * MIB), measured(50, 12 * MIB)], Errand::Waited, Some(0)),
            ("the wait counts", vec![measured(4000, 90 * MIB), measured(30, 20 * MIB)], Errand::Waited, Some(1)),
            ("the rate counts", vec![measured(10, MIB / 2), measured(900, 20 * MIB)], Errand::Waited, Some(1)),
            ("it fails", vec![slow, troubled(fast)], Errand::Waited, Some(0)),
            ("all fail", vec![troubled(slow), troubled(fast)], Errand::Waited, Some(1)),
            ("nobody knows", vec![NEW, NEW], Errand::Waited, Some(0)),
            ("a read does not try", vec![busy(slow), NEW], Errand::Waited, Some(0)),
            ("known before unknown", vec![NEW, slow], Errand::Waited, Some(1)),
            ("tried beside others", vec![busy(slow), NEW], Errand::Unhurried, Some(1)),
            ("one request tries", vec![busy(slow), busy(NEW)], Errand::Unhurried, Some(0)),
        ];
        for (what, candidates, errand, chosen) in cases {
            assert_eq!(prefer(&candidates, errand), chosen, "{what}");
        }
        assert_eq!(prefer(&[slow, NEW], Errand::Unhurried), Some(0), "the first request is no trial");
        assert_eq!(prefer(&[busy(slow), troubled(NEW)], Errand::Unhurried), Some(0), "nor is one to who fails");
    }

    #[test]
    fn figures_follow_slowly() {
        let mut figures = Figures { first_byte_ms: 100, bytes_per_s: 1000 };
        figures = figures.towards(Figures { first_byte_ms: 300, bytes_per_s: 3000 });
        assert_eq!(figures, Figures { first_byte_ms: 200, bytes_per_s: 2000 });
        for _ in 0..10 {
            figures = figures.towards(Figures { first_byte_ms: 0, bytes_per_s: u64::MAX });
        }
        assert_eq!(figures.cost_ms(), 0);
        assert_eq!(Figures { first_byte_ms: u64::MAX, bytes_per_s: 0 }.cost_ms(), u64::MAX);
    }
}

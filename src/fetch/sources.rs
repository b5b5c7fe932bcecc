//! How fast each host was lately, for all contents together: what one file learnt, the next one knows.
//!
//! Invariants: kept in memory, for few hosts and not for long; a host of the web speaks for itself alone. Its lock is a
//! leaf. Not here: what follows from the figures (`plan::prefer`).

use super::engine::Preference;
use super::file::{File, State};
use super::origins::Choice;
use super::outages::{Host, host_of};
use crate::hub::Origin;
use crate::plan::{Candidate, Errand, Figures, Purpose, prefer};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A line changes with the hour and the place; older figures tell nothing.
const KEPT: Duration = Duration::from_secs(600);
/// Most hosts that are remembered.
const HOSTS_MAX: usize = 64;
/// What is shorter than both says little of the rate.
const RATE_BYTES_MIN: u64 = 256 << 10;
const RATE_TIME_MIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Known {
    host: Host,
    figures: Figures,
    measured: Instant,
}

/// One entry per host, the one measured last at the end.
#[derive(Debug, Default)]
pub(super) struct Sources {
    known: Mutex<Vec<Known>>,
}

impl Sources {
    /// A request brought so many bytes in the time after their first one.
    pub fn measured(&self, origin: &Origin, first_byte: Duration, bytes: u64, time: Duration, now: Instant) {
        if bytes < RATE_BYTES_MIN && time < RATE_TIME_MIN {
            return;
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let newer =
            Figures { first_byte_ms: ms(first_byte), bytes_per_s: bytes.saturating_mul(1000) / ms(time).max(1) };
        let host = host_of(origin);
        let mut known = self.known.lock();
        known.retain(|known| now.saturating_duration_since(known.measured) < KEPT);
        let before = known.iter().position(|known| known.host == host).map(|index| known.remove(index));
        if known.len() == HOSTS_MAX {
            known.remove(0);
        }
        let figures = before.map_or(newer, |before| before.figures.towards(newer));
        known.push(Known { host, figures, measured: now });
    }

    pub fn figures(&self, origin: &Origin, now: Instant) -> Option<Figures> {
        let host = host_of(origin);
        let known = self.known.lock();
        let found = known.iter().find(|known| known.host == host)?;
        (now.saturating_duration_since(found.measured) < KEPT).then_some(found.figures)
    }
}

impl File {
    /// The place for one more request.
    pub fn choose_place(&self, state: &State, purpose: Purpose) -> Choice {
        let now = Instant::now();
        let errand = if purpose == Purpose::Demand { Errand::Waited } else { Errand::Unhurried };
        state.origins.choose(now, |awake| {
            if self.shared.options.preference == Preference::AsGiven || awake.len() < 2 {
                return (!awake.is_empty()).then_some(0);
            }
            let busy: Vec<Host> =
                state.requests.iter().map(|request| host_of(state.origins.origin(request.origin))).collect();
            let candidates = awake.iter().map(|place| Candidate {
                troubled: place.failures > 0,
                busy: busy.contains(&host_of(place.origin)),
                figures: self.shared.sources.figures(place.origin, now),
            });
            prefer(&candidates.collect::<Vec<Candidate>>(), errand)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RelativePath, RepoId, Revision};
    use crate::tree::Source;

    fn origin(source: Source, repo: &str) -> Origin {
        Origin {
            source,
            repo: RepoId::new(repo).expect("a name"),
            commit: Revision::new("main").expect("a revision"),
            path: RelativePath::new("a.safetensors").expect("a path"),
        }
    }

    #[test]
    fn a_host_is_known_for_a_while_and_few_are() {
        let (sources, start) = (Sources::default(), Instant::now());
        let (first_byte, time) = (Duration::from_millis(40), Duration::from_secs(2));
        let face = |repo| origin(Source::HuggingFace, repo);
        sources.measured(&face("org/one"), first_byte, 100, Duration::from_millis(5), start);
        assert_eq!(sources.figures(&face("org/one"), start), None, "too short to tell");
        sources.measured(&face("org/one"), first_byte, 2 << 20, time, start);
        let expected = Figures { first_byte_ms: 40, bytes_per_s: 1 << 20 };
        assert_eq!(sources.figures(&face("org/two"), start), Some(expected), "a hub is one host");
        assert_eq!(sources.figures(&face("org/two"), start + KEPT), None);
        assert_eq!(sources.figures(&origin(Source::ModelScope, "org/one"), start), None);
        for number in 0..HOSTS_MAX + 5 {
            let web = origin(Source::Web, &format!("https/{number}.example"));
            sources.measured(&web, first_byte, 2 << 20, time, start);
            assert_eq!(sources.figures(&web, start), Some(expected));
        }
        assert_eq!(sources.known.lock().len(), HOSTS_MAX);
        assert_eq!(sources.figures(&face("org/one"), start), None, "who was not heard for longest is forgotten");
    }
}

//! Which hubs cannot be reached, and since when: what one content learnt spares the others the wait.
//!
//! Invariant: an outage ends with the first answer, whatever it says. Its lock is a leaf.

use crate::tree::Source;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// One entry per hub at most.
#[derive(Debug, Default)]
pub(super) struct Outages {
    since: Mutex<Vec<(Source, Instant)>>,
}

impl Outages {
    /// A hub could not be reached.
    pub fn began(&self, source: Source, now: Instant) {
        let mut since = self.since.lock();
        if !since.iter().any(|(down, _)| *down == source) {
            since.push((source, now));
        }
    }

    /// It answered.
    pub fn ended(&self, source: Source) {
        self.since.lock().retain(|(down, _)| *down != source);
    }

    /// Whether the hub has been out of reach for so long that a wait is in vain.
    pub fn lasts(&self, source: Source, now: Instant, patience: Duration) -> bool {
        let since = self.since.lock();
        since.iter().any(|(down, at)| *down == source && now.saturating_duration_since(*at) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_counted_from_its_first_failure_to_the_next_answer() {
        let (outages, start, patience) = (Outages::default(), Instant::now(), Duration::from_secs(120));
        let at = |seconds| start + Duration::from_secs(seconds);
        outages.began(Source::HuggingFace, start);
        outages.began(Source::HuggingFace, at(100));
        assert!(!outages.lasts(Source::HuggingFace, at(119), patience));
        assert!(outages.lasts(Source::HuggingFace, at(120), patience));
        assert!(!outages.lasts(Source::Civitai, at(120), patience));
        outages.ended(Source::HuggingFace);
        assert!(!outages.lasts(Source::HuggingFace, at(999), patience));
    }
}

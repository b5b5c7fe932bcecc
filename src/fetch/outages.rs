//! Which hubs cannot be reached, and since when: what one content learnt spares the others the wait.
//!
//! Invariant: an outage ends with the first answer, whatever it says. Its lock is a leaf.

use crate::tree::Source;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// An outage in which nobody asked for this long is another one: whether it lasted meanwhile, nobody knows. Longer than any
/// pause between two tries together with the wait for an answer.
const UNASKED_MAX: Duration = Duration::from_secs(60);

/// One entry per hub at most.
#[derive(Debug, Default)]
pub(super) struct Outages {
    known: Mutex<Vec<Outage>>,
}

#[derive(Debug)]
struct Outage {
    source: Source,
    since: Instant,
    asked: Instant,
}

impl Outages {
    /// A hub could not be reached.
    pub fn began(&self, source: Source, now: Instant) {
        let mut known = self.known.lock();
        known.retain(|outage| now.saturating_duration_since(outage.asked) < UNASKED_MAX);
        match known.iter_mut().find(|outage| outage.source == source) {
            Some(outage) => outage.asked = now,
            None => known.push(Outage { source, since: now, asked: now }),
        }
    }

    /// It answered.
    pub fn ended(&self, source: Source) {
        self.known.lock().retain(|outage| outage.source != source);
    }

    /// Whether the hub has been out of reach for so long that a wait is in vain.
    pub fn lasts(&self, source: Source, now: Instant, patience: Duration) -> bool {
        let known = self.known.lock();
        known.iter().any(|outage| outage.source == source && now.saturating_duration_since(outage.since) >= patience)
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
        outages.began(Source::HuggingFace, at(50));
        outages.began(Source::HuggingFace, at(100));
        assert!(!outages.lasts(Source::HuggingFace, at(119), patience));
        assert!(outages.lasts(Source::HuggingFace, at(120), patience));
        assert!(!outages.lasts(Source::Civitai, at(120), patience));
        outages.ended(Source::HuggingFace);
        assert!(!outages.lasts(Source::HuggingFace, at(999), patience));
        outages.began(Source::HuggingFace, at(1000));
        outages.began(Source::HuggingFace, at(9000));
        assert!(!outages.lasts(Source::HuggingFace, at(9000), patience), "nobody knows of the time between");
    }
}

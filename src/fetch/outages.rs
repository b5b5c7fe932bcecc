//! Which hubs cannot be reached, and since when: what one content learnt spares the others the wait.
//!
//! Invariants: an outage ends with the first answer, whatever it says; a host of the web speaks for itself alone. Its
//! lock is a leaf.

use crate::base::RepoId;
use crate::hub::Origin;
use crate::tree::Source;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// An outage in which nobody asked for this long is another one: whether it lasted meanwhile, nobody knows. Longer than any
/// pause between two tries together with the wait for an answer.
const UNASKED_MAX: Duration = Duration::from_secs(60);

/// Most hosts that are remembered; who is forgotten is waited for once more.
const HOSTS_MAX: usize = 256;

/// What is down as a whole: a hub, or one host of the web.
pub(super) type Host = (Source, Option<RepoId>);

pub(super) fn host_of(origin: &Origin) -> Host {
    (origin.source, (origin.source == Source::Web).then(|| origin.repo.clone()))
}

/// One entry per host at most, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Outages {
    known: Mutex<Vec<Outage>>,
}

#[derive(Debug)]
struct Outage {
    host: Host,
    since: Instant,
    asked: Instant,
}

impl Outages {
    /// Its hub could not be reached.
    pub fn began(&self, origin: &Origin, now: Instant) {
        let host = host_of(origin);
        let mut known = self.known.lock();
        known.retain(|outage| now.saturating_duration_since(outage.asked) < UNASKED_MAX);
        match known.iter_mut().find(|outage| outage.host == host) {
            Some(outage) => outage.asked = now,
            None => {
                if known.len() == HOSTS_MAX {
                    known.remove(0);
                }
                known.push(Outage { host, since: now, asked: now });
            }
        }
    }

    /// It answered.
    pub fn ended(&self, origin: &Origin) {
        let host = host_of(origin);
        self.known.lock().retain(|outage| outage.host != host);
    }

    /// Whether the hub has been out of reach for so long that a wait is in vain.
    pub fn lasts(&self, origin: &Origin, now: Instant, patience: Duration) -> bool {
        let host = host_of(origin);
        let known = self.known.lock();
        known.iter().any(|outage| outage.host == host && now.saturating_duration_since(outage.since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: Source, repo: &str) -> Origin {
        Origin {
            source,
            repo: RepoId::new(repo).expect("a name"),
            commit: crate::base::Revision::new("main").expect("a revision"),
            path: crate::base::RelativePath::new("a.safetensors").expect("a path"),
        }
    }

    #[test]
    fn a_host_of_the_web_speaks_for_itself_and_few_are_remembered() {
        let (outages, now, at_once) = (Outages::default(), Instant::now(), Duration::ZERO);
        let host = |number: usize| origin(Source::Web, &format!("https/{number}.example"));
        outages.began(&host(0), now);
        assert!(outages.lasts(&host(0), now, at_once));
        assert!(!outages.lasts(&host(1), now, at_once));
        outages.began(&origin(Source::HuggingFace, "org/one"), now);
        assert!(outages.lasts(&origin(Source::HuggingFace, "org/two"), now, at_once), "a hub is one host");
        (0..HOSTS_MAX + 9).for_each(|number| outages.began(&host(number), now));
        assert_eq!(outages.known.lock().len(), HOSTS_MAX);
        assert!(outages.lasts(&host(HOSTS_MAX + 8), now, at_once) && !outages.lasts(&host(0), now, at_once));
    }

    #[test]
    fn an_outage_is_counted_from_its_first_failure_to_the_next_answer() {
        let (outages, start, patience) = (Outages::default(), Instant::now(), Duration::from_secs(120));
        let at = |seconds| start + Duration::from_secs(seconds);
        let (face, civitai) = (origin(Source::HuggingFace, "org/name"), origin(Source::Civitai, "12"));
        outages.began(&face, start);
        outages.began(&face, at(50));
        outages.began(&face, at(100));
        assert!(!outages.lasts(&face, at(119), patience));
        assert!(outages.lasts(&face, at(120), patience));
        assert!(!outages.lasts(&civitai, at(120), patience));
        outages.ended(&face);
        assert!(!outages.lasts(&face, at(999), patience));
        outages.began(&face, at(1000));
        outages.began(&face, at(9000));
        assert!(!outages.lasts(&face, at(9000), patience), "nobody knows of the time between");
    }
}

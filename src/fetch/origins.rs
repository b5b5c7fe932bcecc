//! The places one content can be had from, and how each of them behaves.
//!
//! Invariants: a place that lied about the content is never asked again while the state lives; a place that refuses is
//! asked again only after somebody tried anew; pauses grow, are jittered and have an end. Not here: what a failure
//! means (`HubError::response`).

use crate::hub::{HubError, Origin, Response};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// First pause after a passing failure; doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause of our own: an outage that ends is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Longest pause that a hub can ask for; theirs are counted in minutes.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Answers that make no sense, in a row, before a place counts as refusing.
const BRIEF_TRIES: u32 = 3;

#[derive(Debug)]
struct Place {
    origin: Origin,
    resting_until: Option<Instant>,
    /// The hub asked for a pause until then.
    asked_until: Option<Instant>,
    /// Passing failures since the last byte from there.
    failures: u32,
    /// Senseless answers since the last byte from there.
    senseless: u32,
    refused: Option<HubError>,
    lied: bool,
    /// Some of the bytes of this partial came from there.
    gave: bool,
}

impl Place {
    fn rests_until(&self) -> Option<Instant> {
        self.resting_until.max(self.asked_until)
    }
}

/// A place that may be asked now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awake<'a> {
    pub index: usize,
    pub origin: &'a Origin,
    /// In a row.
    pub failures: u32,
}

/// What to do for the next request.
#[derive(Debug)]
pub(super) enum Choice {
    Use(usize, Origin),
    /// All places that are left rest; the first until then.
    Rest(Instant),
    /// None is left; what the last one said.
    Nothing(Option<HubError>),
}

#[derive(Debug)]
pub(super) struct Origins {
    places: Vec<Place>,
    /// After bytes of several places gave a wrong whole, one place alone delivers it.
    alone: bool,
}

impl Origins {
    pub fn new(origins: &[Origin]) -> Self {
        let mut made = Self { places: Vec::new(), alone: false };
        made.add(origins);
        made
    }

    /// Places that are known already stay as they are.
    pub fn add(&mut self, origins: &[Origin]) {
        for origin in origins {
            if !self.places.iter().any(|place| place.origin == *origin) {
                self.places.push(Place {
                    origin: origin.clone(),
                    resting_until: None,
                    asked_until: None,
                    failures: 0,
                    senseless: 0,
                    refused: None,
                    lied: false,
                    gave: false,
                });
            }
        }
    }

    /// `pick` says which of the places that may be asked now, in their order.
    pub fn choose(&self, now: Instant, pick: impl FnOnce(&[Awake<'_>]) -> Option<usize>) -> Choice {
        let honest = self.places.iter().enumerate().filter(|(_, place)| !place.lied);
        let honest = honest.take(if self.alone { 1 } else { usize::MAX });
        let willing: Vec<(usize, &Place)> = honest.filter(|(_, place)| place.refused.is_none()).collect();
        let awake = willing.iter().filter(|(_, place)| place.rests_until().is_none_or(|until| until <= now));
        let awake =
            awake.map(|(index, place)| Awake { index: *index, origin: &place.origin, failures: place.failures });
        let awake: Vec<Awake<'_>> = awake.collect();
        if let Some(Awake { index, origin, .. }) = pick(&awake).and_then(|picked| awake.get(picked)) {
            return Choice::Use(*index, (*origin).clone());
        }
        match willing.iter().filter_map(|(_, place)| place.rests_until()).min() {
            Some(until) => Choice::Rest(until),
            None => Choice::Nothing(self.places.iter().rev().find_map(|place| place.refused.clone())),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.places.iter().map(|place| &place.origin)
    }

    /// Whether each place refused, lied, failed so often in a row, or asks for a pause beyond `until`.
    pub fn all_fail(&self, failures_min: u32, until: Instant) -> bool {
        self.places.iter().all(|place| {
            let failing = place.failures >= failures_min || place.asked_until > Some(until);
            place.lied || place.refused.is_some() || failing
        })
    }

    pub fn origin(&self, index: usize) -> &Origin {
        &self.places[index].origin
    }

    /// Bytes have come from there.
    pub fn delivered(&mut self, index: usize) {
        let place = &mut self.places[index];
        (place.gave, place.failures, place.senseless, place.resting_until) = (true, 0, 0, None);
    }

    /// Some bytes have come from there, too few to tell how it behaves.
    pub fn gave(&mut self, index: usize) {
        self.places[index].gave = true;
    }

    /// Notes a failure; `false` when nothing will help.
    pub fn failed(&mut self, index: usize, error: &HubError, now: Instant) -> bool {
        let place = &mut self.places[index];
        let response = error.response();
        match response {
            Response::Fail => return false,
            Response::NextOrigin => place.refused = Some(error.clone()),
            Response::RetryBriefly => {
                place.senseless += 1;
                if place.senseless >= BRIEF_TRIES {
                    place.refused = Some(error.clone());
                }
            }
            Response::Retry { .. } => {}
        }
        // Streams that fail together are one failure.
        let resting = place.rests_until().is_some_and(|until| until > now);
        if !resting {
            place.failures = place.failures.saturating_add(1);
        }
        let asked = match response {
            Response::Retry { after } => after.unwrap_or_default().min(RETRY_AFTER_MAX),
            _ => Duration::ZERO,
        };
        if asked > Duration::ZERO {
            place.asked_until = place.asked_until.max(Some(now + asked + jittered(PAUSE_MIN)));
        } else if !resting {
            place.resting_until = Some(now + jittered(pause(place.failures)));
        }
        true
    }

    /// Whether every place that is left belongs to a hub that is down, and none only asked for a pause.
    pub fn unreached(&self, down: impl Fn(&Origin) -> bool) -> bool {
        let left = || self.places.iter().filter(|place| !place.lied && place.refused.is_none());
        left().next().is_some() && left().all(|place| place.failures > 0 && down(&place.origin))
    }

    /// Somebody tries anew: places that refused or could not be reached are asked again.
    pub fn forgive(&mut self) {
        for place in &mut self.places {
            (place.refused, place.senseless, place.resting_until) = (None, 0, None);
        }
    }

    /// The whole was wrong. Says whether there is a place that may do better.
    pub fn blame(&mut self) -> bool {
        let givers: Vec<usize> = (0..self.places.len()).filter(|index| self.places[*index].gave).collect();
        match givers.as_slice() {
            [liar] => self.places[*liar].lied = true,
            // Nobody knows which one it was: from now on only one at a time.
            _ if !self.alone => self.alone = true,
            _ => self.places.iter_mut().for_each(|place| place.lied |= place.gave),
        }
        self.places.iter_mut().for_each(|place| place.gave = false);
        self.any_honest()
    }

    /// Whether there is a place that did not lie.
    pub fn any_honest(&self) -> bool {
        self.places.iter().any(|place| !place.lied)
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

/// Between half of a pause and the whole, so that many readers do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8);
    pause / 2 + pause.mul_f64((random >> 11) as f64 / (1u64 << 54) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RelativePath, RepoId, Revision};
    use crate::tree::Source;

    fn origin(repo: &str) -> Origin {
        Origin {
            source: Source::HuggingFace,
            repo: RepoId::new(repo).expect("well formed"),
            commit: Revision::new(&"0".repeat(40)).expect("well formed"),
            path: RelativePath::new("x.gguf").expect("well formed"),
        }
    }

    /// The first that may be asked.
    fn choose(origins: &Origins, now: Instant) -> Choice {
        origins.choose(now, |awake| (!awake.is_empty()).then_some(0))
    }

    fn used(origins: &Origins, now: Instant) -> Option<usize> {
        match choose(origins, now) {
            Choice::Use(index, _) => Some(index),
            _ => None,
        }
    }

    fn unreachable() -> HubError {
        HubError::Unreachable { host: "h".to_owned(), cause: "refused".to_owned() }
    }

    fn senseless() -> HubError {
        HubError::Page { host: "h".to_owned(), subject: "x".to_owned(), content_type: "text/html".to_owned() }
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        assert_eq!(pause(1), PAUSE_MIN);
        assert_eq!(pause(2), 2 * PAUSE_MIN);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
        for _ in 0..100 {
            assert!((PAUSE_MAX / 2..=PAUSE_MAX).contains(&jittered(PAUSE_MAX)));
        }
    }

    #[test]
    fn a_passing_failure_rests_and_the_next_place_goes_on() {
        let now = Instant::now();
        let mut origins = Origins::new(&[origin("a/a"), origin("b/b"), origin("a/a")]);
        assert_eq!(used(&origins, now), Some(0));
        assert!(origins.failed(0, &unreachable(), now));
        assert_eq!(used(&origins, now), Some(1));
        assert!(origins.failed(1, &unreachable(), now));
        assert!(matches!(choose(&origins, now), Choice::Rest(until) if until > now && until <= now + PAUSE_MIN));
        assert_eq!(used(&origins, now + PAUSE_MIN), Some(0));
    }

    #[test]
    fn a_hubs_own_pause_is_honoured_within_reason() {
        let now = Instant::now();
        for (asked_s, least_s, most_s) in [(30, 30, 31), (u64::MAX / 2, 600, 601)] {
            let mut origins = Origins::new(&[origin("a/a")]);
            let retry_after = Some(Duration::from_secs(asked_s));
            origins.failed(0, &HubError::RateLimited { host: "h".to_owned(), retry_after }, now);
            let Choice::Rest(until) = choose(&origins, now) else { panic!("it rests") };
            let pause = until - now;
            assert!((Duration::from_secs(least_s)..=Duration::from_secs(most_s)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn senseless_answers_are_tried_a_few_times_and_refusals_not() {
        let now = Instant::now();
        let mut origins = Origins::new(&[origin("a/a")]);
        for _ in 0..BRIEF_TRIES {
            assert!(!matches!(choose(&origins, now), Choice::Nothing(_)));
            origins.failed(0, &senseless(), now);
        }
        assert!(matches!(choose(&origins, now), Choice::Nothing(Some(HubError::Page { .. }))));
        origins.forgive();
        assert!(!matches!(choose(&origins, now), Choice::Nothing(_)));
        origins.failed(0, &HubError::BadToken { host: "h".to_owned() }, now);
        assert!(matches!(choose(&origins, now), Choice::Nothing(Some(HubError::BadToken { .. }))));
        assert!(!origins.failed(0, &HubError::Offline, now));
    }

    #[test]
    fn whoever_lied_alone_is_not_asked_again() {
        let now = Instant::now();
        let mut origins = Origins::new(&[origin("a/a"), origin("b/b")]);
        origins.delivered(0);
        assert!(origins.blame());
        assert_eq!(used(&origins, now), Some(1));
        origins.delivered(1);
        assert!(!origins.blame());
        assert!(matches!(choose(&origins, now), Choice::Nothing(None)));
    }

    #[test]
    fn of_several_givers_each_is_tried_alone() {
        let now = Instant::now();
        let mut origins = Origins::new(&[origin("a/a"), origin("b/b")]);
        origins.delivered(0);
        origins.delivered(1);
        assert!(origins.blame());
        origins.failed(0, &unreachable(), now);
        assert_eq!(used(&origins, now), None, "no other place takes over");
        origins.delivered(0);
        assert!(origins.blame());
        assert_eq!(used(&origins, now), Some(1));
    }
}

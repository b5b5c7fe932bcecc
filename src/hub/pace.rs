//! How fast one hub may be asked: a budget that refills, and the pause it asked for itself.
//!
//! Invariants: everything that calls a hub shares one `Pace`; nobody waits longer than `WAIT_MAX` here: a longer pause
//! is told to the caller, who knows better what to do meanwhile. Its lock is held for arithmetic only.
//! Not here: pauses after failures (`fetch`).

use super::HubError;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Longest wait for a turn: a user does not notice it, and a reader would rather try another place.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What a hub allows, or what is polite where it does not say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Budget {
    /// Requests that may come at once.
    pub burst: u32,
    /// Requests that come back in each second.
    pub per_second: f64,
}

/// Anonymous callers have 3,000 file requests in five minutes.
pub(super) const HUGGING_FACE_BUDGET: Budget = Budget { burst: 3000, per_second: 10.0 };
/// Nothing is published; a firewall in front stops callers that look like crawlers.
pub(super) const CIVITAI_BUDGET: Budget = Budget { burst: 100, per_second: 5.0 };
/// Nothing is published; its own client opens up to sixteen connections.
pub(super) const MODELSCOPE_BUDGET: Budget = Budget { burst: 200, per_second: 10.0 };
/// Many hosts share this one; each is asked once per file and once per range.
pub(super) const WEB_BUDGET: Budget = Budget { burst: 1000, per_second: 50.0 };

pub(super) struct Pace {
    budget: Budget,
    state: Mutex<State>,
}

struct State {
    left: f64,
    counted: Instant,
    /// The hub asked for silence until then.
    quiet_until: Option<Instant>,
}

impl Pace {
    pub fn new(budget: Budget) -> Self {
        let state = State { left: f64::from(budget.burst), counted: Instant::now(), quiet_until: None };
        Self { budget, state: Mutex::new(state) }
    }

    /// Waits for a turn, or says how long that would take.
    pub async fn turn(&self, host: &str) -> Result<(), HubError> {
        let wait = self.state.lock().take(self.budget, Instant::now());
        match wait {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(wait) => Err(HubError::RateLimited { host: host.to_owned(), retry_after: Some(wait) }),
        }
    }

    /// The hub asked to come back later.
    pub fn quiet(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state.lock();
        state.quiet_until = state.quiet_until.max(Some(until));
    }
}

impl State {
    /// Takes one turn: how long to wait for it, or the wait that is too long.
    fn take(&mut self, budget: Budget, now: Instant) -> Result<Duration, Duration> {
        let quiet = self.quiet_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if quiet > WAIT_MAX {
            return Err(quiet);
        }
        let came_back = now.saturating_duration_since(self.counted).as_secs_f64() * budget.per_second;
        (self.left, self.counted) = ((self.left + came_back).min(f64::from(budget.burst)), now);
        let missing_s = (1.0 - self.left).max(0.0) / budget.per_second;
        let wait = Duration::from_secs_f64(missing_s).max(quiet);
        if wait > WAIT_MAX {
            return Err(wait);
        }
        self.left -= 1.0;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { burst: 3, per_second: 2.0 };

    fn state(now: Instant) -> State {
        State { left: f64::from(BUDGET.burst), counted: now, quiet_until: None }
    }

    #[test]
    fn a_burst_passes_and_then_turns_come_back() {
        let now = Instant::now();
        let mut state = state(now);
        let waits: Vec<Result<u128, u128>> = (0..9)
            .map(|_| state.take(BUDGET, now).map(|wait| wait.as_millis()).map_err(|wait| wait.as_millis()))
            .collect();
        assert_eq!(waits[..7], [Ok(0), Ok(0), Ok(0), Ok(500), Ok(1000), Ok(1500), Ok(2000)]);
        assert_eq!(waits[7..], [Err(2500), Err(2500)], "nobody queues for longer, and who is refused takes no turn");
        let later = now + Duration::from_secs(60);
        assert_eq!(state.take(BUDGET, later), Ok(Duration::ZERO));
        assert!(state.left <= 2.0, "a long silence saves up no more than a burst");
    }

    #[test]
    fn what_the_hub_asked_for_is_kept() {
        let now = Instant::now();
        let mut state = state(now);
        state.quiet_until = Some(now + Duration::from_secs(30));
        assert_eq!(state.take(BUDGET, now), Err(Duration::from_secs(30)));
        assert_eq!(state.take(BUDGET, now + Duration::from_secs(29)), Ok(Duration::from_secs(1)));
        assert_eq!(state.take(BUDGET, now + Duration::from_secs(31)), Ok(Duration::ZERO));
    }
}

//! One request after the other to hubs: spaced, stopped at once, given up where it is of no use to go on.
//!
//! Invariants: between the end of a request and the start of the next lies at least `spacing`; a hub that asks to come
//! back later is left alone for that long; a hub that fails `FAILURES_MAX` times in a row, or that cannot be reached, is not
//! asked again in this run. A repository that is closed to this account says nothing about the next. Not here: which requests (`enrich`).

use super::LibraryError;
use super::mounted::machinery_fault;
use crate::base::Fault;
use crate::hub::{HubError, HubOptions, HubSet};
use crate::store::Cancel;
use crate::tree::Source;
use futures_util::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How soon a request to stop is noticed.
const POLL: Duration = Duration::from_millis(20);
/// Longest pause that a hub is granted before the rest is left for another run.
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// Pauses for one request: a hub that asks for another one each time has no time for us.
const PAUSES_MAX: u32 = 3;
/// Failures in a row after which a hub is believed to be out of order.
const FAILURES_MAX: u32 = 3;

/// What became of one request.
pub(super) enum Call<T> {
    Answered(T),
    /// This one; the next may do better.
    Failed,
    /// Nothing more is asked of this hub.
    GivenUp,
    /// By the user.
    Stopped,
}

pub(super) struct Caller {
    hubs: HubSet,
    runtime: Runtime,
    spacing: Duration,
    cancel: Cancel,
    ended: Option<Instant>,
    request_count: usize,
    failures: Vec<(Source, Fault)>,
    failures_in_row: HashMap<&'static str, u32>,
    given_up: HashSet<&'static str>,
}

impl Caller {
    pub fn new(options: HubOptions, spacing: Duration, cancel: Cancel) -> Result<Self, LibraryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| machinery_fault(&error))?;
        Ok(Self {
            hubs: HubSet::new(options),
            runtime,
            spacing,
            cancel,
            ended: None,
            request_count: 0,
            failures: Vec::new(),
            failures_in_row: HashMap::new(),
            given_up: HashSet::new(),
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    pub fn request_count(&self) -> usize {
        self.request_count
    }

    /// Waits for nobody: a name service that does not answer would hold up its thread for long.
    pub fn into_failures(self) -> Vec<(Source, Fault)> {
        self.runtime.shutdown_background();
        self.failures
    }

    pub fn cards_max(&self, source: Source) -> usize {
        self.hubs.cards_max(source).unwrap_or(1)
    }

    /// One request, asked again only where the hub asks for a pause first.
    pub fn call<T>(
        &mut self,
        source: Source,
        ask: impl FnOnce(HubSet) -> BoxFuture<'static, Result<T, HubError>> + Clone,
    ) -> Call<T> {
        if self.given_up.contains(source.as_str()) {
            return Call::GivenUp;
        }
        let mut pauses = 0;
        loop {
            let due = self.ended.map_or(Duration::ZERO, |ended| self.spacing.saturating_sub(ended.elapsed()));
            if !self.pause(due) {
                return Call::Stopped;
            }
            let Some(answer) = self.ask_once(ask.clone()(self.hubs.clone())) else { return Call::Stopped };
            let error = match answer {
                Ok(value) => {
                    self.failures_in_row.remove(source.as_str());
                    return Call::Answered(value);
                }
                Err(error) => error,
            };
            if let HubError::RateLimited { retry_after: Some(wait), .. } = &error
                && *wait <= PAUSE_MAX
                && pauses < PAUSES_MAX
            {
                tracing::info!("{error}; waiting {} s", wait.as_secs());
                pauses += 1;
                if !self.pause(*wait) {
                    return Call::Stopped;
                }
                continue;
            }
            return self.failed(source, &error);
        }
    }

    fn failed<T>(&mut self, source: Source, error: &HubError) -> Call<T> {
        self.failures.push((source, error.fault()));
        let in_row = self.failures_in_row.entry(source.as_str()).or_default();
        let goes_on = match concerns(error) {
            Concern::Hub => false,
            Concern::Repository => {
                *in_row = 0;
                true
            }
            Concern::Moment => {
                *in_row += 1;
                *in_row < FAILURES_MAX
            }
        };
        if goes_on {
            return Call::Failed;
        }
        self.given_up.insert(source.as_str());
        Call::GivenUp
    }

    /// Nothing when it was stopped meanwhile.
    fn ask_once<T>(&mut self, question: BoxFuture<'static, Result<T, HubError>>) -> Option<Result<T, HubError>> {
        self.request_count += 1;
        let cancel = self.cancel.clone();
        let stopped = async move {
            while !cancel.is_cancelled() {
                tokio::time::sleep(POLL).await;
            }
        };
        let answer = self.runtime.block_on(async {
            tokio::select! {
                answer = question => Some(answer),
                () = stopped => None,
            }
        });
        self.ended = Some(Instant::now());
        answer
    }

    /// Says whether to go on.
    fn pause(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        while !self.cancel.is_cancelled() {
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(POLL));
        }
        false
    }
}

/// Which other requests a failure speaks of.
enum Concern {
    /// Every one would fail in the same way.
    Hub,
    /// The hub is well; it does not give this repository.
    Repository,
    /// Any may; many in a row tell of a hub that is out of order.
    Moment,
}

fn concerns(error: &HubError) -> Concern {
    match error {
        HubError::Offline
        | HubError::NoHub { .. }
        | HubError::NoSearch { .. }
        | HubError::Endpoint { .. }
        | HubError::Unreachable { .. }
        | HubError::RateLimited { .. }
        | HubError::BadToken { .. }
        | HubError::RegionBlocked { .. } => Concern::Hub,
        HubError::RepoNotFound { .. }
        | HubError::RevisionNotFound { .. }
        | HubError::EntryNotFound { .. }
        | HubError::Gated { .. }
        | HubError::Forbidden { .. }
        | HubError::Disabled { .. }
        | HubError::LoginRequired { .. }
        | HubError::EarlyAccess { .. }
        | HubError::Archived { .. }
        | HubError::Changed { .. }
        | HubError::OverLimit { .. } => Concern::Repository,
        HubError::TimedOut { .. }
        | HubError::Cut { .. }
        | HubError::Status { .. }
        | HubError::Signature { .. }
        | HubError::WrongRange { .. }
        | HubError::Page { .. }
        | HubError::Compressed { .. }
        | HubError::Malformed { .. }
        | HubError::Redirect { .. } => Concern::Moment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_hub_say_nothing_about_another() {
        let mut caller = Caller::new(HubOptions::default(), Duration::ZERO, Cancel::default()).expect("a caller");
        let slow = HubError::TimedOut { host: "hub.example".to_owned() };
        for (source, given_up) in [
            (Source::Civitai, false),
            (Source::Civitai, false),
            (Source::HuggingFace, false),
            (Source::Civitai, true),
            (Source::HuggingFace, false),
            (Source::HuggingFace, true),
        ] {
            let call = caller.failed::<()>(source, &slow);
            assert_eq!(matches!(call, Call::GivenUp), given_up, "{source:?}");
        }
        assert_eq!(caller.into_failures().len(), 6);
    }

    #[test]
    fn repositories_that_are_closed_do_not_stand_in_the_way() {
        let mut caller = Caller::new(HubOptions::default(), Duration::ZERO, Cancel::default()).expect("a caller");
        let (host, subject) = ("hub.example".to_owned(), "org/closed".to_owned());
        let closed = HubError::Gated { host: host.clone(), subject, message: String::new(), with_token: false };
        let refused = HubError::BadToken { host };
        for (error, given_up) in std::iter::repeat_n((&closed, false), 9).chain([(&refused, true)]) {
            let call = caller.failed::<()>(Source::HuggingFace, error);
            assert_eq!(matches!(call, Call::GivenUp), given_up, "{error}");
        }
    }

    #[test]
    fn the_longest_pause_ends_at_a_request_to_stop() {
        let cancel = Cancel::default();
        cancel.cancel();
        let caller = Caller::new(HubOptions::default(), Duration::MAX, cancel).expect("a caller");
        assert!(!caller.pause(Duration::MAX));
    }
}

//! One request after the other to hubs: spaced, stopped at once, given up where it is of no use to go on.
//!
//! Invariants: between the end of a request and the start of the next lies at least `spacing`; a hub that asks to come
//! back later is left alone for that long; a hub that fails `FAILURES_MAX` times in a row, or that cannot be reached, is not
//! asked again in this run. Not here: which requests (`enrich`).

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
        *in_row += 1;
        if is_of_the_hub(error) || *in_row == FAILURES_MAX {
            self.given_up.insert(source.as_str());
            return Call::GivenUp;
        }
        Call::Failed
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
        let until = Instant::now() + wait;
        while !self.cancel.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(POLL));
        }
        false
    }
}

/// Whether every other request would fail in the same way.
fn is_of_the_hub(error: &HubError) -> bool {
    matches!(
        error,
        HubError::Offline
            | HubError::NoHub { .. }
            | HubError::Endpoint { .. }
            | HubError::Unreachable { .. }
            | HubError::RateLimited { .. }
            | HubError::BadToken { .. }
            | HubError::RegionBlocked { .. }
    )
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
}

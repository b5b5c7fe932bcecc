//! The eye on the requests of one content: how each of them gets on, and which are given up for another.
//!
//! Invariants: one watcher for each content, for as long as it has requests; it keeps no content alive; it looks under the
//! content's lock and touches nothing else. Not here: what is too slow (`plan::Stragglers`).

use super::file::{File, State};
use super::sources::Sources;
use crate::hub::{HubError, Origin};
use crate::plan::{Purpose, Stage, Stragglers, Stream, Width};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Time between two looks: a fraction of what counts as slow, and no work worth naming.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How far a request has come: written by its task, read by the watcher.
#[derive(Debug)]
pub(super) struct Flow {
    started: Instant,
    received_bytes: AtomicU64,
    answered: OnceLock<Instant>,
    /// It waits for the network, and for nothing of ours.
    waiting: AtomicBool,
}

impl Flow {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            received_bytes: AtomicU64::new(0),
            answered: OnceLock::new(),
            waiting: AtomicBool::new(true),
        }
    }

    pub fn answered(&self) {
        self.answered.get_or_init(Instant::now);
        self.waiting.store(false, Ordering::Relaxed);
    }

    pub fn waits(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    pub fn arrived(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// How fast its place was.
    pub fn tell(&self, sources: &Sources, origin: &Origin) {
        let Some(answered) = self.answered.get() else { return };
        let (first_byte, now) = (answered.saturating_duration_since(self.started), Instant::now());
        let time = now.saturating_duration_since(*answered);
        sources.measured(origin, first_byte, self.received_bytes(), time, now);
    }

    fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    fn stage(&self) -> Stage {
        match (self.waiting.load(Ordering::Relaxed), self.answered.get().is_some()) {
            (false, _) => Stage::Held,
            (true, false) => Stage::Opening,
            (true, true) => Stage::Receiving,
        }
    }
}

/// What comes after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Look,
    /// More may run than before, or fewer.
    Plan,
    End,
}

/// What is known of the requests of one content.
#[derive(Debug)]
pub(super) struct Watch {
    stragglers: Stragglers,
    width: Width,
    looking: bool,
    looked_at: Instant,
}

impl Watch {
    /// Of a content that may have so many streams in the background.
    pub fn new(streams_max: usize) -> Self {
        Self {
            stragglers: Stragglers::new(),
            width: Width::new(streams_max),
            looking: false,
            looked_at: Instant::now(),
        }
    }

    /// Requests that may run in the background.
    pub fn streams(&self) -> usize {
        self.width.count()
    }

    /// A hub said no: fewer streams, if they are what it has too much of.
    pub fn refused(&mut self, error: &HubError) {
        if is_overload(error) {
            self.width.refused();
        }
    }

    /// A request brought everything.
    pub fn ended(&mut self, flow: &Flow) {
        self.stragglers.ended(flow.received_bytes(), millis(flow.started.elapsed()));
    }
}

impl File {
    /// There are requests: they are watched until the last is gone.
    pub fn watch(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.watch.looking, true) {
            return;
        }
        state.watch.stragglers.begin();
        state.watch.looked_at = Instant::now();
        let file = Arc::downgrade(self);
        let looks = async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(file) = file.upgrade() else { return };
                match file.look_at_requests() {
                    Next::Look => {}
                    Next::Plan => file.pump(),
                    Next::End => return,
                }
            }
        };
        drop(self.shared.runtime.spawn(looks));
    }

    /// Gives up the requests that hang behind. Their ranges are planned again when they are gone, what is waited for first.
    fn look_at_requests(&self) -> Next {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.requests.is_empty() {
            state.watch.looking = false;
            return Next::End;
        }
        let mut streams = Vec::with_capacity(state.requests.len());
        for request in &state.requests {
            let received_bytes = request.flow.received_bytes();
            let all_bytes = request.place.end.saturating_sub(request.start);
            streams.push(Stream {
                id: request.id,
                stage: request.flow.stage(),
                received_bytes,
                left_bytes: all_bytes.saturating_sub(received_bytes),
                again_bytes: request.place.end.saturating_sub(request.place.head),
            });
        }
        let now = Instant::now();
        let elapsed_ms = millis(now - std::mem::replace(&mut state.watch.looked_at, now));
        let total_bytes = self.received_bytes();
        for id in state.watch.stragglers.look(elapsed_ms, total_bytes, &streams) {
            let request = state.request(id).expect("it was looked at under the same lock");
            request.stop.notify_one();
            tracing::debug!(blob = %self.blob, file = %self.name, from = request.place.head, "a slow stream is replaced");
            let (flow, origin) = (Arc::clone(&request.flow), request.origin);
            flow.tell(&self.shared.sources, state.origins.origin(origin));
        }
        let background = state.requests.iter().filter(|request| request.purpose != Purpose::Demand).count();
        if state.watch.width.look(elapsed_ms, total_bytes, background) { Next::Plan } else { Next::Look }
    }
}

/// Whether fewer requests would have been answered.
fn is_overload(error: &HubError) -> bool {
    matches!(error, HubError::RateLimited { .. } | HubError::Status { status: 429 | 503, .. })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_is_what_the_request_waits_for() {
        let flow = Flow::new();
        assert_eq!(flow.stage(), Stage::Opening);
        flow.answered();
        assert_eq!(flow.stage(), Stage::Held);
        flow.waits();
        assert_eq!(flow.stage(), Stage::Receiving);
        flow.arrived(5);
        assert_eq!((flow.stage(), flow.received_bytes()), (Stage::Held, 5));
    }
}

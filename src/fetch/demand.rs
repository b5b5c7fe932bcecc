//! Reads: what is here at once, and the waiting for what is not.
//!
//! Invariants: a demand is registered before anything is planned for it and is gone when its read is, however that
//! ends; a read returns the whole range or a failure, never less.

use super::error::FetchError;
use super::file::{Demand, File, Phase};
use crate::base::ByteRange;
use crate::store::StoreError;
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// A demand in the state of its content.
struct Waiting<'a> {
    file: &'a Arc<File>,
    id: u64,
    since: Instant,
    /// Failures before this one are not this read's.
    failures: u64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.file.state.lock();
        state.demands.retain(|demand| demand.id != self.id);
        // A request that only this read wanted ends; after an answer there is none.
        if !self.answered {
            state.prune(self.file.geometry);
        }
    }
}

enum Look {
    Here,
    Failed(FetchError),
    Until(Instant),
}

impl File {
    /// The failure of a content that every source lied about.
    pub fn condemned(&self) -> Option<FetchError> {
        let state = self.state.lock();
        if state.phase == Phase::Condemned { state.failure.clone() } else { None }
    }

    pub fn read_if_present(&self, range: ByteRange) -> Option<Result<Bytes, FetchError>> {
        let partial = {
            let state = self.state.lock();
            if !state.present.contains(&range) {
                return None;
            }
            Arc::clone(&state.partial)
        };
        let mut buffer = vec![0; usize::try_from(range.len()).expect("a read fits in memory")];
        match partial.read_at(range.start(), &mut buffer) {
            Ok(_) => Some(Ok(buffer.into())),
            // A chunk was found damaged just now.
            Err(StoreError::NotPresent { .. }) => {
                self.state.lock().reload();
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Notes a read that found everything here, so that read-ahead stays ahead.
    pub fn note_hit(self: &Arc<Self>, range: ByteRange) {
        let hungry = {
            let mut state = self.state.lock();
            if state.phase != Phase::Filling {
                return;
            }
            let fill = state.fill;
            if state.is_quiet() {
                self.touch();
            }
            self.note(&mut state, range);
            state.fill != fill || !state.trackers.satisfied_by(&state.present, self.geometry, &state.layout.tensors)
        };
        if hungry {
            self.pump();
        }
    }

    /// `range` lies in the file.
    pub async fn read(self: &Arc<Self>, range: ByteRange) -> Result<Bytes, FetchError> {
        loop {
            if let Some(error) = self.condemned() {
                return Err(error);
            }
            if self.state.lock().present.contains(&range) {
                self.note_hit(range);
            } else {
                self.wait_for(range).await?;
            }
            let file = Arc::clone(self);
            let read = self.shared.runtime.spawn_blocking(move || file.read_if_present(range));
            if let Some(bytes) = read.await.map_err(|_| self.broken("its reader stopped"))? {
                return bytes;
            }
        }
    }

    async fn wait_for(self: &Arc<Self>, range: ByteRange) -> Result<(), FetchError> {
        let mut waiting = self.register(range)?;
        self.pump();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let deadline = match self.look(&waiting, range) {
                Look::Here => {
                    waiting.answered = true;
                    return Ok(());
                }
                Look::Failed(error) => return Err(error),
                Look::Until(deadline) => deadline,
            };
            // Whether it was the change or the time, the next look tells.
            let _ = tokio::time::timeout_at(deadline.into(), changed).await;
        }
    }

    fn register(self: &Arc<Self>, range: ByteRange) -> Result<Waiting<'_>, FetchError> {
        let mut state = self.state.lock();
        self.revive(&mut state);
        self.note(&mut state, range);
        let id = state.new_id();
        let range = self.geometry.cover(range).expect("the range lies in the file");
        state.demands.push(Demand { id, range });
        Ok(Waiting { file: self, id, since: Instant::now(), failures: state.failures, answered: false })
    }

    fn look(self: &Arc<Self>, waiting: &Waiting<'_>, range: ByteRange) -> Look {
        let mut state = self.state.lock();
        if state.present.contains(&range) {
            return Look::Here;
        }
        if state.phase == Phase::Closed {
            return Look::Failed(FetchError::ShutDown { name: self.name.to_string() });
        }
        if state.failures > waiting.failures
            && let Some(error) = &state.failure
        {
            return Look::Failed(error.clone());
        }
        let deadline = waiting.since.max(self.last_progress()) + self.shared.options.read_timeout;
        if Instant::now() < deadline {
            return Look::Until(deadline);
        }
        let error = self.timed_out(&state);
        let deed = self.halt(&mut state, error.clone());
        drop(state);
        deed.into_iter().for_each(|deed| self.perform(deed));
        Look::Failed(error)
    }
}

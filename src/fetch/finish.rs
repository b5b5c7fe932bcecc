//! The end of a download: hashing, publishing, and what happens when the bytes are wrong.
//!
//! Everything here blocks on the disk and runs on blocking threads. Invariants: a content is `Done` only after the
//! ledger has recorded it; bytes that do not hash to what was published are never read again through this state.

use super::error::FetchError;
use super::file::{File, Fill, Phase};
use super::transfer::HASH_STEP_BYTES;
use crate::base::RangeSet;
use crate::store::{Partial, PartialKey, StoreError, Verified};
use std::sync::Arc;
use std::time::Duration;

/// Contents that are hashed at once: each has 8 MiB of buffers and up to four threads, and the threads that hash are those that
/// write and answer reads. More than a few only wait for the same processors.
pub(super) const HASHING_MAX: usize = 3;
/// A disk that gives back other bytes than were written is not written to for ever.
const DAMAGE_ROUNDS_MAX: u32 = 3;
/// Whoever looked a content up just before it was recorded, and opens it now, still finds its state.
const DONE_LINGER: Duration = Duration::from_secs(2);

impl File {
    /// Does work that hashes, on a thread that may block, when it is its turn.
    pub fn hash_in_turn(self: &Arc<Self>, work: fn(&Arc<Self>)) {
        let file = Arc::clone(self);
        drop(self.shared.runtime.spawn(async move {
            let turn = Arc::clone(&file.shared.hashing).acquire_owned().await.expect("it is never closed");
            let runtime = file.shared.runtime.clone();
            drop(runtime.spawn_blocking(move || {
                work(&file);
                drop(turn);
            }));
        }));
    }

    /// Hashes what is contiguous from the beginning, while the rest arrives.
    pub fn hash_prefix(self: &Arc<Self>) {
        let partial = self.partial();
        let result = loop {
            match partial.advance_prefix(HASH_STEP_BYTES, &self.shared.cancel) {
                Ok(0) => break Ok(()),
                Ok(bytes) => self.state.lock().hashed_bytes += bytes,
                Err(error) => break Err(error),
            }
        };
        self.state.lock().hashing = false;
        match result {
            Ok(()) | Err(StoreError::Cancelled { .. }) => {}
            Err(StoreError::ChunksDamaged { .. }) => self.refetch_damaged(),
            // Verification meets it again, and tells.
            Err(error) => tracing::debug!(blob = %self.blob, file = %self.name, "{error}"),
        }
    }

    /// Verifies a complete file and moves it into the store.
    pub fn finish(self: &Arc<Self>) {
        let partial = self.partial();
        match partial.verify(&|_| (), &self.shared.cancel) {
            Ok(verified) => self.publish(&partial, verified),
            Err(StoreError::Damaged { .. }) => self.give_up_bytes(&partial),
            Err(StoreError::ChunksDamaged { .. }) => self.refetch_damaged(),
            // The hashing beside the download found a damaged chunk first.
            Err(StoreError::NotPresent { .. }) => self.fill_again(),
            Err(StoreError::Cancelled { .. }) => self.state.lock().phase = Phase::Closed,
            Err(error) => {
                self.state.lock().phase = Phase::Filling;
                self.fail(error.into());
            }
        }
    }

    fn publish(self: &Arc<Self>, partial: &Partial, verified: Verified) {
        let hashes = verified.hashes().clone();
        let published = self.shared.store.publish_partial(partial, verified, &self.name);
        // Held until it is recorded, so that nobody evicts it meanwhile.
        let published = match published {
            Ok(published) => published,
            Err(error) => {
                self.state.lock().phase = Phase::Filling;
                return self.fail(error.into());
            }
        };
        let recorded = self.shared.ledger.completed(self.blob, &hashes, &published.name);
        {
            // Even when it could not be recorded the bytes are right, and old handles read them.
            let mut state = self.state.lock();
            state.phase = Phase::Done;
            state.last_error = None;
            state.fill = Fill::Off;
        }
        match recorded {
            Ok(()) => {
                self.shared.forget_failure(self.blob);
                tracing::info!(blob = %self.blob, file = %self.name, "complete and verified");
            }
            Err(cause) => self.fail(FetchError::NotRecorded { name: self.name.to_string(), cause }),
        }
        self.changed.notify_waiters();
        let file = Arc::clone(self);
        drop(self.shared.runtime.spawn(async move {
            tokio::time::sleep(DONE_LINGER).await;
            drop(file);
        }));
    }

    /// Chunks that the disk lost count as missing by now.
    fn refetch_damaged(self: &Arc<Self>) {
        let rounds = {
            let mut state = self.state.lock();
            state.damage_rounds += 1;
            state.damage_rounds
        };
        tracing::warn!(blob = %self.blob, file = %self.name, "the disk lost chunks; they are fetched again");
        self.fill_again();
        if rounds > DAMAGE_ROUNDS_MAX {
            self.fail(FetchError::DiskLies { name: self.name.to_string() });
        }
    }

    fn fill_again(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            state.reload();
            if state.phase == Phase::Verifying {
                state.phase = Phase::Filling;
                state.fill = Fill::On;
            }
        }
        self.pump();
    }

    /// The whole hashes to something else than was published.
    fn give_up_bytes(self: &Arc<Self>, partial: &Partial) {
        match self.shared.store.quarantine_partial(partial) {
            Ok(path) => {
                tracing::warn!(blob = %self.blob, file = %self.name, kept = %path.display(), "the bytes are wrong");
            }
            Err(error) => tracing::warn!(blob = %self.blob, file = %self.name, "{}", error.fault()),
        }
        self.shared.lies.note(self.blob);
        let mirrors = {
            let mut state = self.state.lock();
            // From here on nothing of it is handed out.
            state.present = RangeSet::new();
            state.last_error = Some(self.damaged());
            if state.origins.blame() { None } else { self.mirrors_to_ask(&mut state) }
        };
        match mirrors {
            Some(mirrors) => drop(self.shared.runtime.spawn(Arc::clone(self).replace_liars(mirrors))),
            None => self.begin_anew_or_end(),
        }
    }

    /// What was here is in quarantine: begins anew while a place is left that did not lie.
    pub fn begin_anew_or_end(self: &Arc<Self>) {
        let another = self.state.lock().origins.any_honest();
        if !another || !self.begin_anew() {
            self.condemn();
        }
    }

    fn damaged(&self) -> FetchError {
        FetchError::Damaged { name: self.name.to_string() }
    }

    fn condemn(self: &Arc<Self>) {
        self.state.lock().phase = Phase::Condemned;
        self.fail(self.damaged());
    }

    /// Opens an empty partial in place of the one in quarantine; `false` when that fails. Nothing else happens
    /// meanwhile, since the phase is `Verifying`.
    fn begin_anew(self: &Arc<Self>) -> bool {
        let opened = self.shared.store.open_partial(&PartialKey::of_blob(self.blob), &self.identity);
        let partial = match opened {
            Ok(partial) => Arc::new(partial),
            Err(error) => {
                tracing::warn!(blob = %self.blob, file = %self.name, "{}", error.fault());
                return false;
            }
        };
        {
            let mut state = self.state.lock();
            state.partial = partial;
            state.reload();
            state.phase = Phase::Filling;
            state.fill = Fill::On;
            state.halted = false;
            self.touch();
        }
        self.shared.forget_failure(self.blob);
        self.pump();
        true
    }
}

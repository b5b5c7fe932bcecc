//! One request: from the hub's stream to chunks on disk.
//!
//! Invariants: while one chunk is being written the next may arrive, no more; every wait for the network has a limit and
//! ends when the request is stopped; a request is taken out of its content's state when its task ends, whatever ended it.
//! Not here: what becomes of a chunk that is not whole (`arriving`).

use super::arriving::Arriving;
use super::error::FetchError;
use super::file::{File, Fill, State};
use super::slots::Slot;
use super::watch::Flow;
use crate::base::ByteRange;
use crate::hub::{HubError, Origin, RangeStream};
use crate::store::CHUNK_BYTES;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

/// Longest time until an answer begins, redirects included. The hub's own limits are shorter; this one holds for all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(40);
/// Longest silence inside an answer.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Bytes after which the disk is asked to keep them: a power cut costs at most these.
const SYNC_BYTES: u64 = 64 << 20;
/// On a slow line: the same, by time.
const SYNC_EVERY: Duration = Duration::from_secs(5);
/// Hashing follows in steps of this size, so that little is left for the end.
pub(super) const HASH_STEP_BYTES: u64 = 16 << 20;

/// A request that may run: holds its slot and its place in the content's state.
pub(super) struct Ticket {
    file: Arc<File>,
    id: u64,
    origin: Origin,
    range: ByteRange,
    slot: Slot,
    flow: Arc<Flow>,
    stop: Arc<Notify>,
    settled: bool,
}

/// Why a request ended early.
enum Trouble {
    /// Nobody wants it any more.
    Stopped,
    Hub(HubError),
    /// Not even an answer began.
    Unreached(HubError),
    Disk(FetchError),
    /// The runtime is going away.
    Gone,
    Panicked,
}

type Writing = Option<JoinHandle<Result<(), FetchError>>>;

impl Ticket {
    pub fn new(
        file: Arc<File>,
        id: u64,
        origin: Origin,
        range: ByteRange,
        slot: Slot,
        flow: Arc<Flow>,
        stop: Arc<Notify>,
    ) -> Self {
        Self { file, id, origin, range, slot, flow, stop, settled: false }
    }

    pub async fn run(self) {
        let outcome = self.transfer().await;
        self.settle(outcome);
    }

    async fn transfer(&self) -> Result<(), Trouble> {
        let file = &self.file;
        let beginning = file.beginning(self.range.start()).await;
        let start = self.range.start() + beginning.len() as u64;
        let range = ByteRange::from_bounds(start, self.range.end()).expect("a beginning is not its whole chunk");
        let open = file.shared.hubs.open_range(&self.origin, &file.expected, range);
        let opened = self.bounded(OPEN_TIMEOUT, self.origin.source.as_str(), open).await?;
        let mut stream = opened.map_err(|error| match error {
            HubError::Unreachable { .. } | HubError::TimedOut { .. } => Trouble::Unreached(error),
            error => Trouble::Hub(error),
        })?;
        self.flow.answered();
        file.shared.outages.ended(&self.origin);
        let mut writing = None;
        let received = self.receive(&mut stream, beginning, &mut writing).await;
        drop(stream);
        let written = finish_writing(&mut writing).await;
        received.and(written)
    }

    async fn receive(
        &self,
        stream: &mut RangeStream,
        mut beginning: Vec<u8>,
        writing: &mut Writing,
    ) -> Result<(), Trouble> {
        let geometry = self.file.geometry;
        let mut head = self.range.start();
        let mut piece = bytes::Bytes::new();
        while let Some(known) = self.file.goes_on(self.id, head) {
            let len = usize::try_from(geometry.chunk_end(head) - head).expect("a chunk fits in memory");
            let mut arriving = Arriving::new(head, len, std::mem::take(&mut beginning));
            while !arriving.is_whole() {
                if piece.is_empty() {
                    let next = self.wait(stream, &mut arriving, writing).await;
                    piece = match next {
                        Ok(piece) => piece,
                        Err(trouble) => {
                            self.file.broke_off(head, arriving.len());
                            finish_writing(writing).await?;
                            *writing = self.keep(&mut arriving);
                            return Err(trouble);
                        }
                    };
                }
                arriving.take(&mut piece);
                if arriving.len() > known {
                    self.file.touch();
                }
            }
            finish_writing(writing).await?;
            let (file, id, chunk) = (Arc::clone(&self.file), self.id, arriving.into_bytes());
            *writing = Some(self.file.shared.runtime.spawn_blocking(move || file.store_chunk(id, head, &chunk)));
            head += len as u64;
        }
        Ok(())
    }

    /// The next piece; until it comes, what came before it is kept.
    async fn wait(
        &self,
        stream: &mut RangeStream,
        arriving: &mut Arriving,
        writing: &mut Writing,
    ) -> Result<bytes::Bytes, Trouble> {
        let host = stream.host().to_owned();
        let mut next = pin!(self.next_piece(stream, &host));
        while let Some(due) = arriving.due() {
            tokio::select! {
                biased;
                // First, so that what is kept is all that the socket had.
                piece = &mut next => return piece,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            if writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
                arriving.wait_longer(Instant::now());
                continue;
            }
            finish_writing(writing).await?;
            if !arriving.postpone(Instant::now()) {
                *writing = self.keep(arriving);
            }
        }
        next.await
    }

    fn keep(&self, arriving: &mut Arriving) -> Writing {
        let (file, id, part) = (Arc::clone(&self.file), self.id, arriving.part()?);
        let keep = move || {
            file.keep(id, &part);
            Ok(())
        };
        Some(self.file.shared.runtime.spawn_blocking(keep))
    }

    async fn next_piece(&self, stream: &mut RangeStream, host: &str) -> Result<bytes::Bytes, Trouble> {
        self.flow.waits();
        match self.bounded(SILENCE_MAX, host, stream.next()).await? {
            Some(Ok(piece)) => {
                self.flow.arrived(piece.len());
                self.file.arrived(piece.len());
                self.keep_pace(piece.len(), host).await?;
                Ok(piece)
            }
            Some(Err(error)) => Err(Trouble::Hub(error)),
            None => {
                let cause = "its answer ended early".to_owned();
                Err(Trouble::Hub(HubError::Unreachable { host: host.to_owned(), cause }))
            }
        }
    }

    async fn keep_pace(&self, bytes: usize, host: &str) -> Result<(), Trouble> {
        let Some(until) = self.file.shared.pace.note(bytes, Instant::now()) else { return Ok(()) };
        let wait = until.saturating_duration_since(Instant::now());
        self.bounded(wait + SILENCE_MAX, host, tokio::time::sleep(wait)).await
    }

    async fn bounded<T>(&self, limit: Duration, host: &str, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            () = self.stop.notified() => Err(Trouble::Stopped),
            done = tokio::time::timeout(limit, work) => {
                done.map_err(|_| Trouble::Hub(HubError::TimedOut { host: host.to_owned() }))
            }
        }
    }

    /// Takes the request out of the state, draws the consequences, and lets the next ones start.
    fn settle(mut self, outcome: Result<(), Trouble>) {
        self.settled = true;
        let deed = {
            let mut state = self.file.state.lock();
            let request = state.remove_request(self.id).expect("a request stays until it is settled");
            if outcome.is_ok() {
                state.watch.ended(&request.flow);
                request.flow.tell(&self.file.shared.sources, &self.origin);
            }
            let error = match outcome {
                Ok(()) | Err(Trouble::Stopped | Trouble::Gone) => None,
                Err(Trouble::Disk(error)) => Some(error),
                Err(Trouble::Panicked) => Some(self.file.broken("a task of it panicked")),
                Err(Trouble::Hub(error)) => {
                    self.file.shared.outages.ended(&self.origin);
                    self.hub_failed(&mut state, request.origin, error)
                }
                Err(Trouble::Unreached(error)) => {
                    self.file.shared.outages.began(&self.origin, Instant::now());
                    self.hub_failed(&mut state, request.origin, error)
                }
            };
            error.filter(|_| !state.halted).and_then(|error| self.file.halt(&mut state, error))
        };
        deed.into_iter().for_each(|deed| self.file.perform(deed));
        self.file.changed.notify_waiters();
        let waiting = self.file.shared.slots.release(self.slot);
        waiting.iter().for_each(|file| file.pump());
        self.file.pump();
    }
}

impl Ticket {
    /// Notes what a hub said; gives the failure of the content when nothing will help.
    fn hub_failed(&self, state: &mut State, origin: usize, error: HubError) -> Option<FetchError> {
        let name = self.file.name.to_string();
        tracing::debug!(blob = %self.file.blob, file = %name, range = %self.range, "{error}");
        state.watch.refused(&error);
        let helps = state.origins.failed(origin, &error, Instant::now());
        let error = FetchError::Hub { name, error };
        state.last_error = Some(error.clone());
        (!helps).then_some(error)
    }
}

impl Drop for Ticket {
    /// The task was dropped with its runtime, or it panicked. Nothing is planned from here: it could be dropped again.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.file.state.lock().remove_request(self.id);
        let waiting = self.file.shared.slots.release(self.slot);
        if !std::thread::panicking() {
            return;
        }
        self.file.fail(self.file.broken("a task of it panicked"));
        // The slot is for those that waited for it.
        drop(self.file.shared.runtime.spawn(async move { waiting.iter().for_each(|file| file.pump()) }));
    }
}

/// May be given up and called again.
async fn finish_writing(writing: &mut Writing) -> Result<(), Trouble> {
    let Some(running) = writing.as_mut() else { return Ok(()) };
    let written = running.await;
    *writing = None;
    let gone = |error: JoinError| if error.is_panic() { Trouble::Panicked } else { Trouble::Gone };
    written.map_err(gone)?.map_err(Trouble::Disk)
}

/// What became due with a chunk.
struct Due {
    begin: bool,
    recovered: bool,
    sync: bool,
    hash: bool,
    /// In so much of the beginning the header may be.
    header: Option<u64>,
}

impl File {
    /// The chunk at `head` is the next to arrive: how much of it came before. `None` when the request ends there.
    fn goes_on(&self, id: u64, head: u64) -> Option<usize> {
        let mut state = self.state.lock();
        let request = state.request(id).expect("a request stays until it is settled");
        request.place.head = head;
        (head < request.place.end).then(|| state.broken_off.get(&head).copied().unwrap_or_default())
    }

    /// A request ended inside the chunk at `head`.
    fn broke_off(&self, head: u64, bytes: usize) {
        let mut state = self.state.lock();
        let known = state.broken_off.entry(head).or_default();
        *known = bytes.max(*known);
    }

    /// Writes one chunk. Blocks on the disk.
    fn store_chunk(self: &Arc<Self>, id: u64, start: u64, bytes: &[u8]) -> Result<(), FetchError> {
        self.shared.ledger.make_room(bytes.len() as u64).map_err(FetchError::Store)?;
        let partial = self.partial();
        partial.write_chunk(start / CHUNK_BYTES, bytes)?;
        let unsynced_bytes = partial.unsynced_bytes();
        let due = self.note_chunk(id, start, bytes.len() as u64, unsynced_bytes);
        self.changed.notify_waiters();
        if due.begin
            && let Err(fault) = self.shared.ledger.began(self.blob)
        {
            tracing::warn!(blob = %self.blob, file = %self.name, "{fault}");
        }
        if due.begin || due.recovered {
            self.shared.forget_failure(self.blob);
        }
        if due.sync {
            let file = Arc::clone(self);
            drop(self.shared.runtime.spawn_blocking(move || file.sync()));
        }
        if let Some(beginning_bytes) = due.header {
            let file = Arc::clone(self);
            drop(self.shared.runtime.spawn_blocking(move || file.read_layout(beginning_bytes)));
        }
        if due.hash {
            self.hash_in_turn(Self::hash_prefix);
        }
        Ok(())
    }

    fn note_chunk(&self, id: u64, start: u64, len: u64, unsynced_bytes: u64) -> Due {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.present.insert(ByteRange::new(start, len).expect("a chunk is not empty"));
        state.broken_off.remove(&start);
        state.begun.remove(&start);
        state.last_error = None;
        let recovered = !state.halted && state.failure.take().is_some();
        if let Some(request) = state.requests.iter_mut().find(|request| request.id == id) {
            request.place.written = start + len;
            state.origins.delivered(request.origin);
        }
        state.speed.sample(Instant::now(), self.received_bytes());
        let begin = !std::mem::replace(&mut state.began, true);
        let many = unsynced_bytes >= SYNC_BYTES || state.synced_at.elapsed() >= SYNC_EVERY;
        let sync = many && !std::mem::replace(&mut state.syncing, true);
        let beginning = state.present.iter().next().filter(|first| first.start() == 0).map_or(0, |first| first.end());
        let behind = state.fill == Fill::On && beginning >= state.hashed_bytes + HASH_STEP_BYTES;
        let hash = behind && !std::mem::replace(&mut state.hashing, true);
        let header = state.layout.is_due(beginning).then_some(beginning);
        Due { begin, recovered, sync, hash, header }
    }

    /// Makes what is here durable. Blocks on the disk.
    pub fn sync(&self) {
        let synced = self.partial().sync();
        if let Err(error) = synced {
            // Chunks that are not proven to be on disk are checked when they are opened again.
            tracing::warn!(blob = %self.blob, file = %self.name, "{}", error.fault());
        }
        let mut state = self.state.lock();
        (state.syncing, state.synced_at) = (false, Instant::now());
    }
}

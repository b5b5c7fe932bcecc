//! The state of one content: what is here, what is under way, who waits, and how the next requests come about.
//!
//! Invariants: `present` is what `partial` has, so planning reads no other lock; a request is in `requests` from the
//! moment it is planned until its task is over; nothing blocks while the state is locked.

use super::engine::{Activity, Progress, Registration, Shared, Wanted};
use super::error::FetchError;
use super::layout::Layout;
use super::mirrors::Looked;
use super::origins::{Choice, Origins};
use super::slots::DEMAND_PER_FILE_MAX;
use super::speed::Speed;
use super::transfer::Ticket;
use super::watch::{Flow, Watch};
use crate::base::{BlobId, ByteRange, EntryName, Fault, RangeSet};
use crate::hub::{Expected, Mirror, Origin};
use crate::plan::{Geometry, Limits, Planner, Promotion, Purpose, Running, Step, Trackers};
use crate::store::{CHUNK_BYTES, Partial, PartialIdentity};
use crate::tree::Source;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub(super) struct File {
    pub blob: BlobId,
    pub name: EntryName,
    pub identity: PartialIdentity,
    pub expected: Expected,
    pub geometry: Geometry,
    pub shared: Arc<Shared>,
    pub(super) state: Mutex<State>,
    /// Something changed that a waiting read may care about.
    pub changed: Notify,
    /// All bytes that have arrived since the state was opened.
    received_bytes: AtomicU64,
    /// When the last new ones did, in milliseconds since the engine's start.
    progress_ms: AtomicU64,
    /// Last, so that the partial file is closed before the registry forgets it.
    registration: Registration,
}

pub(super) struct State {
    pub partial: Arc<Partial>,
    pub present: RangeSet,
    /// Bytes that are kept of chunks that are not here as a whole, by the start of the chunk.
    pub begun: BTreeMap<u64, u64>,
    pub requests: Vec<Request>,
    /// How far chunks had come whose requests broke off, by their start. Only what comes beyond is progress: a source that
    /// breaks off for ever at one place is not waited for. At most one entry a chunk; forgotten when somebody tries anew.
    pub broken_off: HashMap<u64, usize>,
    /// Oldest first.
    pub demands: Vec<Demand>,
    pub trackers: Trackers,
    pub layout: Layout,
    promotion: Promotion,
    pub fill: Fill,
    pub phase: Phase,
    pub origins: Origins,
    /// For further places, when these fail.
    pub looked: Looked,
    pub handles: usize,
    /// The last failure of the content; in force while `halted`.
    pub failure: Option<FetchError>,
    /// Nothing is fetched until somebody tries again.
    pub halted: bool,
    /// Counts failures, so that a read knows those that came after it began to wait.
    pub failures: u64,
    /// The last failure of a request, until bytes arrive again.
    pub last_error: Option<FetchError>,
    pub source: Option<Source>,
    timer: Option<(Instant, AbortHandle)>,
    pub speed: Speed,
    pub watch: Watch,
    /// The ledger knows that bytes are here.
    pub began: bool,
    pub syncing: bool,
    pub synced_at: Instant,
    pub hashing: bool,
    /// There was room for the whole file when that became wanted.
    room_checked: bool,
    /// Length of the beginning that is hashed.
    pub hashed_bytes: u64,
    pub damage_rounds: u32,
    next_id: u64,
}

/// A request that is under way.
pub(super) struct Request {
    pub id: u64,
    pub place: Running,
    pub purpose: Purpose,
    pub origin: usize,
    /// Where it began.
    pub start: u64,
    pub flow: Arc<Flow>,
    pub stop: Arc<Notify>,
}

/// A read that waits.
pub(super) struct Demand {
    pub id: u64,
    /// Whole chunks.
    pub range: ByteRange,
}

/// Whether the whole file is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fill {
    /// Not yet.
    Off,
    On,
    /// Somebody said no: only somebody can say yes again, not the amount of reading.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Filling,
    Verifying,
    Done,
    /// Every source lied; what was here is in quarantine. The end of this state: the next open begins another.
    Condemned,
    /// The engine stops.
    Closed,
}

/// What planning found to be done, once the state is unlocked.
pub(super) enum Deed {
    Fetch(Ticket),
    Finish,
    /// The whole file is wanted: there must be room for the rest of it.
    CheckRoom(u64),
    TellFailure(Fault),
    /// All known places fail.
    FindMirrors(Vec<Mirror>),
}

impl File {
    pub fn new(
        wanted: &Wanted,
        identity: PartialIdentity,
        partial: Partial,
        shared: Arc<Shared>,
        registration: Registration,
    ) -> Self {
        let state = State {
            present: partial.present(),
            begun: begun(&partial),
            partial: Arc::new(partial),
            requests: Vec::new(),
            broken_off: HashMap::new(),
            demands: Vec::new(),
            trackers: Trackers::new(),
            layout: Layout::default(),
            promotion: Promotion::new(shared.options.promote_after_bytes),
            fill: Fill::Off,
            phase: Phase::Filling,
            origins: Origins::new(&wanted.origins),
            looked: Looked::Never,
            handles: 0,
            failure: None,
            halted: false,
            failures: 0,
            last_error: None,
            source: wanted.origins.first().map(|origin| origin.source),
            timer: None,
            speed: Speed::default(),
            watch: Watch::new(shared.options.streams),
            began: false,
            syncing: false,
            synced_at: Instant::now(),
            hashing: false,
            room_checked: false,
            hashed_bytes: 0,
            damage_rounds: 0,
            next_id: 0,
        };
        Self {
            blob: wanted.blob,
            name: wanted.name.clone(),
            expected: Expected { size_bytes: wanted.size_bytes, sha256: wanted.sha256, etag: wanted.etag.clone() },
            identity,
            geometry: Geometry::new(wanted.size_bytes, CHUNK_BYTES),
            shared,
            state: Mutex::new(state),
            changed: Notify::new(),
            received_bytes: AtomicU64::new(0),
            progress_ms: AtomicU64::new(0),
            registration,
        }
    }

    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    pub fn partial(&self) -> Arc<Partial> {
        Arc::clone(&self.state.lock().partial)
    }

    pub fn add_origins(&self, origins: &[Origin]) {
        self.state.lock().origins.add(origins);
    }

    /// Bytes arrived from a socket.
    pub fn arrived(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The silence that ends in a failure is counted from now.
    pub fn touch(&self) {
        let ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(ms, Ordering::Relaxed);
    }

    pub fn last_progress(&self) -> Instant {
        self.shared.started + Duration::from_millis(self.progress_ms.load(Ordering::Relaxed))
    }

    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Plans, and starts what was planned. To be called after every change; does nothing when there is nothing to do.
    pub fn pump(self: &Arc<Self>) {
        let deeds = self.plan(&mut self.state.lock());
        deeds.into_iter().for_each(|deed| self.perform(deed));
    }

    pub fn perform(self: &Arc<Self>, deed: Deed) {
        let file = Arc::clone(self);
        match deed {
            Deed::FindMirrors(mirrors) => drop(self.shared.runtime.spawn(file.find_mirrors(mirrors))),
            Deed::Fetch(ticket) => drop(self.shared.runtime.spawn(ticket.run())),
            Deed::CheckRoom(bytes) => drop(self.shared.runtime.spawn_blocking(move || file.check_room(bytes))),
            Deed::Finish => file.hash_in_turn(Self::finish),
            Deed::TellFailure(fault) => {
                drop(self.shared.runtime.spawn_blocking(move || file.shared.ledger.failed(file.blob, &fault)));
            }
        }
    }

    fn plan(self: &Arc<Self>, state: &mut State) -> Vec<Deed> {
        if state.phase != Phase::Filling || state.halted || self.shared.is_closing() {
            return Vec::new();
        }
        if self.geometry.whole().is_none_or(|whole| state.present.contains(&whole)) {
            if !state.requests.is_empty() {
                return Vec::new();
            }
            state.phase = Phase::Verifying;
            return vec![Deed::Finish];
        }
        let present = state.present.clone();
        let running = state.requests.iter().map(|request| request.place).collect();
        let demands: Vec<ByteRange> = state.demands.iter().map(|demand| demand.range).collect();
        let ahead = state.windows(self.geometry);
        let fill = state.fill == Fill::On;
        let near = state.trackers.tensors(self.geometry, &state.layout.tensors);
        let planner = Planner::new(self.geometry, &present, running, &demands, &ahead, fill);
        let mut planner = planner.near_first(&near);
        let mut deeds = Vec::new();
        if fill && !std::mem::replace(&mut state.room_checked, true) {
            let missing_bytes = self.geometry.size_bytes().saturating_sub(present.bytes());
            deeds.push(Deed::CheckRoom(missing_bytes));
        }
        while let Some(mut step) = planner.next(state.limits(self.shared.options.streams)) {
            if let Step::Fetch { range, .. } = &mut step {
                *range = state.until_next_beginning(*range);
            }
            match step {
                Step::Cut { running, at } => state.requests[running].place.end = at,
                Step::Fetch { range, purpose } => match self.start(state, range, purpose) {
                    Ok(ticket) => deeds.push(Deed::Fetch(ticket)),
                    Err(refusal) => {
                        deeds.extend(refusal);
                        break;
                    }
                },
            }
            planner.accept(step);
        }
        deeds
    }

    /// Registers a request, or says what keeps it from being made.
    fn start(self: &Arc<Self>, state: &mut State, range: ByteRange, purpose: Purpose) -> Result<Ticket, Option<Deed>> {
        let (index, origin) = match self.choose_place(state, purpose) {
            Choice::Use(index, origin) => (index, origin),
            Choice::Rest(until) => return Err(self.rest(state, until)),
            // What still runs may yet bring the rest.
            Choice::Nothing(_) if !state.requests.is_empty() || state.looked == Looked::Now => return Err(None),
            Choice::Nothing(last) => {
                if let Some(deed) = self.look_for_mirrors(state) {
                    return Err(Some(deed));
                }
                let name = self.name.to_string();
                let error = match last {
                    Some(error) => FetchError::Hub { name, error },
                    None => FetchError::NoOrigin { name },
                };
                return Err(self.halt(state, error));
            }
        };
        let slot = self.shared.slots.take(purpose, self).ok_or(None)?;
        if state.requests.is_empty() {
            state.speed.restart(Instant::now(), self.received_bytes());
        }
        let id = state.new_id();
        let stop = Arc::new(Notify::new());
        let place = Running { written: range.start(), head: range.start(), end: range.end() };
        state.source = Some(origin.source);
        let (start, flow) = (range.start(), Arc::new(Flow::new()));
        let ticket = Ticket::new(Arc::clone(self), id, origin, range, slot, Arc::clone(&flow), Arc::clone(&stop));
        state.requests.push(Request { id, place, purpose, origin: index, start, flow, stop });
        self.watch(state);
        Ok(ticket)
    }

    /// All places rest: comes back then, or gives up when nothing has arrived for too long.
    fn rest(self: &Arc<Self>, state: &mut State, until: Instant) -> Option<Deed> {
        let mirrors = self.look_for_mirrors(state);
        if mirrors.is_some() || state.looked == Looked::Now {
            self.wake_at(state, until);
            return mirrors;
        }
        let patience = self.shared.options.read_timeout;
        let down = |origin: &Origin| self.shared.outages.lasts(origin, Instant::now(), patience);
        // Another content has waited for this hub in vain.
        if state.requests.is_empty()
            && state.origins.unreached(down)
            && let Some(error) = state.last_error.clone()
        {
            return self.halt(state, error);
        }
        let silence = self.last_progress().elapsed();
        // Reads that wait keep their own time.
        if state.demands.is_empty() && state.requests.is_empty() && silence >= patience {
            let error = self.timed_out(state);
            return self.halt(state, error);
        }
        self.wake_at(state, until);
        None
    }

    fn wake_at(self: &Arc<Self>, state: &mut State, until: Instant) {
        if state.timer.as_ref().is_none_or(|(at, _)| *at > until) {
            state.end_timer();
            let file = Arc::clone(self);
            let wake = self.shared.runtime.spawn(async move {
                tokio::time::sleep_until(until.into()).await;
                file.state.lock().timer = None;
                file.pump();
            });
            state.timer = Some((until, wake.abort_handle()));
        }
    }

    pub fn timed_out(&self, state: &State) -> FetchError {
        FetchError::TimedOut {
            name: self.name.to_string(),
            waited: self.shared.options.read_timeout,
            cause: state.last_error.as_ref().map(FetchError::cause),
        }
    }

    pub fn broken(&self, what: &'static str) -> FetchError {
        FetchError::Broken { name: self.name.to_string(), what }
    }

    /// Ends all fetching with a failure that every waiting read gets; the next one tries again. A failure that is the
    /// same as the last time is not told again.
    #[must_use = "the ledger is to be told"]
    pub fn halt(&self, state: &mut State, error: FetchError) -> Option<Deed> {
        let fault = error.fault();
        state.failure = Some(error);
        state.halted = true;
        state.failures += 1;
        state.end_timer();
        state.requests.iter().for_each(|request| request.stop.notify_one());
        self.changed.notify_waiters();
        if !self.shared.remember_failure(self.progress_of(state)) {
            return None;
        }
        tracing::warn!(blob = %self.blob, file = %self.name, "{fault}");
        Some(Deed::TellFailure(fault))
    }

    /// The same from outside.
    pub fn fail(self: &Arc<Self>, error: FetchError) {
        let deed = self.halt(&mut self.state.lock(), error);
        deed.into_iter().for_each(|deed| self.perform(deed));
    }

    /// A download that cannot end is not begun. Blocks on the disk, and on hubs when others have to make room.
    fn check_room(self: &Arc<Self>, bytes: u64) {
        let Err(fault) = self.shared.ledger.make_room(bytes) else { return };
        let error = FetchError::Store(Fault { what: format!("cannot fetch {}: {}", self.name, fault.what), ..fault });
        let deed = {
            let mut state = self.state.lock();
            state.fill = if state.fill == Fill::On { Fill::Off } else { state.fill };
            state.room_checked = false;
            self.halt(&mut state, error)
        };
        deed.into_iter().for_each(|deed| self.perform(deed));
    }

    /// Somebody tries again.
    pub fn revive(&self, state: &mut State) {
        if state.halted || state.is_quiet() {
            self.touch();
            state.broken_off.clear();
        }
        if state.halted && state.phase == Phase::Filling {
            state.halted = false;
            state.origins.forgive();
        }
    }

    /// Notes what a reader takes, and promotes the file when it took enough.
    pub fn note(&self, state: &mut State, range: ByteRange) {
        let demands = &state.demands;
        let waits = |at: u64| demands.iter().any(|demand| (demand.range.start()..demand.range.end()).contains(&at));
        state.trackers.note(range, waits);
        if state.promotion.note(range) && state.fill == Fill::Off {
            tracing::debug!(blob = %self.blob, file = %self.name, "enough of it was read: it is fetched whole");
            state.fill = Fill::On;
            self.touch();
        }
    }

    pub fn handle_opened(&self) {
        self.state.lock().handles += 1;
    }

    pub fn handle_closed(&self) {
        let mut state = self.state.lock();
        state.handles -= 1;
        if state.handles == 0 {
            state.trackers.clear();
            state.prune(self.geometry);
        }
    }

    pub fn fetch_all(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            state.fill = Fill::On;
            self.revive(&mut state);
        }
        self.pump();
    }

    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.fill = Fill::Refused;
        state.trackers.clear();
        state.prune(self.geometry);
    }

    /// The engine stops: nothing more is begun.
    pub fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Filling {
            state.phase = Phase::Closed;
        }
        state.end_timer();
        state.requests.iter().for_each(|request| request.stop.notify_one());
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn progress(&self) -> Progress {
        self.progress_of(&mut self.state.lock())
    }

    fn progress_of(&self, state: &mut State) -> Progress {
        let activity = match state.phase {
            _ if state.halted => Activity::Failed,
            Phase::Condemned => Activity::Failed,
            Phase::Done => Activity::Done,
            Phase::Verifying => Activity::Verifying,
            Phase::Filling if state.is_active() => Activity::Downloading,
            Phase::Filling | Phase::Closed => Activity::Idle,
        };
        let downloading = activity == Activity::Downloading;
        let bytes_present = state.present.bytes();
        let bytes_per_s =
            if downloading { state.speed.bytes_per_s(Instant::now(), self.received_bytes()) } else { None };
        let missing_bytes = self.geometry.size_bytes().saturating_sub(bytes_present);
        let eta = bytes_per_s.filter(|rate| *rate > 0 && state.fill == Fill::On);
        let failure = state.failure.as_ref().filter(|_| state.halted).map(FetchError::fault);
        Progress {
            blob: self.blob,
            name: self.name.clone(),
            activity,
            size_bytes: self.geometry.size_bytes(),
            bytes_present,
            bytes_per_s,
            eta: eta.map(|rate| Duration::from_secs(missing_bytes.div_ceil(rate))),
            source: state.source,
            error: failure.or_else(|| state.last_error.as_ref().map(FetchError::fault)),
        }
    }
}

impl State {
    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Nothing runs, waits or rests.
    pub fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.demands.is_empty() && self.timer.is_none()
    }

    fn is_active(&self) -> bool {
        !self.requests.is_empty() || !self.demands.is_empty() || self.fill == Fill::On
    }

    /// Read-ahead is for readers that are still there.
    fn windows(&self, geometry: Geometry) -> Vec<ByteRange> {
        if self.handles > 0 { self.trackers.windows(geometry, &self.layout.tensors) } else { Vec::new() }
    }

    /// The rest is divided as if all streams that may come were there: what is taken by a few cannot be shared later.
    fn limits(&self, streams_max: usize) -> Limits {
        let streams = self.watch.streams();
        let demand = self.requests.iter().filter(|request| request.purpose == Purpose::Demand).count();
        let background = self.requests.len() - demand;
        Limits {
            demand: demand < DEMAND_PER_FILE_MAX,
            background: background < streams,
            fill_streams: streams_max as u64,
        }
    }

    /// Stops the requests that nobody wants any more.
    pub fn prune(&mut self, geometry: Geometry) {
        if self.fill == Fill::On {
            return;
        }
        let windows = self.windows(geometry);
        for request in &self.requests {
            let Some(left) = ByteRange::from_bounds(request.place.written, request.place.end) else { continue };
            let wanted = self.demands.iter().map(|demand| &demand.range).chain(&windows);
            if !wanted.into_iter().any(|range| range.intersection(&left).is_some()) {
                request.stop.notify_one();
            }
        }
        if self.demands.is_empty() {
            self.end_timer();
        }
    }

    pub fn end_timer(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
    }

    pub fn request(&mut self, id: u64) -> Option<&mut Request> {
        self.requests.iter_mut().find(|request| request.id == id)
    }

    pub fn remove_request(&mut self, id: u64) -> Option<Request> {
        let index = self.requests.iter().position(|request| request.id == id)?;
        Some(self.requests.remove(index))
    }

    /// Reads the chunk map anew after chunks were found damaged.
    pub fn reload(&mut self) {
        self.present = self.partial.present();
        self.begun = begun(&self.partial);
        self.hashed_bytes = self.hashed_bytes.min(self.present.iter().next().map_or(0, |first| first.end()));
    }
}

fn begun(partial: &Partial) -> BTreeMap<u64, u64> {
    partial.beginnings().into_iter().map(|(chunk, bytes)| (chunk * CHUNK_BYTES, bytes)).collect()
}

//! The engine: the registry of contents, and what everything shares.
//!
//! Invariants: a content has one state at a time, whoever opens it; the registry does not keep a state alive, its
//! handles and tasks do; a state leaves the registry only after its partial file is closed, or when its bytes went to
//! quarantine: whoever opens the content then starts anew, while old handles keep their failure. Opening touches the
//! local disk, never the network.

use super::error::FetchError;
use super::file::File;
use super::finish::HASHING_MAX;
use super::handle::RemoteFile;
use super::lies::Lies;
use super::mirrors::Listings;
use super::outages::Outages;
use super::pace::Pace;
use super::slots::Slots;
use super::sources::Sources;
use crate::base::{BlobId, Digest, EntryName, Fault};
use crate::hub::{HubSet, Mirrors, Origin};
use crate::store::{Cancel, Hashes, PartialIdentity, PartialKey, Store, StoreError};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Failures of contents that nobody has open any more, kept for `downloads`.
const FAILED_LATELY_MAX: usize = 64;
/// A shutdown waits no longer for the disk; what is not synced then is checked by its CRC at the next start.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// A file that gave this many bytes to its readers is fetched whole; 0 at the first read.
    pub promote_after_bytes: u64,
    /// A read gives up when nothing arrives for so long.
    pub read_timeout: Duration,
    /// Requests at once in the background of one file.
    pub streams: usize,
    /// Bytes a second of everything together.
    pub rate_bytes_max: Option<u64>,
    pub preference: Preference,
    /// Asked when all places of a content fail.
    pub mirrors: Mirrors,
}

/// Which of several places of a content is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preference {
    /// The fastest of those that work.
    Fastest,
    /// As `Wanted::origins` has them.
    AsGiven,
}

/// A content that is not here, and where it can be had.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub blob: BlobId,
    /// Its name in the store, once it is complete.
    pub name: EntryName,
    pub size_bytes: u64,
    pub sha256: Option<Digest>,
    pub etag: Option<String>,
    /// In the order in which they are tried while nothing else is known.
    pub origins: Vec<Origin>,
}

/// What the engine is doing about a content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Activity {
    /// Nothing is under way; some chunks may be here.
    Idle,
    Downloading,
    Verifying,
    /// The next read tries again.
    Failed,
    /// Verified and in the store. A handle that was opened before goes on reading from the same bytes.
    Done,
}

#[derive(Clone, Debug)]
pub struct Progress {
    pub blob: BlobId,
    pub name: EntryName,
    pub activity: Activity,
    pub size_bytes: u64,
    pub bytes_present: u64,
    /// While downloading.
    pub bytes_per_s: Option<u64>,
    /// While the whole file is being fetched.
    pub eta: Option<Duration>,
    /// Hub the bytes come from.
    pub source: Option<crate::tree::Source>,
    pub error: Option<Fault>,
}

/// Who keeps the books. Called from the engine's threads, never under one of its locks; may block on the disk.
pub trait Ledger: Send + Sync {
    /// The first bytes of a content are here.
    fn began(&self, blob: BlobId) -> Result<(), Fault>;
    /// The file is verified and lies in the store under `name`: to be recorded now. After this returns, new opens are
    /// native.
    fn completed(&self, blob: BlobId, hashes: &Hashes, name: &EntryName) -> Result<(), Fault>;
    fn failed(&self, blob: BlobId, fault: &Fault);
    /// So many bytes are about to be written: makes room for them, or says why there is none.
    fn make_room(&self, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all contents share.
pub(super) struct Shared {
    pub store: Store,
    pub hubs: HubSet,
    pub options: EngineOptions,
    pub ledger: Arc<dyn Ledger>,
    pub runtime: tokio::runtime::Handle,
    pub slots: Slots,
    pub outages: Outages,
    pub sources: Sources,
    pub listings: Listings,
    pub lies: Lies,
    pub pace: Pace,
    /// Turns to hash, in the order in which they were asked for.
    pub hashing: Arc<Semaphore>,
    /// Stops hashing at shutdown.
    pub cancel: Cancel,
    /// Times are counted from here where they are kept in an atomic.
    pub started: Instant,
    closing: AtomicBool,
    contents: Mutex<HashMap<BlobId, Content>>,
    /// A content was opened, or is gone.
    settled: Condvar,
    failed_lately: Mutex<VecDeque<Progress>>,
    next_registration: AtomicU64,
}

struct Content {
    /// Which registration it belongs to: a state that was replaced must not take its successor away.
    registration: u64,
    state: ContentState,
}

enum ContentState {
    /// Its partial file is being opened.
    Opening,
    /// Dead while the partial file is being closed.
    Open(Weak<File>),
}

/// A content's place in the registry; given up when dropped.
pub(super) struct Registration {
    shared: Arc<Shared>,
    blob: BlobId,
    number: u64,
}

impl Registration {
    fn opened(&self, file: &Arc<File>) {
        let state = ContentState::Open(Arc::downgrade(file));
        self.shared.contents.lock().insert(self.blob, Content { registration: self.number, state });
        self.shared.settled.notify_all();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut contents = self.shared.contents.lock();
        if contents.get(&self.blob).is_some_and(|content| content.registration == self.number) {
            contents.remove(&self.blob);
        }
        drop(contents);
        self.shared.settled.notify_all();
    }
}

impl Shared {
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Remembers how a content failed after its state is gone. Says whether that is news.
    pub fn remember_failure(&self, progress: Progress) -> bool {
        let mut failed = self.failed_lately.lock();
        let known = failed.iter().position(|kept| kept.blob == progress.blob).and_then(|index| failed.remove(index));
        let news = known.is_none_or(|known| known.error != progress.error);
        failed.push_back(progress);
        if failed.len() > FAILED_LATELY_MAX {
            failed.pop_front();
        }
        news
    }

    pub fn forget_failure(&self, blob: BlobId) {
        self.failed_lately.lock().retain(|kept| kept.blob != blob);
    }

    /// The state of a content that is open, or else the right to open it. One that is condemned is replaced.
    fn find_or_register(self: &Arc<Self>, blob: BlobId) -> Result<Arc<File>, Registration> {
        let mut contents = self.contents.lock();
        loop {
            match contents.get(&blob).map(|content| &content.state) {
                None => return Err(self.register(&mut contents, blob)),
                Some(ContentState::Open(file)) => match file.upgrade() {
                    // The last reference must not go under the lock: it takes the registration with it.
                    Some(file) if file.condemned().is_some() => {
                        let registration = self.register(&mut contents, blob);
                        drop(contents);
                        return Err(registration);
                    }
                    Some(file) => return Ok(file),
                    None => self.settled.wait(&mut contents),
                },
                // As long as another thread needs for a few files on the local disk.
                Some(ContentState::Opening) => self.settled.wait(&mut contents),
            }
        }
    }

    fn register(self: &Arc<Self>, contents: &mut HashMap<BlobId, Content>, blob: BlobId) -> Registration {
        let number = self.next_registration.fetch_add(1, Ordering::Relaxed);
        contents.insert(blob, Content { registration: number, state: ContentState::Opening });
        Registration { shared: Arc::clone(self), blob, number }
    }

    fn open_files(&self) -> Vec<Arc<File>> {
        let upgrade = |content: &Content| match &content.state {
            ContentState::Opening => None,
            ContentState::Open(file) => file.upgrade(),
        };
        self.contents.lock().values().filter_map(upgrade).collect()
    }
}

impl Engine {
    /// `runtime` carries every task of the engine.
    pub fn new(
        store: Store,
        hubs: HubSet,
        options: EngineOptions,
        ledger: Arc<dyn Ledger>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let pace = Pace::new(options.rate_bytes_max);
        let shared = Shared {
            store,
            hubs,
            options,
            ledger,
            runtime,
            slots: Slots::default(),
            outages: Outages::default(),
            sources: Sources::default(),
            listings: Listings::default(),
            lies: Lies::default(),
            pace,
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            cancel: Cancel::new(),
            started: Instant::now(),
            closing: AtomicBool::new(false),
            contents: Mutex::new(HashMap::new()),
            settled: Condvar::new(),
            failed_lately: Mutex::new(VecDeque::new()),
            next_registration: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The one state of a content, opened when this is its first handle. Touches the local disk, never the network.
    pub fn open(&self, wanted: &Wanted) -> Result<RemoteFile, FetchError> {
        if self.shared.is_closing() {
            return Err(FetchError::ShutDown { name: wanted.name.to_string() });
        }
        let registration = match self.shared.find_or_register(wanted.blob) {
            Ok(file) => {
                file.add_origins(&wanted.origins);
                return Ok(RemoteFile::new(file));
            }
            Err(registration) => registration,
        };
        let identity =
            PartialIdentity { size_bytes: wanted.size_bytes, sha256: wanted.sha256, etag: wanted.etag.clone() };
        let partial = match self.shared.store.open_partial(&PartialKey::of_blob(wanted.blob), &identity) {
            Ok(partial) => partial,
            Err(StoreError::Busy { .. }) => return Err(FetchError::Busy { name: wanted.name.to_string() }),
            Err(error) => return Err(error.into()),
        };
        let file = Arc::new(File::new(wanted, identity, partial, Arc::clone(&self.shared), registration));
        file.registration().opened(&file);
        let handle = RemoteFile::new(Arc::clone(&file));
        // What was complete when the last process ended is verified now.
        file.pump();
        Ok(handle)
    }

    /// What is known about a content that has a state: open, under way, or failed lately.
    pub fn progress(&self, blob: BlobId) -> Option<Progress> {
        let open = match self.shared.contents.lock().get(&blob).map(|content| &content.state) {
            Some(ContentState::Open(file)) => file.upgrade(),
            Some(ContentState::Opening) | None => None,
        };
        let open = open.map(|file| file.progress());
        // Merely opening a file that failed tries nothing yet: the reason stays until somebody reads.
        if open.as_ref().is_some_and(|open| open.activity != Activity::Idle) {
            return open;
        }
        let late = self.shared.failed_lately.lock().iter().find(|failed| failed.blob == blob).cloned();
        late.or(open)
    }

    /// Every content that is being fetched or verified, or failed lately; in order of name.
    pub fn downloads(&self) -> Vec<Progress> {
        let mut found: Vec<Progress> = self.shared.open_files().iter().map(|file| file.progress()).collect();
        let late: Vec<Progress> = self.shared.failed_lately.lock().iter().cloned().collect();
        found.retain(|progress| match progress.activity {
            Activity::Downloading | Activity::Verifying | Activity::Failed => true,
            Activity::Idle | Activity::Done => false,
        });
        let gone = |failed: &Progress| !found.iter().any(|open| open.blob == failed.blob);
        let late: Vec<Progress> = late.into_iter().filter(gone).collect();
        found.extend(late);
        found.sort_by(|one, other| (&one.name, one.blob).cmp(&(&other.name, other.blob)));
        found
    }

    /// Stops everything and makes what is here durable. Bounded.
    pub fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.cancel.cancel();
        let files = self.shared.open_files();
        files.iter().for_each(|file| file.close());
        self.shared.slots.forget_waiting();
        let (done, synced) = mpsc::channel();
        let count = files.len();
        for file in files {
            let done = done.clone();
            self.shared.runtime.spawn_blocking(move || {
                file.sync();
                drop(file);
                // Nobody listens any more once the limit has passed.
                let _ = done.send(());
            });
        }
        drop(done);
        let deadline = Instant::now() + SHUTDOWN_LIMIT;
        for _ in 0..count {
            if synced.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
                tracing::warn!("the disk was too slow at the end; unsynced chunks are checked at the next start");
                return;
            }
        }
    }
}

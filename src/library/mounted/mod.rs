//! A library as a mount sees it: the current tree, open files, attributes, and what changes while it is mounted.
//!
//! Invariants: everything but `RemoteFile::read` answers from memory or the local disk and never waits for the network;
//! a tree, once taken, never changes. Not here: kernel types (`fuse`), how bytes are fetched (`fetch`).

mod attributes;
mod books;
mod deciding;
mod facts;
mod follower;
mod hit_names;
mod hit_state;
mod hits;
mod keeper;
mod live;
mod namespace;
mod opening;
mod placing;
mod queries;
mod registering;
mod searches;

use super::{Library, LibraryError};
use crate::base::{BlobId, Fault, FaultKind};
use crate::fetch::{Engine, EngineOptions, Preference};
use crate::hub::HubSet;
use crate::store::{Cancel, Space};
use crate::tree::{Tree, TreeChange};
use books::Books;
use facts::Facts;
use follower::{Current, Follower};
use hits::Hits;
use keeper::Keeper;
use parking_lot::Mutex;
use registering::Registering;
use searches::Searches;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

pub use namespace::Names;
pub use opening::Opened;

/// Told after the new tree is in place, from the follower's thread or the engine's, under no lock.
pub type ChangeListener = Box<dyn Fn(&Tree, &TreeChange) + Send + Sync>;

/// Enough to keep sixteen downloads and the waiting reads moving; each costs a stack.
const WORKERS_MAX: usize = 4;
const WORKER_STACK_BYTES: usize = 512 << 10;
/// Threads that write, sync and hash: more would only queue at the same disk.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long a stop waits for tasks that do not end by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct Mounted {
    inner: Arc<Inner>,
}

/// Lock order: none of these locks is ever held while another is taken, nor across a call into another part.
struct Inner {
    library: Library,
    current: Arc<Current>,
    facts: Arc<Facts>,
    searches: Arc<Searches>,
    registering: Arc<Registering>,
    hits: Arc<Hits>,
    engine: Engine,
    keeper: Arc<Keeper>,
    handle: Handle,
    /// Ends reads of whole files at a stop.
    cancel: Cancel,
    /// Taken by the first `stop`.
    machinery: Mutex<Option<Machinery>>,
}

struct Machinery {
    follower: Follower,
    runtime: Runtime,
}

impl Mounted {
    /// Reads the catalog, starts the follower and the engine. Never waits for the network.
    pub fn start(library: &Library) -> Result<Self, LibraryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS_MAX)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_stack_size(WORKER_STACK_BYTES)
            .thread_name("modelfs-fetch")
            .enable_all()
            .build()
            .map_err(|error| machinery_fault(&error))?;
        let facts = Arc::new(Facts::new(library.catalog().clone()));
        let current = Arc::new(Current::load(library.catalog().clone(), Arc::clone(&facts))?);
        let searches =
            Arc::new(Searches::load(library.catalog().clone(), Arc::clone(library.clock()), &current.tree())?);
        let options = library.options();
        let engine_options = EngineOptions {
            promote_after_bytes: options.promote_after_bytes,
            read_timeout: options.read_timeout,
            streams: options.streams,
            rate_bytes_max: options.rate_bytes_max,
            preference: if options.hubs.order.is_empty() { Preference::Fastest } else { Preference::AsGiven },
            mirrors: options.hubs.mirrors.clone(),
        };
        let hubs = HubSet::new(options.hubs.clone());
        let at = (Arc::clone(&current), runtime.handle().clone());
        let keeper = Arc::new(Keeper::new(library.clone(), hubs.clone(), at.0, at.1));
        keeper.start();
        let books = Arc::new(Books::new(library.clone(), Arc::clone(&current), Arc::clone(&keeper)));
        let at_hubs = hubs.clone();
        let engine = Engine::new(library.store().clone(), hubs, engine_options, books, runtime.handle().clone());
        let hits = Hits::new(library.clone(), Arc::clone(&current), at_hubs, runtime.handle().clone());
        let registering = Registering::new(library.clone(), Arc::clone(&current));
        let follower = Follower::start(Arc::clone(&current), Arc::clone(&searches))?;
        let handle = runtime.handle().clone();
        let machinery = Mutex::new(Some(Machinery { follower, runtime }));
        let (library, cancel) = (library.clone(), Cancel::new());
        let inner =
            Inner { library, current, facts, searches, registering, hits, engine, keeper, handle, cancel, machinery };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tree of this moment.
    pub fn tree(&self) -> Arc<Tree> {
        self.inner.current.tree()
    }

    /// Names the one listener for changes; kept until `stop`.
    pub fn on_change(&self, listener: ChangeListener) {
        self.inner.current.listen(Some(listener.into()));
    }

    /// Runs a read of a remote file to its end, away from the kernel's threads.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.handle.spawn(work);
    }

    /// Whether new opens of this content are native.
    pub fn is_resident(&self, blob: BlobId) -> bool {
        let tree = self.tree();
        tree.blob(tree.current(blob)).is_some_and(|entry| entry.state == crate::base::BlobState::Resident)
    }

    /// Where the contents lie.
    pub fn store_root(&self) -> PathBuf {
        self.inner.library.store().root().to_owned()
    }

    pub fn space(&self) -> Result<Space, Fault> {
        self.inner.library.store().space().map_err(|error| error.fault())
    }

    /// Stops the follower and the engine and makes partial files durable. Bounded. Idempotent.
    pub fn stop(&self) {
        let Some(machinery) = self.inner.machinery.lock().take() else { return };
        self.inner.current.listen(None);
        self.inner.cancel.cancel();
        self.inner.registering.stop();
        machinery.follower.stop();
        self.inner.engine.shutdown();
        self.inner.keeper.write_uses();
        machinery.runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}

pub(super) fn machinery_fault(error: &std::io::Error) -> LibraryError {
    LibraryError::Part(Fault::new(
        FaultKind::Internal,
        format!("cannot start a thread: {error}"),
        "raise the limit of processes (`ulimit -u`)",
    ))
}

//! The tree of this moment, and the thread that keeps it in step with the catalog.
//!
//! Invariants: trees replace each other in the order of revisions; a listener hears of every change exactly once, after
//! the new tree is in place. What another process writes is seen within milliseconds and the time to apply it.

use super::super::LibraryError;
use super::facts::Facts;
use super::machinery_fault;
use super::searches::Searches;
use crate::base::BlobId;
use crate::catalog::{Catalog, CatalogError, Watcher};
use crate::tree::{Tree, TreeChange};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait before the thread looks whether it is to end.
const WAIT: Duration = Duration::from_millis(100);

type Listener = Arc<dyn Fn(&Tree, &TreeChange) + Send + Sync>;

/// Lock order: `refreshing`, then `tree` or `listener`. `refreshing` is held while the catalog is read and the listener
/// runs, because changes must be applied and told in order; only whoever refreshes waits for it, never a request of the
/// kernel. The other two are held for a copy of a pointer.
pub(super) struct Current {
    catalog: Catalog,
    facts: Arc<Facts>,
    tree: RwLock<Arc<Tree>>,
    listener: Mutex<Option<Listener>>,
    refreshing: Mutex<()>,
}

impl Current {
    pub fn load(catalog: Catalog, facts: Arc<Facts>) -> Result<Self, LibraryError> {
        let snapshot = catalog.read(|reader| reader.snapshot())?;
        let tree = RwLock::new(Arc::new(Tree::new(snapshot)));
        Ok(Self { catalog, facts, tree, listener: Mutex::new(None), refreshing: Mutex::new(()) })
    }

    pub fn tree(&self) -> Arc<Tree> {
        Arc::clone(&self.tree.read())
    }

    pub fn listen(&self, listener: Option<Listener>) {
        *self.listener.lock() = listener;
    }

    /// Brings the tree up to the catalog. When this returns, everything committed before the call is visible.
    pub fn refresh(&self) -> Result<(), CatalogError> {
        let _in_order = self.refreshing.lock();
        let before = self.tree();
        let delta = self.catalog.read(|reader| reader.delta_since(before.revision()))?;
        if delta.revision == before.revision() {
            return Ok(());
        }
        // More than what the tree shows of them may have changed: hashes, errors, origins.
        let changed: Vec<BlobId> =
            delta.blobs.iter().map(|blob| blob.id).chain(delta.models.iter().map(|model| model.blob)).collect();
        let (after, change) = before.apply(delta);
        let after = Arc::new(after);
        *self.tree.write() = Arc::clone(&after);
        self.facts.forget(&changed);
        self.tell(&after, &change);
        Ok(())
    }

    pub(super) fn tell(&self, tree: &Tree, change: &TreeChange) {
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener(tree, change);
        }
    }

    /// Answers the queries of `search/` again after a change of the catalog.
    fn search(&self, searches: &Searches) -> Result<(), CatalogError> {
        let tree = self.tree();
        let change = searches.follow(&tree)?;
        if change != TreeChange::default() {
            self.tell(&tree, &change);
        }
        Ok(())
    }
}

/// The thread. It ends when it is stopped.
pub(super) struct Follower {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Follower {
    pub fn start(current: Arc<Current>, searches: Arc<Searches>) -> Result<Self, LibraryError> {
        let watcher = current.catalog.watcher()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("modelfs-follow".to_owned())
            .spawn(move || follow(&current, &searches, watcher, &flag))
            .map_err(|error| machinery_fault(&error))?;
        Ok(Self { stopping, thread })
    }

    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the thread that follows the catalog had stopped early");
        }
    }
}

fn follow(current: &Current, searches: &Searches, mut watcher: Watcher, stopping: &AtomicBool) {
    let mut failing = false;
    while !stopping.load(Ordering::Relaxed) {
        let result = watcher.wait(WAIT).and_then(|changed| {
            if !changed {
                return Ok(());
            }
            current.refresh()?;
            current.search(searches)
        });
        match result {
            Ok(()) => failing = false,
            Err(error) => {
                // Once, not ten times a second.
                if !failing {
                    tracing::error!("the mount cannot follow the catalog: {}", error.fault());
                }
                failing = true;
                std::thread::sleep(WAIT);
            }
        }
    }
}

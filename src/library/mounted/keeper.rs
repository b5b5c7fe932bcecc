//! Keeps the store within its limits: notes which files are used, and evicts those that were not for the longest time.
//!
//! Invariants: an eviction follows every rule of `evict`, so it never takes a pinned or open file or one that no hub has;
//! a use is written at most once an hour for each file, many in one transaction. Lock order: `evicting` is the outermost
//! and held across disk and network on purpose, since whoever waits for it needs the same space; the others are leaves.

use super::super::{Library, evict};
use super::follower::Current;
use crate::base::{BlobId, Fault, FaultKind, Timestamp};
use crate::catalog::{CatalogError, EvictableRow};
use crate::hub::HubSet;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// How often uses are written and limits are looked at: a download of a fast line takes gigabytes meanwhile, but those ask
/// for room by themselves.
const PERIOD: Duration = Duration::from_secs(5);
/// A use is written again after this time.
const USE_AGAIN_NS: i64 = 3600 * 1_000_000_000;
/// Uses that are remembered as written: a collection of this many files is opened once an hour without a write.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(16384).expect("not zero");
/// Candidates looked at in one round. Those in use or without a hub are passed over.
const CANDIDATES_MAX: u32 = 256;
/// Refusals of hubs in one round: when they cannot be reached, asking for each file would take minutes.
const REFUSALS_MAX: u32 = 4;

pub(super) struct Keeper {
    library: Library,
    hubs: HubSet,
    current: Arc<Current>,
    runtime: Handle,
    evicting: Mutex<()>,
    /// Rounds that ended without enough room: whoever waited for one does not begin the same again.
    in_vain: AtomicU64,
    /// When the use of a content was noted last.
    noted: Mutex<LruCache<BlobId, Timestamp>>,
    unwritten: Mutex<Vec<(BlobId, Timestamp)>>,
    /// The revision that the limit of the cache was checked at.
    checked: Mutex<Option<u64>>,
}

impl Keeper {
    pub fn new(library: Library, hubs: HubSet, current: Arc<Current>, runtime: Handle) -> Self {
        Self {
            library,
            hubs,
            current,
            runtime,
            evicting: Mutex::new(()),
            in_vain: AtomicU64::new(0),
            noted: Mutex::new(LruCache::new(REMEMBERED_MAX)),
            unwritten: Mutex::new(Vec::new()),
            checked: Mutex::new(None),
        }
    }

    /// Looks after the store until the runtime ends.
    pub fn start(self: &Arc<Self>) {
        let keeper = Arc::downgrade(self);
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let Some(keeper) = keeper.upgrade() else { return };
                let round = tokio::task::spawn_blocking(move || {
                    keeper.write_uses();
                    keeper.trim();
                });
                if round.await.is_err() {
                    tracing::error!("keeping the store within its limits broke off");
                }
            }
        });
    }

    /// Somebody opened a content.
    pub fn used(&self, blob: BlobId) {
        let now = self.library.now();
        let before = self.noted.lock().get(&blob).copied();
        if before.is_some_and(|before| now.unix_ns().saturating_sub(before.unix_ns()) < USE_AGAIN_NS) {
            return;
        }
        self.noted.lock().put(blob, now);
        self.unwritten.lock().push((blob, now));
    }

    pub fn write_uses(&self) {
        let uses = std::mem::take(&mut *self.unwritten.lock());
        if uses.is_empty() {
            return;
        }
        let written = self.library.catalog().write(self.library.now(), |writer| {
            uses.iter().try_for_each(|(blob, at)| writer.note_read(*blob, *at))?;
            Ok::<_, CatalogError>(())
        });
        // Only the order of evictions suffers.
        if let Err(error) = written {
            tracing::warn!("uses of files could not be noted: {}", error.fault());
        }
    }

    /// Sees to it that this many bytes can be written. Blocks on the disk, and on hubs when something has to go.
    pub fn make_room(&self, bytes: u64) -> Result<(), Fault> {
        if self.has_room(bytes)? {
            return Ok(());
        }
        let before = self.in_vain.load(Ordering::Relaxed);
        let _one_at_a_time = self.evicting.lock();
        // Hubs that do not answer cost a round minutes; every writer in turn would take all the engine's threads.
        if self.in_vain.load(Ordering::Relaxed) == before {
            self.evict_until(|| self.has_room(bytes), 0)?;
            self.in_vain.fetch_add(u64::from(!self.has_room(bytes)?), Ordering::Relaxed);
        }
        if self.has_room(bytes)? {
            return Ok(());
        }
        let reserve = self.library.options().min_free_bytes;
        let free = self.library.store().free_bytes().map_err(|error| error.fault())?;
        let what = format!(
            "the disk of the store is full: {bytes} bytes are needed, {free} are free and {reserve} are to stay free"
        );
        Err(Fault::new(FaultKind::NoSpace, what, "free some space, unpin or evict files, or lower store.min_free"))
    }

    fn has_room(&self, bytes: u64) -> Result<bool, Fault> {
        let free = self.library.store().free_bytes().map_err(|error| error.fault())?;
        Ok(free >= bytes.saturating_add(self.library.options().min_free_bytes))
    }

    fn trim(&self) {
        let trimmed = self.trim_disk().and_then(|()| self.trim_cache());
        if let Err(fault) = trimmed {
            tracing::warn!("the store could not be kept within its limits: {fault}");
        }
    }

    fn trim_disk(&self) -> Result<(), Fault> {
        if self.has_room(0)? {
            return Ok(());
        }
        let _one_at_a_time = self.evicting.lock();
        self.evict_until(|| self.has_room(0), 0)
    }

    fn trim_cache(&self) -> Result<(), Fault> {
        let Some(limit) = self.library.options().cache_limit_bytes else { return Ok(()) };
        let revision = self.current.tree().revision();
        let fits = || {
            let cached = self.library.catalog().read(|reader| reader.cached_bytes());
            cached.map(|bytes| bytes <= limit).map_err(|error| error.fault())
        };
        if *self.checked.lock() == Some(revision) {
            return Ok(());
        }
        let _one_at_a_time = self.evicting.lock();
        // What was used last stays even when it is larger than the limit: it would only be fetched again.
        self.evict_until(fits, 1)?;
        if fits()? {
            *self.checked.lock() = Some(revision);
        }
        Ok(())
    }

    /// Evicts what was used the longest ago until it is enough, and keeps the `keep` that were used last.
    fn evict_until(&self, is_enough: impl Fn() -> Result<bool, Fault>, keep: usize) -> Result<(), Fault> {
        if is_enough()? {
            return Ok(());
        }
        // Otherwise a file that was opened a moment ago would look unused.
        self.write_uses();
        let candidates = self.library.catalog().read(|reader| reader.evictable(CANDIDATES_MAX));
        let candidates: Vec<EvictableRow> = candidates.map_err(|error| error.fault())?;
        let mut refusals = 0;
        for candidate in &candidates[..candidates.len().saturating_sub(keep)] {
            match self.runtime.block_on(evict::evict(&self.library, &self.hubs, candidate.blob)) {
                Ok(bytes) => {
                    tracing::info!(blob = %candidate.blob, bytes, "evicted");
                    self.current.refresh().map_err(|error| error.fault())?;
                    if is_enough()? {
                        return Ok(());
                    }
                }
                Err(fault) => {
                    tracing::debug!(blob = %candidate.blob, "{fault}");
                    refusals += u32::from(!matches!(fault.kind, FaultKind::Busy | FaultKind::NotPermitted));
                }
            }
            if refusals == REFUSALS_MAX {
                return Ok(());
            }
        }
        Ok(())
    }
}

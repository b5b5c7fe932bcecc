//! What the catalog knows about a content beyond the tree: hashes, verdict, origins. Kept for the ones asked lately.
//!
//! Invariant: a kept answer is forgotten when its content changes. A miss reads the local database, never the network.

use super::super::danger;
use crate::base::{BlobId, Fault};
use crate::catalog::{BlobRow, Catalog, CatalogError, ModelRow, OriginRow};
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file manager asks for some twenty attributes of each file of a folder: this holds the largest folders people show,
/// at about a kilobyte each.
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

pub(super) struct Known {
    pub blob: BlobRow,
    /// The models of this content; usually one, none for a part of a bundle.
    pub models: Vec<ModelRow>,
    pub origins: Vec<OriginRow>,
    pub pinned: bool,
    /// Why it is not handed out.
    pub withheld: Option<Fault>,
}

pub(super) struct Facts {
    catalog: Catalog,
    /// Held for a look or a store only.
    kept: Mutex<LruCache<BlobId, Arc<Known>>>,
    /// Counts what was forgotten, so that an answer read before a change is not kept after it.
    changes: AtomicU64,
}

impl Facts {
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, kept: Mutex::new(LruCache::new(KEPT_MAX)), changes: AtomicU64::new(0) }
    }

    pub fn of(&self, blob: BlobId) -> Result<Option<Arc<Known>>, CatalogError> {
        if let Some(known) = self.kept.lock().get(&blob) {
            return Ok(Some(Arc::clone(known)));
        }
        let before = self.changes.load(Ordering::Acquire);
        let Some(known) = self.catalog.read(|reader| {
            let Some(row) = reader.current_blob(blob)? else { return Ok::<_, CatalogError>(None) };
            let blob = row.id;
            let (models, origins) = (reader.models_of_blob(blob)?, reader.origins(blob)?);
            let (pinned, withheld) = (reader.is_pinned(blob)?, danger::refusal(reader, &row)?);
            Ok(Some(Arc::new(Known { blob: row, models, origins, pinned, withheld })))
        })?
        else {
            return Ok(None);
        };
        let mut kept = self.kept.lock();
        // Of one that has become another nobody would say that it changed.
        if known.blob.id == blob && self.changes.load(Ordering::Acquire) == before {
            kept.put(blob, Arc::clone(&known));
        }
        Ok(Some(known))
    }

    pub fn forget(&self, blobs: &[BlobId]) {
        let mut kept = self.kept.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        for blob in blobs {
            kept.pop(blob);
        }
    }
}

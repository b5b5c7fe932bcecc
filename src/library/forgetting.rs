//! What searches found at hubs and nobody looks at any more is forgotten, so that the catalog does not grow with every look.
//!
//! Invariants: what a kept answer shows stays, and so does what anybody registered, read, pinned or trusted
//! (`catalog::Writer::forget_blob`). Forgotten contents can be found again. Not here: answers (`mounted::hits`).

use super::shelf::Shelf;
use super::{Library, LibraryError};
use crate::base::{BlobId, Timestamp};
use crate::catalog::CatalogError;
use std::collections::HashSet;
use std::time::Duration;

/// A person who found something last week may still have its path in a terminal.
pub(super) const LOOSE_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Contents forgotten in one transaction: others wait for it.
const BATCH_MAX: usize = 500;

/// Forgets what only searches led to, `shown` excepted. Says how many contents.
pub(super) fn forget_loose(library: &Library, shown: &HashSet<BlobId>) -> Result<usize, LibraryError> {
    let now = library.now();
    let age_ns = i64::try_from(LOOSE_AGE_MAX.as_nanos()).expect("a week fits");
    let before = Timestamp::from_unix_ns(now.unix_ns().saturating_sub(age_ns));
    let mut loose: Vec<BlobId> = library.catalog().read(|reader| reader.loose_blobs(before))?;
    loose.retain(|blob| !shown.contains(blob));
    let mut count = 0;
    for batch in loose.chunks(BATCH_MAX) {
        count += library.catalog().write(now, |writer| {
            let mut forgotten = 0;
            for blob in batch {
                forgotten += usize::from(writer.forget_blob(*blob, before)?);
            }
            if forgotten > 0 {
                Shelf::begin(writer)?.touch_store(writer)?;
            }
            Ok::<_, CatalogError>(forgotten)
        })?;
    }
    Ok(count)
}

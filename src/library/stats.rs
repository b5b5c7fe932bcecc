//! Figures about the whole collection.

use super::{Library, LibraryError, StatsRow, StoreStats};
use crate::base::BlobState;
use crate::catalog::{CatalogError, TypeCount};

pub(super) fn stats(library: &Library) -> Result<StoreStats, LibraryError> {
    let free_bytes = library.store().free_bytes()?;
    let row = |TypeCount { word, count, bytes }: TypeCount| StatsRow { word, count, bytes };
    let stats = library.catalog().read(|r| {
        let states = r.counts_by_state()?;
        let resident = states.iter().filter(|(state, ..)| *state == BlobState::Resident);
        Ok::<_, CatalogError>(StoreStats {
            model_count: r.model_count()?,
            blob_count: states.iter().map(|(_, count, _)| count).sum(),
            known_bytes: states.iter().map(|(.., bytes)| bytes).sum(),
            resident_bytes: resident.map(|(.., bytes)| bytes).sum(),
            saved_bytes: r.saved_bytes()?,
            free_bytes,
            by_type: r.counts_by_type()?.into_iter().map(row).collect(),
            by_base: r.counts_by_base()?.into_iter().map(row).collect(),
            by_state: states
                .iter()
                .map(|(state, count, bytes)| StatsRow { word: state.to_string(), count: *count, bytes: *bytes })
                .collect(),
        })
    })?;
    Ok(stats)
}

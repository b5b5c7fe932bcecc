//! Giving up bytes that a hub still has, and pinning those that must stay.
//!
//! Invariants: a content that only this store has is never given up: before each eviction one of its hubs has to answer
//! for the very same content; a pinned or open one neither; the row says remote before the file is gone, and names,
//! inode numbers and times stay. Not here: when space is short (`mounted::keeper`).

use super::{Library, LibraryError, origins, shelf};
use crate::base::{BlobId, BlobState, ByteRange, Fault, FaultKind};
use crate::catalog::{BlobRow, CatalogError, OriginRow};
use crate::hub::{Expected, HubSet};
use crate::store::{Eviction, PartialKey, StoreError};
use std::time::Duration;

/// A hub that does not answer by then is no proof that the file can be had again.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

struct Facts {
    row: BlobRow,
    is_linked: bool,
    is_pinned: bool,
    origins: Vec<OriginRow>,
}

/// Pins or unpins a content. Says whether that is a change.
pub(super) fn set_pinned(library: &Library, blob: BlobId, pinned: bool) -> Result<bool, LibraryError> {
    Ok(library.catalog().write(library.clock().now(), |writer| writer.set_pinned(blob, pinned))?)
}

/// Gives up the bytes of one content and says how many they were. Waits for a hub, bounded.
pub(super) async fn evict(library: &Library, hubs: &HubSet, blob: BlobId) -> Result<u64, Fault> {
    let facts = facts_of(library, blob)?;
    let name = facts.row.name.to_string();
    if facts.is_pinned {
        let remedy = "unpin it first with `modelfs unpin`";
        return Err(Fault::new(FaultKind::NotPermitted, format!("{name} is pinned"), remedy));
    }
    match facts.row.state {
        // Nothing is lost that was not to be fetched anyway. The first bytes may be here before their row says so.
        BlobState::Remote | BlobState::Partial => discard(library, &facts.row),
        BlobState::Resident => {
            // Hubs are not asked for a file that is in use anyway; the lock is not held while they are.
            drop(lock(library, &facts.row)?);
            // A file that was lost is given up by the same rules: then it can be fetched again.
            prove_origin(hubs, &facts).await?;
            remove(library, &facts.row)
        }
    }
}

fn facts_of(library: &Library, blob: BlobId) -> Result<Facts, Fault> {
    let found = library.catalog().read(|reader| {
        let Some(row) = reader.blob(blob)? else { return Ok::<_, CatalogError>(None) };
        Ok(Some(Facts {
            row,
            is_linked: reader.link(blob)?.is_some(),
            is_pinned: reader.is_pinned(blob)?,
            origins: reader.origins(blob)?,
        }))
    });
    let gone = || Fault::new(FaultKind::Gone, "the file was removed from the store", "");
    found.map_err(|error| error.fault())?.ok_or_else(gone)
}

/// One hub has to hand out the first byte of exactly this content.
async fn prove_origin(hubs: &HubSet, facts: &Facts) -> Result<(), Fault> {
    let name = &facts.row.name;
    let places: Vec<_> = facts.origins.iter().filter_map(origins::fetchable).collect();
    let first = ByteRange::new(0, 1).filter(|_| facts.row.size_bytes > 0);
    let (Some(first), false, false) = (first, facts.is_linked, places.is_empty()) else {
        let what = format!("{name} is nowhere but on this machine");
        return Err(Fault::new(FaultKind::NotPermitted, what, "it stays; only files that a hub has can be evicted"));
    };
    let expected =
        Expected { size_bytes: facts.row.size_bytes, sha256: facts.row.sha256, etag: facts.row.etag.clone() };
    let mut last = Fault::new(FaultKind::TimedOut, "no hub answered in time", "try again later");
    for place in &places {
        match tokio::time::timeout(PROOF_TIMEOUT, hubs.open_range(place, &expected, first)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last = error.fault(),
            Err(_) => {}
        }
    }
    Err(Fault::new(last.kind, format!("{name} stays, because it cannot be had again: {}", last.what), last.remedy))
}

fn remove(library: &Library, row: &BlobRow) -> Result<u64, Fault> {
    let eviction = lock(library, row)?;
    let is_remote = set_remote(library, row)?;
    if !is_remote {
        return Err(Fault::new(FaultKind::Busy, format!("{} changed just now", row.name), "try again"));
    }
    let Some(eviction) = eviction else { return Ok(0) };
    eviction.finish().map_err(|error| error.fault())?;
    Ok(row.size_bytes)
}

/// `None` when there is no file.
fn lock(library: &Library, row: &BlobRow) -> Result<Option<Eviction>, Fault> {
    let Some(sha256) = &row.sha256 else {
        return Err(Fault::new(FaultKind::Internal, format!("{} has no hash", row.name), "run `modelfs verify`"));
    };
    match library.store().begin_eviction(sha256, &row.name).map_err(|error| in_use(row, error)) {
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        locked => locked.map(Some),
    }
}

fn discard(library: &Library, row: &BlobRow) -> Result<u64, Fault> {
    let key = PartialKey::of_blob(row.id);
    let kept = library.store().partial_info(&key).ok().flatten().map_or(0, |partial| partial.bytes_present);
    library.store().discard_partial(&key).map_err(|error| in_use(row, error))?;
    set_remote(library, row)?;
    Ok(kept)
}

/// Says no when the content is not what it was, or was pinned meanwhile.
fn set_remote(library: &Library, row: &BlobRow) -> Result<bool, Fault> {
    let done = library.catalog().write(library.clock().now(), |writer| {
        let state = writer.blob(row.id)?.map(|now| now.state);
        if state != Some(row.state) || writer.is_pinned(row.id)? {
            return Ok::<_, CatalogError>(false);
        }
        shelf::set_blob_state(writer, row.id, BlobState::Remote)?;
        Ok(true)
    });
    done.map_err(|error| error.fault())
}

fn in_use(row: &BlobRow, error: StoreError) -> Fault {
    match error {
        StoreError::Busy { .. } => {
            let what = format!("{} is open", row.name);
            Fault::new(FaultKind::Busy, what, "close the application that uses it, then try again")
        }
        other => other.fault(),
    }
}

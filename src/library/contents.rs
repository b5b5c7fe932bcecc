//! What a REF names as files: one model, or every file of a repository or of a folder of it.
//!
//! For the verbs that move bytes: `fetch`, `pin`, `evict`. Invariant: a REF that names several things which are no
//! repository lists them and picks none.

use super::{Library, LibraryError, details, evict, mounted, reference};
use crate::base::{BlobId, FaultKind};
use crate::catalog::{CatalogError, Reader};
use crate::hub::HubSet;
use crate::library::{ContentInfo, Eviction};
use std::time::{Duration, Instant};

/// An application that was just closed, or a download that was just completed, lets go of its file within this time.
const RELEASE_WAIT: Duration = Duration::from_secs(4);
const RELEASE_POLL: Duration = Duration::from_millis(50);

pub(super) fn named(library: &Library, reference: &str) -> Result<Vec<ContentInfo>, LibraryError> {
    library.catalog().read(|reader| {
        let blobs = reference::contents(reader, reference)?;
        let infos: Result<Vec<_>, CatalogError> = blobs.into_iter().map(|blob| info(reader, blob)).collect();
        Ok(infos?.into_iter().flatten().collect())
    })
}

pub(super) fn of(library: &Library, blob: BlobId) -> Result<Option<ContentInfo>, LibraryError> {
    Ok(library.catalog().read(|reader| info(reader, blob))?)
}

fn info(reader: &Reader<'_>, blob: BlobId) -> Result<Option<ContentInfo>, CatalogError> {
    let Some(row) = reader.current_blob(blob)? else { return Ok(None) };
    let blob = row.id;
    let model = reader.models_of_blob(blob)?.into_iter().next();
    let paths = details::paths(reader, model.as_ref(), &row)?;
    // The folder of a content is there whatever applications are enabled.
    let path = paths.iter().find(|path| path.starts_with("store/")).or_else(|| paths.first()).cloned();
    let name = model.map_or_else(|| row.name.to_string(), |model| model.name.to_string());
    let pinned = reader.is_pinned(blob)?;
    Ok(Some(ContentInfo { blob, name, size_bytes: row.size_bytes, state: row.state, sha256: row.sha256, pinned, path }))
}

pub(super) fn pin(library: &Library, reference: &str, pinned: bool) -> Result<Vec<ContentInfo>, LibraryError> {
    let mut contents = named(library, reference)?;
    for content in &mut contents {
        evict::set_pinned(library, content.blob, pinned)?;
        content.pinned = pinned;
    }
    Ok(contents)
}

pub(super) fn evict_all(library: &Library, reference: &str) -> Result<Vec<Eviction>, LibraryError> {
    let hubs = HubSet::new(library.options().hubs.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| mounted::machinery_fault(&error))?;
    let mut results = Vec::new();
    // One for all: who has a hundred files of a repository open keeps them open.
    let deadline = Instant::now() + RELEASE_WAIT;
    for content in named(library, reference)? {
        let freed = loop {
            match runtime.block_on(evict::evict(library, &hubs, content.blob)) {
                Err(fault) if fault.kind == FaultKind::Busy && Instant::now() < deadline => {
                    std::thread::sleep(RELEASE_POLL);
                }
                result => break result,
            }
        };
        results.push(Eviction { content, freed });
    }
    Ok(results)
}

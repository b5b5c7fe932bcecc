//! Opening a content: the file in the store, the file where it lies, or a handle of the engine.
//!
//! Invariant: an open never waits for the network, and never hands out bytes of a linked file that changed.

use super::super::{arrival, danger, origins};
use super::Mounted;
use crate::base::{BlobId, BlobState, Fault, FaultKind};
use crate::catalog::{BlobRow, CatalogError, FileMark, LinkRow, OriginRow};
use crate::fetch::{Activity, Progress, RemoteFile, Wanted};
use crate::hub::Origin;
use crate::store::{EVICTION_POLL, EVICTION_POLLS_MAX, FileSource, StoreError};
use crate::tree::{Handout, Source};
use std::fs::File;

/// An open content.
pub enum Opened {
    /// Complete: read the file itself. Its bytes never change.
    Resident(File),
    Remote(RemoteFile),
}

/// What the catalog says at the moment of opening.
struct Facts {
    row: BlobRow,
    link: Option<LinkRow>,
    origins: Vec<OriginRow>,
}

impl Mounted {
    /// Opens a content. A linked file that changed where it lies is refused, and so is a pickle that may run something.
    pub fn open(&self, blob: BlobId) -> Result<Opened, Fault> {
        let is_withheld = || {
            let tree = self.tree();
            tree.blob(tree.current(blob)).is_some_and(|entry| entry.handout == Handout::Withheld)
        };
        if is_withheld() {
            return Err(self.withheld(blob));
        }
        let opened = self.open_bytes(blob)?;
        // A file may arrive meanwhile, and its last bytes may be what tells that it runs something.
        if is_withheld() { Err(self.withheld(blob)) } else { Ok(opened) }
    }

    /// Why a content is not handed out.
    fn withheld(&self, blob: BlobId) -> Fault {
        let gone = || Fault::new(FaultKind::Gone, "the file was removed", "");
        let told = self.inner.library.catalog().read(|reader| match reader.current_blob(blob)? {
            // Somebody may have trusted it since; then the next open is answered.
            Some(row) => Ok(danger::refusal(reader, &row)?.unwrap_or_else(|| busy(&row))),
            None => Ok::<_, CatalogError>(gone()),
        });
        told.unwrap_or_else(|error| error.fault())
    }

    /// As `open`, for whoever only moves the bytes.
    fn open_bytes(&self, blob: BlobId) -> Result<Opened, Fault> {
        self.inner.keeper.used(blob);
        for _ in 0..EVICTION_POLLS_MAX {
            if let Some(opened) = self.try_open(blob)? {
                return Ok(opened);
            }
            std::thread::sleep(EVICTION_POLL);
        }
        let what = "the file is being evicted by another process";
        Err(Fault::new(FaultKind::Busy, what, "read it again"))
    }

    /// Nothing while the content is being evicted: between its lock and its row lie a few milliseconds.
    fn try_open(&self, blob: BlobId) -> Result<Option<Opened>, Fault> {
        if let Some(entry) = self.tree().blob(blob)
            && entry.state == BlobState::Resident
            && let Some(sha256) = &entry.sha256
            && let Ok(file) = self.inner.library.store().hold_blob(sha256, &entry.name)
        {
            return Ok(Some(Opened::Resident(file)));
        }
        let facts = self.opening_facts(blob)?;
        if facts.row.state == BlobState::Resident {
            return self.open_resident(&facts);
        }
        if let Some(opened) = self.open_unrecorded(&facts)? {
            return Ok(Some(opened));
        }
        let wanted = wanted(&facts, &self.inner.library.options().hubs.order);
        let remote = self.inner.engine.open(&wanted).map_err(|error| error.fault())?;
        // It may have been completed between the look and the open; then the engine's handle would fetch it again.
        let facts = self.opening_facts(blob)?;
        if facts.row.state == BlobState::Resident {
            return self.open_resident(&facts);
        }
        Ok(Some(Opened::Remote(remote)))
    }

    /// A handle of the engine; `None` for a content that is here.
    pub(super) fn open_remote(&self, blob: BlobId) -> Result<Option<RemoteFile>, Fault> {
        match self.open_bytes(blob)? {
            Opened::Resident(_) => Ok(None),
            Opened::Remote(remote) => Ok(Some(remote)),
        }
    }

    /// A content that was completed and not recorded is recorded now, and not fetched again.
    fn open_unrecorded(&self, facts: &Facts) -> Result<Option<Opened>, Fault> {
        let blob = facts.row.id;
        // Whoever verifies it now records it with everything there is to know.
        let busy = |progress: Progress| matches!(progress.activity, Activity::Downloading | Activity::Verifying);
        if self.inner.engine.progress(blob).is_some_and(busy) {
            return Ok(None);
        }
        if !arrival::find(&self.inner.library, &facts.row).map_err(|error| error.fault())? {
            return Ok(None);
        }
        self.inner.current.refresh().map_err(|error| error.fault())?;
        let library = self.inner.library.clone();
        let cancel = self.inner.cancel.clone();
        // Minutes for a large file; nobody waits for it, and the next open of an unfinished one does not need it.
        self.inner.handle.spawn_blocking(move || match arrival::complete_hashes(&library, blob, &cancel) {
            Ok(()) => {}
            Err(fault) => tracing::warn!(%blob, "{fault}"),
        });
        self.open_resident(&self.opening_facts(blob)?)
    }

    fn opening_facts(&self, blob: BlobId) -> Result<Facts, Fault> {
        let found = self.inner.library.catalog().read(|reader| {
            let Some(row) = reader.current_blob(blob)? else { return Ok::<_, CatalogError>(None) };
            let (link, origins) = (reader.link(row.id)?, reader.origins(row.id)?);
            Ok(Some(Facts { row, link, origins }))
        });
        let found = found
            .map_err(|error| error.fault())?
            .ok_or_else(|| Fault::new(FaultKind::Gone, "the file was removed from the store", ""))?;
        if found.row.id != blob && self.tree().blob(blob).is_some() {
            // It became another content a moment ago, which may be one that is not handed out.
            self.inner.current.refresh().map_err(|error| error.fault())?;
        }
        Ok(found)
    }

    fn open_resident(&self, facts: &Facts) -> Result<Option<Opened>, Fault> {
        if let Some(link) = &facts.link {
            return open_linked(link).map(Opened::Resident).map(Some);
        }
        let Some(sha256) = &facts.row.sha256 else {
            return Err(Fault::new(
                FaultKind::Internal,
                format!("{} has no hash", facts.row.name),
                "run `modelfs verify`",
            ));
        };
        match self.inner.library.store().hold_blob(sha256, &facts.row.name) {
            Ok(file) => Ok(Some(Opened::Resident(file))),
            Err(StoreError::Busy { .. }) => Ok(None),
            Err(error @ StoreError::Io { .. }) => {
                tracing::error!("{} cannot be opened: {}", facts.row.name, error.fault());
                Err(error.fault())
            }
            Err(error) => Err(error.fault()),
        }
    }
}

fn busy(row: &BlobRow) -> Fault {
    Fault::new(FaultKind::Busy, format!("{} is being decided about", row.name), "open it again")
}

fn open_linked(link: &LinkRow) -> Result<File, Fault> {
    let shown = link.path.display();
    let source = FileSource::open(&link.path).map_err(|error| {
        let fault = error.fault();
        Fault::new(FaultKind::Gone, fault.what, format!("bring the file back to {shown}, or import it again"))
    })?;
    let stamp = source.stamp(&link.path).map_err(|error| error.fault())?;
    let mark =
        FileMark { size_bytes: stamp.size_bytes, mtime_ns: stamp.mtime_ns, inode: stamp.inode, device: stamp.device };
    if mark != link.mark {
        let what = format!("{shown} changed since it was imported by link");
        return Err(Fault::new(FaultKind::Gone, what, "import it again"));
    }
    source.file().try_clone().map_err(|error| {
        Fault::new(FaultKind::Internal, format!("cannot open {shown}: {error}"), "raise the limit of open files")
    })
}

fn wanted(facts: &Facts, order: &[Source]) -> Wanted {
    let mut origins: Vec<Origin> = facts.origins.iter().filter_map(origins::fetchable).collect();
    // The sort is stable: whoever is not named stays as registered, after those that are.
    origins.sort_by_key(|origin| order.iter().position(|source| *source == origin.source).unwrap_or(order.len()));
    Wanted {
        blob: facts.row.id,
        name: facts.row.name.clone(),
        size_bytes: facts.row.size_bytes,
        sha256: facts.row.sha256,
        etag: facts.row.etag.clone(),
        origins,
    }
}

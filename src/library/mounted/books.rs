//! Records in the catalog what the engine achieves.
//!
//! Invariant: when `completed` returns, the catalog and the tree of this process both say resident.

use super::super::{Library, LibraryError, arrival, shelf};
use super::follower::Current;
use super::keeper::Keeper;
use crate::base::{BlobId, BlobState, EntryName, Fault};
use crate::catalog::CatalogError;
use crate::fetch::Ledger;
use crate::store::Hashes;
use std::sync::Arc;

pub(super) struct Books {
    library: Library,
    current: Arc<Current>,
    keeper: Arc<Keeper>,
}

impl Books {
    pub fn new(library: Library, current: Arc<Current>, keeper: Arc<Keeper>) -> Self {
        Self { library, current, keeper }
    }

    fn refresh(&self) -> Result<(), Fault> {
        self.current.refresh().map_err(|error| error.fault())
    }
}

impl Ledger for Books {
    fn began(&self, blob: BlobId) -> Result<(), Fault> {
        let now = self.library.clock().now();
        self.library
            .catalog()
            .write(now, |writer| {
                let row = writer.blob(blob)?;
                if row.is_some_and(|row| row.state == BlobState::Remote) {
                    shelf::set_blob_state(writer, blob, BlobState::Partial)?;
                }
                Ok::<_, CatalogError>(())
            })
            .map_err(|error| error.fault())?;
        self.refresh()
    }

    fn completed(&self, blob: BlobId, hashes: &Hashes, name: &EntryName) -> Result<(), Fault> {
        arrival::record(&self.library, blob, hashes, name).map_err(|error: LibraryError| error.fault())?;
        self.refresh()
    }

    fn make_room(&self, bytes: u64) -> Result<(), Fault> {
        self.keeper.make_room(bytes)
    }

    fn failed(&self, blob: BlobId, fault: &Fault) {
        let now = self.library.clock().now();
        let text = fault.to_string();
        let noted = self.library.catalog().write(now, |writer| writer.set_error(blob, Some(&text)));
        // Only a note: the engine keeps the failure too.
        if let Err(error) = noted {
            tracing::warn!("a failure could not be recorded: {}", error.fault());
        }
    }
}

//! Two rows that turned out to be one content: everything that led to the one leads to the other.
//!
//! Happens when a file without a published hash has arrived and its bytes are known already. Invariant: no row is left
//! that names the content that is gone. Not here: directory times, which the library changes with it.

use super::cells::Answer;
use super::{CatalogError, Writer};
use crate::base::{BlobId, ModelId};
use crate::tree::Occupant;
use rusqlite::params;

impl Writer<'_> {
    /// Gives every file of a bundle, origin, import and model of `from` to `into` and removes `from`. Where `into` is a
    /// model of its own already, that one stays and the other model is gone.
    pub fn merge_blob(&mut self, from: BlobId, into: BlobId) -> Result<(), CatalogError> {
        let revision = self.stamp()?;
        let moved = params![from.get(), into.get()];
        let sql =
            "UPDATE bundles SET revision = ?2 WHERE id IN (SELECT bundle_id FROM bundle_files WHERE blob_id = ?1)";
        self.run(sql, params![from.get(), revision])?;
        self.run("UPDATE bundle_files SET blob_id = ?2 WHERE blob_id = ?1", moved)?;
        self.run("UPDATE OR IGNORE origins SET blob_id = ?2 WHERE blob_id = ?1", moved)?;
        self.run("UPDATE imports SET blob_id = ?2 WHERE blob_id = ?1", moved)?;
        // A content that was pinned under either row stays pinned.
        if self.is_pinned(from)? {
            self.set_pinned(into, true)?;
        }
        let stays = !self.models_of_blob(into)?.is_empty();
        for model in self.models_of_blob(from)? {
            if stays {
                self.remove_model(model.id)?;
            } else {
                let sql = "UPDATE models SET blob_id = ?2, revision = ?3, file_hash = \
                    (SELECT lower(hex(sha256)) FROM blobs WHERE id = ?2) WHERE id = ?1";
                self.run_on("models", model.id.get(), sql, params![model.id.get(), into.get(), revision])?;
            }
        }
        self.run_on("blobs", from.get(), "DELETE FROM blobs WHERE id = ?1", [from.get()])
    }

    fn remove_model(&mut self, model: ModelId) -> Answer<()> {
        self.note_gone(Occupant::Model(model), true)?;
        self.forget_text(model)?;
        self.run("DELETE FROM placements WHERE occupant_kind = 0 AND occupant_id = ?1", [model.get()])?;
        self.run_on("models", model.get(), "DELETE FROM models WHERE id = ?1", [model.get()])
    }
}

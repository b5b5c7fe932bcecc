//! How contents are used: whether they are pinned, when they were opened last, and so which may go first.
//!
//! Invariants: noting a use changes nothing that a tree shows, so it moves no revision; pinning does, because an attribute
//! tells it. Not here: whether a content can be had again (`library`).

use super::cells::{Answer, Cells};
use super::{CatalogError, EvictableRow, Reader, Writer};
use crate::base::{BlobId, Timestamp};
use rusqlite::params;

/// Contents that a hub has and that lie in the store.
const CACHED: &str = "blobs.state <> 'remote' AND blobs.size > 0 \
    AND EXISTS (SELECT 1 FROM origins WHERE origins.blob_id = blobs.id AND origins.source <> 'local') \
    AND NOT EXISTS (SELECT 1 FROM links WHERE links.blob_id = blobs.id)";

impl Reader<'_> {
    pub fn is_pinned(&self, blob: BlobId) -> Result<bool, CatalogError> {
        let sql = "SELECT blob_id, pinned FROM uses WHERE blob_id = ?1";
        Ok(self.first(sql, [blob.get()], "uses", |cells| cells.flag(1))?.unwrap_or(false))
    }

    /// Contents of hubs that are wholly or partly here and not pinned, those that were opened the longest ago first.
    pub fn evictable(&self, limit: u32) -> Result<Vec<EvictableRow>, CatalogError> {
        let sql = format!(
            "SELECT blobs.id, blobs.size, blobs.state = 'resident' FROM blobs LEFT JOIN uses ON uses.blob_id = blobs.id \
             WHERE {CACHED} AND coalesce(uses.pinned, 0) = 0 ORDER BY coalesce(uses.read_ns, 0), blobs.id LIMIT ?1"
        );
        self.all(&sql, [limit], "blobs", read_evictable)
    }

    /// Bytes of all whole contents that a hub has, pinned ones too: what a limit of the cache is about.
    pub fn cached_bytes(&self) -> Result<u64, CatalogError> {
        let sql = format!("SELECT coalesce(sum(blobs.size), 0) FROM blobs WHERE blobs.state = 'resident' AND {CACHED}");
        Ok(self.first(&sql, [], "blobs", |cells| cells.number(0))?.unwrap_or(0))
    }
}

fn read_evictable(cells: Cells<'_>) -> Answer<EvictableRow> {
    Ok(EvictableRow { blob: BlobId::new(cells.integer(0)?), size_bytes: cells.number(1)?, is_whole: cells.flag(2)? })
}

impl Writer<'_> {
    /// Says whether that is a change.
    pub fn set_pinned(&mut self, blob: BlobId, pinned: bool) -> Result<bool, CatalogError> {
        if self.is_pinned(blob)? == pinned {
            return Ok(false);
        }
        let stamped = [blob.get(), self.stamp()?];
        self.run_on("blobs", blob.get(), "UPDATE blobs SET revision = ?2 WHERE id = ?1", stamped)?;
        let sql = "INSERT INTO uses (blob_id, pinned) VALUES (?1, ?2) \
            ON CONFLICT (blob_id) DO UPDATE SET pinned = excluded.pinned";
        self.run(sql, params![blob.get(), pinned])?;
        Ok(true)
    }

    /// Notes when a content was opened last. One that is gone meanwhile is passed over.
    pub fn note_read(&mut self, blob: BlobId, at: Timestamp) -> Result<(), CatalogError> {
        let sql = "INSERT INTO uses (blob_id, read_ns) SELECT id, ?2 FROM blobs WHERE id = ?1 \
            ON CONFLICT (blob_id) DO UPDATE SET read_ns = max(read_ns, excluded.read_ns)";
        self.run(sql, params![blob.get(), at.unix_ns()]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, at, read, store, write};
    use super::super::{NewBlob, OriginRow};
    use super::*;
    use crate::base::{BlobState, Digest, EntryName};
    use crate::tree::Source;

    fn add(catalog: &super::super::Catalog, number: u8, state: BlobState, source: Source) -> BlobId {
        write(catalog, |writer| {
            let blob = writer.add_blob(&NewBlob {
                sha256: Some(Digest::from_bytes([number; 32])),
                size_bytes: 100 + u64::from(number),
                state,
                mtime: at(1),
                name: EntryName::new("a.safetensors").expect("valid"),
                hashes: None,
                etag: None,
            })?;
            let (repo, path) = ("org/name".to_owned(), format!("{number}"));
            writer.add_origin(blob, &OriginRow { source, repo, revision: "main".to_owned(), path })?;
            Ok(blob)
        })
    }

    #[test]
    fn what_was_opened_the_longest_ago_goes_first_and_what_is_pinned_or_local_stays() {
        let Store { catalog, folder: _folder } = store();
        let old = add(&catalog, 1, BlobState::Resident, Source::HuggingFace);
        let new = add(&catalog, 2, BlobState::Resident, Source::HuggingFace);
        let pinned = add(&catalog, 3, BlobState::Resident, Source::HuggingFace);
        let partial = add(&catalog, 4, BlobState::Partial, Source::HuggingFace);
        add(&catalog, 5, BlobState::Remote, Source::HuggingFace);
        add(&catalog, 6, BlobState::Resident, Source::Local);
        for (blob, second) in [(old, 10), (new, 30), (pinned, 5), (partial, 20), (new, 25)] {
            write(&catalog, |writer| writer.note_read(blob, at(second)));
        }
        let revision = || read(&catalog, |reader| reader.snapshot()).revision;
        let before = revision();
        write(&catalog, |writer| writer.note_read(old, at(11)));
        assert_eq!(revision(), before, "a use shows nothing new");
        assert!(write(&catalog, |writer| writer.set_pinned(pinned, true)));
        assert!(!write(&catalog, |writer| writer.set_pinned(pinned, true)) && revision() > before);
        let order = |limit| -> Vec<BlobId> {
            read(&catalog, |reader| reader.evictable(limit)).iter().map(|row| row.blob).collect()
        };
        assert_eq!(order(9), [old, partial, new]);
        assert_eq!(order(1), [old]);
        assert_eq!(read(&catalog, |reader| reader.cached_bytes()), 101 + 102 + 103);
        write(&catalog, |writer| writer.set_pinned(pinned, false));
        assert_eq!(order(9), [pinned, old, partial, new]);
        write(&catalog, |writer| writer.note_read(BlobId::new(999), at(1)));
    }
}

//! Contents that nothing but a search at a hub led to, and how they are forgotten.
//!
//! Invariants: a content is only forgotten while it is remote and no model, folder, import, link or decision of a person names
//! it; whoever follows the catalog learns of it. Not here: which ones a kept answer still shows (`library`).

use super::cells::Answer;
use super::{CatalogError, Reader, Writer};
use crate::base::{BlobId, Timestamp};
use rusqlite::params;

/// Numbers of forgotten contents that are kept for followers: far more than are forgotten at once, and a follower is a
/// second late at most.
const FORGOTTEN_MAX: i64 = 100_000;

/// Remote contents of hubs that nobody registered, changed or used since a time.
const LOOSE: &str = "blobs.state = 'remote' AND blobs.mtime_ns < ?1 AND blobs.trusted = 0 \
    AND EXISTS (SELECT 1 FROM origins WHERE origins.blob_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM models WHERE models.blob_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM bundle_files WHERE bundle_files.blob_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM imports WHERE imports.blob_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM links WHERE links.blob_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM merged_blobs WHERE merged_blobs.into_id = blobs.id) \
    AND NOT EXISTS (SELECT 1 FROM uses WHERE uses.blob_id = blobs.id AND (uses.pinned = 1 OR uses.read_ns >= ?1))";

impl Reader<'_> {
    /// Contents that nothing here but an answer of a hub can show, registered and last used before a time.
    pub fn loose_blobs(&self, before: Timestamp) -> Result<Vec<BlobId>, CatalogError> {
        let sql = format!("SELECT id FROM blobs WHERE {LOOSE} ORDER BY id");
        self.all(&sql, [before.unix_ns()], "blobs", |cells| cells.integer(0).map(BlobId::new))
    }

    /// What the catalog forgot after a revision.
    pub(super) fn forgotten_since(&self, since: i64) -> Answer<Vec<BlobId>> {
        let sql = "SELECT blob_id FROM forgotten_blobs WHERE revision > ?1 ORDER BY +blob_id";
        self.all(sql, [since], "forgotten_blobs", |cells| cells.integer(0).map(BlobId::new))
    }
}

impl Writer<'_> {
    /// Forgets a content that is loose since a time; says whether it was.
    pub fn forget_blob(&mut self, blob: BlobId, before: Timestamp) -> Result<bool, CatalogError> {
        let sql = format!("DELETE FROM blobs WHERE {LOOSE} AND id = ?2");
        if self.run(&sql, params![before.unix_ns(), blob.get()])? == 0 {
            return Ok(false);
        }
        let forgotten = params![blob.get(), self.stamp()?];
        self.run("INSERT OR REPLACE INTO forgotten_blobs (blob_id, revision) VALUES (?1, ?2)", forgotten)?;
        let sql = "DELETE FROM forgotten_blobs WHERE blob_id <= (SELECT max(blob_id) FROM forgotten_blobs) - ?1 \
            AND (SELECT count(*) FROM forgotten_blobs) > ?1";
        self.run(sql, [FORGOTTEN_MAX])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Store, at, name, new_model, plan_of, read, remote_blob, repository, snapshot, store, write,
    };
    use super::super::{NewBlob, OriginRow};
    use super::*;
    use crate::base::BlobState;
    use crate::tree::Source;

    /// A remote content of a hub, registered at second 10.
    fn add(writer: &mut Writer<'_>, number: u8) -> Answer<BlobId> {
        let new = NewBlob { mtime: at(10), name: name(&format!("f{number}")), ..remote_blob(number) };
        let blob = writer.add_blob(&new)?;
        let (repo, revision) = ("a/b".to_owned(), "c".to_owned());
        writer
            .add_origin(blob, &OriginRow { source: Source::HuggingFace, repo, revision, path: number.to_string() })?;
        Ok(blob)
    }

    #[test]
    fn only_what_nothing_names_is_forgotten_and_followers_learn_of_it() {
        let Store { catalog, folder: _folder } = store();
        let blobs = write(&catalog, |writer| (1..=8).map(|number| add(writer, number)).collect::<Answer<Vec<_>>>());
        let [loose, model, part, pinned, here, used, trusted, removed] = blobs[..] else { panic!("eight") };
        write(&catalog, |writer| {
            writer.add_model(&new_model(model, "m.safetensors"))?;
            writer.add_bundle(&repository('a', &[("part", part)]))?;
            writer.set_pinned(pinned, true)?;
            writer.set_state(here, BlobState::Partial)?;
            writer.note_read(used, at(30))?;
            writer.set_trusted(trusted, true)?;
            let removed = writer.add_model(&new_model(removed, "r.safetensors"))?;
            writer.set_deleted(removed, true)
        });
        assert_eq!(read(&catalog, |reader| reader.loose_blobs(at(10))), []);
        assert_eq!(read(&catalog, |reader| reader.loose_blobs(at(20))), [loose]);
        assert_eq!(read(&catalog, |reader| reader.loose_blobs(at(40))), [loose, used]);
        let before = snapshot(&catalog);
        for blob in &blobs {
            assert_eq!(write(&catalog, |writer| writer.forget_blob(*blob, at(20))), *blob == loose, "{blob}");
        }
        assert!(!write(&catalog, |writer| writer.forget_blob(loose, at(20))), "it is gone");
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert_eq!(delta.forgotten, [loose]);
        let after = snapshot(&catalog);
        assert_eq!(after.blobs.len(), before.blobs.len() - 1);
        assert!(after.revision > before.revision);
        // The same place is another content when it is found again.
        let again = write(&catalog, |writer| add(writer, 1));
        assert!(again > removed);
    }

    /// One walk over the contents: a store may have a hundred thousand that are remote.
    #[test]
    fn loose_contents_are_found_in_one_walk() {
        let store = store();
        let plan = plan_of(&store, &format!("SELECT id FROM blobs WHERE {} ORDER BY id", LOOSE.replace("?1", "1")));
        let walks: Vec<&String> = plan.iter().filter(|line| line.starts_with("SCAN")).collect();
        assert_eq!(walks, ["SCAN blobs"], "{plan:?}");
    }
}

//! Contents and where they are from: `blobs`, `headers`, `links`, `origins`, `imports`.
//!
//! Invariants: one row per sha256; a sha256 that is known never changes. Whatever a user can see of a content (state,
//! hashes, error, origins, not only what a tree is made of) moves the revision, so that a follower can forget what it
//! kept. Not here: the bytes (`store`).

use super::cells::{Answer, Cells, path_bytes, signed};
use super::reader::no_such_row;
use super::snapshot::occupant_columns;
use super::{BlobRow, CatalogError, FileMark, HashRow, ImportRow, LinkRow, NewBlob, OriginRow, Reader, Writer};
use crate::base::{BlobId, BlobState, Digest, EntryName, ModelId, Safety};
use crate::tree::{Occupant, Source};
use rusqlite::{Params, params};
use std::path::Path;

pub(super) const BLOB_COLUMNS: &str = "blobs.id, blobs.sha256, blobs.size, blobs.state, blobs.mtime_ns, blobs.name, \
    blobs.blake3, blobs.crc32, blobs.autov1, blobs.autov3, blobs.etag, blobs.error, blobs.safety, blobs.trusted";

pub(super) fn read_blob(cells: Cells<'_>) -> Answer<BlobRow> {
    Ok(BlobRow {
        id: BlobId::new(cells.integer(0)?),
        sha256: cells.digest(1)?,
        size_bytes: cells.number(2)?,
        state: cells.parsed(3, BlobState::parse)?,
        mtime: cells.time(4)?,
        name: cells.name(5)?,
        hashes: read_hashes(cells)?,
        etag: cells.optional_string(10)?,
        error: cells.optional_string(11)?,
        safety: cells.optional(12, Safety::parse)?,
        trusted: cells.flag(13)?,
    })
}

fn read_hashes(cells: Cells<'_>) -> Answer<Option<HashRow>> {
    let Some(blake3) = cells.digest(6)? else { return Ok(None) };
    let crc32 = cells.bytes(7)?.try_into().map_err(|_| cells.damaged(7))?;
    Ok(Some(HashRow { blake3, crc32, autov1: cells.optional_string(8)?, autov3: cells.optional_string(9)? }))
}

/// The four columns of a mark from column `at` on. Inode and device use all 64 bits, which SQLite keeps as signed.
fn read_mark(cells: Cells<'_>, at: usize) -> Answer<FileMark> {
    Ok(FileMark {
        size_bytes: cells.number(at)?,
        mtime_ns: cells.integer(at + 1)?,
        inode: cells.integer(at + 2)?.cast_unsigned(),
        device: cells.integer(at + 3)?.cast_unsigned(),
    })
}

impl Reader<'_> {
    pub fn blob(&self, blob: BlobId) -> Result<Option<BlobRow>, CatalogError> {
        self.first_blob("WHERE id = ?1", [blob.get()])
    }

    /// The content that a number leads to, also one that has turned out to be another content since.
    pub fn current_blob(&self, blob: BlobId) -> Result<Option<BlobRow>, CatalogError> {
        let here = self.blob(blob)?;
        if here.is_some() {
            return Ok(here);
        }
        self.first_blob("WHERE id = (SELECT into_id FROM merged_blobs WHERE from_id = ?1)", [blob.get()])
    }

    pub fn blob_by_sha256(&self, sha256: &Digest) -> Result<Option<BlobRow>, CatalogError> {
        self.first_blob("WHERE sha256 = ?1", [sha256.as_bytes().as_slice()])
    }

    fn first_blob(&self, which: &str, params: impl Params) -> Answer<Option<BlobRow>> {
        self.first(&format!("SELECT {BLOB_COLUMNS} FROM blobs {which}"), params, "blobs", read_blob)
    }

    /// In order of id, from after `after`; at most `limit`. For walks over everything without holding it in memory.
    pub fn blobs_after(&self, after: Option<BlobId>, limit: u32) -> Result<Vec<BlobRow>, CatalogError> {
        let sql = format!("SELECT {BLOB_COLUMNS} FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.all(&sql, params![after.map_or(0, BlobId::get), limit], "blobs", read_blob)
    }

    pub fn header(&self, blob: BlobId) -> Result<Option<Vec<u8>>, CatalogError> {
        let sql = "SELECT blob_id, record FROM headers WHERE blob_id = ?1";
        self.first(sql, [blob.get()], "headers", |cells| cells.bytes(1).map(<[u8]>::to_vec))
    }

    /// Number of the list of imports that every content was judged with.
    pub fn danger_version(&self) -> Result<u32, CatalogError> {
        let read = |cells: Cells<'_>| Ok(u32::try_from(cells.number(1)?).unwrap_or(u32::MAX));
        let found = self.first("SELECT id, danger_version FROM catalog_state", [], "catalog_state", read)?;
        found.ok_or_else(|| no_such_row("catalog_state", 1))
    }

    /// Contents whose header was read, in order of id, from after `after`; at most `limit`. With their records.
    pub fn headers_after(
        &self,
        after: Option<BlobId>,
        limit: u32,
    ) -> Result<Vec<(BlobId, EntryName, Vec<u8>)>, CatalogError> {
        let sql = "SELECT headers.blob_id, blobs.name, headers.record FROM headers \
            JOIN blobs ON blobs.id = headers.blob_id WHERE headers.blob_id > ?1 ORDER BY headers.blob_id LIMIT ?2";
        self.all(sql, params![after.map_or(0, BlobId::get), limit], "headers", |cells| {
            Ok((BlobId::new(cells.integer(0)?), cells.name(1)?, cells.bytes(2)?.to_vec()))
        })
    }

    /// Contents whose header nobody could read, in order of id, from after `after`; at most `limit`.
    pub fn headless_after(&self, after: Option<BlobId>, limit: u32) -> Result<Vec<BlobId>, CatalogError> {
        let sql = "SELECT id FROM blobs WHERE id > ?1 AND id NOT IN (SELECT blob_id FROM headers) ORDER BY id LIMIT ?2";
        let values = params![after.map_or(0, BlobId::get), limit];
        self.all(sql, values, "blobs", |cells| cells.integer(0).map(BlobId::new))
    }

    /// Everything a content is called: its own name, the names or paths of what shows it, and its paths at hubs, under which
    /// an answer of a search shows it.
    pub fn names_of_blob(&self, blob: BlobId) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT name FROM blobs WHERE id = ?1 UNION SELECT filename FROM models WHERE blob_id = ?1 \
            UNION SELECT path FROM bundle_files WHERE blob_id = ?1 UNION SELECT path FROM origins WHERE blob_id = ?1 \
            UNION SELECT placements.name FROM models JOIN placements \
            ON occupant_kind = ?2 AND occupant_id = models.id WHERE blob_id = ?1 AND is_default = 0";
        let (models, _) = occupant_columns(Occupant::Model(ModelId::new(0)));
        self.all(sql, params![blob.get(), models], "blobs", |cells| cells.text(0).map(str::to_owned))
    }

    pub fn link(&self, blob: BlobId) -> Result<Option<LinkRow>, CatalogError> {
        let sql = "SELECT blob_id, path, size, mtime_ns, inode, device FROM links WHERE blob_id = ?1";
        let read = |cells: Cells<'_>| Ok(LinkRow { path: cells.path(1)?, mark: read_mark(cells, 2)? });
        self.first(sql, [blob.get()], "links", read)
    }

    /// In the order in which they were added.
    pub fn origins(&self, blob: BlobId) -> Result<Vec<OriginRow>, CatalogError> {
        let sql = "SELECT id, source, repo, revision, path FROM origins WHERE blob_id = ?1 ORDER BY id";
        self.all(sql, [blob.get()], "origins", |cells| {
            let (repo, revision) = (cells.text(2)?.to_owned(), cells.text(3)?.to_owned());
            Ok(OriginRow { source: cells.source(1)?, repo, revision, path: cells.text(4)?.to_owned() })
        })
    }

    /// The content behind a file of a hub, if it was registered; the newest one of a place that had several.
    pub fn blob_of_origin(&self, origin: &OriginRow) -> Result<Option<BlobId>, CatalogError> {
        let sql = "SELECT id, blob_id FROM origins WHERE source = ?1 AND repo = ?2 AND revision = ?3 AND path = ?4 \
            ORDER BY id DESC LIMIT 1";
        let values = params![origin.source.as_str(), origin.repo, origin.revision, origin.path];
        self.first(sql, values, "origins", |cells| cells.integer(1).map(BlobId::new))
    }

    /// Every content a hub has under a repository's name, a path, or both, each with its revision; newest first.
    pub fn places(
        &self,
        source: Source,
        repo: Option<&str>,
        path: Option<&str>,
    ) -> Result<Vec<(BlobId, String)>, CatalogError> {
        let sql = "SELECT blob_id, revision FROM origins WHERE source = ?1 AND (?2 IS NULL OR repo = ?2) \
            AND (?3 IS NULL OR path = ?3) ORDER BY id DESC";
        self.all(sql, params![source.as_str(), repo, path], "origins", |cells| {
            Ok((BlobId::new(cells.integer(0)?), cells.text(1)?.to_owned()))
        })
    }

    /// What was imported from exactly this path.
    pub fn import_of(&self, path: &Path) -> Result<Option<ImportRow>, CatalogError> {
        let sql = "SELECT path, size, mtime_ns, inode, device, blob_id FROM imports WHERE path = ?1";
        self.first(sql, [path_bytes(path)], "imports", |cells| {
            let blob = BlobId::new(cells.integer(5)?);
            Ok(ImportRow { path: cells.path(0)?, mark: read_mark(cells, 1)?, blob })
        })
    }

    /// As `import_of` when the mark is equal, and the content is still registered.
    pub fn unchanged_import(&self, path: &Path, mark: &FileMark) -> Result<Option<BlobId>, CatalogError> {
        // The row goes with its content (ON DELETE CASCADE), so it is enough to find it.
        Ok(self.import_of(path)?.filter(|import| import.mark == *mark).map(|import| import.blob))
    }
}

impl Writer<'_> {
    /// Registers a content. One with the same sha256 must not be there: look it up first.
    pub fn add_blob(&mut self, blob: &NewBlob) -> Result<BlobId, CatalogError> {
        if let Some(sha256) = &blob.sha256 {
            self.refuse_second(sha256)?;
        }
        let revision = self.stamp()?;
        let sql = "INSERT INTO blobs (sha256, size, state, mtime_ns, name, blake3, crc32, autov1, autov3, etag, revision) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let hashes = blob.hashes.as_ref();
        let values = params![
            blob.sha256.as_ref().map(|sha256| sha256.as_bytes().as_slice()),
            signed(blob.size_bytes, "the size of a file")?,
            blob.state.as_str(),
            blob.mtime.unix_ns(),
            blob.name.as_str(),
            hashes.map(|hashes| hashes.blake3.as_bytes().as_slice()),
            hashes.map(|hashes| hashes.crc32.as_slice()),
            hashes.and_then(|hashes| hashes.autov1.as_deref()),
            hashes.and_then(|hashes| hashes.autov3.as_deref()),
            blob.etag,
            revision,
        ];
        self.insert(sql, values).map(BlobId::new)
    }

    fn refuse_second(&self, sha256: &Digest) -> Answer<()> {
        match self.blob_by_sha256(sha256)? {
            None => Ok(()),
            Some(known) => {
                let what = format!("the content with sha256 {sha256} is registered already, as number {}", known.id);
                Err(CatalogError::Conflict { what })
            }
        }
    }

    fn known_blob(&self, blob: BlobId) -> Answer<BlobRow> {
        self.blob(blob)?.ok_or_else(|| no_such_row("blobs", blob))
    }

    pub fn set_state(&mut self, blob: BlobId, state: BlobState) -> Result<(), CatalogError> {
        if self.known_blob(blob)?.state == state {
            return Ok(());
        }
        let sql = "UPDATE blobs SET state = ?2, revision = ?3 WHERE id = ?1";
        let values = params![blob.get(), state.as_str(), self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)
    }

    /// Fills in hashes that became known; a sha256 that is there already must be equal.
    pub fn set_hashes(&mut self, blob: BlobId, sha256: &Digest, hashes: &HashRow) -> Result<(), CatalogError> {
        let known = self.known_blob(blob)?;
        match &known.sha256 {
            Some(other) if other != sha256 => {
                let what = format!("{} has sha256 {other}, not {sha256}", known.name);
                return Err(CatalogError::Conflict { what });
            }
            Some(_) => {}
            None => {
                self.refuse_second(sha256)?;
                let sql = "UPDATE blobs SET sha256 = ?2, revision = ?3 WHERE id = ?1";
                let values = params![blob.get(), sha256.as_bytes().as_slice(), self.stamp()?];
                self.run_on("blobs", blob.get(), sql, values)?;
                let sql = "UPDATE models SET file_hash = ?2 WHERE blob_id = ?1";
                self.run(sql, params![blob.get(), sha256.to_string()])?;
            }
        }
        if known.hashes.as_ref() == Some(hashes) {
            return Ok(());
        }
        let sql = "UPDATE blobs SET blake3 = ?2, crc32 = ?3, autov1 = ?4, autov3 = ?5, revision = ?6 WHERE id = ?1";
        let (blake3, crc32) = (hashes.blake3.as_bytes().as_slice(), hashes.crc32.as_slice());
        let values = params![blob.get(), blake3, crc32, hashes.autov1, hashes.autov3, self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)
    }

    /// The name under which its file lies in the store.
    pub fn set_blob_name(&mut self, blob: BlobId, name: &EntryName) -> Result<(), CatalogError> {
        if self.known_blob(blob)?.name == *name {
            return Ok(());
        }
        let sql = "UPDATE blobs SET name = ?2, revision = ?3 WHERE id = ?1";
        let values = params![blob.get(), name.as_str(), self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)
    }

    pub fn set_error(&mut self, blob: BlobId, error: Option<&str>) -> Result<(), CatalogError> {
        if self.known_blob(blob)?.error.as_deref() == error {
            return Ok(());
        }
        let sql = "UPDATE blobs SET error = ?2, revision = ?3 WHERE id = ?1";
        let values = params![blob.get(), error, self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)
    }

    /// The header's record, and what it says about loading the file: neither is ever kept without the other.
    pub fn set_header(&mut self, blob: BlobId, record: &[u8], safety: Safety) -> Result<(), CatalogError> {
        let sql = "INSERT INTO headers (blob_id, record) VALUES (?1, ?2) \
            ON CONFLICT (blob_id) DO UPDATE SET record = excluded.record";
        self.run(sql, params![blob.get(), record])?;
        self.set_safety(blob, safety)
    }

    pub fn set_safety(&mut self, blob: BlobId, safety: Safety) -> Result<(), CatalogError> {
        if self.known_blob(blob)?.safety == Some(safety) {
            return Ok(());
        }
        let sql = "UPDATE blobs SET safety = ?2, revision = ?3 WHERE id = ?1";
        let values = params![blob.get(), safety.as_str(), self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)
    }

    /// Whether the content is handed out whatever it imports. Says whether that is new.
    pub fn set_trusted(&mut self, blob: BlobId, trusted: bool) -> Result<bool, CatalogError> {
        if self.known_blob(blob)?.trusted == trusted {
            return Ok(false);
        }
        let sql = "UPDATE blobs SET trusted = ?2, revision = ?3 WHERE id = ?1";
        let values = params![blob.get(), trusted, self.stamp()?];
        self.run_on("blobs", blob.get(), sql, values)?;
        Ok(true)
    }

    /// Remembers with which list of imports every content was judged.
    pub fn set_danger_version(&mut self, version: u32) -> Result<(), CatalogError> {
        self.run("UPDATE catalog_state SET danger_version = ?1", [version]).map(drop)
    }

    pub fn set_link(&mut self, blob: BlobId, path: &Path, mark: &FileMark) -> Result<(), CatalogError> {
        let sql = "INSERT INTO links (blob_id, path, size, mtime_ns, inode, device) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
            ON CONFLICT (blob_id) DO UPDATE SET path = excluded.path, size = excluded.size, \
            mtime_ns = excluded.mtime_ns, inode = excluded.inode, device = excluded.device";
        let size = signed(mark.size_bytes, "the size of a file")?;
        let (inode, device) = (mark.inode.cast_signed(), mark.device.cast_signed());
        self.run(sql, params![blob.get(), path_bytes(path), size, mark.mtime_ns, inode, device]).map(drop)
    }

    pub fn remove_link(&mut self, blob: BlobId) -> Result<(), CatalogError> {
        self.run("DELETE FROM links WHERE blob_id = ?1", [blob.get()]).map(drop)
    }

    /// Remembers a place the content is known from; one that is there stays. Updates the sources of its models.
    pub fn add_origin(&mut self, blob: BlobId, origin: &OriginRow) -> Result<(), CatalogError> {
        let sql = "INSERT INTO origins (blob_id, source, repo, revision, path) VALUES (?1, ?2, ?3, ?4, ?5) \
            ON CONFLICT DO NOTHING";
        let values = params![blob.get(), origin.source.as_str(), origin.repo, origin.revision, origin.path];
        if self.run(sql, values)? > 0 {
            let values = [blob.get(), self.stamp()?];
            self.run_on("blobs", blob.get(), "UPDATE blobs SET revision = ?2 WHERE id = ?1", values)?;
        }
        self.add_source_to_models(blob, origin.source)
    }

    /// Remembers an imported path, replacing what was known about it. `saved_bytes` counts for `Reader::saved_bytes`.
    pub fn note_import(
        &mut self,
        path: &Path,
        mark: &FileMark,
        blob: BlobId,
        saved_bytes: u64,
    ) -> Result<(), CatalogError> {
        let sql = "INSERT INTO imports (path, size, mtime_ns, inode, device, blob_id, saved_bytes) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (path) DO UPDATE SET size = excluded.size, \
            mtime_ns = excluded.mtime_ns, inode = excluded.inode, device = excluded.device, \
            blob_id = excluded.blob_id, saved_bytes = excluded.saved_bytes";
        let values = params![
            path_bytes(path),
            signed(mark.size_bytes, "the size of a file")?,
            mark.mtime_ns,
            mark.inode.cast_signed(),
            mark.device.cast_signed(),
            blob.get(),
            signed(saved_bytes, "the number of bytes saved")?,
        ];
        self.run(sql, values).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Store, add, at, digest, hashes, mark, name, new_blob, new_model, read, remote_blob, store, write,
    };
    use super::*;
    use crate::base::FaultKind;

    fn origin(source: Source, path: &str) -> OriginRow {
        OriginRow { source, repo: "org/name".to_owned(), revision: "main".to_owned(), path: path.to_owned() }
    }

    fn revision(store: &Store) -> u64 {
        read(&store.catalog, |reader| reader.revision())
    }

    #[test]
    fn a_content_is_read_back_as_it_was_written() {
        let store = store();
        for (number, new) in [(1, new_blob(1)), (2, remote_blob(2))] {
            let id = write(&store.catalog, |writer| writer.add_blob(&new));
            let row = read(&store.catalog, |reader| reader.blob(id)).expect("there");
            let back = NewBlob {
                sha256: row.sha256,
                size_bytes: row.size_bytes,
                state: row.state,
                mtime: row.mtime,
                name: row.name.clone(),
                hashes: row.hashes.clone(),
                etag: row.etag.clone(),
            };
            assert_eq!((back, row.error.as_deref()), (new, None));
            let by_hash = read(&store.catalog, |reader| reader.blob_by_sha256(&digest(number)));
            assert_eq!(by_hash.map(|row| row.id), (number == 1).then_some(id));
        }
        let walked = read(&store.catalog, |reader| {
            let first = reader.blobs_after(None, 1)?;
            let second = reader.blobs_after(first.last().map(|row| row.id), 5)?;
            assert_eq!((first.len(), second.len()), (1, 1));
            reader.blobs_after(second.last().map(|row| row.id), 5)
        });
        assert!(walked.is_empty());
    }

    #[test]
    fn only_what_is_shown_moves_the_revision() {
        let store = store();
        let id = write(&store.catalog, |writer| writer.add_blob(&new_blob(1)));
        type Change = fn(&mut Writer<'_>, BlobId) -> Result<(), CatalogError>;
        let changes: [(&str, Change, bool); 13] = [
            ("same state", |writer, id| writer.set_state(id, BlobState::Resident), false),
            ("state", |writer, id| writer.set_state(id, BlobState::Partial), true),
            ("same name", |writer, id| writer.set_blob_name(id, &name("file 1.safetensors")), false),
            ("name", |writer, id| writer.set_blob_name(id, &name("other")), true),
            ("same hashes", |writer, id| writer.set_hashes(id, &digest(1), &hashes(1)), false),
            ("hashes", |writer, id| writer.set_hashes(id, &digest(1), &hashes(9)), true),
            ("no error", |writer, id| writer.set_error(id, None), false),
            ("error", |writer, id| writer.set_error(id, Some("no route to the hub")), true),
            ("origin", |writer, id| writer.add_origin(id, &origin(Source::Civitai, "7")), true),
            ("same origin", |writer, id| writer.add_origin(id, &origin(Source::Civitai, "7")), false),
            ("header", |writer, id| writer.set_header(id, b"record", Safety::Safe), true),
            ("import", |writer, id| writer.note_import(Path::new("/a"), &mark(1), id, 7), false),
            ("link", |writer, id| writer.set_link(id, Path::new("/a"), &mark(1)), false),
        ];
        for (what, change, is_shown) in changes {
            let before = revision(&store);
            write(&store.catalog, |writer| change(writer, id));
            assert_eq!(revision(&store) - before, u64::from(is_shown), "{what}");
        }
        let row = read(&store.catalog, |reader| reader.blob(id)).expect("there");
        assert_eq!((row.state, row.name.as_str()), (BlobState::Partial, "other"));
        assert_eq!((row.hashes, row.error.as_deref()), (Some(hashes(9)), Some("no route to the hub")));
    }

    #[test]
    fn a_sha256_is_registered_once_and_never_changes() {
        let Store { catalog, folder: _folder } = store();
        let (known, remote) =
            write(&catalog, |writer| Ok((writer.add_blob(&new_blob(1))?, writer.add_blob(&remote_blob(2))?)));
        let refused = [
            catalog.write(at(2), |writer| writer.add_blob(&new_blob(1)).map(drop)),
            catalog.write(at(2), |writer| writer.set_hashes(known, &digest(2), &hashes(2))),
            catalog.write(at(2), |writer| writer.set_hashes(remote, &digest(1), &hashes(1))),
        ];
        for error in refused.map(|result| result.expect_err("refused")) {
            assert_eq!(error.fault().kind, FaultKind::Exists, "{error}");
        }
        write(&catalog, |writer| {
            writer.add_model(&new_model(remote, "remote.safetensors"))?;
            writer.set_hashes(remote, &digest(2), &hashes(2))
        });
        let models = read(&catalog, |reader| reader.models_by_hash(&digest(2).prefix(10)));
        assert_eq!(models.len(), 1, "the hash is found at the model");
    }

    #[test]
    fn headers_and_links_are_replaced_and_removed() {
        use std::os::unix::ffi::OsStrExt;
        let Store { catalog, folder: _folder } = store();
        let strange = Path::new(std::ffi::OsStr::from_bytes(b"/models/\xff\xfe.ckpt"));
        let id = write(&catalog, |writer| writer.add_blob(&new_blob(1)));
        for (record, place, number) in [(&b"one"[..], Path::new("/a"), 1), (&b""[..], strange, 2)] {
            write(&catalog, |writer| {
                writer.set_header(id, record, Safety::Safe)?;
                writer.set_link(id, place, &mark(number))
            });
            let (header, link) = read(&catalog, |reader| Ok((reader.header(id)?, reader.link(id)?)));
            assert_eq!(header.as_deref(), Some(record));
            assert_eq!(link, Some(LinkRow { path: place.to_owned(), mark: mark(number) }));
        }
        write(&catalog, |writer| writer.remove_link(id));
        assert_eq!(read(&catalog, |reader| reader.link(id)), None);
    }

    #[test]
    fn origins_are_kept_once_and_make_sources() {
        let Store { catalog, folder: _folder } = store();
        let (blob, model) = write(&catalog, |writer| add(writer, 1));
        let (here, hub) = (origin(Source::Local, "/a b"), origin(Source::HuggingFace, "x/y.safetensors"));
        let before = read(&catalog, |reader| reader.revision());
        write(&catalog, |writer| {
            [&here, &hub, &here, &hub].into_iter().try_for_each(|origin| writer.add_origin(blob, origin))
        });
        let (origins, entry, found, delta) = read(&catalog, |reader| {
            let (origins, entry) = (reader.origins(blob)?, reader.model_entry(model)?);
            Ok((origins, entry.expect("there"), reader.blob_of_origin(&hub)?, reader.delta_since(before)?))
        });
        assert_eq!(origins, [here, hub]);
        assert_eq!(found, Some(blob));
        assert_eq!(entry.sources.iter().collect::<Vec<_>>(), [Source::Local, Source::HuggingFace]);
        assert_eq!(delta.models, [entry], "a new source is a change of the model");
        let elsewhere = read(&catalog, |reader| reader.blob_of_origin(&origin(Source::HuggingFace, "z")));
        assert_eq!(elsewhere, None);
        let places = |repo: Option<&str>, path| read(&catalog, |reader| reader.places(Source::HuggingFace, repo, path));
        assert_eq!(places(None, Some("x/y.safetensors")), [(blob, "main".to_owned())]);
        assert_eq!(places(Some("org/none"), Some("x/y.safetensors")), []);
    }

    #[test]
    fn an_import_is_known_while_the_file_is_unchanged() {
        let Store { catalog, folder: _folder } = store();
        let file = Path::new("/models/a.ckpt");
        let ids = write(&catalog, |writer| Ok([writer.add_blob(&new_blob(1))?, writer.add_blob(&new_blob(2))?]));
        for (number, blob) in (1..).zip(ids) {
            write(&catalog, |writer| writer.note_import(file, &mark(number), blob, 100));
            let (row, same, other) = read(&catalog, |reader| {
                let same = reader.unchanged_import(file, &mark(number))?;
                Ok((reader.import_of(file)?, same, reader.unchanged_import(file, &mark(77))?))
            });
            assert_eq!(row, Some(ImportRow { path: file.to_owned(), mark: mark(number), blob }));
            assert_eq!((same, other), (Some(blob), None));
        }
        assert_eq!(read(&catalog, |reader| reader.saved_bytes()), 100, "a replaced row counts once");
    }

    #[test]
    fn what_no_column_can_hold_is_refused() {
        let Store { catalog, folder: _folder } = store();
        let huge = NewBlob { size_bytes: u64::MAX, ..new_blob(1) };
        let error = catalog.write(at(1), |writer| writer.add_blob(&huge)).expect_err("refused");
        assert_eq!(error.fault().kind, FaultKind::Invalid);
        let missing = catalog.write(at(1), |writer| writer.set_state(BlobId::new(99), BlobState::Remote));
        assert_eq!(missing.expect_err("refused").fault().kind, FaultKind::NotFound);
    }
}

//! Names and directories: `placements`, `directories`, and the time of the root.
//!
//! Invariants: a name once given in a directory stays its occupant's for ever, also while the occupant is in the trash;
//! an occupant has one name in a directory; a directory's time only grows. Not here: which names to give (`library`).

use super::cells::{Answer, Cells};
use super::reader::no_such_row;
use super::snapshot::occupant_columns;
use super::{CatalogError, Reader, Writer};
use crate::base::{BundleId, DirectoryId, EntryName, RelativePath, Timestamp};
use crate::tree::Occupant;
use rusqlite::params;

const NAME_OF: &str = "SELECT directory_id, name FROM placements \
    WHERE occupant_kind = ?1 AND occupant_id = ?2 AND directory_id = ?3";
const TAKEN_NAME: &str = "SELECT 1 FROM placements WHERE directory_id = ?1 AND name = ?2 \
    AND NOT (occupant_kind = ?3 AND occupant_id = ?4)";
/// Without the hint SQLite walks the whole directory, which the primary key also begins with.
const TAKEN_STEM: &str = "SELECT 1 FROM placements INDEXED BY placements_by_stem WHERE directory_id = ?1 AND stem = ?2 \
    AND NOT (occupant_kind = ?3 AND occupant_id = ?4)";

impl Reader<'_> {
    /// The name an occupant has in a directory, if it was ever given one there.
    pub fn name_of(&self, directory: &RelativePath, occupant: Occupant) -> Result<Option<EntryName>, CatalogError> {
        let Some(directory) = self.directory_id(directory)? else { return Ok(None) };
        let (kind, id) = occupant_columns(occupant);
        self.first(NAME_OF, [kind, id, directory], "placements", |cells| cells.name(1))
    }

    /// Whether another occupant has this name there (or a name with this stem, where `stem` is given).
    pub fn is_taken(
        &self,
        directory: &RelativePath,
        name: &str,
        stem: Option<&str>,
        by_other_than: Occupant,
    ) -> Result<bool, CatalogError> {
        let Some(directory) = self.directory_id(directory)? else { return Ok(false) };
        let (kind, id) = occupant_columns(by_other_than);
        if self.finds(TAKEN_NAME, params![directory, name, kind, id])? {
            return Ok(true);
        }
        stem.map_or(Ok(false), |stem| self.finds(TAKEN_STEM, params![directory, stem, kind, id]))
    }

    fn directory_id(&self, path: &RelativePath) -> Answer<Option<i64>> {
        let sql = "SELECT id FROM directories WHERE path = ?1";
        self.first(sql, [path.as_str()], "directories", |cells| cells.integer(0))
    }
}

impl Writer<'_> {
    /// Gives a name for ever. `stem` where names must differ by stem; `is_default` when it is the occupant's own name.
    /// Giving the same name again changes nothing; the directory must have its row already.
    pub fn give_name(
        &mut self,
        directory: &RelativePath,
        occupant: Occupant,
        name: &EntryName,
        stem: Option<&str>,
        is_default: bool,
    ) -> Result<(), CatalogError> {
        let row = self.directory_id(directory)?.ok_or_else(|| no_such_row("directories", directory))?;
        let (kind, id) = occupant_columns(occupant);
        let there = "SELECT occupant_kind, occupant_id FROM placements WHERE directory_id = ?1 AND name = ?2";
        let holder = self.first(there, params![row, name.as_str()], "placements", |cells| {
            Ok((cells.integer(0)?, cells.integer(1)?))
        })?;
        match holder {
            Some(holder) if holder == (kind, id) => return Ok(()),
            Some(_) => return Err(CatalogError::Conflict { what: format!("the name {name} in {directory} is taken") }),
            None => {}
        }
        if let Some(known) = self.name_of(directory, occupant)? {
            return Err(CatalogError::Conflict {
                what: format!("{known} in {directory} cannot also be called {name}"),
            });
        }
        // A default name follows from the occupant's own row, so it changes nothing that is shown.
        let revision = if is_default { 0 } else { self.stamp()? };
        let sql = "INSERT INTO placements (directory_id, name, stem, occupant_kind, occupant_id, is_default, revision) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.run(sql, params![row, name.as_str(), stem, kind, id, is_default, revision])?;
        Ok(())
    }

    /// The directory's row, made with the transaction's time when it is missing. Says whether it is new.
    pub fn ensure_directory(
        &mut self,
        path: &RelativePath,
        bundle: Option<BundleId>,
    ) -> Result<(DirectoryId, bool), CatalogError> {
        if let Some(id) = self.directory_id(path)? {
            return Ok((DirectoryId::new(id), false));
        }
        let revision = self.stamp()?;
        let sql = "INSERT INTO directories (path, mtime_ns, bundle_id, revision) VALUES (?1, ?2, ?3, ?4)";
        let bundle = bundle.map(BundleId::get);
        let id = self.insert(sql, params![path.as_str(), self.now().unix_ns(), bundle, revision])?;
        Ok((DirectoryId::new(id), true))
    }

    /// The directory's listing changed: its time becomes the transaction's, or the next instant after its old one.
    /// Once per transaction: a second change of the listing in it is never seen by itself. `None` is the root.
    pub fn touch_directory(&mut self, path: Option<&RelativePath>) -> Result<(), CatalogError> {
        match path {
            None => self.touch_root(),
            Some(path) => self.touch_row(path),
        }
    }

    fn touch_root(&mut self) -> Answer<()> {
        let sql = "SELECT id, root_mtime_ns, root_revision FROM catalog_state";
        let found = self.first(sql, [], "catalog_state", read_touch)?;
        let (id, mtime, revision) = found.ok_or_else(|| no_such_row("catalog_state", 1))?;
        if self.is_own(revision) {
            return Ok(());
        }
        let (revision, mtime) = (self.stamp()?, self.later_than(mtime));
        let sql = "UPDATE catalog_state SET root_mtime_ns = ?2, root_revision = ?3 WHERE id = ?1";
        self.run_on("catalog_state", id, sql, [id, mtime.unix_ns(), revision])
    }

    fn touch_row(&mut self, path: &RelativePath) -> Answer<()> {
        let sql = "SELECT id, mtime_ns, revision FROM directories WHERE path = ?1";
        let found = self.first(sql, [path.as_str()], "directories", read_touch)?;
        let (id, mtime, revision) = found.ok_or_else(|| no_such_row("directories", path))?;
        // Made or touched in this transaction: it has its time already.
        if self.is_own(revision) {
            return Ok(());
        }
        let (revision, mtime) = (self.stamp()?, self.later_than(mtime));
        let sql = "UPDATE directories SET mtime_ns = ?2, revision = ?3 WHERE id = ?1";
        self.run_on("directories", id, sql, [id, mtime.unix_ns(), revision])
    }

    fn later_than(&self, mtime: Timestamp) -> Timestamp {
        self.now().max(mtime.next())
    }
}

fn read_touch(cells: Cells<'_>) -> Answer<(i64, Timestamp, i64)> {
    Ok((cells.integer(0)?, cells.time(1)?, cells.integer(2)?))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, at, name, path, plan_of, read, snapshot, store, write};
    use super::*;
    use crate::base::FaultKind;

    fn mtime_of(store: &Store, directory: &str) -> Timestamp {
        let found = snapshot(&store.catalog).directories.into_iter().find(|row| row.path.as_str() == directory);
        found.expect("the directory has a row").mtime
    }

    #[test]
    fn a_name_is_given_once_and_for_ever() {
        let Store { catalog, folder: _folder } = store();
        let home = path("comfyui/loras");
        let (one, two) = write(&catalog, |writer| Ok((add(writer, 1)?.1, add(writer, 2)?.1)));
        let (one, two) = (Occupant::Model(one), Occupant::Model(two));
        let give = |occupant, text: &str, stem: Option<&str>, is_default| {
            catalog.write(at(3), |writer| writer.give_name(&home, occupant, &name(text), stem, is_default))
        };
        give(one, "a.pt", Some("a"), true).expect("free");
        give(one, "a.pt", Some("a"), true).expect("the same again");
        for refused in [give(two, "a.pt", None, true), give(one, "b.pt", None, false)] {
            assert_eq!(refused.expect_err("refused").fault().kind, FaultKind::Exists);
        }
        give(two, "a~2.pt", Some("a~2"), false).expect("free");
        let taken = |text: &str, stem: Option<&str>, other_than| {
            read(&catalog, |reader| reader.is_taken(&home, text, stem, other_than))
        };
        assert!(taken("a.pt", None, two) && !taken("a.pt", None, one));
        assert!(taken("a.bin", Some("a"), two) && !taken("a.bin", None, two) && !taken("a.bin", Some("a"), one));
        assert!(!taken("A.pt", None, two), "names are compared byte by byte");
        let names = read(&catalog, |reader| {
            Ok((reader.name_of(&home, one)?, reader.name_of(&home, two)?, reader.name_of(&path("forge"), one)?))
        });
        assert_eq!(names, (Some(name("a.pt")), Some(name("a~2.pt")), None));
        let marked = snapshot(&catalog).placements;
        assert_eq!(marked.len(), 1, "default names are not listed");
        assert_eq!((marked[0].occupant, &marked[0].name, &marked[0].directory), (two, &name("a~2.pt"), &home));
    }

    /// A folder may hold every model of the collection: looking for a name must not walk it.
    #[test]
    fn names_are_found_by_index() {
        let store = store();
        let keys = [
            (NAME_OF, "(occupant_kind=? AND occupant_id=? AND directory_id=?)"),
            (TAKEN_NAME, "(directory_id=? AND name=?)"),
            (TAKEN_STEM, "(directory_id=? AND stem=?)"),
        ];
        for (sql, key) in keys {
            let plan = plan_of(&store, sql);
            assert!(plan.len() == 1 && plan[0].starts_with("SEARCH") && plan[0].ends_with(key), "{plan:?}");
        }
    }

    #[test]
    fn the_trash_keeps_names() {
        let Store { catalog, folder: _folder } = store();
        let home = path("comfyui/loras");
        let (one, two) = write(&catalog, |writer| Ok((add(writer, 1)?.1, add(writer, 2)?.1)));
        write(&catalog, |writer| {
            writer.give_name(&home, Occupant::Model(one), &name("a.pt"), None, true)?;
            writer.set_deleted(one, true)
        });
        assert!(read(&catalog, |reader| reader.is_taken(&home, "a.pt", None, Occupant::Model(two))));
    }

    #[test]
    fn a_name_needs_a_directory() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        let error = catalog
            .write(at(2), |writer| writer.give_name(&path("no/such"), Occupant::Model(model), &name("a"), None, true));
        assert_eq!(error.expect_err("refused").fault().kind, FaultKind::NotFound);
    }

    #[test]
    fn directories_are_made_once_with_the_time_of_their_transaction() {
        let store = store();
        let tag = path("by/tag/anime");
        let (first, again) = write(&store.catalog, |writer| {
            Ok((writer.ensure_directory(&tag, None)?, writer.ensure_directory(&tag, None)?))
        });
        assert_eq!((first.1, again.1), (true, false));
        assert_eq!(first.0, again.0);
        assert_eq!(mtime_of(&store, "by/tag/anime"), at(1));
    }

    #[test]
    fn times_only_grow_and_move_once_per_transaction() {
        let store = store();
        let home = path("comfyui/loras");
        let touch = |now, times: usize| {
            let touched = store.catalog.write(now, |writer| {
                (0..times).try_for_each(|_| {
                    writer.touch_directory(Some(&home))?;
                    writer.touch_directory(None)
                })
            });
            touched.expect("a good write");
            (mtime_of(&store, "comfyui/loras"), snapshot(&store.catalog).root_mtime)
        };
        assert_eq!(touch(at(5), 3), (at(5), at(5)));
        // The clock was set back.
        assert_eq!(touch(at(2), 2), (at(5).next(), at(5).next()));
        assert_eq!(touch(at(5), 1), (at(5).next().next(), at(5).next().next()));
        assert_eq!(touch(at(6), 1), (at(6), at(6)));
        let error = store.catalog.write(at(7), |writer| writer.touch_directory(Some(&path("no/such"))));
        assert_eq!(error.expect_err("refused").fault().kind, FaultKind::NotFound);
    }
}

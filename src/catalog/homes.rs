//! Directories that a person put a model in, beside those that follow from what it is: `model_homes`.
//!
//! Invariant: a model that was put in a directory has a name there, the chosen one. Not here: which directories may be
//! chosen, and their times (`library`).

use super::cells::Answer;
use super::reader::no_such_row;
use super::snapshot::occupant_columns;
use super::{CatalogError, Reader, Writer};
use crate::base::{EntryName, ModelId, RelativePath};
use crate::tree::Occupant;
use rusqlite::params;

pub(super) const HOMES: &str = "SELECT model_homes.model_id, directories.path FROM model_homes \
    JOIN directories ON directories.id = model_homes.directory_id";

impl Reader<'_> {
    /// Whether a path is that of a directory outside bundles.
    pub fn is_plain_directory(&self, path: &RelativePath) -> Result<bool, CatalogError> {
        self.finds("SELECT 1 FROM directories WHERE path = ?1 AND bundle_id IS NULL", [path.as_str()])
    }

    /// Whether there are models, and no directory inside this one.
    pub fn has_models_and_nothing_in(&self, path: &RelativePath) -> Result<bool, CatalogError> {
        // `0` is the character after `/`: everything between lies inside.
        let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM models WHERE deleted = 0) \
            AND NOT EXISTS (SELECT 1 FROM directories WHERE path > ?1 || '/' AND path < ?1 || '0')";
        self.finds(sql, [path.as_str()])
    }

    /// The directories that a person put a model in, by path.
    pub(super) fn chosen_homes(&self, model: i64) -> Answer<Vec<RelativePath>> {
        let sql = format!("{HOMES} WHERE model_homes.model_id = ?1 ORDER BY directories.path");
        self.all(&sql, [model], "model_homes", |cells| cells.relative_path(1))
    }
}

impl Writer<'_> {
    /// Puts a model in a directory, which must be a plain one, under a name that nothing else has there.
    pub fn choose_home(
        &mut self,
        model: ModelId,
        directory: &RelativePath,
        name: &EntryName,
        stem: Option<&str>,
    ) -> Result<(), CatalogError> {
        let sql = "INSERT INTO model_homes (model_id, directory_id) \
            SELECT ?1, id FROM directories WHERE path = ?2 AND bundle_id IS NULL";
        if self.run(sql, params![model.get(), directory.as_str()])? == 0 {
            return Err(no_such_row("directories", directory));
        }
        self.choose_name(model, directory, name, stem)?;
        self.mark_changed(model)
    }

    /// Takes a model out of a directory that it was put in; says whether it had been. `name` is the one it would have there
    /// if it came back by itself, so that the chosen one is free.
    pub fn leave_home(
        &mut self,
        model: ModelId,
        directory: &RelativePath,
        name: &EntryName,
        stem: Option<&str>,
    ) -> Result<bool, CatalogError> {
        let sql = "DELETE FROM model_homes WHERE model_id = ?1 \
            AND directory_id = (SELECT id FROM directories WHERE path = ?2)";
        if self.run(sql, params![model.get(), directory.as_str()])? == 0 {
            return Ok(false);
        }
        self.choose_name(model, directory, name, stem)?;
        self.mark_changed(model)?;
        Ok(true)
    }

    /// The name a model has in a directory from now on, whatever it was before. Never recorded as the default one: whoever
    /// knew another must learn it.
    fn choose_name(
        &mut self,
        model: ModelId,
        directory: &RelativePath,
        name: &EntryName,
        stem: Option<&str>,
    ) -> Answer<()> {
        let (kind, id) = occupant_columns(Occupant::Model(model));
        let sql = "DELETE FROM placements WHERE occupant_kind = ?1 AND occupant_id = ?2 \
            AND directory_id = (SELECT id FROM directories WHERE path = ?3)";
        self.run(sql, params![kind, id, directory.as_str()])?;
        self.give_name(directory, Occupant::Model(model), name, stem, false)
    }

    /// What a person did with a model that turns out to be another one counts for that one.
    pub(super) fn take_over_homes(&mut self, goes: ModelId, stays: ModelId) -> Answer<()> {
        let revision = self.stamp()?;
        let sql = "UPDATE OR IGNORE placements SET occupant_id = ?2, revision = ?3 \
            WHERE occupant_kind = 0 AND occupant_id = ?1 \
            AND directory_id IN (SELECT directory_id FROM model_homes WHERE model_id = ?1)";
        self.run(sql, params![goes.get(), stays.get(), revision])?;
        let sql = "INSERT OR IGNORE INTO model_homes (model_id, directory_id) \
            SELECT ?2, directory_id FROM model_homes WHERE model_id = ?1";
        if self.run(sql, [goes.get(), stays.get()])? > 0 {
            self.mark_changed(stays)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, name, path, read, snapshot, store, write};
    use crate::base::{EntryName, RelativePath};
    use crate::tree::{Occupant, Placement};

    #[test]
    fn a_model_is_put_in_a_directory_and_taken_out_again() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        let home = path("comfyui/vae");
        let before = snapshot(&catalog);
        let also = |at: &crate::tree::ModelEntry| -> Vec<RelativePath> { at.also.to_vec() };
        assert_eq!(also(&before.models[0]), []);
        write(&catalog, |writer| writer.choose_home(model, &home, &name("mine.safetensors"), None));
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert_eq!(delta.models.iter().map(also).collect::<Vec<_>>(), [vec![home.clone()]]);
        let placed = |name: EntryName| Placement { directory: home.clone(), occupant: Occupant::Model(model), name };
        assert_eq!(delta.placements, [placed(name("mine.safetensors"))]);
        assert_eq!(also(&snapshot(&catalog).models[0]), vec![home.clone()], "a mount that starts sees the same");
        let leave = |to: &str| write(&catalog, |writer| writer.leave_home(model, &home, &name(to), None));
        assert!(leave("x~1.safetensors"));
        assert!(!leave("x~1.safetensors"), "it is out already");
        let after = read(&catalog, |reader| reader.delta_since(delta.revision));
        assert_eq!(after.placements, [placed(name("x~1.safetensors"))], "the chosen name is free");
        assert_eq!(after.models.iter().map(also).collect::<Vec<_>>(), [[]]);
        let nowhere = catalog.write(super::super::fixture::at(9), |writer| {
            writer.choose_home(model, &path("comfyui/nowhere"), &name("x.pt"), None)
        });
        assert!(nowhere.is_err());
    }
}

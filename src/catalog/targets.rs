//! The applications and their folders: `deploy_targets`, `deploy_mappings`.

use super::cells::{Answer, Cells, write_list};
use super::reader::no_such_row;
use super::{CatalogError, Reader, Writer};
use crate::tree::{FolderMatch, Target, TargetFolder};
use rusqlite::params;

const TARGETS: &str = "SELECT id, name, display_name, enabled FROM deploy_targets WHERE builtin >= ?1 \
    ORDER BY position, id";
const FOLDERS: &str = "SELECT id, model_type, folder_path, suffixes, excluded_suffixes, directories, bases, matching \
    FROM deploy_mappings WHERE target_id = ?1 ORDER BY position";

impl Reader<'_> {
    /// Every application, enabled or not, in their order.
    pub fn targets(&self) -> Result<Vec<Target>, CatalogError> {
        self.targets_where(0)
    }

    /// Those whose rows follow the program's own list.
    pub(super) fn builtin_targets(&self) -> Answer<Vec<Target>> {
        self.targets_where(1)
    }

    fn targets_where(&self, builtin_min: i64) -> Answer<Vec<Target>> {
        let heads = self.all(TARGETS, [builtin_min], "deploy_targets", |cells| {
            let display_name = cells.text(2)?.to_owned();
            let target = Target { name: cells.name(1)?, display_name, enabled: cells.flag(3)?, folders: Vec::new() };
            Ok((cells.integer(0)?, target))
        })?;
        let with_folders = |(id, mut target): (i64, Target)| {
            target.folders = self.all(FOLDERS, [id], "deploy_mappings", read_folder)?;
            Ok(target)
        };
        heads.into_iter().map(with_folders).collect()
    }
}

fn read_folder(cells: Cells<'_>) -> Answer<TargetFolder> {
    Ok(TargetFolder {
        model_type: cells.optional(1, crate::base::ModelType::parse)?,
        path: cells.relative_path(2)?,
        suffixes: cells.list(3)?,
        excluded_suffixes: cells.list(4)?,
        directories: cells.flag(5)?,
        bases: cells.list(6)?,
        matching: cells.parsed(7, parse_matching)?,
    })
}

fn parse_matching(word: &str) -> Result<FolderMatch, ()> {
    [FolderMatch::Relative, FolderMatch::Stem].into_iter().find(|matching| matching_word(*matching) == word).ok_or(())
}

const fn matching_word(matching: FolderMatch) -> &'static str {
    match matching {
        FolderMatch::Relative => "relative",
        FolderMatch::Stem => "stem",
    }
}

impl Writer<'_> {
    /// Shows or hides an application's directory. The root's listing changes with it.
    pub fn set_target_enabled(&mut self, name: &str, enabled: bool) -> Result<(), CatalogError> {
        let sql = "SELECT id, enabled FROM deploy_targets WHERE name = ?1";
        let found = self.first(sql, [name], "deploy_targets", |cells| Ok((cells.integer(0)?, cells.flag(1)?)))?;
        let (id, before) = found.ok_or_else(|| no_such_row("deploy_targets", name))?;
        if before == enabled {
            return Ok(());
        }
        let revision = self.stamp()?;
        let sql = "UPDATE deploy_targets SET enabled = ?2, revision = ?3 WHERE id = ?1";
        self.run_on("deploy_targets", id, sql, params![id, enabled, revision])?;
        self.touch_directory(None)
    }

    /// Replaces the rows of built-in applications; what the user enabled stays enabled.
    pub(super) fn set_builtin_targets(&mut self, targets: &[Target]) -> Answer<()> {
        let revision = self.stamp()?;
        let names: Vec<String> = targets.iter().map(|target| target.name.as_str().to_owned()).collect();
        let sql = "DELETE FROM deploy_targets WHERE builtin = 1 AND name NOT IN (SELECT value FROM json_each(?1))";
        if self.run(sql, [write_list(&names)])? > 0 {
            self.touch_directory(None)?;
        }
        for (position, target) in (0_i64..).zip(targets) {
            let sql = "INSERT INTO deploy_targets (name, display_name, base_path, enabled, position, builtin, revision) \
                VALUES (?1, ?2, ?1, ?3, ?4, 1, ?5) ON CONFLICT (name) DO UPDATE SET display_name = excluded.display_name, \
                base_path = excluded.base_path, position = excluded.position, builtin = 1, revision = excluded.revision \
                RETURNING id";
            let values = params![target.name.as_str(), target.display_name, target.enabled, position, revision];
            let id = self.first(sql, values, "deploy_targets", |cells| cells.integer(0))?;
            let id = id.ok_or_else(|| no_such_row("deploy_targets", target.name.as_str()))?;
            self.set_folders(id, &target.folders)?;
        }
        Ok(())
    }

    fn set_folders(&mut self, target: i64, folders: &[TargetFolder]) -> Answer<()> {
        self.run("DELETE FROM deploy_mappings WHERE target_id = ?1", [target])?;
        for (position, folder) in (0_i64..).zip(folders) {
            let sql = "INSERT INTO deploy_mappings (target_id, model_type, folder_path, position, suffixes, \
                excluded_suffixes, directories, bases, matching) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            let values = params![
                target,
                folder.model_type.map(|model_type| model_type.as_str()),
                folder.path.as_str(),
                position,
                write_list(&folder.suffixes),
                write_list(&folder.excluded_suffixes),
                folder.directories,
                write_list(&folder.bases),
                matching_word(folder.matching),
            ];
            self.insert(sql, values)?;
        }
        Ok(())
    }
}

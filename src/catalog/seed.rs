//! The first rows of a store: the applications, and the directories that are always there.
//!
//! Invariant: rows of built-in applications are the program's own list; only `enabled` is the user's. Not here: the
//! list itself (`tree`).

use super::cells::Answer;
use super::{CatalogError, Reader, Writer};
use crate::base::Timestamp;
use crate::tree;
use rusqlite::Connection;
use std::time::SystemTime;

/// Opening a store is an edge of time like any other write; it has no caller who could tell it.
pub(super) fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Fills a schema that was made in this transaction.
pub(super) fn seed(connection: &Connection) -> Answer<()> {
    let now = now();
    connection.execute(
        "INSERT INTO catalog_state (id, revision, root_mtime_ns, root_revision) VALUES (1, 0, ?1, 0)",
        [now.unix_ns()],
    )?;
    let mut writer = Writer::new(connection, now);
    for path in tree::static_directories() {
        writer.ensure_directory(&path, None)?;
    }
    update_targets(&mut writer)
}

/// Whether a store that an older program made has what this one expects in it. Asked after all migrations, because
/// what fills it reads tables as they are now.
pub(super) fn is_complete(reader: &Reader<'_>) -> Answer<bool> {
    for path in tree::static_directories() {
        if !reader.finds("SELECT 1 FROM directories WHERE path = ?1", [path.as_str()])? {
            return Ok(false);
        }
    }
    let lacking = "SELECT 1 WHERE EXISTS (SELECT 1 FROM models WHERE deleted = 0) \
        AND NOT EXISTS (SELECT 1 FROM model_index LIMIT 1)";
    Ok(!reader.finds(lacking, [])?)
}

/// Makes what is missing.
pub(super) fn complete(writer: &mut Writer<'_>) -> Answer<()> {
    for path in tree::static_directories() {
        if writer.ensure_directory(&path, None)?.1 {
            writer.touch_directory(path.parent().as_ref())?;
        }
    }
    writer.index_all()
}

/// Whether the rows are what this program would write.
pub(super) fn targets_are_current(reader: &Reader<'_>) -> Result<bool, CatalogError> {
    let stored = reader.builtin_targets()?;
    let mut wanted = tree::builtin_targets();
    let same_length = stored.len() == wanted.len();
    for (target, stored) in wanted.iter_mut().zip(&stored) {
        target.enabled = stored.enabled;
    }
    Ok(same_length && stored == wanted)
}

/// Writes the program's list; whether an application is enabled stays as it is.
pub(super) fn update_targets(writer: &mut Writer<'_>) -> Result<(), CatalogError> {
    let targets = tree::builtin_targets();
    writer.set_builtin_targets(&targets)?;
    for target in &targets {
        for path in tree::target_directories(target) {
            let (_, is_new) = writer.ensure_directory(&path, None)?;
            if is_new && target.enabled {
                writer.touch_directory(path.parent().as_ref())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, read, snapshot, store, write};
    use super::*;

    #[test]
    fn a_new_store_has_its_applications_and_directories() {
        let Store { catalog, folder: _folder } = store();
        let all = snapshot(&catalog);
        assert_eq!(all.targets, tree::builtin_targets());
        let mut wanted = tree::static_directories();
        wanted.extend(all.targets.iter().flat_map(tree::target_directories));
        wanted.sort();
        wanted.dedup();
        let mut paths: Vec<_> = all.directories.iter().map(|row| row.path.clone()).collect();
        paths.sort();
        assert_eq!(paths, wanted);
        assert!(all.directories.iter().all(|row| row.bundle.is_none() && row.mtime.unix_ns() > 0));
    }

    #[test]
    fn an_older_list_is_brought_up_to_date() {
        let Store { catalog, folder: _folder } = store();
        assert!(read(&catalog, targets_are_current));
        write(&catalog, |writer| {
            writer.set_target_enabled("comfyui", false)?;
            writer.run("UPDATE deploy_mappings SET folder_path = 'elsewhere' WHERE position = 1", [])
        });
        assert!(!read(&catalog, targets_are_current));
        let before = snapshot(&catalog);
        write(&catalog, update_targets);
        assert!(read(&catalog, targets_are_current));
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        let targets = delta.targets.expect("they changed");
        let shown: Vec<bool> = targets.iter().map(|target| target.enabled).collect();
        let kept: Vec<bool> = before.targets.iter().map(|target| target.enabled).collect();
        assert_eq!(shown, kept, "what is enabled is the user's");
        assert_eq!(delta.directories, [], "no directory is new");
    }

    #[test]
    fn enabling_an_application_changes_the_root() {
        let Store { catalog, folder: _folder } = store();
        let before = snapshot(&catalog);
        let target = before.targets.iter().find(|target| !target.enabled).expect("one is off").name.clone();
        write(&catalog, |writer| writer.set_target_enabled(target.as_str(), true));
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert!(delta.root_mtime > before.root_mtime);
        let targets = delta.targets.expect("they changed");
        assert!(targets.iter().any(|row| row.name == target && row.enabled));
        write(&catalog, |writer| writer.set_target_enabled(target.as_str(), true));
        assert_eq!(read(&catalog, |reader| reader.revision()), delta.revision, "the same again changes nothing");
        let unknown = catalog.write(super::now(), |writer| writer.set_target_enabled("nobody", true));
        assert!(unknown.is_err());
    }
}

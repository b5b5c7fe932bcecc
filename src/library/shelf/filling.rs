//! Whole directories at once: those that every store has, those of an application, and what an older program left out.
//!
//! Invariant: what was placed before keeps its name, and its directory keeps its time. Not here: the names of one model or
//! bundle (`shelf`), which directories there are (`tree`).

use super::Shelf;
use crate::base::{RelativePath, Timestamp};
use crate::catalog::{Catalog, CatalogError, Writer};
use crate::tree::{self, Home, Occupant, Target};

const BY_DIRECTORY: &str = "by";
/// The directory that came last to those that show every model: where it shows none, an older program placed them.
const NEWEST_DIRECTORY: &str = "by/format";

/// What a store that an older program wrote does not show yet: models that have no name below `by/` where this program
/// looks for them get one.
pub(in crate::library) fn bring_up_to_date(catalog: &Catalog, now: Timestamp) -> Result<(), CatalogError> {
    let newest = RelativePath::new(NEWEST_DIRECTORY).expect("a literal path is valid");
    if !catalog.read(|r| r.has_models_and_nothing_in(&newest))? {
        return Ok(());
    }
    let placed = catalog.write(now, |w| Shelf::begin(w)?.place_by_facts(w));
    match placed {
        Err(CatalogError::ReadOnly) => {
            tracing::warn!("`{NEWEST_DIRECTORY}` stays empty: the catalog can only be read");
            Ok(())
        }
        result => result,
    }
}

impl Shelf {
    /// Directories that are there from the beginning, and those of enabled applications. Usually they are all there.
    fn lay_out(&mut self, w: &mut Writer<'_>) -> Result<(), CatalogError> {
        for directory in tree::static_directories() {
            self.ensure(w, &directory, None)?;
        }
        let directories: Vec<RelativePath> = self.targets.iter().flat_map(tree::target_directories).collect();
        directories.iter().try_for_each(|directory| self.ensure(w, directory, None))
    }

    /// Places everything in an application that was just enabled.
    pub(in crate::library) fn place_target(&mut self, w: &mut Writer<'_>, name: &str) -> Result<(), CatalogError> {
        self.lay_out(w)?;
        let Some(target) = self.targets.iter().find(|target| target.name.as_str() == name).cloned() else {
            return Ok(());
        };
        self.place_below(w, name, &[target])?;
        for entry in w.bundle_entries()? {
            self.place_bundle(w, entry.id)?;
        }
        Ok(())
    }

    fn place_by_facts(&mut self, w: &mut Writer<'_>) -> Result<(), CatalogError> {
        self.lay_out(w)?;
        self.place_below(w, BY_DIRECTORY, &[])
    }

    /// Gives names to the models that have none in their homes below a directory. What was placed before changes nothing:
    /// those directories keep their time.
    fn place_below(&mut self, w: &mut Writer<'_>, top: &str, targets: &[Target]) -> Result<(), CatalogError> {
        let is_inside = |home: &Home| home.directory.as_str().strip_prefix(top).is_some_and(|r| r.starts_with('/'));
        for (entry, blob) in w.model_entries()? {
            for home in tree::homes_of_model(&entry, &blob, targets).into_iter().filter(is_inside) {
                if w.name_of(&home.directory, Occupant::Model(entry.id))?.is_none() {
                    self.place_at(w, entry.id, &[home])?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Place, model};
    use super::*;
    use crate::base::{ModelId, ModelType};

    #[test]
    fn laying_out_again_changes_nothing() {
        let mut place = Place::new();
        let before = place.times();
        place.write(|w| Shelf::begin(w)?.lay_out(w));
        assert_eq!(place.times(), before);
        assert!(before.contains_key("comfyui/loras") && before.contains_key("by/state/remote"), "{before:?}");
    }

    #[test]
    fn a_store_of_an_older_program_gets_the_directories_that_it_lacks() {
        let mut place = Place::new();
        let ids = [1, 2].map(|seed| place.write(|w| model(w, seed, "a.safetensors", ModelType::Lora)));
        let before = place.times();
        let older = rusqlite::Connection::open(place._folder.path().join("modelhub.db")).expect("open");
        older
            .execute_batch(
                "DELETE FROM placements WHERE directory_id IN (SELECT id FROM directories WHERE path LIKE 'by/format%');
                 DELETE FROM directories WHERE path LIKE 'by/format%';",
            )
            .expect("as an older program left it");
        // Opening makes the directory itself.
        place.catalog = Catalog::open(place._folder.path()).expect("an older store opens");
        let before = {
            let mut now = place.times();
            now.retain(|path, _| before.contains_key(path));
            now
        };
        let now = Timestamp::from_unix_ns(1 << 62);
        bring_up_to_date(&place.catalog, now).expect("brought up to date");
        let home = RelativePath::new("by/format/safetensors").expect("a path");
        let name_of = |id: ModelId| {
            let name = place.catalog.read(|r| r.name_of(&home, Occupant::Model(id)));
            name.expect("read").expect("placed").as_str().to_owned()
        };
        assert_eq!(ids.map(name_of), ["a.safetensors", "a~0202020202.safetensors"]);
        let after = place.times();
        let differ: Vec<&String> = after.keys().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert_eq!(differ, ["by/format", "by/format/safetensors"], "nothing else changed");
        bring_up_to_date(&place.catalog, Timestamp::from_unix_ns((1 << 62) + 1)).expect("nothing to do");
        assert_eq!(place.times(), after);
    }

    #[test]
    fn an_enabled_application_is_filled() {
        let mut place = Place::new();
        let id = place.write(|w| model(w, 1, "a.safetensors", ModelType::Lora));
        let targets = place.catalog.read(|r| r.targets()).map_err(|error: CatalogError| error).expect("targets");
        let folder = |target: &&Target| {
            target.folders.iter().any(|folder| folder.model_type == Some(ModelType::Lora) && !folder.directories)
        };
        let target = targets.iter().filter(|target| !target.enabled).find(folder).expect("one is off");
        let name = target.name.as_str();
        place.write(|w| {
            w.set_target_enabled(name, true)?;
            Shelf::begin(w)?.place_target(w, name)
        });
        assert!(place.changed().contains(&String::new()), "the root lists it");
        assert!(place.names(id).keys().any(|directory| directory.starts_with(&format!("{name}/"))));
    }
}

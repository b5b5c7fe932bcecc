//! Which name in which directory each model and bundle wants: homes, placements and rows together.
//!
//! Invariant: a function of the rows of the tree, so that a change can withdraw exactly what the old rows claimed.

use super::homes::{default_bundle_name, homes_of_bundle, homes_of_model};
use super::{Occupant, Tree};
use crate::base::{BundleId, DirectoryId, EntryName, InodeNo, ModelId, RelativePath};
use std::collections::BTreeMap;

/// A bundle's directory in one of its homes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub folder: DirectoryId,
    pub name: EntryName,
    /// The row of the bundle's directory there.
    pub root: DirectoryId,
}

impl Tree {
    /// The name a model wants in each of its homes, and the number of its content. Nothing while the content is unknown.
    pub(super) fn model_claims(&self, model: ModelId) -> BTreeMap<RelativePath, (EntryName, InodeNo)> {
        let known = self.models.get(&model).and_then(|entry| Some((entry, self.blobs.get(&entry.blob)?)));
        let Some((entry, blob)) = known else { return BTreeMap::new() };
        let Some(ino) = InodeNo::of_blob(entry.blob) else { return BTreeMap::new() };
        let placed = self.placements.get(&Occupant::Model(model));
        let homes = homes_of_model(entry, &blob.entry, &self.targets).into_iter();
        let claims = homes.map(|home| {
            let name = placed.and_then(|names| names.get(&home.directory)).unwrap_or(&entry.name).clone();
            (home.directory, (name, ino))
        });
        claims.collect()
    }

    /// Where a bundle is shown: its homes that are there and have a row for its directory.
    pub(super) fn bundle_claims(&self, bundle: BundleId) -> Vec<Place> {
        let Some(known) = self.bundles.get(&bundle) else { return Vec::new() };
        let placed = self.placements.get(&Occupant::Bundle(bundle));
        let homes = homes_of_bundle(&known.entry, &self.targets).into_iter();
        let places = homes.filter_map(|home| {
            let folder = self.folder_at(&home.directory)?;
            let given = placed.and_then(|names| names.get(&home.directory));
            let name = given.unwrap_or_else(|| default_bundle_name(&known.entry, &home.directory)).clone();
            let root = self.bundle_row(&home.directory.join(&name).ok()?, bundle)?;
            Some(Place { folder, name, root })
        });
        places.collect()
    }

    /// The plain directory at a path, if it is shown.
    pub(super) fn folder_at(&self, path: &RelativePath) -> Option<DirectoryId> {
        self.row_of_path.get(path).copied().filter(|row| self.folders.contains_key(row))
    }

    /// The row at a path, if it belongs to this bundle.
    pub(super) fn bundle_row(&self, path: &RelativePath, bundle: BundleId) -> Option<DirectoryId> {
        let row = *self.row_of_path.get(path)?;
        (self.rows.get(&row)?.bundle == Some(bundle)).then_some(row)
    }

    /// The directory and name under which a model is shown in each home.
    pub(super) fn model_names(&self, model: ModelId) -> Vec<(DirectoryId, EntryName)> {
        let claims = self.model_claims(model).into_iter();
        let names = claims.filter_map(|(directory, (wanted, _))| {
            let id = self.folder_at(&directory)?;
            let name = self.folders.get(&id)?.name_given(model).cloned().unwrap_or(wanted);
            Some((id, name))
        });
        names.collect()
    }
}

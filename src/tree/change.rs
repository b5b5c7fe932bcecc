//! The tree after a change, at the cost of the change.
//!
//! Invariant: `apply` reaches what `Tree::new` makes of the rows after the change. Old claims are withdrawn and new ones made
//! for the models and bundles whose rows changed; every name that may differ is collected, and compared in both trees at the
//! end. What no ordinary use of the catalog does (a directory that gets another path, a content that gets another hash) and
//! what touches everything (targets) is left to a new tree.

use super::build::{STORE, is_key, is_model, is_row, may_show};
use super::folder::{Entry, Folder};
use super::layout::Bundle;
use super::listing::digest_name;
use super::view::{Blob, CONTROL, ROOT_FOLDER, folder_number};
use super::{BlobEntry, Delta, DirectoryEntry, Occupant, Tree, TreeChange};
use crate::base::{BlobId, BundleId, DirectoryId, EntryName, InodeNo, ModelId, RelativePath};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Tree {
    /// The tree after a change and what differs. Cost: by the change, not by the collection.
    pub fn apply(&self, delta: Delta) -> (Self, TreeChange) {
        if self.needs_rebuilding(&delta) {
            let after = self.rebuilt(delta);
            let change = self.difference(&after);
            return (after, change);
        }
        let mut update = Update::new(self);
        update.new.revision = delta.revision;
        update.new.root_mtime = delta.root_mtime;
        // Of rows with one key the last counts.
        let blobs: BTreeMap<_, _> = delta.blobs.into_iter().map(|blob| (blob.id, blob)).collect();
        let rows: BTreeMap<_, _> = delta.directories.into_iter().filter(is_row).map(|row| (row.id, row)).collect();
        update.set_occupants(delta.models, delta.bundles, &delta.gone);
        blobs.into_values().for_each(|blob| update.set_blob(blob));
        delta.merged.into_iter().for_each(|(from, into)| update.merge(from, into));
        for placement in delta.placements {
            update.note(placement.occupant);
            update.new.put_placement(placement);
        }
        update.set_rows(rows);
        update.renew_claims();
        update.renew_insides();
        update.finish()
    }

    fn needs_rebuilding(&self, delta: &Delta) -> bool {
        let targets_differ = delta.targets.as_ref().is_some_and(|targets| targets[..] != self.targets[..]);
        targets_differ
            || self.moves_a_directory(&delta.directories)
            || self.changes_a_hash(&delta.blobs)
            || self.merges_a_hash(delta)
            // Rare, and many at a time.
            || !delta.forgotten.is_empty()
    }

    /// As a rule a content without a published hash turns out to be one that is known by its hash.
    fn merges_a_hash(&self, delta: &Delta) -> bool {
        let changed = |from: &BlobId| delta.blobs.iter().any(|blob| blob.id == *from && blob.sha256.is_some());
        let known = |from: &BlobId| self.blobs.get(from).is_some_and(|known| known.entry.sha256.is_some());
        delta.merged.iter().any(|(from, _)| known(from) || changed(from))
    }

    /// A row with another path or owner, a path with two rows, a plain directory above known ones, or `store` itself.
    fn moves_a_directory(&self, rows: &[DirectoryEntry]) -> bool {
        let mut met: BTreeMap<DirectoryId, &DirectoryEntry> = BTreeMap::new();
        let mut paths = BTreeSet::new();
        rows.iter().filter(|row| is_row(row)).any(|row| {
            let known = self.rows.get(&row.id).map(Arc::as_ref).or_else(|| met.get(&row.id).copied());
            met.insert(row.id, row);
            if let Some(known) = known {
                return known.path != row.path || known.bundle != row.bundle;
            }
            let taken = self.row_of_path.contains_key(&row.path) || !paths.insert(&row.path);
            taken || (row.bundle.is_none() && (row.path.as_str() == STORE || self.has_rows_below(&row.path)))
        })
    }

    fn has_rows_below(&self, path: &RelativePath) -> bool {
        let start = format!("{path}/");
        let first = self
            .row_of_path
            .range::<_, str>((std::ops::Bound::Included(start.as_str()), std::ops::Bound::Unbounded))
            .next();
        first.is_some_and(|(below, _)| below.as_str().starts_with(&start))
    }

    /// A content with another hash than before, or the hash of another content.
    fn changes_a_hash(&self, blobs: &[BlobEntry]) -> bool {
        let mut met = BTreeMap::new();
        blobs.iter().any(|blob| {
            let known = self.blobs.get(&blob.id).and_then(|known| known.entry.sha256);
            let Some(sha256) = blob.sha256 else { return known.is_some() };
            let owner = self.digests.find(|(digest, _)| digest.cmp(&sha256)).map(|(_, owner)| *owner);
            let other = [owner, met.insert(sha256, blob.id)].into_iter().flatten().any(|owner| owner != blob.id);
            other || known.is_some_and(|known| known != sha256)
        })
    }

    /// Whether what is known about a file here is no longer true in `after`.
    pub(super) fn file_differs(&self, blob: BlobId, after: &Self) -> bool {
        let Some(old) = self.blobs.get(&blob) else { return false };
        let facts = |blob: &Blob| (blob.entry.state, blob.entry.size_bytes, blob.entry.mtime, blob.links);
        after.blobs.get(&blob).map(|new| facts(new)) != Some(facts(old))
    }
}

struct Update<'a> {
    old: &'a Tree,
    new: Tree,
    models: BTreeSet<ModelId>,
    bundles: BTreeSet<BundleId>,
    blobs: BTreeSet<BlobId>,
    /// Names that may differ, also in directories that the old tree does not have.
    names: BTreeSet<(InodeNo, EntryName)>,
    directories: BTreeSet<InodeNo>,
}

/// What happens to one plain directory: claims withdrawn and made. Withdrawing comes first.
#[derive(Default)]
struct Edits {
    withdrawn: Vec<(EntryName, Option<ModelId>)>,
    made: Vec<Entry>,
}

impl<'a> Update<'a> {
    fn new(old: &'a Tree) -> Self {
        Self {
            old,
            new: old.clone(),
            models: BTreeSet::new(),
            bundles: BTreeSet::new(),
            blobs: BTreeSet::new(),
            names: BTreeSet::new(),
            directories: BTreeSet::new(),
        }
    }

    fn note(&mut self, occupant: Occupant) {
        match occupant {
            Occupant::Model(model) => drop(self.models.insert(model)),
            Occupant::Bundle(bundle) => drop(self.bundles.insert(bundle)),
        }
    }

    fn set_occupants(&mut self, models: Vec<super::ModelEntry>, bundles: Vec<super::BundleEntry>, gone: &[Occupant]) {
        for model in models.into_iter().filter(is_model) {
            self.models.insert(model.id);
            self.forget_model(model.id);
            self.new.models_of_blob.insert((model.blob, model.id));
            self.new.models.insert(model.id, Arc::new(model));
        }
        for bundle in bundles.into_iter().filter(|bundle| is_key(bundle.id.get())) {
            self.bundles.insert(bundle.id);
            self.new.put_bundle(Bundle::new(bundle));
        }
        for occupant in gone {
            self.note(*occupant);
            match occupant {
                Occupant::Model(model) => self.forget_model(*model),
                Occupant::Bundle(bundle) => self.new.forget_bundle(*bundle),
            }
        }
    }

    fn forget_model(&mut self, id: ModelId) {
        if let Some(model) = self.new.models.remove(&id) {
            self.new.models_of_blob.remove(&(model.blob, id));
        }
    }

    fn set_blob(&mut self, entry: BlobEntry) {
        let id = entry.id;
        let Some(directory) = InodeNo::of_blob(id).and_then(|_| InodeNo::of_blob_directory(id)) else { return };
        let old = self.old.blobs.get(&id);
        let moves = old.is_none_or(|old| old.entry.state != entry.state || old.entry.sha256 != entry.sha256);
        if moves {
            self.models.extend(self.new.models_of_blob(id));
        }
        if old.is_none() {
            self.note_bundles_of(id);
        }
        if let Some(sha256) = entry.sha256 {
            self.new.digests.put((sha256, id), |(digest, _)| digest.cmp(&sha256));
            self.names.extend(self.store().map(|store| (store, digest_name(&sha256))));
        }
        let names = [Some(&entry.name), old.map(|old| &old.entry.name)];
        self.names.extend(names.into_iter().flatten().map(|name| (directory, name.clone())));
        self.directories.insert(directory);
        self.blobs.insert(id);
        let links = old.map_or(0, |old| old.links);
        self.new.blobs.insert(id, Arc::new(Blob { entry, links }));
    }

    /// What had `from` has `into` from now on; whoever knows the number of `from` is led there.
    fn merge(&mut self, from: BlobId, into: BlobId) {
        self.new.merged.insert(from, into);
        let Some(gone) = self.new.blobs.remove(&from) else { return };
        self.models.extend(self.new.models_of_blob(from));
        self.note_bundles_of(from);
        if let Some(directory) = InodeNo::of_blob_directory(from) {
            self.names.insert((directory, gone.entry.name.clone()));
            self.directories.insert(directory);
        }
        self.blobs.insert(from);
    }

    fn note_bundles_of(&mut self, blob: BlobId) {
        let from = self.new.files_of_blob.range((blob, BundleId::new(i64::MIN), 0)..);
        self.bundles.extend(from.take_while(|(other, ..)| *other == blob).map(|(_, bundle, _)| *bundle));
    }

    fn store(&self) -> Option<InodeNo> {
        self.new.store.and_then(InodeNo::of_directory)
    }

    fn set_rows(&mut self, rows: BTreeMap<DirectoryId, DirectoryEntry>) {
        // Parents before what lies in them.
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        for row in rows {
            let is_new = !self.new.rows.contains_key(&row.id);
            self.directories.extend(InodeNo::of_directory(row.id));
            if let Some(bundle) = row.bundle.filter(|_| is_new) {
                self.bundles.insert(bundle);
            }
            if is_new {
                self.new.row_of_path.insert(row.path.clone(), row.id);
            }
            let row = Arc::new(row);
            self.new.rows.insert(row.id, Arc::clone(&row));
            if is_new && row.bundle.is_none() {
                self.show_directory(&row);
            }
        }
    }

    fn show_directory(&mut self, row: &DirectoryEntry) {
        let above = match row.path.parent() {
            Some(above) => self.new.folder_at(&above),
            None => Some(ROOT_FOLDER),
        };
        let (Some(above), Some(ino)) = (above, InodeNo::of_directory(row.id)) else { return };
        if !may_show(&row.path, &self.new.targets) {
            return;
        }
        self.new.folders.insert(row.id, Folder::default());
        self.edit(above, Edits { made: vec![Entry::directory(row.path.file_name(), ino, None)], ..Edits::default() });
        // What waited for this directory claims its name in it now.
        let waiting = self.new.waiting.range((row.path.clone(), ModelId::new(i64::MIN))..);
        self.models.extend(waiting.take_while(|(path, _)| *path == row.path).map(|(_, model)| *model));
    }

    fn edit(&mut self, folder: DirectoryId, edits: Edits) {
        let mut touched = BTreeSet::new();
        self.new.edit_folder(folder, &mut touched, |folder, touched| {
            for (name, model) in &edits.withdrawn {
                folder.remove(name, *model, touched);
            }
            for entry in edits.made {
                folder.add(entry, touched);
            }
        });
        if let Some(ino) = folder_number(folder) {
            self.names.extend(touched.into_iter().map(|name| (ino, name)));
        }
    }

    /// Withdraws what the old rows of the noted models and bundles claimed and makes the new claims.
    fn renew_claims(&mut self) {
        let mut edits: BTreeMap<DirectoryId, Edits> = BTreeMap::new();
        for model in std::mem::take(&mut self.models) {
            self.renew_model(model, &mut edits);
        }
        for bundle in &self.bundles {
            let old = self.old.places.get(bundle).map(|places| places.to_vec()).unwrap_or_default();
            let new = self.new.bundle_claims(*bundle);
            for place in old.iter().filter(|place| !new.contains(place)) {
                edits.entry(place.folder).or_default().withdrawn.push((place.name.clone(), None));
            }
            for place in new.iter().filter(|place| !old.contains(place)) {
                let Some(ino) = InodeNo::of_directory(place.root) else { continue };
                let entry = Entry::directory(place.name.clone(), ino, Some(*bundle));
                edits.entry(place.folder).or_default().made.push(entry);
            }
            if new.is_empty() {
                self.new.places.remove(bundle);
            } else {
                self.new.places.insert(*bundle, new.into());
            }
        }
        for (folder, edits) in edits {
            self.edit(folder, edits);
        }
    }

    fn renew_model(&mut self, model: ModelId, edits: &mut BTreeMap<DirectoryId, Edits>) {
        let (mut old, new) = (self.old.model_claims(model), self.new.model_claims(model));
        // The hash is in a marked name.
        let same_hash = self.old.sha256_of(model) == self.new.sha256_of(model);
        for (home, (name, ino)) in new {
            let folder = self.new.folder_at(&home);
            let known = old.remove(&home);
            let stays = known.as_ref().is_some_and(|known| *known == (name.clone(), ino)) && same_hash;
            if stays && folder == self.old.folder_at(&home) {
                continue;
            }
            if let Some((name, _)) = known {
                self.withdraw(model, &home, name, edits);
            }
            match folder {
                Some(folder) => edits.entry(folder).or_default().made.push(Entry::model(name, ino, model)),
                None => drop(self.new.waiting.insert((home, model))),
            }
        }
        for (home, (name, _)) in old {
            self.withdraw(model, &home, name, edits);
        }
    }

    fn withdraw(
        &mut self,
        model: ModelId,
        home: &RelativePath,
        name: EntryName,
        edits: &mut BTreeMap<DirectoryId, Edits>,
    ) {
        match self.old.folder_at(home) {
            Some(folder) => edits.entry(folder).or_default().withdrawn.push((name, Some(model))),
            None => drop(self.new.waiting.remove(&(home.clone(), model))),
        }
    }

    /// Collects the names inside the noted bundles, before and after.
    fn renew_insides(&mut self) {
        let mut names = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for bundle in &self.bundles {
            for tree in [self.old, &self.new] {
                let Some(places) = tree.places.get(bundle) else { continue };
                directories.extend(places.iter().filter_map(|place| InodeNo::of_directory(place.root)));
                tree.walk_bundle(places, &mut |directory, name, ino| {
                    names.insert((directory, name.clone()));
                    directories.extend(ino.directory().map(|_| ino));
                });
            }
        }
        self.names.extend(names);
        self.directories.extend(directories);
    }

    /// Compares what may differ, and counts links.
    fn finish(mut self) -> (Tree, TreeChange) {
        let mut change = TreeChange::default();
        let mut links: BTreeMap<BlobId, i64> = BTreeMap::new();
        for (directory, name) in std::mem::take(&mut self.names) {
            let (before, after) = (self.old.child(directory, name.as_str()), self.new.child(directory, name.as_str()));
            if before == after {
                continue;
            }
            if let Some(blob) = before.and_then(InodeNo::blob) {
                *links.entry(blob).or_default() -= 1;
            }
            if let Some(blob) = after.and_then(InodeNo::blob) {
                *links.entry(blob).or_default() += 1;
            }
            self.directories.insert(directory);
            change.names.push((directory, name));
        }
        for (blob, added) in links {
            self.new.add_links(blob, added);
            self.blobs.insert(blob);
        }
        change.names.retain(|(directory, _)| self.old.attributes(*directory).is_some());
        if self.old.root_mtime != self.new.root_mtime {
            self.directories.extend([InodeNo::ROOT, InodeNo::of_fixed(CONTROL)]);
        }
        let listed: BTreeSet<InodeNo> = change.names.iter().map(|(directory, _)| *directory).collect();
        let directories = self.directories.iter().copied().filter(|directory| {
            let before = self.old.attributes(*directory);
            before.is_some() && (listed.contains(directory) || before != self.new.attributes(*directory))
        });
        change.directories = directories.collect();
        let files = self.blobs.iter().copied().filter(|blob| self.old.file_differs(*blob, &self.new));
        change.files = files.collect();
        (self.new, change)
    }
}

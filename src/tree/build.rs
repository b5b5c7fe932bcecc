//! A whole tree from a snapshot, in one pass over its rows.
//!
//! Invariant: the result is what `change` would reach by any way. A mount waits for this, so models are taken in the order of
//! their names, which fills every directory in order, and the homes of models with equal facts are found once. Of rows
//! with one key the last counts; rows whose key makes no inode number are left out.

use super::claims::Place;
use super::folder::{Entry, Folder};
use super::homes::{Home, SharedFacts, homes_of_model, own_words, shared_homes};
use super::layout::Bundle;
use super::sorted::{PART_ITEMS, Sorted};
use super::target::{long_suffixes, short_ending};
use super::view::{Blob, CONTROL, CONTROL_NAME, ROOT_FOLDER};
use super::{BlobEntry, Delta, DirectoryEntry, ModelEntry, Occupant, Placement, Snapshot, Target, Tree};
use crate::base::{BlobId, BundleId, Digest, DirectoryId, EntryName, InodeNo, ModelId, RelativePath};
use imbl::{OrdMap, OrdSet};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Path of the directory whose entries are the contents themselves.
pub(super) const STORE: &str = "store";

impl Tree {
    pub fn new(snapshot: Snapshot) -> Self {
        let Snapshot { revision, root_mtime, blobs, models, bundles, directories, placements, targets, merged } =
            snapshot;
        let mut tree = Self {
            revision,
            root_mtime,
            targets: targets.into(),
            blobs: OrdMap::new(),
            models: OrdMap::new(),
            bundles: OrdMap::new(),
            rows: OrdMap::new(),
            row_of_path: OrdMap::new(),
            placements: OrdMap::new(),
            merged: merged.into_iter().collect(),
            models_of_blob: OrdSet::new(),
            files_of_blob: OrdSet::new(),
            digests: Sorted::default(),
            folders: OrdMap::new(),
            places: OrdMap::new(),
            waiting: OrdSet::new(),
            store: None,
        };
        tree.rows = directories.into_iter().filter(is_row).map(|row| (row.id, Arc::new(row))).collect();
        for row in tree.rows.values() {
            tree.row_of_path.entry(row.path.clone()).or_insert(row.id);
        }
        placements.into_iter().for_each(|placement| tree.put_placement(placement));
        let models: OrdMap<ModelId, Arc<ModelEntry>> =
            models.into_iter().filter(is_model).map(|model| (model.id, Arc::new(model))).collect();
        tree.models_of_blob = models.values().map(|model| (model.blob, model.id)).collect();
        tree.models = models;
        for bundle in bundles.into_iter().filter(|bundle| is_key(bundle.id.get())) {
            tree.put_bundle(Bundle::new(bundle));
        }
        let mut blobs = Contents::new(blobs);
        let mut folders = Folders::of_rows(&mut tree);
        folders.show_models(&mut tree, &mut blobs);
        tree.digests = blobs.digests(tree.store.is_some());
        let blobs = blobs.sorted.into_iter();
        tree.blobs = blobs.map(|(entry, links)| (entry.id, Arc::new(Blob { entry, links }))).collect();
        folders.finish(&mut tree);
        tree.show_bundles();
        tree.count_bundle_files();
        tree
    }

    pub(super) fn put_placement(&mut self, placement: Placement) {
        let names = self.placements.entry(placement.occupant).or_default();
        Arc::make_mut(names).insert(placement.directory, placement.name);
    }

    pub(super) fn put_bundle(&mut self, bundle: Bundle) {
        let id = bundle.entry.id;
        self.forget_bundle(id);
        for (blob, index) in bundle.blobs() {
            self.files_of_blob.insert((blob, id, index));
        }
        self.bundles.insert(id, Arc::new(bundle));
    }

    pub(super) fn forget_bundle(&mut self, id: BundleId) {
        let Some(old) = self.bundles.remove(&id) else { return };
        for (blob, index) in old.blobs() {
            self.files_of_blob.remove(&(blob, id, index));
        }
    }

    /// Shows all bundles, once the plain directories are there.
    fn show_bundles(&mut self) {
        let ids: Vec<BundleId> = self.bundles.keys().copied().collect();
        for id in ids {
            let places = self.bundle_claims(id);
            for place in &places {
                let Some(ino) = InodeNo::of_directory(place.root) else { continue };
                let entry = Entry::directory(place.name.clone(), ino, Some(id));
                self.edit_folder(place.folder, &mut BTreeSet::new(), |folder, touched| folder.add(entry, touched));
            }
            if !places.is_empty() {
                self.places.insert(id, places.into());
            }
        }
    }

    /// Changes a plain directory; names that may have changed are added to `touched`.
    pub(super) fn edit_folder(
        &mut self,
        id: DirectoryId,
        touched: &mut BTreeSet<EntryName>,
        edit: impl FnOnce(&mut Folder, &mut BTreeSet<EntryName>),
    ) {
        let Some(mut folder) = self.folders.remove(&id) else { return };
        folder.unsettle(touched);
        edit(&mut folder, touched);
        folder.settle(&|model| self.sha256_of(model), touched);
        self.folders.insert(id, folder);
    }

    pub(super) fn sha256_of(&self, model: ModelId) -> Option<Digest> {
        self.blobs.get(&self.models.get(&model)?.blob)?.entry.sha256
    }

    fn count_bundle_files(&mut self) {
        let mut counts: BTreeMap<BlobId, u32> = BTreeMap::new();
        for places in self.places.values() {
            self.walk_bundle(places, &mut |_, _, ino| {
                if let Some(blob) = ino.blob() {
                    let count = counts.entry(blob).or_default();
                    *count = count.saturating_add(1);
                }
            });
        }
        for (blob, count) in counts {
            self.add_links(blob, i64::from(count));
        }
    }

    /// Changes the number of names of a content.
    pub(super) fn add_links(&mut self, blob: BlobId, added: i64) {
        let Some(known) = self.blobs.get_mut(&blob) else { return };
        let links = u32::try_from(i64::from(known.links).saturating_add(added)).unwrap_or(0);
        *known = Arc::new(Blob { entry: known.entry.clone(), links });
    }

    /// Every name inside a bundle at the places given: directory, name, and the number it leads to.
    pub(super) fn walk_bundle(&self, places: &[Place], visit: &mut dyn FnMut(InodeNo, &EntryName, InodeNo)) {
        let mut open: Vec<InodeNo> = places.iter().filter_map(|place| InodeNo::of_directory(place.root)).collect();
        while let Some(directory) = open.pop() {
            let Some(listing) = self.listing(directory) else { continue };
            for child in listing.iter_from(0) {
                visit(directory, &child.name, child.ino);
                if child.ino.directory().is_some() {
                    open.push(child.ino);
                }
            }
        }
    }

    /// Everything this tree was made of.
    pub(super) fn snapshot(&self) -> Snapshot {
        let names = self.placements.iter().flat_map(|(occupant, names)| {
            names.iter().map(|(directory, name)| Placement {
                directory: directory.clone(),
                occupant: *occupant,
                name: name.clone(),
            })
        });
        Snapshot {
            revision: self.revision,
            root_mtime: self.root_mtime,
            blobs: self.blobs.values().map(|blob| blob.entry.clone()).collect(),
            models: self.models.values().map(|model| model.as_ref().clone()).collect(),
            bundles: self.bundles.values().map(|bundle| bundle.entry.clone()).collect(),
            directories: self.rows.values().map(|row| row.as_ref().clone()).collect(),
            placements: names.collect(),
            targets: self.targets.to_vec(),
            merged: self.merged.iter().map(|(from, into)| (*from, *into)).collect(),
        }
    }

    /// The tree after a change, made anew.
    pub(super) fn rebuilt(&self, delta: Delta) -> Self {
        let mut snapshot = self.snapshot();
        snapshot.revision = delta.revision;
        snapshot.root_mtime = delta.root_mtime;
        snapshot.blobs.extend(delta.blobs);
        snapshot.models.extend(delta.models);
        snapshot.bundles.extend(delta.bundles);
        snapshot.directories.extend(delta.directories);
        snapshot.placements.extend(delta.placements);
        snapshot.blobs.retain(|blob| delta.merged.iter().all(|(from, _)| *from != blob.id));
        snapshot.merged.extend(delta.merged);
        snapshot.blobs.retain(|blob| !delta.forgotten.contains(&blob.id));
        snapshot.models.retain(|model| !delta.gone.contains(&Occupant::Model(model.id)));
        snapshot.bundles.retain(|bundle| !delta.gone.contains(&Occupant::Bundle(bundle.id)));
        if let Some(targets) = delta.targets {
            snapshot.targets = targets;
        }
        Self::new(snapshot)
    }
}

/// Keys of models and bundles start at 1: 0 stands for none among the entries of a folder.
pub(super) fn is_key(key: i64) -> bool {
    key > 0
}

pub(super) fn is_model(model: &ModelEntry) -> bool {
    is_key(model.id.get())
}

pub(super) fn is_row(row: &DirectoryEntry) -> bool {
    InodeNo::of_directory(row.id).is_some()
}

/// Whether a plain row can be shown at all: not where the mount itself speaks, and not under a disabled target.
pub(super) fn may_show(path: &RelativePath, targets: &[Target]) -> bool {
    let (first, rest) = path.as_str().split_once('/').unwrap_or((path.as_str(), ""));
    let mut named = targets.iter().filter(|target| target.name.as_str() == first).peekable();
    let disabled = named.peek().is_some() && named.all(|target| !target.enabled);
    !disabled && first != CONTROL_NAME && (first != STORE || rest.is_empty())
}

/// The contents, by id, with their links counted.
struct Contents {
    sorted: Vec<(BlobEntry, u32)>,
}

impl Contents {
    fn new(blobs: Vec<BlobEntry>) -> Self {
        let known = blobs.into_iter().filter(|blob| InodeNo::of_blob(blob.id).is_some());
        let mut sorted: Vec<_> = known.map(|blob| (blob, 0)).collect();
        // The sort is stable and the last row of a key counts.
        sorted.sort_by_key(|(blob, _)| blob.id);
        sorted.dedup_by(|later, kept| {
            let same = later.0.id == kept.0.id;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self { sorted }
    }

    fn find(&mut self, blob: BlobId) -> Option<&mut (BlobEntry, u32)> {
        // Keys without gaps are the rule: the position follows from the first.
        let first = self.sorted.first()?.0.id.get();
        let guess = usize::try_from(blob.get().saturating_sub(first)).ok();
        let at = match guess.filter(|at| self.sorted.get(*at).is_some_and(|it| it.0.id == blob)) {
            Some(at) => at,
            None => self.sorted.binary_search_by_key(&blob, |it| it.0.id).ok()?,
        };
        self.sorted.get_mut(at)
    }

    /// The contents under `store/`: of equal hashes the first. If `store` is shown, that is one more name for each.
    fn digests(&mut self, is_shown: bool) -> Sorted<(Digest, BlobId)> {
        let known = self.sorted.iter();
        let mut digests: Vec<_> = known.filter_map(|(blob, _)| Some((blob.sha256?, blob.id))).collect();
        digests.sort_unstable();
        digests.dedup_by_key(|(digest, _)| *digest);
        for (_, blob) in digests.iter().filter(|_| is_shown) {
            if let Some((_, links)) = self.find(*blob) {
                *links += 1;
            }
        }
        Sorted::from_ordered(digests)
    }
}

/// The plain directories that are shown, while they fill.
struct Folders {
    filling: Vec<Filling>,
    of_path: HashMap<RelativePath, usize>,
}

struct Filling {
    row: DirectoryId,
    entries: Vec<Vec<Entry>>,
    /// Whether the entries are in order and all different.
    ordered: bool,
    /// Rank of the last entry's name.
    last_rank: usize,
}

impl Filling {
    fn new(row: DirectoryId) -> Self {
        Self { row, entries: Vec::new(), ordered: true, last_rank: usize::MAX }
    }

    fn add_unordered(&mut self, entry: Entry) {
        self.ordered = false;
        self.push(entry);
    }

    /// In parts, as a folder keeps them: a long list would be copied several times while it grows.
    fn push(&mut self, entry: Entry) {
        match self.entries.last_mut().filter(|part| part.len() < PART_ITEMS) {
            Some(part) => part.push(entry),
            None => {
                // The first part may stay small, a second one will not.
                let mut part = Vec::with_capacity(if self.entries.is_empty() { 1 } else { PART_ITEMS });
                part.push(entry);
                self.entries.push(part);
            }
        }
    }

    /// Adds the next entry of a walk in the order of names, where equal names have one rank.
    fn add(&mut self, entry: Entry, rank: usize) {
        self.ordered &= self.last_rank != rank;
        self.last_rank = rank;
        self.push(entry);
    }
}

/// Where models with equal facts are shown: positions of folders, and homes that have no row.
struct SharedPlaces {
    slots: Vec<usize>,
    missing: Vec<RelativePath>,
}

impl Folders {
    fn of_rows(tree: &mut Tree) -> Self {
        let mut root = Filling::new(ROOT_FOLDER);
        let control = EntryName::new(CONTROL_NAME).expect("a literal name is valid");
        root.add_unordered(Entry::directory(control, InodeNo::of_fixed(CONTROL), None));
        let mut folders = Self { filling: vec![root], of_path: HashMap::new() };
        // In the order of paths a directory comes after the one above.
        for (path, id) in &tree.row_of_path {
            let is_plain = tree.rows.get(id).is_some_and(|row| row.bundle.is_none());
            if !is_plain || !may_show(path, &tree.targets) {
                continue;
            }
            let above = match path.parent() {
                Some(above) => folders.of_path.get(&above).copied(),
                None => Some(0),
            };
            let (Some(above), Some(ino)) = (above, InodeNo::of_directory(*id)) else { continue };
            folders.filling[above].add_unordered(Entry::directory(path.file_name(), ino, None));
            folders.of_path.insert(path.clone(), folders.filling.len());
            folders.filling.push(Filling::new(*id));
            if path.as_str() == STORE {
                tree.store = Some(*id);
            }
        }
        folders
    }

    fn show_models(&mut self, tree: &mut Tree, blobs: &mut Contents) {
        let mut shared: HashMap<SharedFacts<'_>, SharedPlaces> = HashMap::new();
        let long = long_suffixes(&tree.targets);
        let mut waiting = Vec::new();
        let (mut rank, mut last) = (0, None);
        let mut own_slots = HashMap::new();
        for (start, model) in in_order_of_names(&tree.models) {
            let name = (start, &model.name);
            rank += usize::from(last.is_some_and(|last| last != name));
            last = Some(name);
            let known = blobs.find(model.blob).zip(InodeNo::of_blob(model.blob));
            let Some(((blob, links), ino)) = known else { continue };
            if let Some(given) = tree.placements.get(&Occupant::Model(model.id)) {
                let homes = homes_of_model(model, blob, &tree.targets);
                *links += self.show_placed(model, ino, homes, given, &mut waiting);
                continue;
            }
            let facts =
                SharedFacts { ending: short_ending(model.name.as_str(), &long), ..SharedFacts::of(model, blob) };
            let places = shared.entry(facts).or_insert_with_key(|facts| self.shared_places(facts, &tree.targets));
            let mut own = Vec::new();
            for word in own_words(model) {
                let find = || self.of_path.get(word.directory().as_str()).copied();
                match *own_slots.entry(word).or_insert_with(find) {
                    Some(slot) if !own.contains(&slot) && !places.slots.contains(&slot) => own.push(slot),
                    Some(_) => {}
                    None => waiting.extend(RelativePath::new(&word.directory()).ok().map(|home| (home, model.id))),
                }
            }
            waiting.extend(places.missing.iter().map(|home| (home.clone(), model.id)));
            for slot in places.slots.iter().chain(&own) {
                self.filling[*slot].add(Entry::model(model.name.clone(), ino, model.id), rank);
            }
            *links += u32::try_from(places.slots.len() + own.len()).unwrap_or(u32::MAX);
        }
        tree.waiting = waiting.into_iter().collect();
    }

    fn shared_places(&self, facts: &SharedFacts<'_>, targets: &[Target]) -> SharedPlaces {
        let mut places = SharedPlaces { slots: Vec::new(), missing: Vec::new() };
        for home in shared_homes(facts, targets) {
            match self.of_path.get(&home.directory) {
                Some(slot) => places.slots.push(*slot),
                None => places.missing.push(home.directory),
            }
        }
        places
    }

    /// Shows a model that has another name in some of its homes; says in how many it is shown.
    fn show_placed(
        &mut self,
        model: &ModelEntry,
        ino: InodeNo,
        homes: Vec<Home>,
        given: &BTreeMap<RelativePath, EntryName>,
        waiting: &mut Vec<(RelativePath, ModelId)>,
    ) -> u32 {
        let mut count = 0;
        for home in homes {
            let name = given.get(&home.directory).unwrap_or(&model.name).clone();
            match self.of_path.get(&home.directory) {
                Some(slot) => {
                    self.filling[*slot].add_unordered(Entry::model(name, ino, model.id));
                    count += 1;
                }
                None => waiting.push((home.directory, model.id)),
            }
        }
        count
    }

    fn finish(self, tree: &mut Tree) {
        let mut folders = Vec::with_capacity(self.filling.len());
        for filling in self.filling {
            let folder = if filling.ordered {
                Folder::of_parts(filling.entries)
            } else {
                let entries = filling.entries.into_iter().flatten().collect();
                Folder::new(entries, &|model| tree.sha256_of(model))
            };
            folders.push((filling.row, folder));
        }
        tree.folders = folders.into_iter().collect();
    }
}

/// Models sorted by name. The first bytes decide nearly always, and comparing them needs no memory but the list's own.
fn in_order_of_names(models: &OrdMap<ModelId, Arc<ModelEntry>>) -> impl Iterator<Item = (u128, &ModelEntry)> {
    let start = |name: &str| {
        let mut bytes = [0; 16];
        let length = name.len().min(bytes.len());
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        u128::from_be_bytes(bytes)
    };
    let mut sorted: Vec<_> = models.values().map(|model| (start(model.name.as_str()), model.as_ref())).collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
    sorted.into_iter()
}

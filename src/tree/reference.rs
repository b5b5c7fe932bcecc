//! The obvious tree, for tests: every path in one map, made from scratch, and what differs between two of them.
//!
//! It shares nothing with the tree but `homes` and `marked_name`; it is slow, and short enough to be seen to be right.

use super::homes::default_bundle_name;
use super::{
    Attributes, BlobEntry, BundleEntry, DirectoryEntry, ModelEntry, NodeKind, Occupant, Snapshot, Tree, TreeChange,
    homes_of_bundle, homes_of_model, marked_name,
};
use crate::base::{BlobId, BlobState, InodeNo, RelativePath, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Reference {
    /// Every path but the root's, which is empty.
    pub paths: BTreeMap<String, InodeNo>,
    times: BTreeMap<InodeNo, Timestamp>,
    blobs: BTreeMap<BlobId, BlobEntry>,
    merged: BTreeMap<BlobId, BlobId>,
    /// Paths of models and bundles.
    shown: BTreeMap<Occupant, BTreeSet<String>>,
}

struct Making {
    out: Reference,
    rows: BTreeMap<String, DirectoryEntry>,
    placements: BTreeMap<(Occupant, String), String>,
}

impl Reference {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let keyed = |id: i64| id > 0;
        let blobs = snapshot.blobs.iter().filter(|it| InodeNo::of_blob(it.id).is_some());
        let blobs: BTreeMap<_, _> = blobs.map(|it| (it.id, it.clone())).collect();
        let models: BTreeMap<_, _> =
            snapshot.models.iter().filter(|it| keyed(it.id.get())).map(|it| (it.id, it.clone())).collect();
        let bundles: BTreeMap<_, _> =
            snapshot.bundles.iter().filter(|it| keyed(it.id.get())).map(|it| (it.id, it.clone())).collect();
        let by_id: BTreeMap<_, _> = snapshot.directories.iter().map(|it| (it.id, it.clone())).collect();
        let mut rows = BTreeMap::new();
        for row in by_id.into_values().filter(|it| InodeNo::of_directory(it.id).is_some()) {
            rows.entry(row.path.to_string()).or_insert(row);
        }
        let placements = snapshot.placements.iter();
        let placements = placements.map(|it| ((it.occupant, it.directory.to_string()), it.name.to_string())).collect();
        let mut times = BTreeMap::from([(InodeNo::ROOT, snapshot.root_mtime)]);
        times.extend((1..=3).map(|index| (InodeNo::of_fixed(index), snapshot.root_mtime)));
        let merged = snapshot.merged.iter().copied().collect();
        let out = Self { paths: BTreeMap::new(), times, blobs, merged, shown: BTreeMap::new() };
        let mut making = Making { out, rows, placements };
        making.fixed();
        let plain = making.plain(snapshot);
        bundles.values().for_each(|bundle| making.bundle(bundle, &plain, snapshot));
        making.models(models.into_values().collect(), &plain, snapshot);
        making.store();
        making.out
    }

    fn links(&self, ino: InodeNo) -> u32 {
        u32::try_from(self.paths.values().filter(|it| **it == ino).count()).expect("few paths")
    }

    pub(super) fn paths_of(&self, ino: InodeNo) -> Vec<String> {
        self.paths.iter().filter(|(_, it)| **it == ino).map(|(path, _)| path.clone()).collect()
    }

    /// Names and numbers in the directory at a path.
    pub(super) fn children(&self, path: &str) -> BTreeMap<String, InodeNo> {
        let start = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.paths.iter().filter_map(|(other, ino)| Some((other.strip_prefix(&start)?, *ino)));
        below.filter(|(rest, _)| !rest.contains('/')).map(|(rest, ino)| (rest.to_owned(), ino)).collect()
    }

    fn is_directory(ino: InodeNo) -> bool {
        ino.blob().is_none() && ino.fixed().is_none_or(|index| index == 1)
    }

    pub(super) fn directories(&self) -> BTreeMap<InodeNo, String> {
        let found = self.paths.iter().filter(|(_, ino)| Self::is_directory(**ino));
        found.map(|(path, ino)| (*ino, path.clone())).chain([(InodeNo::ROOT, String::new())]).collect()
    }

    fn directory_attributes(&self, ino: InodeNo, path: &str) -> (Timestamp, u32) {
        let below = self.children(path).values().filter(|ino| Self::is_directory(**ino)).count();
        (self.times[&ino], 2 + u32::try_from(below).expect("few paths"))
    }

    fn file_facts(&self, blob: BlobId) -> Option<(BlobState, u64, Timestamp, u32)> {
        let entry = self.blobs.get(&blob)?;
        let links = InodeNo::of_blob(blob).map_or(0, |ino| self.links(ino));
        Some((entry.state, entry.size_bytes, entry.mtime, links))
    }

    pub(super) fn change_to(&self, after: &Self) -> TreeChange {
        let mut change = TreeChange::default();
        let later = after.directories();
        for (ino, path) in self.directories() {
            let new_path = later.get(&ino);
            let before = self.children(&path);
            let now = new_path.map(|path| after.children(path)).unwrap_or_default();
            let names: BTreeSet<_> = before.keys().chain(now.keys()).collect();
            let differ: Vec<_> = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).collect();
            let attributes = new_path.map(|path| after.directory_attributes(ino, path));
            if !differ.is_empty() || attributes != Some(self.directory_attributes(ino, &path)) {
                change.directories.push(ino);
            }
            let names = differ.iter().map(|name| (ino, crate::base::EntryName::new(name).expect("shown")));
            change.names.extend(names);
        }
        let blobs = self.blobs.keys().filter(|id| self.file_facts(**id) != after.file_facts(**id));
        change.files = blobs.copied().collect();
        change
    }

    /// Asks the tree everything there is to ask.
    pub(super) fn check(&self, tree: &Tree) {
        for (ino, path) in self.directories() {
            let listing = tree.listing(ino).unwrap_or_else(|| panic!("{path} is listed"));
            let listed: Vec<_> = listing.iter_from(0).collect();
            let names: Vec<_> = listed.iter().map(|child| (child.name.to_string(), child.ino)).collect();
            assert_eq!(names, self.children(&path).into_iter().collect::<Vec<_>>(), "{path}");
            assert_eq!(listing.len(), listed.len());
            for (index, child) in listed.iter().enumerate() {
                assert_eq!(listing.get(index).as_ref(), Some(child));
                let attributes = tree.lookup(ino, child.name.as_str()).expect("what is listed is there");
                assert_eq!((attributes.ino, attributes.kind), (child.ino, child.kind));
                assert_eq!(tree.attributes(child.ino), Some(attributes));
            }
            let rest: Vec<_> = listing.iter_from(listed.len() / 2).collect();
            assert_eq!((&rest[..], listing.get(listed.len())), (&listed[listed.len() / 2..], None));
            let (mtime, nlink) = self.directory_attributes(ino, &path);
            let expected = Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime, nlink };
            assert_eq!(tree.attributes(ino), Some(expected), "{path}");
            assert_eq!(
                tree.path_of_directory(ino).map(|it| it.to_string()),
                Some(path.clone()).filter(|it| !it.is_empty())
            );
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            assert_eq!(
                tree.parent(ino),
                if above.is_empty() { Some(InodeNo::ROOT) } else { self.paths.get(above).copied() }
            );
            assert_eq!(tree.lookup(ino, "not there"), None);
        }
        for (path, ino) in &self.paths {
            let found = tree.resolve(&RelativePath::new(path).expect("shown"));
            assert_eq!(found.map(|it| it.ino), Some(*ino), "{path}");
        }
        for (id, blob) in &self.blobs {
            let ino = InodeNo::of_blob(*id).expect("valid");
            let (_, size_bytes, mtime, nlink) = self.file_facts(*id).expect("known");
            let expected = Attributes { ino, kind: NodeKind::Blob(*id), size_bytes, mtime, nlink };
            assert_eq!(tree.attributes(ino), Some(expected), "{}", blob.name);
            let paths: Vec<_> = tree.paths_of_blob(*id).iter().map(RelativePath::to_string).collect();
            assert_eq!(paths, self.paths_of(ino));
            for (directory, name) in tree.names_of_blob(*id) {
                assert_eq!(tree.lookup(directory, name.as_str()).map(|it| it.ino), Some(ino));
            }
            assert_eq!(tree.blob(*id), Some(blob));
        }
        assert_eq!(tree.blob_count(), self.blobs.len());
        for number in 1..400 {
            let ino = InodeNo::from_u64(number).expect("not zero");
            let becomes =
                |blob| if self.blobs.contains_key(&blob) { Some(blob) } else { self.merged.get(&blob).copied() };
            let content = ino.blob().and_then(becomes).filter(|blob| self.blobs.contains_key(blob));
            let known = self.times.contains_key(&ino) || content.is_some();
            let led = tree.attributes(ino).map(|of| of.kind).filter(|kind| matches!(kind, NodeKind::Blob(_)));
            assert_eq!(led, content.map(NodeKind::Blob), "{number}");
            assert_eq!(tree.attributes(ino).is_some(), known, "{number}");
        }
        for (occupant, paths) in &self.shown {
            let found: Vec<_> = tree.paths_of(*occupant).iter().map(RelativePath::to_string).collect();
            assert_eq!(found, paths.iter().cloned().collect::<Vec<_>>(), "{occupant:?}");
        }
    }
}

impl Making {
    fn add(&mut self, path: String, ino: InodeNo, mtime: Option<Timestamp>) {
        if let Some(mtime) = mtime {
            self.out.times.insert(ino, mtime);
        }
        assert_eq!(self.out.paths.insert(path.clone(), ino), None, "{path} twice");
    }

    fn fixed(&mut self) {
        for (path, index) in [(".modelfs", 1), (".modelfs/status.json", 2), (".modelfs/downloads.json", 3)] {
            self.add(path.to_owned(), InodeNo::of_fixed(index), None);
        }
    }

    /// Plain directories: each needs a row and a shown one above it.
    fn plain(&mut self, snapshot: &Snapshot) -> BTreeSet<String> {
        let mut plain = BTreeSet::new();
        let rows: Vec<_> = self.rows.values().filter(|row| row.bundle.is_none()).cloned().collect();
        for row in rows {
            let path = row.path.to_string();
            let first = path.split('/').next().expect("not empty");
            let named: Vec<_> = snapshot.targets.iter().filter(|it| it.name.as_str() == first).collect();
            let disabled = !named.is_empty() && named.iter().all(|it| !it.enabled);
            let own = first == ".modelfs" || path.starts_with("store/");
            if disabled || own || row.path.parent().is_some_and(|above| !plain.contains(above.as_str())) {
                continue;
            }
            self.add(path.clone(), InodeNo::of_directory(row.id).expect("valid"), Some(row.mtime));
            plain.insert(path);
        }
        plain
    }

    fn bundle(&mut self, bundle: &BundleEntry, plain: &BTreeSet<String>, snapshot: &Snapshot) {
        let occupant = Occupant::Bundle(bundle.id);
        self.out.shown.entry(occupant).or_default();
        for home in homes_of_bundle(bundle, &snapshot.targets) {
            let directory = home.directory.to_string();
            let default = default_bundle_name(bundle, &home.directory).to_string();
            let name = self.placements.get(&(occupant, directory.clone())).cloned().unwrap_or(default);
            let root = format!("{directory}/{name}");
            if plain.contains(&directory) && self.inside(bundle, &root) {
                self.out.shown.entry(occupant).or_default().insert(root.clone());
                self.files(bundle, &root);
            }
        }
    }

    /// Adds one directory of a bundle, if it has its row.
    fn inside(&mut self, bundle: &BundleEntry, path: &str) -> bool {
        let row = self.rows.get(path).filter(|row| row.bundle == Some(bundle.id)).cloned();
        if let Some(row) = &row {
            self.add(path.to_owned(), InodeNo::of_directory(row.id).expect("valid"), Some(row.mtime));
        }
        row.is_some()
    }

    fn files(&mut self, bundle: &BundleEntry, root: &str) {
        let mut folders = BTreeSet::new();
        for file in bundle.files.iter() {
            let mut above = file.path.parent();
            while let Some(folder) = above {
                above = folder.parent();
                folders.insert(folder.to_string());
            }
        }
        let mut shown = BTreeSet::from([root.to_owned()]);
        for folder in &folders {
            let path = format!("{root}/{folder}");
            let above = path.rsplit_once('/').expect("below the root").0;
            if shown.contains(above) && self.inside(bundle, &path) {
                shown.insert(path);
            }
        }
        let mut taken = folders;
        for file in bundle.files.iter() {
            let path = format!("{root}/{}", file.path);
            let first = taken.insert(file.path.to_string());
            let above = path.rsplit_once('/').expect("below the root").0;
            if first && shown.contains(above) && self.out.blobs.contains_key(&file.blob) {
                self.add(path, InodeNo::of_blob(file.blob).expect("valid"), None);
            }
        }
    }

    fn models(&mut self, models: Vec<ModelEntry>, plain: &BTreeSet<String>, snapshot: &Snapshot) {
        let mut losers: BTreeMap<String, Vec<(ModelEntry, String)>> = BTreeMap::new();
        for model in models {
            let occupant = Occupant::Model(model.id);
            self.out.shown.entry(occupant).or_default();
            let Some(blob) = self.out.blobs.get(&model.blob).cloned() else { continue };
            for home in homes_of_model(&model, &blob, &snapshot.targets) {
                let directory = home.directory.to_string();
                if !plain.contains(&directory) {
                    continue;
                }
                let default = model.name.to_string();
                let name = self.placements.get(&(occupant, directory.clone())).cloned().unwrap_or(default);
                let path = format!("{directory}/{name}");
                if self.out.paths.contains_key(&path) {
                    losers.entry(directory).or_default().push((model.clone(), name));
                } else {
                    self.add(path.clone(), InodeNo::of_blob(model.blob).expect("valid"), None);
                    self.out.shown.entry(occupant).or_default().insert(path);
                }
            }
        }
        // Models come by id, so the first had the name and the others follow in order.
        for (directory, losers) in losers {
            for (model, name) in losers {
                let wanted = crate::base::EntryName::new(&name).expect("valid");
                let sha256 = self.out.blobs[&model.blob].sha256;
                let free = (0..).map(|n| format!("{directory}/{}", marked_name(&wanted, sha256.as_ref(), model.id, n)));
                let path = free.into_iter().find(|path| !self.out.paths.contains_key(path)).expect("some name is free");
                self.add(path.clone(), InodeNo::of_blob(model.blob).expect("valid"), None);
                self.out.shown.entry(Occupant::Model(model.id)).or_default().insert(path);
            }
        }
    }

    fn store(&mut self) {
        if !self.out.paths.contains_key("store") || self.rows["store"].bundle.is_some() {
            return;
        }
        for blob in self.out.blobs.clone().into_values() {
            let Some(path) = blob.sha256.map(|sha256| format!("store/{sha256}")) else { continue };
            if self.out.paths.contains_key(&path) {
                continue;
            }
            self.add(path.clone(), InodeNo::of_blob_directory(blob.id).expect("valid"), Some(blob.mtime));
            self.add(format!("{path}/{}", blob.name), InodeNo::of_blob(blob.id).expect("valid"), None);
        }
    }
}

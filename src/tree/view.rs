//! The tree itself: lookup, attributes, listings, names of a content.
//!
//! Invariants: what is listed can be looked up and has attributes; the link count of a file is the number of its names; a
//! directory is shown only if it and every one above has a row. Not here: how a tree is made (`build`) and changed (`change`).

use super::claims::Place;
use super::folder::Folder;
use super::layout::Bundle;
use super::listing::{Child, Listing, digest_name};
use super::sorted::Sorted;
use super::{BlobEntry, BundleEntry, DirectoryEntry, ModelEntry, Occupant, Target};
use crate::base::{BlobId, BundleId, Digest, DirectoryId, EntryName, InodeNo, ModelId, RelativePath, Timestamp};
use imbl::{OrdMap, OrdSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files under `.modelfs/` whose content is made when they are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LiveFile {
    Status,
    Downloads,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeKind {
    Directory,
    Blob(BlobId),
    Live(LiveFile),
}

impl NodeKind {
    /// The number tells the kind.
    pub(super) fn of(ino: InodeNo) -> Option<Self> {
        match ino.fixed() {
            Some(CONTROL) => Some(Self::Directory),
            Some(STATUS) => Some(Self::Live(LiveFile::Status)),
            Some(DOWNLOADS) => Some(Self::Live(LiveFile::Downloads)),
            Some(_) => None,
            None => Some(ino.blob().map_or(Self::Directory, Self::Blob)),
        }
    }
}

/// What `stat` needs. For a live file `size_bytes` is 0: the edge fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    pub ino: InodeNo,
    pub kind: NodeKind,
    pub size_bytes: u64,
    pub mtime: Timestamp,
    /// Number of names of a file; for a directory 2 plus its subdirectories.
    pub nlink: u32,
}

/// Name of the directory of live files, which is always there.
pub(super) const CONTROL_NAME: &str = ".modelfs";
/// Fixed numbers: the directory of live files and what it holds.
pub(super) const CONTROL: u32 = 1;
const STATUS: u32 = 2;
const DOWNLOADS: u32 = 3;
const LIVE_FILES: [(&str, u32); 2] = [("downloads.json", DOWNLOADS), ("status.json", STATUS)];

/// Key of the root among the folders: no row has it, because no inode number can be made of it.
pub(super) const ROOT_FOLDER: DirectoryId = DirectoryId::new(0);

/// A content and how many names it has.
pub(super) struct Blob {
    pub entry: BlobEntry,
    pub links: u32,
}

/// The whole namespace at one revision. Cheap to clone.
#[derive(Clone)]
pub struct Tree {
    pub(super) revision: u64,
    pub(super) root_mtime: Timestamp,
    pub(super) targets: Arc<[Target]>,
    pub(super) blobs: OrdMap<BlobId, Arc<Blob>>,
    pub(super) models: OrdMap<ModelId, Arc<ModelEntry>>,
    pub(super) bundles: OrdMap<BundleId, Arc<Bundle>>,
    pub(super) rows: OrdMap<DirectoryId, Arc<DirectoryEntry>>,
    pub(super) row_of_path: OrdMap<RelativePath, DirectoryId>,
    pub(super) placements: OrdMap<Occupant, Arc<BTreeMap<RelativePath, EntryName>>>,
    /// Where contents are found that turned out to be another one; the kernel may know their numbers for long.
    pub(super) merged: OrdMap<BlobId, BlobId>,
    pub(super) models_of_blob: OrdSet<(BlobId, ModelId)>,
    /// Positions in `BundleEntry::files`.
    pub(super) files_of_blob: OrdSet<(BlobId, BundleId, usize)>,
    /// The contents under `store/`.
    pub(super) digests: Sorted<(Digest, BlobId)>,
    /// The plain directories that are shown, and the root.
    pub(super) folders: OrdMap<DirectoryId, Folder>,
    pub(super) places: OrdMap<BundleId, Arc<[Place]>>,
    /// Models whose home has no row yet.
    pub(super) waiting: OrdSet<(RelativePath, ModelId)>,
    /// The row of `store`, if it is shown.
    pub(super) store: Option<DirectoryId>,
}

/// What differs for somebody who remembers the old tree (the kernel's caches): nothing is named that the old tree did
/// not have.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TreeChange {
    /// Names that appeared, vanished or now lead elsewhere, by directory.
    pub names: Vec<(InodeNo, EntryName)>,
    /// Directories whose listing, time or link count changed, or that are gone.
    pub directories: Vec<InodeNo>,
    /// Files whose attributes or state changed (link count, resident now).
    pub files: Vec<BlobId>,
}

/// A directory that is shown.
enum Shown<'a> {
    Folder(&'a Folder),
    Store,
    /// A folder of a bundle, by its row and its path below the bundle.
    Inside(&'a Bundle, &'a DirectoryEntry, &'a str),
    /// `store/<sha256>`.
    Single(&'a BlobEntry),
    Control,
}

impl Tree {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn attributes(&self, ino: InodeNo) -> Option<Attributes> {
        if let Some(blob) = ino.blob() {
            let blob = self.blobs.get(&self.current(blob))?;
            let kind = NodeKind::Blob(blob.entry.id);
            let (size_bytes, mtime, nlink) = (blob.entry.size_bytes, blob.entry.mtime, blob.links);
            return Some(Attributes { ino, kind, size_bytes, mtime, nlink });
        }
        if let Some(kind @ NodeKind::Live(_)) = NodeKind::of(ino) {
            return Some(Attributes { ino, kind, size_bytes: 0, mtime: self.root_mtime, nlink: 1 });
        }
        let (mtime, subdirectories) = match self.shown(ino)? {
            Shown::Folder(folder) => (self.folder_mtime(ino), folder.subdirectories()),
            Shown::Store => (self.folder_mtime(ino), u32::try_from(self.digests.len()).unwrap_or(u32::MAX)),
            Shown::Inside(bundle, row, path) => {
                let children = self.inside(bundle, row, path);
                let folders = children.iter().filter(|child| child.kind == NodeKind::Directory).count();
                (row.mtime, u32::try_from(folders).unwrap_or(u32::MAX))
            }
            Shown::Single(blob) => (blob.mtime, 0),
            Shown::Control => (self.root_mtime, 0),
        };
        let nlink = subdirectories.saturating_add(2);
        Some(Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime, nlink })
    }

    fn folder_mtime(&self, ino: InodeNo) -> Timestamp {
        ino.directory().and_then(|row| self.rows.get(&row)).map_or(self.root_mtime, |row| row.mtime)
    }

    pub fn lookup(&self, directory: InodeNo, name: &str) -> Option<Attributes> {
        self.attributes(self.child(directory, name)?)
    }

    /// The number behind a name.
    pub(super) fn child(&self, directory: InodeNo, name: &str) -> Option<InodeNo> {
        match self.shown(directory)? {
            Shown::Folder(folder) => folder.find(name).map(|entry| entry.ino),
            Shown::Store => {
                let digest = Digest::parse(name).ok().filter(|digest| digest.to_string() == name)?;
                let (_, blob) = self.digests.find(|(other, _)| other.cmp(&digest))?;
                InodeNo::of_blob_directory(*blob)
            }
            Shown::Inside(bundle, row, path) => {
                let inside = bundle.find(path, name)?;
                self.inside_number(bundle, row, &inside.name, inside.blob)
            }
            Shown::Single(blob) => (blob.name.as_str() == name).then(|| InodeNo::of_blob(blob.id)).flatten(),
            Shown::Control => {
                let (_, index) = LIVE_FILES.iter().find(|(file, _)| *file == name)?;
                Some(InodeNo::of_fixed(*index))
            }
        }
    }

    fn shown(&self, ino: InodeNo) -> Option<Shown<'_>> {
        if ino == InodeNo::ROOT {
            return self.folders.get(&ROOT_FOLDER).map(Shown::Folder);
        }
        if let Some(row) = ino.directory() {
            if self.store == Some(row) {
                return Some(Shown::Store);
            }
            return self.folders.get(&row).map(Shown::Folder).or_else(|| self.shown_inside(row));
        }
        if let Some(blob) = ino.blob_directory() {
            let entry = &self.blobs.get(&blob)?.entry;
            return (self.store.is_some() && self.is_in_store(entry)).then_some(Shown::Single(entry));
        }
        (ino.fixed() == Some(CONTROL)).then_some(Shown::Control)
    }

    /// Whether a content has a directory under `store/`, when that is shown.
    pub(super) fn is_in_store(&self, blob: &BlobEntry) -> bool {
        let found = blob.sha256.and_then(|sha256| self.digests.find(|(digest, _)| digest.cmp(&sha256)));
        found.is_some_and(|(_, owner)| *owner == blob.id)
    }

    fn shown_inside(&self, row: DirectoryId) -> Option<Shown<'_>> {
        let row = self.rows.get(&row)?;
        let id = row.bundle?;
        let bundle = self.bundles.get(&id)?;
        if self.row_of_path.get(&row.path) != Some(&row.id) {
            return None;
        }
        let inside = self.places.get(&id)?.iter().find_map(|place| {
            let root = &self.rows.get(&place.root)?.path;
            let rest = row.path.as_str().strip_prefix(root.as_str())?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
        })?;
        bundle.folder(inside)?;
        // Every folder between the bundle's own directory and this one needs its row too.
        let depth = if inside.is_empty() { 0 } else { inside.split('/').count() };
        let above = std::iter::successors(row.path.parent(), RelativePath::parent).take(depth);
        above.into_iter().all(|path| self.bundle_row(&path, id).is_some()).then_some(Shown::Inside(bundle, row, inside))
    }

    fn inside_number(
        &self,
        bundle: &Bundle,
        row: &DirectoryEntry,
        name: &EntryName,
        blob: Option<BlobId>,
    ) -> Option<InodeNo> {
        match blob {
            Some(blob) => self.blobs.get(&blob).and_then(|_| InodeNo::of_blob(blob)),
            None => InodeNo::of_directory(self.bundle_row(&row.path.join(name).ok()?, bundle.entry.id)?),
        }
    }

    fn inside(&self, bundle: &Bundle, row: &DirectoryEntry, path: &str) -> Vec<Child> {
        let names = bundle.folder(path).unwrap_or_default().iter();
        let children =
            names.filter_map(|it| Child::new(it.name.clone(), self.inside_number(bundle, row, &it.name, it.blob)?));
        children.collect()
    }

    /// The directory above; the root's is the root.
    pub fn parent(&self, directory: InodeNo) -> Option<InodeNo> {
        match self.shown(directory)? {
            Shown::Single(_) => InodeNo::of_directory(self.store?),
            Shown::Control => Some(InodeNo::ROOT),
            _ => match self.path_of_directory(directory).and_then(|path| path.parent()) {
                Some(above) => InodeNo::of_directory(*self.row_of_path.get(&above)?),
                None => Some(InodeNo::ROOT),
            },
        }
    }

    pub fn listing(&self, directory: InodeNo) -> Option<Listing> {
        Some(match self.shown(directory)? {
            Shown::Folder(folder) => Listing::of_folder(folder.children().clone()),
            Shown::Store => Listing::of_store(self.digests.clone()),
            Shown::Inside(bundle, row, path) => Listing::of_few(self.inside(bundle, row, path)),
            Shown::Single(blob) => {
                let child = InodeNo::of_blob(blob.id).and_then(|ino| Child::new(blob.name.clone(), ino));
                Listing::of_few(child.into_iter().collect())
            }
            Shown::Control => {
                let children = LIVE_FILES
                    .iter()
                    .filter_map(|(name, index)| Child::new(EntryName::new(name).ok()?, InodeNo::of_fixed(*index)));
                Listing::of_few(children.collect())
            }
        })
    }

    /// The node behind a path from the mount's root.
    pub fn resolve(&self, path: &RelativePath) -> Option<Attributes> {
        let mut ino = InodeNo::ROOT;
        for name in path.as_str().split('/') {
            ino = self.child(ino, name)?;
        }
        self.attributes(ino)
    }

    /// Path of a directory; `None` for the root and for what is no directory.
    pub fn path_of_directory(&self, directory: InodeNo) -> Option<RelativePath> {
        match self.shown(directory)? {
            Shown::Control => RelativePath::new(CONTROL_NAME).ok(),
            Shown::Single(blob) => {
                let store = self.rows.get(&self.store?)?;
                store.path.join(&digest_name(&blob.sha256?)).ok()
            }
            _ => self.rows.get(&directory.directory()?).map(|row| row.path.clone()),
        }
    }

    /// Every name of a content, sorted. Its length is the link count.
    pub fn paths_of_blob(&self, blob: BlobId) -> Vec<RelativePath> {
        self.paths(self.names_of_blob(blob))
    }

    fn paths(&self, names: Vec<(InodeNo, EntryName)>) -> Vec<RelativePath> {
        let path = |(directory, name): (InodeNo, EntryName)| match directory {
            InodeNo::ROOT => RelativePath::new(name.as_str()).ok(),
            _ => self.path_of_directory(directory)?.join(&name).ok(),
        };
        let mut paths: Vec<_> = names.into_iter().filter_map(path).collect();
        paths.sort_unstable();
        paths
    }

    /// Every directory and name that leads to a content.
    pub fn names_of_blob(&self, blob: BlobId) -> Vec<(InodeNo, EntryName)> {
        let Some(known) = self.blobs.get(&blob) else { return Vec::new() };
        let mut names: Vec<_> = Vec::new();
        for model in self.models_of_blob(blob) {
            let shown = self.model_names(model).into_iter();
            names.extend(shown.filter_map(|(folder, name)| Some((folder_number(folder)?, name))));
        }
        let files = self.files_of_blob.range((blob, BundleId::new(i64::MIN), 0)..);
        for (_, bundle, index) in files.take_while(|(other, ..)| *other == blob) {
            self.extend_with_bundle_file(*bundle, *index, &mut names);
        }
        if self.store.is_some() && self.is_in_store(&known.entry) {
            names.extend(InodeNo::of_blob_directory(blob).map(|directory| (directory, known.entry.name.clone())));
        }
        names
    }

    /// The names of one file of a bundle, at all its places.
    fn extend_with_bundle_file(&self, bundle: BundleId, index: usize, names: &mut Vec<(InodeNo, EntryName)>) {
        let known = self.bundles.get(&bundle).zip(self.places.get(&bundle));
        let Some((bundle, places)) = known else { return };
        let Some(file) = bundle.entry.files.get(index) else { return };
        for place in places.iter() {
            let Some(root) = self.rows.get(&place.root) else { continue };
            let folder = match file.path.parent() {
                Some(inside) => RelativePath::new(&format!("{}/{inside}", root.path)).ok(),
                None => Some(root.path.clone()),
            };
            let row = folder.and_then(|path| self.row_of_path.get(&path).copied());
            let shown = row.and_then(InodeNo::of_directory).filter(|directory| self.shown(*directory).is_some());
            names.extend(shown.map(|directory| (directory, file.path.file_name())));
        }
    }

    /// Every name of a model or a bundle, sorted, without `store/`.
    pub fn paths_of(&self, occupant: Occupant) -> Vec<RelativePath> {
        let names = match occupant {
            Occupant::Model(model) => self.model_names(model),
            Occupant::Bundle(bundle) => {
                let places = self.places.get(&bundle).map(|places| places.to_vec()).unwrap_or_default();
                places.into_iter().map(|place| (place.folder, place.name)).collect()
            }
        };
        self.paths(names.into_iter().filter_map(|(folder, name)| Some((folder_number(folder)?, name))).collect())
    }

    /// The content that one has become, itself as a rule.
    pub fn current(&self, blob: BlobId) -> BlobId {
        if self.blobs.contains_key(&blob) { blob } else { self.merged.get(&blob).copied().unwrap_or(blob) }
    }

    pub fn blob(&self, blob: BlobId) -> Option<&BlobEntry> {
        self.blobs.get(&blob).map(|blob| &blob.entry)
    }

    pub fn model(&self, model: ModelId) -> Option<&ModelEntry> {
        self.models.get(&model).map(Arc::as_ref)
    }

    pub fn bundle(&self, bundle: BundleId) -> Option<&BundleEntry> {
        self.bundles.get(&bundle).map(|bundle| &bundle.entry)
    }

    /// The models of a content; usually one.
    pub fn models_of_blob(&self, blob: BlobId) -> Vec<ModelId> {
        let from = self.models_of_blob.range((blob, ModelId::new(i64::MIN))..);
        from.take_while(|(other, _)| *other == blob).map(|(_, model)| *model).collect()
    }

    pub fn model_count(&self) -> usize {
        self.models.len()
    }

    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }
}

/// Number of a plain directory, the root included.
pub(super) fn folder_number(folder: DirectoryId) -> Option<InodeNo> {
    if folder == ROOT_FOLDER { Some(InodeNo::ROOT) } else { InodeNo::of_directory(folder) }
}

//! The inside of a bundle: its folders and what each holds, the same wherever the bundle is shown.
//!
//! Invariant: a name is a folder or a file; where the input says both, the folder wins, so that what lies in it is reachable.

use super::BundleEntry;
use crate::base::{BlobId, EntryName};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A bundle as the tree keeps it.
pub(super) struct Bundle {
    pub entry: BundleEntry,
    /// By path below the bundle; its own directory is the empty path.
    folders: BTreeMap<String, Vec<Inside>>,
    /// Positions of the files that are shown, in `entry.files`.
    files: Vec<usize>,
}

/// One name in a folder of a bundle.
pub(super) struct Inside {
    pub name: EntryName,
    /// The content of a file; nothing for a folder.
    pub blob: Option<BlobId>,
}

impl Bundle {
    pub(super) fn new(entry: BundleEntry) -> Self {
        let mut folders: BTreeMap<String, BTreeMap<EntryName, Option<BlobId>>> = BTreeMap::new();
        folders.entry(String::new()).or_default();
        for file in entry.files.iter() {
            let mut path = file.path.clone();
            while let Some(folder) = path.parent() {
                folders.entry(folder.to_string()).or_default();
                let above = folder.parent().map_or_else(String::new, |above| above.to_string());
                if folders.entry(above).or_default().insert(folder.file_name(), None).is_some() {
                    break;
                }
                path = folder;
            }
        }
        let mut files = Vec::with_capacity(entry.files.len());
        for (index, file) in entry.files.iter().enumerate() {
            let folder = file.path.parent().map_or_else(String::new, |folder| folder.to_string());
            if let Entry::Vacant(free) = folders.entry(folder).or_default().entry(file.path.file_name()) {
                free.insert(Some(file.blob));
                files.push(index);
            }
        }
        let inside = |(name, blob)| Inside { name, blob };
        let folders =
            folders.into_iter().map(|(path, names)| (path, names.into_iter().map(inside).collect())).collect();
        Self { entry, folders, files }
    }

    /// What a folder holds, sorted by name; nothing if there is no such folder.
    pub(super) fn folder(&self, path: &str) -> Option<&[Inside]> {
        self.folders.get(path).map(Vec::as_slice)
    }

    pub(super) fn find(&self, folder: &str, name: &str) -> Option<&Inside> {
        let inside = self.folder(folder)?;
        inside.binary_search_by(|it| it.name.as_str().cmp(name)).ok().map(|at| &inside[at])
    }

    /// Which contents are shown, with the position of the file.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (BlobId, usize)> {
        self.files.iter().map(|index| (self.entry.files[*index].blob, *index))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BundleFile, SourceSet};
    use super::*;
    use crate::base::{BundleId, ModelType, RelativePath, Timestamp};

    fn bundle(files: &[(&str, i64)]) -> Bundle {
        let file = |(path, blob): &(&str, i64)| BundleFile {
            path: RelativePath::new(path).expect("valid"),
            blob: BlobId::new(*blob),
        };
        Bundle::new(BundleEntry {
            id: BundleId::new(1),
            name: EntryName::new("b").expect("valid"),
            in_views: true,
            model_type: ModelType::Diffusers,
            base: None,
            sources: SourceSet::default(),
            hub: None,
            files: files.iter().map(file).collect(),
            mtime: Timestamp::default(),
        })
    }

    fn names(bundle: &Bundle, folder: &str) -> Vec<(String, Option<i64>)> {
        let inside = bundle.folder(folder).expect(folder);
        inside.iter().map(|it| (it.name.to_string(), it.blob.map(BlobId::get))).collect()
    }

    #[test]
    fn folders_hold_their_files_in_order() {
        let bundle = bundle(&[("vae/x", 1), ("a", 2), ("vae/deep/er/y", 3)]);
        assert_eq!(names(&bundle, ""), [("a".to_owned(), Some(2)), ("vae".to_owned(), None)]);
        assert_eq!(names(&bundle, "vae"), [("deep".to_owned(), None), ("x".to_owned(), Some(1))]);
        assert_eq!(names(&bundle, "vae/deep/er"), [("y".to_owned(), Some(3))]);
        assert!(bundle.folder("vae/x").is_none() && bundle.find("vae", "z").is_none());
    }

    #[test]
    fn contradictions_are_settled() {
        let bundle = bundle(&[("a", 1), ("a/b", 2), ("c", 3), ("c", 4)]);
        assert_eq!(names(&bundle, ""), [("a".to_owned(), None), ("c".to_owned(), Some(3))]);
        assert_eq!(bundle.blobs().collect::<Vec<_>>(), [(BlobId::new(2), 1), (BlobId::new(3), 2)]);
    }
}

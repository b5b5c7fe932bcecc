//! What a directory holds, as it was when it was asked for.
//!
//! Invariant: making and keeping one costs nothing that grows with the directory, but for folders inside bundles, which are
//! small; entries are in byte order of names.

use super::NodeKind;
use super::folder::Entry;
use super::sorted::Sorted;
use crate::base::{BlobId, Digest, EntryName, InodeNo};
use std::sync::Arc;

/// One entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    pub name: EntryName,
    pub ino: InodeNo,
    pub kind: NodeKind,
}

impl Child {
    /// Nothing for a number that no node has.
    pub(super) fn new(name: EntryName, ino: InodeNo) -> Option<Self> {
        Some(Self { name, ino, kind: NodeKind::of(ino)? })
    }
}

/// What a directory holds, as it was when it was asked for; in byte order of names. Cheap to make and to keep.
#[derive(Clone)]
pub struct Listing(Content);

#[derive(Clone)]
enum Content {
    Folder(Sorted<Entry>),
    Store(Sorted<(Digest, BlobId)>),
    Few(Arc<[Child]>),
}

impl Listing {
    pub(super) fn of_folder(children: Sorted<Entry>) -> Self {
        Self(Content::Folder(children))
    }

    pub(super) fn of_store(digests: Sorted<(Digest, BlobId)>) -> Self {
        Self(Content::Store(digests))
    }

    pub(super) fn of_few(children: Vec<Child>) -> Self {
        Self(Content::Few(children.into()))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Content::Folder(children) => children.len(),
            Content::Store(digests) => digests.len(),
            Content::Few(children) => children.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at a position; O(log n).
    pub fn get(&self, index: usize) -> Option<Child> {
        match &self.0 {
            Content::Folder(children) => children.get(index).and_then(of_entry),
            Content::Store(digests) => digests.get(index).and_then(of_digest),
            Content::Few(children) => children.get(index).cloned(),
        }
    }

    /// Entries from a position on, in order; O(log n) to start, O(1) amortised each.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Child> + '_ {
        let entries: Box<dyn Iterator<Item = Child> + '_> = match &self.0 {
            Content::Folder(children) => Box::new(children.iter_from(index).filter_map(of_entry)),
            Content::Store(digests) => Box::new(digests.iter_from(index).filter_map(of_digest)),
            Content::Few(children) => Box::new(children.iter().skip(index).cloned()),
        };
        entries
    }
}

fn of_entry(entry: &Entry) -> Option<Child> {
    Child::new(entry.name.clone(), entry.ino)
}

fn of_digest((digest, blob): &(Digest, BlobId)) -> Option<Child> {
    Child::new(digest_name(digest), InodeNo::of_blob_directory(*blob)?)
}

/// Name of a content's directory under `store/`.
pub(super) fn digest_name(digest: &Digest) -> EntryName {
    EntryName::new(&digest.to_string()).expect("hex digits are a valid name")
}

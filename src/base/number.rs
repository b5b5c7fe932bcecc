//! Numbers that name things: catalog keys and inode numbers, never mixed up.
//!
//! Invariant: an inode number is a function of catalog keys, so it is the same after every remount.

use std::fmt;
use std::num::NonZeroU64;

macro_rules! catalog_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(i64);

        impl $name {
            /// Wraps a row id as SQLite gives it.
            pub const fn new(row_id: i64) -> Self {
                Self(row_id)
            }

            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

catalog_key!(
    /// Key of a content (`blobs.id`): one per distinct file content, resident or not.
    BlobId
);
catalog_key!(
    /// Key of a model (`models.id`).
    ModelId
);
catalog_key!(
    /// Key of a repository shown as a directory (`bundles.id`).
    BundleId
);
catalog_key!(
    /// Key of a directory of the tree (`directories.id`).
    DirectoryId
);

/// An inode number as `stat` reports it.
///
/// The two low bits tell what the number was made from, so that files, directories and per-blob directories can never
/// collide: 0 file, 1 directory, 2 directory of one blob under `store/`, 3 the few fixed nodes (root, `.modelfs`, …).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeNo(NonZeroU64);

impl InodeNo {
    /// The root directory; FUSE fixes its number to 1.
    pub const ROOT: Self = Self(NonZeroU64::MIN);

    /// Largest catalog key an inode number can hold: two bits for the kind, two spare ones for the kernel adapter.
    pub const KEY_MAX: i64 = (1 << 60) - 1;

    pub fn of_blob(blob: BlobId) -> Option<Self> {
        Self::tagged(blob.get(), 0)
    }

    /// Directory keys start at 1, so no directory number is 1 (`5` is the first): the root keeps it.
    pub fn of_directory(directory: DirectoryId) -> Option<Self> {
        Self::tagged(directory.get(), 1)
    }

    /// The directory `store/<sha256>` of one blob.
    pub fn of_blob_directory(blob: BlobId) -> Option<Self> {
        Self::tagged(blob.get(), 2)
    }

    /// Fixed nodes are numbered from 0: they carry the tag 3.
    pub fn of_fixed(index: u32) -> Self {
        Self(NonZeroU64::new(u64::from(index) << 2 | 3).expect("the tag is not zero"))
    }

    fn tagged(key: i64, tag: u64) -> Option<Self> {
        let key = u64::try_from(key).ok().filter(|key| (1..=Self::KEY_MAX as u64).contains(key))?;
        NonZeroU64::new(key << 2 | tag).map(Self)
    }

    pub fn from_u64(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    pub const fn get(self) -> u64 {
        self.0.get()
    }

    pub fn blob(self) -> Option<BlobId> {
        self.key(0).map(BlobId)
    }

    pub fn directory(self) -> Option<DirectoryId> {
        if self == Self::ROOT { None } else { self.key(1).map(DirectoryId) }
    }

    pub fn blob_directory(self) -> Option<BlobId> {
        self.key(2).map(BlobId)
    }

    pub fn fixed(self) -> Option<u32> {
        let number = self.0.get();
        (number & 3 == 3).then_some(number >> 2).and_then(|index| u32::try_from(index).ok())
    }

    fn key(self, tag: u64) -> Option<i64> {
        let number = self.0.get();
        (number & 3 == tag).then_some(number >> 2).and_then(|key| i64::try_from(key).ok())
    }
}

impl fmt::Display for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_never_collide_and_round_trip() {
        for key in [1, 2, 77, InodeNo::KEY_MAX] {
            let file = InodeNo::of_blob(BlobId::new(key)).expect("in range");
            let directory = InodeNo::of_directory(DirectoryId::new(key)).expect("in range");
            let blob_directory = InodeNo::of_blob_directory(BlobId::new(key)).expect("in range");
            assert_eq!((file.blob(), file.directory(), file.blob_directory()), (Some(BlobId::new(key)), None, None));
            assert_eq!(directory.directory(), Some(DirectoryId::new(key)));
            assert_eq!(blob_directory.blob_directory(), Some(BlobId::new(key)));
            assert_ne!(directory, InodeNo::ROOT);
        }
        assert_eq!(InodeNo::of_fixed(0).fixed(), Some(0));
        assert_eq!(InodeNo::ROOT.directory(), None);
    }

    #[test]
    fn keys_out_of_range_have_no_number() {
        for key in [0, -1, InodeNo::KEY_MAX + 1] {
            assert_eq!(InodeNo::of_blob(BlobId::new(key)), None);
        }
    }
}

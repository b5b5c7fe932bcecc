//! The heart: catalog snapshot + targets → directories, names, inode numbers, attributes, and what changed between two
//! trees.
//!
//! Pure: no kernel, SQL, disk, clock. A `Tree` never changes; a change makes a new one that shares what stayed.

mod input;

pub use input::{
    BlobEntry, BundleEntry, BundleFile, Delta, DirectoryEntry, FolderMatch, HubRepo, ModelEntry, Occupant, Placement,
    Snapshot, Source, SourceSet, Target, TargetFolder,
};

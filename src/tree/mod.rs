//! The heart: catalog snapshot + targets → directories, names, inode numbers, attributes, and what changed between two
//! trees.
//!
//! Pure: no kernel, SQL, disk, clock. A `Tree` never changes; a change makes a new one that shares what stayed.

mod build;
mod change;
mod claims;
mod compare;
mod folder;
mod homes;
mod input;
mod layout;
mod listing;
mod naming;
#[cfg(test)]
mod reference;
mod sorted;
mod target;
#[cfg(test)]
mod tests;
mod view;

pub use homes::{
    Home, bundle_directories, default_bundle_name, directory_of_repo, format_word, homes_of_bundle, homes_of_model,
    label_of_directory, static_directories, target_directories,
};
pub use input::{
    BlobEntry, BundleEntry, BundleFile, Delta, DirectoryEntry, FolderMatch, Handout, HubRepo, ModelEntry, Occupant,
    Placement, Snapshot, Source, SourceSet, Target, TargetFolder,
};
pub use listing::{Child, Listing};
pub use naming::{marked_name, stem_key};
pub use target::{TargetError, builtin_targets, parse_targets};
pub use view::{Attributes, LiveFile, NodeKind, Tree, TreeChange};

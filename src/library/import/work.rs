//! What an import has to do, as plain data: files to read, and what each of them is for.

use crate::base::{BlobId, Digest, EntryName, RelativePath, RepoId, Revision};
use crate::store::FileStamp;
use std::path::PathBuf;

/// Everything a plan found to do.
#[derive(Default)]
pub(in crate::library) struct Work {
    pub(super) tasks: Vec<Task>,
    pub(super) bundles: Vec<BundleWork>,
}

/// One file to be read once, whatever it is for.
#[derive(Debug)]
pub(super) struct Task {
    pub path: PathBuf,
    pub stamp: FileStamp,
    /// Its bytes must be those of a model.
    pub is_model: bool,
    /// What a cache calls the content: it is refused when its bytes hash to something else.
    pub claimed: Option<Digest>,
    /// Imported before and unchanged since: nothing to read.
    pub known: Option<BlobId>,
    pub uses: Vec<Use>,
}

#[derive(Debug)]
pub(super) enum Use {
    /// Shown by itself.
    Model(ModelUse),
    /// One file of a bundle: index of the bundle and of its member.
    Member { bundle: usize, member: usize },
    /// Another path of the same file.
    Alias(PathBuf),
}

#[derive(Debug)]
pub(super) struct ModelUse {
    pub name: EntryName,
    /// Outermost first.
    pub folders: Vec<String>,
    pub hub: Option<HubFile>,
}

/// Where a file of a cache came from.
#[derive(Clone, Debug)]
pub(super) struct HubFile {
    pub repo: RepoId,
    pub commit: Revision,
    pub path: RelativePath,
}

/// What makes files belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// A diffusers folder: `model_index.json` names its parts.
    Pipeline,
    /// One model in several files.
    Sharded,
    /// A model with its configuration beside it, under a name that says nothing by itself.
    Configured,
    /// Only a repository: its models stand for themselves.
    Loose,
}

impl Shape {
    /// Whether a file that is missing spoils the others.
    pub(super) const fn needs_every_file(self) -> bool {
        match self {
            Self::Pipeline | Self::Sharded => true,
            Self::Configured | Self::Loose => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct BundleWork {
    pub folder: PathBuf,
    pub name: EntryName,
    pub shape: Shape,
    pub folders: Vec<String>,
    pub hub: Option<(RepoId, Revision)>,
    pub members: Vec<Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    /// Path inside the bundle.
    pub relative: RelativePath,
    pub size_bytes: u64,
    /// Text of the configuration, where it tells what the bundle is.
    pub json: Option<String>,
}

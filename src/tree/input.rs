//! The facts a tree is made of, as the catalog tells them.
//!
//! Invariant: plain data, already checked. Cost: a tree keeps one of each per row, so they stay small.

use crate::base::{
    BaseModel, BlobId, BlobState, BundleId, Digest, DirectoryId, EntryName, Label, ModelId, ModelType, RelativePath,
    RepoId, Timestamp,
};
use std::sync::Arc;

/// Where a content is known from. `Local` means imported from this machine; `Folder` is a folder of it used like a hub.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    Local,
    HuggingFace,
    Civitai,
    ModelScope,
    Web,
    Folder,
}

impl Source {
    pub const ALL: [Self; 6] =
        [Self::Local, Self::HuggingFace, Self::Civitai, Self::ModelScope, Self::Web, Self::Folder];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::HuggingFace => "huggingface",
            Self::Civitai => "civitai",
            Self::ModelScope => "modelscope",
            Self::Web => "web",
            Self::Folder => "folder",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// A small set of sources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SourceSet(u8);

impl SourceSet {
    pub const fn with(self, source: Source) -> Self {
        Self(self.0 | 1 << source as u8)
    }

    pub const fn contains(self, source: Source) -> bool {
        self.0 & 1 << source as u8 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(move |source| self.contains(*source))
    }
}

/// One content: bytes that are here or can be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobEntry {
    pub id: BlobId,
    /// Unknown for a remote file whose hub publishes none.
    pub sha256: Option<Digest>,
    pub size_bytes: u64,
    pub state: BlobState,
    /// Fixed when the content was first registered.
    pub mtime: Timestamp,
    /// Its name under `store/<sha256>/`.
    pub name: EntryName,
    pub handout: Handout,
}

/// Whether programs get the bytes of a content that they open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Handout {
    #[default]
    Free,
    /// Loading it may run what somebody else wrote, and nobody has said yet that this is wanted.
    Withheld,
}

/// One model file that is shown by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelEntry {
    pub id: ModelId,
    pub blob: BlobId,
    /// The name it was given first; the default name in every directory.
    pub name: EntryName,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub sources: SourceSet,
    pub creator: Option<Label>,
    pub tags: Arc<[Label]>,
    /// As `format_word` says it.
    pub format: Label,
    /// Directories that a person put it in, beside those that follow from the rest.
    pub also: Arc<[RelativePath]>,
}

/// A folder of several files that belong together, or a registered repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleEntry {
    pub id: BundleId,
    /// Default name of its directory.
    pub name: EntryName,
    /// Shown as a directory in app views and `by/`; else it is only a repository under `hubs/`.
    pub in_views: bool,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub sources: SourceSet,
    /// Set for a repository of a hub.
    pub hub: Option<HubRepo>,
    /// Sorted by path, no path twice, none both a file and a folder.
    pub files: Arc<[BundleFile]>,
    /// When it was registered: the mtime of its inner directories, which never change.
    pub mtime: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubRepo {
    pub source: Source,
    pub repo: RepoId,
    /// Name of its directory under `hubs/<source>/<org>/`: the repository's name, with `@<10 digits of the commit>` for
    /// a second revision.
    pub directory_name: EntryName,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleFile {
    pub path: RelativePath,
    pub blob: BlobId,
}

/// A directory whose number and time are kept: every directory but the root, `.modelfs` and those of single blobs under
/// `store/`. A row without a bundle is shown wherever its target is enabled, also while it is empty; one with a bundle
/// (the bundle's own directory in one place, or a folder inside it) is shown only where that bundle is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    pub id: DirectoryId,
    /// From the mount's root; the root itself is not listed here.
    pub path: RelativePath,
    pub mtime: Timestamp,
    pub bundle: Option<BundleId>,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Occupant {
    Model(ModelId),
    Bundle(BundleId),
}

/// A name that differs from the default one, kept for ever. Default names are not recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    pub directory: RelativePath,
    pub occupant: Occupant,
    pub name: EntryName,
}

/// How an application tells two files of one folder apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FolderMatch {
    /// By the path below the folder: names must differ.
    Relative,
    /// By the name without suffix: stems must differ.
    Stem,
}

/// One folder an application reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetFolder {
    /// `None` for a folder that only has to exist (`comfyui/unet` beside `diffusion_models`).
    pub model_type: Option<ModelType>,
    /// Relative to the target's directory in the mount.
    pub path: RelativePath,
    /// Lower-case suffixes with their dot; empty accepts any file; `directories` folders take bundles.
    pub suffixes: Vec<String>,
    /// Suffixes that the folder leaves out although `suffixes` names them.
    pub excluded_suffixes: Vec<String>,
    /// Entries are directories (bundles), not files.
    pub directories: bool,
    /// Starts of the base words it takes (`wan`, `flux1`); empty takes any base, and models without one.
    pub bases: Vec<String>,
    pub matching: FolderMatch,
}

/// An application and its folders, in search order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Name of its directory in the mount.
    pub name: EntryName,
    pub display_name: String,
    pub enabled: bool,
    pub folders: Vec<TargetFolder>,
}

/// Everything a tree is made of, at one revision of the catalog.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    pub revision: u64,
    /// Time of the root directory, which has no `DirectoryEntry`: its path would be empty.
    pub root_mtime: Timestamp,
    pub blobs: Vec<BlobEntry>,
    pub models: Vec<ModelEntry>,
    pub bundles: Vec<BundleEntry>,
    pub directories: Vec<DirectoryEntry>,
    pub placements: Vec<Placement>,
    pub targets: Vec<Target>,
    /// Contents that turned out to be another one, each with that one.
    pub merged: Vec<(BlobId, BlobId)>,
}

/// What changed since a revision. A row that is both here and in the tree replaces the old one.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Delta {
    pub revision: u64,
    pub root_mtime: Timestamp,
    pub blobs: Vec<BlobEntry>,
    pub models: Vec<ModelEntry>,
    pub bundles: Vec<BundleEntry>,
    pub directories: Vec<DirectoryEntry>,
    pub placements: Vec<Placement>,
    /// Models and bundles that are no longer shown (removed, or in the trash).
    pub gone: Vec<Occupant>,
    /// Contents that turned out to be another one, each with that one.
    pub merged: Vec<(BlobId, BlobId)>,
    /// Contents that are known no more; nothing names them.
    pub forgotten: Vec<BlobId>,
    /// All targets, when any of them changed.
    pub targets: Option<Vec<Target>>,
}

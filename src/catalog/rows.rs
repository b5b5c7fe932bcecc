//! Rows as the rest of the program sees them: checked values, never SQL types.

use crate::base::{
    BaseModel, BlobId, BlobState, BundleId, Digest, EntryName, Label, ModelId, ModelType, Revision, Safety, Timestamp,
};
use crate::classify::Verdict;
use crate::tree::{BundleFile, HubRepo, Source};
use std::path::PathBuf;

/// Every hash of one content but its sha256.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashRow {
    pub blake3: Digest,
    /// As printed by hubs: four bytes in little-endian order.
    pub crc32: [u8; 4],
    pub autov1: Option<String>,
    pub autov3: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBlob {
    pub sha256: Option<Digest>,
    pub size_bytes: u64,
    pub state: BlobState,
    pub mtime: Timestamp,
    /// Its name under `store/<sha256>/`, and on disk when it is in the store.
    pub name: EntryName,
    pub hashes: Option<HashRow>,
    /// The hub's identity of the content, where there is no sha256.
    pub etag: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobRow {
    pub id: BlobId,
    pub sha256: Option<Digest>,
    pub size_bytes: u64,
    pub state: BlobState,
    pub mtime: Timestamp,
    pub name: EntryName,
    pub hashes: Option<HashRow>,
    pub etag: Option<String>,
    /// Last failure, in a user's words.
    pub error: Option<String>,
    /// What its header says about loading it; `None` while no header was read.
    pub safety: Option<Safety>,
    /// A person said that it may be handed out whatever it imports.
    pub trusted: bool,
}

/// A content that can be had again from a hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvictableRow {
    pub blob: BlobId,
    pub size_bytes: u64,
    /// Else only some chunks are here.
    pub is_whole: bool,
}

/// Where the bytes of a `--mode link` import lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkRow {
    pub path: PathBuf,
    pub mark: FileMark,
}

/// Tells whether a path still holds the bytes that were hashed there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileMark {
    pub size_bytes: u64,
    pub mtime_ns: i64,
    pub inode: u64,
    pub device: u64,
}

/// A path that was imported before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportRow {
    pub path: PathBuf,
    pub mark: FileMark,
    pub blob: BlobId,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NewModel {
    pub blob: BlobId,
    pub name: EntryName,
    pub verdict: Verdict,
    pub format: String,
    pub tensor_count: Option<u64>,
    /// Folder names it came from, outermost first: evidence for classifying it again.
    pub folders: Vec<String>,
    pub source: Source,
    pub creator: Option<Label>,
    pub license: Option<String>,
    pub tags: Vec<Label>,
    pub added: Timestamp,
}

/// A model with what is known about it. `deleted` models are in the trash.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelRow {
    pub id: ModelId,
    pub blob: BlobId,
    pub name: EntryName,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub sub_type: Option<String>,
    pub precision: Option<String>,
    pub quantization: Option<String>,
    pub architecture: Option<String>,
    pub format: String,
    pub tensor_count: Option<u64>,
    pub confidence: f32,
    /// A word of `classify::Method`.
    pub method: String,
    pub folders: Vec<String>,
    pub creator: Option<Label>,
    pub license: Option<String>,
    pub tags: Vec<Label>,
    pub trigger_words: Vec<String>,
    pub added: Timestamp,
    pub deleted: bool,
    pub manual: Manual,
    /// The name it was judged by, when that is not its own.
    pub judged_name: Option<EntryName>,
}

impl ModelRow {
    /// The name that is evidence of what it is.
    pub fn telling_name(&self) -> &EntryName {
        self.judged_name.as_ref().unwrap_or(&self.name)
    }
}

/// What a person said about a model; the rest is left to the verdict.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manual {
    pub model_type: Option<ModelType>,
    pub base: Option<BaseModel>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NewBundle {
    pub name: EntryName,
    pub in_views: bool,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub source: Source,
    pub hub: Option<HubRepo>,
    /// The commit of a repository.
    pub commit: Option<Revision>,
    /// Sorted by path.
    pub files: Vec<BundleFile>,
    pub mtime: Timestamp,
}

#[derive(Clone, PartialEq, Debug)]
pub struct BundleRow {
    pub id: BundleId,
    pub name: EntryName,
    pub in_views: bool,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub hub: Option<HubRepo>,
    pub commit: Option<Revision>,
    pub files: Vec<BundleFile>,
    pub mtime: Timestamp,
    pub deleted: bool,
}

/// A place a content is known from: at a hub, or a path on this machine (`Source::Local`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginRow {
    pub source: Source,
    /// `org/name`; empty for a local origin.
    pub repo: String,
    /// The commit; empty for a local origin.
    pub revision: String,
    /// Path in the repository, or the absolute path of a local file.
    pub path: String,
}

/// What became of asking a hub about a content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerRow {
    pub blob: BlobId,
    pub source: Source,
    /// The last time.
    pub asked: Timestamp,
    /// It knows it, or once did.
    pub is_known: bool,
    /// It was asked by the tensors alone, too.
    pub by_tensors: bool,
    /// Since when it no longer knows it.
    pub gone: Option<Timestamp>,
    /// As in `OriginRow`.
    pub repo: String,
    pub revision: String,
    /// For `Reader::archived_answer`.
    pub archive: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeCount {
    pub word: String,
    pub count: u64,
    pub bytes: u64,
}

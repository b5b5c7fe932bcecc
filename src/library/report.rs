//! What the use cases are asked and what they answer, as plain data.
//!
//! Edges turn these into tables, JSON or attributes. Not here: any formatting.

use super::import::Work;
use crate::base::{BaseModel, BlobId, BlobState, Digest, Fault, ModelId, ModelType, Safety, Timestamp};
use crate::classify::{Danger, Explained, Network, Reason};
use crate::hub::FoundFile;
use crate::tree::Source;
use std::path::{Path, PathBuf};

/// How the bytes of an imported file get into the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ImportMode {
    /// Share the blocks; takes no space, needs a filesystem that can.
    Reflink,
    /// A second copy; the original stays.
    Copy,
    /// The original becomes the store's.
    Move,
    /// The bytes stay where they lie; a change there is noticed and the file is then refused.
    Link,
}

impl ImportMode {
    pub const ALL: [Self; 4] = [Self::Reflink, Self::Copy, Self::Move, Self::Link];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Copy => "copy",
            Self::Move => "move",
            Self::Link => "link",
        }
    }
}

#[derive(Clone, Debug)]
pub struct ImportRequest {
    pub paths: Vec<PathBuf>,
    /// `None`: reflink where the filesystem can, else copy.
    pub mode: Option<ImportMode>,
    /// After a move, put a symlink to the blob where the file was.
    pub leave_symlink: bool,
}

/// Additional bytes each mode would take in the store's filesystem; `None` where the mode cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeCosts {
    pub reflink: Option<u64>,
    pub copy: Option<u64>,
    pub r#move: Option<u64>,
    pub link: Option<u64>,
}

/// What an import will do, found without changing anything.
pub struct ImportPlan {
    pub mode: ImportMode,
    pub leave_symlink: bool,
    pub costs: ModeCosts,
    /// Free bytes of the store's filesystem.
    pub free_bytes: u64,
    /// Model files and files of bundles to be imported.
    pub file_count: usize,
    pub total_bytes: u64,
    /// Files that were imported before and have not changed since.
    pub unchanged_count: usize,
    /// Folders that become bundles.
    pub bundle_count: usize,
    /// Files that are no models and belong to no bundle.
    pub ignored_count: usize,
    /// Refused before a byte was copied.
    pub refused: Vec<Refusal>,
    pub(super) work: Work,
}

impl ImportPlan {
    /// Bytes the chosen mode takes.
    pub fn cost_bytes(&self) -> u64 {
        let cost = match self.mode {
            ImportMode::Reflink => self.costs.reflink,
            ImportMode::Copy => self.costs.copy,
            ImportMode::Move => self.costs.r#move,
            ImportMode::Link => self.costs.link,
        };
        cost.unwrap_or(0)
    }

    pub fn fits(&self) -> bool {
        self.cost_bytes() <= self.free_bytes
    }
}

/// One file that a REF names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentInfo {
    pub blob: BlobId,
    pub name: String,
    pub size_bytes: u64,
    pub state: BlobState,
    pub sha256: Option<Digest>,
    /// Never evicted.
    pub pinned: bool,
    /// One of its paths in a mount.
    pub path: Option<String>,
}

/// What became of a file that was to be evicted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Eviction {
    pub content: ContentInfo,
    /// Bytes that it gave up, or why it stays.
    pub freed: Result<u64, Fault>,
}

/// A file that was left alone, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub path: PathBuf,
    pub reason: String,
    pub remedy: String,
}

/// Told about the progress of an import or a verification, from several threads.
pub trait ImportObserver: Sync {
    /// More bytes were read and hashed.
    fn advanced(&self, bytes: u64);
    /// One file is done, whatever became of it.
    fn finished(&self, path: &Path);
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportSummary {
    pub new_count: usize,
    pub new_bytes: u64,
    /// The content was in the store under another name or from another place.
    pub already_there_count: usize,
    /// Bytes that were not stored a second time.
    pub saved_bytes: u64,
    pub unchanged_count: usize,
    pub bundle_count: usize,
    pub ignored_count: usize,
    pub refused: Vec<Refusal>,
    /// Stopped by the user; what is counted here is safely in the store.
    pub interrupted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddSummary {
    /// `hf:org/name`.
    pub repo: String,
    pub commit: String,
    pub file_count: usize,
    pub total_bytes: u64,
    /// Bytes that need no download, because their sha256 is in the store.
    pub resident_bytes: u64,
    pub model_count: usize,
    /// Registered before at this commit; nothing new.
    pub known_count: usize,
    /// Where the repository appears, relative to the mount.
    pub path: String,
    /// What the hub wants before it gives out the bytes.
    pub gate: Gate,
    pub refused: Vec<Refusal>,
}

/// A model that was removed or restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemovalChange {
    pub id: ModelId,
    pub name: String,
    /// Whether it was otherwise before.
    pub is_new: bool,
}

/// What a hub asks for before it gives out the bytes of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    Open,
    /// Terms must be accepted by an account, whose token is not here.
    NeedsToken,
    /// The same, and there is a token. Whether its account accepted them shows when something is read.
    HasToken,
}

/// What became of a `trust`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustChange {
    pub name: String,
    pub safety: Option<Safety>,
    /// It was not so already.
    pub is_new: bool,
}

/// What a model is, as far as a person looks at it.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub sub_type: Option<String>,
    /// Or the quantisation.
    pub precision: Option<String>,
    pub confidence: f32,
    pub method: String,
}

#[derive(Clone, PartialEq, Debug)]
pub struct VerdictChange {
    pub id: ModelId,
    pub name: String,
    pub before: Judgement,
    pub after: Judgement,
}

/// What judging again gave.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reclassified {
    pub judged_count: usize,
    /// Sorted by name.
    pub changes: Vec<VerdictChange>,
    /// Models whose verdict differs in anything, also in its reasons alone.
    pub rewritten_count: usize,
    /// What each model is now, where they were named.
    pub models: Vec<(ModelId, String, Judgement)>,
}

/// Why a model or a file is what it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    pub id: Option<ModelId>,
    pub name: String,
    pub folders: Vec<String>,
    pub size_bytes: u64,
    /// Why there is no header, when there is none.
    pub no_header: Option<String>,
    pub format: Option<String>,
    pub tensor_count: u64,
    /// A few of the tensors: name, dtype and shape.
    pub tensors: Vec<String>,
    pub metadata: Vec<(String, String)>,
    pub explained: Explained,
    /// What a person said; it stands above the verdict.
    pub manual_type: Option<ModelType>,
    pub manual_base: Option<BaseModel>,
    pub safety: Option<Safety>,
    pub dangers: Vec<Danger>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagSummary {
    pub name: String,
    pub tags: Vec<String>,
}

/// One row of a listing.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelSummary {
    pub id: ModelId,
    pub blob: BlobId,
    pub name: String,
    pub size_bytes: u64,
    pub state: BlobState,
    pub sha256: Option<Digest>,
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    pub format: String,
    pub precision: Option<String>,
    pub quantization: Option<String>,
    pub confidence: f32,
    pub method: String,
    pub sources: Vec<String>,
    pub added: Timestamp,
    pub deleted: bool,
    /// What loading it may do; `None` while its header is not known.
    pub safety: Option<Safety>,
    pub trusted: bool,
}

/// What a search is asked; each flag is as if its `key:value` stood in the query.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SearchRequest {
    pub query: String,
    pub source: Option<String>,
    pub model_type: Option<String>,
    pub base: Option<String>,
    pub sort: Option<String>,
    pub limit: Option<u32>,
    /// Where an earlier answer of hubs ended.
    pub cursor: Option<String>,
}

/// A repository that a hub found.
#[derive(Clone, PartialEq, Debug)]
pub struct FoundAtHub {
    /// What `add` takes.
    pub reference: String,
    pub source: String,
    /// As people call it.
    pub name: String,
    pub description: Option<String>,
    pub creator: Option<String>,
    pub model_type: Option<ModelType>,
    pub base: Option<String>,
    pub downloads: Option<u64>,
    pub likes: Option<u64>,
    pub tags: Vec<String>,
    pub license: Option<String>,
    pub updated: Option<Timestamp>,
    /// Of all its files, where the hub tells.
    pub size_bytes: Option<u64>,
    pub files: Vec<FoundFile>,
    /// Address of a small picture that anybody may fetch.
    pub thumbnail: Option<String>,
    pub gated: bool,
    pub adult: bool,
    /// The hub's own number for how adult it is.
    pub nsfw_level: Option<u64>,
    /// Registered in this store.
    pub is_here: bool,
}

/// What a search found, here and at hubs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SearchAnswer {
    pub models: Vec<ModelSummary>,
    pub found: Vec<FoundAtHub>,
    /// Hubs that did not answer, and why.
    pub failures: Vec<(Source, Fault)>,
    /// Where hubs go on.
    pub cursor: Option<String>,
}

/// Everything that is known about one model.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelDetails {
    pub summary: ModelSummary,
    /// Bytes of it that are here.
    pub bytes_present: u64,
    pub blake3: Option<String>,
    pub crc32: Option<String>,
    pub autov1: Option<String>,
    pub autov2: Option<String>,
    pub autov3: Option<String>,
    pub sub_type: Option<String>,
    pub architecture: Option<String>,
    pub tensor_count: Option<u64>,
    pub trigger_words: Vec<String>,
    pub tags: Vec<String>,
    pub creator: Option<String>,
    pub license: Option<String>,
    pub origins: Vec<OriginInfo>,
    /// Where it appears, relative to the mount.
    pub paths: Vec<String>,
    /// Where its bytes lie when they are not in the store (`--mode link`).
    pub linked_path: Option<PathBuf>,
    pub error: Option<String>,
    pub parameter_count: Option<u64>,
    /// Of an adapter.
    pub network: Option<Network>,
    /// What makes it less than safe, worst first.
    pub dangers: Vec<Danger>,
    pub reasons: Vec<Reason>,
    /// What the hubs that know it say.
    pub hubs: Vec<super::HubFacts>,
}

/// One place a content is known from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginInfo {
    /// `huggingface`, `local`, …
    pub source: String,
    pub repo: String,
    pub revision: String,
    pub path: String,
    /// The page a person can open, never a signed URL.
    pub page_url: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatsRow {
    pub word: String,
    pub count: u64,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    pub model_count: u64,
    pub blob_count: u64,
    /// Bytes of all known contents, remote ones included.
    pub known_bytes: u64,
    pub resident_bytes: u64,
    /// Bytes that are stored once although they were imported several times.
    pub saved_bytes: u64,
    pub free_bytes: u64,
    pub by_type: Vec<StatsRow>,
    pub by_base: Vec<StatsRow>,
    pub by_state: Vec<StatsRow>,
}

/// One thing `verify` found wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyFinding {
    pub subject: String,
    pub what: String,
    pub remedy: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifySummary {
    pub checked_count: u64,
    pub checked_bytes: u64,
    pub findings: Vec<VerifyFinding>,
    pub interrupted: bool,
}

/// An application whose layout is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppInfo {
    pub name: String,
    pub display_name: String,
    pub enabled: bool,
    /// Folder in the mount and the types it holds.
    pub folders: Vec<(String, Option<ModelType>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    Fine,
    /// Works, but not as well as it could.
    Notice,
    Broken,
}

/// One line of `doctor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub name: String,
    pub status: CheckStatus,
    pub finding: String,
    /// Empty when there is nothing to mend.
    pub remedy: String,
}

/// The six hashes of a file, in the spelling users know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashed {
    pub path: PathBuf,
    pub size_bytes: u64,
    pub sha256: Digest,
    pub blake3: Digest,
    pub crc32: String,
    pub autov1: Option<String>,
    pub autov2: String,
    pub autov3: Option<String>,
}

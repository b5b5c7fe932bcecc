//! An open library: one store, its catalog, the rules and the settings that use cases need.
//!
//! Invariant: holds no lock; every use case lives in a file of its own and is only named here.

use super::live_rules::{CurrentRules, LiveRules};
use super::{
    AddSummary, AppInfo, Check, ContentInfo, Decision, EnrichObserver, EnrichRequest, EnrichSummary, Eviction,
    Explanation, Hashed, ImportObserver, ImportPlan, ImportRequest, ImportSummary, LibraryError, ModelDetails,
    ModelSummary, Presence, Reclassified, RemovalChange, Rewrite, SearchAnswer, SearchRequest, StoreStats, TagSummary,
    TrustChange, VerifySummary,
};
use super::{
    add, apps, checks, contents, danger, decisions, details, enrich, explaining, gateway, hashing, import, judging,
    listing, removal, shelf, stats, verify,
};
use crate::base::{BlobId, Clock, Timestamp};
use crate::catalog::Catalog;
use crate::hub::HubOptions;
use crate::store::{Cancel, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct LibraryOptions {
    pub store_root: PathBuf,
    pub hubs: HubOptions,
    pub promote_after_bytes: u64,
    pub read_timeout: Duration,
    /// Bytes of contents that hubs have before the ones unused for longest are evicted.
    pub cache_limit_bytes: Option<u64>,
    /// Bytes of the disk that downloads leave free.
    pub min_free_bytes: u64,
    /// Bytes a second of all downloads together.
    pub rate_bytes_max: Option<u64>,
    /// Connections for one file in the background.
    pub streams: usize,
    /// How sure a verdict must be; under it a file is unknown.
    pub confidence_min: f32,
}

/// Cheap to clone; shared by threads.
#[derive(Clone)]
pub struct Library {
    parts: Arc<Parts>,
}

struct Parts {
    store: Store,
    catalog: Catalog,
    options: LibraryOptions,
    clock: Arc<dyn Clock>,
    rules: LiveRules,
}

impl Library {
    /// Makes the store and its databases; one that is there stays as it is. Says whether it was new.
    pub fn create(root: &Path, _clock: &dyn Clock) -> Result<bool, LibraryError> {
        let is_new = Store::open(root).is_err();
        let store = Store::create(root)?;
        Catalog::create(store.root())?;
        Ok(is_new)
    }

    pub fn open(options: LibraryOptions, clock: Arc<dyn Clock>) -> Result<Self, LibraryError> {
        let store = Store::open(&options.store_root)?;
        let catalog = Catalog::open(store.root())?;
        shelf::bring_up_to_date(&catalog, clock.now())?;
        danger::bring_up_to_date(&catalog, clock.now())?;
        let rules = LiveRules::open(&catalog, options.confidence_min)?;
        Ok(Self { parts: Arc::new(Parts { store, catalog, options, clock, rules }) })
    }

    pub(super) fn store(&self) -> &Store {
        &self.parts.store
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.parts.catalog
    }

    pub(super) fn options(&self) -> &LibraryOptions {
        &self.parts.options
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// The rules of this moment. Ask before a transaction, not inside it.
    pub(super) fn rules(&self) -> CurrentRules {
        self.parts.rules.now(&self.parts.catalog)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Looks at everything that would be imported and changes nothing.
    pub fn plan_import(&self, request: &ImportRequest, cancel: &Cancel) -> Result<ImportPlan, LibraryError> {
        import::plan(self, request, cancel)
    }

    /// Carries a plan out. A cancelled import answers its summary with `interrupted`.
    pub fn import(
        &self,
        plan: ImportPlan,
        observer: &dyn ImportObserver,
        cancel: &Cancel,
    ) -> Result<ImportSummary, LibraryError> {
        import::run(self, plan, observer, cancel)
    }

    /// Registers a repository of a hub, a folder of it or one file. Waits for the network, bounded.
    pub fn add(&self, reference: &str) -> Result<AddSummary, LibraryError> {
        add::add(self, reference)
    }

    /// The models that answer a query; all of them without one. A query with words is answered by relevance, any other
    /// by name, unless it says otherwise.
    pub fn list(&self, query: Option<&str>) -> Result<Vec<ModelSummary>, LibraryError> {
        listing::list(self, query)
    }

    /// At most a page of answers, from here and from the hubs that are named. Waits for the network when there are any,
    /// bounded.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, LibraryError> {
        gateway::search(self, request)
    }

    /// Everything about the one model a REF names (id, name, path in a mount, `sha256:<hex>`, AutoV2, `hf:…`).
    pub fn info(&self, reference: &str) -> Result<ModelDetails, LibraryError> {
        details::info(self, reference)
    }

    /// The files a REF names: one model, or those of a repository.
    pub fn contents(&self, reference: &str) -> Result<Vec<ContentInfo>, LibraryError> {
        contents::named(self, reference)
    }

    /// One file, by the number that a mount's list of downloads gives it.
    pub fn content(&self, blob: BlobId) -> Result<Option<ContentInfo>, LibraryError> {
        contents::of(self, blob)
    }

    /// Keeps the files a REF names from being evicted, or no longer.
    pub fn pin(&self, reference: &str, pinned: bool) -> Result<Vec<ContentInfo>, LibraryError> {
        contents::pin(self, reference, pinned)
    }

    /// Gives up the bytes of the files a REF names, which are then fetched again when they are read: for each the bytes it
    /// took, or why it stays. Waits for the network, bounded.
    pub fn evict(&self, reference: &str) -> Result<Vec<Eviction>, LibraryError> {
        contents::evict_all(self, reference)
    }

    /// Judges models again by what the catalog keeps of them, all of them without a REF. Reads no file.
    pub fn reclassify(&self, references: &[String], rewrite: Rewrite) -> Result<Reclassified, LibraryError> {
        judging::reclassify(self, references, rewrite)
    }

    /// `TYPE`, `TYPE/BASE` or `/BASE` as decisions.
    pub fn parse_decisions(text: &str) -> Result<Vec<Decision>, LibraryError> {
        decisions::parse(text)
    }

    /// Records what a person says about a model, above everything automatic. Answers its name.
    pub fn decide(&self, reference: &str, decisions: &[Decision]) -> Result<String, LibraryError> {
        decisions::decide(self, reference, decisions)
    }

    /// Adds (`+tag`) and takes away (`-tag`) tags by hand.
    pub fn tag(&self, reference: &str, changes: &[String]) -> Result<TagSummary, LibraryError> {
        decisions::tag(self, reference, changes)
    }

    /// Asks hubs what they know about models: Civitai by hash, Hugging Face by repository. Waits for the network, bounded
    /// for each request. A stopped one answers its summary with `interrupted`.
    pub fn enrich(
        &self,
        request: &EnrichRequest,
        observer: &dyn EnrichObserver,
        cancel: &Cancel,
    ) -> Result<EnrichSummary, LibraryError> {
        enrich::enrich(self, request, observer, cancel)
    }

    /// Why a model is what it is.
    pub fn explain(&self, reference: &str) -> Result<Explanation, LibraryError> {
        explaining::explain(self, reference)
    }

    /// What a file anywhere is, and why. Takes nothing into the store and needs none; then an answer must be this sure.
    pub fn explain_file(path: &Path, library: Option<&Self>, confidence_min: f32) -> Result<Explanation, LibraryError> {
        explaining::explain_file(path, library, confidence_min)
    }

    /// Hands out a file whatever it imports, or withholds it again.
    pub fn set_trusted(&self, reference: &str, trusted: bool) -> Result<TrustChange, LibraryError> {
        danger::set_trusted(self, reference, trusted)
    }

    /// Takes a model out of sight, or brings it back under the names it had.
    pub fn set_presence(&self, reference: &str, presence: Presence) -> Result<RemovalChange, LibraryError> {
        removal::set_presence(self, reference, presence)
    }

    /// Reads resident contents from end to end and compares them with their hashes, and the catalog with the disk.
    /// `references` empty: everything.
    pub fn verify(
        &self,
        references: &[String],
        observer: &dyn ImportObserver,
        cancel: &Cancel,
    ) -> Result<VerifySummary, LibraryError> {
        verify::verify(self, references, observer, cancel)
    }

    pub fn stats(&self) -> Result<StoreStats, LibraryError> {
        stats::stats(self)
    }

    pub fn apps(&self) -> Result<Vec<AppInfo>, LibraryError> {
        apps::list(self)
    }

    /// Shows or hides an application's layout. Says whether anything changed.
    pub fn set_app_enabled(&self, name: &str, enabled: bool) -> Result<bool, LibraryError> {
        apps::set_enabled(self, name, enabled)
    }

    /// The checks of `doctor` about store and catalog: filesystem, databases, orphans, leftovers.
    pub fn checks(root: &Path) -> Vec<Check> {
        checks::checks(root)
    }

    /// Writes the sha256 of a file beside it, as applications look for it. Answers where.
    pub fn write_sidecar(hashed: &Hashed) -> Result<PathBuf, LibraryError> {
        hashing::write_sidecar(hashed)
    }

    /// The six hashes of a file anywhere.
    pub fn hash(path: &Path, observer: &dyn ImportObserver) -> Result<Hashed, LibraryError> {
        hashing::hash(path, observer)
    }
}

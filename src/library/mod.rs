//! The use cases: what a user can do with a collection, and the only place that composes store, catalog, hubs and engine.
//!
//! Invariants: data is durable before the row that names it; every change to what is shown goes through `shelf`, so
//! names, directory times and revisions stay in step. Not here: SQL, wire formats, kernel types, terminal output.

mod add;
mod apps;
mod arrival;
mod checks;
mod contents;
mod danger;
mod decisions;
mod details;
mod enrich;
mod enrich_apply;
mod enrich_facts;
mod enrich_pace;
mod error;
mod evict;
mod explaining;
mod forgetting;
mod found;
mod gateway;
mod handle;
mod hashing;
mod import;
mod judging;
mod linked;
mod listing;
mod live_rules;
mod models;
mod mounted;
mod origins;
mod paging;
mod probe;
mod reference;
mod removal;
mod report;
mod shelf;
mod stats;
mod verify;

pub use decisions::Decision;
pub use enrich::{EnrichObserver, EnrichRequest, EnrichSummary, Enriched, Outcome};
pub use enrich_facts::HubFacts;
pub use error::LibraryError;
pub use handle::{Library, LibraryOptions};
pub use judging::Rewrite;
pub use mounted::{ChangeListener, Mounted, Names, Opened};
pub use removal::Presence;
pub use report::{
    AddSummary, AppInfo, Check, CheckStatus, ContentInfo, Eviction, Explanation, FoundAtHub, Gate, Hashed, ImportMode,
    ImportObserver, ImportPlan, ImportRequest, ImportSummary, Judgement, ModeCosts, ModelDetails, ModelSummary,
    OriginInfo, Reclassified, Refusal, RemovalChange, SearchAnswer, SearchRequest, StatsRow, StoreStats, TagSummary,
    TrustChange, VerdictChange, VerifyFinding, VerifySummary,
};

//! The catalog: what is known about every content, model, bundle and name. The only SQL.
//!
//! Owns: `modelhub.db` and `classification.db`, their migrations, one writer and many readers, the full-text index.
//! Invariants: a write is one transaction that ends with a new revision; every shown row carries the revision that last
//! changed it, so that a follower reads only what is new; a stored value is checked when it is read back.
//! Not here: files (`store`), which names are given (`library`), what the rows look like as a tree (`tree`).

mod bundles;
mod candidate;
mod cells;
mod contents;
mod decisions;
mod enrichments;
mod error;
mod figures;
mod forgetting;
mod guess;
mod handle;
mod homes;
mod hub_answers;
mod merging;
mod migrations;
mod models;
mod names;
mod ordered;
mod reader;
mod rows;
mod rule_rows;
mod search;
mod searches;
mod seed;
mod snapshot;
mod targets;
mod text;
mod uses;
mod watcher;
mod writer;

pub use error::CatalogError;
pub use handle::Catalog;
pub use hub_answers::HubAnswerRow;
pub use reader::Reader;
pub use rows::{
    AnswerRow, BlobRow, BundleRow, EvictableRow, FileMark, HashRow, ImportRow, LinkRow, Manual, ModelRow, NewBlob,
    NewBundle, NewModel, OriginRow, TypeCount,
};
pub use rule_rows::RulesStamp;
pub use searches::SearchRow;
pub use watcher::Watcher;
pub use writer::Writer;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod search_tests;

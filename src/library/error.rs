//! What can go wrong in a use case, above the errors of the parts.

use crate::base::{Fault, FaultKind, LocatorError};
use crate::catalog::CatalogError;
use crate::query::QueryError;
use crate::store::StoreError;
use thiserror::Error;

/// A failed use case. `fault` says it in a user's words.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A part failed and already says so in a user's words.
    #[error("{0}")]
    Part(Fault),
    #[error("{0}")]
    Locator(#[from] LocatorError),
    #[error("`{reference}` names nothing: {reason}")]
    BadReference { reference: String, reason: String },
    /// `QueryError::under` points at the place in `text`.
    #[error("the query cannot be read: {error}")]
    Query { text: String, error: QueryError },
    #[error("nothing in the store answers to `{reference}`")]
    NotFound { reference: String },
    #[error("`{reference}` names {} models: {}", candidates.len(), candidates.join(", "))]
    Ambiguous { reference: String, candidates: Vec<String> },
    #[error("`{word}` cannot be decided")]
    BadWord { word: String, remedy: String },
    #[error("the import needs {} and {} are free", iec(*needed_bytes), iec(*free_bytes))]
    DoesNotFit { needed_bytes: u64, free_bytes: u64 },
    #[error("`{mode}` cannot be used here: {reason}")]
    Mode { mode: &'static str, reason: String },
    #[error("there is no application called `{name}`")]
    UnknownApp { name: String },
    #[error("the network is switched off")]
    Offline,
    #[error("stopped")]
    Interrupted,
}

impl LibraryError {
    pub fn fault(&self) -> Fault {
        let what = self.to_string();
        match self {
            Self::Part(fault) => fault.clone(),
            Self::Locator(_) => Fault::new(
                FaultKind::Invalid,
                what,
                "write hf:org/name[@revision][/path], civitai:model[@version], modelscope:org/name, dir:FOLDER, or the address of a page or file",
            ),
            Self::BadReference { .. } => {
                Fault::new(FaultKind::Invalid, what, "see `modelfs info --help` for what names a model")
            }
            Self::Query { .. } => {
                Fault::new(FaultKind::Invalid, what, "see `modelfs search --help` for the words of a query")
            }
            Self::NotFound { .. } => Fault::new(FaultKind::NotFound, what, "list the models with `modelfs ls`"),
            Self::Ambiguous { .. } => {
                Fault::new(FaultKind::Ambiguous, what, "name one of them by its id or by more digits of its sha256")
            }
            Self::BadWord { remedy, .. } => Fault::new(FaultKind::Invalid, what, remedy.clone()),
            Self::DoesNotFit { .. } => Fault::new(
                FaultKind::NoSpace,
                what,
                "free some space, or choose a mode that takes less (see `modelfs import --dry-run`)",
            ),
            Self::Mode { .. } => Fault::new(FaultKind::Unsupported, what, "choose another with --mode"),
            Self::UnknownApp { .. } => Fault::new(FaultKind::NotFound, what, "see `modelfs app list`"),
            Self::Offline => Fault::new(
                FaultKind::Offline,
                what,
                "run without --offline and without the environment variables that forbid the network",
            ),
            Self::Interrupted => Fault::new(FaultKind::Interrupted, what, "run the same command again to go on"),
        }
    }
}

fn iec(bytes: u64) -> bytesize::Display {
    bytesize::ByteSize(bytes).display().iec()
}

impl From<StoreError> for LibraryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cancelled { .. } => Self::Interrupted,
            other => Self::Part(other.fault()),
        }
    }
}

impl From<CatalogError> for LibraryError {
    fn from(error: CatalogError) -> Self {
        Self::Part(error.fault())
    }
}

impl From<Fault> for LibraryError {
    fn from(fault: Fault) -> Self {
        Self::Part(fault)
    }
}

//! What can go wrong with the databases.
//!
//! Invariant: every variant names the database, the table or the path it is about. Not here: errno and exit codes.

use crate::base::{Fault, FaultKind};
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// `open` found no database.
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// The file is no SQLite database, or one that another program made.
    #[error("{} is not a catalog of modelfs", path.display())]
    NotACatalog { path: PathBuf },
    #[error("{} has schema version {found}, and this modelfs knows versions up to {supported}", path.display())]
    NewerSchema { path: PathBuf, found: i64, supported: i64 },
    /// The file or its folder cannot be opened for writing, which SQLite needs even to read in WAL mode.
    #[error("{} cannot be opened for writing", path.display())]
    CannotOpen {
        path: PathBuf,
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// A bounded wait for another writer ran out.
    #[error("another process holds the catalog")]
    Busy,
    #[error("the catalog cannot be written")]
    ReadOnly,
    #[error("no space left to write the catalog")]
    NoSpace,
    /// SQLite found a malformed page.
    #[error("the catalog is damaged on disk")]
    Corrupt,
    /// A stored value is none that could have been written here.
    #[error("the catalog is damaged: table {table}, row {row}, column {column} holds no valid value")]
    Damaged { table: &'static str, row: String, column: String },
    #[error("there is no row {row} in table {table}")]
    NoSuchRow { table: &'static str, row: String },
    /// What is to be written contradicts what is there: the same sha256 twice, a name that is taken.
    #[error("{what}")]
    Conflict { what: String },
    /// A value that no column can hold.
    #[error("{what} is out of range")]
    OutOfRange { what: &'static str },
    /// Any other failure of SQLite; a defect or a failing disk.
    #[error("the catalog could not be used: {0}")]
    Sql(#[source] rusqlite::Error),
}

const REPAIR: &str =
    "copy the store's folder first; then restore the database from a copy, or import again into a new store";

impl CatalogError {
    /// What happened, to what, and what to do.
    pub fn fault(&self) -> Fault {
        let (kind, remedy) = match self {
            Self::Missing { .. } => {
                (FaultKind::NotFound, "create a store with `modelfs init`, or name it with --store")
            }
            Self::NotACatalog { .. } => (FaultKind::Invalid, "name another store with --store, or move this file away"),
            Self::NewerSchema { .. } => (FaultKind::Unsupported, "use a newer modelfs for this store"),
            Self::CannotOpen { .. } => {
                (FaultKind::ReadOnly, "make the store and its folder writable for this user, or copy the store")
            }
            Self::Busy => (FaultKind::Busy, "try again when the other modelfs process is done"),
            Self::ReadOnly => (FaultKind::ReadOnly, "make the store and its folder writable for this user"),
            Self::NoSpace => (FaultKind::NoSpace, "free some space on the disk of the store"),
            Self::Corrupt | Self::Damaged { .. } => (FaultKind::Integrity, REPAIR),
            Self::NoSuchRow { .. } => (FaultKind::NotFound, "look it up again, for it was removed meanwhile"),
            Self::Conflict { .. } => (FaultKind::Exists, ""),
            Self::OutOfRange { .. } => (FaultKind::Invalid, ""),
            Self::Sql(_) => (FaultKind::Internal, "run `modelfs doctor`"),
        };
        Fault::new(kind, self.to_string(), remedy)
    }
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match error.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Busy,
            Some(Code::DiskFull) => Self::NoSpace,
            Some(Code::ReadOnly) => Self::ReadOnly,
            Some(Code::DatabaseCorrupt) => Self::Corrupt,
            _ => Self::Sql(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn result_codes_become_kinds_a_user_can_act_on() {
        let table = [
            (ffi::SQLITE_BUSY, FaultKind::Busy),
            (ffi::SQLITE_BUSY_SNAPSHOT, FaultKind::Busy),
            (ffi::SQLITE_FULL, FaultKind::NoSpace),
            (ffi::SQLITE_READONLY_DIRECTORY, FaultKind::ReadOnly),
            (ffi::SQLITE_CORRUPT, FaultKind::Integrity),
            (ffi::SQLITE_IOERR, FaultKind::Internal),
        ];
        for (code, kind) in table {
            let fault = CatalogError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).fault();
            assert_eq!(fault.kind, kind, "code {code}");
            assert!(!fault.remedy.is_empty(), "code {code}");
        }
    }
}

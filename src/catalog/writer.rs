//! Changes to the catalog, inside one transaction: the frame that the changes of each topic stand in.
//!
//! The changes themselves are in `contents`, `models`, `bundles`, `names`, `targets`. Invariants: the revision moves
//! once per transaction, and only if something that is shown changes; every shown row that changes gets it.

use super::Reader;
use super::cells::{Answer, signed};
use super::reader::no_such_row;
use crate::base::Timestamp;
use rusqlite::{Connection, Params};
use std::ops::Deref;

/// A transaction that writes. Reads through it see its own changes.
pub struct Writer<'a> {
    reader: Reader<'a>,
    now: Timestamp,
    /// This transaction's revision, once something shown has changed.
    revision: Option<i64>,
}

impl<'a> Deref for Writer<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection, now: Timestamp) -> Self {
        Self { reader: Reader::new(connection), now, revision: None }
    }

    /// The time given to `Catalog::write`.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The revision for a row that changes now.
    pub(super) fn stamp(&mut self) -> Answer<i64> {
        if let Some(revision) = self.revision {
            return Ok(revision);
        }
        let sql = "UPDATE catalog_state SET revision = revision + 1 RETURNING revision";
        let revision = self.first(sql, [], "catalog_state", |cells| cells.number(0))?;
        let revision = signed(revision.ok_or_else(|| no_such_row("catalog_state", 1))?, "the revision")?;
        self.revision = Some(revision);
        Ok(revision)
    }

    /// Whether a row with this revision was changed in this transaction.
    pub(super) fn is_own(&self, revision: i64) -> bool {
        self.revision == Some(revision)
    }

    /// Number of rows changed.
    pub(super) fn run(&mut self, sql: &str, params: impl Params) -> Answer<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The key of the new row.
    pub(super) fn insert(&mut self, sql: &str, params: impl Params) -> Answer<i64> {
        Ok(self.connection.prepare_cached(sql)?.insert(params)?)
    }

    /// A change that must meet a row.
    pub(super) fn run_on(&mut self, table: &'static str, row: i64, sql: &str, params: impl Params) -> Answer<()> {
        if self.run(sql, params)? == 0 { Err(no_such_row(table, row)) } else { Ok(()) }
    }
}

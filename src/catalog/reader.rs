//! Questions to the catalog: the frame that the questions of each topic stand in.
//!
//! The questions themselves are in `snapshot`, `contents`, `models`, `bundles`, `names`, `targets`, `figures`, `text`.
//! Invariant: statements are compiled once per connection; a row is checked before it leaves.

use super::CatalogError;
use super::cells::{Answer, Cells};
use rusqlite::{Connection, Params};

/// One consistent state of the catalog.
pub struct Reader<'a> {
    pub(super) connection: &'a Connection,
}

impl<'a> Reader<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    pub fn revision(&self) -> Result<u64, CatalogError> {
        let revision =
            self.first("SELECT revision FROM catalog_state", [], "catalog_state", |cells| cells.number(0))?;
        revision.ok_or_else(|| no_such_row("catalog_state", 1))
    }

    /// Every row of a statement. `table` is what a damaged row is said to be in.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: &'static str,
        read: impl FnMut(Cells<'_>) -> Answer<T>,
    ) -> Answer<Vec<T>> {
        let mut found = Vec::new();
        let mut read = read;
        self.each(sql, params, table, |cells| {
            found.push(read(cells)?);
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        table: &'static str,
        mut visit: impl FnMut(Cells<'_>) -> Answer<()>,
    ) -> Answer<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            visit(Cells::new(row, table))?;
        }
        Ok(())
    }

    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: &'static str,
        read: impl FnOnce(Cells<'_>) -> Answer<T>,
    ) -> Answer<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(|row| read(Cells::new(row, table))).transpose()
    }

    /// Whether a statement finds anything.
    pub(super) fn finds(&self, sql: &str, params: impl Params) -> Answer<bool> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }
}

pub(super) fn no_such_row(table: &'static str, row: impl ToString) -> CatalogError {
    CatalogError::NoSuchRow { table, row: row.to_string() }
}

//! What hubs answered to the queries that are kept, so that it is there after a remount and offline.
//!
//! Invariant: an answer goes with its query. Not here: how old one may be and what its hits mean (`library`).

use super::cells::{Answer, Cells};
use super::{CatalogError, Reader, Writer};
use crate::base::Timestamp;
use crate::tree::Source;
use rusqlite::params;

/// The answer of one hub to one query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubAnswerRow {
    pub source: Source,
    /// What was asked, with all that it refines.
    pub query: String,
    pub answered: Timestamp,
    /// JSON of the library's own.
    pub hits: String,
}

fn read_answer(cells: Cells<'_>) -> Answer<HubAnswerRow> {
    Ok(HubAnswerRow {
        source: cells.source(0)?,
        query: cells.text(1)?.to_owned(),
        answered: cells.time(2)?,
        hits: cells.text(3)?.to_owned(),
    })
}

impl Reader<'_> {
    /// Of one query; none for a query that is not there.
    pub fn hub_answers(&self, search: i64) -> Result<Vec<HubAnswerRow>, CatalogError> {
        let sql = "SELECT source, query, answered_ns, hits FROM hub_answers WHERE search_id = ?1 ORDER BY source";
        self.all(sql, [search], "hub_answers", read_answer)
    }
}

impl Reader<'_> {
    /// Of all queries.
    pub fn all_hub_answers(&self) -> Result<Vec<HubAnswerRow>, CatalogError> {
        let sql = "SELECT source, query, answered_ns, hits FROM hub_answers ORDER BY search_id, source";
        self.all(sql, [], "hub_answers", read_answer)
    }
}

impl Writer<'_> {
    /// Replaces what a hub answered before. Nothing happens for a query that is gone.
    pub fn set_hub_answer(&mut self, search: i64, row: &HubAnswerRow) -> Result<(), CatalogError> {
        let sql = "INSERT OR REPLACE INTO hub_answers (search_id, source, query, answered_ns, hits) \
            SELECT id, ?2, ?3, ?4, ?5 FROM searches WHERE id = ?1";
        self.run(sql, params![search, row.source.as_str(), row.query, row.answered.unix_ns(), row.hits]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, at, path, read, store, write};
    use super::*;

    #[test]
    fn an_answer_is_replaced_and_goes_with_its_query() {
        let Store { catalog, folder: _folder } = store();
        let id = write(&catalog, |writer| Ok(writer.add_search(&path("search/a"), "a")?.id));
        let row = |source, seconds, hits: &str| HubAnswerRow {
            source,
            query: "a".to_owned(),
            answered: at(seconds),
            hits: hits.to_owned(),
        };
        let rows = [row(Source::Civitai, 2, "[]"), row(Source::HuggingFace, 1, "[1]")];
        for row in [&row(Source::HuggingFace, 0, "[0]"), &rows[1], &rows[0]] {
            write(&catalog, |writer| writer.set_hub_answer(id, row));
        }
        write(&catalog, |writer| writer.set_hub_answer(id + 1, &rows[0]));
        assert_eq!(read(&catalog, |reader| reader.hub_answers(id)), rows);
        assert!(read(&catalog, |reader| reader.hub_answers(id + 1)).is_empty());
        write(&catalog, |writer| writer.remove_search(&path("search/a")));
        assert!(read(&catalog, |reader| reader.hub_answers(id)).is_empty());
    }
}

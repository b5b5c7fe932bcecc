//! Queries that are kept: the directories below `search/`.
//!
//! Invariant: a path stands for one query; what lies below a path goes and moves with it. Not here: what a query finds
//! (`search`), what its directory shows (`library`).

use super::cells::{Answer, Cells};
use super::{CatalogError, Reader, Writer};
use crate::base::{RelativePath, Timestamp};
use rusqlite::params;

/// One kept query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SearchRow {
    pub id: i64,
    /// From the mount's root: `search/…`.
    pub path: RelativePath,
    /// As it was asked; the path may be another after a rename.
    pub query: String,
    pub made: Timestamp,
}

fn read_search(cells: Cells<'_>) -> Answer<SearchRow> {
    Ok(SearchRow {
        id: cells.integer(0)?,
        path: cells.relative_path(1)?,
        query: cells.text(2)?.to_owned(),
        made: cells.time(3)?,
    })
}

impl Reader<'_> {
    /// All of them; what lies in another comes after it.
    pub fn searches(&self) -> Result<Vec<SearchRow>, CatalogError> {
        let sql = "SELECT id, path, query, made_ns FROM searches ORDER BY path";
        self.all(sql, [], "searches", read_search)
    }
}

impl Writer<'_> {
    /// Keeps a query. Its path must be free.
    pub fn add_search(&mut self, path: &RelativePath, query: &str) -> Result<SearchRow, CatalogError> {
        let made = self.now();
        if self.finds("SELECT 1 FROM searches WHERE path = ?1", [path.as_str()])? {
            return Err(CatalogError::Conflict { what: format!("{path} is there already") });
        }
        let sql = "INSERT INTO searches (path, query, made_ns) VALUES (?1, ?2, ?3)";
        let id = self.insert(sql, params![path.as_str(), query, made.unix_ns()])?;
        Ok(SearchRow { id, path: path.clone(), query: query.to_owned(), made })
    }

    /// Forgets a query and those that refine it.
    pub fn remove_search(&mut self, path: &RelativePath) -> Result<(), CatalogError> {
        let sql = "DELETE FROM searches WHERE path = ?1 OR substr(path, 1, length(?1) + 1) = ?1 || '/'";
        self.run(sql, [path.as_str()]).map(drop)
    }

    /// Another path for a query and those that refine it. The new one must be free.
    pub fn move_search(&mut self, from: &RelativePath, to: &RelativePath) -> Result<(), CatalogError> {
        if self.finds("SELECT 1 FROM searches WHERE path = ?1", [to.as_str()])? {
            return Err(CatalogError::Conflict { what: format!("{to} is there already") });
        }
        let sql = "UPDATE searches SET path = ?2 || substr(path, length(?1) + 1) \
            WHERE path = ?1 OR substr(path, 1, length(?1) + 1) = ?1 || '/'";
        self.run(sql, [from.as_str(), to.as_str()]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, at, path, read, store, write};
    use crate::base::FaultKind;

    #[test]
    fn what_lies_below_goes_and_moves_along() {
        let Store { catalog, folder: _folder } = store();
        write(&catalog, |writer| {
            for text in ["search/a", "search/a/b", "search/ab", "search/é_%"] {
                writer.add_search(&path(text), "x")?;
            }
            Ok(())
        });
        let paths = || -> Vec<String> {
            read(&catalog, |reader| reader.searches()).into_iter().map(|row| row.path.to_string()).collect()
        };
        let taken = catalog.write(at(2), |writer| writer.add_search(&path("search/a"), "y")).expect_err("taken");
        assert_eq!(taken.fault().kind, FaultKind::Exists);
        write(&catalog, |writer| writer.move_search(&path("search/a"), &path("search/c")));
        assert_eq!(paths(), ["search/ab", "search/c", "search/c/b", "search/é_%"]);
        assert!(catalog.write(at(2), |writer| writer.move_search(&path("search/ab"), &path("search/c"))).is_err());
        write(&catalog, |writer| writer.remove_search(&path("search/c")));
        write(&catalog, |writer| writer.move_search(&path("search/é_%"), &path("search/z")));
        assert_eq!(paths(), ["search/ab", "search/z"]);
    }
}

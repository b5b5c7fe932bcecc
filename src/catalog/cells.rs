//! Reading one row: every stored value is checked and becomes a word of the domain, or is reported with its place.
//!
//! Invariant: column 0 of every table in a statement identifies the row. Not here: which statements there are.

use super::CatalogError;
use crate::base::{BaseModel, Digest, EntryName, Label, ModelType, RelativePath, Timestamp};
use crate::tree::{Source, SourceSet};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use std::path::PathBuf;

pub(super) type Answer<T> = Result<T, CatalogError>;

/// The columns of one row, or those of one table in a joined row.
#[derive(Clone, Copy)]
pub(super) struct Cells<'r> {
    row: &'r Row<'r>,
    table: &'static str,
    first: usize,
}

impl<'r> Cells<'r> {
    pub fn new(row: &'r Row<'r>, table: &'static str) -> Self {
        Self { row, table, first: 0 }
    }

    /// The columns of another table, which begin at `first`.
    pub fn part(&self, first: usize, table: &'static str) -> Self {
        Self { row: self.row, table, first: self.first + first }
    }

    fn value(&self, column: usize) -> Answer<ValueRef<'r>> {
        Ok(self.row.get_ref(self.first + column)?)
    }

    /// The error for a column that holds no valid value.
    pub fn damaged(&self, column: usize) -> CatalogError {
        let row = match self.row.get_ref(self.first) {
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(ValueRef::Text(text) | ValueRef::Blob(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => "?".to_owned(),
        };
        let column = self.row.as_ref().column_name(self.first + column).unwrap_or("?").to_owned();
        CatalogError::Damaged { table: self.table, row, column }
    }

    pub fn integer(&self, column: usize) -> Answer<i64> {
        self.value(column)?.as_i64().map_err(|_| self.damaged(column))
    }

    pub fn number(&self, column: usize) -> Answer<u64> {
        u64::try_from(self.integer(column)?).map_err(|_| self.damaged(column))
    }

    pub fn optional_number(&self, column: usize) -> Answer<Option<u64>> {
        if self.is_null(column)? { Ok(None) } else { self.number(column).map(Some) }
    }

    pub fn time(&self, column: usize) -> Answer<Timestamp> {
        self.integer(column).map(Timestamp::from_unix_ns)
    }

    pub fn flag(&self, column: usize) -> Answer<bool> {
        match self.integer(column)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged(column)),
        }
    }

    pub fn real(&self, column: usize) -> Answer<f64> {
        self.value(column)?.as_f64().map_err(|_| self.damaged(column))
    }

    pub fn is_null(&self, column: usize) -> Answer<bool> {
        Ok(self.value(column)? == ValueRef::Null)
    }

    pub fn text(&self, column: usize) -> Answer<&'r str> {
        self.value(column)?.as_str().map_err(|_| self.damaged(column))
    }

    pub fn optional_text(&self, column: usize) -> Answer<Option<&'r str>> {
        self.value(column)?.as_str_or_null().map_err(|_| self.damaged(column))
    }

    pub fn optional_string(&self, column: usize) -> Answer<Option<String>> {
        Ok(self.optional_text(column)?.map(str::to_owned))
    }

    pub fn bytes(&self, column: usize) -> Answer<&'r [u8]> {
        self.value(column)?.as_blob().map_err(|_| self.damaged(column))
    }

    pub fn optional_bytes(&self, column: usize) -> Answer<Option<&'r [u8]>> {
        self.value(column)?.as_blob_or_null().map_err(|_| self.damaged(column))
    }

    pub fn path(&self, column: usize) -> Answer<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        Ok(std::ffi::OsStr::from_bytes(self.bytes(column)?).into())
    }

    /// A text that must be a word of the domain.
    pub fn parsed<T, E>(&self, column: usize, parse: impl FnOnce(&str) -> Result<T, E>) -> Answer<T> {
        parse(self.text(column)?).map_err(|_| self.damaged(column))
    }

    pub fn optional<T, E>(&self, column: usize, parse: impl FnOnce(&str) -> Result<T, E>) -> Answer<Option<T>> {
        self.optional_text(column)?.map(parse).transpose().map_err(|_| self.damaged(column))
    }

    pub fn name(&self, column: usize) -> Answer<EntryName> {
        self.parsed(column, EntryName::new)
    }

    pub fn label(&self, column: usize) -> Answer<Label> {
        self.parsed(column, Label::new)
    }

    pub fn relative_path(&self, column: usize) -> Answer<RelativePath> {
        self.parsed(column, RelativePath::new)
    }

    pub fn model_type(&self, column: usize) -> Answer<ModelType> {
        self.parsed(column, ModelType::parse)
    }

    pub fn base(&self, column: usize) -> Answer<Option<BaseModel>> {
        self.optional(column, BaseModel::parse)
    }

    pub fn digest(&self, column: usize) -> Answer<Option<Digest>> {
        let Some(bytes) = self.optional_bytes(column)? else { return Ok(None) };
        bytes.try_into().map(|bytes| Some(Digest::from_bytes(bytes))).map_err(|_| self.damaged(column))
    }

    pub fn source(&self, column: usize) -> Answer<Source> {
        self.parsed(column, |text| Source::parse(text).ok_or(()))
    }

    pub fn sources(&self, column: usize) -> Answer<SourceSet> {
        self.parsed(column, parse_sources)
    }

    /// A JSON array of texts.
    pub fn list(&self, column: usize) -> Answer<Vec<String>> {
        self.parsed(column, |text| serde_json::from_str(text))
    }
}

/// Words with commas between them; an empty set is an empty text.
pub(super) fn parse_sources(text: &str) -> Result<SourceSet, ()> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .try_fold(SourceSet::default(), |set, word| Source::parse(word).map(|source| set.with(source)).ok_or(()))
}

pub(super) fn write_sources(set: SourceSet) -> String {
    set.iter().map(Source::as_str).collect::<Vec<_>>().join(",")
}

pub(super) fn write_list(list: &[String]) -> String {
    serde_json::to_string(list).expect("texts are always JSON")
}

/// A size or a count as SQLite keeps it.
pub(super) fn signed(number: u64, what: &'static str) -> Answer<i64> {
    i64::try_from(number).map_err(|_| CatalogError::OutOfRange { what })
}

pub(super) fn path_bytes(path: &std::path::Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_round_trip() {
        for bits in 0..16 {
            let wanted = |at: usize| bits & 1 << at != 0;
            let set = Source::ALL
                .into_iter()
                .enumerate()
                .filter(|(at, _)| wanted(*at))
                .fold(SourceSet::default(), |set, (_, source)| set.with(source));
            assert_eq!(parse_sources(&write_sources(set)), Ok(set));
        }
        assert_eq!(parse_sources("local,elsewhere"), Err(()));
    }

    #[test]
    fn a_damaged_value_names_its_place() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory");
        let found = connection.query_row("SELECT 17 AS id, 'x/y' AS name, -1 AS size, x'00' AS sha256", [], |row| {
            let cells = Cells::new(row, "blobs");
            Ok([cells.name(1).err(), cells.number(2).err(), cells.digest(3).err(), cells.text(2).err()]
                .map(|error| error.expect("damaged").to_string()))
        });
        let places = found.expect("one row");
        for (text, column) in places.iter().zip(["name", "size", "sha256", "size"]) {
            assert!(text.contains("table blobs, row 17") && text.contains(&format!("column {column}")), "{text}");
        }
    }
}

//! What is wrong with a query, and where.

use super::{Key, LIMIT_MAX, QUERY_BYTES_MAX, Sort};
use std::fmt;
use std::ops::Range;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryError {
    /// Bytes of the text that are wrong; may be empty at its end.
    pub at: Range<usize>,
    pub kind: QueryErrorKind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryErrorKind {
    TooLong,
    TooDeep,
    /// A control character.
    Unshowable,
    UnclosedQuote,
    UnclosedParenthesis,
    StrayParenthesis,
    EmptyParentheses,
    /// `OR` or `-` with nothing after it, or `OR` with nothing before it.
    NothingThere(&'static str),
    UnknownKey(String),
    EmptyValue(&'static str),
    /// A value that is not in the list of its key.
    UnknownValue {
        key: &'static str,
        value: String,
        known: String,
    },
    /// `tag<3`: the name cannot be compared.
    NotComparable(String),
    BadAmount {
        field: &'static str,
        value: String,
        example: &'static str,
    },
    BadLimit(String),
    /// `sort:` or `limit:` a second time.
    Twice(&'static str),
    /// `sort:` or `limit:` inside parentheses or after `-`.
    NotHere(&'static str),
}

impl QueryError {
    /// The text with a caret line under the place: two lines without a final line break.
    pub fn under(&self, text: &str) -> String {
        let start = floor_to_character(text, self.at.start);
        let end = floor_to_character(text, self.at.end).max(start);
        let before = text[..start].chars().count();
        let width = text[start..end].chars().count().max(1);
        let shown: String = text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
        format!("{shown}\n{}{}", " ".repeat(before), "^".repeat(width))
    }
}

fn floor_to_character(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            QueryErrorKind::TooLong => write!(f, "a query has at most {QUERY_BYTES_MAX} bytes"),
            QueryErrorKind::TooDeep => f.write_str("too many parentheses inside each other"),
            QueryErrorKind::Unshowable => f.write_str("a query holds no control characters"),
            QueryErrorKind::UnclosedQuote => f.write_str("this quote is never closed"),
            QueryErrorKind::UnclosedParenthesis => f.write_str("this parenthesis is never closed"),
            QueryErrorKind::StrayParenthesis => f.write_str("this parenthesis was never opened"),
            QueryErrorKind::EmptyParentheses => f.write_str("there is nothing between these parentheses"),
            QueryErrorKind::NothingThere(word) => write!(f, "`{word}` needs something to stand with"),
            QueryErrorKind::UnknownKey(key) => {
                let keys: Vec<&str> = Key::ALL.iter().map(|key| key.as_str()).collect();
                write!(
                    f,
                    "`{key}` is no key; known are {}, sort, limit (quote the text to search for it)",
                    keys.join(", ")
                )
            }
            QueryErrorKind::EmptyValue(key) => write!(f, "`{key}:` needs a value"),
            QueryErrorKind::UnknownValue { key, value, known } => write!(f, "`{value}` is no {key}; known are {known}"),
            QueryErrorKind::NotComparable(name) => {
                write!(f, "`{name}` cannot be compared; size, added, updated, downloads and rating can")
            }
            QueryErrorKind::BadAmount { field, value, example } => {
                write!(f, "`{value}` is no {field}; write it like {example}")
            }
            QueryErrorKind::BadLimit(value) => write!(f, "`{value}` is no limit; write a number from 1 to {LIMIT_MAX}"),
            QueryErrorKind::Twice(word) => write!(f, "`{word}:` was given before"),
            QueryErrorKind::NotHere(word) => {
                write!(f, "`{word}:` holds for the whole query; write it outside of parentheses")
            }
        }
    }
}

impl std::error::Error for QueryError {}

impl QueryErrorKind {
    pub(super) fn unknown_sort(value: &str) -> Self {
        let known: Vec<&str> = Sort::ALL.iter().map(|sort| sort.as_str()).collect();
        Self::UnknownValue { key: "order", value: value.to_owned(), known: known.join(", ") }
    }
}

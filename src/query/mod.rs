//! The search grammar: text → `Query`, with positioned errors, and back to text.
//!
//! One grammar for directories under `search/`, the command line and every other edge. Pure. Not here: finding models
//! (`catalog` for the index, `hub` for hubs), the full-text rules of an engine.
//!
//! ```text
//! query   = or
//! or      = and ("OR" and)*
//! and     = term+                        words side by side must all hold
//! term    = "-" term | "(" or ")" | phrase | key ":" value | field op amount | word
//! phrase  = '"' text '"'                 `\"` and `\\` inside
//! value   = word | phrase                `source:` and `type:` take `a|b|c`
//! ```
//! `sort:` and `limit:` may stand anywhere outside parentheses, once each.

mod amount;
mod error;
mod lexer;
mod matching;
mod parser;
mod write;

pub use amount::{Amount, Comparison, Field};
pub use error::{QueryError, QueryErrorKind};
pub use matching::{Subject, folded, matches, matches_by_name};

use std::fmt;

/// Longest query, in bytes: a directory name holds no more.
pub const QUERY_BYTES_MAX: usize = 255;
/// Deepest nesting of parentheses and negations; a person writes two or three.
const DEPTH_MAX: usize = 16;
/// Most conditions of a query and all that it refines; one of a directory's name holds about half as many at the most.
pub const TERMS_MAX: usize = 256;
/// Largest `limit:`; a listing of more is a listing of everything.
pub const LIMIT_MAX: u32 = 100_000;

/// A parsed query.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Query {
    pub expression: Expression,
    pub sort: Option<Sort>,
    pub limit: Option<u32>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub enum Expression {
    /// The empty query.
    #[default]
    Everything,
    /// One word of full text.
    Word(String),
    /// Words that stand side by side in this order.
    Phrase(String),
    /// Any of the values; one unless written `a|b`.
    Key {
        key: Key,
        values: Vec<String>,
    },
    Compare {
        field: Field,
        comparison: Comparison,
        amount: Amount,
    },
    Not(Box<Expression>),
    /// At least two parts.
    And(Vec<Expression>),
    /// At least two parts.
    Or(Vec<Expression>),
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}
use words;

words!(
    /// What a `key:value` asks about.
    Key {
        Type = "type",
        Base = "base",
        Format = "format",
        Precision = "precision",
        Source = "source",
        Creator = "creator",
        Tag = "tag",
        License = "license",
        State = "state",
        Hash = "hash",
        App = "app",
        Nsfw = "nsfw",
    }
);

words!(
    /// What `sort:` orders by; each has its natural direction (largest or newest first, names A to Z).
    Sort {
        Relevance = "relevance",
        Name = "name",
        Size = "size",
        Added = "added",
        Updated = "updated",
        Downloads = "downloads",
        Rating = "rating",
        Likes = "likes",
    }
);

impl Query {
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse(text)
    }

    /// What answers to both; the order and limit are the other's where it has them.
    pub fn refined_by(self, other: Self) -> Self {
        let parts: Vec<Expression> = [self.expression, other.expression]
            .into_iter()
            .flat_map(|expression| match expression {
                Expression::Everything => Vec::new(),
                Expression::And(parts) => parts,
                single => vec![single],
            })
            .collect();
        let expression = match <[Expression; 1]>::try_from(parts) {
            Ok([single]) => single,
            Err(parts) if parts.is_empty() => Expression::Everything,
            Err(parts) => Expression::And(parts),
        };
        Self { expression, sort: other.sort.or(self.sort), limit: other.limit.or(self.limit) }
    }

    /// Conditions in it, for `TERMS_MAX`.
    pub fn term_count(&self) -> usize {
        fn terms(expression: &Expression) -> usize {
            match expression {
                Expression::Everything => 0,
                Expression::Word(_) | Expression::Phrase(_) | Expression::Compare { .. } => 1,
                Expression::Key { values, .. } => values.len(),
                Expression::Not(inner) => terms(inner),
                Expression::And(parts) | Expression::Or(parts) => parts.iter().map(terms).sum(),
            }
        }
        terms(&self.expression)
    }

    /// The order of the answer: what `sort:` says, else relevance where there are words to judge by, else names.
    pub fn order(&self) -> Sort {
        self.sort.unwrap_or(if has_words(&self.expression) { Sort::Relevance } else { Sort::Name })
    }

    /// The values of `source:` that hold for the whole query, if it names any at its top level.
    pub fn sources(&self) -> Vec<&str> {
        let parts = match &self.expression {
            Expression::And(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        let named = parts.iter().filter_map(|part| match part {
            Expression::Key { key: Key::Source, values } => Some(values.iter().map(String::as_str)),
            _ => None,
        });
        named.flatten().collect()
    }
}

fn has_words(expression: &Expression) -> bool {
    match expression {
        Expression::Word(_) | Expression::Phrase(_) => true,
        Expression::And(parts) | Expression::Or(parts) => parts.iter().any(has_words),
        Expression::Everything | Expression::Key { .. } | Expression::Compare { .. } | Expression::Not(_) => false,
    }
}

impl fmt::Display for Query {
    /// Writes a text that parses to the same query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::query(self, f)
    }
}

#[cfg(test)]
mod tests;

//! Whether one model answers a query: the plain meaning of each part, one model at a time.
//!
//! This is the specification that an index must agree with. Case and the form of Unicode do not matter.

use super::{Expression, Field, Key, Query};
use unicode_normalization::UnicodeNormalization;

/// What can be asked about one model.
pub trait Subject {
    /// Texts that words and phrases look into: the name first, then tags, trigger words, description, creator.
    fn texts(&self) -> Vec<&str>;
    /// The values of a key; several for tags, sources and applications.
    fn values(&self, key: Key) -> Vec<String>;
    /// Bytes, whole seconds since 1970, or a count; `None` when it is not known.
    fn amount(&self, field: Field) -> Option<f64>;
}

/// Whether the expression of the query holds; `sort` and `limit` are the caller's.
pub fn matches(query: &Query, subject: &dyn Subject) -> bool {
    holds(&query.expression, subject, Looking::Everywhere)
}

/// Whether it also holds when words and phrases look into the name alone: such a model is more relevant. What is denied
/// is looked for everywhere.
pub fn matches_by_name(query: &Query, subject: &dyn Subject) -> bool {
    holds(&query.expression, subject, Looking::InName)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    Everywhere,
    InName,
}

fn holds(expression: &Expression, subject: &dyn Subject, looking: Looking) -> bool {
    match expression {
        Expression::Everything => true,
        Expression::Word(text) | Expression::Phrase(text) => {
            let wanted = folded(text);
            let texts = subject.texts();
            let count = if looking == Looking::InName { 1 } else { texts.len() };
            texts.iter().take(count).any(|text| folded(text).contains(&wanted))
        }
        Expression::Key { key, values } => {
            let have: Vec<String> = subject.values(*key).iter().map(|value| folded(value)).collect();
            values.iter().any(|wanted| answers(*key, &folded(wanted), &have))
        }
        Expression::Compare { field, comparison, amount } => {
            subject.amount(*field).is_some_and(|value| comparison.holds(value, amount))
        }
        Expression::Not(inner) => !holds(inner, subject, Looking::Everywhere),
        Expression::And(parts) => parts.iter().all(|part| holds(part, subject, looking)),
        Expression::Or(parts) => parts.iter().any(|part| holds(part, subject, looking)),
    }
}

fn answers(key: Key, wanted: &str, have: &[String]) -> bool {
    match key {
        Key::Source if wanted == "all" => true,
        // `hash:b94d27b9` names the start of any hash.
        Key::Hash => have.iter().any(|hash| hash.starts_with(wanted)),
        // `base:wan` means the family: wan2.1, wan2.2.
        Key::Base | Key::License => have.iter().any(|value| value.starts_with(wanted)),
        _ => have.iter().any(|value| value == wanted),
    }
}

/// A text as it is compared: case and the form of Unicode do not matter.
pub fn folded(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).collect()
}

//! `Query` → text that parses to the same query.

use super::{Expression, Query};
use std::fmt::{Formatter, Result, Write};

pub(super) fn query(query: &Query, f: &mut Formatter<'_>) -> Result {
    let mut parts = Vec::new();
    if query.expression != Expression::Everything {
        parts.push(text_of(&query.expression, Place::Top));
    }
    parts.extend(query.sort.map(|sort| format!("sort:{}", sort.as_str())));
    parts.extend(query.limit.map(|limit| format!("limit:{limit}")));
    // `a OR b sort:name` would read as `a OR (b sort:name)`, which means the same: sort and limit hold for the whole query.
    f.write_str(&parts.join(" "))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    InAnd,
    InOr,
    InNot,
}

fn text_of(expression: &Expression, place: Place) -> String {
    match expression {
        Expression::Everything => String::new(),
        Expression::Word(word) => word.clone(),
        Expression::Phrase(text) => quoted(text),
        Expression::Key { key, values } => {
            let plain = values.iter().all(|value| is_plain(value));
            let value = if plain { values.join("|") } else { quoted(&values.join("|")) };
            format!("{}:{value}", key.as_str())
        }
        Expression::Compare { field, comparison, amount } => {
            format!("{}{}{amount}", field.as_str(), comparison.as_str())
        }
        Expression::Not(inner) => format!("-{}", text_of(inner, Place::InNot)),
        Expression::And(parts) => grouped(parts, " ", Place::InAnd, matches!(place, Place::InAnd | Place::InNot)),
        Expression::Or(parts) => grouped(parts, " OR ", Place::InOr, place != Place::Top),
    }
}

fn grouped(parts: &[Expression], separator: &str, inner: Place, parentheses: bool) -> String {
    let text = parts.iter().map(|part| text_of(part, inner)).collect::<Vec<_>>().join(separator);
    if parentheses { format!("({text})") } else { text }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '|'))
}

fn quoted(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            written.push('\\');
        }
        // Writing into a `String` cannot fail.
        let _: Result = written.write_char(character);
    }
    written.push('"');
    written
}

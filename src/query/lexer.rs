//! Text → tokens with positions.

use super::{QUERY_BYTES_MAX, QueryError, QueryErrorKind};
use std::ops::Range;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub at: Range<usize>,
    pub kind: TokenKind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TokenKind {
    Open,
    Close,
    Minus,
    Or,
    /// A quoted text, unescaped.
    Phrase(String),
    /// A bare run of characters; may hold `:` and comparison signs.
    Word(String),
    /// `key:"quoted value"`.
    KeyedPhrase {
        key: String,
        value: String,
    },
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError { at: QUERY_BYTES_MAX..text.len(), kind: QueryErrorKind::TooLong });
    }
    if let Some((at, control)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(QueryError { at: at..at + control.len_utf8(), kind: QueryErrorKind::Unshowable });
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let rest = &text[at..];
        if character.is_whitespace() {
            at += character.len_utf8();
            continue;
        }
        let (kind, length) = match character {
            '(' => (TokenKind::Open, 1),
            ')' => (TokenKind::Close, 1),
            '-' => (TokenKind::Minus, 1),
            '"' => quoted(rest, at)?,
            _ => word(rest, at)?,
        };
        found.push(Token { at: at..at + length, kind });
        at += length;
    }
    Ok(found)
}

/// A phrase that starts at the first character of `rest`.
fn quoted(rest: &str, at: usize) -> Result<(TokenKind, usize), QueryError> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((TokenKind::Phrase(text), index + 1)),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                Some((_, other)) => text.extend(['\\', other]),
                None => break,
            },
            _ => text.push(character),
        }
    }
    Err(QueryError { at: at..at + rest.len(), kind: QueryErrorKind::UnclosedQuote })
}

/// A bare word; it ends before white space, a parenthesis or a quote, and `key:"…"` takes its quote along.
fn word(rest: &str, at: usize) -> Result<(TokenKind, usize), QueryError> {
    let length = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"')).unwrap_or(rest.len());
    let text = &rest[..length];
    if text == "OR" {
        return Ok((TokenKind::Or, length));
    }
    if let (Some(key), true) = (text.strip_suffix(':'), rest[length..].starts_with('"')) {
        let (kind, quote_length) = quoted(&rest[length..], at + length)?;
        if let TokenKind::Phrase(value) = kind {
            return Ok((TokenKind::KeyedPhrase { key: key.to_owned(), value }, length + quote_length));
        }
    }
    Ok((TokenKind::Word(text.to_owned()), length))
}

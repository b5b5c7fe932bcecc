//! Tokens → `Query`, by recursive descent; see the grammar in `mod.rs`.

use super::lexer::{Token, TokenKind, tokens};
use super::{
    Amount, Comparison, DEPTH_MAX, Expression, Field, Key, LIMIT_MAX, Query, QueryError, QueryErrorKind, Sort,
};
use crate::base::{BlobState, ModelType};
use std::ops::Range;

/// Values of `source:`; `all` asks the hubs and the catalog.
const SOURCES: &[&str] = &["local", "huggingface", "civitai", "modelscope", "all"];
/// Live states of a file that the catalog does not store but a query may ask for.
const LIVE_STATES: &[&str] = &["downloading", "verifying", "failed"];
const NSFW: &[&str] = &["true", "false"];

pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.len(), query: Query::default() };
    let expression = parser.or(0)?;
    if let Some(token) = parser.peek() {
        return Err(QueryError { at: token.at.clone(), kind: QueryErrorKind::StrayParenthesis });
    }
    Ok(Query { expression: expression.unwrap_or_default(), ..parser.query })
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    /// Length of the text: the place of what is missing at its end.
    end: usize,
    /// Collects `sort:` and `limit:`.
    query: Query,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.next);
        self.next += 1;
        token
    }

    /// `None` when there was nothing but `sort:` and `limit:`.
    fn or(&mut self, depth: usize) -> Result<Option<Expression>, QueryError> {
        let mut alternatives = Vec::new();
        let mut first = true;
        loop {
            let part = self.and(depth)?;
            let or_follows = self.peek().is_some_and(|token| token.kind == TokenKind::Or);
            match part {
                Some(part) => alternatives.push(part),
                None if first && !or_follows => return Ok(None),
                None => {
                    let at = self.peek().map_or(self.end..self.end, |token| token.at.clone());
                    return Err(QueryError { at, kind: QueryErrorKind::NothingThere("OR") });
                }
            }
            if !or_follows {
                return Ok(Some(joined(alternatives, Expression::Or)));
            }
            self.take();
            first = false;
        }
    }

    fn and(&mut self, depth: usize) -> Result<Option<Expression>, QueryError> {
        let mut parts = Vec::new();
        while let Some(token) = self.peek() {
            if matches!(token.kind, TokenKind::Or | TokenKind::Close) {
                break;
            }
            parts.extend(self.term(depth)?);
        }
        Ok((!parts.is_empty()).then(|| joined(parts, Expression::And)))
    }

    /// One term; nothing for `sort:` and `limit:`, which belong to the whole query.
    fn term(&mut self, depth: usize) -> Result<Option<Expression>, QueryError> {
        let Some(token) = self.take() else { return Ok(None) };
        if depth > DEPTH_MAX {
            return Err(QueryError { at: token.at.clone(), kind: QueryErrorKind::TooDeep });
        }
        match &token.kind {
            TokenKind::Open => self.group(token, depth).map(Some),
            TokenKind::Minus => self.negation(token, depth).map(Some),
            TokenKind::Phrase(text) => Ok(Some(Expression::Phrase(text.clone()))),
            TokenKind::KeyedPhrase { key, value } => self.keyed(&token.at, key, &[value.as_str()], depth),
            TokenKind::Word(word) => self.word(&token.at, word, depth),
            TokenKind::Or | TokenKind::Close => {
                Err(QueryError { at: token.at.clone(), kind: QueryErrorKind::StrayParenthesis })
            }
        }
    }

    fn group(&mut self, open: &Token, depth: usize) -> Result<Expression, QueryError> {
        let inner = self.or(depth + 1)?;
        match self.take() {
            Some(Token { kind: TokenKind::Close, at }) => {
                inner.ok_or(QueryError { at: open.at.start..at.end, kind: QueryErrorKind::EmptyParentheses })
            }
            _ => Err(QueryError { at: open.at.clone(), kind: QueryErrorKind::UnclosedParenthesis }),
        }
    }

    fn negation(&mut self, minus: &Token, depth: usize) -> Result<Expression, QueryError> {
        let touches = self.peek().is_some_and(|token| {
            token.at.start == minus.at.end && !matches!(token.kind, TokenKind::Or | TokenKind::Close)
        });
        let nothing = QueryError { at: minus.at.clone(), kind: QueryErrorKind::NothingThere("-") };
        if !touches {
            return Err(nothing);
        }
        self.term(depth + 1)?.map(|part| Expression::Not(Box::new(part))).ok_or(nothing)
    }

    fn word(&mut self, at: &Range<usize>, word: &str, depth: usize) -> Result<Option<Expression>, QueryError> {
        let sign = word.find(['<', '>', '=', ':']);
        match sign.map(|index| (index, word.as_bytes()[index])) {
            Some((0, _)) | None => Ok(Some(Expression::Word(word.to_owned()))),
            Some((index, b':')) => {
                let values: Vec<&str> = word[index + 1..].split('|').collect();
                self.keyed(at, &word[..index], &values, depth)
            }
            Some((index, _)) => comparison(at, word, index).map(Some),
        }
    }

    fn keyed(
        &mut self,
        at: &Range<usize>,
        key: &str,
        values: &[&str],
        depth: usize,
    ) -> Result<Option<Expression>, QueryError> {
        let fail = |kind| Err(QueryError { at: at.clone(), kind });
        match key {
            "sort" | "limit" if depth > 0 => {
                fail(QueryErrorKind::NotHere(if key == "sort" { "sort" } else { "limit" }))
            }
            "sort" if self.query.sort.is_some() => fail(QueryErrorKind::Twice("sort")),
            "limit" if self.query.limit.is_some() => fail(QueryErrorKind::Twice("limit")),
            "sort" => {
                let value = values.join("|");
                let Some(sort) = Sort::parse(&value) else { return fail(QueryErrorKind::unknown_sort(&value)) };
                self.query.sort = Some(sort);
                Ok(None)
            }
            "limit" => {
                let value = values.join("|");
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                let Some(limit) = limit else { return fail(QueryErrorKind::BadLimit(value)) };
                self.query.limit = Some(limit);
                Ok(None)
            }
            _ => {
                let Some(key) = Key::parse(key) else { return fail(QueryErrorKind::UnknownKey(key.to_owned())) };
                if values.iter().any(|value| value.is_empty()) {
                    return fail(QueryErrorKind::EmptyValue(key.as_str()));
                }
                for value in values {
                    check_value(key, value).map_err(|kind| QueryError { at: at.clone(), kind })?;
                }
                Ok(Some(Expression::Key { key, values: values.iter().map(|value| (*value).to_owned()).collect() }))
            }
        }
    }
}

fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

fn comparison(at: &Range<usize>, word: &str, sign: usize) -> Result<Expression, QueryError> {
    let fail = |kind| Err(QueryError { at: at.clone(), kind });
    let (name, rest) = word.split_at(sign);
    let signs = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("=", Comparison::Equal),
    ];
    let (value, comparison) = signs
        .iter()
        .find_map(|(sign, comparison)| rest.strip_prefix(sign).map(|value| (value, *comparison)))
        .unwrap_or((rest, Comparison::Equal));
    let Some(field) = Field::parse(name) else { return fail(QueryErrorKind::NotComparable(name.to_owned())) };
    match Amount::parse(field, value) {
        Some(amount) => Ok(Expression::Compare { field, comparison, amount }),
        None => {
            fail(QueryErrorKind::BadAmount { field: field.as_str(), value: value.to_owned(), example: field.example() })
        }
    }
}

/// Keys with a closed list of values refuse a word outside of it: a typing error should not look like an empty collection.
fn check_value(key: Key, value: &str) -> Result<(), QueryErrorKind> {
    let states: Vec<&str> =
        BlobState::ALL.iter().map(|state| state.as_str()).chain(LIVE_STATES.iter().copied()).collect();
    let types: Vec<&str> = ModelType::ALL.iter().map(|model_type| model_type.as_str()).collect();
    let known: &[&str] = match key {
        Key::Type => &types,
        Key::Source => SOURCES,
        Key::State => &states,
        Key::Nsfw => NSFW,
        Key::Hash if value.len() >= 8 && value.len() <= 64 && value.bytes().all(|b| b.is_ascii_hexdigit()) => {
            return Ok(());
        }
        Key::Hash => &["at least 8 hex digits"],
        Key::Base | Key::Format | Key::Precision | Key::Creator | Key::Tag | Key::License | Key::App => return Ok(()),
    };
    if known.contains(&value) {
        return Ok(());
    }
    Err(QueryErrorKind::UnknownValue { key: key.as_str(), value: value.to_owned(), known: known.join(", ") })
}

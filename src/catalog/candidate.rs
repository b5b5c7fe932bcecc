//! One model that is held against a query without the index: the plain meaning, from its rows.
//!
//! Invariant: it answers as the index does, for the parts of a query that `is_judged_by_row` names. Not here: which
//! models are worth it (`ordered`, `guess`).

use super::cells::Answer;
use super::{ModelRow, Reader};
use crate::base::ModelId;
use crate::query::{Expression, Field, Key, Query, Subject};
use crate::tree::SourceSet;

const NS_PER_S: i64 = 1_000_000_000;

pub(super) struct Candidate {
    model: ModelRow,
    sources: SourceSet,
    size_bytes: u64,
    descriptions: Vec<String>,
}

/// Whether any part of an expression, at any depth, is so.
pub(super) fn has(expression: &Expression, is_so: &dyn Fn(&Expression) -> bool) -> bool {
    is_so(expression)
        || match expression {
            Expression::Not(inner) => has(inner, is_so),
            Expression::And(parts) | Expression::Or(parts) => parts.iter().any(|part| has(part, is_so)),
            Expression::Everything
            | Expression::Word(_)
            | Expression::Phrase(_)
            | Expression::Key { .. }
            | Expression::Compare { .. } => false,
        }
}

pub(super) const fn is_word(expression: &Expression) -> bool {
    matches!(expression, Expression::Word(_) | Expression::Phrase(_))
}

/// Whether a query asks for nothing but what a `Candidate` knows.
pub(super) fn is_judged_by_row(query: &Query) -> bool {
    !has(&query.expression, &|part| {
        matches!(part, Expression::Key { key: Key::State | Key::Hash | Key::App | Key::Nsfw, .. })
    })
}

impl Candidate {
    /// `None` when there is no such model. What the query does not ask about is not read.
    pub fn read(reader: &Reader<'_>, id: ModelId, query: &Query) -> Answer<Option<Self>> {
        let Some((mut model, blob, sources)) = reader.models_of(&[id])?.pop() else { return Ok(None) };
        let looks_into_texts = has(&query.expression, &is_word);
        let asks_tag = |part: &Expression| matches!(part, Expression::Key { key: Key::Tag, .. });
        if looks_into_texts || has(&query.expression, &asks_tag) {
            model.tags = reader.tags_of(id.get())?;
        }
        let descriptions = if looks_into_texts { reader.descriptions(id)? } else { Vec::new() };
        Ok(Some(Self { model, sources, size_bytes: blob.size_bytes, descriptions }))
    }
}

impl Subject for Candidate {
    fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.model.name.as_str()];
        texts.extend(self.model.tags.iter().map(|tag| tag.as_str()));
        texts.extend(self.model.trigger_words.iter().chain(&self.descriptions).map(String::as_str));
        texts.extend(self.model.creator.iter().map(|creator| creator.as_str()));
        texts
    }

    fn values(&self, key: Key) -> Vec<String> {
        let model = &self.model;
        match key {
            Key::Type => vec![model.model_type.as_str().to_owned()],
            Key::Base => model.base.iter().map(ToString::to_string).collect(),
            Key::Format => vec![model.format.clone(), model.name.suffix().trim_start_matches('.').to_owned()],
            Key::Precision => model.precision.iter().chain(&model.quantization).cloned().collect(),
            Key::Source => self.sources.iter().map(|source| source.as_str().to_owned()).collect(),
            Key::Creator => model.creator.iter().map(ToString::to_string).collect(),
            Key::Tag => model.tags.iter().map(ToString::to_string).collect(),
            Key::License => model.license.iter().cloned().collect(),
            Key::State | Key::Hash | Key::App | Key::Nsfw => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        match field {
            Field::Size => Some(self.size_bytes as f64),
            Field::Added | Field::Updated => Some(self.model.added.unix_ns().div_euclid(NS_PER_S) as f64),
            Field::Downloads | Field::Rating => None,
        }
    }
}

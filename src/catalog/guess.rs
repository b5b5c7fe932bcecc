//! Several words at once, where few models answer.
//!
//! Comparing the lists of all letter runs of all words costs most where the lists are long and the answer is short. So
//! one run of each word names candidates, and their texts are looked into. Invariant: the answer is that of the index;
//! many candidates are left to it, for then its first answers come soon. Not here: other orders than relevance.

use super::Reader;
use super::candidate::{Candidate, has, is_word};
use super::cells::Answer;
use super::ordered::Effort;
use super::search::{Compiler, Condition};
use super::text::{self, Columns};
use crate::base::ModelId;
use crate::query::{Expression, Query, folded, matches};
use std::collections::HashMap;

/// A conjunction of words and of other conditions without words in them.
struct Words<'a> {
    words: Vec<&'a str>,
    others: Vec<Expression>,
}

impl<'a> Words<'a> {
    /// `None` for anything else, and for a single word, which the index finds soon enough.
    fn of(query: &'a Query) -> Option<Self> {
        let Expression::And(parts) = &query.expression else { return None };
        let mut split = Self { words: Vec::new(), others: Vec::new() };
        for part in parts {
            match part {
                Expression::Word(word) | Expression::Phrase(word) => split.words.push(word),
                // What is denied is looked for everywhere, whatever the words are looked for in.
                Expression::Not(_) => split.others.push(part.clone()),
                other if has(other, &is_word) => return None,
                other => split.others.push(other.clone()),
            }
        }
        (split.words.len() > 1).then_some(split)
    }
}

impl Reader<'_> {
    /// The answer by relevance, if it can be had from few candidates.
    pub(super) fn guessed(
        &self,
        query: &Query,
        compiler: &Compiler<'_>,
        limit: u32,
        effort: Effort,
    ) -> Answer<Option<Vec<ModelId>>> {
        let Some(Words { words, others }) = Words::of(query).filter(|_| limit <= effort.guessed_max) else {
            return Ok(None);
        };
        let others = compiler.condition(&Expression::And(others));
        // A condition on rows would be asked of every candidate; the index's first answers cost less.
        if others.row.is_some() {
            return Ok(None);
        }
        let near = words.iter().map(|word| Condition::of_text(text::near(word, Columns::All)));
        let Some(near) = Condition::all(near.chain([others]).collect()).text else { return Ok(None) };
        // Upwards, because the index walks its lists so and turns pieces of them round for the other way.
        let candidates = self.indexed(&near, "ASC", effort.candidates_max + 1)?;
        if candidates.len() > usize::try_from(effort.candidates_max).expect("a small number") {
            return Ok(None);
        }
        let candidates: Vec<ModelId> = candidates.into_iter().rev().map(ModelId::new).collect();
        let wanted: Vec<String> = words.iter().map(|word| folded(word)).collect();
        let names = self.names_of(&candidates)?;
        let is_named = |id: &ModelId| names.get(id).is_some_and(|name| wanted.iter().all(|word| name.contains(word)));
        let (mut found, rest): (Vec<ModelId>, Vec<ModelId>) = candidates.into_iter().partition(is_named);
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        found.truncate(room);
        let phrases = words.iter().map(|word| Expression::Phrase((*word).to_owned())).collect();
        let whole = Query { expression: Expression::And(phrases), ..Query::default() };
        for id in rest {
            if found.len() == room {
                break;
            }
            if Candidate::read(self, id, &whole)?.is_some_and(|candidate| matches(&whole, &candidate)) {
                found.push(id);
            }
        }
        Ok(Some(found))
    }

    /// Folded names.
    fn names_of(&self, ids: &[ModelId]) -> Answer<HashMap<ModelId, String>> {
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let ids = serde_json::to_string(&ids).expect("numbers are always JSON");
        let sql = "SELECT models.id, models.filename FROM json_each(?1) AS wanted \
            CROSS JOIN models ON models.id = wanted.value";
        let pairs =
            self.all(sql, [ids], "models", |cells| Ok((ModelId::new(cells.integer(0)?), folded(cells.text(1)?))))?;
        Ok(pairs.into_iter().collect())
    }
}

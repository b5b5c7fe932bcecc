//! Answers in the order of names or of sizes, without putting all of them in order.
//!
//! An index of the order is walked from its start, and each model met is held against the answers of the full-text index
//! until the limit is reached. What tells best depends on how many answers there are, so the latest of them are looked at
//! first: few answers are sorted, a larger part of the collection is met by the walk at once, and is judged one by one.
//! Invariant: the way taken never changes the answer. Not here: what a condition is (`search`).

use super::Reader;
use super::candidate::{Candidate, is_judged_by_row};
use super::cells::{Answer, Cells};
use super::search::{Condition, Sql};
use crate::base::ModelId;
use crate::query::{Query, matches};
use rusqlite::params_from_iter;
use rusqlite::types::Value;

/// How much is tried before the next way is taken. The ways differ in cost alone, so that a test may choose others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Effort {
    /// So many answers are sorted.
    pub sorted_max: usize,
    /// So many models are judged one by one.
    pub judged_max: usize,
    /// Names of so many candidates are read.
    pub candidates_max: u32,
    /// A larger answer is no guess: it needs most of what there is.
    pub guessed_max: u32,
}

impl Effort {
    /// Some ten milliseconds each: a row is read in ten microseconds, a model is judged in twenty, and a walk that meets
    /// one answer in a thousand models is as long.
    pub const USUAL: Self = Self { sorted_max: 1000, judged_max: 500, candidates_max: 2000, guessed_max: 1000 };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Name,
    /// The largest first, then by name.
    Size,
}

impl Order {
    /// Its index, which holds the columns that conditions on a row ask about.
    const fn index(self) -> &'static str {
        match self {
            Self::Name => "models_in_order",
            Self::Size => "models_by_size",
        }
    }

    const fn columns(self) -> &'static str {
        match self {
            Self::Name => "models.filename COLLATE NOCASE, models.id",
            Self::Size => "models.file_size DESC, models.filename COLLATE NOCASE, models.id",
        }
    }
}

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    On,
    End,
}

/// How many models a limit of answers meets when every `span / found`-th is one.
fn met(limit: u32, found: &[i64]) -> usize {
    let span = match (found.first(), found.last()) {
        (Some(newest), Some(oldest)) => usize::try_from(newest - oldest).unwrap_or(usize::MAX),
        _ => 0,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_mul(span) / found.len().max(1)
}

impl Reader<'_> {
    /// The models that hold a condition, in an order; at most `limit`.
    pub(super) fn in_order(
        &self,
        query: &Query,
        condition: Condition,
        order: Order,
        limit: u32,
        effort: Effort,
    ) -> Answer<Vec<ModelId>> {
        let Condition { text, row } = condition;
        let mut found = Vec::new();
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut take = |id: i64| {
            found.push(ModelId::new(id));
            if found.len() < room { Walk::On } else { Walk::End }
        };
        if limit == 0 {
            return Ok(found);
        }
        let Some(text) = text else {
            self.walk(order, row, |id| Ok(take(id)))?;
            return Ok(found);
        };
        let sample = u32::try_from(effort.sorted_max + 1).expect("a small number");
        let latest = self.indexed(&text, "DESC", sample)?;
        if latest.len() <= effort.sorted_max {
            return self.sorted(&latest, order, row, limit);
        }
        if met(limit, &latest) <= effort.judged_max
            && is_judged_by_row(query)
            && let Some(found) = self.judged(query, order, row.clone(), limit, effort.judged_max * 2)?
        {
            return Ok(found);
        }
        let all = self.indexed(&text, "ASC", u32::MAX)?;
        self.walk(order, row, |id| Ok(if all.binary_search(&id).is_ok() { take(id) } else { Walk::On }))?;
        Ok(found)
    }

    /// Judges the models one by one along the order; nothing when the limit was not reached in time.
    fn judged(
        &self,
        query: &Query,
        order: Order,
        row: Option<Sql>,
        limit: u32,
        most: usize,
    ) -> Answer<Option<Vec<ModelId>>> {
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut left) = (Vec::new(), most.max(1));
        self.walk(order, row, |id| {
            left -= 1;
            let model = ModelId::new(id);
            if Candidate::read(self, model, query)?.is_some_and(|candidate| matches(query, &candidate)) {
                found.push(model);
            }
            Ok(if found.len() < room && left > 0 { Walk::On } else { Walk::End })
        })?;
        Ok((found.len() == room).then_some(found))
    }

    /// Visits the models that hold a condition on their rows, along an order.
    fn walk(&self, order: Order, row: Option<Sql>, mut visit: impl FnMut(i64) -> Answer<Walk>) -> Answer<()> {
        let Sql { text, values } = row.unwrap_or_else(|| Sql::new("1", Vec::new()));
        let (index, columns) = (order.index(), order.columns());
        let sql = format!(
            "SELECT models.id FROM models INDEXED BY {index} \
            WHERE models.deleted = 0 AND ({text}) ORDER BY {columns}"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if visit(Cells::new(row, "models").integer(0)?)? == Walk::End {
                break;
            }
        }
        Ok(())
    }

    /// These models, if they hold a condition on their rows, in order.
    fn sorted(&self, ids: &[i64], order: Order, row: Option<Sql>, limit: u32) -> Answer<Vec<ModelId>> {
        let ids = serde_json::to_string(ids).expect("numbers are always JSON");
        let Sql { text, values } = row.unwrap_or_else(|| Sql::new("1", Vec::new()));
        let sql = format!(
            "SELECT models.id FROM json_each(?) AS wanted CROSS JOIN models ON models.id = wanted.value \
            WHERE models.deleted = 0 AND ({text}) ORDER BY {} LIMIT ?",
            order.columns()
        );
        let values = std::iter::once(Value::Text(ids)).chain(values).chain([Value::Integer(limit.into())]);
        self.all(&sql, params_from_iter(values), "models", |cells| cells.integer(0).map(ModelId::new))
    }

    /// Keys that a full-text expression finds, in their order.
    pub(super) fn indexed(&self, text: &str, direction: &str, limit: u32) -> Answer<Vec<i64>> {
        let sql = format!("SELECT rowid FROM model_index WHERE model_index MATCH ? ORDER BY rowid {direction} LIMIT ?");
        let values = [Value::Text(text.to_owned()), Value::Integer(limit.into())];
        self.all(&sql, params_from_iter(values), "model_index", |cells| cells.integer(0))
    }
}

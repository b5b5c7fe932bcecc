//! The models that answer a query, found by index.
//!
//! Invariants: the answer is that of `query::matches` for every model that is not in the trash; texts and values of a
//! query are parameters, and full-text expressions hold nothing but our own words and hex digits. Not here: the index
//! itself (`text`), what a query means (`query`).
//!
//! Order: relevance shows models whose name alone answers before the others, and in both the ones registered last first.
//! That order is the index's own, and so is that of `sort:added`: a limit ends the work early whatever the number of
//! answers. By name and by size all answers are looked at.

use super::cells::Answer;
use super::models::hex_bound;
use super::text::{Columns, Extent, containing, every, having};
use super::{CatalogError, Reader};
use crate::base::{ModelId, ModelType};
use crate::query::{Amount, Comparison, Expression, Field, Key, Query, Sort, folded};
use crate::tree::{Target, TargetFolder};
use rusqlite::params_from_iter;
use rusqlite::types::Value;
use std::ops::Bound;

const NS_PER_S: f64 = 1e9;
/// Digits of a crc32.
const CRC32_DIGITS: usize = 8;
const BY_NAME: &str = "models.filename COLLATE NOCASE, models.id";
const LATEST_FIRST: &str = "models.id DESC";

/// A condition in SQL with its parameters, in the order of the question marks.
#[derive(Clone, Debug, Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn new(text: impl Into<String>, values: Vec<Value>) -> Self {
        Self { text: text.into(), values }
    }

    const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn joined(parts: Vec<Self>, with: &str) -> Self {
        let mut all = Self::default();
        for part in parts {
            if !all.is_empty() {
                all.text.push_str(with);
            }
            all.text.push_str(&format!("({})", part.text));
            all.values.extend(part.values);
        }
        all
    }
}

/// What must hold: a full-text expression and a condition on the row, either of which may be missing.
#[derive(Clone, Debug, Default)]
struct Condition {
    text: Option<String>,
    row: Option<Sql>,
}

impl Condition {
    fn of_text(text: String) -> Self {
        Self { text: Some(text), row: None }
    }

    fn of_row(text: impl Into<String>, values: Vec<Value>) -> Self {
        Self { text: None, row: Some(Sql::new(text, values)) }
    }

    fn never() -> Self {
        Self::of_row("0", Vec::new())
    }

    /// Everything as one condition on the row.
    fn into_sql(self) -> Sql {
        let text = self.text.map(|text| {
            let sql = "models.id IN (SELECT rowid FROM model_index WHERE model_index MATCH ?)";
            Sql::new(sql, vec![Value::Text(text)])
        });
        let parts: Vec<Sql> = text.into_iter().chain(self.row).collect();
        if parts.is_empty() { Sql::new("1", Vec::new()) } else { Sql::joined(parts, " AND ") }
    }

    fn all(parts: Vec<Self>) -> Self {
        let (mut texts, mut rows) = (Vec::new(), Vec::new());
        for part in parts {
            texts.extend(part.text);
            rows.extend(part.row);
        }
        Self { text: joined(&texts, "AND"), row: (!rows.is_empty()).then(|| Sql::joined(rows, " AND ")) }
    }

    fn any(parts: Vec<Self>) -> Self {
        let (mut texts, mut rest) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self { text: Some(text), row: None } => texts.push(text),
                other => rest.push(other.into_sql()),
            }
        }
        let text = joined(&texts, "OR").map(Self::of_text);
        if rest.is_empty() {
            return text.unwrap_or_default();
        }
        let parts = text.map(Self::into_sql).into_iter().chain(rest).collect();
        Self { text: None, row: Some(Sql::joined(parts, " OR ")) }
    }

    const fn is_text(&self) -> bool {
        self.text.is_some() && self.row.is_none()
    }

    fn denied(self) -> Self {
        let Sql { text, values } = self.into_sql();
        Self::of_row(format!("NOT ({text})"), values)
    }

    /// This, and not the other. What is denied is taken from the rest, which costs less than all but it.
    fn without(self, other: Self) -> Self {
        match other {
            Self { text: Some(denied), row: None } => {
                let wanted = self.text.unwrap_or_else(every);
                Self { text: Some(format!("({wanted}) NOT ({denied})")), row: self.row }
            }
            other => Self::all(vec![self, other.denied()]),
        }
    }
}

/// Full-text expressions side by side.
fn joined(texts: &[String], with: &str) -> Option<String> {
    match texts {
        [] => None,
        [one] => Some(one.clone()),
        many => {
            let parts: Vec<String> = many.iter().map(|text| format!("({text})")).collect();
            Some(parts.join(&format!(" {with} ")))
        }
    }
}

struct Compiler<'a> {
    targets: &'a [Target],
    columns: Columns,
}

impl Compiler<'_> {
    fn condition(&self, expression: &Expression) -> Condition {
        match expression {
            Expression::Everything => Condition::default(),
            Expression::Word(text) | Expression::Phrase(text) => Condition::of_text(containing(text, self.columns)),
            Expression::Key { key, values } => {
                Condition::any(values.iter().map(|value| self.key(*key, value)).collect())
            }
            Expression::Compare { field, comparison, amount } => compare(*field, *comparison, amount),
            Expression::Not(_) => self.conjunction(std::slice::from_ref(expression)),
            Expression::And(parts) => self.conjunction(parts),
            Expression::Or(parts) => Condition::any(parts.iter().map(|part| self.condition(part)).collect()),
        }
    }

    /// Side by side, never one in the other: the index's parser nests no deeper than a query does.
    fn conjunction(&self, parts: &[Expression]) -> Condition {
        let everywhere = Compiler { columns: Columns::All, ..*self };
        let (mut wanted, mut denied) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Expression::Not(inner) => denied.push(everywhere.condition(inner)),
                other => wanted.push(self.condition(other)),
            }
        }
        let (texts, rows): (Vec<_>, Vec<_>) = denied.into_iter().partition(Condition::is_text);
        wanted.extend(rows.into_iter().map(Condition::denied));
        let wanted = Condition::all(wanted);
        if texts.is_empty() { wanted } else { wanted.without(Condition::any(texts)) }
    }

    fn key(&self, key: Key, value: &str) -> Condition {
        let value = folded(value);
        let extent = match key {
            Key::Source if value == "all" => return Condition::of_text(every()),
            Key::Base | Key::License => Extent::Start,
            _ => Extent::Whole,
        };
        if let Some(text) = having(key, &value, extent) {
            return Condition::of_text(text);
        }
        match key {
            Key::State => Condition::of_row(
                "(SELECT state FROM blobs WHERE blobs.id = models.blob_id) = ?",
                vec![Value::Text(value)],
            ),
            Key::Hash => with_hash(&value),
            Key::App => self.shown_by(&value),
            // Hubs know it; no model here says it.
            _ => Condition::never(),
        }
    }

    /// Whether an enabled application shows the model: as `tree::homes_of_model` answers.
    fn shown_by(&self, name: &str) -> Condition {
        let named = |target: &&Target| target.enabled && folded(target.name.as_str()) == name;
        let Some(target) = self.targets.iter().find(named) else { return Condition::never() };
        let unknown = Sql::new("models.primary_type = ?", vec![text(ModelType::Unknown.as_str())]);
        let folders = target.folders.iter().filter(|folder| !folder.directories).filter_map(takes);
        Condition { text: None, row: Some(Sql::joined(std::iter::once(unknown).chain(folders).collect(), " OR ")) }
    }
}

fn text(word: &str) -> Value {
    Value::Text(word.to_owned())
}

/// Whether a folder of an application lists a model.
fn takes(folder: &TargetFolder) -> Option<Sql> {
    let mut parts = vec![Sql::new("models.primary_type = ?", vec![text(folder.model_type?.as_str())])];
    let any = |parts: Vec<Sql>| Sql::joined(parts, " OR ");
    if !folder.bases.is_empty() {
        let starts =
            |base: &String| Sql::new("coalesce(models.base, '') LIKE ? ESCAPE '\\'", vec![like(base, "", "%")]);
        parts.push(any(folder.bases.iter().map(starts).collect()));
    }
    if !folder.suffixes.is_empty() {
        parts.push(any(folder.suffixes.iter().map(|suffix| ends_with(suffix)).collect()));
    }
    for suffix in &folder.excluded_suffixes {
        let Sql { text, values } = ends_with(suffix);
        parts.push(Sql::new(format!("NOT ({text})"), values));
    }
    Some(Sql::joined(parts, " AND "))
}

/// What begins with a dot has a name, so the first character is no part of a suffix; without one, the name has no dot.
fn ends_with(suffix: &str) -> Sql {
    if suffix.is_empty() {
        return Sql::new("instr(substr(models.filename, 2), '.') = 0", Vec::new());
    }
    Sql::new("substr(models.filename, 2) LIKE ? ESCAPE '\\'", vec![like(suffix, "%", "")])
}

fn like(literal: &str, before: &str, after: &str) -> Value {
    let escaped = literal.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Value::Text(format!("{before}{escaped}{after}"))
}

fn compare(field: Field, comparison: Comparison, amount: &Amount) -> Condition {
    let (column, factor) = match field {
        Field::Size => ("models.file_size", 1.0),
        Field::Added | Field::Updated => ("models.added_ns", NS_PER_S),
        // Only hubs know it about their files.
        Field::Downloads | Field::Rating => return Condition::never(),
    };
    let (low, high) = comparison.range(amount);
    let side = |bound: Bound<f64>, open: &str, closed: &str| match bound {
        Bound::Unbounded => None,
        Bound::Excluded(value) => Some(Sql::new(format!("{column} {open} ?"), vec![Value::Real(value * factor)])),
        Bound::Included(value) => Some(Sql::new(format!("{column} {closed} ?"), vec![Value::Real(value * factor)])),
    };
    let parts = side(low, ">", ">=").into_iter().chain(side(high, "<", "<=")).collect();
    Condition { text: None, row: Some(Sql::joined(parts, " AND ")) }
}

/// A hash that starts with these digits, as `models_by_hash`.
fn with_hash(prefix: &str) -> Condition {
    let (low, high) = (Value::Blob(hex_bound(prefix, 0, 32)), Value::Blob(hex_bound(prefix, 15, 32)));
    let mut sql = String::from(
        "models.blob_id IN (SELECT id FROM blobs WHERE sha256 BETWEEN ? AND ? \
        UNION ALL SELECT id FROM blobs WHERE blake3 BETWEEN ? AND ? \
        UNION ALL SELECT id FROM blobs WHERE autov1 >= ? AND autov1 < ? \
        UNION ALL SELECT id FROM blobs WHERE autov3 >= ? AND autov3 < ?",
    );
    // `g` comes after every hex digit.
    let (start, end) = (text(prefix), Value::Text(format!("{prefix}g")));
    let mut values = vec![low.clone(), high.clone(), low, high, start.clone(), end.clone(), start, end];
    if prefix.len() <= CRC32_DIGITS {
        sql.push_str(" UNION ALL SELECT id FROM blobs WHERE crc32 BETWEEN ? AND ?");
        values.extend([Value::Blob(hex_bound(prefix, 0, 4)), Value::Blob(hex_bound(prefix, 15, 4))]);
    }
    sql.push(')');
    Condition::of_row(sql, values)
}

impl Reader<'_> {
    /// The models that answer, in the order of the query; at most its limit and at most `limit_max`.
    pub fn search(&self, query: &Query, limit_max: u32) -> Result<Vec<ModelId>, CatalogError> {
        let limit = query.limit.unwrap_or(limit_max).min(limit_max);
        let targets = self.targets()?;
        let compiled = |columns| Compiler { targets: &targets, columns }.condition(&query.expression);
        let all = compiled(Columns::All);
        let order = match query.order() {
            Sort::Relevance => {
                let by_name = compiled(Columns::Name);
                let mut found = self.found(by_name.clone(), LATEST_FIRST, limit)?;
                let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
                if left > 0 {
                    found.extend(self.found(all.without(by_name), LATEST_FIRST, left)?);
                }
                return Ok(found);
            }
            Sort::Size => format!("models.file_size DESC, {BY_NAME}"),
            // Models are registered one after the other: the order of their keys is that of their times.
            Sort::Added | Sort::Updated => LATEST_FIRST.to_owned(),
            // What only hubs know about their files says nothing about local ones.
            Sort::Name | Sort::Downloads | Sort::Rating | Sort::Likes => BY_NAME.to_owned(),
        };
        self.found(all, &order, limit)
    }

    fn found(&self, condition: Condition, order: &str, limit: u32) -> Answer<Vec<ModelId>> {
        let Condition { text, row } = condition;
        let mut values = Vec::new();
        let (from, order) = match text {
            // The index walks in the order of its rows, from either end.
            Some(text) => {
                values.push(Value::Text(text));
                let from =
                    "model_index CROSS JOIN models ON models.id = model_index.rowid WHERE model_index MATCH ? AND";
                (from, if order == LATEST_FIRST { "model_index.rowid DESC" } else { order })
            }
            None => ("models WHERE", order),
        };
        let row = row.map(|row| {
            values.extend(row.values);
            format!("AND ({})", row.text)
        });
        values.push(Value::Integer(limit.into()));
        let row = row.unwrap_or_default();
        let sql = format!("SELECT models.id FROM {from} models.deleted = 0 {row} ORDER BY {order} LIMIT ?");
        self.all(&sql, params_from_iter(values), "models", |cells| cells.integer(0).map(ModelId::new))
    }
}

//! The models that answer a query, found by index.
//!
//! Invariants: the answer is that of `query::matches` for every model that is not in the trash; texts and values of a
//! query are parameters, and full-text expressions hold nothing but our own words and hex digits. Not here: the index
//! itself (`text`), what a query means (`query`).
//!
//! Order: relevance shows models whose name alone answers before the others, and in both the ones registered last first.
//! That order is the index's own, and so is that of `sort:added`: a limit ends the work early whatever the number of
//! answers. Names and sizes have indexes of their own (`ordered`); several words at once are guessed first (`guess`).

use super::candidate::has;
use super::cells::Answer;
use super::models::hex_bound;
use super::ordered::{Effort, Order};
use super::text::{Columns, Extent, containing, every, having, none};
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
/// Bases that are asked for one by one; a prefix among more is left to the index, which looks through all that begin so.
const BASES_MAX: usize = 200;

/// A condition in SQL with its parameters, in the order of the question marks.
#[derive(Clone, Debug, Default)]
pub(super) struct Sql {
    pub text: String,
    pub values: Vec<Value>,
}

impl Sql {
    pub fn new(text: impl Into<String>, values: Vec<Value>) -> Self {
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
pub(super) struct Condition {
    pub text: Option<String>,
    pub row: Option<Sql>,
}

impl Condition {
    pub fn of_text(text: String) -> Self {
        Self { text: Some(text), row: None }
    }

    fn of_row(text: impl Into<String>, values: Vec<Value>) -> Self {
        Self { text: None, row: Some(Sql::new(text, values)) }
    }

    /// No constant: a statement that names an index would find no use for it.
    fn never() -> Self {
        Self::of_row("models.file_size < 0", Vec::new())
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

    pub fn all(parts: Vec<Self>) -> Self {
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

pub(super) struct Compiler<'a> {
    targets: &'a [Target],
    /// The bases that models have, if they are few enough to name.
    bases: Option<&'a [String]>,
    columns: Columns,
}

impl Compiler<'_> {
    pub fn condition(&self, expression: &Expression) -> Condition {
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
        if let (Key::Base, Some(bases)) = (key, self.bases) {
            let meant = bases.iter().filter(|base| folded(base).starts_with(&value));
            let meant: Vec<Condition> =
                meant.filter_map(|base| having(key, base, Extent::Whole)).map(Condition::of_text).collect();
            return if meant.is_empty() { Condition::of_text(none()) } else { Condition::any(meant) };
        }
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
        self.search_with(query, limit_max, Effort::USUAL)
    }

    pub(super) fn search_with(&self, query: &Query, limit_max: u32, effort: Effort) -> Answer<Vec<ModelId>> {
        let limit = query.limit.unwrap_or(limit_max).min(limit_max);
        let targets = self.targets()?;
        let asks_base = |part: &Expression| matches!(part, Expression::Key { key: Key::Base, .. });
        let bases = if has(&query.expression, &asks_base) { self.bases()? } else { None };
        let compiler = |columns| Compiler { targets: &targets, bases: bases.as_deref(), columns };
        let all = compiler(Columns::All).condition(&query.expression);
        match query.order() {
            Sort::Relevance => {
                if let Some(found) = self.guessed(query, &compiler(Columns::All), limit, effort)? {
                    return Ok(found);
                }
                let by_name = compiler(Columns::Name).condition(&query.expression);
                let mut found = self.found(by_name.clone(), limit)?;
                let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
                if left > 0 {
                    found.extend(self.found(all.without(by_name), left)?);
                }
                Ok(found)
            }
            Sort::Size => self.in_order(query, all, Order::Size, limit, effort),
            // Models are registered one after the other: the order of their keys is that of their times.
            Sort::Added | Sort::Updated => self.found(all, limit),
            // What only hubs know about their files says nothing about local ones.
            Sort::Name | Sort::Downloads | Sort::Rating | Sort::Likes => {
                self.in_order(query, all, Order::Name, limit, effort)
            }
        }
    }

    /// The models that hold a condition, the latest first. The index walks in the order of its rows, from either end.
    pub(super) fn found(&self, condition: Condition, limit: u32) -> Answer<Vec<ModelId>> {
        let (text, row) = match condition {
            Condition { text: Some(text), row: None } => {
                return Ok(self.indexed(&text, "DESC", limit)?.into_iter().map(ModelId::new).collect());
            }
            Condition { text, row } => (text, row.unwrap_or_else(|| Sql::new("1", Vec::new()))),
        };
        let (from, order) = match text {
            Some(_) => (
                "model_index CROSS JOIN models ON models.id = model_index.rowid WHERE model_index MATCH ? AND",
                "model_index.rowid",
            ),
            None => ("models WHERE", "models.id"),
        };
        let sql =
            format!("SELECT models.id FROM {from} models.deleted = 0 AND ({}) ORDER BY {order} DESC LIMIT ?", row.text);
        let values = text.map(Value::Text).into_iter().chain(row.values).chain([Value::Integer(limit.into())]);
        self.all(&sql, params_from_iter(values), "models", |cells| cells.integer(0).map(ModelId::new))
    }

    /// Every base that a model has; nothing when there are too many to name.
    fn bases(&self) -> Answer<Option<Vec<String>>> {
        let sql =
            "SELECT base FROM models INDEXED BY models_by_base WHERE deleted = 0 AND base > ?1 ORDER BY base LIMIT 1";
        let mut bases: Vec<String> = Vec::new();
        while bases.len() <= BASES_MAX {
            let last = bases.last().map_or("", String::as_str);
            match self.first(sql, [last], "models", |cells| cells.text(0).map(str::to_owned))? {
                Some(next) => bases.push(next),
                None => return Ok(Some(bases)),
            }
        }
        Ok(None)
    }
}

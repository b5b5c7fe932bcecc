//! Models in the catalog: registering one with its verdict, and judging it again.
//!
//! Invariant: a verdict, its reasons and the places where the model is shown change together.

use super::linked;
use super::shelf::Shelf;
use crate::base::{BaseModel, BlobId, EntryName, Label, ModelId, ModelType};
use crate::catalog::{CatalogError, ModelRow, NewModel, Writer};
use crate::classify::{Method, Reason, Verdict};
use crate::tree::Source;
use serde_json::{Value, json};

/// What is known about a model when it is registered.
pub(super) struct NewFacts<'a> {
    pub blob: BlobId,
    pub name: &'a EntryName,
    pub verdict: &'a Verdict,
    pub format: &'a str,
    pub tensor_count: Option<u64>,
    pub folders: &'a [String],
    pub source: Source,
    pub creator: Option<Label>,
    pub license: Option<&'a str>,
    pub tags: &'a [Label],
}

/// The model of this content, made and placed when there is none. One that is in the trash comes back; one that was
/// judged with less is judged again.
pub(super) fn register(w: &mut Writer<'_>, shelf: &mut Shelf, facts: &NewFacts<'_>) -> Result<ModelId, CatalogError> {
    let known = w.models_of_blob(facts.blob)?;
    if let Some(row) = known.iter().find(|row| !row.deleted).or(known.first()) {
        linked::keep(w, row.id)?;
        let before = shelf.homes_of(w, row.id)?;
        if row.deleted {
            w.set_deleted(row.id, false)?;
        }
        if is_better(facts.verdict, row) {
            w.set_judged_by(row.id, facts.name, facts.folders)?;
            w.set_verdict(row.id, facts.verdict)?;
            w.set_evidence(row.id, &lines_of(&facts.verdict.reasons))?;
        }
        shelf.reshelve_model(w, row.id, &before)?;
        return Ok(row.id);
    }
    let model = w.add_model(&NewModel {
        blob: facts.blob,
        name: facts.name.clone(),
        verdict: facts.verdict.clone(),
        format: facts.format.to_owned(),
        tensor_count: facts.tensor_count,
        folders: facts.folders.to_vec(),
        source: facts.source,
        creator: facts.creator.clone(),
        license: facts.license.map(str::to_owned),
        tags: facts.tags.to_vec(),
        added: w.now(),
    })?;
    w.set_evidence(model, &lines_of(&facts.verdict.reasons))?;
    shelf.place_model(w, model)?;
    Ok(model)
}

/// What a person said stays; else the surer verdict wins.
fn is_better(verdict: &Verdict, row: &ModelRow) -> bool {
    row.manual.model_type.is_none() && verdict.confidence > row.confidence
}

/// Reasons as the catalog keeps them.
pub(super) fn lines_of(reasons: &[Reason]) -> Vec<String> {
    let line = |reason: &Reason| {
        json!({
            "method": reason.method.as_str(),
            "rule": reason.rule,
            "saw": reason.saw,
            "type": reason.model_type.map(ModelType::as_str),
            "base": reason.base.as_ref().map(BaseModel::as_str),
            "weight": reason.weight,
        })
        .to_string()
    };
    reasons.iter().map(line).collect()
}

/// The reasons that were kept; a line of another version is left out.
pub(super) fn reasons_of(lines: &[String]) -> Vec<Reason> {
    let reason = |line: &String| {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        Some(Reason {
            method: Method::parse(text("method")?)?,
            rule: text("rule")?.to_owned(),
            saw: text("saw")?.to_owned(),
            model_type: text("type").and_then(|word| ModelType::parse(word).ok()),
            base: text("base").and_then(|word| BaseModel::parse(word).ok()),
            weight: value.get("weight").and_then(Value::as_f64).unwrap_or(0.0) as f32,
        })
    };
    lines.iter().filter_map(reason).collect()
}

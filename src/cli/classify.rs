//! `modelfs classify` and `tag`: what models are, why, and what a person says they are.

use super::error::Failure;
use super::output::Output;
use super::table::printable;
use super::verb_arguments::{ClassifyArguments, TagArguments};
use super::{Context, exit, figures, report};
use crate::base::{BaseModel, FaultKind, ModelType, Safety};
use crate::classify::Reason;
use crate::library::{Decision, Explanation, Judgement, Library, LibraryError, Reclassified, Rewrite, VerdictChange};
use serde_json::{Value, json};
use std::path::Path;

pub fn run(context: &Context, wanted: &ClassifyArguments, output: &mut Output) -> Result<u8, Failure> {
    if let Some(text) = &wanted.set {
        return decide(context, wanted, &Library::parse_decisions(text)?, output);
    }
    if wanted.unset {
        return decide(context, wanted, &[Decision::NoType, Decision::NoBase], output);
    }
    let (files, references): (Vec<&String>, Vec<&String>) = match context.library() {
        Ok(library) => wanted.references.iter().partition(|text| is_file_outside(&library, text)),
        Err(_) => wanted.references.iter().partition(|text| Path::new(text.as_str()).is_file()),
    };
    if wanted.explain || !files.is_empty() {
        return explain(context, wanted, &files, output);
    }
    let rewrite = if wanted.diff { Rewrite::Preview } else { Rewrite::Write };
    let references: Vec<String> = references.into_iter().cloned().collect();
    let done = context.library()?.reclassify(&references, rewrite)?;
    if wanted.json {
        output.json(&reclassified_json(&done, rewrite))?;
    } else {
        write_reclassified(&done, rewrite, output)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

/// A file of this machine that is not a place in a mount: those are models of the store.
fn is_file_outside(library: &Library, text: &str) -> bool {
    Path::new(text).is_file() && (!text.contains('/') || library.info(text).is_err())
}

fn decide(
    context: &Context,
    wanted: &ClassifyArguments,
    decisions: &[Decision],
    output: &mut Output,
) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut all: Vec<Value> = Vec::new();
    for reference in &wanted.references {
        let decided = library.decide(reference, decisions).and_then(|_| library.info(reference));
        match decided {
            Ok(details) => {
                let (summary, base) = (&details.summary, word(details.summary.base.as_ref()));
                if wanted.json {
                    all.push(json!({
                        "id": summary.id.get(), "name": summary.name, "type": summary.model_type.as_str(),
                        "base": summary.base.as_ref().map(BaseModel::as_str), "method": summary.method,
                    }));
                } else {
                    let what = what_it_is(summary.model_type, &base, summary.confidence, &summary.method);
                    output.line(printable(&format!("{}: {what}", summary.name)))?;
                }
            }
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn word(base: Option<&BaseModel>) -> String {
    base.map(|base| format!(" / {base}")).unwrap_or_default()
}

fn what_it_is(model_type: ModelType, base: &str, confidence: f32, method: &str) -> String {
    match method {
        "manual" => format!("{model_type}{base}, by hand"),
        "none" => format!("{model_type}{base}: nothing is sure enough"),
        _ => format!("{model_type}{base} ({:.0} % sure, by {method})", confidence * 100.0),
    }
}

fn judgement(of: &Judgement) -> String {
    let mut text = what_it_is(of.model_type, &word(of.base.as_ref()), of.confidence, &of.method);
    for more in of.sub_type.iter().chain(&of.precision) {
        text.push_str(", ");
        text.push_str(more);
    }
    text
}

fn judgement_json(of: &Judgement) -> Value {
    json!({
        "type": of.model_type.as_str(),
        "base": of.base.as_ref().map(BaseModel::as_str),
        "sub_type": of.sub_type,
        "precision": of.precision,
        "confidence": rounded(of.confidence),
        "method": of.method,
    })
}

fn rounded(share: f32) -> f64 {
    (f64::from(share) * 100.0).round() / 100.0
}

fn reclassified_json(done: &Reclassified, rewrite: Rewrite) -> Value {
    let change = |change: &VerdictChange| {
        json!({
            "id": change.id.get(), "name": change.name,
            "before": judgement_json(&change.before), "after": judgement_json(&change.after),
        })
    };
    let model = |(id, name, is): &(crate::base::ModelId, String, Judgement)| {
        let mut value = judgement_json(is);
        value["id"] = id.get().into();
        value["name"] = name.as_str().into();
        value
    };
    json!({
        "judged": done.judged_count,
        "written": rewrite == Rewrite::Write,
        "changes": done.changes.iter().map(change).collect::<Vec<_>>(),
        "models": done.models.iter().map(model).collect::<Vec<_>>(),
    })
}

fn write_reclassified(done: &Reclassified, rewrite: Rewrite, output: &mut Output) -> Result<(), Failure> {
    for (_, name, is) in &done.models {
        output.line(printable(&format!("{name}: {}", judgement(is))))?;
    }
    for change in &done.changes {
        output.line(printable(&format!("{} (id {})", change.name, change.id)))?;
        output.line(format!("  was  {}", printable(&judgement(&change.before))))?;
        output.line(format!("  {}  {}", if rewrite == Rewrite::Write { "now" } else { "new" }, {
            printable(&judgement(&change.after))
        }))?;
    }
    let (judged, changed) = (figures::count(done.judged_count as u64, "model"), done.changes.len());
    output.line(match (rewrite, changed) {
        (_, 0) => format!("{judged} judged, nothing changes"),
        (Rewrite::Write, _) => format!("{judged} judged, {changed} changed"),
        (Rewrite::Preview, _) => format!("{judged} judged, {changed} would change; run without --diff to change them"),
    })
}

fn explain(
    context: &Context,
    wanted: &ClassifyArguments,
    files: &[&String],
    output: &mut Output,
) -> Result<u8, Failure> {
    let library = context.library();
    let confidence_min = context.settings.classify_threshold.value;
    let outside = |file: &str| Library::explain_file(Path::new(file), library.as_ref().ok(), confidence_min);
    let mut code = exit::SUCCESS;
    let mut all: Vec<Value> = Vec::new();
    for reference in &wanted.references {
        let explained = if files.contains(&reference) {
            outside(reference)
        } else {
            match &library {
                Ok(library) => library.explain(reference),
                // Whoever names a file that is not there is told that, not that there is no store.
                Err(error) if error.fault().kind != FaultKind::NotFound => Err(LibraryError::Part(error.fault())),
                Err(_) => outside(reference),
            }
        };
        match explained {
            Ok(explanation) if wanted.json => all.push(explanation_json(&explanation)),
            Ok(explanation) if wanted.explain => write_explanation(&explanation, output)?,
            Ok(explanation) => output.line(printable(&headline(&explanation)))?,
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn headline(of: &Explanation) -> String {
    let verdict = &of.explained.verdict;
    let by_hand = of.manual_type.is_some();
    let base = of.manual_base.as_ref().or(verdict.base.as_ref());
    let method = if by_hand { "manual" } else { verdict.method.as_str() };
    let model_type = of.manual_type.unwrap_or(verdict.model_type);
    let mut text = format!("{}: {}", of.name, what_it_is(model_type, &word(base), verdict.confidence, method));
    for more in verdict.sub_type.iter().chain(&verdict.precision).chain(&verdict.quantization) {
        text.push_str(", ");
        text.push_str(more);
    }
    if let Some(reason) = &of.no_header {
        text.push_str(&format!("; {reason}"));
    }
    text
}

fn write_explanation(of: &Explanation, output: &mut Output) -> Result<(), Failure> {
    output.line(printable(&headline(of)))?;
    output.line("  evidence")?;
    let format = of.format.clone().unwrap_or_else(|| "no header".to_owned());
    output.line(format!("    name      {}", printable(&of.name)))?;
    output.line(format!("    folders   {}", printable(&of.folders.join("/"))))?;
    output.line(format!("    size      {} bytes", of.size_bytes))?;
    output.line(format!("    header    {format}, {}", figures::count(of.tensor_count, "tensor")))?;
    for tensor in &of.tensors {
        output.line(format!("    tensor    {}", printable(tensor)))?;
    }
    for (key, value) in &of.metadata {
        output.line(format!("    metadata  {} = {}", printable(key), printable(value)))?;
    }
    for danger in &of.dangers {
        output.line(format!("    import    {} ({})", printable(&danger.what), danger.safety))?;
    }
    if of.manual_type.is_some() || of.manual_base.is_some() {
        let manual_type = of.manual_type.map_or("", ModelType::as_str);
        output.line(format!("    by hand   {manual_type}{}: above everything", word(of.manual_base.as_ref())))?;
    }
    output.line("  rules that fired")?;
    for reason in &of.explained.verdict.reasons {
        output.line(format!("    {}", printable(&reason_line(reason))))?;
    }
    if of.explained.verdict.reasons.is_empty() {
        output.line("    none")?;
    }
    output.line("  why nothing else")?;
    if let Some(guess) = of.explained.guess {
        output.line(format!("    {guess}: nearest, but under the threshold"))?;
    }
    for rival in &of.explained.rivals {
        output.line(format!("    {} ({:.2}): {}", rival.model_type, rival.confidence, printable(&rival.why)))?;
    }
    for miss in &of.explained.near_misses {
        output.line(format!(
            "    {}: rule `{}` nearly fired, but {}",
            miss.model_type,
            miss.rule,
            printable(&miss.missing)
        ))?;
    }
    Ok(())
}

fn reason_line(reason: &Reason) -> String {
    let says: Vec<&str> =
        reason.model_type.iter().map(|word| word.as_str()).chain(reason.base.iter().map(BaseModel::as_str)).collect();
    let (method, rule, weight) = (reason.method.as_str(), &reason.rule, reason.weight);
    format!("{method:<9} {} ({weight:.2}): rule `{rule}` saw {}", says.join(" / "), reason.saw)
}

fn explanation_json(of: &Explanation) -> Value {
    let verdict = &of.explained.verdict;
    let reason = |reason: &Reason| {
        json!({
            "method": reason.method.as_str(), "rule": reason.rule, "saw": reason.saw,
            "type": reason.model_type.map(ModelType::as_str), "base": reason.base.as_ref().map(BaseModel::as_str),
            "weight": rounded(reason.weight),
        })
    };
    let rivals = of.explained.rivals.iter().map(
        |rival| json!({ "type": rival.model_type.as_str(), "confidence": rounded(rival.confidence), "why": rival.why }),
    );
    let misses = of
        .explained
        .near_misses
        .iter()
        .map(|miss| json!({ "rule": miss.rule, "type": miss.model_type.as_str(), "missing": miss.missing }));
    let dangers = of.dangers.iter().map(|danger| json!({ "what": danger.what, "safety": danger.safety.as_str() }));
    let by_hand = of.manual_type.is_some();
    json!({
        "id": of.id.map(|id| id.get()),
        "name": of.name,
        "folders": of.folders,
        "size": of.size_bytes,
        "format": of.format,
        "error": of.no_header,
        "tensor_count": of.tensor_count,
        "type": of.manual_type.unwrap_or(verdict.model_type).as_str(),
        "base": of.manual_base.as_ref().or(verdict.base.as_ref()).map(BaseModel::as_str),
        "sub_type": verdict.sub_type,
        "precision": verdict.precision,
        "quantization": verdict.quantization,
        "architecture": verdict.architecture,
        "confidence": if by_hand { 1.0 } else { rounded(verdict.confidence) },
        "method": if by_hand { "manual" } else { verdict.method.as_str() },
        "automatic_type": verdict.model_type.as_str(),
        "guess": of.explained.guess.map(ModelType::as_str),
        "trigger_words": verdict.trigger_words,
        "safety": of.safety.map(Safety::as_str),
        "dangers": dangers.collect::<Vec<_>>(),
        "metadata": of.metadata.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>(),
        "reasons": verdict.reasons.iter().map(reason).collect::<Vec<_>>(),
        "rivals": rivals.collect::<Vec<_>>(),
        "near_misses": misses.collect::<Vec<_>>(),
    })
}

pub fn tag(context: &Context, wanted: &TagArguments, output: &mut Output) -> Result<u8, Failure> {
    let Some((reference, changes)) = wanted.words.split_first() else { return Ok(exit::USAGE) };
    let summary = context.library()?.tag(reference, changes)?;
    if wanted.json {
        output.json(&json!({ "name": summary.name, "tags": summary.tags }))?;
    } else {
        let tags = if summary.tags.is_empty() { "no tags".to_owned() } else { summary.tags.join(", ") };
        output.line(printable(&format!("{}: {tags}", summary.name)))?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

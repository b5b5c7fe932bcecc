//! `modelfs ls`, `info` and `stats`: what is in the collection.

use super::enrich::{hub_json, hub_lines};
use super::error::Failure;
use super::output::Output;
use super::table::{Align, Table, printable};
use super::verb_arguments::{InfoArguments, LsArguments};
use super::{Context, exit, figures};
use crate::base::Safety;
use crate::classify::{Danger, Network};
use crate::library::{ModelDetails, ModelSummary, OriginInfo, StatsRow, StoreStats};
use serde_json::{Value, json};

pub const NO_ANSWER: &str = "no model answers to this query";

pub fn list(context: &Context, wanted: &LsArguments, output: &mut Output) -> Result<u8, Failure> {
    let query = wanted.query.join(" ");
    let query = (!query.trim().is_empty()).then_some(query.as_str());
    let models = context.library()?.list(query)?;
    let nothing = if query.is_some() { NO_ANSWER } else { "the store holds no models yet" };
    write_models(context, &models, wanted.json, nothing, output)
}

fn write_models(
    context: &Context,
    models: &[ModelSummary],
    as_json: bool,
    nothing: &str,
    output: &mut Output,
) -> Result<u8, Failure> {
    if as_json {
        output.json(&models.iter().map(summary_json).collect())?;
    } else {
        output.table(&table_of(models))?;
        if models.is_empty() {
            context.say(nothing);
        }
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

pub fn table_of(models: &[ModelSummary]) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("NAME", Align::Left),
        ("TYPE", Align::Left),
        ("BASE", Align::Left),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
        ("SOURCE", Align::Left),
    ]);
    for model in models {
        table.row([
            model.id.to_string(),
            model.name.clone(),
            model.model_type.to_string(),
            model.base.as_ref().map(ToString::to_string).unwrap_or_default(),
            figures::size(model.size_bytes),
            state(model),
            model.sources.join(","),
        ]);
    }
    table
}

pub fn info(context: &Context, wanted: &InfoArguments, output: &mut Output) -> Result<u8, Failure> {
    let details = context.library()?.info(&wanted.reference)?;
    if wanted.json {
        output.json(&details_json(&details))?;
    } else {
        write_details(&details, output)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

pub fn stats(context: &Context, as_json: bool, output: &mut Output) -> Result<u8, Failure> {
    let stats = context.library()?.stats()?;
    if as_json {
        output.json(&stats_json(&stats))?;
    } else {
        write_stats(&stats, output)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

/// The state, and a mark for what is not handed out as it is.
fn state(model: &ModelSummary) -> String {
    match model.safety.filter(|safety| *safety != Safety::Safe) {
        Some(_) if model.trusted => format!("{}, trusted", model.state),
        // The finer word is for `info`: here it only matters that it is withheld.
        Some(_) => format!("{}, unsafe", model.state),
        None => model.state.to_string(),
    }
}

/// What loading it may do, in words; nothing where its header is not known.
fn safety(details: &ModelDetails) -> String {
    let summary = &details.summary;
    let Some(safety) = summary.safety else { return String::new() };
    match (safety, summary.trusted) {
        (Safety::Safe, _) => "safe".to_owned(),
        (_, true) => format!("{safety}, but trusted"),
        (_, false) => format!("{safety}: not handed out until you run `modelfs trust {}`", summary.id),
    }
}

pub fn summary_json(model: &ModelSummary) -> Value {
    json!({
        "id": model.id.get(),
        "name": model.name,
        "size": model.size_bytes,
        "state": model.state.as_str(),
        "sha256": model.sha256.map(|digest| digest.to_string()),
        "type": model.model_type.as_str(),
        "base": model.base.as_ref().map(ToString::to_string),
        "format": model.format,
        "precision": model.precision,
        "quantization": model.quantization,
        "confidence": rounded(model.confidence),
        "method": model.method,
        "sources": model.sources,
        "added": figures::time(model.added),
        "safety": model.safety.map(Safety::as_str),
        "trusted": model.trusted,
    })
}

/// Two decimals: a 32-bit number printed as a 64-bit one shows digits that mean nothing.
fn rounded(share: f32) -> f64 {
    (f64::from(share) * 100.0).round() / 100.0
}

fn origin_json(origin: &OriginInfo) -> Value {
    json!({
        "source": origin.source,
        "repo": origin.repo,
        "revision": origin.revision,
        "path": origin.path,
        "url": origin.page_url,
    })
}

fn danger_json(danger: &Danger) -> Value {
    json!({ "what": danger.what, "safety": danger.safety.as_str() })
}

fn details_json(details: &ModelDetails) -> Value {
    let mut value = summary_json(&details.summary);
    let reasons: Vec<Value> = details
        .reasons
        .iter()
        .map(|reason| {
            json!({
                "method": reason.method.as_str(),
                "rule": reason.rule,
                "saw": reason.saw,
                "type": reason.model_type.map(|word| word.as_str()),
                "base": reason.base.as_ref().map(ToString::to_string),
                "weight": rounded(reason.weight),
            })
        })
        .collect();
    let more = json!({
        "bytes_present": details.bytes_present,
        "blake3": details.blake3,
        "crc32": details.crc32,
        "autov1": details.autov1,
        "autov2": details.autov2,
        "autov3": details.autov3,
        "sub_type": details.sub_type,
        "architecture": details.architecture,
        "tensor_count": details.tensor_count,
        "parameter_count": details.parameter_count,
        "network": details.network.as_ref().map(|network| network.algorithm),
        "rank": details.network.as_ref().and_then(|network| network.rank),
        "network_module": details.network.as_ref().and_then(|network| network.module.clone()),
        "trigger_words": details.trigger_words,
        "tags": details.tags,
        "creator": details.creator,
        "license": details.license,
        "sources": details.origins.iter().map(origin_json).collect::<Vec<_>>(),
        "paths": details.paths,
        "linked_path": details.linked_path.as_ref().map(|path| path.to_string_lossy()),
        "error": details.error,
        "dangers": details.dangers.iter().map(danger_json).collect::<Vec<_>>(),
        "reasons": reasons,
        "hubs": details.hubs.iter().map(hub_json).collect::<Vec<_>>(),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut value, more) {
        all.extend(more);
    }
    value
}

/// `2.57 B`: the unit in which models are spoken of.
fn parameters(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} B", count as f64 / 1e9),
    }
}

fn network(network: &Network) -> String {
    match network.rank {
        Some(rank) => format!("{}, rank {rank}", network.algorithm),
        None => network.algorithm.to_owned(),
    }
}

/// Name and value in two columns; what is not known is left out.
fn write_details(details: &ModelDetails, output: &mut Output) -> Result<(), Failure> {
    let summary = &details.summary;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows = [
        ("name", summary.name.clone()),
        ("id", summary.id.to_string()),
        ("type", format!("{} ({:.0} % sure, by {})", summary.model_type, summary.confidence * 100.0, summary.method)),
        ("base", summary.base.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("variant", text(&details.sub_type)),
        ("format", summary.format.clone()),
        ("precision", text(&summary.precision)),
        ("quantization", text(&summary.quantization)),
        ("architecture", text(&details.architecture)),
        ("tensors", details.tensor_count.map(|count| count.to_string()).unwrap_or_default()),
        ("parameters", details.parameter_count.map(parameters).unwrap_or_default()),
        ("network", details.network.as_ref().map(network).unwrap_or_default()),
        ("size", format!("{} ({} bytes)", figures::size(summary.size_bytes), summary.size_bytes)),
        ("state", format!("{}, {} here", summary.state, figures::size(details.bytes_present))),
        ("safety", safety(details)),
        ("error", text(&details.error)),
        ("sha256", summary.sha256.map(|digest| digest.to_string()).unwrap_or_default()),
        ("blake3", text(&details.blake3)),
        ("crc32", text(&details.crc32)),
        ("autov1", text(&details.autov1)),
        ("autov2", text(&details.autov2)),
        ("autov3", text(&details.autov3)),
        ("creator", text(&details.creator)),
        ("license", text(&details.license)),
        ("tags", details.tags.join(", ")),
        ("trigger words", details.trigger_words.join(", ")),
        ("added", figures::time(summary.added)),
        ("lies at", details.linked_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        output.line(format!("{name:<14} {}", printable(value)))?;
    }
    for danger in &details.dangers {
        output.line(format!("{:<14} {} ({})", "imports", printable(&danger.what), danger.safety))?;
    }
    for origin in &details.origins {
        let place = match &origin.page_url {
            Some(url) => url.clone(),
            None if origin.repo.is_empty() => origin.path.clone(),
            None => format!("{}/{}", origin.repo, origin.path),
        };
        output.line(format!("{:<14} {}: {}", "from", origin.source, printable(&place)))?;
    }
    for (name, value) in details.hubs.iter().flat_map(hub_lines) {
        output.line(format!("{name:<14} {}", printable(&value)))?;
    }
    for path in &details.paths {
        output.line(format!("{:<14} {}", "in the mount", printable(path)))?;
    }
    Ok(())
}

fn stats_json(stats: &StoreStats) -> Value {
    let rows = |rows: &[StatsRow]| -> Vec<Value> {
        rows.iter().map(|row| json!({ "word": row.word, "count": row.count, "bytes": row.bytes })).collect()
    };
    json!({
        "models": stats.model_count,
        "files": stats.blob_count,
        "size": stats.known_bytes,
        "bytes_present": stats.resident_bytes,
        "saved_bytes": stats.saved_bytes,
        "free_bytes": stats.free_bytes,
        "by_type": rows(&stats.by_type),
        "by_base": rows(&stats.by_base),
        "by_state": rows(&stats.by_state),
    })
}

fn write_stats(stats: &StoreStats, output: &mut Output) -> Result<(), Failure> {
    output.line(format!(
        "{}, {}; {} in the store, {} known, {} saved by storing each content once, {} free",
        figures::count(stats.model_count, "model"),
        figures::count(stats.blob_count, "file"),
        figures::size(stats.resident_bytes),
        figures::size(stats.known_bytes),
        figures::size(stats.saved_bytes),
        figures::size(stats.free_bytes),
    ))?;
    for (title, rows) in [("TYPE", &stats.by_type), ("BASE", &stats.by_base), ("STATE", &stats.by_state)] {
        let mut table = Table::new(&[(title, Align::Left), ("COUNT", Align::Right), ("SIZE", Align::Right)]);
        for row in rows {
            table.row([row.word.clone(), row.count.to_string(), figures::size(row.bytes)]);
        }
        if !rows.is_empty() {
            output.line("")?;
            output.table(&table)?;
        }
    }
    Ok(())
}

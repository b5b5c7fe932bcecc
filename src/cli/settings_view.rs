//! `modelfs config`: the settings in force, each with its origin. A token's value is never part of it.

use super::error::Failure;
use super::output::Output;
use super::table::{Align, Table};
use super::verb_arguments::{ConfigArguments, ConfigVerb};
use super::{Context, exit, figures};
use crate::config::{Chosen, Settings, TokenState};
use crate::hub::Mirrors;
use crate::tree::Source;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub fn run(context: &Context, wanted: &ConfigArguments, output: &mut Output) -> Result<u8, Failure> {
    match &wanted.verb {
        ConfigVerb::Path => output.line(context.settings.file.value.display().to_string())?,
        ConfigVerb::Show { json } => show(&context.settings, *json, output)?,
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

/// Key as in the settings file, value as text, value as JSON, origin.
struct Row {
    key: &'static str,
    text: String,
    json: Value,
    origin: String,
}

fn row<T>(key: &'static str, chosen: &Chosen<T>, text: impl Fn(&T) -> String, json: impl Fn(&T) -> Value) -> Row {
    Row { key, text: text(&chosen.value), json: json(&chosen.value), origin: chosen.origin.to_string() }
}

fn rows(settings: &Settings) -> Vec<Row> {
    let token_row = |key, state| {
        let (text, origin) = token(state);
        Row { key, json: json!(text), text, origin }
    };
    let (limits, enriching) = (&settings.limits, &settings.enriching);
    let duration_text = |time: &Duration| humantime::format_duration(*time).to_string();
    let path_text = |path: &std::path::PathBuf| path.display().to_string();
    let path_json = |path: &std::path::PathBuf| json!(path.to_string_lossy());
    vec![
        row("store", &settings.store, path_text, path_json),
        row("offline", &settings.offline, bool::to_string, |value| json!(value)),
        row("huggingface.endpoint", &settings.hf_endpoint, String::clone, |value| json!(value)),
        token_row("huggingface.token", &settings.hf_token),
        row("civitai.endpoint", &settings.civitai_endpoint, String::clone, |value| json!(value)),
        token_row("civitai.token", &settings.civitai_token),
        row("modelscope.endpoint", &settings.modelscope_endpoint, String::clone, |value| json!(value)),
        token_row("modelscope.token", &settings.modelscope_token),
        row("sources.order", &settings.sources_order, |order| order_text(order), |order| json!(order_text(order))),
        row("sources.mirrors", &settings.sources_mirrors, Mirrors::to_string, |mirrors| json!(mirrors.to_string())),
        row("fetch.promote_after", &settings.promote_after_bytes, |bytes| figures::size(*bytes), |value| json!(value)),
        row(
            "fetch.read_timeout",
            &settings.read_timeout,
            |time| figures::duration(*time),
            |time| json!(time.as_secs()),
        ),
        row("store.cache_limit", &limits.cache_limit_bytes, |bytes| size_or_none(*bytes), |value| json!(value)),
        row("store.min_free", &limits.min_free_bytes, |bytes| figures::size(*bytes), |value| json!(value)),
        row("fetch.max_rate", &limits.rate_bytes_max, |bytes| size_or_none(*bytes), |value| json!(value)),
        row("fetch.streams", &limits.streams, u64::to_string, |value| json!(value)),
        row("enrich.spacing", &enriching.spacing, duration_text, |time| json!(time.as_secs_f64())),
        row("enrich.unknown_for", &enriching.unknown_for, duration_text, |time| json!(time.as_secs_f64())),
        row("enrich.after_import", &enriching.after_import, bool::to_string, |value| json!(value)),
        row("classify.threshold", &settings.classify_threshold, f32::to_string, share_json),
        row("mount.point", &settings.mount_point, path_text, path_json),
        row("mount.allow_other", &settings.allow_other, bool::to_string, |value| json!(value)),
        row(
            "import.mode",
            &settings.import_mode,
            |mode| mode.map_or("reflink, else copy".to_owned(), |mode| mode.as_str().to_owned()),
            |mode| json!(mode.map(|mode| mode.as_str())),
        ),
        row(
            "log.filter",
            &settings.log_filter,
            |filter| filter.clone().unwrap_or_else(|| "warn".to_owned()),
            |filter| json!(filter),
        ),
        row("log.format", &settings.log_format, |format| format.as_str().to_owned(), |format| json!(format.as_str())),
    ]
}

fn order_text(order: &[Source]) -> String {
    let words: Vec<&str> = order.iter().map(|source| source.as_str()).collect();
    if words.is_empty() { "fastest first".to_owned() } else { words.join(",") }
}

fn size_or_none(bytes: u64) -> String {
    if bytes == 0 { "none".to_owned() } else { figures::size(bytes) }
}

/// Whether there is a token and where from, never the token.
fn token(state: &TokenState) -> (String, String) {
    match state {
        TokenState::Absent => ("none".to_owned(), "default".to_owned()),
        TokenState::Found { origin, .. } => ("set (not shown)".to_owned(), origin.clone()),
        TokenState::Unusable { origin, reason } => (format!("unusable: {reason}"), origin.clone()),
        TokenState::Disabled => ("none".to_owned(), "HF_HUB_DISABLE_IMPLICIT_TOKEN".to_owned()),
    }
}

fn show(settings: &Settings, as_json: bool, output: &mut Output) -> Result<(), Failure> {
    let rows = rows(settings);
    if as_json {
        let entry = |row: Row| (row.key.to_owned(), json!({ "value": row.json, "origin": row.origin }));
        return output.json(&Value::Object(rows.into_iter().map(entry).collect::<Map<_, _>>()));
    }
    let mut table = Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)]);
    for row in rows {
        table.row([row.key.to_owned(), row.text, row.origin]);
    }
    output.table(&table)?;
    let found = if settings.file_found { "" } else { " (does not exist, which is fine)" };
    output.line(format!("\nsettings file: {}{found}", settings.file.value.display()))
}

/// The digits that a person wrote: twice as many bits would have others.
fn share_json(share: &f32) -> Value {
    json!(share.to_string().parse::<f64>().ok())
}

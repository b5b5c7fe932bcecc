//! A folder of several files that is one model: a diffusers pipeline, or weights in shards.
//!
//! The small JSON files become metadata under `bundle.…` keys and the headers of shards are joined; then the same
//! rules decide as for a file. Not here: finding which files belong together (`store`).

use serde_json::Value;

use super::combine;
use super::rules::Rules;
use super::verdict::{Evidence, Verdict};
use crate::base::ModelType;
use crate::formats::{Format, Header};

/// Longest JSON that is parsed: `model_index.json` and `config.json` have some KB.
const JSON_BYTES_MAX: usize = 1 << 20;

/// Most tensors joined from shards: four times the largest language models.
const TENSORS_MAX: usize = 120_000;

/// Longest value taken from a JSON file.
const VALUE_BYTES_MAX: usize = 256;

/// Folders of a pipeline that hold its diffusion part.
const DIFFUSION_FOLDERS: [&str; 4] = ["transformer", "unet", "prior", "transformer_2"];

/// One file of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Relative to the bundle, with `/`.
    pub path: &'a str,
    pub size_bytes: u64,
    pub header: Option<&'a Header>,
    /// The text of a small JSON file such as `model_index.json` or `config.json`.
    pub json: Option<&'a str>,
}

/// What a bundle is. Its name and folders count as those of a file do.
pub fn classify_bundle(rules: &Rules, parts: &[Part<'_>], name: &str, folders: &[String]) -> Verdict {
    let mut metadata = Vec::new();
    for part in parts {
        describe(part, &mut metadata);
    }
    let pipeline = metadata.iter().any(|(key, _)| key == "bundle.pipeline");
    let diffusion = || parts.iter().filter(|part| DIFFUSION_FOLDERS.contains(&folder_of(part.path)));
    let size_bytes = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.size_bytes));
    let joined = if pipeline {
        let folder = diffusion().map(|part| folder_of(part.path)).next();
        joined(parts.iter().filter(|part| Some(folder_of(part.path)) == folder), metadata)
    } else {
        joined(parts.iter(), metadata)
    };
    let evidence = Evidence { header: Some(&joined), file_name: name, folders, size_bytes, hub: &[] };
    let mut verdict = super::classify(rules, &evidence);
    if pipeline {
        // The rules saw the diffusion part too; the whole is what its index says.
        let index = super::judge::claims(rules, &Evidence { header: Some(&index_only(&joined)), ..evidence });
        if let Some(answer) = combine::model_type(rules, &index, &evidence) {
            verdict.model_type = ModelType::Diffusers;
            verdict.confidence = answer.confidence;
            verdict.method = answer.method;
            verdict.sub_type = None;
        }
        verdict.architecture = super::metadata::value_of(&joined, "bundle.pipeline").map(str::to_owned);
    }
    verdict
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What a part's JSON and its place say, as metadata.
fn describe(part: &Part<'_>, metadata: &mut Vec<(String, String)>) {
    let mut note = |key: &str, value: &str| {
        if !value.is_empty() {
            metadata.push((format!("bundle.{key}"), super::metadata::shortened(value, VALUE_BYTES_MAX).to_owned()));
        }
    };
    let file = part.path.rsplit('/').next().unwrap_or(part.path);
    // How the vectors of the words become one: only models of sentences have that.
    let pooling = || part.path.strip_suffix("_Pooling/config.json").is_some_and(|number| number.parse::<u8>().is_ok());
    if matches!(part.path, "modules.json" | "config_sentence_transformers.json") || pooling() {
        note("sentence_transformers", file);
    }
    let Some(json) = part.json.filter(|json| json.len() <= JSON_BYTES_MAX) else { return };
    let Ok(value) = serde_json::from_str::<Value>(json) else { return };
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    match part.path {
        "model_index.json" => note("pipeline", text("_class_name")),
        "config.json" => {
            note("class", text("_class_name"));
            note("model_type", text("model_type"));
            let first = value.get("architectures").and_then(Value::as_array).and_then(|list| list.first());
            note("architecture", first.and_then(Value::as_str).unwrap_or(""));
        }
        "adapter_config.json" => {
            note("peft_type", text("peft_type"));
            note("base_model", text("base_model_name_or_path"));
        }
        _ => {}
    }
}

/// All tensors and the metadata of the first part, after the bundle's own.
fn joined<'a>(parts: impl Iterator<Item = &'a Part<'a>>, mut metadata: Vec<(String, String)>) -> Header {
    let mut all = Header {
        format: Format::Safetensors,
        tensors: Vec::new(),
        metadata: Vec::new(),
        imports: Vec::new(),
        data_start: None,
    };
    for (number, header) in parts.filter_map(|part| part.header).enumerate() {
        if number == 0 {
            all.format = header.format;
            metadata.extend(header.metadata.iter().cloned());
        }
        let room = TENSORS_MAX - all.tensors.len();
        all.tensors.extend(header.tensors.iter().take(room).cloned());
        all.imports.extend(header.imports.iter().cloned());
    }
    all.metadata = metadata;
    all
}

/// The header without its tensors: what the pipeline's index alone says.
fn index_only(header: &Header) -> Header {
    Header { tensors: Vec::new(), imports: Vec::new(), ..header.clone() }
}

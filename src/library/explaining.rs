//! Why a model, or a file anywhere, is what it is: evidence, rules that fired, and why the others did not.
//!
//! Invariant: changes nothing. Not here: how it is printed (`cli`).

use super::live_rules::CurrentRules;
use super::{Explanation, Library, LibraryError, enrich_facts, judging, reference};
use crate::base::Safety;
use crate::classify::{self, Evidence, Rules};
use crate::formats::{self, Header};
use crate::store::{FileSource, StoreError};
use std::path::{Component, Path};

/// Tensors and pairs of metadata that are shown.
const TENSORS_SHOWN: usize = 8;
const PAIRS_SHOWN: usize = 12;
/// Longest value of metadata that is shown.
const VALUE_BYTES_SHOWN: usize = 120;
/// Folders above a file that count as evidence: `ComfyUI/models/loras` is three.
const FOLDERS_ABOVE: usize = 3;

pub(super) fn explain(library: &Library, reference: &str) -> Result<Explanation, LibraryError> {
    let rules = library.rules();
    library.catalog().read(|r| {
        let row = reference::resolve(r, reference)?;
        let blob = r.blob(row.blob)?.ok_or_else(|| LibraryError::NotFound { reference: reference.to_owned() })?;
        let header = judging::kept_header(r, &blob)?;
        let hub = enrich_facts::words_of(r, row.id)?;
        let evidence = Evidence {
            header: header.as_ref(),
            file_name: row.telling_name().as_str(),
            folders: &row.folders,
            size_bytes: blob.size_bytes,
            hub: &hub.words,
        };
        let mut explanation = explanation(&rules, &evidence);
        explanation.id = Some(row.id);
        explanation.manual_type = row.manual.model_type;
        explanation.manual_base = row.manual.base;
        explanation.no_header = header.is_none().then(|| "its first bytes were not read yet".to_owned());
        Ok(explanation)
    })
}

pub(super) fn explain_file(
    path: &Path,
    library: Option<&Library>,
    confidence_min: f32,
) -> Result<Explanation, LibraryError> {
    let source = FileSource::open(path)?;
    let stamp = source.stamp(path)?;
    let header = match formats::read_header(&source) {
        Ok(header) => Ok(header),
        Err(formats::FormatError::Io(source)) => {
            return Err(StoreError::Io { action: "read", path: path.to_owned(), source }.into());
        }
        Err(error) => Err(error.fault(&path.display().to_string()).what),
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut folders: Vec<String> = absolute
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    folders.drain(..folders.len().saturating_sub(FOLDERS_ABOVE));
    let evidence = Evidence {
        header: header.as_ref().ok(),
        file_name: &name,
        folders: &folders,
        size_bytes: stamp.size_bytes,
        hub: &[],
    };
    let rules = match library {
        Some(library) => library.rules(),
        None => CurrentRules::builtin(confidence_min),
    };
    let mut explanation = explanation(&rules, &evidence);
    explanation.no_header = header.err();
    Ok(explanation)
}

fn explanation(rules: &Rules, evidence: &Evidence<'_>) -> Explanation {
    let header = evidence.header;
    let dangers = header.map(|header| classify::dangers(header, evidence.file_name)).unwrap_or_default();
    Explanation {
        id: None,
        name: evidence.file_name.to_owned(),
        folders: evidence.folders.to_vec(),
        size_bytes: evidence.size_bytes,
        no_header: None,
        format: header.map(|header| header.format.as_str().to_owned()),
        tensor_count: header.map_or(0, |header| header.tensors.len() as u64),
        tensors: header.map(tensors).unwrap_or_default(),
        metadata: header.map(metadata).unwrap_or_default(),
        explained: classify::explain(rules, evidence),
        manual_type: None,
        manual_base: None,
        safety: header.map(|_| dangers.first().map_or(Safety::Safe, |danger| danger.safety)),
        dangers,
    }
}

fn tensors(header: &Header) -> Vec<String> {
    let shown = |tensor: &formats::Tensor| {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        format!("{} {} [{}]", tensor.name, tensor.dtype, shape.join(","))
    };
    header.tensors.iter().take(TENSORS_SHOWN).map(shown).collect()
}

fn metadata(header: &Header) -> Vec<(String, String)> {
    let cut = |value: &str| {
        let end = value.floor_char_boundary(VALUE_BYTES_SHOWN);
        if end < value.len() { format!("{}\u{2026}", &value[..end]) } else { value.to_owned() }
    };
    header.metadata.iter().take(PAIRS_SHOWN).map(|(key, value)| (key.clone(), cut(value))).collect()
}

//! The models that answer a query.

use super::{Library, LibraryError, ModelSummary};
use crate::base::BlobState;
use crate::catalog::{BlobRow, CatalogError, ModelRow, Reader};
use crate::query::{self, Field, Key, Query, Sort, Subject};
use crate::tree::{self, BlobEntry, ModelEntry, SourceSet, Target};
use std::cmp::Reverse;
use std::collections::HashMap;

/// Rows read at a time: bounds the memory of one answer of the database.
const PAGE_ROWS: u32 = 1000;
/// Digits of AutoV2.
const AUTOV2_DIGITS: usize = 10;
const NS_PER_SECOND: f64 = 1e9;

pub(super) fn list(library: &Library, query: Option<&str>) -> Result<Vec<ModelSummary>, LibraryError> {
    let text = query.unwrap_or_default();
    let query = Query::parse(text).map_err(|error| LibraryError::Query { text: text.to_owned(), error })?;
    let mut found = library.catalog().read(|r| matching(r, &query))?;
    sort(&mut found, query.sort.unwrap_or(Sort::Name));
    if let Some(limit) = query.limit {
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(found)
}

fn matching(r: &Reader<'_>, query: &Query) -> Result<Vec<ModelSummary>, CatalogError> {
    let targets: Vec<Target> = r.targets()?.into_iter().filter(|target| target.enabled).collect();
    let entries: HashMap<_, _> =
        r.model_entries()?.into_iter().map(|(model, blob)| (model.id, (model, blob))).collect();
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = r.models_after(after, PAGE_ROWS)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.id);
        for (model, blob) in &page {
            let entry = entries.get(&model.id);
            let sources = entry.map_or(SourceSet::default(), |(entry, _)| entry.sources);
            let subject = Candidate { model, blob, sources, entry, targets: &targets };
            if query::matches(query, &subject) {
                found.push(summary(model, blob, sources));
            }
        }
    }
}

/// One model as a listing shows it.
pub(super) fn summary(model: &ModelRow, blob: &BlobRow, sources: SourceSet) -> ModelSummary {
    ModelSummary {
        id: model.id,
        blob: blob.id,
        name: model.name.as_str().to_owned(),
        size_bytes: blob.size_bytes,
        state: blob.state,
        sha256: blob.sha256,
        model_type: model.model_type,
        base: model.base.clone(),
        format: model.format.clone(),
        precision: model.precision.clone(),
        quantization: model.quantization.clone(),
        confidence: model.confidence,
        method: model.method.clone(),
        sources: sources.iter().map(|source| source.as_str().to_owned()).collect(),
        added: model.added,
        deleted: model.deleted,
    }
}

fn sort(found: &mut [ModelSummary], by: Sort) {
    // Equal ones stay in the order of names, whatever the query asks for.
    found.sort_by_cached_key(|model| (model.name.to_lowercase(), model.id));
    match by {
        Sort::Size => found.sort_by_key(|model| Reverse(model.size_bytes)),
        Sort::Added | Sort::Updated => found.sort_by_key(|model| Reverse(model.added)),
        // What only hubs know about their files says nothing about local ones.
        Sort::Name | Sort::Relevance | Sort::Downloads | Sort::Rating | Sort::Likes => {}
    }
}

/// A model that is held against a query.
struct Candidate<'a> {
    model: &'a ModelRow,
    blob: &'a BlobRow,
    sources: SourceSet,
    entry: Option<&'a (ModelEntry, BlobEntry)>,
    targets: &'a [Target],
}

impl Candidate<'_> {
    fn hashes(&self) -> Vec<String> {
        let mut hashes: Vec<String> = Vec::new();
        if let Some(sha256) = &self.blob.sha256 {
            hashes.extend([sha256.to_string(), sha256.prefix(AUTOV2_DIGITS)]);
        }
        if let Some(row) = &self.blob.hashes {
            hashes.extend([row.blake3.to_string(), row.crc32.iter().map(|byte| format!("{byte:02x}")).collect()]);
            hashes.extend(row.autov1.iter().chain(&row.autov3).cloned());
        }
        hashes
    }

    /// Names of the applications that show it.
    fn apps(&self) -> Vec<String> {
        let Some((model, blob)) = self.entry else { return Vec::new() };
        let homes = tree::homes_of_model(model, blob, self.targets);
        let names = self.targets.iter().map(|target| target.name.as_str());
        let shows = |name: &&str| {
            let inside = |rest: &str| rest.starts_with('/');
            homes.iter().any(|home| home.directory.as_str().strip_prefix(*name).is_some_and(inside))
        };
        names.filter(shows).map(str::to_owned).collect()
    }
}

impl Subject for Candidate<'_> {
    fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.model.name.as_str()];
        texts.extend(self.model.tags.iter().map(|tag| tag.as_str()));
        texts.extend(self.model.trigger_words.iter().map(String::as_str));
        texts.extend(self.model.creator.iter().map(|creator| creator.as_str()));
        texts
    }

    fn values(&self, key: Key) -> Vec<String> {
        let model = self.model;
        match key {
            Key::Type => vec![model.model_type.as_str().to_owned()],
            Key::Base => model.base.iter().map(|base| base.as_str().to_owned()).collect(),
            Key::Format => vec![model.format.clone(), model.name.suffix().trim_start_matches('.').to_owned()],
            Key::Precision => model.precision.iter().chain(&model.quantization).cloned().collect(),
            Key::Source => self.sources.iter().map(|source| source.as_str().to_owned()).collect(),
            Key::Creator => model.creator.iter().map(|creator| creator.as_str().to_owned()).collect(),
            Key::Tag => model.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            Key::License => model.license.iter().cloned().collect(),
            Key::State => vec![self.blob.state.as_str().to_owned()],
            Key::Hash => self.hashes(),
            Key::App => self.apps(),
            // Nothing here knows it yet; hubs do.
            Key::Nsfw => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        match field {
            Field::Size => Some(self.blob.size_bytes as f64),
            Field::Added | Field::Updated => Some(self.model.added.unix_ns() as f64 / NS_PER_SECOND),
            Field::Downloads | Field::Rating => None,
        }
    }
}

/// Whether all bytes of a content are on this machine.
pub(super) fn is_here(blob: &BlobRow) -> bool {
    blob.state == BlobState::Resident
}

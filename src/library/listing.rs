//! The models that answer a query.

use super::{Library, LibraryError, ModelSummary};
use crate::base::{BlobState, ModelId};
use crate::catalog::{BlobRow, CatalogError, ModelRow};
use crate::query::Query;
use crate::tree::SourceSet;

/// Rows read at a time: bounds the memory of one answer of the database.
const PAGE_ROWS: usize = 1000;

pub(super) fn list(library: &Library, query: Option<&str>) -> Result<Vec<ModelSummary>, LibraryError> {
    answer(library, &parse(query.unwrap_or_default())?)
}

pub(super) fn answer(library: &Library, query: &Query) -> Result<Vec<ModelSummary>, LibraryError> {
    let ids = library.catalog().read(|reader| reader.search(query, u32::MAX))?;
    summaries(library, &ids)
}

/// The models of these numbers, in their order.
pub(super) fn summaries(library: &Library, ids: &[ModelId]) -> Result<Vec<ModelSummary>, LibraryError> {
    let found = library.catalog().read(|r| {
        let mut found = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE_ROWS) {
            found.extend(r.models_of(page)?.iter().map(|(model, blob, sources)| summary(model, blob, *sources)));
        }
        Ok::<_, CatalogError>(found)
    })?;
    Ok(found)
}

/// A query, or where it is wrong.
pub(super) fn parse(text: &str) -> Result<Query, LibraryError> {
    Query::parse(text).map_err(|error| LibraryError::Query { text: text.to_owned(), error })
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
        safety: blob.safety,
        trusted: blob.trusted,
    }
}

/// Whether all bytes of a content are on this machine.
pub(super) fn is_here(blob: &BlobRow) -> bool {
    blob.state == BlobState::Resident
}

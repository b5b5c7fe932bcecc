//! Contents that a search found and a person links into a folder of an application: models from then on, without the network.
//!
//! Invariants: such a model has the place at its hub that it was found at; it is taken out of sight with the last name that
//! was given by hand, unless `add` or an import registered it too. Not here: names in folders (`shelf`), the call itself
//! (`mounted::placing`).

use super::models::{self, NewFacts};
use super::shelf::Shelf;
use super::{enrich_facts, judging};
use crate::base::{BlobId, Label, ModelId, RelativePath};
use crate::catalog::{CatalogError, OriginRow, Reader, Writer};
use crate::classify::{Evidence, Rules, classify};
use crate::formats::has_model_suffix;

/// Heading of the note that a model is one because of a link.
const HEADING: &str = "registered";
const KEY: &str = "by";
const LINK: &str = "link";

/// Makes a content that a hub has and no model shows the model of a file; nothing where it is none. The folder says
/// something about what it is, as do those of its repository.
pub(super) fn register(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    rules: &Rules,
    blob: BlobId,
    folder: &RelativePath,
) -> Result<Option<ModelId>, CatalogError> {
    let (Some(row), Some(origin)) = (w.blob(blob)?, w.origins(blob)?.into_iter().next()) else { return Ok(None) };
    // A part of a repository that is registered is shown with it.
    if !has_model_suffix(row.name.as_str()) || !w.bundles_of_blob(blob)?.is_empty() {
        return Ok(None);
    }
    let header = judging::kept_header(w, &row)?;
    let folders = folders_of(&origin, folder);
    let name = row.name.clone();
    let evidence = Evidence {
        header: header.as_ref(),
        file_name: name.as_str(),
        folders: &folders,
        size_bytes: row.size_bytes,
        hub: &[],
    };
    let verdict = classify(rules, &evidence);
    let facts = NewFacts {
        blob,
        name: &name,
        verdict: &verdict,
        format: header.as_ref().map_or("", |header| header.format.as_str()),
        tensor_count: header.as_ref().map(|header| header.tensors.len() as u64),
        folders: &folders,
        source: origin.source,
        creator: origin.repo.split_once('/').and_then(|(owner, _)| Label::new(owner).ok()),
        license: None,
        tags: &[],
    };
    let model = models::register(w, shelf, &facts)?;
    w.set_facts(model, HEADING, &[(KEY.to_owned(), LINK.to_owned())])?;
    // One that is back from the trash may be in this folder already.
    shelf.take_model_out(w, model, folder)?;
    Ok(Some(model))
}

/// Whether a link is the only reason why it is a model.
pub(super) fn is_by_link(r: &Reader<'_>, model: ModelId) -> Result<bool, CatalogError> {
    Ok(enrich_facts::text(&r.facts(model, HEADING)?, KEY) == Some(LINK))
}

/// Something else registers it: it stays without its links.
pub(super) fn keep(w: &mut Writer<'_>, model: ModelId) -> Result<(), CatalogError> {
    if is_by_link(w, model)? { w.set_facts(model, HEADING, &[]) } else { Ok(()) }
}

/// Takes a model out of sight that was one by a link, after its last link went.
pub(super) fn forget(w: &mut Writer<'_>, shelf: &mut Shelf, model: ModelId) -> Result<(), CatalogError> {
    let before = shelf.homes_of(w, model)?;
    w.set_deleted(model, true)?;
    shelf.reshelve_model(w, model, &before)
}

/// Names that say something: of the repository, of the folders in it, and of the one that was chosen.
fn folders_of(origin: &OriginRow, folder: &RelativePath) -> Vec<String> {
    let inside = origin.path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let words = origin.repo.split('/').chain(inside.split('/')).filter(|word| !word.is_empty()).map(str::to_owned);
    // The first is the application.
    words.chain(folder.names().skip(1).map(|name| name.to_string())).collect()
}

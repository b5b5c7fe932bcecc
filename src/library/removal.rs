//! Taking models out of sight and bringing them back. Nothing here touches a file.
//!
//! Invariants: a removed model keeps its content, its verdict and every name it was given, so that it comes back as it
//! was; the content stays under `store/`. Not here: freeing room (`evict`).

use super::shelf::Shelf;
use super::{Library, LibraryError, RemovalChange, reference};
use crate::catalog::Writer;

/// Whether a model is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Shown,
    /// In the trash.
    Removed,
}

/// Gives the model of a REF another presence. A REF means what is shown first; what is in the trash only when nothing
/// that is shown answers to it.
pub(super) fn set_presence(
    library: &Library,
    reference: &str,
    presence: Presence,
) -> Result<RemovalChange, LibraryError> {
    library.catalog().write(library.now(), |w| change(w, reference, presence))
}

fn change(w: &mut Writer<'_>, reference: &str, presence: Presence) -> Result<RemovalChange, LibraryError> {
    let model = match presence {
        Presence::Removed => reference::resolve(w, reference)?,
        Presence::Shown => reference::resolve_removed(w, reference)?,
    };
    let removed = presence == Presence::Removed;
    let is_new = model.deleted != removed;
    if is_new {
        let mut shelf = Shelf::begin(w)?;
        let before = shelf.homes_of(w, model.id)?;
        w.set_deleted(model.id, removed)?;
        shelf.reshelve_model(w, model.id, &before)?;
    }
    Ok(RemovalChange { id: model.id, name: model.name.to_string(), is_new })
}

//! Pickles that may run something when they are loaded: judged anew when the list of imports changes, explained, trusted.
//!
//! Invariants: what is withheld stays withheld until a person says otherwise, through every import of the same bytes; what
//! a program may hand to an unpickler under any of its names is withheld as long as nobody has looked through it.
//! Not here: which imports are harmless (`classify`), the refusal itself (`mounted::opening`).

use super::{Library, LibraryError, TrustChange, reference};
use crate::base::{BlobId, BlobState, Digest, Fault, FaultKind, Safety, Timestamp};
use crate::catalog::{BlobRow, Catalog, CatalogError, Reader, Writer};
use crate::classify::{DANGER_VERSION, Danger, dangers, is_unpickled};
use crate::formats::decode_header;

/// Records read at a time: bounds the memory.
const PAGE_ROWS: u32 = 256;
/// Digits of a sha256 in a hint: enough to be unique in any collection, short enough to be typed.
const SHOWN_DIGITS: usize = 16;
/// Imports named in one sentence.
const SHOWN_MAX: usize = 3;

/// A newer program may know more imports than the one that judged these contents.
pub(super) fn bring_up_to_date(catalog: &Catalog, now: Timestamp) -> Result<(), LibraryError> {
    if catalog.read(|r| r.danger_version())? == DANGER_VERSION {
        return Ok(());
    }
    let judged = catalog.write(now, |w| {
        let mut after = None;
        loop {
            let page = w.headers_after(after, PAGE_ROWS)?;
            let Some((last, ..)) = page.last() else { break };
            after = Some(*last);
            page.iter().try_for_each(|(blob, ..)| judge(w, *blob))?;
        }
        after = None;
        loop {
            let page = w.headless_after(after, PAGE_ROWS)?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            page.iter().try_for_each(|blob| judge(w, *blob))?;
        }
        w.set_danger_version(DANGER_VERSION)
    });
    match judged {
        Err(CatalogError::ReadOnly) => {
            tracing::warn!("pickles were not looked at: the catalog can only be read");
            Ok(())
        }
        result => Ok(result?),
    }
}

/// A content is shown under this name too: under one of a pickle it may be more dangerous than under the others.
pub(super) fn is_called(w: &mut Writer<'_>, blob: BlobId, name: &str) -> Result<(), CatalogError> {
    if is_unpickled(name) { judge_as(w, blob, Some(name)) } else { Ok(()) }
}

/// Judges a content by what is known of it and by everything it is called.
pub(super) fn judge(w: &mut Writer<'_>, blob: BlobId) -> Result<(), CatalogError> {
    judge_as(w, blob, None)
}

/// `called` is one more name of it, which need not be in the catalog.
fn judge_as(w: &mut Writer<'_>, blob: BlobId, called: Option<&str>) -> Result<(), CatalogError> {
    let Some(row) = w.blob(blob)? else { return Ok(()) };
    match found_in(w, &row, called)? {
        Some(found) => w.set_safety(blob, found.first().map_or(Safety::Safe, |danger| danger.safety)),
        None => Ok(()),
    }
}

/// What makes a content less than safe, worst first.
pub(super) fn of_blob(r: &Reader<'_>, blob: &BlobRow) -> Result<Vec<Danger>, CatalogError> {
    if blob.safety.is_none_or(|safety| safety == Safety::Safe) {
        return Ok(Vec::new());
    }
    Ok(found_in(r, blob, None)?.unwrap_or_default())
}

/// `None` for what nobody knows and no unpickler gets.
fn found_in(r: &Reader<'_>, blob: &BlobRow, called: Option<&str>) -> Result<Option<Vec<Danger>>, CatalogError> {
    let names = r.names_of_blob(blob.id)?;
    let name = called.map(str::to_owned).into_iter().chain(names).find(|name| is_unpickled(name));
    // A record of another version says nothing; its file is judged when it is read again.
    let header = r.header(blob.id)?.and_then(|record| decode_header(&record).ok());
    let unknown = |_| vec![Danger { what: unread(blob).to_owned(), safety: Safety::Suspicious }];
    Ok(match header {
        Some(header) => Some(dangers(&header, name.as_deref().unwrap_or(blob.name.as_str()))),
        None => name.map(unknown),
    })
}

const fn unread(blob: &BlobRow) -> &'static str {
    match blob.state {
        BlobState::Resident => "its bytes cannot be looked through",
        BlobState::Remote | BlobState::Partial => "nobody has looked through it yet",
    }
}

pub(super) fn set_trusted(library: &Library, reference: &str, trusted: bool) -> Result<TrustChange, LibraryError> {
    library.catalog().write(library.now(), |w| {
        let (name, blob) = subject(w, reference)?;
        let is_new = w.set_trusted(blob.id, trusted)?;
        Ok(TrustChange { name, safety: blob.safety, is_new })
    })
}

/// The content a REF names: that of a model, or a part of a repository by its whole sha256.
fn subject(r: &Reader<'_>, reference: &str) -> Result<(String, BlobRow), LibraryError> {
    let not_found = || LibraryError::NotFound { reference: reference.to_owned() };
    match reference::resolve(r, reference) {
        Ok(model) => Ok((model.name.to_string(), r.blob(model.blob)?.ok_or_else(not_found)?)),
        Err(LibraryError::NotFound { .. }) => {
            let sha256 = reference.strip_prefix("sha256:").and_then(|hex| Digest::parse(hex).ok());
            let blob = sha256.map(|sha256| r.blob_by_sha256(&sha256)).transpose()?.flatten().ok_or_else(not_found)?;
            Ok((blob.name.to_string(), blob))
        }
        Err(error) => Err(error),
    }
}

/// Why a content is not handed out; nothing for one that is.
pub(super) fn refusal(r: &Reader<'_>, blob: &BlobRow) -> Result<Option<Fault>, CatalogError> {
    if blob.trusted || blob.safety.is_none_or(|safety| safety == Safety::Safe) {
        return Ok(None);
    }
    let found = of_blob(r, blob)?;
    let shown: Vec<&str> = found.iter().take(SHOWN_MAX).map(|danger| danger.what.as_str()).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
    let does = if blob.safety == Some(Safety::Unsafe) { "runs code" } else { "may run code" };
    let what = format!("{} {does} when it is loaded{shown}, so it is not handed out", blob.name);
    Ok(Some(Fault::new(FaultKind::AccessDenied, what, remedy(r, blob)?)))
}

fn remedy(r: &Reader<'_>, blob: &BlobRow) -> Result<String, CatalogError> {
    let models = r.models_of_blob(blob.id)?;
    let reference = match (&blob.sha256, models.first()) {
        (Some(sha256), Some(_)) => format!("sha256:{}", sha256.prefix(SHOWN_DIGITS)),
        (None, Some(model)) => model.id.to_string(),
        (Some(sha256), None) => format!("sha256:{sha256}"),
        (None, None) => format!("'{}'", blob.name),
    };
    let is_looked_through_later = blob.state != BlobState::Resident && r.header(blob.id)?.is_none();
    let first = if is_looked_through_later {
        format!("run `modelfs fetch {reference}`: it is looked through when all of it is here")
    } else {
        "use a .safetensors instead".to_owned()
    };
    Ok(format!("{first}; or, if you trust where it comes from, run `modelfs trust {reference}`"))
}

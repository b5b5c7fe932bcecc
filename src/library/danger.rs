//! Pickles that may run something when they are loaded: judged anew when the list of imports changes, explained, trusted.
//!
//! Invariant: what is withheld stays withheld until a person says otherwise, through every import of the same bytes.
//! Not here: which imports are harmless (`classify`), the refusal itself (`mounted::opening`).

use super::{Library, LibraryError, TrustChange, reference};
use crate::base::{BlobId, Digest, Fault, FaultKind, Safety, Timestamp};
use crate::catalog::{BlobRow, Catalog, CatalogError, ModelRow, Reader};
use crate::classify::{DANGER_VERSION, Danger, dangers, safety};
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
            for (blob, name, record) in &page {
                // A record of another version says nothing; its file is judged when it is read again.
                if let Ok(header) = decode_header(record) {
                    w.set_safety(*blob, safety(&header, name.as_str()))?;
                }
            }
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

/// What makes a content less than safe, worst first.
pub(super) fn of_blob(r: &Reader<'_>, blob: &BlobRow) -> Result<Vec<Danger>, CatalogError> {
    if blob.safety.is_none_or(|safety| safety == Safety::Safe) {
        return Ok(Vec::new());
    }
    let header = r.header(blob.id)?.and_then(|record| decode_header(&record).ok());
    Ok(header.map(|header| dangers(&header, blob.name.as_str())).unwrap_or_default())
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

/// Why a content is not handed out, in one sentence; nothing for one that is.
pub(super) fn why_withheld(blob: &BlobRow, models: &[ModelRow]) -> Option<String> {
    let safety = blob.safety.filter(|safety| *safety != Safety::Safe && !blob.trusted)?;
    let what = format!("{} {} when it is loaded, so it is not handed out", blob.name, what_it_does(safety));
    Some(Fault::new(FaultKind::AccessDenied, what, remedy(blob, models)).to_string())
}

const fn what_it_does(safety: Safety) -> &'static str {
    match safety {
        Safety::Safe | Safety::Suspicious => "may run code",
        Safety::Unsafe => "runs code",
    }
}

/// The answer to an open of a content that is withheld.
pub(super) fn refusal(r: &Reader<'_>, blob: BlobId) -> Result<Fault, CatalogError> {
    let Some(row) = r.blob(blob)? else { return Ok(Fault::new(FaultKind::Gone, "the file was removed", "")) };
    let found = of_blob(r, &row)?;
    let shown: Vec<&str> = found.iter().take(SHOWN_MAX).map(|danger| danger.what.as_str()).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
    let does = what_it_does(row.safety.unwrap_or(Safety::Suspicious));
    let what = format!("{} {does} when it is loaded{shown}", row.name);
    Ok(Fault::new(FaultKind::AccessDenied, what, remedy(&row, &r.models_of_blob(blob)?)))
}

fn remedy(blob: &BlobRow, models: &[ModelRow]) -> String {
    let reference = match (&blob.sha256, models.first()) {
        (Some(sha256), Some(_)) => format!("sha256:{}", sha256.prefix(SHOWN_DIGITS)),
        (None, Some(model)) => model.id.to_string(),
        (Some(sha256), None) => format!("sha256:{sha256}"),
        (None, None) => format!("'{}'", blob.name),
    };
    format!("use a .safetensors instead, or, if you trust where it comes from, run `modelfs trust {reference}`")
}

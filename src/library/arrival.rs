//! A remote file is complete: what the catalog learns from its bytes.
//!
//! Invariants: the file lies in the store before this is called; hashes, header, verdict, name and state change in one
//! transaction. A content that was known under another row already becomes that one.

use super::{Library, LibraryError, shelf};
use crate::base::{BlobId, BlobState, EntryName};
use crate::catalog::{CatalogError, HashRow, Writer};
use crate::classify::{Evidence, Verdict, classify};
use crate::formats::{Header, encode_header, read_header};
use crate::store::{FileSource, Hashes};
use crate::tree::homes_of_model;

/// Records that a content is resident under `name`.
pub(super) fn record(library: &Library, blob: BlobId, hashes: &Hashes, name: &EntryName) -> Result<(), LibraryError> {
    let path = library.store().blob_path(&hashes.sha256, name);
    let file = library.store().open_blob(&hashes.sha256, name)?;
    // Parts of repositories need not be models; those have no header.
    let header = read_header(&FileSource::new(file, &path)?).ok();
    library.catalog().write(library.clock().now(), |writer| {
        let Some(row) = writer.blob(blob)? else { return Ok(()) };
        let twin = writer.blob_by_sha256(&hashes.sha256)?.filter(|twin| twin.id != blob);
        let target = match twin {
            Some(twin) => {
                merge(writer, blob, twin.id)?;
                twin
            }
            None => row,
        };
        let known = HashRow {
            blake3: hashes.blake3,
            crc32: hashes.crc32,
            autov1: hashes.autov1.clone(),
            autov3: hashes.autov3.clone(),
        };
        writer.set_hashes(target.id, &hashes.sha256, &known)?;
        writer.set_blob_name(target.id, name)?;
        writer.set_error(target.id, None)?;
        if let Some(header) = &header
            && writer.header(target.id)?.is_none()
        {
            writer.set_header(target.id, &encode_header(header))?;
            judge_again(library, writer, target.id, header)?;
        }
        shelf::set_blob_state(writer, target.id, BlobState::Resident)
    })?;
    Ok(())
}

/// Two rows turned out to be one content: a repository's small file without a published hash is often one that is here.
fn merge(writer: &mut Writer<'_>, from: BlobId, into: BlobId) -> Result<(), CatalogError> {
    let stays = !writer.models_of_blob(into)?.is_empty();
    for model in writer.models_of_blob(from)?.iter().filter(|_| stays) {
        // Its names go: the directories learn it before the model is gone.
        let homes = shelf::homes_of(writer, model.id)?;
        writer.set_deleted(model.id, true)?;
        shelf::reshelve_model(writer, model.id, &homes)?;
    }
    writer.merge_blob(from, into)
}

/// The header is known now: whoever was judged by name alone is judged by it.
fn judge_again(library: &Library, writer: &mut Writer<'_>, blob: BlobId, header: &Header) -> Result<(), CatalogError> {
    let targets = writer.targets()?;
    for model in writer.models_of_blob(blob)? {
        let Some(entry) = writer.blob_entry(blob)? else { continue };
        let verdict: Verdict = classify(
            library.rules(),
            &Evidence {
                header: Some(header),
                file_name: model.name.as_str(),
                folders: &model.folders,
                size_bytes: entry.size_bytes,
            },
        );
        let Some(before) = writer.model_entry(model.id)? else { continue };
        let homes = homes_of_model(&before, &entry, &targets);
        writer.set_verdict(model.id, &verdict)?;
        shelf::reshelve_model(writer, model.id, &homes)?;
    }
    Ok(())
}

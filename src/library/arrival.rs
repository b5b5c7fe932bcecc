//! A remote file is complete: what the catalog learns from its bytes.
//!
//! Invariants: the file lies in the store before this is called; hashes, header, verdict, name and state change in one
//! transaction. A content that was known under another row already becomes that one. A file that lies in the store
//! although nobody recorded it (the transaction failed, or a crash came between) is found at the next open.

use super::danger;
use super::shelf::{self, Shelf};
use super::{Library, LibraryError, judging};
use crate::base::{BlobId, BlobState, EntryName, Fault, FaultKind};
use crate::catalog::{BlobRow, CatalogError, HashRow, Writer};
use crate::classify::{Rules, safety};
use crate::formats::{encode_header, read_header};
use crate::store::{Cancel, FileSource, Hashes};

/// Records that a content is resident under `name`.
pub(super) fn record(library: &Library, blob: BlobId, hashes: &Hashes, name: &EntryName) -> Result<(), LibraryError> {
    let path = library.store().blob_path(&hashes.sha256, name);
    let file = library.store().open_blob(&hashes.sha256, name)?;
    // Parts of repositories need not be models; those have no header.
    let header = read_header(&FileSource::new(file, &path)?).ok();
    let rules = library.rules();
    library.catalog().write(library.clock().now(), |writer| {
        let Some(row) = writer.blob(blob)? else { return Ok(()) };
        let twin = writer.blob_by_sha256(&hashes.sha256)?.filter(|twin| twin.id != blob);
        let target = match twin {
            Some(twin) => {
                Shelf::begin(writer)?.merge_blob(writer, blob, twin.id)?;
                twin
            }
            None => row,
        };
        writer.set_hashes(target.id, &hashes.sha256, &hash_row(hashes))?;
        writer.set_blob_name(target.id, name)?;
        writer.set_error(target.id, None)?;
        // Else what was just fetched would be the first to be evicted.
        writer.note_read(target.id, library.clock().now())?;
        if let Some(header) = &header
            && writer.header(target.id)?.is_none()
        {
            writer.set_header(target.id, &encode_header(header), safety(header, name.as_str()))?;
            judge_again(&rules, writer, target.id)?;
        }
        danger::judge(writer, target.id)?;
        shelf::set_blob_state(writer, target.id, BlobState::Resident)
    })?;
    Ok(())
}

/// Records a content whose file lies in the store although the catalog does not know. Says whether it does. Its other
/// hashes are not known then: `complete_hashes` reads them.
pub(super) fn find(library: &Library, row: &BlobRow) -> Result<bool, LibraryError> {
    let Some(sha256) = &row.sha256 else { return Ok(false) };
    let Some(name) = library.store().find_blob(sha256, row.size_bytes)? else { return Ok(false) };
    // Between its row and its file an eviction looks the same; whoever holds the file keeps it from being one.
    let _held = match library.store().hold_blob(sha256, &name) {
        Err(error) if matches!(error.fault().kind, FaultKind::Busy | FaultKind::NotFound) => return Ok(false),
        held => held?,
    };
    library.catalog().write(library.clock().now(), |writer| {
        writer.set_blob_name(row.id, &name)?;
        writer.set_error(row.id, None)?;
        shelf::set_blob_state(writer, row.id, BlobState::Resident)
    })?;
    Ok(true)
}

/// Reads a resident content from end to end for the hashes that its row lacks.
pub(super) fn complete_hashes(library: &Library, blob: BlobId, cancel: &Cancel) -> Result<(), Fault> {
    let row = library.catalog().read(|reader| reader.blob(blob)).map_err(|error: CatalogError| error.fault())?;
    let Some((sha256, name)) = row.filter(|row| row.hashes.is_none()).and_then(|row| Some((row.sha256?, row.name)))
    else {
        return Ok(());
    };
    let hashes = library.store().verify_blob(&sha256, &name, &|_| (), cancel).map_err(|error| error.fault())?;
    record(library, blob, &hashes, &name).map_err(|error| error.fault())
}

fn hash_row(hashes: &Hashes) -> HashRow {
    HashRow { blake3: hashes.blake3, crc32: hashes.crc32, autov1: hashes.autov1.clone(), autov3: hashes.autov3.clone() }
}

/// The header is known now: whoever was judged by name alone is judged by it.
fn judge_again(rules: &Rules, writer: &mut Writer<'_>, blob: BlobId) -> Result<(), CatalogError> {
    let mut shelf = Shelf::begin(writer)?;
    for model in writer.models_of_blob(blob)? {
        judging::again(writer, &mut shelf, rules, &model)?;
    }
    Ok(())
}

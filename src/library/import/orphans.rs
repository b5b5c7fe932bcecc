//! Files in the store that no row names: left by a run that was killed between publishing and writing.

use super::committing::{Bytes, Committer, Content, Facts, commit_content, commit_model};
use super::work::ModelUse;
use crate::base::{Digest, EntryName};
use crate::catalog::{Catalog, CatalogError};
use crate::classify::{self, Evidence};
use crate::formats::{self, Header};
use crate::library::shelf::Shelf;
use crate::library::{Library, LibraryError};
use crate::store::{BlobEntry, Cancel, FileSource, FileStamp, Store, StoreError};

/// Blobs of the store without a row.
pub(in crate::library) fn find(
    store: &Store,
    catalog: &Catalog,
) -> Result<Vec<(Digest, EntryName, u64)>, LibraryError> {
    let mut orphans = Vec::new();
    let blobs: Vec<BlobEntry> = store.walk_blobs()?.filter_map(Result::ok).collect();
    catalog.read(|r| {
        for blob in blobs {
            if let BlobEntry::Blob { sha256, name, size_bytes } = blob
                && r.blob_by_sha256(&sha256)?.is_none()
            {
                orphans.push((sha256, name, size_bytes));
            }
        }
        Ok::<_, CatalogError>(())
    })?;
    Ok(orphans)
}

/// Checks them and gives them their rows. A damaged one stays, for `verify` to tell.
pub(super) fn take_up(library: &Library, committer: &mut Committer<'_>, cancel: &Cancel) -> Result<(), LibraryError> {
    for (sha256, name, size_bytes) in find(library.store(), library.catalog())? {
        match library.store().verify_blob(&sha256, &name, &|_| (), cancel) {
            Ok(hashes) => adopt(library, &name, hashes)?,
            Err(StoreError::Cancelled { .. }) => return Ok(()),
            Err(_) => continue,
        }
        committer.note_adopted(size_bytes);
    }
    Ok(())
}

fn adopt(library: &Library, name: &EntryName, hashes: crate::store::Hashes) -> Result<(), LibraryError> {
    let path = library.store().blob_path(&hashes.sha256, name);
    let source = FileSource::open(&path)?;
    let stamp: FileStamp = source.stamp(&path)?;
    let is_model = formats::has_model_suffix(name.as_str());
    let header: Option<Header> = is_model.then(|| formats::read_header(&source).ok()).flatten();
    let facts = header.as_ref().map(|header| Facts::of(header, name.as_str()));
    let content = Content { hashes, stamp, bytes: Bytes::Linked, facts, verdicts: Vec::new() };
    let rules = library.rules();
    library.catalog().write(library.now(), |w| {
        let mut shelf = Shelf::begin(w)?;
        let (blob, _) = commit_content(w, &mut shelf, &path, &content, Some(name))?;
        let Some(header) = &header else { return Ok(()) };
        let evidence = Evidence {
            header: Some(header),
            file_name: name.as_str(),
            folders: &[],
            size_bytes: stamp.size_bytes,
            hub: &[],
        };
        let verdict = classify::classify(&rules, &evidence);
        let model = ModelUse { name: name.clone(), folders: Vec::new(), hub: None };
        commit_model(w, &mut shelf, blob, &model, content.facts.as_ref(), &verdict)
    })?;
    Ok(())
}

//! The hashes of a file anywhere, in the spelling users know.

use super::{Hashed, ImportObserver, LibraryError};
use crate::store::{self, Cancel, FileSource};
use std::path::Path;

pub(super) fn hash(path: &Path, observer: &dyn ImportObserver) -> Result<Hashed, LibraryError> {
    let data_start = store::safetensors_data_start(&FileSource::open(path)?);
    let (hashes, stamp) = store::hash_file(path, data_start, &|bytes| observer.advanced(bytes), &Cancel::new())?;
    observer.finished(path);
    Ok(Hashed {
        path: path.to_owned(),
        size_bytes: stamp.size_bytes,
        sha256: hashes.sha256,
        blake3: hashes.blake3,
        crc32: hashes.crc32_hex(),
        autov2: hashes.autov2(),
        autov1: hashes.autov1,
        autov3: hashes.autov3,
    })
}

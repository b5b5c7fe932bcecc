//! The hashes of a file anywhere, in the spelling users know.

use super::{Hashed, ImportObserver, LibraryError};
use crate::base::{Fault, FaultKind};
use crate::store::{self, Cancel, FileSource, StoreError};
use std::fs;
use std::path::{Path, PathBuf};

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

/// `model.safetensors` gets `model.sha256`: the 64 digits and nothing else, because readers of it use all that is there.
/// It appears whole or not at all.
pub(super) fn write_sidecar(hashed: &Hashed) -> Result<PathBuf, LibraryError> {
    let sidecar = hashed.path.with_extension("sha256");
    if sidecar == hashed.path {
        let what = format!("{} is such a file itself", sidecar.display());
        return Err(Fault::new(FaultKind::Invalid, what, "name the model").into());
    }
    let staged = sidecar.with_extension(format!("sha256.{}.tmp", std::process::id()));
    let written = fs::write(&staged, hashed.sha256.to_string()).and_then(|()| fs::rename(&staged, &sidecar));
    written.map_err(|source| {
        // Nothing may be left; when this fails too, the first failure is the one to tell.
        let _ = fs::remove_file(&staged);
        StoreError::Io { action: "write", path: sidecar.clone(), source }
    })?;
    Ok(sidecar)
}

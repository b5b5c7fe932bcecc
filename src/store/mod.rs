//! Blobs on disk: the only module that writes below the root of a store, the databases apart.
//!
//! Owns: the folder layout, staging, hashing, publishing, partial files with their chunk maps, verification.
//! Invariants: a visible blob is complete, verified, synced, read-only and never changed; a crash at any instant leaves
//! garbage at worst. Not here: what the bytes mean (`formats`), which blobs are wanted (`catalog`), the network (`fetch`).

mod beginning;
mod blob;
mod cancel;
mod chunk_log;
mod chunk_map;
mod disk;
mod error;
mod evict;
mod filled;
mod hash;
mod layout;
mod partial;
mod pipeline;
mod source;
mod staging;
mod walk;

pub use blob::{BlobEntry, Published};
pub use cancel::Cancel;
pub use chunk_map::{CHUNK_BYTES, FILE_BYTES_MAX};
pub use error::StoreError;
pub use evict::{EVICTION_POLL, EVICTION_POLLS_MAX, Eviction};
pub use filled::Verified;
pub use hash::{Hasher, Hashes};
pub use layout::{Space, Store};
pub use partial::{Partial, PartialIdentity, PartialInfo, PartialKey};
pub use pipeline::hash_file;
pub use source::{FileSource, FileStamp, safetensors_data_start};
pub use staging::Staged;
pub use walk::{CacheFile, CacheSnapshot, Found, WalkProblem, Walked};

//! The download engine: one state per content, however many handles read it.
//!
//! Invariants: a chunk is fetched by one request at a time; no lock is held across I/O or an await; demanded ranges come
//! before read-ahead, and read-ahead before the rest of the file; every wait has a bound; nothing becomes resident
//! whose bytes were not hashed from the disk. Not here: which chunk is next (`plan`), the chunk map (`store`), wire
//! formats (`hub`), the catalog's rows (whoever implements `Ledger`).
//!
//! How it turns: whatever happens to a content (a read, a chunk, the end of a request, a pause that is over) ends in
//! `File::pump`, which plans under the content's lock and then, without it, starts what was planned.
//!
//! Lock order: the registry of contents, then the state of one content, then one of the leaves: the slots, the list of
//! late failures, the partial's own locks. Two contents are never locked at once. The ledger is called under none.

mod arriving;
mod demand;
mod engine;
mod error;
mod file;
mod finish;
mod handle;
mod layout;
mod lies;
mod mirrors;
mod origins;
mod outages;
mod pace;
mod slots;
mod sources;
mod speed;
mod transfer;
mod watch;

pub use engine::{Activity, Engine, EngineOptions, Ledger, Preference, Progress, Wanted};
pub use error::FetchError;
pub use handle::RemoteFile;

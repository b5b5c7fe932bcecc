//! The words everyone shares.
//!
//! Owns: digests, byte ranges, names, labels, inode numbers, model words, locators, secrets, the clock and the closed list of
//! failures. Invariants: every value here was checked when it was made, so nothing above checks it again.
//! Not here: kernel types, SQL, disk, network, environment; no dependency outside `std`.

mod bytes;
mod clock;
mod digest;
mod fault;
mod label;
mod locator;
mod model;
mod name;
mod number;
mod secret;
mod web_address;

pub use bytes::{ByteRange, RangeSet};
pub use clock::{Clock, Timestamp};
pub use digest::{Digest, DigestError};
pub use fault::{Fault, FaultKind};
pub use label::{Label, LabelError};
pub use locator::{FileChoice, Locator, LocatorError, RepoId, Revision};
pub use model::{BaseModel, BlobState, ModelType, Safety, WordError};
pub use name::{EntryName, NAME_BYTES_MAX, NameError, RelativePath, cannot_be_shown};
pub use number::{BlobId, BundleId, DirectoryId, InodeNo, ModelId};
pub use secret::Secret;
pub use web_address::WebAddress;

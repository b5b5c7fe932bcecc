//! First bytes of a file → facts about it.
//!
//! Pure and limited: reads through `ByteSource`, never allocates beyond its limits whatever the bytes say, never runs
//! anything. Not here: what the facts mean (`classify`), where bytes come from (`store`, `hub`).

mod header;

pub use header::{ByteSource, Format, Header, Tensor};

//! Model hubs: what a repository holds, and ranges of its files.
//!
//! Owns: the trait `Hub`, one file per hub with its private wire types, the HTTP client with redirects followed by
//! hand, and the set of hubs. Invariants: a token goes to its own hub's origin and nowhere else; no token and no
//! signed URL appears in an error, a log line or a value that leaves this module; every answer to a range request is
//! checked before a byte of it is handed out; every body, page count and redirect chain has a limit.
//! Not here: which ranges to fetch and when to try again (`plan`, `fetch`), what is kept on disk (`store`, `catalog`).

mod answer;
mod api;
mod civitai;
mod civitai_cards;
mod civitai_search;
mod client;
mod error;
mod folder;
mod hugging_face;
mod hugging_face_card;
mod hugging_face_search;
mod listing;
mod measure;
mod mirrors;
mod modelscope;
mod modelscope_search;
mod pace;
mod published;
mod search;
mod set;
mod site;
mod web;

pub use api::{About, Expected, Hub, Known, Origin, RangeStream, RemoteFile, RepoListing};
pub use civitai_cards::{PLACED_MAX, PUBLISHED_MAX};
pub use error::{HubError, Response};
pub use mirrors::{Mirror, Mirrors};
pub use published::{Placed, Preview, Published, Sought};
pub use search::{FoundFile, FoundPage, FoundRepo, HubOrder, Question};
pub use set::{CIVITAI_ENDPOINT, HUGGING_FACE_ENDPOINT, HubOptions, HubSet, MODELSCOPE_ENDPOINT, source_of};

//! What hubs are asked when somebody searches, and what they answer, in words that no hub's wire format leaks into.
//!
//! Not here: the search grammar (`query`), what is kept of an answer (`library`).

use crate::base::{RepoId, Timestamp};
use crate::tree::Source;

/// In which order a hub gives its answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HubOrder {
    /// What the hub thinks best.
    #[default]
    Relevance,
    Downloads,
    Likes,
    Updated,
    Added,
}

/// One question. A hub may answer more than was asked for, never less: the asker looks through the answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// A part of a name; empty for anything.
    pub words: String,
    pub creator: Option<String>,
    /// All of them must hold.
    pub tags: Vec<String>,
    pub order: HubOrder,
    /// Answers on one page.
    pub page_hits: u32,
    /// Where an earlier page ended, as the hub called it.
    pub cursor: Option<String>,
}

/// A repository that a hub found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRepo {
    pub source: Source,
    pub repo: RepoId,
    pub downloads: Option<u64>,
    pub likes: Option<u64>,
    /// Every word the hub puts to it.
    pub tags: Vec<String>,
    pub license: Option<String>,
    pub updated: Option<Timestamp>,
    pub gated: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundPage {
    pub repos: Vec<FoundRepo>,
    /// The page after it, if there is one.
    pub cursor: Option<String>,
}

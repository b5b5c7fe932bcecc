//! What was asked and how much was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Hub,
    Cdn,
}

/// One request, as the tests see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub origin: Origin,
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// `org/name/path` for a file, `org/name` for a repository, else empty.
    pub subject: String,
    /// The `Range` header.
    pub range: Option<String>,
    pub with_authorization: bool,
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub bytes_sent: u64,
}

/// The same while its body is still being sent.
#[derive(Clone)]
pub struct Live {
    pub seen: Recorded,
    pub bytes_sent: Arc<AtomicU64>,
}

impl Live {
    pub fn snapshot(&self) -> Recorded {
        Recorded { bytes_sent: self.bytes_sent.load(Ordering::Relaxed), ..self.seen.clone() }
    }
}

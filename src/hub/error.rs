//! What can go wrong at a hub, what to do about each, and how it is told to a user.
//!
//! Invariant: no variant holds a token or a URL; a host at most.

use crate::base::{Fault, FaultKind};
use std::time::Duration;
use thiserror::Error;

/// A failed request. `subject` is `org/name` or `org/name/path`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HubError {
    #[error("the network is switched off")]
    Offline,
    #[error("this build knows no hub called {source_name}")]
    NoHub { source_name: &'static str },
    #[error("{source_name} cannot be searched by this build")]
    NoSearch { source_name: &'static str },
    #[error("`{text}` is not the address of a hub: {reason}")]
    Endpoint { text: String, reason: String },
    #[error("cannot reach {host}: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("{host} did not answer in time")]
    TimedOut { host: String },
    #[error("{host} sent {given_bytes} of {asked_bytes} bytes and then stopped")]
    Cut { host: String, asked_bytes: u64, given_bytes: u64 },
    #[error("{host} answered {status} for {subject}{message}", message = told(message))]
    Status { host: String, subject: String, status: u16, message: String },
    #[error("{host} asks to come back later")]
    RateLimited { host: String, retry_after: Option<Duration> },
    /// The hub says the same for a repository that is missing and for one that is private.
    #[error("{subject} does not exist at {host}, or is private")]
    RepoNotFound { host: String, subject: String },
    #[error("{subject} has no such revision at {host}")]
    RevisionNotFound { host: String, subject: String },
    #[error("{subject} is not in that revision at {host}")]
    EntryNotFound { host: String, subject: String },
    #[error("{subject} is gated at {host}{message}", message = told(message))]
    Gated { host: String, subject: String, message: String, with_token: bool },
    #[error("{host} refused the token")]
    BadToken { host: String },
    #[error("{host} does not allow {subject} for this account{message}", message = told(message))]
    Forbidden { host: String, subject: String, message: String },
    #[error("{subject} was disabled by the moderators of {host}")]
    Disabled { host: String, subject: String },
    #[error("{host} gives {subject} to accounts only")]
    LoginRequired { host: String, subject: String },
    #[error("{subject} is in early access at {host}{until}", until = lasting(until))]
    EarlyAccess { host: String, subject: String, until: Option<String> },
    #[error("{subject} is archived at {host}: its page is kept and its files are not given out")]
    Archived { host: String, subject: String },
    #[error("{host} is not offered in this region")]
    RegionBlocked { host: String },
    /// A signed address is refused: it expired, or the storage has a fault.
    #[error("{host} refused the signed address of {subject} with {status}")]
    Signature { host: String, subject: String, status: u16 },
    #[error("{subject} is not the file that was registered: {detail}")]
    Changed { subject: String, detail: String },
    /// An answer to a range request that is not that range.
    #[error("{host} answered another range than was asked of {subject}: {detail}")]
    WrongRange { host: String, subject: String, detail: String },
    #[error("{host} sent a {content_type} page instead of {subject}")]
    Page { host: String, subject: String, content_type: String },
    #[error("{host} sent {subject} compressed although that was not asked for")]
    Compressed { host: String, subject: String },
    #[error("{host} gave an answer about {subject} that cannot be understood: {detail}")]
    Malformed { host: String, subject: String, detail: String },
    #[error("{host} gave more about {subject} than is accepted: {what} over {limit}")]
    OverLimit { host: String, subject: String, what: &'static str, limit: u64 },
    #[error("{host} redirects {subject} {detail}")]
    Redirect { host: String, subject: String, detail: &'static str },
}

fn told(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn lasting(until: &Option<String>) -> String {
    until.as_deref().map(|until| format!(" until {until}")).unwrap_or_default()
}

/// What the download engine does after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// The same place again, after a pause of at least this long.
    Retry { after: Option<Duration> },
    /// The same place again a few times; if it goes on, another place.
    RetryBriefly,
    /// This place will not give the file: another place, or fail.
    NextOrigin,
    /// Nothing will help.
    Fail,
}

impl HubError {
    /// The table of failures: what is passing, what is final for one place, what is final at all.
    pub fn response(&self) -> Response {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Cut { .. } => Response::Retry { after: None },
            Self::RateLimited { retry_after, .. } => Response::Retry { after: *retry_after },
            // 408, 425 and 5xx pass; any other status is this server's last word.
            Self::Status { status: 408 | 425 | 500..=599, .. } => Response::Retry { after: None },
            Self::Status { .. } => Response::NextOrigin,
            Self::Signature { .. }
            | Self::WrongRange { .. }
            | Self::Page { .. }
            | Self::Compressed { .. }
            | Self::Malformed { .. }
            | Self::Redirect { .. } => Response::RetryBriefly,
            Self::RepoNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::EntryNotFound { .. }
            | Self::Gated { .. }
            | Self::BadToken { .. }
            | Self::Forbidden { .. }
            | Self::Disabled { .. }
            | Self::LoginRequired { .. }
            | Self::EarlyAccess { .. }
            | Self::Archived { .. }
            | Self::RegionBlocked { .. }
            | Self::Changed { .. }
            | Self::OverLimit { .. }
            | Self::NoHub { .. }
            | Self::NoSearch { .. }
            | Self::Endpoint { .. } => Response::NextOrigin,
            Self::Offline => Response::Fail,
        }
    }

    pub fn fault(&self) -> Fault {
        const AGAIN: &str = "check the network connection and try again";
        const TOKEN: &str =
            "set the hub's token (HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_API_TOKEN) to one of an account that may read it";
        let (kind, remedy) = match self {
            Self::Offline => (FaultKind::Offline, "run without --offline and without the variables that forbid it"),
            Self::NoHub { .. } | Self::NoSearch { .. } => (FaultKind::Unsupported, "use a newer modelfs"),
            Self::Endpoint { .. } => {
                (FaultKind::Invalid, "set the hub's endpoint to a URL such as https://huggingface.co")
            }
            Self::Unreachable { .. } => (FaultKind::Unreachable, AGAIN),
            Self::TimedOut { .. } => (FaultKind::TimedOut, AGAIN),
            Self::Cut { .. } => (FaultKind::Unreachable, "try again: what has arrived is kept"),
            Self::Status { .. } => (FaultKind::Unreachable, "try again later"),
            Self::RateLimited { .. } => (
                FaultKind::RateLimited,
                "wait a few minutes, or set the hub's token (HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_API_TOKEN): accounts may do more",
            ),
            Self::RepoNotFound { .. } => (
                FaultKind::NotFound,
                "check the name; for a private repository set the hub's token (HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_API_TOKEN)",
            ),
            Self::RevisionNotFound { .. } => (FaultKind::NotFound, "check the revision on the repository's page"),
            Self::EntryNotFound { .. } => (FaultKind::Gone, "check the path on the repository's page"),
            Self::Gated { with_token: false, .. } => {
                (FaultKind::AccessDenied, "accept its terms on the repository's page, then set HF_TOKEN")
            }
            Self::Gated { with_token: true, .. } => {
                (FaultKind::AccessDenied, "accept its terms on the repository's page with the token's account")
            }
            Self::BadToken { .. } => (
                FaultKind::AccessDenied,
                "set the hub's token (HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_API_TOKEN) to a valid one, or unset it",
            ),
            Self::Forbidden { .. } => (FaultKind::AccessDenied, TOKEN),
            Self::Disabled { .. } | Self::Archived { .. } => (FaultKind::Gone, ""),
            Self::LoginRequired { .. } => (FaultKind::AccessDenied, "set CIVITAI_TOKEN to a key of your account"),
            Self::EarlyAccess { .. } => (
                FaultKind::AccessDenied,
                "wait until then, or buy access with the account whose key is in CIVITAI_TOKEN",
            ),
            Self::RegionBlocked { .. } => (FaultKind::AccessDenied, ""),
            Self::Signature { .. } => (FaultKind::Unreachable, "try again later"),
            Self::Changed { .. } => (FaultKind::Gone, "run `modelfs add` again for the new file"),
            Self::WrongRange { .. } | Self::Compressed { .. } | Self::Page { .. } | Self::Malformed { .. } => {
                (FaultKind::Unreachable, "check the hub's endpoint and any proxy in between, then try again")
            }
            Self::OverLimit { .. } => (FaultKind::Unsupported, "name a single file or folder of the repository"),
            Self::Redirect { .. } => (FaultKind::Unreachable, "check the hub's endpoint and any proxy in between"),
        };
        Fault::new(kind, self.to_string(), remedy)
    }
}

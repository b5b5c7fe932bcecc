//! Why the first bytes of a file are not taken as a model.
//!
//! Invariant: every message is one sentence without bytes of the file in it beyond short, printable names.
//! Not here: which file it was; whoever read it says so in `fault`.

use std::{fmt, io};

use super::Format;
use crate::base::{Fault, FaultKind};

/// What a file is when it is no model at all, though its name says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageKind {
    /// The text that Git stores in place of a large file.
    LfsPointer,
    /// A page of a hub, saved in place of the file.
    Html,
    /// An answer of an API, saved in place of the file.
    Json,
    /// A short plain text: `Entry not found`, `Access to model … is restricted`.
    Text,
    /// A download that reserved its space and never arrived.
    Zeros,
    Empty,
}

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("it is {what}, not a model")]
    NotAModel { what: PageKind },
    /// `claimed_bytes` is absent where the format says no size but its end is missing.
    #[error("it is cut off: {}", cut_off(*claimed_bytes, *actual_bytes))]
    Truncated { claimed_bytes: Option<u64>, actual_bytes: u64 },
    #[error("its header is too large: {found} {what}, at most {limit} are read")]
    OverLimit { what: &'static str, limit: u64, found: u64 },
    #[error("its {} header is damaged: {reason}", .format.as_str())]
    Malformed { format: Format, reason: String },
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Longest reason shown: a library's message may quote a name of the file.
const REASON_CHARS_MAX: usize = 200;

impl FormatError {
    /// A damaged header; the reason is cut and made printable.
    pub(super) fn malformed(format: Format, reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        let shown = reason.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { '·' } else { c }).collect();
        Self::Malformed { format, reason: shown }
    }

    /// The failure in a user's words; `file` is its name or path as the user knows it.
    pub fn fault(&self, file: &str) -> Fault {
        let (kind, remedy) = match self {
            Self::NotAModel { what: PageKind::LfsPointer } => (
                FaultKind::Invalid,
                "fetch the file itself with `git lfs pull`, or add its repository with `modelfs add`",
            ),
            Self::NotAModel { .. } | Self::Truncated { .. } => (FaultKind::Invalid, "download it again"),
            Self::OverLimit { .. } => (FaultKind::Unsupported, "use it only where it lies if you trust its source"),
            Self::Malformed { .. } => {
                (FaultKind::Invalid, "download it again, or convert it with the tool that wrote it")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (FaultKind::AccessDenied, "make it readable for this user")
            }
            Self::Io(_) => (FaultKind::Internal, "check the disk it lies on"),
        };
        Fault::new(kind, format!("`{file}` is refused: {self}"), remedy)
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LfsPointer => "a Git LFS pointer",
            Self::Html => "a web page saved in place of the file",
            Self::Json => "the JSON answer of a server saved in place of the file",
            Self::Text => "a short text saved in place of the file",
            Self::Zeros => "an unfinished download that holds only zeros",
            Self::Empty => "an empty file",
        })
    }
}

fn cut_off(claimed_bytes: Option<u64>, actual_bytes: u64) -> String {
    match claimed_bytes {
        Some(claimed) => format!("its header claims {claimed} bytes, the file has {actual_bytes}"),
        None => format!("the file ends after {actual_bytes} bytes, before its own end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_the_file_and_what_to_do() {
        let errors = [
            FormatError::NotAModel { what: PageKind::LfsPointer },
            FormatError::NotAModel { what: PageKind::Zeros },
            FormatError::Truncated { claimed_bytes: Some(10), actual_bytes: 3 },
            FormatError::Truncated { claimed_bytes: None, actual_bytes: 3 },
            FormatError::OverLimit { what: "bytes", limit: 1, found: 2 },
            FormatError::malformed(Format::Gguf, "x\n\u{1b}".repeat(500)),
            FormatError::Io(io::ErrorKind::PermissionDenied.into()),
        ];
        for error in errors {
            let fault = error.fault("a.gguf");
            assert!(fault.what.contains("`a.gguf`") && !fault.remedy.is_empty(), "{fault}");
            assert!(!fault.what.contains(char::is_control) && fault.what.len() < 1_000, "{fault}");
        }
    }
}

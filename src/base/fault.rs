//! The closed list of failures a user can meet.
//!
//! Every layer has its own error enum; each maps to a `Fault` in one place, and each edge maps `FaultKind` to its own
//! code (errno, exit code, HTTP status) in one `match` without a wildcard. Invariant: no text in a fault holds a token
//! or a signed URL. Not here: the codes themselves.

use std::fmt;

/// What kind of failure it is, by what a user can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultKind {
    /// There is no such file, model, repository or revision.
    NotFound,
    /// A bad name, value, query or reference.
    Invalid,
    /// A reference names several things.
    Ambiguous,
    /// Something with this name is already there.
    Exists,
    /// The place can only be read.
    ReadOnly,
    /// The operation is never allowed here.
    NotPermitted,
    /// Token missing, gated or private at the hub; or the file is not readable by this user.
    AccessDenied,
    /// The network is needed and switched off.
    Offline,
    /// The hub cannot be reached or broke its protocol.
    Unreachable,
    /// A bounded wait ran out without progress.
    TimedOut,
    /// The hub asks to come back later.
    RateLimited,
    /// The file is gone at its hub, or a linked file changed where it lies.
    Gone,
    /// Bytes do not match the published or recorded hash.
    Integrity,
    /// The disk is full.
    NoSpace,
    /// Another process holds what is needed.
    Busy,
    /// This filesystem, kernel or file format cannot do it.
    Unsupported,
    /// Nothing is mounted there.
    NotMounted,
    /// The user stopped it.
    Interrupted,
    /// Reading or writing the local disk failed, or an invariant of ours is broken.
    Internal,
}

impl FaultKind {
    const WORDS: [(Self, &str); 19] = [
        (Self::NotFound, "not-found"),
        (Self::Invalid, "invalid"),
        (Self::Ambiguous, "ambiguous"),
        (Self::Exists, "exists"),
        (Self::ReadOnly, "read-only"),
        (Self::NotPermitted, "not-permitted"),
        (Self::AccessDenied, "access-denied"),
        (Self::Offline, "offline"),
        (Self::Unreachable, "unreachable"),
        (Self::TimedOut, "timed-out"),
        (Self::RateLimited, "rate-limited"),
        (Self::Gone, "gone"),
        (Self::Integrity, "integrity"),
        (Self::NoSpace, "no-space"),
        (Self::Busy, "busy"),
        (Self::Unsupported, "unsupported"),
        (Self::NotMounted, "not-mounted"),
        (Self::Interrupted, "interrupted"),
        (Self::Internal, "internal"),
    ];

    /// For programs: stable, unlike the sentences.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("internal", |(_, word)| word)
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// A failure in a user's words: what happened, to what, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// One sentence without the final full stop that names the subject.
    pub what: String,
    /// What to do about it, as one imperative sentence; empty when nothing helps.
    pub remedy: String,
}

impl Fault {
    pub fn new(kind: FaultKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: without_number(what.into()), remedy: remedy.into() }
    }
}

/// The system's words for an error end with its number, which tells a user nothing.
fn without_number(text: String) -> String {
    const START: &str = " (os error ";
    let number = text.strip_suffix(')').and_then(|rest| rest.rsplit_once(START));
    match number {
        Some((before, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => before.to_owned(),
        _ => text,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_is_told_in_words() {
        for (what, expected) in [
            (
                format!("cannot open a: {}", std::io::Error::from_raw_os_error(2)),
                "cannot open a: No such file or directory",
            ),
            ("a (os error 2".to_owned(), "a (os error 2"),
            ("a (os error x)".to_owned(), "a (os error x)"),
            ("a (b)".to_owned(), "a (b)"),
        ] {
            assert_eq!(Fault::new(FaultKind::Internal, what, "").what, expected);
        }
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for (kind, word) in FaultKind::WORDS {
            assert_eq!((kind.as_str(), FaultKind::parse(word)), (word, Some(kind)));
        }
        assert_eq!(FaultKind::parse("nonsense"), None);
    }
}

//! Names of directory entries, and relative paths made of them.
//!
//! Invariants: an `EntryName` can be one entry of a directory on any Linux filesystem and can be shown on a terminal;
//! a `RelativePath` never leaves the folder it is relative to. Not here: choosing between equal names (`tree`).

use std::fmt;
use std::sync::Arc;

/// Longest name of a directory entry, in bytes (`NAME_MAX` of Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest relative path, in bytes: leaves room for a mount point within `PATH_MAX` (4096).
const PATH_BYTES_MAX: usize = 2048;
/// Deepest relative path; hubs show fewer than ten levels.
const PATH_DEPTH_MAX: usize = 32;

/// One valid, showable name of a directory entry. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(Arc<str>);

/// Why a text cannot be a name or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    Empty,
    /// `.` or `..`.
    Dots,
    /// Contains `/`.
    Separator,
    /// Contains a control character, NUL, a line break or a direction override.
    Control,
    /// Over `NAME_BYTES_MAX`, or a path over its limits.
    TooLong,
    /// Starts with `/`.
    Absolute,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

impl EntryName {
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its last suffix: `a.b.ckpt` → `a.b`; a leading dot is no suffix.
    pub fn stem(&self) -> &str {
        match self.0.rfind('.') {
            Some(0) | None => &self.0,
            Some(dot) => &self.0[..dot],
        }
    }

    /// The last suffix with its dot, or nothing: `a.b.ckpt` → `.ckpt`.
    pub fn suffix(&self) -> &str {
        &self.0[self.stem().len()..]
    }
}

fn check_name(text: &str) -> Result<(), NameError> {
    match text {
        "" => return Err(NameError::Empty),
        "." | ".." => return Err(NameError::Dots),
        _ => {}
    }
    if text.contains('/') {
        return Err(NameError::Separator);
    }
    if text.chars().any(cannot_be_shown) {
        return Err(NameError::Control);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    Ok(())
}

/// Control characters break terminals; direction overrides let `gpj.exe` look like `exe.jpg`.
pub fn cannot_be_shown(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for EntryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A path of one or more valid names, relative to some folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Arc<str>);

impl RelativePath {
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if text.len() > PATH_BYTES_MAX || text.split('/').count() > PATH_DEPTH_MAX {
            return Err(NameError::TooLong);
        }
        text.split('/').try_for_each(check_name)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn names(&self) -> impl DoubleEndedIterator<Item = EntryName> + '_ {
        self.0.split('/').map(|name| EntryName(name.into()))
    }

    /// The last name of the path.
    pub fn file_name(&self) -> EntryName {
        EntryName(self.0.rsplit('/').next().unwrap_or(&self.0).into())
    }

    /// The folders before the last name, if there are any.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    pub fn join(&self, name: &EntryName) -> Result<Self, NameError> {
        Self::new(&format!("{self}/{name}"))
    }
}

impl std::borrow::Borrow<str> for RelativePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::Dots => "the name is `.` or `..`",
            Self::Separator => "the name contains `/`",
            Self::Control => "the name contains a character that cannot be shown",
            Self::TooLong => "the name is longer than a filesystem allows",
            Self::Absolute => "the path is absolute",
            Self::NotUtf8 => "the name is not UTF-8",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), NameError>) {
        assert_eq!(EntryName::new(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn names_are_checked() {
        check("model.safetensors", Ok(()));
        check("日本語 モデル.ckpt", Ok(()));
        check("", Err(NameError::Empty));
        check("..", Err(NameError::Dots));
        check("a/b", Err(NameError::Separator));
        check("a\nb", Err(NameError::Control));
        check("a\0b", Err(NameError::Control));
        check("a\u{202E}b", Err(NameError::Control));
        check(&"x".repeat(255), Ok(()));
        check(&"x".repeat(256), Err(NameError::TooLong));
    }

    #[test]
    fn paths_never_leave_their_folder() {
        for text in ["", "/etc/passwd", "a/../b", "a//b", "a/.", "..", "a/b\0", &"d/".repeat(40)] {
            assert!(RelativePath::new(text).is_err(), "{text:?}");
        }
        let path = RelativePath::new("unet/sub/x.safetensors").expect("valid");
        assert_eq!(path.file_name().as_str(), "x.safetensors");
        assert_eq!(path.parent().expect("two folders").as_str(), "unet/sub");
        assert_eq!(path.names().count(), 3);
    }

    #[test]
    fn suffix_is_the_last_one() {
        for (text, stem, suffix) in [("a.b.ckpt", "a.b", ".ckpt"), (".hidden", ".hidden", ""), ("plain", "plain", "")] {
            let name = EntryName::new(text).expect("valid");
            assert_eq!((name.stem(), name.suffix()), (stem, suffix));
        }
    }
}

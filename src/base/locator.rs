//! Where bytes come from at a hub: repository, revision, path.
//!
//! Invariants: a `RepoId` has the form its hub allows and can be part of a URL and of a directory name. The text forms
//! are those of the command line (`hf:org/name@rev/path`). Not here: URLs (`hub`).

use super::{NameError, RelativePath};
use std::fmt;
use std::sync::Arc;

/// Longest repository id the Hugging Face hub accepts, in bytes.
const REPO_BYTES_MAX: usize = 96;
/// Longest revision; git refuses refs over 255 bytes.
const REVISION_BYTES_MAX: usize = 255;

/// `org/name`, or a legacy one-part name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RepoId(Arc<str>);

impl RepoId {
    pub fn new(text: &str) -> Result<Self, LocatorError> {
        let parts: Vec<&str> = text.split('/').collect();
        let part_ok = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("..")
                && !part.contains("--")
        };
        let ok =
            text.len() <= REPO_BYTES_MAX && parts.len() <= 2 && parts.iter().all(part_ok) && !text.ends_with(".git");
        if ok { Ok(Self(text.into())) } else { Err(LocatorError::Repo(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A branch, tag, pull request ref or commit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Revision(Arc<str>);

impl Revision {
    pub fn new(text: &str) -> Result<Self, LocatorError> {
        let ok = !text.is_empty()
            && text.len() <= REVISION_BYTES_MAX
            && text
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\' | '^' | '~' | ':' | '*' | '['))
            && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if ok { Ok(Self(text.into())) } else { Err(LocatorError::Revision(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a full commit id: 40 hex digits name one state for ever.
    pub fn is_commit(&self) -> bool {
        self.0.len() == 40 && self.0.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// What `modelfs add` can be given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Locator {
    HuggingFace { repo: RepoId, revision: Option<Revision>, path: Option<RelativePath> },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocatorError {
    /// No scheme that is known here.
    Scheme(String),
    Repo(String),
    Revision(String),
    Path(String, NameError),
}

impl Locator {
    /// Parses `hf:org/name[@rev][/path]` and the URL of a Hugging Face page.
    ///
    /// In the short form a revision ends at the first `/`; write `%2F` for a `/` inside it (`refs%2Fpr%2F1`).
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        if let Some(rest) = text.strip_prefix("hf:") {
            return Self::parse_hugging_face(rest);
        }
        for prefix in ["https://huggingface.co/", "http://huggingface.co/", "https://hf.co/"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                return Self::parse_hugging_face_page(rest);
            }
        }
        Err(LocatorError::Scheme(text.to_owned()))
    }

    fn parse_hugging_face(rest: &str) -> Result<Self, LocatorError> {
        let (repo, revision, path) = match rest.split_once('@') {
            Some((repo, after)) => {
                let (revision, path) = after.split_once('/').map_or((after, None), |(rev, path)| (rev, Some(path)));
                (repo.to_owned(), Some(Revision::new(&revision.replace("%2F", "/"))?), path)
            }
            None => {
                let mut parts = rest.splitn(3, '/');
                let org = parts.next().unwrap_or_default();
                let repo = parts.next().map_or(org.to_owned(), |name| format!("{org}/{name}"));
                (repo, None, parts.next())
            }
        };
        let path = path.filter(|path| !path.is_empty()).map(parse_path).transpose()?;
        Ok(Self::HuggingFace { repo: RepoId::new(&repo)?, revision, path })
    }

    /// `org/name`, `org/name/tree/<rev>[/path]`, `org/name/blob|resolve/<rev>/path`, with or without a query.
    fn parse_hugging_face_page(rest: &str) -> Result<Self, LocatorError> {
        let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let mut parts = rest.splitn(5, '/');
        let (org, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let repo = RepoId::new(&if name.is_empty() { org.to_owned() } else { format!("{org}/{name}") })?;
        match parts.next() {
            None => Ok(Self::HuggingFace { repo, revision: None, path: None }),
            Some("tree" | "blob" | "resolve") => {
                let revision = parts.next().unwrap_or_default().replace("%2F", "/");
                let path = parts.next().filter(|path| !path.is_empty()).map(parse_path).transpose()?;
                Ok(Self::HuggingFace { repo, revision: Some(Revision::new(&revision)?), path })
            }
            Some(_) => Err(LocatorError::Scheme(format!("https://huggingface.co/{rest}"))),
        }
    }
}

fn parse_path(text: &str) -> Result<RelativePath, LocatorError> {
    RelativePath::new(text).map_err(|error| LocatorError::Path(text.to_owned(), error))
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LocatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(text) => write!(f, "`{text}` is no address of a hub that is known here"),
            Self::Repo(text) => write!(f, "`{text}` is not a repository name"),
            Self::Revision(text) => write!(f, "`{text}` is not a revision"),
            Self::Path(text, error) => write!(f, "`{text}` is not a path in a repository: {error}"),
        }
    }
}

impl std::error::Error for LocatorError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, repo: &str, revision: Option<&str>, path: Option<&str>) {
        let Locator::HuggingFace { repo: r, revision: v, path: p } = Locator::parse(text).expect(text);
        assert_eq!(
            (r.as_str(), v.as_ref().map(Revision::as_str), p.as_ref().map(RelativePath::as_str)),
            (repo, revision, path),
            "{text}"
        );
    }

    #[test]
    fn forms_of_the_command_line() {
        check("hf:gpt2", "gpt2", None, None);
        check("hf:org/name", "org/name", None, None);
        check("hf:org/name@main", "org/name", Some("main"), None);
        check("hf:org/name@refs%2Fpr%2F1/a/b.gguf", "org/name", Some("refs/pr/1"), Some("a/b.gguf"));
        check("hf:org/name/sub/x.safetensors", "org/name", None, Some("sub/x.safetensors"));
        check("https://huggingface.co/org/name", "org/name", None, None);
        check("https://huggingface.co/org/name/blob/main/x.bin?download=true", "org/name", Some("main"), Some("x.bin"));
        check("https://huggingface.co/org/name/tree/v1/", "org/name", Some("v1"), None);
    }

    #[test]
    fn hostile_forms_are_refused() {
        for text in [
            "",
            "hf:",
            "hf:../x",
            "hf:a/b@",
            "hf:a/b@x/../y",
            "hf:a/b/../../etc",
            "hf:a--b/c",
            "hf:-a/b",
            "ftp://x",
            "hf:a/b@..",
            "hf:a/b.git",
        ] {
            assert!(Locator::parse(text).is_err(), "{text}");
        }
    }
}

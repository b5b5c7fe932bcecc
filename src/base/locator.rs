//! Where bytes come from at a hub: repository, revision, path.
//!
//! Invariants: a `RepoId` has the form its hub allows and can be part of a URL and of a directory name. The text forms
//! are those of the command line (`hf:org/name@rev/path`, `civitai:1@2`) and of pages as people paste them.
//! Not here: the addresses that are asked (`hub`).

use super::web_address::{decoded, shown};
use super::{NameError, RelativePath, WebAddress};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Longest repository id the Hugging Face hub accepts, in bytes.
const REPO_BYTES_MAX: usize = 96;
/// Longest revision; git refuses refs over 255 bytes.
const REVISION_BYTES_MAX: usize = 255;

/// Longest name of a host in the domain name system.
const HOST_BYTES_MAX: usize = 253;
/// Pages of the hubs, as people paste them.
const HUGGING_FACE_PAGES: [&str; 3] = ["https://huggingface.co/", "http://huggingface.co/", "https://hf.co/"];
const CIVITAI_PAGES: [&str; 5] = [
    "https://civitai.com/",
    "http://civitai.com/",
    "https://www.civitai.com/",
    "https://civitai.red/",
    "https://civitai.green/",
];
const MODELSCOPE_PAGES: [&str; 3] =
    ["https://modelscope.cn/", "https://www.modelscope.cn/", "http://www.modelscope.cn/"];
/// Beginnings of the text forms that are no addresses.
const SHORT_FORMS: [&str; 5] = ["hf:", "civitai:", "modelscope:", "urn:air:", "dir:"];

/// `org/name`; a one-part name or number; or `https/host:port`, where a file on the web is.
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
        let is_host = matches!(parts.as_slice(), ["http" | "https", host] if is_host(host));
        if ok || is_host { Ok(Self(text.into())) } else { Err(LocatorError::Repo(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name or an IPv4 address, with or without a port.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
    };
    let port_ok = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label_ok) && port.is_none_or(port_ok)
}

/// A branch, tag, pull request ref, commit, or number of a version.
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

/// Which files of a version are wanted; nothing said means all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct FileChoice {
    /// The hub's number of the one file.
    pub id: Option<u64>,
    /// The hub's words, as in its download addresses: `Model`, `SafeTensor`, `pruned`, `fp16`.
    pub kind: Option<String>,
    pub format: Option<String>,
    pub size: Option<String>,
    pub precision: Option<String>,
}

/// What `modelfs add` can be given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Locator {
    HuggingFace {
        repo: RepoId,
        revision: Option<Revision>,
        path: Option<RelativePath>,
    },
    /// A model, a version of it, or a version alone: one of the two numbers is there.
    Civitai {
        model: Option<u64>,
        version: Option<u64>,
        choice: FileChoice,
    },
    ModelScope {
        repo: RepoId,
        revision: Option<Revision>,
        path: Option<RelativePath>,
    },
    Web(WebAddress),
    /// A folder or file of this machine; relative to where the command was given.
    Folder(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocatorError {
    /// No scheme that is known here.
    Scheme(String),
    Repo(String),
    Revision(String),
    Path(String, NameError),
    /// An address of the web that cannot be kept.
    Address {
        text: String,
        reason: &'static str,
    },
    /// A model or version of Civitai is named by numbers.
    Number(String),
}

impl Locator {
    /// Parses the short forms (`hf:org/name[@rev][/path]`, `modelscope:…`, `civitai:model[@version][+file]`, `dir:path`),
    /// AIR names, pages of the hubs, and addresses of single files.
    ///
    /// In the short form a revision ends at the first `/`; write `%2F` for a `/` inside it (`refs%2Fpr%2F1`).
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        if let Some(rest) = text.strip_prefix("hf:") {
            return Self::parse_hugging_face(rest);
        }
        if let Some(rest) = text.strip_prefix("modelscope:") {
            let (repo, revision, path) = parse_repository(rest)?;
            return Ok(Self::ModelScope { repo, revision, path });
        }
        if let Some(rest) = text.strip_prefix("civitai:") {
            return Self::parse_civitai(rest);
        }
        if let Some(rest) = text.strip_prefix("urn:air:") {
            return Self::parse_air(rest);
        }
        if let Some(rest) = text.strip_prefix("dir:").filter(|rest| !rest.is_empty()) {
            return Ok(Self::Folder(PathBuf::from(rest)));
        }
        if let Some(rest) = text.strip_prefix("file://").filter(|rest| rest.starts_with('/')) {
            let path = decoded(rest).ok_or_else(|| LocatorError::Path(text.to_owned(), NameError::NotUtf8))?;
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        if let Some(rest) = page_of(&HUGGING_FACE_PAGES, text) {
            return Self::parse_hugging_face_page(rest);
        }
        if let Some(rest) = page_of(&CIVITAI_PAGES, text) {
            return Self::parse_civitai_page(rest);
        }
        if let Some(rest) = page_of(&MODELSCOPE_PAGES, text) {
            return Self::parse_modelscope_page(rest);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return WebAddress::parse(text).map(Self::Web);
        }
        Err(LocatorError::Scheme(shown(text)))
    }

    /// Whether a text is meant as one of these forms, well written or not.
    pub fn is_meant(text: &str) -> bool {
        SHORT_FORMS.iter().any(|form| text.starts_with(form)) || text.contains("://")
    }

    fn parse_hugging_face(rest: &str) -> Result<Self, LocatorError> {
        let (repo, revision, path) = parse_repository(rest)?;
        Ok(Self::HuggingFace { repo, revision, path })
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

    /// `model[@version][+file]`.
    fn parse_civitai(rest: &str) -> Result<Self, LocatorError> {
        let (rest, file) = rest.split_once('+').map_or((rest, None), |(rest, file)| (rest, Some(file)));
        let (model, version) = rest.split_once('@').map_or((rest, None), |(model, version)| (model, Some(version)));
        let choice = FileChoice { id: file.map(parse_number).transpose()?, ..FileChoice::default() };
        Ok(Self::Civitai { model: Some(parse_number(model)?), version: version.map(parse_number).transpose()?, choice })
    }

    /// `sdxl:lora:civitai:model@version[+file][.format]`, after `urn:air:`.
    fn parse_air(rest: &str) -> Result<Self, LocatorError> {
        let unknown = || LocatorError::Scheme(format!("urn:air:{rest}"));
        let (source, name) = rest.rsplit_once(':').ok_or_else(unknown)?;
        if source.rsplit(':').next() != Some("civitai") {
            return Err(unknown());
        }
        Self::parse_civitai(name.split('.').next().unwrap_or_default())
    }

    /// `models/ID[/slug][?modelVersionId=V]`, `model-versions/V`, `api/download/models/V[?fileId=…]`.
    fn parse_civitai_page(rest: &str) -> Result<Self, LocatorError> {
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
            found.and_then(|(_, value)| decoded(&value.replace('+', " "))).filter(|value| !value.is_empty())
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["models", id, ..] => {
                let version = parameter("modelVersionId").map(|version| parse_number(&version)).transpose()?;
                Ok(Self::Civitai { model: Some(parse_number(id)?), version, choice: FileChoice::default() })
            }
            ["model-versions", id] | ["api", "v1", "model-versions", id] => {
                Ok(Self::Civitai { model: None, version: Some(parse_number(id)?), choice: FileChoice::default() })
            }
            ["api", "download", "models", id] => {
                let choice = FileChoice {
                    id: parameter("fileId").map(|id| parse_number(&id)).transpose()?,
                    kind: parameter("type"),
                    format: parameter("format"),
                    size: parameter("size"),
                    precision: parameter("fp"),
                };
                Ok(Self::Civitai { model: None, version: Some(parse_number(id)?), choice })
            }
            // A query may hold a token, so only the path is repeated.
            _ => Err(LocatorError::Scheme(format!("https://civitai.com/{path}"))),
        }
    }

    /// `models/org/name[/summary|files|tree/<rev>…|file/view/<rev>/path|resolve/<rev>/path]`.
    fn parse_modelscope_page(rest: &str) -> Result<Self, LocatorError> {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let unknown = || LocatorError::Scheme(format!("https://modelscope.cn/{rest}"));
        let ["models", org, name, inside @ ..] = parts.as_slice() else { return Err(unknown()) };
        let (revision, path) = match inside {
            [] | ["summary" | "files"] => (None, &[][..]),
            ["tree" | "resolve" | "blob", revision, path @ ..] | ["file", "view", revision, path @ ..] => {
                (Some(Revision::new(&revision.replace("%2F", "/"))?), path)
            }
            _ => return Err(unknown()),
        };
        let path = path.join("/");
        let path = decoded(&path).filter(|path| !path.is_empty()).as_deref().map(parse_path).transpose()?;
        Ok(Self::ModelScope { repo: RepoId::new(&format!("{org}/{name}"))?, revision, path })
    }
}

/// `org/name[@rev][/path]`.
fn parse_repository(rest: &str) -> Result<(RepoId, Option<Revision>, Option<RelativePath>), LocatorError> {
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
    Ok((RepoId::new(&repo)?, revision, path))
}

fn page_of<'t>(pages: &[&str], text: &'t str) -> Option<&'t str> {
    pages.iter().find_map(|page| text.strip_prefix(page))
}

fn parse_number(text: &str) -> Result<u64, LocatorError> {
    let ok = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| ok && *number > 0);
    number.ok_or_else(|| LocatorError::Number(text.chars().take(REPO_BYTES_MAX).collect()))
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
            Self::Address { text, reason } => write!(f, "`{text}` cannot be used as an address: {reason}"),
            Self::Number(text) => write!(f, "`{text}` is not the number of a model, a version or a file"),
        }
    }
}

impl std::error::Error for LocatorError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, repo: &str, revision: Option<&str>, path: Option<&str>) {
        let Locator::HuggingFace { repo: r, revision: v, path: p } = Locator::parse(text).expect(text) else {
            panic!("{text} is of another hub");
        };
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
    fn forms_of_civitai() {
        let parsed = |text: &str| match Locator::parse(text).expect(text) {
            Locator::Civitai { model, version, choice } => (model, version, choice.id),
            other => panic!("{text} is {other:?}"),
        };
        for (text, expected) in [
            ("civitai:12", (Some(12), None, None)),
            ("civitai:12@34", (Some(12), Some(34), None)),
            ("civitai:12@34+5", (Some(12), Some(34), Some(5))),
            ("urn:air:sdxl:lora:civitai:12@34", (Some(12), Some(34), None)),
            ("urn:air:flux1:checkpoint:civitai:12@34+5.safetensors", (Some(12), Some(34), Some(5))),
            ("https://civitai.com/models/12", (Some(12), None, None)),
            ("https://civitai.com/models/12/a-slug?x=1&modelVersionId=34#top", (Some(12), Some(34), None)),
            ("https://civitai.red/models/12/", (Some(12), None, None)),
            ("https://civitai.com/model-versions/34", (None, Some(34), None)),
            ("https://civitai.com/api/download/models/34?fileId=5&token=secret", (None, Some(34), Some(5))),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        let text =
            "https://civitai.com/api/download/models/34?type=Pruned%20Model&format=SafeTensor&size=pruned&fp=fp16";
        let Ok(Locator::Civitai { choice, .. }) = Locator::parse(text) else { panic!("{text}") };
        assert_eq!((choice.kind.as_deref(), choice.precision.as_deref()), (Some("Pruned Model"), Some("fp16")));
    }

    #[test]
    fn forms_of_modelscope_and_other_places() {
        for (text, expected) in [
            ("modelscope:org/name", ("org/name", None, None)),
            ("modelscope:org/name@v1/a/b.gguf", ("org/name", Some("v1"), Some("a/b.gguf"))),
            ("https://www.modelscope.cn/models/org/name/summary", ("org/name", None, None)),
            ("https://modelscope.cn/models/org/name/files", ("org/name", None, None)),
            ("https://modelscope.cn/models/org/name/tree/v1/a", ("org/name", Some("v1"), Some("a"))),
            ("https://modelscope.cn/models/o/n/file/view/master/a%20b.md?s=1", ("o/n", Some("master"), Some("a b.md"))),
            ("https://modelscope.cn/models/o/n/resolve/master/x.gguf", ("o/n", Some("master"), Some("x.gguf"))),
        ] {
            let Ok(Locator::ModelScope { repo, revision, path }) = Locator::parse(text) else { panic!("{text}") };
            let found =
                (repo.as_str(), revision.as_ref().map(Revision::as_str), path.as_ref().map(RelativePath::as_str));
            assert_eq!(found, expected, "{text}");
        }
        assert!(matches!(Locator::parse("https://h.example/x.gguf"), Ok(Locator::Web(_))));
        assert_eq!(Locator::parse("dir:models"), Ok(Locator::Folder("models".into())));
        assert_eq!(Locator::parse("file:///a%20b"), Ok(Locator::Folder("/a b".into())));
        for text in ["hf:x", "civitai:x", "https://x", "dir:x", "file:///x"] {
            assert!(Locator::is_meant(text), "{text}");
        }
        assert!(!Locator::is_meant("loras/x.safetensors"));
    }

    #[test]
    fn what_is_refused_is_repeated_without_its_secrets() {
        for text in ["ftp://h/x?token=hunter2", "HTTPS://user:hunter2@h/x", "s3://k:hunter2@h/x", "x?key=hunter2"] {
            let error = Locator::parse(text).expect_err(text);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
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
            "dir:",
            "file://host/x",
            "civitai:",
            "civitai:0",
            "civitai:1@",
            "civitai:-1",
            "civitai:99999999999999999999999",
            "civitai:1@2/../3",
            "urn:air:sdxl:lora:elsewhere:1@2",
            "https://civitai.com/user/name",
            "modelscope:../x",
            "https://modelscope.cn/models/a/b/resolve/master/%2e%2e/x",
            "https://modelscope.cn/datasets/a/b",
            "https://user:password@host/x.bin",
        ] {
            assert!(Locator::parse(text).is_err(), "{text}");
        }
    }
}

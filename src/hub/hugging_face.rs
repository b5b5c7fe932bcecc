//! Hugging Face and its mirrors: listing a repository, opening a range through `resolve`.
//!
//! Invariant: files are asked for by commit, never by branch.
//! Not here: signed addresses and JSON (`site`), how to walk redirects and where the token may go (`client`), which
//! names can be kept (`listing`).

use super::answer;
use super::client::{self, Answer, Timeouts};
use super::listing::{self, FILES_MAX, RawFile};
use super::measure::check_identity;
use super::pace::HUGGING_FACE_BUDGET;
use super::search::{FoundPage, Question};
use super::site::{Refusal, Site};
use super::{About, Expected, Hub, HubError, Origin, Published, RangeStream, RepoListing, Sought};
use crate::base::{ByteRange, Digest, Locator, RelativePath, RepoId, Revision, Secret};
use crate::tree::Source;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::header::{self, HeaderName};
use serde::Deserialize;

/// Most pages of one listing: twice what `FILES_MAX` takes with a thousand on each.
const PAGES_MAX: usize = 2000;
const DEFAULT_REVISION: &str = "main";

pub(super) struct HuggingFace {
    site: Site,
}

#[derive(Deserialize)]
struct WireInfo {
    id: Option<String>,
    sha: Option<String>,
    /// `false`, `"auto"` or `"manual"`.
    #[serde(default)]
    gated: serde_json::Value,
    #[serde(default)]
    tags: serde_json::Value,
    #[serde(default)]
    disabled: serde_json::Value,
}

#[derive(Deserialize)]
struct WireEntry {
    #[serde(rename = "type", default)]
    kind: serde_json::Value,
    #[serde(default)]
    path: serde_json::Value,
    #[serde(default)]
    oid: serde_json::Value,
    #[serde(default)]
    size: serde_json::Value,
    #[serde(default)]
    lfs: serde_json::Value,
}

impl HuggingFace {
    pub fn new(endpoint: &str, token: Option<Secret>, timeouts: Timeouts) -> Self {
        Self { site: Site::new(endpoint, token, timeouts, HUGGING_FACE_BUDGET) }
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.site.token()
    }

    pub(super) fn api<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<Url, HubError> {
        self.site.url(segments)
    }

    async fn describe_repo(
        &self,
        asked: &RepoId,
        revision: Option<&Revision>,
        path: Option<&RelativePath>,
    ) -> Result<RepoListing, HubError> {
        let revision = revision.map_or(DEFAULT_REVISION, Revision::as_str);
        let segments = ["api", "models"].into_iter().chain(asked.as_str().split('/')).chain(["revision", revision]);
        let (info, _) = self.json::<WireInfo>(self.site.url(segments)?, asked.as_str()).await?;
        let host = self.site.host()?;
        let malformed = |detail: &str| HubError::Malformed {
            host: host.clone(),
            subject: asked.to_string(),
            detail: detail.to_owned(),
        };
        if info.disabled == serde_json::Value::Bool(true) {
            return Err(HubError::Disabled { host, subject: asked.to_string() });
        }
        // The answered name is the repository's own: case and renames are followed by a redirect.
        let repo = match &info.id {
            Some(id) => RepoId::new(id).map_err(|_| malformed("its own name is no repository name"))?,
            None => asked.clone(),
        };
        let commit = info.sha.as_deref().and_then(|sha| Revision::new(sha).ok()).filter(Revision::is_commit);
        let commit = commit.ok_or_else(|| malformed("it does not say which commit this is"))?;
        let raw = self.tree(&repo, &commit).await?;
        let sifted = listing::sift_under(path, raw);
        if let Some(path) = path.filter(|_| sifted.files.is_empty() && sifted.refused.is_empty()) {
            return Err(HubError::EntryNotFound { host, subject: format!("{repo}/{path}") });
        }
        let gated = matches!(&info.gated, serde_json::Value::String(_) | serde_json::Value::Bool(true));
        let tags: Vec<String> =
            info.tags.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        let about = About {
            creator: repo.as_str().split_once('/').map(|(org, _)| org.to_owned()),
            license: tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned),
            // `region:us` and `base_model:…` are the hub's own bookkeeping.
            tags: tags.iter().filter(|tag| !tag.contains(':')).cloned().collect(),
            ..About::default()
        };
        Ok(RepoListing {
            source: Source::HuggingFace,
            repo,
            asked_by: commit.clone(),
            commit,
            files: sifted.files,
            refused: sifted.refused,
            folded: sifted.folded,
            gated,
            tags,
            about,
        })
    }

    /// Every entry of the tree, page by page.
    async fn tree(&self, repo: &RepoId, commit: &Revision) -> Result<Vec<RawFile>, HubError> {
        let segments = ["api", "models"].into_iter().chain(repo.as_str().split('/')).chain(["tree", commit.as_str()]);
        let mut url = self.site.url(segments)?;
        url.set_query(Some("recursive=true"));
        let host = client::host_of(&url);
        let over = |what, limit: usize| HubError::OverLimit {
            host: host.clone(),
            subject: repo.to_string(),
            what,
            limit: limit as u64,
        };
        let mut files = Vec::new();
        let mut page = url;
        for _ in 0..PAGES_MAX {
            let (entries, next) = self.json::<Vec<WireEntry>>(page, repo.as_str()).await?;
            files.extend(entries.into_iter().filter_map(WireEntry::into_file));
            if files.len() > FILES_MAX {
                return Err(over("files", FILES_MAX));
            }
            match next {
                None => return Ok(files),
                Some(next) => page = next,
            }
        }
        Err(over("pages", PAGES_MAX))
    }

    /// One JSON answer and the address of the page after it.
    pub(super) async fn json<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
        subject: &str,
    ) -> Result<(T, Option<Url>), HubError> {
        let (value, headers) = match self.site.json(url, subject).await {
            Ok(answered) => answered,
            Err(refusal) => return Err(self.refused(refusal, subject).await),
        };
        let next = client::text_header(&headers, &header::LINK).and_then(answer::next_link);
        let next = next.map(|link| self.at_our_endpoint(link, subject)).transpose()?;
        Ok((value, next))
    }

    /// `Link` names the canonical host even behind a mirror: only its path and query are used.
    fn at_our_endpoint(&self, link: &str, subject: &str) -> Result<Url, HubError> {
        let endpoint = self.site.endpoint()?;
        let parsed = endpoint.join(link).map_err(|_| HubError::Malformed {
            host: client::host_of(endpoint),
            subject: subject.to_owned(),
            detail: "the address of its next page is none".to_owned(),
        })?;
        let mut url = endpoint.clone();
        let prefix = endpoint.path().trim_end_matches('/');
        let path = parsed.path().strip_prefix(prefix).unwrap_or(parsed.path());
        url.set_path(&format!("{prefix}{path}"));
        url.set_query(parsed.query());
        Ok(url)
    }

    async fn open(&self, origin: &Origin, expected: &Expected, range: ByteRange) -> Result<RangeStream, HubError> {
        let subject = format!("{}/{}", origin.repo, origin.path);
        if let Some(stream) = self.site.open_again(origin, expected, range, &subject).await? {
            return Ok(stream);
        }
        let segments = origin
            .repo
            .as_str()
            .split('/')
            .chain(["resolve", origin.commit.as_str()])
            .chain(origin.path.as_str().split('/'));
        let answer = self.site.get(self.site.url(segments)?, Some(range), &subject).await?;
        check_identity(&answer.linked, expected, &subject)?;
        match self.site.accept_and_keep(answer, origin, expected, range, &subject) {
            Ok(stream) => Ok(stream),
            Err(refusal) => Err(self.refused(refusal, &subject).await),
        }
    }

    async fn refused(&self, refusal: Refusal, subject: &str) -> HubError {
        self.site.refused(refusal, |answer| self.failure(answer, subject)).await
    }

    /// Tells what a refusing answer means. Codes and messages count before the status (section A2 of the protocol notes).
    async fn failure(&self, answer: Answer, subject: &str) -> HubError {
        const CODE: HeaderName = HeaderName::from_static("x-error-code");
        let host = client::host_of(&answer.url);
        let subject = subject.to_owned();
        let status = answer.response.status().as_u16();
        let headers = answer.response.headers();
        let code = client::text_header(headers, &CODE).unwrap_or_default().to_owned();
        if let Some(busy) = client::busy(&answer) {
            return busy;
        }
        let foreign = answer.foreign;
        let is_api = answer.url.path().contains("/api/models/");
        let with_token = self.site.token().is_some();
        let message = client::message_of(answer, self.site.token()).await;
        match (code.as_str(), status) {
            ("RevisionNotFound", _) => HubError::RevisionNotFound { host, subject },
            ("EntryNotFound", _) => HubError::EntryNotFound { host, subject },
            ("GatedRepo", _) => HubError::Gated { host, subject, message, with_token },
            (_, 403) if message == "Access to this resource is disabled." => HubError::Disabled { host, subject },
            ("RepoNotFound", _) => HubError::RepoNotFound { host, subject },
            (_, 401) if message == "Invalid credentials in Authorization header" => HubError::BadToken { host },
            (_, 401) if !foreign => HubError::RepoNotFound { host, subject },
            (_, 403) if !foreign => HubError::Forbidden { host, subject, message },
            (_, 404) if !foreign && is_api => HubError::RepoNotFound { host, subject },
            (_, 404) if !foreign => HubError::EntryNotFound { host, subject },
            (_, 410) => HubError::EntryNotFound { host, subject },
            _ => HubError::Status { host, subject, status, message },
        }
    }
}

impl Hub for HuggingFace {
    fn source(&self) -> Source {
        Source::HuggingFace
    }

    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>> {
        match locator {
            Locator::HuggingFace { repo, revision, path } => {
                Box::pin(self.describe_repo(repo, revision.as_ref(), path.as_ref()))
            }
            _ => Box::pin(std::future::ready(Err(HubError::NoHub { source_name: "huggingface" }))),
        }
    }

    fn cards<'a>(&'a self, sought: &'a [Sought]) -> BoxFuture<'a, Result<Option<Vec<Option<Published>>>, HubError>> {
        Box::pin(self.find_cards(sought))
    }

    fn search<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<FoundPage, HubError>> {
        Box::pin(self.find(question))
    }

    fn open_range<'a>(
        &'a self,
        origin: &'a Origin,
        expected: &'a Expected,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<RangeStream, HubError>> {
        Box::pin(self.open(origin, expected, range))
    }
}

impl WireEntry {
    /// Nothing for folders. Odd types become "unknown" and are refused later with their name.
    fn into_file(self) -> Option<RawFile> {
        if self.kind.as_str().is_some_and(|kind| kind == "directory") {
            return None;
        }
        let size = if self.lfs["size"].is_u64() { &self.lfs["size"] } else { &self.size };
        let sha256 = self.lfs["oid"].as_str().or(self.lfs["sha256"].as_str()).and_then(|oid| Digest::parse(oid).ok());
        let git_sha1 = self.oid.as_str().filter(|oid| is_git_sha1(oid)).map(str::to_ascii_lowercase);
        let path = self.path.as_str().unwrap_or_default().to_owned();
        Some(RawFile { path, size_bytes: size.as_u64(), sha256, git_sha1, known_by: None, folders: Vec::new() })
    }
}

fn is_git_sha1(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn hub(endpoint: &str) -> HuggingFace {
        let timeouts = Timeouts { connect: Duration::from_secs(1), read: Duration::from_secs(1) };
        HuggingFace::new(endpoint, None, timeouts)
    }

    #[test]
    fn the_next_page_is_asked_of_our_endpoint() {
        for (endpoint, link, expected) in [
            ("http://127.0.0.1:1", "https://huggingface.co/api/x?cursor=a%3D", "http://127.0.0.1:1/api/x?cursor=a%3D"),
            ("http://m/hf", "https://huggingface.co/api/x?c=1", "http://m/hf/api/x?c=1"),
            ("http://m/hf", "http://m/hf/api/x?c=1", "http://m/hf/api/x?c=1"),
        ] {
            assert_eq!(hub(endpoint).at_our_endpoint(link, "x").expect(link).as_str(), expected);
        }
    }

    #[test]
    fn entries_of_any_shape_are_read_or_left_nameless() {
        let text = format!(
            r#"[{{"type":"directory","path":"d"}},
                {{"type":"file","path":"a","size":3,"oid":"{}"}},
                {{"type":"file","path":"b","size":130,"oid":"x","lfs":{{"oid":"{}","size":9}}}},
                {{"type":"file","path":7,"size":"3"}},
                {{"path":"c","size":-3,"lfs":null}}]"#,
            "a".repeat(40),
            "B".repeat(64)
        );
        let entries: Vec<WireEntry> = serde_json::from_str(&text).expect("lenient");
        let files: Vec<RawFile> = entries.into_iter().filter_map(WireEntry::into_file).collect();
        let seen: Vec<_> =
            files.iter().map(|file| (file.path.as_str(), file.size_bytes, file.sha256.is_some())).collect();
        assert_eq!(seen, [("a", Some(3), false), ("b", Some(9), true), ("", None, false), ("c", None, false)]);
    }
}

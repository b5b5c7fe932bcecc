//! Hugging Face and its mirrors: listing a repository, opening a range through `resolve`.
//!
//! Invariants: files are asked for by commit, never by branch; the signed address a `resolve` leads to stays in memory
//! and only for a while; whatever the storage answers is measured against what the hub said and what was registered.
//! Not here: how to walk redirects and where the token may go (`client`), which names can be kept (`listing`).

use super::answer;
use super::client::{self, Answer, Body, Client, Request, Timeouts};
use super::listing::{self, RawFile};
use super::measure::{check_identity, check_range, page_word, refuse_compressed};
use super::{Expected, Hub, HubError, Origin, RangeStream, RepoListing};
use crate::base::{ByteRange, Digest, Locator, RelativePath, RepoId, Revision, Secret};
use crate::tree::Source;
use futures_util::future::BoxFuture;
use lru::LruCache;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{self, HeaderName};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Largest JSON answer: a page of 1,000 entries has about 400 KB, a repository's card rarely over 5 MB.
const JSON_BYTES_MAX: usize = 32 << 20;
/// Most pages of one listing, and most files: ten times the hub's own recommended limit of 100,000 files.
const PAGES_MAX: usize = 2000;
const FILES_MAX: usize = 1_000_000;
/// Longest time for one JSON answer, however slowly it trickles in.
const JSON_TIMEOUT: Duration = Duration::from_secs(60);
/// Signed addresses kept in memory; one per file that is being read.
const RESOLVED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// How long a signed address is used that does not say when it expires: theirs live for an hour.
const RESOLVED_LIFE: Duration = Duration::from_secs(15 * 60);
/// An address is not used in its last seconds, so that it does not expire on its way.
const RESOLVED_MARGIN: Duration = Duration::from_secs(10);
const DEFAULT_REVISION: &str = "main";

pub(super) struct HuggingFace {
    endpoint: Result<Url, HubError>,
    token: Option<Secret>,
    timeouts: Timeouts,
    /// Made at the first request: reading the certificates of the system takes longer than mounting.
    client: OnceLock<Result<Client, HubError>>,
    /// Held for a look or a store only, never across a wait.
    resolved: Mutex<LruCache<Origin, Resolved>>,
}

/// Where `resolve` led to.
#[derive(Clone)]
struct Resolved {
    url: Url,
    until: Instant,
    /// The storage's own tag of the object, so that its bytes never come from two objects. It is not the file's hash.
    storage_etag: Option<String>,
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
        Self {
            endpoint: parse_endpoint(endpoint),
            token: token.filter(|token| !token.expose().trim().is_empty()),
            timeouts,
            client: OnceLock::new(),
            resolved: Mutex::new(LruCache::new(RESOLVED_MAX)),
        }
    }

    fn endpoint(&self) -> Result<&Url, HubError> {
        self.endpoint.as_ref().map_err(Clone::clone)
    }

    fn client(&self) -> Result<&Client, HubError> {
        let direct = is_loopback(self.endpoint()?);
        self.client.get_or_init(|| Client::new(self.timeouts, direct)).as_ref().map_err(Clone::clone)
    }

    /// `segments` are appended to the endpoint, each percent-encoded whole.
    fn url<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<Url, HubError> {
        let mut url = self.endpoint()?.clone();
        url.path_segments_mut().expect("an endpoint is http or https").pop_if_empty().extend(segments);
        Ok(url)
    }

    async fn describe_repo(
        &self,
        asked: &RepoId,
        revision: Option<&Revision>,
        path: Option<&RelativePath>,
    ) -> Result<RepoListing, HubError> {
        let revision = revision.map_or(DEFAULT_REVISION, Revision::as_str);
        let segments = ["api", "models"].into_iter().chain(asked.as_str().split('/')).chain(["revision", revision]);
        let (info, _) = self.json::<WireInfo>(self.url(segments)?, asked.as_str()).await?;
        let host = client::host_of(self.endpoint()?);
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
        let wanted = |file: &RawFile| path.is_none_or(|path| is_at_or_under(&file.path, path.as_str()));
        let sifted = listing::sift(raw.into_iter().filter(wanted));
        if let Some(path) = path.filter(|_| sifted.files.is_empty() && sifted.refused.is_empty()) {
            return Err(HubError::EntryNotFound { host, subject: format!("{repo}/{path}") });
        }
        let gated = matches!(&info.gated, serde_json::Value::String(_) | serde_json::Value::Bool(true));
        let tags = info.tags.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned));
        Ok(RepoListing {
            repo,
            commit,
            files: sifted.files,
            refused: sifted.refused,
            folded: sifted.folded,
            gated,
            tags: tags.collect(),
        })
    }

    /// Every entry of the tree, page by page.
    async fn tree(&self, repo: &RepoId, commit: &Revision) -> Result<Vec<RawFile>, HubError> {
        let segments = ["api", "models"].into_iter().chain(repo.as_str().split('/')).chain(["tree", commit.as_str()]);
        let mut url = self.url(segments)?;
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
    async fn json<T: for<'de> Deserialize<'de>>(&self, url: Url, subject: &str) -> Result<(T, Option<Url>), HubError> {
        let host = client::host_of(&url);
        let work = self.json_unbounded(url, subject);
        tokio::time::timeout(JSON_TIMEOUT, work).await.unwrap_or(Err(HubError::TimedOut { host }))
    }

    async fn json_unbounded<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
        subject: &str,
    ) -> Result<(T, Option<Url>), HubError> {
        let request = Request { url, token: self.token.as_ref(), range: None, subject };
        let answer = self.client()?.get(request).await?;
        if !answer.response.status().is_success() {
            return Err(self.failure(answer, subject).await);
        }
        let host = client::host_of(&answer.url);
        let headers = answer.response.headers();
        let content_type = client::content_type(headers);
        if !content_type.contains("json") {
            return Err(HubError::Page { host, subject: subject.to_owned(), content_type: page_word(&content_type) });
        }
        refuse_compressed(headers, &host, subject)?;
        let next = client::text_header(headers, &header::LINK).and_then(answer::next_link);
        let next = next.map(|link| self.at_our_endpoint(link, subject)).transpose()?;
        let body = Body::new(answer.response, host.clone()).all(JSON_BYTES_MAX).await?;
        let body = body.ok_or_else(|| HubError::OverLimit {
            host: host.clone(),
            subject: subject.to_owned(),
            what: "bytes of JSON",
            limit: JSON_BYTES_MAX as u64,
        })?;
        let value = serde_json::from_slice(&body).map_err(|error| HubError::Malformed {
            host,
            subject: subject.to_owned(),
            // The error's own text may quote the body; where it broke is enough.
            detail: format!("JSON error in line {} column {}", error.line(), error.column()),
        })?;
        Ok((value, next))
    }

    /// `Link` names the canonical host even behind a mirror: only its path and query are used.
    fn at_our_endpoint(&self, link: &str, subject: &str) -> Result<Url, HubError> {
        let endpoint = self.endpoint()?;
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
        if let Some(resolved) = self.resolved_before(origin) {
            let request = Request { url: resolved.url.clone(), token: None, range: Some(range), subject: &subject };
            let answer = self.client()?.get(request).await?;
            match self.accept(answer, expected, range, &subject, resolved.storage_etag.as_deref()) {
                // Expired, moved, or another object: ask the hub again, once.
                Err(Refusal::Status(_) | Refusal::Final(HubError::Signature { .. } | HubError::Changed { .. })) => {
                    self.resolved.lock().pop(origin);
                }
                Err(Refusal::Final(error)) => return Err(error),
                Ok((stream, _)) => return Ok(stream),
            }
        }
        self.open_through_resolve(origin, expected, range, &subject).await
    }

    async fn open_through_resolve(
        &self,
        origin: &Origin,
        expected: &Expected,
        range: ByteRange,
        subject: &str,
    ) -> Result<RangeStream, HubError> {
        let segments = origin
            .repo
            .as_str()
            .split('/')
            .chain(["resolve", origin.commit.as_str()])
            .chain(origin.path.as_str().split('/'));
        let request = Request { url: self.url(segments)?, token: self.token.as_ref(), range: Some(range), subject };
        let answer = self.client()?.get(request).await?;
        check_identity(&answer.linked, expected, subject)?;
        let (url, foreign) = (answer.url.clone(), answer.foreign);
        match self.accept(answer, expected, range, subject, None) {
            Ok((stream, storage_etag)) => {
                if foreign {
                    let until = Instant::now() + life_of(&url);
                    self.resolved.lock().put(origin.clone(), Resolved { url, until, storage_etag });
                }
                Ok(stream)
            }
            Err(Refusal::Status(answer)) => Err(self.failure(*answer, subject).await),
            Err(Refusal::Final(error)) => Err(error),
        }
    }

    fn resolved_before(&self, origin: &Origin) -> Option<Resolved> {
        let mut resolved = self.resolved.lock();
        match resolved.get(origin) {
            Some(found) if found.until > Instant::now() => Some(found.clone()),
            Some(_) => {
                resolved.pop(origin);
                None
            }
            None => None,
        }
    }

    /// Measures an answer to a range request; gives the stream and the storage's tag.
    fn accept(
        &self,
        answer: Answer,
        expected: &Expected,
        range: ByteRange,
        subject: &str,
        storage_etag: Option<&str>,
    ) -> Result<(RangeStream, Option<String>), Refusal> {
        let host = client::host_of(&answer.url);
        let status = answer.response.status().as_u16();
        if answer.foreign && matches!(status, 400 | 401 | 403 | 404 | 410) {
            return Err(Refusal::Final(HubError::Signature { host, subject: subject.to_owned(), status }));
        }
        if !matches!(status, 200 | 206 | 416) {
            return Err(Refusal::Status(Box::new(answer)));
        }
        let headers = answer.response.headers();
        check_range(status, headers, expected.size_bytes, range, &host, subject).map_err(Refusal::Final)?;
        let etag = client::text_header(headers, &header::ETAG).and_then(answer::etag);
        if let (Some(before), Some(now)) = (storage_etag, etag.as_deref())
            && before != now
        {
            let detail = "the storage's tag of it changed".to_owned();
            return Err(Refusal::Final(HubError::Changed { subject: subject.to_owned(), detail }));
        }
        Ok((RangeStream::new(Body::new(answer.response, host), range), etag))
    }

    /// Tells what a refusing answer means. Codes and messages count before the status (section A2 of the protocol notes).
    async fn failure(&self, answer: Answer, subject: &str) -> HubError {
        const CODE: HeaderName = HeaderName::from_static("x-error-code");
        let host = client::host_of(&answer.url);
        let subject = subject.to_owned();
        let status = answer.response.status().as_u16();
        let headers = answer.response.headers();
        let code = client::text_header(headers, &CODE).unwrap_or_default().to_owned();
        let rate_limit = HeaderName::from_static("ratelimit");
        let retry_after = answer::retry_after(
            client::text_header(headers, &rate_limit),
            client::text_header(headers, &header::RETRY_AFTER),
        );
        let foreign = answer.foreign;
        let is_api = answer.url.path().contains("/api/models/");
        let with_token = self.token.is_some();
        let message = client::message_of(answer, self.token.as_ref()).await;
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
            (_, 429) => HubError::RateLimited { host, retry_after },
            (_, 503) if retry_after.is_some() => HubError::RateLimited { host, retry_after },
            _ => HubError::Status { host, subject, status, message },
        }
    }
}

/// Why an answer is not the asked range.
enum Refusal {
    /// A status the hub's error table knows; the body may tell more.
    Status(Box<Answer>),
    Final(HubError),
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
        }
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
        Some(RawFile { path, size_bytes: size.as_u64(), sha256, git_sha1 })
    }
}

fn is_git_sha1(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_at_or_under(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse_endpoint(text: &str) -> Result<Url, HubError> {
    let refused = |reason: &str| HubError::Endpoint { text: without_credentials(text), reason: reason.to_owned() };
    let mut url = Url::parse(text.trim()).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("it must start with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it must not hold a user name"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// A mistyped endpoint may hold a password before an `@`.
fn without_credentials(text: &str) -> String {
    text.rsplit('@').next().unwrap_or_default().chars().take(200).collect()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// How long a signed address can still be used, from its own `Expires` or `X-Amz-Expires`.
fn life_of(url: &Url) -> Duration {
    let parameter = |name: &str| {
        url.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| answer::number(&value))
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // `X-Amz-Expires` counts from the signature, which was made for this answer.
    let left_s = parameter("Expires").map(|at| at.saturating_sub(now_s)).or_else(|| parameter("X-Amz-Expires"));
    let left = left_s.map_or(RESOLVED_LIFE, Duration::from_secs).min(RESOLVED_LIFE);
    left.saturating_sub(RESOLVED_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(endpoint: &str) -> HuggingFace {
        let timeouts = Timeouts { connect: Duration::from_secs(1), read: Duration::from_secs(1) };
        HuggingFace::new(endpoint, None, timeouts)
    }

    #[test]
    fn addresses_are_encoded_part_by_part() {
        let url = hub("https://mirror.example/hf/").url(["org", "name", "resolve", "refs/pr/1", "a b", "c#?%.bin"]);
        let url = url.expect("an address");
        assert_eq!(url.as_str(), "https://mirror.example/hf/org/name/resolve/refs%2Fpr%2F1/a%20b/c%23%3F%25.bin");
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
    fn endpoints_that_are_none() {
        for text in ["", "huggingface.co", "ftp://x", "file:///etc", "https://user:pass@host"] {
            let Err(error) = parse_endpoint(text) else { panic!("{text} was accepted") };
            assert!(!error.to_string().contains("pass"), "{error}");
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

    #[test]
    fn signed_addresses_say_how_long_they_live() {
        let life = |query: &str| life_of(&Url::parse(&format!("https://cdn/x?{query}")).expect("an address")).as_secs();
        assert_eq!(life("X-Amz-Expires=100"), 90);
        assert_eq!(life("Expires=1"), 0);
        assert_eq!(life("a=b"), 15 * 60 - 10);
        assert_eq!(life("X-Amz-Expires=999999999"), 15 * 60 - 10);
    }
}

//! What all hubs on the network do alike: one endpoint, one credential, JSON answers, signed addresses kept for a while.
//!
//! Invariants: every request to the hub itself takes a turn of its `Pace`; the signed address a request leads to stays
//! in memory and only for a while; whatever a storage answers is measured against what was registered.
//! Not here: what a hub's answers and refusals mean (a file per hub).

use super::answer;
use super::client::{self, Answer, Body, Client, Credential, Request, Timeouts};
use super::measure::{check_range, page_word, refuse_compressed};
use super::pace::{Budget, Pace};
use super::{Expected, HubError, Origin, RangeStream};
use crate::base::{ByteRange, Secret};
use lru::LruCache;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{self, HeaderMap};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Largest JSON answer: a page of 1,000 entries has about 400 KB, a repository's card rarely over 5 MB.
const JSON_BYTES_MAX: usize = 32 << 20;
/// Longest time for one JSON answer, however slowly it trickles in.
const JSON_TIMEOUT: Duration = Duration::from_secs(60);
/// Signed addresses kept in memory; one per file that is being read.
const RESOLVED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// How long a signed address is used that does not say when it expires: theirs live for an hour.
const RESOLVED_LIFE: Duration = Duration::from_secs(15 * 60);
/// An address is not used in its last seconds, so that it does not expire on its way.
const RESOLVED_MARGIN: Duration = Duration::from_secs(10);

pub(super) struct Site {
    endpoint: Result<Url, HubError>,
    token: Option<Secret>,
    /// Name of the cookie that carries the token as well, for hubs that look there.
    cookie: Option<&'static str>,
    timeouts: Timeouts,
    pace: Pace,
    /// Made at the first request: reading the certificates of the system takes longer than mounting.
    client: OnceLock<Result<Client, HubError>>,
    /// Held for a look or a store only, never across a wait.
    resolved: Mutex<LruCache<Origin, Resolved>>,
}

/// Where a request for a file led to.
#[derive(Clone)]
struct Resolved {
    url: Url,
    until: Instant,
    /// The storage's own tag of the object, so that its bytes never come from two objects. It is not the file's hash.
    storage_etag: Option<String>,
}

/// Why an answer is not what was asked for.
pub(super) enum Refusal {
    /// A status the hub's error table knows; the body may tell more.
    Status(Box<Answer>),
    Final(HubError),
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl Site {
    pub fn new(endpoint: &str, token: Option<Secret>, timeouts: Timeouts, budget: Budget) -> Self {
        Self {
            endpoint: parse_endpoint(endpoint),
            token: token.filter(|token| !token.expose().trim().is_empty()),
            cookie: None,
            timeouts,
            pace: Pace::new(budget),
            client: OnceLock::new(),
            resolved: Mutex::new(LruCache::new(RESOLVED_MAX)),
        }
    }

    /// The token is sent in this cookie too.
    pub fn with_cookie(self, name: &'static str) -> Self {
        Self { cookie: Some(name), ..self }
    }

    pub fn endpoint(&self) -> Result<&Url, HubError> {
        self.endpoint.as_ref().map_err(Clone::clone)
    }

    pub fn host(&self) -> Result<String, HubError> {
        self.endpoint().map(client::host_of)
    }

    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    fn client(&self) -> Result<&Client, HubError> {
        let direct = is_loopback(self.endpoint()?);
        self.client.get_or_init(|| Client::new(self.timeouts, direct)).as_ref().map_err(Clone::clone)
    }

    /// `segments` are appended to the endpoint, each percent-encoded whole.
    pub fn url<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<Url, HubError> {
        let mut url = self.endpoint()?.clone();
        url.path_segments_mut().expect("an endpoint is http or https").pop_if_empty().extend(segments);
        Ok(url)
    }

    /// One request to the hub itself, with its credential.
    pub async fn get(&self, url: Url, range: Option<ByteRange>, subject: &str) -> Result<Answer, HubError> {
        self.send(url, range, None, subject).await
    }

    async fn send(
        &self,
        url: Url,
        range: Option<ByteRange>,
        json: Option<Vec<u8>>,
        subject: &str,
    ) -> Result<Answer, HubError> {
        self.pace.turn(&client::host_of(&url)).await?;
        let credential = self.token.as_ref().map(|token| Credential { token, cookie: self.cookie });
        self.client()?.send(Request { url, credential, range, json, subject }).await
    }

    /// The error that a refusal is; `meaning` tells it of an answer. Where the hub asked to come back later, nobody calls
    /// it until then.
    pub async fn refused<F: Future<Output = HubError>>(
        &self,
        refusal: Refusal,
        meaning: impl FnOnce(Answer) -> F,
    ) -> HubError {
        let error = match refusal {
            Refusal::Status(answer) => meaning(*answer).await,
            // Also the turn that was not given: that is our own count, which needs no rest.
            Refusal::Final(error) => return error,
        };
        if let HubError::RateLimited { retry_after: Some(wait), .. } = &error {
            self.pace.quiet(*wait);
        }
        error
    }

    /// One JSON answer with its headers.
    pub async fn json<T: for<'de> Deserialize<'de>>(&self, url: Url, subject: &str) -> Result<(T, HeaderMap), Refusal> {
        self.json_of(url, None, subject).await
    }

    /// The answer to a question that does not fit into an address.
    pub async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
        question: &serde_json::Value,
        subject: &str,
    ) -> Result<T, Refusal> {
        let (value, _) = self.json_of(url, Some(question.to_string().into_bytes()), subject).await?;
        Ok(value)
    }

    async fn json_of<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
        question: Option<Vec<u8>>,
        subject: &str,
    ) -> Result<(T, HeaderMap), Refusal> {
        let host = client::host_of(&url);
        let work = async {
            let answer = self.send(url, None, question, subject).await?;
            if !answer.response.status().is_success() {
                return Err(Refusal::Status(Box::new(answer)));
            }
            read_json(answer, subject).await.map_err(Refusal::Final)
        };
        tokio::time::timeout(JSON_TIMEOUT, work).await.unwrap_or(Err(Refusal::Final(HubError::TimedOut { host })))
    }

    /// Through the signed address that was found before, if there is one that still works.
    pub async fn open_again(
        &self,
        origin: &Origin,
        expected: &Expected,
        range: ByteRange,
        subject: &str,
    ) -> Result<Option<RangeStream>, HubError> {
        let Some(resolved) = self.resolved_before(origin) else { return Ok(None) };
        // A storage is no part of the hub: it takes no turn and gets no credential.
        let request = Request { url: resolved.url.clone(), credential: None, range: Some(range), json: None, subject };
        let mut answer = self.client()?.send(request).await?;
        answer.foreign = true;
        match accept(answer, expected, range, subject, resolved.storage_etag.as_deref()) {
            // Expired, moved, or another object: ask the hub again, once.
            Err(Refusal::Status(_) | Refusal::Final(HubError::Signature { .. } | HubError::Changed { .. })) => {
                self.resolved.lock().pop(origin);
                Ok(None)
            }
            Err(Refusal::Final(error)) => Err(error),
            Ok((stream, _)) => Ok(Some(stream)),
        }
    }

    /// Takes the answer of the hub, or of the storage it led to, whose address is kept.
    pub fn accept_and_keep(
        &self,
        answer: Answer,
        origin: &Origin,
        expected: &Expected,
        range: ByteRange,
        subject: &str,
    ) -> Result<RangeStream, Refusal> {
        let (url, foreign) = (answer.url.clone(), answer.foreign);
        let (stream, storage_etag) = accept(answer, expected, range, subject, None)?;
        if foreign {
            self.keep(origin, url, storage_etag);
        }
        Ok(stream)
    }

    pub fn keep(&self, origin: &Origin, url: Url, storage_etag: Option<String>) {
        let until = Instant::now() + life_of(&url);
        self.resolved.lock().put(origin.clone(), Resolved { url, until, storage_etag });
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
}

/// The JSON of a successful answer; a page of a firewall or a portal is none.
async fn read_json<T: for<'de> Deserialize<'de>>(answer: Answer, subject: &str) -> Result<(T, HeaderMap), HubError> {
    let host = client::host_of(&answer.url);
    let headers = answer.response.headers().clone();
    let content_type = client::content_type(&headers);
    if !content_type.contains("json") {
        return Err(HubError::Page { host, subject: subject.to_owned(), content_type: page_word(&content_type) });
    }
    refuse_compressed(&headers, &host, subject)?;
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
    Ok((value, headers))
}

/// Measures an answer to a range request; gives the stream and the storage's tag.
fn accept(
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
    check_range(status, headers, expected.size_bytes, range, &host, subject)?;
    let etag = client::text_header(headers, &header::ETAG).and_then(answer::etag);
    if let (Some(before), Some(now)) = (storage_etag, etag.as_deref())
        && before != now
    {
        let detail = "the storage's tag of it changed".to_owned();
        return Err(Refusal::Final(HubError::Changed { subject: subject.to_owned(), detail }));
    }
    Ok((RangeStream::new(Body::new(answer.response, host), range), etag))
}

pub(super) fn parse_endpoint(text: &str) -> Result<Url, HubError> {
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

pub(super) fn is_loopback(url: &Url) -> bool {
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

    #[test]
    fn addresses_are_encoded_part_by_part() {
        let timeouts = Timeouts { connect: Duration::from_secs(1), read: Duration::from_secs(1) };
        let site = Site::new("https://mirror.example/hf/", None, timeouts, super::super::pace::HUGGING_FACE_BUDGET);
        let url = site.url(["org", "name", "resolve", "refs/pr/1", "a b", "c#?%.bin"]).expect("an address");
        assert_eq!(url.as_str(), "https://mirror.example/hf/org/name/resolve/refs%2Fpr%2F1/a%20b/c%23%3F%25.bin");
    }

    #[test]
    fn endpoints_that_are_none() {
        for text in ["", "huggingface.co", "ftp://x", "file:///etc", "https://user:pass@host"] {
            let Err(error) = parse_endpoint(text) else { panic!("{text} was accepted") };
            assert!(!error.to_string().contains("pass"), "{error}");
        }
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

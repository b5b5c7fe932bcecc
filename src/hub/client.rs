//! The HTTP client: one request at a time, redirects followed by hand.
//!
//! Invariants: the token is sent only while the walk has never left the origin it belongs to; a walk has at most
//! `HOPS_MAX` hops and never goes from https to http; nothing is decompressed; every wait has a limit. Errors name
//! hosts, never URLs, since a URL may be signed.

use super::HubError;
use super::answer;
use crate::base::{ByteRange, Secret};
use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Response, StatusCode, Url};
use std::time::Duration;

/// Longest chain of redirects; the official client stops at the same number.
const HOPS_MAX: usize = 20;
/// Most headers one answer may have; hubs send about thirty.
const HEADERS_MAX: usize = 128;
/// Longest error text that is read from a hub; theirs are under a kilobyte.
const ERROR_BODY_BYTES_MAX: usize = 16 << 10;
/// Longest time for an error text: each byte of one that trickles in would start the wait for silence anew.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest part of a hub's own words that is repeated to the user.
const MESSAGE_CHARS_MAX: usize = 300;
/// Idle connections are kept this long: longer than the pauses of someone who looks around, shorter than most servers keep them.
const IDLE_MAX: Duration = Duration::from_secs(30);

pub(super) struct Client {
    http: reqwest::Client,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
}

/// What proves who asks. It belongs to one origin.
#[derive(Clone, Copy)]
pub(super) struct Credential<'a> {
    pub token: &'a Secret,
    /// A cookie that carries the token as well. It is set for each request, so it can never reach another host.
    pub cookie: Option<&'static str>,
}

/// One GET, or one POST when there is something to say. `credential` belongs to the origin of `url`.
pub(super) struct Request<'a> {
    pub url: Url,
    pub credential: Option<Credential<'a>>,
    pub range: Option<ByteRange>,
    pub json: Option<Vec<u8>>,
    /// What it is about, for errors.
    pub subject: &'a str,
}

/// The end of a walk.
pub(super) struct Answer {
    pub response: Response,
    /// Where it came from in the end.
    pub url: Url,
    /// Whether that is another origin than the first request's.
    pub foreign: bool,
    /// What the hub itself said about the file on the way, before any foreign host spoke.
    pub linked: Linked,
}

/// Identity headers of a hub's answer about a file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Linked {
    pub etag: Option<String>,
    pub size_bytes: Option<u64>,
    pub commit: Option<String>,
}

impl Client {
    /// `direct` goes around any proxy of the environment: a proxy cannot reach this machine's loopback.
    pub fn new(timeouts: Timeouts, direct: bool) -> Result<Self, HubError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("modelfs/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(timeouts.connect)
            .read_timeout(timeouts.read)
            .pool_idle_timeout(IDLE_MAX)
            .http1_max_headers(HEADERS_MAX)
            // One connection per range: storage hosts limit each connection, and HTTP/2 would put all ranges on one.
            .http1_only();
        if direct {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| HubError::Unreachable {
            host: "any hub".to_owned(),
            cause: format!("the HTTP client cannot start: {}", causes(&error.without_url())),
        })?;
        Ok(Self { http })
    }

    /// Sends the request and follows redirects until an answer that is none.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, HubError> {
        let home = request.url.origin();
        let mut url = request.url.clone();
        let mut foreign = false;
        let mut linked = Linked::default();
        for _ in 0..=HOPS_MAX {
            let response = self.send_once(&url, &request, request.credential.filter(|_| !foreign)).await?;
            if !foreign {
                linked.note(response.headers(), response.status());
            }
            if !is_redirect(response.status()) {
                return Ok(Answer { response, url, foreign, linked });
            }
            let next = self.location(&url, &response, request.subject)?;
            foreign |= next.origin() != home;
            url = next;
        }
        Err(HubError::Redirect {
            host: host_of(&request.url),
            subject: request.subject.to_owned(),
            detail: "in a circle, or too often",
        })
    }

    async fn send_once(
        &self,
        url: &Url,
        request: &Request<'_>,
        credential: Option<Credential<'_>>,
    ) -> Result<Response, HubError> {
        let mut builder = match &request.json {
            None => self.http.get(url.clone()),
            Some(json) => {
                self.http.post(url.clone()).header(header::CONTENT_TYPE, "application/json").body(json.clone())
            }
        };
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        if let Some(Credential { token, cookie }) = credential {
            builder = builder.bearer_auth(token.expose());
            if let Some(name) = cookie {
                builder = builder.header(header::COOKIE, format!("{name}={}", token.expose()));
            }
        }
        if let Some(range) = request.range {
            builder = builder.header(header::RANGE, format!("bytes={}-{}", range.start(), range.end() - 1));
        }
        builder.send().await.map_err(|error| transport_error(&host_of(url), &error.without_url()))
    }

    fn location(&self, from: &Url, response: &Response, subject: &str) -> Result<Url, HubError> {
        let refused = |detail| HubError::Redirect { host: host_of(from), subject: subject.to_owned(), detail };
        let text = text_header(response.headers(), &header::LOCATION).ok_or_else(|| refused("to nowhere"))?;
        let next = from.join(text).map_err(|_| refused("to something that is no address"))?;
        if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
            return Err(refused("to something that is no web address"));
        }
        if from.scheme() == "https" && next.scheme() == "http" {
            return Err(refused("from https to http"));
        }
        Ok(next)
    }
}

impl Linked {
    fn note(&mut self, headers: &HeaderMap, status: StatusCode) {
        const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
        const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
        const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
        let etag = text_header(headers, &LINKED_ETAG)
            // A redirect's own tag may be about its text, so only a final answer's counts.
            .or_else(|| text_header(headers, &header::ETAG).filter(|_| status.is_success()))
            .and_then(answer::etag);
        self.etag = self.etag.take().or(etag);
        self.size_bytes = self.size_bytes.or(text_header(headers, &LINKED_SIZE).and_then(answer::number));
        self.commit = self.commit.take().or(text_header(headers, &COMMIT).map(str::to_owned));
    }
}

/// The body of an answer, piece by piece.
pub(super) struct Body {
    response: Response,
    host: String,
}

impl Body {
    pub fn new(response: Response, host: String) -> Self {
        Self { response, host }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The next piece; `None` at the end. A connection that breaks off is `Unreachable`, as the answer was cut short.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HubError> {
        self.response.chunk().await.map_err(|error| transport_error(&self.host, &error.without_url()))
    }

    /// The whole body, or nothing when it is longer than `bytes_max`.
    pub async fn all(mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, HubError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > bytes_max {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole))
    }
}

/// The hub's own words about a failure: its message header, else the text or JSON of a small body.
///
/// Only for answers of the hub itself: storage hosts repeat the signed request in theirs.
pub(super) async fn message_of(answer: Answer, token: Option<&Secret>) -> String {
    const MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
    if answer.foreign {
        return String::new();
    }
    let text = match text_header(answer.response.headers(), &MESSAGE) {
        Some(text) => text.to_owned(),
        None => {
            let is_json = content_type(answer.response.headers()).contains("json");
            let is_text = content_type(answer.response.headers()).starts_with("text/plain");
            if !is_json && !is_text {
                return String::new();
            }
            let body = error_body(answer.response, ERROR_BODY_TIMEOUT).await;
            if is_json { json_message(&body) } else { String::from_utf8_lossy(&body).into_owned() }
        }
    };
    shown(&text, token)
}

/// A server that asks to come back later: 429, or 503 with a time.
pub(super) fn busy(answer: &Answer) -> Option<HubError> {
    const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
    let headers = answer.response.headers();
    let retry_after =
        answer::retry_after(text_header(headers, &RATE_LIMIT), text_header(headers, &header::RETRY_AFTER));
    let is_busy = match answer.response.status().as_u16() {
        429 => true,
        503 => retry_after.is_some(),
        _ => false,
    };
    is_busy.then(|| HubError::RateLimited { host: host_of(&answer.url), retry_after })
}

/// The JSON of the hub's own refusal; nothing when it is another's, or none.
pub(super) async fn refusal_of(answer: Answer) -> serde_json::Value {
    if answer.foreign || !content_type(answer.response.headers()).contains("json") {
        return serde_json::Value::Null;
    }
    serde_json::from_slice(&error_body(answer.response, ERROR_BODY_TIMEOUT).await).unwrap_or_default()
}

/// Nothing of a text that is too long or too slow.
async fn error_body(response: Response, limit: Duration) -> Vec<u8> {
    let body = Body::new(response, String::new()).all(ERROR_BODY_BYTES_MAX);
    tokio::time::timeout(limit, body).await.ok().and_then(Result::ok).flatten().unwrap_or_default()
}

/// `{"error": "…"}`, `{"error": ["…"]}`, `{"errors": [{"message": "…"}]}` or `{"error_description": "…"}`.
fn json_message(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(items) => items.iter().find_map(|item| item.as_str()).map(str::to_owned),
        _ => None,
    };
    let nested = value["errors"].get(0).map(|error| error["message"].clone()).unwrap_or_default();
    first(&value["error"]).or_else(|| first(&nested)).or_else(|| first(&value["error_description"])).unwrap_or_default()
}

/// A foreign text made fit to show: one line, short, and without the token should the server repeat it.
pub(super) fn shown(text: &str, token: Option<&Secret>) -> String {
    let text = match token.map(Secret::expose).filter(|token| !token.is_empty()) {
        Some(token) => text.replace(token, "***"),
        None => text.to_owned(),
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn text_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn content_type(headers: &HeaderMap) -> String {
    text_header(headers, &header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase()
}

/// Host and, when it is not the usual one, port: enough for a log line.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn transport_error(host: &str, error: &reqwest::Error) -> HubError {
    let host = host.to_owned();
    if error.is_timeout() { HubError::TimedOut { host } } else { HubError::Unreachable { host, cause: causes(error) } }
}

/// The innermost cause says it best ("Connection refused"); the layers above only say "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    shown(&innermost.to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[test]
    fn messages_of_every_shape() {
        for (body, message) in [
            (r#"{"error":"a"}"#, "a"),
            (r#"{"error":["a","b"]}"#, "a"),
            (r#"{"errors":[{"message":"a"}]}"#, "a"),
            (r#"{"error_description":"a"}"#, "a"),
            (r#"{"error":7}"#, ""),
            ("[]", ""),
            ("<html>", ""),
        ] {
            assert_eq!(json_message(body.as_bytes()), message, "{body}");
        }
    }

    #[tokio::test]
    async fn an_error_text_that_does_not_end_is_left() {
        let started = futures_util::stream::iter([Ok::<_, std::io::Error>("{\"error\":")]);
        let body = reqwest::Body::wrap_stream(started.chain(futures_util::stream::pending()));
        let response = Response::from(axum::http::Response::new(body));
        let read = tokio::time::timeout(Duration::from_secs(30), error_body(response, Duration::from_millis(20)));
        assert_eq!(read.await.expect("it has a limit of its own"), b"");
    }

    #[test]
    fn shown_text_is_one_short_line_without_the_token() {
        let token = Secret::new("hf_secret".to_owned());
        assert_eq!(shown("bad\r\n\x1b[31m hf_secret", Some(&token)), "bad [31m ***");
        assert_eq!(shown(&"a".repeat(9999), None).len(), MESSAGE_CHARS_MAX);
    }
}

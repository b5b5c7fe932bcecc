//! One request and its answer, at either origin: reading, recording, and the faults that come before any content.

use super::Shared;
use super::fault::{Fault, Place};
use super::outgoing::Outgoing;
use super::record::{Live, Origin, Recorded};
use super::wire::Peer;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest body of a request: a list of paths.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A request, read once.
pub(super) struct Ask {
    pub origin: Origin,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub peer: Peer,
}

/// An answer before it is written.
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload,
}

pub(super) enum Payload {
    Whole(Vec<u8>),
    /// Without a length.
    Chunked(Vec<u8>),
    Content(Box<Outgoing>),
}

impl Ask {
    pub async fn read(origin: Origin, peer: Peer, request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await.unwrap_or_default();
        Self { origin, method: parts.method, uri: parts.uri, headers: parts.headers, body, peer }
    }

    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The parts of the path, decoded.
    pub fn segments(&self) -> Vec<String> {
        self.uri.path().trim_start_matches('/').split('/').map(percent_decoded).collect()
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn bearer(&self) -> Option<&str> {
        self.header(header::AUTHORIZATION).map(|value| value.strip_prefix("Bearer ").unwrap_or(value))
    }

    /// Writes the answer and records the exchange.
    pub fn finish(self, shared: &Shared, subject: &str, reply: Reply) -> Response<Body> {
        let bytes_sent = Arc::new(AtomicU64::new(0));
        let seen = Recorded {
            origin: self.origin,
            method: self.method.to_string(),
            target: self.uri.to_string(),
            subject: subject.to_owned(),
            range: self.header(header::RANGE).map(str::to_owned),
            with_authorization: self.headers.contains_key(header::AUTHORIZATION)
                || self.headers.contains_key(header::COOKIE),
            status: reply.status,
            bytes_sent: 0,
        };
        let live = Live { seen, bytes_sent: Arc::clone(&bytes_sent) };
        shared.requests.lock().expect("no panic while held").push(live);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status of HTTP");
        for (name, value) in reply.headers {
            let value = HeaderValue::from_str(&value).expect("text of a header");
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
        let length = match &reply.payload {
            Payload::Whole(bytes) => Some(bytes.len() as u64),
            Payload::Chunked(_) => None,
            Payload::Content(outgoing) => Some(outgoing.length()),
        };
        // 304 has no body, and a length would be that of another answer.
        if let Some(length) = length.filter(|_| reply.status != 304) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if self.method != Method::HEAD {
            *response.body_mut() = match reply.payload {
                Payload::Whole(bytes) => {
                    bytes_sent.store(bytes.len() as u64, Ordering::Relaxed);
                    Body::from(bytes)
                }
                Payload::Chunked(bytes) => {
                    bytes_sent.store(bytes.len() as u64, Ordering::Relaxed);
                    Body::from_stream(stream::iter([Ok::<_, std::io::Error>(bytes)]))
                }
                Payload::Content(outgoing) => outgoing.into_body(bytes_sent, self.peer),
            };
        }
        response
    }
}

impl Reply {
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, payload: Payload::Whole(text.as_bytes().to_vec()) }
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, payload: Payload::Whole(value.to_string().into_bytes()) }
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        let text = format!("Redirecting to {location}");
        Self::text(status, &text).with("location", location)
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Faults that take the place of the whole answer, or delay it.
pub(super) async fn before_content(faults: &[Fault]) -> Option<Reply> {
    for fault in faults {
        match fault {
            Fault::Latency(latency) => tokio::time::sleep(*latency).await,
            Fault::Status(status) => return Some(Reply::text(*status, "a fault was asked for")),
            Fault::RetryAfter { status, seconds } => {
                return Some(Reply::text(*status, "come back later").with("retry-after", seconds));
            }
            Fault::HtmlPage => {
                let page = "<!DOCTYPE html>\n<html><body>Please accept the terms of this network.</body></html>\n";
                let mut reply = Reply::text(200, page);
                reply.headers = vec![("content-type", "text/html".to_owned())];
                return Some(reply);
            }
            _ => {}
        }
    }
    None
}

impl Shared {
    /// Takes the faults of this place and answers with one, if that is what it does.
    pub(super) async fn troubled(&self, place: Place, subject: &str) -> Result<Vec<Fault>, Reply> {
        let faults = self.take_faults(place, subject);
        match before_content(&faults).await {
            Some(reply) => Err(reply),
            None => Ok(faults),
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

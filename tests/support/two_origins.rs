//! A site and its object storage on two ports of this machine, for hubs whose rules are functions.
//!
//! The storage gives objects by signed addresses, answers ranges, refuses and counts credentials, and knows no HEAD.
//! Not here: what a hub answers (`fake_civitai`, `fake_modelscope`).

use super::fake_hub::{Content, sha256_of};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Longest body of a request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// One request, as the site's rules and the tests see it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub at_storage: bool,
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Of the answer.
    pub status: u16,
    pub arrived: Instant,
}

impl Ask {
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn bearer(&self) -> Option<&str> {
        self.header(header::AUTHORIZATION)?.strip_prefix("Bearer ")
    }

    pub fn has_credentials(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION) || self.headers.contains_key(header::COOKIE)
    }

    /// The closed or open range, cut to the size.
    pub fn range(&self, size_bytes: u64) -> Option<(u64, u64)> {
        let (first, last) = self.header(header::RANGE)?.strip_prefix("bytes=")?.split_once('-')?;
        let start = first.parse().ok()?;
        Some((start, last.parse::<u64>().map_or(size_bytes, |last| (last + 1).min(size_bytes))))
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", value.to_string())
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

type Rules = dyn Fn(&Ask, &Storage) -> Answer + Send + Sync;

/// What the storage holds.
pub struct Storage {
    origin: String,
    objects: Mutex<HashMap<String, Content>>,
    signatures: AtomicU64,
}

impl Storage {
    /// A new signed address.
    pub fn sign(&self, content: &Content) -> String {
        let number = self.signatures.fetch_add(1, Ordering::Relaxed);
        let key = sha256_of(format!("{number}:{}", content.sha256()).as_bytes());
        self.objects.lock().expect("no panic while held").insert(key.clone(), content.clone());
        format!("{}/objects/{key}?X-Amz-Expires=86400&Authorization=3_{number}_dnld&X-Amz-Signature={key}", self.origin)
    }

    fn answer(&self, ask: &Ask) -> Answer {
        if ask.has_credentials() {
            return Answer::new(400, "text/xml", "<Error><Code>InvalidRequest</Code></Error>");
        }
        let key = ask.parameter("X-Amz-Signature").unwrap_or_default();
        let found = self.objects.lock().expect("no panic while held").get(&key).cloned();
        let denied = || Answer::new(403, "text/xml", "<Error><Code>AccessDenied</Code></Error>");
        let Some(content) = found.filter(|_| ask.method == Method::GET) else { return denied() };
        let size_bytes = content.size_bytes();
        let answer = match ask.range(size_bytes) {
            Some((start, end)) if start < end => {
                let body = content.range(start, end - start);
                let place = format!("bytes {start}-{}/{size_bytes}", end - 1);
                Answer::new(206, "application/octet-stream", body).with("content-range", place)
            }
            Some(_) => Answer::new(416, "text/plain", "").with("content-range", format!("bytes */{size_bytes}")),
            None => Answer::new(200, "application/octet-stream", content.to_vec()),
        };
        // The storage's tag is no hash of the file.
        answer
            .with("accept-ranges", "bytes")
            .with("etag", format!("\"{}-3\"", &sha256_of(content.sha256().as_bytes())[..32]))
    }
}

struct Shared {
    rules: Box<Rules>,
    storage: Storage,
    asks: Mutex<Vec<Ask>>,
}

/// Runs until dropped.
pub struct TwoOrigins {
    site: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl TwoOrigins {
    pub fn start(rules: impl Fn(&Ask, &Storage) -> Answer + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads for a runtime");
        let bind = || runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let (site, storage) = (bind(), bind());
        let origin = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("bound"));
        let (site_origin, storage_origin) = (origin(&site), origin(&storage));
        let storage_rules =
            Storage { origin: storage_origin, objects: Mutex::default(), signatures: AtomicU64::default() };
        let shared = Arc::new(Shared { rules: Box::new(rules), storage: storage_rules, asks: Mutex::default() });
        for (listener, at_storage) in [(site, false), (storage, true)] {
            let state = (Arc::clone(&shared), at_storage);
            let router = Router::new().fallback(answer).with_state(state);
            runtime.spawn(async move { axum::serve(listener, router).await });
        }
        Self { site: site_origin, shared, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> String {
        self.site.clone()
    }

    pub fn asks(&self) -> Vec<Ask> {
        self.shared.asks.lock().expect("no panic while held").clone()
    }

    pub fn forget(&self) {
        self.shared.asks.lock().expect("no panic while held").clear();
    }

    /// Requests with credentials that reached the storage: each is a leaked token.
    pub fn leaks(&self) -> usize {
        self.asks().iter().filter(|ask| ask.at_storage && ask.has_credentials()).count()
    }

    /// Answers of the storage that gave bytes.
    pub fn given(&self) -> usize {
        self.asks().iter().filter(|ask| ask.at_storage && matches!(ask.status, 200 | 206)).count()
    }
}

impl Drop for TwoOrigins {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State((shared, at_storage)): State<(Arc<Shared>, bool)>, request: Request<Body>) -> Response<Body> {
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await.unwrap_or_default().to_vec();
    let mut ask = Ask {
        at_storage,
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        status: 0,
        arrived,
    };
    let answer = if at_storage { shared.storage.answer(&ask) } else { (shared.rules)(&ask, &shared.storage) };
    ask.status = answer.status;
    let is_head = ask.method == Method::HEAD;
    shared.asks.lock().expect("no panic while held").push(ask);
    let length = answer.body.len();
    let mut response = Response::new(if is_head { Body::empty() } else { Body::from(answer.body) });
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status of HTTP");
    if is_head {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in answer.headers {
        let value = HeaderValue::from_str(&value).expect("text of a header");
        response.headers_mut().append(HeaderName::from_static(name), value);
    }
    response
}

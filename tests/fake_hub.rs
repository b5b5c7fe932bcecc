//! The fake hub itself: tests that rely on it are worth as much as it is.

mod support;

use reqwest::header::{ETAG, LOCATION};
use reqwest::{Client, Method, Response};
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::fake_hub::{Access, Content, DEFAULT_COMMIT, FakeHub, Fault, Origin, Place, Rule, SmallFiles, sha256_of};

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const BIG_BYTES: u64 = 300_000;
const FILE: &str = "unet/m.safetensors";
/// Longest wait for an answer that must not come, and for one that must.
const QUIET: Duration = Duration::from_millis(200);

/// `org/name` with one large and two small files.
fn hub() -> FakeHub {
    let hub = FakeHub::start();
    hub.repo("org/name")
        .commit(COMMIT)
        .file("config.json", "{}")
        .file("a b/c#?.txt", "small")
        .lfs(FILE, Content::generated(1, BIG_BYTES));
    hub
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// One for all tests, because making one reads all certificates; without idle connections, which would belong to the
/// runtime of one test.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let builder =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().pool_max_idle_per_host(0);
        builder.build().expect("a client")
    })
}

struct Ask<'a> {
    method: Method,
    url: String,
    headers: Vec<(&'a str, &'a str)>,
}

fn get(url: impl Into<String>) -> Ask<'static> {
    Ask { method: Method::GET, url: url.into(), headers: Vec::new() }
}

impl<'a> Ask<'a> {
    fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn head(mut self) -> Self {
        self.method = Method::HEAD;
        self
    }

    /// One exchange, without following anything.
    async fn answer(self) -> Response {
        let mut request = client().request(self.method, &self.url);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.send().await.expect("an answer")
    }

    async fn json(self) -> serde_json::Value {
        let response = self.answer().await;
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

/// The signed address of the large file.
async fn signed(hub: &FakeHub) -> String {
    let response = get(format!("{}/org/name/resolve/main/{FILE}", hub.endpoint())).answer().await;
    assert_eq!(response.status(), 302);
    header(&response, LOCATION.as_str())
}

/// The body until it ends, and whether it ended too early.
async fn read_all(mut response: Response) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return (body, false),
            Err(_) => return (body, true),
        }
    }
}

#[test]
fn generated_bytes_are_the_same_in_any_cut() {
    let content = Content::generated(7, 200_001);
    let whole = content.to_vec();
    assert_eq!(whole.len(), 200_001);
    for (start, length) in
        [(0, 1), (3, 20), (65_530, 30), (65_536, 16), (131_071, 65_537), (200_000, 1), (199_000, 9999)]
    {
        let end = (start + length).min(200_001);
        assert_eq!(content.range(start as u64, length as u64), &whole[start..end], "{start}+{length}");
    }
    assert_eq!(content.sha256(), sha256_of(&whole));
    assert_ne!(content.sha256(), Content::generated(8, 200_001).sha256());
    // No two pages are equal, so a piece at the wrong place is noticed.
    assert_ne!(content.range(0, 65_536), content.range(65_536, 65_536));
}

#[test]
fn small_files_are_named_as_git_names_them() {
    // `git hash-object` of the empty file, of "hello\n", and of 1000 times "a".
    for (text, name) in [
        (String::new(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ("hello\n".to_owned(), "ce013625030ba8dba906f756967f9e9ca394464a"),
        ("a".repeat(1000), "a50be72b20f0e3f078d252e8e56b11b4bec67509"),
    ] {
        assert_eq!(Content::from(text).git_sha1(), name);
    }
}

#[test]
fn information_and_tree() {
    let hub = hub();
    run(async {
        let base = format!("{}/api/models/org/name", hub.endpoint());
        for url in [base.clone(), format!("{base}/revision/main"), format!("{base}/revision/{COMMIT}")] {
            let info = get(url).json().await;
            assert_eq!(
                (&info["id"], &info["sha"], &info["gated"]),
                (&"org/name".into(), &COMMIT.into(), &false.into())
            );
            assert_eq!(info["siblings"].as_array().map(Vec::len), Some(3));
        }
        let tree = get(format!("{base}/tree/{COMMIT}?recursive=true")).json().await;
        let paths: Vec<_> = tree.as_array().expect("a list").iter().map(|entry| entry["path"].clone()).collect();
        assert_eq!(paths, ["a b", "a b/c#?.txt", "config.json", "unet", FILE]);
        let big = &tree[4];
        assert_eq!((&big["size"], &big["lfs"]["size"]), (&BIG_BYTES.into(), &BIG_BYTES.into()));
        assert_eq!(big["lfs"]["oid"], Content::generated(1, BIG_BYTES).sha256());
        let top = get(format!("{base}/tree/main")).json().await;
        assert_eq!(top.as_array().map(Vec::len), Some(3));
        let below = get(format!("{base}/tree/main/unet")).json().await;
        assert_eq!(below[0]["path"], FILE);
    });
}

#[test]
fn pages_follow_each_other_by_link() {
    let hub = FakeHub::start();
    let mut repo = hub.repo("org/many");
    for number in 0..7 {
        repo = repo.file(&format!("{number}.txt"), "x");
    }
    hub.page_entries(3);
    run(async {
        let mut next = format!("{}/api/models/org/many/tree/{DEFAULT_COMMIT}?recursive=true", hub.endpoint());
        let mut counts = Vec::new();
        while !next.is_empty() {
            let response = get(next).answer().await;
            let link = header(&response, "link");
            let entries: Vec<serde_json::Value> =
                serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
            counts.push(entries.len());
            next = link
                .strip_prefix('<')
                .and_then(|rest| rest.split_once(">; rel=\"next\""))
                .map(|(url, _)| url.to_owned())
                .unwrap_or_default();
        }
        assert_eq!(counts, [3, 3, 1]);
        hub.link_origin("https://huggingface.co");
        let first = get(format!("{}/api/models/org/many/tree/main", hub.endpoint())).answer().await;
        assert!(header(&first, "link").starts_with("<https://huggingface.co/api/models/org/many/tree/main?"));
    });
}

#[test]
fn a_large_file_is_redirected_to_another_origin() {
    let hub = hub();
    run(async {
        for ask in [get(""), get("").head()] {
            let ask = Ask { url: format!("{}/org/name/resolve/main/{FILE}", hub.endpoint()), ..ask };
            let response = ask.answer().await;
            let sha256 = format!("\"{}\"", Content::generated(1, BIG_BYTES).sha256());
            assert_eq!(response.status(), 302);
            assert_eq!(header(&response, "x-linked-etag"), sha256);
            assert_eq!(header(&response, "etag"), sha256);
            assert_eq!(header(&response, "x-linked-size"), BIG_BYTES.to_string());
            assert_eq!(header(&response, "x-repo-commit"), COMMIT);
            assert_ne!(header(&response, "content-length"), BIG_BYTES.to_string());
            assert!(header(&response, "location").starts_with(&hub.cdn_origin()));
        }
        let response = get(signed(&hub).await).answer().await;
        assert_eq!((response.status().as_u16(), response.content_length()), (200, Some(BIG_BYTES)));
        // The storage's tag looks like the hash and is not it.
        assert_eq!(header(&response, ETAG.as_str()).len(), 66);
        let (body, cut) = read_all(response).await;
        assert!(!cut && body == Content::generated(1, BIG_BYTES).to_vec());
    });
    assert_eq!((hub.cdn_bytes_sent(FILE), hub.cdn_bytes_sent("org/name/unet/m.safetensors")), (BIG_BYTES, BIG_BYTES));
    assert_eq!(hub.cdn_credentials_seen(), 0);
}

#[test]
fn a_small_file_comes_from_the_hub_itself() {
    let hub = hub();
    run(async {
        let url = format!("{}/org/name/resolve/{COMMIT}/a%20b/c%23%3F.txt", hub.endpoint());
        let first = get(&url).answer().await;
        let location = header(&first, "location");
        assert!(first.status() == 307 && location.starts_with("/api/resolve-cache/models/org/name/"), "{location}");
        assert_eq!(header(&first, "x-linked-size"), "5");
        let second = get(format!("{}{location}", hub.endpoint())).with("accept-encoding", "identity").answer().await;
        assert_eq!(header(&second, "x-repo-commit"), COMMIT);
        assert_eq!(header(&second, "etag"), header(&first, "x-linked-etag"));
        assert_eq!(read_all(second).await.0, b"small");
        // Clients that allow it get text compressed, without a length and without ranges.
        let packed = get(format!("{}{location}", hub.endpoint()))
            .with("accept-encoding", "gzip")
            .with("range", "bytes=0-1")
            .answer()
            .await;
        assert_eq!((packed.status().as_u16(), packed.content_length()), (200, None));
        assert_eq!(header(&packed, "content-encoding"), "gzip");
        hub.small_files(SmallFiles::Direct);
        let direct = get(&url).answer().await;
        assert_eq!((direct.status().as_u16(), header(&direct, "x-repo-commit")), (200, COMMIT.to_owned()));
        let etag = header(&direct, "etag");
        assert_eq!(get(&url).with("if-none-match", &etag).answer().await.status(), 304);
    });
}

#[test]
fn ranges() {
    let hub = hub();
    let whole = Content::generated(1, BIG_BYTES).to_vec();
    run(async {
        let url = signed(&hub).await;
        for (range, start, end) in [
            ("bytes=0-0", 0, 1),
            ("bytes=100-65999", 100, 66_000),
            ("bytes=299999-", 299_999, 300_000),
            ("bytes=-10", 299_990, 300_000),
            ("bytes=299990-999999", 299_990, 300_000),
        ] {
            let response = get(&url).with("range", range).answer().await;
            assert_eq!(response.status(), 206, "{range}");
            assert_eq!(header(&response, "content-range"), format!("bytes {start}-{}/300000", end - 1));
            assert_eq!(response.content_length(), Some((end - start) as u64));
            assert!(read_all(response).await.0 == whole[start..end], "{range}");
        }
        let beyond = get(&url).with("range", "bytes=300000-").answer().await;
        assert_eq!((beyond.status().as_u16(), header(&beyond, "content-range")), (416, "bytes */300000".to_owned()));
    });
    let ranges: Vec<_> = hub.requests_for(FILE).into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges.len(), 6);
}

#[test]
fn the_cdn_refuses_credentials_and_the_wrong_verb() {
    let hub = hub();
    run(async {
        let url = signed(&hub).await;
        assert_eq!(get(&url).head().answer().await.status(), 403);
        assert_eq!(get(&url).with("authorization", "Bearer hf_x").answer().await.status(), 400);
        assert_eq!(get(&url).with("cookie", "a=b").answer().await.status(), 400);
        assert_eq!(get(url.replace("Signature=", "Signature=0")).answer().await.status(), 403);
    });
    assert_eq!(hub.cdn_credentials_seen(), 2);
    assert_eq!(hub.cdn_bytes_sent(FILE), 0);
}

#[test]
fn signed_addresses_expire() {
    let hub = hub();
    run(async {
        let url = signed(&hub).await;
        hub.expire_signed_urls();
        assert_eq!(get(&url).answer().await.status(), 403);
        hub.signed_life(Duration::ZERO);
        assert_eq!(get(signed(&hub).await).answer().await.status(), 403);
        hub.signed_life(Duration::from_secs(60));
        hub.fault(Fault::Expire { after_bytes: 1000 });
        let url = signed(&hub).await;
        assert_eq!(read_all(get(&url).with("range", "bytes=0-999").answer().await).await.0.len(), 1000);
        assert_eq!(get(&url).with("range", "bytes=1000-1999").answer().await.status(), 403);
        assert_eq!(get(signed(&hub).await).with("range", "bytes=1000-1999").answer().await.status(), 206);
    });
}

#[test]
fn refusals() {
    let hub = hub();
    hub.repo("org/gated").access(Access::Gated).file("config.json", "{}");
    hub.repo("org/private").access(Access::Private).file("config.json", "{}");
    hub.repo("org/disabled").access(Access::Disabled).file("config.json", "{}");
    hub.token("hf_good", &["org/gated", "org/private"]).token("hf_other", &[]);
    const FILE_OF: &str = "/resolve/main/config.json";
    run(async {
        for (path, token, status, code, message) in [
            ("/api/models/org/none", "", 401, "", "Invalid username or password."),
            ("/api/models/org/none", "hf_good", 404, "RepoNotFound", "Repository not found"),
            ("/api/models/org/none", "hf_bad", 401, "", "Invalid credentials in Authorization header"),
            ("/api/models/org/private", "", 401, "", "Invalid username or password."),
            ("/api/models/org/private", "hf_other", 404, "RepoNotFound", "Repository not found"),
            ("/api/models/org/private", "hf_good", 200, "", ""),
            ("/api/models/org/gated", "", 200, "", ""),
            ("/api/models/org/gated/tree/main", "", 200, "", ""),
            (&format!("/org/gated{FILE_OF}"), "", 401, "GatedRepo", "Access to model org/gated is restricted. You"),
            (&format!("/org/gated{FILE_OF}"), "hf_bad", 401, "GatedRepo", "Access to model org/gated is restricted."),
            (
                &format!("/org/gated{FILE_OF}"),
                "hf_other",
                403,
                "GatedRepo",
                "Access to model org/gated is restricted and",
            ),
            (&format!("/org/gated{FILE_OF}"), "hf_good", 307, "", ""),
            (&format!("/org/disabled{FILE_OF}"), "", 403, "", "Access to this resource is disabled."),
            ("/api/models/org/name/revision/v9", "", 404, "RevisionNotFound", "Invalid rev id: v9"),
            ("/org/name/resolve/main/none.bin", "", 404, "EntryNotFound", "Entry not found"),
            ("/api/models/org/name/tree/main/none", "", 404, "EntryNotFound", "Entry not found"),
            ("/no/such/page", "", 404, "", "Sorry"),
        ] {
            let bearer = format!("Bearer {token}");
            let mut ask = get(format!("{}{path}", hub.endpoint()));
            if !token.is_empty() {
                ask = ask.with("authorization", &bearer);
            }
            let response = ask.answer().await;
            assert_eq!(response.status(), status, "{path} {token}");
            assert_eq!(header(&response, "x-error-code"), code, "{path} {token}");
            assert!(header(&response, "x-error-message").starts_with(message), "{path} {token}");
            assert!(!header(&response, "ratelimit").is_empty());
            let has_commit = !header(&response, "x-repo-commit").is_empty();
            assert!(code != "EntryNotFound" || has_commit, "{path}");
        }
    });
}

#[test]
fn old_names_redirect() {
    let hub = hub();
    hub.renamed("old", "org/name");
    run(async {
        let response = get(format!("{}/api/models/old/tree/main?recursive=true", hub.endpoint())).answer().await;
        assert_eq!(response.status(), 307);
        assert_eq!(header(&response, "location"), "/api/models/org/name/tree/main?recursive=true");
        assert_eq!(get(format!("{}/old/resolve/main/{FILE}", hub.endpoint())).answer().await.status(), 302);
    });
}

#[test]
fn branches_and_commits() {
    let hub = hub();
    let next = "b".repeat(40);
    hub.repo("org/name").branch("v1").commit(&next).file("config.json", "{\"new\":1}");
    run(async {
        let base = format!("{}/api/models/org/name/revision", hub.endpoint());
        assert_eq!(get(format!("{base}/main")).json().await["sha"], next);
        assert_eq!(get(format!("{base}/v1")).json().await["sha"], COMMIT);
        assert_eq!(get(format!("{base}/{COMMIT}")).json().await["siblings"].as_array().map(Vec::len), Some(3));
    });
}

#[test]
fn bodies_that_end_too_early() {
    for (fault, place) in
        [(Fault::Truncate { after_bytes: 100_000 }, "truncated"), (Fault::Reset { after_bytes: 100_000 }, "reset")]
    {
        let hub = hub();
        hub.fault(Rule::new(fault).on(FILE).times(1));
        run(async {
            let url = signed(&hub).await;
            let (body, cut) = read_all(get(&url).answer().await).await;
            assert!(cut && body.len() <= 100_000, "{place}: {} bytes", body.len());
            assert!(body == Content::generated(1, BIG_BYTES).range(0, body.len() as u64), "{place}");
            assert!(!read_all(get(&url).answer().await).await.1, "{place}: once only");
        });
        let sent: Vec<_> = hub.requests().iter().filter(|r| r.origin == Origin::Cdn).map(|r| r.bytes_sent).collect();
        assert_eq!(sent, [100_000, BIG_BYTES], "{place}");
    }
}

#[test]
fn a_stalled_body_goes_on_when_it_is_released() {
    let hub = hub();
    hub.fault(Fault::Stall { after_bytes: 1000 });
    run(async {
        let mut response = get(signed(&hub).await).answer().await;
        let mut body = Vec::new();
        while body.len() < 1000 {
            body.extend_from_slice(&response.chunk().await.expect("bytes").expect("not the end"));
        }
        assert_eq!(body.len(), 1000);
        assert!(tokio::time::timeout(QUIET, response.chunk()).await.is_err(), "nothing comes");
        hub.release();
        body.extend_from_slice(&read_all(response).await.0);
        assert!(body == Content::generated(1, BIG_BYTES).to_vec());
    });
}

#[test]
fn answers_that_lie() {
    let hub = hub();
    let truth = Content::generated(1, BIG_BYTES);
    run(async {
        let url = signed(&hub).await;
        let ask = || get(&url).with("range", "bytes=10-19");
        hub.fault(Rule::new(Fault::WrongContentRange).times(1));
        let shifted = ask().answer().await;
        assert_eq!(
            (shifted.status().as_u16(), header(&shifted, "content-range")),
            (206, "bytes 11-20/300000".to_owned())
        );
        hub.fault(Rule::new(Fault::WholeForRange).times(1));
        let whole = ask().answer().await;
        assert_eq!((whole.status().as_u16(), whole.content_length()), (200, Some(BIG_BYTES)));
        hub.fault(Rule::new(Fault::HtmlPage).times(1));
        let page = ask().answer().await;
        assert_eq!((page.status().as_u16(), header(&page, "content-type")), (200, "text/html".to_owned()));
        hub.fault(Rule::new(Fault::Gzip).times(1));
        assert_eq!(header(&ask().answer().await, "content-encoding"), "gzip");
        hub.fault(Rule::new(Fault::WrongBytes).times(1));
        let wrong = read_all(ask().answer().await).await.0;
        let right = truth.range(10, 10);
        assert!(wrong.len() == 10 && wrong[0] != right[0] && wrong[1..] == right[1..]);
        hub.fault(Rule::new(Fault::EtagFlip).times(2));
        let tags = [header(&ask().answer().await, "etag"), header(&ask().answer().await, "etag")];
        assert_ne!(tags[0], tags[1]);
        assert_eq!(read_all(ask().answer().await).await.0, right);
    });
}

#[test]
fn statuses_come_where_and_as_often_as_asked() {
    let hub = hub();
    run(async {
        let url = signed(&hub).await;
        hub.fault(Rule::new(Fault::Status(503)).at(Place::Bytes).on(FILE).after(1).times(2));
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(get(&url).answer().await.status().as_u16());
        }
        assert_eq!(seen, [200, 503, 503, 200]);
        hub.fault(Rule::new(Fault::RetryAfter { status: 429, seconds: 7 }).at(Place::Resolve));
        let response = get(format!("{}/org/name/resolve/main/{FILE}", hub.endpoint())).answer().await;
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "7".to_owned()));
        hub.clear_faults();
        hub.fault(Fault::RedirectLoop);
        let mut url = format!("{}/org/name/resolve/main/{FILE}", hub.endpoint());
        for _ in 0..30 {
            let response = get(&url).answer().await;
            assert_eq!(response.status(), 302);
            url = format!("{}{}", hub.endpoint(), header(&response, "location"));
        }
    });
}

#[test]
fn latency_and_rate() {
    let hub = hub();
    run(async {
        let url = signed(&hub).await;
        hub.fault(Rule::new(Fault::Latency(Duration::from_millis(50))).times(1));
        let start = Instant::now();
        get(&url).with("range", "bytes=0-0").answer().await;
        assert!(start.elapsed() >= Duration::from_millis(50));
        hub.fault(Fault::Rate { bytes_per_s: 1_000_000 });
        let start = Instant::now();
        let (body, _) = read_all(get(&url).answer().await).await;
        let took = start.elapsed();
        // 300,000 bytes at a million a second; only the lower bound does not depend on the machine.
        assert!(body.len() as u64 == BIG_BYTES && took >= Duration::from_millis(250), "{took:?}");
    });
}

#[test]
fn stopped_means_refused_and_resumed_means_the_same_address() {
    let mut hub = hub();
    let endpoint = hub.endpoint();
    let try_once = || run(async { client().get(&endpoint).send().await.map(drop) });
    assert!(try_once().is_ok());
    hub.stop();
    let error = try_once().expect_err("nobody listens");
    assert!(error.is_connect(), "{error:?}");
    hub.resume();
    assert!(try_once().is_ok());
    run(async {
        let (body, cut) = read_all(get(signed(&hub).await).answer().await).await;
        assert!(!cut && body.len() as u64 == BIG_BYTES);
    });
}

#[test]
fn stopping_cuts_what_is_being_sent() {
    let mut hub = hub();
    hub.fault(Fault::Stall { after_bytes: 10 });
    run(async {
        let response = get(signed(&hub).await).answer().await;
        hub.stop();
        assert!(read_all(response).await.1);
    });
    drop(hub);
}

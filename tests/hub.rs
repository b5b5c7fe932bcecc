//! The hub client against the fake hub: listings, ranges, tokens, and every way in which an answer can be wrong.

mod support;

use modelfs::base::{ByteRange, Digest, RelativePath, RepoId, Revision, Secret};
use modelfs::hub::{Expected, HubError, HubOptions, HubSet, Origin};
use modelfs::tree::Source;
use std::time::Duration;
use support::asking::{describe, run, word};
use support::fake_hub::{Access, Content, FakeHub, Fault, Origin as Server, Place, Rule, SmallFiles};

const COMMIT: &str = "cccccccccccccccccccccccccccccccccccccccc";
const BIG_BYTES: u64 = 200_000;
const BIG: &str = "unet/m.safetensors";
const SMALL: &str = "config.json";
const TOKEN: &str = "hf_secret_of_the_test";
/// Silence after which an impatient client gives up, where a test is about silence.
const SILENCE: Duration = Duration::from_millis(400);

fn fake() -> FakeHub {
    let hub = FakeHub::start();
    hub.repo("org/name").commit(COMMIT).file(SMALL, "{\"a\":1}").lfs(BIG, big());
    hub.token(TOKEN, &["org/gated", "org/private"]);
    hub
}

fn big() -> Content {
    Content::generated(3, BIG_BYTES)
}

fn options(hub: &FakeHub, token: Option<&str>) -> HubOptions {
    let hf_token = token.map(|token| Secret::new(token.to_owned()));
    HubOptions { hf_endpoint: hub.endpoint(), hf_token, ..HubOptions::default() }
}

fn client(hub: &FakeHub, token: Option<&str>) -> HubSet {
    HubSet::new(options(hub, token))
}

fn impatient(hub: &FakeHub) -> HubSet {
    HubSet::new(HubOptions { read_timeout: SILENCE, ..options(hub, None) })
}

fn origin(repo: &str, path: &str) -> Origin {
    Origin {
        source: Source::HuggingFace,
        repo: RepoId::new(repo).expect("a name"),
        commit: Revision::new(COMMIT).expect("a commit"),
        path: RelativePath::new(path).expect("a path"),
    }
}

fn expected_big() -> Expected {
    let sha256 = Digest::parse(big().sha256()).expect("64 digits");
    Expected { size_bytes: BIG_BYTES, sha256: Some(sha256), etag: None }
}

/// All bytes of a range, or the first error.
async fn read(
    client: &HubSet,
    origin: &Origin,
    expected: &Expected,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, HubError> {
    let range = ByteRange::new(start, length).expect("not empty");
    let mut stream = client.open_range(origin, expected, range).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

async fn read_big(client: &HubSet, start: u64, length: u64) -> Result<Vec<u8>, HubError> {
    read(client, &origin("org/name", BIG), &expected_big(), start, length).await
}

#[test]
fn a_listing_over_several_pages_behind_a_mirror() {
    let hub = FakeHub::start();
    let mut repo = hub.repo("org/many").commit(COMMIT);
    for number in 0..25 {
        repo = repo.file(&format!("part/{number:02}.txt"), format!("text {number}"));
    }
    drop(repo.lfs("m.gguf", big()).tag("license:mit"));
    hub.page_entries(4).link_origin("https://huggingface.co");
    let listing = describe(&client(&hub, None), "hf:org/many").expect("a public repository");
    assert_eq!((listing.commit.as_str(), listing.files.len(), listing.gated), (COMMIT, 26, false));
    assert_eq!(listing.tags, ["license:mit"]);
    let large = listing.files.iter().find(|file| file.path.as_str() == "m.gguf").expect("listed");
    assert_eq!(
        (large.size_bytes, large.sha256.map(|digest| digest.to_string())),
        (BIG_BYTES, Some(big().sha256().to_owned()))
    );
    let small = &listing.files[1];
    assert_eq!((small.sha256, small.git_sha1.as_deref()), (None, Some(Content::from("text 0").git_sha1())));
    assert!(hub.requests().iter().all(|request| request.origin == Server::Hub && request.status == 200));
    let folder = describe(&client(&hub, None), "hf:org/many@main/part").expect("a folder of it");
    assert_eq!(folder.files.len(), 25);
    let file = describe(&client(&hub, None), "hf:org/many/part/07.txt").expect("a file of it");
    assert_eq!(file.files.len(), 1);
}

#[test]
fn another_spelling_is_followed_to_the_repositorys_own_name() {
    let hub = fake();
    hub.renamed("old/name", "org/name");
    let listing = describe(&client(&hub, None), "hf:old/name").expect("redirected");
    assert_eq!(listing.repo.as_str(), "org/name");
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let hub = fake();
    let client = client(&hub, Some(TOKEN));
    describe(&client, "hf:org/name").expect("a public repository");
    let bytes = run(read_big(&client, 10, 1000)).expect("a range");
    assert_eq!(bytes, big().range(10, 1000));
    let requests = hub.requests();
    assert!(requests.iter().filter(|request| request.origin == Server::Hub).all(|request| request.with_authorization));
    assert_eq!(requests.iter().filter(|request| request.origin == Server::Cdn).count(), 1);
    assert_eq!(hub.cdn_credentials_seen(), 0);
}

#[test]
fn one_signed_address_serves_many_ranges_and_is_renewed_when_it_expires() {
    let hub = fake();
    let client = client(&hub, None);
    let resolves = || hub.requests().iter().filter(|request| request.target.contains("/resolve/")).count();
    run(async {
        for start in [0, 70_000, 199_990] {
            let length = 65_536.min(BIG_BYTES - start);
            assert_eq!(read_big(&client, start, length).await.expect("a range"), big().range(start, length), "{start}");
        }
        assert_eq!(resolves(), 1);
        hub.expire_signed_urls();
        assert_eq!(read_big(&client, 5, 5).await.expect("asked again"), big().range(5, 5));
        assert_eq!(resolves(), 2);
        // A new address that is refused too is an error, not a loop.
        hub.fault(Rule::new(Fault::Status(403)).at(Place::Bytes));
        let error = read_big(&client, 5, 5).await.expect_err("refused twice");
        assert!(matches!(error, HubError::Signature { status: 403, .. }), "{error:?}");
        assert_eq!(resolves(), 3);
    });
    assert_eq!(hub.cdn_bytes_sent(BIG), 65_536 + 65_536 + 10 + 5);
}

#[test]
fn small_files_come_from_the_hub_in_either_of_its_ways() {
    let hub = fake();
    let client = client(&hub, None);
    let content = Content::from("{\"a\":1}");
    let expected = Expected { size_bytes: 7, sha256: None, etag: Some(content.git_sha1().to_owned()) };
    for how in [SmallFiles::ThroughCache, SmallFiles::Direct] {
        hub.small_files(how);
        let bytes = run(read(&client, &origin("org/name", SMALL), &expected, 0, 7)).expect("a whole file");
        assert_eq!(bytes, content.to_vec(), "{how:?}");
    }
    let other = Expected { etag: Some("f".repeat(40)), ..expected };
    let error = run(read(&client, &origin("org/name", SMALL), &other, 0, 7)).expect_err("another content");
    assert!(matches!(error, HubError::Changed { .. }), "{error:?}");
}

#[test]
fn refusals_say_what_they_are() {
    let hub = fake();
    hub.repo("org/gated").commit(COMMIT).access(Access::Gated).lfs(BIG, big());
    hub.repo("org/private").commit(COMMIT).access(Access::Private).lfs(BIG, big());
    hub.repo("org/disabled").commit(COMMIT).access(Access::Disabled).lfs(BIG, big());
    hub.token("hf_other", &[]);
    let told = |outcome: Result<(), HubError>| match outcome {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            let shown = format!("{error} {}", error.fault());
            assert!(!shown.contains("hf_") && !shown.contains("http://"), "{shown}");
            word(&error)
        }
    };
    for (locator, token, expected) in [
        ("hf:org/none", None, "RepoNotFound"),
        ("hf:org/none", Some(TOKEN), "RepoNotFound"),
        ("hf:org/none", Some("hf_bad"), "BadToken"),
        ("hf:org/private", None, "RepoNotFound"),
        ("hf:org/private", Some(TOKEN), "ok"),
        ("hf:org/gated", None, "ok"),
        ("hf:org/disabled", None, "Disabled"),
        ("hf:org/name@v9", None, "RevisionNotFound"),
        ("hf:org/name/none.bin", None, "EntryNotFound"),
    ] {
        assert_eq!(told(describe(&client(&hub, token), locator).map(drop)), expected, "{locator} {token:?}");
    }
    for (repo, path, token, expected) in [
        ("org/gated", BIG, None, "Gated"),
        ("org/gated", BIG, Some("hf_bad"), "Gated"),
        ("org/gated", BIG, Some("hf_other"), "Gated"),
        ("org/gated", BIG, Some(TOKEN), "ok"),
        ("org/disabled", BIG, None, "Disabled"),
        ("org/name", "none.bin", None, "EntryNotFound"),
        ("org/name", BIG, Some("hf_bad"), "BadToken"),
    ] {
        let outcome = run(read(&client(&hub, token), &origin(repo, path), &expected_big(), 0, 10));
        assert_eq!(told(outcome.map(drop)), expected, "{repo} {path} {token:?}");
    }
    assert_eq!(hub.cdn_credentials_seen(), 0);
}

#[test]
fn wrong_answers_are_refused_before_a_byte_is_handed_out() {
    for (rule, expected) in [
        (Rule::new(Fault::WrongContentRange), "WrongRange"),
        (Rule::new(Fault::WholeForRange), "WrongRange"),
        (Rule::new(Fault::HtmlPage), "Page"),
        (Rule::new(Fault::Status(503)), "Status"),
        (Rule::new(Fault::RetryAfter { status: 429, seconds: 7 }), "RateLimited"),
        (Rule::new(Fault::RedirectLoop), "Redirect"),
        (Rule::new(Fault::EtagFlip).at(Place::Resolve), "Changed"),
        (Rule::new(Fault::Truncate { after_bytes: 1000 }), "Unreachable"),
        (Rule::new(Fault::Reset { after_bytes: 1000 }), "Unreachable"),
        (Rule::new(Fault::Stall { after_bytes: 1000 }), "TimedOut"),
        (Rule::new(Fault::Stall { after_bytes: 0 }), "TimedOut"),
        (Rule::new(Fault::Latency(SILENCE * 3)), "TimedOut"),
    ] {
        let hub = fake();
        hub.fault(rule.clone());
        let asking = if expected == "TimedOut" { impatient(&hub) } else { client(&hub, None) };
        let outcome = run(read_big(&asking, 100, 5000));
        let error = outcome.map(|bytes| bytes.len()).expect_err(expected);
        assert!(format!("{error:?}").starts_with(expected), "{rule:?}: {error:?}");
        // The truth is reached once the fault is over.
        hub.clear_faults();
        assert_eq!(run(read_big(&client(&hub, None), 100, 5000)).expect("no fault"), big().range(100, 5000));
    }
}

#[test]
fn a_compressed_answer_is_refused() {
    let hub = fake();
    hub.fault(Fault::Gzip);
    let outcome = run(read_big(&client(&hub, None), 0, BIG_BYTES));
    let error = outcome.map(|bytes| bytes.len()).expect_err("compressed");
    assert!(matches!(error, HubError::Compressed { .. }), "{error:?}");
}

#[test]
fn a_hub_that_cannot_be_reached() {
    let mut hub = fake();
    let client = client(&hub, None);
    hub.stop();
    assert!(matches!(describe(&client, "hf:org/name"), Err(HubError::Unreachable { .. })));
    hub.resume();
    describe(&client, "hf:org/name").expect("reachable again");
}

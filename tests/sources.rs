//! Several places of one content: the fastest is found, a given order is kept, and another goes on where one stops.

mod support;

use modelfs::base::{BlobId, FaultKind, RelativePath, RepoId, Revision};
use modelfs::fetch::{Activity, Preference, Wanted};
use modelfs::hub::{Mirrors, Origin};
use modelfs::tree::Source;
use std::time::{Duration, Instant};
use support::downloading::{
    MIB, NEVER, PATH, Process, REPO, Setting, check_resident, folder, hub_with, origin, wait_for, wanted,
};
use support::fake_hub::{Content, Fault, Place, Rule};
use support::fake_modelscope::FakeModelScope;

/// As the other hub has it: under another name.
const OTHER_REPO: &str = "Other/Place";
const OTHER_PATH: &str = "weights/model.safetensors";

fn other_with(content: &Content) -> FakeModelScope {
    let other = FakeModelScope::start();
    other.large(OTHER_REPO, OTHER_PATH, content.clone());
    other
}

fn other_origin() -> Origin {
    Origin {
        source: Source::ModelScope,
        repo: RepoId::new(OTHER_REPO).expect("a name"),
        commit: Revision::new("master").expect("a branch"),
        path: RelativePath::new(OTHER_PATH).expect("a path"),
    }
}

fn of_both(content: &Content) -> Wanted {
    Wanted { origins: vec![origin(REPO), other_origin()], ..wanted(content) }
}

fn setting(other: &FakeModelScope, preference: Preference) -> Setting {
    Setting {
        preference,
        modelscope_endpoint: Some(other.origins.endpoint()),
        silence: Duration::from_secs(60),
        ..Setting::default()
    }
}

/// Bytes that the storage of the other hub was asked for, and where each range began.
fn given_by(other: &FakeModelScope, size_bytes: u64) -> (u64, Vec<u64>) {
    let asks = other.origins.asks();
    let given = asks.iter().filter(|ask| ask.at_storage && ask.status == 206);
    let ranges: Vec<(u64, u64)> = given.map(|ask| ask.range(size_bytes).expect("a range")).collect();
    (ranges.iter().map(|(start, end)| end - start).sum(), ranges.iter().map(|(start, _)| *start).collect())
}

#[test]
fn the_faster_source_is_found_and_the_next_file_begins_there() {
    let content = Content::generated(1, 64 * MIB);
    let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: MIB / 2 });
    let process = Process::start(&hub, &store, setting(&other, Preference::Fastest));
    let file = process.open(&of_both(&content));
    let began = Instant::now();
    file.fetch_all();
    wait_for(&file, Activity::Done);
    let took = began.elapsed();
    check_resident(&store, &content);
    let slow_bytes = hub.cdn_bytes_sent(PATH);
    assert!(slow_bytes > 0, "the first one that is registered is asked first");
    assert!(slow_bytes < content.size_bytes() / 4, "{slow_bytes} bytes came from the slow one");
    assert!(
        took < Duration::from_secs(20),
        "it took {took:?}; the slow one alone needs twice as long with all streams"
    );
    drop(file);

    let next = Content::generated(2, 3 * MIB);
    hub.repo(REPO).lfs(PATH, next.clone());
    other.large(OTHER_REPO, OTHER_PATH, next.clone());
    hub.forget_requests();
    let file = process.open(&Wanted { blob: BlobId::new(8), ..of_both(&next) });
    assert!(process.read(&file, 0, 3 * MIB).expect("all of it") == next.to_vec());
    assert_eq!(hub.requests(), [], "what was learnt is known to the next file");
}

#[test]
fn a_given_order_is_kept() {
    let content = Content::generated(3, 16 * MIB);
    let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: 4 * MIB });
    let process = Process::start(&hub, &store, setting(&other, Preference::AsGiven));
    let file = process.open(&of_both(&content));
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes());
    assert!(other.origins.asks().is_empty());
}

#[test]
fn another_hub_goes_on_at_the_byte_where_the_first_one_stops() {
    let content = Content::generated(4, 9 * MIB);
    let rest_bytes = 5;
    for preference in [Preference::AsGiven, Preference::Fastest] {
        let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
        hub.fault(Rule::new(Fault::Truncate { after_bytes: 3 * MIB + rest_bytes }).times(1));
        hub.fault(Rule::new(Fault::Status(404)).at(Place::Resolve).after(1));
        hub.fault(Rule::new(Fault::Status(404)).at(Place::Bytes).after(1));
        let process =
            Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..setting(&other, preference) });
        let file = process.open(&of_both(&content));
        assert!(process.read(&file, 0, 9 * MIB).expect("all of it") == content.to_vec(), "{preference:?}");
        wait_for(&file, Activity::Done);
        check_resident(&store, &content);
        let (bytes, starts) = given_by(&other, content.size_bytes());
        let first = starts.iter().min().copied().expect("it was asked");
        assert!((3 * MIB..=3 * MIB + rest_bytes).contains(&first), "{preference:?}: it went on at {first}");
        let twice = hub.cdn_bytes_sent(PATH) + bytes - content.size_bytes();
        assert!(twice <= rest_bytes, "{preference:?}: {twice} bytes came twice");
    }
}

fn rules(from: &str, to: &str) -> Mirrors {
    Mirrors::parse([(&from.to_owned(), &vec![to.to_owned()])]).expect("a rule")
}

/// Requests to the other hub that were no ranges of the file.
fn listings_of(other: &FakeModelScope) -> usize {
    other.origins.asks().iter().filter(|ask| !ask.at_storage && ask.path.contains("/files")).count()
}

#[test]
fn a_mirror_gives_what_the_only_source_refuses() {
    let content = Content::generated(5, 5 * MIB);
    for (what, fault) in [
        ("gone", Fault::Status(404)),
        ("refused", Fault::Status(403)),
        ("down", Fault::Status(500)),
        ("too many for long", Fault::RetryAfter { status: 429, seconds: 400 }),
    ] {
        let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
        hub.fault(Rule::new(fault).at(Place::Resolve));
        let mirrors = rules("hf:org/*", &format!("modelscope:{OTHER_REPO}"));
        let process = Process::start(&hub, &store, Setting { mirrors, ..setting(&other, Preference::Fastest) });
        let file = process.open(&wanted(&content));
        assert!(process.read(&file, 0, 5 * MIB).expect(what) == content.to_vec(), "{what}");
        file.fetch_all();
        wait_for(&file, Activity::Done);
        check_resident(&store, &content);
        assert_eq!(given_by(&other, content.size_bytes()).0, content.size_bytes(), "{what}");
        assert_eq!(process.books.count("failed"), 0, "{what}");
    }
}

#[test]
fn a_mirror_gives_what_every_known_source_lied_about() {
    let content = Content::generated(9, 3 * MIB);
    for (mirror, activity) in [(OTHER_REPO, Activity::Done), ("org/elsewhere", Activity::Failed)] {
        let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
        hub.fault(Fault::WrongBytes);
        let mirrors = rules("hf:*", &format!("modelscope:{mirror}"));
        let process = Process::start(&hub, &store, Setting { mirrors, ..setting(&other, Preference::Fastest) });
        let file = process.open(&wanted(&content));
        file.fetch_all();
        wait_for(&file, activity);
        if activity == Activity::Done {
            check_resident(&store, &content);
        } else {
            assert_eq!(process.books.count("completed"), 0);
            assert_eq!(process.read(&file, 0, 10).expect_err("nobody has it").fault().kind, FaultKind::Integrity);
        }
    }
}

#[test]
fn a_mirror_is_taken_only_for_the_same_hash_and_looked_at_once() {
    let content = Content::generated(6, 2 * MIB);
    let (hub, other, store) = (hub_with(&content), FakeModelScope::start(), folder());
    // The same name and size.
    other.large(REPO, PATH, Content::generated(7, 2 * MIB));
    hub.fault(Rule::new(Fault::Status(404)).at(Place::Resolve));
    let mirrors = rules("hf:*", "modelscope:*");
    let process = Process::start(&hub, &store, Setting { mirrors, ..setting(&other, Preference::Fastest) });
    for blob in 1..4 {
        let file = process.open(&Wanted { blob: BlobId::new(blob), ..wanted(&content) });
        for _ in 0..3 {
            let fault = process.read(&file, 0, 10).expect_err("nobody has it").fault();
            assert_eq!(fault.kind, FaultKind::Gone, "what the known place said: {fault}");
        }
        let nameless = process.open(&Wanted { blob: BlobId::new(blob + 10), sha256: None, ..wanted(&content) });
        process.read(&nameless, 0, 10).expect_err("without a hash nothing is looked for");
    }
    assert_eq!(given_by(&other, 2 * MIB).1, [0u64; 0], "no byte of another file");
    assert_eq!(listings_of(&other), 1, "all files share one listing: {:?}", other.origins.asks());
}

#[test]
fn a_mirror_is_not_asked_while_a_known_place_gives() {
    let content = Content::generated(8, 3 * MIB);
    let (hub, other, store) = (hub_with(&content), other_with(&content), folder());
    // Once is no reason.
    hub.fault(Rule::new(Fault::Status(500)).at(Place::Resolve).times(1));
    let mirrors = rules("hf:*", &format!("modelscope:{OTHER_REPO}"));
    let process = Process::start(&hub, &store, Setting { mirrors, ..setting(&other, Preference::Fastest) });
    let file = process.open(&wanted(&content));
    assert!(process.read(&file, 0, 3 * MIB).expect("all of it") == content.to_vec());
    assert!(other.origins.asks().is_empty());
}

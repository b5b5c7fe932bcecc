//! The download engine against the fake hub: every byte right, every fault survived or told, nothing moved twice.

mod support;

use modelfs::base::{BlobId, FaultKind, RelativePath};
use modelfs::fetch::{Activity, Wanted};
use modelfs::hub::Origin;
use modelfs::store::Store;
use modelfs::tree::Source;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::downloading::{
    MIB, NEVER, PATH, Process, REPO, Setting, WAIT_MAX, check_resident, folder, hub_with, origin, range, read_in_order,
    wait_for, wait_until, wanted,
};
use support::fake_hub::Origin as Endpoint;
use support::fake_hub::{Access, Content, FakeHub, Fault, Place, Recorded, Rule};

#[test]
fn reading_in_order_gives_the_content_and_makes_it_resident() {
    let content = Content::generated(1, 21 * MIB + 12_345);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    assert!(hub.requests().is_empty(), "opening asks nobody");
    assert!(file.read_present(range(0, 1)).is_none());
    read_in_order(&process, &file, &content, 300_000);
    let done = wait_for(&file, Activity::Done);
    assert_eq!((done.bytes_present, done.error), (content.size_bytes(), None));
    check_resident(&store, &content);
    assert_eq!((process.books.count("began"), process.books.count("completed")), (1, 1));
    assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes(), "no byte twice");
    assert_eq!(process.read(&file, 5, 7).expect("the old handle"), content.range(5, 7));
    let past = file.read_present(range(content.size_bytes(), 9)).expect("known").expect("nothing there");
    assert!(past.is_empty());
    assert!(process.engine.downloads().is_empty());
    drop(file);
    wait_until("the state to go", || process.engine.progress(BlobId::new(7)).is_none());
}

#[test]
fn a_probe_moves_what_it_touches() {
    let content = Content::generated(2, 64 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    // `head -c 8`, with the kernel's read-ahead of 1 MiB.
    process.read(&file, 0, 128 << 10).expect("the header");
    process.read(&file, 128 << 10, MIB).expect("read ahead by the kernel");
    assert_eq!(hub.cdn_bytes_sent(PATH), 2 * MIB);
    process.read(&file, 64 * MIB - 100, 100).expect("the trailer");
    let progress = wait_for(&file, Activity::Idle);
    assert_eq!(progress.bytes_present, 3 * MIB);
    assert_eq!(hub.cdn_bytes_sent(PATH), 3 * MIB);
}

#[test]
fn who_reads_as_much_at_each_place_waits_for_one_answer_at_each() {
    let content = Content::generated(33, 128 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..Setting::default() });
    let file = process.open(&wanted(&content));
    let answers = || hub.requests_for(PATH).iter().filter_map(asked_and_sent).count();
    // As the kernel cuts up one read of a MiB, which touches two chunks.
    for (place, read_kib, new_answers, moved_mib) in
        [(1, 1024, 2, 2), (2, 1024, 1, 2), (3, 1024, 1, 2), (4, 128, 1, 2), (5, 128, 1, 1)]
    {
        let (before, sent) = (answers(), hub.cdn_bytes_sent(PATH));
        for kib in (0..read_kib).step_by(128) {
            let start = place * 20 * MIB + MIB / 2 + (kib << 10);
            let read = process.read(&file, start, 128 << 10).expect("a read");
            assert!(read == content.range(start, 128 << 10), "wrong bytes at {start}");
        }
        wait_for(&file, Activity::Idle);
        assert_eq!(answers() - before, new_answers, "place {place}");
        assert_eq!(hub.cdn_bytes_sent(PATH) - sent, moved_mib * MIB, "place {place}");
    }
}

#[test]
fn threads_that_read_at_random_get_the_content_and_share_the_transfer() {
    let content = Content::generated(3, 40 * MIB + 77);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..Setting::default() });
    let file = process.open(&wanted(&content));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (process, file, content) = (&process, &file, &content);
            scope.spawn(move || {
                let mut place = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..40 {
                    place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (start, len) = ((place >> 20) % content.size_bytes(), 1 + (place >> 40) % 300_000);
                    let read = process.read(file, start, len).expect("a read");
                    assert!(read == content.range(start, len), "wrong bytes at {start}+{len}");
                }
            });
        }
    });
    let progress = file.progress();
    let sent = hub.cdn_bytes_sent(PATH);
    assert!(sent <= content.size_bytes(), "{sent} sent for {} present", progress.bytes_present);
}

#[test]
fn a_killed_process_is_continued() {
    let content = Content::generated(4, 48 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Stall { after_bytes: 3 * MIB + 5 });
    let process = Process::start(&hub, &store, Setting { silence: Duration::from_secs(30), ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_until("some chunks", || file.progress().bytes_present >= 9 * MIB);
    let had = file.progress().bytes_present;
    process.kill();
    drop(file);
    hub.clear_faults();
    hub.forget_requests();
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    assert!(file.progress().bytes_present >= had);
    let kept = file.progress().bytes_present;
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    let again = hub.cdn_bytes_sent(PATH);
    assert!(again <= content.size_bytes() - kept, "{again} bytes were sent, {kept} were here");
}

/// The range of a request for bytes, and how many were sent.
fn asked_and_sent(request: &Recorded) -> Option<(u64, u64, u64)> {
    let (first, last) = request.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
    let at_cdn = request.origin == Endpoint::Cdn;
    at_cdn.then_some((first.parse().ok()?, last.parse::<u64>().ok()? + 1, request.bytes_sent))
}

#[test]
fn a_stream_that_is_cut_goes_on_at_the_byte_it_had() {
    let content = Content::generated(28, 24 * MIB + 77);
    for fault in [Fault::Truncate { after_bytes: MIB / 2 + 5 }, Fault::Truncate { after_bytes: 3 * MIB - 100_000 }] {
        let (hub, store) = (hub_with(&content), folder());
        hub.fault(fault.clone());
        let process = Process::start(&hub, &store, Setting::default());
        let file = process.open(&wanted(&content));
        file.fetch_all();
        wait_for(&file, Activity::Done);
        check_resident(&store, &content);
        let asked: Vec<(u64, u64, u64)> = hub.requests_for(PATH).iter().filter_map(asked_and_sent).collect();
        let cut = asked.iter().filter(|(start, end, sent)| start + sent < *end);
        let ends: Vec<u64> = cut.map(|(start, _, sent)| start + sent).collect();
        assert!(!ends.is_empty(), "nothing was cut");
        let goes_on = |end: &u64| asked.iter().any(|(start, _, _)| start == end);
        assert!(ends.iter().all(goes_on), "with {fault:?}: {asked:?}");
    }
}

#[test]
fn a_complete_partial_is_finished_when_it_is_opened() {
    let content = Content::generated(5, 3 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    {
        let identity = modelfs::store::PartialIdentity {
            size_bytes: content.size_bytes(),
            sha256: wanted(&content).sha256,
            etag: None,
        };
        let key = modelfs::store::PartialKey::of_blob(BlobId::new(7));
        let partial = Store::create(store.path()).expect("a store").open_partial(&key, &identity).expect("a partial");
        for chunk in 0..3 {
            partial.write_chunk(chunk, &content.range(chunk * MIB, MIB)).expect("written");
        }
    }
    let process = Process::start(&hub, &store, Setting { offline: true, ..Setting::default() });
    let file = process.open(&wanted(&content));
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
}

#[test]
fn empty_files_and_files_without_a_hash() {
    for content in [Content::from(""), Content::generated(6, 2 * MIB + 3)] {
        let (hub, store) = (FakeHub::start(), folder());
        hub.repo(REPO).file(PATH, content.clone());
        let process = Process::start(&hub, &store, Setting { promote_after_bytes: 0, ..Setting::default() });
        let file =
            process.open(&Wanted { sha256: None, etag: Some(content.git_sha1().to_owned()), ..wanted(&content) });
        assert_eq!(process.read(&file, 0, 10 * MIB).expect("all of it"), content.to_vec());
        wait_for(&file, Activity::Done);
        check_resident(&store, &content);
        assert_eq!(process.books.count(&format!("completed m.safetensors {}", content.sha256())), 1);
    }
}

#[test]
fn passing_faults_end_in_a_right_file() {
    let content = Content::generated(7, 20 * MIB + 1);
    let at = |fault, place| Rule::new(fault).at(place);
    let faults: Vec<(&str, Vec<Rule>)> = vec![
        ("truncated", vec![Rule::new(Fault::Truncate { after_bytes: 2 * MIB + 9 }).times(5)]),
        ("truncated always", vec![Rule::new(Fault::Truncate { after_bytes: 2 * MIB + 9 })]),
        ("reset", vec![Rule::new(Fault::Reset { after_bytes: MIB / 2 }).times(4)]),
        ("stalled", vec![Rule::new(Fault::Stall { after_bytes: MIB + MIB / 2 }).times(3)]),
        ("expired", vec![Rule::new(Fault::Expire { after_bytes: 5 * MIB })]),
        ("refused signature", vec![at(Fault::Status(403), Place::Bytes).times(2)]),
        ("too many", vec![at(Fault::RetryAfter { status: 429, seconds: 1 }, Place::Resolve).times(1)]),
        ("server error", vec![at(Fault::Status(500), Place::Resolve).times(2)]),
        ("storage error", vec![at(Fault::Status(503), Place::Bytes).times(2)]),
        ("another range", vec![Rule::new(Fault::WrongContentRange).times(2)]),
        ("whole for a range", vec![Rule::new(Fault::WholeForRange).times(2)]),
        ("a page", vec![Rule::new(Fault::HtmlPage).times(2)]),
        ("late", vec![Rule::new(Fault::Latency(Duration::from_millis(100))).times(3)]),
    ];
    // The fake hub compresses all of a file at once, which takes long in a debug build.
    let small = Content::generated(7, MIB / 4);
    let compressed = ("compressed", vec![Rule::new(Fault::Gzip).times(2)]);
    let cases = faults.into_iter().map(|case| (case, &content)).chain([(compressed, &small)]);
    for ((what, rules), content) in cases {
        let (hub, store) = (hub_with(content), folder());
        for rule in rules {
            hub.fault(rule);
        }
        let process = Process::start(&hub, &store, Setting::default());
        let file = process.open(&wanted(content));
        read_in_order(&process, &file, content, 700_000);
        wait_for(&file, Activity::Done);
        check_resident(&store, content);
        assert_eq!(process.books.count("failed"), 0, "{what}");
    }
}

#[test]
fn a_hub_that_is_away_for_a_while_is_waited_for() {
    let content = Content::generated(8, 6 * MIB);
    let (mut hub, store) = (hub_with(&content), folder());
    hub.stop();
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_until("a failure to be told", || file.progress().error.is_some());
    let progress = file.progress();
    assert_eq!(progress.activity, Activity::Downloading);
    assert_eq!(progress.error.map(|fault| fault.kind), Some(FaultKind::Unreachable));
    hub.resume();
    assert_eq!(process.read(&file, 4 * MIB, 10).expect("it is back"), content.range(4 * MIB, 10));
    assert_eq!(wait_for(&file, Activity::Done).error, None);
}

#[test]
fn a_silent_hub_ends_in_a_timeout_and_the_next_read_tries_again() {
    let content = Content::generated(9, 6 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Stall { after_bytes: 10 });
    let read_timeout = Duration::from_millis(1500);
    let process = Process::start(&hub, &store, Setting { read_timeout, ..Setting::default() });
    let file = process.open(&wanted(&content));
    let began = Instant::now();
    let mut fault = process.read(&file, 0, 10).expect_err("nothing comes").fault();
    // The silence inside an answer is shorter and may be told first.
    while fault.kind != FaultKind::TimedOut {
        fault = process.read(&file, 0, 10).expect_err("nothing comes").fault();
    }
    assert!(began.elapsed() >= read_timeout && began.elapsed() < WAIT_MAX);
    assert!(fault.what.contains("m.safetensors"), "{fault}");
    let failed = wait_for(&file, Activity::Failed);
    assert_eq!(failed.error, Some(fault));
    assert_eq!(process.engine.downloads().len(), 1);
    wait_until("the ledger to know", || process.books.count("failed") > 0);
    hub.clear_faults();
    hub.release();
    assert_eq!(process.read(&file, 0, 10).expect("again"), content.range(0, 10));
    assert_eq!(wait_for(&file, Activity::Idle).error, None);
}

#[test]
fn only_new_bytes_are_progress() {
    let content = Content::generated(26, MIB);
    let (hub, store) = (hub_with(&content), folder());
    let read_timeout = Duration::from_secs(4);
    let process = Process::start(&hub, &store, Setting { read_timeout, ..Setting::default() });
    let file = process.open(&wanted(&content));
    // Half of it comes, and what follows never does.
    hub.fault(Rule::new(Fault::Truncate { after_bytes: MIB / 2 }).times(1));
    hub.fault(Rule::new(Fault::Truncate { after_bytes: 0 }).after(1));
    let began = Instant::now();
    let fault = process.read(&file, 0, 10).expect_err("the half of it never comes").fault();
    let waited = began.elapsed();
    assert_eq!(fault.kind, FaultKind::TimedOut, "{fault}");
    // The pauses between tries are 250 ms and double: were the tries progress, the fifth would still begin in time and the
    // wait would be twice as long.
    assert!(waited >= read_timeout && waited < read_timeout + Duration::from_secs(3), "it took {waited:?}");
    let second_half = format!("bytes={}-{}", MIB / 2, MIB - 1);
    let again = |request: &Recorded| request.range.as_deref() == Some(&second_half) && request.origin == Endpoint::Cdn;
    let tries = hub.requests().iter().filter(|request| again(request)).count();
    assert!(tries > 2, "it was tried {tries} times");
    hub.clear_faults();
    hub.fault(Fault::Rate { bytes_per_s: MIB / 8 });
    assert_eq!(process.read(&file, 0, 10).expect("slow, but all of it is new"), content.range(0, 10));
}

#[test]
fn a_hub_that_was_waited_for_in_vain_is_not_waited_for_by_every_file() {
    let content = Content::generated(25, MIB);
    let (mut hub, store) = (hub_with(&content), folder());
    hub.stop();
    let read_timeout = Duration::from_secs(3);
    let process = Process::start(&hub, &store, Setting { read_timeout, ..Setting::default() });
    let open = |blob| process.open(&Wanted { blob: BlobId::new(blob), ..wanted(&content) });
    let fault = process.read(&open(1), 0, 10).expect_err("it is down").fault();
    assert!(matches!(fault.kind, FaultKind::TimedOut | FaultKind::Unreachable), "{fault}");
    let began = Instant::now();
    for blob in 2..20 {
        let fault = process.read(&open(blob), 0, 10).expect_err("it is down").fault();
        assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
        assert!(fault.what.contains("m.safetensors"), "{fault}");
    }
    assert!(began.elapsed() < read_timeout, "each was waited for");
    hub.resume();
    let file = open(2);
    assert_eq!(process.read(&file, 0, 10).expect("it is back"), content.range(0, 10));
}

#[test]
fn final_refusals_are_told_at_once() {
    let content = Content::generated(10, 3 * MIB);
    let check = |access: Option<Access>, origins: Vec<Origin>, offline: bool, kind: FaultKind| {
        let (hub, store) = (hub_with(&content), folder());
        access.into_iter().for_each(|access| drop(hub.repo(REPO).access(access)));
        let process = Process::start(&hub, &store, Setting { offline, ..Setting::default() });
        let file = process.open(&Wanted { origins, ..wanted(&content) });
        let began = Instant::now();
        let fault = process.read(&file, 0, 10).expect_err("refused").fault();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.what.contains("m.safetensors") && !fault.remedy.is_empty(), "{fault}");
        assert!(began.elapsed() < Duration::from_secs(10), "it was waited for");
        assert_eq!(wait_for(&file, Activity::Failed).error, Some(fault));
        drop(file);
        wait_until("the failure to be kept", || {
            process.engine.progress(BlobId::new(7)).is_some_and(|late| late.activity == Activity::Failed)
        });
    };
    check(None, vec![origin(REPO)], true, FaultKind::Offline);
    check(None, Vec::new(), false, FaultKind::Gone);
    check(None, vec![origin("org/other")], false, FaultKind::NotFound);
    check(Some(Access::Gated), vec![origin(REPO)], false, FaultKind::AccessDenied);
}

#[test]
fn another_origin_goes_on_where_the_first_one_refuses() {
    let content = Content::generated(11, 9 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.repo("org/twin").lfs(PATH, content.clone());
    hub.fault(Rule::new(Fault::Truncate { after_bytes: 3 * MIB }).on("org/name/unet/m.safetensors").times(1));
    hub.fault(Rule::new(Fault::Status(404)).at(Place::Resolve).on("org/name/unet/m.safetensors").after(1));
    hub.fault(Rule::new(Fault::Status(404)).at(Place::Bytes).on("org/name/unet/m.safetensors").after(1));
    let process = Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..Setting::default() });
    let file = process.open(&Wanted { origins: vec![origin(REPO), origin("org/twin")], ..wanted(&content) });
    assert!(process.read(&file, 0, 9 * MIB).expect("all of it") == content.to_vec());
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert!(hub.cdn_bytes_sent("org/twin/unet/m.safetensors") > 0);
}

#[test]
fn wrong_bytes_never_become_resident() {
    let content = Content::generated(12, 4 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::WrongBytes);
    let process = Process::start(&hub, &store, Setting { promote_after_bytes: 0, ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    let failed = wait_for(&file, Activity::Failed);
    assert_eq!(failed.error.map(|fault| fault.kind), Some(FaultKind::Integrity));
    hub.forget_requests();
    let fault = process.read(&file, 0, 10).expect_err("wrong").fault();
    assert_eq!(fault.kind, FaultKind::Integrity);
    let present = file.read_present(range(0, 10)).expect("known").expect_err("wrong");
    assert_eq!(present.fault().kind, FaultKind::Integrity);
    assert!(hub.requests().is_empty(), "the only source is not asked again and again");
    assert!(!store.path().join("models").join(content.sha256()).exists());
    wait_until("the ledger to know", || process.books.count("failed") == 1);
    hub.clear_faults();
    let again = process.open(&wanted(&content));
    assert_ne!(again.lies(), 0, "whoever kept bytes of before must learn that they were wrong");
    assert_eq!(process.engine.progress(BlobId::new(7)).map(|progress| progress.activity), Some(Activity::Failed));
    assert_eq!(process.read(&again, 0, 10).expect("a new open starts anew"), content.range(0, 10));
    let fault = process.read(&file, 0, 10).expect_err("the old handle keeps its failure").fault();
    assert_eq!(fault.kind, FaultKind::Integrity);
    again.fetch_all();
    wait_for(&again, Activity::Done);
    check_resident(&store, &content);
}

#[test]
fn wrong_bytes_of_one_source_are_fetched_from_another() {
    let content = Content::generated(13, 4 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.repo("org/twin").lfs(PATH, content.clone());
    hub.fault(Rule::new(Fault::WrongBytes).on("org/name/unet/m.safetensors"));
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&Wanted { origins: vec![origin(REPO), origin("org/twin")], ..wanted(&content) });
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(process.read(&file, 0, 4 * MIB).expect("all of it"), content.to_vec());
    assert_eq!(process.books.count("failed"), 0);
}

#[test]
fn chunks_that_the_disk_lost_are_fetched_again() {
    let content = Content::generated(21, 6 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    process.read(&file, 0, 3 * MIB).expect("a few chunks");
    let data = std::fs::OpenOptions::new().write(true).open(store.path().join("partial/b7/data")).expect("the data");
    std::os::unix::fs::FileExt::write_all_at(&data, b"rot", 2 * MIB + 5).expect("written");
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(process.read(&file, 2 * MIB, 10).expect("right again"), content.range(2 * MIB, 10));
    assert_eq!(hub.cdn_bytes_sent(PATH), 7 * MIB, "the lost chunk and no other");
}

#[test]
fn what_was_opened_just_as_it_became_complete_is_still_there() {
    let content = Content::generated(22, 2 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    process.open(&wanted(&content)).fetch_all();
    wait_until("the ledger to know", || process.books.count("completed") == 1);
    let late = process.open(&wanted(&content));
    assert_eq!(process.read(&late, 0, 10).expect("the same bytes"), content.range(0, 10));
    wait_for(&late, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(hub.cdn_bytes_sent(PATH), 2 * MIB);
}

#[test]
fn old_handles_read_on_through_the_moment_of_completion() {
    let content = Content::generated(14, 8 * MIB);
    for round in 0..10u64 {
        let (hub, store) = (hub_with(&content), folder());
        let process = Process::start(&hub, &store, Setting { promote_after_bytes: 0, ..Setting::default() });
        let file = process.open(&wanted(&content));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (process, file, content) = (&process, file.clone(), &content);
                scope.spawn(move || {
                    let mut after = 0;
                    for turn in 0u64.. {
                        let start = (turn * 777_777 + thread * MIB + round) % (8 * MIB - 4096);
                        let read = process.read(&file, start, 4096).expect("never fails");
                        assert!(read == content.range(start, 4096), "wrong bytes at {start}");
                        after += u32::from(file.progress().activity == Activity::Done);
                        if after > 50 {
                            break;
                        }
                    }
                });
            }
        });
        check_resident(&store, &content);
    }
}

#[test]
fn a_demand_overtakes_the_background() {
    let content = Content::generated(15, 64 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: 2 * MIB });
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_until("the background to run", || file.progress().bytes_present >= 2 * MIB);
    assert_eq!(process.read(&file, 63 * MIB, 10).expect("soon"), content.range(63 * MIB, 10));
    let present = file.progress().bytes_present;
    assert!(present < 40 * MIB, "{present} bytes came first");
    let progress = file.progress();
    assert!(progress.bytes_per_s.is_some_and(|rate| rate > 0) && progress.eta.is_some(), "{progress:?}");
    assert_eq!(progress.source, Some(Source::HuggingFace));
}

#[test]
fn cancel_stops_the_background_and_no_read() {
    let content = Content::generated(16, 64 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Stall { after_bytes: MIB / 2 });
    let process = Process::start(&hub, &store, Setting { silence: Duration::from_secs(30), ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    hub.wait_until("streams", |requests| requests.iter().filter(|request| request.bytes_sent >= MIB / 2).count() > 2);
    let reader = {
        let file = file.clone();
        let runtime = process.runtime.as_ref().expect("runs");
        runtime.spawn(async move { file.read(range(60 * MIB, 10)).await })
    };
    let demanded = format!("bytes={}-{}", 60 * MIB, 61 * MIB - 1);
    hub.wait_until("the demand", |requests| {
        requests.iter().any(|request| request.range.as_deref() == Some(&demanded) && request.bytes_sent >= MIB / 2)
    });
    file.cancel();
    hub.release();
    let runtime = process.runtime.as_ref().expect("runs");
    let read = runtime.block_on(reader).expect("no panic").expect("it goes on");
    assert_eq!(read.to_vec(), content.range(60 * MIB, 10));
    let progress = wait_for(&file, Activity::Idle);
    assert!(progress.bytes_present < 32 * MIB, "{progress:?}");
    hub.clear_faults();
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
}

#[test]
fn a_dropped_read_gives_up_its_demand() {
    let content = Content::generated(17, 8 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Stall { after_bytes: 100 });
    let process = Process::start(&hub, &store, Setting { silence: Duration::from_secs(30), ..Setting::default() });
    let file = process.open(&wanted(&content));
    let reader = {
        let file = file.clone();
        process.runtime.as_ref().expect("runs").spawn(async move { file.read(range(0, 10)).await })
    };
    hub.wait_until("the stream", |requests| requests.iter().any(|request| request.bytes_sent >= 100));
    assert_eq!(file.progress().activity, Activity::Downloading);
    reader.abort();
    wait_for(&file, Activity::Idle);
    drop(file);
    wait_until("the state to go", || process.engine.progress(BlobId::new(7)).is_none());
}

#[test]
fn a_whole_download_goes_on_without_handles_and_read_ahead_does_not() {
    let content = Content::generated(18, 40 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: 4 * MIB });
    let process = Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..Setting::default() });
    let file = process.open(&wanted(&content));
    for start in 0..5 {
        process.read(&file, start * MIB, MIB).expect("in order");
    }
    drop(file);
    wait_until("read-ahead to end", || process.engine.progress(BlobId::new(7)).is_none());
    hub.clear_faults();
    let file = process.open(&wanted(&content));
    assert!(file.progress().bytes_present < 20 * MIB);
    file.fetch_all();
    drop(file);
    wait_until("the ledger to know", || process.books.count("completed") == 1);
    check_resident(&store, &content);
}

#[test]
fn opening_and_closing_at_once_is_never_busy() {
    let content = Content::generated(23, 2 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for turn in 0..100 {
                    let file = process.open(&wanted(&content));
                    assert_eq!(file.size_bytes(), 2 * MIB);
                    if turn % 10 == 0 {
                        process.read(&file, 0, 10).expect("a read");
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..2000 {
                assert!(process.engine.downloads().len() <= 1);
                let progress = process.engine.progress(BlobId::new(7));
                assert!(progress.is_none_or(|progress| progress.bytes_present <= MIB));
            }
        });
    });
    assert_eq!(hub.cdn_bytes_sent(PATH), MIB);
}

#[test]
fn a_file_that_cannot_be_recorded_can_still_be_read() {
    let content = Content::generated(24, 2 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    process.books.refuse.store(true, Ordering::Relaxed);
    let file = process.open(&wanted(&content));
    file.fetch_all();
    let fault = wait_for(&file, Activity::Failed).error.expect("told");
    assert_eq!((fault.kind, fault.remedy.as_str()), (FaultKind::NoSpace, "free some space"));
    assert_eq!(process.read(&file, 9, 9).expect("it is here"), content.range(9, 9));
    check_resident(&store, &content);
}

#[test]
fn what_could_not_be_published_is_published_later() {
    let content = Content::generated(27, 2 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    let in_the_way = store.path().join("models").join(content.sha256());
    std::fs::write(&in_the_way, "no folder").expect("writable");
    file.fetch_all();
    wait_for(&file, Activity::Failed);
    assert_eq!(process.read(&file, 9, 9).expect("it is here"), content.range(9, 9));
    std::fs::remove_file(&in_the_way).expect("writable");
    file.fetch_all();
    assert_eq!(wait_for(&file, Activity::Done).error, None);
    check_resident(&store, &content);
    assert_eq!(hub.cdn_bytes_sent(PATH), 2 * MIB, "nothing is fetched again");
}

#[test]
fn one_process_at_a_time_fills_a_partial() {
    let content = Content::generated(19, 3 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    let first = Process::start(&hub, &store, Setting::default());
    let second = Process::start(&hub, &store, Setting::default());
    let file = first.open(&wanted(&content));
    let again = first.open(&wanted(&content));
    let Err(error) = second.engine.open(&wanted(&content)) else { panic!("both hold it") };
    assert_eq!(error.fault().kind, FaultKind::Busy);
    drop((file, again));
    second.open(&wanted(&content));
}

#[test]
fn a_shutdown_is_prompt_and_keeps_what_came() {
    let content = Content::generated(20, 32 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: 2 * MIB });
    let process = Process::start(&hub, &store, Setting::default());
    let file = process.open(&wanted(&content));
    file.fetch_all();
    let reader = {
        let file = file.clone();
        process.runtime.as_ref().expect("runs").spawn(async move { file.read(range(31 * MIB, 10)).await })
    };
    wait_until("some chunks", || file.progress().bytes_present >= 2 * MIB);
    let began = Instant::now();
    process.engine.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5));
    let runtime = process.runtime.as_ref().expect("runs");
    // The read was answered or told, and did not wait for the rest.
    if let Err(error) = runtime.block_on(reader).expect("no panic") {
        assert_eq!(error.fault().kind, FaultKind::Interrupted);
    }
    let Err(error) = process.engine.open(&wanted(&content)) else { panic!("it is closed") };
    assert_eq!(error.fault().kind, FaultKind::Interrupted);
    let had = file.progress().bytes_present;
    drop(file);
    process.kill();
    let process = Process::start(&hub, &store, Setting { offline: true, ..Setting::default() });
    assert!(process.open(&wanted(&content)).progress().bytes_present >= had);
}

/// More downloads than there are slots, and nobody keeps a handle: each has its turn.
#[test]
fn what_waits_for_its_turn_is_not_forgotten() {
    const FILES: i64 = 20;
    let (hub, store) = (FakeHub::start(), folder());
    let content = |number: i64| Content::generated(900 + number as u64, MIB + number as u64);
    let path = |number: i64| format!("unet/{number}.safetensors");
    (0..FILES).fold(hub.repo(REPO), |repo, number| repo.lfs(&path(number), content(number)));
    let process = Process::start(&hub, &store, Setting::default());
    for number in 0..FILES {
        let content = content(number);
        let origin = Origin { path: RelativePath::new(&path(number)).expect("valid"), ..origin(REPO) };
        let wanted = Wanted { blob: BlobId::new(100 + number), origins: vec![origin], ..wanted(&content) };
        process.open(&wanted).fetch_all();
    }
    wait_until("all of them", || process.books.count("completed") == FILES as usize);
}

/// A small generator of numbers; the seed is printed when a test fails.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn fault(&mut self) -> Rule {
        let after_bytes = self.roll(3 * MIB);
        let fault = match self.roll(8) {
            0 => Fault::Truncate { after_bytes },
            1 => Fault::Reset { after_bytes },
            2 => Fault::Stall { after_bytes },
            3 => Fault::Expire { after_bytes },
            4 => Fault::WrongContentRange,
            5 => Fault::Status(503),
            6 => Fault::HtmlPage,
            _ => Fault::Rate { bytes_per_s: 8 * MIB },
        };
        Rule::new(fault).at(Place::Bytes).times(1 + u32::try_from(self.roll(2)).expect("small"))
    }
}

/// Reads, abandoned reads, cancels, closes, kills and faults in any order never give a wrong byte and never hang.
fn check_seed(seed: u64) {
    let mut dice = Dice(seed);
    let content = Content::generated(seed, 6 * MIB + dice.roll(8 * MIB));
    let (hub, store) = (hub_with(&content), folder());
    let promote_after_bytes = [0, 4 * MIB, NEVER][usize::try_from(dice.roll(3)).expect("small")];
    let setting = || Setting { promote_after_bytes, silence: Duration::from_millis(300), ..Setting::default() };
    let mut process = Process::start(&hub, &store, setting());
    let mut file = process.open(&wanted(&content));
    for _ in 0..60 {
        let (start, len) = (dice.roll(content.size_bytes()), 1 + dice.roll(2 * MIB));
        match dice.roll(12) {
            0 => {
                hub.fault(dice.fault());
            }
            1 => file.fetch_all(),
            2 => file.cancel(),
            3 => hub.expire_signed_urls(),
            4 => {
                let reader = file.clone();
                let runtime = process.runtime.as_ref().expect("runs");
                let task = runtime.spawn(async move { reader.read(range(start, len)).await });
                if dice.roll(2) == 0 {
                    task.abort();
                }
            }
            5 if file.progress().activity != Activity::Done => {
                let kill = dice.roll(3) == 0;
                drop(file);
                if kill {
                    process.kill();
                    process = Process::start(&hub, &store, setting());
                }
                if store.path().join("models").join(content.sha256()).exists() {
                    let partials = store.path().join("partial");
                    wait_until("it to be published", || {
                        std::fs::read_dir(&partials).expect("a folder").next().is_none()
                    });
                    return check_resident(&store, &content);
                }
                file = process.open(&wanted(&content));
            }
            6 => {
                if let Some(bytes) = file.read_present(range(start, len)) {
                    assert!(bytes.expect("it is here").to_vec() == content.range(start, len), "seed {seed}");
                }
            }
            _ => {
                let read = process.read(&file, start, len).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                assert!(read == content.range(start, len), "seed {seed}: wrong bytes at {start}+{len}");
            }
        }
    }
    hub.clear_faults().release();
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
}

#[test]
fn any_order_of_events_gives_right_bytes() {
    let first: u64 = std::env::var("MODELFS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("MODELFS_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(8);
    (first..first + count).for_each(check_seed);
}

//! The streams of one file: slow ones are replaced, their number follows the line, and nothing is moved twice for it.

mod support;

use modelfs::fetch::Activity;
use std::time::{Duration, Instant};
use support::downloading::{MIB, PATH, Process, Setting, check_resident, folder, hub_with, range, wait_for, wanted};
use support::fake_hub::{Content, Fault, Origin, Recorded, Rule};

/// Longer than any test here: what ends a bad stream is not this.
const SILENCE: Duration = Duration::from_secs(300);
/// What a stream carries.
const STREAM_BYTES_PER_S: u64 = 2 * MIB;

/// Beside its peers, and as the last of them; before the first chunk is complete, and in the middle.
#[test]
fn a_stream_that_stalls_or_crawls_is_replaced_and_nothing_of_it_is_fetched_again() {
    for (seed, size_mib, fault, on_its_way_bytes) in [
        (1, 64, Fault::Stall { after_bytes: 100 }, 0),
        (2, 64, Fault::Stall { after_bytes: MIB + MIB / 2 }, 0),
        // What crawls in while it is being stopped.
        (3, 64, Fault::Rate { bytes_per_s: 40 << 10 }, 16 << 10),
    ] {
        let content = Content::generated(seed, size_mib * MIB);
        let (hub, store) = (hub_with(&content), folder());
        hub.fault(Fault::Rate { bytes_per_s: STREAM_BYTES_PER_S });
        hub.fault(Rule::new(fault.clone()).after(2).times(1));
        let process = Process::start(&hub, &store, Setting { silence: SILENCE, ..Setting::default() });
        let file = process.open(&wanted(&content));
        let began = Instant::now();
        file.fetch_all();
        wait_for(&file, Activity::Done);
        let took = began.elapsed();
        check_resident(&store, &content);
        assert!(took < Duration::from_secs(18), "{fault:?}: it took {took:?}");
        let twice = hub.cdn_bytes_sent(PATH) - content.size_bytes();
        assert!(twice <= on_its_way_bytes, "{fault:?}: {twice} bytes came twice");
        assert!(hub.requests_for(PATH).iter().any(is_cut), "{fault:?}: nothing was cut");
    }
}

/// Whether less was sent than was asked for.
fn is_cut(request: &Recorded) -> bool {
    let asked = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let len = asked.and_then(|(first, last)| Some(last.parse::<u64>().ok()? + 1 - first.parse::<u64>().ok()?));
    request.origin == Origin::Cdn && len.is_some_and(|len| request.bytes_sent < len)
}

#[test]
fn a_read_that_waits_for_a_stalled_stream_is_served_by_another() {
    let content = Content::generated(4, 64 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: STREAM_BYTES_PER_S });
    hub.fault(Rule::new(Fault::Stall { after_bytes: 10 }).times(1));
    let process = Process::start(&hub, &store, Setting { silence: SILENCE, ..Setting::default() });
    let file = process.open(&wanted(&content));
    let reader = {
        let file = file.clone();
        process.runtime.as_ref().expect("runs").spawn(async move { file.read(range(0, 1000)).await })
    };
    hub.wait_until("the stall", |requests| requests.iter().any(|request| request.bytes_sent == 10));
    let began = Instant::now();
    file.fetch_all();
    let read = process.runtime.as_ref().expect("runs").block_on(reader).expect("no panic");
    assert_eq!(read.expect("of another stream").to_vec(), content.range(0, 1000));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    assert!(file.progress().bytes_present < content.size_bytes(), "it came before the rest");
}

#[test]
fn a_line_that_is_slow_for_all_is_left_alone() {
    let content = Content::generated(5, 8 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: MIB / 2 });
    let process = Process::start(&hub, &store, Setting { silence: SILENCE, ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes(), "nothing was cut");
}

#[test]
fn more_streams_run_while_they_bring_more() {
    let content = Content::generated(6, 64 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Rate { bytes_per_s: STREAM_BYTES_PER_S });
    let process = Process::start(&hub, &store, Setting { silence: SILENCE, ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    // Four begin; a machine that has no time for all eight at once is no failure.
    let streams = hub.streams_at_once();
    assert!((5..=8).contains(&streams), "{streams} streams at once");
    assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes());
}

#[test]
fn a_hub_that_has_too_much_to_do_is_asked_by_fewer_streams() {
    let content = Content::generated(7, 48 * MIB);
    let (hub, store) = (hub_with(&content), folder());
    hub.fault(Fault::Crowded { streams_max: 3 });
    hub.fault(Fault::Rate { bytes_per_s: 4 * MIB });
    let process = Process::start(&hub, &store, Setting { silence: SILENCE, ..Setting::default() });
    let file = process.open(&wanted(&content));
    file.fetch_all();
    wait_for(&file, Activity::Done);
    check_resident(&store, &content);
    assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes());
    let refused = hub.requests().iter().filter(|request| request.status == 503).count();
    assert!((1..=3).contains(&refused), "{refused} requests were refused");
    assert!((1..=3).contains(&hub.streams_at_once()));
}

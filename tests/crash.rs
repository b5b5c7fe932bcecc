//! `kill -9` at any moment: the store stays consistent and the work goes on.
//!
//! `MODELFS_TEST_KILLS` sets how often each kind of work is killed, and `MODELFS_TEST_DOWNLOAD_MIB` how large the download
//! is; the moments come from a printed seed.

mod support;

use modelfs::base::{ByteRange, Digest, RangeSet};
use modelfs::store::{CHUNK_BYTES, PartialIdentity, Store};
use std::fs;
use std::time::{Duration, Instant};
use support::fake_hub::{Content, FakeHub, Fault, Origin, Place, Recorded, Rule, sha256_of_file};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};
use support::tiny::{large_lora, lora};

const KILLS: u64 = 12;
const MIB: u64 = 1 << 20;
const DOWNLOAD_MIB: u64 = 16;
/// A file of 1 GiB whose download is killed a hundred times is fetched with 2 % on top, at most.
const TWICE_PER_KILL_MAX: u64 = (1 << 30) / 50 / 100;
/// A beginning as short as this may be fetched again with what lies before it.
const SMALL_BYTES: u64 = 64 << 10;
/// Longest time until a download that nobody disturbs is through.
const DOWNLOAD_MAX: Duration = Duration::from_secs(120);

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn kills() -> u64 {
    number_of("MODELFS_TEST_KILLS").unwrap_or(KILLS)
}

/// Moments that a seed decides; the seed is printed, so that a failure can be repeated with `MODELFS_TEST_SEED`.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = number_of("MODELFS_TEST_SEED").unwrap_or(now.as_nanos() as u64);
        eprintln!("MODELFS_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn within(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.fraction())
    }

    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[track_caller]
fn assert_nothing_wrong(sandbox: &Sandbox, when: &str) {
    let verified = sandbox.run(["verify", "--json"]);
    let report = verified.json();
    let findings = report["findings"].as_array().expect("an array");
    assert!(findings.is_empty(), "{when}: {findings:#?}");
}

#[test]
fn an_import_that_is_killed_leaves_a_consistent_store_and_goes_on() {
    let sandbox = Sandbox::new();
    const SMALL: u64 = 60;
    for number in 0..SMALL {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    for number in 0..4 {
        sandbox.write(format!("in/large{number}.safetensors"), large_lora(number, 12 * MIB as usize));
    }
    // How long one import takes tells where moments can fall.
    let measured = Sandbox::new();
    let start = Instant::now();
    measured.run(["import".as_ref(), sandbox.path("in").as_os_str()]).success();
    let whole = start.elapsed();

    let mut moments = Moments::new();
    for round in 0..kills() {
        let mut running = sandbox.start(sandbox.command(["import", "--mode", "copy", "in"]));
        let _ = running.wait_at_most(moments.within(whole));
        running.kill();
        if sandbox.store().join("modelhub.db").exists() {
            assert_nothing_wrong(&sandbox, &format!("after kill {round}"));
        }
    }
    sandbox.run(["import", "--mode", "copy", "in"]).success();
    let models = sandbox.run(["ls", "--json"]).success().json();
    assert_eq!(models.as_array().map(Vec::len), Some(SMALL as usize + 4));
    assert_nothing_wrong(&sandbox, "in the end");
    assert_eq!(fs::read_dir(sandbox.store().join("staging")).expect("a folder").count(), 0, "leftovers are cleaned");
}

#[test]
fn a_move_that_is_killed_never_loses_the_only_copy() {
    let sandbox = Sandbox::new();
    const FILES: u64 = 40;
    let mut moments = Moments::new();
    for number in 0..FILES {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    for _ in 0..kills() {
        let mut running = sandbox.start(sandbox.command(["import", "--mode", "move", "in"]));
        let _ = running.wait_at_most(moments.within(Duration::from_millis(400)));
        running.kill();
        for number in 0..FILES {
            let here =
                fs::read(sandbox.path(format!("in/{number}.safetensors"))).is_ok_and(|bytes| bytes == lora(number));
            let stored = sandbox.store().join("models").join(support::fake_hub::sha256_of(&lora(number)));
            let stored = stored.join(format!("{number}.safetensors"));
            assert!(here || fs::read(stored).is_ok_and(|bytes| bytes == lora(number)), "{number} is lost");
        }
    }
    sandbox.run(["import", "--mode", "move", "in"]).success();
    let models = sandbox.run(["ls", "--json"]).success().json();
    // What a killed move had renamed already is known to the catalog after the next import.
    assert_eq!(models.as_array().map(Vec::len), Some(FILES as usize), "{models}");
    assert_nothing_wrong(&sandbox, "in the end");
}

/// What lies in the store of a download.
struct Kept {
    whole: RangeSet,
    /// Beginnings of chunks that are not here as a whole.
    begun: Vec<ByteRange>,
}

impl Kept {
    /// As the next process finds it.
    fn of(sandbox: &Sandbox, content: &Content) -> Self {
        let store = Store::open(&sandbox.store()).expect("a store");
        let identity = PartialIdentity {
            size_bytes: content.size_bytes(),
            sha256: Some(Digest::parse(content.sha256()).expect("hex")),
            etag: None,
        };
        let partials = store.partials().expect("listed");
        let Some(partial) = partials.first().map(|info| store.open_partial(&info.key, &identity).expect("opens"))
        else {
            return Self { whole: RangeSet::new(), begun: Vec::new() };
        };
        let begun = partial.beginnings().into_iter().filter_map(|(chunk, bytes)| {
            assert_eq!(partial.read_beginning(chunk).expect("read").len() as u64, bytes, "a kill loses nothing of it");
            ByteRange::new(chunk * CHUNK_BYTES, bytes)
        });
        Self { whole: partial.present(), begun: begun.collect() }
    }

    fn bytes(&self) -> u64 {
        self.whole.bytes() + self.begun.iter().map(ByteRange::len).sum::<u64>()
    }

    /// None of it is asked for again; the smallest beginnings are not worth a request of their own.
    fn assert_spared(&self, requests: &[Recorded], when: &str) {
        let asked = requests.iter().filter(|request| request.origin == Origin::Cdn).filter_map(|request| {
            let (first, last) = request.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
            ByteRange::from_bounds(first.parse().ok()?, last.parse::<u64>().ok()? + 1)
        });
        for range in asked {
            let gaps: u64 = self.whole.gaps(&range).iter().map(ByteRange::len).sum();
            assert_eq!(gaps, range.len(), "{when}: {range} was asked for, and part of it is here");
            let again = self.begun.iter().filter_map(|begun| begun.intersection(&range)).map(|part| part.len()).max();
            assert!(again.is_none_or(|bytes| bytes < SMALL_BYTES), "{when}: {range} was asked for, {again:?} are here");
        }
    }
}

/// Killed wherever the download happens to be, it goes on at the very byte of each of its streams, as far as a process can
/// know: what is fetched twice is what was sent and had not been read, or not been kept for a few milliseconds.
///
/// Measured at the hub, as what it sent beyond the size of the file; bytes that nobody was there to read count as well. The
/// hub is slow, as a line is, so that what lies in the buffers of sockets is what lies there on a line.
#[test]
fn a_download_that_is_killed_goes_on_where_it_was() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    const PATH: &str = "parts/big.dat";
    let content = Content::generated(1, number_of("MODELFS_TEST_DOWNLOAD_MIB").unwrap_or(DOWNLOAD_MIB) * MIB + 12_345);
    let size_bytes = content.size_bytes();
    let hub = FakeHub::start();
    hub.repo("org/name").lfs(PATH, content.clone());
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/name"]).success();
    // Of each connection; the largest files take some minutes.
    let bytes_per_s = (MIB / 4).max(size_bytes / 2048);
    hub.fault(Rule::new(Fault::Rate { bytes_per_s }).at(Place::Bytes));
    let mut moments = Moments::new();
    let mut places: Vec<u64> = (0..kills()).map(|_| (moments.fraction() * size_bytes as f64) as u64).collect();
    places.sort_unstable();
    let path = |mount: &Mounted| mount.path("hubs/huggingface/org/name").join(PATH);
    let mut kept = Kept::of(&sandbox, &content);
    for (round, place) in places.iter().enumerate() {
        let when = format!("after kill {round}");
        let before = hub.requests().len();
        let mount = sandbox.mount(&[]);
        set_xattr(&path(&mount), "user.modelfs.fetch", "1").expect("it is asked for");
        eventually("the hub to send", DOWNLOAD_MAX, || hub.cdn_bytes_sent(PATH) >= *place);
        mount.kill_hard();
        kept.assert_spared(&hub.requests()[before..], &when);
        kept = Kept::of(&sandbox, &content);
        assert_nothing_wrong(&sandbox, &when);
    }
    let lost = hub.cdn_bytes_sent(PATH).saturating_sub(kept.bytes());
    hub.clear_faults();
    let mount = sandbox.mount(&[]);
    let path = path(&mount);
    set_xattr(&path, "user.modelfs.fetch", "1").expect("it is asked for");
    eventually("it is here", DOWNLOAD_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("resident"));
    assert_eq!(sha256_of_file(&path).expect("readable"), content.sha256());
    mount.unmount();
    assert_nothing_wrong(&sandbox, "in the end");
    let twice = hub.cdn_bytes_sent(PATH).checked_sub(size_bytes).expect("all of it was sent");
    eprintln!("{} kills, {twice} of {size_bytes} bytes sent twice, {lost} of them never kept", kills());
    assert!(twice <= kills() * TWICE_PER_KILL_MAX, "{} kills cost {twice} bytes", kills());
}

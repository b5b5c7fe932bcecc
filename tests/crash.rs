//! `kill -9` at any moment: the store stays consistent and the work goes on.
//!
//! `MODELFS_TEST_KILLS` sets how often each kind of work is killed; the moments come from a printed seed.

mod support;

use std::fs;
use std::time::{Duration, Instant};
use support::fake_hub::{FakeHub, Fault, Place, Rule};
use support::mounted::{Fuse, Sandbox, fuse_or_skip, set_xattr};
use support::tiny::{large_lora, lora};

const KILLS: u32 = 12;
const MIB: u64 = 1 << 20;

fn kills() -> u32 {
    std::env::var("MODELFS_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Moments that a seed decides; the seed is printed, so that a failure can be repeated with `MODELFS_TEST_SEED`.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = std::env::var("MODELFS_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64);
        eprintln!("MODELFS_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn within(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        limit.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
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

#[test]
fn a_download_that_is_killed_continues() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(1, 64 * MIB as usize);
    let hub = FakeHub::start();
    hub.repo("org/name").lfs("loras/big.safetensors", bytes.clone());
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/name"]).success();
    hub.fault(Rule::new(Fault::Rate { bytes_per_s: 24 * MIB }).at(Place::Bytes));
    let mut moments = Moments::new();
    for round in 0..kills() {
        let mount = sandbox.mount(&[]);
        set_xattr(&mount.path("comfyui/loras/big.safetensors"), "user.modelfs.fetch", "1").expect("it is asked for");
        std::thread::sleep(moments.within(Duration::from_millis(300)));
        mount.kill_hard();
        assert_nothing_wrong(&sandbox, &format!("after kill {round}"));
    }
    hub.clear_faults();
    let mount = sandbox.mount(&[]);
    assert!(fs::read(mount.path("comfyui/loras/big.safetensors")).expect("readable") == bytes);
    mount.unmount();
    assert_nothing_wrong(&sandbox, "in the end");
}

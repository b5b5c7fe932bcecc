//! The verbs about bytes: `fetch`, `ps`, `cancel`, `pin`, `unpin`, `evict`, with a mount and without one.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;
use support::fake_hub::{FakeHub, Fault, Place, Rule, sha256_of};
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};
use support::tiny::{large_lora, lora};

const MIB: u64 = 1 << 20;
const REPO: &str = "org/name";
const FILE: &str = "loras/big.safetensors";
const NAME: &str = "big.safetensors";
const DONE_MAX: Duration = Duration::from_secs(60);

fn hub_with(bytes: &[u8]) -> FakeHub {
    let hub = FakeHub::start();
    hub.repo(REPO).lfs(FILE, bytes.to_vec()).file("README.md", "---\nlicense: mit\n---\n");
    hub
}

/// A store that knows the repository.
fn stocked(hub: &FakeHub) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    sandbox
}

fn state(path: &Path) -> String {
    modelfs_xattr(path, "state").expect("a state")
}

fn blob_path(sandbox: &Sandbox, bytes: &[u8]) -> std::path::PathBuf {
    sandbox.store().join("models").join(sha256_of(bytes)).join(NAME)
}

#[test]
fn fetch_without_a_mount_downloads_in_its_own_process() {
    let bytes = large_lora(1, 9 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = stocked(&hub);
    let told = sandbox.run(["fetch", "--json", NAME]).success().json();
    assert_eq!(told[0]["state"], "resident", "{told}");
    assert_eq!(told[0]["sha256"], sha256_of(&bytes).as_str());
    assert!(fs::read(blob_path(&sandbox, &bytes)).expect("in the store") == bytes);
    let moved = hub.cdn_bytes_sent(FILE);
    sandbox.run(["fetch", NAME]).success();
    assert_eq!(hub.cdn_bytes_sent(FILE), moved, "what is here is not fetched again");
    let all = sandbox.run(["fetch", "--json", &format!("hf:{REPO}")]).success().json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "a repository is all its files: {all}");
    sandbox.run(["verify"]).success();
    sandbox.run(["ps"]).code(9);
    sandbox.run(["cancel", "1"]).code(9);
    // What was lost or damaged comes back the way `verify` names.
    let stored = blob_path(&sandbox, &bytes);
    for damage in [None, Some(vec![0; bytes.len()])] {
        fs::remove_file(&stored).expect("its owner");
        damage.into_iter().for_each(|bytes| fs::write(&stored, bytes).expect("its owner"));
        let reference = format!("sha256:{}", &sha256_of(&bytes)[..10]);
        let found = sandbox.run(["verify"]).code(7);
        let told = format!("{}{}", found.stdout, found.stderr);
        assert!(told.contains(&format!("`modelfs evict {reference}`, then `modelfs fetch {reference}`")), "{told}");
        sandbox.run(["evict", &reference]).success();
        sandbox.run(["fetch", &reference]).success();
        sandbox.run(["verify"]).success();
    }
}

#[test]
fn failures_of_fetch_have_their_exit_codes() {
    let bytes = large_lora(2, 2 * MIB as usize);
    let mut hub = hub_with(&bytes);
    let mut sandbox = stocked(&hub);
    sandbox.set("MODELFS_READ_TIMEOUT", "1s");
    sandbox.run(["fetch", "nothing-of-this-name"]).code(4);
    sandbox.run(["--offline", "fetch", NAME]).code(5);
    for (fault, code) in [
        (Rule::new(Fault::Status(403)).at(Place::Resolve), 3),
        (Rule::new(Fault::Status(404)).at(Place::Resolve), 4),
        (Rule::new(Fault::WrongBytes).at(Place::Bytes), 7),
    ] {
        hub.fault(fault);
        let told = sandbox.run(["fetch", NAME]).code(code);
        assert!(told.stderr.contains("error: ") && told.stderr.contains(NAME), "{told:?}");
        hub.clear_faults();
    }
    hub.stop();
    sandbox.run(["fetch", NAME]).code(5);
    hub.resume();
    sandbox.run(["fetch", NAME]).success();
}

#[test]
fn ctrl_c_stops_a_fetch_and_keeps_what_arrived() {
    let bytes = large_lora(3, 24 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = stocked(&hub);
    hub.fault(Rule::new(Fault::Rate { bytes_per_s: 2 * MIB }).at(Place::Bytes));
    let mut running = sandbox.start(sandbox.command(["fetch", NAME]));
    eventually("some of it arrives", DONE_MAX, || hub.cdn_bytes_sent(FILE) > 6 * MIB);
    running.signal(libc::SIGINT);
    let status = running.wait_at_most(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(130), "{}", running.stderr());
    let before = hub.cdn_bytes_sent(FILE);
    hub.clear_faults();
    sandbox.run(["fetch", NAME]).success();
    assert!(hub.cdn_bytes_sent(FILE) - before < bytes.len() as u64, "it went on where it was");
    sandbox.run(["verify"]).success();
}

#[test]
fn downloads_of_a_mount_are_shown_stopped_and_waited_for() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(4, 24 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = stocked(&hub);
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras").join(NAME);
    assert!(sandbox.run(["ps", "--json"]).success().json().as_array().expect("an array").is_empty());
    hub.fault(Rule::new(Fault::Rate { bytes_per_s: MIB }).at(Place::Bytes));
    let mut waiting = sandbox.start(sandbox.command(["fetch", NAME]));
    eventually("it is under way", DONE_MAX, || modelfs_xattr(&path, "bytes_present").is_some_and(|bytes| bytes != "0"));
    let shown = sandbox.run(["ps", "--json"]).success().json();
    assert_eq!(shown[0]["state"], "downloading", "{shown}");
    assert_eq!((&shown[0]["name"], &shown[0]["source"]), (&NAME.into(), &"huggingface".into()), "{shown}");
    let table = sandbox.run(["ps"]).success().stdout;
    assert!(table.starts_with(" ID") || table.starts_with("ID"), "{table}");
    assert!(table.contains(NAME) && table.contains("/s"), "{table}");
    sandbox.run(["cancel", "no-such-file"]).code(4);
    sandbox.run(["cancel", &shown[0]["id"].to_string()]).success();
    let status = waiting.wait_at_most(DONE_MAX).expect("who waited for it ends");
    assert_eq!(status.code(), Some(130), "{}", waiting.stderr());
    assert_eq!(state(&path), "partial");
    hub.clear_faults();
    sandbox.run(["fetch", path.to_str().expect("a plain name")]).success();
    assert_eq!(state(&path), "resident");
    assert!(fs::read(&path).expect("readable") == bytes);
    mount.unmount();
}

#[test]
fn a_file_that_is_pinned_open_or_only_here_is_not_evicted() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(5, 3 * MIB as usize);
    let mut hub = hub_with(&bytes);
    let sandbox = stocked(&hub);
    sandbox.write("in/mine.safetensors", lora(9));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras").join(NAME);
    sandbox.run(["fetch", NAME]).success();
    let only_here = sandbox.run(["evict", "mine.safetensors"]).code(1);
    assert!(only_here.stderr.contains("nowhere but on this machine"), "{only_here:?}");

    assert_eq!(modelfs_xattr(&path, "pinned").as_deref(), Some("0"));
    sandbox.run(["pin", NAME]).success();
    eventually("the mount knows", DONE_MAX, || modelfs_xattr(&path, "pinned").as_deref() == Some("1"));
    assert!(sandbox.run(["evict", NAME]).code(1).stderr.contains("pinned"));
    set_xattr(&path, "user.modelfs.pinned", "0").expect("written");
    assert_eq!(modelfs_xattr(&path, "pinned").as_deref(), Some("0"));
    let error = set_xattr(&path, "user.modelfs.pinned", "yes").expect_err("no value");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));

    let open = File::open(&path).expect("opens");
    assert!(sandbox.run(["evict", NAME]).code(1).stderr.contains("is open"));
    let mut byte = [0];
    open.read_exact_at(&mut byte, 2 * MIB).expect("readable");
    drop(open);
    hub.stop();
    let vanished = sandbox.run(["evict", NAME]).code(5);
    assert!(vanished.stderr.contains("cannot be had again"), "{vanished:?}");
    assert_eq!(state(&path), "resident", "everything above changed nothing");
    hub.resume();
    let gone = sandbox.run(["evict", "--json", NAME]).success().json();
    assert_eq!(gone[0]["freed_bytes"].as_u64(), Some(bytes.len() as u64), "{gone}");
    mount.unmount();
}

/// Passthrough opens of the resident file and cached opens of the evicted one follow each other, with old handles, mappings
/// and the kernel's own memory of names in between.
#[test]
fn an_evicted_file_keeps_its_names_and_comes_back() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(6, 5 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = stocked(&hub);
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras").join(NAME);
    let first = fs::metadata(&path).expect("listed");
    for round in 0..4u64 {
        assert!(fs::read(&path).expect("readable") == bytes, "round {round}");
        sandbox.run(["fetch", NAME]).success();
        eventually("it is resident", DONE_MAX, || state(&path) == "resident");
        let native = File::open(&path).expect("opens");
        let mut part = vec![0; 70_000];
        native.read_exact_at(&mut part, MIB + round).expect("readable");
        let from = (MIB + round) as usize;
        assert!(part == bytes[from..from + part.len()], "round {round}");
        drop(native);
        sandbox.run(["evict", NAME]).success();
        eventually("it is remote", DONE_MAX, || state(&path) == "remote");
        assert!(!blob_path(&sandbox, &bytes).exists());
        let now = fs::metadata(&path).expect("listed");
        assert_eq!((now.ino(), now.size(), now.nlink()), (first.ino(), first.size(), first.nlink()), "round {round}");
        assert_eq!((now.mtime(), now.mtime_nsec()), (first.mtime(), first.mtime_nsec()), "round {round}");
        assert!(mount.path("by/state/remote").join(NAME).exists());
        assert!(!mount.path("by/state/resident").join(NAME).exists());
        let half = File::open(&path).expect("opens");
        half.read_exact_at(&mut part[..100], 3 * MIB).expect("readable");
        assert!(part[..100] == bytes[3 * MIB as usize..3 * MIB as usize + 100], "round {round}");
        drop(half);
        // Giving up a part works too.
        if round % 2 == 0 {
            // The kernel tells the mount of a close when it comes to it.
            let given_up = || sandbox.run(["evict", NAME]).status.success() && state(&path) == "remote";
            eventually("it is remote again", DONE_MAX, given_up);
        }
    }
    mount.unmount();
    sandbox.run(["verify"]).success();
}

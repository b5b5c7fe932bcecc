//! Limits of the disk and of the line: what is evicted when, and what happens when there is no room.

mod support;

use std::fs;
use std::time::{Duration, Instant};
use support::fake_hub::FakeHub;
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};
use support::tiny::large_lora;

const MIB: u64 = 1 << 20;
const DONE_MAX: Duration = Duration::from_secs(60);

/// A store that knows a repository of three files of 2 MiB: `a`, `b` and `c`.
fn stocked() -> (FakeHub, Sandbox, Vec<Vec<u8>>) {
    let hub = FakeHub::start();
    let contents: Vec<Vec<u8>> = (0..3).map(|number| large_lora(50 + number, 2 * MIB as usize)).collect();
    let repo = hub.repo("org/name");
    ["a", "b", "c"]
        .iter()
        .zip(&contents)
        .fold(repo, |repo, (name, bytes)| repo.lfs(&format!("loras/{name}.safetensors"), bytes.clone()));
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/name"]).success();
    (hub, sandbox, contents)
}

#[test]
fn over_the_limit_of_the_cache_the_file_unused_for_longest_goes() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let (_hub, mut sandbox, contents) = stocked();
    sandbox.set("MODELFS_CACHE_LIMIT", "5MiB");
    let mount = sandbox.mount(&[]);
    let path = |name: &str| mount.path(format!("comfyui/loras/{name}.safetensors"));
    let state = |name: &str| modelfs_xattr(&path(name), "state").expect("a state");
    for name in ["a", "b", "c"] {
        sandbox.run(["fetch", &format!("{name}.safetensors")]).success();
    }
    eventually("the first one goes", DONE_MAX, || state("a") == "remote");
    assert_eq!((state("b").as_str(), state("c").as_str()), ("resident", "resident"));
    sandbox.run(["pin", "b.safetensors"]).success();
    assert!(fs::read(path("a")).expect("it comes back") == contents[0]);
    sandbox.run(["fetch", "a.safetensors"]).success();
    eventually("the one that is not pinned goes", DONE_MAX, || state("c") == "remote");
    assert_eq!((state("a").as_str(), state("b").as_str()), ("resident", "resident"));
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn without_room_a_download_fails_and_goes_on_later() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let (hub, mut sandbox, contents) = stocked();
    let name = "comfyui/loras/a.safetensors";
    sandbox.set("MODELFS_MIN_FREE", "900TB");
    sandbox.run(["fetch", "a.safetensors"]).code(8);
    let mount = sandbox.mount(&[]);
    let error = fs::read(mount.path(name)).expect_err("no room");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    let told = modelfs_xattr(&mount.path(name), "error").expect("a reason");
    assert!(told.contains("full") && told.contains("min_free"), "{told}");
    assert_eq!(modelfs_xattr(&mount.path(name), "state").as_deref(), Some("failed"));
    mount.unmount();
    sandbox.unset("MODELFS_MIN_FREE");
    let mount = sandbox.mount(&[]);
    assert!(fs::read(mount.path(name)).expect("there is room") == contents[0]);
    drop(hub);
    mount.unmount();
}

#[test]
fn all_downloads_together_keep_below_the_rate() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let (hub, mut sandbox, _) = stocked();
    sandbox.set("MODELFS_MAX_RATE", "3MiB").set("MODELFS_STREAMS", "2");
    let mount = sandbox.mount(&[]);
    let before = hub.cdn_bytes_sent("loras/a.safetensors");
    let begun = Instant::now();
    for name in ["a", "b", "c"] {
        let path = mount.path(format!("comfyui/loras/{name}.safetensors"));
        set_xattr(&path, "user.modelfs.fetch", "1").expect("a download can be asked for");
    }
    sandbox.run(["fetch", "hf:org/name"]).success();
    // 6 MiB at 3 MiB a second, with a burst of a quarter of a second.
    assert!(begun.elapsed() > Duration::from_millis(1600), "{:?}", begun.elapsed());
    assert!(hub.cdn_bytes_sent("loras/a.safetensors") > before);
    mount.unmount();
    let shown = sandbox.run(["config", "show", "--json"]).success().json();
    assert_eq!((&shown["fetch.streams"]["value"], &shown["fetch.max_rate"]["value"]), (&2.into(), &(3 * MIB).into()));
    sandbox.set("MODELFS_STREAMS", "99");
    assert!(sandbox.run(["config", "show"]).code(2).stderr.contains("MODELFS_STREAMS"));
}

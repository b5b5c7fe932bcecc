//! Repositories that are asked for with `mkdir` below `hubs/` of a mount.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::fake_civitai::{Access, FakeCivitai, File, Version};
use support::fake_hub::{Content, FakeHub, sha256_of, sha256_of_file};
use support::fake_modelscope::FakeModelScope;
use support::mounted::{Fuse, Mounted, Sandbox, errno, eventually, fuse_or_skip, modelfs_xattr, names};
use support::tiny::large_lora;

const MIB: usize = 1 << 20;
/// A hub of this machine answers in milliseconds; the rest is for a loaded one.
const DONE_MAX: Duration = Duration::from_secs(20);
/// No call of the kernel waits for a hub: far under the ten seconds for which a silent one is waited for.
const AT_ONCE_MAX: Duration = Duration::from_secs(2);

fn state(mount: &Mounted, folder: &str) -> Option<String> {
    modelfs_xattr(&mount.path(folder), "state")
}

fn is_complete(mount: &Mounted, folder: &str) -> bool {
    let state = state(mount, folder);
    assert_ne!(state.as_deref(), Some("failed"), "{folder}: {:?}", modelfs_xattr(&mount.path(folder), "error"));
    state.as_deref() == Some("complete")
}

#[test]
fn a_repository_of_each_hub_is_registered_where_it_is_made() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let (face, civitai, scope) = (FakeHub::start(), FakeCivitai::start(), FakeModelScope::start());
    let bytes = large_lora(1, 3 * MIB);
    face.repo("org/name").tag("lora").lfs("loras/style.safetensors", bytes.clone()).file("config.json", "{}");
    let file = |id: u64| File::new(id, "page.safetensors", Content::generated(id, 5000));
    let versions =
        vec![Version::new(34, Access::Public, vec![file(1)]), Version::new(33, Access::Public, vec![file(2)])];
    civitai.model(12, "LORA", versions);
    scope.large("team/model", "m.safetensors", large_lora(2, MIB));
    let mut sandbox = Sandbox::new();
    sandbox
        .set("HF_ENDPOINT", &face.endpoint())
        .set("MODELFS_CIVITAI_ENDPOINT", &civitai.origins.endpoint())
        .set("MODELSCOPE_ENDPOINT", &scope.origins.endpoint());
    sandbox.run(["init"]).success();
    let mount = sandbox.mount(&[]);
    let time = |folder: &str| fs::metadata(mount.path(folder)).expect("a directory").mtime_nsec();
    let before = time("hubs/huggingface");

    fs::create_dir_all(mount.path("hubs/huggingface/org/name")).expect("made at once");
    fs::create_dir(mount.path("hubs/civitai/12")).expect("made at once");
    fs::create_dir_all(mount.path("hubs/modelscope/team/model")).expect("made at once");
    assert_ne!(time("hubs/huggingface"), before);
    assert_eq!(errno(fs::create_dir(mount.path("hubs/huggingface/org/name"))), Some(libc::EEXIST));
    for folder in ["hubs/huggingface/org/name", "hubs/civitai/12", "hubs/modelscope/team/model"] {
        eventually(folder, DONE_MAX, || is_complete(&mount, folder));
    }
    assert_eq!(names(&mount, "hubs/huggingface/org/name"), ["config.json", "loras"]);
    let path = mount.path("hubs/huggingface/org/name/loras/style.safetensors");
    assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(&bytes));
    assert_eq!(fs::metadata(&path).expect("listed").ino(), {
        fs::metadata(mount.path("comfyui/loras/style.safetensors")).expect("in the applications too").ino()
    });
    assert_eq!(names(&mount, "hubs/civitai/12"), ["34"]);
    assert_eq!(names(&mount, "hubs/civitai/12/34"), ["page.safetensors"]);
    assert_eq!(names(&mount, "hubs/modelscope/team/model"), ["m.safetensors"]);
    // Another version beside it; what is registered is not removed.
    fs::create_dir(mount.path("hubs/civitai/12/33")).expect("made at once");
    eventually("the older version", DONE_MAX, || is_complete(&mount, "hubs/civitai/12/33"));
    assert_eq!(names(&mount, "hubs/civitai/12"), ["33", "34"]);
    assert_eq!(names(&mount, "hubs/civitai/12/33"), ["page.safetensors"]);
    assert_eq!(errno(fs::remove_dir(mount.path("hubs/civitai/12/33"))), Some(libc::EROFS));
    let found = Command::new("find").arg(mount.path("hubs")).args(["-type", "f"]).output().expect("find");
    assert_eq!(String::from_utf8_lossy(&found.stdout).lines().count(), 5, "{found:?}");
    mount.unmount();

    face.forget_requests();
    let mount = sandbox.mount(&["--offline"]);
    assert_eq!(names(&mount, "hubs/huggingface/org"), ["name"]);
    assert_eq!(names(&mount, "hubs/civitai/12"), ["33", "34"]);
    assert_eq!(state(&mount, "hubs/huggingface/org/name").as_deref(), Some("complete"));
    assert_eq!(errno(fs::create_dir(mount.path("hubs/huggingface/org/other"))), Some(libc::ENETDOWN));
    assert!(face.requests().is_empty(), "a listing asks nobody");
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn names_that_are_no_repository_are_refused_and_failures_can_be_taken_away() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let face = FakeHub::start();
    face.repo("Org/Renamed").file("a.txt", "x");
    face.renamed("org/old", "Org/Renamed");
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &face.endpoint());
    sandbox.run(["init"]).success();
    let mount = sandbox.mount(&[]);
    let make = |path: &str| fs::create_dir(mount.path(path));
    for (path, expected) in [
        ("hubs/huggingface/-org", libc::EINVAL),
        ("hubs/huggingface/a b", libc::EINVAL),
        ("hubs/civitai/words", libc::EINVAL),
        ("hubs/elsewhere", libc::EROFS),
        ("hubs/huggingface/nobody/name", libc::ENOENT),
    ] {
        assert_eq!(errno(make(path)), Some(expected), "{path}");
    }
    make("hubs/huggingface/org").expect("an organisation");
    assert_eq!(errno(make("hubs/huggingface/org/na..me")), Some(libc::EINVAL));
    make("hubs/huggingface/org/none").expect("made at once");
    eventually("it failed", DONE_MAX, || state(&mount, "hubs/huggingface/org/none").as_deref() == Some("failed"));
    let error = modelfs_xattr(&mount.path("hubs/huggingface/org/none"), "error").expect("the reason");
    assert!(error.contains("org/none does not exist"), "{error}");
    assert_eq!(names(&mount, "hubs/huggingface/org/none"), [""; 0]);
    assert_eq!(errno(fs::create_dir(mount.path("hubs/huggingface/org/none/inside"))), Some(libc::EROFS));
    assert_eq!(errno(fs::remove_dir(mount.path("hubs/huggingface/org"))), Some(libc::EEXIST));
    fs::remove_dir(mount.path("hubs/huggingface/org/none")).expect("it came to nothing");
    fs::remove_dir(mount.path("hubs/huggingface/org")).expect("it is empty");
    assert_eq!(names(&mount, "hubs/huggingface"), [""; 0]);

    // A hub calls it otherwise: it is shown under both names.
    fs::create_dir_all(mount.path("hubs/huggingface/org/old")).expect("made at once");
    eventually("it is registered", DONE_MAX, || is_complete(&mount, "hubs/huggingface/org/old"));
    assert_eq!(names(&mount, "hubs/huggingface/org/old"), ["a.txt"]);
    assert_eq!(names(&mount, "hubs/huggingface/Org/Renamed"), ["a.txt"]);
    mount.unmount();
    let listed = sandbox.run(["ls", "--json"]).success().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(0), "{listed}");
}

#[test]
fn a_hub_that_hangs_holds_up_no_call_of_the_kernel() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &format!("http://{}", silent.local_addr().expect("bound")));
    sandbox.run(["init"]).success();
    let mount = sandbox.mount(&[]);
    let start = Instant::now();
    for number in 0..20 {
        fs::create_dir_all(mount.path(format!("hubs/huggingface/org/name-{number:02}"))).expect("made at once");
    }
    assert_eq!(names(&mount, "hubs/huggingface/org").len(), 20);
    assert_eq!(names(&mount, "hubs/huggingface/org/name-00"), [""; 0]);
    assert_eq!(state(&mount, "hubs/huggingface/org/name-19").as_deref(), Some("searching"));
    assert_eq!(errno(fs::remove_dir(mount.path("hubs/huggingface/org/name-00"))), Some(libc::EBUSY));
    mount.unmount();
    assert!(start.elapsed() < AT_ONCE_MAX + DONE_MAX / 2, "{:?}", start.elapsed());
}

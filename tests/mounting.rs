//! Mounting and unmounting: foreground, background, signals, stale mounts, refusals with their remedy.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use support::mounted::{Fuse, Sandbox, answers, eventually, fuse_or_skip, mount_id};
use support::tiny::lora;

const GONE_MAX: Duration = Duration::from_secs(10);

fn stocked() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("in/a.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    sandbox
}

#[test]
fn the_background_mount_can_be_used_when_the_command_returns() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let told = sandbox.run(["mount", "mount"]).success();
    assert!(told.stdout.contains("mounted at"), "{told:?}");
    assert_eq!(fs::read(sandbox.path("mount/comfyui/loras/a.safetensors")).expect("readable"), lora(1));
    let status: serde_json::Value =
        serde_json::from_slice(&fs::read(sandbox.path("mount/.modelfs/status.json")).expect("readable")).expect("JSON");
    let pid = status["pid"].as_u64().expect("a number");
    assert_eq!(status["models"].as_u64(), Some(1), "{status}");
    sandbox.run(["unmount", "mount"]).success();
    assert_eq!(mount_id(&sandbox.mount_point()), None);
    eventually("its process has ended", GONE_MAX, || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    let again = sandbox.run(["unmount", "mount"]).code(9);
    assert!(again.stderr.contains("mount"), "{again:?}");
}

#[test]
fn signals_unmount_cleanly() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        sandbox.mount(&[]).end_with(signal);
    }
}

/// The name goes at once, so that the folder can be used again; who has a file open reads on, and then the process ends.
#[test]
fn a_signal_unmounts_under_an_open_file_without_breaking_it() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    let open = File::open(mount.path("comfyui/loras/a.safetensors")).expect("opens");
    mount.signal(libc::SIGTERM);
    eventually("the mount is gone", GONE_MAX, || mount_id(mount.directory()).is_none());
    let mut bytes = Vec::new();
    (&open).read_to_end(&mut bytes).expect("reads on");
    assert_eq!(bytes, lora(1));
    drop(open);
    mount.ended();
}

#[test]
fn a_stale_mount_point_is_healed() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    sandbox.mount(&[]).kill_hard();
    assert!(mount_id(&sandbox.mount_point()).is_some() && !answers(&sandbox.mount_point()), "a dead mount is left");
    let mount = sandbox.mount(&[]);
    assert_eq!(fs::read(mount.path("comfyui/loras/a.safetensors")).expect("readable"), lora(1));
    mount.unmount();
}

#[test]
fn a_mount_point_that_cannot_be_used_is_refused_with_a_remedy() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    sandbox.write("full/file.txt", "something");
    let file = sandbox.write("file.txt", "no folder");
    for point in ["full", file.to_str().expect("a plain name"), "not/there/at/all"] {
        let refused = sandbox.run(["mount", point]);
        assert_ne!(refused.status.code(), Some(0), "{refused:?}");
        assert!(refused.stderr.contains("error: ") && refused.stderr.contains("hint: "), "{refused:?}");
        assert!(refused.stderr.contains(point.trim_end_matches("/at/all")), "{refused:?}");
    }
    let mount = sandbox.mount(&[]);
    let twice = sandbox.run(["mount", "mount"]);
    assert_ne!(twice.status.code(), Some(0), "{twice:?}");
    assert!(twice.stderr.contains("hint: "), "{twice:?}");
    mount.unmount();
}

#[test]
fn a_missing_mount_point_is_made() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount_at(&sandbox.path("made"), &[]);
    assert!(mount.path("comfyui").is_dir());
    mount.unmount();
}

#[test]
fn figures_of_the_filesystem_are_real() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    let here = rustix::fs::statvfs(mount.directory()).expect("statfs");
    let store = rustix::fs::statvfs(sandbox.store()).expect("statfs");
    assert_eq!(here.f_blocks * here.f_frsize, store.f_blocks * store.f_frsize);
    assert!(here.f_bavail > 0);
    let mode = fs::metadata(mount.path("comfyui/loras/a.safetensors")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    mount.unmount();
}

#[test]
fn a_background_mount_makes_the_store_that_it_needs() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.run(["mount", "mount"]).success();
    assert!(sandbox.path("mount/comfyui").is_dir() && sandbox.store().join("mount.log").exists());
    sandbox.run(["unmount", "mount"]).success();
}

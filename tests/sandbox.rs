//! The sandbox that the tests of the binary run in.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::mounted::{Sandbox, mount_id, walk};

#[test]
fn the_binary_sees_only_the_sandbox() {
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_TOKEN", "hf_of_the_sandbox");
    let path = sandbox.run(["config", "path"]).success().stdout;
    assert!(Path::new(path.trim()).starts_with(sandbox.path("home")), "{path}");
    let variables = sandbox.finish(sandbox.program("env", [""; 0])).success().stdout;
    assert!(variables.contains("HF_TOKEN=hf_of_the_sandbox") && !variables.contains("CARGO"), "{variables}");
    let refused = sandbox.run(["no-such-verb"]).code(2);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("no-such-verb"), "{refused:?}");
}

#[test]
fn a_process_ends_with_its_owner() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(sandbox.program("sleep", ["1000"]));
    let process = format!("/proc/{}", running.pid());
    assert!(Path::new(&process).exists());
    assert_eq!(running.wait_at_most(Duration::ZERO), None);
    drop(running);
    assert!(!Path::new(&process).exists());
}

#[test]
fn mounts_are_seen_by_their_place() {
    assert!(mount_id(Path::new("/proc")).is_some());
    let sandbox = Sandbox::new();
    assert_eq!(mount_id(&sandbox.mount_point()), None);
    sandbox.write("tree/a/b c.bin", "x");
    sandbox.write("tree/a.bin", "x");
    assert_eq!(walk(&sandbox.path("tree")), ["a.bin", "a/b c.bin"]);
}

/// A mount of any kind left in a sandbox goes with it. Mounting one needs root.
#[test]
fn a_mount_ends_with_its_sandbox() {
    let sandbox = Sandbox::new();
    let place = sandbox.mount_point();
    let made = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&place).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user cannot mount a tmpfs");
        return;
    }
    assert!(mount_id(&place).is_some());
    drop(sandbox);
    assert_eq!(mount_id(&place), None);
    assert!(!place.exists());
}

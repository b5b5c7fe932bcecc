//! Everything as a user without rights: import, mount through fusermount3, look, unmount, and what such a user is told.
//!
//! Run by root, it becomes `nobody` with setpriv, where others may open /dev/fuse; run by anybody else, it is that user.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use support::mounted::{Finished, Fuse, Sandbox, eventually, fuse_or_skip, mount_id};
use support::skip::skipped;
use support::tiny::lora;

/// `nobody`: exists everywhere and owns nothing.
const NOBODY: u32 = 65534;
const OTHERS_READ_WRITE: u32 = 0o006;

struct User {
    sandbox: Sandbox,
    binary: PathBuf,
    uid: u32,
    /// What stands before each command.
    become_user: Vec<String>,
}

/// Who may open /dev/fuse.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Everybody,
    RootAlone,
}

impl Device {
    fn here() -> Self {
        let mode = fs::metadata("/dev/fuse").expect("it was opened just now").mode();
        if mode & OTHERS_READ_WRITE == OTHERS_READ_WRITE { Self::Everybody } else { Self::RootAlone }
    }

    fn so(self) -> &'static str {
        match self {
            Self::Everybody => "/dev/fuse may be opened by everybody here",
            Self::RootAlone => "/dev/fuse may be opened by root only here (`chmod 666 /dev/fuse` lets others)",
        }
    }
}

impl User {
    /// Nothing, with the reason told, where this machine does not let ordinary users mount.
    fn with(device: Device) -> Option<Self> {
        if fuse_or_skip() == Fuse::Skip {
            return None;
        }
        let skip = |reason: &str| {
            skipped("mounting as an ordinary user", reason);
            None
        };
        let own = rustix::process::geteuid();
        let helper = ["/usr/bin/fusermount3", "/bin/fusermount3"].iter().find_map(|path| fs::metadata(path).ok());
        if helper.is_none_or(|helper| helper.mode() & libc::S_ISUID == 0) {
            return skip("fusermount3 is not installed with its setuid bit (package fuse3)");
        }
        let sandbox = Sandbox::new();
        let binary = sandbox.path("modelfs");
        // The build's folder may be closed to others.
        fs::copy(env!("CARGO_BIN_EXE_modelfs"), &binary).expect("a writable sandbox");
        if !own.is_root() && device == Device::Everybody {
            return Some(Self { sandbox, binary, uid: own.as_raw(), become_user: Vec::new() });
        }
        if Device::here() != device {
            return skip(Device::here().so());
        }
        if !Path::new("/usr/bin/setpriv").exists() {
            return skip("there is no setpriv (package util-linux)");
        }
        fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).expect("its owner");
        for folder in ["", "home", "run", "mount"] {
            chown(sandbox.path(folder), Some(NOBODY), Some(NOBODY)).expect("root");
        }
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
        let become_user = ["/usr/bin/setpriv".to_owned()].into_iter().chain(ids).collect();
        Some(Self { sandbox, binary, uid: NOBODY, become_user })
    }

    fn run(&self, words: &[&str]) -> Finished {
        let binary = self.binary.to_str().expect("a plain name");
        self.program(binary, words)
    }

    fn program(&self, program: &str, words: &[&str]) -> Finished {
        let all = self.become_user.iter().map(String::as_str).chain([program]).chain(words.iter().copied());
        let mut all = all.collect::<Vec<_>>().into_iter();
        let first = all.next().expect("a program");
        self.sandbox.finish(self.sandbox.program(first, all))
    }
}

#[test]
fn an_ordinary_user_imports_mounts_and_unmounts() {
    let Some(user) = User::with(Device::Everybody) else { return };
    let sandbox = &user.sandbox;
    let path = |name: &str| sandbox.path(name).to_str().expect("a plain name").to_owned();
    for number in [1, 2] {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    let closed = sandbox.write("in/closed.safetensors", lora(3));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("its owner");
    let imported = user.run(&["import", "--json", "in"]).code(1);
    let summary = imported.json();
    assert_eq!(summary["new"].as_u64(), Some(2), "{summary:#}");
    let refusal = &summary["refused"][0];
    assert!(refusal["path"].as_str().is_some_and(|told| told.ends_with("closed.safetensors")), "{summary:#}");
    assert!(refusal["reason"].as_str().is_some_and(|reason| reason.contains("ermission denied")), "{summary:#}");
    assert!(refusal["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{summary:#}");

    let mounted = user.run(&["mount", "mount"]).success();
    assert!(mounted.stdout.starts_with("mounted at "), "{mounted:?}");
    let file = path("mount/comfyui/loras/1.safetensors");
    let told = user.program("stat", &["-c", "%u %a %h", &file]).success().stdout;
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(words[..2], [user.uid.to_string().as_str(), "444"], "{told}");
    user.program("cmp", &[&file, &path("in/1.safetensors")]).success();
    let listed = user.program("ls", &[&path("mount/forge/Lora")]).success().stdout;
    assert_eq!(listed, "1.safetensors\n2.safetensors\n");
    let refused = user.program("touch", &[&path("mount/comfyui/loras/new")]);
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    if user.uid == NOBODY {
        // The mount is this user's alone: not even root looks into it unasked.
        assert!(fs::read_dir(sandbox.path("mount")).is_err(), "root looks into the mount of another user");
    }
    let again = user.run(&["mount", "mount"]).code(1);
    assert!(again.stderr.contains("modelfs unmount"), "{again:?}");
    user.run(&["unmount", "mount"]).success();
    eventually("the mount is gone", std::time::Duration::from_secs(10), || mount_id(&sandbox.mount_point()).is_none());
    user.run(&["verify"]).success();
}

#[test]
fn another_user_looks_into_a_shared_mount_and_into_no_other() {
    let Some(user) = User::with(Device::Everybody) else { return };
    if user.uid != NOBODY {
        return skipped("a mount of root that another user looks into", "these tests are not run by root");
    }
    let sandbox = &user.sandbox;
    let original = sandbox.write("in/1.safetensors", lora(1));
    fs::set_permissions(&original, fs::Permissions::from_mode(0o644)).expect("its owner");
    sandbox.run(["import", "in"]).success();
    let file = sandbox.path("mount/comfyui/loras/1.safetensors");
    let [file, original] = [&file, &original].map(|path| path.to_str().expect("a plain name"));
    for (arguments, is_shared) in [(&["--allow-other"][..], true), (&[][..], false)] {
        let mount = sandbox.mount(arguments);
        let compared = user.program("cmp", &[file, original]);
        assert_eq!(compared.status.success(), is_shared, "{arguments:?}: {compared:?}");
        assert_eq!(compared.stderr.contains("Permission denied"), !is_shared, "{arguments:?}: {compared:?}");
        mount.unmount();
    }
}

#[test]
fn an_ordinary_user_is_told_what_is_not_allowed() {
    let Some(user) = User::with(Device::Everybody) else { return };
    user.run(&["init"]).success();
    let elsewhere = user.run(&["mount", "/var/empty-of-nobody/deep"]).code(4);
    assert!(elsewhere.stderr.contains("hint: "), "{elsewhere:?}");
    if user.uid == NOBODY {
        let theirs = user.sandbox.path("of root");
        fs::create_dir(&theirs).expect("root");
        let refused = user.run(&["mount", "of root"]).code(1);
        assert!(refused.stderr.contains("hint: use a folder that belongs to you"), "{refused:?}");
        let store = user.run(&["--store", "of root", "import", "in"]);
        assert_ne!(store.status.code(), Some(0), "{store:?}");
        assert!(store.stderr.contains("hint: "), "{store:?}");
    }
    let shared = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if !shared.lines().any(|line| line.trim() == "user_allow_other") {
        let refused = user.run(&["mount", "--allow-other", "mount"]).code(1);
        assert!(
            refused.stderr.contains("user_allow_other") && refused.stderr.contains("/etc/fuse.conf"),
            "{refused:?}"
        );
    }
    assert_eq!(mount_id(&user.sandbox.mount_point()), None);
    let doctor = user.run(&["doctor"]);
    assert!(doctor.stdout.contains("fusermount3"), "{doctor:?}");
}

#[test]
fn a_closed_device_is_told_with_its_remedy() {
    let Some(user) = User::with(Device::RootAlone) else { return };
    let refused = user.run(&["mount", "mount"]).code(1);
    assert!(refused.stderr.contains("error: this user may not open /dev/fuse\nhint: "), "{refused:?}");
    let doctor = user.run(&["doctor"]).code(1);
    assert!(doctor.stdout.contains("BROKEN  fuse device: this user may not open /dev/fuse"), "{doctor:?}");
}

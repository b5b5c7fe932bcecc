//! Before and after a session: what must be true to mount, healing of stale mounts, and unmounting.
//!
//! Invariants: nothing is hidden by a mount but an empty folder and its README; a question to a mount that may be dead is
//! asked with a bound; every refusal says what to do. Not here: the session itself.

use super::mounts::{self, MountEntry};
use crate::base::{Fault, FaultKind};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a mount may take to say that it lives: it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const DEVICE: &str = "/dev/fuse";
pub const HELPER: &str = "fusermount3";
const FUSE_CONF: &str = "/etc/fuse.conf";
/// Where the helper is looked for besides `PATH`.
const HELPER_FOLDERS: [&str; 4] = ["/bin", "/usr/bin", "/usr/local/bin", "/sbin"];
/// What a mount point may hold: the tree hides it.
const HIDDEN: [&str; 4] = ["README", "README.md", ".gitignore", ".gitkeep"];
/// Processes that are named when a mount is in use.
const HOLDERS_NAMED_MAX: usize = 5;

/// The path as the kernel knows it. Works for a mount point that is dead or not there yet.
pub fn resolve(path: &Path) -> Result<PathBuf, Fault> {
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let absolute = std::path::absolute(path).map_err(|error| cannot_reach(path, &error))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::new(
            FaultKind::NotFound,
            format!("cannot mount at {}: {} does not exist", absolute.display(), parent.display()),
            format!("create it with `mkdir -p {}`", parent.display()),
        )),
        Err(error) => Err(cannot_reach(path, &error)),
    }
}

fn cannot_reach(path: &Path, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => FaultKind::NotPermitted,
        io::ErrorKind::NotFound => FaultKind::NotFound,
        _ => FaultKind::Internal,
    };
    Fault::new(kind, format!("cannot use {} as a mount point: {error}", path.display()), "choose another folder")
}

/// Makes a path ready to be mounted on: heals a stale mount, makes the folder, refuses an occupied one.
pub fn prepare(path: &Path) -> Result<PathBuf, Fault> {
    let path = resolve(path)?;
    if let Some(entry) = mounts::at(&path).filter(MountEntry::is_ours) {
        match liveness(&entry.mount_point) {
            Liveness::Dead => {
                tracing::warn!("healing the stale mount at {}", path.display());
                detach(&path)?;
            }
            Liveness::Answers | Liveness::Silent => {
                return Err(Fault::new(
                    FaultKind::Exists,
                    format!("modelfs is already mounted at {}", path.display()),
                    format!("unmount it first with `modelfs unmount {}`", path.display()),
                ));
            }
        }
    }
    check_place(&path)?;
    if !path.exists() {
        fs::create_dir(&path).map_err(|error| cannot_reach(&path, &error))?;
    }
    Ok(path)
}

/// Whether a resolved path where nothing is mounted can be mounted on. One that is not there yet can be.
pub fn check_place(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is not a folder", path.display());
            Err(Fault::new(FaultKind::Invalid, what, "name an empty folder to mount on"))
        }
        Ok(_) => refuse_occupied(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot_reach(path, &error)),
    }
}

fn refuse_occupied(path: &Path) -> Result<(), Fault> {
    let entries = fs::read_dir(path).map_err(|error| cannot_reach(path, &error))?;
    let visible = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .find(|name| name.to_str().is_none_or(|name| !HIDDEN.contains(&name)));
    match visible {
        None => Ok(()),
        Some(name) => Err(Fault::new(
            FaultKind::Exists,
            format!("{} is not empty: it holds {}, which the mount would hide", path.display(), name.display()),
            "name an empty folder, or one that does not exist yet",
        )),
    }
}

/// Whether a mount still has somebody who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    Answers,
    /// Its process is gone.
    Dead,
    /// Its process is there and says nothing.
    Silent,
}

pub fn liveness(mount_point: &Path) -> Liveness {
    let (sender, receiver) = mpsc::channel();
    let path = mount_point.to_owned();
    // Attributes may come from the kernel's memory after the process died; this question always goes to the process.
    let asked = thread::Builder::new().name("liveness".to_owned()).spawn(move || {
        // The other end is gone when the answer comes too late.
        let _ = sender.send(rustix::fs::statfs(&path).map(|_| ()));
    });
    if asked.is_err() {
        return Liveness::Silent;
    }
    match receiver.recv_timeout(ANSWER_WITHIN) {
        Ok(Ok(())) => Liveness::Answers,
        Ok(Err(Errno::NOTCONN | Errno::CONNABORTED)) => Liveness::Dead,
        Ok(Err(_)) => Liveness::Answers,
        Err(_) => Liveness::Silent,
    }
}

/// What this machine needs for any mount.
pub fn check_device() -> Result<(), Fault> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    let Err(error) = opened else { return Ok(()) };
    Err(match error.kind() {
        io::ErrorKind::NotFound => Fault::new(
            FaultKind::Unsupported,
            "there is no /dev/fuse on this machine",
            "load the module with `modprobe fuse`, or start the container with `--device /dev/fuse --cap-add SYS_ADMIN`",
        ),
        io::ErrorKind::PermissionDenied => Fault::new(
            FaultKind::NotPermitted,
            "this user may not open /dev/fuse",
            "let an administrator run `chmod 666 /dev/fuse`, join the group that owns it, or mount as root",
        ),
        _ => Fault::new(
            FaultKind::Unsupported,
            format!("/dev/fuse cannot be opened: {error}"),
            "load the module with `modprobe fuse`",
        ),
    })
}

/// What an ordinary user needs besides.
pub fn check_user(allow_other: bool) -> Result<(), Fault> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if find_helper().is_none() {
        return Err(Fault::new(
            FaultKind::Unsupported,
            format!("{HELPER} is not installed, and an ordinary user cannot mount without it"),
            "install the package fuse3 (`apt install fuse3`)",
        ));
    }
    if allow_other && !user_allow_other() {
        return Err(Fault::new(
            FaultKind::NotPermitted,
            "this machine does not let ordinary users share a mount with other users",
            format!("add the line `user_allow_other` to {FUSE_CONF}, or mount without --allow-other"),
        ));
    }
    Ok(())
}

pub fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(HELPER_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(HELPER))
        .find(|file| file.is_file())
}

pub fn user_allow_other() -> bool {
    fs::read_to_string(FUSE_CONF).is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"))
}

/// What a failed mount call means.
pub fn mount_fault(path: &Path, error: &io::Error) -> Fault {
    let text = error.to_string();
    // The system's own word comes last; what stands before it is not for a user.
    let reason = text.trim().rsplit(": ").next().unwrap_or_default();
    let what = format!("cannot mount at {}: {reason}", path.display());
    let denied = error.kind() == io::ErrorKind::PermissionDenied
        || ["EPERM", "EACCES", "ermission denied", "not permitted", "no write access", "not owner"]
            .iter()
            .any(|word| text.contains(word));
    if text.contains("user_allow_other") {
        let remedy = format!("add the line `user_allow_other` to {FUSE_CONF}, or mount without --allow-other");
        Fault::new(FaultKind::NotPermitted, what, remedy)
    } else if denied {
        let remedy = "use a folder that belongs to you; in a container, start it with `--cap-add SYS_ADMIN`";
        Fault::new(FaultKind::NotPermitted, what, remedy)
    } else {
        Fault::new(FaultKind::Internal, what, "see what `modelfs doctor` says")
    }
}

/// Ends a mount of ours. A stale one is cleared away.
pub fn unmount(path: &Path) -> Result<(), Fault> {
    let path = resolve(path)?;
    let Some(entry) = mounts::at(&path).filter(MountEntry::is_ours) else {
        return Err(Fault::new(
            FaultKind::NotMounted,
            format!("modelfs is not mounted at {}", path.display()),
            "list the mounts with `findmnt -t fuse.modelfs`",
        ));
    };
    if liveness(&entry.mount_point) == Liveness::Dead {
        return detach(&path);
    }
    match take_off(&path, Force::Clean)? {
        Taken::Off => Ok(()),
        Taken::InUse => Err(in_use(&path)),
    }
}

/// Says who keeps a mount from being taken off. A command that stands inside holds it too, but what can be done about
/// that is to leave with the shell.
pub fn in_use(path: &Path) -> Fault {
    let own = std::process::id();
    let holders = holders(path, own);
    let by = if holders.is_empty() { String::new() } else { format!(" by {}", holders.join(", ")) };
    let what = format!("{} is in use{by}", path.display());
    if works_below(own, path) {
        let what = format!("{what}; this shell is inside");
        return Fault::new(FaultKind::Busy, what, "leave it with `cd`, close what else uses it and try again");
    }
    Fault::new(FaultKind::Busy, what, "close what uses it and try again")
}

/// Takes the mount out of the tree at once; it ends when its last user is gone.
pub fn detach(path: &Path) -> Result<(), Fault> {
    match take_off(path, Force::Detach)? {
        Taken::Off => Ok(()),
        Taken::InUse => Err(in_use(path)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    Clean,
    Detach,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Off,
    InUse,
}

pub fn take_off(path: &Path, force: Force) -> Result<Taken, Fault> {
    let flags = match force {
        Force::Clean => UnmountFlags::NOFOLLOW,
        Force::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        // Not mounted any more: somebody was faster.
        Ok(()) | Err(Errno::INVAL) => Ok(Taken::Off),
        Err(Errno::BUSY) => Ok(Taken::InUse),
        Err(Errno::PERM) => take_off_as_user(path, force),
        Err(error) => Err(unmount_fault(path, &error.to_string())),
    }
}

fn take_off_as_user(path: &Path, force: Force) -> Result<Taken, Fault> {
    let helper = find_helper().ok_or_else(|| unmount_fault(path, &format!("{HELPER} is not installed")))?;
    let mut command = Command::new(helper);
    command.arg("-u").stdin(Stdio::null());
    if force == Force::Detach {
        command.arg("-z");
    }
    let output = command.arg("--").arg(path).output().map_err(|error| unmount_fault(path, &error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || mounts::at(path).is_none() {
        Ok(Taken::Off)
    } else if said.contains("busy") {
        Ok(Taken::InUse)
    } else {
        Err(unmount_fault(path, said.trim().rsplit(": ").next().unwrap_or_default()))
    }
}

fn unmount_fault(path: &Path, reason: &str) -> Fault {
    let what = format!("cannot unmount {}: {reason}", path.display());
    Fault::new(FaultKind::NotPermitted, what, "unmount it as the user who mounted it, or as root")
}

/// Processes with a file, a mapping or their working folder below the mount, by name and number. Reads link texts only:
/// following one would ask the mount. The working folder of `asking` is left out.
fn holders(mount_point: &Path, asking: u32) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    let mut found: Vec<String> = numbers
        .filter(|process| uses(*process, mount_point) || *process != asking && works_below(*process, mount_point))
        .take(HOLDERS_NAMED_MAX + 1)
        .map(|process| {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            format!("{} ({process})", name.trim())
        })
        .collect();
    if found.len() > HOLDERS_NAMED_MAX {
        found[HOLDERS_NAMED_MAX] = "others".to_owned();
    }
    found
}

fn works_below(process: u32, mount_point: &Path) -> bool {
    fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|folder| folder.starts_with(mount_point))
}

/// Whether it has a file or a mapping there, or its root.
fn uses(process: u32, mount_point: &Path) -> bool {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let below = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(mount_point));
    if below(folder.join("root")) {
        return true;
    }
    let files = fs::read_dir(folder.join("fd")).into_iter().flatten().filter_map(Result::ok);
    if files.map(|entry| entry.path()).any(below) {
        return true;
    }
    let maps = fs::read_to_string(folder.join("maps")).unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])))
        .any(|file| file.starts_with(mount_point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_made_and_an_occupied_one_refused() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let missing = base.path().join("models");
        assert_eq!(prepare(&missing).expect("made"), missing.canonicalize().expect("there"));
        fs::write(missing.join("README.md"), "hidden by the mount").expect("written");
        prepare(&missing).expect("a README does not occupy it");
        fs::write(missing.join("mine.txt"), "").expect("written");
        let fault = prepare(&missing).expect_err("occupied");
        assert_eq!(fault.kind, FaultKind::Exists);
        assert!(fault.what.contains("mine.txt") && !fault.remedy.is_empty(), "{fault}");
    }

    #[test]
    fn files_and_missing_parents_are_refused_with_a_remedy() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let file = base.path().join("file");
        fs::write(&file, "").expect("written");
        for (path, kind) in [(file, FaultKind::Invalid), (base.path().join("a/b"), FaultKind::NotFound)] {
            let fault = prepare(&path).expect_err("refused");
            assert_eq!(fault.kind, kind);
            assert!(!fault.remedy.is_empty() && !path.join("x").exists(), "{fault}");
        }
    }

    #[test]
    fn unmounting_what_is_not_mounted_says_so() {
        let base = tempfile::tempdir().expect("a temporary folder");
        for path in [base.path(), Path::new("/proc")] {
            assert_eq!(unmount(path).expect_err("not ours").kind, FaultKind::NotMounted);
        }
    }

    #[test]
    fn mount_failures_have_their_remedy_and_no_noise() {
        let path = Path::new("/mnt/m");
        for (text, kind, remedy) in [
            ("fusermount3: option allow_other only allowed if 'user_allow_other' is set", "denied", "user_allow_other"),
            (
                "Error calling mount() at \"/mnt/m\" with \"fd=3\": EPERM: Operation not permitted",
                "denied",
                "container",
            ),
            ("fusermount3: user has no write access to mountpoint /x: Permission denied", "denied", "belongs to you"),
            ("fusermount3: user has no write access to mountpoint /mnt/m\n", "denied", "belongs to you"),
            ("something else", "other", "doctor"),
        ] {
            let fault = mount_fault(path, &io::Error::other(text));
            assert_eq!(fault.kind == FaultKind::NotPermitted, kind == "denied", "{fault}");
            assert!(fault.remedy.contains(remedy) && !fault.what.contains("fd=3"), "{fault}");
        }
    }

    #[test]
    fn a_holder_is_named() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let own = std::process::id();
        assert!(holders(base.path(), own).is_empty());
        let _open = fs::File::create(base.path().join("held")).expect("a file");
        let held = holders(base.path(), own);
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].contains(&own.to_string()));
    }

    #[test]
    fn who_asks_is_no_holder_by_where_it_stands() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let inside = Command::new("cat").current_dir(base.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut inside = inside.expect("cat runs");
        let others = holders(base.path(), std::process::id());
        let asked_by_itself = holders(base.path(), inside.id());
        // Its stdin closes first.
        inside.wait().expect("it ends");
        assert_eq!(others.len(), 1, "{others:?}");
        assert_eq!(asked_by_itself, Vec::<String>::new());
    }
}

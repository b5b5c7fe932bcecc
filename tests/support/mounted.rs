//! The built binary in a sandbox: its own home, store and environment, and a mount that never outlives its test.
//!
//! Invariants: every wait has a limit; after a `Sandbox` is dropped, also by a panic, none of its processes and none of
//! its mounts is left. Not here: what the verbs should answer.

use super::skip::skipped;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest run of a command; the slowest imports of the tests take seconds, also on a loaded machine.
const RUN_MAX: Duration = Duration::from_secs(120);
/// Longest time until a mount is there, and until a process that was asked to end has ended.
const MOUNT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Whether this machine can mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fuse {
    Usable,
    Skip,
}

/// Panics where nothing can be mounted, unless that was allowed: a test that silently does nothing is a defect.
pub fn fuse_or_skip() -> Fuse {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Fuse::Usable,
        Err(error) if std::env::var_os("MODELFS_TEST_WITHOUT_FUSE").is_some_and(|value| value == "1") => {
            let reason = format!("/dev/fuse cannot be opened ({error}) and MODELFS_TEST_WITHOUT_FUSE=1 allows that");
            skipped("a test with a mount", &reason);
            Fuse::Skip
        }
        Err(error) => panic!(
            "/dev/fuse cannot be opened ({error}), so nothing can be mounted here; in a container add \
             `--device /dev/fuse --cap-add SYS_ADMIN`, or set MODELFS_TEST_WITHOUT_FUSE=1 to skip these tests"
        ),
    }
}

/// A home of its own. Nothing of the caller's environment reaches what runs in it.
pub struct Sandbox {
    root: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    runs: AtomicU32,
}

impl Sandbox {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("modelfs-test-").tempdir().expect("a temporary folder");
        for folder in ["home", "run", "mount"] {
            fs::create_dir(root.path().join(folder)).expect("an empty folder");
        }
        let mut sandbox = Self { root, variables: BTreeMap::new(), runs: AtomicU32::new(0) };
        let home = sandbox.path("home");
        for (name, path) in [
            ("HOME", home.clone()),
            ("XDG_CONFIG_HOME", home.join(".config")),
            ("XDG_DATA_HOME", home.join(".local/share")),
            ("XDG_CACHE_HOME", home.join(".cache")),
            ("XDG_STATE_HOME", home.join(".local/state")),
            ("XDG_RUNTIME_DIR", sandbox.path("run")),
            ("MODELFS_STORE", sandbox.store()),
        ] {
            sandbox.set(name, path.to_str().expect("temporary folders have plain names"));
        }
        sandbox.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        sandbox.set("LANG", "C.UTF-8");
        // No test asks a hub that it did not bring.
        sandbox.set("MODELFS_ENRICH_AFTER_IMPORT", "0");
        sandbox.set("TZ", "UTC");
        sandbox
    }

    /// Sets a variable for everything that runs here from now on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.variables.remove(name);
        self
    }

    /// A path inside the sandbox; it need not exist.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Where `mount` mounts: an empty folder.
    pub fn mount_point(&self) -> PathBuf {
        self.path("mount")
    }

    /// Writes a file, with the folders it needs.
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside the sandbox")).expect("a writable sandbox");
        fs::write(&path, bytes).expect("a writable sandbox");
        path
    }

    /// The binary with these arguments, ready to be started.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.program(env!("CARGO_BIN_EXE_modelfs"), arguments)
    }

    /// Any program, in the same surroundings.
    pub fn program<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    #[must_use = "say how it should have ended"]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.finish(self.command(arguments))
    }

    /// Runs a prepared command to its end, or panics after `RUN_MAX`.
    #[must_use = "say how it should have ended"]
    pub fn finish(&self, command: Command) -> Finished {
        let mut running = self.start(command);
        let status = running.wait_at_most(RUN_MAX);
        let status = status.unwrap_or_else(|| panic!("{} ran over {RUN_MAX:?}\n{}", running.shown, running.stderr()));
        Finished { status, stdout: running.stdout(), stderr: running.stderr(), shown: running.shown.clone() }
    }

    /// Starts a prepared command whose output is kept; it is killed when dropped.
    pub fn start(&self, mut command: Command) -> Running {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let stdout = self.path(format!("run/{number}.out"));
        let stderr = self.path(format!("run/{number}.err"));
        command.stdout(File::create(&stdout).expect("a writable sandbox"));
        command.stderr(File::create(&stderr).expect("a writable sandbox"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let shown = format!("`{} {}`", Path::new(command.get_program()).display(), words.join(" "));
        let child = command.spawn().unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
        Running { child, stdout, stderr, shown }
    }

    /// Mounts at `mount_point` in the foreground of a child.
    pub fn mount(&self, arguments: &[&str]) -> Mounted {
        self.mount_at(&self.mount_point(), arguments)
    }

    /// `modelfs mount DIR --foreground ARGUMENTS…`; returns when the mount is there.
    pub fn mount_at(&self, directory: &Path, arguments: &[&str]) -> Mounted {
        let words = ["mount".as_ref(), directory.as_os_str(), "--foreground".as_ref()];
        let running = self.start(self.command(words.into_iter().chain(arguments.iter().map(OsStr::new))));
        let mut mounted = Mounted { running, directory: directory.to_owned(), detach: true };
        let start = Instant::now();
        while !answers(directory) {
            if let Some(status) = mounted.running.try_wait() {
                panic!("{} ended with {status}\n{}", mounted.running.shown, mounted.running.stderr());
            }
            assert!(start.elapsed() < MOUNT_MAX, "no mount after {MOUNT_MAX:?}\n{}", mounted.running.stderr());
            std::thread::sleep(POLL);
        }
        mounted
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // What a test mounted in the background, or left stale with `kill_hard`.
        for directory in mount_points_below(self.root.path()) {
            detach(&directory);
        }
    }
}

/// A process that was started and whose output is kept.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    shown: String,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process number");
        // SAFETY: no memory is involved. The child was not waited for, so its number is still its own.
        unsafe { libc::kill(pid, signal) };
    }

    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process")
    }

    pub fn wait_at_most(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.try_wait();
            if status.is_some() || start.elapsed() > limit {
                return status;
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.try_wait().is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    shown: String,
}

impl Finished {
    /// Panics with everything it wrote unless the exit code is 0.
    pub fn success(self) -> Self {
        self.code(0)
    }

    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        let Self { status, stdout, stderr, shown } = &self;
        assert_eq!(status.code(), Some(expected), "{shown}: {status}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{} wrote no JSON ({error}):\n{}", self.shown, self.stdout))
    }
}

/// A mount and the process that serves it.
pub struct Mounted {
    running: Running,
    directory: PathBuf,
    /// Whether a mount that is left behind is taken away on drop.
    detach: bool,
}

impl Mounted {
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What the process logged so far.
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    /// SIGTERM; panics unless the process ends with 0 and the mount is gone. Gives what it logged.
    pub fn unmount(self) -> String {
        self.end_with(libc::SIGTERM)
    }

    /// The same with another signal.
    pub fn end_with(self, signal: libc::c_int) -> String {
        self.signal(signal);
        self.ended()
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.running.signal(signal);
    }

    /// Panics unless the process ends by itself with 0 and the mount is gone. Gives what it logged.
    pub fn ended(mut self) -> String {
        let status = self.running.wait_at_most(MOUNT_MAX);
        let log = self.running.stderr();
        let status = status.unwrap_or_else(|| panic!("still running after {MOUNT_MAX:?}\n{log}"));
        assert_eq!(status.code(), Some(0), "ended with {status}\n{log}");
        assert_eq!(mount_id(&self.directory), None, "still mounted after the process has ended\n{log}");
        log
    }

    /// SIGKILL, as a crash: the mount stays behind, dead, for the next `mount` to heal.
    pub fn kill_hard(mut self) {
        self.running.kill();
        self.detach = false;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.running.try_wait().is_none() {
            self.running.signal(libc::SIGTERM);
            let _ = self.running.wait_at_most(MOUNT_MAX);
        }
        // First the mount: a process may wait in the kernel for an answer that only its end brings.
        if self.detach && mount_id(&self.directory).is_some() {
            detach(&self.directory);
        }
        self.running.kill();
    }
}

/// Takes a mount away whatever uses it. Failures leave nothing to do but to go on.
fn detach(directory: &Path) {
    let path = CString::new(directory.as_os_str().as_bytes()).expect("no NUL in a path");
    // SAFETY: the pointer is a terminated string that outlives the call.
    if unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } != 0 {
        let quiet = |program: &str| {
            let mut command = Command::new(program);
            command.arg("-uz").arg(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let _ = quiet("fusermount3") || quiet("fusermount");
    }
}

/// What `statfs` says of a FUSE filesystem (linux/magic.h).
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// Whether a mount is there and somebody serves it: `stat` may be answered by the kernel for a dead one, `statfs` never.
/// One call answers both: a dead mount may be healed, and its folder bare, between two.
pub fn answers(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|answer| answer.f_type == FUSE_SUPER_MAGIC)
}

/// The kernel's number of the topmost mount at `directory`.
pub fn mount_id(directory: &Path) -> Option<u64> {
    mounts().into_iter().filter(|(_, path)| path == directory).map(|(id, _)| id).next_back()
}

fn mount_points_below(root: &Path) -> Vec<PathBuf> {
    // The innermost first.
    mounts().into_iter().rev().map(|(_, path)| path).filter(|path| path.starts_with(root)).collect()
}

/// Numbers and places of all mounts, in the order in which they were made.
fn mounts() -> Vec<(u64, PathBuf)> {
    let text = fs::read("/proc/self/mountinfo").expect("a Linux with /proc");
    let text = String::from_utf8_lossy(&text).into_owned();
    let parsed = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let id = words.next()?.parse().ok()?;
        let path = words.nth(3)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        Some((id, PathBuf::from(path)))
    });
    parsed.collect()
}

/// Value of an extended attribute, or nothing when the file has none of this name.
pub fn xattr(path: &Path, name: &str) -> io::Result<Option<String>> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let c_name = CString::new(name)?;
    // Attributes of the mount are short; the kernel's own limit is 64 KiB.
    let mut value = vec![0u8; 64 << 10];
    // SAFETY: both strings are terminated, and the buffer has the given length.
    let length = unsafe { libc::getxattr(c_path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&value[..length]).into_owned())),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            error => Err(error),
        },
    }
}

/// `user.modelfs.NAME`; panics where it cannot be read.
#[track_caller]
pub fn modelfs_xattr(path: &Path, name: &str) -> Option<String> {
    xattr(path, &format!("user.modelfs.{name}")).unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()))
}

/// Names of all extended attributes, sorted.
pub fn xattr_names(path: &Path) -> io::Result<Vec<String>> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let mut names = vec![0u8; 64 << 10];
    // SAFETY: the string is terminated, and the buffer has the given length.
    let length = unsafe { libc::listxattr(c_path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

pub fn set_xattr(path: &Path, name: &str, value: &str) -> io::Result<()> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let c_name = CString::new(name)?;
    // SAFETY: both strings are terminated, and the value has the given length.
    let outcome = unsafe { libc::setxattr(c_path.as_ptr(), c_name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Paths of everything that is not a directory below `directory`, relative to it, sorted. Links are not followed.
#[track_caller]
pub fn walk(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        let entries = fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", at.display()));
            let path = entry.path();
            let kind = entry.file_type().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if kind.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).expect("below it").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Names in a directory of a mount, sorted.
#[track_caller]
pub fn names(mount: &Mounted, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(mount.path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The number of a refusal.
#[track_caller]
pub fn errno(result: io::Result<()>) -> Option<i32> {
    result.expect_err("refused").raw_os_error()
}

/// Polls until `holds`, or panics with `what` after `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

//! The adapter under a real kernel, over a namespace whose residency the test switches.
//!
//! Needs `/dev/fuse` and the right to mount; where they are missing the tests say so and end.

use super::doctor;
use super::fake::Fake;
use super::mounting::{self, Liveness};
use super::nodes::{KernelNode, Passthrough};
use super::session::{self, PassthroughWish, Running, SessionOptions};
use crate::base::{FaultKind, InodeNo, Timestamp};
use crate::library::CheckStatus;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A change must be visible within this.
const VISIBLE_WITHIN: Duration = Duration::from_millis(250);

struct Mount {
    fake: Arc<Fake>,
    running: Option<Running>,
    folder: tempfile::TempDir,
}

impl Mount {
    fn start(passthrough: PassthroughWish) -> Option<Self> {
        if let Err(fault) = mounting::check_device().and_then(|()| mounting::check_user(false)) {
            let _ = writeln!(std::io::stderr(), "not run here: {fault}");
            return None;
        }
        let fake = Arc::new(Fake::new());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let backend: Arc<Fake> = Arc::clone(&fake);
        let options = SessionOptions { allow_other: false, passthrough };
        let running = Running::start(backend, folder.path(), options).expect("mounted");
        Some(Self { fake, running: Some(running), folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("until the end")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

/// A shared, read-only mapping of a whole file.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    fn of(file: &File, len: usize) -> Self {
        // SAFETY: a fresh mapping of an open file; nothing else refers to it.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start, len }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading until `drop`, and the file keeps its length.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `of` mapped, unmapped once.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Content in which every place differs.
fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| ((index * 31 + index / 251 + seed * 7) % 256) as u8).collect()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < VISIBLE_WITHIN, "not within {VISIBLE_WITHIN:?}: {what}");
        std::thread::yield_now();
    }
}

/// Old handles and mappings live through the moment in which a file becomes resident, and new opens pass through.
fn flips(passthrough: PassthroughWish, count: usize) {
    const LEN: usize = 64 * 1024;
    let Some(mount) = Mount::start(passthrough) else { return };
    let native = mount.running().passthrough() == Passthrough::Available;
    let expected = passthrough == PassthroughWish::IfPossible && doctor::passthrough().status == CheckStatus::Fine;
    assert_eq!(native, expected, "`doctor` and the mount agree about passthrough");
    for round in 0..count {
        let name = format!("model-{}.safetensors", round % 7);
        let expected = content(round, LEN);
        mount.fake.add_remote(&name, &expected);
        let path = mount.path(&name);
        eventually("the new file", || fs::metadata(&path).is_ok_and(|found| found.blocks() == 0));
        let old = File::open(&path).expect("opens while it is remote");
        let mapping = Mapping::of(&old, LEN);
        let ino = old.metadata().expect("stat").ino();
        let mut first = [0; 100];
        old.read_exact_at(&mut first, 0).expect("reads while it is remote");
        assert_eq!(first, expected[..100]);

        mount.fake.set_resident(&name, true);
        // No waiting: the very next open is the one that would fail.
        let new = File::open(&path).unwrap_or_else(|error| panic!("flip {round}: {error}"));
        let second = File::open(&path).unwrap_or_else(|error| panic!("flip {round}, second open: {error}"));
        if native {
            let node = KernelNode::plain(InodeNo::from_u64(ino).expect("a number"));
            assert!(mount.running().passes_through(node), "flip {round}: new opens pass through");
        }
        let new_mapping = Mapping::of(&second, LEN);
        let mut whole = Vec::new();
        (&new).read_to_end(&mut whole).expect("the new handle reads");
        assert!(whole == expected, "flip {round}: new handle");
        assert!(new_mapping.bytes() == expected, "flip {round}: new mapping");
        let mut rest = vec![0; LEN];
        old.read_exact_at(&mut rest, 0).unwrap_or_else(|error| panic!("flip {round}, old handle: {error}"));
        assert!(rest == expected, "flip {round}: old handle");
        assert!(mapping.bytes() == expected, "flip {round}: old mapping");
        drop(old);
        // The mapping alone still holds the old node.
        drop(File::open(&path).unwrap_or_else(|error| panic!("flip {round}, with the old mapping: {error}")));
        for found in [new.metadata(), fs::metadata(&path)] {
            assert_eq!(found.expect("stat").ino(), ino, "flip {round}: the inode number never changes");
        }
        mount.fake.remove(&name);
    }
}

#[test]
fn a_thousand_flips_never_fail_an_open_or_a_read() {
    flips(PassthroughWish::IfPossible, 1000);
}

#[test]
fn flips_without_passthrough_keep_their_handles_too() {
    flips(PassthroughWish::Never, 100);
}

#[test]
fn content_that_goes_and_comes_back_stays_readable() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let expected = content(3, 32 * 1024);
    mount.fake.add_resident("m.gguf", &expected);
    let mut held = Vec::new();
    for round in 0..60 {
        mount.fake.set_resident("m.gguf", round % 3 != 1);
        let file = File::open(mount.path("m.gguf")).unwrap_or_else(|error| panic!("round {round}: {error}"));
        held.push((Mapping::of(&file, expected.len()), file));
        for (mapping, file) in &held {
            let mut bytes = vec![0; expected.len()];
            file.read_exact_at(&mut bytes, 0).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert!(bytes == expected && mapping.bytes() == expected, "round {round}");
        }
        if round % 5 == 4 {
            held.clear();
        }
    }
}

#[test]
fn opens_from_many_threads_race_with_flips() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let expected = content(4, 40_000);
    mount.fake.add_remote("m.gguf", &expected);
    let path = mount.path("m.gguf");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0u32;
                    while !done.load(Ordering::Relaxed) {
                        let file = File::open(&path).unwrap_or_else(|error| panic!("after {reads} reads: {error}"));
                        let mapping = Mapping::of(&file, expected.len());
                        assert!(mapping.bytes() == expected && fs::read(&path).expect("reads") == expected);
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 0..400 {
            mount.fake.set_resident("m.gguf", round % 2 == 0);
            assert!(fs::read(&path).unwrap_or_else(|error| panic!("flip {round}: {error}")) == expected);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no error in a reader") > 0);
        }
    });
    eventually("everything is released", || mount.running().open_nodes() == 0);
}

#[test]
fn a_held_path_descriptor_reopens_after_the_flip() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let expected = content(1, 8192);
    mount.fake.add_remote("m.gguf", &expected);
    let held = File::open(mount.path("m.gguf")).expect("opens");
    mount.fake.set_resident("m.gguf", true);
    let passing = File::open(mount.path("m.gguf")).expect("opens natively");
    // This way leads to the old node, with no lookup in between.
    let again = fs::read(format!("/proc/self/fd/{}", held.as_raw_fd())).expect("the old node opens");
    assert!(again == expected);
    let mut bytes = vec![0; 8192];
    passing.read_exact_at(&mut bytes, 0).expect("reads");
    assert!(bytes == expected);
}

#[test]
fn bytes_of_a_lying_hub_leave_the_cache() {
    for wish in [PassthroughWish::IfPossible, PassthroughWish::Never] {
        let Some(mount) = Mount::start(wish) else { return };
        let (lie, truth) = (content(1, 64 * 1024), content(2, 64 * 1024));
        let path = mount.path("m.gguf");
        mount.fake.add_remote("m.gguf", &lie);
        assert!(fs::read(&path).expect("reads") == lie);
        // Found out, and fetched again from somebody else.
        mount.fake.set_bytes("m.gguf", &truth);
        eventually("the next open sees the new bytes", || fs::read(&path).expect("reads") == truth);
        mount.fake.set_bytes("m.gguf", &lie);
        let held = File::open(&path).expect("opens");
        let mut bytes = vec![0; 64 * 1024];
        held.read_exact_at(&mut bytes, 0).expect("reads");
        mount.fake.set_bytes("m.gguf", &truth);
        mount.fake.set_resident("m.gguf", true);
        assert!(fs::read(&path).expect("reads") == truth, "what is resident was checked");
        drop(held);
    }
}

#[test]
fn changes_are_visible_at_once_and_leave_nothing_stale() {
    for wish in [PassthroughWish::IfPossible, PassthroughWish::Never] {
        let Some(mount) = Mount::start(wish) else { return };
        mount.fake.add_resident("first", b"one");
        let names = || -> Vec<String> {
            let entries = fs::read_dir(mount.folder.path()).expect("lists");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
            names.sort();
            names
        };
        let root_mtime = || {
            Timestamp::from_system_time(fs::metadata(mount.folder.path()).expect("stat").modified().expect("a time"))
        };
        for round in 0..50 {
            let name = format!("extra-{round}");
            assert!(fs::metadata(mount.path(&name)).is_err_and(|error| error.kind() == ErrorKind::NotFound));
            mount.fake.add_resident(&name, b"two");
            eventually("a new name", || fs::metadata(mount.path(&name)).is_ok());
            eventually("the folder's time", || root_mtime() == mount.fake.mtime());
            assert_eq!(names(), [name.as_str(), "first"]);
            mount.fake.remove(&name);
            eventually("a name that went", || fs::metadata(mount.path(&name)).is_err());
            eventually("the folder's time", || root_mtime() == mount.fake.mtime());
            assert_eq!(names(), ["first"]);
        }
    }
}

#[test]
fn a_removed_file_is_readable_while_it_is_open() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    mount.fake.add_remote("m.gguf", &content(5, 8192));
    let file = File::open(mount.path("m.gguf")).expect("opens");
    mount.fake.remove("m.gguf");
    let mut bytes = vec![0; 8192];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    assert!(bytes == content(5, 8192));
    let found = file.metadata().expect("stat of what has no name");
    assert_eq!((found.len(), found.nlink()), (8192, 0));
}

#[test]
fn a_stalled_read_stalls_nobody_else() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    *mount.fake.stalls.lock() = true;
    mount.fake.add_remote("slow", &content(1, 8192));
    mount.fake.add_resident("fast", b"fast");
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let path = mount.path("slow");
            std::thread::spawn(move || {
                let mut bytes = vec![0; 4096];
                File::open(path).and_then(|file| file.read_exact_at(&mut bytes, 4096)).map(|()| bytes)
            })
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(fs::read(mount.path("fast")).expect("reads"), b"fast");
        assert_eq!(fs::metadata(mount.path("slow")).expect("stat").len(), 8192);
    }
    let gate = Arc::clone(&mount.fake.gate);
    let mut waiting = readers;
    while let Some(reader) = waiting.pop() {
        while !reader.is_finished() {
            gate.notify_waiters();
            gate.notify_one();
            std::thread::yield_now();
        }
        assert!(reader.join().expect("no panic").expect("answered later") == content(1, 8192)[4096..]);
    }
}

#[test]
fn writing_is_refused_in_the_words_of_the_kernel() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    mount.fake.add_resident("m", b"bytes");
    let refused = |result: std::io::Result<()>, what: &str| {
        assert_eq!(result.expect_err(what).raw_os_error(), Some(libc::EROFS), "{what}");
    };
    let path = mount.path("m");
    refused(File::options().write(true).open(&path).map(drop), "open for writing");
    refused(File::options().append(true).open(&path).map(drop), "append");
    refused(File::create(mount.path("n")).map(drop), "create");
    refused(fs::create_dir(mount.path("d")), "mkdir");
    refused(fs::remove_file(&path), "unlink");
    refused(fs::rename(&path, mount.path("o")), "rename");
    refused(fs::hard_link(&path, mount.path("o")), "link");
    refused(std::os::unix::fs::symlink("m", mount.path("l")), "symlink");
    refused(fs::set_permissions(&path, fs::metadata(&path).expect("stat").permissions()), "chmod");
    assert_eq!(fs::read(&path).expect("reads"), b"bytes");
}

#[test]
fn direct_reads_locks_and_live_files_work() {
    for wish in [PassthroughWish::IfPossible, PassthroughWish::Never] {
        let Some(mount) = Mount::start(wish) else { return };
        let expected = content(2, 3 * 1024 * 1024 + 17);
        mount.fake.add_resident("m", &expected);
        mount.fake.add_remote("r", &expected);
        for name in ["m", "r"] {
            let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(mount.path(name));
            direct.expect("O_DIRECT opens");
            assert!(fs::read(mount.path(name)).expect("reads") == expected, "{name}");
            let (one, two) = (File::open(mount.path(name)).expect("open"), File::open(mount.path(name)).expect("open"));
            one.lock().expect("locks");
            assert!(two.try_lock().is_err(), "a lock excludes");
            one.unlock().expect("unlocks");
            two.try_lock().expect("free again");
        }
        let live = fs::read_to_string(mount.path("live.json")).expect("reads");
        assert_eq!(live, "{\"files\":2}\n");
        assert_eq!(fs::metadata(mount.path("live.json")).expect("stat").len(), live.len() as u64);
    }
}

#[test]
fn attributes_are_read_and_set() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    mount.fake.add_resident("m", b"bytes");
    let path = mount.path("m");
    let get = |name: &str, room: usize| {
        let mut buffer = vec![0; room];
        rustix::fs::getxattr(&path, name, buffer.as_mut_slice())
    };
    let set = |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty());
    assert_eq!(get("user.modelfs.type", 10), Err(rustix::io::Errno::NODATA));
    set("user.modelfs.type", b"lora").expect("a decision");
    assert_eq!(get("user.modelfs.type", 10), Ok(4));
    let (c_path, c_name) = (CString::new(path.as_os_str().as_bytes()).expect("no NUL"), c"user.modelfs.type");
    // SAFETY: two strings that end in NUL, and no buffer to write to: only the size is asked.
    let size = unsafe { libc::getxattr(c_path.as_ptr(), c_name.as_ptr(), std::ptr::null_mut(), 0) };
    assert_eq!(size, 4);
    assert_eq!(get("user.modelfs.type", 3), Err(rustix::io::Errno::RANGE));
    assert_eq!(set("user.other", b"x"), Err(rustix::io::Errno::PERM));
    let mut list = vec![0; 100];
    let len = rustix::fs::listxattr(&path, list.as_mut_slice()).expect("lists");
    assert_eq!(&list[..len], b"user.modelfs.type\0");
    rustix::fs::removexattr(&path, "user.modelfs.type").expect("removes");
    assert_eq!(get("user.modelfs.type", 10), Err(rustix::io::Errno::NODATA));
}

#[test]
fn space_is_that_of_the_store() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let facts = rustix::fs::statvfs(mount.folder.path()).expect("statfs");
    assert_eq!((facts.f_bsize, facts.f_blocks, facts.f_bfree, facts.f_bavail), (4096, 1000, 500, 400));
    assert_eq!((facts.f_files, facts.f_ffree), (100, 50));
}

#[test]
fn a_mount_is_seen_refused_twice_and_taken_off() {
    let Some(mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let path = mount.folder.path().canonicalize().expect("there");
    let entry = super::mounts::at(&path).expect("mounted");
    assert!(entry.is_ours(), "{entry:?}");
    let again = mounting::prepare(&path).expect_err("occupied");
    assert_eq!(again.kind, FaultKind::Exists);
    mount.fake.add_resident("m", b"bytes");
    let held = File::open(mount.path("m")).expect("opens");
    let busy = mounting::unmount(&path).expect_err("in use");
    assert_eq!(busy.kind, FaultKind::Busy);
    assert!(busy.what.contains(&std::process::id().to_string()), "{busy}");
    drop(held);
    // The release of the last handle is told to the kernel a moment after the close.
    eventually("unmounted", || mounting::unmount(&path).is_ok());
    assert_eq!(mounting::unmount(&path).expect_err("gone").kind, FaultKind::NotMounted);
    assert_eq!(fs::read_dir(Path::new(&path)).expect("the bare folder").count(), 0);
}

/// Sends a signal to this process, which listens for it.
fn signal_self(signal: i32) {
    // SAFETY: a plain system call on our own process.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

#[test]
fn signals_end_a_mount_cleanly_and_a_busy_one_when_it_is_free_or_at_the_second() {
    if mounting::check_device().is_err() {
        return;
    }
    #[derive(Clone, Copy, PartialEq)]
    enum User {
        None,
        Leaves,
        Stays,
    }
    for (signal, user) in [(libc::SIGTERM, User::None), (libc::SIGINT, User::Leaves), (libc::SIGTERM, User::Stays)] {
        let fake = Arc::new(Fake::new());
        fake.add_resident("m", b"bytes");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().canonicalize().expect("there");
        let (ready, is_ready) = mpsc::channel();
        let server = std::thread::spawn({
            let (fake, path) = (Arc::clone(&fake), path.clone());
            let options = SessionOptions { allow_other: false, passthrough: PassthroughWish::IfPossible };
            move || session::serve(fake, &path, options, || ready.send(()).expect("the test waits"))
        });
        is_ready.recv().expect("mounted");
        let held = (user != User::None).then(|| File::open(path.join("m")).expect("opens"));
        signal_self(signal);
        let gone = Instant::now();
        while super::mounts::at(&path).is_some() {
            assert!(gone.elapsed() < Duration::from_secs(5), "still mounted");
            std::thread::yield_now();
        }
        if user == User::Stays {
            signal_self(signal);
        } else if let Some(mut held) = held.as_ref() {
            let mut bytes = Vec::new();
            held.read_to_end(&mut bytes).expect("a user of a detached mount reads on");
            assert_eq!(bytes, b"bytes");
            assert!(!server.is_finished(), "serves while somebody reads");
        }
        let stays = held.filter(|_| user == User::Stays);
        server.join().expect("no panic").expect("a clean end");
        drop(stays);
    }
}

#[test]
fn a_stale_mount_is_healed() {
    let Some(mut mount) = Mount::start(PassthroughWish::IfPossible) else { return };
    let path = mount.folder.path().canonicalize().expect("there");
    mount.fake.add_resident("m", b"bytes");
    let held = File::open(mount.path("m")).expect("opens");
    // Cuts the connection and leaves the mount, as when the process behind it is killed.
    let forced = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::FORCE);
    if forced == Err(rustix::io::Errno::PERM) {
        let _ = writeln!(std::io::stderr(), "not run here: only root can cut a connection");
        return;
    }
    assert_eq!(forced, Err(rustix::io::Errno::BUSY));
    mount.running.take().expect("running").join().expect("ends");
    drop(held);
    assert!(super::mounts::at(&path).is_some(), "the mount is stale");
    assert_eq!(mounting::liveness(&path), Liveness::Dead);
    assert!(doctor::checks(&path).iter().any(|check| check.name == "stale mount"));
    assert_eq!(mounting::prepare(&path).expect("healed"), path);
    assert_eq!(super::mounts::at(&path), None);
}

//! A mount against the obvious model: whatever is read, at any moment and through any handle, is what was published.
//!
//! Random steps of several threads at once, each with handles of its own: positioned reads, reads in order, mappings, fetches,
//! cancels, evictions; between the rounds remounts and kills. The seed is printed; `MODELFS_TEST_SEED` repeats it, as far as
//! threads can be repeated, and `MODELFS_TEST_SECONDS` sets how long new ones are tried.

mod support;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::fake_hub::{FakeHub, Fault, Place, Rule};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};
use support::tiny::large_lora;

const MIB: u64 = 1 << 20;
const FILES: u64 = 3;
const THREADS: u64 = 4;
const ROUNDS: u64 = 3;
/// Of each thread in each round.
const STEPS: u64 = 20;
const SECONDS: u64 = 12;
const DONE_MAX: Duration = Duration::from_secs(60);

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A private mapping of a whole file.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    fn of(file: &File, len: usize) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "a file of the mount can be mapped");
        Self { start, len }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes as long as `self` lives, and files of the mount never change.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped once in `of`, unmapped once here.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

struct Open {
    number: usize,
    file: File,
    position: u64,
}

/// One thread.
struct Run<'a> {
    sandbox: &'a Sandbox,
    contents: &'a [Vec<u8>],
    mount: &'a Mounted,
    handles: Vec<Open>,
    mappings: Vec<(usize, Mapping)>,
}

fn name(number: usize) -> String {
    format!("{number}.safetensors")
}

fn path(mount: &Mounted, number: usize) -> PathBuf {
    mount.path("comfyui/loras").join(name(number))
}

impl Run<'_> {
    fn path(&self, number: usize) -> PathBuf {
        path(self.mount, number)
    }

    fn step(&mut self, dice: &mut Dice) {
        let number = usize::try_from(dice.roll(FILES)).expect("small");
        let size = self.contents[number].len() as u64;
        match dice.roll(20) {
            0..=3 => {
                let file = File::open(self.path(number)).expect("opens at any moment");
                self.handles.push(Open { number, file, position: 0 });
            }
            4 => {
                let file = File::open(self.path(number)).expect("opens at any moment");
                self.mappings.push((number, Mapping::of(&file, self.contents[number].len())));
            }
            5 => set_xattr(&self.path(number), "user.modelfs.fetch", "1").expect("asked for"),
            6 => set_xattr(&self.path(number), "user.modelfs.fetch", "0").expect("cancelled"),
            7 => {
                // Refused while it is open, which is as good.
                let evicted = self.sandbox.run(["evict", &name(number)]);
                assert!(matches!(evicted.status.code(), Some(0 | 1)), "{evicted:?}");
            }
            8..=9 if !self.handles.is_empty() => {
                let index = usize::try_from(dice.roll(self.handles.len() as u64)).expect("small");
                self.handles.swap_remove(index);
            }
            10 if !self.mappings.is_empty() => drop(self.mappings.pop()),
            11..=12 => {
                let Some((number, mapping)) = self.mappings.last() else { return };
                let at = usize::try_from(dice.roll(mapping.len as u64 - 5000)).expect("small");
                assert!(mapping.bytes()[at..at + 5000] == self.contents[*number][at..at + 5000], "mapped, at {at}");
            }
            13..=15 => self.read_on(dice),
            _ => {
                let Some(open) = self.handles.last() else { return };
                let size = size.min(self.contents[open.number].len() as u64);
                let start = dice.roll(size);
                let mut bytes = vec![0; usize::try_from(1 + dice.roll(300_000)).expect("small")];
                let count = open.file.read_at(&mut bytes, start).expect("readable");
                let right = &self.contents[open.number][usize::try_from(start).expect("small")..];
                assert!(count > 0 && bytes[..count] == right[..count], "{count} bytes at {start}");
            }
        }
    }

    /// Reads from where the handle is, after a seek now and then.
    fn read_on(&mut self, dice: &mut Dice) {
        let Some(open) = self.handles.first_mut() else { return };
        let content = &self.contents[open.number];
        if dice.roll(4) == 0 {
            open.position = dice.roll(content.len() as u64 + 1);
            open.file.seek(SeekFrom::Start(open.position)).expect("seeks");
        }
        let mut bytes = vec![0; 200_000];
        let count = open.file.read(&mut bytes).expect("readable");
        let from = usize::try_from(open.position).expect("small");
        assert_eq!(count == 0, from == content.len(), "only the end is the end");
        assert!(bytes[..count] == content[from..from + count], "{count} bytes at {from}");
        open.position += count as u64;
    }
}

fn check(seed: u64) {
    eprintln!("MODELFS_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let hub = FakeHub::start();
    let size = |number: u64| usize::try_from(3 * MIB + number * 777_777).expect("small");
    let contents: Vec<Vec<u8>> = (0..FILES).map(|number| large_lora(seed ^ number, size(number))).collect();
    contents.iter().enumerate().fold(hub.repo("org/name"), |repo, (number, bytes)| {
        repo.lfs(&format!("loras/{}", name(number)), bytes.clone())
    });
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint()).set("MODELFS_PROMOTE_AFTER", "2MiB");
    sandbox.run(["add", "hf:org/name"]).success();
    hub.fault(Rule::new(Fault::Rate { bytes_per_s: 20 * MIB }).at(Place::Bytes));
    let mut mount = sandbox.mount(&[]);
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut dice = Dice(dice.roll(u64::from(u32::MAX)));
                let (sandbox, contents, mount) = (&sandbox, &contents[..], &mount);
                scope.spawn(move || {
                    let mut run = Run { sandbox, contents, mount, handles: Vec::new(), mappings: Vec::new() };
                    (0..STEPS).for_each(|_| run.step(&mut dice));
                });
            }
        });
        match dice.roll(3) {
            0 => {
                mount.unmount();
                mount = sandbox.mount(&[]);
            }
            1 => {
                mount.kill_hard();
                mount = sandbox.mount(&[]);
            }
            _ => {}
        }
    }
    for (number, content) in contents.iter().enumerate() {
        let path = path(&mount, number);
        set_xattr(&path, "user.modelfs.fetch", "1").expect("asked for");
        eventually("it is resident", DONE_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("resident"));
        assert!(std::fs::read(&path).expect("readable") == *content, "file {number} at the end");
    }
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn any_order_of_reads_and_changes_gives_the_published_bytes() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("MODELFS_TEST_SEED") {
        return check(seed);
    }
    let limit = Duration::from_secs(number("MODELFS_TEST_SECONDS").unwrap_or(SECONDS));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let begun = Instant::now();
    for round in 0.. {
        check(now.as_secs().wrapping_add(round));
        if begun.elapsed() > limit {
            return;
        }
    }
}

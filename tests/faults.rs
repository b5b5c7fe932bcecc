//! Everything a hub can do wrong, at the first, a middle and the last chunk, once and for ever, alone and together.
//!
//! Whatever happens, a file ends resident and right, or its reads fail with a number of the contract and a sentence; a file
//! that is called resident never has a wrong byte; nothing takes longer than `LIMIT`. `MODELFS_TEST_SEEDS` sets how many
//! random combinations are tried, `MODELFS_TEST_SEED` which one is the first; both are printed.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::fake_hub::{Content, FakeHub, Fault, Place, Rule, sha256_of};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const REPO: &str = "org/name";
/// Three chunks, the last of which is not whole.
const SIZE_BYTES: u64 = 2 * MIB + 300 * KIB;
const CHUNKS: [u64; 3] = [0, MIB, 2 * MIB];
/// Longest time of one read: the timeout of the mount, the longest pause of the engine, and a loaded machine.
const LIMIT: Duration = Duration::from_secs(40);
/// Faults that are tried beside each other, three files each: more readers than the engine has connections would wait for
/// their turn, not for the fault.
const AT_ONCE: usize = 5;
const SEEDS: u64 = 30;
/// A file may be fetched in vain as often as faults are left for it.
const TRIES_MAX: usize = 12;

/// What a read may answer while a fault lasts.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The bytes: the fault only costs time.
    Right,
    /// One of these numbers, and right bytes if not.
    Errno(&'static [i32]),
    /// Bytes that nobody can check before the whole is here.
    Unchecked,
}

/// Every fault of the hub, with what a read may answer when it never ends.
fn faults() -> Vec<(Fault, Option<Place>, Answer)> {
    const UNREACHABLE: &[i32] = &[libc::EIO];
    let half = 130 * KIB;
    vec![
        (Fault::Latency(Duration::from_millis(50)), None, Answer::Right),
        (Fault::Rate { bytes_per_s: 4 * MIB }, None, Answer::Right),
        (Fault::Status(503), Some(Place::Bytes), Answer::Errno(UNREACHABLE)),
        (Fault::Status(500), Some(Place::Resolve), Answer::Errno(UNREACHABLE)),
        (Fault::Status(408), Some(Place::Bytes), Answer::Errno(UNREACHABLE)),
        (Fault::Status(403), Some(Place::Resolve), Answer::Errno(&[libc::EACCES])),
        (Fault::Status(404), Some(Place::Resolve), Answer::Errno(&[libc::ESTALE, libc::ENOENT])),
        (Fault::RetryAfter { status: 429, seconds: 1 }, Some(Place::Resolve), Answer::Errno(UNREACHABLE)),
        (Fault::Truncate { after_bytes: half }, None, Answer::Errno(UNREACHABLE)),
        (Fault::Reset { after_bytes: half }, None, Answer::Errno(UNREACHABLE)),
        (Fault::Stall { after_bytes: half }, None, Answer::Errno(UNREACHABLE)),
        (Fault::Expire { after_bytes: half }, None, Answer::Errno(UNREACHABLE)),
        (Fault::WrongContentRange, None, Answer::Errno(&[libc::EIO, libc::ESTALE])),
        (Fault::WholeForRange, None, Answer::Errno(&[libc::EIO, libc::ESTALE])),
        (Fault::HtmlPage, None, Answer::Errno(UNREACHABLE)),
        (Fault::Gzip, None, Answer::Errno(UNREACHABLE)),
        (Fault::EtagFlip, None, Answer::Errno(&[libc::EIO, libc::ESTALE])),
        (Fault::RedirectLoop, None, Answer::Errno(UNREACHABLE)),
        (Fault::WrongBytes, None, Answer::Unchecked),
    ]
}

struct Bench {
    hub: FakeHub,
    sandbox: Sandbox,
    mount: Option<Mounted>,
}

impl Bench {
    /// A mount of a repository of so many files.
    fn new(files: u64) -> Self {
        let hub = FakeHub::start();
        let repo = hub.repo(REPO);
        (0..files).fold(repo, |repo, number| repo.lfs(&name(number), content(number)));
        let mut sandbox = Sandbox::new();
        sandbox.set("HF_ENDPOINT", &hub.endpoint()).set("MODELFS_READ_TIMEOUT", "5s");
        sandbox.run(["add", &format!("hf:{REPO}")]).success();
        let mount = Some(sandbox.mount(&[]));
        Self { hub, sandbox, mount }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.mount.as_ref().expect("mounted").path(format!("hubs/huggingface/{REPO}")).join(name(number))
    }

    fn rule(&self, number: u64, fault: &Fault, place: Option<Place>) -> Rule {
        let rule = Rule::new(fault.clone()).on(&name(number));
        place.into_iter().fold(rule, Rule::at)
    }

    fn end(mut self) {
        self.mount.take().expect("mounted").unmount();
        self.sandbox.run(["verify"]).success();
    }
}

/// No model, so that `add` reads nothing of it.
fn name(number: u64) -> String {
    format!("parts/{number}.dat")
}

fn content(number: u64) -> Content {
    Content::generated(7000 + number, SIZE_BYTES)
}

/// Reads a chunk in a new open, within the limit.
fn read_chunk(path: &Path, start: u64) -> std::io::Result<Vec<u8>> {
    let begun = Instant::now();
    let mut bytes = vec![0; usize::try_from(MIB.min(SIZE_BYTES - start)).expect("small")];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, start));
    assert!(begun.elapsed() < LIMIT, "a read of {} took {:?}", path.display(), begun.elapsed());
    read.map(|()| bytes)
}

fn assert_explained(path: &Path, what: &str) {
    let told = modelfs_xattr(path, "error").unwrap_or_else(|| panic!("{what}: no reason is given"));
    assert!(told.len() > 30 && told.contains("; "), "{what}: `{told}` does not say what to do");
}

/// What the store calls resident is right.
fn assert_resident(path: &Path, number: u64, what: &str) {
    assert_eq!(modelfs_xattr(path, "state").as_deref(), Some("resident"), "{what}");
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(sha256_of(&bytes), content(number).sha256(), "{what}: wrong bytes in a resident file");
}

/// Asks for the whole file until it is here; each failure must be explained.
fn fetch_to_the_end(path: &Path, number: u64, what: &str) {
    for _ in 0..TRIES_MAX {
        set_xattr(path, "user.modelfs.fetch", "1").unwrap_or_else(|error| panic!("{what}: {error}"));
        let state = || modelfs_xattr(path, "state").expect("a state");
        let begun = Instant::now();
        while !matches!(state().as_str(), "resident" | "failed") {
            let told = || (state(), modelfs_xattr(path, "error"), modelfs_xattr(path, "bytes_present"));
            assert!(begun.elapsed() < LIMIT, "{what}: still {:?}", told());
            std::thread::sleep(Duration::from_millis(5));
        }
        match state().as_str() {
            "resident" => return assert_resident(path, number, what),
            "failed" => assert_explained(path, what),
            _ => {}
        }
    }
    panic!("{what}: not here after {TRIES_MAX} tries: {:?}", modelfs_xattr(path, "error"));
}

#[test]
fn each_fault_once_at_each_chunk_costs_time_at_most() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    faults().chunks(AT_ONCE).for_each(check_once);
}

fn check_once(faults: &[(Fault, Option<Place>, Answer)]) {
    let bench = Bench::new(3 * faults.len() as u64);
    for (index, (fault, place, _)) in faults.iter().enumerate() {
        for at in 0..3 {
            bench.hub.fault(bench.rule(3 * index as u64 + at, fault, *place).times(1));
        }
    }
    // All at once: what one file suffers is no other file's business.
    std::thread::scope(|scope| {
        for (index, (fault, _, answer)) in faults.iter().enumerate() {
            for (at, start) in CHUNKS.into_iter().enumerate() {
                let (number, what) = (3 * index as u64 + at as u64, format!("{fault:?} once at {start}"));
                let path = bench.path(number);
                scope.spawn(move || {
                    match (read_chunk(&path, start), answer) {
                        (Ok(_), Answer::Unchecked) => {}
                        (Ok(bytes), _) => {
                            let right = content(number).range(start, bytes.len() as u64);
                            assert!(bytes == right, "{what}: wrong bytes");
                        }
                        (Err(error), Answer::Errno(numbers)) => {
                            assert!(numbers.contains(&error.raw_os_error().expect("a number")), "{what}: {error}");
                        }
                        (Err(error), _) => panic!("{what}: {error}"),
                    }
                    fetch_to_the_end(&path, number, &what);
                });
            }
        }
    });
    bench.end();
}

#[test]
fn each_fault_without_end_has_its_number_and_its_sentence() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    faults().chunks(AT_ONCE).for_each(check_without_end);
}

fn check_without_end(faults: &[(Fault, Option<Place>, Answer)]) {
    let bench = Bench::new(3 * faults.len() as u64);
    for (index, (fault, place, _)) in faults.iter().enumerate() {
        for at in 0..3 {
            bench.hub.fault(bench.rule(3 * index as u64 + at, fault, *place));
        }
    }
    std::thread::scope(|scope| {
        for (index, (fault, _, answer)) in faults.iter().enumerate() {
            for (at, start) in CHUNKS.into_iter().enumerate() {
                let (number, what) = (3 * index as u64 + at as u64, format!("{fault:?} for ever at {start}"));
                let path = bench.path(number);
                scope.spawn(move || match (read_chunk(&path, start), answer) {
                    (Ok(_), Answer::Unchecked) => {}
                    (Ok(bytes), _) => {
                        assert!(bytes == content(number).range(start, bytes.len() as u64), "{what}: wrong bytes");
                    }
                    (Err(error), Answer::Errno(numbers)) => {
                        assert!(numbers.contains(&error.raw_os_error().expect("a number")), "{what}: {error}");
                        assert_explained(&path, &what);
                    }
                    (Err(error), Answer::Right | Answer::Unchecked) => panic!("{what}: {error}"),
                });
            }
        }
    });
    // A hub that lies is found out as soon as the whole is here, and never becomes resident.
    for index in (0..faults.len() as u64).filter(|index| faults[*index as usize].0 == Fault::WrongBytes) {
        let liar = bench.path(3 * index);
        set_xattr(&liar, "user.modelfs.fetch", "1").expect("a download can be asked for");
        eventually("the lie is found", LIMIT, || modelfs_xattr(&liar, "state").as_deref() == Some("failed"));
        assert_explained(&liar, "a lie");
    }
    bench.hub.clear_faults();
    bench.hub.release();
    std::thread::scope(|scope| {
        for number in 0..3 * faults.len() as u64 {
            let path = bench.path(number);
            scope.spawn(move || fetch_to_the_end(&path, number, "after the faults"));
        }
    });
    bench.end();
}

/// Draws that a seed decides.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Faults that end, in any number and order, while somebody reads, fetches and cancels: the file ends right.
fn check_seed(bench: &Bench, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    let all = faults();
    let mut lies = false;
    for _ in 0..1 + dice.roll(4) {
        let (fault, place, _) = &all[usize::try_from(dice.roll(all.len() as u64)).expect("small")];
        lies |= *fault == Fault::WrongBytes;
        let after = u32::try_from(dice.roll(3)).expect("small");
        let times = 1 + u32::try_from(dice.roll(2)).expect("small");
        bench.hub.fault(bench.rule(number, fault, *place).after(after).times(times));
    }
    let (path, what) = (bench.path(number), format!("MODELFS_TEST_SEED={seed}"));
    for _ in 0..6 {
        match dice.roll(4) {
            0 => set_xattr(&path, "user.modelfs.fetch", "1").expect("asked for"),
            1 => set_xattr(&path, "user.modelfs.fetch", "0").expect("cancelled"),
            _ => {
                let start = CHUNKS[usize::try_from(dice.roll(3)).expect("small")];
                match read_chunk(&path, start) {
                    Ok(bytes) => {
                        let right = content(number).range(start, bytes.len() as u64);
                        assert!(lies || bytes == right, "{what}: wrong bytes");
                    }
                    Err(error) => {
                        let known = [libc::EIO, libc::EACCES, libc::ESTALE, libc::ENOENT, libc::EBADMSG];
                        assert!(known.contains(&error.raw_os_error().expect("a number")), "{what}: {error}");
                    }
                }
            }
        }
    }
    fetch_to_the_end(&path, number, &what);
}

#[test]
fn any_combination_of_faults_ends_right() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let seeds = number_of("MODELFS_TEST_SEEDS").unwrap_or(SEEDS);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let first = number_of("MODELFS_TEST_SEED").unwrap_or(now.as_secs());
    eprintln!("MODELFS_TEST_SEED={first} MODELFS_TEST_SEEDS={seeds}");
    const FILES: u64 = 10;
    for batch in (0..seeds).step_by(usize::try_from(FILES).expect("small")) {
        let count = FILES.min(seeds - batch);
        let bench = Bench::new(count);
        std::thread::scope(|scope| {
            for number in 0..count {
                let bench = &bench;
                scope.spawn(move || check_seed(bench, number, first + batch + number));
            }
        });
        bench.end();
    }
}

/// A hub that stopped in the middle of an answer: who waits for it can be killed, and nobody else notices.
#[test]
fn a_reader_of_a_stalled_hub_can_be_killed_and_nobody_else_waits() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeHub::start();
    hub.repo(REPO).lfs(&name(0), content(0)).lfs(&name(1), content(1));
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let mount = sandbox.mount(&[]);
    let path = |number| mount.path(format!("hubs/huggingface/{REPO}")).join(name(number));
    hub.fault(Rule::new(Fault::Stall { after_bytes: 100 * KIB }).on(&name(0)));
    // What was started in the background of a script ignores Ctrl-C, and so does all that it starts.
    let reader =
        || sandbox.program("env", ["--default-signal=INT", "cat"].map(PathBuf::from).into_iter().chain([path(0)]));
    let readers: Vec<_> = (0..4).map(|_| sandbox.start(reader())).collect();
    hub.wait_until("the hub to stall", |requests| {
        requests.iter().any(|request| request.subject.ends_with(&name(0)) && request.bytes_sent >= 100 * KIB)
    });
    let begun = Instant::now();
    assert!(fs::read_dir(mount.path("hubs/huggingface")).expect("listed").count() > 0);
    assert_eq!(fs::metadata(path(0)).expect("listed").len(), SIZE_BYTES);
    assert_eq!(modelfs_xattr(&path(0), "state").as_deref(), Some("downloading"));
    assert!(fs::read(path(1)).expect("another file") == content(1).to_vec());
    let others = begun.elapsed();
    assert!(others < Duration::from_secs(10), "others waited {others:?}");
    for mut reader in readers {
        assert!(reader.try_wait().is_none(), "it waits: {}", reader.stderr());
        reader.signal(libc::SIGINT);
        let begun = Instant::now();
        assert!(reader.wait_at_most(LIMIT).is_some_and(|status| !status.success()), "it does not end");
        assert!(begun.elapsed() < Duration::from_secs(5), "Ctrl-C took {:?}", begun.elapsed());
    }
    hub.clear_faults();
    hub.release();
    assert!(fs::read(path(0)).expect("it goes on") == content(0).to_vec());
    mount.unmount();
}

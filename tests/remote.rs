//! Files of a hub: listed with their size, read by ranges, verified, resident; and what happens when the hub misbehaves.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;
use support::fake_hub::{FakeHub, Fault, Place, Rule, sha256_of};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr};
use support::tiny::large_lora;

const MIB: u64 = 1 << 20;
const REPO: &str = "org/name";
const FILE: &str = "loras/big.safetensors";
const DONE_MAX: Duration = Duration::from_secs(60);

fn hub_with(bytes: &[u8]) -> FakeHub {
    let hub = FakeHub::start();
    hub.repo(REPO).lfs(FILE, bytes.to_vec()).file("README.md", "---\nlicense: mit\n---\n");
    hub
}

fn sandbox_for(hub: &FakeHub) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox
}

fn in_hub(mount: &Mounted) -> std::path::PathBuf {
    mount.path("hubs/huggingface").join(REPO).join(FILE)
}

#[test]
fn a_remote_file_is_listed_read_verified_and_then_resident() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(1, 24 * MIB as usize);
    let mut hub = hub_with(&bytes);
    let mut sandbox = sandbox_for(&hub);
    hub.token("hf_secret_token", &[REPO]);
    sandbox.set("HF_TOKEN", "hf_secret_token");
    let added = sandbox.run(["add", "--json", &format!("hf:{REPO}")]).success().json();
    assert_eq!(added[0]["models"].as_u64(), Some(1), "{added}");
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/big.safetensors");
    let metadata = fs::metadata(&path).expect("listed");
    assert_eq!(metadata.size(), bytes.len() as u64);
    assert_eq!(metadata.ino(), fs::metadata(in_hub(&mount)).expect("listed").ino());
    assert_eq!(modelfs_xattr(&path, "state").as_deref(), Some("remote"));
    assert_eq!(modelfs_xattr(&path, "progress").as_deref(), Some("0.00"));
    assert_eq!(modelfs_xattr(&path, "sha256"), Some(sha256_of(&bytes)));

    let before = hub.cdn_bytes_sent(FILE);
    let mut head = [0; 8];
    File::open(&path).expect("opens").read_exact(&mut head).expect("the first bytes");
    assert_eq!(head, bytes[..8]);
    let moved = hub.cdn_bytes_sent(FILE) - before;
    assert!(moved <= 2 * MIB, "8 bytes moved {moved}");
    eventually("the rest is left where it is", DONE_MAX, || {
        modelfs_xattr(&path, "state").as_deref() == Some("partial")
    });

    assert!(fs::read(&path).expect("readable") == bytes, "the bytes are those of the hub");
    eventually("it is resident", DONE_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("resident"));
    assert_eq!(modelfs_xattr(&path, "progress").as_deref(), Some("100.00"));
    assert_eq!(fs::metadata(&path).expect("listed").ino(), metadata.ino(), "it is the same file");
    assert_eq!(fs::metadata(&path).expect("listed").mtime_nsec(), metadata.mtime_nsec());
    let stored = mount.path(format!("store/{}/big.safetensors", sha256_of(&bytes)));
    hub.stop();
    assert!(fs::read(stored).expect("readable without the hub") == bytes);
    let log = mount.unmount();
    assert_eq!(hub.cdn_credentials_seen(), 0, "the token left its origin");
    assert!(!log.contains("hf_secret_token"));
    sandbox.run(["verify"]).success();
}

#[test]
fn progress_rises_while_another_process_reads() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(2, 32 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = sandbox_for(&hub);
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    hub.fault(Rule::new(Fault::Rate { bytes_per_s: 8 * MIB }).at(Place::Bytes));
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/big.safetensors");
    let mut reader = sandbox.start(sandbox.program("sha256sum", [&path]));
    let mut seen: Vec<f64> = Vec::new();
    eventually("it is read to its end", DONE_MAX, || {
        let progress = modelfs_xattr(&path, "progress").and_then(|text| text.parse().ok()).expect("a number");
        if seen.last() != Some(&progress) {
            seen.push(progress);
        }
        reader.try_wait().is_some()
    });
    assert!(reader.stdout().starts_with(&sha256_of(&bytes)), "{}{}", reader.stdout(), reader.stderr());
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "it never falls: {seen:?}");
    assert!(seen.iter().any(|progress| (1.0..99.0).contains(progress)), "nothing was seen on the way: {seen:?}");
    eventually("it ends at 100", DONE_MAX, || modelfs_xattr(&path, "progress").as_deref() == Some("100.00"));
    mount.unmount();
}

#[test]
fn a_content_that_is_here_is_resident_without_a_byte() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(3, 4 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = sandbox_for(&hub);
    sandbox.write("local/mine.safetensors", &bytes);
    sandbox.run(["import", "local"]).success();
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let mount = sandbox.mount(&[]);
    assert_eq!(modelfs_xattr(&in_hub(&mount), "state").as_deref(), Some("resident"));
    assert!(fs::read(in_hub(&mount)).expect("readable") == bytes);
    assert_eq!(hub.cdn_bytes_sent(FILE), 0);
    mount.unmount();
}

#[test]
fn a_download_continues_after_a_kill_and_moves_little_twice() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(4, 48 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = sandbox_for(&hub);
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let before = hub.cdn_bytes_sent(FILE);
    let rate = Rule::new(Fault::Rate { bytes_per_s: 16 * MIB }).at(Place::Bytes);
    hub.fault(rate);
    for _ in 0..3 {
        let mount = sandbox.mount(&[]);
        let path = mount.path("comfyui/loras/big.safetensors");
        set_xattr(&path, "user.modelfs.fetch", "1").expect("a download can be asked for");
        let start = hub.cdn_bytes_sent(FILE);
        eventually("some megabytes arrive", DONE_MAX, || hub.cdn_bytes_sent(FILE) > start + 6 * MIB);
        mount.kill_hard();
    }
    hub.clear_faults();
    let mount = sandbox.mount(&[]);
    assert!(fs::read(mount.path("comfyui/loras/big.safetensors")).expect("readable") == bytes);
    let moved = hub.cdn_bytes_sent(FILE) - before;
    // Each kill loses the chunks that were on their way: at most the streams of one file, and what the socket held.
    assert!(moved < bytes.len() as u64 + 3 * 24 * MIB, "moved {moved} of {}", bytes.len());
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn errors_of_a_hub_have_their_number_and_their_sentence() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(5, 3 * MIB as usize);
    let mut hub = hub_with(&bytes);
    let mut sandbox = sandbox_for(&hub);
    sandbox.set("MODELFS_READ_TIMEOUT", "2s");
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    hub.stop();
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/big.safetensors");
    assert_eq!(fs::metadata(&path).expect("listed").size(), bytes.len() as u64);
    let error = fs::read(&path).expect_err("the hub is down");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    let told = modelfs_xattr(&path, "error").expect("a reason");
    assert!(told.contains("127.0.0.1"), "{told}");
    mount.unmount();

    let mount = sandbox.mount(&["--offline"]);
    let error = fs::read(mount.path("comfyui/loras/big.safetensors")).expect_err("the network is off");
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
    mount.unmount();

    hub.resume();
    let mount = sandbox.mount(&[]);
    hub.fault(Rule::new(Fault::WrongBytes).at(Place::Bytes));
    let path = mount.path("comfyui/loras/big.safetensors");
    let _ = fs::read(&path);
    eventually("the lie is found", DONE_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("failed"));
    assert!(modelfs_xattr(&path, "error").is_some());
    assert!(!mount.path("by/state/resident/big.safetensors").exists());
    hub.clear_faults();
    assert!(fs::read(&path).expect("the next read tries again") == bytes);
    mount.unmount();
    sandbox.run(["verify"]).success();
}

/// The release of a handle reaches the daemon after `close` has returned, so the next open may meet the old state: in each
/// round it certainly does, because a handle is still open.
#[test]
fn a_new_open_after_a_lie_starts_anew_every_time() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    const ROUNDS: u64 = 20;
    let hub = FakeHub::start();
    let contents: Vec<Vec<u8>> = (0..ROUNDS).map(|round| large_lora(100 + round, MIB as usize + 7)).collect();
    contents.iter().enumerate().fold(hub.repo(REPO), |repo, (round, bytes)| {
        repo.lfs(&format!("loras/{round}/big.safetensors"), bytes.clone())
    });
    let sandbox = sandbox_for(&hub);
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let mount = sandbox.mount(&[]);
    for (round, bytes) in contents.iter().enumerate() {
        hub.fault(Rule::new(Fault::WrongBytes).at(Place::Bytes));
        let path = mount.path(format!("hubs/huggingface/{REPO}/loras/{round}/big.safetensors"));
        let old = File::open(&path).expect("opens");
        let _ = fs::read(&path);
        eventually("the lie is found", DONE_MAX, || modelfs_xattr(&path, "state").as_deref() == Some("failed"));
        hub.clear_faults();
        assert!(fs::read(&path).expect("the next open tries again") == *bytes, "round {round}");
        drop(old);
    }
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn an_old_handle_reads_through_the_moment_it_becomes_resident() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(6, 20 * MIB as usize);
    let hub = hub_with(&bytes);
    let sandbox = sandbox_for(&hub);
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/big.safetensors");
    let old = File::open(&path).expect("opens");
    let mut buffer = vec![0; 64 << 10];
    old.read_exact_at(&mut buffer, 5 * MIB).expect("readable");
    set_xattr(&path, "user.modelfs.fetch", "1").expect("a download can be asked for");
    let mut round = 0u64;
    eventually("it is resident", DONE_MAX, || {
        let at = (round * 3 * MIB + round) % (bytes.len() as u64 - buffer.len() as u64);
        old.read_exact_at(&mut buffer, at).expect("the old handle reads on");
        assert!(buffer == bytes[at as usize..at as usize + buffer.len()], "at {at}");
        let new = File::open(&path).expect("a new open works at any moment");
        new.read_exact_at(&mut buffer[..4096], at).expect("and reads");
        round += 1;
        modelfs_xattr(&path, "state").as_deref() == Some("resident")
    });
    for at in [0, 7 * MIB + 3, bytes.len() as u64 - 4096] {
        let new = File::open(&path).expect("opens");
        for file in [&old, &new] {
            file.read_exact_at(&mut buffer[..4096], at).expect("both read after it");
            assert!(buffer[..4096] == bytes[at as usize..at as usize + 4096]);
        }
    }
    drop(old);
    mount.unmount();
}

#[test]
fn hostile_names_of_a_hub_never_leave_the_store() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeHub::start();
    let long = format!("{}.safetensors", "n".repeat(300));
    let repo = hub.repo(REPO).lfs("good.safetensors", large_lora(7, MIB as usize));
    let hostile =
        ["../../escape.safetensors", "/etc/passwd.safetensors", "a/../b.safetensors", "nul\u{0}.bin", long.as_str()];
    hostile.iter().fold(repo, |repo, path| repo.file(path, "x"));
    let sandbox = sandbox_for(&hub);
    let added = sandbox.run(["add", "--json", &format!("hf:{REPO}")]).success().json();
    assert_eq!(added[0]["files"].as_u64(), Some(1), "{added}");
    assert_eq!(added[0]["refused"].as_array().map(Vec::len), Some(hostile.len()), "{added}");
    let mount = sandbox.mount(&[]);
    assert!(mount.path("hubs/huggingface/org/name/good.safetensors").exists());
    mount.unmount();
    assert!(!sandbox.path("escape.safetensors").exists());
}

/// As a crash leaves it, or a catalog that could not be written: the file lies in the store and no row says so.
#[test]
fn a_complete_file_that_was_not_recorded_is_not_fetched_again() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(8, 5 * MIB as usize);
    let mut hub = hub_with(&bytes);
    let sandbox = sandbox_for(&hub);
    sandbox.run(["add", &format!("hf:{REPO}")]).success();
    let mount = sandbox.mount(&[]);
    let name = "comfyui/loras/big.safetensors";
    set_xattr(&mount.path(name), "user.modelfs.fetch", "1").expect("a download can be asked for");
    eventually("it is resident", DONE_MAX, || modelfs_xattr(&mount.path(name), "state").as_deref() == Some("resident"));
    let blake3 = modelfs_xattr(&mount.path(name), "blake3").expect("computed");
    mount.unmount();
    let catalog = rusqlite::Connection::open(sandbox.store().join("modelhub.db")).expect("the catalog");
    let sql = "UPDATE blobs SET state = 'partial', blake3 = NULL, crc32 = NULL WHERE state = 'resident'";
    assert_eq!(catalog.execute(sql, []).expect("changed"), 1);
    drop(catalog);
    hub.stop();
    let mount = sandbox.mount(&[]);
    assert_eq!(modelfs_xattr(&mount.path(name), "state").as_deref(), Some("partial"));
    assert!(fs::read(mount.path(name)).expect("readable without the hub") == bytes);
    assert_eq!(modelfs_xattr(&mount.path(name), "state").as_deref(), Some("resident"));
    eventually("its hashes are known again", DONE_MAX, || {
        modelfs_xattr(&mount.path(name), "blake3").as_deref() == Some(blake3.as_str())
    });
    mount.unmount();
    sandbox.run(["verify"]).success();
}

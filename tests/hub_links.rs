//! What hubs answered below `search/`, linked into folders of applications: models from then on, until their last link goes.

mod support;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::fake_hub::{FakeHub, sha256_of, sha256_of_file};
use support::mounted::{Fuse, Mounted, Sandbox, errno, eventually, fuse_or_skip, modelfs_xattr, names};
use support::tiny::{large_lora, lora};

const MIB: usize = 1 << 20;
/// A hub of this machine answers in milliseconds; the rest is for a loaded one.
const DONE_MAX: Duration = Duration::from_secs(20);
const QUERY: &str = "search/anime source:huggingface";
const HIT: &str = "search/anime source:huggingface/huggingface/ann--anime-xl";

struct Scene {
    face: FakeHub,
    sandbox: Sandbox,
    bytes: Vec<u8>,
}

/// One repository with a model, one file that is none, and one model here.
fn scene() -> Scene {
    let face = FakeHub::start();
    let bytes = large_lora(1, 2 * MIB);
    face.repo("ann/anime-xl").lfs("style.safetensors", bytes.clone()).file("config.json", "{}");
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &face.endpoint());
    sandbox.write("in/here.safetensors", lora(3));
    sandbox.run(["import", "in"]).success();
    Scene { face, sandbox, bytes }
}

/// The mount, with the repository looked into.
fn mounted(scene: &Scene) -> Mounted {
    let mount = scene.sandbox.mount(&[]);
    if !mount.path(QUERY).exists() {
        fs::create_dir(mount.path(QUERY)).expect("made");
    }
    let state = |folder: &str| modelfs_xattr(&mount.path(folder), "state");
    eventually("the hub's answer", DONE_MAX, || state(QUERY).as_deref() == Some("complete"));
    eventually("its files", DONE_MAX, || names(&mount, HIT) == ["config.json", "style.safetensors"]);
    mount
}

fn listed(scene: &Scene) -> Vec<String> {
    let rows = scene.sandbox.run(["ls", "--json"]).success().json();
    let name = |row: &serde_json::Value| row["name"].as_str().expect("a name").to_owned();
    rows.as_array().expect("a list").iter().map(name).collect()
}

fn access(path: &Path, mode: libc::c_int) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: it is a text that ends with a zero and lives through the call.
    if unsafe { libc::access(path.as_ptr(), mode) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn a_hit_of_a_hub_is_linked_and_is_a_model_until_its_last_link_goes() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = mounted(&scene);
    let asked_before = scene.face.requests().len();
    let script = format!(
        "ln '{HIT}/style.safetensors' comfyui/loras/ && ln '{HIT}/style.safetensors' comfyui/vae/mine.safetensors"
    );
    let linked = Command::new("sh").args(["-c", &script]).current_dir(mount.directory()).output().expect("sh");
    assert!(linked.status.success(), "{linked:?}");
    assert_eq!(scene.face.requests().len(), asked_before, "nobody waited for the hub");
    let (style, mine) = (mount.path("comfyui/loras/style.safetensors"), mount.path("comfyui/vae/mine.safetensors"));
    let hit = fs::metadata(mount.path(format!("{HIT}/style.safetensors"))).expect("listed");
    for path in [&style, &mine] {
        let of = fs::metadata(path).expect("at once");
        assert_eq!((of.ino(), of.len()), (hit.ino(), scene.bytes.len() as u64), "{}", path.display());
    }
    assert_eq!(modelfs_xattr(&style, "state").as_deref(), Some("remote"));
    assert_eq!(modelfs_xattr(&style, "source").as_deref(), Some("huggingface"));
    assert_eq!(modelfs_xattr(&style, "type").as_deref(), Some("lora"), "its folder says so");
    assert!(mount.path("by/source/huggingface/style.safetensors").exists());
    assert_eq!(listed(&scene), ["here.safetensors", "style.safetensors"]);
    mount.unmount();

    // It survives a remount, and is read like any other.
    let mount = mounted(&scene);
    assert_eq!(names(&mount, "comfyui/vae"), ["mine.safetensors"]);
    assert_eq!(modelfs_xattr(&style, "state").as_deref(), Some("remote"));
    assert_eq!(sha256_of_file(&mine).expect("readable"), sha256_of(&scene.bytes));
    eventually("it is here", DONE_MAX, || modelfs_xattr(&style, "state").as_deref() == Some("resident"));

    fs::remove_file(&mine).expect("taken away");
    assert!(style.exists() && !mine.exists(), "the other link stays");
    fs::remove_file(&style).expect("taken away");
    assert!(!style.exists() && !mount.path("by/source/huggingface/style.safetensors").exists());
    assert_eq!(listed(&scene), ["here.safetensors"]);
    assert!(mount.path(format!("{HIT}/style.safetensors")).exists(), "the hub still has it");

    // Again, and under the same names: nothing of the first time is in the way.
    let found = mount.path(format!("{HIT}/style.safetensors"));
    fs::hard_link(&found, &style).expect("linked again");
    assert_eq!(names(&mount, "comfyui/loras"), ["here.safetensors", "style.safetensors"]);
    for name in ["style.safetensors", "another.safetensors"] {
        scene.sandbox.run(["rm", "style.safetensors"]).success();
        eventually("it is out of sight", DONE_MAX, || names(&mount, "comfyui/loras") == ["here.safetensors"]);
        fs::hard_link(&found, mount.path(format!("comfyui/loras/{name}"))).expect("linked after `modelfs rm`");
        assert!(names(&mount, "comfyui/loras").contains(&name.to_owned()), "{name}");
    }
    mount.unmount();
    scene.sandbox.run(["verify"]).success();
}

#[test]
fn what_is_added_too_stays_without_its_link() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = mounted(&scene);
    let mine = mount.path("comfyui/vae/mine.safetensors");
    fs::hard_link(mount.path(format!("{HIT}/style.safetensors")), &mine).expect("linked");
    scene.sandbox.run(["add", "hf:ann/anime-xl"]).success();
    fs::remove_file(&mine).expect("taken away");
    assert!(!mine.exists());
    assert_eq!(listed(&scene), ["here.safetensors", "style.safetensors"]);
    mount.unmount();

    // One whose link went before is a model again.
    let scene = self::scene();
    let mount = mounted(&scene);
    let mine = mount.path("comfyui/vae/mine.safetensors");
    fs::hard_link(mount.path(format!("{HIT}/style.safetensors")), &mine).expect("linked");
    fs::remove_file(&mine).expect("taken away");
    assert_eq!(listed(&scene), ["here.safetensors"]);
    scene.sandbox.run(["add", "hf:ann/anime-xl"]).success();
    assert_eq!(listed(&scene), ["here.safetensors", "style.safetensors"]);
    mount.unmount();
}

#[test]
fn what_a_directory_allows_is_what_access_says() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = mounted(&scene);
    let file = mount.path(format!("{HIT}/style.safetensors"));
    for (directory, expected) in [
        ("comfyui/loras", Ok(())),
        ("comfyui/_unsorted", Ok(())),
        ("comfyui", Err(libc::EROFS)),
        ("store", Err(libc::EROFS)),
        ("by/type/lora", Err(libc::EROFS)),
        ("search", Ok(())),
    ] {
        let directory = mount.path(directory);
        let told = access(&directory, libc::W_OK | libc::X_OK).map_err(|error| error.raw_os_error().expect("a number"));
        assert_eq!(told, expected, "{}", directory.display());
        assert_eq!(access(&directory, libc::R_OK | libc::X_OK).ok(), Some(()), "{}", directory.display());
        let name = directory.join("a name.safetensors");
        let link = fs::hard_link(&file, &name);
        // Below `search/` it is queries that are made.
        assert!(link.is_ok() == expected.is_ok() || directory.ends_with("search"), "{}: {link:?}", directory.display());
        if link.is_ok() {
            fs::remove_file(&name).expect("taken away");
        }
    }
    let config = mount.path(format!("{HIT}/config.json"));
    assert_eq!(errno(fs::hard_link(config, mount.path("comfyui/loras/config.json"))), Some(libc::EPERM), "no model");
    for (from, to) in [
        (HIT.to_owned(), format!("{QUERY}/huggingface/other")),
        (format!("{HIT}/style.safetensors"), format!("{HIT}/other.safetensors")),
        (format!("{HIT}/style.safetensors"), "comfyui/loras/other.safetensors".to_owned()),
        (format!("{QUERY}/huggingface"), format!("{QUERY}/other")),
    ] {
        assert_eq!(errno(fs::rename(mount.path(&from), mount.path(&to))), Some(libc::EPERM), "{from}");
        assert!(mount.path(&from).exists(), "{from}");
    }
    mount.unmount();
}

#[test]
fn a_repository_that_changed_is_looked_into_again_and_no_old_name_stays() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = mounted(&scene);
    assert_eq!(fs::read(mount.path(format!("{HIT}/config.json"))).expect("readable"), b"{}");
    // The answer and the look are written down.
    let kept = rusqlite::Connection::open(scene.sandbox.store().join("modelhub.db")).expect("open");
    let written =
        || -> String { kept.query_row("SELECT hits FROM hub_answers", [], |row| row.get(0)).unwrap_or_default() };
    eventually("what was found is kept", DONE_MAX, || written().contains("config.json"));
    mount.unmount();
    // As it is an hour later.
    let old = written().replace("\"looked\":", "\"looked\":1,\"looked before\":");
    kept.execute("UPDATE hub_answers SET hits = ?1", [&old]).expect("written");
    drop(kept);
    scene.face.repo("ann/anime-xl").lfs("new/other.safetensors", lora(9)).file("config.json", "{ }");

    let mount = scene.sandbox.mount(&[]);
    let config = mount.path(format!("{HIT}/config.json"));
    eventually("the new files", DONE_MAX, || names(&mount, HIT) == ["config.json", "new", "style.safetensors"]);
    eventually("the new content", DONE_MAX, || fs::read(&config).is_ok_and(|bytes| bytes == b"{ }"));
    assert_eq!(fs::read(mount.path(format!("{HIT}/new/other.safetensors"))).expect("readable"), lora(9));
    assert_eq!(
        sha256_of_file(&mount.path(format!("{HIT}/style.safetensors"))).expect("readable"),
        sha256_of(&scene.bytes)
    );
    mount.unmount();
}

#[test]
fn what_nobody_looks_at_any_more_is_forgotten_and_can_be_found_again() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = mounted(&scene);
    let stored = mount.path(format!("store/{}", sha256_of(&scene.bytes)));
    assert!(stored.exists(), "a content that is known");
    fs::remove_dir(mount.path(QUERY)).expect("nobody looks any more");
    mount.unmount();
    let catalog = || rusqlite::Connection::open(scene.sandbox.store().join("modelhub.db")).expect("a database");
    // As it is long after.
    let aged = catalog().execute("UPDATE blobs SET mtime_ns = 1", []).expect("written");
    assert_eq!(aged, 3, "two files of the repository, and the model that is here");

    let mount = scene.sandbox.mount(&[]);
    assert!(stored.exists(), "nothing is forgotten by itself");
    fs::create_dir(mount.path("search/xl source:huggingface")).expect("made");
    eventually("it is forgotten", DONE_MAX, || !stored.exists());
    let rows: i64 = catalog().query_row("SELECT count(*) FROM blobs", [], |row| row.get(0)).expect("a number");
    assert_eq!(rows, 1);
    assert_eq!(listed(&scene), ["here.safetensors"], "what is registered stays");
    let found = mount.path("search/xl source:huggingface/huggingface/ann--anime-xl/style.safetensors");
    eventually("it is found again", DONE_MAX, || found.exists());
    assert_eq!(sha256_of_file(&found).expect("readable"), sha256_of(&scene.bytes));
    mount.unmount();
    scene.sandbox.run(["verify"]).success();
}

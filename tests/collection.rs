//! A collection on this machine: import, mount, look, change, remount.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::fake_hub::sha256_of;
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, names, walk, xattr_names};
use support::tiny::lora;

/// DESIGN: a change made by another process is visible within 250 ms; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(20);
const APPS: [&str; 3] = ["comfyui/loras", "forge/Lora", "a1111/Lora"];

fn ls(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    sandbox.run(["ls", "--json"]).success().json().as_array().expect("an array").clone()
}

#[test]
fn every_application_finds_a_model_and_its_bytes_are_stored_once() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    let bytes = lora(1);
    sandbox.write("ComfyUI/models/loras/style.safetensors", &bytes);
    sandbox.write("webui/models/Lora/style.safetensors", &bytes);
    let summary = sandbox.run(["import", "--json", "ComfyUI", "webui"]).success().json();
    assert_eq!((summary["new"].as_u64(), summary["already_there"].as_u64()), (Some(1), Some(1)), "{summary}");
    assert_eq!(summary["saved_bytes"].as_u64(), Some(bytes.len() as u64), "{summary}");

    let mount = sandbox.mount(&[]);
    let sha256 = sha256_of(&bytes);
    let stored = format!("store/{sha256}/style.safetensors");
    let mut expected: BTreeSet<String> = APPS.iter().map(|app| format!("{app}/style.safetensors")).collect();
    expected.extend(
        ["by/type/lora", "by/base/sd1", "by/source/local", "by/state/resident"]
            .map(|folder| format!("{folder}/style.safetensors")),
    );
    expected.insert(stored.clone());
    let found: BTreeSet<String> =
        walk(mount.directory()).into_iter().filter(|path| path.ends_with("style.safetensors")).collect();
    assert!(expected.is_subset(&found), "missing: {:?}", expected.difference(&found).collect::<Vec<_>>());

    let first = fs::metadata(mount.path(&stored)).expect("a file");
    for path in &found {
        let metadata = fs::metadata(mount.path(path)).expect("a file");
        assert_eq!(fs::read(mount.path(path)).expect("readable"), bytes, "{path}");
        assert_eq!(
            (metadata.ino(), metadata.size(), metadata.mtime_nsec()),
            (first.ino(), first.size(), first.mtime_nsec())
        );
        assert_eq!(metadata.nlink(), found.len() as u64, "{path}");
        assert_eq!(metadata.mode() & 0o222, 0, "{path} can be written");
    }
    assert_eq!(disk_use(mount.directory()), first.blocks() / 2, "du counts the file once");
    assert_eq!(modelfs_xattr(&mount.path(&stored), "state").as_deref(), Some("resident"));
    assert_eq!(modelfs_xattr(&mount.path(&stored), "progress").as_deref(), Some("100.00"));
    assert_eq!(modelfs_xattr(&mount.path(&stored), "sha256"), Some(sha256));
    assert!(xattr_names(&mount.path(&stored)).expect("names").contains(&"user.modelfs.type".to_owned()));
    mount.unmount();
}

/// KiB of all regular files below a directory, as `du` counts them.
fn disk_use(directory: &Path) -> u64 {
    let output =
        Command::new("du").args(["-sk", "--exclude=.modelfs"]).arg(directory).output().expect("du is everywhere");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn two_files_with_one_name_keep_their_names_for_ever() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("one/same.safetensors", lora(1));
    sandbox.write("two/same.safetensors", lora(2));
    sandbox.run(["import", "one"]).success();
    sandbox.run(["import", "two"]).success();
    let marked = format!("same~{}.safetensors", &sha256_of(&lora(2))[..10]);
    let expected = vec!["same.safetensors".to_owned(), marked.clone()];

    let mount = sandbox.mount(&[]);
    for app in APPS {
        assert_eq!(names(&mount, app), expected, "{app}");
        assert_eq!(fs::read(mount.path(app).join("same.safetensors")).expect("readable"), lora(1));
        assert_eq!(fs::read(mount.path(app).join(&marked)).expect("readable"), lora(2));
    }
    let inode =
        |mount: &Mounted, name: &str| fs::metadata(mount.path("comfyui/loras").join(name)).expect("a file").ino();
    let before = (inode(&mount, "same.safetensors"), inode(&mount, &marked));
    mount.unmount();

    sandbox.write("three/same.safetensors", lora(3));
    sandbox.run(["import", "three"]).success();
    let mount = sandbox.mount(&[]);
    assert_eq!((inode(&mount, "same.safetensors"), inode(&mount, &marked)), before, "inode numbers survive a remount");
    for app in APPS {
        assert_eq!(fs::read(mount.path(app).join("same.safetensors")).expect("readable"), lora(1));
        assert_eq!(fs::read(mount.path(app).join(&marked)).expect("readable"), lora(2));
        assert_eq!(names(&mount, app).len(), 3, "{app}");
    }
    mount.unmount();
}

#[test]
fn what_another_process_imports_appears_with_a_new_directory_time() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("a/first.safetensors", lora(1));
    sandbox.run(["import", "a"]).success();
    let mount = sandbox.mount(&[]);
    let time = |folder: &str| fs::metadata(mount.path(folder)).expect("a folder").modified().expect("a time");
    let (loras, checkpoints) = (time("comfyui/loras"), time("comfyui/checkpoints"));
    // Both answers are in the kernel's caches now.
    assert_eq!(names(&mount, "comfyui/loras"), ["first.safetensors"]);
    assert!(!mount.path("comfyui/loras/second.safetensors").exists());

    sandbox.write("b/second.safetensors", lora(2));
    sandbox.run(["import", "b"]).success();
    eventually("the new model is listed", VISIBLE_MAX, || names(&mount, "comfyui/loras").len() == 2);
    eventually("the new model is found by name", VISIBLE_MAX, || mount.path("forge/Lora/second.safetensors").exists());
    eventually("the folder has a new time", VISIBLE_MAX, || time("comfyui/loras") > loras);
    assert_eq!(time("comfyui/checkpoints"), checkpoints, "a folder whose listing stays keeps its time");
    let after = time("comfyui/loras");
    mount.unmount();
    let mount = sandbox.mount(&[]);
    let time = fs::metadata(mount.path("comfyui/loras")).expect("a folder").modified().expect("a time");
    assert_eq!(time, after, "times survive a remount");
    mount.unmount();
}

#[test]
fn a_second_import_reads_nothing_again() {
    let sandbox = Sandbox::new();
    for number in 0..5 {
        sandbox.write(format!("models/{number}.safetensors"), lora(number));
    }
    sandbox.run(["import", "models"]).success();
    let again = sandbox.run(["scan", "--json", "models"]).success().json();
    assert_eq!((again["new"].as_u64(), again["unchanged"].as_u64()), (Some(0), Some(5)), "{again}");
    assert_eq!(ls(&sandbox).len(), 5);
}

#[test]
fn what_is_no_model_is_refused_with_its_reason_and_stops_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("in/good.safetensors", lora(1));
    sandbox.write("in/pointer.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    sandbox.write("in/page.safetensors", "<!DOCTYPE html><html><body>Sign in</body></html>");
    sandbox.write("in/answer.gguf", r#"{"error":"Repository not found"}"#);
    sandbox.write("in/cut.safetensors", &lora(2)[..lora(2).len() - 100]);
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{\"a\":1}");
    sandbox.write("in/huge.safetensors", huge);
    sandbox.write("in/notes.txt", "no model at all");
    let finished = sandbox.run(["import", "--json", "in"]).code(1);
    let summary = finished.json();
    assert_eq!(summary["new"].as_u64(), Some(1), "{summary}");
    let refused = summary["refused"].as_array().expect("an array");
    assert_eq!(refused.len(), 5, "{summary}");
    for refusal in refused {
        let path = refusal["path"].as_str().expect("a path");
        assert!(finished.stderr.contains(path), "{path} is not told on stderr:\n{}", finished.stderr);
        for key in ["reason", "remedy"] {
            assert!(refusal[key].as_str().is_some_and(|text| !text.is_empty()), "{refusal}");
        }
    }
    // Nothing of them is in the store, and they lie where they lay.
    assert_eq!(walk(&sandbox.store().join("models")).len(), 1);
    assert!(sandbox.path("in/cut.safetensors").exists());
    sandbox.run(["verify"]).success();
}

#[test]
fn modes_take_what_they_say() {
    let sandbox = Sandbox::new();
    let bytes = lora(7);
    for (number, mode) in (71..).zip(["copy", "move", "link"]) {
        sandbox.write(format!("{mode}/{mode}.safetensors"), lora(number));
    }
    let dry = sandbox.run(["import", "--dry-run", "--json", "--mode", "copy", "copy"]).success().json();
    assert_eq!((dry["mode"].as_str(), dry["files"].as_u64()), (Some("copy"), Some(1)), "{dry}");
    assert!(dry["modes"]["copy"].as_u64().is_some_and(|taken| taken > bytes.len() as u64 / 2), "{dry}");
    assert_eq!(dry["modes"]["link"].as_u64(), Some(0), "{dry}");
    assert!(ls(&sandbox).is_empty(), "a dry run changes nothing");

    sandbox.run(["import", "--mode", "copy", "copy"]).success();
    sandbox.run(["import", "--mode", "move", "--leave-symlink", "move"]).success();
    sandbox.run(["import", "--mode", "link", "link"]).success();
    assert!(sandbox.path("copy/copy.safetensors").exists());
    let moved = fs::read_link(sandbox.path("move/move.safetensors")).expect("a symlink where the original was");
    assert!(moved.starts_with(sandbox.store().canonicalize().expect("a store")), "{moved:?}");
    assert_eq!(fs::read(sandbox.path("move/move.safetensors")).expect("readable"), lora(72));
    // Two are stored, the linked one is not.
    assert_eq!(walk(&sandbox.store().join("models")).len(), 2);
    assert_eq!(ls(&sandbox).len(), 3);
}

#[test]
fn a_linked_file_that_changes_is_noticed() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    let original = sandbox.write("link/it.safetensors", lora(1));
    sandbox.run(["import", "--mode", "link", "link"]).success();
    let mount = sandbox.mount(&[]);
    let seen = mount.path("comfyui/loras/it.safetensors");
    assert_eq!(fs::read(&seen).expect("readable"), lora(1));
    fs::write(&original, lora(2)).expect("writable");
    let error =
        fs::File::open(&seen).and_then(|mut file| std::io::Read::read(&mut file, &mut [0; 8])).expect_err("it changed");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
    mount.unmount();
    sandbox.run(["verify"]).code(7);
}

#[test]
fn nothing_can_be_changed_through_the_mount() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/a.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let file = mount.path("comfyui/loras/a.safetensors");
    let other = mount.path("comfyui/loras/b.safetensors");
    let attempts: Vec<(&str, std::io::Result<()>)> = vec![
        ("open for writing", fs::File::options().write(true).open(&file).map(drop)),
        ("create", fs::File::create(&other).map(drop)),
        ("mkdir", fs::create_dir(mount.path("comfyui/loras/new"))),
        ("rename", fs::rename(&file, &other)),
        ("unlink", fs::remove_file(&file)),
        ("rmdir", fs::remove_dir(mount.path("comfyui/loras"))),
        ("link", fs::hard_link(&file, mount.path("comfyui/b.safetensors"))),
        ("symlink", std::os::unix::fs::symlink("x", &other)),
        ("truncate", fs::File::options().write(true).truncate(true).open(&file).map(drop)),
    ];
    for (what, outcome) in attempts {
        let error = outcome.expect_err(what);
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{what}: {error}");
    }
    assert_eq!(fs::read(&file).expect("readable"), lora(1));
    mount.unmount();
}

#[test]
fn applications_are_enabled_and_disabled_while_mounted() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/a.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    assert!(!mount.path("swarmui").exists());
    sandbox.run(["app", "enable", "swarmui"]).success();
    eventually("swarmui is there", VISIBLE_MAX, || mount.path("swarmui").is_dir());
    let found: Vec<PathBuf> = walk(&mount.path("swarmui")).into_iter().map(PathBuf::from).collect();
    assert!(found.iter().any(|path| path.ends_with("a.safetensors")), "{found:?}");
    sandbox.run(["app", "disable", "swarmui"]).success();
    eventually("swarmui is gone", VISIBLE_MAX, || !mount.path("swarmui").exists());
    sandbox.run(["app", "enable", "no-such-app"]).code(4);
    mount.unmount();
}

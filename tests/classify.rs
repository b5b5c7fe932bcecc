//! What models are said to be: judged again, explained, and decided by hand, in a mount that follows.

mod support;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr, xattr};
use support::tiny::lora;

/// A change is visible within 250 ms; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(20);

fn remove_xattr(path: &Path, name: &str) -> std::io::Result<()> {
    let (path, name) =
        (CString::new(path.as_os_str().as_bytes()).expect("a path"), CString::new(name).expect("a name"));
    // SAFETY: both are texts that end with a zero and live through the call.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn info(sandbox: &Sandbox, reference: &str) -> serde_json::Value {
    sandbox.run(["info", reference, "--json"]).success().json()
}

#[test]
fn a_decision_by_hand_moves_the_model_and_outlives_everything() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/style.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let (old, new) =
        (mount.path("comfyui/loras/style.safetensors"), mount.path("comfyui/upscale_models/style.safetensors"));
    assert!(old.exists());

    let told = sandbox.run(["classify", "--set", "upscaler/sdxl", "style.safetensors"]).success().stdout;
    assert!(told.contains("upscaler / sdxl, by hand"), "{told}");
    eventually("the name moves", VISIBLE_MAX, || new.exists() && !old.exists());
    assert_eq!(fs::read(&new).expect("readable"), lora(1));
    assert_eq!(modelfs_xattr(&new, "method").as_deref(), Some("manual"));

    // Neither a new judgement nor another import of the same bytes changes it.
    sandbox.run(["classify", "--all"]).success();
    sandbox.write("models/loras/again.safetensors", lora(1));
    sandbox.run(["import", "models"]).success();
    let is = info(&sandbox, "style.safetensors");
    assert_eq!((is["type"].as_str(), is["base"].as_str()), (Some("upscaler"), Some("sdxl")), "{is}");
    let explained = sandbox.run(["classify", "--explain", "style.safetensors"]).success().stdout;
    for word in ["by hand", "rules that fired", "lora", "why nothing else"] {
        assert!(explained.contains(word), "`{word}` is missing:\n{explained}");
    }

    sandbox.run(["classify", "--unset", "style.safetensors"]).success();
    eventually("the name is back", VISIBLE_MAX, || old.exists() && !new.exists());
    let is = info(&sandbox, "style.safetensors");
    assert_eq!((is["type"].as_str(), is["base"].as_str()), (Some("lora"), Some("sd1")), "{is}");
    assert!(is["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{is}");
    mount.unmount();
    sandbox.run(["classify", "--set", "no-such-type", "style.safetensors"]).code(2);
    sandbox.run(["classify", "--set", "lora", "no-such-model"]).code(4);
}

#[test]
fn attributes_decide_too_and_give_way_when_they_are_removed() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/style.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let stored = fs::read_dir(mount.path("store")).expect("a folder").next().expect("one").expect("an entry").path();
    let file = stored.join("style.safetensors");
    let (old, new) = (mount.path("comfyui/loras/style.safetensors"), mount.path("comfyui/vae/style.safetensors"));

    set_xattr(&file, "user.modelfs.type", "vae").expect("the owner may");
    set_xattr(&file, "user.modelfs.base", "flux1").expect("the owner may");
    assert!(new.exists(), "visible when the call returns");
    eventually("the old name is gone from the kernel's caches", VISIBLE_MAX, || !old.exists());
    assert_eq!(modelfs_xattr(&file, "base").as_deref(), Some("flux1"));
    remove_xattr(&file, "user.modelfs.type").expect("the owner may");
    assert_eq!(modelfs_xattr(&file, "type").as_deref(), Some("lora"));
    assert_eq!(modelfs_xattr(&file, "base").as_deref(), Some("flux1"), "the other decision stays");
    remove_xattr(&file, "user.modelfs.base").expect("the owner may");
    assert_eq!(modelfs_xattr(&file, "base").as_deref(), Some("sd1"));

    set_xattr(&file, "user.xdg.tags", "anime, style").expect("the owner may");
    assert_eq!(xattr(&file, "user.modelfs.tags").expect("readable").as_deref(), Some("anime,style"));
    assert!(mount.path("by/tag/anime/style.safetensors").exists());
    sandbox.run(["tag", "style.safetensors", "+mine", "-anime"]).success();
    let tagged = mount.path("by/tag/mine/style.safetensors");
    eventually("the tag has its folder", VISIBLE_MAX, || tagged.exists());
    assert!(sandbox.run(["tag", "style.safetensors"]).success().stdout.contains("mine, style"));
    eventually("the xattr follows", VISIBLE_MAX, || modelfs_xattr(&file, "tags").as_deref() == Some("mine,style"));
    remove_xattr(&file, "user.modelfs.tags").expect("the owner may");
    assert_eq!(modelfs_xattr(&file, "tags"), None);

    for (name, value, code) in [
        ("user.modelfs.type", "loras", libc::EINVAL),
        ("user.modelfs.base", "No Base", libc::EINVAL),
        ("user.modelfs.tags", &"/".repeat(90), libc::EINVAL),
        ("user.modelfs.sha256", "00", libc::EPERM),
    ] {
        let error = set_xattr(&file, name, value).expect_err(name);
        assert_eq!(error.raw_os_error(), Some(code), "{name}");
    }
    mount.unmount();
}

#[test]
fn files_outside_the_store_are_told_without_one() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("Downloads/what.safetensors", lora(3));
    let file = file.to_str().expect("plain");
    let told = sandbox.run(["classify", file]).success().stdout;
    assert!(told.contains("what.safetensors: lora / sd1"), "{told}");
    assert!(!sandbox.store().exists(), "nothing was made");
    let told = sandbox.run(["classify", "--json", file]).success().json();
    assert_eq!((told[0]["type"].as_str(), told[0]["safety"].as_str()), (Some("lora"), Some("safe")), "{told}");
    let cut = sandbox.write("Downloads/cut.safetensors", &lora(3)[..300]);
    let told = sandbox.run(["classify", "--json", cut.to_str().expect("plain")]).success().json();
    assert_eq!(told[0]["type"].as_str(), Some("unknown"), "{told}");
    assert!(told[0]["error"].as_str().is_some_and(|why| why.contains("cut.safetensors")), "{told}");
    sandbox.run(["classify", "Downloads/no-such-file.safetensors"]).code(4);
}

#[test]
fn what_newer_rules_would_change_is_told_first() {
    let sandbox = Sandbox::new();
    for number in 0..40 {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    sandbox.run(["import", "in"]).success();
    let none = sandbox.run(["classify", "--diff", "--json"]).success().json();
    assert_eq!((none["judged"].as_u64(), none["changes"].as_array().map(Vec::len)), (Some(40), Some(0)), "{none}");
    // As an older program with other rules left them, in folders that are there.
    sandbox.run(["classify", "--set", "vae", "1.safetensors"]).success();
    sandbox.run(["classify", "--unset", "1.safetensors"]).success();
    let database = rusqlite::Connection::open(sandbox.store().join("modelhub.db")).expect("a database");
    database.execute_batch("UPDATE models SET primary_type = 'vae' WHERE id <= 30").expect("older verdicts");
    drop(database);
    let preview = sandbox.run(["classify", "--diff", "--json"]).success().json();
    assert_eq!(preview["changes"].as_array().map(Vec::len), Some(30), "{preview}");
    assert_eq!(preview["changes"][0]["after"]["type"].as_str(), Some("lora"), "{preview}");
    let of_type = |word: &str| {
        let all = sandbox.run(["ls", "--json"]).success().json();
        all.as_array().expect("an array").iter().filter(|row| row["type"].as_str() == Some(word)).count()
    };
    assert_eq!(of_type("vae"), 30, "a preview changes nothing");
    let done = sandbox.run(["classify", "--json"]).success().json();
    assert_eq!((done["written"].as_bool(), done["changes"].as_array().map(Vec::len)), (Some(true), Some(30)), "{done}");
    assert_eq!(of_type("lora"), 40);
}

#[test]
fn a_rule_of_a_user_works_without_a_new_program_and_a_bad_one_is_told() {
    let sandbox = Sandbox::new();
    let tensors = support::samples::tensors::parse("gizmo.0.weight [8,8]\ngizmo.1.weight [8,8]");
    let torch = support::samples::torch_file::bytes("gizmo", &support::samples::torch_file::Object::state(tensors));
    sandbox.write("in/thing.pth", torch);
    sandbox.run(["import", "in"]).success();
    assert_eq!(info(&sandbox, "thing.pth")["type"].as_str(), Some("unknown"));
    let rules = rusqlite::Connection::open(sandbox.store().join("classification.db")).expect("a database");
    rules
        .execute_batch(
            "INSERT INTO architecture_patterns (architecture, pattern, primary_type, weight)
                VALUES ('gizmo', 'gizmo.', 'upscaler', 0.9), ('broken', '{', 'vae', 0.9);",
        )
        .expect("rows of a user");
    let preview = sandbox.run(["classify", "--diff"]).success();
    assert!(preview.stdout.contains("upscaler") && preview.stdout.contains("would change"), "{}", preview.stdout);
    assert_eq!(info(&sandbox, "thing.pth")["type"].as_str(), Some("unknown"), "a preview changes nothing");
    sandbox.run(["classify"]).success();
    assert_eq!(info(&sandbox, "thing.pth")["type"].as_str(), Some("upscaler"));
    let checks = sandbox.run(["doctor", "--json"]).json();
    let check = checks.as_array().expect("an array").iter().find(|check| check["name"] == "rules").expect("a check");
    assert_eq!(check["status"].as_str(), Some("notice"), "{check}");
    assert!(check["finding"].as_str().is_some_and(|text| text.contains("architecture_patterns row")), "{check}");
}

#[test]
fn a_running_mount_takes_up_the_rules_of_its_user() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    let torch = |seed: &str| {
        let tensors = support::samples::tensors::parse("gizmo.0.weight [8,8]\ngizmo.1.weight [8,8]");
        support::samples::torch_file::bytes(seed, &support::samples::torch_file::Object::state(tensors))
    };
    sandbox.write("in/thing.pth", torch("thing"));
    sandbox.write("in/other.pth", torch("other"));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let unsorted = |name: &str| mount.path(format!("comfyui/_unsorted/{name}"));
    let sorted = |name: &str| mount.path(format!("comfyui/upscale_models/{name}"));
    assert!(unsorted("thing.pth").exists() && unsorted("other.pth").exists());
    let rules = rusqlite::Connection::open(sandbox.store().join("classification.db")).expect("a database");
    let change = |sql: &str| rules.execute_batch(sql).expect("rows of a user");
    change(
        "INSERT INTO architecture_patterns (architecture, pattern, primary_type, weight) VALUES ('g', 'gizmo.', 'upscaler', 0.9)",
    );
    // The mount itself judges the one whose decision is taken back, by the rules of this moment.
    set_xattr(&unsorted("thing.pth"), "user.modelfs.type", "vae").expect("a decision");
    let decided = mount.path("comfyui/vae/thing.pth");
    eventually("the decision moves it", VISIBLE_MAX, || decided.exists());
    remove_xattr(&decided, "user.modelfs.type").expect("taken back");
    eventually("the new rule holds", VISIBLE_MAX, || sorted("thing.pth").exists());
    assert!(unsorted("other.pth").exists(), "nothing is judged again without being asked");
    sandbox.run(["classify"]).success();
    eventually("judged again", VISIBLE_MAX, || sorted("other.pth").exists() && !unsorted("other.pth").exists());
    // A rule that is gone holds no longer.
    change("DELETE FROM architecture_patterns WHERE architecture = 'g'");
    sandbox.run(["classify"]).success();
    eventually("as before", VISIBLE_MAX, || unsorted("thing.pth").exists() && unsorted("other.pth").exists());
}

#[test]
fn no_file_is_read_to_judge_again_and_a_mount_follows() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    for number in 0..40 {
        sandbox.write(format!("in/{number}.safetensors"), lora(number));
    }
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let (old, new) = (mount.path("comfyui/loras"), mount.path("comfyui/upscale_models"));
    let names_in = |folder: &Path| fs::read_dir(folder).expect("a folder").count();
    assert_eq!((names_in(&old), names_in(&new)), (40, 0));
    // Every content is gone and every file that could be looked at instead.
    for content in fs::read_dir(sandbox.store().join("models")).expect("the store's own") {
        fs::remove_dir_all(content.expect("an entry").path()).expect("removable");
    }
    fs::remove_dir_all(sandbox.path("in")).expect("the originals");
    let rules = rusqlite::Connection::open(sandbox.store().join("classification.db")).expect("a database");
    rules
        .execute_batch(
            "INSERT INTO architecture_patterns (architecture, pattern, primary_type, weight)
                VALUES ('mine', 'lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight', 'upscaler', 1.0)",
        )
        .expect("a row of a user");
    let preview = sandbox.run(["classify", "--diff", "--json"]).success().json();
    assert_eq!(preview["changes"].as_array().map(Vec::len), Some(40), "{preview}");
    assert_eq!((names_in(&old), names_in(&new)), (40, 0), "a preview changes nothing");
    sandbox.run(["classify"]).success();
    eventually("the mount follows", VISIBLE_MAX, || (names_in(&old), names_in(&new)) == (0, 40));
    mount.unmount();
}

#[test]
fn how_sure_a_type_must_be_holds_everywhere() {
    let mut sandbox = Sandbox::new();
    sandbox.write("style.safetensors", lora(1));
    let told = |sandbox: &Sandbox| sandbox.run(["classify", "./style.safetensors"]).success().stdout;
    assert!(told(&sandbox).contains("lora / sd1"), "{}", told(&sandbox));
    sandbox.set("MODELFS_CLASSIFY_THRESHOLD", "0.999");
    assert!(!sandbox.store().exists());
    assert!(told(&sandbox).contains("unknown"), "without a store: {}", told(&sandbox));
    sandbox.run(["import", "style.safetensors"]).success();
    assert_eq!(info(&sandbox, "style.safetensors")["type"].as_str(), Some("unknown"));
    assert!(told(&sandbox).contains("unknown"), "with one: {}", told(&sandbox));
    sandbox.set("MODELFS_CLASSIFY_THRESHOLD", "0.7");
    let shown = sandbox.run(["config", "show", "--json"]).success().json();
    assert_eq!(shown["classify.threshold"]["value"].to_string(), "0.7");
    sandbox.run(["classify"]).success();
    assert_eq!(info(&sandbox, "style.safetensors")["type"].as_str(), Some("lora"));
}

#[test]
fn every_facet_has_its_folder_and_a_word_that_is_no_name_is_escaped() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/style.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    for facet in ["type/lora", "base/sd1", "source/local", "state/resident", "format/safetensors"] {
        assert!(mount.path(format!("by/{facet}/style.safetensors")).exists(), "{facet}");
    }
    // Each is a tag of its own, in a folder of its own.
    let tags =
        [("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("..", "%2E."), (".a", "%2Ea"), ("100%", "100%"), ("a\nb", "a%0Ab")];
    let tags = [&tags[..], &[("\u{e9}", "\u{e9}"), ("e\u{301}", "e\u{301}")]].concat();
    let file = mount.path("by/type/lora/style.safetensors");
    let all: Vec<&str> = tags.iter().map(|(tag, _)| *tag).collect();
    set_xattr(&file, "user.modelfs.tags", &all.join(",")).expect("the owner may");
    for (tag, folder) in &tags {
        let folder = mount.path(format!("by/tag/{folder}"));
        assert!(folder.join("style.safetensors").exists(), "{tag:?}");
        assert_eq!(modelfs_xattr(&folder, "name").as_deref(), Some(*tag));
    }
    let shown = fs::read_dir(mount.path("by/tag")).expect("a folder").count();
    assert_eq!(shown, tags.len());
    let told = info(&sandbox, "style.safetensors");
    let mut expected = all.clone();
    expected.sort_unstable();
    assert_eq!(told["tags"], serde_json::json!(expected), "as they were given");
    let found = sandbox.run(["search", "tag:a/b", "--json"]).success().json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let path = mount.path("by/tag/a%2Fb/style.safetensors");
    assert_eq!(info(&sandbox, path.to_str().expect("a text"))["name"], "style.safetensors");
    sandbox.run(["tag", "style.safetensors", "-a/b"]).success();
    eventually("the tag is gone from its folder", VISIBLE_MAX, || !path.exists());
    mount.unmount();

    let mount = sandbox.mount(&[]);
    assert!(mount.path("by/tag/a%0Ab/style.safetensors").exists());
    assert!(!mount.path("by/tag/a%2Fb/style.safetensors").exists());
    mount.unmount();
}

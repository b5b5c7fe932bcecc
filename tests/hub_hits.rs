//! Queries below `search/` that name hubs: what hubs answer, as directories of files that are read on demand.

mod support;

use std::fs::{self, File as OpenFile};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::fake_civitai::{Access, Facts, FakeCivitai, File, Version};
use support::fake_hub::{Content, FakeHub, Fault, sha256_of, sha256_of_file};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, names};
use support::tiny::{large_lora, lora};

const MIB: usize = 1 << 20;
/// A hub of this machine answers in milliseconds; the rest is for a loaded one.
const DONE_MAX: Duration = Duration::from_secs(20);
/// No call of the kernel waits for a hub: less than the eight seconds for which a silent one is waited for.
const AT_ONCE_MAX: Duration = Duration::from_secs(7);
const QUERY: &str = "search/anime source:all";
const HIT: &str = "search/anime source:all/huggingface/ann--anime-xl";

fn xattr(mount: &Mounted, folder: &str, name: &str) -> Option<String> {
    modelfs_xattr(&mount.path(folder), name)
}

fn settled(mount: &Mounted, folder: &str, expected: &str) {
    eventually(folder, DONE_MAX, || xattr(mount, folder, "state").as_deref() != Some("searching"));
    assert_eq!(xattr(mount, folder, "state").as_deref(), Some(expected), "{:?}", xattr(mount, folder, "error"));
}

struct Scene {
    face: FakeHub,
    civitai: FakeCivitai,
    sandbox: Sandbox,
    bytes: Vec<u8>,
}

/// One repository at each of two hubs, a third hub that nobody runs, and one model here.
fn scene() -> Scene {
    let (face, civitai) = (FakeHub::start(), FakeCivitai::start());
    let bytes = large_lora(1, 3 * MIB);
    face.repo("ann/anime-xl").tag("lora").lfs("loras/style.safetensors", bytes.clone()).file("config.json", "{}");
    face.repo("ann/anime-xl").lfs("weights.safetensors", large_lora(7, MIB));
    face.repo("ann/landscape").file("x.txt", "x");
    let file = File::new(34, "lines.safetensors", Content::from(lora(2)));
    let facts = Facts { name: "Anime lines!".to_owned(), ..Facts::default() };
    civitai.model(12, "LORA", vec![Version::new(56, Access::Public, vec![file])]).facts(12, &facts);
    let mut sandbox = Sandbox::new();
    sandbox
        .set("HF_ENDPOINT", &face.endpoint())
        .set("MODELFS_CIVITAI_ENDPOINT", &civitai.origins.endpoint())
        // Nobody listens there: the connection is refused at once.
        .set("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1");
    sandbox.write("in/anime here.safetensors", lora(3));
    sandbox.run(["import", "in"]).success();
    Scene { face, civitai, sandbox, bytes }
}

#[test]
fn what_hubs_answer_is_listed_and_read_on_demand() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = scene.sandbox.mount(&[]);
    fs::create_dir(mount.path(QUERY)).expect("made at once");
    assert_eq!(names(&mount, QUERY), ["anime here.safetensors", "civitai", "huggingface", "modelscope"]);
    settled(&mount, QUERY, "failed");
    let told = xattr(&mount, QUERY, "error").expect("the hub that is not there");
    assert!(told.contains("modelscope: cannot reach") && !told.contains("huggingface"), "{told}");
    assert_eq!(xattr(&mount, QUERY, "count").as_deref(), Some("3"));
    assert_eq!(names(&mount, &format!("{QUERY}/huggingface")), ["ann--anime-xl"]);
    assert_eq!(names(&mount, &format!("{QUERY}/civitai")), ["12-anime-lines"]);
    assert_eq!(names(&mount, &format!("{QUERY}/modelscope")), [""; 0]);

    settled(&mount, HIT, "complete");
    assert_eq!(names(&mount, HIT), ["config.json", "loras", "weights.safetensors"]);
    let style = mount.path(format!("{HIT}/loras/style.safetensors"));
    assert_eq!(fs::metadata(&style).expect("listed").len(), scene.bytes.len() as u64);
    assert_eq!(modelfs_xattr(&style, "state").as_deref(), Some("remote"));
    assert_eq!(
        fs::metadata(mount.path("comfyui/loras/style.safetensors")).map(drop).map_err(|e| e.raw_os_error()),
        Err(Some(libc::ENOENT)),
        "it is no model of this store"
    );
    assert_eq!(scene.sandbox.run(["ls", "--json"]).success().json().as_array().map(Vec::len), Some(1));
    assert_eq!(sha256_of_file(&style).expect("readable"), sha256_of(&scene.bytes));
    let weights = mount.path(format!("{HIT}/weights.safetensors"));
    assert_eq!(fs::read(&weights).expect("readable"), large_lora(7, MIB));
    eventually("it is here", DONE_MAX, || modelfs_xattr(&weights, "state").as_deref() == Some("resident"));
    assert_eq!(fs::read(mount.path(format!("{HIT}/config.json"))).expect("readable"), b"{}");
    let listed = scene.sandbox.run(["ls", "--json"]).success().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "reading makes no model: {listed}");
    settled(&mount, &format!("{QUERY}/civitai/12-anime-lines"), "complete");
    assert_eq!(
        fs::read(mount.path(format!("{QUERY}/civitai/12-anime-lines/lines.safetensors"))).expect("readable"),
        lora(2)
    );

    // Registered, it is a model like any other, with the type its header tells.
    scene.sandbox.run(["add", "hf:ann/anime-xl", "civitai:12@56"]).success();
    eventually("it is in its folder", DONE_MAX, || mount.path("comfyui/loras/style.safetensors").exists());
    let info = scene.sandbox.run(["info", "--json", "style.safetensors"]).success().json();
    assert_eq!((info["type"].as_str(), info["state"].as_str()), (Some("lora"), Some("resident")), "{info}");

    let info = scene.sandbox.run(["info", "--json", "weights.safetensors"]).success().json();
    assert_eq!((info["type"].as_str(), info["method"].as_str()), (Some("lora"), Some("tensors")), "{info}");

    // Removing takes names away, and nothing else.
    let removed =
        Command::new("sh").args(["-c", "rm -rf search/*"]).current_dir(mount.directory()).output().expect("sh");
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(names(&mount, "search"), [""; 0]);
    assert_eq!(
        sha256_of_file(&mount.path("comfyui/loras/style.safetensors")).expect("readable"),
        sha256_of(&scene.bytes)
    );
    mount.unmount();
    assert_eq!(scene.sandbox.run(["ls", "--json"]).success().json().as_array().map(Vec::len), Some(4));
    scene.sandbox.run(["verify"]).success();
}

#[test]
fn an_answer_outlives_the_mount_and_is_there_offline() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mount = scene.sandbox.mount(&[]);
    let query = "search/anime source:huggingface";
    let hit = format!("{query}/huggingface/ann--anime-xl");
    fs::create_dir(mount.path(query)).expect("made at once");
    // A listing that was empty is not remembered.
    names(&mount, &format!("{query}/huggingface"));
    settled(&mount, query, "complete");
    assert_eq!(xattr(&mount, query, "error"), None);
    assert_eq!(names(&mount, &format!("{query}/huggingface")), ["ann--anime-xl"]);
    let time = || fs::metadata(mount.path(&hit)).expect("a directory").modified().expect("a time");
    let before = time();
    assert_eq!(names(&mount, &hit), [""; 0], "the first look begins to look");
    eventually("its files", DONE_MAX, || names(&mount, &hit) == ["config.json", "loras", "weights.safetensors"]);
    assert!(time() > before, "who polls the time sees that it filled");
    settled(&mount, &hit, "complete");
    let style = mount.path(format!("{hit}/loras/style.safetensors"));
    assert_eq!(sha256_of_file(&style).expect("readable"), sha256_of(&scene.bytes));
    eventually("it is here", DONE_MAX, || modelfs_xattr(&style, "state").as_deref() == Some("resident"));
    mount.unmount();

    scene.face.forget_requests();
    let mount = scene.sandbox.mount(&["--offline"]);
    assert_eq!(names(&mount, &hit), ["config.json", "loras", "weights.safetensors"]);
    assert_eq!(xattr(&mount, query, "state").as_deref(), Some("complete"));
    let told = xattr(&mount, query, "error").expect("it says so");
    assert!(told.contains("the network is switched off; this is what it answered at 20"), "{told}");
    let style = mount.path(format!("{hit}/loras/style.safetensors"));
    assert_eq!(sha256_of_file(&style).expect("it is here"), sha256_of(&scene.bytes));
    let new = "search/landscape source:huggingface";
    fs::create_dir(mount.path(new)).expect("made");
    assert_eq!(xattr(&mount, new, "state").as_deref(), Some("failed"));
    assert_eq!(names(&mount, &format!("{new}/huggingface")), [""; 0]);
    mount.unmount();
    assert!(scene.face.requests().is_empty(), "offline asks nobody");

    // Young enough, it is not asked for again.
    let mount = scene.sandbox.mount(&[]);
    assert_eq!(names(&mount, &hit), ["config.json", "loras", "weights.safetensors"]);
    settled(&mount, query, "complete");
    assert!(scene.face.requests().is_empty(), "{:?}", scene.face.requests().len());
    settled(&mount, new, "complete");
    assert_eq!(names(&mount, &format!("{new}/huggingface")), ["ann--landscape"]);
    mount.unmount();
}

#[test]
fn a_hub_that_hangs_holds_up_no_call_and_a_failure_is_told() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    let mut sandbox = scene.sandbox;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    sandbox.set("MODELSCOPE_ENDPOINT", &format!("http://{}", silent.local_addr().expect("bound")));
    scene.face.fault(Fault::Status(502));
    let mount = sandbox.mount(&[]);
    let start = Instant::now();
    fs::create_dir(mount.path(QUERY)).expect("made at once");
    assert_eq!(xattr(&mount, QUERY, "state").as_deref(), Some("searching"));
    assert_eq!(names(&mount, &format!("{QUERY}/modelscope")), [""; 0]);
    let hit = format!("{QUERY}/civitai/12-anime-lines");
    eventually("the others answer meanwhile", DONE_MAX, || mount.path(&hit).exists());
    assert!(start.elapsed() < AT_ONCE_MAX, "{:?}", start.elapsed());
    settled(&mount, QUERY, "failed");
    let told = xattr(&mount, QUERY, "error").expect("the reasons");
    assert!(told.contains("huggingface: ") && told.contains("502"), "{told}");
    assert!(told.contains("modelscope: modelscope did not answer in time"), "{told}");

    // What is asked for when somebody looks can fail too.
    scene.civitai.mode(12, "TakenDown");
    settled(&mount, &hit, "failed");
    assert!(xattr(&mount, &hit, "error").expect("the reason").contains("moderators"));
    assert_eq!(names(&mount, &hit), [""; 0]);
    fs::remove_dir(mount.path(QUERY)).expect("forgotten");
    assert_eq!(names(&mount, "search"), [""; 0]);
    mount.unmount();
}

#[test]
fn what_nobody_looked_through_is_not_handed_out_as_a_pickle() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    // Pickles written in letters alone: whoever looks for a header finds a text.
    let letters = |word: &str| format!("cos\nsystem\n(S'{word}'\ntR.").into_bytes();
    scene.face.repo("ann/anime-first").lfs("notes.txt", letters("one"));
    scene.face.repo("ann/anime-model").lfs("pytorch_model.bin", letters("one")).lfs("upscaler.pth", letters("two"));
    let mount = scene.sandbox.mount(&[]);
    let query = "search/anime source:huggingface";
    fs::create_dir(mount.path(query)).expect("made at once");
    settled(&mount, query, "complete");
    let repository = |name: &str| format!("{query}/huggingface/ann--anime-{name}");
    settled(&mount, &repository("first"), "complete");
    assert_eq!(fs::read(mount.path(format!("{}/notes.txt", repository("first")))).expect("a text"), letters("one"));
    settled(&mount, &repository("model"), "complete");
    for (name, known) in [("upscaler.pth", "by this name alone"), ("pytorch_model.bin", "as a text first")] {
        let opened = fs::File::open(mount.path(format!("{}/{name}", repository("model")))).map(drop);
        assert_eq!(opened.map_err(|error| error.raw_os_error()), Err(Some(libc::EACCES)), "known {known}");
    }
    mount.unmount();
}

#[test]
fn files_that_turn_out_to_be_one_are_never_stale() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let scene = scene();
    scene.face.repo("ann/anime-twin").file("config.json", "{}").file("other.txt", "x");
    let mount = scene.sandbox.mount(&[]);
    let query = "search/anime source:huggingface";
    let (hit, twin) = (format!("{query}/huggingface/ann--anime-xl"), format!("{query}/huggingface/ann--anime-twin"));
    fs::create_dir(mount.path(query)).expect("made at once");
    settled(&mount, query, "complete");
    settled(&mount, &hit, "complete");
    settled(&mount, &twin, "complete");
    assert_eq!(names(&mount, &twin), ["config.json", "other.txt"]);

    // No hash is published for either, so that they are one content is known when both are here.
    let config = mount.path(format!("{hit}/config.json"));
    assert_eq!(fs::read(&config).expect("readable"), b"{}");
    eventually("it is here", DONE_MAX, || modelfs_xattr(&config, "state").as_deref() == Some("resident"));
    // Whoever has a file open, or its number, is never told that it is gone because it turned out to be another.
    let same = mount.path(format!("{twin}/config.json"));
    let open = OpenFile::open(&same).expect("it opens");
    assert_eq!(fs::read(&same).expect("readable"), b"{}");
    eventually("it is here too", DONE_MAX, || {
        assert_eq!(open.metadata().expect("an open file has attributes").len(), 2);
        assert_eq!(fs::read(&same).expect("readable at any moment"), b"{}");
        modelfs_xattr(&same, "state").as_deref() == Some("resident")
    });
    drop(open);
    mount.unmount();

    let mount = scene.sandbox.mount(&[]);
    let number = |path: String| fs::metadata(mount.path(path)).expect("a file").ino();
    assert_eq!(names(&mount, &twin), ["config.json", "other.txt"], "what is known is shown at once");
    assert_eq!(number(format!("{twin}/config.json")), number(format!("{hit}/config.json")), "they are one");
    mount.unmount();
}

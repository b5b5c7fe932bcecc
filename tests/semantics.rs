//! docs/SEMANTICS.md, statement by statement: each row of its tables and each of its bullets has a test here, or names
//! the test elsewhere that shows it. A statement without one fails, so that nothing is promised that nobody checks.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use support::fake_hub::{Access, FakeHub, Fault, Place, Rule, sha256_of};
use support::mounted::{
    Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr, set_xattr, walk, xattr, xattr_names,
};
use support::tiny::{large_lora, lora};

/// Where a statement is shown to be true.
enum Shown {
    Here(fn(&Scene)),
    /// A file of `tests` or `src`, and a test in it.
    Elsewhere(&'static str, &'static str),
    /// A file whose every test is about this.
    In(&'static str),
}

use Shown::{Elsewhere, Here, In};

/// The first words of each statement. A statement of a table is its first cell; of several that fit the longest counts.
const STATEMENTS: &[(&str, Shown)] = &[
    // The directories.
    ("`/`", Here(the_root)),
    ("`<app>/…`", Here(an_application)),
    ("`<app>/_unsorted`", Here(unsorted)),
    ("`by/type/<t>`", Here(by_what_is_known)),
    ("`search/", In("tests/search_directories.rs")),
    ("`hubs/huggingface", Here(a_repository)),
    ("`hubs/civitai", Elsewhere("tests/hubs_civitai.rs", "a_version_is_listed_read_and_told_about")),
    (
        "`hubs/modelscope",
        Elsewhere("tests/hubs_modelscope.rs", "a_repository_is_listed_and_read_however_its_site_answers_ranges"),
    ),
    ("`store/<sha256>`", Here(store)),
    ("`.modelfs`", Here(live_files)),
    // Names.
    (
        "The first model of a name",
        Elsewhere("tests/collection.rs", "two_files_with_one_name_keep_their_names_for_ever"),
    ),
    ("A name that was given", Elsewhere("tests/semantics.rs", "a_name_outlives_its_application")),
    ("`modelfs rm REF`", Elsewhere("tests/removal.rs", "removing_either_of_two_equal_names_changes_no_other_name")),
    (
        "A creator or a tag may be any text",
        Elsewhere("tests/classify.rs", "every_facet_has_its_folder_and_a_word_that_is_no_name_is_escaped"),
    ),
    ("Names that cannot be shown", In("tests/hostile_import.rs")),
    // Numbers and times.
    ("`st_ino` is the same", Elsewhere("tests/collection.rs", "two_files_with_one_name_keep_their_names_for_ever")),
    ("A file's `st_mtime`", Elsewhere("tests/remote.rs", "a_remote_file_is_listed_read_verified_and_then_resident")),
    ("A directory's `st_mtime`", Here(directory_times)),
    (
        "A file without a published hash",
        Elsewhere("tests/hub_hits.rs", "files_that_turn_out_to_be_one_are_never_stale"),
    ),
    ("What another process changes", Here(another_process)),
    // Operations.
    ("`stat`", Here(stat)),
    ("`readdir`", Here(readdir)),
    ("`open` for reading", Here(open_for_reading)),
    ("`open` for writing", Here(open_for_writing)),
    ("`read`", Here(read)),
    ("`lseek`", Here(seek)),
    ("`flock`", Here(locks)),
    ("`getfattr`", Here(no_attributes_of_directories)),
    ("`setfattr -n user.modelfs.fetch", Here(fetch_attribute)),
    ("`setfattr -n user.modelfs.type", In("tests/classify.rs")),
    ("`setfattr -n user.modelfs.pinned", In("tests/commands.rs")),
    ("`setfattr -x`", In("tests/classify.rs")),
    ("`setfattr -x user.modelfs.type", In("tests/classify.rs")),
    ("any other `setfattr`", Here(other_attributes)),
    ("`create`", Here(changes)),
    ("`statfs`", Here(statfs)),
    // A file's states.
    ("Reading little", Elsewhere("tests/remote.rs", "a_remote_file_is_listed_read_verified_and_then_resident")),
    ("A complete file is hashed", Elsewhere("tests/remote.rs", "a_new_open_after_a_lie_starts_anew_every_time")),
    ("A handle or mapping", Elsewhere("tests/remote.rs", "an_old_handle_reads_through_the_moment_it_becomes_resident")),
    ("After a kill", Elsewhere("tests/crash.rs", "a_download_that_is_killed_goes_on_where_it_was")),
    ("`modelfs evict`", In("tests/commands.rs")),
    ("Over `store.cache_limit`", In("tests/limits.rs")),
    // Extended attributes.
    ("`user.modelfs.state`", Here(attributes_of_state)),
    ("`user.modelfs.progress`", Here(attributes_of_state)),
    ("`user.modelfs.bytes_present`", Here(attributes_of_state)),
    ("`user.modelfs.speed`", Here(fetch_attribute)),
    ("`user.modelfs.error`", Elsewhere("tests/remote.rs", "errors_of_a_hub_have_their_number_and_their_sentence")),
    ("`user.modelfs.sha256`", Here(attributes_of_hashes)),
    ("`user.modelfs.type`", Here(attributes_of_the_verdict)),
    ("`user.modelfs.source`", Here(attributes_of_origin)),
    ("`user.modelfs.name`", Here(attributes_of_origin)),
    ("`user.xdg.origin.url`", Here(attributes_of_origin)),
    ("`user.modelfs.pinned`", In("tests/commands.rs")),
    ("`user.modelfs.safety`", In("tests/danger.rs")),
    // Failures.
    ("hub unreachable", Elsewhere("tests/remote.rs", "errors_of_a_hub_have_their_number_and_their_sentence")),
    (
        "the network is switched off",
        Elsewhere("tests/remote.rs", "errors_of_a_hub_have_their_number_and_their_sentence"),
    ),
    ("token missing", Here(gated)),
    ("file gone at its hub", Here(gone)),
    ("disk full", Elsewhere("tests/semantics.rs", "a_full_disk_is_told_and_loses_nothing")),
    ("bytes do not match", Elsewhere("tests/fetch_engine.rs", "wrong_bytes_never_become_resident")),
    ("attribute value", Here(fetch_attribute)),
    ("anything that would change the tree", Here(changes)),
    ("`link` into", In("tests/search_directories.rs")),
    ("`unlink` of a name that was linked", In("tests/search_directories.rs")),
    ("`ln search/anime/huggingface/", In("tests/hub_links.rs")),
    ("`ln search/", In("tests/search_directories.rs")),
    ("That name is kept", In("tests/search_directories.rs")),
    ("`rm` of that name", In("tests/search_directories.rs")),
    ("What cannot be linked", In("tests/search_directories.rs")),
    ("a pickle that may run code", In("tests/danger.rs")),
    ("removing or renaming names under `by/`", In("tests/search_directories.rs")),
    // Pickles, decisions and queries have documents and tests of their own.
    ("`safe`", In("tests/danger.rs")),
    ("`suspicious`", In("tests/danger.rs")),
    ("`unsafe`", In("tests/danger.rs")),
    ("Classes of known libraries", Elsewhere("src/classify/danger.rs", "classes_are_made_anew_and_not_called")),
    ("An unpickler runs", In("src/classify/danger.rs")),
    (
        "What has the name of a pickle",
        Elsewhere("tests/danger.rs", "what_could_not_be_looked_through_is_not_handed_out_as_a_pickle"),
    ),
    ("Absent while the header", In("tests/danger.rs")),
    ("Everything but `open`", In("tests/danger.rs")),
    ("The decision belongs to the content", In("tests/danger.rs")),
    ("A file that was imported with `--mode link`", In("tests/danger.rs")),
    ("A decision stays", In("tests/classify.rs")),
    ("A file that is only a part", In("tests/classify.rs")),
    ("`mkdir search/", In("tests/search_directories.rs")),
    ("`mkdir hubs/", In("tests/hub_directories.rs")),
    ("`mkdir search/<query>` that names hubs", In("tests/hub_hits.rs")),
    ("`readdir` of `search/<query>/<hub>`", In("tests/hub_hits.rs")),
    ("`readdir` or `lookup` in `search/", In("tests/hub_hits.rs")),
    ("`open`, `read` of a file in it", In("tests/hub_hits.rs")),
    ("`unlink`, `rmdir` in it", In("tests/hub_hits.rs")),
    ("`lookup` of an unknown name", In("tests/search_directories.rs")),
    ("`readdir` below", In("tests/search_directories.rs")),
    ("`rmdir`", In("tests/search_directories.rs")),
    ("`unlink`", In("tests/search_directories.rs")),
    ("`rm -rf search", In("tests/search_directories.rs")),
    ("`rename` in it, or out of it", Elsewhere("tests/hub_links.rs", "what_a_directory_allows_is_what_access_says")),
    ("`rename`", In("tests/search_directories.rs")),
    ("any other `rename`", In("tests/search_directories.rs")),
    ("anything else that would change it", In("tests/search_directories.rs")),
];

const REPO: &str = "org/name";
const OTHER_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
const BIG: &str = "loras/big.safetensors";
const MIB: u64 = 1 << 20;
/// 250 ms are promised; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(10);
const DONE_MAX: Duration = Duration::from_secs(60);

/// A mount with one file that is here, some that are not, and one that nobody knows.
struct Scene {
    sandbox: Sandbox,
    hub: FakeHub,
    mount: Mounted,
}

impl Scene {
    fn new() -> Self {
        let hub = FakeHub::start();
        let tags = |repo: support::fake_hub::RepoBuilder| {
            repo.lfs(BIG, large_lora(1, 20 * MIB as usize))
                .file("README.md", "---\nlicense: mit\n---\n")
                .tag("license:mit");
        };
        tags(hub.repo(REPO));
        hub.repo("org/gated").lfs("loras/gated.safetensors", large_lora(2, MIB as usize)).access(Access::Gated);
        hub.repo("org/gone").lfs("loras/gone.safetensors", large_lora(3, MIB as usize));
        hub.repo("org/slow").lfs("loras/slow.safetensors", large_lora(4, 64 * MIB as usize));
        let mut sandbox = Sandbox::new();
        sandbox.set("HF_ENDPOINT", &hub.endpoint());
        sandbox.write("in/here.safetensors", lora(1));
        sandbox.write("in/riddle.safetensors", riddle());
        sandbox.run(["import", "in"]).success();
        for repo in [REPO, "org/gated", "org/gone", "org/slow"] {
            sandbox.run(["add", &format!("hf:{repo}")]).success();
        }
        hub.repo(REPO).commit(OTHER_COMMIT).lfs(BIG, large_lora(5, MIB as usize));
        sandbox.run(["add", &format!("hf:{REPO}@{OTHER_COMMIT}")]).success();
        let mount = sandbox.mount(&[]);
        Self { sandbox, hub, mount }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path(name)
    }

    fn here(&self) -> PathBuf {
        self.path("comfyui/loras/here.safetensors")
    }

    fn remote(&self) -> PathBuf {
        self.path("hubs/huggingface/org/name/loras/big.safetensors")
    }

    fn directory(&self) -> PathBuf {
        self.path("comfyui/loras")
    }
}

/// Whole, and no model of any known kind.
fn riddle() -> Vec<u8> {
    let text = br#"{"zz.q":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}"#;
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(&[1, 2, 3, 4, 5]);
    bytes
}

#[track_caller]
fn fails<T>(outcome: io::Result<T>, code: i32, what: &str) {
    match outcome {
        Ok(_) => panic!("{what} succeeds"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(code), "{what}: {error}"),
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path")
}

fn time(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).modified().expect("a time")
}

fn listing(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// First cells of tables and bullets, without header rows.
fn statements(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut header = true;
    for line in document.lines() {
        if let Some(row) = line.strip_prefix("| ") {
            if row.starts_with("---") {
                header = false;
            } else if !header {
                found.push(row.split(" | ").next().unwrap_or_default().trim_end_matches(" |").to_owned());
            }
        } else {
            header = true;
            if let Some(bullet) = line.strip_prefix("- ") {
                found.push(bullet.to_owned());
            }
        }
    }
    found
}

fn shown(statement: &str) -> Option<usize> {
    let fits = STATEMENTS.iter().enumerate().filter(|(_, (start, _))| statement.starts_with(start));
    fits.max_by_key(|(_, (start, _))| start.len()).map(|(index, _)| index)
}

fn document() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = statements(&fs::read_to_string(root.join("docs/SEMANTICS.md")).expect("the document"));
    assert!(found.len() > 40, "only {} statements were found", found.len());
    found
}

#[test]
fn every_statement_of_the_document_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for statement in document() {
        let index = shown(&statement);
        let index = index.unwrap_or_else(|| panic!("docs/SEMANTICS.md says `{statement}`: add its test to STATEMENTS"));
        let source = |file: &str| {
            fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{statement}: {file}: {error}"))
        };
        match STATEMENTS[index].1 {
            Here(_) => {}
            In(file) => assert!(source(file).contains("#[test]"), "{statement}: {file} holds no test"),
            Elsewhere(file, test) => {
                let source = source(file);
                let there = source.lines().zip(source.lines().skip(1)).any(|(mark, line)| {
                    mark.trim() == "#[test]" && line.trim_start().starts_with(&format!("fn {test}("))
                });
                assert!(there, "{statement}: {file} has no test {test}");
            }
        }
    }
}

#[test]
fn what_the_document_says_is_so() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let wanted: BTreeSet<usize> = document().iter().filter_map(|statement| shown(statement)).collect();
    let scene = Scene::new();
    let mut done = Vec::new();
    for (start, shown) in wanted.into_iter().map(|index| &STATEMENTS[index]) {
        if let Here(check) = shown
            && !done.contains(&(*check as usize))
        {
            eprintln!("checking {start}");
            check(&scene);
            done.push(*check as usize);
        }
    }
    assert!(done.len() > 20, "{} checks", done.len());
    scene.mount.unmount();
    scene.sandbox.run(["verify"]).success();
}

fn the_root(scene: &Scene) {
    let apps = ["comfyui", "forge", "a1111", "wan2gp", "image-upscale"];
    let expected: BTreeSet<String> =
        apps.iter().chain(&["by", "hubs", "store", ".modelfs"]).map(|name| (*name).to_owned()).collect();
    let mut found = listing(&scene.path(""));
    found.remove("search");
    assert_eq!(found, expected);
    let before = time(&scene.path(""));
    scene.sandbox.run(["app", "enable", "jan"]).success();
    eventually("its folder is there", VISIBLE_MAX, || scene.path("jan").is_dir());
    eventually("it has a new time", VISIBLE_MAX, || time(&scene.path("")) > before);
    let between = time(&scene.path(""));
    scene.sandbox.run(["app", "disable", "jan"]).success();
    eventually("its folder is gone", VISIBLE_MAX, || !scene.path("jan").exists());
    eventually("it has a new time", VISIBLE_MAX, || time(&scene.path("")) > between);
}

fn an_application(scene: &Scene) {
    assert_eq!(listing(&scene.path("comfyui/vae")), BTreeSet::new(), "there, also when empty");
    for app in ["comfyui", "forge", "a1111"] {
        let files = walk(&scene.path(app));
        let names = files.iter().filter(|path| path.ends_with("/here.safetensors")).count();
        assert_eq!(names, 1, "{app}: {files:?}");
    }
    let (loras, vae, root) = (time(&scene.directory()), time(&scene.path("comfyui/vae")), time(&scene.path("comfyui")));
    scene.sandbox.write("new/one more.safetensors", lora(11));
    scene.sandbox.run(["import", "new"]).success();
    eventually("it is there", VISIBLE_MAX, || scene.directory().join("one more.safetensors").exists());
    eventually("it has a new time", VISIBLE_MAX, || time(&scene.directory()) > loras);
    assert_eq!((time(&scene.path("comfyui/vae")), time(&scene.path("comfyui"))), (vae, root), "only that directory");
}

fn unsorted(scene: &Scene) {
    for app in ["comfyui", "forge", "a1111", "wan2gp", "image-upscale"] {
        let path = scene.path(app).join("_unsorted/riddle.safetensors");
        assert_eq!(fs::read(path).expect("readable"), riddle(), "{app}");
    }
}

fn by_what_is_known(scene: &Scene) {
    let inode = fs::metadata(scene.here()).expect("a file").ino();
    for folder in ["by/type/lora", "by/base/sd1", "by/source/local", "by/state/resident", "by/format/safetensors"] {
        let path = scene.path(folder).join("here.safetensors");
        assert_eq!(fs::metadata(&path).expect(folder).ino(), inode);
    }
    assert!(listing(&scene.path("by/source/huggingface")).len() >= 4);
    assert!(scene.path("by/type/unknown/riddle.safetensors").exists());
}

fn a_repository(scene: &Scene) {
    let repo = scene.path("hubs/huggingface/org/name");
    assert_eq!(walk(&repo), ["README.md", BIG]);
    let other = scene.path(&format!("hubs/huggingface/org/name@{}", &OTHER_COMMIT[..10]));
    assert_eq!(walk(&other), [BIG]);
    let (inside, above) = (time(&repo), time(&scene.path("hubs/huggingface/org")));
    scene.hub.repo("org/late").lfs("a.safetensors", lora(12));
    scene.sandbox.run(["add", "hf:org/late"]).success();
    eventually("it is there", VISIBLE_MAX, || scene.path("hubs/huggingface/org/late").is_dir());
    assert_eq!(time(&repo), inside);
    eventually("it has a new time", VISIBLE_MAX, || time(&scene.path("hubs/huggingface/org")) > above);
}

fn store(scene: &Scene) {
    let folder = scene.path("store").join(sha256_of(&lora(1)));
    assert_eq!(listing(&folder), BTreeSet::from(["here.safetensors".to_owned()]));
    assert_eq!(
        fs::metadata(folder.join("here.safetensors")).expect("a file").ino(),
        fs::metadata(scene.here()).expect("a file").ino()
    );
}

fn live_files(scene: &Scene) {
    assert_eq!(
        listing(&scene.path(".modelfs")),
        BTreeSet::from(["downloads.json".to_owned(), "status.json".to_owned()])
    );
    let models = || {
        let status = fs::read(scene.path(".modelfs/status.json")).expect("readable");
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        status["models"].as_u64().expect("a number")
    };
    let before = models();
    scene.sandbox.write("live/live.safetensors", lora(13));
    scene.sandbox.run(["import", "live"]).success();
    eventually("each open makes it anew", VISIBLE_MAX, || models() == before + 1);
    let downloads = fs::read(scene.path(".modelfs/downloads.json")).expect("readable");
    serde_json::from_slice::<serde_json::Value>(&downloads).expect("JSON");
}

fn directory_times(scene: &Scene) {
    let first = time(&scene.directory());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(time(&scene.directory()), first, "it is not the time of the question");
    let mut last = first;
    for number in 20..23 {
        let name = format!("time{number}.safetensors");
        scene.sandbox.write(format!("times/{name}"), lora(number));
        scene.sandbox.run(["import", "times"]).success();
        eventually("it is there", VISIBLE_MAX, || scene.directory().join(&name).exists());
        eventually("it has a new time", VISIBLE_MAX, || time(&scene.directory()) > last);
        last = time(&scene.directory());
    }
}

fn another_process(scene: &Scene) {
    let path = scene.directory().join("other.safetensors");
    assert!(!path.exists(), "now the kernel knows that it is not there");
    scene.sandbox.write("other/other.safetensors", lora(14));
    scene.sandbox.run(["import", "other"]).success();
    let start = Instant::now();
    eventually("the name is there", VISIBLE_MAX, || path.exists());
    eventually("it is listed", VISIBLE_MAX, || listing(&scene.directory()).contains("other.safetensors"));
    eprintln!("visible after {:?}", start.elapsed());
}

fn stat(scene: &Scene) {
    scene.hub.forget_requests();
    assert!(fs::metadata(scene.directory()).expect("listed").is_dir());
    assert_eq!(fs::metadata(scene.here()).expect("listed").len(), lora(1).len() as u64);
    assert_eq!(fs::metadata(scene.remote()).expect("listed").len(), large_lora(1, 20 * MIB as usize).len() as u64);
    for path in [scene.directory(), scene.here(), scene.remote()] {
        // SAFETY: the pointer is a terminated string that outlives the call.
        checked(unsafe { libc::access(c_path(&path).as_ptr(), libc::R_OK) }).expect("readable");
    }
    fails(fs::metadata(scene.directory().join("nothing")), libc::ENOENT, "a name that is not there");
    assert!(scene.hub.requests().is_empty(), "the network was asked");
}

fn readdir(scene: &Scene) {
    let descriptor = File::open(scene.directory()).expect("opens");
    let mut directory = rustix::fs::Dir::new(descriptor).expect("a directory");
    let first = directory.next().expect("at least one entry").expect("an entry");
    let mut names = BTreeSet::from([first.file_name().to_string_lossy().into_owned()]);
    scene.sandbox.write("listing/while listed.safetensors", lora(15));
    scene.sandbox.run(["import", "listing"]).success();
    let is_new = |names: &BTreeSet<String>| names.contains("while listed.safetensors");
    eventually("others see it", VISIBLE_MAX, || is_new(&listing(&scene.directory())));
    let mut rest = |directory: &mut rustix::fs::Dir| {
        for entry in directory.by_ref() {
            names.insert(entry.expect("an entry").file_name().to_string_lossy().into_owned());
        }
        names.clone()
    };
    assert!(!is_new(&rest(&mut directory)), "a listing that was opened stays as it was");
    directory.rewind();
    assert!(is_new(&rest(&mut directory)), "rewinddir looks anew");
}

fn open_for_reading(scene: &Scene) {
    scene.hub.forget_requests();
    for path in [scene.here(), scene.remote()] {
        File::open(path).expect("opens");
    }
    assert!(scene.hub.requests().is_empty(), "open asked the network");
}

fn open_for_writing(scene: &Scene) {
    for path in [scene.here(), scene.remote()] {
        fails(File::options().write(true).open(&path), libc::EROFS, "open for writing");
        fails(File::options().read(true).write(true).open(&path), libc::EROFS, "open for both");
        fails(File::options().write(true).truncate(true).open(&path), libc::EROFS, "O_TRUNC");
        fails(File::options().append(true).open(&path), libc::EROFS, "O_APPEND");
    }
}

fn read(scene: &Scene) {
    let mut byte = [0; 1];
    fails(File::open(scene.directory()).and_then(|mut file| file.read(&mut byte)), libc::EISDIR, "read of a directory");
    assert_eq!(fs::read(scene.here()).expect("readable"), lora(1));
    let bytes = large_lora(1, 20 * MIB as usize);
    scene.hub.forget_requests();
    let file = File::open(scene.remote()).expect("opens");
    let mut piece = vec![0; 4096];
    file.read_exact_at(&mut piece, 9 * MIB + 5).expect("fetched");
    assert!(piece == bytes[9 * MIB as usize + 5..][..4096]);
    let moved = scene.hub.cdn_bytes_sent(BIG);
    assert!(moved <= 4 * MIB, "one chunk was wanted, {moved} bytes came");
    for (path, expected) in [(scene.here(), lora(1)), (scene.remote(), bytes)] {
        for sharing in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
            assert_eq!(mapped(&path, sharing, 0, 4096), expected[..4096], "{}", path.display());
        }
        let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path).expect("O_DIRECT");
        let mut memory = vec![0u8; 3 * 4096];
        let start = memory.as_ptr().align_offset(4096);
        let got = direct.read_at(&mut memory[start..start + 4096], 4096).expect("an aligned read");
        assert!(memory[start..start + got] == expected[4096..4096 + got], "{}", path.display());
    }
}

fn mapped(path: &Path, sharing: libc::c_int, offset: libc::off_t, length: usize) -> Vec<u8> {
    let file = File::open(path).expect("opens");
    // SAFETY: a new mapping of an open file; the kernel chooses the place.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, sharing, file.as_raw_fd(), offset) };
    assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
    // SAFETY: the mapping has this length, is readable, and lives until it is copied.
    let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) }.to_vec();
    // SAFETY: nothing points into the mapping any more.
    unsafe { libc::munmap(at, length) };
    bytes
}

fn seek(scene: &Scene) {
    for path in [scene.here(), scene.remote()] {
        let file = File::open(&path).expect("opens");
        let size = i64::try_from(file.metadata().expect("listed").len()).expect("a size");
        for (whence, at, expected) in [
            (libc::SEEK_END, -1, size - 1),
            (libc::SEEK_DATA, 7, 7),
            (libc::SEEK_HOLE, 7, size),
            (libc::SEEK_HOLE, 0, size),
        ] {
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::lseek(file.as_raw_fd(), at, whence) }, expected, "{} {whence}", path.display());
        }
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::lseek(file.as_raw_fd(), size, libc::SEEK_DATA) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENXIO));
    }
}

fn locks(scene: &Scene) {
    for path in [scene.directory(), scene.here(), scene.remote()] {
        let (one, other) = (File::open(&path).expect("opens"), File::open(&path).expect("opens"));
        one.lock().expect("flock");
        assert!(other.try_lock().is_err(), "{} is locked twice", path.display());
        one.unlock().expect("flock");
        other.try_lock().expect("free again");
        rustix::fs::fcntl_lock(&one, rustix::fs::FlockOperation::NonBlockingLockShared).expect("fcntl");
    }
}

fn no_attributes_of_directories(scene: &Scene) {
    for path in [scene.directory(), scene.path(""), scene.path("hubs/huggingface/org")] {
        assert_eq!(xattr_names(&path).expect("listxattr"), [""; 0], "{}", path.display());
        assert_eq!(xattr(&path, "user.modelfs.state").expect("getxattr"), None);
    }
    let repository = scene.path("hubs/huggingface/org/name");
    assert_eq!(xattr_names(&repository).expect("listxattr"), ["user.modelfs.state"]);
    assert_eq!(modelfs_xattr(&repository, "state").as_deref(), Some("complete"));
    for path in [scene.here(), scene.remote()] {
        for name in xattr_names(&path).expect("listxattr") {
            assert!(xattr(&path, &name).expect("getxattr").is_some(), "{name} is listed and not there");
        }
        assert_eq!(xattr(&path, "user.other").expect("getxattr"), None);
        for name in ["system.posix_acl_access", "security.selinux", "trusted.other"] {
            fails(xattr(&path, name).map(drop), libc::EOPNOTSUPP, name);
        }
    }
}

fn fetch_attribute(scene: &Scene) {
    const FETCH: &str = "user.modelfs.fetch";
    for value in ["0", "1"] {
        fails(set_xattr(&scene.directory(), FETCH, value), libc::EPERM, "fetch of a directory");
        set_xattr(&scene.here(), FETCH, value).expect("does nothing");
    }
    for value in ["", "2", "yes", "-1"] {
        fails(set_xattr(&scene.remote(), FETCH, value), libc::EINVAL, value);
    }
    let slow = scene.path("hubs/huggingface/org/slow/loras/slow.safetensors");
    scene.hub.fault(Rule::new(Fault::Rate { bytes_per_s: MIB / 2 }).at(Place::Bytes));
    let start = Instant::now();
    set_xattr(&slow, FETCH, "1").expect("starts");
    assert!(start.elapsed() < VISIBLE_MAX, "it waited for the download");
    eventually("it is downloading", DONE_MAX, || modelfs_xattr(&slow, "state").as_deref() == Some("downloading"));
    eventually("its speed is told", DONE_MAX, || {
        modelfs_xattr(&slow, "speed").is_some_and(|speed| speed.parse::<u64>().is_ok())
    });
    eventually("its end is told", DONE_MAX, || {
        modelfs_xattr(&slow, "eta").is_some_and(|eta| eta.parse::<u64>().is_ok())
    });
    let present = || modelfs_xattr(&slow, "bytes_present").and_then(|bytes| bytes.parse::<u64>().ok());
    eventually("a part of it is here", DONE_MAX, || present() > Some(0));
    set_xattr(&slow, FETCH, "0").expect("stops");
    let state = modelfs_xattr(&slow, "state");
    assert_ne!(state.as_deref(), Some("resident"), "it was too fast for this test");
    eventually("it has stopped", DONE_MAX, || modelfs_xattr(&slow, "state").as_deref() == Some("partial"));
    assert_eq!((modelfs_xattr(&slow, "speed"), modelfs_xattr(&slow, "eta")), (None, None));
    scene.hub.clear_faults();
}

fn other_attributes(scene: &Scene) {
    for path in [scene.directory(), scene.here(), scene.remote()] {
        for name in ["user.modelfs.state", "user.modelfs.size", "user.modelfs.none", "user.other"] {
            fails(set_xattr(&path, name, "1"), libc::EPERM, name);
            let c_name = CString::new(name).expect("no NUL");
            // SAFETY: both pointers are terminated strings that outlive the call.
            let outcome = checked(unsafe { libc::removexattr(c_path(&path).as_ptr(), c_name.as_ptr()) });
            fails(outcome, libc::EPERM, name);
        }
        fails(set_xattr(&path, "other", "1"), libc::EOPNOTSUPP, "a name that is not a user's");
    }
}

fn changes(scene: &Scene) {
    let fact = scene.path("by/type/unknown/riddle.safetensors");
    fails(fs::remove_file(&fact), libc::EPERM, "unlink of a fact");
    fails(fs::rename(&fact, scene.path("by/type/unknown/new")), libc::EPERM, "rename of a fact");
    fails(fs::remove_dir(scene.path("by/type/unknown")), libc::EPERM, "rmdir of a fact");
    let new = scene.directory().join("new");
    let c_new = c_path(&new);
    let times = [libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2];
    fails(File::create(&new), libc::EROFS, "create");
    fails(fs::create_dir(&new), libc::EROFS, "mkdir");
    // SAFETY: the pointer is a terminated string that outlives the call.
    fails(checked(unsafe { libc::mknod(c_new.as_ptr(), libc::S_IFREG | 0o644, 0) }), libc::EROFS, "mknod");
    // SAFETY: as above.
    fails(checked(unsafe { libc::mkfifo(c_new.as_ptr(), 0o644) }), libc::EROFS, "mkfifo");
    fails(std::os::unix::fs::symlink("here.safetensors", &new), libc::EROFS, "symlink");
    fails(fs::remove_dir(scene.directory()), libc::EROFS, "rmdir");
    for path in [scene.directory(), scene.here(), scene.remote()] {
        let c_path = c_path(&path);
        let shown = path.display().to_string();
        fails(fs::rename(&path, scene.path("comfyui/vae/new")), libc::EROFS, &shown);
        let mode = fs::metadata(&path).expect("listed").permissions();
        fails(fs::set_permissions(&path, mode), libc::EROFS, &shown);
        fails(std::os::unix::fs::chown(&path, Some(0), Some(0)), libc::EROFS, &shown);
        // SAFETY: the pointers are a terminated string and two times, and outlive the call.
        fails(
            checked(unsafe { libc::utimensat(libc::AT_FDCWD, c_path.as_ptr(), times.as_ptr(), 0) }),
            libc::EROFS,
            &shown,
        );
        if path.is_file() {
            fails(fs::hard_link(&path, scene.path("comfyui/new")), libc::EROFS, &shown);
            fails(fs::remove_file(&path), libc::EROFS, &shown);
            // SAFETY: the pointer is a terminated string that outlives the call.
            fails(checked(unsafe { libc::truncate(c_path.as_ptr(), 1) }), libc::EROFS, &shown);
        }
    }
    assert_eq!(fs::read(scene.here()).expect("readable"), lora(1));
}

fn statfs(scene: &Scene) {
    let store = rustix::fs::statvfs(scene.sandbox.store()).expect("statfs");
    for path in [scene.directory(), scene.here(), scene.remote()] {
        let found = rustix::fs::statvfs(&path).expect("statfs");
        assert_eq!(found.f_blocks * found.f_frsize, store.f_blocks * store.f_frsize);
        assert!(found.f_bavail > 0);
    }
}

fn attributes(path: &Path) -> BTreeMap<String, String> {
    let names = xattr_names(path).expect("listxattr").into_iter();
    names.map(|name| (name.clone(), xattr(path, &name).expect("getxattr").expect("listed"))).collect()
}

fn attributes_of_state(scene: &Scene) {
    let here = attributes(&scene.here());
    let size = lora(1).len().to_string();
    for (name, value) in [("state", "resident"), ("progress", "100.00"), ("bytes_present", &size), ("size", &size)] {
        assert_eq!(here[&format!("user.modelfs.{name}")], value);
    }
    let remote = attributes(&scene.path("hubs/huggingface/org/gone/loras/gone.safetensors"));
    let size = large_lora(3, MIB as usize).len().to_string();
    for (name, value) in [("state", "remote"), ("progress", "0.00"), ("bytes_present", "0"), ("size", &size)] {
        assert_eq!(remote[&format!("user.modelfs.{name}")], value);
    }
    for name in ["speed", "eta", "error"] {
        assert!(!here.contains_key(&format!("user.modelfs.{name}")), "{name}");
    }
}

fn attributes_of_hashes(scene: &Scene) {
    let here = attributes(&scene.here());
    let told = scene.sandbox.run(["hash", "--json", "in/here.safetensors"]).success().json();
    for name in ["sha256", "blake3", "crc32", "autov2", "autov3"] {
        let value = &here[&format!("user.modelfs.{name}")];
        assert_eq!(told[0][name].as_str(), Some(value.as_str()), "{name}");
        assert!(value.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{value}");
    }
    assert!(!here.contains_key("user.modelfs.autov1"), "a file below 1 MiB has none");
    let gated = attributes(&scene.path("hubs/huggingface/org/gated/loras/gated.safetensors"));
    assert_eq!(gated["user.modelfs.sha256"], sha256_of(&large_lora(2, MIB as usize)));
    assert!(!gated.contains_key("user.modelfs.blake3"), "absent while unknown");
}

fn attributes_of_the_verdict(scene: &Scene) {
    let here = attributes(&scene.here());
    for (name, value) in
        [("type", "lora"), ("base", "sd1"), ("format", "safetensors"), ("precision", "fp16"), ("method", "tensors")]
    {
        assert_eq!(here[&format!("user.modelfs.{name}")], value);
    }
    let confidence: f32 = here["user.modelfs.confidence"].parse().expect("a number");
    assert!((0.5..=1.0).contains(&confidence));
}

fn attributes_of_origin(scene: &Scene) {
    assert_eq!(attributes(&scene.here())["user.modelfs.source"], "local");
    let remote = attributes(&scene.remote());
    assert_eq!(remote["user.modelfs.source"], "huggingface");
    let sources: serde_json::Value = serde_json::from_str(&remote["user.modelfs.sources"]).expect("JSON");
    assert!(sources.as_array().is_some_and(|all| !all.is_empty()), "{sources}");
    assert_eq!(remote["user.modelfs.name"], "big.safetensors");
    let url = &remote["user.xdg.origin.url"];
    let pages = format!("{}/org/name/blob/", scene.hub.endpoint());
    assert!(url.starts_with(&pages) && url.ends_with(BIG), "`info` and the attribute name one page: {url}");
    assert_eq!(remote.get("user.modelfs.tags"), remote.get("user.xdg.tags"));
}

fn gated(scene: &Scene) {
    let path = scene.path("hubs/huggingface/org/gated/loras/gated.safetensors");
    fails(fs::read(&path), libc::EACCES, "a gated file without a token");
    let told = modelfs_xattr(&path, "error").expect("a reason");
    assert!(told.contains("token") || told.contains("HF_TOKEN"), "{told}");
}

fn gone(scene: &Scene) {
    let path = scene.path("hubs/huggingface/org/gone/loras/gone.safetensors");
    let rule = |place| Rule::new(Fault::Status(404)).at(place).on("loras/gone.safetensors");
    scene.hub.fault(rule(Place::Resolve)).fault(rule(Place::Bytes));
    fails(fs::read(&path), libc::ESTALE, "a file that is gone at its hub");
    scene.hub.clear_faults();
}

#[test]
fn a_name_outlives_its_application() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    for number in [1, 2] {
        sandbox.write(format!("{number}/same.safetensors"), lora(number));
        sandbox.run(["import", &number.to_string()]).success();
    }
    let mount = sandbox.mount(&[]);
    let folder = mount.path("forge/Lora");
    let all = || -> BTreeMap<String, Vec<u8>> {
        listing(&folder)
            .into_iter()
            .map(|name| (name.clone(), fs::read(folder.join(name)).expect("readable")))
            .collect()
    };
    let before = all();
    assert_eq!(before.len(), 2);
    sandbox.run(["app", "disable", "forge"]).success();
    eventually("it is gone", VISIBLE_MAX, || !folder.exists());
    sandbox.write("3/same.safetensors", lora(3));
    sandbox.run(["import", "3"]).success();
    sandbox.run(["app", "enable", "forge"]).success();
    eventually("it is back", VISIBLE_MAX, || folder.exists() && listing(&folder).len() == 3);
    let after = all();
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{:?}", after.keys());
    mount.unmount();
}

fn tmpfs(at: &Path, size_mib: u64, flags: libc::c_ulong) -> io::Result<()> {
    let options = CString::new(format!("size={size_mib}m")).expect("no NUL");
    let (kind, at) = (c"tmpfs".as_ptr(), c_path(at));
    // SAFETY: all pointers are terminated strings that outlive the call.
    checked(unsafe { libc::mount(kind, at.as_ptr(), kind, flags, options.as_ptr().cast()) })
}

/// A store on a filesystem of its own that is too small for the file.
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = &mut Sandbox::new();
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).expect("writable");
    let mounted = tmpfs(&disk, 12, 0);
    if let Err(error) = mounted {
        support::skip::skipped("a full disk", &format!("only root can make a small one ({error})"));
        return;
    }
    let hub = FakeHub::start();
    let bytes = large_lora(1, 24 * MIB as usize);
    hub.repo(REPO).lfs(BIG, bytes.clone());
    sandbox
        .set("HF_ENDPOINT", &hub.endpoint())
        .set("MODELFS_STORE", disk.join("store").to_str().expect("a plain name"))
        .set("MODELFS_MIN_FREE", "1MiB");
    sandbox.run(["add", "hf:org/name"]).success();
    let mount = sandbox.mount(&[]);
    let path = mount.path("hubs/huggingface/org/name").join(BIG);
    fails(fs::read(&path), libc::ENOSPC, "a read that fills the disk");
    let told = modelfs_xattr(&path, "error").expect("a reason");
    assert!(told.contains("space"), "{told}");
    // With room again the same mount goes on where it was.
    let before = hub.cdn_bytes_sent(BIG);
    tmpfs(&disk, 80, libc::MS_REMOUNT).expect("it can grow");
    assert!(fs::read(&path).expect("there is room") == bytes);
    let moved = hub.cdn_bytes_sent(BIG) - before;
    assert!(moved < 20 * MIB, "what was here was fetched again: {moved}");
    mount.unmount();
    sandbox.run(["verify"]).success();
    sandbox.write("in/large.safetensors", large_lora(2, 90 * MIB as usize));
    assert_eq!(sandbox.run(["import", "in"]).status.code(), Some(8));
}

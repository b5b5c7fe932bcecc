//! Pickles that run something when they are loaded: listed, explained, and not handed out until they are trusted.

mod support;

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::time::Duration;
use support::fake_hub::{FakeHub, Fault, Place, Rule};
use support::mounted::{Fuse, Sandbox, eventually, fuse_or_skip, modelfs_xattr};
use support::samples::tensors;
use support::samples::torch_file::{self, Object};

/// A change is visible within 250 ms; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(20);

/// What `pickle.dumps` makes of an object whose `__reduce__` answers `(os.system, ("id",))`.
const SYSTEM: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.";

const CONVOLUTIONS: &str = "model.0.weight [64,3,3,3] F32\nmodel.0.bias [64] F32";

fn state_dict() -> Vec<u8> {
    torch_file::bytes("state", &Object::state(tensors::parse(CONVOLUTIONS)))
}

fn instance(module: &'static str, name: &'static str) -> Vec<u8> {
    let state = Box::new(Object::state(tensors::parse(CONVOLUTIONS)));
    torch_file::bytes(
        name,
        &Object::Dict(vec![(Object::text("model"), Object::Instance { class: (module, name), state })]),
    )
}

fn open_error(path: &Path) -> Option<i32> {
    File::open(path).and_then(|mut file| file.read(&mut [0; 8])).err().and_then(|error: io::Error| error.raw_os_error())
}

#[test]
fn what_runs_code_is_withheld_until_it_is_trusted() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/runs.pt", SYSTEM);
    sandbox.write("in/plain.pth", state_dict());
    sandbox.run(["import", "in"]).success();

    let listed = sandbox.run(["ls"]).success().stdout;
    let line = |name: &str| listed.lines().find(|line| line.contains(name)).expect(name).to_owned();
    assert!(line("runs.pt").contains("unsafe") && !line("plain.pth").contains("unsafe"), "{listed}");
    let told = sandbox.run(["info", "runs.pt"]).success().stdout;
    for word in ["posix.system", "unsafe", "modelfs trust"] {
        assert!(told.contains(word), "`{word}` is missing:\n{told}");
    }
    let json = sandbox.run(["info", "runs.pt", "--json"]).success().json();
    assert_eq!(json["dangers"][0]["what"].as_str(), Some("posix.system"), "{json}");
    assert_eq!((json["safety"].as_str(), json["trusted"].as_bool()), (Some("unsafe"), Some(false)), "{json}");

    let mount = sandbox.mount(&[]);
    let (runs, plain) = (mount.path("by/source/local/runs.pt"), mount.path("by/source/local/plain.pth"));
    assert_eq!(open_error(&runs), Some(libc::EACCES));
    assert_eq!(
        open_error(&mount.path(format!("store/{}/runs.pt", json["sha256"].as_str().expect("a hash")))),
        Some(libc::EACCES)
    );
    assert_eq!(fs::metadata(&runs).expect("listed as ever").len(), SYSTEM.len() as u64);
    assert_eq!(modelfs_xattr(&runs, "safety").as_deref(), Some("unsafe"));
    let why = modelfs_xattr(&runs, "error").expect("a reason");
    assert!(why.contains("modelfs trust sha256:"), "{why}");
    assert_eq!(fs::read(&plain).expect("readable"), state_dict());
    assert_eq!(modelfs_xattr(&plain, "safety").as_deref(), Some("safe"));

    // What the reason says works as it is.
    let reference = why.rsplit('`').nth(1).and_then(|command| command.split_whitespace().last()).expect("a REF");
    sandbox.run(["trust", reference]).success();
    eventually("it is handed out", VISIBLE_MAX, || open_error(&runs).is_none());
    assert_eq!(fs::read(&runs).expect("readable"), SYSTEM);
    assert_eq!(modelfs_xattr(&runs, "trusted").as_deref(), Some("1"));
    assert_eq!(modelfs_xattr(&runs, "error"), None);

    // Importing it again changes no decision; a handle that is open stays good.
    let mut open = File::open(&runs).expect("readable");
    sandbox.write("again/other.pt", SYSTEM);
    sandbox.run(["import", "again"]).success();
    assert_eq!(open_error(&runs), None);
    sandbox.run(["untrust", "runs.pt"]).success();
    eventually("it is withheld again", VISIBLE_MAX, || open_error(&runs) == Some(libc::EACCES));
    open.rewind().expect("a file");
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).expect("readable");
    assert_eq!(bytes, SYSTEM);
    drop(open);
    mount.unmount();
    sandbox.run(["trust", "no-such-model"]).code(4);
}

#[test]
fn known_classes_are_handed_out_and_unknown_ones_are_not() {
    let sandbox = Sandbox::new();
    sandbox.write("in/face_yolov8n.pt", instance("ultralytics.nn.tasks", "DetectionModel"));
    sandbox.write("in/trained.ckpt", instance("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"));
    sandbox.write("in/project.pth", instance("my_project.networks", "Network"));
    sandbox.write("in/shell.pth", instance("subprocess", "Popen"));
    sandbox.run(["import", "in"]).success();
    let all = sandbox.run(["ls", "--json"]).success().json();
    for (name, expected) in
        [("face_yolov8n.pt", "safe"), ("trained.ckpt", "safe"), ("project.pth", "suspicious"), ("shell.pth", "unsafe")]
    {
        let row = all.as_array().expect("an array").iter().find(|row| row["name"] == name).expect(name);
        assert_eq!(row["safety"].as_str(), Some(expected), "{row}");
    }
}

#[test]
fn a_store_of_an_older_program_is_looked_through() {
    let sandbox = Sandbox::new();
    sandbox.write("in/runs.pt", SYSTEM);
    sandbox.run(["import", "in"]).success();
    let database = rusqlite::Connection::open(sandbox.store().join("modelhub.db")).expect("a database");
    database
        .execute_batch("UPDATE blobs SET safety = NULL; UPDATE catalog_state SET danger_version = 0")
        .expect("as it was before");
    drop(database);
    let row = sandbox.run(["info", "runs.pt", "--json"]).success().json();
    assert_eq!(row["safety"].as_str(), Some("unsafe"), "{row}");
}

/// Written in letters alone, so that whoever looks for a header finds a text file.
const SYSTEM_IN_LETTERS: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

#[test]
fn what_could_not_be_looked_through_is_not_handed_out_as_a_pickle() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeHub::start();
    // The same bytes, known by a harmless name first.
    hub.repo("org/first").lfs("notes.txt", SYSTEM_IN_LETTERS.to_vec());
    hub.repo("org/model").lfs("pytorch_model.bin", SYSTEM_IN_LETTERS.to_vec()).file("config.json", "{}");
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/first"]).success();
    sandbox.run(["add", "hf:org/model"]).success();
    let mount = sandbox.mount(&[]);
    let model = mount.path("hubs/huggingface/org/model/pytorch_model.bin");
    assert_eq!(open_error(&model), Some(libc::EACCES), "before it is here");
    let why = modelfs_xattr(&model, "error").expect("a reason");
    assert!(why.contains("modelfs fetch") && why.contains("modelfs trust"), "{why}");
    sandbox.run(["fetch", "pytorch_model.bin"]).success();
    eventually("it is here", VISIBLE_MAX, || modelfs_xattr(&model, "state").as_deref() == Some("resident"));
    assert_eq!(open_error(&model), Some(libc::EACCES), "when it is here");
    mount.unmount();
}

#[test]
fn a_pickle_whose_header_was_not_read_waits_until_it_is_here() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let hub = FakeHub::start();
    hub.repo("org/name").lfs("upscaler.pth", state_dict());
    hub.fault(Rule::new(Fault::Status(503)).at(Place::Bytes));
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    sandbox.run(["add", "hf:org/name"]).success();
    hub.clear_faults();
    let mount = sandbox.mount(&[]);
    let file = mount.path("hubs/huggingface/org/name/upscaler.pth");
    assert_eq!(open_error(&file), Some(libc::EACCES));
    let why = modelfs_xattr(&file, "error").expect("a reason");
    let reference = why.split("modelfs fetch ").nth(1).and_then(|rest| rest.split('`').next()).expect("a REF");
    sandbox.run(["fetch", reference]).success();
    eventually("it is handed out", VISIBLE_MAX, || open_error(&file).is_none());
    assert_eq!(fs::read(&file).expect("readable"), state_dict());
    assert_eq!(modelfs_xattr(&file, "safety").as_deref(), Some("safe"));
    mount.unmount();
}

#[test]
fn a_name_that_is_given_by_hand_counts_as_the_others() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    // No pickle to whoever looks at the start, and too long for a text.
    let bytes = [&b"(S'"[..], &[b'a'; 5000], b"'\nios\nsystem\n."].concat();
    sandbox.write("in/odd.onnx", &bytes);
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    let model = mount.path("by/source/local/odd.onnx");
    assert_eq!(fs::read(&model).expect("no unpickler gets it under this name"), bytes);
    let linked = mount.path("comfyui/checkpoints/odd.ckpt");
    fs::hard_link(&model, &linked).expect("linked");
    assert_eq!(open_error(&linked), Some(libc::EACCES));
    mount.unmount();
    let mount = sandbox.mount(&[]);
    assert_eq!(open_error(&mount.path("comfyui/checkpoints/odd.ckpt")), Some(libc::EACCES), "after a remount");
    mount.unmount();
}

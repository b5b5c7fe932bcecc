//! A folder in which everything is wrong, given to `import`: each thing is refused with its reason and what to do, the
//! rest is imported, nothing is changed where it lies, and nothing leaves the store.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use support::fake_hub::sha256_of;
use support::mounted::{Fuse, Sandbox, fuse_or_skip, walk};
use support::samples::{Meta, gguf};
use support::tiny::lora;

const TIB: u64 = 1 << 40;

/// A header of this text, as a safetensors file without data.
fn headed(text: &[u8], data_bytes: usize) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len() + data_bytes, 7);
    bytes
}

fn tensor(begin: u64, end: u64) -> String {
    format!("{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}", end.saturating_sub(begin))
}

/// Contents that are refused, whatever they are called.
fn hostile_contents(marker: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1".to_owned() + &"}".repeat(100_000));
    let overlapping = format!("{{\"a\":{},\"b\":{}}}", tensor(0, 8), tensor(4, 12));
    let beyond = format!("{{\"a\":{}}}", tensor(0, 1 << 60));
    let twice = format!("{{\"a\":{},\"a\":{}}}", tensor(0, 8), tensor(8, 16));
    let mut gguf_tensors = b"GGUF".to_vec();
    gguf_tensors.extend_from_slice(&3u32.to_le_bytes());
    gguf_tensors.extend_from_slice(&u64::MAX.to_le_bytes());
    gguf_tensors.extend_from_slice(&u64::MAX.to_le_bytes());
    gguf_tensors.resize(200, 0xff);
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{\"a\":1}");
    let mut large = (90u64 << 20).to_le_bytes().to_vec();
    large.extend_from_slice(b"{\"a\":1}");
    let run = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display());
    vec![
        ("empty.safetensors", vec![]),
        ("one byte.safetensors", vec![b'{']),
        ("zeros.ckpt", vec![0; 4096]),
        ("huge length.safetensors", huge),
        ("large length.safetensors", large),
        ("deep.safetensors", headed(deep.as_bytes(), 0)),
        ("overlapping.safetensors", headed(overlapping.as_bytes(), 12)),
        ("beyond.safetensors", headed(beyond.as_bytes(), 12)),
        ("twice.safetensors", headed(twice.as_bytes(), 16)),
        ("not utf-8.safetensors", headed(b"{\"\xff\xfe\":1}", 0)),
        ("negative.safetensors", headed(br#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[-1,0]}}"#, 0)),
        ("many tensors.gguf", gguf_tensors),
        ("cut.safetensors", lora(9)[..lora(9).len() - 1].to_vec()),
        ("cut.pth", b"PK\x03\x04 and then nothing".to_vec()),
        ("run me.pt", run.into_bytes()),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".to_vec()),
        ("page.safetensors", b"<!DOCTYPE html><html><body>Sign in</body></html>".to_vec()),
        ("answer.gguf", br#"{"error":"Repository not found"}"#.to_vec()),
        ("noise.onnx", (0..4096u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect()),
    ]
}

/// Names that cannot be shown in a tree; the content of each is a whole model.
fn hostile_names() -> Vec<&'static [u8]> {
    vec![
        b"bad \xff\xfe utf-8.safetensors",
        b"new\nline.safetensors",
        b"escape \x1b[31m.safetensors",
        "right to left \u{202e}.safetensors".as_bytes(),
    ]
}

/// Paths with sizes and times, so that a change is seen. Links are not followed.
fn state(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).expect("readable") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("an entry");
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.mode()));
        }
    }
    found
}

fn fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().expect("coreutils");
    assert!(status.success());
}

/// Things that are no regular files, and links that lead nowhere good. Gives those that must be told.
fn hostile_kinds(folder: &Path) -> Vec<PathBuf> {
    let path = |name: &str| folder.join(name);
    fifo(&path("fifo.safetensors"));
    drop(std::os::unix::net::UnixListener::bind(path("socket.safetensors")).expect("a short path"));
    symlink("/dev/zero", path("device.safetensors")).expect("a link");
    symlink("nowhere", path("dangling.safetensors")).expect("a link");
    symlink("cycle b.safetensors", path("cycle a.safetensors")).expect("a link");
    symlink("cycle a.safetensors", path("cycle b.safetensors")).expect("a link");
    symlink("/etc/passwd", path("passwd.safetensors")).expect("a link");
    // Not refused: what is asked for lies in them once.
    symlink("..", path("up")).expect("a link");
    symlink(".", path("self")).expect("a link");
    ["fifo", "socket", "device", "dangling", "cycle a", "cycle b", "passwd"]
        .iter()
        .map(|name| path(&format!("{name}.safetensors")))
        .collect()
}

fn sparse(path: &Path, start: &[u8]) {
    let mut file = File::create(path).expect("writable");
    file.write_all(start).expect("writable");
    file.set_len(TIB).expect("a filesystem with sparse files");
}

#[test]
fn everything_wrong_is_refused_and_the_rest_is_imported() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("in");
    let marker = sandbox.path("a pickle was run");
    let mut refused: Vec<PathBuf> = Vec::new();
    let mut number = 100;
    let mut whole = || {
        number += 1;
        lora(number)
    };
    for (name, bytes) in hostile_contents(&marker) {
        refused.push(sandbox.write(format!("in/contents/{name}"), bytes));
    }
    for name in hostile_names() {
        refused.push(sandbox.write(Path::new("in/names").join(OsStr::from_bytes(name)), whole()));
    }
    fs::create_dir_all(folder.join("kinds")).expect("writable");
    refused.append(&mut hostile_kinds(&folder.join("kinds")));
    sparse(&folder.join("sparse.safetensors"), &[]);
    sparse(&folder.join("sparse.ckpt"), &[]);
    refused.extend([folder.join("sparse.safetensors"), folder.join("sparse.ckpt")]);

    let longest = format!("{}.safetensors", "x".repeat(255 - ".safetensors".len()));
    let good: BTreeMap<String, Vec<u8>> = [
        "names/ordinary.safetensors".to_owned(),
        format!("names/{longest}"),
        format!("more/{longest}"),
        "names/-rf.safetensors".to_owned(),
        "names/$(touch x) `y`;'z'\"*.safetensors".to_owned(),
        "names/ZÜRICH 模型 🦀.safetensors".to_owned(),
        "kinds/directory.safetensors/inside.safetensors".to_owned(),
    ]
    .map(|name| (name, whole()))
    .into();
    for (name, bytes) in &good {
        sandbox.write(Path::new("in").join(name), bytes);
    }

    let before = state(&folder);
    let finished = sandbox.run(["import".as_ref(), "--json".as_ref(), sandbox.path("in").as_os_str()]).code(1);
    let summary = finished.json();
    assert_eq!(summary["new"].as_u64(), Some(good.len() as u64), "{summary:#}");
    each_is_told(&summary, &finished.stderr, &refused);
    assert_eq!(state(&folder), before, "something was changed where it lay");
    assert!(!marker.exists(), "code of a pickle was run");
    for outside in walk(&sandbox.path("")) {
        let known = ["in/", "store/", "run/"].iter().any(|start| outside.starts_with(start));
        assert!(known, "{outside} was made");
    }
    let stored = walk(&sandbox.store().join("models"));
    assert_eq!(stored.len(), good.len(), "{stored:#?}");
    sandbox.run(["verify"]).success();
    the_mount_shows(&sandbox, &good);
    // Once more: the same answers, and nothing is read again.
    let again = sandbox.run(["import".as_ref(), "--json".as_ref(), sandbox.path("in").as_os_str()]).code(1).json();
    assert_eq!(again["unchanged"].as_u64(), Some(good.len() as u64), "{again:#}");
    assert_eq!(again["refused"], summary["refused"]);
}

fn each_is_told(summary: &serde_json::Value, stderr: &str, refused: &[PathBuf]) {
    let told = summary["refused"].as_array().expect("an array");
    for path in refused {
        let shown = path.to_string_lossy();
        let refusal = told.iter().find(|refusal| refusal["path"] == *shown);
        let refusal = refusal.unwrap_or_else(|| panic!("{shown:?} is not refused: {summary:#}"));
        for key in ["reason", "remedy"] {
            let text = refusal[key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{refusal}");
            for debug in ["Some(", "Err(", "Os {", "os error", "{ ", "::"] {
                assert!(!text.contains(debug), "{refusal}");
            }
        }
    }
    assert_eq!(told.len(), refused.len(), "{:#?}", told.iter().map(|refusal| &refusal["path"]).collect::<Vec<_>>());
    let control = stderr.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
    assert_eq!(control, None, "a name drives the terminal:\n{stderr}");
    assert_eq!(stderr.matches("warning: ").count(), refused.len(), "one line for each:\n{stderr}");
    assert_eq!(stderr.matches("hint: ").count(), refused.len(), "{stderr}");
}

fn the_mount_shows(sandbox: &Sandbox, good: &BTreeMap<String, Vec<u8>>) {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let mount = sandbox.mount(&[]);
    let mut left: Vec<String> = good.values().map(|bytes| sha256_of(bytes)).collect();
    for entry in fs::read_dir(mount.path("comfyui/loras")).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        assert!(name.len() <= 255 && name.to_str().is_some_and(|name| !name.contains(char::is_control)), "{name:?}");
        let sha256 = sha256_of(&fs::read(entry.path()).expect("readable"));
        let at = left.iter().position(|known| *known == sha256);
        left.swap_remove(at.unwrap_or_else(|| panic!("{name:?} is nothing that was imported")));
    }
    assert!(left.is_empty(), "{left:?} are not shown");
    mount.unmount();
}

/// Whole by its header, and larger than the disk: the import stops before it begins.
#[test]
fn what_does_not_fit_is_not_begun() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("in")).expect("writable");
    let name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight";
    let mut text = String::new();
    for _ in 0..2 {
        // The length of the header is in its own numbers.
        let data = TIB - 8 - text.len() as u64;
        text = format!("{{\"{name}\":{}}}", tensor(0, data));
    }
    sparse(&sandbox.path("in/sparse.safetensors"), &headed(text.as_bytes(), 0));
    sandbox.write("in/good.safetensors", lora(1));
    let finished = sandbox.run(["import", "--mode", "copy", "in"]).code(8);
    assert!(finished.stderr.contains("hint: ") && finished.stderr.contains("1.0 TiB"), "{finished:?}");
    assert_eq!(walk(&sandbox.store().join("models")), [""; 0]);
    assert_eq!(sandbox.run(["import", "--dry-run", "--mode", "copy", "in"]).status.code(), Some(8));
    sandbox.run(["verify"]).success();
}

/// The file is never in the store in a state that it had for a moment only.
#[test]
fn a_file_that_grows_meanwhile_is_refused() {
    let sandbox = Sandbox::new();
    let meta = [("general.architecture", Meta::Text("llama"))];
    let bytes = gguf("grows", "token_embd.weight [4096,2048] F16\noutput.weight [4096,1024] F16", &meta);
    let path = sandbox.write("in/grows.gguf", bytes);
    sandbox.write("in/good.safetensors", lora(1));
    let stop = AtomicBool::new(false);
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&path).expect("writable");
            while !stop.load(Ordering::Relaxed) {
                file.write_all(&[1; 512]).expect("writable");
            }
        });
        let finished = sandbox.run(["import".as_ref(), "--json".as_ref(), sandbox.path("in").as_os_str()]);
        stop.store(true, Ordering::Relaxed);
        finished
    });
    let summary = finished.code(1).json();
    assert_eq!(summary["new"].as_u64(), Some(1), "{summary:#}");
    let refusal = &summary["refused"][0];
    assert_eq!(refusal["path"].as_str(), path.to_str(), "{summary:#}");
    assert!(refusal["remedy"].as_str().is_some_and(|remedy| remedy.contains("wait")), "{refusal}");
    // It rests now.
    let summary = sandbox.run(["import".as_ref(), "--json".as_ref(), sandbox.path("in").as_os_str()]).success().json();
    assert_eq!((summary["new"].as_u64(), summary["unchanged"].as_u64()), (Some(1), Some(1)), "{summary:#}");
    sandbox.run(["verify"]).success();
}

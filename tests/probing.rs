//! Applications that read the header of every model in a folder: little is moved, and no file is promoted.
//!
//! `MODELFS_TEST_LORAS` sets how many files there are.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::fake_hub::{Content, FakeHub};
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, modelfs_xattr};
use support::python;

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
const REPO: &str = "org/loras";
const LORAS: usize = 24;
/// Of a trainer that writes what it must, of one that writes its settings, and of one that lists every tag.
const HEADER_KIB: [usize; 3] = [0, 100, 400];
const DONE_MAX: Duration = Duration::from_secs(20);
const TENSORS: usize = 480;
const TENSOR_BYTES: usize = 10 * KIB;

fn name(number: usize) -> String {
    format!("loras/style-{number:04}.safetensors")
}

/// Text of the header beside the tensors.
fn tags_bytes(number: usize) -> usize {
    1 + HEADER_KIB[number % HEADER_KIB.len()] * KIB
}

fn lora(number: usize, data: &Content) -> Content {
    let tensors = (0..TENSORS).map(|index| {
        let (start, end) = (index * TENSOR_BYTES, (index + 1) * TENSOR_BYTES);
        let side = if index % 2 == 0 { "down" } else { "up" };
        let module = format!("lora_unet_down_blocks_{}_attentions_0_transformer_blocks_0_attn1_to_q", index / 2);
        format!(
            ",\"{module}.lora_{side}.weight\":{{\"dtype\":\"F16\",\"shape\":[16,320],\"data_offsets\":[{start},{end}]}}"
        )
    });
    let tags = "t".repeat(tags_bytes(number));
    let mut json = format!("{{\"__metadata__\":{{\"number\":\"{number}\",\"ss_tag_frequency\":\"{tags}\"}}");
    json.extend(tensors);
    json.push('}');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.extend_from_slice(json.as_bytes());
    Content::joined(head, data)
}

fn count() -> usize {
    std::env::var("MODELFS_TEST_LORAS").map_or(LORAS, |text| text.parse().expect("a number"))
}

struct Folder {
    hub: FakeHub,
    sandbox: Sandbox,
    mount: Mounted,
    sizes: Vec<u64>,
}

impl Folder {
    fn new(count: usize) -> Self {
        let hub = FakeHub::start();
        let data = Content::generated(1, (TENSORS * TENSOR_BYTES) as u64);
        let mut sizes = Vec::new();
        for number in 0..count {
            let content = lora(number, &data);
            sizes.push(content.size_bytes());
            // Now, and not while the listing is waited for.
            content.sha256();
            hub.repo(REPO).lfs(&name(number), content);
        }
        let mut sandbox = Sandbox::new();
        sandbox.set("HF_ENDPOINT", &hub.endpoint());
        sandbox.run(["add", &format!("hf:{REPO}")]).success();
        let mount = sandbox.mount(&[]);
        hub.forget_requests();
        Self { hub, sandbox, mount, sizes }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let folder = self.mount.path("hubs/huggingface").join(REPO);
        (0..self.sizes.len()).map(|number| folder.join(name(number))).collect()
    }

    /// What was moved, checked for each file.
    fn check(self, who: &str, began: Instant, bytes_max: impl Fn(usize) -> u64) {
        let took = began.elapsed();
        let (mut moved, mut most) = (0, 0);
        for (number, path) in self.paths().iter().enumerate() {
            // What the kernel reads ahead may still be under way.
            eventually("it is left where it is", DONE_MAX, || {
                modelfs_xattr(path, "state").as_deref() == Some("partial")
            });
            let bytes = self.hub.cdn_bytes_sent(&name(number));
            (moved, most) = (moved + bytes, most.max(bytes));
            let bytes_max = bytes_max(number);
            assert!(bytes <= bytes_max, "{who}: {bytes} bytes were moved of {}, whose header is less", path.display());
            let present: u64 =
                modelfs_xattr(path, "bytes_present").and_then(|text| text.parse().ok()).expect("a number");
            assert!((1..=bytes_max).contains(&present), "{who}: {present} bytes of {} are here", path.display());
        }
        assert!(moved > 0);
        let all: u64 = self.sizes.iter().sum();
        eprintln!(
            "{who}: {} headers in {took:.1?}: {} MiB of {} moved, {most} bytes of a file at most",
            self.sizes.len(),
            moved / MIB,
            all / MIB
        );
        self.mount.unmount();
        drop(self.sandbox);
    }
}

#[test]
fn a_plain_reader_of_all_headers_moves_little() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let folder = Folder::new(count());
    let began = Instant::now();
    for (number, path) in folder.paths().iter().enumerate() {
        let mut file = File::open(path).expect("opens");
        let mut length = [0; 8];
        file.read_exact(&mut length).expect("the length");
        let mut json = vec![0; usize::try_from(u64::from_le_bytes(length)).expect("small")];
        file.read_exact(&mut json).expect("the header");
        let header: serde_json::Value = serde_json::from_slice(&json).expect("the header is JSON");
        assert_eq!(header["__metadata__"]["number"], number.to_string());
        assert_eq!(header.as_object().map(serde_json::Map::len), Some(TENSORS + 1));
    }
    // Behind a long read in order the kernel reads ahead by up to 1 MiB, and nobody can tell that from a read.
    folder.check("plain reads", began, |number| if tags_bytes(number) > 256 * KIB { 2 * MIB } else { MIB });
}

#[test]
fn safetensors_of_python_moves_at_most_a_chunk_of_each() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let Some(mut script) = python::script("read_headers.py") else { return };
    let folder = Folder::new(count());
    let began = Instant::now();
    let mut reader = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter starts");
    let mut stdin = reader.stdin.take().expect("a pipe");
    let paths = folder.paths();
    let feeder = std::thread::spawn(move || {
        for path in paths {
            writeln!(stdin, "{}", path.display()).expect("the reader reads");
        }
    });
    let output = reader.wait_with_output().expect("it ends");
    feeder.join().expect("all paths were given");
    assert!(output.status.success(), "{}", output.status);
    let expected: Vec<String> =
        (0..folder.sizes.len()).map(|number| format!("{TENSORS} {}", tags_bytes(number))).collect();
    let read = String::from_utf8(output.stdout).expect("text");
    assert_eq!(read.lines().collect::<Vec<&str>>(), expected);
    folder.check("safetensors of Python", began, |_| MIB);
}

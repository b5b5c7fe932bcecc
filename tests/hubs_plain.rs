//! Single files of the web and folders of this machine, from `add` to the last byte.

mod support;

use std::fs;
use support::fake_hub::{FakeHub, Fault, Place, Rule, sha256_of, sha256_of_file};
use support::mounted::{Fuse, Sandbox, fuse_or_skip, modelfs_xattr};
use support::tiny::large_lora;

const MIB: usize = 1 << 20;
const FILE: &str = "loras/web style.safetensors";

fn hub_with(bytes: &[u8]) -> (FakeHub, String) {
    let hub = FakeHub::start();
    hub.repo("org/name").lfs(FILE, bytes.to_vec()).file("page.html", "<html></html>");
    let address = format!("{}/org/name/resolve/main/loras/web%20style.safetensors", hub.endpoint());
    (hub, address)
}

#[test]
fn a_file_of_the_web_is_listed_and_read() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(1, 5 * MIB);
    let (hub, address) = hub_with(&bytes);
    let mut sandbox = Sandbox::new();
    sandbox.set("HF_TOKEN", "hf_secret_token");
    let added = sandbox.run(["add", "--json", &format!("{address}?download=true&token=hunter2")]).success().json();
    assert_eq!((added[0]["models"].as_u64(), added[0]["path"].as_str()), (Some(1), Some("by/source/web")), "{added}");
    assert_eq!(sandbox.run(["add", "--json", &format!("{address}?download=true")]).success().json()[0]["known"], 1);
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/web style.safetensors");
    assert_eq!(fs::metadata(&path).expect("listed").len(), bytes.len() as u64);
    assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(&bytes));
    assert!(mount.path("by/source/web/web style.safetensors").exists());
    let sources = modelfs_xattr(&path, "sources").expect("known");
    assert!(sources.contains("download=true") && !sources.contains("hunter2"), "{sources}");
    let info = sandbox.run(["info", "--json", &format!("{address}?download=true")]).success().json();
    assert_eq!(info["sources"][0]["url"].as_str(), Some(format!("{address}?download=true").as_str()), "{info}");
    let log = mount.unmount();
    assert!(!log.contains("hunter2"), "{log}");
    assert!(hub.requests().iter().all(|request| !request.with_authorization), "a token left for the web");
    sandbox.run(["verify"]).success();
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let bytes = large_lora(2, 3 * MIB);
    let (hub, address) = hub_with(&bytes);
    hub.fault(Rule::new(Fault::WholeForRange).at(Place::Bytes));
    let sandbox = Sandbox::new();
    sandbox.run(["add", &address]).success();
    let mount = sandbox.mount(&[]);
    let path = mount.path("comfyui/loras/web style.safetensors");
    assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(&bytes));
    mount.unmount();
}

#[test]
fn addresses_that_are_no_model() {
    let (hub, address) = hub_with(b"x");
    let sandbox = Sandbox::new();
    let missing = format!("{}/org/name/resolve/main/none.safetensors", hub.endpoint());
    for (address, code) in [
        (missing.as_str(), 4),
        ("https://user:hunter2@127.0.0.1/x.safetensors", 2),
        (&format!("{}/org/name/resolve/main/page.html", hub.endpoint()), 2),
    ] {
        let refused = sandbox.run(["add", address]).code(code);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    }
    hub.fault(Fault::HtmlPage);
    sandbox.run(["add", &address]).code(5);
}

#[test]
fn a_folder_of_this_machine_is_a_hub() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    let bytes = large_lora(3, 2 * MIB);
    let here = sandbox.write("disk/loras/a.safetensors", &bytes);
    sandbox.write("disk/notes.txt", "text");
    sandbox.write("disk/.git/b.safetensors", &bytes);
    let disk = sandbox.path("disk");
    let reference = format!("dir:{}", disk.display());
    let added = sandbox.run(["--offline", "add", "--json", &reference]).success().json();
    assert_eq!((added[0]["models"].as_u64(), added[0]["files"].as_u64()), (Some(1), Some(1)), "{added}");
    let mount = sandbox.mount(&["--offline"]);
    let path = mount.path("comfyui/loras/a.safetensors");
    assert_eq!(modelfs_xattr(&path, "state").as_deref(), Some("remote"));
    assert_eq!(sha256_of_file(&path).expect("readable"), sha256_of(&bytes));
    mount.unmount();

    // A file that was written to is another file: its old bytes are gone, and that is said.
    let changed = large_lora(4, 2 * MIB);
    let other = sandbox.write("disk/loras/b.safetensors", &changed);
    sandbox.run(["add", &format!("file://{}", other.display())]).success();
    fs::write(&other, large_lora(5, MIB)).expect("a writable sandbox");
    let mount = sandbox.mount(&[]);
    let error = fs::read(mount.path("comfyui/loras/b.safetensors")).expect_err("changed");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
    mount.unmount();
    assert!(here.exists(), "the source is only read");
}

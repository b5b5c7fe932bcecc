//! `modelfs hash`: published vectors, and every definition against a slow computation that shares no code with it.

mod support;

use std::fs;
use support::fake_hub::sha256_of;
use support::mounted::Sandbox;
use support::samples::{safetensors_file, tensors};

fn hashes(sandbox: &Sandbox, file: &str) -> serde_json::Value {
    let all = sandbox.run(["hash", "--json", file]).success().json();
    all[0].clone()
}

/// CRC-32 bit by bit, in the byte order of the hub.
fn crc32(bytes: &[u8]) -> String {
    let mut register = !0_u32;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { register >> 1 ^ 0xEDB8_8320 } else { register >> 1 };
        }
    }
    (!register).to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_published_vector_needs_no_store() {
    let sandbox = Sandbox::new();
    sandbox.write("hello.txt", "hello world");
    let hashed = hashes(&sandbox, "hello.txt");
    let expected = [
        ("sha256", Some("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")),
        ("autov2", Some("b94d27b993")),
        ("crc32", Some("85114a0d")),
        ("blake3", Some("d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24")),
        ("autov1", None),
        ("autov3", None),
    ];
    for (name, value) in expected {
        assert_eq!(hashed[name].as_str(), value, "{name}");
    }
    assert!(!sandbox.store().exists());
}

#[test]
fn short_hashes_are_what_their_definitions_say() {
    let sandbox = Sandbox::new();
    // 2 MiB and a little: AutoV1 needs as much.
    for (name, text) in
        [("large", "a.weight [1100,1000]"), ("odd", "a.weight [7]\nb.weight [1048,1003]"), ("small", "a [9]")]
    {
        let bytes = safetensors_file::bytes(name, &tensors::parse(text), &[("format", "pt")]);
        let file = format!("{name}.safetensors");
        sandbox.write(&file, &bytes);
        let hashed = hashes(&sandbox, &file);
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let autov1 = (bytes.len() >= 0x20_0000).then(|| sha256_of(&bytes[0x10_0000..0x11_0000])[..8].to_owned());
        assert_eq!(hashed["autov1"].as_str().map(str::to_owned), autov1, "{name}");
        assert_eq!(hashed["autov3"].as_str(), Some(&sha256_of(&bytes[8 + header..])[..12]), "{name}");
        assert_eq!(hashed["autov2"].as_str(), Some(&sha256_of(&bytes)[..10]), "{name}");
        assert_eq!(hashed["crc32"].as_str(), Some(crc32(&bytes).as_str()), "{name}");
    }
}

#[test]
fn a_sidecar_holds_the_digits_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("a.safetensors", "hello world");
    sandbox.run(["hash", "a.safetensors"]).success();
    assert!(!sandbox.path("a.sha256").exists(), "only when it is asked for");
    for _ in 0..2 {
        sandbox.run(["hash", "--write", "a.safetensors"]).success();
        let sidecar = fs::read_to_string(sandbox.path("a.sha256")).expect("written");
        assert_eq!(sidecar, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    }
    let left: Vec<_> =
        fs::read_dir(sandbox.path("")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    sandbox.run(["hash", "--write", "a.sha256"]).code(2);
}

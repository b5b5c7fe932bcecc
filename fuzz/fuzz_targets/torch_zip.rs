//! Anything as an archive, and as the pickle of a whole one.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked::read(&[b"PK\x03\x04", data].concat());
    checked::read(&archive(data));
});

/// An archive whose only member is `a/data.pkl`.
fn archive(pickle: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"a/data.pkl";
    let size = (pickle.len() as u32).to_le_bytes();
    // Version to length of the name, as the member and the directory both have it.
    let shared = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &size, &size, &[NAME.len() as u8, 0]].concat();
    let mut bytes = [b"PK\x03\x04", &shared[..], &[0; 2], NAME, pickle].concat();
    let offset = (bytes.len() as u32).to_le_bytes();
    let directory = [b"PK\x01\x02\x14\0", &shared[..], &[0; 16], NAME].concat();
    let directory_bytes = (directory.len() as u32).to_le_bytes();
    bytes.extend([&directory, &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &directory_bytes, &offset, &[0; 2]].concat());
    bytes
}

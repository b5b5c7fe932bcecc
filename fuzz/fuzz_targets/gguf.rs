//! Anything behind the magic number of GGUF.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked::read(&[b"GGUF", data].concat());
});

//! Opcodes of any kind, with and without a magic number.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked::read(&[b"\x80\x04", data].concat());
    checked::read(&[b"(d", data].concat());
});

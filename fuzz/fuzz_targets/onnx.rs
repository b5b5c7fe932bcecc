//! Anything behind the first two fields of a model.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked::read(&[b"\x08\x07\x12\x01p", data].concat());
});

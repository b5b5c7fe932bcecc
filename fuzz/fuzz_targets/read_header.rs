//! Any bytes, told apart by the program itself.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked::read(data);
});

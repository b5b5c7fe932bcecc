//! JSON of any kind behind a fitting length; the last byte says how much data follows.
#![no_main]

mod checked;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((data_bytes, json)) = data.split_last() else { return };
    let mut bytes = (json.len() as u64 + 1).to_le_bytes().to_vec();
    bytes.push(b'{');
    bytes.extend_from_slice(json);
    bytes.resize(bytes.len() + usize::from(*data_bytes), 0);
    checked::read(&bytes);
});

//! A kept record that was damaged: refused, or a header that can be kept again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelfs::formats::{decode_header, encode_header};

fuzz_target!(|data: &[u8]| {
    for record in [data.to_vec(), [b"MFH\x01", data].concat(), [b"MFH\x02", data].concat()] {
        if let Ok(header) = decode_header(&record) {
            assert_eq!(decode_header(&encode_header(&header)).expect("its own record"), header);
        }
    }
});

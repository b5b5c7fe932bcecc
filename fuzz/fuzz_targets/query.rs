//! A query that parses is written as a text that parses to the same query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelfs::query::{QUERY_BYTES_MAX, Query};

fuzz_target!(|text: &str| {
    match Query::parse(text) {
        Ok(query) => {
            let written = query.to_string();
            if written.len() <= QUERY_BYTES_MAX {
                assert_eq!(Query::parse(&written).expect("what it wrote itself"), query);
            }
        }
        Err(error) => assert!(!error.under(text).is_empty()),
    }
});

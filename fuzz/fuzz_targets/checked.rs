//! What every reader is asked to hold, shared by the targets that read headers.

use modelfs::formats::{FormatError, decode_header, encode_header, read_header};

/// Reads `bytes` and checks what holds for every header; a refusal must be explained.
pub fn read(bytes: &[u8]) {
    match read_header(bytes) {
        Ok(header) => {
            let mut names: Vec<&str> = header.tensors.iter().map(|tensor| &*tensor.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two tensors have one name");
            assert!(header.imports.is_sorted_by(|one, next| one < next), "imports are not sorted");
            assert_eq!(decode_header(&encode_header(&header)).expect("its own record"), header);
        }
        Err(FormatError::Io(error)) => panic!("reading memory cannot fail: {error}"),
        Err(refusal) => assert!(!refusal.fault("file").what.contains(char::is_control)),
    }
}

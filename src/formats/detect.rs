//! Which container it is, told from the first bytes alone.
//!
//! Invariant: a name never decides; what looks like no model under any name (a page, a pointer, zeros) is refused
//! here, and bytes nobody knows are `Format::Other`, not an error. Not here: the containers themselves.

use super::header::ByteSource;
use super::limits::Collector;
use super::window::read_up_to;
use super::{Format, FormatError, Header, PageKind, gguf, onnx, safetensors, torch};
use crate::base::ByteRange;

/// Enough for every magic number, including the one of tar at 257, and for the start of a page.
const START_BYTES: usize = 4 << 10;

/// A file of zeros only up to here has never arrived.
const ZEROS_BYTES: usize = 64 << 10;

/// A page or an answer longer than this is none.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// The reference limit of the safetensors length; a larger number before `{` is chance or an attack.
const SAFETENSORS_LENGTH_MAX: u64 = 100_000_000;

/// Reads what the header of `source` says, by its bytes.
pub fn read_header<S: ByteSource + ?Sized>(source: &S) -> Result<Header, FormatError> {
    read(&source)
}

/// Where the tensors of a safetensors or GGUF file lie, in no particular order; nothing for other files.
pub fn tensor_places<S: ByteSource + ?Sized>(source: &S) -> Result<Vec<ByteRange>, FormatError> {
    let source: &dyn ByteSource = &source;
    let start = read_up_to(source, 0, START_BYTES)?;
    let (_, places) = match safetensors_length(&start) {
        _ if start.starts_with(b"GGUF") => gguf::read_placed(source)?,
        Some(json_bytes) => safetensors::read_placed(source, json_bytes)?,
        None => return Ok(Vec::new()),
    };
    Ok(places.into_iter().filter_map(|(start, len)| ByteRange::new(start, len)).collect())
}

fn read(source: &dyn ByteSource) -> Result<Header, FormatError> {
    let start = read_up_to(source, 0, START_BYTES)?;
    if let Some(what) = page_kind(source, &start)? {
        return Err(FormatError::NotAModel { what });
    }
    if start.starts_with(b"GGUF") {
        return gguf::read(source);
    }
    if start.starts_with(b"PK\x03\x04") {
        return torch::read_zip(source);
    }
    // Torch tries it before pickles, and the first member's name may be the start of anything.
    if is_tar(&start) {
        let mut other = Collector::new(Format::Other);
        other.metadata("container", "tar")?;
        return Ok(other.finish());
    }
    if let [0x80, 2..=5, ..] = start[..]
        && !(is_no_pickle(&start) && safetensors_length(&start).is_some())
    {
        return torch::read_pickle(source);
    }
    if let Some(json_bytes) = safetensors_length(&start) {
        return safetensors::read(source, json_bytes);
    }
    if onnx::may_start(&start)
        && let Some(header) = onnx::read(source)?
    {
        return Ok(header);
    }
    // A module to import, a mark and what it is for, a dict or list that is remembered: the usual starts of the
    // protocols without a magic number.
    if let [b'c', b'a'..=b'z' | b'_', ..] | [b'(', b'd' | b'l' | b'c', ..] | [b'}' | b']', b'q', 0, ..] = start[..]
        && let Some(header) = torch::read_unmarked_pickle(source)?
    {
        return Ok(header);
    }
    let mut other = Collector::new(Format::Other);
    if let Some(container) = known_container(&start) {
        other.metadata("container", container)?;
    }
    torch::stray_imports(source, &mut other)?;
    Ok(other.finish())
}

/// Whether an unpickler gives up within the first eight bytes, which then may be a length: 640 begins like protocol 2.
/// Zero is no opcode, so that only one whose argument is a line or has eight bytes gets past five of them.
fn is_no_pickle(start: &[u8]) -> bool {
    const GET_FURTHER: &[u8] = b"GILSVFcipgP\x8d\x8e\x95\x96";
    matches!(start, [_, _, opcode, 0, 0, 0, 0, 0, ..] if !GET_FURTHER.contains(opcode))
}

/// The length before the JSON, if these are the first bytes of a safetensors file.
fn safetensors_length(start: &[u8]) -> Option<u64> {
    let (length, json) = start.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(*length);
    let json_start = match json {
        [b'{', b'"' | b'}' | b' ' | b'\n' | b'\r' | b'\t', ..] | [b'{'] => true,
        // Anything else after the brace is damaged JSON; say so, unless the length is no length either.
        [b'{', ..] => length <= SAFETENSORS_LENGTH_MAX,
        _ => false,
    };
    json_start.then_some(length)
}

fn page_kind(source: &dyn ByteSource, start: &[u8]) -> Result<Option<PageKind>, FormatError> {
    if start.is_empty() {
        return Ok(Some(PageKind::Empty));
    }
    if start.iter().all(|&byte| byte == 0) {
        let more = read_up_to(source, 0, ZEROS_BYTES)?;
        return Ok(more.iter().all(|&byte| byte == 0).then_some(PageKind::Zeros));
    }
    if start.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(Some(PageKind::LfsPointer));
    }
    if source.size_bytes() > PAGE_BYTES_MAX {
        return Ok(None);
    }
    Ok(text_of(start).and_then(|text| text_kind(text, source.size_bytes())))
}

/// The start as text, if it is text: a character may be cut at its end.
fn text_of(start: &[u8]) -> Option<&str> {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}'));
    is_text.then(|| text.trim_start())
}

fn text_kind(text: &str, size_bytes: u64) -> Option<PageKind> {
    let begins = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins("<!doctype") || begins("<html") || begins("<head") || begins("<?xml") || begins("<!--") {
        return Some(PageKind::Html);
    }
    if begins("{") || begins("[") {
        return Some(PageKind::Json);
    }
    (size_bytes <= START_BYTES as u64).then_some(PageKind::Text)
}

/// Whether the first member of a tar begins here: told by its checksum, since the oldest ones have no magic number.
fn is_tar(start: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(header) = start.get(..512) else { return false };
    let claimed = tar_number(&header[SUM]);
    let others = || header[..SUM.start].iter().chain(&header[SUM.end..]).copied();
    let blanks = 8 * i64::from(b' ');
    let sums = [others().map(i64::from).sum::<i64>(), others().map(|byte| i64::from(byte.cast_signed())).sum::<i64>()];
    sums.iter().any(|sum| claimed == Some(sum + blanks))
}

/// A number of a tar, with everything that Python takes for one: bytes behind a mark, or octal digits, where none are zero.
/// A sum of signed bytes may be zero or less, so these are numbers too.
fn tar_number(field: &[u8]) -> Option<i64> {
    let binary = |bytes: &[u8]| bytes.iter().fold(0, |sum: i64, &byte| (sum << 8) | i64::from(byte));
    match field.split_first()? {
        (0x80, bytes) => return Some(binary(bytes)),
        (0xff, bytes) => return Some(binary(bytes) - (1 << (8 * bytes.len()))),
        _ => {}
    }
    let text = std::str::from_utf8(field.split(|&byte| byte == 0).next()?).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "").to_lowercase();
    let digits = digits.strip_prefix("0o").unwrap_or(&digits);
    if text.is_empty() { Some(0) } else { i64::from_str_radix(digits, 8).ok().map(|number| sign * number) }
}

/// Containers that are known and not read further.
fn known_container(start: &[u8]) -> Option<&'static str> {
    const MAGICS: &[(usize, &[u8], &str)] = &[
        (0, b"lmgg", "ggml"),
        (0, b"fmgg", "ggmf"),
        (0, b"tjgg", "ggjt"),
        (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
        (0, b"\x93NUMPY", "npy"),
        (257, b"ustar", "tar"),
        (4, b"TFL3", "tflite"),
        (0, b"\x1f\x8b", "gzip"),
        (0, b"\x28\xb5\x2f\xfd", "zstd"),
        (0, b"7z\xbc\xaf", "7z"),
        (0, b"Rar!", "rar"),
    ];
    let is_at = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    MAGICS.iter().find(|(offset, magic, _)| is_at(*offset, magic)).map(|(_, _, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_begins_like_a_pickle_is_a_length() {
        let begin = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}";
        for length in [0x280_usize, 0x380, 0x480, 0x580, 0x0280 + (0x4B << 16)] {
            let json = format!("{begin}{}}}", " ".repeat(length - begin.len() - 1));
            let file = [&(length as u64).to_le_bytes()[..], json.as_bytes(), &[7]].concat();
            let header = read_header(&file[..]).unwrap_or_else(|error| panic!("{length}: {error}"));
            assert_eq!((header.format, header.tensors.len()), (Format::Safetensors, 1), "{length}");
        }
        // An unpickler gets beyond these, so they are read as what they do.
        for opcode in [b'c', b'G', 0x8d, 0x95] {
            let mut start = [0x80, 2, opcode, 0, 0, 0, 0, 0].to_vec();
            start.extend_from_slice(b"{\"a\":{}}");
            assert!(!is_no_pickle(&start), "{opcode:#x}");
        }
        assert!(!is_no_pickle(b"\x80\x02}q\0."));
    }

    /// Each of these is a tar to Python, whose first member is named like a whole pickle.
    #[test]
    fn every_spelling_of_a_checksum_is_one() {
        let with_sum = |field: &[u8], sum: i64| {
            let mut start = vec![0u8; 1024];
            start[..4].copy_from_slice(b"\x80\x02}.");
            start[148..148 + field.len()].copy_from_slice(field);
            let signed = |start: &[u8]| {
                let others = start[..148].iter().chain(&start[156..512]);
                256 + others.map(|byte| i64::from(byte.cast_signed())).sum::<i64>()
            };
            for place in 300..400 {
                let missing = (sum - signed(&start)).clamp(i64::from(i8::MIN), i64::from(i8::MAX));
                start[place] = i8::try_from(missing).expect("clamped").cast_unsigned();
            }
            start
        };
        for (field, sum) in [
            (&b"000400\0 "[..], 256),
            (b"", 0),
            (b"   ", 0),
            (b"\x1c400\x1f", 256),
            (b"+0O4_00", 256),
            (b"-0o400", -256),
            (b"\x80\0\0\0\0\0\x01\0", 256),
            (b"\xff\xff\xff\xff\xff\xff\xff\0", -256),
        ] {
            let shown = field.escape_ascii();
            assert!(is_tar(&with_sum(field, sum)), "{shown}");
            assert!(!is_tar(&with_sum(field, sum + 1)), "{shown}");
        }
        assert!(!is_tar(&[0; 1024]) && !is_tar(&with_sum(b"4x0", 256)));
    }
}

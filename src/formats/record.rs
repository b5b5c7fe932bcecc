//! A header as the catalog keeps it: small, versioned, and as little trusted when it is read again.
//!
//! Layout: `MFH`, one version byte, then a zlib stream of variable-length numbers and length-prefixed texts. Since
//! version 2 a tensor's name is what differs from the one before it, and its dtype the number of one that came before.
//! Invariant: `decode_header(encode_header(h)) == h` for every header that a reader returned, within the readers'
//! limits. Not here: where the record is kept.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::limits::{Collector, FACTS_BYTES_MAX, RANK_MAX, over};
use super::{Format, FormatError, Header};

const MAGIC: &[u8; 3] = b"MFH";
const VERSION: u8 = 2;
/// Whole names and dtypes; stores have such records from before.
const WHOLE_NAMES_VERSION: u8 = 1;

/// A number takes up to 10 bytes here and 8 in memory: twice the facts' limit holds everything a reader returns.
const UNPACKED_BYTES_MAX: u64 = 2 * FACTS_BYTES_MAX as u64;

/// Names in blocks repeat themselves: a record is some ten times as long when it is unpacked. A first guess of its
/// length, at most a few hundred KiB, saves growing it again and again.
const UNPACKED_FACTOR: usize = 12;
const UNPACKED_BYTES_GUESS: usize = 512 << 10;

/// Dtypes that are looked for by the writer; further ones are written whole each time. Real files have a handful, and a
/// file may give every tensor one of its own.
const DTYPES_NUMBERED_MAX: usize = 64;

/// Bytes a tensor takes at least: lengths of name and dtype, and the rank.
const TENSOR_BYTES_MIN: usize = 3;

/// Formats by their number in the record; append only.
const FORMATS: [Format; 7] = [
    Format::Safetensors,
    Format::Gguf,
    Format::TorchZip,
    Format::TorchLegacy,
    Format::Pickle,
    Format::Onnx,
    Format::Other,
];

/// The record of a header, for `decode_header`.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let mut plain = Vec::new();
    let format = FORMATS.iter().position(|format| *format == header.format).expect("every format has its number");
    put_number(&mut plain, format as u64);
    put_number(&mut plain, u64::from(header.data_start.is_some()));
    put_number(&mut plain, header.data_start.unwrap_or(0));
    put_number(&mut plain, header.tensors.len() as u64);
    let mut before = "";
    let mut dtypes: Vec<&str> = Vec::new();
    for tensor in &header.tensors {
        let shared = shared_bytes(before, &tensor.name);
        put_number(&mut plain, shared as u64);
        put_text(&mut plain, &tensor.name[shared..]);
        before = &tensor.name;
        // Numbered from 1; 0 says that a new one follows.
        match dtypes.iter().position(|known| **known == *tensor.dtype) {
            Some(number) => put_number(&mut plain, number as u64 + 1),
            None => {
                put_number(&mut plain, 0);
                put_text(&mut plain, &tensor.dtype);
                if dtypes.len() < DTYPES_NUMBERED_MAX {
                    dtypes.push(&tensor.dtype);
                }
            }
        }
        put_number(&mut plain, tensor.shape.len() as u64);
        tensor.shape.iter().for_each(|&length| put_number(&mut plain, length));
    }
    put_number(&mut plain, header.metadata.len() as u64);
    for (key, value) in &header.metadata {
        put_text(&mut plain, key);
        put_text(&mut plain, value);
    }
    put_number(&mut plain, header.imports.len() as u64);
    header.imports.iter().for_each(|import| put_text(&mut plain, import));

    let mut record = MAGIC.to_vec();
    record.push(VERSION);
    let mut encoder = ZlibEncoder::new(record, Compression::default());
    encoder.write_all(&plain).expect("writing to a vector cannot fail");
    encoder.finish().expect("writing to a vector cannot fail")
}

/// The header behind a record.
pub fn decode_header(record: &[u8]) -> Result<Header, FormatError> {
    let (version, packed) = match record.strip_prefix(MAGIC) {
        Some([version @ (WHOLE_NAMES_VERSION | VERSION), packed @ ..]) => (*version, packed),
        Some([_, ..]) => return Err(damaged("it has a version this program does not know")),
        _ => return Err(damaged("it does not begin as one")),
    };
    let mut plain = Vec::with_capacity(packed.len().saturating_mul(UNPACKED_FACTOR).min(UNPACKED_BYTES_GUESS));
    ZlibDecoder::new(packed)
        .take(UNPACKED_BYTES_MAX + 1)
        .read_to_end(&mut plain)
        .map_err(|_| damaged("it cannot be unpacked"))?;
    if plain.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(over("bytes", UNPACKED_BYTES_MAX, plain.len() as u64));
    }
    let mut rest = Rest(&plain);
    let format = usize::try_from(rest.number()?).ok().and_then(|index| FORMATS.get(index).copied());
    let mut facts = Collector::new(format.ok_or_else(|| damaged("its format is unknown"))?);
    let has_data_start = rest.number()?;
    let data_start = rest.number()?;
    if has_data_start != 0 {
        facts.set_data_start(data_start);
    }
    tensors(&mut rest, version, &mut facts)?;
    for _ in 0..rest.number()? {
        let (key, value) = (rest.text()?, rest.text()?);
        facts.metadata(key, value)?;
    }
    for _ in 0..rest.number()? {
        facts.import(rest.text()?.to_owned())?;
    }
    if !rest.0.is_empty() {
        return Err(damaged("bytes follow its end"));
    }
    Ok(facts.finish())
}

fn tensors(rest: &mut Rest<'_>, version: u8, facts: &mut Collector) -> Result<(), FormatError> {
    let count = rest.number()?;
    // Each takes some bytes of what is left: a number that lies reserves nothing.
    facts.expect_tensors(usize::try_from(count).unwrap_or(usize::MAX).min(rest.0.len() / TENSOR_BYTES_MIN));
    let (mut name, mut shape) = (String::new(), Vec::new());
    let mut dtypes: Vec<&str> = Vec::new();
    for _ in 0..count {
        let dtype = if version == WHOLE_NAMES_VERSION {
            name.clear();
            name.push_str(rest.text()?);
            rest.text()?
        } else {
            let shared = usize::try_from(rest.number()?).unwrap_or(usize::MAX);
            if !name.is_char_boundary(shared) {
                return Err(damaged("a name has more in common with the one before it than that is long"));
            }
            name.truncate(shared);
            name.push_str(rest.text()?);
            match rest.number()? {
                0 => {
                    let dtype = rest.text()?;
                    dtypes.push(dtype);
                    dtype
                }
                number => usize::try_from(number - 1)
                    .ok()
                    .and_then(|number| dtypes.get(number).copied())
                    .ok_or_else(|| damaged("a dtype is unknown"))?,
            }
        };
        let rank = rest.number()?;
        if rank > RANK_MAX as u64 {
            return Err(over("dimensions", RANK_MAX as u64, rank));
        }
        shape.clear();
        for _ in 0..rank {
            shape.push(rest.number()?);
        }
        facts.tensor(&name, dtype, &shape)?;
    }
    Ok(())
}

/// How many bytes two names begin with alike, up to the end of a character.
fn shared_bytes(before: &str, name: &str) -> usize {
    let alike = before.bytes().zip(name.bytes()).take_while(|(one, other)| one == other).count();
    name.floor_char_boundary(alike)
}

fn damaged(reason: &str) -> FormatError {
    FormatError::malformed(Format::Other, format_args!("the kept record cannot be used: {reason}"))
}

fn put_number(plain: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        plain.push(number as u8 | 0x80);
        number >>= 7;
    }
    plain.push(number as u8);
}

fn put_text(plain: &mut Vec<u8>, text: &str) {
    put_number(plain, text.len() as u64);
    plain.extend_from_slice(text.as_bytes());
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Result<u64, FormatError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(|| damaged("it is cut off"))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number does not fit"))
    }

    fn text(&mut self) -> Result<&'a str, FormatError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(|| damaged("it is cut off"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| damaged("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Tensor;

    fn header(names: &[&str]) -> Header {
        let tensor = |(number, name): (usize, &&str)| Tensor {
            name: (*name).into(),
            dtype: ["F16", "BF16"][number % 2].into(),
            shape: [number as u64, 300].into(),
        };
        Header {
            format: Format::Safetensors,
            tensors: names.iter().enumerate().map(tensor).collect(),
            metadata: vec![("format".to_owned(), "pt".to_owned())],
            imports: Vec::new(),
            data_start: Some(800),
        }
    }

    fn record(version: u8, plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new([&MAGIC[..], &[version]].concat(), Compression::default());
        encoder.write_all(plain).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn names_that_begin_alike_come_back() {
        for names in [
            &["a.0.weight", "a.0.bias", "a.1.weight", "b"][..],
            // `é` and `è` begin with one byte in common.
            &["caf\u{e9}", "caf\u{e8}", "caf", ""],
            &["x", "xx", "xxx", "y"],
            &[],
        ] {
            let header = header(names);
            assert_eq!(decode_header(&encode_header(&header)).expect("its own record"), header, "{names:?}");
        }
    }

    #[test]
    fn dtypes_without_number_come_back() {
        let mut header = header(&[]);
        let kinds = 3 * DTYPES_NUMBERED_MAX;
        let tensor = |number: usize| Tensor {
            name: format!("t{number:03}").into(),
            dtype: format!("D{}", number % kinds).into(),
            shape: [1].into(),
        };
        header.tensors = (0..2 * kinds).map(tensor).collect();
        assert_eq!(decode_header(&encode_header(&header)).expect("its own record"), header);
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        let expected = header(&["a.0.weight", "a.0.bias", "b"]);
        let mut plain = vec![0, 1];
        put_number(&mut plain, 800);
        put_number(&mut plain, 3);
        for tensor in &expected.tensors {
            put_text(&mut plain, &tensor.name);
            put_text(&mut plain, &tensor.dtype);
            put_number(&mut plain, tensor.shape.len() as u64);
            tensor.shape.iter().for_each(|&length| put_number(&mut plain, length));
        }
        plain.extend(b"\x01\x06format\x02pt\x00");
        assert_eq!(decode_header(&record(WHOLE_NAMES_VERSION, &plain)).expect("whole"), expected);
    }

    #[test]
    fn what_refers_to_nothing_is_refused() {
        for (plain, what) in [
            (&b"\0\0\0\x01\x01\x01a\0\x03F16\0\0\0"[..], "a shared start of nothing"),
            (b"\0\0\0\x01\0\x01a\x01\0\0\0", "a dtype before the first"),
            (b"\0\0\0\x02\0\x02\xc3\xa9\0\x03F16\0\x01\0\x01\0\0\0", "half a character"),
            (b"\0\0\0\xff\xff\xff\xff\x0f\0\x01a", "a number of tensors that lies"),
        ] {
            assert!(matches!(decode_header(&record(VERSION, plain)), Err(FormatError::Malformed { .. })), "{what}");
        }
    }
}

//! A header as the catalog keeps it: small, versioned, and as little trusted when it is read again.
//!
//! Layout: `MFH`, one version byte, then a zlib stream of variable-length numbers and length-prefixed texts.
//! Invariant: `decode_header(encode_header(h)) == h` for every header that a reader returned, within the readers'
//! limits. Not here: where the record is kept.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::limits::{Collector, FACTS_BYTES_MAX, RANK_MAX, over};
use super::{Format, FormatError, Header};

const MAGIC: &[u8; 3] = b"MFH";
const VERSION: u8 = 1;

/// A number takes up to 10 bytes here and 8 in memory: twice the facts' limit holds everything a reader returns.
const UNPACKED_BYTES_MAX: u64 = 2 * FACTS_BYTES_MAX as u64;

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
    for tensor in &header.tensors {
        put_text(&mut plain, &tensor.name);
        put_text(&mut plain, &tensor.dtype);
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
    let packed = match record.strip_prefix(MAGIC) {
        Some([VERSION, packed @ ..]) => packed,
        Some([_, ..]) => return Err(damaged("it has a version this program does not know")),
        _ => return Err(damaged("it does not begin as one")),
    };
    let mut plain = Vec::new();
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
    for _ in 0..rest.number()? {
        let (name, dtype) = (rest.text()?, rest.text()?);
        let rank = rest.number()?;
        if rank > RANK_MAX as u64 {
            return Err(over("dimensions", RANK_MAX as u64, rank));
        }
        let shape = (0..rank).map(|_| rest.number()).collect::<Result<Vec<_>, _>>()?;
        facts.tensor(name, dtype, &shape)?;
    }
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

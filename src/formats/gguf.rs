//! GGUF, versions 1 to 3, in both byte orders.
//!
//! Invariants: arrays are walked past, never held; every tensor lies inside the file and none overlaps another; shapes
//! leave here outermost first. Not here: what an architecture's keys mean.

use std::collections::HashMap;

use super::header::ByteSource;
use super::limits::{Collector, VALUE_BYTES_MAX, WALK_BYTES_MAX, cut, over, repeated_name};
use super::window::Window;
use super::{Format, FormatError, Header};

const KEYS_MAX: u64 = 100_000;
const TENSORS_MAX: u64 = 1_000_000;
const KEY_BYTES_MAX: u64 = 65_535;
/// The specification says 64, writers of image quants go up to 127.
const NAME_BYTES_MAX: u64 = 1_024;
const DIMENSIONS_MAX: u32 = 8;
const NESTING_MAX: u32 = 4;
/// Longest array shown in the metadata: tags, languages, section lengths.
const SHOWN_ELEMENTS_MAX: u64 = 16;
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;
/// Image quants store a tensor's true shape under this key when they had to reshape it.
const TRUE_SHAPE_PREFIX: &str = "comfy.gguf.orig_shape.";

/// Number, name, values per block, bytes per block.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

pub(super) fn read(source: &dyn ByteSource) -> Result<Header, FormatError> {
    read_placed(source).map(|(header, _)| header)
}

/// With start and length of each tensor in the file, sorted; a length of zero is not known.
pub(super) fn read_placed(source: &dyn ByteSource) -> Result<(Header, Vec<(u64, u64)>), FormatError> {
    let mut window = Window::new(source, Format::Gguf, 4, WALK_BYTES_MAX);
    let mut version = window.u32()?;
    if version > 0xffff {
        version = version.swap_bytes();
        window.big_endian = true;
    }
    if !(1..=3).contains(&version) {
        return Err(malformed(format_args!("version {version} is unknown")));
    }
    let mut reader = Reader {
        window,
        wide: version > 1,
        facts: Collector::new(Format::Gguf),
        alignment: ALIGNMENT_DEFAULT,
        true_shapes: HashMap::new(),
        extents: Vec::new(),
    };
    reader.facts.metadata("gguf.version", &version.to_string())?;
    let tensor_count = reader.length()?;
    let key_count = reader.length()?;
    if tensor_count > TENSORS_MAX {
        return Err(over("tensors", TENSORS_MAX, tensor_count));
    }
    if key_count > KEYS_MAX {
        return Err(over("metadata keys", KEYS_MAX, key_count));
    }
    for _ in 0..key_count {
        reader.key_value()?;
    }
    for _ in 0..tensor_count {
        reader.tensor()?;
    }
    reader.finish()
}

fn malformed(reason: impl std::fmt::Display) -> FormatError {
    FormatError::malformed(Format::Gguf, reason)
}

struct Reader<'a> {
    window: Window<'a>,
    /// Counts and lengths have 64 bits since version 2.
    wide: bool,
    facts: Collector,
    alignment: u64,
    true_shapes: HashMap<String, Vec<u64>>,
    /// Offset from the data start and length, where the type is known.
    extents: Vec<(u64, u64)>,
}

impl Reader<'_> {
    fn length(&mut self) -> Result<u64, FormatError> {
        if self.wide { self.window.u64() } else { self.window.u32().map(u64::from) }
    }

    fn key_value(&mut self) -> Result<(), FormatError> {
        let length = self.length()?;
        let key = self.window.text(length, KEY_BYTES_MAX, "bytes in a metadata key")?;
        match self.window.u32()? {
            8 => {
                let length = self.length()?;
                let value = self.shown_text(length)?;
                self.facts.metadata(&key, &value)
            }
            9 => self.array(&key),
            kind => {
                let value = self.scalar(kind)?;
                if key == "general.alignment" {
                    self.alignment = value
                        .parse()
                        .ok()
                        .filter(|n| (1..=ALIGNMENT_MAX).contains(n))
                        .ok_or_else(|| malformed("its alignment is not between 1 and 1048576"))?;
                }
                self.facts.metadata(&key, &value)
            }
        }
    }

    /// A string value: the part that is worth keeping, the rest skipped. Its bytes need not be UTF-8.
    fn shown_text(&mut self, length: u64) -> Result<String, FormatError> {
        let kept = length.min(VALUE_BYTES_MAX as u64 + 1);
        let bytes = self.window.bytes(usize::try_from(kept).expect("at most 64 KiB"))?;
        self.window.skip(length - kept)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn scalar(&mut self, kind: u32) -> Result<String, FormatError> {
        let window = &mut self.window;
        Ok(match kind {
            0 => window.u8()?.to_string(),
            1 => window.u8()?.cast_signed().to_string(),
            2 => window.u16()?.to_string(),
            3 => window.u16()?.cast_signed().to_string(),
            4 => window.u32()?.to_string(),
            5 => window.u32()?.cast_signed().to_string(),
            6 => f32::from_bits(window.u32()?).to_string(),
            7 => (window.u8()? != 0).to_string(),
            10 => window.u64()?.to_string(),
            11 => window.u64()?.cast_signed().to_string(),
            12 => f64::from_bits(window.u64()?).to_string(),
            _ => return Err(malformed(format_args!("value type {kind} is unknown"))),
        })
    }

    /// A short array is shown as `[a, b]`, a longer one by its length.
    fn array(&mut self, key: &str) -> Result<(), FormatError> {
        let kind = self.window.u32()?;
        let count = self.length()?;
        if kind == 9 || count > SHOWN_ELEMENTS_MAX {
            self.skip_elements(kind, count, 1)?;
            return self.facts.metadata(key, &format!("[{count} elements]"));
        }
        let mut shown = Vec::new();
        for _ in 0..count {
            shown.push(if kind == 8 {
                let length = self.length()?;
                cut(&self.shown_text(length)?, 1 << 10).to_owned()
            } else {
                self.scalar(kind)?
            });
        }
        if let Some(tensor) = key.strip_prefix(TRUE_SHAPE_PREFIX) {
            let shape = shown.iter().map(|length| length.parse()).collect::<Result<Vec<u64>, _>>();
            let shape = shape.map_err(|_| malformed("an original shape is not made of lengths"))?;
            self.true_shapes.insert(tensor.to_owned(), shape);
        }
        self.facts.metadata(key, &format!("[{}]", shown.join(", ")))
    }

    fn skip_elements(&mut self, kind: u32, count: u64, depth: u32) -> Result<(), FormatError> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..count {
                    let length = self.length()?;
                    self.window.skip(length)?;
                }
                return Ok(());
            }
            9 if depth < NESTING_MAX => {
                for _ in 0..count {
                    let inner_kind = self.window.u32()?;
                    let inner_count = self.length()?;
                    self.skip_elements(inner_kind, inner_count, depth + 1)?;
                }
                return Ok(());
            }
            9 => return Err(over("arrays inside arrays", NESTING_MAX.into(), u64::from(depth) + 1)),
            _ => return Err(malformed(format_args!("element type {kind} is unknown"))),
        };
        let bytes = count.checked_mul(width);
        self.window.skip(bytes.unwrap_or(u64::MAX))
    }

    fn tensor(&mut self) -> Result<(), FormatError> {
        let length = self.length()?;
        let name = self.window.text(length, NAME_BYTES_MAX, "bytes in a tensor's name")?;
        let rank = self.window.u32()?;
        if rank > DIMENSIONS_MAX {
            return Err(over("dimensions", DIMENSIONS_MAX.into(), rank.into()));
        }
        let mut shape = (0..rank).map(|_| self.length()).collect::<Result<Vec<u64>, _>>()?;
        shape.reverse();
        let type_number = self.window.u32()?;
        let offset = self.window.u64()?;
        if !offset.is_multiple_of(self.alignment) {
            return Err(malformed(format_args!("tensor `{name}` is not aligned")));
        }
        let values = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
        let values = values.ok_or_else(|| malformed(format_args!("tensor `{name}` is too large")))?;
        let known = TYPES.iter().find(|(number, ..)| *number == type_number);
        if let Some(&(_, _, per_block, block_bytes)) = known {
            if !values.is_multiple_of(per_block) {
                return Err(malformed(format_args!("tensor `{name}` does not end on a whole block")));
            }
            let bytes = (values / per_block).checked_mul(block_bytes);
            self.extents.push((offset, bytes.unwrap_or(u64::MAX)));
        } else {
            self.extents.push((offset, 0));
        }
        let dtype = known.map_or_else(|| format!("GGML_{type_number}"), |(_, name, ..)| (*name).to_owned());
        let shape = self.true_shapes.remove(&name).unwrap_or(shape);
        self.facts.tensor(&name, &dtype, &shape)
    }

    fn finish(mut self) -> Result<(Header, Vec<(u64, u64)>), FormatError> {
        if let Some(name) = repeated_name(self.facts.tensors()) {
            return Err(malformed(format_args!("two tensors are named `{name}`")));
        }
        let data_start = self.window.position().next_multiple_of(self.alignment);
        self.extents.sort_unstable();
        let mut end = 0u64;
        for &(offset, bytes) in &self.extents {
            if offset < end {
                return Err(malformed("two tensors overlap"));
            }
            end = offset.saturating_add(bytes);
        }
        let claimed = data_start.saturating_add(end);
        let actual_bytes = self.window.size_bytes();
        if !self.extents.is_empty() && claimed > actual_bytes {
            return Err(FormatError::Truncated { claimed_bytes: Some(claimed), actual_bytes });
        }
        self.facts.set_data_start(data_start);
        self.extents.iter_mut().for_each(|(offset, _)| *offset = offset.saturating_add(data_start));
        Ok((self.facts.finish(), self.extents))
    }
}

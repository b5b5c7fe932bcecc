//! ONNX: a walk over the outer fields of a `ModelProto`, tensor data skipped.
//!
//! Invariants: a message is walked inside its own length; names of tensors are unique; nothing is held but names,
//! lengths and short texts; nodes are not looked into. Not here: weights in a file beside it (`external_data`).

use std::fmt::Write as _;

use super::header::ByteSource;
use super::limits::{Collector, RANK_MAX, VALUE_BYTES_MAX, WALK_BYTES_MAX, cut, over, repeated_name};
use super::window::Window;
use super::{Format, FormatError, Header};

/// Most fields looked at: a large graph has some 100,000 nodes and initializers.
const FIELDS_MAX: u64 = 1_000_000;
const NAME_BYTES_MAX: u64 = 4 << 10;
const IR_VERSION_MAX: u64 = 1_000;
/// Most inputs, outputs and metadata values kept.
const VALUES_MAX: usize = 10_000;

/// Names by `TensorProto.DataType`.
const DTYPES: [&str; 25] = [
    "UNDEFINED",
    "F32",
    "U8",
    "I8",
    "U16",
    "I16",
    "I32",
    "I64",
    "STRING",
    "BOOL",
    "F16",
    "F64",
    "U32",
    "U64",
    "C64",
    "C128",
    "BF16",
    "F8_E4M3",
    "F8_E4M3FNUZ",
    "F8_E5M2",
    "F8_E5M2FNUZ",
    "U4",
    "I4",
    "F4",
    "F8_E8M0",
];

/// Whether the first bytes may be those of a `ModelProto`: its version, then another of its fields.
pub(super) fn may_start(start: &[u8]) -> bool {
    let Some((0x08, rest)) = start.split_first().map(|(first, rest)| (*first, rest)) else { return false };
    let varint = rest.iter().take(3).position(|byte| byte & 0x80 == 0);
    let next = varint.and_then(|last| rest.get(last + 1));
    // Fields 2, 3, 4, 6, 7, 8 and 14 as messages or texts, field 5 as a number.
    next.is_some_and(|tag| matches!(tag, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72))
}

/// `None` when it turns out to be no model: the start of a `ModelProto` is short enough to meet by chance.
pub(super) fn read(source: &dyn ByteSource) -> Result<Option<Header>, FormatError> {
    let mut walk = Walk {
        window: Window::new(source, Format::Onnx, 0, WALK_BYTES_MAX),
        facts: Collector::new(Format::Onnx),
        fields_left: FIELDS_MAX,
        values_left: VALUES_MAX,
        sure: false,
    };
    match walk.model() {
        Ok(()) if walk.sure => match repeated_name(walk.facts.tensors()) {
            Some(_) => Err(malformed("two tensors have one name")),
            None => Ok(Some(walk.facts.finish())),
        },
        Ok(()) => Ok(None),
        Err(error @ FormatError::Io(_)) => Err(error),
        Err(error) if walk.sure => Err(error),
        Err(_) => Ok(None),
    }
}

fn malformed(reason: &str) -> FormatError {
    FormatError::malformed(Format::Onnx, reason)
}

struct Walk<'a> {
    window: Window<'a>,
    facts: Collector,
    fields_left: u64,
    values_left: usize,
    /// Set once a graph with a node, or a named producer, was seen.
    sure: bool,
}

/// One field: its number and what it holds.
enum Field {
    Number(u64, u64),
    /// The end of the length-delimited value that begins at the window's position.
    Block(u64, u64),
    /// A fixed-width number, already skipped.
    Fixed,
}

impl Walk<'_> {
    fn model(&mut self) -> Result<(), FormatError> {
        let size = self.window.size_bytes();
        while self.window.position() < size {
            match self.field(size)? {
                Field::Number(1, version) if version > IR_VERSION_MAX => {
                    return Err(malformed("its version is unknown"));
                }
                Field::Number(1, version) => self.facts.metadata("onnx.ir_version", &version.to_string())?,
                Field::Block(2, end) => {
                    self.text_value("onnx.producer_name", end)?;
                    self.sure = true;
                }
                Field::Block(3, end) => self.text_value("onnx.producer_version", end)?,
                Field::Block(4, end) => self.text_value("onnx.domain", end)?,
                Field::Block(7, end) => self.graph(end)?,
                Field::Block(14, end) => self.property(end)?,
                Field::Block(_, end) => self.window.seek(end),
                Field::Number(..) | Field::Fixed => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, end: u64) -> Result<(), FormatError> {
        while self.window.position() < end {
            match self.field(end)? {
                Field::Block(1, node_end) => {
                    self.window.seek(node_end);
                    self.sure = true;
                }
                Field::Block(2, text_end) => self.text_value("onnx.graph_name", text_end)?,
                Field::Block(5, tensor_end) => self.initializer(tensor_end)?,
                Field::Block(11, value_end) => self.value_info("onnx.input", value_end)?,
                Field::Block(12, value_end) => self.value_info("onnx.output", value_end)?,
                Field::Block(_, block_end) => self.window.seek(block_end),
                Field::Number(..) | Field::Fixed => {}
            }
        }
        Ok(())
    }

    fn initializer(&mut self, end: u64) -> Result<(), FormatError> {
        let (mut name, mut dtype, mut shape) = (String::new(), 0, Vec::new());
        while self.window.position() < end {
            match self.field(end)? {
                Field::Number(1, length) => push_length(&mut shape, length)?,
                Field::Block(1, packed_end) => {
                    while self.window.position() < packed_end {
                        let length = self.varint()?;
                        push_length(&mut shape, length)?;
                    }
                }
                Field::Number(2, number) => dtype = number,
                Field::Block(8, text_end) => name = self.text(text_end)?,
                Field::Block(_, block_end) => self.window.seek(block_end),
                Field::Number(..) | Field::Fixed => {}
            }
        }
        self.facts.tensor(&name, &dtype_name(dtype), &shape)
    }

    /// `ValueInfoProto`: 1 name, 2 type → 1 tensor type → 1 element type, 2 shape → 1 dimension → 1 value, 2 parameter.
    fn value_info(&mut self, role: &str, end: u64) -> Result<(), FormatError> {
        let (mut name, mut shown) = (String::new(), String::new());
        while self.window.position() < end {
            match self.field(end)? {
                Field::Block(1, text_end) => name = self.text(text_end)?,
                Field::Block(2, type_end) => shown = self.type_text(type_end)?,
                Field::Block(_, block_end) => self.window.seek(block_end),
                Field::Number(..) | Field::Fixed => {}
            }
        }
        self.value(&format!("{role}.{name}"), &shown)
    }

    /// `F32 [1,3,128,128]`; a dimension without a number shows its name.
    fn type_text(&mut self, end: u64) -> Result<String, FormatError> {
        let (mut dtype, mut dimensions) = (0, Vec::new());
        while self.window.position() < end {
            let Field::Block(1, tensor_end) = self.field_or_skip(end)? else { continue };
            while self.window.position() < tensor_end {
                match self.field(tensor_end)? {
                    Field::Number(1, number) => dtype = number,
                    Field::Block(2, shape_end) => self.dimensions(shape_end, &mut dimensions)?,
                    Field::Block(_, block_end) => self.window.seek(block_end),
                    Field::Number(..) | Field::Fixed => {}
                }
            }
        }
        Ok(format!("{} [{}]", dtype_name(dtype), dimensions.join(",")))
    }

    fn dimensions(&mut self, end: u64, dimensions: &mut Vec<String>) -> Result<(), FormatError> {
        while self.window.position() < end {
            let Field::Block(1, dimension_end) = self.field_or_skip(end)? else { continue };
            let mut shown = "?".to_owned();
            while self.window.position() < dimension_end {
                match self.field(dimension_end)? {
                    Field::Number(1, length) => shown = length.cast_signed().to_string(),
                    Field::Block(2, text_end) => shown = self.text(text_end)?,
                    Field::Block(_, block_end) => self.window.seek(block_end),
                    Field::Number(..) | Field::Fixed => {}
                }
            }
            if dimensions.len() >= RANK_MAX {
                return Err(over("dimensions", RANK_MAX as u64, RANK_MAX as u64 + 1));
            }
            dimensions.push(shown);
        }
        Ok(())
    }

    fn property(&mut self, end: u64) -> Result<(), FormatError> {
        let (mut key, mut value) = (String::new(), String::new());
        while self.window.position() < end {
            match self.field(end)? {
                Field::Block(1, text_end) => key = self.text(text_end)?,
                Field::Block(2, text_end) => value = self.long_text(text_end)?,
                Field::Block(_, block_end) => self.window.seek(block_end),
                Field::Number(..) | Field::Fixed => {}
            }
        }
        self.value(&key, &value)
    }

    fn text_value(&mut self, key: &str, end: u64) -> Result<(), FormatError> {
        let text = self.long_text(end)?;
        self.value(key, &text)
    }

    fn value(&mut self, key: &str, value: &str) -> Result<(), FormatError> {
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| over("inputs, outputs and properties", VALUES_MAX as u64, VALUES_MAX as u64 + 1))?;
        self.facts.metadata(key, value)
    }

    /// A name; a long one is cut.
    fn text(&mut self, end: u64) -> Result<String, FormatError> {
        let text = self.long_text(end)?;
        Ok(cut(&text, NAME_BYTES_MAX as usize).to_owned())
    }

    fn long_text(&mut self, end: u64) -> Result<String, FormatError> {
        let kept = (end - self.window.position()).min(VALUE_BYTES_MAX as u64 + 1);
        let bytes = self.window.bytes(usize::try_from(kept).expect("at most 64 KiB"))?;
        self.window.seek(end);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The next field; a block that is not number 1 is skipped, so that only that one has to be handled.
    fn field_or_skip(&mut self, end: u64) -> Result<Field, FormatError> {
        let field = self.field(end)?;
        if let Field::Block(number, block_end) = field
            && number != 1
        {
            self.window.seek(block_end);
        }
        Ok(field)
    }

    /// Reads one key and number, or one key and the length of what follows; it must end by `end`.
    fn field(&mut self, end: u64) -> Result<Field, FormatError> {
        self.fields_left = self.fields_left.checked_sub(1).ok_or_else(|| over("fields", FIELDS_MAX, FIELDS_MAX + 1))?;
        let key = self.varint()?;
        let number = key >> 3;
        let field = match key & 7 {
            0 => Field::Number(number, self.varint()?),
            1 => {
                self.window.skip(8)?;
                Field::Fixed
            }
            2 => {
                let length = self.varint()?;
                let block_end = self.window.position().saturating_add(length);
                let actual_bytes = self.window.size_bytes();
                if block_end > end && end < actual_bytes {
                    return Err(malformed("a field is longer than its message"));
                }
                if block_end > actual_bytes {
                    // A graph that goes on past the end makes it certain enough what this was.
                    self.sure |= number == 7;
                    return Err(FormatError::Truncated { claimed_bytes: Some(block_end), actual_bytes });
                }
                return Ok(Field::Block(number, block_end));
            }
            5 => {
                self.window.skip(4)?;
                Field::Fixed
            }
            _ => return Err(malformed("a field has an unknown kind")),
        };
        if self.window.position() > end {
            return Err(malformed("a field is longer than its message"));
        }
        Ok(field)
    }

    fn varint(&mut self) -> Result<u64, FormatError> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.window.u8()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(malformed("a number has more than 64 bits"))
    }
}

fn push_length(shape: &mut Vec<u64>, length: u64) -> Result<(), FormatError> {
    if shape.len() >= RANK_MAX {
        return Err(over("dimensions", RANK_MAX as u64, RANK_MAX as u64 + 1));
    }
    shape.push(length);
    Ok(())
}

fn dtype_name(number: u64) -> String {
    let known = usize::try_from(number).ok().and_then(|index| DTYPES.get(index));
    let mut name = String::new();
    match known {
        Some(known) => name.push_str(known),
        None => write!(name, "ONNX_{number}").expect("writing to a string cannot fail"),
    }
    name
}

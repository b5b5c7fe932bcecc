//! The safetensors header: a length, JSON, then tensor data without a gap.
//!
//! Invariants of a header that is accepted: names are unique, ranges follow each other without hole or overlap, each
//! is as long as its shape and dtype say, and the last one ends where the file ends. Unknown dtypes are kept, their
//! length is not judged. Not here: the meaning of `__metadata__`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::header::ByteSource;
use super::limits::{Collector, RANK_MAX, SAFETENSORS_HEADER_BYTES_MAX, TAG_COUNTS_BYTES_MAX, over, repeated_name};
use super::window::read_up_to;
use super::{Format, FormatError, Header, Tensor};

const LENGTH_BYTES: u64 = 8;

pub(super) fn read(source: &dyn ByteSource, json_bytes: u64) -> Result<Header, FormatError> {
    read_placed(source, json_bytes).map(|(header, _)| header)
}

/// With start and length of each tensor in the file.
pub(super) fn read_placed(source: &dyn ByteSource, json_bytes: u64) -> Result<(Header, Vec<(u64, u64)>), FormatError> {
    if json_bytes > SAFETENSORS_HEADER_BYTES_MAX {
        return Err(over("bytes", SAFETENSORS_HEADER_BYTES_MAX, json_bytes));
    }
    let size_bytes = source.size_bytes();
    let data_start = LENGTH_BYTES + json_bytes;
    let json = read_up_to(source, LENGTH_BYTES, usize::try_from(json_bytes).unwrap_or(usize::MAX))?;
    if (json.len() as u64) < json_bytes {
        return Err(FormatError::Truncated { claimed_bytes: Some(data_start), actual_bytes: size_bytes });
    }
    let mut parse = Parse { facts: Collector::new(Format::Safetensors), ranges: Vec::new(), refusal: None };
    let mut deserializer = serde_json::Deserializer::from_slice(&json);
    let outcome = deserializer.deserialize_map(&mut parse).and_then(|()| deserializer.end());
    drop(json);
    if let Some(refusal) = parse.refusal {
        return Err(refusal);
    }
    outcome.map_err(malformed)?;
    check_names(parse.facts.tensors())?;
    check_ranges(parse.facts.tensors(), &parse.ranges, data_start, size_bytes)?;
    parse.facts.set_data_start(data_start);
    let places = parse.ranges.iter().map(|(begin, end)| (data_start + begin, end - begin)).collect();
    Ok((parse.facts.finish(), places))
}

fn malformed(reason: impl fmt::Display) -> FormatError {
    FormatError::malformed(Format::Safetensors, reason)
}

fn check_names(tensors: &[Tensor]) -> Result<(), FormatError> {
    match repeated_name(tensors) {
        Some(name) => Err(malformed(format_args!("two tensors are named `{name}`"))),
        None => Ok(()),
    }
}

fn check_ranges(
    tensors: &[Tensor],
    ranges: &[(u64, u64)],
    data_start: u64,
    size_bytes: u64,
) -> Result<(), FormatError> {
    let mut order: Vec<u32> = (0..u32::try_from(ranges.len()).expect("bounded by the collector")).collect();
    order.sort_unstable_by_key(|&index| ranges[index as usize]);
    let mut expected = 0;
    let mut fault = None;
    for index in order {
        let (begin, end) = ranges[index as usize];
        let tensor = &tensors[index as usize];
        if begin != expected && fault.is_none() {
            let what = if begin < expected { "overlaps another" } else { "leaves a hole before it" };
            fault = Some(malformed(format_args!("tensor `{}` {what}", tensor.name)));
        }
        let length = end.checked_sub(begin);
        let fits = bits_of(&tensor.dtype).is_none_or(|bits| length.is_some() && stored_bytes(tensor, bits) == length);
        if (length.is_none() || !fits) && fault.is_none() {
            fault = Some(malformed(format_args!("tensor `{}` is not as long as its shape says", tensor.name)));
        }
        expected = end;
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    match data_start.checked_add(expected) {
        Some(claimed) if claimed == size_bytes => Ok(()),
        Some(claimed) if claimed < size_bytes => {
            Err(malformed(format_args!("{} bytes follow the last tensor", size_bytes - claimed)))
        }
        claimed_bytes => Err(FormatError::Truncated { claimed_bytes, actual_bytes: size_bytes }),
    }
}

/// `None` when the product overflows or does not end on a whole byte.
fn stored_bytes(tensor: &Tensor, bits: u64) -> Option<u64> {
    let values = tensor.shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length))?;
    let bits = values.checked_mul(bits)?;
    (bits % 8 == 0).then_some(bits / 8)
}

fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "C64" | "F64" | "I64" | "U64" => 64,
        _ => return None,
    })
}

struct Parse {
    facts: Collector,
    /// `data_offsets`, one per tensor.
    ranges: Vec<(u64, u64)>,
    /// Why parsing was stopped from inside; the JSON library only carries text.
    refusal: Option<FormatError>,
}

impl Parse {
    fn keep<E: serde::de::Error>(&mut self, outcome: Result<(), FormatError>) -> Result<(), E> {
        outcome.map_err(|refusal| {
            self.refusal = Some(refusal);
            E::custom("refused")
        })
    }
}

impl<'de> Visitor<'de> for &mut Parse {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut metadata_seen, true) {
                    return Err(A::Error::custom("`__metadata__` is there twice"));
                }
                map.next_value_seed(Metadata(self))?;
                continue;
            }
            let entry: Entry<'de> = map.next_value()?;
            let kept = self.facts.tensor(&name, &entry.dtype, entry.shape.as_slice());
            self.keep(kept)?;
            self.ranges.push(entry.data_offsets);
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape on the stack: a hostile one has no room to grow.
struct Shape {
    lengths: [u64; RANK_MAX],
    rank: usize,
}

impl Shape {
    fn as_slice(&self) -> &[u64] {
        &self.lengths[..self.rank]
    }
}

impl<'de> serde::Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lengths;
        impl<'de> Visitor<'de> for Lengths {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {RANK_MAX} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape { lengths: [0; RANK_MAX], rank: 0 };
                while let Some(length) = seq.next_element()? {
                    if shape.rank == RANK_MAX {
                        return Err(A::Error::invalid_length(RANK_MAX + 1, &self));
                    }
                    shape.lengths[shape.rank] = length;
                    shape.rank += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Lengths)
    }
}

struct Metadata<'a>(&'a mut Parse);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let mut text = String::new();
            map.next_value_seed(ValueText { text: &mut text, nested: false })?;
            let kept = self.0.facts.metadata(&key, &text);
            self.0.keep(kept)?;
        }
        Ok(())
    }
}

/// Writes a value as text: a string as it is, anything else (which the format does not allow) as JSON.
struct ValueText<'a> {
    text: &'a mut String,
    nested: bool,
}

impl ValueText<'_> {
    fn inner(&mut self) -> ValueText<'_> {
        ValueText { text: self.text, nested: true }
    }

    fn is_full(&self) -> bool {
        self.text.len() > TAG_COUNTS_BYTES_MAX
    }

    fn push<E>(self, shown: impl fmt::Display) -> Result<(), E> {
        if !self.is_full() {
            write!(self.text, "{shown}").expect("writing to a string cannot fail");
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ValueText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if !self.nested {
            self.text.push_str(value);
            return Ok(());
        }
        let quoted = serde_json::to_string(value).map_err(E::custom)?;
        self.push(quoted)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.push(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.push(value)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if self.nested { self.push("null") } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.text.push('[');
        let mut is_first = true;
        while !self.is_full() {
            if !std::mem::replace(&mut is_first, false) {
                self.text.push(',');
            }
            if seq.next_element_seed(self.inner())?.is_none() {
                if self.text.ends_with(',') {
                    self.text.pop();
                }
                self.text.push(']');
                return Ok(());
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.text.push('{');
        let mut separator = "";
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.is_full() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.text.push_str(separator);
            separator = ",";
            self.inner().visit_str(&key)?;
            self.text.push(':');
            map.next_value_seed(self.inner())?;
        }
        self.text.push('}');
        Ok(())
    }
}

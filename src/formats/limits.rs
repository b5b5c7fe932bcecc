//! How much of a file is looked at and how much is kept, whatever its bytes say.
//!
//! Invariants: reading a header keeps at most 64 MiB in memory at any time, and a `Collector` never holds more than
//! `FACTS_BYTES_MAX`. A limit that is hit is `OverLimit` with the number; only single values are cut, with a note.
//! Not here: what is read (each format's own file).

use super::{Format, FormatError, Header, Tensor};

/// Longest safetensors header read: the limit of the hubs' own clients. The reference library stops at 100,000,000,
/// but the largest headers seen have 15 MB and everything up to here parses within 100 ms.
pub(super) const SAFETENSORS_HEADER_BYTES_MAX: u64 = 25_000_000;

/// Most bytes any other reader walks through: tokenizer arrays of language models have 2 to 15 MB.
pub(super) const WALK_BYTES_MAX: u64 = 64 << 20;

/// Most memory the collected names, shapes and metadata may take: about 130,000 tensors with long names.
pub(super) const FACTS_BYTES_MAX: usize = 24 << 20;

/// More dimensions than any library allows to be saved.
pub(super) const RANK_MAX: usize = 64;

/// Longest metadata value kept; longer ones are pictures and workflows that say nothing about the model.
pub(super) const VALUE_BYTES_MAX: usize = 64 << 10;

/// Tag counts of a training are the source of trigger words, and JSON that is cut cannot be read.
pub(super) const TAG_COUNTS_BYTES_MAX: usize = 2 << 20;

/// Key under which a reader says what it left out or found odd.
pub const NOTE_KEY: &str = "modelfs.note";

/// What one tensor costs besides its text: the struct and three allocations.
const TENSOR_COST_BYTES: usize = size_of::<Tensor>() + 48;
const VALUE_COST_BYTES: usize = 80;

/// Gathers what a reader finds and counts what it costs.
pub(super) struct Collector {
    header: Header,
    cost_bytes: usize,
}

impl Collector {
    pub(super) fn new(format: Format) -> Self {
        let header =
            Header { format, tensors: Vec::new(), metadata: Vec::new(), imports: Vec::new(), data_start: None };
        Self { header, cost_bytes: 0 }
    }

    pub(super) fn tensor(&mut self, name: &str, dtype: &str, shape: &[u64]) -> Result<(), FormatError> {
        if shape.len() > RANK_MAX {
            return Err(over("dimensions", RANK_MAX as u64, shape.len() as u64));
        }
        self.charge(TENSOR_COST_BYTES + name.len() + dtype.len() + size_of_val(shape))?;
        self.header.tensors.push(Tensor { name: name.into(), dtype: dtype.into(), shape: shape.into() });
        Ok(())
    }

    /// Keeps a value, cut where it is too long.
    pub(super) fn metadata(&mut self, key: &str, value: &str) -> Result<(), FormatError> {
        let limit = if key == "ss_tag_frequency" { TAG_COUNTS_BYTES_MAX } else { VALUE_BYTES_MAX };
        let kept = cut(value, limit);
        let key = cut(key, VALUE_BYTES_MAX);
        self.charge(VALUE_COST_BYTES + key.len() + kept.len())?;
        self.header.metadata.push((key.to_owned(), kept.to_owned()));
        if kept.len() < value.len() {
            let name = cut(key, 80);
            self.note(&format!("`{name}` has {} bytes, kept are the first {}", value.len(), kept.len()))?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, text: &str) -> Result<(), FormatError> {
        self.charge(VALUE_COST_BYTES + NOTE_KEY.len() + text.len())?;
        self.header.metadata.push((NOTE_KEY.to_owned(), text.to_owned()));
        Ok(())
    }

    pub(super) fn import(&mut self, name: String) -> Result<(), FormatError> {
        self.charge(VALUE_COST_BYTES + name.len())?;
        self.header.imports.push(name);
        Ok(())
    }

    pub(super) fn set_data_start(&mut self, offset: u64) {
        self.header.data_start = Some(offset);
    }

    /// Makes room for as many tensors, within what the budget can hold.
    pub(super) fn expect_tensors(&mut self, count: usize) {
        self.header.tensors.reserve_exact(count.min(FACTS_BYTES_MAX / size_of::<Tensor>()));
    }

    pub(super) fn tensors(&self) -> &[Tensor] {
        &self.header.tensors
    }

    pub(super) fn finish(self) -> Header {
        let mut header = self.header;
        header.tensors.shrink_to_fit();
        header.imports.sort_unstable();
        header.imports.dedup();
        header
    }

    fn charge(&mut self, bytes: usize) -> Result<(), FormatError> {
        self.cost_bytes = self.cost_bytes.saturating_add(bytes);
        if self.cost_bytes > FACTS_BYTES_MAX {
            return Err(over("bytes of names and values", FACTS_BYTES_MAX as u64, self.cost_bytes as u64));
        }
        Ok(())
    }
}

pub(super) fn over(what: &'static str, limit: u64, found: u64) -> FormatError {
    FormatError::OverLimit { what, limit, found }
}

/// The longest start of `text` within `bytes_max` that ends between two characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The first name that two tensors share, if any.
pub(super) fn repeated_name(tensors: &[Tensor]) -> Option<&str> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters_with_a_note() {
        let mut collector = Collector::new(Format::Safetensors);
        let long = "é".repeat(VALUE_BYTES_MAX);
        collector.metadata("modelspec.thumbnail", &long).expect("within the budget");
        collector.metadata("ss_tag_frequency", &long).expect("within the budget");
        let header = collector.finish();
        assert_eq!(header.metadata[0].1.len(), VALUE_BYTES_MAX);
        assert_eq!(header.metadata[1].0, NOTE_KEY);
        assert_eq!(header.metadata[2].1, long);
        assert_eq!(header.metadata.len(), 3);
    }

    #[test]
    fn the_budget_holds() {
        let mut collector = Collector::new(Format::Onnx);
        let refused = (0..1_000_000).find_map(|_| collector.tensor("some.long.name", "F32", &[1, 2, 3, 4]).err());
        assert!(matches!(refused, Some(FormatError::OverLimit { .. })));
        assert!(collector.tensors().len() < 200_000);
    }
}

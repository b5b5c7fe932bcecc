//! What `torch.save` writes: a ZIP with `data.pkl`, or a row of pickles.
//!
//! Not here: the opcodes (`pickle`).

use super::header::ByteSource;
use super::limits::Collector;
use super::{Format, FormatError, Header};

pub(super) fn read_zip(_source: &dyn ByteSource) -> Result<Header, FormatError> {
    Ok(Collector::new(Format::TorchZip).finish())
}

pub(super) fn read_pickle(_source: &dyn ByteSource) -> Result<Header, FormatError> {
    Ok(Collector::new(Format::Pickle).finish())
}

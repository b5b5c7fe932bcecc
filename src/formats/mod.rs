//! First bytes of a file → facts about it.
//!
//! Pure and limited: reads through `ByteSource`, never allocates beyond its limits whatever the bytes say, never runs
//! anything. Not here: what the facts mean (`classify`), where bytes come from (`store`, `hub`).

mod archive;
mod detect;
mod error;
mod gguf;
mod header;
mod limits;
mod onnx;
mod pickle;
mod record;
mod safetensors;
mod torch;
mod window;

pub use detect::{read_header, tensor_places};
pub use error::{FormatError, PageKind};
pub use header::{ByteSource, Format, Header, Tensor};
pub use limits::NOTE_KEY;
pub use record::{decode_header, encode_header};

/// Endings of the files that are models; the bytes decide what they are.
pub const MODEL_SUFFIXES: &[&str] = &[".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx"];

/// Whether a file name ends like a model's, in any case.
pub fn has_model_suffix(name: &str) -> bool {
    let ends_with = |suffix: &&str| {
        let start = name.len().checked_sub(suffix.len()).filter(|&start| start > 0);
        start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    MODEL_SUFFIXES.iter().any(ends_with)
}

#[cfg(test)]
mod hostile;

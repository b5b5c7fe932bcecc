//! Files that are all header: the weights are a hole.
//!
//! Invariant: every file is whole by its own format, only its weights are zeros that take no room on disk.

use super::super::samples::gguf_file::{self, Meta};
use super::super::samples::tensors::Tensor;
use super::super::samples::torch_file::{self, Object};
use super::super::samples::{onnx_file, safetensors_file};
use modelfs::formats::ByteSource;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// The first bytes of a file, and how long it is with its weights.
#[derive(Clone)]
pub struct Sparse {
    pub head: Vec<u8>,
    pub size_bytes: u64,
}

impl Sparse {
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
        let mut file = File::create(path)?;
        file.write_all(&self.head)?;
        file.set_len(self.size_bytes)
    }
}

impl ByteSource for Sparse {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        buffer[..count].fill(0);
        if let Some(head) = usize::try_from(offset).ok().and_then(|start| self.head.get(start..)) {
            let copied = head.len().min(count);
            buffer[..copied].copy_from_slice(&head[..copied]);
        }
        Ok(count)
    }
}

pub fn safetensors(tensors: &[Tensor], metadata: &[(&str, &str)]) -> Sparse {
    let (head, data_bytes) = safetensors_file::header(tensors, metadata);
    Sparse { size_bytes: head.len() as u64 + data_bytes, head }
}

/// Under the bare names, most weights in blocks, as converters for image models write them.
pub fn gguf(tensors: &[Tensor], architecture: Option<&str>) -> Sparse {
    let shapes: Vec<(String, Vec<i32>)> = tensors
        .iter()
        .filter(|tensor| tensor.shape.len() > 4)
        .map(|tensor| {
            let shape = tensor.shape.iter().map(|length| i32::try_from(*length).expect("a length")).collect();
            (format!("comfy.gguf.orig_shape.{}", tensor.name), shape)
        })
        .collect();
    let mut metadata: Vec<(&str, Meta)> = Vec::new();
    metadata.extend(architecture.map(|word| ("general.architecture", Meta::Text(word))));
    metadata.push(("general.quantization_version", Meta::U32(2)));
    metadata.extend(shapes.iter().map(|(key, shape)| (key.as_str(), Meta::I32s(shape.clone()))));
    let stored: Vec<Tensor> = tensors.iter().filter(|tensor| tensor.values() > 0).map(in_blocks).collect();
    let (head, data_bytes) = gguf_file::header(&stored, &metadata);
    Sparse { size_bytes: head.len() as u64 + data_bytes, head }
}

/// A GGUF of which the keys are given.
pub fn gguf_of(tensors: &[Tensor], metadata: &[(&str, Meta)]) -> Sparse {
    let stored: Vec<Tensor> = tensors.iter().map(in_blocks).collect();
    let (head, data_bytes) = gguf_file::header(&stored, metadata);
    Sparse { size_bytes: head.len() as u64 + data_bytes, head }
}

fn in_blocks(tensor: &Tensor) -> Tensor {
    let mut shape = tensor.shape.clone();
    if shape.len() > 4 {
        shape = vec![shape[0], shape[1..].iter().product()];
    }
    if shape.is_empty() {
        shape.push(1);
    }
    let innermost = *shape.last().expect("a shape");
    let dtype = match shape.len() {
        1 => "F32",
        _ if innermost.is_multiple_of(256) => "Q4_K",
        _ if innermost.is_multiple_of(32) => "Q8_0",
        _ => "F16",
    };
    Tensor { name: tensor.name.clone(), dtype: dtype.to_owned(), shape }
}

pub fn torch(object: &Object) -> Sparse {
    let head = torch_file::without_weights(object);
    Sparse { size_bytes: head.len() as u64, head }
}

pub fn onnx(inputs: &[Tensor], outputs: &[Tensor], properties: &[(&str, &str)]) -> Sparse {
    let head = onnx_file::with_properties(inputs, outputs, properties);
    Sparse { size_bytes: head.len() as u64, head }
}

//! What every container has in common once it is read: tensors, metadata, imports.

use std::io;

/// Random access to the bytes of one file of known size.
pub trait ByteSource {
    /// Whole size in bytes.
    fn size_bytes(&self) -> u64;

    /// Reads up to `buffer.len()` bytes from `offset`; zero only at or after the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl<S: ByteSource + ?Sized> ByteSource for &S {
    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

impl ByteSource for [u8] {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

/// The container, told from the bytes and never from the name alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    Safetensors,
    Gguf,
    /// `torch.save` since 1.6: a ZIP with `data.pkl`.
    TorchZip,
    /// `torch.save` before 1.6: consecutive pickles.
    TorchLegacy,
    /// A pickle that is no torch stream.
    Pickle,
    Onnx,
    /// A container that is known but not read further (HDF5, NPY, tar, …), or nothing that is known.
    Other,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::TorchZip => "torch-zip",
            Self::TorchLegacy => "torch-legacy",
            Self::Pickle => "pickle",
            Self::Onnx => "onnx",
            Self::Other => "other",
        }
    }
}

/// One tensor as the header names it. The shape is in the order torch prints it, outermost first; the dimensions of a
/// GGUF, which stores the reverse, are already turned round, and `comfy.gguf.orig_shape` is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    pub name: Box<str>,
    /// The container's own word, upper case: `F16`, `BF16`, `F8_E4M3`, `Q4_K`. A pickle may say `RAW` (bytes without a
    /// type) or name a storage that is `UNKNOWN`.
    pub dtype: Box<str>,
    pub shape: Box<[u64]>,
}

/// Everything the header of a model file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub format: Format,
    /// In the order of the file; names are unique.
    pub tensors: Vec<Tensor>,
    /// Text metadata in the order of the file: safetensors `__metadata__`, GGUF scalar keys, ONNX producer and inputs,
    /// the outer scalars of a pickle, and `torch.version`, `torch.byteorder`, `torch.script`.
    pub metadata: Vec<(String, String)>,
    /// Pickle globals that would be imported, `module.name`, sorted, without doubles. A class that is called, not only
    /// made anew as it was, is there as `module.name()` too.
    pub imports: Vec<String>,
    /// Offset of the first tensor byte, where the format has one: AutoV3 hashes from here on for safetensors.
    pub data_start: Option<u64>,
}

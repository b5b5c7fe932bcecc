//! What goes into a classification and what comes out of it.

use crate::base::{BaseModel, ModelType};
use crate::formats::Header;

/// All that is known about one file (or the joined headers of one bundle) when it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Absent while the first bytes of a remote file are not here.
    pub header: Option<&'a Header>,
    pub file_name: &'a str,
    /// Names of the folders it came from, outermost first: a path in an application, or in a repository.
    pub folders: &'a [String],
    pub size_bytes: u64,
    /// What hubs say it is, as `hub.key` and value: `civitai.base_model`, `Illustrious`.
    pub hub: &'a [(String, String)],
}

/// Under it a guess is no answer: the type is `Unknown` and the file is listed as unsorted.
pub const CONFIDENCE_MIN: f32 = 0.5;

/// Which kind of evidence decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    Tensors,
    Metadata,
    FileName,
    Folder,
    Size,
    /// A hub that knows the content.
    Hub,
    /// Several weak kinds together.
    Combined,
    /// A person said so.
    Manual,
    /// Nothing was strong enough.
    None,
}

impl Method {
    pub const ALL: &'static [Self] = &[
        Self::Tensors,
        Self::Metadata,
        Self::FileName,
        Self::Folder,
        Self::Size,
        Self::Hub,
        Self::Combined,
        Self::Manual,
        Self::None,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tensors => "tensors",
            Self::Metadata => "metadata",
            Self::FileName => "name",
            Self::Folder => "folder",
            Self::Size => "size",
            Self::Hub => "hub",
            Self::Combined => "combined",
            Self::Manual => "manual",
            Self::None => "none",
        }
    }

    pub fn parse(word: &str) -> Option<Method> {
        Self::ALL.iter().copied().find(|method| method.as_str() == word)
    }
}

/// One step towards the verdict, for `--explain`.
#[derive(Clone, PartialEq, Debug)]
pub struct Reason {
    pub method: Method,
    /// Name of the rule in the data.
    pub rule: String,
    /// What it saw, in words: `double_blocks.0.img_attn.qkv.weight [9216,3072]`.
    pub saw: String,
    pub model_type: Option<ModelType>,
    pub base: Option<BaseModel>,
    /// 0 to 1.
    pub weight: f32,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// `Unknown` below the confidence threshold.
    pub model_type: ModelType,
    pub base: Option<BaseModel>,
    /// A variant inside type and base: `inpainting`, `refiner`, `union`, `full-clip`.
    pub sub_type: Option<String>,
    /// `fp16`, `bf16`, `fp8_e4m3fn`, `fp32`, `mixed`; absent for quantised values and unknown.
    pub precision: Option<String>,
    /// `Q4_K_M`, `nf4`, `svdq-int4`; absent when not quantised.
    pub quantization: Option<String>,
    /// The container's or the library's own architecture word (`general.architecture`, `modelspec.architecture`).
    pub architecture: Option<String>,
    /// 0 to 1, calibrated: 0.8 means four in five are right.
    pub confidence: f32,
    pub method: Method,
    pub reasons: Vec<Reason>,
    /// Words that wake a LoRA or an embedding, from its metadata.
    pub trigger_words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_round_trips() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str()), Some(*method));
        }
        assert_eq!(Method::parse("guess"), None);
    }
}

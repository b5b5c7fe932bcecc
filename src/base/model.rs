//! Words for what a model is: type, base, state.
//!
//! `ModelType` is a closed list, because a folder of an application hangs on each word; a base is an open word, because
//! new ones appear every month and rules that name them are data. Not here: how either is found out (`classify`).

use std::fmt;
use std::sync::Arc;

/// Longest base word, in bytes.
const BASE_BYTES_MAX: usize = 48;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$of])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(text: &str) -> Result<Self, WordError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(WordError { word: text.to_owned() }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What a model is, in the words of the application folders.
    ModelType {
        Unknown = "unknown",
        Checkpoint = "checkpoint",
        DiffusionModel = "diffusion_model",
        TextEncoder = "text_encoder",
        ClipVision = "clip_vision",
        Vae = "vae",
        VaeApprox = "vae_approx",
        Lora = "lora",
        Lycoris = "lycoris",
        Controlnet = "controlnet",
        T2iAdapter = "t2i_adapter",
        IpAdapter = "ip_adapter",
        StyleModel = "style_model",
        Embedding = "embedding",
        Hypernetwork = "hypernetwork",
        Upscaler = "upscaler",
        LatentUpscaler = "latent_upscaler",
        FaceRestore = "face_restore",
        FaceSwap = "face_swap",
        MotionModule = "motion_module",
        MotionLora = "motion_lora",
        Detection = "detection",
        Segmentation = "segmentation",
        Gligen = "gligen",
        Photomaker = "photomaker",
        Instantid = "instantid",
        Pulid = "pulid",
        ModelPatch = "model_patch",
        AudioEncoder = "audio_encoder",
        Classifier = "classifier",
        Preprocessor = "preprocessor",
        Caption = "caption",
        Diffusers = "diffusers",
        Config = "config",
        BackgroundRemoval = "background_removal",
        FrameInterpolation = "frame_interpolation",
        GeometryEstimation = "geometry_estimation",
        OpticalFlow = "optical_flow",
        Inpaint = "inpaint",
        PromptExpansion = "prompt_expansion",
        SafetyChecker = "safety_checker",
        Llm = "llm",
        Mmproj = "mmproj",
        LlmLora = "llm_lora",
        SentenceEmbedding = "sentence_embedding",
        Speech = "speech",
    }
);

words!(
    /// Where the bytes of a content are, as the catalog records it. `downloading`, `verifying` and `failed` are live
    /// states of the download engine and are never stored.
    BlobState {
        Remote = "remote",
        Partial = "partial",
        Resident = "resident",
    }
);

words!(
    /// Whether a file can be handed to a program that loads it, from good to bad. Only pickles can be anything but safe.
    Safety {
        Safe = "safe",
        /// It imports something that is not known to make data only.
        Suspicious = "suspicious",
        /// It imports something that runs commands or loads code.
        Unsafe = "unsafe",
    }
);

/// The model family a file belongs to or works with: `sdxl`, `flux1-dev`, `wan2.1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseModel(Arc<str>);

/// A word that is not in its list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WordError {
    pub word: String,
}

impl BaseModel {
    /// Accepts a lower-case word of letters, digits, `.`, `-` and `_` that starts with a letter or digit.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let ok = !text.is_empty()
            && text.len() <= BASE_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
        if ok { Ok(Self(text.into())) } else { Err(WordError { word: text.to_owned() }) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a word of this list", self.word)
    }
}

impl std::error::Error for WordError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_round_trips() {
        for model_type in ModelType::ALL {
            assert_eq!(ModelType::parse(model_type.as_str()), Ok(*model_type));
        }
        assert!(ModelType::parse("checkpoints").is_err());
    }

    #[test]
    fn bases_are_plain_words() {
        for text in ["sdxl", "wan2.1", "flux1-dev", "3d"] {
            assert_eq!(BaseModel::parse(text).expect(text).as_str(), text);
        }
        for text in ["", "SDXL", "a b", "../x", ".x", &"a".repeat(49)] {
            assert!(BaseModel::parse(text).is_err(), "{text}");
        }
    }
}

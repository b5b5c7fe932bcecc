//! Sample model files of every covered type, for tests and for the quick start.
//!
//! Invariants: writing twice gives the same bytes; every file is whole by its own header; names and shapes are those
//! of real models. Not here: what `modelfs` should make of them, beyond the type and family of each.
#![allow(dead_code, unused_imports, reason = "each program that includes this uses its own part")]

mod bundles;
pub mod gguf_file;
mod models;
pub mod onnx_file;
pub mod safetensors_file;
mod small_models;
pub mod tensors;
pub mod torch_file;

pub use bundles::{CACHED_COMMIT, CACHED_REPO, diffusers, hugging_face_cache, sharded_llm};
pub use gguf_file::Meta;
pub use models::{SAMPLES, Sample};
pub use tensors::{Tensor, noise, parse};
pub use torch_file::Object;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Samples that only the web UI of A1111 has; the rest is in ComfyUI.
const ONLY_IN_WEB_UI: &[&str] = &[
    "dreamlike.ckpt",
    "v2-1_768-ema-pruned.safetensors",
    "sdxl_style.safetensors",
    "sd15_loha.safetensors",
    "badhand.pt",
    "photoreal.pt",
    "RealESRGAN_x4plus_anime_6B.pth",
];

/// Samples that both have, with the name they have in the web UI.
const IN_BOTH: &[(&str, &str)] = &[
    ("v1-5-pruned-emaonly.safetensors", "v1-5-pruned-emaonly.safetensors"),
    ("vae-ft-mse-840000-ema-pruned.safetensors", "vae-ft-mse.safetensors"),
    ("add_detail.safetensors", "detail tweaker.safetensors"),
];

/// The file of `sample` that was written.
pub struct Written {
    pub path: PathBuf,
    pub sample: &'static Sample,
}

/// A safetensors file with these tensors, in the notation of `parse`.
pub fn safetensors(seed: &str, tensors: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    safetensors_file::bytes(seed, &tensors::parse(tensors), metadata)
}

pub fn gguf(seed: &str, tensors: &str, metadata: &[(&str, Meta)]) -> Vec<u8> {
    gguf_file::bytes(seed, &tensors::parse(tensors), metadata)
}

pub fn torch_zip(seed: &str, object: &Object) -> Vec<u8> {
    torch_file::bytes(seed, object)
}

/// A file of the given name; panics when there is no such sample.
pub fn sample(name: &str) -> &'static Sample {
    SAMPLES.iter().find(|sample| sample.name == name).unwrap_or_else(|| panic!("no sample is named `{name}`"))
}

impl Sample {
    pub fn bytes(&self) -> Vec<u8> {
        (self.bytes)(self.name)
    }

    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        self.write_as(folder, self.name)
    }

    fn write_as(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name);
        fs::write(&path, self.bytes())?;
        Ok(path)
    }
}

/// All samples in one folder, so that no folder's name tells what they are.
pub fn write_flat(folder: &Path) -> io::Result<Vec<Written>> {
    SAMPLES.iter().map(|sample| Ok(Written { path: sample.write(folder)?, sample })).collect()
}

/// What a user has: models of two applications, three of them in both, and a Hugging Face cache.
pub fn write_applications(folder: &Path) -> io::Result<Vec<Written>> {
    let comfyui = folder.join("ComfyUI/models");
    let web_ui = folder.join("stable-diffusion-webui/models");
    let mut written = Vec::new();
    for sample in SAMPLES {
        if !ONLY_IN_WEB_UI.contains(&sample.name) && !sample.comfyui.is_empty() {
            written.push(Written { path: sample.write(&comfyui.join(sample.comfyui))?, sample });
        }
        let other_name = IN_BOTH.iter().find(|(name, _)| *name == sample.name).map(|(_, other)| *other);
        let name = other_name.or(ONLY_IN_WEB_UI.contains(&sample.name).then_some(sample.name));
        if let Some(name) = name {
            // The embeddings of the web UI lie beside its models.
            let place = match sample.a1111.strip_prefix("../") {
                Some(beside) => folder.join("stable-diffusion-webui").join(beside),
                None => web_ui.join(sample.a1111),
            };
            written.push(Written { path: sample.write_as(&place, name)?, sample });
        }
    }
    diffusers(&comfyui.join("diffusers/stable-diffusion-v1-5"))?;
    sharded_llm(&comfyui.join("LLM/stories-sharded"))?;
    let cached = safetensors(
        CACHED_REPO,
        "unet.down_blocks.2.attentions.0.transformer_blocks.{0..10}.attn2.to_k.lora_A.weight [8,2048]\nunet.down_blocks.2.attentions.0.transformer_blocks.{0..10}.attn2.to_k.lora_B.weight [1280,8]",
        &[],
    );
    hugging_face_cache(&folder.join("huggingface/hub"), &cached)?;
    Ok(written)
}

/// `count` LoRA files below 1 KiB that differ in their weights, for measuring how things grow.
pub fn write_tiny_loras(folder: &Path, count: u32) -> io::Result<()> {
    const MODULE: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let tensors = format!("{MODULE}.lora_down.weight [1,320] F8_E4M3\n{MODULE}.lora_up.weight [320,1] F8_E4M3");
    let mut bytes = safetensors("tiny", &tensors, &[]);
    let data = bytes.len() - 640;
    fs::create_dir_all(folder)?;
    for number in 0..count {
        let name = format!("tiny_{number:06}.safetensors");
        bytes.truncate(data);
        bytes.append(&mut noise(&name, 640));
        fs::write(folder.join(name), &bytes)?;
    }
    Ok(())
}

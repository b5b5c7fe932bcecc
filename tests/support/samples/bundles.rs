//! Models of several files: a diffusers folder, a language model in shards, a repository in the Hugging Face cache.

use super::super::fake_hub::Content;
use super::safetensors_file;
use super::tensors::{self, Tensor};
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The repository in the cache, and its commit.
pub const CACHED_REPO: &str = "example/tiny-sdxl-lora";
pub const CACHED_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("inside the folder"))?;
    fs::write(path, bytes)
}

fn write_tensors(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write(folder, name, safetensors_file::bytes(name, &tensors::parse(text), &[("format", "pt")]))
}

/// A pipeline of Stable Diffusion 1.5 in parts.
pub fn diffusers(folder: &Path) -> io::Result<()> {
    let index = json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    write(folder, "model_index.json", format!("{index:#}"))?;
    let unet = json!({
        "_class_name": "UNet2DConditionModel", "cross_attention_dim": 768, "in_channels": 4, "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
    });
    write(folder, "unet/config.json", format!("{unet:#}"))?;
    let vae = json!({ "_class_name": "AutoencoderKL", "latent_channels": 4, "scaling_factor": 0.18215 });
    write(folder, "vae/config.json", format!("{vae:#}"))?;
    let text_encoder =
        json!({ "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_size": 768 });
    write(folder, "text_encoder/config.json", format!("{text_encoder:#}"))?;
    let scheduler = json!({ "_class_name": "PNDMScheduler", "prediction_type": "epsilon" });
    write(folder, "scheduler/scheduler_config.json", format!("{scheduler:#}"))?;
    write(folder, "tokenizer/vocab.json", "{\"<|startoftext|>\": 49406, \"<|endoftext|>\": 49407}")?;
    write(folder, "tokenizer/merges.txt", "#version: 0.2\n")?;
    let unet = "
    conv_in.weight [320,4,3,3]
    conv_out.weight [4,320,3,3]
    time_embedding.linear_1.weight [1280,320]
    down_blocks.0.attentions.{0,1}.transformer_blocks.0.attn2.to_{k,v}.weight [320,768]
    down_blocks.{1,2}.attentions.{0,1}.norm.weight [1280]
    mid_block.attentions.0.norm.weight [1280]";
    write_tensors(folder, "unet/diffusion_pytorch_model.safetensors", unet)?;
    let vae = "
    decoder.conv_in.weight [512,4,3,3]
    decoder.mid_block.attentions.0.to_{q,k}.weight [512,512]
    decoder.up_blocks.0.resnets.0.norm1.weight [512]
    encoder.conv_in.weight [128,3,3,3]
    encoder.down_blocks.0.resnets.0.norm1.weight [128]
    quant_conv.weight [8,8,1,1]
    post_quant_conv.weight [4,4,1,1]";
    write_tensors(folder, "vae/diffusion_pytorch_model.safetensors", vae)?;
    let text_encoder = "
    text_model.embeddings.position_embedding.weight [77,768]
    text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    text_model.encoder.layers.0.self_attn.k_proj.weight [768,768]
    text_model.final_layer_norm.weight [768]";
    write_tensors(folder, "text_encoder/model.safetensors", text_encoder)
}

/// A small Llama in two shards.
pub fn sharded_llm(folder: &Path) -> io::Result<()> {
    const LAYER: &str = "self_attn.{q_proj,o_proj}.weight [64,64] BF16
    self_attn.{k_proj,v_proj}.weight [32,64] BF16
    mlp.{gate_proj,up_proj}.weight [172,64] BF16
    mlp.down_proj.weight [64,172] BF16
    {input_layernorm,post_attention_layernorm}.weight [64] BF16";
    let layer = |number: u32| -> Vec<Tensor> {
        let lines = LAYER.lines().map(|line| format!("model.layers.{number}.{}\n", line.trim()));
        tensors::parse(&lines.collect::<String>())
    };
    let mut first = tensors::parse("model.embed_tokens.weight [512,64] BF16");
    first.extend((0..3).flat_map(layer));
    let mut second: Vec<Tensor> = (3..5).flat_map(layer).collect();
    second.extend(tensors::parse("model.norm.weight [64] BF16\nlm_head.weight [512,64] BF16"));
    let mut weight_map = serde_json::Map::new();
    let mut total_size = 0;
    for (number, shard) in [(1, &first), (2, &second)] {
        let name = format!("model-0000{number}-of-00002.safetensors");
        write(folder, &name, safetensors_file::bytes(&name, shard, &[("format", "pt")]))?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone().into())));
        total_size += shard.iter().map(|tensor| tensor.values() * 2).sum::<u64>();
    }
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    write(folder, "model.safetensors.index.json", format!("{index:#}"))?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 172,
        "num_attention_heads": 8, "num_hidden_layers": 5, "num_key_value_heads": 4, "torch_dtype": "bfloat16",
        "vocab_size": 512,
    });
    write(folder, "config.json", format!("{config:#}"))?;
    write(folder, "generation_config.json", "{\"bos_token_id\": 1, \"eos_token_id\": 2}\n")?;
    write(folder, "tokenizer.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\"}}\n")
}

/// `hub` is the folder that holds `models--…`. `weights` are the bytes of the large file.
pub fn hugging_face_cache(hub: &Path, weights: &[u8]) -> io::Result<()> {
    let repo = hub.join(format!("models--{}", CACHED_REPO.replace('/', "--")));
    write(hub, "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")?;
    write(&repo, "refs/main", CACHED_COMMIT)?;
    let card = "---\nlicense: mit\nbase_model: stabilityai/stable-diffusion-xl-base-1.0\ntags:\n- lora\n---\n# Tiny\n";
    let weights = Content::from(weights);
    let files = [
        ("README.md", Content::from(card), false),
        ("config/adapter_config.json", Content::from("{\"peft_type\": \"LORA\", \"r\": 8}\n"), false),
        ("pytorch_lora_weights.safetensors", weights, true),
    ];
    for (path, content, is_large) in files {
        let blob = if is_large { content.sha256() } else { content.git_sha1() };
        write(&repo, &format!("blobs/{blob}"), content.to_vec())?;
        write(hub, &format!(".locks/models--{}/{blob}.lock", CACHED_REPO.replace('/', "--")), "")?;
        let link = repo.join(format!("snapshots/{CACHED_COMMIT}/{path}"));
        fs::create_dir_all(link.parent().expect("inside the repository"))?;
        let up = "../".repeat(2 + path.matches('/').count());
        replace_link(&format!("{up}blobs/{blob}"), &link)?;
    }
    Ok(())
}

fn replace_link(target: &str, link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, link),
    }
}

//! The samples: for every type the tensors by which it is told apart, with their real names and shapes.
//!
//! Small in bytes: of the real tensors only the telling and the small ones are there, weights in 8 bits where real
//! files have that. The largest is the T5 encoder: its telling tensor alone has 42 MB.

use super::gguf_file::{self, Meta};
use super::safetensors_file;
use super::small_models::*;
use super::tensors::{self, Tensor};
use super::torch_file::{self, Object};

/// A model in one file.
pub struct Sample {
    /// File name, as such files are called.
    pub name: &'static str,
    /// Type in the words of `app-folders.toml`.
    pub model_type: &'static str,
    /// Family: the verdict's base is this word or a kind of it. Empty when the file need not tell.
    pub base: &'static str,
    /// Folders of ComfyUI and of A1111 below their model roots, empty where that application has none.
    pub comfyui: &'static str,
    pub a1111: &'static str,
    pub bytes: fn(&str) -> Vec<u8>,
}

macro_rules! sample {
    ($name:literal, $model_type:literal, $base:literal, $comfyui:literal, $a1111:literal, $bytes:expr) => {
        Sample { name: $name, model_type: $model_type, base: $base, comfyui: $comfyui, a1111: $a1111, bytes: $bytes }
    };
}

pub const SAMPLES: &[Sample] = &[
    sample!("v1-5-pruned-emaonly.safetensors", "checkpoint", "sd1", "checkpoints", "Stable-diffusion", sd15),
    sample!("dreamlike.ckpt", "checkpoint", "sd1", "checkpoints", "Stable-diffusion", sd15_ckpt),
    sample!("v2-1_768-ema-pruned.safetensors", "checkpoint", "sd2", "checkpoints", "Stable-diffusion", sd2),
    sample!("sd_xl_base_1.0.safetensors", "checkpoint", "sdxl", "checkpoints", "Stable-diffusion", |seed| sdxl(
        seed,
        &[]
    )),
    sample!("ponyDiffusionV6XL.safetensors", "checkpoint", "pony", "checkpoints", "Stable-diffusion", |seed| {
        sdxl(
            seed,
            &[("modelspec.architecture", "stable-diffusion-xl-v1-base"), ("modelspec.title", "Pony Diffusion V6 XL")],
        )
    }),
    sample!("illustriousXL_v01.safetensors", "checkpoint", "illustrious", "checkpoints", "Stable-diffusion", |seed| {
        sdxl(
            seed,
            &[("modelspec.architecture", "stable-diffusion-xl-v1-base"), ("modelspec.title", "Illustrious XL v0.1")],
        )
    }),
    sample!("sd3_medium_incl_clips.safetensors", "checkpoint", "sd3", "checkpoints", "Stable-diffusion", sd3),
    sample!("flux1-dev.safetensors", "diffusion_model", "flux1", "diffusion_models", "", flux1),
    sample!("wan2.1_t2v_1.3B_fp16.safetensors", "diffusion_model", "wan", "diffusion_models", "", wan),
    sample!("flux1-dev-Q4_K_S.gguf", "diffusion_model", "flux1", "diffusion_models", "", flux1_gguf),
    sample!("clip_l.safetensors", "text_encoder", "", "text_encoders", "", clip_l),
    sample!("t5xxl_fp8_e4m3fn.safetensors", "text_encoder", "", "text_encoders", "", t5xxl),
    sample!("CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", "clip_vision", "", "clip_vision", "", clip_vision),
    sample!("vae-ft-mse-840000-ema-pruned.safetensors", "vae", "", "vae", "VAE", vae_sd),
    sample!("ae.safetensors", "vae", "", "vae", "VAE", vae_flux),
    sample!("taesd_decoder.safetensors", "vae_approx", "", "vae_approx", "", taesd),
    sample!("add_detail.safetensors", "lora", "sd1", "loras", "Lora", lora_sd15),
    sample!("sdxl_style.safetensors", "lora", "sdxl", "loras", "Lora", lora_sdxl),
    sample!("flux_realism.safetensors", "lora", "flux1", "loras", "", lora_flux),
    sample!("wan_camera.safetensors", "lora", "wan", "loras", "", lora_wan),
    sample!("sd15_loha.safetensors", "lycoris", "sd1", "loras", "Lora", lycoris_sd15),
    sample!("control_v11p_sd15_canny_fp16.safetensors", "controlnet", "sd1", "controlnet", "ControlNet", controlnet),
    sample!("t2iadapter_depth_sd15v2.safetensors", "t2i_adapter", "sd1", "controlnet", "ControlNet", t2i_adapter),
    sample!("ip-adapter_sd15.safetensors", "ip_adapter", "sd1", "ipadapter", "", ip_adapter),
    sample!("t2iadapter_style_sd14v1.safetensors", "style_model", "", "style_models", "", style_model),
    sample!("easynegative.safetensors", "embedding", "sd1", "embeddings", "../embeddings", embedding),
    sample!("badhand.pt", "embedding", "sd1", "embeddings", "../embeddings", embedding_pt),
    sample!("photoreal.pt", "hypernetwork", "sd1", "hypernetworks", "hypernetworks", hypernetwork),
    sample!("RealESRGAN_x4plus_anime_6B.pth", "upscaler", "", "upscale_models", "ESRGAN", upscaler),
    sample!("v3_sd15_mm.safetensors", "motion_module", "sd1", "animatediff_models", "", motion_module),
    sample!("stories260K-Q8_0.gguf", "llm", "", "LLM", "", llm),
    sample!("mmproj-llava-f16.gguf", "mmproj", "", "LLM", "", mmproj),
    sample!("GFPGANv1.4.pth", "face_restore", "", "facerestore_models", "GFPGAN", face_restore),
    sample!("inswapper_128.onnx", "face_swap", "", "insightface", "", face_swap),
    sample!("v2_lora_ZoomIn.safetensors", "motion_lora", "sd1", "animatediff_motion_lora", "", motion_lora),
    sample!("face_yolov8n.pt", "detection", "", "ultralytics/bbox", "", detection),
    sample!("sam_vit_b_01ec64.pth", "segmentation", "", "sams", "", segmentation),
    sample!("gligen_sd14_textbox_pruned.safetensors", "gligen", "sd1", "gligen", "", gligen),
    sample!("photomaker-v1.bin", "photomaker", "sdxl", "photomaker", "", photomaker),
    sample!("instantid-ip-adapter.bin", "instantid", "sdxl", "instantid", "", instantid),
    sample!("pulid_flux_v0.9.1.safetensors", "pulid", "flux1", "pulid", "", pulid),
    sample!("qwen_image_canny_diffsynth_controlnet.safetensors", "model_patch", "", "model_patches", "", model_patch),
    sample!("wav2vec2_large_english_fp16.safetensors", "audio_encoder", "", "audio_encoders", "", audio_encoder),
    sample!("sac+logos+ava1-l14-linearMSE.pth", "classifier", "", "", "", classifier),
    sample!("depth_anything_vits14.pth", "preprocessor", "", "", "", preprocessor),
    sample!("model_base_caption_capfilt_large.pth", "caption", "", "blip", "BLIP", caption),
    sample!("rmbg-1.4.pth", "background_removal", "", "background_removal", "", background_removal),
    sample!("raft-things.pth", "optical_flow", "", "optical_flow", "", optical_flow),
    sample!("sd_safety_checker.safetensors", "safety_checker", "", "", "", safety_checker),
    sample!("stories260K-style-F32-LoRA.gguf", "llm_lora", "", "", "", llm_lora),
    sample!("all-MiniLM-L6-v2-F16.gguf", "sentence_embedding", "", "", "", sentence_embedding),
];

fn safetensors(seed: &str, text: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    safetensors_file::bytes(seed, &tensors::parse(text), metadata)
}

/// What the UNets of sd1 and sd2 share.
const UNET_SD: &str = "
    model.diffusion_model.input_blocks.0.0.weight [320,4,3,3]
    model.diffusion_model.input_blocks.{1,2}.1.transformer_blocks.0.norm1.weight [320]
    model.diffusion_model.input_blocks.{4,5}.1.transformer_blocks.0.norm1.weight [640]
    model.diffusion_model.input_blocks.{7,8}.1.transformer_blocks.0.norm1.weight [1280]
    model.diffusion_model.middle_block.1.transformer_blocks.0.norm1.weight [1280]
    model.diffusion_model.time_embed.0.weight [1280,320]
    model.diffusion_model.input_blocks.{1,2}.0.in_layers.0.weight [320]
    model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias [320]
    model.diffusion_model.out.0.weight [320]
    model.diffusion_model.out.2.weight [4,320,3,3]
    first_stage_model.encoder.conv_in.weight [128,3,3,3]
    first_stage_model.decoder.conv_in.weight [512,4,3,3]
    first_stage_model.quant_conv.weight [8,8,1,1]
    first_stage_model.post_quant_conv.weight [4,4,1,1]
    alphas_cumprod [1000] F32
    betas [1000] F32";

const SD15: &str = "
    model.diffusion_model.input_blocks.{1,2}.1.proj_in.weight [320,320,1,1]
    model.diffusion_model.input_blocks.{1,2}.1.transformer_blocks.0.attn2.to_k.weight [320,768]
    cond_stage_model.transformer.text_model.embeddings.position_embedding.weight [77,768]
    cond_stage_model.transformer.text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    cond_stage_model.transformer.text_model.final_layer_norm.weight [768]";

fn sd15(seed: &str) -> Vec<u8> {
    safetensors(seed, &format!("{UNET_SD}{SD15}"), &[])
}

fn sd15_ckpt(seed: &str) -> Vec<u8> {
    let state = Object::state(tensors::parse(&format!("{UNET_SD}{SD15}")));
    let training = [(Object::text("state_dict"), state), (Object::text("global_step"), Object::Int(840_000))];
    torch_file::bytes(seed, &Object::Dict(training.into()))
}

fn sd2(seed: &str) -> Vec<u8> {
    let sd2 = "
    model.diffusion_model.input_blocks.{1,2}.1.proj_in.weight [320,320]
    model.diffusion_model.input_blocks.{1,2}.1.transformer_blocks.0.attn2.to_k.weight [320,1024]
    cond_stage_model.model.positional_embedding [77,1024]
    cond_stage_model.model.transformer.resblocks.{0..23}.ln_1.weight [1024]
    cond_stage_model.model.ln_final.weight [1024]";
    safetensors(seed, &format!("{UNET_SD}{sd2}"), &[])
}

fn sdxl(seed: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let text = "
    model.diffusion_model.input_blocks.0.0.weight [320,4,3,3] F8_E4M3
    model.diffusion_model.label_emb.0.0.weight [1280,2816] F8_E4M3
    model.diffusion_model.input_blocks.{4,5}.1.proj_in.weight [640,640] F8_E4M3
    model.diffusion_model.input_blocks.{4,5}.1.transformer_blocks.{0,1}.norm1.weight [640]
    model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight [640,2048] F8_E4M3
    model.diffusion_model.input_blocks.{7,8}.1.transformer_blocks.{0..10}.norm1.weight [1280]
    model.diffusion_model.middle_block.1.transformer_blocks.{0..10}.norm1.weight [1280]
    model.diffusion_model.out.0.weight [320]
    model.diffusion_model.out.2.weight [4,320,3,3] F8_E4M3
    first_stage_model.encoder.conv_in.weight [128,3,3,3]
    first_stage_model.decoder.conv_in.weight [512,4,3,3]
    first_stage_model.quant_conv.weight [8,8,1,1]
    first_stage_model.post_quant_conv.weight [4,4,1,1]
    conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight [77,768]
    conditioner.embedders.0.transformer.text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    conditioner.embedders.1.model.text_projection [1280,1280] F8_E4M3
    conditioner.embedders.1.model.positional_embedding [77,1280]
    conditioner.embedders.1.model.transformer.resblocks.{0..32}.ln_1.weight [1280]
    conditioner.embedders.1.model.logit_scale [] F32";
    safetensors(seed, text, metadata)
}

fn sd3(seed: &str) -> Vec<u8> {
    let text = "
    model.diffusion_model.x_embedder.proj.weight [1536,16,2,2]
    model.diffusion_model.context_embedder.bias [1536]
    model.diffusion_model.y_embedder.mlp.0.bias [1536]
    model.diffusion_model.t_embedder.mlp.0.weight [1536,256]
    model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight [4608,1536] F8_E4M3
    model.diffusion_model.joint_blocks.{0..24}.x_block.attn.qkv.bias [4608]
    model.diffusion_model.joint_blocks.{0..24}.x_block.attn.proj.bias [1536]
    model.diffusion_model.final_layer.linear.weight [64,1536]
    first_stage_model.encoder.conv_in.weight [128,3,3,3]
    first_stage_model.decoder.conv_in.weight [512,16,3,3]
    text_encoders.clip_l.transformer.text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    text_encoders.clip_l.transformer.text_model.embeddings.position_embedding.weight [77,768]
    text_encoders.clip_g.transformer.text_model.encoder.layers.{0..32}.layer_norm1.weight [1280]
    text_encoders.clip_g.transformer.text_model.embeddings.position_embedding.weight [77,1280]";
    safetensors(seed, text, &[("modelspec.architecture", "stable-diffusion-v3-medium")])
}

fn flux1(seed: &str) -> Vec<u8> {
    let text = "
    img_in.weight [3072,64] F8_E4M3
    img_in.bias [3072] BF16
    txt_in.bias [3072] BF16
    time_in.in_layer.weight [3072,256] F8_E4M3
    guidance_in.in_layer.weight [3072,256] F8_E4M3
    vector_in.in_layer.weight [3072,768] F8_E4M3
    double_blocks.{0..19}.img_attn.norm.{key_norm,query_norm}.scale [128] BF16
    double_blocks.{0..19}.txt_attn.norm.{key_norm,query_norm}.scale [128] BF16
    double_blocks.{0..19}.img_attn.proj.bias [3072] BF16
    single_blocks.{0..38}.norm.{key_norm,query_norm}.scale [128] BF16
    single_blocks.{0..38}.linear2.bias [3072] BF16
    final_layer.linear.weight [64,3072] F8_E4M3";
    safetensors(seed, text, &[("format", "pt")])
}

fn wan(seed: &str) -> Vec<u8> {
    let text = "
    patch_embedding.weight [1536,16,1,2,2]
    patch_embedding.bias [1536]
    text_embedding.0.bias [1536]
    text_embedding.2.weight [1536,1536]
    time_embedding.0.weight [1536,256]
    time_projection.1.bias [9216]
    blocks.{0..30}.modulation [1,6,1536]
    blocks.{0..30}.self_attn.{norm_q,norm_k}.weight [1536]
    blocks.{0..30}.cross_attn.{norm_q,norm_k}.weight [1536]
    blocks.{0..30}.ffn.0.bias [8960]
    head.modulation [1,2,1536]
    head.head.weight [64,1536]";
    safetensors(seed, text, &[])
}

fn flux1_gguf(seed: &str) -> Vec<u8> {
    let text = "
    img_in.weight [3072,64] F16
    img_in.bias [3072] F32
    txt_in.bias [3072] F32
    guidance_in.in_layer.weight [3072,256] F16
    vector_in.in_layer.weight [3072,768] Q4_K
    double_blocks.0.img_attn.proj.weight [3072,3072] Q4_K
    double_blocks.{0..19}.img_attn.norm.{key_norm,query_norm}.scale [128] F32
    single_blocks.{0..38}.norm.{key_norm,query_norm}.scale [128] F32
    final_layer.linear.weight [64,3072] F16";
    let metadata = [
        ("general.architecture", Meta::Text("flux")),
        ("general.quantization_version", Meta::U32(2)),
        ("general.file_type", Meta::U32(14)),
    ];
    gguf_file::bytes(seed, &tensors::parse(text), &metadata)
}

fn clip_l(seed: &str) -> Vec<u8> {
    let text = "
    text_model.embeddings.position_embedding.weight [77,768]
    text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    text_model.encoder.layers.{0..12}.layer_norm1.bias [768]
    text_model.encoder.layers.0.mlp.fc1.weight [3072,768]
    text_model.encoder.layers.0.self_attn.k_proj.weight [768,768]
    text_model.final_layer_norm.weight [768]
    text_projection.weight [768,768]";
    safetensors(seed, text, &[("format", "pt")])
}

fn t5xxl(seed: &str) -> Vec<u8> {
    let text = "
    encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight [32,64]
    encoder.block.{0..24}.layer.0.layer_norm.weight [4096]
    encoder.block.{0..24}.layer.1.layer_norm.weight [4096]
    encoder.block.23.layer.1.DenseReluDense.wi_1.weight [10240,4096] F8_E4M3
    encoder.final_layer_norm.weight [4096]";
    safetensors(seed, text, &[("format", "pt")])
}

fn clip_vision(seed: &str) -> Vec<u8> {
    let text = "
    vision_model.embeddings.class_embedding [1280]
    vision_model.embeddings.patch_embedding.weight [1280,3,14,14]
    vision_model.embeddings.position_embedding.weight [257,1280]
    vision_model.encoder.layers.{0..32}.layer_norm1.weight [1280]
    vision_model.encoder.layers.{0..32}.self_attn.{q,k,v}_proj.bias [1280]
    vision_model.pre_layrnorm.weight [1280]
    vision_model.post_layernorm.weight [1280]
    visual_projection.weight [1024,1280]";
    safetensors(seed, text, &[("format", "pt")])
}

fn vae_sd(seed: &str) -> Vec<u8> {
    let text = "
    encoder.conv_in.weight [128,3,3,3] F32
    encoder.down.{0,1}.block.0.norm1.weight [128] F32
    encoder.down.2.downsample.conv.bias [512] F32
    encoder.conv_out.weight [8,512,3,3] F32
    quant_conv.weight [8,8,1,1] F32
    post_quant_conv.weight [4,4,1,1] F32
    decoder.conv_in.weight [512,4,3,3] F32
    decoder.mid.attn_1.{q,k,v}.weight [512,512,1,1] F32
    decoder.mid.block_1.norm1.weight [512] F32
    decoder.up.3.upsample.conv.bias [512] F32
    decoder.conv_out.weight [3,128,3,3] F32";
    safetensors(seed, text, &[("format", "pt")])
}

fn vae_flux(seed: &str) -> Vec<u8> {
    let text = "
    encoder.conv_in.weight [128,3,3,3] F32
    encoder.down.2.downsample.conv.bias [512] F32
    encoder.conv_out.weight [32,512,3,3] F32
    decoder.conv_in.weight [512,16,3,3] F32
    decoder.mid.attn_1.{q,k,v}.weight [512,512,1,1] F32
    decoder.mid.block_1.norm1.weight [512] F32
    decoder.up.3.upsample.conv.bias [512] F32
    decoder.conv_out.weight [3,128,3,3] F32";
    safetensors(seed, text, &[])
}

fn taesd(seed: &str) -> Vec<u8> {
    let text = "
    taesd_decoder.1.weight [64,4,3,3]
    taesd_decoder.1.bias [64]
    taesd_decoder.{3,4,5}.conv.{0,2,4}.weight [64,64,3,3]
    taesd_decoder.19.weight [3,64,3,3]";
    safetensors(seed, text, &[])
}

fn lora_sd15(seed: &str) -> Vec<u8> {
    let text = "
    lora_unet_down_blocks_{0..2}_attentions_0_transformer_blocks_0_attn2_to_k.alpha [] F32
    lora_unet_down_blocks_0_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.lora_down.weight [8,768]
    lora_unet_down_blocks_0_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.lora_up.weight [320,8]
    lora_unet_down_blocks_1_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.lora_down.weight [8,768]
    lora_unet_down_blocks_1_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.lora_up.weight [640,8]
    lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_q.lora_down.weight [8,320]
    lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_q.lora_up.weight [320,8]
    lora_te_text_model_encoder_layers_{0..12}_mlp_fc1.lora_down.weight [8,768]
    lora_te_text_model_encoder_layers_{0..12}_mlp_fc1.lora_up.weight [3072,8]
    lora_te_text_model_encoder_layers_{0..12}_mlp_fc1.alpha [] F32";
    let metadata = [
        ("ss_base_model_version", "sd_v1"),
        ("ss_network_alpha", "8.0"),
        ("ss_network_dim", "8"),
        ("ss_network_module", "networks.lora"),
        ("ss_output_name", "add_detail"),
        ("ss_sd_model_name", "v1-5-pruned-emaonly.safetensors"),
        ("ss_tag_frequency", r#"{"10_detail": {"detailed": 40, "sharp focus": 12}}"#),
    ];
    safetensors(seed, text, &metadata)
}

fn lora_sdxl(seed: &str) -> Vec<u8> {
    let text = "
    lora_unet_input_blocks_{4,5}_1_transformer_blocks_{0,1}_attn2_to_k.lora_down.weight [8,2048]
    lora_unet_input_blocks_{4,5}_1_transformer_blocks_{0,1}_attn2_to_k.lora_up.weight [640,8]
    lora_unet_input_blocks_{7,8}_1_transformer_blocks_{0..10}_attn2_to_k.lora_down.weight [8,2048]
    lora_unet_input_blocks_{7,8}_1_transformer_blocks_{0..10}_attn2_to_k.lora_up.weight [1280,8]
    lora_unet_input_blocks_{7,8}_1_transformer_blocks_{0..10}_attn2_to_k.alpha [] F32
    lora_te1_text_model_encoder_layers_{0..12}_mlp_fc1.lora_down.weight [8,768]
    lora_te1_text_model_encoder_layers_{0..12}_mlp_fc1.lora_up.weight [3072,8]
    lora_te2_text_model_encoder_layers_{0..32}_mlp_fc1.lora_down.weight [8,1280]
    lora_te2_text_model_encoder_layers_{0..32}_mlp_fc1.lora_up.weight [5120,8]";
    let metadata = [
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
        ("ss_base_model_version", "sdxl_base_v1-0"),
        ("ss_network_dim", "8"),
        ("ss_network_module", "networks.lora"),
    ];
    safetensors(seed, text, &metadata)
}

fn lora_flux(seed: &str) -> Vec<u8> {
    let text = "
    transformer.single_transformer_blocks.{0..38}.attn.to_q.lora_A.weight [4,3072] BF16
    transformer.single_transformer_blocks.{0..38}.attn.to_q.lora_B.weight [3072,4] BF16
    transformer.single_transformer_blocks.{0,37}.proj_mlp.lora_A.weight [4,3072] BF16
    transformer.single_transformer_blocks.{0,37}.proj_mlp.lora_B.weight [12288,4] BF16
    transformer.transformer_blocks.{0..19}.attn.{to_q,add_q_proj}.lora_A.weight [4,3072] BF16
    transformer.transformer_blocks.{0..19}.attn.{to_q,add_q_proj}.lora_B.weight [3072,4] BF16";
    safetensors(seed, text, &[("format", "pt")])
}

fn lora_wan(seed: &str) -> Vec<u8> {
    let text = "
    diffusion_model.blocks.{0,1,39}.self_attn.{q,k,v,o}.lora_A.weight [4,5120] BF16
    diffusion_model.blocks.{0,1,39}.self_attn.{q,k,v,o}.lora_B.weight [5120,4] BF16
    diffusion_model.blocks.{0,1,39}.cross_attn.{q,k,v,o}.lora_A.weight [4,5120] BF16
    diffusion_model.blocks.{0,1,39}.cross_attn.{q,k,v,o}.lora_B.weight [5120,4] BF16
    diffusion_model.blocks.{0,1,39}.ffn.0.lora_A.weight [4,5120] BF16
    diffusion_model.blocks.{0,1,39}.ffn.0.lora_B.weight [13824,4] BF16";
    safetensors(seed, text, &[])
}

fn lycoris_sd15(seed: &str) -> Vec<u8> {
    let text = "
    lora_unet_down_blocks_0_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.hada_{w1,w2}_a [320,4]
    lora_unet_down_blocks_0_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.hada_{w1,w2}_b [4,768]
    lora_unet_down_blocks_0_attentions_{0,1}_transformer_blocks_0_attn2_to_{k,v}.alpha []
    lora_te_text_model_encoder_layers_{0..12}_mlp_fc1.hada_{w1,w2}_a [3072,4]
    lora_te_text_model_encoder_layers_{0..12}_mlp_fc1.hada_{w1,w2}_b [4,768]";
    let metadata = [
        ("ss_base_model_version", "sd_v1"),
        ("ss_network_args", r#"{"algo": "loha", "conv_dim": 4}"#),
        ("ss_network_dim", "4"),
        ("ss_network_module", "lycoris.kohya"),
    ];
    safetensors(seed, text, &metadata)
}

fn controlnet(seed: &str) -> Vec<u8> {
    let text = "
    control_model.input_hint_block.0.weight [16,3,3,3]
    control_model.input_hint_block.14.weight [320,256,3,3]
    control_model.input_blocks.0.0.weight [320,4,3,3]
    control_model.input_blocks.{1,2}.1.transformer_blocks.0.attn2.to_k.weight [320,768]
    control_model.middle_block.1.transformer_blocks.0.norm1.weight [1280]
    control_model.middle_block_out.0.bias [1280]
    control_model.zero_convs.{0..4}.0.weight [320,320,1,1]
    control_model.zero_convs.{0..4}.0.bias [320]
    control_model.time_embed.0.weight [1280,320]";
    safetensors(seed, text, &[])
}

fn t2i_adapter(seed: &str) -> Vec<u8> {
    let text = "
    conv_in.weight [320,192,3,3]
    conv_in.bias [320]
    body.{0,1}.block1.weight [320,320,3,3]
    body.{0,1}.block2.weight [320,320,1,1]
    body.2.in_conv.weight [640,320,1,1]
    body.{2..8}.block1.bias [640]";
    safetensors(seed, text, &[])
}

fn ip_adapter(seed: &str) -> Vec<u8> {
    let text = "
    image_proj.proj.weight [3072,1024]
    image_proj.proj.bias [3072]
    image_proj.norm.weight [768]
    image_proj.norm.bias [768]
    ip_adapter.1.to_{k,v}_ip.weight [320,768]
    ip_adapter.3.to_{k,v}_ip.weight [320,768]";
    safetensors(seed, text, &[])
}

fn style_model(seed: &str) -> Vec<u8> {
    let text = "
    style_embedding [1,8,1024]
    proj [1024,768]
    ln_pre.weight [1024]
    ln_post.weight [1024]
    transformer_layes.{0..3}.ln_1.weight [1024]
    transformer_layes.{0..3}.attn.in_proj_bias [3072]";
    safetensors(seed, text, &[])
}

fn embedding(seed: &str) -> Vec<u8> {
    safetensors(seed, "emb_params [8,768] F32", &[])
}

fn embedding_pt(seed: &str) -> Vec<u8> {
    let star = |value| Object::Dict(vec![(Object::text("*"), value)]);
    let vectors = Tensor { name: "*".to_owned(), dtype: "F32".to_owned(), shape: vec![6, 768] };
    let entries = vec![
        (Object::text("string_to_token"), star(Object::Int(265))),
        (Object::text("string_to_param"), star(Object::Tensor(vectors))),
        (Object::text("name"), Object::text("badhand")),
        (Object::text("step"), Object::Int(4000)),
        (Object::text("sd_checkpoint"), Object::text("81761151")),
        (Object::text("sd_checkpoint_name"), Object::text("v1-5-pruned-emaonly")),
    ];
    torch_file::bytes(seed, &Object::Dict(entries))
}

fn hypernetwork(seed: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    for length in [320u64, 640, 768] {
        let module = || {
            let text = format!("linear.0.weight [{length},{length}]\nlinear.0.bias [{length}]");
            Object::state(tensors::parse(&text))
        };
        let pair = Object::Pair(Box::new((module(), module())));
        entries.push((Object::Int(i64::try_from(length).expect("a small number")), pair));
    }
    entries.extend([
        (Object::text("step"), Object::Int(10_000)),
        (Object::text("name"), Object::text("photoreal")),
        (Object::text("layer_structure"), Object::List(vec![Object::Int(1), Object::Int(1)])),
        (Object::text("activation_func"), Object::text("linear")),
        (Object::text("is_layer_norm"), Object::Bool(false)),
        (Object::text("weight_initialization"), Object::text("Normal")),
        (Object::text("use_dropout"), Object::Bool(false)),
        (Object::text("sd_checkpoint"), Object::text("81761151")),
        (Object::text("sd_checkpoint_name"), Object::text("v1-5-pruned-emaonly")),
        (Object::text("activate_output"), Object::None),
    ]);
    torch_file::bytes(seed, &Object::Dict(entries))
}

fn upscaler(seed: &str) -> Vec<u8> {
    let text = "
    conv_first.weight [64,3,3,3] F32
    conv_first.bias [64] F32
    body.{0..6}.{rdb1,rdb2,rdb3}.conv1.weight [32,64,3,3] F32
    body.{0..6}.{rdb1,rdb2,rdb3}.conv5.bias [64] F32
    conv_body.weight [64,64,3,3] F32
    conv_up{1,2}.weight [64,64,3,3] F32
    conv_hr.weight [64,64,3,3] F32
    conv_last.weight [3,64,3,3] F32";
    let state = Object::state(tensors::parse(text));
    torch_file::bytes(seed, &Object::Dict(vec![(Object::text("params_ema"), state)]))
}

fn motion_module(seed: &str) -> Vec<u8> {
    const LAYER: &str = "temporal_transformer.transformer_blocks.0.attention_blocks";
    let mut text = String::new();
    for (block, width) in [(0, 320), (1, 640), (2, 1280), (3, 1280)] {
        for part in [
            format!("{LAYER}.{{0,1}}.pos_encoder.pe [1,32,{width}]"),
            format!("temporal_transformer.norm.weight [{width}]"),
            format!("temporal_transformer.proj_in.bias [{width}]"),
        ] {
            text.push_str(&format!("down_blocks.{block}.motion_modules.{{0,1}}.{part}\n"));
            text.push_str(&format!("up_blocks.{}.motion_modules.{{0..3}}.{part}\n", 3 - block));
        }
    }
    safetensors(seed, &text, &[])
}

fn llm(seed: &str) -> Vec<u8> {
    let text = "
    token_embd.weight [512,64] Q8_0
    blk.{0..5}.attn_norm.weight [64] F32
    blk.{0..5}.attn_q.weight [64,64] Q8_0
    blk.{0..5}.attn_k.weight [32,64] Q8_0
    blk.{0..5}.attn_v.weight [32,64] Q8_0
    blk.{0..5}.attn_output.weight [64,64] Q8_0
    blk.{0..5}.ffn_norm.weight [64] F32
    blk.{0..5}.ffn_gate.weight [172,64] Q8_0
    blk.{0..5}.ffn_up.weight [172,64] Q8_0
    blk.{0..5}.ffn_down.weight [64,172] F16
    output_norm.weight [64] F32
    output.weight [512,64] Q8_0";
    let tokens: Vec<String> = (0..512).map(|number| format!("<{number}>")).collect();
    let metadata = [
        ("general.architecture", Meta::Text("llama")),
        ("general.name", Meta::Text("stories260K")),
        ("general.size_label", Meta::Text("260K")),
        ("general.license", Meta::Text("mit")),
        ("general.file_type", Meta::U32(7)),
        ("general.quantization_version", Meta::U32(2)),
        ("llama.block_count", Meta::U32(5)),
        ("llama.context_length", Meta::U32(512)),
        ("llama.embedding_length", Meta::U32(64)),
        ("llama.feed_forward_length", Meta::U32(172)),
        ("llama.attention.head_count", Meta::U32(8)),
        ("llama.attention.head_count_kv", Meta::U32(4)),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
        ("tokenizer.ggml.model", Meta::Text("llama")),
        ("tokenizer.ggml.tokens", Meta::Texts(tokens)),
        ("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 512])),
        ("tokenizer.ggml.token_type", Meta::I32s(vec![1; 512])),
    ];
    gguf_file::bytes(seed, &tensors::parse(text), &metadata)
}

fn mmproj(seed: &str) -> Vec<u8> {
    let text = "
    v.class_embd [1024] F32
    v.patch_embd.weight [1024,3,14,14] F16
    v.position_embd.weight [577,1024] F16
    v.blk.{0..23}.ln1.weight [1024] F32
    v.blk.{0..23}.ln1.bias [1024] F32
    mm.0.bias [4096] F32
    mm.2.bias [4096] F32";
    let metadata = [
        ("general.architecture", Meta::Text("clip")),
        ("general.type", Meta::Text("mmproj")),
        ("general.file_type", Meta::U32(1)),
        ("clip.has_vision_encoder", Meta::Bool(true)),
        ("clip.has_text_encoder", Meta::Bool(false)),
        ("clip.projector_type", Meta::Text("mlp")),
        ("clip.vision.image_size", Meta::U32(336)),
        ("clip.vision.patch_size", Meta::U32(14)),
        ("clip.vision.embedding_length", Meta::U32(1024)),
        ("clip.vision.block_count", Meta::U32(23)),
    ];
    gguf_file::bytes(seed, &tensors::parse(text), &metadata)
}

//! The samples of the types beside generation: faces, detection, depth, sound, adapters of language models.
//!
//! Not here: the table of all samples (`models`).

use super::gguf_file::{self, Meta};
use super::onnx_file;
use super::safetensors_file;
use super::tensors;
use super::torch_file::{self, Object};

fn safetensors(seed: &str, text: &str) -> Vec<u8> {
    safetensors_file::bytes(seed, &tensors::parse(text), &[])
}

fn torch_state(seed: &str, text: &str) -> Vec<u8> {
    torch_file::bytes(seed, &Object::state(tensors::parse(text)))
}

/// A dict of state dicts.
fn torch_parts(seed: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    let parts = parts.iter().map(|(name, text)| (Object::text(name), Object::state(tensors::parse(text))));
    torch_file::bytes(seed, &Object::Dict(parts.collect()))
}

pub fn face_restore(seed: &str) -> Vec<u8> {
    let text = "
    stylegan_decoder.style_mlp.{1,3,5,7,9,11,13,15}.bias [512] F32
    stylegan_decoder.style_mlp.1.weight [512,512] F32
    stylegan_decoder.constant_input.weight [1,512,4,4] F32
    toRGB.0.weight [3,512,1,1] F32
    toRGB.0.bias [3] F32
    conv_body_first.weight [32,3,1,1] F32
    final_linear.bias [8192] F32";
    torch_parts(seed, &[("params_ema", text)])
}

pub fn face_swap(seed: &str) -> Vec<u8> {
    let inputs = tensors::parse("target [1,3,128,128] F32\nsource [1,512] F32");
    let outputs = tensors::parse("output [1,3,128,128] F32");
    let weights = tensors::parse("initializer [512,512] F32");
    onnx_file::bytes(seed, &inputs, &outputs, &weights)
}

pub fn motion_lora(seed: &str) -> Vec<u8> {
    const LAYER: &str = "temporal_transformer.transformer_blocks.0.attention_blocks.{0,1}.processor";
    let mut text = String::new();
    for (block, width) in [(0, 320), (1, 640), (2, 1280), (3, 1280)] {
        for part in ["to_q", "to_k", "to_v", "to_out"] {
            let module = format!("down_blocks.{block}.motion_modules.0.{LAYER}.{part}_lora");
            text.push_str(&format!("{module}.down.weight [32,{width}]\n{module}.up.weight [{width},32]\n"));
        }
    }
    safetensors(seed, &text)
}

/// The whole module, as the detector's own library saves it.
pub fn detection(seed: &str) -> Vec<u8> {
    let module = |class: (&'static str, &'static str), parameters: &str, children: Vec<(Object, Object)>| {
        let state = vec![
            (Object::text("training"), Object::Bool(false)),
            (Object::text("_parameters"), Object::state(tensors::parse(parameters))),
            (Object::text("_buffers"), Object::OrderedDict(Vec::new())),
            (Object::text("_modules"), Object::OrderedDict(children)),
        ];
        Object::Instance { class, state: Box::new(Object::Dict(state)) }
    };
    const CONVOLUTION: (&str, &str) = ("torch.nn.modules.conv", "Conv2d");
    let first = module(CONVOLUTION, "weight [16,3,3,3]", Vec::new());
    let last = module(CONVOLUTION, "weight [1,16,1,1]", Vec::new());
    let head = module(("ultralytics.nn.modules.head", "Detect"), "", vec![(Object::text("dfl"), last)]);
    let layers = vec![(Object::text("0"), first), (Object::text("22"), head)];
    let row = module(("torch.nn.modules.container", "Sequential"), "", layers);
    let model = module(("ultralytics.nn.tasks", "DetectionModel"), "", vec![(Object::text("model"), row)]);
    let training = vec![
        (Object::text("epoch"), Object::Int(-1)),
        (Object::text("model"), model),
        (Object::text("optimizer"), Object::None),
        (Object::text("date"), Object::text("2024-01-02T03:04:05")),
        (Object::text("version"), Object::text("8.0.0")),
    ];
    torch_file::bytes(seed, &Object::Dict(training))
}

pub fn segmentation(seed: &str) -> Vec<u8> {
    let text = "
    image_encoder.patch_embed.proj.weight [768,3,16,16] F32
    image_encoder.blocks.{0..12}.norm1.weight [768] F32
    image_encoder.blocks.{0..12}.attn.rel_pos_{h,w} [27,64] F32
    prompt_encoder.pe_layer.positional_encoding_gaussian_matrix [2,128] F32
    prompt_encoder.point_embeddings.{0..4}.weight [1,256] F32
    mask_decoder.iou_token.weight [1,256] F32
    mask_decoder.mask_tokens.weight [4,256] F32";
    torch_state(seed, text)
}

pub fn gligen(seed: &str) -> Vec<u8> {
    let text = "
    position_net.linears.0.weight [512,832]
    position_net.null_positive_feature [768]
    position_net.null_position_feature [64]
    input_blocks.{1,2}.1.transformer_blocks.0.fuser.alpha_{attn,dense} []
    input_blocks.{1,2}.1.transformer_blocks.0.fuser.attn.to_{q,k,v}.weight [320,320]
    input_blocks.{1,2}.1.transformer_blocks.0.fuser.linear.weight [320,768]";
    safetensors(seed, text)
}

pub fn photomaker(seed: &str) -> Vec<u8> {
    let encoder = "
    vision_model.encoder.layers.{0..24}.layer_norm1.weight [1024]
    visual_projection_2.weight [1280,1024]
    fuse_module.mlp1.layernorm.weight [4096]
    fuse_module.layer_norm.weight [2048]";
    let lora = "
    unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight [64,2048]
    unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight [640,64]";
    torch_parts(seed, &[("id_encoder", encoder), ("lora_weights", lora)])
}

pub fn instantid(seed: &str) -> Vec<u8> {
    let image = "
    latents [1,16,1280]
    proj_in.weight [1280,512]
    norm_out.weight [2048]
    layers.{0..4}.0.norm1.weight [1280]";
    let adapter = "1.to_{k,v}_ip.weight [640,2048]";
    torch_parts(seed, &[("image_proj", image), ("ip_adapter", adapter)])
}

pub fn pulid(seed: &str) -> Vec<u8> {
    let text = "
    pulid_encoder.latents [1,32,1024] BF16
    pulid_encoder.layers.{0..5}.0.norm1.weight [1024] BF16
    pulid_ca.{0..20}.norm1.weight [2048] BF16
    pulid_ca.{0..20}.norm2.weight [3072] BF16";
    safetensors(seed, text)
}

pub fn model_patch(seed: &str) -> Vec<u8> {
    let text = "
    img_in.weight [3072,64] BF16
    controlnet_blocks.{0..60}.{x_rms,y_rms}.weight [3072] BF16
    controlnet_blocks.{0..60}.input_proj.bias [3072] BF16";
    safetensors(seed, text)
}

pub fn audio_encoder(seed: &str) -> Vec<u8> {
    let text = "
    feature_extractor.conv_layers.0.conv.weight [512,1,10]
    feature_projection.layer_norm.weight [512]
    encoder.pos_conv_embed.conv.bias [1024]
    encoder.layer_norm.{weight,bias} [1024]
    encoder.layers.{0..24}.layer_norm.{weight,bias} [1024]
    encoder.layers.{0..24}.attention.{q,k,v}_proj.bias [1024]";
    safetensors(seed, text)
}

/// The whole of it: a small perceptron over an image embedding.
pub fn classifier(seed: &str) -> Vec<u8> {
    let text = "
    layers.0.weight [1024,768] F32
    layers.0.bias [1024] F32
    layers.2.weight [128,1024] F32
    layers.2.bias [128] F32
    layers.4.weight [64,128] F32
    layers.4.bias [64] F32
    layers.6.weight [16,64] F32
    layers.6.bias [16] F32
    layers.7.weight [1,16] F32
    layers.7.bias [1] F32";
    torch_state(seed, text)
}

pub fn preprocessor(seed: &str) -> Vec<u8> {
    let text = "
    pretrained.cls_token [1,1,384] F32
    pretrained.pos_embed [1,1370,384] F32
    pretrained.blocks.{0..12}.norm1.weight [384] F32
    depth_head.projects.0.weight [48,384,1,1] F32
    depth_head.scratch.layer1_rn.weight [64,48,3,3] F32
    depth_head.scratch.output_conv1.bias [32] F32";
    torch_state(seed, text)
}

pub fn caption(seed: &str) -> Vec<u8> {
    let text = "
    visual_encoder.cls_token [1,1,768] F32
    visual_encoder.blocks.{0..12}.norm1.weight [768] F32
    text_decoder.bert.embeddings.position_embeddings.weight [512,768] F32
    text_decoder.bert.encoder.layer.{0..12}.attention.self.query.bias [768] F32
    text_decoder.cls.predictions.bias [30524] F32";
    torch_parts(seed, &[("model", text)])
}

pub fn background_removal(seed: &str) -> Vec<u8> {
    let text = "
    conv_in.weight [64,3,3,3] F32
    stage1.rebnconvin.conv_s1.weight [64,64,3,3] F32
    stage1.rebnconv1.conv_s1.weight [32,64,3,3] F32
    stage2.rebnconvin.conv_s1.weight [128,64,3,3] F32
    side1.weight [1,64,3,3] F32
    side{2,3,4,5,6}.bias [1] F32";
    torch_state(seed, text)
}

pub fn optical_flow(seed: &str) -> Vec<u8> {
    let text = "
    module.fnet.conv1.weight [64,3,7,7] F32
    module.cnet.conv1.weight [64,3,7,7] F32
    module.update_block.encoder.convc1.weight [256,324,1,1] F32
    module.update_block.flow_head.conv2.weight [2,256,3,3] F32";
    torch_state(seed, text)
}

pub fn safety_checker(seed: &str) -> Vec<u8> {
    let text = "
    concept_embeds [17,768] F32
    concept_embeds_weights [17] F32
    special_care_embeds [3,768] F32
    special_care_embeds_weights [3] F32
    vision_model.vision_model.encoder.layers.{0..24}.layer_norm1.weight [1024] F32
    visual_projection.weight [768,1024] F32";
    safetensors(seed, text)
}

pub fn llm_lora(seed: &str) -> Vec<u8> {
    let text = "
    blk.{0..5}.attn_q.weight.lora_a [8,64] F32
    blk.{0..5}.attn_q.weight.lora_b [64,8] F32
    blk.{0..5}.attn_v.weight.lora_a [8,64] F32
    blk.{0..5}.attn_v.weight.lora_b [32,8] F32";
    let metadata = [
        ("general.architecture", Meta::Text("llama")),
        ("general.type", Meta::Text("adapter")),
        ("general.name", Meta::Text("stories260K style")),
        ("adapter.type", Meta::Text("lora")),
        ("adapter.lora.alpha", Meta::F32(16.0)),
    ];
    gguf_file::bytes(seed, &tensors::parse(text), &metadata)
}

pub fn sentence_embedding(seed: &str) -> Vec<u8> {
    let text = "
    token_types.weight [2,384] F32
    position_embd.weight [512,384] F16
    token_embd_norm.weight [384] F32
    blk.{0..6}.attn_q.weight [384,384] F16
    blk.{0..6}.attn_output_norm.weight [384] F32
    blk.{0..6}.layer_output_norm.weight [384] F32";
    let metadata = [
        ("general.architecture", Meta::Text("bert")),
        ("general.name", Meta::Text("all-MiniLM-L6-v2")),
        ("general.file_type", Meta::U32(1)),
        ("bert.block_count", Meta::U32(6)),
        ("bert.context_length", Meta::U32(512)),
        ("bert.embedding_length", Meta::U32(384)),
        ("bert.attention.head_count", Meta::U32(12)),
        ("bert.attention.causal", Meta::Bool(false)),
    ];
    gguf_file::bytes(seed, &tensors::parse(text), &metadata)
}

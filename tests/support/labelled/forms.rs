//! The forms in which people have diffusion models, checkpoints and their parts.

use super::super::samples::tensors::{self, Tensor};
use super::super::samples::torch_file::Object;
use super::unets::{Encoder, Unet};
use super::{Content, Entry, Labelled, files};

const OTHER_NAMES: &[&str] =
    &["sdxl_pony_style_lora_v2", "4x_upscaler_sd15", "flux1-dev-kontext", "my model (1)", "wan2.2_vae", "clip_l_t5xxl"];

/// Where its own name would be, a name that is wrong.
fn misleading(label: &str) -> &'static str {
    let number: usize = label.bytes().map(usize::from).sum();
    OTHER_NAMES[number % OTHER_NAMES.len()]
}

pub fn label(out: &mut Vec<Labelled>, path: String, model_type: &str, base: &str, file: files::Sparse) {
    let (model_type, base) = (model_type.to_owned(), base.to_owned());
    out.push(Labelled { path, model_type, base, content: Content::File(file) });
}

pub fn prefixed(prefix: &str, tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|tensor| Tensor { name: format!("{prefix}{}", tensor.name), ..tensor.clone() }).collect()
}

fn tensor(name: String, dtype: &str, shape: &[u64]) -> Tensor {
    Tensor { name, dtype: dtype.to_owned(), shape: shape.to_vec() }
}

/// How weights of linear layers are packed, and what then lies beside them.
#[derive(Clone, Copy)]
enum Packing {
    ScaledFp8,
    Comfy,
    Nf4,
    Nvfp4,
    Mxfp8,
    Int8,
    Gptq,
}

const PACKINGS: &[(&str, Packing)] = &[
    ("fp8-scaled", Packing::ScaledFp8),
    ("comfy-quant", Packing::Comfy),
    ("nf4", Packing::Nf4),
    ("nvfp4", Packing::Nvfp4),
    ("mxfp8", Packing::Mxfp8),
    ("int8", Packing::Int8),
    ("gptq", Packing::Gptq),
];

fn packed(tensors: &[Tensor], packing: Packing) -> Vec<Tensor> {
    let mut found = Vec::new();
    for original in tensors {
        let linear = original.name.ends_with(".weight")
            && original.shape.len() == 2
            && ["block", "layers."].iter().any(|word| original.name.contains(word))
            && original.shape[1].is_multiple_of(32);
        if !linear {
            found.push(original.clone());
            continue;
        }
        let (name, [out, read]) = (&original.name, [original.shape[0], original.shape[1]]);
        let stem = name.trim_end_matches(".weight");
        found.extend(match packing {
            Packing::ScaledFp8 => {
                vec![tensor(name.clone(), "F8_E4M3", &[out, read]), tensor(format!("{stem}.scale_weight"), "F32", &[])]
            }
            Packing::Comfy => vec![
                tensor(name.clone(), "F8_E4M3", &[out, read]),
                tensor(format!("{stem}.weight_scale"), "F32", &[]),
                tensor(format!("{stem}.comfy_quant"), "U8", &[30]),
            ],
            Packing::Nf4 => vec![
                tensor(name.clone(), "U8", &[out * read / 2, 1]),
                tensor(format!("{name}.absmax"), "U8", &[out * read / 64]),
                tensor(format!("{name}.quant_map"), "F32", &[16]),
                tensor(format!("{name}.nested_absmax"), "F32", &[out]),
                tensor(format!("{name}.quant_state.bitsandbytes__nf4"), "U8", &[151]),
            ],
            Packing::Nvfp4 => vec![
                tensor(name.clone(), "U8", &[out, read / 2]),
                tensor(format!("{stem}.weight_scale"), "F8_E4M3", &[out, read / 16]),
                tensor(format!("{stem}.weight_scale_2"), "F32", &[]),
            ],
            Packing::Mxfp8 => vec![
                tensor(name.clone(), "F8_E4M3", &[out, read]),
                tensor(format!("{stem}.weight_scale"), "U8", &[out, read / 32]),
            ],
            Packing::Int8 => {
                vec![tensor(name.clone(), "I8", &[out, read]), tensor(format!("{stem}.weight_scale"), "F32", &[out, 1])]
            }
            Packing::Gptq => vec![
                tensor(format!("{stem}.qweight"), "I32", &[read / 8, out]),
                tensor(format!("{stem}.qzeros"), "I32", &[read / 32, out]),
                tensor(format!("{stem}.scales"), "F16", &[read / 32, out]),
            ],
        });
    }
    if matches!(packing, Packing::ScaledFp8) {
        found.push(tensor("scaled_fp8".to_owned(), "F8_E4M3", &[0]));
    }
    found
}

fn half(tensors: &[Tensor]) -> Vec<Tensor> {
    let dtype = |tensor: &Tensor| if tensor.dtype.starts_with('F') { "F16".to_owned() } else { tensor.dtype.clone() };
    tensors.iter().map(|tensor| Tensor { dtype: dtype(tensor), ..tensor.clone() }).collect()
}

fn state(tensors: &[Tensor]) -> Object {
    Object::state(tensors.to_vec())
}

fn wrapped(word: &str, object: Object) -> Object {
    Object::Dict(vec![(Object::text(word), object), (Object::text("global_step"), Object::Int(1000))])
}

/// What lies beside a transformer in a checkpoint.
const BESIDE: &str = "
    vae.encoder.conv_in.weight [128,3,3,3]
    vae.decoder.conv_in.weight [512,16,3,3]
    vae.decoder.up.{0,1,2,3}.block.0.conv1.weight [512,512,3,3]
    text_encoders.t5xxl.transformer.shared.weight [32128,4096]
    text_encoders.t5xxl.transformer.encoder.block.{0..24}.layer.0.SelfAttention.q.weight [4096,4096]";
const ONLY_VAE: &str = "
    first_stage_model.encoder.conv_in.weight [128,3,3,3]
    first_stage_model.decoder.conv_in.weight [512,16,3,3]
    first_stage_model.decoder.up.{0,1,2,3}.block.0.conv1.weight [512,512,3,3]";

pub fn diffusion(entry: &Entry, out: &mut Vec<Labelled>) {
    let (label_of, base) = (entry.label(), entry.words[0].as_str());
    let bare = &entry.tensors;
    let native = !entry.has("diffusers");
    let mut add = |form: &str, file: files::Sparse| {
        label(out, format!("diffusion/{label_of}/{form}"), "diffusion_model", base, file);
    };
    add("model.safetensors", files::safetensors(bare, &[]));
    add(&format!("{}.safetensors", misleading(&label_of)), files::safetensors(&half(bare), &[("format", "pt")]));
    for prefix in if native { ["model.diffusion_model.", "diffusion_model."] } else { ["transformer.", "model."] } {
        let name = format!("behind {prefix}safetensors");
        add(&name, files::safetensors(&prefixed(prefix, bare), &[]));
    }
    for (name, packing) in PACKINGS {
        add(&format!("{name}.safetensors"), files::safetensors(&packed(bare, *packing), &[]));
    }
    add("wrapped.pt", files::torch(&wrapped("state_dict", state(&half(bare)))));
    add("compiled.safetensors", files::safetensors(&prefixed("_orig_mod.", bare), &[]));
    if let Some(word) = entry.value("gguf") {
        add("quantised.gguf", files::gguf(bare, Some(word)));
    }
    if native {
        add("somebody's.gguf", files::gguf(bare, Some("pig")));
        add("unnamed.gguf", files::gguf(bare, None));
        let main = prefixed("model.diffusion_model.", bare);
        for (form, beside) in [("all-in-one", BESIDE), ("with-vae", ONLY_VAE)] {
            let whole = [main.clone(), tensors::parse(beside)].concat();
            let path = format!("checkpoints-of-transformers/{label_of}/{form}.safetensors");
            label(out, path, "checkpoint", base, files::safetensors(&whole, &[]));
        }
        let packed = [packed(&main, Packing::ScaledFp8), tensors::parse(BESIDE)].concat();
        let path = format!("checkpoints-of-transformers/{label_of}/fp8.safetensors");
        label(out, path, "checkpoint", base, files::safetensors(&packed, &[]));
    }
}

/// An autoencoder in the names of a checkpoint.
const FIRST_STAGE: &str = "
    first_stage_model.encoder.conv_in.weight [128,3,3,3]
    first_stage_model.quant_conv.weight [8,8,1,1]
    first_stage_model.post_quant_conv.weight [4,4,1,1]
    first_stage_model.decoder.conv_in.weight [512,4,3,3]
    first_stage_model.decoder.up.{0,1,2,3}.block.0.conv1.weight [512,512,3,3]";
const TABLES: &str = "
    alphas_cumprod [1000] F32
    betas [1000] F32
    sqrt_alphas_cumprod [1000] F32
    model_ema.decay [] F32
    model_ema.num_updates [] I64
    model_ema.diffusion_modelinput_blocks00weight [320,4,3,3] F32";

pub fn unet(unet: &Unet, out: &mut Vec<Labelled>) {
    let (original, diffusers) = (unet.original(), unet.diffusers());
    let main = prefixed("model.diffusion_model.", &original);
    let beside = [tensors::parse(FIRST_STAGE), tensors::parse(unet.encoder.tensors())].concat();
    let folder = format!("unets/{}", unet.name);
    let mut add = |form: &str, file: files::Sparse| {
        label(out, format!("{folder}/{form}"), "diffusion_model", unet.base, file);
    };
    add("model.safetensors", files::safetensors(&original, &[]));
    add("diffusion_pytorch_model.safetensors", files::safetensors(&diffusers, &[]));
    add("diffusion_pytorch_model.bin", files::torch(&state(&diffusers)));
    add(&format!("{}.safetensors", misleading(unet.name)), files::safetensors(&original, &[]));
    add("behind unet..safetensors", files::safetensors(&prefixed("unet.", &diffusers), &[]));
    add("prefixed.safetensors", files::safetensors(&main, &[]));
    add("bare prefix.safetensors", files::safetensors(&prefixed("diffusion_model.", &original), &[]));
    if unet.encoder != Encoder::Image {
        let word = if unet.base == "sdxl" { "sdxl" } else { "sd1" };
        let known = matches!(unet.base, "sdxl" | "sd1");
        add("quantised.gguf", files::gguf(&original, known.then_some(word)));
    }
    for (name, packing) in PACKINGS {
        add(&format!("{name}.safetensors"), files::safetensors(&packed(&original, *packing), &[]));
    }
    let whole = [main, beside].concat();
    let mut add = |form: &str, file: files::Sparse| {
        label(out, format!("{folder}/checkpoints/{form}"), "checkpoint", unet.base, file);
    };
    add("model.safetensors", files::safetensors(&whole, &[]));
    add(&format!("{}.safetensors", misleading(unet.name)), files::safetensors(&whole, &[("format", "pt")]));
    add("model.ckpt", files::torch(&wrapped("state_dict", state(&half(&whole)))));
    add("bare.ckpt", files::torch(&state(&whole)));
    let trained = [whole.clone(), tensors::parse(TABLES)].concat();
    add("with ema.safetensors", files::safetensors(&trained, &[]));
    // Thousands of tensors each: some ways of packing are enough.
    for (name, packing) in PACKINGS.iter().step_by(2) {
        add(&format!("{name}.safetensors"), files::safetensors(&packed(&whole, *packing), &[]));
    }
}

pub fn plain(entry: &Entry, out: &mut Vec<Labelled>) {
    let (model_type, base) = (entry.words[0].as_str(), entry.words[1].as_str());
    let name = match (entry.value("name"), base) {
        (Some(name), "?") => name.to_owned(),
        (Some(name), base) => format!("{base}-{name}"),
        (None, base) => base.replace('?', "plain"),
    };
    let torch = entry.has("torch");
    let folder = match entry.value("in") {
        Some(place) => format!("others/{model_type}/{name}/{place}"),
        None => format!("others/{model_type}/{name}"),
    };
    let mut add = |form: &str, file: files::Sparse| {
        label(out, format!("{folder}/{form}"), model_type, base, file);
    };
    let tensors = &entry.tensors;
    // Where only a place tells what it is, a name that says otherwise is not tried.
    let other = if entry.value("in").is_some() || matches!(model_type, "llm" | "sentence_embedding" | "unknown") {
        "model-00"
    } else {
        misleading(&name)
    };
    if !torch || model_type != "embedding" {
        add("model.safetensors", files::safetensors(tensors, &[]));
        add(&format!("{other}.safetensors"), files::safetensors(&half(tensors), &[("format", "pt")]));
    }
    if torch || entry.has("torch-too") {
        add("pytorch_model.bin", files::torch(&torch_object(entry)));
        if let Some(word) = entry.value("wrapped") {
            add(&format!("{other}.pth"), files::torch(&wrapped(word, state(tensors))));
        } else if !matches!(model_type, "embedding" | "hypernetwork") {
            add(&format!("{other}.pth"), files::torch(&wrapped("state_dict", state(tensors))));
        }
    }
    for prefix in entry.value("prefixes").into_iter().flat_map(|list| list.split(',')) {
        let form = format!("behind {prefix}safetensors");
        add(&form, files::safetensors(&prefixed(prefix, tensors), &[]));
    }
}

/// A state dict, or the dictionaries in dictionaries that trainers of small things write.
fn torch_object(entry: &Entry) -> Object {
    let tensors = &entry.tensors;
    if let Some(found) = tensors.iter().find(|tensor| tensor.name == "string_to_param.*") {
        let inner = Object::Dict(vec![(Object::text("*"), Object::Tensor(found.clone()))]);
        return Object::Dict(vec![
            (Object::text("string_to_token"), Object::Dict(vec![(Object::text("*"), Object::Int(265))])),
            (Object::text("string_to_param"), inner),
            (Object::text("name"), Object::text("token")),
            (Object::text("step"), Object::Int(500)),
        ]);
    }
    state(tensors)
}

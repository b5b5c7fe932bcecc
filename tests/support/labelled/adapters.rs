//! The forms in which trainers write one set of changed modules.

use super::super::samples::tensors::Tensor;
use super::super::samples::torch_file::Object;
use super::forms::label;
use super::{Entry, Labelled, files};

const RANK: u64 = 8;
/// Rank of the small factors of a Kronecker product.
const FACTOR: u64 = 16;

/// How names of modules are spelled.
#[derive(Clone, Copy)]
enum Spelling {
    /// `lora_unet_down_blocks_0…`, with the words in front.
    Flat(&'static str),
    /// `transformer.blocks.0…`
    Dotted(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Kohya,
    Peft,
    PeftNamed,
    Plain,
    Dora,
    Loha,
    LokrWhole,
    LokrSplit,
    Full,
    Oft,
}

pub fn forms(entry: &Entry, out: &mut Vec<Labelled>) {
    use Network::*;
    let base = entry.words[0].as_str();
    let folder = format!("adapters/{}{}", entry.label(), if entry.has("original") { "-original" } else { "" });
    let unet = matches!(base, "sd1" | "sd2" | "sdxl");
    let whole = if unet { "unet." } else { "transformer." };
    let mut kinds = vec![
        ("kohya", "lora", Spelling::Flat("lora_unet_"), Kohya),
        ("dora", "lora", Spelling::Flat("lora_unet_"), Dora),
        ("loha", "lycoris", Spelling::Flat("lora_unet_"), Loha),
        ("lokr", "lycoris", Spelling::Flat("lora_unet_"), LokrWhole),
        ("lokr-split", "lycoris", Spelling::Flat("lycoris_"), LokrSplit),
        ("full", "lycoris", Spelling::Flat("lora_unet_"), Full),
        ("comfy", "lora", Spelling::Dotted("diffusion_model."), Peft),
        ("comfy-loha", "lycoris", Spelling::Dotted("diffusion_model."), Loha),
        ("comfy-lokr", "lycoris", Spelling::Dotted("diffusion_model."), LokrSplit),
        ("bare", "lora", Spelling::Dotted(""), Plain),
        ("default", "lora", Spelling::Dotted(""), PeftNamed),
        ("base-model", "lora", Spelling::Dotted("base_model.model."), Peft),
        ("onetrainer", "lora", Spelling::Flat("lora_transformer_"), Kohya),
    ];
    if !entry.has("native") && !entry.has("original") {
        kinds.push(("diffusers", "lora", Spelling::Dotted(whole), Peft));
        kinds.push(("diffusers-dora", "lora", Spelling::Dotted(whole), Dora));
    }
    for (form, model_type, spelling, network) in kinds {
        let tensors: Vec<Tensor> = entry.tensors.iter().flat_map(|module| changed(module, spelling, network)).collect();
        let file = files::safetensors(&tensors, &[]);
        label(out, format!("{folder}/{form}.safetensors"), model_type, base, file);
        if form == "kohya" {
            // What metadata and name say of another base counts for less.
            let stated = [("ss_base_model_version", other_base(base)), ("ss_network_module", "networks.lora")];
            let file = files::safetensors(&tensors, &stated);
            label(out, format!("{folder}/wrong metadata.safetensors"), model_type, base, file);
            let file = files::safetensors(&tensors, &[("format", "pt")]);
            let name = if base == "flux1" { "sdxl_anime" } else { "flux_checkpoint" };
            label(out, format!("{folder}/{name}.safetensors"), model_type, base, file);
        }
        if form == "comfy" {
            let file = files::torch(&Object::state(tensors));
            label(out, format!("{folder}/pytorch_lora_weights.bin"), model_type, base, file);
        }
    }
    let oft: Vec<Tensor> =
        entry.tensors.iter().flat_map(|module| changed(module, Spelling::Flat("oft_unet_"), Oft)).collect();
    // Its blocks do not show how wide a module is.
    label(out, format!("{folder}/oft.safetensors"), "lycoris", "?", files::safetensors(&oft, &[]));
}

fn other_base(base: &str) -> &'static str {
    match base {
        "sd1" => "sdxl_base_v1-0",
        _ => "sd_v1",
    }
}

fn changed(module: &Tensor, spelling: Spelling, network: Network) -> Vec<Tensor> {
    let (part, module_name) = match module.name.split_once(':') {
        Some((part, rest)) => (Some(part), rest),
        None => (None, module.name.as_str()),
    };
    let name = match (spelling, part) {
        (Spelling::Flat(prefix), None) => format!("{prefix}{}", module_name.replace('.', "_")),
        (Spelling::Flat(_), Some(part)) => format!("lora_{part}_{}", module_name.replace('.', "_")),
        (Spelling::Dotted(prefix), None) => format!("{prefix}{module_name}"),
        (Spelling::Dotted(_), Some("te2")) => format!("text_encoder_2.{module_name}"),
        (Spelling::Dotted(_), Some(_)) => format!("text_encoder.{module_name}"),
    };
    let [out, read] = [module.shape[0], module.shape[1]];
    let kernel = &module.shape[2..];
    let area: u64 = kernel.iter().product();
    let tensor = |suffix: &str, shape: &[u64]| Tensor {
        name: format!("{name}.{suffix}"),
        dtype: "BF16".to_owned(),
        shape: shape.to_vec(),
    };
    let down = [&[RANK, read], kernel].concat();
    let up = [&[out, RANK][..], &vec![1; kernel.len()]].concat();
    match network {
        Network::Kohya => vec![tensor("lora_down.weight", &down), tensor("lora_up.weight", &up), tensor("alpha", &[])],
        Network::Plain => vec![tensor("lora_down.weight", &down), tensor("lora_up.weight", &up)],
        Network::Peft => vec![tensor("lora_A.weight", &down), tensor("lora_B.weight", &up)],
        Network::PeftNamed => vec![tensor("lora_A.default.weight", &down), tensor("lora_B.default.weight", &up)],
        Network::Dora => {
            let magnitude = tensor("dora_scale", &[out, 1]);
            vec![tensor("lora_down.weight", &down), tensor("lora_up.weight", &up), magnitude, tensor("alpha", &[])]
        }
        Network::Loha => ["hada_w1", "hada_w2"]
            .iter()
            .flat_map(|factor| {
                [tensor(&format!("{factor}_a"), &[out, RANK]), tensor(&format!("{factor}_b"), &[RANK, read * area])]
            })
            .chain([tensor("alpha", &[])])
            .collect(),
        Network::LokrWhole => {
            let inner = [&[out / FACTOR, read / FACTOR], kernel].concat();
            vec![tensor("lokr_w1", &[FACTOR, FACTOR]), tensor("lokr_w2", &inner), tensor("alpha", &[])]
        }
        Network::LokrSplit => vec![
            tensor("lokr_w1", &[FACTOR, FACTOR]),
            tensor("lokr_w2_a", &[out / FACTOR, RANK]),
            tensor("lokr_w2_b", &[RANK, read / FACTOR * area]),
            tensor("alpha", &[]),
        ],
        Network::Full => vec![tensor("diff", &module.shape), tensor("diff_b", &[out])],
        Network::Oft => vec![tensor("oft_blocks", &[out.div_ceil(64), 64, 64]), tensor("alpha", &[])],
    }
}

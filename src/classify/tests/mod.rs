//! The shipped rules on small headers with real names and shapes: what each must be called.
//!
//! Cases that need tensors, names and folders alone are lines of `cases.txt`; what else counts is in `by_evidence`.

mod by_evidence;

use std::collections::BTreeSet;

use super::*;
use crate::base::{BaseModel, ModelType};
use crate::formats::{Format, Header, Tensor};

fn tensors(text: &str) -> Vec<Tensor> {
    let lines = text.split(';').map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (line, dtype) = line.split_once(" @").unwrap_or((line, "F16"));
            let (name, shape) = line.split_once(" [").unwrap_or((line, "16]"));
            let lengths = shape.trim_end_matches(']').split(',').filter(|part| !part.is_empty());
            let shape = lengths.map(|length| length.trim().parse().expect("a length")).collect();
            Tensor { name: name.into(), dtype: dtype.trim().into(), shape }
        })
        .collect()
}

fn pairs(metadata: &[(&str, &str)]) -> Vec<(String, String)> {
    metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn header(format: Format, text: &str, metadata: &[(&str, &str)]) -> Header {
    Header { format, tensors: tensors(text), metadata: pairs(metadata), imports: Vec::new(), data_start: None }
}

fn judged(header: Option<&Header>, path: &str, size_bytes: u64) -> Verdict {
    let mut folders: Vec<String> = path.split('/').map(str::to_owned).collect();
    let file_name = folders.pop().unwrap_or_default();
    classify(Rules::builtin(), &Evidence { header, file_name: &file_name, folders: &folders, size_bytes, hub: &[] })
}

fn shown(verdict: &Verdict) -> String {
    let base = verdict.base.as_ref().map_or("-", BaseModel::as_str);
    format!("{} {base} {}", verdict.model_type, verdict.sub_type.as_deref().unwrap_or("-"))
}

const SD1: &str = "model.diffusion_model.input_blocks.0.0.weight [320,4,3,3]; model.diffusion_model.out.2.weight [4,320,3,3]; model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight [320,768]; model.diffusion_model.input_blocks.1.1.proj_in.weight [320,320,1,1]";
const SDXL_LORA: &str = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight [16,2048]; lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight [640,16]; lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.alpha []; lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight [16,1280]";
const FLUX: &str = "double_blocks.0.img_attn.qkv.weight [9216,3072]; double_blocks.0.img_attn.norm.key_norm.scale [128]; img_in.weight [3072,64]; vector_in.in_layer.weight [3072,768]; single_blocks.0.linear1.weight [21504,3072]; txt_in.weight [3072,4096]";
const WAN: &str = "blocks.0.self_attn.q.weight [5120,5120]; blocks.0.cross_attn.k.weight [5120,5120]; head.modulation [1,2,5120]; patch_embedding.weight [5120,16,1,2,2]; text_embedding.0.weight [5120,4096]";

/// Every difference at once, so that a changed rule shows all it changes.
#[test]
fn every_case_is_called_by_its_name() {
    let lines = include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut reached = BTreeSet::new();
    for line in lines {
        let [path, text, expected] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else {
            panic!("three parts: {line}")
        };
        let (path, size_bytes) = path.split_once(" @").unwrap_or((path, "1000000000"));
        let header = header(Format::Safetensors, text, &[]);
        let header = Some(&header).filter(|header| !header.tensors.is_empty());
        let verdict = judged(header, path, size_bytes.parse().expect("bytes"));
        count += 1;
        reached.insert(verdict.model_type);
        assert_eq!(verdict.model_type == ModelType::Unknown, verdict.confidence < CONFIDENCE_MIN, "{line}");
        assert_eq!(verdict.model_type == ModelType::Unknown, verdict.method == Method::None, "{line}");
        if shown(&verdict) != expected {
            let (found, reasons) = (shown(&verdict), verdict.reasons);
            wrong.push(format!("{path}: {text}\n  expected {expected}\n  found    {found}\n{reasons:#?}"));
        }
    }
    assert!(count > 150, "only {count} cases were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A bundle alone is `diffusers`, and a configuration is no model.
    reached.extend([ModelType::Diffusers, ModelType::Config]);
    let missing: Vec<_> = ModelType::ALL.iter().filter(|model_type| !reached.contains(model_type)).collect();
    assert!(missing.is_empty(), "no case leads to {missing:?}");
}

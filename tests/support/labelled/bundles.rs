//! Models of several files: pipelines, language models in shards, sentence embeddings with their pooling.

use super::super::samples::tensors::{self, Tensor};
use super::super::samples::torch_file::Object;
use super::{Content, Inner, Labelled, files};

const BERT: &str = "
    embeddings.word_embeddings.weight [30522,384]
    encoder.layer.{0..6}.attention.self.{query,key,value}.weight [384,384]
    pooler.dense.weight [384,384]";
const MPNET: &str = "
    embeddings.word_embeddings.weight [30527,768]
    encoder.layer.{0..12}.attention.attn.{q,k,v,o}.weight [768,768]
    encoder.relative_attention_bias.weight [32,12]";
const XLM_R: &str = "
    roberta.embeddings.word_embeddings.weight [250002,1024]
    roberta.encoder.layer.{0..24}.attention.self.{query,key,value}.weight [1024,1024]";
const QWEN: &str = "
    embed_tokens.weight [151669,1024] BF16
    layers.{0..28}.self_attn.q_proj.weight [2048,1024] BF16
    layers.{0..28}.self_attn.{q_norm,k_norm}.weight [128] BF16
    layers.{0..28}.mlp.gate_proj.weight [3072,1024] BF16
    norm.weight [1024] BF16";
const GEMMA: &str = "
    embed_tokens.weight [262144,768] BF16
    layers.{0..24}.self_attn.q_proj.weight [768,768] BF16
    layers.{0..24}.post_feedforward_layernorm.weight [768] BF16
    layers.{0..24}.mlp.gate_proj.weight [1152,768] BF16";
const T5: &str = "
    shared.weight [32128,768]
    encoder.block.{0..12}.layer.0.SelfAttention.{q,k,v}.weight [768,768]
    encoder.block.{0..12}.layer.1.DenseReluDense.wi.weight [3072,768]";
const CLIP: &str = "
    text_model.embeddings.position_embedding.weight [77,768]
    text_model.encoder.layers.{0..12}.mlp.fc1.weight [3072,768]
    text_model.encoder.layers.{0..12}.layer_norm1.weight [768]";
const LLAMA: &str = "
    model.embed_tokens.weight [128256,4096] BF16
    model.layers.{0..32}.self_attn.{q_proj,k_proj}.weight [4096,4096] BF16
    model.layers.{0..32}.mlp.gate_proj.weight [14336,4096] BF16
    lm_head.weight [128256,4096] BF16";

const MODULES: &str = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
    {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;

fn weights(text: &str) -> Inner {
    Inner::Weights(files::safetensors(&tensors::parse(text), &[("format", "pt")]))
}

fn config(architecture: &str, model_type: &str) -> Inner {
    Inner::Text(format!(r#"{{"architectures":["{architecture}"],"model_type":"{model_type}"}}"#))
}

fn add(out: &mut Vec<Labelled>, path: &str, model_type: &str, base: &str, parts: Vec<(&str, Inner)>) {
    let parts = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
    out.push(Labelled {
        path: format!("bundles/{path}"),
        model_type: model_type.to_owned(),
        base: base.to_owned(),
        content: Content::Folder(parts),
    });
}

pub fn all(out: &mut Vec<Labelled>) {
    sentences(out);
    languages(out);
    pipelines(out);
}

fn sentences(out: &mut Vec<Labelled>) {
    for (path, architecture, model_type, text) in [
        ("all-MiniLM-L6-v2", "BertModel", "bert", BERT),
        ("all-mpnet-base-v2", "MPNetModel", "mpnet", MPNET),
        ("multilingual-e5-large", "XLMRobertaModel", "xlm-roberta", XLM_R),
        ("Qwen3-Embedding-0.6B", "Qwen3ForCausalLM", "qwen3", QWEN),
        ("embeddinggemma-300m", "Gemma3TextModel", "gemma3_text", GEMMA),
        ("sentence-t5-base", "T5EncoderModel", "t5", T5),
        ("a", "LlamaModel", "llama", LLAMA),
    ] {
        let pooling = || Inner::Text(r#"{"pooling_mode_mean_tokens":true}"#.to_owned());
        let all = vec![
            ("config.json", config(architecture, model_type)),
            ("modules.json", Inner::Text(MODULES.to_owned())),
            ("1_Pooling/config.json", pooling()),
            ("model.safetensors", weights(text)),
        ];
        add(out, path, "sentence_embedding", "?", all);
        let parts = vec![
            ("config.json", config(architecture, model_type)),
            ("1_Pooling/config.json", pooling()),
            ("pytorch_model.bin", Inner::Weights(files::torch(&Object::state(tensors::parse(text))))),
        ];
        add(out, &format!("only-pooling/{path}"), "sentence_embedding", "?", parts);
    }
    let parts = vec![("config.json", config("CLIPTextModel", "clip_text_model")), ("model.safetensors", weights(CLIP))];
    add(out, "clip-text", "text_encoder", "?", parts);
}

fn languages(out: &mut Vec<Labelled>) {
    let parts = vec![("config.json", config("LlamaForCausalLM", "llama")), ("model.safetensors", weights(LLAMA))];
    add(out, "Llama-3.1-8B", "llm", "?", parts);
    let tensors = tensors::parse(LLAMA);
    let halves: Vec<&[Tensor]> = tensors.chunks(tensors.len().div_ceil(2)).collect();
    let shard = |half: &[Tensor]| Inner::Weights(files::safetensors(half, &[("format", "pt")]));
    let index = r#"{"metadata":{"total_size":1},"weight_map":{}}"#.to_owned();
    let parts = vec![
        ("config.json", config("LlamaForCausalLM", "llama")),
        ("model.safetensors.index.json", Inner::Text(index)),
        ("model-00001-of-00002.safetensors", shard(halves[0])),
        ("model-00002-of-00002.safetensors", shard(halves[1])),
    ];
    add(out, "sharded", "llm", "?", parts);
}

fn pipelines(out: &mut Vec<Labelled>) {
    for (path, class, folder, base) in [
        ("stable-diffusion-v1-5", "StableDiffusionPipeline", "unet", "sd1"),
        ("stable-diffusion-xl-base-1.0", "StableDiffusionXLPipeline", "unet", "sdxl"),
        ("FLUX.1-dev", "FluxPipeline", "transformer", "flux1"),
        ("Wan2.1-T2V-14B-Diffusers", "WanPipeline", "transformer", "wan"),
    ] {
        let diffusion = match base {
            "sd1" => super::unets::UNETS[0].diffusers(),
            "sdxl" => super::unets::UNETS[7].diffusers(),
            "flux1" => tensors::parse(
                "x_embedder.weight [3072,64]
                 time_text_embed.guidance_embedder.linear_1.weight [3072,256]
                 transformer_blocks.{0..19}.attn.{to_q,add_q_proj}.weight [3072,3072]
                 single_transformer_blocks.{0..38}.proj_mlp.weight [12288,3072]",
            ),
            _ => tensors::parse(
                "condition_embedder.text_embedder.linear_1.weight [5120,4096]
                 blocks.{0..40}.attn1.to_q.weight [5120,5120]
                 patch_embedding.weight [5120,16,1,2,2]
                 scale_shift_table [1,2,5120]",
            ),
        };
        let main = format!("{folder}/diffusion_pytorch_model.safetensors");
        let parts = vec![
            ("model_index.json", Inner::Text(format!(r#"{{"_class_name":"{class}"}}"#))),
            (main.as_str(), Inner::Weights(files::safetensors(&diffusion, &[]))),
            ("text_encoder/model.safetensors", weights(CLIP)),
        ];
        add(out, path, "diffusers", base, parts);
    }
}

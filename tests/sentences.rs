//! Sentence-embedding models, whole repositories and lone files, are told from text encoders and language models.

mod support;

use serde_json::json;
use support::mounted::Sandbox;
use support::samples::torch_file::{self, Object};
use support::samples::{safetensors_file, tensors};

/// What `BertModel` saves, as far as it tells: MiniLM by its lengths.
const BERT: &str = "
    embeddings.LayerNorm.{weight,bias} [384] F32
    embeddings.position_embeddings.weight [512,384] F32
    embeddings.token_type_embeddings.weight [2,384] F32
    embeddings.word_embeddings.weight [1000,384] F32
    encoder.layer.{0..6}.attention.self.{query,key,value}.weight [384,384] F32
    encoder.layer.{0..6}.attention.output.dense.weight [384,384] F32
    encoder.layer.{0..6}.intermediate.dense.weight [1536,384] F32
    encoder.layer.{0..6}.output.dense.weight [384,1536] F32
    pooler.dense.weight [384,384] F32";
/// Others spell their attention otherwise.
const MPNET: &str = "
    embeddings.word_embeddings.weight [1000,768] F32
    embeddings.position_embeddings.weight [514,768] F32
    encoder.layer.{0..12}.attention.attn.{q,k,v,o}.weight [768,768] F32
    encoder.layer.{0..12}.attention.LayerNorm.weight [768] F32
    encoder.layer.{0..12}.intermediate.dense.weight [3072,768] F32
    encoder.relative_attention_bias.weight [32,12] F32
    pooler.dense.weight [768,768] F32";
const DISTILBERT: &str = "
    embeddings.word_embeddings.weight [1000,768] F32
    transformer.layer.{0..6}.attention.{q_lin,k_lin,v_lin,out_lin}.weight [768,768] F32
    transformer.layer.{0..6}.ffn.lin1.weight [3072,768] F32";
const NOMIC: &str = "
    embeddings.word_embeddings.weight [1000,768] F32
    emb_ln.weight [768] F32
    encoder.layers.{0..12}.attn.Wqkv.weight [2304,768] F32
    encoder.layers.{0..12}.mlp.fc11.weight [3072,768] F32";
const CLIP: &str = "
    text_model.embeddings.token_embedding.weight [1000,768]
    text_model.embeddings.position_embedding.weight [77,768]
    text_model.encoder.layers.{0..12}.self_attn.{q_proj,k_proj,v_proj,out_proj}.weight [768,768]
    text_model.encoder.layers.{0..12}.mlp.fc1.weight [3072,768]
    text_model.encoder.layers.{0..12}.layer_norm1.weight [768]
    text_model.final_layer_norm.weight [768]";
const LLAMA: &str = "
    model.embed_tokens.weight [512,64] BF16
    model.layers.{0..4}.self_attn.{q_proj,o_proj}.weight [64,64] BF16
    model.layers.{0..4}.self_attn.{k_proj,v_proj}.weight [32,64] BF16
    model.layers.{0..4}.mlp.{gate_proj,up_proj}.weight [172,64] BF16
    model.layers.{0..4}.input_layernorm.weight [64] BF16
    model.norm.weight [64] BF16
    lm_head.weight [512,64] BF16";

fn safetensors(seed: &str, text: &str) -> Vec<u8> {
    safetensors_file::bytes(seed, &tensors::parse(text), &[("format", "pt")])
}

fn torch(seed: &str, text: &str) -> Vec<u8> {
    torch_file::bytes(seed, &Object::state(tensors::parse(text)))
}

/// Everything `sentence-transformers` saves around the weights.
fn repository(sandbox: &Sandbox, folder: &str, weights: &str, bytes: Vec<u8>) {
    let config =
        json!({ "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6 });
    let modules = json!([
        { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
        { "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
    ]);
    let pooling = json!({ "word_embedding_dimension": 384, "pooling_mode_mean_tokens": true });
    sandbox.write(format!("{folder}/config.json"), config.to_string());
    sandbox.write(format!("{folder}/modules.json"), modules.to_string());
    sandbox.write(format!("{folder}/1_Pooling/config.json"), pooling.to_string());
    sandbox.write(format!("{folder}/sentence_bert_config.json"), "{\"max_seq_length\": 256}");
    sandbox.write(format!("{folder}/tokenizer.json"), "{\"version\": \"1.0\"}");
    sandbox.write(format!("{folder}/{weights}"), bytes);
}

fn types(sandbox: &Sandbox) -> Vec<String> {
    let all = sandbox.run(["ls", "--json"]).success().json();
    let mut found: Vec<String> = all
        .as_array()
        .expect("an array")
        .iter()
        .map(|row| format!("{} {}", row["name"].as_str().unwrap_or(""), row["type"].as_str().unwrap_or("")))
        .collect();
    found.sort();
    found
}

#[test]
fn lone_files_are_told_by_their_tensors() {
    for (file, bytes, expected) in [
        ("model.safetensors", safetensors("a", BERT), "sentence_embedding"),
        ("pytorch_model.bin", torch("b", BERT), "sentence_embedding"),
        ("model.safetensors", safetensors("c", MPNET), "sentence_embedding"),
        ("model.safetensors", safetensors("g", DISTILBERT), "sentence_embedding"),
        ("pytorch_model.bin", torch("h", NOMIC), "sentence_embedding"),
        ("model.safetensors", safetensors("d", CLIP), "text_encoder"),
        ("pytorch_model.bin", torch("e", CLIP), "text_encoder"),
        ("model.safetensors", safetensors("f", LLAMA), "llm"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write(format!("in/{file}"), bytes);
        sandbox.run(["import", "in"]).success();
        assert_eq!(types(&sandbox), [format!("{file} {expected}")]);
    }
}

#[test]
fn whole_folders_are_told_too() {
    for (weights, bytes) in [("model.safetensors", safetensors("a", BERT)), ("pytorch_model.bin", torch("b", BERT))] {
        let sandbox = Sandbox::new();
        repository(&sandbox, "in/all-MiniLM-L6-v2", weights, bytes);
        sandbox.run(["import", "in"]).success();
        assert_eq!(types(&sandbox), [format!("{weights} sentence_embedding")]);
    }
}

#[test]
fn a_repository_of_the_cache_is_one_model_of_this_type() {
    let sandbox = Sandbox::new();
    let snapshot =
        "hub/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/89abcdef0123456789abcdef0123456789abcdef";
    repository(&sandbox, snapshot, "model.safetensors", safetensors("a", BERT));
    let refs = "hub/models--sentence-transformers--all-MiniLM-L6-v2/refs/main";
    sandbox.write(refs, "89abcdef0123456789abcdef0123456789abcdef");
    sandbox.run(["import", "hub"]).success();
    let found = types(&sandbox);
    assert!(!found.is_empty() && found.iter().all(|line| line.ends_with(" sentence_embedding")), "{found:?}");
    let database = rusqlite::Connection::open(sandbox.store().join("modelhub.db")).expect("a database");
    let bundle: String =
        database.query_row("SELECT primary_type FROM bundles", [], |row| row.get(0)).expect("the repository");
    assert_eq!(bundle, "sentence_embedding");
}

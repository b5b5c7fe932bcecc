//! What is told by its keys and not by its tensors: GGUF of language models, ONNX, pickles of whole modules.

use super::super::samples::gguf_file::Meta;
use super::super::samples::tensors;
use super::super::samples::torch_file::Object;
use super::forms::label;
use super::{Labelled, files};

const LLM: &str = "
    token_embd.weight [32000,4096]
    blk.{0..32}.attn_{q,k,v,output}.weight [4096,4096]
    blk.{0..32}.ffn_{gate,up}.weight [11008,4096]
    blk.{0..32}.{attn_norm,ffn_norm}.weight [4096]
    output_norm.weight [4096]
    output.weight [32000,4096]";
const T5: &str = "
    enc.blk.{0..24}.attn_{q,k,v,o}.weight [4096,4096]
    enc.blk.{0..24}.ffn_{gate,up}.weight [10240,4096]
    enc.output_norm.weight [4096]
    token_embd.weight [32128,4096]";
const UMT5: &str = "
    enc.blk.{0..24}.attn_{q,k,v,o}.weight [4096,4096]
    enc.output_norm.weight [4096]
    token_embd.weight [256384,4096]";
const PROJECTOR: &str = "
    v.patch_embd.weight [1024,3,14,14]
    v.blk.{0..24}.attn_{q,k,v}.weight [1024,1024]
    mm.0.weight [4096,1024]";
const ADAPTER: &str = "
    blk.{0..32}.attn_q.weight.lora_a [16,4096]
    blk.{0..32}.attn_q.weight.lora_b [4096,16]";
const BERT: &str = "
    token_embd.weight [30522,384]
    token_types.weight [2,384]
    blk.{0..6}.attn_{q,k,v,output}.weight [384,384]
    blk.{0..6}.ffn_{up,down}.weight [1536,384]";

pub fn all(out: &mut Vec<Labelled>) {
    for (path, architecture, text, model_type, base) in [
        ("gguf/model.gguf", "llama", LLM, "llm", "?"),
        ("gguf/mistral-7b-instruct-v0.3.Q4_K_M.gguf", "llama", LLM, "llm", "?"),
        ("gguf/Qwen3-8B-Q8_0.gguf", "qwen3", LLM, "llm", "?"),
        ("gguf/gemma.gguf", "gemma3", LLM, "llm", "?"),
        ("gguf/deepseek.gguf", "deepseek2", LLM, "llm", "?"),
        ("gguf/new.gguf", "an-architecture-of-tomorrow", LLM, "llm", "?"),
        ("gguf/text_encoders/Qwen2.5-VL-7B-Q4_K_M.gguf", "qwen2vl", LLM, "text_encoder", "?"),
        ("gguf/clip/qwen3.gguf", "qwen3", LLM, "text_encoder", "?"),
        ("gguf/t5-v1_1-xxl-encoder-Q8_0.gguf", "t5encoder", T5, "text_encoder", "?"),
        ("gguf/model-t5.gguf", "t5", T5, "text_encoder", "?"),
        ("gguf/umt5-xxl-encoder-Q5_K_M.gguf", "t5encoder", UMT5, "text_encoder", "wan"),
        ("gguf/mmproj-F16.gguf", "clip", PROJECTOR, "mmproj", "?"),
        ("gguf/a.gguf", "clip", PROJECTOR, "mmproj", "?"),
        ("gguf/adapter.gguf", "llama", ADAPTER, "llm_lora", "?"),
        ("gguf/all-MiniLM-L6-v2.gguf", "bert", BERT, "sentence_embedding", "?"),
        ("gguf/nomic.gguf", "nomic-bert", BERT, "sentence_embedding", "?"),
        ("gguf/b.gguf", "jina-bert-v2", BERT, "sentence_embedding", "?"),
    ] {
        let keys = [("general.architecture", Meta::Text(architecture)), ("general.file_type", Meta::U32(15))];
        label(out, path.to_owned(), model_type, base, files::gguf_of(&tensors::parse(text), &keys));
    }
    let keys = [
        ("general.architecture", Meta::Text("qwen3")),
        ("qwen3.pooling_type", Meta::U32(3)),
        ("general.name", Meta::Text("Qwen3 Embedding 0.6B")),
    ];
    let file = files::gguf_of(&tensors::parse(LLM), &keys);
    label(out, "gguf/Qwen3-Embedding-0.6B-Q8_0.gguf".to_owned(), "sentence_embedding", "?", file);
    let keys = [("general.architecture", Meta::Text("llama")), ("general.type", Meta::Text("adapter"))];
    label(out, "gguf/c.gguf".to_owned(), "llm_lora", "?", files::gguf_of(&tensors::parse(ADAPTER), &keys));
    let keys = [("general.architecture", Meta::Text("clip")), ("general.type", Meta::Text("mmproj"))];
    label(out, "gguf/d.gguf".to_owned(), "mmproj", "?", files::gguf_of(&tensors::parse(PROJECTOR), &keys));
    graphs(out);
    modules(out);
}

fn graphs(out: &mut Vec<Labelled>) {
    for (path, inputs, outputs, properties, model_type) in [
        (
            "onnx/model.onnx",
            "target [1,3,128,128] F32\nsource [1,512] F32",
            "output [1,3,128,128] F32",
            &[][..],
            "face_swap",
        ),
        ("onnx/inswapper_128_fp16.onnx", "target [1,3,128,128] F32\nsource [1,512] F32", "o [1] F32", &[], "face_swap"),
        ("onnx/buffalo_l/w600k_r50.onnx", "input.1 [1,3,112,112] F32", "683 [1,512] F32", &[], "face_swap"),
        ("onnx/antelopev2/det_10g.onnx", "input.1 [1,3,640,640] F32", "448 [12800,1] F32", &[], "face_swap"),
        ("onnx/best.onnx", "images [1,3,640,640] F32", "output0 [1,84,8400] F32", &[("task", "detect")], "detection"),
        ("onnx/pose.onnx", "images [1,3,640,640] F32", "output0 [1,56,8400] F32", &[("task", "pose")], "detection"),
        ("onnx/tagger/model.onnx", "input [1,448,448,3] F32", "output [1,10861] F32", &[], "caption"),
        ("onnx/wd-vit-tagger-v3.onnx", "input [1,448,448,3] F32", "output [1,10861] F32", &[], "caption"),
        ("onnx/yolox_l.onnx", "images [1,3,640,640] F32", "output [1,8400,85] F32", &[], "preprocessor"),
        ("onnx/dw-ll_ucoco_384.onnx", "input [1,3,384,288] F32", "simcc_x [1,133,576] F32", &[], "preprocessor"),
        ("onnx/u2net.onnx", "input.1 [1,3,320,320] F32", "1959 [1,1,320,320] F32", &[], "background_removal"),
        (
            "onnx/isnet-general-use.onnx",
            "input [1,3,1024,1024] F32",
            "o [1,1,1024,1024] F32",
            &[],
            "background_removal",
        ),
    ] {
        let file = files::onnx(&tensors::parse(inputs), &tensors::parse(outputs), properties);
        label(out, path.to_owned(), model_type, "?", file);
    }
}

fn modules(out: &mut Vec<Labelled>) {
    for (path, class) in [
        ("modules/a.pt", ("ultralytics.nn.tasks", "DetectionModel")),
        ("modules/face_yolov8n.pt", ("ultralytics.nn.tasks", "DetectionModel")),
        ("modules/hand-seg.pt", ("ultralytics.nn.tasks", "SegmentationModel")),
        ("modules/pose.pt", ("ultralytics.nn.tasks", "PoseModel")),
        ("modules/yolov5s.pt", ("models.yolo", "Model")),
    ] {
        let state = Object::Dict(vec![(Object::text("training"), Object::Bool(false))]);
        let model = Object::Instance { class, state: Box::new(state) };
        let saved = Object::Dict(vec![(Object::text("epoch"), Object::Int(-1)), (Object::text("model"), model)]);
        label(out, path.to_owned(), "detection", "?", files::torch(&saved));
    }
}

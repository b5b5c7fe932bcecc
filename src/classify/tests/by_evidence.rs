//! What metadata, names, folders and sizes say, alone and against each other.

use proptest::prelude::*;

use super::*;
use crate::base::ModelType;

#[test]
fn metadata_tells_families_apart_that_have_equal_tensors() {
    for (metadata, expected) in [
        (&[("ss_sd_model_name", "ponyDiffusionV6XL_v6.safetensors")][..], "lora pony -"),
        (&[("ss_sd_model_name", "Illustrious-XL-v0.1.safetensors")], "lora illustrious -"),
        (&[("ss_sd_model_name", "noobaiXLNAIXL_vPred10.safetensors")], "lora noobai -"),
        (
            &[("ss_new_sd_model_hash", "67ab2fd8ec439a89b3fedb15cc65f54336af163c7eb5e4f2acc98f090a29b0b3")],
            "lora pony -",
        ),
        (&[("ss_tag_frequency", r#"{"a":{"score_9":40,"score_8_up":40}}"#)], "lora sdxl -"),
        (&[("ss_tag_frequency", r#"{"a":{"score_9":40}}"#), ("ss_output_name", "my_pony_style")], "lora pony -"),
        (&[("ss_base_model_version", "sdxl_base_v1-0"), ("ss_network_module", "networks.lora")], "lora sdxl -"),
        (&[("ss_base_model_version", "sd_v1")], "lora sdxl -"),
        (&[("ss_network_module", "lycoris.kohya"), ("ss_network_args", r#"{"algo": "locon"}"#)], "lycoris sdxl locon"),
        (&[("ss_base_model_version", "")], "lora sdxl -"),
    ] {
        let header = header(Format::Safetensors, SDXL_LORA, metadata);
        let verdict = judged(Some(&header), "a.safetensors", 100_000_000);
        assert_eq!(shown(&verdict), expected, "{metadata:?}: {:#?}", verdict.reasons);
    }
}

#[test]
fn what_tensors_say_is_not_outvoted() {
    let lora = header(Format::Safetensors, SDXL_LORA, &[("ss_base_model_version", "sd_v1")]);
    let verdict = judged(Some(&lora), "checkpoints/sd15_checkpoint_flux.safetensors", 2_000_000_000);
    assert_eq!(shown(&verdict), "lora sdxl -", "{:#?}", verdict.reasons);
    assert_eq!(verdict.method, Method::Tensors);
    let alone = judged(Some(&header(Format::Safetensors, SDXL_LORA, &[])), "a.safetensors", 2_000_000_000);
    assert!(
        verdict.confidence < alone.confidence,
        "a conflict lowers {} under {}",
        verdict.confidence,
        alone.confidence
    );
    let agreed = judged(Some(&header(Format::Safetensors, SDXL_LORA, &[])), "loras/a.safetensors", 100_000_000);
    assert!(agreed.confidence > alone.confidence, "agreement raises {}", agreed.confidence);
    assert!(agreed.confidence < 1.0, "nothing automatic is certain");
    let rules: Vec<_> = verdict.reasons.iter().map(|reason| &*reason.rule).collect();
    for rule in ["lora", "adapter-sdxl", "meta-ss-sd1", "folder-checkpoint", "name-sd1"] {
        assert!(rules.contains(&rule), "`{rule}` fired and is not among {rules:?}");
    }
}

#[test]
fn containers_say_what_they_hold() {
    const DECODER: &str =
        "token_embd.weight [32000,4096] @Q4_K; blk.0.attn_q.weight [4096,4096] @Q4_K; output.weight [32000,4096] @Q6_K";
    for (path, text, metadata, expected) in [
        ("a.gguf", DECODER, &[("general.architecture", "llama"), ("general.file_type", "15")][..], "llm llama -"),
        ("a.gguf", DECODER, &[("general.architecture", "qwen2")], "llm qwen2 -"),
        ("text_encoders/a.gguf", DECODER, &[("general.architecture", "qwen3")], "text_encoder - llm"),
        (
            "a.gguf",
            "enc.blk.0.attn_q.weight [4096,4096] @Q8_0; token_embd.weight [32128,4096] @Q8_0",
            &[("general.architecture", "t5encoder")],
            "text_encoder - t5-xxl",
        ),
        (
            "a.gguf",
            "v.blk.0.attn_q.weight [1152,1152]; mm.0.weight [9,9]",
            &[("general.architecture", "clip")],
            "mmproj - -",
        ),
        (
            "a.gguf",
            "blk.0.attn_q.weight.lora_a [8,4096]; blk.0.attn_q.weight.lora_b [4096,8]",
            &[("general.architecture", "llama"), ("general.type", "adapter")],
            "llm_lora - -",
        ),
        (
            "a.gguf",
            "blk.0.attn_q.weight [384,384]; token_embd.weight [30522,384]",
            &[("general.architecture", "bert")],
            "sentence_embedding bert -",
        ),
        (
            "flux1-dev-Q4_K_S.gguf",
            &format!("{FLUX}; guidance_in.in_layer.weight [3072,256]"),
            &[("general.architecture", "flux")],
            "diffusion_model flux1-dev -",
        ),
        (
            "chroma.gguf",
            "distilled_guidance_layer.norms.0.scale [5120]; double_blocks.0.img_attn.qkv.weight [9216,3072]",
            &[("general.architecture", "flux")],
            "diffusion_model chroma -",
        ),
        (
            "Wan2.2-I2V-A14B-HighNoise-Q4_K_M.gguf",
            &WAN.replace(",16,", ",36,"),
            &[("general.architecture", "wan")],
            "diffusion_model wan2.2 high-noise",
        ),
        (
            "a.gguf",
            SD1.replace("model.diffusion_model.", "").as_str(),
            &[("general.architecture", "sd1")],
            "diffusion_model sd1 -",
        ),
    ] {
        let header = header(Format::Gguf, text, metadata);
        let verdict = judged(Some(&header), path, 4_000_000_000);
        assert_eq!(shown(&verdict), expected, "{path}: {:#?}", verdict.reasons);
    }
    let header =
        header(Format::Onnx, "", &[("onnx.input.source", "F32 [1,512]"), ("onnx.input.target", "F32 [1,3,128,128]")]);
    assert_eq!(shown(&judged(Some(&header), "a.onnx", 554_000_000)), "face_swap - inswapper");
    let pickle = Header {
        imports: vec!["ultralytics.nn.tasks.SegmentationModel".into()],
        ..self::header(Format::TorchZip, "", &[])
    };
    assert_eq!(shown(&judged(Some(&pickle), "a.pt", 7_000_000)), "detection - -");
}

#[test]
fn a_verdict_carries_what_the_header_says_beside_type_and_base() {
    let metadata = [("general.architecture", "llama"), ("general.file_type", "15")];
    let gguf = header(Format::Gguf, "token_embd.weight [32000,4096] @Q4_K; blk.0.attn_q.weight [9,9] @F32", &metadata);
    let verdict = judged(Some(&gguf), "a.gguf", 4_000_000_000);
    assert_eq!(verdict.quantization.as_deref(), Some("Q4_K_M"));
    assert_eq!(verdict.precision, None);
    assert_eq!(verdict.architecture.as_deref(), Some("llama"));
    let metadata =
        [("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"), ("modelspec.trigger_phrase", "ohwx")];
    let lora = header(Format::Safetensors, &SDXL_LORA.replace("]; ", "] @BF16; "), &metadata);
    let verdict = judged(Some(&lora), "a.safetensors", 100_000_000);
    assert_eq!(verdict.precision.as_deref(), Some("bf16"));
    assert_eq!(verdict.trigger_words, ["ohwx"]);
    assert_eq!(verdict.architecture.as_deref(), Some("stable-diffusion-xl-v1-base/lora"));
}

#[test]
fn a_packed_model_is_still_known() {
    let nf4 = "double_blocks.0.img_attn.qkv.weight [14155776,1] @U8; double_blocks.0.img_attn.qkv.weight.quant_state.bitsandbytes__nf4 [9] @U8; double_blocks.0.img_attn.norm.key_norm.scale [128]; img_in.weight [98304,1] @U8; guidance_in.in_layer.weight [393216,1] @U8";
    let verdict = judged(Some(&header(Format::Safetensors, nf4, &[])), "a.safetensors", 6_000_000_000);
    assert_eq!(shown(&verdict), "diffusion_model flux1-dev -", "{:#?}", verdict.reasons);
    assert_eq!((verdict.precision, verdict.quantization.as_deref()), (None, Some("nf4")));
    let scaled = format!(
        "{}; double_blocks.0.img_attn.qkv.scale_weight [1] @F32; scaled_fp8 [0] @F8_E4M3",
        FLUX.replace("]; ", "] @F8_E4M3; ")
    );
    let verdict = judged(Some(&header(Format::Safetensors, &scaled, &[])), "a.safetensors", 12_000_000_000);
    assert_eq!(
        (verdict.precision.as_deref(), verdict.quantization.as_deref()),
        (Some("fp8_e4m3fn"), Some("fp8_scaled"))
    );
}

/// A bundle: its files as path, tensors and JSON, its name, and what it must be called.
type Bundle<'a> = (&'a [(&'a str, &'a str, &'a str)], &'a str, &'a str);

fn check_bundles(bundles: &[Bundle<'_>]) {
    for (files, name, expected) in bundles {
        let headers: Vec<_> = files.iter().map(|(_, text, _)| header(Format::Safetensors, text, &[])).collect();
        let parts: Vec<_> = files
            .iter()
            .zip(&headers)
            .map(|((path, _, json), header)| Part {
                path,
                size_bytes: 1_000_000_000,
                header: Some(header).filter(|header| !header.tensors.is_empty()),
                json: Some(*json).filter(|json| !json.is_empty()),
            })
            .collect();
        let verdict = classify_bundle(Rules::builtin(), &parts, name, &[]);
        assert_eq!(shown(&verdict), *expected, "{name}: {:#?}", verdict.reasons);
    }
}

#[test]
fn a_pipeline_is_what_its_index_says() {
    const UNET: &str = "conv_in.weight [320,4,3,3]; down_blocks.0.resnets.0.conv1.weight [320,320,3,3]; up_blocks.0.x [9]; add_embedding.linear_1.weight [1280,2816]";
    const SD1_UNET: &str = "conv_in.weight [320,4,3,3]; down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight [320,768]; up_blocks.0.x [9]";
    const XL: &str = r#"{"_class_name": "StableDiffusionXLPipeline"}"#;
    const SD: &str = r#"{"_class_name": "StableDiffusionPipeline"}"#;
    let unet = "unet/diffusion_pytorch_model.safetensors";
    check_bundles(&[
        (&[("model_index.json", "", XL), (unet, UNET, "")], "x", "diffusers sdxl -"),
        (&[("model_index.json", "", SD), (unet, SD1_UNET, "")], "x", "diffusers sd1 -"),
        (&[("model_index.json", "", XL)], "pony-diffusion", "diffusers pony -"),
        (&[("model_index.json", "", r#"{"_class_name": "FluxPipeline"}"#)], "FLUX.1-dev", "diffusers flux1-dev -"),
        (
            &[("model_index.json", "", r#"{"_class_name": "WanImageToVideoPipeline"}"#)],
            "Wan2.2-A14B",
            "diffusers wan2.2 -",
        ),
        (&[("model_index.json", "", r#"{"_class_name": "NeverSeenPipeline"}"#)], "x", "diffusers - -"),
    ]);
}

#[test]
fn shards_are_judged_as_one() {
    const FIRST: &str = "model.embed_tokens.weight [128256,4096]; model.layers.0.self_attn.q_proj.weight [4096,4096]";
    const SECOND: &str = "lm_head.weight [128256,4096]; model.layers.31.self_attn.q_proj.weight [4096,4096]";
    const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama"}"#;
    const BERT: &str = r#"{"architectures":["BertModel"],"model_type":"bert"}"#;
    const WHISPER: &str = r#"{"architectures":["WhisperForConditionalGeneration"],"model_type":"whisper"}"#;
    let [a, b] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (flux_a, flux_b) = FLUX.split_at(FLUX.find("img_in").expect("in the middle"));
    let flux_b = format!("{flux_b}; guidance_in.in_layer.weight [3072,256]");
    let minilm = "encoder.layer.0.attention.self.query.weight [384,384]";
    check_bundles(&[
        (&[(a, FIRST, ""), (b, SECOND, ""), ("config.json", "", LLAMA)], "Llama-3", "llm llama llama-3"),
        (&[(a, FIRST, ""), (b, SECOND, "")], "x", "llm - llama-3"),
        (&[(a, flux_a, ""), (b, &flux_b, "")], "x", "diffusion_model flux1-dev -"),
        (
            &[("modules.json", "", "[]"), ("config.json", "", BERT), ("model.safetensors", minilm, "")],
            "x",
            "sentence_embedding - -",
        ),
        (&[("config.json", "", WHISPER)], "x", "speech - -"),
        (&[("README.md", "", "not json"), ("a.bin", "", "")], "x", "unknown - -"),
        (&[], "x", "unknown - -"),
    ]);
}

#[test]
fn every_folder_of_an_application_leads_to_its_type() {
    for model_type in ModelType::ALL {
        if matches!(model_type, ModelType::Unknown | ModelType::Config | ModelType::Diffusers) {
            continue;
        }
        let found = Rules::builtin().rows().iter().any(|row| {
            row.method == Method::Folder && row.model_type == Some(*model_type) && row.weight >= CONFIDENCE_MIN
        });
        assert!(found, "no folder leads to {model_type}");
    }
}

#[test]
fn thousands_of_tensors_cost_little() {
    // Not a measurement: a rule or an index that became quadratic would take minutes here.
    let names =
        (0..30_000).map(|n| format!("{}.blocks.{}.a{n}b.weight [8,8]", n % 7, n)).collect::<Vec<_>>().join("; ");
    let verdict = judged(Some(&header(Format::Safetensors, &names, &[])), "x.safetensors", 1_000_000);
    assert_eq!(verdict.model_type, ModelType::Unknown);
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let word = prop_oneof![
        "[a-z_.]{0,12}",
        Just("model.diffusion_model.".to_owned()),
        Just("lora_unet_".to_owned()),
        Just(".lora_down.weight".to_owned()),
        Just(".lokr_w1".to_owned()),
        Just("double_blocks.0.".to_owned()),
        Just("text_encoders.".to_owned()),
        "\\PC{0,6}",
        "[0-9]{1,25}",
    ];
    let shape = prop::collection::vec(prop_oneof![Just(0u64), 1u64..5000, Just(u64::MAX)], 0..6);
    (
        prop::collection::vec(word, 0..5),
        prop_oneof!["[A-Z0-9_]{0,8}", Just("F16".to_owned()), Just("U8".to_owned())],
        shape,
    )
        .prop_map(|(words, dtype, shape)| Tensor {
            name: words.concat().into(),
            dtype: dtype.into(),
            shape: shape.into(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_evidence_gives_a_sound_verdict(
        tensors in prop::collection::vec(any_tensor(), 0..24),
        metadata in prop::collection::vec(("[a-z._]{0,20}|ss_tag_frequency|general.architecture", "\\PC{0,40}"), 0..6),
        name in "\\PC{0,40}",
        folders in prop::collection::vec("\\PC{0,20}", 0..4),
        size_bytes in any::<u64>(),
        gguf in any::<bool>(),
    ) {
        let format = if gguf { Format::Gguf } else { Format::Safetensors };
        let header = Header { format, tensors, metadata, imports: Vec::new(), data_start: None };
        let evidence = Evidence { header: Some(&header), file_name: &name, folders: &folders, size_bytes, hub: &[] };
        let verdict = classify(Rules::builtin(), &evidence);
        prop_assert!((0.0..1.0).contains(&verdict.confidence));
        prop_assert_eq!(verdict.model_type == ModelType::Unknown, verdict.confidence < CONFIDENCE_MIN);
        prop_assert_eq!(&classify(Rules::builtin(), &evidence), &verdict, "equal evidence, equal verdict");
        let part = Part { path: &name, size_bytes, header: Some(&header), json: Some(&name) };
        classify_bundle(Rules::builtin(), &[part, part], &name, &folders);
    }
}

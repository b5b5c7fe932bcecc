//! Models of every covered type as the formats' own libraries write them: imported, mounted, and looked at with the
//! tools that users and applications have.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use support::mounted::{Fuse, Mounted, Sandbox, fuse_or_skip, walk};
use support::python;
use support::samples::{SAMPLES, Sample, write_flat};

/// The applications that are mounted unless somebody says otherwise; the columns of `EXPECTED`.
const APPS: [&str; 5] = ["comfyui", "forge", "a1111", "wan2gp", "image-upscale"];

/// Where each application looks for a model of this kind, as its own documentation and source say; `-`: it has no
/// folder for the type, or does not read this suffix there, so the model is not shown to it.
#[rustfmt::skip]
const EXPECTED: &[(&str, [&str; 5])] = &[
    ("v1-5-pruned-emaonly.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("dreamlike.ckpt", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "-", "-"]),
    ("v2-1_768-ema-pruned.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("sd_xl_base_1.0.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("ponyDiffusionV6XL.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("illustriousXL_v01.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("sd3_medium_incl_clips.safetensors", ["checkpoints", "Stable-diffusion", "Stable-diffusion", "ckpts", "models/Stable-diffusion"]),
    ("flux1-dev.safetensors", ["diffusion_models", "Stable-diffusion", "-", "ckpts", "-"]),
    ("wan2.1_t2v_1.3B_fp16.safetensors", ["diffusion_models", "Stable-diffusion", "-", "ckpts", "-"]),
    ("flux1-dev-Q4_K_S.gguf", ["diffusion_models", "Stable-diffusion", "-", "ckpts", "-"]),
    ("clip_l.safetensors", ["text_encoders", "text_encoder", "-", "-", "-"]),
    ("t5xxl_fp8_e4m3fn.safetensors", ["text_encoders", "text_encoder", "-", "-", "-"]),
    ("CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", ["clip_vision", "ControlNetPreprocessor/clip_vision", "-", "-", "-"]),
    ("vae-ft-mse-840000-ema-pruned.safetensors", ["vae", "VAE", "VAE", "ckpts", "VAE"]),
    ("ae.safetensors", ["vae", "VAE", "VAE", "ckpts", "VAE"]),
    ("taesd_decoder.safetensors", ["vae_approx", "-", "VAE-approx", "-", "-"]),
    ("add_detail.safetensors", ["loras", "Lora", "Lora", "-", "Lora"]),
    ("sdxl_style.safetensors", ["loras", "Lora", "Lora", "-", "Lora"]),
    ("flux_realism.safetensors", ["loras", "Lora", "Lora", "loras/flux", "Lora"]),
    ("wan_camera.safetensors", ["loras", "Lora", "Lora", "loras/wan", "Lora"]),
    ("sd15_loha.safetensors", ["loras", "Lora", "Lora", "-", "Lora"]),
    ("control_v11p_sd15_canny_fp16.safetensors", ["controlnet", "ControlNet", "ControlNet", "-", "-"]),
    ("t2iadapter_depth_sd15v2.safetensors", ["controlnet", "ControlNet", "ControlNet", "-", "-"]),
    ("ip-adapter_sd15.safetensors", ["ipadapter", "ControlNet", "ControlNet", "-", "-"]),
    ("t2iadapter_style_sd14v1.safetensors", ["style_models", "-", "ControlNet", "-", "-"]),
    ("easynegative.safetensors", ["embeddings", "embeddings", "embeddings", "-", "-"]),
    ("badhand.pt", ["embeddings", "embeddings", "embeddings", "-", "embeddings"]),
    ("photoreal.pt", ["hypernetworks", "hypernetworks", "hypernetworks", "-", "-"]),
    ("RealESRGAN_x4plus_anime_6B.pth", ["upscale_models", "ESRGAN", "ESRGAN", "-", "upscalers"]),
    ("v3_sd15_mm.safetensors", ["animatediff_models", "-", "extensions/sd-webui-animatediff/model", "-", "-"]),
    ("stories260K-Q8_0.gguf", ["-", "-", "-", "-", "-"]),
    ("mmproj-llava-f16.gguf", ["-", "-", "-", "-", "-"]),
    ("GFPGANv1.4.pth", ["facerestore_models", "GFPGAN", "GFPGAN", "-", "-"]),
    ("v2_lora_ZoomIn.safetensors", ["animatediff_motion_lora", "-", "Lora", "-", "-"]),
    ("face_yolov8n.pt", ["ultralytics/bbox", "adetailer", "adetailer", "-", "-"]),
    ("sam_vit_b_01ec64.pth", ["sams", "-", "sam", "-", "-"]),
    ("gligen_sd14_textbox_pruned.safetensors", ["gligen", "-", "-", "-", "-"]),
    ("photomaker-v1.bin", ["photomaker", "ControlNet", "ControlNet", "-", "-"]),
    ("instantid-ip-adapter.bin", ["instantid", "ControlNet", "ControlNet", "-", "-"]),
    ("pulid_flux_v0.9.1.safetensors", ["pulid", "ControlNet", "ControlNet", "-", "-"]),
    ("qwen_image_canny_diffsynth_controlnet.safetensors", ["model_patches", "-", "-", "-", "-"]),
    ("wav2vec2_large_english_fp16.safetensors", ["audio_encoders", "-", "-", "-", "-"]),
    ("sac+logos+ava1-l14-linearMSE.pth", ["-", "-", "-", "-", "-"]),
    ("depth_anything_vits14.pth", ["custom_nodes/comfyui_controlnet_aux/ckpts", "ControlNetPreprocessor", "-", "-", "-"]),
    ("model_base_caption_capfilt_large.pth", ["blip", "BLIP", "BLIP", "-", "-"]),
    ("rmbg-1.4.pth", ["background_removal", "-", "-", "-", "-"]),
    ("raft-things.pth", ["optical_flow", "-", "-", "-", "-"]),
    ("sd_safety_checker.safetensors", ["-", "-", "-", "-", "-"]),
    ("stories260K-style-F32-LoRA.gguf", ["-", "-", "-", "-", "-"]),
    ("all-MiniLM-L6-v2-F16.gguf", ["-", "-", "-", "-", "-"]),
];

/// None of the libraries writes ONNX.
fn foreign() -> impl Iterator<Item = &'static Sample> {
    SAMPLES.iter().filter(|sample| !sample.name.ends_with(".onnx"))
}

#[test]
fn every_sample_is_in_the_table() {
    let samples: BTreeSet<&str> = foreign().map(|sample| sample.name).collect();
    let expected: BTreeSet<&str> = EXPECTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(samples, expected);
    assert_eq!(EXPECTED.len(), expected.len(), "a row is there twice");
}

/// One mount for all questions: making the samples and importing them takes most of the time.
#[test]
fn models_of_foreign_writers_are_found_and_read_by_everybody() {
    let (Some(write), Some(read)) = (python::script("write_samples.py"), python::script("read_samples.py")) else {
        return;
    };
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    import_foreign(&sandbox, write);
    types_and_bases(&sandbox);
    let mount = sandbox.mount(&[]);
    let files: Vec<String> = walk(mount.directory()).into_iter().filter(|path| !path.starts_with(".modelfs")).collect();
    right_folders(&files);
    one_inode_for_all_names(&mount, &files);
    every_hash_is_the_stores(&mount, &files);
    counted_once(&mount, &files);
    libraries_read(&mount, read);
    mount.unmount();
}

fn import_foreign(sandbox: &Sandbox, mut write: Command) {
    let (ours, theirs) = (sandbox.path("ours"), sandbox.path("models"));
    write_flat(&ours).expect("a writable sandbox");
    write.args([&ours, &theirs]);
    assert_eq!(python::run(write).lines().count(), foreign().count());
    let summary = sandbox.run(["import", "--json", "models"]).success().json();
    assert_eq!(summary["new"].as_u64(), Some(foreign().count() as u64), "{summary}");
}

fn types_and_bases(sandbox: &Sandbox) {
    let listed = sandbox.run(["ls", "--json"]).success().json();
    let listed = listed.as_array().expect("an array");
    assert_eq!(listed.len(), foreign().count());
    let of = |name: &str| listed.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("{name} is lost"));
    let wrong: Vec<_> = foreign()
        .map(|sample| (sample, of(sample.name)))
        .filter(|(sample, found)| {
            let base = found["base"].as_str().unwrap_or_default();
            found["type"] != sample.model_type || !base.starts_with(sample.base)
        })
        .map(|(sample, found)| format!("{}: {} {}", sample.name, found["type"], found["base"]))
        .collect();
    assert!(wrong.is_empty(), "taken for something else: {wrong:#?}");
}

/// Each application sees a model in its folder for the type, once, and nowhere else.
fn right_folders(files: &[String]) {
    let mut wrong = Vec::new();
    for (name, folders) in EXPECTED {
        for (app, folder) in APPS.iter().zip(folders) {
            let found: Vec<&str> = files
                .iter()
                .filter_map(|path| path.strip_prefix(app)?.strip_prefix('/')?.strip_suffix(name)?.strip_suffix('/'))
                .collect();
            let expected = if *folder == "-" { vec![] } else { vec![*folder] };
            if found != expected {
                wrong.push(format!("{name} in {app}: {found:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Also what no application reads is not lost.
    for sample in foreign() {
        let by_type = format!("by/type/{}/{}", sample.model_type, sample.name);
        assert!(files.contains(&by_type), "{by_type}");
    }
    let unsorted: Vec<_> = files.iter().filter(|path| path.contains("/_unsorted/")).collect();
    assert!(unsorted.is_empty(), "{unsorted:?}");
}

fn inode(mount: &Mounted, path: &str) -> u64 {
    fs::metadata(mount.path(path)).unwrap_or_else(|error| panic!("{path}: {error}")).ino()
}

fn one_inode_for_all_names(mount: &Mounted, files: &[String]) {
    let mut names: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for path in files {
        names.entry(inode(mount, path)).or_default().push(path);
    }
    assert_eq!(names.len(), foreign().count(), "one inode for each content");
    for paths in names.values() {
        let basenames: BTreeSet<_> = paths.iter().map(|path| Path::new(path).file_name()).collect();
        assert_eq!(basenames.len(), 1, "{paths:?}");
        assert_eq!(paths.iter().filter(|path| path.starts_with("store/")).count(), 1, "{paths:?}");
        for path in paths {
            let metadata = fs::metadata(mount.path(path)).expect("just listed");
            assert_eq!(metadata.nlink(), paths.len() as u64, "{path} of {paths:?}");
        }
    }
}

/// `sha256sum` of every name, against the folder in which the same inode lies under `store/`.
fn every_hash_is_the_stores(mount: &Mounted, files: &[String]) {
    let stored: BTreeMap<u64, &str> = files
        .iter()
        .filter_map(|path| Some((inode(mount, path), path.strip_prefix("store/")?.split('/').next()?)))
        .collect();
    let output = Command::new("sha256sum").args(files).current_dir(mount.directory()).output().expect("coreutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), files.len());
    for line in text.lines() {
        let (sha256, path) = line.split_once("  ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(stored[&inode(mount, path)], sha256, "{path}");
    }
}

fn counted_once(mount: &Mounted, files: &[String]) {
    let bytes = |options: &[&str]| -> u64 {
        let output = Command::new("du").args(options).arg(mount.directory()).output().expect("du is everywhere");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let mut once = BTreeMap::new();
    let mut each_name = 0;
    for path in files {
        let metadata = fs::metadata(mount.path(path)).expect("just listed");
        once.insert(metadata.ino(), metadata.blocks() * 512);
        each_name += metadata.blocks() * 512;
    }
    let once: u64 = once.values().sum();
    assert_eq!(bytes(&["-s", "-B1", "--exclude=.modelfs"]), once);
    // The count of `du` is by inode: told not to, it finds every name.
    assert_eq!(bytes(&["-s", "-B1", "-l", "--exclude=.modelfs"]), each_name);
    assert!(each_name > 2 * once, "most models have several names: {each_name} and {once}");
}

/// `safe_open`, `numpy.memmap`, the reader of `gguf` and `zipfile`, on every name under the store and in one application.
fn libraries_read(mount: &Mounted, mut read: Command) {
    read.args([mount.path("store"), mount.path("comfyui")]);
    let in_comfyui = EXPECTED.iter().filter(|(_, folders)| folders[0] != "-").count();
    assert_eq!(python::run(read).lines().count(), foreign().count() + in_comfyui);
}

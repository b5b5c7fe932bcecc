//! The sample files: whole by their own formats, the same every time, and read by more than their writer.

mod support;

use modelfs::formats::{Format, read_header};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use support::fake_hub::sha256_of_file;
use support::mounted::walk;
use support::python;
use support::samples::{CACHED_COMMIT, SAMPLES, sample, write_applications, write_flat, write_tiny_loras};

/// A few MB for each; the T5 encoder's telling tensor alone has more.
const SAMPLE_BYTES_MAX: usize = 10 << 20;
const LARGEST: &str = "t5xxl_fp8_e4m3fn.safetensors";

#[test]
fn every_file_is_whole_by_its_own_format() {
    for sample in SAMPLES {
        let bytes = sample.bytes();
        assert!(bytes.len() < SAMPLE_BYTES_MAX || sample.name == LARGEST, "{}: {}", sample.name, bytes.len());
        let tensors = match Path::new(sample.name).extension().and_then(|suffix| suffix.to_str()) {
            Some("safetensors") => {
                safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", sample.name)).len()
            }
            // Their only reader at hand is our own, below.
            Some("gguf" | "onnx") => 1,
            Some(_) => {
                let archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).expect(sample.name);
                let names: Vec<_> = archive.file_names().collect::<Result<_, _>>().expect("names in UTF-8");
                assert!(
                    ["archive/data.pkl", "archive/version"].iter().all(|name| names.iter().any(|found| found == name)),
                    "{names:?}"
                );
                names.iter().filter(|name| name.starts_with("archive/data/")).count()
            }
            None => panic!("{} has no suffix", sample.name),
        };
        assert!(tensors > 0, "{}", sample.name);
    }
}

#[test]
fn every_header_is_read() {
    for sample in SAMPLES {
        let bytes = sample.bytes();
        let header = read_header(&bytes.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let format = match Path::new(sample.name).extension().and_then(|suffix| suffix.to_str()) {
            Some("safetensors") => Format::Safetensors,
            Some("gguf") => Format::Gguf,
            Some("onnx") => Format::Onnx,
            _ => Format::TorchZip,
        };
        assert_eq!(header.format, format, "{}", sample.name);
        assert!(format == Format::TorchZip || !header.tensors.is_empty(), "{}", sample.name);
    }
}

#[test]
fn every_covered_type_has_a_sample() {
    let types: BTreeSet<&str> = SAMPLES.iter().map(|sample| sample.model_type).collect();
    for model_type in &types {
        modelfs::base::ModelType::parse(model_type).expect("a word of the application folders");
    }
    assert_eq!(types.len(), 37, "{types:?}");
    let bases: BTreeSet<&str> = SAMPLES.iter().map(|sample| sample.base).filter(|base| !base.is_empty()).collect();
    assert_eq!(
        bases.into_iter().collect::<Vec<_>>(),
        ["flux1", "illustrious", "pony", "sd1", "sd2", "sd3", "sdxl", "wan"]
    );
    let names: BTreeSet<&str> = SAMPLES.iter().map(|sample| sample.name).collect();
    assert_eq!(names.len(), SAMPLES.len(), "a name is there twice");
}

#[test]
fn equal_content_lies_in_several_applications() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = write_applications(folder.path()).expect("a writable folder");
    let digests: Vec<String> = written.iter().map(|file| sha256_of_file(&file.path).expect("just written")).collect();
    let distinct: BTreeSet<&String> = digests.iter().collect();
    let placed = SAMPLES.iter().filter(|sample| !sample.comfyui.is_empty() || !sample.a1111.is_empty()).count();
    assert_eq!((distinct.len(), digests.len()), (placed, placed + 3));
    let files = walk(folder.path());
    for expected in [
        "ComfyUI/models/checkpoints/sd_xl_base_1.0.safetensors",
        "ComfyUI/models/diffusers/stable-diffusion-v1-5/model_index.json",
        "ComfyUI/models/LLM/stories-sharded/model.safetensors.index.json",
        "stable-diffusion-webui/models/Lora/detail tweaker.safetensors",
        "stable-diffusion-webui/embeddings/badhand.pt",
    ] {
        assert!(files.iter().any(|file| file == expected), "{expected} is not in {files:#?}");
    }
    let snapshot = format!("huggingface/hub/models--example--tiny-sdxl-lora/snapshots/{CACHED_COMMIT}");
    let card = folder.path().join(&snapshot).join("README.md");
    assert!(card.is_symlink() && fs::read_to_string(card).expect("a link to a blob").contains("license: mit"));
    assert!(folder.path().join(&snapshot).join("config/adapter_config.json").exists());
    // Once more over the same folder: nothing changes.
    let again = write_applications(folder.path()).expect("a writable folder");
    assert!(
        again.iter().zip(&digests).all(|(file, digest)| sha256_of_file(&file.path).is_ok_and(|now| now == *digest))
    );
    assert_eq!(walk(folder.path()), files);
}

/// The reference libraries read what is written here, and write the same models themselves.
#[test]
fn the_formats_own_libraries_agree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    write_flat(&ours).expect("a writable folder");
    let (Some(mut write), Some(mut read)) = (python::script("write_samples.py"), python::script("read_samples.py"))
    else {
        return;
    };
    write.args([&ours, &theirs]);
    let samples = || SAMPLES.iter().filter(|sample| !sample.name.ends_with(".onnx"));
    assert_eq!(python::run(write).lines().count(), samples().count());
    read.args([&ours, &theirs]);
    assert_eq!(python::run(read).lines().count(), 2 * samples().count());
    for sample in samples() {
        let bytes = fs::read(theirs.join(sample.name)).expect("just written");
        let (ours, theirs) = (sample.bytes(), bytes);
        assert_ne!(ours, theirs, "{}", sample.name);
        let header = |bytes: &[u8]| {
            let header = read_header(&bytes).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
            let mut tensors = header.tensors;
            tensors.sort_by(|one, other| one.name.cmp(&other.name));
            (header.format, tensors)
        };
        assert_eq!(header(&ours), header(&theirs), "{}", sample.name);
    }
}

#[test]
fn tiny_files_are_small_and_distinct() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_loras(folder.path(), 50).expect("a writable folder");
    let mut digests = BTreeSet::new();
    for name in walk(folder.path()) {
        let bytes = fs::read(folder.path().join(&name)).expect("just written");
        assert!(bytes.len() < 1024, "{}", bytes.len());
        assert_eq!(safetensors::SafeTensors::deserialize(&bytes).expect("whole").len(), 2);
        digests.insert(bytes);
    }
    assert_eq!(digests.len(), 50);
    assert_eq!(sample("ae.safetensors").model_type, "vae");
}

//! Writes safetensors: a length, JSON, data.
//!
//! Not through the reference library, because it writes metadata in another order every time, and equal samples must
//! be equal files. `tests/samples.rs` reads every file with that library.

use super::tensors::{Tensor, noise};
use serde_json::{Map, Value, json};

/// Data start at a multiple of this.
const ALIGNMENT: usize = 8;

/// The bytes of a file. Names and metadata are sorted.
pub fn bytes(seed: &str, tensors: &[Tensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let (mut file, data_bytes) = header(tensors, metadata);
    file.append(&mut noise(seed, usize::try_from(data_bytes).expect("a small file")));
    file
}

/// Everything before the weights, and how many bytes those have.
pub fn header(tensors: &[Tensor], metadata: &[(&str, &str)]) -> (Vec<u8>, u64) {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let texts = metadata.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
        header.insert("__metadata__".to_owned(), Value::Object(texts.collect()));
    }
    // Wide types first, as the reference writer does, so that each tensor is aligned.
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by(|one, other| bits(&other.dtype).cmp(&bits(&one.dtype)).then_with(|| one.name.cmp(&other.name)));
    let mut end = 0u64;
    for tensor in order {
        let start = end;
        end += tensor.values() * bits(&tensor.dtype) / 8;
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        let before = header.insert(tensor.name.clone(), entry);
        assert!(before.is_none(), "`{}` is listed twice", tensor.name);
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.append(&mut json);
    (file, end)
}

pub fn bits(dtype: &str) -> u64 {
    match dtype {
        "F4" => 4,
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
        "F16" | "BF16" | "I16" => 16,
        "F32" | "I32" => 32,
        "F64" | "I64" => 64,
        _ => panic!("`{dtype}` is no dtype that samples use"),
    }
}

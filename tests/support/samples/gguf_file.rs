//! Writes GGUF, version 3: keys and values, tensor infos with the innermost length first, aligned data.

use super::tensors::{Tensor, noise};

const ALIGNMENT: usize = 32;

pub enum Meta<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

/// The bytes of a file.
pub fn bytes(seed: &str, tensors: &[Tensor], metadata: &[(&str, Meta)]) -> Vec<u8> {
    let (mut file, data_bytes) = header(tensors, metadata);
    file.append(&mut noise(seed, usize::try_from(data_bytes).expect("a small file")));
    file
}

/// Everything before the weights, and how many bytes those have.
pub fn header(tensors: &[Tensor], metadata: &[(&str, Meta)]) -> (Vec<u8>, u64) {
    let mut file = b"GGUF".to_vec();
    file.extend_from_slice(&3u32.to_le_bytes());
    file.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    file.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut file, key);
        write_value(&mut file, value);
    }
    let mut end = 0u64;
    for tensor in tensors {
        let (number, values_per_block, bytes_per_block) = type_of(&tensor.dtype);
        let innermost = *tensor.shape.last().expect("a shape");
        assert_eq!(innermost % values_per_block, 0, "`{}` does not fit {}", tensor.name, tensor.dtype);
        text(&mut file, &tensor.name);
        file.extend_from_slice(&u32::try_from(tensor.shape.len()).expect("a few").to_le_bytes());
        for length in tensor.shape.iter().rev() {
            file.extend_from_slice(&length.to_le_bytes());
        }
        file.extend_from_slice(&number.to_le_bytes());
        file.extend_from_slice(&end.to_le_bytes());
        let stored_bytes = tensor.values() / values_per_block * bytes_per_block;
        end = (end + stored_bytes).next_multiple_of(ALIGNMENT as u64);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    (file, end)
}

fn text(file: &mut Vec<u8>, text: &str) {
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
}

fn write_value(file: &mut Vec<u8>, value: &Meta) {
    let array = |file: &mut Vec<u8>, element: u32, count: usize| {
        file.extend_from_slice(&9u32.to_le_bytes());
        file.extend_from_slice(&element.to_le_bytes());
        file.extend_from_slice(&(count as u64).to_le_bytes());
    };
    match value {
        Meta::U32(value) => {
            file.extend_from_slice(&4u32.to_le_bytes());
            file.extend_from_slice(&value.to_le_bytes());
        }
        Meta::F32(value) => {
            file.extend_from_slice(&6u32.to_le_bytes());
            file.extend_from_slice(&value.to_le_bytes());
        }
        Meta::Bool(value) => {
            file.extend_from_slice(&7u32.to_le_bytes());
            file.push(u8::from(*value));
        }
        Meta::Text(value) => {
            file.extend_from_slice(&8u32.to_le_bytes());
            text(file, value);
        }
        Meta::Texts(values) => {
            array(file, 8, values.len());
            values.iter().for_each(|value| text(file, value));
        }
        Meta::F32s(values) => {
            array(file, 6, values.len());
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        }
        Meta::I32s(values) => {
            array(file, 5, values.len());
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        }
    }
}

/// Number, values per block, bytes per block.
fn type_of(dtype: &str) -> (u32, u64, u64) {
    match dtype {
        "F32" => (0, 1, 4),
        "F16" => (1, 1, 2),
        "Q8_0" => (8, 32, 34),
        "Q4_K" => (12, 256, 144),
        "BF16" => (30, 1, 2),
        _ => panic!("`{dtype}` is no type that samples use"),
    }
}

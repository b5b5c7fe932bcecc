//! Writes ONNX: the few protobuf fields by which a graph is recognised.

use super::tensors::{Tensor, noise};

/// A graph without nodes: inputs and outputs with their shapes, and weights.
pub fn bytes(seed: &str, inputs: &[Tensor], outputs: &[Tensor], weights: &[Tensor]) -> Vec<u8> {
    let mut graph = Vec::new();
    text(&mut graph, 2, "torch-jit-export");
    for weight in weights {
        let mut tensor = Vec::new();
        weight.shape.iter().for_each(|length| number(&mut tensor, 1, *length));
        number(&mut tensor, 2, element(&weight.dtype).0);
        text(&mut tensor, 8, &weight.name);
        let length = usize::try_from(weight.values() * element(&weight.dtype).1).expect("a small file");
        message(&mut tensor, 9, &noise(&format!("{seed}/{}", weight.name), length));
        message(&mut graph, 5, &tensor);
    }
    inputs.iter().for_each(|input| message(&mut graph, 11, &value_info(input)));
    outputs.iter().for_each(|output| message(&mut graph, 12, &value_info(output)));
    let mut opset = Vec::new();
    number(&mut opset, 2, 11);
    let mut model = Vec::new();
    number(&mut model, 1, 6);
    text(&mut model, 2, "pytorch");
    text(&mut model, 3, "1.9");
    message(&mut model, 7, &graph);
    message(&mut model, 8, &opset);
    model
}

/// A graph without weights, and what its exporter wrote beside it.
pub fn with_properties(inputs: &[Tensor], outputs: &[Tensor], properties: &[(&str, &str)]) -> Vec<u8> {
    let mut model = bytes("", inputs, outputs, &[]);
    for (key, value) in properties {
        let mut property = Vec::new();
        text(&mut property, 1, key);
        text(&mut property, 2, value);
        message(&mut model, 14, &property);
    }
    model
}

fn value_info(tensor: &Tensor) -> Vec<u8> {
    let mut shape = Vec::new();
    for length in &tensor.shape {
        let mut dimension = Vec::new();
        number(&mut dimension, 1, *length);
        message(&mut shape, 1, &dimension);
    }
    let mut tensor_type = Vec::new();
    number(&mut tensor_type, 1, element(&tensor.dtype).0);
    message(&mut tensor_type, 2, &shape);
    let mut kind = Vec::new();
    message(&mut kind, 1, &tensor_type);
    let mut info = Vec::new();
    text(&mut info, 1, &tensor.name);
    message(&mut info, 2, &kind);
    info
}

/// Number of the type, and bytes of a value.
fn element(dtype: &str) -> (u64, u64) {
    match dtype {
        "F32" => (1, 4),
        "F16" => (10, 2),
        _ => panic!("`{dtype}` is no dtype that graphs of samples use"),
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

fn number(bytes: &mut Vec<u8>, field: u64, value: u64) {
    varint(bytes, field << 3);
    varint(bytes, value);
}

fn message(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(bytes, field << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn text(bytes: &mut Vec<u8>, field: u64, content: &str) {
    message(bytes, field, content.as_bytes());
}

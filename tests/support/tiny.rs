//! Tiny models that are recognised for what they are and differ by a number.

use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;

/// A LoRA for SD 1.5 as its usual trainer writes it, about 10 KB; files with different numbers have different bytes.
pub fn lora(number: u64) -> Vec<u8> {
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";
    let parts = [
        (format!("{module}.lora_down.weight"), vec![4, 320]),
        (format!("{module}.lora_up.weight"), vec![320, 4]),
        (format!("{text}.lora_down.weight"), vec![4, 768]),
        (format!("{text}.lora_up.weight"), vec![768, 4]),
    ];
    let data: Vec<Vec<u8>> =
        parts.iter().map(|(_, shape)| bytes(number, shape.iter().product::<usize>() * 2)).collect();
    let views = parts.iter().zip(&data).map(|((name, shape), data)| {
        (name.clone(), TensorView::new(Dtype::F16, shape.clone(), data).expect("shape and bytes agree"))
    });
    let metadata = HashMap::from([("ss_network_module".to_owned(), "networks.lora".to_owned())]);
    serialize(views, Some(metadata)).expect("a valid file")
}

/// A LoRA with this many bytes of tensors and a little more.
pub fn large_lora(number: u64, data_bytes: usize) -> Vec<u8> {
    let name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight".to_owned();
    let up = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight".to_owned();
    let rank = data_bytes / 2 / 320;
    let data = bytes(number, rank * 320 * 2);
    let small = bytes(number + 1, 320 * 4 * 2);
    let views = [
        (name, TensorView::new(Dtype::F16, vec![rank, 320], &data).expect("shape and bytes agree")),
        (up, TensorView::new(Dtype::F16, vec![320, 4], &small).expect("shape and bytes agree")),
    ];
    let metadata = HashMap::from([("ss_network_module".to_owned(), "networks.lora".to_owned())]);
    serialize(views, Some(metadata)).expect("a valid file")
}

/// Bytes that a number decides: a xorshift sequence.
fn bytes(number: u64, count: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(count.div_ceil(8)).flatten().collect();
    bytes.truncate(count);
    bytes
}

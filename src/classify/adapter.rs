//! The modules an adapter changes, in one spelling for every trainer.
//!
//! `lora_unet_down_blocks_0_attn2_to_k.lora_down.weight` and `unet.down_blocks.0.attn2.to_k.lora_A.weight` both become
//! `down_blocks_0_attn2_to_k.down`, shape `[rank, in]`; text encoder modules keep a first word `te`, `te1`, `te2`, `te3`.
//! Every algorithm gives `.down` with the length it reads and `.up` with the length it writes, as if it were a LoRA.
//! Not here: which base has such modules (rules).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::parts::Unwrapped;
use super::view::{Entry, Index};
use crate::formats::Tensor;

/// What trainers write in front of a module, longest first where one begins another.
const PREFIXES: &[(&str, &str)] = &[
    ("base_model.model.", ""),
    ("lora_unet__", ""),
    ("lora_unet_", ""),
    ("lora_transformer_", ""),
    ("lora_prior_unet_", "prior_"),
    ("lora_prior_te_", "te_"),
    ("lycoris_te_", "te_"),
    ("lycoris_lora_unet_", ""),
    ("lycoris_", ""),
    ("oft_unet_", ""),
    ("lora_te1_", "te1_"),
    ("lora_te2_", "te2_"),
    ("lora_te3_", "te3_"),
    ("lora_te_", "te_"),
    ("model.diffusion_model.", ""),
    ("diffusion_model.", ""),
    ("transformer.", ""),
    ("unet.", ""),
    ("text_encoder_2.", "te2_"),
    ("text_encoder_3.", "te3_"),
    ("text_encoder.", "te_"),
    ("text_encoders.", "te_"),
];

/// Endings that name what a tensor is to its module, the most usual first.
const ROLES: &[(&str, Role)] = &[
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_A", Role::Down),
    (".lora_B", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_a", Role::Down),
    (".lora_b", Role::Up),
    (".hada_w1_b", Role::Down),
    (".hada_w1_a", Role::Up),
    (".diff", Role::Whole),
    (".lokr_w1", Role::Outer),
    (".lokr_w1_a", Role::OuterUp),
    (".lokr_w1_b", Role::OuterDown),
    (".lokr_w2", Role::Inner),
    (".lokr_w2_a", Role::InnerUp),
    (".lokr_w2_b", Role::InnerDown),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Down,
    Up,
    /// The change itself, not split: it reads and writes.
    Whole,
    /// The two factors of a Kronecker product, whole or split once more.
    Outer,
    OuterUp,
    OuterDown,
    Inner,
    InnerUp,
    InnerDown,
}

/// Lengths read and written by the two factors of a Kronecker product.
#[derive(Clone, Copy, Default)]
struct Factors {
    outer: [u64; 2],
    inner: [u64; 2],
}

pub(super) fn modules<'a>(file: &Unwrapped<'a>) -> Index<'a> {
    let mut entries = Vec::with_capacity(file.names().size_hint().0.min(super::view::NAMES_MAX));
    let mut products: BTreeMap<String, (Factors, &'a Tensor)> = BTreeMap::new();
    for (name, tensor) in file.names().take(super::view::NAMES_MAX) {
        let own = Cow::Borrowed(&*tensor.shape);
        let (module, role) = role_of(name).map_or((name, None), |(module, role)| (module, Some(role)));
        match role {
            None => entries.push(Entry::computed(module_name(module, ""), own, tensor)),
            Some(Role::Down) => entries.push(Entry::computed(module_name(module, ".down"), own, tensor)),
            Some(Role::Whole) => {
                entries.push(Entry::computed(module_name(module, ".down"), own.clone(), tensor));
                entries.push(Entry::computed(module_name(module, ".up"), own, tensor));
            }
            Some(Role::Up) => entries.push(Entry::computed(module_name(module, ".up"), own, tensor)),
            Some(role) => {
                let product = products.entry(module_name(module, "")).or_insert((Factors::default(), tensor));
                product.0.add(role, &tensor.shape);
            }
        }
    }
    for (module, (factors, tensor)) in products {
        let [written, read] = factors.product();
        entries.push(Entry::computed(format!("{module}.down"), vec![0, read].into(), tensor));
        entries.push(Entry::computed(format!("{module}.up"), vec![written, 0].into(), tensor));
    }
    Index::new(entries.into_iter())
}

fn role_of(name: &str) -> Option<(&str, Role)> {
    // A third of the tensors of a LoRA.
    if name.ends_with(".alpha") {
        return None;
    }
    ROLES.iter().find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?, *role)))
}

fn module_name(name: &str, ending: &str) -> String {
    let mut rest = name;
    let mut word = "";
    // `base_model.model.unet.` and the like: one prefix inside another, never more than two.
    for _ in 0..2 {
        let Some((stripped, part)) =
            PREFIXES.iter().find_map(|(prefix, part)| Some((rest.strip_prefix(prefix)?, *part)))
        else {
            break;
        };
        rest = stripped;
        word = part;
        if !word.is_empty() {
            break;
        }
    }
    let mut module = String::with_capacity(word.len() + rest.len() + ending.len());
    module.push_str(word);
    // An old library put adapters into the processor of an attention.
    for (number, part) in rest.split('.').filter(|part| *part != "processor").enumerate() {
        if number > 0 {
            module.push('_');
        }
        module.push_str(part);
    }
    module.push_str(ending);
    module
}

impl Factors {
    fn add(&mut self, role: Role, shape: &[u64]) {
        let first = shape.first().copied().unwrap_or(0);
        let second = shape.get(1).copied().unwrap_or(0);
        match role {
            Role::Outer => self.outer = [first, second],
            Role::OuterUp => self.outer[0] = first,
            Role::OuterDown => self.outer[1] = second,
            Role::Inner => self.inner = [first, second],
            Role::InnerUp => self.inner[0] = first,
            Role::InnerDown => self.inner[1] = second,
            Role::Down | Role::Up | Role::Whole => {}
        }
    }

    fn product(&self) -> [u64; 2] {
        [self.outer[0].saturating_mul(self.inner[0]), self.outer[1].saturating_mul(self.inner[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::pattern::KeyTest;
    use crate::classify::view::View;
    use crate::formats::{Format, Header};

    fn header(tensors: &[(&str, &[u64])]) -> Header {
        let tensors = tensors
            .iter()
            .map(|(name, shape)| Tensor { name: (*name).into(), dtype: "F16".into(), shape: (*shape).into() })
            .collect();
        Header { format: Format::Safetensors, tensors, metadata: Vec::new(), imports: Vec::new(), data_start: None }
    }

    #[test]
    fn every_trainer_gives_one_spelling() {
        for name in [
            "lora_unet_down_blocks_0_attn2_to_k.lora_down.weight",
            "unet.down_blocks.0.attn2.to_k.lora_A.weight",
            "base_model.model.down_blocks.0.attn2.to_k.lora_A.default.weight",
            "base_model.model.unet.down_blocks.0.attn2.to_k.lora_A.weight",
            "diffusion_model.down_blocks.0.attn2.to_k.lora_A.weight",
            "lycoris_down_blocks_0_attn2_to_k.hada_w1_b",
            "lora_transformer_down_blocks_0_attn2_to_k.lora_down.weight",
            "lora_unet__down_blocks_0_attn2_to_k.lora_down.weight",
            "down_blocks.0.attn2.to_k.lora.down.weight",
            "unet.down_blocks.0.attn2.processor.to_k_lora.down.weight",
        ] {
            let header = header(&[(name, &[8, 768])]);
            let index = modules(&Unwrapped::new(&header));
            let view = View::new(&index, "");
            let test = KeyTest::parse("down_blocks_0_attn2_to_k.down [*,768]").expect("valid");
            assert!(view.find(&test).is_some(), "{name} became {view:?}");
        }
    }

    #[test]
    fn a_kronecker_product_shows_the_lengths_of_its_whole() {
        let header = header(&[
            ("lora_unet_m.lokr_w1", &[10, 16]),
            ("lora_unet_m.lokr_w2_a", &[64, 4]),
            ("lora_unet_m.lokr_w2_b", &[4, 48]),
        ]);
        let index = modules(&Unwrapped::new(&header));
        let view = View::new(&index, "");
        for condition in ["m.down [*,768]", "m.up [640,*]"] {
            assert!(view.find(&KeyTest::parse(condition).expect("valid")).is_some(), "{condition}");
        }
    }

    #[test]
    fn text_encoder_modules_keep_their_number() {
        for (name, expected) in [
            ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "te2_text_model_encoder_layers_0_mlp_fc1"),
            ("text_encoder.text_model.encoder", "te_text_model_encoder"),
            ("transformer_blocks.0.attn.to_q", "transformer_blocks_0_attn_to_q"),
            ("transformer.transformer_blocks.0.attn.to_q", "transformer_blocks_0_attn_to_q"),
        ] {
            assert_eq!(module_name(name, ""), expected);
        }
    }
}

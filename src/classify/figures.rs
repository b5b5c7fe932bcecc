//! Figures of a model that follow from its tensors alone: how many parameters, and the network and rank of an adapter.
//!
//! Not here: what the model is (`judge`), its precision (`precision`).

use std::collections::BTreeMap;

use super::metadata::value_of;
use super::view::is_side_tensor;
use crate::formats::{Header, Tensor};

/// Endings of the tensor whose one length is the rank, and which length that is; and the network they belong to.
const FACTORS: &[(&str, &str, usize)] = &[
    (".lora_down.weight", "lora", 0),
    (".lora.down.weight", "lora", 0),
    ("_lora.down.weight", "lora", 0),
    (".lora_linear_layer.down.weight", "lora", 0),
    (".lora_A.weight", "lora", 0),
    (".lora_A.default.weight", "lora", 0),
    (".lora_A", "lora", 0),
    (".lora_a", "lora", 0),
    (".hada_w1_b", "loha", 0),
    (".lokr_w2_b", "lokr", 0),
    (".lokr_w1_b", "lokr", 0),
    (".lokr_w2", "lokr", usize::MAX),
    (".lokr_w1", "lokr", usize::MAX),
    (".b1.weight", "glora", 0),
    (".oft_blocks", "oft", usize::MAX),
    (".oft_diag", "oft", usize::MAX),
    (".diff", "full", usize::MAX),
];

/// An adapter's way of changing a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// `lora`, `dora`, `loha`, `lokr`, `glora`, `oft`, `full`.
    pub algorithm: &'static str,
    /// The rank of most of its modules; networks without one have none.
    pub rank: Option<u64>,
    /// The trainer's own word, `networks.lora`.
    pub module: Option<String>,
}

/// How many numbers the model has. Values that only belong to a packing (scales, tables) are not counted; of packed
/// weights the container's own lengths count, which for four bits in one byte is half of them.
pub fn parameter_count(header: &Header) -> u64 {
    let weights = header.tensors.iter().filter(|tensor| !is_side_tensor(&tensor.name));
    weights.fold(0, |sum, tensor| sum.saturating_add(values(tensor)))
}

fn values(tensor: &Tensor) -> u64 {
    tensor.shape.iter().fold(1, |product, length| product.saturating_mul(*length))
}

/// The network of an adapter; nothing for any other file.
pub fn network(header: &Header) -> Option<Network> {
    let mut algorithms: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut ranks: BTreeMap<u64, u64> = BTreeMap::new();
    let mut is_dora = false;
    for tensor in &header.tensors {
        is_dora |= tensor.name.ends_with(".dora_scale") || tensor.name.contains("lora_magnitude_vector");
        let found = FACTORS.iter().find(|(ending, ..)| tensor.name.ends_with(ending));
        let Some((_, algorithm, at)) = found else { continue };
        *algorithms.entry(algorithm).or_default() += 1;
        if let Some(rank) = tensor.shape.get(*at) {
            *ranks.entry(*rank).or_default() += 1;
        }
    }
    let algorithm = algorithms.iter().max_by_key(|(_, count)| **count).map(|(algorithm, _)| *algorithm)?;
    // Of ranks that are as frequent the larger one: text encoders often have a smaller one of their own.
    let rank = ranks.iter().max_by_key(|(rank, count)| (**count, **rank)).map(|(rank, _)| *rank);
    Some(Network {
        algorithm: if algorithm == "lora" && is_dora { "dora" } else { algorithm },
        rank,
        module: value_of(header, "ss_network_module").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    fn header(tensors: &[(&str, &[u64])]) -> Header {
        let tensors = tensors
            .iter()
            .map(|(name, shape)| Tensor { name: (*name).into(), dtype: "F16".into(), shape: (*shape).into() })
            .collect();
        Header { format: Format::Safetensors, tensors, metadata: Vec::new(), imports: Vec::new(), data_start: None }
    }

    #[test]
    fn networks_are_told_with_their_rank() {
        for (tensors, expected) in [
            (&[("a.lora_down.weight", &[16, 320][..]), ("a.lora_up.weight", &[320, 16])][..], Some(("lora", Some(16)))),
            (
                &[("a.lora_A.weight", &[8, 4]), ("b.lora_A.weight", &[8, 4]), ("c.lora_A.weight", &[64, 4])],
                Some(("lora", Some(8))),
            ),
            (&[("a.lora_down.weight", &[4, 320, 1, 1]), ("a.dora_scale", &[1, 320])], Some(("dora", Some(4)))),
            (&[("a.hada_w1_b", &[32, 320]), ("a.hada_w1_a", &[320, 32])], Some(("loha", Some(32)))),
            (&[("a.lokr_w1", &[8, 8]), ("a.lokr_w2_b", &[2, 40])], Some(("lokr", Some(2)))),
            (&[("a.lokr_w1", &[8, 8]), ("a.lokr_w2", &[40, 40])], Some(("lokr", None))),
            (&[("model.norm.weight", &[64])], None),
        ] {
            let found = network(&header(tensors));
            assert_eq!(found.map(|found| (found.algorithm, found.rank)), expected, "{tensors:?}");
        }
    }

    #[test]
    fn parameters_are_counted_without_what_belongs_to_a_packing() {
        let header = header(&[("a.weight", &[10, 20]), ("a.scale_weight", &[1]), ("b", &[]), ("c", &[u64::MAX, 3])]);
        assert_eq!(parameter_count(&header), u64::MAX);
        let header = Header { tensors: header.tensors[..3].to_vec(), ..header };
        assert_eq!(parameter_count(&header), 201);
    }
}

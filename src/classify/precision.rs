//! Precision and quantisation, read from the tensors alone.
//!
//! The type that holds most values decides, not the one most tensors have: norms and biases stay in full precision.
//! Invariant: a name only adds the last letter of a GGUF type (`Q4_K` → `Q4_K_M`), never the type.
//! Not here: what the model is.

use super::metadata::value_of;
use super::view::is_side_tensor;
use crate::formats::{Format, Header, Tensor};

/// `general.file_type` of a GGUF and the word for it.
const FILE_TYPES: &[(u64, &str)] = &[
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
    (39, "NVFP4"),
    (40, "Q1_0"),
];

/// In `general.file_type` this bit says that the writer guessed.
const FILE_TYPE_GUESSED: u64 = 1024;

/// Words for the types of whole numbers of bits per value.
const PRECISIONS: &[(&str, &str)] = &[
    ("F64", "fp64"),
    ("F32", "fp32"),
    ("F16", "fp16"),
    ("BF16", "bf16"),
    ("F8_E4M3", "fp8_e4m3fn"),
    ("F8_E4M3FN", "fp8_e4m3fn"),
    ("F8_E5M2", "fp8_e5m2"),
];

/// Share of values another type must hold beside 8-bit floats for the file to be a mixture of purpose.
const MIXED_SHARE_PERCENT: u128 = 10;

/// Dtypes that are told apart: more than there are, and a file may give every tensor one of its own.
const DTYPES_MAX: usize = 64;

#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Precision {
    pub(super) precision: Option<String>,
    pub(super) quantization: Option<String>,
}

pub(super) fn of(header: &Header, file_name: &str) -> Precision {
    let shares = Shares::of(header);
    let Some(dominant) = shares.dominant() else { return Precision::default() };
    if header.format == Format::Gguf {
        return gguf(header, dominant, file_name);
    }
    let quantization = side_marks(header).or_else(|| scales(header, &shares));
    let plain = PRECISIONS.iter().find(|(dtype, _)| *dtype == dominant).map(|(_, word)| (*word).to_owned());
    let packed = quantization.as_deref().is_some_and(|word| !word.contains("fp8"));
    let precision = match plain {
        _ if packed => None,
        Some(_) if shares.percent(dominant) < 50 => Some("mixed".to_owned()),
        plain => plain,
    };
    Precision { precision, quantization: quantization.or_else(|| (dominant == "I8").then(|| "int8".to_owned())) }
}

/// How many values each dtype holds, weights only.
struct Shares<'a> {
    values: Vec<(&'a str, u128)>,
}

impl<'a> Shares<'a> {
    fn of(header: &'a Header) -> Self {
        let weights = |rank_min: usize| {
            header.tensors.iter().filter(move |tensor| tensor.shape.len() >= rank_min && !is_side_tensor(&tensor.name))
        };
        let mut shares = Self { values: Vec::new() };
        weights(2).for_each(|tensor| shares.add(tensor));
        if shares.values.is_empty() {
            // An embedding of one vector has nothing of rank 2.
            weights(1).for_each(|tensor| shares.add(tensor));
        }
        shares
    }

    fn add(&mut self, tensor: &'a Tensor) {
        let count = tensor.shape.iter().fold(1u128, |product, length| product.saturating_mul(u128::from(*length)));
        if let Some((_, sum)) = self.values.iter_mut().find(|(dtype, _)| *dtype == &*tensor.dtype) {
            *sum = sum.saturating_add(count);
        } else if self.values.len() < DTYPES_MAX {
            self.values.push((&tensor.dtype, count));
        }
    }

    fn dominant(&self) -> Option<&'a str> {
        let most = self.values.iter().map(|(_, count)| *count).max()?;
        self.values.iter().find(|(_, count)| *count == most).map(|(dtype, _)| *dtype)
    }

    fn percent(&self, dtype: &str) -> u128 {
        let total = self.values.iter().fold(0u128, |sum, (_, count)| sum.saturating_add(*count)).max(1);
        let own = self.values.iter().find(|(name, _)| *name == dtype).map_or(0, |(_, count)| *count);
        own.saturating_mul(100) / total
    }
}

fn gguf(header: &Header, dominant: &str, file_name: &str) -> Precision {
    if let Some((_, word)) = PRECISIONS.iter().find(|(dtype, _)| *dtype == dominant) {
        return Precision { precision: Some((*word).to_owned()), quantization: None };
    }
    let number = value_of(header, "general.file_type").and_then(|value| value.parse::<u64>().ok());
    let by_file_type = number.and_then(|number| {
        FILE_TYPES.iter().find(|(known, _)| *known == number & !FILE_TYPE_GUESSED).map(|(_, word)| *word)
    });
    let upper = file_name.to_ascii_uppercase().replace('-', "_");
    let by_name = FILE_TYPES.iter().map(|(_, word)| *word).filter(|word| upper.contains(word)).max_by_key(|w| w.len());
    let word = [by_file_type, by_name].into_iter().flatten().find(|word| word.starts_with(dominant));
    Precision { precision: None, quantization: Some(word.unwrap_or(dominant).to_owned()) }
}

/// Packings that show in the names of the tensors beside the weights.
fn side_marks(header: &Header) -> Option<String> {
    const MARKS: [&str; 9] = [
        "bitsandbytes__nf4",
        "bitsandbytes__fp4",
        "SCB",
        "wtscale",
        "wcscales",
        "wscales",
        "qzeros",
        "g_idx",
        "weight_packed",
    ];
    let mut seen = [false; MARKS.len()];
    for tensor in &header.tensors {
        let last = tensor.name.rsplit('.').next().unwrap_or("");
        if let Some(known) = MARKS.iter().position(|mark| *mark == last) {
            seen[known] = true;
        }
    }
    let word = match seen {
        [true, ..] => "nf4",
        [_, true, ..] => "fp4",
        [_, _, true, ..] => "int8",
        [_, _, _, true, ..] | [_, _, _, _, true, ..] => "svdq-fp4",
        [.., true, _, _, _] => "svdq-int4",
        [.., true, true, _] => "gptq",
        [.., true, false, _] => "awq",
        [.., true] => "compressed-tensors",
        _ => return None,
    };
    Some(word.to_owned())
}

/// Packings that are told by the scales of the weights and what is written about them.
fn scales(header: &Header, shares: &Shares<'_>) -> Option<String> {
    let mut formats = Vec::new();
    for (_, value) in header.metadata.iter().filter(|(key, _)| key == "_quantization_metadata") {
        for part in value.split("\"format\"").skip(1) {
            let format = part.trim_start_matches([':', ' ', '"']).split('"').next().unwrap_or("");
            if !format.is_empty() && format.len() <= 32 && !formats.contains(&format) {
                formats.push(format);
            }
        }
    }
    let eight_bit = shares.percent("F8_E4M3") + shares.percent("F8_E5M2");
    let scale = header.tensors.iter().find(|tensor| tensor.name.ends_with(".weight_scale"));
    match formats.as_slice() {
        [] => {}
        [format] if format.starts_with("float8") => {}
        [format] => return Some((*format).to_owned()),
        _ => return Some("fp8_mixed".to_owned()),
    }
    let ends = |suffix: &str| header.tensors.iter().any(|tensor| tensor.name.ends_with(suffix));
    if ends(".weight_scale_2") && shares.percent("U8") > 0 {
        return Some("nvfp4".to_owned());
    }
    if let Some(scale) = scale
        && shares.percent("I8") > 50
    {
        return (scale.shape.len() <= 2).then(|| "int8".to_owned());
    }
    let scaled = scale.is_some() || ends(".scale_weight") || header.tensors.iter().any(|t| &*t.name == "scaled_fp8");
    if eight_bit == 0 || !scaled {
        return None;
    }
    if scale.is_some_and(|scale| matches!(&*scale.dtype, "U8" | "F8_E8M0")) {
        return Some("mxfp8".to_owned());
    }
    let mixed = eight_bit < 100 - MIXED_SHARE_PERCENT && shares.percent("BF16") >= MIXED_SHARE_PERCENT;
    Some(if mixed { "fp8_mixed" } else { "fp8_scaled" }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(format: Format, tensors: &[(&str, &str, &[u64])], metadata: &[(&str, &str)]) -> Header {
        let tensor = |(name, dtype, shape): &(&str, &str, &[u64])| Tensor {
            name: (*name).into(),
            dtype: (*dtype).into(),
            shape: (*shape).into(),
        };
        Header {
            format,
            tensors: tensors.iter().map(tensor).collect(),
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            imports: Vec::new(),
            data_start: None,
        }
    }

    #[test]
    fn the_type_with_most_values_decides() {
        type Case<'a> = (&'a [(&'a str, &'a str, &'a [u64])], Option<&'a str>, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (&[("a.weight", "F16", &[8, 8]), ("b", "F32", &[1000]), ("c", "F32", &[1, 2])], Some("fp16"), None),
            (&[("a.weight", "BF16", &[8, 8])], Some("bf16"), None),
            (&[("emb", "F32", &[768])], Some("fp32"), None),
            (&[("a.weight", "F8_E4M3", &[64, 64]), ("b.weight", "BF16", &[4, 4])], Some("fp8_e4m3fn"), None),
            (
                &[("a.weight", "F8_E5M2", &[64, 64]), ("a.scale_weight", "F32", &[1])],
                Some("fp8_e5m2"),
                Some("fp8_scaled"),
            ),
            (
                &[("a.weight", "F8_E4M3", &[64, 64]), ("scaled_fp8", "F8_E4M3", &[0])],
                Some("fp8_e4m3fn"),
                Some("fp8_scaled"),
            ),
            (
                &[("a.weight", "F8_E4M3", &[64, 64]), ("a.weight_scale", "U8", &[64, 2])],
                Some("fp8_e4m3fn"),
                Some("mxfp8"),
            ),
            (
                &[("a.weight", "U8", &[64, 1]), ("a.weight.quant_state.bitsandbytes__nf4", "U8", &[9])],
                None,
                Some("nf4"),
            ),
            (&[("a.weight", "I8", &[64, 64]), ("a.SCB", "F32", &[64])], None, Some("int8")),
            (&[("a.qweight", "I8", &[64, 32]), ("a.wscales", "BF16", &[4, 64])], None, Some("svdq-int4")),
            (
                &[("a.qweight", "I32", &[64, 32]), ("a.qzeros", "I32", &[4, 4]), ("a.g_idx", "I32", &[64])],
                None,
                Some("gptq"),
            ),
            (&[("a.weight", "U8", &[64, 32]), ("a.weight_scale_2", "F32", &[1])], None, Some("nvfp4")),
            (&[], None, None),
        ];
        for (tensors, precision, quantization) in cases {
            let found = of(&header(Format::Safetensors, tensors, &[]), "x.safetensors");
            let found = (found.precision.as_deref(), found.quantization.as_deref());
            assert_eq!(found, (*precision, *quantization), "{tensors:?}");
        }
    }

    #[test]
    fn a_dtype_for_every_tensor_makes_no_table_of_them() {
        let dtypes: Vec<String> = (0..1000).map(|number| format!("D{number}")).collect();
        let tensors: Vec<(&str, &str, &[u64])> = dtypes.iter().map(|dtype| (&**dtype, &**dtype, &[8, 8][..])).collect();
        let header = header(Format::Safetensors, &tensors, &[]);
        assert_eq!(Shares::of(&header).values.len(), DTYPES_MAX);
        assert_eq!(of(&header, "x"), Precision::default());
    }

    #[test]
    fn a_gguf_is_called_by_its_majority() {
        for (dtype, file_type, name, expected) in [
            ("Q4_K", Some("15"), "x.gguf", Some("Q4_K_M")),
            ("Q4_K", Some("1039"), "x.gguf", Some("Q4_K_M")),
            ("Q4_K", None, "x-Q4_K_S.gguf", Some("Q4_K_S")),
            ("Q4_K", None, "x.gguf", Some("Q4_K")),
            ("Q8_0", Some("15"), "x-Q4_K_M.gguf", Some("Q8_0")),
            ("F16", Some("1"), "x.gguf", None),
        ] {
            let metadata: Vec<_> = file_type.iter().map(|number| ("general.file_type", *number)).collect();
            let found = of(&header(Format::Gguf, &[("blk.0.w", dtype, &[256, 256])], &metadata), name);
            assert_eq!(found.quantization.as_deref(), expected, "{dtype} {file_type:?} {name}");
        }
    }

    #[test]
    fn written_formats_are_read() {
        let tensors: &[(&str, &str, &[u64])] = &[("a.weight", "F8_E4M3", &[8, 8]), ("a.weight_scale", "F32", &[1])];
        for (value, expected) in [
            (r#"{"layers":{"a":{"format":"float8_e4m3fn"}}}"#, "fp8_scaled"),
            (r#"{"layers":{"a":{"format": "nvfp4"}}}"#, "nvfp4"),
            (r#"{"layers":{"a":{"format":"nvfp4"},"b":{"format":"float8_e4m3fn"}}}"#, "fp8_mixed"),
        ] {
            let found = of(&header(Format::Safetensors, tensors, &[("_quantization_metadata", value)]), "x");
            assert_eq!(found.quantization.as_deref(), Some(expected), "{value}");
        }
    }
}

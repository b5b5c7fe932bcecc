//! The parts of a file: wrappers taken off, and the diffusion, autoencoder and encoder parts under names without
//! their prefix.
//!
//! Invariant: a prefix is taken off a view only, never out of the evidence: which parts are there is itself evidence.
//! Not here: adapters, whose names are turned into one spelling (`adapter`).

use std::borrow::Cow;

use super::view::{Entry, Index, is_side_tensor};
use crate::formats::{Header, Tensor};

/// Dictionaries a saver puts around the weights, best first: the averaged weights win over the raw ones.
const WRAPPERS: &[&str] =
    &["params_ema.", "params-ema.", "params.", "state_dict.", "model_state_dict.", "weights.", "ema."];

/// Prefixes of a wrapped module; they say nothing when every tensor has them.
const SHARED: &[&str] = &["module.", "_orig_mod.", "model.module.", "netG.", "net_g.", "model_ema.module."];

/// Marks of a wrapped module inside a name.
const INFIXES: &[&str] = &["._orig_mod.", "._fsdp_wrapped_module.", "._checkpoint_wrapped_module."];

/// Prefixes of the diffusion part. The first is sure; of the others the one with most tensors is taken.
const DIFFUSION: &[&str] =
    &["model.diffusion_model.", "diffusion_model.", "model.model.", "net.", "transformer.", "unet.", "model."];

/// Prefixes of the autoencoder in a checkpoint.
const AUTOENCODER: &[&str] = &["first_stage_model.", "vae.", "pretransform.model."];

/// Prefixes of text and image encoders in a checkpoint.
const ENCODER: &[&str] = &["cond_stage_model.", "conditioner.embedders.", "text_encoders.", "te.", "text_encoder."];

/// What a standalone text encoder may carry in front of its names.
const ENCODER_SHARED: &[&str] = &[
    "text_encoders.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.",
    "cond_stage_model.transformer.",
    "cond_stage_model.",
    "text_encoder.",
    "transformer.",
    "te.",
];

/// Tensors of a packed file that belong to no module, and are no part of a wrapped one.
const PACKING_MARKS: &[&str] = &["scaled_fp8"];

/// Tensors a prefix must have before it counts as a part.
const PART_TENSORS_MIN: usize = 2;

/// Names after the wrappers are off, with their tensors.
pub(super) struct Unwrapped<'a> {
    names: Vec<(&'a str, &'a Tensor)>,
}

impl<'a> Unwrapped<'a> {
    pub(super) fn new(header: &'a Header) -> Self {
        let named = |tensor: &'a Tensor| (&*tensor.name, tensor);
        let marks: Vec<(&str, &Tensor)> =
            header.tensors.iter().filter(|tensor| PACKING_MARKS.contains(&&*tensor.name)).map(named).collect();
        let mut names: Vec<(&str, &Tensor)> = Vec::with_capacity(header.tensors.len());
        names.extend(header.tensors.iter().map(named).filter(|(name, _)| !name.is_empty() && !is_side_tensor(name)));
        // Two wrappers inside each other are usual (`state_dict` of a wrapped module); more are not.
        for _ in 0..3 {
            let before = names.first().map_or(0, |(name, _)| name.len());
            names = without_wrapper(names);
            if names.first().map_or(0, |(name, _)| name.len()) == before {
                break;
            }
        }
        names.extend(marks);
        Self { names }
    }

    /// What lies in the one dictionary that holds everything, when there is one.
    pub(super) fn inner(&self) -> Option<Self> {
        let (first, _) = self.names.first()?;
        let wrapper = &first[..=first.find('.')?];
        let names: Option<Vec<_>> =
            self.names.iter().map(|(name, tensor)| Some((name.strip_prefix(wrapper)?, *tensor))).collect();
        Some(Self { names: names? })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.names.iter().copied()
    }

    pub(super) fn index(&self) -> Index<'a> {
        Index::new(self.names().map(|(name, tensor)| entry(name, tensor)))
    }
}

/// Where the parts of a file begin.
#[derive(Default, Debug)]
pub(super) struct Prefixes {
    pub(super) diffusion: Option<String>,
    pub(super) autoencoder: Option<String>,
    /// Of a text encoder that still carries the prefix of the checkpoint or pipeline it was taken from.
    pub(super) encoder: Option<String>,
    /// Whether an autoencoder or an encoder lies beside the diffusion part.
    pub(super) whole: bool,
}

impl Prefixes {
    pub(super) fn of(index: &Index<'_>) -> Self {
        let has = |prefix: &&&str| index.count(prefix) >= PART_TENSORS_MIN;
        Self {
            diffusion: diffusion(index).map(str::to_owned),
            autoencoder: AUTOENCODER.iter().find(has).map(|prefix| (*prefix).to_owned()),
            encoder: encoder(index),
            whole: AUTOENCODER.iter().chain(ENCODER).any(|prefix| has(&prefix)),
        }
    }
}

/// The sure prefix, or the one most tensors have, when it is most of them.
fn diffusion(index: &Index<'_>) -> Option<&'static str> {
    if index.count(DIFFUSION[0]) >= PART_TENSORS_MIN {
        return Some(DIFFUSION[0]);
    }
    // The earlier of two equals, because it is the longer prefix.
    let counts = DIFFUSION.iter().rev().map(|prefix| (index.count(prefix), *prefix));
    let (count, prefix) = counts.max_by_key(|(count, _)| *count)?;
    (count >= PART_TENSORS_MIN && count * 2 > index.len()).then_some(prefix)
}

fn encoder(index: &Index<'_>) -> Option<String> {
    let prefix = ENCODER_SHARED.iter().find(|prefix| index.count(prefix) * 10 >= index.len() * 9)?;
    if *prefix != "text_encoders." {
        return Some((*prefix).to_owned());
    }
    // `text_encoders.t5xxl.transformer.` and its like.
    let name = index.first_under(prefix)?;
    let end = prefix.len() + name[prefix.len()..].find('.')? + 1;
    let inner = if name[end..].starts_with("transformer.") { "transformer." } else { "" };
    Some(format!("{}{inner}", &name[..end]))
}

fn without_wrapper<'a>(names: Vec<(&'a str, &'a Tensor)>) -> Vec<(&'a str, &'a Tensor)> {
    let mut counts = [0usize; WRAPPERS.len()];
    for (name, _) in &names {
        let first = name.find('.').map_or("", |end| &name[..=end]);
        if let Some(known) = WRAPPERS.iter().position(|wrapper| *wrapper == first) {
            counts[known] += 1;
        }
    }
    // Beside a wrapped model lie the states of an optimiser, and raw weights beside averaged ones.
    let wrapper = WRAPPERS.iter().zip(counts).find(|(wrapper, count)| {
        *count > 0 && (count * 2 >= names.len() || matches!(**wrapper, "params_ema." | "params-ema."))
    });
    if let Some((wrapper, _)) = wrapper {
        return names.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(wrapper)?, tensor))).collect();
    }
    let shared =
        SHARED.iter().find(|prefix| !names.is_empty() && names.iter().all(|(name, _)| name.starts_with(**prefix)));
    match shared {
        Some(prefix) => names.into_iter().map(|(name, tensor)| (&name[prefix.len()..], tensor)).collect(),
        None => names,
    }
}

fn entry<'a>(name: &'a str, tensor: &'a Tensor) -> Entry<'a> {
    // Nearly no name has a part that begins with `_`: one search instead of three.
    let marked = name.contains("._") && INFIXES.iter().any(|infix| name.contains(infix));
    if marked {
        let plain = INFIXES.iter().fold(name.to_owned(), |name, infix| name.replace(infix, "."));
        return Entry::computed(plain, Cow::Borrowed(&tensor.shape), tensor);
    }
    Entry::new(name, tensor)
}

//! Tensors under names that rules can ask for quickly.
//!
//! An `Index` groups tensors by the skeleton of their name (every number as `#`): a file of thousands of tensors has
//! some dozens to hundreds. A name without `*` is one hash look-up, then a search in its group; a pattern is tried on
//! the skeletons first. A `View` is an index seen from behind a prefix.
//! Invariant: names are taken in the order of the file, so that equal files give equal answers.
//! Not here: which prefix belongs to which part (`parts`), what the names mean (rules).

use std::borrow::Cow;
use std::collections::HashMap;

use super::pattern::{KeyTest, Pattern, Print, push_skeleton};
use crate::formats::Tensor;

/// Most names one index holds. The largest image models have 5,000 tensors, language models in shards 30,000; more
/// would only cost time.
pub(super) const NAMES_MAX: usize = 40_000;

/// Most distinct skeletons: a real file has up to 500. What comes later is not found.
const SKELETONS_MAX: usize = 4_000;

/// Longer names are no name of any library, and patterns are tried byte by byte.
const NAME_BYTES_MAX: usize = 512;

/// Tensors beside a weight that say how it was packed: evidence for the precision, noise for everything else.
const SIDE_PARTS: &[&str] = &[
    "scale_weight",
    "scale_input",
    "weight_scale",
    "weight_scale_2",
    "input_scale",
    "comfy_quant",
    "absmax",
    "quant_map",
    "nested_absmax",
    "nested_quant_map",
    "SCB",
    "qzeros",
    "scales",
    "g_idx",
    "wscales",
    "wtscale",
    "wcscales",
    "smooth_factor",
    "smooth_factor_orig",
    "weight_shape",
];

/// Spellings of a packed weight; rules know it as `.weight`.
const PACKED_SUFFIXES: &[&str] = &[".qweight", ".weight_packed"];

/// One tensor under the name rules know it by.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) shape: Cow<'a, [u64]>,
    pub(super) tensor: &'a Tensor,
    /// The shape is that of the packing.
    packed: bool,
}

impl<'a> Entry<'a> {
    pub(super) fn new(name: &'a str, tensor: &'a Tensor) -> Self {
        let unpacked = PACKED_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = unpacked.map_or(Cow::Borrowed(name), |stem| Cow::Owned(format!("{stem}.weight")));
        // `bitsandbytes` and 4-bit floats keep two values per byte.
        let bytes_of_nf4 = &*tensor.dtype == "U8" && name.ends_with(".weight");
        Self { name, shape: Cow::Borrowed(&tensor.shape), tensor, packed: unpacked.is_some() || bytes_of_nf4 }
    }

    /// An entry whose name and shape are computed.
    pub(super) fn computed(name: String, shape: Cow<'a, [u64]>, tensor: &'a Tensor) -> Self {
        Self { name: Cow::Owned(name), shape, tensor, packed: false }
    }

    fn fits(&self, test: &KeyTest) -> bool {
        // The shape of a packed weight says nothing, so a rule that needs it cannot fire.
        test.shape.as_ref().is_none_or(|shape| !self.packed && shape.fits(&self.shape))
            && (test.dtypes.is_empty() || test.dtypes.iter().any(|dtype| **dtype == *self.tensor.dtype))
    }
}

pub(super) fn is_side_tensor(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let last = parts.next().unwrap_or("");
    // What ends like most tensors needs no look at the list.
    if matches!(last, "weight" | "bias" | "alpha") {
        return false;
    }
    name == "scaled_fp8" || SIDE_PARTS.contains(&last) || parts.next() == Some("quant_state")
}

#[derive(Debug)]
struct Group {
    skeleton: String,
    print: Print,
    members: Vec<u32>,
}

/// Tensors by the skeletons of their names.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    entries: Vec<Entry<'a>>,
    groups: Vec<Group>,
    by_skeleton: HashMap<String, usize>,
}

impl<'a> Index<'a> {
    pub(super) fn new(entries: impl Iterator<Item = Entry<'a>>) -> Self {
        let expected = entries.size_hint().1.unwrap_or(0).min(NAMES_MAX);
        let mut index = Self { entries: Vec::with_capacity(expected), ..Self::default() };
        let mut skeleton = String::new();
        // Blocks repeat the same names in the same order: what followed a group last time mostly follows it again.
        let mut followers: Vec<Option<usize>> = Vec::new();
        let mut last: Option<usize> = None;
        for entry in entries.filter(|entry| entry.name.len() <= NAME_BYTES_MAX).take(NAMES_MAX) {
            let number = index.entries.len() as u32;
            skeleton.clear();
            push_skeleton(&mut skeleton, &entry.name);
            let follower =
                last.and_then(|last| followers[last]).filter(|next| index.groups[*next].skeleton == skeleton);
            let known = follower.or_else(|| index.by_skeleton.get(skeleton.as_str()).copied());
            let found = match known {
                Some(known) => {
                    index.groups[known].members.push(number);
                    Some(known)
                }
                None if index.groups.len() < SKELETONS_MAX => {
                    let new = index.groups.len();
                    index.by_skeleton.insert(skeleton.clone(), new);
                    let print = Print::of(&skeleton);
                    index.groups.push(Group { skeleton: skeleton.clone(), print, members: vec![number] });
                    followers.push(None);
                    Some(new)
                }
                None => None,
            };
            if let (Some(last), Some(_)) = (last, found) {
                followers[last] = found;
            }
            last = found;
            index.entries.push(entry);
        }
        index
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many names begin with a prefix that has no digits at its end.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let mut skeleton = String::new();
        push_skeleton(&mut skeleton, prefix);
        self.groups.iter().filter(|group| group.skeleton.starts_with(&skeleton)).map(|group| group.members.len()).sum()
    }

    /// The first name that begins with a prefix.
    pub(super) fn first_under(&self, prefix: &str) -> Option<&str> {
        let mut skeleton = String::new();
        push_skeleton(&mut skeleton, prefix);
        let group = self.groups.iter().find(|group| group.skeleton.starts_with(&skeleton))?;
        group.members.iter().map(|&number| &*self.entries[number as usize].name).find(|name| name.starts_with(prefix))
    }
}

/// The names of an index that begin with a prefix, without it.
#[derive(Debug)]
pub(super) struct View<'i, 'a> {
    index: &'i Index<'a>,
    prefix: &'i str,
    skeleton_prefix: String,
}

impl<'i, 'a> View<'i, 'a> {
    pub(super) fn new(index: &'i Index<'a>, prefix: &'i str) -> Self {
        let mut skeleton_prefix = String::new();
        push_skeleton(&mut skeleton_prefix, prefix);
        Self { index, prefix, skeleton_prefix }
    }

    /// The first tensor a condition is true of.
    pub(super) fn find(&self, test: &KeyTest) -> Option<&'i Entry<'a>> {
        test.patterns.iter().find_map(|pattern| self.find_pattern(pattern, test))
    }

    fn find_pattern(&self, pattern: &Pattern, test: &KeyTest) -> Option<&'i Entry<'a>> {
        if let Some(skeleton) = pattern.exact_skeleton() {
            let known = if self.prefix.is_empty() {
                self.index.by_skeleton.get(skeleton)
            } else {
                self.index.by_skeleton.get(&format!("{}{skeleton}", self.skeleton_prefix))
            };
            return self.member(&self.index.groups[*known?], pattern, test);
        }
        self.index
            .groups
            .iter()
            .filter(|group| pattern.can_match(group.print))
            .filter(|group| {
                let inner = group.skeleton.strip_prefix(&*self.skeleton_prefix);
                inner.is_some_and(|inner| pattern.matches_skeleton(inner))
            })
            .find_map(|group| self.member(group, pattern, test))
    }

    fn member(&self, group: &'i Group, pattern: &Pattern, test: &KeyTest) -> Option<&'i Entry<'a>> {
        let entries = group.members.iter().map(|&number| &self.index.entries[number as usize]);
        entries
            .filter(|entry| entry.name.strip_prefix(self.prefix).is_some_and(|inner| pattern.matches(inner)))
            .find(|entry| entry.fits(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        Tensor { name: name.into(), dtype: "F16".into(), shape: shape.into() }
    }

    #[test]
    fn names_are_found_exactly_and_by_pattern() {
        let tensors = [
            tensor("blocks.0.attn2.to_k.weight", &[8, 768]),
            tensor("blocks.19.attn2.to_k.weight", &[8, 1024]),
            tensor("blocks.0.proj.qweight", &[4, 4]),
            tensor(&"x".repeat(600), &[1]),
        ];
        let index = Index::new(tensors.iter().map(|tensor| Entry::new(&tensor.name, tensor)));
        assert_eq!(index.len(), 3, "a name without measure is left out");
        assert_eq!((index.count("blocks.0."), index.count("blocks.0.p")), (3, 1));
        assert_eq!(index.first_under("blocks.1"), Some("blocks.19.attn2.to_k.weight"));
        let view = View::new(&index, "");
        for (condition, expected) in [
            ("blocks.0.attn2.to_k.weight", Some("blocks.0.attn2.to_k.weight")),
            ("blocks.0.attn2.to_k.weight [*,1024]", None),
            ("*attn2.to_k.weight [*,1024]", Some("blocks.19.attn2.to_k.weight")),
            ("blocks.#10-.*", Some("blocks.19.attn2.to_k.weight")),
            ("blocks.#20-.*", None),
            ("blocks.0.proj.weight", Some("blocks.0.proj.weight")),
            ("blocks.0.proj.weight [4,4]", None),
            ("blocks.0.attn2.to_k.weight @BF16", None),
        ] {
            let test = KeyTest::parse(condition).expect(condition);
            assert_eq!(view.find(&test).map(|entry| &*entry.name), expected, "{condition}");
        }
    }

    #[test]
    fn a_prefix_is_no_part_of_the_names() {
        let tensors = [tensor("te.t5xxl.a.0.b", &[8]), tensor("te.t6xxl.a.1.b", &[8]), tensor("a.2.b", &[8])];
        let index = Index::new(tensors.iter().map(|tensor| Entry::new(&tensor.name, tensor)));
        let view = View::new(&index, "te.t5xxl.");
        for (condition, expected) in
            [("a.0.b", true), ("a.1.b", false), ("a.2.b", false), ("*.#0-.b", true), ("te*", false)]
        {
            let test = KeyTest::parse(condition).expect(condition);
            assert_eq!(view.find(&test).is_some(), expected, "{condition}");
        }
    }

    #[test]
    fn the_side_tensors_of_a_packing_are_known() {
        for (name, expected) in [
            ("a.scale_weight", true),
            ("scaled_fp8", true),
            ("a.weight.quant_state.bitsandbytes__nf4", true),
            ("a.weight.absmax", true),
            ("a.alpha", false),
            ("a.scale", false),
        ] {
            assert_eq!(is_side_tensor(name), expected, "{name}");
        }
    }
}

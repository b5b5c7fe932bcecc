//! Words that wake an adapter, from what its trainer wrote down.
//!
//! Invariant: few and short, however large the metadata. Not here: words a hub publishes.

use std::collections::BTreeMap;

use super::metadata::{shortened, value_of};
use crate::formats::Header;

/// More words than a prompt has room for.
const WORDS_MAX: usize = 12;

/// Longest word kept; a phrase of a caption is not a trigger.
const WORD_BYTES_MAX: usize = 96;

/// Distinct tags that are counted: a training has up to some ten thousand.
const TAGS_MAX: usize = 50_000;

/// A tag that is in less than a third of the pictures of the most frequent one describes pictures, not the subject.
const FREQUENT_DIVISOR: u64 = 3;

pub(super) fn of(header: &Header) -> Vec<String> {
    let phrase = value_of(header, "modelspec.trigger_phrase").or_else(|| value_of(header, "instance_prompt"));
    let mut words: Vec<String> = Vec::new();
    let listed = phrase.into_iter().flat_map(|phrase| phrase.split([',', ';', '\n']));
    for word in listed.map(str::to_owned).chain(frequent_tags(header)) {
        let word = shortened(word.trim(), WORD_BYTES_MAX);
        if !word.is_empty() && words.len() < WORDS_MAX && !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Tags by falling count, those of equal count by name: folder → tag → count.
fn frequent_tags(header: &Header) -> Vec<String> {
    let counts = value_of(header, "ss_tag_frequency")
        .and_then(|json| serde_json::from_str::<BTreeMap<String, BTreeMap<String, u64>>>(json).ok())
        .unwrap_or_default();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (tag, count) in counts.values().flatten().take(TAGS_MAX) {
        let tag = tag.trim();
        if !tag.is_empty() && tag.len() <= WORD_BYTES_MAX {
            let sum = sums.entry(tag).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    let most = sums.values().copied().max().unwrap_or(0);
    let mut tags: Vec<_> =
        sums.into_iter().filter(|(_, count)| *count > 0 && *count >= most / FREQUENT_DIVISOR).collect();
    tags.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    tags.into_iter().take(WORDS_MAX).map(|(tag, _)| tag.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    #[test]
    fn phrases_come_first_then_frequent_tags() {
        for (metadata, expected) in [
            (vec![("modelspec.trigger_phrase", "ohwx man, in style")], "ohwx man|in style"),
            (vec![("ss_tag_frequency", r#"{"10_a":{"sks":30,"1girl":29,"rare":2},"b":{"sks":1}}"#)], "sks|1girl"),
            (vec![("modelspec.trigger_phrase", "sks"), ("ss_tag_frequency", r#"{"a":{"sks":3}}"#)], "sks"),
            (vec![("ss_tag_frequency", "not json")], ""),
            (vec![("ss_tag_frequency", r#"{"a":{"sks":18446744073709551615},"b":{"sks":9}}"#)], "sks"),
            (vec![], ""),
        ] {
            let header = Header {
                format: Format::Safetensors,
                tensors: Vec::new(),
                metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
                imports: Vec::new(),
                data_start: None,
            };
            assert_eq!(of(&header).join("|"), expected);
        }
    }
}

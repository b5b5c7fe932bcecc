//! What a later file is called when its name is taken.
//!
//! Invariants: the result is a valid name that keeps the suffix, and the attempts of one name are all different, so
//! whoever tries them in turn ends. Not here: who keeps a name (the library, and `folder` when two collide all the same).

use crate::base::{Digest, EntryName, ModelId, NAME_BYTES_MAX};

/// Digits of the hash in the first attempt: short enough to read, long enough never to need a second in practice.
const MARK_DIGITS: usize = 10;
/// Digits each further attempt adds.
const MARK_DIGITS_STEP: u32 = 6;
/// All digits of a hash.
const DIGEST_DIGITS: usize = 64;
/// A longer suffix is no file type but part of the name, and is shortened with it.
const SUFFIX_BYTES_MAX: usize = 32;

/// `stem~<first 10 hex of sha256>.ext`; without a sha256 `stem~m<model id>.ext`. Shortened to fit 255 bytes.
/// `attempt` counts from 0: later ones take more digits, so that a taken marked name has a successor.
pub fn marked_name(name: &EntryName, sha256: Option<&Digest>, id: ModelId, attempt: u32) -> EntryName {
    let mark = mark(sha256, id, attempt);
    let (stem, suffix) = match name.suffix() {
        suffix if suffix.len() > SUFFIX_BYTES_MAX => (name.as_str(), ""),
        suffix => (name.stem(), suffix),
    };
    let room = NAME_BYTES_MAX - mark.len() - suffix.len();
    let end = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    EntryName::new(&format!("{}{mark}{suffix}", &stem[..end])).expect("a valid name with a mark inside is valid")
}

fn mark(sha256: Option<&Digest>, id: ModelId, attempt: u32) -> String {
    let Some(sha256) = sha256 else {
        return if attempt == 0 { format!("~m{id}") } else { format!("~m{id}-{attempt}") };
    };
    let added = usize::try_from(attempt.saturating_mul(MARK_DIGITS_STEP)).unwrap_or(DIGEST_DIGITS);
    let digits = MARK_DIGITS.saturating_add(added);
    if digits <= DIGEST_DIGITS { format!("~{}", sha256.prefix(digits)) } else { format!("~{sha256}-{attempt}") }
}

/// What must be unique in a folder with `FolderMatch::Stem`: the name without its last suffix.
pub fn stem_key(name: &EntryName) -> &str {
    name.stem()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(text: &str) -> EntryName {
        EntryName::new(text).expect("valid")
    }

    #[test]
    fn the_mark_stands_before_the_suffix() {
        let digest = Digest::from_bytes([0xab; 32]);
        for (text, sha256, attempt, expected) in [
            ("detail.safetensors", Some(digest), 0, "detail~ababababab.safetensors"),
            ("detail.safetensors", Some(digest), 1, "detail~abababababababab.safetensors"),
            ("detail.v2.ckpt", None, 0, "detail.v2~m7.ckpt"),
            ("detail.v2.ckpt", None, 3, "detail.v2~m7-3.ckpt"),
            ("folder", Some(digest), 0, "folder~ababababab"),
            (".hidden", None, 0, ".hidden~m7"),
        ] {
            assert_eq!(marked_name(&name(text), sha256.as_ref(), ModelId::new(7), attempt).as_str(), expected);
        }
    }

    #[test]
    fn long_names_are_shortened_at_a_character() {
        let long = name(&format!("{}.safetensors", "é".repeat(120)));
        let marked = marked_name(&long, None, ModelId::new(i64::MIN), 4_000_000_000);
        assert!(marked.as_str().len() <= NAME_BYTES_MAX && marked.as_str().ends_with("-4000000000.safetensors"));
        let no_type = name(&format!("a.{}", "x".repeat(250)));
        assert!(marked_name(&no_type, None, ModelId::new(1), 0).as_str().ends_with("x~m1"));
    }

    proptest! {
        #[test]
        fn attempts_differ_and_are_valid(text in "[^/\\p{C}\\p{Z}]{1,60}", id: i64, known: bool, bytes: [u8; 32]) {
            let Ok(given) = EntryName::new(&text) else { return Ok(()) };
            let digest = known.then(|| Digest::from_bytes(bytes));
            let attempts = (0..40).chain([u32::MAX]);
            let names: BTreeSet<_> = attempts.map(|n| marked_name(&given, digest.as_ref(), ModelId::new(id), n)).collect();
            prop_assert_eq!(names.len(), 41);
            prop_assert!(!names.contains(&given));
        }
    }
}

//! The words of a name: tokens, and which known words they spell.
//!
//! A name is cut at separators, between letters and digits and at camel case; a known word matches whole tokens in a
//! row, never a part of one: `xl` is in `ponyXL` and not in `pixel`. A longer word hides the shorter ones inside it,
//! so that `flux2` is not also `flux`, and `bakedvae` is no `vae`.
//! Not here: what a word means (rules).

use std::collections::{HashMap, HashSet};

/// Tokens of a name that are looked at; file names end at 255 bytes.
const TOKENS_MAX: usize = 64;

/// Longest known word in tokens: `stable diffusion xl v 1 base`.
const WORD_TOKENS_MAX: usize = 8;

/// Letters and digits of a word as rules compare it.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A word in a rule: `^4x` only begins a name, `x4$` only ends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) text: Box<str>,
    first: bool,
    last: bool,
}

impl Word {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (first, rest) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (last, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let plain = plain(rest);
        if plain.is_empty() || tokens(rest).len() > WORD_TOKENS_MAX {
            return Err(format!("`{text}` is no word of 1 to {WORD_TOKENS_MAX} parts"));
        }
        Ok(Self { text: plain.into(), first, last })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    start: usize,
    end: usize,
}

/// The known words one name spells.
#[derive(Default, Debug)]
pub(super) struct Words {
    places: HashMap<String, Place>,
    count: usize,
}

impl Words {
    pub(super) fn of(name: &str, known: &HashSet<Box<str>>) -> Self {
        let tokens = tokens(name);
        let mut found: Vec<(String, Place)> = Vec::new();
        for start in 0..tokens.len() {
            let mut joined = String::new();
            for (end, token) in tokens.iter().enumerate().skip(start).take(WORD_TOKENS_MAX) {
                joined.push_str(token);
                if known.contains(joined.as_str()) {
                    found.push((joined.clone(), Place { start, end: end + 1 }));
                }
            }
        }
        let hidden = |place: Place| {
            found.iter().any(|(_, other)| {
                other.start <= place.start
                    && place.end <= other.end
                    && other.end - other.start > place.end - place.start
            })
        };
        let places = found.iter().filter(|(_, place)| !hidden(*place)).cloned().collect();
        Self { places, count: tokens.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn has(&self, word: &Word) -> bool {
        self.places
            .get(&*word.text)
            .is_some_and(|place| (!word.first || place.start == 0) && (!word.last || place.end == self.count))
    }
}

/// The name without its last extension, when that is one.
pub(super) fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && is_extension(extension) => stem,
        _ => name,
    }
}

pub(super) fn extension(name: &str) -> Option<String> {
    let (_, extension) = name.rsplit_once('.')?;
    is_extension(extension).then(|| extension.to_ascii_lowercase())
}

fn is_extension(text: &str) -> bool {
    (1..=12).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn tokens(name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut token = String::new();
    let mut previous = ' ';
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        if found.len() >= TOKENS_MAX {
            return found;
        }
        let next_is_lower = characters.peek().is_some_and(|next| next.is_lowercase());
        let border = !character.is_alphanumeric()
            || previous.is_numeric() != character.is_numeric()
            || previous.is_lowercase() && character.is_uppercase()
            // `XLBase` is `XL` and `Base`.
            || previous.is_uppercase() && character.is_uppercase() && next_is_lower;
        if border && !token.is_empty() {
            found.push(std::mem::take(&mut token));
        }
        if character.is_alphanumeric() {
            token.extend(character.to_lowercase());
        }
        previous = character;
    }
    if !token.is_empty() {
        found.push(token);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_into_tokens() {
        for (name, expected) in [
            ("ponyDiffusionV6XL_v6", "pony diffusion v 6 xl v 6"),
            ("sd_xl_base_1.0", "sd xl base 1 0"),
            ("4x-UltraSharp", "4 x ultra sharp"),
            ("flux1-dev (fp8) [e4m3fn]", "flux 1 dev fp 8 e 4 m 3 fn"),
            ("XLBase", "xl base"),
            ("モデル_v1", "モデル v 1"),
            ("", ""),
        ] {
            assert_eq!(tokens(name).join(" "), expected);
        }
    }

    #[test]
    fn words_match_whole_tokens_and_the_longest_wins() {
        let words = ["xl", "flux", "flux2", "vae", "bakedvae", "^4x", "x4$", "sd15", "pony"];
        let words: Vec<_> = words.iter().map(|word| Word::parse(word).expect(word)).collect();
        let known = words.iter().map(|word| word.text.clone()).collect();
        for (name, expected) in [
            ("pixel_art", ""),
            ("ponyXL", "xl pony"),
            ("ponytail", ""),
            ("flux.2-klein", "flux2"),
            ("influx", ""),
            ("dream_bakedVAE", "bakedvae"),
            ("dream vae", "vae"),
            ("4xNomos", "4x"),
            ("nomos_4x", ""),
            ("Real_x4", "x4"),
            ("SD 1.5 style", "sd15"),
        ] {
            let found = Words::of(name, &known);
            let found: Vec<_> = words.iter().filter(|word| found.has(word)).map(|word| &*word.text).collect();
            assert_eq!(found.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn an_extension_has_a_letter() {
        for (name, expected) in [
            ("a.safetensors", "a"),
            ("wan2.1", "wan2.1"),
            (".hidden", ".hidden"),
            ("x.tar.gz", "x.tar"),
            ("plain", "plain"),
        ] {
            assert_eq!(stem(name), expected);
        }
        assert_eq!(extension("A.GGUF").as_deref(), Some("gguf"));
        assert_eq!(extension("wan2.1"), None);
    }
}

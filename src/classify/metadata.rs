//! Tests of one metadata value, and how values are compared.
//!
//! Values are typed by people and trainers: case does not count, `_`, `.` and `-` are one, an empty value is absent.
//! Not here: what a value means (rules), trigger words (`triggers`).

use super::pattern::Pattern;
use crate::formats::Header;

/// Longest part of a value that is compared; tag counts are longer and their frequent words come early enough.
const COMPARED_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Key {
    Exact(Box<str>),
    Like(Pattern),
}

impl Key {
    fn fits(&self, key: &str) -> bool {
        match self {
            Self::Exact(known) => **known == *key,
            Self::Like(pattern) => pattern.matches(key),
        }
    }
}

/// `key` or `key = value`, where both may have wildcards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MetaTest {
    key: Key,
    value: Option<Pattern>,
}

impl MetaTest {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            None => (text, None),
            Some((key, value)) => (key, Some(Pattern::parse(&comparable(value.trim()))?)),
        };
        if key.trim().is_empty() {
            return Err("a metadata key is empty".to_owned());
        }
        let key = match key.trim() {
            exact if !exact.contains('*') => Key::Exact(exact.into()),
            like => Key::Like(Pattern::parse(like)?),
        };
        Ok(Self { key, value })
    }

    /// The key and value it is true of.
    pub(super) fn find<'a>(&self, pairs: &'a [(String, String)]) -> Option<(&'a str, &'a str)> {
        pairs
            .iter()
            .filter(|(key, value)| self.key.fits(key) && !value.is_empty())
            .find(|(_, value)| self.value.as_ref().is_none_or(|pattern| pattern.matches(&comparable(value))))
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The first value of a key that is not empty.
pub(super) fn value_of<'a>(header: &'a Header, key: &str) -> Option<&'a str> {
    header.metadata.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// How values are compared.
pub(super) fn comparable(value: &str) -> String {
    shortened(value, COMPARED_BYTES_MAX)
        .chars()
        .map(|c| match c {
            '_' | '.' => '-',
            // A number is compared as text, and `#` is a wildcard.
            _ => c.to_ascii_lowercase(),
        })
        .collect()
}

/// The value cut at a character.
pub(super) fn shortened(value: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(value.len())).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    #[test]
    fn values_are_compared_as_people_type_them() {
        let metadata = [("a", "SDXL_base_v1.0"), ("empty", ""), ("twice", "x"), ("twice", "y")];
        let header = Header {
            format: Format::Safetensors,
            tensors: Vec::new(),
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            imports: Vec::new(),
            data_start: None,
        };
        for (text, expected) in [
            ("a", true),
            ("a = sdxl-base-v1-0", true),
            ("a = sdxl_base*", true),
            ("a = sd_v1", false),
            ("b", false),
            ("empty", false),
            ("twice = y", true),
            ("tw*e = y", true),
            ("*x", false),
        ] {
            assert_eq!(MetaTest::parse(text).expect(text).find(&header.metadata).is_some(), expected, "{text}");
        }
        assert!(MetaTest::parse(" = x").is_err());
        assert_eq!(shortened("aé", 2), "a");
    }
}

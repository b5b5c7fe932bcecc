//! What people call creators and tags: any text, and the one directory name that stands for it.
//!
//! Invariants: two different labels have two different directory names, whatever they hold, and each name leads back to its
//! label; a directory name is a valid entry that can be shown on a terminal and is not hidden. Texts are compared byte by
//! byte: the normal forms of Unicode are different labels. Not here: which directories there are (`tree`).

use super::name::{EntryName, NAME_BYTES_MAX, cannot_be_shown};
use std::fmt;
use std::sync::Arc;

/// Begins the two digits that stand for a byte which a directory name cannot hold.
const ESCAPE: char = '%';

/// A creator or a tag. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// Why a text cannot be a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelError {
    Empty,
    /// Its directory name would be longer than a filesystem allows.
    TooLong,
}

impl Label {
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.is_empty() {
            return Err(LabelError::Empty);
        }
        if text.len() > NAME_BYTES_MAX || escaped(text).len() > NAME_BYTES_MAX {
            return Err(LabelError::TooLong);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that stands for it: itself, but for `/`, what cannot be shown, a dot in front, and a `%` that could be
    /// taken for an escape. Each byte of those is written as `%` and two digits.
    pub fn directory_name(&self) -> EntryName {
        EntryName::new(&escaped(&self.0)).expect("what a name cannot hold is escaped, and the length was checked")
    }

    /// The label that a directory name stands for; nothing for a name that stands for none.
    pub fn of_directory_name(name: &str) -> Option<Self> {
        let label = Self::new(&unescaped(name)?).ok()?;
        (escaped(&label.0) == name).then_some(label)
    }
}

fn escaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let rest = &text.as_bytes()[at..];
        let is_plain = match character {
            '/' => false,
            '.' => at > 0,
            ESCAPE => byte_of(rest).is_none(),
            other => !cannot_be_shown(other),
        };
        if is_plain {
            name.push(character);
            continue;
        }
        rest[..character.len_utf8()].iter().for_each(|byte| name.push_str(&format!("{ESCAPE}{byte:02X}")));
    }
    name
}

/// Nothing where the escapes give no text.
fn unescaped(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match byte_of(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The byte of an escape that stands at the beginning.
fn byte_of(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than the name of a directory can be",
        })
    }
}

impl std::error::Error for LabelError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(text: &str) -> Label {
        Label::new(text).expect(text)
    }

    #[test]
    fn what_a_name_cannot_hold_is_escaped() {
        for (text, expected) in [
            ("anime", "anime"),
            ("日本 語", "日本 語"),
            ("a/b", "a%2Fb"),
            ("/", "%2F"),
            ("a\nb\0c\u{7F}", "a%0Ab%00c%7F"),
            ("a\u{202E}b", "a%E2%80%AEb"),
            (".", "%2E"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("a.b.", "a.b."),
            ("100%", "100%"),
            ("%", "%"),
            ("50% off", "50% off"),
            ("a%2Fb", "a%252Fb"),
            ("a%2fb", "a%252fb"),
            ("%/x", "%%2Fx"),
            ("%2/", "%2%2F"),
            ("%%41", "%%2541"),
            ("\u{E9}", "\u{E9}"),
            ("e\u{301}", "e\u{301}"),
        ] {
            let name = label(text).directory_name();
            assert_eq!(name.as_str(), expected);
            assert_eq!(Label::of_directory_name(name.as_str()), Some(label(text)), "{text:?}");
        }
    }

    #[test]
    fn only_the_name_of_a_label_leads_to_it() {
        for name in ["", "%41", "a%2fb", "a/b", ".", "..", "%2E%2E", "%FF", "%E2%80", "a\n"] {
            assert_eq!(Label::of_directory_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_longest_label_is_the_one_whose_name_fits() {
        for (unit, bytes) in [("x", 1), ("/", 3), ("é", 2), ("\u{202E}", 9)] {
            let fits = NAME_BYTES_MAX / bytes;
            assert_eq!(
                Label::of_directory_name(label(&unit.repeat(fits)).directory_name().as_str()),
                Some(label(&unit.repeat(fits)))
            );
            assert_eq!(Label::new(&unit.repeat(fits + 1)), Err(LabelError::TooLong), "{unit:?}");
        }
        assert_eq!(Label::new(""), Err(LabelError::Empty));
    }

    /// Texts in which everything that matters is frequent.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["%", "/", ".", "..", "\n", "\0", "\u{1F}", "\u{202E}", "2", "F", "f", "e\u{301}", "é", " "])
                .prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
            1 => prop::sample::select(vec!["%2F", "%00", "%2", "%E2%80%AE", "%252F"]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_name_leads_back_to_its_label(text in text()) {
            let Ok(label) = Label::new(&text) else { return Ok(()) };
            let name = label.directory_name();
            prop_assert!(!name.as_str().starts_with('.'));
            prop_assert_eq!(Label::of_directory_name(name.as_str()), Some(label));
        }

        #[test]
        fn different_labels_have_different_names(one in text(), other in text()) {
            let (Ok(one), Ok(other)) = (Label::new(&one), Label::new(&other)) else { return Ok(()) };
            prop_assert_eq!(one == other, one.directory_name() == other.directory_name());
        }

        /// A name that is no label's own leads to none, so that no label has two.
        #[test]
        fn a_name_is_that_of_its_label_or_of_none(name in text()) {
            if let Some(label) = Label::of_directory_name(&name) {
                let own = label.directory_name();
                prop_assert_eq!(own.as_str(), name.as_str());
            }
        }
    }
}

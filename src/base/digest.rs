//! A 32-byte hash value (SHA-256 or BLAKE3), parsed once at the border.
//!
//! Invariant: `Display` is 64 lower-case hex digits. Not here: computing hashes (`store`).

use std::fmt;

/// A 256-bit digest. Which algorithm made it is told by where it is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestError {
    /// Length of the rejected text, in bytes.
    pub text_bytes: usize,
}

impl Digest {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Accepts exactly 64 hex digits in any case.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let error = DigestError { text_bytes: text.len() };
        if text.len() != 64 {
            return Err(error);
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = hex_value(pair[0]).ok_or(error.clone())?;
            let low = hex_value(pair[1]).ok_or(error.clone())?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first `digits` hex digits (at most 64).
    pub fn prefix(&self, digits: usize) -> String {
        let mut text = self.to_string();
        text.truncate(digits);
        text
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a digest is 64 hex digits, this text has {} bytes or other characters", self.text_bytes)
    }
}

impl std::error::Error for DigestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_lower_cases() {
        let upper = "B94D27B9934D3E08A52E52D7DA7DABFAC484EFE37A5380EE9088F7ACE2EFCDE9";
        let digest = Digest::parse(upper).expect("64 hex digits");
        assert_eq!(digest.to_string(), upper.to_lowercase());
        assert_eq!(digest.prefix(10), "b94d27b993");
    }

    #[test]
    fn refuses_other_lengths_and_letters() {
        for text in ["", "b94d", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert!(Digest::parse(text).is_err(), "{text:?}");
        }
    }
}

//! How sure modelfs must be of what a file is. Invariant: a share from 0 to 1.

use super::ConfigError;
use super::environment::name;
use super::file::SettingsFile;
use super::settings::{Chosen, Origin, Reader};
use crate::classify::CONFIDENCE_MIN;
use std::path::Path;

impl Reader<'_> {
    pub(super) fn classify_threshold(&self, file: &SettingsFile, path: &Path) -> Result<Chosen<f32>, ConfigError> {
        if let Some(value) = self.parsed(name::CLASSIFY_THRESHOLD, parse_share)? {
            return Ok(Chosen { value, origin: Origin::Environment(name::CLASSIFY_THRESHOLD) });
        }
        match file.classify.threshold {
            None => Ok(Chosen { value: CONFIDENCE_MIN, origin: Origin::Default }),
            Some(value) if (0.0..=1.0).contains(&value) => Ok(Chosen { value, origin: Origin::File }),
            Some(value) => {
                let reason = format!("is {value}; write a number from 0 to 1");
                Err(ConfigError::Value { path: path.to_owned(), key: "classify.threshold", reason })
            }
        }
    }
}

fn parse_share(text: &str) -> Result<f32, String> {
    let share = text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        for (text, expected) in
            [("0.7", Some(0.7)), ("0", Some(0.0)), (" 1 ", Some(1.0)), ("1.1", None), ("-0.1", None), ("NaN", None)]
        {
            assert_eq!(parse_share(text).ok(), expected, "{text}");
        }
        assert!(parse_share("much").is_err());
    }
}

//! How hubs are asked what they know about models.

use super::ConfigError;
use super::environment::name;
use super::file::{SettingsFile, parse_duration};
use super::settings::{Chosen, Origin, Reader};
use std::time::Duration;

/// As fast as a person reads pages; nothing is published about what is allowed.
const SPACING_DEFAULT: Duration = Duration::from_secs(3);
/// Most models that are published at all are so within days of being made; a month finds those that came back.
const UNKNOWN_FOR_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Clone, Debug)]
pub struct Enriching {
    /// Least time between two requests.
    pub spacing: Chosen<Duration>,
    /// How long "not known" is believed.
    pub unknown_for: Chosen<Duration>,
    /// Ask about what was imported, in the background.
    pub after_import: Chosen<bool>,
}

impl Reader<'_> {
    pub(super) fn enriching(&self, file: &SettingsFile) -> Result<Enriching, ConfigError> {
        Ok(Enriching {
            spacing: self.duration(name::ENRICH_SPACING, file.enrich.spacing, SPACING_DEFAULT)?,
            unknown_for: self.duration(name::ENRICH_UNKNOWN_FOR, file.enrich.unknown_for, UNKNOWN_FOR_DEFAULT)?,
            after_import: self.after_import(file)?,
        })
    }

    fn after_import(&self, file: &SettingsFile) -> Result<Chosen<bool>, ConfigError> {
        if let Some(value) = self.parsed(name::ENRICH_AFTER_IMPORT, parse_switch)? {
            return Ok(Chosen { value, origin: Origin::Environment(name::ENRICH_AFTER_IMPORT) });
        }
        let in_file = file.enrich.after_import;
        let origin = if in_file.is_some() { Origin::File } else { Origin::Default };
        Ok(Chosen { value: in_file.unwrap_or(true), origin })
    }

    fn duration(
        &self,
        variable: &'static str,
        in_file: Option<Duration>,
        default: Duration,
    ) -> Result<Chosen<Duration>, ConfigError> {
        if let Some(value) = self.parsed(variable, parse_duration)? {
            return Ok(Chosen { value, origin: Origin::Environment(variable) });
        }
        let origin = if in_file.is_some() { Origin::File } else { Origin::Default };
        Ok(Chosen { value: in_file.unwrap_or(default), origin })
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Ok(true),
        "0" | "off" | "no" | "false" => Ok(false),
        _ => Err(format!("`{text}` is no switch; write 1 or 0")),
    }
}

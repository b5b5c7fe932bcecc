//! How much of the disk and of the line modelfs takes. Invariant: 0 in a setting means no limit, and only here.

use super::ConfigError;
use super::environment::name;
use super::file::SettingsFile;
use super::settings::{Chosen, Origin, Reader};
use std::path::Path;

/// Room for the databases and for what other programs write in the meantime.
const MIN_FREE_BYTES_DEFAULT: u64 = 64 << 20;
/// A bound, which only files reach whose hosts give each connection little: no more are opened than bring more.
const STREAMS_DEFAULT: u64 = 16;
/// What download managers open at most; firewalls take more for an attack.
const STREAMS_MAX: u64 = 16;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of downloaded files in the store before the ones unused for longest are evicted; 0: no limit.
    pub cache_limit_bytes: Chosen<u64>,
    /// Bytes of the disk that downloads leave free.
    pub min_free_bytes: Chosen<u64>,
    /// Bytes a second of all downloads together; 0: no limit.
    pub rate_bytes_max: Chosen<u64>,
    /// Connections for one file.
    pub streams: Chosen<u64>,
}

impl Reader<'_> {
    pub(super) fn limits(&self, file: &SettingsFile, path: &Path) -> Result<Limits, ConfigError> {
        let streams = self.number(name::STREAMS, file.fetch.streams, STREAMS_DEFAULT, parse_streams)?;
        if parse_streams(&streams.value.to_string()).is_err() {
            let reason = format!("is {}; write 1 to {STREAMS_MAX}", streams.value);
            return Err(ConfigError::Value { path: path.to_owned(), key: "fetch.streams", reason });
        }
        Ok(Limits {
            cache_limit_bytes: self.number(name::CACHE_LIMIT, file.store.cache_limit, 0, super::file::parse_size)?,
            min_free_bytes: self.number(
                name::MIN_FREE,
                file.store.min_free,
                MIN_FREE_BYTES_DEFAULT,
                super::file::parse_size,
            )?,
            rate_bytes_max: self.number(name::MAX_RATE, file.fetch.max_rate, 0, super::file::parse_size)?,
            streams,
        })
    }

    fn number(
        &self,
        variable: &'static str,
        in_file: Option<u64>,
        default: u64,
        parse: impl Fn(&str) -> Result<u64, String>,
    ) -> Result<Chosen<u64>, ConfigError> {
        if let Some(value) = self.parsed(variable, parse)? {
            return Ok(Chosen { value, origin: Origin::Environment(variable) });
        }
        let origin = if in_file.is_some() { Origin::File } else { Origin::Default };
        Ok(Chosen { value: in_file.unwrap_or(default), origin })
    }
}

fn parse_streams(text: &str) -> Result<u64, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=STREAMS_MAX).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number from 1 to {STREAMS_MAX}"))
}

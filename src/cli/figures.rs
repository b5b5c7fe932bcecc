//! Sizes, times, durations and counts as people and programs read them. Invariant: no rounding to zero of what is there.

use crate::base::Timestamp;
use bytesize::ByteSize;
use std::time::Duration;

/// `6.5 GiB`
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `1 file`, `2 files`
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    format!("{number} {}", if number == 1 { noun } else { &plural })
}

/// `2026-11-24T16:22:05Z`
pub fn time(timestamp: Timestamp) -> String {
    humantime::format_rfc3339_seconds(timestamp.to_system_time()).to_string()
}

/// `2m 5s`, without fractions.
pub fn duration(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(7_000_000_000), "6.5 GiB");
        assert_eq!(count(1_usize, "file"), "1 file");
        assert_eq!(count(0_u64, "repository"), "0 repositories");
        assert_eq!(time(Timestamp::from_unix_ns(1_700_000_000_999_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(duration(Duration::from_millis(125_900)), "2m 5s");
    }
}

//! Time as a value. Invariant: nothing in the core asks the operating system what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_unix_ns(unix_ns: i64) -> Self {
        Self(unix_ns)
    }

    pub const fn unix_ns(self) -> i64 {
        self.0
    }

    /// The first moment after this one; directory times must strictly increase.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Times before 1970 become 1970.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    pub fn from_system_time(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Where the time comes from; tests give their own.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

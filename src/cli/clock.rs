//! The clock of the operating system.

use crate::base::{Clock, Timestamp};
use std::time::SystemTime;

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }
}

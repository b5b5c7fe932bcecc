//! Keeps all downloads together below a rate, by letting bytes wait in their sockets.
//!
//! Invariant: nothing is delayed without a limit. Its lock is a leaf.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// What may come at once after a pause: enough for a header to arrive without delay.
const BURST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s_max: Option<u64>,
    /// When everything that arrived so far has been paid for.
    paid_at: Mutex<Instant>,
}

impl Pace {
    pub fn new(bytes_per_s_max: Option<u64>) -> Self {
        Self { bytes_per_s_max: bytes_per_s_max.filter(|rate| *rate > 0), paid_at: Mutex::new(Instant::now()) }
    }

    /// Notes bytes that arrived; the moment before which no more should be taken, if that is not now.
    pub fn note(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_s_max?;
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut paid_at = self.paid_at.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *paid_at = (*paid_at).max(earliest) + cost;
        (*paid_at > now).then_some(*paid_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_paid_for_at_the_rate() {
        let start = Instant::now();
        let pace = Pace::new(Some(1000));
        let mut now = start + Duration::from_secs(10);
        let begin = now;
        for _ in 0..100 {
            now = pace.note(100, now).unwrap_or(now);
        }
        let spent = now - begin;
        assert!(spent <= Duration::from_secs(10) && spent >= Duration::from_secs(10) - BURST, "{spent:?}");
        assert_eq!(Pace::new(None).note(usize::MAX, now), None);
        assert_eq!(Pace::new(Some(0)).note(usize::MAX, now), None);
    }
}

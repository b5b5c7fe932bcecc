//! How fast bytes arrive, over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Long enough to be calm, short enough to notice a change of the line.
const WINDOW: Duration = Duration::from_secs(5);
/// Samples closer than this are one; bounds the queue to `WINDOW / STEP`.
const STEP: Duration = Duration::from_millis(100);

/// Samples of the total of bytes that have arrived, the oldest just outside the window.
#[derive(Debug, Default)]
pub(super) struct Speed {
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    pub fn sample(&mut self, now: Instant, total_bytes: u64) {
        if self.samples.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < STEP) {
            return;
        }
        self.samples.push_back((now, total_bytes));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    pub fn bytes_per_s(&mut self, now: Instant, total_bytes: u64) -> Option<u64> {
        self.sample(now, total_bytes);
        let (since, bytes) = self.samples.front().copied()?;
        let elapsed_ms = u64::try_from(now.saturating_duration_since(since).as_millis()).ok().filter(|ms| *ms > 0)?;
        Some(total_bytes.saturating_sub(bytes).saturating_mul(1000) / elapsed_ms)
    }

    /// A new download is not slowed by the pause before it.
    pub fn restart(&mut self, now: Instant, total_bytes: u64) {
        self.samples.clear();
        self.samples.push_back((now, total_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides_over_the_samples() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speed = Speed::default();
        speed.restart(start, 500);
        for tick in 1..=100 {
            speed.sample(at(tick * 100), 500 + tick * 1000);
        }
        assert_eq!(speed.bytes_per_s(at(10_000), 500 + 100_000), Some(10_000));
        assert!(speed.samples.len() <= 60);
        assert_eq!(speed.bytes_per_s(at(100_000), 500 + 100_000), Some(0), "nothing came for long");
        speed.restart(at(200_000), 9);
        assert_eq!(speed.bytes_per_s(at(200_000), 9), None);
        assert_eq!(speed.bytes_per_s(at(201_000), 1009), Some(1000));
    }
}

//! How many bodies are being sent at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
pub struct Crowd {
    now: Arc<AtomicUsize>,
    most: AtomicUsize,
}

/// One body; leaves when dropped.
pub struct Turn(Arc<AtomicUsize>);

impl Crowd {
    /// Nothing when there would be more than that.
    pub fn enter(&self, most: usize) -> Option<Turn> {
        let turn = Turn(Arc::clone(&self.now));
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        if now > most {
            return None;
        }
        self.most.fetch_max(now, Ordering::Relaxed);
        Some(turn)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

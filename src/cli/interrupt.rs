//! Ctrl-C as a request: the first one asks a job to stop in order, the second one ends the process.
//!
//! Not here: a mount, whose signals belong to the kernel adapter (`fuse`).

use crate::store::Cancel;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A signal handler can be given nothing, so what it sets is global. Set once, before the handler.
static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A request that SIGINT and SIGTERM give.
pub fn cancel_on_signal() -> Cancel {
    let cancel = Cancel::new();
    let flag = REQUESTED.get_or_init(|| cancel.flag());
    if !Arc::ptr_eq(flag, &cancel.flag()) {
        // A second job in one process has no handler of its own; commands run one job.
        return cancel;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only loads and stores atomics and calls `signal`, all of which a handler may do.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
    cancel
}

extern "C" fn on_signal(signal: libc::c_int) {
    if let Some(flag) = REQUESTED.get() {
        flag.store(true, Ordering::Relaxed);
    }
    // SAFETY: `signal` is async-signal-safe, and the default action is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

//! Notices that somebody else has written, within milliseconds and without asking all the time.
//!
//! The kernel tells of every write to the database's files; whether it is a transaction that can be seen already, only
//! SQLite knows. Invariant: without the kernel's help (no watches left, an odd filesystem) everything works by asking,
//! only later. Not here: what was written.

use super::CatalogError;
use rusqlite::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How often the database is asked where the kernel tells nothing. A change must be visible within 250 ms.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The file is written before the transaction can be seen: SQLite syncs in between. So after a sign the question is
/// repeated for the time of a slow sync; a later one is found by the usual asking.
const SETTLE_EVERY: Duration = Duration::from_millis(2);
const SETTLE_TRIES: u32 = 25;
/// Room for a burst of signs; what does not fit is read the next time.
const EVENT_BYTES: usize = 4096;

pub struct Watcher {
    connection: Connection,
    seen: Option<i64>,
    /// Writes to the folder of the databases; `None` where the kernel does not tell.
    signs: Option<OwnedFd>,
}

impl Watcher {
    pub(super) fn new(connection: Connection, folder: &Path) -> Self {
        let signs = watch(folder);
        if signs.is_none() {
            tracing::debug!(
                "the kernel does not tell of changes in {}: the catalog is asked instead",
                folder.display()
            );
        }
        Self { connection, seen: None, signs }
    }

    /// Whether anything was written since the last call (`PRAGMA data_version`); the first call answers `true`.
    pub fn changed(&mut self) -> Result<bool, CatalogError> {
        let version: i64 = self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok(self.seen.replace(version) != Some(version))
    }

    /// As `changed`, but waits for it; at most about `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, CatalogError> {
        if self.changed()? {
            return Ok(true);
        }
        if !self.sign(timeout) {
            return self.changed();
        }
        for _ in 0..SETTLE_TRIES {
            if self.changed()? {
                return Ok(true);
            }
            std::thread::sleep(SETTLE_EVERY);
        }
        self.changed()
    }

    /// Waits for a sign of a write.
    fn sign(&mut self, timeout: Duration) -> bool {
        let timeout = timeout.min(ASK_EVERY);
        let Some(signs) = &self.signs else {
            std::thread::sleep(timeout);
            return false;
        };
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let told = poll(&mut [PollFd::new(signs, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0);
        if told {
            let mut events = [0; EVENT_BYTES];
            // Only that there were some counts; an interrupted read is repeated by the next call.
            let _ = rustix::io::read(signs, &mut events);
        }
        told
    }
}

fn watch(folder: &Path) -> Option<OwnedFd> {
    let signs = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
    inotify::add_watch(&signs, folder, WatchFlags::MODIFY | WatchFlags::CREATE).ok()?;
    Some(signs)
}

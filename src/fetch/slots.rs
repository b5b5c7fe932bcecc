//! How many requests run at once in this process, and with them how many bytes wait in memory.
//!
//! A slot is the reservation of a stream's buffers: it is taken before a request is made and given back after its last
//! byte is on disk. Invariant: requests that a read waits for have slots of their own, which no background work takes.

use super::file::File;
use crate::plan::Purpose;
use crate::store::CHUNK_BYTES;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Requests for reads that wait, of one file: one for each of the threads loaders use.
pub(super) const DEMAND_PER_FILE_MAX: usize = 8;
/// One file may have sixteen; four are left for what is read ahead or begun beside it.
const BACKGROUND_MAX: usize = 20;
const DEMAND_MAX: usize = 12;
/// A chunk that arrives and a chunk that is being written.
const STREAM_BYTES: u64 = 2 * CHUNK_BYTES;
/// Bytes in flight between sockets and disk, all files together: a third of the daemon's memory goal.
const BUFFER_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!((BACKGROUND_MAX + DEMAND_MAX) as u64 * STREAM_BYTES <= BUFFER_BYTES_MAX);

/// Which kind of slot a request holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Demand,
    Background,
}

/// All slots. Its lock is a leaf.
#[derive(Default)]
pub(super) struct Slots {
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    demand: usize,
    background: usize,
    /// Contents that found no slot; at most one entry each. They are kept alive: a download that was asked for goes on when
    /// nobody has the file open.
    waiting: VecDeque<Arc<File>>,
}

impl Slots {
    /// A slot for one request; without one the file is told when a slot is free.
    pub fn take(&self, purpose: Purpose, file: &Arc<File>) -> Option<Slot> {
        let mut used = self.used.lock();
        if purpose == Purpose::Demand && used.demand < DEMAND_MAX {
            used.demand += 1;
            return Some(Slot::Demand);
        }
        if used.background < BACKGROUND_MAX {
            used.background += 1;
            return Some(Slot::Background);
        }
        if !used.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, file)) {
            used.waiting.push_back(Arc::clone(file));
        }
        None
    }

    /// Gives a slot back and names the contents that wait for one, the longest first.
    pub fn release(&self, slot: Slot) -> Vec<Arc<File>> {
        let mut used = self.used.lock();
        match slot {
            Slot::Demand => used.demand -= 1,
            Slot::Background => used.background -= 1,
        }
        used.waiting.drain(..).collect()
    }

    /// The engine stops: nobody is told any more.
    pub fn forget_waiting(&self) {
        let waiting = std::mem::take(&mut self.used.lock().waiting);
        // Outside the lock: the last reference to a content closes its files.
        drop(waiting);
    }
}

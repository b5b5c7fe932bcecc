//! Open files and directories, by the handle numbers the kernel holds.
//!
//! Invariants: handle numbers are never used twice; a handle keeps what it was opened with, whatever changes in the
//! catalog. The locks are leaves, held for table work only.

use super::backend::{Entries, Ranges};
use super::nodes::KernelNode;
use crate::base::InodeNo;
use fuser::FileHandle;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where the bytes of an open file come from.
pub enum Body {
    /// The kernel reads the backing file by itself and never asks.
    Passthrough,
    Resident(File),
    Remote(Arc<dyn Ranges>),
    /// A live file, as it was when it was opened.
    Made(Vec<u8>),
}

pub struct OpenFile {
    pub node: KernelNode,
    pub size_bytes: u64,
    pub body: Body,
    /// Whether a failure of this handle was logged: an application may repeat a read for ever.
    pub complained: AtomicBool,
}

pub struct OpenDirectory {
    pub ino: InodeNo,
    /// Replaced when the reader rewinds.
    pub entries: Mutex<Arc<dyn Entries>>,
}

/// One kind of open thing.
pub struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    pub fn new() -> Self {
        Self { next: AtomicU64::new(1), open: RwLock::new(HashMap::new()) }
    }

    pub fn insert(&self, thing: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(thing));
        FileHandle(number)
    }

    pub fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.read().get(&handle.0).cloned()
    }

    /// The caller drops it, outside the lock: closing a file may take its time.
    pub fn remove(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.write().remove(&handle.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_lives_until_it_is_removed_and_is_never_given_again() {
        let handles = Handles::new();
        let first = handles.insert("first");
        assert_eq!(handles.get(first).as_deref(), Some(&"first"));
        assert!(handles.remove(first).is_some());
        assert!(handles.get(first).is_none() && handles.remove(first).is_none());
        assert_ne!(handles.insert("second"), first);
    }
}

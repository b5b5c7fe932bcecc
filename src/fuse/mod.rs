//! The kernel adapter: translates requests, calls the library, maps the fault, replies.
//!
//! Invariants: a FUSE thread never waits for the network; notifications to the kernel come from their own thread, never
//! inside a request and never under a lock; cached and passthrough opens of one kernel node are never mixed.
//! Not here: what a directory holds (`tree`), bytes and attributes (`library`).

mod adapter;
mod attributes;
mod backend;
mod backing;
mod doctor;
mod errno;
#[cfg(test)]
mod fake;
mod handles;
mod listing;
#[cfg(test)]
mod mount_tests;
mod mounting;
mod mounts;
mod nodes;
mod notify;
mod reading;
mod session;
mod signals;

use crate::base::Fault;
use crate::library::{Check, Mounted};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct MountOptions {
    pub mount_point: PathBuf,
    /// Other users may enter (`user_allow_other` in /etc/fuse.conf for ordinary users).
    pub allow_other: bool,
}

/// Mounts, calls `ready` once the tree can be used, and serves until unmounted (by `unmount`, SIGTERM or SIGINT). Heals
/// a stale mount point first. Every failure is one sentence with its remedy.
pub fn serve(mounted: &Mounted, options: &MountOptions, ready: impl FnOnce()) -> Result<(), Fault> {
    let session =
        session::SessionOptions { allow_other: options.allow_other, passthrough: session::PassthroughWish::IfPossible };
    session::serve(Arc::new(mounted.clone()), &options.mount_point, session, ready)
}

/// Unmounts a modelfs mount cleanly; `NotMounted` when there is none, `Busy` with who holds it when it is in use.
pub fn unmount(mount_point: &Path) -> Result<(), Fault> {
    mounting::unmount(mount_point)
}

/// Where collections are mounted now, as far as this process may see; some may be dead.
pub fn mount_points() -> Vec<PathBuf> {
    let ours = mounts::all().unwrap_or_default().into_iter().filter(mounts::MountEntry::is_ours);
    ours.map(|entry| entry.mount_point).collect()
}

/// What `doctor` says about FUSE: device, permissions, fusermount3, passthrough, stale mounts.
pub fn checks(mount_point: &Path) -> Vec<Check> {
    doctor::checks(mount_point)
}

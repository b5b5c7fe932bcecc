//! One mount from start to end: handshake, what the kernel can do, threads, and putting everything away.
//!
//! Invariants: whether passthrough can be used is known before the first request is answered, so a content never changes
//! its nodes' meaning; notifications are disarmed before anything else ends.

use super::adapter::{Adapter, Core};
use super::attributes::Owner;
use super::backend::Backend;
use super::mounting::{self, Liveness};
use super::mounts;
#[cfg(test)]
use super::nodes::KernelNode;
use super::nodes::Passthrough;
use super::notify::Notifications;
use super::signals::Signals;
use crate::base::{Fault, FaultKind};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::process::{Resource, Rlimit};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

/// Threads that take requests: they answer from memory and from the local disk, so a few wait for the disk while the
/// others go on.
const THREADS: usize = 6;
/// Open files a daemon of a large collection may have at once; each handle without passthrough is one.
const OPEN_FILES_WANTED: u64 = 1_048_576;
/// What the kernel reads ahead of an application where we may say so (as root): one whole request.
const READ_AHEAD_KIB: u32 = 1024;
/// The same where whole files pass through, and all it reads from us comes from hubs: a page fault asks for so much around
/// its page, and a long read for up to twice so much beyond its end. More made nothing faster that is read in order.
const READ_AHEAD_REMOTE_KIB: u32 = 256;
/// `statfs` type of overlayfs, the inside of a container.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PassthroughWish {
    IfPossible,
    /// As on a machine where it is not allowed.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests stand in for such a machine"))]
    Never,
}

#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    pub allow_other: bool,
    pub passthrough: PassthroughWish,
}

/// A mount that answers.
pub struct Running {
    background: BackgroundSession,
    notifications: Notifications,
    notifier: JoinHandle<()>,
    core: Arc<Core>,
    mount_point: PathBuf,
}

/// Mounts, calls `ready`, and comes back when it is unmounted, or was told to end and its users had their time: then the
/// process is expected to end.
pub fn serve(
    backend: Arc<dyn Backend>,
    mount_point: &Path,
    options: SessionOptions,
    ready: impl FnOnce(),
) -> Result<(), Fault> {
    let signals = Signals::listen().map_err(|error| internal("cannot listen for signals", &error))?;
    let running = Running::start(Arc::clone(&backend), mount_point, options)?;
    let (sender, ended) = mpsc::channel();
    let given_up = sender.clone();
    let notifications = running.notifications.clone();
    let give_up = move || {
        // The other end is gone when the session ended at the same moment.
        let _ = given_up.send(Ok(()));
    };
    let watch = match signals.watch(&running.mount_point, notifications.clone(), give_up) {
        Ok(watch) => watch,
        Err(error) => {
            running.end();
            return Err(internal("cannot act on signals", &error));
        }
    };
    ready();
    let joining = thread::Builder::new().name("session".to_owned()).spawn(move || {
        let _ = sender.send(running.join());
    });
    let ended = match joining {
        // The session itself keeps the other end until it is over. Whoever still uses the mount after the farewell is
        // served by the threads that stay, until this process ends.
        Ok(_) => ended.recv().unwrap_or(Ok(())),
        Err(error) => Err(internal("cannot wait for the end of the mount", &error)),
    };
    notifications.disarm();
    watch.stop();
    backend.stop();
    ended
}

impl Running {
    pub fn start(backend: Arc<dyn Backend>, mount_point: &Path, options: SessionOptions) -> Result<Self, Fault> {
        let mount_point = mounting::prepare(mount_point)?;
        mounting::check_device()?;
        mounting::check_user(options.allow_other)?;
        raise_file_limit();
        let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let core = Arc::new(Core::new(Arc::clone(&backend), owner, stack_depth(backend.store_root())));
        let session = Session::new(Adapter(Arc::clone(&core)), &mount_point, &config(options.allow_other))
            .map_err(|error| mounting::mount_fault(&mount_point, &error))?;
        let passthrough = match options.passthrough {
            PassthroughWish::IfPossible => probe(&session, &core),
            PassthroughWish::Never => Passthrough::Unavailable,
        };
        core.passthrough.set(passthrough).expect("nobody else sets it");
        let (notifications, notifier) = Notifications::start(session.notifier())
            .map_err(|error| internal("cannot start the thread of notifications", &error))?;
        let listener = notifications.clone();
        backend.on_change(Box::new(move |outdated| listener.push(outdated)));
        let background = session.spawn().map_err(|error| {
            notifications.disarm();
            internal("cannot start serving", &error)
        })?;
        read_ahead(&mount_point, passthrough);
        let running = Self { background, notifications, notifier, core, mount_point };
        running.check_answers()
    }

    fn check_answers(self) -> Result<Self, Fault> {
        match mounting::liveness(&self.mount_point) {
            Liveness::Answers => Ok(self),
            Liveness::Dead | Liveness::Silent => {
                let what = format!("the mount at {} does not answer", self.mount_point.display());
                self.end();
                Err(Fault::new(FaultKind::Internal, what, "see what `modelfs doctor` says"))
            }
        }
    }

    #[cfg(test)]
    pub fn passthrough(&self) -> Passthrough {
        *self.core.passthrough.get().expect("set at the start")
    }

    #[cfg(test)]
    pub fn open_nodes(&self) -> usize {
        self.core.open_nodes()
    }

    #[cfg(test)]
    pub fn passes_through(&self, node: KernelNode) -> bool {
        self.core.passes_through(node)
    }

    /// Waits until the mount is taken off.
    pub fn join(self) -> Result<(), Fault> {
        let Self { background, notifications, notifier, core, mount_point: _ } = self;
        let ended = background.join();
        notifications.disarm();
        // It ends by itself: nothing can hold a lock of a mount that is gone.
        let _ = notifier.join();
        drop(core);
        ended.map_err(|error| internal("the connection to the kernel broke", &error))
    }

    /// Takes the mount off, whoever uses it.
    pub fn end(self) {
        self.notifications.disarm();
        if let Err(fault) = mounting::detach(&self.mount_point) {
            tracing::error!("{fault}");
            return;
        }
        if let Err(fault) = self.join() {
            tracing::error!("{fault}");
        }
    }
}

fn internal(what: &str, error: &io::Error) -> Fault {
    Fault::new(FaultKind::Internal, format!("{what}: {error}"), "")
}

fn config(allow_other: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("modelfs".to_owned()),
        // Said in this way it also reaches the kernel when no helper does the mounting.
        MountOption::CUSTOM("subtype=modelfs".to_owned()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
    ];
    config.acl = if allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

/// A store in a container lies on overlayfs, which is itself one filesystem on another.
fn stack_depth(store_root: Option<PathBuf>) -> u32 {
    let on_overlay = store_root
        .and_then(|root| rustix::fs::statfs(&root).ok())
        .is_some_and(|facts| u64::try_from(facts.f_type) == Ok(OVERLAYFS_MAGIC));
    if on_overlay { 2 } else { 1 }
}

/// Asks the kernel to register a folder: who may register at all is told that a folder cannot be (EISDIR), who may not is
/// told that first (EPERM). Nothing is registered either way.
fn probe(session: &Session<Adapter>, core: &Core) -> Passthrough {
    if !core.offered.load(Ordering::Relaxed) {
        return Passthrough::Unavailable;
    }
    let Ok(folder) = File::open("/") else { return Passthrough::Unavailable };
    match fuser::BackingId::create_raw(session, folder) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EINVAL)) => Passthrough::Available,
        Ok(_) | Err(_) => Passthrough::Unavailable,
    }
}

/// Best effort: only root may, and without it reads are smaller.
fn read_ahead(mount_point: &Path, passthrough: Passthrough) {
    let Some(entry) = mounts::at(mount_point) else { return };
    let setting = format!("/sys/class/bdi/0:{}/read_ahead_kb", entry.device_minor);
    let kib = match passthrough {
        Passthrough::Available => READ_AHEAD_REMOTE_KIB,
        Passthrough::Unavailable => READ_AHEAD_KIB,
    };
    if let Err(error) = fs::write(setting, kib.to_string()) {
        tracing::debug!("the kernel's read-ahead stays as it is: {error}");
    }
}

fn raise_file_limit() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let wanted = limit.maximum.map_or(OPEN_FILES_WANTED, |maximum| maximum.min(OPEN_FILES_WANTED));
        if limit.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
            if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
                tracing::debug!("the limit of open files stays as it is: {error}");
            }
        }
    });
}

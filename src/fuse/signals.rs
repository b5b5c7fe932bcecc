//! SIGTERM and SIGINT end a mount: the first cleanly, or when its users are gone and at the latest after a farewell; the
//! second at once.

use super::mounting::{self, Force, Taken};
use super::notify::Notifications;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long users of a mount that was told to end may finish: short enough for whoever waits for the process, as service
/// managers and shutdowns do.
const FAREWELL: Duration = Duration::from_secs(5);

/// Listens, and keeps what comes until somebody can act on it.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// To be called before anything is mounted: a signal in between would kill the process and leave a stale mount.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (terminate, interrupt) = {
            let _guard = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Acts on what came and on what comes. `give_up` is called when the users of the mount had their time.
    pub fn watch(
        self,
        mount_point: &Path,
        notifications: Notifications,
        give_up: impl FnOnce() + Send + 'static,
    ) -> io::Result<Watch> {
        let ending = Ending { mount_point: mount_point.to_owned(), notifications, give_up };
        let Self { runtime, terminate, interrupt } = self;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(ending.watch(terminate, interrupt, stopped)))?;
        Ok(Watch { stop, thread })
    }
}

/// Acts on signals until it is stopped.
pub struct Watch {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn stop(self) {
        // The thread may have ended by itself.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

struct Ending<G> {
    mount_point: PathBuf,
    notifications: Notifications,
    give_up: G,
}

/// What became of a first signal.
enum Ended {
    Unmounted,
    /// Out of the tree, and still used.
    Detached,
}

impl<G: FnOnce()> Ending<G> {
    async fn watch(self, mut terminate: Signal, mut interrupt: Signal, mut stopped: oneshot::Receiver<()>) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = &mut stopped => return,
        }
        let farewell = match self.unmount() {
            Ended::Unmounted => Duration::ZERO,
            Ended::Detached => FAREWELL,
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(farewell), if !farewell.is_zero() => {}
            // The usual end: the session is over.
            _ = &mut stopped => return,
        }
        tracing::warn!("ending the mount at {} under its users", self.mount_point.display());
        (self.give_up)();
    }

    /// Blocks this thread only, which has nothing else to do.
    fn unmount(&self) -> Ended {
        // A notification that waits for a folder's lock must not meet the end of those who would free it.
        self.notifications.disarm();
        let ended = match mounting::take_off(&self.mount_point, Force::Clean) {
            Ok(Taken::Off) => return Ended::Unmounted,
            Ok(Taken::InUse) => {
                let busy = mounting::in_use(&self.mount_point);
                let seconds = FAREWELL.as_secs();
                tracing::warn!("{}; it ends when they are done, in {seconds} s, or at the next signal", busy.what);
                mounting::detach(&self.mount_point)
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = ended {
            tracing::error!("{fault}");
        }
        Ended::Detached
    }
}

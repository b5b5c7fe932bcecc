//! Tells the kernel what it remembers wrongly, from a thread of its own.
//!
//! Invariants: nothing is sent from inside a request or under a lock, because the kernel takes the lock of a directory
//! to forget a name in it, and whoever holds that lock may be waiting for an answer of ours; the same news waits in the
//! queue once; after `disarm` nothing is sent any more.
//!
//! Lock: `Queue`, a leaf, never held while the kernel is told. A change waits for room in a full queue: the follower of
//! the catalog is slowed down, never a request.

use super::backend::Outdated;
use super::nodes::KernelNode;
use crate::base::{EntryName, InodeNo};
use fuser::Notifier;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// News that wait. Some 100 bytes each; a change of a whole collection passes through in portions of this.
const QUEUE_MAX: usize = 65_536;
/// News that are taken at once, so that the queue is not locked for each.
const BATCH_MAX: usize = 64;

/// One thing the kernel must forget.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum News {
    Name(InodeNo, EntryName),
    Attributes(InodeNo),
}

/// Who is told. The kernel, or a test.
pub trait Told: Send + 'static {
    fn tell(&self, news: &News) -> io::Result<()>;
}

impl Told for Notifier {
    fn tell(&self, news: &News) -> io::Result<()> {
        match news {
            News::Name(directory, name) => {
                self.inval_entry(KernelNode::plain(*directory).to_kernel(), OsStr::new(name.as_str()))
            }
            News::Attributes(ino) => {
                // A negative offset forgets attributes and leaves the pages: they never change, and dropping them would
                // wait for reads that are under way.
                self.inval_inode(KernelNode::plain(*ino).to_kernel(), -1, 0)?;
                if ino.blob().is_some() {
                    self.inval_inode(KernelNode::fetched(*ino).to_kernel(), -1, 0)?;
                }
                Ok(())
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    order: VecDeque<News>,
    waiting: HashSet<News>,
    disarmed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
}

/// The sending end; cheap to clone.
#[derive(Clone)]
pub struct Notifications {
    shared: Arc<Shared>,
}

impl Notifications {
    pub fn start(told: impl Told) -> io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || worker.run(&told))?;
        Ok((Self { shared }, thread))
    }

    /// Waits while the queue is full.
    pub fn push(&self, outdated: Outdated) {
        // Names first: what is asked again about a directory must not find a name that is about to go.
        let names = outdated.names.into_iter().map(|(directory, name)| News::Name(directory, name));
        let nodes = outdated.nodes.into_iter().map(News::Attributes);
        let mut queue = self.shared.queue.lock();
        for news in names.chain(nodes) {
            while queue.order.len() >= QUEUE_MAX && !queue.disarmed {
                self.shared.filled.notify_one();
                self.shared.drained.wait(&mut queue);
            }
            if queue.disarmed {
                return;
            }
            if queue.waiting.insert(news.clone()) {
                queue.order.push_back(news);
            }
        }
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Forgets what waits and lets the thread end.
    pub fn disarm(&self) {
        self.shared.disarm();
    }
}

impl Shared {
    fn disarm(&self) {
        let mut queue = self.queue.lock();
        queue.disarmed = true;
        queue.order.clear();
        queue.waiting.clear();
        drop(queue);
        self.filled.notify_all();
        self.drained.notify_all();
    }

    fn run(&self, told: &impl Told) {
        while let Some(batch) = self.next_batch() {
            for news in &batch {
                match told.tell(news) {
                    Ok(()) => {}
                    // The mount is gone, and with it everything that was remembered.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => self.disarm(),
                    Err(error) => tracing::debug!("the kernel did not take a notification: {error}"),
                }
            }
        }
    }

    /// Waits for news; `None` after `disarm`.
    fn next_batch(&self) -> Option<Vec<News>> {
        let mut queue = self.queue.lock();
        while queue.order.is_empty() && !queue.disarmed {
            self.filled.wait(&mut queue);
        }
        if queue.disarmed {
            return None;
        }
        let count = queue.order.len().min(BATCH_MAX);
        let batch: Vec<News> = queue.order.drain(..count).collect();
        for news in &batch {
            queue.waiting.remove(news);
        }
        drop(queue);
        self.drained.notify_all();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlobId;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Passes on what it is told, each only after the test allowed it.
    struct Gate {
        allowed: Mutex<Receiver<()>>,
        told: Sender<News>,
    }

    impl Told for Gate {
        fn tell(&self, news: &News) -> io::Result<()> {
            let _ = self.told.send(news.clone());
            let _ = self.allowed.lock().recv();
            Ok(())
        }
    }

    fn name(text: &str) -> EntryName {
        EntryName::new(text).expect("a valid name")
    }

    fn node(key: i64) -> InodeNo {
        InodeNo::of_blob(BlobId::new(key)).expect("in range")
    }

    #[test]
    fn the_same_news_waits_once_and_names_come_before_nodes() {
        let (allow, allowed) = channel();
        let (sender, told) = channel();
        let (notifications, thread) =
            Notifications::start(Gate { allowed: Mutex::new(allowed), told: sender }).expect("a thread");
        notifications.push(Outdated { names: vec![], nodes: vec![node(9)] });
        // The thread is busy with this one, so the rest is pushed behind it.
        assert_eq!(told.recv().expect("told"), News::Attributes(node(9)));
        for _ in 0..3 {
            notifications
                .push(Outdated { names: vec![(InodeNo::ROOT, name("a"))], nodes: vec![InodeNo::ROOT, node(9)] });
        }
        for _ in 0..4 {
            allow.send(()).expect("the thread waits");
        }
        let rest: Vec<News> = (0..3).map(|_| told.recv().expect("told")).collect();
        assert_eq!(
            rest,
            [News::Name(InodeNo::ROOT, name("a")), News::Attributes(InodeNo::ROOT), News::Attributes(node(9))]
        );
        notifications.disarm();
        drop(allow);
        thread.join().expect("the thread ends");
        assert!(told.try_recv().is_err(), "nothing was told twice");
    }

    #[test]
    fn disarming_frees_a_change_that_waits_for_room() {
        let (allow, allowed) = channel();
        let (sender, told) = channel();
        let (notifications, thread) =
            Notifications::start(Gate { allowed: Mutex::new(allowed), told: sender }).expect("a thread");
        notifications.push(Outdated { names: vec![], nodes: vec![node(1)] });
        told.recv().expect("the thread is busy");
        let pusher = notifications.clone();
        let (began, begun) = channel();
        let pushing = thread::spawn(move || {
            began.send(()).expect("the test waits");
            let nodes = (1..=QUEUE_MAX as i64 + 10).map(node).collect();
            pusher.push(Outdated { names: vec![], nodes });
        });
        begun.recv().expect("the other thread began");
        notifications.disarm();
        pushing.join().expect("the push ends");
        drop(allow);
        thread.join().expect("the thread ends");
    }
}

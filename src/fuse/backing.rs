//! How each kernel node is open: through the page cache or by passthrough, and with which backing file.
//!
//! Invariants: a node is open in one way at a time, whatever becomes of its content; passthrough opens of one node share
//! one backing id, which is dropped after the last of them was released. An open counts from before its reply until its
//! release, so this table is never ahead of the kernel in forgetting.
//!
//! It also knows whose pages the kernel may have in its cache. Bytes of a content that is not whole are not checked yet: a
//! hub that lied is found out at the end, and its bytes must not be served from the cache after that.
//!
//! The locks are leaves and held for table work only: registering a backing file and dropping one are system calls and happen outside.

use super::nodes::KernelNode;
use crate::tree::Attributes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// One way of being open. `B` is a registered backing file.
pub enum Mode<B> {
    Cached,
    Passthrough(Arc<B>),
}

impl<B> Clone for Mode<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Cached => Self::Cached,
            Self::Passthrough(backing) => Self::Passthrough(Arc::clone(backing)),
        }
    }
}

struct OpenNode<B> {
    mode: Mode<B>,
    opens: u64,
    /// What it was when it was opened: a file that lost its last name can still be asked.
    attributes: Attributes,
}

/// What an open does with the pages the kernel has of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    Keep,
    Drop,
}

/// Whether the bytes of an open were checked against the published hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    Checked,
    Unchecked {
        /// How often bytes of the content turned out to be wrong so far.
        lies: u64,
    },
}

/// The nodes that are open now.
pub struct OpenNodes<B> {
    nodes: Mutex<HashMap<KernelNode, OpenNode<B>>>,
    /// Nodes whose pages may hold unchecked bytes, and the lies that were known at their last open; at most one for each
    /// content that was opened before it was whole.
    unchecked: Mutex<HashMap<KernelNode, u64>>,
}

impl<B> OpenNodes<B> {
    pub fn new() -> Self {
        Self { nodes: Mutex::new(HashMap::new()), unchecked: Mutex::new(HashMap::new()) }
    }

    /// Counts another open of a node that is open, and says how it must be done.
    pub fn join(&self, node: KernelNode) -> Option<Mode<B>> {
        let mut nodes = self.nodes.lock();
        let open = nodes.get_mut(&node)?;
        open.opens += 1;
        Some(open.mode.clone())
    }

    /// Counts an open that was prepared for `proposed`. Another open may have come first: its way is then the answer.
    pub fn enter(&self, node: KernelNode, proposed: Mode<B>, attributes: Attributes) -> Mode<B> {
        let loser;
        let chosen;
        {
            match self.nodes.lock().entry(node) {
                Entry::Occupied(mut entry) => {
                    let open = entry.get_mut();
                    open.opens += 1;
                    chosen = open.mode.clone();
                    loser = Some(proposed);
                }
                Entry::Vacant(entry) => {
                    chosen = proposed.clone();
                    loser = None;
                    entry.insert(OpenNode { mode: proposed, opens: 1, attributes });
                }
            }
        }
        drop(loser);
        chosen
    }

    /// Takes back one open.
    pub fn leave(&self, node: KernelNode) {
        let last = {
            let mut nodes = self.nodes.lock();
            let Some(open) = nodes.get_mut(&node) else { return };
            open.opens -= 1;
            if open.opens == 0 { nodes.remove(&node) } else { None }
        };
        drop(last);
    }

    /// What the open of a cached node that is about to be answered does with its pages. They are dropped only when they may
    /// be wrong: dropping waits, and cannot be killed, until every read of the node that others have under way is answered,
    /// which for a file that is being fetched is the network's business.
    pub fn pages(&self, node: KernelNode, trust: Trust) -> Pages {
        let mut unchecked = self.unchecked.lock();
        let may_be_wrong = match trust {
            Trust::Checked => unchecked.remove(&node).is_some(),
            Trust::Unchecked { lies } => unchecked.insert(node, lies).is_some_and(|before| before != lies),
        };
        if may_be_wrong { Pages::Drop } else { Pages::Keep }
    }

    /// What an open node was when it was opened.
    pub fn attributes(&self, node: KernelNode) -> Option<Attributes> {
        self.nodes.lock().get(&node).map(|open| open.attributes)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.lock().len()
    }

    #[cfg(test)]
    pub fn passes_through(&self, node: KernelNode) -> bool {
        matches!(self.nodes.lock().get(&node), Some(open) if matches!(open.mode, Mode::Passthrough(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobId, InodeNo, Timestamp};
    use crate::tree::NodeKind;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static REGISTERED: AtomicUsize = AtomicUsize::new(0);

    /// A backing file that counts how many are registered.
    #[derive(Debug)]
    struct Backing;

    impl Backing {
        fn register() -> Mode<Self> {
            REGISTERED.fetch_add(1, Ordering::SeqCst);
            Mode::Passthrough(Arc::new(Self))
        }
    }

    impl Drop for Backing {
        fn drop(&mut self) {
            REGISTERED.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn attributes(key: i64) -> Attributes {
        let blob = BlobId::new(key);
        Attributes {
            ino: InodeNo::of_blob(blob).expect("in range"),
            kind: NodeKind::Blob(blob),
            size_bytes: 1,
            mtime: Timestamp::default(),
            nlink: 1,
        }
    }

    fn node(key: i64) -> KernelNode {
        KernelNode::plain(attributes(key).ino)
    }

    proptest! {
        /// Model: per node a count and the way of its first open since it was last closed.
        #[test]
        fn a_node_has_one_way_and_one_backing(steps in prop::collection::vec((1i64..4, 0u8..3), 1..200)) {
            let table = OpenNodes::<Backing>::new();
            let mut model: HashMap<i64, (bool, u64)> = HashMap::new();
            for (key, step) in steps {
                if step == 2 {
                    if let Some(entry) = model.get_mut(&key) {
                        table.leave(node(key));
                        entry.1 -= 1;
                    }
                    model.retain(|_, (_, opens)| *opens > 0);
                } else {
                    let proposed = if step == 0 { Mode::Cached } else { Backing::register() };
                    let passthrough = matches!(table.enter(node(key), proposed, attributes(key)), Mode::Passthrough(_));
                    let entry = model.entry(key).or_insert((step == 1, 0));
                    entry.1 += 1;
                    prop_assert_eq!(passthrough, entry.0);
                }
                prop_assert_eq!(table.len(), model.len());
                let native = model.values().filter(|(passthrough, _)| *passthrough).count();
                prop_assert_eq!(REGISTERED.load(Ordering::SeqCst), native);
            }
            drop(table);
            prop_assert_eq!(REGISTERED.load(Ordering::SeqCst), 0);
        }
    }

    #[test]
    fn unchecked_pages_are_dropped_once_the_bytes_are_checked() {
        let table = OpenNodes::<()>::new();
        for (trust, expected) in [
            (Trust::Checked, Pages::Keep),
            (Trust::Unchecked { lies: 0 }, Pages::Keep),
            (Trust::Unchecked { lies: 0 }, Pages::Keep),
            (Trust::Unchecked { lies: 1 }, Pages::Drop),
            (Trust::Unchecked { lies: 1 }, Pages::Keep),
            (Trust::Checked, Pages::Drop),
            (Trust::Checked, Pages::Keep),
        ] {
            assert_eq!(table.pages(node(1), trust), expected, "{trust:?}");
        }
    }

    #[test]
    fn joining_a_closed_node_is_refused_and_counts_nothing() {
        let table = OpenNodes::<()>::new();
        assert!(table.join(node(1)).is_none());
        table.enter(node(1), Mode::Cached, attributes(1));
        assert!(table.join(node(1)).is_some());
        table.leave(node(1));
        assert_eq!(table.attributes(node(1)), Some(attributes(1)));
        table.leave(node(1));
        assert!(table.join(node(1)).is_none());
        assert_eq!(table.attributes(node(1)), None);
    }
}

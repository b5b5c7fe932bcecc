//! Kernel nodes: the numbers under which the kernel remembers what it looked up.
//!
//! The kernel refuses (EIO) a passthrough open of a node that is also open or mapped through its page cache, and the
//! other way round. So a content has two kernel nodes where passthrough can be used: the *plain* one, whose number is
//! the inode number, while it is resident, and the *fetched* one, which has a mark in a spare top bit, while it is not.
//! A lookup leads to the one or the other, old handles and mappings keep the one they have, and the two kinds of open
//! never meet. `stat` reports the inode number for both.
//!
//! The plain node is the resident one because its number equals the reported one: the kernel may then remember its
//! attributes from the lookup. Those of a fetched node must be asked again, as a lookup reply has one field for both.
//!
//! Invariants: a node is a function of inode number and residency, so nothing has to be remembered between lookup and
//! forget, and a node means the same for ever; the generation is therefore always 0.

use crate::base::InodeNo;
use fuser::{Generation, INodeNo as KernelIno};

/// The first of the two bits that `InodeNo::KEY_MAX` leaves free.
const FETCHED: u64 = 1 << 62;

pub const GENERATION: Generation = Generation(0);

/// Whether contents can have a second node at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passthrough {
    Available,
    /// One node for each content: every open goes through the page cache, before and after it became resident.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KernelNode(u64);

impl KernelNode {
    pub const fn plain(ino: InodeNo) -> Self {
        Self(ino.get())
    }

    pub const fn fetched(ino: InodeNo) -> Self {
        Self(ino.get() | FETCHED)
    }

    /// The node to which a name of a content leads now.
    pub const fn of_content(ino: InodeNo, resident: bool, passthrough: Passthrough) -> Self {
        match passthrough {
            Passthrough::Available if !resident => Self::fetched(ino),
            Passthrough::Available | Passthrough::Unavailable => Self::plain(ino),
        }
    }

    /// `None` for a number that was never given out.
    pub fn from_kernel(number: KernelIno) -> Option<Self> {
        InodeNo::from_u64(number.0 & !FETCHED).map(|_| Self(number.0))
    }

    pub const fn to_kernel(self) -> KernelIno {
        KernelIno(self.0)
    }

    pub fn ino(self) -> InodeNo {
        InodeNo::from_u64(self.0 & !FETCHED).expect("made from an inode number")
    }

    pub const fn is_fetched(self) -> bool {
        self.0 & FETCHED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlobId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_nodes_lead_back_to_the_inode(key in 1..=InodeNo::KEY_MAX) {
            let ino = InodeNo::of_blob(BlobId::new(key)).expect("in range");
            let (plain, fetched) = (KernelNode::plain(ino), KernelNode::fetched(ino));
            prop_assert_ne!(plain, fetched);
            for node in [plain, fetched] {
                prop_assert_eq!(node.ino(), ino);
                prop_assert_eq!(KernelNode::from_kernel(node.to_kernel()), Some(node));
            }
            prop_assert!(fetched.is_fetched() && !plain.is_fetched());
            prop_assert_eq!(plain.to_kernel().0, ino.get());
        }
    }

    #[test]
    fn residency_chooses_the_node_only_where_passthrough_can_be_used() {
        let ino = InodeNo::of_blob(BlobId::new(7)).expect("in range");
        for (resident, passthrough, fetched) in [
            (true, Passthrough::Available, false),
            (false, Passthrough::Available, true),
            (true, Passthrough::Unavailable, false),
            (false, Passthrough::Unavailable, false),
        ] {
            assert_eq!(KernelNode::of_content(ino, resident, passthrough).is_fetched(), fetched);
        }
    }

    #[test]
    fn numbers_that_were_never_given_out_are_refused() {
        assert_eq!(KernelNode::from_kernel(KernelIno(0)), None);
        assert_eq!(KernelNode::from_kernel(KernelIno(FETCHED)), None);
    }
}

//! Attributes as the kernel wants them: `stat` fields, how long they may be remembered, and the size negotiation of
//! extended attributes. Not here: their values (`library`).

use super::nodes::KernelNode;
use crate::base::InodeNo;
use crate::tree::{Attributes, NodeKind};
use fuser::{Errno, FileAttr, FileType, INodeNo as KernelIno};
use std::time::Duration;

/// How long the kernel keeps what a notification would correct anyway; the bound is for a notification that was lost.
const KEPT: Duration = Duration::from_secs(600);
/// Ask again every time.
const ASKED: Duration = Duration::ZERO;
/// Preferred size of a read: a power of two (direct readers align to it), and the kernel's default read-ahead.
const PREFERRED_READ_BYTES: u32 = 128 * 1024;
/// `st_blocks` counts in these.
const BLOCK_BYTES: u64 = 512;
/// Largest list of names or value the kernel takes (`XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 65_536;

/// Who is shown as the owner of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Whether this user may change anything at all.
    pub fn may_change(&self, uid: u32) -> bool {
        uid == self.uid || uid == 0
    }
}

/// How long names and attributes may be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    pub name: Duration,
    pub attributes: Duration,
}

pub const fn lifetimes(kind: NodeKind, node: KernelNode) -> Lifetimes {
    match kind {
        // The name leads to another node once the content is resident, and the reported number is not the node's.
        NodeKind::Blob(_) if node.is_fetched() => Lifetimes { name: ASKED, attributes: ASKED },
        NodeKind::Directory | NodeKind::Blob(_) => Lifetimes { name: KEPT, attributes: KEPT },
        // Its size changes by itself.
        NodeKind::Live(_) => Lifetimes { name: KEPT, attributes: ASKED },
    }
}

pub const fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Directory => FileType::Directory,
        NodeKind::Blob(_) | NodeKind::Live(_) => FileType::RegularFile,
    }
}

/// How much of a file takes room on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occupied {
    All,
    /// A file that is not here or not whole: tools see by `st_blocks` that it is a stub.
    Nothing,
}

/// `number` is what the reply names: the kernel node where an entry is answered, the inode number elsewhere.
pub fn file_attr(of: &Attributes, number: KernelIno, occupied: Occupied, owner: Owner) -> FileAttr {
    let time = of.mtime.to_system_time();
    FileAttr {
        ino: number,
        size: of.size_bytes,
        blocks: match occupied {
            Occupied::All => of.size_bytes.div_ceil(BLOCK_BYTES),
            Occupied::Nothing => 0,
        },
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(of.kind),
        perm: match of.kind {
            NodeKind::Directory => 0o755,
            NodeKind::Blob(_) | NodeKind::Live(_) => 0o444,
        },
        nlink: of.nlink,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: PREFERRED_READ_BYTES,
        flags: 0,
    }
}

/// The number `stat` reports.
pub const fn reported(ino: InodeNo) -> KernelIno {
    KernelIno(ino.get())
}

/// What a caller who gave a buffer of `size` bytes is told about a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrAnswer {
    Size(u32),
    Value,
}

pub fn negotiate(value: &[u8], buffer_bytes: u32) -> Result<XattrAnswer, Errno> {
    let size = u32::try_from(value.len()).ok().filter(|_| value.len() <= XATTR_BYTES_MAX).ok_or(Errno::E2BIG)?;
    match buffer_bytes {
        0 => Ok(XattrAnswer::Size(size)),
        room if room < size => Err(Errno::ERANGE),
        _ => Ok(XattrAnswer::Value),
    }
}

/// Names as `listxattr` wants them: each ended by NUL. What does not fit is left out whole, as the call has no way to
/// go on.
pub fn name_list(names: &[String]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        if list.len() + name.len() + 1 > XATTR_BYTES_MAX {
            break;
        }
        list.extend_from_slice(name.as_bytes());
        list.push(0);
    }
    list
}

/// Whether a call that sets an attribute may go on, by its flags and whether the attribute is there.
pub fn check_set_flags(flags: i32, present: bool) -> Result<(), Errno> {
    match (flags & libc::XATTR_CREATE != 0, flags & libc::XATTR_REPLACE != 0, present) {
        (true, _, true) => Err(Errno::EEXIST),
        (_, true, false) => Err(Errno::ENODATA),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobId, Timestamp};

    fn content(size_bytes: u64) -> Attributes {
        let blob = BlobId::new(3);
        Attributes {
            ino: InodeNo::of_blob(blob).expect("in range"),
            kind: NodeKind::Blob(blob),
            size_bytes,
            mtime: Timestamp::from_unix_ns(1_700_000_000_123_456_789),
            nlink: 5,
        }
    }

    #[test]
    fn a_stub_has_its_size_and_no_blocks() {
        let owner = Owner { uid: 1000, gid: 100 };
        let of = content(1025);
        let stub = file_attr(&of, reported(of.ino), Occupied::Nothing, owner);
        let whole = file_attr(&of, reported(of.ino), Occupied::All, owner);
        assert_eq!((stub.size, stub.blocks), (1025, 0));
        assert_eq!((whole.size, whole.blocks), (1025, 3));
        assert_eq!((whole.nlink, whole.perm, whole.uid, whole.gid), (5, 0o444, 1000, 100));
        assert_eq!(Timestamp::from_system_time(whole.mtime), of.mtime);
    }

    #[test]
    fn only_a_fetched_node_is_asked_again_by_name() {
        let of = content(1);
        let fetched = lifetimes(of.kind, KernelNode::fetched(of.ino));
        assert_eq!((fetched.name, fetched.attributes), (ASKED, ASKED));
        let plain = lifetimes(of.kind, KernelNode::plain(of.ino));
        assert_eq!((plain.name, plain.attributes), (KEPT, KEPT));
    }

    #[test]
    fn xattr_sizes_are_negotiated() {
        for (value, room, expected) in [
            ("42.17", 0, Ok(XattrAnswer::Size(5))),
            ("42.17", 5, Ok(XattrAnswer::Value)),
            ("42.17", 4, Err(libc::ERANGE)),
            ("", 0, Ok(XattrAnswer::Size(0))),
            ("", 1, Ok(XattrAnswer::Value)),
        ] {
            assert_eq!(negotiate(value.as_bytes(), room).map_err(Errno::code), expected, "{value:?} in {room}");
        }
        assert_eq!(negotiate(&vec![0; XATTR_BYTES_MAX + 1], 0).map_err(Errno::code), Err(libc::E2BIG));
    }

    #[test]
    fn names_are_ended_by_nul_and_never_cut() {
        assert_eq!(name_list(&["user.a".to_owned(), "user.b".to_owned()]), b"user.a\0user.b\0");
        let long = vec!["x".repeat(40_000), "y".repeat(40_000)];
        assert_eq!(name_list(&long).len(), 40_001);
    }

    #[test]
    fn set_flags_follow_setxattr() {
        for (flags, present, expected) in [
            (0, true, Ok(())),
            (0, false, Ok(())),
            (libc::XATTR_CREATE, true, Err(libc::EEXIST)),
            (libc::XATTR_CREATE, false, Ok(())),
            (libc::XATTR_REPLACE, false, Err(libc::ENODATA)),
            (libc::XATTR_REPLACE, true, Ok(())),
        ] {
            assert_eq!(check_set_flags(flags, present).map_err(Errno::code), expected);
        }
    }
}

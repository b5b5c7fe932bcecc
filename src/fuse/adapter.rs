//! The kernel's requests: translate, call, reply.
//!
//! Invariants: no request waits for the network; nothing here decides, it asks the parts beside it. Not here: what is
//! shown (`tree`), bytes (`reading`), the ways of being open (`backing`).

use super::attributes::{self, Occupied, Owner, XattrAnswer};
use super::backend::{Backend, Content};
use super::backing::{Mode, OpenNodes, Pages, Trust};
use super::errno::errno_of;
use super::handles::{Body, Handles, OpenDirectory, OpenFile};
use super::listing::{self, Room};
use super::nodes::{GENERATION, KernelNode, Passthrough};
use super::reading;
use crate::base::{BlobId, Fault, FaultKind, InodeNo};
use crate::tree::{Attributes, LiveFile, NodeKind};
use fuser::{
    AccessFlags, BackingId, BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, INodeNo as KernelIno,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// Largest request: the kernel's own limit is 256 pages.
const MAX_REQUEST_BYTES: u32 = 1024 * 1024;
/// Reads the kernel sends ahead without an application waiting: enough for a deep download queue.
const MAX_BACKGROUND: u16 = 64;
/// Longest name the mount takes, as everywhere on Linux.
const NAME_BYTES_MAX: u32 = 255;
/// What shows nothing but what is known of the models: deleting there means nothing, so it is refused for ever.
const FACTS_ONLY: &[&str] = &["by"];
/// Where directories are made and removed.
const CHANGED: &[&str] = &["search", "hubs"];

/// What the session and the kernel's threads share.
pub struct Core {
    pub backend: Arc<dyn Backend>,
    pub owner: Owner,
    /// Set once, after the handshake and before the first request.
    pub passthrough: OnceLock<Passthrough>,
    /// Whether the kernel offered passthrough at the handshake.
    pub offered: AtomicBool,
    /// How many filesystems may lie on each other; see `session`.
    pub stack_depth: u32,
    files: Handles<OpenFile>,
    directories: Handles<OpenDirectory>,
    open: OpenNodes<BackingId>,
}

impl Core {
    pub fn new(backend: Arc<dyn Backend>, owner: Owner, stack_depth: u32) -> Self {
        Self {
            backend,
            owner,
            passthrough: OnceLock::new(),
            offered: AtomicBool::new(false),
            stack_depth,
            files: Handles::new(),
            directories: Handles::new(),
            open: OpenNodes::new(),
        }
    }

    #[cfg(test)]
    pub fn open_nodes(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub fn passes_through(&self, node: KernelNode) -> bool {
        self.open.passes_through(node)
    }

    fn passthrough(&self) -> Passthrough {
        *self.passthrough.get().unwrap_or(&Passthrough::Unavailable)
    }

    /// The node to which a name leads now, and what the kernel is told about it.
    fn entry(&self, of: &Attributes) -> (KernelNode, FileAttr) {
        let (node, occupied) = match of.kind {
            NodeKind::Blob(blob) => {
                let resident = self.backend.is_resident(blob);
                let occupied = if resident { Occupied::All } else { Occupied::Nothing };
                (KernelNode::of_content(of.ino, resident, self.passthrough()), occupied)
            }
            NodeKind::Directory | NodeKind::Live(_) => (KernelNode::plain(of.ino), Occupied::Nothing),
        };
        (node, attributes::file_attr(&self.sized(*of), node.to_kernel(), occupied, self.owner))
    }

    /// A live file has the size of what it says now.
    fn sized(&self, of: Attributes) -> Attributes {
        match of.kind {
            NodeKind::Live(file) => Attributes { size_bytes: self.backend.live(file).len() as u64, ..of },
            NodeKind::Directory | NodeKind::Blob(_) => of,
        }
    }

    /// What a node is now; one without a name is what it was when it was opened.
    fn attributes(&self, node: KernelNode) -> Option<Attributes> {
        self.backend
            .attributes(node.ino())
            .or_else(|| self.open.attributes(node).map(|was| Attributes { nlink: 0, ..was }))
    }

    fn open_live(&self, node: KernelNode, file: LiveFile, reply: ReplyOpen) {
        let content = self.backend.live(file);
        let size_bytes = content.len() as u64;
        let handle = self.keep(node, size_bytes, Body::Made(content));
        // Direct, so that the size of the moment of `stat` does not cut what was made at the open.
        reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
    }

    fn open_content(&self, node: KernelNode, of: &Attributes, blob: BlobId, reply: ReplyOpen) {
        // Asked for a node that is open already, too: a linked file that changed where it lies is refused here.
        let joined = self.open.join(node);
        let content = match self.backend.open(blob) {
            Ok(content) => content,
            Err(fault) => {
                if joined.is_some() {
                    self.open.leave(node);
                }
                tracing::warn!(inode = of.ino.get(), "a file cannot be opened: {fault}");
                return reply.error(errno_of(fault.kind));
            }
        };
        let mode = joined.unwrap_or_else(|| self.open.enter(node, self.propose(node, &content, &reply), *of));
        match mode {
            Mode::Passthrough(backing) => {
                let handle = self.keep(node, of.size_bytes, Body::Passthrough);
                reply.opened_passthrough(handle, FopenFlags::FOPEN_NOFLUSH, &backing);
            }
            Mode::Cached => {
                let (body, trust) = match content {
                    Content::Resident(file) => (Body::Resident(file), Trust::Checked),
                    Content::Remote(ranges) => {
                        let lies = ranges.lies();
                        (Body::Remote(ranges), Trust::Unchecked { lies })
                    }
                };
                let handle = self.keep(node, of.size_bytes, body);
                let flags = match self.open.pages(node, trust) {
                    Pages::Keep => FopenFlags::FOPEN_NOFLUSH | FopenFlags::FOPEN_KEEP_CACHE,
                    Pages::Drop => FopenFlags::FOPEN_NOFLUSH,
                };
                reply.opened(handle, flags);
            }
        }
    }

    /// The best way to open a node that is not open: only a resident content on its plain node can pass through.
    fn propose(&self, node: KernelNode, content: &Content, reply: &ReplyOpen) -> Mode<BackingId> {
        match (self.passthrough(), content) {
            (Passthrough::Available, Content::Resident(file)) if !node.is_fetched() => match reply.open_backing(file) {
                Ok(backing) => Mode::Passthrough(Arc::new(backing)),
                Err(error) => {
                    tracing::debug!(inode = node.ino().get(), "opened without passthrough: {error}");
                    Mode::Cached
                }
            },
            _ => Mode::Cached,
        }
    }

    fn keep(&self, node: KernelNode, size_bytes: u64, body: Body) -> FileHandle {
        self.files.insert(OpenFile { node, size_bytes, body, complained: AtomicBool::new(false) })
    }

    /// The kernel keeps the listing of what can only vanish as a whole: the folder of one content under `store/`. There
    /// are as many as contents, and a walk would ask three times for each. The number of a fetched node must not stay in
    /// such a listing, so the content has to be here.
    fn listing_flags(&self, directory: InodeNo) -> FopenFlags {
        match directory.blob_directory() {
            Some(blob) if self.backend.is_resident(blob) => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
            Some(_) | None => FopenFlags::empty(),
        }
    }

    fn is_in(&self, directory: KernelIno, places: &[&str]) -> bool {
        let found = KernelNode::from_kernel(directory).and_then(|node| self.backend.place(node.ino()));
        found.is_some_and(|found| places.contains(&found.as_str()))
    }

    /// Whether names of a directory can be given or taken away by whoever asks: as `decide` does it.
    fn may_change(&self, request: &Request, directory: KernelIno, ino: InodeNo) -> Result<(), Errno> {
        if !self.is_in(directory, CHANGED) && !self.backend.takes_links(ino) {
            return Err(Errno::EROFS);
        }
        if self.owner.may_change(request.uid()) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Lets the library change a directory, for its owner. Names under `by/` cannot be given or taken away at all.
    fn decide<T>(
        &self,
        request: &Request,
        parent: KernelIno,
        name: &OsStr,
        change: impl FnOnce(&dyn Backend, InodeNo, &str) -> Result<T, Fault>,
    ) -> Result<T, Errno> {
        let directory = KernelNode::from_kernel(parent).ok_or(Errno::ENOENT)?.ino();
        if self.is_in(parent, FACTS_ONLY) {
            return Err(Errno::EPERM);
        }
        if !self.owner.may_change(request.uid()) {
            return Err(Errno::EPERM);
        }
        // What is not UTF-8 is no query.
        let name = name.to_str().ok_or(Errno::EINVAL)?;
        change(self.backend.as_ref(), directory, name).map_err(|fault| {
            tracing::debug!(name, "refused: {fault}");
            errno_of(fault.kind)
        })
    }

    fn reply_entry(&self, found: Result<Attributes, Errno>, reply: ReplyEntry) {
        match found {
            Ok(of) => {
                let (node, attr) = self.entry(&of);
                let lifetimes = attributes::lifetimes(of.kind, node);
                reply.entry_with_ttls(&lifetimes.attributes, &lifetimes.name, &attr, GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }
}

/// Names of attributes that belong to somebody else (access lists, labels) are never here.
fn is_ours(name: &str) -> bool {
    name.starts_with("user.")
}

pub struct Adapter(pub Arc<Core>);

impl Adapter {
    fn node(&self, number: KernelIno) -> Result<(KernelNode, Attributes), Errno> {
        let node = KernelNode::from_kernel(number).ok_or(Errno::ENOENT)?;
        let of = self.0.attributes(node).ok_or(Errno::ENOENT)?;
        Ok((node, of))
    }

    fn reply_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
        match attributes::negotiate(value, size) {
            Ok(XattrAnswer::Size(bytes)) => reply.size(bytes),
            Ok(XattrAnswer::Value) => reply.data(value),
            Err(errno) => reply.error(errno),
        }
    }

    /// Decisions about the collection are its owner's, whoever may look at it.
    fn may_decide(&self, request: &Request) -> bool {
        request.uid() == self.0.owner.uid || request.uid() == 0
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            // What an older kernel lacks costs speed and nothing else.
            let _ = config.add_capabilities(wanted);
        }
        let offered = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        self.0.offered.store(offered, Ordering::Relaxed);
        if offered {
            let _ = config.set_max_stack_depth(self.0.stack_depth);
        }
        let _ = config.set_max_write(MAX_REQUEST_BYTES);
        // The kernel offers its limit; asking for more answers what it would take.
        if let Err(limit) = config.set_max_readahead(MAX_REQUEST_BYTES) {
            let _ = config.set_max_readahead(limit);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: KernelIno, name: &OsStr, reply: ReplyEntry) {
        let directory = KernelNode::from_kernel(parent);
        // Names that are not UTF-8 are not ours.
        let found = directory.zip(name.to_str()).and_then(|(node, name)| self.0.backend.lookup(node.ino(), name));
        self.0.reply_entry(found.ok_or(Errno::ENOENT), reply);
    }

    fn getattr(&self, _request: &Request, ino: KernelIno, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Ok((node, of)) => {
                let (_, attr) = self.0.entry(&of);
                let lifetime = attributes::lifetimes(of.kind, node).attributes;
                reply.attr(&lifetime, &FileAttr { ino: attributes::reported(of.ino), ..attr });
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, ino: KernelIno, flags: OpenFlags, reply: ReplyOpen) {
        let (node, of) = match self.node(ino) {
            Ok(found) => found,
            Err(errno) => return reply.error(errno),
        };
        if flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
            return reply.error(Errno::EROFS);
        }
        match of.kind {
            NodeKind::Directory => reply.error(Errno::EISDIR),
            NodeKind::Live(file) => self.0.open_live(node, file, reply),
            NodeKind::Blob(blob) => self.0.open_content(node, &of, blob, reply),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: KernelIno,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.files.get(handle) {
            Some(file) => reading::read(self.0.backend.as_ref(), &file, offset, size, reply),
            None => reply.error(Errno::EBADF),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: KernelIno,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        if let Some(file) = self.0.files.remove(handle)
            && !matches!(file.body, Body::Made(_))
        {
            self.0.open.leave(file.node);
        }
    }

    fn opendir(&self, _request: &Request, ino: KernelIno, _flags: OpenFlags, reply: ReplyOpen) {
        let directory =
            KernelNode::from_kernel(ino).and_then(|node| listing::open(self.0.backend.as_ref(), node.ino()));
        match directory {
            Some(directory) => {
                let flags = self.0.listing_flags(directory.ino);
                reply.opened(self.0.directories.insert(directory), flags);
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(&self, _request: &Request, _ino: KernelIno, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(directory) = self.0.directories.get(handle) else { return reply.error(Errno::EBADF) };
        listing::tell(self.0.backend.as_ref(), &directory, offset, |next, line| {
            let kind = attributes::file_type(line.kind());
            if reply.add(attributes::reported(line.ino()), next, kind, line.name()) { Room::Full } else { Room::More }
        });
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: KernelIno,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(directory) = self.0.directories.get(handle) else { return reply.error(Errno::EBADF) };
        listing::tell(self.0.backend.as_ref(), &directory, offset, |next, line| {
            // A name that left the tree since the listing was taken: it is not told, a `stat` of it would fail.
            let Some(of) = self.0.backend.attributes(line.ino()) else { return Room::More };
            let (node, attr) = self.0.entry(&of);
            // One lifetime for both: the shorter one.
            let lifetime = attributes::lifetimes(of.kind, node).attributes;
            let full = reply.add(node.to_kernel(), next, line.name(), &lifetime, &attr, GENERATION);
            if full { Room::Full } else { Room::More }
        });
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: KernelIno,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        drop(self.0.directories.remove(handle));
    }

    fn statfs(&self, _request: &Request, _ino: KernelIno, reply: ReplyStatfs) {
        match self.0.backend.space() {
            Ok(space) => {
                let block = space.block_bytes.max(1);
                let size = u32::try_from(block).unwrap_or(u32::MAX);
                reply.statfs(
                    space.total_bytes / block,
                    space.free_bytes / block,
                    space.available_bytes / block,
                    space.files_total,
                    space.files_free,
                    size,
                    NAME_BYTES_MAX,
                    size,
                );
            }
            Err(fault) => reply.error(errno_of(fault.kind)),
        }
    }

    fn getxattr(&self, _request: &Request, ino: KernelIno, name: &OsStr, size: u32, reply: ReplyXattr) {
        // As a filesystem without access lists and labels says it: `ls -l` asks for them once and not for each file.
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { return reply.error(Errno::EOPNOTSUPP) };
        let value = KernelNode::from_kernel(ino).and_then(|node| self.0.backend.attribute(node.ino(), name));
        match value {
            Some(value) => Self::reply_xattr(&value, size, reply),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _request: &Request, ino: KernelIno, size: u32, reply: ReplyXattr) {
        let names = KernelNode::from_kernel(ino).map(|node| self.0.backend.attribute_names(node.ino()));
        Self::reply_xattr(&attributes::name_list(&names.unwrap_or_default()), size, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: KernelIno,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let Some((name, node)) = name.to_str().filter(|name| is_ours(name)).zip(KernelNode::from_kernel(ino)) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        if !self.may_decide(request) {
            return reply.error(Errno::EPERM);
        }
        let present = flags != 0 && self.0.backend.attribute(node.ino(), name).is_some();
        let set = attributes::check_set_flags(flags, present)
            .and_then(|()| self.0.backend.set_attribute(node.ino(), name, value).map_err(|fault| errno_of(fault.kind)));
        reply_empty(set, reply);
    }

    fn removexattr(&self, request: &Request, ino: KernelIno, name: &OsStr, reply: ReplyEmpty) {
        let Some((name, node)) = name.to_str().filter(|name| is_ours(name)).zip(KernelNode::from_kernel(ino)) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        if !self.may_decide(request) {
            return reply.error(Errno::EPERM);
        }
        let removed = self.0.backend.remove_attribute(node.ino(), name);
        reply_empty(removed.map_err(|fault| errno_of(fault.kind)), reply);
    }

    fn access(&self, request: &Request, ino: KernelIno, mask: AccessFlags, reply: ReplyEmpty) {
        let answer = self.node(ino).and_then(|(node, of)| match of.kind {
            NodeKind::Directory if mask.contains(AccessFlags::W_OK) => self.0.may_change(request, ino, node.ino()),
            _ if mask.contains(AccessFlags::W_OK) => Err(Errno::EROFS),
            NodeKind::Blob(_) | NodeKind::Live(_) if mask.contains(AccessFlags::X_OK) => Err(Errno::EACCES),
            NodeKind::Directory | NodeKind::Blob(_) | NodeKind::Live(_) => Ok(()),
        });
        reply_empty(answer, reply);
    }

    fn fsync(&self, _request: &Request, _ino: KernelIno, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _ino: KernelIno, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readlink(&self, _request: &Request, _ino: KernelIno, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    fn setattr(
        &self,
        _request: &Request,
        _ino: KernelIno,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: KernelIno,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, request: &Request, parent: KernelIno, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        if !self.0.is_in(parent, CHANGED) {
            return reply.error(Errno::EROFS);
        }
        let made = self.0.decide(request, parent, name, |backend, parent, name| backend.make_directory(parent, name));
        self.0.reply_entry(made, reply);
    }

    fn unlink(&self, request: &Request, parent: KernelIno, name: &OsStr, reply: ReplyEmpty) {
        let done = self.0.decide(request, parent, name, |backend, parent, name| backend.remove_name(parent, name));
        reply_empty(done, reply);
    }

    fn rmdir(&self, request: &Request, parent: KernelIno, name: &OsStr, reply: ReplyEmpty) {
        let done = self.0.decide(request, parent, name, |backend, parent, name| backend.remove_directory(parent, name));
        reply_empty(done, reply);
    }

    fn symlink(&self, _request: &Request, _parent: KernelIno, _name: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        request: &Request,
        parent: KernelIno,
        name: &OsStr,
        new_parent: KernelIno,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.0.decide(request, parent, name, |backend, parent, name| {
            let to = KernelNode::from_kernel(new_parent).zip(new_name.to_str());
            let exchanges = flags.contains(RenameFlags::RENAME_EXCHANGE);
            match to.filter(|_| !exchanges) {
                Some((new_parent, new_name)) => backend.rename(parent, name, new_parent.ino(), new_name),
                None => Err(Fault::new(FaultKind::Invalid, "this is no rename", "")),
            }
        });
        reply_empty(done, reply);
    }

    fn link(&self, request: &Request, ino: KernelIno, parent: KernelIno, name: &OsStr, reply: ReplyEntry) {
        let file = KernelNode::from_kernel(ino).map_or(InodeNo::ROOT, KernelNode::ino);
        let made = self.0.decide(request, parent, name, |backend, parent, name| backend.link(file, parent, name));
        self.0.reply_entry(made, reply);
    }

    fn create(
        &self,
        _request: &Request,
        _parent: KernelIno,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }
}

fn reply_empty(answer: Result<(), Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

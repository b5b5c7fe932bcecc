//! What the adapter needs to know from the library, as a trait, so that a test can mount a namespace of its own.
//!
//! Invariant: everything answers from memory or the local disk, except `Ranges::read`, which is a future and runs away
//! from the kernel's threads. Not here: kernel types.

use crate::base::{BlobId, ByteRange, EntryName, Fault, InodeNo};
use crate::fetch::RemoteFile;
use crate::library::{Mounted, Names, Opened};
use crate::store::Space;
use crate::tree::{Attributes, Child, LiveFile};
use bytes::Bytes;
use std::fs::File;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An open content.
pub enum Content {
    /// Complete and immutable.
    Resident(File),
    Remote(Arc<dyn Ranges>),
}

/// A content whose bytes may have to be fetched.
pub trait Ranges: Send + Sync {
    /// `None` when a byte is missing. Never waits for the network.
    fn read_present(&self, range: ByteRange) -> Option<Result<Bytes, Fault>>;
    /// The whole range, fetched first where it is missing.
    fn read(&self, range: ByteRange) -> Pending<Result<Bytes, Fault>>;
    /// How often bytes of the content turned out to be wrong after they were handed out.
    fn lies(&self) -> u64;
}

/// The entries of a directory as they were when it was opened.
pub trait Entries: Send + Sync {
    /// Entries from a position on, in order.
    fn from(&self, index: usize) -> Box<dyn Iterator<Item = Child> + '_>;
}

/// What the kernel may remember wrongly after a change.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Outdated {
    /// Names that vanished or now lead elsewhere; names that appeared do no harm.
    pub names: Vec<(InodeNo, EntryName)>,
    /// Nodes whose attributes changed.
    pub nodes: Vec<InodeNo>,
}

pub type OutdatedListener = Box<dyn Fn(Outdated) + Send + Sync>;

pub trait Backend: Send + Sync + 'static {
    fn attributes(&self, ino: InodeNo) -> Option<Attributes>;
    fn lookup(&self, directory: InodeNo, name: &str) -> Option<Attributes>;
    fn parent(&self, directory: InodeNo) -> Option<InodeNo>;
    fn entries(&self, directory: InodeNo) -> Option<Arc<dyn Entries>>;
    /// The first name of the path of a directory: which kind of place it is.
    fn place(&self, directory: InodeNo) -> Option<EntryName>;

    fn make_directory(&self, parent: InodeNo, name: &str) -> Result<Attributes, Fault>;
    fn remove_directory(&self, parent: InodeNo, name: &str) -> Result<(), Fault>;
    fn remove_name(&self, parent: InodeNo, name: &str) -> Result<(), Fault>;
    fn link(&self, file: InodeNo, directory: InodeNo, name: &str) -> Result<Attributes, Fault>;
    /// Whether `link` can put files in a directory.
    fn takes_links(&self, directory: InodeNo) -> bool;
    fn rename(&self, parent: InodeNo, name: &str, new_parent: InodeNo, new_name: &str) -> Result<(), Fault>;

    fn is_resident(&self, blob: BlobId) -> bool;
    fn open(&self, blob: BlobId) -> Result<Content, Fault>;
    fn live(&self, file: LiveFile) -> Vec<u8>;
    fn spawn(&self, work: Pending<()>);

    fn attribute_names(&self, ino: InodeNo) -> Vec<String>;
    fn attribute(&self, ino: InodeNo, name: &str) -> Option<Vec<u8>>;
    fn set_attribute(&self, ino: InodeNo, name: &str, value: &[u8]) -> Result<(), Fault>;
    fn remove_attribute(&self, ino: InodeNo, name: &str) -> Result<(), Fault>;

    fn space(&self) -> Result<Space, Fault>;
    /// Where the contents lie, if they lie in one place.
    fn store_root(&self) -> Option<PathBuf>;
    /// Names the one listener; called from a thread of the backend, under no lock.
    fn on_change(&self, listener: OutdatedListener);
    /// Ends all work. Idempotent.
    fn stop(&self);
}

impl Entries for Names {
    fn from(&self, index: usize) -> Box<dyn Iterator<Item = Child> + '_> {
        self.iter_from(index)
    }
}

impl Ranges for RemoteFile {
    fn read_present(&self, range: ByteRange) -> Option<Result<Bytes, Fault>> {
        Self::read_present(self, range).map(|read| read.map_err(|error| error.fault()))
    }

    fn read(&self, range: ByteRange) -> Pending<Result<Bytes, Fault>> {
        let file = self.clone();
        Box::pin(async move { Self::read(&file, range).await.map_err(|error| error.fault()) })
    }

    fn lies(&self) -> u64 {
        Self::lies(self)
    }
}

impl Backend for Mounted {
    fn attributes(&self, ino: InodeNo) -> Option<Attributes> {
        Self::attributes(self, ino)
    }

    fn lookup(&self, directory: InodeNo, name: &str) -> Option<Attributes> {
        Self::lookup(self, directory, name)
    }

    fn parent(&self, directory: InodeNo) -> Option<InodeNo> {
        Self::parent(self, directory)
    }

    fn entries(&self, directory: InodeNo) -> Option<Arc<dyn Entries>> {
        Self::listing(self, directory).map(|names| Arc::new(names) as Arc<dyn Entries>)
    }

    fn place(&self, directory: InodeNo) -> Option<EntryName> {
        Self::place(self, directory)
    }

    fn make_directory(&self, parent: InodeNo, name: &str) -> Result<Attributes, Fault> {
        Self::make_directory(self, parent, name)
    }

    fn remove_directory(&self, parent: InodeNo, name: &str) -> Result<(), Fault> {
        Self::remove_directory(self, parent, name)
    }

    fn remove_name(&self, parent: InodeNo, name: &str) -> Result<(), Fault> {
        Self::remove_name(self, parent, name)
    }

    fn link(&self, file: InodeNo, directory: InodeNo, name: &str) -> Result<Attributes, Fault> {
        Self::link(self, file, directory, name)
    }

    fn takes_links(&self, directory: InodeNo) -> bool {
        Self::takes_links(self, directory)
    }

    fn rename(&self, parent: InodeNo, name: &str, new_parent: InodeNo, new_name: &str) -> Result<(), Fault> {
        Self::rename(self, parent, name, new_parent, new_name)
    }

    fn is_resident(&self, blob: BlobId) -> bool {
        Self::is_resident(self, blob)
    }

    fn open(&self, blob: BlobId) -> Result<Content, Fault> {
        Ok(match Self::open(self, blob)? {
            Opened::Resident(file) => Content::Resident(file),
            Opened::Remote(file) => Content::Remote(Arc::new(file)),
        })
    }

    fn live(&self, file: LiveFile) -> Vec<u8> {
        Self::live(self, file)
    }

    fn spawn(&self, work: Pending<()>) {
        Self::spawn(self, work);
    }

    fn attribute_names(&self, ino: InodeNo) -> Vec<String> {
        Self::attribute_names(self, ino)
    }

    fn attribute(&self, ino: InodeNo, name: &str) -> Option<Vec<u8>> {
        Self::attribute(self, ino, name)
    }

    fn set_attribute(&self, ino: InodeNo, name: &str, value: &[u8]) -> Result<(), Fault> {
        Self::set_attribute(self, ino, name, value)
    }

    fn remove_attribute(&self, ino: InodeNo, name: &str) -> Result<(), Fault> {
        Self::remove_attribute(self, ino, name)
    }

    fn space(&self) -> Result<Space, Fault> {
        Self::space(self)
    }

    fn store_root(&self) -> Option<PathBuf> {
        Some(Self::store_root(self))
    }

    fn on_change(&self, listener: OutdatedListener) {
        Self::on_change(
            self,
            Box::new(move |_tree, change| {
                // A content that became resident keeps its names out of this: the kernel asks for those of a fetched
                // node every time, and forgetting them would make open files look deleted.
                let contents = change.files.iter().filter_map(|&blob| InodeNo::of_blob(blob));
                let nodes = change.directories.iter().copied().chain(contents).collect();
                listener(Outdated { names: change.names.clone(), nodes });
            }),
        );
    }

    fn stop(&self) {
        Self::stop(self);
    }
}

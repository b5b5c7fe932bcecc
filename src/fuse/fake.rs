//! A namespace for tests: one folder of files whose residency a test switches.

use super::backend::{Backend, Content, Entries, Outdated, OutdatedListener, Pending, Ranges};
use crate::base::{BlobId, ByteRange, EntryName, Fault, FaultKind, InodeNo, Timestamp};
use crate::store::Space;
use crate::tree::{Attributes, Child, LiveFile, NodeKind};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Clone)]
struct FakeFile {
    blob: BlobId,
    content: Arc<Vec<u8>>,
    resident: bool,
    /// How often its bytes were replaced.
    lies: u64,
}

struct State {
    files: BTreeMap<EntryName, FakeFile>,
    next_blob: i64,
    mtime: Timestamp,
}

pub struct Fake {
    folder: tempfile::TempDir,
    state: Mutex<State>,
    listener: Mutex<Option<OutdatedListener>>,
    runtime: tokio::runtime::Runtime,
    /// Reads of missing bytes wait for it when they are told to.
    pub gate: Arc<Notify>,
    pub stalls: Mutex<bool>,
    set: Mutex<BTreeMap<String, Vec<u8>>>,
}

/// A content whose first half is here.
struct Half {
    content: Arc<Vec<u8>>,
    lies: u64,
    gate: Option<Arc<Notify>>,
}

impl Half {
    fn cut(&self, range: ByteRange) -> Bytes {
        let at = |offset: u64| usize::try_from(offset).expect("small");
        Bytes::copy_from_slice(&self.content[at(range.start())..at(range.end())])
    }
}

impl Ranges for Half {
    fn read_present(&self, range: ByteRange) -> Option<Result<Bytes, Fault>> {
        (range.end() <= self.content.len() as u64 / 2).then(|| Ok(self.cut(range)))
    }

    fn read(&self, range: ByteRange) -> Pending<Result<Bytes, Fault>> {
        let (bytes, gate) = (self.cut(range), self.gate.clone());
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.notified().await;
            }
            Ok(bytes)
        })
    }

    fn lies(&self) -> u64 {
        self.lies
    }
}

struct Names(Vec<Child>);

impl Entries for Names {
    fn from(&self, index: usize) -> Box<dyn Iterator<Item = Child> + '_> {
        Box::new(self.0.iter().skip(index).cloned())
    }
}

fn ino_of(blob: BlobId) -> InodeNo {
    InodeNo::of_blob(blob).expect("in range")
}

fn entry_name(text: &str) -> EntryName {
    EntryName::new(text).expect("a valid name")
}

impl Fake {
    pub fn new() -> Self {
        let files = BTreeMap::new();
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            state: Mutex::new(State { files, next_blob: 1, mtime: Timestamp::from_unix_ns(1_000_000_000) }),
            listener: Mutex::new(None),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime"),
            gate: Arc::new(Notify::new()),
            stalls: Mutex::new(false),
            set: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn add_resident(&self, name: &str, content: &[u8]) {
        self.add(name, content, true);
    }

    pub fn add_remote(&self, name: &str, content: &[u8]) {
        self.add(name, content, false);
    }

    fn add(&self, name: &str, content: &[u8], resident: bool) {
        {
            let mut state = self.state.lock();
            let blob = BlobId::new(state.next_blob);
            state.next_blob += 1;
            fs::write(self.path(blob), content).expect("written");
            state.mtime = state.mtime.next();
            state
                .files
                .insert(entry_name(name), FakeFile { blob, content: Arc::new(content.to_vec()), resident, lies: 0 });
        }
        self.tell(vec![(InodeNo::ROOT, entry_name(name))], InodeNo::ROOT);
    }

    pub fn set_resident(&self, name: &str, resident: bool) {
        let blob = {
            let mut state = self.state.lock();
            let file = state.files.get_mut(name).expect("there");
            file.resident = resident;
            file.blob
        };
        self.tell(vec![], ino_of(blob));
    }

    /// What a hub sends instead, or the right bytes again. Same length.
    pub fn set_bytes(&self, name: &str, content: &[u8]) {
        let mut state = self.state.lock();
        let file = state.files.get_mut(name).expect("there");
        file.content = Arc::new(content.to_vec());
        file.lies += 1;
        let path = self.path(file.blob);
        fs::write(path, content).expect("written");
    }

    pub fn remove(&self, name: &str) {
        {
            let mut state = self.state.lock();
            state.files.remove(name).expect("there");
            state.mtime = state.mtime.next();
        }
        self.tell(vec![(InodeNo::ROOT, entry_name(name))], InodeNo::ROOT);
    }

    pub fn mtime(&self) -> Timestamp {
        self.state.lock().mtime
    }

    fn tell(&self, names: Vec<(InodeNo, EntryName)>, node: InodeNo) {
        if let Some(listener) = self.listener.lock().as_ref() {
            listener(Outdated { names, nodes: vec![node] });
        }
    }

    fn path(&self, blob: BlobId) -> PathBuf {
        self.folder.path().join(blob.to_string())
    }

    fn find(&self, blob: BlobId) -> Option<FakeFile> {
        self.state.lock().files.values().find(|file| file.blob == blob).cloned()
    }
}

impl FakeFile {
    fn attributes(&self) -> Attributes {
        Attributes {
            ino: ino_of(self.blob),
            kind: NodeKind::Blob(self.blob),
            size_bytes: self.content.len() as u64,
            mtime: Timestamp::from_unix_ns(5_000_000_000),
            nlink: 1,
        }
    }
}

const LIVE_NAME: &str = "live.json";

fn live_attributes() -> Attributes {
    let kind = NodeKind::Live(LiveFile::Status);
    Attributes { ino: InodeNo::of_fixed(7), kind, size_bytes: 0, mtime: Timestamp::default(), nlink: 1 }
}

impl Backend for Fake {
    fn attributes(&self, ino: InodeNo) -> Option<Attributes> {
        if ino == InodeNo::ROOT {
            let mtime = self.mtime();
            return Some(Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime, nlink: 2 });
        }
        if ino == live_attributes().ino {
            return Some(live_attributes());
        }
        self.find(ino.blob()?).map(|file| file.attributes())
    }

    fn lookup(&self, directory: InodeNo, name: &str) -> Option<Attributes> {
        if name == LIVE_NAME {
            return Some(live_attributes());
        }
        let state = self.state.lock();
        (directory == InodeNo::ROOT).then(|| state.files.get(name)).flatten().map(FakeFile::attributes)
    }

    fn parent(&self, directory: InodeNo) -> Option<InodeNo> {
        Some(directory)
    }

    fn entries(&self, directory: InodeNo) -> Option<Arc<dyn Entries>> {
        if directory != InodeNo::ROOT {
            return None;
        }
        let state = self.state.lock();
        let children = state.files.iter().map(|(name, file)| Child {
            name: name.clone(),
            ino: ino_of(file.blob),
            kind: NodeKind::Blob(file.blob),
        });
        Some(Arc::new(Names(children.collect())))
    }

    fn place(&self, _directory: InodeNo) -> Option<EntryName> {
        None
    }

    fn make_directory(&self, _parent: InodeNo, _name: &str) -> Result<Attributes, Fault> {
        Err(Fault::new(FaultKind::ReadOnly, "nothing changes here", ""))
    }

    fn remove_directory(&self, _parent: InodeNo, _name: &str) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::ReadOnly, "nothing changes here", ""))
    }

    fn remove_name(&self, _parent: InodeNo, _name: &str) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::ReadOnly, "nothing changes here", ""))
    }

    fn link(&self, _file: InodeNo, _directory: InodeNo, _name: &str) -> Result<Attributes, Fault> {
        Err(Fault::new(FaultKind::ReadOnly, "nothing changes here", ""))
    }

    fn takes_links(&self, _directory: InodeNo) -> bool {
        false
    }

    fn rename(&self, _parent: InodeNo, _name: &str, _to: InodeNo, _new_name: &str) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::ReadOnly, "nothing changes here", ""))
    }

    fn is_resident(&self, blob: BlobId) -> bool {
        self.find(blob).is_some_and(|file| file.resident)
    }

    fn open(&self, blob: BlobId) -> Result<Content, Fault> {
        let file = self.find(blob).ok_or_else(|| Fault::new(FaultKind::NotFound, "no such content", ""))?;
        if file.resident {
            return Ok(Content::Resident(File::open(self.path(blob)).expect("it is there")));
        }
        let gate = self.stalls.lock().then(|| Arc::clone(&self.gate));
        Ok(Content::Remote(Arc::new(Half { content: file.content, lies: file.lies, gate })))
    }

    fn live(&self, _file: LiveFile) -> Vec<u8> {
        format!("{{\"files\":{}}}\n", self.state.lock().files.len()).into_bytes()
    }

    fn spawn(&self, work: Pending<()>) {
        self.runtime.spawn(work);
    }

    fn attribute_names(&self, _ino: InodeNo) -> Vec<String> {
        self.set.lock().keys().cloned().collect()
    }

    fn attribute(&self, _ino: InodeNo, name: &str) -> Option<Vec<u8>> {
        self.set.lock().get(name).cloned()
    }

    fn set_attribute(&self, _ino: InodeNo, name: &str, value: &[u8]) -> Result<(), Fault> {
        if !name.starts_with("user.modelfs.") {
            return Err(Fault::new(FaultKind::NotPermitted, "not one of ours", ""));
        }
        self.set.lock().insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn remove_attribute(&self, _ino: InodeNo, name: &str) -> Result<(), Fault> {
        self.set.lock().remove(name);
        Ok(())
    }

    fn space(&self) -> Result<Space, Fault> {
        Ok(Space {
            total_bytes: 4096 * 1000,
            free_bytes: 4096 * 500,
            available_bytes: 4096 * 400,
            block_bytes: 4096,
            files_total: 100,
            files_free: 50,
        })
    }

    fn store_root(&self) -> Option<PathBuf> {
        Some(self.folder.path().to_owned())
    }

    fn on_change(&self, listener: OutdatedListener) {
        *self.listener.lock() = Some(listener);
    }

    fn stop(&self) {
        *self.listener.lock() = None;
    }
}

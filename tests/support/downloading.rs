//! The download engine on a store of its own and the fake hub: what tests of the engine begin with.

use super::fake_hub::{Content, DEFAULT_COMMIT, FakeHub, sha256_of_file};
use modelfs::base::{BlobId, ByteRange, Digest, EntryName, Fault as ModelFault, FaultKind};
use modelfs::base::{RelativePath, RepoId, Revision};
use modelfs::fetch::{Activity, Engine, EngineOptions, FetchError, Ledger, Preference, Progress, RemoteFile, Wanted};
use modelfs::hub::{HubOptions, HubSet, Mirrors, Origin};
use modelfs::store::{Hashes, Store};
use modelfs::tree::Source;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const MIB: u64 = 1 << 20;
pub const PATH: &str = "unet/m.safetensors";
pub const REPO: &str = "org/name";
/// Longest wait for something that happens within a second on an idle machine.
pub const WAIT_MAX: Duration = Duration::from_secs(40);
pub const NEVER: u64 = u64::MAX;

#[derive(Default)]
pub struct Books {
    pub events: Mutex<Vec<String>>,
    pub refuse: AtomicBool,
}

impl Books {
    pub fn count(&self, word: &str) -> usize {
        self.events.lock().expect("no panic").iter().filter(|event| event.starts_with(word)).count()
    }
}

impl Ledger for Books {
    fn began(&self, blob: BlobId) -> Result<(), ModelFault> {
        self.events.lock().expect("no panic").push(format!("began {blob}"));
        Ok(())
    }

    fn completed(&self, _: BlobId, hashes: &Hashes, name: &EntryName) -> Result<(), ModelFault> {
        self.events.lock().expect("no panic").push(format!("completed {name} {}", hashes.sha256));
        let full = || ModelFault::new(FaultKind::NoSpace, "the catalog is full", "free some space");
        if self.refuse.load(Ordering::Relaxed) { Err(full()) } else { Ok(()) }
    }

    fn failed(&self, _: BlobId, fault: &ModelFault) {
        self.events.lock().expect("no panic").push(format!("failed {fault}"));
    }
}

pub struct Setting {
    pub promote_after_bytes: u64,
    pub read_timeout: Duration,
    pub silence: Duration,
    pub offline: bool,
    pub preference: Preference,
    pub modelscope_endpoint: Option<String>,
    pub mirrors: Mirrors,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            promote_after_bytes: 16 * MIB,
            read_timeout: Duration::from_secs(20),
            silence: Duration::from_millis(700),
            offline: false,
            preference: Preference::Fastest,
            modelscope_endpoint: None,
            mirrors: Mirrors::default(),
        }
    }
}

/// One process: an engine on a store and a hub, with its own runtime.
pub struct Process {
    pub runtime: Option<Runtime>,
    pub engine: Engine,
    pub books: Arc<Books>,
}

impl Process {
    pub fn start(hub: &FakeHub, store: &TempDir, setting: Setting) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let usual = HubOptions::default();
        let options = HubOptions {
            modelscope_endpoint: setting.modelscope_endpoint.unwrap_or(usual.modelscope_endpoint),
            hf_endpoint: hub.endpoint(),
            offline: setting.offline,
            read_timeout: setting.silence,
            ..HubOptions::default()
        };
        let books = Arc::new(Books::default());
        let engine = Engine::new(
            Store::create(store.path()).expect("a store"),
            HubSet::new(options),
            EngineOptions {
                promote_after_bytes: setting.promote_after_bytes,
                read_timeout: setting.read_timeout,
                streams: 8,
                rate_bytes_max: None,
                preference: setting.preference,
                mirrors: setting.mirrors,
            },
            Arc::<Books>::clone(&books),
            runtime.handle().clone(),
        );
        Self { runtime: Some(runtime), engine, books }
    }

    pub fn open(&self, wanted: &Wanted) -> RemoteFile {
        self.engine.open(wanted).expect("opens on the local disk")
    }

    pub fn read(&self, file: &RemoteFile, start: u64, len: u64) -> Result<Vec<u8>, FetchError> {
        let runtime = self.runtime.as_ref().expect("until the end");
        runtime.block_on(file.read(range(start, len))).map(|bytes| bytes.to_vec())
    }

    /// As `kill -9` would, as far as one process can tell.
    pub fn kill(mut self) {
        self.runtime.take().expect("once").shutdown_timeout(Duration::from_secs(5));
    }
}

pub fn range(start: u64, len: u64) -> ByteRange {
    ByteRange::new(start, len).expect("not empty")
}

pub fn origin(repo: &str) -> Origin {
    Origin {
        source: Source::HuggingFace,
        repo: RepoId::new(repo).expect("a name"),
        commit: Revision::new(DEFAULT_COMMIT).expect("a commit"),
        path: RelativePath::new(PATH).expect("a path"),
    }
}

pub fn wanted(content: &Content) -> Wanted {
    Wanted {
        blob: BlobId::new(7),
        name: EntryName::new("m.safetensors").expect("a name"),
        size_bytes: content.size_bytes(),
        sha256: Some(Digest::parse(content.sha256()).expect("hex")),
        etag: None,
        origins: vec![origin(REPO)],
    }
}

pub fn hub_with(content: &Content) -> FakeHub {
    let hub = FakeHub::start();
    hub.repo(REPO).lfs(PATH, content.clone());
    hub
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

pub fn wait_until(what: &str, wanted: impl Fn() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn wait_for(file: &RemoteFile, activity: Activity) -> Progress {
    let start = Instant::now();
    loop {
        let progress = file.progress();
        if progress.activity == activity {
            return progress;
        }
        assert!(start.elapsed() < WAIT_MAX, "waited for {activity:?}: {progress:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn check_resident(store: &TempDir, content: &Content) {
    let path = store.path().join("models").join(content.sha256()).join("m.safetensors");
    assert_eq!(sha256_of_file(&path).expect("in the store"), content.sha256());
    assert_eq!(std::fs::read_dir(store.path().join("partial")).expect("a folder").count(), 0);
}

/// Reads everything in order, as `cat` does.
pub fn read_in_order(process: &Process, file: &RemoteFile, content: &Content, step: u64) {
    for start in (0..content.size_bytes()).step_by(usize::try_from(step).expect("small")) {
        let read = process.read(file, start, step).unwrap_or_else(|error| panic!("at {start}: {error}"));
        assert!(read == content.range(start, step), "wrong bytes at {start}");
    }
}

//! A store of its own, with files to take into it: what tests of imports begin with.

use crate::base::{Clock, Timestamp};
use crate::hub::HubOptions;
use crate::library::{ImportMode, ImportObserver, ImportRequest, ImportSummary, Library, LibraryOptions, ModelDetails};
use crate::store::Cancel;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A second later each time it is asked.
pub(super) struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ns(self.0.fetch_add(1_000_000_000, Ordering::Relaxed))
    }
}

#[derive(Default)]
pub(super) struct Progress {
    pub bytes: AtomicU64,
    pub files: AtomicU64,
    /// Stops after so many files.
    pub stop: Option<(u64, Cancel)>,
}

impl ImportObserver for Progress {
    fn advanced(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finished(&self, _path: &Path) {
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((limit, cancel)) = &self.stop
            && files >= *limit
        {
            cancel.cancel();
        }
    }
}

pub(super) struct Place {
    pub folder: tempfile::TempDir,
    pub library: Library,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let clock = Ticks(AtomicI64::new(1_700_000_000_000_000_000));
        let root = folder.path().join("store");
        assert!(Library::create(&root, &clock).expect("create"));
        assert!(!Library::create(&root, &clock).expect("create again"));
        let library = Library::open(options(&root), Arc::new(clock)).expect("open");
        Self { folder, library }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("exists").join("in").join(relative)
    }

    pub fn write(&self, relative: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("create");
        fs::write(&path, bytes).expect("write");
        path
    }

    pub fn request(&self, relative: &str, mode: ImportMode) -> ImportRequest {
        ImportRequest { paths: vec![self.path(relative)], mode: Some(mode), leave_symlink: false }
    }

    pub fn import(&self, relative: &str, mode: ImportMode) -> ImportSummary {
        self.run(&self.request(relative, mode), &Progress::default(), &Cancel::new())
    }

    pub fn run(&self, request: &ImportRequest, progress: &Progress, cancel: &Cancel) -> ImportSummary {
        let plan = self.library.plan_import(request, cancel).expect("a plan");
        self.library.import(plan, progress, cancel).expect("an import")
    }

    pub fn info(&self, reference: &str) -> ModelDetails {
        self.library.info(reference).expect(reference)
    }

    pub fn names(&self) -> Vec<String> {
        self.library.list(None).expect("a list").into_iter().map(|model| model.name).collect()
    }

    pub fn assert_sound(&self) {
        let summary = self.library.verify(&[], &Progress::default(), &Cancel::new()).expect("verified");
        assert_eq!(summary.findings, []);
    }
}

pub(super) fn options(root: &Path) -> LibraryOptions {
    LibraryOptions {
        store_root: root.to_owned(),
        hubs: HubOptions { offline: true, ..HubOptions::default() },
        promote_after_bytes: 16 << 20,
        read_timeout: Duration::from_secs(1),
        cache_limit_bytes: None,
        min_free_bytes: 0,
        rate_bytes_max: None,
        streams: 8,
        confidence_min: crate::classify::CONFIDENCE_MIN,
    }
}

/// A LoRA of SDXL in shape, with bytes that make it one of many.
pub(super) fn model(seed: u8) -> Vec<u8> {
    let name = "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight";
    let json = format!("{{\"{name}\":{{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]}}}}");
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend_from_slice(&[seed; 4]);
    bytes
}

pub(super) fn truncated() -> Vec<u8> {
    let mut bytes = model(9);
    bytes.truncate(bytes.len() - 3);
    bytes
}

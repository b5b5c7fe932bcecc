//! The files under `.modelfs/`: the state of the mount and its downloads, as JSON made when they are read.
//!
//! Invariant: nothing here holds a token or a signed address.

use super::attributes::percent;
use super::{Inner, Mounted};
use crate::base::{BlobId, BlobState};
use crate::catalog::BlobRow;
use crate::fetch::{Activity, Progress};
use crate::store::PartialKey;
use crate::tree::LiveFile;
use serde_json::{Value, json};

impl Mounted {
    /// Content of a live file, made now: one JSON value and a line break.
    pub fn live(&self, file: LiveFile) -> Vec<u8> {
        let value = match file {
            LiveFile::Status => self.status(),
            LiveFile::Downloads => self.inner.engine.downloads().iter().map(download).collect(),
        };
        let mut text = serde_json::to_vec_pretty(&value).expect("a JSON value can be written");
        text.push(b'\n');
        text
    }

    fn status(&self) -> Value {
        let tree = self.tree();
        let space = self.space().ok();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "store": self.inner.library.store().root().display().to_string(),
            "revision": tree.revision(),
            "models": tree.model_count(),
            "files": tree.blob_count(),
            "offline": self.inner.library.options().hubs.offline,
            "downloads": self.inner.engine.downloads().len(),
            "free_bytes": space.map(|space| space.available_bytes),
        })
    }
}

fn download(progress: &Progress) -> Value {
    json!({
        "id": progress.blob.get(),
        "name": progress.name.as_str(),
        "state": match progress.activity {
            Activity::Idle => "partial",
            Activity::Downloading => "downloading",
            Activity::Verifying => "verifying",
            Activity::Failed => "failed",
            Activity::Done => "resident",
        },
        "size": progress.size_bytes,
        "bytes_present": progress.bytes_present,
        "progress": percent(progress.bytes_present, progress.size_bytes),
        "speed": progress.bytes_per_s,
        "eta": progress.eta.map(|eta| eta.as_secs()),
        "source": progress.source.map(|source| source.as_str()),
        "error": progress.error.as_ref().map(ToString::to_string),
        "error_kind": progress.error.as_ref().map(|fault| fault.kind.as_str()),
    })
}

impl Inner {
    /// What the engine says, else what the chunk map on disk says about a file that nobody has open.
    pub(super) fn progress(&self, blob: BlobId, row: &BlobRow) -> Option<Progress> {
        let live = self.engine.progress(blob);
        if live.is_some() || row.state != BlobState::Partial {
            return live;
        }
        let kept = self.library.store().partial_info(&PartialKey::of_blob(blob)).ok().flatten()?;
        Some(Progress {
            blob,
            name: row.name.clone(),
            activity: Activity::Idle,
            size_bytes: row.size_bytes,
            bytes_present: kept.bytes_present,
            bytes_per_s: None,
            eta: None,
            source: None,
            error: None,
        })
    }
}

//! The mount that serves this store, if one does, and what it says about its downloads.
//!
//! Talks to it only through its files and attributes. Invariant: a mount that does not answer is passed over after
//! `ANSWER_TIMEOUT`, so that none can stall a command.

use crate::base::{Fault, FaultKind};
use crate::fuse;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A mount answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const STATUS: &str = ".modelfs/status.json";
const DOWNLOADS: &str = ".modelfs/downloads.json";
const FETCH: &str = "user.modelfs.fetch";

/// A mount of the store.
pub struct Serving {
    pub mount_point: PathBuf,
}

/// An entry of `downloads.json`.
#[derive(Clone, Debug)]
pub struct Download {
    pub id: i64,
    pub name: String,
    pub state: String,
    pub size_bytes: u64,
    pub bytes_present: u64,
    pub progress: String,
    pub bytes_per_s: Option<u64>,
    pub eta: Option<Duration>,
    pub source: Option<String>,
    /// Why it failed, or what is in its way at the moment.
    pub error: Option<Fault>,
    /// As it was read.
    pub value: Value,
}

impl Serving {
    /// Every mount of the store at `root`.
    pub fn of_store(root: &Path) -> Vec<Self> {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let serves = |mount_point: &PathBuf| {
            let status = read_json(&mount_point.join(STATUS));
            status.is_some_and(|status| status["store"].as_str().is_some_and(|store| Path::new(store) == root))
        };
        fuse::mount_points().into_iter().filter(serves).map(|mount_point| Self { mount_point }).collect()
    }

    pub fn downloads(&self) -> Result<Vec<Download>, Fault> {
        let list = read_json(&self.mount_point.join(DOWNLOADS)).ok_or_else(|| self.silent())?;
        Ok(parse(&list))
    }

    /// Starts or stops the download of the file at a path of the mount.
    pub fn fetch(&self, path: &str, start: bool) -> Result<(), Fault> {
        let path = self.mount_point.join(path);
        let value: &[u8] = if start { b"1" } else { b"0" };
        rustix::fs::setxattr(&path, FETCH, value, rustix::fs::XattrFlags::empty()).map_err(|error| {
            let what = format!("the mount refused {}: {}", path.display(), std::io::Error::from(error));
            Fault::new(FaultKind::Internal, what, "see `user.modelfs.error` of the file, or the mount's log")
        })
    }

    fn silent(&self) -> Fault {
        let what = format!("the mount at {} does not answer", self.mount_point.display());
        Fault::new(FaultKind::NotMounted, what, "see what `modelfs doctor` says")
    }
}

/// The entries of a list of downloads.
pub fn parse(list: &Value) -> Vec<Download> {
    list.as_array().into_iter().flatten().filter_map(download).collect()
}

fn download(value: &Value) -> Option<Download> {
    let error = value["error"].as_str().map(|text| {
        let kind = value["error_kind"].as_str().and_then(FaultKind::parse).unwrap_or(FaultKind::Internal);
        Fault::new(kind, text, "")
    });
    Some(Download {
        id: value["id"].as_i64()?,
        name: value["name"].as_str()?.to_owned(),
        state: value["state"].as_str()?.to_owned(),
        size_bytes: value["size"].as_u64()?,
        bytes_present: value["bytes_present"].as_u64()?,
        progress: value["progress"].as_str()?.to_owned(),
        bytes_per_s: value["speed"].as_u64(),
        eta: value["eta"].as_u64().map(Duration::from_secs),
        source: value["source"].as_str().map(str::to_owned),
        error,
        value: value.clone(),
    })
}

fn read_json(path: &Path) -> Option<Value> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    // A thread that a dead mount holds ends with the process.
    std::thread::spawn(move || {
        let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let _ = sender.send(read);
    });
    receiver.recv_timeout(ANSWER_TIMEOUT).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_what_is_none_is_left_out() {
        let list = serde_json::json!([
            { "id": 7, "name": "a.gguf", "state": "failed", "size": 9, "bytes_present": 3, "progress": "33.33",
              "speed": null, "eta": 5, "source": "huggingface", "error": "it is gone", "error_kind": "gone" },
            { "name": "no number" },
        ]);
        let [one] = &parse(&list)[..] else { panic!("one entry") };
        assert_eq!((one.id, one.bytes_per_s, one.eta), (7, None, Some(Duration::from_secs(5))));
        assert_eq!(one.error, Some(Fault::new(FaultKind::Gone, "it is gone", "")));
        assert!(parse(&serde_json::json!({})).is_empty());
    }
}

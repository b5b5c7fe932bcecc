//! Repositories in the hub's JSON.

use super::api::Found;
use super::content::sha256_of;
use super::repository::{Access, File, Storage};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const TIME: &str = "2026-01-02T03:04:05.000Z";

pub(super) fn info(id: &str, found: &Found, with_blobs: bool) -> Value {
    let siblings: Vec<Value> = found.files.iter().map(|(path, file)| sibling(path, file, with_blobs)).collect();
    json!({
        "_id": &sha256_of(id.as_bytes())[..24],
        "id": id,
        "modelId": id,
        "author": id.split('/').next(),
        "sha": found.commit,
        "lastModified": TIME,
        "createdAt": TIME,
        "private": found.access == Access::Private,
        "disabled": found.access == Access::Disabled,
        "gated": if found.access == Access::Gated { json!("auto") } else { json!(false) },
        "downloads": 1234,
        "likes": 56,
        "tags": found.tags,
        "usedStorage": found.files.values().map(|file| file.content.size_bytes()).sum::<u64>(),
        "siblings": siblings,
    })
}

fn sibling(path: &str, file: &File, with_blobs: bool) -> Value {
    let mut entry = json!({ "rfilename": path });
    if with_blobs {
        entry["size"] = json!(file.content.size_bytes());
        entry["blobId"] = json!(git_name(file));
        if file.storage == Storage::Lfs {
            let (sha256, size) = (file.content.sha256(), file.content.size_bytes());
            entry["lfs"] = json!({ "sha256": sha256, "size": size, "pointerSize": pointer_bytes(file) });
        }
    }
    entry
}

/// Git's name of what git keeps: the file, or the pointer to it.
fn git_name(file: &File) -> String {
    match file.storage {
        Storage::Git => file.content.git_sha1().to_owned(),
        Storage::Lfs => file.content.lfs_pointer().git_sha1().to_owned(),
    }
}

fn pointer_bytes(file: &File) -> u64 {
    file.content.lfs_pointer().size_bytes()
}

/// The entries below `folder`, directories before what is in them.
pub(super) fn entries(files: &BTreeMap<String, File>, folder: &str, recursive: bool) -> Vec<Value> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for (path, file) in files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        for (at, _) in below.match_indices('/') {
            let directory = format!("{prefix}{}", &below[..at]);
            let shown = recursive || !below[..at].contains('/');
            if shown && seen.insert(directory.clone()) {
                entries.push(directory_entry(&directory));
            }
        }
        if recursive || !below.contains('/') {
            entries.push(file_entry(path, file));
        }
    }
    entries
}

fn directory_entry(path: &str) -> Value {
    json!({ "type": "directory", "oid": &sha256_of(path.as_bytes())[..40], "size": 0, "path": path })
}

fn file_entry(path: &str, file: &File) -> Value {
    let size = file.content.size_bytes();
    let mut entry = json!({ "type": "file", "oid": git_name(file), "size": size, "path": path });
    if file.storage == Storage::Lfs {
        let sha256 = file.content.sha256();
        entry["lfs"] = json!({ "oid": sha256, "size": size, "pointerSize": pointer_bytes(file) });
        entry["xetHash"] = json!(sha256_of(format!("xet:{sha256}").as_bytes()));
    }
    entry
}

/// `body` is a form or JSON with `paths`; those that are not there are left out.
pub(super) fn paths_info(files: &BTreeMap<String, File>, body: &[u8]) -> Value {
    let paths: Vec<String> = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let paths = value["paths"].as_array().cloned().unwrap_or_default();
            paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
        }
        Err(_) => {
            let pairs = url::form_urlencoded::parse(body).filter(|(key, _)| key == "paths");
            pairs.map(|(_, path)| path.into_owned()).collect()
        }
    };
    let found = paths.iter().filter_map(|path| match files.get(path) {
        Some(file) => Some(file_entry(path, file)),
        None if !entries(files, path, false).is_empty() => Some(directory_entry(path)),
        None => None,
    });
    found.collect()
}

pub(super) fn refs(refs: &BTreeMap<String, String>) -> Value {
    let branches = refs
        .iter()
        .map(|(name, commit)| json!({ "name": name, "ref": format!("refs/heads/{name}"), "targetCommit": commit }));
    json!({ "branches": branches.collect::<Vec<_>>(), "converts": [], "tags": [] })
}

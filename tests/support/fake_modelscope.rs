//! A ModelScope on this machine: both interfaces, the cut listing, ranges as its site breaks them, its storage.
//!
//! Not here: uploads.

use super::fake_hub::Content;
use super::two_origins::{Answer, Ask, Storage, TwoOrigins};
use axum::http::{Method, header};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Entries of an answer of the real one.
pub const LISTING_ENTRIES: usize = 3000;

/// How the site answers a range of a small file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SmallRange {
    /// 200, with a right `Content-Range` and the part.
    PartAs200,
    /// 200 and all of it.
    Whole,
}

struct State {
    repos: BTreeMap<String, BTreeMap<String, File>>,
    small_range: SmallRange,
    /// Status of the answer for a file that is missing.
    missing_status: u16,
    /// The first listing is refused for no reason.
    spurious_refusals: u32,
    /// The newer interface is down.
    old_only: bool,
    busy: bool,
    facts: BTreeMap<String, Facts>,
    /// In place of every answer to a search.
    search_body: Option<String>,
}

/// What the page of a repository says.
#[derive(Clone)]
pub struct Facts {
    pub tags: Vec<&'static str>,
    pub license: &'static str,
    pub downloads: u64,
    pub gated: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { tags: vec!["lora", "library:safetensors"], license: "apache-2.0", downloads: 7, gated: false }
    }
}

#[derive(Clone)]
struct File {
    content: Content,
    is_large: bool,
    has_hash: bool,
}

pub struct FakeModelScope {
    pub origins: TwoOrigins,
    state: Arc<Mutex<State>>,
}

impl FakeModelScope {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            repos: BTreeMap::new(),
            small_range: SmallRange::PartAs200,
            missing_status: 200,
            spurious_refusals: 0,
            old_only: false,
            busy: false,
            facts: BTreeMap::new(),
            search_body: None,
        }));
        let seen = Arc::clone(&state);
        let rules =
            move |ask: &Ask, storage: &Storage| answer(&mut seen.lock().expect("no panic while held"), ask, storage);
        Self { origins: TwoOrigins::start(rules), state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut self.state.lock().expect("no panic while held"));
        self
    }

    pub fn large(&self, repo: &str, path: &str, content: impl Into<Content>) -> &Self {
        self.file(repo, path, File { content: content.into(), is_large: true, has_hash: true })
    }

    pub fn small(&self, repo: &str, path: &str, content: impl Into<Content>) -> &Self {
        self.file(repo, path, File { content: content.into(), is_large: false, has_hash: true })
    }

    fn file(&self, repo: &str, path: &str, file: File) -> &Self {
        self.set(|state| drop(state.repos.entry(repo.to_owned()).or_default().insert(path.to_owned(), file)))
    }

    /// What the page of a repository says.
    pub fn facts(&self, repo: &str, facts: Facts) -> &Self {
        self.set(|state| drop(state.facts.insert(repo.to_owned(), facts)))
    }

    /// Every search is answered with this body and 200.
    pub fn search_body(&self, body: impl Into<String>) -> &Self {
        self.set(|state| state.search_body = Some(body.into()))
    }

    pub fn remove(&self, repo: &str, path: &str) -> &Self {
        self.set(|state| drop(state.repos.get_mut(repo).map(|files| files.remove(path))))
    }

    pub fn small_range(&self, how: SmallRange) -> &Self {
        self.set(|state| state.small_range = how)
    }

    pub fn missing_status(&self, status: u16) -> &Self {
        self.set(|state| state.missing_status = status)
    }

    pub fn spurious_refusals(&self, count: u32) -> &Self {
        self.set(|state| state.spurious_refusals = count)
    }

    pub fn old_only(&self) -> &Self {
        self.set(|state| state.old_only = true)
    }

    pub fn busy(&self, busy: bool) -> &Self {
        self.set(|state| state.busy = busy)
    }
}

fn success(data: Value) -> Answer {
    Answer::json(200, &json!({ "Code": 200, "Success": true, "Message": "success", "RequestId": "r-1", "Data": data }))
}

fn failure(status: u16, code: u64, message: &str) -> Answer {
    Answer::json(status, &json!({ "Code": code, "Success": false, "Message": message, "RequestId": "r-2" }))
}

fn answer(state: &mut State, ask: &Ask, storage: &Storage) -> Answer {
    if state.busy {
        return Answer::json(429, &json!({ "Code": 429, "Success": false })).with("retry-after", 30);
    }
    let parts: Vec<&str> = ask.path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["openapi", "v1", "models", ..] if state.old_only => Answer::new(502, "text/html", "<html>502</html>"),
        ["openapi", "v1", "models"] => search(state, ask),
        ["openapi", "v1", "models", org, name] => match state.repos.contains_key(&format!("{org}/{name}")) {
            true => {
                let data = row(state, &format!("{org}/{name}"));
                Answer::json(200, &json!({ "success": true, "request_id": "r", "data": data }))
            }
            false => Answer::json(404, &json!({ "success": false, "code": "ResourceNotFound", "message": "none" })),
        },
        ["api", "v1", "models", org, name, rest @ ..] => {
            let repo = format!("{org}/{name}");
            let revision = ask.parameter("Revision").unwrap_or_else(|| "master".to_owned());
            if !state.repos.contains_key(&repo) || revision != "master" {
                return failure(404, 10_010_205_001, "record not found");
            }
            match rest {
                [] => success(json!({
                    "Name": name, "Path": org, "License": "Apache License 2.0", "Tags": ["lora"], "Visibility": 5,
                })),
                ["revisions"] => success(json!({ "RevisionMap": {
                    "Branches": [{ "Revision": "master", "CreatedAt": 1 }], "Tags": [],
                } })),
                ["repo", "files"] => listing(state, ask, &repo),
                ["repo"] => file(state, ask, storage, &repo),
                _ => Answer::new(404, "text/html", "<html></html>"),
            }
        }
        _ => Answer::new(404, "text/html", "<html></html>"),
    }
}

/// One repository, in search and alone.
fn row(state: &State, id: &str) -> Value {
    let facts = state.facts.get(id).cloned().unwrap_or_default();
    let sizes = state.repos[id].values().map(|file| file.content.size_bytes());
    json!({
        "id": id, "display_name": id.split('/').next_back(), "description": "", "downloads": facts.downloads, "likes": 2,
        "license": facts.license, "tasks": ["text-to-image-synthesis"], "created_at": "2026-01-01T00:00:00Z",
        "last_modified": "2026-01-02T03:04:05Z", "file_size": sizes.sum::<u64>(), "params": 0, "tags": facts.tags,
        "private": false, "gated": facts.gated,
    })
}

/// Page numbers and a total; values that are not known are ignored, and each filter takes one.
fn search(state: &State, ask: &Ask) -> Answer {
    if let Some(body) = &state.search_body {
        return Answer::new(200, "application/json; charset=utf-8", body.clone());
    }
    let number =
        |name: &str, default| ask.parameter(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(default);
    let (page, size) = (number("page_number", 1), number("page_size", 10));
    if page == 0 || size == 0 || page * size > 3000 {
        let message = "page_number * page_size";
        return Answer::json(400, &json!({ "success": false, "code": "InputParameterError", "message": message }));
    }
    let lower = |name: &str| ask.parameter(name).map(|text| text.to_lowercase());
    let (words, owner) = (lower("search"), lower("owner"));
    let filter = |name: &str| lower(&format!("filter.{name}"));
    let (tag, library, license) = (filter("custom_tag"), filter("library"), filter("license"));
    let mut found: Vec<Value> = state.repos.keys().map(|id| row(state, id)).collect();
    found.retain(|row| {
        let id = row["id"].as_str().expect("a name").to_lowercase();
        let has = |tag: &str| row["tags"].as_array().expect("a list").iter().any(|it| it == tag);
        words.as_ref().is_none_or(|words| id.contains(words.as_str()))
            && owner.as_ref().is_none_or(|owner| id.starts_with(&format!("{owner}/")))
            && tag.as_ref().is_none_or(|tag| has(tag))
            && library.as_ref().is_none_or(|library| has(&format!("library:{library}")))
            && license.as_ref().is_none_or(|license| row["license"] == license.as_str())
    });
    if ask.parameter("sort").as_deref() == Some("downloads") {
        found.sort_by_key(|row| std::cmp::Reverse(row["downloads"].as_u64()));
    }
    let total = found.len();
    let models: Vec<Value> = found.into_iter().skip((page - 1) * size).take(size).collect();
    let data = json!({ "models": models, "total_count": total, "page_number": page, "page_size": size });
    Answer::json(200, &json!({ "success": true, "request_id": "r", "data": data }))
}

fn listing(state: &mut State, ask: &Ask, repo: &str) -> Answer {
    if state.spurious_refusals > 0 {
        state.spurious_refusals -= 1;
        return failure(403, 403, "Forbidden");
    }
    let root = ask.parameter("Root").unwrap_or_default();
    let recursive = ask.parameter("Recursive").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let prefix = if root.is_empty() { String::new() } else { format!("{root}/") };
    let (mut entries, mut folders) = (Vec::new(), BTreeSet::new());
    for (path, file) in &state.repos[repo] {
        let Some(inside) = path.strip_prefix(&prefix) else { continue };
        let mut at = 0;
        while let Some(slash) = inside[at..].find('/') {
            folders.insert(format!("{prefix}{}", &inside[..at + slash]));
            at += slash + 1;
            if !recursive {
                break;
            }
        }
        if recursive || at == 0 {
            entries.push(json!({
                "Name": path.rsplit('/').next(), "Path": path, "Type": "blob", "Size": file.content.size_bytes(),
                "Sha256": if file.has_hash { file.content.sha256() } else { "" }, "IsLFS": false, "Mode": "33188",
                "Revision": file.content.git_sha1(), "CommittedDate": 1_767_322_645, "InCheck": false,
            }));
        }
    }
    let folder = |path: &String| json!({ "Name": path, "Path": path, "Type": "tree", "Size": 0, "Sha256": "" });
    let mut all: Vec<Value> = folders.iter().map(folder).collect();
    all.extend(entries);
    all.truncate(LISTING_ENTRIES);
    success(json!({ "Files": all }))
}

fn file(state: &State, ask: &Ask, storage: &Storage, repo: &str) -> Answer {
    let path = ask.parameter("FilePath").unwrap_or_default();
    let Some(file) = state.repos[repo].get(&path) else {
        return failure(state.missing_status, 10_990_101_007, "获取模型文件失败，文件内容为空");
    };
    let content = &file.content;
    if file.is_large {
        return Answer::new(302, "text/html", "")
            .with("location", storage.sign(content))
            .with("x-linked-etag", format!("\"{}\"", content.sha256()));
    }
    let size_bytes = content.size_bytes();
    let whole = || Answer::new(200, "application/octet-stream", content.to_vec());
    match (ask.range(size_bytes), state.small_range) {
        (Some((start, end)), SmallRange::PartAs200) if ask.method == Method::GET && start < end => {
            Answer::new(200, "application/octet-stream", content.range(start, end - start))
                .with("content-range", format!("bytes {start}-{}/{size_bytes}", end - 1))
        }
        _ => whole(),
    }
}

/// The cookie the real one's clients send.
pub fn session_of(ask: &Ask) -> Option<&str> {
    ask.header(header::COOKIE)?.strip_prefix("m_session_id=")
}

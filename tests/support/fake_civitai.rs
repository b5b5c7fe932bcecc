//! A Civitai on this machine: models, versions, downloads, lookups by hash, search, and its ways to refuse.

pub use super::civitai_trouble::Trouble;
use super::civitai_trouble::troubled;
use super::fake_hub::{Content, sha256_of};
use super::two_origins::{Answer, Ask, Storage, TwoOrigins};
use axum::http::{Method, header};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

/// A file of a version.
#[derive(Clone)]
pub struct File {
    pub id: u64,
    pub name: String,
    pub kind: &'static str,
    pub content: Content,
    /// Published at once, or only after a scan.
    pub hashed: bool,
    /// What the page says of its size; nothing for the truth.
    pub claimed_kib: Option<f64>,
}

#[derive(Clone)]
pub struct Version {
    pub id: u64,
    pub base: &'static str,
    pub files: Vec<File>,
    pub access: Access,
}

/// Who may download.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Public,
    /// Only with a key, as all of them in production.
    Login,
    Early,
    Disabled,
    Archived,
    /// The storage does not know the file for this many requests.
    Missing(u32),
    Busy,
}

#[derive(Clone)]
pub struct Model {
    pub id: u64,
    pub kind: &'static str,
    /// The newest first.
    pub versions: Vec<Version>,
    pub mode: Option<&'static str>,
    pub facts: Facts,
}

/// What the page of a model says.
#[derive(Clone)]
pub struct Facts {
    pub name: String,
    pub creator: &'static str,
    pub tags: Vec<&'static str>,
    pub nsfw_level: u64,
    /// Hidden by the creator where there is none.
    pub downloads: Option<u64>,
    pub likes: u64,
}

impl Default for Facts {
    fn default() -> Self {
        let (creator, tags) = ("painter", vec!["style", "sun"]);
        Self { name: "A model".to_owned(), creator, tags, nsfw_level: 1, downloads: None, likes: 3 }
    }
}

#[derive(Default)]
struct State {
    models: Vec<Model>,
    keys: Vec<String>,
    region_blocked: bool,
    /// In place of every answer to a search.
    search_body: Option<String>,
    /// Searches that are refused because the index is overloaded.
    overloads: u32,
    /// Answered instead of the next questions, one each.
    troubles: VecDeque<Option<Trouble>>,
    /// Questions that a mirror does not have.
    missing: Vec<&'static str>,
}

pub struct FakeCivitai {
    pub origins: TwoOrigins,
    state: Arc<Mutex<State>>,
}

impl File {
    pub fn new(id: u64, name: &str, content: impl Into<Content>) -> Self {
        let content = content.into();
        Self { id, name: name.to_owned(), kind: "Model", content, hashed: true, claimed_kib: None }
    }
}

impl Version {
    pub fn new(id: u64, access: Access, files: Vec<File>) -> Self {
        Self { id, base: "SD 1.5", files, access }
    }
}

impl FakeCivitai {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        let rules =
            move |ask: &Ask, storage: &Storage| answer(&mut seen.lock().expect("no panic while held"), ask, storage);
        Self { origins: TwoOrigins::start(rules), state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut self.state.lock().expect("no panic while held"));
        self
    }

    pub fn model(&self, id: u64, kind: &'static str, versions: Vec<Version>) -> &Self {
        self.set(|state| state.models.push(Model { id, kind, versions, mode: None, facts: Facts::default() }))
    }

    /// What the page of a model says.
    pub fn facts(&self, id: u64, facts: &Facts) -> &Self {
        self.set(|state| {
            state.models.iter_mut().filter(|model| model.id == id).for_each(|model| model.facts = facts.clone());
        })
    }

    /// Every search is answered with this body and 200.
    pub fn search_body(&self, body: impl Into<String>) -> &Self {
        self.set(|state| state.search_body = Some(body.into()))
    }

    /// The next searches with words are refused for two seconds.
    pub fn overload(&self, count: u32) -> &Self {
        self.set(|state| state.overloads = count)
    }

    pub fn mode(&self, id: u64, mode: &'static str) -> &Self {
        self.set(|state| {
            state.models.iter_mut().filter(|model| model.id == id).for_each(|model| model.mode = Some(mode));
        })
    }

    /// A key of an account.
    pub fn key(&self, key: &str) -> &Self {
        self.set(|state| state.keys.push(key.to_owned()))
    }

    /// The next questions are answered like this.
    pub fn trouble(&self, troubles: &[Trouble]) -> &Self {
        self.trouble_after(0, troubles)
    }

    /// The same after this many good answers.
    pub fn trouble_after(&self, good: usize, troubles: &[Trouble]) -> &Self {
        let all = std::iter::repeat_n(None, good).chain(troubles.iter().copied().map(Some));
        self.set(|state| state.troubles.extend(all))
    }

    /// There is no such question here: `ids`, `models`.
    pub fn without(&self, question: &'static str) -> &Self {
        self.set(|state| state.missing.push(question))
    }

    /// The model and all its versions are gone.
    pub fn remove(&self, id: u64) -> &Self {
        self.set(|state| state.models.retain(|model| model.id != id))
    }

    pub fn block_region(&self) -> &Self {
        self.set(|state| state.region_blocked = true)
    }
}

fn answer(state: &mut State, ask: &Ask, storage: &Storage) -> Answer {
    let agent = ask.header(header::USER_AGENT).unwrap_or_default().to_ascii_lowercase();
    if agent.is_empty() || agent.starts_with("python") || agent.starts_with("reqwest") {
        return Answer::new(403, "text/html", "<html>Attention Required!</html>");
    }
    let parts: Vec<&str> = ask.path.trim_matches('/').split('/').collect();
    if let ["api", "download", "models", version] = parts.as_slice() {
        return download(state, ask, storage, version.parse().unwrap_or(0), agent.contains("mozilla"));
    }
    if state.region_blocked {
        return Answer::json(451, &json!({ "error": "Not available in your region", "code": "REGION_BLOCKED" }));
    }
    if let Some(Some(trouble)) = state.troubles.pop_front() {
        return troubled(trouble);
    }
    match parts.as_slice() {
        ["api", "v1", "models"] if ask.parameter("ids").is_some() && state.missing.contains(&"models") => {
            Answer::json(404, &json!({ "error": "Not found" }))
        }
        ["api", "v1", "models"] if ask.parameter("ids").is_some() => list(state, ask),
        ["api", "v1", "models"] => search(state, ask),
        ["api", "v1", "model-versions", "by-hash", "ids"]
            if ask.method == Method::POST && !state.missing.contains(&"ids") =>
        {
            places(state, ask)
        }
        ["api", "v1", "model-versions", "by-hash", hash] if ask.method == Method::GET => by_hash(state, hash),
        ["api", "v1", "models", id] => match model(state, id) {
            Some(model) => Answer::json(200, &card(model)),
            None => Answer::json(404, &json!({ "error": format!("No model with id {id}") })),
        },
        ["api", "v1", "model-versions", "by-hash"] if ask.method == Method::POST => by_hashes(state, ask),
        ["api", "v1", "model-versions", id] => match version(state, id.parse().unwrap_or(0)) {
            Some((model, version)) => Answer::json(200, &version_object(model, version)),
            None => Answer::json(404, &json!({ "error": "Model not found" })),
        },
        ["api", "v1", "me"] => match knows(state, ask) {
            true => Answer::json(200, &json!({ "id": 1, "username": "somebody", "tier": "free" })),
            false => Answer::json(401, &json!({ "error": "Unauthorized" })),
        },
        _ => Answer::new(404, "text/html", "<html>no such page</html>"),
    }
}

fn knows(state: &State, ask: &Ask) -> bool {
    ask.bearer().is_some_and(|key| state.keys.iter().any(|known| known == key))
}

fn model<'s>(state: &'s State, id: &str) -> Option<&'s Model> {
    let id = id.parse::<u64>().ok()?;
    state.models.iter().find(|model| model.id == id)
}

fn version(state: &State, id: u64) -> Option<(&Model, &Version)> {
    let all = state.models.iter().flat_map(|model| model.versions.iter().map(move |version| (model, version)));
    all.into_iter().find(|(_, version)| version.id == id)
}

fn download(state: &mut State, ask: &Ask, storage: &Storage, id: u64, is_browser: bool) -> Answer {
    let refusal = |status, value: Value| Answer::json(status, &value).with("cache-control", "no-store, max-age=0");
    if ask.method == Method::HEAD {
        return refusal(401, json!({ "error": "Unauthorized" }));
    }
    if is_browser {
        return Answer::new(200, "text/html", "<html>Log in</html>");
    }
    let with_key = knows(state, ask);
    let missing = || refusal(404, json!({ "error": "File not found" }));
    let Some(version) = state.models.iter_mut().flat_map(|model| &mut model.versions).find(|it| it.id == id) else {
        return missing();
    };
    match &mut version.access {
        Access::Public => {}
        Access::Login if with_key => {}
        Access::Login => {
            let message = "The creator of this asset requires you to be logged in to download it";
            return refusal(401, json!({ "error": "Unauthorized", "message": message }));
        }
        Access::Disabled => {
            let message = "The creator of this asset has disabled downloads on this file";
            return refusal(401, json!({ "error": "Unauthorized", "message": message }));
        }
        Access::Early => {
            let message = "This asset is in Early Access. You can use Buzz access it now!";
            let deadline = "2027-01-02T03:04:05.000Z";
            return refusal(403, json!({ "error": "Early Access", "deadline": deadline, "message": message }));
        }
        Access::Archived => {
            return refusal(410, json!({ "error": "Model archived, not available for download" }));
        }
        Access::Busy => return refusal(429, json!({ "error": "an unusual amount of downloading" })),
        Access::Missing(left) if *left > 0 => {
            *left -= 1;
            return missing();
        }
        Access::Missing(_) => {}
    }
    let wanted = ask.parameter("fileId").and_then(|id| id.parse::<u64>().ok());
    let file = match wanted {
        Some(wanted) => version.files.iter().find(|file| file.id == wanted),
        None => version.files.first(),
    };
    match file {
        Some(file) => refusal(307, json!({})).with("location", storage.sign(&file.content)),
        None => missing(),
    }
}

/// Filters other than type, base and level run after a search for words, so its pages can be short or empty.
fn search(state: &mut State, ask: &Ask) -> Answer {
    if let Some(body) = &state.search_body {
        return Answer::new(200, "application/json; charset=utf-8", body.clone());
    }
    let asked = match Search::of(ask) {
        Ok(asked) => asked,
        Err(reason) => return Answer::json(400, &json!({ "error": reason })),
    };
    if asked.words.is_some() && state.overloads > 0 {
        state.overloads -= 1;
        let error = "Model search is temporarily overloaded — please retry.";
        return Answer::json(503, &json!({ "error": error })).with("retry-after", 2).with("cache-control", "no-store");
    }
    if let Some(user) = &asked.user
        && !state.models.iter().any(|model| model.facts.creator.eq_ignore_ascii_case(user))
    {
        return Answer::json(404, &json!({ "error": "User not found" }));
    }
    let mut found: Vec<&Model> = state.models.iter().filter(|model| asked.finds(model)).collect();
    match asked.sort.as_deref().filter(|_| asked.words.is_none()) {
        Some("Most Downloaded") => found.sort_by_key(|model| std::cmp::Reverse(model.facts.downloads)),
        Some("Newest") => found.reverse(),
        _ => found.sort_by_key(|model| std::cmp::Reverse(model.facts.likes)),
    }
    let is_known = |tag: &String| state.models.iter().any(|model| model.facts.tags.contains(&tag.as_str()));
    let tag = asked.tag.as_ref().filter(|tag| is_known(tag));
    let after = |model: &&Model| {
        tag.is_none_or(|tag| model.facts.tags.contains(&tag.as_str()))
            && asked.user.as_ref().is_none_or(|user| model.facts.creator.eq_ignore_ascii_case(user))
    };
    if asked.words.is_none() {
        found.retain(after);
    }
    let end = (asked.start + asked.limit).min(found.len());
    let page = &found[asked.start.min(end)..end];
    let items: Vec<Value> = page.iter().filter(|model| after(model)).map(|model| asked.card(model)).collect();
    let mut metadata = json!({ "currentPage": 1, "pageSize": asked.limit });
    if end < found.len() {
        let cursor = if asked.words.is_some() { end.to_string() } else { format!("{}|{end}", found[end].id) };
        metadata["nextCursor"] = json!(cursor);
        metadata["nextPage"] = json!(format!("https://civitai.com/api/v1/models?cursor={cursor}"));
    }
    Answer::json(200, &json!({ "items": items, "metadata": metadata }))
}

/// What a search asks, as the real one reads it.
struct Search {
    limit: usize,
    start: usize,
    words: Option<String>,
    user: Option<String>,
    tag: Option<String>,
    types: Vec<String>,
    bases: Vec<String>,
    sort: Option<String>,
    adult: bool,
}

impl Search {
    fn of(ask: &Ask) -> Result<Self, String> {
        const TYPES: [&str; 23] = [
            "Checkpoint",
            "TextualInversion",
            "Hypernetwork",
            "AestheticGradient",
            "LORA",
            "LoCon",
            "DoRA",
            "Controlnet",
            "Upscaler",
            "MotionModule",
            "VAE",
            "TextEncoder",
            "UNet",
            "CLIPVision",
            "Poses",
            "Wildcards",
            "Workflows",
            "ComfyWorkflows",
            "Detection",
            "VisionLanguage",
            "CLIP",
            "LLM",
            "Other",
        ];
        const SORTS: [&str; 8] = [
            "Highest Rated",
            "Most Downloaded",
            "Most Liked",
            "Most Discussed",
            "Most Collected",
            "Most Images",
            "Newest",
            "Oldest",
        ];
        let all = |name: &str| -> Vec<String> {
            let pairs = url::form_urlencoded::parse(ask.query.as_bytes()).filter(|(key, _)| key == name);
            pairs.map(|(_, value)| value.into_owned()).collect()
        };
        let limit = all("limit").first().map_or(Ok(100), |text| text.parse::<usize>()).map_err(|_| "limit")?;
        let (types, sort) = (all("types"), all("sort").into_iter().next());
        let adult = match all("nsfw").first().map(String::as_str) {
            None | Some("false" | "0" | "no" | "off") => false,
            Some("true" | "1" | "yes" | "on") => true,
            Some(_) => return Err("nsfw".to_owned()),
        };
        let words = all("query").into_iter().next();
        let cursor = all("cursor").into_iter().next().unwrap_or_else(|| "0".to_owned());
        let start = match &words {
            Some(_) => cursor.parse::<usize>(),
            None => cursor.rsplit('|').next().unwrap_or_default().parse::<usize>(),
        };
        if limit == 0 || limit > 100 {
            return Err("limit must be at most 100".to_owned());
        }
        if types.iter().any(|word| !TYPES.contains(&word.as_str())) {
            return Err("Invalid enum value of types".to_owned());
        }
        if sort.as_ref().is_some_and(|word| !SORTS.contains(&word.as_str())) {
            return Err("Invalid enum value of sort".to_owned());
        }
        if all("fileFormats").len() == 1 || words.is_some() && !all("page").is_empty() {
            return Err("Expected array, received string".to_owned());
        }
        Ok(Self {
            limit,
            start: start.map_err(|_| "malformed cursor")?,
            words,
            user: all("username").into_iter().next(),
            tag: all("tag").into_iter().next(),
            types,
            bases: all("baseModels"),
            sort,
            adult,
        })
    }

    fn finds(&self, model: &Model) -> bool {
        let name = model.facts.name.to_lowercase();
        let words = self.words.iter().flat_map(|words| words.split_whitespace());
        model.mode != Some("TakenDown")
            && (self.adult || model.facts.nsfw_level == 1)
            && (self.types.is_empty() || self.types.iter().any(|word| word == model.kind))
            && (self.bases.is_empty() || model.versions.iter().any(|it| self.has_base(it)))
            && words.map(str::to_lowercase).all(|word| name.contains(&word))
    }

    fn has_base(&self, version: &Version) -> bool {
        self.bases.iter().any(|base| base == version.base)
    }

    /// Asked for bases, the hub leaves out the versions of others.
    fn card(&self, model: &Model) -> Value {
        let mut model = model.clone();
        model.versions.retain(|version| self.bases.is_empty() || self.has_base(version));
        card(&model)
    }
}

/// Models by their numbers, at most 100; what is not for children only where it is asked for.
fn list(state: &State, ask: &Ask) -> Answer {
    let ids: Vec<u64> = ask.parameter("ids").unwrap_or_default().split(',').filter_map(|id| id.parse().ok()).collect();
    let limit: usize = ask.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
    if limit > 100 {
        return Answer::json(400, &json!({ "error": "limit" }));
    }
    let cards: Vec<Value> = state.models.iter().filter(|model| ids.contains(&model.id)).take(limit).map(card).collect();
    Answer::json(200, &json!({ "items": cards, "metadata": { "pageSize": limit } }))
}

fn all_versions(state: &State) -> impl Iterator<Item = (&Model, &Version)> {
    state.models.iter().flat_map(|model| model.versions.iter().map(move |version| (model, version)))
}

/// Where contents are, for up to 10,000 hashes.
fn places(state: &State, ask: &Ask) -> Answer {
    let hashes: Vec<String> = serde_json::from_slice(&ask.body).unwrap_or_default();
    if hashes.is_empty() || hashes.len() > 10_000 || hashes.iter().any(|hash| hash.len() != 64) {
        return Answer::json(400, &json!({ "error": "Request must include an array of SHA256 Hashes." }));
    }
    let hashes: HashSet<String> = hashes.iter().map(|hash| hash.to_ascii_lowercase()).collect();
    let mut found = Vec::new();
    for (model, version) in all_versions(state) {
        for file in version.files.iter().filter(|file| hashes.contains(file.content.sha256())) {
            let hash = file.content.sha256().to_uppercase();
            found.push(json!({ "modelVersionId": version.id, "modelId": model.id, "hash": hash }));
        }
    }
    Answer::json(200, &Value::Array(found))
}

/// One hash of any kind, in any case.
fn by_hash(state: &State, hash: &str) -> Answer {
    let has = |file: &File| {
        let hashes = file_hashes(file);
        hashes.values().any(|known| known.as_str().is_some_and(|known| known.eq_ignore_ascii_case(hash)))
    };
    match all_versions(state).find(|(_, version)| version.files.iter().any(has)) {
        Some((model, version)) => Answer::json(200, &version_object(model, version)),
        None => Answer::json(404, &json!({ "error": "Model not found" })),
    }
}

/// In capitals. A file that was just uploaded has none.
fn file_hashes(file: &File) -> serde_json::Map<String, Value> {
    let mut hashes = serde_json::Map::new();
    if !file.hashed {
        return hashes;
    }
    let sha256 = file.content.sha256().to_uppercase();
    hashes.insert("AutoV2".to_owned(), sha256[..10].into());
    let header = u64::from_le_bytes(file.content.range(0, 8).try_into().unwrap_or_default());
    let data_start = header.saturating_add(8);
    if file.name.ends_with(".safetensors") && data_start < file.content.size_bytes() {
        let data = file.content.range(data_start, file.content.size_bytes() - data_start);
        hashes.insert("AutoV3".to_owned(), sha256_of(&data)[..12].to_uppercase().into());
    }
    hashes.insert("SHA256".to_owned(), sha256.into());
    hashes
}

/// Misses are left out, the order is not that of the question, and some entries are empty.
fn by_hashes(state: &State, ask: &Ask) -> Answer {
    let Ok(hashes) = serde_json::from_slice::<Vec<String>>(&ask.body) else {
        return Answer::json(400, &json!({ "error": "Request must include an array of SHA256 Hashes." }));
    };
    if hashes.len() > 100 || hashes.iter().any(|hash| hash.len() != 64) {
        return Answer::json(400, &json!({ "error": "Request must include an array of SHA256 Hashes." }));
    }
    let mut found = vec![Value::Null];
    for (model, version) in state.models.iter().flat_map(|model| model.versions.iter().map(move |it| (model, it))) {
        let has = |hash: &String| version.files.iter().any(|file| file.content.sha256().eq_ignore_ascii_case(hash));
        if hashes.iter().any(has) {
            found.push(version_object(model, version));
        }
    }
    found.reverse();
    Answer::json(200, &Value::Array(found))
}

fn card(model: &Model) -> Value {
    let archived = model.mode == Some("Archived");
    let versions: Vec<Value> = model
        .versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            let files: Vec<Value> = version.files.iter().map(|file| file_object(version, file)).collect();
            json!({
                "id": version.id, "index": index, "name": format!("v{}", version.id), "baseModel": version.base,
                "baseModelType": "Standard", "trainedWords": ["sunlit style, sunlit", "glow"], "availability": "Public",
                "publishedAt": "2026-01-02T03:04:05.000Z", "paidAccess": null,
                "files": if archived { Vec::new() } else { files },
                "images": [{ "url": format!("https://image.civitai.com/k/{}/original=true/1.jpeg", version.id),
                    "type": "image", "nsfwLevel": 1, "width": 10, "height": 10 }, picture(version)],
            })
        })
        .collect();
    let mut card = json!({
        "id": model.id, "name": model.facts.name, "description": "<p>Light &amp; <b>warmth</b> for every picture</p>", "type": model.kind, "nsfw": false,
        "nsfwLevel": model.facts.nsfw_level,
        "allowNoCredit": false, "allowCommercialUse": "{Image,RentCivit}", "allowDerivatives": true,
        "stats": { "downloadCount": model.facts.downloads, "thumbsUpCount": model.facts.likes },
        "creator": { "username": model.facts.creator, "image": null }, "tags": model.facts.tags, "modelVersions": versions,
    });
    if let Some(mode) = model.mode {
        card["mode"] = json!(mode);
    }
    card
}

/// Some pictures come from a storage with signed addresses.
fn picture(version: &Version) -> Value {
    let url = format!("https://image-b2.civitai.com/x/{}.jpeg?Authorization=3_secret_signature", version.id);
    json!({ "url": url, "width": 832, "height": 1216, "type": "image", "nsfwLevel": 1, "hash": "U02" })
}

fn version_object(model: &Model, version: &Version) -> Value {
    let files: Vec<Value> = version.files.iter().map(|file| file_object(version, file)).collect();
    json!({
        "id": version.id, "modelId": model.id, "name": "v", "baseModel": version.base, "trainedWords": ["sunlit"],
        "model": { "name": "A model", "type": model.kind, "nsfw": false, "poi": false }, "files": files, "images": [],
        "downloadUrl": format!("https://undefined/api/download/models/{}", version.id),
    })
}

/// `primary` is absent, `metadata` has holes, hashes are in capitals, and the address names no file.
fn file_object(version: &Version, file: &File) -> Value {
    let kib = file.claimed_kib.unwrap_or(file.content.size_bytes() as f64 / 1024.0);
    let hashes = file_hashes(file);
    json!({
        "id": file.id, "sizeKB": kib, "name": file.name, "type": file.kind, "pickleScanResult": "Success",
        "virusScanResult": if file.hashed { "Success" } else { "Pending" }, "scannedAt": null,
        "metadata": { "fp": null, "size": null }, "hashes": hashes,
        "downloadUrl": format!("https://civitai.com/api/download/models/{}", version.id),
    })
}

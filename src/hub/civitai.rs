//! Civitai: models, their versions, files by number, and what a hash is known as.
//!
//! Invariants: a file is asked for by its number, since names change and the address the hub itself gives for a file that
//! is not the first can be a dead one; sizes are those the storage tells wherever it may be asked.
//! Not here: signed addresses and JSON (`site`), redirects and credentials (`client`).

use super::answer;
use super::civitai_cards;
use super::client::{self, Answer, Timeouts};
use super::listing::{self, RawFile, Sifted};
use super::measure::{check_identity, page_word};
use super::pace::CIVITAI_BUDGET;
use super::search::{FoundPage, Question};
use super::site::{Refusal, Site};
use super::{About, Expected, Hub, HubError, Known, Origin, Placed, Published, RangeStream, RepoListing, Sought};
use crate::base::{ByteRange, Digest, FileChoice, Locator, RelativePath, RepoId, Revision, Secret};
use crate::tree::Source;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::header;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// Files of one version whose size is asked of the storage: each costs a download of the account's allowance.
const MEASURED_MAX: usize = 16;
/// A file that is said to be missing is often there a moment later: the storage's index lags.
const MISSING_TRIES: u32 = 3;
const MISSING_PAUSE: Duration = Duration::from_millis(500);
/// Hashes of one question, as many as the hub takes.
const HASHES_MAX: usize = 100;

pub(super) struct Civitai {
    site: Site,
}

impl Civitai {
    pub fn new(endpoint: &str, token: Option<Secret>, timeouts: Timeouts) -> Self {
        Self { site: Site::new(endpoint, token, timeouts, CIVITAI_BUDGET) }
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    async fn describe_version(
        &self,
        model: Option<u64>,
        version: Option<u64>,
        choice: &FileChoice,
    ) -> Result<RepoListing, HubError> {
        let model = match (model, version) {
            (Some(model), _) => model,
            (None, Some(version)) => self.model_of(version).await?,
            (None, None) => return Err(HubError::NoHub { source_name: "civitai" }),
        };
        let subject = model.to_string();
        let card = self.json(&["api", "v1", "models", &subject], &subject).await?;
        let host = self.site.host()?;
        match text(&card["mode"]) {
            Some("Archived") => return Err(HubError::Archived { host, subject }),
            Some("TakenDown") => return Err(HubError::Disabled { host, subject }),
            _ => {}
        }
        let versions = card["modelVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = match version {
            Some(version) => versions.iter().find(|it| it["id"].as_u64() == Some(version)),
            // The newest comes first, and says so where the order was changed on the way.
            None => versions.iter().min_by_key(|it| it["index"].as_u64().unwrap_or(u64::MAX)),
        };
        let found = found.ok_or_else(|| HubError::RevisionNotFound { host: host.clone(), subject: subject.clone() })?;
        let malformed = || HubError::Malformed {
            host: host.clone(),
            subject: subject.clone(),
            detail: "a version without a number".to_owned(),
        };
        let number = found["id"].as_u64().ok_or_else(malformed)?.to_string();
        let commit = Revision::new(&number).map_err(|_| malformed())?;
        let repo = RepoId::new(&subject).map_err(|_| malformed())?;
        let mut sifted = listing::sift(files_of(&card, found, choice));
        if sifted.files.is_empty() && sifted.refused.is_empty() {
            return Err(HubError::EntryNotFound { host, subject: format!("{subject}@{number}") });
        }
        let gated = self.measure(&repo, &commit, &mut sifted).await?;
        let about = about(&card, found);
        Ok(RepoListing {
            source: Source::Civitai,
            repo,
            commit: commit.clone(),
            asked_by: commit,
            files: sifted.files,
            refused: sifted.refused,
            folded: sifted.folded,
            gated,
            tags: about.tags.clone(),
            about,
        })
    }

    async fn model_of(&self, version: u64) -> Result<u64, HubError> {
        let subject = format!("version {version}");
        let answered = self.json(&["api", "v1", "model-versions", &version.to_string()], &subject).await?;
        let host = self.site.host()?;
        let detail = "it does not say of which model it is".to_owned();
        answered["modelId"].as_u64().ok_or(HubError::Malformed { host, subject, detail })
    }

    /// Replaces the sizes by those of the storage. Says whether the hub wants more before it gives the files out.
    async fn measure(&self, repo: &RepoId, commit: &Revision, sifted: &mut Sifted) -> Result<bool, HubError> {
        for file in sifted.files.iter_mut().take(MEASURED_MAX) {
            let path = file.known_by.clone().unwrap_or_else(|| file.path.clone());
            let origin = Origin { source: Source::Civitai, repo: repo.clone(), commit: commit.clone(), path };
            match self.size_of(&origin).await {
                Ok(Some(size_bytes)) => file.size_bytes = size_bytes,
                Ok(None) => {}
                Err(error @ HubError::Archived { .. }) => return Err(error),
                // Listed by the size the uploader's browser told, which is right but for a few old files.
                Err(
                    HubError::LoginRequired { .. }
                    | HubError::EarlyAccess { .. }
                    | HubError::Forbidden { .. }
                    | HubError::BadToken { .. },
                ) => return Ok(true),
                Err(error) => tracing::info!("the size of {} is taken from its page: {error}", file.path),
            }
        }
        Ok(false)
    }

    /// HEAD is not answered reliably, so one byte is asked for; the signed address serves the reads that follow.
    async fn size_of(&self, origin: &Origin) -> Result<Option<u64>, HubError> {
        let subject = subject_of(origin);
        let answer = self.download(origin, ByteRange::new(0, 1).expect("not empty"), &subject).await?;
        let headers = answer.response.headers();
        let status = answer.response.status().as_u16();
        let place = client::text_header(headers, &header::CONTENT_RANGE).and_then(answer::content_range);
        let size_bytes = match status {
            206 => place.and_then(|place| place.total_bytes),
            416 => Some(0),
            _ => None,
        };
        if size_bytes.is_some() && answer.foreign {
            let etag = client::text_header(headers, &header::ETAG).and_then(answer::etag);
            self.site.keep(origin, answer.url.clone(), etag);
        }
        Ok(size_bytes)
    }

    /// An answer of the storage, or the hub's refusal as an error.
    async fn download(&self, origin: &Origin, range: ByteRange, subject: &str) -> Result<Answer, HubError> {
        let mut url = self.site.url(["api", "download", "models", origin.commit.as_str()])?;
        url.query_pairs_mut().append_pair("fileId", origin.path.as_str());
        let mut tries = 0;
        loop {
            let answer = self.site.get(url.clone(), Some(range), subject).await?;
            if answer.foreign || answer.response.status().is_success() {
                return Ok(answer);
            }
            tries += 1;
            let is_missing = answer.response.status() == reqwest::StatusCode::NOT_FOUND;
            if !is_missing || tries == MISSING_TRIES {
                return Err(self.refused(Refusal::Status(Box::new(answer)), subject).await);
            }
            tokio::time::sleep(MISSING_PAUSE).await;
        }
    }

    async fn open(&self, origin: &Origin, expected: &Expected, range: ByteRange) -> Result<RangeStream, HubError> {
        let subject = subject_of(origin);
        if let Some(stream) = self.site.open_again(origin, expected, range, &subject).await? {
            return Ok(stream);
        }
        let answer = self.download(origin, range, &subject).await?;
        check_identity(&answer.linked, expected, &subject)?;
        match self.site.accept_and_keep(answer, origin, expected, range, &subject) {
            Ok(stream) => Ok(stream),
            Err(refusal) => Err(self.refused(refusal, &subject).await),
        }
    }

    pub(super) fn api<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<Url, HubError> {
        self.site.url(segments)
    }

    async fn json(&self, segments: &[&str], subject: &str) -> Result<Value, HubError> {
        self.json_at(self.api(segments.iter().copied())?, subject).await
    }

    pub(super) async fn json_at(&self, url: Url, subject: &str) -> Result<Value, HubError> {
        match self.site.json::<Value>(url, subject).await {
            Ok((value, _)) => Ok(value),
            Err(refusal) => Err(self.refused(refusal, subject).await),
        }
    }

    async fn known_files(&self, sha256s: &[Digest]) -> Result<Vec<Known>, HubError> {
        let mut known = Vec::new();
        for some in sha256s.chunks(HASHES_MAX) {
            let url = self.site.url(["api", "v1", "model-versions", "by-hash"])?;
            let question = json!(some.iter().map(|sha256| sha256.to_string().to_uppercase()).collect::<Vec<_>>());
            let subject = "a list of hashes";
            let versions = match self.site.post::<Vec<Value>>(url, &question, subject).await {
                Ok(versions) => versions,
                Err(refusal) => return Err(self.refused(refusal, subject).await),
            };
            known.extend(some.iter().filter_map(|sha256| find(*sha256, &versions)));
        }
        Ok(known)
    }

    pub(super) async fn refused(&self, refusal: Refusal, subject: &str) -> HubError {
        self.site.refused(refusal, |answer| self.failure(answer, subject.to_owned())).await
    }

    /// Tells what a refusing answer means (section B2 of the protocol notes).
    async fn failure(&self, answer: Answer, subject: String) -> HubError {
        let host = client::host_of(&answer.url);
        let status = answer.response.status().as_u16();
        let content_type = client::content_type(answer.response.headers());
        let is_download = answer.url.path().contains("/api/download/");
        let is_version = answer.url.path().contains("/model-versions/");
        if matches!(status, 403 | 503) && content_type.contains("html") {
            // The firewall in front of the hub.
            return HubError::Page { host, subject, content_type: page_word(&content_type) };
        }
        if let Some(busy) = client::busy(&answer) {
            return busy;
        }
        let body = client::refusal_of(answer).await;
        let error = text(&body["error"]).unwrap_or_default();
        let message = client::shown(text(&body["message"]).unwrap_or(error), self.site.token());
        match status {
            401 if message.contains("disabled downloads") => HubError::Forbidden { host, subject, message },
            // A key that is wrong is ignored, not refused: the caller counts as nobody.
            401 if self.site.token().is_some() => HubError::BadToken { host },
            401 => HubError::LoginRequired { host, subject },
            403 if error == "Early Access" => {
                let until = text(&body["deadline"]).map(|until| client::shown(until, self.site.token()));
                HubError::EarlyAccess { host, subject, until }
            }
            403 => HubError::Forbidden { host, subject, message },
            404 if is_download => HubError::EntryNotFound { host, subject },
            404 if is_version => HubError::RevisionNotFound { host, subject },
            404 => HubError::RepoNotFound { host, subject },
            410 => HubError::Archived { host, subject },
            451 => HubError::RegionBlocked { host },
            _ => HubError::Status { host, subject, status, message },
        }
    }
}

impl Hub for Civitai {
    fn source(&self) -> Source {
        Source::Civitai
    }

    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>> {
        match locator {
            Locator::Civitai { model, version, choice } => Box::pin(self.describe_version(*model, *version, choice)),
            _ => Box::pin(std::future::ready(Err(HubError::NoHub { source_name: "civitai" }))),
        }
    }

    fn search<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<FoundPage, HubError>> {
        Box::pin(self.find(question))
    }

    fn known<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Vec<Known>, HubError>> {
        Box::pin(self.known_files(sha256s))
    }

    fn cards_max(&self) -> usize {
        civitai_cards::CARDS_MAX
    }

    fn placed<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Option<Vec<Placed>>, HubError>> {
        Box::pin(self.find_places(sha256s))
    }

    fn cards<'a>(&'a self, sought: &'a [Sought]) -> BoxFuture<'a, Result<Option<Vec<Option<Published>>>, HubError>> {
        Box::pin(self.find_cards(sought))
    }

    fn published<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Vec<(Digest, Published)>, HubError>> {
        Box::pin(self.find_published(sha256s))
    }

    fn published_by_tensors<'a>(&'a self, autov3: &'a str) -> BoxFuture<'a, Result<Option<Published>, HubError>> {
        Box::pin(self.find_by_tensors(autov3))
    }

    fn open_range<'a>(
        &'a self,
        origin: &'a Origin,
        expected: &'a Expected,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<RangeStream, HubError>> {
        Box::pin(self.open(origin, expected, range))
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(text)
}

fn subject_of(origin: &Origin) -> String {
    format!("file {} of civitai:{}@{}", origin.path, origin.repo, origin.commit)
}

pub(super) fn sha256_of(file: &Value) -> Option<Digest> {
    text(&file["hashes"]["SHA256"]).and_then(|hash| Digest::parse(hash).ok())
}

/// The files of a version that are wanted.
fn files_of(card: &Value, version: &Value, choice: &FileChoice) -> Vec<RawFile> {
    let mut names = HashSet::new();
    let files = version["files"].as_array().into_iter().flatten();
    let wanted = files.filter(|file| is_wanted(file, choice));
    let mut raw: Vec<RawFile> = Vec::new();
    for file in wanted {
        let id = file["id"].as_u64();
        let mut path = text(&file["name"]).unwrap_or_default().to_owned();
        // Two files of one version may have one name.
        if !names.insert(path.to_lowercase())
            && let Some(id) = id
        {
            let (stem, suffix) = path.rsplit_once('.').unwrap_or((&path, ""));
            path = if suffix.is_empty() { format!("{stem}~{id}") } else { format!("{stem}~{id}.{suffix}") };
        }
        // KiB as a float, which holds every count of bytes exactly.
        let size = file["sizeKB"].as_f64().map(|kib| (kib * 1024.0).round()).filter(|bytes| *bytes >= 0.0);
        let known_by = id.and_then(|id| RelativePath::new(&id.to_string()).ok());
        raw.push(RawFile {
            path,
            // Without a number it cannot be asked for.
            size_bytes: size.filter(|_| known_by.is_some()).map(|bytes| bytes as u64),
            sha256: sha256_of(file),
            git_sha1: None,
            known_by,
            folders: folders_of(text(&card["type"]), text(&file["type"]), text(&version["baseModel"])),
        });
    }
    raw
}

/// A word that was not said suits every file.
fn is_wanted(file: &Value, choice: &FileChoice) -> bool {
    let suits = |wanted: &Option<String>, value: &Value| {
        wanted.as_deref().is_none_or(|wanted| text(value).is_some_and(|value| value.eq_ignore_ascii_case(wanted)))
    };
    choice.id.is_none_or(|id| file["id"].as_u64() == Some(id))
        && suits(&choice.kind, &file["type"])
        && suits(&choice.format, &file["metadata"]["format"])
        && suits(&choice.size, &file["metadata"]["size"])
        && suits(&choice.precision, &file["metadata"]["fp"])
}

/// The hub's types as the folders of an application. The type of the file wins over that of the model.
fn folders_of(model: Option<&str>, file: Option<&str>, base: Option<&str>) -> Vec<String> {
    let by_file = match file {
        Some("VAE") => Some("vae"),
        Some("Text Encoder") => Some("text_encoders"),
        Some("Vision Encoder" | "CLIPVision") => Some("clip_vision"),
        Some("ControlNet") => Some("controlnet"),
        Some("Upscaler") => Some("upscale_models"),
        Some("UNet" | "Diffusion Model") => Some("diffusion_models"),
        Some("Negative") => Some("embeddings"),
        Some("Enhancement LoRA") => Some("loras"),
        Some("Training Data" | "Archive" | "Config" | "Workflow") => return Vec::new(),
        _ => None,
    };
    let by_model = match model {
        Some("Checkpoint") => Some("checkpoints"),
        Some("LORA" | "DoRA") => Some("loras"),
        Some("LoCon") => Some("LyCORIS"),
        Some("TextualInversion") => Some("embeddings"),
        Some("Hypernetwork") => Some("hypernetworks"),
        Some("Controlnet") => Some("controlnet"),
        Some("Upscaler") => Some("upscale_models"),
        Some("MotionModule") => Some("animatediff_models"),
        Some("VAE") => Some("vae"),
        Some("TextEncoder" | "CLIP") => Some("text_encoders"),
        Some("UNet") => Some("diffusion_models"),
        Some("CLIPVision") => Some("clip_vision"),
        _ => None,
    };
    base.into_iter().chain(by_file.or(by_model)).map(str::to_owned).collect()
}

pub(super) fn about(card: &Value, version: &Value) -> About {
    let mut tags: Vec<String> = texts(&card["tags"]).map(str::to_owned).collect();
    if card["nsfw"] == Value::Bool(true) {
        tags.push("nsfw".to_owned());
    }
    About {
        creator: text(&card["creator"]["username"]).map(str::to_owned),
        license: license(card),
        tags,
        trigger_words: trigger_words(version),
    }
}

/// One entry may hold several words with commas between them.
pub(super) fn trigger_words(version: &Value) -> Vec<String> {
    let words = texts(&version["trainedWords"]).flat_map(|entry| entry.split(','));
    let mut kept: Vec<String> = Vec::new();
    for word in words.map(str::trim).filter(|word| !word.is_empty()) {
        if !kept.iter().any(|known| known == word) {
            kept.push(word.to_owned());
        }
    }
    kept
}

/// The commercial uses that the creator allows: a list, or the text of one.
pub(super) fn license_uses(card: &Value) -> Vec<String> {
    let uses: Vec<String> = match &card["allowCommercialUse"] {
        Value::String(list) => list.trim_matches(['{', '}']).split(',').map(str::to_owned).collect(),
        list => texts(list).map(str::to_owned).collect(),
    };
    uses.into_iter().filter(|word| !word.is_empty() && word != "None").collect()
}

/// What the creator allows, in a line.
pub(super) fn license(card: &Value) -> Option<String> {
    let uses = license_uses(card);
    let flag = |name: &str, yes: &str, no: &str| card[name].as_bool().map(|it| if it { yes } else { no }.to_owned());
    let parts = [
        (!card["allowCommercialUse"].is_null()).then(|| match uses.is_empty() {
            true => "no commercial use".to_owned(),
            false => format!("commercial use: {}", uses.join(" ")),
        }),
        flag("allowNoCredit", "no credit needed", "credit required"),
        flag("allowDerivatives", "derivatives allowed", "no derivatives"),
    ];
    let line = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    (!line.is_empty()).then_some(line)
}

/// The first version that holds the content; entries may be empty, and their addresses broken.
fn find(sha256: Digest, versions: &[Value]) -> Option<Known> {
    versions.iter().find_map(|version| {
        let file = version["files"].as_array()?.iter().find(|file| sha256_of(file) == Some(sha256))?;
        let choice = FileChoice { id: file["id"].as_u64(), ..FileChoice::default() };
        let (model, id) = (version["modelId"].as_u64()?, version["id"].as_u64()?);
        let model_type = text(&version["model"]["type"]);
        Some(Known {
            sha256,
            locator: Locator::Civitai { model: Some(model), version: Some(id), choice },
            folders: folders_of(model_type, text(&file["type"]), text(&version["baseModel"])),
            about: about(&version["model"], version),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_shape_are_listed_by_number() {
        let hash = "AB".repeat(32);
        let version = json!({ "baseModel": "SDXL 1.0", "files": [
            { "id": 1, "name": "a.safetensors", "sizeKB": 1.5, "type": "Model", "hashes": { "SHA256": hash } },
            { "id": 2, "name": "A.safetensors", "sizeKB": 0.0009765625, "type": "VAE", "hashes": {} },
            { "id": null, "name": "b.safetensors", "sizeKB": 3, "hashes": null },
            { "id": 4, "name": "c.zip", "sizeKB": null, "type": "Training Data" },
        ] });
        let files = files_of(&json!({ "type": "LORA" }), &version, &FileChoice::default());
        let seen: Vec<_> = files
            .iter()
            .map(|file| {
                (file.path.as_str(), file.size_bytes, file.sha256.is_some(), file.folders.last().map(String::as_str))
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("a.safetensors", Some(1536), true, Some("loras")),
                ("A~2.safetensors", Some(1), false, Some("vae")),
                ("b.safetensors", None, false, Some("loras")),
                ("c.zip", None, false, None),
            ]
        );
    }

    #[test]
    fn a_choice_narrows() {
        let version = json!({ "files": [
            { "id": 1, "name": "a", "type": "Model", "metadata": { "format": "SafeTensor", "size": "full", "fp": "fp32" } },
            { "id": 2, "name": "b", "type": "Model", "metadata": { "format": "SafeTensor", "size": "pruned", "fp": "fp16" } },
            { "id": 3, "name": "c", "type": "VAE", "metadata": {} },
        ] });
        let ids = |choice: FileChoice| -> Vec<String> {
            let files = files_of(&Value::Null, &version, &choice);
            files.iter().filter_map(|file| file.known_by.as_ref()).map(ToString::to_string).collect()
        };
        let word = |text: &str| Some(text.to_owned());
        assert_eq!(ids(FileChoice { id: Some(3), ..FileChoice::default() }), ["3"]);
        assert_eq!(ids(FileChoice { kind: word("model"), precision: word("fp16"), ..FileChoice::default() }), ["2"]);
        assert_eq!(ids(FileChoice { format: word("GGUF"), ..FileChoice::default() }), [""; 0]);
    }

    #[test]
    fn licenses_and_words_of_both_spellings() {
        for (card, line) in [
            (json!({}), None),
            (
                json!({ "allowCommercialUse": ["None"], "allowNoCredit": false }),
                Some("no commercial use; credit required"),
            ),
            (json!({ "allowCommercialUse": "{Image,Sell}" }), Some("commercial use: Image Sell")),
        ] {
            assert_eq!(license(&card).as_deref(), line, "{card}");
        }
        let version = json!({ "trainedWords": ["one, two", "two", null, " "] });
        assert_eq!(trigger_words(&version), ["one", "two"]);
    }
}

//! ModelScope, through the older interface for files and either for what is said about a repository.
//!
//! Invariants: success is what the body says, not the status; a listing that may have been cut is walked folder by folder;
//! a range of the site itself is believed only as far as its headers and its length agree.
//! Not here: signed addresses and JSON (`site`), redirects and credentials (`client`).

use super::answer;
use super::client::{self, Answer, Body, Timeouts};
use super::listing::{self, FILES_MAX, RawFile};
use super::measure::{check_identity, page_word, refuse_compressed};
use super::pace::MODELSCOPE_BUDGET;
use super::search::{FoundPage, Question};
use super::site::{Refusal, Site};
use super::{About, Expected, Hub, HubError, Origin, RangeStream, RepoListing};
use crate::base::{ByteRange, Digest, Locator, RelativePath, RepoId, Revision, Secret};
use crate::tree::Source;
use futures_util::future::BoxFuture;
use reqwest::header;
use serde_json::Value;

const DEFAULT_REVISION: &str = "master";
/// The hub cuts every listing here, without a word.
const LISTING_ENTRIES_MAX: usize = 3000;
/// Folders that are listed one by one; repositories with so many files have a few hundred.
const FOLDERS_MAX: usize = 20_000;
/// A large listing is sometimes refused for no reason.
const LISTING_TRIES: u32 = 3;
/// Largest file that is taken out of a whole answer when the site ignores a range: such files are small.
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// The hub's numbers of failures.
const CODE_NO_REPO: u64 = 10_010_205_001;
const CODE_NO_FILE: u64 = 10_990_101_007;
const CODE_BAD_TOKEN: u64 = 10_010_103_009;
/// Hash of nothing: a size of zero is believed with it only.
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(super) struct ModelScope {
    site: Site,
}

impl ModelScope {
    pub fn new(endpoint: &str, token: Option<Secret>, timeouts: Timeouts) -> Self {
        Self { site: Site::new(endpoint, token, timeouts, MODELSCOPE_BUDGET).with_cookie("m_session_id") }
    }

    async fn describe_repo(
        &self,
        repo: &RepoId,
        revision: Option<&Revision>,
        path: Option<&RelativePath>,
    ) -> Result<RepoListing, HubError> {
        let host = self.site.host()?;
        let asked_by = revision.cloned().unwrap_or_else(|| Revision::new(DEFAULT_REVISION).expect("a word"));
        let entries = self.entries(repo, &asked_by).await?;
        // The branch stays and what it means changes, so the newest commit among the files names this state.
        let newest = entries.iter().max_by_key(|entry| entry["CommittedDate"].as_u64().unwrap_or(0));
        let commit = newest.and_then(|entry| text(&entry["Revision"])).and_then(|text| Revision::new(text).ok());
        let sifted = listing::sift_under(path, entries.iter().filter_map(file_of));
        if sifted.files.is_empty() && sifted.refused.is_empty() {
            let subject = path.map_or_else(|| repo.to_string(), |path| format!("{repo}/{path}"));
            return Err(HubError::EntryNotFound { host, subject });
        }
        let (about, gated) = self.about(repo).await;
        Ok(RepoListing {
            source: Source::ModelScope,
            repo: repo.clone(),
            commit: commit.unwrap_or_else(|| asked_by.clone()),
            asked_by,
            files: sifted.files,
            refused: sifted.refused,
            folded: sifted.folded,
            gated,
            tags: about.tags.clone(),
            about,
        })
    }

    /// Every file of the repository, also where one answer cannot hold them.
    async fn entries(&self, repo: &RepoId, revision: &Revision) -> Result<Vec<Value>, HubError> {
        let whole = self.list(repo, revision, "", true).await?;
        if whole.len() < LISTING_ENTRIES_MAX {
            return Ok(whole);
        }
        let over = |what, limit: usize| HubError::OverLimit {
            host: self.site.host().unwrap_or_default(),
            subject: repo.to_string(),
            what,
            limit: limit as u64,
        };
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            if seen > FOLDERS_MAX {
                return Err(over("folders", FOLDERS_MAX));
            }
            if files.len() > FILES_MAX {
                return Err(over("files", FILES_MAX));
            }
            // A folder that fits with all below it needs no walk.
            let inside = self.list(repo, revision, &folder, true).await?;
            if !folder.is_empty() && inside.len() < LISTING_ENTRIES_MAX {
                files.extend(inside);
                continue;
            }
            let inside = self.list(repo, revision, &folder, false).await?;
            if inside.len() >= LISTING_ENTRIES_MAX {
                return Err(over("files in one folder", LISTING_ENTRIES_MAX));
            }
            for entry in inside {
                match (is_folder(&entry), text(&entry["Path"])) {
                    (true, Some(path)) => folders.push(path.to_owned()),
                    (true, None) => {}
                    (false, _) => files.push(entry),
                }
            }
        }
        Ok(files)
    }

    async fn list(
        &self,
        repo: &RepoId,
        revision: &Revision,
        root: &str,
        recursive: bool,
    ) -> Result<Vec<Value>, HubError> {
        let segments = ["api", "v1", "models"].into_iter().chain(repo.as_str().split('/')).chain(["repo", "files"]);
        let mut url = self.site.url(segments)?;
        url.query_pairs_mut()
            .append_pair("Revision", revision.as_str())
            .append_pair("Recursive", if recursive { "True" } else { "False" })
            .append_pair("Root", root);
        let mut tries = 0;
        let data = loop {
            tries += 1;
            match self.data(url.clone(), repo.as_str()).await {
                Err(HubError::Forbidden { .. }) if tries < LISTING_TRIES => {}
                answered => break answered?,
            }
        };
        let files = data.get("Files").unwrap_or(&data);
        files.as_array().cloned().ok_or_else(|| HubError::Malformed {
            host: self.site.host().unwrap_or_default(),
            subject: repo.to_string(),
            detail: "its list of files is none".to_owned(),
        })
    }

    /// What is said about a repository, and whether it is gated; nothing when neither interface says a word.
    async fn about(&self, repo: &RepoId) -> (About, bool) {
        let segments = |start: [&'static str; 3]| start.into_iter().chain(repo.as_str().split('/'));
        let new = match self.site.url(segments(["openapi", "v1", "models"])) {
            Ok(url) => self.data(url, repo.as_str()).await,
            Err(error) => Err(error),
        };
        let card = match new {
            Ok(card) => Ok(card),
            Err(_) => match self.site.url(segments(["api", "v1", "models"])) {
                Ok(url) => self.data(url, repo.as_str()).await,
                Err(error) => Err(error),
            },
        };
        let card = card.unwrap_or_else(|error| {
            tracing::info!("{repo} is registered without its description: {error}");
            Value::Null
        });
        (about(repo, &card), card["gated"] == Value::Bool(true))
    }

    pub(super) fn api<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<reqwest::Url, HubError> {
        self.site.url(segments)
    }

    /// The payload of an answer of either interface.
    pub(super) async fn data(&self, url: reqwest::Url, subject: &str) -> Result<Value, HubError> {
        match self.site.json::<Value>(url, subject).await {
            Err(refusal) => Err(self.refused(refusal, subject).await),
            Ok((body, _)) => {
                let host = self.site.host()?;
                if is_failure(&body) {
                    return Err(self.meaning(200, &body, host, subject.to_owned()));
                }
                let data = body.get("Data").or_else(|| body.get("data")).cloned();
                let detail = "an answer without its data".to_owned();
                data.ok_or(HubError::Malformed { host, subject: subject.to_owned(), detail })
            }
        }
    }

    async fn open(&self, origin: &Origin, expected: &Expected, range: ByteRange) -> Result<RangeStream, HubError> {
        let subject = format!("{}/{}", origin.repo, origin.path);
        if let Some(stream) = self.site.open_again(origin, expected, range, &subject).await? {
            return Ok(stream);
        }
        let segments = ["api", "v1", "models"].into_iter().chain(origin.repo.as_str().split('/')).chain(["repo"]);
        let mut url = self.site.url(segments)?;
        url.query_pairs_mut()
            .append_pair("Revision", origin.commit.as_str())
            .append_pair("FilePath", origin.path.as_str());
        let answer = self.site.get(url, Some(range), &subject).await?;
        check_identity(&answer.linked, expected, &subject)?;
        if !answer.foreign && answer.response.status() == reqwest::StatusCode::OK {
            return self.open_small(answer, expected, range, subject).await;
        }
        match self.site.accept_and_keep(answer, origin, expected, range, &subject) {
            Ok(stream) => Ok(stream),
            Err(refusal) => Err(self.refused(refusal, &subject).await),
        }
    }

    /// A file out of the site itself, which answers 200 to a range: with that range, with the whole file, or with a
    /// failure in place of it.
    async fn open_small(
        &self,
        answer: Answer,
        expected: &Expected,
        range: ByteRange,
        subject: String,
    ) -> Result<RangeStream, HubError> {
        let host = client::host_of(&answer.url);
        let headers = answer.response.headers();
        refuse_compressed(headers, &host, &subject)?;
        let length = client::text_header(headers, &header::CONTENT_LENGTH).and_then(answer::number);
        let content_type = client::content_type(headers);
        let place = client::text_header(headers, &header::CONTENT_RANGE).and_then(answer::content_range);
        if let Some(place) = place {
            let total_ok = place.total_bytes.is_none_or(|total| total == expected.size_bytes);
            if place.range == range && total_ok && length.is_none_or(|length| length == range.len()) {
                return Ok(RangeStream::new(Body::new(answer.response, host), range));
            }
            let detail = format!("asked {range}, given {} in another shape", place.range);
            return Err(HubError::WrongRange { host, subject, detail });
        }
        let is_whole = length.is_none_or(|length| length == expected.size_bytes);
        if content_type.contains("json") && length != Some(expected.size_bytes) {
            let body = client::refusal_of(answer).await;
            if is_failure(&body) {
                return Err(self.meaning(200, &body, host, subject));
            }
            return Err(HubError::Page { host, subject, content_type: page_word(&content_type) });
        }
        if content_type.contains("html") && !subject.ends_with(".html") {
            return Err(HubError::Page { host, subject, content_type: page_word(&content_type) });
        }
        if !is_whole || expected.size_bytes > WHOLE_BYTES_MAX && range.len() < expected.size_bytes {
            return Err(HubError::WrongRange { host, subject, detail: "the whole file".to_owned() });
        }
        Ok(RangeStream::out_of_whole(Body::new(answer.response, host), range))
    }

    async fn refused(&self, refusal: Refusal, subject: &str) -> HubError {
        let failure = async |answer: Answer| {
            if let Some(busy) = client::busy(&answer) {
                return busy;
            }
            let (host, status) = (client::host_of(&answer.url), answer.response.status().as_u16());
            self.meaning(status, &client::refusal_of(answer).await, host, subject.to_owned())
        };
        self.site.refused(refusal, failure).await
    }

    /// What a failure is, by its number, its word or its status, in that order.
    fn meaning(&self, status: u16, body: &Value, host: String, subject: String) -> HubError {
        let words = ["Message", "message", "Msg", "msg", "error", "detail"];
        let message = words.iter().find_map(|word| text(&body[*word])).unwrap_or_default();
        let message = client::shown(message, self.site.token());
        let is_file = subject.splitn(3, '/').count() == 3;
        let missing = |host, subject| match is_file {
            true => HubError::EntryNotFound { host, subject },
            false => HubError::RepoNotFound { host, subject },
        };
        match (body["Code"].as_u64(), text(&body["code"]), status) {
            (Some(CODE_NO_REPO), _, _) => HubError::RepoNotFound { host, subject },
            (Some(CODE_NO_FILE), _, _) => HubError::EntryNotFound { host, subject },
            (Some(CODE_BAD_TOKEN), _, _) | (_, Some("InvalidAuthentication"), _) => HubError::BadToken { host },
            (_, Some("ResourceNotFound"), _) | (_, _, 404) => missing(host, subject),
            (_, Some("OperationNotAllowed" | "QuotaLimitExceed"), _) | (_, _, 403) => {
                HubError::Forbidden { host, subject, message }
            }
            (_, Some("RateLimitExceed"), _) => HubError::RateLimited { host, retry_after: None },
            (_, _, 401) if self.site.token().is_some() => HubError::BadToken { host },
            (_, _, 401) => HubError::RepoNotFound { host, subject },
            (_, _, 410) => HubError::EntryNotFound { host, subject },
            // A failure that came as a success.
            (_, _, 200) => HubError::Status { host, subject, status: 500, message },
            _ => HubError::Status { host, subject, status, message },
        }
    }
}

impl Hub for ModelScope {
    fn source(&self) -> Source {
        Source::ModelScope
    }

    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>> {
        match locator {
            Locator::ModelScope { repo, revision, path } => {
                Box::pin(self.describe_repo(repo, revision.as_ref(), path.as_ref()))
            }
            _ => Box::pin(std::future::ready(Err(HubError::NoHub { source_name: "modelscope" }))),
        }
    }

    fn search<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<FoundPage, HubError>> {
        Box::pin(self.find(question))
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

/// Either interface says so in the body, whatever the status is.
fn is_failure(body: &Value) -> bool {
    let says_no = |name: &str| body[name] == Value::Bool(false);
    says_no("Success") || says_no("success") || body["Code"].as_u64().is_some_and(|code| code != 200)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn is_folder(entry: &Value) -> bool {
    text(&entry["Type"]) == Some("tree")
}

/// Nothing for folders and for git's own files, which the hub's clients skip too.
fn file_of(entry: &Value) -> Option<RawFile> {
    let path = text(&entry["Path"]).unwrap_or_default().to_owned();
    if is_folder(entry) || matches!(path.as_str(), ".gitignore" | ".gitattributes") {
        return None;
    }
    let sha256 = text(&entry["Sha256"]).and_then(|hash| Digest::parse(hash).ok());
    // Zero also means that the hub does not know.
    let is_empty = sha256.is_some_and(|sha256| sha256.to_string() == SHA256_OF_NOTHING);
    let size_bytes = entry["Size"].as_u64().filter(|size| *size > 0 || is_empty);
    Some(RawFile { path, size_bytes, sha256, git_sha1: None, known_by: None, folders: Vec::new() })
}

fn about(repo: &RepoId, card: &Value) -> About {
    let words = ["tags", "Tags"].iter().find_map(|name| card[*name].as_array());
    // An entry is a word, or an object with its name.
    let word = |tag: &Value| text(tag).or_else(|| text(&tag["Name"])).map(str::to_owned);
    let tags: Vec<String> = words.into_iter().flatten().filter_map(word).collect();
    let license = text(&card["license"]).or_else(|| text(&card["License"])).map(str::to_owned);
    let from_tag = || tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
    About {
        creator: repo.as_str().split_once('/').map(|(org, _)| org.to_owned()),
        license: license.or_else(from_tag),
        tags: tags.iter().filter(|tag| !tag.contains(':')).cloned().collect(),
        trigger_words: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_is_told_by_the_body() {
        for (body, failed) in [
            (json!({ "Code": 200, "Success": true }), false),
            (json!({ "Code": 200, "Success": false }), true),
            (json!({ "Code": 10_990_101_007_u64 }), true),
            (json!({ "success": false, "code": "ResourceNotFound" }), true),
            (json!({ "success": true, "data": {} }), false),
            (json!([]), false),
        ] {
            assert_eq!(is_failure(&body), failed, "{body}");
        }
    }

    #[test]
    fn entries_of_any_shape() {
        let hash = "ab".repeat(32);
        let entries = json!([
            { "Path": "d", "Type": "tree", "Size": 0 },
            { "Path": "d/a.gguf", "Type": "blob", "Size": 7, "Sha256": hash, "IsLFS": false },
            { "Path": "unknown.bin", "Type": "blob", "Size": 0, "Sha256": "" },
            { "Path": "empty.txt", "Type": "blob", "Size": 0, "Sha256": SHA256_OF_NOTHING },
            { "Path": ".gitattributes", "Type": "blob", "Size": 3 },
            { "Type": "blob" },
        ]);
        let files: Vec<RawFile> = entries.as_array().expect("a list").iter().filter_map(file_of).collect();
        let seen: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.size_bytes)).collect();
        assert_eq!(seen, [("d/a.gguf", Some(7)), ("unknown.bin", None), ("empty.txt", Some(0)), ("", None)]);
    }

    #[test]
    fn both_interfaces_describe() {
        let repo = RepoId::new("org/name").expect("a name");
        for card in [
            json!({ "license": "mit", "tags": ["lora", "library:gguf"] }),
            json!({ "License": "mit", "Tags": [{ "Name": "lora" }] }),
            json!({ "tags": ["license:mit", "lora"] }),
        ] {
            let about = about(&repo, &card);
            assert_eq!((about.license.as_deref(), about.tags), (Some("mit"), vec!["lora".to_owned()]), "{card}");
        }
    }
}

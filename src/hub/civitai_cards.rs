//! What Civitai tells about contents, many in one request: by hash, and by the numbers of its models.
//!
//! Invariant: each function is one request, so that whoever asks decides how fast. Not here: the look of an answer as it
//! is kept (`published`), files and downloads (`civitai`).

use super::HubError;
use super::civitai::{Civitai, about, license_uses, sha256_of, text};
use super::client::{self, Answer};
use super::measure::page_word;
use super::published::{Placed, Published, Sought, archived, clean, plain_text, previews};
use super::site::Refusal;
use crate::base::{Digest, RepoId, Revision};
use reqwest::Url;
use serde_json::{Value, json};

/// Models on one page, the most that the hub gives.
pub(super) const CARDS_MAX: usize = 100;
/// Hashes of one question for whole answers, and for places alone; both as many as the hub takes.
pub const PUBLISHED_MAX: usize = 100;
pub const PLACED_MAX: usize = 10_000;
/// Digits of an AutoV3 that the hub gives; files from before 2024 have all 64.
const AUTOV3_DIGITS: usize = 12;
const HASHES: &str = "a list of hashes";

/// An answer, or that the hub has no such question.
enum Asked<T> {
    Answered(T),
    NoSuchQuestion,
}

impl Civitai {
    pub(super) async fn find_places(&self, sha256s: &[Digest]) -> Result<Option<Vec<Placed>>, HubError> {
        let url = self.site().url(["api", "v1", "model-versions", "by-hash", "ids"])?;
        let question = hashes(sha256s);
        let answered = self.site().post::<Vec<Value>>(url, &question, HASHES).await;
        let Asked::Answered(entries) = self.asked(answered, HASHES).await? else { return Ok(None) };
        let placed = |entry: &Value| {
            let number = |key: &str| entry[key].as_u64().map(|number| number.to_string());
            Some(Placed {
                sha256: text(&entry["hash"]).and_then(|hash| Digest::parse(hash).ok())?,
                repo: RepoId::new(&number("modelId")?).ok()?,
                revision: Revision::new(&number("modelVersionId")?).ok()?,
            })
        };
        let mut found: Vec<Placed> = entries.iter().filter_map(placed).collect();
        // What was not asked about would be believed of a file that is not it.
        found.retain(|placed| sha256s.contains(&placed.sha256));
        Ok(Some(found))
    }

    /// In the order of the question.
    pub(super) async fn find_cards(&self, sought: &[Sought]) -> Result<Option<Vec<Option<Published>>>, HubError> {
        let mut url: Url = self.site().url(["api", "v1", "models"])?;
        let mut ids: Vec<&str> = sought.iter().map(|one| one.repo.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        // Without the last one the hub leaves out whatever is not for children.
        url.query_pairs_mut()
            .append_pair("ids", &ids.join(","))
            .append_pair("limit", &CARDS_MAX.to_string())
            .append_pair("nsfw", "true");
        let subject = "a list of models";
        let answered = self.site().json::<Value>(url, subject).await.map(|(value, _)| value);
        let Asked::Answered(page) = self.asked(answered, subject).await? else { return Ok(None) };
        let Some(cards) = page["items"].as_array() else {
            let detail = "a list of models without `items`".to_owned();
            return Err(HubError::Malformed { host: self.site().host()?, subject: subject.to_owned(), detail });
        };
        let published = |one: &Sought| {
            let is_it =
                |card: &&Value| card["id"].as_u64().map(|id| id.to_string()).as_deref() == Some(one.repo.as_str());
            let card = cards.iter().find(is_it)?;
            let versions = card["modelVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let version = version_of(versions, one);
            // A version that is not listed may still be known by its hash, which tells more than the model alone.
            (version.is_some() || one.sha256.is_none())
                .then(|| self.published(card, version.unwrap_or(&Value::Null), file_of(version, one), card))
        };
        Ok(Some(sought.iter().map(published).collect()))
    }

    pub(super) async fn find_published(&self, sha256s: &[Digest]) -> Result<Vec<(Digest, Published)>, HubError> {
        let url = self.site().url(["api", "v1", "model-versions", "by-hash"])?;
        let versions = match self.site().post::<Vec<Value>>(url, &hashes(sha256s), HASHES).await {
            Ok(versions) => versions,
            Err(refusal) => return Err(self.told(refusal, HASHES).await),
        };
        let find = |sha256: &Digest| {
            let has = |file: &&Value| sha256_of(file) == Some(*sha256);
            let found = versions.iter().find_map(|version| Some((version, files(version).find(has)?)));
            found.map(|(version, file)| (*sha256, self.published(&version["model"], version, Some(file), version)))
        };
        Ok(sha256s.iter().filter_map(find).collect())
    }

    pub(super) async fn find_by_tensors(&self, autov3: &str) -> Result<Option<Published>, HubError> {
        let asked: String = autov3.chars().take(AUTOV3_DIGITS).collect();
        let url = self.site().url(["api", "v1", "model-versions", "by-hash", &asked.to_uppercase()])?;
        let subject = format!("AutoV3 {asked}");
        let version = match self.site().json::<Value>(url, &subject).await {
            Ok((version, _)) => version,
            Err(Refusal::Status(answer)) if answer.response.status().as_u16() == 404 && !is_page(&answer) => {
                return Ok(None);
            }
            Err(refusal) => return Err(self.told(refusal, &subject).await),
        };
        // The hub looks among hashes of all kinds.
        let has = |file: &&Value| {
            let hash = text(&file["hashes"]["AutoV3"]).unwrap_or_default().to_ascii_lowercase();
            hash.len() >= AUTOV3_DIGITS && hash.starts_with(&asked.to_ascii_lowercase())
        };
        let file = files(&version).find(has);
        Ok(file.map(|file| self.published(&version["model"], &version, Some(file), &version)))
    }

    /// `model` and `version` are parts of an answer, `answer` is what is kept.
    fn published(&self, model: &Value, version: &Value, file: Option<&Value>, answer: &Value) -> Published {
        let token = self.site().token();
        let clean_text = |value: &Value| text(value).map(|text| clean(text, token));
        let number = |value: &Value| value.as_u64().map(|number| number.to_string()).unwrap_or_default();
        let repo = if version["modelId"].is_u64() { &version["modelId"] } else { &model["id"] };
        let descriptions = [&model["description"], &version["description"]];
        let description: Vec<String> =
            descriptions.into_iter().filter_map(|html| plain_text(&clean(text(html)?, token))).collect();
        Published {
            repo: number(repo),
            revision: number(&version["id"]),
            answer: archived(answer, token),
            name: clean_text(&model["name"]),
            version: clean_text(&version["name"]),
            description: (!description.is_empty()).then(|| description.join("\n")),
            model_type: clean_text(&model["type"]),
            file_type: file.and_then(|file| clean_text(&file["type"])),
            base_models: clean_text(&version["baseModel"]).into_iter().collect(),
            base_type: clean_text(&version["baseModelType"]).filter(|word| word != "Standard"),
            about: about(model, version),
            license_flags: license_flags(model),
            statistics: statistics(model, version),
            previews: previews(&version["images"]),
            nsfw: model["nsfw"].as_bool(),
            published: clean_text(&version["publishedAt"]),
        }
    }

    async fn asked<T>(&self, answered: Result<T, Refusal>, subject: &str) -> Result<Asked<T>, HubError> {
        match answered {
            Ok(value) => Ok(Asked::Answered(value)),
            Err(Refusal::Status(answer)) if matches!(answer.response.status().as_u16(), 404 | 405 | 501) => {
                Ok(Asked::NoSuchQuestion)
            }
            Err(refusal) => Err(self.told(refusal, subject).await),
        }
    }

    /// A refusal as an error; a page for people is no word of the hub.
    async fn told(&self, refusal: Refusal, subject: &str) -> HubError {
        match refusal {
            Refusal::Status(answer) if is_page(&answer) => HubError::Page {
                host: client::host_of(&answer.url),
                subject: subject.to_owned(),
                content_type: page_word(&client::content_type(answer.response.headers())),
            },
            other => self.refused(other, subject).await,
        }
    }
}

/// A busy firewall tells with a page too how long to stay away.
fn is_page(answer: &Answer) -> bool {
    answer.response.status().as_u16() != 429 && client::content_type(answer.response.headers()).contains("html")
}

fn hashes(sha256s: &[Digest]) -> Value {
    json!(sha256s.iter().map(|sha256| sha256.to_string().to_uppercase()).collect::<Vec<_>>())
}

fn files(version: &Value) -> impl Iterator<Item = &Value> {
    version["files"].as_array().into_iter().flatten()
}

fn version_of<'v>(versions: &'v [Value], one: &Sought) -> Option<&'v Value> {
    match &one.revision {
        Some(revision) => {
            versions.iter().find(|it| it["id"].as_u64().map(|id| id.to_string()).as_deref() == Some(revision.as_str()))
        }
        None => {
            let sha256 = one.sha256?;
            versions.iter().find(|version| files(version).any(|file| sha256_of(file) == Some(sha256)))
        }
    }
}

fn file_of<'v>(version: Option<&'v Value>, one: &Sought) -> Option<&'v Value> {
    let is_it = |file: &&Value| {
        let by_number = || file["id"].as_u64().map(|id| id.to_string()) == one.file.as_ref().map(ToString::to_string);
        one.sha256.is_some() && sha256_of(file) == one.sha256 || one.file.is_some() && by_number()
    };
    files(version?).find(is_it)
}

fn license_flags(model: &Value) -> Vec<(&'static str, String)> {
    let flag = |key: &'static str, word: &str| model[word].as_bool().map(|it| (key, it.to_string()));
    let uses = (!model["allowCommercialUse"].is_null()).then(|| ("commercial_use", license_uses(model).join(",")));
    let flags = [
        flag("no_credit", "allowNoCredit"),
        flag("derivatives", "allowDerivatives"),
        flag("different_license", "allowDifferentLicense"),
    ];
    uses.into_iter().chain(flags.into_iter().flatten()).collect()
}

/// Those of the version where they are told of it, else those of the model; a creator may hide them.
fn statistics(model: &Value, version: &Value) -> Vec<(&'static str, u64)> {
    let names = [
        ("downloads", "downloadCount"),
        ("likes", "thumbsUpCount"),
        ("dislikes", "thumbsDownCount"),
        ("comments", "commentCount"),
    ];
    let count = |word: &str| model["stats"][word].as_u64().or_else(|| version["stats"][word].as_u64());
    names.into_iter().filter_map(|(key, word)| Some((key, count(word)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::client::Timeouts;
    use super::*;
    use crate::base::Secret;
    use std::time::Duration;

    fn hub() -> Civitai {
        let timeouts = Timeouts { connect: Duration::from_secs(1), read: Duration::from_secs(1) };
        Civitai::new("http://127.0.0.1:1", Some(Secret::new("key7".to_owned())), timeouts)
    }

    #[test]
    fn what_has_another_shape_is_not_told() {
        let odd = [
            json!({}),
            json!({ "name": 7, "stats": [], "creator": "x", "tags": "x", "allowCommercialUse": 3, "description": {} }),
            json!({ "name": null, "stats": { "downloadCount": -3 }, "tags": [null, 1], "modelVersions": 9 }),
            Value::Null,
        ];
        for model in odd {
            for version in [json!({ "trainedWords": "x", "images": {}, "files": 3, "baseModel": [] }), Value::Null] {
                let told = hub().published(&model, &version, None, &model);
                assert_eq!(
                    (told.name, told.base_models.len(), told.statistics.len()),
                    (None, 0, 0),
                    "{model} {version}"
                );
                assert!(told.about.tags.is_empty() && told.previews.is_empty(), "{model}");
            }
        }
    }

    #[test]
    fn facts_of_both_the_model_and_the_version() {
        let model = json!({
            "id": 12, "name": "Sunlit", "type": "LORA", "description": "<p>key7 and <b>more</b></p>", "nsfw": true,
            "creator": { "username": "painter" }, "tags": ["style"], "stats": { "downloadCount": 9, "thumbsUpCount": 3 },
            "allowCommercialUse": "{Image,Sell}", "allowNoCredit": false,
        });
        let version = json!({
            "id": 34, "name": "v2", "baseModel": "Illustrious", "baseModelType": "Standard",
            "trainedWords": ["sunlit, glow"], "images": [{ "url": "https://i/x.jpeg" }],
            "files": [{ "id": 5, "type": "VAE" }],
        });
        let told = hub().published(&model, &version, files(&version).next(), &model);
        assert_eq!((told.repo.as_str(), told.revision.as_str()), ("12", "34"));
        assert_eq!(told.description.as_deref(), Some("*** and more"), "the key is nobody's business");
        assert!(!told.answer.contains("key7") && told.answer.contains("Sunlit"));
        assert_eq!(
            (told.file_type.as_deref(), told.base_type, told.base_models),
            (Some("VAE"), None, vec!["Illustrious".to_owned()])
        );
        assert_eq!(told.about.trigger_words, ["sunlit", "glow"]);
        assert_eq!(
            told.license_flags,
            [("commercial_use", "Image,Sell".to_owned()), ("no_credit", "false".to_owned())]
        );
        assert_eq!(told.statistics, [("downloads", 9), ("likes", 3)]);
    }
}

//! The card of a repository at Hugging Face: what its owner wrote above its page.
//!
//! Invariant: one request for one repository. The page itself is not read. Not here: files (`hugging_face`).

use super::hugging_face::HuggingFace;
use super::published::{Published, Sought, archived, clean};
use super::{About, HubError};
use crate::base::Secret;
use serde_json::Value;

/// Base models of one merge that are told.
const BASES_MAX: usize = 8;

impl HuggingFace {
    /// In the order of the question, which names one repository, perhaps several times.
    pub(super) async fn find_cards(&self, sought: &[Sought]) -> Result<Option<Vec<Option<Published>>>, HubError> {
        let mut told = Vec::with_capacity(sought.len());
        let Some(first) = sought.first() else { return Ok(Some(told)) };
        let segments = ["api", "models"].into_iter().chain(first.repo.as_str().split('/'));
        let card = match self.json::<Value>(self.api(segments)?, first.repo.as_str()).await {
            Ok((card, _)) => Some(card),
            Err(HubError::RepoNotFound { .. } | HubError::EntryNotFound { .. } | HubError::Disabled { .. }) => None,
            Err(error) => return Err(error),
        };
        let published = card.map(|card| published(&card, self.token()));
        for one in sought {
            let is_it = one.repo == first.repo;
            let revision = one.revision.as_ref().map(ToString::to_string).unwrap_or_default();
            let told_of = published.as_ref().filter(|_| is_it);
            told.push(told_of.map(|it| Published { repo: one.repo.to_string(), revision, ..it.clone() }));
        }
        Ok(Some(told))
    }
}

fn published(card: &Value, token: Option<&Secret>) -> Published {
    let data = &card["cardData"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(|text| clean(text, token));
    let tags: Vec<String> = list(&card["tags"]).map(|tag| clean(tag, token)).collect();
    let mut base_models: Vec<String> = list(&data["base_model"]).map(|base| clean(base, token)).collect();
    if base_models.is_empty() {
        // `base_model:org/name`, and again as `base_model:adapter:org/name`.
        let named = tags.iter().filter_map(|tag| tag.strip_prefix("base_model:")).filter(|base| !base.contains(':'));
        base_models.extend(named.map(str::to_owned));
    }
    base_models.truncate(BASES_MAX);
    let license = text(&data["license_name"]).or_else(|| text(&data["license"]));
    let license = license.or_else(|| tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned));
    let words = list(&data["instance_prompt"]).map(|words| clean(words, token));
    let statistics = [("downloads", &card["downloads"]), ("likes", &card["likes"])];
    Published {
        answer: archived(card, token),
        name: text(&card["id"]),
        description: text(&data["description"]),
        model_type: text(&card["pipeline_tag"]).or_else(|| text(&data["pipeline_tag"])),
        file_type: text(&card["library_name"]).or_else(|| text(&data["library_name"])),
        base_models,
        base_type: text(&data["base_model_relation"]),
        about: About {
            creator: text(&card["author"]).or_else(|| Some(card["id"].as_str()?.split_once('/')?.0.to_owned())),
            license,
            // `region:us` and `base_model:…` are the hub's own bookkeeping.
            tags: tags.into_iter().filter(|tag| !tag.contains(':')).collect(),
            trigger_words: words.map(|words| words.trim().to_owned()).filter(|words| !words.is_empty()).collect(),
        },
        license_flags: text(&data["license_link"]).map(|link| ("link", link)).into_iter().collect(),
        statistics: statistics.into_iter().filter_map(|(key, value)| Some((key, value.as_u64()?))).collect(),
        nsfw: list(&card["tags"]).any(|tag| tag == "not-for-all-audiences").then_some(true),
        published: text(&card["createdAt"]),
        ..Published::default()
    }
}

/// A text is a list of one.
fn list(value: &Value) -> impl Iterator<Item = &str> {
    let many = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    value.as_str().into_iter().chain(many).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cards_of_any_shape() {
        let card = json!({
            "id": "org/name", "downloads": 7, "likes": null, "pipeline_tag": "text-to-image",
            "tags": ["lora", "license:mit", "region:us", "base_model:org/base", "base_model:adapter:org/base", 3],
            "cardData": { "license": "other", "license_name": "my-license", "base_model": ["a/b", "c/d", null],
                "instance_prompt": "sks dog", "license_link": "https://x/y?sig=1" },
        });
        let told = published(&card, None);
        assert_eq!((told.name.as_deref(), told.about.creator.as_deref()), (Some("org/name"), Some("org")));
        assert_eq!(
            (told.about.license.as_deref(), told.base_models),
            (Some("my-license"), vec!["a/b".to_owned(), "c/d".to_owned()])
        );
        assert_eq!((told.about.tags, told.about.trigger_words), (vec!["lora".to_owned()], vec!["sks dog".to_owned()]));
        assert_eq!(
            (told.statistics, told.license_flags),
            (vec![("downloads", 7)], vec![("link", "https://x/y".to_owned())])
        );
        let bare = published(&json!({ "id": 3, "cardData": "text", "tags": { "a": 1 } }), None);
        assert_eq!(Published { answer: String::new(), ..bare }, Published::default());
        let tagged =
            published(&json!({ "cardData": { "license": false }, "tags": ["base_model:a/b", "license:mit"] }), None);
        assert_eq!((tagged.base_models, tagged.about.license), (vec!["a/b".to_owned()], Some("mit".to_owned())));
    }
}

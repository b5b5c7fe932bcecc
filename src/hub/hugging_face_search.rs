//! Searching Hugging Face and its mirrors: `GET /api/models`.
//!
//! Invariant: a cursor only ever changes the query of that address, so a forged one leads nowhere else.

use super::HubError;
use super::hugging_face::HuggingFace;
use super::search::{self, FILES_SHOWN_MAX, FoundFile, FoundPage, FoundRepo, HubOrder, Question, SUBJECT};
use crate::base::RepoId;
use crate::tree::Source;
use serde_json::Value;

/// The hub's own limit of one page.
const PAGE_HITS_MAX: u32 = 1000;
/// What is asked about each repository.
const EXPAND: [&str; 8] =
    ["author", "downloads", "likes", "tags", "gated", "lastModified", "pipeline_tag", "usedStorage"];
/// Asked on small pages only: the list of files and the card make an answer many times as long.
const EXPAND_SMALL: [&str; 2] = ["siblings", "cardData"];
const SMALL_PAGE_HITS: u32 = 50;
/// The hub's word for what is not for everybody.
const ADULT: &str = "not-for-all-audiences";

/// One repository; of a field of another shape nothing is taken, and nothing at all without a name that is one.
fn read(row: &Value) -> Option<FoundRepo> {
    let mut found = FoundRepo::named(Source::HuggingFace, RepoId::new(row["id"].as_str()?).ok()?);
    found.tags = search::lines(&row["tags"]);
    found.tags.extend(row["pipeline_tag"].as_str().and_then(search::line).filter(|tag| !found.tags.contains(tag)));
    found.types = search::types_of(&found.tags);
    found.base = search::base_of(found.tags.iter().map(String::as_str).chain([found.repo.as_str()]));
    found.formats = search::formats_of(&found.tags);
    found.license = found.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
    found.downloads = row["downloads"].as_u64();
    found.likes = row["likes"].as_u64();
    found.updated = search::time(&row["lastModified"]);
    found.size_bytes = row["usedStorage"].as_u64();
    let names =
        row["siblings"].as_array().into_iter().flatten().filter_map(|file| search::line(file["rfilename"].as_str()?));
    found.files = names.map(|name| FoundFile { name, size_bytes: None, sha256: None }).take(FILES_SHOWN_MAX).collect();
    let card = &row["cardData"];
    found.description = ["description", "summary"].iter().find_map(|key| search::description(card[*key].as_str()?));
    found.thumbnail = card["thumbnail"].as_str().and_then(search::plain_address);
    found.trigger_words = card["instance_prompt"].as_str().and_then(search::line).into_iter().collect();
    found.gated = matches!(&row["gated"], Value::String(_) | Value::Bool(true));
    found.adult = found.tags.iter().any(|tag| tag == ADULT);
    Some(found)
}

/// What the hub is asked of a question.
fn parameters(question: &Question) -> Vec<(&'static str, String)> {
    let mut asked: Vec<(&str, String)> = Vec::new();
    asked.extend(question.longest_word().map(|word| ("search", word.to_owned())));
    asked.extend(question.creator.iter().map(|creator| ("author", creator.clone())));
    asked.extend(question.tags.iter().map(|tag| ("filter", tag.clone())));
    if let [model_type] = question.types.as_slice() {
        asked.extend(search::tag_of(*model_type).map(|tag| ("filter", tag.to_owned())));
    }
    let format = question.format.iter().filter(|format| matches!(format.as_str(), "safetensors" | "gguf" | "onnx"));
    asked.extend(format.map(|format| ("filter", format.clone())));
    let license = question.license.iter().filter(|license| search::is_whole_license(license));
    asked.extend(license.map(|license| ("filter", format!("license:{license}"))));
    if question.adult == Some(true) {
        asked.push(("filter", ADULT.to_owned()));
    }
    let order = match question.order {
        HubOrder::Relevance => None,
        HubOrder::Downloads => Some("downloads"),
        HubOrder::Likes => Some("likes"),
        HubOrder::Updated => Some("lastModified"),
        HubOrder::Added => Some("createdAt"),
    };
    asked.extend(order.into_iter().flat_map(|order| [("sort", order.to_owned()), ("direction", "-1".to_owned())]));
    asked.extend(EXPAND.map(|field| ("expand", field.to_owned())));
    let hits = question.page_hits.clamp(1, PAGE_HITS_MAX);
    if hits <= SMALL_PAGE_HITS {
        asked.extend(EXPAND_SMALL.map(|field| ("expand", field.to_owned())));
    }
    asked.push(("limit", hits.to_string()));
    asked
}

impl HuggingFace {
    pub(super) async fn find(&self, question: &Question) -> Result<FoundPage, HubError> {
        let mut url = self.api(["api", "models"])?;
        match question.cursor() {
            Some(cursor) => url.set_query(Some(cursor)),
            None => drop(url.query_pairs_mut().extend_pairs(parameters(question))),
        }
        let host = super::client::host_of(&url);
        let (rows, next) = self.json::<Value>(url, SUBJECT).await?;
        let cursor = next.and_then(|next| next.query().map(str::to_owned));
        Ok(FoundPage { repos: search::read_rows(&rows, &host, read)?, cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ModelType, Timestamp};

    #[test]
    fn repositories_of_any_shape_are_read_or_left_out() {
        let text = r#"[
            {"id":"org/a","downloads":7,"likes":1,"tags":["lora","license:mit",3,"not-for-all-audiences"],"gated":"auto",
             "lastModified":"2024-05-01T12:00:00.000Z","pipeline_tag":"text-to-image","usedStorage":9,
             "siblings":[{"rfilename":"a.safetensors"},{"rfilename":7},null],
             "cardData":{"thumbnail":"https://x.example/a.png?sig=1","instance_prompt":"sunlit"}},
            {"id":"b","downloads":"many","likes":-1,"tags":null,"gated":false,"lastModified":"yesterday",
             "siblings":{},"cardData":"none"},
            {"id":"../etc/passwd"}, {"id":7}, {}
        ]"#;
        let rows: Value = serde_json::from_str(text).expect("JSON");
        let found = search::read_rows(&rows, "h", read).expect("some are rows");
        let names: Vec<&str> = found.iter().map(|it| it.repo.as_str()).collect();
        assert_eq!(names, ["org/a", "b"]);
        assert_eq!(
            (found[0].downloads, found[0].likes, found[0].gated, found[0].adult),
            (Some(7), Some(1), true, true)
        );
        assert_eq!(found[0].tags, ["lora", "license:mit", ADULT, "text-to-image"]);
        assert_eq!((found[0].types.as_slice(), found[0].size_bytes), (&[ModelType::Lora][..], Some(9)));
        assert_eq!((found[0].files.len(), found[0].thumbnail.as_deref()), (1, None), "a signed address is not shown");
        assert_eq!(found[0].trigger_words, ["sunlit"]);
        assert_eq!(
            (found[0].license.as_deref(), found[0].updated.map(Timestamp::unix_ns)),
            (Some("mit"), Some(1_714_564_800_000_000_000))
        );
        assert_eq!((found[1].downloads, found[1].likes, found[1].updated), (None, None, None));
        assert!(found[1].tags.is_empty() && !found[1].gated && found[1].creator.is_none());
    }

    #[test]
    fn only_what_the_hub_has_a_word_for_is_asked() {
        let question = Question {
            words: vec!["xl".to_owned(), "anime".to_owned()],
            tags: vec!["art".to_owned()],
            types: vec![ModelType::Lora],
            format: Some("torch-zip".to_owned()),
            license: Some("apache".to_owned()),
            adult: Some(true),
            page_hits: 60,
            ..Question::default()
        };
        let asked = parameters(&question);
        let filters: Vec<&str> =
            asked.iter().filter(|(key, _)| *key == "filter").map(|(_, word)| word.as_str()).collect();
        assert_eq!(filters, ["art", "lora", ADULT]);
        assert!(asked.contains(&("search", "anime".to_owned())) && !asked.contains(&("expand", "siblings".to_owned())));
    }
}

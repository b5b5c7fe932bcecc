//! Searching Hugging Face and its mirrors: `GET /api/models`.
//!
//! Invariant: a cursor only ever changes the query of that address, so a forged one leads nowhere else.

use super::HubError;
use super::hugging_face::HuggingFace;
use super::search::{FoundPage, FoundRepo, HubOrder, Question};
use crate::base::{RepoId, Timestamp};
use crate::tree::Source;
use serde::Deserialize;
use serde_json::Value;
use std::time::UNIX_EPOCH;

/// The hub's own limit of one page.
const PAGE_HITS_MAX: u32 = 1000;
/// What is asked about each repository; the list of files would make an answer a hundred times as long.
const EXPAND: [&str; 6] = ["downloads", "likes", "tags", "gated", "lastModified", "pipeline_tag"];
/// Longest cursor that is believed: theirs have some 200 characters.
const CURSOR_BYTES_MAX: usize = 4096;
/// What an error is about.
const SUBJECT: &str = "this search";

/// One repository; of a field of another shape nothing is taken.
#[derive(Deserialize)]
struct WireRepo {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    downloads: Value,
    #[serde(default)]
    likes: Value,
    #[serde(default)]
    tags: Value,
    /// `false`, `"auto"` or `"manual"`.
    #[serde(default)]
    gated: Value,
    #[serde(rename = "lastModified", default)]
    last_modified: Value,
    #[serde(default)]
    pipeline_tag: Value,
}

impl WireRepo {
    /// Nothing for a name that is none.
    fn into_found(self) -> Option<FoundRepo> {
        let repo = RepoId::new(self.id.as_str()?).ok()?;
        let mut tags: Vec<String> =
            self.tags.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        tags.extend(self.pipeline_tag.as_str().map(str::to_owned).filter(|tag| !tags.contains(tag)));
        let license = tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
        let updated = self.last_modified.as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
        Some(FoundRepo {
            source: Source::HuggingFace,
            repo,
            downloads: self.downloads.as_u64(),
            likes: self.likes.as_u64(),
            tags,
            license,
            updated: updated.filter(|time| *time >= UNIX_EPOCH).map(Timestamp::from_system_time),
            gated: matches!(&self.gated, Value::String(_) | Value::Bool(true)),
        })
    }
}

impl HuggingFace {
    pub(super) async fn find(&self, question: &Question) -> Result<FoundPage, HubError> {
        let mut url = self.api(["api", "models"])?;
        match question.cursor.as_deref().filter(|cursor| cursor.len() <= CURSOR_BYTES_MAX) {
            Some(cursor) => url.set_query(Some(cursor)),
            None => {
                let creator = question.creator.iter().map(|creator| ("author", creator.as_str()));
                let tags = question.tags.iter().map(|tag| ("filter", tag.as_str()));
                let order = match question.order {
                    HubOrder::Relevance => None,
                    HubOrder::Downloads => Some("downloads"),
                    HubOrder::Likes => Some("likes"),
                    HubOrder::Updated => Some("lastModified"),
                    HubOrder::Added => Some("createdAt"),
                };
                let order = order.into_iter().flat_map(|order| [("sort", order), ("direction", "-1")]);
                let words = (!question.words.is_empty()).then_some(("search", question.words.as_str()));
                let fields = EXPAND.map(|field| ("expand", field));
                let limit = question.page_hits.clamp(1, PAGE_HITS_MAX).to_string();
                let all = words.into_iter().chain(creator).chain(tags).chain(order).chain(fields);
                url.query_pairs_mut().extend_pairs(all).append_pair("limit", &limit);
            }
        }
        let (repos, next) = self.json::<Vec<WireRepo>>(url, SUBJECT).await?;
        let cursor = next.and_then(|next| next.query().map(str::to_owned));
        Ok(FoundPage { repos: repos.into_iter().filter_map(WireRepo::into_found).collect(), cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_any_shape_are_read_or_left_out() {
        let text = r#"[
            {"id":"org/a","downloads":7,"likes":1,"tags":["lora","license:mit",3],"gated":"auto",
             "lastModified":"2024-05-01T12:00:00.000Z","pipeline_tag":"text-to-image"},
            {"id":"b","downloads":"many","likes":-1,"tags":null,"gated":false,"lastModified":"yesterday"},
            {"id":"../etc/passwd"}, {"id":7}, {}
        ]"#;
        let repos: Vec<WireRepo> = serde_json::from_str(text).expect("lenient");
        let found: Vec<FoundRepo> = repos.into_iter().filter_map(WireRepo::into_found).collect();
        let names: Vec<&str> = found.iter().map(|it| it.repo.as_str()).collect();
        assert_eq!(names, ["org/a", "b"]);
        assert_eq!((found[0].downloads, found[0].likes, found[0].gated), (Some(7), Some(1), true));
        assert_eq!(found[0].tags, ["lora", "license:mit", "text-to-image"]);
        assert_eq!(
            (found[0].license.as_deref(), found[0].updated.map(Timestamp::unix_ns)),
            (Some("mit"), Some(1_714_564_800_000_000_000))
        );
        assert_eq!((found[1].downloads, found[1].likes, found[1].updated), (None, None, None));
        assert!(found[1].tags.is_empty() && !found[1].gated);
    }
}

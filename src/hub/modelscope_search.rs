//! Searching ModelScope: `GET /openapi/v1/models`.
//!
//! Invariants: a cursor only ever changes the query of that address; no page lies beyond what the hub's own client asks.

use super::HubError;
use super::client;
use super::modelscope::{ModelScope, text};
use super::search::{self, FoundPage, FoundRepo, HubOrder, Question, SUBJECT};
use crate::base::RepoId;
use crate::tree::Source;
use reqwest::Url;
use serde_json::Value;

/// The largest page that is known to work.
const PAGE_HITS_MAX: u32 = 50;
/// The hub's own client asks for no row beyond.
const ROWS_MAX: u64 = 3000;

/// What the hub is asked of a question. A value it does not know is ignored, not refused.
fn parameters(question: &Question) -> Vec<(&'static str, String)> {
    let mut asked: Vec<(&str, String)> = Vec::new();
    asked.extend(question.longest_word().map(|word| ("search", word.to_owned())));
    asked.extend(question.creator.iter().map(|creator| ("owner", creator.clone())));
    let order = match question.order {
        HubOrder::Relevance => "default",
        HubOrder::Downloads => "downloads",
        HubOrder::Likes => "likes",
        HubOrder::Updated | HubOrder::Added => "last_modified",
    };
    asked.push(("sort", order.to_owned()));
    // Each takes one value.
    asked.extend(question.tags.first().map(|tag| ("filter.custom_tag", tag.clone())));
    let format = question.format.iter().filter(|format| matches!(format.as_str(), "safetensors" | "gguf" | "onnx"));
    asked.extend(format.map(|format| ("filter.library", format.clone())));
    let license = question.license.iter().filter(|license| search::is_whole_license(license));
    asked.extend(license.map(|license| ("filter.license", license.clone())));
    asked.push(("page_number", "1".to_owned()));
    asked.push(("page_size", question.page_hits.clamp(1, PAGE_HITS_MAX).to_string()));
    asked
}

/// The query that asks for the page after, if there can be one.
fn next_query(url: &Url, data: &Value, row_count: usize) -> Option<String> {
    let number = |name: &str| url.query_pairs().find(|(key, _)| key == name)?.1.parse::<u64>().ok();
    let (page, size) = (number("page_number")?, number("page_size")?);
    let seen = page.checked_mul(size)?;
    let total = data["total_count"].as_u64();
    let has_more = total.map_or(row_count as u64 >= size, |total| seen < total);
    if row_count == 0 || !has_more || seen.checked_add(size)? > ROWS_MAX {
        return None;
    }
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != "page_number").map(|(k, v)| (k.into(), v.into())).collect();
    let mut next = url.clone();
    next.query_pairs_mut().clear().extend_pairs(kept).append_pair("page_number", &(page + 1).to_string());
    next.query().map(str::to_owned)
}

/// One repository; of a field of another shape nothing is taken, and nothing at all without a name that is one.
fn read(row: &Value) -> Option<FoundRepo> {
    let mut found = FoundRepo::named(Source::ModelScope, RepoId::new(text(&row["id"])?).ok()?);
    found.title = text(&row["display_name"]).and_then(search::line).unwrap_or(found.title);
    found.description = text(&row["description"]).and_then(search::description);
    found.tags = search::lines(&row["tags"]);
    found
        .tags
        .extend(search::lines(&row["tasks"]).into_iter().filter(|task| !found.tags.contains(task)).collect::<Vec<_>>());
    found.types = search::types_of(&found.tags);
    found.base = search::base_of(found.tags.iter().map(String::as_str).chain([found.repo.as_str()]));
    found.formats = search::formats_of(&found.tags);
    let from_tag = || found.tags.iter().find_map(|tag| tag.strip_prefix("license:"));
    found.license = text(&row["license"]).or_else(from_tag).and_then(search::line).map(|it| it.to_lowercase());
    found.downloads = row["downloads"].as_u64();
    found.likes = row["likes"].as_u64();
    found.updated = search::time(&row["last_modified"]);
    found.size_bytes = row["file_size"].as_u64().filter(|size| *size > 0);
    found.gated = matches!(&row["gated"], Value::Bool(true)) || text(&row["gated"]).is_some();
    Some(found)
}

impl ModelScope {
    pub(super) async fn find(&self, question: &Question) -> Result<FoundPage, HubError> {
        let mut url = self.api(["openapi", "v1", "models"])?;
        match question.cursor() {
            Some(cursor) => url.set_query(Some(cursor)),
            None => drop(url.query_pairs_mut().extend_pairs(parameters(question))),
        }
        let data = self.data(url.clone(), SUBJECT).await?;
        let rows = &data["models"];
        let repos = search::read_rows(rows, &client::host_of(&url), read)?;
        Ok(FoundPage { repos, cursor: next_query(&url, &data, rows.as_array().map_or(0, Vec::len)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ModelType;
    use serde_json::json;

    #[test]
    fn repositories_of_any_shape_are_read_or_left_out() {
        let rows = json!([
            { "id": "org/a", "display_name": "动漫", "description": "一", "downloads": 7, "likes": 2, "license": "Apache-2.0",
              "tasks": ["text-to-image-synthesis"], "tags": ["lora", "library:safetensors", "license:mit"],
              "last_modified": "2026-01-02T03:04:05Z", "file_size": 9, "gated": "auto" },
            { "id": "b", "display_name": 7, "downloads": "many", "tags": "lora", "tasks": null, "file_size": 0,
              "last_modified": 1_714_564_800, "gated": false },
            { "id": "../x" }, { "id": null }, {}, 3
        ]);
        let found = search::read_rows(&rows, "h", read).expect("some are rows");
        let names: Vec<(&str, &str)> = found.iter().map(|it| (it.repo.as_str(), it.title.as_str())).collect();
        assert_eq!(names, [("org/a", "动漫"), ("b", "b")]);
        assert_eq!((found[0].types.as_slice(), found[0].formats.len()), (&[ModelType::Lora][..], 1));
        assert_eq!(
            (found[0].license.as_deref(), found[0].size_bytes, found[0].gated),
            (Some("apache-2.0"), Some(9), true)
        );
        assert_eq!((found[1].downloads, found[1].size_bytes, found[1].gated), (None, None, false));
        assert!(found[1].updated.is_some() && found[1].tags.is_empty());
    }

    #[test]
    fn pages_end_where_the_answers_or_the_hub_end() {
        let next = |query: &str, total: Value, rows: usize| {
            let url = Url::parse(&format!("http://h/openapi/v1/models?{query}")).expect("an address");
            next_query(&url, &json!({ "total_count": total }), rows)
        };
        let first = "search=a&page_number=1&page_size=50";
        assert_eq!(next(first, json!(51), 50).as_deref(), Some("search=a&page_size=50&page_number=2"));
        assert_eq!(next(first, json!(50), 50), None);
        assert_eq!(next(first, json!(900), 0), None, "an empty page is the last");
        assert!(next(first, json!(null), 50).is_some() && next(first, json!(null), 49).is_none());
        assert_eq!(next("page_number=60&page_size=50", json!(9999), 50), None);
        for forged in ["", "page_number=x&page_size=50", "page_number=18446744073709551615&page_size=50"] {
            assert_eq!(next(forged, json!(9999), 50), None, "{forged}");
        }
    }
}

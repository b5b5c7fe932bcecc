//! `GET /api/models`: the repositories whose names hold some letters, page by page.

use super::Shared;
use super::exchange::{Ask, Reply};
use super::repository::Access;
use serde_json::{Value, json};

/// Fields of an answer that can be asked for one by one.
const EXPANDABLE: [&str; 20] = [
    "author",
    "cardData",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "downloadsAllTime",
    "gated",
    "gguf",
    "lastModified",
    "library_name",
    "likes",
    "pipeline_tag",
    "private",
    "safetensors",
    "sha",
    "siblings",
    "tags",
    "trendingScore",
    "usedStorage",
];
/// Answers on a page that names no limit.
const PAGE_REPOS: usize = 1000;

impl Shared {
    pub(super) fn search_page(&self, ask: &Ask) -> Reply {
        let query = ask.uri.query().unwrap_or_default();
        let all = |name: &str| -> Vec<String> {
            let pairs = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            pairs.map(|(_, value)| value.to_lowercase()).collect()
        };
        let number = |name: &str| all(name).first().and_then(|text| text.parse::<usize>().ok());
        let (words, author, tags) = (all("search"), all("author"), all("filter"));
        let expand: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "expand")
            .map(|(_, value)| value.into_owned())
            .collect();
        if expand.iter().any(|field| !EXPANDABLE.contains(&field.as_str()))
            || !expand.is_empty() && !all("full").is_empty()
        {
            return Reply::json(400, &json!({ "error": format!("expand must be one of {}", EXPANDABLE.join(", ")) }));
        }
        if number("limit").is_some_and(|limit| limit > PAGE_REPOS) {
            return Reply::json(400, &json!({ "error": "limit is at most 1000" }));
        }
        let repos = self.repos.lock().expect("no panic while held");
        let mut found: Vec<(String, Value)> = repos
            .iter()
            .filter(|(id, repo)| {
                let lower = id.to_lowercase();
                repo.access != Access::Private
                    && words.iter().all(|word| lower.contains(word.as_str()))
                    && author.iter().all(|author| lower.starts_with(&format!("{author}/")))
                    && tags.iter().all(|tag| repo.tags.iter().any(|other| other.to_lowercase() == *tag))
            })
            .map(|(id, repo)| {
                let gated = if repo.access == Access::Gated { json!("auto") } else { json!(false) };
                let downloads = id.len() * 100;
                let files = repo.refs.get("main").and_then(|commit| repo.commits.get(commit)).into_iter().flatten();
                let siblings: Vec<Value> = files.clone().map(|(path, _)| json!({ "rfilename": path })).collect();
                let stored: u64 = files.map(|(_, file)| file.content.size_bytes()).sum();
                let mut row = json!({
                    "_id": "65", "id": id, "tags": repo.tags, "gated": gated, "downloads": downloads, "likes": 3,
                    "author": id.split('/').next(), "lastModified": "2024-05-01T12:00:00.000Z",
                    "pipeline_tag": "text-to-image", "siblings": siblings, "usedStorage": stored,
                    "cardData": { "thumbnail": "https://example.com/a.png" },
                });
                // Whoever names fields gets no other.
                if let (false, Value::Object(fields)) = (expand.is_empty(), &mut row) {
                    fields.retain(|name, _| matches!(name.as_str(), "_id" | "id") || expand.contains(name));
                }
                (id.clone(), row)
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if all("sort") == ["downloads"] {
            found.sort_by_key(|(_, row)| std::cmp::Reverse(row["downloads"].as_u64()));
        }
        let (start, limit) = (number("cursor").unwrap_or(0), number("limit").unwrap_or(PAGE_REPOS));
        let page: Vec<Value> = found.iter().skip(start).take(limit).map(|(_, row)| row.clone()).collect();
        let next = start + page.len();
        let reply = Reply::json(200, &Value::Array(page));
        if next >= found.len() {
            return reply;
        }
        let kept: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key != "cursor")
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        let mut link = url::Url::parse("https://huggingface.co/api/models").expect("an address");
        link.query_pairs_mut().extend_pairs(kept).append_pair("cursor", &next.to_string());
        reply.with("link", format!("<{link}>; rel=\"next\""))
    }
}

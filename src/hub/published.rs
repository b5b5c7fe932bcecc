//! What hubs tell about contents and repositories, for whoever keeps it: facts, and the answer they were taken from.
//!
//! Invariant: neither an answer nor a fact holds a signed address or the user's token: addresses lose what could be a
//! signature, wherever in a text they stand. Not here: asking (a file per hub), keeping (`catalog`).

use super::About;
use crate::base::{Digest, RelativePath, RepoId, Revision, Secret};
use serde_json::Value;

/// Pictures that are told of one version; hubs give ten.
const PREVIEWS_MAX: usize = 20;
/// Longest text about a model that is kept beside the answer itself: ten pages.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Parameters of addresses that name something. Any other may be a signature.
const HARMLESS: [&str; 12] =
    ["modelVersionId", "fileId", "type", "format", "size", "fp", "width", "height", "v", "tab", "page", "id"];
const STARS: &str = "***";

/// One content or repository that a hub is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sought {
    pub repo: RepoId,
    pub revision: Option<Revision>,
    /// The file, as in `Origin::path`.
    pub file: Option<RelativePath>,
    pub sha256: Option<Digest>,
}

/// Where a hub has a content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    pub sha256: Digest,
    pub repo: RepoId,
    pub revision: Revision,
}

/// A picture of a hub; only its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    pub url: String,
    pub width: Option<u64>,
    pub height: Option<u64>,
    /// `image`, `video`.
    pub kind: Option<String>,
    /// In the hub's own steps.
    pub nsfw_level: Option<u64>,
}

/// What a hub says about one content; of what it does not say there is nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Published {
    pub repo: String,
    pub revision: String,
    /// The hub's answer, as JSON.
    pub answer: String,
    /// The page's title.
    pub name: Option<String>,
    pub version: Option<String>,
    /// Plain text.
    pub description: Option<String>,
    /// The hub's own words for what it is.
    pub model_type: Option<String>,
    pub file_type: Option<String>,
    /// What it works with; several for a merge.
    pub base_models: Vec<String>,
    pub base_type: Option<String>,
    pub about: About,
    /// What the licence allows, flag by flag.
    pub license_flags: Vec<(&'static str, String)>,
    pub statistics: Vec<(&'static str, u64)>,
    pub previews: Vec<Preview>,
    pub nsfw: Option<bool>,
    pub published: Option<String>,
}

pub(super) fn previews(images: &Value) -> Vec<Preview> {
    let preview = |image: &Value| {
        let url = clean(image["url"].as_str().filter(|url| url.starts_with("https://"))?, None);
        Some(Preview {
            url,
            width: image["width"].as_u64(),
            height: image["height"].as_u64(),
            kind: image["type"].as_str().map(str::to_owned),
            nsfw_level: image["nsfwLevel"].as_u64(),
        })
    };
    images.as_array().into_iter().flatten().filter_map(preview).take(PREVIEWS_MAX).collect()
}

/// An answer as it is kept.
pub(super) fn archived(answer: &Value, token: Option<&Secret>) -> String {
    let mut answer = answer.clone();
    clean_all(&mut answer, token);
    answer.to_string()
}

/// Depth is bounded by the reader of the JSON.
fn clean_all(value: &mut Value, token: Option<&Secret>) {
    match value {
        Value::String(text) => *text = clean(text, token),
        Value::Array(list) => list.iter_mut().for_each(|entry| clean_all(entry, token)),
        Value::Object(object) => object.values_mut().for_each(|entry| clean_all(entry, token)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text without the token and without anything in its addresses that could be a signature or a password.
pub(super) fn clean(text: &str, token: Option<&Secret>) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + "://".len());
        kept.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "\"'<>()[]{}\\`".contains(c)).unwrap_or(address.len());
        push_address(&address[..end], &mut kept);
        rest = &address[end..];
    }
    kept.push_str(rest);
    match token.map(|token| token.expose().trim()).filter(|token| !token.is_empty()) {
        Some(token) if kept.contains(token) => kept.replace(token, STARS),
        _ => kept,
    }
}

fn push_address(address: &str, kept: &mut String) {
    let (main, fragment) = address.split_once('#').map_or((address, None), |(main, rest)| (main, Some(rest)));
    let (path, query) = main.split_once('?').map_or((main, None), |(path, query)| (path, Some(query)));
    push_path(path, kept);
    // In HTML the `&` between two parameters is written out.
    let parameters = query.into_iter().flat_map(|query| query.split('&')).map(|it| it.trim_start_matches("amp;"));
    let harmless = parameters.filter(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        // What follows a comma may be the next address of a list.
        HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(name)) && !value.contains([':', '?', '@'])
    });
    for (number, parameter) in harmless.enumerate() {
        kept.push(if number == 0 { '?' } else { '&' });
        kept.push_str(parameter);
    }
    // A fragment never reaches a server, but some sites keep tokens there.
    if let Some(fragment) = fragment.filter(|fragment| !fragment.contains(['=', '@'])) {
        kept.push('#');
        kept.push_str(fragment);
    }
}

/// Host and path without the name and the password before the host, also of addresses that follow within.
fn push_path(path: &str, kept: &mut String) {
    for (number, one) in path.split("://").enumerate() {
        if number > 0 {
            kept.push_str("://");
        }
        let host_end = one.find('/').unwrap_or(one.len());
        let host_start = one[..host_end].rfind('@').map_or(0, |at| at + 1);
        kept.push_str(&one[host_start..]);
    }
}

/// HTML as people read it: tags become spaces, the usual entities letters. Not for display in a browser.
pub(super) fn plain_text(html: &str) -> Option<String> {
    let mut text = String::with_capacity(html.len().min(TEXT_BYTES_MAX));
    let mut in_tag = false;
    for letter in html.chars() {
        match letter {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                text.push(' ');
            }
            _ if in_tag => {}
            _ => text.push(letter),
        }
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
    }
    for (entity, letter) in
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, letter);
    }
    let mut words = text.split_whitespace();
    let mut plain = words.next()?.to_owned();
    for word in words {
        plain.push(' ');
        plain.push_str(word);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_an_address_that_opens_doors_is_kept() {
        for (text, expected) in [
            (
                "https://civitai.com/api/download/models/7?type=Model&token=abc",
                "https://civitai.com/api/download/models/7?type=Model",
            ),
            (
                "https://b2.host/f.safetensors?Authorization=3_2_dnld&X-Amz-Signature=ff",
                "https://b2.host/f.safetensors",
            ),
            (
                "see <a href=\"https://u:p@host/x?sig=1&amp;fileId=4#access_token=9\">it</a> 1:2",
                "see <a href=\"https://host/x?fileId=4\">it</a> 1:2",
            ),
            ("a: https://x/?type=Model,https://y/?token=abc", "a: https://x/"),
            ("https://x/,https://me:secret@y/z#at,https://me:secret@z", "https://x/,https://y/z"),
            ("https://host/page#top, and ftp://me:secret@host", "https://host/page#top, and ftp://host"),
            ("no address: a://", "no address: a://"),
            ("key is hunter2key", "key is ***"),
        ] {
            let token = Secret::new("hunter2key".to_owned());
            assert_eq!(clean(text, Some(&token)), expected);
        }
        let answer =
            archived(&json!({ "a": ["https://x/?token=1"], "b": { "c": "https://y/?Signature=2", "n": 3 } }), None);
        assert_eq!(answer, r#"{"a":["https://x/"],"b":{"c":"https://y/","n":3}}"#);
    }

    #[test]
    fn pages_become_sentences() {
        for (html, expected) in [
            ("<p>One &amp; <b>two</b></p><p>three</p>", Some("One & two three")),
            ("a < b", Some("a")),
            ("plain\n text", Some("plain text")),
            ("<img src=x>", None),
            ("", None),
        ] {
            assert_eq!(plain_text(html).as_deref(), expected, "{html}");
        }
        assert!(plain_text(&"é".repeat(100_000)).is_some_and(|text| text.len() <= TEXT_BYTES_MAX + 2));
    }

    #[test]
    fn pictures_of_any_shape() {
        let images = json!([
            { "url": "https://image.host/a.jpeg?sig=1", "width": 450, "height": "tall", "type": "image", "nsfwLevel": 1 },
            { "url": "javascript:alert(1)" }, { "url": null }, 7, null
        ]);
        let seen = previews(&images);
        assert_eq!(seen.len(), 1);
        assert_eq!(
            (seen[0].url.as_str(), seen[0].width, seen[0].height),
            ("https://image.host/a.jpeg", Some(450), None)
        );
        assert!(previews(&Value::Null).is_empty());
    }
}

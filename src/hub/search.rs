//! What hubs are asked when somebody searches, and what they answer, in words that no hub's wire format leaks into.
//!
//! Invariants: every text of an answer is one line of bounded length without control characters; an address in it holds
//! no query, no fragment and no credential. Not here: the search grammar (`query`), what is kept of an answer (`library`).

use super::HubError;
use crate::base::{Digest, ModelType, RepoId, Revision, Timestamp, cannot_be_shown};
use crate::tree::Source;
use reqwest::Url;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// Most rows of one page that are looked at: twice what any of the hubs gives.
const PAGE_ROWS_MAX: usize = 2000;
/// Longest text about a repository: a paragraph; whoever wants more opens its page.
const DESCRIPTION_CHARS_MAX: usize = 500;
/// Longest name, tag, licence and the like; theirs have some 100 characters.
const LINE_CHARS_MAX: usize = 200;
/// Longest address of a picture.
const ADDRESS_BYTES_MAX: usize = 1000;
/// Words and files of one row; a repository with more has its own page.
const WORDS_MAX: usize = 200;
pub(super) const FILES_SHOWN_MAX: usize = 100;
/// Longest cursor that is believed: theirs have some 200 characters.
const CURSOR_BYTES_MAX: usize = 4096;
/// Numbers of seconds over it are milliseconds: it is the year 5138.
const SECONDS_MAX: u64 = 100_000_000_000;
/// What an error is about.
pub(super) const SUBJECT: &str = "this search";

/// In which order a hub gives its answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HubOrder {
    /// What the hub thinks best.
    #[default]
    Relevance,
    Downloads,
    Likes,
    Updated,
    Added,
}

/// One question. A hub may answer more than was asked for, never less: the asker looks through the answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// All of them must be somewhere in what is said about a repository.
    pub words: Vec<String>,
    pub creator: Option<String>,
    /// All of them must hold.
    pub tags: Vec<String>,
    /// Any of them; none for any.
    pub types: Vec<ModelType>,
    /// Beginnings of bases, any of them; none for any.
    pub bases: Vec<String>,
    pub format: Option<String>,
    /// Beginning of a licence.
    pub license: Option<String>,
    /// Whether repositories for adults are wanted; nothing leaves it to the hub.
    pub adult: Option<bool>,
    pub order: HubOrder,
    /// Answers on one page.
    pub page_hits: u32,
    /// Where an earlier page ended, as the hub called it.
    pub cursor: Option<String>,
}

impl Question {
    /// The one word that tells most, for hubs that look for one run of letters.
    pub(super) fn longest_word(&self) -> Option<&str> {
        self.words.iter().rev().max_by_key(|word| word.len()).map(String::as_str)
    }

    /// A cursor that can be one; it only ever replaces the query of the hub's own address.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref().filter(|cursor| cursor.len() <= CURSOR_BYTES_MAX)
    }
}

/// A repository that a hub found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRepo {
    pub source: Source,
    pub repo: RepoId,
    /// Which state the row is about, for hubs whose repositories are versions.
    pub revision: Option<Revision>,
    /// As people call it.
    pub title: String,
    pub description: Option<String>,
    pub creator: Option<String>,
    /// What it can be.
    pub types: Vec<ModelType>,
    pub base: Option<String>,
    pub formats: Vec<String>,
    pub downloads: Option<u64>,
    pub likes: Option<u64>,
    /// Every word the hub puts to it.
    pub tags: Vec<String>,
    pub trigger_words: Vec<String>,
    pub license: Option<String>,
    pub updated: Option<Timestamp>,
    pub size_bytes: Option<u64>,
    /// At most `FILES_SHOWN_MAX`; none where the hub does not tell them.
    pub files: Vec<FoundFile>,
    /// A small picture that anybody may fetch.
    pub thumbnail: Option<String>,
    pub gated: bool,
    pub adult: bool,
    /// The hub's own number for how adult it is.
    pub nsfw_level: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundFile {
    pub name: String,
    pub size_bytes: Option<u64>,
    pub sha256: Option<Digest>,
}

impl FoundRepo {
    /// A row of which only the name is known.
    pub fn named(source: Source, repo: RepoId) -> Self {
        Self {
            title: repo.as_str().rsplit('/').next().unwrap_or_default().to_owned(),
            creator: repo.as_str().split_once('/').map(|(creator, _)| creator.to_owned()),
            source,
            repo,
            revision: None,
            description: None,
            types: Vec::new(),
            base: None,
            formats: Vec::new(),
            downloads: None,
            likes: None,
            tags: Vec::new(),
            trigger_words: Vec::new(),
            license: None,
            updated: None,
            size_bytes: None,
            files: Vec::new(),
            thumbnail: None,
            gated: false,
            adult: false,
            nsfw_level: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundPage {
    pub repos: Vec<FoundRepo>,
    /// The page after it, if there is one.
    pub cursor: Option<String>,
}

/// The rows of a page, those that are none left out. A page of nothing but those, or of far more than was asked for, is
/// no answer.
pub(super) fn read_rows(
    rows: &Value,
    host: &str,
    read: impl Fn(&Value) -> Option<FoundRepo>,
) -> Result<Vec<FoundRepo>, HubError> {
    let malformed = |detail: String| HubError::Malformed { host: host.to_owned(), subject: SUBJECT.to_owned(), detail };
    let rows = rows.as_array().ok_or_else(|| malformed("its list of answers is none".to_owned()))?;
    if rows.len() > PAGE_ROWS_MAX {
        return Err(malformed(format!("{} answers on one page", rows.len())));
    }
    let found: Vec<FoundRepo> = rows.iter().filter_map(read).collect();
    if found.is_empty() && rows.iter().any(|row| !row.is_object()) {
        return Err(malformed(format!("none of its {} answers is one", rows.len())));
    }
    Ok(found)
}

/// One line: nothing that drives a terminal, nothing endless.
pub(super) fn line(text: &str) -> Option<String> {
    shortened(text, LINE_CHARS_MAX)
}

/// A text for people, which may be written in HTML.
pub(super) fn description(text: &str) -> Option<String> {
    const ENTITIES: [(&str, &str); 6] =
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let mut plain = String::new();
    // A tag would be looked for in all of a text of megabytes.
    let mut rest: &str = text.get(..text.floor_char_boundary(DESCRIPTION_CHARS_MAX * 20)).unwrap_or_default();
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        let is_tag = tag.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!'));
        match (is_tag, tag.split_once('>')) {
            (true, Some((_, after))) => {
                plain.push(' ');
                rest = after;
            }
            (true, None) => rest = "",
            (false, _) => {
                plain.push('<');
                rest = tag;
            }
        }
    }
    plain.push_str(rest);
    for (entity, character) in ENTITIES {
        plain = plain.replace(entity, character);
    }
    shortened(&plain, DESCRIPTION_CHARS_MAX)
}

fn shortened(text: &str, chars_max: usize) -> Option<String> {
    // White space becomes one blank, and what cannot be shown is left out.
    let words = text.split_whitespace().map(|word| word.chars().filter(|c| !cannot_be_shown(*c)).collect::<String>());
    let mut short = String::new();
    let mut count = 0;
    for word in words.filter(|word| !word.is_empty()) {
        let blank = usize::from(count > 0);
        let left = chars_max.saturating_sub(count + blank);
        if left == 0 {
            short.push('…');
            break;
        }
        short.push_str(&" "[..blank]);
        let length = word.chars().count();
        if length > left {
            short.extend(word.chars().take(left).chain(['…']));
            break;
        }
        short.push_str(&word);
        count += blank + length;
    }
    (!short.is_empty()).then_some(short)
}

/// The texts of a list, each a line, none twice.
pub(super) fn lines(list: &Value) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in list.as_array().into_iter().flatten().filter_map(|entry| line(entry.as_str()?)).take(WORDS_MAX) {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept
}

/// An address that anybody may be shown: without what could grant access.
pub(super) fn plain_address(text: &str) -> Option<String> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    // What needs its query to be seen is signed: without it the address leads nowhere.
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.has_host();
    url.set_fragment(None);
    is_plain.then(|| url.to_string())
}

/// A time as text, or as seconds or milliseconds since 1970.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    let since = match value {
        Value::String(text) => humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?,
        number => match number.as_u64()? {
            0 => return None,
            seconds if seconds <= SECONDS_MAX => Duration::from_secs(seconds),
            millis if millis <= SECONDS_MAX * 1000 => Duration::from_millis(millis),
            _ => return None,
        },
    };
    Some(Timestamp::from_system_time(UNIX_EPOCH.checked_add(since)?))
}

/// Whether a licence cannot begin another, so that a hub can be asked for exactly it.
pub(super) fn is_whole_license(text: &str) -> bool {
    const WHOLE: [&str; 8] = [
        "apache-2.0",
        "mit",
        "creativeml-openrail-m",
        "openrail++",
        "bigscience-openrail-m",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-4.0",
    ];
    WHOLE.contains(&text)
}

/// Tags by which repositories of the general hubs say what they hold.
const TYPE_TAGS: &[(ModelType, &[&str])] = &[
    (ModelType::Lora, &["lora"]),
    (ModelType::Lycoris, &["lycoris", "locon"]),
    (ModelType::Embedding, &["textual-inversion", "textual_inversion"]),
    (ModelType::Controlnet, &["controlnet"]),
    (ModelType::T2iAdapter, &["t2i-adapter"]),
    (ModelType::IpAdapter, &["ip-adapter"]),
    (ModelType::Upscaler, &["super-resolution", "upscaler", "image-super-resolution"]),
    (ModelType::MotionModule, &["animatediff"]),
    (ModelType::Vae, &["vae"]),
    (ModelType::Llm, &["text-generation"]),
    (ModelType::Diffusers, &["diffusers"]),
];

/// The one tag that all repositories of a type have.
pub(super) fn tag_of(model_type: ModelType) -> Option<&'static str> {
    let (_, tags) = TYPE_TAGS.iter().find(|(known, _)| *known == model_type)?;
    <[&str; 1]>::try_from(*tags).ok().map(|[tag]| tag)
}

/// What the tags of a repository say that it holds; what says most comes first.
pub(super) fn types_of(tags: &[String]) -> Vec<ModelType> {
    let plain = |tag: &String| {
        let tag = tag.to_lowercase();
        tag.strip_prefix("task:").or_else(|| tag.strip_prefix("library:")).unwrap_or(&tag).to_owned()
    };
    let tags: Vec<String> = tags.iter().map(plain).collect();
    let has = |word: &str| tags.iter().any(|tag| tag == word);
    let mut types: Vec<ModelType> = Vec::new();
    types.extend(TYPE_TAGS.iter().filter(|(_, words)| words.iter().any(|word| has(word))).map(|(it, _)| *it));
    let by_word = |it: &&ModelType| tags.iter().any(|tag| tag.replace('-', "_") == it.as_str());
    for model_type in ModelType::ALL.iter().filter(by_word) {
        if !types.contains(model_type) {
            types.push(*model_type);
        }
    }
    types
}

/// How bases are spelled in names and words of hubs, the longer before the shorter.
const BASES: &[(&str, &str)] = &[
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-3.5", "sd3.5"),
    ("stable-diffusion-3", "sd3"),
    ("stable-diffusion-2", "sd2"),
    ("stable-diffusion-v1", "sd1"),
    ("flux.1-schnell", "flux1-schnell"),
    ("flux.1-dev", "flux1-dev"),
    ("flux.2-dev", "flux2-dev"),
    ("qwen-image", "qwen-image"),
    ("z-image", "z-image"),
    ("wan2.2", "wan2.2"),
    ("wan2.1", "wan2.1"),
    ("illustrious", "illustrious"),
];

/// The base that the name or a tag of a repository tells.
pub(super) fn base_of<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let texts: Vec<String> = texts.map(str::to_lowercase).collect();
    let told = |word: &str| texts.iter().any(|text| text.contains(word));
    BASES.iter().find(|(word, _)| told(word)).map(|(_, base)| (*base).to_owned())
}

/// Formats among the tags of a repository.
pub(super) fn formats_of(tags: &[String]) -> Vec<String> {
    let word = |format: &&str| tags.iter().any(|tag| tag.strip_prefix("library:").unwrap_or(tag) == *format);
    ["safetensors", "gguf", "onnx"].iter().filter(|it| word(it)).map(|it| (*it).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_plain_short_lines() {
        for (html, text) in [
            ("<p>A <b>fine</b>\u{1b}[31m model &amp; more</p><br/>x < 3", "A fine [31m model & more x < 3"),
            ("a\n\n\tb\u{202e}c", "a bc"),
            ("cut <a href='", "cut"),
            ("&lt;script&gt;", "<script>"),
        ] {
            assert_eq!(description(html).as_deref(), Some(text), "{html}");
        }
        assert_eq!(description("<p> </p>"), None);
        assert_eq!(description(&"<".repeat(100_000)).map(|text| text.chars().count()), Some(501));
        assert_eq!(line(&"ö ".repeat(5000)).map(|text| text.chars().count()), Some(200));
        assert_eq!(lines(&json!(["a", 3, null, "a", "b\nc", ""])), ["a", "b c"]);
        assert!(lines(&json!("a")).is_empty());
    }

    #[test]
    fn pictures_are_shown_by_addresses_that_grant_nothing() {
        for (text, expected) in [
            ("https://image.example/a/width=450/b.jpeg#x", Some("https://image.example/a/width=450/b.jpeg")),
            ("https://cdn.example/a.png?X-Amz-Signature=hunter2", None),
            ("https://user:hunter2@cdn.example/a.png", None),
            ("javascript:alert(1)", None),
            ("file:///etc/passwd", None),
            ("a.png", None),
        ] {
            assert_eq!(plain_address(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn times_of_every_spelling() {
        let seconds = |value: Value| time(&value).map(|time| time.unix_ns() / 1_000_000_000);
        for value in [json!("2024-05-01T12:00:00.000Z"), json!(1_714_564_800), json!(1_714_564_800_000_u64)] {
            assert_eq!(seconds(value), Some(1_714_564_800));
        }
        for value in
            [json!("yesterday"), json!(null), json!(0), json!(-5), json!(u64::MAX), json!("1960-01-01T00:00:00Z")]
        {
            assert_eq!(seconds(value.clone()), None, "{value}");
        }
    }

    #[test]
    fn a_page_of_nonsense_is_no_answer() {
        let read = |row: &Value| {
            row["id"].as_str().and_then(|id| RepoId::new(id).ok()).map(|repo| FoundRepo::named(Source::Civitai, repo))
        };
        let count = |rows: Value| read_rows(&rows, "h", read).map(|rows| rows.len()).ok();
        assert_eq!(count(json!([])), Some(0));
        assert_eq!(count(json!([{ "id": "a" }, 7, null, { "id": "../b" }])), Some(1));
        assert_eq!(count(json!([{ "id": "../b" }])), Some(0), "a page may hold what cannot be named");
        assert_eq!(count(json!([null, 7])), None);
        assert_eq!(count(json!({ "id": "a" })), None);
        assert_eq!(count(Value::from(vec![json!({ "id": "a" }); 10_000])), None);
    }

    #[test]
    fn tags_tell_types_bases_and_formats() {
        let tags = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(types_of(&tags(&["LoRA", "diffusers"])), [ModelType::Lora, ModelType::Diffusers]);
        assert_eq!(
            types_of(&tags(&["task:text-generation", "motion-module"])),
            [ModelType::Llm, ModelType::MotionModule]
        );
        assert_eq!((tag_of(ModelType::Lora), tag_of(ModelType::Upscaler)), (Some("lora"), None));
        assert_eq!(base_of(["x", "base_model:a/Stable-Diffusion-XL-base"].into_iter()).as_deref(), Some("sdxl"));
        assert_eq!(formats_of(&tags(&["library:gguf", "safetensors"])), ["safetensors", "gguf"]);
    }
}

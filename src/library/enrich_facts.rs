//! What hubs tell, as the catalog keeps it, as rules are tried on it, as people see it.
//!
//! Pure. Invariants: every key once; a key without a value is absent. Not here: who is asked (`enrich`), what changes by
//! it (`enrich_apply`), the rules (`classify`).

use super::origins::page_of_repository;
use crate::base::{Label, ModelId, Timestamp};
use crate::catalog::{AnswerRow, CatalogError, Reader};
use crate::hub::{HubOptions, Preview, Published};
use crate::tree::Source;
use serde_json::{Value, json};

/// The hubs that are asked about contents, the one whose words count first.
pub(super) const ASKED: [Source; 2] = [Source::Civitai, Source::HuggingFace];
/// A repository with more tags than this lists its languages and data sets.
const TAGS_MAX: usize = 32;
/// Words that wake one model; more fit into no prompt.
const TRIGGER_WORDS_MAX: usize = 64;

pub(super) const CREATOR: &str = "creator";
pub(super) const LICENSE: &str = "license";
pub(super) const TAGS: &str = "tags";
pub(super) const TRIGGER_WORDS: &str = "trigger_words";
const BASE_MODELS: &str = "base_models";
const PREVIEWS: &str = "previews";
const LICENSE_FLAG: &str = "license.";
const STATISTIC: &str = "statistics.";

/// Key and value, as in `model_metadata`.
pub(super) type Fact = (String, String);

/// What hubs say about one model, for judging it.
#[derive(Clone, Default, Debug)]
pub(super) struct HubWords {
    pub words: Vec<Fact>,
    pub trigger_words: Vec<String>,
}

/// What one hub says about one model.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HubFacts {
    /// `civitai`, `huggingface`.
    pub source: String,
    /// The page a person can open.
    pub page_url: Option<String>,
    pub asked: Timestamp,
    /// Since when the hub no longer has it; what it told is kept.
    pub gone: Option<Timestamp>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub description: Option<String>,
    pub model_type: Option<String>,
    pub base_models: Vec<String>,
    pub creator: Option<String>,
    pub license: Option<String>,
    pub license_flags: Vec<(String, String)>,
    pub tags: Vec<String>,
    pub trigger_words: Vec<String>,
    pub statistics: Vec<(String, u64)>,
    /// Addresses of pictures; none of them is here.
    pub previews: Vec<String>,
    pub nsfw: Option<bool>,
    pub published: Option<String>,
}

/// The facts of an answer.
pub(super) fn of_published(told: &Published) -> Vec<Fact> {
    let about = &told.about;
    let list = |words: &[String]| (!words.is_empty()).then(|| json!(words).to_string());
    let tags: Vec<String> = about.tags.iter().take(TAGS_MAX).cloned().collect();
    let trigger_words: Vec<String> = about.trigger_words.iter().take(TRIGGER_WORDS_MAX).cloned().collect();
    let single = [
        ("name", told.name.clone()),
        ("version", told.version.clone()),
        ("description", told.description.clone()),
        ("model_type", told.model_type.clone()),
        ("file_type", told.file_type.clone()),
        (BASE_MODELS, list(&told.base_models)),
        ("base_type", told.base_type.clone()),
        (CREATOR, about.creator.clone()),
        (LICENSE, about.license.clone()),
        (TAGS, list(&tags)),
        (TRIGGER_WORDS, list(&trigger_words)),
        (
            PREVIEWS,
            (!told.previews.is_empty()).then(|| told.previews.iter().map(preview).collect::<Value>().to_string()),
        ),
        ("nsfw", told.nsfw.map(|nsfw| nsfw.to_string())),
        ("published", told.published.clone()),
    ];
    let single =
        single.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.filter(|it| !it.is_empty())?)));
    let flags = told.license_flags.iter().map(|(key, value)| (format!("{LICENSE_FLAG}{key}"), value.clone()));
    let statistics = told.statistics.iter().map(|(key, count)| (format!("{STATISTIC}{key}"), count.to_string()));
    single.chain(flags).chain(statistics).collect()
}

fn preview(preview: &Preview) -> Value {
    json!({
        "url": preview.url, "width": preview.width, "height": preview.height, "type": preview.kind,
        "nsfw_level": preview.nsfw_level,
    })
}

pub(super) fn text<'f>(facts: &'f [Fact], key: &str) -> Option<&'f str> {
    facts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// A list of texts; a value of another shape is an empty one.
pub(super) fn list(facts: &[Fact], key: &str) -> Vec<String> {
    text(facts, key).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// A hub's words as tags of a model. A tag becomes a folder, and a list of tags has commas between them.
pub(super) fn tag_names(words: &[String]) -> Vec<Label> {
    let words = words.iter().filter(|word| !word.contains(','));
    let mut names: Vec<Label> = words.filter_map(|word| Label::new(word.trim()).ok()).take(TAGS_MAX).collect();
    names.sort();
    names.dedup();
    names
}

/// What hubs said about a model, in the form in which it is judged.
pub(super) fn words_of(r: &Reader<'_>, model: ModelId) -> Result<HubWords, CatalogError> {
    let mut all = HubWords::default();
    for source in ASKED {
        let facts = r.facts(model, source.as_str())?;
        if !facts.is_empty() {
            add_words(source, &facts, &mut all);
        }
    }
    Ok(all)
}

fn add_words(source: Source, facts: &[Fact], all: &mut HubWords) {
    let mut add = |key: &str, value: &str| all.words.push((format!("{}.{key}", source.as_str()), value.to_owned()));
    for key in ["model_type", "file_type", "base_type"] {
        text(facts, key).into_iter().for_each(|value| add(key, value));
    }
    list(facts, BASE_MODELS).iter().for_each(|base| add("base_model", base));
    list(facts, TAGS).iter().for_each(|tag| add("tag", tag));
    let words = list(facts, TRIGGER_WORDS);
    let new: Vec<String> = words.into_iter().filter(|word| !all.trigger_words.contains(word)).collect();
    all.trigger_words.extend(new);
}

/// What the hubs that know a model say about it.
pub(super) fn told(
    r: &Reader<'_>,
    hubs: &HubOptions,
    model: ModelId,
    answers: &[AnswerRow],
) -> Result<Vec<HubFacts>, CatalogError> {
    let known = answers.iter().filter(|answer| answer.is_known);
    known.map(|answer| Ok(of_facts(hubs, answer, &r.facts(model, answer.source.as_str())?))).collect()
}

fn of_facts(hubs: &HubOptions, answer: &AnswerRow, facts: &[Fact]) -> HubFacts {
    let own = |key: &str| text(facts, key).map(str::to_owned);
    let under = |heading: &'static str| {
        facts.iter().filter_map(move |(key, value)| Some((key.strip_prefix(heading)?.to_owned(), value)))
    };
    let previews: Vec<Value> =
        text(facts, PREVIEWS).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    HubFacts {
        source: answer.source.as_str().to_owned(),
        page_url: page_of_repository(hubs, answer.source, &answer.repo, &answer.revision),
        asked: answer.asked,
        gone: answer.gone,
        name: own("name"),
        version: own("version"),
        description: own("description"),
        model_type: own("model_type"),
        base_models: list(facts, BASE_MODELS),
        creator: own(CREATOR),
        license: own(LICENSE),
        license_flags: under(LICENSE_FLAG).map(|(key, value)| (key, value.clone())).collect(),
        tags: list(facts, TAGS),
        trigger_words: list(facts, TRIGGER_WORDS),
        statistics: under(STATISTIC).filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect(),
        previews: previews.iter().filter_map(|it| it["url"].as_str().map(str::to_owned)).collect(),
        nsfw: text(facts, "nsfw").map(|word| word == "true"),
        published: own("published"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::About;

    #[test]
    fn a_tag_is_a_folder_and_one_of_a_list() {
        let words = ["sun", " style ", "red, blue", "a/b", "", "sun"].map(str::to_owned);
        let names: Vec<String> = tag_names(&words).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a/b", "style", "sun"]);
    }

    #[test]
    fn what_is_kept_is_what_is_told() {
        let told = Published {
            name: Some("Sunlit".to_owned()),
            version: Some(String::new()),
            base_models: vec!["SDXL 1.0".to_owned()],
            about: About {
                creator: Some("painter".to_owned()),
                tags: (0..40).map(|number| format!("tag{number}")).collect(),
                trigger_words: vec!["glow".to_owned(), "a \"quoted\" one".to_owned()],
                ..About::default()
            },
            license_flags: vec![("no_credit", "false".to_owned())],
            statistics: vec![("downloads", 7)],
            previews: vec![Preview {
                url: "https://i/x".to_owned(),
                width: Some(1),
                height: None,
                kind: None,
                nsfw_level: None,
            }],
            nsfw: Some(true),
            ..Published::default()
        };
        let facts = of_published(&told);
        assert_eq!(text(&facts, "version"), None, "empty is absent");
        let answer = AnswerRow {
            blob: crate::base::BlobId::new(1),
            source: Source::Civitai,
            asked: Timestamp::from_unix_ns(5),
            is_known: true,
            by_tensors: false,
            gone: None,
            repo: "12".to_owned(),
            revision: "34".to_owned(),
            archive: None,
        };
        let seen = of_facts(&HubOptions::default(), &answer, &facts);
        assert_eq!(seen.page_url.as_deref(), Some("https://civitai.com/models/12?modelVersionId=34"));
        assert_eq!((seen.name.as_deref(), seen.creator.as_deref()), (Some("Sunlit"), Some("painter")));
        assert_eq!((seen.tags.len(), seen.trigger_words), (TAGS_MAX, told.about.trigger_words));
        assert_eq!(
            (seen.statistics, seen.previews),
            (vec![("downloads".to_owned(), 7)], vec!["https://i/x".to_owned()])
        );
        assert_eq!((seen.license_flags, seen.nsfw), (vec![("no_credit".to_owned(), "false".to_owned())], Some(true)));
        let mut all = HubWords { trigger_words: vec!["glow".to_owned()], ..HubWords::default() };
        add_words(Source::Civitai, &facts, &mut all);
        assert_eq!(all.words[0], ("civitai.base_model".to_owned(), "SDXL 1.0".to_owned()));
        assert_eq!(all.trigger_words, ["glow", "a \"quoted\" one"], "each once");
    }
}

//! Searching Civitai: `GET /api/v1/models`.
//!
//! Invariants: keys of several values are repeated, for the hub refuses lists; a cursor only ever changes the query of
//! that address; the end is the cursor that is not there, not a short page. A row is about the newest version.
//! Not here: what a version's files are when it is added (`civitai`).

use super::civitai::{Civitai, license, sha256_of, text, trigger_words};
use super::search::{self, FILES_SHOWN_MAX, FoundFile, FoundPage, FoundRepo, HubOrder, Question, SUBJECT};
use super::{HubError, client};
use crate::base::{ModelType, RepoId, Revision};
use crate::tree::Source;
use reqwest::Url;
use serde_json::Value;

/// The hub refuses more.
const PAGE_HITS_MAX: u32 = 100;
/// Levels that are not for everybody: R, X, XXX and what is blocked. PG and PG-13 are 1 and 2.
const ADULT_LEVELS: u64 = 4 | 8 | 16 | 32;
/// Width of a picture in a list; the hub scales to it.
const THUMBNAIL: &str = "width=450";

/// The hub's types, as it spells them.
const TYPES: &[(&str, ModelType)] = &[
    ("Checkpoint", ModelType::Checkpoint),
    ("TextualInversion", ModelType::Embedding),
    ("Hypernetwork", ModelType::Hypernetwork),
    ("LORA", ModelType::Lora),
    ("DoRA", ModelType::Lora),
    ("LoCon", ModelType::Lycoris),
    ("Controlnet", ModelType::Controlnet),
    ("Upscaler", ModelType::Upscaler),
    ("MotionModule", ModelType::MotionModule),
    ("VAE", ModelType::Vae),
    ("TextEncoder", ModelType::TextEncoder),
    ("CLIP", ModelType::TextEncoder),
    ("UNet", ModelType::DiffusionModel),
    ("CLIPVision", ModelType::ClipVision),
    ("Detection", ModelType::Detection),
    ("LLM", ModelType::Llm),
];

/// The hub's bases and ours. It adds some every month: one that is not here keeps its own spelling, as a word.
const BASES: &[(&str, &str)] = &[
    ("SD 1.4", "sd1"),
    ("SD 1.5", "sd1"),
    ("SD 1.5 LCM", "sd1"),
    ("SD 1.5 Hyper", "sd1"),
    ("SD 2.0", "sd2"),
    ("SD 2.0 768", "sd2"),
    ("SD 2.1", "sd2"),
    ("SD 2.1 768", "sd2"),
    ("SD 2.1 Unclip", "sd2"),
    ("SD 3", "sd3"),
    ("SD 3.5", "sd3.5"),
    ("SD 3.5 Medium", "sd3.5"),
    ("SD 3.5 Large", "sd3.5"),
    ("SD 3.5 Large Turbo", "sd3.5"),
    ("Stable Cascade", "stable-cascade"),
    ("SVD", "svd"),
    ("SVD XT", "svd"),
    ("SDXL 0.9", "sdxl"),
    ("SDXL 1.0", "sdxl"),
    ("SDXL 1.0 LCM", "sdxl"),
    ("SDXL Lightning", "sdxl"),
    ("SDXL Hyper", "sdxl"),
    ("SDXL Turbo", "sdxl"),
    ("SDXL Distilled", "sdxl"),
    ("Pony", "pony"),
    ("Pony V7", "auraflow"),
    ("AuraFlow", "auraflow"),
    ("Illustrious", "illustrious"),
    ("NoobAI", "noobai"),
    ("Flux.1 S", "flux1-schnell"),
    ("Flux.1 D", "flux1-dev"),
    ("Flux.1 Krea", "flux1-dev"),
    ("Flux.1 Kontext", "flux1-dev"),
    ("Flux.2 D", "flux2-dev"),
    ("Flux.2 Klein 9B", "flux2-klein-9b"),
    ("Flux.2 Klein 9B-base", "flux2-klein-9b"),
    ("Flux.2 Klein 4B", "flux2-klein-4b"),
    ("Flux.2 Klein 4B-base", "flux2-klein-4b"),
    ("Chroma", "chroma"),
    ("Anima", "anima"),
    ("HiDream", "hidream-i1"),
    ("HiDream-O1", "hidream-o1"),
    ("Hunyuan 1", "hunyuan-dit"),
    ("Hunyuan Video", "hunyuan-video"),
    ("Kolors", "kolors"),
    ("Krea 2", "krea2"),
    ("Lumina", "lumina2"),
    ("PixArt a", "pixart-alpha"),
    ("PixArt E", "pixart-sigma"),
    ("Qwen", "qwen-image"),
    ("ZImageTurbo", "z-image"),
    ("ZImageBase", "z-image"),
    ("CogVideoX", "cogvideox"),
    ("LTXV", "ltxv"),
    ("LTXV2", "ltx-2"),
    ("Mochi", "mochi"),
    ("Wan Video", "wan2.1"),
    ("Wan Video 1.3B t2v", "wan2.1"),
    ("Wan Video 14B t2v", "wan2.1"),
    ("Wan Video 14B i2v 480p", "wan2.1"),
    ("Wan Video 14B i2v 720p", "wan2.1"),
    ("Wan Video 2.2 TI2V-5B", "wan2.2"),
    ("Wan Video 2.2 I2V-A14B", "wan2.2"),
    ("Wan Video 2.2 T2V-A14B", "wan2.2"),
    ("ACE Audio", "ace-step"),
    ("Hunyuan3D", "hunyuan3d"),
];

/// Formats of files, as the hub spells them.
const FORMATS: &[(&str, &str)] = &[
    ("SafeTensor", "safetensors"),
    ("GGUF", "gguf"),
    ("ONNX", "onnx"),
    ("PickleTensor", "pickle"),
    ("Diffusers", "diffusers"),
];

/// What the hub is asked of a question.
fn parameters(question: &Question) -> Vec<(&'static str, String)> {
    let mut asked: Vec<(&str, String)> = vec![("limit", question.page_hits.clamp(1, PAGE_HITS_MAX).to_string())];
    if !question.words.is_empty() {
        asked.push(("query", question.words.join(" ")));
    }
    asked.extend(question.creator.iter().map(|creator| ("username", creator.clone())));
    // It takes one; the others are for the asker.
    asked.extend(question.tags.first().map(|tag| ("tag", tag.clone())));
    let types = TYPES.iter().filter(|(_, model_type)| question.types.contains(model_type));
    let types: Vec<&str> = types.map(|(word, _)| *word).collect();
    // A type that has no word here must not narrow the answer to the others.
    if question.types.iter().all(|wanted| TYPES.iter().any(|(_, known)| known == wanted)) {
        asked.extend(types.iter().map(|word| ("types", (*word).to_owned())));
        // A checkpoint of the hub can be a diffusion model alone.
        if question.types.contains(&ModelType::DiffusionModel) && !types.contains(&"Checkpoint") {
            asked.push(("types", "Checkpoint".to_owned()));
        }
    }
    let bases: Vec<Vec<&str>> = question.bases.iter().map(|wanted| named(wanted)).collect();
    if bases.iter().all(|words| !words.is_empty()) {
        asked.extend(bases.concat().iter().map(|word| ("baseModels", (*word).to_owned())));
    }
    let format = question.format.iter().filter_map(|wanted| FORMATS.iter().find(|(_, known)| known == wanted));
    // One value is refused, so it is told twice.
    asked.extend(
        format.flat_map(|(word, _)| [("fileFormats", (*word).to_owned()), ("fileFormats", (*word).to_owned())]),
    );
    if question.adult == Some(true) {
        asked.push(("nsfw", "true".to_owned()));
    }
    // With words the hub keeps to its own order, and says nothing.
    let order = match question.order {
        HubOrder::Relevance => None,
        HubOrder::Downloads => Some("Most Downloaded"),
        HubOrder::Likes => Some("Most Liked"),
        HubOrder::Updated | HubOrder::Added => Some("Newest"),
    };
    asked.extend(order.map(|order| ("sort", order.to_owned())));
    asked
}

/// The hub's bases of a family of ours.
fn named(family: &str) -> Vec<&'static str> {
    BASES.iter().filter(|(_, base)| base.starts_with(family)).map(|(word, _)| *word).collect()
}

/// The query that asks for the page after.
fn next_query(url: &Url, answer: &Value) -> Option<String> {
    let cursor = match &answer["metadata"]["nextCursor"] {
        Value::String(cursor) if !cursor.is_empty() => cursor.clone(),
        Value::Number(cursor) => cursor.to_string(),
        _ => return None,
    };
    let mut next = url.clone();
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != "cursor").map(|(k, v)| (k.into(), v.into())).collect();
    next.query_pairs_mut().clear().extend_pairs(kept).append_pair("cursor", &cursor);
    next.query().map(str::to_owned)
}

/// One model; nothing of one without a number, or of one that cannot be added.
fn read(row: &Value) -> Option<FoundRepo> {
    let id = row["id"].as_u64()?;
    if matches!(text(&row["mode"]), Some("Archived" | "TakenDown")) {
        return None;
    }
    let versions = row["modelVersions"].as_array()?;
    let version = versions.iter().min_by_key(|version| version["index"].as_u64().unwrap_or(u64::MAX))?;
    let mut found = FoundRepo::named(Source::Civitai, RepoId::new(&id.to_string()).ok()?);
    found.revision = Some(Revision::new(&version["id"].as_u64()?.to_string()).ok()?);
    found.title = row["name"].as_str().and_then(search::line).unwrap_or_else(|| id.to_string());
    found.description = row["description"].as_str().and_then(search::description);
    found.creator = text(&row["creator"]["username"]).and_then(search::line);
    found.tags = search::lines(&row["tags"]);
    found.trigger_words = trigger_words(version).iter().filter_map(|word| search::line(word)).collect();
    found.base = text(&version["baseModel"]).and_then(base_of);
    found.license = license(row).and_then(|text| search::line(&text));
    found.downloads = row["stats"]["downloadCount"].as_u64();
    found.likes = row["stats"]["thumbsUpCount"].as_u64();
    found.updated = search::time(&version["publishedAt"]);
    let files = version["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    found.types = types_of(row, files);
    found.files = files.iter().filter_map(file).take(FILES_SHOWN_MAX).collect();
    let sizes = found.files.iter().map(|file| file.size_bytes);
    found.size_bytes = sizes.sum::<Option<u64>>().filter(|_| !found.files.is_empty());
    for format in files.iter().filter_map(|file| text(&file["metadata"]["format"])) {
        let word = FORMATS.iter().find(|(known, _)| *known == format).map_or(format, |(_, word)| word);
        if !found.formats.iter().any(|known| known == word) {
            found.formats.extend(search::line(word));
        }
    }
    found.thumbnail = thumbnail(version);
    let is_early = |availability: &Value| text(availability) == Some("EarlyAccess");
    found.gated =
        is_early(&row["availability"]) || is_early(&version["availability"]) || version["paidAccess"].is_object();
    found.nsfw_level = row["nsfwLevel"].as_u64();
    found.adult = row["nsfw"] == Value::Bool(true) || found.nsfw_level.is_some_and(|level| level & ADULT_LEVELS != 0);
    Some(found)
}

fn file(file: &Value) -> Option<FoundFile> {
    let size_bytes = file["sizeKB"].as_f64().map(|kib| (kib * 1024.0).round()).filter(|bytes| *bytes >= 0.0);
    Some(FoundFile {
        name: search::line(text(&file["name"])?)?,
        size_bytes: size_bytes.map(|bytes| bytes as u64),
        sha256: sha256_of(file),
    })
}

/// What the model is, and what a file that says more is.
fn types_of(row: &Value, files: &[Value]) -> Vec<ModelType> {
    let of_model =
        text(&row["type"]).and_then(|word| TYPES.iter().find(|(known, _)| *known == word)).map(|(_, it)| *it);
    let is_part = files.iter().any(|file| matches!(text(&file["type"]), Some("UNet" | "Diffusion Model")));
    match of_model {
        Some(ModelType::Checkpoint) if is_part => vec![ModelType::DiffusionModel, ModelType::Checkpoint],
        of_model => of_model.into_iter().collect(),
    }
}

fn base_of(word: &str) -> Option<String> {
    if let Some((_, base)) = BASES.iter().find(|(known, _)| *known == word) {
        return Some((*base).to_owned());
    }
    search::line(&word.to_lowercase()).map(|word| word.replace(' ', "-")).filter(|word| word != "other")
}

/// The tamest of its pictures, in the size of a list.
fn thumbnail(version: &Value) -> Option<String> {
    let images = version["images"].as_array().into_iter().flatten();
    let pictures = images.filter(|image| matches!(text(&image["type"]), None | Some("image")));
    let tamest = pictures.min_by_key(|image| image["nsfwLevel"].as_u64().unwrap_or(u64::MAX))?;
    search::plain_address(&text(&tamest["url"])?.replace("/original=true/", &format!("/{THUMBNAIL}/")))
}

impl Civitai {
    pub(super) async fn find(&self, question: &Question) -> Result<FoundPage, HubError> {
        let mut url = self.api(["api", "v1", "models"])?;
        match question.cursor() {
            Some(cursor) => url.set_query(Some(cursor)),
            None => drop(url.query_pairs_mut().extend_pairs(parameters(question))),
        }
        let answer = match self.json_at(url.clone(), SUBJECT).await {
            Ok(answer) => answer,
            // A creator nobody knows is refused, not found empty.
            Err(HubError::RepoNotFound { .. }) if question.creator.is_some() => return Ok(FoundPage::default()),
            Err(error) => return Err(error),
        };
        let repos = search::read_rows(&answer["items"], &client::host_of(&url), read)?;
        Ok(FoundPage { repos, cursor: next_query(&url, &answer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_of_several_values_are_repeated_and_what_has_no_word_is_not_asked() {
        let question = Question {
            words: vec!["sun".to_owned(), "anime".to_owned()],
            types: vec![ModelType::Lora, ModelType::DiffusionModel],
            bases: vec!["flux2".to_owned()],
            format: Some("gguf".to_owned()),
            tags: vec!["a".to_owned(), "b".to_owned()],
            adult: Some(true),
            order: HubOrder::Likes,
            page_hits: 500,
            ..Question::default()
        };
        let asked = parameters(&question);
        let of = |key: &str| -> Vec<&str> {
            asked.iter().filter(|(it, _)| *it == key).map(|(_, word)| word.as_str()).collect()
        };
        assert_eq!(of("limit"), ["100"]);
        assert_eq!(of("query"), ["sun anime"]);
        assert_eq!(of("types"), ["LORA", "DoRA", "UNet", "Checkpoint"]);
        assert_eq!(of("baseModels").len(), 5);
        assert_eq!((of("fileFormats"), of("tag")), (vec!["GGUF", "GGUF"], vec!["a"]));
        assert_eq!((of("nsfw"), of("sort")), (vec!["true"], vec!["Most Liked"]));
        let unknown = Question {
            types: vec![ModelType::Lora, ModelType::Pulid],
            bases: vec!["new".to_owned()],
            ..Question::default()
        };
        assert_eq!(parameters(&unknown), [("limit", "1".to_owned())]);
    }

    #[test]
    fn models_of_any_shape_are_read_or_left_out() {
        let rows = json!([
            { "id": 7, "name": "A\nmodel", "type": "LORA", "nsfw": false, "nsfwLevel": 5, "tags": ["art", null],
              "description": "<p>fine</p>", "stats": { "downloadCount": null, "thumbsUpCount": 3 }, "creator": null,
              "allowCommercialUse": "{Image}",
              "modelVersions": [
                { "id": 1, "index": 1, "files": [] },
                { "id": 2, "index": 0, "baseModel": "SDXL Turbo", "publishedAt": "2026-01-02T03:04:05.000Z",
                  "paidAccess": { "permanent": false }, "trainedWords": ["x, y"],
                  "images": [{ "url": "https://i/a/original=true/v.mp4", "type": "video", "nsfwLevel": 1 },
                             { "url": "https://i/a/original=true/b.jpeg", "type": "image", "nsfwLevel": 4 },
                             { "url": "https://i/a/original=true/a.jpeg", "type": "image", "nsfwLevel": 1 }],
                  "files": [{ "name": "a.safetensors", "sizeKB": 1.5, "metadata": { "format": "SafeTensor" },
                              "hashes": { "SHA256": "AB".repeat(32) } },
                            { "name": "b.bin", "sizeKB": 2, "metadata": null, "hashes": null }] }] },
            { "id": 8, "name": null, "type": "Novel", "modelVersions": [{ "id": 3, "baseModel": "Brand New 2", "files": null }] },
            { "id": 9, "mode": "Archived", "modelVersions": [{ "id": 4 }] },
            { "id": 10, "modelVersions": [] }, { "id": "11" }, { "id": 12, "modelVersions": {} }, null
        ]);
        let found = search::read_rows(&rows, "h", read).expect("some are rows");
        let names: Vec<(&str, &str)> = found.iter().map(|it| (it.repo.as_str(), it.title.as_str())).collect();
        assert_eq!(names, [("7", "A model"), ("8", "8")]);
        let first = &found[0];
        assert_eq!(first.revision.as_ref().map(Revision::as_str), Some("2"));
        assert_eq!((first.types.as_slice(), first.base.as_deref()), (&[ModelType::Lora][..], Some("sdxl")));
        assert_eq!((first.size_bytes, first.files.len(), first.downloads), (Some(3584), 2, None));
        assert!(first.files[0].sha256.is_some() && first.gated && first.adult);
        assert_eq!(first.thumbnail.as_deref(), Some("https://i/a/width=450/a.jpeg"));
        assert_eq!((first.formats.as_slice(), first.trigger_words.len()), (&["safetensors".to_owned()][..], 2));
        assert_eq!((found[1].base.as_deref(), found[1].size_bytes), (Some("brand-new-2"), None));
    }

    #[test]
    fn the_next_page_is_the_same_question_further_on() {
        let url = Url::parse("http://h/api/v1/models?types=LORA&types=DoRA&cursor=1").expect("an address");
        for (cursor, expected) in [
            (json!("5|x"), Some("types=LORA&types=DoRA&cursor=5%7Cx")),
            (json!(100), Some("types=LORA&types=DoRA&cursor=100")),
            (json!(null), None),
            (json!(""), None),
            (json!({}), None),
        ] {
            let answer = json!({ "metadata": { "nextCursor": cursor } });
            assert_eq!(next_query(&url, &answer).as_deref(), expected, "{answer}");
        }
    }
}

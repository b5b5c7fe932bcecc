//! A repository that a hub found: held against a query, and told to a user.
//!
//! Invariant: a key means the same as everywhere (`query::matches`); what a hub does not tell matches nothing.
//! Not here: who is asked (`gateway`).

use super::{FoundAtHub, Library, LibraryError};
use crate::base::{ModelId, ModelType};
use crate::catalog::CatalogError;
use crate::hub::{FoundRepo, HubOrder, Question};
use crate::query::{Expression, Field, Key, Query, Sort, Subject, folded};
use crate::tree::Source;
use std::cmp::Reverse;
use std::collections::HashSet;

/// What a hub is asked: less than the query, for the rest is applied to its answers.
pub(super) fn question(query: &Query, page_hits: u32) -> Question {
    let parts = match &query.expression {
        Expression::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let mut question = Question { page_hits, ..Question::default() };
    for part in parts {
        match part {
            Expression::Word(word) | Expression::Phrase(word) => question.words.push(word.clone()),
            Expression::Key { key, values } => ask_key(&mut question, *key, values),
            _ => {}
        }
    }
    question.order = match query.order() {
        Sort::Relevance | Sort::Name | Sort::Size | Sort::Rating => HubOrder::Relevance,
        Sort::Downloads => HubOrder::Downloads,
        Sort::Likes => HubOrder::Likes,
        Sort::Updated => HubOrder::Updated,
        Sort::Added => HubOrder::Added,
    };
    question
}

fn ask_key(question: &mut Question, key: Key, values: &[String]) {
    let only = || <&[String; 1]>::try_from(values).ok().map(|[value]| value);
    match key {
        Key::Type if question.types.is_empty() => {
            question.types = values.iter().filter_map(|word| ModelType::parse(&folded(word)).ok()).collect();
        }
        Key::Base if question.bases.is_empty() => question.bases = values.iter().map(|word| folded(word)).collect(),
        Key::Creator => question.creator = only().cloned(),
        Key::Tag => question.tags.extend(only().cloned()),
        Key::Format => question.format = only().map(|word| folded(word)),
        Key::License => question.license = only().map(|word| folded(word)),
        Key::Nsfw => question.adult = only().map(|word| word == "true"),
        _ => {}
    }
}

/// A repository of a hub that is held against a query.
pub(super) struct Candidate<'a>(pub &'a FoundRepo);

impl Subject for Candidate<'_> {
    fn texts(&self) -> Vec<&str> {
        let Self(repo) = self;
        // The numbers of a hub are no name.
        let id = (repo.source != Source::Civitai).then(|| repo.repo.as_str());
        let words = repo.tags.iter().chain(&repo.trigger_words).chain(&repo.description).chain(&repo.creator);
        std::iter::once(repo.title.as_str()).chain(id).chain(words.map(String::as_str)).collect()
    }

    fn values(&self, key: Key) -> Vec<String> {
        let Self(repo) = self;
        match key {
            Key::Type => repo.types.iter().map(ToString::to_string).collect(),
            Key::Base => repo.base.iter().cloned().collect(),
            Key::Source => vec![repo.source.as_str().to_owned()],
            Key::Creator => repo.creator.iter().cloned().collect(),
            Key::Tag => repo.tags.clone(),
            // At the general hubs a format is one of the words of a repository.
            Key::Format => repo.formats.iter().chain(&repo.tags).cloned().collect(),
            Key::License => repo.license.iter().cloned().collect(),
            Key::State => vec!["remote".to_owned()],
            Key::Hash => repo.files.iter().filter_map(|file| file.sha256).map(|sha256| sha256.to_string()).collect(),
            Key::Nsfw => vec![repo.adult.to_string()],
            Key::Precision | Key::App => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        let Self(repo) = self;
        match field {
            Field::Downloads => repo.downloads.map(|count| count as f64),
            Field::Updated => repo.updated.map(|time| time.unix_ns().div_euclid(1_000_000_000) as f64),
            Field::Size => repo.size_bytes.map(|bytes| bytes as f64),
            Field::Added | Field::Rating => None,
        }
    }
}

/// Puts rows of several hubs, or of one that has another order, into the order that was asked for. What is not known
/// comes last.
pub(super) fn sort(found: &mut [FoundAtHub], order: Sort) {
    match order {
        Sort::Relevance | Sort::Added | Sort::Rating => {}
        Sort::Name => found.sort_by_cached_key(|row| folded(&row.name)),
        Sort::Size => found.sort_by_key(|row| Reverse(row.size_bytes)),
        Sort::Updated => found.sort_by_key(|row| Reverse(row.updated)),
        Sort::Downloads => found.sort_by_key(|row| Reverse(row.downloads)),
        Sort::Likes => found.sort_by_key(|row| Reverse(row.likes)),
    }
}

/// Whether one of these models is what the row is about: by its repository, or by the hash of one of its files.
pub(super) fn is_among(library: &Library, repo: &FoundRepo, models: &HashSet<ModelId>) -> Result<bool, LibraryError> {
    if models.is_empty() {
        return Ok(false);
    }
    let among = library.catalog().read(|reader| {
        let mut blobs = Vec::new();
        for bundle in reader.bundles_of_repo(repo.source, &repo.repo)?.into_iter().filter(|bundle| !bundle.deleted) {
            blobs.extend(bundle.files.iter().map(|file| file.blob));
        }
        for sha256 in repo.files.iter().filter_map(|file| file.sha256) {
            blobs.extend(reader.blob_by_sha256(&sha256)?.map(|row| row.id));
        }
        for blob in blobs {
            if reader.models_of_blob(blob)?.iter().any(|model| models.contains(&model.id)) {
                return Ok(true);
            }
        }
        Ok::<_, CatalogError>(false)
    })?;
    Ok(among)
}

/// The row of a repository.
pub(super) fn shown(library: &Library, repo: FoundRepo) -> Result<FoundAtHub, LibraryError> {
    let known = library.catalog().read(|reader| match &repo.revision {
        Some(revision) => Ok(reader.bundle_of_repo(repo.source, &repo.repo, revision)?.into_iter().collect()),
        None => reader.bundles_of_repo(repo.source, &repo.repo),
    })?;
    let is_here = known.iter().any(|bundle| !bundle.deleted);
    Ok(FoundAtHub { is_here, ..row(repo) })
}

/// What `add` takes.
pub(super) fn reference(repo: &FoundRepo) -> String {
    match (repo.source, &repo.revision) {
        (Source::HuggingFace, _) => format!("hf:{}", repo.repo),
        (source, None) => format!("{}:{}", source.as_str(), repo.repo),
        (source, Some(revision)) => format!("{}:{}@{revision}", source.as_str(), repo.repo),
    }
}

fn row(repo: FoundRepo) -> FoundAtHub {
    FoundAtHub {
        reference: reference(&repo),
        source: repo.source.as_str().to_owned(),
        name: repo.title,
        description: repo.description,
        creator: repo.creator,
        model_type: repo.types.first().copied(),
        base: repo.base,
        downloads: repo.downloads,
        likes: repo.likes,
        tags: repo.tags,
        license: repo.license,
        updated: repo.updated,
        size_bytes: repo.size_bytes,
        files: repo.files,
        thumbnail: repo.thumbnail,
        gated: repo.gated,
        adult: repo.adult,
        nsfw_level: repo.nsfw_level,
        is_here: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepoId;
    use crate::hub::FoundFile;
    use crate::query::matches;

    fn query(text: &str) -> Query {
        Query::parse(text).expect(text)
    }

    fn repo() -> FoundRepo {
        FoundRepo {
            source: Source::HuggingFace,
            repo: RepoId::new("ann/Anime-SDXL").expect("valid"),
            revision: None,
            title: "Anime-SDXL".to_owned(),
            description: Some("Made of night".to_owned()),
            creator: Some("ann".to_owned()),
            types: vec![ModelType::Lora],
            base: Some("sdxl".to_owned()),
            formats: vec!["safetensors".to_owned()],
            downloads: Some(9),
            likes: None,
            tags: ["LoRA", "art"].map(str::to_owned).to_vec(),
            trigger_words: vec!["sunlit".to_owned()],
            license: Some("mit".to_owned()),
            updated: None,
            size_bytes: None,
            files: vec![FoundFile { name: "a".to_owned(), size_bytes: None, sha256: None }],
            thumbnail: None,
            gated: false,
            adult: false,
            nsfw_level: None,
        }
    }

    #[test]
    fn a_hub_is_asked_what_it_understands_and_its_answer_is_looked_through() {
        let text = "anime \"sdxl style\" -noir tag:lora creator:ann size<2GB sort:downloads type:lora|vae base:SDXL \
                    format:gguf license:MIT nsfw:false";
        let expected = Question {
            words: vec!["anime".to_owned(), "sdxl style".to_owned()],
            creator: Some("ann".to_owned()),
            tags: vec!["lora".to_owned()],
            types: vec![ModelType::Lora, ModelType::Vae],
            bases: vec!["sdxl".to_owned()],
            format: Some("gguf".to_owned()),
            license: Some("mit".to_owned()),
            adult: Some(false),
            order: HubOrder::Downloads,
            page_hits: 7,
            cursor: None,
        };
        assert_eq!(question(&query(text), 7), expected);
        let repo = repo();
        for (text, expected) in [
            ("anime", true),
            ("anime art", true),
            ("noir", false),
            ("night sunlit", true),
            ("type:lora base:sdxl", true),
            ("type:vae", false),
            ("format:safetensors license:mit", true),
            ("source:huggingface", true),
            ("source:civitai", false),
            ("downloads>8", true),
            ("size<2GB", false),
            ("creator:ANN", true),
            ("nsfw:false", true),
            ("nsfw:true", false),
        ] {
            assert_eq!(matches(&query(text), &Candidate(&repo)), expected, "{text}");
        }
    }

    #[test]
    fn rows_of_several_hubs_have_one_order() {
        let with = |name: &str, downloads| FoundAtHub { name: name.to_owned(), downloads, ..row(repo()) };
        let rows = [with("b", Some(1)), with("A", None), with("c", Some(7))];
        for (order, expected) in [(Sort::Relevance, "bAc"), (Sort::Name, "Abc"), (Sort::Downloads, "cbA")] {
            let mut rows = rows.clone();
            sort(&mut rows, order);
            assert_eq!(rows.map(|row| row.name).concat(), expected);
        }
    }

    #[test]
    fn a_reference_is_what_add_takes() {
        for (source, id, revision, reference) in [
            (Source::HuggingFace, "a/b", None, "hf:a/b"),
            (Source::ModelScope, "a/b", None, "modelscope:a/b"),
            (Source::Civitai, "12", Some("34"), "civitai:12@34"),
        ] {
            let revision = revision.map(|text| crate::base::Revision::new(text).expect("valid"));
            let found = row(FoundRepo { source, repo: RepoId::new(id).expect("valid"), revision, ..repo() });
            assert_eq!(found.reference, reference);
            assert!(crate::base::Locator::parse(&found.reference).is_ok());
        }
    }
}

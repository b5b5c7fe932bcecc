//! Searching here and at hubs, all at once.
//!
//! Invariants: each source has its own deadline, and a slow or broken one takes nothing away from the others: its failure
//! stands beside their answers; what a hub cannot be asked is applied to its answers here, with the same meaning as
//! everywhere (`query::matches`). Not here: the index (`catalog`), a hub's parameters (`hub`).

use super::listing;
use super::{FoundAtHub, Library, LibraryError, SearchAnswer, SearchRequest};
use crate::base::{Fault, FaultKind, ModelType};
use crate::hub::{FoundPage, FoundRepo, HubError, HubOrder, HubSet, Question};
use crate::query::{Expression, Field, Key, Query, Sort, Subject, folded, matches};
use crate::tree::Source;
use futures_util::future::join_all;
use std::time::Duration;

/// Longest wait for all pages of one hub: a person is waiting.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pages of one hub that are looked through for a first answer: a filter that only we can apply may leave none on many.
const PAGES_MAX: usize = 5;
/// Answers of a search that names no limit: two screens; a person who wants more says so.
const LIMIT: u32 = 50;
/// Most hubs of one cursor; there are three.
const CURSOR_PARTS_MAX: usize = 8;
const EVERYWHERE: &str = "all";
/// The hubs that `all` means: those that can be searched by now.
const SEARCHED: [Source; 1] = [Source::HuggingFace];
const HUBS: [Source; 3] = [Source::HuggingFace, Source::Civitai, Source::ModelScope];

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
    ("wan2.2", "wan2.2"),
    ("wan2.1", "wan2.1"),
];

pub(super) fn search(library: &Library, request: &SearchRequest) -> Result<SearchAnswer, LibraryError> {
    let mut query = listing::parse(&request.query)?;
    for (key, value) in [("type", &request.model_type), ("base", &request.base), ("sort", &request.sort)] {
        if let Some(value) = value {
            query = query.refined_by(listing::parse(&format!("{key}:{value}"))?);
        }
    }
    // Newest first costs nothing; the order of names would look at every answer.
    query.sort = query.sort.or(Some(Sort::Relevance));
    query.limit = request.limit.or(query.limit).or(Some(LIMIT));
    let mut plan = Plan::of(&query, request)?;
    let mut answer = SearchAnswer::default();
    if plan.here {
        answer.models = listing::answer(library, &query)?;
    }
    let asked = std::mem::take(&mut plan.hubs);
    let alone = !plan.here && asked.len() == 1;
    let mut cursors = Vec::new();
    for (source, found) in ask_all(library, &query, asked)? {
        match found {
            Ok(page) => {
                cursors.extend(page.cursor.map(|cursor| (source, cursor)));
                answer.found.extend(page.repos.iter().map(|repo| shown(library, repo)).collect::<Result<Vec<_>, _>>()?);
            }
            Err(fault) if alone => return Err(LibraryError::Part(fault)),
            Err(fault) => answer.failures.push((source, fault)),
        }
    }
    answer.cursor = (!cursors.is_empty()).then(|| write_cursor(&cursors));
    Ok(answer)
}

/// Who is asked, and where each goes on.
struct Plan {
    here: bool,
    hubs: Vec<(Source, Option<String>)>,
}

impl Plan {
    fn of(query: &Query, request: &SearchRequest) -> Result<Self, LibraryError> {
        if let Some(cursor) = &request.cursor {
            let hubs = read_cursor(cursor).ok_or_else(|| {
                Fault::new(FaultKind::Invalid, "this is no cursor of a search", "copy it whole, or leave it out")
            })?;
            return Ok(Self { here: false, hubs });
        }
        let given = request.source.iter().flat_map(|text| text.split([',', '|']));
        let words: Vec<&str> = given.chain(query.sources()).collect();
        let mut plan = Self { here: words.is_empty(), hubs: Vec::new() };
        for word in words {
            match Source::parse(word) {
                _ if word == EVERYWHERE => {
                    plan.here = true;
                    plan.hubs.extend(SEARCHED.map(|source| (source, None)));
                }
                Some(Source::Local) => plan.here = true,
                Some(source) if HUBS.contains(&source) => plan.hubs.push((source, None)),
                _ => {
                    let what = format!("there is no source called `{word}`");
                    let remedy = "known are local, huggingface, civitai, modelscope and all";
                    return Err(Fault::new(FaultKind::Invalid, what, remedy).into());
                }
            }
        }
        plan.hubs.sort_unstable();
        plan.hubs.dedup();
        Ok(plan)
    }
}

type FromHub = (Source, Result<FoundPage, Fault>);

/// Asks every hub at the same time.
fn ask_all(
    library: &Library,
    query: &Query,
    asked: Vec<(Source, Option<String>)>,
) -> Result<Vec<FromHub>, LibraryError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let hubs = HubSet::new(library.options().hubs.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| super::mounted::machinery_fault(&error))?;
    let questions = asked.into_iter().map(|(source, cursor)| {
        let question = Question { cursor, ..question(query) };
        let hubs = &hubs;
        async move {
            let pages = tokio::time::timeout(DEADLINE, ask(hubs, source, query, question)).await;
            let late = HubError::TimedOut { host: source.as_str().to_owned() };
            (source, pages.unwrap_or(Err(late)).map_err(|error| error.fault()))
        }
    });
    let answers = runtime.block_on(join_all(questions));
    runtime.shutdown_background();
    Ok(answers)
}

/// Pages of one hub until one has an answer.
async fn ask(hubs: &HubSet, source: Source, query: &Query, mut question: Question) -> Result<FoundPage, HubError> {
    let mut pages = 0;
    loop {
        let FoundPage { mut repos, cursor } = hubs.search(source, &question).await?;
        pages += 1;
        repos.retain(|repo| matches(query, &Candidate::new(repo)));
        if !repos.is_empty() || cursor.is_none() || pages == PAGES_MAX {
            return Ok(FoundPage { repos, cursor });
        }
        question.cursor = cursor;
    }
}

/// What a hub is asked: less than the query, for the rest is applied to its answers.
fn question(query: &Query) -> Question {
    let parts = match &query.expression {
        Expression::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let mut question = Question { page_hits: query.limit.unwrap_or(LIMIT), ..Question::default() };
    for part in parts {
        match part {
            // A hub that looks for one run of letters is asked for the word that tells most.
            Expression::Word(word) | Expression::Phrase(word) if word.len() > question.words.len() => {
                question.words.clone_from(word);
            }
            Expression::Key { key: Key::Creator, values } if values.len() == 1 => {
                question.creator = values.first().cloned();
            }
            Expression::Key { key: Key::Tag, values } => {
                question.tags.extend(values.first().filter(|_| values.len() == 1).cloned());
            }
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

/// A repository of a hub that is held against a query.
struct Candidate<'a> {
    repo: &'a FoundRepo,
    types: Vec<ModelType>,
    base: Option<&'static str>,
}

impl<'a> Candidate<'a> {
    fn new(repo: &'a FoundRepo) -> Self {
        let types = ModelType::ALL.iter().copied().filter(|model_type| {
            let word = model_type.as_str();
            repo.tags.iter().any(|tag| folded(tag).replace('-', "_") == word)
        });
        let told = || repo.tags.iter().map(String::as_str).chain([repo.repo.as_str()]);
        let told_of = |word: &str| told().any(|text| folded(text).contains(word));
        let base = BASES.iter().find(|(word, _)| told_of(word)).map(|(_, base)| *base);
        Self { repo, types: types.collect(), base }
    }

    fn creator(&self) -> Option<&str> {
        self.repo.repo.as_str().split_once('/').map(|(creator, _)| creator)
    }
}

impl Subject for Candidate<'_> {
    fn texts(&self) -> Vec<&str> {
        std::iter::once(self.repo.repo.as_str()).chain(self.repo.tags.iter().map(String::as_str)).collect()
    }

    fn values(&self, key: Key) -> Vec<String> {
        let one = |text: Option<&str>| text.map(str::to_owned).into_iter().collect();
        match key {
            Key::Type => self.types.iter().map(ToString::to_string).collect(),
            Key::Base => one(self.base),
            Key::Source => vec![self.repo.source.as_str().to_owned()],
            Key::Creator => one(self.creator()),
            // A format is one of the words of a repository.
            Key::Tag | Key::Format => self.repo.tags.clone(),
            Key::License => one(self.repo.license.as_deref()),
            Key::State => vec!["remote".to_owned()],
            Key::Precision | Key::Hash | Key::App | Key::Nsfw => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        match field {
            Field::Downloads => self.repo.downloads.map(|count| count as f64),
            Field::Updated => self.repo.updated.map(|time| time.unix_ns().div_euclid(1_000_000_000) as f64),
            Field::Size | Field::Added | Field::Rating => None,
        }
    }
}

fn shown(library: &Library, repo: &FoundRepo) -> Result<FoundAtHub, LibraryError> {
    let known = library.catalog().read(|reader| reader.bundles_of_repo(repo.source, &repo.repo))?;
    let candidate = Candidate::new(repo);
    Ok(FoundAtHub {
        reference: match repo.source {
            Source::HuggingFace => format!("hf:{}", repo.repo),
            other => format!("{}:{}", other.as_str(), repo.repo),
        },
        source: repo.source.as_str().to_owned(),
        name: repo.repo.as_str().rsplit('/').next().unwrap_or_default().to_owned(),
        creator: candidate.creator().map(str::to_owned),
        model_type: candidate.types.first().copied(),
        base: candidate.base.map(str::to_owned),
        downloads: repo.downloads,
        likes: repo.likes,
        tags: repo.tags.clone(),
        license: repo.license.clone(),
        updated: repo.updated,
        gated: repo.gated,
        is_here: known.iter().any(|bundle| !bundle.deleted),
    })
}

/// `huggingface.<hex>`, several with commas: it can be typed, and says nothing to anybody else.
fn write_cursor(cursors: &[(Source, String)]) -> String {
    let parts = cursors.iter().map(|(source, cursor)| {
        let digits: String = cursor.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{digits}", source.as_str())
    });
    parts.collect::<Vec<_>>().join(",")
}

fn read_cursor(text: &str) -> Option<Vec<(Source, Option<String>)>> {
    let part = |part: &str| {
        let (source, digits) = part.split_once('.')?;
        let source = Source::parse(source).filter(|source| HUBS.contains(source))?;
        let digits = digits.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        let cursor = String::from_utf8(bytes.filter(|_| digits.len().is_multiple_of(2))?).ok()?;
        Some((source, Some(cursor).filter(|cursor| !cursor.is_empty())?)).map(|(source, cursor)| (source, Some(cursor)))
    };
    let parts: Option<Vec<_>> = text.split(',').take(CURSOR_PARTS_MAX).map(part).collect();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepoId;

    fn query(text: &str) -> Query {
        Query::parse(text).expect(text)
    }

    #[test]
    fn a_hub_is_asked_what_it_understands_and_its_answer_is_looked_through() {
        let asked = question(&query("anime \"sdxl style\" -noir tag:lora creator:ann size<2GB sort:downloads limit:7"));
        let expected = Question {
            words: "sdxl style".to_owned(),
            creator: Some("ann".to_owned()),
            tags: vec!["lora".to_owned()],
            order: HubOrder::Downloads,
            page_hits: 7,
            cursor: None,
        };
        assert_eq!(asked, expected);
        let repo = FoundRepo {
            source: Source::HuggingFace,
            repo: RepoId::new("ann/Anime-SDXL").expect("valid"),
            downloads: Some(9),
            likes: None,
            tags: ["LoRA", "base_model:stabilityai/stable-diffusion-xl-base-1.0", "art", "safetensors"]
                .map(str::to_owned)
                .to_vec(),
            license: Some("mit".to_owned()),
            updated: None,
            gated: false,
        };
        for (text, expected) in [
            ("anime", true),
            ("anime art", true),
            ("noir", false),
            ("type:lora base:sdxl", true),
            ("type:vae", false),
            ("format:safetensors license:mit", true),
            ("source:huggingface", true),
            ("source:civitai", false),
            ("downloads>8", true),
            ("size<2GB", false),
            ("creator:ANN", true),
        ] {
            assert_eq!(matches(&query(text), &Candidate::new(&repo)), expected, "{text}");
        }
    }

    #[test]
    fn sources_are_chosen_by_flag_by_query_and_by_cursor() {
        let plan = |text: &str, source: Option<&str>, cursor: Option<&str>| {
            let request = SearchRequest {
                source: source.map(str::to_owned),
                cursor: cursor.map(str::to_owned),
                ..SearchRequest::default()
            };
            let plan = Plan::of(&query(text), &request).ok()?;
            let hubs: Vec<&str> = plan.hubs.iter().map(|(source, _)| source.as_str()).collect();
            Some((plan.here, hubs.join(",")))
        };
        let expected = |here, hubs: &str| Some((here, hubs.to_owned()));
        assert_eq!(plan("a", None, None), expected(true, ""));
        assert_eq!(plan("a source:huggingface", None, None), expected(false, "huggingface"));
        assert_eq!(plan("a", Some("local,huggingface"), None), expected(true, "huggingface"));
        assert_eq!(plan("a source:civitai", Some("all"), None), expected(true, "huggingface,civitai"));
        assert_eq!(plan("a", Some("elsewhere"), None), None);
        assert_eq!(plan("a", Some("all"), Some("huggingface.6162")), expected(false, "huggingface"));
        for wrong in ["", "huggingface", "huggingface.6", "huggingface.zz", "local.61", "huggingface.", "x.61"] {
            assert_eq!(plan("a", None, Some(wrong)), None, "{wrong}");
        }
        let cursors = [(Source::HuggingFace, "a=1&cursor=é".to_owned()), (Source::Civitai, "x".to_owned())];
        let read = read_cursor(&write_cursor(&cursors)).expect("ours");
        assert_eq!(read, cursors.map(|(source, cursor)| (source, Some(cursor))));
    }
}

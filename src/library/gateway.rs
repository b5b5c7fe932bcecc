//! Searching here and at hubs, all at once.
//!
//! Invariants: each source has its own deadline, and a slow or broken one takes nothing away from the others: its failure
//! stands beside their answers; what a hub cannot be asked is applied to its answers here; page by page every row comes
//! once. Not here: the index (`catalog`), a hub's parameters (`hub`), rows (`found`), cursors (`paging`).

use super::found::{self, Candidate};
use super::listing;
use super::paging::{self, Position};
use super::{FoundAtHub, Library, LibraryError, SearchAnswer, SearchRequest};
use crate::base::{Digest, Fault, FaultKind, ModelId};
use crate::hub::{FoundPage, FoundRepo, HubError, HubSet, Question};
use crate::query::{Query, Sort, matches};
use crate::tree::Source;
use futures_util::future::join_all;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for all pages of one hub: a person is waiting, and hubs answer in one or two seconds.
const DEADLINE: Duration = Duration::from_secs(8);
/// Longest pause a busy hub can ask for that is waited for; theirs is two seconds.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Pages of one hub that are looked through for one answer: a filter that only we can apply may leave none on many.
const PAGES_MAX: usize = 5;
/// Answers of a search that names no limit: two screens; a person who wants more says so.
const LIMIT: u32 = 50;
/// Most rows of a hub that are held for one answer.
const ROWS_MAX: usize = 5000;
const EVERYWHERE: &str = "all";
pub(super) const HUBS: [Source; 3] = [Source::HuggingFace, Source::Civitai, Source::ModelScope];

pub(super) fn search(library: &Library, request: &SearchRequest) -> Result<SearchAnswer, LibraryError> {
    let mut query = listing::parse(&request.query)?;
    for (key, value) in [("type", &request.model_type), ("base", &request.base), ("sort", &request.sort)] {
        if let Some(value) = value {
            query = query.refined_by(listing::parse(&format!("{key}:{value}"))?);
        }
    }
    // Newest first costs nothing; the order of names would look at every answer.
    query.sort = query.sort.or(Some(Sort::Relevance));
    let limit = request.limit.or(query.limit).unwrap_or(LIMIT);
    query.limit = None;
    let plan = Plan::of(&query, request)?;
    let (mut reached, mut failures) = (Vec::new(), Vec::new());
    for (source, found) in ask_all(library, &query, &plan, limit)? {
        match found {
            Ok(reach) => reached.push((source, reach)),
            Err(fault) => failures.push((source, fault)),
        }
    }
    if plan.here.is_none()
        && reached.is_empty()
        && let Some(fault) = of_all(&failures)
    {
        return Err(LibraryError::Part(fault));
    }
    let here = plan.here.map(|skip| Here::of(library, &query, skip, limit, !plan.hubs.is_empty())).transpose()?;
    if let Some(here) = &here {
        for (_, reach) in &mut reached {
            reach.leave_out(library, &here.all)?;
        }
    }
    page(library, &query, limit as usize, here, reached, failures)
}

/// Why nobody answered. What helps with the first is what to try first.
fn of_all(failures: &[(Source, Fault)]) -> Option<Fault> {
    let (_, first) = failures.first()?;
    if failures.len() == 1 {
        return Some(first.clone());
    }
    let told: Vec<String> =
        failures.iter().map(|(source, fault)| format!("{}: {}", source.as_str(), fault.what)).collect();
    Some(Fault::new(first.kind, format!("no hub answered: {}", told.join("; ")), first.remedy.clone()))
}

/// One page of all sources, and where each goes on.
fn page(
    library: &Library,
    query: &Query,
    limit: usize,
    here: Option<Here>,
    reached: Vec<(Source, Reach)>,
    failures: Vec<(Source, Fault)>,
) -> Result<SearchAnswer, LibraryError> {
    let counts = here.iter().map(|here| here.ids.len()).chain(reached.iter().map(|(_, reach)| reach.rows.len()));
    let mut shares = paging::shares(&counts.collect::<Vec<_>>(), limit).into_iter();
    let mut answer = SearchAnswer { failures, ..SearchAnswer::default() };
    let mut places = Vec::new();
    let mut is_more = false;
    if let Some(here) = here {
        let share = shares.next().unwrap_or_default();
        answer.models = listing::summaries(library, &here.ids[..share])?;
        is_more |= share < here.ids.len();
        // Also at its end: what the other sources have of it is left out on their next pages too.
        places.push((Source::Local, Position { page: None, skip: here.skip + share }));
    }
    let mut columns = Vec::new();
    for (source, reach) in reached {
        let share = shares.next().unwrap_or_default();
        let goes_on = reach.rows.get(share).map(|(place, _)| place.clone()).or(reach.next);
        is_more |= goes_on.is_some();
        places.extend(goes_on.map(|place| (source, place)));
        columns.push(reach.rows.into_iter().take(share).map(|(_, repo)| repo).collect::<Vec<_>>());
    }
    answer.found = merged(library, columns)?;
    found::sort(&mut answer.found, query.order());
    answer.cursor = is_more.then(|| paging::write(&places)).flatten();
    Ok(answer)
}

/// The rows of several hubs, the best of each first. One content that two of them name is one row.
fn merged(library: &Library, columns: Vec<Vec<FoundRepo>>) -> Result<Vec<FoundAtHub>, LibraryError> {
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut known: HashSet<Digest> = HashSet::new();
    let mut rows = Vec::new();
    loop {
        let rank: Vec<FoundRepo> = columns.iter_mut().filter_map(Iterator::next).collect();
        if rank.is_empty() {
            return Ok(rows);
        }
        for repo in rank {
            let sha256s: Vec<Digest> = repo.files.iter().filter_map(|file| file.sha256).collect();
            let is_double = !sha256s.is_empty() && sha256s.iter().all(|sha256| known.contains(sha256));
            if !is_double {
                known.extend(sha256s);
                rows.push(found::shown(library, repo)?);
            }
        }
    }
}

/// What this store answers.
struct Here {
    skip: usize,
    /// From `skip` on.
    ids: Vec<ModelId>,
    /// Everything that answers, where hubs are asked too.
    all: HashSet<ModelId>,
}

impl Here {
    fn of(library: &Library, query: &Query, skip: usize, limit: u32, with_hubs: bool) -> Result<Self, LibraryError> {
        // One more than is shown tells whether there is more.
        let enough = u32::try_from(skip).unwrap_or(u32::MAX).saturating_add(limit).saturating_add(1);
        let hits_max = if with_hubs { u32::MAX } else { enough };
        let found: Vec<ModelId> = library.catalog().read(|reader| reader.search(query, hits_max))?;
        let ids = found.iter().skip(skip).copied().collect();
        Ok(Self { skip, ids, all: if with_hubs { found.into_iter().collect() } else { HashSet::new() } })
    }
}

/// Who is asked, and where each goes on.
struct Plan {
    /// Answers of this store that were shown already.
    here: Option<usize>,
    hubs: Vec<(Source, Position)>,
}

impl Plan {
    fn of(query: &Query, request: &SearchRequest) -> Result<Self, LibraryError> {
        if let Some(cursor) = &request.cursor {
            let places = paging::read(cursor).ok_or_else(|| {
                Fault::new(FaultKind::Invalid, "this is no cursor of a search", "copy it whole, or leave it out")
            })?;
            let here = places.iter().find(|(source, _)| *source == Source::Local).map(|(_, place)| place.skip);
            let hubs = places.into_iter().filter(|(source, _)| *source != Source::Local).collect();
            return Ok(Self { here, hubs });
        }
        let given = request.source.iter().flat_map(|text| text.split([',', '|']));
        let words: Vec<&str> = given.chain(query.sources()).collect();
        let mut here = words.is_empty();
        let mut hubs: Vec<Source> = Vec::new();
        for word in words {
            match Source::parse(word) {
                _ if word == EVERYWHERE => {
                    here = true;
                    hubs.extend(HUBS);
                }
                Some(Source::Local) => here = true,
                Some(source) if HUBS.contains(&source) => hubs.push(source),
                _ => {
                    let what = format!("there is no source called `{word}`");
                    let remedy = "known are local, huggingface, civitai, modelscope and all";
                    return Err(Fault::new(FaultKind::Invalid, what, remedy).into());
                }
            }
        }
        hubs.sort_unstable();
        hubs.dedup();
        let hubs = hubs.into_iter().map(|source| (source, Position::default())).collect();
        Ok(Self { here: here.then_some(0), hubs })
    }
}

/// What one hub answered: rows with their places, and where its next page begins.
#[derive(Default)]
pub(super) struct Reach {
    pub rows: Vec<(Position, FoundRepo)>,
    pub next: Option<Position>,
}

impl Reach {
    /// Takes out what this store shows itself.
    fn leave_out(&mut self, library: &Library, models: &HashSet<ModelId>) -> Result<(), LibraryError> {
        let mut rows = Vec::with_capacity(self.rows.len());
        for (place, repo) in std::mem::take(&mut self.rows) {
            if !found::is_among(library, &repo, models)? {
                rows.push((place, repo));
            }
        }
        self.rows = rows;
        Ok(())
    }
}

type FromHub = (Source, Result<Reach, Fault>);

/// Asks every hub at the same time.
fn ask_all(library: &Library, query: &Query, plan: &Plan, limit: u32) -> Result<Vec<FromHub>, LibraryError> {
    if plan.hubs.is_empty() {
        return Ok(Vec::new());
    }
    let hubs = HubSet::new(library.options().hubs.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| super::mounted::machinery_fault(&error))?;
    let sources = plan.hubs.len() + usize::from(plan.here.is_some());
    let wanted = (limit as usize).div_ceil(sources);
    let questions = plan.hubs.iter().map(|(source, place)| {
        let (question, hubs) = (found::question(query, limit), &hubs);
        async move {
            let reach = ask(hubs, *source, query, question, place.clone(), wanted).await;
            (*source, reach.map_err(|error| error.fault()))
        }
    });
    let answers = runtime.block_on(join_all(questions));
    runtime.shutdown_background();
    Ok(answers)
}

/// Pages of one hub until there is enough of it. What came before a failure is kept; the failure comes again when its
/// page is asked for.
pub(super) async fn ask(
    hubs: &HubSet,
    source: Source,
    query: &Query,
    mut question: Question,
    mut place: Position,
    wanted: usize,
) -> Result<Reach, HubError> {
    let deadline = Instant::now() + DEADLINE;
    let mut reach = Reach::default();
    for _ in 0..PAGES_MAX {
        question.cursor.clone_from(&place.page);
        let late = HubError::TimedOut { host: source.as_str().to_owned() };
        let answered = tokio::time::timeout_at(deadline, patiently(hubs, source, &question)).await;
        let answer = match answered.unwrap_or(Err(late)) {
            Ok(answer) => answer,
            Err(_) if !reach.rows.is_empty() => break,
            Err(error) => return Err(error),
        };
        for (index, repo) in answer.repos.into_iter().enumerate().skip(place.skip) {
            if matches(query, &Candidate(&repo)) && reach.rows.len() < ROWS_MAX {
                reach.rows.push((Position { page: place.page.clone(), skip: index }, repo));
            }
        }
        // A page that leads to itself would never end.
        let next = answer.cursor.filter(|cursor| Some(cursor) != place.page.as_ref());
        reach.next = next.map(|cursor| Position { page: Some(cursor), skip: 0 });
        match &reach.next {
            Some(next) if reach.rows.len() < wanted => place = next.clone(),
            _ => break,
        }
    }
    Ok(reach)
}

/// Once more after the short pause that a busy hub asked for.
async fn patiently(hubs: &HubSet, source: Source, question: &Question) -> Result<FoundPage, HubError> {
    match hubs.search(source, question).await {
        Err(HubError::RateLimited { retry_after: Some(pause), .. }) if pause <= PAUSE_MAX => {
            tokio::time::sleep(pause).await;
            hubs.search(source, question).await
        }
        answered => answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_chosen_by_flag_by_query_and_by_cursor() {
        let plan = |text: &str, source: Option<&str>, cursor: Option<&str>| {
            let request = SearchRequest {
                source: source.map(str::to_owned),
                cursor: cursor.map(str::to_owned),
                ..SearchRequest::default()
            };
            let plan = Plan::of(&Query::parse(text).expect(text), &request).ok()?;
            let hubs: Vec<&str> = plan.hubs.iter().map(|(source, _)| source.as_str()).collect();
            Some((plan.here, hubs.join(",")))
        };
        let expected = |here, hubs: &str| Some((here, hubs.to_owned()));
        assert_eq!(plan("a", None, None), expected(Some(0), ""));
        assert_eq!(plan("a source:huggingface", None, None), expected(None, "huggingface"));
        assert_eq!(plan("a", Some("local,huggingface"), None), expected(Some(0), "huggingface"));
        assert_eq!(plan("a source:civitai", Some("all"), None), expected(Some(0), "huggingface,civitai,modelscope"));
        assert_eq!(plan("a", Some("elsewhere"), None), None);
        assert_eq!(plan("a", Some("all"), Some("huggingface.0.6162")), expected(None, "huggingface"));
        assert_eq!(plan("a", None, Some("local.7.,civitai.0.61")), expected(Some(7), "civitai"));
        assert_eq!(plan("a", None, Some("nonsense")), None);
    }
}

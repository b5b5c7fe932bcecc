//! What hubs know about the models of a collection: who is asked about what, and what is kept of the answers.
//!
//! Invariants: a hub gets hashes and names of repositories, never a file's name or a byte; each portion is written before
//! the next is asked for, so that a run that is stopped goes on where it was; a request that fails leaves its portion
//! unasked and touches nothing else; what a hub does not know is not asked again for a while.
//! Not here: how fast (`enrich_pace`), what an answer changes (`enrich_apply`), wire formats (`hub`).

use super::enrich_apply as apply;
use super::enrich_facts::HubFacts;
use super::enrich_pace::{Call, Caller};
use super::shelf::Shelf;
use super::{Library, LibraryError, judging, reference};
use crate::base::{BlobId, Digest, Fault, ModelId, RelativePath, RepoId, Revision, Timestamp};
use crate::catalog::{AnswerRow, BlobRow, CatalogError, ModelRow, OriginRow, Reader};
use crate::formats::Header;
use crate::hub::{PLACED_MAX, PUBLISHED_MAX, Placed, Published, Sought};
use crate::store::Cancel;
use crate::tree::Source;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Models read from the catalog at once.
const PAGE_MODELS: u32 = 256;
/// Keys that are written into the header of a file that was published without them: by editors of what models are called
/// (`ssmd_`), and of pictures and hashes inside of them.
const EDITED_PREFIX: &str = "ssmd_";
const EDITED_KEYS: [&str; 2] = ["modelspec.thumbnail", "modelspec.hash_sha256"];

#[derive(Clone, Debug)]
pub struct EnrichRequest {
    /// All models without one.
    pub references: Vec<String>,
    /// Also what was asked before.
    pub again: bool,
    /// Least time between two requests.
    pub spacing: Duration,
    /// How long "not known" is believed.
    pub unknown_for: Duration,
}

/// Told about the progress.
pub trait EnrichObserver: Sync {
    fn planned(&self, contents: usize);
    fn answered(&self, contents: usize);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Known,
    Unknown,
    /// It was known once, and what was told is kept.
    Gone,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        }
    }
}

/// What became of asking one hub about one model.
#[derive(Clone, PartialEq, Debug)]
pub struct Enriched {
    pub id: ModelId,
    pub name: String,
    pub outcome: Outcome,
    pub told: HubFacts,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct EnrichSummary {
    /// In the order in which the answers came.
    pub models: Vec<Enriched>,
    /// Answered before.
    pub skipped_count: usize,
    /// Without a hash and without a place at a hub: nobody could be asked.
    pub unaskable_count: usize,
    /// Of requests that failed; they are asked about the next time.
    pub left_count: usize,
    pub request_count: usize,
    pub failures: Vec<(Source, Fault)>,
    pub interrupted: bool,
}

/// One model that a hub is asked about.
pub(super) struct Subject {
    pub model: ModelId,
    pub blob: BlobId,
    pub name: String,
    pub autov3: Option<String>,
    sha256: Option<Digest>,
    /// Where it is from, at the hub that is asked.
    place: Option<OriginRow>,
    /// Whether its hash was not asked about yet.
    by_hash: bool,
    /// Whether its tensors alone may be asked about.
    by_tensors: bool,
}

impl Subject {
    fn sought(&self, place: Option<&Placed>) -> Option<Sought> {
        match (&self.place, place) {
            (Some(origin), _) => Some(Sought {
                repo: RepoId::new(&origin.repo).ok()?,
                revision: Revision::new(&origin.revision).ok(),
                file: RelativePath::new(&origin.path).ok(),
                sha256: self.sha256,
            }),
            (None, Some(placed)) => Some(Sought {
                repo: placed.repo.clone(),
                revision: Some(placed.revision.clone()),
                file: None,
                sha256: self.sha256,
            }),
            (None, None) => None,
        }
    }
}

#[derive(Default)]
struct Plan {
    civitai: Vec<Subject>,
    hugging_face: Vec<Subject>,
    skipped_count: usize,
    unaskable_count: usize,
}

pub(super) fn enrich(
    library: &Library,
    request: &EnrichRequest,
    observer: &dyn EnrichObserver,
    cancel: &Cancel,
) -> Result<EnrichSummary, LibraryError> {
    if library.options().hubs.offline {
        return Err(LibraryError::Offline);
    }
    let plan = library.catalog().read(|r| Planner { request, now: library.now() }.plan(r))?;
    observer.planned(plan.civitai.len() + plan.hugging_face.len());
    let summary = EnrichSummary {
        skipped_count: plan.skipped_count,
        unaskable_count: plan.unaskable_count,
        ..EnrichSummary::default()
    };
    if plan.civitai.is_empty() && plan.hugging_face.is_empty() {
        return Ok(summary);
    }
    let caller = Caller::new(library.options().hubs.clone(), request.spacing, cancel.clone())?;
    let mut run = Run { library, observer, caller, summary };
    let finished = run.civitai(plan.civitai)? && run.hugging_face(plan.hugging_face)?;
    let Run { caller, mut summary, .. } = run;
    summary.request_count = caller.request_count();
    summary.failures = caller.into_failures();
    summary.interrupted = !finished;
    Ok(summary)
}

struct Planner<'a> {
    request: &'a EnrichRequest,
    now: Timestamp,
}

impl Planner<'_> {
    fn plan(&self, r: &Reader<'_>) -> Result<Plan, LibraryError> {
        let mut plan = Plan::default();
        if !self.request.references.is_empty() {
            let mut seen = HashSet::new();
            for reference in &self.request.references {
                let row = reference::resolve(r, reference)?;
                if seen.insert(row.id)
                    && let Some(blob) = r.blob(row.blob)?
                {
                    self.look_at(r, &row, &blob, &mut plan)?;
                }
            }
            return Ok(plan);
        }
        let mut after = None;
        loop {
            let page = r.models_after(after, PAGE_MODELS)?;
            let Some((last, _)) = page.last() else { return Ok(plan) };
            after = Some(last.id);
            for (row, blob) in &page {
                self.look_at(r, row, blob, &mut plan)?;
            }
        }
    }

    fn look_at(&self, r: &Reader<'_>, row: &ModelRow, blob: &BlobRow, plan: &mut Plan) -> Result<(), CatalogError> {
        let answers = r.answers(blob.id)?;
        let origins = r.origins(blob.id)?;
        let place = |source| origins.iter().find(|origin: &&OriginRow| origin.source == source).cloned();
        let answer = |source| answers.iter().find(|answer| answer.source == source);
        let autov3 = blob.hashes.as_ref().and_then(|hashes| hashes.autov3.clone());
        let subject = |place: Option<OriginRow>, by_hash, by_tensors| Subject {
            model: row.id,
            blob: blob.id,
            name: row.name.to_string(),
            autov3: autov3.clone(),
            sha256: blob.sha256,
            place,
            by_hash,
            by_tensors,
        };
        let mut is_askable = false;
        let mut is_asked = false;
        if blob.sha256.is_some() || place(Source::Civitai).is_some() {
            is_askable = true;
            let before = answer(Source::Civitai);
            let by_hash = self.is_due(before);
            // Each is a request of its own, so of many files only those that give a reason are asked about.
            let asked_by_tensors = before.is_some_and(|answer| answer.by_tensors || answer.is_known) && !by_hash;
            let by_tensors = autov3.is_some() && !asked_by_tensors && self.has_reason(r, blob)?;
            if by_hash || by_tensors {
                plan.civitai.push(subject(place(Source::Civitai), by_hash, by_tensors));
                is_asked = true;
            }
        }
        if let Some(origin) = place(Source::HuggingFace) {
            is_askable = true;
            if self.is_due(answer(Source::HuggingFace)) {
                plan.hugging_face.push(subject(Some(origin), true, false));
                is_asked = true;
            }
        }
        plan.skipped_count += usize::from(is_askable && !is_asked);
        plan.unaskable_count += usize::from(!is_askable);
        Ok(())
    }

    fn is_due(&self, answer: Option<&AnswerRow>) -> bool {
        let Some(answer) = answer else { return true };
        let age_ns = self.now.unix_ns().saturating_sub(answer.asked.unix_ns());
        let is_old = i128::from(age_ns) >= i128::try_from(self.request.unknown_for.as_nanos()).unwrap_or(i128::MAX);
        self.request.again || !answer.is_known && is_old
    }

    /// A file that somebody names, or one whose header was written after it was published.
    fn has_reason(&self, r: &Reader<'_>, blob: &BlobRow) -> Result<bool, CatalogError> {
        Ok(!self.request.references.is_empty() || judging::kept_header(r, blob)?.as_ref().is_some_and(was_edited))
    }
}

fn was_edited(header: &Header) -> bool {
    header.metadata.iter().any(|(key, _)| key.starts_with(EDITED_PREFIX) || EDITED_KEYS.contains(&key.as_str()))
}

struct Run<'a> {
    library: &'a Library,
    observer: &'a dyn EnrichObserver,
    caller: Caller,
    summary: EnrichSummary,
}

/// Whether to go on; nobody does after a request to stop.
type GoesOn = bool;

impl Run<'_> {
    /// By the places of its files first, since many fit into one question; then by their numbers, which tells most.
    fn civitai(&mut self, subjects: Vec<Subject>) -> Result<GoesOn, LibraryError> {
        let source = Source::Civitai;
        let (by_hash, by_tensors): (Vec<Subject>, Vec<Subject>) = subjects.into_iter().partition(|one| one.by_hash);
        let mut unknown = Vec::new();
        let (placed, unplaced): (Vec<Subject>, Vec<Subject>) = by_hash.into_iter().partition(|one| one.place.is_some());
        let mut found: Vec<(Subject, Sought)> = Vec::new();
        let mut whole: Vec<Subject> = Vec::new();
        for one in placed {
            match one.sought(None) {
                Some(sought) => found.push((one, sought)),
                None => whole.push(one),
            }
        }
        let mut rest = unplaced;
        while !rest.is_empty() {
            let portion: Vec<Subject> = rest.drain(..rest.len().min(PLACED_MAX)).collect();
            let sha256s: Vec<Digest> = portion.iter().filter_map(|one| one.sha256).collect();
            match self.caller.call(source, |hubs| Box::pin(async move { hubs.placed(source, &sha256s).await })) {
                Call::Answered(Some(places)) => {
                    let places: HashMap<Digest, Placed> = places.into_iter().rev().map(|it| (it.sha256, it)).collect();
                    let mut missing = Vec::new();
                    for one in portion {
                        match one.sha256.and_then(|sha256| one.sought(places.get(&sha256))) {
                            Some(sought) => found.push((one, sought)),
                            None => missing.push(one),
                        }
                    }
                    unknown.extend(self.unknown(source, missing, false)?);
                }
                // A hub without this question is asked for whole answers.
                Call::Answered(None) => whole.extend(portion.into_iter().chain(rest.drain(..))),
                Call::Failed => self.leave(portion.len()),
                Call::GivenUp => {
                    self.leave(portion.len() + rest.len() + found.len() + whole.len() + by_tensors.len());
                    return Ok(true);
                }
                Call::Stopped => return Ok(false),
            }
        }
        if !self.cards(source, found, &mut whole)? || !self.whole(source, whole, &mut unknown)? {
            if self.caller.is_stopped() {
                return Ok(false);
            }
            self.leave(by_tensors.len());
            return Ok(true);
        }
        unknown.extend(by_tensors);
        self.by_tensors(source, unknown)
    }

    /// What cards do not tell of is added to `whole`. False: nothing more is asked of this hub.
    fn cards(
        &mut self,
        source: Source,
        mut found: Vec<(Subject, Sought)>,
        whole: &mut Vec<Subject>,
    ) -> Result<GoesOn, LibraryError> {
        let cards_max = self.caller.cards_max(source);
        found.sort_by(|(_, a), (_, b)| a.repo.as_str().cmp(b.repo.as_str()));
        while !found.is_empty() {
            let portion: Vec<(Subject, Sought)> = found.drain(..portion_len(&found, cards_max)).collect();
            let asked: Vec<Sought> = portion.iter().map(|(_, sought)| sought.clone()).collect();
            match self.caller.call(source, |hubs| Box::pin(async move { hubs.cards(source, &asked).await })) {
                Call::Answered(Some(told)) => {
                    let told = told.into_iter().chain(std::iter::repeat(None));
                    let mut answered = Vec::new();
                    let mut gone = Vec::new();
                    for ((one, _), published) in portion.into_iter().zip(told) {
                        match published {
                            Some(published) => answered.push((one, published)),
                            None if source == Source::Civitai && one.sha256.is_some() => whole.push(one),
                            None => gone.push(one),
                        }
                    }
                    self.known(source, answered)?;
                    self.unknown(source, gone, false)?;
                }
                Call::Answered(None) => {
                    let all = portion.into_iter().chain(found.drain(..)).map(|(one, _)| one);
                    let (by_hash, rest): (Vec<_>, Vec<_>) = all.partition(|one| one.sha256.is_some());
                    self.leave(rest.len());
                    whole.extend(by_hash);
                }
                Call::Failed => self.leave(portion.len()),
                Call::GivenUp => {
                    self.leave(portion.len() + found.len() + whole.len());
                    return Ok(false);
                }
                Call::Stopped => return Ok(false),
            }
        }
        Ok(true)
    }

    /// By hash, a hundred at once. False: nothing more is asked of this hub.
    fn whole(
        &mut self,
        source: Source,
        mut rest: Vec<Subject>,
        unknown: &mut Vec<Subject>,
    ) -> Result<GoesOn, LibraryError> {
        while !rest.is_empty() {
            let portion: Vec<Subject> = rest.drain(..rest.len().min(PUBLISHED_MAX)).collect();
            let sha256s: Vec<Digest> = portion.iter().filter_map(|one| one.sha256).collect();
            match self.caller.call(source, |hubs| Box::pin(async move { hubs.published(source, &sha256s).await })) {
                Call::Answered(told) => {
                    let mut told: HashMap<Digest, Published> = told.into_iter().collect();
                    let mut answered = Vec::new();
                    let mut missing = Vec::new();
                    for one in portion {
                        match one.sha256.and_then(|sha256| told.remove(&sha256)) {
                            Some(published) => answered.push((one, published)),
                            None => missing.push(one),
                        }
                    }
                    self.known(source, answered)?;
                    unknown.extend(self.unknown(source, missing, false)?);
                }
                Call::Failed => self.leave(portion.len()),
                Call::GivenUp => {
                    self.leave(portion.len() + rest.len());
                    return Ok(false);
                }
                Call::Stopped => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Files whose header was edited have the tensors that were published. What was asked about by hash before is
    /// answered whatever becomes of this.
    fn by_tensors(&mut self, source: Source, unknown: Vec<Subject>) -> Result<GoesOn, LibraryError> {
        let mut rest = unknown.into_iter().filter(|one| one.by_tensors);
        while let Some(one) = rest.next() {
            let Some(autov3) = one.autov3.clone() else { continue };
            match self
                .caller
                .call(source, |hubs| Box::pin(async move { hubs.published_by_tensors(source, &autov3).await }))
            {
                Call::Answered(Some(published)) => {
                    self.forget_answer_about(one.model);
                    self.known(source, vec![(one, published)])?;
                }
                Call::Answered(None) => {
                    self.forget_answer_about(one.model);
                    self.unknown(source, vec![one], true)?;
                }
                Call::Failed => self.leave(usize::from(!one.by_hash)),
                Call::GivenUp => {
                    self.leave(std::iter::once(one).chain(rest).filter(|one| !one.by_hash).count());
                    return Ok(true);
                }
                Call::Stopped => return Ok(false),
            }
        }
        Ok(true)
    }

    fn hugging_face(&mut self, subjects: Vec<Subject>) -> Result<GoesOn, LibraryError> {
        let mut found = Vec::new();
        for one in subjects {
            match one.sought(None) {
                Some(sought) => found.push((one, sought)),
                None => self.leave(1),
            }
        }
        self.cards(Source::HuggingFace, found, &mut Vec::new())?;
        Ok(!self.caller.is_stopped())
    }

    /// One transaction for one answer.
    fn known(&mut self, source: Source, answered: Vec<(Subject, Published)>) -> Result<(), LibraryError> {
        if answered.is_empty() {
            return Ok(());
        }
        let library = self.library;
        let means = apply::Means::of(library);
        let written = library.catalog().write(library.now(), |w| {
            let mut shelf = Shelf::begin(w)?;
            let each = answered.iter().map(|(one, told)| apply::known(&means, (w, &mut shelf), one, source, told));
            each.collect::<Result<Vec<_>, CatalogError>>()
        })?;
        self.note(written);
        Ok(())
    }

    /// Answers those that are still unknown: of some another file with the same tensors is known.
    fn unknown(
        &mut self,
        source: Source,
        subjects: Vec<Subject>,
        by_tensors: bool,
    ) -> Result<Vec<Subject>, LibraryError> {
        if subjects.is_empty() {
            return Ok(subjects);
        }
        let library = self.library;
        let means = apply::Means::of(library);
        let written = library.catalog().write(library.now(), |w| {
            let mut shelf = Shelf::begin(w)?;
            apply::unknown(&means, (w, &mut shelf), &subjects, source, by_tensors)
        })?;
        let is_open = |answer: &Option<Enriched>| answer.as_ref().is_some_and(|it| it.outcome != Outcome::Known);
        let still = subjects.into_iter().zip(&written).filter(|(_, answer)| is_open(answer)).map(|(one, _)| one);
        let still = still.collect();
        self.note(written);
        Ok(still)
    }

    fn note(&mut self, answered: Vec<Option<Enriched>>) {
        self.observer.answered(answered.len());
        self.summary.models.extend(answered.into_iter().flatten());
    }

    /// A better question replaces what the first one gave.
    fn forget_answer_about(&mut self, model: ModelId) {
        let is_it = |it: &Enriched| it.id == model && it.told.source == Source::Civitai.as_str();
        self.summary.models.retain(|it| !is_it(it));
    }

    fn leave(&mut self, contents: usize) {
        self.observer.answered(contents);
        self.summary.left_count += contents;
    }
}

/// As many of the first as name at most `repos_max` repositories; they are sorted by them.
fn portion_len(found: &[(Subject, Sought)], repos_max: usize) -> usize {
    let repo = |at: usize| found[at].1.repo.as_str();
    let mut ends = (1..found.len()).filter(|at| repo(*at) != repo(at - 1)).chain([found.len()]);
    ends.nth(repos_max.saturating_sub(1)).unwrap_or(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    #[test]
    fn headers_that_were_written_later_are_told_apart() {
        for (key, expected) in [
            ("ss_network_module", false),
            ("sshs_model_hash", false),
            ("modelspec.title", false),
            ("ssmd_display_name", true),
            ("modelspec.thumbnail", true),
        ] {
            let header = Header {
                format: Format::Safetensors,
                tensors: Vec::new(),
                metadata: vec![(key.to_owned(), "x".to_owned())],
                imports: Vec::new(),
                data_start: None,
            };
            assert_eq!(was_edited(&header), expected, "{key}");
        }
    }

    #[test]
    fn portions_end_with_a_repository() {
        let subject = || Subject {
            model: ModelId::new(1),
            blob: BlobId::new(1),
            name: String::new(),
            autov3: None,
            sha256: None,
            place: None,
            by_hash: true,
            by_tensors: false,
        };
        let sought =
            |repo: &str| Sought { repo: RepoId::new(repo).expect("a name"), revision: None, file: None, sha256: None };
        let found: Vec<_> = ["1", "1", "2", "3", "3"].map(|repo| (subject(), sought(repo))).into_iter().collect();
        for (repos_max, expected) in [(0, 2), (1, 2), (2, 3), (3, 5), (9, 5)] {
            assert_eq!(portion_len(&found, repos_max), expected, "{repos_max}");
        }
    }
}

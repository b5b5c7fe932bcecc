//! What an answer of a hub changes: facts, tags, creator, licence, the verdict, and where the model is shown.
//!
//! Invariants: all of it in the transaction of the caller; what a person decided stays; what a hub no longer says, or
//! what somebody else said, is not taken away. Not here: asking (`enrich`).

use super::enrich::{Enriched, Outcome, Subject};
use super::enrich_facts::{self as facts, Fact, HubFacts};
use super::live_rules::CurrentRules;
use super::models::lines_of;
use super::shelf::Shelf;
use super::{Library, judging};
use crate::base::Label;
use crate::catalog::{CatalogError, ModelRow, Writer};
use crate::hub::{HubOptions, Published};
use crate::tree::Source;

/// What an answer is written with, made before the transaction.
pub(super) struct Means<'a> {
    rules: CurrentRules,
    hubs: &'a HubOptions,
}

impl<'a> Means<'a> {
    pub(super) fn of(library: &'a Library) -> Self {
        Self { rules: library.rules(), hubs: &library.options().hubs }
    }
}

/// A hub told about a content.
pub(super) fn known(
    means: &Means<'_>,
    (w, shelf): (&mut Writer<'_>, &mut Shelf),
    subject: &Subject,
    source: Source,
    told: &Published,
) -> Result<Option<Enriched>, CatalogError> {
    let archive = w.archive_answer(source, &told.repo, &told.answer)?;
    write(means, (w, shelf), subject, source, (&told.repo, &told.revision), archive, &facts::of_published(told))
}

/// A hub does not know these contents. Another one with the same tensors may be known; then what is told of it counts.
/// First all of them are noted: of two with the same tensors that are gone, neither vouches for the other. Nothing of a
/// content that is gone here.
pub(super) fn unknown(
    means: &Means<'_>,
    (w, shelf): (&mut Writer<'_>, &mut Shelf),
    subjects: &[Subject],
    source: Source,
    by_tensors: bool,
) -> Result<Vec<Option<Enriched>>, CatalogError> {
    let mut outcomes = Vec::with_capacity(subjects.len());
    for one in subjects {
        outcomes.push(match w.blob(one.blob)? {
            Some(_) if w.set_unknown(one.blob, source, by_tensors)? => Some(Outcome::Gone),
            Some(_) => Some(Outcome::Unknown),
            None => None,
        });
    }
    let mut answered = Vec::with_capacity(subjects.len());
    for (one, outcome) in subjects.iter().zip(outcomes) {
        answered.push(match outcome {
            Some(outcome) => unless_a_twin_is_known(means, (w, shelf), one, source, outcome)?,
            None => None,
        });
    }
    Ok(answered)
}

fn unless_a_twin_is_known(
    means: &Means<'_>,
    (w, shelf): (&mut Writer<'_>, &mut Shelf),
    subject: &Subject,
    source: Source,
    outcome: Outcome,
) -> Result<Option<Enriched>, CatalogError> {
    let twin = match &subject.autov3 {
        Some(autov3) => w.answer_of_tensors(source, autov3, subject.blob)?,
        None => None,
    };
    if let Some(twin) = twin
        && let Some(archive) = twin.archive
        && let Some(model) = w.models_of_blob(twin.blob)?.first()
    {
        let facts = w.facts(model.id, source.as_str())?;
        return write(means, (w, shelf), subject, source, (&twin.repo, &twin.revision), archive, &facts);
    }
    enriched(means, w, subject, source, outcome).map(Some)
}

fn write(
    means: &Means<'_>,
    (w, shelf): (&mut Writer<'_>, &mut Shelf),
    subject: &Subject,
    source: Source,
    place: (&str, &str),
    archive: i64,
    new: &[Fact],
) -> Result<Option<Enriched>, CatalogError> {
    // Something may have been taken away since it was asked about.
    let Some(row) = w.model(subject.model)?.filter(|row| !row.deleted && row.blob == subject.blob) else {
        return Ok(None);
    };
    let before = shelf.homes_of(w, row.id)?;
    let old = w.facts(row.id, source.as_str())?;
    w.set_known(subject.blob, source, place, archive)?;
    w.set_facts(row.id, source.as_str(), new)?;
    set_about(w, &row, &old, new)?;
    set_tags(w, &row, &old, new)?;
    let Some(blob) = w.blob(row.blob)? else { return Ok(None) };
    let hub = facts::words_of(w, row.id)?;
    let verdict = judging::judge(&means.rules, &row, blob.size_bytes, judging::kept_header(w, &blob)?.as_ref(), &hub);
    w.set_verdict(row.id, &verdict)?;
    w.set_evidence(row.id, &lines_of(&verdict.reasons))?;
    shelf.reshelve_model(w, row.id, &before)?;
    enriched(means, w, subject, source, Outcome::Known).map(Some)
}

/// The hub's word counts where nobody said anything, or only this hub before.
fn set_about(w: &mut Writer<'_>, row: &ModelRow, old: &[Fact], new: &[Fact]) -> Result<(), CatalogError> {
    let chosen = |current: Option<&str>, key: &str| {
        let is_ours = current.is_none() || current == facts::text(old, key);
        facts::text(new, key).filter(|_| is_ours).or(current).map(str::to_owned)
    };
    let creator = chosen(row.creator.as_ref().map(Label::as_str), facts::CREATOR);
    let creator = creator.and_then(|creator| Label::new(&creator).ok()).or_else(|| row.creator.clone());
    w.set_about(row, creator.as_ref(), chosen(row.license.as_deref(), facts::LICENSE).as_deref())
}

/// The tags of this hub instead of those it gave before.
fn set_tags(w: &mut Writer<'_>, row: &ModelRow, old: &[Fact], new: &[Fact]) -> Result<(), CatalogError> {
    let names = |facts: &[Fact]| facts::tag_names(&facts::list(facts, facts::TAGS));
    let (old, new) = (names(old), names(new));
    let mut tags = w.automatic_tags(row.id)?;
    tags.retain(|tag| !old.contains(tag));
    tags.extend(new);
    tags.sort();
    tags.dedup();
    w.set_tags(row.id, &tags)
}

fn enriched(
    means: &Means<'_>,
    w: &Writer<'_>,
    subject: &Subject,
    source: Source,
    outcome: Outcome,
) -> Result<Enriched, CatalogError> {
    let answers: Vec<_> = w.answers(subject.blob)?.into_iter().filter(|answer| answer.source == source).collect();
    let told = facts::told(w, means.hubs, subject.model, &answers)?.pop();
    let told = told.unwrap_or_else(|| HubFacts { source: source.as_str().to_owned(), ..HubFacts::default() });
    Ok(Enriched { id: subject.model, name: subject.name.clone(), outcome, told })
}

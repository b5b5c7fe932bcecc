//! What models are, judged anew from what the catalog keeps: no file is read.
//!
//! Invariants: a verdict, its reasons and the places where the model is shown change together; what a person decided
//! stays. Judging happens on every core beside one reading transaction; what differs is written in one transaction.
//! Not here: the rules (`classify`), decisions by hand (`decisions`).

use super::enrich_facts::{self, HubWords};
use super::models::lines_of;
use super::shelf::Shelf;
use super::{Judgement, Library, LibraryError, Reclassified, VerdictChange, reference};
use crate::base::ModelId;
use crate::catalog::{BlobRow, CatalogError, ModelRow, Reader, Writer};
use crate::classify::{Evidence, Method, Rules, Verdict, classify};
use crate::formats::{Header, decode_header};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Models of one piece of work: few enough to share out evenly, enough that handing over costs nothing.
const PIECE_MODELS: u32 = 32;
/// Judging is bound by the processor; more threads than this would wait for the one that reads.
const WORKERS_MAX: usize = 8;

/// Whether what would change is only told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    Preview,
    Write,
}

/// A model with everything it is judged by.
struct Subject {
    row: ModelRow,
    size_bytes: u64,
    record: Option<Vec<u8>>,
    lines: Vec<String>,
    hub: HubWords,
}

struct Judged {
    row: ModelRow,
    verdict: Verdict,
    lines: Vec<String>,
}

/// The verdict on a model by the names and folders that tell most about it, and by what hubs say.
pub(super) fn judge(
    rules: &Rules,
    model: &ModelRow,
    size_bytes: u64,
    header: Option<&Header>,
    hub: &HubWords,
) -> Verdict {
    let file_name = model.telling_name().as_str();
    let evidence = Evidence { header, file_name, folders: &model.folders, size_bytes, hub: &hub.words };
    let mut verdict = classify(rules, &evidence);
    let new_words = hub.trigger_words.iter().filter(|word| !verdict.trigger_words.contains(word));
    let new_words: Vec<String> = new_words.cloned().collect();
    verdict.trigger_words.extend(new_words);
    verdict
}

/// The header that is kept of a content. A record of another version can be read anew from the file.
pub(super) fn kept_header(r: &Reader<'_>, blob: &BlobRow) -> Result<Option<Header>, CatalogError> {
    Ok(r.header(blob.id)?.and_then(|record| decode_header(&record).ok()))
}

/// Writes a verdict with its reasons; names follow.
pub(super) fn apply(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    model: ModelId,
    verdict: &Verdict,
    lines: &[String],
) -> Result<(), CatalogError> {
    let before = shelf.homes_of(w, model)?;
    w.set_verdict(model, verdict)?;
    w.set_evidence(model, lines)?;
    shelf.reshelve_model(w, model, &before)
}

/// Judges one model again and writes what comes out.
pub(super) fn again(w: &mut Writer<'_>, shelf: &mut Shelf, rules: &Rules, row: &ModelRow) -> Result<(), CatalogError> {
    let Some(blob) = w.blob(row.blob)? else { return Ok(()) };
    let hub = enrich_facts::words_of(w, row.id)?;
    let verdict = judge(rules, row, blob.size_bytes, kept_header(w, &blob)?.as_ref(), &hub);
    apply(w, shelf, row.id, &verdict, &lines_of(&verdict.reasons))
}

/// Judges these models again, or all of them.
pub(super) fn reclassify(
    library: &Library,
    references: &[String],
    rewrite: Rewrite,
) -> Result<Reclassified, LibraryError> {
    let mut answer = Reclassified::default();
    let rules = library.rules();
    let judged = library.catalog().read(|r| {
        let mut named = Vec::new();
        for reference in references {
            named.push(reference::resolve(r, reference)?);
        }
        Ok::<_, LibraryError>(judge_all(&rules, r, named, &mut answer)?)
    })?;
    let changed: Vec<&Judged> = judged.iter().filter(|judged| differs(judged)).collect();
    answer.changes = changed.iter().filter_map(|judged| change_of(judged)).collect();
    answer.changes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    answer.rewritten_count = changed.len();
    if !references.is_empty() {
        answer.models = judged.iter().map(|one| (one.row.id, one.row.name.to_string(), shown(one))).collect();
    }
    if rewrite == Rewrite::Write && !changed.is_empty() {
        library.catalog().write(library.now(), |w| {
            let mut shelf = Shelf::begin(w)?;
            for one in &changed {
                // Something may have been taken away since it was read; decisions made since are kept by the catalog.
                if w.model(one.row.id)?.is_some_and(|row| !row.deleted) {
                    apply(w, &mut shelf, one.row.id, &one.verdict, &lines_of(&one.verdict.reasons))?;
                }
            }
            Ok::<_, CatalogError>(())
        })?;
    }
    Ok(answer)
}

/// Hands models to the workers and gathers their verdicts, in the order of ids.
fn judge_all(
    rules: &Rules,
    r: &Reader<'_>,
    named: Vec<ModelRow>,
    answer: &mut Reclassified,
) -> Result<Vec<Judged>, CatalogError> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let (send, receive) = sync_channel::<Vec<Subject>>(2 * workers);
    let receive = Mutex::new(receive);
    let (judged, results) = channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (receive, judged) = (&receive, judged.clone());
            scope.spawn(move || work(rules, receive, judged));
        }
        drop(judged);
        // When it fails, the workers see the end of their work and stop.
        feed(r, named, send, answer)
    })?;
    let mut found: Vec<Judged> = results.into_iter().collect();
    found.sort_by_key(|judged| judged.row.id);
    Ok(found)
}

fn feed(
    r: &Reader<'_>,
    named: Vec<ModelRow>,
    send: SyncSender<Vec<Subject>>,
    answer: &mut Reclassified,
) -> Result<(), CatalogError> {
    let subject = |row: ModelRow, size_bytes: u64| {
        let record = r.header(row.blob)?;
        let (lines, hub) = (r.evidence(row.id)?, enrich_facts::words_of(r, row.id)?);
        Ok::<_, CatalogError>(Subject { size_bytes, record, lines, hub, row })
    };
    let mut pass_on = |subjects: Vec<Subject>| {
        answer.judged_count += subjects.len();
        send.send(subjects).expect("the workers wait until the channel is closed");
    };
    if !named.is_empty() {
        for row in named {
            let size_bytes = r.blob(row.blob)?.map_or(0, |blob| blob.size_bytes);
            pass_on(vec![subject(row, size_bytes)?]);
        }
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = r.models_after(after, PIECE_MODELS)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.id);
        let rows = page.into_iter().map(|(row, blob)| subject(row, blob.size_bytes));
        pass_on(rows.collect::<Result<_, _>>()?);
    }
}

fn work(rules: &Rules, receive: &Mutex<Receiver<Vec<Subject>>>, judged: Sender<Judged>) {
    loop {
        // The lock is held while waiting: whoever has it gets the next piece.
        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(subjects) = next else { return };
        for subject in subjects {
            let header = subject.record.and_then(|record| decode_header(&record).ok());
            let verdict = judge(rules, &subject.row, subject.size_bytes, header.as_ref(), &subject.hub);
            let one = Judged { row: subject.row, verdict, lines: subject.lines };
            if judged.send(one).is_err() {
                return;
            }
        }
    }
}

/// What the catalog will hold after the verdict: a decision by hand stands above it.
fn shown(judged: &Judged) -> Judgement {
    let Judged { row, verdict, .. } = judged;
    let manual = &row.manual;
    let by_hand = manual.model_type.is_some();
    let model_type = manual.model_type.unwrap_or(verdict.model_type);
    Judgement {
        model_type,
        base: manual.base.clone().or_else(|| verdict.base.clone()),
        sub_type: verdict.sub_type.clone().filter(|_| model_type == verdict.model_type),
        precision: verdict.precision.clone().or_else(|| verdict.quantization.clone()),
        confidence: if by_hand { 1.0 } else { verdict.confidence },
        method: if by_hand { Method::Manual } else { verdict.method }.as_str().to_owned(),
    }
}

fn kept(row: &ModelRow) -> Judgement {
    Judgement {
        model_type: row.model_type,
        base: row.base.clone(),
        sub_type: row.sub_type.clone(),
        precision: row.precision.clone().or_else(|| row.quantization.clone()),
        confidence: row.confidence,
        method: row.method.clone(),
    }
}

/// Whether anything at all is to be written.
fn differs(judged: &Judged) -> bool {
    let Judged { row, verdict, lines } = judged;
    shown(judged) != kept(row)
        || (&row.precision, &row.quantization) != (&verdict.precision, &verdict.quantization)
        || row.architecture != verdict.architecture
        || row.trigger_words != verdict.trigger_words
        || *lines != lines_of(&verdict.reasons)
}

/// What a person would call a change.
fn change_of(judged: &Judged) -> Option<VerdictChange> {
    let (before, after) = (kept(&judged.row), shown(judged));
    let facts = |of: &Judgement| (of.model_type, of.base.clone(), of.sub_type.clone(), of.precision.clone());
    (facts(&before) != facts(&after)).then(|| VerdictChange {
        id: judged.row.id,
        name: judged.row.name.to_string(),
        before,
        after,
    })
}

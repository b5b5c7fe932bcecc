//! Writes what is known about published files, in batches: a transaction a file would make the disk the limit.
//!
//! Invariants: a batch is one transaction; what is counted in the summary is committed; sources of moves are removed
//! only after that.

use super::bundles;
use super::planning::mark_of;
use super::running::{blob_name, name_of_path};
use super::work::{HubFile, ModelUse, Task, Use, Work};
use crate::base::{BlobId, BlobState, EntryName, Fault, Label, Safety, Timestamp};
use crate::catalog::{CatalogError, HashRow, NewBlob, OriginRow, Writer};
use crate::classify::{self, Verdict};
use crate::formats::{Header, encode_header};
use crate::library::danger;
use crate::library::models::{self, NewFacts};
use crate::library::shelf::Shelf;
use crate::library::{ImportMode, ImportObserver, ImportSummary, Library, LibraryError, Refusal};
use crate::store::{FileStamp, Hashes, PartialKey, Published, Staged};
use crate::tree::Source;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Files of one transaction: enough to share its cost, few enough that others who write do not wait long.
const BATCH_FILES_MAX: usize = 256;
/// A finished file is safe and visible at the latest after this.
const BATCH_AGE_MAX: Duration = Duration::from_millis(250);

/// What became of one task.
pub(super) struct Done {
    pub task: usize,
    pub result: Result<Content, Fault>,
}

/// A file that was read to its end.
pub(super) struct Content {
    pub hashes: Hashes,
    /// The source as it was read.
    pub stamp: FileStamp,
    pub bytes: Bytes,
    /// Of a model's header.
    pub facts: Option<Facts>,
    /// By index of the use.
    pub verdicts: Vec<(usize, Verdict)>,
}

pub(super) enum Bytes {
    Published(Published),
    /// To be published with others of its size.
    Staged(Staged),
    /// To be published with the rest of its bundle, and only then.
    Held(Staged),
    /// They stay where they lie.
    Linked,
}

/// What the catalog keeps of a header.
pub(super) struct Facts {
    pub record: Vec<u8>,
    pub format: &'static str,
    pub tensor_count: u64,
    pub safety: Safety,
}

impl Facts {
    pub(super) fn of(header: &Header, file_name: &str) -> Self {
        let (tensor_count, safety) = (header.tensors.len() as u64, classify::safety(header, file_name));
        Self { record: encode_header(header), format: header.format.as_str(), tensor_count, safety }
    }
}

/// Whether a content is new to the store, and the bytes that were not stored again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stored {
    New(u64),
    /// Known from a hub before, not downloaded or only in part.
    Arrived(u64),
    AlreadyThere {
        saved_bytes: u64,
    },
}

pub(super) struct Committer<'a> {
    library: &'a Library,
    work: &'a Work,
    mode: ImportMode,
    leave_symlink: bool,
    observer: &'a dyn ImportObserver,
    summary: ImportSummary,
    /// Content of each member of each bundle, as far as they are known.
    members: Vec<Vec<Option<BlobId>>>,
    /// Files of bundles that wait to be moved together.
    waiting: Vec<Done>,
    done_count: usize,
}

impl<'a> Committer<'a> {
    pub(super) fn new(
        library: &'a Library,
        work: &'a Work,
        mode: ImportMode,
        leave_symlink: bool,
        observer: &'a dyn ImportObserver,
        summary: ImportSummary,
    ) -> Self {
        let members = work.bundles.iter().map(|bundle| vec![None; bundle.members.len()]).collect();
        let mut committer =
            Self { library, work, mode, leave_symlink, observer, summary, members, waiting: Vec::new(), done_count: 0 };
        for task in &work.tasks {
            if let Some(blob) = task.known {
                committer.fill_members(task, blob);
            }
        }
        committer
    }

    fn fill_members(&mut self, task: &Task, blob: BlobId) {
        for one in &task.uses {
            if let Use::Member { bundle, member } = one {
                self.members[*bundle][*member] = Some(blob);
            }
        }
    }

    pub(super) fn run(&mut self, input: Receiver<Done>) -> Result<(), LibraryError> {
        while let Ok(first) = input.recv() {
            let begun = Instant::now();
            let mut batch = vec![first];
            while batch.len() < BATCH_FILES_MAX {
                match input.recv_timeout(BATCH_AGE_MAX.saturating_sub(begun.elapsed())) {
                    Ok(done) => batch.push(done),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.commit(batch)?;
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.commit_moved_bundles(waiting)?;
        self.commit_bundles()
    }

    /// How many tasks have come to an end, one way or the other.
    pub(super) fn done_count(&self) -> usize {
        self.done_count
    }

    pub(super) fn finish(mut self, interrupted: bool) -> ImportSummary {
        self.summary.interrupted = interrupted;
        self.summary
    }

    pub(super) fn note_adopted(&mut self, bytes: u64) {
        self.summary.new_count += 1;
        self.summary.new_bytes += bytes;
    }

    pub(super) fn refuse(&mut self, path: &Path, fault: Fault) {
        self.summary.refused.push(Refusal { path: path.to_owned(), reason: fault.what, remedy: fault.remedy });
    }

    fn commit(&mut self, batch: Vec<Done>) -> Result<(), LibraryError> {
        self.done_count += batch.len();
        let (mut contents, mut ended) = (Vec::new(), Vec::new());
        for done in batch {
            match done.result {
                Ok(Content { bytes: Bytes::Held(_), .. }) => {
                    self.waiting.push(done);
                    continue;
                }
                Ok(content) => contents.push((done.task, content)),
                Err(fault) => self.refuse(&self.work.tasks[done.task].path.clone(), fault),
            }
            ended.push(done.task);
        }
        let contents = self.publish(contents)?;
        self.commit_contents(contents)?;
        for task in ended {
            self.observer.finished(&self.work.tasks[task].path);
        }
        Ok(())
    }

    /// Publishes what is only staged, all at once.
    fn publish(&mut self, contents: Vec<(usize, Content)>) -> Result<Vec<(usize, Content)>, LibraryError> {
        let (mut ready, mut rest, mut staged) = (Vec::new(), Vec::new(), Vec::new());
        for (task, content) in contents {
            match content {
                Content { bytes: Bytes::Staged(bytes) | Bytes::Held(bytes), hashes, stamp, facts, verdicts } => {
                    staged.push((bytes, blob_name(&self.work.tasks[task])));
                    rest.push((task, Content { bytes: Bytes::Linked, hashes, stamp, facts, verdicts }));
                }
                content => ready.push((task, content)),
            }
        }
        let published = self.library.store().publish_all(staged)?;
        for ((task, content), published) in rest.into_iter().zip(published) {
            match published {
                Ok(file) => ready.push((task, Content { bytes: Bytes::Published(file), ..content })),
                Err(error) => self.refuse(&self.work.tasks[task].path, error.fault()),
            }
        }
        Ok(ready)
    }

    fn commit_contents(&mut self, contents: Vec<(usize, Content)>) -> Result<(), LibraryError> {
        if contents.is_empty() {
            return Ok(());
        }
        let (work, now) = (self.work, self.library.now());
        let committed: Vec<(BlobId, Stored)> = self.library.catalog().write(now, |w| {
            let mut shelf = Shelf::begin(w)?;
            let commit = |(task, content): &(usize, Content)| commit_file(w, &mut shelf, &work.tasks[*task], content);
            contents.iter().map(commit).collect::<Result<_, CatalogError>>()
        })?;
        for ((index, content), (blob, stored)) in contents.into_iter().zip(committed) {
            let task = &self.work.tasks[index];
            self.fill_members(task, blob);
            match stored {
                Stored::New(bytes) | Stored::Arrived(bytes) => {
                    self.summary.new_count += 1;
                    self.summary.new_bytes += bytes;
                }
                Stored::AlreadyThere { saved_bytes } => {
                    self.summary.already_there_count += 1;
                    self.summary.saved_bytes += saved_bytes;
                }
            }
            if matches!(stored, Stored::Arrived(_)) {
                // A download under way keeps its half and finds the file complete.
                let _ = self.library.store().discard_partial(&PartialKey::of_blob(blob));
            }
            if let (Bytes::Published(published), ImportMode::Move) = (content.bytes, self.mode)
                && let Err(error) = published.finish_move(self.leave_symlink)
            {
                self.refuse(&task.path, error.fault());
            }
        }
        Ok(())
    }

    /// Moves bundles whose every file is staged; the others stay as they are.
    fn commit_moved_bundles(&mut self, waiting: Vec<Done>) -> Result<(), LibraryError> {
        let mut missing: Vec<usize> = self.members.iter().map(|files| files.iter().flatten().count()).collect();
        for (bundle, have) in missing.iter_mut().enumerate() {
            *have = self.members[bundle].len() - *have;
        }
        let bundles_of = |task: usize| {
            self.work.tasks[task].uses.iter().filter_map(|one| match one {
                Use::Member { bundle, .. } => Some(*bundle),
                _ => None,
            })
        };
        for done in &waiting {
            bundles_of(done.task).for_each(|bundle| missing[bundle] -= 1);
        }
        let is_whole = |done: &Done| {
            bundles_of(done.task)
                .any(|bundle| missing[bundle] == 0 || !self.work.bundles[bundle].shape.needs_every_file())
        };
        let (whole, _): (Vec<Done>, Vec<Done>) = waiting.into_iter().partition(is_whole);
        let contents = whole.into_iter().filter_map(|done| Some((done.task, done.result.ok()?))).collect();
        let published = self.publish(contents)?;
        let ended: Vec<usize> = published.iter().map(|(task, _)| *task).collect();
        self.commit_contents(published)?;
        ended.iter().for_each(|task| self.observer.finished(&self.work.tasks[*task].path));
        Ok(())
    }

    fn commit_bundles(&mut self) -> Result<(), LibraryError> {
        for (bundle, files) in self.work.bundles.iter().zip(std::mem::take(&mut self.members)) {
            let is_whole = files.iter().all(Option::is_some);
            if files.iter().all(Option::is_none) || bundle.shape.needs_every_file() && !is_whole {
                // Refused, or stopped on the way: the next run goes on.
                continue;
            }
            let rules = self.library.rules();
            let is_new = self.library.catalog().write(self.library.now(), |w| {
                let mut shelf = Shelf::begin(w)?;
                bundles::commit_bundle(w, &mut shelf, &rules, bundle, &files)
            })?;
            self.summary.bundle_count += usize::from(is_new);
        }
        Ok(())
    }
}

/// Everything the catalog learns from one file.
fn commit_file(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    task: &Task,
    content: &Content,
) -> Result<(BlobId, Stored), CatalogError> {
    let name = match &content.bytes {
        Bytes::Published(published) => Some(published.name.clone()),
        Bytes::Staged(_) | Bytes::Held(_) | Bytes::Linked => None,
    };
    let (blob, stored) = commit_content(w, shelf, &task.path, content, name.as_ref())?;
    let mark = mark_of(&content.stamp);
    let saved_bytes = match stored {
        Stored::New(_) | Stored::Arrived(_) => 0,
        Stored::AlreadyThere { saved_bytes } => saved_bytes,
    };
    w.note_import(&task.path, &mark, blob, saved_bytes)?;
    shelf.add_origin(w, blob, &local_origin(&task.path))?;
    for (index, one) in task.uses.iter().enumerate() {
        match one {
            Use::Alias(path) => w.note_import(path, &mark, blob, 0)?,
            Use::Member { .. } => {}
            Use::Model(model) => {
                let verdict = content.verdicts.iter().find(|(of, _)| *of == index).map(|(_, verdict)| verdict);
                let verdict = verdict.expect("every model was judged when it was read");
                commit_model(w, shelf, blob, model, content.facts.as_ref(), verdict)?;
            }
        }
    }
    Ok((blob, stored))
}

/// The content's own row. `name` is that of its file in the store; without one the bytes stay where they lie.
pub(super) fn commit_content(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    path: &Path,
    content: &Content,
    name: Option<&EntryName>,
) -> Result<(BlobId, Stored), CatalogError> {
    let (hashes, size_bytes) = (&content.hashes, content.stamp.size_bytes);
    let row = HashRow {
        blake3: hashes.blake3,
        crc32: hashes.crc32,
        autov1: hashes.autov1.clone(),
        autov3: hashes.autov3.clone(),
    };
    let mark = mark_of(&content.stamp);
    let Some(known) = w.blob_by_sha256(&hashes.sha256)? else {
        let blob = w.add_blob(&NewBlob {
            sha256: Some(hashes.sha256),
            size_bytes,
            state: BlobState::Resident,
            mtime: Timestamp::from_unix_ns(content.stamp.mtime_ns),
            name: name.cloned().unwrap_or_else(|| name_of_path(path)),
            hashes: Some(row),
            etag: None,
        })?;
        if name.is_none() {
            w.set_link(blob, path, &mark)?;
        }
        set_header(w, blob, content)?;
        shelf.touch_store(w)?;
        return Ok((blob, Stored::New(size_bytes)));
    };
    let blob = known.id;
    set_header(w, blob, content)?;
    if known.hashes.is_none() {
        w.set_hashes(blob, &hashes.sha256, &row)?;
    }
    let was_resident = known.state == BlobState::Resident;
    let was_linked = w.link(blob)?.is_some();
    match name {
        Some(name) => {
            if *name != known.name {
                w.set_blob_name(blob, name)?;
            }
            if was_linked {
                w.remove_link(blob)?;
            }
        }
        // The newest place is known to be good; a copy in the store is better than any.
        None if was_linked || !was_resident => w.set_link(blob, path, &mark)?,
        None => {}
    }
    if !was_resident {
        w.set_error(blob, None)?;
        shelf.set_blob_state(w, blob, BlobState::Resident)?;
    }
    let stored = match was_resident {
        false => Stored::Arrived(size_bytes),
        true if was_linked && name.is_some() => Stored::New(size_bytes),
        true => Stored::AlreadyThere { saved_bytes: size_bytes },
    };
    Ok((blob, stored))
}

fn set_header(w: &mut Writer<'_>, blob: BlobId, content: &Content) -> Result<(), CatalogError> {
    match &content.facts {
        Some(facts) if w.header(blob)?.is_none() => w.set_header(blob, &facts.record, facts.safety),
        _ => Ok(()),
    }
}

pub(super) fn commit_model(
    w: &mut Writer<'_>,
    shelf: &mut Shelf,
    blob: BlobId,
    model: &ModelUse,
    facts: Option<&Facts>,
    verdict: &Verdict,
) -> Result<(), CatalogError> {
    let creator = model.hub.as_ref().and_then(|hub| creator_of(hub.repo.as_str()));
    let facts = NewFacts {
        blob,
        name: &model.name,
        verdict,
        format: facts.map_or("other", |facts| facts.format),
        tensor_count: facts.map(|facts| facts.tensor_count),
        folders: &model.folders,
        source: if model.hub.is_some() { Source::HuggingFace } else { Source::Local },
        creator,
        license: None,
        tags: &[],
    };
    models::register(w, shelf, &facts)?;
    danger::is_called(w, blob, model.name.as_str())?;
    if let Some(hub) = &model.hub {
        shelf.add_origin(w, blob, &hub_origin(hub))?;
    }
    Ok(())
}

pub(super) fn creator_of(repo: &str) -> Option<Label> {
    repo.split_once('/').and_then(|(organisation, _)| Label::new(organisation).ok())
}

pub(super) fn hub_origin(hub: &HubFile) -> OriginRow {
    OriginRow {
        source: Source::HuggingFace,
        repo: hub.repo.as_str().to_owned(),
        revision: hub.commit.as_str().to_owned(),
        path: hub.path.as_str().to_owned(),
    }
}

fn local_origin(path: &Path) -> OriginRow {
    let path = path.to_string_lossy().into_owned();
    OriginRow { source: Source::Local, repo: String::new(), revision: String::new(), path }
}

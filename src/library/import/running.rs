//! Reads, hashes and publishes with several threads, and hands what is done to the one who writes rows.

use super::committing::{Bytes, Committer, Content, Done, Facts};
use super::orphans;
use super::work::{Task, Use, Work};
use crate::base::{EntryName, Fault, FaultKind};
use crate::classify::{self, Evidence, Verdict};
use crate::formats;
use crate::library::{ImportMode, ImportObserver, ImportPlan, ImportSummary, Library, LibraryError};
use crate::store::{self, Cancel, FileSource, Staged, StoreError};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

/// From this size on a file keeps several cores busy by itself.
const HEAVY_BYTES_MIN: u64 = 16 << 20;
/// Cores that one heavy file uses: two lanes of SHA-256, one for the rest, one that reads and writes.
const HEAVY_CORES: usize = 4;
/// Small files wait for the disk more than for the processor.
const LIGHT_THREADS: usize = 4;
/// Finished files that wait for their rows; beyond it the workers wait. Each holds an open file, and together with one
/// batch they must stay well below the usual limit of 1024.
const DONE_MAX: usize = 128;

pub(in crate::library) fn run(
    library: &Library,
    plan: ImportPlan,
    observer: &dyn ImportObserver,
    cancel: &Cancel,
) -> Result<ImportSummary, LibraryError> {
    if !plan.fits() {
        return Err(LibraryError::DoesNotFit { needed_bytes: plan.cost_bytes(), free_bytes: plan.free_bytes });
    }
    let leftovers = library.store().clean_staging()?;
    let summary = ImportSummary {
        unchanged_count: plan.unchanged_count,
        ignored_count: plan.ignored_count,
        refused: plan.refused,
        ..ImportSummary::default()
    };
    let worker = Worker { library, work: &plan.work, mode: plan.mode, observer, cancel };
    let mut committer = Committer::new(library, &plan.work, plan.mode, plan.leave_symlink, observer, summary);
    if plan.mode == ImportMode::Move || leftovers > 0 {
        // A run that was killed may have published files whose rows it did not write, and a moved file is nowhere else.
        orphans::take_up(library, &mut committer, cancel)?;
    }
    let wanted = |task: &&(usize, &Task)| task.1.known.is_none() && !task.1.uses.is_empty();
    let tasks: Vec<(usize, &Task)> = plan.work.tasks.iter().enumerate().filter(|task| wanted(&task)).collect();
    let (heavy, light): (Vec<_>, Vec<_>) = tasks.iter().partition(|(_, task)| task.stamp.size_bytes >= HEAVY_BYTES_MIN);
    let (heavy, light) = (Queue::new(heavy), Queue::new(light));
    let heavy_threads = thread::available_parallelism().map_or(1, |cores| cores.get() / HEAVY_CORES).max(1);
    let result = thread::scope(|scope| {
        let (output, input) = mpsc::sync_channel(DONE_MAX);
        for _ in 0..heavy_threads.min(heavy.len()) {
            let output = output.clone();
            scope.spawn(|| worker.work_off(&heavy, output));
        }
        for _ in 0..LIGHT_THREADS.min(light.len()) {
            let output = output.clone();
            scope.spawn(|| worker.work_off(&light, output));
        }
        drop(output);
        // When it fails, its end of the channel closes and the workers stop after the file at hand.
        committer.run(input)
    });
    result?;
    // Asked to stop after the last file is no interruption.
    let interrupted = cancel.is_cancelled() && committer.done_count() < tasks.len();
    Ok(committer.finish(interrupted))
}

/// Tasks that are taken one after the other by several threads.
struct Queue {
    tasks: Vec<usize>,
    next: AtomicUsize,
}

impl Queue {
    fn new(tasks: Vec<&(usize, &Task)>) -> Self {
        Self { tasks: tasks.into_iter().map(|(index, _)| *index).collect(), next: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.tasks.len()
    }

    fn take(&self) -> Option<usize> {
        self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

struct Worker<'a> {
    library: &'a Library,
    work: &'a Work,
    mode: ImportMode,
    observer: &'a dyn ImportObserver,
    cancel: &'a Cancel,
}

impl Worker<'_> {
    fn work_off(&self, queue: &Queue, output: SyncSender<Done>) {
        while !self.cancel.is_cancelled() {
            let Some(index) = queue.take() else { break };
            let result = match self.read(&self.work.tasks[index]) {
                Err(fault) if fault.kind == FaultKind::Interrupted => break,
                result => result,
            };
            if output.send(Done { task: index, result }).is_err() {
                break;
            }
        }
    }

    /// One pass over the bytes.
    fn read(&self, task: &Task) -> Result<Content, Fault> {
        let source = FileSource::open(&task.path).map_err(|error| error.fault())?;
        let shown = task.path.display().to_string();
        let header = match task.is_model {
            true => Some(formats::read_header(&source).map_err(|error| error.fault(&shown))?),
            false => None,
        };
        let data_start = store::safetensors_data_start(&source);
        drop(source);
        let (bytes, hashes, stamp) = self.take_bytes(task, data_start).map_err(|error| error.fault())?;
        if let Some(claimed) = task.claimed.filter(|claimed| *claimed != hashes.sha256) {
            let what = format!("{shown} is damaged: its cache calls it {claimed}, its bytes hash to {}", hashes.sha256);
            return Err(Fault::new(FaultKind::Integrity, what, "remove it from the cache and download it again"));
        }
        let rules = self.library.rules();
        let judge = |(index, one): (usize, &Use)| {
            let Use::Model(model) = one else { return None };
            let evidence = Evidence {
                header: header.as_ref(),
                file_name: model.name.as_str(),
                folders: &model.folders,
                size_bytes: stamp.size_bytes,
                hub: &[],
            };
            Some((index, classify::classify(&rules, &evidence)))
        };
        let verdicts: Vec<(usize, Verdict)> = task.uses.iter().enumerate().filter_map(judge).collect();
        let bytes = match bytes {
            // A bundle is moved as a whole, when all of it is known to be good.
            Some(staged) if self.mode == ImportMode::Move && self.moves_together(task) => Bytes::Held(staged),
            // Syncing each small file by itself would make the disk the limit.
            Some(staged) if self.mode != ImportMode::Move && stamp.size_bytes < HEAVY_BYTES_MIN => {
                Bytes::Staged(staged)
            }
            Some(staged) => {
                let published = self.library.store().publish(staged, &blob_name(task));
                Bytes::Published(published.map_err(|error| error.fault())?)
            }
            None => Bytes::Linked,
        };
        let facts = header.as_ref().map(|header| Facts::of(header, name_of_path(&task.path).as_str()));
        Ok(Content { hashes, stamp, bytes, facts, verdicts })
    }

    /// Whether the file is of no use without the others of its bundle.
    fn moves_together(&self, task: &Task) -> bool {
        let needs = |bundle: usize| self.work.bundles[bundle].shape.needs_every_file();
        task.uses.iter().any(|one| matches!(one, Use::Member { bundle, .. } if needs(*bundle)))
    }

    /// A staged file, or nothing when the bytes stay where they lie.
    fn take_bytes(
        &self,
        task: &Task,
        data_start: Option<u64>,
    ) -> Result<(Option<Staged>, store::Hashes, store::FileStamp), StoreError> {
        let store = self.library.store();
        let progress = |bytes| self.observer.advanced(bytes);
        let staged = match self.mode {
            ImportMode::Link => {
                let (hashes, stamp) = store::hash_file(&task.path, data_start, &progress, self.cancel)?;
                return Ok((None, hashes, stamp));
            }
            ImportMode::Reflink => match store.stage_reflink(&task.path, data_start, &progress, self.cancel) {
                // Another disk among the given paths; the plan has counted these bytes.
                Err(StoreError::ReflinkUnsupported { .. }) => {
                    store.stage_copy(&task.path, data_start, &progress, self.cancel)?
                }
                result => result?,
            },
            ImportMode::Copy => store.stage_copy(&task.path, data_start, &progress, self.cancel)?,
            ImportMode::Move => store.stage_move(&task.path, data_start, &progress, self.cancel)?,
        };
        let (hashes, stamp) = (staged.hashes().clone(), *staged.stamp());
        Ok((Some(staged), hashes, stamp))
    }
}

/// The name of a content in the store: that of its file.
pub(super) fn blob_name(task: &Task) -> EntryName {
    let named = task.uses.iter().find_map(|one| match one {
        Use::Model(model) => Some(model.name.clone()),
        _ => None,
    });
    named.unwrap_or_else(|| name_of_path(&task.path))
}

pub(super) fn name_of_path(path: &Path) -> EntryName {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| EntryName::new(name).ok());
    name.expect("the walk passes on no path that cannot be shown")
}

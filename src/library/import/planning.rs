//! What an import would do, found without changing anything: files, bundles, refusals, and what each mode takes.

use super::grouping::{self, Group};
use super::work::{BundleWork, HubFile, Member, ModelUse, Shape, Task, Use, Work};
use crate::base::{BlobState, EntryName, Fault, FaultKind, RelativePath};
use crate::catalog::{CatalogError, FileMark, Reader};
use crate::formats::{self, Format, FormatError};
use crate::library::{ImportMode, ImportPlan, ImportRequest, Library, LibraryError, ModeCosts, Refusal};
use crate::store::{CacheSnapshot, Cancel, FileSource, FileStamp, Found, Store, Walked};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reading headers waits for the disk more than for the processor.
const HEADER_THREADS: usize = 4;
/// How many folders above a given path count as evidence: `ComfyUI/models/loras` is three.
const FOLDERS_ABOVE: usize = 4;
/// Longest configuration read; a longer one tells nothing more.
const CONFIGURATION_BYTES_MAX: u64 = 256 << 10;

pub(in crate::library) fn plan(
    library: &Library,
    request: &ImportRequest,
    cancel: &Cancel,
) -> Result<ImportPlan, LibraryError> {
    if request.leave_symlink && request.mode != Some(ImportMode::Move) {
        let mode = request.mode.map_or("reflink or copy", ImportMode::as_str);
        return Err(LibraryError::Mode { mode, reason: "--leave-symlink goes with --mode move".to_owned() });
    }
    let mut walked = library.store().walk_sources(&request.paths, cancel)?;
    let mut gathering = Gathering::new(request);
    for problem in std::mem::take(&mut walked.problems) {
        gathering.refuse(&problem.path, problem.fault);
    }
    gathering.files(&walked);
    for snapshot in walked.snapshots {
        gathering.snapshot(snapshot);
    }
    library.catalog().read(|r| gathering.find_known(r, library.store(), request.mode))?;
    gathering.check_headers(cancel)?;
    gathering.finish(library.store(), request)
}

/// Identity of a file's bytes at one moment, for reading each only once.
type Identity = (FileStamp, Option<PathBuf>);

struct Gathering {
    moves: bool,
    /// Real path and folder names of each given path.
    roots: Vec<(PathBuf, Vec<String>)>,
    work: Work,
    tasks: HashMap<Identity, usize>,
    refused: Vec<Refusal>,
    ignored_count: usize,
}

impl Gathering {
    fn new(request: &ImportRequest) -> Self {
        Self {
            moves: request.mode == Some(ImportMode::Move),
            roots: request.paths.iter().map(|path| real_root(path)).collect(),
            work: Work::default(),
            tasks: HashMap::new(),
            refused: Vec::new(),
            ignored_count: 0,
        }
    }

    fn refuse(&mut self, path: &Path, fault: Fault) {
        self.refused.push(Refusal { path: path.to_owned(), reason: fault.what, remedy: fault.remedy });
    }

    fn files(&mut self, walked: &Walked) {
        let paths: Vec<PathBuf> = walked.files.iter().map(|found| self.real_path(found)).collect();
        let mut in_group = HashSet::new();
        for group in grouping::group(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>()) {
            in_group.extend(group.members.iter().copied());
            self.bundle(group, walked, &paths);
        }
        for (index, found) in walked.files.iter().enumerate().filter(|(index, _)| !in_group.contains(index)) {
            let name = found.relative.file_name();
            let path = paths[index].clone();
            if !formats::has_model_suffix(name.as_str()) {
                // What was named by itself deserves an answer; the rest of a folder does not.
                if path == self.roots[found.root].0 {
                    let what = format!("{} does not end like a model's name", path.display());
                    let remedy = format!("name files that end in {}", formats::MODEL_SUFFIXES.join(" "));
                    self.refuse(&path, Fault::new(FaultKind::Invalid, what, remedy));
                } else {
                    self.ignored_count += 1;
                }
                continue;
            }
            let first = found.same_as.filter(|first| !in_group.contains(first));
            let task = self.task(&path, found.stamp, true);
            if first.is_some() && !self.work.tasks[task].uses.is_empty() {
                self.work.tasks[task].uses.push(Use::Alias(path));
                continue;
            }
            let folders = self.folders(found);
            self.work.tasks[task].uses.push(Use::Model(ModelUse { name, folders, hub: None }));
        }
    }

    fn bundle(&mut self, group: Group, walked: &Walked, paths: &[PathBuf]) {
        let Group { shape, folder, name, members } = group;
        let Ok(name) = EntryName::new(&name) else {
            let what = format!("{} cannot be shown as a folder", folder.display());
            self.refuse(&folder, Fault::new(FaultKind::Invalid, what, "give it a name and import that folder"));
            return;
        };
        let root = walked.files[members[0]].root;
        let above = folder.strip_prefix(&self.roots[root].0).unwrap_or(Path::new(""));
        let mut folders = self.roots[root].1.clone();
        folders.extend(names_of(above));
        // The bundle's own folder is its name, not where it was found.
        if folders.last().is_some_and(|last| *last == name.as_str()) {
            folders.pop();
        }
        let mut files = Vec::new();
        for index in members {
            let inside = paths[index].strip_prefix(&folder).ok().and_then(Path::to_str);
            let Some(relative) = inside.and_then(|inside| RelativePath::new(inside).ok()) else { continue };
            files.push((relative, paths[index].clone(), walked.files[index].stamp));
        }
        self.add_bundle(BundleWork { folder, name, shape, folders, hub: None, members: Vec::new() }, files);
    }

    fn add_bundle(&mut self, mut work: BundleWork, mut files: Vec<(RelativePath, PathBuf, FileStamp)>) {
        files.sort_by(|one, other| one.0.cmp(&other.0));
        let names: Vec<&str> = files.iter().map(|(relative, ..)| relative.as_str()).collect();
        if let Some(count) = grouping::missing_shards(&names).filter(|_| work.shape.needs_every_file()) {
            let what = format!("{} is incomplete: {count} of its numbered files are missing", work.folder.display());
            self.refuse(&work.folder, Fault::new(FaultKind::Invalid, what, "get the missing files, then try again"));
            return;
        }
        let bundle = self.work.bundles.len();
        for (member, (relative, path, stamp)) in files.into_iter().enumerate() {
            let is_model = formats::has_model_suffix(relative.as_str());
            let task = self.task(&path, stamp, is_model);
            self.work.tasks[task].uses.push(Use::Member { bundle, member });
            let json = grouping::is_configuration(relative.as_str()).then(|| configuration(&path, &stamp)).flatten();
            work.members.push(Member { relative, size_bytes: stamp.size_bytes, json });
        }
        self.work.bundles.push(work);
    }

    fn snapshot(&mut self, snapshot: CacheSnapshot) {
        let CacheSnapshot { repo, commit, folder, files } = snapshot;
        let top: Vec<&str> = files.iter().map(|file| file.relative.as_str()).filter(|p| !p.contains('/')).collect();
        let shape = grouping::shape_of(&top);
        let name = repo.as_str().rsplit('/').next().unwrap_or_default();
        let Ok(name) = EntryName::new(name) else { return };
        let folders: Vec<String> = repo.as_str().split('/').map(str::to_owned).collect();
        for file in &files {
            let task = self.task(&file.path, file.stamp, formats::has_model_suffix(file.relative.as_str()));
            self.work.tasks[task].claimed = self.work.tasks[task].claimed.or(file.sha256);
            let stands_alone = match shape {
                // Beside a pipeline lies the same model as one file.
                Shape::Pipeline => file.relative.parent().is_none(),
                Shape::Sharded => false,
                // Which of the two it is, is known when it is classified.
                Shape::Configured => false,
                Shape::Loose => true,
            };
            if stands_alone && self.work.tasks[task].is_model {
                let mut folders = folders.clone();
                folders.extend(file.relative.parent().iter().flat_map(|p| names_of(Path::new(p.as_str()))));
                let hub = HubFile { repo: repo.clone(), commit: commit.clone(), path: file.relative.clone() };
                let name = file.relative.file_name();
                self.work.tasks[task].uses.push(Use::Model(ModelUse { name, folders, hub: Some(hub) }));
            }
        }
        let files = files.into_iter().map(|file| (file.relative, file.path, file.stamp)).collect();
        let hub = Some((repo, commit));
        self.add_bundle(BundleWork { folder, name, shape, folders, hub, members: Vec::new() }, files);
    }

    /// The task that reads this file; one for all paths that lead to it.
    fn task(&mut self, path: &Path, stamp: FileStamp, is_model: bool) -> usize {
        // A move takes each hard link away by itself; a symbolic link has nothing of its own to take.
        let own = (self.moves && !path.is_symlink()).then(|| path.to_owned());
        let tasks = &mut self.work.tasks;
        let index = *self.tasks.entry((stamp, own)).or_insert_with(|| {
            let path = path.to_owned();
            tasks.push(Task { path, stamp, is_model: false, claimed: None, known: None, uses: Vec::new() });
            tasks.len() - 1
        });
        self.work.tasks[index].is_model |= is_model;
        index
    }

    fn find_known(&mut self, r: &Reader<'_>, store: &Store, mode: Option<ImportMode>) -> Result<(), CatalogError> {
        if self.moves {
            // Whatever is still there is to be taken away.
            return Ok(());
        }
        for task in &mut self.work.tasks {
            let Some(blob) = r.unchanged_import(&task.path, &mark_of(&task.stamp))? else { continue };
            let Some(row) = r.blob(blob)?.filter(|row| row.state == BlobState::Resident) else { continue };
            let is_kept = match r.link(blob)? {
                // Bytes that were only linked are wanted in the store now.
                Some(_) => mode == Some(ImportMode::Link),
                // A file that was lost or cut short can be had again.
                None => row.sha256.is_some_and(|sha256| store.has_blob(&sha256, &row.name, row.size_bytes)),
            };
            task.known = Some(blob).filter(|_| is_kept);
        }
        Ok(())
    }

    /// Refuses what is no whole model, and the bundles that need it.
    fn check_headers(&mut self, cancel: &Cancel) -> Result<(), LibraryError> {
        let problems = check_all(&self.work.tasks, cancel);
        if cancel.is_cancelled() {
            return Err(LibraryError::Interrupted);
        }
        let mut spoiled: BTreeMap<usize, PathBuf> = BTreeMap::new();
        for (index, fault) in problems {
            let path = self.work.tasks[index].path.clone();
            for r#use in std::mem::take(&mut self.work.tasks[index].uses) {
                if let Use::Member { bundle, .. } = r#use {
                    spoiled.entry(bundle).or_insert_with(|| path.clone());
                }
            }
            self.refuse(&path, fault);
        }
        for (bundle, path) in spoiled {
            let work = &mut self.work.bundles[bundle];
            if !work.shape.needs_every_file() {
                continue;
            }
            let what = format!("{} needs {}, which is refused", work.folder.display(), path.display());
            let folder = work.folder.clone();
            work.members.clear();
            self.refuse(&folder, Fault::new(FaultKind::Invalid, what, "mend that file, then import the folder again"));
            for task in &mut self.work.tasks {
                task.uses.retain(|r#use| !matches!(r#use, Use::Member { bundle: of, .. } if *of == bundle));
            }
        }
        Ok(())
    }

    fn finish(mut self, store: &Store, request: &ImportRequest) -> Result<ImportPlan, LibraryError> {
        let is_member = |task: &Task| task.uses.iter().any(|one| matches!(one, Use::Member { .. }));
        let is_unchanged = |task: &Task| task.known.is_some() && !task.uses.is_empty();
        let unchanged_count = self.work.tasks.iter().filter(|task| is_unchanged(task)).count();
        for task in &mut self.work.tasks {
            if task.known.is_some() && !is_member(task) {
                task.uses.clear();
            }
        }
        let bundle_count = self.work.bundles.iter().filter(|bundle| !bundle.members.is_empty()).count();
        let reads: Vec<&Task> =
            self.work.tasks.iter().filter(|task| task.known.is_none() && !task.uses.is_empty()).collect();
        let costs = costs(store, &reads);
        let mode = match request.mode {
            Some(ImportMode::Reflink) if costs.reflink.is_none() => {
                let reason = "the store's filesystem cannot share blocks with these files".to_owned();
                return Err(LibraryError::Mode { mode: ImportMode::Reflink.as_str(), reason });
            }
            Some(mode) => mode,
            None if costs.reflink.is_some() => ImportMode::Reflink,
            None => ImportMode::Copy,
        };
        Ok(ImportPlan {
            mode,
            leave_symlink: request.leave_symlink,
            costs,
            free_bytes: store.free_bytes()?,
            file_count: reads.len(),
            total_bytes: reads.iter().map(|task| task.stamp.size_bytes).sum(),
            unchanged_count,
            bundle_count,
            ignored_count: self.ignored_count,
            refused: self.refused,
            work: self.work,
        })
    }

    fn real_path(&self, found: &Found) -> PathBuf {
        let root = &self.roots[found.root].0;
        // A file that was given by itself is its own root.
        if root.is_dir() { root.join(found.relative.as_str()) } else { root.clone() }
    }

    fn folders(&self, found: &Found) -> Vec<String> {
        let mut folders = self.roots[found.root].1.clone();
        folders.extend(found.relative.parent().iter().flat_map(|parent| names_of(Path::new(parent.as_str()))));
        folders
    }
}

/// The path that names a root for good, and the folders that tell what is in it.
fn real_root(path: &Path) -> (PathBuf, Vec<String>) {
    let real = if path.is_dir() {
        path.canonicalize()
    } else {
        // The link's own name, in the real folder.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        parent.canonicalize().map(|parent| path.file_name().map_or(parent.clone(), |name| parent.join(name)))
    };
    let real = real.unwrap_or_else(|_| path.to_owned());
    let folder = if real.is_dir() { Some(real.as_path()) } else { real.parent() };
    let names = folder.map(names_of).unwrap_or_default();
    let folders = names[names.len().saturating_sub(FOLDERS_ABOVE)..].to_vec();
    (real, folders)
}

fn names_of(path: &Path) -> Vec<String> {
    let normal = |part| match part {
        std::path::Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    path.components().filter_map(normal).collect()
}

pub(super) fn mark_of(stamp: &FileStamp) -> FileMark {
    let FileStamp { size_bytes, mtime_ns, inode, device } = *stamp;
    FileMark { size_bytes, mtime_ns, inode, device }
}

fn configuration(path: &Path, stamp: &FileStamp) -> Option<String> {
    if stamp.size_bytes > CONFIGURATION_BYTES_MAX { None } else { fs::read_to_string(path).ok() }
}

/// Reads the header of every file that must be a model. Answers what is refused, by task.
fn check_all(tasks: &[Task], cancel: &Cancel) -> Vec<(usize, Fault)> {
    let next = AtomicUsize::new(0);
    let check = || {
        let mut refused = Vec::new();
        while !cancel.is_cancelled() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(index) else { break };
            if task.is_model && task.known.is_none() && !task.uses.is_empty() {
                refused.extend(check_model(&task.path).err().map(|fault| (index, fault)));
            }
        }
        refused
    };
    let mut refused: Vec<(usize, Fault)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..HEADER_THREADS).map(|_| scope.spawn(check)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    refused.sort_by_key(|(index, _)| *index);
    refused
}

fn check_model(path: &Path) -> Result<(), Fault> {
    let shown = path.display().to_string();
    let source = FileSource::open(path).map_err(|error| error.fault())?;
    let header = formats::read_header(&source).map_err(|error: FormatError| error.fault(&shown))?;
    // A container that is known by name is kept; bytes nobody knows are no model.
    if header.format == Format::Other && header.metadata.is_empty() {
        let what = format!("`{shown}` is refused: its bytes are of no model format that is known");
        return Err(Fault::new(FaultKind::Invalid, what, "download it again, or leave it where it is"));
    }
    Ok(())
}

/// Bytes each mode would take for what has to be read.
fn costs(store: &Store, reads: &[&Task]) -> ModeCosts {
    let total: u64 = reads.iter().map(|task| task.stamp.size_bytes).sum();
    let mut devices: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for task in reads {
        devices.entry(task.stamp.device).or_insert((&task.path, 0)).1 += task.stamp.size_bytes;
    }
    let here = FileStamp::of_path(store.root()).map(|stamp| stamp.device).ok();
    let elsewhere = devices.iter().filter(|(device, _)| Some(**device) != here).map(|(_, (_, bytes))| bytes).sum();
    // One try a device: whether blocks can be shared is a property of the filesystem.
    let unshared: u64 = devices.values().filter(|(path, _)| !store.can_reflink(path)).map(|(_, bytes)| bytes).sum();
    let reflink = if unshared == total && total > 0 { None } else { Some(unshared) };
    ModeCosts { reflink, copy: Some(total), r#move: Some(elsewhere), link: Some(0) }
}

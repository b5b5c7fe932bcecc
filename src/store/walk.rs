//! Finds what an import can take: files under the given paths, and snapshots of a Hugging Face cache.
//!
//! Invariants: links are followed, every folder is entered once (by device and inode), the depth is bounded, and whatever
//! cannot be looked at or named is reported, never dropped silently. Passed over on purpose: names that start with a dot,
//! the store itself, links into it. Not here: which files are models (`formats`), what forms a bundle (`classify`).

use super::error::AtPath;
use super::{Cancel, FileStamp, Store, StoreError};
use crate::base::{Digest, Fault, FaultKind, NameError, RelativePath, RepoId, Revision};
use crate::formats;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// As deep as a path in the tree can be shown.
const DEPTH_MAX: usize = 32;
/// A file that every modelfs mount has.
const MOUNT_SIGN: &str = ".modelfs/status.json";
/// Marks the shared blobs of a Hugging Face cache.
const SHARED_BLOBS_SIGN: &str = ".huggingface-shared-blobs";
const REPO_PREFIX: &str = "models--";
/// Repositories of a Hugging Face cache that hold no models.
const OTHER_PREFIXES: [&str; 2] = ["datasets--", "spaces--"];
const SNAPSHOTS: &str = "snapshots";

/// A regular file under one of the given paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// As it was reached; may be a link.
    pub path: PathBuf,
    /// Which of the given paths it lies under.
    pub root: usize,
    /// Relative to that path; the file name alone when a file was given.
    pub relative: RelativePath,
    /// Of the file itself, links followed.
    pub stamp: FileStamp,
    /// Index of an earlier `Found` that is the same file, by a link of either kind.
    pub same_as: Option<usize>,
}

/// One commit of one repository in a Hugging Face cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheSnapshot {
    pub repo: RepoId,
    pub commit: Revision,
    pub folder: PathBuf,
    pub files: Vec<CacheFile>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheFile {
    /// Path in the repository.
    pub relative: RelativePath,
    pub path: PathBuf,
    pub stamp: FileStamp,
    /// What the cache calls the content; a claim until the bytes are hashed. Absent for files outside LFS.
    pub sha256: Option<Digest>,
}

/// Something that was passed over although it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkProblem {
    pub path: PathBuf,
    pub fault: Fault,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// In the order of the given paths, then of names.
    pub files: Vec<Found>,
    pub snapshots: Vec<CacheSnapshot>,
    pub problems: Vec<WalkProblem>,
}

impl Store {
    /// Looks at files and folder trees, and changes nothing. Fails only when it is cancelled.
    pub fn walk_sources(&self, paths: &[PathBuf], cancel: &Cancel) -> Result<Walked, StoreError> {
        let mut walk = Walk {
            store: self,
            cancel,
            walked: Walked::default(),
            folders: HashSet::new(),
            devices: HashSet::new(),
            files: HashMap::new(),
        };
        for (index, path) in paths.iter().enumerate() {
            walk.root(index, path)?;
        }
        Ok(walk.walked)
    }
}

struct Walk<'a> {
    store: &'a Store,
    cancel: &'a Cancel,
    walked: Walked,
    /// Device and inode of the folders that were entered.
    folders: HashSet<(u64, u64)>,
    /// Devices on which no modelfs mount begins.
    devices: HashSet<u64>,
    files: HashMap<(u64, u64), usize>,
}

enum Step {
    Into,
    Over,
}

impl Walk<'_> {
    fn root(&mut self, index: usize, path: &Path) -> Result<(), StoreError> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => {
                self.failed(path, Err(error).at("open", path));
                return Ok(());
            }
        };
        if real.starts_with(self.store.root()) {
            self.failed(path, Err(StoreError::InsideStore { path: path.to_owned() }));
            return Ok(());
        }
        if let Some(mount) = real.ancestors().find(|folder| folder.join(MOUNT_SIGN).exists()) {
            self.problem(mount, mount_fault(mount));
            return Ok(());
        }
        if let Some((repo, commit)) = inside_cache(&real) {
            return self.cache(&repo, commit.as_deref());
        }
        self.tree(index, path)
    }

    fn tree(&mut self, root: usize, path: &Path) -> Result<(), StoreError> {
        let mut entries = WalkDir::new(path).follow_links(true).max_depth(DEPTH_MAX).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            self.check_cancel(path)?;
            let entry = match entry {
                Ok(entry) => entry,
                // A link to a folder above: its files are seen there.
                Err(error) if error.loop_ancestor().is_some() => continue,
                Err(error) => {
                    self.walk_error(path, error);
                    continue;
                }
            };
            if entry.depth() > 0 && is_hidden(entry.file_name()) {
                if entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                continue;
            }
            if entry.file_type().is_dir() {
                if matches!(self.folder(&entry)?, Step::Over) {
                    entries.skip_current_dir();
                }
            } else if entry.file_type().is_file() {
                self.file(root, path, &entry);
            } else if entry.depth() == 0 || entry.file_name().to_str().is_some_and(formats::has_model_suffix) {
                // A pipe or a device under a model's name is a mistake; opening it could hang or never end.
                let path = entry.path();
                self.failed(path, Err(StoreError::NotAFile { path: path.to_owned() }));
            }
        }
        Ok(())
    }

    fn folder(&mut self, entry: &DirEntry) -> Result<Step, StoreError> {
        let path = entry.path();
        if self.leads_into_store(entry) {
            return Ok(Step::Over);
        }
        let stamp = match FileStamp::of_path(path) {
            Ok(stamp) => stamp,
            Err(error) => {
                self.failed(path, Err(error));
                return Ok(Step::Over);
            }
        };
        if !self.folders.insert((stamp.device, stamp.inode)) {
            return Ok(Step::Over);
        }
        if self.devices.insert(stamp.device) && path.join(MOUNT_SIGN).exists() {
            self.devices.remove(&stamp.device);
            self.problem(path, mount_fault(path));
            return Ok(Step::Over);
        }
        if is_cache_repo(path) {
            self.cache(path, None)?;
            return Ok(Step::Over);
        }
        if is_other_cache_folder(path) {
            return Ok(Step::Over);
        }
        if entry.depth() == DEPTH_MAX {
            let what = format!("{} lies more than {DEPTH_MAX} folders deep", path.display());
            self.problem(path, Fault::new(FaultKind::Invalid, what, "import that folder by itself"));
            return Ok(Step::Over);
        }
        Ok(Step::Into)
    }

    fn file(&mut self, root: usize, root_path: &Path, entry: &DirEntry) {
        let path = entry.path();
        if self.leads_into_store(entry) {
            return;
        }
        let relative =
            if entry.depth() == 0 { path.file_name().map(Path::new) } else { path.strip_prefix(root_path).ok() };
        let Some((relative, stamp)) = self.named_file(path, relative.unwrap_or(path)) else { return };
        let index = self.walked.files.len();
        let same_as = match self.files.entry((stamp.device, stamp.inode)) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(free) => {
                free.insert(index);
                None
            }
        };
        self.walked.files.push(Found { path: path.to_owned(), root, relative, stamp, same_as });
    }

    /// The shown path and the stamp of a file, or a problem.
    fn named_file(&mut self, path: &Path, relative: &Path) -> Option<(RelativePath, FileStamp)> {
        let named = relative.to_str().ok_or(NameError::NotUtf8).and_then(RelativePath::new);
        let relative = match named {
            Ok(relative) => relative,
            Err(error) => {
                let what = format!("{} cannot be shown: {error}", path.display());
                self.problem(path, Fault::new(FaultKind::Invalid, what, "rename it"));
                return None;
            }
        };
        match FileStamp::of_path(path) {
            Ok(stamp) => Some((relative, stamp)),
            Err(error) => {
                self.failed(path, Err(error));
                None
            }
        }
    }

    /// A folder `models--org--name`: each of its snapshots, or the one that was asked for.
    fn cache(&mut self, repo_folder: &Path, commit: Option<&str>) -> Result<(), StoreError> {
        let invalid = |what: String| Fault::new(FaultKind::Invalid, what, "import the files it holds by themselves");
        let name = repo_folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let Ok(repo) = RepoId::new(&name.trim_start_matches(REPO_PREFIX).replacen("--", "/", 1)) else {
            let what = format!("{} does not name a repository", repo_folder.display());
            self.problem(repo_folder, invalid(what));
            return Ok(());
        };
        let folder = repo_folder.join(SNAPSHOTS);
        let entries = match fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => {
                self.failed(&folder, Err(error).at("list", &folder));
                return Ok(());
            }
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if is_hidden(OsStr::new(name)) || commit.is_some_and(|wanted| wanted != name) {
                continue;
            }
            match Revision::new(name) {
                Ok(revision) if revision.is_commit() => self.snapshot(repo.clone(), revision, &path)?,
                _ => self.problem(&path, invalid(format!("{} does not name a commit", path.display()))),
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, repo: RepoId, commit: Revision, folder: &Path) -> Result<(), StoreError> {
        let mut files = Vec::new();
        let entries = WalkDir::new(folder).follow_links(true).min_depth(1).max_depth(DEPTH_MAX).sort_by_file_name();
        for entry in entries.into_iter().filter_entry(|entry| !is_hidden(entry.file_name())) {
            self.check_cancel(folder)?;
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.loop_ancestor().is_some() => continue,
                Err(error) => {
                    self.walk_error(folder, error);
                    continue;
                }
            };
            if !entry.file_type().is_file() || self.leads_into_store(&entry) {
                continue;
            }
            let path = entry.path();
            let Some((relative, stamp)) = self.named_file(path, path.strip_prefix(folder).unwrap_or(path)) else {
                continue;
            };
            files.push(CacheFile { relative, path: path.to_owned(), stamp, sha256: cached_sha256(path) });
        }
        if !files.is_empty() {
            self.walked.snapshots.push(CacheSnapshot { repo, commit, folder: folder.to_owned(), files });
        }
        Ok(())
    }

    /// What a move has left behind, and the store seen through a link.
    fn leads_into_store(&self, entry: &DirEntry) -> bool {
        if entry.path_is_symlink() {
            entry.path().canonicalize().is_ok_and(|real| real.starts_with(self.store.root()))
        } else {
            // The walk may have come to the store from above.
            entry.file_type().is_dir() && is_same_file(entry.path(), self.store.root())
        }
    }

    fn check_cancel(&self, path: &Path) -> Result<(), StoreError> {
        if self.cancel.is_cancelled() { Err(StoreError::Cancelled { path: path.to_owned() }) } else { Ok(()) }
    }

    fn walk_error(&mut self, root: &Path, error: walkdir::Error) {
        let path = error.path().unwrap_or(root).to_owned();
        // Only loops have no cause of the system's, and those are handled before.
        let cause = error.into_io_error().unwrap_or_else(|| std::io::ErrorKind::Other.into());
        self.failed(&path, Err(cause).at("open", &path));
    }

    fn failed(&mut self, path: &Path, result: Result<(), StoreError>) {
        if let Err(error) = result {
            self.problem(path, error.fault());
        }
    }

    fn problem(&mut self, path: &Path, fault: Fault) {
        self.walked.problems.push(WalkProblem { path: path.to_owned(), fault });
    }
}

fn mount_fault(mount: &Path) -> Fault {
    let what = format!("{} is a modelfs mount, whose files are in a store already", mount.display());
    Fault::new(FaultKind::Invalid, what, "name the folder where the files really lie")
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| FileStamp::of_path(path).ok().map(|stamp| (stamp.device, stamp.inode));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn is_cache_repo(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with(REPO_PREFIX) && path.join(SNAPSHOTS).is_dir()
}

/// Folders of a cache whose files are seen through snapshots, or are no models.
fn is_other_cache_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let other_repo = OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && path.join(SNAPSHOTS).is_dir();
    other_repo || (name == "blobs" && path.join(SHARED_BLOBS_SIGN).exists())
}

/// The repository folder, when a path names `…/models--org--name/snapshots` or one commit in it.
fn inside_cache(path: &Path) -> Option<(PathBuf, Option<String>)> {
    let is_snapshots = |path: &Path| path.ends_with(SNAPSHOTS) && path.parent().is_some_and(is_cache_repo);
    let parent = path.parent()?;
    if is_snapshots(path) {
        return Some((parent.to_owned(), None));
    }
    let commit = path.file_name()?.to_str()?.to_owned();
    is_snapshots(parent).then(|| parent.parent().map(|repo| (repo.to_owned(), Some(commit))))?
}

/// Large files lie in `blobs/<sha256>` and are linked from there; the first link counts, for a second one may lead on to
/// storage named by other hashes.
fn cached_sha256(path: &Path) -> Option<Digest> {
    let target = fs::read_link(path).ok()?;
    let mut names = target.components().rev();
    let Component::Normal(name) = names.next()? else { return None };
    let in_blobs = matches!(names.next()?, Component::Normal(folder) if folder == "blobs");
    if in_blobs { Digest::parse(name.to_str()?).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("temporary folder");
            let store = Store::create(&folder.path().join("tree/store")).expect("create");
            Self { folder, store }
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.folder.path().join("tree").join(relative)
        }

        fn write(&self, relative: &str) {
            let path = self.path(relative);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("create");
            fs::write(path, relative).expect("write");
        }

        fn link(&self, target: &str, relative: &str) {
            let path = self.path(relative);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("create");
            symlink(target, path).expect("link");
        }

        fn walk(&self, roots: &[&str]) -> Walked {
            let roots: Vec<PathBuf> = roots.iter().map(|root| self.path(root)).collect();
            self.store.walk_sources(&roots, &Cancel::new()).expect("not cancelled")
        }
    }

    fn names(walked: &Walked) -> Vec<(usize, &str, Option<usize>)> {
        walked.files.iter().map(|found| (found.root, found.relative.as_str(), found.same_as)).collect()
    }

    #[test]
    fn links_are_followed_once_and_cycles_end() {
        let place = Place::new();
        place.write("loras/a.safetensors");
        place.write("loras/sub/b.safetensors");
        place.write(".git/lfs/objects/x");
        place.write("loras/.hidden");
        place.link("../../loras", "loras/sub/cycle");
        place.link("..", "loras/up");
        place.link("loras", "same-folder-again");
        place.link("loras/a.safetensors", "z-link.safetensors");
        fs::hard_link(place.path("loras/a.safetensors"), place.path("y-hard.safetensors")).expect("hard link");
        let walked = place.walk(&[""]);
        let expected = [
            (0, "loras/a.safetensors", None),
            (0, "loras/sub/b.safetensors", None),
            (0, "y-hard.safetensors", Some(0)),
            (0, "z-link.safetensors", Some(0)),
        ];
        assert_eq!(names(&walked), expected);
        assert_eq!(walked.problems, []);
    }

    #[test]
    fn a_file_alone_has_its_name() {
        let place = Place::new();
        place.write("loras/a.safetensors");
        assert_eq!(
            names(&place.walk(&["loras/a.safetensors", "loras"])),
            [(0, "a.safetensors", None), (1, "a.safetensors", Some(0))]
        );
    }

    #[test]
    fn the_store_and_links_into_it_are_passed_over() {
        let place = Place::new();
        let blob = format!("store/models/{}/x.safetensors", "a".repeat(64));
        place.write(&blob);
        place.link(&format!("../{blob}"), "loras/moved.safetensors");
        place.link("../store/models", "loras/folder");
        place.write("loras/b.safetensors");
        let walked = place.walk(&["", "store", "store/models"]);
        assert_eq!(names(&walked), [(0, "loras/b.safetensors", None)]);
        let kinds: Vec<FaultKind> = walked.problems.iter().map(|problem| problem.fault.kind).collect();
        assert_eq!(kinds, [FaultKind::Invalid, FaultKind::Invalid]);
    }

    #[test]
    fn what_cannot_be_taken_is_reported_and_the_rest_goes_on() {
        let place = Place::new();
        place.write("m/a.ckpt");
        place.write("m/line\nbreak.ckpt");
        place.link("nowhere", "m/dangling.ckpt");
        fs::write(place.path("m").join(OsStr::from_bytes(b"bad\xff.ckpt")), "x").expect("write");
        place.write("mounted/.modelfs/status.json");
        place.write("mounted/comfyui/loras/x.safetensors");
        let walked = place.walk(&["m", "absent", "mounted/comfyui"]);
        assert_eq!(names(&walked), [(0, "a.ckpt", None)]);
        let mut kinds: Vec<(FaultKind, PathBuf)> =
            walked.problems.iter().map(|problem| (problem.fault.kind, problem.path.clone())).collect();
        kinds.sort_by(|one, other| one.1.cmp(&other.1));
        let real = |relative: &str| place.path("mounted").canonicalize().expect("exists").join(relative);
        assert_eq!(
            kinds,
            [
                (FaultKind::NotFound, place.path("absent")),
                (FaultKind::Invalid, place.path("m").join(OsStr::from_bytes(b"bad\xff.ckpt"))),
                (FaultKind::NotFound, place.path("m/dangling.ckpt")),
                (FaultKind::Invalid, place.path("m/line\nbreak.ckpt")),
                (FaultKind::Invalid, real("").components().collect()),
            ]
        );
        assert!(walked.problems.iter().all(|problem| !problem.fault.remedy.is_empty()));
    }

    #[test]
    fn depth_is_bounded_and_said() {
        let place = Place::new();
        place.write(&format!("{}x.ckpt", "d/".repeat(DEPTH_MAX + 1)));
        place.write(&format!("{}y.ckpt", "d/".repeat(DEPTH_MAX - 1)));
        let walked = place.walk(&["d"]);
        assert_eq!(walked.files.len(), 1);
        assert_eq!(walked.problems.len(), 1);
    }

    fn cache(place: &Place) -> (String, Digest) {
        let (commit, sha) = ("c".repeat(40), "ab".repeat(32));
        let repo = "hub/models--org--my-model";
        place.write(&format!("{repo}/blobs/{sha}"));
        place.write(&format!("{repo}/blobs/{}", "d".repeat(40)));
        place.write(&format!("{repo}/blobs/{sha}.incomplete"));
        place.write(&format!("{repo}/refs/main"));
        place.write(&format!("{repo}/.no_exist/{commit}/x"));
        place.link(&format!("../../../blobs/{sha}"), &format!("{repo}/snapshots/{commit}/unet/model.safetensors"));
        place.link(&format!("../../blobs/{}", "d".repeat(40)), &format!("{repo}/snapshots/{commit}/config.json"));
        place.link("../../blobs/gone", &format!("{repo}/snapshots/{commit}/gone.bin"));
        (commit, Digest::parse(&sha).expect("hex"))
    }

    #[test]
    fn cache_snapshots_are_units_with_their_origin() {
        let place = Place::new();
        let (commit, sha256) = cache(&place);
        place.write("hub/models--org--my-model/snapshots/not-a-commit/x.bin");
        place.write("hub/datasets--org--data/snapshots/x/data.bin");
        place.write("hub/blobs/.huggingface-shared-blobs");
        place.write("hub/blobs/ab/abcd");
        place.write("hub/models--named-so/loose.ckpt");
        let walked = place.walk(&["hub"]);
        assert_eq!(names(&walked), [(0, "models--named-so/loose.ckpt", None)]);
        let [snapshot] = &walked.snapshots[..] else { panic!("{:?}", walked.snapshots) };
        assert_eq!((snapshot.repo.as_str(), snapshot.commit.as_str()), ("org/my-model", commit.as_str()));
        let files: Vec<_> = snapshot.files.iter().map(|file| (file.relative.as_str(), file.sha256)).collect();
        assert_eq!(files, [("config.json", None), ("unet/model.safetensors", Some(sha256))]);
        assert_eq!(walked.problems.len(), 2, "{:?}", walked.problems);
    }

    #[test]
    fn a_cache_is_recognised_from_inside() {
        let place = Place::new();
        let (commit, _) = cache(&place);
        let repo = "hub/models--org--my-model";
        let whole = place.walk(&["hub"]).snapshots;
        for root in [repo.to_owned(), format!("{repo}/snapshots"), format!("{repo}/snapshots/{commit}")] {
            let walked = place.walk(&[&root]);
            assert_eq!((walked.files.len(), walked.snapshots.len()), (0, 1), "{root}");
            assert_eq!(walked.snapshots[0].files.len(), whole[0].files.len(), "{root}");
        }
    }
}

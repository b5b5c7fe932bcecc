//! Repositories that somebody asks for with `mkdir` below `hubs/`: registered in the background, by `library::add`.
//!
//! Invariants: `make` answers from memory, and nobody waits for the network but the threads started here, at most
//! `AT_ONCE_MAX`; a directory that was made keeps its number while the mount lasts and, once its repository is registered,
//! shows what the tree shows there, so that whoever stands in it stays in it. What was asked for is forgotten at the end
//! of the mount; what was registered is not. Not here: registering (`add`), the kernel.
//!
//! Lock order: `state` is a leaf, held for memory only.

use super::super::{Library, LibraryError};
use super::follower::Current;
use crate::base::{EntryName, Fault, FaultKind, InodeNo, Locator, RelativePath, RepoId, Timestamp};
use crate::tree::{Child, NodeKind, Source, Tree, TreeChange};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Repositories registered at once: each asks its hub some dozen times.
const AT_ONCE_MAX: usize = 4;
/// Directories one mount remembers that were made: each is a path and a reason. It is far over what a person types.
const FOLDERS_MAX: u32 = 4096;
const ROOT: &str = "hubs";

/// A directory that was made.
#[derive(Clone, Debug)]
struct Folder {
    path: RelativePath,
    mtime: Timestamp,
    stage: Stage,
}

#[derive(Clone, PartialEq, Debug)]
enum Stage {
    /// An organisation of a hub, in which repositories are asked for.
    Organisation,
    Registering,
    Failed(Fault),
    /// Where the tree shows it: a hub may call it otherwise than it was asked for.
    Registered(RelativePath),
}

#[derive(Default)]
struct State {
    /// In the order in which they were made.
    folders: BTreeMap<u32, Folder>,
    made: u32,
    /// When what was made in a directory changed last.
    touched: BTreeMap<RelativePath, Timestamp>,
    /// What waits for a thread.
    queue: VecDeque<(u32, String)>,
    threads: usize,
}

impl State {
    fn at(&self, path: &RelativePath) -> Option<(u32, &Folder)> {
        self.folders.iter().find(|(_, folder)| folder.path == *path).map(|(id, folder)| (*id, folder))
    }

    /// The listing changed at this moment, or the next one that differs from the last time.
    fn touch(&mut self, directory: &RelativePath, now: Timestamp) {
        let last = self.touched.get(directory).map_or(now, |last| now.max(last.next()));
        self.touched.insert(directory.clone(), last);
    }

    fn below<'s>(&'s self, path: &'s RelativePath) -> impl Iterator<Item = (u32, &'s Folder)> {
        let inside = move |folder: &Folder| folder.path.parent().as_ref() == Some(path);
        self.folders.iter().filter(move |(_, folder)| inside(folder)).map(|(id, folder)| (*id, folder))
    }
}

/// A directory as this module knows it.
pub(super) struct Seen {
    pub ino: InodeNo,
    pub mtime: Timestamp,
    /// The directory of the tree with the same content, if there is one.
    pub twin: Option<InodeNo>,
}

pub(super) struct Registering {
    library: Library,
    current: Arc<Current>,
    state: Mutex<State>,
    /// Nothing was ever made: most mounts, in which nothing here is asked.
    unused: AtomicBool,
    stopping: AtomicBool,
}

impl Registering {
    pub fn new(library: Library, current: Arc<Current>) -> Arc<Self> {
        let (unused, stopping) = (AtomicBool::new(true), AtomicBool::new(false));
        Arc::new(Self { library, current, state: Mutex::default(), unused, stopping })
    }

    /// Nothing that waits is begun any more. What is under way ends by the time limits of the network, or with the process.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.state.lock().queue.clear();
    }

    pub fn is_used(&self) -> bool {
        !self.unused.load(Ordering::Acquire)
    }

    /// A directory that was made here, by its number.
    pub fn seen(&self, tree: &Tree, ino: InodeNo) -> Option<Seen> {
        let id = id_of(ino)?;
        let folder = self.state.lock().folders.get(&id).cloned()?;
        Some(seen(tree, id, &folder))
    }

    /// The path of a directory below `hubs/`, made here or not.
    pub fn path(&self, tree: &Tree, ino: InodeNo) -> Option<RelativePath> {
        let made = id_of(ino).and_then(|id| self.state.lock().folders.get(&id).map(|folder| folder.path.clone()));
        made.or_else(|| tree.path_of_directory(ino)).filter(is_below_hubs)
    }

    /// A directory that was made with this name, unless the tree shows one there.
    pub fn child(&self, tree: &Tree, directory: InodeNo, name: &str) -> Option<Seen> {
        if !self.is_used() {
            return None;
        }
        let path = self.path(tree, directory)?.join(&EntryName::new(name).ok()?).ok()?;
        let (id, folder) = self.state.lock().at(&path).map(|(id, folder)| (id, folder.clone()))?;
        Some(seen(tree, id, &folder))
    }

    /// What was made in a directory and the tree does not show there, and when that changed last.
    pub fn children(&self, tree: &Tree, directory: InodeNo) -> (Vec<Child>, Option<Timestamp>) {
        if !self.is_used() {
            return (Vec::new(), None);
        }
        let Some(path) = self.path(tree, directory) else { return (Vec::new(), None) };
        let state = self.state.lock();
        let made = state.below(&path).filter(|(_, folder)| tree.resolve(&folder.path).is_none());
        let child = |(id, folder): (u32, &Folder)| Child {
            name: folder.path.file_name(),
            ino: number_of(id),
            kind: NodeKind::Directory,
        };
        (made.map(child).collect(), state.touched.get(&path).copied())
    }

    /// The directory above one that was made here.
    pub fn parent(&self, tree: &Tree, ino: InodeNo) -> Option<InodeNo> {
        let above = self.state.lock().folders.get(&id_of(ino)?)?.path.parent()?;
        let made = || self.state.lock().at(&above).map(|(id, _)| number_of(id));
        tree.resolve(&above).map(|of| of.ino).or_else(made)
    }

    /// The state of a repository's directory, and why it failed.
    pub fn standing(&self, tree: &Tree, ino: InodeNo) -> Option<(&'static str, Option<String>)> {
        if let Some(id) = id_of(ino) {
            let stage = self.state.lock().folders.get(&id)?.stage.clone();
            return match stage {
                Stage::Organisation => None,
                Stage::Registering => Some(("searching", None)),
                Stage::Failed(fault) => Some(("failed", Some(fault.to_string()))),
                Stage::Registered(_) => Some(("complete", None)),
            };
        }
        let path = tree.path_of_directory(ino).filter(is_below_hubs)?;
        let names: Vec<EntryName> = path.names().collect();
        // hubs/<hub>/<organisation>/<repository>, hubs/civitai/<model>/<version>, and the model.
        let is_registered = match names.as_slice() {
            [_, _, _, _] => true,
            [_, hub, _] => hub.as_str() == Source::Civitai.as_str(),
            _ => false,
        };
        is_registered.then_some(("complete", None))
    }

    /// Takes a name in, and begins to register what it names.
    pub fn make(self: &Arc<Self>, tree: &Tree, directory: InodeNo, name: &str) -> Result<InodeNo, Fault> {
        let above = self.path(tree, directory).ok_or_else(super::namespace::read_only)?;
        let name = EntryName::new(name).map_err(|error| refused(name, &error.to_string()))?;
        let asked = Asked::of(&above, &name)?;
        let path = above.join(&name).map_err(|error| refused(name.as_str(), &error.to_string()))?;
        if tree.resolve(&path).is_some() {
            return Err(exists(&name));
        }
        if self.library.options().hubs.offline && asked != Asked::Organisation {
            return Err(LibraryError::Offline.fault());
        }
        let mtime = self.library.clock().now();
        let mut state = self.state.lock();
        if state.at(&path).is_some() {
            return Err(exists(&name));
        }
        if state.made >= FOLDERS_MAX {
            let what = format!("{FOLDERS_MAX} repositories were asked for in this mount");
            return Err(Fault::new(FaultKind::NotPermitted, what, "mount anew, or use `modelfs add`"));
        }
        let id = state.made;
        state.made += 1;
        state.touch(&above, mtime);
        let stage = if asked == Asked::Organisation { Stage::Organisation } else { Stage::Registering };
        state.folders.insert(id, Folder { path, mtime, stage });
        self.unused.store(false, Ordering::Release);
        if let Asked::Repository(reference) = asked {
            state.queue.push_back((id, reference));
            if state.threads < AT_ONCE_MAX {
                let this = Arc::clone(self);
                let started = std::thread::Builder::new().name("modelfs-add".to_owned()).spawn(move || this.work());
                if let Err(error) = started {
                    state.queue.pop_back();
                    state.folders.remove(&id);
                    return Err(super::machinery_fault(&error).fault());
                }
                state.threads += 1;
            }
        }
        Ok(number_of(id))
    }

    /// Forgets a directory that was made and came to nothing. What is registered stays.
    pub fn remove(&self, tree: &Tree, directory: InodeNo, name: &str) -> Result<(), Fault> {
        let path = self.path(tree, directory).and_then(|path| path.join(&EntryName::new(name).ok()?).ok());
        let mut state = self.state.lock();
        let found = path.and_then(|path| state.at(&path).map(|(id, folder)| (id, folder.clone())));
        let Some((id, folder)) = found.filter(|(_, folder)| tree.resolve(&folder.path).is_none()) else {
            return Err(super::namespace::read_only());
        };
        if folder.stage == Stage::Registering {
            let what = format!("`{name}` is being registered");
            return Err(Fault::new(FaultKind::Busy, what, "wait until its state is `complete` or `failed`"));
        }
        if state.below(&folder.path).next().is_some() {
            return Err(Fault::new(FaultKind::Exists, format!("`{name}` is not empty"), "remove what is in it first"));
        }
        state.folders.remove(&id);
        if let Some(above) = folder.path.parent() {
            state.touch(&above, self.library.clock().now());
        }
        Ok(())
    }

    /// Registers one repository after the other until nothing waits.
    fn work(&self) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.queue.pop_front();
                state.threads -= usize::from(next.is_none());
                next
            };
            let Some((id, reference)) = next else { return };
            let stage = self.register(&reference);
            self.settle(id, stage);
        }
    }

    fn register(&self, reference: &str) -> Stage {
        let added = self.library.add(reference).map_err(|error| error.fault());
        // The tree must show it before it is called registered.
        let shown = added.and_then(|summary| {
            self.current.refresh().map_err(|error| error.fault())?;
            RelativePath::new(&summary.path)
                .map_err(|error| Fault::new(FaultKind::Internal, format!("{}: {error}", summary.path), ""))
        });
        match shown {
            Ok(path) => Stage::Registered(path),
            Err(fault) => {
                tracing::warn!("{reference} could not be registered: {fault}");
                Stage::Failed(fault)
            }
        }
    }

    /// Notes how it ended, and tells the kernel whose listings differ.
    fn settle(&self, id: u32, stage: Stage) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let tree = self.current.tree();
        let mut directories = vec![number_of(id)];
        {
            let mut state = self.state.lock();
            let Some(folder) = state.folders.get_mut(&id) else { return };
            folder.stage = match stage {
                // A model of Civitai is the folder of its versions.
                Stage::Registered(path) if path.parent().as_ref() == Some(&folder.path) => {
                    Stage::Registered(folder.path.clone())
                }
                stage => stage,
            };
            let above = folder.path.parent();
            directories.extend(above.as_ref().and_then(|path| tree.resolve(path)).map(|of| of.ino));
            directories.extend(above.and_then(|path| state.at(&path).map(|(id, _)| number_of(id))));
        }
        self.current.tell(&tree, &TreeChange { directories, ..TreeChange::default() });
    }
}

fn seen(tree: &Tree, id: u32, folder: &Folder) -> Seen {
    let target = match &folder.stage {
        Stage::Registered(path) => path,
        Stage::Organisation | Stage::Registering | Stage::Failed(_) => &folder.path,
    };
    let twin = tree.resolve(target).filter(|of| of.kind == NodeKind::Directory).map(|of| of.ino);
    Seen { ino: number_of(id), mtime: folder.mtime, twin }
}

/// What a name below `hubs/` asks for.
#[derive(PartialEq, Eq, Debug)]
enum Asked {
    Organisation,
    /// As `modelfs add` takes it.
    Repository(String),
}

impl Asked {
    fn of(above: &RelativePath, name: &EntryName) -> Result<Self, Fault> {
        let names: Vec<EntryName> = above.names().collect();
        let words: Vec<&str> = names.iter().map(EntryName::as_str).collect();
        let source = words.get(1).and_then(|word| Source::parse(word));
        let reference = match (source, words.get(2)) {
            (Some(Source::HuggingFace | Source::ModelScope), None) => {
                RepoId::new(name.as_str()).map_err(|error| refused(name.as_str(), &error.to_string()))?;
                return Ok(Self::Organisation);
            }
            (Some(Source::HuggingFace), Some(organisation)) => format!("hf:{organisation}/{name}"),
            (Some(Source::ModelScope), Some(organisation)) => format!("modelscope:{organisation}/{name}"),
            (Some(Source::Civitai), None) => format!("civitai:{name}"),
            (Some(Source::Civitai), Some(model)) => format!("civitai:{model}@{name}"),
            _ => return Err(super::namespace::read_only()),
        };
        if words.len() > 3 {
            return Err(super::namespace::read_only());
        }
        match Locator::parse(&reference) {
            Ok(
                Locator::HuggingFace { path: None, .. }
                | Locator::ModelScope { path: None, .. }
                | Locator::Civitai { model: Some(_), .. },
            ) => Ok(Self::Repository(reference)),
            Ok(_) => Err(refused(name.as_str(), "it names no repository")),
            Err(error) => Err(refused(name.as_str(), &error.to_string())),
        }
    }
}

fn is_below_hubs(path: &RelativePath) -> bool {
    path.names().next().is_some_and(|first| first.as_str() == ROOT)
}

/// Numbers of what is made here come from the end of the mount's own; queries take theirs from the beginning.
fn number_of(id: u32) -> InodeNo {
    InodeNo::of_fixed(u32::MAX - id)
}

fn id_of(ino: InodeNo) -> Option<u32> {
    ino.fixed().map(|index| u32::MAX - index).filter(|id| *id < FOLDERS_MAX)
}

fn refused(name: &str, reason: &str) -> Fault {
    let remedy = "make hubs/huggingface/ORGANISATION/NAME, hubs/modelscope/ORGANISATION/NAME or hubs/civitai/NUMBER";
    Fault::new(FaultKind::Invalid, format!("no repository is called `{name}`: {reason}"), remedy)
}

fn exists(name: &EntryName) -> Fault {
    Fault::new(FaultKind::Exists, format!("`{name}` is there already"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_hubs_ask_for_repositories() {
        let asked = |above: &str, name: &str| {
            let above = RelativePath::new(above).expect("a path");
            match Asked::of(&above, &EntryName::new(name).expect("a name")) {
                Ok(Asked::Organisation) => "organisation".to_owned(),
                Ok(Asked::Repository(reference)) => reference,
                Err(fault) => fault.kind.as_str().to_owned(),
            }
        };
        for (above, name, expected) in [
            ("hubs/huggingface", "org", "organisation"),
            ("hubs/huggingface", "-org", "invalid"),
            ("hubs/huggingface/org", "name", "hf:org/name"),
            ("hubs/huggingface/org", "name@v1", "hf:org/name@v1"),
            ("hubs/huggingface/org", "na me", "invalid"),
            ("hubs/huggingface/org", "..name", "invalid"),
            ("hubs/huggingface/org/name", "inside", "read-only"),
            ("hubs/modelscope/org", "name", "modelscope:org/name"),
            ("hubs/civitai", "12", "civitai:12"),
            ("hubs/civitai", "a-word", "invalid"),
            ("hubs/civitai/12", "34", "civitai:12@34"),
            ("hubs/civitai/12", "x", "invalid"),
            ("hubs/civitai/12/34", "5", "read-only"),
            ("hubs", "huggingface", "read-only"),
            ("hubs/elsewhere", "org", "read-only"),
        ] {
            assert_eq!(asked(above, name), expected, "{above}/{name}");
        }
    }

    #[test]
    fn numbers_lead_back_and_are_nobody_elses() {
        for id in [0, 7, FOLDERS_MAX - 1] {
            assert_eq!(id_of(number_of(id)), Some(id));
        }
        assert_eq!(id_of(InodeNo::of_fixed(64)), None);
        assert_eq!(id_of(InodeNo::ROOT), None);
    }
}

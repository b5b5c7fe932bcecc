//! The namespace of a mount: the tree of this moment, the directories below `search/` in it with what hubs answered, and those
//! that were made below `hubs/`.
//!
//! Invariant: what is listed can be looked up and has attributes. Names below `search/` are not counted as links: they
//! come and go with their queries. Not here: the tree, the queries, what is
//! registered.

use super::Mounted;
use super::hits::{self, Standing};
use super::queries::{Folder, Queries};
use super::searches::{self, Place};
use crate::base::{EntryName, Fault, FaultKind, InodeNo};
use crate::tree::{Attributes, Child, Listing, NodeKind, Tree};
use std::collections::HashSet;
use std::sync::Arc;

/// The entries of a directory as they were when it was opened.
pub enum Names {
    Tree(Listing),
    Found(Vec<Child>),
}

impl Names {
    /// Entries from a position on, in order.
    pub fn iter_from(&self, index: usize) -> Box<dyn Iterator<Item = Child> + '_> {
        match self {
            Self::Tree(listing) => Box::new(listing.iter_from(index)),
            Self::Found(children) => Box::new(children.iter().skip(index).cloned()),
        }
    }
}

/// A query's directory and what the hubs that it names answered.
struct Asked {
    folder: Arc<Folder>,
    hubs: Option<Standing>,
}

/// One attribute of a query's directory.
type QueryValue = fn(&Asked) -> Option<String>;

const STATE: &str = "user.modelfs.state";
const COUNT: &str = "user.modelfs.count";
const ERROR: &str = "user.modelfs.error";
const QUERY_ATTRIBUTES: &[(&str, QueryValue)] = &[
    (STATE, |asked| {
        let word = match (&asked.folder.error, &asked.hubs) {
            (Some(_), _) => "failed",
            (None, Some(hubs)) => hubs.word(),
            (None, None) => "complete",
        };
        Some(word.to_owned())
    }),
    ("user.modelfs.query", |asked| {
        let folder = &asked.folder;
        Some(if folder.parent.is_none() { folder.row.query.clone() } else { folder.query.to_string() })
    }),
    (COUNT, |asked| {
        let at_hubs = asked.hubs.as_ref().map_or(0, |hubs| hubs.count);
        Some((asked.folder.count() + at_hubs).to_string())
    }),
    (ERROR, |asked| asked.folder.error.clone().or_else(|| asked.hubs.as_ref()?.told.clone())),
];

impl Mounted {
    pub fn attributes(&self, ino: InodeNo) -> Option<Attributes> {
        let searches = &self.inner.searches;
        let below =
            |queries: &Queries, parent: Option<i64>| u32::try_from(queries.below(parent).count()).unwrap_or(u32::MAX);
        if Some(ino) == searches.root() {
            let of = self.tree().attributes(ino)?;
            return Some(Attributes { nlink: of.nlink.saturating_add(below(&searches.shown(), None)), ..of });
        }
        if let Some(known) = self.of_tree(ino) {
            return Some(known);
        }
        if self.inner.hits.is_ours(ino) {
            return self.inner.hits.attributes(&self.tree(), ino);
        }
        let shown = searches.shown();
        let folder = shown.folder(ino)?;
        let mtime = *folder.live.mtime.lock();
        let at_hubs = u32::try_from(hits::hubs_of(&folder.query).len()).unwrap_or_default();
        let nlink = below(&shown, Some(folder.row.id)).saturating_add(2 + at_hubs);
        Some(Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime, nlink })
    }

    pub fn lookup(&self, directory: InodeNo, name: &str) -> Option<Attributes> {
        if self.inner.hits.is_ours(directory) {
            return self.inner.hits.lookup(&self.tree(), directory, name);
        }
        let Some(place) = self.inner.searches.place(directory) else {
            let tree = self.tree();
            let known = self.twin(&tree, directory).and_then(|twin| tree.lookup(twin, name));
            // What is made in a directory of the tree counts there.
            return match known {
                Some(of) if of.kind == NodeKind::Directory && self.inner.registering.is_used() => self.of_tree(of.ino),
                Some(of) => Some(of),
                None => self.of_tree(self.inner.registering.child(&tree, directory, name)?.ino),
            };
        };
        let shown = self.inner.searches.shown();
        let key = key_of(place);
        if let Some(folder) = shown.child(key, name) {
            return self.attributes(folder.ino);
        }
        let folder = shown.folders.get(&key?)?;
        if let Some(hit) = folder.find(name) {
            return self.tree().attributes(InodeNo::of_blob(hit.blob)?);
        }
        let hub = self.inner.hits.children(folder).into_iter().find(|child| child.name.as_str() == name)?;
        self.inner.hits.attributes(&self.tree(), hub.ino)
    }

    /// The directory above; the root's is the root.
    pub fn parent(&self, directory: InodeNo) -> Option<InodeNo> {
        let searches = &self.inner.searches;
        match self.inner.hits.parent(directory) {
            Some(Ok(above)) => return Some(above),
            Some(Err(query)) => return searches.shown().folders.get(&query).map(|folder| folder.ino),
            None => {}
        }
        match searches.place(directory) {
            Some(Place::Query(id)) => {
                let shown = searches.shown();
                match shown.folders.get(&id)?.parent {
                    Some(above) => shown.folders.get(&above).map(|folder| folder.ino),
                    None => searches.root(),
                }
            }
            Some(Place::Root) => self.tree().parent(directory),
            None => {
                let tree = self.tree();
                self.inner.registering.parent(&tree, directory).or_else(|| tree.parent(directory))
            }
        }
    }

    pub fn listing(&self, directory: InodeNo) -> Option<Names> {
        match self.inner.searches.place(directory) {
            Some(place) => {
                let shown = self.inner.searches.shown();
                let mut all = shown.children(key_of(place));
                if let Some(folder) = key_of(place).and_then(|id| shown.folders.get(&id)) {
                    let names: HashSet<EntryName> = all.iter().map(|child| child.name.clone()).collect();
                    let at_hubs = self.inner.hits.children(folder);
                    all.extend(at_hubs.into_iter().filter(|child| !names.contains(&child.name)));
                    all.sort_by(|a, b| a.name.cmp(&b.name));
                }
                Some(Names::Found(all))
            }
            None => {
                if let Some(found) = self.inner.hits.listing(&self.tree(), directory) {
                    return Some(Names::Found(found));
                }
                let tree = self.tree();
                let twin = self.twin(&tree, directory);
                let (made, _) = self.inner.registering.children(&tree, directory);
                if twin == Some(directory) && made.is_empty() {
                    return tree.listing(directory).map(Names::Tree);
                }
                self.of_tree(directory)?;
                let shown = twin.and_then(|twin| tree.listing(twin));
                let mut all: Vec<Child> = shown.iter().flat_map(|listing| listing.iter_from(0)).chain(made).collect();
                all.sort_by(|a, b| a.name.cmp(&b.name));
                Some(Names::Found(all))
            }
        }
    }

    /// A node of the tree, or a directory that was made below `hubs/`, with what was made in it.
    fn of_tree(&self, ino: InodeNo) -> Option<Attributes> {
        let tree = self.tree();
        let of = match self.inner.registering.seen(&tree, ino) {
            Some(seen) => {
                let alone = Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime: seen.mtime, nlink: 2 };
                seen.twin.and_then(|twin| tree.attributes(twin)).map_or(alone, |twin| Attributes { ino, ..twin })
            }
            None => tree.attributes(ino)?,
        };
        let (made, touched) = match of.kind {
            NodeKind::Directory => self.inner.registering.children(&tree, ino),
            // A file of a hub's answer may have no other name.
            NodeKind::Blob(_) | NodeKind::Live(_) => return Some(Attributes { nlink: of.nlink.max(1), ..of }),
        };
        let nlink = of.nlink.saturating_add(u32::try_from(made.len()).unwrap_or(u32::MAX));
        Some(Attributes { nlink, mtime: touched.map_or(of.mtime, |touched| touched.max(of.mtime)), ..of })
    }

    /// Where the tree has what a directory shows.
    fn twin(&self, tree: &Tree, directory: InodeNo) -> Option<InodeNo> {
        match self.inner.registering.seen(tree, directory) {
            Some(seen) => seen.twin,
            None => Some(directory),
        }
    }

    /// The first name of the path of a directory: which kind of place it is.
    pub fn place(&self, directory: InodeNo) -> Option<EntryName> {
        if let Some(path) = self.inner.registering.path(&self.tree(), directory) {
            return path.names().next();
        }
        let known = match self.inner.searches.place(directory) {
            Some(_) => self.inner.searches.root()?,
            None if self.inner.hits.is_ours(directory) => self.inner.searches.root()?,
            None => directory,
        };
        self.tree().path_of_directory(known)?.names().next()
    }

    /// Makes a directory: below `search/` a query, below `hubs/` a repository that is to be registered, nothing elsewhere.
    pub fn make_directory(&self, parent: InodeNo, name: &str) -> Result<Attributes, Fault> {
        let ino = match self.inner.searches.place(parent) {
            Some(place) => {
                let ino = self.inner.searches.make(&self.tree(), place, name)?;
                let shown = self.inner.searches.shown();
                self.inner.hits.keep_only(|id| shown.folders.contains_key(&id));
                // The hubs that it names are asked at once, and answer later.
                shown.folder(ino).and_then(|folder| self.inner.hits.standing(folder));
                ino
            }
            None => self.inner.registering.make(&self.tree(), parent, name)?,
        };
        self.attributes(ino).ok_or_else(|| Fault::new(FaultKind::NotFound, format!("`{name}` was removed again"), ""))
    }

    /// Forgets a query, or a repository that could not be registered.
    pub fn remove_directory(&self, parent: InodeNo, name: &str) -> Result<(), Fault> {
        match self.inner.searches.place(parent) {
            Some(place) => match self.hub_directory(place, name) {
                Some(hub) => {
                    self.inner.hits.hide(hub);
                    Ok(())
                }
                None => self.inner.searches.remove(place, name),
            },
            None if self.inner.hits.is_ours(parent) => self.inner.hits.hide_in(parent, name),
            None => self.inner.registering.remove(&self.tree(), parent, name),
        }
    }

    /// Takes an answer out of the directory of one query, or a model out of a folder that it was put in by hand.
    pub fn remove_name(&self, parent: InodeNo, name: &str) -> Result<(), Fault> {
        if self.inner.hits.is_ours(parent) {
            return self.inner.hits.hide_in(parent, name);
        }
        match self.inner.searches.place(parent) {
            Some(place) => self.inner.searches.hide(place, name),
            None => self.remove_link(parent, name),
        }
    }

    /// The directory of a hub in that of a query, unless a refinement has its name.
    fn hub_directory(&self, place: Place, name: &str) -> Option<InodeNo> {
        let shown = self.inner.searches.shown();
        let id = key_of(place)?;
        let folder = shown.folders.get(&id).filter(|_| shown.child(Some(id), name).is_none())?;
        let mut at_hubs = self.inner.hits.children(folder).into_iter();
        at_hubs.find(|child| child.name.as_str() == name).map(|child| child.ino)
    }

    /// Gives a query another name in its directory.
    pub fn rename(&self, parent: InodeNo, name: &str, new_parent: InodeNo, new_name: &str) -> Result<(), Fault> {
        let place = match self.inner.searches.place(parent) {
            Some(place) => place,
            None if self.inner.hits.is_ours(parent) => return Err(searches::not_here("what a hub answered")),
            None => return Err(read_only()),
        };
        if parent != new_parent {
            let what = format!("`{name}` stays in its directory");
            return Err(Fault::new(FaultKind::NotPermitted, what, "make the query there with mkdir"));
        }
        self.inner.searches.rename(place, name, new_name)
    }

    fn asked(&self, folder: &Arc<Folder>) -> Asked {
        Asked { folder: Arc::clone(folder), hubs: self.inner.hits.standing(folder) }
    }

    /// Names of the attributes of a query's directory, or of a repository's.
    pub(super) fn query_attribute_names(&self, ino: InodeNo) -> Option<Vec<String>> {
        if let Some((_, error)) = self.inner.registering.standing(&self.tree(), ino) {
            return Some([STATE].into_iter().chain(error.map(|_| ERROR)).map(str::to_owned).collect());
        }
        if let Some(standing) = self.inner.hits.standing_of_hit(&self.tree(), ino) {
            let told = standing.told.map(|_| ERROR);
            return Some([STATE, COUNT].into_iter().chain(told).map(str::to_owned).collect());
        }
        let shown = self.inner.searches.shown();
        let asked = self.asked(shown.folder(ino)?);
        let there = QUERY_ATTRIBUTES.iter().filter(|(_, value)| value(&asked).is_some());
        Some(there.map(|(name, _)| (*name).to_owned()).collect())
    }

    pub(super) fn query_attribute(&self, ino: InodeNo, name: &str) -> Option<Vec<u8>> {
        if let Some((state, error)) = self.inner.registering.standing(&self.tree(), ino) {
            let value = if name == STATE { Some(state.to_owned()) } else { error.filter(|_| name == ERROR) };
            return value.map(String::into_bytes);
        }
        if let Some(standing) = self.inner.hits.standing_of_hit(&self.tree(), ino) {
            let value = match name {
                STATE => Some(standing.word().to_owned()),
                COUNT => Some(standing.count.to_string()),
                ERROR => standing.told,
                _ => None,
            };
            return value.map(String::into_bytes);
        }
        let shown = self.inner.searches.shown();
        let (_, value) = QUERY_ATTRIBUTES.iter().find(|(known, _)| *known == name)?;
        value(&self.asked(shown.folder(ino)?)).map(String::into_bytes)
    }
}

const fn key_of(place: Place) -> Option<i64> {
    match place {
        Place::Root => None,
        Place::Query(id) => Some(id),
    }
}

pub(super) fn read_only() -> Fault {
    Fault::new(FaultKind::ReadOnly, "this part of the mount cannot be changed", "")
}

//! The directories below `search/`: made and removed by the user, answered again whenever the catalog changes.
//!
//! Invariants: only `make` makes a query, so a lookup of an unknown name remembers nothing; nothing here ever touches a
//! model; answers follow the catalog within the follower's poll; a query that fails says so and leaves the others alone.
//! Not here: what a directory shows (`queries`).
//!
//! Lock order: `changing`, then the catalog's writer; `shown` is a leaf, held for a copy of a pointer. `changing` is held
//! while the local catalog is read or written, never while the kernel is told: what the kernel must forget is told by the
//! follower after it.

use super::queries::{Folder, Live, Queries, name_hits, names_that_differ, number_of};
use crate::base::{Clock, EntryName, Fault, FaultKind, InodeNo, ModelId, RelativePath};
use crate::catalog::{Catalog, CatalogError, SearchRow};
use crate::library::listing;
use crate::query::{Query, Sort, TERMS_MAX};
use crate::tree::{Tree, TreeChange};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;

/// Queries that are answered anew at every change of the catalog: at some milliseconds each, all of them stay within
/// the time in which a change must be visible.
const QUERIES_MAX: usize = 64;
/// Most names in one directory; a query that finds more is told to be narrower.
const HITS_MAX: u32 = 100_000;
const ROOT: &str = "search";

/// Which directory below `search/` is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Root,
    Query(i64),
}

impl Place {
    const fn key(self) -> Option<i64> {
        match self {
            Self::Root => None,
            Self::Query(id) => Some(id),
        }
    }
}

pub(super) struct Searches {
    catalog: Catalog,
    clock: Arc<dyn Clock>,
    root: Option<InodeNo>,
    shown: RwLock<Arc<Queries>>,
    changing: Mutex<()>,
}

impl Searches {
    pub fn load(catalog: Catalog, clock: Arc<dyn Clock>, tree: &Tree) -> Result<Self, CatalogError> {
        let root = RelativePath::new(ROOT).ok().and_then(|path| tree.resolve(&path)).map(|found| found.ino);
        let searches = Self { catalog, clock, root, shown: RwLock::default(), changing: Mutex::new(()) };
        searches.follow(tree)?;
        Ok(searches)
    }

    pub fn shown(&self) -> Arc<Queries> {
        Arc::clone(&self.shown.read())
    }

    pub const fn root(&self) -> Option<InodeNo> {
        self.root
    }

    /// The directory of a number, if it is one of ours.
    pub fn place(&self, ino: InodeNo) -> Option<Place> {
        if Some(ino) == self.root {
            return Some(Place::Root);
        }
        self.shown().folder(ino).map(|folder| Place::Query(folder.row.id))
    }

    /// Answers all queries again when anything changed since the last time. What must be forgotten is for the listener.
    pub fn follow(&self, tree: &Tree) -> Result<TreeChange, CatalogError> {
        let _one_at_a_time = self.changing.lock();
        let before = self.shown();
        let rows = self.catalog.read(|reader| reader.searches())?;
        let same_rows = rows.len() == before.folders.len()
            && rows.iter().all(|row| before.folders.get(&row.id).is_some_and(|folder| folder.row == *row));
        if same_rows && before.revision == tree.revision() {
            return Ok(TreeChange::default());
        }
        let mut after = Queries { revision: tree.revision(), ..Queries::default() };
        for row in rows {
            self.answer(tree, row, &before, &mut after);
        }
        let change = self.difference(&before, &after);
        *self.shown.write() = Arc::new(after);
        Ok(change)
    }

    /// Asks one query and adds its folder to `after`, where what it refines is already. One that cannot be answered keeps
    /// what it showed and says why, so that it takes nothing away from the others.
    fn answer(&self, tree: &Tree, row: SearchRow, before: &Queries, after: &mut Queries) {
        let above = row.path.parent().and_then(|path| after.at(path.as_str())).cloned();
        let Some(ino) = number_of(row.id) else { return };
        // A query that an older program took and this one does not finds nothing and says why.
        let (own, mut error) = match Query::parse(&row.query) {
            Ok(query) => (Some(query), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let query = match (&above, own.clone()) {
            (Some(above), Some(own)) => above.query.clone().refined_by(own),
            (None, own) => own.unwrap_or_default(),
            (Some(above), None) => above.query.clone(),
        };
        let old = before.folders.get(&row.id);
        let kept = || old.map(|folder| folder.hits.iter().map(|hit| hit.model).collect()).unwrap_or_default();
        let answer: Vec<ModelId> = match own {
            Some(_) => match self.ask(&query) {
                Ok(answer) => answer,
                Err(fault) => {
                    error = Some(format!("the query could not be answered: {fault}"));
                    // Once, not at every change.
                    if old.is_none_or(|old| old.error != error) {
                        tracing::error!(query = row.query, "a directory below `search/` cannot be answered: {fault}");
                    }
                    kept()
                }
            },
            None => Vec::new(),
        };
        // The first reason is the one to act on.
        if error.is_none() && answer.len() == usize::try_from(HITS_MAX).unwrap_or(usize::MAX) {
            error = Some(format!("only the first {HITS_MAX} answers are shown; ask for less"));
        }
        let taken = before.below(Some(row.id)).map(|folder| folder.name()).collect::<HashSet<EntryName>>();
        let hits = name_hits(tree, &answer, old.map(|folder| &*folder.hits).unwrap_or_default(), taken);
        let live = old.map_or_else(|| Live::new(row.made), |folder| Arc::clone(&folder.live));
        let parent = above.map(|above| above.row.id);
        after.folders.insert(row.id, Arc::new(Folder { row, ino, parent, query, hits, live, error }));
    }

    /// A directory is in the order of its names; which ones a limit leaves is what relevance says.
    fn ask(&self, query: &Query) -> Result<Vec<ModelId>, Fault> {
        let asked = Query { sort: query.sort.or(Some(Sort::Relevance)), ..query.clone() };
        self.catalog.read(|reader| reader.search(&asked, HITS_MAX)).map_err(|error: CatalogError| error.fault())
    }

    /// What somebody who remembers the old answers has to forget; also moves the times of directories that changed.
    fn difference(&self, before: &Queries, after: &Queries) -> TreeChange {
        let mut change = TreeChange::default();
        let now = self.clock.now();
        let number = |queries: &Queries, parent: Option<i64>| match parent {
            None => self.root,
            Some(id) => queries.folders.get(&id).map(|folder| folder.ino),
        };
        for (id, old) in &before.folders {
            let new = after.folders.get(id);
            if new.is_none_or(|new| new.row.path != old.row.path) {
                let parent = number(before, old.parent);
                change.names.extend(parent.map(|parent| (parent, old.name())));
                change.directories.extend(parent);
            }
            let Some(new) = new else { continue };
            let names = names_that_differ(&old.hits, &new.hits);
            if !names.is_empty() {
                new.live.touch(now);
                change.directories.push(old.ino);
                change.names.extend(names.into_iter().map(|name| (old.ino, name)));
            }
        }
        for new in after.folders.values().filter(|folder| !before.folders.contains_key(&folder.row.id)) {
            change.directories.extend(number(after, new.parent));
        }
        change
    }

    /// Keeps a query and answers it.
    pub fn make(&self, tree: &Tree, parent: Place, name: &str) -> Result<InodeNo, Fault> {
        let name = checked(name)?;
        let text = name.as_str().replace("%2F", "/").replace("%2f", "/");
        let own = listing::parse(&text).map_err(|error| error.fault())?;
        let _one_at_a_time = self.changing.lock();
        let before = self.shown();
        if before.folders.len() >= QUERIES_MAX {
            let what = format!("there are {QUERIES_MAX} queries already");
            return Err(Fault::new(FaultKind::NotPermitted, what, "remove one with `rmdir`"));
        }
        self.must_be_free(&before, parent, &name)?;
        let above = parent.key().and_then(|id| before.folders.get(&id)).map_or(0, |above| above.query.term_count());
        if above + own.term_count() > TERMS_MAX {
            let what = format!("`{name}` and what it refines ask for more than {TERMS_MAX} things");
            return Err(Fault::new(FaultKind::Invalid, what, "ask for less, or begin a new query"));
        }
        let path = self.path_below(&before, parent, &name)?;
        let row = self.write(parent, |writer| writer.add_search(&path, &text))?;
        let id = row.id;
        let mut after = Queries::clone(&before);
        self.answer(tree, row, &before, &mut after);
        self.publish(parent, after);
        number_of(id).ok_or_else(|| Fault::new(FaultKind::Internal, "there are no numbers left for queries", ""))
    }

    /// Forgets a query with everything that refines it. Its answers stay what they are.
    pub fn remove(&self, parent: Place, name: &str) -> Result<(), Fault> {
        let _one_at_a_time = self.changing.lock();
        let before = self.shown();
        let folder = before.child(parent.key(), name).cloned().ok_or_else(|| missing(name))?;
        self.write(parent, |writer| writer.remove_search(&folder.row.path))?;
        let below = format!("{}/", folder.row.path);
        let mut after = Queries::clone(&before);
        after.folders.retain(|id, other| *id != folder.row.id && !other.row.path.as_str().starts_with(below.as_str()));
        self.publish(parent, after);
        Ok(())
    }

    /// Another name for a query in the same directory; what it asks stays.
    pub fn rename(&self, parent: Place, from: &str, to: &str) -> Result<(), Fault> {
        let to = checked(to)?;
        let _one_at_a_time = self.changing.lock();
        let before = self.shown();
        let folder = before.child(parent.key(), from).cloned().ok_or_else(|| not_here("an answer of a query"))?;
        if to.as_str() == from {
            return Ok(());
        }
        self.must_be_free(&before, parent, &to)?;
        let path = self.path_below(&before, parent, &to)?;
        self.write(parent, |writer| writer.move_search(&folder.row.path, &path))?;
        let rows = self.catalog.read(|reader| reader.searches()).map_err(|error: CatalogError| error.fault())?;
        let mut after = Queries::clone(&before);
        for row in rows {
            if let Some(known) = after.folders.get(&row.id).cloned() {
                after.folders.insert(row.id, Arc::new(Folder { row, ..Folder::clone(&known) }));
            }
        }
        self.publish(parent, after);
        Ok(())
    }

    /// Takes an answer out of this one directory until the query is made anew or the mount ends.
    pub fn hide(&self, parent: Place, name: &str) -> Result<(), Fault> {
        let shown = self.shown();
        let folder = parent.key().and_then(|id| shown.folders.get(&id)).ok_or_else(|| missing(name))?;
        let model = folder.find(name).ok_or_else(|| missing(name))?.model;
        folder.live.hidden.lock().insert(model);
        folder.live.touch(self.clock.now());
        Ok(())
    }

    fn must_be_free(&self, queries: &Queries, parent: Place, name: &EntryName) -> Result<(), Fault> {
        let answer = parent.key().and_then(|id| queries.folders.get(&id)).and_then(|it| it.find(name.as_str()));
        if queries.child(parent.key(), name.as_str()).is_some() || answer.is_some() {
            return Err(Fault::new(FaultKind::Exists, format!("`{name}` is there already"), "choose another name"));
        }
        Ok(())
    }

    fn path_below(&self, queries: &Queries, parent: Place, name: &EntryName) -> Result<RelativePath, Fault> {
        let above = match parent {
            Place::Root => ROOT,
            Place::Query(id) => match queries.folders.get(&id) {
                Some(folder) => folder.row.path.as_str(),
                None => return Err(missing(name.as_str())),
            },
        };
        RelativePath::new(&format!("{above}/{name}"))
            .map_err(|error| Fault::new(FaultKind::Invalid, format!("`{name}` is no name here: {error}"), ""))
    }

    /// Writes a change of the directory `parent`.
    fn write<T>(
        &self,
        parent: Place,
        work: impl FnOnce(&mut crate::catalog::Writer<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, Fault> {
        let changed = self.catalog.write(self.clock.now(), |writer| {
            if parent == Place::Root {
                writer.touch_directory(RelativePath::new(ROOT).ok().as_ref())?;
            }
            work(writer)
        });
        changed.map_err(|error| error.fault())
    }

    fn publish(&self, parent: Place, after: Queries) {
        if let Some(folder) = parent.key().and_then(|id| after.folders.get(&id)) {
            folder.live.touch(self.clock.now());
        }
        *self.shown.write() = Arc::new(after);
    }
}

fn checked(name: &str) -> Result<EntryName, Fault> {
    EntryName::new(name).map_err(|error| {
        Fault::new(FaultKind::Invalid, format!("a query cannot be called so: {error}"), "write `/` as `%2F`")
    })
}

fn missing(name: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no `{name}` here"), "")
}

pub(super) fn not_here(what: &str) -> Fault {
    Fault::new(FaultKind::NotPermitted, format!("{what} cannot be moved"), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::catalog::Writer;

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_ns(1_700_000_000_000_000_000)
        }
    }

    fn below_search(names: &[String]) -> RelativePath {
        RelativePath::new(&format!("{ROOT}/{}", names.join("/"))).expect("a valid path")
    }

    const LEVELS: usize = 30;

    /// More conditions than a statement may nest, as refinements would add up if nothing counted them.
    fn add_a_broken_one(writer: &mut Writer<'_>) -> Result<(), CatalogError> {
        let level = ["size>1"; 36].join(" ");
        let names: Vec<String> = (0..LEVELS).map(|number| format!("{number}")).collect();
        (1..=names.len()).try_for_each(|depth| writer.add_search(&below_search(&names[..depth]), &level).map(drop))
    }

    #[test]
    fn a_query_that_fails_leaves_the_others_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let catalog = Catalog::create(folder.path()).expect("made");
        catalog.write(Fixed.now(), add_a_broken_one).expect("written");
        let good = |name: &str| below_search(&[name.to_owned()]);
        catalog.write(Fixed.now(), |writer| writer.add_search(&good("before"), "anime")).expect("written");
        let tree = |catalog: &Catalog| Tree::new(catalog.read(|reader| reader.snapshot()).expect("read"));
        let searches = Searches::load(catalog.clone(), Arc::new(Fixed), &tree(&catalog)).expect("the mount comes up");
        catalog.write(Fixed.now(), |writer| writer.add_search(&good("later"), "anime")).expect("written");
        searches.follow(&tree(&catalog)).expect("followed");
        let shown = searches.shown();
        for name in ["before", "later"] {
            let folder = shown.child(None, name).expect("there");
            assert_eq!(folder.error, None, "{name}");
        }
        let broken: Vec<&str> = shown.folders.values().filter_map(|folder| folder.error.as_deref()).collect();
        assert!(!broken.is_empty() && broken.len() < LEVELS, "{} of {LEVELS}", broken.len());
        assert!(broken[0].starts_with("the query could not be answered: "), "{}", broken[0]);
    }
}

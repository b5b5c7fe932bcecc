//! The names in one plain directory, and what happens when two of them are equal.
//!
//! Names are given so that this does not happen; if it does, nothing may be hidden. Invariant: what a folder shows is a
//! function of the claims on it, whatever the order they came in: a directory keeps its name before any model, of models
//! the smallest id keeps it, and the others take marked names in the order of their ids.

use super::naming::marked_name;
use super::sorted::Sorted;
use crate::base::{BundleId, Digest, EntryName, InodeNo, ModelId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One name in a directory. A million of them are held: the number also tells what kind of node it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub name: EntryName,
    pub ino: InodeNo,
    /// Key of the model (for a file) or bundle (for a directory) that is shown; 0 for a plain directory.
    owner: i64,
}

impl Entry {
    pub(super) fn model(name: EntryName, ino: InodeNo, model: ModelId) -> Self {
        Self { name, ino, owner: model.get() }
    }

    pub(super) fn directory(name: EntryName, ino: InodeNo, bundle: Option<BundleId>) -> Self {
        Self { name, ino, owner: bundle.map_or(0, BundleId::get) }
    }

    fn is_directory(&self) -> bool {
        self.ino.blob().is_none()
    }

    fn owner(&self) -> Option<ModelId> {
        self.ino.blob().map(|_| ModelId::new(self.owner))
    }
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    children: Sorted<Entry>,
    subdirectories: u32,
    crowd: Option<Arc<Crowd>>,
}

/// The names that more than one wants.
#[derive(Clone, Default)]
struct Crowd {
    /// Every model that wants a contested name, also the one that has it.
    claims: BTreeMap<EntryName, BTreeMap<ModelId, InodeNo>>,
    /// The names of those that did not get it.
    given: BTreeMap<ModelId, EntryName>,
}

impl Folder {
    /// From models that are sorted by name, no name twice.
    pub(super) fn of_parts(parts: Vec<Vec<Entry>>) -> Self {
        Self { children: Sorted::of_parts(parts), subdirectories: 0, crowd: None }
    }

    /// From entries with the names they want.
    pub(super) fn new(mut entries: Vec<Entry>, sha256_of: &dyn Fn(ModelId) -> Option<Digest>) -> Self {
        let subdirectories = entries.iter().filter(|entry| entry.is_directory()).count();
        let subdirectories = u32::try_from(subdirectories).unwrap_or(u32::MAX);
        // Directories first, then by id: the first of each name keeps it.
        entries.sort_by(|a, b| {
            a.name.cmp(&b.name).then_with(|| b.is_directory().cmp(&a.is_directory())).then(a.owner.cmp(&b.owner))
        });
        let mut crowd = Crowd::default();
        for pair in entries.windows(2).filter(|pair| pair[0].name == pair[1].name) {
            let claims = crowd.claims.entry(pair[0].name.clone()).or_default();
            claims.extend(pair.iter().filter_map(|entry| Some((entry.owner()?, entry.ino))));
        }
        entries.dedup_by(|later, first| later.name == first.name);
        let crowd = (!crowd.claims.is_empty()).then(|| Arc::new(crowd));
        let mut folder = Self { children: Sorted::from_ordered(entries), subdirectories, crowd };
        folder.settle(sha256_of, &mut BTreeSet::new());
        folder
    }

    pub(super) fn children(&self) -> &Sorted<Entry> {
        &self.children
    }

    pub(super) fn subdirectories(&self) -> u32 {
        self.subdirectories
    }

    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        self.children.find(|entry| entry.name.as_str().cmp(name))
    }

    /// The name a model got here, if it is not the one it wanted.
    pub(super) fn name_given(&self, model: ModelId) -> Option<&EntryName> {
        self.crowd.as_ref()?.given.get(&model)
    }

    /// Opens the folder for changes; `settle` ends them. Names that may have changed are added to `touched`.
    pub(super) fn unsettle(&mut self, touched: &mut BTreeSet<EntryName>) {
        let Some(crowd) = &mut self.crowd else { return };
        for name in std::mem::take(&mut Arc::make_mut(crowd).given).into_values() {
            self.children.take(|entry| entry.name.cmp(&name));
            touched.insert(name);
        }
    }

    pub(super) fn add(&mut self, entry: Entry, touched: &mut BTreeSet<EntryName>) {
        touched.insert(entry.name.clone());
        let is_directory = entry.is_directory();
        let holder = self.find(entry.name.as_str()).cloned();
        if is_directory && !holder.as_ref().is_some_and(Entry::is_directory) {
            self.subdirectories = self.subdirectories.saturating_add(1);
        }
        let Some(holder) = holder else {
            self.place(entry);
            return;
        };
        let rivals = [&holder, &entry].map(|it| it.owner().map(|owner| (owner, it.ino)));
        if rivals.iter().any(Option::is_some) {
            let crowd = Arc::make_mut(self.crowd.get_or_insert_default());
            crowd.claims.entry(entry.name.clone()).or_default().extend(rivals.into_iter().flatten());
        }
        let wins = match (holder.owner(), entry.owner()) {
            (Some(holder), Some(entry)) => entry < holder,
            _ => is_directory,
        };
        if wins {
            self.place(entry);
        }
    }

    fn place(&mut self, entry: Entry) {
        let name = entry.name.clone();
        self.children.put(entry, |other| other.name.cmp(&name));
    }

    /// Withdraws a claim: a model's, or with `None` the directory of this name.
    pub(super) fn remove(&mut self, name: &EntryName, model: Option<ModelId>, touched: &mut BTreeSet<EntryName>) {
        touched.insert(name.clone());
        let holder = self.find(name.as_str()).cloned();
        let holds =
            holder.as_ref().is_some_and(|entry| entry.owner() == model && entry.is_directory() == model.is_none());
        if holds {
            self.children.take(|entry| entry.name.cmp(name));
            if model.is_none() {
                self.subdirectories = self.subdirectories.saturating_sub(1);
            }
        }
        let Some(crowd) = &mut self.crowd else { return };
        let crowd = Arc::make_mut(crowd);
        let Some(claims) = crowd.claims.get_mut(name) else { return };
        if let Some(model) = model {
            claims.remove(&model);
        }
        let heir = claims.first_key_value().map(|(model, ino)| Entry::model(name.clone(), *ino, *model));
        let directory_stays = holder.is_some_and(|entry| entry.is_directory()) && !holds;
        if claims.is_empty() || (claims.len() == 1 && !directory_stays) {
            crowd.claims.remove(name);
        }
        if let (true, Some(heir)) = (holds, heir) {
            self.place(heir);
        }
    }

    /// Gives marked names to those whose name is taken.
    pub(super) fn settle(&mut self, sha256_of: &dyn Fn(ModelId) -> Option<Digest>, touched: &mut BTreeSet<EntryName>) {
        let Some(mut shared) = self.crowd.take() else { return };
        let crowd = Arc::make_mut(&mut shared);
        let mut without: BTreeMap<ModelId, (EntryName, InodeNo)> = BTreeMap::new();
        for (name, claims) in &crowd.claims {
            let holder = self.find(name.as_str()).and_then(Entry::owner);
            let losers = claims.iter().filter(|(model, _)| Some(**model) != holder);
            without.extend(losers.map(|(model, ino)| (*model, (name.clone(), *ino))));
        }
        for (model, (wanted, ino)) in without {
            let sha256 = sha256_of(model);
            let mut attempts = (0..=u32::MAX).map(|attempt| marked_name(&wanted, sha256.as_ref(), model, attempt));
            let Some(name) = attempts.find(|name| self.find(name.as_str()).is_none()) else { continue };
            touched.insert(name.clone());
            crowd.given.insert(model, name.clone());
            self.place(Entry::model(name, ino, model));
        }
        self.crowd = (!crowd.claims.is_empty()).then_some(shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobId, DirectoryId};
    use proptest::prelude::*;

    fn name(text: &str) -> EntryName {
        EntryName::new(text).expect("valid")
    }

    fn model(text: &str, id: i64) -> Entry {
        Entry::model(name(text), InodeNo::of_blob(BlobId::new(id)).expect("valid"), ModelId::new(id))
    }

    fn directory(text: &str) -> Entry {
        Entry::directory(name(text), InodeNo::of_directory(DirectoryId::new(9)).expect("valid"), None)
    }

    fn shown(folder: &Folder) -> Vec<(String, u64)> {
        folder.children.iter_from(0).map(|entry| (entry.name.to_string(), entry.ino.get())).collect()
    }

    #[test]
    fn the_smallest_id_keeps_the_name_and_nothing_is_hidden() {
        let entries =
            vec![model("a.ckpt", 2), model("a.ckpt", 1), model("a~m2.ckpt", 3), model("b", 4), directory("b")];
        let folder = Folder::new(entries, &|_| None);
        let expected = [("a.ckpt", 4), ("a~m2-1.ckpt", 8), ("a~m2.ckpt", 12), ("b", 37), ("b~m4", 16)];
        assert_eq!(shown(&folder), expected.map(|(name, ino)| (name.to_owned(), ino)));
        assert_eq!((folder.subdirectories(), folder.name_given(ModelId::new(4))), (1, Some(&name("b~m4"))));
    }

    proptest! {
        /// Whatever happened before, the claims that are left decide.
        #[test]
        fn the_order_of_changes_does_not_matter(
            steps in proptest::collection::vec(proptest::collection::vec((0i64..7, 0usize..4), 0..6), 0..8),
        ) {
            let names = ["a", "a~m1", "a~m2", "b"];
            let mut claims: BTreeMap<i64, &str> = BTreeMap::new();
            let mut folder = Folder::default();
            for step in steps {
                let before = shown(&folder);
                let mut touched = BTreeSet::new();
                folder.unsettle(&mut touched);
                for (id, choice) in step {
                    // Id 0 is a directory.
                    let owner = (id > 0).then(|| ModelId::new(id));
                    if let Some(old) = claims.remove(&id) {
                        folder.remove(&name(old), owner, &mut touched);
                    } else {
                        let entry = if id == 0 { directory(names[choice]) } else { model(names[choice], id) };
                        claims.insert(id, names[choice]);
                        folder.add(entry, &mut touched);
                    }
                }
                folder.settle(&|_| None, &mut touched);
                let all = claims.iter().map(|(id, text)| if *id == 0 { directory(text) } else { model(text, *id) });
                let fresh = Folder::new(all.collect(), &|_| None);
                prop_assert_eq!(shown(&folder), shown(&fresh));
                prop_assert_eq!(folder.subdirectories, fresh.subdirectories);
                prop_assert_eq!(folder.crowd.is_some(), fresh.crowd.is_some());
                prop_assert_eq!(folder.children.len(), claims.len());
                let after = shown(&folder);
                for (text, _) in before.iter().filter(|it| !after.contains(it)).chain(after.iter().filter(|it| !before.contains(it))) {
                    prop_assert!(touched.contains(text.as_str()));
                }
            }
        }
    }
}

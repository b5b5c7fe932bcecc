//! What the directories below `search/` show: queries, their answers, and the names in them. A value that never changes.
//!
//! Invariants: names in a directory differ; a model that stays keeps its name; refinements come after what they refine.
//! Not here: when queries are asked again and who may change them (`searches`).

use crate::base::{BlobId, EntryName, InodeNo, ModelId, Timestamp};
use crate::catalog::SearchRow;
use crate::query::Query;
use crate::tree::{self, Child, NodeKind, Tree};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Fixed numbers of the mount's own nodes end before it; a query's number follows from its row.
const FIRST_INDEX: u32 = 64;
/// Marked names take more digits with each attempt; by the tenth nothing can still be in the way.
const NAME_ATTEMPTS_MAX: u32 = 10;

/// One answer, under its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hit {
    pub name: EntryName,
    pub model: ModelId,
    pub blob: BlobId,
}

/// What changes in a directory without the catalog knowing. Each lock is a leaf, held for a look or a store.
#[derive(Debug)]
pub(super) struct Live {
    /// Answers that were removed from this directory; they come back when the query is made anew.
    pub hidden: Mutex<HashSet<ModelId>>,
    pub mtime: Mutex<Timestamp>,
}

impl Live {
    pub fn new(mtime: Timestamp) -> Arc<Self> {
        Arc::new(Self { hidden: Mutex::new(HashSet::new()), mtime: Mutex::new(mtime) })
    }

    /// The listing changed at this moment, or the next one that differs from the last time.
    pub fn touch(&self, now: Timestamp) {
        let mut mtime = self.mtime.lock();
        *mtime = now.max(mtime.next());
    }
}

/// A query and its answer.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub row: SearchRow,
    pub ino: InodeNo,
    pub parent: Option<i64>,
    /// With all that it refines.
    pub query: Query,
    /// Sorted by name.
    pub hits: Arc<[Hit]>,
    pub live: Arc<Live>,
    /// Why the answer is not whole.
    pub error: Option<String>,
}

impl Folder {
    pub fn name(&self) -> EntryName {
        self.row.path.file_name()
    }

    fn shown(&self) -> Vec<&Hit> {
        let hidden = self.live.hidden.lock();
        self.hits.iter().filter(|hit| !hidden.contains(&hit.model)).collect()
    }

    /// The answer of this name, unless it was removed here.
    pub fn find(&self, name: &str) -> Option<&Hit> {
        let at = self.hits.binary_search_by(|hit| hit.name.as_str().cmp(name)).ok()?;
        let hit = &self.hits[at];
        (!self.live.hidden.lock().contains(&hit.model)).then_some(hit)
    }

    pub fn count(&self) -> usize {
        self.shown().len()
    }
}

/// Number of a query's directory; nothing when there were more queries than numbers.
pub(super) fn number_of(id: i64) -> Option<InodeNo> {
    let index = u32::try_from(id).ok()?.checked_add(FIRST_INDEX)?;
    Some(InodeNo::of_fixed(index))
}

fn id_of(ino: InodeNo) -> Option<i64> {
    ino.fixed()?.checked_sub(FIRST_INDEX).map(i64::from)
}

/// All of them, by their keys.
#[derive(Clone, Default, Debug)]
pub(super) struct Queries {
    /// Revision of the tree that the answers were made for.
    pub revision: u64,
    pub folders: BTreeMap<i64, Arc<Folder>>,
}

impl Queries {
    pub fn folder(&self, ino: InodeNo) -> Option<&Arc<Folder>> {
        self.folders.get(&id_of(ino)?)
    }

    /// Queries directly below another, or below `search/`.
    pub fn below(&self, parent: Option<i64>) -> impl Iterator<Item = &Arc<Folder>> {
        self.folders.values().filter(move |folder| folder.parent == parent)
    }

    pub fn child(&self, parent: Option<i64>, name: &str) -> Option<&Arc<Folder>> {
        self.below(parent).find(|folder| folder.row.path.as_str().rsplit('/').next() == Some(name))
    }

    /// Everything in one directory, sorted by name.
    pub fn children(&self, parent: Option<i64>) -> Vec<Child> {
        let folders = self.below(parent);
        let mut children: Vec<Child> =
            folders.map(|folder| Child { name: folder.name(), ino: folder.ino, kind: NodeKind::Directory }).collect();
        let hits = parent.and_then(|id| self.folders.get(&id)).map(|folder| folder.shown()).unwrap_or_default();
        children.extend(hits.into_iter().filter_map(|hit| {
            let ino = InodeNo::of_blob(hit.blob)?;
            Some(Child { name: hit.name.clone(), ino, kind: NodeKind::Blob(hit.blob) })
        }));
        children.sort_by(|a, b| a.name.cmp(&b.name));
        children
    }

    /// The folder at a path.
    pub fn at(&self, path: &str) -> Option<&Arc<Folder>> {
        self.folders.values().find(|folder| folder.row.path.as_str() == path)
    }
}

/// Names for answers: who had one keeps it, then the smaller key. `taken` are names that are no answers.
pub(super) fn name_hits(tree: &Tree, answer: &[ModelId], before: &[Hit], mut taken: HashSet<EntryName>) -> Arc<[Hit]> {
    let old: HashMap<ModelId, &EntryName> = before.iter().map(|hit| (hit.model, &hit.name)).collect();
    let mut ids = answer.to_vec();
    ids.sort_unstable_by_key(|id| (!old.contains_key(id), *id));
    let mut hits = Vec::with_capacity(ids.len());
    for id in ids {
        // What the tree does not know yet comes with its next revision.
        let Some(model) = tree.model(id) else { continue };
        let sha256 = tree.blob(model.blob).and_then(|blob| blob.sha256);
        let mut name = old.get(&id).copied().unwrap_or(&model.name).clone();
        for attempt in 0..NAME_ATTEMPTS_MAX {
            if !taken.contains(&name) {
                break;
            }
            name = tree::marked_name(&model.name, sha256.as_ref(), id, attempt);
        }
        if taken.insert(name.clone()) {
            hits.push(Hit { name, model: id, blob: model.blob });
        }
    }
    hits.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    hits.into()
}

/// Names that vanished, appeared or lead elsewhere.
pub(super) fn names_that_differ(before: &[Hit], after: &[Hit]) -> Vec<EntryName> {
    let lead =
        |hits: &[Hit]| -> BTreeMap<EntryName, BlobId> { hits.iter().map(|hit| (hit.name.clone(), hit.blob)).collect() };
    let (before, after) = (lead(before), lead(after));
    let names: HashSet<&EntryName> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobState, Digest, ModelType};
    use crate::tree::{BlobEntry, Handout, ModelEntry, Snapshot, SourceSet};
    use proptest::prelude::*;

    fn name(text: &str) -> EntryName {
        EntryName::new(text).expect("valid")
    }

    /// Models 1 to 9, whose names repeat after every third.
    fn tree() -> Tree {
        let blob = |id: i64| BlobEntry {
            id: BlobId::new(id),
            sha256: (id != 5).then(|| Digest::from_bytes([u8::try_from(id).expect("small"); 32])),
            size_bytes: 1,
            state: BlobState::Resident,
            mtime: Timestamp::default(),
            name: name("x"),
            handout: Handout::default(),
        };
        let model = |id: i64| ModelEntry {
            id: ModelId::new(id),
            blob: BlobId::new(id),
            name: name(&format!("m{}.pt", id % 3)),
            model_type: ModelType::Lora,
            base: None,
            sources: SourceSet::default(),
            creator: None,
            format: crate::base::Label::new("pt").expect("valid"),
            tags: [].into(),
            also: [].into(),
        };
        Tree::new(Snapshot {
            blobs: (1..10).map(blob).collect(),
            models: (1..10).map(model).collect(),
            ..Snapshot::default()
        })
    }

    fn ids(numbers: &[i64]) -> Vec<ModelId> {
        numbers.iter().copied().map(ModelId::new).collect()
    }

    fn shown(hits: &[Hit]) -> Vec<(String, i64)> {
        hits.iter().map(|hit| (hit.name.to_string(), hit.model.get())).collect()
    }

    #[test]
    fn the_first_of_a_name_keeps_it_and_a_refinement_comes_before_both() {
        let tree = tree();
        let hits = name_hits(&tree, &ids(&[4, 1, 77, 2]), &[], HashSet::new());
        assert_eq!(shown(&hits), [("m1.pt".into(), 1), ("m1~0404040404.pt".into(), 4), ("m2.pt".into(), 2)]);
        let taken = HashSet::from([name("m1.pt")]);
        let hits = name_hits(&tree, &ids(&[1, 4]), &[], taken);
        assert_eq!(shown(&hits), [("m1~0101010101.pt".into(), 1), ("m1~0404040404.pt".into(), 4)]);
    }

    #[test]
    fn who_had_a_name_keeps_it() {
        let tree = tree();
        let before = name_hits(&tree, &ids(&[4]), &[], HashSet::new());
        let after = name_hits(&tree, &ids(&[1, 4]), &before, HashSet::new());
        assert_eq!(shown(&after), [("m1.pt".into(), 4), ("m1~0101010101.pt".into(), 1)]);
        assert_eq!(names_that_differ(&before, &after), [name("m1~0101010101.pt")]);
        let last = name_hits(&tree, &ids(&[1]), &after, HashSet::new());
        assert_eq!(shown(&last), [("m1~0101010101.pt".into(), 1)]);
    }

    proptest! {
        #[test]
        fn every_answer_has_one_name_and_keeps_it(steps in prop::collection::vec(prop::collection::btree_set(1..10_i64, 0..9), 1..6)) {
            let tree = tree();
            let mut hits: Arc<[Hit]> = [].into();
            for step in steps {
                let wanted: Vec<i64> = step.into_iter().collect();
                let next = name_hits(&tree, &ids(&wanted), &hits, HashSet::new());
                let mut found: Vec<i64> = next.iter().map(|hit| hit.model.get()).collect();
                found.sort_unstable();
                prop_assert_eq!(found, wanted);
                prop_assert!(next.windows(2).all(|pair| pair[0].name < pair[1].name));
                for old in hits.iter() {
                    let new = next.iter().find(|hit| hit.model == old.model);
                    prop_assert!(new.is_none_or(|new| new.name == old.name));
                }
                hits = next;
            }
        }
    }

    #[test]
    fn numbers_lead_back_to_their_query() {
        for id in [1, 77, i64::from(u32::MAX - FIRST_INDEX)] {
            assert_eq!(id_of(number_of(id).expect("in range")), Some(id));
        }
        assert_eq!(number_of(i64::from(u32::MAX)), None);
        assert_eq!(id_of(InodeNo::of_fixed(3)), None);
    }
}

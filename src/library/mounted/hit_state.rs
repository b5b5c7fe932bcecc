//! What hubs answered to the queries of a mount, in memory: answers, and the numbers of the directories that show them.
//!
//! Invariant: a directory has one number while the mount lasts, and no other has it. Not here: asking (`hits`), the
//! repositories of an answer (`hit_names`).

use super::hit_names::{Hit, names_that_differ, read};
use crate::base::{BlobId, EntryName, Fault, InodeNo, RelativePath, Timestamp};
use crate::catalog::HubAnswerRow;
use crate::tree::Source;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Hubs gain some models an hour; what is older is asked for again when somebody looks.
pub(super) const ANSWER_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// A failure is tried again when somebody looks after so long.
pub(super) const FAILURE_AGE_MAX: Duration = Duration::from_secs(60);
/// Directories of all answers of one mount; the numbers before them belong to what is registered. Over it, those of
/// queries that are gone are given again, the oldest first.
const NODES_MAX: u32 = 1 << 18;
const NODES_FROM: u32 = u32::MAX - (1 << 16);

/// A directory: its query, and its path below it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub query: i64,
    pub path: String,
}

#[derive(Default)]
pub(super) struct State {
    pub answers: BTreeMap<i64, Answer>,
    numbers: HashMap<Key, u32>,
    keys: Vec<Key>,
    /// Numbers of directories whose query is gone.
    free: VecDeque<u32>,
    /// What was removed from its directory; it comes back when the query is made anew.
    pub hidden: HashSet<Key>,
}

/// What all hubs of one query answered.
pub(super) struct Answer {
    /// The query, with all that it refines.
    pub asked: String,
    pub hubs: BTreeMap<Source, HubAnswer>,
}

pub(super) struct HubAnswer {
    pub stage: Stage,
    pub hits: Vec<Hit>,
    /// When `hits` were answered.
    pub answered: Option<Timestamp>,
    pub mtime: Timestamp,
}

pub(super) enum Stage {
    Quiet,
    Searching,
    Failed(Fault, Timestamp),
}

impl Key {
    pub fn child(&self, name: &str) -> Self {
        Self { query: self.query, path: format!("{}/{name}", self.path) }
    }

    pub fn source(&self) -> Option<Source> {
        Source::parse(self.path.split('/').next()?)
    }

    /// The name of the repository, and the path in it, empty for its own directory.
    pub fn hit(&self) -> Option<(&str, &str)> {
        let (_, rest) = self.path.split_once('/')?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }
}

impl State {
    pub fn key(&self, ino: InodeNo) -> Option<Key> {
        self.keys.get(node_of(ino)?).filter(|key| self.answers.contains_key(&key.query)).cloned()
    }

    /// Forgets the answers of queries that are gone.
    pub fn keep_only(&mut self, is_there: impl Fn(i64) -> bool) {
        self.answers.retain(|id, _| is_there(*id));
        self.hidden.retain(|key| is_there(key.query));
        let gone = self.numbers.extract_if(|key, _| !is_there(key.query));
        let mut free: Vec<u32> = gone.map(|(_, number)| number).collect();
        free.sort_unstable();
        self.free.extend(free);
    }

    /// The number of a directory that has one already.
    pub fn known_number(&self, key: &Key) -> Option<InodeNo> {
        self.numbers.get(key).map(|known| InodeNo::of_fixed(NODES_FROM - known))
    }

    /// Names below a repository that somebody who remembers `before` has to forget.
    pub fn names_to_forget(
        &self,
        repository: &Key,
        before: &BTreeMap<RelativePath, BlobId>,
        after: &BTreeMap<RelativePath, BlobId>,
    ) -> Vec<(InodeNo, EntryName)> {
        let differ = names_that_differ(before, after).into_iter();
        let known = differ.filter_map(|(folder, name)| {
            let key = if folder.is_empty() { repository.clone() } else { repository.child(&folder) };
            Some((self.known_number(&key)?, name))
        });
        known.collect()
    }

    /// The number of a directory, a new one for a new directory; nothing when there are none left.
    pub fn number(&mut self, key: Key) -> Option<InodeNo> {
        if let Some(known) = self.numbers.get(&key) {
            return Some(InodeNo::of_fixed(NODES_FROM - known));
        }
        let next = match u32::try_from(self.keys.len()).ok().filter(|next| *next < NODES_MAX) {
            Some(next) => {
                self.keys.push(key.clone());
                next
            }
            None => {
                let next = self.free.pop_front()?;
                *self.keys.get_mut(usize::try_from(next).ok()?)? = key.clone();
                next
            }
        };
        self.numbers.insert(key, next);
        Some(InodeNo::of_fixed(NODES_FROM - next))
    }

    pub fn hub(&self, key: &Key) -> Option<&HubAnswer> {
        self.answers.get(&key.query)?.hubs.get(&key.source()?)
    }

    pub fn hit<'k>(&self, key: &'k Key) -> Option<(&Hit, &'k str)> {
        let (name, below) = key.hit()?;
        let hit = self.hub(key)?.hits.iter().find(|hit| hit.name.as_str() == name)?;
        Some((hit, below))
    }

    pub fn hit_mut(&mut self, key: &Key) -> Option<&mut Hit> {
        let (name, _) = key.hit()?;
        let hub = self.answers.get_mut(&key.query)?.hubs.get_mut(&key.source()?)?;
        hub.hits.iter_mut().find(|hit| hit.name.as_str() == name)
    }
}

impl Answer {
    pub fn empty(asked: &str) -> Self {
        Self { asked: asked.to_owned(), hubs: BTreeMap::new() }
    }
}

impl HubAnswer {
    pub fn of_row(row: Option<&HubAnswerRow>, made: Timestamp) -> Self {
        match row {
            Some(row) => Self {
                stage: Stage::Quiet,
                hits: read(&row.hits, row.answered),
                answered: Some(row.answered),
                mtime: row.answered,
            },
            None => Self { stage: Stage::Quiet, hits: Vec::new(), answered: None, mtime: made },
        }
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        match &self.stage {
            Stage::Searching => false,
            Stage::Failed(_, when) => is_older(*when, FAILURE_AGE_MAX, now),
            Stage::Quiet => self.answered.is_none_or(|when| is_older(when, ANSWER_AGE_MAX, now)),
        }
    }
}

/// A clock that was set back makes nothing young for ever.
pub(super) fn is_older(when: Timestamp, age: Duration, now: Timestamp) -> bool {
    let passed = now.unix_ns().saturating_sub(when.unix_ns());
    passed < 0 || u128::try_from(passed).is_ok_and(|passed| passed > age.as_nanos())
}

pub(super) fn node_of(ino: InodeNo) -> Option<usize> {
    let node = NODES_FROM.checked_sub(ino.fixed()?)?;
    usize::try_from(node).ok().filter(|_| node < NODES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_nobody_elses() {
        let mut state = State::default();
        let key = |path: &str| Key { query: 1, path: path.to_owned() };
        let number = state.number(key("a")).expect("the first");
        assert_eq!((state.number(key("a")), node_of(number)), (Some(number), Some(0)));
        assert_ne!(state.number(key("b")), Some(number));
        assert_eq!(state.key(number), None, "its query is not known");
        assert_eq!(node_of(InodeNo::of_fixed(u32::MAX)), None);
        assert_eq!(node_of(InodeNo::of_fixed(64)), None);
    }

    #[test]
    fn numbers_of_queries_that_are_gone_are_given_again_when_there_are_no_others() {
        let mut state = State::default();
        let key = |query: i64, number: u32| Key { query, path: number.to_string() };
        let first = state.number(key(1, 0)).expect("the first");
        for number in 1..NODES_MAX {
            assert!(state.number(key(i64::from(number % 2) + 1, number)).is_some());
        }
        assert_eq!(state.number(key(3, 0)), None);
        state.keep_only(|query| query != 1);
        assert_eq!(state.number(key(3, 0)), Some(first), "the oldest");
        assert_eq!(state.number(key(2, 1)), state.known_number(&key(2, 1)), "what is there keeps its own");
        let mut seen = HashSet::from([first]);
        for number in 1..NODES_MAX / 2 {
            assert!(seen.insert(state.number(key(3, number)).expect("one is free")));
        }
        assert_eq!(state.number(key(3, NODES_MAX)), None);
    }

    #[test]
    fn an_answer_grows_old() {
        let at = |seconds: i64| Timestamp::from_unix_ns(seconds * 1_000_000_000);
        for (now, expected) in [(1000, false), (1060, false), (1061, true), (5, true)] {
            assert_eq!(is_older(at(1000), FAILURE_AGE_MAX, at(now)), expected, "{now}");
        }
    }
}

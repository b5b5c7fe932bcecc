//! What hubs answer to the queries below `search/` that name them: `<query>/<hub>/<repository>/…`.
//!
//! Invariants: no call of the kernel waits for a hub: a query is asked, and a repository is looked into, by tasks of the
//! runtime, when somebody first looks; an answer is kept in the catalog, so that it is there after a remount and offline, and
//! is asked for again when it is older than `ANSWER_AGE_MAX`. Files of a repository that was looked into are contents with a
//! place to be read from, and no models: nothing of them is in an application's folders until `modelfs add`. Numbers of
//! directories hold while the mount lasts. Not here: queries and what this store answers (`searches`), the hubs (`gateway`).
//!
//! Lock order: `state` is a leaf, held for memory only; `Searches::shown` is never taken under it.

use super::super::gateway::{self, HUBS};
use super::super::paging::Position;
use super::super::{Library, LibraryError, add, forgetting, found};
use super::follower::Current;
use super::hit_names::{self, Hit, Look, has_folder, inside, named, written};
use super::hit_state::{ANSWER_AGE_MAX, Answer, FAILURE_AGE_MAX, HubAnswer, Key, Stage, State, is_older, node_of};
use super::queries::Folder;
use crate::base::{BlobId, EntryName, Fault, FaultKind, InodeNo, Locator, RelativePath, Timestamp};
use crate::catalog::{CatalogError, HubAnswerRow};
use crate::hub::{FoundRepo, HubError, HubSet};
use crate::query::Query;
use crate::tree::{Attributes, Child, NodeKind, Source, Tree, TreeChange};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Repositories of one hub in one directory: a person looks through a screen of them, and each costs requests when it is
/// looked into. `limit:` asks for less.
const HITS_MAX: u32 = 20;
/// Repositories looked into at once.
const LOOKS_AT_ONCE_MAX: usize = 4;
/// Longest look into one.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How often what no answer shows any more is looked for: it grows with what is searched, by some rows each time.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const EVERYWHERE: &str = "all";

/// How far a directory's answer is.
#[derive(Default)]
pub(super) struct Standing {
    pub searching: bool,
    /// Something that was asked for is missing.
    pub failed: bool,
    /// What is missing, or older than it should be, and why.
    pub told: Option<String>,
    pub count: usize,
}

impl Standing {
    pub fn word(&self) -> &'static str {
        match (self.searching, self.failed) {
            (true, _) => "searching",
            (false, true) => "failed",
            (false, false) => "complete",
        }
    }
}

pub(super) struct Hits {
    library: Library,
    current: Arc<Current>,
    hubs: HubSet,
    handle: Handle,
    looks: Semaphore,
    state: Mutex<State>,
    /// When it was looked for what no answer shows any more. A leaf.
    tidied: Mutex<Option<Timestamp>>,
}

impl Hits {
    pub fn new(library: Library, current: Arc<Current>, hubs: HubSet, handle: Handle) -> Arc<Self> {
        let looks = Semaphore::new(LOOKS_AT_ONCE_MAX);
        Arc::new(Self { library, current, hubs, handle, looks, state: Mutex::default(), tidied: Mutex::new(None) })
    }

    /// How far the hubs of a query are; nothing for one that names none. Begins to ask them where that is due.
    pub fn standing(self: &Arc<Self>, folder: &Folder) -> Option<Standing> {
        self.ensure(folder)?;
        let state = self.state.lock();
        let answer = state.answers.get(&folder.row.id)?;
        let mut standing = Standing::default();
        let mut told = Vec::new();
        for (source, hub) in &answer.hubs {
            standing.count += hub.hits.len();
            match (&hub.stage, hub.answered) {
                (Stage::Searching, _) => standing.searching = true,
                (Stage::Failed(fault, _), answered) => {
                    standing.failed |= answered.is_none();
                    told.push(format!("{}: {fault}{}", source.as_str(), since(answered)));
                }
                (Stage::Quiet, answered) if self.hubs.is_offline() => {
                    let fault = HubError::Offline.fault();
                    standing.failed |= answered.is_none();
                    told.push(format!("{}: {}{}", source.as_str(), fault.what, since(answered)));
                }
                (Stage::Quiet, _) => {}
            }
        }
        standing.told = (!told.is_empty()).then(|| told.join("; "));
        Some(standing)
    }

    /// The hubs of a query, as directories in it.
    pub fn children(self: &Arc<Self>, folder: &Folder) -> Vec<Child> {
        if self.ensure(folder).is_none() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let sources: Vec<Source> =
            state.answers.get(&folder.row.id).into_iter().flat_map(|it| it.hubs.keys().copied()).collect();
        let directory = |source: Source| {
            let key = Key { query: folder.row.id, path: source.as_str().to_owned() };
            if state.hidden.contains(&key) {
                return None;
            }
            let name = EntryName::new(source.as_str()).ok()?;
            Some(Child { name, ino: state.number(key)?, kind: NodeKind::Directory })
        };
        sources.into_iter().filter_map(directory).collect()
    }

    /// A directory or file of this name in a directory of ours. Looks into a repository that nobody has looked into.
    pub fn lookup(self: &Arc<Self>, tree: &Tree, directory: InodeNo, name: &str) -> Option<Attributes> {
        let key = self.key(directory)?;
        self.look(tree, &key);
        let at = key.child(name);
        let ino = {
            let mut state = self.state.lock();
            if state.hidden.contains(&at) {
                return None;
            }
            let (hit, below) = state.hit(&at)?;
            let file = match &hit.files {
                _ if below.is_empty() => None,
                Some(files) => match files.get(below) {
                    Some(blob) => Some(*blob),
                    None if has_folder(files, below) => None,
                    None => return None,
                },
                None => return None,
            };
            match file {
                Some(blob) => InodeNo::of_blob(tree.current(blob))?,
                None => state.number(at)?,
            }
        };
        self.attributes(tree, ino)
    }

    /// Everything in a directory of ours, sorted. Looks into a repository that nobody has looked into.
    pub fn listing(self: &Arc<Self>, tree: &Tree, directory: InodeNo) -> Option<Vec<Child>> {
        let key = self.key(directory)?;
        self.look(tree, &key);
        let mut state = self.state.lock();
        let inside: Vec<(EntryName, Option<BlobId>)> = match state.hit(&key) {
            Some((hit, below)) => hit.files.as_ref().map(|files| inside(files, below)).unwrap_or_default(),
            None => state.hub(&key)?.hits.iter().map(|hit| (hit.name.clone(), None)).collect(),
        };
        let child = |(name, blob): (EntryName, Option<BlobId>)| {
            let at = key.child(name.as_str());
            if state.hidden.contains(&at) {
                return None;
            }
            let (ino, kind) = match blob {
                // What is listed can be looked up.
                Some(blob) => {
                    let blob = tree.blob(tree.current(blob))?.id;
                    (InodeNo::of_blob(blob)?, NodeKind::Blob(blob))
                }
                None => (state.number(at)?, NodeKind::Directory),
            };
            Some(Child { name, ino, kind })
        };
        let mut children: Vec<Child> = inside.into_iter().filter_map(child).collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Some(children)
    }

    /// Of a directory of ours, or of a file in one: a file that has no other name has this one.
    pub fn attributes(&self, tree: &Tree, ino: InodeNo) -> Option<Attributes> {
        if ino.blob().is_some() {
            let of = tree.attributes(ino)?;
            return Some(Attributes { nlink: of.nlink.max(1), ..of });
        }
        let key = self.key(ino)?;
        let state = self.state.lock();
        let (mtime, directories) = match state.hit(&key) {
            Some((hit, below)) => match &hit.files {
                Some(files) if below.is_empty() || has_folder(files, below) => {
                    (hit.mtime, inside(files, below).iter().filter(|(_, blob)| blob.is_none()).count())
                }
                _ if below.is_empty() => (hit.mtime, 0),
                _ => return None,
            },
            None => {
                let hub = state.hub(&key).filter(|_| !key.path.contains('/'))?;
                (hub.mtime, hub.hits.len())
            }
        };
        let nlink = u32::try_from(directories).unwrap_or(u32::MAX).saturating_add(2);
        Some(Attributes { ino, kind: NodeKind::Directory, size_bytes: 0, mtime, nlink })
    }

    /// Whether a directory is ours, and the one above: of a hub's it is the query, by its key.
    pub fn parent(&self, ino: InodeNo) -> Option<Result<InodeNo, i64>> {
        let key = self.key(ino)?;
        let mut state = self.state.lock();
        match key.path.rsplit_once('/') {
            Some((above, _)) => state.number(Key { query: key.query, path: above.to_owned() }).map(Ok),
            None => Some(Err(key.query)),
        }
    }

    pub fn is_ours(&self, ino: InodeNo) -> bool {
        self.key(ino).is_some()
    }

    /// How far the look into a repository is.
    pub fn standing_of_hit(self: &Arc<Self>, tree: &Tree, ino: InodeNo) -> Option<Standing> {
        let key = self.key(ino)?;
        self.look(tree, &key);
        let state = self.state.lock();
        let (hit, below) = state.hit(&key)?;
        let count = hit.files.as_ref().map_or(0, |files| files.len());
        let standing = match &hit.look {
            Look::Quiet => Standing { searching: hit.files.is_none(), count, ..Standing::default() },
            Look::Looking => Standing { searching: true, count, ..Standing::default() },
            Look::Failed(fault, _) => {
                Standing { failed: hit.files.is_none(), told: Some(fault.to_string()), count, ..Standing::default() }
            }
        };
        below.is_empty().then_some(standing)
    }

    /// Forgets the answers of queries that are gone.
    pub fn keep_only(&self, is_there: impl Fn(i64) -> bool) {
        self.state.lock().keep_only(is_there);
    }

    /// Takes a name out of a directory of ours, with all below it, and nothing but the name.
    pub fn hide_in(&self, directory: InodeNo, name: &str) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let missing = || Fault::new(FaultKind::NotFound, format!("there is no `{name}` here"), "");
        let key = state.key(directory).ok_or_else(missing)?.child(name);
        state.hidden.insert(key);
        Ok(())
    }

    pub fn hide(&self, directory: InodeNo) {
        let mut state = self.state.lock();
        if let Some(key) = state.key(directory) {
            state.hidden.insert(key);
        }
    }

    fn key(&self, ino: InodeNo) -> Option<Key> {
        // Most numbers are not of ours, and this is asked for each.
        node_of(ino)?;
        self.state.lock().key(ino)
    }

    /// Reads what is kept of a query's answers, and asks the hubs where that is due. Nothing for a query that names none.
    fn ensure(self: &Arc<Self>, folder: &Folder) -> Option<()> {
        let sources = hubs_of(&folder.query);
        if sources.is_empty() {
            return None;
        }
        let (id, asked) = (folder.row.id, folder.query.to_string());
        let is_known = self.state.lock().answers.get(&id).is_some_and(|answer| answer.asked == asked);
        let kept = if is_known { Vec::new() } else { self.kept(id) };
        let now = self.library.clock().now();
        let due: Vec<Source> = {
            let mut state = self.state.lock();
            let answer = state.answers.entry(id).or_insert_with(|| Answer::empty(&asked));
            if answer.asked != asked {
                *answer = Answer::empty(&asked);
            }
            for source in sources {
                answer.hubs.entry(source).or_insert_with(|| {
                    let row = kept.iter().find(|row| row.source == source && row.query == asked);
                    HubAnswer::of_row(row, folder.row.made)
                });
            }
            let hubs = answer.hubs.iter_mut().filter(|(_, hub)| !self.hubs.is_offline() && hub.is_due(now));
            hubs.map(|(source, hub)| {
                hub.stage = Stage::Searching;
                *source
            })
            .collect()
        };
        for source in due {
            let (this, query, asked) = (Arc::clone(self), folder.query.clone(), asked.clone());
            let directory = folder.ino;
            self.handle.spawn(async move { this.search(id, directory, source, query, asked).await });
        }
        Some(())
    }

    fn kept(&self, id: i64) -> Vec<HubAnswerRow> {
        self.library.catalog().read(|reader| reader.hub_answers(id)).unwrap_or_else(|error: CatalogError| {
            tracing::warn!("what hubs answered before cannot be read: {}", error.fault());
            Vec::new()
        })
    }

    async fn search(self: Arc<Self>, id: i64, directory: InodeNo, source: Source, query: Query, asked: String) {
        let hits_max = query.limit.unwrap_or(HITS_MAX).clamp(1, HITS_MAX);
        let question = found::question(&query, hits_max);
        let wanted = hits_max as usize;
        let reach = gateway::ask(&self.hubs, source, &query, question, Position::default(), wanted).await;
        let now = self.library.clock().now();
        let rows: Result<Vec<FoundRepo>, Fault> = reach
            .map(|reach| reach.rows.into_iter().map(|(_, repo)| repo).take(wanted).collect())
            .map_err(|error| error.fault());
        let mut change = TreeChange { directories: vec![directory], ..TreeChange::default() };
        {
            let mut state = self.state.lock();
            let number = state.number(Key { query: id, path: source.as_str().to_owned() });
            let Some(hub) =
                state.answers.get_mut(&id).filter(|it| it.asked == asked).and_then(|it| it.hubs.get_mut(&source))
            else {
                return;
            };
            let mut replaced = Vec::new();
            match rows {
                Ok(rows) => {
                    let before = std::mem::take(&mut hub.hits);
                    hub.hits = named(rows, &before, now);
                    hub.answered = Some(now);
                    hub.stage = Stage::Quiet;
                    hub.mtime = now.max(hub.mtime.next());
                    let is_gone = |old: &&Hit| hub.hits.iter().all(|hit| hit.name != old.name);
                    let gone = before.iter().filter(is_gone).map(|old| old.name.clone());
                    change
                        .names
                        .extend(number.into_iter().flat_map(|number| gone.clone().map(move |name| (number, name))));
                    replaced = before.into_iter().filter(|old| is_replaced(old, &hub.hits)).collect();
                }
                Err(fault) => {
                    tracing::warn!("{} did not answer a query: {fault}", source.as_str());
                    hub.stage = Stage::Failed(fault, now);
                }
            }
            change.directories.extend(number);
            for old in replaced {
                let repository = Key { query: id, path: format!("{}/{}", source.as_str(), old.name) };
                let files = old.files.unwrap_or_default();
                change.names.extend(state.names_to_forget(&repository, &files, &BTreeMap::new()));
                change.directories.extend(state.known_number(&repository));
            }
        }
        let this = Arc::clone(&self);
        self.handle.spawn_blocking(move || this.keep(id, source));
        self.current.tell(&self.current.tree(), &change);
    }

    /// Writes the answer of a hub to the catalog. Only a note: the mount has it.
    fn keep(&self, id: i64, source: Source) {
        let row = {
            let state = self.state.lock();
            let Some(answer) = state.answers.get(&id) else { return };
            let Some(hub) = answer.hubs.get(&source) else { return };
            let Some(answered) = hub.answered else { return };
            HubAnswerRow { source, query: answer.asked.clone(), answered, hits: written(&hub.hits) }
        };
        let now = self.library.clock().now();
        let noted = self.library.catalog().write(now, |writer| writer.set_hub_answer(id, &row));
        if let Err(error) = noted {
            let error: CatalogError = error;
            tracing::warn!("what {} answered cannot be kept: {}", source.as_str(), error.fault());
            return;
        }
        self.tidy(now);
    }

    /// Forgets what no answer shows any more, now and then.
    fn tidy(&self, now: Timestamp) {
        {
            let mut tidied = self.tidied.lock();
            if tidied.is_some_and(|when| !is_older(when, TIDY_EVERY, now)) {
                return;
            }
            *tidied = Some(now);
        }
        let done = self.shown_blobs().and_then(|shown| forgetting::forget_loose(&self.library, &shown));
        match done {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "forgot contents that only old answers of hubs had shown"),
            Err(error) => tracing::warn!("what old answers of hubs showed is not forgotten: {}", error.fault()),
        }
    }

    /// Contents that an answer shows, here or in any mount of this store.
    fn shown_blobs(&self) -> Result<HashSet<BlobId>, LibraryError> {
        let rows: Vec<HubAnswerRow> = self.library.catalog().read(|reader| reader.all_hub_answers())?;
        let tree = self.current.tree();
        let kept = rows.iter().flat_map(|row| hit_names::read(&row.hits, row.answered));
        let state = self.state.lock();
        let live =
            state.answers.values().flat_map(|answer| answer.hubs.values()).flat_map(|hub| hub.hits.iter().cloned());
        let files = kept.chain(live).filter_map(|hit| hit.files);
        Ok(files.flat_map(|files| files.values().map(|blob| tree.current(*blob)).collect::<Vec<_>>()).collect())
    }

    /// Begins to look into the repository that a directory is about, where nobody has. What is known stays meanwhile.
    fn look(self: &Arc<Self>, tree: &Tree, key: &Key) {
        let now = self.library.clock().now();
        let reference = {
            let mut state = self.state.lock();
            let Some(hit) = state.hit_mut(key) else { return };
            let is_due = match &hit.look {
                Look::Quiet => {
                    let is_old = hit.looked.is_none_or(|when| is_older(when, ANSWER_AGE_MAX, now));
                    let is_lost = |blob: &BlobId| tree.blob(tree.current(*blob)).is_none();
                    is_old || hit.files.as_ref().is_none_or(|files| files.values().any(is_lost))
                }
                Look::Looking => false,
                Look::Failed(_, when) => is_older(*when, FAILURE_AGE_MAX, now),
            };
            if !is_due {
                return;
            }
            if self.hubs.is_offline() {
                if hit.files.is_none() {
                    hit.look = Look::Failed(HubError::Offline.fault(), now);
                }
                return;
            }
            hit.look = Look::Looking;
            hit.reference.clone()
        };
        let (this, key) = (Arc::clone(self), key.clone());
        self.handle.spawn(async move {
            let files = Arc::clone(&this).files_of(&reference).await;
            this.settle(&key, &reference, files);
        });
    }

    async fn files_of(self: Arc<Self>, reference: &str) -> Result<BTreeMap<RelativePath, BlobId>, Fault> {
        let _turn = self.looks.acquire().await.expect("it is never closed");
        let locator = Locator::parse(reference).map_err(|error| LibraryError::from(error).fault())?;
        let late = HubError::TimedOut { host: crate::hub::source_of(&locator).as_str().to_owned() };
        let listing = tokio::time::timeout(LOOK_MAX, self.hubs.describe(&locator)).await.unwrap_or(Err(late));
        let listing = listing.map_err(|error| error.fault())?;
        let this = Arc::clone(&self);
        let registered = tokio::task::spawn_blocking(move || {
            let files = add::register_hit(&this.library, &this.hubs, &this.handle, &listing)?;
            // A file is listed when the tree has it.
            this.current.refresh().map_err(LibraryError::from)?;
            Ok::<_, LibraryError>(files)
        });
        let files = registered
            .await
            .map_err(|error| Fault::new(FaultKind::Internal, format!("a task ended early: {error}"), "look again"))?;
        Ok(files.map_err(|error| error.fault())?.into_iter().map(|file| (file.path, file.blob)).collect())
    }

    fn settle(self: &Arc<Self>, key: &Key, reference: &str, files: Result<BTreeMap<RelativePath, BlobId>, Fault>) {
        let now = self.library.clock().now();
        let is_known = files.is_ok();
        let mut change = TreeChange::default();
        {
            let mut state = self.state.lock();
            let Some(hit) = state.hit_mut(key).filter(|hit| hit.reference == reference) else { return };
            let before = hit.files.clone().unwrap_or_default();
            match files {
                Ok(files) => {
                    (hit.files, hit.looked, hit.look) = (Some(Arc::new(files)), Some(now), Look::Quiet);
                }
                Err(fault) => {
                    tracing::warn!("{reference} could not be looked into: {fault}");
                    hit.look = Look::Failed(fault, now);
                }
            }
            let after = hit.files.clone().unwrap_or_default();
            if before != after {
                hit.mtime = now.max(hit.mtime.next());
            }
            let top: Vec<&str> = key.path.splitn(3, '/').take(2).collect();
            let repository = Key { query: key.query, path: top.join("/") };
            change.names = state.names_to_forget(&repository, &before, &after);
            change.directories.extend(change.names.iter().map(|(directory, _)| *directory));
            change.directories.extend(state.number(repository));
        }
        if let (true, Some(source)) = (is_known, key.source()) {
            let (this, query) = (Arc::clone(self), key.query);
            self.handle.spawn_blocking(move || this.keep(query, source));
        }
        self.current.tell(&self.current.tree(), &change);
    }
}

/// Whether another version of a repository has its directory now.
fn is_replaced(old: &Hit, hits: &[Hit]) -> bool {
    hits.iter().any(|hit| hit.name == old.name && hit.reference != old.reference)
}

/// The hubs that a query names.
pub(super) fn hubs_of(query: &Query) -> Vec<Source> {
    let words = query.sources();
    HUBS.into_iter().filter(|source| words.iter().any(|word| *word == source.as_str() || *word == EVERYWHERE)).collect()
}

fn since(answered: Option<Timestamp>) -> String {
    let told = |when: Timestamp| {
        let time = humantime::format_rfc3339_seconds(when.to_system_time());
        format!("; this is what it answered at {time}")
    };
    answered.map(told).unwrap_or_default()
}

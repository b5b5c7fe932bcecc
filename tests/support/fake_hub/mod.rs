//! A Hugging Face hub on this machine: the API on one port, its CDN on another.
//!
//! Answers as the real one does, as far as clients can tell: redirects with a file's identity, signed addresses that
//! expire, ranges, paging, error codes. Records everything, and goes wrong on demand. The CDN is another origin and
//! refuses credentials, so a token that leaks is seen. Not here: uploads, the chunk protocol of Xet.
#![allow(dead_code, unused_imports, reason = "each program that includes this uses its own part")]

mod api;
mod cdn;
mod content;
mod crowd;
mod exchange;
mod fault;
mod outgoing;
mod record;
mod repository;
mod search;
mod sha1;
mod tree;
mod wire;

pub use content::{Content, PIECE_BYTES, files_below, hex, sha256_of, sha256_of_file};
pub use fault::{Fault, Place, Rule};
pub use record::{Origin, Recorded};
pub use repository::{Access, DEFAULT_COMMIT, RepoBuilder, Storage};

use crowd::Crowd;
use record::Live;
use repository::{File, Repo};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wire::{Bound, Servers};

/// The real one's addresses live about as long.
const SIGNED_LIFE: Duration = Duration::from_secs(3600);
/// Entries of a page of a tree, as at the real one.
const PAGE_ENTRIES: usize = 1000;
/// Longest wait of `wait_until`; what is waited for takes milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Runs until dropped.
pub struct FakeHub {
    shared: Arc<Shared>,
    servers: Servers,
}

/// What both servers look at. Locks are held for a look or a change only, never two at once.
struct Shared {
    hub_port: u16,
    cdn_port: u16,
    repos: Mutex<HashMap<String, Repo>>,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<Live>>,
    signed: Mutex<HashMap<String, Signed>>,
    settings: Mutex<Settings>,
    signatures: AtomicU64,
    released: watch::Sender<u64>,
    crowd: Crowd,
}

/// A signed address in use.
struct Signed {
    subject: String,
    file: File,
    until: Instant,
    bytes_sent: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Settings {
    page_entries: usize,
    /// Origin in the `Link` headers, when it is not our own.
    link_origin: Option<String>,
    signed_life: Duration,
    small_files: SmallFiles,
    tokens: HashSet<String>,
    /// Which token may read which repository that is not public.
    grants: HashSet<(String, String)>,
    renamed: HashMap<String, String>,
}

/// How the hub answers for a small file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SmallFiles {
    /// 307 to `/api/resolve-cache/…` of the same origin, as the hub does today.
    ThroughCache,
    /// 200 at once, as it did before and mirrors do.
    Direct,
}

impl FakeHub {
    pub fn start() -> Self {
        let bound = Bound::at(0, 0);
        let (hub_port, cdn_port) = bound.ports();
        let shared = Arc::new(Shared {
            hub_port,
            cdn_port,
            repos: Mutex::default(),
            rules: Mutex::default(),
            requests: Mutex::default(),
            signed: Mutex::default(),
            settings: Mutex::new(Settings {
                page_entries: PAGE_ENTRIES,
                link_origin: None,
                signed_life: SIGNED_LIFE,
                small_files: SmallFiles::ThroughCache,
                tokens: HashSet::new(),
                grants: HashSet::new(),
                renamed: HashMap::new(),
            }),
            signatures: AtomicU64::new(0),
            released: watch::channel(0).0,
            crowd: Crowd::default(),
        });
        Self { servers: Servers::run(bound, &shared), shared }
    }

    /// What `HF_ENDPOINT` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.shared.hub_port)
    }

    pub fn cdn_origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.shared.cdn_port)
    }

    /// Bodies of files that were sent at once, at most.
    pub fn streams_at_once(&self) -> usize {
        self.shared.crowd.most()
    }

    /// Makes the repository when it is not there.
    pub fn repo(&self, id: &str) -> RepoBuilder {
        RepoBuilder { shared: Arc::clone(&self.shared), id: id.to_owned() }.touch()
    }

    // Settings.

    /// A token of an account; `repos` are those it may read although they are gated or private.
    pub fn token(&self, token: &str, repos: &[&str]) -> &Self {
        self.set(|settings| {
            settings.tokens.insert(token.to_owned());
            settings.grants.extend(repos.iter().map(|repo| (token.to_owned(), (*repo).to_owned())));
        })
    }

    /// The old name redirects to the new one.
    pub fn renamed(&self, old: &str, new: &str) -> &Self {
        self.set(|settings| drop(settings.renamed.insert(old.to_owned(), new.to_owned())))
    }

    pub fn page_entries(&self, entries: usize) -> &Self {
        self.set(|settings| settings.page_entries = entries)
    }

    /// The real one's pages always name `https://huggingface.co`, also behind a mirror.
    pub fn link_origin(&self, origin: &str) -> &Self {
        self.set(|settings| settings.link_origin = Some(origin.to_owned()))
    }

    pub fn small_files(&self, how: SmallFiles) -> &Self {
        self.set(|settings| settings.small_files = how)
    }

    /// Life of addresses that are signed from now on.
    pub fn signed_life(&self, life: Duration) -> &Self {
        self.set(|settings| settings.signed_life = life)
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        change(&mut self.shared.settings.lock().expect("no panic while held"));
        self
    }

    // Faults.

    /// From now on, until `clear_faults`, unless the rule ends by itself.
    pub fn fault(&self, rule: impl Into<Rule>) -> &Self {
        self.shared.rules.lock().expect("no panic while held").push(rule.into());
        self
    }

    pub fn clear_faults(&self) -> &Self {
        self.shared.rules.lock().expect("no panic while held").clear();
        self
    }

    /// Lets every body that stalls go on.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// No signed address given out so far is accepted any more.
    pub fn expire_signed_urls(&self) {
        self.shared.signed.lock().expect("no panic while held").clear();
    }

    /// Cuts all connections and refuses new ones.
    pub fn stop(&mut self) {
        self.servers.stop(&self.shared);
    }

    /// Answers again, at the same addresses.
    pub fn resume(&mut self) {
        self.servers.resume(&self.shared);
    }

    // What happened.

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().expect("no panic while held").iter().map(Live::snapshot).collect()
    }

    /// Requests about this file at either origin; `path` is one in a repository, or `org/name/path`.
    pub fn requests_for(&self, path: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| fault::names(&request.subject, path)).collect()
    }

    pub fn forget_requests(&self) {
        self.shared.requests.lock().expect("no panic while held").clear();
    }

    /// Bytes of this file that the CDN sent.
    pub fn cdn_bytes_sent(&self, path: &str) -> u64 {
        let at_cdn = |request: &Recorded| request.origin == Origin::Cdn && request.status < 300;
        self.requests_for(path).iter().filter(|request| at_cdn(request)).map(|request| request.bytes_sent).sum()
    }

    /// How many requests to the CDN held credentials: each is a leaked token.
    pub fn cdn_credentials_seen(&self) -> usize {
        self.requests().iter().filter(|request| request.origin == Origin::Cdn && request.with_authorization).count()
    }

    /// Waits until the requests look as wanted; panics with them after `WAIT_MAX`.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&[Recorded]) -> bool) {
        let start = Instant::now();
        loop {
            let requests = self.requests();
            if wanted(&requests) {
                return;
            }
            assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} for {what}; requests: {requests:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Shared {
    fn take_faults(&self, place: Place, subject: &str) -> Vec<Fault> {
        fault::take_all(&mut self.rules.lock().expect("no panic while held"), place, subject)
    }

    fn settings(&self) -> Settings {
        self.settings.lock().expect("no panic while held").clone()
    }

    fn next_signature(&self) -> u64 {
        self.signatures.fetch_add(1, Ordering::Relaxed)
    }
}

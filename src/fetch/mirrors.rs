//! Looking for a content in other repositories, when none of the places that are known gives it.
//!
//! Invariants: a place is taken only when it publishes the very sha256 and size; a content looks once in a while, and a
//! listing is shared by all contents that look at its repository; every look has an end. Not here: which repositories
//! (`hub::Mirrors`), what is fetched from where.

use super::file::{Deed, File, State};
use crate::base::{Digest, Locator};
use crate::hub::{Mirror, Origin, RemoteFile, RepoListing};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// Whoever found nothing looks again after this: repositories do not change by the minute.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Longest time for one place; the reads that wait have their own limit.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Listings that are kept for other contents.
const LISTINGS_MAX: usize = 16;
/// Most places that are looked at for one content.
const MIRRORS_MAX: usize = 8;
/// So many failures in a row, at every place, are not passing.
const FAILURES_MIN: u32 = 2;

/// Whether other places were looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Looked {
    Never,
    /// It is being done.
    Now,
    At(Instant),
}

/// What has a hash in a repository.
type Files = Vec<(Digest, u64, Origin)>;

#[derive(Debug)]
struct Listing {
    locator: Locator,
    asked: Instant,
    files: Arc<OnceCell<Files>>,
}

/// Listings of repositories that were looked at, the oldest first. Its lock is a leaf.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: Mutex<Vec<Listing>>,
}

impl Listings {
    /// The one listing of a repository, to be filled by whoever comes first.
    fn of(&self, locator: &Locator, now: Instant) -> Arc<OnceCell<Files>> {
        let mut known = self.known.lock();
        known.retain(|listing| now.saturating_duration_since(listing.asked) < AGAIN_AFTER);
        if let Some(listing) = known.iter().find(|listing| listing.locator == *locator) {
            return Arc::clone(&listing.files);
        }
        if known.len() == LISTINGS_MAX {
            known.remove(0);
        }
        let files = Arc::default();
        known.push(Listing { locator: locator.clone(), asked: now, files: Arc::clone(&files) });
        files
    }
}

fn with_hash(listing: &RepoListing) -> Files {
    let named = |file: &RemoteFile| Some((file.sha256?, file.size_bytes, listing.origin_of(file)));
    listing.files.iter().filter_map(named).collect()
}

impl File {
    /// No place gives anything at the moment: whether others are to be looked for.
    pub fn look_for_mirrors(&self, state: &mut State) -> Option<Deed> {
        self.mirrors_to_ask(state).map(Deed::FindMirrors)
    }

    /// Which those are. Whoever takes them looks.
    pub fn mirrors_to_ask(&self, state: &mut State) -> Option<Vec<Mirror>> {
        let now = Instant::now();
        let patience = self.shared.options.read_timeout;
        let may_look = match state.looked {
            Looked::Never => true,
            Looked::Now => false,
            Looked::At(then) => now.saturating_duration_since(then) >= AGAIN_AFTER,
        };
        if !may_look || self.expected.sha256.is_none() || !state.origins.all_fail(FAILURES_MIN, now + patience) {
            return None;
        }
        let mut mirrors: Vec<Mirror> = Vec::new();
        for origin in state.origins.iter() {
            let more = self.shared.options.mirrors.of(origin);
            mirrors.extend(more.into_iter().filter(|mirror| !mirrors.contains(mirror)).collect::<Vec<Mirror>>());
        }
        mirrors.truncate(MIRRORS_MAX);
        if mirrors.is_empty() {
            return None;
        }
        state.looked = Looked::Now;
        Some(mirrors)
    }

    pub async fn find_mirrors(self: Arc<Self>, mirrors: Vec<Mirror>) {
        self.look_at(&mirrors).await;
        self.pump();
    }

    /// Every place lied: a mirror may do better.
    pub async fn replace_liars(self: Arc<Self>, mirrors: Vec<Mirror>) {
        self.look_at(&mirrors).await;
        let runtime = self.shared.runtime.clone();
        drop(runtime.spawn_blocking(move || self.begin_anew_or_end()));
    }

    /// Looks at one place after the other, until one has it.
    async fn look_at(self: &Arc<Self>, mirrors: &[Mirror]) {
        let mut found = Vec::new();
        for mirror in mirrors {
            found = self.places_at(mirror).await;
            if !found.is_empty() {
                break;
            }
        }
        let mut state = self.state.lock();
        state.looked = Looked::At(Instant::now());
        if !found.is_empty() {
            tracing::info!(blob = %self.blob, file = %self.name, source = found[0].source.as_str(), "found at a mirror");
            state.origins.add(&found);
            self.touch();
        }
    }

    /// Where the content is at a mirror, by its hash.
    async fn places_at(&self, mirror: &Mirror) -> Vec<Origin> {
        let hubs = &self.shared.hubs;
        let Some(sha256) = self.expected.sha256 else { return Vec::new() };
        let by_hash;
        let files = match mirror {
            Mirror::Repository(locator) => {
                let files = self.shared.listings.of(locator, Instant::now());
                let list = async {
                    let listed = tokio::time::timeout(LOOK_TIMEOUT, hubs.describe(locator)).await;
                    match listed {
                        Ok(Ok(listing)) => with_hash(&listing),
                        Ok(Err(error)) => self.not_found_at_mirror(&error),
                        Err(_) => self.not_found_at_mirror(&"it took too long"),
                    }
                };
                files.get_or_init(|| list).await;
                by_hash = files;
                by_hash.get().map_or(&[][..], Vec::as_slice)
            }
            Mirror::ByHash(source) => {
                let listed = tokio::time::timeout(LOOK_TIMEOUT, hubs.describe_by_hash(*source, sha256)).await;
                let listing = listed.ok().and_then(Result::ok).flatten();
                return listing
                    .iter()
                    .flat_map(with_hash)
                    .filter(|file| self.is_same(file))
                    .map(|file| file.2)
                    .collect();
            }
        };
        files.iter().filter(|file| self.is_same(file)).map(|(.., origin)| origin.clone()).collect()
    }

    fn is_same(&self, (sha256, size_bytes, _): &(Digest, u64, Origin)) -> bool {
        self.expected.sha256 == Some(*sha256) && self.expected.size_bytes == *size_bytes
    }

    fn not_found_at_mirror(&self, reason: &dyn std::fmt::Display) -> Files {
        tracing::debug!(blob = %self.blob, file = %self.name, "a mirror cannot be looked at: {reason}");
        Files::new()
    }
}

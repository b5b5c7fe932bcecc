//! Repositories of the fake hub: commits, names of commits, files, and who may read them.
//!
//! Invariant: a commit that exists keeps its files; `RepoBuilder` only adds to the newest one.

use super::Shared;
use super::content::Content;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The commit of a repository that was given none.
pub const DEFAULT_COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// An ordinary git file, answered by the hub itself.
    Git,
    /// Large File Storage: the hub redirects to the CDN.
    Lfs,
}

#[derive(Clone)]
pub struct File {
    pub content: Content,
    pub storage: Storage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Public,
    /// Listed for all; files only with a token that was granted.
    Gated,
    /// Told to nobody without a token that was granted.
    Private,
    /// Switched off by the moderators.
    Disabled,
}

pub struct Repo {
    pub access: Access,
    pub tags: Vec<String>,
    pub commits: HashMap<String, BTreeMap<String, File>>,
    /// `main` and other branches and tags.
    pub refs: BTreeMap<String, String>,
    newest: String,
}

impl Repo {
    fn new() -> Self {
        Self {
            access: Access::Public,
            tags: Vec::new(),
            commits: HashMap::from([(DEFAULT_COMMIT.to_owned(), BTreeMap::new())]),
            refs: BTreeMap::from([("main".to_owned(), DEFAULT_COMMIT.to_owned())]),
            newest: DEFAULT_COMMIT.to_owned(),
        }
    }
}

/// Fills one repository; every call takes effect at once.
pub struct RepoBuilder {
    pub(super) shared: Arc<Shared>,
    pub(super) id: String,
}

impl RepoBuilder {
    fn change(self, change: impl FnOnce(&mut Repo)) -> Self {
        let mut repos = self.shared.repos.lock().expect("no panic while held");
        change(repos.entry(self.id.clone()).or_insert_with(Repo::new));
        drop(repos);
        self
    }

    /// Makes the repository.
    pub(super) fn touch(self) -> Self {
        self.change(|_| {})
    }

    /// Starts a new commit without files; `main` moves to it.
    pub fn commit(self, sha: &str) -> Self {
        assert!(sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit()), "`{sha}` is not 40 hex digits");
        self.change(|repo| {
            // The commit nobody asked for goes away while it is empty.
            if repo.commits.get(DEFAULT_COMMIT).is_some_and(BTreeMap::is_empty) {
                repo.commits.remove(DEFAULT_COMMIT);
            }
            repo.commits.insert(sha.to_owned(), BTreeMap::new());
            repo.refs.insert("main".to_owned(), sha.to_owned());
            repo.newest = sha.to_owned();
        })
    }

    /// Adds a small file, kept by git.
    pub fn file(self, path: &str, content: impl Into<Content>) -> Self {
        self.add(path, content.into(), Storage::Git)
    }

    /// Adds a large file, kept at the CDN.
    pub fn lfs(self, path: &str, content: impl Into<Content>) -> Self {
        self.add(path, content.into(), Storage::Lfs)
    }

    fn add(self, path: &str, content: Content, storage: Storage) -> Self {
        self.change(|repo| {
            let files = repo.commits.get_mut(&repo.newest).expect("the newest commit exists");
            files.insert(path.to_owned(), File { content, storage });
        })
    }

    /// Adds every file below `folder`; those of `lfs_from_bytes` and more are large.
    pub fn folder(mut self, folder: &std::path::Path, lfs_from_bytes: u64) -> std::io::Result<Self> {
        for (path, file) in super::content::files_below(folder)? {
            let content = Content::of_file(&file)?;
            let storage = if content.size_bytes() < lfs_from_bytes { Storage::Git } else { Storage::Lfs };
            self = self.add(&path, content, storage);
        }
        Ok(self)
    }

    /// Another name for the newest commit.
    pub fn branch(self, name: &str) -> Self {
        self.change(|repo| {
            repo.refs.insert(name.to_owned(), repo.newest.clone());
        })
    }

    pub fn access(self, access: Access) -> Self {
        self.change(|repo| repo.access = access)
    }

    /// A tag of the repository's page, such as `license:mit`.
    pub fn tag(self, tag: &str) -> Self {
        self.change(|repo| repo.tags.push(tag.to_owned()))
    }
}

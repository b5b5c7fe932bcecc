//! What every hub can do, in words that no hub's wire format leaks into.

use super::HubError;
use super::client::Body;
use super::folder::Reading;
use super::published::{Placed, Published, Sought};
use super::search::{FoundPage, Question};
use crate::base::{ByteRange, Digest, Locator, RelativePath, RepoId, Revision};
use crate::tree::Source;
use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;

/// A place the bytes of one file can be had from, pinned as far as the hub can pin.
///
/// | hub | `repo` | `commit` | `path` |
/// | --- | --- | --- | --- |
/// | Hugging Face | `org/name` | the full commit | path |
/// | Civitai | number of the model | number of the version | number of the file |
/// | ModelScope | `org/name` | branch or tag: its hash tells whether it is still the file | path |
/// | web | `https/host:port` | what the server called this content | path and query |
/// | folder | `file` | size and time of change | absolute path without its first `/` |
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    pub source: Source,
    pub repo: RepoId,
    pub commit: Revision,
    pub path: RelativePath,
}

/// What the file was when it was registered; an answer about anything else is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    pub size_bytes: u64,
    pub sha256: Option<Digest>,
    /// The hub's own identity of the content, without quotes and weakness mark.
    pub etag: Option<String>,
}

/// One file of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteFile {
    pub path: RelativePath,
    pub size_bytes: u64,
    /// Published for large files; absent for those kept in git.
    pub sha256: Option<Digest>,
    /// Git's blob id, 40 hex digits.
    pub git_sha1: Option<String>,
    pub etag: Option<String>,
    /// What the hub itself knows it by, where that is not `path`: names can change, numbers cannot.
    pub known_by: Option<RelativePath>,
    /// What the hub says it is, as the names of folders an application would keep it in; outermost first.
    pub folders: Vec<String>,
}

/// What a hub says about a repository in words for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    pub creator: Option<String>,
    pub license: Option<String>,
    pub tags: Vec<String>,
    pub trigger_words: Vec<String>,
}

/// A file that a hub knows by its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub sha256: Digest,
    pub locator: Locator,
    /// As in `RemoteFile`.
    pub folders: Vec<String>,
    pub about: About,
}

/// A repository at one commit.
///
/// `files` is sorted by path, has no path twice and none that is both a file and a folder. Names that differ only in
/// case or in Unicode form are different files here, because the directory that shows a repository tells them apart;
/// `folded` names such pairs for whoever copies the folder to a filesystem that does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepoListing {
    pub source: Source,
    /// The hub's own name of the repository, which may differ from the asked one in case or after a rename.
    pub repo: RepoId,
    /// Names exactly this state of it.
    pub commit: Revision,
    /// What its files are asked for by: the commit, unless the hub only knows branches.
    pub asked_by: Revision,
    pub files: Vec<RemoteFile>,
    /// Entries that cannot be shown, as the hub spells them (at most `NAME_SHOWN_CHARS_MAX`, controls escaped), with the reason.
    pub refused: Vec<(String, String)>,
    pub folded: Vec<(RelativePath, RelativePath)>,
    /// The hub asks for an agreement before it gives out the bytes.
    pub gated: bool,
    /// Every tag as the hub has it.
    pub tags: Vec<String>,
    pub about: About,
}

impl RepoListing {
    /// The place of one of its files.
    pub fn origin_of(&self, file: &RemoteFile) -> Origin {
        Origin {
            source: self.source,
            repo: self.repo.clone(),
            commit: self.asked_by.clone(),
            path: file.known_by.as_ref().unwrap_or(&file.path).clone(),
        }
    }
}

/// A hub of model files. To add one: a file with an `impl Hub`, and a line in `HubSet::new`.
pub trait Hub: Send + Sync {
    fn source(&self) -> Source;

    /// Lists what the locator names: a repository, a folder of it, or one file.
    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>>;

    /// Which of these contents the hub knows, for hubs that can be asked by hash. The rest know none.
    fn known<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Vec<Known>, HubError>> {
        let _ = sha256s;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Repositories that one question for cards may name.
    fn cards_max(&self) -> usize {
        1
    }

    /// Where the hub has these contents, in one request of at most `PLACED_MAX`; nothing where it has no such question.
    fn placed<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Option<Vec<Placed>>, HubError>> {
        let _ = sha256s;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// What the hub tells about these, in one request and in their order; nothing where it has no such question.
    fn cards<'a>(&'a self, sought: &'a [Sought]) -> BoxFuture<'a, Result<Option<Vec<Option<Published>>>, HubError>> {
        let _ = sought;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// What the hub tells about these contents, in one request of at most `PUBLISHED_MAX`.
    fn published<'a>(&'a self, sha256s: &'a [Digest]) -> BoxFuture<'a, Result<Vec<(Digest, Published)>, HubError>> {
        let _ = sha256s;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// What the hub tells about a content with these tensors, whatever its header says. One request.
    fn published_by_tensors<'a>(&'a self, autov3: &'a str) -> BoxFuture<'a, Result<Option<Published>, HubError>> {
        let _ = autov3;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// One page of the repositories that may answer a question, for hubs that can be searched.
    fn search<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<FoundPage, HubError>> {
        let _ = question;
        let source_name = self.source().as_str();
        Box::pin(std::future::ready(Err(HubError::NoSearch { source_name })))
    }

    /// Opens a stream of exactly `range`. The answer's place, total and identity are checked before this returns.
    fn open_range<'a>(
        &'a self,
        origin: &'a Origin,
        expected: &'a Expected,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<RangeStream, HubError>>;
}

/// The bytes of one range, in order. Dropping it closes the connection.
pub struct RangeStream {
    body: Bytestream,
    range: ByteRange,
    /// Bytes before the range that a server sends although nobody asked for them.
    skip_bytes: u64,
    given_bytes: u64,
}

enum Bytestream {
    Answer(Body),
    File(Reading),
}

impl RangeStream {
    pub(super) fn new(body: Body, range: ByteRange) -> Self {
        Self { body: Bytestream::Answer(body), range, skip_bytes: 0, given_bytes: 0 }
    }

    /// The range out of the whole file.
    pub(super) fn out_of_whole(body: Body, range: ByteRange) -> Self {
        Self { skip_bytes: range.start(), ..Self::new(body, range) }
    }

    pub(super) fn of_file(reading: Reading, range: ByteRange) -> Self {
        Self { body: Bytestream::File(reading), range, skip_bytes: 0, given_bytes: 0 }
    }

    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Host the bytes come from, for logs.
    pub fn host(&self) -> &str {
        match &self.body {
            Bytestream::Answer(body) => body.host(),
            Bytestream::File(_) => "this machine",
        }
    }

    /// The next piece, or nothing once exactly the whole range was given. A body that ends early or goes on is an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, HubError>> {
        while self.given_bytes < self.range.len() {
            let piece = match &mut self.body {
                Bytestream::Answer(body) => body.next().await,
                Bytestream::File(reading) => reading.next().await,
            };
            let mut bytes = match piece {
                Err(error) => return Some(Err(error)),
                Ok(None) => {
                    return Some(Err(HubError::Cut {
                        host: self.host().to_owned(),
                        asked_bytes: self.range.len(),
                        given_bytes: self.given_bytes,
                    }));
                }
                Ok(Some(bytes)) => bytes,
            };
            let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(bytes.len());
            bytes.advance(skipped);
            self.skip_bytes -= skipped as u64;
            if bytes.is_empty() {
                continue;
            }
            // What follows the range is never looked at: the connection is dropped with the stream.
            let left = self.range.len() - self.given_bytes;
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.given_bytes += bytes.len() as u64;
            return Some(Ok(bytes));
        }
        None
    }
}

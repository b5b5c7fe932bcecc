//! What every hub can do, in words that no hub's wire format leaks into.

use super::HubError;
use super::client::Body;
use crate::base::{ByteRange, Digest, Locator, RelativePath, RepoId, Revision};
use crate::tree::Source;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// A place the bytes of one file can be had from, pinned to a commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    pub source: Source,
    pub repo: RepoId,
    /// A full commit wherever the hub has commits, so that the file behind it never changes.
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
}

/// A repository at one commit.
///
/// `files` is sorted by path, has no path twice and none that is both a file and a folder. Names that differ only in
/// case or in Unicode form are different files here, because the directory that shows a repository tells them apart;
/// `folded` names such pairs for whoever copies the folder to a filesystem that does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepoListing {
    /// The hub's own name of the repository, which may differ from the asked one in case or after a rename.
    pub repo: RepoId,
    pub commit: Revision,
    pub files: Vec<RemoteFile>,
    /// Entries that cannot be shown, as the hub spells them (at most `NAME_SHOWN_CHARS_MAX`, controls escaped), with the reason.
    pub refused: Vec<(String, String)>,
    pub folded: Vec<(RelativePath, RelativePath)>,
    /// The hub asks for an agreement before it gives out the bytes.
    pub gated: bool,
    pub tags: Vec<String>,
}

/// A hub of model files.
pub trait Hub: Send + Sync {
    fn source(&self) -> Source;

    /// Lists what the locator names: a repository, a folder of it, or one file.
    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>>;

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
    body: Body,
    range: ByteRange,
    given_bytes: u64,
}

impl RangeStream {
    pub(super) fn new(body: Body, range: ByteRange) -> Self {
        Self { body, range, given_bytes: 0 }
    }

    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Host the bytes come from, for logs.
    pub fn host(&self) -> &str {
        self.body.host()
    }

    /// The next piece, or nothing once exactly the whole range was given. A body that ends early or goes on is an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, HubError>> {
        if self.given_bytes == self.range.len() {
            return None;
        }
        match self.body.next().await {
            Err(error) => Some(Err(error)),
            Ok(None) => Some(Err(HubError::Cut {
                host: self.body.host().to_owned(),
                asked_bytes: self.range.len(),
                given_bytes: self.given_bytes,
            })),
            Ok(Some(mut bytes)) => {
                // What follows the range is never looked at: the connection is dropped with the stream.
                let left = self.range.len() - self.given_bytes;
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                self.given_bytes += bytes.len() as u64;
                Some(Ok(bytes))
            }
        }
    }
}

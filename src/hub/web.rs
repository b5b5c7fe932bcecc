//! One file at any web address.
//!
//! Invariants: the file is what it was when it was added, by the server's own tag or time of change; no credential is
//! ever sent. A server without ranges is read from the start each time. Not here: pages with links to files.

use super::answer;
use super::client::{self, Answer, Body, Client, Request, Timeouts};
use super::listing::{self, RawFile};
use super::measure::{check_range, page_word};
use super::pace::{Pace, WEB_BUDGET};
use super::site::is_loopback;
use super::{About, Expected, Hub, HubError, Origin, RangeStream, RepoListing};
use crate::base::{ByteRange, Locator, Revision, WebAddress};
use crate::tree::Source;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::header;
use std::sync::OnceLock;

/// Longest tag that is kept of a server's own; theirs are under a hundred characters.
const MARK_CHARS_MAX: usize = 120;

pub(super) struct Web {
    timeouts: Timeouts,
    pace: Pace,
    /// For this machine, and for the world; made at the first request.
    clients: [OnceLock<Result<Client, HubError>>; 2],
}

impl Web {
    pub fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, pace: Pace::new(WEB_BUDGET), clients: [OnceLock::new(), OnceLock::new()] }
    }

    async fn ask(&self, address: &WebAddress, range: ByteRange) -> Result<Answer, HubError> {
        let subject = subject_of(address);
        let refused = |_| HubError::Endpoint { text: subject.clone(), reason: "it is no web address".to_owned() };
        let url = Url::parse(&address.to_string()).map_err(refused)?;
        self.pace.turn(address.host()).await?;
        let direct = is_loopback(&url);
        let client = &self.clients[usize::from(!direct)];
        let client = client.get_or_init(|| Client::new(self.timeouts, direct)).as_ref().map_err(Clone::clone)?;
        let answer =
            client.send(Request { url, credential: None, range: Some(range), json: None, subject: &subject }).await?;
        let status = answer.response.status().as_u16();
        if matches!(status, 200 | 206 | 416) { Ok(answer) } else { Err(failure(answer, subject).await) }
    }

    async fn describe_file(&self, address: &WebAddress) -> Result<RepoListing, HubError> {
        let subject = subject_of(address);
        // One byte tells size and tag; HEAD is refused by signed addresses and answered wrongly by some servers.
        let answer = self.ask(address, ByteRange::new(0, 1).expect("not empty")).await?;
        let headers = answer.response.headers();
        let host = client::host_of(&answer.url);
        let content_type = client::content_type(headers);
        if page_word(&content_type) == "text/html" {
            return Err(HubError::Page { host, subject, content_type: page_word(&content_type) });
        }
        let place = client::text_header(headers, &header::CONTENT_RANGE).and_then(answer::content_range);
        let length = client::text_header(headers, &header::CONTENT_LENGTH).and_then(answer::number);
        let is_partial = answer.response.status() == reqwest::StatusCode::PARTIAL_CONTENT;
        let size_bytes = if is_partial { place.and_then(|place| place.total_bytes) } else { length };
        let mark = mark_of(&answer).or_else(|| Some(format!("size-{}", size_bytes?)));
        let commit = mark.as_deref().map(revision_of).unwrap_or_else(|| revision_of("unknown"));
        let name = address.file_name().expect("every address has one");
        let raw = RawFile {
            path: name.as_str().to_owned(),
            size_bytes,
            sha256: None,
            git_sha1: None,
            known_by: Some(address.path().clone()),
            folders: Vec::new(),
        };
        let mut sifted = listing::sift([raw]);
        sifted.files.iter_mut().for_each(|file| file.etag = mark_of(&answer));
        Ok(RepoListing {
            source: Source::Web,
            repo: address.repo().clone(),
            commit: commit.clone(),
            asked_by: commit,
            files: sifted.files,
            refused: sifted.refused,
            folded: sifted.folded,
            gated: false,
            tags: Vec::new(),
            about: About::default(),
        })
    }

    async fn open(&self, origin: &Origin, expected: &Expected, range: ByteRange) -> Result<RangeStream, HubError> {
        let address =
            WebAddress::from_parts(&origin.repo, &origin.path).ok_or(HubError::NoHub { source_name: "web" })?;
        let subject = subject_of(&address);
        let answer = self.ask(&address, range).await?;
        let host = client::host_of(&answer.url);
        if let (Some(now), Some(registered)) = (mark_of(&answer), &expected.etag)
            && now != *registered
            && expected.sha256.is_none()
        {
            return Err(HubError::Changed { subject, detail: "the server's tag of it changed".to_owned() });
        }
        let headers = answer.response.headers();
        let length = client::text_header(headers, &header::CONTENT_LENGTH).and_then(answer::number);
        let is_whole = answer.response.status() == reqwest::StatusCode::OK && range.len() != expected.size_bytes;
        if is_whole && length == Some(expected.size_bytes) && headers.get(header::CONTENT_ENCODING).is_none() {
            // A server that knows no ranges: what comes before is read and dropped.
            return Ok(RangeStream::out_of_whole(Body::new(answer.response, host), range));
        }
        let status = answer.response.status().as_u16();
        check_range(status, headers, expected.size_bytes, range, &host, &subject)?;
        Ok(RangeStream::new(Body::new(answer.response, host), range))
    }
}

impl Hub for Web {
    fn source(&self) -> Source {
        Source::Web
    }

    fn describe<'a>(&'a self, locator: &'a Locator) -> BoxFuture<'a, Result<RepoListing, HubError>> {
        match locator {
            Locator::Web(address) => Box::pin(self.describe_file(address)),
            _ => Box::pin(std::future::ready(Err(HubError::NoHub { source_name: "web" }))),
        }
    }

    fn open_range<'a>(
        &'a self,
        origin: &'a Origin,
        expected: &'a Expected,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<RangeStream, HubError>> {
        Box::pin(self.open(origin, expected, range))
    }
}

/// The address without its query.
fn subject_of(address: &WebAddress) -> String {
    let path = address.path().as_str().split('?').next().unwrap_or_default();
    format!("{}/{path}", address.host())
}

/// The server's own name of the content: its tag, else its time of change.
fn mark_of(answer: &Answer) -> Option<String> {
    let headers = answer.response.headers();
    let etag = client::text_header(headers, &header::ETAG).and_then(answer::etag);
    let mark = etag.or_else(|| client::text_header(headers, &header::LAST_MODIFIED).map(str::to_owned))?;
    Some(mark.chars().take(MARK_CHARS_MAX).collect())
}

/// The same as a revision: letters and digits stay.
fn revision_of(mark: &str) -> Revision {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let text: String = mark.chars().map(kept).take(MARK_CHARS_MAX).collect();
    Revision::new(&text).unwrap_or_else(|_| Revision::new("unknown").expect("a word"))
}

async fn failure(answer: Answer, subject: String) -> HubError {
    let host = client::host_of(&answer.url);
    let status = answer.response.status().as_u16();
    if let Some(busy) = client::busy(&answer) {
        return busy;
    }
    match status {
        401 | 403 => HubError::Forbidden { host, subject, message: client::message_of(answer, None).await },
        404 | 410 => HubError::EntryNotFound { host, subject },
        _ => HubError::Status { host, subject, status, message: client::message_of(answer, None).await },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_a_revision() {
        for (mark, revision) in [
            ("5f3-abc", "5f3-abc"),
            ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed__21_Oct_2026_07_28_00_GMT"),
            ("../x/..", "___x___"),
            ("", "unknown"),
        ] {
            assert_eq!(revision_of(mark).as_str(), revision);
        }
        assert_eq!(revision_of(&"é".repeat(999)).as_str().len(), MARK_CHARS_MAX);
    }
}

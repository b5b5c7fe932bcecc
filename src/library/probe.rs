//! Reads the header of a remote file before anything of it is stored, so that it is classified from the start.
//!
//! Invariants: moves at most `PROBE_BYTES_MAX` of a file and waits at most `PROBE_TIMEOUT`; a header that cannot be had
//! costs certainty, never the registration. Not here: downloads (`fetch`).

use crate::base::ByteRange;
use crate::formats::{ByteSource, FormatError, Header, read_header};
use crate::hub::{Expected, HubError, HubSet, Origin};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;
use tokio::runtime::Handle;

/// Headers of diffusion models have 20 to 500 KB; what needs more is told apart by its name.
const PROBE_BYTES_MAX: u64 = 1 << 20;
/// Most LoRA headers fit into the first answer.
const FIRST_BYTES: u64 = 128 << 10;
/// One file's share of a user's patience with `modelfs add`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The header of a file at a hub; `None` when it cannot be had or is none.
pub(super) fn probe(hubs: &HubSet, runtime: &Handle, origin: &Origin, expected: &Expected) -> Option<Header> {
    let deadline = tokio::time::Instant::now() + PROBE_TIMEOUT;
    let source = RemoteSource {
        hubs,
        runtime,
        origin,
        expected,
        deadline,
        pieces: RefCell::new(Vec::new()),
        moved_bytes: Cell::new(0),
    };
    match read_header(&source) {
        Ok(header) => Some(header),
        Err(error @ FormatError::Io(_)) => {
            tracing::info!("the header of {} was not read: {error}", origin.path);
            None
        }
        Err(error) => {
            tracing::warn!("{} at its hub does not look like a model: {error}", origin.path);
            None
        }
    }
}

struct RemoteSource<'a> {
    hubs: &'a HubSet,
    runtime: &'a Handle,
    origin: &'a Origin,
    expected: &'a Expected,
    deadline: tokio::time::Instant,
    /// What was fetched, by its start.
    pieces: RefCell<Vec<(u64, Bytes)>>,
    moved_bytes: Cell<u64>,
}

impl RemoteSource<'_> {
    fn kept(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let pieces = self.pieces.borrow();
        let (start, piece) =
            pieces.iter().find(|(start, piece)| (*start..*start + piece.len() as u64).contains(&offset))?;
        let there = &piece[(offset - start) as usize..];
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        Some(count)
    }

    /// Fetches from `offset` on: each time twice as much as before.
    fn fetch(&self, offset: u64, wanted: u64) -> io::Result<()> {
        let left = PROBE_BYTES_MAX.saturating_sub(self.moved_bytes.get());
        let len = self.moved_bytes.get().max(FIRST_BYTES).max(wanted).min(left).min(self.size_bytes() - offset);
        let range = ByteRange::new(offset, len)
            .ok_or_else(|| io::Error::other(format!("it is longer than {PROBE_BYTES_MAX} bytes")))?;
        let work = async {
            let mut stream = self.hubs.open_range(self.origin, self.expected, range).await?;
            let mut whole = BytesMut::new();
            while let Some(piece) = stream.next().await {
                whole.extend_from_slice(&piece?);
            }
            Ok::<_, HubError>(whole.freeze())
        };
        let bytes = self
            .runtime
            .block_on(async { tokio::time::timeout_at(self.deadline, work).await })
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        self.moved_bytes.set(self.moved_bytes.get() + bytes.len() as u64);
        self.pieces.borrow_mut().push((offset, bytes));
        Ok(())
    }
}

impl ByteSource for RemoteSource<'_> {
    fn size_bytes(&self) -> u64 {
        self.expected.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.size_bytes() || buffer.is_empty() {
            return Ok(0);
        }
        if let Some(count) = self.kept(offset, buffer) {
            return Ok(count);
        }
        self.fetch(offset, buffer.len() as u64)?;
        Ok(self.kept(offset, buffer).unwrap_or(0))
    }
}

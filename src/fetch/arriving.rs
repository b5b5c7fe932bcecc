//! The chunk that is arriving: its bytes in memory, and what of them is kept on disk before it is whole.
//!
//! Invariants: what is kept follows what was kept before, and none of it counts as present; whatever ends a request, what
//! it received is kept, and the next request for that chunk begins behind it. Keeping fails in silence: when the disk is
//! full, the whole chunk will tell.

use super::file::{File, State};
use crate::base::ByteRange;
use crate::store::CHUNK_BYTES;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long received bytes may be in memory alone: a killed process loses what arrives in this time, which is a fifth of
/// a MiB at 40 MB/s. It costs two small writes for each stream.
const KEEP_EVERY: Duration = Duration::from_millis(5);
/// The same on a disk that is busy: what is kept must not slow down what is here to stay.
const KEEP_EVERY_MAX: Duration = Duration::from_millis(500);
/// A chunk that is whole after this time is not kept before: at 100 MB/s a stream copies nothing twice.
const SOON: Duration = Duration::from_millis(10);
/// A request that brought this much did not fail. Less is kept too, but the pauses go on growing, so that a source that
/// gives a few bytes at a time is not asked four times a second.
const DELIVERED_BYTES: u64 = 64 << 10;
/// A chunk further on with this much of it here gets a request of its own; for less the stream that comes by is sooner
/// through than another round trip.
const WORTH_A_REQUEST_BYTES: u64 = 64 << 10;

/// One chunk on its way from a stream.
pub(super) struct Arriving {
    start: u64,
    len: usize,
    bytes: Vec<u8>,
    /// What of it an earlier request had brought.
    before_bytes: usize,
    kept_bytes: usize,
    kept_at: Instant,
    begun_at: Instant,
    keep_every: Duration,
}

/// Bytes that are to be kept.
pub(super) struct Part {
    start: u64,
    /// Of the chunk, before these.
    kept_bytes: usize,
    bytes: Vec<u8>,
    /// What the request has brought of the chunk, these included.
    brought_bytes: u64,
}

impl Arriving {
    /// `beginning` was kept by an earlier request.
    pub fn new(start: u64, len: usize, beginning: Vec<u8>) -> Self {
        let (before_bytes, mut bytes) = (beginning.len(), beginning);
        bytes.reserve_exact(len - before_bytes);
        let now = Instant::now();
        Self {
            start,
            len,
            bytes,
            before_bytes,
            kept_bytes: before_bytes,
            kept_at: now,
            begun_at: now,
            keep_every: KEEP_EVERY,
        }
    }

    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.len
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes from a piece what belongs to this chunk.
    pub fn take(&mut self, piece: &mut Bytes) {
        let taken = piece.split_to(piece.len().min(self.len - self.bytes.len()));
        self.bytes.extend_from_slice(&taken);
    }

    /// When its bytes are to be kept, should nothing more arrive.
    pub fn due(&self) -> Option<Instant> {
        (self.bytes.len() > self.kept_bytes).then(|| self.kept_at + self.keep_every)
    }

    /// Puts off what is due, because at this pace the whole is here soon.
    pub fn postpone(&mut self, now: Instant) -> bool {
        let brought = (self.bytes.len() - self.before_bytes) as u128;
        let soon = now.duration_since(self.begun_at).as_nanos() * self.len as u128 <= SOON.as_nanos() * brought;
        if soon {
            self.kept_at = now;
        }
        soon
    }

    /// The disk is behind: what is due is put off, each time for longer.
    pub fn wait_longer(&mut self, now: Instant) {
        (self.kept_at, self.keep_every) = (now, self.keep_every.saturating_mul(2).min(KEEP_EVERY_MAX));
    }

    /// What is not kept yet; it counts as kept from now on.
    pub fn part(&mut self) -> Option<Part> {
        if self.is_whole() || self.bytes.len() == self.kept_bytes {
            return None;
        }
        let part = Part {
            start: self.start,
            kept_bytes: self.kept_bytes,
            bytes: self.bytes[self.kept_bytes..].to_vec(),
            brought_bytes: (self.bytes.len() - self.before_bytes) as u64,
        };
        (self.kept_bytes, self.kept_at) = (self.bytes.len(), Instant::now());
        Some(part)
    }

    /// The whole chunk.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl File {
    /// Keeps a part of a chunk. Blocks on the disk.
    pub(super) fn keep(&self, id: u64, part: &Part) {
        // Room for the chunk is made once, before its first byte.
        if part.kept_bytes == 0 && self.shared.ledger.make_room(CHUNK_BYTES).is_err() {
            return;
        }
        match self.partial().keep_beginning(part.start / CHUNK_BYTES, part.kept_bytes as u64, &part.bytes) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::debug!(blob = %self.blob, file = %self.name, "{error}"),
        }
        let mut state = self.state.lock();
        state.begun.insert(part.start, (part.kept_bytes + part.bytes.len()) as u64);
        let Some(origin) = state.request(id).map(|request| request.origin) else { return };
        match part.brought_bytes {
            DELIVERED_BYTES.. => state.origins.delivered(origin),
            _ => state.origins.gave(origin),
        }
    }

    /// What is kept of the chunk at `start`.
    pub(super) async fn beginning(self: &Arc<Self>, start: u64) -> Vec<u8> {
        let partial = {
            let state = self.state.lock();
            if !state.begun.contains_key(&start) {
                return Vec::new();
            }
            Arc::clone(&state.partial)
        };
        let read = self.shared.runtime.spawn_blocking(move || partial.read_beginning(start / CHUNK_BYTES));
        match read.await {
            Ok(Ok(bytes)) => bytes,
            // Then it is fetched from its first byte.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

impl State {
    /// The part of a planned range before the next chunk of which so much is kept that it gets a request of its own.
    pub fn until_next_beginning(&self, range: ByteRange) -> ByteRange {
        let later = self.begun.range(range.start() + 1..range.end());
        let next = later.filter(|(_, bytes)| **bytes >= WORTH_A_REQUEST_BYTES).map(|(start, _)| *start).next();
        next.and_then(|end| ByteRange::from_bounds(range.start(), end)).unwrap_or(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_stream_is_not_kept_until_it_falters() {
        let mut arriving = Arriving::new(0, 1000, vec![0; 100]);
        arriving.take(&mut Bytes::from_static(&[0; 500]));
        let after = |ms| Duration::from_millis(ms);
        let begun_at = arriving.begun_at;
        assert!(arriving.postpone(begun_at + after(5)));
        assert_eq!(arriving.due(), Some(begun_at + after(5) + KEEP_EVERY));
        assert!(!arriving.postpone(begun_at + after(6)));
        assert!(arriving.part().is_some_and(|part| part.bytes.len() == 500));
    }

    #[test]
    fn parts_follow_each_other_and_leave_the_whole_to_the_chunk() {
        let mut arriving = Arriving::new(0, 10, b"ab".to_vec());
        assert_eq!((arriving.len(), arriving.due(), arriving.part().is_none()), (2, None, true));
        let mut piece = Bytes::from_static(b"cdef");
        arriving.take(&mut piece);
        assert!(piece.is_empty() && arriving.due().is_some());
        let part = arriving.part().expect("something new");
        assert_eq!((part.start, part.kept_bytes, &part.bytes[..], part.brought_bytes), (0, 2, &b"cdef"[..], 4));
        assert!(arriving.due().is_none() && arriving.part().is_none());
        arriving.take(&mut Bytes::from_static(b"g"));
        let part = arriving.part().expect("something new");
        assert_eq!((part.kept_bytes, &part.bytes[..], part.brought_bytes), (6, &b"g"[..], 5));
        let mut piece = Bytes::from_static(b"hijk");
        arriving.take(&mut piece);
        assert_eq!(&piece[..], b"k");
        assert!(arriving.is_whole() && arriving.part().is_none());
        assert_eq!(arriving.into_bytes(), b"abcdefghij");
    }
}

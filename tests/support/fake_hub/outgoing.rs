//! A file's bytes on their way out: ranges, pace, and the faults that spoil a body.
//!
//! Invariant: `bytes_sent` counts a piece when the connection takes it, so a client that goes away is not charged.

use super::Shared;
use super::content::{Content, PIECE_BYTES};
use super::crowd::Turn;
use super::exchange::{Ask, Payload, Reply};
use super::fault::Fault;
use super::wire::Peer;
use axum::body::Body;
use axum::http::header;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A body that is still to be sent.
pub(super) struct Outgoing {
    content: Content,
    at: u64,
    end: u64,
    stop: Option<Stop>,
    rate_bytes_per_s: Option<u64>,
    wrong_bytes: bool,
    /// Counts what an address has given, for its expiry.
    address_bytes: Option<Arc<AtomicU64>>,
    released: watch::Receiver<u64>,
    turn: Turn,
}

#[derive(Clone, Copy)]
enum Stop {
    Truncate { after_bytes: u64 },
    Stall { after_bytes: u64 },
    Reset { after_bytes: u64 },
}

impl Stop {
    fn after_bytes(self) -> u64 {
        match self {
            Self::Truncate { after_bytes } | Self::Stall { after_bytes } | Self::Reset { after_bytes } => after_bytes,
        }
    }
}

struct Sending {
    outgoing: Outgoing,
    sent: u64,
    started: Instant,
    bytes_sent: Arc<AtomicU64>,
    peer: Peer,
    ended: bool,
}

/// The answer to a request for a file's bytes.
pub(super) fn reply(
    shared: &Shared,
    ask: &Ask,
    content: &Content,
    etag: &str,
    faults: &[Fault],
    address_bytes: Option<Arc<AtomicU64>>,
) -> Reply {
    let size_bytes = content.size_bytes();
    let most = faults.iter().find_map(|fault| match fault {
        Fault::Crowded { streams_max } => Some(*streams_max),
        _ => None,
    });
    let Some(turn) = shared.crowd.enter(most.unwrap_or(usize::MAX)) else {
        return Reply::text(503, "SlowDown: please reduce your request rate");
    };
    let mut outgoing = Outgoing {
        content: content.clone(),
        at: 0,
        end: size_bytes,
        stop: None,
        rate_bytes_per_s: None,
        wrong_bytes: false,
        address_bytes,
        released: shared.released.subscribe(),
        turn,
    };
    let mut tag = etag.to_owned();
    let (mut shift, mut whole, mut gzip) = (0, false, false);
    for fault in faults {
        match *fault {
            Fault::Truncate { after_bytes } => outgoing.stop = Some(Stop::Truncate { after_bytes }),
            Fault::Stall { after_bytes } => outgoing.stop = Some(Stop::Stall { after_bytes }),
            Fault::Reset { after_bytes } => outgoing.stop = Some(Stop::Reset { after_bytes }),
            Fault::Rate { bytes_per_s } => outgoing.rate_bytes_per_s = Some(bytes_per_s.max(1)),
            Fault::WrongBytes => outgoing.wrong_bytes = true,
            Fault::WrongContentRange => shift = 1,
            Fault::WholeForRange => whole = true,
            Fault::Gzip => gzip = true,
            Fault::EtagFlip => tag = format!("{:064x}", shared.next_signature()),
            _ => {}
        }
    }
    if gzip {
        return compressed(content, &tag);
    }
    let asked = ask.header(header::RANGE).filter(|_| !whole).map_or(Asked::Whole, |text| parse(text, size_bytes));
    let headers = vec![
        ("accept-ranges", "bytes".to_owned()),
        ("content-type", "application/octet-stream".to_owned()),
        ("etag", format!("\"{tag}\"")),
    ];
    match asked {
        Asked::Whole => Reply { status: 200, headers, payload: Payload::Content(Box::new(outgoing)) },
        Asked::Range { start, end } => {
            (outgoing.at, outgoing.end) = (start, end);
            let place = format!("bytes {}-{}/{size_bytes}", start + shift, end - 1 + shift);
            let reply = Reply { status: 206, headers, payload: Payload::Content(Box::new(outgoing)) };
            reply.with("content-range", place)
        }
        Asked::Beyond => {
            Reply::text(416, "Range Not Satisfiable").with("content-range", format!("bytes */{size_bytes}"))
        }
    }
}

/// Whole, compressed, without a length: what the hub does with text for clients that allow it.
pub(super) fn compressed(content: &Content, etag: &str) -> Reply {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&content.to_vec()).expect("memory");
    let bytes = encoder.finish().expect("memory");
    Reply {
        status: 200,
        headers: vec![
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("content-encoding", "gzip".to_owned()),
            ("etag", format!("W/\"{etag}\"")),
        ],
        payload: Payload::Chunked(bytes),
    }
}

enum Asked {
    Whole,
    Range { start: u64, end: u64 },
    Beyond,
}

/// A range that cannot be understood, or several, mean the whole, as the standard allows.
fn parse(text: &str, size_bytes: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|rest| rest.split_once('-')) else {
        return Asked::Whole;
    };
    let bounds = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(size_bytes)),
        (Ok(start), Err(_)) if last.is_empty() => (start, size_bytes),
        (Err(_), Ok(length)) if first.is_empty() => (size_bytes.saturating_sub(length), size_bytes),
        _ => return Asked::Whole,
    };
    if bounds.0 < bounds.1 { Asked::Range { start: bounds.0, end: bounds.1 } } else { Asked::Beyond }
}

impl Outgoing {
    pub fn length(&self) -> u64 {
        self.end - self.at
    }

    pub fn into_body(self, bytes_sent: Arc<AtomicU64>, peer: Peer) -> Body {
        let sending = Sending { outgoing: self, sent: 0, started: Instant::now(), bytes_sent, peer, ended: false };
        Body::from_stream(stream::unfold(sending, Sending::next))
    }
}

impl Sending {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if self.ended || self.outgoing.at == self.outgoing.end {
            return None;
        }
        let mut length = self.outgoing.end - self.outgoing.at;
        if let Some(stop) = self.outgoing.stop {
            if self.sent >= stop.after_bytes() {
                // What was given so far leaves the buffers before the connection ends.
                tokio::task::yield_now().await;
                match stop {
                    Stop::Truncate { .. } => return None,
                    Stop::Reset { .. } => {
                        self.peer.reset_on_close();
                        self.ended = true;
                        return Some((Err(io::ErrorKind::ConnectionReset.into()), self));
                    }
                    Stop::Stall { .. } => {
                        let _ = self.outgoing.released.changed().await;
                        self.outgoing.stop = None;
                    }
                }
            } else {
                length = length.min(stop.after_bytes() - self.sent);
            }
        }
        if let Some(rate) = self.outgoing.rate_bytes_per_s {
            // Fifty pieces a second: smooth enough for a progress bar, rare enough for a timer.
            length = length.min((rate / 50).max(1));
            let due = Duration::from_secs_f64(self.sent as f64 / rate as f64);
            tokio::time::sleep_until(self.started + due).await;
        }
        let mut piece = self.outgoing.content.piece(self.outgoing.at, length.min(PIECE_BYTES as u64));
        if self.outgoing.wrong_bytes && self.sent == 0 {
            let mut spoiled = BytesMut::from(&piece[..]);
            spoiled[0] ^= 0xff;
            piece = spoiled.freeze();
        }
        let taken = piece.len() as u64;
        self.outgoing.at += taken;
        self.sent += taken;
        self.bytes_sent.fetch_add(taken, Ordering::Relaxed);
        if let Some(given) = &self.outgoing.address_bytes {
            given.fetch_add(taken, Ordering::Relaxed);
        }
        Some((Ok(piece), self))
    }
}

//! A cursor over a `ByteSource` that reads ahead a little and never further than it may.
//!
//! Invariants: holds one small buffer; a position past the end of the file is `Truncated`, never a panic; bytes that
//! are skipped are not read. Not here: what the bytes mean.

use std::io;

use super::header::ByteSource;
use super::limits::over;
use super::{Format, FormatError};

/// Bytes read at once after a jump; doubled while reading goes on.
const FIRST_FILL_BYTES: usize = 512;
const FILL_BYTES_MAX: usize = 64 << 10;

pub(super) struct Window<'a> {
    source: &'a dyn ByteSource,
    format: Format,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    fill_bytes: usize,
    /// How many bytes may still be read from the source.
    walk_bytes_left: u64,
    walk_bytes_max: u64,
    pub(super) big_endian: bool,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a dyn ByteSource, format: Format, position: u64, walk_bytes_max: u64) -> Self {
        Self {
            source,
            format,
            position,
            buffer: Vec::new(),
            buffer_start: 0,
            fill_bytes: FIRST_FILL_BYTES,
            walk_bytes_left: walk_bytes_max,
            walk_bytes_max,
            big_endian: false,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    /// Jumps over `count` bytes; `Truncated` if there are not that many.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), FormatError> {
        self.position = self.end_of(count)?;
        Ok(())
    }

    pub(super) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    pub(super) fn exact(&mut self, mut target: &mut [u8]) -> Result<(), FormatError> {
        self.end_of(target.len() as u64)?;
        while !target.is_empty() {
            let ready = self.ready()?;
            let count = ready.len().min(target.len());
            let (head, rest) = target.split_at_mut(count);
            head.copy_from_slice(&ready[..count]);
            target = rest;
            self.position += count as u64;
        }
        Ok(())
    }

    /// `count` bytes as a vector; the caller has checked `count` against its limit.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, FormatError> {
        self.end_of(count as u64)?;
        let mut bytes = vec![0; count];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Text of `count` bytes, at most `count_max`.
    pub(super) fn text(&mut self, count: u64, count_max: u64, what: &'static str) -> Result<String, FormatError> {
        if count > count_max {
            return Err(over(what, count_max, count));
        }
        let bytes = self.bytes(usize::try_from(count).unwrap_or(usize::MAX))?;
        String::from_utf8(bytes).map_err(|_| FormatError::malformed(self.format, "a text is not UTF-8"))
    }

    /// Bytes up to and without the next line feed, which is consumed.
    pub(super) fn line(&mut self, bytes_max: usize) -> Result<Vec<u8>, FormatError> {
        let mut line = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return Ok(line),
                _ if line.len() >= bytes_max => {
                    return Err(over("bytes in one line", bytes_max as u64, bytes_max as u64 + 1));
                }
                byte => line.push(byte),
            }
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    fn end_of(&self, count: u64) -> Result<u64, FormatError> {
        let size = self.size_bytes();
        match self.position.checked_add(count) {
            Some(end) if end <= size => Ok(end),
            claimed_bytes => Err(FormatError::Truncated { claimed_bytes, actual_bytes: size }),
        }
    }

    /// The buffered bytes from the position on; never empty.
    fn ready(&mut self) -> Result<&[u8], FormatError> {
        let buffer_end = self.buffer_start + self.buffer.len() as u64;
        if !(self.buffer_start..buffer_end).contains(&self.position) {
            self.fill(self.position == buffer_end)?;
        }
        let start = usize::try_from(self.position - self.buffer_start).expect("inside the buffer");
        Ok(&self.buffer[start..])
    }

    fn fill(&mut self, reads_on: bool) -> Result<(), FormatError> {
        self.fill_bytes = if reads_on { (self.fill_bytes * 2).min(FILL_BYTES_MAX) } else { FIRST_FILL_BYTES };
        self.buffer.resize(self.fill_bytes, 0);
        self.buffer_start = self.position;
        let count = read_some(self.source, self.position, &mut self.buffer)?;
        self.buffer.truncate(count);
        if count == 0 {
            return Err(FormatError::Truncated { claimed_bytes: None, actual_bytes: self.position });
        }
        self.walk_bytes_left = self
            .walk_bytes_left
            .checked_sub(count as u64)
            .ok_or_else(|| over("bytes before the tensors", self.walk_bytes_max, self.walk_bytes_max + count as u64))?;
        Ok(())
    }
}

/// One read that is repeated when a signal interrupts it.
fn read_some(source: &dyn ByteSource, offset: u64, buffer: &mut [u8]) -> Result<usize, io::Error> {
    loop {
        match source.read_at(offset, buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|count| count.min(buffer.len())),
        }
    }
}

/// As many bytes as there are from `offset`, at most `count`.
pub(super) fn read_up_to(source: &dyn ByteSource, offset: u64, count: usize) -> Result<Vec<u8>, FormatError> {
    let there = source.size_bytes().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(count)];
    let mut filled = 0;
    while filled < bytes.len() {
        match read_some(source, offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

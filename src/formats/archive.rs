//! ZIP archives: the directory at the end, and one member's bytes.
//!
//! Only what torch needs, within limits: stored and deflated members, ZIP64, one disk. A general reader trusts the
//! counts of the directory when it reserves memory, and looks through the file where they are wrong; here both are
//! bounded, and reads touch the end of the file and the member that is asked for, nothing else.
//! Invariants: the directory is walked, never held; a member is unpacked to at most the limit of who asks.
//! Not here: what the members are (`torch`).

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

use super::header::ByteSource;
use super::limits::{WALK_BYTES_MAX, over};
use super::window::{Window, read_up_to};
use super::{Format, FormatError};

/// A checkpoint has one member per tensor, 10,000 at most so far.
const ENTRIES_MAX: u64 = 200_000;

const END_BYTES: usize = 22;
/// The end of the directory, and the longest comment that may follow it.
const TAIL_BYTES_MAX: usize = END_BYTES + 65_535;
const LOCATOR_BYTES: u64 = 20;
const LOCAL_HEADER_BYTES: u64 = 30;

const END_MAGIC: &[u8; 4] = b"PK\x05\x06";
const LOCATOR_MAGIC: u32 = 0x0706_4b50;
const WIDE_END_MAGIC: u32 = 0x0606_4b50;
const ENTRY_MAGIC: u32 = 0x0201_4b50;
const LOCAL_MAGIC: u32 = 0x0403_4b50;

/// The extra field with the 64-bit sizes.
const WIDE_EXTRA: u16 = 1;
const ENCRYPTED_FLAG: u16 = 1;

/// One member, as the directory names it.
pub(super) struct Entry {
    pub(super) name: String,
    flags: u16,
    method: u16,
    packed_bytes: u64,
    unpacked_bytes: u64,
    header_offset: u64,
}

/// Where the directory lies.
struct Directory {
    offset: u64,
    size_bytes: u64,
    entries: u64,
}

/// Shows every member to `visit`, in the order of the directory.
pub(super) fn entries(source: &dyn ByteSource, mut visit: impl FnMut(Entry)) -> Result<(), FormatError> {
    let directory = find(source)?;
    if directory.entries > ENTRIES_MAX {
        return Err(over("members", ENTRIES_MAX, directory.entries));
    }
    let actual_bytes = source.size_bytes();
    let mut window = Window::new(source, Format::TorchZip, directory.offset, WALK_BYTES_MAX);
    let end = directory.offset + directory.size_bytes;
    let mut sum_bytes = 0u64;
    for _ in 0..directory.entries {
        let entry = entry(&mut window)?;
        if window.position() > end {
            return Err(malformed("its directory is longer than it says"));
        }
        let least_end = LOCAL_HEADER_BYTES.saturating_add(entry.packed_bytes).saturating_add(entry.header_offset);
        sum_bytes = sum_bytes.saturating_add(entry.packed_bytes);
        let claimed = least_end.max(sum_bytes);
        if claimed > actual_bytes {
            return Err(FormatError::Truncated { claimed_bytes: Some(claimed), actual_bytes });
        }
        if least_end > directory.offset {
            return Err(malformed("a member reaches into its directory"));
        }
        visit(entry);
    }
    if window.position() != end {
        return Err(malformed("its directory is shorter than it says"));
    }
    Ok(())
}

fn malformed(reason: impl std::fmt::Display) -> FormatError {
    FormatError::malformed(Format::TorchZip, reason)
}

fn find(source: &dyn ByteSource) -> Result<Directory, FormatError> {
    let actual_bytes = source.size_bytes();
    let tail_start = actual_bytes.saturating_sub(TAIL_BYTES_MAX as u64);
    let tail = read_up_to(source, tail_start, TAIL_BYTES_MAX)?;
    // The reader of torch takes the last one, whatever comment it promises: any other choice would be another archive.
    let at = (0..(tail.len() + 1).saturating_sub(END_BYTES)).rev().find(|at| tail[*at..].starts_with(END_MAGIC));
    let at = at.ok_or(FormatError::Truncated { claimed_bytes: None, actual_bytes })?;
    let comment_bytes = tail[at + 20..at + END_BYTES].try_into().map(u16::from_le_bytes).expect("two bytes");
    let claimed_bytes = tail_start + (at + END_BYTES + usize::from(comment_bytes)) as u64;
    if claimed_bytes > actual_bytes {
        return Err(FormatError::Truncated { claimed_bytes: Some(claimed_bytes), actual_bytes });
    }
    let end_offset = tail_start + at as u64;

    let tail = tail.as_slice();
    let mut window = Window::new(&tail, Format::TorchZip, at as u64 + 10, WALK_BYTES_MAX);
    let mut directory =
        Directory { entries: window.u16()?.into(), size_bytes: window.u32()?.into(), offset: window.u32()?.into() };
    let mut directory_end = end_offset;
    if let Some(locator) = end_offset.checked_sub(LOCATOR_BYTES) {
        let mut window = Window::new(source, Format::TorchZip, locator, WALK_BYTES_MAX);
        if window.u32()? == LOCATOR_MAGIC {
            window.skip(4)?;
            directory_end = window.u64()?;
            let wide = wide_directory(source, directory_end)?;
            // Some readers look at the one where the other would do.
            let fits = |narrow: u64, wide: u64, most: u64| narrow == wide || narrow == most;
            if !fits(directory.entries, wide.entries, 0xffff)
                || !fits(directory.size_bytes, wide.size_bytes, 0xffff_ffff)
                || !fits(directory.offset, wide.offset, 0xffff_ffff)
            {
                return Err(malformed("its end names two directories"));
            }
            directory = wide;
        }
    }
    match directory.offset.checked_add(directory.size_bytes) {
        Some(claimed) if claimed <= directory_end => Ok(directory),
        claimed_bytes => Err(FormatError::Truncated { claimed_bytes, actual_bytes }),
    }
}

fn wide_directory(source: &dyn ByteSource, offset: u64) -> Result<Directory, FormatError> {
    let mut window = Window::new(source, Format::TorchZip, offset, WALK_BYTES_MAX);
    if window.u32()? != WIDE_END_MAGIC {
        return Err(malformed("the end of its directory is not where it says"));
    }
    window.skip(28)?;
    Ok(Directory { entries: window.u64()?, size_bytes: window.u64()?, offset: window.u64()? })
}

fn entry(window: &mut Window<'_>) -> Result<Entry, FormatError> {
    if window.u32()? != ENTRY_MAGIC {
        return Err(malformed("its directory holds something else than members"));
    }
    window.skip(4)?;
    let flags = window.u16()?;
    let method = window.u16()?;
    window.skip(8)?;
    let mut packed_bytes = window.u32()?.into();
    let mut unpacked_bytes = window.u32()?.into();
    let [name_bytes, extra_bytes, comment_bytes] = [window.u16()?, window.u16()?, window.u16()?];
    window.skip(8)?;
    let mut header_offset = window.u32()?.into();
    let name = window.bytes(name_bytes.into())?;
    let extra_end = window.position() + u64::from(extra_bytes);
    while window.position() + 4 <= extra_end {
        let (kind, length) = (window.u16()?, u64::from(window.u16()?));
        let field_end = window.position() + length;
        if kind == WIDE_EXTRA {
            // In this order, and only those that do not fit elsewhere.
            for value in [&mut unpacked_bytes, &mut packed_bytes, &mut header_offset] {
                if *value == 0xffff_ffff && window.position() + 8 <= field_end {
                    *value = window.u64()?;
                }
            }
        }
        window.seek(field_end);
    }
    window.seek(extra_end);
    window.skip(comment_bytes.into())?;
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok(Entry { name, flags, method, packed_bytes, unpacked_bytes, header_offset })
}

/// A member's bytes: where they lie, or unpacked.
pub(super) enum Member<'a> {
    Stored { source: &'a dyn ByteSource, start: u64, size_bytes: u64 },
    Unpacked(Vec<u8>),
}

impl ByteSource for Member<'_> {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Stored { size_bytes, .. } => *size_bytes,
            Self::Unpacked(bytes) => bytes.len() as u64,
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored { source, start, size_bytes } => {
                let left = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
                let count = buffer.len().min(left);
                if count == 0 { Ok(0) } else { source.read_at(start + offset, &mut buffer[..count]) }
            }
            Self::Unpacked(bytes) => bytes.as_slice().read_at(offset, buffer),
        }
    }
}

/// Finds the bytes of `entry`; a member that is packed must unpack to at most `unpacked_bytes_max`.
pub(super) fn open<'a>(
    source: &'a dyn ByteSource,
    entry: &Entry,
    unpacked_bytes_max: u64,
) -> Result<Member<'a>, FormatError> {
    let mut window = Window::new(source, Format::TorchZip, entry.header_offset, WALK_BYTES_MAX);
    if window.u32()? != LOCAL_MAGIC {
        return Err(malformed("a member is not where its directory says"));
    }
    window.skip(22)?;
    let (name_bytes, extra_bytes) = (window.u16()?, window.u16()?);
    let name = window.bytes(name_bytes.into())?;
    if String::from_utf8_lossy(&name) != entry.name {
        return Err(malformed("a member has two names"));
    }
    window.skip(extra_bytes.into())?;
    let stored = Member::Stored { source, start: window.position(), size_bytes: entry.packed_bytes };
    window.skip(entry.packed_bytes)?;
    if entry.flags & ENCRYPTED_FLAG != 0 {
        return Err(malformed("a member is encrypted"));
    }
    match entry.method {
        0 if entry.packed_bytes == entry.unpacked_bytes => Ok(stored),
        0 => Err(malformed("a member that is not packed has two sizes")),
        8 if entry.unpacked_bytes > unpacked_bytes_max => {
            Err(over("bytes in a packed member", unpacked_bytes_max, entry.unpacked_bytes))
        }
        8 => unpack(&stored, unpacked_bytes_max),
        method => Err(malformed(format_args!("a member is packed by the unknown method {method}"))),
    }
}

fn unpack<'a>(packed: &Member<'a>, bytes_max: u64) -> Result<Member<'a>, FormatError> {
    let mut unpacked = Vec::new();
    let reader = Sequential { source: packed, position: 0 };
    match DeflateDecoder::new(reader).take(bytes_max + 1).read_to_end(&mut unpacked) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(malformed("a member cannot be unpacked")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(malformed("a member cannot be unpacked")),
        Err(error) => Err(error.into()),
        Ok(_) if unpacked.len() as u64 > bytes_max => {
            Err(over("bytes in a packed member", bytes_max, unpacked.len() as u64))
        }
        Ok(_) => Ok(Member::Unpacked(unpacked)),
    }
}

/// Reads a member from start to end.
struct Sequential<'a> {
    source: &'a Member<'a>,
    position: u64,
}

impl Read for Sequential<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

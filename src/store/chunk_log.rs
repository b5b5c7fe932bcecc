//! The file of a chunk map: read whole at the opening, then written in place.
//!
//! Invariants: a record is appended in one write, and one that failed is overwritten by the next; a log is replaced by
//! a rename, so that there is always a whole one. Not here: what its bytes mean (`chunk_map`), and when a record may be
//! written (`partial`).

use super::StoreError;
use super::beginning::Begun;
use super::chunk_map::{Beginning, CHUNK_BYTES, ChunkMap, HEADER_BYTES, Header, Layout, RECORD_BYTES, Record, Replay};
use super::disk;
use super::error::AtPath;
use super::layout::sync_folder;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(super) const MAP: &str = "map";
pub(super) const MAP_NEW: &str = "map.new";
/// Records beyond what the chunks need, before opening rewrites the log.
const SPARE_RECORDS: u32 = 4096;

/// A log that is written to.
#[derive(Debug)]
pub(super) struct Log {
    pub file: File,
    pub path: PathBuf,
    pub records: u32,
    nonce: u32,
    /// There was no room to begin it: the old log lies there still and is replaced before the first record. Until then it
    /// says less than the map, or things that are compared with the bytes at the next opening as they were at this one.
    owed: Option<Header>,
}

impl Log {
    /// Whether a log holds so much that is out of date that it is to be rewritten.
    pub fn is_long(records: u32, map: &ChunkMap) -> bool {
        records > 2 * map.count() + SPARE_RECORDS
    }

    /// The log that lies there, of the current layout.
    pub fn continued(folder: &Path, records: u32, nonce: u32) -> Result<Self, StoreError> {
        let path = folder.join(MAP);
        let file = OpenOptions::new().write(true).open(&path).at("open", &path)?;
        Ok(Self { file, path, records, nonce, owed: None })
    }

    /// The log that lies there, until there is room for the one that `header` begins.
    pub fn owed(folder: &Path, records: u32, header: Header) -> Result<Self, StoreError> {
        let path = folder.join(MAP);
        let file = File::open(&path).at("open", &path)?;
        Ok(Self { file, path, records, nonce: header.nonce, owed: Some(header) })
    }

    /// `map` and `begun` are as they were before the record.
    pub fn append(&mut self, map: &ChunkMap, begun: &Begun, record: Record) -> Result<(), StoreError> {
        if let Some(header) = self.owed {
            // Everything in the map was synced when it was opened, and nothing was added since.
            let folder = self.path.parent().expect("a log lies in a folder");
            *self = write_log(folder, map, begun, &header)?;
        }
        let at = Layout::Current.records_at() as u64 + u64::from(self.records) * RECORD_BYTES as u64;
        disk::write_at(&self.file, &record.encode(self.records, self.nonce), at).at("write", &self.path)?;
        self.records += 1;
        Ok(())
    }

    /// Where to write slots. A log that is owed has none yet: the whole chunk will ask for its room.
    pub fn slots(&self) -> Result<Option<Slots>, StoreError> {
        if self.owed.is_some() {
            return Ok(None);
        }
        let file = self.file.try_clone().at("open", &self.path)?;
        Ok(Some(Slots { file, path: self.path.clone(), nonce: self.nonce }))
    }
}

/// The slots of a log, to be written beside its records.
pub(super) struct Slots {
    file: File,
    path: PathBuf,
    nonce: u32,
}

impl Slots {
    /// Writes a slot over.
    pub fn write(&self, slot: u32, beginning: Beginning) -> Result<(), StoreError> {
        disk::write_at(&self.file, &beginning.encode(slot, self.nonce), Beginning::at(slot)).at("write", &self.path)
    }
}

/// What lies where a log is expected.
pub(super) enum Found {
    /// Nothing that means anything.
    Nothing,
    /// Made by a later version of this program.
    Newer,
    Whole(Box<Replay>),
}

pub(super) fn read_log(path: &Path) -> Result<Found, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error).at("open", path),
    };
    let mut head = Vec::new();
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut head).at("read", path)?;
    if Layout::is_newer(&head) {
        return Ok(Found::Newer);
    }
    let Some((header, layout)) = Header::decode(&head) else { return Ok(Found::Nothing) };
    // What a sane log can hold; a longer one is read so far and then counts as torn.
    let records = 3 * header.size_bytes.div_ceil(CHUNK_BYTES) + u64::from(SPARE_RECORDS);
    let limit = layout.records_at() as u64 + records * RECORD_BYTES as u64;
    file.take(limit - HEADER_BYTES as u64).read_to_end(&mut head).at("read", path)?;
    Ok(Replay::of(&head).map_or(Found::Nothing, |replay| Found::Whole(Box::new(replay))))
}

/// Replaces the log by one that says the same, durably.
pub(super) fn write_log(folder: &Path, map: &ChunkMap, begun: &Begun, header: &Header) -> Result<Log, StoreError> {
    let (path, new) = (folder.join(MAP), folder.join(MAP_NEW));
    let (bytes, records) = map.to_log(header, begun.slots());
    let file = disk::create(&new).at("create", &new)?;
    disk::write_at(&file, &bytes, 0).at("write", &new)?;
    disk::sync_all(&file).at("sync", &new)?;
    disk::rename(&new, &path).at("rename", &new)?;
    sync_folder(folder)?;
    Ok(Log { file, path, records, nonce: header.nonce, owed: None })
}

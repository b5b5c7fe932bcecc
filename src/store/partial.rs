//! Partial files: a sparse file that fills in any order, and the durable map of what is here.
//!
//! Layout: `partial/<key>/data` and `partial/<key>/map` (see `chunk_map`). Invariants: present bytes are never written
//! again; a chunk counts as present only after its bytes are in the file, and as proven only after they are synced, so
//! that neither a killed process nor a power cut yields a wrong byte; whichever of the two files is lost, what is left
//! counts as nothing. One process holds a partial at a time, by a lock on its folder. Not here: chunks that are not here
//! as a whole (`beginning`), the file of the map (`chunk_log`), publishing (`filled`).
//!
//! Lock order: `prefix`, then `syncing`, then `state`. Only `state` is taken by readers; it is held for a record of the
//! log at most, never while chunk bytes are read, written or synced.

use super::beginning::Begun;
use super::chunk_log::{Found, Log, MAP, MAP_NEW, read_log, write_log};
use super::chunk_map::{Beginning, CHUNK_BYTES, ChunkMap, FILE_BYTES_MAX, Header, Layout, Record, Replay};
use super::disk;
use super::error::AtPath;
use super::evict::hold;
use super::filled::Prefix;
use super::hash::sha256_of;
use super::layout::sync_folder;
use super::{Store, StoreError};
use crate::base::{BlobId, ByteRange, Digest, RangeSet};
use crate::formats::ByteSource;
use parking_lot::{Condvar, Mutex};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const DATA: &str = "data";
const KEY_BYTES_MAX: usize = 64;
/// The folder of a partial can be removed while it is being locked; twice in a row is already unheard of.
const FOLDER_TRIES: u32 = 16;

/// Names a partial file; safe as a folder name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartialKey(String);

impl PartialKey {
    pub fn of_blob(blob: BlobId) -> Self {
        Self(format!("b{blob}"))
    }

    /// Lower-case letters, digits, `-` and `_`.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let ok = !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(allowed);
        ok.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which content is being filled in. Bytes kept from before are used only when the sha256 or the etag proves that they
/// belong to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialIdentity {
    pub size_bytes: u64,
    pub sha256: Option<Digest>,
    pub etag: Option<String>,
}

impl PartialIdentity {
    fn header(&self) -> Header {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // Unique in practice is enough: it only keeps bytes of an overwritten log from being taken for new ones.
        let seed =
            [since.as_nanos() as u64, u64::from(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed).into()];
        let nonce = seed.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        Header {
            size_bytes: self.size_bytes,
            sha256: self.sha256,
            etag: self.etag.as_ref().map(|etag| sha256_of(etag.as_bytes())),
            nonce: crc32fast::hash(&nonce),
        }
    }
}

/// A file of which some chunks are here. Shared between threads; every method takes `&self`.
#[derive(Debug)]
pub struct Partial {
    pub(super) folder: PathBuf,
    pub(super) data_path: PathBuf,
    pub(super) data: File,
    pub(super) size_bytes: u64,
    pub(super) sha256: Option<Digest>,
    pub(super) prefix: Mutex<Prefix>,
    syncing: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// A chunk that somebody was writing is written or given up.
    pub(super) settled: Condvar,
    /// Holds the lock; closed last.
    _lock: File,
}

#[derive(Debug)]
pub(super) struct State {
    pub map: ChunkMap,
    /// What is kept of chunks that are not here as a whole.
    pub begun: Begun,
    pub log: Log,
    /// Chunks that are being written at this moment.
    pub claimed: BTreeSet<u32>,
    /// Chunk bytes that are not proven yet.
    unsynced_bytes: u64,
    life: Life,
}

impl State {
    fn new(map: ChunkMap, begun: Begun, log: Log) -> Self {
        Self { map, begun, log, claimed: BTreeSet::new(), unsynced_bytes: 0, life: Life::Filling }
    }

    /// Whether chunks may still be written.
    pub fn is_filling(&self) -> bool {
        self.life == Life::Filling
    }
}

/// Steps are only ever taken downwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Life {
    Filling,
    /// To be published: no chunk is written any more.
    Sealed,
    /// Published, discarded or in quarantine: another partial file may lie at its place.
    Gone,
}

/// What `Store::partials` tells about one partial file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialInfo {
    pub key: PartialKey,
    pub size_bytes: u64,
    pub bytes_present: u64,
}

impl Store {
    fn partial_folder(&self, key: &PartialKey) -> PathBuf {
        self.partial().join(key.as_str())
    }

    /// Opens or begins a partial file. `Busy` when it is open already, here or in another process.
    pub fn open_partial(&self, key: &PartialKey, identity: &PartialIdentity) -> Result<Partial, StoreError> {
        let folder = self.partial_folder(key);
        if identity.size_bytes > FILE_BYTES_MAX {
            return Err(StoreError::TooLarge {
                path: folder,
                size_bytes: identity.size_bytes,
                limit_bytes: FILE_BYTES_MAX,
            });
        }
        let lock = lock_folder(&folder, true)?.expect("it is made when it is missing");
        let wanted = identity.header();
        let (data_path, map_path) = (folder.join(DATA), folder.join(MAP));
        let kept = match (open_data(&data_path, wanted.size_bytes)?, read_log(&map_path)?) {
            (_, Found::Newer) => return Err(StoreError::Newer { path: map_path }),
            (Some(data), Found::Whole(replay)) if wanted.continues(&replay.header) => Some((data, replay)),
            _ => None,
        };
        let (data, state) = match kept {
            Some((data, replay)) => continue_log(&folder, data, *replay, wanted)?,
            None => begin(&folder, wanted)?,
        };
        // It stays the same file when it is published: whoever reads it through here keeps it from being evicted.
        hold(&data, &data_path)?;
        Ok(Partial {
            prefix: Mutex::new(Prefix::default()),
            syncing: Mutex::new(()),
            settled: Condvar::new(),
            size_bytes: identity.size_bytes,
            sha256: identity.sha256,
            state: Mutex::new(state),
            folder,
            data_path,
            data,
            _lock: lock,
        })
    }

    /// Removes a partial file that nobody has open. One that is not there is no error.
    pub fn discard_partial(&self, key: &PartialKey) -> Result<(), StoreError> {
        let folder = self.partial_folder(key);
        match lock_folder(&folder, false)? {
            Some(_lock) => remove_folder(&folder),
            None => Ok(()),
        }
    }

    /// Every partial file, as its log tells; those in use too. Folders that hold none are passed over.
    pub fn partials(&self) -> Result<Vec<PartialInfo>, StoreError> {
        let partial = self.partial();
        let mut found = Vec::new();
        for entry in fs::read_dir(&partial).at("list", &partial)? {
            let entry = entry.at("list", &partial)?;
            let Some(key) = entry.file_name().to_str().and_then(PartialKey::new) else { continue };
            found.extend(self.partial_info(&key)?);
        }
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    /// One partial file, as its log tells; nothing when there is none that can be read.
    pub fn partial_info(&self, key: &PartialKey) -> Result<Option<PartialInfo>, StoreError> {
        let Found::Whole(replay) = read_log(&self.partial_folder(key).join(MAP))? else { return Ok(None) };
        let (size_bytes, bytes_present) = (replay.header.size_bytes, replay.map.bytes_present());
        Ok(Some(PartialInfo { key: key.clone(), size_bytes, bytes_present }))
    }
}

impl Partial {
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn bytes_present(&self) -> u64 {
        self.state.lock().map.bytes_present()
    }

    pub fn is_complete(&self) -> bool {
        self.state.lock().map.is_complete()
    }

    /// Number of chunks of the whole file.
    pub fn chunk_count(&self) -> u64 {
        self.size_bytes.div_ceil(CHUNK_BYTES)
    }

    /// The bytes of one chunk; the last one can be shorter.
    pub fn chunk_range(&self, index: u64) -> Option<ByteRange> {
        let start = index.checked_mul(CHUNK_BYTES)?;
        ByteRange::from_bounds(start, self.size_bytes.min(start.checked_add(CHUNK_BYTES)?))
    }

    pub fn has(&self, range: &ByteRange) -> bool {
        let state = self.state.lock();
        range.end() <= self.size_bytes && state.map.touching(range).all(|chunk| state.map.has(chunk))
    }

    pub fn has_chunk(&self, index: u64) -> bool {
        u32::try_from(index).is_ok_and(|chunk| self.state.lock().map.has(chunk))
    }

    /// Everything that is here.
    pub fn present(&self) -> RangeSet {
        let state = self.state.lock();
        let mut set = RangeSet::new();
        state.map.chunks().filter_map(|chunk| state.map.range(chunk)).for_each(|range| set.insert(range));
        set
    }

    /// The chunks that must arrive before a range can be read, in order.
    pub fn missing_chunks(&self, range: &ByteRange) -> Vec<u64> {
        let state = self.state.lock();
        state.map.touching(range).filter(|chunk| !state.map.has(*chunk)).map(u64::from).collect()
    }

    /// Writes one whole chunk, all but what is kept of its beginning. `false` when it was here already, which leaves the
    /// file as it is. Waits while another thread writes the same chunk.
    pub fn write_chunk(&self, index: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let bad = || self.bad_chunk(index, bytes);
        let range = self.chunk_range(index).filter(|range| range.len() == bytes.len() as u64).ok_or_else(bad)?;
        let chunk = u32::try_from(index).map_err(|_| bad())?;
        let mut state = self.state.lock();
        while state.claimed.contains(&chunk) {
            self.settled.wait(&mut state);
        }
        if state.life != Life::Filling {
            return Err(bad());
        }
        if state.map.has(chunk) {
            return Ok(false);
        }
        state.claimed.insert(chunk);
        let begun = state.begun.seen(chunk);
        drop(state);
        let (kept, crc32) = checksum(bytes, begun);
        let written = self.write_data(&bytes[kept..], range.start() + kept as u64);
        let mut state = self.state.lock();
        state.claimed.remove(&chunk);
        self.settled.notify_all();
        written?;
        let State { log, map, begun, .. } = &mut *state;
        log.append(map, begun, Record::Present { chunk, crc32 })?;
        map.insert(chunk, crc32);
        begun.remove(chunk);
        state.unsynced_bytes += range.len();
        Ok(true)
    }

    pub(super) fn bad_chunk(&self, index: u64, bytes: &[u8]) -> StoreError {
        StoreError::BadChunk { path: self.data_path.clone(), index, bytes: bytes.len() }
    }

    pub(super) fn write_data(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        disk::write_at(&self.data, bytes, at).at("write", &self.data_path)
    }

    /// Fills the buffer from `offset`; fewer bytes only at the end of the file. `NotPresent` when a byte is missing.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let len = self.size_bytes.saturating_sub(offset).min(buffer.len() as u64);
        let Some(range) = ByteRange::new(offset, len) else { return Ok(0) };
        if !self.has(&range) {
            return Err(StoreError::NotPresent { path: self.data_path.clone() });
        }
        self.data.read_exact_at(&mut buffer[..len as usize], offset).at("read", &self.data_path)?;
        Ok(len as usize)
    }

    /// Bytes that a power cut would take away at this moment.
    pub fn unsynced_bytes(&self) -> u64 {
        self.state.lock().unsynced_bytes
    }

    /// Makes everything written so far survive a power cut. Costs nothing when there is nothing new.
    pub fn sync(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.syncing.lock();
        let (records, unsynced_bytes) = {
            let state = self.state.lock();
            (state.log.records, state.unsynced_bytes)
        };
        if unsynced_bytes == 0 {
            return Ok(());
        }
        disk::sync_data(&self.data).at("sync", &self.data_path)?;
        let log = {
            let mut state = self.state.lock();
            let State { log, map, begun, .. } = &mut *state;
            log.append(map, begun, Record::Synced { records })?;
            state.unsynced_bytes -= unsynced_bytes;
            state.log.file.try_clone().at("sync", &state.log.path)?
        };
        disk::sync_data(&log).at("sync", &self.folder.join(MAP))
    }

    /// Counts chunks as missing again because their bytes are damaged. Durable before it returns, so that new bytes can
    /// never be taken for the old ones.
    pub(super) fn forget(&self, chunks: &[u32]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let State { log, map, begun, .. } = &mut *state;
        for chunk in chunks {
            log.append(map, begun, Record::Removed { chunk: *chunk })?;
            map.remove(*chunk);
        }
        // Under the lock, against the rule above: nobody may write these chunks before this is done. It is rare.
        disk::sync_data(&log.file).at("sync", &log.path)
    }

    /// The recorded CRC32 of a chunk that is here.
    pub(super) fn chunk_crc32(&self, chunk: u32) -> Option<u32> {
        self.state.lock().map.crc32(chunk)
    }

    /// No chunk is written after this; `false` when its files are given up.
    pub(super) fn seal(&self) -> bool {
        self.end_filling(Life::Sealed)
    }

    /// Gives up its files; `false` when they were before.
    pub(super) fn retire(&self) -> bool {
        self.end_filling(Life::Gone)
    }

    fn end_filling(&self, life: Life) -> bool {
        let mut state = self.state.lock();
        while !state.claimed.is_empty() {
            self.settled.wait(&mut state);
        }
        let before = state.life;
        state.life = before.max(life);
        before != Life::Gone
    }

    /// Removes the files of a partial that is open here. Reads of what is here go on working.
    pub fn discard(&self) -> Result<(), StoreError> {
        if self.retire() { remove_folder(&self.folder) } else { Ok(()) }
    }
}

impl ByteSource for Partial {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Self::read_at(self, offset, buffer).map_err(io::Error::other)
    }
}

/// Locks the folder of one partial; `None` when it is not there and not to be made.
fn lock_folder(path: &Path, make: bool) -> Result<Option<File>, StoreError> {
    for _ in 0..FOLDER_TRIES {
        match disk::create_folder(path) {
            _ if !make => {}
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).at("create", path),
            _ => {}
        }
        let folder = match File::open(path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).at("open", path),
        };
        match flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
            Ok(()) if folder.metadata().at("read", path)?.nlink() > 0 => return Ok(Some(folder)),
            // Removed between opening and locking.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(StoreError::Busy { path: path.to_owned() });
            }
            Err(error) => return Err(error).at("lock", path),
        }
    }
    Err(StoreError::Busy { path: path.to_owned() })
}

fn open_data(path: &Path, size_bytes: u64) -> Result<Option<File>, StoreError> {
    let file = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("open", path),
    };
    let metadata = file.metadata().at("read", path)?;
    Ok((metadata.is_file() && metadata.len() == size_bytes).then_some(file))
}

/// CRC32 of a whole chunk, and how many of its bytes are in the file already because they are the beginning that was kept.
fn checksum(bytes: &[u8], begun: Option<Beginning>) -> (usize, u32) {
    if let Some(begun) = begun
        && let Some((beginning, rest)) = bytes.split_at_checked(begun.bytes as usize)
    {
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(beginning);
        if crc32.clone().finalize() == begun.crc32 {
            crc32.update(rest);
            return (beginning.len(), crc32.finalize());
        }
    }
    (0, crc32fast::hash(bytes))
}

/// Takes up a partial file where it was left.
fn continue_log(folder: &Path, data: File, replay: Replay, wanted: Header) -> Result<(File, State), StoreError> {
    let Replay { header, layout, mut map, unproven, begun, records, torn } = replay;
    let (data_path, begun) = (folder.join(DATA), Begun::new(begun));
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    for chunk in &unproven {
        let range = map.range(*chunk).expect("replay checked it");
        let bytes = &mut buffer[..range.len() as usize];
        data.read_exact_at(bytes, range.start()).at("read", &data_path)?;
        if map.crc32(*chunk) != Some(crc32fast::hash(bytes)) {
            map.remove(*chunk);
        }
    }
    let known = layout == Layout::Current && Header { nonce: header.nonce, ..wanted } == header;
    if known && !torn && unproven.is_empty() && !Log::is_long(records, &map) {
        let log = Log::continued(folder, records, header.nonce)?;
        return Ok((data, State::new(map, begun, log)));
    }
    // The new log calls every chunk proven.
    disk::sync_data(&data).at("sync", &data_path)?;
    // What was known before and is not asked for now is kept: it still tells the content.
    let merged = Header { sha256: wanted.sha256.or(header.sha256), etag: wanted.etag.or(header.etag), ..wanted };
    let log = match write_log(folder, &map, &begun, &merged) {
        // What is here can be read all the same; whoever writes more is told, or finds room again.
        Err(StoreError::NoSpace { .. }) => Log::owed(folder, records, merged)?,
        log => log?,
    };
    Ok((data, State::new(map, begun, log)))
}

/// Begins with nothing. The old map goes first: it must never speak for a new data file.
fn begin(folder: &Path, header: Header) -> Result<(File, State), StoreError> {
    let data_path = folder.join(DATA);
    remove_contents(folder)?;
    let data = disk::create(&data_path).at("create", &data_path)?;
    disk::set_len(&data, header.size_bytes).at("resize", &data_path)?;
    disk::sync_all(&data).at("sync", &data_path)?;
    let (map, begun) = (ChunkMap::new(header.size_bytes), Begun::default());
    let log = write_log(folder, &map, &begun, &header)?;
    if let Some(parent) = folder.parent() {
        sync_folder(parent)?;
    }
    Ok((data, State::new(map, begun, log)))
}

fn remove_contents(folder: &Path) -> Result<(), StoreError> {
    for name in [MAP, MAP_NEW, DATA] {
        let path = folder.join(name);
        match disk::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", &path),
            _ => {}
        }
        // Never a map without the data it speaks for, on disk neither.
        sync_folder(folder)?;
    }
    Ok(())
}

/// Removes what is left of a partial file, its map first.
pub(super) fn remove_folder(folder: &Path) -> Result<(), StoreError> {
    remove_contents(folder)?;
    disk::remove_folder(folder).at("remove", folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn without_room_what_is_here_can_be_opened_and_goes_on_later() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(&folder.path().join("store")).expect("create");
        let key = PartialKey::new("k").expect("a key");
        let identity = PartialIdentity { size_bytes: 3 * CHUNK_BYTES, sha256: None, etag: Some("e".to_owned()) };
        let chunk = |byte: u8| vec![byte; CHUNK_BYTES as usize];
        let open = || store.open_partial(&key, &identity).expect("opens");
        let first = open();
        first.write_chunk(0, &chunk(1)).expect("written");
        first.write_chunk(1, &chunk(2)).expect("written");
        // Lost before it was synced.
        first.data.write_all_at(b"rot", CHUNK_BYTES + 9).expect("written");
        drop(first);
        let new = store.partial_folder(&key).join(MAP_NEW);
        symlink("/dev/full", &new).expect("no room for a new log");
        for _ in 0..2 {
            let full = open();
            let mut bytes = chunk(0);
            full.read_at(0, &mut bytes).expect("it is here");
            assert_eq!((bytes, full.bytes_present()), (chunk(1), CHUNK_BYTES));
            assert!(matches!(full.write_chunk(2, &chunk(3)), Err(StoreError::NoSpace { .. })));
            assert!(!full.has_chunk(2));
        }
        let full = open();
        fs::remove_file(&new).expect("room again");
        full.write_chunk(2, &chunk(3)).expect("written");
        full.sync().expect("synced");
        drop(full);
        let again = open();
        assert_eq!([0, 1, 2].map(|chunk| again.has_chunk(chunk)), [true, false, true]);
        again.write_chunk(1, &chunk(2)).expect("written");
        assert!(again.is_complete());
    }
}

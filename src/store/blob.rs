//! Complete, verified files: publishing, opening, checking, removing and listing them.
//!
//! Invariants: a file appears under `models/<sha256>/` only after its bytes hash to that name and are on disk (data
//! synced, renamed, folders synced); it is mode 0444 and no writable name outside leads to its inode. Names are made and
//! removed under a lock on the blob's folder, so that two processes never make two copies. Not here: the catalog row,
//! which the library writes afterwards and deletes before.

use super::disk;
use super::error::AtPath;
use super::evict::{EVICTION_POLL, EVICTION_POLLS_MAX};
use super::layout::sync_folder;
use super::pipeline::{check_unchanged, hash_open_file};
use super::source::safetensors_data_start;
use super::staging::{Staged, StagedBytes};
use super::{Cancel, FileSource, FileStamp, Hashes, Store, StoreError};
use crate::base::{Digest, EntryName};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

const BLOB_MODE: u32 = 0o444;
/// Below this many files, syncing each costs less than syncing the filesystem with everything that others write.
const BATCH_FILES_MIN: usize = 8;
/// The folder of a blob can be removed while it is being locked; twice in a row is already unheard of.
const FOLDER_TRIES: u32 = 16;

/// Where a published file lies now.
#[derive(Debug)]
#[must_use = "a move is complete only after `finish_move`"]
pub struct Published {
    pub path: PathBuf,
    /// Differs from the name asked for when the content was there under another one.
    pub name: EntryName,
    /// Whether the content was not in the store before.
    pub fresh: bool,
    source: Source,
    /// Keeps a file that was there before from being evicted until the catalog counts on it again.
    _held: Option<File>,
}

#[derive(Debug)]
enum Source {
    /// Not a move.
    Stays,
    /// Renamed into the store.
    Taken(PathBuf),
    /// Copied, or its content was there already.
    Remains(PathBuf, FileStamp),
}

impl Published {
    /// Published from something that is no file of the user's.
    pub(super) fn stays(path: PathBuf, placed: Placed) -> Self {
        Self { path, name: placed.name, fresh: placed.fresh, source: Source::Stays, _held: placed.held }
    }

    /// Takes the source of a move away. To be called when the catalog knows the blob; does nothing for a copy.
    pub fn finish_move(self, leave_symlink: bool) -> Result<(), StoreError> {
        match self.source {
            Source::Stays => Ok(()),
            Source::Taken(source) if leave_symlink => match symlink(&self.path, &source) {
                // Somebody has put a new file there: it is not ours.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                result => result.at("link", &source),
            },
            Source::Taken(_) => Ok(()),
            Source::Remains(source, stamp) => {
                let now = source.symlink_metadata().at("read", &source)?;
                if FileStamp::of(&now) != stamp {
                    return Err(StoreError::Changed { path: source });
                }
                fs::remove_file(&source).at("remove", &source)?;
                if leave_symlink {
                    symlink(&self.path, &source).at("link", &source)?;
                }
                Ok(())
            }
        }
    }
}

/// When the names that were given are to be on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    Now,
    /// The caller syncs the whole filesystem before anybody is told.
    Soon,
}

/// What lies under `models/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobEntry {
    Blob {
        sha256: Digest,
        name: EntryName,
        size_bytes: u64,
    },
    /// Something that no store has put there.
    Stray(PathBuf),
}

impl Store {
    /// Makes a staged file visible as `models/<sha256>/<name>`. When the content is there already, that file stays and
    /// the staged one is given up.
    pub fn publish(&self, staged: Staged, name: &EntryName) -> Result<Published, StoreError> {
        let Staged { hashes, stamp, bytes, moved_from } = staged;
        let sha256 = hashes.sha256;
        let placed = match &bytes {
            StagedBytes::Copy(staging) => {
                if moved_from.is_some() {
                    self.drop_damaged(&sha256, stamp.size_bytes)?;
                }
                seal(&staging.file, &staging.path)?;
                self.place(&staging.path, &sha256, name, stamp.size_bytes, Durable::Now)?
            }
            StagedBytes::InPlace(file) => {
                let source = moved_from.as_deref().expect("only a move is staged in place");
                match self.take(file, source, &stamp, &sha256, name)? {
                    Some(placed) => placed,
                    None => return self.publish_other_device(source, &sha256, name),
                }
            }
        };
        let source = match (moved_from, &bytes) {
            (None, _) => Source::Stays,
            (Some(path), StagedBytes::InPlace(_)) if placed.fresh => Source::Taken(path),
            (Some(path), _) => Source::Remains(path, stamp),
        };
        Ok(Published { source, ..Published::stays(self.blob_path(&sha256, &placed.name), placed) })
    }

    /// As `publish` for many small files: two syncs of the filesystem instead of three a file. What the outer result
    /// refuses is not published at all.
    pub fn publish_all(
        &self,
        staged: Vec<(Staged, EntryName)>,
    ) -> Result<Vec<Result<Published, StoreError>>, StoreError> {
        if staged.len() < BATCH_FILES_MIN {
            return Ok(staged.into_iter().map(|(staged, name)| self.publish(staged, &name)).collect());
        }
        let sealed: Vec<_> = staged.into_iter().map(|(staged, name)| self.seal_unsynced(staged, name)).collect();
        self.sync_filesystem()?;
        let publish = |(staged, name): (Staged, EntryName)| self.publish_synced(staged, &name);
        let published = sealed.into_iter().map(|sealed| sealed.and_then(publish)).collect();
        self.sync_filesystem()?;
        Ok(published)
    }

    fn seal_unsynced(&self, staged: Staged, name: EntryName) -> Result<(Staged, EntryName), StoreError> {
        if let StagedBytes::Copy(staging) = &staged.bytes {
            if staged.moved_from.is_some() {
                self.drop_damaged(&staged.hashes.sha256, staged.stamp.size_bytes)?;
            }
            let sealed = staging.file.set_permissions(Permissions::from_mode(BLOB_MODE));
            sealed.at("change the mode of", &staging.path)?;
        }
        Ok((staged, name))
    }

    /// For a file whose bytes are on disk; its name is not until the filesystem is synced.
    fn publish_synced(&self, staged: Staged, name: &EntryName) -> Result<Published, StoreError> {
        let StagedBytes::Copy(staging) = &staged.bytes else { return self.publish(staged, name) };
        let sha256 = staged.hashes.sha256;
        let placed = self.place(&staging.path, &sha256, name, staged.stamp.size_bytes, Durable::Soon)?;
        let source = staged.moved_from.map_or(Source::Stays, |path| Source::Remains(path, staged.stamp));
        Ok(Published { source, ..Published::stays(self.blob_path(&sha256, &placed.name), placed) })
    }

    fn sync_filesystem(&self) -> Result<(), StoreError> {
        let root = self.root();
        let folder = File::open(root).at("open", root)?;
        rustix::fs::syncfs(&folder).at("sync", root)
    }

    /// Renames the source of a move into the store; `None` when that turns out to be another filesystem.
    fn take(
        &self,
        file: &File,
        source: &Path,
        stamp: &FileStamp,
        sha256: &Digest,
        name: &EntryName,
    ) -> Result<Option<Placed>, StoreError> {
        // The old copy will be gone: what is kept instead must be known to be good.
        self.drop_damaged(sha256, stamp.size_bytes)?;
        let named = source.symlink_metadata().at("read", source)?;
        check_unchanged(file, source, stamp)?;
        if FileStamp::of(&named) != *stamp || !self.can_take(file, source)? {
            return Err(StoreError::Changed { path: source.to_owned() });
        }
        file.sync_all().at("sync", source)?;
        let placed = match self.place(source, sha256, name, stamp.size_bytes, Durable::Now) {
            Err(StoreError::Io { source: error, .. }) if error.kind() == io::ErrorKind::CrossesDevices => {
                return Ok(None);
            }
            result => result?,
        };
        if placed.fresh {
            let path = self.blob_path(sha256, &placed.name);
            let user = rustix::process::geteuid().as_raw();
            let sealed = if named.uid() == user { Ok(()) } else { fchown(file, Some(user), None) };
            let sealed = sealed.and_then(|()| file.set_permissions(Permissions::from_mode(BLOB_MODE)));
            // Whoever opened the file for writing before it was renamed could still change it.
            let intact =
                sealed.is_ok() && check_unchanged(file, source, stamp).is_ok() && self.can_take(file, &path)?;
            if !intact {
                let _ = file.set_permissions(named.permissions());
                fs::rename(&path, source).at("rename", &path)?;
                return Err(StoreError::Changed { path: source.to_owned() });
            }
            if let Some(parent) = source.parent() {
                sync_folder(parent)?;
            }
        }
        Ok(Some(placed))
    }

    /// Equal device numbers do not promise that a rename works (bind mounts do that).
    fn publish_other_device(&self, source: &Path, sha256: &Digest, name: &EntryName) -> Result<Published, StoreError> {
        let data_start = safetensors_data_start(&FileSource::open(source)?);
        let staged = self.stage_copy(source, data_start, &|_| (), &Cancel::new())?;
        if staged.hashes.sha256 != *sha256 {
            return Err(StoreError::Changed { path: source.to_owned() });
        }
        self.publish(Staged { moved_from: Some(source.to_owned()), ..staged }, name)
    }

    /// Gives a synced file its name below `models/`, unless the content is there. Waits, bounded, for an eviction of it.
    pub(super) fn place(
        &self,
        from: &Path,
        sha256: &Digest,
        name: &EntryName,
        size_bytes: u64,
        durable: Durable,
    ) -> Result<Placed, StoreError> {
        for _ in 0..EVICTION_POLLS_MAX {
            let folder = self.lock_blob_folder(sha256, true)?.expect("it is made when it is missing");
            let Some(found) = find_in(&folder.path, size_bytes)? else {
                return self.place_fresh(&folder, from, name, durable);
            };
            match self.hold_blob(sha256, &found) {
                Ok(held) => {
                    // Another process may have given that name and not synced it yet; its bytes were synced before.
                    self.sync_name(&folder, durable)?;
                    return Ok(Placed { name: found, fresh: false, held: Some(held) });
                }
                // It goes, and needs the folder for that.
                Err(StoreError::Busy { .. }) => drop(folder),
                Err(error) => return Err(error),
            }
            std::thread::sleep(EVICTION_POLL);
        }
        Err(StoreError::Busy { path: self.blob_folder(sha256) })
    }

    fn place_fresh(
        &self,
        folder: &LockedFolder,
        from: &Path,
        name: &EntryName,
        durable: Durable,
    ) -> Result<Placed, StoreError> {
        let path = folder.path.join(name.as_str());
        if let Err(error) = disk::rename(from, &path) {
            // Only an empty folder goes.
            let _ = fs::remove_dir(&folder.path);
            return Err(error).at("rename", from);
        }
        self.sync_name(folder, durable)?;
        Ok(Placed { name: name.clone(), fresh: true, held: None })
    }

    fn sync_name(&self, folder: &LockedFolder, durable: Durable) -> Result<(), StoreError> {
        if durable == Durable::Now {
            sync_folder(&folder.path)?;
            sync_folder(&self.blobs())?;
        }
        Ok(())
    }

    /// Lock order: this lock is the innermost; nothing else is waited for while it is held.
    fn lock_blob_folder(&self, sha256: &Digest, make: bool) -> Result<Option<LockedFolder>, StoreError> {
        let path = self.blob_folder(sha256);
        for _ in 0..FOLDER_TRIES {
            if make {
                match disk::create_folder(&path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error).at("create", &path);
                    }
                    _ => {}
                }
            }
            let folder = match File::open(&path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("open", &path),
            };
            // Held for a rename and two syncs at most.
            flock(&folder, FlockOperation::LockExclusive).at("lock", &path)?;
            if folder.metadata().at("read", &path)?.nlink() > 0 {
                return Ok(Some(LockedFolder { path, _lock: folder }));
            }
        }
        Err(StoreError::Busy { path })
    }

    /// Before a copy elsewhere is given up for the one in the store, that one is read and compared.
    fn drop_damaged(&self, sha256: &Digest, size_bytes: u64) -> Result<(), StoreError> {
        let Some(name) = find_in(&self.blob_folder(sha256), size_bytes)? else { return Ok(()) };
        match self.verify_blob(sha256, &name, &|_| (), &Cancel::new()) {
            Err(StoreError::Damaged { .. }) => self.quarantine_blob(sha256, &name).map(|_| ()),
            result => result.map(|_| ()),
        }
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, sha256: &Digest, name: &EntryName) -> Result<File, StoreError> {
        let path = self.blob_path(sha256, name);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).at("open", &path)?;
        if file.metadata().at("read", &path)?.is_file() { Ok(file) } else { Err(StoreError::NotAFile { path }) }
    }

    /// Whether the file is there and not cut short; its bytes are not looked at.
    pub fn has_blob(&self, sha256: &Digest, name: &EntryName, size_bytes: u64) -> bool {
        let metadata = self.blob_path(sha256, name).symlink_metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == size_bytes)
    }

    /// The name under which a content of this size lies in the store.
    pub fn find_blob(&self, sha256: &Digest, size_bytes: u64) -> Result<Option<EntryName>, StoreError> {
        find_in(&self.blob_folder(sha256), size_bytes)
    }

    /// Reads a blob from end to end and compares it with its name.
    pub fn verify_blob(
        &self,
        sha256: &Digest,
        name: &EntryName,
        progress: &dyn Fn(u64),
        cancel: &Cancel,
    ) -> Result<Hashes, StoreError> {
        let path = self.blob_path(sha256, name);
        let source = FileSource::new(self.open_blob(sha256, name)?, &path)?;
        let data_start = safetensors_data_start(&source);
        let hashes = hash_open_file(source.file(), &path, data_start, progress, cancel)?.0.finish();
        if hashes.sha256 == *sha256 {
            Ok(hashes)
        } else {
            Err(StoreError::Damaged { path, expected: *sha256, found: hashes.sha256 })
        }
    }

    /// Takes a damaged blob out of sight and keeps its bytes under `quarantine/`.
    pub fn quarantine_blob(&self, sha256: &Digest, name: &EntryName) -> Result<PathBuf, StoreError> {
        let target = self.quarantine().join(sha256.to_string());
        fs::create_dir_all(&target).at("create", &target)?;
        let target = target.join(name.as_str());
        let Some(folder) = self.lock_blob_folder(sha256, false)? else { return Ok(target) };
        let path = folder.path.join(name.as_str());
        fs::rename(&path, &target).at("rename", &path)?;
        self.remove_empty(&folder)?;
        Ok(target)
    }

    /// Removes the file; to be called after its catalog row is gone. A blob that is not there is no error.
    pub fn remove_blob(&self, sha256: &Digest, name: &EntryName) -> Result<(), StoreError> {
        let Some(folder) = self.lock_blob_folder(sha256, false)? else { return Ok(()) };
        let path = folder.path.join(name.as_str());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", &path),
            _ => {}
        }
        self.remove_empty(&folder)
    }

    fn remove_empty(&self, folder: &LockedFolder) -> Result<(), StoreError> {
        // Fails when something else is in it, which then stays.
        if fs::remove_dir(&folder.path).is_err() {
            sync_folder(&folder.path)?;
        }
        sync_folder(&self.blobs())
    }

    /// Everything under `models/`, in no order. Empty folders, which a crash can leave, are passed over.
    pub fn walk_blobs(&self) -> Result<impl Iterator<Item = Result<BlobEntry, StoreError>> + use<>, StoreError> {
        let blobs = self.blobs();
        let folders = fs::read_dir(&blobs).at("list", &blobs)?;
        Ok(folders.flat_map(move |folder| {
            match folder.at("list", &blobs).and_then(|folder| list_folder(&folder.path())) {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        }))
    }
}

pub(super) struct Placed {
    pub name: EntryName,
    pub fresh: bool,
    /// A file that was there before.
    pub held: Option<File>,
}

struct LockedFolder {
    path: PathBuf,
    /// Locked until it is closed.
    _lock: File,
}

/// Makes the bytes durable and the file read-only.
pub(super) fn seal(file: &File, path: &Path) -> Result<(), StoreError> {
    file.set_permissions(Permissions::from_mode(BLOB_MODE)).at("change the mode of", path)?;
    disk::sync_all(file).at("sync", path)
}

/// The first name, in byte order, of a regular file with this size.
fn find_in(folder: &Path, size_bytes: u64) -> Result<Option<EntryName>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.at("list", folder)?,
    };
    let mut found: Option<EntryName> = None;
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let Some(name) = entry.file_name().to_str().and_then(|name| EntryName::new(name).ok()) else { continue };
        let metadata = entry.metadata().at("read", &entry.path())?;
        if metadata.is_file() && metadata.len() == size_bytes && found.as_ref().is_none_or(|best| name < *best) {
            found = Some(name);
        }
    }
    Ok(found)
}

fn list_folder(folder: &Path) -> Result<Vec<BlobEntry>, StoreError> {
    let stray = |path: &Path| vec![BlobEntry::Stray(path.to_owned())];
    let sha256 = folder.file_name().and_then(|name| name.to_str()).and_then(|name| Digest::parse(name).ok());
    let Some(sha256) = sha256 else { return Ok(stray(folder)) };
    if !folder.symlink_metadata().at("read", folder)?.is_dir() {
        return Ok(stray(folder));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        let metadata = entry.metadata().at("read", &entry.path())?;
        let name = entry.file_name().to_str().and_then(|name| EntryName::new(name).ok());
        entries.push(match name {
            Some(name) if metadata.is_file() => BlobEntry::Blob { sha256, name, size_bytes: metadata.len() },
            _ => BlobEntry::Stray(entry.path()),
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_published_like_single_files() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(&folder.path().join("store")).expect("create");
        for count in [1, BATCH_FILES_MIN - 1, BATCH_FILES_MIN, BATCH_FILES_MIN + 5] {
            let stage = |index: usize| {
                let path = folder.path().join(format!("{count}-{index}"));
                // The last two have one content.
                fs::write(&path, format!("{count} {}", index.min(count.saturating_sub(2)))).expect("write");
                let staged = store.stage_copy(&path, None, &|_| (), &Cancel::new()).expect("staged");
                (staged, EntryName::new(&format!("{index}.bin")).expect("valid"))
            };
            let staged: Vec<_> = (0..count).map(stage).collect();
            let digests: Vec<Digest> = staged.iter().map(|(staged, _)| staged.hashes().sha256).collect();
            let published = store.publish_all(staged).expect("synced");
            for (index, (published, sha256)) in published.into_iter().zip(digests).enumerate() {
                let published = published.expect("published");
                assert_eq!(published.fresh, count == 1 || index + 1 < count, "{index} of {count}");
                store.verify_blob(&sha256, &published.name, &|_| (), &Cancel::new()).expect("intact");
                let mode = fs::metadata(&published.path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, BLOB_MODE);
            }
            assert_eq!(store.staging_leftovers().expect("listed"), 0);
        }
    }
}

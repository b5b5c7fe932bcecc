//! The folder of a store: where everything lies, on which filesystems it may lie, and how much room there is.
//!
//! Invariants: every path below the root is made here, from a `Digest`, an `EntryName` or a checked key, so nothing can
//! point out of the store. Not here: the databases (`catalog`), the overlay's files (`library`).

use super::StoreError;
use super::disk;
use super::error::AtPath;
use crate::base::{Digest, EntryName};
use rustix::fs::StatVfsMountFlags;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

const BLOBS: &str = "models";
const PARTIAL: &str = "partial";
const STAGING: &str = "staging";
const OVERLAY: &str = "overlay";
const QUARANTINE: &str = "quarantine";
/// What every fresh ext filesystem holds.
const LOST_AND_FOUND: &str = "lost+found";

/// A store on a local filesystem. Cheap to clone; holds no open files.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// Room on the store's filesystem, as `statfs` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What an ordinary user may still take.
    pub available_bytes: u64,
    pub block_bytes: u64,
    pub files_total: u64,
    pub files_free: u64,
}

impl Store {
    /// Makes the folders that are missing. Running it on a store that is there changes nothing; a folder of other files
    /// is refused.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        // Looked at before anything is made, so that a refusal leaves nothing behind.
        let existing = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
        refuse_network(existing, root)?;
        if !is_store(root) {
            refuse_occupied(root)?;
        }
        fs::create_dir_all(root).at("create", root)?;
        for folder in [BLOBS, PARTIAL, STAGING, OVERLAY] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).at("create", &folder)?;
        }
        sync_folder(root)?;
        Self::open(root)
    }

    pub fn open(root: &Path) -> Result<Self, StoreError> {
        if !is_store(root) {
            return Err(StoreError::NotAStore { path: root.to_owned() });
        }
        let root = root.canonicalize().at("open", root)?;
        refuse_network(&root, &root)?;
        for folder in [PARTIAL, STAGING, OVERLAY] {
            // An emptied folder is no loss: `rsync` and some cleaners drop them.
            let folder = root.join(folder);
            if !folder.is_dir() {
                fs::create_dir(&folder).at("create", &folder)?;
            }
        }
        Ok(Self { root })
    }

    /// Absolute, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn space(&self) -> Result<Space, StoreError> {
        let facts = rustix::fs::statvfs(&self.root).at("measure", &self.root)?;
        Ok(Space {
            total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize),
            free_bytes: facts.f_bfree.saturating_mul(facts.f_frsize),
            available_bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
            block_bytes: facts.f_frsize,
            files_total: facts.f_files,
            files_free: facts.f_ffree,
        })
    }

    /// Bytes this user may still write.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        self.space().map(|space| space.available_bytes)
    }

    /// Whether the filesystem is mounted read-only.
    pub fn is_read_only(&self) -> Result<bool, StoreError> {
        let facts = rustix::fs::statvfs(&self.root).at("measure", &self.root)?;
        Ok(facts.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    pub fn blob_path(&self, sha256: &Digest, name: &EntryName) -> PathBuf {
        self.blob_folder(sha256).join(name.as_str())
    }

    pub(super) fn blob_folder(&self, sha256: &Digest) -> PathBuf {
        self.blobs().join(sha256.to_string())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    pub(super) fn partial(&self) -> PathBuf {
        self.root.join(PARTIAL)
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join(QUARANTINE)
    }

    /// Ordinary files written beside the models, one folder a target.
    pub fn overlay(&self) -> PathBuf {
        self.root.join(OVERLAY)
    }
}

/// Makes renames and removals in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    disk::sync_folder(folder).at("sync", folder)
}

/// A folder called `models` alone makes no store: applications have one too. Another of a store's folders stands beside
/// it, or what it holds is called by hashes.
fn is_store(root: &Path) -> bool {
    let blobs = root.join(BLOBS);
    let is_named_by_hash = |name: &str| Digest::parse(name).is_ok();
    blobs.is_dir()
        && ([PARTIAL, STAGING, OVERLAY].iter().any(|folder| root.join(folder).is_dir())
            || first_entry(&blobs, |_| true).is_some_and(|name| name.to_str().is_some_and(is_named_by_hash)))
}

/// Looks for what others put there. An empty `models` is a store whose making was interrupted.
fn refuse_occupied(root: &Path) -> Result<(), StoreError> {
    let is_foreign =
        |name: &OsStr| name != LOST_AND_FOUND && !(name == BLOBS && first_entry(&root.join(BLOBS), |_| true).is_none());
    match first_entry(root, is_foreign) {
        None => Ok(()),
        Some(holds) => Err(StoreError::Occupied { path: root.to_owned(), holds: holds.to_string_lossy().into_owned() }),
    }
}

/// `None` also where there is no folder: making it says why.
fn first_entry(folder: &Path, wanted: impl Fn(&OsStr) -> bool) -> Option<OsString> {
    let entries = fs::read_dir(folder).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.file_name()).find(|name| wanted(name))
}

fn refuse_network(existing: &Path, root: &Path) -> Result<(), StoreError> {
    let facts = rustix::fs::statfs(existing).at("measure", existing)?;
    // Some architectures sign-extend the 32-bit magic number.
    match network_filesystem(facts.f_type as u32) {
        Some(filesystem) => Err(StoreError::NetworkFilesystem { path: root.to_owned(), filesystem }),
        None => Ok(()),
    }
}

/// Names the filesystems whose locks or shared mappings cannot be trusted, by the kernel's magic numbers.
fn network_filesystem(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "an NFS network filesystem",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "an SMB network filesystem",
        0x0102_1997 => "a 9p network filesystem",
        // Also virtiofs, sshfs, rclone and modelfs itself.
        0x6573_5546 => "a FUSE filesystem",
        0x00C3_6400 => "a Ceph network filesystem",
        0x5346_414F | 0x6B41_4653 => "an AFS network filesystem",
        0x7375_7245 => "a Coda network filesystem",
        0x564C => "an NCP network filesystem",
        0x0BD0_0BD0 => "a Lustre network filesystem",
        0x1983_0326 => "a BeeGFS network filesystem",
        0x4750_4653 => "a GPFS cluster filesystem",
        0x0116_1970 => "a GFS2 cluster filesystem",
        0x7461_636F => "an OCFS2 cluster filesystem",
        0x786F_4256 => "a VirtualBox shared folder",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_refused_and_local_ones_are_not() {
        for magic in [0x6969, 0xFF53_4D42, 0x0102_1997, 0x6573_5546] {
            assert!(network_filesystem(magic).is_some(), "{magic:x}");
        }
        // ext4, xfs, btrfs, tmpfs, zfs, overlayfs, f2fs, bcachefs, ntfs3, exfat
        for magic in [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x0102_1994,
            0x2FC1_2FC1,
            0x794C_7630,
            0xF2F5_2010,
            0xCA45_1A4E,
            0x7366_746E,
            0x2011_BAB0,
        ] {
            assert_eq!(network_filesystem(magic), None, "{magic:x}");
        }
    }

    #[test]
    fn create_is_idempotent_and_open_needs_a_store() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let root = folder.path().join("a/store");
        assert!(matches!(Store::open(&root), Err(StoreError::NotAStore { .. })));
        assert!(!root.exists(), "opening makes nothing");
        let store = Store::create(&root).expect("create");
        fs::write(root.join("models/x"), "kept").expect("write");
        Store::create(&root).expect("again");
        fs::remove_dir(root.join("staging")).expect("remove");
        Store::open(&root).expect("open");
        assert!(root.join("staging").is_dir() && root.join("models/x").exists());
        let space = store.space().expect("space");
        assert!(space.available_bytes <= space.free_bytes && space.free_bytes < space.total_bytes);
        assert!(!store.is_read_only().expect("flags"));
    }

    #[test]
    fn a_folder_of_other_files_becomes_no_store() {
        let hash = "ab".repeat(32);
        let copied = format!("models/{hash}/x");
        // What lies there, and what stands in the way of a store.
        for (paths, expected) in [
            (&[][..], None),
            (&["lost+found/"], None),
            (&["models/"], None),
            (&["letter.txt"], Some("letter.txt")),
            (&["models/loras/a.safetensors"], Some("models")),
            (&["models/", "letter.txt"], Some("letter.txt")),
            (&["models/", "partial/", "letter.txt"], None),
            (&[copied.as_str(), "modelhub.db"], None),
        ] {
            let folder = tempfile::tempdir().expect("temporary folder");
            for path in paths {
                let path = folder.path().join(path);
                let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
                fs::create_dir_all(if is_folder { &path } else { path.parent().expect("below the root") })
                    .expect("made");
                if !is_folder {
                    fs::write(&path, "").expect("written");
                }
            }
            let count = || fs::read_dir(folder.path()).expect("listed").count();
            let before = count();
            match (Store::create(folder.path()), expected) {
                (Ok(_), None) => {}
                (Err(StoreError::Occupied { holds, .. }), Some(expected)) => {
                    assert_eq!((holds.as_str(), count()), (expected, before), "{paths:?}");
                    assert!(Store::open(folder.path()).is_err() && count() == before, "{paths:?}");
                }
                (made, _) => panic!("{paths:?}: {made:?}"),
            }
        }
    }

    #[test]
    fn paths_stay_inside() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::create(folder.path()).expect("create");
        let path = store.blob_path(&Digest::from_bytes([0xAB; 32]), &EntryName::new("..a").expect("valid"));
        assert_eq!(path, store.root().join("models").join("ab".repeat(32)).join("..a"));
    }
}

//! The file operations on whose order it depends what a power cut leaves.
//!
//! Each does what its name says and nothing else. They are in one place so that the tests below can note them, and then
//! ask of every moment what a disk may hold that kept what was synced, and of the rest whatever it liked. Not here: which
//! order is right (`partial`, `chunk_log`, `beginning`, `filled`, `blob`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Notes an operation of a test's thread from its beginning to its end.
macro_rules! noted {
    ($op:expr, $act:expr) => {{
        #[cfg(test)]
        let note = tests::begin($op);
        let done = $act;
        #[cfg(test)]
        tests::end(note, &done);
        done
    }};
}

/// Makes a file, or empties the one that is there, for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    #[cfg(test)]
    tests::created(path, &file);
    Ok(file)
}

pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    noted!(|journal| journal.write(file, at, bytes), file.write_all_at(bytes, at))
}

pub(super) fn set_len(file: &File, bytes: u64) -> io::Result<()> {
    noted!(|journal| journal.set_len(file, bytes), file.set_len(bytes))
}

/// The bytes, and what is needed to find them.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    noted!(|journal| journal.sync(file), file.sync_data())
}

pub(super) fn sync_all(file: &File) -> io::Result<()> {
    noted!(|journal| journal.sync(file), file.sync_all())
}

/// Makes durable what was made, renamed and removed in a folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    noted!(|_| tests::Op::SyncFolder(path.to_owned()), File::open(path).and_then(|folder| folder.sync_all()))
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    noted!(|journal| journal.rename(from, to), fs::rename(from, to))
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    noted!(|_| tests::Op::Remove(path.to_owned()), fs::remove_file(path))
}

pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    noted!(|_| tests::Op::MakeFolder(path.to_owned()), fs::create_dir(path))
}

pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    noted!(|_| tests::Op::Remove(path.to_owned()), fs::remove_dir(path))
}

#[cfg(test)]
mod tests {
    //! A power cut at any moment of any work on a partial file.
    //!
    //! What is taken to be true of a disk: what was written before the beginning of a sync that has ended is there. Of what
    //! was not synced, each sector holds what it held after any of the later writes, or none, whatever its neighbours hold;
    //! a file's length is any that it had since; and of the names that were made, renamed and removed in a folder since its
    //! last sync, any may be as before. `MODELFS_TEST_CUTS` sets how many moments are tried.

    use super::super::partial::{Partial, PartialIdentity, PartialKey};
    use super::super::{CHUNK_BYTES, Cancel, Store};
    use crate::base::{Digest, EntryName};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    const SECTOR_BYTES: usize = 512;
    /// Sectors that fare alike in some of the cuts.
    const REGION_BYTES: usize = 64 << 10;
    const CUTS: u32 = 120;
    const CUTS_PER_CASE: u32 = 5;

    #[derive(Clone, Debug)]
    pub enum Op {
        Create { id: usize, path: PathBuf },
        Write { id: usize, at: usize, bytes: Vec<u8> },
        SetLen { id: usize, len: usize },
        Sync { id: usize },
        Rename { id: usize, from: PathBuf, to: PathBuf },
        Remove(PathBuf),
        MakeFolder(PathBuf),
        SyncFolder(PathBuf),
    }

    #[derive(Clone, Debug)]
    struct Noted {
        op: Op,
        began: usize,
        /// `None` while it lasts, and when it failed.
        ended: Option<usize>,
    }

    #[derive(Default, Debug)]
    pub struct Journal {
        step: usize,
        noted: Vec<Noted>,
        /// Files by their inode numbers, which are used again.
        ids: HashMap<u64, usize>,
        files: usize,
    }

    impl Journal {
        fn id(&self, metadata: io::Result<fs::Metadata>) -> usize {
            let ino = metadata.expect("it is there").ino();
            *self.ids.get(&ino).expect("it was made here")
        }

        pub fn write(&self, file: &File, at: u64, bytes: &[u8]) -> Op {
            Op::Write { id: self.id(file.metadata()), at: at as usize, bytes: bytes.to_vec() }
        }

        pub fn set_len(&self, file: &File, len: u64) -> Op {
            Op::SetLen { id: self.id(file.metadata()), len: len as usize }
        }

        pub fn sync(&self, file: &File) -> Op {
            Op::Sync { id: self.id(file.metadata()) }
        }

        pub fn rename(&self, from: &Path, to: &Path) -> Op {
            Op::Rename { id: self.id(fs::symlink_metadata(from)), from: from.to_owned(), to: to.to_owned() }
        }

        fn begin(&mut self, op: Op) -> usize {
            self.noted.push(Noted { op, began: self.step, ended: None });
            self.step += 1;
            self.noted.len() - 1
        }

        fn end(&mut self, index: usize) {
            self.noted[index].ended = Some(self.step);
            self.step += 1;
        }

        /// Whether a disk that lost power at `cut` holds what an operation did, given that it syncs as it says.
        fn is_durable(&self, noted: &Noted, cut: usize) -> bool {
            let Some(ended) = noted.ended else { return false };
            let covers = |sync: &Op| match (&noted.op, sync) {
                (Op::Write { id, .. } | Op::SetLen { id, .. }, Op::Sync { id: synced }) => id == synced,
                (Op::Create { path, .. } | Op::Remove(path) | Op::MakeFolder(path), Op::SyncFolder(folder)) => {
                    path.parent() == Some(folder)
                }
                (Op::Rename { to, .. }, Op::SyncFolder(folder)) => to.parent() == Some(folder),
                _ => false,
            };
            let later = |sync: &&Noted| sync.began > ended && sync.ended.is_some_and(|ended| ended < cut);
            self.noted.iter().filter(later).any(|sync| covers(&sync.op))
        }
    }

    thread_local! {
        static JOURNAL: RefCell<Option<Arc<Mutex<Journal>>>> = const { RefCell::new(None) };
    }

    fn with_journal<T>(act: impl FnOnce(&mut Journal) -> T) -> Option<T> {
        JOURNAL.with_borrow(|journal| journal.as_ref().map(|journal| act(&mut journal.lock().expect("no panic"))))
    }

    pub fn begin(op: impl FnOnce(&Journal) -> Op) -> Option<usize> {
        with_journal(|journal| {
            let op = op(journal);
            journal.begin(op)
        })
    }

    pub fn end(note: Option<usize>, done: &io::Result<()>) {
        if let (Some(index), Ok(())) = (note, done) {
            with_journal(|journal| journal.end(index));
        }
    }

    pub fn created(path: &Path, file: &File) {
        with_journal(|journal| {
            let id = journal.files;
            journal.files += 1;
            journal.ids.insert(file.metadata().expect("it is open").ino(), id);
            let index = journal.begin(Op::Create { id, path: path.to_owned() });
            journal.end(index);
        });
    }

    /// Notes what this thread does until the end of `act`.
    fn noting<T>(journal: &Arc<Mutex<Journal>>, act: impl FnOnce() -> T) -> T {
        JOURNAL.set(Some(Arc::clone(journal)));
        let result = act();
        JOURNAL.set(None);
        result
    }

    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % sides
        }

        /// One of what a thing may be, the oldest and the newest more often than their share.
        fn pick(&mut self, mood: usize, oldest: usize, newest: usize) -> usize {
            match mood {
                0 => oldest,
                1 => newest,
                _ => oldest + self.roll(newest - oldest + 1),
            }
        }
    }

    /// What is on the disk when the power is back.
    #[derive(Default)]
    struct Image {
        folders: BTreeSet<PathBuf>,
        files: BTreeMap<PathBuf, usize>,
        contents: BTreeMap<usize, Vec<u8>>,
    }

    impl Image {
        fn after(journal: &Journal, cut: usize, dice: &mut Dice) -> Self {
            let mut image = Self::default();
            let mood = dice.roll(3);
            for noted in journal.noted.iter().filter(|noted| noted.began < cut) {
                if journal.is_durable(noted, cut) || dice.pick(mood, 0, 1) == 1 {
                    image.change_names(&noted.op);
                }
            }
            for id in image.files.values().copied().collect::<BTreeSet<_>>() {
                image.contents.insert(id, content_after(journal, id, cut, dice));
            }
            image
        }

        fn change_names(&mut self, op: &Op) {
            match op {
                Op::Create { id, path } => drop(self.files.insert(path.clone(), *id)),
                Op::Rename { id, from, to } => {
                    self.files.remove(from);
                    self.files.insert(to.clone(), *id);
                }
                Op::Remove(path) => {
                    self.folders.remove(path);
                    self.files.retain(|file, _| !file.starts_with(path));
                }
                Op::MakeFolder(path) => drop(self.folders.insert(path.clone())),
                Op::Write { .. } | Op::SetLen { .. } | Op::Sync { .. } | Op::SyncFolder(_) => {}
            }
        }

        /// Lays it out below another root.
        fn write(&self, old_root: &Path, root: &Path) {
            Store::create(root).expect("a store");
            let moved = |path: &Path| root.join(path.strip_prefix(old_root).expect("below the root"));
            self.folders.iter().for_each(|folder| fs::create_dir_all(moved(folder)).expect("made"));
            for (path, id) in &self.files {
                let path = moved(path);
                // A name in a folder that is not there is nowhere.
                if path.parent().is_some_and(Path::is_dir) {
                    fs::write(path, &self.contents[id]).expect("written");
                }
            }
        }
    }

    fn content_after(journal: &Journal, id: usize, cut: usize, dice: &mut Dice) -> Vec<u8> {
        let started = journal.noted.iter().filter(|noted| noted.began < cut);
        let mut lens = vec![0];
        let mut synced_len = 0;
        let mut writes: Vec<(usize, &[u8], bool)> = Vec::new();
        for noted in started {
            let before = *lens.last().expect("one at least");
            match &noted.op {
                Op::Write { id: of, at, bytes } if *of == id => {
                    writes.push((*at, bytes, journal.is_durable(noted, cut)));
                    lens.push(before.max(at + bytes.len()));
                }
                Op::SetLen { id: of, len } if *of == id => lens.push(*len),
                _ => continue,
            }
            if journal.is_durable(noted, cut) {
                synced_len = lens.len() - 1;
            }
        }
        let mood = dice.roll(3);
        let len = lens[dice.pick(mood, synced_len, lens.len() - 1)];
        let mut content = vec![0; len];
        for start in (0..len).step_by(REGION_BYTES) {
            let region = start..(start + REGION_BYTES).min(len);
            let touching = |(at, bytes, _): &&(usize, &[u8], bool)| *at < region.end && at + bytes.len() > region.start;
            let writes: Vec<_> = writes.iter().filter(touching).collect();
            let mood = dice.roll(3);
            for start in region.clone().step_by(SECTOR_BYTES) {
                let sector = start..(start + SECTOR_BYTES).min(region.end);
                settle_sector(&mut content[sector.clone()], start, &writes, mood, dice);
            }
        }
        content
    }

    /// Applies the writes to one sector up to the one that reached the disk last.
    fn settle_sector(sector: &mut [u8], start: usize, writes: &[&(usize, &[u8], bool)], mood: usize, dice: &mut Dice) {
        let end = start + sector.len();
        let touching: Vec<_> = writes.iter().filter(|(at, bytes, _)| *at < end && at + bytes.len() > start).collect();
        let oldest = touching.iter().rposition(|(_, _, durable)| *durable).map_or(0, |last| last + 1);
        let count = dice.pick(mood, oldest, touching.len());
        for (at, bytes, _) in &touching[..count] {
            let (from, to) = (start.max(*at), end.min(at + bytes.len()));
            sector[from - start..to - start].copy_from_slice(&bytes[from - at..to - at]);
        }
    }

    const SIZE_BYTES: usize = 2 * CHUNK_BYTES as usize + 300_007;
    const CHUNKS: u64 = 3;

    struct Content {
        bytes: Vec<u8>,
        sha256: Digest,
    }

    impl Content {
        fn new(seed: u8) -> Self {
            let bytes: Vec<u8> = (0..SIZE_BYTES).map(|at| (at * 31 + at / 509 * usize::from(seed)) as u8 | 1).collect();
            let sha256 = super::super::hash::sha256_of(&bytes);
            Self { bytes, sha256 }
        }

        fn both() -> [Self; 2] {
            [Self::new(3), Self::new(5)]
        }

        fn open(&self, store: &Store) -> Partial {
            let key = PartialKey::new("k").expect("a key");
            let identity = PartialIdentity { size_bytes: SIZE_BYTES as u64, sha256: Some(self.sha256), etag: None };
            store.open_partial(&key, &identity).expect("opens")
        }

        fn chunk(&self, index: u64) -> &[u8] {
            let start = (index * CHUNK_BYTES) as usize;
            &self.bytes[start..(start + CHUNK_BYTES as usize).min(SIZE_BYTES)]
        }

        fn fill(&self, partial: &Partial) {
            for index in 0..CHUNKS {
                partial.write_chunk(index, self.chunk(index)).expect("written");
            }
        }

        fn publish(&self, store: &Store, partial: &Partial) -> Result<PathBuf, String> {
            let verified = partial.verify(&|_| (), &Cancel::new()).map_err(|error| error.to_string())?;
            let name = EntryName::new("m.safetensors").expect("a name");
            let published = store.publish_partial(partial, verified, &name).map_err(|error| error.to_string())?;
            Ok(published.path.clone())
        }

        /// Everything that claims to be here is right, and the work can go on to its end.
        fn check(&self, root: &Path, dice: &mut Dice) -> Result<(), String> {
            let store = Store::open(root).expect("a store");
            let partial = self.open(&store);
            for index in 0..CHUNKS {
                let mut bytes = vec![0; self.chunk(index).len()];
                if partial.has_chunk(index) {
                    partial.read_at(index * CHUNK_BYTES, &mut bytes).map_err(|error| error.to_string())?;
                    if bytes != self.chunk(index) {
                        return Err(format!("chunk {index} has wrong bytes"));
                    }
                }
                // A stream that comes by does not look at it.
                if dice.roll(2) == 0 {
                    continue;
                }
                let beginning = partial.read_beginning(index).map_err(|error| error.to_string())?;
                if !self.chunk(index).starts_with(&beginning) {
                    return Err(format!("the beginning of chunk {index} is wrong"));
                }
            }
            self.fill(&partial);
            let path = self.publish(&store, &partial)?;
            if fs::read(path).expect("published") == self.bytes { Ok(()) } else { Err("it ends wrong".to_owned()) }
        }
    }

    /// Files under `models` are whole and right at every moment.
    fn check_blobs(root: &Path, contents: &[Content]) -> Result<(), String> {
        for folder in fs::read_dir(root.join("models")).expect("listed") {
            let folder = folder.expect("an entry");
            for file in fs::read_dir(folder.path()).expect("listed") {
                let bytes = fs::read(file.expect("an entry").path()).expect("read");
                let named = |content: &&Content| folder.file_name().to_str() == Some(&content.sha256.to_string());
                if contents.iter().find(named).is_none_or(|content| content.bytes != bytes) {
                    return Err(format!("{} holds wrong bytes", folder.path().display()));
                }
            }
        }
        Ok(())
    }

    /// In memory where there is such a folder: real disks take their time to sync.
    fn folder() -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
    }

    fn check_cut(journal: &Journal, root: &Path, contents: &[Content], cut: usize, seed: u64) -> Result<(), String> {
        let mut dice = Dice(seed);
        let image = Image::after(journal, cut, &mut dice);
        for content in contents {
            let folder = folder();
            let after = folder.path().join("store");
            image.write(root, &after);
            check_blobs(&after, contents)?;
            content.check(&after, &mut dice)?;
        }
        Ok(())
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Chunk(u64),
        Keep(u64, usize),
        Sync,
        /// The process ends and another one goes on.
        Reopen,
        /// The file is another one from now on.
        Replace,
        Finish,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (0..CHUNKS).prop_map(Act::Chunk),
            4 => (0..CHUNKS, 1..200_000usize).prop_map(|(chunk, bytes)| Act::Keep(chunk, bytes)),
            3 => Just(Act::Sync),
            2 => Just(Act::Reopen),
            1 => Just(Act::Replace),
            1 => Just(Act::Finish),
        ];
        prop::collection::vec(act, 1..20)
    }

    fn perform(acts: &[Act], root: &Path, contents: &[Content; 2]) {
        let store = Store::open(root).expect("a store");
        let mut which = 0;
        let mut partial = contents[which].open(&store);
        for act in acts {
            let content = &contents[which];
            match *act {
                Act::Chunk(index) => drop(partial.write_chunk(index, content.chunk(index)).expect("written")),
                Act::Keep(index, bytes) => {
                    let kept = partial.beginnings().into_iter().find(|(chunk, _)| *chunk == index);
                    let kept = kept.map_or(0, |(_, kept)| kept as usize);
                    let part = &content.chunk(index)[kept..];
                    let part = &part[..bytes.min(part.len() - 1)];
                    partial.keep_beginning(index, kept as u64, part).expect("kept");
                }
                Act::Sync => partial.sync().expect("synced"),
                Act::Reopen | Act::Replace | Act::Finish => {
                    if matches!(act, Act::Finish) {
                        content.fill(&partial);
                        content.publish(&store, &partial).expect("published");
                    }
                    which ^= usize::from(matches!(act, Act::Replace));
                    drop(partial);
                    partial = contents[which].open(&store);
                }
            }
        }
    }

    fn cuts() -> u32 {
        std::env::var("MODELFS_TEST_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(CUTS)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cuts().div_ceil(CUTS_PER_CASE)))]
        #[test]
        fn a_power_cut_costs_what_was_not_synced_and_never_a_right_byte(
            acts in acts(),
            moments in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), CUTS_PER_CASE as usize),
        ) {
            let (folder, contents) = (folder(), Content::both());
            let root = folder.path().join("store");
            Store::create(&root).expect("a store");
            let journal = Arc::default();
            noting(&journal, || perform(&acts, &root, &contents));
            let journal = journal.lock().expect("no panic");
            prop_assert!(journal.step > 10, "what was done was not noted");
            for (moment, seed) in moments {
                let cut = moment.index(journal.step + 1);
                let checked = check_cut(&journal, &root, &contents, cut, seed);
                prop_assert!(checked.is_ok(), "cut at {} of {}: {:?}", cut, journal.step, checked);
            }
        }
    }

    /// Several threads that write and one that syncs: what each of them had done at the cut is any part of its work.
    #[test]
    fn a_power_cut_while_threads_write_and_sync() {
        let contents = Content::both();
        let mut dice = Dice(u64::from(std::process::id()));
        for round in 0..u64::from(cuts().div_ceil(40)) {
            let folder = folder();
            let root = folder.path().join("store");
            let store = Store::create(&root).expect("a store");
            let journal = Arc::default();
            let partial = noting(&journal, || contents[0].open(&store));
            std::thread::scope(|scope| {
                for index in 0..CHUNKS {
                    let (journal, partial, content) = (&journal, &partial, &contents[0]);
                    scope.spawn(move || {
                        noting(journal, || {
                            let part = &content.chunk(index)[..100_000];
                            assert!(partial.keep_beginning(index, 0, part).expect("kept"));
                            partial.write_chunk(index, content.chunk(index)).expect("written");
                        });
                    });
                }
                scope.spawn(|| noting(&journal, || (0..4).for_each(|_| partial.sync().expect("synced"))));
            });
            let journal = journal.lock().expect("no panic");
            for _ in 0..20 {
                let (cut, seed) = (dice.roll(journal.step + 1), dice.roll(1 << 30) as u64);
                let checked = check_cut(&journal, &root, &contents[..1], cut, seed);
                assert_eq!(checked, Ok(()), "round {round}, cut {cut}, seed {seed}");
            }
        }
    }

    /// What the tests above would say of a disk, or a program, that does not sync the data before the map.
    #[test]
    fn a_sync_that_is_left_out_is_found() {
        let contents = Content::both();
        let folder = folder();
        let root = folder.path().join("store");
        Store::create(&root).expect("a store");
        let journal: Arc<Mutex<Journal>> = Arc::default();
        noting(&journal, || perform(&[Act::Chunk(0), Act::Sync, Act::Chunk(1), Act::Finish], &root, &contents));
        let mut journal = journal.lock().expect("no panic");
        let is_data = |noted: &Noted| matches!(&noted.op, Op::Create { path, .. } if path.ends_with("data"));
        let data: Vec<usize> = journal.noted.iter().filter(|noted| is_data(noted)).map(id_of).collect();
        let found = |journal: &Journal| {
            let mut dice = Dice(1);
            let mut checks = (0..60).map(|_| {
                let cut = dice.roll(journal.step + 1);
                check_cut(journal, &root, &contents[..1], cut, dice.roll(1 << 30) as u64)
            });
            checks.find_map(Result::err)
        };
        assert_eq!(found(&journal), None);
        journal.noted.retain(|noted| !matches!(noted.op, Op::Sync { id } if data.contains(&id)));
        assert!(found(&journal).is_some_and(|what| what.contains("wrong")), "nobody noticed");
    }

    fn id_of(noted: &Noted) -> usize {
        match noted.op {
            Op::Create { id, .. } => id,
            _ => unreachable!("only what was made is asked for"),
        }
    }
}

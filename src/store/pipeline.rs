//! Hashing as fast as the machine can: one thread reads, one computes SHA-256, one SHA-256 of the tensor bytes, one the
//! rest.
//!
//! Invariants: memory is bounded by `BUFFER_COUNT` buffers a file, which go round; every lane sees every byte once and in
//! order; a file that changes while it is read is never hashed silently. Not here: the definitions of the hashes.

use super::error::AtPath;
use super::hash::{Hasher, Lane};
use super::{Cancel, FileStamp, Hashes, StoreError};
use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread::{self, Scope, ScopedJoinHandle};

/// Large enough that hand-over costs nothing, small enough that the lanes find the bytes in the processor's cache.
pub(super) const BUFFER_BYTES: usize = 1 << 20;
/// Lets the reader run ahead of the slowest lane: 8 MiB a file.
const BUFFER_COUNT: usize = 8;
/// Below this, starting threads costs more than it gains.
const INLINE_BYTES_MAX: u64 = 2 << 20;

/// Hashes a file where it lies. `progress` is told of bytes as they are read, from the calling thread.
pub fn hash_file(
    path: &Path,
    data_start: Option<u64>,
    progress: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<(Hashes, FileStamp), StoreError> {
    let file = super::source::open_source(path)?;
    let (hasher, stamp) = hash_open_file(&file, path, data_start, progress, cancel)?;
    Ok((hasher.finish(), stamp))
}

/// As `hash_file`, for a file that is open already.
pub(super) fn hash_open_file(
    file: &File,
    path: &Path,
    data_start: Option<u64>,
    progress: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<(Hasher, FileStamp), StoreError> {
    let stamp = FileStamp::of(&file.metadata().at("read", path)?);
    let hasher = Hasher::new(stamp.size_bytes, data_start);
    let mut feed = FileFeed::new(file, path, 0, stamp.size_bytes, progress, cancel);
    let hasher = drive(hasher, stamp.size_bytes, &mut feed)?;
    check_unchanged(file, path, &stamp)?;
    Ok((hasher, stamp))
}

pub(super) fn check_unchanged(file: &File, path: &Path, stamp: &FileStamp) -> Result<(), StoreError> {
    if FileStamp::of(&file.metadata().at("read", path)?) == *stamp {
        Ok(())
    } else {
        Err(StoreError::Changed { path: path.to_owned() })
    }
}

/// Where the bytes come from and where else they go.
pub(super) trait Feed {
    /// Fills the buffer; fewer bytes than asked only at the end, zero after it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError>;

    /// Called with what was just read while the lanes hash it already.
    fn hand_on(&mut self, _bytes: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The bytes `at .. end` of a file.
pub(super) struct FileFeed<'a> {
    file: &'a File,
    path: &'a Path,
    at: u64,
    end: u64,
    progress: &'a dyn Fn(u64),
    cancel: &'a Cancel,
}

impl<'a> FileFeed<'a> {
    pub fn new(
        file: &'a File,
        path: &'a Path,
        at: u64,
        end: u64,
        progress: &'a dyn Fn(u64),
        cancel: &'a Cancel,
    ) -> Self {
        // Only advice: a filesystem that does not know it reads all the same.
        let _ = rustix::fs::fadvise(file, at, None, rustix::fs::Advice::Sequential);
        Self { file, path, at, end, progress, cancel }
    }
}

impl Feed for FileFeed<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        if self.cancel.is_cancelled() {
            return Err(StoreError::Cancelled { path: self.path.to_owned() });
        }
        let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let mut count = 0;
        while count < wanted {
            match self.file.read_at(&mut buffer[count..wanted], self.at + count as u64) {
                // Shorter than its size said: somebody truncates it.
                Ok(0) => return Err(StoreError::Changed { path: self.path.to_owned() }),
                Ok(more) => count += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).at("read", self.path),
            }
        }
        self.at += count as u64;
        if count > 0 {
            (self.progress)(count as u64);
        }
        Ok(count)
    }
}

/// Moves everything from the feed through the hasher.
pub(super) fn drive(mut hasher: Hasher, size_bytes: u64, feed: &mut dyn Feed) -> Result<Hasher, StoreError> {
    if size_bytes <= INLINE_BYTES_MAX {
        let mut buffer = vec![0; usize::try_from(size_bytes).unwrap_or(BUFFER_BYTES).clamp(1, BUFFER_BYTES)];
        loop {
            let count = feed.fill(&mut buffer)?;
            if count == 0 {
                return Ok(hasher);
            }
            hasher.update(&buffer[..count]);
            feed.hand_on(&buffer[..count])?;
        }
    }
    thread::scope(|scope| {
        let (whole_input, whole) = spawn_lane(scope, hasher.whole);
        let (cheap_input, cheap) = spawn_lane(scope, hasher.cheap);
        let (data_input, data) = hasher.data.map(|lane| spawn_lane(scope, lane)).unzip();
        let inputs: Vec<SyncSender<Arc<Loan>>> =
            [Some(whole_input), Some(cheap_input), data_input].into_iter().flatten().collect();
        let fed = feed_lanes(feed, &inputs);
        // The lanes end when their inputs do, also after a failure.
        drop(inputs);
        hasher = Hasher { whole: join(whole), cheap: join(cheap), data: data.map(join) };
        fed.map(|()| hasher)
    })
}

fn feed_lanes(feed: &mut dyn Feed, inputs: &[SyncSender<Arc<Loan>>]) -> Result<(), StoreError> {
    let (home, pool) = mpsc::channel();
    let mut made = 0;
    loop {
        let mut buffer = match pool.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if made < BUFFER_COUNT => {
                made += 1;
                vec![0; BUFFER_BYTES]
            }
            Err(_) => pool.recv().expect("this function holds a sender of its own"),
        };
        let count = feed.fill(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let loan = Arc::new(Loan { buffer, count, home: home.clone() });
        for input in inputs {
            // A lane that is gone has panicked; joining it passes the panic on.
            let _ = input.send(Arc::clone(&loan));
        }
        feed.hand_on(&loan)?;
    }
}

/// A filled buffer that returns to the pool when the last lane is done with it.
struct Loan {
    buffer: Vec<u8>,
    count: usize,
    home: Sender<Vec<u8>>,
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.count]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Without a pool to return to, the pass is over.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
    }
}

fn spawn_lane<'scope, L: Lane + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut lane: L,
) -> (SyncSender<Arc<Loan>>, ScopedJoinHandle<'scope, L>) {
    let (input, output) = mpsc::sync_channel::<Arc<Loan>>(BUFFER_COUNT);
    let handle = scope.spawn(move || {
        for loan in output {
            lane.update(&loan);
        }
        lane
    });
    (input, handle)
}

fn join<L>(handle: ScopedJoinHandle<'_, L>) -> L {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    #[test]
    fn threads_and_one_thread_agree() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let threshold = INLINE_BYTES_MAX as usize;
        for len in [0, 1, BUFFER_BYTES, threshold, threshold + 1, (BUFFER_COUNT + 3) * BUFFER_BYTES + 17] {
            let path = folder.path().join("file");
            let bytes = noise(len);
            std::fs::write(&path, &bytes).expect("write");
            let mut hasher = Hasher::new(len as u64, Some(300));
            hasher.update(&bytes);
            let read = Cell::new(0);
            let (hashes, stamp) = hash_file(&path, Some(300), &|more| read.set(read.get() + more), &Cancel::new())
                .expect("a readable file");
            assert_eq!(hashes, hasher.finish(), "{len} bytes");
            assert_eq!((stamp.size_bytes, read.get()), (len as u64, len as u64));
        }
    }

    #[test]
    fn cancelling_stops_within_one_buffer() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, noise(8 << 20)).expect("write");
        let file = File::open(&path).expect("open");
        let (cancel, read) = (Cancel::new(), Cell::new(0));
        let progress = |more| {
            read.set(read.get() + more);
            cancel.cancel();
        };
        let result = hash_open_file(&file, &path, None, &progress, &cancel);
        assert!(matches!(result, Err(StoreError::Cancelled { .. })));
        assert_eq!(read.get(), BUFFER_BYTES as u64);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("file");
        for (change, len) in [("grows", 9 << 20), ("shrinks", 3 << 20)] {
            std::fs::write(&path, noise(8 << 20)).expect("write");
            let writer = File::options().write(true).open(&path).expect("open");
            let progress = |_| writer.set_len(len).expect("resize");
            let result = hash_file(&path, None, &progress, &Cancel::new());
            assert!(matches!(result, Err(StoreError::Changed { .. })), "a file that {change}");
        }
    }
}

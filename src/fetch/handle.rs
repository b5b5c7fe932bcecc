//! An open handle on one remote file.

use super::engine::Progress;
use super::error::FetchError;
use super::file::File;
use crate::base::ByteRange;
use bytes::Bytes;
use std::sync::Arc;

/// An open handle. Cheap to clone; the state lives while a handle or a task does.
#[derive(Clone)]
pub struct RemoteFile {
    handle: Arc<Handle>,
}

/// Read-ahead ends with the last of these.
struct Handle {
    file: Arc<File>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.file.handle_closed();
    }
}

impl RemoteFile {
    pub(super) fn new(file: Arc<File>) -> Self {
        file.handle_opened();
        Self { handle: Arc::new(Handle { file }) }
    }

    fn file(&self) -> &Arc<File> {
        &self.handle.file
    }

    pub fn size_bytes(&self) -> u64 {
        self.file().geometry.size_bytes()
    }

    /// Bytes that are here: `None` when one is missing, so that the caller can go on in the runtime. Never waits.
    pub fn read_present(&self, range: ByteRange) -> Option<Result<Bytes, FetchError>> {
        let Some(range) = self.file().geometry.cut(range) else { return Some(Ok(Bytes::new())) };
        if let Some(error) = self.file().condemned() {
            return Some(Err(error));
        }
        let bytes = self.file().read_if_present(range)?;
        self.file().note_hit(range);
        Some(bytes)
    }

    /// Fetches what is missing and answers the whole range (cut at the end of the file). Waits while bytes arrive, and
    /// gives up after `read_timeout` without any. Dropping the future gives up the demand.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, FetchError> {
        let Some(range) = self.file().geometry.cut(range) else { return Ok(Bytes::new()) };
        self.file().read(range).await
    }

    /// How often bytes of this content turned out to be wrong after they were handed out: with another number than at an
    /// earlier open, what was kept of it since then must not be served.
    pub fn lies(&self) -> u64 {
        self.file().shared.lies.of(self.file().blob)
    }

    /// Schedules the whole file in the background.
    pub fn fetch_all(&self) {
        self.file().fetch_all();
    }

    /// Stops the background work; reads that wait go on.
    pub fn cancel(&self) {
        self.file().cancel();
    }

    pub fn progress(&self) -> Progress {
        self.file().progress()
    }
}

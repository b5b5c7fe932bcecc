//! Answers reads of open files.
//!
//! Invariants: a kernel thread reads only what lies on this machine, anything else is finished by the runtime; an answer
//! before the end of the file is never short, because the kernel would take that for a new end of the file.

use super::backend::{Backend, Ranges};
use super::errno::errno_of;
use super::handles::{Body, OpenFile};
use crate::base::{ByteRange, Fault, FaultKind};
use bytes::Bytes;
use fuser::ReplyData;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

thread_local! {
    /// One buffer per kernel thread; it grows to the largest request the kernel makes (`MAX_REQUEST_BYTES`).
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a read is answered. The kernel's `ReplyData`, or a test.
pub trait Answer: Send + 'static {
    fn bytes(self, bytes: &[u8]);
    fn fault(self, kind: FaultKind);
}

impl Answer for ReplyData {
    fn bytes(self, bytes: &[u8]) {
        self.data(bytes);
    }

    fn fault(self, kind: FaultKind) {
        self.error(errno_of(kind));
    }
}

pub fn read(backend: &dyn Backend, file: &Arc<OpenFile>, offset: u64, size: u32, answer: impl Answer) {
    let end = offset.saturating_add(u64::from(size)).min(file.size_bytes);
    // A live file is read to the end of what was made, which its size in the tree does not tell.
    if let Body::Made(content) = &file.body {
        return answer.bytes(slice(content, offset, size));
    }
    let Some(range) = ByteRange::from_bounds(offset, end) else { return answer.bytes(&[]) };
    match &file.body {
        Body::Resident(source) => read_resident(file, source, range, answer),
        Body::Remote(source) => read_remote(backend, file, source, range, answer),
        Body::Made(_) => answer.bytes(&[]),
        Body::Passthrough => {
            let fault = Fault::new(FaultKind::Internal, "the kernel asked for bytes it reads by itself", "");
            fail(file, &fault, answer);
        }
    }
}

fn slice(content: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let rest = &content[start..];
    &rest[..rest.len().min(size as usize)]
}

fn read_resident(file: &OpenFile, source: &File, range: ByteRange, answer: impl Answer) {
    let len = usize::try_from(range.len()).expect("a request fits in memory");
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        match source.read_exact_at(&mut buffer[..len], range.start()) {
            Ok(()) => answer.bytes(&buffer[..len]),
            Err(error) => fail(file, &disk_fault(&error), answer),
        }
    });
}

fn disk_fault(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Fault::new(FaultKind::Integrity, "a stored file is shorter than it was", "run `modelfs verify`")
    } else {
        Fault::new(FaultKind::Internal, format!("a stored file cannot be read: {error}"), "check the disk")
    }
}

fn read_remote(
    backend: &dyn Backend,
    file: &Arc<OpenFile>,
    source: &Arc<dyn Ranges>,
    range: ByteRange,
    answer: impl Answer,
) {
    if let Some(read) = source.read_present(range) {
        return finish(file, range, read, answer);
    }
    // The future of `read` owns what it needs; the handle is kept so that the content stays open until the answer.
    let pending = source.read(range);
    let file = Arc::clone(file);
    backend.spawn(Box::pin(async move { finish(&file, range, pending.await, answer) }));
}

fn finish(file: &OpenFile, range: ByteRange, read: Result<Bytes, Fault>, answer: impl Answer) {
    match read {
        Ok(bytes) if bytes.len() as u64 == range.len() => answer.bytes(&bytes),
        Ok(bytes) => {
            let what = format!("{} of {} bytes came for {range}", bytes.len(), range.len());
            fail(file, &Fault::new(FaultKind::Internal, what, ""), answer);
        }
        Err(fault) => fail(file, &fault, answer),
    }
}

fn fail(file: &OpenFile, fault: &Fault, answer: impl Answer) {
    if !file.complained.swap(true, Ordering::Relaxed) {
        tracing::warn!(inode = file.node.ino().get(), "a read failed: {fault}");
    }
    answer.fault(fault.kind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobId, InodeNo};
    use crate::fuse::backend::Pending;
    use crate::fuse::fake::Fake;
    use crate::fuse::nodes::KernelNode;
    use std::io::Write;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Sender, channel};

    struct Probe(Sender<Result<Vec<u8>, FaultKind>>);

    impl Answer for Probe {
        fn bytes(self, bytes: &[u8]) {
            self.0.send(Ok(bytes.to_vec())).expect("the test waits");
        }

        fn fault(self, kind: FaultKind) {
            self.0.send(Err(kind)).expect("the test waits");
        }
    }

    fn check(body: Body, size_bytes: u64, offset: u64, size: u32, expected: Result<&[u8], FaultKind>) {
        let node = KernelNode::plain(InodeNo::of_blob(BlobId::new(1)).expect("in range"));
        let file = Arc::new(OpenFile { node, size_bytes, body, complained: AtomicBool::new(false) });
        let (sender, receiver) = channel();
        read(&Fake::new(), &file, offset, size, Probe(sender));
        let answer = receiver.recv().expect("every read is answered");
        assert_eq!(answer, expected.map(<[u8]>::to_vec), "{offset}+{size}");
    }

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("room for a few bytes");
        file
    }

    #[test]
    fn resident_reads_end_at_the_end_of_the_file() {
        for (offset, size, expected) in
            [(0, 4, &b"0123"[..]), (6, 100, b"6789"), (10, 1, b""), (u64::MAX, u32::MAX, b""), (9, 1, b"9")]
        {
            check(Body::Resident(file_of(b"0123456789")), 10, offset, size, Ok(expected));
        }
    }

    #[test]
    fn a_file_that_lost_its_end_is_an_error_and_not_short() {
        check(Body::Resident(file_of(b"0123")), 10, 2, 4, Err(FaultKind::Integrity));
        check(Body::Resident(file_of(b"0123")), 10, 0, 4, Ok(b"0123"));
    }

    #[test]
    fn a_live_file_is_as_long_as_it_was_made() {
        for (offset, size, expected) in [(0, 100, &b"{}\n"[..]), (1, 1, b"}"), (3, 5, b""), (u64::MAX, 5, b"")] {
            check(Body::Made(b"{}\n".to_vec()), 0, offset, size, Ok(expected));
        }
    }

    struct Scripted {
        present: Option<Result<Bytes, Fault>>,
        later: Result<Bytes, Fault>,
    }

    impl Ranges for Scripted {
        fn read_present(&self, _range: ByteRange) -> Option<Result<Bytes, Fault>> {
            self.present.clone()
        }

        fn read(&self, _range: ByteRange) -> Pending<Result<Bytes, Fault>> {
            let later = self.later.clone();
            Box::pin(async move { later })
        }

        fn lies(&self) -> u64 {
            0
        }
    }

    fn scripted(present: Option<Result<Bytes, Fault>>, later: Result<Bytes, Fault>) -> Body {
        Body::Remote(Arc::new(Scripted { present, later }))
    }

    #[test]
    fn missing_bytes_come_later_and_short_answers_are_refused() {
        let fault = |kind| Fault::new(kind, "told by the test", "");
        let never = || Err(fault(FaultKind::Internal));
        check(scripted(Some(Ok(Bytes::from_static(b"here"))), never()), 4, 0, 4, Ok(b"here"));
        check(scripted(None, Ok(Bytes::from_static(b"later"))), 5, 0, 9, Ok(b"later"));
        check(scripted(None, Ok(Bytes::from_static(b"lat"))), 5, 0, 9, Err(FaultKind::Internal));
        check(scripted(None, Err(fault(FaultKind::Offline))), 5, 0, 9, Err(FaultKind::Offline));
    }
}

//! Directory listings: `readdir` and `readdirplus` from what a directory held when it was opened.
//!
//! Invariants: offsets are positions, so a reader that goes on finds its place; going back to the start sees the
//! directory as it is now. Not here: what a directory holds (`tree`).

use super::backend::{Backend, Entries};
use super::handles::OpenDirectory;
use crate::base::InodeNo;
use crate::tree::{Child, NodeKind};
use parking_lot::Mutex;
use std::sync::Arc;

/// `.` and `..` come first.
const DOTS: [&str; 2] = [".", ".."];

/// One line of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    Dot { name: &'static str, ino: InodeNo },
    Child(&'a Child),
}

impl Line<'_> {
    pub fn name(&self) -> &str {
        match self {
            Self::Dot { name, .. } => name,
            Self::Child(child) => child.name.as_str(),
        }
    }

    pub const fn ino(&self) -> InodeNo {
        match self {
            Self::Dot { ino, .. } => *ino,
            Self::Child(child) => child.ino,
        }
    }

    pub const fn kind(&self) -> NodeKind {
        match self {
            Self::Dot { .. } => NodeKind::Directory,
            Self::Child(child) => child.kind,
        }
    }
}

/// Whether a reply takes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    More,
    Full,
}

pub fn open(backend: &dyn Backend, ino: InodeNo) -> Option<OpenDirectory> {
    Some(OpenDirectory { ino, entries: Mutex::new(backend.entries(ino)?) })
}

/// Tells every line from `offset` on, with the offset that follows it, until there is no room.
pub fn tell(
    backend: &dyn Backend,
    directory: &OpenDirectory,
    offset: u64,
    mut line: impl FnMut(u64, Line<'_>) -> Room,
) {
    let entries = at(backend, directory, offset);
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    for (index, name) in DOTS.iter().enumerate().skip(start) {
        let ino = match index {
            0 => directory.ino,
            _ => backend.parent(directory.ino).unwrap_or(directory.ino),
        };
        if line(index as u64 + 1, Line::Dot { name, ino }) == Room::Full {
            return;
        }
    }
    let first = start.saturating_sub(DOTS.len());
    for (index, child) in entries.from(first).enumerate() {
        let next = (first + index + DOTS.len()) as u64 + 1;
        if line(next, Line::Child(&child)) == Room::Full {
            return;
        }
    }
}

/// The listing to read from. A reader at the start gets the newest one; a directory that vanished keeps its last.
fn at(backend: &dyn Backend, directory: &OpenDirectory, offset: u64) -> Arc<dyn Entries> {
    let newest = if offset == 0 { backend.entries(directory.ino) } else { None };
    let mut kept = directory.entries.lock();
    if let Some(newest) = newest {
        *kept = newest;
    }
    Arc::clone(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::fake::Fake;

    /// Reads a directory `per_reply` lines at a time, as the kernel does.
    fn names(backend: &Fake, directory: &OpenDirectory, from: u64, per_reply: usize) -> Vec<String> {
        let (mut names, mut offset) = (Vec::new(), from);
        loop {
            let mut taken = 0;
            tell(backend, directory, offset, |next, line| {
                if taken == per_reply {
                    return Room::Full;
                }
                taken += 1;
                offset = next;
                names.push(line.name().to_owned());
                Room::More
            });
            if taken == 0 {
                return names;
            }
        }
    }

    #[test]
    fn every_entry_comes_once_whatever_the_size_of_a_reply() {
        let backend = Fake::new();
        for name in ["a", "b", "c", "d", "e"] {
            backend.add_resident(name, b"x");
        }
        let directory = open(&backend, InodeNo::ROOT).expect("the root is there");
        for per_reply in 1..9 {
            let all = names(&backend, &directory, 0, per_reply);
            assert_eq!(all, [".", "..", "a", "b", "c", "d", "e"], "{per_reply} at a time");
        }
        assert_eq!(names(&backend, &directory, 4, 2), ["c", "d", "e"]);
        assert_eq!(names(&backend, &directory, u64::MAX, 2), Vec::<String>::new());
    }

    #[test]
    fn a_reader_keeps_its_listing_until_it_rewinds() {
        let backend = Fake::new();
        backend.add_resident("b", b"x");
        let directory = open(&backend, InodeNo::ROOT).expect("the root is there");
        backend.add_resident("a", b"x");
        assert_eq!(names(&backend, &directory, 2, 9), ["b"]);
        assert_eq!(names(&backend, &directory, 0, 9), [".", "..", "a", "b"]);
        assert_eq!(names(&backend, &directory, 2, 9), ["a", "b"]);
    }
}

//! What differs between two whole trees, by walking both.
//!
//! For the rare changes that touch everything (an application switched on). Its cost grows with the collection.

use super::view::CONTROL;
use super::{Tree, TreeChange};
use crate::base::{EntryName, InodeNo};
use std::collections::BTreeSet;

impl Tree {
    /// What somebody who remembers this tree has to forget for `after`.
    pub(super) fn difference(&self, after: &Self) -> TreeChange {
        let mut change = TreeChange::default();
        let mut open = vec![InodeNo::ROOT];
        let mut seen = BTreeSet::from([InodeNo::ROOT]);
        while let Some(directory) = open.pop() {
            let names = self.names_that_differ(directory, after);
            if !names.is_empty() || self.attributes(directory) != after.attributes(directory) {
                change.directories.push(directory);
            }
            change.names.extend(names.into_iter().map(|name| (directory, name)));
            let Some(listing) = self.listing(directory) else { continue };
            for child in listing.iter_from(0) {
                let is_directory = child.ino.blob().is_none() && child.ino.fixed().is_none_or(|it| it == CONTROL);
                if is_directory && seen.insert(child.ino) {
                    open.push(child.ino);
                }
            }
        }
        let blobs = self.blobs.iter().filter(|(id, _)| self.file_differs(**id, after));
        change.files = blobs.map(|(id, _)| *id).collect();
        change.names.sort_unstable();
        change.directories.sort_unstable();
        change
    }

    /// Both listings are in order, so one walk along them is enough.
    fn names_that_differ(&self, directory: InodeNo, after: &Self) -> Vec<EntryName> {
        let (before, after) = (self.listing(directory), after.listing(directory));
        let mut before = before.iter().flat_map(|listing| listing.iter_from(0)).peekable();
        let mut after = after.iter().flat_map(|listing| listing.iter_from(0)).peekable();
        let mut names = Vec::new();
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some(old), Some(new)) => old.name.cmp(&new.name),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return names,
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            if old.as_ref().map(|child| child.ino) != new.as_ref().map(|child| child.ino) {
                names.extend(old.or(new).map(|child| child.name));
            }
        }
    }
}

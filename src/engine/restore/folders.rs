//! The folders that are open at a point of the sorted stream: the one an entry lies in and all
//! above it. As each is the beginning of the next one's path, one path holds them all.

use crate::base::error::Result;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::engine::restore::clash::Seen;
use std::iter::Peekable;
use std::vec::IntoIter;

/// One open folder.
#[derive(Debug)]
pub(super) struct Level {
    /// Length of the part of the path that leads here.
    end: usize,
    /// What is set once all in it is done; None leaves it as it is.
    pub(super) metadata: Option<Metadata>,
    /// Whether it was there before, so that there may be something in it.
    pub(super) was_there: bool,
    /// Names that stand in it and were not met in the stream yet, sorted, when what the
    /// snapshot lacks is to be deleted.
    pub(super) extra: Option<Peekable<IntoIter<Vec<u8>>>>,
    /// What its entries lead to, where it was there before.
    pub(super) seen: Seen,
}

/// The open folders.
#[derive(Debug, Default)]
pub(super) struct Folders {
    path: Vec<u8>,
    levels: Vec<Level>,
}

impl Folders {
    /// Goes into a folder that lies in the one entered last.
    pub(super) fn enter(
        &mut self,
        path: &EntryPath,
        metadata: Option<Metadata>,
        was_there: bool,
        names: Option<Vec<Vec<u8>>>,
    ) {
        self.path.clear();
        self.path.extend_from_slice(path.as_bytes());
        let extra = names.map(|names| names.into_iter().peekable());
        let (end, seen) = (self.path.len(), Seen::default());
        self.levels.push(Level { end, metadata, was_there, extra, seen });
    }

    /// Returns the folder entered last.
    pub(super) fn top(&mut self) -> Option<&mut Level> {
        self.levels.last_mut()
    }

    /// Returns a folder, if it is open.
    pub(super) fn at(&mut self, folder: &[u8]) -> Option<&mut Level> {
        let level = self.levels.iter_mut().rfind(|level| level.end <= folder.len())?;
        (level.end == folder.len() && self.path.starts_with(folder)).then_some(level)
    }

    /// Says whether the folder entered last is this one.
    pub(super) fn is_at(&self, folder: &[u8]) -> bool {
        !self.levels.is_empty() && self.path == folder
    }

    /// Leaves the deepest folder, unless `next` lies in it or is it.
    ///
    /// # Errors
    /// None in truth, as the path was a good one.
    pub(super) fn leave(&mut self, next: Option<&EntryPath>) -> Result<Option<(EntryPath, Level)>> {
        if self.levels.is_empty() {
            return Ok(None);
        }
        let path = EntryPath::new(&self.path)?;
        if next.is_some_and(|next| next.is_within(&path)) {
            return Ok(None);
        }
        let left = self.levels.pop();
        self.path.truncate(self.levels.last().map_or(0, |level| level.end));
        Ok(left.map(|level| (path, level)))
    }

    /// Forgets what is to be deleted, as the stream broke off.
    pub(super) fn spare_extra(&mut self) {
        self.levels.iter_mut().for_each(|level| level.extra = None);
    }
}

impl Level {
    /// Returns the names that sort before `next`, or all that are left, and passes over `next`.
    pub(super) fn extra_before(&mut self, next: Option<&[u8]>) -> Vec<Vec<u8>> {
        let Some(extra) = &mut self.extra else { return Vec::new() };
        let mut before = Vec::new();
        while let Some(name) = extra.next_if(|name| next.is_none_or(|next| &name[..] < next)) {
            before.push(name);
        }
        if let Some(next) = next {
            extra.next_if(|name| name == next);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn folders_are_left_deepest_first() {
        let mut folders = Folders::default();
        for text in ["", "a", "a/b"] {
            folders.enter(&path(text), None, false, None);
        }
        assert!(folders.is_at(b"a/b"));
        let mut end = |folder: &[u8]| folders.at(folder).map(|level| level.end);
        assert_eq!((end(b""), end(b"a"), end(b"a/b")), (Some(0), Some(1), Some(3)));
        assert_eq!((end(b"b"), end(b"a/c"), end(b"a/b/c")), (None, None, None));

        let mut left = Vec::new();
        while let Some((path, _)) = folders.leave(Some(&path("a.txt"))).unwrap() {
            left.push(path.to_string());
        }

        assert_eq!(left, ["a/b", "a"]);
        assert!(folders.is_at(b""));
        assert!(folders.leave(None).unwrap().is_some());
        assert!(folders.leave(None).unwrap().is_none());
    }

    #[test]
    fn names_that_the_stream_passes_by_are_extra() {
        let names = ["a", "b", "c", "d"].iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut folders = Folders::default();
        folders.enter(&EntryPath::root(), None, true, Some(names));
        let level = folders.top().unwrap();

        assert_eq!(level.extra_before(Some(b"b")), [b"a"]);
        assert!(level.extra_before(Some(b"bb")).is_empty());
        assert_eq!(level.extra_before(None), [b"c", b"d"]);
    }
}

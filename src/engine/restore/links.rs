//! Remembers under which path each file with several names was written first.
//!
//! Names are of one file when their group is one, and metadata and content besides. A group is
//! made of the number of an inode, and another file may have got that number while a backup was
//! running, or since a folder was read of which a later backup could only keep what it knew.
//!
//! This grows with the number of such files in the snapshot, and with nothing else: some 70 bytes
//! and the path each, all paths in one buffer.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::restore::content;
use crate::engine::restore::select::Selection;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::FileNode;
use crate::format::entry::snapshot_hasher;
use std::collections::HashMap;

/// A name of a file that has several, without the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    group: u64,
    /// Equal marks are of equal metadata and content. One content may have several, where it was
    /// cut or stored twice.
    mark: [u8; 16],
}

impl Name {
    /// Returns the name that an entry is, if it is a file of several.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let file = entry.file()?;
        let group = file.hard_link?;
        let alone = Entry {
            path: EntryPath::root(),
            metadata: entry.metadata.clone(),
            node: EntryNode::File(FileNode { hard_link: None, ..file.clone() }),
        };
        let mut hasher = snapshot_hasher();
        alone.hash_into(&mut hasher, &mut Vec::new());
        let mut mark = [0; 16];
        mark.copy_from_slice(&hasher.finish()[..16]);
        Some(Name { group, mark })
    }
}

#[derive(Debug)]
struct First {
    name: Name,
    start: u64,
    length: u32,
    is_lost: bool,
}

/// First names of files that have several, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Links {
    paths: Vec<u8>,
    firsts: Vec<First>,
    /// The last first name of each group.
    groups: HashMap<u64, usize>,
}

impl Links {
    /// Keeps the path of a name, and returns its number.
    pub(crate) fn keep(&mut self, name: Name, path: &EntryPath) -> usize {
        let start = self.paths.len() as u64;
        self.paths.extend_from_slice(path.as_bytes());
        // A path is far shorter than 4 GiB: `PATH_BYTES_MAX`.
        let length = path.as_bytes().len() as u32;
        self.firsts.push(First { name, start, length, is_lost: false });
        self.firsts.len() - 1
    }

    /// Takes a name for the first one of its file, and returns its number.
    pub(crate) fn remember(&mut self, name: Name, path: &EntryPath) -> usize {
        let number = self.keep(name, path);
        self.groups.insert(name.group, number);
        number
    }

    /// Takes a name that was kept for the first one of its file.
    pub(crate) fn lead(&mut self, number: usize) {
        self.groups.insert(self.firsts[number].name.group, number);
    }

    /// Forgets a first name, as it could not be written.
    pub(crate) fn forget(&mut self, number: usize) {
        self.firsts[number].is_lost = true;
    }

    /// Returns the path of a first name, unless it was forgotten.
    pub(crate) fn first(&self, number: usize) -> Option<EntryPath> {
        let first = self.firsts.get(number).filter(|first| !first.is_lost)?;
        let start = usize::try_from(first.start).ok()?;
        EntryPath::new(self.paths.get(start..start + first.length as usize)?).ok()
    }

    /// Returns the number of the first name of the file that an entry is a further name of.
    ///
    /// # Errors
    /// What concerns more than one entry.
    pub(crate) fn first_of(
        &self,
        name: Name,
        entry: &Entry,
        selection: &Selection<'_>,
    ) -> Result<Option<usize>> {
        match self.groups.get(&name.group) {
            Some(&number) if self.is_one(number, name, entry, selection)? => Ok(Some(number)),
            _ => Ok(None),
        }
    }

    /// Says whether an entry is a further name of the file of this first one.
    ///
    /// # Errors
    /// What concerns more than one entry.
    pub(crate) fn is_one(
        &self,
        number: usize,
        name: Name,
        entry: &Entry,
        selection: &Selection<'_>,
    ) -> Result<bool> {
        let Some(path) = self.first(number) else { return Ok(false) };
        let first = self.firsts[number].name;
        if first.group != name.group || first.mark == name.mark {
            return Ok(first.group == name.group);
        }
        match is_same(&path, entry, selection) {
            Err(e) if stops(&e) => Err(e),
            // Each as it is stored, and whoever cannot be read is told when it is written.
            same => Ok(same.unwrap_or(false)),
        }
    }
}

/// Compares an entry with the one that has a path in the target.
fn is_same(path: &EntryPath, entry: &Entry, selection: &Selection<'_>) -> Result<bool> {
    let Some(first) = selection.entry_at(path)? else { return Ok(false) };
    match (first.file(), entry.file()) {
        (Some(one), Some(other)) if first.metadata == entry.metadata => {
            content::is_same(selection.repository(), one, other)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_names_are_found_until_they_are_forgotten() {
        let mut links = Links::default();
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        let name = |group| Name { group, mark: [0; 16] };
        let one = links.remember(name(7), &path("a/b"));
        let other = links.remember(name(9), &path("c"));
        let next = links.remember(name(7), &path("d"));

        assert_eq!(links.first(one), Some(path("a/b")));
        assert_eq!(links.first(other), Some(path("c")));
        links.forget(one);
        assert_eq!(links.first(one), None);
        assert_eq!((links.first(other), links.first(next)), (Some(path("c")), Some(path("d"))));
        assert_eq!(links.groups[&7], next);
    }
}

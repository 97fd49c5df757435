//! Entries of one folder whose names the target's file system takes for one, as those do that do
//! not tell case apart: the second one would be written into the first, or remove it.
//!
//! In a folder that is new every entry is made where nothing may stand, so the system itself tells.
//! In one that was there something stands at a name that nobody has made: so it is remembered which
//! inodes the entries of the folder lead to. Two names of one inode are hard links when both stand
//! in the listing of the folder, else they are one name.
//!
//! This takes some 40 bytes for each entry of the folders that are open and were there before.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::engine::restore::walk::Walker;
use crate::target::TargetEntry;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// What the entries of one folder lead to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Hashes of the names that led to each inode first.
    names: HashMap<(u64, u64), u64>,
    /// Hashes of the names that stood in the folder when it was asked last.
    listed: HashSet<u64>,
}

fn hash_of(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Seen {
    /// Takes notice that a name leads to an inode.
    fn note(&mut self, name: &[u8], inode: (u64, u64)) {
        self.names.entry(inode).or_insert_with(|| hash_of(name));
    }

    /// Says whether another name has led to an inode, and one of both was not in the listing.
    fn suspects(&self, name: &[u8], inode: (u64, u64)) -> bool {
        let hash = hash_of(name);
        let is_listed = |hash: u64| self.listed.contains(&hash);
        self.names
            .get(&inode)
            .is_some_and(|&first| first != hash && !(is_listed(first) && is_listed(hash)))
    }
}

impl Walker<'_, '_> {
    /// Refuses what leads to the place of another entry, and takes notice where this one leads.
    ///
    /// # Errors
    /// `AlreadyExists`; those of the target.
    pub(super) fn refuse_taken(&mut self, path: &EntryPath, there: &TargetEntry) -> Result<()> {
        let Some(level) = self.folders.top() else { return Ok(()) };
        let mut seen = std::mem::take(&mut level.seen);
        let is_taken = self.is_taken(&mut seen, path, there);
        if let (Ok(false), Some(inode)) = (&is_taken, there.inode) {
            seen.note(path.name(), inode);
        }
        if let Some(level) = self.folders.top() {
            level.seen = seen;
        }
        if !is_taken? {
            return Ok(());
        }
        let message = format!(
            "cannot restore {path}: its file system takes this name and that of another entry of \
             the folder for one"
        );
        Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target))
    }

    fn is_taken(&mut self, seen: &mut Seen, path: &EntryPath, there: &TargetEntry) -> Result<bool> {
        let (Some(inode), Some(folder)) = (there.inode, path.parent()) else { return Ok(false) };
        if !seen.suspects(path.name(), inode) {
            return Ok(false);
        }
        let names = self.writer()?.list(&folder)?;
        seen.listed = names.iter().map(|name| hash_of(name)).collect();
        Ok(seen.suspects(path.name(), inode))
    }

    /// Takes notice where an entry leads that was just made, if more of its folder may come.
    pub(super) fn note_made(&mut self, path: &EntryPath) {
        let folder = path.parent_bytes();
        let is_watched = self.folders.at(folder).is_some_and(|level| level.was_there);
        if !self.tells_inodes || !is_watched {
            return;
        }
        // One that is gone again leads nowhere.
        let there = self.writer().and_then(|writer| writer.stat(path)).ok().flatten();
        let inode = there.and_then(|there| there.inode);
        if let (Some(inode), Some(level)) = (inode, self.folders.at(folder)) {
            level.seen.note(path.name(), inode);
        }
    }

    /// Leaves out, of names to delete, those that lead to the place of an entry.
    pub(super) fn without_taken(
        &mut self,
        seen: &mut Seen,
        folder: &EntryPath,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>> {
        if seen.names.is_empty() {
            return Ok(names);
        }
        let mut extra = Vec::with_capacity(names.len());
        for name in names {
            let path = folder.join(&name)?;
            // What cannot be looked at is reported when it is to be deleted.
            let there = self.writer()?.stat(&path).ok().flatten();
            match there.map_or(Ok(false), |there| self.is_taken(seen, &path, &there)) {
                Ok(false) => extra.push(name),
                Ok(true) => {
                    let why = "it stays: its file system takes it for an entry of the backup";
                    self.work.context.progress.warn(&Warning::note(&path, why));
                }
                Err(e) => self.work.fail(&path, e)?,
            }
        }
        Ok(extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_inode_are_suspect_until_both_are_listed() {
        let mut seen = Seen::default();
        let (one, other) = ((1, 7), (1, 8));
        seen.note(b"A", one);

        assert!(seen.suspects(b"a", one));
        assert!(!seen.suspects(b"A", one) && !seen.suspects(b"a", other));
        seen.listed = [hash_of(b"A")].into();
        assert!(seen.suspects(b"a", one));
        seen.listed.insert(hash_of(b"a"));
        assert!(!seen.suspects(b"a", one));
        seen.listed = [hash_of(b"a")].into();
        assert!(seen.suspects(b"a", one), "the first name is not there");
    }
}

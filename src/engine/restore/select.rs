//! Which entries of a snapshot are restored, and under which path each.
//!
//! The entries come in order, so that all that follows is streaming. Ranges outside of what
//! was asked for are not read.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::engine::restore::RestoreOptions;
use crate::format::entry::Entry;
use crate::repository::history::Entries;
use crate::repository::history::Snapshot;
use crate::source::filter::Filter;
use crate::source::filter::FolderRules;
use std::collections::VecDeque;

/// What of a snapshot is restored.
pub(crate) struct Selection<'a> {
    snapshot: &'a Snapshot,
    filter: &'a Filter,
    strip: EntryPath,
    /// Whether `strip` is no folder: then it is the one entry, under its name.
    is_single: bool,
    /// Paths in the snapshot, sorted, none within another.
    roots: Vec<EntryPath>,
}

/// One entry to restore.
pub(crate) struct Picked {
    /// The entry, its path as it shall be in the target.
    pub(crate) entry: Entry,
    /// Whether it is only a folder above what was asked for.
    pub(crate) is_above: bool,
}

impl<'a> Selection<'a> {
    /// Looks for what was asked for.
    ///
    /// # Errors
    /// `NotFound` when the snapshot has nothing at one of the paths.
    pub(crate) fn resolve(snapshot: &'a Snapshot, options: &'a RestoreOptions) -> Result<Self> {
        let strip = &options.strip;
        let mut is_single = false;
        if !strip.is_root() {
            let entry = refuse_missing(snapshot, strip)?;
            is_single = entry.path == *strip && entry.kind() != Kind::Directory;
        }
        let mut roots = Vec::new();
        for path in &options.paths {
            refuse_missing(snapshot, path)?;
            if path.is_within(strip) {
                roots.push(path.clone());
            } else if strip.is_within(path) {
                roots.push(strip.clone());
            } else {
                let message = format!("{path} does not lie within {strip}");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        }
        if roots.is_empty() {
            roots.push(strip.clone());
        }
        let filter = &options.filter;
        Ok(Selection { snapshot, filter, strip: strip.clone(), is_single, roots: outermost(roots) })
    }

    /// Says whether the whole snapshot is asked for, but for what the filter leaves out.
    pub(crate) fn is_everything(&self) -> bool {
        self.roots.iter().all(EntryPath::is_root)
    }

    /// Says whether all names in the target's root are asked for.
    pub(super) fn covers_root(&self) -> bool {
        !self.is_single && self.roots.contains(&self.strip)
    }

    /// Says whether the filter leaves out what is at a path of the target.
    pub(super) fn leaves_out(&self, path: &EntryPath, kind: Kind, size: u64) -> Result<bool> {
        let mut whole = self.strip.clone();
        for name in path.components() {
            whole = whole.join(name)?;
        }
        Ok(self.filter.excludes(&whole, kind, size, &FolderRules::none()))
    }

    /// Goes through the entries in order.
    pub(crate) fn entries(&self) -> Picks<'_> {
        Picks {
            selection: self,
            next_root: 0,
            above: VecDeque::new(),
            stream: None,
            left_out: None,
        }
    }

    fn path_in_target(&self, path: &EntryPath) -> Result<EntryPath> {
        if self.is_single {
            return EntryPath::root().join(self.strip.name());
        }
        path.relative_to(&self.strip).ok_or_else(|| Error::bug("an entry outside of the selection"))
    }
}

fn refuse_missing(snapshot: &Snapshot, path: &EntryPath) -> Result<Entry> {
    match snapshot.entries_from(path).next().transpose()? {
        Some(tracked) if tracked.entry.path.is_within(path) => Ok(tracked.entry),
        _ => {
            let (number, dataset) = (snapshot.number(), snapshot.dataset().name());
            let message = format!("{number} of {dataset} has nothing at {path}");
            Err(Error::new(ErrorKind::NotFound, message)
                .hint("`icecore ls` shows what a backup holds"))
        }
    }
}

/// Sorts paths, and drops those that lie within others.
fn outermost(mut paths: Vec<EntryPath>) -> Vec<EntryPath> {
    paths.sort();
    paths.dedup_by(|next, kept| next.is_within(kept));
    paths
}

/// The entries of a selection.
pub(crate) struct Picks<'a> {
    selection: &'a Selection<'a>,
    next_root: usize,
    above: VecDeque<Entry>,
    stream: Option<Entries>,
    /// The folder that the filter left out last: nothing in it is looked at.
    left_out: Option<EntryPath>,
}

impl Picks<'_> {
    /// Turns to the next root: the folders above it come first, those that came already not
    /// again.
    fn turn_to(&mut self, number: usize) -> Result<()> {
        let Selection { snapshot, strip, roots, .. } = self.selection;
        let root = &roots[number];
        let before = number.checked_sub(1).map(|number| &roots[number]);
        let mut path = root.parent();
        while let Some(folder) = path.filter(|folder| folder.is_within(strip) && folder != strip) {
            if before.is_some_and(|before| before.is_within(&folder)) {
                break;
            }
            if let Some(tracked) = snapshot.entry(&folder)? {
                self.above.push_front(tracked.entry);
            }
            path = folder.parent();
        }
        self.stream = Some(snapshot.entries_from(root));
        Ok(())
    }

    /// Returns the next entry, as the snapshot has it.
    fn next_entry(&mut self) -> Result<Option<(Entry, bool)>> {
        loop {
            if let Some(entry) = self.above.pop_front() {
                return Ok(Some((entry, true)));
            }
            let roots = &self.selection.roots;
            if let Some(stream) = &mut self.stream {
                let root = &roots[self.next_root - 1];
                match stream.next().transpose()? {
                    Some(tracked) if tracked.entry.path.is_within(root) => {
                        return Ok(Some((tracked.entry, false)));
                    }
                    _ => self.stream = None,
                }
            }
            if self.next_root == roots.len() {
                return Ok(None);
            }
            self.next_root += 1;
            self.turn_to(self.next_root - 1)?;
        }
    }

    fn is_left_out(&mut self, entry: &Entry) -> bool {
        if self.left_out.as_ref().is_some_and(|folder| entry.path.is_within(folder)) {
            return true;
        }
        let rules = FolderRules::none();
        if !self.selection.filter.excludes(&entry.path, entry.kind(), entry.size(), &rules) {
            return false;
        }
        if entry.kind() == Kind::Directory {
            self.left_out = Some(entry.path.clone());
        }
        true
    }

    fn next_pick(&mut self) -> Result<Option<Picked>> {
        let selection = self.selection;
        while let Some((mut entry, is_above)) = self.next_entry()? {
            let is_stripped =
                !selection.is_single && !selection.strip.is_root() && entry.path == selection.strip;
            if is_stripped || self.is_left_out(&entry) {
                continue;
            }
            entry.path = selection.path_in_target(&entry.path)?;
            return Ok(Some(Picked { entry, is_above }));
        }
        Ok(None)
    }
}

impl Iterator for Picks<'_> {
    type Item = Result<Picked>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_pick().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_within_others_are_dropped() {
        let paths = ["b/c", "a.txt", "a/b", "b", "a/b", "b.c"];
        let path = |text: &&str| EntryPath::new(text.as_bytes()).unwrap();

        let kept = outermost(paths.iter().map(path).collect());

        assert_eq!(kept, ["a/b", "a.txt", "b", "b.c"].iter().map(path).collect::<Vec<_>>());
    }
}

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
use crate::repository::Repository;
use crate::repository::history::Entries;
use crate::repository::history::Snapshot;
use crate::source::filter::Filter;
use crate::source::filter::FolderRules;
use crate::source::filter::Pattern;
use std::collections::VecDeque;

/// What of a snapshot is restored.
pub(crate) struct Selection<'a> {
    snapshot: &'a Snapshot,
    include: &'a [Pattern],
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
    /// `NotFound` when the snapshot has nothing at one of the paths, or nothing that matches.
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
        let (include, filter, strip) = (&options.include, &options.filter, strip.clone());
        let roots = outermost(roots);
        let selection = Selection { snapshot, include, filter, strip, is_single, roots };
        selection.refuse_nothing()?;
        Ok(selection)
    }

    /// Looks for the first entry that matches: where there is none nothing is to be made.
    fn refuse_nothing(&self) -> Result<()> {
        if self.include.is_empty() || self.entries().next().transpose()?.is_some() {
            return Ok(());
        }
        let patterns: Vec<String> = self.include.iter().map(|it| format!("`{it}`")).collect();
        let (number, dataset) = (self.snapshot.number().0, self.snapshot.dataset().name());
        let message = format!("nothing in {dataset}@{number} matches {}", patterns.join(" or "));
        Err(Error::new(ErrorKind::NotFound, message)
            .hint("`icecore find` looks for a pattern in all backups"))
    }

    /// Says whether the whole snapshot is asked for, but for what the filter leaves out.
    pub(crate) fn is_everything(&self) -> bool {
        self.include.is_empty() && self.roots.iter().all(EntryPath::is_root)
    }

    /// Says whether all names in the target's root are asked for.
    pub(super) fn covers_root(&self) -> bool {
        !self.is_single && self.roots.contains(&self.strip)
    }

    /// Says whether everything is asked for that lies within the paths.
    pub(super) fn leaves_nothing_out(&self) -> bool {
        self.include.is_empty() && self.filter.excludes_nothing()
    }

    /// Says whether what is at a path of the target is left out by the filter, or not included.
    pub(super) fn leaves_out(&self, path: &EntryPath, kind: Kind, size: u64) -> Result<bool> {
        let whole = self.below_strip(path)?;
        let is_included = self.include.is_empty()
            || self.includes(&whole, kind == Kind::Directory)
            || self.included_above(&whole).is_some();
        Ok(!is_included || self.filter.excludes(&whole, kind, size, &FolderRules::none()))
    }

    fn below_strip(&self, path: &EntryPath) -> Result<EntryPath> {
        let mut whole = self.strip.clone();
        for name in path.components() {
            whole = whole.join(name)?;
        }
        Ok(whole)
    }

    /// Returns the entry that has a path in the target, its path as the snapshot has it.
    ///
    /// # Errors
    /// Those of reading the snapshot.
    pub(super) fn entry_at(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let path = if self.is_single { self.strip.clone() } else { self.below_strip(path)? };
        Ok(self.snapshot.entry(&path)?.map(|tracked| tracked.entry))
    }

    /// Returns where the data came from, as the backup has it.
    pub(super) fn source(&self) -> &str {
        &self.snapshot.backup().header.source
    }

    /// Returns the repository that the snapshot is in.
    pub(super) fn repository(&self) -> &Repository {
        self.snapshot.repository()
    }

    /// Says whether a pattern matches this very path.
    fn includes(&self, path: &EntryPath, is_directory: bool) -> bool {
        self.include.iter().any(|pattern| pattern.matches(path, is_directory))
    }

    /// Returns a folder above a path that is included with all in it.
    fn included_above(&self, path: &EntryPath) -> Option<EntryPath> {
        let mut above = std::iter::successors(path.parent(), EntryPath::parent);
        above.find(|folder| self.includes(folder, true))
    }

    /// Goes through the entries in order.
    pub(crate) fn entries(&self) -> Picks<'_> {
        Picks {
            selection: self,
            next_root: 0,
            above: VecDeque::new(),
            stream: None,
            left_out: None,
            included: None,
            pending: Vec::new(),
            ready: VecDeque::new(),
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
    /// The folder that a pattern includes, with all in it.
    included: Option<EntryPath>,
    /// Folders that no pattern includes, each in the one before: they are made when something in
    /// them is.
    pending: Vec<(Entry, bool)>,
    ready: VecDeque<Picked>,
}

impl Picks<'_> {
    /// Turns to the next root: the folders above it come first, those that came already not
    /// again.
    fn turn_to(&mut self, number: usize) -> Result<()> {
        let Selection { snapshot, strip, roots, .. } = self.selection;
        let root = &roots[number];
        self.included = self.selection.included_above(root);
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

    fn is_included(&mut self, entry: &Entry) -> bool {
        if self.selection.include.is_empty()
            || self.included.as_ref().is_some_and(|folder| entry.path.is_within(folder))
        {
            return true;
        }
        let is_directory = entry.kind() == Kind::Directory;
        let is_included = self.selection.includes(&entry.path, is_directory);
        if is_included && is_directory {
            self.included = Some(entry.path.clone());
        }
        is_included
    }

    fn pick(&self, (mut entry, is_above): (Entry, bool)) -> Result<Picked> {
        entry.path = self.selection.path_in_target(&entry.path)?;
        Ok(Picked { entry, is_above })
    }

    fn next_pick(&mut self) -> Result<Option<Picked>> {
        let selection = self.selection;
        loop {
            if let Some(picked) = self.ready.pop_front() {
                return Ok(Some(picked));
            }
            let Some((entry, is_above)) = self.next_entry()? else { return Ok(None) };
            let is_included = !self.is_left_out(&entry) && self.is_included(&entry);
            let is_stripped =
                !selection.is_single && !selection.strip.is_root() && entry.path == selection.strip;
            if is_stripped {
                continue;
            }
            self.pending.retain(|(folder, _)| entry.path.is_within(&folder.path));
            if is_included {
                for folder in std::mem::take(&mut self.pending) {
                    let picked = self.pick(folder)?;
                    self.ready.push_back(picked);
                }
                let picked = self.pick((entry, is_above))?;
                self.ready.push_back(picked);
            } else if entry.kind() == Kind::Directory {
                self.pending.push((entry, is_above));
            }
        }
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

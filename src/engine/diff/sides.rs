//! Goes through the paths of two backups that may differ.
//!
//! A backup is a chain of links, a full index and manifests. What two backups of one dataset
//! have in common at the beginning of their chains makes no difference: only rows of the other
//! links can. For a path of which only one side has such a row, the other side has what the
//! common links say, and of these no more is read than that takes.

use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::engine::diff::Side;
use crate::engine::diff::nothing_at;
use crate::format::entry::Entry;
use crate::format::entry::TrackedEntry;
use crate::format::range::RangeRow;
use crate::repository::history::Entries;
use crate::repository::history::Merge;
use crate::repository::history::Snapshot;

/// One path and what each side has there. The entries keep the paths of their backups.
pub(super) type Pair = (EntryPath, Option<Entry>, Option<Entry>);

/// Streams the paths that may differ, in order.
pub(super) struct Sides {
    a: Half,
    b: Half,
    common: Option<Common>,
    is_over: bool,
}

impl Sides {
    /// Stands before the first path.
    pub(super) fn new(a: &Side, b: &Side) -> Result<Self> {
        for side in [a, b] {
            refuse_missing(&side.snapshot, &side.path)?;
        }
        let shared = shared_links(a, b);
        let common = (shared > 0)
            .then(|| Common { entries: a.snapshot.entries_of(0..shared, &a.path), next: None });
        Ok(Sides { a: Half::new(a, shared), b: Half::new(b, shared), common, is_over: false })
    }

    fn next_pair(&mut self) -> Result<Option<Pair>> {
        self.a.fill()?;
        self.b.fill()?;
        let path = match (&self.a.head, &self.b.head) {
            (None, None) => return Ok(None),
            (Some(head), None) | (None, Some(head)) => head.path.clone(),
            (Some(a), Some(b)) => a.path.clone().min(b.path.clone()),
        };
        let (a, b) = (self.a.take(&path), self.b.take(&path));
        let (before, after) = match (a, b) {
            (Some(a), Some(b)) => (a.entry, b.entry),
            (Some(a), None) => (a.entry, self.common_entry(&a.whole)?),
            (None, Some(b)) => (self.common_entry(&b.whole)?, b.entry),
            (None, None) => (None, None),
        };
        Ok(Some((path, before, after)))
    }

    fn common_entry(&mut self, whole: &EntryPath) -> Result<Option<Entry>> {
        self.common.as_mut().map_or(Ok(None), |common| common.entry(whole))
    }
}

impl Iterator for Sides {
    type Item = Result<Pair>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let pair = self.next_pair();
        self.is_over = pair.is_err();
        pair.transpose()
    }
}

fn refuse_missing(snapshot: &Snapshot, path: &EntryPath) -> Result<()> {
    if path.is_root() || snapshot.entry(path)?.is_some() {
        return Ok(());
    }
    Err(nothing_at(snapshot, path))
}

/// Counts the links at the beginning that both sides have.
fn shared_links(a: &Side, b: &Side) -> usize {
    let is_one_line = a.snapshot.dataset().id() == b.snapshot.dataset().id() && a.path == b.path;
    let links = a.snapshot.chain().iter().zip(b.snapshot.chain());
    let is_same = links.take_while(|(one, other)| one.digest == other.digest);
    if is_one_line { is_same.count() } else { 0 }
}

/// The rows of one side that the other does not have as well.
struct Half {
    rows: Merge,
    within: EntryPath,
    head: Option<Head>,
}

struct Head {
    /// The path as seen from what is compared.
    path: EntryPath,
    /// The path in the backup.
    whole: EntryPath,
    /// What is there; None when it was deleted.
    entry: Option<Entry>,
}

impl Half {
    fn new(side: &Side, shared: usize) -> Self {
        let repository = side.snapshot.repository();
        let own = &side.snapshot.chain()[shared..];
        let rows = own.iter().map(|link| repository.rows(link, &side.path));
        Half { rows: Merge::new(rows.collect()), within: side.path.clone(), head: None }
    }

    fn fill(&mut self) -> Result<()> {
        if self.head.is_some() {
            return Ok(());
        }
        let Some(row) = self.rows.next_row()? else { return Ok(()) };
        let Some(path) = row.path().relative_to(&self.within) else {
            // Beyond what is compared.
            self.rows = Merge::new(Vec::new());
            return Ok(());
        };
        let whole = row.path().clone();
        let entry = match row {
            RangeRow::Put(_, tracked) => Some(tracked.entry),
            RangeRow::Deleted(_) => None,
        };
        self.head = Some(Head { path, whole, entry });
        Ok(())
    }

    fn take(&mut self, path: &EntryPath) -> Option<Head> {
        self.head.take_if(|head| head.path == *path)
    }
}

/// What the common links say, asked for in order of paths.
struct Common {
    entries: Entries,
    next: Option<TrackedEntry>,
}

impl Common {
    fn entry(&mut self, path: &EntryPath) -> Result<Option<Entry>> {
        if self.next.as_ref().is_none_or(|next| next.entry.path < *path) {
            self.entries.skip_to(path);
            self.next = self.entries.next().transpose()?;
        }
        let found = self.next.take_if(|next| next.entry.path == *path);
        Ok(found.map(|tracked| tracked.entry))
    }
}

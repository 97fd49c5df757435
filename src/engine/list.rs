//! Datasets, backups, entries, and what a backup changed: everything that is only looked at.
//!
//! Entries come as streams that end where the folder asked for ends; nothing is kept, so the
//! memory needed does not grow with the dataset.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::format::dataset::DatasetName;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::range::Change;
use crate::format::range::RangeRow;
use crate::repository::Repository;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Shown;
use crate::repository::history::Entries;
use crate::repository::history::RowStream;
use crate::repository::history::Snapshot;
use std::cmp::Ordering;
use std::io::Write;
use std::iter::Peekable;
use std::sync::Arc;

/// A subtree that is left out of a listing is jumped over once so many of its entries were read:
/// a jump opens all streams of the chain anew.
const JUMP_AFTER: usize = 2048;
/// Zeros written at a time for a hole.
const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// A dataset in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetSummary {
    /// Its name.
    pub name: DatasetName,
    /// Its id; two names have the same one while a rename is under way or was interrupted.
    pub id: DatasetId,
    /// How many backups are visible.
    pub backups: u64,
    /// The newest, if there is one.
    pub latest: Option<BackupId>,
    /// When that was made.
    pub time: Option<Timestamp>,
    /// Entries in it that are not folders.
    pub files: u64,
    /// Bytes of its files, holes counted.
    pub bytes: u64,
    /// Bytes that all visible backups put into the repository.
    pub stored_bytes: u64,
}

/// Returns all datasets, sorted by name.
///
/// # Errors
/// Those of the repository.
pub fn datasets(repository: &Repository) -> Result<Vec<DatasetSummary>> {
    repository.datasets()?.iter().map(summarize).collect()
}

/// Returns the datasets as far as they can be read, sorted by name, and what is missing or
/// damaged. With a filter only backups that it lets pass count, and a dataset without any is left
/// out.
///
/// # Errors
/// Those of the backend.
pub fn shown_datasets(
    repository: &Repository,
    filter: Option<&dyn Fn(&Backup) -> bool>,
) -> Result<Shown<DatasetSummary>> {
    let datasets = repository.shown_datasets()?;
    let mut shown = Shown { readable: Vec::new(), problems: datasets.problems };
    for dataset in datasets.readable {
        match dataset.shown_backups() {
            Ok(mut backups) => {
                if let Some(passes) = filter {
                    backups.readable.retain(|backup| passes(backup));
                }
                if filter.is_none() || !backups.readable.is_empty() {
                    shown.readable.push(summary(&dataset, &backups.readable));
                }
                shown.problems.append(&mut backups.problems);
            }
            Err(e) if e.kind() == ErrorKind::Corrupt => shown.problems.push(e),
            Err(e) => return Err(e),
        }
    }
    Ok(shown)
}

fn summarize(dataset: &Dataset) -> Result<DatasetSummary> {
    Ok(summary(dataset, &dataset.backups()?))
}

fn summary(dataset: &Dataset, backups: &[Arc<Backup>]) -> DatasetSummary {
    let latest = backups.last().map(|backup| &backup.header);
    DatasetSummary {
        name: dataset.name().clone(),
        id: dataset.id(),
        backups: backups.len() as u64,
        latest: latest.map(|header| header.number),
        time: latest.map(|header| header.started),
        files: latest.map_or(0, |header| header.counts.files),
        bytes: latest.map_or(0, |header| header.counts.bytes),
        // What a header counts is only told.
        stored_bytes: backups
            .iter()
            .map(|backup| backup.header.counts.stored_bytes)
            .fold(0, u64::saturating_add),
    }
}

/// Returns the snapshot of a backup.
///
/// # Errors
/// Those of the repository.
pub fn snapshot(dataset: &Dataset, backup: Arc<Backup>) -> Result<Snapshot> {
    dataset.snapshot(&dataset.shown_numbers()?, backup)
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only what is directly in the folder.
    Folder,
    /// Everything below it.
    Tree,
}

/// Lists what is below a folder of a snapshot, or the one entry when it is no folder.
///
/// # Errors
/// `NotFound` when the snapshot has no such path; those of the repository.
pub fn entries(snapshot: &Snapshot, path: &EntryPath, depth: Depth) -> Result<Listing> {
    let mut entries = snapshot.entries_from(path);
    let first = entries.next().transpose()?.map(|tracked| tracked.entry);
    let top = match first {
        Some(entry) if entry.path == *path => entry,
        // A backup without an entry for its root is empty.
        _ if path.is_root() => return Ok(Listing::of(snapshot, path, depth, entries, first)),
        _ => return Err(no_entry(snapshot, path)),
    };
    let single = if top.kind() == Kind::Directory { None } else { Some(top) };
    Ok(Listing::of(snapshot, path, depth, entries, single))
}

fn no_entry(snapshot: &Snapshot, path: &EntryPath) -> Error {
    let (name, number) = (snapshot.dataset().name(), snapshot.number().0);
    Error::new(ErrorKind::NotFound, format!("there is no {path} in {name}@{number}"))
        .hint(format!("`icecore ls {name}@{number}` shows what is in it"))
}

/// Streams the entries of a listing in order.
pub struct Listing {
    snapshot: Snapshot,
    below: EntryPath,
    depth: Depth,
    entries: Entries,
    first: Option<Entry>,
    /// The last folder whose subtree is left out, and how many of its entries were read.
    skipped: (EntryPath, usize),
    is_done: bool,
}

impl Listing {
    fn of(
        snapshot: &Snapshot,
        below: &EntryPath,
        depth: Depth,
        entries: Entries,
        first: Option<Entry>,
    ) -> Self {
        Listing {
            snapshot: snapshot.clone(),
            below: below.clone(),
            depth,
            entries,
            first,
            skipped: (EntryPath::root(), 0),
            is_done: false,
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        while !self.is_done {
            let next = match self.first.take() {
                Some(entry) => Some(entry),
                None => self.entries.next().transpose()?.map(|tracked| tracked.entry),
            };
            let Some(entry) = next.filter(|entry| entry.path.is_within(&self.below)) else { break };
            if self.depth == Depth::Tree || !self.is_deeper(&entry.path) {
                return Ok(Some(entry));
            }
            self.skip(&entry.path)?;
        }
        self.is_done = true;
        Ok(None)
    }

    fn is_deeper(&self, path: &EntryPath) -> bool {
        path.depth() > self.below.depth() + 1
    }

    /// Counts an entry that is left out, and jumps behind its folder when there are many.
    fn skip(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_within(&self.skipped.0) && !self.skipped.0.is_root() {
            self.skipped.1 += 1;
        } else {
            let name = path.components().nth(self.below.depth()).unwrap_or_default();
            self.skipped = (self.below.join(name)?, 1);
        }
        if self.skipped.1 == JUMP_AFTER
            && let Some(behind) = behind(&self.skipped.0)
        {
            self.entries = self.snapshot.entries_from(&behind);
        }
        Ok(())
    }
}

/// The least path that comes after a folder's subtree; none when it would be too long.
fn behind(folder: &EntryPath) -> Option<EntryPath> {
    // No name holds the byte 0, and `/` counts as less than every byte.
    EntryPath::new(&[folder.as_bytes(), &[1]].concat()).ok()
}

impl Iterator for Listing {
    type Item = Result<Entry>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

/// Writes the content of one file, holes as zeros, every blob verified. Returns its length.
///
/// # Errors
/// `NotFound`; `InvalidInput` when it is no file; those of the repository and of `out`.
pub fn cat(
    snapshot: &Snapshot,
    path: &EntryPath,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<u64> {
    let tracked = snapshot.entry(path)?.ok_or_else(|| no_entry(snapshot, path))?;
    let EntryNode::File(file) = &tracked.entry.node else {
        let word = match tracked.entry.kind() {
            Kind::Directory => "folder",
            other => other.as_str(),
        };
        let shown = if path.is_root() { "the root".to_owned() } else { path.to_string() };
        return Err(Error::invalid(format!("{shown} is no file but a {word}"))
            .hint("`icecore ls` lists a folder, `icecore restore` brings anything back"));
    };
    let repository = snapshot.repository();
    let doing = |e: Error| e.context(format!("cannot read {path}"));
    let extents = file.extents().into_iter();
    let mut writer = HoleWriter { out, cancel, extents, at: 0, open: 0 };
    repository.for_each_run(file, &mut |run| {
        let block = repository.read_block(&run.block, &[(run.first, run.count)]).map_err(doing)?;
        for place in run.first..run.first.saturating_add(run.count) {
            writer.write(block.blob(repository, place).map_err(doing)?)?;
        }
        Ok(())
    })?;
    writer.finish(file.size)?;
    Ok(file.size)
}

/// Lays a file's data where it belongs.
struct HoleWriter<'a> {
    out: &'a mut dyn Write,
    cancel: &'a Cancel,
    extents: std::vec::IntoIter<Extent>,
    /// How far the file is written.
    at: u64,
    /// How much of the extent begun is still to come.
    open: u64,
}

impl HoleWriter<'_> {
    fn write(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            if self.open == 0 {
                let extent = self.extents.next().ok_or_else(too_much)?;
                self.zeros(extent.offset)?;
                self.open = extent.length;
            }
            let length = data.len().min(usize::try_from(self.open).unwrap_or(usize::MAX));
            self.put(&data[..length])?;
            self.open -= length as u64;
            data = &data[length..];
        }
        Ok(())
    }

    fn zeros(&mut self, until: u64) -> Result<()> {
        while self.at < until {
            let length = (until - self.at).min(ZEROS.len() as u64) as usize;
            self.put(&ZEROS[..length])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        // A hole may be as long as an exbibyte.
        self.cancel.check()?;
        self.out.write_all(bytes).map_err(|e| Error::io("cannot write the content", e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self, size: u64) -> Result<()> {
        self.zeros(size)
    }
}

fn too_much() -> Error {
    Error::corrupt("a file has more data than room for it").at(Origin::Repository)
}

/// How an entry changed against the backup before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It was otherwise.
    Modified,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// Returns the word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Added => "added",
            ChangeKind::Modified => "modified",
            ChangeKind::Deleted => "deleted",
        }
    }
}

/// One entry that a backup found changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// How it changed.
    pub change: ChangeKind,
    /// Where it is.
    pub path: EntryPath,
    /// The entry as it is now; None when it is gone.
    pub entry: Option<Entry>,
}

/// Streams what a backup found added, modified and deleted against the one before, in order of
/// paths: a partial one's own rows, or a full one's entries beside its parent's.
///
/// # Errors
/// Those of the repository; the parent of a full backup must still be there, even if forgotten.
pub fn changes(dataset: &Dataset, backup: Arc<Backup>) -> Result<Changes> {
    let numbers = dataset.shown_numbers()?;
    let parent = backup.header.parent;
    let is_full = backup.header.is_full();
    let after = dataset.snapshot(&numbers, backup)?;
    if !is_full {
        return Ok(Changes::Own(Box::new(after.own_rows())));
    }
    let before = match parent {
        None => None,
        Some(parent) => {
            let parent = Arc::new(dataset.chain_link(&numbers, parent)?);
            Some(dataset.snapshot(&numbers, parent)?.entries().peekable())
        }
    };
    Ok(Changes::Merged(Box::new(Sides { before, after: after.entries().peekable() })))
}

/// Streams the changes of one backup.
pub enum Changes {
    /// The rows of a manifest.
    Own(Box<RowStream>),
    /// Two snapshots side by side.
    Merged(Box<Sides>),
}

/// Two snapshots side by side.
pub struct Sides {
    before: Option<Peekable<Entries>>,
    after: Peekable<Entries>,
}

impl Sides {
    fn next_change(&mut self) -> Result<Option<ChangeRow>> {
        loop {
            let (before, after) = match self.step() {
                (None, None) => return Ok(None),
                (before, after) => (before.transpose()?, after.transpose()?),
            };
            let row = match (before, after) {
                (Some(before), Some(after)) if before == after => continue,
                (Some(_), Some(after)) => put(ChangeKind::Modified, after),
                (None, Some(after)) => put(ChangeKind::Added, after),
                (Some(before), None) => deleted(before.path),
                (None, None) => return Ok(None),
            };
            return Ok(Some(row));
        }
    }

    /// Takes the next path from the side or sides that have it. An error counts as least, so
    /// that it is seen at once.
    fn step(&mut self) -> (Option<Result<Entry>>, Option<Result<Entry>>) {
        let plain = |item: Result<crate::format::entry::TrackedEntry>| item.map(|it| it.entry);
        let order = match (self.before.as_mut().and_then(Peekable::peek), self.after.peek()) {
            (Some(Ok(before)), Some(Ok(after))) => before.entry.path.cmp(&after.entry.path),
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let before = match order {
            Ordering::Greater => None,
            _ => self.before.as_mut().and_then(Iterator::next).map(plain),
        };
        let after = match order {
            Ordering::Less => None,
            _ => self.after.next().map(plain),
        };
        (before, after)
    }
}

fn put(change: ChangeKind, entry: Entry) -> ChangeRow {
    ChangeRow { change, path: entry.path.clone(), entry: Some(entry) }
}

fn deleted(path: EntryPath) -> ChangeRow {
    ChangeRow { change: ChangeKind::Deleted, path, entry: None }
}

impl Iterator for Changes {
    type Item = Result<ChangeRow>;
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Changes::Merged(sides) => sides.next_change().transpose(),
            Changes::Own(rows) => rows.next().map(|row| {
                row.map(|row| match row {
                    RangeRow::Put(Change::Modified, it) => put(ChangeKind::Modified, it.entry),
                    RangeRow::Put(_, tracked) => put(ChangeKind::Added, tracked.entry),
                    RangeRow::Deleted(path) => deleted(path),
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_written_as_zeros() {
        let mut out = Vec::new();
        let extents = vec![Extent { offset: 2, length: 3 }, Extent { offset: 7, length: 1 }];
        let mut writer = HoleWriter {
            out: &mut out,
            cancel: &Cancel::new(),
            extents: extents.into_iter(),
            at: 0,
            open: 0,
        };
        writer.write(b"ab").expect("writes");
        writer.write(b"cd").expect("writes");
        writer.finish(10).expect("writes");
        assert!(writer.write(b"e").is_err(), "no extent is left");
        assert_eq!(out, b"\0\0abc\0\0d\0\0");
    }

    #[test]
    fn what_comes_behind_a_folder_is_found() {
        let path = |text: &str| EntryPath::new(text.as_bytes()).expect("a path");
        let behind = behind(&path("a/b")).expect("a path");
        assert!(path("a/b/zz") < behind);
        assert!(behind <= path("a/b\u{1}") && behind < path("a/b.txt"));
    }
}

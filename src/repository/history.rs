//! Nearest full index plus replay gives a snapshot: a stream of sorted entries.
//!
//! Every backup of the chain is a sorted stream of rows; they are merged, and of rows for one
//! path the one of the highest number wins. A stream holds one decoded range at a time, and a
//! chain has at most 65 streams, so memory does not grow with the dataset.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::path::EntryPath;
use crate::format::backup;
use crate::format::backup::BlobPlace;
use crate::format::backup::Body;
use crate::format::backup::RangeRef;
use crate::format::entry::Content;
use crate::format::entry::FileNode;
use crate::format::entry::Run;
use crate::format::entry::TrackedEntry;
use crate::format::range;
use crate::format::range::Change;
use crate::format::range::RangeRow;
use crate::repository::Repository;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::lost::LostPlaces;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::sync::Arc;

/// The state of a dataset at one backup.
#[derive(Clone)]
pub struct Snapshot {
    dataset: Dataset,
    backup: Arc<Backup>,
    /// The full backup first, this one last.
    chain: Vec<Arc<Backup>>,
}

impl Dataset {
    /// Returns the newest backup with its chain. No lease pins it yet, so a prune may take it
    /// away while it is looked at, once it was forgotten: then another one is the newest.
    ///
    /// # Errors
    /// Those of [`Dataset::snapshot`].
    pub fn newest_snapshot(&self) -> Result<Option<Snapshot>> {
        let look = || {
            let numbers = self.newest_numbers()?;
            let newest = self.newest(&numbers)?.map(Arc::new);
            newest.map(|newest| self.snapshot(&numbers, newest)).transpose()
        };
        for _ in 1..COMMIT_TRIES_MAX {
            match look() {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                found => return found,
            }
        }
        look()
    }

    /// Returns the snapshot of a backup: its header and those of its chain.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when a link of the chain is missing.
    pub fn snapshot(&self, numbers: &Numbers, backup: Arc<Backup>) -> Result<Snapshot> {
        let mut chain = Vec::with_capacity(backup.header.chain.len() + 1);
        for (position, &n) in backup.header.chain.iter().enumerate() {
            let link = self.chain_link(numbers, n)?;
            let expected = &backup.header.chain[..position];
            if link.header.chain != expected {
                return Err(Error::corrupt(format!(
                    "{n} of {} is not the link that {} was written on",
                    self.name(),
                    backup.header.number
                ))
                .at(Origin::Repository));
            }
            chain.push(Arc::new(link));
        }
        chain.push(Arc::clone(&backup));
        Ok(Snapshot { dataset: self.clone(), backup, chain })
    }
}

impl Snapshot {
    /// Returns the dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        self.dataset.repository()
    }

    /// Returns the backup it is the state of.
    pub fn backup(&self) -> &Backup {
        &self.backup
    }

    /// Returns its number.
    pub fn number(&self) -> BackupId {
        self.backup.header.number
    }

    /// Returns the backups that are replayed, the full one first.
    pub fn chain(&self) -> &[Arc<Backup>] {
        &self.chain
    }

    /// Streams all entries in order.
    pub fn entries(&self) -> Entries {
        self.entries_from(&EntryPath::root())
    }

    /// Streams the entries from `first` on, in order; ranges that end before it are not read.
    pub fn entries_from(&self, first: &EntryPath) -> Entries {
        let streams = self
            .chain
            .iter()
            .map(|backup| RowStream::new(self.repository().clone(), &backup.header.body, first))
            .collect();
        Entries { merge: Merge::new(streams), first: first.clone() }
    }

    /// Returns one entry, or None when the snapshot has no such path.
    ///
    /// # Errors
    /// Those of reading the ranges.
    pub fn entry(&self, path: &EntryPath) -> Result<Option<TrackedEntry>> {
        match self.entries_from(path).next().transpose()? {
            Some(tracked) if tracked.entry.path == *path => Ok(Some(tracked)),
            _ => Ok(None),
        }
    }

    /// Streams the rows of this backup's own manifest, or of its full index.
    pub fn own_rows(&self) -> RowStream {
        let body = &self.backup.header.body;
        RowStream::new(self.repository().clone(), body, &EntryPath::root())
    }
}

impl Repository {
    /// Returns all runs of a file's data, reading its lists of runs if it has such.
    ///
    /// # Errors
    /// Those of reading blocks; `Corrupt` when the runs do not add up to the file.
    pub fn runs_of(&self, file: &FileNode) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        self.for_each_run(file, &mut |run| {
            runs.push(*run);
            Ok(())
        })?;
        Ok(runs)
    }

    /// Visits all runs of a file's data. Lists of runs are read one by one, so that a file with
    /// very many takes no more memory than any other, and none once they say too much.
    ///
    /// # Errors
    /// Those of reading lists and of `visit`; `Corrupt` when the runs do not add up to the file.
    pub fn for_each_run(
        &self,
        file: &FileNode,
        visit: &mut dyn FnMut(&Run) -> Result<()>,
    ) -> Result<()> {
        let data_bytes = file.data_bytes();
        let mut total = 0_u64;
        let mut each = |run: &Run| {
            total = total.saturating_add(run.bytes);
            if total > data_bytes { Err(not_adding_up()) } else { visit(run) }
        };
        match &file.content {
            Content::Runs(runs) => runs.iter().try_for_each(&mut each)?,
            Content::Listed(lists) => {
                for list in lists {
                    for place in list.first..list.first.saturating_add(list.count) {
                        let blob = self.read_blob(&list.block, place)?;
                        range::decode_run_list(&blob)?.iter().try_for_each(&mut each)?;
                    }
                }
            }
        }
        if total == data_bytes { Ok(()) } else { Err(not_adding_up()) }
    }
}

fn not_adding_up() -> Error {
    Error::corrupt("the runs of a file do not add up to its length").at(Origin::Repository)
}

/// What one backup needs beside its header, for those who must not lose any of it. What was
/// declared lost is left out.
impl Repository {
    /// Streams the rows of a body.
    pub fn rows_of(&self, body: &Body, lost: &Arc<LostPlaces>) -> RowStream {
        let mut rows = RowStream::new(self.clone(), body, &EntryPath::root());
        rows.lost = Some(Arc::clone(lost));
        rows
    }

    /// Shows every blob of metadata that a body names: lists, ranges, companions.
    ///
    /// # Errors
    /// Those of reading lists, and of `visit`.
    pub fn visit_metadata(
        &self,
        body: &Body,
        lost: &LostPlaces,
        visit: &mut dyn FnMut(&BlobPlace) -> Result<()>,
    ) -> Result<()> {
        let ranges = |ranges: &[RangeRef], visit: &mut dyn FnMut(&BlobPlace) -> Result<()>| {
            ranges.iter().try_for_each(|range| {
                visit(&range.range)?;
                visit(&range.companion)
            })
        };
        match body {
            Body::Inline(_) => Ok(()),
            Body::Ranges(named) => ranges(named, visit),
            Body::Lists(lists) => lists.iter().try_for_each(|list| {
                if lost.contains(&list.block, list.place) {
                    return Ok(());
                }
                visit(list)?;
                let blob = self.read_blob(&list.block, list.place)?;
                ranges(&backup::decode_range_list(&blob)?, visit)
            }),
        }
    }

    /// Shows every run that a file needs: its own, its lists of runs, and the runs they name.
    ///
    /// # Errors
    /// Those of reading lists, and of `visit`.
    pub fn visit_runs(
        &self,
        file: &FileNode,
        lost: &LostPlaces,
        visit: &mut dyn FnMut(&Run) -> Result<()>,
    ) -> Result<()> {
        let lists = match &file.content {
            Content::Runs(runs) => return runs.iter().try_for_each(visit),
            Content::Listed(lists) => lists,
        };
        for list in lists {
            visit(list)?;
            for place in list.first..list.first.saturating_add(list.count) {
                if !lost.contains(&list.block, place) {
                    let blob = self.read_blob(&list.block, place)?;
                    range::decode_run_list(&blob)?.iter().try_for_each(&mut *visit)?;
                }
            }
        }
        Ok(())
    }
}

/// Streams the rows of one backup, range by range.
pub struct RowStream {
    repository: Repository,
    first: EntryPath,
    inline: VecDeque<(Vec<u8>, Vec<u8>)>,
    lists: VecDeque<BlobPlace>,
    ranges: VecDeque<RangeRef>,
    rows: std::vec::IntoIter<RangeRow>,
    last: Option<EntryPath>,
    /// Ranges at these places are left out instead of failing.
    lost: Option<Arc<LostPlaces>>,
}

impl RowStream {
    fn new(repository: Repository, body: &Body, first: &EntryPath) -> Self {
        let mut stream = RowStream {
            repository,
            first: first.clone(),
            inline: VecDeque::new(),
            lists: VecDeque::new(),
            ranges: VecDeque::new(),
            rows: Vec::new().into_iter(),
            last: None,
            lost: None,
        };
        match body {
            Body::Inline(ranges) => stream.inline = ranges.iter().cloned().collect(),
            Body::Ranges(ranges) => stream.add_ranges(ranges),
            Body::Lists(lists) => stream.lists = lists.iter().copied().collect(),
        }
        stream
    }

    /// Queues the ranges that reach to `first` or beyond.
    fn add_ranges(&mut self, ranges: &[RangeRef]) {
        let skip = ranges.partition_point(|range| range.first <= self.first).saturating_sub(1);
        self.ranges = ranges[skip..].iter().cloned().collect();
    }

    fn next_range(&mut self) -> Result<Option<Vec<RangeRow>>> {
        loop {
            if let Some((range, companion)) = self.inline.pop_front() {
                return range::decode(&range, Some(&companion)).map(Some);
            }
            if let Some(range) = self.ranges.pop_front() {
                if self.is_lost(&range.range) || self.is_lost(&range.companion) {
                    continue;
                }
                return self.read_range(&range).map(Some);
            }
            let Some(list) = self.lists.pop_front() else { return Ok(None) };
            if self.is_lost(&list) {
                continue;
            }
            let blob = self.repository.read_blob(&list.block, list.place)?;
            self.add_ranges(&backup::decode_range_list(&blob)?);
        }
    }

    fn is_lost(&self, at: &BlobPlace) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.contains(&at.block, at.place))
    }

    fn read_range(&self, range: &RangeRef) -> Result<Vec<RangeRow>> {
        let bytes = self.repository.read_blob(&range.range.block, range.range.place)?;
        let at = &range.companion;
        let companion = self.repository.read_blob(&at.block, at.place)?;
        let rows = range::decode(&bytes, Some(&companion))?;
        let fits = rows.len() == range.rows as usize
            && rows.first().is_some_and(|row| *row.path() == range.first);
        if fits { Ok(rows) } else { Err(Error::corrupt("a list names another range")) }
    }

    fn next_row(&mut self) -> Result<Option<RangeRow>> {
        loop {
            let Some(row) = self.rows.next() else {
                match self.next_range().map_err(|e| e.at(Origin::Repository))? {
                    Some(rows) => self.rows = rows.into_iter(),
                    None => return Ok(None),
                }
                continue;
            };
            if self.last.as_ref().is_some_and(|last| last >= row.path()) {
                return Err(Error::corrupt("ranges are out of order").at(Origin::Repository));
            }
            self.last = Some(row.path().clone());
            if *row.path() >= self.first {
                return Ok(Some(row));
            }
        }
    }
}

impl Iterator for RowStream {
    type Item = Result<RangeRow>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// The head of one stream, ordered so that a heap gives the least path, newest stream first.
struct Head {
    row: RangeRow,
    stream: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.row.path().cmp(self.row.path()).then(self.stream.cmp(&other.stream))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// Merges the streams of a chain.
struct Merge {
    streams: Vec<RowStream>,
    heads: BinaryHeap<Head>,
    /// Streams whose next row is not in the heap yet.
    starved: Vec<usize>,
}

impl Merge {
    fn new(streams: Vec<RowStream>) -> Self {
        let starved = (0..streams.len()).collect();
        Merge { streams, heads: BinaryHeap::new(), starved }
    }

    /// Returns the newest row of the next path.
    fn next_row(&mut self) -> Result<Option<RangeRow>> {
        while let Some(stream) = self.starved.pop() {
            if let Some(row) = self.streams[stream].next_row()? {
                self.heads.push(Head { row, stream });
            }
        }
        let Some(newest) = self.heads.pop() else { return Ok(None) };
        self.starved.push(newest.stream);
        while let Some(head) = self.heads.peek()
            && head.row.path() == newest.row.path()
        {
            self.starved.extend(self.heads.pop().map(|head| head.stream));
        }
        Ok(Some(newest.row))
    }
}

/// Streams the entries of a snapshot in order.
pub struct Entries {
    merge: Merge,
    first: EntryPath,
}

impl Entries {
    fn next_entry(&mut self) -> Result<Option<TrackedEntry>> {
        while let Some(row) = self.merge.next_row()? {
            match row {
                RangeRow::Put(_, tracked) if tracked.entry.path >= self.first => {
                    return Ok(Some(tracked));
                }
                RangeRow::Put(..) | RangeRow::Deleted(_) => {}
            }
        }
        Ok(None)
    }
}

impl Iterator for Entries {
    type Item = Result<TrackedEntry>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

/// Says how a row changed its path, as people read it.
pub fn change_word(row: &RangeRow) -> &'static str {
    match row {
        RangeRow::Put(Change::Added, _) => "added",
        RangeRow::Put(Change::Modified, _) => "modified",
        RangeRow::Put(Change::Present, _) => "present",
        RangeRow::Deleted(_) => "deleted",
    }
}

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
use std::ops::Range;
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
        self.entries_of(0..self.chain.len(), first)
    }

    /// Streams the entries that some links of the chain make by themselves, from `first` on.
    ///
    /// # Panics
    /// When the chain has no such links.
    pub fn entries_of(&self, links: Range<usize>, first: &EntryPath) -> Entries {
        let streams = self.chain[links].iter().map(|backup| self.repository().rows(backup, first));
        Entries { merge: Merge::new(streams.collect()), first: first.clone() }
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

    /// Says whether any range that it is replayed from is lost: then it cannot be gone out from,
    /// not even where a cache has its entries.
    pub fn is_touched_by(&self, lost: &LostPlaces) -> bool {
        let is_lost = |at: &BlobPlace| lost.contains(&at.block, at.place);
        let hits = |ranges: &[RangeRef]| {
            ranges.iter().any(|range| is_lost(&range.range) || is_lost(&range.companion))
        };
        !lost.is_empty()
            && self.chain.iter().any(|backup| match &backup.header.body {
                Body::Inline(_) => false,
                Body::Ranges(ranges) => hits(ranges),
                Body::Lists(lists) => lists.iter().any(|list| {
                    let read = || self.repository().read_blob(&list.block, list.place);
                    is_lost(list)
                        || read()
                            .and_then(|blob| backup::decode_range_list(&blob))
                            .is_ok_and(|ranges| hits(&ranges))
                }),
            })
    }

    /// Streams the rows of this backup's own manifest, or of its full index.
    pub fn own_rows(&self) -> RowStream {
        self.repository().rows(&self.backup, &EntryPath::root())
    }
}

impl Repository {
    /// Streams the rows of one backup's own manifest, or of its full index, from `first` on.
    pub fn rows(&self, backup: &Backup, first: &EntryPath) -> RowStream {
        RowStream::new(self.clone(), &backup.header.body, first)
    }
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
}

/// Says which rows are wanted.
pub type Wanted = Arc<dyn Fn(&RangeRow) -> bool + Send + Sync>;

/// Streams the rows of one backup, range by range. It ends with the first error.
pub struct RowStream {
    repository: Repository,
    first: EntryPath,
    wanted: Option<Wanted>,
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
            wanted: None,
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

    /// Leaves out the rows that are not wanted. They are dropped as soon as they are decoded, so
    /// that very many streams can be merged that yield little.
    pub fn only(mut self, wanted: Wanted) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// Goes on at `first`, if the stream is not beyond it; ranges that end before it are not
    /// read.
    pub fn skip_to(&mut self, first: &EntryPath) {
        if *first > self.first {
            self.first = first.clone();
            let before = self.ranges.partition_point(|range| range.first <= self.first);
            self.ranges.drain(..before.saturating_sub(1));
        }
    }

    /// Queues the ranges that reach to `first` or beyond.
    fn add_ranges(&mut self, ranges: &[RangeRef]) {
        let skip = ranges.partition_point(|range| range.first <= self.first).saturating_sub(1);
        self.ranges = ranges[skip..].iter().cloned().collect();
    }

    /// After an error nothing comes any more: what follows would seem to be all there is.
    fn end(&mut self) {
        self.inline.clear();
        self.lists.clear();
        self.ranges.clear();
        self.rows = Vec::new().into_iter();
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

    fn wanted_of(&self, mut rows: Vec<RangeRow>) -> Vec<RangeRow> {
        if let Some(wanted) = &self.wanted {
            rows.retain(|row| wanted(row));
            rows.shrink_to_fit();
        }
        rows
    }

    fn next_row(&mut self) -> Result<Option<RangeRow>> {
        loop {
            let Some(row) = self.rows.next() else {
                match self.next_range().map_err(|e| e.at(Origin::Repository))? {
                    Some(rows) => self.rows = self.wanted_of(rows).into_iter(),
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
        let row = self.next_row();
        if row.is_err() {
            self.end();
        }
        row.transpose()
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

/// Merges the rows of several backups by path. It ends with the first error: without the
/// stream that failed, rows that it replaced would come to light.
pub struct Merge {
    streams: Vec<RowStream>,
    heads: BinaryHeap<Head>,
    /// Streams whose next row is not in the heap yet.
    starved: Vec<usize>,
}

impl Merge {
    /// Merges streams, the oldest first.
    pub fn new(streams: Vec<RowStream>) -> Self {
        let starved = (0..streams.len()).collect();
        Merge { streams, heads: BinaryHeap::new(), starved }
    }

    fn feed(&mut self) -> Result<()> {
        while let Some(stream) = self.starved.pop() {
            match self.streams[stream].next() {
                Some(Ok(row)) => self.heads.push(Head { row, stream }),
                Some(Err(e)) => {
                    *self = Merge::new(Vec::new());
                    return Err(e);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the newest row of the next path.
    ///
    /// # Errors
    /// Those of reading the ranges.
    pub fn next_row(&mut self) -> Result<Option<RangeRow>> {
        self.feed()?;
        let Some(newest) = self.heads.pop() else { return Ok(None) };
        self.starved.push(newest.stream);
        while let Some(head) = self.heads.peek()
            && head.row.path() == newest.row.path()
        {
            self.starved.extend(self.heads.pop().map(|head| head.stream));
        }
        Ok(Some(newest.row))
    }

    /// Returns all rows of the next path, each with the position of its stream, the oldest
    /// first; none at the end.
    ///
    /// # Errors
    /// Those of reading the ranges.
    pub fn next_rows(&mut self) -> Result<Vec<(usize, RangeRow)>> {
        self.feed()?;
        let mut rows: Vec<(usize, RangeRow)> = Vec::new();
        while let Some(head) = self.heads.peek()
            && rows.first().is_none_or(|(_, first)| first.path() == head.row.path())
        {
            rows.extend(self.heads.pop().map(|head| (head.stream, head.row)));
        }
        self.starved.extend(rows.iter().map(|(stream, _)| stream));
        rows.reverse();
        Ok(rows)
    }

    fn skip_to(&mut self, first: &EntryPath) {
        self.streams.iter_mut().for_each(|stream| stream.skip_to(first));
        while let Some(head) = self.heads.peek()
            && head.row.path() < first
        {
            self.starved.extend(self.heads.pop().map(|head| head.stream));
        }
    }
}

/// Streams the entries of a snapshot in order. It ends with the first error.
pub struct Entries {
    merge: Merge,
    first: EntryPath,
}

impl Entries {
    /// Goes on at `first`, if the stream is not beyond it; ranges that end before it are not
    /// read.
    pub fn skip_to(&mut self, first: &EntryPath) {
        if *first > self.first {
            self.first = first.clone();
            self.merge.skip_to(first);
        }
    }

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

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
        let links = self.chain_links(numbers, &backup.header.chain)?;
        for (position, link) in links.into_iter().enumerate() {
            let expected = &backup.header.chain[..position];
            if link.header.chain != expected {
                let n = link.header.number;
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

    /// Says whether any range that it is replayed from is lost, or may be, as its list cannot be
    /// read just now: then it cannot be gone out from, not even where a cache has its entries.
    pub fn is_touched_by(&self, lost: &LostPlaces) -> bool {
        let is_lost = |at: &BlobPlace| lost.contains(&at.block, at.place);
        let is_gone = |e: &Error| e.kind().is_unreadable();
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
                            .map_or_else(|e| !is_gone(&e), |ranges| hits(&ranges))
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
    /// Where the range ended that was decoded last.
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

    /// Says whether a range begins behind the end of the one before; its own rows are in order.
    fn check_order(&mut self, rows: &[RangeRow]) -> Result<()> {
        let Some((first, last)) = rows.first().zip(rows.last()) else { return Ok(()) };
        if self.last.as_ref().is_some_and(|last| last >= first.path()) {
            return Err(Error::corrupt("ranges are out of order").at(Origin::Repository));
        }
        self.last = Some(last.path().clone());
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<RangeRow>> {
        loop {
            let Some(row) = self.rows.next() else {
                let Some(rows) = self.next_range().map_err(|e| e.at(Origin::Repository))? else {
                    return Ok(None);
                };
                self.check_order(&rows)?;
                self.rows = self.wanted_of(rows).into_iter();
                continue;
            };
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

    fn feed(&mut self) -> std::result::Result<(), (usize, Error)> {
        while let Some(stream) = self.starved.pop() {
            if let Some(row) = self.streams[stream].next().transpose().map_err(|e| (stream, e))? {
                self.heads.push(Head { row, stream });
            }
        }
        Ok(())
    }

    /// Returns the newest row of the next path. It ends with the first error.
    ///
    /// # Errors
    /// Those of reading the ranges.
    pub fn next_row(&mut self) -> Result<Option<RangeRow>> {
        let row = self.newest_row();
        if row.is_err() {
            *self = Merge::new(Vec::new());
        }
        row
    }

    fn newest_row(&mut self) -> Result<Option<RangeRow>> {
        // Mostly the stream that gave the last row, the full index, gives the next one as well;
        // then its rows need not go through the heap.
        if let [stream] = self.starved[..] {
            let row = self.streams[stream].next().transpose()?;
            let least = self.heads.peek().map(|head| head.row.path());
            if row.as_ref().is_some_and(|row| least.is_none_or(|least| row.path() < least)) {
                return Ok(row);
            }
            self.starved.clear();
            self.heads.extend(row.map(|row| Head { row, stream }));
        }
        self.feed().map_err(|(_, e)| e)?;
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
    /// Those of reading the ranges, with the stream that cannot be read: it is left out from then
    /// on, and the others go on.
    pub fn next_rows(&mut self) -> std::result::Result<Vec<(usize, RangeRow)>, (usize, Error)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::wrap::counting::CountingBackend;
    use crate::base::id::BlockId;
    use crate::base::id::SnapshotHash;
    use crate::base::id::TombstoneId;
    use crate::base::metadata::Detection;
    use crate::base::metadata::Metadata;
    use crate::base::time::Timestamp;
    use crate::codec::frame::ObjectKind;
    use crate::format::backup::Counts;
    use crate::format::backup::Header;
    use crate::format::dataset::FloorRecord;
    use crate::format::dataset::LostRecord;
    use crate::format::entry::Entry;
    use crate::format::entry::EntryNode;
    use crate::format::range::RangeBuilder;
    use crate::repository::cache::CachePlace;
    use crate::repository::layout;
    use crate::repository::open;
    use crate::repository::ranges::MetadataWriter;
    use crate::repository::transaction::Committed;
    use crate::repository::transaction::Known;
    use crate::repository::transaction::Transaction;

    const NOW: Timestamp = Timestamp::new(1, 0);

    fn repository_on(backend: Arc<dyn Backend>) -> Repository {
        let scratch = CachePlace::Scratch(std::env::temp_dir());
        open::create(backend, &open::CreateOptions::default(), &scratch, NOW).expect("creates")
    }

    fn dataset() -> Dataset {
        let repository = repository_on(Arc::new(MemoryBackend::new()));
        repository.dataset_or_new(&"data".parse().expect("a name"), NOW).expect("a dataset")
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a path")
    }

    /// A row for a path; the version goes into its mode.
    fn row(change: Change, text: &str, version: u32) -> RangeRow {
        let metadata = Metadata { mode: version, ..Metadata::default() };
        let entry = Entry { path: path(text), metadata, node: EntryNode::Fifo };
        let detection = Detection { inode: 7, ..Detection::default() };
        RangeRow::Put(change, TrackedEntry { entry, detection })
    }

    fn present(texts: &[&str]) -> Vec<RangeRow> {
        texts.iter().map(|text| row(Change::Present, text, 0)).collect()
    }

    fn inline(ranges: &[Vec<RangeRow>]) -> Body {
        let encode = |rows: &Vec<RangeRow>| {
            let mut builder = RangeBuilder::default();
            rows.iter().for_each(|row| builder.push(row).expect("in order"));
            let range = builder.finish().expect("encodes").expect("rows");
            (range.range, range.companion)
        };
        Body::Inline(ranges.iter().map(encode).collect())
    }

    fn store(transaction: &Transaction, blobs: &[Vec<u8>]) -> Vec<BlobPlace> {
        let mut metadata = MetadataWriter::new(transaction).expect("a writer");
        let known: Vec<Known> =
            blobs.iter().map(|blob| metadata.store(blob).expect("stores")).collect();
        metadata.finish().expect("finishes");
        let settled = |known: &Known| match known {
            Known::Stored(block, place) => BlobPlace { block: *block, place: *place },
            Known::Written(at) => {
                let block = transaction.names().block(at.number).expect("settled");
                BlobPlace { block, place: at.place }
            }
        };
        known.iter().map(settled).collect()
    }

    /// Stores each range in two blobs of their own.
    fn stored(transaction: &Transaction, ranges: &[Vec<RangeRow>]) -> Vec<RangeRef> {
        let Body::Inline(encoded) = inline(ranges) else { panic!("inline") };
        let refer = |(rows, (range, companion)): (&Vec<RangeRow>, &(Vec<u8>, Vec<u8>))| {
            let places = store(transaction, &[range.clone(), companion.clone()]);
            let first = rows[0].path().clone();
            RangeRef { first, rows: rows.len() as u32, range: places[0], companion: places[1] }
        };
        ranges.iter().zip(&encoded).map(refer).collect()
    }

    fn commit(transaction: Transaction, chain: &[u64], body: Body) {
        let header = Header {
            dataset: transaction.dataset().id(),
            number: transaction.number(),
            parent: transaction.parent().map(|parent| parent.number()),
            lease: transaction.lease_id(),
            chain: chain.iter().copied().map(BackupId).collect(),
            host: String::new(),
            source: String::new(),
            started: NOW,
            read_from: NOW,
            ended: NOW,
            counts: Counts::default(),
            snapshot: SnapshotHash::new([0; 32]),
            tags: Vec::new(),
            description: String::new(),
            original: None,
            body,
        };
        assert!(matches!(transaction.commit(&header).expect("commits"), Committed::Yes(_)));
    }

    fn add(dataset: &Dataset, chain: &[u64], ranges: &[Vec<RangeRow>]) {
        let transaction = Transaction::begin(dataset, NOW).expect("begins");
        let number = transaction.number().0;
        let body = match number % 3 {
            0 => Body::Ranges(stored(&transaction, ranges)),
            1 => inline(ranges),
            _ => {
                let lists: Vec<Vec<u8>> = stored(&transaction, ranges)
                    .chunks(1)
                    .map(|list| backup::encode_range_list(list).expect("encodes"))
                    .collect();
                Body::Lists(store(&transaction, &lists))
            }
        };
        commit(transaction, chain, body);
    }

    /// A full backup and two partial ones: `a` stays, `b` goes, `c` changes twice, `bb` and `e`
    /// come. Their ranges are stored in the three ways there are.
    fn three() -> Dataset {
        let dataset = dataset();
        add(&dataset, &[], &[present(&["", "a", "b"]), present(&["c"]), present(&["d"])]);
        let deleted = RangeRow::Deleted(path("b"));
        let (modified, added) = (row(Change::Modified, "c", 1), row(Change::Added, "e", 1));
        add(&dataset, &[0], &[vec![deleted, modified], vec![added]]);
        let (added, modified) = (row(Change::Added, "bb", 2), row(Change::Modified, "c", 2));
        add(&dataset, &[0, 1], &[vec![added], vec![modified]]);
        dataset
    }

    fn newest(dataset: &Dataset) -> Snapshot {
        dataset.newest_snapshot().expect("reads").expect("a backup")
    }

    fn told(entries: impl Iterator<Item = Result<TrackedEntry>>) -> Vec<(String, u32)> {
        let tell = |tracked: TrackedEntry| {
            assert_eq!(tracked.detection.inode, 7);
            (tracked.entry.path.to_string(), tracked.entry.metadata.mode)
        };
        entries.map(|entry| tell(entry.expect("reads"))).collect()
    }

    fn paths(rows: impl Iterator<Item = Result<RangeRow>>) -> Vec<String> {
        rows.map(|row| row.expect("reads").path().to_string()).collect()
    }

    fn expected(texts: &[(&str, u32)]) -> Vec<(String, u32)> {
        texts.iter().map(|(text, version)| (path(text).to_string(), *version)).collect()
    }

    const NEWEST: [(&str, u32); 6] = [("", 0), ("a", 0), ("bb", 2), ("c", 2), ("d", 0), ("e", 1)];

    #[test]
    fn a_snapshot_is_the_full_index_with_the_manifests_replayed() {
        assert!(dataset().newest_snapshot().expect("reads").is_none());
        let dataset = three();
        let snapshot = newest(&dataset);
        assert_eq!(snapshot.number(), BackupId(2));
        assert_eq!(snapshot.backup().header.number, BackupId(2));
        assert_eq!(snapshot.dataset().id(), dataset.id());
        assert_eq!(snapshot.repository().id(), dataset.repository().id());
        let chain: Vec<u64> =
            snapshot.chain().iter().map(|backup| backup.header.number.0).collect();
        assert_eq!(chain, [0, 1, 2]);
        assert_eq!(told(snapshot.entries()), expected(&NEWEST));
        for first in 0..NEWEST.len() {
            let from = snapshot.entries_from(&path(NEWEST[first].0));
            assert_eq!(told(from), expected(&NEWEST[first..]));
        }
        assert_eq!(told(snapshot.entries_from(&path("b"))), expected(&NEWEST[2..]));
        let older = snapshot.entries_of(0..2, &EntryPath::root());
        let before = [("", 0), ("a", 0), ("c", 1), ("d", 0), ("e", 1)];
        assert_eq!(told(older), expected(&before));
        assert_eq!(paths(snapshot.own_rows()), ["bb", "c"]);
        assert_eq!(paths(dataset.repository().rows(&snapshot.chain()[0], &path("b1"))), ["c", "d"]);
    }

    #[test]
    fn an_entry_is_found_by_its_path_alone() {
        let snapshot = newest(&three());
        let mode = |text: &str| {
            let found = snapshot.entry(&path(text)).expect("reads");
            found.map(|tracked| (tracked.entry.path == path(text), tracked.entry.metadata.mode))
        };
        for (text, version) in NEWEST {
            assert_eq!(mode(text), Some((true, version)), "{text}");
        }
        for absent in ["0", "b", "ba", "f"] {
            assert_eq!(mode(absent), None, "{absent}");
        }
    }

    #[test]
    fn entries_skip_forward_and_never_back() {
        let snapshot = newest(&three());
        for read in 0..NEWEST.len() {
            for (n, (first, _)) in NEWEST.iter().enumerate() {
                let mut entries = snapshot.entries();
                assert_eq!(entries.by_ref().take(read).count(), read);
                entries.skip_to(&path(first));
                entries.skip_to(&path("a"));
                assert_eq!(told(entries), expected(&NEWEST[read.max(n).max(1)..]), "{read} {n}");
            }
        }
    }

    fn nowhere(first: &str) -> RangeRef {
        let at = BlobPlace { block: BlockId::new([0xee; 32]), place: 0 };
        RangeRef { first: path(first), rows: 1, range: at, companion: at }
    }

    /// Commits a full backup whose second range of three, that of `b`, is nowhere.
    fn damaged() -> Dataset {
        let dataset = dataset();
        let transaction = Transaction::begin(&dataset, NOW).expect("begins");
        let mut ranges = stored(&transaction, &[present(&["a"]), present(&["c", "d"])]);
        ranges.insert(1, nowhere("b"));
        commit(transaction, &[], Body::Ranges(ranges));
        dataset
    }

    #[test]
    fn ranges_that_nobody_asks_for_are_not_read() {
        let snapshot = newest(&damaged());
        assert_eq!(told(snapshot.entries_from(&path("c"))), expected(&[("c", 0), ("d", 0)]));
        let mut entries = snapshot.entries();
        assert!(entries.next().expect("a").is_ok());
        entries.skip_to(&path("d"));
        assert_eq!(told(entries), expected(&[("d", 0)]));
    }

    #[test]
    fn an_error_is_the_end() {
        let snapshot = newest(&damaged());
        let mut rows = snapshot.own_rows();
        assert!(rows.next().expect("a").is_ok());
        assert!(rows.next().expect("an error").is_err());
        assert!(rows.next().is_none(), "what follows would seem to be all there is");
        let mut merge = Merge::new(vec![snapshot.own_rows(), snapshot.own_rows()]);
        assert!(merge.next_row().expect("reads").is_some());
        assert!(merge.next_row().is_err());
        assert!(merge.next_row().expect("nothing").is_none());
    }

    #[test]
    fn ranges_that_are_not_what_their_list_says_are_damage() {
        let dataset = dataset();
        let transaction = Transaction::begin(&dataset, NOW).expect("begins");
        let good = stored(&transaction, &[present(&["b", "c"])]).remove(0);
        let other = stored(&transaction, &[present(&["a", "d"])]).remove(0);
        let swapped = RangeRef { companion: other.companion, range: other.range, ..good.clone() };
        transaction.abandon();
        let read = |ranges: Vec<RangeRef>| -> Result<Vec<RangeRow>> {
            let body = Body::Ranges(ranges);
            RowStream::new(dataset.repository().clone(), &body, &EntryPath::root()).collect()
        };
        assert_eq!(read(vec![good.clone()]).expect("reads").len(), 2);
        let many = RangeRef { rows: 3, ..good.clone() };
        let early = RangeRef { first: path("a"), ..good.clone() };
        for bad in [vec![many], vec![early], vec![swapped], vec![good.clone(), good]] {
            assert_eq!(read(bad).expect_err("damage").kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn ranges_out_of_order_are_damage() {
        let repository = repository_on(Arc::new(MemoryBackend::new()));
        let read = |ranges: &[Vec<RangeRow>]| -> Result<Vec<RangeRow>> {
            RowStream::new(repository.clone(), &inline(ranges), &EntryPath::root()).collect()
        };
        assert!(read(&[present(&["a"]), present(&["b"])]).is_ok());
        assert!(read(&[present(&["b"]), present(&["a"])]).is_err());
        assert!(read(&[present(&["a", "b"]), present(&["b"])]).is_err());
    }

    #[test]
    fn only_what_is_wanted_comes() {
        let snapshot = newest(&three());
        let full = Arc::clone(&snapshot.chain()[0]);
        let rows = || snapshot.repository().rows(&full, &EntryPath::root());
        let kept = rows().only(Arc::new(|row: &RangeRow| *row.path() > path("a")));
        assert_eq!(paths(kept), ["b", "c", "d"]);
        assert_eq!(paths(rows().only(Arc::new(|_: &RangeRow| false))), [""; 0]);
    }

    #[test]
    fn the_rows_of_one_path_come_together_the_oldest_first() {
        let snapshot = newest(&three());
        let rows = |backup: &Arc<Backup>| snapshot.repository().rows(backup, &EntryPath::root());
        let mut merge = Merge::new(snapshot.chain().iter().map(rows).collect());
        let mut all = Vec::new();
        loop {
            let rows = merge.next_rows().expect("reads");
            let Some((_, first)) = rows.first() else { break };
            assert!(rows.iter().all(|(_, row)| row.path() == first.path()));
            let streams: Vec<usize> = rows.iter().map(|(stream, _)| *stream).collect();
            all.push((first.path().to_string(), streams));
        }
        let expected = [
            ("", vec![0]),
            ("a", vec![0]),
            ("b", vec![0, 1]),
            ("bb", vec![2]),
            ("c", vec![0, 1, 2]),
            ("d", vec![0]),
            ("e", vec![1]),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(text, streams)| (path(text).to_string(), streams)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn heads_are_equal_when_neither_comes_first() {
        let head = |text: &str, stream: usize| Head { row: row(Change::Added, text, 0), stream };
        assert!(head("a", 1) == head("a", 1));
        assert!(head("a", 1) != head("b", 1));
        assert!(head("a", 1) != head("a", 2));
        assert!(head("a", 1) > head("b", 2), "the least path is at the top of the heap");
        assert!(head("a", 2) > head("a", 1), "and the newest stream of those");
    }

    /// Declares the first place of a block that is nowhere lost, as repair does.
    fn lost(dataset: &Dataset, block: u8) -> LostPlaces {
        let repository = dataset.repository();
        let key = layout::lost(&TombstoneId::new([block; 16])).expect("a key");
        let record = LostRecord { blocks: vec![block; 32], places: vec![vec![0]], written: NOW };
        repository.store().put(ObjectKind::Lost, &key, &record).expect("puts");
        let lost = repository.lost_places().expect("reads");
        repository.store().delete(&key).expect("deletes");
        lost
    }

    #[test]
    fn what_was_declared_lost_is_left_out_and_nothing_else() {
        let dataset = damaged();
        let snapshot = newest(&dataset);
        let rows = |body: &Body, lost: LostPlaces| -> Result<Vec<RangeRow>> {
            dataset.repository().rows_of(body, &Arc::new(lost)).collect()
        };
        let body = &snapshot.backup().header.body;
        assert!(rows(body, LostPlaces::default()).is_err());
        assert!(rows(body, lost(&dataset, 0xdd)).is_err(), "something else is lost");
        assert_eq!(rows(body, lost(&dataset, 0xee)).expect("reads"), present(&["a", "c", "d"]));

        let Body::Ranges(ranges) = body else { panic!("ranges") };
        let (whole, lacking) = (&ranges[0], &ranges[1]);
        for half in [
            RangeRef { range: lacking.range, ..whole.clone() },
            RangeRef { companion: lacking.companion, ..whole.clone() },
        ] {
            let body = Body::Ranges(vec![half, ranges[2].clone()]);
            assert_eq!(rows(&body, lost(&dataset, 0xee)).expect("reads"), present(&["c", "d"]));
        }
        let lists = Body::Lists(vec![lacking.range]);
        assert!(rows(&lists, lost(&dataset, 0xdd)).is_err());
        assert_eq!(rows(&lists, lost(&dataset, 0xee)).expect("reads"), []);
    }

    #[test]
    fn a_snapshot_is_touched_by_what_its_chain_needs() {
        let touched = |make: &dyn Fn(&Transaction) -> Body| {
            let dataset = dataset();
            let transaction = Transaction::begin(&dataset, NOW).expect("begins");
            let body = make(&transaction);
            commit(transaction, &[], body);
            let snapshot = newest(&dataset);
            assert!(!snapshot.is_touched_by(&LostPlaces::default()));
            assert!(!snapshot.is_touched_by(&lost(&dataset, 0xdd)), "something else is lost");
            snapshot.is_touched_by(&lost(&dataset, 0xee))
        };
        let good = |transaction: &Transaction| stored(transaction, &[present(&["a"])]).remove(0);
        let list = |transaction: &Transaction, range: RangeRef| {
            store(transaction, &[backup::encode_range_list(&[range]).expect("encodes")])
        };
        let gone = nowhere("b");
        assert!(!touched(&|_| inline(&[present(&["a"])])));
        assert!(!touched(&|transaction| Body::Ranges(vec![good(transaction)])));
        assert!(touched(&|transaction| {
            Body::Ranges(vec![RangeRef { range: gone.range, ..good(transaction) }])
        }));
        assert!(touched(&|transaction| {
            Body::Ranges(vec![RangeRef { companion: gone.companion, ..good(transaction) }])
        }));
        assert!(!touched(&|transaction| Body::Lists(list(transaction, good(transaction)))));
        assert!(touched(&|transaction| Body::Lists(list(transaction, nowhere("b")))));
        assert!(touched(&|_| Body::Lists(vec![gone.range])));
    }

    #[test]
    fn a_link_with_another_chain_is_damage() {
        let dataset = dataset();
        add(&dataset, &[], &[present(&["a"])]);
        add(&dataset, &[], &[present(&["a"])]);
        let transaction = Transaction::begin(&dataset, NOW).expect("begins");
        commit(transaction, &[0, 1], inline(&[vec![row(Change::Added, "b", 0)]]));
        let error = dataset.newest_snapshot().map(drop).expect_err("a wrong link");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("backup_1"), "{error}");
    }

    /// A prune may have gone on meanwhile: then another backup may be the newest. Damage stays.
    #[test]
    fn a_chain_that_was_just_taken_away_is_looked_at_again_and_damage_is_not() {
        let looks = |floor: Option<u64>| {
            let counting = Arc::new(CountingBackend::new(Arc::new(MemoryBackend::new())));
            let repository = repository_on(Arc::clone(&counting) as Arc<dyn Backend>);
            let name = "data".parse().expect("a name");
            let dataset = repository.dataset_or_new(&name, NOW).expect("a dataset");
            add(&dataset, &[], &[present(&["a"])]);
            add(&dataset, &[0], &[vec![row(Change::Added, "b", 0)]]);
            let store = repository.store();
            store
                .delete(&layout::header(&dataset.id(), BackupId(0)).expect("a key"))
                .expect("goes");
            if let Some(floor) = floor {
                let key = layout::floor(&dataset.id(), floor).expect("a key");
                let record = FloorRecord { floor, remaining: Vec::new(), written: NOW };
                store.put(ObjectKind::Floor, &key, &record).expect("puts");
            }
            let before = counting.counts().lists;
            let error = dataset.newest_snapshot().map(drop).expect_err("a link is not there");
            (error.kind(), counting.counts().lists - before)
        };
        let (damage, once) = looks(None);
        let (taken, often) = looks(Some(1));
        assert_eq!((damage, taken), (ErrorKind::Corrupt, ErrorKind::NotFound));
        assert!(once < often && often >= COMMIT_TRIES_MAX as u64, "{once} and {often} listings");
        assert!(once < COMMIT_TRIES_MAX as u64, "{once} listings");
    }

    #[test]
    fn changes_have_words() {
        let words = [Change::Added, Change::Modified, Change::Present]
            .map(|change| change_word(&row(change, "a", 0)));
        assert_eq!(words, ["added", "modified", "present"]);
        assert_eq!(change_word(&RangeRow::Deleted(path("a"))), "deleted");
    }
}

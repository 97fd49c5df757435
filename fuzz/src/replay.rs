//! Replay: manifests of any rows, over each other and over full indexes, against a map.
//!
//! Each backup begins with a byte that says whether it is full, how its rows are stored and how
//! they are cut into ranges; then come rows of one byte each, which name a path and a change.

use icecore::backend::memory::MemoryBackend;
use icecore::base::id::BackupId;
use icecore::base::id::SnapshotHash;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::format::backup::BlobPlace;
use icecore::format::backup::Body;
use icecore::format::backup::Counts;
use icecore::format::backup::Header;
use icecore::format::backup::RangeRef;
use icecore::format::backup::encode_range_list;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::TrackedEntry;
use icecore::format::range::Change;
use icecore::format::range::EncodedRange;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;
use icecore::repository::cache::CachePlace;
use icecore::repository::datasets::Dataset;
use icecore::repository::history::Entries;
use icecore::repository::history::Snapshot;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::ranges::MetadataWriter;
use icecore::repository::transaction::Committed;
use icecore::repository::transaction::Known;
use icecore::repository::transaction::Transaction;
use icecore::repository::transaction::visible;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Bytes;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "inline",
    "ranges",
    "lists",
    "full again",
    "a path is put again",
    "a path is deleted",
    "what is not there is deleted",
    "nothing is left",
    "many manifests",
];

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const BACKUPS_MAX: usize = 7;
/// Paths that rows choose from: folders, what is in them, and names that sort around a slash.
const PATHS: [&str; 16] = [
    "", "a", "a/b", "a/b/c", "a!", "a!/b", "a-b", "a.b", "a/c", "b", "b/a", "b/a/a", "b0", "c",
    "\u{e9}", "z/z",
];

/// Which paths there are, each with the number that its newest row has.
type Model = BTreeMap<EntryPath, u32>;

fn path(byte: u8) -> EntryPath {
    EntryPath::new(PATHS[usize::from(byte & 15)].as_bytes()).expect("a path")
}

fn put(change: Change, path: &EntryPath, version: u32) -> RangeRow {
    let metadata = Metadata { mode: version, ..Metadata::default() };
    let entry = Entry { path: path.clone(), metadata, node: EntryNode::Fifo };
    RangeRow::Put(change, TrackedEntry { entry, detection: Detection::default() })
}

/// Takes the rows of one backup, and does to the model what they say.
fn rows(bytes: &mut Bytes<'_>, is_full: bool, version: u32, model: &mut Model) -> Vec<RangeRow> {
    if is_full {
        model.clear();
    }
    let mut rows: BTreeMap<EntryPath, RangeRow> = BTreeMap::new();
    let count = bytes.byte() & 15;
    for _ in 0..count {
        let byte = bytes.byte();
        let path = path(byte);
        let row = match (is_full, byte >> 4 & 3) {
            (true, _) => put(Change::Present, &path, version),
            // Of what is not there, too: the newest row of a path is what counts.
            (false, 0) => RangeRow::Deleted(path.clone()),
            (false, 1) => put(Change::Modified, &path, version),
            (false, _) => put(Change::Added, &path, version),
        };
        rows.insert(path, row);
    }
    for (path, row) in &rows {
        match row {
            RangeRow::Put(..) => {
                if model.insert(path.clone(), version).is_some() {
                    reach("a path is put again");
                }
            }
            RangeRow::Deleted(_) => match model.remove(path) {
                Some(_) => reach("a path is deleted"),
                None => reach("what is not there is deleted"),
            },
        }
    }
    rows.into_values().collect()
}

fn encode(rows: &[RangeRow]) -> EncodedRange {
    let mut builder = RangeBuilder::default();
    rows.iter().for_each(|row| builder.push(row).expect("in order"));
    builder.finish().expect("encodes").expect("has rows")
}

fn store(transaction: &Transaction, blobs: &[&[u8]]) -> Vec<BlobPlace> {
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

fn stored(transaction: &Transaction, ranges: &[EncodedRange]) -> Vec<RangeRef> {
    let refer = |range: &EncodedRange| {
        let places = store(transaction, &[&range.range, &range.companion]);
        let (first, rows) = (range.first.clone(), range.rows);
        RangeRef { first, rows, range: places[0], companion: places[1] }
    };
    ranges.iter().map(refer).collect()
}

fn body(transaction: &Transaction, ranges: &[EncodedRange], way: u8) -> Body {
    reach(["inline", "ranges", "lists"][usize::from(way % 3)]);
    match way % 3 {
        0 => {
            Body::Inline(ranges.iter().map(|it| (it.range.clone(), it.companion.clone())).collect())
        }
        1 => Body::Ranges(stored(transaction, ranges)),
        _ => {
            let refs = stored(transaction, ranges);
            let lists: Vec<Vec<u8>> =
                refs.chunks(2).map(|list| encode_range_list(list).expect("encodes")).collect();
            let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
            Body::Lists(store(transaction, &lists))
        }
    }
}

fn commit(dataset: &Dataset, chain: &[BackupId], ranges: &[EncodedRange], way: u8) -> BackupId {
    let transaction = Transaction::begin(dataset, NOW).expect("begins");
    let body = body(&transaction, ranges, way);
    let number = transaction.number();
    let header = Header {
        dataset: dataset.id(),
        number,
        parent: transaction.parent().map(|parent| parent.number()),
        lease: transaction.lease_id(),
        chain: chain.to_vec(),
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
    number
}

fn told(entries: Entries) -> Vec<(EntryPath, u32)> {
    let tell = |tracked: TrackedEntry| (tracked.entry.path, tracked.entry.metadata.mode);
    entries.map(|entry| tell(entry.expect("reads"))).collect()
}

fn from(model: &Model, first: &EntryPath) -> Vec<(EntryPath, u32)> {
    model.range(first..).map(|(path, version)| (path.clone(), *version)).collect()
}

/// A snapshot is the map, from any path on, and by any path alone.
fn is_as_modelled(snapshot: &Snapshot, model: &Model, chain: &[BackupId]) {
    let found: Vec<BackupId> = snapshot.chain().iter().map(|it| it.header.number).collect();
    assert_eq!(found, chain);
    assert_eq!(told(snapshot.entries()), from(model, &EntryPath::root()));
    for byte in 0..16 {
        let path = path(byte);
        assert_eq!(told(snapshot.entries_from(&path)), from(model, &path), "from {path}");
        let entry = snapshot.entry(&path).expect("reads").map(|it| it.entry.metadata.mode);
        assert_eq!(entry, model.get(&path).copied(), "{path}");
        let mut entries = snapshot.entries();
        entries.skip_to(&path);
        assert_eq!(told(entries), from(model, &path), "skipped to {path}");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let backend = Arc::new(MemoryBackend::new());
    let repository =
        open::create(backend, &CreateOptions::default(), &scratch, NOW).expect("creates");
    let name = "data".parse().expect("a name");
    let dataset = repository.dataset_or_new(&name, NOW).expect("a dataset");

    let mut bytes = Bytes(data);
    let mut model = Model::new();
    let mut chain: Vec<BackupId> = Vec::new();
    let mut states = Vec::new();
    while !bytes.is_empty() && states.len() < BACKUPS_MAX {
        let way = bytes.byte();
        let is_full = chain.is_empty() || way & 0x80 != 0;
        let rows = rows(&mut bytes, is_full, states.len() as u32, &mut model);
        let each = usize::from(way >> 2 & 7) + 1;
        let ranges: Vec<EncodedRange> = rows.chunks(each).map(encode).collect();
        if is_full {
            if !chain.is_empty() {
                reach("full again");
            }
            chain.clear();
        }
        let number = commit(&dataset, &chain, &ranges, way & 3);
        chain.push(number);
        states.push((number, model.clone(), chain.clone()));
    }
    let numbers = dataset.all_numbers().expect("numbers");
    for (number, model, chain) in &states {
        let backup = visible(&dataset, *number).expect("it was committed");
        let snapshot = dataset.snapshot(&numbers, backup).expect("a snapshot");
        is_as_modelled(&snapshot, model, chain);
        if model.is_empty() {
            reach("nothing is left");
        }
        if chain.len() > 3 {
            reach("many manifests");
        }
    }
}

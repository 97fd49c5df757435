//! Manifest and replay: entries to ranges, ranges to entries, and a chain of backups merged.

use crate::data::Place;
use crate::files::tracked;
use crate::measure::Done;
use crate::measure::Side;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use crate::support::Numbers;
use icecore::base::cancel::Cancel;
use icecore::base::limits::CHAIN_MANIFESTS_MAX;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Metadata;
use icecore::base::metadata::Owner;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::list;
use icecore::format::dataset::DatasetName;
use icecore::format::entry::TrackedEntry;
use icecore::format::range;
use icecore::format::range::Change;
use icecore::format::range::EncodedRange;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;
use icecore::repository::Repository;
use icecore::repository::history::Snapshot;
use icecore::source::SourceEntry;
use icecore::source::memory::MemorySource;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

const ENTRIES: usize = 50_000;
const FILES_PER_FOLDER: usize = 50;
/// Of so many files one is changed between two backups: all manifests of a chain have fewer rows
/// than the full index.
const ONE_OF: usize = 100;
const MANIFESTS: usize = CHAIN_MANIFESTS_MAX - 1;

/// The fields of one file's row as plainly as bincode takes them: nothing is looked up, bytes go
/// in one piece, and what is decoded borrows them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct BareRow<'a> {
    shared: u32,
    #[serde(borrow)]
    suffix: Bytes<'a>,
    kind: (u32, u32),
    mode: u32,
    owner: u32,
    mtime: (i64, u32),
    xattrs: u64,
    node: u32,
    size: u64,
    cut: u8,
    hard_link: Option<u64>,
    extents: Option<u64>,
    listed: bool,
    runs: u64,
    run: (i32, i32, u32),
    lengths: u64,
    ctime: (i64, u32),
    inode_step: i64,
    #[serde(borrow)]
    tag: Bytes<'a>,
}

#[derive(Clone, Copy, Debug)]
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> serde::de::Visitor<'de> for Borrowed {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(bytes)
            }
        }
        from.deserialize_bytes(Borrowed).map(Bytes)
    }
}

fn path(number: usize) -> String {
    let (folder, mark) = (number / FILES_PER_FOLDER, Numbers::new(number as u64).below(1 << 32));
    let above = folder / FILES_PER_FOLDER;
    format!("season-{above:03}/glacier-{folder:04}/measured-{number:06}-{mark:08x}.json")
}

/// Makes files of a tree in order, as a scan of a file system shows them.
fn entries(count: usize) -> Done<Vec<TrackedEntry>> {
    let mut numbers = Numbers::new(1);
    let named = |name: &str| name.to_owned();
    let owner = Owner { uid: 1000, gid: 1000, user: named("anna"), group: named("anna") };
    let owner = Arc::new(owner);
    let mut entry = |number: usize| {
        let mut time = || {
            let (seconds, nanos) = (numbers.below(1 << 27), numbers.below(1_000_000_000));
            Timestamp::new(1_600_000_000 + seconds as i64, nanos as u32)
        };
        let (mtime, ctime) = (time(), time());
        let metadata =
            Metadata { mode: 0o644, owner: Arc::clone(&owner), mtime, xattrs: Vec::new() };
        let now = SourceEntry {
            path: EntryPath::new(path(number).as_bytes())?,
            kind: Kind::File,
            size: 1 + numbers.below(1 << 16),
            metadata,
            detection: Detection { ctime, inode: 500_000 + number as u64, tag: Vec::new() },
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        };
        Ok(tracked(now, number))
    };
    (0..count).map(&mut entry).collect()
}

/// Takes the fields of entries out, with what is coded as steps coded already.
fn bare_rows(entries: &[TrackedEntry]) -> Vec<BareRow<'_>> {
    let mut before: &[u8] = &[];
    let mut rows = Vec::with_capacity(entries.len());
    for TrackedEntry { entry, detection } in entries {
        let path = entry.path.as_bytes();
        let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        let (mtime, ctime) = (entry.metadata.mtime, detection.ctime);
        rows.push(BareRow {
            shared: shared as u32,
            suffix: Bytes(&path[shared..]),
            kind: (0, 1),
            mode: entry.metadata.mode,
            owner: 0,
            mtime: (mtime.seconds(), mtime.nanos()),
            xattrs: 0,
            node: 0,
            size: entry.size(),
            cut: 0,
            hard_link: None,
            extents: None,
            listed: false,
            runs: 1,
            run: (0, 0, 1),
            lengths: 0,
            ctime: (ctime.seconds(), ctime.nanos()),
            inode_step: 1,
            tag: Bytes(&[]),
        });
        before = path;
    }
    rows
}

fn encode(rows: &[RangeRow]) -> Done<Vec<EncodedRange>> {
    let mut builder = RangeBuilder::default();
    let mut ranges = Vec::new();
    for row in rows {
        builder.push(row)?;
        if builder.is_full() {
            ranges.extend(builder.finish()?);
        }
    }
    ranges.extend(builder.finish()?);
    Ok(ranges)
}

fn encode_bare(rows: &[BareRow<'_>]) -> Done<Vec<u8>> {
    Ok(bincode::serde::encode_to_vec(rows, bincode::config::standard())?)
}

fn decoding_bare(bytes: &[u8], count: usize) -> Side<'_> {
    side("bare bincode, the same fields, borrowed", move || {
        let (decoded, taken) = timed(|| {
            let config = bincode::config::standard();
            bincode::serde::borrow_decode_from_slice::<Vec<BareRow<'_>>, _>(bytes, config)
        });
        let (rows, _) = decoded?;
        ensure(rows.len() == count, "bare rows are missing")?;
        Ok(taken)
    })
}

/// Rows of a manifest to ranges, and back.
pub(crate) fn manifest(settings: &Settings, _: &Path) -> Done<()> {
    let count = settings.part(ENTRIES, 1000);
    let entries = entries(count)?;
    let put = |entry: &TrackedEntry| RangeRow::Put(Change::Added, entry.clone());
    let rows: Vec<RangeRow> = entries.iter().map(put).collect();
    let bare = bare_rows(&entries);
    let ranges = encode(&rows)?;
    let bare_bytes = encode_bare(&bare)?;
    let bytes: usize = ranges.iter().map(|it| it.range.len() + it.companion.len()).sum();
    let is_alike = bare_bytes.len() < bytes && bytes * 8 < bare_bytes.len() * 10;
    ensure(is_alike, "bare rows have other fields than ranges")?;

    let ours = side(format!("encode {count} added files, {:.1} MB", bytes as f64 / 1e6), || {
        let (made, taken) = timed(|| encode(&rows));
        ensure(made? == ranges, "the same rows make other ranges")?;
        Ok(taken)
    });
    let limit = side("bare bincode, the same fields", || {
        let (made, taken) = timed(|| encode_bare(&bare));
        ensure(made?.len() == bare_bytes.len(), "the same rows make other bytes")?;
        Ok(taken)
    });
    row(settings, "manifest", (Unit::Things("entries"), count), ours, limit)?;

    let ours = side("decode them", || {
        let mut decoded = Vec::with_capacity(count);
        let (done, taken) = timed(|| {
            ranges.iter().try_for_each(|it| {
                range::decode(&it.range, Some(&it.companion)).map(|rows| decoded.extend(rows))
            })
        });
        done?;
        ensure(decoded == rows, "ranges decode to other rows")?;
        Ok(taken)
    });
    row(
        settings,
        "manifest",
        (Unit::Things("entries"), count),
        ours,
        decoding_bare(&bare_bytes, count),
    )
}

/// Backs a tree up, whole and then again and again with a few changes.
fn make_chain(repository: &Repository, name: &DatasetName, files: usize) -> Done<()> {
    let source = MemorySource::new("replay");
    let mut numbers = Numbers::new(1);
    let content = |numbers: &mut Numbers| numbers.next().to_string();
    (0..files).for_each(|n| source.put_file(path(n), content(&mut numbers)));
    let cancel = Cancel::new();
    let context = Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads: 1 };
    for number in 0..=MANIFESTS {
        if number > 0 {
            for _ in 0..files / ONE_OF {
                let changed = numbers.below(files as u64) as usize;
                source.put_file(path(changed), content(&mut numbers));
            }
        }
        let made = backup::run(repository, name, &source, &BackupOptions::default(), &context)?;
        let wanted = if number == 0 { BackupKind::Full } else { BackupKind::Partial };
        ensure(made.kind == wanted, "a backup of the chain is of another kind")?;
    }
    Ok(())
}

/// Opens a snapshot with nothing of it in memory; `position` counts from the oldest backup.
fn snapshot(place: &Place, name: &DatasetName, position: usize) -> Done<Snapshot> {
    let repository = place.open()?;
    repository.refresh_index()?;
    let mut backups = repository.dataset(name)?.backups()?;
    backups.sort_by_key(|backup| backup.header.number);
    let backup = backups.get(position).ok_or("a backup of the chain is missing")?;
    Ok(list::snapshot(&repository.dataset(name)?, Arc::clone(backup))?)
}

/// A snapshot out of a full index alone, and out of one and a whole chain of manifests.
pub(crate) fn replay(settings: &Settings, folder: &Path) -> Done<()> {
    let (place, repository) = Place::create(folder, true)?;
    let name: DatasetName = "replay".parse()?;
    let files = settings.part(ENTRIES, 1000);
    make_chain(&repository, &name, files)?;
    drop(repository);
    let entries = entries(files)?;
    for manifests in [0, MANIFESTS] {
        let rows = files + manifests * (files / ONE_OF);
        let bare: Vec<BareRow<'_>> = bare_rows(&entries).into_iter().cycle().take(rows).collect();
        let bytes = encode_bare(&bare)?;
        let count = snapshot(&place, &name, manifests)?.backup().header.counts.entries as usize;
        let ours =
            side(format!("{count} entries of a full index and {manifests} manifests"), || {
                let snapshot = snapshot(&place, &name, manifests)?;
                let (seen, taken) =
                    timed(|| snapshot.entries().try_fold(0, |seen, entry| entry.map(|_| seen + 1)));
                let seen = seen?;
                ensure(seen == count, "a replay does not show what was there")?;
                Ok(taken)
            });
        let limit = decoding_bare(&bytes, rows);
        row(settings, "replay", (Unit::Things("entries"), count), ours, limit)?;
    }
    Ok(())
}

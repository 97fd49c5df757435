//! A source in numbered versions, and what a restore of each must give.
//!
//! Two files are as long as a unit of work and mostly hole, so that a small source makes several
//! blocks and so several packs.

use crate::support::tree::noise;
use icecore::base::limits::UNIT_BYTES_TARGET;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

/// By path: how long a file is and what it begins with; the rest is zeros.
pub(super) type Files = BTreeMap<String, (u64, Vec<u8>)>;

enum Edit {
    Put(String, Vec<u8>),
    Remove(String),
}

const LARGE_BYTES: usize = UNIT_BYTES_TARGET as usize;
/// From this version on there are so many large files that a backup puts an index midway.
pub(super) const GROWN: usize = 20;

fn large(version: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    let count = if version < GROWN { 2 } else { 10 };
    (0..count).map(|n| (format!("{}/large", char::from(b'd' + n)), noise(3000, 50 + u64::from(n))))
}

fn first() -> Vec<Edit> {
    let small = ["a", "b", "d/c", "z"].into_iter().zip(1..);
    small.map(|(path, seed)| Edit::Put(path.to_owned(), noise(700, seed))).collect()
}

/// What was done to the source to make a version of the one before.
fn edits(version: usize) -> Vec<Edit> {
    let seed = 100 + version as u64;
    let gone = ["a", "d/c", "z"][version % 3];
    vec![
        Edit::Put("b".to_owned(), noise(900, seed)),
        Edit::Put(format!("new/{version}"), noise(500, 1000 + seed)),
        match version {
            // Every other version has what was removed before.
            _ if version.is_multiple_of(2) => Edit::Put(gone.to_owned(), noise(700, 7)),
            _ => Edit::Remove(gone.to_owned()),
        },
    ]
}

/// Returns the source at a version, with the times that its edits gave it. Each is made once:
/// the large files are large in memory.
pub(super) fn at(version: usize) -> Arc<MemorySource> {
    static SOURCES: Mutex<BTreeMap<usize, Arc<MemorySource>>> = Mutex::new(BTreeMap::new());
    let mut sources = SOURCES.lock().unwrap();
    Arc::clone(sources.entry(version).or_insert_with(|| Arc::new(make(version))))
}

fn make(version: usize) -> MemorySource {
    let source = large(version).fold(MemorySource::new("data"), |source, (path, bytes)| {
        source.sparse_file(path, LARGE_BYTES, &[(0, &bytes)])
    });
    for edit in first().into_iter().chain((1..=version).flat_map(edits)) {
        match edit {
            Edit::Put(path, bytes) => source.put_file(path, bytes),
            Edit::Remove(path) => source.remove(path),
        }
    }
    source
}

/// Returns the files of a version.
pub(super) fn files_at(version: usize) -> Files {
    let large = large(version).map(|(path, bytes)| (path, (LARGE_BYTES as u64, bytes)));
    let mut files: Files = large.collect();
    for edit in first().into_iter().chain((1..=version).flat_map(edits)) {
        match edit {
            Edit::Put(path, bytes) => drop(files.insert(path, (bytes.len() as u64, bytes))),
            Edit::Remove(path) => drop(files.remove(&path)),
        }
    }
    files
}

/// Returns the files that a restore has made, read where they have data.
pub(super) fn files_in(target: &MemoryTarget) -> Files {
    let mut writer = target.writer().unwrap();
    let mut files = Files::new();
    for (path, entry) in target.entries() {
        if entry.kind != Kind::File {
            continue;
        }
        let mut bytes = read_data(target, &path, entry.size, &mut *writer);
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        files.insert(path.to_string(), (entry.size, bytes));
    }
    files
}

fn read_data(
    target: &MemoryTarget,
    path: &EntryPath,
    size: u64,
    writer: &mut dyn icecore::target::TargetWriter,
) -> Vec<u8> {
    let data = target.extents(path).unwrap();
    let end = data.iter().map(|extent| extent.offset + extent.length).max().unwrap_or(0);
    let mut bytes = vec![0; end.min(size) as usize];
    writer.open_file(path).unwrap();
    let read = writer.read_at(0, &mut bytes).unwrap();
    assert_eq!(read, bytes.len(), "{path}");
    writer.close_file().unwrap();
    bytes
}

/// Returns files without the zeros at their ends, which a hole cannot be told from.
pub(super) fn trimmed(files: Files) -> Files {
    let trim = |(path, (size, mut bytes)): (String, (u64, Vec<u8>))| {
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        (path, (size, bytes))
    };
    files.into_iter().map(trim).collect()
}

//! A source in numbered versions, and what a restore of each must give.
//!
//! Two files are as long as a unit of work and mostly hole, so that a small source makes several
//! blocks and so several packs. What needs no bytes is there as well: empty files and folders,
//! links, modes and attributes.

use crate::support::tree::noise;
use icecore::base::cancel::Cancel;
use icecore::base::limits::UNIT_BYTES_TARGET;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Xattr;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

/// What stands at a path, as far as a restore gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thing {
    kind: Kind,
    /// Not that of a link, which has none of its own.
    mode: u32,
    mtime: Timestamp,
    xattrs: Vec<Xattr>,
    link_target: Vec<u8>,
    size: u64,
    /// What a file begins with; the rest is zeros.
    begins: Vec<u8>,
}

/// What there is, by path, the root included.
pub(super) type Things = BTreeMap<String, Thing>;

enum Edit {
    Put(String, Vec<u8>),
    Folder(String),
    Link(String, String),
    Mode(String, u32),
    /// An attribute of what was just put.
    Mark(String, String),
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
    let put = |(path, seed): (&str, u64)| Edit::Put(path.to_owned(), noise(700, seed));
    let others = [
        Edit::Put("empty".to_owned(), Vec::new()),
        Edit::Folder("hollow".to_owned()),
        Edit::Mode("hollow".to_owned(), 0o1770),
        Edit::Link("link".to_owned(), "b".to_owned()),
        Edit::Mode("b".to_owned(), 0o640),
        Edit::Mark("b".to_owned(), "first".to_owned()),
    ];
    small.map(put).chain(others).collect()
}

/// What was done to the source to make a version of the one before.
fn edits(version: usize) -> Vec<Edit> {
    let seed = 100 + version as u64;
    let gone = ["a", "d/c", "z"][version % 3];
    vec![
        Edit::Put("b".to_owned(), noise(900, seed)),
        Edit::Mark("b".to_owned(), version.to_string()),
        Edit::Put(format!("new/{version}"), noise(500, 1000 + seed)),
        Edit::Put(format!("new/{version}.empty"), Vec::new()),
        Edit::Mode(format!("new/{version}.empty"), 0o400),
        Edit::Folder(format!("hollow/{version}")),
        Edit::Remove("link".to_owned()),
        Edit::Link("link".to_owned(), format!("new/{version}")),
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
    first().into_iter().chain((1..=version).flat_map(edits)).fold(source, edited)
}

fn edited(source: MemorySource, edit: Edit) -> MemorySource {
    match edit {
        Edit::Put(path, bytes) => source.put_file(path, bytes),
        Edit::Folder(path) => return source.directory(path),
        Edit::Link(path, target) => return source.symlink(path, target),
        Edit::Mode(path, mode) => source.edit(path, |entry| entry.metadata.mode = mode),
        Edit::Mark(path, value) => {
            source.edit(path, |entry| entry.metadata.xattrs = vec![mark(&value)]);
        }
        Edit::Remove(path) => source.remove(path),
    }
    source
}

fn mark(value: &str) -> Xattr {
    Xattr { name: b"user.mark".to_vec(), value: value.as_bytes().to_vec() }
}

impl Thing {
    fn new(kind: Kind, mode: u32) -> Self {
        Thing {
            kind,
            mode,
            mtime: Timestamp::new(0, 0),
            xattrs: Vec::new(),
            link_target: Vec::new(),
            size: 0,
            begins: Vec::new(),
        }
    }

    fn file(size: usize, mut begins: Vec<u8>) -> Self {
        trim(&mut begins);
        Thing { size: size as u64, begins, ..Thing::new(Kind::File, 0o644) }
    }
}

/// Takes the zeros at the end away, which a hole cannot be told from.
fn trim(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
}

/// Returns what there is in a version: what the edits say, and the times that the source shows.
pub(super) fn things_at(version: usize) -> Things {
    let mut things = Things::new();
    for (path, bytes) in large(version) {
        things.insert(path, Thing::file(LARGE_BYTES, bytes));
    }
    for edit in first().into_iter().chain((1..=version).flat_map(edits)) {
        apply(&mut things, edit);
    }
    let paths: Vec<String> = things.keys().cloned().collect();
    let above = paths.iter().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]));
    for folder in above.chain([""]) {
        let made = || Thing::new(Kind::Directory, 0o755);
        things.entry(folder.to_owned()).or_insert_with(made);
    }
    for item in at(version).scan(&Cancel::new()).unwrap() {
        let ScanItem::Entry(entry) = item else { panic!("{item:?}") };
        things.get_mut(&entry.path.to_string()).unwrap().mtime = entry.metadata.mtime;
    }
    things
}

fn apply(things: &mut Things, edit: Edit) {
    match edit {
        Edit::Put(path, bytes) => {
            let new = Thing::file(bytes.len(), bytes);
            let thing = things.entry(path).or_insert_with(|| new.clone());
            (thing.size, thing.begins) = (new.size, new.begins);
        }
        Edit::Folder(path) => drop(things.insert(path, Thing::new(Kind::Directory, 0o755))),
        Edit::Link(path, target) => {
            let link = Thing { link_target: target.into_bytes(), ..Thing::new(Kind::Symlink, 0) };
            things.insert(path, link);
        }
        Edit::Mode(path, mode) => things.get_mut(&path).unwrap().mode = mode,
        Edit::Mark(path, value) => things.get_mut(&path).unwrap().xattrs = vec![mark(&value)],
        Edit::Remove(path) => drop(things.remove(&path)),
    }
}

/// Returns what a restore has made, with the bytes of files where they have data.
pub(super) fn things_in(target: &MemoryTarget) -> Things {
    let mut writer = target.writer().unwrap();
    let mut things = Things::new();
    for (path, entry) in target.entries() {
        let mut begins = Vec::new();
        if entry.kind == Kind::File {
            begins = read_data(target, &path, entry.size, &mut *writer);
            trim(&mut begins);
        }
        let has_mode = entry.kind != Kind::Symlink;
        let thing = Thing {
            kind: entry.kind,
            mode: if has_mode { entry.metadata.mode } else { 0 },
            mtime: entry.metadata.mtime,
            xattrs: entry.metadata.xattrs,
            link_target: entry.link_target,
            size: entry.size,
            begins,
        };
        things.insert(path.to_string(), thing);
    }
    things
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

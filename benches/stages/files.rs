//! Scan and compare: a tree of small files, and the snapshot saved of it.

use crate::measure::Done;
use crate::measure::Unit;
use crate::measure::ensure;
use crate::measure::row;
use crate::measure::side;
use crate::measure::timed;
use crate::settings::Settings;
use crate::support;
use crate::support::Numbers;
use icecore::base::cancel::Cancel;
use icecore::base::hash::Digest;
use icecore::base::id::BlockId;
use icecore::base::id::DatasetId;
use icecore::base::id::RepositoryId;
use icecore::base::metadata::Kind;
use icecore::base::time::Timestamp;
use icecore::chunk::Cut;
use icecore::engine::compare::Compared;
use icecore::engine::compare::Comparison;
use icecore::engine::compare::Rules;
use icecore::format::entry::Content;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::format::entry::TrackedEntry;
use icecore::repository::cache::Cache;
use icecore::repository::cache::CachePlace;
use icecore::repository::lost::LostPlaces;
use icecore::repository::saved::SavedKind;
use icecore::repository::saved::SavedReader;
use icecore::repository::saved::SavedWriter;
use icecore::source::ScanItem;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

const FILES: usize = 50_000;
const FILES_PER_FOLDER: usize = 50;
const FOLDERS_PER_FOLDER: usize = 20;
/// Files whose blobs are in one block.
const FILES_PER_BLOCK: usize = 200;
/// As the library asks for.
const GETDENTS_BYTES: usize = 32 * 1024;
const DATASET: DatasetId = DatasetId::new([1; 16]);
const HEADER: Digest = [2; 32];
/// Later than any file, so that none is read for having changed just now.
const CHECKED: Timestamp = Timestamp::new(1 << 40, 0);

/// A tree on the system, and how many entries it has with its root.
struct Tree {
    source: LocalSource,
    entries: usize,
}

impl Tree {
    fn make(settings: &Settings, folder: &Path) -> Done<Self> {
        let (mut numbers, mut bytes) = (Numbers::new(1), Vec::new());
        let files = settings.part(FILES, FILES_PER_FOLDER);
        let (mut below, mut entries) = (folder.join("tree"), files + 1);
        for n in 0..files {
            if n % FILES_PER_FOLDER == 0 {
                let number = n / FILES_PER_FOLDER;
                entries += 1 + usize::from(number.is_multiple_of(FOLDERS_PER_FOLDER));
                let above = format!("tree/season-{:03}", number / FOLDERS_PER_FOLDER);
                below = folder.join(above).join(format!("glacier-{number:04}"));
                fs::create_dir_all(&below)?;
            }
            bytes.clear();
            let length = 100 + numbers.below(1000);
            support::text(&mut numbers, length as usize, &mut bytes);
            fs::write(below.join(format!("measured_{:08x}.json", numbers.below(1 << 32))), &bytes)?;
        }
        let source = LocalSource::open(&folder.join("tree"), LocalOptions::default())?;
        Ok(Tree { source, entries })
    }

    fn scan(&self) -> Done<Vec<SourceEntry>> {
        let mut found = Vec::with_capacity(self.entries);
        for item in self.source.scan(&Cancel::new())? {
            match item {
                ScanItem::Entry(entry) => found.push(entry),
                ScanItem::Failed(_, error) => return Err(error.into()),
                ScanItem::Skipped(path, why) => return Err(format!("{path}: {why}").into()),
            }
        }
        ensure(found.len() == self.entries, "the scan does not show what was made")?;
        Ok(found)
    }
}

/// Walks a tree as plainly as can be, one question an entry; returns how many it has.
fn walk_bare(folder: BorrowedFd<'_>, name: &CStr) -> Done<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
    let (mut list, mut folders, mut count) =
        (RawDir::new(folder.as_fd(), &mut buffer), Vec::new(), 1);
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => folders.push(CString::from(name)),
            _ => count += 1,
        }
    }
    folders.iter().try_fold(count, |sum, name| Ok(sum + walk_bare(folder.as_fd(), name)?))
}

/// Takes an entry as a backup would have stored it.
pub(crate) fn tracked(now: SourceEntry, number: usize) -> TrackedEntry {
    let node = match now.kind {
        Kind::Directory => EntryNode::Directory,
        _ => {
            let block = (number / FILES_PER_BLOCK) as u64;
            let block = BlockId::new(Numbers::new(block + 1).id());
            let first = (number % FILES_PER_BLOCK) as u32;
            let content = Content::Runs(vec![Run { block, first, count: 1, bytes: now.size }]);
            let cut = Cut::Whole.to_code();
            EntryNode::File(FileNode {
                size: now.size,
                cut,
                hard_link: None,
                extents: None,
                content,
            })
        }
    };
    let entry = Entry { path: now.path, metadata: now.metadata, node };
    TrackedEntry { entry, detection: now.detection }
}

/// Walking a tree, against asking the system the same questions.
pub(crate) fn scan(settings: &Settings, folder: &Path) -> Done<()> {
    let tree = Tree::make(settings, folder)?;
    tree.scan()?;
    let handle = fs::File::open(folder)?;
    let ours = side(format!("a tree of {} entries", tree.entries), || {
        let (count, taken) = timed(|| tree.source.scan(&Cancel::new()).map(Iterator::count));
        ensure(count? == tree.entries, "the scan does not show what was made")?;
        Ok(taken)
    });
    let limit = side("getdents and statat, in no order", || {
        let (count, taken) = timed(|| walk_bare(handle.as_fd(), c"tree"));
        ensure(count? == tree.entries, "the walk does not show what was made")?;
        Ok(taken)
    });
    row(settings, "scan", (Unit::Things("entries"), tree.entries), ours, limit)
}

fn rules() -> Rules {
    Rules {
        read_all: false,
        tells_metadata: true,
        may_be_mapped: true,
        is_elsewhere: false,
        checked: CHECKED,
        lost: LostPlaces::default(),
    }
}

/// Goes through a comparison in which nothing has changed; returns how many entries it has.
fn unchanged<S, P>(comparison: Comparison<S, P>) -> Done<usize>
where
    S: Iterator<Item = ScanItem>,
    P: Iterator<Item = icecore::base::error::Result<TrackedEntry>>,
{
    let mut count = 0;
    for compared in comparison {
        let is_same = matches!(compared?, Compared::Same(_));
        ensure(is_same, "an entry seems to have changed")?;
        count += 1;
    }
    Ok(count)
}

/// A run without changes, against the scan alone; and the merge without a scan.
pub(crate) fn compare(settings: &Settings, folder: &Path) -> Done<()> {
    let tree = Tree::make(settings, folder)?;
    let scanned = tree.scan()?;
    let numbered = scanned.iter().cloned().enumerate();
    let before: Vec<TrackedEntry> = numbered.map(|(n, entry)| tracked(entry, n)).collect();
    let place = CachePlace::Scratch(folder.to_owned());
    let cache = Cache::open(&place, &RepositoryId::new([3; 16]))?;
    let mut saved = SavedWriter::start(&cache, &DATASET, &HEADER, CHECKED);
    before.iter().for_each(|entry| saved.push(entry));
    saved.end();
    saved.finish(&cache, &DATASET, &HEADER, CHECKED);

    let ours = side("scan, saved snapshot read, both merged", || {
        let (count, taken) = timed(|| {
            let saved = SavedReader::open(&cache, SavedKind::Snapshot, &DATASET, &HEADER);
            let saved = saved.ok_or("the snapshot was not saved")?;
            let scan = tree.source.scan(&Cancel::new())?;
            unchanged(Comparison::new(scan, saved, rules()))
        });
        ensure(count? == tree.entries, "the comparison does not show what was made")?;
        Ok(taken)
    });
    let limit = side("our scan alone", || {
        let (count, taken) = timed(|| tree.source.scan(&Cancel::new()).map(Iterator::count));
        ensure(count? == tree.entries, "the scan does not show what was made")?;
        Ok(taken)
    });
    row(settings, "compare", (Unit::Things("entries"), tree.entries), ours, limit)?;

    let ours = side("the merge alone, both sides in memory", || {
        let scan: Vec<ScanItem> = scanned.iter().cloned().map(ScanItem::Entry).collect();
        let before: Vec<_> = before.iter().cloned().map(Ok).collect();
        let comparison = Comparison::new(scan.into_iter(), before.into_iter(), rules());
        let (count, taken) = timed(|| unchanged(comparison));
        ensure(count? == tree.entries, "the comparison does not show what was given")?;
        Ok(taken)
    });
    let limit = side("comparing the paths, dropping both lists", || {
        let (scan, before) = (scanned.clone(), before.clone());
        let mut both = scan.into_iter().zip(before);
        let (is_equal, taken) = timed(|| both.all(|(now, before)| now.path == before.entry.path));
        ensure(is_equal, "the lists differ")?;
        Ok(taken)
    });
    row(settings, "compare", (Unit::Things("entries"), tree.entries), ours, limit)
}

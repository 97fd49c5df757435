//! A cache that holds anything: it may say where to look, never that something is there.
//!
//! The lowest bit of the first byte takes the encrypted repository of `archives`. The rest are
//! edits of what reading everything has left in the cache: how, which file, where, and with
//! what. Those with the highest bit make a right checksum again, which nobody does by accident:
//! then only what is read is compared that is verified against its name.

use super::Bytes;
use super::archives;
use super::archives::FORGOTTEN;
use super::archives::KNOWN;
use super::archives::NOW;
use super::archives::source;
use super::archives::states;
use super::archives::tree;
use super::places::reach;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::hash;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::engine::Context;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "a file is flipped",
    "a file is cut",
    "a file is something else",
    "a file is gone",
    "a file is another one",
    "a folder stands in its place",
    "a file is forged",
    "read as it was",
    "backed up",
    "checked",
];

const EDITS_MAX: usize = 8;
const CHECKSUM_BYTES: usize = 32;

/// Files by their path in the folder of caches.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What a cache holds after all was read.
static FILES: [LazyLock<Files>; 2] =
    [LazyLock::new(|| filled(false)), LazyLock::new(|| filled(true))];

fn files_below(base: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![base.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if entry.file_type().expect("a kind").is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(base).expect("it is below").to_path_buf();
                files.insert(below, fs::read(&path).expect("reads"));
            }
        }
    }
    files
}

fn filled(is_encrypted: bool) -> Files {
    let base = tempfile::tempdir().expect("a folder");
    let place = CachePlace::Kept(base.path().into());
    // A backup made here would be missed where the cache is put beside the archive.
    let repository = archives::open_objects(archives::objects(is_encrypted), is_encrypted, &place);
    let clock = FixedClock::new(NOW.plus_seconds(86_400));
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    reads(&repository.expect("opens"), &context, is_encrypted, false);
    let files = files_below(base.path());
    assert!(files.len() > 5, "a cache of {} files", files.len());
    files
}

/// Does one edit. Returns whether it forged something.
fn edit(files: &mut Files, folders: &mut Vec<PathBuf>, bytes: &mut Bytes<'_>) -> bool {
    let (how, which) = (bytes.byte(), usize::from(bytes.byte()));
    let Some(path) = files.keys().nth(which % files.len().max(1)).cloned() else { return false };
    let mut content = files[&path].clone();
    let is_forged = how & 0x80 != 0 && content.len() >= CHECKSUM_BYTES;
    if is_forged {
        content.truncate(content.len() - CHECKSUM_BYTES);
    }
    let at = usize::from(bytes.short()) % content.len().max(1);
    reach(match how & 7 {
        0 | 1 => {
            let with = bytes.byte().max(1);
            content.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
            "a file is flipped"
        }
        2 => {
            content.truncate(at);
            "a file is cut"
        }
        3 | 4 => {
            let length = usize::from(bytes.byte());
            content.splice(at.., bytes.take(length).iter().copied());
            "a file is something else"
        }
        5 => {
            files.remove(&path);
            reach("a file is gone");
            return false;
        }
        6 => {
            let other = usize::from(bytes.byte()) % files.len();
            content = files.values().nth(other).cloned().unwrap_or_default();
            files.insert(path, content);
            reach("a file is another one");
            // It has a right checksum.
            return true;
        }
        _ => {
            files.remove(&path);
            folders.push(path.clone());
            "a folder stands in its place"
        }
    });
    if how & 7 == 7 {
        return false;
    }
    if is_forged {
        let checksum = hash::hash(&content);
        content.extend_from_slice(&checksum);
        reach("a file is forged");
    }
    files.insert(path, content);
    is_forged
}

fn is_told<T>(done: Result<T>, is_forged: bool) -> Option<T> {
    if let Err(e) = &done {
        assert!(is_forged, "a cache is in the way: {}", e.full_message());
        assert_ne!(e.kind(), ErrorKind::Bug, "{}", e.full_message());
    }
    done.ok()
}

/// Restores every backup that there is, and compares it.
fn reads(repository: &Repository, context: &Context<'_>, is_encrypted: bool, is_forged: bool) {
    let Some(datasets) = is_told(repository.shown_datasets(), is_forged) else { return };
    let known = &KNOWN[usize::from(is_encrypted)];
    let mut whole = 0;
    for dataset in datasets.readable {
        for ((id, number), state) in known.iter().filter(|(place, _)| place.1 != FORGOTTEN) {
            if *id != dataset.id() {
                continue;
            }
            let found = address::resolve(&dataset, &Version::Number(*number));
            let Some(found) = is_told(found, is_forged) else { continue };
            let snapshot = list::snapshot(&dataset, found.backup);
            let Some(snapshot) = is_told(snapshot, is_forged) else { continue };
            let target = MemoryTarget::new();
            let report = restore::run(&snapshot, &target, &RestoreOptions::default(), context);
            let Some(report) = is_told(report, is_forged) else { continue };
            let is_same = tree(&target) == **state;
            assert!(is_forged || (report.errors.is_empty() && is_same), "{number:?} is another");
            whole += usize::from(is_same);
        }
    }
    let shown = known.keys().filter(|place| place.1 != FORGOTTEN).count();
    assert!(is_forged || whole == shown, "{whole} of {shown} backups");
    if whole == shown {
        reach("read as it was");
    }
}

/// Reads all, backs up once more, and looks at everything that is stored.
fn uses(is_encrypted: bool, place: &CachePlace, is_forged: bool) {
    let objects = archives::objects(is_encrypted);
    let opened = archives::open_objects(objects, is_encrypted, place);
    let Some(repository) = is_told(opened, is_forged) else { return };
    let clock = FixedClock::new(NOW.plus_seconds(86_400));
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    reads(&repository, &context, is_encrypted, is_forged);
    let (options, name) = (BackupOptions::default(), "photos".parse().expect("a name"));
    let made = backup::run(&repository, &name, &source(&states()[1]), &options, &context);
    if is_told(made, is_forged).is_some() {
        reach("backed up");
    }
    reads(&repository, &context, is_encrypted, is_forged);
    let options = CheckOptions { read_packs: true, read_data: Some(100.0), dataset: None };
    if let Some(report) = is_told(check::run(&repository, &options, &context), is_forged) {
        assert!(is_forged || report.is_ok(), "{:?}", report.findings);
        reach("checked");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let is_encrypted = bytes.byte() & 1 == 1;
    let mut files = FILES[usize::from(is_encrypted)].clone();
    let (mut folders, mut is_forged) = (Vec::new(), false);
    for _ in 0..EDITS_MAX {
        if !bytes.is_empty() {
            is_forged |= edit(&mut files, &mut folders, &mut bytes);
        }
    }
    let base = tempfile::tempdir().expect("a folder");
    for path in files.keys().chain(&folders) {
        let folder = path.parent().expect("all are in folders");
        fs::create_dir_all(base.path().join(folder)).expect("made");
    }
    files.iter().for_each(|(path, it)| fs::write(base.path().join(path), it).expect("written"));
    for folder in folders {
        // One of the same name may have become a file again.
        let _ = fs::create_dir(base.path().join(folder));
    }
    uses(is_encrypted, &CachePlace::Kept(base.path().into()), is_forged);
}

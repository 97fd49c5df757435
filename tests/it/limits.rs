//! Sizes that few have: the largest file, the fullest folder, the deepest path, the longest
//! history, the most datasets, the largest attribute. Ordinary runs take smaller ones.
//!
//! `ICECORE_LIMITS=1 cargo test --release --test it limits:: -- --nocapture --test-threads=1`
//! takes the whole ones and prints time and peak of memory of each operation. All is in memory
//! (`/dev/shm`), which takes some 4 GB. Ten million entries and ten thousand packs are rows of
//! `benches/scale.rs`.

use crate::support::folder::Folder;
use crate::support::folder::skipped;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use icecore::backend::local::LocalBackend;
use icecore::base::cancel::Cancel;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::history::Snapshot;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::transaction;
use icecore::source::Source;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::fs::XattrFlags;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

/// Says whether the whole sizes are asked for.
fn is_whole() -> bool {
    std::env::var_os("ICECORE_LIMITS").is_some()
}

fn size(small: u64, whole: u64) -> u64 {
    if is_whole() { whole } else { small }
}

/// The most memory of this process since it was last asked, in MB.
fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    // Where this is not allowed the peak is that of the whole process.
    let _ = fs::write("/proc/self/clear_refs", "5");
    kib * 1024 / 1_000_000
}

/// Does something, and prints what it took.
fn measured<T>(what: &str, work: impl FnOnce() -> T) -> T {
    peak_megabytes();
    let begin = Instant::now();
    let done = work();
    if is_whole() {
        eprintln!("| {what} | {:.2} | {} |", begin.elapsed().as_secs_f64(), peak_megabytes());
    }
    done
}

/// A repository in memory, reached as one on a disk is.
struct Place {
    folder: Folder,
    repository: Repository,
}

impl Place {
    fn new() -> Self {
        let folder = Folder::in_memory();
        let backend = LocalBackend::create(&folder.path().join("repository")).unwrap();
        let cache = CachePlace::Kept(folder.path().join("cache"));
        let options = CreateOptions::default();
        let repository =
            open::create(Arc::new(backend), &options, &cache, SystemClock.now()).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Place { folder, repository }
    }

    /// The same repository as the next process finds it, with what the cache has kept.
    fn opened_anew(&self) -> Repository {
        let backend = LocalBackend::open(&self.folder.path().join("repository")).unwrap();
        let cache = CachePlace::Kept(self.folder.path().join("cache"));
        open::open(Arc::new(backend), None, &cache).unwrap()
    }

    fn at<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let cancel = Cancel::new();
        work(&Context { progress: &Silent, cancel: &cancel, clock: &SystemClock, threads: 2 })
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn back_up(&self, dataset: &str, source: &dyn Source) -> BackupKind {
        let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
        let name = dataset.parse().unwrap();
        let report =
            self.at(|context| backup::run(&self.repository, &name, source, &options, context));
        let report = report.unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        report.kind
    }

    fn back_up_data(&self) -> BackupKind {
        self.back_up("data", &LocalSource::open(&self.data(), LocalOptions::default()).unwrap())
    }

    fn snapshot(&self, dataset: &str, number: u64) -> Snapshot {
        let dataset = self.repository.dataset(&dataset.parse().unwrap()).unwrap();
        let backup = transaction::visible(&dataset, BackupId(number)).unwrap();
        list::snapshot(&dataset, backup).unwrap()
    }

    /// Restores the first backup of the data.
    fn restore(&self, folder: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(folder);
        let target = LocalTarget::new(&path);
        let snapshot = self.snapshot("data", 0);
        let report = self
            .at(|context| restore::run(&snapshot, &target, &RestoreOptions::default(), context))
            .unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        path
    }

    fn restore_to_memory(&self, dataset: &str, number: u64) -> MemoryTarget {
        let target = MemoryTarget::new();
        let snapshot = self.snapshot(dataset, number);
        let report = self
            .at(|context| restore::run(&snapshot, &target, &RestoreOptions::default(), context))
            .unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        target
    }

    fn check(&self) {
        let report =
            self.at(|context| check::run(&self.repository, &CheckOptions::default(), context));
        let report = report.unwrap();
        assert!(report.is_ok(), "{:?}", report.findings);
    }

    fn prune(&self) {
        let options = PruneOptions::default();
        let report = self.at(|context| prune::run(&self.repository, &options, context)).unwrap();
        assert!(report.waits_for.is_empty() && report.stuck.is_empty(), "{report:?}");
    }
}

#[test]
fn a_file_that_is_nearly_all_hole() {
    const STRETCH: usize = 64 << 10;
    let bytes = size(64 << 30, 2 << 40);
    let place = Place::new();
    let file = File::create(place.data().join("holes")).unwrap();
    file.set_len(bytes).unwrap();
    let starts: Vec<u64> = (0..16).map(|n| bytes / 16 * n + 4096 * n).collect();
    for &start in &starts {
        file.write_all_at(&noise(STRETCH, start), start).unwrap();
    }

    let kind = measured("2 TiB of hole with 1 MiB of data: first backup", || place.back_up_data());
    assert_eq!(kind, BackupKind::Full);
    let kind = measured("2 TiB of hole: unchanged", || place.back_up_data());
    assert_eq!(kind, BackupKind::Unchanged);
    let restored = measured("2 TiB of hole: restore", || place.restore("restored"));

    let back = File::open(restored.join("holes")).unwrap();
    let metadata = back.metadata().unwrap();
    assert_eq!(metadata.len(), bytes);
    assert!(metadata.blocks() * 512 <= 2 * 16 * STRETCH as u64, "{}", metadata.blocks());
    let mut end = 0;
    for start in starts {
        assert_eq!(rustix::fs::seek(&back, SeekFrom::Data(end)).unwrap(), start);
        let mut content = vec![0; STRETCH];
        back.read_exact_at(&mut content, start).unwrap();
        assert_eq!(content, noise(STRETCH, start));
        end = start + STRETCH as u64;
    }
    assert!(rustix::fs::seek(&back, SeekFrom::Data(end)).is_err(), "no data behind it");
    place.check();
}

#[test]
fn a_folder_with_very_many_names() {
    let names = size(5_000, 1_000_000);
    let place = Place::new();
    for n in 0..names {
        let content = if n % 100 == 0 { noise(100, n) } else { Vec::new() };
        fs::write(place.data().join(format!("the name of file {n:08}")), content).unwrap();
    }

    measured("a folder with 1 000 000 names: first backup", || place.back_up_data());
    let kind = measured("1 000 000 names: unchanged", || place.back_up_data());
    assert_eq!(kind, BackupKind::Unchanged);
    let restored = measured("1 000 000 names: restore", || place.restore("restored"));

    let mut count = 0;
    for entry in fs::read_dir(&restored).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let n: u64 = name.rsplit(' ').next().unwrap().parse().unwrap();
        count += 1;
        if n.is_multiple_of(100) {
            assert_eq!(fs::read(restored.join(name)).unwrap(), noise(100, n));
        }
    }
    assert_eq!(count, names);
    fs::remove_dir_all(restored).unwrap();
    measured("1 000 000 names: check", || place.check());
}

#[test]
fn a_path_of_forty_thousand_bytes() {
    let place = Place::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(place.data(), flags, Mode::empty()).unwrap();
    let mut length = 0;
    for level in 0_u32.. {
        let name = format!("{level:0>250}");
        rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755)).unwrap();
        folder = rustix::fs::openat(&folder, &name, flags, Mode::empty()).unwrap();
        length += name.len() + 1;
        if length >= 40_000 {
            break;
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, "file", flags, Mode::from_raw_mode(0o600)).unwrap();
    File::from(file).write_all_at(b"far down", 0).unwrap();

    measured("a path of 40 000 bytes: first backup", || place.back_up_data());
    assert_eq!(place.back_up_data(), BackupKind::Unchanged);
    let restored = measured("a path of 40 000 bytes: restore", || place.restore("restored"));

    let (before, after) = (fingerprint(&place.data()), fingerprint(&restored));
    assert!(before.keys().any(|path| path.len() > 40_000));
    assert_eq!(difference(&before, &after), Vec::<String>::new());
    place.check();
}

#[test]
fn an_attribute_of_the_largest_size() {
    let place = Place::new();
    let value = noise(64 << 10, 1);
    let path = place.data().join("file");
    fs::write(&path, b"content").unwrap();
    if let Err(e) = rustix::fs::setxattr(&path, "user.large", &value, XattrFlags::CREATE) {
        skipped(&format!("an attribute of 64 KiB: {e}"));
        return;
    }

    measured("an attribute of 64 KiB: backup", || place.back_up_data());
    let restored = measured("an attribute of 64 KiB: restore", || place.restore("restored"));

    let mut back = vec![0; 70_000];
    let length =
        rustix::fs::getxattr(restored.join("file"), "user.large", back.as_mut_slice()).unwrap();
    assert!(back[..length] == value, "it came back as it was");
    place.check();
}

#[test]
fn a_history_of_very_many_backups() {
    let backups = size(140, 100_000);
    let place = Place::new();
    let source = MemorySource::new("source");
    (0..10_u64).for_each(|n| source.put_file(format!("still-{n}"), noise(50, n)));
    let content = |n: u64| noise(40, 1_000 + n);
    let part = backups / 20;
    for nth in 0..20 {
        let title = format!("100 000 backups of one dataset: part {} of 20", nth + 1);
        measured(&title, || {
            for n in nth * part..(nth + 1) * part {
                source.put_file("moves", content(n));
                place.back_up("data", &source);
            }
        });
        measured("a prune of all of it", || place.prune());
    }

    let dataset = place.repository.dataset(&"data".parse().unwrap()).unwrap();
    let listed = measured("100 000 backups: list all", || dataset.backups().unwrap());
    assert_eq!(listed.len() as u64, backups);
    let moves = EntryPath::new(b"moves").unwrap();
    for n in [0, backups / 2, backups - 1] {
        let target =
            measured("100 000 backups: restore one", || place.restore_to_memory("data", n));
        assert_eq!(target.content(&moves), Some(content(n)));
    }
    // Every other one, so that the floor has much to tell of what remains below it.
    let goes: BTreeSet<BackupId> = (0..backups).step_by(2).map(BackupId).collect();
    measured("100 000 backups: forget every other", || {
        place.at(|context| {
            let selection = Selection::Numbers(goes);
            let plan = forget::plan(&dataset, &selection, &|_| 0, context).unwrap();
            forget::execute(&plan, context).unwrap();
        });
    });
    measured("50 000 of them forgotten: prune", || place.prune());
    let left = measured("50 000 backups: list all", || dataset.backups().unwrap());
    assert_eq!(left.len() as u64, backups / 2);
    for n in [1, backups / 2 + 1, backups - 1] {
        let target = place.restore_to_memory("data", n);
        assert_eq!(target.content(&moves), Some(content(n)));
    }
    measured("50 000 backups: check", || place.check());
}

/// What a backup takes must not grow with those before it, whoever has pruned or not.
#[test]
fn backups_that_nobody_prunes() {
    let backups = size(120, 20_000);
    let mut place = Place::new();
    let source = MemorySource::new("source");
    (0..10_u64).for_each(|n| source.put_file(format!("still-{n}"), noise(50, n)));
    let content = |n: u64| noise(40, 1_000 + n);
    let back_up = |place: &Place, from: u64, to: u64| {
        for n in from..to {
            source.put_file("moves", content(n));
            place.back_up("data", &source);
        }
    };
    let mut before = 0;
    for mark in [100, 1_000, 5_000, 20_000].into_iter().filter(|mark| *mark <= backups) {
        back_up(&place, before, mark - 20);
        let title = format!("20 backups after {mark} that nobody prunes");
        measured(&title, || back_up(&place, mark - 20, mark));
        // The first finds what one process left in the cache, the second what the first made of it.
        for nth in 0..2 {
            place.repository = place.opened_anew();
            measured(&title.replace("20 backups", "one in a new process"), || {
                back_up(&place, mark + nth, mark + nth + 1);
            });
        }
        before = mark + 2;
    }

    let moves = EntryPath::new(b"moves").unwrap();
    for n in [0, before / 2, before - 1] {
        assert_eq!(place.restore_to_memory("data", n).content(&moves), Some(content(n)));
    }
    measured("20 000 backups that nobody prunes: check", || place.check());
    measured("20 000 backups that nobody prunes: prune", || place.prune());
    measured("20 000 backups: prune again", || place.prune());
    back_up(&place, before, before + 1);
    place.check();
}

#[test]
fn very_many_datasets() {
    let datasets = size(100, 100_000);
    let place = Place::new();
    let source = MemorySource::new("source").file("a", noise(100, 1));
    let name = |n: u64| format!("dataset-{n}");
    let part = datasets / 10;
    for tenth in 0..10 {
        let title = format!("100 000 datasets: part {} of 10", tenth + 1);
        measured(&title, || {
            for n in tenth * part..(tenth + 1) * part {
                place.back_up(&name(n), &source);
            }
        });
    }

    let listed = measured("100 000 datasets: list", || list::datasets(&place.repository).unwrap());
    assert_eq!(listed.len() as u64, datasets);
    let target = measured("100 000 datasets: restore one", || {
        place.restore_to_memory(&name(datasets / 2), 0)
    });
    assert_eq!(target.content(&EntryPath::new(b"a").unwrap()), Some(noise(100, 1)));
    measured("100 000 datasets: prune", || place.prune());
    measured("100 000 datasets: check", || place.check());
    assert_eq!(list::datasets(&place.repository).unwrap().len() as u64, datasets);
}

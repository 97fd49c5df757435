//! The disk that a repository is on goes away under a run: what comes then does not go to the
//! folder that is left, and nobody is told that it is stored.

use crate::backend::contract::key;
use crate::full::mounted::Kind;
use crate::full::mounted::Mounted;
use crate::full::mounted::remove_leftovers;
use crate::support::folder::Folder;
use crate::support::folder::skipped;
use crate::support::hooked::Hooked;
use crate::support::tree::noise;
use icecore::backend::Backend;
use icecore::backend::key::FolderKey;
use icecore::backend::local::LocalBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn names_in(folder: &Path) -> usize {
    folder.read_dir().unwrap().count()
}

/// Backs up into a folder that becomes another one once the lease is put.
fn backup_while(root: &Path, cache: &Path, swap: impl FnOnce() + Send) -> Error {
    let backend = Arc::new(LocalBackend::create(root).unwrap());
    let clock = FixedClock::new(Timestamp::new(1_800_000_000, 0));
    let place = CachePlace::Kept(cache.join("cache"));
    let options = CreateOptions::default();
    let repository = open::create(backend, &options, &place, Timestamp::new(1, 0)).unwrap();
    let source = MemorySource::new("data").file("a", noise(100_000, 1));
    let source = Hooked::at_reader(&source, swap);
    let (progress, cancel) = (Silent, Cancel::new());
    let context = Context { progress: &progress, cancel: &cancel, clock: &clock, threads: 2 };
    let name = "data".parse().unwrap();
    let done = backup::run(&repository, &name, &source, &BackupOptions::default(), &context);
    assert!(source.has_happened());
    done.expect_err("the disk is gone")
}

#[test]
fn a_backup_whose_disk_is_unmounted_fails_and_leaves_the_mount_point_as_it_is() {
    if std::env::var_os("ICECORE_NO_MOUNT").is_some() {
        skipped("an unmounted disk: ICECORE_NO_MOUNT is set");
        return;
    }
    remove_leftovers();
    let disk = match Mounted::new(Kind::Tmpfs, 8 << 20) {
        Ok(disk) => disk,
        Err(why) => {
            skipped(&format!("an unmounted disk: tmpfs cannot be mounted: {why}"));
            return;
        }
    };
    let cache = Folder::in_memory();
    let unmount = |options: &[&str]| {
        Command::new("umount").args(options).arg(disk.path()).output().unwrap().status.success()
    };

    let error = backup_while(disk.path(), cache.path(), || {
        assert!(!unmount(&[]), "a disk in use is not unmounted by mistake");
        assert!(unmount(&["-l"]));
    });

    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert_eq!(names_in(disk.path()), 0);
}

/// A link that leads to another file system from one moment to the next, which takes no rights.
struct Swapped {
    one: tempfile::TempDir,
    other: Folder,
}

impl Swapped {
    fn new() -> Option<Self> {
        let swapped = Swapped { one: tempfile::tempdir().unwrap(), other: Folder::in_memory() };
        let device = |path: &Path| path.metadata().unwrap().dev();
        if device(swapped.one.path()) == device(swapped.other.path()) {
            skipped("an exchanged disk: there is one file system only");
            return None;
        }
        std::fs::create_dir(swapped.one.path().join("first")).unwrap();
        symlink("first", swapped.root()).unwrap();
        std::fs::create_dir(swapped.left()).unwrap();
        Some(swapped)
    }

    fn root(&self) -> std::path::PathBuf {
        self.one.path().join("root")
    }

    /// What is there in the end.
    fn left(&self) -> std::path::PathBuf {
        self.other.path().join("left")
    }

    fn swap(&self) {
        let next = self.one.path().join("next");
        symlink(self.left(), &next).unwrap();
        std::fs::rename(next, self.root()).unwrap();
    }
}

#[test]
fn a_backup_whose_disk_is_exchanged_fails_and_makes_nothing_on_the_other() {
    let Some(swapped) = Swapped::new() else { return };

    let error = backup_while(&swapped.root(), swapped.one.path(), || swapped.swap());

    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert_eq!(names_in(&swapped.left()), 0);
}

#[test]
fn on_an_exchanged_disk_nothing_is_stored_settled_or_missing() {
    for has_folders in [false, true] {
        let Some(swapped) = Swapped::new() else { return };
        let backend = LocalBackend::create(&swapped.root()).unwrap();
        backend.put(&key("a/b"), b"1").unwrap();
        backend.get(&key("a/b"), 9).unwrap();
        if has_folders {
            // As somebody leaves it who forgot to mount the disk before.
            std::fs::create_dir_all(swapped.left().join("tmp")).unwrap();
            std::fs::create_dir(swapped.left().join("a")).unwrap();
        }
        swapped.swap();

        let mut errors = vec![
            backend.put(&key("a/c"), b"1").unwrap_err(),
            backend.put_new(&key("a/d"), b"1").unwrap_err(),
            backend.get(&key("a/b"), 9).unwrap_err(),
            backend.stat(&key("a/b")).unwrap_err(),
            backend.settle().unwrap_err(),
        ];
        if !has_folders {
            errors.push(backend.list(&FolderKey::top(), &mut |_| Ok(())).unwrap_err());
            assert_eq!(names_in(&swapped.left()), 0);
        }

        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        }
    }
}

//! The cache is thrown away while a backup runs.

use crate::engine_backup::noise;
use crate::support::odd::Odd;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::repository::cache;
use icecore::repository::cache::Cleared;
use icecore::source::OpenedEntry;
use icecore::source::Scan;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::memory::MemorySource;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Clears the cache at every file that is opened.
struct Clearing<'a> {
    inner: &'a MemorySource,
    base: PathBuf,
    files: AtomicU64,
}

struct Reader<'a> {
    source: &'a Clearing<'a>,
    inner: Box<dyn SourceReader + Send + 'a>,
}

impl Source for Clearing<'_> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        self.inner.scan(cancel)
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader { source: self, inner: self.inner.reader()? }))
    }
}

impl SourceReader for Reader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        let Cleared { files, .. } = cache::clear(&self.source.base, None)?;
        self.source.files.fetch_add(files, Ordering::Relaxed);
        self.inner.open(path)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.inner.finish()
    }
}

#[test]
fn clearing_it_does_not_disturb_a_backup() {
    for full in [false, true] {
        let world = World::memory();
        let source = MemorySource::new("data").file("same", b"same");
        (0..300).for_each(|n| source.put_file(format!("f{n}"), noise(20_000, n)));
        world.backup(&source).expect("a backup");
        (0..300).for_each(|n| source.put_file(format!("f{n}"), noise(20_000, n + 1000)));
        world.clock.advance(100);
        let cache = world.repository.cache().path("");
        let base = cache.parent().expect("a folder").to_path_buf();
        let clearing = Clearing { inner: &source, base, files: AtomicU64::new(0) };

        let options = BackupOptions { full, ..BackupOptions::default() };
        let report = world.backup_with(&clearing, &options).expect("a backup");

        assert_eq!(report.kind, if full { BackupKind::Full } else { BackupKind::Partial });
        assert_eq!((report.counts.modified, report.errors.len()), (300, 0));
        assert!(clearing.files.load(Ordering::Relaxed) > 3, "nothing was there to clear");
        assert_eq!(world.content(1, "f7"), noise(20_000, 1007));
        world.clock.advance(100);
        source.put_file("more", b"more");
        let next = world.backup(&source).expect("a backup");
        assert_eq!((next.counts.added, next.counts.modified, next.counts.deleted), (1, 0, 0));
    }
}

/// Runs that share a cache share its names, too: one that has just committed must not make what
/// another one leaves there the state of its own backup.
#[test]
fn a_journal_of_another_backup_is_never_taken_for_the_state_of_one_that_was_committed() {
    let mut world = World::memory();
    let source = Arc::new(MemorySource::new("data"));
    (0..20).for_each(|n| source.put_file(format!("f{n}"), noise(2_000, n)));
    world.backup(&*source).expect("a backup");
    let (odd, full) = (world.make_odd(), Odd::new(Arc::clone(&world.backend) as _));
    full.fill_up("index/");
    let beside = world.open_beside(Arc::new(full));
    let failed = Arc::new(AtomicU64::new(0));
    let (count, later, name) = (Arc::clone(&failed), Arc::clone(&source), world.name());
    odd.between(move |operation, key| {
        // The first backup is there, and what the cache has of it is not in its place yet.
        if operation != Operation::Delete || !key.starts_with("leases/") {
            return true;
        }
        (0..20).for_each(|n| later.put_file(format!("f{n}"), noise(2_000, n + 100)));
        let clock = FixedClock::new(Timestamp::new(1_800_000_200, 0));
        let context =
            Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 2 };
        let options = BackupOptions::default();
        let error = backup::run(&beside, &name, &*later, &options, &context).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        count.fetch_add(1, Ordering::Relaxed);
        false
    });
    source.put_file("f0", b"changed");
    world.clock.advance(100);
    world.backup(&*source).expect("a backup");
    assert_eq!(failed.load(Ordering::Relaxed), 1);
    odd.behave();
    world.clock.advance(200);

    let next = world.backup(&*source).expect("a backup");

    assert_eq!((next.backup, next.counts.modified), (BackupId(2), 20));
    world.forget_caches();
    assert_eq!(world.content(2, "f7"), noise(2_000, 107));
}

//! A thread that panics: the run ends with an error instead of waiting for it, lease in hand.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::path::EntryPath;
use icecore::engine::backup::BackupOptions;
use icecore::source::OpenedEntry;
use icecore::source::Scan;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::memory::MemorySource;
use std::sync::mpsc;
use std::time::Duration;

/// Panics when one of its files is opened.
struct Panicking(MemorySource);

struct Reader<'a>(Box<dyn SourceReader + Send + 'a>);

impl Source for Panicking {
    fn location(&self) -> String {
        self.0.location()
    }

    fn detects_changes(&self) -> bool {
        self.0.detects_changes()
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        self.0.scan(cancel)
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader(self.0.reader()?)))
    }
}

impl SourceReader for Reader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        assert_ne!(path.as_bytes(), b"f00100", "this is on purpose");
        self.0.open(path)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.0.finish()
    }
}

/// Runs something that must end; what it does when it does not is left behind.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it ends, and does not panic itself")
}

fn has_header(world: &World) -> bool {
    let mut keys = world.backend.objects().into_keys();
    keys.any(|key| key.as_str().starts_with("datasets/"))
}

#[test]
fn a_panic_while_a_file_is_read_ends_the_backup() {
    for dry_run in [false, true] {
        let error = soon(move || {
            let source = MemorySource::new("data");
            (0..10_000).for_each(|n| source.put_file(format!("f{n:05}"), format!("{n}")));
            let world = World::memory();
            let options = BackupOptions { dry_run, ..BackupOptions::default() };
            let done = world.backup_with(&Panicking(source), &options);
            assert!(!has_header(&world));
            done.expect_err("not all was read")
        });
        assert_eq!(error.kind(), ErrorKind::Bug, "{error:?}");
    }
}

#[test]
fn a_panic_while_a_pack_is_put_ends_the_backup() {
    let error = soon(|| {
        let mut world = World::with_small_packs();
        world.make_odd().between(|operation, key| {
            assert!(operation != Operation::Put || !key.starts_with("packs/"), "on purpose");
            true
        });
        let source = MemorySource::new("data").file("a", noise(20_000_000, 1));
        let error = world.backup(&source).expect_err("a pack is missing");
        assert!(!has_header(&world));
        error
    });
    assert_eq!(error.kind(), ErrorKind::Bug, "{error:?}");
}

//! Streams, which cannot be read again when a backup has to begin anew.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::source::OpenedEntry;
use icecore::source::Scan;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::memory::MemorySource;
use icecore::source::stream::StreamSource;
use std::io::Cursor;
use std::sync::Mutex;

type Event<'a> = Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>;

/// A stream during which something else happens, once.
struct Disturbed<'a> {
    inner: StreamSource,
    event: Event<'a>,
}

struct Reader<'a, 'event> {
    inner: Box<dyn SourceReader + Send + 'a>,
    event: &'a Event<'event>,
}

fn stream(content: &[u8], seconds: i64) -> StreamSource {
    let content = Cursor::new(content.to_vec());
    let now = Timestamp::new(seconds, 0);
    StreamSource::new(content, b"dump", now, &Cancel::new()).expect("a source")
}

impl Source for Disturbed<'_> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn detects_changes(&self) -> bool {
        self.inner.detects_changes()
    }

    fn is_stream(&self) -> bool {
        self.inner.is_stream()
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        self.inner.scan(cancel)
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(Reader { inner: self.inner.reader()?, event: &self.event }))
    }
}

impl SourceReader for Reader<'_, '_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.inner.open(path)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if let Some(event) = self.event.lock().unwrap().take() {
            event();
        }
        self.inner.read_at(offset, buffer)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.inner.finish()
    }
}

/// Somebody ends the lease, and another backup takes the number.
#[test]
fn a_stream_that_has_gone_by_is_in_the_backup_that_begins_anew() {
    let content = noise(10 << 20, 3);
    for parents in [0, 1] {
        let world = World::memory();
        let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
        let other = MemorySource::new("other").file("a", b"alpha");
        for _ in 0..parents {
            world.backup_with(&other, &options).expect("a backup");
        }
        let event = || {
            world.drop_leases();
            other.put_file("a", b"beta");
            world.backup_with(&other, &options).expect("another backup");
        };
        let event: Box<dyn FnOnce() + Send + '_> = Box::new(event);
        let source = Disturbed { inner: stream(&content, 5), event: Mutex::new(Some(event)) };

        let report = world.backup_with(&source, &options).expect("a backup");

        assert_eq!(report.backup, BackupId(parents + 1));
        assert_eq!((report.counts.added, report.counts.deleted), (1, 1), "{report:?}");
        assert_eq!(world.paths(parents + 1), ["", "dump"]);
        assert!(world.content(parents + 1, "dump") == content);
        assert_eq!(world.sound_backups() as u64, parents + 2);
    }
}

#[test]
fn a_stream_that_has_gone_by_is_not_backed_up_again() {
    let world = World::memory();
    let source = stream(b"content", 5);
    world.backup(&source).expect("a backup");

    let error = world.backup(&source).expect_err("it has gone by");

    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cannot be read again"), "{error}");
    assert_eq!(world.content(0, "dump"), b"content");
    let report = world.backup(&stream(b"content", 9)).expect("a backup");
    assert_eq!(report.kind, BackupKind::Unchanged);
}

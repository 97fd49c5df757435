//! Files that are looked at once more together, when all of a unit were read.

use crate::files_source::World;
use crate::files_source::back_up;
use crate::files_source::restored;
use crate::files_source::same_content;
use crate::files_source::world;
use crate::support::tree::noise;
use crate::support::ways::FTP;
use crate::support::world::World as Repository;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::path::EntryPath;
use icecore::source::OpenedEntry;
use icecore::source::Scan;
use icecore::source::Source;
use icecore::source::SourceEntry;
use icecore::source::SourceReader;
use icecore::source::files::FilesSource;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// A source on whose server something happens when all files of a unit were read, and before they
/// are looked at once more.
struct Meddled<'a> {
    source: FilesSource,
    meddle: &'a (dyn Fn() + Sync),
}

struct MeddledReader<'a> {
    reader: Box<dyn SourceReader + Send + 'a>,
    meddle: &'a (dyn Fn() + Sync),
}

impl Source for Meddled<'_> {
    fn location(&self) -> String {
        self.source.location()
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        self.source.scan(cancel)
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(MeddledReader { reader: self.source.reader()?, meddle: self.meddle }))
    }
}

impl SourceReader for MeddledReader<'_> {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.reader.open(path)
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize> {
        self.reader.read_at(at, buffer)
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        self.reader.finish()
    }

    fn finish_soon(&mut self) -> Result<SourceEntry> {
        self.reader.finish_soon()
    }

    fn settle(&mut self) -> Vec<EntryPath> {
        (self.meddle)();
        self.reader.settle()
    }
}

fn world_of_many() -> World {
    let world = world(FTP);
    for number in 0..40 {
        let name = format!("many/{number:02}");
        world.write(&name, &noise(500, number));
        world.date(&name, 1_700_000_000);
    }
    for name in ["few/a", "few/b"] {
        world.write(name, b"some");
        world.date(name, 1_700_000_000);
    }
    world
}

#[test]
fn files_of_a_folder_are_looked_at_again_together() {
    let world = world_of_many();
    let repository = Repository::memory();
    let source = world.source();
    world.server.cut(None);
    back_up(&repository, &source, 1_800_000_000);
    let calls = world.server.calls();
    let count = |what: &str| calls.iter().filter(|call| call.starts_with(what)).count();
    assert_eq!(count("list"), 3 + 1, "each folder once, and the one with many again: {calls:#?}");
    assert_eq!(count("look "), 2, "of a folder with few each file: {calls:#?}");
    same_content(world.folder.path(), &restored(&repository, 0).path().join("out"));
}

#[test]
fn what_changed_before_the_last_look_is_read_again() {
    let world = world_of_many();
    let repository = Repository::memory();
    let turn = AtomicUsize::new(0);
    let meddle = || {
        // Two workers may come by; the files are changed for the one that read them.
        turn.fetch_add(1, Ordering::Relaxed);
        for name in ["many/07", "few/a"] {
            world.write(name, b"other");
            world.date(name, 1_700_000_005);
        }
        let _ = std::fs::remove_file(world.folder.path().join("many/09"));
    };
    let source = Meddled { source: world.source(), meddle: &meddle };
    let report = back_up(&repository, &source, 1_800_000_000);
    assert!(turn.into_inner() > 0);
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    same_content(world.folder.path(), &restored(&repository, 0).path().join("out"));
}

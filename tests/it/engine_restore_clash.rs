//! Restores to a file system that does not tell case apart: what it takes for one is an error, each
//! time, and nothing that was restored is replaced or deleted for it.

use crate::hostile::forge::back_up;
use crate::hostile::forge::entry;
use crate::support::restored::TINY;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::put;
use crate::support::world::World;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::engine::Context;
use icecore::engine::restore;
use icecore::engine::restore::Bounds;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::restore::RestoreReport;
use icecore::format::entry::EntryNode;
use icecore::source::memory::MemorySource;
use icecore::target::MetadataRules;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::TargetEntry;
use icecore::target::TargetWriter;
use icecore::target::memory::MemoryTarget;

/// A target that keeps the case of names and does not tell it apart.
struct Folding(MemoryTarget);

impl Target for Folding {
    fn location(&self) -> String {
        self.0.location()
    }

    fn prepare(&self) -> Result<bool> {
        self.0.prepare()
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        Ok(Box::new(FoldingWriter(self.0.writer()?)))
    }
}

struct FoldingWriter<'a>(Box<dyn TargetWriter + Send + 'a>);

impl FoldingWriter<'_> {
    /// Returns a path as it is written in the target, as far as it is there.
    fn at(&mut self, path: &EntryPath) -> EntryPath {
        path.components().fold(EntryPath::root(), |folder, name| {
            let names = self.0.list(&folder).unwrap_or_default();
            let there = names.into_iter().find(|there| there.eq_ignore_ascii_case(name));
            folder.join(there.as_deref().unwrap_or(name)).unwrap()
        })
    }
}

impl TargetWriter for FoldingWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        let path = self.at(path);
        self.0.stat(&path)
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        let path = self.at(path);
        self.0.list(&path)
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        let path = self.at(path);
        self.0.create_directory(&path)
    }

    fn create_new_directory(&mut self, path: &EntryPath) -> Result<()> {
        match self.stat(path)? {
            Some(_) => Err(Error::new(ErrorKind::AlreadyExists, "a folder is there")),
            None => self.create_directory(path),
        }
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        let path = self.at(path);
        self.0.create_file(&path)
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        let path = self.at(path);
        self.0.open_file(&path)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        self.0.punch_hole(offset, length)
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        self.0.set_length(length)
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        self.0.finish_file(metadata, rules)
    }

    fn close_file(&mut self) -> Result<()> {
        self.0.close_file()
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let path = self.at(path);
        self.0.create_node(&path, node, metadata, rules)
    }

    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        let (path, existing) = (self.at(path), self.at(existing));
        self.0.link(&path, &existing)
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let path = self.at(path);
        self.0.set_metadata(&path, metadata, rules)
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        let path = self.at(path);
        self.0.remove(&path)
    }

    fn sync(&mut self) -> Result<()> {
        self.0.sync()
    }
}

const BOUNDS: [Bounds; 2] = [TINY, Bounds { window_rows: 1, ..TINY }];
const RULES: [Overwrite; 3] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never];

/// Restores on one thread: that two look at once whether a name is taken is no matter here.
fn restored(world: &World, to: &Folding, wanted: &RestoreOptions, bounds: Bounds) -> RestoreReport {
    let context = Context { threads: 1, ..world.context() };
    restore::run_bounded(&world.snapshot(0), to, wanted, &context, bounds).unwrap()
}

fn failed(report: &RestoreReport) -> Vec<String> {
    report.errors.iter().map(|failure| failure.path.as_ref().unwrap().to_string()).collect()
}

#[test]
fn names_that_are_one_there_are_an_error_each_time() {
    let source = MemorySource::new("s").file("Foo/one", b"1").file("foo/two", b"2");
    let source =
        source.file("A", b"aaa").file("a", b"bbbb").file("z/A", b"aaa").symlink("z/a", "x");
    let world = backed_up(&source.symlink("L", "y").file("l", b"lll"));
    for bounds in BOUNDS.into_iter().chain([Bounds::default()]) {
        let target = Folding(MemoryTarget::new());

        let first = restored(&world, &target, &options(), bounds);

        // Which of two comes first is another matter within one window.
        let told = failed(&first);
        let lost = |one: &str, other: &str| {
            told.iter().filter(|it| [one, other].contains(&&it[..])).count()
        };
        assert_eq!(told.len(), 4, "{told:?}");
        for (one, other) in [("Foo", "foo"), ("A", "a"), ("z/A", "z/a"), ("L", "l")] {
            assert_eq!(lost(one, other), 1, "{one} of {told:?}");
        }
        let before = target.0.entries();
        for rule in RULES {
            for delete in [false, true] {
                let wanted = RestoreOptions { delete, verify: true, ..overwriting(rule) };

                let again = restored(&world, &target, &wanted, bounds);

                let told = failed(&again);
                assert_eq!(told.len(), 4, "{rule:?}, delete {delete}: {told:?}");
                assert_eq!(again.deleted, 0, "{rule:?}");
                let names = |entries: std::collections::BTreeMap<EntryPath, _>| entries.len();
                assert_eq!(names(target.0.entries()), names(before.clone()), "{rule:?}");
            }
        }
        assert_eq!(target.0.content(&path("Foo/one")).unwrap(), b"1");
        assert!(!target.0.entries().contains_key(&path("Foo/two")));
    }
}

#[test]
fn what_was_not_there_before_is_not_taken_for_something_old() {
    let source = MemorySource::new("s").file("A", b"aaa").file("a", b"bbbb").file("b", b"b");
    let source =
        source.file("Foo/one", b"1").file("foo", b"file").symlink("L", "y").file("l", b"l");
    let world = backed_up(&source);
    for rule in RULES {
        for (delete, bounds) in [(false, BOUNDS[0]), (true, BOUNDS[1]), (true, BOUNDS[0])] {
            let target = Folding(MemoryTarget::new());
            target.prepare().unwrap();
            put(&target.0, "b", b"old");
            let wanted = RestoreOptions { delete, ..overwriting(rule) };

            let report = restored(&world, &target, &wanted, bounds);

            let told = failed(&report);
            assert_eq!(told.len(), 3, "{rule:?}: {told:?}");
            assert_eq!(target.0.content(&path("Foo/one")).unwrap(), b"1", "{rule:?}");
            let one = target.0.content(&path("A"));
            let is_told = |at: &str| told.contains(&at.to_owned());
            match is_told("a") {
                true => assert_eq!(one.unwrap(), b"aaa"),
                false => assert_eq!(target.0.content(&path("a")).unwrap(), b"bbbb"),
            }
        }
    }
}

#[test]
fn delete_spares_what_is_an_entry_by_another_name() {
    let world = backed_up(&MemorySource::new("s").file("A", b"aaa").file("Foo/one", b"1"));
    for rule in [Overwrite::Always, Overwrite::IfChanged] {
        let target = Folding(MemoryTarget::new());
        target.prepare().unwrap();
        target.writer().unwrap().create_directory(&path("foo")).unwrap();
        put(&target.0, "a", b"aaa");
        put(&target.0, "foo/two", b"2");
        let wanted = RestoreOptions { delete: true, verify: true, ..overwriting(rule) };

        let report = restored(&world, &target, &wanted, Bounds::default());

        assert_eq!((report.errors, report.files, report.deleted), (Vec::new(), 2, 1), "{rule:?}");
        assert_eq!(target.0.content(&path("foo/one")).unwrap(), b"1");
        let mut writer = target.writer().unwrap();
        assert!(
            writer.stat(&path("A")).unwrap().is_some()
                && writer.stat(&path("foo/two")).unwrap().is_none()
        );
    }
}

#[test]
fn hard_links_in_one_folder_are_no_clash() {
    let source = MemorySource::new("s").file("a", b"same").hard_link("b", "a").hard_link("c", "a");
    let world = backed_up(&source);
    let target = Folding(MemoryTarget::new());
    for rule in RULES {
        let wanted = RestoreOptions { delete: true, verify: true, ..overwriting(rule) };
        let report = restored(&world, &target, &wanted, TINY);
        assert_eq!(report.errors, [], "{rule:?}");
    }
    assert_eq!(target.0.entries().len(), 4);
}

#[test]
fn a_folder_that_stands_there_is_none_that_was_to_be_made() {
    let world = World::memory();
    back_up(&world, vec![entry("Foo", EntryNode::Directory), entry("foo", EntryNode::Directory)]);
    let target = Folding(MemoryTarget::new());

    let report = restored(&world, &target, &options(), Bounds::default());

    assert_eq!(failed(&report), ["foo"]);
    assert!(report.errors[0].message.contains("this folder and all in it are left out"));
}

//! Names with one number of a file: what is one file comes back as one, and what only had the
//! number, one file after the other, as several.

use crate::hostile::forge::back_up;
use crate::hostile::forge::entry;
use crate::hostile::forge::store;
use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::put;
use crate::support::restored::restore;
use crate::support::world::World;
use icecore::base::path::EntryPath;
use icecore::base::progress::Counter;
use icecore::base::progress::Phase;
use icecore::base::progress::Progress;
use icecore::base::progress::Totals;
use icecore::base::progress::Warning;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::export;
use icecore::engine::export::Format;
use icecore::engine::restore;
use icecore::engine::restore::Bounds;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::format::entry::Content;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::FileNode;
use icecore::format::entry::Run;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A name of a file of group 7, its content cut and stored by itself.
fn name(world: &World, at: &str, blobs: &[&[u8]]) -> Entry {
    name_behind(world, at, &[], blobs)
}

/// The same, stored behind what is not of it.
fn name_behind(world: &World, at: &str, other: &[&[u8]], blobs: &[&[u8]]) -> Entry {
    let block = store(world, &[other, blobs].concat());
    let (first, count) = (other.len() as u32, blobs.len() as u32);
    let bytes = blobs.concat().len() as u64;
    let content = Content::Runs(vec![Run { block, first, count, bytes }]);
    let node = FileNode { size: bytes, cut: 0, hard_link: Some(7), extents: None, content };
    entry(at, EntryNode::File(node))
}

/// As a backup has it when another file got the number of one that was removed: of the same size
/// at `z/1`, of another time at `z/3`.
fn reused() -> World {
    let world = World::memory();
    let mut later = name(&world, "z/3", &[b"second"]);
    later.metadata.mtime = Timestamp::new(77, 0);
    let entries = vec![
        entry("a", EntryNode::Directory),
        name(&world, "a/1", &[b"before"]),
        name(&world, "a/2", &[b"before"]),
        entry("z", EntryNode::Directory),
        name(&world, "z/1", &[b"second"]),
        name(&world, "z/2", &[b"second"]),
        later,
    ];
    back_up(&world, entries);
    world
}

const CONTENTS: [(&str, &[u8]); 5] = [
    ("a/1", b"before"),
    ("a/2", b"before"),
    ("z/1", b"second"),
    ("z/2", b"second"),
    ("z/3", b"second"),
];

fn assert_as_stored(target: &MemoryTarget) {
    let found = target.entries();
    let inode = |at: &str| found[&path(at)].inode;
    for (at, content) in CONTENTS {
        assert_eq!(target.content(&path(at)).unwrap(), content, "{at}");
    }
    assert_eq!((inode("a/1"), inode("z/1")), (inode("a/2"), inode("z/2")));
    assert!(inode("a/1") != inode("z/1") && inode("z/3") != inode("z/1"));
    assert_eq!(found[&path("z/3")].metadata.mtime, Timestamp::new(77, 0));
}

#[test]
fn files_that_had_one_number_after_another_are_restored_each_with_its_own_content() {
    let world = reused();
    for bounds in [Bounds::default(), TINY, Bounds { window_rows: 1, ..TINY }] {
        let target = MemoryTarget::new();
        let (snapshot, context) = (world.snapshot(0), world.context());
        let wanted = RestoreOptions { verify: true, ..options() };

        let report = restore::run_bounded(&snapshot, &target, &wanted, &context, bounds).unwrap();

        assert_eq!((report.errors, report.files), (Vec::new(), 5));
        assert_as_stored(&target);
    }
}

#[test]
fn if_changed_keeps_them_apart_and_parts_them() {
    let world = reused();
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    let before = target.entries();

    let report = restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));

    assert_eq!(report.written_bytes, 0);
    assert_as_stored(&target);
    let inode = |at: &str| (before[&path(at)].inode, target.entries()[&path(at)].inode);
    for (at, _) in CONTENTS {
        assert_eq!(inode(at).0, inode(at).1, "{at}");
    }

    // As a restore that went by the number alone has left them.
    use icecore::target::Target;
    let mut writer = target.writer().unwrap();
    for at in ["z/1", "z/2", "z/3"] {
        writer.remove(&path(at)).unwrap();
        writer.link(&path(at), &path("a/1")).unwrap();
    }
    let metadata = &before[&path("a/1")].metadata;
    writer.set_metadata(&path("a/1"), metadata, Default::default()).unwrap();
    drop(writer);
    restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));
    assert_as_stored(&target);
}

#[test]
fn an_archive_has_each_with_its_own_content() {
    let (world, folder) = (reused(), Folder::new());
    let mut archive = Vec::new();
    let root = EntryPath::root();
    let (snapshot, context) = (world.snapshot(0), world.context());
    export::run(&snapshot, &root, Format::Tar, &mut archive, &context).unwrap();
    let file = folder.path().join("archive.tar");
    std::fs::write(&file, archive).unwrap();

    let mut tar = std::process::Command::new("tar");
    let unpacked = tar.arg("-xf").arg(&file).arg("-C").arg(folder.path()).status().unwrap();

    assert!(unpacked.success());
    for (at, content) in CONTENTS {
        assert_eq!(std::fs::read(folder.path().join(at)).unwrap(), content, "{at}");
    }
    let inode = |at: &str| std::fs::metadata(folder.path().join(at)).unwrap().ino();
    assert_eq!((inode("a/1"), inode("z/1")), (inode("a/2"), inode("z/2")));
    assert_ne!(inode("a/1"), inode("z/1"));
}

#[test]
fn one_content_that_is_stored_or_cut_twice_is_one_file() {
    let world = World::memory();
    let entries = vec![
        name(&world, "a", &[b"one ", b"and the ", b"same"]),
        name_behind(&world, "b", &[b"other"], &[b"one ", b"and the ", b"same"]),
        name(&world, "c", &[b"one and ", b"the same"]),
        name(&world, "d", &[b"one and ", b"the sane"]),
    ];
    back_up(&world, entries);
    let target = MemoryTarget::new();

    restore(&world, 0, &target, &options());

    let found = target.entries();
    let inode = |at: &str| found[&path(at)].inode;
    assert_eq!((inode("b"), inode("c")), (inode("a"), inode("a")));
    assert_ne!(inode("d"), inode("a"));
    assert_eq!(target.content(&path("d")).unwrap(), b"one and the sane");
}

/// Counts files that are verified, and changes one before.
struct Verified<'a> {
    target: &'a MemoryTarget,
    is_on: AtomicBool,
    files: AtomicU64,
}

impl Progress for Verified<'_> {
    fn start(&self, phase: Phase, _: Totals) {
        if matches!(phase, Phase::Verify) {
            self.is_on.store(true, Ordering::Relaxed);
            use icecore::target::Target;
            self.target.writer().unwrap().remove(&path("z/2")).unwrap();
            put(self.target, "z/2", b"secund");
        }
    }
    fn count(&self, counter: Counter, amount: u64) {
        if matches!(counter, Counter::Files) && self.is_on.load(Ordering::Relaxed) {
            self.files.fetch_add(amount, Ordering::Relaxed);
        }
    }
    fn working_on(&self, _: &EntryPath) {}
    fn warn(&self, _: &Warning) {}
    fn finish(&self) {}
}

#[test]
fn verify_reads_further_names_too() {
    let world = reused();
    let target = MemoryTarget::new();
    let (is_on, files) = (AtomicBool::new(false), AtomicU64::new(0));
    let progress = Verified { target: &target, is_on, files };
    let context = Context { progress: &progress, ..world.context() };
    let wanted = RestoreOptions { verify: true, ..options() };

    let report = restore::run(&world.snapshot(0), &target, &wanted, &context).unwrap();

    assert_eq!(progress.files.load(Ordering::Relaxed), 5);
    let failed: Vec<_> = report.errors.iter().filter_map(|failure| failure.path.clone()).collect();
    assert_eq!(failed, [path("z/2")]);
}

#[test]
fn files_of_several_names_that_nobody_may_write_are_verified() {
    let world = World::memory();
    let mut entries = vec![name(&world, "a", &[b"same"]), name(&world, "b", &[b"same"])];
    entries.iter_mut().for_each(|entry| entry.metadata.mode = 0o444);
    back_up(&world, entries);
    let folder = Folder::new();
    let target = LocalTarget::new(&folder.path().join("out"));
    let wanted = RestoreOptions { verify: true, owner: false, ..options() };

    restore(&world, 0, &target, &wanted);

    let there = std::fs::metadata(folder.path().join("out/b")).unwrap();
    assert_eq!((there.nlink(), there.permissions().mode() & 0o7777), (2, 0o444));
}

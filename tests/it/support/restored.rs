//! Trees to restore, short words for restoring them, and a look at what came back.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::Error;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::restore;
use icecore::engine::restore::Bounds;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::PlannedAction;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::restore::RestoreReport;
use icecore::format::entry::EntryNode;
use icecore::source::filter::Filter;
use icecore::source::filter::FilterOptions;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

pub(crate) fn options() -> RestoreOptions {
    RestoreOptions::default()
}

pub(crate) fn overwriting(overwrite: Overwrite) -> RestoreOptions {
    RestoreOptions { overwrite: Some(overwrite), ..options() }
}

pub(crate) fn excluding(patterns: &[&str]) -> Filter {
    let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    Filter::new(&FilterOptions { patterns, ..FilterOptions::default() }).unwrap()
}

/// Windows of three rows and reads of one block: all that spans windows is met.
pub(crate) const TINY: Bounds = Bounds { window_rows: 3, window_bytes: 1 << 20, read_bytes: 1 };

pub(crate) fn try_restore(
    world: &World,
    number: u64,
    target: &dyn Target,
    options: &RestoreOptions,
) -> Result<RestoreReport, Error> {
    restore::run(&world.snapshot(number), target, options, &world.context())
}

/// Plans a restore; returns what it would report, and its rows: `create a`.
pub(crate) fn try_plan(
    world: &World,
    number: u64,
    target: &dyn Target,
    options: &RestoreOptions,
) -> Result<(RestoreReport, Vec<String>), Error> {
    let snapshot = world.snapshot(number);
    let planned = |context: &Context<'_>, bounds: Bounds| {
        let mut rows = Vec::new();
        let mut visit = |row: &PlannedAction| {
            rows.push(format!("{} {}", row.action, row.path));
            Ok(())
        };
        restore::plan_bounded(&snapshot, target, options, context, bounds, &mut visit)
            .map(|report| (report, rows))
    };
    let (report, rows) = planned(&world.context(), Bounds::default())?;
    // However little is held, the rows are the same.
    let quiet = Context { progress: &Silent, ..world.context() };
    for bounds in [TINY, Bounds { window_rows: 1, ..TINY }, Bounds { window_bytes: 1, ..TINY }] {
        assert_eq!(planned(&quiet, bounds)?.1, rows, "{bounds:?}");
    }
    Ok((report, rows))
}

/// Plans a restore that nothing stands in the way of.
pub(crate) fn plan(
    world: &World,
    number: u64,
    target: &dyn Target,
    options: &RestoreOptions,
) -> (RestoreReport, Vec<String>) {
    let (report, rows) = try_plan(world, number, target, options).unwrap();
    assert_eq!(report.errors, [], "everything would be restored");
    (report, rows)
}

/// Restores, or plans to.
pub(crate) fn restore_or_plan(
    is_dry: bool,
    world: &World,
    target: &dyn Target,
    options: &RestoreOptions,
) -> Result<RestoreReport, Error> {
    match is_dry {
        true => try_plan(world, 0, target, options).map(|(report, _)| report),
        false => try_restore(world, 0, target, options),
    }
}

pub(crate) fn restore(
    world: &World,
    number: u64,
    target: &dyn Target,
    options: &RestoreOptions,
) -> RestoreReport {
    let report = try_restore(world, number, target, options).unwrap();
    assert_eq!(report.errors, [], "everything is restored");
    report
}

/// Checks that a target holds a backup and nothing else.
pub(crate) fn assert_holds(world: &World, number: u64, target: &MemoryTarget) {
    let found = target.entries();
    let mut groups: BTreeMap<u64, u64> = BTreeMap::new();
    let mut count = 0;
    for tracked in world.snapshot(number).entries() {
        let entry = tracked.unwrap().entry;
        let there = found.get(&entry.path).unwrap_or_else(|| panic!("{} is missing", entry.path));
        count += 1;
        assert_eq!(there.kind, entry.kind(), "{}", entry.path);
        let (wanted, set) = (&entry.metadata, &there.metadata);
        assert_eq!(set.mtime, wanted.mtime, "{}", entry.path);
        assert_eq!(set.xattrs, wanted.xattrs, "{}", entry.path);
        assert_eq!((set.owner.uid, set.owner.gid), (wanted.owner.uid, wanted.owner.gid));
        match &entry.node {
            EntryNode::Symlink(link) => assert_eq!(there.link_target, *link),
            EntryNode::CharDevice(major, minor) | EntryNode::BlockDevice(major, minor) => {
                assert_eq!(there.device, (*major, *minor));
            }
            EntryNode::File(file) => {
                assert_eq!(set.mode, wanted.mode, "{}", entry.path);
                if let Some(group) = file.hard_link {
                    assert_eq!(*groups.entry(group).or_insert(there.inode), there.inode);
                }
            }
            EntryNode::Directory => assert_eq!(set.mode, wanted.mode, "{}", entry.path),
            EntryNode::Fifo => {}
        }
        if entry.file().is_some_and(|file| file.extents.is_none()) {
            let stored = world.content(number, &entry.path.to_string());
            assert!(target.content(&entry.path).unwrap() == stored, "{}", entry.path);
        }
    }
    assert_eq!(found.len(), count, "nothing else is there");
}

/// A tree with one of everything.
pub(crate) fn rich_source() -> MemorySource {
    let source = MemorySource::new("rich")
        .file("a/one", b"first name")
        .file("a/empty", b"")
        .file("a/twin", noise(3000, 1))
        .file("a/twin2", noise(3000, 1))
        .file("big", noise(5 << 20, 2))
        .file("c/deep/er/file", noise(70_000, 3))
        .directory("c/hollow")
        .symlink("c/link", "../a/one")
        .fifo("c/pipe")
        .device("c/tty", Kind::CharDevice, (5, 1))
        .device("c/disk", Kind::BlockDevice, (8, 2))
        .hard_link("c/again", "a/one")
        .hard_link("z/last", "a/one")
        .sparse_file("holes", 1 << 20, &[(8192, &[7; 4096]), (1 << 19, &[9; 5000])])
        .sparse_file("nothing but a hole", 1 << 16, &[])
        .xattr("a/twin", "user.colour", "blue");
    source.edit("a", |entry| entry.metadata.mode = 0o500);
    source.edit("a/twin", |entry| entry.metadata.mode = 0o400);
    source.edit("", |entry| entry.metadata.mtime = Timestamp::new(77, 5));
    source
}

pub(crate) fn backed_up(source: &MemorySource) -> World {
    let world = World::memory();
    assert_eq!(world.backup(source).unwrap().errors, []);
    world
}

/// Writes a file, with a time of the target's own.
pub(crate) fn put(target: &MemoryTarget, at: &str, bytes: &[u8]) {
    let mut writer = target.writer().unwrap();
    writer.remove(&path(at)).unwrap();
    writer.create_file(&path(at)).unwrap();
    writer.write_at(0, bytes).unwrap();
    writer.close_file().unwrap();
}

pub(crate) fn set_mtime(target: &MemoryTarget, at: &str, seconds: i64) {
    let metadata =
        Metadata { mode: 0o644, mtime: Timestamp::new(seconds, 0), ..Metadata::default() };
    target.writer().unwrap().set_metadata(&path(at), &metadata, Default::default()).unwrap();
}

/// Content that compresses, and so is cut into many chunks.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let lines: String = (0..length / 5).map(|n| format!("{:x}\n", n * 7919)).collect();
    lines.into_bytes()[..length].to_vec()
}

pub(crate) fn small_source() -> MemorySource {
    MemorySource::new("small")
        .file("a", b"alpha")
        .file("b", text(300_000))
        .file("f/c", b"gamma")
        .symlink("l", "a")
}

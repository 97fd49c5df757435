//! What a source shows that cannot be stored, or cannot be seen whole.

use super::source;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::limits::PIECE_BYTES;
use icecore::base::limits::XATTRS_MAX;
use icecore::base::metadata::Detection;
use icecore::base::metadata::Xattr;
use icecore::base::path::EntryPath;
use icecore::base::time::Clock;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::format::backup::Body;
use icecore::format::entry::Entry;
use icecore::format::entry::EntryNode;
use icecore::format::entry::TrackedEntry;
use icecore::format::range::Change;
use icecore::format::range::RangeRow;
use icecore::repository::layout;
use icecore::repository::ranges::MetadataWriter;
use icecore::repository::ranges::RangeWriter;
use icecore::repository::transaction::Transaction;
use icecore::source::memory::Failure;
use icecore::source::memory::MemorySource;

/// Gives an entry one attribute more than can be stored.
fn overload(source: &MemorySource, path: &str) {
    let xattr = |number| Xattr { name: format!("user.{number:05}").into(), value: Vec::new() };
    source.edit(path, |entry| entry.metadata.xattrs = (0..=XATTRS_MAX).map(xattr).collect());
}

/// Such a row was stored and could not be read again, nor any other of its range.
#[test]
fn more_attributes_than_can_be_stored_are_an_error_of_their_entry_alone() {
    let world = World::memory();
    let large = vec![7; PIECE_BYTES as usize + 1];
    let source = source().file("large", &large).file("n/x", b"in a new folder");
    for path in ["a", "large", "n"] {
        overload(&source, path);
    }

    let report = world.backup(&source).expect("a backup");

    let failed: Vec<String> =
        report.errors.iter().map(|e| e.path.as_ref().expect("a path").to_string()).collect();
    assert_eq!(failed, ["a", "large", "n"]);
    assert_eq!(world.paths(0), ["", "d", "d/b", "d/c", "n", "n/x"]);
    assert_eq!(world.content(0, "n/x"), b"in a new folder");
    for path in ["a", "large", "n"] {
        source.edit(path, |entry| entry.metadata.xattrs.truncate(1));
    }
    world.clock.advance(10);
    let next = world.backup(&source).expect("a backup");
    assert_eq!((next.errors.len(), next.counts.added, next.counts.modified), (0, 2, 1));
    assert_eq!(world.content(1, "large"), large);
}

/// Its length was cut to a piece, and its extents were not: nobody could read the row again.
#[test]
fn a_sparse_file_that_grew_since_the_scan_is_stored_as_far_as_a_piece_reaches() {
    let piece = PIECE_BYTES as usize;
    for (size, data) in [
        (3 * piece, vec![(5, b"one".as_slice()), (piece - 2, b"across"), (2 * piece, b"beyond")]),
        (2 * piece, vec![(piece + 1, b"beyond alone".as_slice())]),
    ] {
        let world = World::memory();
        let source = source().sparse_file("grows", size, &data);
        source.set_failure("grows", Some(Failure::GrewSinceScan));

        let report = world.backup(&source).expect("a backup");

        assert_eq!(report.errors.len(), 1);
        assert!(report.errors[0].message.contains("changed while it was read"), "{report:?}");
        let mut expected = vec![0; size];
        for (offset, bytes) in data {
            expected[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        assert!(world.content(0, "grows") == expected[..piece], "another content");
        assert_eq!(world.content(0, "d/b"), b"beta");
        source.set_failure("grows", None);
        world.clock.advance(10);
        world.backup(&source).expect("a backup");
        assert!(world.content(1, "grows") == expected, "another content");
    }
}

/// Its row was left out, and what was in it could not be restored without it.
#[test]
fn a_new_folder_that_cannot_be_opened_is_there_with_what_is_in_it() {
    let world = World::memory();
    world.backup(&source()).expect("a backup");
    let source = source().file("n/sub/x", b"new").failing("n", Failure::Unreadable);
    // What was a file is a folder now.
    source.remove("a");
    let source = source.file("a/y", b"below").failing("a", Failure::Unreadable);
    world.clock.advance(10);

    let report = world.backup(&source).expect("a backup");

    assert_eq!(report.errors.len(), 2);
    assert_eq!(world.paths(1), ["", "a", "a/y", "d", "d/b", "d/c", "n", "n/sub", "n/sub/x"]);
    assert_eq!(world.content(1, "a/y"), b"below");
    for path in ["a", "n"] {
        source.set_failure(path, None);
        source.edit(path, |entry| {
            let value = b"seen now".to_vec();
            entry.metadata.xattrs.push(Xattr { name: b"user.note".to_vec(), value });
        });
    }
    world.clock.advance(10);
    let next = world.backup(&source).expect("a backup");
    assert_eq!((next.errors.len(), next.counts.modified), (0, 2), "they are read after all");
}

#[test]
fn a_folder_that_vanishes_stays_for_what_is_kept_in_it() {
    let world = World::memory();
    let source = source();
    world.backup(&source).expect("a backup");
    source.edit("d", |entry| entry.metadata.mtime = entry.metadata.mtime.plus_seconds(1));
    source.set_failure("d", Some(Failure::Vanishes));
    let source = source.file("new/x", b"x").failing("new", Failure::Vanishes);
    world.clock.advance(10);

    let report = world.backup(&source).expect("a backup");

    assert!(report.errors.is_empty());
    assert_eq!(report.counts.deleted, 0);
    assert_eq!(world.paths(1), ["", "a", "d", "d/b", "d/c", "new", "new/x"]);
    let notes = world.progress.warnings();
    assert_eq!(notes.iter().filter(|note| note.contains("as it was listed")).count(), 2);
}

/// The time of the run that could not read it counted as the time at which it was seen.
#[test]
fn what_could_not_be_read_is_looked_at_again_whatever_its_times_say() {
    for forgets_caches in [false, true] {
        for (path, failure) in [("d", Failure::Unlisted), ("d/b", Failure::Unseen)] {
            let mut world = World::memory();
            let source = source();
            let now = world.clock.now();
            let put = |content: &[u8]| {
                source.put_file("d/b", content);
                source.edit("d/b", |entry| {
                    entry.metadata.mtime = now;
                    entry.detection.ctime = now;
                });
            };
            put(b"one");
            world.backup(&source).expect("a backup");
            put(b"two");
            source.set_failure(path, Some(failure));
            for number in 1..3 {
                world.clock.advance(1000);
                source.put_file("new", format!("{number}"));
                let report = world.backup(&source).expect("a backup");
                assert_eq!(report.errors.len(), 1);
                assert_eq!(world.content(number, "d/b"), b"one");
            }
            source.set_failure(path, None);
            world.clock.advance(1000);
            if forgets_caches {
                world.forget_caches();
            }

            let report = world.backup(&source).expect("a backup");

            assert_eq!(report.kind, BackupKind::Partial, "{path} {failure:?} {forgets_caches}");
            assert_eq!(world.content(3, "d/b"), b"two");
        }
    }
}

#[test]
fn what_could_hide_no_change_is_not_read_again_for_a_listing_that_failed() {
    let world = World::memory();
    let source = source();
    world.backup(&source).expect("a backup");
    source.set_failure("d", Some(Failure::Unlisted));
    world.clock.advance(1000);
    assert_eq!(world.backup(&source).expect("nothing to do").errors.len(), 1);
    source.set_failure("d", None);
    source.take_opened();
    world.clock.advance(1000);

    let report = world.backup(&source).expect("nothing to do");

    assert_eq!((report.kind, source.opened_count()), (BackupKind::Unchanged, 0));
}

/// A list of ranges told each first path whole: the header came to megabytes, and nobody could
/// read it.
#[test]
fn ranges_of_very_long_paths_are_listed_in_parts() {
    let world = World::memory();
    let dataset = world.repository.dataset_or_new(&world.name(), world.clock.now()).unwrap();
    let transaction = Transaction::begin(&dataset, world.clock.now()).unwrap();
    let mut metadata = MetadataWriter::new(&transaction).unwrap();
    let mut rows = RangeWriter::for_full_index();
    let folder = vec!["x".repeat(255); 254].join("/");
    for number in 0..6_000 {
        let path = EntryPath::new(format!("{folder}/{number:05}").as_bytes()).unwrap();
        let entry = Entry { path, metadata: Default::default(), node: EntryNode::Fifo };
        let tracked = TrackedEntry { entry, detection: Detection::default() };
        rows.push(&RangeRow::Put(Change::Present, tracked), &mut metadata).unwrap();
    }

    let body = rows.finish(&mut metadata).unwrap();

    assert!(matches!(&body, Body::Lists(lists) if lists.len() > 5), "{body:?}");
}

/// Files as a server tells of them: path, size and time alone.
fn without_marks(name: &str, content: &[u8]) -> MemorySource {
    let source = MemorySource::new(name);
    for number in 0..6 {
        let path = format!("{number}");
        let more = noise(2_000_000, number);
        source.put_file(&path, [content, &more].concat());
        source.edit(&path, |entry| entry.detection = Detection::default());
    }
    source
}

fn assert_is(world: &World, number: u64, content: &[u8]) {
    for path in 0..6 {
        let stored = world.content(number, &path.to_string());
        assert!(stored.starts_with(content), "{path} of {number} is of the other place");
    }
}

#[test]
fn what_looks_alike_in_two_places_is_told_apart() {
    let (one, two) = (without_marks("web1", b"web1"), without_marks("web2", b"web2"));
    let mut world = World::memory();
    world.threads = 1;
    world.wrap_cancel_after(&one, 5);
    world.cancel_again();

    world.backup(&two).expect("a backup");

    assert_is(&world, 0, b"web2");
    world.clock.advance(10);
    let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
    world.backup_with(&one, &options).expect("a backup");
    assert_is(&world, 1, b"web1");
    world.clock.advance(10);
    one.take_opened();
    let report = world.backup_with(&one, &options).expect("nothing to do");
    assert_eq!((report.kind, one.opened_count()), (BackupKind::Unchanged, 0));
}

#[test]
fn a_newest_backup_that_nobody_can_read_is_told() {
    let world = World::memory();
    let source = source();
    world.backup(&source).expect("a backup");
    let id = world.repository.dataset(&world.name()).unwrap().id();
    let header = layout::header(&id, icecore::base::id::BackupId(0)).unwrap();
    world.backend.insert_raw(&header, b"noise".to_vec());
    world.clock.advance(10);

    world.backup(&source).expect("a backup");

    let warnings = world.progress.warnings();
    let told = |it: &String| it.contains("backup_0 of data cannot be read") && it.contains("check");
    assert!(warnings.iter().any(told), "{warnings:?}");
}

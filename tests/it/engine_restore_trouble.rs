//! Restoring while something is broken: nothing false is written, and all the rest comes back.

use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::assert_holds;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::put;
use crate::support::restored::restore;
use crate::support::restored::small_source;
use crate::support::restored::try_restore;
use crate::support::tree::noise;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::id::BlockId;
use icecore::base::id::LeaseId;
use icecore::base::metadata::Kind;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::codec::compress::Compressor;
use icecore::codec::frame::ObjectKind;
use icecore::engine::restore;
use icecore::engine::restore::Bounds;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::format::dataset::HiddenRecord;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::PackBuilder;
use icecore::format::pack_index::IndexedPack;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::repository::index::Location;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use icecore::target::MetadataRules;
use icecore::target::Target;
use icecore::target::files::FilesTarget;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

fn block_of(world: &World, number: u64, at: &str) -> BlockId {
    let tracked = world.snapshot(number).entry(&path(at)).unwrap().unwrap();
    let file = tracked.entry.file().unwrap().clone();
    world.repository.runs_of(&file).unwrap()[0].block
}

/// Changes a byte of a block in the pack it is in.
fn damage(world: &World, block: &BlockId) {
    for location in world.repository.locate_block(block).unwrap() {
        let key = layout::pack(&location.pack.pack).unwrap();
        let mut bytes = world.backend.objects()[&key].clone();
        bytes[location.row.offset as usize + 20] ^= 0x10;
        world.backend.insert_raw(&key, bytes);
    }
}

/// Two backups, so that there are two packs of content.
fn two_packs() -> (MemorySource, World) {
    let source = MemorySource::new("two").file("good/a", b"alpha").file("good/b", noise(9000, 5));
    let world = backed_up(&source);
    source.put_file("bad/a", noise(1000, 6));
    source.put_file("bad/b", noise(3 << 20, 7));
    source.put_file("mixed", [noise(9000, 5), noise(2000, 8)].concat());
    world.backup(&source).unwrap();
    (source, world)
}

#[test]
fn files_of_a_lost_pack_are_named_and_the_others_restored() {
    for bounds in [Bounds::default(), TINY] {
        let (_, mut world) = two_packs();
        let block = block_of(&world, 1, "bad/a");
        let pack = world.repository.locate_block(&block).unwrap()[0].pack.pack;
        world.backend.remove_raw(&layout::pack(&pack).unwrap());
        // The manifest of so small a backup is in its header, so that only content is lost.
        world.forget_caches();
        let target = MemoryTarget::new();

        let snapshot = world.snapshot(1);
        let context = world.context();
        let report = restore::run_bounded(&snapshot, &target, &options(), &context, bounds);

        let report = report.unwrap();
        let mut failed: Vec<_> =
            report.errors.iter().filter_map(|failure| failure.path.clone()).collect();
        failed.sort();
        assert_eq!(failed, [path("bad/a"), path("bad/b"), path("mixed")]);
        assert_eq!(report.errors.len(), 3);
        assert_eq!(report.files, 2);
        assert_eq!(target.content(&path("good/b")).unwrap(), noise(9000, 5));
        let files = target.entries().values().filter(|entry| entry.kind == Kind::File).count();
        assert_eq!(files, 2, "nothing stands in for what is lost");
    }
}

#[test]
fn a_bad_block_costs_only_the_files_in_it() {
    let (_, world) = two_packs();
    damage(&world, &block_of(&world, 0, "good/b"));
    let target = MemoryTarget::new();

    let report = try_restore(&world, 1, &target, &options()).unwrap();

    let failed: Vec<String> =
        report.errors.iter().map(|failure| failure.path.as_ref().unwrap().to_string()).collect();
    assert!(failed.contains(&"mixed".to_owned()) || failed.contains(&"good/b".to_owned()));
    assert_eq!(target.content(&path("bad/b")).unwrap(), noise(3 << 20, 7));
    for (at, entry) in target.entries() {
        if entry.kind == Kind::File {
            let whole = world_content(&at);
            assert!(target.content(&at).unwrap() == whole, "{at} is not what it was");
        }
    }
}

/// What [`two_packs`] has at a path.
fn world_content(at: &EntryPath) -> Vec<u8> {
    match at.as_bytes() {
        b"good/a" => b"alpha".to_vec(),
        b"good/b" => noise(9000, 5),
        b"bad/a" => noise(1000, 6),
        b"bad/b" => noise(3 << 20, 7),
        b"mixed" => [noise(9000, 5), noise(2000, 8)].concat(),
        _ => panic!("{at} was never there"),
    }
}

#[test]
fn a_further_name_of_a_lost_file_is_a_failure_too() {
    let source = MemorySource::new("links").file("a", noise(500, 9)).hard_link("b", "a");
    let world = backed_up(&source);
    damage(&world, &block_of(&world, 0, "a"));
    for bounds in [Bounds::default(), TINY, Bounds { window_rows: 1, ..TINY }] {
        let target = MemoryTarget::new();

        let snapshot = world.snapshot(0);
        let context = world.context();
        let report = restore::run_bounded(&snapshot, &target, &options(), &context, bounds);

        let report = report.unwrap();
        assert_eq!(report.errors.len(), 2, "{:?}", report.errors);
        assert_eq!(target.entries().len(), 1);
    }
}

#[test]
fn what_is_there_stays_until_its_successor_is_read() {
    let (_, world) = two_packs();
    damage(&world, &block_of(&world, 1, "bad/a"));
    for rule in [Overwrite::Always, Overwrite::IfChanged] {
        let target = MemoryTarget::new();
        target.prepare().unwrap();
        target.writer().unwrap().create_directory(&path("bad")).unwrap();
        put(&target, "bad/a", b"the only copy");

        let report = try_restore(&world, 1, &target, &overwriting(rule)).unwrap();

        assert!(!report.errors.is_empty());
        assert_eq!(target.content(&path("bad/a")).unwrap(), b"the only copy");
    }
}

/// Restores over a file of which the last block is lost, and returns what is told of it.
fn overwritten_in_part(target: &dyn Target) -> String {
    let (_, world) = two_packs();
    let tracked = world.snapshot(1).entry(&path("bad/b")).unwrap().unwrap();
    let runs = world.repository.runs_of(tracked.entry.file().unwrap()).unwrap();
    assert!(runs.len() > 1 && runs[0].block != runs[runs.len() - 1].block);
    damage(&world, &runs[runs.len() - 1].block);
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    writer.create_directory(&path("bad")).unwrap();
    writer.create_file(&path("bad/b")).unwrap();
    writer.write_at(0, b"the only copy").unwrap();
    writer.finish_file(&Metadata::default(), MetadataRules { owner: false }).unwrap();
    drop(writer);
    target.finish().unwrap();
    let rule = RestoreOptions { verify: true, ..overwriting(Overwrite::IfChanged) };

    let report = try_restore(&world, 1, target, &rule).unwrap();

    let told = report.errors.iter().find(|failure| failure.path == Some(path("bad/b")));
    told.unwrap_or_else(|| panic!("{:?}", report.errors)).message.clone()
}

#[test]
fn a_file_that_was_changed_in_part_says_so_and_on_a_server_it_is_as_it_was() {
    let target = MemoryTarget::new();
    let message = overwritten_in_part(&target);
    assert!(message.contains("it now holds some of the backup"), "{message}");
    assert_ne!(target.content(&path("bad/b")).unwrap(), b"the only copy");

    for ways in [FTP, SFTP] {
        let folder = Folder::new();
        let server = Server::new(folder.path(), ways);
        let door = Arc::new(Door(Arc::clone(&server)));
        let pool = Pool::new(door, Arc::new(SystemClock), PoolOptions::default());
        let scratch = Folder::new();
        let place = scratch.path().to_owned();
        let target = FilesTarget::new(pool, b"", "fake://server".to_owned(), place);
        let message = overwritten_in_part(&target);
        assert!(!message.contains("now holds"), "{message}");
        assert_eq!(std::fs::read(folder.path().join("bad/b")).unwrap(), b"the only copy");
    }
}

/// Puts one more copy of a block into a pack of its own.
fn copy_block(world: &World, id: &BlockId) {
    let repository = &world.repository;
    let location = repository.locate_block(id).unwrap().remove(0);
    let block = repository.read_copy(&location).unwrap();
    let mut stored = Vec::new();
    Compressor::new(3).unwrap().compress(&block.plain, &mut stored).unwrap();
    let table = (*block.table).clone();
    let mut builder = PackBuilder::new(&repository.id(), None, Vec::new()).unwrap();
    builder.add(&EncodedBlock { id: *id, table, stored, class: 0 }).unwrap();
    let pack = builder.finish().unwrap();
    let store = repository.store();
    store.backend().put(&layout::pack(&pack.id).unwrap(), &pack.bytes).unwrap();
    let size = pack.bytes.len() as u64;
    let indexed = IndexedPack { pack: pack.id, size, salt: pack.salt };
    let rows: Vec<_> = pack.rows.iter().map(|row| (0, row)).collect();
    let lease = LeaseId::new([9; 16]);
    repository.index().put(store, repository.cache(), lease, &[indexed], &rows).unwrap();
}

#[test]
fn a_second_copy_is_used_when_the_first_is_bad() {
    let (_, world) = two_packs();
    let block = block_of(&world, 1, "bad/a");
    copy_block(&world, &block);
    let locations = world.repository.locate_block(&block).unwrap();
    assert_eq!(locations.len(), 2);
    for bad in locations {
        let key = layout::pack(&bad.pack.pack).unwrap();
        let whole = world.backend.objects()[&key].clone();
        let mut bytes = whole.clone();
        bytes[bad.row.offset as usize + 30] ^= 1;
        world.backend.insert_raw(&key, bytes);
        let target = MemoryTarget::new();

        restore(&world, 1, &target, &RestoreOptions { verify: true, ..options() });

        assert_holds(&world, 1, &target);
        world.backend.insert_raw(&key, whole);
    }
}

#[test]
fn a_bad_table_is_read_from_another_copy() {
    let (_, mut world) = two_packs();
    let block = block_of(&world, 1, "bad/a");
    copy_block(&world, &block);
    let first = world.repository.locate_block(&block).unwrap().remove(0);
    let key = layout::pack(&first.pack.pack).unwrap();
    let mut bytes = world.backend.objects()[&key].clone();
    bytes[first.row.table_offset as usize + 5] ^= 1;
    world.backend.insert_raw(&key, bytes);
    world.forget_caches();
    let target = MemoryTarget::new();

    restore(&world, 1, &target, &options());

    assert_holds(&world, 1, &target);
}

#[test]
fn a_full_target_stops_the_restore_and_leaves_no_stump() {
    let (_, world) = two_packs();
    for (room, bounds) in [(100_000, Bounds::default()), (2 << 20, TINY), (0, TINY)] {
        let target = MemoryTarget::new();
        target.set_bytes_max(Some(room));

        let snapshot = world.snapshot(1);
        let context = world.context();
        let error = restore::run_bounded(&snapshot, &target, &options(), &context, bounds);

        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Full, Origin::Target));
        for (at, entry) in target.entries() {
            if entry.kind == Kind::File {
                assert!(target.content(&at).unwrap() == world_content(&at), "{at} is a stump");
            }
        }
    }
}

#[test]
fn one_entry_that_is_denied_does_not_stop_the_others() {
    let world = backed_up(&small_source());
    for (at, lost) in [("a", 1), ("l", 1), ("f", 1)] {
        let target = MemoryTarget::new();
        target.prepare().unwrap();
        target.fail(&path(at), ErrorKind::Denied);

        let report = try_restore(&world, 0, &target, &options()).unwrap();

        assert_eq!(report.errors.len(), lost, "{:?}", report.errors);
        assert_eq!(report.errors[0].path, Some(path(at)));
        assert_eq!(report.files, 3);
    }
}

#[test]
fn a_cancelled_restore_leaves_no_stump() {
    let (_, world) = two_packs();
    world.cancel.cancel();
    let target = MemoryTarget::new();

    let error = try_restore(&world, 1, &target, &options()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(target.entries().values().all(|entry| entry.kind != Kind::File));
}

#[test]
fn when_the_backup_cannot_be_read_on_nothing_more_is_deleted() {
    let mut source = MemorySource::new("long");
    for n in 0..12_000 {
        source = source.file(format!("{:02}/{n:05}", n / 1000), n.to_string());
    }
    let mut world = backed_up(&source);
    let index = world.repository.index();
    let mut metadata = Vec::new();
    for id in index.ids() {
        let mut visit = |location: Location| {
            metadata.extend((location.row.class == 1).then_some(location.row));
            Ok(())
        };
        index.visit(&id, &mut visit).unwrap();
    }
    metadata.sort_by_key(|row| row.offset);
    assert!(metadata.len() > 2, "the entries are in several blocks");
    damage(&world, &metadata[metadata.len() / 2].block);
    world.forget_caches();
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    for extra in ["00", "extra"] {
        put(&target, extra, b"extra");
    }
    let rule = RestoreOptions { delete: true, ..overwriting(Overwrite::Always) };

    let error = try_restore(&world, 0, &target, &rule).unwrap_err();

    assert_eq!((error.kind(), error.origin()), (ErrorKind::Corrupt, Origin::Repository));
    assert_eq!(target.content(&path("extra")).unwrap(), b"extra");
    for (at, entry) in target.entries() {
        if entry.kind == Kind::File && at != path("extra") {
            let number: u32 = String::from_utf8_lossy(at.name()).parse().unwrap();
            assert_eq!(target.content(&at).unwrap(), number.to_string().into_bytes());
        }
    }
}

#[test]
fn a_backup_that_was_forgotten_is_not_restored() {
    let (_, world) = two_packs();
    let snapshot = world.snapshot(0);
    let dataset = snapshot.dataset().id();
    let folder = layout::thousand(&dataset, snapshot.number()).unwrap();
    let record = HiddenRecord { number: 0, written: Timestamp::new(0, 0) };
    let key = folder.object("0.hidden").unwrap();
    world.repository.store().put(ObjectKind::Hidden, &key, &record).unwrap();
    let target = MemoryTarget::new();

    let error = restore::run(&snapshot, &target, &options(), &world.context()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(target.entries().len(), 0);
}

//! What repair declared lost is stored anew by the next backup, as far as its source has it.

use crate::engine_check;
use crate::engine_check::flip;
use crate::engine_repair::DATA;
use crate::engine_repair::kinds;
use crate::engine_repair::run;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::id::BlockId;
use icecore::base::path::EntryPath;
use icecore::engine::backup::BackupKind;
use icecore::engine::check::Severity;
use icecore::engine::repair::ActionKind;
use icecore::engine::restore;
use icecore::format::backup::Body;
use icecore::format::entry::Content;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

fn pack_of(world: &World, block: &BlockId) -> ObjectKey {
    layout::pack(&world.repository.locate_block(block).unwrap()[0].pack.pack).unwrap()
}

fn first_block(world: &World, number: u64, at: &str) -> BlockId {
    let tracked = world.snapshot(number).entry(&path(at)).unwrap().unwrap();
    let file = tracked.entry.file().unwrap().clone();
    world.repository.runs_of(&file).unwrap()[0].block
}

/// Restores a backup; returns the paths that could not be.
fn failed(world: &World, number: u64) -> Vec<String> {
    let target = MemoryTarget::new();
    let snapshot = world.snapshot(number);
    let report = restore::run(&snapshot, &target, &Default::default(), &world.context()).unwrap();
    let paths = report.errors.iter().filter_map(|failure| failure.path.clone());
    let mut paths: Vec<String> = paths.map(|path| path.to_string()).collect();
    paths.sort();
    paths
}

fn assert_check_is_clean(world: &World) {
    let checked = engine_check::run(&world.repository, &engine_check::data());
    assert!(checked.is_ok(), "{:?}", checked.findings);
}

#[test]
fn the_next_backup_of_an_unchanged_source_is_whole_again() {
    for make in [World::memory, World::encrypted, World::class_b] {
        for is_gone in [true, false] {
            let mut world = make();
            let source = MemorySource::new("data").file("same", noise(50_000, 1));
            world.backup(&source).unwrap();
            world.clock.advance(100);
            // One blob where a single one is hurt; else several.
            let length = if is_gone { 300_000 } else { 30_000 };
            source.put_file("bad", noise(length, 2));
            world.backup(&source).unwrap();
            let newest = world.repository.dataset(&world.name()).unwrap().backups().unwrap();
            let newest = newest.last().unwrap().header.number.0;
            world.clock.advance(100);
            let key = pack_of(&world, &first_block(&world, newest, "bad"));
            if is_gone {
                world.backend.remove_raw(&key);
            } else {
                flip(&world.backend, &key, 500);
            }
            world.forget_caches();

            let report = run(&world.repository, &DATA);
            assert_eq!(report.unrepaired, []);
            let lost = report.lost.iter().find(|it| it.backup == format!("data@{newest}"));
            assert_eq!(lost.expect("lost").paths, ["bad"]);
            assert_check_is_clean(&world);
            let healed = world.backup(&source).unwrap();

            // The blobs of a file that fills blocks of its own make the very blocks that were
            // lost, so that nothing is otherwise and all backups are whole again.
            assert_eq!(healed.kind, BackupKind::Unchanged);
            assert_eq!(failed(&world, healed.backup.0), Vec::<String>::new());
            assert_eq!(world.content(healed.backup.0, "bad"), noise(length, 2));
            assert_eq!(failed(&world, newest), Vec::<String>::new());
            assert_check_is_clean(&world);
            let opened = source.opened_count();
            world.clock.advance(100);
            assert_eq!(world.backup(&source).unwrap().kind, BackupKind::Unchanged);
            assert_eq!(source.opened_count(), opened, "nothing is lost any more");
            let report = run(&world.repository, &DATA);
            assert!(report.is_whole(), "{report:?}");
            assert_eq!(kinds(&report).last(), Some(&ActionKind::Remove), "{report:?}");
            source.put_file("bad", noise(length, 3));
            world.clock.advance(100);
            world.backup(&source).unwrap();
        }
    }
}

#[test]
fn content_among_other_content_is_stored_anew_and_old_backups_say_what_they_miss() {
    let mut world = World::memory();
    let source = MemorySource::new("data").file("first", noise(50_000, 99));
    world.backup(&source).unwrap();
    world.clock.advance(100);
    for n in 0..40 {
        source.put_file(format!("f{n:02}"), noise(3_000, n));
    }
    world.backup(&source).unwrap();
    world.clock.advance(100);
    source.remove("f00");
    source.put_file("f01", b"other");
    world.backup(&source).unwrap();
    world.clock.advance(100);
    let key = pack_of(&world, &first_block(&world, 1, "f02"));
    world.backend.remove_raw(&key);
    world.forget_caches();

    let report = run(&world.repository, &DATA);
    assert_eq!(report.unrepaired, []);
    assert_check_is_clean(&world);
    let healed = world.backup(&source).unwrap();

    assert_eq!((healed.backup.0, healed.counts.modified), (3, 38));
    assert_eq!(failed(&world, 3), Vec::<String>::new());
    let missed = failed(&world, 1);
    assert!(missed.contains(&"f00".to_owned()) && missed.len() == 40, "{missed:?}");
    assert_check_is_clean(&world);
    world.clock.advance(100);
    assert_eq!(world.backup(&source).unwrap().kind, BackupKind::Unchanged);
}

/// A file of very many runs, in lists of them: the same few pieces over and over.
fn listed() -> Vec<u8> {
    // What does not compress is cut into far larger chunks.
    let hex = |n: u64| noise(8_000, 100 + n).iter().map(|byte| format!("{byte:02x}")).collect();
    let pieces: Vec<String> = (0..8).map(hex).collect();
    let order = noise(1_100, 7);
    order.iter().flat_map(|n| pieces[usize::from(n % 8)].bytes()).collect()
}

#[test]
fn a_file_with_lists_of_runs_heals_when_content_or_lists_are_lost() {
    for loses_content in [true, false] {
        let mut world = World::memory();
        let source = MemorySource::new("data").file("listed", listed()).file("small", b"small");
        world.backup(&source).unwrap();
        world.clock.advance(100);
        let tracked = world.snapshot(0).entry(&path("listed")).unwrap().unwrap();
        let file = tracked.entry.file().unwrap().clone();
        let Content::Listed(lists) = &file.content else { panic!("too few runs for lists") };
        let runs = world.repository.runs_of(&file).unwrap();
        let block = if loses_content { runs[0].block } else { lists[0].block };
        assert_check_is_clean(&world);
        let location = world.repository.locate_block(&block).unwrap().remove(0);
        let key = layout::pack(&location.pack.pack).unwrap();
        flip(&world.backend, &key, (location.row.offset + location.row.length / 2) as usize);
        world.forget_caches();
        let found = engine_check::run(&world.repository, &engine_check::data());
        assert!(!found.is_ok());
        assert!(found.findings[0].paths.contains(&"listed".to_owned()), "{:?}", found.findings);

        let report = run(&world.repository, &DATA);
        assert!(kinds(&report).contains(&ActionKind::DeclareLost));
        assert_eq!(report.lost[0].paths, ["listed"]);
        assert_check_is_clean(&world);
        let healed = world.backup(&source).unwrap();

        let newest = healed.backup.0;
        assert_eq!(failed(&world, newest), Vec::<String>::new());
        assert_eq!(world.content(newest, "listed"), listed());
        // Another backup was made if the lost block came out otherwise.
        let expected: &[&str] = if newest == 0 { &[] } else { &["listed"] };
        assert_eq!(failed(&world, 0), expected);
        assert_check_is_clean(&world);
        world.clock.advance(100);
        assert_eq!(world.backup(&source).unwrap().kind, BackupKind::Unchanged);
    }
}

fn many() -> MemorySource {
    let source = MemorySource::new("data");
    for n in 0..3000 {
        source.put_file(format!("many/{n:05}"), format!("number {n}"));
    }
    source
}

/// Breaks the pack that holds the first range of backup 0.
fn break_ranges(world: &World, is_gone: bool) {
    let numbers = world.snapshot(0);
    let Body::Ranges(ranges) = &numbers.backup().header.body else { panic!("ranges") };
    let location = world.repository.locate_block(&ranges[0].range.block).unwrap().remove(0);
    let key = layout::pack(&location.pack.pack).unwrap();
    if is_gone {
        world.backend.remove_raw(&key);
    } else {
        flip(&world.backend, &key, location.row.offset as usize + 20);
    }
}

#[test]
fn without_readable_metadata_the_next_backup_is_full_and_whole() {
    for (is_gone, repairs, keeps_cache) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        let mut world = World::memory();
        let source = many();
        world.backup(&source).unwrap();
        world.clock.advance(100);
        source.put_file("many/00001", b"changed");
        world.backup(&source).unwrap();
        world.clock.advance(100);
        break_ranges(&world, is_gone);
        if !keeps_cache {
            world.forget_caches();
        }
        if repairs {
            let report = run(&world.repository, &DATA);
            assert_eq!(report.unrepaired, [], "{report:?}");
            let hurt: Vec<&String> = report.lost.iter().map(|loss| &loss.backup).collect();
            assert_eq!(hurt, ["data@0", "data@1"]);
        }

        let healed = world.backup(&source).unwrap();

        assert_eq!((healed.backup.0, healed.kind), (2, BackupKind::Full));
        assert_eq!(failed(&world, 2), Vec::<String>::new());
        assert_eq!(world.paths(2).len(), 3002);
        assert!(
            world.progress.warnings().iter().any(|it| it.contains("cannot be gone out from")),
            "{:?}",
            world.progress.warnings()
        );
        world.clock.advance(100);
        assert_eq!(world.backup(&source).unwrap().kind, BackupKind::Unchanged);
        if !repairs {
            run(&world.repository, &DATA);
        }
        assert_check_is_clean(&world);
        let checked = engine_check::run(&world.repository, &engine_check::structure());
        let notes = checked.findings.iter().filter(|it| it.severity == Severity::Note);
        assert!(notes.flat_map(|it| &it.backups).all(|it| it == "data@0" || it == "data@1"));
    }
}

#[test]
fn a_chain_with_a_lost_header_is_left_behind() {
    let mut world = World::memory();
    let source = many();
    world.backup(&source).unwrap();
    for n in 1..3 {
        world.clock.advance(100);
        source.put_file("many/00001", format!("changed {n}"));
        world.backup(&source).unwrap();
    }
    world.clock.advance(100);
    let id = world.repository.dataset(&world.name()).unwrap().id();
    let key = layout::header(&id, icecore::base::id::BackupId(1)).unwrap();
    world.backend.remove_raw(&key);
    world.forget_caches();
    assert!(world.backup(&source).is_err(), "a gap stops a writer");

    let report = run(&world.repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Void]);
    assert_eq!(report.unrepaired.len(), 1, "{report:?}");
    assert_eq!(report.unrepaired[0].backups, ["data@2"]);
    let healed = world.backup(&source).unwrap();
    assert_eq!((healed.backup.0, healed.kind), (3, BackupKind::Full));
    assert_eq!(failed(&world, 3), Vec::<String>::new());
    assert_eq!(failed(&world, 0), Vec::<String>::new());
}

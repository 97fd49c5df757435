//! Datasets whose numbers have just gone over into another folder of a thousand, where the first
//! of them are void, forgotten or retired: the newest backup is in the folder before.

use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::local::LocalBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup::BackupKind;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::format::dataset::VoidRecord;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

fn take_number(repository: &Repository, number: u64) {
    let dataset = repository.dataset(&"data".parse().unwrap()).unwrap();
    let key = layout::header(&dataset.id(), BackupId(number)).unwrap();
    let void = VoidRecord { number, reason: "test".into(), written: NOW };
    repository.store().put(ObjectKind::Void, &key, &void).unwrap();
}

/// Makes a backup in which `a` holds the number.
fn back_up(world: &World, source: &MemorySource, number: u64) -> BackupKind {
    source.put_file("a", format!("as of {number}"));
    world.clock.advance(60);
    let report = world.backup(source).expect("a backup");
    assert_eq!(report.backup, BackupId(number));
    report.kind
}

/// Fills a world with backups 0, 998 and 999; what is between is void.
fn fill(world: &World) -> MemorySource {
    let source = MemorySource::new("data");
    (0..20).for_each(|n| source.put_file(format!("kept/{n}"), b"kept"));
    back_up(world, &source, 0);
    (1..998).for_each(|number| take_number(&world.repository, number));
    back_up(world, &source, 998);
    back_up(world, &source, 999);
    source
}

/// Expects all that needs the newest backup to find 999, and the next one to be `next` upon it.
fn expect_goes_on(world: &World, source: &MemorySource, next: u64) {
    let dataset = world.repository.dataset(&world.name()).expect("a dataset");
    let found = address::resolve(&dataset, &Version::Latest(0)).expect("a backup");
    assert_eq!(found.backup.header.number, BackupId(999));
    let newest = dataset.newest_snapshot().expect("a snapshot").expect("one");
    assert_eq!(newest.number(), BackupId(999));

    assert_eq!(back_up(world, source, next), BackupKind::Partial);

    let snapshot = world.snapshot(next);
    assert_eq!(snapshot.backup().header.parent, Some(BackupId(999)));
    let target = MemoryTarget::new();
    let options = RestoreOptions::default();
    let report = restore::run(&snapshot, &target, &options, &world.context()).expect("a report");
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(world.content(next, "a"), format!("as of {next}").into_bytes());
    assert_eq!(world.content(next, "kept/7"), b"kept");
    // Nothing changed: that is said of the newest as well.
    let report = world.backup(source).expect("nothing to do");
    assert_eq!((report.kind, report.backup), (BackupKind::Unchanged, BackupId(next)));
    assert!(world.backend.objects().keys().all(|key| !key.as_str().starts_with("leases/")));
}

#[test]
fn a_backup_goes_on_where_the_first_number_of_a_thousand_is_void() {
    for world in [World::memory(), World::encrypted()] {
        let source = fill(&world);
        take_number(&world.repository, 1000);

        expect_goes_on(&world, &source, 1001);
    }
}

#[test]
fn a_backup_goes_on_where_the_first_number_of_a_thousand_is_forgotten() {
    for mut world in [World::memory(), World::class_b()] {
        let source = fill(&world);
        back_up(&world, &source, 1000);
        world.hide(1000);
        // Those of class B leave marks, which are no leases.
        world.drop_leases();
        world.forget_caches();
        if world.backend.capabilities().atomic_create {
            expect_goes_on(&world, &source, 1001);
        } else {
            assert_eq!(back_up(&world, &source, 1001), BackupKind::Partial);
            assert_eq!(world.snapshot(1001).backup().header.parent, Some(BackupId(999)));
        }
    }
}

#[test]
fn a_backup_goes_on_where_the_first_numbers_of_a_thousand_are_retired() {
    let world = World::memory();
    let source = fill(&world);
    (1000..1003).for_each(|number| _ = back_up(&world, &source, number));
    (1000..1003).for_each(|number| world.hide(number));
    let dataset = world.repository.dataset(&world.name()).expect("a dataset");
    let went = dataset.retire(&[BackupId(1000), BackupId(1001)], NOW).expect("goes");
    assert_eq!(went, 2);

    expect_goes_on(&world, &source, 1003);
}

#[test]
fn a_backup_goes_on_where_a_folder_of_a_thousand_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::memory();
    let backend = LocalBackend::create(&folder.path().join("repository")).unwrap();
    let cache = CachePlace::Kept(folder.path().join("cache"));
    world.repository =
        open::create(Arc::new(backend), &CreateOptions::default(), &cache, NOW).unwrap();
    let source = fill(&world);
    back_up(&world, &source, 1000);
    world.hide(1000);
    let dataset = world.repository.dataset(&world.name()).expect("a dataset");
    assert_eq!(dataset.retire(&[BackupId(1000)], NOW).expect("goes"), 1);
    let thousand = layout::thousand(&dataset.id(), BackupId(1000)).unwrap();
    let path = folder.path().join("repository").join(thousand.as_str());
    assert_eq!(std::fs::read_dir(path).expect("stays").count(), 0);

    expect_goes_on(&world, &source, 1001);
}

#[test]
fn a_backup_whose_number_is_always_taken_gives_up() {
    let mut world = World::memory();
    let source = MemorySource::new("data").file("a", b"alpha");
    world.backup(&source).expect("a backup");
    let (odd, beside) = (world.make_odd(), world.elsewhere());
    let mut next = 1;
    odd.between(move |operation, key| {
        if operation == Operation::Put && key.starts_with("leases/") {
            take_number(&beside.repository, next);
            next += 1;
        }
        true
    });
    source.put_file("a", b"changed");
    world.clock.advance(60);

    let error = world.backup(&source).expect_err("it never comes to its turn");

    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    odd.behave();
    assert!(world.backend.objects().keys().all(|key| !key.as_str().starts_with("leases/")));
    world.backup(&source).expect("a backup");
}

//! Prune beside other datasets, writers, readers and other prunes.

use crate::support::pruning::files;
use crate::support::pruning::full_backup;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::prune::PruneReport;
use icecore::format::lease::LeaseRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::repository::stock;
use icecore::repository::transaction::Transaction;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;

fn prune_with(world: &World, options: PruneOptions) -> icecore::base::error::Result<PruneReport> {
    prune::run(&world.repository, &options, &world.context())
}

fn prune_all(world: &World) -> PruneReport {
    prune_with(world, PruneOptions { max_unused: 0.0, ..PruneOptions::default() }).unwrap()
}

fn stored(world: &World, folder: &str) -> usize {
    let objects = world.backend.objects();
    objects.iter().filter(|(key, _)| key.as_str().starts_with(folder)).map(|(_, b)| b.len()).sum()
}

fn count(world: &World, folder: &str) -> usize {
    world.backend.objects().keys().filter(|key| key.as_str().starts_with(folder)).count()
}

fn assert_sound(world: &World) {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&world.repository, &options, &world.context()).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    world.sound_backups();
}

/// What the index objects say of the packs that are there: pack and offset to block and places.
fn rows(world: &World, repository: &Repository) -> BTreeMap<(PackId, u32), String> {
    repository.refresh_index().unwrap();
    let objects = world.backend.objects();
    let is_there = |pack: &PackId| {
        let name = pack.to_string();
        objects.keys().any(|key| key.as_str().ends_with(&name))
    };
    let view = repository.index().view();
    let rows = view.all_rows().filter(|(_, location)| is_there(&location.pack.pack));
    rows.map(|(_, location)| {
        ((location.pack.pack, location.row.offset), format!("{:?}", location.row))
    })
    .collect()
}

#[test]
fn what_another_dataset_shares_stays_when_one_lets_go() {
    for world in [World::memory(), World::class_b(), World::encrypted()] {
        let mut world = world;
        world.elsewhere().backup("other", &files(0..30), false);
        world.backup(&files(20..50)).unwrap();
        full_backup(&world, &files(45..60));
        world.hide(0);

        let report = prune_all(&world);

        assert!(report.bytes_deleted > 300_000, "{report:?}");
        world.forget_caches();
        assert_eq!(world.sound_backups(), 1);
        for n in 45..60 {
            assert_eq!(world.content(1, &format!("f{n}")), noise(20_000, n + 1));
        }
        assert_sound(&world);
        // What went comes back, on what stayed.
        let before = stored(&world, "packs/");
        world.backup(&files(0..60)).unwrap();
        let more = stored(&world, "packs/") - before;
        assert!((240_000..600_000).contains(&more), "of 60 files 15 are new: {more}");
        assert_sound(&world);
    }
}

#[test]
fn a_writer_at_work_stops_a_prune_and_the_next_one_goes_on() {
    for world in [World::memory(), World::class_b()] {
        full_backup(&world, &files(0..20));
        full_backup(&world, &files(10..20));
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let writer = Transaction::begin(&dataset, world.context().clock.now()).unwrap();
        world.hide(0);
        let before = count(&world, "packs/");

        for _ in 0..2 {
            let report = prune_all(&world);
            assert_eq!(report.waits_for.len(), 1, "{report:?}");
            assert_eq!(report.waits_for[0].lease, writer.lease_id());
            assert_eq!((report.packs_deleted, report.headers_retired), (0, 0));
            assert_eq!(count(&world, "packs/"), before);
        }
        writer.abandon();
        let report = prune_all(&world);

        assert!(report.waits_for.is_empty() && report.packs_deleted > 0, "{report:?}");
        assert_eq!(count(&world, "tombstones/"), 0);
        assert_sound(&world);
    }
}

#[test]
fn a_person_does_not_end_a_lease_that_lives_but_by_force() {
    for world in [World::memory(), World::class_b()] {
        full_backup(&world, &files(0..20));
        full_backup(&world, &files(10..20));
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let writer = Transaction::begin(&dataset, world.context().clock.now()).unwrap();
        world.hide(0);
        let ending = |lease: LeaseId, force| {
            let options = PruneOptions::default();
            prune_with(&world, PruneOptions { end_leases: vec![lease], force, ..options })
        };

        let error = ending(LeaseId::new([9; 16]), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = ending(writer.lease_id(), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
        assert_eq!(count(&world, "tombstones/"), 0);

        let report = ending(writer.lease_id(), true).unwrap();
        assert_eq!((report.leases_ended, report.waits_for.len()), (1, 0));
        assert!(report.packs_deleted > 0, "{report:?}");
        let header = world.snapshot(1).backup().header.clone();
        let header = icecore::format::backup::Header {
            number: BackupId(2),
            lease: writer.lease_id(),
            description: "ended".to_owned(),
            ..header
        };
        let committed = writer.commit(&header).unwrap();
        assert!(
            matches!(committed, icecore::repository::transaction::Committed::Lost),
            "{committed:?}"
        );
        full_backup(&world, &files(10..21));
        let shown = dataset.backups().unwrap();
        assert!(shown.iter().all(|backup| backup.header.description.is_empty()));
        assert_sound(&world);
    }
}

#[test]
fn a_readers_lease_keeps_what_is_forgotten_until_it_ends() {
    for world in [World::memory(), World::class_b()] {
        full_backup(&world, &files(0..20));
        full_backup(&world, &files(10..20));
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let now = world.context().clock.now();
        let lease = world.repository.read_lease(&dataset, BackupId(0), "restore", now).unwrap();
        let snapshot = world.snapshot(0);
        world.hide(0);
        assert!(world.repository.read_lease(&dataset, BackupId(0), "restore", now).is_err());

        let report = prune_all(&world);
        assert!(report.waits_for.is_empty(), "nobody waits for a reader: {report:?}");
        assert_eq!((report.packs_deleted, report.headers_retired), (0, 0), "{report:?}");
        for tracked in snapshot.entries() {
            let Some(file) = tracked.unwrap().entry.file().cloned() else { continue };
            for run in world.repository.runs_of(&file).unwrap() {
                world.repository.read_blob(&run.block, run.first).unwrap();
            }
        }

        lease.unwrap().give_back();
        let report = prune_all(&world);
        assert!(report.packs_deleted > 0 && report.headers_retired == 1, "{report:?}");
        assert_sound(&world);
    }
}

#[test]
fn most_of_a_repository_goes_only_by_force_or_by_forgetting() {
    let world = World::memory();
    full_backup(&world, &files(0..30));
    full_backup(&world, &files(29..30));
    let copy = world.backend.clone_state();
    world.hide(0);
    assert!(prune_all(&world).packs_deleted > 0, "what was forgotten explains it");
    assert_sound(&world);

    // The same loss without a marker: the store is back at an earlier state but for the packs.
    let mut world = World::memory();
    world.backend = Arc::new(copy);
    world.forget_caches();
    for key in world.backend.objects().into_keys() {
        if key.as_str().starts_with("datasets/") {
            world.backend.remove_raw(&key);
        }
    }
    let error = prune_with(&world, PruneOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(count(&world, "tombstones/"), 0);
    let forced = PruneOptions { force: true, ..PruneOptions::default() };
    assert!(prune_with(&world, forced).unwrap().packs_deleted > 0);
}

#[test]
fn small_packs_and_small_index_objects_are_merged_and_name_the_same() {
    let mut world = World::memory();
    let source = MemorySource::new("s");
    for n in 0..12_u64 {
        source.put_file(format!("f{n}"), noise(3_000, n + 1));
        world.backup(&source).unwrap();
    }
    let (packs, indexes) = (count(&world, "packs/"), count(&world, "index/"));

    let report = prune_with(&world, PruneOptions::default()).unwrap();

    assert!(report.packs_deleted >= 8 && report.indexes_replaced >= 8, "{report:?}");
    assert!(count(&world, "packs/") <= packs / 4, "{packs}");
    assert!(count(&world, "index/") <= indexes / 4, "{indexes}");
    world.forget_caches();
    assert_eq!(world.sound_backups(), 12);
    assert_sound(&world);
    assert_eq!(prune_with(&world, PruneOptions::default()).unwrap().packs_deleted, 0);
}

#[test]
fn merged_index_objects_hold_the_very_rows_that_the_small_ones_held() {
    let world = World::memory();
    let source = MemorySource::new("s");
    for n in 0..20_u64 {
        source.put_file(format!("f{n}"), noise(3_000, n + 1));
        world.backup(&source).unwrap();
    }
    let before = rows(&world, &world.elsewhere().repository);
    let going = world.elsewhere().repository;
    going.refresh_index().unwrap();
    let mut going: BTreeSet<_> = going.index().ids().into_iter().collect();
    let stays = going.pop_first().unwrap();
    assert!(going.len() > 15, "{}", going.len());

    let put = world.repository.hold_rows_elsewhere(&going, &going, &HashSet::new()).unwrap();
    for id in &going {
        stock::delete_index(world.repository.store(), id).unwrap();
    }

    assert_eq!(put.len(), 1);
    assert!(!going.contains(&put[0]) && put[0] != stays);
    assert_eq!(rows(&world, &world.elsewhere().repository), before);
    assert_eq!(world.sound_backups(), 20);
    assert_sound(&world);
}

/// Once every so many calls of a prune something else happens in between; nothing is lost, and
/// what was put meanwhile is not taken for garbage.
#[test]
fn a_backup_at_any_moment_of_a_prune_is_neither_lost_nor_moved() {
    for class_b in [false, true] {
        let mut at = 1;
        loop {
            let mut world = if class_b { World::class_b() } else { World::memory() };
            full_backup(&world, &files(0..10));
            full_backup(&world, &files(5..10));
            world.hide(0);
            let odd = world.make_odd();
            let elsewhere = world.elsewhere();
            let mut calls = 0;
            let ran = Arc::new(Mutex::new(false));
            let told = Arc::clone(&ran);
            odd.between(move |_, _| {
                calls += 1;
                if calls < at {
                    return true;
                }
                elsewhere.backup("data", &files(0..20), false);
                *told.lock().unwrap() = true;
                false
            });
            let report = prune_all(&world);
            odd.behave();
            assert!(report.stuck.is_empty(), "{at}: {report:?}");
            // Ten files of the new backup are its own, and 5 of the first are copied.
            assert!(report.bytes_written < 330_000, "{at}: {report:?}");
            world.forget_caches();
            prune_all(&world);
            assert_sound(&world);
            if !*ran.lock().unwrap() {
                assert!(at > 20, "{at}");
                break;
            }
            assert_eq!(world.sound_backups(), 2, "{at}");
            at += 3;
        }
    }
}

#[test]
fn two_prunes_at_once_lose_nothing_wherever_the_second_comes_in() {
    let mut at = 1;
    loop {
        let mut world = World::memory();
        full_backup(&world, &files(0..12));
        for n in 12..16 {
            full_backup(&world, &files(n - 6..n));
        }
        world.hide(0);
        world.hide(2);
        let odd = world.make_odd();
        let elsewhere = world.elsewhere();
        let (mut calls, second) = (0, Arc::new(Mutex::new(None)));
        let told = Arc::clone(&second);
        odd.between(move |operation, _| {
            calls += u64::from(operation.is_write());
            if calls < at {
                return true;
            }
            *told.lock().unwrap() = Some(elsewhere.prune());
            false
        });
        let report = prune_all(&world);
        odd.behave();
        let second = second.lock().unwrap().take();
        let stuck = second.iter().chain([&report]).any(|report| !report.stuck.is_empty());
        assert!(!stuck, "{at}: {report:?} {second:?}");
        world.forget_caches();
        assert_eq!(world.sound_backups(), 3, "{at}");
        prune_all(&world);
        assert_eq!(count(&world, "tombstones/"), 0, "{at}");
        assert_sound(&world);
        if second.is_none() {
            assert!(at > 8, "{at}");
            return;
        }
        at += 2;
    }
}

#[test]
fn a_prune_at_any_moment_of_a_backup_loses_nothing_of_it() {
    for class_b in [false, true] {
        let mut at = 1;
        loop {
            let mut world = if class_b { World::class_b() } else { World::memory() };
            full_backup(&world, &files(0..10));
            full_backup(&world, &files(5..10));
            let odd = world.make_odd();
            let elsewhere = world.elsewhere();
            let mut calls = 0;
            let ran = Arc::new(Mutex::new(false));
            let told = Arc::clone(&ran);
            odd.between(move |operation, key| {
                // The files 0 to 4 are in packs that the prune dooms.
                calls += u64::from(operation != Operation::GetRange && !key.is_empty());
                if calls < at {
                    return true;
                }
                elsewhere.hide(0);
                elsewhere.prune();
                *told.lock().unwrap() = true;
                false
            });
            world.backup(&files(0..10)).unwrap();
            odd.behave();
            world.forget_caches();
            assert!(world.sound_backups() >= 2, "{at}");
            let report = prune_all(&world);
            assert!(report.waits_for.is_empty(), "{report:?}");
            assert_sound(&world);
            if !*ran.lock().unwrap() {
                assert!(at > 20, "{at}");
                break;
            }
            at += 3;
        }
    }
}

#[test]
fn a_dead_writer_does_not_pin_what_it_leaned_on_when_nothing_else_goes() {
    for world in [World::memory(), World::class_b()] {
        full_backup(&world, &files(0..20));
        full_backup(&world, &files(10..30));
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let lease = LeaseId::new([0xab; 16]);
        let process = ProcessIdentity { boot: "another".to_owned(), ..ProcessIdentity::current() };
        let record = LeaseRecord {
            lease,
            dataset: dataset.id(),
            number: Some(BackupId(2)),
            parent: Some(BackupId(1)),
            process,
            taken: Timestamp::new(1, 0),
            purpose: "backup".to_owned(),
        };
        let key = layout::lease(&lease).unwrap();
        world.repository.store().put(ObjectKind::Lease, &key, &record).unwrap();
        world.hide(1);

        let report = prune_all(&world);

        assert_eq!((report.leases_ended, report.waits_for.len()), (1, 0), "{report:?}");
        assert!(report.bytes_deleted > 150_000, "{report:?}");
        assert_eq!(prune_all(&world).leases_ended, 0, "no lease is ended twice");
        assert_eq!(world.sound_backups(), 1);
    }
}

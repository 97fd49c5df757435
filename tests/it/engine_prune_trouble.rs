//! Prune beside sleepers and the dead, on a full disk, and interrupted: nothing that is needed
//! goes, nothing void comes back.

use crate::engine_repair::DATA;
use crate::engine_repair::run as repair;
use crate::support::pruning::assert_sound;
use crate::support::pruning::assert_undamaged;
use crate::support::pruning::full_backup;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::id::LeaseId;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::format::backup;
use icecore::format::lease::LeaseRecord;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

fn dead_process() -> ProcessIdentity {
    ProcessIdentity { boot: "another boot".to_owned(), ..ProcessIdentity::current() }
}

/// Puts the lease of a writer that is about to write a number on a parent.
fn put_lease(world: &World, process: ProcessIdentity, number: u64) -> LeaseId {
    let lease = LeaseId::new([0xab; 16]);
    let record = LeaseRecord {
        lease,
        dataset: world.repository.dataset(&world.name()).unwrap().id(),
        number: Some(BackupId(number)),
        parent: number.checked_sub(1).map(BackupId),
        process,
        taken: Timestamp::new(1, 0),
        purpose: "backup".to_owned(),
    };
    let key = layout::lease(&lease).unwrap();
    world.repository.store().put(ObjectKind::Lease, &key, &record).unwrap();
    lease
}

/// Class B: puts the header of a lease late, made after that of another backup.
fn put_late_header(world: &World, lease: LeaseId, number: u64, like: u64) {
    let mut header = world.snapshot(like).backup().header.clone();
    (header.lease, header.number) = (lease, BackupId(number));
    header.description = "late".to_owned();
    let key = layout::header_of_lease(&header.dataset, header.number, &lease).unwrap();
    let plain = backup::encode(&header).unwrap();
    let sealer = world.repository.store().sealer();
    let sealed = sealer.seal(ObjectKind::Backup, key.as_str(), &plain).unwrap();
    world.backend.insert_raw(&key, sealed);
}

fn descriptions(world: &World) -> BTreeMap<u64, String> {
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let backups = dataset.backups().unwrap();
    backups.iter().map(|b| (b.header.number.0, b.header.description.clone())).collect()
}

#[test]
fn without_an_atomic_create_a_dead_writer_is_ended_and_its_late_header_is_void() {
    let mut world = World::class_b();
    let source = MemorySource::new("s").file("a", noise(300_000, 1));
    world.backup(&source).unwrap();
    let lease = put_lease(&world, dead_process(), 1);
    let report = try_prune(&world, false).unwrap();
    assert_eq!(report.leases_ended, 1, "{report:?}");
    source.put_file("b", noise(50_000, 2));
    world.backup(&source).unwrap();
    world.hide(0);
    world.hide(1);
    source.remove("a");
    full_backup(&world, &source);

    let report = try_prune(&world, false).unwrap();

    assert_eq!(report.leases_ended, 0, "the writer after it has ended it: {report:?}");
    assert_eq!(report.headers_retired, 2, "a writer that is void holds no floor: {report:?}");
    put_late_header(&world, lease, 1, 2);
    world.forget_caches();
    assert_eq!(descriptions(&world), BTreeMap::from([(2, String::new())]));
    try_prune(&world, false).unwrap();
    world.forget_caches();
    assert_eq!(descriptions(&world), BTreeMap::from([(2, String::new())]));
    assert_eq!(keys(&world, "leases/").len(), 1, "what speaks of numbers below the floor goes");
}

#[test]
fn without_an_atomic_create_who_takes_a_dead_writers_number_ends_it_first() {
    // Two machines of one name, as containers often are: the other's boot is not this one's, and
    // it lives all the same.
    let mut world = World::class_b();
    let source = MemorySource::new("s").file("a", noise(30_000, 1));
    world.backup(&source).unwrap();
    let lease = put_lease(&world, dead_process(), 1);
    source.put_file("b", noise(5_000, 2));
    world.backup(&source).unwrap();

    let marks = keys(&world, &format!("leases/ab/{lease}."));
    assert!(marks.iter().any(|key| key.ends_with(".v")), "its commit sees that: {marks:?}");
    put_late_header(&world, lease, 1, 0);
    world.forget_caches();
    let expected = BTreeMap::from([(0, String::new()), (1, String::new())]);
    assert_eq!(descriptions(&world), expected);
    assert_eq!(world.content(1, "b"), noise(5_000, 2));
}

#[test]
fn a_person_does_not_end_a_lease_that_has_just_given_a_sign() {
    let world = World::memory();
    world.backup(&MemorySource::new("s").file("a", noise(30_000, 1))).unwrap();
    let elsewhere = ProcessIdentity { host: "elsewhere".to_owned(), ..dead_process() };
    let lease = put_lease(&world, elsewhere, 1);
    let options = PruneOptions { end_leases: vec![lease], ..PruneOptions::default() };
    let ending = || prune::run(&world.repository, &options, &world.context());

    assert_eq!(ending().unwrap_err().kind(), ErrorKind::Busy);
    // The clock of this store counts puts.
    for n in 0..200 {
        let key = icecore::backend::key::ObjectKey::new(format!("lost/x{n}")).unwrap();
        world.backend.insert_raw(&key, Vec::new());
        world.backend.remove_raw(&key);
    }
    assert_eq!(ending().unwrap().leases_ended, 1);
}

#[test]
fn without_an_atomic_create_a_void_writer_stays_void_where_its_number_remains() {
    let mut world = World::class_b();
    let source = MemorySource::new("s").file("a", noise(300_000, 1));
    world.backup(&source).unwrap();
    let lease = put_lease(&world, dead_process(), 1);
    source.put_file("b", noise(50_000, 2));
    try_prune(&world, false).unwrap();
    full_backup(&world, &source);
    source.put_file("b", noise(50_000, 3));
    full_backup(&world, &source);
    source.put_file("b", noise(50_000, 4));
    full_backup(&world, &source);
    world.hide(2);
    for _ in 0..2 {
        try_prune(&world, false).unwrap();
    }
    assert_eq!(keys(&world, "datasets/").iter().filter(|k| k.contains("floor-3")).count(), 1);

    put_late_header(&world, lease, 1, 3);
    world.forget_caches();

    let none = String::new();
    let expected = BTreeMap::from([(0, none.clone()), (1, none.clone()), (3, none)]);
    assert_eq!(descriptions(&world), expected);
    assert_eq!(world.sound_backups(), 3);
}

#[test]
fn a_writer_that_slept_while_its_number_was_retired_begins_again_before_it_reads() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("a", noise(30_000, 1));
    world.backup(&source).unwrap();
    let odd = world.make_odd();
    let elsewhere = world.elsewhere();
    let other = MemorySource::new("s").file("a", noise(30_000, 1));
    odd.between(move |operation, key| {
        let is_now = operation == Operation::Put && key.starts_with("leases/");
        if is_now {
            for n in 0..2 {
                other.put_file("x", noise(1000, 10 + n));
                elsewhere.backup("data", &other, true);
            }
            elsewhere.hide(1);
            assert_eq!(elsewhere.prune().headers_retired, 1);
        }
        !is_now
    });
    source.put_file("y", noise(1000, 20));
    let before = source.opened_count();

    let report = world.backup(&source).unwrap();

    assert_eq!(report.backup, BackupId(3));
    assert!(source.opened_count() <= before + 1, "{} opened", source.opened_count() - before);
    world.forget_caches();
    assert_eq!(world.sound_backups(), 3);
}

#[test]
fn a_backup_that_is_cancelled_before_its_commit_leaves_no_lease() {
    let mut world = World::memory();
    let odd = world.make_odd();
    let cancel = world.cancel.clone();
    odd.between(move |operation, key| {
        if operation == Operation::Put && key.starts_with("index/") {
            cancel.cancel();
        }
        true
    });

    let error = world.backup(&MemorySource::new("s").file("a", noise(30_000, 1))).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(keys(&world, "leases/"), [""; 0]);
}

#[test]
fn who_does_not_see_its_own_lease_listed_stops() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("a", noise(30_000, 1)).file("b", noise(30_000, 2));
    world.backup(&source).unwrap();
    full_backup(&world, &source);
    let odd = world.make_odd();
    odd.hide(|key| key.starts_with("leases/"));

    let error = try_prune(&world, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    source.put_file("c", b"c");
    let error = world.backup(&source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    odd.behave();
    world.backup(&source).unwrap();
}

/// The newest header is lost, and a writer that died had taken the number behind it.
#[test]
fn a_dead_writer_beyond_what_is_lost_stops_prunes_only_until_a_repair() {
    for make in [World::memory, World::encrypted, World::class_b] {
        let mut world = make();
        let source = MemorySource::new("s");
        for n in 0..3 {
            source.put_file("a", noise(30_000, 1 + n));
            full_backup(&world, &source);
        }
        put_lease(&world, dead_process(), 3);
        let header = keys(&world, "datasets/").into_iter().find(|key| key.contains("/0/2"));
        assert!(world.backend.remove_raw(&ObjectKey::new(header.unwrap()).unwrap()));
        world.forget_caches();

        let first = try_prune(&world, true);
        if let Err(error) = &first {
            assert!(error.full_message().contains("backup_2"), "{}", error.full_message());
        }
        let repaired = repair(&world.repository, &DATA);

        assert!(repaired.unrepaired.is_empty(), "{repaired:?}");
        world.hide(1);
        let report = try_prune(&world, true).unwrap();
        assert!(report.packs_deleted > 0 && report.waits_for.is_empty(), "{report:?}");
        assert_eq!(world.sound_backups(), 1);
        source.put_file("b", noise(5_000, 9));
        full_backup(&world, &source);
        assert_undamaged(&world);
    }
}

#[test]
fn on_a_full_disk_the_reserve_lets_a_prune_through_wherever_it_is_full() {
    for prefix in ["tombstones/", "datasets/", "packs/", "index/", ""] {
        let mut world = World::memory();
        let source = MemorySource::new("s");
        for n in 0..40_u64 {
            source.put_file(format!("f{n}"), noise(20_000, n + 1));
        }
        world.backup(&source).unwrap();
        for n in 0..20_u64 {
            source.remove(format!("f{n}"));
        }
        full_backup(&world, &source);
        world.hide(0);
        put_lease(&world, dead_process(), 2);
        let odd = world.make_odd();
        odd.fill_up(prefix);

        let report = try_prune(&world, false).unwrap();

        assert!(report.packs_deleted > 0 && report.headers_retired == 1, "{prefix}: {report:?}");
        odd.behave();
        world.forget_caches();
        assert_eq!(world.sound_backups(), 1, "{prefix}");
        assert_sound(&world);
    }
}

#[test]
fn a_prune_that_is_cancelled_at_any_write_loses_nothing() {
    let mut write = 0;
    loop {
        write += 1;
        let (mut world, _) = World::with_dead_files(20, 10);
        let odd = world.make_odd();
        let (cancel, writes) = (world.cancel.clone(), Arc::new(AtomicUsize::new(0)));
        odd.between(move |operation, _| {
            let count = writes.fetch_add(usize::from(operation.is_write()), Ordering::Relaxed);
            if operation.is_write() && count + 1 == write {
                cancel.cancel();
            }
            true
        });
        let pruned = try_prune(&world, false);
        odd.behave();
        world.cancel_again();
        world.forget_caches();
        assert_eq!(world.sound_backups(), 1, "cancelled at write {write}");
        let report = try_prune(&world, false).unwrap();
        assert!(report.stuck.is_empty(), "{report:?}");
        assert_eq!(keys(&world, "tombstones/"), [""; 0]);
        assert_sound(&world);
        if pruned.is_ok() && write > 12 {
            return;
        }
    }
}

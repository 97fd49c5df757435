//! A lease or a tombstone that somebody works under vanishes, as a power cut of a server does to
//! what it had not written yet, and a person who tidies up.

use crate::support::pruning::assert_sound;
use crate::support::pruning::assert_undamaged;
use crate::support::pruning::full_backup;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Durability;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// A world in which only a forgotten backup has `a`, and the source with both files.
fn with_forgotten(world: World) -> (World, MemorySource) {
    let source = MemorySource::new("s").file("a", noise(30_000, 1)).file("b", noise(30_000, 2));
    full_backup(&world, &source);
    source.remove("a");
    full_backup(&world, &source);
    world.hide(0);
    source.put_file("a", noise(30_000, 1));
    (world, source)
}

fn remove_all(backend: &MemoryBackend, folder: &str) {
    for key in backend.objects().into_keys().filter(|key| key.as_str().starts_with(folder)) {
        backend.remove_raw(&key);
    }
}

#[test]
fn a_backup_whose_lease_is_gone_begins_again() {
    for make in [World::memory, World::encrypted, World::class_b] {
        let (mut world, source) = with_forgotten(make());
        let (elsewhere, backend) = (world.elsewhere(), Arc::clone(&world.backend));
        let deleted = Arc::new(AtomicU64::new(0));
        let odd = world.make_odd();
        let count = Arc::clone(&deleted);
        odd.between(move |operation, key| {
            let is_now = operation == Operation::Put && key.starts_with("index/");
            if is_now {
                remove_all(&backend, "leases/");
                count.store(elsewhere.prune().packs_deleted, Ordering::Relaxed);
            }
            !is_now
        });
        source.put_file("c", noise(30_000, 3));

        let report = world.backup(&source).unwrap();

        assert!(deleted.load(Ordering::Relaxed) > 0, "the prune saw nobody");
        world.forget_caches();
        assert_eq!(world.content(report.backup.0, "a"), noise(30_000, 1));
        assert_eq!(world.content(report.backup.0, "c"), noise(30_000, 3));
        assert_eq!(world.sound_backups(), 2);
        assert_undamaged(&world);
    }
}

#[test]
fn a_prune_whose_tombstone_is_gone_deletes_nothing_that_it_named() {
    for make in [World::memory, World::encrypted, World::class_b] {
        let (mut world, source) = with_forgotten(make());
        let (elsewhere, backend) = (world.elsewhere(), Arc::clone(&world.backend));
        let odd = world.make_odd();
        let again = MemorySource::new("s").file("a", noise(30_000, 1)).file("b", noise(30_000, 2));
        odd.between(move |operation, key| {
            // What stays of a pack is copied, so that it can be deleted.
            let is_now = operation == Operation::Put && key.starts_with("packs/");
            if is_now {
                remove_all(&backend, "tombstones/");
                elsewhere.backup("data", &again, false);
            }
            !is_now
        });

        let report = try_prune(&world, true).unwrap();

        assert_eq!(keys(&world, "tombstones/"), [""; 0]);
        assert!(report.packs_deleted == 0 && !report.stuck.is_empty(), "{report:?}");
        assert_eq!(report.indexes_replaced, 0, "their rows may be held by what others doom");
        world.forget_caches();
        assert_eq!(world.content(2, "a"), noise(30_000, 1));
        assert_eq!(world.sound_backups(), 2);
        source.put_file("c", noise(30_000, 3));
        world.backup(&source).unwrap();
        let report = try_prune(&world, true).unwrap();
        assert!(report.stuck.is_empty(), "{report:?}");
        assert_sound(&world);
    }
}

/// Where nothing makes copies durable they get some time, and what they are of goes after it.
#[test]
fn where_a_power_cut_takes_copies_they_are_given_time_before_the_originals_go() {
    let wait = Duration::from_millis(400);
    for durability in [Durability::Nothing, Durability::Content] {
        let (mut world, _) = with_forgotten(World::memory());
        let odd = world.make_odd();
        odd.lose_power(durability);
        let at: Arc<Mutex<(Option<Instant>, Option<Instant>)>> = Arc::default();
        let seen = Arc::clone(&at);
        odd.between(move |operation, key| {
            let mut at = seen.lock().unwrap();
            match operation {
                Operation::Put if key.starts_with("index/") => at.0 = Some(Instant::now()),
                Operation::Delete if key.starts_with("packs/") => {
                    at.1.get_or_insert_with(Instant::now);
                }
                _ => {}
            }
            true
        });
        let options = PruneOptions {
            max_unused: 0.0,
            force: true,
            disk_wait: wait,
            ..PruneOptions::default()
        };

        let report = prune::run(&world.repository, &options, &world.context()).unwrap();

        assert!(report.packs_deleted > 0, "{report:?}");
        let (put, deleted) = *at.lock().unwrap();
        let has_waited = deleted.unwrap() - put.unwrap() >= wait;
        let warnings = world.progress.warnings();
        let has_told = warnings.iter().any(|warning| warning.contains("to write what was copied"));
        assert!(has_told == (durability == Durability::Nothing), "{warnings:?}");
        assert!(has_waited || durability == Durability::Content);
        assert_undamaged(&world);
    }
}

#[test]
fn a_prune_that_waits_for_a_disk_can_be_cancelled() {
    let (mut world, _) = with_forgotten(World::memory());
    let odd = world.make_odd();
    odd.lose_power(Durability::Nothing);
    let cancel = world.cancel.clone();
    odd.between(move |operation, key| {
        let is_last = operation == Operation::Put && key.starts_with("index/");
        if is_last {
            cancel.cancel();
        }
        !is_last
    });

    let error = try_prune(&world, true).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Cancelled);
    odd.lose_power(Durability::Whole);
    world.cancel_again();
    assert!(try_prune(&world, true).unwrap().packs_deleted > 0);
    assert_undamaged(&world);
}

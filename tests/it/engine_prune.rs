//! Prune: what is forgotten goes, what is visible stays, whatever happens in between.

use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::prune::PruneReport;
use icecore::source::memory::MemorySource;
use std::sync::Arc;

fn prune_all(world: &World) -> PruneReport {
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    prune::run(&world.repository, &options, &world.context()).unwrap()
}

fn stored(world: &World, folder: &str) -> usize {
    let objects = world.backend.objects();
    objects.iter().filter(|(key, _)| key.as_str().starts_with(folder)).map(|(_, b)| b.len()).sum()
}

fn assert_sound(world: &World) {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&world.repository, &options, &world.context()).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    world.sound_backups();
}

fn three_versions(world: &World) -> MemorySource {
    versions_with(world, 2_000_000)
}

/// Three versions; the middle one alone has a file of so many bytes.
fn versions_with(world: &World, bytes: usize) -> MemorySource {
    let source = MemorySource::new("s").file("a", noise(30_000, 1)).file("b", b"small");
    world.backup(&source).unwrap();
    source.put_file("large", noise(bytes, 2));
    world.backup(&source).unwrap();
    source.remove("large");
    source.put_file("c", noise(10_000, 3));
    world.backup(&source).unwrap();
    source
}

#[test]
fn what_only_forgotten_backups_had_is_freed() {
    for world in [World::memory(), World::encrypted(), World::class_b()] {
        three_versions(&world);
        let before = stored(&world, "packs/");
        let report = prune_all(&world);
        assert_eq!(report.packs_deleted, 0, "nothing is forgotten: {report:?}");

        world.hide(1);
        let report = prune_all(&world);

        assert!(report.packs_deleted > 0, "{report:?}");
        assert!(report.waits_for.is_empty() && report.stuck.is_empty(), "{report:?}");
        assert!(stored(&world, "packs/") < before - 1_900_000, "{before}, {report:?}");
        assert_eq!(world.sound_backups(), 2);
        assert_eq!(world.content(0, "a"), noise(30_000, 1));
        assert_eq!(world.content(2, "c"), noise(10_000, 3));
        let marks = world.backend.objects().into_keys().filter(|key| key.as_str().ends_with(".a"));
        let acknowledged: usize = marks.count();
        assert!(acknowledged == 0 || acknowledged == 3, "class B keeps who was acknowledged");
        assert_eq!(stored(&world, "tombstones/"), 0);
        assert_sound(&world);
    }
}

#[test]
fn a_shared_pack_is_copied_without_its_dead_blobs() {
    let (mut world, source) = World::with_dead_files(40, 30);
    let before = stored(&world, "packs/");

    let report = prune_all(&world);

    assert!(report.bytes_written > 0 && report.packs_deleted > 0, "{report:?}");
    assert!(stored(&world, "packs/") < before / 2, "{before}");
    assert_sound(&world);
    world.forget_caches();
    for n in 30..40 {
        assert_eq!(world.content(1, &format!("f{n}")), noise(20_000, n + 1));
    }
    source.put_file("f3", noise(20_000, 4));
    world.backup(&source).unwrap();
    assert_eq!(world.content(2, "f3"), noise(20_000, 4));
    assert_sound(&world);
}

/// Runs a prune on which `fault` comes down, and looks that nothing is lost by it nor by the next
/// prune. Says whether the prune was through.
fn survives(class_b: bool, fault: Fault) -> bool {
    let mut world = if class_b { World::class_b() } else { World::memory() };
    versions_with(&world, 50_000);
    world.hide(1);
    let mut faults = None;
    world.wrap(|inner| {
        let backend = Arc::new(FaultBackend::new(inner, Vec::new()));
        faults = Some(Arc::clone(&backend));
        backend
    });
    let faults = faults.unwrap();
    faults.set_faults(vec![fault.clone()]);
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    let pruned = prune::run(&world.repository, &options, &world.context());
    faults.set_faults(Vec::new());
    world.forget_caches();
    assert_eq!(world.sound_backups(), 2, "after {fault:?}");
    world.drop_leases();
    let report = prune_all(&world);
    assert!(report.stuck.is_empty(), "{report:?}");
    assert_eq!(world.sound_backups(), 2, "after {fault:?} and a prune");
    assert_eq!(stored(&world, "tombstones/"), 0, "after {fault:?}");
    assert_sound(&world);
    pruned.is_ok()
}

#[test]
fn a_prune_that_dies_at_any_call_loses_nothing_and_the_next_goes_on() {
    for class_b in [false, true] {
        let mut call = 1;
        while !survives(class_b, Fault::DeadFrom { call }) {
            call += 1 + u64::from(class_b);
        }
        assert!(call > 20, "{call}");
    }
}

#[test]
fn a_lost_reply_or_a_full_disk_at_any_call_loses_nothing() {
    for call in (1..150).step_by(3) {
        survives(false, Fault::LostReply { call });
        survives(false, Fault::Call { call, kind: ErrorKind::Io });
    }
    for write in (1..40).step_by(2) {
        survives(false, Fault::WritesFrom { write, kind: ErrorKind::Full });
    }
}

#[test]
fn the_header_of_a_forgotten_backup_goes_when_nothing_needs_it() {
    let mut world = World::memory();
    let source = three_versions(&world);
    world.hide(1);
    let report = prune_all(&world);
    assert_eq!(report.headers_retired, 0, "backup_2 is replayed over backup_1");
    source.put_file("d", noise(1000, 9));
    let full = icecore::engine::backup::BackupOptions { full: true, ..Default::default() };
    world.backup_with(&source, &full).unwrap();
    world.hide(0);
    world.hide(2);
    let report = prune_all(&world);
    assert_eq!(report.headers_retired, 3, "{report:?}");
    assert_eq!(world.sound_backups(), 1);
    world.forget_caches();
    source.put_file("d", noise(1000, 10));
    assert_eq!(world.backup(&source).unwrap().backup, BackupId(4), "no number comes twice");
    assert_sound(&world);
}

#[test]
fn a_dataset_that_is_gone_from_the_listing_stops_a_prune() {
    let world = World::memory();
    three_versions(&world);
    for key in world.backend.objects().into_keys() {
        if key.as_str().starts_with("datasets/") {
            world.backend.remove_raw(&key);
        }
    }
    let options = PruneOptions::default();
    let error = prune::run(&world.repository, &options, &world.context()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(stored(&world, "packs/") > 2_000_000);
}

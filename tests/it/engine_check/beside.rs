//! Check and repair beside who lets forgotten headers go.

use crate::engine_check::world::NOW;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::id::BackupId;
use icecore::codec::frame::ObjectKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Severity;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::VoidRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::Mutex;

fn full_backup(world: &World, content: &str) {
    let source = MemorySource::new("memory").file(content, content.as_bytes());
    let options = BackupOptions { full: true, ..BackupOptions::default() };
    world.backup_with(&source, &options).unwrap();
}

fn retire(repository: &Repository, numbers: &[u64]) {
    let numbers: Vec<BackupId> = numbers.iter().copied().map(BackupId).collect();
    repository.dataset(&"data".parse().unwrap()).unwrap().retire(&numbers, NOW).unwrap();
}

/// Backups of which the first went, the next ones are forgotten, and one number is void.
fn world() -> World {
    let world = World::memory();
    for content in ["one", "two", "three"] {
        full_backup(&world, content);
    }
    let id = world.repository.dataset(&world.name()).unwrap().id();
    let void = VoidRecord { number: 3, reason: "dead".into(), written: NOW };
    let key = layout::header(&id, BackupId(3)).unwrap();
    world.repository.store().put(ObjectKind::Void, &key, &void).unwrap();
    full_backup(&world, "four");
    full_backup(&world, "five");
    world.hide(0);
    retire(&world.repository, &[0]);
    [1, 2, 4].into_iter().for_each(|n| world.hide(n));
    world
}

/// Says whether a call puts a lease: what was listed before was looked at for it alone.
fn is_lease(seen: Operation, name: &str) -> bool {
    matches!(seen, Operation::Put | Operation::PutNew) && name.starts_with("leases/")
}

/// Lets everything go that is not shown as soon as `at` is asked for; a check or a repair must not
/// mind.
fn beside(at: &str, operation: Operation, is_repair: bool) {
    let mut world = world();
    let id = world.repository.dataset(&world.name()).unwrap().id();
    let at = format!("{}{at}", layout::dataset(&id).unwrap());
    let (odd, elsewhere) = (world.make_odd(), world.elsewhere());
    let went = Arc::new(Mutex::new(false));
    let done = Arc::clone(&went);
    let mut has_lease = false;
    odd.between(move |seen, name| {
        has_lease |= is_lease(seen, name);
        if !has_lease || seen != operation || name != at {
            return true;
        }
        retire(&elsewhere.repository, &[1, 2, 3, 4]);
        *done.lock().unwrap() = true;
        false
    });

    if is_repair {
        let plan = repair::plan(&world.repository, &RepairOptions::default(), &world.context());
        let plan = plan.unwrap();
        assert!(plan.actions.is_empty() && plan.unrepaired.is_empty(), "{plan:?}");
    } else {
        let options = CheckOptions::default();
        let report = check::run(&world.repository, &options, &world.context()).unwrap();
        assert!(report.is_ok(), "{:?}", report.findings);
    }

    assert!(*went.lock().unwrap(), "it was to go meanwhile");
}

#[test]
fn what_a_prune_retires_meanwhile_is_no_damage() {
    for is_repair in [false, true] {
        beside("/floor-1", Operation::Get, is_repair);
        beside("/0/3", Operation::Get, is_repair);
        beside("/0", Operation::List, is_repair);
    }
}

/// A prune died behind its floor; while the floor before is read, the next one takes it away.
#[test]
fn a_floor_that_goes_behind_a_higher_one_is_not_even_noted() {
    let mut world = world();
    let set = world.repository.dataset(&world.name()).unwrap();
    let (store, id) = (world.repository.store().clone(), set.id());
    let record = FloorRecord { floor: 2, remaining: vec![], written: NOW };
    store.put(ObjectKind::Floor, &layout::floor(&id, 2).unwrap(), &record).unwrap();
    assert!(world.backend.remove_raw(&layout::header(&id, BackupId(1)).unwrap()));
    assert!(world.backend.remove_raw(&layout::hidden(&id, BackupId(1)).unwrap()));
    let lower = layout::floor(&id, 1).unwrap();
    let (odd, backend) = (world.make_odd(), Arc::clone(&world.backend));
    let goes = lower.clone();
    let mut has_lease = false;
    odd.between(move |seen, name| {
        has_lease |= is_lease(seen, name);
        let is_it = has_lease && seen == Operation::Get && name == goes.as_str();
        !is_it || !backend.remove_raw(&goes)
    });

    let options = CheckOptions::default();
    let report = check::run(&world.repository, &options, &world.context()).unwrap();

    assert!(!world.backend.objects().contains_key(&lower), "it went meanwhile");
    let floors = report.findings.iter().filter(|found| found.object.contains("floor"));
    assert_eq!(floors.count(), 0, "{:?}", report.findings);
}

/// A prune is between its floor and the one before: both are there, the headers are gone.
#[test]
fn numbers_that_fall_below_a_new_floor_meanwhile_are_not_missed() {
    let mut world = world();
    let set = world.repository.dataset(&world.name()).unwrap();
    let id = set.id();
    let (odd, store) = (world.make_odd(), world.elsewhere().repository.store().clone());
    let folder = format!("{}/0", layout::dataset(&id).unwrap());
    let mut has_lease = false;
    odd.between(move |seen, name| {
        has_lease |= is_lease(seen, name);
        if !has_lease || seen != Operation::List || name != folder {
            return true;
        }
        let record = FloorRecord { floor: 3, remaining: vec![], written: NOW };
        store.put(ObjectKind::Floor, &layout::floor(&id, 3).unwrap(), &record).unwrap();
        for n in [1, 2].map(BackupId) {
            store.delete(&layout::header(&id, n).unwrap()).unwrap();
            store.delete(&layout::hidden(&id, n).unwrap()).unwrap();
        }
        false
    });

    let options = CheckOptions::default();
    let report = check::run(&world.repository, &options, &world.context()).unwrap();

    assert!(report.is_ok(), "{:?}", report.findings);
    // What is missing all the same is told.
    let key = layout::header(&id, BackupId(3)).unwrap();
    assert!(world.backend.remove_raw(&key));
    let report = check::run(&world.repository, &options, &world.context()).unwrap();
    let found = report.findings.iter().find(|finding| finding.object == key.as_str());
    assert_eq!(found.unwrap().severity, Severity::Damage);
}

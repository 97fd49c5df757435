//! Renaming: names come and go, the dataset stays, whoever dies or races in between.

use crate::engine_backup_trouble::wrap_faulty;
use crate::engine_forget::is_sound;
use crate::support::hooked::Hooked;
use crate::support::world::World;
use icecore::backend::wrap::fault::Fault;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::DatasetId;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::format::dataset::DatasetName;
use icecore::format::dataset::NameRecord;
use icecore::repository::rename::Renamed;
use icecore::source::memory::MemorySource;
use std::collections::BTreeSet;
use std::sync::Barrier;

const WORLDS: [fn() -> World; 3] = [World::memory, World::class_b, World::encrypted];
const NOW: Timestamp = Timestamp::new(1_900_000_000, 0);

fn source() -> MemorySource {
    MemorySource::new("data").file("a", b"alpha").file("d/b", b"beta")
}

fn name(text: &str) -> DatasetName {
    text.parse().unwrap()
}

/// A world with two backups of `data`.
fn two(make: fn() -> World) -> (World, MemorySource) {
    let (world, source) = (make(), source());
    world.backup(&source).unwrap();
    source.put_file("a", b"second");
    world.clock.advance(86_400);
    world.backup(&source).unwrap();
    world.clock.advance(86_400);
    (world, source)
}

fn rename(world: &World, old: &str, new: &str) -> Result<Renamed> {
    world.repository.rename(&name(old), &name(new), NOW)
}

fn id(world: &World, dataset: &str) -> DatasetId {
    world.repository.dataset(&name(dataset)).unwrap().id()
}

fn names(world: &World) -> Vec<String> {
    world.repository.datasets().unwrap().iter().map(|it| it.name().to_string()).collect()
}

fn count(world: &World, dataset: &str) -> usize {
    world.repository.dataset(&name(dataset)).unwrap().backups().unwrap().len()
}

fn back_up(world: &World, dataset: &str, source: &MemorySource) -> BackupReport {
    let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
    let context = world.context();
    backup::run(&world.repository, &name(dataset), source, &options, &context).unwrap()
}

#[test]
fn a_dataset_keeps_everything_but_its_name() {
    for make in WORLDS {
        let (mut world, source) = two(make);
        let before = id(&world, "data");
        source.take_opened();

        assert_eq!(rename(&world, "data", "pics").unwrap(), Renamed::Whole);

        assert_eq!((names(&world), id(&world, "pics")), (vec!["pics".to_owned()], before));
        let gone = world.repository.dataset(&name("data")).err().unwrap();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        // What this machine knows of it goes by the id: nothing is read again.
        assert_eq!(back_up(&world, "pics", &source).kind, BackupKind::Unchanged);
        assert_eq!(source.take_opened().len(), 0);
        source.put_file("a", b"third");
        world.clock.advance(10);
        assert_eq!(back_up(&world, "pics", &source).backup, BackupId(2));
        world.forget_caches();
        assert_eq!(count(&world, "pics"), 3);
        assert!(is_sound(&world));
        assert_eq!(rename(&world, "data", "pics").unwrap(), Renamed::Before, "asked again");
    }
}

#[test]
fn a_name_that_is_free_again_makes_another_dataset() {
    for make in WORLDS {
        let (world, source) = two(make);
        let mut ids = BTreeSet::from([id(&world, "data")]);
        rename(&world, "data", "pics").unwrap();

        assert_eq!(back_up(&world, "data", &source).backup, BackupId(0));

        assert!(ids.insert(id(&world, "data")));
        assert_eq!((count(&world, "data"), count(&world, "pics")), (1, 2));
        rename(&world, "data", "old").unwrap();
        rename(&world, "pics", "data").unwrap();
        assert_eq!(ids, BTreeSet::from([id(&world, "data"), id(&world, "old")]));
        back_up(&world, "pics", &source);
        assert!(ids.insert(id(&world, "pics")));
        rename(&world, "data", "new").unwrap();
        back_up(&world, "data", &source);
        assert!(ids.insert(id(&world, "data")));
        assert_eq!((count(&world, "new"), names(&world).len()), (2, 4));
        assert!(is_sound(&world));
    }
}

#[test]
fn what_cannot_be_renamed_stays() {
    let (world, source) = two(World::memory);
    back_up(&world, "other", &source);
    for (old, new, kind) in [
        ("data", "data", ErrorKind::InvalidInput),
        ("data", "other", ErrorKind::AlreadyExists),
        ("none", "new", ErrorKind::NotFound),
        ("none", "other", ErrorKind::NotFound),
    ] {
        let error = rename(&world, old, new).expect_err(new);
        assert_eq!(error.kind(), kind, "{old} {new}");
        assert!(error.hint_text().is_some(), "{old} {new}");
    }
    assert_eq!(names(&world), ["data", "other"]);
}

/// Breaks at each call in turn. Returns how often two names were left.
fn breaks_everywhere(make: fn() -> World, fault: fn(u64) -> Fault) -> u32 {
    let mut twins = 0;
    let (mut world, source) = two(make);
    let (objects, before) = (world.backend.objects(), id(&world, "data"));
    for call in 1.. {
        world.reset(&objects);
        let faulty = wrap_faulty(&mut world, fault(call));

        let result = rename(&world, "data", "pics");

        let calls = faulty.calls();
        world.forget_caches();
        let left = names(&world);
        assert!(!left.is_empty(), "call {call}");
        for name in &left {
            assert_eq!((id(&world, name), count(&world, name)), (before, 2), "call {call}");
        }
        assert!(result.is_err() || left == ["pics"], "call {call}");
        assert!(is_sound(&world), "call {call}");
        if left.len() == 2 {
            twins += 1;
            let error = rename(&world, "data", "third").expect_err("one at a time");
            assert_eq!(error.kind(), ErrorKind::Busy);
            // Both names work for a backup.
            source.put_file("a", format!("after call {call}"));
            world.clock.advance(10);
            assert_eq!(back_up(&world, &left[(call % 2) as usize], &source).backup, BackupId(2));
        }
        // Back and forth, so that either way out is tried.
        match call % 2 == 0 && left.len() == 2 {
            true => assert_eq!(rename(&world, "pics", "data").unwrap(), Renamed::Finished),
            false => assert!(rename(&world, "data", "pics").is_ok(), "call {call}"),
        }
        let last = names(&world);
        assert_eq!(last.len(), 1, "{last:?}");
        assert_eq!(id(&world, &last[0]), before);
        assert!(is_sound(&world));
        if call > calls {
            assert!(result.is_ok(), "{:?}", result.err());
            break;
        }
    }
    twins
}

#[test]
fn whatever_call_it_dies_at_the_dataset_has_a_name_and_once_more_finishes() {
    for make in WORLDS {
        let twins = breaks_everywhere(make, |call| Fault::DeadFrom { call });
        assert!(twins > 0, "no crash fell between the two steps");
        breaks_everywhere(make, |call| Fault::LostReply { call });
    }
}

#[test]
fn a_backup_that_runs_goes_on_and_tells_the_new_name() {
    for make in WORLDS {
        for under_lease in [false, true] {
            let (world, source) = two(make);
            source.put_file("a", b"third");
            let event = || {
                rename(&world, "data", "pics").expect("renames");
            };
            let hooked = match under_lease {
                true => Hooked::at_reader(&source, event),
                false => Hooked::at_scan(&source, event),
            };

            let report = world.backup(&hooked).expect("a backup");

            assert!(hooked.has_happened());
            assert_eq!((report.dataset, report.backup), (name("pics"), BackupId(2)));
            let warnings = world.progress.warnings();
            assert_eq!(warnings, ["data was renamed to pics while the backup ran"]);
            assert_eq!((names(&world), count(&world, "pics")), (vec!["pics".to_owned()], 3));
            assert!(is_sound(&world));
        }
    }
}

#[test]
fn of_two_renames_at_once_one_wins() {
    for round in 0..40 {
        let make = if round % 2 == 0 { World::memory } else { World::encrypted };
        let world = make();
        world.repository.dataset_or_new(&name("data"), NOW).unwrap();
        let before = id(&world, "data");

        let results: Vec<Result<Renamed>> = std::thread::scope(|scope| {
            // At two moments: two plain records of one moment are the same bytes, and so the same.
            let run = |new, at| {
                let world = &world;
                let now = Timestamp::new(1_800_000_000, at);
                scope.spawn(move || world.repository.rename(&name("data"), &name(new), now))
            };
            let running = [run("b", 1), run("c", 2)];
            running.map(|thread| thread.join().unwrap()).into()
        });

        let left = names(&world);
        assert_eq!(left.len(), 1, "{left:?} {results:?}");
        assert_eq!(id(&world, &left[0]), before);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    }
}

#[test]
fn opposite_renames_at_once_leave_a_name() {
    for round in 0..60 {
        let world = if round % 2 == 0 { World::memory() } else { World::class_b() };
        world.repository.dataset_or_new(&name("data"), NOW).unwrap();
        let before = id(&world, "data");
        let record = NameRecord { name: name("b"), dataset: Some(before), written: NOW };
        let key = world.repository.name_folder(&name("b")).unwrap().object("0").unwrap();
        world.repository.store().put(ObjectKind::Name, &key, &record).unwrap();
        let start = Barrier::new(2);

        std::thread::scope(|scope| {
            for (old, new) in [("data", "b"), ("b", "data")] {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    let _ = rename(world, old, new);
                });
            }
        });

        let left = names(&world);
        assert!(!left.is_empty(), "round {round}");
        assert!(left.iter().all(|name| id(&world, name) == before));
    }
}

#[test]
fn the_same_rename_twice_at_once_is_one() {
    for make in WORLDS {
        for _ in 0..20 {
            let world = make();
            world.repository.dataset_or_new(&name("data"), NOW).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| rename(&world, "data", "b").expect("renames"));
                }
            });
            assert_eq!(names(&world), ["b"]);
        }
    }
}

#[test]
fn a_rename_and_a_first_backup_of_that_name_are_told_apart() {
    for round in 0..40 {
        let (world, source) = (World::memory(), source());
        world.repository.dataset_or_new(&name("data"), NOW).unwrap();
        let before = id(&world, "data");

        let renamed = std::thread::scope(|scope| {
            let renaming = scope.spawn(|| rename(&world, "data", "b"));
            back_up(&world, "b", &source);
            renaming.join().unwrap()
        });

        assert_eq!(count(&world, "b"), 1, "round {round}");
        match renamed {
            Ok(_) => assert_eq!((id(&world, "b"), names(&world).len()), (before, 1)),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e:?}");
                assert_eq!((id(&world, "data"), names(&world).len()), (before, 2));
            }
        }
    }
}

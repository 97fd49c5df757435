//! Forgetting: what goes and what stays, beside others, and when the machine dies in between.

use crate::engine_backup_trouble::wrap_faulty;
use crate::support::hooked::Hooked;
use crate::support::world::World;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::record::RecordBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::time::Clock;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::forget;
use icecore::engine::forget::Plan;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::retention::Rules;
use icecore::format::dataset::VoidRecord;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::sync::Arc;

const WORLDS: [fn() -> World; 3] = [World::memory, World::class_b, World::encrypted];

fn source() -> MemorySource {
    let source = MemorySource::new("data").file("a", b"alpha").file("d/b", b"beta");
    // Enough of them that the next backups need not be full ones.
    (0..20).for_each(|n| source.put_file(format!("kept/{n}"), b"kept"));
    source
}

/// Makes so many backups, a day apart; `a` holds the number of the backup.
fn back_up(world: &World, source: &MemorySource, count: u64) {
    for n in 0..count {
        source.put_file("a", format!("version {n}"));
        world.clock.advance(86_400);
        let options = BackupOptions { tags: vec![format!("t{n}")], ..BackupOptions::default() };
        assert_eq!(world.backup_with(source, &options).expect("a backup").backup, BackupId(n));
    }
}

fn utc(_: Timestamp) -> i32 {
    0
}

fn keep_last(number: &str) -> Selection {
    Selection::Unless(Rules { last: number.parse().ok(), ..Rules::default() })
}

fn numbers(list: &[u64]) -> Selection {
    Selection::Numbers(list.iter().copied().map(BackupId).collect())
}

fn plan(world: &World, selection: &Selection) -> icecore::base::error::Result<Plan> {
    let dataset = world.repository.dataset(&world.name())?;
    forget::plan(&dataset, selection, &utc, &world.context())
}

fn forget(world: &World, selection: &Selection) -> icecore::base::error::Result<Plan> {
    let plan = plan(world, selection)?;
    forget::execute(&plan, &world.context())?;
    Ok(plan)
}

pub(crate) fn visible(world: &World) -> Vec<u64> {
    let Ok(dataset) = world.repository.dataset(&world.name()) else { return Vec::new() };
    dataset.backups().unwrap().iter().map(|backup| backup.header.number.0).collect()
}

pub(crate) fn is_sound(world: &World) -> bool {
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    check::run(&world.repository, &options, &world.context()).expect("a report").is_ok()
}

fn hidden_count(world: &World) -> usize {
    world.backend.objects().keys().filter(|key| key.as_str().ends_with(".hidden")).count()
}

#[test]
fn what_is_forgotten_is_gone_from_everywhere_and_the_rest_stays_whole() {
    for make in WORLDS {
        let mut world = make();
        let source = source();
        back_up(&world, &source, 5);

        let plan = forget(&world, &numbers(&[0, 2, 4])).expect("forgets");

        assert_eq!(plan.forgotten().map(|it| it.number.0).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(plan.kept().map(|it| it.number.0).collect::<Vec<_>>(), [1, 3]);
        world.forget_caches();
        assert_eq!(visible(&world), [1, 3]);
        assert_eq!(world.content(3, "a"), b"version 3");
        assert_eq!(world.sound_backups(), 2);
        let summary = &list::datasets(&world.repository).unwrap()[0];
        assert_eq!((summary.backups, summary.latest), (2, Some(BackupId(3))));
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let resolve =
            |version| address::resolve(&dataset, &version).map(|it| it.backup.header.number.0);
        assert_eq!(resolve(Version::Latest(0)).unwrap(), 3);
        assert_eq!(resolve(Version::Latest(1)).unwrap(), 1);
        assert_eq!(resolve(Version::At(world.clock.now())).unwrap(), 3);
        let forgotten = resolve(Version::Number(BackupId(2))).expect_err("forgotten").to_string();
        assert!(forgotten.contains("was forgotten"), "{forgotten}");
        let never = resolve(Version::Number(BackupId(9))).expect_err("never was").to_string();
        assert!(!never.contains("was forgotten"), "{never}");
        // Retention does not see them either, and the next backup is made on what is left.
        assert_eq!(self::plan(&world, &keep_last("2")).unwrap().forgotten().count(), 0);
        source.put_file("new", b"new");
        world.clock.advance(10);
        let next = world.backup(&source).expect("a backup");
        assert_eq!((next.backup, next.counts.modified), (BackupId(5), 1), "numbers are burnt");
        assert_eq!(world.snapshot(5).backup().header.parent, Some(BackupId(3)));
        assert_eq!(world.content(5, "a"), b"version 4");
        assert!(is_sound(&world));
    }
}

#[test]
fn markers_are_all_that_is_written() {
    for make in WORLDS {
        let mut world = make();
        back_up(&world, &source(), 3);
        let recorder = Arc::new(RecordBackend::new(Arc::clone(&world.backend) as _));
        let shared = Arc::clone(&recorder);
        world.wrap(|_| shared);

        plan(&world, &keep_last("1")).expect("a plan");
        assert_eq!(recorder.written_keys(), [""; 0], "a plan changes nothing");
        forget(&world, &keep_last("1")).expect("forgets");

        let keys = recorder.written_keys();
        let names: Vec<&str> = keys.iter().filter_map(|key| key.rsplit('/').next()).collect();
        assert_eq!(names, ["0.hidden", "1.hidden"]);
    }
}

#[test]
fn rules_keep_with_reasons_and_go_by_the_tags_of_today() {
    let world = World::memory();
    back_up(&world, &source(), 4);
    let rules = Rules {
        last: "1".parse().ok(),
        tags: vec!["t1".to_owned(), "none".to_owned()],
        ..Rules::default()
    };

    let plan = forget(&world, &Selection::Unless(rules)).expect("forgets");

    let reasons: Vec<String> = plan.verdicts().iter().map(|it| it.reasons.join(", ")).collect();
    assert_eq!(reasons, ["", "tag t1", "", "newest, last (1 of 1)"]);
    assert_eq!(visible(&world), [1, 3]);
}

#[test]
fn what_would_leave_nothing_is_refused() {
    let world = World::memory();
    back_up(&world, &source(), 3);
    let only_tag = |tag: &str| Rules { tags: vec![tag.to_owned()], ..Rules::default() };
    for selection in
        [Selection::Unless(Rules::default()), Selection::Unless(only_tag("x")), numbers(&[0, 1, 2])]
    {
        let error = forget(&world, &selection).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{selection:?}");
        assert!(error.hint_text().is_some(), "{selection:?}");
        assert_eq!(hidden_count(&world), 0, "{selection:?}");
    }
    forget(&world, &numbers(&[0, 1])).expect("one is left");
    let error = forget(&world, &numbers(&[2])).err().expect("the last one");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(visible(&world), [2]);
}

#[test]
fn numbers_that_are_not_there_are_named_and_nothing_is_done() {
    let world = World::memory();
    let source = source();
    back_up(&world, &source, 2);
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let void = VoidRecord { number: 2, reason: "test".into(), written: Timestamp::default() };
    let key = layout::header(&dataset.id(), BackupId(2)).unwrap();
    world.repository.store().put(ObjectKind::Void, &key, &void).unwrap();
    source.put_file("a", b"on");
    world.clock.advance(10);
    assert_eq!(world.backup(&source).unwrap().backup, BackupId(3));
    forget(&world, &numbers(&[1])).unwrap();

    let error = forget(&world, &numbers(&[0, 1, 2, 7])).err().expect("refused");

    assert_eq!(error.kind(), ErrorKind::NotFound);
    let message = error.to_string();
    for words in ["backup_1 was forgotten before", "backup_2 is no backup", "there is no backup_7"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert!(!message.contains("backup_0"), "{message}");
    assert_eq!((visible(&world), hidden_count(&world)), (vec![0, 3], 1));
}

#[test]
fn with_a_damaged_header_rules_decide_nothing() {
    let mut world = World::memory();
    back_up(&world, &source(), 3);
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let key = layout::header(&dataset.id(), BackupId(1)).unwrap();
    let mut bytes = world.backend.objects()[&key].clone();
    bytes[20] ^= 1;
    world.backend.insert_raw(&key, bytes);
    world.forget_caches();

    let error = forget(&world, &keep_last("1")).err().expect("refused");

    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(hidden_count(&world), 0);
}

#[test]
fn a_dataset_without_backups_has_nothing_to_forget() {
    let world = World::memory();
    world.repository.dataset_or_new(&world.name(), Timestamp::default()).unwrap();

    assert!(forget(&world, &keep_last("3")).expect("nothing").verdicts().is_empty());
    let error = forget(&world, &numbers(&[0])).err().expect("not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn two_forgets_at_once_do_not_mind_each_other() {
    for make in WORLDS {
        let mut world = make();
        back_up(&world, &source(), 6);
        let before = world.backend.objects();
        for _ in 0..6 {
            world.reset(&before);
            let plans: Vec<Plan> =
                ["1", "1", "3"].map(|n| plan(&world, &keep_last(n)).unwrap()).into();
            std::thread::scope(|scope| {
                for plan in &plans {
                    let world = &world;
                    scope.spawn(move || forget::execute(plan, &world.context()).expect("forgets"));
                }
            });
            assert_eq!(visible(&world), [5]);
            assert!(is_sound(&world));
        }
    }
}

/// Breaks at each call in turn: what was to be kept always is, and once more does the rest.
fn breaks_everywhere(make: fn() -> World, fault: fn(u64) -> Fault) {
    let mut world = make();
    back_up(&world, &source(), 4);
    let before = world.backend.objects();
    for call in 1.. {
        world.reset(&before);
        let faulty = wrap_faulty(&mut world, fault(call));

        let result = forget(&world, &keep_last("2"));

        let calls = faulty.calls();
        world.forget_caches();
        let left = visible(&world);
        assert!(left.ends_with(&[2, 3]), "{left:?} after call {call}");
        assert!(result.is_err() || left == [2, 3], "{left:?} after call {call}");
        assert_eq!(world.sound_backups(), left.len(), "call {call}");
        forget(&world, &keep_last("2")).expect("again");
        assert_eq!(visible(&world), [2, 3]);
        assert!(is_sound(&world));
        if call > calls {
            assert!(result.is_ok(), "{:?}", result.err());
            return;
        }
    }
}

#[test]
fn whatever_call_it_dies_at_nothing_more_is_forgotten() {
    for make in WORLDS {
        breaks_everywhere(make, |call| Fault::DeadFrom { call });
        breaks_everywhere(make, |call| Fault::LostReply { call });
    }
}

#[test]
fn a_parent_forgotten_before_the_lease_makes_the_backup_start_again() {
    for make in WORLDS {
        let world = make();
        let source = source();
        back_up(&world, &source, 3);
        source.put_file("d/b", b"changed");
        world.clock.advance(86_400);
        let hooked = Hooked::at_scan(&source, || {
            forget(&world, &numbers(&[1, 2])).expect("forgets");
        });

        let report = world.backup(&hooked).expect("a backup");

        assert!(hooked.has_happened());
        assert_eq!(report.backup, BackupId(3));
        assert_eq!(world.snapshot(3).backup().header.parent, Some(BackupId(0)));
        assert_eq!((world.content(3, "a"), visible(&world)), (b"version 2".to_vec(), vec![0, 3]));
        assert!(is_sound(&world));
    }
}

#[test]
fn a_parent_forgotten_under_the_lease_is_pinned_and_the_backup_stands_on_it() {
    for make in WORLDS {
        let mut world = make();
        let source = source();
        back_up(&world, &source, 3);
        source.put_file("d/b", b"changed");
        world.clock.advance(86_400);
        let hooked = Hooked::at_reader(&source, || {
            forget(&world, &numbers(&[1, 2])).expect("forgets");
        });

        let report = world.backup(&hooked).expect("a backup");

        assert!(hooked.has_happened());
        drop(hooked);
        assert_eq!((report.backup, report.counts.modified), (BackupId(3), 1));
        world.forget_caches();
        assert_eq!(world.snapshot(3).backup().header.parent, Some(BackupId(2)));
        assert_eq!(visible(&world), [0, 3]);
        assert_eq!(world.content(3, "a"), b"version 2");
        assert!(is_sound(&world));
    }
}

#[test]
fn unchanged_never_names_a_backup_that_was_forgotten_meanwhile() {
    for make in WORLDS {
        let world = make();
        let source = source();
        back_up(&world, &source, 2);
        world.clock.advance(86_400);
        let hooked = Hooked::at_scan(&source, || {
            forget(&world, &numbers(&[1])).expect("forgets");
        });

        let report = world.backup(&hooked).expect("a backup");

        assert!(hooked.has_happened());
        assert_ne!(report.kind, BackupKind::Unchanged);
        assert_eq!((report.backup, visible(&world)), (BackupId(2), vec![0, 2]));
        assert_eq!(world.content(2, "a"), b"version 1");
    }
}

#[test]
fn backups_and_forgets_run_side_by_side() {
    for make in WORLDS {
        let world = make();
        let source = source();
        back_up(&world, &source, 1);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1..12 {
                    source.put_file("a", format!("round {n}"));
                    world.clock.advance(60);
                    world.backup(&source).expect("a backup");
                }
            });
            while !writer.is_finished() {
                forget(&world, &keep_last("2")).expect("forgets");
            }
        });
        forget(&world, &keep_last("2")).expect("forgets");

        let left = visible(&world);
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(world.content(left[1], "a"), b"round 11");
        assert!(is_sound(&world));
    }
}

/// A repair takes a damaged marker away, so that the backup shows again, and a prune may have
/// listed it before; a prune that retires a backup takes the marker away as well.
#[test]
fn a_marker_that_is_gone_once_it_was_listed_forgets_only_what_a_floor_has_passed() {
    for make in WORLDS {
        let world = make();
        back_up(&world, &source(), 4);
        let dataset = world.repository.dataset(&world.name()).unwrap();
        let now = world.clock.now();
        (0..3).for_each(|number| world.hide(number));
        let remove_marker = |number| {
            let key = layout::hidden(&dataset.id(), BackupId(number)).unwrap();
            world.repository.store().delete(&key).unwrap();
        };
        let is_shown =
            |listed, number| dataset.backup(listed, BackupId(number)).expect("an answer").is_some();

        let listed = dataset.all_numbers().unwrap();
        remove_marker(2);
        assert!(is_shown(&listed, 2), "above all floors");
        assert_eq!(dataset.retire(&[BackupId(1)], now).unwrap(), 1);
        assert!(!is_shown(&listed, 1), "retired");
        remove_marker(0);
        assert!(is_shown(&listed, 0), "it remains below the floor");
    }
}

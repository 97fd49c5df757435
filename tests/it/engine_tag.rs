//! Tagging: the last word counts, and nobody's is lost.

use crate::engine_backup_trouble::wrap_faulty;
use crate::engine_forget::is_sound;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::fault::Fault;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::time::Timestamp;
use icecore::engine::backup::BackupOptions;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::engine::tag::TagReport;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;

const WORLDS: [fn() -> World; 3] = [World::memory, World::class_b, World::encrypted];

/// A world with one backup, tagged `first`.
fn one(make: fn() -> World) -> World {
    let world = make();
    let options = BackupOptions {
        tags: vec!["first".to_owned(), "first".to_owned()],
        description: "the beginning".to_owned(),
        ..BackupOptions::default()
    };
    world.backup_with(&MemorySource::new("data").file("a", b"alpha"), &options).unwrap();
    world
}

fn change(world: &World, change: &TagChange) -> Result<TagReport> {
    let dataset = world.repository.dataset(&world.name())?;
    tag::run(&dataset, BackupId(0), change, &world.context())
}

fn add(tag: &str) -> TagChange {
    TagChange { add: vec![tag.to_owned()], ..TagChange::default() }
}

fn tags(world: &World) -> Vec<String> {
    let dataset = world.repository.dataset(&world.name()).unwrap();
    dataset.backups().unwrap()[0].tags.clone()
}

#[test]
fn the_last_change_counts_and_the_header_stays() {
    for make in WORLDS {
        let mut world = one(make);
        let header = world.snapshot(0).backup().header.clone();
        assert_eq!(tags(&world), ["first"], "each tag is kept once");

        for n in 0..12 {
            assert!(change(&world, &add(&format!("t{n}"))).unwrap().is_changed);
        }
        let rest = TagChange {
            remove: (0..11).map(|n| format!("t{n}")).collect(),
            description: Some("the end".to_owned()),
            ..TagChange::default()
        };
        change(&world, &rest).unwrap();

        world.forget_caches();
        assert_eq!(tags(&world), ["first", "t11"]);
        let snapshot = world.snapshot(0);
        assert_eq!(snapshot.backup().description, "the end");
        assert_eq!(snapshot.backup().header, header);
        assert_eq!(header.tags, ["first"]);
        assert!(is_sound(&world));
    }
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let world = one(World::memory);
    let before = world.object_count();
    for same in [
        TagChange::default(),
        add("first"),
        TagChange { set: Some(vec!["first".to_owned()]), ..TagChange::default() },
        TagChange { description: Some("the beginning".to_owned()), ..TagChange::default() },
    ] {
        assert!(!change(&world, &same).unwrap().is_changed, "{same:?}");
    }
    assert_eq!(world.object_count(), before);
}

#[test]
fn changes_at_the_same_time_all_count() {
    for make in WORLDS {
        let world = one(make);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let world = &world;
                scope.spawn(move || change(world, &add(&format!("t{n}"))).expect("a change"));
            }
        });
        let mut all = tags(&world);
        all.sort();
        assert_eq!(all, ["first", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
        assert!(is_sound(&world));
    }
}

#[test]
fn whatever_call_it_dies_at_tags_are_those_before_or_after() {
    let faults: [fn(u64) -> Fault; 2] =
        [|call| Fault::DeadFrom { call }, |call| Fault::LostReply { call }];
    for make in WORLDS {
        let mut world = one(make);
        change(&world, &add("second")).unwrap();
        let before = world.backend.objects();
        for fault in faults {
            for call in 1.. {
                world.reset(&before);
                let faulty = wrap_faulty(&mut world, fault(call));

                let result = change(&world, &add("third"));

                let calls = faulty.calls();
                world.forget_caches();
                let now = tags(&world).join(" ");
                let is_after = now == "first second third";
                assert!(is_after || now == "first second", "{now} after call {call}");
                assert!(result.is_err() || is_after, "call {call}");
                change(&world, &add("third")).expect("again");
                assert_eq!(tags(&world), ["first", "second", "third"]);
                assert!(is_sound(&world));
                if call > calls {
                    assert!(result.is_ok(), "{:?}", result.err());
                    break;
                }
            }
        }
    }
}

#[test]
fn what_is_not_there_cannot_be_tagged() {
    let world = one(World::memory);
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let run = |n| tag::run(&dataset, BackupId(n), &add("x"), &world.context());
    assert_eq!(run(7).expect_err("never was").kind(), ErrorKind::NotFound);
    dataset.hide(BackupId(0), icecore::base::time::Timestamp::default()).unwrap();
    assert_eq!(run(0).expect_err("forgotten").kind(), ErrorKind::NotFound);
}

#[test]
fn limits_are_the_same_for_backup_and_tag() {
    let world = one(World::memory);
    let many = || (0..101).map(|n| n.to_string()).collect::<Vec<_>>();
    for tags in [vec!["a,b".to_owned()], vec![String::new()], vec!["x".repeat(201)], many()] {
        let tagged = TagChange { add: tags.clone(), ..TagChange::default() };
        let error = change(&world, &tagged).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let options = BackupOptions { tags, ..BackupOptions::default() };
        let source = MemorySource::new("data").file("a", b"changed");
        let error = world.backup_with(&source, &options).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    // 100 are full with the one that is there.
    let all = TagChange { add: many()[..100].to_vec(), ..TagChange::default() };
    assert_eq!(change(&world, &all).expect_err("101").kind(), ErrorKind::InvalidInput);
    assert_eq!(tags(&world), ["first"]);
    assert_eq!(world.sound_backups(), 1);
}

#[test]
fn what_is_retired_while_it_is_tagged_is_not_there() {
    let mut world = one(World::class_b);
    let (other, name) = (world.elsewhere(), world.name());
    let odd = world.make_odd();
    let mut looks = 0;
    odd.between(move |operation, key| {
        looks += usize::from(operation == Operation::Get && key.contains(".tags-"));
        if looks == 2 {
            // Behind the put, before the look whose tags stand there.
            let dataset = other.repository.dataset(&name).unwrap();
            dataset.hide(BackupId(0), Timestamp::new(1, 0)).unwrap();
            dataset.retire(&[BackupId(0)], Timestamp::new(1, 0)).unwrap();
        }
        looks < 2
    });

    let error = change(&world, &add("late")).expect_err("it is gone");

    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("has no backup_0, or it was forgotten"), "{error}");
}

/// Names are not sealed: whoever can write to the storage can put any.
#[test]
fn revisions_go_as_they_are_listed_when_their_backup_is_retired() {
    for make in WORLDS {
        let world = one(make);
        change(&world, &add("more")).unwrap();
        let dataset = world.repository.dataset(&world.name()).unwrap();
        for revision in [7, u64::MAX - 1] {
            let key = layout::tags(&dataset.id(), BackupId(0), revision).unwrap();
            world.backend.insert_raw(&key, b"none of ours".to_vec());
        }

        let went = dataset.retire(&[BackupId(0)], Timestamp::new(1, 0)).expect("it ends");

        assert_eq!(went, 1);
        let objects = world.backend.objects().into_keys();
        let left: Vec<_> = objects.filter(|key| key.name().starts_with("0")).collect();
        assert!(left.iter().all(|key| !key.as_str().starts_with("datasets/")), "{left:?}");
    }
}

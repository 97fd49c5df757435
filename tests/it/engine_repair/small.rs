//! Small objects: each that is damaged, what it does until it is repaired, and after.

use crate::engine_check;
use crate::engine_check::flip;
use crate::engine_check::world::NOW;
use crate::engine_check::world::World;
use crate::engine_check::world::add_small_objects;
use crate::engine_check::world::name;
use crate::engine_check::world::world;
use crate::engine_repair::DATA;
use crate::engine_repair::FORCE;
use crate::engine_repair::damaged;
use crate::engine_repair::hurt;
use crate::engine_repair::kinds;
use crate::engine_repair::plan;
use crate::engine_repair::run;
use crate::engine_repair::try_run;
use crate::engine_repair::with_context;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world as support;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::codec::frame::ObjectKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::repair;
use icecore::engine::repair::ActionKind;
use icecore::engine::repair::RepairOptions;
use icecore::engine::retention::Rules;
use icecore::format::backup::Header;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::TagsRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::transaction::Committed;
use icecore::repository::transaction::Transaction;
use icecore::source::memory::MemorySource;
use std::collections::BTreeSet;
use std::sync::Arc;

fn key_in(world: &World, folder: &str) -> ObjectKey {
    let keys = world.backend.objects().into_keys();
    let mut found = keys.filter(|key| key.as_str().starts_with(folder));
    found.find(|key| !key.name().contains('.')).expect("there is one")
}

fn begins(repository: &Repository) -> bool {
    let dataset = repository.dataset(&name("music")).expect("there");
    Transaction::begin(&dataset, NOW).map(Transaction::abandon).is_ok()
}

#[test]
fn a_damaged_tombstone_stops_writers_until_a_person_says_that_nobody_is_at_work() {
    let world = world(true);
    add_small_objects(&world);
    let key = key_in(&world, "tombstones/");
    let (backend, repository) = damaged(&world, |b| flip(b, &key, 90));
    assert!(!begins(&repository));

    let report = run(&repository, &RepairOptions::default());

    assert_eq!(kinds(&report), []);
    assert_eq!(report.unrepaired.len(), 1);
    assert!(report.unrepaired[0].message.contains("repair --force"), "{report:?}");
    assert!(backend.objects().contains_key(&key) && !begins(&repository));
    let report = run(&repository, &FORCE);
    assert_eq!(kinds(&report), [ActionKind::Remove]);
    assert!(report.is_whole() && begins(&repository));
}

#[test]
fn a_damaged_lease_stops_no_writer_where_the_commit_decides() {
    let world = world(true);
    add_small_objects(&world);
    let key = key_in(&world, "leases/");
    let (_, repository) = damaged(&world, |b| flip(b, &key, 90));
    assert!(begins(&repository));
    // Who deletes must know who is at work.
    let error = icecore::repository::lease::list(repository.store()).expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    assert!(!run(&repository, &RepairOptions::default()).is_whole());
    assert_eq!(kinds(&run(&repository, &FORCE)), [ActionKind::Remove]);
    assert!(icecore::repository::lease::list(repository.store()).is_ok());
}

#[test]
fn a_damaged_header_keeps_its_number_and_stops_nobody() {
    let mut world = world(false);
    let key = world.header_key("photos", 4);
    flip(&world.backend, &key, 90);
    let (backend, repository) = world.copy();
    world.backend = backend;
    world.repository = repository;
    let dataset = world.repository.dataset(&name("photos")).expect("there");
    let shown = dataset.shown_backups().expect("lists");
    let numbers: Vec<u64> = shown.readable.iter().map(|it| it.header.number.0).collect();
    assert_eq!(numbers, [0, 1, 3]);
    assert_eq!(shown.problems.len(), 1);

    let label = world.back_up("photos", false, &["new"], &[]);

    assert_eq!(label, "photos@5");
    let report = run(&world.repository, &DATA);
    assert_eq!(kinds(&report), []);
    assert_eq!(report.unrepaired[0].backups, ["photos@4"]);
    assert!(report.unrepaired[0].message.contains("forget photos --backup 4"), "{report:?}");
    assert_eq!(hurt(&world.repository, &world), BTreeSet::from(["photos@4".to_owned()]));
    // Forgotten, as a person does it, it is damage no more; no rule works beside it.
    let dataset = world.repository.dataset(&name("photos")).expect("there");
    let planned =
        |selection| with_context(|context| forget::plan(&dataset, &selection, &|_| 0, context));
    let refused = |selection| planned(selection).err().expect("it is refused").kind();
    let rules = Rules { last: "1".parse().ok(), ..Rules::default() };
    assert_eq!(refused(Selection::Unless(rules)), ErrorKind::Corrupt);
    let readable = [0, 1, 3, 5].map(BackupId).into();
    assert_eq!(refused(Selection::Numbers(readable)), ErrorKind::InvalidInput);
    let named = planned(Selection::Numbers([BackupId(4)].into())).expect("goes when it is named");
    assert_eq!(
        named.forgotten().map(|it| (it.number, it.time)).collect::<Vec<_>>(),
        [(BackupId(4), None)]
    );
    with_context(|context| forget::execute(&named, context)).expect("forgets");
    assert!(run(&world.repository, &DATA).is_whole());
    assert!(engine_check::run(&world.repository, &engine_check::data()).is_ok());
}

#[test]
fn a_marker_that_cannot_be_read_goes_and_the_backup_shows_again() {
    let world = world(true);
    let key = layout::hidden(&world.id("photos"), BackupId(2)).expect("a key");
    let (_, repository) = damaged(&world, |b| flip(b, &key, 90));
    let dataset = repository.dataset(&name("photos")).expect("there");
    assert!(dataset.backups().is_err());

    let report = run(&repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Remove]);
    assert!(report.is_whole(), "{report:?}");
    let numbers = dataset.backups().expect("reads");
    let numbers: Vec<u64> = numbers.iter().map(|it| it.header.number.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert!(engine_check::run(&repository, &engine_check::data()).is_ok());
}

#[test]
fn tags_that_cannot_be_read_fall_back_to_those_before() {
    let world = world(false);
    let id = world.id("photos");
    let store = world.repository.store();
    for revision in 0..2 {
        let key = layout::tags(&id, BackupId(3), revision).expect("a key");
        let tags = vec![format!("tag {revision}")];
        let record = TagsRecord { number: 3, tags, description: "d".into(), written: NOW };
        store.put(ObjectKind::Tags, &key, &record).expect("puts");
    }
    let key = layout::tags(&id, BackupId(3), 1).expect("a key");
    let (_, repository) = damaged(&world, |b| flip(b, &key, 40));

    let report = run(&repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Tags]);
    assert!(report.is_whole());
    let backups = repository.dataset(&name("photos")).expect("there").backups().expect("reads");
    let tagged = backups.iter().find(|it| it.header.number == BackupId(3)).expect("there");
    assert_eq!(tagged.tags, ["tag 0"]);
    assert!(engine_check::run(&repository, &engine_check::data()).is_ok());
}

/// A copy in which an object cannot be had, or was written by a later version.
fn unjudged(
    world: &World,
    key: &ObjectKey,
    kind: Option<ErrorKind>,
) -> (Arc<MemoryBackend>, Repository) {
    let Some(kind) = kind else {
        return damaged(world, |backend| {
            let mut bytes = backend.objects()[key].clone();
            let end = bytes.len() - 32;
            bytes[5] += 1;
            let checksum = icecore::base::hash::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum);
            backend.insert_raw(key, bytes);
        });
    };
    let fault = Fault::Key { prefix: key.to_string(), kind };
    world.copy_within(|backend| Arc::new(FaultBackend::new(backend, vec![fault])))
}

fn is_left_alone_while_it_cannot_be_judged(world: &World, key: &ObjectKey) {
    for kind in [None, Some(ErrorKind::Denied), Some(ErrorKind::Io)] {
        let (backend, repository) = unjudged(world, key, kind);
        let before = backend.objects();

        let report = run(&repository, &DATA);

        assert_eq!(report.actions, [], "{key} {kind:?}: {report:?}");
        let named = report.unrepaired.iter().find(|it| it.object == key.as_str());
        let message = &named.unwrap_or_else(|| panic!("{key} {kind:?}: {report:?}")).message;
        assert!(!message.contains("icecore forget"), "{key} {kind:?}: {message}");
        assert_eq!(backend.objects(), before, "{key} {kind:?}");
    }
}

fn put_tags(world: &World, revision: u64) -> ObjectKey {
    let key = layout::tags(&world.id("photos"), BackupId(3), revision).expect("a key");
    let tags = vec![format!("tag {revision}")];
    let record = TagsRecord { number: 3, tags, description: "d".into(), written: NOW };
    world.repository.store().put(ObjectKind::Tags, &key, &record).expect("puts");
    key
}

#[test]
fn tags_headers_floors_and_names_that_only_cannot_be_judged_are_left_alone() {
    for is_encrypted in [false, true] {
        let tagged = world(is_encrypted);
        let (before, newest) = (put_tags(&tagged, 0), put_tags(&tagged, 1));
        is_left_alone_while_it_cannot_be_judged(&tagged, &newest);
        is_left_alone_while_it_cannot_be_judged(&tagged, &tagged.header_key("photos", 1));
        let keys = tagged.backend.objects().into_keys();
        for name in keys.filter(|key| key.as_str().starts_with("names/")) {
            is_left_alone_while_it_cannot_be_judged(&tagged, &name);
        }
        // What would stand again in its place may not be the one before.
        flip(&tagged.backend, &newest, 40);
        for kind in [None, Some(ErrorKind::Denied)] {
            let (backend, repository) = unjudged(&tagged, &before, kind);
            let there = backend.objects();
            assert_eq!(run(&repository, &DATA).actions, []);
            assert_eq!(backend.objects(), there);
        }
    }
    for remaining in [&[][..], &[1]] {
        let (world, floor) = with_floor(remaining);
        is_left_alone_while_it_cannot_be_judged(&world, &floor);
    }
}

#[test]
fn while_one_name_cannot_be_judged_no_dataset_gets_another() {
    let world = world(true);
    let keys = world.backend.objects().into_keys();
    let names: Vec<ObjectKey> = keys.filter(|key| key.as_str().starts_with("names/")).collect();
    // Either of the two may lead to either dataset.
    flip(&world.backend, &names[0], 90);
    let (backend, repository) = unjudged(&world, &names[1], Some(ErrorKind::Denied));
    let before = backend.objects();

    let report = run(&repository, &DATA);

    assert_eq!(report.actions, [], "{report:?}");
    assert_eq!(backend.objects(), before);
}

/// `music` with a floor of 3, above which all is as usual.
fn with_floor(remaining: &[u64]) -> (World, ObjectKey) {
    let mut world = World::new(false);
    for at in ["a", "b", "c", "d", "e"] {
        world.back_up("music", true, &[at], &[]);
    }
    let key = layout::floor(&world.id("music"), 3).expect("a key");
    let record = FloorRecord { floor: 3, remaining: remaining.to_vec(), written: NOW };
    world.repository.store().put(ObjectKind::Floor, &key, &record).expect("puts");
    for n in 0..3 {
        world.trees.remove(&format!("music@{n}")).filter(|_| !remaining.contains(&n));
        if !remaining.contains(&n) {
            world.backend.remove_raw(&world.header_key("music", n));
        }
    }
    (world, key)
}

#[test]
fn check_knows_a_floor() {
    for remaining in [&[][..], &[1]] {
        let (world, _) = with_floor(remaining);
        let (_, repository) = damaged(&world, |_| {});
        let report = engine_check::run(&repository, &engine_check::structure());
        assert!(report.is_ok(), "{:?}", report.findings);
        assert_eq!(report.backups, 2 + remaining.len() as u64);
    }
    // One that should remain is missed, and so is one above the floor.
    let (world, _) = with_floor(&[1]);
    for n in [1, 3] {
        let key = world.header_key("music", n);
        let (_, repository) = damaged(&world, |b| assert!(b.remove_raw(&key)));
        let report = engine_check::run(&repository, &engine_check::structure());
        let finding = report.findings.iter().find(|it| it.object == key.as_str());
        assert!(finding.expect("named").message.contains("missing"), "{:?}", report.findings);
    }
    // What turns up below the floor is void.
    let (mut world, _) = with_floor(&[]);
    let bytes = world.backend.objects()[&world.header_key("music", 3)].clone();
    world.backend.insert_raw(&world.header_key("music", 2), bytes);
    world.trees.clear();
    let report = engine_check::run(&world.repository, &engine_check::structure());
    assert!(report.is_ok(), "{:?}", report.findings);
    assert!(report.findings.iter().any(|it| it.message.contains("below the floor")));
}

#[test]
fn a_floor_that_cannot_be_read_is_replaced_by_a_higher_one() {
    let (world, key) = with_floor(&[1]);
    let (_, repository) = damaged(&world, |b| flip(b, &key, 40));
    let dataset = repository.dataset(&name("music")).expect("there");
    assert!(dataset.backups().is_err());

    let report = run(&repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Floor], "{report:?}");
    assert!(report.is_whole(), "{report:?}");
    let numbers = dataset.backups().expect("reads");
    let numbers: Vec<u64> = numbers.iter().map(|it| it.header.number.0).collect();
    assert_eq!(numbers, [1, 3, 4]);
    let report = engine_check::run(&repository, &engine_check::data());
    assert!(report.is_ok(), "{:?}", report.findings);
}

/// Three backups below a floor of 3 that cannot be read, and a writer that began before.
fn with_writer(class_b: bool) -> (support::World, Transaction) {
    let world = if class_b { support::World::class_b() } else { support::World::memory() };
    let source = MemorySource::new("s");
    for n in 0..3 {
        source.put_file(format!("f{n}"), noise(3_000, n + 1));
        let options = BackupOptions { full: true, ..BackupOptions::default() };
        world.backup_with(&source, &options).expect("a backup");
    }
    let dataset = world.repository.dataset(&world.name()).expect("there");
    let key = layout::floor(&dataset.id(), 3).expect("a key");
    let record = FloorRecord { floor: 3, remaining: vec![0, 1, 2], written: NOW };
    world.repository.store().put(ObjectKind::Floor, &key, &record).expect("puts");
    let writer = Transaction::begin(&dataset, NOW).expect("begins");
    assert_eq!(writer.number(), BackupId(3));
    flip(&world.backend, &key, 40);
    (world, writer)
}

fn commit(writer: Transaction) -> Committed {
    let parent = writer.parent().expect("a parent").backup().header.clone();
    let header = Header { number: writer.number(), lease: writer.lease_id(), ..parent };
    writer.commit(&header).expect("is told")
}

fn numbers(world: &support::World) -> Vec<u64> {
    let dataset = world.repository.dataset(&world.name()).expect("there");
    dataset.backups().expect("reads").iter().map(|it| it.header.number.0).collect()
}

#[test]
fn a_floor_that_cannot_be_read_is_not_replaced_by_one_above_a_backup_that_came_meanwhile() {
    for class_b in [false, true] {
        let (mut world, writer) = with_writer(class_b);
        let planned = plan(&world.repository, &DATA).expect("plans");
        assert!(matches!(commit(writer), Committed::Yes(_)));

        let done = with_context(|context| repair::execute(&world.repository, planned, context));

        assert!(done.expect("repairs").is_whole());
        world.forget_caches();
        assert_eq!(numbers(&world), [0, 1, 2, 3]);
        try_prune(&world, false).expect("prunes");
        assert_eq!(world.sound_backups(), 4);
    }
}

#[test]
fn whoever_would_commit_below_a_floor_that_a_repair_puts_starts_again_or_is_waited_for() {
    let (world, writer) = with_writer(false);
    assert!(run(&world.repository, &DATA).is_whole());
    assert!(matches!(commit(writer), Committed::Lost));
    assert_eq!(numbers(&world), [0, 1, 2]);

    let (world, writer) = with_writer(true);
    let error = try_run(&world.repository, &DATA).expect_err("waits");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert!(matches!(commit(writer), Committed::Yes(_)));
    assert!(run(&world.repository, &DATA).is_whole());
    assert_eq!(numbers(&world), [0, 1, 2, 3]);
}

#[test]
fn a_dataset_without_a_name_gets_one() {
    let world = world(true);
    let names: Vec<ObjectKey> = world
        .backend
        .objects()
        .into_keys()
        .filter(|key| key.as_str().starts_with("names/"))
        .collect();
    for key in &names {
        for is_gone in [true, false] {
            let (_, repository) = damaged(&world, |b| match is_gone {
                true => drop(b.remove_raw(key)),
                false => flip(b, key, 90),
            });
            let shown = repository.shown_datasets().expect("lists");
            assert_eq!((shown.readable.len(), shown.problems.len()), (1, 1));

            let report = run(&repository, &DATA);

            let expected = [ActionKind::Name, ActionKind::Remove];
            assert_eq!(kinds(&report), expected[..if is_gone { 1 } else { 2 }]);
            assert!(report.is_whole() && repository.datasets().is_ok(), "{report:?}");
            assert_eq!(hurt(&repository, &world), BTreeSet::new());
            let names: Vec<String> = repository
                .shown_datasets()
                .expect("lists")
                .readable
                .iter()
                .map(|dataset| dataset.name().to_string())
                .collect();
            assert!(names.iter().any(|name| name.starts_with("recovered-")), "{names:?}");
        }
    }
}

#[test]
fn a_name_that_the_source_tells_of_is_proven_by_the_id() {
    let mut world = crate::support::world::World::encrypted();
    let source = icecore::source::memory::MemorySource::new("data").file("a", b"alpha");
    world.backup(&source).expect("a backup");
    let keys = world.backend.objects().into_keys();
    for key in keys.filter(|key| key.as_str().starts_with("names/")) {
        flip(&world.backend, &key, 90);
    }
    world.forget_caches();

    let report = run(&world.repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Name], "{report:?}");
    assert_eq!(world.content(0, "a"), b"alpha");
    let report = engine_check::run(&world.repository, &engine_check::data());
    assert!(report.is_ok(), "{:?}", report.findings);
}

#[test]
fn without_its_config_or_its_last_key_slot_a_repository_says_so() {
    let world = world(true);
    for (prefix, words) in [("config", "the config of the repository"), ("keys/", "no key slot")] {
        let (backend, _) = damaged(&world, |b| {
            let keys = b.objects().into_keys();
            keys.filter(|key| key.as_str().starts_with(prefix)).for_each(|key| {
                b.remove_raw(&key);
            });
        });
        let cache = icecore::repository::cache::CachePlace::Scratch(world.caches.path().into());
        let password = icecore::base::secret::Secret::new(b"glacier".to_vec());
        let error = open::open(backend, Some(&password), &cache).err().expect("does not open");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(words), "{error:?}");
        assert!(error.hint_text().expect("a hint").contains("from a copy"), "{error:?}");
    }
}

#[test]
fn markers_and_tags_of_another_number_are_seen() {
    let world = world(false);
    let id = world.id("photos");
    let hidden = ObjectKey::new(format!("{}.hidden", world.header_key("photos", 2)));
    let hidden = hidden.expect("a key");
    let store = world.repository.store();
    let (backend, repository) = damaged(&world, |_| {});
    let other = icecore::format::dataset::HiddenRecord { number: 3, written: NOW };
    let bytes = store.sealer().seal_record(ObjectKind::Hidden, hidden.as_str(), &other);
    backend.insert_raw(&hidden, bytes.expect("seals"));
    let tags = layout::tags(&id, BackupId(3), 0).expect("a key");
    let other = TagsRecord { number: 1, tags: vec![], description: String::new(), written: NOW };
    store.put(ObjectKind::Tags, &tags, &other).expect("puts");
    backend.insert_raw(&tags, world.backend.objects()[&tags].clone());

    let report = engine_check::run(&repository, &engine_check::structure());

    for key in [hidden, tags] {
        let finding = report.findings.iter().find(|it| it.object == key.as_str());
        let message = &finding.expect("named").message;
        assert!(message.contains("belongs elsewhere"), "{message}");
    }
}

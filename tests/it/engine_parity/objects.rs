//! Parity objects: added, counted, taken away, swept, and checked.

use crate::engine_parity::DATA;
use crate::engine_parity::add;
use crate::engine_parity::assert_content;
use crate::engine_parity::change;
use crate::engine_parity::damage;
use crate::engine_parity::data_read;
use crate::engine_parity::filled;
use crate::engine_parity::findings;
use crate::engine_parity::id_of;
use crate::engine_parity::largest_pack;
use crate::engine_parity::pack_keys;
use crate::engine_parity::packs_read;
use crate::engine_parity::parity_of;
use crate::engine_parity::run;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::ParityId;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Severity;
use icecore::engine::parity;
use icecore::engine::repair::ActionKind;
use icecore::engine::repair::RepairOptions;
use icecore::format;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::sync::Arc;

const PACKS: RepairOptions = RepairOptions { read_packs: true, read_data: false, force: false };

fn status(world: &World) -> parity::Status {
    parity::status(&world.repository).unwrap()
}

#[test]
fn only_packs_without_parity_are_read_and_a_higher_share_replaces_a_lower_one() {
    for make in [World::memory, World::encrypted, World::class_b] {
        let mut world = filled(make());
        let packs = pack_keys(&world).len() as u64;
        assert_eq!((status(&world).packs, status(&world).with_parity), (packs, 0));
        let calls = world.count_calls();
        let first = add(&world, 5);
        assert_eq!((first.packs, first.had, first.failed.len()), (packs, 0, 0));
        let now = status(&world);
        assert_eq!((now.with_parity, now.objects, now.bytes), (packs, packs, first.bytes));
        assert_eq!((now.with_parity_bytes, now.pack_bytes), (first.pack_bytes, first.pack_bytes));
        assert_eq!(now.percents.into_iter().collect::<Vec<_>>(), [(5, packs)]);

        let before = calls.counts().gets;
        let again = add(&world, 5);
        assert_eq!((again.packs, again.had, again.bytes), (0, packs, 0));
        assert_eq!(add(&world, 1).packs, 0, "what is there is better");
        assert_eq!(calls.counts().gets, before, "nothing was read");

        let source = MemorySource::new("s").file("new", noise(50_000, 9));
        world.backup(&source).unwrap();
        let fresh = pack_keys(&world).len() as u64 - packs;
        assert!(fresh > 0);
        let note = findings(&world, &CheckOptions::default());
        let note = note.iter().find(|it| it.object == "parity").expect("a note");
        assert_eq!(note.severity, Severity::Note);
        assert_eq!(add(&world, 5).packs, fresh);

        assert_eq!(add(&world, 10).packs, packs + fresh);
        let now = status(&world);
        assert_eq!((now.objects, now.with_parity), (packs + fresh, packs + fresh));
        assert_eq!(now.percents.into_iter().collect::<Vec<_>>(), [(10, packs + fresh)]);
        let found = findings(&world, &data_read());
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn all_of_it_can_be_taken_away_at_any_time() {
    let world = filled(World::memory());
    let before = world.backend.objects();
    add(&world, 5);
    let count = keys(&world, "parity/").len() as u64;
    let planned = parity::remove(&world.repository, true, &world.context()).unwrap();
    assert_eq!((planned.objects, keys(&world, "parity/").len() as u64), (count, count));
    let done = parity::remove(&world.repository, false, &world.context()).unwrap();
    assert_eq!((done.objects, done.bytes), (planned.objects, planned.bytes));
    assert_eq!(world.backend.objects(), before);
    assert_eq!(status(&world).objects, 0);
}

#[test]
fn a_share_that_is_none_is_refused() {
    let world = filled(World::memory());
    for percent in [0, 51, 255] {
        let error = parity::add(&world.repository, percent, &world.context());
        assert_eq!(error.expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_damaged_pack_gets_no_parity_and_the_others_do() {
    let mut world = filled(World::encrypted());
    let key = largest_pack(&world);
    let gone = pack_keys(&world).into_iter().find(|it| *it != key).unwrap();
    change(&world, &key, |mut bytes| {
        bytes[40_000] ^= 1;
        bytes
    });
    change(&world, &gone, |bytes| bytes[..20].to_vec());
    world.forget_caches();
    let report = add(&world, 5);
    let mut failed: Vec<_> = report.failed.iter().map(|(pack, _)| *pack).collect();
    failed.sort_unstable();
    let mut expected = [id_of(&key), id_of(&gone)];
    expected.sort_unstable();
    assert_eq!(failed, expected);
    assert_eq!(report.packs as usize, pack_keys(&world).len() - 2);
}

#[test]
fn prune_takes_the_parity_of_what_it_deletes_and_of_what_was_left() {
    for make in [World::memory, World::class_b] {
        let mut world = filled(make());
        add(&world, 5);
        // As after a prune that was killed before its last step, or a late put.
        let orphan = {
            let other = filled(World::memory());
            let pack = largest_pack(&other);
            let bytes = other.backend.objects()[&pack].clone();
            let key = layout::parity(&id_of(&pack), 5, &ParityId::new([9; 16])).unwrap();
            let sealer = world.repository.store().sealer();
            let made = format::parity::make(sealer, key.as_str(), &id_of(&pack), &bytes, 5);
            world.backend.insert_raw(&key, made.unwrap());
            key
        };
        let found = findings(&world, &CheckOptions::default());
        let of_orphan = found.iter().find(|it| it.object == orphan.as_str()).expect("found");
        assert_eq!(of_orphan.severity, Severity::Garbage);
        world.hide(1);
        world.hide(2);
        let report = try_prune(&world, true).unwrap();
        assert!(report.packs_deleted > 0 && report.parity_deleted > 1, "{report:?}");
        assert!(!world.backend.objects().contains_key(&orphan));
        let packs = pack_keys(&world);
        for key in keys(&world, "parity/") {
            assert!(packs.iter().any(|pack| key.contains(pack.name())), "{key}");
        }
        world.forget_caches();
        add(&world, 5);
        let found = findings(&world, &data_read());
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn damaged_parity_is_found_by_reading_packs_and_taken_away_by_a_repair() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        add(&world, 5);
        let parity = parity_of(&world, &largest_pack(&world));
        let whole = world.backend.objects();
        let length = whole[&parity].len();
        for at in [0, 20, 100, length / 2, length - 100, length - 35, length - 1] {
            change(&world, &parity, |mut bytes| {
                bytes[at] ^= 4;
                bytes
            });
            assert!(findings(&world, &CheckOptions::default()).is_empty());
            let found = findings(&world, &packs_read());
            assert_eq!(damage(&found).len(), 1, "byte {at}: {found:#?}");
            assert_eq!(found[0].object, parity.as_str(), "byte {at}");
            assert!(found[0].backups.is_empty(), "no backup suffers");
            let report = run(&world, &PACKS);
            assert!(report.is_whole(), "{report:#?}");
            let actions: Vec<ActionKind> = report.actions.iter().map(|it| it.kind).collect();
            assert_eq!(actions, [ActionKind::Remove], "{report:#?}");
            assert_eq!(add(&world, 5).packs, 1);
            assert!(findings(&world, &data_read()).is_empty());
            world.reset(&whole);
        }
    }
}

/// What a later version writes: its number is higher, and whatever stands behind it is right.
fn later(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 32;
    bytes[5] += 1;
    let checksum = icecore::base::hash::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

fn shut(world: &mut World, key: &ObjectKey, kind: ErrorKind) {
    let fault = Fault::Key { prefix: key.to_string(), kind };
    world.wrap(|inner| Arc::new(FaultBackend::new(inner, vec![fault])));
}

/// Nothing is done while it cannot be told what parity heals, and all is healed once it can.
fn is_left_until_parity_can_be_read(world: &mut World, pack: &ObjectKey, open: impl Fn(&World)) {
    let before = world.backend.objects();
    for options in [PACKS, DATA, RepairOptions { force: true, ..DATA }] {
        let report = run(world, &options);
        assert_eq!(report.actions, [], "{report:#?}");
        assert_eq!(report.lost, [], "{report:#?}");
        let left = report.unrepaired.iter().find(|it| it.object == pack.as_str());
        let message = &left.expect("named").message;
        assert!(message.contains("whether its parity heals it cannot be told"), "{message}");
        assert_eq!(world.backend.objects(), before);
    }
    open(world);
    world.forget_caches();
    let report = run(world, &DATA);
    assert!(report.is_whole(), "{report:#?}");
    assert!(report.actions.iter().any(|it| it.kind == ActionKind::Heal), "{report:#?}");
    assert_content(world);
}

fn hurt(world: &World, pack: &ObjectKey) {
    change(world, pack, |mut bytes| {
        bytes[70_000..70_008].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes
    });
}

#[test]
fn a_damaged_pack_whose_parity_cannot_be_judged_is_left_as_it_is() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        add(&world, 5);
        let pack = largest_pack(&world);
        let parity = parity_of(&world, &pack);
        hurt(&world, &pack);
        let whole = world.backend.objects();
        for kind in [ErrorKind::Denied, ErrorKind::Unsupported] {
            world.reset(&whole);
            shut(&mut world, &parity, kind);
            is_left_until_parity_can_be_read(&mut world, &pack, |_| {});
        }
        world.reset(&whole);
        change(&world, &parity, later);
        let sound = whole[&parity].clone();
        let open = |world: &World| world.backend.insert_raw(&parity, sound.clone());
        is_left_until_parity_can_be_read(&mut world, &pack, open);
    }
}

#[test]
fn of_several_parity_objects_one_that_cannot_be_judged_is_enough_to_wait() {
    for is_better in [false, true] {
        let mut world = filled(World::memory());
        let pack = largest_pack(&world);
        add(&world, 5);
        let low = parity_of(&world, &pack);
        let bytes = world.backend.objects()[&low].clone();
        add(&world, 20);
        let high = parity_of(&world, &pack);
        world.backend.insert_raw(&low, bytes);
        let (closed, bad) = if is_better { (high, low) } else { (low, high) };
        hurt(&world, &pack);
        change(&world, &bad, |bytes| vec![0; bytes.len()]);
        shut(&mut world, &closed, ErrorKind::Denied);
        is_left_until_parity_can_be_read(&mut world, &pack, |_| {});
    }
}

#[test]
fn parity_of_a_later_version_stays_beside_a_whole_pack() {
    let mut world = filled(World::memory());
    add(&world, 5);
    let parity = parity_of(&world, &largest_pack(&world));
    change(&world, &parity, later);
    world.forget_caches();
    let report = run(&world, &DATA);
    assert_eq!(report.actions, [], "{report:#?}");
    let left: Vec<&str> = report.unrepaired.iter().map(|it| it.object.as_str()).collect();
    assert_eq!(left, [parity.as_str()]);
}

#[test]
fn parity_of_something_else_is_found_and_harms_nothing() {
    for make in [World::memory, World::encrypted] {
        let mut world = filled(make());
        let pack = largest_pack(&world);
        let bytes = world.backend.objects()[&pack].clone();
        let mut other = bytes.clone();
        other[70_000] ^= 1;
        // Sound in itself, and made by somebody with the key of other bytes.
        let key = layout::parity(&id_of(&pack), 5, &ParityId::new([9; 16])).unwrap();
        let sealer = world.repository.store().sealer();
        let made = format::parity::make(sealer, key.as_str(), &id_of(&pack), &other, 5).unwrap();
        world.backend.insert_raw(&key, made);
        assert!(damage(&findings(&world, &packs_read())).is_empty());
        let found = findings(&world, &data_read());
        assert_eq!(damage(&found).len(), 1, "{found:#?}");
        assert!(damage(&found)[0].message.contains("not what its pack gives"), "{found:#?}");
        // It makes nothing of the damaged pack that is believed.
        change(&world, &pack, |mut bytes| {
            bytes[70_000] ^= 3;
            bytes
        });
        world.forget_caches();
        let found = findings(&world, &packs_read());
        let of_pack = found.iter().find(|it| it.object == pack.as_str()).expect("found");
        assert!(of_pack.message.contains("is not the pack"), "{of_pack:?}");
    }
}

#[test]
fn parity_handed_out_for_another_pack_is_refused() {
    for make in [World::memory, World::encrypted] {
        let world = filled(make());
        add(&world, 5);
        let packs = pack_keys(&world);
        let (one, two) = (parity_of(&world, &packs[0]), parity_of(&world, &packs[1]));
        let objects = world.backend.objects();
        world.backend.insert_raw(&one, objects[&two].clone());
        world.backend.insert_raw(&two, objects[&one].clone());
        let found = findings(&world, &packs_read());
        let named: Vec<&str> = damage(&found).iter().map(|it| it.object.as_str()).collect();
        let mut expected = [one.as_str(), two.as_str()];
        expected.sort_unstable();
        assert_eq!(named, expected, "{found:#?}");
    }
}

#[test]
fn what_is_foreign_there_is_left_alone() {
    let world = filled(World::memory());
    add(&world, 5);
    for key in ["parity/x", "parity/ab/notes.txt", "parity/ab/cd.5-ef"] {
        world.backend.insert_raw(&ObjectKey::new(key).unwrap(), b"mine".to_vec());
    }
    let found = findings(&world, &CheckOptions::default());
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|it| it.severity == Severity::Note));
    try_prune(&world, false).unwrap();
    parity::remove(&world.repository, false, &world.context()).unwrap();
    assert_eq!(keys(&world, "parity/").len(), 3);
}

//! Password slots beside slots that open nothing, and looks beside those who change passwords.

use crate::support::pruning::keys;
use crate::support::world::CHEAP;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::KeyId;
use icecore::base::id::LeaseId;
use icecore::base::id::RepositoryId;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::check::Finding;
use icecore::engine::check::Severity;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::repair::RepairReport;
use icecore::format::key_file;
use icecore::format::lease::MarkRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// The slot that the world's own password opens.
fn mine(repository: &Repository) -> KeyId {
    repository.slot_of(&secret("secret")).unwrap()
}

fn is_there(world: &World, slot: &KeyId) -> bool {
    world.backend.objects().contains_key(&layout::key_slot(slot).unwrap())
}

/// What an `init` with a password leaves that dies behind its slot.
fn put_of_dead_init(world: &World, password: &str) -> KeyId {
    let (keys, elsewhere) = (Keys::generate().unwrap(), RepositoryId::new([7; 16]));
    let (id, bytes) = key_file::seal(&keys, &elsewhere, &secret(password), CHEAP, "", NOW).unwrap();
    world.backend.insert_raw(&layout::key_slot(&id).unwrap(), bytes);
    id
}

/// Puts a slot's bytes, changed, under another name.
fn put_copy(world: &World, of: &KeyId, name: u8, change: impl FnOnce(&mut Vec<u8>)) -> KeyId {
    let id = KeyId::new([name; 16]);
    let mut bytes = world.backend.objects()[&layout::key_slot(of).unwrap()].clone();
    change(&mut bytes);
    world.backend.insert_raw(&layout::key_slot(&id).unwrap(), bytes);
    id
}

/// One of each that opens nothing, beside one that does.
fn put_useless(world: &World, beside: &KeyId) -> Vec<KeyId> {
    vec![
        put_of_dead_init(world, "secret"),
        put_of_dead_init(world, "another"),
        put_copy(world, beside, 0, |_| {}),
        put_copy(world, beside, 0xff, |bytes| bytes[40] ^= 1),
    ]
}

fn findings(world: &World) -> Vec<Finding> {
    check::run(&world.repository, &CheckOptions::default(), &world.context()).unwrap().findings
}

fn mend(world: &World) -> RepairReport {
    let plan =
        repair::plan(&world.repository, &RepairOptions::default(), &world.context()).unwrap();
    repair::execute(&world.repository, plan, &world.context()).unwrap()
}

#[test]
fn the_only_password_that_opens_stays_whatever_lies_beside_it() {
    let world = World::encrypted();
    let mine = mine(&world.repository);
    put_useless(&world, &mine);
    let before = keys(&world, "keys/");

    let error = world.repository.remove_key(&mine.to_string()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.to_string().contains("the last password"), "{error:?}");
    assert_eq!(keys(&world, "keys/"), before, "and no mark is left");
    let mut world = world;
    world.forget_caches();
}

#[test]
fn a_slot_that_opens_nothing_can_be_removed() {
    let world = World::encrypted();
    let mine = mine(&world.repository);

    for useless in put_useless(&world, &mine) {
        world.repository.remove_key(&useless.to_string()).unwrap();
    }

    assert_eq!(keys(&world, "keys/"), [format!("keys/{mine}")]);
}

#[test]
fn of_two_passwords_one_goes_beside_slots_that_open_nothing() {
    let world = World::encrypted();
    let first = mine(&world.repository);
    world.repository.add_key(&secret("second"), CHEAP, "", NOW).unwrap();
    put_useless(&world, &first);

    world.repository.remove_key(&first.to_string()).unwrap();

    assert!(!is_there(&world, &first));
    let second = world.repository.slot_of(&secret("second")).unwrap();
    let error = world.repository.remove_key(&second.to_string()).unwrap_err();
    assert!(error.to_string().contains("the last password"), "{error:?}");
}

#[test]
fn a_password_whose_removal_was_begun_is_not_counted_on() {
    let world = World::encrypted();
    let first = mine(&world.repository);
    let second = world.repository.add_key(&secret("second"), CHEAP, "", NOW).unwrap();
    put_useless(&world, &first);
    put_mark(&world, &second, 1);

    let error = world.repository.remove_key(&first.to_string()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert!(is_there(&world, &first));
    world.repository.remove_key(&second.to_string()).unwrap();
    assert_eq!(keys(&world, "keys/").iter().filter(|key| key.contains("going")).count(), 0);
}

#[test]
fn a_password_is_found_behind_slots_that_open_nothing() {
    let world = World::encrypted();
    let mine = mine(&world.repository);
    put_useless(&world, &mine);
    while put_of_dead_init(&world, "secret") > mine {}

    assert_eq!(world.repository.slot_of(&secret("secret")).unwrap(), mine);
    let error = world.repository.slot_of(&secret("wrong")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Password, "{error:?}");
}

#[test]
fn a_check_and_a_repair_beside_a_change_of_passwords_tell_of_no_damage() {
    let mut world = World::encrypted();
    let odd = world.make_odd();
    for (round, is_repair) in [false, true].into_iter().enumerate() {
        let old = keys(&world, "keys/").remove(0);
        let key = ObjectKey::new(&*old).unwrap();
        let elsewhere = world.elsewhere();
        let slot = world.repository.slot_of(&secret("secret")).unwrap();
        odd.between(move |operation, name| {
            if operation != Operation::Get || name != key.as_str() {
                return true;
            }
            elsewhere.repository.add_key(&secret("secret"), CHEAP, "", NOW).unwrap();
            elsewhere.repository.remove_key(&slot.to_string()).unwrap();
            false
        });

        if is_repair {
            let report = mend(&world);
            assert!(report.is_whole() && report.actions.is_empty(), "{report:?}");
        } else {
            assert_eq!(findings(&world), []);
        }

        assert!(!keys(&world, "keys/").contains(&old), "round {round}: it was changed meanwhile");
    }
}

#[test]
fn a_listing_that_misses_the_slots_once_is_no_damage() {
    let mut world = World::encrypted();
    let odd = world.make_odd();
    let shown = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&shown);
    odd.hide(move |key| key.starts_with("keys/") && counted.fetch_add(1, Ordering::Relaxed) == 0);

    assert_eq!(findings(&world), []);

    assert!(shown.load(Ordering::Relaxed) > 1);
    odd.hide(|key| key.starts_with("keys/"));
    let found = findings(&world);
    assert_eq!((found[0].object.as_str(), found[0].severity), ("keys", Severity::Damage));
}

/// Puts a mark that a slot is being removed.
fn put_mark(world: &World, slot: &KeyId, by: u8) -> ObjectKey {
    let by = LeaseId::new([by; 16]);
    let key = layout::going(slot, &by).unwrap();
    let record = MarkRecord { lease: by, by: "removed on attic".to_owned() };
    world.repository.store().put(ObjectKind::Revoke, &key, &record).unwrap();
    key
}

fn rot(world: &World, key: &ObjectKey) {
    let mut bytes = world.backend.objects()[key].clone();
    bytes[40] ^= 1;
    world.backend.insert_raw(key, bytes);
}

#[test]
fn a_removal_that_was_begun_is_told_of_only_where_its_mark_can_be_read() {
    let mut world = World::encrypted();
    let slot = mine(&world.repository);
    let marks =
        [put_mark(&world, &slot, 1), put_mark(&world, &slot, 2), put_mark(&world, &slot, 3)];
    rot(&world, &marks[1]);
    let (odd, backend) = (world.make_odd(), Arc::clone(&world.backend));
    let goes = marks[2].clone();
    odd.between(move |operation, name| {
        let is_it = operation == Operation::Get && name == goes.as_str();
        if is_it {
            backend.delete(&goes).unwrap();
        }
        !is_it
    });

    let found = findings(&world);

    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (found[0].object.as_str(), found[0].severity),
        (marks[1].as_str(), Severity::Damage)
    );
    assert!(!found[0].message.contains("was begun"), "{found:?}");
    assert_eq!((found[1].object.as_str(), found[1].severity), (marks[0].as_str(), Severity::Note));
    assert!(found[1].message.contains("was begun"), "{found:?}");
}

#[test]
fn a_mark_that_rotted_goes_with_a_repair() {
    let world = World::encrypted();
    let first = mine(&world.repository);
    let second = world.repository.add_key(&secret("second"), CHEAP, "", NOW).unwrap();
    rot(&world, &put_mark(&world, &KeyId::new([1; 16]), 1));
    let of_a_slot = put_mark(&world, &second, 2);
    rot(&world, &of_a_slot);

    let report = mend(&world);

    assert!(report.is_whole() && report.actions.len() == 2, "{report:?}");
    let found = findings(&world);
    assert!(found.iter().all(|finding| finding.severity == Severity::Note), "{found:?}");
    // Who removes it may sleep: nobody must count on it because of a repair.
    let marks = keys(&world, "keys/").into_iter().filter(|key| key.contains(".going-"));
    let marks: Vec<String> = marks.collect();
    assert!(marks.len() == 1 && marks[0].starts_with(&format!("keys/{second}")), "{marks:?}");
    assert_ne!(marks[0], of_a_slot.as_str());
    let error = world.repository.remove_key(&first.to_string()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert!(mend(&world).actions.is_empty());
}

//! Numbers at the ends of their ranges: refused or borne, never a panic and never wrapped.

use crate::hostile::forge::NOW;
use crate::hostile::forge::back_up;
use crate::hostile::forge::back_up_edited;
use crate::hostile::forge::key;
use crate::hostile::forge::put;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Argon2Cost;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::list;
use icecore::engine::stats;
use icecore::format::dataset::FloorRecord;
use icecore::format::dataset::HiddenRecord;
use icecore::format::dataset::NameRecord;
use icecore::format::dataset::VoidRecord;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;

fn run_check(world: &World) -> check::CheckReport {
    check::run(&world.repository, &CheckOptions::default(), &world.context()).expect("checks")
}

#[test]
fn a_key_slot_that_asks_for_all_lanes_is_refused() {
    let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: u32::MAX };
    assert_eq!(cost.check().expect_err("absurd").kind(), ErrorKind::Corrupt);
}

/// Much memory, or many passes, but not both: 64 such slots were an hour.
#[test]
fn a_key_slot_that_asks_for_minutes_is_refused() {
    let cost = |memory_kib, passes| Argon2Cost { memory_kib, passes, lanes: 1 };
    assert_eq!(cost(1 << 20, 64).check().expect_err("absurd").kind(), ErrorKind::Corrupt);
    assert!(cost(1 << 20, 4).check().is_ok());
    assert!(cost(1 << 16, 64).check().is_ok());
}

/// A floor at the end of all numbers, and a void there: the number after it does not exist.
#[test]
fn the_last_of_all_numbers_is_no_reason_to_panic() {
    for world in World::both() {
        back_up(&world, Vec::new());
        let dataset = world.repository.dataset(&world.name()).expect("there");
        let top = layout::dataset(&dataset.id()).expect("a folder");
        let last = u64::MAX;
        let floor = FloorRecord { floor: last, remaining: vec![last], written: NOW };
        put(&world, ObjectKind::Floor, &key(format!("{top}/floor-{last}")), &floor);
        let void = VoidRecord { number: last, reason: String::new(), written: NOW };
        let at = layout::header(&dataset.id(), BackupId(last)).expect("a key");
        put(&world, ObjectKind::Void, &at, &void);
        let hidden = HiddenRecord { number: last, written: NOW };
        put(&world, ObjectKind::Hidden, &key(format!("{at}.hidden")), &hidden);

        let error =
            world.backup(&MemorySource::new("memory")).expect_err("there is no further number");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        let _ = dataset.all_numbers();
        run_check(&world);
    }
}

/// Folders of numbers whose first number is beyond all numbers.
#[test]
fn folders_beyond_all_numbers_are_refused() {
    for world in World::both() {
        back_up(&world, Vec::new());
        let dataset = world.repository.dataset(&world.name()).expect("there");
        let top = layout::dataset(&dataset.id()).expect("a folder");
        let last = u64::MAX;
        let floor = FloorRecord { floor: last, remaining: vec![], written: NOW };
        put(&world, ObjectKind::Floor, &key(format!("{top}/floor-{last}")), &floor);
        for thousand in [last / 1000, last / 1000 + 1] {
            world.backend.insert_raw(&key(format!("{top}/{thousand}/x")), vec![]);
        }
        let error = dataset.newest_numbers().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        run_check(&world);
    }
}

#[test]
fn a_name_given_up_for_the_last_time_is_refused() {
    for world in World::both() {
        let folder = world.repository.name_folder(&world.name()).expect("a folder");
        let record = NameRecord { name: world.name(), dataset: None, written: NOW };
        put(&world, ObjectKind::Name, &key(format!("{folder}/{}", u64::MAX)), &record);
        let error = world.repository.dataset_or_new(&world.name(), NOW).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
}

/// What headers count is only told, and adds up to more than there are numbers.
#[test]
fn absurd_counts_add_up_without_a_panic() {
    for world in World::both() {
        for bytes in [u64::MAX, 1 << 63, 1] {
            back_up_edited(&world, Vec::new(), |header| {
                let counts = &mut header.counts;
                (counts.bytes, counts.files, counts.entries) = (bytes, bytes, bytes);
                (counts.stored_bytes, counts.new_bytes) = (bytes, bytes);
            });
        }
        let stats = stats::run(&world.repository).expect("counts");
        assert_eq!(stats.logical_bytes, u64::MAX);
        assert_eq!(list::datasets(&world.repository).expect("lists")[0].stored_bytes, u64::MAX);
        let report = run_check(&world);
        assert!(!report.findings.is_empty(), "the headers lie");
    }
}

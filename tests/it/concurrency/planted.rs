//! Each rule of the protocol, left out, is missed: the search finds what then goes wrong.
//!
//! `cargo test --features planted --test it concurrency::planted`. Every test leaves rules out,
//! looks for a backup that is lost or cannot be read, and must find one within its bound; then it
//! goes through as many schedules with all rules kept, and must find none. The numbers are those
//! of the counterexamples that the model of the protocol gives.

use crate::concurrency::Class;
use crate::concurrency::actors::Actor;
use crate::concurrency::actors::Deed;
use crate::concurrency::explore::Bounds;
use crate::concurrency::explore::Explorer;
use crate::concurrency::explore::Scenario;
use crate::concurrency::forgetter;
use crate::concurrency::pruner;
use crate::concurrency::reader;
use crate::concurrency::repacker;
use crate::concurrency::second_writer;
use crate::concurrency::time::Stamps;
use crate::concurrency::world::World;
use crate::concurrency::writer;
use icecore::base::planted;
use icecore::base::planted::Rule;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Rules are left out in the whole process, so one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Returns what a test holds while it leaves rules out.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Schedules within which a violation has to be found.
const BOUND: usize = 10_000;

fn bounds(schedules: usize) -> Bounds {
    let planned = schedules / 4;
    Bounds { preemptions: 3, schedules, planned, recover_each: usize::MAX }
}

/// Looks for a violation with rules left out, then with all of them kept.
fn misses(title: &'static str, rules: &[Rule], make: impl Fn() -> (World, Vec<Actor>)) {
    misses_by(title, rules, Stamps::Counted, make);
}

/// The same with a store that tells the time in its own way.
fn misses_by(
    title: &'static str,
    rules: &[Rule],
    stamps: Stamps,
    make: impl Fn() -> (World, Vec<Actor>),
) {
    let _one = alone();
    let explore = |rules: &[Rule], schedules: usize| {
        planted::switch_off(rules);
        let (world, actors) = make();
        let scenario = Scenario { title, world, actors, stamps };
        let mut explorer = Explorer::new(&scenario, bounds(schedules));
        let violation = explorer.explore();
        planted::switch_off(&[]);
        (violation, explorer.tally.schedules)
    };
    let (violation, schedules) = explore(rules, BOUND);
    let Some(violation) = violation else {
        panic!("{title}: nothing is missed without {rules:?} in {schedules} schedules");
    };
    eprintln!("{title}: found after {schedules} schedules: {}", violation.what);
    let (violation, _) = explore(&[], schedules);
    if let Some(violation) = violation {
        panic!("with all rules kept: {}", violation.tell(title));
    }
}

fn world(class: Class) -> World {
    World::new(class == Class::A, &["first", "second"])
}

/// One whose newest backup is forgotten.
fn hidden(class: Class) -> World {
    let world = world(class);
    world.hide(1);
    world
}

fn forget(n: u64) -> Actor {
    Actor::new('F', Deed::Forget(n))
}

#[test]
fn n1_a_lease_is_ended_by_deleting_it() {
    misses("N1", &[Rule::VoidsTheDead], || {
        (world(Class::A), vec![writer().looking_dead(), pruner(), forgetter()])
    });
}

#[test]
fn n2_names_of_packs_come_again() {
    misses("N2", &[Rule::SaltsPacks], || {
        (hidden(Class::A), vec![Actor::new('W', Deed::Backup("again")), pruner()])
    });
}

#[test]
fn n3_a_lease_does_not_pin_its_parent() {
    misses("N3", &[Rule::PinsParents], || {
        (world(Class::A), vec![writer(), pruner(), repacker(), forgetter()])
    });
}

#[test]
fn n4_the_parent_is_not_looked_at_again() {
    misses("N4", &[Rule::LooksAgain], || (world(Class::A), vec![writer(), pruner(), forgetter()]));
}

#[test]
fn n5_what_is_there_is_asked_before_the_tombstones() {
    misses("N5", &[Rule::TombstonesFirst], || (hidden(Class::A), vec![writer(), pruner()]));
}

#[test]
fn n5_the_index_is_trusted_and_no_tombstone() {
    misses("N5, tombstones", &[Rule::ShunsTheDoomed], || {
        (hidden(Class::A), vec![writer(), pruner()])
    });
}

#[test]
fn n6_a_tombstone_is_taken_back() {
    misses("N6", &[Rule::KeepsDoom], || {
        let world = World::new(true, &["first", "second", "third"]);
        world.hide(1);
        world.doom_second_pack();
        (world, vec![second_writer(), pruner(), repacker(), forget(2)])
    });
}

#[test]
fn n7_two_prunes_choose_each_others_copy() {
    misses("N7", &[Rule::CopiesToTheLiving], || {
        (World::with_copies(false), vec![Actor::new('P', Deed::Prune(100.0)), repacker()])
    });
}

#[test]
fn n8_numbers_are_free_again() {
    misses("N8", &[Rule::KeepsNumbers], || {
        (
            hidden(Class::A),
            vec![writer().looking_dead(), second_writer().looking_dead(), pruner(), forget(2)],
        )
    });
}

#[test]
fn n9_a_prune_does_not_wait_for_leases() {
    misses("N9", &[Rule::WaitsForLeases], || (hidden(Class::A), vec![writer(), pruner()]));
}

#[test]
fn n10_a_reader_pins_nothing() {
    misses("N10", &[Rule::PinsParents], || {
        (world(Class::A), vec![reader(), pruner(), repacker(), forgetter()])
    });
}

#[test]
fn a_lease_is_over_when_a_clock_says_so() {
    misses("clocks", &[Rule::DistrustsClocks], || {
        (hidden(Class::A), vec![writer().looking_dead(), pruner()])
    });
}

#[test]
fn class_b_a_lease_is_voided_without_asking() {
    misses("B0", &[Rule::AsksBeforeVoid], || {
        (hidden(Class::B), vec![writer().looking_dead(), pruner()])
    });
}

#[test]
fn class_b_a_writer_does_not_look_for_marks() {
    misses("B0b", &[Rule::RereadsMarks], || {
        (hidden(Class::B), vec![writer().looking_dead(), pruner()])
    });
}

#[test]
fn class_b_a_rival_is_not_ended() {
    misses("rivals", &[Rule::EndsRivals], || {
        (world(Class::B), vec![writer().looking_dead(), second_writer().looking_dead()])
    });
}

#[test]
fn a_row_is_lost_when_indexes_are_replaced() {
    misses("rows", &[Rule::KeepsRows], || {
        let world = World::new(true, &["first", "second", "other"]);
        world.merge_indexes();
        (world, vec![writer(), repacker(), forgetter()])
    });
}

#[test]
fn a_sleeper_is_over_when_a_clock_says_so() {
    misses_by("clocks, asleep", &[Rule::DistrustsClocks], Stamps::Told, || {
        let pruner = Actor::new('Q', Deed::PruneTwice).on("beta", 5);
        (hidden(Class::A), vec![writer().on("alpha", -3), pruner, Actor::new('D', Deed::Sleep(1))])
    });
}

#[test]
fn a_copy_pins_nothing() {
    misses("copies", &[Rule::PinsParents], || {
        (world(Class::A), vec![Actor::new('O', Deed::CopyOut), repacker(), forgetter()])
    });
}

#[test]
fn a_password_goes_whoever_removes_the_other() {
    misses("passwords", &[Rule::KeepsAPassword], || {
        let remover = |letter, slot| Actor::new(letter, Deed::ChangeKeys(None, slot));
        (World::encrypted(true), vec![remover('K', 0), remover('L', 1)])
    });
}

#[test]
fn a_check_looks_only_once() {
    misses("checks", &[Rule::ChecksTwice], || {
        (world(Class::A), vec![Actor::new('H', Deed::Check), repacker(), forgetter()])
    });
}

//! Copies, repairs, checks, parity and changes of passwords beside backups, prunes and each other.

use crate::concurrency::Class;
use crate::concurrency::actors::Actor;
use crate::concurrency::actors::Deed;
use crate::concurrency::explore::Scenario;
use crate::concurrency::forgetter;
use crate::concurrency::hold;
use crate::concurrency::hold_in;
use crate::concurrency::pruner;
use crate::concurrency::repacker;
use crate::concurrency::second_writer;
use crate::concurrency::time::Stamps;
use crate::concurrency::world::World;
use crate::concurrency::writer;

fn copier_out() -> Actor {
    Actor::new('O', Deed::CopyOut)
}

fn copier_in() -> Actor {
    Actor::new('I', Deed::CopyIn)
}

fn checker() -> Actor {
    Actor::new('H', Deed::Check)
}

fn repairer() -> Actor {
    Actor::new('X', Deed::Repair)
}

fn protector() -> Actor {
    Actor::new('Y', Deed::AddParity)
}

/// Removes one of two passwords, and may add another first.
fn locksmith(letter: char, add: Option<&'static str>, slot: usize) -> Actor {
    Actor::new(letter, Deed::ChangeKeys(add, slot))
}

fn hold_world(title: &'static str, schedules: usize, world: World, actors: Vec<Actor>) {
    hold_in(Scenario { title, world, actors, stamps: Stamps::Counted }, schedules);
}

/// Holds copies into a repository beside whom they may meet there.
fn hold_copies(class: Class, title: &'static str, schedules: usize, actors: Vec<Actor>) {
    let world = World::new(class == Class::A, &["first", "second"]).and_elsewhere();
    hold_world(title, schedules, world, actors);
}

#[test]
fn a_copy_of_it_a_prune_and_a_forgetter() {
    hold(Class::A, "O+Q+F", 80, vec![copier_out(), repacker(), forgetter()]);
}

#[test]
fn class_b_a_copy_of_it_a_prune_and_a_forgetter() {
    hold(Class::B, "O+Q+F", 40, vec![copier_out(), repacker(), forgetter()]);
}

#[test]
fn a_copy_into_it_and_a_writer_that_take_each_other_for_dead() {
    let actors = vec![writer().looking_dead(), copier_in().looking_dead(), forgetter()];
    hold_copies(Class::A, "W(dead)+I(dead)+F", 80, actors);
}

#[test]
fn a_copy_into_it_that_a_prune_takes_for_dead() {
    let actors = vec![copier_in().looking_dead(), repacker(), forgetter()];
    hold_copies(Class::A, "I(dead)+Q+F", 80, actors);
}

#[test]
fn class_b_a_copy_into_it_a_writer_and_a_prune() {
    let actors = vec![writer().looking_dead(), copier_in().looking_dead(), pruner(), forgetter()];
    hold_copies(Class::B, "W(dead)+I(dead)+P+F", 60, actors);
}

#[test]
fn two_copies_into_it() {
    let second = Actor::new('J', Deed::CopyIn).looking_dead();
    hold_copies(Class::A, "I(dead)+J(dead)", 60, vec![copier_in().looking_dead(), second]);
}

#[test]
fn a_check_a_prune_and_a_forgetter() {
    hold(Class::A, "H+Q+F", 100, vec![checker(), repacker(), forgetter()]);
}

#[test]
fn a_check_two_writers_that_take_each_other_for_dead() {
    let actors = vec![checker(), writer().looking_dead(), second_writer().looking_dead()];
    hold(Class::A, "H+W(dead)+V(dead)", 60, actors);
}

#[test]
fn class_b_a_check_a_writer_and_a_prune() {
    hold(
        Class::B,
        "H+W(dead)+Q+F",
        60,
        vec![checker(), writer().looking_dead(), repacker(), forgetter()],
    );
}

#[test]
fn a_repair_of_what_is_sound_a_prune_and_a_forgetter() {
    hold(Class::A, "X+Q+F", 100, vec![repairer(), repacker(), forgetter()]);
}

#[test]
fn a_repair_of_what_is_sound_and_a_writer() {
    hold(Class::A, "X+W+F", 60, vec![repairer(), writer().looking_dead(), forgetter()]);
}

#[test]
fn class_b_a_repair_of_what_is_sound_a_writer_and_a_prune() {
    hold(
        Class::B,
        "X+W(dead)+Q",
        60,
        vec![repairer(), writer().looking_dead(), repacker(), forgetter()],
    );
}

#[test]
fn a_repair_of_a_bad_copy_a_writer_and_a_prune() {
    let actors = vec![repairer(), writer().looking_dead(), repacker()];
    hold_world("X+W(dead)+Q, bad copy", 80, World::with_copies(true), actors);
}

#[test]
fn two_repairs_of_a_bad_copy_and_a_prune() {
    let actors = vec![repairer(), Actor::new('Z', Deed::Repair), repacker()];
    hold_world("X+Z+Q, bad copy", 60, World::with_copies(true), actors);
}

#[test]
fn parity_a_prune_and_a_forgetter() {
    hold(Class::A, "Y+Q+F", 60, vec![protector(), repacker(), forgetter()]);
}

#[test]
fn parity_that_comes_and_goes_and_a_writer() {
    let remover = Actor::new('Z', Deed::RemoveParity);
    hold(Class::A, "Y+Z+W+Q", 50, vec![protector(), remover, writer(), repacker()]);
}

#[test]
fn each_removes_the_password_that_the_other_leaves() {
    for class_a in [true, false] {
        let actors = vec![locksmith('K', None, 0), locksmith('L', None, 1)];
        hold_world("K+L", 60, World::encrypted(class_a), actors);
    }
}

#[test]
fn passwords_change_beside_a_writer_and_a_prune() {
    let actors = vec![
        locksmith('K', Some("three"), 0),
        locksmith('L', Some("four"), 1),
        writer(),
        repacker(),
    ];
    hold_world("K+L+W+Q", 60, World::encrypted(true), actors);
}

#[test]
fn three_remove_two_passwords() {
    let third = locksmith('M', Some("three"), 0);
    let actors = vec![locksmith('K', None, 0), locksmith('L', None, 1), third];
    hold_world("K+L+M", 80, World::encrypted(true), actors);
}

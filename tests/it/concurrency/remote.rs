//! Stores that are far: replies that are lost, calls that come late, uploads that are seen
//! half-way; and machines that sleep, or whose clocks are wrong.

use crate::concurrency::Class;
use crate::concurrency::actors::Actor;
use crate::concurrency::actors::Deed;
use crate::concurrency::backend::Ways;
use crate::concurrency::explore::Scenario;
use crate::concurrency::forgetter;
use crate::concurrency::hold;
use crate::concurrency::hold_in;
use crate::concurrency::reader;
use crate::concurrency::repacker;
use crate::concurrency::scenario;
use crate::concurrency::second_writer;
use crate::concurrency::time::Stamps;
use crate::concurrency::writer;

const PACKS: Ways = Ways::Late(&["packs/", "index/"]);
const LEASES: Ways = Ways::Late(&["leases/", "tombstones/"]);
const HEADERS: Ways = Ways::Late(&["datasets/"]);

fn network() -> Actor {
    Actor::new('N', Deed::Network)
}

/// A day passes, at any moment.
fn day() -> Actor {
    Actor::new('D', Deed::Sleep(1))
}

/// All write in these ways; what comes late is brought by the last.
fn all_by(ways: Ways, actors: Vec<Actor>) -> Vec<Actor> {
    let actors = actors.into_iter().map(|actor| actor.by(ways));
    actors.chain([network()]).collect()
}

fn hold_days(
    class: Class,
    title: &'static str,
    schedules: usize,
    stamps: Stamps,
    actors: Vec<Actor>,
) {
    hold_in(Scenario { stamps, ..scenario(class, title, actors) }, schedules);
}

fn writer_prune_and_forgetter() -> Vec<Actor> {
    vec![writer().looking_dead(), repacker(), forgetter()]
}

#[test]
fn every_reply_is_lost() {
    for (class, title) in [(Class::A, "lost replies: W+Q+F"), (Class::B, "lost replies: W+Q+F")] {
        let actors = writer_prune_and_forgetter();
        let actors = actors.into_iter().map(|actor| actor.by(Ways::LosesReplies));
        hold(class, title, 50, actors.collect());
    }
}

#[test]
fn every_reply_to_two_writers_is_lost() {
    for class in [Class::A, Class::B] {
        let actors = [writer().looking_dead(), second_writer().looking_dead().warm()];
        let actors = actors.map(|actor| actor.by(Ways::LosesReplies));
        hold(class, "lost replies: W(dead)+V(dead)", 40, actors.to_vec());
    }
}

#[test]
fn packs_and_indexes_come_late() {
    for class in [Class::A, Class::B] {
        let actors = all_by(PACKS, writer_prune_and_forgetter());
        hold(class, "late packs: W(dead)+Q+F", 60, actors);
    }
}

#[test]
fn leases_and_tombstones_come_late() {
    for class in [Class::A, Class::B] {
        let actors = all_by(LEASES, writer_prune_and_forgetter());
        hold(class, "late leases: W(dead)+Q+F", 60, actors);
    }
}

#[test]
fn headers_markers_and_floors_come_late() {
    for class in [Class::A, Class::B] {
        let actors = all_by(HEADERS, writer_prune_and_forgetter());
        hold(class, "late headers: W(dead)+Q+F", 60, actors);
        let writers = vec![writer().looking_dead(), second_writer().looking_dead(), forgetter()];
        hold(class, "late headers: W(dead)+V(dead)+F", 40, all_by(HEADERS, writers));
    }
}

#[test]
fn uploads_are_seen_half_way() {
    for class in [Class::A, Class::B] {
        let actors = writer_prune_and_forgetter();
        let actors = actors.into_iter().map(|actor| actor.by(Ways::Staged));
        hold(class, "staged: W(dead)+Q+F", 40, actors.collect());
    }
}

#[test]
fn a_writer_sleeps_for_a_day_beside_a_prune() {
    for class in [Class::A, Class::B] {
        for stamps in [Stamps::Told, Stamps::Untold] {
            let pruner = Actor::new('Q', Deed::PruneTwice).on("beta", 5);
            let actors = vec![writer().on("alpha", -3), pruner, forgetter().on("beta", 5), day()];
            hold_days(class, "asleep: W+Q+F+D", 60, stamps, actors);
        }
    }
}

#[test]
fn writers_of_one_dataset_sleep_for_a_day() {
    for class in [Class::A, Class::B] {
        let actors = vec![writer().on("alpha", 7), second_writer().on("beta", -7), day()];
        hold_days(class, "asleep: W+V+D", 60, Stamps::Told, actors);
    }
}

#[test]
fn a_prune_sleeps_for_a_day_beside_another() {
    let first = Actor::new('P', Deed::PruneTwice).on("alpha", 0);
    let second = Actor::new('Q', Deed::PruneTwice).on("beta", 11);
    let actors = vec![writer().on("gamma", -11), first, second, day(), forgetter()];
    hold_days(Class::A, "asleep: W+P+Q+D+F", 60, Stamps::Told, actors);
}

#[test]
fn a_reader_sleeps_for_a_day_beside_a_prune() {
    let pruner = Actor::new('Q', Deed::PruneTwice).on("beta", 5);
    let actors = vec![reader().on("alpha", 0), pruner, forgetter(), day()];
    hold_days(Class::A, "asleep: R+Q+F+D", 60, Stamps::Told, actors);
}

#[test]
fn clocks_run_backwards() {
    for stamps in [Stamps::Told, Stamps::Untold] {
        let pruner = Actor::new('Q', Deed::PruneTwice).on_backward("beta");
        let twice = Actor::new('D', Deed::Sleep(2));
        let actors = vec![writer().on_backward("alpha"), pruner, forgetter(), twice];
        hold_days(Class::A, "backwards: W+Q+F+D", 60, stamps, actors);
    }
}

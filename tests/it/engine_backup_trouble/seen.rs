//! What a machine remembers of a dataset while another of its runs puts a backup into it: the store
//! never seems to show less than it did.

use crate::engine_backup_trouble::source;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::repository::transaction::Transaction;
use std::sync::Arc;
use std::sync::Mutex;

type Event = Box<dyn FnOnce() + Send>;

/// Lets something happen right behind one call, before its answer is told.
struct Behind {
    is_it: fn(&Call<'_>) -> bool,
    /// How many such calls are passed over, and what happens then.
    event: Arc<Mutex<Option<(usize, Event)>>>,
}

impl Around for Behind {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let done = work();
        if (self.is_it)(&call) {
            let mut event = self.event.lock().unwrap();
            let due = match event.take() {
                Some((0, due)) => Some(due),
                Some((left, later)) => {
                    *event = Some((left - 1, later));
                    None
                }
                None => None,
            };
            drop(event);
            due.into_iter().for_each(|due| due());
        }
        done
    }
}

fn lists_numbers(call: &Call<'_>) -> bool {
    call.operation == Operation::List && call.key.starts_with("datasets/")
}

fn puts_a_header(call: &Call<'_>) -> bool {
    call.operation == Operation::PutNew && call.key.starts_with("datasets/")
}

/// Does something while another run on the same cache makes a backup behind one of the calls.
/// Returns false when there are not so many.
fn beside_a_backup(
    mut world: World,
    (is_it, nth): (fn(&Call<'_>) -> bool, usize),
    work: impl FnOnce(&World),
) -> bool {
    world.backup(&source()).unwrap();
    let event = Arc::new(Mutex::new(None));
    let behind = Behind { is_it, event: Arc::clone(&event) };
    world.wrap(|inner| Arc::new(Wrapper::around(inner, behind)));
    let beside = world.open_beside(Arc::clone(&world.backend) as Arc<dyn Backend>);
    let name = world.name();
    let other: Event = Box::new(move || {
        let clock = FixedClock::new(Timestamp::new(1_800_000_100, 0));
        let cancel = Cancel::new();
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
        let source = source().file("other", b"other");
        let made = backup::run(&beside, &name, &source, &BackupOptions::default(), &context);
        // A writer at work is waited for.
        let kind = made.err().map(|e| e.kind());
        assert!(matches!(kind, None | Some(ErrorKind::Busy)), "{kind:?}");
    });
    *event.lock().unwrap() = Some((nth, other));
    work(&world);
    event.lock().unwrap().is_none()
}

fn beside_each(make: fn() -> World, calls_min: usize, work: fn(&World)) {
    let mut nth = 0;
    while beside_a_backup(make(), (lists_numbers, nth), work) {
        nth += 1;
    }
    assert!(nth >= calls_min, "{nth}");
}

const BOTH: [fn() -> World; 2] = [World::memory, World::class_b];

#[test]
fn a_backup_begins_beside_one_that_is_put_while_it_lists() {
    for make in BOTH {
        beside_each(make, 4, |world| {
            let dataset = world.repository.dataset(&world.name()).unwrap();
            let begun = Transaction::begin(&dataset, world.clock.now()).expect("begins");
            assert!([1, 2].contains(&begun.number().0));
            begun.abandon();
        });
    }
}

#[test]
fn a_backup_that_stands_is_told_though_another_follows_at_once() {
    let happened = beside_a_backup(World::memory(), (puts_a_header, 0), |world| {
        let made = world.backup(&source().file("new", b"new")).expect("it stands");
        assert_eq!(made.backup.0, 1);
        assert_eq!(keys(world, "leases/"), [""; 0]);
        assert_eq!(world.sound_backups(), 3);
    });
    assert!(happened);
}

#[test]
fn a_prune_takes_no_dataset_for_lost_that_grows_while_it_lists() {
    for make in BOTH {
        beside_each(make, 4, |world| {
            let pruned = try_prune(world, false);
            assert!(pruned.is_ok(), "{pruned:?}");
        });
    }
}

#[test]
fn a_check_and_a_repair_miss_no_backup_that_comes_while_they_list() {
    for make in BOTH {
        beside_each(make, 4, |world| {
            let options = CheckOptions::default();
            let checked = check::run(&world.repository, &options, &world.context()).unwrap();
            assert!(checked.is_ok(), "{:?}", checked.findings);
        });
        beside_each(make, 4, |world| {
            let options = RepairOptions::default();
            let plan = repair::plan(&world.repository, &options, &world.context()).unwrap();
            assert!(plan.actions.is_empty() && plan.lost.is_empty(), "{plan:?}");
            assert!(plan.unrepaired.is_empty(), "{plan:?}");
        });
    }
}

//! Sessions with one server: used again, limited, and replaced when the server hung up.

use crate::support::files::Cut;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::ways::FTP;
use crate::support::ways::Ways;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::Clock;
use icecore::base::time::FixedClock;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::time::Duration;

const QUIET: i64 = 30;

struct World {
    server: Arc<Server>,
    pool: Arc<Pool>,
    clock: Arc<FixedClock>,
    _folder: Folder,
}

fn world(ways: Ways, sessions_max: usize) -> World {
    let folder = Folder::new();
    let server = Server::new(folder.path(), ways);
    let clock = Arc::new(FixedClock::new(Timestamp::new(1_800_000_000, 0)));
    let options = PoolOptions { sessions_max, quiet_seconds: QUIET, ..PoolOptions::default() };
    let door = Arc::new(Door(Arc::clone(&server)));
    let pool = Pool::new(door, Arc::clone(&clock) as Arc<dyn Clock>, options);
    World { server, pool, clock, _folder: folder }
}

fn ask(files: &mut dyn Files) -> icecore::base::error::Result<()> {
    files.look_at(b"x").map(|look| assert!(look.is_none()))
}

#[test]
fn a_session_is_used_again() {
    let world = world(FTP, 4);
    for _ in 0..5 {
        world.pool.with(ask).unwrap();
    }
    assert_eq!(world.server.sessions(), (1, 1));
}

#[test]
fn no_more_sessions_are_opened_than_allowed_and_all_of_them() {
    let world = world(FTP, 3);
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let barrier = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for number in 0..9 {
            let (world, running, most, barrier) = (&world, &running, &most, &barrier);
            scope.spawn(move || {
                let work = |files: &mut dyn Files| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Three have to be at work at once for any of the first three to end.
                    if number < 3 {
                        barrier.wait();
                    }
                    ask(files)?;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                if number >= 3 {
                    // Those that are to meet go first.
                    while most.load(Ordering::SeqCst) < 3 {
                        std::thread::yield_now();
                    }
                }
                world.pool.with(work).unwrap();
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(world.server.sessions(), (3, 3));
}

#[test]
fn a_server_that_lets_no_more_in_lowers_the_limit() {
    let world = world(Ways { sessions_max: 2, ..FTP }, 8);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    world.pool.with(ask).unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 160);
    let taken = [world.pool.take().unwrap(), world.pool.take().unwrap()];
    assert!(world.pool.sessions_max() >= 2);
    std::thread::scope(|scope| {
        let third = scope.spawn(|| world.pool.with(ask));
        while world.pool.sessions_max() > 2 {
            std::thread::yield_now();
        }
        taken.into_iter().for_each(icecore::net::pool::Taken::give_back);
        third.join().unwrap().unwrap();
    });
    assert_eq!(world.server.sessions().1, 2);
}

/// After ten minutes it was an error as of a server that is silent, and ended a restore whose files
/// each took longer to send.
#[test]
fn who_waits_for_a_session_waits_until_somebody_asks_to_stop() {
    let world = world(FTP, 1);
    let cancel = Cancel::new();
    let door = Arc::new(Door(Arc::clone(&world.server)));
    let options = PoolOptions { sessions_max: 1, ..PoolOptions::default() };
    let pool = Pool::stoppable(door, Arc::new(SystemClock), options, cancel.clone());
    let held = pool.take().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.take().map(drop));
        cancel.cancel();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    // What is to be cleaned up needs no wait.
    held.give_back();
    pool.with(ask).unwrap();
}

#[test]
fn with_no_session_at_all_too_many_is_an_error() {
    let world = world(Ways { sessions_max: 0, ..FTP }, 4);
    assert_eq!(world.pool.with(ask).unwrap_err().kind(), ErrorKind::RateLimited);
    assert_eq!(world.pool.sessions_max(), 4);
}

#[test]
fn an_idle_session_is_asked_first_and_replaced_when_dead() {
    let world = world(FTP, 4);
    world.pool.with(ask).unwrap();
    world.clock.advance(QUIET - 1);
    world.pool.with(ask).unwrap();
    assert_eq!(world.server.calls(), ["look x", "look x"]);

    world.clock.advance(QUIET);
    world.pool.with(ask).unwrap();
    assert_eq!(world.server.calls()[2..], ["keep_alive ", "look x"]);
    assert_eq!(world.server.sessions().0, 1);

    world.server.hang_up();
    world.clock.advance(QUIET);
    world.pool.with(ask).expect("on a new session");
    assert_eq!(world.server.sessions(), (2, 1));
}

#[test]
fn a_clock_that_was_set_back_means_asking_first() {
    let world = world(FTP, 4);
    world.pool.with(ask).unwrap();
    world.clock.advance(-1000);
    world.pool.with(ask).unwrap();
    assert_eq!(world.server.calls(), ["look x", "keep_alive ", "look x"]);
}

#[test]
fn what_may_be_repeated_is_done_again_where_the_server_had_hung_up() {
    let world = world(FTP, 4);
    let both = [world.pool.take().unwrap(), world.pool.take().unwrap()];
    both.into_iter().for_each(icecore::net::pool::Taken::give_back);
    world.server.hang_up();
    world.pool.repeatable(|files| ask(files)).expect("done again");
    assert_eq!(world.server.sessions(), (3, 2));
    // The other dead one is not met any more.
    world.server.cut(None);
    world.pool.with(ask).unwrap();
    world.pool.with(ask).unwrap();
    assert_eq!(world.server.calls().len(), 2);
}

#[test]
fn what_may_not_be_repeated_is_not() {
    let world = world(FTP, 4);
    world.pool.with(ask).unwrap();
    world.server.hang_up();
    assert_eq!(world.pool.with(ask).unwrap_err().kind(), ErrorKind::Unreachable);
    world.pool.with(ask).expect("the dead one is gone");
}

#[test]
fn a_new_session_that_breaks_is_an_error_at_once() {
    let world = world(FTP, 4);
    world.server.cut(Some(Cut::Before(1)));
    let mut times = 0;
    let outcome = world.pool.repeatable(|files| {
        times += 1;
        ask(files)
    });
    assert_eq!((outcome.unwrap_err().kind(), times), (ErrorKind::Unreachable, 1));
}

#[test]
fn a_refusal_keeps_the_session_and_a_panic_does_not() {
    let world = world(FTP, 1);
    assert!(world.pool.with(|files| files.open(b"none", 0)).is_err());
    world.pool.with(ask).unwrap();
    assert_eq!(world.server.sessions().0, 1);
    let pool = Arc::clone(&world.pool);
    let panicked = std::thread::spawn(move || {
        pool.with(|_| -> icecore::base::error::Result<()> { panic!("planted") })
    });
    assert!(panicked.join().is_err());
    world.pool.with(ask).expect("its room came free");
    assert_eq!(world.server.sessions(), (2, 1));
}

#[test]
fn a_first_connection_that_breaks_at_once_is_made_once_more() {
    let world = world(FTP, 4);
    world.server.cut(Some(Cut::Before(1)));
    world.pool.meet(ask).unwrap();
    assert_eq!(world.server.sessions().0, 2);

    let slow = self::world(FTP, 4);
    slow.server.cut(Some(Cut::Before(1)));
    let met = slow.pool.meet(|files| {
        slow.clock.advance(5);
        ask(files)
    });
    assert_eq!(met.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(slow.server.sessions().0, 1, "what takes its time is not waited for twice");

    let dead = self::world(FTP, 4);
    dead.server.die_at(1);
    assert_eq!(dead.pool.meet(ask).unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(dead.server.sessions().0, 2, "once more, and no more");
}

/// Lets each login wait until it is let in, and tells that one waits.
struct SlowDoor {
    door: Door,
    waits: Mutex<Sender<()>>,
    let_in: Mutex<Receiver<()>>,
}

impl Connect for SlowDoor {
    fn connect(&self) -> Result<Box<dyn Files>> {
        self.waits.lock().unwrap().send(()).unwrap();
        self.let_in.lock().unwrap().recv().unwrap();
        self.door.connect()
    }

    fn shown(&self) -> String {
        self.door.shown()
    }
}

/// A pool at a slow door, who waits there, and the key.
fn slow(apart: Duration) -> (Folder, Arc<Server>, Arc<Pool>, Receiver<()>, Sender<()>) {
    let folder = Folder::new();
    let server = Server::new(folder.path(), FTP);
    let (waits, waiting) = channel();
    let (key, let_in) = channel();
    let door = Door(Arc::clone(&server));
    let door = SlowDoor { door, waits: Mutex::new(waits), let_in: Mutex::new(let_in) };
    let options = PoolOptions { apart, ..PoolOptions::default() };
    let pool = Pool::new(Arc::new(door), Arc::new(SystemClock), options);
    (folder, server, pool, waiting, key)
}

#[test]
fn who_waits_for_a_login_takes_what_is_given_back_meanwhile() {
    let (_folder, server, pool, waiting, key) = slow(Duration::from_secs(60));
    key.send(()).unwrap();
    let first = pool.take().unwrap();
    waiting.recv().unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| pool.take().unwrap());
        waiting.recv().unwrap();
        // The second is at the door; whoever comes now waits for it, or for the first.
        let third = scope.spawn(|| pool.with(ask));
        first.give_back();
        third.join().unwrap().unwrap();
        assert_eq!(server.sessions().0, 1);
        key.send(()).unwrap();
        second.join().unwrap().give_back();
    });
    assert_eq!(server.sessions(), (2, 2));
    assert!(waiting.try_recv().is_err(), "nobody else came to the door");
}

#[test]
fn a_login_that_takes_long_is_not_waited_for() {
    let (_folder, server, pool, waiting, key) = slow(Duration::from_millis(1));
    std::thread::scope(|scope| {
        let takes: Vec<_> = (0..2).map(|_| scope.spawn(|| pool.take().unwrap())).collect();
        // Both are at the door before one is let in.
        (0..2).for_each(|_| waiting.recv().unwrap());
        (0..2).for_each(|_| key.send(()).unwrap());
        for take in takes {
            take.join().unwrap().give_back();
        }
    });
    assert_eq!(server.sessions(), (2, 2));
}

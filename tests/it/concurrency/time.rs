//! Clocks of a run: that of the store, those of the machines, and the days that somebody sleeps.

use icecore::backend::Listed;
use icecore::backend::key::ObjectKey;
use icecore::base::id::LeaseId;
use icecore::base::limits::BEAT_SECONDS;
use icecore::base::time::Clock;
use icecore::base::time::Timestamp;
use icecore::repository::layout;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

/// When a run begins, by the clock of the store.
const START: i64 = 1_900_000_000;
/// How long somebody sleeps: far longer than it takes to be taken for dead.
const DAY: i64 = 86_400;
/// What the call of the actor is named that lets a day pass.
pub(super) const TIME: &str = "time";

/// A machine as others see it, and its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub(super) name: &'static str,
    /// Seconds that its clock is before that of the store.
    pub(super) ahead: i64,
    /// Whether its clock runs backwards.
    pub(super) is_backward: bool,
}

/// What a store tells of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    /// A counter, as stores in memory have it: in this scenario time stands still.
    Counted,
    /// When an object was put.
    Told,
    /// Nothing.
    Untold,
}

/// The time of one run.
pub(super) struct Time {
    stamps: Stamps,
    now: AtomicI64,
    put: Mutex<HashMap<ObjectKey, i64>>,
}

impl Time {
    pub(super) fn new(stamps: Stamps) -> Arc<Self> {
        Arc::new(Time { stamps, now: AtomicI64::new(START), put: Mutex::default() })
    }

    pub(super) fn seconds(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Lets a day pass.
    pub(super) fn leap(&self) {
        self.now.fetch_add(DAY, Ordering::SeqCst);
    }

    /// Takes note that an object was put or deleted.
    pub(super) fn note(&self, key: &ObjectKey) {
        self.put.lock().unwrap().insert(key.clone(), self.seconds());
    }

    /// Returns a row of a listing with the time that the store tells.
    pub(super) fn stamp(&self, row: Listed) -> Listed {
        match (row, self.stamps) {
            (Listed::Object(mut object), Stamps::Told) => {
                let put = self.put.lock().unwrap().get(&object.key).copied();
                object.modified = Some(Timestamp::new(put.unwrap_or(START - DAY), 0));
                Listed::Object(object)
            }
            (Listed::Object(mut object), Stamps::Untold) => {
                object.modified = None;
                Listed::Object(object)
            }
            (row, _) => row,
        }
    }
}

/// The clock of one machine.
pub(super) struct MachineClock {
    pub(super) time: Arc<Time>,
    pub(super) machine: Option<Machine>,
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let passed = self.time.seconds() - START;
        let shown = match self.machine {
            Some(machine) if machine.is_backward => START + machine.ahead - passed,
            Some(machine) => START + machine.ahead + passed,
            None => START + passed,
        };
        Timestamp::new(shown, 0)
    }
}

/// The leases that an actor holds, and the signs of life that it has given under each.
#[derive(Default)]
pub(super) struct Beats {
    held: Vec<(LeaseId, u64)>,
    last: i64,
}

impl Beats {
    /// Takes note of a lease that was put.
    pub(super) fn start(&mut self, key: &ObjectKey, now: i64) {
        if self.held.is_empty() {
            self.last = now;
        }
        self.held.push((key.name().parse().unwrap(), 0));
    }

    /// Returns the beats that are due.
    pub(super) fn due(&mut self, now: i64) -> Vec<(LeaseId, u64)> {
        if self.held.is_empty() || now - self.last < BEAT_SECONDS as i64 {
            return Vec::new();
        }
        self.last = now;
        self.held.iter_mut().for_each(|(_, beats)| *beats += 1);
        self.held.clone()
    }

    /// Takes note that a lease is given back; returns the keys of its beats.
    pub(super) fn stop(&mut self, key: &ObjectKey) -> Vec<ObjectKey> {
        let Ok(lease) = key.name().parse::<LeaseId>() else { return Vec::new() };
        let held = self.held.iter().find(|(id, _)| *id == lease).copied();
        self.held.retain(|(id, _)| *id != lease);
        let beats = held.map_or(0, |(_, beats)| beats);
        (1..=beats).map(|beat| layout::beat(&lease, beat).unwrap()).collect()
    }
}

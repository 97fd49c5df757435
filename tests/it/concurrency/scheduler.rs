//! Lets one actor at a time go on, from one backend call to its next.
//!
//! Every call of an actor waits here until it is granted. All other actors stand still meanwhile,
//! so the thread that arrives at a call may decide itself who goes on; when it is its own actor,
//! no other thread has to wake up.

use crate::concurrency::order::Call;
use crate::concurrency::order::Order;
use crate::concurrency::policy::Choice;
use crate::concurrency::policy::Policy;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

/// An actor that neither calls nor ends for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// One call as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) actor: char,
    pub(super) operation: Operation,
    pub(super) name: String,
    pub(super) failed: Option<ErrorKind>,
}

impl Step {
    pub(super) fn line(&self) -> String {
        let failed = self.failed.map_or(String::new(), |kind| format!("  ({kind:?})"));
        format!("{} {:<9} {}{failed}", self.actor, format!("{:?}", self.operation), self.name)
    }
}

/// A state of the store that no run has shown before.
pub(super) struct Moment {
    /// How many steps had been made.
    pub(super) step: usize,
    pub(super) store: u64,
    pub(super) state: MemoryBackend,
}

/// What a run has shown.
#[derive(Default)]
pub(super) struct Record {
    pub(super) steps: Vec<Step>,
    /// The number of the store after each step.
    pub(super) stores: Vec<u64>,
    pub(super) moments: Vec<Moment>,
    /// Calls that came while their actor was to stand still: its threads ran side by side.
    pub(super) stragglers: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Actors come to their first calls.
    Gathering,
    Running,
    /// Nobody goes on: calls are refused.
    Over,
}

struct Waiting {
    ticket: u64,
    call: Call,
}

struct State {
    phase: Phase,
    waiting: Vec<Vec<Waiting>>,
    ended: Vec<bool>,
    /// Who has no thread of its own.
    is_passive: Vec<bool>,
    current: Option<usize>,
    granted: Option<u64>,
    in_flight: bool,
    tickets: u64,
    weight: u64,
    order: Order,
    policy: Policy,
    record: Record,
    /// Numbers of stores that were looked at already.
    known: Arc<Mutex<HashSet<u64>>>,
}

/// The scheduler of one run.
pub(super) struct Scheduler {
    letters: Vec<char>,
    backend: Arc<MemoryBackend>,
    state: Mutex<State>,
    turns: Vec<Condvar>,
    idle: Condvar,
}

impl Scheduler {
    pub(super) fn new(
        backend: Arc<MemoryBackend>,
        letters: Vec<char>,
        order: Order,
        policy: Policy,
        known: Arc<Mutex<HashSet<u64>>>,
    ) -> Self {
        let count = letters.len();
        let state = State {
            phase: Phase::Gathering,
            waiting: (0..count).map(|_| Vec::new()).collect(),
            ended: vec![false; count],
            is_passive: vec![false; count],
            current: None,
            granted: None,
            in_flight: false,
            tickets: 0,
            weight: 0,
            order,
            policy,
            record: Record::default(),
            known,
        };
        Scheduler {
            letters,
            backend,
            state: Mutex::new(state),
            turns: (0..count).map(|_| Condvar::new()).collect(),
            idle: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until an actor has come to its first call, or to its end.
    pub(super) fn await_arrival(&self, actor: usize) {
        let is_away = |state: &mut State| state.waiting[actor].is_empty() && !state.ended[actor];
        let guard = self.lock();
        let (_guard, waited) = self.idle.wait_timeout_while(guard, PATIENCE, is_away).unwrap();
        assert!(!waited.timed_out(), "{} neither calls nor ends", self.letters[actor]);
    }

    /// Lets the actors go, and waits until none is left that goes on.
    pub(super) fn run(&self) {
        let mut guard = self.lock();
        guard.phase = Phase::Running;
        self.decide(&mut guard);
        loop {
            let before = guard.record.steps.len();
            let is_on = |state: &mut State| state.phase != Phase::Over;
            let waited = self.idle.wait_timeout_while(guard, PATIENCE, is_on).unwrap();
            guard = waited.0;
            if guard.phase == Phase::Over {
                return;
            }
            if guard.record.steps.len() == before {
                guard.phase = Phase::Over;
                let trace: Vec<String> = guard.record.steps.iter().map(Step::line).collect();
                self.turns.iter().for_each(Condvar::notify_all);
                drop(guard);
                panic!("an actor hangs after\n{}", trace.join("\n"));
            }
        }
    }

    /// Waits for the grant of a call.
    pub(super) fn enter(&self, actor: usize, operation: Operation, key: &str) -> Result<()> {
        let mut guard = self.lock();
        if guard.phase == Phase::Over {
            return Err(Error::cancelled());
        }
        let call = guard.order.call(actor, operation, key);
        guard.tickets += 1;
        let ticket = guard.tickets;
        guard.waiting[actor].push(Waiting { ticket, call });
        match guard.phase {
            Phase::Gathering => self.idle.notify_all(),
            _ if guard.current != Some(actor) => guard.record.stragglers += 1,
            _ if guard.in_flight || guard.granted.is_some() => guard.record.stragglers += 1,
            _ => self.decide(&mut guard),
        }
        drop(guard);
        self.await_grant(actor, ticket)
    }

    /// Lets a call come at some time from now on: of an actor that has no thread of its own, and
    /// so is never the one at work.
    pub(super) fn later(
        self: &Arc<Self>,
        actor: usize,
        operation: Operation,
        key: &str,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) {
        let mut guard = self.lock();
        if guard.phase != Phase::Running {
            return;
        }
        let call = guard.order.call(actor, operation, key);
        guard.tickets += 1;
        let ticket = guard.tickets;
        guard.waiting[actor].push(Waiting { ticket, call });
        guard.is_passive[actor] = true;
        drop(guard);
        let (scheduler, key) = (Arc::clone(self), key.to_owned());
        std::thread::spawn(move || {
            if scheduler.await_grant(actor, ticket).is_err() {
                return;
            }
            let failed = work().err().map(|e| e.kind());
            let mut guard = scheduler.lock();
            scheduler.take_note(&mut guard, operation, &key, failed);
            if guard.phase == Phase::Running {
                scheduler.decide(&mut guard);
            }
        });
    }

    fn await_grant(&self, actor: usize, ticket: u64) -> Result<()> {
        let mut guard = self.lock();
        while guard.granted != Some(ticket) && guard.phase != Phase::Over {
            guard = self.turns[actor].wait(guard).unwrap_or_else(|p| p.into_inner());
        }
        if guard.phase == Phase::Over {
            return Err(Error::cancelled());
        }
        guard.granted = None;
        guard.in_flight = true;
        Ok(())
    }

    /// Ends a call that was granted.
    pub(super) fn leave(
        &self,
        actor: usize,
        operation: Operation,
        key: &str,
        failed: Option<ErrorKind>,
    ) {
        let mut guard = self.lock();
        self.take_note(&mut guard, operation, key, failed);
        if guard.phase == Phase::Running && !guard.waiting[actor].is_empty() {
            self.decide(&mut guard);
        }
    }

    fn take_note(
        &self,
        state: &mut State,
        operation: Operation,
        key: &str,
        failed: Option<ErrorKind>,
    ) {
        state.in_flight = false;
        if let Some(step) = state.record.steps.last_mut() {
            step.failed = failed;
        }
        if operation.is_write() && failed.is_none() {
            match operation {
                Operation::Delete => state.order.removed(key),
                _ => state.order.made(key, state.weight),
            }
            let store = state.order.store();
            if state.known.lock().unwrap().insert(store) {
                let step = state.record.steps.len();
                let moment = Moment { step, store, state: self.backend.clone_state() };
                state.record.moments.push(moment);
            }
        }
        let store = state.order.store();
        state.record.stores.push(store);
    }

    /// Takes note that an actor has ended; returns after how many steps.
    pub(super) fn end(&self, actor: usize) -> usize {
        let mut guard = self.lock();
        guard.ended[actor] = true;
        match guard.phase {
            Phase::Gathering => self.idle.notify_all(),
            Phase::Running if guard.current == Some(actor) => {
                guard.current = None;
                self.decide(&mut guard);
            }
            _ => {}
        }
        guard.record.steps.len()
    }

    /// Lets the policy say who makes the next call.
    fn decide(&self, state: &mut State) {
        let mut options = Vec::new();
        for (actor, waiting) in state.waiting.iter().enumerate() {
            let first = waiting.iter().min_by_key(|w| (w.call.operation as u8, &w.call.name));
            if let Some(first) = first {
                options.push((actor, first.ticket));
            }
        }
        let mut after = Vec::new();
        for &(actor, ticket) in &options {
            let waiting = state.waiting[actor].iter().find(|w| w.ticket == ticket);
            let call = &waiting.expect("it was just found").call;
            after.push((actor, state.order.state_after(call)));
        }
        let choice = match after.is_empty() {
            true => Choice::Stop,
            false => state.policy.choose(state.record.steps.len(), state.current, &after),
        };
        let Choice::Go(actor) = choice else {
            state.phase = Phase::Over;
            self.turns.iter().for_each(Condvar::notify_all);
            self.idle.notify_all();
            return;
        };
        let ticket = options.iter().find(|option| option.0 == actor).expect("it can go").1;
        let at = state.waiting[actor].iter().position(|w| w.ticket == ticket).expect("it waits");
        let call = state.waiting[actor].remove(at).call;
        state.weight = state.order.take(&call);
        state.record.steps.push(Step {
            actor: self.letters[actor],
            operation: call.operation,
            name: call.name,
            failed: None,
        });
        if !state.is_passive[actor] {
            state.current = Some(actor);
        }
        state.granted = Some(ticket);
        self.turns[actor].notify_all();
    }

    /// Returns what a listing of raw keys is sorted by.
    pub(super) fn rank(&self, key: &str, is_folder: bool) -> String {
        self.lock().order.rank(key, is_folder)
    }

    /// Returns what the run has shown, once all actors have ended.
    pub(super) fn into_record(self) -> (Record, Policy) {
        let state = self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        (state.record, state.policy)
    }
}

//! Goes through the schedules of a scenario, and holds every state that comes up to what must
//! hold.
//!
//! First systematically: the usual schedule lets each actor go on to its end; each point at which
//! another could have gone on gives a schedule more, those with few pre-emptions first. Where a
//! turn leads to a state that was seen with no more pre-emptions, it is left out. Then by chance.

use crate::concurrency::actors::Actor;
use crate::concurrency::actors::Deed;
use crate::concurrency::actors::Ended;
use crate::concurrency::backend::Scheduled;
use crate::concurrency::order::Order;
use crate::concurrency::policy::Chance;
use crate::concurrency::policy::Planned;
use crate::concurrency::policy::Policy;
use crate::concurrency::policy::Seen;
use crate::concurrency::policy::Turn;
use crate::concurrency::scheduler::Moment;
use crate::concurrency::scheduler::Record;
use crate::concurrency::scheduler::Scheduler;
use crate::concurrency::scheduler::Step;
use crate::concurrency::time::MachineClock;
use crate::concurrency::time::Stamps;
use crate::concurrency::time::TIME;
use crate::concurrency::time::Time;
use crate::concurrency::world::DATA;
use crate::concurrency::world::Place;
use crate::concurrency::world::View;
use crate::concurrency::world::World;
use crate::concurrency::world::place;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use icecore::repository::cache::CachePlace;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

/// How often a schedule is tried again that went astray, as ids are random.
const TRIES: usize = 4;

/// Who takes part, where it begins, and what may happen.
pub(super) struct Scenario {
    pub(super) title: &'static str,
    pub(super) world: World,
    pub(super) actors: Vec<Actor>,
    /// What the store tells of time.
    pub(super) stamps: Stamps,
}

impl Scenario {
    /// Says whether days pass in it.
    fn has_days(&self) -> bool {
        self.actors.iter().any(|actor| matches!(actor.deed, Deed::Sleep(_)))
    }

    /// Each actor did in some of the runs what it is there for.
    pub(super) fn assert_done(&self, tally: &Tally) {
        for Actor { letter, deed, .. } in &self.actors {
            let did = tally.did.get(letter).is_some_and(|count| *count > 0);
            assert!(did || matches!(deed, Deed::Network), "{}: {letter} never does", self.title);
        }
        let any = |is_one: fn(&Deed) -> bool| self.actors.iter().any(|it| is_one(&it.deed));
        let forgets = any(|deed| matches!(deed, Deed::Forget(_)));
        if forgets && any(|deed| matches!(deed, Deed::Prune(_) | Deed::PruneTwice)) {
            assert!(tally.freed > 0, "{}: no prune frees anything", self.title);
        }
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) preemptions: usize,
    /// Schedules tried in all ...
    pub(super) schedules: usize,
    /// ... and of these so many at most systematically; the others by chance.
    pub(super) planned: usize,
    /// Of so many new states one is gone on with.
    pub(super) recover_each: usize,
}

/// What was gone through.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) schedules: usize,
    /// Schedules that ended early as all that follows was seen.
    pub(super) cut_short: usize,
    pub(super) strayed: usize,
    pub(super) stores: usize,
    pub(super) recovered: usize,
    pub(super) steps: usize,
    pub(super) stragglers: u64,
    /// Runs in which an actor, by its letter, did what it was there for.
    pub(super) did: BTreeMap<char, usize>,
    /// Prunes of which something went.
    pub(super) freed: usize,
    /// All schedules with fewer pre-emptions than this were tried.
    pub(super) complete: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} schedules, {} steps", self.schedules, self.steps)?;
        write!(f, " ({} ended where all was known, {} strayed)", self.cut_short, self.strayed)?;
        write!(f, "; {} states of the store, {} gone on with", self.stores, self.recovered)?;
        match self.complete {
            0 => Ok(()),
            below => write!(f, "; all with up to {} pre-emptions", below - 1),
        }
    }
}

/// What must not happen, with the way to it.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) turns: Vec<Turn>,
    pub(super) steps: Vec<Step>,
}

impl Violation {
    pub(super) fn tell(&self, title: &str) -> String {
        let turns: Vec<String> =
            self.turns.iter().map(|turn| format!("{},{}", turn.step, turn.actor)).collect();
        let mut text = format!("{title}: VIOLATION: {}\n", self.what);
        text.push_str(&format!("ICECORE_TURNS=\"{}\"\n", turns.join(" ")));
        for (number, step) in self.steps.iter().enumerate() {
            text.push_str(&format!("  {number:>4} {}\n", step.line()));
        }
        text
    }
}

/// One run.
pub(super) struct Run {
    pub(super) record: Record,
    pub(super) policy: Policy,
    /// How each actor ended, by its letter, and after how many steps.
    pub(super) ended: Vec<(usize, char, Ended)>,
}

/// The search through one scenario.
pub(super) struct Explorer<'a> {
    scenario: &'a Scenario,
    bounds: Bounds,
    order: Order,
    known: Arc<Mutex<HashSet<u64>>>,
    views: HashMap<u64, View>,
    /// What is seen before anybody begins.
    base: View,
    pub(super) tally: Tally,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(scenario: &'a Scenario, bounds: Bounds) -> Self {
        let letters = scenario.actors.iter().map(|actor| actor.letter).collect();
        let order = Order::new(&scenario.world.backend, letters, scenario.has_days());
        let base = scenario.world.look(scenario.world.backend.clone_state()).unwrap();
        Explorer {
            scenario,
            bounds,
            order,
            known: Arc::default(),
            views: HashMap::new(),
            base,
            tally: Tally::default(),
        }
    }

    /// Goes through the schedules, until something happens that must not.
    pub(super) fn explore(&mut self) -> Option<Violation> {
        self.systematic().or_else(|| self.by_chance())
    }

    fn systematic(&mut self) -> Option<Violation> {
        let seen: Seen = Arc::default();
        let mut waiting: Vec<VecDeque<Vec<Turn>>> =
            vec![VecDeque::new(); self.bounds.preemptions + 1];
        waiting[0].push_back(Vec::new());
        for preemptions in 0..=self.bounds.preemptions {
            while let Some(turns) = waiting[preemptions].pop_back() {
                if self.tally.schedules >= self.bounds.planned {
                    return None;
                }
                let run = self.planned(&turns, preemptions, &seen);
                if let Some(violation) = self.judge(&run) {
                    return Some(violation);
                }
                let Policy::Planned(planned) = run.policy else { continue };
                for decision in planned.decisions {
                    let cost = preemptions + usize::from(decision.preempts);
                    if cost > self.bounds.preemptions {
                        continue;
                    }
                    for (actor, leads_to) in decision.others {
                        let mut seen = seen.lock().unwrap();
                        let least = seen.entry((leads_to, actor)).or_insert(usize::MAX);
                        if *least <= cost {
                            continue;
                        }
                        *least = cost;
                        let turn = Turn { step: decision.step, actor, leads_to };
                        waiting[cost].push_back(turns.iter().copied().chain([turn]).collect());
                    }
                }
            }
            self.tally.complete = preemptions + 1;
        }
        None
    }

    fn planned(&mut self, turns: &[Turn], preemptions: usize, seen: &Seen) -> Run {
        for tried in 1.. {
            let planned = Planned::new(turns.to_vec(), preemptions, Some(Arc::clone(seen)));
            let run = self.run(Policy::Planned(planned));
            let Policy::Planned(planned) = &run.policy else { return run };
            if !planned.strayed || tried == TRIES {
                self.tally.cut_short += usize::from(planned.stopped);
                self.tally.strayed += usize::from(planned.strayed);
                return run;
            }
        }
        unreachable!("the last try returns")
    }

    fn by_chance(&mut self) -> Option<Violation> {
        let mut steps = 100;
        let mut seed = 0;
        while self.tally.schedules < self.bounds.schedules {
            seed += 1;
            let run = self.chance(seed, steps);
            steps = steps.max(run.record.steps.len());
            if let Some(mut violation) = self.judge(&run) {
                violation.what.push_str(&format!(" (seed {seed})"));
                return Some(violation);
            }
        }
        None
    }

    /// Makes one run by chance, in which the first of the actors changes at some of the steps.
    pub(super) fn chance(&mut self, seed: u64, steps: usize) -> Run {
        let mut dice = Dice(seed);
        let count = self.scenario.actors.len();
        let mut ranks: Vec<i64> = (0..count as i64).collect();
        for n in (1..count).rev() {
            ranks.swap(n, dice.below(n + 1));
        }
        let changes = (0..1 + dice.below(8)).map(|_| dice.below(steps)).collect();
        self.run(Policy::Chance(Chance { ranks, changes, lowest: 0, turns: Vec::new() }))
    }

    /// Makes one run.
    pub(super) fn run(&mut self, policy: Policy) -> Run {
        let world = &self.scenario.world;
        let actors = &self.scenario.actors;
        let backend = Arc::new(world.backend.clone_state());
        let letters = actors.iter().map(|actor| actor.letter).collect();
        let scheduler = Arc::new(Scheduler::new(
            Arc::clone(&backend),
            letters,
            self.order.clone(),
            policy,
            Arc::clone(&self.known),
        ));
        let ended = Mutex::new(Vec::new());
        let is_network = |actor: &Actor| matches!(actor.deed, Deed::Network);
        let network = actors.iter().position(is_network);
        let time = Time::new(self.scenario.stamps);
        std::thread::scope(|scope| {
            for (number, actor) in actors.iter().enumerate() {
                let to_scheduler = Arc::clone(&scheduler);
                let shared = Shared { world, backend: &backend, time: &time, network };
                let ended = &ended;
                scope.spawn(move || {
                    let outcome = act(shared, number, actor, &to_scheduler);
                    let step = to_scheduler.end(number);
                    ended.lock().unwrap().push((step, actor.letter, outcome));
                });
                scheduler.await_arrival(number);
            }
            scheduler.run();
        });
        // Threads of an actor may end a moment after it has.
        let mut scheduler = scheduler;
        let scheduler = loop {
            match Arc::try_unwrap(scheduler) {
                Ok(scheduler) => break scheduler,
                Err(shared) => scheduler = shared,
            }
            std::thread::yield_now();
        };
        let (record, policy) = scheduler.into_record();
        self.tally.schedules += 1;
        self.tally.steps += record.steps.len();
        self.tally.stragglers += record.stragglers;
        Run { record, policy, ended: ended.into_inner().unwrap() }
    }

    /// Holds a run to what must hold.
    pub(super) fn judge(&mut self, run: &Run) -> Option<Violation> {
        let record = &run.record;
        let failed = |what: String, steps: usize| {
            let steps = record.steps[..steps].to_vec();
            Some(Violation { what, turns: run.policy.turns().to_vec(), steps })
        };
        for moment in &record.moments {
            if let Err(what) = self.look_at(moment) {
                return failed(what, moment.step);
            }
        }
        let is_over = !matches!(&run.policy, Policy::Planned(planned) if planned.stopped);
        let mut stored: Vec<u64> = self.scenario.world.numbers.clone();
        for (step, letter, ended) in &run.ended {
            *self.tally.did.entry(*letter).or_default() += usize::from(ended.is_success());
            match ended {
                Ended::Stored(backups) => {
                    for (n, label) in backups {
                        if stored.contains(n) {
                            return failed(format!("{n} was said to be two backups"), *step);
                        }
                        stored.push(*n);
                        if let Some(what) = self.lost(record, *step, *n, label) {
                            return failed(what, record.steps.len());
                        }
                    }
                }
                Ended::Forgot(n) if self.shows(record, *step, *n) => {
                    return failed(format!("{n} was forgotten, and is seen"), record.steps.len());
                }
                Ended::Unchanged(label) if !self.was_newest(record, *step, label) => {
                    return failed(format!("{label} is not what was stored before"), *step);
                }
                Ended::Pruned(bytes) => self.tally.freed += usize::from(*bytes > 0),
                Ended::Failed(actor, what) if is_over && !self.may_fail(*actor, what) => {
                    return failed(format!("{actor} failed: {what}"), *step);
                }
                Ended::Wrong(actor, what) if is_over => {
                    return failed(format!("{actor} saw: {what}"), *step);
                }
                _ => {}
            }
        }
        None
    }

    /// An actor whose lease everybody may end can find that what it has just put is gone. No other
    /// failure of one was ever seen: what it leans on is found gone before the commit, and it
    /// starts again.
    fn may_fail(&self, letter: char, what: &str) -> bool {
        if !what.contains("was written but is not there whole") {
            return false;
        }
        let has_days = self.scenario.has_days();
        let mut actors = self.scenario.actors.iter().filter(|actor| actor.letter == letter);
        actors.any(|actor| actor.looks_dead || (has_days && actor.machine.is_some()))
    }

    /// Looks at a state of the store that is new, and goes on with some of them.
    fn look_at(&mut self, moment: &Moment) -> Result<(), String> {
        let world = &self.scenario.world;
        let view = world.look(moment.state.clone_state())?;
        if let Some(what) = view.lacks(&self.base, |place| self.is_forgotten(place)) {
            return Err(format!("of what was there before, {what}"));
        }
        self.tally.stores += 1;
        if self.tally.stores.is_multiple_of(self.bounds.recover_each) {
            self.tally.recovered += 1;
            let found = if self.tally.recovered.is_multiple_of(2) {
                world.recover_from_afar(moment.state.clone_state(), &view)
            } else {
                world.recover(moment.state.clone_state(), &view)
            };
            if let Some(what) = found {
                return Err(format!("if all died here: {what}"));
            }
        }
        self.views.insert(moment.store, view);
        Ok(())
    }

    /// Says whether a backup that was acknowledged is not there in any later state.
    fn lost(&self, record: &Record, step: usize, n: u64, label: &str) -> Option<String> {
        let place = place(n, label);
        if self.is_forgotten(&place) {
            return None;
        }
        let stores = record.stores.get(step.saturating_sub(1)..).unwrap_or_default();
        for view in stores.iter().filter_map(|store| self.views.get(store)) {
            if view.visible.get(&place).is_none_or(|there| there != label) {
                let seen = &view.visible;
                return Some(format!("{n} of {label} was acknowledged, and there is {seen:?}"));
            }
        }
        None
    }

    /// Says whether a backup is to be seen in any later state.
    fn shows(&self, record: &Record, step: usize, n: u64) -> bool {
        let stores = record.stores.get(step.saturating_sub(1)..).unwrap_or_default();
        let mut views = stores.iter().filter_map(|store| self.views.get(store));
        views.any(|view| view.visible.contains_key(&(DATA.to_owned(), n)))
    }

    /// Says whether the newest backup was once like the source of this label.
    fn was_newest(&self, record: &Record, step: usize, label: &str) -> bool {
        let world = &self.scenario.world;
        let stores = record.stores.get(..step).unwrap_or(&record.stores);
        let views = stores.iter().filter_map(|store| self.views.get(store));
        let mut newest = views.chain([&self.base]).filter_map(View::newest);
        newest.any(|newest| world.content(newest) == world.content(label))
    }

    /// Says whether one of the actors forgets a backup.
    fn is_forgotten(&self, (dataset, n): &Place) -> bool {
        let forgets = |actor: &Actor| matches!(actor.deed, Deed::Forget(goes) if goes == *n);
        dataset == DATA && self.scenario.actors.iter().any(forgets)
    }
}

/// What all actors of a run share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    world: &'a World,
    backend: &'a Arc<MemoryBackend>,
    time: &'a Arc<Time>,
    network: Option<usize>,
}

fn act(shared: Shared<'_>, number: usize, actor: &Actor, scheduler: &Arc<Scheduler>) -> Ended {
    let Shared { world, backend, time, network } = shared;
    match actor.deed {
        Deed::Network => return Ended::Done,
        Deed::Sleep(days) => {
            for _ in 0..days {
                if scheduler.enter(number, Operation::Stat, TIME).is_ok() {
                    time.leap();
                    scheduler.leave(number, Operation::Stat, TIME, None);
                }
            }
            return Ended::Done;
        }
        _ => {}
    }
    let folder = world.caches(actor.is_warm);
    let scheduled = Arc::new(Scheduled {
        number,
        actor: actor.clone(),
        inner: Arc::clone(backend),
        scheduler: OnceLock::new(),
        store: world.store.clone(),
        time: Arc::clone(time),
        network,
        beats: Mutex::default(),
    });
    let to_backend = Arc::clone(&scheduled) as Arc<dyn icecore::backend::Backend>;
    let repository = world.open(to_backend, &CachePlace::Kept(folder.clone())).unwrap();
    assert!(scheduled.scheduler.set(Arc::clone(scheduler)).is_ok(), "it is set once");
    let clock = MachineClock { time: Arc::clone(time), machine: actor.machine };
    let ended = actor.act(&repository, world, &clock);
    drop(repository);
    let _ = std::fs::remove_dir_all(folder);
    ended
}

/// Small numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

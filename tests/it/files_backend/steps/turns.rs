//! Whose turn it is: one actor at a time, from one command to its next.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

/// An actor that neither comes to a command nor ends for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step at which others could have gone on.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) step: usize,
    /// Whether going on with another one is a pre-emption.
    pub(super) preempts: bool,
    pub(super) others: Vec<usize>,
}

struct State {
    /// Before, commands pass.
    has_begun: bool,
    waiting: Vec<bool>,
    ended: Vec<bool>,
    /// Commands that each has made.
    made: Vec<usize>,
    current: Option<usize>,
    granted: Option<usize>,
    step: usize,
    plan: Vec<(usize, usize)>,
    lost: Option<(usize, usize)>,
    decisions: Vec<Decision>,
}

/// The turns of one run.
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

impl Turns {
    /// Follows a plan of steps and who takes them; elsewhere whoever is at work goes on, else the
    /// first. The reply to one command of one actor may be lost.
    pub(super) fn new(
        actors: usize,
        plan: Vec<(usize, usize)>,
        lost: Option<(usize, usize)>,
    ) -> Arc<Self> {
        let state = State {
            has_begun: false,
            waiting: vec![false; actors],
            ended: vec![false; actors],
            made: vec![0; actors],
            current: None,
            granted: None,
            step: 0,
            plan,
            lost,
            decisions: Vec::new(),
        };
        Arc::new(Turns { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait_while(&self, is_not_yet: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), PATIENCE, is_not_yet).unwrap();
        assert!(!waited.1.timed_out(), "somebody hangs");
        waited.0
    }

    /// From here on commands wait.
    pub(super) fn begin(&self) {
        self.lock().has_begun = true;
    }

    /// Waits for the turn of an actor; says whether the reply to what it does then is lost.
    pub(super) fn wait(&self, actor: usize) -> bool {
        {
            let mut state = self.lock();
            if !state.has_begun {
                return false;
            }
            state.waiting[actor] = true;
            if state.current == Some(actor) {
                state.decide();
            }
            self.changed.notify_all();
        }
        let mut state = self.wait_while(|state| state.granted != Some(actor));
        state.granted = None;
        state.waiting[actor] = false;
        let made = state.made[actor];
        state.made[actor] += 1;
        state.lost == Some((actor, made))
    }

    /// Takes note that an actor has ended.
    pub(super) fn end(&self, actor: usize) {
        let mut state = self.lock();
        state.ended[actor] = true;
        if state.current == Some(actor) {
            state.current = None;
            state.decide();
        }
        self.changed.notify_all();
    }

    /// Lets them go, once each is at its first command, and waits until all have ended.
    pub(super) fn run(&self) {
        let is_away = |state: &mut State| {
            (0..state.ended.len()).any(|actor| !state.waiting[actor] && !state.ended[actor])
        };
        let mut state = self.wait_while(is_away);
        state.decide();
        drop(state);
        self.changed.notify_all();
        let mut state = self.wait_while(|state| state.ended.contains(&false));
        // Whoever looks afterwards does not wait.
        state.has_begun = false;
    }

    /// Returns the steps at which others could have gone on.
    pub(super) fn decisions(&self) -> Vec<Decision> {
        self.lock().decisions.clone()
    }
}

impl State {
    fn decide(&mut self) {
        let options: Vec<usize> =
            (0..self.waiting.len()).filter(|&actor| self.waiting[actor]).collect();
        let Some(&first) = options.first() else { return };
        let usual = self.current.filter(|actor| options.contains(actor)).unwrap_or(first);
        let planned = self.plan.iter().find(|turn| turn.0 == self.step).map(|turn| turn.1);
        let chosen = planned.filter(|actor| options.contains(actor)).unwrap_or(usual);
        let others: Vec<usize> = options.into_iter().filter(|&actor| actor != chosen).collect();
        if !others.is_empty() {
            let preempts = self.current == Some(usual);
            self.decisions.push(Decision { step: self.step, preempts, others });
        }
        self.step += 1;
        self.current = Some(chosen);
        self.granted = Some(chosen);
    }
}

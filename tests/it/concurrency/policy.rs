//! Who makes the next call: by a plan, or by chance.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Go(usize),
    /// All that could follow was seen already.
    Stop,
}

/// Another choice than the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) step: usize,
    pub(super) actor: usize,
    /// The number of the state that it leads to, or 0 when it is not known.
    pub(super) leads_to: u64,
}

/// A point at which others could have gone on.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) step: usize,
    /// Whether going on with another one is a pre-emption.
    pub(super) preempts: bool,
    /// Who else could go, and the number of the state it would lead to.
    pub(super) others: Vec<(usize, u64)>,
}

/// States seen so far, with who was at work, and how few pre-emptions led there.
pub(super) type Seen = Arc<Mutex<HashMap<(u64, usize), usize>>>;

/// Follows a plan, and where it says nothing goes on with who is at work, else with the first.
pub(super) struct Planned {
    pub(super) turns: Vec<Turn>,
    pub(super) preemptions: usize,
    /// None: never stops early.
    pub(super) seen: Option<Seen>,
    pub(super) decisions: Vec<Decision>,
    /// Whether a turn led elsewhere than expected: ids are random.
    pub(super) strayed: bool,
    pub(super) stopped: bool,
}

/// Chance: each actor has a rank, the highest goes on, and at some steps it falls to the lowest.
pub(super) struct Chance {
    pub(super) ranks: Vec<i64>,
    pub(super) changes: Vec<usize>,
    pub(super) lowest: i64,
    /// The actor that went at each step, for a replay.
    pub(super) turns: Vec<Turn>,
}

pub(super) enum Policy {
    Planned(Planned),
    Chance(Chance),
}

impl Policy {
    pub(super) fn choose(
        &mut self,
        step: usize,
        current: Option<usize>,
        options: &[(usize, u64)],
    ) -> Choice {
        match self {
            Policy::Planned(planned) => planned.choose(step, current, options),
            Policy::Chance(chance) => chance.choose(step, current, options),
        }
    }

    /// Returns the turns that lead the same way again.
    pub(super) fn turns(&self) -> &[Turn] {
        match self {
            Policy::Planned(planned) => &planned.turns,
            Policy::Chance(chance) => &chance.turns,
        }
    }
}

fn usual(current: Option<usize>, options: &[(usize, u64)]) -> usize {
    match current {
        Some(actor) if options.iter().any(|option| option.0 == actor) => actor,
        _ => options[0].0,
    }
}

impl Planned {
    pub(super) fn new(turns: Vec<Turn>, preemptions: usize, seen: Option<Seen>) -> Self {
        Planned { turns, preemptions, seen, decisions: Vec::new(), strayed: false, stopped: false }
    }

    fn choose(&mut self, step: usize, current: Option<usize>, options: &[(usize, u64)]) -> Choice {
        let usual = usual(current, options);
        let turn = self.turns.iter().find(|turn| turn.step == step);
        let chosen = match turn {
            Some(turn) if options.iter().any(|option| option.0 == turn.actor) => turn.actor,
            Some(_) => {
                self.strayed = true;
                usual
            }
            None => usual,
        };
        let leads_to = options.iter().find(|option| option.0 == chosen).map_or(0, |o| o.1);
        if let Some(turn) = turn
            && turn.leads_to != 0
            && turn.leads_to != leads_to
        {
            self.strayed = true;
            self.stopped = true;
            return Choice::Stop;
        }
        let last_turn = self.turns.last().map(|turn| turn.step);
        let is_free = last_turn.is_none_or(|last| step > last);
        if let Some(seen) = &self.seen
            && is_free
        {
            let mut seen = seen.lock().unwrap();
            let least = seen.entry((leads_to, chosen)).or_insert(usize::MAX);
            if *least <= self.preemptions {
                self.stopped = true;
                return Choice::Stop;
            }
            *least = self.preemptions;
        }
        if is_free && options.len() > 1 {
            let others = options.iter().copied().filter(|option| option.0 != chosen).collect();
            let preempts = current == Some(usual);
            self.decisions.push(Decision { step, preempts, others });
        }
        Choice::Go(chosen)
    }
}

impl Chance {
    fn choose(&mut self, step: usize, current: Option<usize>, options: &[(usize, u64)]) -> Choice {
        let usual = usual(current, options);
        let best = |ranks: &[i64]| options.iter().map(|o| o.0).max_by_key(|&actor| ranks[actor]);
        if self.changes.contains(&step)
            && let Some(first) = best(&self.ranks)
        {
            self.lowest -= 1;
            self.ranks[first] = self.lowest;
        }
        let chosen = best(&self.ranks).unwrap_or(usual);
        if chosen != usual {
            self.turns.push(Turn { step, actor: chosen, leads_to: 0 });
        }
        Choice::Go(chosen)
    }
}

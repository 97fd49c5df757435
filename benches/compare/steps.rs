//! The steps of a round, and what each took.

use crate::settings::Settings;
use crate::stored;
use crate::stored::Stored;
use crate::support;
use crate::support::SETTLE;
use crate::support::TOOL_BYTES;
use crate::support::data::Data;
use crate::support::environment;
use crate::support::process;
use crate::support::process::Cost;
use crate::support::tree;
use crate::tools;
use crate::tools::Action;
use crate::tools::Place;
use crate::tools::Tool;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;

/// A row of the table that has a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    First,
    Unchanged,
    List,
    Help,
    Restore,
    Changed,
    RestoreLast,
    Prune,
}

impl Step {
    fn action(self) -> Action {
        match self {
            Step::First => Action::First,
            Step::Unchanged => Action::Unchanged,
            Step::List => Action::List,
            Step::Help => Action::Help,
            Step::Restore | Step::RestoreLast => Action::Restore,
            Step::Changed => Action::Changed,
            Step::Prune => Action::Prune,
        }
    }

    /// Says whether a tool takes part. Those that keep no versions end with the first restore.
    fn has(self, tool: &Tool) -> bool {
        let is_late = matches!(self, Step::Changed | Step::RestoreLast | Step::Prune);
        tool.does(self.action()) && (tool.has_versions() || !is_late)
    }
}

/// What one tool did in all rounds.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tool: Tool,
    pub(crate) costs: BTreeMap<Step, Vec<Cost>>,
    /// Bytes of the repository after a step.
    pub(crate) stored: BTreeMap<Step, Vec<f64>>,
    /// The same by kinds, of icecore in the last round.
    pub(crate) kinds: BTreeMap<Step, Stored>,
    /// What went wrong; after that it takes no part.
    pub(crate) failed: Option<String>,
}

/// Says why there is too little room for a data set, if so.
pub(crate) fn room(data: &Data, settings: &Settings) -> Result<(), String> {
    let keep = |tool: &Tool| match tool.has_versions() {
        true => data.stored_share,
        false if tool.does(Action::First) => 1.0,
        false => 0.0,
    };
    let stored: f64 = settings.tools.iter().map(keep).sum();
    // What warms memory comes and goes before a restore does, and is more.
    let needed = data.bytes as f64 * (2.0 + stored) + TOOL_BYTES as f64;
    let free = environment::room(&settings.dir).map_err(|e| e.to_string())? as f64;
    if needed <= free {
        return Ok(());
    }
    let dir = settings.dir.display();
    let (needed, free) = (needed / 1e9, free / 1e9);
    Err(format!(
        "it may take {needed:.1} GB in {dir}, where {free:.1} GB are free; ICECORE_BENCH_DIR names \
         another place"
    ))
}

/// Measures all rounds in a folder of their own.
pub(crate) fn rounds(data: &Data, settings: &Settings, work: &Path) -> io::Result<Vec<Run>> {
    let new = |tool: &Tool| Run {
        tool: tool.clone(),
        costs: BTreeMap::new(),
        stored: BTreeMap::new(),
        kinds: BTreeMap::new(),
        failed: None,
    };
    let mut runs: Vec<Run> = settings.tools.iter().map(new).collect();
    // What takes moments is measured more often.
    let rounds = settings.rounds * if data.is_few { 5 } else { 1 };
    for round in 0..rounds {
        one_round(data, work, &mut runs, round)?;
        fs::remove_dir_all(work)?;
    }
    Ok(runs)
}

fn one_round(data: &Data, work: &Path, runs: &mut [Run], number: usize) -> io::Result<()> {
    eprintln!("{}: a round begins", data.title);
    let source = work.join("source");
    fs::create_dir_all(&source)?;
    data.make(&source)?;
    thread::sleep(SETTLE);
    let warm_bytes = data.bytes + TOOL_BYTES;
    let mut round = Round { work, source: &source, runs, number, warm_bytes, version: 0 };
    round.init();
    round.step(Step::First);
    round.look(Step::First);
    round.step(Step::Unchanged);
    if data.is_few {
        round.step(Step::List);
        round.step(Step::Help);
    }
    round.step(Step::Restore);
    round.leave_behind()?;
    if data.changes == 0 {
        return Ok(());
    }
    for version in 1..=data.changes {
        data.change(&source, version)?;
        thread::sleep(SETTLE);
        round.step(Step::Changed);
    }
    round.look(Step::Changed);
    round.step(Step::RestoreLast);
    round.step(Step::Prune);
    round.look(Step::Prune);
    if number == 0 {
        round.restore_pruned();
    }
    Ok(())
}

struct Round<'a> {
    work: &'a Path,
    source: &'a Path,
    runs: &'a mut [Run],
    number: usize,
    /// So much memory is made ready before each measured command.
    warm_bytes: u64,
    /// How many backups each tool has been asked for.
    version: usize,
}

impl Round<'_> {
    /// Lets each tool that takes part in a step do something; one that fails is out.
    fn each(
        &mut self,
        what: &str,
        step: Step,
        act: impl Fn(&mut Run, &Place<'_>) -> io::Result<()>,
    ) {
        let (work, source, version) = (self.work, self.source, self.version);
        // Whoever comes first may find caches cold: another one in each round.
        let turn = self.number + step as usize + version;
        let is_in = |run: &Run| run.failed.is_none() && step.has(&run.tool);
        support::in_turn(self.runs, turn, is_in, |run| {
            let home = work.join(run.tool.name);
            let (repository, out) = (&home.join("repository"), &home.join("out"));
            let place = Place { source, repository, out, home: &home, version };
            let done = fs::create_dir_all(out).and_then(|()| act(run, &place));
            run.failed = done.err().map(|e| format!("{what}: {e}"));
        });
    }

    fn init(&mut self) {
        self.each("init", Step::First, |run, place| match run.tool.has_versions() {
            true => do_it(&run.tool, Action::Init, place).map(drop),
            false => Ok(()),
        });
    }

    fn step(&mut self, step: Step) {
        eprintln!("  {step:?}");
        self.version += usize::from(step.action().is_backup());
        let warm_bytes = self.warm_bytes;
        self.each(&format!("{step:?}"), step, |run, place| {
            support::make_ready(place.home, warm_bytes)?;
            let cost = do_it(&run.tool, step.action(), place)?;
            if step.action() == Action::Restore {
                check(&run.tool, place)?;
            }
            run.costs.entry(step).or_default().push(cost);
            Ok(())
        });
    }

    /// Notes what is stored.
    fn look(&mut self, step: Step) {
        self.each("size", step, |run, place| {
            if !place.repository.exists() {
                return Ok(());
            }
            let bytes = tree::bytes_below(place.repository)?;
            run.stored.entry(step).or_default().push(bytes as f64);
            if run.tool.name == tools::OWN {
                run.kinds.insert(step, stored::ask(place.repository)?);
            }
            Ok(())
        });
    }

    /// Takes away what tools stored that have no part in what follows.
    fn leave_behind(&mut self) -> io::Result<()> {
        for run in self.runs.iter().filter(|run| !run.tool.has_versions()) {
            let home = self.work.join(run.tool.name);
            if home.exists() {
                fs::remove_dir_all(home)?;
            }
        }
        Ok(())
    }

    /// Restores once more, unmeasured: a prune must have taken nothing that is still shown.
    fn restore_pruned(&mut self) {
        self.each("restore after the prune", Step::Prune, |run, place| {
            do_it(&run.tool, Action::Restore, place)?;
            check(&run.tool, place)
        });
    }
}

fn do_it(tool: &Tool, action: Action, place: &Place<'_>) -> io::Result<Cost> {
    process::run(tool.command(action, place), &place.home.join("log"))
}

/// Compares what came back with the source, and lets go of it.
fn check(tool: &Tool, place: &Place<'_>) -> io::Result<()> {
    tree::compare(place.source, &tool.came_to(place), tool.has_fractions())?;
    fs::remove_dir_all(place.out)
}

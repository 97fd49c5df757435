//! The real program, killed with `kill -9` at random moments, again and again, on one repository.
//!
//! A victim is a row in [`victims`]: what is run, one process or several at once, and what must
//! hold afterwards. How long each command takes is measured first, undisturbed, and again whenever
//! one ends before it was to be killed, so that kills fall inside; of several at once one is left
//! alone at times. After each kill `check` of all data ends with 0; all backups that are listed,
//! and none is missing whose process ended with 0, restore to what their sources were by all that
//! a fingerprint knows (names, content, modes, owners, times, attributes, links, holes); a restore
//! or a copy that is said again ends equal; the next backup succeeds, a prune waits for nobody,
//! and no lease is left for a person to end.
//!
//! `ICECORE_KILLS=N` kills more often, `ICECORE_KILL_SEED=S` at other moments; both are printed.
//! With an odd seed the repository of those that write is encrypted, with an even one that of those
//! that read.

mod play;
mod source;
mod victims;
mod window;

use crate::cli::Ran;
use crate::kill::play::DATASETS;
use crate::kill::play::MIRROR;
use crate::kill::play::Play;
use crate::kill::victims::READERS;
use crate::kill::victims::Victim;
use crate::kill::victims::WRITERS;
use crate::kill::window::Name;
use crate::kill::window::Windows;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// How often one looks whether a process has ended: much less than any takes.
const LOOK: Duration = Duration::from_micros(300);
/// One of so many that run at once is left alone.
const SPARED_OF: u64 = 4;
/// So often at most a victim is run, on the average, for each kill that is wanted.
const ROUNDS_MAX: usize = 16;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// One process, and when it is to die.
struct Doomed {
    name: Name,
    child: Child,
    dies_at: Option<Duration>,
    /// How long it lived.
    lived: Option<Duration>,
    is_killed: bool,
}

impl Doomed {
    /// Kills it when its time has come, and sees whether it has ended.
    fn look(&mut self, since: Instant) {
        if self.lived.is_some() {
            return;
        }
        if self.child.try_wait().unwrap().is_some() {
            self.lived = Some(since.elapsed());
        } else if self.dies_at.is_some_and(|at| at <= since.elapsed()) {
            self.child.kill().unwrap();
            self.lived = Some(since.elapsed());
            self.is_killed = true;
        }
    }
}

/// The commands of a victim, started at once.
fn start(play: &mut Play, victim: &Victim, windows: &mut Windows, is_first: bool) -> Vec<Doomed> {
    let count = victim.commands.len() as u64;
    let is_spared = !is_first && count > 1 && play.random.below(SPARED_OF) == 0;
    let spared = is_spared.then(|| play.random.below(count) as usize);
    let mut doomed = Vec::new();
    for (place, command) in victim.commands.iter().enumerate() {
        let name = (victim.name, format!("{} ({place})", command.join(" ")));
        let is_killed = !is_first && spared != Some(place);
        let offset = play.random.0;
        let dies_at = is_killed.then(|| windows.choose(&name, offset));
        let mut command = play.home.command(&[&["--json"], *command].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        doomed.push(Doomed { name, child, dies_at, lived: None, is_killed: false });
    }
    doomed
}

/// Runs a victim, and kills each of its processes at a moment of its own unless it is the first
/// time. What was acknowledged counts.
fn kill(play: &mut Play, victim: &Victim, windows: &mut Windows, is_first: bool) {
    let since = Instant::now();
    let mut doomed = start(play, victim, windows, is_first);
    while doomed.iter().any(|one| one.lived.is_none()) {
        doomed.iter_mut().for_each(|one| one.look(since));
        std::thread::sleep(LOOK);
    }
    for one in doomed {
        let (name, lived) = (one.name, one.lived.unwrap());
        let ran = Ran::of(one.child.wait_with_output().unwrap());
        // It may have ended between the look and the kill.
        match one.is_killed && ran.code == -1 {
            true => windows.killed(&name, lived),
            false if one.dies_at.is_some() => windows.ended(&name, lived),
            false => windows.measured(&name, lived),
        }
        // Busy is what one of two writers of a dataset is told.
        let is_busy = ran.code == 11 && victim.commands.len() > 1;
        assert!(one.is_killed && ran.code == -1 || ran.code == 0 || is_busy, "{name:?}: {ran:?}");
        if ran.code == 0 && name.1.starts_with("backup") {
            play.keep(&ran);
        }
    }
}

/// Goes through the victims until so many were killed, and of each some.
fn kill_all(what: &str, seed: u64, is_encrypted: bool, victims: &[Victim]) {
    let all = WRITERS.len() + READERS.len();
    let asked = number("ICECORE_KILLS").map_or(0, |kills| kills as usize * victims.len() / all);
    let wanted = asked.max(victims.len());
    eprintln!("{what}: seed {seed}, encrypted: {is_encrypted}, {wanted} kills");
    let mut play = Play::new(seed, is_encrypted);
    let mut windows = Windows::default();
    for (round, victim) in victims.iter().cycle().take(ROUNDS_MAX * wanted).enumerate() {
        let is_first = round < victims.len();
        let has_all = windows.totals().0 >= wanted && windows.never_killed().is_empty();
        if !is_first && has_all {
            break;
        }
        if !is_first && asked == 0 && !windows.owes(victim.name) {
            continue;
        }
        if is_first {
            victim.prepare(&mut play);
            kill(&mut play, victim, &mut windows, true);
            victim.name_again(&mut play);
            play.compare_list(victim.is_forgetting());
        }
        victim.prepare(&mut play);
        kill(&mut play, victim, &mut windows, false);
        victim.judge(&mut play);
    }
    eprint!("{windows}");
    let (killed, ended) = windows.totals();
    eprintln!("{what}: {killed} killed, {ended} ended before that");
    assert!(killed >= wanted, "only {killed} of {wanted} were killed");
    assert!(killed >= 2 * ended, "{ended} ended before they were killed, of {}", killed + ended);
    assert_eq!(windows.never_killed(), Vec::<&Name>::new());
    for dataset in DATASETS {
        for number in play.kept[dataset].keys().copied().collect::<Vec<u64>>() {
            play.restore(dataset, number);
        }
    }
    for repository in ["repository", MIRROR] {
        play.prune(repository);
        play.home.done(&["-r", repository, "check", "--read-data"]);
    }
}

fn seed() -> u64 {
    number("ICECORE_KILL_SEED").unwrap_or(1)
}

#[test]
fn killed_while_it_writes_it_loses_nothing_that_was_acknowledged() {
    kill_all("writers", seed(), seed() % 2 == 1, WRITERS);
}

#[test]
fn killed_while_it_reads_it_leaves_nothing_behind_and_ends_equal_when_said_again() {
    kill_all("readers", seed(), seed().is_multiple_of(2), READERS);
}

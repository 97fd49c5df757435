//! Damage: every kind of object, damaged in every way, under every operation.
//!
//! `ICECORE_DAMAGE_ALL=1` runs every case; else some of each kind, and every single loss.

use crate::damage::operations::FORGOTTEN;
use crate::damage::operations::OPERATIONS;
use crate::damage::operations::Operation;
use crate::damage::operations::Scene;
use crate::damage::state::Label;
use crate::damage::state::State;
use crate::damage::ways::Case;
use icecore::backend::memory::MemoryBackend;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

mod operations;
mod state;
mod ways;

/// What a test with the environment unset takes: one of so many cases.
const STRIDE: usize = 7;

/// What is not as it should be, and why that must be borne. A row that nothing needs any more
/// is a failure of the test that runs everything.
struct Exception {
    kind: &'static str,
    /// The beginning of the way.
    way: &'static str,
    /// Part of the complaint.
    says: &'static str,
    /// Why.
    #[allow(dead_code, reason = "for who reads this")]
    why: &'static str,
}

const EXCEPTIONS: [Exception; 0] = [];

fn is_borne(case: &Case, complaint: &str) -> bool {
    EXCEPTIONS.iter().any(|it| {
        it.kind == case.kind && case.way.starts_with(it.way) && complaint.contains(it.says)
    })
}

/// Says what is wrong with an error, if anything is.
fn judge(error: &Error, case: &Case) -> Option<String> {
    use ErrorKind as Kind;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let fits = matches!(
        error.kind(),
        Kind::Corrupt
            | Kind::NotFound
            | Kind::NoRepository
            | Kind::Password
            | Kind::Unsupported
            | Kind::Denied
    );
    if !fits {
        return Some(format!("an error of kind {:?}: {text}", error.kind()));
    }
    let names = case.changes.iter().any(|(key, _)| text.contains(key.name()));
    let words = ["photos", "music", "block ", "the repository at", "key slot", "config"];
    let is_told = names || words.iter().any(|word| text.contains(word));
    (!is_told).then(|| format!("an error that names nothing: {text}"))
}

/// Runs one operation on a copy of a damaged state.
struct Outcome {
    complaints: Vec<String>,
    restored: BTreeSet<Label>,
    is_found: bool,
    after: Arc<MemoryBackend>,
}

fn run(state: &State, case: &Case, damaged: &MemoryBackend, operation: &Operation) -> Outcome {
    let after = Arc::new(damaged.clone_state());
    let mut outcome = Outcome {
        complaints: Vec::new(),
        restored: BTreeSet::new(),
        is_found: false,
        after: Arc::clone(&after),
    };
    let done = catch_unwind(AssertUnwindSafe(|| {
        let repository = match state.open(&after) {
            Ok(repository) => repository,
            Err(error) => return (judge(&error, case).into_iter().collect(), None),
        };
        let scene = Scene {
            state,
            repository,
            complaints: RefCell::default(),
            errors: RefCell::default(),
            restored: RefCell::default(),
            is_found: Cell::new(false),
        };
        let result = (operation.run)(&scene);
        let mut complaints = scene.complaints.take();
        let errors = scene.errors.take();
        complaints.extend(errors.iter().chain(result.as_ref().err()).filter_map(|e| judge(e, case)));
        (complaints, Some((scene.restored.take(), scene.is_found.get())))
    }));
    match done {
        Err(_) => outcome.complaints.push("a panic".into()),
        Ok((complaints, None)) => (outcome.complaints, outcome.is_found) = (complaints, true),
        Ok((complaints, Some((restored, is_found)))) => {
            (outcome.complaints, outcome.restored, outcome.is_found) =
                (complaints, restored, is_found);
        }
    }
    outcome
}

/// Runs everything on one damaged state; what is wrong, each with its operation.
fn try_case(state: &State, case: &Case) -> Vec<(&'static str, String)> {
    let damaged = state.backend.clone_state();
    case.apply(&damaged);
    let mut wrong = Vec::new();
    let mut before = BTreeSet::new();
    for operation in &OPERATIONS {
        let outcome = run(state, case, &damaged, operation);
        wrong.extend(outcome.complaints.into_iter().map(|text| (operation.name, text)));
        match operation.name {
            "restore each" => {
                before = outcome.restored;
                wrong.extend(spread(state, case, &before).map(|text| (operation.name, text)));
            }
            "check data" if !outcome.is_found => {
                let is_hurt = state.visible.iter().any(|label| !before.contains(label));
                let text = if is_hurt { "hurts a backup and is not seen" } else { "is not seen" };
                wrong.push((operation.name, text.to_owned()));
            }
            _ => {}
        }
        if operation.writes {
            let after = run(state, case, &outcome.after, &OPERATIONS[0]).restored;
            let forgets = operation.name.starts_with("forget");
            let lost = before.iter().filter(|label| {
                state.visible.contains(label) && !(forgets && **label == FORGOTTEN)
            });
            let lost: Vec<_> = lost.filter(|label| !after.contains(label)).collect();
            if !lost.is_empty() {
                wrong.push((operation.name, format!("what restored before is lost: {lost:?}")));
            }
        }
    }
    wrong
}

/// Backups that need nothing of what is damaged, and do not restore.
fn spread<'a>(
    state: &'a State,
    case: &'a Case,
    restored: &'a BTreeSet<Label>,
) -> impl Iterator<Item = String> + 'a {
    let is_free = |label: &&Label| !state.needs[*label].iter().any(|key| case.hits(key));
    let hurt = state.visible.iter().filter(is_free).filter(|label| !restored.contains(label));
    hurt.map(|_| "a backup that needs nothing of it does not restore".to_owned())
}

/// Runs the cases that are asked for, and says how many there were.
fn sweep(title: &str, atomic_create: bool, is_encrypted: bool) {
    let state = state::build(atomic_create, is_encrypted);
    let is_all = std::env::var_os("ICECORE_DAMAGE_ALL").is_some();
    let cases = ways::cases(&state);
    let is_run = |(n, case): &(usize, &Case)| is_all || case.way == "delete" || n % STRIDE == 0;
    let chosen: Vec<&Case> = cases.iter().enumerate().filter(is_run).map(|(_, case)| case).collect();
    let mut wrong: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut losses = 0;
    for case in &chosen {
        losses += usize::from(case.way == "delete");
        for (operation, text) in try_case(&state, case) {
            if is_borne(case, &text) {
                continue;
            }
            let short: String = text.chars().take(60).collect();
            let line = format!("{} | {} | {operation} | {short}", case.kind, case.way);
            let keys: Vec<_> = case.changes.iter().map(|(key, _)| key.as_str()).collect();
            let row = wrong.entry(line).or_insert((0, format!("{keys:?} {text}")));
            row.0 += 1;
        }
    }
    eprintln!(
        "{title}: {} objects, {} cases, {losses} of them losses, x {} operations",
        state.order.len(),
        chosen.len(),
        OPERATIONS.len()
    );
    for (line, (count, example)) in &wrong {
        eprintln!("{count} x {line}\n      {example}");
    }
    assert!(wrong.is_empty(), "{} kinds of complaints", wrong.len());
}

#[test]
fn a_plain_repository_bears_damage() {
    sweep("plain", true, false);
}

#[test]
fn an_encrypted_repository_bears_damage() {
    sweep("encrypted", true, true);
}

#[test]
fn a_repository_without_atomic_create_bears_damage() {
    sweep("class B", false, false);
}

//! Damage: every kind of object, damaged in every way, under every operation.
//!
//! `ICECORE_DAMAGE_ALL=1` runs every operation on every case; else one of nine, every loss, and
//! every pack whose blocks are damaged, and of these one in eight for each operation that takes
//! long. Each flipped byte and each length is met by a restore of everything and a check of all
//! data: `ICECORE_DAMAGE_BYTES=N` takes one of N of these, 1 all of them.

use crate::damage::operations::FORGOTTEN;
use crate::damage::operations::OPERATIONS;
use crate::damage::operations::Operation;
use crate::damage::operations::Scene;
use crate::damage::state::Label;
use crate::damage::state::State;
use crate::damage::ways::Case;
use crate::damage::ways::NEWEST;
use crate::damage::ways::REMAINING;
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

pub(crate) mod further;
pub(crate) mod operations;
mod pairs;
pub(crate) mod state;
pub(crate) mod ways;

/// What a test with the environment unset takes: one of so many cases.
const STRIDE: usize = 9;
/// In how many of these cases one operation is done that takes long.
const STRIDE_OF_LONG: usize = 8;

/// What is not as it should be, and why that must be borne. In a run of everything a row that
/// nothing needs any more is a failure.
struct Exception {
    kind: &'static str,
    /// Which ways; none for all.
    ways: &'static [&'static str],
    /// Part of the complaint.
    says: &'static str,
    /// Only where objects are not sealed for their places.
    plain_only: bool,
}

const fn borne(kind: &'static str, ways: &'static [&'static str], says: &'static str) -> Exception {
    Exception { kind, ways, says, plain_only: false }
}

const fn borne_in_plain(
    kind: &'static str,
    ways: &'static [&'static str],
    says: &'static str,
) -> Exception {
    Exception { plain_only: true, ..borne(kind, ways, says) }
}

const HARMLESS: &str = "is not seen, and hurts nobody";
const SPREADS: &str = "needs nothing of it";
const TAKEN_OVER: &str = "what it took over does not restore";
const COUNT: &str = "another number of backups";

const EXCEPTIONS: [Exception; 31] = [
    // A pack of which nothing is needed, as other packs have it all, what is around the blocks of
    // a pack that a tombstone names, and a revision of tags that a later one stands in for, or
    // that is the newest and gone: a check calls them garbage, or does not miss them.
    borne("pack", &["delete"], HARMLESS),
    borne("doomed pack", &[], HARMLESS),
    borne("tags", &[], HARMLESS),
    // Nothing tells that these were ever there, and nothing needs them: a sign of life, a lease,
    // a tombstone of packs that are still there, a record of what was lost, another password.
    borne("beat", &["delete"], HARMLESS),
    borne("lease", &["delete"], HARMLESS),
    borne("tombstone", &["delete"], HARMLESS),
    borne("lost", &["delete"], HARMLESS),
    borne("key", &["delete"], HARMLESS),
    // The header of class B stands without its verdict as well.
    borne("mark", &["delete"], HARMLESS),
    // Without its marker a backup is not forgotten; the revision of tags before is the newest.
    borne("hidden", &["delete"], HARMLESS),
    borne("hidden", &["delete"], COUNT),
    // A plain index does not say which object it is. Here its rows are not missed, as others
    // have them; an index without which something is not found is missed by a check.
    borne("index", &["delete"], HARMLESS),
    borne_in_plain("index", &["swap", "replace by older"], HARMLESS),
    // The newest header that is gone looks like a backup that never was to a machine that has
    // not seen it (guarantees.md, "What damage is noticed").
    borne(NEWEST, &["delete"], "hurts a backup and is not seen"),
    borne(NEWEST, &["delete"], "a repair says that all is whole"),
    borne(NEWEST, &["delete"], COUNT),
    borne(NEWEST, &["delete"], "another backup is taken for the latest"),
    // What a floor explained may be a listing that was cut short: until a repair nothing of the
    // dataset is read (PROTOCOL.md).
    borne("floor", &[], SPREADS),
    // Whether a backup is the one meant is shown by its tags; those that lean on it restore.
    borne("tags", &[], SPREADS),
    borne(NEWEST, &["delete"], "is not copied, and nothing says so"),
    borne(NEWEST, &["delete"], "a path is not found, and nothing says so"),
    // Nobody needs it until a pack is damaged, and nothing tells that it was there.
    borne("parity", &["delete"], HARMLESS),
    // Under another name: rows that are there twice, and bytes that no index names. Where all is
    // sealed the first is damage.
    borne_in_plain("index", &["duplicate"], HARMLESS),
    borne("pack", &["duplicate"], HARMLESS),
    // A record, or a name, that is there twice, where neither says which object it is.
    borne_in_plain("lost", &["duplicate"], HARMLESS),
    borne_in_plain("name", &["duplicate"], HARMLESS),
    // Where it is sealed for its revision, the newest revision of the name is damage.
    borne("name", &["duplicate"], SPREADS),
    // A marker that is not of its backup: until a repair takes it away nobody knows whether the
    // backup was forgotten.
    borne("hidden", &["duplicate"], SPREADS),
    // A dataset is found by its name; a check names those without one.
    borne("name", &["delete"], COUNT),
    // A backup takes unchanged entries over without reading them: what of their content is
    // damaged stays so. A check names it, and what is changed or new is whole.
    borne("pack", &[], TAKEN_OVER),
    borne("index", &[], TAKEN_OVER),
];

fn is_borne(case: &Case, is_encrypted: bool, complaint: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|it| {
        let is_way = it.ways.is_empty() || it.ways.contains(&case.way);
        let is_here = !(it.plain_only && is_encrypted);
        it.kind == case.kind && is_way && is_here && complaint.contains(it.says)
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
    let words =
        ["photos", "music", "backup_", "config", "key slot", "the repository at", "no repository"];
    let has_id = text.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() >= 8);
    let is_told = names || has_id || words.iter().any(|word| text.contains(word));
    (!is_told).then(|| format!("an error that names nothing: {text}"))
}

/// Runs one operation on a copy of a damaged state.
pub(crate) struct Outcome {
    pub(crate) complaints: Vec<String>,
    pub(crate) restored: BTreeSet<Label>,
    pub(crate) is_found: bool,
    /// The error that ended it.
    failed: Option<String>,
    after: Arc<MemoryBackend>,
}

pub(crate) fn run(
    state: &State,
    case: &Case,
    damaged: &MemoryBackend,
    operation: &Operation,
) -> Outcome {
    let after = Arc::new(damaged.clone_state());
    let mut outcome = Outcome {
        complaints: Vec::new(),
        restored: BTreeSet::new(),
        is_found: false,
        failed: None,
        after: Arc::clone(&after),
    };
    let done = catch_unwind(AssertUnwindSafe(|| {
        let repository = match state.open(&after) {
            Ok(repository) => repository,
            Err(error) => return (judge(&error, case).into_iter().collect(), Err(error), None),
        };
        let scene = Scene {
            state,
            repository,
            backend: Arc::clone(&after),
            complaints: RefCell::default(),
            errors: RefCell::default(),
            restored: RefCell::default(),
            is_found: Cell::new(false),
        };
        let result = (operation.run)(&scene);
        let mut complaints = scene.complaints.take();
        let errors = scene.errors.take();
        complaints
            .extend(errors.iter().chain(result.as_ref().err()).filter_map(|e| judge(e, case)));
        (complaints, result, Some((scene.restored.take(), scene.is_found.get())))
    }));
    match done {
        Err(_) => outcome.complaints.push("a panic".into()),
        Ok((complaints, result, seen)) => {
            outcome.complaints = complaints;
            outcome.failed = result.err().map(|error| error.to_string());
            (outcome.restored, outcome.is_found) = seen.unwrap_or((BTreeSet::new(), true));
        }
    }
    outcome
}

/// Runs everything on one damaged state; what is wrong, each with its operation.
fn try_case(state: &State, nth: usize, case: &Case) -> Vec<(&'static str, String)> {
    let damaged = state.backend.clone_state();
    case.apply(&damaged);
    let mut wrong = Vec::new();
    let mut before = BTreeSet::new();
    let is_of_bytes = ways::OF_BYTES.contains(&case.way);
    for (row, operation) in OPERATIONS.iter().enumerate() {
        if is_of_bytes && !["restore each", "check data"].contains(&operation.name) {
            continue;
        }
        if operation.is_long && !runs_all() && !(nth + 3 * row).is_multiple_of(STRIDE_OF_LONG) {
            continue;
        }
        let outcome = run(state, case, &damaged, operation);
        wrong.extend(outcome.complaints.into_iter().map(|text| (operation.name, text)));
        match operation.name {
            "restore each" => {
                before = outcome.restored;
                wrong.extend(spread(state, case, &before).map(|text| (operation.name, text)));
            }
            // Without reading packs: that they are there and as long as they were, and the rest.
            "check"
                if !outcome.is_found
                    && is_structure(case)
                    && state.visible.iter().any(|label| !before.contains(label)) =>
            {
                wrong.push((operation.name, "hurts a backup and is not seen".to_owned()));
            }
            "check data" if !outcome.is_found => {
                let is_hurt = state.visible.iter().any(|label| !before.contains(label));
                let text = if is_hurt { "hurts a backup and is not seen" } else { HARMLESS };
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

/// Says whether a check that reads no packs must see a damage that hurts.
fn is_structure(case: &Case) -> bool {
    let is_of_size = case.way == "delete" || case.way.starts_with("cut");
    match case.kind {
        "pack" => is_of_size,
        "header" | NEWEST | REMAINING | "index" => true,
        _ => false,
    }
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

/// One repository that is damaged.
struct Sweep {
    title: &'static str,
    atomic_create: bool,
    is_encrypted: bool,
    has_parity: bool,
}

const fn sweep_of(title: &'static str, how: [bool; 3]) -> Sweep {
    Sweep { title, atomic_create: how[0], is_encrypted: how[1], has_parity: how[2] }
}

static SWEEPS: [Sweep; 4] = [
    sweep_of("plain", [true, false, false]),
    sweep_of("encrypted", [true, true, false]),
    sweep_of("class B", [false, false, false]),
    sweep_of("encrypted, with parity", [true, true, true]),
];

/// Runs the cases that are asked for, and says how many there were.
fn sweep(sweep: &Sweep) -> BTreeSet<usize> {
    let Sweep { title, atomic_create, is_encrypted, has_parity } = *sweep;
    let state = state::build(atomic_create, is_encrypted, has_parity);
    let is_all = runs_all();
    let cases = ways::cases(&state);
    let of_bytes = ways::byte_cases(&state);
    for operation in &OPERATIONS {
        let sound = Case { kind: "none", way: "none", changes: Vec::new() };
        let outcome = run(&state, &sound, &state.backend, operation);
        assert_eq!(outcome.complaints, [""; 0], "{} of a sound repository", operation.name);
        assert_eq!(outcome.failed, None, "{} of a sound repository", operation.name);
        assert!(!outcome.is_found, "{} finds damage in a sound repository", operation.name);
    }
    let is_run = |(n, case): &(usize, &Case)| {
        // With parity all but that is as without.
        let is_new = !has_parity || ["parity", "pack"].contains(&case.kind);
        let is_always = ["delete", "flip blocks"].contains(&case.way) && is_new;
        is_all || is_always || (n % STRIDE == 0 && is_new)
    };
    let chosen: Vec<&Case> =
        cases.iter().enumerate().filter(is_run).map(|(_, case)| case).collect();
    let stride = stride_of_bytes();
    let chosen_bytes = of_bytes.iter().skip(stride / 2).step_by(stride);
    let chosen: Vec<&Case> = chosen.into_iter().chain(chosen_bytes).collect();
    let bytes_count = chosen.iter().filter(|case| ways::OF_BYTES.contains(&case.way)).count();
    let mut wrong: BTreeMap<String, (usize, String, BTreeSet<&str>)> = BTreeMap::new();
    let (mut losses, mut used) = (0, BTreeSet::new());
    for (nth, case) in chosen.iter().enumerate() {
        losses += usize::from(case.way == "delete");
        for (operation, text) in try_case(&state, nth, case) {
            if let Some(exception) = is_borne(case, is_encrypted, &text) {
                used.insert(exception);
                continue;
            }
            let short: String = text.chars().take(60).collect();
            let way = case.way;
            let line = format!("{} | {operation} | {short}", case.kind);
            let keys: Vec<_> = case.changes.iter().map(|(key, _)| key.as_str()).collect();
            let row = wrong.entry(line).or_insert((0, format!("{keys:?} {text}"), BTreeSet::new()));
            row.0 += 1;
            row.2.insert(way);
        }
    }
    eprintln!(
        "{title}: {} objects, {} cases, {losses} of them losses, x {} operations, and \
         {bytes_count} flips and cuts of {} x 2",
        state.order.len(),
        chosen.len() - bytes_count,
        OPERATIONS.len(),
        of_bytes.len(),
    );
    for (line, (count, example, ways)) in &wrong {
        eprintln!("{count} x {line}\n      {ways:?}\n      {example}");
    }
    assert!(wrong.is_empty(), "{} kinds of complaints", wrong.len());
    used
}

fn runs_all() -> bool {
    std::env::var_os("ICECORE_DAMAGE_ALL").is_some()
}

/// One of so many flipped bytes and cuts is tried.
fn stride_of_bytes() -> usize {
    let said = std::env::var("ICECORE_DAMAGE_BYTES").ok().and_then(|text| text.parse().ok());
    said.filter(|&stride| stride > 0).unwrap_or(if runs_all() { 1 } else { 150 })
}

#[test]
fn damage_is_found_confined_and_never_restored() {
    let used = std::thread::scope(|scope| {
        let sweeps = SWEEPS.each_ref().map(|one| scope.spawn(move || sweep(one)));
        let used = sweeps.map(|sweep| sweep.join().unwrap());
        used.into_iter().flatten().collect::<BTreeSet<usize>>()
    });
    if runs_all() {
        let idle = (0..EXCEPTIONS.len()).filter(|n| !used.contains(n));
        let idle: Vec<_> = idle.map(|n| (EXCEPTIONS[n].kind, EXCEPTIONS[n].says)).collect();
        assert_eq!(idle, [], "exceptions that nothing needs");
    }
}

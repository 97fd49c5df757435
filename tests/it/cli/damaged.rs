//! Every command of the program on repositories in which one object is damaged.
//!
//! However it is damaged: the run ends by itself with an exit code that is documented and says
//! why in words; with 0 it has done what it does on a sound repository, and what it has restored,
//! exported or copied is what was backed up; with any code, what restored before does so after.
//!
//! An ordinary run has each command with every other kind of object, by one of six damages, plain
//! or encrypted; `ICECORE_DAMAGE_SEED=N` takes others, so that two that follow each other have each
//! command with each kind. `ICECORE_DAMAGE_ALL=1` takes each object, each damage, and both.

mod commands;
mod ground;
mod judge;

use crate::cli::Ran;
use crate::cli::damaged::commands::ROWS;
use crate::cli::damaged::commands::Row;
use crate::cli::damaged::commands::Rule;
use crate::cli::damaged::ground::DAMAGES;
use crate::cli::damaged::ground::Damage;
use crate::cli::damaged::ground::Ground;
use crate::cli::damaged::judge::Trial;
use crate::cli::damaged::judge::asks_before;
use crate::cli::damaged::judge::judge;
use crate::damage::state::Label;
use crate::damage::ways::Case;
use crate::support::random::Random;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Beside one of so many kinds a command that takes long is run in an ordinary run.
const STRIDE_OF_LONG: usize = 6;

/// What is damaged how, beside which command.
struct Choice {
    row: usize,
    object: usize,
    damage: Damage,
}

fn runs_all() -> bool {
    std::env::var_os("ICECORE_DAMAGE_ALL").is_some()
}

fn seed() -> u64 {
    let said = std::env::var("ICECORE_DAMAGE_SEED").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn is_for(row: &Row, ground: &Ground) -> bool {
    ground.is_encrypted || !row.is_of_keys
}

fn all_choices(ground: &Ground) -> Vec<Choice> {
    let rows = (0..ROWS.len()).filter(|row| is_for(&ROWS[*row], ground));
    let each = rows.flat_map(|row| (0..ground.kinds.len()).map(move |object| (row, object)));
    let each = each.flat_map(|(row, object)| DAMAGES.map(|damage| Choice { row, object, damage }));
    each.collect()
}

/// Takes for each command every other kind of object once, in one of the two repositories.
fn some_choices(ground: &Ground, random: &mut Random) -> Vec<Choice> {
    let mut of_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, (_, kind)) in ground.kinds.iter().enumerate() {
        of_kind.entry(kind).or_default().push(at);
    }
    let mut choices = Vec::new();
    for (row, typed) in ROWS.iter().enumerate().filter(|(_, row)| is_for(row, ground)) {
        for (kind, objects) in &of_kind {
            // The same for both repositories, so that a pair comes in one of them.
            let turn = row + kind.bytes().map(usize::from).sum::<usize>();
            let is_turn = (turn + seed() as usize).is_multiple_of(2);
            let is_only_here = typed.is_of_keys || *kind == "key";
            let is_encrypted = (turn / 2 + row + seed() as usize / 2).is_multiple_of(2);
            let is_here = is_turn && (is_only_here || is_encrypted == ground.is_encrypted);
            let is_long = typed.is_long && !turn.is_multiple_of(STRIDE_OF_LONG);
            if is_here && !is_long {
                let object = objects[random.below(objects.len() as u64) as usize];
                let damage = DAMAGES[random.below(DAMAGES.len() as u64) as usize];
                choices.push(Choice { row, object, damage });
            }
        }
    }
    choices
}

/// How many ran, ended with which code, and what was wrong.
#[derive(Default)]
struct Tally {
    codes: BTreeMap<i32, usize>,
    pairs: BTreeSet<(usize, &'static str)>,
    damages: BTreeMap<Damage, usize>,
    wrong: BTreeMap<String, (usize, String)>,
}

/// What each command says of the sound repository.
fn sound_runs(ground: &Ground) -> BTreeMap<usize, Ran> {
    let rows = ROWS.iter().enumerate().filter(|(_, row)| is_for(row, ground));
    let runs = rows.map(|(at, row)| {
        ground.reset(None);
        let (ran, _) = ground.type_in(row);
        let is_right = (ran.code == 0) != matches!(row.rule, Rule::Never);
        assert!(is_right, "{} of the sound repository: {ran:?}", row.arguments);
        (at, ran)
    });
    runs.collect()
}

fn sweep(is_encrypted: bool) -> Tally {
    let ground = Ground::new(is_encrypted);
    let mut random = Random(seed());
    let choices =
        if runs_all() { all_choices(&ground) } else { some_choices(&ground, &mut random) };
    let sound = sound_runs(&ground);
    let mut tally = Tally::default();
    for choice in choices {
        let row = &ROWS[choice.row];
        let case = ground.case(choice.object, choice.damage, &mut random);
        ground.reset(Some(&case));
        let before: BTreeSet<Label> = match asks_before(row.rule) {
            true => ground.restored(&case).0,
            false => BTreeSet::new(),
        };
        let (ran, bytes) = ground.type_in(row);
        *tally.codes.entry(ran.code).or_default() += 1;
        *tally.damages.entry(choice.damage).or_default() += 1;
        tally.pairs.insert((choice.row, case.kind));
        let (damage, sound) = (choice.damage, &sound[&choice.row]);
        let trial = Trial {
            ground: &ground,
            row,
            case: &case,
            damage,
            ran: &ran,
            bytes: &bytes,
            sound,
            before: &before,
        };
        for what in judge(&trial) {
            note(&mut tally, &trial, &case, what);
        }
    }
    tally
}

fn note(tally: &mut Tally, trial: &Trial<'_>, case: &Case, what: String) {
    let Trial { row, damage, ran, .. } = trial;
    let line = format!("{} | {} {damage:?} | {what}", row.arguments, case.kind);
    let said: String = format!("{} {}", ran.stderr, ran.stdout).chars().take(700).collect();
    let key = &case.changes[0].0;
    tally.wrong.entry(line).or_insert((0, format!("{key}: {said}"))).0 += 1;
}

#[test]
fn no_command_is_fooled_or_broken_by_a_damaged_object() {
    let tallies = std::thread::scope(|scope| {
        let plain = scope.spawn(|| sweep(false));
        let encrypted = scope.spawn(|| sweep(true));
        [plain.join().unwrap(), encrypted.join().unwrap()]
    });
    let mut pairs = BTreeSet::new();
    let mut complaints = 0;
    for (tally, title) in tallies.into_iter().zip(["plain", "encrypted"]) {
        let runs: usize = tally.codes.values().sum();
        eprintln!("{title}: {runs} runs, by exit code {:?}", tally.codes);
        eprintln!("{title}: by damage {:?}", tally.damages);
        for (line, (count, example)) in &tally.wrong {
            eprintln!("{title}: {count} x {line}\n      {example}");
        }
        complaints += tally.wrong.len();
        pairs.extend(tally.pairs);
    }
    eprintln!("{} commands, {} pairs of one with a kind of object", ROWS.len(), pairs.len());
    assert_eq!(complaints, 0, "kinds of complaints");
    assert!(pairs.len() > 50 * 8, "only {} pairs", pairs.len());
}

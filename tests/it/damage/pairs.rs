//! Two objects damaged at once, each in a way of its own: what one of them would have made good
//! may be gone with the other.
//!
//! `ICECORE_DAMAGE_PAIRS=5000` takes so many pairs of each repository, drawn by
//! `ICECORE_DAMAGE_SEED`.

use crate::damage::SWEEPS;
use crate::damage::Sweep;
use crate::damage::is_borne;
use crate::damage::state;
use crate::damage::try_case;
use crate::damage::ways;
use crate::damage::ways::Case;
use crate::support::random::Random;
use std::collections::BTreeMap;

/// Pairs of each repository, if nothing else is said.
const PAIRS: usize = 12;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Returns a case of both, where they are of different objects.
fn both(one: &Case, other: &Case) -> Option<Case> {
    let is_apart = !one.changes.iter().any(|(key, _)| other.hits(key));
    let changes = one.changes.iter().chain(&other.changes).cloned().collect();
    is_apart.then_some(Case { kind: "two", way: "two", changes })
}

/// Tries pairs; returns how many.
fn sweep(sweep: &Sweep) -> usize {
    let state = state::build(sweep.atomic_create, sweep.is_encrypted, sweep.has_parity);
    let cases = ways::cases(&state);
    let mut random = Random(number("ICECORE_DAMAGE_SEED").unwrap_or(1) as u64);
    let wanted = number("ICECORE_DAMAGE_PAIRS").unwrap_or(PAIRS);
    let mut wrong: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut count = 0;
    while count < wanted {
        let [one, other] = [(); 2].map(|()| &cases[random.below(cases.len() as u64) as usize]);
        let Some(pair) = both(one, other) else { continue };
        count += 1;
        for (operation, text) in try_case(&state, count, &pair) {
            let is_known = |case: &&Case| is_borne(case, sweep.is_encrypted, &text).is_some();
            if [one, other].iter().any(is_known) {
                continue;
            }
            let short: String = text.chars().take(60).collect();
            let kinds = [one, other].map(|case| format!("{} ({})", case.kind, case.way));
            let keys: Vec<_> = pair.changes.iter().map(|(key, _)| key.as_str()).collect();
            let row = format!("{operation} | {short}");
            let example = format!("{} {keys:?} {text}", kinds.join(" and "));
            wrong.entry(row).or_insert((0, example)).0 += 1;
        }
    }
    for (row, (count, example)) in &wrong {
        eprintln!("{}: {count} x {row}\n      {example}", sweep.title);
    }
    assert!(wrong.is_empty(), "{} kinds of complaints", wrong.len());
    count
}

#[test]
fn two_damaged_objects_are_found_confined_and_never_restored() {
    let count: usize = std::thread::scope(|scope| {
        let sweeps = SWEEPS.each_ref().map(|one| scope.spawn(move || sweep(one)));
        sweeps.map(|sweep| sweep.join().unwrap()).into_iter().sum()
    });
    eprintln!("{count} pairs of damaged objects");
    assert!(count >= 4);
}

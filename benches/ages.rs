//! Restores that do not age: what a version costs to bring back out of a repository of many
//! versions, against the same version out of a fresh repository that holds nothing else.
//!
//! Each series is backed up version by version into one repository, by whole processes. The
//! first version, the one in the middle and the last are also backed up into a repository of
//! their own when they are made. Then each of the three is restored from both, in turn, and what
//! came is compared. Then each restore is made once more through the library, with an empty
//! cache, and the requests to the repository, the objects read and the bytes read are counted. At
//! last all versions but the last are forgotten and a prune frees them: what it copied for what it
//! freed, and what is left against the fresh repository of the last version.
//!
//! - `ICECORE_BENCH_DATA=tree,sql`: which of pages, sql, json, typescript and tree.
//! - `ICECORE_BENCH_ROUNDS`, 3; `ICECORE_BENCH_SCALE=0.1` makes what is generated and the number
//!   of versions so much smaller.
//! - `ICECORE_BENCH_KERNEL`: the tree, else `/usr/src/linux-source-*` where it is unpacked, else
//!   one is generated; `ICECORE_BENCH_TYPESCRIPT`: what `typescript.sh` fetched.
//! - `ICECORE_BENCH_DIR`: where everything happens; `/dev/shm` when not said. 8 GB are enough.
//!   `ICECORE_BENCH_KEEP=1` leaves the repositories there, to look into.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::print_stderr, reason = "it takes long, and says how far it is")]

#[path = "ages/count.rs"]
mod count;
#[path = "ages/grow.rs"]
mod grow;
#[path = "ages/place.rs"]
mod place;
#[path = "support/mod.rs"]
mod support;

use count::Counts;
use grow::Grown;
use grow::Series;
use place::Place;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use support::environment;
use support::environment::Trees;
use support::process;
use support::process::Cost;
use support::tree;
use support::work::Work;

const ROUNDS: usize = 3;
/// Reads of one small file; they are quick.
const CATS: usize = 9;

fn main() -> ExitCode {
    // A child of its own counts, so that this program stays small: what it ever held would count
    // as held by the processes it starts.
    let done = match count::asked_for() {
        Some(asked) => count::print(&asked),
        None if !support::is_asked("ages") => Ok(()),
        None => measure_all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("ages: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all() -> io::Result<()> {
    let rounds = environment::number("ROUNDS", ROUNDS)?.max(1);
    let (sets, scale, trees) =
        (environment::chosen("DATA", &grow::NAMES)?, environment::scale()?, Trees::read());
    let keeps = environment::flag("KEEP")?;
    let work = Work::make("ages")?;
    println!(
        "wall s . CPU s, medians of {rounds}, in brackets the ratio to the fresh repository's; \
         requests, objects read and MB read with an empty cache, old / fresh\n"
    );
    println!(
        "| series | versions | restored | old | fresh | requests | objects | MB read | \
         stored fresh, MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut notes = Vec::new();
    for set in &sets {
        match Series::find(set, scale, &trees) {
            Ok(series) => {
                let below = work.join(set);
                fs::create_dir_all(&below)?;
                notes.extend(measure(&series, rounds, &below)?);
                if !keeps {
                    fs::remove_dir_all(&below)?;
                }
            }
            Err(why) => notes.push(format!("{set}: skipped, {why}")),
        }
    }
    println!();
    if keeps {
        notes.push(format!("the repositories are in {}", work.keep()?.display()));
    }
    notes.iter().for_each(|note| println!("- {note}"));
    Ok(())
}

/// Measures one series, prints its rows, and returns what else there is to say.
fn measure(series: &Series, rounds: usize, work: &Path) -> io::Result<Vec<String>> {
    let grown = series.grow(work)?;
    let mut costs: Vec<[Vec<Cost>; 2]> = grown.fresh.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        for (n, (number, fresh)) in grown.fresh.iter().enumerate() {
            eprintln!("{}: round {round}, version {number}", series.title);
            let places = [(&grown.old, *number), (fresh, 0)];
            for turn in 0..2 {
                // Whoever comes first pays for memory that nobody has used before.
                let which = (turn + round) % 2;
                let (place, number) = places[which];
                costs[n][which].push(place.restore(number)?);
            }
            if round == 0 {
                tree::compare(&fresh.out(), &grown.old.out(), true)?;
            }
            places.iter().try_for_each(|(place, _)| fs::remove_dir_all(place.out()))?;
        }
    }
    for ((number, fresh), costs) in grown.fresh.iter().zip(&costs) {
        let counts = [(&grown.old, *number), (fresh, 0)];
        let [old, new] = counts.map(|(place, number)| count::ask(place, number));
        print_row(series, *number, costs, [old?, new?], fresh.stored()?);
    }
    let mut notes = vec![format!(
        "{}: the old repository has {:.1} MB",
        series.title,
        megabytes(grown.old.stored()?)
    )];
    notes.extend(cat(series, &grown)?);
    notes.extend(prune(series, &grown)?);
    Ok(notes)
}

fn print_row(
    series: &Series,
    number: u64,
    costs: &[Vec<Cost>; 2],
    counts: [Counts; 2],
    stored: u64,
) {
    let [old, fresh] = costs;
    let [(wall, cpu), (fresh_wall, fresh_cpu)] = [middle(old), middle(fresh)];
    let [old, fresh] = counts;
    println!(
        "| {} | {} | @{number} | {wall:.2} . {cpu:.2} ({:.2} . {:.2}) | {fresh_wall:.2} . \
         {fresh_cpu:.2} | {} / {} | {} / {} | {:.1} / {:.1} ({:.2}) | {:.1} |",
        series.title,
        series.versions,
        wall / fresh_wall,
        cpu / fresh_cpu,
        old.requests,
        fresh.requests,
        old.objects,
        fresh.objects,
        megabytes(old.bytes),
        megabytes(fresh.bytes),
        old.bytes as f64 / fresh.bytes as f64,
        megabytes(stored),
    );
}

/// Prints one small file of the last version, from both, with a cache that is warm.
fn cat(series: &Series, grown: &Grown) -> io::Result<Option<String>> {
    let (Some(file), Some((_, fresh))) = (&grown.small_file, grown.fresh.last()) else {
        return Ok(None);
    };
    let last = series.versions - 1;
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for _ in 0..CATS {
        costs[0].push(grown.old.cat(last, file)?);
        costs[1].push(fresh.cat(0, file)?);
    }
    let [(wall, cpu), (fresh_wall, fresh_cpu)] = costs.each_ref().map(|costs| middle(costs));
    Ok(Some(format!(
        "{}: `cat` of one small file of the last version {wall:.3} s . CPU {cpu:.3} s, fresh \
         {fresh_wall:.3} . {fresh_cpu:.3}",
        series.title
    )))
}

/// Prunes the old repository to the last version.
fn prune(series: &Series, grown: &Grown) -> io::Result<Option<String>> {
    let Some((_, fresh)) = grown.fresh.last() else { return Ok(None) };
    let pruned = grown.old.prune_to_the_last()?;
    let (left, fresh) = (grown.old.stored()?, fresh.stored()?);
    Ok(Some(format!(
        "{}: a prune to the last version copied {:.1} MB and freed {:.1} MB in {:.2} s; {:.1} MB \
         are left, {:.2} of the fresh repository's",
        series.title,
        megabytes(pruned.copied),
        megabytes(pruned.freed),
        pruned.seconds,
        megabytes(left),
        left as f64 / fresh as f64,
    )))
}

fn middle(costs: &[Cost]) -> (f64, f64) {
    let [wall, cpu, _] = process::medians(costs).unwrap_or_default();
    (wall, cpu)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Place {
    fn stored(&self) -> io::Result<u64> {
        tree::bytes_below(&self.repository())
    }
}

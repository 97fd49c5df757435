//! icecore against other tools: whole processes on the same data, step by step in turn.
//!
//! Each round makes a data set anew by seed. Then at every step (first backup, run without
//! changes, restore, a changed version, prune) each tool runs once before the next step begins,
//! so that a slow minute of the machine hits all of them; in each round another one comes first.
//! What a restore brought is compared with the source each time, by reading both, so that nobody is
//! fast by leaving something out (extended attributes, holes and what the root itself has are not
//! looked at); in the first round the last version is restored once more after the prune. One
//! Markdown table for each data set: medians, beside them icecore's share of the peer's figure.
//!
//! - `ICECORE_BENCH_DATA=kernel,json`: which of kernel, json, pages, sql, typescript, media, few.
//! - `ICECORE_BENCH_TOOLS=icecore,restic`: which of icecore, restic, rustic, borg, tar, cp, find;
//!   a tool is looked for in `/opt/peers/bin`, where `peers.sh` puts it, and on the `PATH`.
//! - `ICECORE_BENCH_ROUNDS`, 3, and five times as many of few, which are ten files, to see what
//!   commands cost by themselves; `ICECORE_BENCH_SCALE=0.01` makes what is generated smaller (of
//!   typescript it takes fewer versions; the kernel tree stays whole).
//! - `ICECORE_BENCH_PLAIN=1`: without encryption, of the tools that can do without.
//! - `ICECORE_BENCH_KERNEL`: a source tree, else `/usr/src/linux-source-*` where it is unpacked;
//!   `ICECORE_BENCH_TYPESCRIPT`: what `typescript.sh` fetched.
//! - `ICECORE_BENCH_DIR`: where everything happens, restores too; `/dev/shm` when not said. In
//!   memory an fsync costs nothing, for none of the tools.
//!
//! Tools run with their defaults but for this: borg compresses with `zstd,3`; restic and rustic
//! show no progress, and count nothing ahead for it (`--no-scan`); and rustic's prune deletes at
//! once, as the others' does. All but icecore store a new snapshot of a run without changes, too.
//! Each has a home, a cache and temporary files of its own in the work folder. Peak memory is what
//! wait4 tells, and never less than what this program itself holds, which is a few MB.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::print_stderr, reason = "it takes long, and says how far it is")]

#[path = "compare/report.rs"]
mod report;
#[path = "compare/settings.rs"]
mod settings;
#[path = "compare/steps.rs"]
mod steps;
#[path = "compare/stored.rs"]
mod stored;
#[path = "support/mod.rs"]
mod support;
#[path = "compare/tools.rs"]
mod tools;

use settings::Settings;
use std::io;
use std::process::ExitCode;
use support::data::Data;
use support::work::Work;

fn main() -> ExitCode {
    // To open a repository takes 64 MiB, and what this program ever held counts as held by the
    // tools it starts; so a child of its own looks into repositories.
    if let Some(repository) = stored::asked_for() {
        return end(stored::print(&repository).map(|()| true));
    }
    if !support::is_asked("compare") {
        return ExitCode::SUCCESS;
    }
    end(Settings::read().and_then(|settings| compare_all(&settings)))
}

fn end(done: io::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("compare: {e}");
            ExitCode::from(2)
        }
    }
}

/// Says whether everything that ran did what it should.
fn compare_all(settings: &Settings) -> io::Result<bool> {
    let work = Work::make("compare")?;
    report::print_head(settings)?;
    let mut is_well = true;
    for set in &settings.sets {
        let data = match Data::find(set, settings.scale, &settings.trees) {
            Ok(data) => data,
            Err(why) => {
                println!("\n{set}: skipped, {why}");
                continue;
            }
        };
        if let Err(why) = steps::room(&data, settings) {
            println!("\n{set}: skipped, {why}");
            is_well = false;
            continue;
        }
        let below = work.join(set);
        let runs = steps::rounds(&data, settings, &below)?;
        is_well &= report::print(&data, &runs);
    }
    Ok(is_well)
}

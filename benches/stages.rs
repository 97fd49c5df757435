//! `cargo bench --bench stages`: each stage of the way of the data alone, on one thread, with the
//! limit that the machine sets beside it, both taken by turns in the same run.
//!
//! Data is made by seed and is in memory. A row tells the median of the rounds with the least and
//! the most, and how much of its limit's speed the stage reaches, as the median of the rounds. A
//! limit is what cannot be done without: the same bytes through bare BLAKE3, zstd or AES, read or
//! copied in memory, the same questions to the system, the same fields through bare bincode.
//!
//! - `ICECORE_BENCH_STAGES=chunk,hash`: which of scan, compare, chunk, hash, look-up, compress,
//!   seal, decode, manifest, replay, index.
//! - `ICECORE_BENCH_ROUNDS`, 7; `ICECORE_BENCH_SECONDS`, 0.1: what one round of one side takes at
//!   least; `ICECORE_BENCH_SCALE=0.1` makes the data smaller.
//! - `ICECORE_BENCH_DIR`: where the few files are; `/dev/shm` when not said.
//!
//! `icecore bench` measures some of this as well, on all threads and for a person who asks what a
//! machine can do; here it is the parts that are compared with what they could be at best.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "stages/bytes.rs"]
mod bytes;
#[path = "stages/data.rs"]
mod data;
#[path = "stages/entries.rs"]
mod entries;
#[path = "stages/files.rs"]
mod files;
#[path = "stages/index.rs"]
mod index;
#[path = "stages/measure.rs"]
mod measure;
#[path = "stages/names.rs"]
mod names;
#[path = "stages/packs.rs"]
mod packs;
#[path = "stages/settings.rs"]
mod settings;
#[path = "support/mod.rs"]
mod support;

use measure::Done;
use settings::Settings;
use std::path::Path;
use std::process::ExitCode;
use support::work::Work;

type Stage = fn(&Settings, &Path) -> Done<()>;

/// Stages by name, in the order of the way of the data.
const STAGES: [(&str, Stage); 11] = [
    ("scan", files::scan),
    ("compare", files::compare),
    ("chunk", bytes::chunk),
    ("hash", bytes::hash),
    ("look-up", names::look_up),
    ("compress", bytes::compress),
    ("seal", packs::seal),
    ("decode", packs::decode),
    ("manifest", entries::manifest),
    ("replay", entries::replay),
    ("index", index::index),
];

fn main() -> ExitCode {
    if !support::is_asked("stages") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("stages: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Done<()> {
    let settings = Settings::read(&STAGES.map(|(name, _)| name))?;
    measure::stay_on_one_processor()?;
    measure::print_head(&settings);
    let is_chosen = |name: &str| settings.stages.iter().any(|chosen| chosen == name);
    for (name, stage) in STAGES.into_iter().filter(|(name, _)| is_chosen(name)) {
        stage(&settings, &Work::make("stages")?).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

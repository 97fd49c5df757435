//! How much memory a backup and a restore take, and that it does not grow with the data.
//!
//! The real program runs as a child, and what the system says of it is looked at all the time.
//! Anonymous memory is what counts: pages of mapped cache files belong to the system, which
//! takes them back when it likes. A password costs 64 MiB for a moment at the start; so the
//! table also says what was held after that.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/watch.rs"]
mod watch;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Instant;
use support::Numbers;
use support::generate;
use support::generate::records;
use support::tree;
use support::work::Work;
use watch::Peak;
use watch::watch;

/// More than this at any moment fails, in MB of a million bytes.
const ANONYMOUS_MB_MAX: f64 = 150.0;
/// More growth than this from the few files to the many fails.
const GROWTH_PERCENT_MAX: f64 = 10.0;
const FEW_FILES: u64 = 100_000;
const MANY_FILES: u64 = 300_000;
const LARGE_BYTES: u64 = 4 << 30;
/// The large file is noise and text in turn, so much of each.
const STRETCH_BYTES: usize = 1 << 20;

/// One line of the table.
#[derive(Debug)]
struct Row {
    data: &'static str,
    operation: &'static str,
    peak: Peak,
}

fn main() -> ExitCode {
    if !support::is_asked("memory") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("memory: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints everything, and says whether it stays within the bounds.
fn measure() -> io::Result<bool> {
    let rows = rows(&Work::make("memory")?)?;
    println!("| data | operation | s | peak anonymous MB | later MB | peak resident MB |");
    println!("|---|---|---|---|---|---|");
    for Row { data, operation, peak } in &rows {
        let Peak { seconds, anonymous, anonymous_later, resident, .. } = peak;
        println!(
            "| {data} | {operation} | {seconds:.1} | {anonymous:.1} | {anonymous_later:.1} \
             | {resident:.1} |"
        );
    }
    println!();
    let mut fits = true;
    for (few, many) in rows[..2].iter().zip(&rows[2..4]) {
        let growth = |few: f64, many: f64| (many / few - 1.0) * 100.0;
        let peak = growth(few.peak.anonymous, many.peak.anonymous);
        let later = growth(few.peak.anonymous_later, many.peak.anonymous_later);
        println!(
            "{}: growth with three times the files {peak:+.1} %, later {later:+.1} %",
            few.operation
        );
        fits &= peak <= GROWTH_PERCENT_MAX;
    }
    Ok(fits && rows.iter().all(|row| row.peak.anonymous <= ANONYMOUS_MB_MAX))
}

fn rows(work: &Path) -> io::Result<Vec<Row>> {
    type Make = fn(&Path) -> io::Result<()>;
    let data: [(&'static str, Make); 3] = [
        ("100 000 files", |folder| records::records(folder, FEW_FILES, 1)),
        ("300 000 files", |folder| records::records(folder, MANY_FILES, 1)),
        ("one file of 4 GiB", large_file),
    ];
    let mut rows = Vec::new();
    for (data, make) in data {
        let source = work.join("source");
        fs::create_dir_all(&source)?;
        make(&source)?;
        for (operation, peak) in operations(work)? {
            rows.push(Row { data, operation, peak });
        }
        for folder in ["source", ".local", ".cache"] {
            fs::remove_dir_all(work.join(folder))?;
        }
    }
    Ok(rows)
}

fn large_file(folder: &Path) -> io::Result<()> {
    let mut numbers = Numbers::new(2);
    let mut file = File::create(folder.join("large"))?;
    let mut bytes = Vec::with_capacity(2 * STRETCH_BYTES);
    for _ in 0..LARGE_BYTES / (2 * STRETCH_BYTES as u64) {
        bytes.clear();
        generate::noise(&mut numbers, STRETCH_BYTES, &mut bytes);
        support::text(&mut numbers, STRETCH_BYTES, &mut bytes);
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Backs the source up into a new repository, brings it back, compares, and lets go of what came.
fn operations(work: &Path) -> io::Result<[(&'static str, Peak); 2]> {
    let backup = run(work, &["backup", "source"])?;
    let restore = run(work, &["restore", "source", "out"])?;
    tree::compare(&work.join("source"), &work.join("out"), true)?;
    fs::remove_dir_all(work.join("out"))?;
    Ok([("backup", backup), ("restore", restore)])
}

fn run(work: &Path, arguments: &[&str]) -> io::Result<Peak> {
    let start = Instant::now();
    let mut child = support::command(Path::new(env!("CARGO_BIN_EXE_icecore")), work)
        .args(["-q", "--no-progress"])
        .args(arguments)
        .env("ICECORE_PASSWORD", support::PASSWORD)
        .current_dir(work)
        .stdin(Stdio::null())
        .spawn()?;
    let (peak, status) = watch(&mut child, start)?;
    if status.success() {
        return Ok(peak);
    }
    Err(io::Error::other(format!("icecore {} failed: {status}", arguments.join(" "))))
}

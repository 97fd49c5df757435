//! How icecore does at sizes that few have: millions of files, names and packs, and a tebibyte.
//!
//! `ICECORE_BENCH_SCALE_ROWS=names,files` picks rows of `files`, `entries`, `names`, `sparse`,
//! `endless` and `packs`; `ICECORE_BENCH_SCALE_ALL=1` takes all. Each is measured at a hundredth,
//! a tenth and the whole of its size, so that it shows what is not linear;
//! `ICECORE_BENCH_SCALE_PART=10` makes all of them ten times smaller. Repositories are encrypted.
//! `ICECORE_BENCH_SCALE_LONG=1` also lets `packs` export, copy and heal all of its 100 GiB.
//! `ICECORE_BENCH_DIR` names the folder to work in, `/dev/shm` when not said; all rows want 25 GB.
//! On a disk all runs in a control group that bounds memory, if the system has such groups.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "scale/group.rs"]
mod group;
#[path = "scale/rows.rs"]
mod rows;
#[path = "scale/sources.rs"]
mod sources;
#[path = "scale/steps.rs"]
mod steps;
#[path = "support/mod.rs"]
mod support;
#[path = "support/watch.rs"]
mod watch;

use group::Group;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Instant;
use support::environment;
use support::work::Work;
use watch::Peak;

/// More anonymous memory than this at any moment fails, in MB of a million bytes.
const ANONYMOUS_MB_MAX: f64 = 150.0;
/// Of a control group: what is mapped counts in it, too, and the system takes it back.
const GROUP_MB: u64 = 150;
const GROUP_NAMES_MB: u64 = 500;
const TEBIBYTE: u64 = 1 << 40;
/// Tells a child of the bench what to do: a step and how much.
const STEP: &str = "ICECORE_BENCH_SCALE_STEP";

/// One line of the table.
#[derive(Debug)]
struct Line {
    row: &'static str,
    size: u64,
    operation: &'static str,
    peak: Peak,
    note: String,
}

/// A run of the bench.
#[derive(Debug)]
struct Bench {
    work: PathBuf,
    /// Bounds memory, where the system lets us make one.
    group: Option<Group>,
    lines: Vec<Line>,
}

type Row = fn(&mut Bench, &'static str, u64) -> io::Result<()>;

/// A row by its name, and its whole size.
type Whole = (&'static str, u64, Row);

const ROWS: [Whole; 6] = [
    ("files", 1_000_000, rows::files),
    ("entries", 10_000_000, rows::entries),
    ("names", 100_000_000, rows::names),
    ("sparse", TEBIBYTE, rows::sparse),
    ("endless", TEBIBYTE, rows::endless),
    ("packs", 100_000, rows::packs),
];

fn main() -> ExitCode {
    if let Ok(step) = std::env::var(STEP) {
        return child(&step);
    }
    if !support::is_asked("scale") {
        return ExitCode::SUCCESS;
    }
    match picked().and_then(|(rows, part)| measure(&rows, part)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("scale: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the rows that were asked for, and by how much they are made smaller.
fn picked() -> io::Result<(Vec<Whole>, u64)> {
    let is_all = environment::flag("SCALE_ALL")?;
    let names = environment::chosen("SCALE_ROWS", &ROWS.map(|(name, ..)| name))?;
    let part = environment::number("SCALE_PART", 1)?.max(1);
    let is_asked = environment::variable("SCALE_ROWS").is_some();
    let is_picked = |row: &str| is_all || is_asked && names.iter().any(|name| name == row);
    Ok((ROWS.into_iter().filter(|(name, ..)| is_picked(name)).collect(), part))
}

fn child(step: &str) -> ExitCode {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let (step, count) = step.split_once(' ').unwrap_or((step, "0"));
    match steps::run(step, count.parse().unwrap_or(0), &home) {
        Ok(note) => {
            println!("{note}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints everything, and says whether it stays within the bounds.
fn measure(rows: &[Whole], part: u64) -> io::Result<bool> {
    if rows.is_empty() {
        println!("scale: ICECORE_BENCH_SCALE_ROWS picks rows, ICECORE_BENCH_SCALE_ALL=1 all");
        return Ok(true);
    }
    let folder = Work::make("scale")?;
    let work = folder.join("home");
    let group = Group::make(&folder);
    match &group {
        Ok(_) => println!("in a control group of {GROUP_MB} MB (names {GROUP_NAMES_MB} MB)\n"),
        Err(why) => println!("in no control group, bound of {GROUP_MB} MB NOT tried: {why}\n"),
    }
    let mut bench = Bench { work, group: group.ok(), lines: Vec::new() };
    println!(
        "| row | size | operation | within MB | s | CPU s | peak anonymous MB | later MB | peak \
         resident MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let measured = rows.iter().try_for_each(|&(name, whole, row)| {
        let whole = whole / part;
        [whole / 100, whole / 10, whole].into_iter().try_for_each(|size| {
            fs::create_dir_all(&bench.work)?;
            row(&mut bench, name, size)?;
            fs::remove_dir_all(&bench.work)
        })
    });
    print_growth(&bench.lines);
    measured?;
    let is_fit = |line: &Line| {
        line.peak.anonymous <= ANONYMOUS_MB_MAX && !line.note.contains("OUT OF BOUNDS")
    };
    Ok(bench.lines.iter().all(is_fit))
}

/// Prints notes, and how time and memory grow from size to size.
fn print_growth(lines: &[Line]) {
    println!();
    for Line { row, size, operation, note, .. } in lines.iter().filter(|l| !l.note.is_empty()) {
        println!("- {row} {size}, {operation}: {note}");
    }
    println!(
        "\n| row | operation | sizes | s | CPU s | peak anonymous MB |\n|---|---|---|---|---|---|"
    );
    for (n, line) in lines.iter().enumerate() {
        let is_same = |other: &&Line| other.row == line.row && other.operation == line.operation;
        if lines[..n].iter().any(|other| is_same(&other)) {
            continue;
        }
        let all: Vec<&Line> = lines.iter().filter(is_same).collect();
        let column = |cell: &dyn Fn(&Line) -> String| {
            all.iter().map(|line| cell(line)).collect::<Vec<_>>().join(" -> ")
        };
        let growth = |value: &dyn Fn(&Line) -> f64| {
            let steps = all.windows(2).map(|pair| value(pair[1]) / value(pair[0]).max(0.01));
            steps.map(|times| format!("x{times:.2}")).collect::<Vec<_>>().join(", ")
        };
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            line.row,
            line.operation,
            column(&|line| line.size.to_string()),
            growth(&|line| line.peak.seconds),
            growth(&|line| line.peak.cpu_seconds),
            column(&|line| format!("{:.1}", line.peak.anonymous)),
        );
    }
}

/// Returns the bound of the control group of a row.
fn megabytes_within(row: &str) -> u64 {
    if row == "names" { GROUP_NAMES_MB } else { GROUP_MB }
}

impl Bench {
    fn command(&self, program: &Path, megabytes: u64) -> io::Result<Command> {
        let mut command = match &self.group {
            Some(group) => {
                group.set(megabytes * 1_000_000)?;
                let mut shell = support::command(Path::new("/bin/sh"), &self.work);
                shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
                shell.arg(group.members()).arg(program);
                shell
            }
            None => support::command(program, &self.work),
        };
        command
            .env("ICECORE_PASSWORD", support::PASSWORD)
            .env("ICECORE_TO_PASSWORD", support::PASSWORD)
            .current_dir(&self.work);
        Ok(command)
    }

    fn watch(
        &mut self,
        (row, size): (&'static str, u64),
        operation: &'static str,
        mut command: Command,
        keeps_note: bool,
    ) -> io::Result<()> {
        let start = Instant::now();
        let note = if keeps_note { Stdio::piped() } else { Stdio::null() };
        let mut child = command.stdin(Stdio::null()).stdout(note).spawn()?;
        let (peak, status) = watch::watch(&mut child, start)?;
        let mut note = String::new();
        if let Some(mut out) = child.stdout.take() {
            out.read_to_string(&mut note)?;
        }
        let note = note.trim().to_owned();
        if !status.success() {
            return Err(io::Error::other(format!("{row} {size}, {operation}: {status} {note}")));
        }
        let within = match self.group {
            Some(_) => megabytes_within(row).to_string(),
            None => "-".to_owned(),
        };
        let Peak { seconds, cpu_seconds, anonymous, anonymous_later, resident } = peak;
        println!(
            "| {row} | {size} | {operation} | {within} | {seconds:.2} | {cpu_seconds:.2} | \
             {anonymous:.1} | {anonymous_later:.1} | {resident:.1} |"
        );
        self.lines.push(Line { row, size, operation, peak, note });
        Ok(())
    }

    /// Runs the program.
    fn icecore(
        &mut self,
        data: (&'static str, u64),
        operation: &'static str,
        arguments: &[&str],
    ) -> io::Result<()> {
        let program = Path::new(env!("CARGO_BIN_EXE_icecore"));
        let mut command = self.command(program, megabytes_within(data.0))?;
        command.args(["-q", "--no-progress"]).args(arguments);
        self.watch(data, operation, command, false)
    }

    /// Runs a step in a child of the bench, which uses the library.
    fn step(
        &mut self,
        data: (&'static str, u64),
        operation: &'static str,
        step: &str,
    ) -> io::Result<()> {
        let mut command = self.command(&std::env::current_exe()?, megabytes_within(data.0))?;
        command.env(STEP, format!("{step} {}", data.1));
        self.watch(data, operation, command, true)
    }

    fn note(&mut self, note: String) {
        if let Some(line) = self.lines.last_mut() {
            line.note = note;
        }
    }
}

//! How icecore does at sizes that few have: millions of files, names and packs, and a tebibyte.
//!
//! `ICECORE_BENCH_SCALE_ROWS=names,files` picks rows of `files`, `entries`, `names`, `sparse`,
//! `endless` and `packs`; `ICECORE_BENCH_SCALE_ALL=1` takes all. Each is measured at a hundredth,
//! a tenth and the whole of its size, so that it shows what is not linear;
//! `ICECORE_BENCH_SCALE_PART=10` makes all of them ten times smaller. Repositories are encrypted.
//! `ICECORE_BENCH_DIR` names the folder to work in, `/dev/shm` when not said; all rows want 25 GB.
//! On a disk all runs in a control group that bounds memory, if the system has such groups.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "scale/group.rs"]
mod group;
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
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Instant;
use support::Numbers;
use support::environment;
use support::tree;
use support::work::Work;
use watch::Peak;

/// More anonymous memory than this at any moment fails, in MB of a million bytes.
const ANONYMOUS_MB_MAX: f64 = 150.0;
/// Of a control group: what is mapped counts in it, too, and the system takes it back.
const GROUP_MB: u64 = 150;
const GROUP_NAMES_MB: u64 = 500;
const TEBIBYTE: u64 = 1 << 40;
/// The endless file is made shorter where it would take longer than this.
const ENDLESS_SECONDS_MAX: f64 = 1200.0;
const ENDLESS_SHORT_BYTES: u64 = 64 << 30;
/// Data in the sparse file: stretches of so many bytes, far apart.
const SPARSE_STRETCHES: u64 = 64;
const SPARSE_STRETCH_BYTES: usize = 1 << 20;
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
    ("files", 1_000_000, files),
    ("entries", 10_000_000, entries),
    ("names", 100_000_000, names),
    ("sparse", TEBIBYTE, sparse),
    ("endless", TEBIBYTE, endless),
    ("packs", 100_000, packs),
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
        "| row | size | operation | s | CPU s | peak anonymous MB | later MB | peak resident MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
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
        command.env("ICECORE_PASSWORD", support::PASSWORD).current_dir(&self.work);
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
        let Peak { seconds, cpu_seconds, anonymous, anonymous_later, resident } = peak;
        println!(
            "| {row} | {size} | {operation} | {seconds:.2} | {cpu_seconds:.2} | {anonymous:.1} | \
             {anonymous_later:.1} | {resident:.1} |"
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
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_icecore")), GROUP_MB)?;
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
        let megabytes = if data.0 == "names" { GROUP_NAMES_MB } else { GROUP_MB };
        let mut command = self.command(&std::env::current_exe()?, megabytes)?;
        command.env(STEP, format!("{step} {}", data.1));
        self.watch(data, operation, command, true)
    }

    fn note(&mut self, note: String) {
        if let Some(line) = self.lines.last_mut() {
            line.note = note;
        }
    }
}

/// Real files of 1 KiB.
fn files(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    let source = bench.work.join("source");
    let mut numbers = Numbers::new(1);
    let mut bytes = Vec::new();
    for n in 0..count {
        let folder = source.join(format!("{:04}", n / 500));
        if n.is_multiple_of(500) {
            fs::create_dir_all(&folder)?;
        }
        bytes.clear();
        support::text(&mut numbers, 1024, &mut bytes);
        fs::write(folder.join(format!("{n:07}")), &bytes)?;
    }
    tree::age(&source)?;
    bench.icecore(data, "first backup", &["backup", "source"])?;
    bench.icecore(data, "unchanged", &["backup", "source"])?;
    bench.icecore(data, "restore", &["restore", "source", "out"])?;
    tree::compare(&source, &bench.work.join("out"), true)?;
    fs::remove_dir_all(bench.work.join("out"))?;
    bench.icecore(data, "check", &["check"])?;
    // Half of them change, and only the second backup is kept.
    for n in (0..count).step_by(2) {
        fs::write(source.join(format!("{:04}/{n:07}", n / 500)), n.to_string().repeat(100))?;
    }
    bench.icecore(data, "half changed", &["backup", "source"])?;
    bench.icecore(data, "forget", &["forget", "source", "--keep-last", "1"])?;
    bench.icecore(data, "prune", &["prune"])
}

/// Files that are made while they are looked at.
fn entries(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    bench.step(data, "first backup", "entries")?;
    bench.step(data, "unchanged", "entries")?;
    bench.icecore(data, "list", &["list", "virtual"])?;
    bench.icecore(data, "check", &["check"])?;
    bench.icecore(data, "prune --dry-run", &["prune", "--dry-run"])
}

fn names(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    bench.step((row, count), "build", "names-build")?;
    bench.step((row, count), "look up", "names-look")
}

/// Goes through the data of the sparse file, and where each stretch is.
fn stretches(bytes: u64, mut visit: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut numbers = Numbers::new(3);
    for n in 0..SPARSE_STRETCHES {
        let mut stretch = Vec::new();
        support::text(&mut numbers, SPARSE_STRETCH_BYTES, &mut stretch);
        let offset = bytes / SPARSE_STRETCHES * n;
        visit(&stretch, offset - offset % 4096)?;
    }
    Ok(())
}

/// A file that is nearly all hole.
fn sparse(bench: &mut Bench, row: &'static str, bytes: u64) -> io::Result<()> {
    let data = (row, bytes);
    fs::create_dir_all(bench.work.join("source"))?;
    let file = File::create(bench.work.join("source/sparse"))?;
    file.set_len(bytes)?;
    stretches(bytes, |stretch, offset| file.write_all_at(stretch, offset))?;
    drop(file);
    tree::age(&bench.work.join("source"))?;
    bench.icecore(data, "first backup", &["backup", "source"])?;
    bench.icecore(data, "unchanged", &["backup", "source"])?;
    bench.icecore(data, "restore", &["restore", "source", "out"])?;
    let file = File::open(bench.work.join("out/sparse"))?;
    let mut came = vec![0; SPARSE_STRETCH_BYTES];
    stretches(bytes, |stretch, offset| {
        file.read_exact_at(&mut came, offset)?;
        if came == stretch { Ok(()) } else { Err(io::Error::other("what came back differs")) }
    })?;
    let back = file.metadata()?;
    let is_sparse = back.len() == bytes && back.blocks() * 512 < bytes / 2;
    let verdict = if is_sparse { "" } else { ": OUT OF BOUNDS" };
    bench.note(format!("{} bytes, {} MB allocated{verdict}", back.len(), back.blocks() >> 11));
    bench.icecore(data, "check", &["check", "--read-data"])
}

/// One file that gives the same mebibyte over and over.
fn endless(bench: &mut Bench, row: &'static str, mut bytes: u64) -> io::Result<()> {
    let before =
        bench.lines.iter().rfind(|line| line.row == row && line.operation == "first backup");
    let seconds = before.map_or(0.0, |line| line.peak.seconds * bytes as f64 / line.size as f64);
    let is_cut = seconds > ENDLESS_SECONDS_MAX && bytes > ENDLESS_SHORT_BYTES;
    if is_cut {
        bytes = ENDLESS_SHORT_BYTES;
    }
    let data = (row, bytes);
    bench.step(data, "first backup", "endless")?;
    if is_cut {
        bench.note(format!("cut from what would have taken {seconds:.0} s"));
    }
    bench.step(data, "unchanged", "endless")?;
    bench.icecore(data, "check", &["check"])
}

/// A repository of many packs, made small.
fn packs(bench: &mut Bench, row: &'static str, count: u64) -> io::Result<()> {
    let data = (row, count);
    bench.step(data, "first backup", "packs")?;
    let folders = fs::read_dir(bench.work.join(".local/share/icecore/packs"))?;
    let packs = folders.flatten().filter_map(|folder| fs::read_dir(folder.path()).ok());
    let packs = packs.map(Iterator::count).sum::<usize>() as u64;
    let verdict = if packs < count { ": OUT OF BOUNDS" } else { "" };
    bench.note(format!("{packs} packs{verdict}"));
    bench.step(data, "unchanged", "packs")?;
    bench.icecore(data, "list", &["list"])?;
    bench.icecore(data, "stats", &["stats"])?;
    bench.icecore(data, "check", &["check"])?;
    bench.icecore(data, "prune --dry-run", &["prune", "--dry-run"])
}

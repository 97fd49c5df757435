//! icecore against other tools, whole processes on the same folder, one after the other.
//!
//! Each round runs every tool once: a first backup, a run without changes, a restore into a new
//! folder, all encrypted where the tool can. Medians are printed with their ratio to icecore's,
//! as absolute times drift on any shared machine. What came back is compared with the source, by
//! reading both, so that nobody is fast by leaving something out. `peers.sh` installs the tools.
//! `ICECORE_BENCH_SOURCE` names the folder, `ICECORE_BENCH_ROUNDS` how many rounds, 3 by default.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "support/mod.rs"]
mod support;
#[path = "versus/tools.rs"]
mod tools;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Instant;
use tools::Tool;

/// Files of the folder that is made when none is given.
const FILES: u64 = 20_000;
const ROUNDS: usize = 3;
const COMPARED_BYTES: usize = 1 << 16;

/// What one tool took in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    first: f64,
    unchanged: f64,
    restore: f64,
    stored_mb: f64,
}

type Figure = (&'static str, fn(&Round) -> f64);

const FIGURES: [Figure; 4] = [
    ("first backup, s", |round| round.first),
    ("unchanged, s", |round| round.unchanged),
    ("restore, s", |round| round.restore),
    ("stored, MB", |round| round.stored_mb),
];

fn main() -> ExitCode {
    if !support::is_asked("versus") {
        return ExitCode::SUCCESS;
    }
    match compare_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("versus: {e}");
            ExitCode::FAILURE
        }
    }
}

fn compare_all() -> io::Result<()> {
    let work = support::work_folder("versus")?;
    let done = measure(&work);
    fs::remove_dir_all(&work)?;
    done
}

fn measure(work: &Path) -> io::Result<()> {
    let source = match std::env::var_os("ICECORE_BENCH_SOURCE") {
        Some(folder) => fs::canonicalize(folder)?,
        None => {
            let folder = work.join("source");
            support::small_files(&folder, FILES, 3)?;
            folder
        }
    };
    let rounds = std::env::var("ICECORE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS).max(1);
    let tools = tools::installed();
    let mut measured: Vec<Vec<Round>> = vec![Vec::new(); tools.len()];
    for _ in 0..rounds {
        for (tool, rows) in tools.iter().zip(&mut measured) {
            rows.push(round(tool, work, &source)?);
        }
    }
    println!("{} rounds on {}", rounds, source.display());
    print_table(&tools, &measured);
    Ok(())
}

fn print_table(tools: &[Tool], measured: &[Vec<Round>]) {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    println!("\n| median (icecore / peer) | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(tools.len()));
    for (figure, value) in FIGURES {
        let medians: Vec<f64> = measured.iter().map(|rounds| median(rounds, value)).collect();
        let cells = medians.iter().enumerate().map(|(n, peer)| match n {
            0 => format!("{peer:.2}"),
            _ => format!("{peer:.2} ({:.2})", medians[0] / peer),
        });
        println!("| {figure} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn median(rounds: &[Round], value: fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(tool: &Tool, work: &Path, source: &Path) -> io::Result<Round> {
    let home = work.join("home");
    let (repository, out) = (home.join("repository"), home.join("out"));
    fs::create_dir_all(&out)?;
    let place = tools::Place { source, repository: &repository, out: &out };
    let run = |command: Command| time(tool, command, &home);
    for command in (tool.init)(tool, &place) {
        run(command)?;
    }
    let first = run((tool.backup)(tool, &place))?;
    let unchanged = run((tool.backup)(tool, &place))?;
    let stored_mb = bytes_below(&repository)? as f64 / 1e6;
    let restore = run((tool.restore)(tool, &place))?;
    let came = (tool.came_to)(&place);
    compare(source, &came).map_err(|e| io::Error::other(format!("{}: {e}", tool.name)))?;
    fs::remove_dir_all(&home)?;
    Ok(Round { first, unchanged, restore, stored_mb })
}

/// Runs a command with a home of its own, and returns how many seconds it took.
fn time(tool: &Tool, mut command: Command, home: &Path) -> io::Result<f64> {
    command.env("HOME", home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output()?;
    let seconds = start.elapsed().as_secs_f64();
    if output.status.success() {
        return Ok(seconds);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{} failed, {}: {said}", tool.name, output.status)))
}

/// Returns how many bytes the files below a folder have, or a file itself.
fn bytes_below(path: &Path) -> io::Result<u64> {
    let mut waiting = vec![path.to_path_buf()];
    let mut total = 0;
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        } else {
            total += metadata.len();
        }
    }
    Ok(total)
}

/// Fails when two trees differ in names, kinds, modes, times, link targets or content.
fn compare(before: &Path, after: &Path) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let (one, other) = (before.join(&below), after.join(&below));
        let differs = |what: &str| Err(io::Error::other(format!("{what} of {below:?} differs")));
        let (old, new) = (fs::symlink_metadata(&one)?, fs::symlink_metadata(&other)?);
        if old.file_type() != new.file_type() {
            return differs("the kind");
        }
        if old.is_symlink() {
            if fs::read_link(&one)? != fs::read_link(&other)? {
                return differs("the target");
            }
            continue;
        }
        // Not every tool brings the root's own metadata back.
        let is_root = below.as_os_str().is_empty();
        let mode = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o7777;
        if !is_root && (mode(&old) != mode(&new) || old.mtime() != new.mtime()) {
            return differs("mode or time");
        }
        if old.is_dir() {
            let names = names(&one)?;
            if names != self::names(&other)? {
                return differs("the list");
            }
            waiting.extend(names.iter().map(|name| below.join(name)));
        } else if old.is_file() && !same_content(&one, &other)? {
            return differs("the content");
        }
    }
    Ok(())
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(folder)?;
    let mut names: Vec<_> =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let mut buffers = [vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]];
    loop {
        let lengths = [fill(&mut one, &mut buffers[0])?, fill(&mut other, &mut buffers[1])?];
        if lengths[0] != lengths[1] || buffers[0][..lengths[0]] != buffers[1][..lengths[1]] {
            return Ok(false);
        }
        if lengths[0] == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

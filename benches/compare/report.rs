//! The tables.

use crate::settings::INSTALLS;
use crate::settings::Settings;
use crate::steps::Run;
use crate::steps::Step;
use crate::stored;
use crate::support::data::Data;
use crate::support::median;
use crate::support::process;
use crate::tools;
use std::fs;
use std::io;

/// Prints what was measured with what.
pub(crate) fn print_head(settings: &Settings) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    let mut versions = Vec::new();
    for tool in &settings.tools {
        let output = tool.version().output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        versions.push(said.lines().next().unwrap_or_default().trim().to_owned());
    }
    println!(
        "{cores} cores, {:.1} GB of memory, work in {}; rounds: {}, scale: {}, encryption: {}",
        memory.unwrap_or(0.0) * 1024.0 / 1e9,
        settings.dir.display(),
        settings.rounds,
        settings.scale,
        if settings.is_plain { "none" } else { "wherever the tool has it" }
    );
    println!("{}", versions.join("; "));
    if !settings.missing.is_empty() {
        println!("not found: {} ({INSTALLS})", settings.missing.join(", "));
    }
    println!(
        "wall s . CPU s . peak MB, medians; in brackets icecore's share of the other's time or \
         size; with * of fewer rounds, as the tool failed"
    );
    Ok(())
}

/// Prints the tables of a data set, and says whether all went well.
pub(crate) fn print(data: &Data, runs: &[Run]) -> bool {
    println!("\n## {}\n", data.title);
    let titles: Vec<&str> = runs.iter().map(|run| run.tool.title()).collect();
    println!("| | {} |", titles.join(" | "));
    println!("|---|{}", "---|".repeat(runs.len()));
    let restore = if data.changes == 0 { "restore" } else { "restore of the first" };
    let time = |name: &str, step| print_row(name, runs, |run| times(run, step), process::cell);
    let size = |name: &str, step| print_row(name, runs, |run| sizes(run, step), cell_of_size);
    time("first backup", Step::First);
    size("stored, MB", Step::First);
    time("unchanged", Step::Unchanged);
    if data.is_few {
        time("list", Step::List);
        time("--help", Step::Help);
    }
    time(restore, Step::Restore);
    if data.changes > 0 {
        time(data.change, Step::Changed);
        let times = if data.changes == 1 { "change" } else { "changes" };
        size(&format!("stored after {} {times}, MB", data.changes), Step::Changed);
        time("restore of the last", Step::RestoreLast);
        time("prune to the last", Step::Prune);
        size("stored after the prune, MB", Step::Prune);
        print_row("freed by the prune, MB", runs, freed, cell_of_size);
    }
    let peak = |of: &str, steps: &[Step]| {
        let name = format!("peak of {of}, most of all rounds, MB");
        print_row(&name, runs, |run| peak(run, steps), cell_of_size);
    };
    peak("backups", &[Step::First, Step::Unchanged, Step::Changed]);
    peak("restores", &[Step::Restore, Step::RestoreLast]);
    runs.iter().for_each(print_kinds);
    for run in runs {
        if let Some(why) = &run.failed {
            println!("\n{} failed at {why}", run.tool.name);
        }
    }
    runs.iter().all(|run| run.failed.is_none())
}

/// Of how many rounds a figure is, and what is shown.
type Figure<const N: usize> = Option<(usize, [f64; N])>;

/// Prints one figure of all tools; the first number of a figure is what is set in relation.
fn print_row<const N: usize>(
    name: &str,
    runs: &[Run],
    figure: impl Fn(&Run) -> Figure<N>,
    cell: fn([f64; N]) -> String,
) {
    let own = runs.iter().find(|run| run.tool.name == tools::OWN).and_then(&figure);
    let rounds = runs.iter().flat_map(&figure).map(|(count, _)| count).max();
    let cells = runs.iter().map(|run| {
        let Some((count, numbers)) = figure(run) else { return String::new() };
        let mark = if Some(count) < rounds { "*" } else { "" };
        let share = match own {
            Some((_, own)) if run.tool.name != tools::OWN && own[0].min(numbers[0]) > 0.0 => {
                format!(" ({:.2})", own[0] / numbers[0])
            }
            _ => String::new(),
        };
        format!("{}{mark}{share}", cell(numbers))
    });
    println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn times(run: &Run, step: Step) -> Figure<3> {
    let costs = run.costs.get(&step)?;
    Some((costs.len(), process::medians(costs)?))
}

fn sizes(run: &Run, step: Step) -> Figure<1> {
    let stored = run.stored.get(&step)?;
    Some((stored.len(), [median(stored.iter().copied())?]))
}

fn freed(run: &Run) -> Figure<1> {
    let (before, after) = (run.stored.get(&Step::Changed)?, run.stored.get(&Step::Prune)?);
    let freed = before.iter().zip(after).map(|(before, after)| before - after);
    Some((after.len(), [median(freed)?]))
}

/// The most of all rounds of some steps. Of what is smaller than this program it tells nothing.
fn peak(run: &Run, steps: &[Step]) -> Figure<1> {
    let rounds = run.costs.get(steps.first()?)?.len();
    let costs = steps.iter().filter_map(|step| run.costs.get(step)).flatten();
    let peak = costs.map(|cost| cost.peak_bytes).max().filter(|_| run.tool.is_large())?;
    Some((rounds, [peak as f64]))
}

fn cell_of_size([bytes]: [f64; 1]) -> String {
    let megabytes = bytes / 1e6;
    let digits = if megabytes < 10.0 { 2 } else { 1 };
    format!("{megabytes:.digits$}")
}

/// Prints what icecore's repository is made of.
fn print_kinds(run: &Run) {
    if run.kinds.is_empty() {
        return;
    }
    let name = |step: &Step| match step {
        Step::Changed => "after the changes",
        Step::Prune => "after the prune",
        _ => "first backup",
    };
    let names: Vec<&str> = run.kinds.keys().map(name).collect();
    println!("\n| {}'s bytes | {} |", run.tool.name, names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (n, kind) in stored::KINDS.iter().enumerate() {
        let cells = run.kinds.values().map(|stored| {
            let all = stored[stored::KINDS.len() - 1].max(1);
            format!("{} ({:.2} %)", stored[n], stored[n] as f64 * 100.0 / all as f64)
        });
        println!("| {kind} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

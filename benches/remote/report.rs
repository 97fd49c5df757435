//! The tables.

use crate::contest::Contest;
use crate::contest::Run;
use crate::contest::Step;
use crate::support::median;
use crate::support::process::Cost;

/// Prints what holds for all tables.
pub(crate) fn print_head(rounds: usize, scale: f64) {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("{cores} cores; rounds: {rounds}, scale: {scale}");
    println!("wall s . CPU s . peak MB, medians; in brackets icecore's share of the other's");
    println!("on the wire: requests . connections . MB up . MB down");
}

/// Prints the table of a contest, and says whether all went well.
pub(crate) fn print(contest: &Contest, runs: &[Run]) -> bool {
    println!("\n## {}\n", contest.title());
    let titles: Vec<&str> = runs.iter().map(|run| run.tool.title()).collect();
    println!("| | {} |", titles.join(" | "));
    println!("|---|{}", "---|".repeat(runs.len()));
    for step in Step::ALL {
        let own = runs.first().and_then(|run| times(run, step));
        let cells = runs.iter().enumerate().map(|(n, run)| match (times(run, step), own) {
            (None, _) => String::new(),
            (Some(time), Some(own)) if n > 0 => {
                let (wall, cpu) = (own[0] / time[0], own[1] / time[1]);
                format!("{} ({wall:.2} . {cpu:.2})", cell(time))
            }
            (Some(time), _) => cell(time),
        });
        println!("| {} | {} |", contest.name(step), cells.collect::<Vec<_>>().join(" | "));
    }
    for step in Step::ALL {
        let cells = runs.iter().map(|run| {
            let Some(counts) = run.counts.get(&step) else { return String::new() };
            let (up, down) = (counts.up as f64 / 1e6, counts.down as f64 / 1e6);
            format!("{} . {} . {up:.2} . {down:.2}", counts.requests, counts.connections)
        });
        let cells: Vec<String> = cells.collect();
        println!("| {}, on the wire | {} |", contest.name(step), cells.join(" | "));
    }
    for run in runs {
        if let Some(why) = &run.failed {
            println!("\n{} failed at {why}", run.tool.title());
        }
    }
    runs.iter().all(|run| run.failed.is_none())
}

fn times(run: &Run, step: Step) -> Option<[f64; 3]> {
    let costs = run.costs.get(&step)?;
    let of = |value: fn(&Cost) -> f64| median(costs.iter().map(value));
    let peak = of(|cost| cost.peak_bytes as f64);
    Some([of(|cost| cost.seconds)?, of(|cost| cost.cpu_seconds)?, peak?])
}

fn cell([seconds, cpu, peak]: [f64; 3]) -> String {
    let digits = if seconds < 1.0 { 3 } else { 2 };
    format!("{seconds:.digits$} . {cpu:.digits$} . {:.0}", peak / 1e6)
}

//! The tables.

use crate::contest::Contest;
use crate::contest::Run;
use crate::contest::Step;
use crate::support::process;

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
        let times = |run: &Run| run.costs.get(&step).and_then(|costs| process::medians(costs));
        let own = runs.first().and_then(times);
        let cells = runs.iter().enumerate().map(|(n, run)| match (times(run), own) {
            (None, _) => String::new(),
            (Some(time), Some(own)) if n > 0 => {
                let (wall, cpu) = (own[0] / time[0], own[1] / time[1]);
                format!("{} ({wall:.2} . {cpu:.2})", process::cell(time))
            }
            (Some(time), _) => process::cell(time),
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

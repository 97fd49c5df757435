//! Takes a stage and its limit by turns, and prints them side by side.

use crate::settings::Settings;
use crate::support::median;
use rustix::thread::CpuSet;
use std::error::Error;
use std::time::Duration;
use std::time::Instant;

pub(crate) type Done<T> = Result<T, Box<dyn Error>>;

/// Goes once through the data and returns how long that took. What is made ready or checked
/// beside it does not count.
pub(crate) type Work<'a> = Box<dyn FnMut() -> Done<Duration> + 'a>;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Bytes, shown as MB a second.
    Bytes,
    /// Things of a kind, shown as thousands a second.
    Things(&'static str),
    /// Things of a kind, shown as nanoseconds for one.
    Single(&'static str),
}

impl Unit {
    fn name(self) -> String {
        match self {
            Unit::Bytes => "MB/s".to_owned(),
            Unit::Things(kind) => format!("1000 {kind}/s"),
            Unit::Single(kind) => format!("ns/{kind}"),
        }
    }

    /// Returns what is shown for so many a second.
    fn shown(self, rate: f64) -> f64 {
        match self {
            Unit::Bytes => rate / 1e6,
            Unit::Things(_) => rate / 1e3,
            Unit::Single(_) => 1e9 / rate,
        }
    }
}

/// What does one side of a row, by a name.
pub(crate) struct Side<'a> {
    name: String,
    work: Work<'a>,
}

/// Makes one side of a row.
pub(crate) fn side<'a>(
    name: impl Into<String>,
    work: impl FnMut() -> Done<Duration> + 'a,
) -> Side<'a> {
    Side { name: name.into(), work: Box::new(work) }
}

/// Runs something, and returns what it made and how long that took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let made = std::hint::black_box(work());
    (made, start.elapsed())
}

/// Fails with a sentence unless something holds.
pub(crate) fn ensure(holds: bool, otherwise: &str) -> Done<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Keeps this thread, and those that it starts, on the last processor there is: sources list
/// folders ahead on other threads, and limits know nothing of those.
pub(crate) fn stay_on_one_processor() -> Done<()> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| all.is_set(*cpu));
    only.set(last.ok_or("there is no processor")?);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}

/// Prints how it is measured, and the head of the table.
pub(crate) fn print_head(settings: &Settings) {
    println!(
        "one thread on one processor; rounds: {}, each of {} s or more a side; scale: {}; files in \
         {}\n",
        settings.rounds,
        settings.round.as_secs_f64(),
        settings.scale,
        settings.dir.display()
    );
    println!("| stage | what | unit | icecore | limit | the limit is | share |");
    println!("|---|---|---|---|---|---|---|");
}

/// Measures a row and prints it. `count` is how much one pass of either side goes through.
pub(crate) fn row(
    settings: &Settings,
    stage: &str,
    (unit, count): (Unit, usize),
    ours: Side<'_>,
    limit: Side<'_>,
) -> Done<()> {
    let mut sides = [ours, limit];
    // The first pass warms caches and is no part of it.
    for side in &mut sides {
        (side.work)()?;
    }
    let mut rates: [Vec<f64>; 2] = Default::default();
    for _ in 0..settings.rounds {
        let round = round(&mut sides, count, settings.round)?;
        rates.iter_mut().zip(round).for_each(|(rates, rate)| rates.push(rate));
    }
    let shares: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(our, best)| our / best).collect();
    let [ours, limit] = rates.map(|rates| cell(unit, &rates));
    println!(
        "| {stage} | {} | {} | {ours} | {limit} | {} | {:.2} |",
        sides[0].name,
        unit.name(),
        sides[1].name,
        middle(&shares)
    );
    Ok(())
}

/// Goes through the data by turns until both sides took long enough; returns how much each did a
/// second. The side that took less so far is next, so that whatever else the machine does hits
/// both alike.
fn round(sides: &mut [Side<'_>; 2], count: usize, at_least: Duration) -> Done<[f64; 2]> {
    let (mut taken, mut passes) = ([Duration::ZERO; 2], [0_u64; 2]);
    while passes.contains(&0) || taken.iter().any(|taken| *taken < at_least) {
        let which = usize::from(taken[1] < taken[0]);
        taken[which] += (sides[which].work)()?;
        passes[which] += 1;
    }
    let rate = |which: usize| count as f64 * passes[which] as f64 / taken[which].as_secs_f64();
    Ok([rate(0), rate(1)])
}

fn cell(unit: Unit, rates: &[f64]) -> String {
    let mut shown: Vec<f64> = rates.iter().map(|rate| unit.shown(*rate)).collect();
    shown.sort_by(f64::total_cmp);
    let digits = if middle(&shown) < 10.0 { 2 } else { 0 };
    let ends = shown.first().zip(shown.last()).unwrap_or((&0.0, &0.0));
    format!("{:.digits$} ({:.digits$}..{:.digits$})", middle(&shown), ends.0, ends.1)
}

fn middle(values: &[f64]) -> f64 {
    median(values.iter().copied()).unwrap_or(f64::NAN)
}

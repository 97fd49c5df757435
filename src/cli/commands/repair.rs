//! `icecore repair`.

use crate::base::error::Result;
use crate::base::path::display;
use crate::base::time::Clock;
use crate::base::time::SystemClock;
use crate::cli::commands::check::FindingFields;
use crate::cli::commands::check::fields;
use crate::cli::commands::check::some_of;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::repair;
use crate::engine::repair::Action;
use crate::engine::repair::Loss;
use crate::engine::repair::RepairOptions;
use crate::engine::repair::RepairReport;
use clap::Args;
use serde::Serialize;

/// Cure what check finds damaged, as far as it can be
///
/// Copies what is good in damaged packs, makes pack indexes anew, and declares what is gone lost,
/// so that the next backup stores it again from its source. Nothing is deleted that can be read;
/// `icecore prune` frees what was replaced. Exit code 3 means that something was lost or stays
/// damaged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore repair --dry-run")]
pub(crate) struct RepairArgs {
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Read every pack; without, only those that look damaged are read
    #[arg(long)]
    read_packs: bool,

    /// Read and verify all content
    #[arg(long)]
    read_data: bool,

    /// Nobody else is at work on the repository, on any machine, and what is missing is gone
    ///
    /// Takes away tombstones and leases that cannot be read, and goes on though most of the packs
    /// are not there.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    actions: Vec<ActionFields<'a>>,
    lost: Vec<LossFields<'a>>,
    unrepaired: Vec<FindingFields<'a>>,
    seconds: f64,
}

#[derive(Serialize)]
struct ActionFields<'a> {
    action: &'static str,
    object: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct LossFields<'a> {
    backup: &'a str,
    paths: &'a [String],
}

pub(crate) fn run(args: &RepairArgs, session: &mut Session) -> Result<Exit> {
    let repository = session.open()?;
    let options =
        RepairOptions { read_packs: args.read_packs, read_data: args.read_data, force: args.force };
    let started = SystemClock.now();
    let plan = session.work(|context| repair::plan(&repository, &options, context))?;
    let refused = plan.refused.clone();
    let mut report = if args.dry_run {
        let (actions, lost, unrepaired) = (plan.actions, plan.lost, plan.unrepaired);
        RepairReport { actions, lost, unrepaired, seconds: 0.0 }
    } else {
        session.work(|context| repair::execute(&repository, plan, context))?
    };
    report.seconds = SystemClock.now().seconds_since(started).max(0.0);
    if session.output.is_json() {
        session.output.document(&document(&report, args.dry_run))?;
    } else {
        say(&report, args.dry_run, session)?;
    }
    if report.actions.is_empty() && !args.read_packs && !args.read_data {
        let unread = "the inside of packs was not read: --read-data finds what is damaged there";
        session.output.note(unread);
    }
    if let Some(why) = refused.filter(|_| args.dry_run) {
        session.output.note(&format!("without --force it would be refused: {why}"));
    }
    Ok(Exit::of(report.is_whole()))
}

fn document(report: &RepairReport, dry_run: bool) -> Document<'_> {
    Document {
        dry_run,
        actions: report.actions.iter().map(ActionFields::of).collect(),
        lost: report.lost.iter().map(LossFields::of).collect(),
        unrepaired: report.unrepaired.iter().map(fields).collect(),
        seconds: report.seconds,
    }
}

impl<'a> ActionFields<'a> {
    fn of(action: &'a Action) -> Self {
        let (object, message) = (&action.object, &action.message);
        ActionFields { action: action.kind.as_str(), object, message }
    }
}

impl<'a> LossFields<'a> {
    fn of(loss: &'a Loss) -> Self {
        LossFields { backup: &loss.backup, paths: &loss.paths }
    }
}

fn say(report: &RepairReport, dry_run: bool, session: &mut Session) -> Result<()> {
    for action in &report.actions {
        let line = format!("{}: {}: {}", action.kind.as_str(), action.object, action.message);
        session.output.line(&display(line.as_bytes()))?;
    }
    for loss in &report.lost {
        session.output.line(&format!("lost: {}", display(loss.backup.as_bytes())))?;
        let paths: Vec<String> = loss.paths.iter().map(|path| shown(path)).collect();
        if let Some(line) = some_of("paths", &paths) {
            session.output.line(&line)?;
        }
    }
    for finding in &report.unrepaired {
        let line = format!("unrepaired: {}: {}", finding.object, finding.message);
        session.output.line(&display(line.as_bytes()))?;
        if let Some(line) = some_of("backups", &finding.backups) {
            session.output.line(&line)?;
        }
    }
    let actions = text::plural(report.actions.len() as u64, "cure", "cures");
    let done = match (report.actions.is_empty(), dry_run) {
        (true, _) => "nothing to repair".to_owned(),
        (false, true) => format!("{actions} planned"),
        (false, false) => format!("{actions} done"),
    };
    let lost = match report.lost.len() {
        0 => String::new(),
        n => format!(", {} lost something", text::plural(n as u64, "backup has", "backups have")),
    };
    let left = match report.unrepaired.len() {
        0 => String::new(),
        n => format!(", {} cannot be repaired", text::plural(n as u64, "object", "objects")),
    };
    let time = text::seconds(report.seconds);
    session.output.sentence(&format!("{done}{lost}{left}; {time}"))?;
    if !report.lost.is_empty() && !dry_run {
        output::talk("the next backup of each dataset stores anew what its source still has");
    }
    Ok(())
}

/// The root of a backup is an empty path.
fn shown(path: &str) -> String {
    if path.is_empty() { "everything below the root".to_owned() } else { path.to_owned() }
}

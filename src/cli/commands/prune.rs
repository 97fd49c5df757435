//! `icecore prune`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::LeaseId;
use crate::base::limits::DISK_WAIT_SECONDS;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::prune;
use crate::engine::prune::PruneOptions;
use crate::engine::prune::PruneReport;
use crate::engine::prune::TOMBSTONE_GONE;
use crate::engine::prune::WaitsFor;
use crate::repository::Repository;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Free the space of what no backup needs any more
///
/// Packs in which nothing lives are deleted; of wasteful ones what lives is copied first, and
/// small ones are merged. Backups, restores and other prunes may run at the same time: where a
/// backup under way could still need something, it stays until a later prune, and that is said.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore prune --dry-run
  icecore forget photos --keep-daily 7 --prune
  icecore prune --max-unused 0%")]
pub(crate) struct PruneArgs {
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Leave so much unused, as a share of what is used: less copying, more space taken
    #[arg(long, value_name = "N%", default_value = "5%", value_parser = parse_share)]
    max_unused: f64,

    /// Take the writer with this lease for dead; one that lives starts its backup again
    #[arg(long = "end-lease", value_name = "ID")]
    end_leases: Vec<LeaseId>,

    /// How long a server that cannot be told to may take to write copies to its disk
    ///
    /// Over FTP, and SFTP without `fsync`, nothing else keeps a power cut of the server from taking
    /// the copies when what they are copies of is deleted already. 0 where it cannot lose power.
    #[arg(long, value_name = "SECONDS", default_value_t = DISK_WAIT_SECONDS)]
    disk_wait: u64,

    /// Go on although a dataset is missing from the listing, or most of the repository would go
    ///
    /// A store that shows less than it holds, by damage or by mistake, looks like one in which
    /// nothing is needed. What only the missing dataset needs is deleted for good.
    #[arg(long)]
    force: bool,
}

/// What a prune did, as JSON tells it.
#[derive(Serialize)]
pub(crate) struct Document {
    dry_run: bool,
    packs: u64,
    bytes: u64,
    used_bytes: u64,
    unused_bytes: u64,
    packs_deleted: u64,
    packs_copied: u64,
    bytes_copied: u64,
    bytes_freed: u64,
    bytes_left_unused: u64,
    bytes_busy: u64,
    indexes_replaced: u64,
    headers_retired: u64,
    parity_deleted: u64,
    parity_bytes_deleted: u64,
    leases_ended: u64,
    tombstones_carried_on: u64,
    waits_for: Vec<Writer>,
    stuck: Vec<Stuck>,
    seconds: f64,
}

#[derive(Serialize)]
struct Writer {
    lease: String,
    host: String,
    pid: u32,
    purpose: String,
    since: String,
}

#[derive(Serialize)]
struct Stuck {
    pack: String,
    message: String,
}

fn parse_share(text: &str) -> Result<f64> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    let share = number.filter(|percent| percent.is_finite() && *percent >= 0.0);
    share.map(|percent| percent / 100.0).ok_or_else(|| {
        Error::invalid(format!("{text:?} is no share: write a number from 0 up, as 5%"))
    })
}

pub(crate) fn run(args: &PruneArgs, session: &mut Session) -> Result<Exit> {
    let repository = session.open()?;
    let options = PruneOptions {
        max_unused: args.max_unused,
        end_leases: args.end_leases.clone(),
        force: args.force,
        disk_wait: Duration::from_secs(args.disk_wait),
        dry_run: args.dry_run,
    };
    let report = session.work(|context| prune::run(&repository, &options, context))?;
    if session.output.is_json() {
        session.output.document(&document(&report, args.dry_run))?;
    } else {
        say(&report, args.dry_run, session)?;
    }
    Ok(Exit::of(report.stuck.is_empty()))
}

/// Prunes as after a forget, with what is usual.
pub(crate) fn usual(repository: &Repository, session: &Session) -> Result<PruneReport> {
    session.work(|context| prune::run(repository, &PruneOptions::default(), context))
}

/// Returns what a prune did as JSON tells it.
pub(crate) fn document(report: &PruneReport, dry_run: bool) -> Document {
    let plan = &report.plan;
    let figures = Figures::of(report, dry_run);
    let writer = |it: &WaitsFor| Writer {
        lease: it.lease.to_string(),
        host: it.host.clone(),
        pid: it.pid,
        purpose: it.purpose.clone(),
        since: it.since.to_rfc3339(),
    };
    let stuck = report.stuck.iter();
    Document {
        dry_run,
        packs: plan.packs,
        bytes: plan.bytes,
        used_bytes: figures.used,
        unused_bytes: plan.unused_bytes,
        packs_deleted: figures.deleted,
        packs_copied: (plan.wasteful.len() + plan.small.len()) as u64,
        bytes_copied: figures.copied,
        bytes_freed: figures.freed,
        bytes_left_unused: plan.tolerated_bytes,
        bytes_busy: plan.busy_bytes,
        indexes_replaced: report.indexes_replaced,
        headers_retired: report.headers_retired,
        parity_deleted: report.parity_deleted,
        parity_bytes_deleted: report.parity_bytes_deleted,
        leases_ended: report.leases_ended,
        tombstones_carried_on: report.carried_on,
        waits_for: report.waits_for.iter().map(writer).collect(),
        stuck: stuck
            .map(|(pack, message)| Stuck { pack: pack.to_string(), message: message.clone() })
            .collect(),
        seconds: report.seconds,
    }
}

/// What a prune did, or would do.
struct Figures {
    /// Packs that go.
    deleted: u64,
    copied: u64,
    /// Bytes that go, less those that are written for them.
    freed: u64,
    used: u64,
}

impl Figures {
    fn of(report: &PruneReport, dry_run: bool) -> Self {
        let plan = &report.plan;
        if dry_run {
            return Figures {
                deleted: plan.going().len() as u64,
                copied: plan.copied_bytes,
                freed: plan.freed_bytes,
                used: plan.used_bytes,
            };
        }
        let copied = report.bytes_written;
        // Before a copy it is not known what a part of a block takes when compressed by itself.
        let estimated = if copied > 0 { plan.copied_bytes } else { 0 };
        Figures {
            deleted: report.packs_deleted,
            copied,
            freed: report.bytes_deleted.saturating_sub(copied),
            used: plan.used_bytes.saturating_sub(estimated).saturating_add(copied),
        }
    }
}

/// Tells a person what a prune did, and why not more.
pub(crate) fn say(report: &PruneReport, dry_run: bool, session: &mut Session) -> Result<()> {
    let plan = &report.plan;
    if report.carried_on > 0 {
        let runs = text::plural(report.carried_on, "earlier prune", "earlier prunes");
        session.output.note(&format!("went on with what {runs} had left"));
    }
    for waits in &report.waits_for {
        let who = format!(
            "process {} on {} ({}, since {}; lease {})",
            waits.pid,
            waits.host,
            waits.purpose,
            waits.since.to_local_text(),
            waits.lease
        );
        let what = if dry_run { "would stop for" } else { "stops for" };
        session.output.note(&format!("{what} {who}: what it may need goes with a later prune"));
    }
    for (pack, why) in &report.stuck {
        let short = pack.short();
        let advice = if why == TOMBSTONE_GONE { "" } else { "; run `icecore repair`" };
        session.output.note(&format!("pack {short} stays: {why}{advice}"));
    }
    if plan.busy_bytes > 0 {
        let busy = text::bytes(plan.busy_bytes);
        session.output.note(&format!(
            "{busy} stay, as a backup under way or the next `icecore repair` may need them"
        ));
    }
    let stays = match plan.tolerated_bytes {
        0 => "nothing unused is left".to_owned(),
        bytes => format!("{} unused stay, as copying around them costs more", text::bytes(bytes)),
    };
    let figures = Figures::of(report, dry_run);
    let deleted = text::plural(figures.deleted, "pack", "packs");
    let [copied, freed, used] = [figures.copied, figures.freed, figures.used].map(text::bytes);
    if dry_run {
        let packs = text::count(plan.packs);
        return session.output.sentence(&format!(
            "would delete {deleted} of {packs}, copy {copied} and free {freed}; {used} are used, \
             {stays}"
        ));
    }
    session.output.sentence(&format!(
        "{freed} freed: {deleted} deleted, {copied} copied, {} retired; {used} are used, {stays}; \
         {}",
        text::plural(report.headers_retired, "forgotten backup", "forgotten backups"),
        text::seconds(report.seconds),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_may_be_nothing_and_more_than_all() {
        assert_eq!(parse_share("5%").expect("a share"), 0.05);
        assert_eq!(parse_share("0").expect("a share"), 0.0);
        assert_eq!(parse_share("250%").expect("a share"), 2.5);
        for bad in ["-1", "x", "", "inf", "NaN%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}

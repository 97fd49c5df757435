//! `icecore parity`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::PARITY_PERCENT_MAX;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::parity;
use crate::engine::parity::AddReport;
use crate::engine::parity::Status;
use clap::Args;
use clap::Subcommand;
use serde::Serialize;

/// Keep beside packs what heals them when a disk forgets bits
///
/// With parity `icecore repair` puts flipped bytes and lost stretches of a pack back, up to the
/// share that was chosen. A pack that is gone altogether is not brought back by it: that takes a
/// second repository, see `icecore copy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore parity add
  icecore parity add --percent 10
  icecore parity status")]
pub(crate) struct ParityArgs {
    #[command(subcommand)]
    command: ParityCommand,
}

#[derive(Debug, Subcommand)]
enum ParityCommand {
    /// Add parity to the packs that have none
    ///
    /// Reads each of them once. To be run again after backups: it goes on where it stopped.
    #[command(after_help = "\
Examples:
  icecore parity add
  icecore backup ~/photos && icecore parity add")]
    Add {
        /// How much of a pack may be damaged; packs that have parity for less get it anew
        #[arg(long, value_name = "N", default_value = "5%", value_parser = parse_percent)]
        percent: u8,
    },
    /// Take all parity away; no backup needs it
    #[command(after_help = "Example:\n  icecore parity remove --dry-run")]
    Remove {
        /// Say what would be deleted, and do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Show how many packs have parity, and what it takes
    #[command(after_help = "Example:\n  icecore parity status")]
    Status,
}

#[derive(Serialize)]
struct AddDocument {
    packs_had: u64,
    packs_added: u64,
    pack_bytes: u64,
    parity_bytes: u64,
    failed: Vec<FailedFields>,
    seconds: f64,
}

#[derive(Serialize)]
struct FailedFields {
    pack: String,
    message: String,
}

#[derive(Serialize)]
struct RemoveDocument {
    dry_run: bool,
    objects: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct StatusDocument {
    packs: u64,
    pack_bytes: u64,
    packs_with_parity: u64,
    pack_bytes_with_parity: u64,
    parity_objects: u64,
    parity_bytes: u64,
    percents: Vec<PercentFields>,
}

#[derive(Serialize)]
struct PercentFields {
    percent: u8,
    packs: u64,
}

fn parse_percent(text: &str) -> Result<u8> {
    let number: Option<u8> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    number.filter(|percent| (1..=PARITY_PERCENT_MAX).contains(percent)).ok_or_else(|| {
        let most = PARITY_PERCENT_MAX;
        Error::invalid(format!("{text:?} is no share: write a whole number from 1 to {most}"))
    })
}

pub(crate) fn run(args: &ParityArgs, session: &mut Session) -> Result<Exit> {
    let repository = session.open()?;
    match &args.command {
        ParityCommand::Add { percent } => {
            let report = session.work(|context| parity::add(&repository, *percent, context))?;
            say_added(&report, session)?;
            Ok(Exit::of(report.failed.is_empty()))
        }
        ParityCommand::Remove { dry_run } => {
            let report = session.work(|context| parity::remove(&repository, *dry_run, context))?;
            let (objects, bytes) = (report.objects, report.bytes);
            if session.output.is_json() {
                let document = RemoveDocument { dry_run: *dry_run, objects, bytes };
                session.output.document(&document)?;
            } else {
                let what = text::plural(objects, "parity object", "parity objects");
                let would = if *dry_run { "would delete " } else { "deleted " };
                session.output.sentence(&format!("{would}{what}, {}", text::bytes(bytes)))?;
            }
            Ok(Exit::Done)
        }
        ParityCommand::Status => {
            let status = parity::status(&repository)?;
            say_status(&status, session)?;
            Ok(Exit::Done)
        }
    }
}

fn say_added(report: &AddReport, session: &mut Session) -> Result<()> {
    if session.output.is_json() {
        let failed = report.failed.iter();
        return session.output.document(&AddDocument {
            packs_had: report.had,
            packs_added: report.packs,
            pack_bytes: report.pack_bytes,
            parity_bytes: report.bytes,
            failed: failed
                .map(|(pack, message)| FailedFields {
                    pack: pack.to_string(),
                    message: message.clone(),
                })
                .collect(),
            seconds: report.seconds,
        });
    }
    for (pack, why) in &report.failed {
        session.output.note(&format!("pack {} got none: {why}", pack.short()));
    }
    if !report.failed.is_empty() {
        session.output.note("`icecore repair --read-packs` says what can be done about them");
    }
    session.output.sentence(&format!(
        "{} of {} got parity of {}; {} had it already; {}",
        text::plural(report.packs, "pack", "packs"),
        text::bytes(report.pack_bytes),
        text::bytes(report.bytes),
        text::count(report.had),
        text::seconds(report.seconds),
    ))
}

fn say_status(status: &Status, session: &mut Session) -> Result<()> {
    let percents = status.percents.iter();
    if session.output.is_json() {
        return session.output.document(&StatusDocument {
            packs: status.packs,
            pack_bytes: status.pack_bytes,
            packs_with_parity: status.with_parity,
            pack_bytes_with_parity: status.with_parity_bytes,
            parity_objects: status.objects,
            parity_bytes: status.bytes,
            percents: percents
                .map(|(percent, packs)| PercentFields { percent: *percent, packs: *packs })
                .collect(),
        });
    }
    if status.objects == 0 {
        let packs = text::plural(status.packs, "pack has", "packs have");
        return session.output.sentence(&format!("no parity: {packs} none"));
    }
    session.output.sentence(&format!(
        "{} of {} have parity: {} for {}",
        text::count(status.with_parity),
        text::plural(status.packs, "pack", "packs"),
        text::bytes(status.bytes),
        text::bytes(status.with_parity_bytes),
    ))?;
    for (percent, packs) in percents {
        let packs = text::plural(*packs, "pack", "packs");
        session.output.sentence(&format!("up to {percent} % can be healed in {packs}"))?;
    }
    let lacking = status.packs - status.with_parity;
    if lacking > 0 {
        let lacking = text::plural(lacking, "pack has", "packs have");
        session.output.note(&format!("{lacking} none: `icecore parity add` gives them some"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_and_at_most_half() {
        assert_eq!(parse_percent("5%").expect("a share"), 5);
        assert_eq!(parse_percent("50").expect("a share"), 50);
        for bad in ["0", "51", "-1", "x", "", "2.5", "5%%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}

//! `icecore check`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::check;
use crate::engine::check::CheckOptions;
use crate::engine::check::CheckReport;
use crate::engine::check::Finding;
use crate::engine::check::Severity;
use crate::engine::check::scrub;
use crate::format::dataset::DatasetName;
use clap::Args;
use serde::Serialize;

/// Backups and paths named for one finding; JSON has all.
const NAMED_MAX: usize = 5;

/// Look for damage, and change nothing
///
/// Headers, indexes and chains are always looked at, the inside of packs as --read-packs and
/// --read-data say. Exit code 3 means that damage was found;
/// what an interrupted run left behind is none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore check --read-data=5%")]
pub(crate) struct CheckArgs {
    /// Read every pack whole and compare it with its checksum and its index
    #[arg(long)]
    read_packs: bool,

    /// Read and verify all content, or a part of it
    #[arg(long, value_name = "N%", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "100%", value_parser = parse_percent)]
    read_data: Option<f64>,

    /// Check only this dataset
    #[arg(short, long, value_name = "NAME")]
    dataset: Option<DatasetName>,

    /// Without the password of an encrypted repository: read every object, and verify its checksum
    /// alone
    #[arg(long, conflicts_with_all = ["read_packs", "read_data", "dataset"])]
    no_password: bool,

    // Taken to say how it is written.
    #[arg(hide = true)]
    stray: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    datasets: u64,
    backups: u64,
    packs: u64,
    blocks: u64,
    blobs: u64,
    bytes_read: u64,
    seconds: f64,
    findings: Vec<FindingFields<'a>>,
}

/// A finding in JSON.
#[derive(Serialize)]
pub(crate) struct FindingFields<'a> {
    severity: &'static str,
    object: &'a str,
    message: &'a str,
    backups: &'a [String],
    paths: &'a [String],
}

fn parse_percent(text: &str) -> Result<f64> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    number.filter(|percent| *percent > 0.0 && *percent <= 100.0).ok_or_else(|| {
        Error::invalid(format!("{text:?} is no share: write a number above 0 up to 100%"))
    })
}

pub(crate) fn run(args: &CheckArgs, session: &mut Session) -> Result<Exit> {
    if let Some(stray) = &args.stray {
        let is_share = args.read_data.is_some() && parse_percent(stray).is_ok();
        let flag = if is_share { "--read-data=" } else { "--dataset " };
        return Err(
            Error::invalid(format!("{stray:?} stands alone")).hint(format!("write {flag}{stray}"))
        );
    }
    if args.no_password {
        let backend = session.open_backend()?;
        let report = session.work(|context| scrub::scrub(&*backend, context))?;
        let seen =
            format!("{} and all else looked at, each object by its checksum alone", packs(&report));
        return tell(&report, &seen, session);
    }
    let repository = session.open()?;
    let options = CheckOptions {
        read_packs: args.read_packs,
        read_data: args.read_data,
        dataset: args.dataset.clone(),
    };
    let report = session.work(|context| check::run(&repository, &options, context))?;
    let verified = match report.blobs {
        0 => String::new(),
        blobs => format!(", {} verified", text::plural(blobs, "blob", "blobs")),
    };
    let seen = format!(
        "{} of {} replayed, {} with {} looked at{verified}",
        text::plural(report.backups, "backup", "backups"),
        text::plural(report.datasets, "dataset", "datasets"),
        packs(&report),
        text::plural(report.blocks, "block", "blocks"),
    );
    let done = tell(&report, &seen, session)?;
    if !args.read_packs && args.read_data.is_none() && report.packs > 0 {
        session.output.note("the inside of packs was not read: --read-data does that");
    }
    Ok(done)
}

fn packs(report: &CheckReport) -> String {
    text::plural(report.packs, "pack", "packs")
}

fn tell(report: &CheckReport, seen: &str, session: &mut Session) -> Result<Exit> {
    if session.output.is_json() {
        session.output.document(&document(report))?;
    } else {
        say(report, seen, session)?;
    }
    Ok(Exit::of(report.is_ok()))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Garbage => "garbage",
        Severity::Damage => "damage",
    }
}

/// Makes the fields of a finding.
pub(crate) fn fields(finding: &Finding) -> FindingFields<'_> {
    FindingFields {
        severity: word(finding.severity),
        object: &finding.object,
        message: &finding.message,
        backups: &finding.backups,
        paths: &finding.paths,
    }
}

fn document(report: &CheckReport) -> Document<'_> {
    Document {
        ok: report.is_ok(),
        datasets: report.datasets,
        backups: report.backups,
        packs: report.packs,
        blocks: report.blocks,
        blobs: report.blobs,
        bytes_read: report.bytes_read,
        seconds: report.seconds,
        findings: report.findings.iter().map(fields).collect(),
    }
}

fn say(report: &CheckReport, seen: &str, session: &mut Session) -> Result<()> {
    for finding in &report.findings {
        let line = format!("{}: {}: {}", word(finding.severity), finding.object, finding.message);
        session.output.line(&display(line.as_bytes()))?;
        for (what, names) in [("backups", &finding.backups), ("paths", &finding.paths)] {
            if let Some(line) = some_of(what, names) {
                session.output.line(&line)?;
            }
        }
    }
    let damage = report.findings.iter().filter(|it| it.severity == Severity::Damage).count();
    let found = match damage {
        0 => "no damage".to_owned(),
        _ => format!("{} DAMAGED", text::plural(damage as u64, "object is", "objects are")),
    };
    session.output.sentence(&format!(
        "{found}: {seen}; {} read, {}",
        text::bytes(report.bytes_read),
        text::seconds(report.seconds),
    ))?;
    if damage > 0 {
        output::talk("damage was found");
    }
    Ok(())
}

/// Makes a line of the first few names; none when there are none.
pub(crate) fn some_of(what: &str, names: &[String]) -> Option<String> {
    let shown: Vec<String> =
        names.iter().take(NAMED_MAX).map(|name| display(name.as_bytes())).collect();
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {} more", text::count(more as u64)),
    };
    (!shown.is_empty()).then(|| format!("  {what}: {}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        assert_eq!(parse_percent("5%").expect("a share"), 5.0);
        assert_eq!(parse_percent("0.5").expect("a share"), 0.5);
        for bad in ["0", "101%", "-1", "x", "", "NaN"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(some_of("b", &names).expect("a line"), "  b: 0, 1, 2, 3, 4 and 2 more");
        assert_eq!(some_of("b", &[]), None);
    }
}

//! `icecore copy`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::cli::exit::Exit;
use crate::cli::fields::ErrorFields;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::text;
use crate::config::connect::without_password;
use crate::config::other::OtherFlags;
use crate::config::places;
use crate::config::secret::TO_PASSWORD_VARIABLE;
use crate::engine::address;
use crate::engine::copy;
use crate::engine::copy::CopiedBackup;
use crate::engine::copy::CopyOptions;
use crate::engine::copy::CopyReport;
use crate::engine::copy::DatasetCopy;
use crate::engine::copy::Differences;
use crate::engine::copy::Wanted;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::PathBuf;

/// Copy backups into another repository
///
/// All backups of all datasets, or those that are named, go to datasets of the same names there,
/// the oldest first, with their times, tags, descriptions, hosts and sources. Each gets the next
/// number that is free there. What is there already is passed over, so that the same command
/// goes on where the last one ended; only what the other repository lacks is read and sent.
///
/// Nothing is put on top of a backup that is younger, as it would become `latest`. What was
/// forgotten there is not copied again unless it is named. Content is compared with its name
/// before it is written; a backup with content that is damaged or gone is left out, and the exit
/// code is 3. Content that only cannot be read just now ends the copy of its dataset: the next run
/// goes on there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore copy --to sftp://ada@attic/backups
  icecore copy photos music@3 --to /mnt/disk/backups
  ICECORE_TO_PASSWORD=... icecore copy --to s3://bucket/backups --dry-run")]
pub(crate) struct CopyArgs {
    /// Copy these: DATASET means all of its backups [default: all of all datasets]
    #[arg(value_name = "DATASET[@VERSION]")]
    backups: Vec<OsString>,

    /// Copy to the repository at LOCATION
    #[arg(long, value_name = "LOCATION", required_unless_present = "to_profile")]
    to: Option<OsString>,

    /// Take location and password of that repository from profile NAME of the config file
    #[arg(long, value_name = "NAME")]
    to_profile: Option<String>,

    /// Read that repository's password from FILE [default: ICECORE_TO_PASSWORD, or ask]
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,

    /// Run COMMAND, without a shell, and take what it prints as that repository's password
    #[arg(long, value_name = "COMMAND", conflicts_with = "to_password_file")]
    to_password_command: Option<String>,

    /// Say what would be copied, and copy nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document {
    to: String,
    dry_run: bool,
    datasets: Vec<DatasetRow>,
    seconds: f64,
}

#[derive(Serialize)]
struct DatasetRow {
    dataset: String,
    copied: Vec<CopiedRow>,
    present: u64,
    forgotten: u64,
    older: u64,
    errors: Vec<FailureRow>,
    read_bytes: u64,
    stored_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields>,
}

#[derive(Serialize)]
struct CopiedRow {
    backup: u64,
    to_backup: u64,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
}

#[derive(Serialize)]
struct FailureRow {
    backup: Option<u64>,
    message: String,
}

pub(crate) fn run(args: &CopyArgs, session: &mut Session) -> Result<Exit> {
    // The other one first: while a person types its password, Ctrl-C still ends the program.
    let target = args.open_other(session)?;
    let source = session.open()?;
    let (wanted, is_all) = args.wanted(&source, session)?;
    tell_differences(&source, &target, session);
    let options = CopyOptions { dry_run: args.dry_run };
    let report = session.work(|context| copy::run(&source, &target, &wanted, &options, context))?;
    if session.output.is_json() {
        session.output.document(&document(&report, &target, args.dry_run))?;
    } else {
        say(&report, args.dry_run, session)?;
    }
    for error in report.datasets.iter().filter_map(|one| one.error.as_ref()) {
        if !session.output.is_json() {
            output::tell(error);
        }
    }
    let mut failed = report.datasets.iter().filter_map(|one| one.error.as_ref());
    if let Some(error) = failed.next() {
        return Ok(Exit::Failed(error.kind()));
    }
    Ok(Exit::of(is_all && report.datasets.iter().all(|one| one.failures.is_empty())))
}

impl CopyArgs {
    fn open_other(&self, session: &Session) -> Result<Repository> {
        let other = OtherFlags {
            location: self.to.clone(),
            profile: self.to_profile.clone(),
            password_file: self.to_password_file.clone(),
            password_command: self.to_password_command.clone(),
        };
        let settings = session.config.settings_of_other(&other, &session.cancel)?;
        let settings = session.without_unusable_cache(settings);
        settings.open().map_err(|e| match e.kind() {
            ErrorKind::NoRepository => e.hint(self.how_to_make()),
            ErrorKind::Password => e.hint(
                "its password is that of ICECORE_TO_PASSWORD, --to-password-file FILE or \
                 --to-password-command CMD, or is asked for at a terminal",
            ),
            _ => e,
        })
    }

    /// Says how the repository that is not there is made with the password that it is to have.
    fn how_to_make(&self) -> String {
        let location = self.to.as_deref().map(OsStr::to_string_lossy);
        let place = match (&location, &self.to_profile) {
            (Some(location), _) => format!("-r {}", text::shell_word(&without_password(location))),
            (None, Some(profile)) => format!("--profile {}", text::shell_word(profile)),
            (None, None) => "-r LOCATION".to_owned(),
        };
        let command = match (&self.to_password_file, &self.to_password_command) {
            (Some(file), _) => {
                let file = file.to_string_lossy();
                format!("icecore {place} --password-file {} init", text::shell_word(&file))
            }
            (None, Some(command)) => {
                let command = text::shell_word(command);
                format!("icecore {place} --password-command {command} init")
            }
            (None, None) if places::variable(TO_PASSWORD_VARIABLE).is_some() => {
                format!("ICECORE_PASSWORD=\"${TO_PASSWORD_VARIABLE}\" icecore {place} init")
            }
            (None, None) => {
                return format!(
                    "`icecore {place} init` makes one there; `ICECORE_PASSWORD=... icecore {place} \
                     init` one that is encrypted, and {TO_PASSWORD_VARIABLE} says the same to copy"
                );
            }
        };
        format!("`{command}` makes one there")
    }

    /// Returns what is copied, and whether that is all that was asked for: a dataset whose name
    /// cannot be read is not.
    fn wanted(&self, source: &Repository, session: &Session) -> Result<(Vec<Wanted>, bool)> {
        if self.backups.is_empty() {
            let shown = source.shown_datasets()?;
            shown.problems.iter().for_each(output::tell);
            let mut wanted: Vec<Wanted> = Vec::new();
            for dataset in shown.readable {
                // While a rename is under way two names stand for one dataset.
                if wanted.iter().all(|other| other.dataset.id() != dataset.id()) {
                    wanted.push(Wanted { dataset, numbers: None });
                }
            }
            return Ok((wanted, shown.problems.is_empty()));
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in &self.backups {
            let at = session.address(text)?;
            if !at.path.is_root() {
                return Err(Error::invalid("`copy` is about whole backups, without a path"));
            }
            let dataset = source.dataset(&at.dataset)?;
            let number = match at.has_version {
                true => {
                    let resolved = address::resolve(&dataset, &at.version)?;
                    resolved.note.iter().for_each(|note| session.output.note(note));
                    Some(resolved.backup.header.number)
                }
                false => None,
            };
            add(&mut wanted, dataset, number);
        }
        Ok((wanted, true))
    }
}

/// Adds a backup to what is wanted, or all of a dataset.
fn add(wanted: &mut Vec<Wanted>, dataset: Dataset, number: Option<BackupId>) {
    let known = wanted.iter_mut().find(|other| other.dataset.id() == dataset.id());
    match (known, number) {
        (None, number) => {
            let numbers = number.map(|number| BTreeSet::from([number]));
            wanted.push(Wanted { dataset, numbers });
        }
        (Some(known), None) => known.numbers = None,
        (Some(known), Some(number)) => {
            if let Some(numbers) = &mut known.numbers {
                numbers.insert(number);
            }
        }
    }
}

fn tell_differences(source: &Repository, target: &Repository, session: &Session) {
    let differences = Differences::between(source, target);
    if differences.loses_encryption {
        session.output.note(&format!(
            "{} is encrypted and {} is not: whoever can read that place can read what is copied",
            source.location(),
            target.location()
        ));
    }
    if differences.cuts_otherwise {
        session.output.note(&format!(
            "{} cuts files in other places: what is backed up there directly is stored beside \
             what is copied, even where it is the same",
            target.location()
        ));
    }
}

fn stored_bytes(copied: &[CopiedBackup]) -> u64 {
    copied.iter().map(|one| one.counts.stored_bytes).fold(0, u64::saturating_add)
}

fn document(report: &CopyReport, target: &Repository, dry_run: bool) -> Document {
    let copied = |one: &CopiedBackup| CopiedRow {
        backup: one.from.0,
        to_backup: one.to.0,
        files: one.counts.files,
        bytes: one.counts.bytes,
        // What it will cost there is not known before.
        new_bytes: (!dry_run).then_some(one.counts.new_bytes),
        stored_bytes: (!dry_run).then_some(one.counts.stored_bytes),
    };
    let dataset = |one: &DatasetCopy| DatasetRow {
        dataset: one.dataset.to_string(),
        copied: one.copied.iter().map(copied).collect(),
        present: one.present,
        forgotten: one.forgotten,
        older: one.older,
        errors: one
            .failures
            .iter()
            .map(|failure| FailureRow {
                backup: failure.backup.map(|number| number.0),
                message: failure.message.clone(),
            })
            .collect(),
        read_bytes: one.read_bytes,
        stored_bytes: if dry_run { 0 } else { stored_bytes(&one.copied) },
        error: one.error.as_ref().map(ErrorFields::new),
    };
    Document {
        to: target.location(),
        dry_run,
        datasets: report.datasets.iter().map(dataset).collect(),
        seconds: report.seconds,
    }
}

fn say(report: &CopyReport, dry_run: bool, session: &mut Session) -> Result<()> {
    if report.datasets.is_empty() {
        session.output.note("there is nothing to copy");
    }
    for one in &report.datasets {
        session.output.sentence(&sentence(one, dry_run))?;
    }
    Ok(())
}

/// `photos: copied 3 backups, photos@0 to photos@2; 1 was there; 14.2 MiB read, 9.8 MiB stored`
fn sentence(one: &DatasetCopy, dry_run: bool) -> String {
    let name = &one.dataset;
    let count = text::plural(one.copied.len() as u64, "backup", "backups");
    let word = if dry_run { "would copy" } else { "copied" };
    let mut parts = vec![match (one.copied.first(), one.copied.last()) {
        (Some(first), Some(last)) if first.to == last.to => {
            format!("{word} {count} as {name}@{}", first.to.0)
        }
        (Some(first), Some(last)) => {
            format!("{word} {count} as {name}@{} to {name}@{}", first.to.0, last.to.0)
        }
        _ => format!("{word} nothing"),
    }];
    for (count, what) in [
        (one.present, "there already"),
        (one.forgotten, "forgotten there"),
        (one.older, "older than the newest there"),
        (one.failures.len() as u64, "left out"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", text::count(count)));
        }
    }
    if !dry_run && !one.copied.is_empty() {
        parts.push(format!(
            "{} read, {} stored",
            text::bytes(one.read_bytes),
            text::bytes(stored_bytes(&one.copied))
        ));
    }
    format!("{name}: {}", parts.join("; "))
}

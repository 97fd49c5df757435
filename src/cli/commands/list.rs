//! `icecore list`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::time::Timestamp;
use crate::base::time::parse_since;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::table::Side;
use crate::cli::table::Table;
use crate::cli::text;
use crate::engine::list;
use crate::engine::list::DatasetSummary;
use crate::format::dataset::DatasetName;
use crate::repository::datasets::Backup;
use clap::Args;
use serde::Serialize;
use std::sync::Arc;

/// Show the datasets, or the backups of one
///
/// With a filter and no DATASET those datasets are shown that have such backups, and these alone
/// are counted.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  icecore list photos --since 30d")]
pub(crate) struct ListArgs {
    /// Dataset whose backups to show
    #[arg(value_name = "DATASET")]
    dataset: Option<DatasetName>,

    /// Show only backups with this tag; repeated, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Show only backups made on this machine
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// Show only backups made at TIME or later: a date counts from its beginning
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

#[derive(Serialize)]
struct DatasetRow<'a> {
    dataset: &'a str,
    backups: u64,
    latest: Option<u64>,
    time: Option<String>,
    bytes: u64,
    stored_bytes: u64,
    files: u64,
}

/// One backup, as `list` and `show` tell it.
#[derive(Serialize)]
pub(crate) struct BackupRow<'a> {
    backup: u64,
    kind: &'static str,
    time: String,
    added: u64,
    modified: u64,
    deleted: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    tags: &'a [String],
    description: &'a str,
    host: &'a str,
    source: &'a str,
    errors: u64,
}

impl<'a> BackupRow<'a> {
    pub(crate) fn new(backup: &'a Backup) -> Self {
        let header = &backup.header;
        let counts = &header.counts;
        BackupRow {
            backup: header.number.0,
            kind: kind(backup),
            time: header.started.to_rfc3339(),
            added: counts.added,
            modified: counts.modified,
            deleted: counts.deleted,
            files: counts.files,
            bytes: counts.bytes,
            new_bytes: counts.new_bytes,
            stored_bytes: counts.stored_bytes,
            tags: &backup.tags,
            description: &backup.description,
            host: &header.host,
            source: &header.source,
            errors: counts.errors,
        }
    }
}

/// Returns the word for whether a backup holds a full index.
pub(crate) fn kind(backup: &Backup) -> &'static str {
    if backup.header.is_full() { "full" } else { "partial" }
}

pub(crate) fn run(args: &ListArgs, session: &mut Session) -> Result<Exit> {
    let since = args.since.as_deref().map(|time| parse_since(time, session.now())).transpose()?;
    let repository = match session.open() {
        Ok(repository) => repository,
        Err(e) if args.dataset.is_none() => return nothing_yet(e, session),
        Err(e) => return Err(e),
    };
    let problems = match &args.dataset {
        None => {
            let passes = |backup: &Backup| args.shows(backup, since);
            let filter = args.is_filtered().then_some(&passes as &dyn Fn(&Backup) -> bool);
            let shown = list::shown_datasets(&repository, filter)?;
            print_datasets(&shown.readable, session)?;
            shown.problems
        }
        Some(name) => {
            let mut shown = repository.dataset(name)?.shown_backups()?;
            shown.readable.retain(|backup| args.shows(backup, since));
            print_backups(&shown.readable, session)?;
            shown.problems
        }
    };
    session.output.finish()?;
    problems.iter().for_each(output::tell);
    Ok(Exit::of(problems.is_empty()))
}

/// Before the first backup there is nothing to show, which is no error.
fn nothing_yet(error: Error, session: &mut Session) -> Result<Exit> {
    let is_expected =
        error.kind() == ErrorKind::NoRepository && session.settings().place()?.is_default;
    if !is_expected {
        return Err(error);
    }
    session.output.note(&format!("{error} yet: `icecore backup FOLDER` makes one"));
    print_datasets(&[], session)?;
    Ok(Exit::Done)
}

impl ListArgs {
    fn is_filtered(&self) -> bool {
        !self.tags.is_empty() || self.host.is_some() || self.since.is_some()
    }

    fn shows(&self, backup: &Backup, since: Option<Timestamp>) -> bool {
        self.tags.iter().all(|tag| backup.tags.contains(tag))
            && self.host.as_ref().is_none_or(|host| *host == backup.header.host)
            && since.is_none_or(|since| backup.header.started >= since)
    }
}

/// Tells of datasets that an interrupted rename has left under two names.
fn note_twins(datasets: &[DatasetSummary], session: &Session) {
    for (at, one) in datasets.iter().enumerate() {
        if let Some(other) = datasets[..at].iter().find(|other| other.id == one.id) {
            let (a, b) = (&other.name, &one.name);
            session.output.note(&format!(
                "{a} and {b} are one dataset, as a rename is under way or was interrupted: \
                 `icecore rename {a} {b}` leaves {b}, `icecore rename {b} {a}` leaves {a}"
            ));
        }
    }
}

fn print_datasets(datasets: &[DatasetSummary], session: &mut Session) -> Result<()> {
    note_twins(datasets, session);
    if session.output.is_json() {
        let rows = datasets.iter().map(|dataset| DatasetRow {
            dataset: dataset.name.as_str(),
            backups: dataset.backups,
            latest: dataset.latest.map(|latest| latest.0),
            time: dataset.time.map(Timestamp::to_rfc3339),
            bytes: dataset.bytes,
            stored_bytes: dataset.stored_bytes,
            files: dataset.files,
        });
        return session.output.document(&rows.collect::<Vec<_>>());
    }
    if datasets.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("DATASET", Side::Left),
        ("BACKUPS", Side::Right),
        ("LATEST", Side::Right),
        ("TIME", Side::Left),
        ("FILES", Side::Right),
        ("SIZE", Side::Right),
        ("STORED", Side::Right),
    ]);
    for dataset in datasets {
        table.row(vec![
            dataset.name.to_string(),
            text::count(dataset.backups),
            dataset.latest.map_or("-".to_owned(), |latest| latest.0.to_string()),
            dataset.time.map_or("-".to_owned(), Timestamp::to_local_text),
            text::count(dataset.files),
            text::bytes(dataset.bytes),
            text::bytes(dataset.stored_bytes),
        ]);
    }
    table.print(&mut session.output)
}

fn print_backups(backups: &[Arc<Backup>], session: &mut Session) -> Result<()> {
    if session.output.is_json() {
        let rows: Vec<BackupRow<'_>> = backups.iter().map(|it| BackupRow::new(it)).collect();
        return session.output.document(&rows);
    }
    let mut table = Table::new(&[
        ("BACKUP", Side::Right),
        ("KIND", Side::Left),
        ("TIME", Side::Left),
        ("ADDED", Side::Right),
        ("MODIFIED", Side::Right),
        ("DELETED", Side::Right),
        ("FILES", Side::Right),
        ("SIZE", Side::Right),
        ("NEW", Side::Right),
        ("STORED", Side::Right),
        ("TAGS", Side::Left),
        ("DESCRIPTION", Side::Left),
    ]);
    for backup in backups {
        let (header, counts) = (&backup.header, &backup.header.counts);
        table.row(vec![
            header.number.0.to_string(),
            kind(backup).to_owned(),
            header.started.to_local_text(),
            text::count(counts.added),
            text::count(counts.modified),
            text::count(counts.deleted),
            text::count(counts.files),
            text::bytes(counts.bytes),
            text::bytes(counts.new_bytes),
            text::bytes(counts.stored_bytes),
            backup.tags.join(", "),
            backup.description.clone(),
        ]);
    }
    table.print(&mut session.output)
}

//! `icecore backup`.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::time::Timestamp;
use crate::base::time::parse_until;
use crate::cli::commands::init;
use crate::cli::exit::Exit;
use crate::cli::fields;
use crate::cli::fields::ErrorFields;
use crate::cli::fields::FailureFields;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::cli::text;
use crate::config::connect;
use crate::config::connect::SourcePlace;
use crate::engine::address;
use crate::engine::backup;
use crate::engine::backup::BackupKind;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::open::CreateOptions;
use crate::source::Source;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use crate::source::stream::StreamSource;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Name of a stream's file when none is given.
const STREAM_NAME: &str = "stdin";

/// Make a backup of folders
///
/// Each SOURCE becomes the next backup of a dataset of its own, named by the last part of its
/// path. Only what changed since the backup before is read and stored; when nothing did, no
/// backup is made. `-` reads standard input.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore backup ~/photos --exclude '*.tmp'
  pg_dump shop | icecore backup - --stdin-name shop.sql --dataset shop
  icecore backup --dataset shop --stdin-name shop.sql --stdin-from-command -- pg_dump shop")]
pub(crate) struct BackupArgs {
    /// Folders to back up, `-` for standard input, or the command of --stdin-from-command
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<OsString>,

    /// Name the dataset [default: the last part of SOURCE]
    #[arg(short, long, value_name = "NAME")]
    dataset: Option<DatasetName>,

    /// Write a full index, so that this backup stands without those before it
    #[arg(long)]
    full: bool,

    /// Keep folders on other file systems without their contents
    #[arg(short = 'x', long)]
    one_file_system: bool,

    /// Tag the backup; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Describe the backup
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Give the backup this time instead of now
    #[arg(long, value_name = "TIME")]
    time: Option<String>,

    /// Give the backup this machine's name instead of the real one
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// Read and compare, and store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Read every file, even one that looks unchanged
    #[arg(long)]
    read_all: bool,

    /// Make a backup even when nothing changed
    #[arg(long)]
    allow_unchanged: bool,

    /// Create the repository when there is none
    #[arg(long)]
    init: bool,

    /// Name the file that standard input or the command's output becomes [default: stdin]
    #[arg(long, value_name = "NAME")]
    stdin_name: Option<OsString>,

    /// Back up what a command prints, given after `--`; when it fails, no backup is made
    #[arg(long)]
    stdin_from_command: bool,

    // Last, as its heading would stand above whatever follows.
    #[command(flatten)]
    filter: FilterArgs,
}

/// What a backup leaves out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out")]
struct FilterArgs {
    /// Leave out what matches GLOB, written as in a .gitignore file; may be repeated
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Leave out what matches the lines of FILE
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Obey .gitignore files in the source
    #[arg(long)]
    gitignore: bool,

    /// Keep folders marked by a CACHEDIR.TAG without their contents
    #[arg(long)]
    exclude_caches: bool,

    /// Keep folders that hold a file NAME without their contents; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,

    /// Leave out files larger than SIZE
    #[arg(long, value_name = "SIZE", value_parser = text::parse_bytes)]
    exclude_larger_than: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    backup: u64,
    kind: &'static str,
    added: u64,
    modified: u64,
    deleted: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    errors: Vec<FailureFields>,
    seconds: f64,
    dry_run: bool,
}

/// One of several sources.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Done(Document<'a>),
    Failed { dataset: &'a str, error: ErrorFields },
}

/// One source and the dataset it goes to.
struct Job<'a> {
    source: JobSource<'a>,
    dataset: DatasetName,
}

enum JobSource<'a> {
    Folder(SourcePlace),
    Stdin,
    Command(&'a [OsString]),
}

pub(crate) fn run(args: &BackupArgs, session: &mut Session) -> Result<Exit> {
    let jobs = jobs(args)?;
    let filter = args.filter.filter()?;
    let options = args.options(session.now())?;
    // A source that is not there must neither make a repository nor a person type a password.
    for job in &jobs {
        if let JobSource::Folder(place) = &job.source {
            place.open(filter.clone(), false, Vec::new())?;
        }
    }
    let repository = repository(args, session)?;
    let mut reports = Vec::with_capacity(jobs.len());
    for job in &jobs {
        let done = back_up(job, &filter, args, &options, &repository, session);
        let stops = done.as_ref().is_err_and(|e| {
            e.kind() == ErrorKind::Cancelled
                || (e.origin() == Origin::Repository && e.kind() != ErrorKind::Busy)
        });
        if !session.output.is_json()
            && let Ok(report) = &done
        {
            say(report, options.dry_run, session)?;
        }
        if let Err(e) = &done
            && jobs.len() > 1
        {
            output::tell(e);
        }
        reports.push(done);
        if stops {
            break;
        }
    }
    finish(&jobs, reports, options.dry_run, session)
}

/// Prints the documents, and returns the worst of what happened.
fn finish(
    jobs: &[Job<'_>],
    mut reports: Vec<Result<BackupReport>>,
    dry_run: bool,
    session: &mut Session,
) -> Result<Exit> {
    let is_single = jobs.len() == 1;
    let first_error = reports.iter().position(Result::is_err);
    if session.output.is_json() && !(is_single && first_error.is_some()) {
        let rows: Vec<Row<'_>> = jobs
            .iter()
            .zip(&reports)
            .map(|(job, report)| match report {
                Ok(report) => Row::Done(document(report, dry_run)),
                Err(e) => Row::Failed { dataset: job.dataset.as_str(), error: ErrorFields::new(e) },
            })
            .collect();
        match rows.as_slice() {
            [row] if is_single => session.output.document(row)?,
            rows => session.output.document(&rows)?,
        }
    }
    let is_whole = reports.iter().flatten().all(|report| report.errors.is_empty());
    match first_error {
        None => Ok(Exit::of(is_whole)),
        Some(at) if is_single => reports.swap_remove(at).map(|_| Exit::Done),
        Some(at) => {
            let kind = reports.swap_remove(at).err().map_or(ErrorKind::Bug, |e| e.kind());
            Ok(Exit::Failed(kind))
        }
    }
}

/// Sorts out which sources go to which datasets.
fn jobs(args: &BackupArgs) -> Result<Vec<Job<'_>>> {
    if args.stdin_from_command {
        let name = stream_dataset(args)?;
        return Ok(vec![Job { source: JobSource::Command(&args.sources), dataset: name }]);
    }
    if args.sources.len() > 1 && args.dataset.is_some() {
        return Err(Error::invalid("several sources cannot go to one dataset")
            .hint("each SOURCE is a dataset of its own; leave --dataset out, or back up one"));
    }
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for source in &args.sources {
        let job = if source == "-" {
            Job { source: JobSource::Stdin, dataset: stream_dataset(args)? }
        } else {
            let place = SourcePlace::parse(source)?;
            let dataset = match &args.dataset {
                Some(name) => name.clone(),
                None => place.default_dataset()?,
            };
            Job { source: JobSource::Folder(place), dataset }
        };
        if jobs.iter().any(|other| other.dataset == job.dataset) {
            let message = format!("two sources would go to the dataset {}", job.dataset);
            return Err(Error::invalid(message)
                .hint("back them up one after the other, each with its own --dataset"));
        }
        jobs.push(job);
    }
    if args.stdin_name.is_some() && !jobs.iter().any(|job| matches!(job.source, JobSource::Stdin)) {
        return Err(Error::invalid("--stdin-name goes with the source `-`"));
    }
    Ok(jobs)
}

fn stream_dataset(args: &BackupArgs) -> Result<DatasetName> {
    match (&args.dataset, &args.stdin_name) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(name)) => address::default_dataset(Path::new(name)),
        (None, None) => STREAM_NAME.parse(),
    }
}

/// Opens the repository; the default one, or with --init any, is made when there is none.
fn repository(args: &BackupArgs, session: &Session) -> Result<Repository> {
    let missing = match session.open() {
        Err(e) if e.kind() == ErrorKind::NoRepository => e,
        other => return other,
    };
    let settings = session.settings();
    let place = settings.place()?;
    if !place.is_default && !args.init {
        return Err(missing.hint(
            "`icecore init` makes one there, and so does `backup --init`; \
             `-r LOCATION` names another",
        ));
    }
    if args.dry_run {
        signals::install(&session.cancel)?;
        return connect::imagined(session.now());
    }
    let password = settings.new_password(false)?;
    let options = CreateOptions { password, ..CreateOptions::default() };
    let repository = settings.create(&options, session.now())?;
    signals::install(&session.cancel)?;
    session.output.note(&init::created(&repository));
    Ok(repository)
}

fn back_up(
    job: &Job<'_>,
    filter: &Filter,
    args: &BackupArgs,
    options: &BackupOptions,
    repository: &Repository,
    session: &Session,
) -> Result<BackupReport> {
    let settings = session.settings();
    let name = args.stdin_name.as_deref().map_or(STREAM_NAME.as_bytes(), OsStrExt::as_bytes);
    let source: Box<dyn Source> = match &job.source {
        JobSource::Folder(place) => {
            Box::new(place.open(filter.clone(), args.one_file_system, settings.excluded()?)?)
        }
        JobSource::Stdin => {
            let (folder, mut stdin) = (settings.cache_folder()?, std::io::stdin().lock());
            Box::new(StreamSource::read(&mut stdin, name, &folder, &session.cancel)?)
        }
        JobSource::Command(words) => {
            let folder = settings.cache_folder()?;
            Box::new(StreamSource::run(words, name, &folder, &session.cancel)?)
        }
    };
    session.work(|context| backup::run(repository, &job.dataset, &*source, options, context))
}

fn document(report: &BackupReport, dry_run: bool) -> Document<'_> {
    let counts = &report.counts;
    Document {
        dataset: report.dataset.as_str(),
        backup: report.backup.0,
        kind: match report.kind {
            BackupKind::Full => "full",
            BackupKind::Partial => "partial",
            BackupKind::Unchanged => "unchanged",
        },
        added: counts.added,
        modified: counts.modified,
        deleted: counts.deleted,
        files: counts.files,
        bytes: counts.bytes,
        new_bytes: counts.new_bytes,
        stored_bytes: counts.stored_bytes,
        errors: fields::failures(&report.errors),
        seconds: report.seconds,
        dry_run,
    }
}

fn say(report: &BackupReport, dry_run: bool, session: &mut Session) -> Result<()> {
    let counts = &report.counts;
    let name = format!("{}@{}", report.dataset, report.backup.0);
    let files = text::plural(counts.files, "file", "files");
    let (size, time) = (text::bytes(counts.bytes), text::seconds(report.seconds));
    let sentence = if report.kind == BackupKind::Unchanged {
        format!("{name}: unchanged, {files} ({size}), {time}")
    } else {
        format!(
            "{name}: {} added, {} modified, {} deleted of {files} ({size}); \
             {} new, {} stored, {time}",
            text::count(counts.added),
            text::count(counts.modified),
            text::count(counts.deleted),
            text::bytes(counts.new_bytes),
            text::bytes(counts.stored_bytes),
        )
    };
    let dry = if dry_run { " (dry run: nothing was stored)" } else { "" };
    session.output.sentence(&format!("{sentence}{dry}"))?;
    if !report.errors.is_empty() {
        let entries = text::plural(report.errors.len() as u64, "entry", "entries");
        output::talk(&format!("{name}: {entries} could not be read"));
    }
    Ok(())
}

impl BackupArgs {
    fn options(&self, now: Timestamp) -> Result<BackupOptions> {
        Ok(BackupOptions {
            full: self.full,
            read_all: self.read_all,
            allow_unchanged: self.allow_unchanged,
            dry_run: self.dry_run,
            tags: self.tags.clone(),
            description: self.description.clone().unwrap_or_default(),
            time: self.time.as_deref().map(|time| first_moment(time, now)).transpose()?,
            host: self.host.clone(),
            dataset_was_named: self.dataset.is_some(),
        })
    }
}

/// Reads a time as the first moment it covers, in whole seconds unless a fraction was typed: a
/// backup of 14:00 began then, while one asked for by 14:00 may have begun within that minute.
fn first_moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    let text = text.trim();
    let filled = [format!("{text} 00:00:00"), format!("{text}:00"), text.to_owned()];
    let time = filled.iter().find_map(|text| parse_until(text, now).ok());
    let time = match time {
        Some(time) => time,
        None => parse_until(text, now)?,
    };
    let is_exact = text.contains('.');
    Ok(if is_exact { time } else { Timestamp::new(time.seconds(), 0) })
}

impl FilterArgs {
    fn filter(&self) -> Result<Filter> {
        let mut patterns = Vec::new();
        for file in &self.exclude_from {
            let shown = file.display();
            let lines = std::fs::read_to_string(file)
                .map_err(|e| Error::io(format!("cannot read the patterns of {shown}"), e))?;
            patterns.extend(lines.lines().map(str::to_owned));
        }
        patterns.extend(self.exclude.iter().cloned());
        Filter::new(&FilterOptions {
            patterns,
            gitignore: self.gitignore,
            exclude_caches: self.exclude_caches,
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_larger_than: self.exclude_larger_than,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_given_to_a_backup_is_the_first_moment_it_covers() {
        let now = Timestamp::new(1_800_000_000, 5);
        let first = |text: &str| first_moment(text, now).expect(text);
        let day = first("2026-11-20");
        assert_eq!(first("2026-11-20 00:00"), day);
        assert_eq!(first("2026-11-20 00:00:00"), day);
        assert_eq!(first("2026-11-20T00:00"), day);
        assert_eq!(first("1970-01-01T00:00:05Z"), Timestamp::new(5, 0));
        assert_eq!(first("1970-01-01T00:00:05.25Z"), Timestamp::new(5, 250_000_000));
        assert_eq!(first("2h"), Timestamp::new(1_800_000_000 - 7_200, 0));
        assert!(first_moment("soon", now).is_err());
    }
}

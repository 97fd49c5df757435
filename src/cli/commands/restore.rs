//! `icecore restore`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::base::time::parse_until;
use crate::cli::exit::Exit;
use crate::cli::fields;
use crate::cli::fields::FailureFields;
use crate::cli::fields::PathField;
use crate::cli::output;
use crate::cli::output::Output;
use crate::cli::session::Found;
use crate::cli::session::Session;
use crate::cli::text;
use crate::engine::address;
use crate::engine::address::Version;
use crate::engine::restore;
use crate::engine::restore::Overwrite;
use crate::engine::restore::PlannedAction;
use crate::engine::restore::RestoreOptions;
use crate::engine::restore::RestoreReport;
use crate::source::filter::Filter;
use crate::source::filter::FilterOptions;
use crate::source::filter::Pattern;
use clap::Args;
use clap::ValueEnum;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Bring a backup back
///
/// The contents of the dataset's root are put into TARGET. With DATASET:PATH only what is below
/// PATH comes back, as seen from there; with --path it keeps its place. A target that is not
/// empty is refused unless --overwrite says what to do with what is there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore restore photos ~/restored
  icecore restore photos@3:2024/may ~/may
  icecore restore photos --before '2026-11-20 14:00' ~/restored --path 2024")]
pub(crate) struct RestoreArgs {
    /// Backup to bring back: DATASET[@VERSION][:PATH]
    #[arg(value_name = "BACKUP")]
    backup: OsString,

    /// Folder to write to, made when it is missing; or ftp://, ftps://, sftp:// or s3://
    #[arg(value_name = "TARGET")]
    target: OsString,

    /// Take the last backup at or before TIME
    #[arg(long, value_name = "TIME")]
    before: Option<String>,

    /// Bring back only what is at or below PATH, in its place; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Bring back only what matches GLOB, with the folders that lead to it; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Leave out what matches GLOB; may be repeated
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Say what happens to files that are there already
    ///
    /// A folder that holds something is never replaced by something else without --delete.
    #[arg(long, value_enum, value_name = "WHEN")]
    overwrite: Option<When>,

    /// Delete what is in TARGET and not in the backup, also a folder where the backup has a file
    ///
    /// What lies on other file systems, mounted somewhere in TARGET, is never deleted, nor is a
    /// repository.
    #[arg(long)]
    delete: bool,

    /// Read back and compare what was written
    #[arg(long)]
    verify: bool,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Leave the owner of what is written to the system
    #[arg(long)]
    no_owner: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// Replace what is there
    Always,
    /// Write only what differs
    IfChanged,
    /// Keep what is newer than the backup's
    IfNewer,
    /// Keep what is there
    Never,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a str,
    backup: u64,
    files: u64,
    bytes: u64,
    written_bytes: u64,
    deleted: u64,
    errors: Vec<FailureFields>,
    seconds: f64,
    dry_run: bool,
}

#[derive(Serialize)]
struct PlanRow {
    #[serde(flatten)]
    path: PathField,
    action: &'static str,
}

pub(crate) fn run(args: &RestoreArgs, session: &mut Session) -> Result<Exit> {
    let mut at = session.address(&args.backup)?;
    if let Some(before) = &args.before {
        if at.has_version {
            return Err(Error::invalid("a version and --before both name a backup")
                .hint("use one of them: DATASET@VERSION, or DATASET with --before TIME"));
        }
        at.version = Version::At(parse_until(before, session.now())?);
    }
    let spared = session.settings().spared(&args.target)?;
    let options = RestoreOptions { spared, ..args.options(at.path.clone())? };
    let target = session.settings().target(&args.target)?;
    let repository = session.open()?;
    let found = session.find(&repository, &at)?;
    let snapshot = found.snapshot()?;
    let report = match args.dry_run {
        false => session.work(|context| restore::run(&snapshot, &*target, &options, context))?,
        true => session.work_with_output(|context, output| {
            let mut tell = |row: &PlannedAction| tell(row, output);
            let report = restore::plan(&snapshot, &*target, &options, context, &mut tell)?;
            output.begin_list("plan").map(|()| report)
        })?,
    };
    if session.output.is_json() {
        session.output.document(&document(&found, &report, args.dry_run))?;
    } else {
        say(&found, &report, args.dry_run, session)?;
    }
    Ok(Exit::of(report.errors.is_empty()))
}

impl RestoreArgs {
    /// Says whether it does more than tell what it would do.
    pub(super) fn writes(&self) -> bool {
        !self.dry_run
    }

    fn options(&self, strip: EntryPath) -> Result<RestoreOptions> {
        let paths = self.paths.iter().map(|path| address::parse_path(path.as_bytes()));
        let include = self.include.iter().map(|glob| Pattern::new(glob));
        let patterns = self.exclude.clone();
        Ok(RestoreOptions {
            overwrite: self.overwrite.map(|when| match when {
                When::Always => Overwrite::Always,
                When::IfChanged => Overwrite::IfChanged,
                When::IfNewer => Overwrite::IfNewer,
                When::Never => Overwrite::Never,
            }),
            delete: self.delete,
            verify: self.verify,
            owner: !self.no_owner,
            strip,
            paths: paths.collect::<Result<_>>()?,
            include: include.collect::<Result<_>>()?,
            filter: Filter::new(&FilterOptions { patterns, ..FilterOptions::default() })?,
            spared: Vec::new(),
        })
    }
}

fn document<'a>(found: &'a Found, report: &RestoreReport, dry_run: bool) -> Document<'a> {
    Document {
        dataset: found.dataset.name().as_str(),
        backup: found.backup.header.number.0,
        files: report.files,
        bytes: report.bytes,
        written_bytes: report.written_bytes,
        deleted: report.deleted,
        errors: fields::failures(&report.errors),
        seconds: report.seconds,
        dry_run,
    }
}

/// Tells what would be done with one path.
fn tell(row: &PlannedAction, output: &mut Output) -> Result<()> {
    if output.is_json() {
        return output
            .list_row("plan", &PlanRow { path: PathField::new(&row.path), action: row.action });
    }
    let path = if row.path.is_root() { ".".to_owned() } else { row.path.to_string() };
    output.line(&format!("{:<9} {path}", row.action))
}

fn say(found: &Found, report: &RestoreReport, dry_run: bool, session: &mut Session) -> Result<()> {
    let name = found.name();
    let files = text::plural(report.files, "file", "files");
    let (bytes, written) = (text::bytes(report.bytes), text::bytes(report.written_bytes));
    let (deleted, took) = (text::count(report.deleted), text::seconds(report.seconds));
    let deleted = match (report.deleted, dry_run) {
        (0, _) => String::new(),
        (_, false) => format!(", {deleted} deleted"),
        (_, true) => format!(", {deleted} to delete"),
    };
    session.output.sentence(&match dry_run {
        false => format!("{name}: restored {files} ({bytes}), {written} written{deleted}, {took}"),
        true => format!(
            "{name}: would restore {files} ({bytes}){deleted}, {took} (dry run: nothing was \
             written)"
        ),
    })?;
    if !report.errors.is_empty() {
        let entries = match report.errors.len() as u64 {
            1 => "1 entry could not be restored as it was".to_owned(),
            many => format!("{} entries could not be restored as they were", text::count(many)),
        };
        output::talk(&format!("{name}: {entries}"));
    }
    Ok(())
}

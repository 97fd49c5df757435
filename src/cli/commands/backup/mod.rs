//! `icecore backup`.

use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::sys;
use crate::cli::commands::backup::args::Chosen;
use crate::cli::commands::backup::jobs::Job;
use crate::cli::commands::backup::jobs::JobSource;
use crate::cli::commands::backup::jobs::STREAM_NAME;
use crate::cli::commands::backup::jobs::jobs;
use crate::cli::commands::backup::report::Row;
use crate::cli::commands::backup::report::document;
use crate::cli::commands::backup::report::say;
use crate::cli::commands::init;
use crate::cli::exit::Exit;
use crate::cli::fields::ErrorFields;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::config::connect;
use crate::config::source_place::SourcePlace;
use crate::engine::backup;
use crate::engine::backup::BackupReport;
use crate::repository::Repository;
use crate::repository::open::CreateOptions;
use crate::source::Source;
use crate::source::listed::ListedSource;
use crate::source::listed::Selection;
use crate::source::stream::StreamSource;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

mod args;
mod jobs;
mod report;

pub(crate) use crate::cli::commands::backup::args::BackupArgs;

pub(crate) fn run(args: &BackupArgs, session: &mut Session) -> Result<Exit> {
    let jobs = jobs(args, &session.config)?;
    for note in args.sources.iter().filter_map(|source| connect::note_on(source)) {
        session.output.note(&note);
    }
    let (selection, lines) = (args.selection()?, args.exclude_lines()?);
    let (mut chosen, mut opened) = (Vec::with_capacity(jobs.len()), Vec::new());
    for job in &jobs {
        let below = session.config.backup(Some(&job.dataset))?;
        let root = job.source.local().and_then(|path| sys::absolute(path).ok());
        let mut how = args.choose(below, lines.as_deref(), root.as_deref(), session.now())?;
        how.options.dataset_was_named = job.is_named;
        // A source that is not there must neither make a repository nor a person type a password.
        let source = match &job.source {
            JobSource::Folder(place) => Some(open(place, &how, selection.as_ref(), session)),
            JobSource::Stdin | JobSource::Command(_) => None,
        };
        opened.push(match source.transpose() {
            // What was asked for makes no sense.
            Err(e) if e.kind() == ErrorKind::InvalidInput => return Err(e),
            // One on another machine stays open, as to log in again costs more than to hold it.
            // One of this machine is opened again: a repository that is made now is not to be in
            // it.
            other => other.map(|source| source.filter(|_| job.source.is_remote())),
        });
        chosen.push(how);
    }
    let mut reports = Vec::with_capacity(jobs.len());
    if opened.iter().all(Result::is_err) {
        reports.extend(opened.into_iter().filter_map(Result::err).map(Err));
        tell_each(&jobs, &reports);
        return finish(&jobs, reports, args.dry_run, session);
    }
    let repository = repository(args, session)?;
    for ((job, how), source) in jobs.iter().zip(&chosen).zip(opened) {
        let source = match source {
            Ok(None) => supply(job, how, selection.as_ref(), args, session),
            Ok(Some(source)) => Ok(source),
            Err(e) => Err(e),
        };
        let done = source.and_then(|source| back_up(job, how, &*source, &repository, session));
        let stops = done.as_ref().is_err_and(|e| {
            e.kind() == ErrorKind::Cancelled
                || (e.origin() == Origin::Repository && e.kind() != ErrorKind::Busy)
        });
        if !session.output.is_json()
            && let Ok(report) = &done
        {
            say(report, args.dry_run, session)?;
        }
        tell_each(&jobs, std::slice::from_ref(&done));
        reports.push(done);
        if stops {
            break;
        }
    }
    finish(&jobs, reports, args.dry_run, session)
}

/// Tells what failed where there are several sources; of one the end of the run tells.
fn tell_each(jobs: &[Job<'_>], reports: &[Result<BackupReport>]) {
    if jobs.len() > 1 {
        reports.iter().filter_map(|report| report.as_ref().err()).for_each(output::tell);
    }
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

/// Opens the repository; the default one, or with --init any, is made when there is none.
fn repository(args: &BackupArgs, session: &Session) -> Result<Repository> {
    let missing = match session.open() {
        Err(e) if e.kind() == ErrorKind::NoRepository => e,
        other => return other,
    };
    let settings = session.settings();
    let place = settings.place()?;
    let creates = args.creates(&session.config.backup(None)?);
    if !place.is_default && !creates {
        let init = session.init_command();
        return Err(missing.hint(format!(
            "`{init}` makes one there, and so does `backup --init`; `-r LOCATION` names another"
        )));
    }
    // Said in the config file it is said for every run, also for those without the disk.
    let is_typed = args.init == Some(true);
    if let Some(above) = place.missing_parent()?.filter(|_| !place.is_default && !is_typed) {
        let above = display(above.as_os_str().as_bytes());
        let init = session.init_command();
        return Err(missing.hint(format!(
            "{above} is not there either: is a disk not mounted? `{init}` makes both"
        )));
    }
    if args.dry_run {
        signals::install(&session.cancel)?;
        return connect::imagined(session.now());
    }
    let password = settings.new_password(settings.needs_password()?)?;
    let options = CreateOptions { password, ..CreateOptions::default() };
    let repository = settings.create(&options, session.now())?;
    signals::install(&session.cancel)?;
    session.output.note(&init::created(&repository));
    Ok(repository)
}

/// Opens a folder, or what is named of it.
fn open(
    place: &SourcePlace,
    how: &Chosen,
    selection: Option<&Arc<Selection>>,
    session: &Session,
) -> Result<Box<dyn Source>> {
    let (filter, settings) = (how.filter.clone(), session.settings());
    let Some(only) = selection else {
        return place.open(filter, how.one_file_system, &settings);
    };
    let filter = filter.only(Arc::clone(only));
    let folder = place.open(filter, how.one_file_system, &settings)?;
    Ok(Box::new(ListedSource::open(folder, Arc::clone(only))?))
}

/// Opens what a job reads.
fn supply(
    job: &Job<'_>,
    how: &Chosen,
    selection: Option<&Arc<Selection>>,
    args: &BackupArgs,
    session: &Session,
) -> Result<Box<dyn Source>> {
    let (now, cancel) = (session.now(), &session.cancel);
    let name = args.stdin_name.as_deref().map_or(STREAM_NAME.as_bytes(), OsStrExt::as_bytes);
    Ok(match &job.source {
        JobSource::Folder(place) => open(place, how, selection, session)?,
        JobSource::Stdin => Box::new(StreamSource::stdin(name, now, cancel)?),
        JobSource::Command(words) => Box::new(StreamSource::run(words, name, now, cancel)?),
    })
}

fn back_up(
    job: &Job<'_>,
    how: &Chosen,
    source: &dyn Source,
    repository: &Repository,
    session: &Session,
) -> Result<BackupReport> {
    session.work(|context| backup::run(repository, &job.dataset, source, &how.options, context))
}

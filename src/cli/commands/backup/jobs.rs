//! Which sources go to which datasets.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::cli::commands::backup::args::BackupArgs;
use crate::config::effective::Config;
use crate::config::source_place::SourcePlace;
use crate::engine::address;
use crate::format::dataset::DatasetName;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;

/// Name of a stream's file when none is given.
pub(super) const STREAM_NAME: &str = "stdin";

/// One source and the dataset it goes to.
pub(super) struct Job<'a> {
    pub(super) source: JobSource<'a>,
    pub(super) dataset: DatasetName,
    /// Whether a person gave the dataset its name.
    pub(super) is_named: bool,
}

pub(super) enum JobSource<'a> {
    Folder(SourcePlace),
    Stdin,
    Command(&'a [OsString]),
}

impl JobSource<'_> {
    /// Says whether it is on another machine.
    pub(super) fn is_remote(&self) -> bool {
        match self {
            JobSource::Folder(place) => place.is_remote(),
            JobSource::Stdin | JobSource::Command(_) => false,
        }
    }

    /// Returns its path on this machine, if it has one.
    pub(super) fn local(&self) -> Option<&Path> {
        match self {
            JobSource::Folder(place) => place.local(),
            JobSource::Stdin | JobSource::Command(_) => None,
        }
    }
}

/// Sorts out which sources go to which datasets.
pub(super) fn jobs<'a>(args: &'a BackupArgs, config: &Config) -> Result<Vec<Job<'a>>> {
    let is_named = args.dataset.is_some();
    if args.stdin_from_command {
        if args.sources.is_empty() {
            return Err(Error::invalid("--stdin-from-command needs a command behind `--`"));
        }
        let (source, dataset) = (JobSource::Command(&args.sources), stream_dataset(args)?);
        return Ok(vec![Job { source, dataset, is_named }]);
    }
    if args.sources.len() > 1 && is_named {
        return Err(Error::invalid("several sources cannot go to one dataset")
            .hint("each SOURCE is a dataset of its own; leave --dataset out, or back up one"));
    }
    let mut jobs: Vec<Job<'_>> = Vec::new();
    if args.sources.is_empty() {
        jobs = configured(args, config)?;
    }
    for source in &args.sources {
        let job = typed(args, source)?;
        if jobs.iter().any(|other| other.dataset == job.dataset) {
            let message = format!("two sources would go to the dataset {}", job.dataset);
            return Err(Error::invalid(message)
                .hint("back them up one after the other, each with its own --dataset"));
        }
        jobs.push(job);
    }
    let is_folder = |job: &Job<'_>| matches!(job.source, JobSource::Folder(_));
    if args.stdin_name.is_some() && jobs.iter().all(is_folder) {
        return Err(Error::invalid("--stdin-name goes with the source `-`"));
    }
    let lists = |job: &Job<'_>| is_folder(job) && !job.source.local().is_some_and(Path::is_file);
    if args.has_list() && (jobs.len() != 1 || !jobs.iter().all(lists)) {
        return Err(Error::invalid("a list of files goes with one SOURCE that is a folder"));
    }
    let reads_stdin = jobs.iter().filter(|job| matches!(job.source, JobSource::Stdin)).count();
    if reads_stdin + args.lists_from_stdin() > 1 {
        return Err(Error::invalid("standard input can be read only once")
            .hint("one of SOURCE, --files-from and --exclude-from may be `-`"));
    }
    Ok(jobs)
}

fn typed<'a>(args: &BackupArgs, source: &OsStr) -> Result<Job<'a>> {
    let is_named = args.dataset.is_some();
    if source == "-" {
        let dataset = stream_dataset(args)?;
        return Ok(Job { source: JobSource::Stdin, dataset, is_named });
    }
    let place = place(args, source)?;
    let dataset = match &args.dataset {
        Some(name) => name.clone(),
        None => place.default_dataset()?,
    };
    Ok(Job { source: JobSource::Folder(place), dataset, is_named })
}

fn place(args: &BackupArgs, source: &OsStr) -> Result<SourcePlace> {
    let place = SourcePlace::parse(source)?;
    if args.versions { place.with_versions() } else { Ok(place) }
}

/// Takes the sources of the config file: all, or that of the dataset that was named.
fn configured<'a>(args: &BackupArgs, config: &Config) -> Result<Vec<Job<'a>>> {
    let mut sources = config.sources()?;
    if let Some(name) = &args.dataset {
        sources.retain(|(dataset, _)| dataset == name);
    }
    if sources.is_empty() {
        let message = match &args.dataset {
            None => "nothing says what to back up".to_owned(),
            Some(name) => format!("nothing says what the dataset {name} is made of"),
        };
        let name = args.dataset.as_ref().map_or("NAME", DatasetName::as_str);
        return Err(Error::invalid(message).hint(format!(
            "name a SOURCE, or write it into the config file: \
             [backup.datasets.{name}] with sources = [\"FOLDER\"]"
        )));
    }
    let job = |(dataset, source): (DatasetName, OsString)| {
        let source = JobSource::Folder(place(args, &source)?);
        Ok(Job { source, dataset, is_named: true })
    };
    sources.into_iter().map(job).collect()
}

fn stream_dataset(args: &BackupArgs) -> Result<DatasetName> {
    match (&args.dataset, &args.stdin_name) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(name)) => address::default_dataset(Path::new(name)),
        (None, None) => STREAM_NAME.parse(),
    }
}

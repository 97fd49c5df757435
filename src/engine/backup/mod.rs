//! Makes a backup.
//!
//! ```text
//! source --scan--> sorted entries --compare with the snapshot before--> units       [scan]
//!    units --one thread each: open, read, cut, hash, look up, block, compress-->    [read]
//!    results, in order: blocks -> packs; entries -> manifest, hash, saved snapshot  [store]
//!    then pack index, then the header, which makes the backup exist                 [attempt]
//! ```
//!
//! A unit is a run of neighbouring entries, about 4 MiB, or a piece of a large file or of a stream.
//! The producer needs a permit for each unit and the committer gives it back, so at most
//! `2 x threads + 1` units are under way; threads are those that were asked for, or as many as a
//! source on another machine makes use of. Memory is bounded by: for each unit under way its
//! entries and its blocks (a piece at most, when nothing compresses), or the piece of a stream that
//! waits to be cut into them; for each thread one piece buffer and one block; two packs; one range
//! for each stream of the chain; the tables in the cache. None of it grows with the dataset.

pub mod attempt;
mod dry;
mod old;
mod parent;
mod pump;
pub mod read;
pub mod sample;
pub mod scan;
pub mod store;
mod stream;
pub mod tracked;
pub mod unit;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::progress::Warning;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::Failure;
use crate::engine::Failures;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::attempt::Ended;
use crate::engine::backup::attempt::Streamed;
use crate::format::backup::Counts;
use crate::format::dataset::DatasetName;
use crate::format::dataset::check_description;
use crate::format::dataset::check_tags;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::history::Snapshot;
use crate::repository::outset;
use crate::repository::transaction::LeanOn;
use crate::source::Source;

/// What a backup does beyond the ordinary.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// Write a full index.
    pub full: bool,
    /// Read every file, whatever its metadata says.
    pub read_all: bool,
    /// Store a backup even when nothing changed.
    pub allow_unchanged: bool,
    /// Read and compare, and store nothing.
    pub dry_run: bool,
    /// Tags for the backup.
    pub tags: Vec<String>,
    /// Description for the backup.
    pub description: String,
    /// The backup's time, instead of now.
    pub time: Option<Timestamp>,
    /// The machine's name, instead of the real one.
    pub host: Option<String>,
    /// Whether a person named the dataset: then another host or source than the parent's is meant.
    pub dataset_was_named: bool,
}

/// What kind of backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// One with a full index.
    Full,
    /// One with a manifest.
    Partial,
    /// None, as nothing changed.
    Unchanged,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The dataset.
    pub dataset: DatasetName,
    /// The new backup; with [`BackupKind::Unchanged`] the newest there is; with a dry run the
    /// number it would get.
    pub backup: BackupId,
    /// What was made.
    pub kind: BackupKind,
    /// What was counted.
    pub counts: Counts,
    /// Entries that could not be read.
    pub errors: Vec<Failure>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Makes a backup of `source` as the next of dataset `name`, which is made when it is new.
///
/// # Errors
/// Those of the repository; `Busy` while another backup of the dataset runs; `Cancelled`.
pub fn run(
    repository: &Repository,
    name: &DatasetName,
    source: &dyn Source,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport> {
    let options = &BackupOptions { tags: check_tags(&options.tags)?, ..options.clone() };
    check_description(&options.description)?;
    // The source is looked at first: one that is not there makes no dataset.
    let scan = source.scan(context.cancel)?;
    if options.dry_run {
        let report = dry::run(repository, name, source, scan, options, context)?;
        tell_notes(source, context);
        return Ok(report);
    }
    let mut scan = Some(scan);
    let dataset = repository.dataset_or_new(name, context.clock.now())?;
    let (mut lean_on, streamed) = (LeanOn::Parent, Streamed::default());
    for _ in 0..COMMIT_TRIES_MAX {
        let failures = Failures::new(context.progress);
        let started = context.clock.now();
        let mut attempt =
            Attempt::prepare(&dataset, source, options, context, &failures, started, lean_on)?;
        attempt.streamed = source.is_stream().then_some(&streamed);
        let parent = attempt.parent.as_ref().map(Snapshot::number);
        if let Some(parent) = &attempt.parent {
            refuse_another_source(name, parent, source, options)?;
        }
        let scan = match scan.take() {
            Some(scan) => scan,
            None => source.scan(context.cancel)?,
        };
        match attempt.run(scan)? {
            Ended::Done(mut report) => {
                report.errors = failures.into_list();
                tell_notes(source, context);
                if report.kind != BackupKind::Unchanged {
                    tell_new_name(&dataset, &mut report, context);
                }
                return Ok(report);
            }
            Ended::Again => {}
            Ended::Unreadable(e) => {
                let number = parent.unwrap_or(BackupId(0));
                parent::warn_unreadable(&dataset, number, &e.full_message(), context);
                lean_on = LeanOn::Nothing;
            }
        }
    }
    Err(outset::outrun(name))
}

fn tell_notes(source: &dyn Source, context: &Context<'_>) {
    source.notes().into_iter().for_each(|note| context.progress.warn(&Warning::general(note)));
}

/// A rename does not wait for a backup that runs, which then belongs to the dataset under its new
/// name: the report calls it by that. Where it cannot be found out the old one stays.
fn tell_new_name(dataset: &Dataset, report: &mut BackupReport, context: &Context<'_>) {
    let repository = dataset.repository();
    match repository.dataset(dataset.name()) {
        Ok(found) if found.id() == dataset.id() => return,
        Err(e) if e.kind() != ErrorKind::NotFound => return,
        Ok(_) | Err(_) => {}
    }
    let mut renamed = repository.datasets().unwrap_or_default().into_iter();
    let Some(renamed) = renamed.find(|it| it.id() == dataset.id()) else { return };
    let message =
        format!("{} was renamed to {} while the backup ran", dataset.name(), renamed.name());
    context.progress.warn(&Warning::general(message));
    report.dataset = renamed.name().clone();
}

/// Two machines that back up different things under one default name would mix them up.
fn refuse_another_source(
    name: &DatasetName,
    parent: &Snapshot,
    source: &dyn Source,
    options: &BackupOptions,
) -> Result<()> {
    let header = &parent.backup().header;
    let host = options.host.clone().unwrap_or_else(sys::host_name);
    let is_same = header.host == host && header.source == source.location();
    if is_same || options.dataset_was_named {
        return Ok(());
    }
    let message = format!(
        "dataset {name} holds backups of {} on {}, not of {} on {host}",
        header.source,
        header.host,
        source.location(),
    );
    Err(Error::invalid(message).hint(format!(
        "`--dataset {name}` goes on with it all the same, another name starts another dataset",
    )))
}

//! Makes a backup.
//!
//! ```text
//! source --scan--> sorted entries --compare with the snapshot before--> units       [scan]
//!    units --one thread each: open, read, cut, hash, look up, block, compress-->    [read]
//!    results, in order: blocks -> packs; entries -> manifest, hash, saved snapshot  [store]
//!    then pack index, then the header, which makes the backup exist                 [attempt]
//! ```
//!
//! A unit is a run of neighbouring entries, about 4 MiB, or a piece of a large file. The producer
//! needs a permit for each unit and the committer gives it back, so at most
//! `2 x threads + 1` units are under way; threads are those that were asked for, or as many as a
//! source on another machine makes use of. Memory is bounded by: for each unit under way its
//! entries and its blocks (a piece at most, when nothing compresses); for each thread one piece
//! buffer and one block; two packs; one range for each stream of the chain; the tables in the
//! cache. None of it grows with the dataset.

pub mod attempt;
mod old;
mod parent;
mod pump;
pub mod read;
pub mod scan;
pub mod store;
pub mod unit;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::metadata::Kind;
use crate::base::progress::Warning;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::Failure;
use crate::engine::Failures;
use crate::engine::backup::attempt::Attempt;
use crate::engine::backup::attempt::Ended;
use crate::engine::compare::Compared;
use crate::engine::compare::Comparison;
use crate::engine::compare::Rules;
use crate::format::backup::Counts;
use crate::format::dataset::DatasetName;
use crate::format::dataset::check_description;
use crate::format::dataset::check_tags;
use crate::repository::Repository;
use crate::repository::history::Snapshot;
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
    let mut scan = Some(source.scan(context.cancel)?);
    if options.dry_run {
        return dry_run(repository, name, source, options, context);
    }
    let dataset = repository.dataset_or_new(name, context.clock.now())?;
    let mut lean_on = LeanOn::Parent;
    for _ in 0..COMMIT_TRIES_MAX {
        let failures = Failures::new(context.progress);
        let started = context.clock.now();
        let attempt =
            Attempt::prepare(&dataset, source, options, context, &failures, started, lean_on)?;
        let parent = attempt.parent.as_ref().map(Snapshot::number);
        refuse_another_source(&attempt)?;
        let scan = match scan.take() {
            Some(scan) => scan,
            None => source.scan(context.cancel)?,
        };
        match attempt.run(scan)? {
            Ended::Done(mut report) => {
                report.errors = failures.into_list();
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
    let message = format!("other backups of {name} were always quicker");
    Err(Error::new(ErrorKind::Busy, message).hint("run one backup of a dataset at a time"))
}

/// Two machines that back up different things under one default name would mix them up.
fn refuse_another_source(attempt: &Attempt<'_>) -> Result<()> {
    let Some(parent) = &attempt.parent else { return Ok(()) };
    let header = &parent.backup().header;
    let host = attempt.options.host.clone().unwrap_or_else(sys::host_name);
    let is_same = header.host == host && header.source == attempt.source.location();
    if is_same || attempt.options.dataset_was_named {
        return Ok(());
    }
    let message = format!(
        "dataset {} holds backups of {} on {}, not of {} on {host}",
        attempt.dataset.name(),
        header.source,
        header.host,
        attempt.source.location(),
    );
    Err(Error::invalid(message).hint(format!(
        "`--dataset {}` goes on with it all the same, another name starts another dataset",
        attempt.dataset.name()
    )))
}

/// Compares by metadata alone and stores nothing.
fn dry_run(
    repository: &Repository,
    name: &DatasetName,
    source: &dyn Source,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport> {
    let failures = Failures::new(context.progress);
    let started = context.clock.now();
    let (parent, next) = match repository.dataset(name) {
        Ok(dataset) => {
            let numbers = dataset.newest_numbers()?;
            let newest = dataset.newest_readable(&numbers)?.map(std::sync::Arc::new);
            let parent = newest.map(|newest| dataset.snapshot(&numbers, newest)).transpose()?;
            (parent, numbers.next())
        }
        Err(e) if e.kind() == ErrorKind::NotFound => (None, BackupId(0)),
        Err(e) => return Err(e),
    };
    let rules = Rules {
        read_all: options.read_all || !source.detects_changes(),
        tells_metadata: source.tells_metadata(),
        checked: parent.as_ref().map_or(started, |parent| parent.backup().header.read_from),
        lost: repository.lost_places()?,
    };
    let previous = parent.iter().flat_map(Snapshot::entries);
    let mut counts = Counts::default();
    for compared in Comparison::new(source.scan(context.cancel)?, previous, rules) {
        count_dry(compared?, &mut counts, &failures);
    }
    context.cancel.check()?;
    counts.errors = failures.count();
    let is_changed = parent.is_none() || counts.added + counts.modified + counts.deleted > 0;
    let kind = match (&parent, is_changed) {
        (Some(_), false) => BackupKind::Unchanged,
        (Some(_), true) if !options.full => BackupKind::Partial,
        _ => BackupKind::Full,
    };
    let newest = parent.as_ref().map_or(next, Snapshot::number);
    Ok(BackupReport {
        dataset: name.clone(),
        backup: if kind == BackupKind::Unchanged { newest } else { next },
        kind,
        counts,
        errors: failures.into_list(),
        seconds: context.clock.now().seconds_since(started).max(0.0),
    })
}

fn count_dry(compared: Compared, counts: &mut Counts, failures: &Failures<'_>) {
    let mut present = |kind: Kind, size: u64| {
        counts.entries += 1;
        counts.files += u64::from(kind != Kind::Directory);
        counts.bytes += size;
    };
    match compared {
        Compared::Same(kept) => present(kept.entry.kind(), kept.entry.size()),
        Compared::Look(now, before, _) => {
            present(now.kind, now.size);
            let is_file = now.kind != Kind::Directory;
            counts.new_bytes += now.size;
            counts.added += u64::from(is_file && before.is_none());
            counts.modified += u64::from(is_file && before.is_some());
        }
        Compared::Gone(gone) => {
            counts.deleted += u64::from(gone.entry.kind() != Kind::Directory);
        }
        Compared::Failed(path, error) => failures.warn(&Warning::failed(&path, &error)),
        Compared::Skipped(path, why) => failures.warn(&Warning::note(&path, why)),
    }
}

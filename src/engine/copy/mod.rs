//! Copies backups from one repository into another.
//!
//! ```text
//! both listed --> plan --> for each backup, oldest first, an attempt as a backup makes one:
//!
//!   rows of the source       changes   what differs from the backup that the target's newest is
//!        |                             a copy of, merged with what the target has of that one
//!   windows of files         feed      runs of the source become runs of the target
//!        |                   known     without a look at content, where that can be
//!   blocks, by pack          fetch     ranges of packs, read together, on all threads;
//!        |                   settle    each decoded once, each blob compared with its name,
//!        |                             named anew, and left out where the target has it
//!   committer, as ever                 packs, manifest, index, then the header
//! ```
//!
//! A block of which the target lacks nearly everything is taken over with its compressed bytes as
//! they are, and only sealed anew; what it lacks of others goes into new blocks. Nothing is copied
//! that was not verified: a backup with content that is damaged or gone is left out and reported,
//! and the others are copied. What only cannot be had just now ends the copy of its dataset, as a
//! backup that is left out has no place any more once a later one is there.
//!
//! Memory: a window of `COPY_RUNS_MAX` runs with `COPY_PLACES_MAX` places; a thread one stretch
//! of a pack, one decoded block and one that is filled; blocks on their way to packs, one for
//! each thread; two packs, or as many as are uploaded at a time; the runs of one file.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::engine::copy::one::Copier;
use crate::engine::copy::plan::Line;
use crate::engine::restore::work::stops;
use crate::format::backup::Counts;
use crate::format::config::Encryption;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use std::collections::BTreeSet;

mod changes;
mod feed;
mod fetch;
mod hints;
mod known;
mod one;
mod plan;
mod settle;

/// What of a dataset is copied.
#[derive(Clone)]
pub struct Wanted {
    /// The dataset, in the repository that is read.
    pub dataset: Dataset,
    /// The backups that were named; None: all.
    pub numbers: Option<BTreeSet<BackupId>>,
}

/// How a copy is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Say what would be copied, and copy nothing.
    pub dry_run: bool,
}

/// One backup that was copied, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedBackup {
    /// Its number in the repository that was read.
    pub from: BackupId,
    /// Its number in the other.
    pub to: BackupId,
    /// What it counts there; of a dry run what it counts here.
    pub counts: Counts,
}

/// Something that could not be copied, while the rest was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFailure {
    /// The backup, if it is about one.
    pub backup: Option<BackupId>,
    /// What happened.
    pub message: String,
}

/// What was copied of one dataset.
#[derive(Debug)]
pub struct DatasetCopy {
    /// The dataset.
    pub dataset: DatasetName,
    /// What was copied, in order.
    pub copied: Vec<CopiedBackup>,
    /// Backups that are there already.
    pub present: u64,
    /// Backups that were there and are forgotten there.
    pub forgotten: u64,
    /// Backups that are not there and older than the newest that is.
    pub older: u64,
    /// What could not be copied.
    pub failures: Vec<CopyFailure>,
    /// Bytes of blocks and their tables that were read for it.
    pub read_bytes: u64,
    /// What ended the copy of this dataset early.
    pub error: Option<Error>,
}

/// What was copied.
#[derive(Debug)]
pub struct CopyReport {
    /// By dataset, in the order they were named.
    pub datasets: Vec<DatasetCopy>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What a person should know of two repositories before one is copied into the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differences {
    /// Whether what is encrypted in the first is not in the second.
    pub loses_encryption: bool,
    /// Whether they cut files otherwise, so that what both have backed up themselves is not the
    /// same to them.
    pub cuts_otherwise: bool,
}

impl Differences {
    /// Compares two repositories.
    pub fn between(source: &Repository, target: &Repository) -> Self {
        let encrypted = |it: &Repository| it.config().encryption == Encryption::Password;
        Differences {
            loses_encryption: encrypted(source) && !encrypted(target),
            cuts_otherwise: source.config().chunks != target.config().chunks,
        }
    }
}

impl DatasetCopy {
    fn new(dataset: &DatasetName) -> Self {
        DatasetCopy {
            dataset: dataset.clone(),
            copied: Vec::new(),
            present: 0,
            forgotten: 0,
            older: 0,
            failures: Vec::new(),
            read_bytes: 0,
            error: None,
        }
    }

    /// Takes over what a look at both sides has told; what was copied meanwhile is there, too.
    fn note(&mut self, line: &Line) {
        self.present = line.present.saturating_sub(self.copied.len() as u64);
        self.forgotten = line.forgotten;
        self.older = line.older;
        for failure in &line.failures {
            if !self.failures.contains(failure) {
                self.failures.push(failure.clone());
            }
        }
    }

    fn has_failed(&self, number: BackupId) -> bool {
        self.failures.iter().any(|failure| failure.backup == Some(number))
    }
}

/// Copies backups of `source` into `target`, where they go on with the datasets of their names.
///
/// # Errors
/// `InvalidInput` when both are one repository, when a backup that was named is older than the
/// newest there is, or when a dataset of the target holds something else: then nothing was
/// copied; what concerns more than one dataset; `Cancelled`. What was copied until then stays.
pub fn run(
    source: &Repository,
    target: &Repository,
    wanted: &[Wanted],
    options: &CopyOptions,
    context: &Context<'_>,
) -> Result<CopyReport> {
    let started = context.clock.now();
    refuse_itself(source, target)?;
    let mut lines = Vec::with_capacity(wanted.len());
    for one in wanted {
        match plan::look(one, target) {
            Err(e) if stops(&e) || e.kind() == ErrorKind::InvalidInput => return Err(e),
            looked => lines.push(looked),
        }
    }
    let mut datasets = Vec::with_capacity(wanted.len());
    for (one, line) in wanted.iter().zip(lines) {
        let mut report = DatasetCopy::new(one.dataset.name());
        let done = line.and_then(|line| {
            report.note(&line);
            for failure in &line.failures {
                warn(&report.dataset, failure, context);
            }
            if options.dry_run {
                report.copied = line.planned();
                return Ok(());
            }
            copy_dataset(source, target, one, line, &mut report, context)
        });
        if let Err(e) = done {
            if stops(&e) {
                return Err(e);
            }
            report.error = Some(e);
        }
        datasets.push(report);
    }
    Ok(CopyReport { datasets, seconds: context.clock.now().seconds_since(started).max(0.0) })
}

fn refuse_itself(source: &Repository, target: &Repository) -> Result<()> {
    if source.id() != target.id() {
        return Ok(());
    }
    let message = format!("{} and {} are one repository", source.location(), target.location());
    Err(Error::invalid(message).hint(
        "its files may have been copied to another place; `icecore init` makes another repository",
    ))
}

/// Tells that something is left out.
fn warn(dataset: &DatasetName, failure: &CopyFailure, context: &Context<'_>) {
    let name = match failure.backup {
        Some(number) => format!("{dataset}@{}", number.0),
        None => dataset.to_string(),
    };
    let message = format!("{name} is not copied: {}", failure.message);
    context.progress.warn(&Warning { path: None, message, is_error: true });
}

/// Copies what is planned of one dataset, and plans anew when others put backups into it.
fn copy_dataset(
    source: &Repository,
    target: &Repository,
    wanted: &Wanted,
    mut line: Line,
    report: &mut DatasetCopy,
    context: &Context<'_>,
) -> Result<()> {
    let mut copier = Copier::new(source, target, wanted, context);
    let mut tries = COMMIT_TRIES_MAX;
    loop {
        let before = report.copied.len();
        let went = go_through(&mut copier, &line, report, context);
        report.read_bytes = copier.read_bytes();
        if went? == Went::Whole {
            return Ok(());
        }
        tries = if report.copied.len() > before { COMMIT_TRIES_MAX } else { tries - 1 };
        if tries == 0 {
            let message = format!("other backups of {} were always quicker", report.dataset);
            return Err(Error::new(ErrorKind::Busy, message)
                .hint("let one program at a time put backups into a dataset"));
        }
        line = plan::look(wanted, target)?;
        report.note(&line);
    }
}

/// How far a plan was gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// To its end.
    Whole,
    /// Until somebody else had put a backup into the dataset.
    Overtaken,
}

fn go_through(
    copier: &mut Copier<'_>,
    line: &Line,
    report: &mut DatasetCopy,
    context: &Context<'_>,
) -> Result<Went> {
    if line.chosen.is_empty() {
        return Ok(Went::Whole);
    }
    let dataset = copier.target_dataset()?;
    let (mut next, mut newest) = (line.next, line.newest);
    for chosen in &line.chosen {
        if report.has_failed(chosen.number) {
            continue;
        }
        context.cancel.check()?;
        match copier.copy(&dataset, line, chosen, newest, next) {
            Ok(Some(copied)) => {
                next = BackupId(copied.to.0.saturating_add(1));
                newest = Some(chosen.origin);
                report.copied.push(copied);
            }
            Ok(None) => return Ok(Went::Overtaken),
            Err(e) if e.origin() == Origin::Source && is_lost(&e) => {
                let message = e.full_message();
                let failure = CopyFailure { backup: Some(chosen.number), message };
                warn(&report.dataset, &failure, context);
                report.failures.push(failure);
            }
            Err(e) if e.origin() == Origin::Source => {
                let name = format!("{}@{}", report.dataset, chosen.number.0);
                let e = e.context(format!("cannot copy {name}"));
                return Err(match e.hint_text() {
                    Some(_) => e,
                    None => e.hint(
                        "the next run goes on here; a later backup that is named is copied, and \
                         leaves no place for this one",
                    ),
                });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(Went::Whole)
}

/// Says whether a backup is left out for good by what is wrong with it: with a later one on top of
/// it there is no place for it any more, so what may be read another time ends the copy instead.
fn is_lost(error: &Error) -> bool {
    error.kind().is_unreadable()
}

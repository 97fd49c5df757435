//! Looks for damage, changes nothing, and names what suffers.
//!
//! Without a password [`scrub`] verifies the checksums of all objects, and no more. With it there
//! are three depths. *Structure* reads all small objects, every pack index, and replays every
//! visible backup from its header down: its ranges must decode and be sorted, the hash over its
//! entries must be the header's, and every place that its runs name must be in a pack that is
//! there. *Packs* (`read_packs`) gets every pack and compares checksum, name, footer and index.
//! *Data* (`read_data`) decodes every block and compares every blob with its name. Parity is
//! looked at beside the packs: whether each object has its pack, then whether it is sound, then
//! whether it is what its pack gives.
//!
//! ```text
//! objects    small objects, indexes, list of packs   \
//! datasets   names, numbers, headers, chains          |
//! packs      one pack a thread: what is bad in it     |--> ledger --> findings
//! replay     chains merged in one pass, run by run   /
//! ```
//!
//! Packs come before the replay, so that one pass over the snapshots tells who suffers by what
//! was found in them. One damaged object never stops the rest. What is asked is the store, never
//! the cache. Memory: see `stock`; one pack a thread; one range for each stream of a chain.

pub(crate) mod datasets;
pub(crate) mod headers;
pub(crate) mod ledger;
mod lengths;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod packs;
mod parity;
pub(crate) mod replay;
mod rows;
mod sample;
pub mod scrub;
pub(crate) mod stock;
pub(crate) mod traces;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::engine::Context;
use crate::engine::check::datasets::View;
use crate::engine::check::ledger::Ledger;
use crate::engine::check::stock::Stock;
use crate::format::dataset::DatasetName;
use crate::repository::Repository;
use crate::repository::lease::Lease;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// How deep a check goes.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Get every pack and compare its checksum, name, footer and index.
    pub read_packs: bool,
    /// Decode every block of so many percent of the packs, and compare every blob with its name.
    /// Below 100 repeated runs take turns, so that together they cover all.
    pub read_data: Option<f64>,
    /// Look at the backups of this dataset only, and read only packs that they need.
    pub dataset: Option<DatasetName>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Left by an interrupted run; it costs space and nothing else.
    Garbage,
    /// Something that was stored is not there any more, or is otherwise.
    Damage,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: an object's key, or `block <id>`.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// The backups that suffer, as `photos@3`.
    pub backups: Vec<String>,
    /// The first paths in them that suffer; the message counts the rest.
    pub paths: Vec<String>,
}

impl Finding {
    fn of(severity: Severity, object: &str, message: String) -> Self {
        let object = object.to_owned();
        Finding { severity, object, message, backups: Vec::new(), paths: Vec::new() }
    }
}

/// What a check has looked at and found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Datasets looked at.
    pub datasets: u64,
    /// Visible backups replayed.
    pub backups: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Copies of blocks that the pack indexes name.
    pub blocks: u64,
    /// Blobs read and compared with their names; 0 without `read_data`.
    pub blobs: u64,
    /// Bytes of packs, indexes and blocks that were read.
    pub bytes_read: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl CheckReport {
    /// Says whether there is no damage.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }
}

/// What all parts of one check share.
pub(crate) struct Run<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) options: &'a CheckOptions,
    pub(crate) context: &'a Context<'a>,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) blobs: AtomicU64,
}

impl Run<'_> {
    pub(crate) fn count_read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Checks a repository.
///
/// # Errors
/// Those of the backend that concern more than one object: it cannot be reached or listed;
/// `NotFound` for a dataset that is not there; `Cancelled`. Damage is no error but a finding.
pub fn run(
    repository: &Repository,
    options: &CheckOptions,
    context: &Context<'_>,
) -> Result<CheckReport> {
    let percent_fits = options.read_data.is_none_or(|percent| percent > 0.0 && percent <= 100.0);
    if !percent_fits {
        return Err(Error::invalid("a percentage of the data is above 0 and at most 100"));
    }
    let run = Run {
        repository,
        options,
        context,
        bytes_read: AtomicU64::new(0),
        blobs: AtomicU64::new(0),
    };
    let mut leases = Vec::new();
    let checked = traces::until_still(&run, &mut || all(&run, &mut leases), CheckReport::is_ok);
    leases.into_iter().for_each(Lease::give_back);
    // What looks damaged beside prunes without end is told: better too much than too little.
    checked.map(|(report, _)| report)
}

/// Looks at all that is small: names, headers, other objects, indexes; and takes leases on what
/// is read after that, unless there are some. Returns the datasets, what is in store, and how
/// many rows the indexes have.
pub(crate) fn begin(
    run: &Run<'_>,
    leases: &mut Vec<Lease>,
    ledger: &mut Ledger,
) -> Result<(Vec<View>, Stock, u64)> {
    let names = names::all(run, ledger)?;
    if leases.is_empty() {
        datasets::take_leases(run, &names, leases);
    }
    // Before the indexes: each header was put after the indexes that name what it needs.
    let views = names.iter().map(|named| datasets::view(run, named, ledger));
    let views: Vec<View> = views.collect::<Result<_>>()?;
    let (stock, blocks) = objects::survey(run, ledger)?;
    Ok((views, stock, blocks))
}

fn all(run: &Run<'_>, leases: &mut Vec<Lease>) -> Result<CheckReport> {
    let started = run.context.clock.now();
    run.blobs.store(0, Ordering::Relaxed);
    let mut ledger = Ledger::default();
    let (views, mut stock, blocks) = begin(run, leases, &mut ledger)?;

    let mut jobs = packs::jobs(run, &stock);
    if run.options.dataset.is_some() && !jobs.is_empty() {
        // Only a replay tells which packs the dataset needs; what it finds comes again below.
        replay::all(run, &views, &mut stock, false)?;
        jobs = packs::needed(run, &stock, jobs);
        stock.forget_touched();
    }
    let sample = sample::choose(run, &stock, &mut jobs);
    let files = views.iter().map(View::files).fold(0, u64::saturating_add);
    let bytes = jobs.iter().map(|job| job.size).fold(0, u64::saturating_add);
    run.context.progress.start(Phase::Check, Totals { files: Some(files), bytes: Some(bytes) });
    let read = packs::read_all(run, &mut stock, &jobs, &mut ledger);
    if let (Ok(()), Some(sample)) = (&read, sample) {
        sample.was_read(run, &stock, &mut ledger);
    }
    let replayed = read.and_then(|()| replay::all(run, &views, &mut stock, true));
    run.context.progress.finish();
    ledger.merge(replayed?);
    objects::report_unknown_blocks(&stock, &mut ledger);

    Ok(CheckReport {
        findings: ledger.into_findings(),
        datasets: views.len() as u64,
        backups: views.iter().map(|view| view.visible().count() as u64).sum(),
        packs: stock.there.len() as u64,
        blocks,
        blobs: run.blobs.load(Ordering::Relaxed),
        bytes_read: run.bytes_read.load(Ordering::Relaxed),
        seconds: run.context.clock.now().seconds_since(started),
    })
}

/// Lets errors through that concern more than one object; the others become findings.
pub(crate) fn damage_of(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::RateLimited => Err(error),
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported
        | ErrorKind::Busy
        | ErrorKind::Denied
        | ErrorKind::Password
        | ErrorKind::NoRepository
        | ErrorKind::InvalidInput
        | ErrorKind::Full
        | ErrorKind::Bug
        | ErrorKind::Io => Ok(error),
    }
}

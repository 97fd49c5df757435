//! A dry run: reads what a backup would read, compares it with what is stored, and stores nothing.
//!
//! Not even a lease is taken, so it goes beside a backup, and on a repository that can only be
//! read. Content is cut as a backup would cut it, and the names of the chunks tell what is new. A
//! backup that ran now would say the same, but for three things: chunks that are stored once more
//! because a file lies in too many blocks are not counted, content that comes twice is counted
//! twice when more than [`DRY_RUN_NAMES_MAX`] new chunks lie in between, and what the snapshot
//! itself takes is not told.

mod reader;
mod tally;

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::BlobId;
use crate::base::limits::DRY_RUN_NAMES_MAX;
use crate::base::panic::caught;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::backup::BackupKind;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::engine::backup::attempt::wants_full;
use crate::engine::backup::dry::reader::Reader;
use crate::engine::backup::dry::tally::Tally;
use crate::engine::backup::read::ends_the_run;
use crate::engine::backup::refuse_another_source;
use crate::engine::compare::Compared;
use crate::engine::compare::Comparison;
use crate::engine::compare::Rules;
use crate::engine::pool;
use crate::format::dataset::DatasetName;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::TrackedEntry;
use crate::repository::Repository;
use crate::repository::history::Snapshot;
use crate::repository::known::KnownBlobs;
use crate::repository::lost::LostPlaces;
use crate::source::Scan;
use crate::source::Source;
use crate::source::SourceEntry;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;

/// Entries that wait to be looked at, for each thread.
const WAITING_PER_THREAD: usize = 64;

/// An entry to look at.
struct Look {
    now: SourceEntry,
    before: Option<Box<TrackedEntry>>,
}

/// Reads and compares.
///
/// # Errors
/// Those of the repository and of the source as a whole; `Cancelled`.
pub(super) fn run(
    repository: &Repository,
    name: &DatasetName,
    source: &dyn Source,
    scan: Scan<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport> {
    let started = context.clock.now();
    let (parent, next) = newest(repository, name)?;
    if let Some(parent) = &parent {
        refuse_another_source(name, parent, source, options)?;
    }
    let lost = repository.lost_places()?;
    let read_all = options.read_all || !source.detects_changes();
    let checked = parent.as_ref().map_or(started, |parent| parent.backup().header.read_from);
    let mut rules = Rules::of(source, read_all, checked, lost.clone());
    if let Some(parent) = &parent {
        rules = rules.against(&parent.backup().header.source, source);
    }
    let failures = Failures::new(context.progress);
    let dry = DryRun {
        repository,
        source,
        context,
        failures: &failures,
        lost,
        known: Mutex::new(None),
        seen: Mutex::default(),
        tally: Mutex::default(),
        error: Mutex::default(),
    };
    let before = parent.as_ref().map(|parent| parent.backup().header.counts);
    let totals = before.map(|c| Totals { files: Some(c.files), bytes: Some(c.bytes) });
    context.progress.start(Phase::Backup, totals.unwrap_or_default());
    let previous = parent.iter().flat_map(Snapshot::entries);
    let done = dry.compare(Comparison::new(scan, previous, rules));
    context.progress.finish();
    done?;
    let Tally { mut counts, rows, is_changed } =
        dry.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    counts.errors = failures.count();
    let kind = match &parent {
        None => BackupKind::Full,
        Some(_) if !is_changed && !options.allow_unchanged => BackupKind::Unchanged,
        Some(parent) if options.full || wants_full(parent, rows, &counts) => BackupKind::Full,
        Some(_) => BackupKind::Partial,
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

/// Returns the backup to compare with, and the number that the next one gets.
fn newest(repository: &Repository, name: &DatasetName) -> Result<(Option<Snapshot>, BackupId)> {
    let dataset = match repository.dataset(name) {
        Ok(dataset) => dataset,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok((None, BackupId(0))),
        Err(e) => return Err(e),
    };
    let numbers = dataset.newest_numbers()?;
    let newest = dataset.newest_readable(&numbers, &mut |_, _| {})?.map(Arc::new);
    let parent = newest.map(|newest| dataset.snapshot(&numbers, newest)).transpose()?;
    Ok((parent, numbers.next()))
}

/// What all threads share.
struct DryRun<'a> {
    repository: &'a Repository,
    source: &'a dyn Source,
    context: &'a Context<'a>,
    failures: &'a Failures<'a>,
    lost: LostPlaces,
    /// Asked for when the first chunk comes that is not where it was.
    known: Mutex<Option<Arc<KnownBlobs>>>,
    /// New chunks that were counted.
    seen: Mutex<HashSet<BlobId>>,
    tally: Mutex<Tally>,
    /// What ended a thread.
    error: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DryRun<'_> {
    fn compare(&self, comparison: impl Iterator<Item = Result<Compared>>) -> Result<()> {
        let threads = self.context.threads.max(self.source.parallel()).max(1);
        let (sender, looks) = mpsc::sync_channel(threads * WAITING_PER_THREAD);
        let looks = Mutex::new(looks);
        let work = |_| {
            if let Err(e) = caught("a worker", || self.work(&looks)) {
                lock(&self.error).get_or_insert(e);
                // Whoever hands out more must not wait for ever.
                while lock(&looks).recv().is_ok() {}
            }
        };
        let led = pool::beside(threads, work, || self.lead(comparison, sender))?;
        let failed = lock(&self.error).take();
        failed.map_or(led, Err)
    }

    /// Counts what needs no look, and hands out the rest.
    fn lead(
        &self,
        comparison: impl Iterator<Item = Result<Compared>>,
        looks: mpsc::SyncSender<Look>,
    ) -> Result<()> {
        for compared in comparison {
            self.context.cancel.check()?;
            if lock(&self.error).is_some() {
                return Ok(());
            }
            match compared? {
                Compared::Same(kept) | Compared::Unseen(kept) => self.keep(&kept.entry),
                Compared::Gone(gone) => lock(&self.tally).delete(&gone.entry),
                Compared::Look(now, before, _) => {
                    // The other end hangs up only when all threads have ended.
                    let look = Look { now, before };
                    looks.send(look).map_err(|_| Error::cancelled())?;
                }
                Compared::Failed(_, e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Compared::Failed(path, e) => self.failures.warn(&Warning::failed(&path, &e)),
                Compared::Skipped(path, why) => self.failures.warn(&Warning::note(&path, why)),
            }
        }
        // A scan that was interrupted ends early; what it did not reach is not gone.
        self.context.cancel.check()
    }

    fn work(&self, looks: &Mutex<mpsc::Receiver<Look>>) -> Result<()> {
        let mut reader = None;
        loop {
            let next = lock(looks).recv();
            let Ok(Look { now, before }) = next else { return Ok(()) };
            let reader = match &mut reader {
                Some(reader) => reader,
                slot => slot.insert(Reader::new(self)?),
            };
            self.context.cancel.check()?;
            self.context.progress.working_on(&now.path);
            match reader.read(&now.path, before.as_deref()) {
                Ok(tracked) => {
                    self.told(&tracked.entry);
                    lock(&self.tally).put(&tracked, before.as_deref());
                }
                // What is read once has no second try.
                Err(e) if ends_the_run(&e) || self.source.is_stream() => return Err(e),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let what = "vanished while it was looked at; it is left out";
                    self.failures.warn(&Warning::note(&now.path, what));
                    before.iter().for_each(|before| lock(&self.tally).delete(&before.entry));
                }
                Err(e) => {
                    self.failures.warn(&Warning::failed(&now.path, &e));
                    before.iter().for_each(|before| self.keep(&before.entry));
                }
            }
        }
    }

    fn keep(&self, kept: &Entry) {
        self.context.progress.count(Counter::Bytes, kept.size());
        self.told(kept);
        lock(&self.tally).count(kept);
    }

    fn told(&self, entry: &Entry) {
        if !matches!(entry.node, EntryNode::Directory) {
            self.context.progress.count(Counter::Files, 1);
        }
    }

    fn known(&self) -> Result<Arc<KnownBlobs>> {
        let mut known = lock(&self.known);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let looked = Arc::new(KnownBlobs::look(self.repository)?);
        Ok(Arc::clone(known.insert(looked)))
    }

    /// Counts a chunk that a backup would store.
    fn take(&self, blob: BlobId, length: u64) -> Result<()> {
        if lock(&self.seen).contains(&blob) || self.known()?.has(&blob) {
            return Ok(());
        }
        let mut seen = lock(&self.seen);
        if seen.len() >= DRY_RUN_NAMES_MAX {
            seen.clear();
        }
        if seen.insert(blob) {
            lock(&self.tally).counts.new_bytes += length;
        }
        Ok(())
    }
}

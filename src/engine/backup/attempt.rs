//! One attempt at a backup: compare with the newest backup, read what may have changed, commit.
//! It starts again when another backup was committed meanwhile.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::id::BackupId;
use crate::base::limits::CHAIN_MANIFESTS_MAX;
use crate::base::path::EntryPath;
use crate::base::progress::Phase;
use crate::base::progress::Totals;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::backup::BackupKind;
use crate::engine::backup::BackupOptions;
use crate::engine::backup::BackupReport;
use crate::engine::backup::parent::is_unreadable;
use crate::engine::backup::parent::readable_parent;
use crate::engine::backup::store::Committer;
use crate::engine::backup::store::Gathered;
use crate::engine::backup::store::WrittenRows;
use crate::engine::compare::Rules;
use crate::format::backup::Counts;
use crate::format::backup::Header;
use crate::format::backup::Original;
use crate::format::entry::TrackedEntry;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::history::Snapshot;
use crate::repository::lost::LostPlaces;
use crate::repository::saved;
use crate::repository::saved::SavedKind;
use crate::repository::saved::SavedReader;
use crate::repository::transaction::Committed;
use crate::repository::transaction::LeanOn;
use crate::repository::transaction::Looked;
use crate::repository::transaction::Transaction;
use crate::source::Scan;
use crate::source::Source;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// What a copy of a backup takes over from it.
#[derive(Clone, Copy, Debug)]
pub struct CopyOf {
    /// Which one it is.
    pub original: Original,
    /// When it ended.
    pub ended: Timestamp,
    /// What it counted.
    pub counts: Counts,
}

/// What came of a stream, for an attempt that begins when it has gone by.
#[derive(Default)]
pub(super) struct Streamed(Mutex<Option<Box<TrackedEntry>>>);

impl Streamed {
    /// Remembers it.
    pub(super) fn put(&self, tracked: &TrackedEntry) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tracked.clone()));
    }

    /// Returns it if it is at this path.
    pub(super) fn get(&self, path: &EntryPath) -> Option<Box<TrackedEntry>> {
        let tracked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.clone().filter(|tracked| tracked.entry.path == *path)
    }
}

/// What one attempt has in hand.
pub struct Attempt<'a> {
    /// The dataset.
    pub dataset: &'a Dataset,
    /// The backup compared with.
    pub parent: Option<Snapshot>,
    /// Where data comes from.
    pub source: &'a dyn Source,
    /// What was asked.
    pub options: &'a BackupOptions,
    /// Progress, cancel, clock.
    pub context: &'a Context<'a>,
    /// Failures so far.
    pub failures: &'a Failures<'a>,
    /// When the run began; of a copy, when reading what it is a copy of began.
    pub started: Timestamp,
    /// What it is a copy of, if it is one.
    pub copy_of: Option<CopyOf>,
    /// Where a stream is remembered once it was read.
    pub(super) streamed: Option<&'a Streamed>,
    /// Places that were declared lost.
    pub lost: LostPlaces,
    lean_on: LeanOn,
    /// What the dataset showed at the beginning.
    numbers: Option<Numbers>,
    transaction: OnceLock<Transaction>,
    beginning: Mutex<()>,
    parent_moved: AtomicBool,
    saved_is_damaged: AtomicBool,
    parent_is_damaged: AtomicBool,
}

/// How an attempt ended.
pub enum Ended {
    /// With a report.
    Done(BackupReport),
    /// The parent moved, or the number was taken: start again.
    Again,
    /// The parent cannot be read: start again without it.
    Unreadable(Error),
}

impl<'a> Attempt<'a> {
    /// Looks at the dataset as it is now.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn prepare(
        dataset: &'a Dataset,
        source: &'a dyn Source,
        options: &'a BackupOptions,
        context: &'a Context<'a>,
        failures: &'a Failures<'a>,
        started: Timestamp,
        lean_on: LeanOn,
    ) -> Result<Self> {
        let lost = dataset.repository().lost_places()?;
        let (parent, lean_on, numbers) = match lean_on {
            LeanOn::Nothing => (None, lean_on, None),
            LeanOn::Parent => {
                let (parent, lean_on, numbers) = readable_parent(dataset, &lost, context)?;
                (parent, lean_on, Some(numbers))
            }
        };
        Ok(Attempt {
            dataset,
            parent,
            source,
            options,
            context,
            failures,
            started,
            copy_of: None,
            streamed: None,
            lost,
            lean_on,
            numbers,
            transaction: OnceLock::new(),
            beginning: Mutex::new(()),
            parent_moved: AtomicBool::new(false),
            saved_is_damaged: AtomicBool::new(false),
            parent_is_damaged: AtomicBool::new(false),
        })
    }

    /// Returns the transaction, beginning it when first asked: a run without changes takes no
    /// lease.
    ///
    /// # Errors
    /// Those of [`Transaction::begin`]; `Cancelled` when the parent moved meanwhile.
    pub fn transaction(&self) -> Result<&Transaction> {
        if let Some(transaction) = self.transaction.get() {
            return Ok(transaction);
        }
        let _one_at_a_time = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transaction) = self.transaction.get() {
            return Ok(transaction);
        }
        if self.parent_moved.load(Ordering::Acquire) {
            return Err(Error::cancelled());
        }
        let now = self.context.clock.now();
        let transaction = Transaction::begin_on(self.dataset, now, self.lean_on, self.looked())?;
        if transaction.parent().map(Snapshot::number) != self.parent_number() {
            self.parent_moved.store(true, Ordering::Release);
            transaction.abandon();
            return Err(Error::cancelled());
        }
        Ok(self.transaction.get_or_init(|| transaction))
    }

    fn looked(&self) -> Option<Looked> {
        let parent = self.parent.as_ref().map(|parent| Arc::new(parent.backup().clone()));
        self.numbers.clone().map(|numbers| Looked { numbers, parent })
    }

    /// Returns the number of the parent.
    pub fn parent_number(&self) -> Option<BackupId> {
        self.parent.as_ref().map(Snapshot::number)
    }

    /// Returns the digest of the parent's header; zeros without a parent.
    pub fn digest(&self) -> Digest {
        self.parent.as_ref().map_or([0; 32], |parent| parent.backup().digest)
    }

    /// Returns what a journal is kept under: entries of another source are no guess at all, however
    /// much they look like those of this one.
    pub(super) fn journal_digest(&self) -> Digest {
        let location = self.source.location();
        let told = [&self.digest()[..], location.as_bytes()].concat();
        hash::derive("icecore 2026-11-22 journal of a source v1", &told)
    }

    /// Opens what the cache has saved for the parent.
    pub(super) fn saved(&self, kind: SavedKind) -> Option<SavedReader> {
        let cache = self.dataset.repository().cache();
        let digest = match kind {
            SavedKind::Journal => self.journal_digest(),
            SavedKind::Snapshot => self.digest(),
        };
        SavedReader::open(cache, kind, &self.dataset.id(), &digest)
    }

    /// Streams the entries of the parent, from the cache where it has them.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn previous_entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<TrackedEntry>> + Send + '_>> {
        let Some(parent) = &self.parent else { return Ok(Box::new(std::iter::empty())) };
        if let Some(saved) = self.saved(SavedKind::Snapshot) {
            return Ok(Box::new(saved.inspect(|tracked| {
                if tracked.is_err() {
                    self.saved_is_damaged.store(true, Ordering::Release);
                }
            })));
        }
        // Without a saved snapshot the repository's is read, under a lease that pins it.
        self.transaction()?;
        Ok(Box::new(parent.entries().inspect(|tracked| {
            if tracked.as_ref().is_err_and(is_unreadable) {
                self.parent_is_damaged.store(true, Ordering::Release);
            }
        })))
    }

    /// Returns when the entries of the parent were last found to be as they are.
    pub(super) fn checked(&self) -> Timestamp {
        let started = self.parent.as_ref().map(|parent| parent.backup().header.read_from);
        let saved = self.saved(SavedKind::Snapshot).map(|saved| saved.checked());
        started.max(saved).unwrap_or(self.started)
    }

    /// Returns since when all entries are known to be as this backup has them: what could not be
    /// read is as it was found earlier. The cache knows which these are, the repository does not.
    fn known_from(&self) -> Timestamp {
        let is_whole = self.copy_of.is_some() || self.failures.count() == 0;
        let before = self.parent.as_ref().map(|parent| parent.backup().header.read_from);
        before.filter(|_| !is_whole).map_or(self.started, |before| before.min(self.started))
    }

    /// Returns how entries are compared with what was so at a time.
    pub(super) fn rules(&self, checked: Timestamp) -> Rules {
        let read_all = self.options.read_all || !self.source.detects_changes();
        let rules = Rules::of(self.source, read_all, checked, self.lost.clone());
        match &self.parent {
            Some(parent) => rules.against(&parent.backup().header.source, self.source),
            None => rules,
        }
    }

    /// Runs the attempt on a scan.
    ///
    /// # Errors
    /// Those of the repository; `Busy`; `Cancelled`.
    pub fn run(self, scan: Scan<'_>) -> Result<Ended> {
        self.run_on(|attempt, committer| attempt.pump(scan, committer))
    }

    /// Runs the attempt on what `feed` hands to the committer: every entry, in order.
    ///
    /// # Errors
    /// Those of `feed` and of the repository; `Busy`; `Cancelled`.
    pub fn run_on(
        self,
        feed: impl FnOnce(&Self, &mut Committer<'_>) -> Result<()>,
    ) -> Result<Ended> {
        // What there was last time is the best guess of what there is.
        let counts = self.parent.as_ref().map(|parent| parent.backup().header.counts);
        let (phase, counts) = match self.copy_of {
            Some(copy_of) => (Phase::Copy, Some(copy_of.counts)),
            None => (Phase::Backup, counts),
        };
        let totals = counts.map(|c| Totals { files: Some(c.files), bytes: Some(c.bytes) });
        self.context.progress.start(phase, totals.unwrap_or_default());
        let gathered = self.gather(feed);
        self.context.progress.finish();
        let moved = self.parent_moved.load(Ordering::Acquire);
        let is_damaged = self.saved_is_damaged.load(Ordering::Acquire);
        let is_unreadable = self.parent_is_damaged.load(Ordering::Acquire);
        match gathered {
            Ok((gathered, None)) => self.unchanged(gathered),
            Ok((gathered, Some(finished))) => self.commit(gathered, finished),
            Err(e) => {
                if is_damaged {
                    saved::remove(self.dataset.repository().cache(), &self.dataset.id());
                }
                if let Some(transaction) = self.transaction.into_inner() {
                    transaction.abandon();
                }
                match () {
                    () if moved || is_damaged => Ok(Ended::Again),
                    () if is_unreadable => Ok(Ended::Unreadable(e)),
                    () => Err(e),
                }
            }
        }
    }

    /// Reads everything, ends the rows and makes all of it durable.
    fn gather(
        &self,
        feed: impl FnOnce(&Self, &mut Committer<'_>) -> Result<()>,
    ) -> Result<(Gathered, Option<Finished>)> {
        let mut committer = Committer::new(self);
        if let Err(e) = feed(self, &mut committer) {
            // What was read is kept for the next backup: packs are put and named by an index.
            if let Some(metadata) = committer.leave()
                && e.origin() != Origin::Repository
            {
                let _ = metadata.finish();
            }
            return Err(e);
        }
        let wants_rows = self.options.allow_unchanged;
        if wants_rows {
            self.transaction()?;
        }
        let (mut gathered, written) = committer.finish(wants_rows)?;
        let Some(mut written) = written else { return Ok((gathered, None)) };
        let is_full = self.decide_full(&gathered, &written);
        if is_full && self.parent.is_some() {
            self.make_full(&gathered, &mut written)?;
        }
        if !is_full {
            let before = self.parent.as_ref().map_or(0, |p| p.backup().header.counts.chain_rows);
            gathered.counts.chain_rows = before + written.count();
        }
        let (body, packed) = written.finish()?;
        gathered.counts.stored_bytes = packed.stored_bytes;
        for id in packed.indexes {
            self.transaction()?.names().absorbed(id);
        }
        Ok((gathered, Some(Finished { body, is_full })))
    }

    fn decide_full(&self, gathered: &Gathered, written: &WrittenRows<'_>) -> bool {
        let wants = |parent| wants_full(parent, written.count(), &gathered.counts);
        self.options.full || self.parent.as_ref().is_none_or(wants)
    }

    fn make_full(&self, gathered: &Gathered, written: &mut WrittenRows<'_>) -> Result<()> {
        match &gathered.saved {
            Some(saved) => written.make_full(saved.read_back()?),
            None => written.make_full(self.previous_entries()?),
        }
    }

    fn unchanged(self, gathered: Gathered) -> Result<Ended> {
        let Some(parent) = &self.parent else {
            return Err(Error::bug("a first backup is never unchanged"));
        };
        let cache = self.dataset.repository().cache();
        let (id, digest) = (self.dataset.id(), self.digest());
        match gathered.saved {
            // Rows for the times of folders alone are not stored, so the saved snapshot, which
            // has them, would not be the parent's.
            Some(saved) if gathered.snapshot == parent.backup().header.snapshot => {
                saved.finish(cache, &id, &digest, self.started);
            }
            Some(saved) => saved.discard(),
            None if gathered.looked => saved::touch(cache, &id, &digest, &digest, self.started),
            None => {}
        }
        let number = parent.number();
        let numbers = self.dataset.newest_numbers()?;
        let newest = self
            .dataset
            .newest_readable(&numbers, &mut |_, _| {})?
            .map(|backup| backup.header.number);
        let still_stands = newest == Some(number);
        // That the parent is there is promised now, whoever made it.
        self.dataset.repository().store().settle()?;
        let report = self.report(number, BackupKind::Unchanged, &gathered.counts);
        if let Some(transaction) = self.transaction.into_inner() {
            transaction.abandon();
        }
        Ok(if still_stands { Ended::Done(report) } else { Ended::Again })
    }

    fn report(&self, backup: BackupId, kind: BackupKind, counts: &Counts) -> BackupReport {
        BackupReport {
            dataset: self.dataset.name().clone(),
            backup,
            kind,
            counts: *counts,
            errors: Vec::new(),
            seconds: self.context.clock.now().seconds_since(self.started).max(0.0),
        }
    }

    fn commit(self, mut gathered: Gathered, finished: Finished) -> Result<Ended> {
        if let Err(e) = self.context.cancel.check() {
            if let Some(transaction) = self.transaction.into_inner() {
                transaction.abandon();
            }
            return Err(e);
        }
        let (number, lease) = {
            let transaction = self.transaction()?;
            (transaction.number(), transaction.lease_id())
        };
        let errors = self.copy_of.map(|copy_of| copy_of.counts.errors);
        gathered.counts.errors = errors.unwrap_or_else(|| self.failures.count());
        let parent = self.parent.as_ref().map(|parent| &parent.backup().header);
        let chain = match parent {
            Some(parent) if !finished.is_full => {
                parent.chain.iter().copied().chain([parent.number]).collect()
            }
            _ => Vec::new(),
        };
        let header = Header {
            dataset: self.dataset.id(),
            number,
            parent: self.parent_number(),
            lease,
            chain,
            host: self.options.host.clone().unwrap_or_else(sys::host_name),
            source: self.source.location(),
            started: self.options.time.unwrap_or(self.started),
            read_from: self.known_from(),
            ended: self.copy_of.map_or_else(|| self.context.clock.now(), |of| of.ended),
            counts: gathered.counts,
            snapshot: match (&gathered.saved, parent) {
                (None, Some(parent)) => parent.snapshot,
                _ => gathered.snapshot,
            },
            tags: self.options.tags.clone(),
            description: self.options.description.clone(),
            original: self.copy_of.map(|copy_of| copy_of.original),
            body: finished.body,
        };
        let kind = if finished.is_full { BackupKind::Full } else { BackupKind::Partial };
        let report = self.report(number, kind, &gathered.counts);
        let (repository, id) = (self.dataset.repository().clone(), self.dataset.id());
        let before = self.digest();
        let Some(transaction) = self.transaction.into_inner() else {
            return Err(Error::bug("a backup with changes has a transaction"));
        };
        let committed = transaction.commit(&header)?;
        Ok(match (committed, gathered.saved) {
            (Committed::Yes(digest), Some(saved)) => {
                saved.finish(repository.cache(), &id, &digest, self.started);
                Ended::Done(report)
            }
            (Committed::Yes(digest), None) => {
                // The entries are those of the parent, and so is what the cache has of them.
                saved::touch(repository.cache(), &id, &before, &digest, self.started);
                Ended::Done(report)
            }
            (Committed::Lost, saved) => {
                saved.into_iter().for_each(saved::SavedWriter::leave);
                Ended::Again
            }
        })
    }
}

struct Finished {
    body: crate::format::backup::Body,
    is_full: bool,
}

/// Says whether so many rows upon a parent are better written as a full index.
pub(super) fn wants_full(parent: &Snapshot, rows: u64, counts: &Counts) -> bool {
    let header = &parent.backup().header;
    header.chain.len() + 1 > CHAIN_MANIFESTS_MAX || header.counts.chain_rows + rows > counts.entries
}

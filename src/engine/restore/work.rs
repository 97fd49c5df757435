//! What all threads of a restore share: options, counters, failures, and when to stop.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::FAR_READ_BYTES;
use crate::base::limits::REMOTE_READERS_MAX;
use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::base::progress::Warning;
use crate::base::threads::at_once;
use crate::engine::Context;
use crate::engine::Failures;
use crate::engine::restore::Bounds;
use crate::engine::restore::RestoreOptions;
use crate::engine::restore::RestoreReport;
use crate::repository::Repository;
use crate::target::MetadataRules;
use crate::target::Target;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// One restore.
pub(super) struct Work<'a> {
    pub(super) repository: &'a Repository,
    pub(super) target: &'a dyn Target,
    pub(super) options: &'a RestoreOptions,
    pub(super) context: Context<'a>,
    pub(super) bounds: Bounds,
    /// Whether everything is decided and nothing written.
    pub(super) is_dry: bool,
    /// Whether each read from a pack costs a round trip, so that few large ones are better.
    pub(super) is_far: bool,
    failures: Failures<'a>,
    files: AtomicU64,
    bytes: AtomicU64,
    written_bytes: AtomicU64,
    deleted: AtomicU64,
    owner_hint_given: AtomicBool,
    hint_given: AtomicBool,
    /// Whether something of the repository was gone or damaged.
    lacks_some: AtomicBool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        target: &'a dyn Target,
        options: &'a RestoreOptions,
        context: Context<'a>,
        bounds: Bounds,
        is_dry: bool,
    ) -> Self {
        let is_far = repository.store().backend().capabilities().ahead() > 1;
        let least = if is_far { FAR_READ_BYTES } else { 0 };
        let read_bytes = bounds.read_bytes.max(least);
        let bounds = Bounds { read_bytes, ..bounds };
        Work {
            repository,
            target,
            options,
            context,
            bounds,
            is_dry,
            is_far,
            failures: Failures::new(context.progress),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            owner_hint_given: AtomicBool::new(false),
            hint_given: AtomicBool::new(false),
            lacks_some: AtomicBool::new(false),
        }
    }

    /// Returns how many threads are of use: whoever waits for another machine keeps no processor
    /// busy. To be asked when the target is prepared, as it may know then how far it is.
    pub(super) fn threads(&self) -> usize {
        let ahead = self.repository.store().backend().capabilities().ahead();
        let waiting = self.target.parallel().max(ahead.min(REMOTE_READERS_MAX));
        self.context.threads.max(waiting)
    }

    /// Says whether something of the repository was gone or damaged.
    pub(super) fn lacks_some(&self) -> bool {
        self.lacks_some.load(Ordering::Relaxed)
    }

    /// Returns what of the metadata is set.
    pub(super) fn rules(&self) -> MetadataRules {
        MetadataRules { owner: self.options.owner }
    }

    /// Reports that an entry could not be restored.
    ///
    /// # Errors
    /// The failure itself, when it concerns more than this entry.
    pub(super) fn fail(&self, path: &EntryPath, error: Error) -> Result<()> {
        if stops(&error) {
            return Err(error);
        }
        if is_missing(&error) {
            self.lacks_some.store(true, Ordering::Relaxed);
        }
        self.failures.warn(&Warning::failed(path, &error));
        if let Some(hint) = error.hint_text()
            && !self.hint_given.swap(true, Ordering::Relaxed)
        {
            self.failures.warn(&Warning::general(hint));
        }
        Ok(())
    }

    /// Reports what of an entry's metadata could not be set.
    pub(super) fn tell(&self, path: &EntryPath, sentences: Vec<String>) {
        for mut message in sentences {
            let is_owner = message.starts_with("owner ");
            if path.is_root() {
                // Its path is empty, and would tell nobody which folder is meant.
                message = format!("{}: {message}", self.target.location());
            }
            let path = Some(path.clone());
            self.failures.warn(&Warning { path, message, is_error: true });
            if is_owner && !self.owner_hint_given.swap(true, Ordering::Relaxed) {
                let hint = "only root may give files away: --no-owner restores without owners";
                self.failures.warn(&Warning::general(hint));
            }
        }
    }

    /// Counts an entry, no folder, that stands in the target as it should.
    pub(super) fn count_restored(&self, size: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.context.progress.count(Counter::Files, 1);
    }

    /// Takes back [`Self::count_restored`] of an entry that is not there as it should, after all.
    pub(super) fn count_lost(&self, size: u64) {
        self.files.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// Counts an entry that was kept as it is.
    pub(super) fn count_kept(&self, size: u64) {
        self.context.progress.count(Counter::Files, 1);
        self.count_done(size);
    }

    /// Counts content that needs no more work.
    pub(super) fn count_done(&self, bytes: u64) {
        if bytes > 0 {
            self.context.progress.count(Counter::Bytes, bytes);
        }
    }

    /// Counts content that was written.
    pub(super) fn count_written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a thing that was removed.
    pub(super) fn count_deleted(&self) {
        self.deleted.fetch_add(1, Ordering::Relaxed);
    }

    /// Does `total` things, each once, on all threads. Every thread has something of its own,
    /// made by `start`. The first error stops all of them.
    ///
    /// # Errors
    /// The first of `start` and `act`; `Cancelled`.
    pub(super) fn in_parallel<T>(
        &self,
        total: usize,
        start: &(dyn Fn() -> Result<T> + Sync),
        act: &(dyn Fn(&mut T, usize) -> Result<()> + Sync),
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let trouble: Mutex<Option<Error>> = Mutex::new(None);
        let one_thread = || -> Result<()> {
            let mut own = start()?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total || stopped.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.context.cancel.check()?;
                act(&mut own, number)?;
            }
        };
        let guarded = || {
            if let Err(e) = one_thread() {
                stopped.store(true, Ordering::Relaxed);
                trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        };
        match self.threads().max(1).min(total) {
            0 => {}
            1 => guarded(),
            threads => at_once(threads, guarded),
        }
        match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// Ends the restore.
    pub(super) fn into_report(self, seconds: f64) -> RestoreReport {
        RestoreReport {
            files: self.files.into_inner(),
            bytes: self.bytes.into_inner(),
            written_bytes: self.written_bytes.into_inner(),
            deleted: self.deleted.into_inner(),
            errors: self.failures.into_list(),
            seconds,
        }
    }
}

/// Says whether a failure concerns more than one entry: the others would fail the same way.
pub(crate) fn stops(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Full
        | ErrorKind::Cancelled
        | ErrorKind::Unreachable
        | ErrorKind::RateLimited
        | ErrorKind::Password
        | ErrorKind::NoRepository
        | ErrorKind::Bug => true,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported
        | ErrorKind::Busy
        | ErrorKind::Denied
        | ErrorKind::InvalidInput
        | ErrorKind::Io => false,
    }
}

/// Says whether something that should be in the repository is not there, or damaged.
pub(super) fn is_missing(error: &Error) -> bool {
    error.kind().is_unreadable() && error.origin() == Origin::Repository
}

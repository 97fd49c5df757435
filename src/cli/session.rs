//! One run of the program: its global flags, its output, and how it reaches a repository.

use crate::backend::Backend;
use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::time::Clock;
use crate::base::time::SystemClock;
use crate::base::time::Timestamp;
use crate::cli::args::GlobalArgs;
use crate::cli::output::Output;
use crate::cli::progress::Shown;
use crate::cli::signals;
use crate::cli::text;
use crate::config::connect::Settings;
use crate::config::connect::without_password;
use crate::config::effective::Config;
use crate::engine::Context;
use crate::engine::address;
use crate::engine::address::BackupAddress;
use crate::engine::address::Resolved;
use crate::repository::Repository;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::history::Snapshot;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::OnceLock;

/// What all commands share.
pub(crate) struct Session {
    pub(crate) global: GlobalArgs,
    pub(crate) config: Config,
    pub(crate) output: Output,
    pub(crate) cancel: Cancel,
    /// Whether there is no cache, as the one that nobody named cannot be used.
    lacks_cache: OnceLock<bool>,
}

/// A backup that was named and found.
pub(crate) struct Found {
    pub(crate) dataset: Dataset,
    pub(crate) backup: Arc<Backup>,
    pub(crate) numbers: Numbers,
}

impl Session {
    pub(crate) fn new(global: GlobalArgs, config: Config, output: Output) -> Self {
        Session { global, config, output, cancel: Cancel::new(), lacks_cache: OnceLock::new() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Returns what was said of the repository.
    pub(crate) fn settings(&self) -> Settings {
        self.without_unusable_cache(self.config.settings(&self.cancel))
    }

    /// Leaves the cache out where the one that nobody named cannot be used, and says so once: that
    /// costs time, and a restore is wanted on a machine with a full or lost home, too.
    pub(crate) fn without_unusable_cache(&self, settings: Settings) -> Settings {
        let lacks_cache = *self.lacks_cache.get_or_init(|| {
            let unusable = settings.unusable_cache();
            if let Some(e) = &unusable {
                let why = e.full_message();
                self.output.note(&format!("nothing is kept in a cache, which costs time: {why}"));
            }
            unusable.is_some()
        });
        Settings { no_cache: settings.no_cache || lacks_cache, ..settings }
    }

    /// Opens the repository. From here on Ctrl-C asks first; until here, while a person may be
    /// typing a password, it ends the program.
    pub(crate) fn open(&self) -> Result<Repository> {
        let opened = self.settings().open();
        let repository = opened.map_err(|e| self.tell_how_to_make(e))?;
        signals::install(&self.cancel)?;
        Ok(repository)
    }

    /// Opens what holds the repository, for work that needs no password.
    pub(crate) fn open_backend(&self) -> Result<Arc<dyn Backend>> {
        let opened = self.settings().open_backend();
        let backend = opened.map_err(|e| self.tell_how_to_make(e))?;
        signals::install(&self.cancel)?;
        Ok(backend)
    }

    /// Says how a repository is made where none was found.
    pub(crate) fn tell_how_to_make(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NoRepository || error.hint_text().is_some() {
            return error;
        }
        let init = self.init_command();
        error.hint(format!("`{init}` makes one there; `-r LOCATION` names another"))
    }

    /// Returns what makes a repository where this run looks for one, as it is typed.
    pub(crate) fn init_command(&self) -> String {
        let place = match (&self.global.repository, &self.global.profile) {
            (Some(location), _) => {
                let location = location.to_string_lossy();
                format!("-r {} ", text::shell_word(&without_password(&location)))
            }
            (None, Some(profile)) => format!("--profile {} ", text::shell_word(profile)),
            (None, None) => String::new(),
        };
        format!("icecore {place}init")
    }

    /// Reads an address of a backup.
    pub(crate) fn address(&self, text: &OsStr) -> Result<BackupAddress> {
        BackupAddress::parse(text.as_bytes(), self.now())
    }

    /// Finds the backup that an address names.
    pub(crate) fn find(&self, repository: &Repository, at: &BackupAddress) -> Result<Found> {
        let dataset = repository.dataset(&at.dataset)?;
        let Resolved { backup, numbers, note } = address::resolve(&dataset, &at.version)?;
        if let Some(note) = note {
            self.output.note(&note);
        }
        Ok(Found { dataset, backup, numbers })
    }

    /// Finds two backups of one dataset, and lists its numbers once.
    pub(crate) fn find_two(
        &self,
        repository: &Repository,
        a: &BackupAddress,
        b: &BackupAddress,
    ) -> Result<(Found, Found)> {
        let dataset = repository.dataset(&a.dataset)?;
        let numbers = address::list_for(&dataset, &[&a.version, &b.version])?;
        let find = |at: &BackupAddress| {
            let (backup, note) = address::resolve_among(&dataset, &numbers, &at.version)?;
            if let Some(note) = note {
                self.output.note(&note);
            }
            Ok(Found { dataset: dataset.clone(), backup, numbers: numbers.clone() })
        };
        Ok((find(a)?, find(b)?))
    }

    /// Runs work of the engine under a progress that is shown.
    pub(crate) fn work<T>(&self, work: impl FnOnce(&Context<'_>) -> Result<T>) -> Result<T> {
        let progress = Shown::new(&self.global);
        let context = Context {
            progress: &progress,
            cancel: &self.cancel,
            clock: &SystemClock,
            threads: self.threads(),
        };
        let done = progress.beside(|| work(&context));
        progress.clear();
        done
    }

    /// Runs work of the engine that writes to standard output. Work that prints lines starts no
    /// phase of progress, which would stand between them.
    pub(crate) fn work_with_output<T>(
        &mut self,
        work: impl FnOnce(&Context<'_>, &mut Output) -> Result<T>,
    ) -> Result<T> {
        let progress = Shown::new(&self.global);
        let threads = self.threads();
        let context =
            Context { progress: &progress, cancel: &self.cancel, clock: &SystemClock, threads };
        let output = &mut self.output;
        let done = progress.beside(|| work(&context, output));
        progress.clear();
        done
    }

    fn threads(&self) -> usize {
        let threads = self.global.threads.or_else(|| std::thread::available_parallelism().ok());
        threads.map_or(1, NonZeroUsize::get)
    }
}

impl Found {
    /// Returns the backup's state of the dataset.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.dataset.snapshot(&self.numbers, Arc::clone(&self.backup))
    }

    /// Returns its address for people: `photos@4`.
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.dataset.name(), self.backup.header.number.0)
    }
}

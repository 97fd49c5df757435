//! Who takes part in a run: each drives the real code over its own open repository.

use crate::concurrency::world::World;
use crate::concurrency::world::content_of;
use crate::concurrency::world::dataset;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::format::dataset::HiddenRecord;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

/// What an actor does.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Makes a backup of the source of this label.
    Backup(&'static str),
    /// Forgets a number.
    Forget(u64),
    /// Restores the newest backup.
    Restore,
    /// Prunes, and leaves this share unused.
    Prune(f64),
}

/// One who takes part.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    /// What stands for it in a trace.
    pub(super) letter: char,
    pub(super) deed: Deed,
    /// Whether everybody takes it for dead all the time, wrongly.
    pub(super) looks_dead: bool,
    /// Whether it has the caches of whoever made the backups that are there.
    pub(super) is_warm: bool,
    /// Whether every atomic create that succeeds seems to have found the key taken.
    pub(super) loses_reply: bool,
}

/// How an actor ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// It has said that backup `n` of the source of this label exists.
    Stored(u64, &'static str),
    /// It has said that the newest backup is what its source holds.
    Unchanged,
    /// It did what else it had to do.
    Done,
    /// It made way for another one.
    MadeWay,
    /// What was to be read was forgotten just now.
    Gone,
    /// The one of this letter failed.
    Failed(char, String),
}

impl Actor {
    pub(super) fn new(letter: char, deed: Deed) -> Self {
        Actor { letter, deed, looks_dead: false, is_warm: false, loses_reply: false }
    }

    pub(super) fn looking_dead(mut self) -> Self {
        self.looks_dead = true;
        self
    }

    pub(super) fn warm(mut self) -> Self {
        self.is_warm = true;
        self
    }

    pub(super) fn losing_replies(mut self) -> Self {
        self.loses_reply = true;
        self
    }

    pub(super) fn act(&self, repository: &Repository, world: &World) -> Ended {
        let cancel = Cancel::new();
        let clock = FixedClock::new(Timestamp::new(1_900_000_000, 0));
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
        let ended = match &self.deed {
            Deed::Backup(label) => store(repository, world, label, &context),
            Deed::Forget(number) => forget(repository, world, *number),
            Deed::Prune(max_unused) => free(repository, *max_unused, &context),
            Deed::Restore => restore_newest(repository, world, &context),
        };
        match ended {
            Ok(ended) => ended,
            Err(e) if e.kind() == ErrorKind::Busy => Ended::MadeWay,
            Err(e) => Ended::Failed(self.letter, told(&e)),
        }
    }
}

/// Returns an error with all its causes.
pub(super) fn told(error: &Error) -> String {
    let mut text = format!("{:?}: {error}", error.kind());
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// Makes a backup that tells by its description what it is of.
pub(super) fn store(
    repository: &Repository,
    world: &World,
    label: &'static str,
    context: &Context<'_>,
) -> Result<Ended> {
    let source = world.source(label);
    let options = BackupOptions {
        description: label.to_owned(),
        dataset_was_named: true,
        ..BackupOptions::default()
    };
    let report = backup::run(repository, &dataset(label), &*source, &options, context)?;
    let number = report.backup.0;
    if !report.errors.is_empty() {
        return Err(Error::bug(format!("could not read the source: {:?}", report.errors)));
    }
    Ok(match report.kind {
        BackupKind::Unchanged => Ended::Unchanged,
        BackupKind::Full | BackupKind::Partial => Ended::Stored(number, label),
    })
}

/// Forgets a backup if it is there.
fn forget(repository: &Repository, world: &World, number: u64) -> Result<Ended> {
    let numbers = repository.dataset(&dataset(""))?.newest_numbers()?;
    if !numbers.is_taken(BackupId(number)) {
        return Ok(Ended::Gone);
    }
    hide(repository, world, number).map(|()| Ended::Done)
}

/// Puts the marker that forgets a number.
pub(super) fn hide(repository: &Repository, world: &World, number: u64) -> Result<()> {
    let folder = layout::thousand(&world.data, BackupId(number))?;
    let key = folder.object(&format!("{number}.hidden"))?;
    let record = HiddenRecord { number, written: Timestamp::new(1_900_000_000, 0) };
    repository.store().put(ObjectKind::Hidden, &key, &record)
}

/// Prunes. That much may go is meant: the repository is tiny.
pub(super) fn free(
    repository: &Repository,
    max_unused: f64,
    context: &Context<'_>,
) -> Result<Ended> {
    let options = PruneOptions { max_unused, force: true, ..PruneOptions::default() };
    let report = prune::run(repository, &options, context)?;
    if !report.stuck.is_empty() {
        return Err(Error::bug(format!("cannot be copied: {:?}", report.stuck)));
    }
    Ok(if report.waits_for.is_empty() { Ended::Done } else { Ended::MadeWay })
}

fn restore_newest(repository: &Repository, world: &World, context: &Context<'_>) -> Result<Ended> {
    let dataset = repository.dataset(&dataset(""))?;
    let numbers = dataset.all_numbers()?;
    let Some(newest) = dataset.newest(&numbers)? else { return Ok(Ended::Gone) };
    let label = newest.description.clone();
    let snapshot = dataset.snapshot(&numbers, Arc::new(newest))?;
    let target = MemoryTarget::new();
    let report = match restore::run(&snapshot, &target, &RestoreOptions::default(), context) {
        Ok(report) => report,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Ended::Gone),
        Err(e) => return Err(e),
    };
    if !report.errors.is_empty() {
        return Err(Error::bug(format!("could not restore {label}: {:?}", report.errors)));
    }
    let is_right = content_of(&target) == world.content(&label);
    if is_right { Ok(Ended::Done) } else { Err(Error::bug(format!("{label} came back wrong"))) }
}

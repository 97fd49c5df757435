//! Who takes part in a run: each drives the real code over its own open repository.

use crate::concurrency::backend::Ways;
use crate::concurrency::deeds;
use crate::concurrency::time::Machine;
use crate::concurrency::world::World;
use crate::concurrency::world::content_of;
use crate::concurrency::world::dataset;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::parity;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::repository::Repository;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;
use std::time::Duration;

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
    /// Prunes, looks again when it had to stop for somebody, and leaves nothing unused.
    PruneTwice,
    /// Checks all there is.
    Check,
    /// Repairs whatever a look at all packs shows.
    Repair,
    /// Adds parity to all packs.
    AddParity,
    /// Takes all parity away.
    RemoveParity,
    /// Copies the dataset into another repository, which nobody else knows.
    CopyOut,
    /// Copies what another repository holds into the dataset.
    CopyIn,
    /// Adds a password, when one is said, and removes the slot of this number.
    ChangeKeys(Option<&'static str>, usize),
    /// Lets so many days pass, each at any moment.
    Sleep(u32),
    /// Brings what comes late.
    Network,
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
    /// How the store takes what it writes.
    pub(super) ways: Ways,
    /// Which machine it is on, if not this one.
    pub(super) machine: Option<Machine>,
}

/// How an actor ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// It has said that these backups exist: number and label of the source of each.
    Stored(Vec<(u64, &'static str)>),
    /// It has said that the newest backup is what the source of this label holds.
    Unchanged(&'static str),
    /// It has said that this number is forgotten.
    Forgot(u64),
    /// It has pruned, and so many bytes went.
    Pruned(u64),
    /// It did what else it had to do.
    Done,
    /// It made way for another one.
    MadeWay,
    /// What was to be read was forgotten just now.
    Gone,
    /// The one of this letter failed.
    Failed(char, String),
    /// The one of this letter has seen what must not be.
    Wrong(char, String),
}

impl Ended {
    /// Says whether it did what it was there for.
    pub(super) fn is_success(&self) -> bool {
        match self {
            Ended::Stored(backups) => !backups.is_empty(),
            Ended::Forgot(_) | Ended::Pruned(_) | Ended::Done => true,
            Ended::Unchanged(_) | Ended::MadeWay | Ended::Gone => false,
            Ended::Failed(..) | Ended::Wrong(..) => false,
        }
    }
}

impl Actor {
    pub(super) fn new(letter: char, deed: Deed) -> Self {
        let ways = Ways::Plain;
        Actor { letter, deed, looks_dead: false, is_warm: false, ways, machine: None }
    }

    pub(super) fn looking_dead(self) -> Self {
        Actor { looks_dead: true, ..self }
    }

    pub(super) fn warm(self) -> Self {
        Actor { is_warm: true, ..self }
    }

    pub(super) fn by(self, ways: Ways) -> Self {
        Actor { ways, ..self }
    }

    /// Puts it on a machine whose clock is so many hours before that of the store.
    pub(super) fn on(self, name: &'static str, hours: i64) -> Self {
        let machine = Some(Machine { name, ahead: hours * 3600, is_backward: false });
        Actor { machine, ..self }
    }

    /// Puts it on a machine whose clock runs backwards.
    pub(super) fn on_backward(self, name: &'static str) -> Self {
        Actor { machine: Some(Machine { name, ahead: 0, is_backward: true }), ..self }
    }

    pub(super) fn act(&self, repository: &Repository, world: &World, clock: &dyn Clock) -> Ended {
        let cancel = Cancel::new();
        let context = Context { progress: &Silent, cancel: &cancel, clock, threads: 1 };
        let ended = match &self.deed {
            Deed::Backup(label) => store(repository, world, label, &context),
            Deed::Forget(number) => forget(repository, world, *number, &context),
            Deed::Prune(max_unused) => free(repository, *max_unused, &context),
            Deed::PruneTwice => deeds::prune_twice(repository, &context),
            Deed::Restore => restore_newest(repository, world, self.looks_dead, &context),
            Deed::Check => deeds::check_all(repository, &context),
            Deed::Repair => deeds::repair_all(repository, &context),
            Deed::AddParity => deeds::add_parity(repository, &context),
            Deed::RemoveParity => parity::remove(repository, false, &context).map(|_| Ended::Done),
            Deed::CopyOut => deeds::copy_out(repository, world, &context),
            Deed::CopyIn => deeds::copy_in(repository, world, &context),
            Deed::ChangeKeys(add, slot) => deeds::change_keys(repository, world, *add, *slot),
            Deed::Sleep(_) | Deed::Network => Ok(Ended::Done),
        };
        match ended {
            Ok(ended) => ended,
            Err(e) if e.kind() == ErrorKind::Busy => Ended::MadeWay,
            Err(e) if e.kind() == ErrorKind::Bug => Ended::Wrong(self.letter, told(&e)),
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
        BackupKind::Unchanged => Ended::Unchanged(label),
        BackupKind::Full | BackupKind::Partial => Ended::Stored(vec![(number, label)]),
    })
}

/// Forgets a backup if it is there.
pub(super) fn forget(
    repository: &Repository,
    world: &World,
    number: u64,
    context: &Context<'_>,
) -> Result<Ended> {
    let set = repository.dataset(&dataset(""))?;
    let is_there = |n: u64| Ok::<_, Error>(set.backup(&set.all_numbers()?, BackupId(n))?.is_some());
    // One that somebody makes meanwhile may appear right behind the answer that there is none.
    let is_gone = |n: u64| Ok::<_, Error>(!world.numbers.contains(&n) || !is_there(n)?);
    let selection = Selection::Numbers([BackupId(number)].into());
    let planned = forget::plan(&set, &selection, &|_| 0, context);
    let plan = match planned {
        Ok(plan) => plan,
        Err(e) if e.kind() == ErrorKind::NotFound && is_gone(number)? => return Ok(Ended::Gone),
        // The last one is refused: somebody has forgotten all others.
        Err(e) if e.kind() == ErrorKind::InvalidInput => {
            for &other in world.numbers.iter().filter(|other| **other != number) {
                if is_there(other)? {
                    return Err(e);
                }
            }
            return Ok(Ended::MadeWay);
        }
        Err(e) => return Err(e),
    };
    forget::execute(&plan, context)?;
    Ok(Ended::Forgot(number))
}

/// Prunes. That much may go is meant: the repository is tiny.
pub(super) fn free(
    repository: &Repository,
    max_unused: f64,
    context: &Context<'_>,
) -> Result<Ended> {
    let options = PruneOptions {
        max_unused,
        force: true,
        disk_wait: Duration::ZERO,
        ..PruneOptions::default()
    };
    let report = prune::run(repository, &options, context)?;
    if !report.stuck.is_empty() {
        return Err(Error::bug(format!("cannot be copied: {:?}", report.stuck)));
    }
    let is_done = report.waits_for.is_empty();
    Ok(if is_done { Ended::Pruned(report.bytes_deleted) } else { Ended::MadeWay })
}

/// Restores. Whose lease counts for nothing may find that what it reads goes, and is told so.
fn restore_newest(
    repository: &Repository,
    world: &World,
    looks_dead: bool,
    context: &Context<'_>,
) -> Result<Ended> {
    let dataset = repository.dataset(&dataset(""))?;
    let numbers = dataset.all_numbers()?;
    let Some(newest) = dataset.newest(&numbers)? else { return Ok(Ended::Gone) };
    let (label, number) = (newest.description.clone(), newest.header.number);
    let target = MemoryTarget::new();
    let restored = dataset
        .snapshot(&numbers, Arc::new(newest))
        .and_then(|snapshot| restore::run(&snapshot, &target, &RestoreOptions::default(), context));
    let may_lack = || looks_dead && repository.was_forgotten(&dataset, number);
    let report = match restored {
        Ok(report) => report,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let is_there = dataset.backup(&dataset.all_numbers()?, number)?.is_some();
            return if is_there { Err(e) } else { Ok(Ended::Gone) };
        }
        Err(e) if e.kind() == ErrorKind::Corrupt && may_lack() => return Ok(Ended::Gone),
        Err(e) => return Err(e),
    };
    if !report.errors.is_empty() {
        let what = format!("could not restore {label}: {:?}", report.errors);
        return if may_lack() { Ok(Ended::Gone) } else { Err(Error::corrupt(what)) };
    }
    let is_right = content_of(&target) == world.content(&label);
    if is_right { Ok(Ended::Done) } else { Err(Error::bug(format!("{label} came back wrong"))) }
}

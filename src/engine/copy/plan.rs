//! Which backups of a dataset are copied, and in which order.
//!
//! A backup is known by where it was made: repository, dataset, number and lease, which a copy
//! keeps. In a dataset the highest number is the newest, so nothing is put on top of what is
//! younger: of one line the numbers tell, of two the times.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::Timestamp;
use crate::engine::copy::CopiedBackup;
use crate::engine::copy::CopyFailure;
use crate::engine::copy::Wanted;
use crate::format::backup::Counts;
use crate::format::backup::Header;
use crate::format::backup::Original;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use std::collections::HashMap;

/// A backup that is going to be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    /// Its number in the repository that is read.
    pub(super) number: BackupId,
    /// Which one it is.
    pub(super) origin: Original,
    counts: Counts,
}

/// Both sides of a dataset as they were listed.
pub(super) struct Line {
    /// The numbers of the source.
    pub(super) numbers: Numbers,
    /// Every backup of the source that can be read.
    pub(super) known: HashMap<Original, BackupId>,
    /// What is copied, the oldest first.
    pub(super) chosen: Vec<Chosen>,
    /// The number that the target gives out next.
    pub(super) next: BackupId,
    /// Which one the target's newest is.
    pub(super) newest: Option<Original>,
    pub(super) present: u64,
    pub(super) forgotten: u64,
    pub(super) older: u64,
    pub(super) failures: Vec<CopyFailure>,
}

/// What counts of a header here.
#[derive(Clone, Debug)]
struct Seen {
    number: BackupId,
    origin: Original,
    started: Timestamp,
    counts: Counts,
    host: String,
    source: String,
}

/// What the target holds of the dataset.
struct There {
    /// Each backup that is known there, and whether it is shown.
    known: HashMap<Original, bool>,
    newest: Option<Seen>,
    next: BackupId,
}

impl There {
    fn beginning(next: BackupId) -> Self {
        There { known: HashMap::new(), newest: None, next }
    }
}

impl Seen {
    fn of(repository: &Repository, header: &Header) -> Self {
        Seen {
            number: header.number,
            origin: header.origin(repository.id()),
            started: header.started,
            counts: header.counts,
            host: header.host.clone(),
            source: header.source.clone(),
        }
    }

    /// Says whether it may be put on top of another.
    fn may_follow(&self, other: &Seen) -> bool {
        if self.origin.is_beside(&other.origin) {
            return self.origin.number > other.origin.number;
        }
        self.started > other.started
    }
}

impl Line {
    /// Returns what would be copied, with the numbers it would get.
    pub(super) fn planned(&self) -> Vec<CopiedBackup> {
        let numbers = (self.next.0..).map(BackupId);
        let planned = self.chosen.iter().zip(numbers).map(|(chosen, to)| CopiedBackup {
            from: chosen.number,
            to,
            counts: chosen.counts,
        });
        planned.collect()
    }
}

/// Looks at both sides of a dataset.
///
/// # Errors
/// `InvalidInput` when a backup that was named cannot be put on top of what is there, or when the
/// target's dataset holds something else; those of both repositories.
pub(super) fn look(wanted: &Wanted, target: &Repository) -> Result<Line> {
    let dataset = &wanted.dataset;
    let numbers = dataset.shown_numbers().map_err(|e| e.at(Origin::Source))?;
    let mut failures = Vec::new();
    let here = read_source(dataset, &numbers, &mut failures)?;
    // Of those that were named each is found or is an error.
    if wanted.numbers.is_none() {
        let told =
            |what: &String| format!("{what} of {} is missing from the listing", dataset.name());
        let failed = |what| CopyFailure { backup: None, message: told(what) };
        failures.extend(numbers.missing().iter().map(failed));
    }
    let there = match target.dataset(dataset.name()) {
        Ok(dataset) => read_target(&dataset)?,
        Err(e) if e.kind() == ErrorKind::NotFound => There::beginning(BackupId(0)),
        Err(e) => return Err(e),
    };
    let mut line = Line {
        numbers,
        known: here.iter().map(|seen| (seen.origin, seen.number)).collect(),
        chosen: Vec::new(),
        next: there.next,
        newest: there.newest.as_ref().map(|newest| newest.origin),
        present: 0,
        forgotten: 0,
        older: 0,
        failures,
    };
    let is_named =
        |number: &BackupId| wanted.numbers.as_ref().is_none_or(|numbers| numbers.contains(number));
    let mut newest = there.newest.clone();
    for seen in here.into_iter().filter(|seen| is_named(&seen.number)) {
        match there.known.get(&seen.origin) {
            Some(true) => line.present += 1,
            Some(false) if wanted.numbers.is_none() => line.forgotten += 1,
            _ if newest.as_ref().is_none_or(|newest| seen.may_follow(newest)) => {
                if line.chosen.is_empty() {
                    refuse_mixture(dataset, &seen, newest.as_ref())?;
                }
                let Seen { number, origin, counts, .. } = seen;
                line.chosen.push(Chosen { number, origin, counts });
                newest = Some(seen);
            }
            _ if wanted.numbers.is_some() => return Err(too_old(dataset, &seen, newest.as_ref())),
            _ => line.older += 1,
        }
    }
    let is_asked = |failure: &CopyFailure| failure.backup.as_ref().is_none_or(is_named);
    line.failures.retain(is_asked);
    Ok(line)
}

fn read_source(
    dataset: &Dataset,
    numbers: &Numbers,
    failures: &mut Vec<CopyFailure>,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for number in numbers.iter() {
        match dataset.backup(numbers, number) {
            Ok(Some(backup)) => seen.push(Seen::of(dataset.repository(), &backup.header)),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                failures.push(CopyFailure { backup: Some(number), message: e.full_message() });
            }
            Err(e) => return Err(e.at(Origin::Source)),
        }
    }
    Ok(seen)
}

fn read_target(dataset: &Dataset) -> Result<There> {
    let numbers = dataset.all_numbers()?;
    let mut there = There::beginning(numbers.next());
    for number in numbers.iter() {
        let header = match dataset.even_hidden(&numbers, number) {
            Ok(Some(backup)) => backup.header,
            Ok(None) => continue,
            // It has taken its number, and is nobody's parent: what it was is copied again.
            Err(e) if e.kind() == ErrorKind::Corrupt => continue,
            Err(e) => return Err(e),
        };
        let seen = Seen::of(dataset.repository(), &header);
        let is_shown = !numbers.is_hidden(number);
        *there.known.entry(seen.origin).or_default() |= is_shown;
        if is_shown {
            there.newest = Some(seen);
        }
    }
    Ok(there)
}

/// Two things that are backed up under one name would be mixed up.
fn refuse_mixture(dataset: &Dataset, seen: &Seen, newest: Option<&Seen>) -> Result<()> {
    let Some(newest) = newest else { return Ok(()) };
    let is_same = (&newest.host, &newest.source) == (&seen.host, &seen.source);
    if is_same || newest.origin.is_beside(&seen.origin) {
        return Ok(());
    }
    let message = format!(
        "dataset {} holds backups of {} on {} there, not of {} on {}",
        dataset.name(),
        newest.source,
        newest.host,
        seen.source,
        seen.host
    );
    Err(Error::invalid(message).hint("`icecore rename` gives one of the two another name"))
}

fn too_old(dataset: &Dataset, seen: &Seen, newest: Option<&Seen>) -> Error {
    let newest = newest.map_or(0, |newest| newest.number.0);
    let message = format!(
        "{}@{} is older than the newest backup of {} there ({newest}), and would become `latest`",
        dataset.name(),
        seen.number.0,
        dataset.name()
    );
    Error::invalid(message).hint("backups are copied from the oldest to the newest, none between")
}

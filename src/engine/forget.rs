//! Lets backups go, by rule or by number: a plan, then a marker for each.
//!
//! A marker is all there is to it. No header is written again and nothing is waited for: the
//! backup vanishes from lists, from `latest`, from retention and from the parents of later
//! backups, while what others are built on stays until a prune finds that nothing needs it.
//! Markers only add up, so any number of forgets may run at once, and one that was interrupted
//! is simply run again.
//!
//! A plan is whole or nothing: an error while planning forgets nothing. It never lets go of all
//! visible backups of a dataset, nor of all that can be read. One whose header cannot be read goes
//! when it is named, and no rule works beside it.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::engine::Context;
use crate::engine::retention;
use crate::engine::retention::Candidate;
use crate::engine::retention::Rules;
use crate::engine::retention::Verdict;
use crate::engine::retention::Zone;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::shown::Readable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is to be let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// What no rule keeps.
    Unless(Rules),
    /// The backups of these numbers.
    Numbers(BTreeSet<BackupId>),
}

/// What will be forgotten of a dataset, and why the rest is kept.
#[derive(Clone)]
pub struct Plan {
    dataset: Dataset,
    verdicts: Vec<Verdict>,
}

impl Plan {
    /// Returns the dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Returns what becomes of every visible backup, by number.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Goes through the backups that are let go, oldest first.
    pub fn forgotten(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.is_kept())
    }

    /// Goes through the backups that are kept, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.is_kept())
    }
}

/// Decides what a dataset lets go, and changes nothing. A dataset without backups has an empty
/// plan.
///
/// # Errors
/// `InvalidInput` when nothing would be left, or nothing says what to keep; `NotFound` for
/// numbers that are not visible; those of the repository.
pub fn plan(
    dataset: &Dataset,
    selection: &Selection,
    zone: Zone<'_>,
    context: &Context<'_>,
) -> Result<Plan> {
    let numbers = dataset.all_numbers()?;
    context.cancel.check()?;
    let visible = dataset.each_backup(&numbers)?;
    let verdicts = match selection {
        Selection::Numbers(wanted) => by_number(dataset, &numbers, &visible, wanted)?,
        Selection::Unless(rules) => {
            // A rule that does not know all of them may count wrong.
            let backups: Vec<Arc<Backup>> =
                visible.into_iter().map(|(_, backup)| backup).collect::<Result<_>>()?;
            let candidates: Vec<Candidate<'_>> = backups
                .iter()
                .map(|backup| Candidate {
                    number: backup.header.number,
                    time: backup.header.started,
                    tags: &backup.tags,
                })
                .collect();
            retention::judge(&candidates, rules, zone, context.clock.now())
                .map_err(|e| e.context(format!("cannot forget backups of {}", dataset.name())))?
        }
    };
    Ok(Plan { dataset: dataset.clone(), verdicts })
}

fn by_number(
    dataset: &Dataset,
    numbers: &Numbers,
    backups: &[(BackupId, Readable)],
    wanted: &BTreeSet<BackupId>,
) -> Result<Vec<Verdict>> {
    let visible: BTreeSet<BackupId> = backups.iter().map(|(n, _)| *n).collect();
    let missing: Vec<String> =
        wanted.difference(&visible).map(|&n| why_missing(numbers, n)).collect();
    let (name, what) = (dataset.name(), missing.join(", "));
    if !missing.is_empty() {
        let message = format!("cannot forget backups of {name}: {what}");
        let hint = format!("nothing was forgotten; `icecore list {name}` shows its backups");
        return Err(Error::new(ErrorKind::NotFound, message).hint(hint));
    }
    let mut readable = backups.iter().filter(|(_, it)| it.is_ok()).peekable();
    let is_last = readable.peek().is_some() && readable.all(|(n, _)| wanted.contains(n));
    if is_last && !visible.is_subset(wanted) {
        let message = format!("cannot forget all backups of {name} that can be read");
        return Err(Error::invalid(message).hint("nothing was forgotten; leave one of them out"));
    }
    if visible.is_subset(wanted) && !visible.is_empty() {
        let message = match visible.len() {
            1 => format!("cannot forget the only backup of {name}"),
            all => format!("cannot forget all {all} backups of {name}"),
        };
        return Err(Error::invalid(message)
            .hint("nothing was forgotten; a dataset keeps at least one backup, so leave one out"));
    }
    let verdict = |(number, backup): &(BackupId, Readable)| {
        let is_named = wanted.contains(number);
        let reasons = if is_named { Vec::new() } else { vec!["not named".to_owned()] };
        let time = backup.as_ref().ok().map(|backup| backup.header.started);
        Verdict { number: *number, time, reasons }
    };
    Ok(backups.iter().map(verdict).collect())
}

fn why_missing(numbers: &Numbers, n: BackupId) -> String {
    if numbers.is_hidden(n) {
        return format!("{n} was forgotten before");
    }
    if numbers.is_taken(n) {
        return format!("{n} is no backup, only its number is taken");
    }
    format!("there is no {n}")
}

/// Puts the markers of a plan. Those put before an error stay, and doing it again is harmless.
/// On a full disk the space that is set aside for a prune serves: without a marker there is nothing
/// that a prune could free.
///
/// # Errors
/// Those of the backend; `Cancelled`.
pub fn execute(plan: &Plan, context: &Context<'_>) -> Result<()> {
    for verdict in plan.forgotten() {
        context.cancel.check()?;
        let hide = || plan.dataset.hide(verdict.number, context.clock.now());
        let hidden = match hide() {
            Err(e) if e.kind() == ErrorKind::Full => {
                let backend = plan.dataset.repository().store().backend();
                if backend.release_reserve()? { hide() } else { Err(e) }
            }
            hidden => hidden,
        };
        let name = plan.dataset.name();
        hidden.map_err(|e| e.context(format!("cannot forget {} of {name}", verdict.number)))?;
    }
    // A marker that was there before may be of a run that died before it was durable.
    plan.dataset.repository().store().settle()
}

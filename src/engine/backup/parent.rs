//! The backup that a new one goes out from, and what happens when it cannot be read: everything
//! is taken from the source then, and a full backup is made.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::limits::COMMIT_TRIES_MAX;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::history::Snapshot;
use crate::repository::lost::LostPlaces;
use crate::repository::transaction::LeanOn;
use std::sync::Arc;

/// Returns the newest backup, if it can be gone out from, and what was listed. A prune may take it
/// away while it is looked at, once it was forgotten: then another one is the newest.
pub(super) fn readable_parent(
    dataset: &Dataset,
    lost: &LostPlaces,
    context: &Context<'_>,
) -> Result<(Option<Snapshot>, LeanOn, Numbers)> {
    let mut tries = COMMIT_TRIES_MAX;
    loop {
        tries -= 1;
        let numbers = dataset.newest_numbers()?;
        let parent = dataset.newest_readable(&numbers, &mut |number, e| {
            warn_passed_by(dataset, number, e, context);
        })?;
        let Some(parent) = parent else {
            return Ok((None, LeanOn::Parent, numbers));
        };
        let number = parent.header.number;
        let why = match dataset.snapshot(&numbers, Arc::new(parent)) {
            Ok(parent) if !parent.is_touched_by(lost) => {
                return Ok((Some(parent), LeanOn::Parent, numbers));
            }
            Ok(_) => "some of its entries are lost".to_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound && tries > 0 => continue,
            Err(e) if is_unreadable(&e) => e.full_message(),
            Err(e) => return Err(e),
        };
        warn_unreadable(dataset, number, &why, context);
        return Ok((None, LeanOn::Nothing, numbers));
    }
}

/// Tells that everything is read from the source.
pub(super) fn warn_unreadable(
    dataset: &Dataset,
    number: BackupId,
    why: &str,
    context: &Context<'_>,
) {
    let message = format!(
        "{number} of {} cannot be gone out from: {why}; everything is read from the source, and a \
         full backup is made",
        dataset.name()
    );
    context.progress.warn(&Warning::general(message));
}

/// Tells of a backup that nobody can read any more, as each run goes out from the one before it.
fn warn_passed_by(dataset: &Dataset, number: BackupId, e: &Error, context: &Context<'_>) {
    let message = format!(
        "{number} of {} cannot be read: {}; `icecore check` tells what is damaged",
        dataset.name(),
        e.full_message()
    );
    context.progress.warn(&Warning::general(message));
}

/// Says whether an error of the repository means that something is damaged or gone.
pub(super) fn is_unreadable(error: &Error) -> bool {
    error.kind().is_unreadable()
}

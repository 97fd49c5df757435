//! The backup that a new one goes out from, and what happens when it cannot be read: everything
//! is taken from the source then, and a full backup is made.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::progress::Warning;
use crate::engine::Context;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::history::Snapshot;
use crate::repository::lost::LostPlaces;
use crate::repository::transaction::LeanOn;

/// Returns the newest backup, if it can be gone out from.
pub(super) fn readable_parent(
    dataset: &Dataset,
    numbers: &Numbers,
    lost: &LostPlaces,
    context: &Context<'_>,
) -> Result<(Option<Snapshot>, LeanOn)> {
    let Some(parent) = dataset.newest_readable(numbers)? else { return Ok((None, LeanOn::Parent)) };
    let number = parent.header.number;
    match dataset.snapshot(numbers, std::sync::Arc::new(parent)) {
        Ok(parent) if !parent.is_touched_by(lost) => Ok((Some(parent), LeanOn::Parent)),
        Ok(_) => {
            warn_unreadable(dataset, number, "some of its entries are lost", context);
            Ok((None, LeanOn::Nothing))
        }
        Err(e) if is_unreadable(&e) => {
            warn_unreadable(dataset, number, &e.full_message(), context);
            Ok((None, LeanOn::Nothing))
        }
        Err(e) => Err(e),
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

/// Says whether an error of the repository means that something is damaged or gone.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

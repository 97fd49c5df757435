//! A reader's lease: what it reads stays while it is read.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::Timestamp;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::lease::Lease;

impl Repository {
    /// Takes a reader's lease on a backup, best effort: without the right to write, or on a full
    /// disk, reading goes on without. Returns None then.
    ///
    /// # Errors
    /// `NotFound` when the backup was forgotten meanwhile; those of the backend that the look at it
    /// has. No lease is left then.
    pub fn read_lease(
        &self,
        dataset: &Dataset,
        number: BackupId,
        purpose: &str,
        now: Timestamp,
    ) -> Result<Option<Lease>> {
        let taken = Lease::take(self.store(), dataset.id(), None, Some(number), purpose, now);
        let Ok(lease) = taken else { return Ok(None) };
        let why = match is_shown(dataset, number) {
            Ok(true) => return Ok(Some(lease)),
            Ok(false) => {
                let message = format!("{number} of {} was forgotten just now", dataset.name());
                Error::new(ErrorKind::NotFound, message)
            }
            Err(e) => e,
        };
        lease.give_back();
        Err(why)
    }

    /// Says whether a backup that was read is known to be forgotten by now.
    pub fn was_forgotten(&self, dataset: &Dataset, number: BackupId) -> bool {
        is_shown(dataset, number).is_ok_and(|is_shown| !is_shown)
    }
}

fn is_shown(dataset: &Dataset, number: BackupId) -> Result<bool> {
    Ok(dataset.backup(&dataset.shown_numbers()?, number)?.is_some())
}

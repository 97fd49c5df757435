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
    /// `NotFound` when the backup was forgotten meanwhile.
    pub fn read_lease(
        &self,
        dataset: &Dataset,
        number: BackupId,
        purpose: &str,
        now: Timestamp,
    ) -> Result<Option<Lease>> {
        let taken = Lease::take(self.store(), dataset.id(), None, Some(number), purpose, now);
        let Ok(lease) = taken else { return Ok(None) };
        let numbers = dataset.shown_numbers()?;
        if dataset.backup(&numbers, number)?.is_some() {
            return Ok(Some(lease));
        }
        lease.give_back();
        let message = format!("{number} of {} was forgotten just now", dataset.name());
        Err(Error::new(ErrorKind::NotFound, message))
    }
}

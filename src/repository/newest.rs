//! The newest backup of a dataset, for those who restore it and for those who go out from it.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::numbers::Numbers;

impl Dataset {
    /// Returns the newest backup that was not forgotten.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`].
    pub fn newest(&self, numbers: &Numbers) -> Result<Option<Backup>> {
        self.newest_but(numbers, &mut |_, _| false)
    }

    /// Returns the newest backup that a writer may lean on: one whose header cannot be read has
    /// taken its number and is nobody's parent. `passed` is told of each.
    ///
    /// # Errors
    /// Those of [`Dataset::backup`], but for damage.
    pub fn newest_readable(
        &self,
        numbers: &Numbers,
        passed: &mut dyn FnMut(BackupId, &Error),
    ) -> Result<Option<Backup>> {
        self.newest_but(numbers, &mut |n, e| {
            let is_damaged = e.kind() == ErrorKind::Corrupt;
            if is_damaged {
                passed(n, e);
            }
            is_damaged
        })
    }

    fn newest_but(
        &self,
        numbers: &Numbers,
        passes: &mut dyn FnMut(BackupId, &Error) -> bool,
    ) -> Result<Option<Backup>> {
        let mut backup_at = |numbers: &Numbers, n: u64| match self.backup(numbers, BackupId(n)) {
            Err(e) if passes(BackupId(n), &e) => Ok(None),
            read => read,
        };
        for &n in numbers.slots.keys().rev() {
            if let Some(backup) = backup_at(numbers, n)? {
                return Ok(Some(backup));
            }
        }
        // The last thousand may hold nothing but voids and forgotten ones, or nothing any more.
        if numbers.is_cut {
            let lowest = numbers.slots.keys().next().copied().unwrap_or(u64::MAX);
            let all = self.all_numbers()?;
            for &n in all.slots.range(..lowest).map(|(n, _)| n).rev() {
                if let Some(backup) = backup_at(&all, n)? {
                    return Ok(Some(backup));
                }
            }
        }
        Ok(None)
    }
}

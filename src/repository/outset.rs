//! What a writer goes out from: the first step of the protocol, which may be long before the lease.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::words::counted;
use crate::format::dataset::DatasetName;
use crate::repository::datasets::Backup;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use std::sync::Arc;

/// What a writer goes out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeanOn {
    /// The newest backup that can be read.
    Parent,
    /// Nothing: the newest backup cannot be read, and all is taken from the source.
    Nothing,
}

/// What a dataset showed.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Its numbers.
    pub numbers: Numbers,
    /// The backup that is leaned on.
    pub parent: Option<Arc<Backup>>,
}

impl Looked {
    /// Looks at a dataset.
    ///
    /// # Errors
    /// Those of listing it, and of reading headers.
    pub fn now(dataset: &Dataset, lean_on: LeanOn) -> Result<Self> {
        let numbers = dataset.newest_numbers()?;
        let parent = match lean_on {
            LeanOn::Parent => dataset.newest_readable(&numbers, &mut |_, _| {})?.map(Arc::new),
            LeanOn::Nothing => None,
        };
        Ok(Looked { numbers, parent })
    }

    /// Returns what was looked at before, unless this machine has seen a later number since.
    ///
    /// # Errors
    /// Those of [`Looked::now`]; `Corrupt` for a store that shows less than it has shown before.
    pub(super) fn or_now(before: Option<Self>, dataset: &Dataset, lean_on: LeanOn) -> Result<Self> {
        // Before the listing, which need not show what others put and remember while it runs.
        let seen = dataset.highest_seen();
        let looked = match before {
            Some(before) if before.numbers.next().0 >= seen => before,
            _ => Looked::now(dataset, lean_on)?,
        };
        let next = looked.numbers.next().0;
        if next >= seen {
            return Ok(looked);
        }
        let message = format!(
            "{} had {} when last seen from here, and shows {next} now",
            dataset.name(),
            counted(seen, "backup", "backups"),
        );
        Err(Error::corrupt(message)
            .hint(
                "if the repository was put back to an earlier state on purpose, throw the \
                 local cache away: `icecore cache clear`",
            )
            .at(Origin::Repository))
    }
}

/// Tells of a dataset in which others took each number first.
pub(crate) fn outrun(name: &DatasetName) -> Error {
    Error::new(ErrorKind::Busy, format!("other backups of {name} were always quicker"))
        .hint("run one backup of a dataset at a time")
}

//! Another name for a dataset: the new name is put, then the old one retired.
//!
//! Names point to ids, and everything else goes by the id: backups, leases, caches and a writer
//! at work do not notice. Who dies between the two steps leaves one dataset under two names, both
//! of which work; the same rename once more retires the old one, and the opposite the new one.
//!
//! Two who rename one dataset at once are told apart by the retired name, which one of them puts;
//! the other takes its new name back. Without an atomic create they may end with two names, and a
//! dataset that is made under the new name at the very same moment may lose its name.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::DatasetId;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::DatasetName;
use crate::format::dataset::NameRecord;
use crate::repository::Repository;

/// What a rename found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// Both steps.
    Whole,
    /// The second step: an earlier rename had been interrupted.
    Finished,
    /// Nothing: it was done before.
    Before,
}

/// A name as one look showed it.
struct Seen {
    dataset: Option<DatasetId>,
    /// The revision that is put next. It is that of this look and of no later one, so that
    /// whatever came in between is noticed by its being taken.
    next: u64,
}

impl Repository {
    /// Gives a dataset another name.
    ///
    /// # Errors
    /// `NotFound` when there is no `old`; `AlreadyExists` when another dataset is called `new`;
    /// `InvalidInput` when the two are the same; `Busy` when somebody renames it at the same
    /// time, or was interrupted doing so; those of the backend.
    pub fn rename(&self, old: &DatasetName, new: &DatasetName, now: Timestamp) -> Result<Renamed> {
        refuse_same(old, new)?;
        let from = self.see_name(old)?;
        let Some(dataset) = from.dataset else { return self.renamed_before(old, new) };
        let there = self.see_name(new)?;
        let mut is_new = false;
        if there.dataset.is_none() {
            self.refuse_third_name(old, new, dataset)?;
            is_new = self.put_revision(new, there.next, Some(dataset), now)?;
        }
        if !is_new && self.see_name(new)?.dataset != Some(dataset) {
            return Err(taken(new));
        }
        let is_ours = self.put_revision(old, from.next, None, now)?;
        if is_new && !is_ours {
            self.yield_to_another(old, new, dataset, now)?;
        }
        self.leave_a_name(old, new, dataset, now)?;
        Ok(if is_new { Renamed::Whole } else { Renamed::Finished })
    }

    fn see_name(&self, name: &DatasetName) -> Result<Seen> {
        let record = self.name_record(name)?;
        let next = record.as_ref().map_or(0, |(revision, _)| revision + 1);
        Ok(Seen { dataset: record.and_then(|(_, record)| record.dataset), next })
    }

    /// Puts a revision of a name; returns false when somebody else was quicker.
    fn put_revision(
        &self,
        name: &DatasetName,
        revision: u64,
        dataset: Option<DatasetId>,
        now: Timestamp,
    ) -> Result<bool> {
        let key = self.name_folder(name)?.object(&revision.to_string())?;
        let record = NameRecord { name: name.clone(), dataset, written: now };
        self.store().put_first(ObjectKind::Name, &key, &record)
    }

    fn other_names(&self, dataset: DatasetId, known: &DatasetName) -> Result<Vec<DatasetName>> {
        let all = self.datasets()?.into_iter();
        let same = all.filter(|other| other.id() == dataset && other.name() != known);
        Ok(same.map(|other| other.name().clone()).collect())
    }

    /// An interrupted rename is finished before another one begins. The new name may have come
    /// into being since it was looked at, by the same rename of somebody else.
    fn refuse_third_name(
        &self,
        old: &DatasetName,
        new: &DatasetName,
        dataset: DatasetId,
    ) -> Result<()> {
        let others = self.other_names(dataset, old)?;
        let Some(other) = others.iter().find(|other| *other != new) else { return Ok(()) };
        let message = format!("{old} is being renamed to {other}, or that was interrupted");
        Err(Error::new(ErrorKind::Busy, message).hint(format!(
            "`icecore rename {old} {other}` finishes it, `icecore rename {other} {old}` undoes it"
        )))
    }

    /// Somebody else has retired the old name: where that was for a third one, ours goes.
    fn yield_to_another(
        &self,
        old: &DatasetName,
        new: &DatasetName,
        dataset: DatasetId,
        now: Timestamp,
    ) -> Result<()> {
        let others = self.other_names(dataset, new)?;
        let Some(other) = others.first() else { return Ok(()) };
        let seen = self.see_name(new)?;
        if seen.dataset == Some(dataset) {
            self.put_revision(new, seen.next, None, now)?;
        }
        let message = format!("{old} was renamed to {other} meanwhile");
        Err(Error::new(ErrorKind::Busy, message).hint("`icecore list` shows the datasets"))
    }

    /// Two opposite renames at once could each retire what the other leaves: whoever finds the
    /// dataset without a name gives the old one back.
    fn leave_a_name(
        &self,
        old: &DatasetName,
        new: &DatasetName,
        dataset: DatasetId,
        now: Timestamp,
    ) -> Result<()> {
        let stays = self.see_name(new)?.dataset == Some(dataset);
        if stays || !self.other_names(dataset, old)?.is_empty() {
            return Ok(());
        }
        let seen = self.see_name(old)?;
        if seen.dataset.is_none() {
            self.put_revision(old, seen.next, Some(dataset), now)?;
        }
        let message = format!("{new} was renamed to {old} at the same time");
        Err(Error::new(ErrorKind::Busy, message).hint("`icecore list` shows the datasets"))
    }

    /// A rename whose reply was lost is asked for again: the old name's last dataset tells.
    fn renamed_before(&self, old: &DatasetName, new: &DatasetName) -> Result<Renamed> {
        if let Some(before) = self.see_name(old)?.next.checked_sub(2)
            && let Some(there) = self.see_name(new)?.dataset
        {
            let key = self.name_folder(old)?.object(&before.to_string())?;
            let record: NameRecord = self.store().get(ObjectKind::Name, &key)?;
            if record.dataset == Some(there) {
                return Ok(Renamed::Before);
            }
        }
        self.dataset(old).and_then(|_| {
            let message = format!("{old} came into being just now");
            Err(Error::new(ErrorKind::Busy, message).hint("try again"))
        })
    }
}

/// Refuses to rename a dataset to its own name.
///
/// # Errors
/// `InvalidInput` when the two are the same.
pub fn refuse_same(old: &DatasetName, new: &DatasetName) -> Result<()> {
    if old != new {
        return Ok(());
    }
    let message = format!("{old} is called that already");
    Err(Error::invalid(message).hint("the second name is the new one"))
}

fn taken(new: &DatasetName) -> Error {
    let message = format!("there is a dataset {new} already");
    Error::new(ErrorKind::AlreadyExists, message).hint("choose another name, or rename that one")
}

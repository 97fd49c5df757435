//! The numbers of a dataset as one listing shows them.

use crate::base::id::BackupId;
use crate::base::id::LeaseId;
use crate::base::limits::NUMBERS_PER_FOLDER;
use crate::format::dataset::FloorRecord;
use crate::repository::seen::Told;
use std::collections::BTreeMap;

/// What is listed of one number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// Header objects; in class B each with the lease that wrote it.
    pub(super) headers: Vec<(Option<LeaseId>, Told)>,
    pub(super) hidden: Option<Told>,
    /// Tags as changed later, by revision.
    pub(super) tags: BTreeMap<u64, Told>,
}

impl Slot {
    /// Returns what a chain leans on: the headers, without what was said of them later.
    pub(super) fn bare(&self) -> Slot {
        Slot { headers: self.headers.clone(), hidden: None, tags: BTreeMap::new() }
    }
}

/// The numbers of a dataset as listed in this run.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    pub(super) slots: BTreeMap<u64, Slot>,
    /// The floor in force, what remains below it in order.
    pub(super) floor: Option<FloorRecord>,
    /// What is missing from the listing, for people.
    pub(super) missing: Vec<String>,
    /// Whether there are older folders of numbers that were not listed.
    pub(super) is_cut: bool,
}

impl Numbers {
    /// Says whether folders of numbers are missing among these, sorted.
    pub(super) fn misses_thousands(&self, sorted: &[u64]) -> bool {
        let lowest_needed = self.floor() / NUMBERS_PER_FOLDER;
        let above: Vec<u64> = sorted.iter().copied().filter(|&t| t >= lowest_needed).collect();
        let expected = (lowest_needed..).take(above.len());
        !above.into_iter().eq(expected)
    }

    /// Notes the first number of each gap, from the first folder that was listed. Returns None
    /// when there are numbers that cannot be.
    pub(super) fn note_missing(&mut self, first_thousand: u64) -> Option<()> {
        // The one number that is never taken is the last: behind it there would be none.
        let is_beyond = |(&n, slot): (&u64, &Slot)| n == u64::MAX && !slot.headers.is_empty();
        if self.slots.iter().next_back().is_some_and(is_beyond) {
            return None;
        }
        let mut expected = self.floor().max(first_thousand.checked_mul(NUMBERS_PER_FOLDER)?);
        for (&n, slot) in &self.slots {
            if n < expected || slot.headers.is_empty() {
                continue;
            }
            if n > expected {
                self.missing.push(BackupId(expected).to_string());
            }
            expected = n + 1;
        }
        // What was said of a backup outlives its header only below the floor.
        if self.slots.keys().next_back().is_some_and(|&n| n >= expected) {
            self.missing.push(BackupId(expected).to_string());
        }
        Some(())
    }

    /// Notes the numbers below the floor that remain and of which nothing is listed.
    pub(super) fn note_missing_below_floor(&mut self) {
        let remaining = self.floor.iter().flat_map(|floor| floor.remaining.iter());
        let is_missing = |n: &&u64| !self.is_taken(BackupId(**n));
        let missing: Vec<String> =
            remaining.filter(is_missing).map(|&n| BackupId(n).to_string()).collect();
        self.missing.splice(0..0, missing);
    }

    /// Says whether the newest numbers show what was said of a backup, and not the backup.
    pub(super) fn shows_remarks_alone(&self) -> bool {
        let newest = self.slots.iter().next_back();
        newest.is_some_and(|(&n, slot)| n >= self.floor() && slot.headers.is_empty())
    }

    pub(super) fn slot(&mut self, n: BackupId) -> &mut Slot {
        self.slots.entry(n.0).or_default()
    }

    /// Returns what a listing lacks that must have been there, for people.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Goes through the numbers that hold a header or a void, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = BackupId> + '_ {
        self.slots.iter().filter(|(_, slot)| !slot.headers.is_empty()).map(|(&n, _)| BackupId(n))
    }

    /// Returns the number after the highest that was ever taken: that a backup was forgotten or
    /// tagged tells of it as well as its header.
    pub fn next(&self) -> BackupId {
        let highest = self.slots.keys().next_back();
        BackupId(highest.map_or(0, |n| n.saturating_add(1)).max(self.floor()))
    }

    /// Says whether anything stands at a number.
    pub fn is_taken(&self, n: BackupId) -> bool {
        self.slots.get(&n.0).is_some_and(|slot| !slot.headers.is_empty())
    }

    /// Says whether a number is void because a floor passed it.
    pub fn is_below_floor(&self, n: BackupId) -> bool {
        let passed =
            |floor: &FloorRecord| n.0 < floor.floor && floor.remaining.binary_search(&n.0).is_err();
        self.floor.as_ref().is_some_and(passed)
    }

    /// Returns the floor: every number below it is taken for good.
    pub fn floor(&self) -> u64 {
        self.floor.as_ref().map_or(0, |floor| floor.floor)
    }

    /// Goes through the leases whose headers stand at a number (class B).
    pub fn leases_at(&self, n: BackupId) -> impl Iterator<Item = LeaseId> + '_ {
        self.slots
            .get(&n.0)
            .into_iter()
            .flat_map(|slot| slot.headers.iter().filter_map(|(lease, _)| *lease))
    }

    /// Returns the highest revision of the tags at a number.
    pub fn tags_revision(&self, n: BackupId) -> Option<u64> {
        self.tags_revisions(n).next_back()
    }

    /// Goes through the revisions of the tags at a number that are listed, in order.
    pub(super) fn tags_revisions(&self, n: BackupId) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.slots.get(&n.0).into_iter().flat_map(|slot| slot.tags.keys().copied())
    }

    /// Goes through every number that anything is listed of, markers without a header too.
    pub fn all_listed(&self) -> impl Iterator<Item = BackupId> + '_ {
        self.slots.keys().map(|&n| BackupId(n))
    }

    /// Says whether a number is forgotten.
    pub fn is_hidden(&self, n: BackupId) -> bool {
        self.slots.get(&n.0).is_some_and(|slot| slot.hidden.is_some())
    }
}

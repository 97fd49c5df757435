//! Floors: how the headers of forgotten backups go.
//!
//! A floor says which numbers below it remain; any other is void whenever it appears, so numbers
//! stay gapless and none is ever used again. The floor is put first, then headers and markers
//! are deleted: a crash in between leaves objects that nobody looks at.

use crate::backend::Listed;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::DatasetId;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::FloorRecord;
use crate::repository::datasets::Dataset;
use crate::repository::datasets::Numbers;
use crate::repository::layout;
use crate::repository::lease;
use crate::repository::lease::SeenLease;
use crate::repository::lease::Standing;
use crate::repository::store::Store;
use std::collections::BTreeSet;

impl Dataset {
    /// Retires forgotten headers that nothing needs, and whatever stands below the floor.
    /// Returns how many headers went.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn retire(&self, unneeded: &[BackupId], now: Timestamp) -> Result<u64> {
        let leases = lease::list(self.repository().store())?;
        // Without an atomic create the lease of a void writer stays as long as its number does.
        let may_commit = |seen: &&SeenLease| {
            seen.record.dataset == self.id() && Standing::of(&seen.marks) != Standing::Void
        };
        let held = leases.values().filter(may_commit);
        let lowest_held = held.filter_map(|seen| seen.record.number).min();
        // What is not listed now would be void for ever.
        let numbers = self.all_numbers()?;
        self.repository().store().settle()?;
        // A number that a writer may still commit must not fall below the floor.
        let highest = lowest_held.map_or(numbers.next(), |held| held.min(numbers.next()));
        let may_go = |n: &&BackupId| **n < highest && !numbers.is_below_floor(**n);
        let goes: BTreeSet<u64> = unneeded.iter().filter(may_go).map(|n| n.0).collect();
        if !planted::keeps(Rule::KeepsNumbers) {
            return self.free_numbers(&goes);
        }
        if let Some(last) = goes.last() {
            // No two floors of one height: they could name different numbers.
            let floor = (last + 1).max(numbers.floor() + 1);
            if floor <= highest.0 {
                self.put_floor(&numbers, floor, &goes, now)?;
            }
        }
        self.sweep_below_floor()
    }

    /// What a test plants: numbers that anybody may take again.
    fn free_numbers(&self, numbers: &BTreeSet<u64>) -> Result<u64> {
        let store = self.repository().store();
        let next = self.all_numbers()?.next();
        let newest = (0..next.0).rev().take_while(|n| numbers.contains(n));
        for n in newest.map(BackupId) {
            store.delete(&layout::header(&self.id(), n)?)?;
            store.delete(&layout::hidden(&self.id(), n)?)?;
        }
        Ok(numbers.len() as u64)
    }

    fn put_floor(
        &self,
        numbers: &Numbers,
        floor: u64,
        goes: &BTreeSet<u64>,
        now: Timestamp,
    ) -> Result<()> {
        let stays =
            |n: &BackupId| n.0 < floor && !goes.contains(&n.0) && !numbers.is_below_floor(*n);
        let remaining = numbers.iter().filter(stays).map(|n| n.0).collect();
        let record = FloorRecord { floor, remaining, written: now };
        let store = self.repository().store();
        let key = layout::floor(&self.id(), floor)?;
        if store.is_class_a() {
            // Another prune's floor of this height does as well.
            store.put_new(ObjectKind::Floor, &key, &record).map(|_| ())
        } else if store.backend().stat(&key).map_err(|e| e.at(Origin::Repository))?.is_some() {
            Ok(())
        } else {
            store.put(ObjectKind::Floor, &key, &record)
        }
    }

    /// Deletes what the floor in force has made void, and lower floors.
    fn sweep_below_floor(&self) -> Result<u64> {
        let numbers = self.all_numbers()?;
        let store = self.repository().store();
        // The floor may be another prune's.
        store.settle()?;
        let mut went = 0;
        for n in numbers.all_listed().filter(|n| numbers.is_below_floor(*n)) {
            if numbers.is_taken(n) {
                went += 1;
            }
            for lease in numbers.leases_at(n) {
                store.delete(&layout::header_of_lease(&self.id(), n, &lease)?)?;
                let marks = lease::marks_on(store, &lease)?;
                self.repository().remove_marks(&lease, &marks)?;
            }
            // A void that was put in place of a dead writer goes the same way.
            store.delete(&layout::header(&self.id(), n)?)?;
            for revision in numbers.tags_revisions(n) {
                store.delete(&layout::tags(&self.id(), n, revision)?)?;
            }
            if numbers.is_hidden(n) {
                store.delete(&layout::hidden(&self.id(), n)?)?;
            }
        }
        for floor in self.floors()? {
            if floor < numbers.floor() {
                store.delete(&layout::floor(&self.id(), floor)?)?;
            }
        }
        Ok(went)
    }

    /// Says whether a floor is above a number: asked by a writer after its commit. No floor rises
    /// above a number that somebody at work may commit; so this writer slept, and its number may
    /// have been taken, forgotten and retired meanwhile.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn is_passed(&self, n: BackupId) -> Result<bool> {
        Ok(self.floors()?.into_iter().any(|floor| n.0 < floor))
    }

    /// Says by a new look whether a floor has taken a number away: one is above it, and the
    /// number is not among those that remain. What remains and cannot be found is damage.
    pub(super) fn is_retired(&self, n: BackupId) -> Result<bool> {
        Ok(self.list_numbers(Some(1))?.is_below_floor(n))
    }

    /// Returns the heights of all floors that are there.
    pub(crate) fn floors(&self) -> Result<Vec<u64>> {
        heights(self.repository().store(), &self.id())
    }
}

/// Returns the heights of all floors of a dataset, the lowest first.
pub(crate) fn heights(store: &Store, dataset: &DatasetId) -> Result<Vec<u64>> {
    let mut heights = Vec::new();
    store.backend().list(&layout::dataset(dataset)?, &mut |listed| {
        if let Listed::Object(object) = listed {
            heights.extend(layout::parse_floor(object.key.name()));
        }
        Ok(())
    })?;
    heights.sort_unstable();
    Ok(heights)
}

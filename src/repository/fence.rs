//! Ends writers that can no longer be alive, and says which still are.
//!
//! A lease is over exactly when it can no longer commit. With an atomic create that is when its
//! number exists: whoever takes a writer for dead puts a void there, and if the writer lives
//! after all, it starts again with another number. Without one, marks on the lease do the same:
//! `r` asks, and if no header is there after that, `v` voids it. A wrong verdict costs a repeated
//! backup, never data, so any clock serves as evidence.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::id::LeaseId;
use crate::base::id::to_hex;
use crate::base::limits::SILENT_SECONDS;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::dataset::VoidRecord;
use crate::format::lease::MarkRecord;
use crate::repository::Repository;
use crate::repository::datasets::Dataset;
use crate::repository::layout;
use crate::repository::lease;
use crate::repository::lease::SeenLease;
use crate::repository::lease::Standing;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The most numbers that are taken by voids because what stood there is lost; what tells of more
/// is not honest.
pub(crate) const VOIDS_MAX: u64 = 10_000;

/// Who looks at leases, and what is known beside them.
#[derive(Clone, Copy, Debug)]
pub struct Observer<'a> {
    /// The observer's own clock.
    pub now: Timestamp,
    /// The store's clock, where something was put just now that tells.
    pub store_now: Option<Timestamp>,
    /// Leases that a person says are dead.
    pub ended: &'a [LeaseId],
}

/// Leases that this process has seen to be over. What is over once is so for ever: the number
/// that it names exists, or a floor has passed it, or (class B) its header stands or is void. A
/// prune looks at each lease half a dozen times, by up to three requests each.
#[derive(Default)]
pub(crate) struct LeasesOver(Mutex<HashSet<LeaseId>>);

impl LeasesOver {
    fn leases(&self) -> MutexGuard<'_, HashSet<LeaseId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, lease: &LeaseId) -> bool {
        self.leases().contains(lease)
    }

    fn note(&self, lease: &LeaseId) {
        self.leases().insert(*lease);
    }
}

impl Repository {
    /// Says whether a lease can no longer commit. A reader's never can, so this is for writers'.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn is_over(&self, seen: &SeenLease) -> Result<bool> {
        let Some(number) = seen.record.number else { return Ok(true) };
        if self.leases_over().has(&seen.record.lease) {
            return Ok(true);
        }
        let is_over = self.is_over_now(seen, number)?;
        if is_over {
            self.leases_over().note(&seen.record.lease);
        }
        Ok(is_over)
    }

    fn is_over_now(&self, seen: &SeenLease, number: BackupId) -> Result<bool> {
        let dataset = Dataset::of_folder(self, seen.record.dataset)?;
        if self.store().is_class_a() {
            return self.number_exists(&dataset, number);
        }
        let is_void = seen.standing(self.store())? == Standing::Void;
        let is_past = || Ok(dataset.newest_numbers()?.is_below_floor(number));
        Ok(is_void || self.header_of(seen, number)? || is_past()?)
    }

    fn number_exists(&self, dataset: &Dataset, number: BackupId) -> Result<bool> {
        let key = layout::header(&dataset.id(), number)?;
        let there = self.store().backend().stat(&key);
        if there.map_err(|e| e.at(Origin::Repository))?.is_some() {
            return Ok(true);
        }
        Ok(number.0 < dataset.newest_numbers()?.floor())
    }

    /// Class B: says whether the header of a lease is there.
    fn header_of(&self, seen: &SeenLease, number: BackupId) -> Result<bool> {
        let key = layout::header_of_lease(&seen.record.dataset, number, &seen.record.lease)?;
        let there = self.store().backend().stat(&key);
        Ok(there.map_err(|e| e.at(Origin::Repository))?.is_some())
    }

    /// Ends a writer's lease when it is over or its holder is dead by evidence; returns whether
    /// it is over now. It never waits.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn end_lease(&self, seen: &SeenLease, observer: &Observer<'_>) -> Result<bool> {
        Ok(self.is_over(seen)? || self.end_standing_lease(seen, observer)?)
    }

    /// Ends a writer's lease that was seen not to be over when its holder is dead by evidence;
    /// returns whether it is over now.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn end_standing_lease(&self, seen: &SeenLease, observer: &Observer<'_>) -> Result<bool> {
        let Some(number) = seen.record.number else { return Ok(true) };
        if !self.is_dead(seen, observer) {
            return Ok(false);
        }
        if !planted::keeps(Rule::DistrustsClocks) {
            return Ok(true);
        }
        if !planted::keeps(Rule::VoidsTheDead) {
            self.store().delete(&layout::lease(&seen.record.lease)?)?;
            return Ok(true);
        }
        if self.store().is_class_a() {
            self.put_void(seen, number, observer.now)?;
            self.leases_over().note(&seen.record.lease);
            return Ok(true);
        }
        let by = format!("{}: its holder is dead", observer.now.to_local_text());
        let record = MarkRecord { lease: seen.record.lease, by };
        let asked = format!("{}{}", lease::MARK_ASKED, to_hex(&sys::random::<8>()?));
        let key = layout::mark(&seen.record.lease, &asked)?;
        let asks = planted::keeps(Rule::AsksBeforeVoid);
        if asks {
            self.store().put(ObjectKind::Revoke, &key, &record)?;
        }
        if !asks || !self.header_of(seen, number)? {
            let key = layout::mark(&seen.record.lease, lease::MARK_VOID)?;
            self.store().put(ObjectKind::Verdict, &key, &record)?;
        }
        Ok(true)
    }

    /// Takes the number of a dead writer. Whether this void or something else stands there then,
    /// the lease is over.
    fn put_void(&self, seen: &SeenLease, number: BackupId, now: Timestamp) -> Result<()> {
        let dataset = Dataset::of_folder(self, seen.record.dataset)?;
        let mut next = dataset.newest_numbers()?.next();
        if number > next {
            // A floor may have taken the highest away between two listings.
            next.0 = next.0.max(dataset.floors()?.into_iter().max().unwrap_or(0));
        }
        // Headers that are lost may have stood between; then the void shows that they are missing.
        if number.0 > next.0.saturating_add(VOIDS_MAX) {
            let message = format!(
                "lease {} names {number}, and the next number of its dataset is {next}",
                seen.record.lease
            );
            return Err(Error::corrupt(message).at(Origin::Repository));
        }
        let reason = format!("the writer {} is dead", seen.record.lease);
        let record = VoidRecord { number: number.0, reason, written: now };
        let key = layout::header(&dataset.id(), number)?;
        self.store().put_new(ObjectKind::Void, &key, &record).map(|_| ())
    }

    /// Says whether a lease's holder is dead: for certain, by a person's word, or by having been
    /// silent for hours, by the clock of the store or by two looks of this observer.
    pub fn is_dead(&self, seen: &SeenLease, observer: &Observer<'_>) -> bool {
        if seen.is_certainly_dead() || observer.ended.contains(&seen.record.lease) {
            return true;
        }
        if seen.record.process.is_certainly_alive() {
            return false;
        }
        let silent = SILENT_SECONDS as f64;
        let by_store = matches!((seen.last_sign, observer.store_now),
            (Some(sign), Some(now)) if now.seconds_since(sign) >= silent);
        by_store || self.seconds_since_first_look(seen, observer.now) >= silent
    }

    /// Returns how long ago this machine first saw the lease at its present beat, and notes it.
    fn seconds_since_first_look(&self, seen: &SeenLease, now: Timestamp) -> f64 {
        let name = format!("looks/{}", seen.record.lease);
        let note = self.cache().read(&name);
        let first = note.as_deref().and_then(|bytes| {
            let (beat, seconds) = bytes.split_first_chunk::<8>()?;
            let seconds = i64::from_le_bytes(seconds.try_into().ok()?);
            (u64::from_le_bytes(*beat) == seen.beat).then(|| Timestamp::new(seconds, 0))
        });
        match first {
            Some(first) if first <= now => now.seconds_since(first),
            _ => {
                let mut note = seen.beat.to_le_bytes().to_vec();
                note.extend_from_slice(&now.seconds().to_le_bytes());
                self.cache().write(&name, &note);
                0.0
            }
        }
    }

    /// Deletes leases that are over, with their beats, and what beats the dead have left. What
    /// cannot be deleted is over all the same.
    ///
    /// # Errors
    /// Those of listing.
    pub fn sweep_leases(&self, observer: &Observer<'_>) -> Result<u64> {
        let mut swept = 0;
        for seen in lease::list(self.store())?.into_values() {
            let goes = match seen.record.number {
                None => self.is_dead(&seen, observer),
                Some(number) => self.is_over(&seen)? && !self.could_appear(&seen, number)?,
            };
            if goes && self.remove_lease(&seen).is_ok() {
                self.cache().remove(&format!("looks/{}", seen.record.lease));
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Class B: says whether a void lease's header could still appear and count: as long as its
    /// number is not void itself, the lease and the mark that voids it stay.
    fn could_appear(&self, seen: &SeenLease, number: BackupId) -> Result<bool> {
        if Standing::of(&seen.marks) != Standing::Void {
            return Ok(false);
        }
        let dataset = Dataset::of_folder(self, seen.record.dataset)?;
        Ok(!dataset.newest_numbers()?.is_below_floor(number))
    }

    fn remove_lease(&self, seen: &SeenLease) -> Result<()> {
        let id = &seen.record.lease;
        if seen.beat > 0 {
            self.store().delete(&layout::beat(id, seen.beat)?)?;
        }
        self.store().delete(&layout::lease(id)?)?;
        if Standing::of(&seen.marks) == Standing::Void {
            self.remove_marks(id, &seen.marks)?;
        }
        Ok(())
    }

    /// Class B: removes marks on a lease whose number a floor has passed.
    ///
    /// # Errors
    /// Those of the backend.
    pub(crate) fn remove_marks(&self, lease: &LeaseId, marks: &[String]) -> Result<()> {
        for mark in marks {
            self.store().delete(&layout::mark(lease, mark)?)?;
        }
        Ok(())
    }
}

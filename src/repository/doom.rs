//! Tombstones: what a prune will delete, irrevocably.
//!
//! What a tombstone names is doomed from the moment it is there: nothing new leans on it, and
//! what turns out to be live in it is copied before it goes. No tombstone is ever taken back.

use crate::backend::all_below;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::PackId;
use crate::base::id::TombstoneId;
use crate::base::limits::TOMBSTONE_PACKS_MAX;
use crate::base::sys;
use crate::base::sys::ProcessIdentity;
use crate::base::time::Timestamp;
use crate::codec::frame::ObjectKind;
use crate::format::tombstone::TombstoneRecord;
use crate::repository::layout;
use crate::repository::store::Store;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// All tombstones that lie about at one look.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// What they say.
    pub records: Vec<TombstoneRecord>,
    /// When the youngest was put, by the store's own clock, where the store tells.
    pub newest: Option<Timestamp>,
}

impl Tombstones {
    /// Reads all tombstones. One that is gone between listing and reading was done with.
    ///
    /// # Errors
    /// Those of the backend; a tombstone that cannot be read is an error, as what it dooms is
    /// unknown.
    pub fn list(store: &Store) -> Result<Self> {
        let mut found = Tombstones::default();
        let mut ids: Vec<TombstoneId> = Vec::new();
        let listed = all_below(store.backend(), &layout::folder("tombstones")?);
        let listed =
            listed.map_err(|e| e.context("cannot list tombstones").at(Origin::Repository))?;
        for object in listed {
            if let Ok(id) = object.key.name().parse() {
                ids.push(id);
                found.newest = found.newest.max(object.modified);
            }
        }
        ids.sort_unstable();
        for id in ids {
            match store.get(ObjectKind::Tombstone, &layout::tombstone(&id)?) {
                Ok(record) => found.records.push(record),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    return Err(e.hint("`icecore repair` says what can be done about it"));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// Returns all packs that are doomed.
    pub fn packs(&self) -> HashSet<PackId> {
        self.records.iter().flat_map(|record| record.packs.iter().copied()).collect()
    }

    /// Returns all index objects that are doomed.
    pub fn indexes(&self) -> BTreeSet<IndexId> {
        self.records.iter().flat_map(|record| record.indexes.iter().copied()).collect()
    }
}

/// Dooms packs and index objects, so many bytes of which nothing needs. With this nothing new
/// leans on them; returns the ids of the tombstones, of which there are several when the packs are
/// very many.
///
/// # Errors
/// Those of the backend; some of them may be doomed then.
pub fn put_tombstones(
    store: &Store,
    packs: &[PackId],
    indexes: &[IndexId],
    freed_bytes: u64,
    now: Timestamp,
) -> Result<Vec<TombstoneId>> {
    let mut ids = Vec::new();
    let mut indexes = indexes;
    let mut packs = packs;
    while !packs.is_empty() || !indexes.is_empty() {
        let (some_packs, more_packs) = packs.split_at(packs.len().min(TOMBSTONE_PACKS_MAX));
        let (some, more) = indexes.split_at(indexes.len().min(TOMBSTONE_PACKS_MAX));
        let tombstone = TombstoneId::new(layout::in_few_folders(sys::random()?, 1));
        let record = TombstoneRecord {
            tombstone,
            packs: some_packs.to_vec(),
            indexes: some.to_vec(),
            // All of it in the first: what is said of several adds up.
            freed_bytes: if ids.is_empty() { freed_bytes } else { 0 },
            process: ProcessIdentity::current(),
            written: now,
        };
        store.put(ObjectKind::Tombstone, &layout::tombstone(&tombstone)?, &record)?;
        ids.push(tombstone);
        (packs, indexes) = (more_packs, more);
    }
    Ok(ids)
}

/// Deletes a tombstone, when all that it names is gone.
///
/// # Errors
/// Those of the backend.
pub fn delete_tombstone(store: &Store, id: &TombstoneId) -> Result<()> {
    store.delete(&layout::tombstone(id)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::MemoryBackend;
    use crate::base::id::RepositoryId;
    use crate::codec::seal::Sealer;
    use std::sync::Arc;

    #[test]
    fn very_many_packs_are_doomed_by_several_tombstones() {
        let sealer = Sealer::new(RepositoryId::new([1; 16]), None);
        let store = Store::new(Arc::new(MemoryBackend::new()), sealer);
        let name = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            PackId::new(bytes)
        };
        let packs: Vec<PackId> = (0..TOMBSTONE_PACKS_MAX + 1).map(name).collect();
        let index = IndexId::new([3; 16]);
        let ids = put_tombstones(&store, &packs, &[index], 7, Timestamp::new(5, 0)).expect("puts");
        assert_eq!(ids.len(), 2);
        let seen = Tombstones::list(&store).expect("lists");
        assert_eq!(seen.packs().len(), packs.len());
        assert_eq!(seen.indexes(), BTreeSet::from([index]));
        assert_eq!(seen.records.iter().map(|record| record.freed_bytes).sum::<u64>(), 7);
        for id in ids {
            delete_tombstone(&store, &id).expect("deletes");
        }
        assert!(Tombstones::list(&store).expect("lists").records.is_empty());
    }
}

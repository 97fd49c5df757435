//! Replaces pack index objects: those that name packs which are gone, and many small ones.
//!
//! What goes is proven to be held by others first: the rows of the objects that go, without
//! those of packs that are gone, are looked for in the objects that stay, which are read again
//! from the store, past the cache. What is missing is put in new objects, and looked for again.
//! Only then is anything deleted. As with packs, an object that is doomed counts for nothing, and
//! those that go are doomed before this looks: two prunes never rely on each other's objects.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::IndexId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::INDEX_ROWS_TARGET;
use crate::base::limits::PRUNE_ROUNDS_MAX;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::format::pack::BlockRow;
use crate::format::pack_index::IndexedPack;
use crate::repository::Repository;
use crate::repository::index::IndexView;
use crate::repository::index::Location;
use crate::repository::layout;
use crate::repository::rescue::NO_LEASE;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

impl Repository {
    /// Makes sure that index objects other than `going` and `doomed` hold every row of `going`
    /// but those of packs in `gone`. Afterwards `going`, which is doomed, may be deleted. Returns
    /// the ids of objects that were put.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` when what was put does not read back the same.
    pub fn hold_rows_elsewhere(
        &self,
        going: &BTreeSet<IndexId>,
        doomed: &BTreeSet<IndexId>,
        gone: &HashSet<PackId>,
    ) -> Result<Vec<IndexId>> {
        let away: BTreeSet<IndexId> = going.union(doomed).copied().collect();
        let mut put = Vec::new();
        for some in self.in_portions(going)? {
            put.extend(self.hold_some_elsewhere(&some, &away, gone)?);
        }
        Ok(put)
    }

    /// Splits objects so that the rows of each portion fit into memory.
    fn in_portions(&self, going: &BTreeSet<IndexId>) -> Result<Vec<BTreeSet<IndexId>>> {
        self.refresh_index()?;
        let view = self.index().view();
        let rows: BTreeMap<IndexId, usize> =
            view.objects().map(|(id, _, rows)| (id, rows)).collect();
        let mut portions = vec![BTreeSet::new()];
        let mut total = 0;
        for id in going {
            let rows = rows.get(id).copied().unwrap_or(0);
            if total + rows > INDEX_ROWS_TARGET {
                portions.push(BTreeSet::new());
                total = 0;
            }
            total += rows;
            portions.last_mut().map(|portion| portion.insert(*id));
        }
        Ok(portions)
    }

    fn hold_some_elsewhere(
        &self,
        going: &BTreeSet<IndexId>,
        away: &BTreeSet<IndexId>,
        gone: &HashSet<PackId>,
    ) -> Result<Vec<IndexId>> {
        let mut put = Vec::new();
        let mut missing = self.rows_only_in(going, away, gone)?;
        // Another prune may replace what was just put before it is looked for; by then its rows
        // are in an object of the other, which the next look finds.
        for _ in 0..PRUNE_ROUNDS_MAX {
            if missing.is_empty() {
                return Ok(put);
            }
            put.extend(self.put_rows(&missing)?);
            missing = self.rows_only_in(going, away, gone)?;
        }
        if missing.is_empty() {
            return Ok(put);
        }
        let message = "a new pack index does not hold all rows of those it replaces";
        Err(Error::corrupt(message)
            .hint("nothing was deleted; the store may be losing what is put there")
            .at(Origin::Repository))
    }

    /// Returns the rows of `going` that no object but those of `away` holds.
    fn rows_only_in(
        &self,
        going: &BTreeSet<IndexId>,
        away: &BTreeSet<IndexId>,
        gone: &HashSet<PackId>,
    ) -> Result<Vec<Location>> {
        self.refresh_index()?;
        let view = self.index().view();
        self.refuse_unseen(going, &view)?;
        let mut wanted: BTreeMap<(PackId, u32), Location> = BTreeMap::new();
        for location in going.iter().flat_map(|id| view.rows_of(id)) {
            if !gone.contains(&location.pack.pack) {
                wanted.insert((location.pack.pack, location.row.offset), location);
            }
        }
        for (id, _, _) in view.objects().filter(|(id, _, _)| !away.contains(id)) {
            let helps = view
                .packs_of(&id)
                .any(|pack| wanted.range((pack.pack, 0)..=(pack.pack, u32::MAX)).next().is_some());
            if !helps {
                continue;
            }
            // What only the cache holds does not count, nor what another prune takes away.
            let held = match self.index().read_again(self.store(), &id) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                held => held?,
            };
            for location in held {
                let at = (location.pack.pack, location.row.offset);
                if wanted.get(&at) == Some(&location) {
                    wanted.remove(&at);
                }
            }
        }
        if !planted::keeps(Rule::KeepsRows) {
            wanted.pop_first();
        }
        Ok(wanted.into_values().collect())
    }

    /// An object whose rows were not seen and could be cannot go: who would hold them? One that
    /// cannot be read tells nobody anything, and what is needed was found in others.
    fn refuse_unseen(&self, going: &BTreeSet<IndexId>, view: &IndexView) -> Result<()> {
        let seen: BTreeSet<IndexId> = view.objects().map(|(id, _, _)| id).collect();
        for id in going.difference(&seen) {
            match self.index().read_again(self.store(), id) {
                Err(e) if e.kind().is_unreadable() => {}
                Err(e) => return Err(e),
                Ok(_) => {
                    let key = layout::index(id)?;
                    let message = format!("pack index {key} is there, but was not listed");
                    return Err(Error::corrupt(message)
                        .hint("it is kept; a store must list what is there")
                        .at(Origin::Repository));
                }
            }
        }
        Ok(())
    }

    fn put_rows(&self, rows: &[Location]) -> Result<Vec<IndexId>> {
        let mut put = Vec::new();
        let mut start = 0;
        while start < rows.len() {
            // Whole packs: whoever reads an object finds all rows of the packs it covers.
            let mut end = (start + INDEX_ROWS_TARGET).min(rows.len());
            while end < rows.len() && rows[end].pack.pack == rows[end - 1].pack.pack {
                end += 1;
            }
            put.push(self.put_index_of(&rows[start..end])?);
            start = end;
        }
        Ok(put)
    }

    fn put_index_of(&self, rows: &[Location]) -> Result<IndexId> {
        let mut packs: Vec<IndexedPack> = Vec::new();
        let mut numbered: Vec<(u32, &BlockRow)> = Vec::with_capacity(rows.len());
        for location in rows {
            if packs.last().map(|pack| pack.pack) != Some(location.pack.pack) {
                packs.push(location.pack);
            }
            numbered.push((packs.len() as u32 - 1, &location.row));
        }
        let lease = LeaseId::new(NO_LEASE);
        self.index().put(self.store(), self.cache(), lease, &packs, &numbered).map(|(id, _)| id)
    }
}

//! Takes tables that another machine or a lost cache has left unknown here into the name index.
//!
//! Where each answer is long in coming, the tables of one pack, which stand together, are read by
//! one request, and those of several packs at a time. What is held at once is bounded by places.

use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::id::IndexId;
use crate::base::limits::ABSORB_PLACES;
use crate::base::limits::NAMES_MEMORY_ROWS;
use crate::format::block::Table;
use crate::repository::Repository;
use crate::repository::ahead;
use crate::repository::index::Location;
use crate::repository::names::NameIndex;
use crate::repository::names::NamePlace;
use std::sync::Arc;

/// Takes the tables of index objects into the name index. A table that cannot be read is left
/// out: its blobs are stored again.
///
/// # Errors
/// Those of the backend when it is gone; when the cache cannot be written.
fn absorb(repository: &Repository, names: &NameIndex, ids: &[IndexId]) -> Result<()> {
    let is_far = repository.is_far();
    let mut absorber = Absorber { repository, names, rows: Vec::new() };
    let mut waiting: Vec<Location> = Vec::new();
    let mut places = 0;
    for id in ids {
        repository.index().visit(id, &mut |location| {
            if !is_far {
                let Ok(table) = repository.table(&location.row.block) else { return Ok(()) };
                return absorber.take(&location.row.block, &table);
            }
            places += location.row.places as usize;
            waiting.push(location);
            if places < ABSORB_PLACES {
                return Ok(());
            }
            places = 0;
            absorber.read(std::mem::take(&mut waiting))
        })?;
    }
    absorber.read(waiting)?;
    names.learn(repository.cache(), absorber.rows)?;
    ids.iter().for_each(|id| names.absorbed(*id));
    Ok(())
}

/// Reads the tables of packs that other machines or lost caches have left unknown here.
///
/// # Errors
/// Those of [`absorb`], and those of listing the indexes.
pub(super) fn catch_up(repository: &Repository, names: &NameIndex) -> Result<()> {
    repository.refresh_index()?;
    let mut unknown = repository.index().ids();
    names.keep_absorbed(&unknown);
    unknown.retain(|id| !names.has_absorbed(id));
    absorb(repository, names, &unknown)
}

struct Absorber<'a> {
    repository: &'a Repository,
    names: &'a NameIndex,
    rows: Vec<(BlobId, NamePlace)>,
}

impl Absorber<'_> {
    fn take(&mut self, block: &BlockId, table: &Table) -> Result<()> {
        let number = self.names.allocate();
        self.names.settle(number, block)?;
        let places = table.present();
        self.rows.extend(places.map(|(place, at)| (at.blob, NamePlace { number, place })));
        if self.rows.len() >= NAMES_MEMORY_ROWS {
            self.names.learn(self.repository.cache(), std::mem::take(&mut self.rows))?;
        }
        Ok(())
    }

    fn read(&mut self, mut locations: Vec<Location>) -> Result<()> {
        locations.sort_unstable_by_key(|it| (it.pack.pack, it.row.table_offset));
        let packs: Vec<&[Location]> =
            locations.chunk_by(|a, b| a.pack.pack == b.pack.pack).collect();
        let repository = self.repository;
        let read = |pack: &&[Location]| -> Result<Vec<(BlockId, Arc<Table>)>> {
            let together = match repository.tables_of_pack(pack) {
                Err(e) if e.kind() == ErrorKind::Unreachable => return Err(e),
                together => together.unwrap_or_default(),
            };
            let mut together = together.into_iter();
            let one = |location: &Location| {
                let block = location.row.block;
                let table = together.next().flatten();
                // Perhaps another copy of it can be read.
                let table = table.map_or_else(|| repository.table(&block), Ok);
                table.ok().map(|table| (block, table))
            };
            Ok(pack.iter().filter_map(one).collect())
        };
        for tables in ahead::map(repository.store(), &packs, &read)? {
            for (block, table) in tables {
                self.take(&block, &table)?;
            }
        }
        Ok(())
    }
}

//! Copies places of blocks out of packs that go into new ones: rescue, repack and repair are
//! this one mechanism.
//!
//! A copy is read, decoded, and every blob compared with its name before it is written; the new
//! pack has a salt of its own, and its size is asked for after it was put. A block keeps its id
//! and its places when some of them are left out.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::codec::compress::Compressor;
use crate::format::pack::EncodedBlock;
use crate::repository::Repository;
use crate::repository::packer::Packer;

/// Fills new packs with places of blocks that exist already.
pub struct Copier {
    repository: Repository,
    packer: Packer,
    compressor: Compressor,
}

impl Copier {
    /// Starts with nothing; the index of what is copied is put under `lease`, zeros for none.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn new(repository: &Repository, lease: LeaseId) -> Result<Self> {
        Ok(Copier {
            repository: repository.clone(),
            packer: Packer::start(repository, lease)?,
            compressor: Compressor::new(repository.config().compression)?,
        })
    }

    /// Copies places of a block from a copy that has all of them.
    ///
    /// # Errors
    /// `Corrupt` when no copy gives all of them; those of the backend.
    pub fn copy(&mut self, block: &BlockId, places: &[u32]) -> Result<()> {
        let wanted: Vec<(u32, u32)> = places.iter().map(|&place| (place, 1)).collect();
        // Every blob that is wanted is verified by this.
        let read = self.repository.read_block(block, &wanted)?;
        let table = read.table.retain(|place| places.contains(&place));
        let mut plain = Vec::new();
        for (place, _) in table.present() {
            plain.extend_from_slice(read.blob(&self.repository, place)?);
        }
        if table.id() != *block || table.plain_bytes() != plain.len() as u64 {
            return Err(Error::bug("a thinned block has another table"));
        }
        let mut stored = Vec::new();
        self.compressor.compress(&plain, &mut stored)?;
        let copies = self.repository.locate_block(block)?;
        let class = copies.first().map_or(0, |copy| copy.row.class);
        self.packer.add(&EncodedBlock { id: *block, table, stored, class })
    }

    /// Puts what is left and the index of all; returns the new packs.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn finish(self) -> Result<Vec<PackId>> {
        let index = self.repository.index();
        let packed = self.packer.finish()?;
        let packs = packed.indexes.iter().flat_map(|id| index.packs_of(id));
        Ok(packs.map(|pack| pack.pack).collect())
    }
}

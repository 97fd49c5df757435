//! Copies blocks into new packs: what rescue and repack, prune and repair have in common.
//!
//! A copy keeps the block's id and the places of all its blobs, and leaves out those that are
//! not asked for. Every blob is compared with its name before it is written again. The places of
//! one copy stay together: a run that was whole in the old copy is whole in the new one.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::LeaseId;
use crate::codec::compress;
use crate::format::pack::EncodedBlock;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use crate::repository::index::Location;
use crate::repository::packer::PackedReport;
use crate::repository::packer::Packer;

/// Index objects put for copies name no lease: those who copy hold none that names a number.
pub const NO_LEASE: [u8; 16] = [0; 16];

/// Reads one copy of a block, and encodes those of its places for which `keeps` says so: as they
/// are stored where that is all of them.
///
/// # Errors
/// `Corrupt` when a place that is kept does not verify; those of the backend.
pub fn encode_copy(
    repository: &Repository,
    location: &Location,
    keeps: &dyn Fn(u32) -> bool,
) -> Result<EncodedBlock> {
    encode(repository, location, keeps)
        .map_err(|e| e.context(format!("block {}", location.row.block.short())))
}

/// Reads one copy of a block, and compares those of its places for which `wants` says so with
/// their names.
///
/// # Errors
/// `Corrupt` when one of them does not verify; those of the backend.
pub fn verify_copy(
    repository: &Repository,
    location: &Location,
    wants: &dyn Fn(u32) -> bool,
) -> Result<()> {
    let block = repository.read_copy(location)?;
    // By what the index says of the copy, as that is what it is relied on for.
    let row = &location.row;
    if row.places != block.table.places() {
        return Err(Error::corrupt("the index tells of other places than are in this copy"));
    }
    for place in (0..row.places).filter(|place| row.has_place(*place) && wants(*place)) {
        block.blob(repository, place)?;
    }
    Ok(())
}

/// Like [`encode_copy`], out of the bytes of the whole pack: one that was healed, say, and is in
/// memory only.
///
/// # Errors
/// `Corrupt` when a place that is kept does not verify.
pub fn encode_copy_in(
    repository: &Repository,
    location: &Location,
    pack: &[u8],
    keeps: &dyn Fn(u32) -> bool,
) -> Result<EncodedBlock> {
    let read = repository.copy_in_as_stored(location, pack);
    read.and_then(|read| keep(repository, location, read, keeps))
        .map_err(|e| e.context(format!("block {}", location.row.block.short())))
}

fn encode(
    repository: &Repository,
    location: &Location,
    keeps: &dyn Fn(u32) -> bool,
) -> Result<EncodedBlock> {
    keep(repository, location, repository.read_copy_as_stored(location)?, keeps)
}

fn keep(
    repository: &Repository,
    location: &Location,
    (block, stored): (Block, Vec<u8>),
    keeps: &dyn Fn(u32) -> bool,
) -> Result<EncodedBlock> {
    let class = location.row.class;
    let mut plain = Vec::with_capacity(block.plain.len());
    for (place, _) in block.table.present().filter(|(place, _)| keeps(*place)) {
        plain.extend_from_slice(block.blob(repository, place)?);
    }
    if plain.len() == block.plain.len() {
        // Decoded and compared just now: to compress it again would give the same.
        let table = block.table.as_ref().clone();
        return Ok(EncodedBlock { id: table.id(), table, stored, class });
    }
    let table = block.table.retain(keeps);
    if table.plain_bytes() != plain.len() as u64 {
        return Err(Error::bug("a thinned block and its table do not fit together"));
    }
    let mut stored = Vec::new();
    compress::compress_once(repository.config().compression, &plain, &mut stored)?;
    stored.shrink_to_fit();
    Ok(EncodedBlock { id: table.id(), table, stored, class })
}

/// Puts copies into new packs.
pub struct Copier {
    packer: Packer,
}

impl Copier {
    /// Starts.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn start(repository: &Repository) -> Result<Self> {
        Ok(Copier { packer: Packer::start(repository, LeaseId::new(NO_LEASE))? })
    }

    /// Adds a copy.
    ///
    /// # Errors
    /// What failed while a pack was put.
    pub fn add(&mut self, block: EncodedBlock) -> Result<()> {
        self.packer.add(block)
    }

    /// Puts what is left and the index that names all of it: with this the copies count.
    ///
    /// # Errors
    /// What failed while a pack or an index was put.
    pub fn finish(&mut self) -> Result<PackedReport> {
        self.packer.finish()
    }

    /// Returns what was put and named, also when something failed: these copies count.
    pub fn put_so_far(&mut self) -> PackedReport {
        self.packer.put_so_far()
    }
}

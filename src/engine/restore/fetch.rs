//! Reads stretches of packs and takes tables and blocks out of them.
//!
//! One read serves several neighbouring blocks, and one serves their tables. What goes wrong
//! here is no failure yet: the caller turns to the other copies.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::limits::KIB;
use crate::base::limits::RESTORE_GAP_BYTES;
use crate::base::limits::RESTORE_READ_BYTES;
use crate::codec::crypt::Part;
use crate::engine::restore::reads::Spot;
use crate::engine::restore::window::Use;
use crate::format::block::Table;
use crate::format::entry::Run;
use crate::repository::Repository;
use crate::repository::blocks::Block;
use crate::repository::index::Location;
use crate::repository::layout;
use std::ops::Range;
use std::sync::Arc;

/// A block stored raw is longer than its plaintext by its method, and by its seal.
const BLOCK_OVERHEAD_MAX: usize = 4 * KIB;

/// A block that is wanted.
#[derive(Debug)]
pub(super) struct Member {
    /// Its uses, of the window's.
    pub(super) uses: Range<usize>,
    /// The copy that is read first, when the index knows one.
    pub(super) location: Option<Location>,
}

impl Member {
    /// Finds a copy of the block that has all places its uses want.
    ///
    /// # Errors
    /// Those of loading the index.
    pub(super) fn find(repository: &Repository, uses: &[Use], of: Range<usize>) -> Result<Self> {
        let wanted = &uses[of.clone()];
        let Some(first) = wanted.first() else { return Err(Error::bug("nobody wants a block")) };
        let has_all = |location: &Location| {
            let last = |one: &Use| one.first.checked_add(one.count.saturating_sub(1));
            let ends = wanted.iter().all(|one| {
                location.row.has_place(one.first)
                    && last(one).is_some_and(|last| location.row.has_place(last))
            });
            ends && location.row.length as usize <= BLOCK_BYTES_MAX + BLOCK_OVERHEAD_MAX
        };
        let location = repository.locate_block(&first.block)?.into_iter().find(has_all);
        Ok(Member { uses: of, location })
    }

    /// Returns where the copy stands, of what has one.
    pub(super) fn spot(&self) -> Option<Spot> {
        let Location { pack, row } = self.location.as_ref()?;
        let start = u64::from(row.offset);
        Some(Spot { pack: pack.pack, start, end: start + u64::from(row.length) })
    }
}

/// Bytes of a pack.
pub(super) struct Stretch {
    start: u64,
    bytes: Vec<u8>,
}

impl Stretch {
    /// Reads what lies between two offsets of a pack.
    fn read(repository: &Repository, location: &Location, range: Range<u64>) -> Result<Self> {
        let key = layout::pack(&location.pack.pack)?;
        let start = range.start;
        let bytes = repository.store().backend().get_range(&key, range);
        Ok(Stretch { start, bytes: bytes.map_err(|e| e.at(Origin::Repository))? })
    }

    /// Reads all blocks of neighbours.
    ///
    /// # Errors
    /// Those of the backend.
    pub(super) fn of_blocks(repository: &Repository, members: &[Member]) -> Result<Self> {
        let spots = || members.iter().filter_map(Member::spot);
        let start = spots().map(|spot| spot.start).min().unwrap_or(0);
        let end = spots().map(|spot| spot.end).max().unwrap_or(0);
        match members.first().and_then(|member| member.location.as_ref()) {
            Some(location) => Stretch::read(repository, location, start..end),
            None => Err(Error::corrupt("the index knows no copy of the block")),
        }
    }

    /// Reads all blocks of neighbours and their tables at once, where little lies in between, as
    /// in the small pack of a small backup; None elsewhere, and when it fails.
    pub(super) fn of_both(
        repository: &Repository,
        members: &[Member],
        bytes_max: u64,
    ) -> Option<Self> {
        let spots = || members.iter().filter_map(Member::spot);
        let (start, end) = (spots().map(|spot| spot.start).min()?, spots().map(|s| s.end).max()?);
        let tables = table_range(members)?;
        let is_near = tables.start.checked_sub(end)? <= RESTORE_GAP_BYTES;
        let is_short = tables.end - start <= bytes_max;
        let location = members.first()?.location.as_ref().filter(|_| is_near && is_short)?;
        Stretch::read(repository, location, start..tables.end).ok()
    }

    /// Returns a part, to be opened in place.
    fn part(&mut self, offset: u32, length: u32) -> Result<&mut [u8]> {
        let start = u64::from(offset).checked_sub(self.start).map(|start| start as usize);
        let range = start.map(|start| start..start + length as usize);
        let part = range.and_then(|range| self.bytes.get_mut(range));
        part.ok_or_else(|| Error::corrupt("a pack is shorter than its index says"))
    }

    /// Decodes one block; its blobs are not verified yet.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn decode(
        &mut self,
        repository: &Repository,
        member: &Member,
        table: &Arc<Table>,
        plain: Vec<u8>,
    ) -> Result<Block> {
        let Some(location) = &member.location else {
            return Err(Error::corrupt("the index knows no copy of the block"));
        };
        let sealed = self.part(location.row.offset, location.row.length)?;
        repository.decode_copy(location, Arc::clone(table), sealed, plain)
    }
}

/// Returns the tables of neighbours: out of what was read already, else read together.
pub(super) fn tables(
    repository: &Repository,
    uses: &[Use],
    members: &[Member],
    read: Option<&mut Stretch>,
) -> Vec<Result<Arc<Table>>> {
    let mut together = tables_together(repository, members, read).ok();
    let mut one = |number: usize, member: &Member| {
        let mut own = together.as_mut().and_then(|tables| tables.get_mut(number)?.take());
        let block = uses[member.uses.start].block;
        own.take().map_or_else(|| repository.table(&block), Ok)
    };
    members.iter().enumerate().map(|(number, member)| one(number, member)).collect()
}

/// Returns where in their pack the tables of neighbours stand.
fn table_range(members: &[Member]) -> Option<Range<u64>> {
    let rows = || members.iter().filter_map(|member| Some(&member.location.as_ref()?.row));
    let start = rows().map(|row| u64::from(row.table_offset)).min()?;
    let end = rows().map(|row| u64::from(row.table_offset) + u64::from(row.table_length)).max()?;
    Some(start..end)
}

fn tables_together(
    repository: &Repository,
    members: &[Member],
    read: Option<&mut Stretch>,
) -> Result<Vec<Option<Arc<Table>>>> {
    let range = table_range(members);
    let range = range.filter(|range| range.end - range.start <= RESTORE_READ_BYTES as u64);
    let location = members.first().and_then(|member| member.location.as_ref());
    let Some((location, range)) = location.zip(range) else { return Ok(Vec::new()) };
    let mut own = match &read {
        Some(_) => None,
        None => Some(Stretch::read(repository, location, range)?),
    };
    let Some(stretch) = read.or(own.as_mut()) else { return Ok(Vec::new()) };
    let cipher = repository.pack_cipher(location)?;
    let mut one = |member: &Member| {
        let row = &member.location.as_ref()?.row;
        let sealed = stretch.part(row.table_offset, row.table_length).ok()?;
        let plain = cipher.open(Part::Table, row.number, sealed).ok()?;
        Table::decode(plain, &row.block).ok().map(Arc::new)
    };
    Ok(members.iter().map(&mut one).collect())
}

/// Returns where a run stands in the plaintext of a copy that has all of its places.
///
/// # Errors
/// `Corrupt` when places are missing, or are not as long as the run says.
pub(super) fn stretch_of(block: &Block, one: &Use) -> Result<Range<usize>> {
    let Some(first) = block.table.locate(one.first) else {
        return if one.count == 0 && one.bytes == 0 { Ok(0..0) } else { Err(not_there()) };
    };
    let start = u64::from(first.offset);
    let mut end = start;
    for place in one.first..one.first.saturating_add(one.count) {
        let at = block.table.locate(place).ok_or_else(not_there)?;
        if u64::from(at.offset) != end {
            return Err(not_there());
        }
        end += u64::from(at.length);
    }
    if end - start != one.bytes || end > block.plain.len() as u64 {
        return Err(Error::corrupt("a run is not as long as its entry says").at(Origin::Repository));
    }
    Ok(start as usize..end as usize)
}

/// Returns where a run stands, as `stretch_of` does.
///
/// # Errors
/// Those of `stretch_of`.
pub(crate) fn stretch_of_run(block: &Block, run: &Run) -> Result<Range<usize>> {
    let Run { block: id, first, count, bytes } = *run;
    stretch_of(block, &Use { block: id, first, count, file: 0, offset: 0, bytes })
}

fn not_there() -> Error {
    Error::corrupt("this copy of the block has not all places of a run").at(Origin::Repository)
}

//! Reads blocks and their tables out of packs, from whichever copy is good.
//!
//! A block may have several copies, with one id and maybe other bytes. Each is tried in turn;
//! when none is left the index is loaded anew once, then the failure is reported. What is given
//! out was verified down from the block's id: table against id, blob against the table's name.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::id::PackId;
use crate::base::limits::BLOCK_CACHE_BYTES;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::base::limits::STORED_TABLE_BYTES_MAX;
use crate::base::limits::TABLE_CACHE_ROWS;
use crate::codec::compress;
use crate::codec::crypt::Part;
use crate::format::block::Table;
use crate::format::pack::PackCipher;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::layout;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// What to do where content cannot be read: without `--read-data` neither looks inside packs, and
/// both say that nothing is wrong.
pub const DAMAGE_HINT: &str = "`icecore check --read-data` tells what is damaged, `icecore repair \
                               --read-data --dry-run` what can be done about it";

/// A decoded block. Its blobs are verified when they are asked for.
pub struct Block {
    /// Its table, verified against its id.
    pub table: Arc<Table>,
    /// The plaintext of this copy.
    pub plain: Vec<u8>,
}

impl Block {
    /// Returns one blob, verified against its name.
    ///
    /// # Errors
    /// `Corrupt` when this copy has not the place, or other bytes there.
    pub fn blob(&self, repository: &Repository, place: u32) -> Result<&[u8]> {
        let missing = || Error::corrupt(format!("place {place} is not in this copy of the block"));
        let at = self.table.locate(place).ok_or_else(missing)?;
        let start = at.offset as usize;
        let bytes = self.plain.get(start..start + at.length as usize).ok_or_else(missing)?;
        if repository.name_blob(bytes) != at.blob {
            return Err(Error::corrupt(format!("blob {} has other bytes", at.blob.short())));
        }
        Ok(bytes)
    }
}

/// A cache bounded by weight, oldest out first.
struct Bounded<K, V> {
    entries: HashMap<K, (V, usize)>,
    order: VecDeque<K>,
    weight: usize,
    weight_max: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> Bounded<K, V> {
    fn new(weight_max: usize) -> Self {
        Bounded { entries: HashMap::new(), order: VecDeque::new(), weight: 0, weight_max }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.entries.insert(key.clone(), (value, weight)).is_none() {
            self.order.push_back(key);
            self.weight += weight;
        }
        while self.weight > self.weight_max && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some((_, weight)) = self.entries.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

/// What readers of blocks share.
pub(crate) struct Blocks {
    tables: Mutex<Bounded<BlockId, Arc<Table>>>,
    blocks: Mutex<Bounded<BlockId, Arc<Block>>>,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            tables: Mutex::new(Bounded::new(TABLE_CACHE_ROWS)),
            blocks: Mutex::new(Bounded::new(BLOCK_CACHE_BYTES)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a stretch of a pack that is in memory.
fn part_of(pack: &[u8], offset: u32, length: u32) -> Result<Vec<u8>> {
    let end = (offset as usize).checked_add(length as usize);
    let part = end.and_then(|end| pack.get(offset as usize..end));
    part.map(<[u8]>::to_vec).ok_or_else(|| Error::corrupt("the pack ends before it does"))
}

fn decode_stored(
    location: &Location,
    table: Arc<Table>,
    stored: &[u8],
    mut plain: Vec<u8>,
) -> Result<Block> {
    compress::decompress(stored, location.row.plain_length as usize, &mut plain)?;
    if table.plain_bytes() != plain.len() as u64 {
        return Err(Error::corrupt("block and table do not fit together"));
    }
    Ok(Block { table, plain })
}

impl Repository {
    /// Returns all copies of a block; loads the index if need be.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn locate_block(&self, block: &BlockId) -> Result<Vec<Location>> {
        self.index().ensure(self.store(), self.cache())?;
        Ok(self.index().find(block))
    }

    /// Runs `read` on each copy of a block until one succeeds.
    ///
    /// # Errors
    /// `NotFound` when the index knows no copy; else the failure of the last copy.
    pub fn with_copy<T>(
        &self,
        block: &BlockId,
        read: &mut dyn FnMut(&Location) -> Result<T>,
    ) -> Result<T> {
        let mut failure = None;
        for is_second_look in [false, true] {
            if is_second_look {
                self.index().look_again(self.store(), self.cache())?;
            }
            for location in self.locate_block(block)? {
                match read(&location) {
                    Ok(value) => return Ok(value),
                    Err(e) => failure = Some(e.context(describe(block, &location))),
                }
            }
        }
        let failure = failure.map(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt if e.hint_text().is_none() => {
                e.hint(DAMAGE_HINT)
            }
            _ => e,
        });
        Err(failure.unwrap_or_else(|| {
            let damaged = self.index().damaged();
            let message = match damaged.as_slice() {
                [] => format!("no pack holds block {}", block.short()),
                _ => format!(
                    "no readable pack index names block {}; damaged: {}",
                    block.short(),
                    damaged.join(", ")
                ),
            };
            Error::corrupt(message)
                .hint("`icecore check` says which backups suffer")
                .at(Origin::Repository)
        }))
    }

    /// Returns the table of a block.
    ///
    /// # Errors
    /// Those of [`Repository::with_copy`].
    pub fn table(&self, block: &BlockId) -> Result<Arc<Table>> {
        if let Some(table) = lock(&self.block_caches().tables).get(block) {
            return Ok(table);
        }
        let table = self.with_copy(block, &mut |location| self.read_table(location))?;
        self.remember_table(*block, &table);
        Ok(table)
    }

    /// Says whether a table is in memory.
    pub(crate) fn has_table(&self, block: &BlockId) -> bool {
        lock(&self.block_caches().tables).entries.contains_key(block)
    }

    /// Keeps a table that was just made or read.
    pub(crate) fn remember_table(&self, block: BlockId, table: &Arc<Table>) {
        let weight = table.places() as usize + 1;
        lock(&self.block_caches().tables).insert(block, Arc::clone(table), weight);
    }

    /// Reads the table of one copy.
    ///
    /// # Errors
    /// `Corrupt`; those of the backend.
    pub fn read_table(&self, location: &Location) -> Result<Arc<Table>> {
        let row = &location.row;
        let cipher = self.pack_cipher(location)?;
        let mut sealed =
            self.read_range(&location.pack.pack, row.table_offset, row.table_length)?;
        let plain = cipher.open(Part::Table, row.number, &mut sealed)?;
        Ok(Arc::new(Table::decode(plain, &row.block)?))
    }

    /// Returns the tables of copies that stand in one pack, as they are kept on this machine, or
    /// else read by one request, where they stand close enough; None for one that is not what its
    /// row says.
    ///
    /// # Errors
    /// Those of the backend; `Corrupt` for tables that are spread too far.
    pub(crate) fn tables_of_pack(&self, copies: &[Location]) -> Result<Vec<Option<Arc<Table>>>> {
        let Some(first) = copies.first() else { return Ok(Vec::new()) };
        if let Some(tables) = self.kept_tables(copies) {
            return Ok(tables);
        }
        let ends = |copy: &Location| (copy.row.table_offset, copy.row.table_length);
        let start = copies.iter().map(|copy| ends(copy).0).min().unwrap_or(0);
        let end = copies.iter().map(|copy| u64::from(ends(copy).0) + u64::from(ends(copy).1)).max();
        let length = u32::try_from(end.unwrap_or(0) - u64::from(start)).unwrap_or(u32::MAX);
        if length as usize > STORED_TABLE_BYTES_MAX {
            return Err(Error::corrupt("the tables of a pack are far apart"));
        }
        let mut bytes = self.read_range(&first.pack.pack, start, length)?;
        let cipher = self.pack_cipher(first)?;
        let mut one = |copy: &Location| {
            let from = (copy.row.table_offset - start) as usize;
            let sealed = bytes.get_mut(from..from + copy.row.table_length as usize)?;
            let plain = cipher.open(Part::Table, copy.row.number, sealed).ok()?;
            Table::decode(plain, &copy.row.block).ok().map(Arc::new)
        };
        Ok(copies.iter().map(&mut one).collect())
    }

    pub(super) fn read_range(&self, pack: &PackId, offset: u32, length: u32) -> Result<Vec<u8>> {
        if let Some(bytes) = self.healed(pack)? {
            return part_of(&bytes, offset, length);
        }
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        let read = self.store().backend().get_range(&layout::pack(pack)?, range);
        read.map_err(|e| e.at(Origin::Repository))
    }

    /// Returns the cipher of the pack a copy is in.
    ///
    /// # Errors
    /// `Bug` of the cipher.
    pub fn pack_cipher(&self, location: &Location) -> Result<PackCipher> {
        PackCipher::new(&self.id(), self.store().sealer().keys(), &location.pack.salt)
    }

    /// Opens and decodes the stored bytes of a copy whose table is known. The blobs are not
    /// verified yet.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode_copy(
        &self,
        location: &Location,
        table: Arc<Table>,
        sealed: &mut [u8],
        plain: Vec<u8>,
    ) -> Result<Block> {
        let stored = self.open_copy(location, sealed)?;
        self.decode_opened(location, table, stored, plain)
    }

    /// Opens the stored bytes of a copy in place, and returns what they were compressed to.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn open_copy<'s>(&self, location: &Location, sealed: &'s mut [u8]) -> Result<&'s [u8]> {
        self.pack_cipher(location)?.open(Part::Block, location.row.number, sealed)
    }

    /// Decodes a copy that was opened. The blobs are not verified yet.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode_opened(
        &self,
        location: &Location,
        table: Arc<Table>,
        stored: &[u8],
        plain: Vec<u8>,
    ) -> Result<Block> {
        decode_stored(location, table, stored, plain)
    }

    /// Reads one copy of a block, its own table included.
    ///
    /// # Errors
    /// `Corrupt`; those of the backend.
    pub fn read_copy(&self, location: &Location) -> Result<Block> {
        let table = self.read_table(location)?;
        let mut sealed = self.read_sealed(location)?;
        self.decode_copy(location, table, &mut sealed, Vec::new())
    }

    /// Reads one copy of a block, and returns the compressed bytes it was decoded from as well.
    ///
    /// # Errors
    /// `Corrupt`; those of the backend.
    pub fn read_copy_as_stored(&self, location: &Location) -> Result<(Block, Vec<u8>)> {
        let table = self.read_table(location)?;
        let mut sealed = self.read_sealed(location)?;
        let stored = self.open_copy(location, &mut sealed)?;
        let block = decode_stored(location, table, stored, Vec::new())?;
        let mut kept = self.spare().take();
        kept.extend_from_slice(stored);
        Ok((block, kept))
    }

    /// Takes one copy of a block out of the bytes of its whole pack, as
    /// [`Repository::read_copy_as_stored`] does out of the store.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn copy_in_as_stored(&self, location: &Location, pack: &[u8]) -> Result<(Block, Vec<u8>)> {
        let row = &location.row;
        let cipher = self.pack_cipher(location)?;
        let mut sealed = part_of(pack, row.table_offset, row.table_length)?;
        let plain = cipher.open(Part::Table, row.number, &mut sealed)?;
        let table = Arc::new(Table::decode(plain, &row.block)?);
        let mut sealed = part_of(pack, row.offset, row.length)?;
        let stored = cipher.open(Part::Block, row.number, &mut sealed)?;
        Ok((decode_stored(location, table, stored, Vec::new())?, stored.to_vec()))
    }

    fn read_sealed(&self, location: &Location) -> Result<Vec<u8>> {
        self.read_range(&location.pack.pack, location.row.offset, location.row.length)
    }

    /// Returns a block in which all of `places` are present and verify: from one copy that has
    /// them, or else put together from several.
    ///
    /// # Errors
    /// Those of [`Repository::with_copy`].
    pub fn read_block(&self, block: &BlockId, places: &[(u32, u32)]) -> Result<Arc<Block>> {
        if let Some(cached) = lock(&self.block_caches().blocks).get(block)
            && self.verify_places(&cached, places).is_ok()
        {
            return Ok(cached);
        }
        let from_one = self.with_copy(block, &mut |location| {
            let read = self.read_copy(location)?;
            self.verify_places(&read, places)?;
            Ok(read)
        });
        let read = Arc::new(match from_one {
            Err(e) if e.kind() == ErrorKind::Corrupt || e.kind() == ErrorKind::NotFound => {
                self.put_together(block, places)?.ok_or(e)?
            }
            from_one => from_one?,
        });
        let weight = read.plain.len() + 1024;
        lock(&self.block_caches().blocks).insert(*block, Arc::clone(&read), weight);
        Ok(read)
    }

    /// Gathers places from whichever copies have them: prunes thin copies in different ways, and
    /// damage seldom hits two copies in one place. None when some place is nowhere.
    fn put_together(&self, block: &BlockId, places: &[(u32, u32)]) -> Result<Option<Block>> {
        let wanted = places.iter().flat_map(|(first, count)| *first..first.saturating_add(*count));
        // No block has more, whatever is asked of it.
        if places.iter().any(|(_, count)| *count as usize > BLOCK_PLACES_MAX) {
            return Ok(None);
        }
        let wanted: BTreeSet<u32> = wanted.collect();
        let mut missing = wanted.clone();
        let mut blobs: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut table: Option<Table> = None;
        for location in self.locate_block(block)? {
            if missing.is_empty() {
                break;
            }
            let copy = match self.read_copy(&location) {
                Err(e) if e.kind() == ErrorKind::Corrupt || e.kind() == ErrorKind::NotFound => {
                    continue;
                }
                copy => copy?,
            };
            for place in missing.clone() {
                if let Ok(blob) = copy.blob(self, place) {
                    blobs.insert(place, blob.to_vec());
                    missing.remove(&place);
                }
            }
            table = Some(match table {
                Some(table) => table.with_places_of(&copy.table),
                None => Table::clone(&copy.table),
            });
        }
        let Some(table) = table.filter(|_| missing.is_empty()) else { return Ok(None) };
        let table = Arc::new(table.retain(|place| wanted.contains(&place)));
        Ok(Some(Block { table, plain: blobs.into_values().flatten().collect() }))
    }

    fn verify_places(&self, block: &Block, places: &[(u32, u32)]) -> Result<()> {
        for &(first, count) in places {
            let end = first.checked_add(count).ok_or_else(|| Error::corrupt("a run overflows"))?;
            for place in first..end {
                block.blob(self, place)?;
            }
        }
        Ok(())
    }

    /// Returns one blob by its place.
    ///
    /// # Errors
    /// Those of [`Repository::read_block`].
    pub fn read_blob(&self, block: &BlockId, place: u32) -> Result<Vec<u8>> {
        let read = self.read_block(block, &[(place, 1)])?;
        read.blob(self, place).map(<[u8]>::to_vec)
    }

    /// Says for a writer whether a blob stands at a place of a block, by the block's table.
    ///
    /// # Errors
    /// Those of [`Repository::table`].
    pub fn blob_is_at(&self, blob: &BlobId, block: &BlockId, place: u32) -> Result<bool> {
        Ok(self.table_at_hand(block)?.locate(place).is_some_and(|at| at.blob == *blob))
    }

    /// Says whether a pack is there with its size.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn pack_exists(&self, pack: &PackId, size: u64) -> Result<bool> {
        let there = self.store().backend().stat(&layout::pack(pack)?);
        Ok(there.map_err(|e| e.at(Origin::Repository))? == Some(size))
    }
}

fn describe(block: &BlockId, location: &Location) -> String {
    format!("block {} in pack {}", block.short(), location.pack.pack.short())
}

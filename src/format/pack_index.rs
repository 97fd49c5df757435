//! The stored form of block locations: sorted fixed-width rows, made to be memory-mapped.
//!
//! ```text
//! packs (4) rows (4) heap length (4) 0 (4) lease (16): who put it, zeros for a prune
//! packs      72 each: name (32), size (8), salt (32)
//! rows       96 each, sorted by block, then by pack and offset
//! heap       presence bits of the blocks that are not whole
//! ```
//!
//! A row, little endian: block (32), pack number (4), offset (4), length (4), plain length (4),
//! table offset (4), table length (4), places (4), number in its pack (4), heap offset (4),
//! class (1), hooks (1), flags (1: 1 = not whole), 0 (1), three hooks (8 each).
//!
//! The object is a record frame around these bytes: sealed when encrypted, compressed.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BlockId;
use crate::base::id::LeaseId;
use crate::base::id::PackId;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::limits::BLOCK_COPIES_MAX;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::base::limits::STORED_BLOCK_BYTES_MAX;
use crate::base::limits::STORED_TABLE_BYTES_MAX;
use crate::format::pack::BlockRow;
use crate::format::pack::HOOKS_MAX;
use std::ops::Deref;
use std::ops::Range;

const HEAD_BYTES: usize = 32;
const PACK_BYTES: usize = 72;
const ROW_BYTES: usize = 96;
const NOT_WHOLE: u8 = 1;

/// A pack covered by an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub pack: PackId,
    /// Its size in bytes.
    pub size: u64,
    /// The salt in its head, so that a block is opened without another read.
    pub salt: [u8; 32],
}

/// Encodes the plain bytes of a pack index.
///
/// # Errors
/// `Bug` when a row names a pack that is not in the list.
pub fn encode(lease: LeaseId, packs: &[IndexedPack], rows: &[(u32, &BlockRow)]) -> Result<Vec<u8>> {
    let mut sorted: Vec<&(u32, &BlockRow)> = rows.iter().collect();
    sorted.sort_by_key(|(pack, row)| (row.block, *pack, row.offset));
    let mut bytes =
        Vec::with_capacity(HEAD_BYTES + packs.len() * PACK_BYTES + rows.len() * ROW_BYTES);
    let mut heap = Vec::new();
    bytes.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(lease.as_bytes());
    for pack in packs {
        bytes.extend_from_slice(pack.pack.as_bytes());
        bytes.extend_from_slice(&pack.size.to_le_bytes());
        bytes.extend_from_slice(&pack.salt);
    }
    for (pack, row) in sorted {
        if *pack as usize >= packs.len() || row.hooks.len() > HOOKS_MAX {
            return Err(Error::bug("a pack index row names a pack that is not listed"));
        }
        encode_row(&mut bytes, *pack, row, &mut heap);
    }
    bytes[8..12].copy_from_slice(&(heap.len() as u32).to_le_bytes());
    bytes.append(&mut heap);
    Ok(bytes)
}

fn encode_row(bytes: &mut Vec<u8>, pack: u32, row: &BlockRow, heap: &mut Vec<u8>) {
    bytes.extend_from_slice(row.block.as_bytes());
    let heap_offset = heap.len() as u32;
    heap.extend_from_slice(&row.present);
    for number in [
        pack,
        row.offset,
        row.length,
        row.plain_length,
        row.table_offset,
        row.table_length,
        row.places,
        row.number,
        if row.present.is_empty() { 0 } else { heap_offset },
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let flags = if row.present.is_empty() { 0 } else { NOT_WHOLE };
    bytes.extend_from_slice(&[row.class, row.hooks.len() as u8, flags, 0]);
    for n in 0..HOOKS_MAX {
        bytes.extend_from_slice(&row.hooks.get(n).copied().unwrap_or(0).to_le_bytes());
    }
}

/// A pack index over bytes that somebody holds: memory or a mapped file.
#[derive(Debug)]
pub struct IndexTable<B> {
    bytes: B,
    packs: usize,
    rows: usize,
}

impl<B: Deref<Target = [u8]>> IndexTable<B> {
    /// Checks the shape of the bytes: lengths, order of rows, numbers within their lists.
    ///
    /// # Errors
    /// `Corrupt` when they are no pack index.
    pub fn new(bytes: B) -> Result<Self> {
        let broken = || Error::corrupt("a pack index makes no sense");
        let number = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map(u32::from_le_bytes).map(|n| n as usize).ok_or_else(broken)
        };
        let (packs, rows, heap) = (number(0)?, number(4)?, number(8)?);
        let expected = packs
            .checked_mul(PACK_BYTES)
            .and_then(|n| n.checked_add(rows.checked_mul(ROW_BYTES)?))
            .and_then(|n| n.checked_add(heap)?.checked_add(HEAD_BYTES));
        if number(12)? != 0 || expected != Some(bytes.len()) {
            return Err(broken());
        }
        let table = IndexTable { bytes, packs, rows };
        let mut last = [0_u8; 32];
        let mut copies = 0;
        for n in 0..rows {
            let row = table.row_bytes(n);
            let ordered = n == 0 || row[..32] >= last[..];
            copies = if n > 0 && row[..32] == last[..] { copies + 1 } else { 1 };
            let sound = ordered && copies <= BLOCK_COPIES_MAX && table.row_is_sound(row, heap);
            if !sound {
                return Err(broken());
            }
            last.copy_from_slice(&row[..32]);
        }
        Ok(table)
    }

    fn row_is_sound(&self, row: &[u8], heap: usize) -> bool {
        let places = field(row, 6) as usize;
        let present_fits = row[70] & NOT_WHOLE == 0
            || (field(row, 8) as usize).checked_add(places.div_ceil(8)).is_some_and(|n| n <= heap);
        // A reader allocates what these claim.
        let bounded = field(row, 2) as usize <= STORED_BLOCK_BYTES_MAX
            && field(row, 3) as usize <= BLOCK_BYTES_MAX
            && field(row, 5) as usize <= STORED_TABLE_BYTES_MAX
            && places <= BLOCK_PLACES_MAX;
        let known = (field(row, 0) as usize) < self.packs && row[69] as usize <= HOOKS_MAX;
        known && present_fits && bounded
    }

    /// Returns the bytes it is made of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[cfg(test)]
    pub(crate) fn source(&self) -> &B {
        &self.bytes
    }

    /// Returns how many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the lease it was put under.
    pub fn lease(&self) -> LeaseId {
        let bytes = self.bytes.get(16..32).and_then(|bytes| bytes.try_into().ok());
        LeaseId::new(bytes.unwrap_or([0; 16]))
    }

    /// Goes through the packs it covers.
    pub fn packs(&self) -> impl Iterator<Item = IndexedPack> + '_ {
        (0..self.packs).filter_map(|n| self.pack(n as u32))
    }

    /// Returns pack number `n` of its list.
    pub fn pack(&self, n: u32) -> Option<IndexedPack> {
        let n = usize::try_from(n).ok().filter(|&n| n < self.packs)?;
        let start = HEAD_BYTES + n * PACK_BYTES;
        let bytes = self.bytes.get(start..start + PACK_BYTES)?;
        let size = u64::from_le_bytes(bytes[32..40].try_into().ok()?);
        let salt = bytes[40..].try_into().ok()?;
        Some(IndexedPack { pack: PackId::from_slice(&bytes[..32]).ok()?, size, salt })
    }

    fn row_bytes(&self, n: usize) -> &[u8] {
        let start = HEAD_BYTES + self.packs * PACK_BYTES + n * ROW_BYTES;
        &self.bytes[start..start + ROW_BYTES]
    }

    /// Returns the block of row number `n`.
    pub fn block(&self, n: usize) -> Option<BlockId> {
        let is_there = n < self.rows;
        is_there.then(|| self.row_bytes(n)).and_then(|row| BlockId::from_slice(&row[..32]).ok())
    }

    /// Returns the number of the pack that row number `n` is in, and where its table is there.
    pub fn table(&self, n: usize) -> Option<(u32, Range<u32>)> {
        let row = (n < self.rows).then(|| self.row_bytes(n))?;
        let start = field(row, 4);
        Some((field(row, 0), start..start.checked_add(field(row, 5))?))
    }

    /// Returns row number `n` and the pack it is in.
    pub fn row(&self, n: usize) -> Option<(IndexedPack, BlockRow)> {
        if n >= self.rows {
            return None;
        }
        let bytes = self.row_bytes(n);
        let places = field(bytes, 6);
        let present = if bytes[70] & NOT_WHOLE == 0 {
            Vec::new()
        } else {
            let heap = HEAD_BYTES + self.packs * PACK_BYTES + self.rows * ROW_BYTES;
            let start = heap + field(bytes, 8) as usize;
            self.bytes.get(start..start + (places as usize).div_ceil(8))?.to_vec()
        };
        let hook = |n: usize| {
            let start = 72 + n * 8;
            u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap_or([0; 8]))
        };
        let row = BlockRow {
            block: BlockId::from_slice(&bytes[..32]).ok()?,
            offset: field(bytes, 1),
            length: field(bytes, 2),
            plain_length: field(bytes, 3),
            table_offset: field(bytes, 4),
            table_length: field(bytes, 5),
            places,
            number: field(bytes, 7),
            class: bytes[68],
            present,
            hooks: (0..usize::from(bytes[69])).map(hook).collect(),
        };
        Some((self.pack(field(bytes, 0))?, row))
    }

    /// Returns the number of the first row that is not before a block.
    fn lower_bound(&self, block: &BlockId) -> usize {
        let mut low = 0;
        let mut high = self.rows;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row_bytes(middle)[..32] < block.as_bytes()[..] {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Goes through all copies of a block.
    pub fn find<'a>(
        &'a self,
        block: &'a BlockId,
    ) -> impl Iterator<Item = (IndexedPack, BlockRow)> + 'a {
        (self.lower_bound(block)..self.rows)
            .take_while(|&n| self.row_bytes(n)[..32] == block.as_bytes()[..])
            .filter_map(|n| self.row(n))
    }
}

/// Returns the `n`-th four-byte field of a row, behind the block.
fn field(row: &[u8], n: usize) -> u32 {
    let start = 32 + n * 4;
    u32::from_le_bytes(row[start..start + 4].try_into().unwrap_or([0; 4]))
}

/// Tables for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A row of a block in a pack of [`table`].
    pub(crate) fn row(block: BlockId, number: u32) -> BlockRow {
        BlockRow {
            block,
            offset: 100 + number,
            length: 5,
            plain_length: 50,
            table_offset: 1000,
            table_length: 40,
            places: 20,
            number,
            class: 0,
            present: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// The plain bytes of an object that names these rows of one pack.
    pub(crate) fn table(pack: u8, rows: &[BlockRow]) -> Vec<u8> {
        let packs = [IndexedPack { pack: PackId::new([pack; 32]), size: 5000, salt: [7; 32] }];
        let rows: Vec<_> = rows.iter().map(|row| (0, row)).collect();
        encode(LeaseId::new([1; 16]), &packs, &rows).expect("encodes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8) -> BlockRow {
        BlockRow {
            class: n % 2,
            present: if n.is_multiple_of(2) { Vec::new() } else { vec![n, 255, 1] },
            hooks: (0..u64::from(n % 4)).collect(),
            ..samples::row(BlockId::new([n; 32]), n.into())
        }
    }

    fn sample() -> Vec<u8> {
        samples::table(9, &[row(3), row(1), row(2), row(1)])
    }

    #[test]
    fn rows_come_back_sorted_with_all_copies() {
        let table = IndexTable::new(sample()).expect("sound");
        assert_eq!(table.len(), 4);
        let found: Vec<_> = table.find(&BlockId::new([1; 32])).map(|(_, row)| row).collect();
        assert_eq!(found, [row(1), row(1)]);
        assert_eq!(table.find(&BlockId::new([4; 32])).count(), 0);
        assert_eq!(table.row(3).expect("there").1, row(3));
        assert_eq!(table.packs().count(), 1);
    }

    #[test]
    fn a_row_that_claims_gigabytes_is_refused() {
        for (length, table_length) in [(u32::MAX, 40), (5, u32::MAX)] {
            let row = BlockRow { length, table_length, ..row(1) };
            assert!(IndexTable::new(samples::table(9, &[row])).is_err());
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            assert!(IndexTable::new(bytes[..cut].to_vec()).is_err());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            if let Ok(table) = IndexTable::new(damaged) {
                for n in 0..table.len() {
                    let _ = table.row(n);
                }
            }
        }
    }

    /// Two packs and rows that differ in every field, a block with copies in both among them.
    fn world() -> (Vec<IndexedPack>, Vec<(u32, BlockRow)>) {
        let pack = |n: u8| IndexedPack {
            pack: PackId::new([n; 32]),
            size: u64::from(n) << 40,
            salt: [n + 1; 32],
        };
        let full = |n: u8, places: u32, present: Vec<u8>| BlockRow {
            block: BlockId::new([n; 32]),
            offset: 0x0100_0000 + u32::from(n),
            length: 0x0002_0000 + u32::from(n),
            plain_length: 0x0003_0000 + u32::from(n),
            table_offset: 0x0400_0000 + u32::from(n),
            table_length: 0x0005_0000 + u32::from(n),
            places,
            number: 0x0600_0000 + u32::from(n),
            class: n % 2,
            present,
            hooks: (0..u64::from(n % 4)).map(|hook| (hook + 1) << 50 | u64::from(n)).collect(),
        };
        let rows = vec![
            (0, full(2, 17, vec![0xf0, 0x0f, 1])),
            (1, full(2, 17, Vec::new())),
            (1, full(5, 3, vec![2])),
            (0, full(7, 900, Vec::new())),
            (1, full(9, 9, vec![1, 1])),
        ];
        (vec![pack(0xa0), pack(0xb0)], rows)
    }

    fn encoded(packs: &[IndexedPack], rows: &[(u32, BlockRow)]) -> Vec<u8> {
        let rows: Vec<_> = rows.iter().map(|(pack, row)| (*pack, row)).collect();
        encode(LeaseId::new([1; 16]), packs, &rows).expect("encodes")
    }

    #[test]
    fn every_row_and_every_pack_comes_back_in_full() {
        let (packs, rows) = world();
        for count in 0..=rows.len() {
            let (rows, absent) = rows.split_at(count);
            let mut shuffled = rows.to_vec();
            shuffled.reverse();
            let table = IndexTable::new(encoded(&packs, &shuffled)).expect("sound");
            assert_eq!((table.len(), table.is_empty()), (count, count == 0));
            assert_eq!(table.lease(), LeaseId::new([1; 16]));
            assert_eq!(table.packs().collect::<Vec<_>>(), packs);
            assert_eq!((table.pack(1), table.pack(2)), (Some(packs[1]), None));
            let whole = |(pack, row): &(u32, BlockRow)| (packs[*pack as usize], row.clone());
            for (n, row) in rows.iter().enumerate() {
                assert_eq!(table.row(n), Some(whole(row)));
                assert_eq!(table.block(n), Some(row.1.block));
                let copies = rows.iter().filter(|other| other.1.block == row.1.block).map(whole);
                let found: Vec<_> = table.find(&row.1.block).collect();
                assert_eq!(found, copies.collect::<Vec<_>>());
            }
            assert_eq!((table.row(count), table.block(count)), (None, None));
            for n in [0, 1, 3, 6, 8, 0xff] {
                assert_eq!(table.find(&BlockId::new([n; 32])).count(), 0, "{n} of {count}");
            }
            for (_, row) in
                absent.iter().filter(|row| rows.iter().all(|r| r.1.block != row.1.block))
            {
                assert_eq!(table.find(&row.block).count(), 0);
            }
        }
    }

    #[test]
    fn an_index_of_whole_blocks_needs_no_heap() {
        let (packs, rows) = world();
        let whole = |(pack, row): (u32, BlockRow)| (pack, BlockRow { present: Vec::new(), ..row });
        let rows: Vec<_> = rows.into_iter().map(whole).collect();
        let bytes = encoded(&packs, &rows);
        assert_eq!(bytes.len(), HEAD_BYTES + 2 * PACK_BYTES + rows.len() * ROW_BYTES);
        let table = IndexTable::new(bytes).expect("sound");
        assert_eq!(table.row(4).map(|(_, row)| row), Some(rows[4].1.clone()));
    }

    #[test]
    fn a_row_of_no_pack_or_with_too_many_hooks_is_not_written() {
        let (packs, rows) = world();
        let hooks = |count: u64| BlockRow { hooks: (0..count).collect(), ..row(1) };
        let write =
            |pack: u32, row: &BlockRow| encode(LeaseId::new([1; 16]), &packs, &[(pack, row)]);
        assert!(write(1, &rows[0].1).is_ok());
        assert!(write(2, &rows[0].1).is_err());
        assert!(write(3, &rows[0].1).is_err());
        let most = HOOKS_MAX as u64;
        assert!(write(1, &hooks(most)).is_ok());
        assert!(write(1, &hooks(most + 1)).is_err());
        assert!(write(1, &hooks(most + 2)).is_err());
    }

    #[test]
    fn a_row_claims_no_more_than_a_reader_bears() {
        let packs = world().0;
        type Change = fn(&mut BlockRow);
        let changes: [(&str, Change, Change); 4] = [
            (
                "stored length",
                |row| row.length = STORED_BLOCK_BYTES_MAX as u32,
                |row| row.length += 1,
            ),
            (
                "length",
                |row| row.plain_length = BLOCK_BYTES_MAX as u32,
                |row| row.plain_length += 1,
            ),
            (
                "length of its table",
                |row| row.table_length = STORED_TABLE_BYTES_MAX as u32,
                |row| row.table_length += 1,
            ),
            ("places", |row| row.places = BLOCK_PLACES_MAX as u32, |row| row.places += 1),
        ];
        for (what, most, more) in changes {
            let mut row = BlockRow { present: Vec::new(), ..row(1) };
            most(&mut row);
            assert!(IndexTable::new(encoded(&packs, &[(0, row.clone())])).is_ok(), "{what}");
            more(&mut row);
            assert!(IndexTable::new(encoded(&packs, &[(0, row)])).is_err(), "{what}");
        }
    }

    /// What the encoder refuses to write, and what no length gives away.
    #[test]
    fn a_row_that_points_outside_is_refused() {
        let (packs, rows) = world();
        let bytes = encoded(&packs, &rows[2..3]);
        let row = HEAD_BYTES + packs.len() * PACK_BYTES;
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            IndexTable::new(bytes)
        };
        assert!(with(row + 32, 0).is_ok(), "the pack it is in");
        assert!(with(row + 32, 2).is_err(), "a pack behind the last");
        assert!(with(row + 32, 3).is_err(), "a pack behind the last");
        assert!(with(row + 64, 0).is_ok(), "where its bits are");
        assert!(with(row + 64, 1).is_err(), "bits that reach behind the heap");
        assert!(with(row + 56, 8).is_ok(), "places that one byte tells of");
        assert!(with(row + 56, 9).is_err(), "places that need a byte more");
        assert!(with(row + 69, 3).is_ok(), "as many hooks as fit");
        assert!(with(row + 69, 4).is_err(), "more hooks than fit");
        assert!(with(12, 1).is_err(), "what is kept for later");
    }

    #[test]
    fn rows_are_in_order_and_copies_are_few() {
        let packs = world().0;
        let copy = |n: u32| (0, BlockRow { offset: 100 + n, ..row(2) });
        let copies: Vec<_> = (0..=BLOCK_COPIES_MAX as u32).map(copy).collect();
        assert!(IndexTable::new(encoded(&packs, &copies[1..])).is_ok());
        assert!(IndexTable::new(encoded(&packs, &copies)).is_err());
        let twice = [&copies[1..], &[(0, row(4))], &[(0, row(4))]].concat();
        assert!(IndexTable::new(encoded(&packs, &twice)).is_ok(), "each block is counted anew");
        let mut bytes = encoded(&packs, &[(0, row(2)), (0, row(4))]);
        bytes[HEAD_BYTES + 2 * PACK_BYTES..][..32].fill(5);
        assert!(IndexTable::new(bytes).is_err());
    }
}

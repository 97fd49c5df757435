//! A pack: blocks, then their tables, then the footer; how it is read without its pack index.
//!
//! ```text
//! frame head (16)   kind pack, flag sealed when encrypted
//! salt (32)         random, so that no pack's name ever comes twice; derives the pack's key
//! commitment (32)   to the pack's key; zeros without encryption
//! blocks            method code and bytes, sealed one by one when encrypted
//! tables            sealed one by one
//! footer            record: one row a block, sealed
//! footer length (4) little endian, sealed size
//! checksum (32)     BLAKE3 of everything before; also the pack's name
//! ```
//!
//! Deduplication is not done here, so a pack knows nothing of names: it takes finished blocks.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::id::BlockId;
use crate::base::id::PackId;
use crate::base::id::RepositoryId;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::base::limits::FOOTER_BYTES_TARGET;
use crate::base::planted;
use crate::base::planted::Rule;
use crate::base::sys;
use crate::codec::crypt;
use crate::codec::crypt::Cipher;
use crate::codec::crypt::Part;
use crate::codec::frame;
use crate::codec::frame::ObjectKind;
use crate::codec::key::Keys;
use crate::codec::serial;
use crate::format::block::Table;
use serde::Deserialize;
use serde::Serialize;

/// Bytes before the first block.
pub const PACK_HEAD_BYTES: usize = frame::HEAD_BYTES + 64;
/// Bytes behind the footer.
pub const PACK_TAIL_BYTES: usize = 4 + frame::CHECKSUM_BYTES;
/// How many hooks a block has at most.
pub const HOOKS_MAX: usize = 3;

/// Where a block stands in its pack: a row of the footer, and with the pack's name a row of the
/// pack index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRow {
    /// The block.
    pub block: BlockId,
    /// Offset of its stored bytes in the pack.
    pub offset: u32,
    /// Length of its stored bytes.
    pub length: u32,
    /// Length of its plaintext in this copy.
    pub plain_length: u32,
    /// Offset of its table in the pack.
    pub table_offset: u32,
    /// Stored length of its table.
    pub table_length: u32,
    /// Number of places in its table.
    pub places: u32,
    /// Which number it has in its pack, for the nonce.
    pub number: u32,
    /// What the block holds: 0 content, 1 metadata. Others are kept for later.
    pub class: u8,
    /// One bit a place that is present, or empty when all are.
    #[serde(with = "crate::codec::serial::bytes")]
    pub present: Vec<u8>,
    /// The least few of the names in it by their first eight bytes: where a machine without a
    /// name index looks first.
    pub hooks: Vec<u64>,
}

/// Bytes of a row in a footer, but for what it has of places and hooks: a name, numbers of five
/// bytes, and what says how many there are.
const ROW_BYTES_MAX: usize = BlockId::LENGTH + 7 * 5 + 1 + 2 * 5;

impl BlockRow {
    /// Returns how many bytes it takes in a footer at most.
    pub fn footer_bytes_max(&self) -> usize {
        ROW_BYTES_MAX + self.present.len() + 9 * self.hooks.len()
    }

    /// Says whether `place` is in this copy of the block.
    pub fn has_place(&self, place: u32) -> bool {
        let byte = self.present.get(place as usize / 8);
        place < self.places && byte.is_none_or(|byte| byte >> (place % 8) & 1 == 1)
    }

    /// Returns how many places are in this copy of the block.
    pub fn places_present(&self) -> u32 {
        if self.present.is_empty() {
            return self.places;
        }
        (0..self.places).filter(|place| self.has_place(*place)).count() as u32
    }

    fn check(&self, tables_start: u64, footer_start: u64) -> Result<()> {
        let end = u64::from(self.offset) + u64::from(self.length);
        let table_end = u64::from(self.table_offset) + u64::from(self.table_length);
        let fits = self.offset as usize >= PACK_HEAD_BYTES
            && end <= tables_start
            && u64::from(self.table_offset) >= tables_start
            && table_end <= footer_start
            && self.plain_length as usize <= BLOCK_BYTES_MAX
            && self.places as usize <= BLOCK_PLACES_MAX
            && (self.present.is_empty()
                || self.present.len() == (self.places as usize).div_ceil(8))
            && self.hooks.len() <= HOOKS_MAX;
        if fits { Ok(()) } else { Err(Error::corrupt("a pack's footer makes no sense")) }
    }
}

#[derive(Serialize, Deserialize)]
struct FooterV1 {
    /// Where the tables begin.
    tables_offset: u32,
    blocks: Vec<BlockRow>,
}

/// The key of one pack and what binds its parts to the repository.
pub struct PackCipher {
    cipher: Option<Cipher>,
    associated: Vec<u8>,
}

impl PackCipher {
    /// Makes the cipher of the pack with this salt; without keys nothing is sealed.
    ///
    /// # Errors
    /// `Bug` of the cipher.
    pub fn new(repository: &RepositoryId, keys: Option<&Keys>, salt: &[u8; 32]) -> Result<Self> {
        let mut associated = repository.as_bytes().to_vec();
        associated.extend_from_slice(&[ObjectKind::Pack.code(), ObjectKind::Pack.version()]);
        let cipher = keys.map(|keys| Cipher::new(&keys.pack_key(salt))).transpose()?;
        Ok(PackCipher { cipher, associated })
    }

    fn seal(&self, part: Part, number: u32, bytes: &mut Vec<u8>, start: usize) -> Result<()> {
        match &self.cipher {
            None => Ok(()),
            Some(cipher) => cipher.seal(part, number.into(), &self.associated, bytes, start),
        }
    }

    /// Opens a part of the pack in place.
    ///
    /// # Errors
    /// `Corrupt` when it is not what was sealed there.
    pub fn open<'a>(&self, part: Part, number: u32, bytes: &'a mut [u8]) -> Result<&'a [u8]> {
        match &self.cipher {
            None => Ok(bytes),
            Some(cipher) => cipher.open(part, number.into(), &self.associated, bytes),
        }
    }
}

/// A block ready for a pack: compressed, with its table.
#[derive(Debug)]
pub struct EncodedBlock {
    /// Its id.
    pub id: BlockId,
    /// Its table.
    pub table: Table,
    /// Method code and bytes.
    pub stored: Vec<u8>,
    /// 0 content, 1 metadata.
    pub class: u8,
}

/// A pack being filled in memory.
pub struct PackBuilder {
    bytes: Vec<u8>,
    salt: [u8; 32],
    cipher: PackCipher,
    rows: Vec<BlockRow>,
    tables: Vec<Vec<u8>>,
    tables_bytes: usize,
    /// At most so many bytes of footer.
    footer_bytes: usize,
}

/// A finished pack.
#[derive(Debug)]
pub struct FinishedPack {
    /// Its name.
    pub id: PackId,
    /// The salt in its head.
    pub salt: [u8; 32],
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Its footer's rows.
    pub rows: Vec<BlockRow>,
}

impl PackBuilder {
    /// Starts a pack in a buffer that may be one used before.
    ///
    /// # Errors
    /// `Io` without randomness.
    pub fn new(repository: &RepositoryId, keys: Option<&Keys>, buffer: Vec<u8>) -> Result<Self> {
        let salt = if planted::keeps(Rule::SaltsPacks) { sys::random()? } else { [0; 32] };
        PackBuilder::with_salt(repository, keys, buffer, salt)
    }

    /// Like [`PackBuilder::new`] with a salt that is given: for golden files only, as no salt may
    /// be used twice.
    #[doc(hidden)]
    pub fn with_salt(
        repository: &RepositoryId,
        keys: Option<&Keys>,
        mut buffer: Vec<u8>,
        salt: [u8; 32],
    ) -> Result<Self> {
        let flags = if keys.is_some() { frame::SEALED } else { 0 };
        buffer.clear();
        frame::start_in(&mut buffer, ObjectKind::Pack, flags);
        buffer.extend_from_slice(&salt);
        let commitment = keys.map_or([0; 32], |keys| crypt::commitment(&keys.pack_key(&salt)));
        buffer.extend_from_slice(&commitment);
        Ok(PackBuilder {
            bytes: buffer,
            salt,
            cipher: PackCipher::new(repository, keys, &salt)?,
            rows: Vec::new(),
            tables: Vec::new(),
            tables_bytes: 0,
            footer_bytes: 0,
        })
    }

    /// Adds a block.
    ///
    /// # Errors
    /// `Bug` of the layers below.
    pub fn add(&mut self, block: &EncodedBlock) -> Result<()> {
        let number = self.rows.len() as u32;
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&block.stored);
        self.cipher.seal(Part::Block, number, &mut self.bytes, offset)?;
        let mut table = block.table.encode()?;
        self.cipher.seal(Part::Table, number, &mut table, 0)?;
        let row = BlockRow {
            block: block.id,
            offset: offset as u32,
            length: (self.bytes.len() - offset) as u32,
            plain_length: block.table.plain_bytes() as u32,
            table_offset: 0,
            table_length: table.len() as u32,
            places: block.table.places(),
            number,
            class: block.class,
            present: block.table.presence_bits(),
            hooks: hooks(&block.table),
        };
        self.footer_bytes += row.footer_bytes_max();
        self.rows.push(row);
        self.tables_bytes += table.len();
        self.tables.push(table);
        Ok(())
    }

    /// Returns how many bytes the pack has so far, tables included.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.tables_bytes
    }

    /// Says whether the pack is to be ended: it has so many bytes, or its footer tells of so many
    /// blocks that it becomes large.
    pub fn is_full(&self, pack_bytes: usize) -> bool {
        self.size() >= pack_bytes || self.footer_bytes >= FOOTER_BYTES_TARGET
    }

    /// Says whether no block was added yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Ends the pack.
    ///
    /// # Errors
    /// `Bug` of the layers below.
    pub fn finish(mut self) -> Result<FinishedPack> {
        let tables_offset = self.bytes.len() as u32;
        for (row, table) in self.rows.iter_mut().zip(&self.tables) {
            row.table_offset = self.bytes.len() as u32;
            self.bytes.extend_from_slice(table);
        }
        let footer_start = self.bytes.len();
        let footer = FooterV1 { tables_offset, blocks: self.rows };
        self.bytes.append(&mut serial::encode(&footer)?);
        self.cipher.seal(Part::Footer, 0, &mut self.bytes, footer_start)?;
        let footer_length = (self.bytes.len() - footer_start) as u32;
        self.bytes.extend_from_slice(&footer_length.to_le_bytes());
        let id = PackId::new(frame::finish(&mut self.bytes));
        Ok(FinishedPack { id, salt: self.salt, bytes: self.bytes, rows: footer.blocks })
    }
}

fn hooks(table: &Table) -> Vec<u64> {
    let first_eight =
        |blob: &[u8; 32]| blob.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut names: Vec<u64> =
        table.present().map(|(_, located)| first_eight(located.blob.as_bytes())).collect();
    names.sort_unstable();
    names.truncate(HOOKS_MAX);
    names
}

/// Reads a pack's head and returns the cipher of its parts.
///
/// # Errors
/// `Corrupt` for damage and for a pack of another key; `Unsupported` for a later version.
pub fn open_head(
    pack: &PackId,
    head: &[u8],
    repository: &RepositoryId,
    keys: Option<&Keys>,
) -> Result<PackCipher> {
    let broken = |why: &str| Error::corrupt(format!("pack {} {why}", pack.short()));
    let (_, flags, _) = frame::open_head(ObjectKind::Pack, head, &pack.short())?;
    let salt: &[u8; 32] =
        head.get(16..48).and_then(|s| s.try_into().ok()).ok_or_else(|| broken("is too short"))?;
    let committed: &[u8; 32] =
        head.get(48..80).and_then(|s| s.try_into().ok()).ok_or_else(|| broken("is too short"))?;
    match (keys, flags & frame::SEALED != 0) {
        (None, true) => return Err(broken("is encrypted, this repository is not")),
        (Some(_), false) => return Err(broken("is not encrypted, this repository is")),
        (Some(keys), true) => {
            if !hash::same(&crypt::commitment(&keys.pack_key(salt)), committed) {
                return Err(broken("was sealed with another key"));
            }
        }
        (None, false) => {}
    }
    PackCipher::new(repository, keys, salt)
}

/// Returns where the footer is, given a pack's size and its last [`PACK_TAIL_BYTES`] bytes.
///
/// # Errors
/// `Corrupt` when it cannot be within the pack.
pub fn footer_range(pack: &PackId, size: u64, tail: &[u8]) -> Result<std::ops::Range<u64>> {
    let broken = || Error::corrupt(format!("pack {} has a damaged end", pack.short()));
    let (length, name) = tail.split_first_chunk::<4>().ok_or_else(broken)?;
    if name != pack.as_bytes() {
        return Err(broken());
    }
    let end = size.checked_sub(PACK_TAIL_BYTES as u64).ok_or_else(broken)?;
    let start = end.checked_sub(u64::from(u32::from_le_bytes(*length))).ok_or_else(broken)?;
    if start < PACK_HEAD_BYTES as u64 {
        return Err(broken());
    }
    Ok(start..end)
}

/// Decodes a footer whose bytes begin at `footer_start` of the pack.
///
/// # Errors
/// `Corrupt` when it does not open, decode or make sense.
pub fn decode_footer(
    pack: &PackId,
    cipher: &PackCipher,
    footer: &mut [u8],
    footer_start: u64,
) -> Result<Vec<BlockRow>> {
    let plain = cipher
        .open(Part::Footer, 0, footer)
        .map_err(|e| e.context(format!("footer of pack {}", pack.short())))?;
    let footer: FooterV1 = serial::decode(plain, &format!("the footer of pack {}", pack.short()))?;
    for (number, row) in footer.blocks.iter().enumerate() {
        row.check(footer.tables_offset.into(), footer_start)
            .map_err(|e| e.context(format!("pack {}", pack.short())))?;
        if row.number as usize != number {
            return Err(Error::corrupt(format!("pack {} counts wrongly", pack.short())));
        }
    }
    Ok(footer.blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::BlobId;
    use crate::base::limits::RECORD_BYTES_MAX;
    use crate::format::block::Row;

    fn encoded(n: u8) -> EncodedBlock {
        let blob = BlobId::new([n; 32]);
        let table = Table::new(&[Row { blob, length: 5 }]);
        EncodedBlock { id: table.id(), table, stored: vec![0, n, n, n, n, n], class: 0 }
    }

    fn built(keys: Option<&Keys>) -> (RepositoryId, FinishedPack) {
        let repository = RepositoryId::new([1; 16]);
        let mut builder = PackBuilder::new(&repository, keys, Vec::new()).expect("starts");
        builder.add(&encoded(1)).expect("adds");
        builder.add(&encoded(2)).expect("adds");
        (repository, builder.finish().expect("finishes"))
    }

    #[test]
    fn a_pack_is_read_without_its_index() {
        let keys = Keys::generate().expect("keys");
        for keys in [None, Some(&keys)] {
            let (repository, mut pack) = built(keys);
            let size = pack.bytes.len();
            let cipher = open_head(&pack.id, &pack.bytes, &repository, keys).expect("opens");
            let tail = &pack.bytes[size - PACK_TAIL_BYTES..];
            let at = footer_range(&pack.id, size as u64, tail).expect("a footer");
            let footer = &mut pack.bytes[at.start as usize..at.end as usize];
            let rows = decode_footer(&pack.id, &cipher, footer, at.start).expect("decodes");
            assert_eq!(rows, pack.rows);
            let row = &rows[1];
            let start = row.offset as usize;
            let sealed = &mut pack.bytes[start..start + row.length as usize];
            let block = cipher.open(Part::Block, row.number, sealed).expect("opens");
            assert_eq!(block, [0, 2, 2, 2, 2, 2]);
            let start = row.table_offset as usize;
            let sealed = &mut pack.bytes[start..start + row.table_length as usize];
            let table = cipher.open(Part::Table, row.number, sealed).expect("opens");
            assert_eq!(Table::decode(table, &row.block).expect("decodes"), encoded(2).table);
        }
    }

    #[test]
    fn the_same_content_makes_another_name_each_time() {
        assert_ne!(built(None).1.id, built(None).1.id);
    }

    #[test]
    fn a_pack_of_another_key_is_refused() {
        let keys = Keys::generate().expect("keys");
        let (repository, pack) = built(Some(&keys));
        let other = Keys::generate().expect("keys");
        assert!(open_head(&pack.id, &pack.bytes, &repository, Some(&other)).is_err());
        assert!(open_head(&pack.id, &pack.bytes, &repository, None).is_err());
    }

    #[test]
    fn a_hostile_tail_is_an_error() {
        let (_, pack) = built(None);
        let mut tail = pack.bytes[pack.bytes.len() - PACK_TAIL_BYTES..].to_vec();
        tail[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(footer_range(&pack.id, pack.bytes.len() as u64, &tail).is_err());
        assert!(footer_range(&pack.id, 3, &tail).is_err());
        assert!(footer_range(&pack.id, 300, &tail[..20]).is_err());
    }

    fn row() -> BlockRow {
        BlockRow {
            block: BlockId::new([1; 32]),
            offset: PACK_HEAD_BYTES as u32,
            length: 900,
            plain_length: BLOCK_BYTES_MAX as u32,
            table_offset: PACK_HEAD_BYTES as u32 + 900,
            table_length: 70,
            places: 12,
            number: 0,
            class: 0,
            present: vec![0b1000_0001, 0b1111_0010],
            hooks: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_row_tells_which_places_are_in_its_copy() {
        let there: Vec<u32> = (0..40).filter(|&place| row().has_place(place)).collect();
        assert_eq!(there, [0, 7, 9], "bits behind the last place say nothing");
        assert_eq!(row().places_present(), 3);
        let whole = BlockRow { present: Vec::new(), ..row() };
        let there: Vec<u32> = (0..40).filter(|&place| whole.has_place(place)).collect();
        assert_eq!(there, (0..12).collect::<Vec<u32>>());
        assert_eq!(whole.places_present(), 12);
    }

    #[test]
    fn a_row_stays_within_its_pack_and_within_the_limits() {
        let tables = u64::from(row().table_offset);
        let footer = tables + 70;
        row().check(tables, footer).expect("it just fits");
        let whole = BlockRow { present: Vec::new(), places: BLOCK_PLACES_MAX as u32, ..row() };
        whole.check(tables, footer).expect("it just fits");
        type Change = fn(&mut BlockRow);
        let changes: [(&str, Change); 11] = [
            ("begins in the head", |row| (row.offset, row.length) = (row.offset - 1, 5)),
            ("reaches into the tables", |row| row.length += 1),
            ("has no end", |row| row.length = u32::MAX),
            ("has its table before the tables", |row| row.table_offset -= 1),
            ("has a table that reaches into the footer", |row| row.table_length += 1),
            ("has a table without end", |row| row.table_length = u32::MAX),
            ("is larger than a block", |row| row.plain_length += 1),
            ("has too many places", |row| {
                row.present = Vec::new();
                row.places = BLOCK_PLACES_MAX as u32 + 1;
            }),
            ("says too little of its places", |row| row.present.truncate(1)),
            ("says too much of its places", |row| row.present.push(0)),
            ("has too many hooks", |row| row.hooks.push(4)),
        ];
        for (what, change) in changes {
            let mut row = row();
            change(&mut row);
            assert!(row.check(tables, footer).is_err(), "a row that {what}");
        }
    }

    #[test]
    fn the_size_told_is_where_the_footer_begins() {
        let repository = RepositoryId::new([1; 16]);
        let keys = Keys::generate().expect("keys");
        let old = vec![7; 300];
        let mut builder = PackBuilder::new(&repository, Some(&keys), old).expect("starts");
        assert_eq!((builder.size(), builder.is_empty()), (PACK_HEAD_BYTES, true));
        builder.add(&encoded(1)).expect("adds");
        builder.add(&encoded(2)).expect("adds");
        assert!(!builder.is_empty());
        let size = builder.size() as u64;
        let pack = builder.finish().expect("finishes");
        let end = pack.bytes.len();
        let tail = &pack.bytes[end - PACK_TAIL_BYTES..];
        assert_eq!(footer_range(&pack.id, end as u64, tail).expect("a footer").start, size);
    }

    #[test]
    fn a_pack_of_very_many_blocks_is_full_before_its_footer_is_too_large() {
        let repository = RepositoryId::new([1; 16]);
        for bytes in [0, BLOCK_PLACES_MAX / 8] {
            let mut builder = PackBuilder::new(&repository, None, Vec::new()).expect("starts");
            let mut block = encoded(1);
            if bytes > 0 {
                let row = |n: u32| {
                    let blob = BlobId::new(crate::base::hash::hash(&n.to_le_bytes()));
                    Row { blob, length: 1 }
                };
                let rows: Vec<Row> = (0..BLOCK_PLACES_MAX as u32).map(row).collect();
                block.table = Table::new(&rows).retain(|place| place % 16 == 0);
            }
            while !builder.is_full(usize::MAX) {
                builder.add(&block).expect("adds");
            }
            let pack = builder.finish().expect("a footer that can be read");
            let end = pack.bytes.len();
            let tail = &pack.bytes[end - PACK_TAIL_BYTES..];
            let footer = footer_range(&pack.id, end as u64, tail).expect("a footer");
            let length = (footer.end - footer.start) as usize;
            assert!((FOOTER_BYTES_TARGET / 3..RECORD_BYTES_MAX).contains(&length), "{length}");
        }
    }

    #[test]
    fn hooks_are_the_least_names_that_are_there() {
        let name = |n: u8| Row { blob: BlobId::new([n; 32]), length: 1 };
        let names: Vec<Row> = (0..40).rev().map(name).collect();
        let table = Table::new(&names).retain(|place| place < 38);
        let hook = |n: u8| u64::from_be_bytes([n; 8]);
        assert_eq!(hooks(&table), [hook(2), hook(3), hook(4)]);
        assert_eq!(hooks(&Table::new(&names[39..])), [0]);
        assert!(hooks(&Table::new(&[])).is_empty());
    }

    #[test]
    fn a_footer_lies_behind_the_head() {
        let pack = PackId::new([5; 32]);
        let size = (PACK_HEAD_BYTES + 100 + PACK_TAIL_BYTES) as u64;
        let range = |length: u32| {
            let tail = [&length.to_le_bytes()[..], pack.as_bytes()].concat();
            footer_range(&pack, size, &tail)
        };
        let head = PACK_HEAD_BYTES as u64;
        assert_eq!(range(0).expect("fits"), head + 100..head + 100);
        assert_eq!(range(100).expect("just fits"), head..head + 100);
        assert!(range(101).is_err());
        assert!(range(100 + PACK_HEAD_BYTES as u32).is_err());
    }

    #[test]
    fn a_footer_counts_its_blocks_in_order() {
        let cipher = PackCipher::new(&RepositoryId::new([1; 16]), None, &[0; 32]).expect("makes");
        let pack = PackId::new([5; 32]);
        let first = row();
        let second = BlockRow { number: 1, ..row() };
        let decoded = |rows: &[&BlockRow]| {
            let blocks = rows.iter().map(|&row| row.clone()).collect();
            let footer = FooterV1 { tables_offset: row().table_offset, blocks };
            let mut bytes = serial::encode(&footer).expect("encodes");
            decode_footer(&pack, &cipher, &mut bytes, u64::from(row().table_offset) + 70)
        };
        assert_eq!(decoded(&[&first, &second]).expect("sound"), [first.clone(), second.clone()]);
        assert!(decoded(&[&second, &first]).is_err());
        assert!(decoded(&[&first, &first]).is_err());
        let long = BlockRow { table_length: 71, ..second };
        assert!(decoded(&[&first, &long]).is_err());
    }
}

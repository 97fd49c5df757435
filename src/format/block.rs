//! A block: neighbouring blobs compressed and sealed together; its table and its id.
//!
//! The id is the root of a small tree: BLAKE3 over groups of 16 rows, then over the group
//! hashes. So a block rewritten without its dead blobs keeps its id: a group in which nothing
//! lives any more keeps only its hash. A row is the blob's name and its length; the row of a
//! blob that is gone stays as long as its group has a live one.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::hash;
use crate::base::hash::Digest;
use crate::base::id::BlobId;
use crate::base::id::BlockId;
use crate::base::limits::BLOCK_PLACES_MAX;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::limits::TABLE_GROUP_ROWS;
use crate::codec::serial;
use serde::Deserialize;
use serde::Serialize;

/// Bytes of the short form of a blob's name; the rest of the name is zeros.
///
/// Names are short where they are keyed. Who has no key cannot look for two blobs of one name, and
/// by accident two of 10^11 blobs have the same with a chance of 10^-17. A name without a key is
/// whole: with 16 bytes two files of one name could be made by 2^64 tries.
pub const SHORT_NAME_BYTES: usize = 16;

/// Returns the short form of a name.
pub fn shorten(mut name: Digest) -> BlobId {
    name[SHORT_NAME_BYTES..].fill(0);
    BlobId::new(name)
}

fn is_short(blob: &BlobId) -> bool {
    blob.as_bytes()[SHORT_NAME_BYTES..].iter().all(|&byte| byte == 0)
}

/// One place of a block: a blob's name and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u32,
}

/// The table of a block: one row a place, or only the hash of a group that is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    groups: Vec<Group>,
    places: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    /// Up to 16 rows, each with its offset in the stored plaintext, or None when the blob was
    /// left out of this copy.
    Rows(Vec<(Row, Option<u32>)>),
    /// Nothing of this group is in this copy.
    Dead(Digest),
}

/// Where a blob stands in the plaintext of one copy of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The blob.
    pub blob: BlobId,
    /// Offset in the block's plaintext.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

#[derive(Serialize, Deserialize)]
struct TableV1 {
    places: u32,
    /// Lengths of the rows of live groups, in order.
    lengths: Vec<u32>,
    /// Their names, in order: 16 bytes each when all are short, else 32.
    #[serde(with = "crate::codec::serial::bytes")]
    names: Vec<u8>,
    /// Numbers of dead groups, ascending, and their hashes, 32 bytes each.
    dead_groups: Vec<u32>,
    #[serde(with = "crate::codec::serial::bytes")]
    dead_hashes: Vec<u8>,
    /// One bit a place, least first: 1 where the blob is in this copy. Empty: all are.
    #[serde(with = "crate::codec::serial::bytes")]
    present: Vec<u8>,
}

impl TableV1 {
    fn name_bytes(&self) -> usize {
        let are_short = self.names.len() == self.lengths.len() * SHORT_NAME_BYTES;
        if are_short { SHORT_NAME_BYTES } else { 32 }
    }
}

impl Table {
    /// Makes the table of a new block, in which every place is present.
    pub fn new(rows: &[Row]) -> Self {
        let mut offset = 0;
        let groups = rows
            .chunks(TABLE_GROUP_ROWS)
            .map(|group| {
                let place = |row: &Row| {
                    let start = offset;
                    offset += row.length;
                    (*row, Some(start))
                };
                Group::Rows(group.iter().map(place).collect())
            })
            .collect();
        Table { groups, places: rows.len() as u32 }
    }

    /// Returns the block's id.
    pub fn id(&self) -> BlockId {
        let mut root = hash::Hasher::new_derive("icecore 2026-11-21 block id v1");
        root.update(&self.places.to_le_bytes());
        for group in &self.groups {
            match group {
                Group::Dead(digest) => root.update(digest),
                Group::Rows(rows) => root.update(&hash_group(rows)),
            }
        }
        BlockId::new(root.finish())
    }

    /// Returns how many places the block has, dead ones counted.
    pub fn places(&self) -> u32 {
        self.places
    }

    /// Returns how many bytes of plaintext this copy holds.
    pub fn plain_bytes(&self) -> u64 {
        self.present().map(|(_, located)| u64::from(located.length)).sum()
    }

    /// Returns a place of this copy, or None when the place does not exist or is not present.
    pub fn locate(&self, place: u32) -> Option<Located> {
        let index = usize::try_from(place).ok()?;
        let Group::Rows(rows) = self.groups.get(index / TABLE_GROUP_ROWS)? else { return None };
        let (row, offset) = rows.get(index % TABLE_GROUP_ROWS)?;
        Some(Located { blob: row.blob, offset: (*offset)?, length: row.length })
    }

    /// Goes through the places that are present in this copy, in order.
    pub fn present(&self) -> impl Iterator<Item = (u32, Located)> + '_ {
        (0..self.places).filter_map(|place| Some((place, self.locate(place)?)))
    }

    /// Says whether every place is present.
    pub fn is_whole(&self) -> bool {
        self.present().count() as u64 == u64::from(self.places)
    }

    /// Returns one bit a place, or nothing when all are present: the form of pack indexes.
    pub fn presence_bits(&self) -> Vec<u8> {
        if self.is_whole() {
            return Vec::new();
        }
        let mut bits = vec![0_u8; (self.places as usize).div_ceil(8)];
        for (place, _) in self.present() {
            bits[place as usize / 8] |= 1 << (place % 8);
        }
        bits
    }

    /// Returns the table of a copy that keeps only the places for which `keep` says so.
    pub fn retain(&self, keep: impl Fn(u32) -> bool) -> Table {
        let mut offset = 0;
        let mut place = 0_u32;
        let groups = self.groups.iter().map(|group| match group {
            Group::Dead(digest) => {
                place += TABLE_GROUP_ROWS as u32;
                Group::Dead(*digest)
            }
            Group::Rows(rows) => {
                let kept: Vec<_> = rows
                    .iter()
                    .map(|(row, old)| {
                        let stays = old.is_some() && keep(place);
                        place += 1;
                        let start = stays.then_some(offset);
                        offset += if stays { row.length } else { 0 };
                        (*row, start)
                    })
                    .collect();
                if kept.iter().any(|(_, start)| start.is_some()) {
                    Group::Rows(kept)
                } else {
                    Group::Dead(hash_group(&kept))
                }
            }
        });
        Table { groups: groups.collect(), places: self.places }
    }

    /// Returns the table of a copy that has the places of both of two copies of one block.
    pub fn with_places_of(&self, other: &Table) -> Table {
        let mut offset = 0;
        let mut place = |row: &Row, is_present: bool| {
            let start = is_present.then_some(offset);
            offset += if is_present { row.length } else { 0 };
            (*row, start)
        };
        let groups = self.groups.iter().zip(&other.groups).map(|both| match both {
            (Group::Dead(digest), Group::Dead(_)) => Group::Dead(*digest),
            (Group::Rows(rows), Group::Dead(_)) | (Group::Dead(_), Group::Rows(rows)) => {
                Group::Rows(rows.iter().map(|(row, at)| place(row, at.is_some())).collect())
            }
            (Group::Rows(a), Group::Rows(b)) => {
                let rows = a.iter().zip(b);
                let rows = rows.map(|((row, a), (_, b))| place(row, a.is_some() || b.is_some()));
                Group::Rows(rows.collect())
            }
        });
        Table { groups: groups.collect(), places: self.places }
    }

    /// Returns how many bytes of each name are stored.
    fn name_bytes(&self) -> usize {
        let are_short = self.groups.iter().all(|group| match group {
            Group::Dead(_) => true,
            Group::Rows(rows) => rows.iter().all(|(row, _)| is_short(&row.blob)),
        });
        if are_short { SHORT_NAME_BYTES } else { 32 }
    }

    /// Returns the stored bytes.
    ///
    /// # Errors
    /// `Bug` of the encoder.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = TableV1 {
            places: self.places,
            lengths: Vec::new(),
            names: Vec::new(),
            dead_groups: Vec::new(),
            dead_hashes: Vec::new(),
            present: self.presence_bits(),
        };
        let width = self.name_bytes();
        for (number, group) in self.groups.iter().enumerate() {
            match group {
                Group::Dead(digest) => {
                    stored.dead_groups.push(number as u32);
                    stored.dead_hashes.extend_from_slice(digest);
                }
                Group::Rows(rows) => {
                    for (row, _) in rows {
                        stored.lengths.push(row.length);
                        stored.names.extend_from_slice(&row.blob.as_bytes()[..width]);
                    }
                }
            }
        }
        serial::encode(&stored)
    }

    /// Reads the stored bytes of the table of block `id`, which they must hash to.
    ///
    /// # Errors
    /// `Corrupt` when they do not, or make no sense.
    pub fn decode(bytes: &[u8], id: &BlockId) -> Result<Table> {
        let broken = |why: &str| Error::corrupt(format!("table of block {}: {why}", id.short()));
        let stored: TableV1 = serial::decode(bytes, "a block's table")?;
        let places = stored.places as usize;
        let groups_total = places.div_ceil(TABLE_GROUP_ROWS);
        if places > BLOCK_PLACES_MAX || stored.dead_groups.len() > groups_total {
            return Err(broken("too many places"));
        }
        let bits_fit = stored.present.is_empty() || stored.present.len() == places.div_ceil(8);
        let lists_fit = stored.names.len() == stored.lengths.len() * stored.name_bytes()
            && stored.dead_hashes.len() == stored.dead_groups.len() * 32;
        if !bits_fit || !lists_fit {
            return Err(broken("its parts do not fit together"));
        }
        // Places of no bytes could be named without end by a file that has room for none.
        if !stored.lengths.iter().all(|&length| (1..=CHUNK_BYTES_MAX).contains(&(length as usize)))
        {
            return Err(broken("a blob is empty or too long"));
        }
        let table = assemble(&stored, groups_total).ok_or_else(|| broken("rows are missing"))?;
        let is_as_written = stored.name_bytes() == table.name_bytes();
        if !is_as_written || table.id() != *id || table.presence_bits() != stored.present {
            return Err(broken("it is not the table of this block"));
        }
        Ok(table)
    }
}

fn assemble(stored: &TableV1, groups_total: usize) -> Option<Table> {
    let places = stored.places as usize;
    let mut dead = stored.dead_groups.iter().zip(stored.dead_hashes.chunks_exact(32)).peekable();
    let mut rows = stored.lengths.iter().zip(stored.names.chunks_exact(stored.name_bytes()));
    let mut offset = 0_u32;
    let mut groups = Vec::with_capacity(groups_total);
    for number in 0..groups_total {
        if let Some((_, digest)) = dead.next_if(|(group, _)| **group as usize == number) {
            groups.push(Group::Dead(digest.try_into().ok()?));
            continue;
        }
        let first = number * TABLE_GROUP_ROWS;
        let mut group = Vec::with_capacity(TABLE_GROUP_ROWS);
        for place in first..places.min(first + TABLE_GROUP_ROWS) {
            let (&length, name) = rows.next()?;
            let byte = stored.present.get(place / 8);
            let is_present = byte.is_none_or(|byte| byte >> (place % 8) & 1 == 1);
            let start = is_present.then_some(offset);
            offset = offset.checked_add(if is_present { length } else { 0 })?;
            let mut whole = [0; 32];
            whole[..name.len()].copy_from_slice(name);
            group.push((Row { blob: BlobId::new(whole), length }, start));
        }
        groups.push(Group::Rows(group));
    }
    let used_up = dead.next().is_none() && rows.next().is_none();
    used_up.then_some(Table { groups, places: stored.places })
}

fn hash_group(rows: &[(Row, Option<u32>)]) -> Digest {
    let mut hasher = hash::Hasher::new_derive("icecore 2026-11-21 block table group v1");
    for (row, _) in rows {
        hasher.update(row.blob.as_bytes());
        hasher.update(&row.length.to_le_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count: u32) -> Table {
        let row = |n: u32| Row { blob: BlobId::new(hash::hash(&n.to_le_bytes())), length: n + 1 };
        Table::new(&(0..count).map(row).collect::<Vec<_>>())
    }

    #[test]
    fn short_names_are_stored_short_and_in_one_way_only() {
        let row = |n: u32| Row { blob: shorten(hash::hash(&n.to_le_bytes())), length: n + 1 };
        let table = Table::new(&(0..40).map(row).collect::<Vec<_>>());
        let bytes = table.encode().expect("encodes");
        assert_eq!(Table::decode(&bytes, &table.id()).expect("decodes"), table);
        let whole = |n: u32| Row { blob: BlobId::new(hash::hash(&n.to_le_bytes())), ..row(n) };
        let wide = Table::new(&(0..40).map(whole).collect::<Vec<_>>());
        assert_ne!(wide.id(), table.id());
        assert_eq!(wide.encode().expect("encodes").len(), bytes.len() + 40 * 16);
        // One whole name among short ones makes all whole.
        let mixed: Vec<Row> = (0..40).map(|n| if n == 7 { whole(n) } else { row(n) }).collect();
        let mixed = Table::new(&mixed);
        let bytes = mixed.encode().expect("encodes");
        assert_eq!(Table::decode(&bytes, &mixed.id()).expect("decodes"), mixed);
        // Short names written at full length are refused: a table has one form.
        let names = (0..40).flat_map(|n| *row(n).blob.as_bytes()).collect();
        let lengths = (0..40).map(|n| n + 1).collect();
        let (dead_groups, dead_hashes, present) = (Vec::new(), Vec::new(), Vec::new());
        let stored = TableV1 { places: 40, lengths, names, dead_groups, dead_hashes, present };
        let bytes = serial::encode(&stored).expect("encodes");
        assert!(Table::decode(&bytes, &table.id()).is_err());
    }

    #[test]
    fn tables_go_round_whole_and_thinned() {
        for count in [0, 1, 15, 16, 17, 40] {
            let whole = table(count);
            let bytes = whole.encode().expect("encodes");
            assert_eq!(Table::decode(&bytes, &whole.id()).expect("decodes"), whole);
            let thin = whole.retain(|place| place % 20 == 3);
            assert_eq!(thin.id(), whole.id(), "a thinned block keeps its id");
            let bytes = thin.encode().expect("encodes");
            assert_eq!(Table::decode(&bytes, &whole.id()).expect("decodes"), thin);
        }
    }

    #[test]
    fn a_thinned_copy_holds_what_was_kept_side_by_side() {
        let thin = table(40).retain(|place| place == 3 || place == 35);
        let located: Vec<_> = thin.present().map(|(place, at)| (place, at.offset)).collect();
        assert_eq!(located, [(3, 0), (35, 4)]);
        assert_eq!(thin.plain_bytes(), 4 + 36);
        assert_eq!(thin.locate(4), None);
        assert_eq!(thin.locate(400), None);
    }

    #[test]
    fn a_table_has_one_spelling() {
        let whole = table(40);
        let thin = whole.retain(|place| place < 16).encode().expect("encodes");
        let mut stored: TableV1 = serial::decode(&thin, "x").expect("decodes");
        stored.dead_hashes.push(0);
        let longer = serial::encode(&stored).expect("encodes");
        assert!(Table::decode(&thin, &whole.id()).is_ok());
        assert!(Table::decode(&longer, &whole.id()).is_err());
    }

    #[test]
    fn two_copies_together_have_the_places_of_both() {
        let whole = table(40);
        let thin = |modulo: u32| whole.retain(|place| place < 20 && place % 2 == modulo);
        let both = thin(0).with_places_of(&thin(1));
        assert_eq!(both, whole.retain(|place| place < 20));
        assert_eq!(thin(1).with_places_of(&whole), whole);
        assert_eq!(whole.with_places_of(&thin(1)), whole);
    }

    #[test]
    fn another_table_is_refused() {
        let bytes = table(5).encode().expect("encodes");
        assert!(Table::decode(&bytes, &table(6).id()).is_err());
        for cut in 0..bytes.len() {
            assert!(Table::decode(&bytes[..cut], &table(5).id()).is_err());
        }
    }

    #[test]
    fn a_block_has_as_many_places_as_it_can_and_no_more() {
        let row = Row { blob: BlobId::new([7; 32]), length: 1 };
        for (count, fits) in [(BLOCK_PLACES_MAX, true), (BLOCK_PLACES_MAX + 1, false)] {
            let table = Table::new(&vec![row; count]);
            let bytes = table.encode().expect("encodes");
            assert_eq!(Table::decode(&bytes, &table.id()).is_ok(), fits, "{count} places");
        }
    }

    #[test]
    fn a_table_tells_how_much_its_block_holds() {
        let whole = table(40);
        assert_eq!((whole.places(), whole.plain_bytes()), (40, (1..=40).sum()));
        assert_eq!((whole.is_whole(), whole.presence_bits()), (true, Vec::new()));
        let thin = whole.retain(|place| place == 3 || place == 35);
        assert_eq!((thin.places(), thin.is_whole()), (40, false));
        assert_eq!(thin.presence_bits(), [8, 0, 0, 0, 8]);
    }

    #[test]
    fn a_copy_can_be_thinned_again_down_to_nothing() {
        let whole = table(40);
        let tail = whole.retain(|place| place >= 16);
        assert_eq!(tail.retain(|place| place >= 20), whole.retain(|place| place >= 20));
        assert_eq!(tail.retain(|place| place < 20), whole.retain(|p| (16..20).contains(&p)));
        let nothing = tail.retain(|_| false);
        assert_eq!((nothing.plain_bytes(), nothing.present().count()), (0, 0));
        assert_eq!(nothing.retain(|_| true), nothing, "what is gone stays gone");
        let bytes = nothing.encode().expect("encodes");
        assert_eq!(Table::decode(&bytes, &whole.id()).expect("decodes"), nothing);
    }

    /// Each of these hashes to the right id: only the shape tells.
    #[test]
    fn rows_and_groups_too_many_or_too_few_are_refused() {
        let whole = table(40);
        let thin = whole.retain(|place| place < 16 || place == 20);
        type Change = fn(&mut TableV1);
        let changes: [(&str, Change); 8] = [
            ("one row more", |stored| {
                stored.lengths.push(1);
                stored.names.extend_from_slice(&[1; 32]);
            }),
            ("half a name more", |stored| stored.names.push(0)),
            ("a hash less", |stored| stored.dead_hashes.clear()),
            ("a dead group that is not there", |stored| {
                stored.dead_groups.push(3);
                stored.dead_hashes.extend_from_slice(&[1; 32]);
            }),
            ("a group that is dead twice", |stored| {
                stored.dead_groups.push(2);
                stored.dead_hashes.extend_from_slice(&[1; 32]);
            }),
            ("presence of places that are not there", |stored| stored.present.push(0)),
            ("presence of a place whose group is dead", |stored| {
                if let Some(last) = stored.present.last_mut() {
                    *last |= 0x80;
                }
            }),
            ("no row", |stored| {
                stored.lengths.clear();
                stored.names.clear();
            }),
        ];
        let bytes = thin.encode().expect("encodes");
        assert!(Table::decode(&bytes, &whole.id()).is_ok());
        for (what, change) in changes {
            let mut stored: TableV1 = serial::decode(&bytes, "x").expect("decodes");
            change(&mut stored);
            let bytes = serial::encode(&stored).expect("encodes");
            assert!(Table::decode(&bytes, &whole.id()).is_err(), "{what}");
        }
    }

    #[test]
    fn presence_of_a_whole_block_has_one_spelling() {
        let whole = table(16);
        let bytes = whole.encode().expect("encodes");
        let mut stored: TableV1 = serial::decode(&bytes, "x").expect("decodes");
        stored.present = vec![0xff, 0xff];
        let told = serial::encode(&stored).expect("encodes");
        assert!(Table::decode(&told, &whole.id()).is_err());
    }

    #[test]
    fn a_blob_is_neither_empty_nor_longer_than_a_chunk() {
        for (length, fits) in
            [(0, false), (1, true), (CHUNK_BYTES_MAX, true), (CHUNK_BYTES_MAX + 1, false)]
        {
            let table = Table::new(&[Row { blob: BlobId::new([7; 32]), length: length as u32 }]);
            let bytes = table.encode().expect("encodes");
            assert_eq!(Table::decode(&bytes, &table.id()).is_ok(), fits, "{length} bytes");
        }
    }

    #[test]
    fn every_name_and_every_length_goes_into_the_id() {
        let rows = |changed: Option<usize>, change: fn(&mut Row)| {
            let row = |n: u8| Row { blob: BlobId::new([n; 32]), length: u32::from(n) + 1 };
            let mut rows: Vec<Row> = (0..20).map(row).collect();
            changed.into_iter().for_each(|at| change(&mut rows[at]));
            Table::new(&rows).id()
        };
        let id = rows(None, |_| {});
        for at in 0..20 {
            assert_ne!(rows(Some(at), |row| row.blob = BlobId::new([99; 32])), id, "name {at}");
            assert_ne!(rows(Some(at), |row| row.length += 1), id, "length {at}");
        }
    }
}

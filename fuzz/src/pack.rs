//! Packs: head, tail, footer, tables and blocks of arbitrary bytes, and packs of arbitrary blocks.

use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::hash;
use icecore::base::id::BlobId;
use icecore::base::id::PackId;
use icecore::base::id::RepositoryId;
use icecore::codec::compress;
use icecore::codec::compress::Method;
use icecore::codec::crypt::Part;
use icecore::codec::frame;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::format::block::Row;
use icecore::format::block::Table;
use icecore::format::pack;
use icecore::format::pack::BlockRow;
use icecore::format::pack::EncodedBlock;
use icecore::format::pack::PACK_TAIL_BYTES;
use icecore::format::pack::PackBuilder;
use icecore::format::pack::PackCipher;

use super::places;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "a footer in the clear",
    "a footer that was sealed",
    "a table",
    "a block in the clear",
    "a block that was sealed",
    "a block that is compressed",
    "a block that is not compressed",
];
/// The repository that the packs of the seeds are of.
pub const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);

/// The keys that some of them are sealed with.
pub fn keys() -> Keys {
    Keys::from_master(Wiped::new([7; 32]))
}

fn is_told<T>(done: Result<T>) -> Option<T> {
    if let Err(e) = &done {
        let fits = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
        assert!(fits, "{:?}: {}", e.kind(), e.full_message());
        reach("refused");
    }
    done.ok()
}

/// Reads table and block of a row, down to the plaintext.
fn read_block(bytes: &[u8], row: &BlockRow, cipher: &PackCipher, is_sealed: bool) {
    let slice = |offset: u32, length: u32| {
        bytes[offset as usize..offset as usize + length as usize].to_vec()
    };
    let mut table = slice(row.table_offset, row.table_length);
    if let Some(plain) = is_told(cipher.open(Part::Table, row.number, &mut table))
        && let Some(table) = is_told(Table::decode(plain, &row.block))
    {
        assert_eq!(table.id(), row.block);
        reach("a table");
    }
    let mut stored = slice(row.offset, row.length);
    if let Some(stored) = is_told(cipher.open(Part::Block, row.number, &mut stored)) {
        let mut plain = Vec::new();
        let length = row.plain_length as usize;
        if is_told(compress::decompress(stored, length, &mut plain)).is_some() {
            assert_eq!(plain.len(), length);
            reach(if is_sealed { "a block that was sealed" } else { "a block in the clear" });
            let is_compressed = stored.first() == Some(&Method::Zstd.code());
            reach(match is_compressed {
                true => "a block that is compressed",
                false => "a block that is not compressed",
            });
        }
    }
    assert!(!row.has_place(row.places));
}

/// Reads a pack as a program without its pack index does.
fn read(bytes: &[u8], keys: Option<&Keys>) -> Option<Vec<BlockRow>> {
    let tail = &bytes[bytes.len().checked_sub(PACK_TAIL_BYTES)?..];
    let id = PackId::from_slice(&tail[4..]).ok()?;
    let cipher = is_told(pack::open_head(&id, bytes, &REPOSITORY, keys))?;
    let at = is_told(pack::footer_range(&id, bytes.len() as u64, tail))?;
    let mut footer = bytes[at.start as usize..at.end as usize].to_vec();
    let rows = is_told(pack::decode_footer(&id, &cipher, &mut footer, at.start))?;
    let is_sealed = keys.is_some();
    reach(if is_sealed { "a footer that was sealed" } else { "a footer in the clear" });
    // Rows lie one behind the other, and before the footer.
    let ends = rows.iter().map(|row| u64::from(row.table_offset) + u64::from(row.table_length));
    assert!(ends.max().unwrap_or(0) <= at.start);
    rows.iter().for_each(|row| read_block(bytes, row, &cipher, is_sealed));
    Some(rows)
}

fn build(data: &[u8], keys: Option<&Keys>) {
    let mut builder =
        PackBuilder::with_salt(&REPOSITORY, keys, Vec::new(), [3; 32]).expect("starts");
    for content in data.chunks(100) {
        let blob = BlobId::new(hash::hash(content));
        let table = Table::new(&[Row { blob, length: content.len() as u32 }]);
        let stored = [&[0], content].concat();
        builder.add(&EncodedBlock { id: table.id(), table, stored, class: 0 }).expect("adds");
    }
    let pack = builder.finish().expect("finishes");
    // What was just made is no merit of the seed.
    let reached = places::taken();
    assert_eq!(read(&pack.bytes, keys), Some(pack.rows));
    places::taken();
    reached.into_iter().for_each(reach);
}

/// One execution.
pub fn run(data: &[u8]) {
    let keys = keys();
    read(data, None);
    read(data, Some(&keys));
    // All but the checksum, which is the name, is the fuzzer's.
    if data.len() >= frame::HEAD_BYTES {
        let mut bytes = data.to_vec();
        frame::finish(&mut bytes);
        read(&bytes, None);
        read(&bytes, Some(&keys));
    }
    build(data, None);
    build(data, Some(&keys));
}

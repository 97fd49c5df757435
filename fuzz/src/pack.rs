//! Packs: head, tail, footer, tables and blocks of arbitrary bytes, and packs of arbitrary blocks.

use icecore::base::hash;
use icecore::base::id::BlobId;
use icecore::base::id::PackId;
use icecore::base::id::RepositoryId;
use icecore::codec::compress;
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

const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);

/// Reads a pack as a program without its pack index does, down to the plaintext of its blocks.
fn read(bytes: &[u8], keys: Option<&Keys>) -> Option<Vec<BlockRow>> {
    let tail = &bytes[bytes.len().checked_sub(PACK_TAIL_BYTES)?..];
    let id = PackId::from_slice(&tail[4..]).ok()?;
    let cipher = pack::open_head(&id, bytes, &REPOSITORY, keys).ok()?;
    let at = pack::footer_range(&id, bytes.len() as u64, tail).ok()?;
    let mut footer = bytes[at.start as usize..at.end as usize].to_vec();
    let rows = pack::decode_footer(&id, &cipher, &mut footer, at.start).ok()?;
    for row in &rows {
        let slice = |offset: u32, length: u32| {
            bytes[offset as usize..offset as usize + length as usize].to_vec()
        };
        let mut table = slice(row.table_offset, row.table_length);
        if let Ok(plain) = cipher.open(Part::Table, row.number, &mut table)
            && let Ok(table) = Table::decode(plain, &row.block)
        {
            assert_eq!(table.id(), row.block);
        }
        let mut stored = slice(row.offset, row.length);
        if let Ok(stored) = cipher.open(Part::Block, row.number, &mut stored) {
            let mut plain = Vec::new();
            let length = row.plain_length as usize;
            if compress::decompress(stored, length, &mut plain).is_ok() {
                assert_eq!(plain.len(), length);
            }
        }
        assert!(!row.has_place(row.places));
    }
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
    assert_eq!(read(&pack.bytes, keys), Some(pack.rows));
}

/// One execution.
pub fn run(data: &[u8]) {
    let keys = Keys::from_master(Wiped::new([7; 32]));
    read(data, None);
    read(data, Some(&keys));
    // All but the checksum, which is the name, is the fuzzer's.
    if data.len() >= frame::HEAD_BYTES {
        let mut bytes = data.to_vec();
        frame::finish(&mut bytes);
        read(&bytes, None);
    }
    build(data, None);
    build(data, Some(&keys));
}

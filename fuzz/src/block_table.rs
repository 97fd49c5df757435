//! Tables of blocks: arbitrary bytes, and tables of arbitrary rows that are thinned and edited.

use icecore::base::error::ErrorKind;
use icecore::base::id::BlobId;
use icecore::base::id::BlockId;
use icecore::format::block::Located;
use icecore::format::block::Row;
use icecore::format::block::Table;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "stored", "stored with gaps", "thinned"];

fn decodes_or_not(bytes: &[u8], id: &BlockId) {
    let table = match Table::decode(bytes, id) {
        Ok(table) => table,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            return reach("refused");
        }
    };
    reach(if table.is_whole() { "stored" } else { "stored with gaps" });
    assert_eq!(table.id(), *id);
    assert_eq!(table.encode().expect("what was decoded is encoded"), bytes);
    let ends = table.present().map(|(_, at)| u64::from(at.offset) + u64::from(at.length));
    assert!(ends.max().unwrap_or(0) <= table.plain_bytes());
    assert_eq!(table.locate(table.places()), None);
}

fn rows(bytes: &[u8]) -> Vec<Row> {
    // No place is empty.
    let length = |byte: u8| u32::from(byte) + 1;
    let row = |two: &[u8]| Row { blob: BlobId::new([two[0]; 32]), length: length(two[1]) };
    bytes.chunks_exact(2).map(row).collect()
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((id, table)) = data.split_first_chunk::<32>() else { return };
    decodes_or_not(table, &BlockId::new(*id));

    // The first 32 bytes also say which places stay, and what is edited.
    let whole = Table::new(&rows(table));
    let keeps = |place: u32| id[place as usize / 8 % 32] >> (place % 8) & 1 == 1;
    let thinned = whole.retain(keeps);
    assert_eq!(thinned.id(), whole.id());
    // What was to stay is there, and nothing else; it moves together.
    let row = |(place, at): (u32, Located)| (place, at.blob, at.length);
    let kept = whole.present().filter(|(place, _)| keeps(*place)).map(row);
    assert!(thinned.present().map(row).eq(kept), "other places stay than were to");
    if !thinned.is_whole() && thinned.present().next().is_some() {
        reach("thinned");
    }
    for table in [&whole, &thinned] {
        let mut bytes = table.encode().expect("encodes");
        assert_eq!(Table::decode(&bytes, &whole.id()).expect("decodes"), *table);
        let at = usize::from(id[0]) * 256 + usize::from(id[1]);
        let length = bytes.len();
        bytes[at % length] ^= id[2];
        decodes_or_not(&bytes, &whole.id());
    }
}

//! Pack indexes: arbitrary bytes as the table that is mapped into memory.

use icecore::base::error::ErrorKind;
use icecore::format::pack::BlockRow;
use icecore::format::pack_index;
use icecore::format::pack_index::IndexTable;
use icecore::format::pack_index::IndexedPack;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "read", "a block of which places are gone", "as written"];

fn rows(table: &IndexTable<&[u8]>) -> Vec<(IndexedPack, BlockRow)> {
    (0..table.len()).map(|n| table.row(n).expect("a sound table has its rows")).collect()
}

/// Rows of one block may stand in any order.
fn sorted(rows: &[(IndexedPack, BlockRow)]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}

/// One execution.
pub fn run(data: &[u8]) {
    let table = match IndexTable::new(data) {
        Ok(table) => table,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            return reach("refused");
        }
    };
    let found = rows(&table);
    assert_eq!(table.row(table.len()), None);
    if !found.is_empty() {
        reach("read");
    }
    if found.iter().any(|(_, row)| !row.present.is_empty()) {
        reach("a block of which places are gone");
    }
    let packs: Vec<IndexedPack> = table.packs().collect();
    let number = |pack: &IndexedPack| packs.iter().position(|other| other == pack);
    let numbered: Vec<(u32, &BlockRow)> = found
        .iter()
        .map(|(pack, row)| (number(pack).expect("a pack of the list") as u32, row))
        .collect();
    let bytes = pack_index::encode(table.lease(), &packs, &numbered).expect("encodes");
    let again = IndexTable::new(&bytes[..]).expect("decodes again");
    assert_eq!(again.lease(), table.lease());
    assert_eq!(again.packs().collect::<Vec<_>>(), packs);
    assert_eq!(sorted(&rows(&again)), sorted(&found));
    if bytes == data {
        reach("as written");
    }
}

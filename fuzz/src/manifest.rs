//! Ranges of entries, with and without their companions, and lists of runs.

use icecore::format::range;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;

fn goes_round(rows: &[RangeRow]) {
    let mut builder = RangeBuilder::default();
    for row in rows {
        builder.push(row).expect("what was decoded is in order");
    }
    let Some(encoded) = builder.finish().expect("what was decoded is encoded") else {
        assert!(rows.is_empty());
        return;
    };
    assert_eq!(encoded.rows as usize, rows.len());
    assert_eq!(encoded.first, *rows[0].path());
    let again = range::decode(&encoded.range, Some(&encoded.companion)).expect("decodes again");
    assert_eq!(again, rows);
}

/// One execution. Two bytes tell where the companion begins, behind the range.
pub fn run(data: &[u8]) {
    if let Ok(runs) = range::decode_run_list(data) {
        let bytes = range::encode_run_list(&runs).expect("what was decoded is encoded");
        assert_eq!(range::decode_run_list(&bytes).expect("decodes again"), runs);
    }
    let Some((split, rest)) = data.split_first_chunk::<2>() else { return };
    if let Ok(rows) = range::decode(rest, None) {
        goes_round(&rows);
    }
    let split = usize::from(u16::from_le_bytes(*split)).min(rest.len());
    let (range, companion) = rest.split_at(split);
    if let Ok(rows) = range::decode(range, None) {
        goes_round(&rows);
    }
    if let Ok(rows) = range::decode(range, Some(companion)) {
        goes_round(&rows);
    }
}

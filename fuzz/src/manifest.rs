//! Ranges of entries, with and without their companions, and lists of runs.

use icecore::base::error::ErrorKind;
use icecore::format::range;
use icecore::format::range::RangeBuilder;
use icecore::format::range::RangeRow;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "run list",
    "run list as written",
    "range",
    "range with its companion",
    "as written",
];

/// Returns range and companion as they are written.
fn written(rows: &[RangeRow]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut builder = RangeBuilder::default();
    for row in rows {
        builder.push(row).expect("what was decoded is in order");
    }
    let Some(encoded) = builder.finish().expect("what was decoded is encoded") else {
        assert!(rows.is_empty());
        return None;
    };
    assert_eq!(encoded.rows as usize, rows.len());
    assert_eq!(encoded.first, *rows[0].path());
    let again = range::decode(&encoded.range, Some(&encoded.companion)).expect("decodes again");
    assert_eq!(again, rows);
    Some((encoded.range, encoded.companion))
}

/// Decodes a range.
fn decodes_or_not(range: &[u8], companion: Option<&[u8]>) {
    let rows = match range::decode(range, companion) {
        Ok(rows) => rows,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            return reach("refused");
        }
    };
    let in_order = rows.windows(2).all(|pair| pair[0].path() < pair[1].path());
    assert!(in_order, "rows are sorted, and no path comes twice");
    let Some(again) = written(&rows) else { return };
    let is_as_written = again.0 == range && companion.is_none_or(|it| again.1 == it);
    reach(if companion.is_some() { "range with its companion" } else { "range" });
    if is_as_written && companion.is_some() {
        reach("as written");
    }
    // It may be spelled otherwise than it is written, which is done in one way.
    let rows = range::decode(&again.0, Some(&again.1)).expect("decodes again");
    assert!(written(&rows) == Some(again), "it is written in two ways");
}

/// One execution. Two bytes tell where the companion begins, behind the range.
pub fn run(data: &[u8]) {
    if let Ok(runs) = range::decode_run_list(data) {
        reach("run list");
        let bytes = range::encode_run_list(&runs).expect("what was decoded is encoded");
        assert_eq!(range::decode_run_list(&bytes).expect("decodes again"), runs);
        if bytes == data {
            reach("run list as written");
        }
    }
    let Some((split, rest)) = data.split_first_chunk::<2>() else { return };
    decodes_or_not(rest, None);
    let split = usize::from(u16::from_le_bytes(*split)).min(rest.len());
    let (range, companion) = rest.split_at(split);
    decodes_or_not(range, None);
    decodes_or_not(range, Some(companion));
}

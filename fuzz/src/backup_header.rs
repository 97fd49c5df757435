//! Headers of backups, and lists of ranges.

use icecore::format::backup;

/// One execution.
pub fn run(data: &[u8]) {
    if let Ok(header) = backup::decode(data, "x") {
        let bytes = backup::encode(&header).expect("what was decoded is encoded");
        assert_eq!(backup::decode(&bytes, "x").expect("decodes again"), header);
    }
    if let Ok(ranges) = backup::decode_range_list(data) {
        let bytes = backup::encode_range_list(&ranges).expect("what was decoded is encoded");
        assert_eq!(backup::decode_range_list(&bytes).expect("decodes again"), ranges);
    }
}

//! Headers of backups, and lists of ranges.
#![no_main]

use icecore::format::backup;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = backup::decode(data, "x") {
        let bytes = backup::encode(&header).expect("what was decoded is encoded");
        assert_eq!(backup::decode(&bytes, "x").expect("decodes again"), header);
    }
    if let Ok(ranges) = backup::decode_range_list(data) {
        let bytes = backup::encode_range_list(&ranges).expect("what was decoded is encoded");
        assert_eq!(backup::decode_range_list(&bytes).expect("decodes again"), ranges);
    }
});

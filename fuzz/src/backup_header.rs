//! Headers of backups, and lists of ranges.

use icecore::base::error::ErrorKind;
use icecore::format::backup;
use icecore::format::backup::Body;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] =
    &["refused", "inline", "ranges", "lists", "range list", "range list as written"];

/// One execution. Lists of blocks may be spelled otherwise than they are written.
pub fn run(data: &[u8]) {
    match backup::decode(data, "x") {
        Ok(header) => {
            reach(match header.body {
                Body::Inline(_) => "inline",
                Body::Ranges(_) => "ranges",
                Body::Lists(_) => "lists",
            });
            let bytes = backup::encode(&header).expect("what was decoded is encoded");
            assert_eq!(backup::decode(&bytes, "x").expect("decodes again"), header);
            assert!(
                bytes == data || !matches!(header.body, Body::Inline(_)),
                "it has one spelling"
            );
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
            reach("refused");
        }
    }
    if let Ok(ranges) = backup::decode_range_list(data) {
        reach("range list");
        let bytes = backup::encode_range_list(&ranges).expect("what was decoded is encoded");
        assert_eq!(backup::decode_range_list(&bytes).expect("decodes again"), ranges);
        if bytes == data {
            reach("range list as written");
        }
    }
}

//! Password slots, read and not unlocked: what a hostile one would cost is not the question here.

use icecore::base::error::ErrorKind;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::format::key_file;
use icecore::format::key_file::KeySlot;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "a slot", "a slot in its frame"];

fn opened(bytes: &[u8]) -> Option<KeySlot> {
    let slot = key_file::open(bytes, "x");
    if let Err(e) = &slot {
        let fits = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
        assert!(fits, "{:?}: {}", e.kind(), e.full_message());
        reach("refused");
    }
    slot.ok()
}

/// One execution.
pub fn run(data: &[u8]) {
    if opened(data).is_some() {
        reach("a slot in its frame");
    }
    let framed = |bytes: &[u8]| {
        let mut object = frame::start(ObjectKind::Key, 0);
        object.extend_from_slice(bytes);
        frame::finish(&mut object);
        object
    };
    let object = framed(data);
    if let Some(slot) = opened(&object) {
        reach("a slot");
        assert_eq!(opened(&object).expect("opens again"), slot);
        // It has one spelling: no byte can be added or left out.
        assert_eq!(opened(&framed(&[data, &[0]].concat())), None);
        assert_eq!(opened(&framed(&data[..data.len() - 1])), None);
        assert!(!format!("{slot:?}").is_empty());
    }
}

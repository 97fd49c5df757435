//! Password slots, read and not unlocked: what a hostile one would cost is not the question here.

use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::format::key_file;

/// One execution.
pub fn run(data: &[u8]) {
    let _ = key_file::open(data, "x");
    let framed = |bytes: &[u8]| {
        let mut object = frame::start(ObjectKind::Key, 0);
        object.extend_from_slice(bytes);
        frame::finish(&mut object);
        object
    };
    let object = framed(data);
    if let Ok(slot) = key_file::open(&object, "x") {
        let opened = frame::open(ObjectKind::Key, &object, "x").expect("it was just opened");
        assert_eq!(key_file::open(&framed(opened.body), "x").expect("opens again"), slot);
    }
}

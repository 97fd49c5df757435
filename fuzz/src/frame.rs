//! Frames and sealed records: arbitrary bytes, and arbitrary bytes behind a right checksum.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::id::RepositoryId;
use icecore::base::limits::MIB;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::codec::seal::Sealer;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "a frame",
    "opened plain",
    "opened plain and compressed",
    "opened sealed",
    "opened sealed and compressed",
];
/// The name that objects are sealed for.
pub const OBJECT: &str = "x";

/// Those that open what the seeds hold, without and with keys.
pub fn sealers() -> [Sealer; 2] {
    let keys = Keys::from_master(Wiped::new([7; 32]));
    let id = RepositoryId::new([1; 16]);
    [Sealer::new(id, None), Sealer::new(id, Some(keys))]
}

fn is_told(e: &Error) {
    let fits = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
    assert!(fits, "{:?}: {}", e.kind(), e.full_message());
    reach("refused");
}

fn opens_or_not(bytes: &[u8]) {
    let Some(kind) = frame::peek_kind(bytes) else { return };
    let mut flags = None;
    match frame::open(kind, bytes, OBJECT) {
        Ok(opened) => {
            reach("a frame");
            let mut again = frame::start(kind, opened.flags);
            again[5] = opened.version;
            again.extend_from_slice(opened.body);
            frame::finish(&mut again);
            assert_eq!(again, bytes);
            flags = Some(opened.flags);
        }
        Err(e) => is_told(&e),
    }
    for sealer in sealers() {
        let plain = match sealer.open(kind, OBJECT, bytes, MIB) {
            Ok(plain) => plain,
            Err(e) => {
                is_told(&e);
                continue;
            }
        };
        let flags = flags.expect("what opens has a sound frame");
        // Without keys what says that it is sealed is refused, and the other way round.
        assert_eq!(flags & frame::SEALED != 0, sealer.keys().is_some());
        reach(match (sealer.keys().is_some(), flags & frame::COMPRESSED != 0) {
            (false, false) => "opened plain",
            (false, true) => "opened plain and compressed",
            (true, false) => "opened sealed",
            (true, true) => "opened sealed and compressed",
        });
        assert!(plain.len() <= MIB.max(bytes.len()));
        let sealed = sealer.seal(kind, OBJECT, &plain).expect("what was opened is sealed");
        assert_eq!(sealer.open(kind, OBJECT, &sealed, MIB).expect("opens again"), plain);
    }
}

/// Seals what is arbitrary, and opens it for its place, by its kind and with its key alone.
fn is_bound(data: &[u8]) {
    let [plain, sealed] = sealers();
    for sealer in [&plain, &sealed] {
        let bytes = sealer.seal(ObjectKind::Lease, OBJECT, data).expect("seals");
        assert_eq!(sealer.open(ObjectKind::Lease, OBJECT, &bytes, MIB).expect("opens"), data);
        assert!(sealer.open(ObjectKind::Beat, OBJECT, &bytes, MIB).is_err(), "another kind");
        if sealer.keys().is_some() {
            assert!(sealer.open(ObjectKind::Lease, "y", &bytes, MIB).is_err(), "another place");
            assert!(plain.open(ObjectKind::Lease, OBJECT, &bytes, MIB).is_err(), "no key");
        } else {
            assert!(sealed.open(ObjectKind::Lease, OBJECT, &bytes, MIB).is_err(), "not sealed");
        }
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    opens_or_not(data);
    // The head is the fuzzer's, the length and the checksum are right.
    if data.len() >= frame::HEAD_BYTES {
        let mut bytes = data.to_vec();
        frame::finish(&mut bytes);
        opens_or_not(&bytes);
    }
    is_bound(data);
}

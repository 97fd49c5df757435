//! Frames and sealed records: arbitrary bytes, and arbitrary bytes behind a right checksum.

use icecore::base::id::RepositoryId;
use icecore::base::limits::MIB;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Keys;
use icecore::codec::key::Wiped;
use icecore::codec::seal::Sealer;

fn sealers() -> [Sealer; 2] {
    let keys = Keys::from_master(Wiped::new([7; 32]));
    let id = RepositoryId::new([1; 16]);
    [Sealer::new(id, None), Sealer::new(id, Some(keys))]
}

fn opens_or_not(bytes: &[u8]) {
    let Some(kind) = frame::peek_kind(bytes) else { return };
    if let Ok(opened) = frame::open(kind, bytes, "x") {
        let mut again = frame::start(kind, opened.flags);
        again[5] = opened.version;
        again.extend_from_slice(opened.body);
        frame::finish(&mut again);
        assert_eq!(again, bytes);
    }
    for sealer in sealers() {
        if let Ok(plain) = sealer.open(kind, "x", bytes, MIB) {
            assert!(plain.len() <= MIB.max(bytes.len()));
            let sealed = sealer.seal(kind, "x", &plain).expect("what was opened is sealed");
            assert_eq!(sealer.open(kind, "x", &sealed, MIB).expect("opens again"), plain);
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
    for sealer in sealers() {
        let bytes = sealer.seal(ObjectKind::Lease, "x", data).expect("seals");
        assert_eq!(sealer.open(ObjectKind::Lease, "x", &bytes, MIB).expect("opens"), data);
        assert!(
            sealer.open(ObjectKind::Lease, "y", &bytes, MIB).is_err() || sealer.keys().is_none()
        );
    }
}

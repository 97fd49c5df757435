//! Which objects of an encrypted repository are sealed, by what their heads say: an object that
//! says so and is not is refused by whoever opens it.

use crate::damage::state;
use crate::support::folder::files_below;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use std::collections::BTreeSet;
use std::path::Path;

/// What has no key yet to be sealed with, or leads to one.
const OPEN: [ObjectKind; 2] = [ObjectKind::Config, ObjectKind::Key];
/// Room that is kept aside on a local disk: bytes of chance.
const RESERVE: &str = "reserve";

/// Expects an object to be sealed, unless it is of a kind that is not. Returns the kind.
fn kind_of(name: &str, bytes: &[u8]) -> &'static str {
    let Some(kind) = frame::peek_kind(bytes) else { panic!("{name} is no object") };
    if !OPEN.contains(&kind) {
        assert_ne!(bytes[6] & frame::SEALED, 0, "{name} is a {} that is not sealed", kind.word());
    }
    kind.word()
}

/// Looks at every file of a repository in a folder. Returns which kinds there are.
pub(crate) fn kinds_in(repository: &Path) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    for path in files_below(repository) {
        if path != repository.join(RESERVE) {
            kinds.insert(kind_of(&path.to_string_lossy(), &std::fs::read(&path).unwrap()));
        }
    }
    kinds
}

/// With and without an atomic create: the marks of leases are there only without.
#[test]
fn objects_of_every_kind_are_sealed() {
    let mut kinds = BTreeSet::new();
    for (atomic_create, has_parity) in [(true, true), (false, false)] {
        let state = state::build(atomic_create, true, has_parity);
        for (key, bytes) in state.backend.objects() {
            kinds.insert(kind_of(key.as_str(), &bytes));
        }
    }
    let all: BTreeSet<&str> = ObjectKind::ALL.iter().map(|kind| kind.word()).collect();
    assert_eq!(kinds, all);
}

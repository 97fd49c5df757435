//! Paths of entries: none escapes, and two are ordered as their lists of components are.

use icecore::base::error::ErrorKind;
use icecore::base::path::EntryPath;
use icecore::base::path::compare;
use icecore::base::path::display;
use icecore::engine::address::parse_path;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "deep", "typed", "two", "one within the other"];

fn is_sound(bytes: &[u8], path: &EntryPath) {
    assert_eq!(path.as_bytes(), bytes);
    if path.depth() > 1 {
        reach("deep");
    }
    assert!(path.components().all(|part| part != b"." && part != b".." && !part.contains(&0)));
    let mut again = EntryPath::root();
    for part in path.components() {
        let next = again.join(part).expect("a part of a path is a part");
        assert_eq!(next.parent(), Some(again.clone()));
        assert_eq!(next.relative_to(&again).expect("it is below").as_bytes(), part);
        again = next;
    }
    assert_eq!(again, *path);
    assert_eq!(path.depth(), path.components().count());
    assert_eq!(parse_path(bytes).expect("a path is a path to a person, too"), *path);
}

/// One execution. A NUL byte, which no path holds, stands between two.
pub fn run(data: &[u8]) {
    assert!(!display(data).contains(char::is_control));
    if let Ok(path) = parse_path(data) {
        assert_eq!(parse_path(path.as_bytes()).expect("a path is a path"), path);
        if path.as_bytes() != data {
            reach("typed");
        }
    }
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (one, other) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let paths = [EntryPath::new(one), EntryPath::new(other)];
    for (bytes, path) in [one, other].iter().zip(&paths) {
        match path {
            Ok(path) => is_sound(bytes, path),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::InvalidInput, "{}", e.full_message());
                reach("refused");
            }
        }
    }
    if let [Ok(one), Ok(other)] = &paths {
        assert_eq!(one.cmp(other), one.components().cmp(other.components()));
        assert_eq!(compare(one.as_bytes(), other.as_bytes()), one.cmp(other));
        let mut parts = one.components();
        let is_within = other.components().all(|part| parts.next() == Some(part));
        assert_eq!(one.relative_to(other).is_some(), is_within);
        reach(if is_within && !other.is_root() { "one within the other" } else { "two" });
    }
}

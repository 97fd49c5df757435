//! Where something is in the served folder: what a client's path means, seen from where it stands.
//!
//! `..` is taken off here, by the words alone. That is exact, as no symbolic link is ever
//! followed, and above the served folder there is nothing: its root is its own parent.

use crate::base::limits::PATH_BYTES_MAX;

/// A path from the root of the served folder, as the names on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Vec<u8>>);

impl Place {
    /// Returns what a path means to who stands here; None for one that no file can have.
    pub(super) fn at(&self, path: &[u8]) -> Option<Place> {
        let breaks = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
        if path.iter().any(breaks) {
            return None;
        }
        let mut names = if path.first() == Some(&b'/') { Vec::new() } else { self.0.clone() };
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop();
                }
                name => names.push(name.to_vec()),
            }
        }
        let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
        (bytes <= PATH_BYTES_MAX).then_some(Place(names))
    }

    /// Returns the names on the way.
    pub(super) fn names(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Returns the names on the way to the folder it is in, and its own; None for the root.
    pub(super) fn split(&self) -> Option<(&[Vec<u8>], &[u8])> {
        self.0.split_last().map(|(name, parents)| (parents, name.as_slice()))
    }

    /// Returns it as a client is to see it: from the root on.
    pub(super) fn shown(&self) -> Vec<u8> {
        let mut path = Vec::new();
        for name in &self.0 {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        let shown = |from: &[u8], path: &[u8]| {
            let from = Place::default().at(from).unwrap();
            String::from_utf8(from.at(path).unwrap().shown()).unwrap()
        };
        assert_eq!(shown(b"a/b", b"c"), "/a/b/c");
        assert_eq!(shown(b"a/b", b"/c//d/./e/"), "/c/d/e");
        assert_eq!(shown(b"a/b", b".."), "/a");
        assert_eq!(shown(b"a/b", b"../../../../etc/passwd"), "/etc/passwd");
        assert_eq!(shown(b"a/b", b"/../.."), "/");
        assert_eq!(shown(b"a/b", b"..."), "/a/b/...");
        assert_eq!(shown(b"a", b"\\..\\x"), "/a/\\..\\x");
    }

    #[test]
    fn names_that_break_a_line_are_none() {
        for bad in [&b"a\0b"[..], b"a\rb", b"a\nb"] {
            assert_eq!(Place::default().at(bad), None, "{bad:?}");
        }
        let long = b"a/".repeat(PATH_BYTES_MAX);
        assert_eq!(Place::default().at(&long), None);
        assert!(Place::default().at(b"\xff\xfe").is_some());
    }
}

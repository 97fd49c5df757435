//! Remembers under which path each file with several names was written first.
//!
//! This grows with the number of such files in the snapshot, and with nothing else: 24 bytes
//! and the path each, all paths in one buffer.

use crate::base::path::EntryPath;
use std::collections::HashMap;

/// First names of files that have several.
#[derive(Debug, Default)]
pub(crate) struct Links {
    paths: Vec<u8>,
    firsts: HashMap<u64, (u64, u32)>,
}

impl Links {
    /// Says whether a name of this group was taken for its first.
    pub(crate) fn has(&self, group: u64) -> bool {
        self.firsts.contains_key(&group)
    }

    /// Takes a path for the first name of a group.
    pub(crate) fn remember(&mut self, group: u64, path: &EntryPath) {
        let start = self.paths.len() as u64;
        self.paths.extend_from_slice(path.as_bytes());
        // A path is far shorter than 4 GiB: `PATH_BYTES_MAX`.
        self.firsts.insert(group, (start, path.as_bytes().len() as u32));
    }

    /// Forgets the first name of a group, as it could not be written.
    pub(crate) fn forget(&mut self, group: u64) {
        self.firsts.remove(&group);
    }

    /// Returns the first name of a group.
    pub(crate) fn first(&self, group: u64) -> Option<EntryPath> {
        let (start, length) = *self.firsts.get(&group)?;
        let start = usize::try_from(start).ok()?;
        EntryPath::new(self.paths.get(start..start + length as usize)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_names_are_found_until_they_are_forgotten() {
        let mut links = Links::default();
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        links.remember(7, &path("a/b"));
        links.remember(9, &path("c"));

        assert_eq!(links.first(7), Some(path("a/b")));
        assert_eq!(links.first(9), Some(path("c")));
        links.forget(7);
        assert!(!links.has(7) && links.has(9));
        assert_eq!(links.first(7), None);
    }
}

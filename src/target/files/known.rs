//! What stands in the folders that a restore is at work in, so that it asks for each folder once
//! and not for each file: a round trip each is what a restore to a far server costs.
//!
//! A few folders are known at a time. A restore goes folder by folder, so memory does not grow
//! with the tree. What others change meanwhile in a folder that is known is not seen.

use crate::base::path::EntryPath;
use crate::net::files::Look;
use std::collections::HashMap;

/// So many folders: the one at hand, those above it, and some neighbours.
const FOLDERS_MAX: usize = 32;

/// Folders and what is in them.
#[derive(Default)]
pub(super) struct Known {
    folders: HashMap<Vec<u8>, Folder>,
    uses: u64,
}

struct Folder {
    names: HashMap<Vec<u8>, Look>,
    used: u64,
}

impl Known {
    /// Returns what is known of a path: that nobody knows, that nothing is there, or what is.
    pub(super) fn look(&mut self, path: &EntryPath) -> Option<Option<Look>> {
        self.uses += 1;
        let folder = self.folders.get_mut(path.parent_bytes())?;
        folder.used = self.uses;
        Some(folder.names.get(path.name()).cloned())
    }

    /// Learns all that is in a folder.
    pub(super) fn learn(&mut self, folder: &[u8], names: HashMap<Vec<u8>, Look>) {
        self.uses += 1;
        let is_known = self.folders.contains_key(folder);
        if !is_known && self.folders.len() >= FOLDERS_MAX {
            let oldest = self.folders.iter().min_by_key(|(_, folder)| folder.used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                self.folders.remove(&oldest);
            }
        }
        self.folders.insert(folder.to_vec(), Folder { names, used: self.uses });
    }

    /// Notes what stands at a path from now on.
    pub(super) fn put(&mut self, path: &EntryPath, look: Look) {
        if let Some(folder) = self.folders.get_mut(path.parent_bytes()) {
            folder.names.insert(path.name().to_vec(), look);
        }
    }

    /// Changes what is known of a path, if anything is.
    pub(super) fn change(&mut self, path: &EntryPath, change: impl FnOnce(&mut Look)) {
        let folder = self.folders.get_mut(path.parent_bytes());
        if let Some(look) = folder.and_then(|folder| folder.names.get_mut(path.name())) {
            change(look);
        }
    }

    /// Notes that nothing stands at a path or below it any more.
    pub(super) fn take(&mut self, path: &EntryPath) {
        if let Some(folder) = self.folders.get_mut(path.parent_bytes()) {
            folder.names.remove(path.name());
        }
        let within = |folder: &[u8]| {
            let rest = folder.strip_prefix(path.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.folders.retain(|folder, _| !within(folder));
    }

    /// Forgets a folder, of which nobody knows what is there any more.
    pub(super) fn forget_folder_of(&mut self, path: &EntryPath) {
        self.folders.remove(path.parent_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metadata::Kind;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a path")
    }

    fn look() -> Look {
        Look {
            kind: Kind::File,
            size: Some(1),
            modified: None,
            mode: None,
            owner: None,
            unique: Vec::new(),
        }
    }

    #[test]
    fn of_a_folder_that_was_learned_all_is_known() {
        let mut known = Known::default();
        assert_eq!(known.look(&path("a/b")), None);

        known.learn(b"a", HashMap::from([(b"b".to_vec(), look())]));

        assert_eq!(known.look(&path("a/b")), Some(Some(look())));
        assert_eq!(known.look(&path("a/c")), Some(None));
        known.put(&path("a/c"), look());
        known.change(&path("a/c"), |look| look.size = Some(2));
        assert_eq!(known.look(&path("a/c")).flatten().and_then(|look| look.size), Some(2));
    }

    #[test]
    fn what_is_taken_is_gone_with_all_below_and_neighbours_stay() {
        let mut known = Known::default();
        for folder in ["", "a", "a/b", "ab"] {
            known.learn(folder.as_bytes(), HashMap::new());
        }
        known.put(&path("a"), look());

        known.take(&path("a"));

        assert_eq!(known.look(&path("a")), Some(None));
        assert_eq!((known.look(&path("a/x")), known.look(&path("a/b/x"))), (None, None));
        assert_eq!(known.look(&path("ab/x")), Some(None));
    }

    #[test]
    fn few_folders_are_known_at_a_time() {
        let mut known = Known::default();
        known.learn(b"first", HashMap::new());
        for number in 0..FOLDERS_MAX {
            known.learn(format!("{number}").as_bytes(), HashMap::new());
            assert!(known.look(&path("0/x")).is_some(), "used again and again");
        }
        assert_eq!(known.look(&path("first/x")), None, "used longest ago");
        assert_eq!(known.folders.len(), FOLDERS_MAX);
    }
}

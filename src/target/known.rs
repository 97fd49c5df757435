//! What stands in the folders that a restore to another machine is at work in, so that it asks for
//! each folder once and not for each file: a round trip each is what a restore to a far server
//! costs.
//!
//! A few folders are known at a time, and so many names in all. A restore goes folder by folder, so
//! memory does not grow with the tree. What others change meanwhile in a folder that is known is
//! not seen.

use crate::base::limits::TARGET_NAMES_KNOWN_MAX;
use crate::base::path::EntryPath;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// So many folders: the one at hand, those above it, and some neighbours.
const FOLDERS_MAX: usize = 32;

/// Names of one folder, and what is known of each.
pub(super) type Names<T> = BTreeMap<Vec<u8>, T>;

/// Folders and what is in them.
pub(super) struct Known<T> {
    folders: HashMap<Vec<u8>, Folder<T>>,
    uses: u64,
}

struct Folder<T> {
    names: Names<T>,
    used: u64,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known { folders: HashMap::new(), uses: 0 }
    }
}

impl<T: Clone> Known<T> {
    /// Returns what is known of a path: that nobody knows, that nothing is there, or what is.
    pub(super) fn look(&mut self, path: &EntryPath) -> Option<Option<T>> {
        self.uses += 1;
        let folder = self.folders.get_mut(path.parent_bytes())?;
        folder.used = self.uses;
        Some(folder.names.get(path.name()).cloned())
    }

    /// Returns all that is in a folder; None when nobody knows.
    pub(super) fn names(&self, folder: &[u8]) -> Option<&Names<T>> {
        Some(&self.folders.get(folder)?.names)
    }

    /// Learns all that is in a folder.
    pub(super) fn learn(&mut self, folder: &[u8], names: Names<T>) {
        self.uses += 1;
        self.folders.insert(folder.to_vec(), Folder { names, used: self.uses });
        while self.folders.len() > 1
            && (self.folders.len() > FOLDERS_MAX || self.names_known() > TARGET_NAMES_KNOWN_MAX)
        {
            let oldest = self.folders.iter().min_by_key(|(_, folder)| folder.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { break };
            self.folders.remove(&oldest);
        }
    }

    fn names_known(&self) -> usize {
        self.folders.values().map(|folder| folder.names.len()).sum()
    }

    /// Notes what stands at a path from now on.
    pub(super) fn put(&mut self, path: &EntryPath, what: T) {
        if let Some(folder) = self.folders.get_mut(path.parent_bytes()) {
            folder.names.insert(path.name().to_vec(), what);
        }
    }

    /// Changes what is known of a path, if anything is.
    pub(super) fn change(&mut self, path: &EntryPath, change: impl FnOnce(&mut T)) {
        let folder = self.folders.get_mut(path.parent_bytes());
        if let Some(what) = folder.and_then(|folder| folder.names.get_mut(path.name())) {
            change(what);
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

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a path")
    }

    #[test]
    fn of_a_folder_that_was_learned_all_is_known() {
        let mut known = Known::default();
        assert_eq!(known.look(&path("a/b")), None);

        known.learn(b"a", Names::from([(b"b".to_vec(), 1)]));

        assert_eq!(known.look(&path("a/b")), Some(Some(1)));
        assert_eq!(known.look(&path("a/c")), Some(None));
        known.put(&path("a/c"), 2);
        known.change(&path("a/c"), |what| *what += 1);
        known.change(&path("a/d"), |what| *what += 1);
        let names = Names::from([(b"b".to_vec(), 1), (b"c".to_vec(), 3)]);
        assert_eq!(known.names(b"a"), Some(&names));
        assert_eq!(known.names(b"b"), None);
        known.forget_folder_of(&path("a/x"));
        assert_eq!(known.look(&path("a/b")), None);
    }

    #[test]
    fn what_is_taken_is_gone_with_all_below_and_neighbours_stay() {
        let mut known = Known::default();
        for folder in ["", "a", "a/b", "ab"] {
            known.learn(folder.as_bytes(), Names::new());
        }
        known.put(&path("a"), ());

        known.take(&path("a"));

        assert_eq!(known.look(&path("a")), Some(None));
        assert_eq!((known.look(&path("a/x")), known.look(&path("a/b/x"))), (None, None));
        assert_eq!(known.look(&path("ab/x")), Some(None));
    }

    #[test]
    fn few_folders_are_known_at_a_time() {
        let mut known = Known::<()>::default();
        known.learn(b"first", Names::new());
        for number in 0..FOLDERS_MAX {
            known.learn(format!("{number}").as_bytes(), Names::new());
            assert!(known.look(&path("0/x")).is_some(), "used again and again");
        }
        assert_eq!(known.look(&path("first/x")), None, "used longest ago");
        assert_eq!(known.folders.len(), FOLDERS_MAX);
    }

    #[test]
    fn so_many_names_are_known_and_those_of_the_last_folder_always() {
        let mut known = Known::default();
        let many = |count: usize| (0..count).map(|it| (it.to_le_bytes().to_vec(), ())).collect();
        known.learn(b"a", many(TARGET_NAMES_KNOWN_MAX - 1));
        known.learn(b"b", many(1));
        assert!(known.names(b"a").is_some());
        known.learn(b"c", many(1));
        assert!(known.names(b"a").is_none(), "used longest ago");
        known.learn(b"d", many(TARGET_NAMES_KNOWN_MAX + 1));
        assert_eq!(known.folders.len(), 1);
        assert!(known.names(b"d").is_some());
    }
}

//! What stands in the folders of a bucket that a restore is at work in: listed once, and looked at
//! object by object only where somebody asks, many objects at a time.
//!
//! A few folders are known at a time, and so many names in all. What others change meanwhile in a
//! folder that is known is not seen.

use crate::base::limits::S3_KNOWN_MAX;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::net::s3::objects::Head;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

/// So many folders: the one at hand, those above it, and some neighbours.
const FOLDERS_MAX: usize = 32;

/// What stands under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// Whether keys go on behind it with a slash.
    pub(super) is_folder: bool,
    /// The object with this very key: beside a folder it is one that no path can name.
    pub(super) object: Option<Standing>,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) size: u64,
    pub(super) modified: Option<Timestamp>,
    /// What a look at it showed, if there was one.
    pub(super) head: Option<Arc<Head>>,
}

impl Stand {
    pub(super) fn folder() -> Self {
        Stand { is_folder: true, object: None }
    }

    pub(super) fn file(size: u64) -> Self {
        Stand { is_folder: false, object: Some(Standing { size, ..Standing::default() }) }
    }

    /// Returns the object that stands for a file.
    pub(super) fn as_file(&self) -> Option<&Standing> {
        self.object.as_ref().filter(|_| !self.is_folder)
    }
}

/// Names of one folder.
pub(super) type Names = BTreeMap<Vec<u8>, Stand>;

/// Folders and what is in them.
#[derive(Default)]
pub(super) struct Known {
    folders: HashMap<Vec<u8>, Folder>,
    uses: u64,
}

struct Folder {
    names: Names,
    used: u64,
}

impl Known {
    /// Returns what is known of a path: that nobody knows, that nothing is there, or what is.
    pub(super) fn look(&mut self, path: &EntryPath) -> Option<Option<Stand>> {
        self.uses += 1;
        let folder = self.folders.get_mut(path.parent_bytes())?;
        folder.used = self.uses;
        Some(folder.names.get(path.name()).cloned())
    }

    /// Returns the names in a folder; None when nobody knows.
    pub(super) fn names(&self, folder: &[u8]) -> Option<Vec<Vec<u8>>> {
        Some(self.folders.get(folder)?.names.keys().cloned().collect())
    }

    /// Returns files of a folder, from a name on, that were not looked at yet.
    pub(super) fn unseen(&self, path: &EntryPath, most: usize) -> Vec<Vec<u8>> {
        let Some(folder) = self.folders.get(path.parent_bytes()) else { return Vec::new() };
        let from = (Bound::Included(path.name().to_vec()), Bound::Unbounded);
        let is_unseen = |stand: &Stand| stand.as_file().is_some_and(|it| it.head.is_none());
        let names = folder.names.range::<Vec<u8>, _>(from);
        let names = names.take(most).filter(|(_, stand)| is_unseen(stand));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Learns all that is in a folder.
    pub(super) fn learn(&mut self, folder: &[u8], names: Names) {
        self.uses += 1;
        self.folders.insert(folder.to_vec(), Folder { names, used: self.uses });
        let total = |folders: &HashMap<Vec<u8>, Folder>| -> usize {
            folders.values().map(|folder| folder.names.len()).sum()
        };
        while self.folders.len() > 1
            && (self.folders.len() > FOLDERS_MAX || total(&self.folders) > S3_KNOWN_MAX)
        {
            let oldest = self.folders.iter().min_by_key(|(_, folder)| folder.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { break };
            self.folders.remove(&oldest);
        }
    }

    /// Notes what stands at a path from now on.
    pub(super) fn put(&mut self, path: &EntryPath, stand: Stand) {
        if let Some(folder) = self.folders.get_mut(path.parent_bytes()) {
            folder.names.insert(path.name().to_vec(), stand);
        }
    }

    /// Notes what a look at an object showed.
    pub(super) fn saw(&mut self, path: &EntryPath, head: &Arc<Head>) {
        let folder = self.folders.get_mut(path.parent_bytes());
        let stand = folder.and_then(|folder| folder.names.get_mut(path.name()));
        if let Some(object) = stand.and_then(|stand| stand.object.as_mut()) {
            object.size = head.size;
            object.head = Some(Arc::clone(head));
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

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| (name.as_bytes().to_vec(), Stand::file(1))).collect()
    }

    #[test]
    fn of_a_folder_that_was_learned_all_is_known() {
        let mut known = Known::default();
        assert_eq!(known.look(&path("a/b")), None);

        known.learn(b"a", names(&["b"]));

        assert_eq!(known.look(&path("a/b")), Some(Some(Stand::file(1))));
        assert_eq!(known.look(&path("a/c")), Some(None));
        known.put(&path("a/c"), Stand::folder());
        assert_eq!(known.names(b"a"), Some(vec![b"b".to_vec(), b"c".to_vec()]));
        known.take(&path("a"));
        assert_eq!(known.look(&path("a/b")), None);
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let mut known = Known::default();
        known.learn(b"", names(&["a", "b", "c", "d"]));
        known.put(&path("c"), Stand::folder());
        known.saw(&path("b"), &Arc::new(Head { size: 9, ..Head::default() }));

        assert_eq!(known.unseen(&path("b"), 9), [b"d"]);
        assert_eq!(known.unseen(&path("a"), 9), [b"a", b"d"]);
        assert_eq!(known.unseen(&path("a"), 1), [b"a"]);
        let seen = known.look(&path("b")).flatten().expect("there");
        assert_eq!(seen.as_file().map(|it| (it.size, it.head.is_some())), Some((9, true)));
    }

    #[test]
    fn few_folders_are_known_at_a_time() {
        let mut known = Known::default();
        for number in 0..=FOLDERS_MAX {
            known.learn(format!("{number}").as_bytes(), Names::new());
            assert!(known.look(&path("0/x")).is_some(), "used again and again");
        }
        assert_eq!(known.look(&path("1/x")), None, "used longest ago");
        assert_eq!(known.folders.len(), FOLDERS_MAX);
    }
}

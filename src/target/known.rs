//! What stands in the folders that a restore to another machine is at work in, so that it asks for
//! each folder once and not for each file: a round trip each is what a restore to a far server
//! costs.
//!
//! A few folders are known at a time, and so many names in all. A restore goes folder by folder, so
//! memory does not grow with the tree: what is put into a folder beyond that is not remembered, and
//! asked for by itself if anybody wants to know. Only all that a server lists of the last folder and
//! of those above it is remembered in any case. What others change meanwhile in a folder that is
//! known is not seen.

use crate::base::limits::TARGET_NAMES_KNOWN_MAX;
use crate::base::path::EntryPath;
use crate::target::forgotten::Forgotten;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// So many folders: the one at hand, those above it, and some neighbours.
const FOLDERS_MAX: usize = 32;

/// Names of one folder, and what is known of each.
pub(super) type Names<T> = BTreeMap<Vec<u8>, T>;

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word<T> {
    /// Its folder is not known: it is to be listed.
    Unknown,
    /// Its folder is, and of this name nobody knows: most likely it was put there and is not
    /// remembered, or the server does not list the folder. It is to be asked for by itself.
    Alone,
    /// Nothing is there.
    Nothing,
    /// This is there.
    There(T),
}

/// Folders and what is in them.
pub(super) struct Known<T> {
    folders: HashMap<Vec<u8>, Folder<T>>,
    uses: u64,
    names_max: usize,
    /// What was put and is not remembered.
    forgotten: Forgotten,
}

struct Folder<T> {
    names: Names<T>,
    rest: Rest,
    used: u64,
}

/// What is in a folder beside the names that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// What was put there and is not remembered.
    Forgotten,
    /// Nobody knows.
    Anything,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        let (folders, forgotten) = (HashMap::new(), Forgotten::default());
        Known { folders, uses: 0, names_max: TARGET_NAMES_KNOWN_MAX, forgotten }
    }
}

impl<T: Clone> Known<T> {
    /// Remembers other than the usual number of names.
    pub(super) fn with_names_max(names_max: usize) -> Self {
        Known { names_max, ..Known::default() }
    }

    /// Returns what is known of a path.
    pub(super) fn look(&mut self, path: &EntryPath) -> Word<T> {
        self.uses += 1;
        let Some(folder) = self.folders.get_mut(path.parent_bytes()) else { return Word::Unknown };
        folder.used = self.uses;
        match (folder.names.get(path.name()), folder.rest) {
            (Some(what), _) => Word::There(what.clone()),
            (None, Rest::Anything) => Word::Alone,
            (None, Rest::Forgotten) if self.forgotten.may_have(path.as_bytes()) => Word::Alone,
            (None, Rest::Forgotten | Rest::Nothing) => Word::Nothing,
        }
    }

    /// Returns all that is in a folder; None when nobody knows.
    pub(super) fn names(&self, folder: &[u8]) -> Option<&Names<T>> {
        self.folders.get(folder).filter(|it| it.rest == Rest::Nothing).map(|it| &it.names)
    }

    /// Returns what is remembered of a folder.
    pub(super) fn some_names(&self, folder: &[u8]) -> Option<&Names<T>> {
        self.folders.get(folder).map(|it| &it.names)
    }

    /// Learns all that is in a folder.
    pub(super) fn learn(&mut self, folder: &[u8], names: Names<T>) {
        self.insert(folder, names, Rest::Nothing);
    }

    /// Learns that a folder cannot be listed, so that nobody tries for each name in it.
    pub(super) fn learn_unlisted(&mut self, folder: &[u8]) {
        self.insert(folder, Names::new(), Rest::Anything);
    }

    fn insert(&mut self, folder: &[u8], names: Names<T>, rest: Rest) {
        self.uses += 1;
        let learned = Folder { names, rest, used: self.uses };
        self.folders.insert(folder.to_vec(), learned);
        if self.folders.len() > FOLDERS_MAX {
            self.forget_oldest(|_| true);
        }
        let mut has_room = true;
        while has_room && self.names_known() > self.names_max {
            has_room = self.forget_oldest(|it| !is_within(folder, it));
        }
    }

    /// Forgets the folder that was used longest ago of those that may go, if there is one.
    fn forget_oldest(&mut self, may_go: impl Fn(&[u8]) -> bool) -> bool {
        let those = self.folders.iter().filter(|(path, _)| may_go(path));
        let oldest = those.min_by_key(|(_, folder)| folder.used).map(|(path, _)| path.clone());
        oldest.is_some_and(|oldest| self.folders.remove(&oldest).is_some())
    }

    fn names_known(&self) -> usize {
        self.folders.values().map(|folder| folder.names.len()).sum()
    }

    /// Notes what stands at a path from now on, as far as there is room. Folders that a restore is
    /// done with make room, and not those above: to list one of these again for each folder in it
    /// would cost more than to ask for a name.
    pub(super) fn put(&mut self, path: &EntryPath, what: T) {
        let at = path.parent_bytes();
        let Some(folder) = self.folders.get_mut(at) else { return };
        if let Some(known) = folder.names.get_mut(path.name()) {
            *known = what;
            return;
        }
        let mut has_room = true;
        while has_room && self.names_known() >= self.names_max {
            has_room = self.forget_oldest(|folder| !is_within(at, folder));
        }
        let Some(folder) = self.folders.get_mut(at) else { return };
        if has_room {
            folder.names.insert(path.name().to_vec(), what);
            return;
        }
        if folder.rest == Rest::Nothing {
            folder.rest = Rest::Forgotten;
        }
        self.forgotten.put(path.as_bytes());
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
        self.folders.retain(|folder, _| !is_within(folder, path.as_bytes()));
    }

    /// Forgets a folder, of which nobody knows what is there any more.
    pub(super) fn forget_folder_of(&mut self, path: &EntryPath) {
        self.folders.remove(path.parent_bytes());
    }
}

/// Says whether a path is that of a folder or of something in it; the root's is empty.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|it| folder.is_empty() || it.is_empty() || it.starts_with(b"/"))
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
        assert_eq!(known.look(&path("a/b")), Word::Unknown);

        known.learn(b"a", Names::from([(b"b".to_vec(), 1)]));

        assert_eq!(known.look(&path("a/b")), Word::There(1));
        assert_eq!(known.look(&path("a/c")), Word::Nothing);
        known.put(&path("a/c"), 2);
        known.change(&path("a/c"), |what| *what += 1);
        known.change(&path("a/d"), |what| *what += 1);
        let names = Names::from([(b"b".to_vec(), 1), (b"c".to_vec(), 3)]);
        assert_eq!(known.names(b"a"), Some(&names));
        assert_eq!(known.names(b"b"), None);
        known.forget_folder_of(&path("a/x"));
        assert_eq!(known.look(&path("a/b")), Word::Unknown);
    }

    #[test]
    fn what_is_taken_is_gone_with_all_below_and_neighbours_stay() {
        let mut known = Known::default();
        for folder in ["", "a", "a/b", "ab"] {
            known.learn(folder.as_bytes(), Names::new());
        }
        known.put(&path("a"), ());

        known.take(&path("a"));

        assert_eq!(known.look(&path("a")), Word::Nothing);
        assert_eq!(known.look(&path("a/x")), Word::Unknown);
        assert_eq!(known.look(&path("a/b/x")), Word::Unknown);
        assert_eq!(known.look(&path("ab/x")), Word::Nothing);
    }

    #[test]
    fn few_folders_are_known_at_a_time() {
        let mut known = Known::<()>::default();
        known.learn(b"first", Names::new());
        for number in 0..FOLDERS_MAX {
            known.learn(format!("{number}").as_bytes(), Names::new());
            assert_eq!(known.look(&path("0/x")), Word::Nothing, "used again and again");
        }
        assert_eq!(known.look(&path("first/x")), Word::Unknown, "used longest ago");
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

    #[test]
    fn what_is_put_beyond_the_bound_is_not_remembered() {
        let mut known = Known::default();
        known.learn(b"a", Names::new());
        for number in 0..TARGET_NAMES_KNOWN_MAX + 10 {
            known.put(&path(&format!("a/{number}")), number);
            assert!(known.names_known() <= TARGET_NAMES_KNOWN_MAX);
        }
        let last = format!("a/{}", TARGET_NAMES_KNOWN_MAX + 9);
        assert_eq!(known.look(&path("a/7")), Word::There(7));
        assert_eq!(known.look(&path(&last)), Word::Alone);
        assert_eq!(known.look(&path("a/x")), Word::Nothing, "nobody has put it");
        assert_eq!(known.names(b"a"), None, "it has more");
        known.put(&path("a/7"), 70);
        assert_eq!(known.look(&path("a/7")), Word::There(70), "there was room for its name");
    }

    #[test]
    fn folders_that_are_done_make_room_for_a_name_and_those_above_do_not() {
        let mut known = Known::with_names_max(4);
        for folder in ["", "done", "a", "a/b"] {
            known.learn(folder.as_bytes(), Names::new());
        }
        for at in ["a", "done/x", "a/b", "a/b/c"] {
            known.put(&path(at), ());
        }
        known.put(&path("a/b/d"), ());
        assert_eq!(known.look(&path("a/b/d")), Word::There(()));
        assert_eq!(known.look(&path("done/x")), Word::Unknown);
        known.put(&path("a/b/e"), ());
        assert_eq!(known.look(&path("a/b/e")), Word::Alone);
        assert_eq!(known.look(&path("a/x")), Word::Nothing);
        assert_eq!(known.look(&path("a")), Word::There(()));
    }

    #[test]
    fn of_a_folder_that_is_not_listed_each_name_is_asked_for() {
        let mut known = Known::default();
        known.learn_unlisted(b"a");
        assert_eq!(known.look(&path("a/x")), Word::Alone);
        assert_eq!(known.names(b"a"), None);
        known.put(&path("a/x"), ());
        assert_eq!(known.look(&path("a/x")), Word::There(()));
        known.take(&path("a/x"));
        assert_eq!(known.look(&path("a/x")), Word::Alone);
    }
}

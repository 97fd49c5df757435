//! The proof that the server has all of each short file: one listing of a folder instead of a
//! question for each file in it.
//!
//! With a server on the same machine there is no wait to hide, and each question takes time of its
//! processors. Files that are new there are seen together: before their folder gets its mode and its
//! time, when many are to be seen, and in the end, also in that of a restore that fails; one alone
//! before it gets a second name. Until then their content is kept, and one that came in part is sent
//! once more. A restore that is killed before may leave a short file with the mode and the time of the
//! whole one, as one that is killed while it writes leaves one without: the next makes it whole with
//! `--overwrite always` or `if-changed`, while `if-newer` and `never` keep it.
//! Over a distance the question goes out with what else is asked of a file and costs no wait, where
//! a listing would.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::net::files::Proof;
use crate::target::Target;
use crate::target::at_a_time;
use crate::target::files::FilesTarget;
use crate::target::files::failed;
use crate::target::files::place::Wish;
use crate::target::spool::Spool;
use std::collections::BTreeMap;

/// Longer files are asked for at once: that costs little beside their content.
const SHORT_BYTES_MAX: usize = 64 * 1024;
/// Files that are still to be seen at most, and bytes of them.
const UNSEEN_FILES_MAX: usize = 4096;
const UNSEEN_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files of one folder that are looked at one by one: a listing is a connection of its own.
const FEW_FILES: usize = 3;

/// A file that was sent, and what it is to have.
pub(super) struct Sent {
    pub(super) content: Spool,
    pub(super) wish: Wish,
}

/// Files of one folder, by name.
type Files = BTreeMap<Vec<u8>, Sent>;
/// Files of all folders.
type Folders = BTreeMap<EntryPath, Files>;

/// Files that were sent and are still to be seen.
#[derive(Default)]
pub(super) struct Unseen {
    folders: Folders,
    files: usize,
    bytes: u64,
    /// What is not there as it was sent.
    failed: BTreeMap<EntryPath, Error>,
}

impl Unseen {
    /// Notes a file. Returns all that is to be looked at when there is too much: a restore goes
    /// folder by folder, so few folders are looked at twice.
    fn put(&mut self, path: &EntryPath, sent: Sent) -> Folders {
        let folder = path.parent().unwrap_or_else(EntryPath::root);
        self.files += 1;
        self.bytes += sent.content.len();
        let before = self.folders.entry(folder).or_default().insert(path.name().to_vec(), sent);
        before.into_iter().for_each(|before| self.count_out(&before));
        let is_much = self.files >= UNSEEN_FILES_MAX || self.bytes >= UNSEEN_BYTES_MAX;
        if is_much { self.take_all() } else { Folders::new() }
    }

    fn take_all(&mut self) -> Folders {
        (self.files, self.bytes) = (0, 0);
        std::mem::take(&mut self.folders)
    }

    fn count_out(&mut self, sent: &Sent) {
        self.files -= 1;
        self.bytes -= sent.content.len();
    }

    /// Takes out one file, if it is still to be seen.
    fn take_file(&mut self, path: &EntryPath) -> Option<Sent> {
        let folder = path.parent().unwrap_or_else(EntryPath::root);
        let taken = self.folders.get_mut(&folder)?.remove(path.name())?;
        self.count_out(&taken);
        Some(taken)
    }

    /// Forgets what stands no more at a path or below it.
    pub(super) fn take(&mut self, path: &EntryPath) {
        self.take_file(path);
        let mut taken = Vec::new();
        let within = self.folders.keys().filter(|it| it.is_within(path)).cloned();
        for folder in within.collect::<Vec<EntryPath>>() {
            taken.extend(self.folders.remove(&folder).into_iter().flat_map(Files::into_values));
        }
        taken.iter().for_each(|sent| self.count_out(sent));
    }
}

impl FilesTarget {
    /// Says when a new file is to be seen.
    pub(super) fn proof_of(&self, content: &Spool) -> Proof {
        let is_short = matches!(content, Spool::Memory(bytes) if bytes.len() <= SHORT_BYTES_MAX);
        if is_short && self.state().is_here { Proof::Later } else { Proof::Now }
    }

    /// Notes a file that is to be seen later.
    pub(super) fn see_later(&self, path: &EntryPath, sent: Sent) {
        let all = self.state().unseen.put(path, sent);
        all.iter().for_each(|(folder, files)| self.see(folder, files));
    }

    /// Looks at all that is still to be seen. Returns what is not there as it was sent.
    pub(super) fn see_all(&self) -> BTreeMap<EntryPath, Error> {
        self.see_now();
        std::mem::take(&mut self.state().unseen).failed
    }

    /// Makes sure of what is in a folder before that gets its mode, which may close it, and its
    /// time, which to send a file again would move. What is in others is seen on the way.
    pub(super) fn see_below(&self, folder: &EntryPath) {
        let is_below = self.state().unseen.folders.keys().any(|it| it.is_within(folder));
        if is_below {
            self.see_now();
        }
    }

    fn see_now(&self) {
        let folders = self.state().unseen.take_all();
        let folders: Vec<(EntryPath, Files)> = folders.into_iter().collect();
        at_a_time(folders.len(), self.parallel(), &|number| {
            let (folder, files) = &folders[number];
            self.see(folder, files);
        });
    }

    /// Makes sure of a file that something else is to be made of.
    pub(super) fn see_first(&self, path: &EntryPath) -> Result<()> {
        let sent = self.state().unseen.take_file(path);
        if let Some(sent) = sent {
            self.see_one(path, &sent, None);
        }
        match self.state().unseen.failed.get(path) {
            Some(e) => {
                let message = format!("it is one file with {path}, which could not be written");
                Err(Error::new(e.kind(), message))
            }
            None => Ok(()),
        }
    }

    /// Looks at files of a folder.
    fn see(&self, folder: &EntryPath, files: &Files) {
        let sizes = self.sizes_listed(folder, files);
        for (name, sent) in files {
            if let Ok(path) = folder.join(name) {
                self.see_one(&path, sent, sizes.get(name).copied());
            }
        }
    }

    /// Looks at a file whose size was not listed, and sends it again when it did not come whole.
    fn see_one(&self, path: &EntryPath, sent: &Sent, listed: Option<u64>) {
        let size = listed.map_or_else(|| self.size_there(path), |size| Ok(Some(size)));
        let outcome = match size {
            Ok(size) if size == Some(sent.content.len()) => return,
            Ok(_) => self.send_again(path, sent),
            Err(e) => Err(e.context("it was sent, and cannot be looked at")),
        };
        if let Err(e) = outcome {
            let error = failed("cannot write", path, e);
            let mut state = self.state();
            state.known.forget_folder_of(path);
            state.unseen.failed.insert(path.clone(), error);
        }
    }

    /// Sends a file that came in part, or went elsewhere, and asks at once what came this time.
    fn send_again(&self, path: &EntryPath, sent: &Sent) -> Result<()> {
        self.ask(|files| files.remove(&self.way(path)))?;
        // What could not be set was told when it was sent first.
        self.send(path, &sent.content, false, Some(sent.wish.proven_now())).map(drop)
    }

    /// Returns the sizes of files of a folder as one listing tells them: none where there are few,
    /// and where the server does not list them, as it may show each all the same.
    fn sizes_listed(&self, folder: &EntryPath, files: &Files) -> BTreeMap<Vec<u8>, u64> {
        if files.len() <= FEW_FILES {
            return BTreeMap::new();
        }
        let way = self.way(folder);
        let way: &[u8] = if way.is_empty() { b"." } else { &way };
        let listed = self.ask(|session| {
            let mut sizes = BTreeMap::new();
            session.list(way, &mut |found| {
                sizes.extend(found.look.size.map(|size| (found.name, size)));
                Ok(())
            })?;
            Ok(sizes)
        });
        listed.unwrap_or_default()
    }

    fn size_there(&self, path: &EntryPath) -> Result<Option<u64>> {
        let way = self.way(path);
        let look = self.ask(|session| session.look_at(&way))?;
        Ok(look.and_then(|look| look.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metadata::Metadata;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).expect("a path")
    }

    fn sent(bytes: usize) -> Sent {
        let wish = Wish::new(&Metadata::default(), Proof::Later, false);
        Sent { content: Spool::Memory(vec![0; bytes]), wish }
    }

    #[test]
    fn with_too_many_all_are_looked_at() {
        let mut unseen = Unseen::default();
        assert!(unseen.put(&path("b/x"), sent(1)).is_empty());
        assert!(unseen.put(&path("a/x"), sent(1)).is_empty());
        assert!(unseen.put(&path("a/x"), sent(2)).is_empty(), "sent twice");
        assert_eq!((unseen.files, unseen.bytes), (2, 3));
        for number in 2..UNSEEN_FILES_MAX - 1 {
            assert!(unseen.put(&path(&format!("c/{number}")), sent(0)).is_empty());
        }
        let all = unseen.put(&path("c/last"), sent(0));
        assert_eq!(all.values().map(Files::len).sum::<usize>(), UNSEEN_FILES_MAX);
        assert_eq!(all[&path("a")][b"x".as_slice()].content.len(), 2);
        assert_eq!((unseen.files, unseen.bytes, unseen.folders.len()), (0, 0, 0));
    }

    #[test]
    fn with_too_many_bytes_all_are_looked_at() {
        let mut unseen = Unseen::default();
        let half = UNSEEN_BYTES_MAX as usize / 2;
        assert!(unseen.put(&path("a/x"), sent(half)).is_empty());
        assert!(unseen.put(&path("b/x"), sent(half - 1)).is_empty());
        assert_eq!(unseen.put(&path("b/y"), sent(1)).len(), 2);
        assert_eq!((unseen.files, unseen.bytes), (0, 0));
    }

    #[test]
    fn what_is_removed_is_not_looked_for() {
        let mut unseen = Unseen::default();
        for at in ["x", "a/x", "a/y", "a/b/x", "ab/x"] {
            assert!(unseen.put(&path(at), sent(1)).is_empty());
        }
        unseen.take(&path("a/y"));
        assert_eq!((unseen.files, unseen.bytes), (4, 4));
        unseen.take(&path("a"));
        assert_eq!((unseen.files, unseen.bytes), (2, 2));
        let folders: Vec<EntryPath> = unseen.folders.into_keys().collect();
        assert_eq!(folders, [EntryPath::root(), path("ab")]);
    }
}

//! Handles of the folders on the way to one folder, kept so that its neighbours are cheap to reach.
//!
//! Sources and targets go through local trees by them. Every step is one `openat` of one name with
//! `O_NOFOLLOW`, so neither the length of a path nor a folder that became a symlink matters: a path
//! beyond `PATH_MAX` works, and a link is never followed. At most [`HANDLES_MAX`] handles are held,
//! the deepest ones; what lies above them is walked again from the root when it is needed.

use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Most handles one way holds. Nine walkers and sixteen readers have one each, sixteen writers two,
/// so a run holds fewer than 800 descriptors, below the common limit of 1024; few trees are deeper.
const HANDLES_MAX: usize = 24;

/// The way to one folder.
#[derive(Debug)]
pub(crate) struct Handles {
    root: Arc<OwnedFd>,
    /// The folder that `levels` ends at.
    path: Vec<u8>,
    /// The deepest folders on the way, without the root.
    levels: VecDeque<Level>,
}

#[derive(Debug)]
struct Level {
    /// Length of the part of `path` that leads here.
    end: usize,
    handle: OwnedFd,
}

impl Handles {
    /// Stands at the root.
    pub(crate) fn new(root: Arc<OwnedFd>) -> Self {
        Handles { root, path: Vec::new(), levels: VecDeque::new() }
    }

    /// Goes to a folder and returns its handle, good for `*at` calls, not for reading.
    pub(crate) fn enter(&mut self, folder: &[u8]) -> io::Result<BorrowedFd<'_>> {
        let shared = shared_folder(&self.path, folder);
        while self.levels.back().is_some_and(|level| level.end > shared) {
            self.levels.pop_back();
        }
        let start = self.levels.back().map_or(0, |level| level.end);
        self.path.truncate(start);
        for name in folder[start..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let handle = open_folder(self.current(), name)?;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.levels.push_back(Level { end: self.path.len(), handle });
            if self.levels.len() > HANDLES_MAX {
                self.levels.pop_front();
            }
        }
        Ok(self.current())
    }

    /// Forgets the way, after a folder on it was removed or replaced.
    pub(crate) fn forget(&mut self) {
        self.levels.clear();
        self.path.clear();
    }

    /// Says whether the folder entered last was removed meanwhile; asking costs less than going
    /// the way again whenever a name is missing.
    pub(crate) fn are_gone(&self) -> bool {
        let is_root = self.levels.is_empty();
        !is_root && rustix::fs::fstat(self.current()).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Returns the handle of the folder entered last.
    fn current(&self) -> BorrowedFd<'_> {
        match self.levels.back() {
            Some(level) => level.handle.as_fd(),
            None => self.root.as_fd(),
        }
    }
}

/// `O_PATH` needs no right to read a folder, only to pass through it.
fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Returns the length of the deepest folder that both paths lie in or are.
fn shared_folder(a: &[u8], b: &[u8]) -> usize {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let ends = |path: &[u8]| path.get(common).is_none_or(|&byte| byte == b'/');
    if ends(a) && ends(b) {
        return common;
    }
    a[..common].iter().rposition(|&byte| byte == b'/').unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_folder_is_made_of_whole_names() {
        assert_eq!(shared_folder(b"a/b", b"a/bc"), 1);
        assert_eq!(shared_folder(b"a/b", b"a/b/c"), 3);
        assert_eq!(shared_folder(b"a/b", b"a/b"), 3);
        assert_eq!(shared_folder(b"ab", b"ac"), 0);
        assert_eq!(shared_folder(b"", b"a"), 0);
    }

    #[test]
    fn a_path_deeper_than_the_handles_held_can_be_entered_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(HANDLES_MAX * 3);
        std::fs::create_dir_all(folder.path().join(&deep)).unwrap();
        let root = Arc::new(OwnedFd::from(std::fs::File::open(folder.path()).unwrap()));
        let mut handles = Handles::new(root);

        let deep = deep.trim_end_matches('/').as_bytes();
        for end in [deep.len(), 3, deep.len() - 2, 0, deep.len()] {
            handles.enter(&deep[..end]).unwrap();
            assert!(handles.levels.len() <= HANDLES_MAX);
        }
        assert!(handles.enter(b"d/d/nothing").is_err());
        handles.enter(b"d/d").unwrap();
    }

    #[test]
    fn a_symlink_is_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let root = Arc::new(OwnedFd::from(std::fs::File::open(folder.path()).unwrap()));

        assert!(Handles::new(root).enter(b"link/etc").is_err());
    }
}

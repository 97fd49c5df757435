//! Names that a server takes for one where a backup has several: on file systems that fold case, as
//! those of Windows and macOS do, and exFAT and SMB behind a server of another kind.
//!
//! What a server lists is compared with a backup byte by byte, so that there something new would be
//! written over what has its name in other letters. All names that were met are noted in small
//! letters, by bits that say no for sure and yes perhaps (`forgotten`). What is to be made and is
//! like one of them is asked for first: where the server has it, it is refused, and neither goes.
//! Servers of SFTP refuse by themselves to make a file that is there, also one whose name has
//! another Unicode form.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::target::files::FilesTarget;
use crate::target::files::ORIGIN;
use crate::target::files::joined;
use crate::target::forgotten::Forgotten;
use crate::target::spool::Spool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

/// Names that were met, and those that turned out to be one with others.
#[derive(Default)]
pub(super) struct Clashes {
    met: Forgotten,
    found: BTreeSet<Vec<u8>>,
}

impl Clashes {
    /// Notes what a folder holds.
    pub(super) fn meet<'a>(&mut self, folder: &[u8], names: impl Iterator<Item = &'a Vec<u8>>) {
        names.for_each(|name| self.met.put(&small(&joined(folder, name))));
    }
}

/// Returns a path in small letters.
fn small(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => path.to_ascii_lowercase(),
    }
}

impl FilesTarget {
    /// Notes that something is to be made where nothing is known to be, and begins it where it is a
    /// file, both in one step. `AlreadyExists` where the server has it under a name like that.
    pub(super) fn claim(&self, path: &EntryPath, spool: Option<&Arc<Mutex<Spool>>>) -> Result<()> {
        let key = small(path.as_bytes());
        let (was_met, begun) = {
            let mut state = self.state();
            let was_met = state.clashes.met.may_have(&key);
            state.clashes.met.put(&key);
            let is_like = |it: &&EntryPath| was_met && *it != path && small(it.as_bytes()) == key;
            let begun = state.begun.keys().find(is_like).cloned();
            state.begun.extend(spool.map(|spool| (path.clone(), Arc::clone(spool))));
            (was_met, begun)
        };
        let is_taken = match begun {
            _ if !was_met => return Ok(()),
            // It is not there yet, and will be.
            Some(other) => self.takes_for_one(&other, path),
            None => self.ask(|files| Ok(files.look_at(&self.way(path))?.is_some())),
        };
        if matches!(is_taken, Ok(false)) {
            return Ok(());
        }
        self.state().begun.remove(path);
        is_taken?;
        self.note_clash(path);
        let message = format!("cannot make {path}: the server takes its name for another one's");
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }

    /// Notes that the server has something else in the place of what was to be made.
    pub(super) fn note_clash(&self, path: &EntryPath) {
        self.state().clashes.found.insert(small(path.as_bytes()));
    }

    /// Refuses to remove what the server may take for something that the backup has.
    pub(super) fn check_clash(&self, path: &EntryPath) -> Result<()> {
        if !self.state().clashes.found.contains(&small(path.as_bytes())) {
            return Ok(());
        }
        let message = format!("cannot remove {path}: the server takes its name for another one's");
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }

    /// Says whether two names are one to the server, by a file that has the one behind some letters,
    /// and is asked for by the other.
    fn takes_for_one(&self, one: &EntryPath, other: &EntryPath) -> Result<bool> {
        let stem = format!(".icecore-{}-", to_hex(&sys::random::<8>()?));
        if one.name() == other.name() {
            return Ok(false);
        }
        if stem.len() + one.name().len().max(other.name().len()) > NAME_BYTES_MAX {
            // Too long to be tried.
            return Ok(true);
        }
        let folder = joined(&self.root, other.parent_bytes());
        let [tried, asked] =
            [one, other].map(|it| joined(&folder, &[stem.as_bytes(), it.name()].concat()));
        let is_one = self.ask(|files| {
            files.create(&tried)?;
            files.finish()?;
            Ok(files.look_at(&asked)?.is_some())
        });
        let removed = self.ask(|files| files.remove(&tried));
        let is_one = is_one?;
        removed.map(|()| is_one)
    }
}

//! A tree of files on another machine as a target, over FTP or SFTP.
//!
//! Servers take a file from its beginning to its end, and a restore writes as packs come. So a
//! file is gathered first: in memory while it is short and one thread has all of it, as of nearly
//! all files, else in a file without a name in the folder of the cache. It is sent when it is
//! finished, under its own name where nothing stood there, else beside it and then renamed over
//! it, so that what stood there is not lost before the new one is whole.
//!
//! The spool gathers, `known` remembers what stands in the folders at hand, `session` speaks to the
//! server, `send` brings whole files there, `proof` makes sure that they came whole where that is not
//! asked at once, `clash` refuses names that the server takes for others, `writer` does the rest.
//! A connection that breaks is made again, and what was asked is asked once more.
//! A symlink is never written through: what the server tells as a link is replaced, not followed.
//! What a protocol cannot keep (times, permissions, owners, extended attributes) is told at the end.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::pool::Pool;
use crate::target::Finished;
use crate::target::Target;
use crate::target::TargetWriter;
use crate::target::files::clash::Clashes;
use crate::target::files::place::Mark;
use crate::target::files::proof::Unseen;
use crate::target::files::writer::FilesWriter;
use crate::target::known::Known;
use crate::target::spool::Spool;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

mod clash;
mod place;
mod proof;
mod send;
mod session;
mod writer;

/// Every error is one of the place a restore writes to.
const ORIGIN: Origin = Origin::Target;

/// Most broken connections are just that; a server that starts anew is back by the last.
const WAITS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_secs(1), Duration::from_secs(10)];

/// Sessions with a server on the same machine: there is no wait to hide, and each more takes time of
/// the same processors.
const SESSIONS_HERE_MAX: usize = 4;

/// A tree on another machine.
pub struct FilesTarget {
    pool: Arc<Pool>,
    /// The root as the server is to hear it, without a slash at its end.
    root: Vec<u8>,
    location: String,
    scratch: PathBuf,
    /// The waits before something is asked again that a broken connection left without an answer.
    waits: [Duration; 3],
    state: Mutex<State>,
}

/// What the writers share.
#[derive(Default)]
struct State {
    known: Known<Look>,
    clashes: Clashes,
    /// Files that were sent, and are still to be seen on the server.
    unseen: Unseen,
    /// Files that were begun and not sent yet.
    begun: BTreeMap<EntryPath, Arc<Mutex<Spool>>>,
    /// What the server was seen not to keep.
    not_kept: BTreeSet<Mark>,
    /// What it was seen not to let this user set.
    denied: BTreeSet<Mark>,
    is_prepared: bool,
    /// Whether the server is on this very machine.
    is_here: bool,
    /// Whether the server was seen not to rename over what is there.
    moves_aside: bool,
    /// Whether it did not answer for so long that it is not asked any more.
    is_given_up: bool,
}

impl FilesTarget {
    /// Names a folder on the server of `pool`; `location` is how people are shown it, and long
    /// files are gathered in the folder `scratch`. Nothing is looked at yet.
    pub fn new(pool: Arc<Pool>, root: &[u8], location: String, scratch: PathBuf) -> Self {
        let trimmed = root.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        // Of the server's own root its slash stays.
        let trimmed = if trimmed == 0 { root.len().min(1) } else { trimmed };
        let root = root[..trimmed].to_vec();
        FilesTarget { pool, root, location, scratch, waits: WAITS, state: Mutex::default() }
    }

    /// Waits for other times before something is asked again that had no answer.
    pub fn waiting(self, waits: [Duration; 3]) -> Self {
        FilesTarget { waits, ..self }
    }

    /// Remembers so many names of folders: for machines that have little memory.
    pub fn remembering(self, names_max: usize) -> Self {
        self.state().known = Known::with_names_max(names_max);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the root is a folder that is there.
    fn is_there(&self) -> Result<bool> {
        if self.root.is_empty() || self.root == b"/" {
            return Ok(true);
        }
        let looked = self.pool.repeatable(|files| match files.look_at(&self.root)? {
            Some(look) => is_folder(files, &self.root, &look),
            None => Ok(false),
        });
        looked.map_err(|e| e.context(format!("cannot look at {}", self.location)).at(ORIGIN))
    }

    /// Returns a path as the server is to hear it.
    fn way(&self, path: &EntryPath) -> Vec<u8> {
        joined(&self.root, path.as_bytes())
    }
}

fn lock(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_look(kind: Kind) -> Look {
    Look { kind, size: None, modified: None, mode: None, owner: None, unique: Vec::new() }
}

/// Joins a folder and what is below it; either may be empty.
fn joined(folder: &[u8], below: &[u8]) -> Vec<u8> {
    if folder.is_empty() || below.is_empty() {
        return [folder, below].concat();
    }
    let slash: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
    [folder, slash, below].concat()
}

/// The error of doing something to what stands at a path.
fn failed(doing: &str, path: &EntryPath, error: Error) -> Error {
    let path = if path.is_root() { "the target".to_owned() } else { path.to_string() };
    error.context(format!("{doing} {path}")).at(ORIGIN)
}

/// Says whether what is looked at is a folder, also behind a link.
fn is_folder(files: &mut dyn Files, way: &[u8], look: &Look) -> Result<bool> {
    match look.kind {
        Kind::Directory => Ok(true),
        Kind::Symlink => {
            // Only a folder can be listed. The first name is enough to know.
            let stop = || Error::cancelled();
            match files.list(way, &mut |_| Err(stop())) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == ErrorKind::Cancelled => Ok(true),
                Err(e) if e.kind() == ErrorKind::Unreachable => Err(e),
                Err(_) => Ok(false),
            }
        }
        _ => Ok(false),
    }
}

impl Target for FilesTarget {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn prepare(&self) -> Result<bool> {
        let prepared = self.pool.meet(|files| {
            if self.root.is_empty() || self.root == b"/" {
                return Ok(true);
            }
            if let Some(look) = files.look_at(&self.root)? {
                return match is_folder(files, &self.root, &look)? {
                    true => Ok(true),
                    false => Err(Error::invalid(format!(
                        "{} is there and is no folder",
                        display(&self.root)
                    ))),
                };
            }
            session::make_with_parents(files, &self.root)?;
            Ok(false)
        });
        self.state().is_prepared = prepared.is_ok();
        self.state().is_here = prepared.is_ok() && self.pool.is_here().unwrap_or(false);
        prepared.map_err(|e| e.context(format!("cannot restore to {}", self.location)).at(ORIGIN))
    }

    fn parallel(&self) -> usize {
        let all = self.pool.sessions_max();
        if self.state().is_here { all.min(SESSIONS_HERE_MAX) } else { all }
    }

    fn writes_in_place(&self) -> bool {
        false
    }

    /// Makes sure that all came whole, and says what the server has not kept, as that is in its
    /// nature and nobody failed.
    fn finish(&self) -> Result<Finished> {
        let failed = self.see_all().into_iter().collect();
        let not_kept = std::mem::take(&mut self.state().not_kept);
        let notes = not_kept.into_iter().map(|mark| mark.not_kept().to_owned()).collect();
        Ok(Finished { notes, failed })
    }

    fn break_off(&self) {
        for path in self.see_all().into_keys() {
            // The restore has failed already, and its error says why.
            let _ = self.ask(|files| files.remove(&self.way(&path)));
        }
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        let is_prepared = self.state().is_prepared;
        // A dry run prepares nothing, and looks at what is there.
        if !is_prepared {
            if !self.is_there()? {
                let message = format!("cannot restore to {}: it is not there", self.location);
                return Err(Error::new(ErrorKind::NotFound, message).at(ORIGIN));
            }
            self.state().is_prepared = true;
        }
        Ok(Box::new(FilesWriter::new(self)))
    }
}

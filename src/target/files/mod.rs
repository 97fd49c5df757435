//! A tree of files on another machine as a target, over FTP or SFTP.
//!
//! Servers take a file from its beginning to its end, and a restore writes as packs come. So a
//! file is gathered first: in memory while it is short and one thread has all of it, as of nearly
//! all files, else in a file without a name in the folder of the cache. It is sent when it is
//! finished, under its own name where nothing stood there, else beside it and then renamed over
//! it, so that what stood there is not lost before the new one is whole.
//!
//! `spool` gathers, `known` remembers what stands in the folders at hand, `session` speaks to the
//! server, `writer` does the rest.
//! A symlink is never written through: what the server tells as a link is replaced, not followed.
//! What a protocol cannot keep (times, permissions, owners, extended attributes) is told once.

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
use crate::target::Target;
use crate::target::TargetWriter;
use crate::target::files::known::Known;
use crate::target::files::spool::Spool;
use crate::target::files::writer::FilesWriter;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

mod known;
mod place;
mod session;
mod spool;
mod writer;

/// Every error is one of the place a restore writes to.
const ORIGIN: Origin = Origin::Target;

/// A tree on another machine.
pub struct FilesTarget {
    pool: Arc<Pool>,
    /// The root as the server is to hear it, without a slash at its end.
    root: Vec<u8>,
    location: String,
    scratch: PathBuf,
    state: Mutex<State>,
}

/// What the writers share.
#[derive(Default)]
struct State {
    known: Known,
    /// Files that were begun and not sent yet.
    begun: BTreeMap<EntryPath, Arc<Mutex<Spool>>>,
    /// What was told already that the server cannot keep.
    told: BTreeSet<&'static str>,
    is_prepared: bool,
}

impl FilesTarget {
    /// Names a folder on the server of `pool`; `location` is how people are shown it, and long
    /// files are gathered in the folder `scratch`. Nothing is looked at yet.
    pub fn new(pool: Arc<Pool>, root: &[u8], location: String, scratch: PathBuf) -> Self {
        let trimmed = root.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        // Of the server's own root its slash stays.
        let trimmed = if trimmed == 0 { root.len().min(1) } else { trimmed };
        let root = root[..trimmed].to_vec();
        FilesTarget { pool, root, location, scratch, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        if self.root.is_empty() || self.root == b"/" {
            self.state().is_prepared = true;
            return Ok(true);
        }
        let prepared = self.pool.repeatable(|files| {
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
        prepared.map_err(|e| e.context(format!("cannot restore to {}", self.location)).at(ORIGIN))
    }

    fn parallel(&self) -> usize {
        self.pool.sessions_max()
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        if !self.state().is_prepared {
            let message = format!("cannot restore to {}: it was not prepared", self.location);
            return Err(Error::new(ErrorKind::NotFound, message).at(ORIGIN));
        }
        Ok(Box::new(FilesWriter::new(self)))
    }
}

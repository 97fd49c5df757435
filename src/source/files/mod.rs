//! A folder of another machine as a source, over FTP or SFTP.
//!
//! Folders are listed ahead by a few sessions, files are streamed by others, and nothing is copied
//! to disk first. What a server tells of a file decides whether it changed: size, time, and the tag
//! that stays with a file where there is one. A time is good for as much as the server tells it
//! exactly, and a file that could have changed without showing it is read again.
//!
//! What was listed is remembered for a while, so that opening a file costs no question of its own;
//! after reading, the server is asked once more, of the files of a folder together where that costs
//! less. A connection that breaks is made again: the file is read on when it is certain that it is
//! the same, and else read once more.
//!
//! What no protocol tells is filled in: a mode of 0644 or 0755, the owner 0. Attributes, holes and
//! hard links are not told, fifos and devices are left out with a note.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::limits::CLOCKS_APART_SECONDS;
use crate::base::limits::REMOTE_READERS_MAX;
use crate::base::limits::ZONES_APART_SECONDS;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::pool::Pool;
use crate::source::Scan;
use crate::source::Source;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::files::read::FilesReader;
use crate::source::files::walk::Walk;
use crate::source::filter::Filter;
use crate::source::looks::Looks;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod list;
mod read;
mod walk;

/// Every error of this folder is one of the data that is read.
const ORIGIN: Origin = Origin::Source;
/// Modes of what a server tells none of.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;
/// Seconds in the steps of a time that is told to the minute.
const MINUTE_SECONDS: i64 = 60;

/// How a folder is read.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// What is left out.
    pub filter: Option<Filter>,
    /// Folders to leave out, such as the repository's when it is on the same server.
    pub excluded: Vec<EntryPath>,
    /// The waits before something is asked again that a broken connection left without an answer.
    pub waits: [Duration; 3],
}

impl Default for FilesOptions {
    /// Most broken connections are just that; a server that starts anew is back by the last.
    fn default() -> Self {
        let waits = [50, 1_000, 10_000].map(Duration::from_millis);
        FilesOptions { filter: None, excluded: Vec::new(), waits }
    }
}

/// A folder of another machine.
pub struct FilesSource {
    inner: Arc<Inner>,
}

/// What listers and readers share.
struct Inner {
    pool: Arc<Pool>,
    root: Vec<u8>,
    location: String,
    options: FilesOptions,
    looks: Mutex<Looks<Look>>,
    /// How many names the folders have that were listed last.
    folders: Mutex<Looks<usize>>,
    /// Whether the server did not answer for so long that it is not asked any more: a tree has
    /// many folders, and each would wait as long.
    is_given_up: AtomicBool,
    /// Links that the scan at work has left out, as nothing tells where they lead.
    links_left_out: AtomicU64,
    nobody: Arc<Owner>,
}

impl FilesSource {
    /// Opens a folder. `root` is its path as the server is to hear it; empty is where the login
    /// lands.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, `InvalidInput` when it is no folder; those of the server.
    pub fn open(
        pool: Arc<Pool>,
        root: &[u8],
        location: String,
        options: FilesOptions,
    ) -> Result<Self> {
        let inner = Inner {
            pool,
            root: root.to_vec(),
            location,
            options,
            looks: Mutex::default(),
            folders: Mutex::default(),
            is_given_up: AtomicBool::new(false),
            links_left_out: AtomicU64::new(0),
            nobody: Arc::default(),
        };
        if inner.options.excluded.iter().any(EntryPath::is_root) {
            let message = format!("cannot read {}: it is the repository", inner.location);
            return Err(Error::invalid(message).at(ORIGIN));
        }
        inner.pool.meet(|_| Ok(())).map_err(|e| inner.failed(e))?;
        inner.look_at_root()?;
        Ok(FilesSource { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn looks(&self) -> MutexGuard<'_, Looks<Look>> {
        self.looks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn folders(&self) -> MutexGuard<'_, Looks<usize>> {
        self.folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns the path as the server is to hear it.
    fn place(&self, path: &EntryPath) -> Vec<u8> {
        if path.is_root() {
            return self.root.clone();
        }
        let is_joined = self.root.is_empty() || self.root.ends_with(b"/");
        let slash: &[u8] = if is_joined { b"" } else { b"/" };
        [&self.root, slash, path.as_bytes()].concat()
    }

    /// Asks the server something, and again when the connection breaks.
    fn ask<T>(&self, mut work: impl FnMut(&mut dyn Files) -> Result<T>) -> Result<T> {
        for wait in self.options.waits {
            self.check_given_up()?;
            match self.pool.repeatable(&mut work) {
                Err(e) if e.kind() == ErrorKind::Unreachable => std::thread::sleep(wait),
                other => return other,
            }
        }
        self.check_given_up()?;
        let last = self.pool.repeatable(&mut work);
        if last.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) {
            self.is_given_up.store(true, Ordering::Relaxed);
        }
        last
    }

    fn check_given_up(&self) -> Result<()> {
        if self.is_given_up.load(Ordering::Relaxed) {
            let message = format!("{} does not answer any more", self.pool.shown());
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        Ok(())
    }

    fn failed(&self, error: Error) -> Error {
        error.context(format!("cannot read {}", self.location)).at(ORIGIN)
    }

    fn look_at(&self, path: &EntryPath) -> Result<Look> {
        let place = self.place(path);
        self.ask(|files| files.look_at(&place))?.ok_or_else(|| gone(path))
    }

    /// Looks at the root. A link given as the root is followed; no other one ever is.
    /// The folder of the login is there, and nothing more is known of it.
    fn look_at_root(&self) -> Result<Look> {
        let unknown = Look {
            kind: Kind::Directory,
            size: None,
            modified: None,
            mode: None,
            owner: None,
            unique: Vec::new(),
        };
        if self.root.is_empty() || self.root == b"/" {
            return Ok(unknown);
        }
        match self.ask(|files| files.look_at(&self.root)).map_err(|e| self.failed(e))? {
            None => {
                let message = format!("cannot read {}: no such folder", self.location);
                Err(Error::new(ErrorKind::NotFound, message).at(ORIGIN))
            }
            Some(look) if look.kind == Kind::Directory => Ok(look),
            Some(look) if look.kind == Kind::Symlink => Ok(unknown),
            Some(_) => {
                let message = format!("cannot read {}: it is no folder", self.location);
                Err(Error::invalid(message)
                    .hint("name the folder it is in; `--exclude` leaves out what else is there")
                    .at(ORIGIN))
            }
        }
    }

    /// Makes the entry of a path from what the server tells of it.
    fn entry(&self, path: EntryPath, look: &Look) -> SourceEntry {
        let usual = match look.kind {
            Kind::Directory => FOLDER_MODE,
            Kind::Symlink => LINK_MODE,
            _ => FILE_MODE,
        };
        let owner = match look.owner {
            None => Arc::clone(&self.nobody),
            Some((uid, gid)) => Arc::new(Owner { uid, gid, ..Owner::default() }),
        };
        SourceEntry {
            path,
            kind: look.kind,
            size: look.size.filter(|_| look.kind == Kind::File).unwrap_or(0),
            metadata: Metadata {
                mode: look.mode.unwrap_or(usual),
                owner,
                mtime: look.modified.map(|it| it.time).unwrap_or_default(),
                xattrs: Vec::new(),
            },
            detection: Detection {
                ctime: shows_change_from(look.kind, look.modified),
                inode: 0,
                tag: look.unique.clone(),
            },
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        }
    }
}

/// Returns the time from which on a change shows for certain. It takes the place of the inode's
/// time: a backup that began before it reads the file again. By the server's clock, which may be
/// some seconds off, and in its listings some zones; never, where it tells no time that is of use.
fn shows_change_from(kind: Kind, modified: Option<Modified>) -> Timestamp {
    let never = Timestamp::new(i64::MAX, 0);
    match modified {
        // What a folder holds is listed each time.
        _ if kind == Kind::Directory => Timestamp::default(),
        None => never,
        Some(Modified { time, precision }) => match precision {
            Precision::Second => time.plus_seconds(CLOCKS_APART_SECONDS),
            // Of LIST, in a zone that nothing tells for certain.
            Precision::Minute => {
                time.plus_seconds(ZONES_APART_SECONDS + MINUTE_SECONDS + CLOCKS_APART_SECONDS)
            }
            Precision::Vague => never,
        },
    }
}

fn gone(path: &EntryPath) -> Error {
    Error::new(ErrorKind::NotFound, format!("cannot open {path}: it is not there")).at(ORIGIN)
}

fn failed(doing: &str, path: &EntryPath, e: Error) -> Error {
    let shown = if path.is_root() { "the root".to_owned() } else { path.to_string() };
    e.context(format!("{doing} {shown}")).at(ORIGIN)
}

impl Source for FilesSource {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn parallel(&self) -> usize {
        // The other sessions list folders.
        (self.inner.pool.sessions_max() / 2).clamp(1, REMOTE_READERS_MAX)
    }

    fn notes(&self) -> Vec<String> {
        let is_are = |count| if count == 1 { "symbolic link is" } else { "symbolic links are" };
        match self.inner.links_left_out.load(Ordering::Relaxed) {
            0 => Vec::new(),
            count => vec![format!(
                "{count} {} left out, as the server does not tell where they lead",
                is_are(count)
            )],
        }
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let look = self.inner.look_at_root()?;
        self.inner.links_left_out.store(0, Ordering::Relaxed);
        let root = self.inner.entry(EntryPath::root(), &look);
        Ok(Box::new(Walk::start(&self.inner, root, &look, cancel)))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(FilesReader::new(&self.inner)))
    }
}

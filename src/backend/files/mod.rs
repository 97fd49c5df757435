//! A folder on another machine, reached over FTP or SFTP.
//!
//! ```text
//!   <root>/tmp/<random>            objects being written; whatever lies here is garbage
//!   <root>/tmp/staged-<random>/o   objects being created, as folders
//!   <root>/tmp/gone-<random>/o     the same, being deleted
//!   <root>/way+                    how objects are created here, where it is not by links
//!   <root>/taken+/o                a folder that a server has to refuse to replace
//!   <root>/<key>                   objects
//!   <root>/<key>+/o                objects created as folders
//! ```
//!
//! An object is written to `tmp`, finished (as durable as the server can, its size compared) and
//! renamed to its place, so that it is there whole or not at all. `+` is in no key. What else
//! people or servers put there is left alone and never shown.
//!
//! How [`Backend::put_new`] refuses a taken key is the [`Way`]. It belongs to the repository and
//! not to the server or protocol, as everybody who writes must go the same one: a link and a folder
//! of one key would both succeed. A repository made by links looks as one on a local disk does, and
//! has no mark; one made by folders has no file `config`, so nobody who knows nothing of folders
//! takes it for a repository, or for an empty one.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Durability;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::files::way::Way;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::limits::KNOWN_FOLDERS_MAX;
use crate::base::metadata::Kind;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Precision;
use crate::net::pool::Pool;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

mod deep;
mod read;
mod space;
pub mod way;

/// Packs on their way at a time: each waits for some round trips, and takes its own memory.
const UPLOADS: usize = 4;
/// Where objects are written before they are moved to their places.
const TEMPORARY: &str = "tmp";
/// The file that a local backend sets aside; it is no object here either.
const RESERVE: &str = "reserve";
/// Begins the name of a folder that becomes an object.
const STAGED: &str = "staged-";
/// After so many seconds a staged folder is looked at again: a sweep may have taken it for one of
/// the dead. It does so after a day by the server's clock, and clocks are not trusted to agree.
const STAGED_SECONDS_MAX: f64 = 600.0;
/// Begins the name of a folder that was an object.
const GONE: &str = "gone-";
/// Ends the name of a folder that is an object; no key has it.
const SIGN: &str = "+";
/// The content of an object that is a folder.
const CONTENT: &str = "o";

/// Objects as files below one folder of another machine.
pub struct FilesBackend {
    pool: Arc<Pool>,
    root: Vec<u8>,
    location: String,
    way: Way,
    durability: Durability,
    /// Whether this server was seen to refuse what the way wants refused.
    is_proven: AtomicBool,
    /// Folders that were made or found.
    made: Mutex<HashSet<FolderKey>>,
    /// Some of the objects that are folders.
    known_folders: Mutex<HashSet<ObjectKey>>,
    /// Some of those that this process has put as files.
    known_files: Mutex<HashSet<ObjectKey>>,
}

fn lock<T>(set: &Mutex<T>) -> MutexGuard<'_, T> {
    set.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Joins a root, which may be empty or `/`, and what is below it.
fn below(root: &[u8], relative: &str) -> Vec<u8> {
    let slash: &[u8] = if root.is_empty() || root.ends_with(b"/") { b"" } else { b"/" };
    [root, slash, relative.as_bytes()].concat()
}

fn ours(error: Error) -> Error {
    error.at(Origin::Repository)
}

fn is_lost(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
}

fn is_file(look: &Look) -> bool {
    look.kind == Kind::File
}

fn random_name(start: &str) -> Result<String> {
    Ok(format!("{TEMPORARY}/{start}{}", to_hex(&sys::random::<16>()?)))
}

/// Says whether a server's time is good enough to tell one object from another by.
fn exact(look: &Look) -> Option<Timestamp> {
    look.modified.filter(|it| it.precision == Precision::Second).map(|it| it.time)
}

/// No protocol has a word for the names in a folder; journals keep them in order, and late.
fn durability(files: &dyn Files) -> Durability {
    if files.abilities().sync { Durability::Content } else { Durability::Nothing }
}

impl FilesBackend {
    /// Opens a folder that is there. `proven` is a way that this very server was seen to go before:
    /// it is not tried again.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `InvalidInput` when it is no folder; those of the server.
    pub fn open(
        pool: Arc<Pool>,
        root: &[u8],
        location: String,
        proven: Option<Way>,
    ) -> Result<Self> {
        let found = pool.meet(|files| Ok((way::find(files, root, &location)?, durability(files))));
        let (way, durability) = found.map_err(ours)?;
        let is_proven = proven == Some(way);
        Ok(FilesBackend::assemble(pool, root, location, (way, is_proven), durability))
    }

    /// Makes the folder, and those above it, where they are missing, decides how objects are
    /// created there, and opens it.
    ///
    /// # Errors
    /// `Denied`, `Full`, ...; those of the server.
    pub fn create(pool: Arc<Pool>, root: &[u8], location: String) -> Result<Self> {
        let made =
            pool.meet(|files| Ok((way::prepare(files, root, &location)?, durability(files))));
        let (way, durability) = made.map_err(ours)?;
        Ok(FilesBackend::assemble(pool, root, location, way, durability))
    }

    fn assemble(
        pool: Arc<Pool>,
        root: &[u8],
        location: String,
        (way, is_proven): (Way, bool),
        durability: Durability,
    ) -> Self {
        FilesBackend {
            pool,
            root: root.to_vec(),
            location,
            way,
            durability,
            is_proven: AtomicBool::new(is_proven),
            made: Mutex::default(),
            known_folders: Mutex::default(),
            known_files: Mutex::default(),
        }
    }

    /// Returns the way that this server was seen to go, so that it need not be tried again.
    pub fn proven(&self) -> Option<Way> {
        self.is_proven.load(Ordering::Relaxed).then_some(self.way)
    }

    fn path(&self, relative: &str) -> Vec<u8> {
        below(&self.root, relative)
    }

    /// Returns the path of a key, which must be none of our own files.
    fn place(&self, key: &str) -> Result<Vec<u8>> {
        let first = key.split('/').next().unwrap_or(key);
        if first == TEMPORARY || first == RESERVE {
            let message = format!("{key} cannot be a key in {}", self.location);
            return Err(Error::invalid(message).at(Origin::Repository));
        }
        Ok(self.path(key))
    }

    /// Returns the path of the folder that a key is when it was created as one.
    fn folder_place(&self, key: &str) -> Result<Vec<u8>> {
        self.place(key).map(|place| [&place, SIGN.as_bytes()].concat())
    }

    fn content_place(&self, key: &str) -> Result<Vec<u8>> {
        let folder = self.folder_place(key)?;
        Ok([&folder, b"/".as_slice(), CONTENT.as_bytes()].concat())
    }

    fn check_writable(&self) -> Result<()> {
        match self.way {
            Way::Link | Way::Folder | Way::Nothing => Ok(()),
            Way::Closed => {
                let message = format!("cannot write to {}: it was made by links", self.location);
                Err(Error::new(ErrorKind::Unsupported, message).hint(
                    "this server makes no links; write to it over SFTP or on its own machine",
                ))
            }
        }
    }

    /// A folder that was taken away must not look like an empty repository.
    fn check_root(&self, files: &mut dyn Files) -> Result<()> {
        if way::is_folder(files, &self.root)? {
            return Ok(());
        }
        let message = format!("{} is not there any more", self.location);
        Err(Error::new(ErrorKind::NoRepository, message))
    }

    /// Makes a folder and those above it, unless they were made before.
    fn make(&self, files: &mut dyn Files, folder: &FolderKey) -> Result<()> {
        let mut made = FolderKey::top();
        for part in folder.as_str().split('/').filter(|part| !part.is_empty()) {
            made = made.folder(part)?;
            if lock(&self.made).contains(&made) {
                continue;
            }
            // If it is no folder, what is put there fails.
            let tried = match files.make_folder(&self.path(made.as_str())) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
                tried => tried,
            };
            tried.or_else(|e| self.or_root_is_gone(files, e))?;
            lock(&self.made).insert(made.clone());
        }
        Ok(())
    }

    /// Remembers a folder that was found, as far as there is room.
    fn remember_folder(&self, folder: &FolderKey) {
        let mut made = lock(&self.made);
        if made.len() < KNOWN_FOLDERS_MAX {
            made.insert(folder.clone());
        }
    }

    fn or_root_is_gone<T>(&self, files: &mut dyn Files, e: Error) -> Result<T> {
        if e.kind() == ErrorKind::NotFound {
            self.check_root(files)?;
        }
        Err(e)
    }

    /// Does something in a folder, and once more when the folder turns out to be missing: somebody
    /// removed an empty one.
    fn in_folder<T>(
        &self,
        files: &mut dyn Files,
        folder: &FolderKey,
        mut work: impl FnMut(&mut dyn Files) -> Result<T>,
    ) -> Result<T> {
        self.make(files, folder)?;
        match work(files) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                lock(&self.made).clear();
                self.make(files, folder)?;
                let temporary = self.path(TEMPORARY);
                way::make_folder(files, &temporary).or_else(|e| self.or_root_is_gone(files, e))?;
                work(files)
            }
            other => other,
        }
    }

    fn put_at(&self, files: &mut dyn Files, place: &[u8], bytes: &[u8]) -> Result<()> {
        let temporary = self.path(&random_name("")?);
        way::write(files, &temporary, bytes)?;
        let moved = if files.abilities().replace {
            files.rename_over(&temporary, place)
        } else {
            files.rename(&temporary, place)
        };
        let Err(e) = moved else { return Ok(()) };
        if is_lost(&e) {
            return Err(e);
        }
        // Perhaps the place is taken, and then by the same bytes, as the same key means the same.
        let there = files.look_at(place)?;
        // What cannot be removed is garbage in `tmp`, where garbage may lie.
        let _ = files.remove(&temporary);
        let is_same = |look: &Look| is_file(look) && look.size == Some(bytes.len() as u64);
        if there.as_ref().is_some_and(is_same) { Ok(()) } else { Err(e) }
    }

    /// Gives an object its key by a link, which fails where the key is taken.
    fn create_by_link(&self, files: &mut dyn Files, place: &[u8], bytes: &[u8]) -> Result<()> {
        let temporary = self.path(&random_name("")?);
        way::write(files, &temporary, bytes)?;
        let linked = files.link(&temporary, place);
        if linked.as_ref().is_err_and(is_lost) {
            return linked;
        }
        // A second name in `tmp` that stays is garbage.
        let _ = files.remove(&temporary);
        linked
    }

    /// Stages an object to be created; the first one also tries whether the server keeps to what
    /// that takes.
    fn stage(&self, files: &mut dyn Files, staged: &[u8], bytes: &[u8]) -> Result<()> {
        way::stage(files, staged, bytes)?;
        if !self.is_proven.load(Ordering::Relaxed) {
            way::prove(files, &self.root, staged, &self.location)?;
            self.is_proven.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives an object its key by renaming a folder, which fails where there is one that is not
    /// empty.
    fn create_by_folder(&self, files: &mut dyn Files, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let (folder, content) =
            (self.folder_place(key.as_str())?, self.content_place(key.as_str())?);
        let taken = || {
            let message = format!("{key} is in {} already", self.location);
            Error::new(ErrorKind::AlreadyExists, message)
        };
        if files.look_at(&self.place(key.as_str())?)?.as_ref().is_some_and(is_file) {
            return Err(taken());
        }
        let staged = self.path(&random_name(STAGED)?);
        let begun = self.pool.now();
        if let Err(e) = self.stage(files, &staged, bytes) {
            if !is_lost(&e) {
                let _ = way::discard(files, &staged);
            }
            return Err(e);
        }
        let mut moved = files.rename(&staged, &folder);
        if moved.as_ref().is_err_and(|e| !is_lost(e)) && files.look_at(&content)?.is_none() {
            // An empty folder that a server does not replace is nobody's object.
            let emptied = files.remove_folder(&folder);
            if emptied.is_ok() {
                moved = files.rename(&staged, &folder);
            }
        }
        let Err(e) = moved else {
            let seconds = self.pool.now().seconds_since(begun);
            if (0.0..STAGED_SECONDS_MAX).contains(&seconds) {
                return Ok(());
            }
            // This writer slept, and a sweep may have emptied the folder just before it was moved.
            return match files.look_at(&content)? {
                Some(look) if look.size == Some(bytes.len() as u64) => Ok(()),
                Some(_) => Err(taken()),
                None => {
                    let message = format!("{key} was swept away while it was created");
                    Err(Error::new(ErrorKind::NotFound, message))
                }
            };
        };
        if is_lost(&e) {
            return Err(e);
        }
        let is_taken = files.look_at(&content)?.is_some();
        let _ = way::discard(files, &staged);
        Err(if is_taken { taken() } else { e })
    }
}

impl Backend for FilesBackend {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> Capabilities {
        let atomic_create = self.way != Way::Nothing;
        let parallel = self.pool.sessions_max();
        let (uploads, durability) = (UPLOADS.min(parallel), self.durability);
        Capabilities { atomic_create, parallel, uploads, durability }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.check_writable().map_err(ours)?;
        let place = self.place(key.as_str())?;
        let put = |files: &mut dyn Files| {
            self.in_folder(files, &key.folder(), |files| self.put_at(files, &place, bytes))
        };
        self.pool.repeatable(put).map_err(ours)?;
        let mut known = lock(&self.known_files);
        if self.way == Way::Folder && known.len() < KNOWN_FOLDERS_MAX {
            known.insert(key.clone());
        }
        Ok(())
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.check_writable().map_err(ours)?;
        let place = self.place(key.as_str())?;
        if self.way == Way::Nothing {
            let message = format!("{} has no atomic create", self.location);
            return Err(ours(Error::new(ErrorKind::Unsupported, message)));
        }
        let create = |files: &mut dyn Files| {
            if self.way == Way::Folder {
                self.create_by_folder(files, key, bytes)
            } else {
                self.create_by_link(files, &place, bytes)
            }
        };
        // Not done twice: the second time would meet what the first has made.
        let put = |files: &mut dyn Files| self.in_folder(files, &key.folder(), create);
        self.pool.with(put).map_err(ours)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        self.get_whole(key, bytes_max).map_err(ours)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        self.get_stretch(key, range).map_err(ours)
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let places = self.forms(key)?;
        let stat = |files: &mut dyn Files| {
            for place in &places {
                if let Some(look) = files.look_at(place)?
                    && is_file(&look)
                {
                    return look.size.map(Some).ok_or_else(|| self.no_size(key));
                }
            }
            self.check_root(files).map(|()| None)
        };
        self.pool.repeatable(stat).map_err(ours)
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let rows = self.pool.repeatable(|files| self.rows(files, folder)).map_err(ours)?;
        rows.into_iter().try_for_each(visit)
    }

    fn foreign(&self) -> Result<Option<String>> {
        self.pool.repeatable(|files| way::foreign(files, &self.root)).map_err(ours)
    }

    fn lists_deep(&self) -> bool {
        true
    }

    fn list_deep(&self, folder: &FolderKey) -> Result<Vec<ObjectInfo>> {
        self.list_below(folder).map_err(ours)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.check_writable().map_err(ours)?;
        let place = self.place(key.as_str())?;
        // What was put as a file is no folder as well.
        let was_put = lock(&self.known_files).remove(key);
        let delete = |files: &mut dyn Files| {
            match files.remove(&place) {
                Ok(()) if was_put => return Ok(()),
                Err(e) if is_lost(&e) => return Err(e),
                Err(e) if files.look_at(&place)?.as_ref().is_some_and(is_file) => return Err(e),
                // It is a folder, or below a file: no object.
                Err(_) | Ok(()) => {}
            }
            if self.way == Way::Folder { self.delete_folder(files, key) } else { Ok(()) }
        };
        self.pool.repeatable(delete).map_err(ours)?;
        lock(&self.known_folders).remove(key);
        Ok(())
    }

    fn release_reserve(&self) -> Result<bool> {
        self.give_up_reserve().map_err(ours)
    }

    fn sweep(&self) -> Result<u64> {
        self.sweep_leftovers().map_err(ours)
    }
}

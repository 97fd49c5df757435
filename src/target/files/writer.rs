//! Writes files, folders and links on a server, for one thread.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::net::files::Abilities;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::pool::Taken;
use crate::target::MetadataRules;
use crate::target::Node;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use crate::target::files::FilesTarget;
use crate::target::files::ORIGIN;
use crate::target::files::failed;
use crate::target::files::joined;
use crate::target::files::session::able;
use crate::target::files::session::fetch;
use crate::target::files::session::remove_below;
use crate::target::files::session::upload;
use crate::target::files::spool::Spool;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// What a server that does not tell permissions is taken to give.
const MODE_FILE: u32 = 0o644;
const MODE_FOLDER: u32 = 0o755;

/// Told once.
const OWNERS: &str = "the server does not set owners";

/// Writes below one root.
pub(super) struct FilesWriter<'a> {
    target: &'a FilesTarget,
    open: Option<Open>,
    /// The session that reads the open file, from the first read on.
    reading: Option<Taken>,
}

/// The file that is open.
struct Open {
    path: EntryPath,
    /// What was gathered of it; None while it is only read.
    spool: Option<Arc<Mutex<Spool>>>,
    /// Whether something stands there that is to be replaced.
    replaces: bool,
}

fn lock(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_look(kind: Kind) -> Look {
    Look { kind, size: None, modified: None, mode: None, owner: None, unique: Vec::new() }
}

impl<'a> FilesWriter<'a> {
    pub(super) fn new(target: &'a FilesTarget) -> Self {
        FilesWriter { target, open: None, reading: None }
    }

    /// Does what may be done twice.
    fn ask<T>(&self, work: impl FnMut(&mut dyn Files) -> Result<T>) -> Result<T> {
        self.target.pool.repeatable(work)
    }

    fn way(&self, path: &EntryPath) -> Vec<u8> {
        self.target.way(path)
    }

    /// Returns what stands at a path, from what is known of its folder, which is listed once.
    fn look(&self, path: &EntryPath) -> Result<Option<Look>> {
        if path.is_root() {
            let way = self.way(path);
            let way: &[u8] = if way.is_empty() { b"." } else { &way };
            let look = self.ask(|files| files.look_at(way))?;
            return Ok(Some(look.unwrap_or_else(|| new_look(Kind::Directory))));
        }
        if let Some(known) = self.target.state().known.look(path) {
            return Ok(known);
        }
        let way = joined(&self.target.root, path.parent_bytes());
        let listed = self.ask(|files| {
            let mut names = HashMap::new();
            files.list(&way, &mut |found| {
                names.insert(found.name, found.look);
                Ok(())
            })?;
            Ok(names)
        });
        let names = match listed {
            Ok(names) => names,
            // No folder: nothing is in it.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let look = names.get(path.name()).cloned();
        self.target.state().known.learn(path.parent_bytes(), names);
        Ok(look)
    }

    fn opened(&mut self) -> Result<&mut Open> {
        let none = || Error::bug("cannot write: no file is open").at(ORIGIN);
        self.open.as_mut().ok_or_else(none)
    }

    fn take_open(&mut self) -> Result<Open> {
        if let Some(mut session) = self.reading.take()
            && session.files()?.close().is_ok()
        {
            session.give_back();
        }
        self.open.take().ok_or_else(|| Error::bug("cannot close: no file is open").at(ORIGIN))
    }

    /// Returns what is gathered of the open file; of one that stands on the server all of it is
    /// fetched first.
    fn spool(&mut self) -> Result<Arc<Mutex<Spool>>> {
        let target = self.target;
        let open = self.opened()?;
        if let Some(spool) = &open.spool {
            return Ok(Arc::clone(spool));
        }
        let path = open.path.clone();
        let (spool, is_new) = {
            let mut state = target.state();
            let is_new = !state.begun.contains_key(&path);
            let spool = state.begun.entry(path.clone());
            let spool = spool.or_insert_with(|| Arc::new(Mutex::new(Spool::new())));
            (Arc::clone(spool), is_new)
        };
        if is_new {
            // Held meanwhile, so that another thread that wants to write waits for the content.
            let mut content = lock(&spool);
            let way = target.way(&path);
            let fetched = self.ask(|files| {
                *content = Spool::new();
                fetch(files, &way, &mut content, &target.scratch)
            });
            if let Err(e) = fetched {
                target.state().begun.remove(&path);
                return Err(failed("cannot read back", &path, e));
            }
        }
        self.opened()?.spool = Some(Arc::clone(&spool));
        Ok(spool)
    }

    /// Sends a file; one that replaces another is renamed over it once it is whole.
    fn send(&self, path: &EntryPath, spool: &Spool, replaces: bool) -> Result<()> {
        let way = self.way(path);
        if !replaces {
            return self.ask(|files| upload(files, &way, spool));
        }
        let name = format!(".icecore-{}", to_hex(&sys::random::<8>()?));
        let folder = joined(&self.target.root, path.parent_bytes());
        let beside = joined(&folder, name.as_bytes());
        let sent = self.ask(|files| {
            upload(files, &beside, spool)?;
            if files.abilities().replace {
                return files.rename_over(&beside, &way);
            }
            files.remove(&way)?;
            files.rename(&beside, &way)
        });
        if sent.is_err() {
            // What failed is the error to report.
            let _ = self.ask(|files| files.remove(&beside));
        }
        sent
    }

    /// Returns a word on what a server cannot keep, the first time.
    fn tell_once(&self, what: &'static str, untold: &mut Vec<String>) {
        if self.target.state().told.insert(what) {
            untold.push(format!("{what}; this is told once"));
        }
    }

    /// Sets what can be set of metadata, and returns words on what could not.
    fn set(
        &self,
        path: &EntryPath,
        kind: Kind,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let way = self.way(path);
        let way: &[u8] = if way.is_empty() { b"." } else { &way };
        let mut untold = Vec::new();
        let mut note = |what: &'static str, done: Result<()>| match done {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Unreachable => Err(e),
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                self.tell_once(what, &mut untold);
                Ok(())
            }
            Err(e) => {
                untold.push(e.full_message());
                Ok(())
            }
        };
        let owner = (metadata.owner.uid, metadata.owner.gid);
        let is_link = kind == Kind::Symlink;
        // Who may not once may never, and a round trip each is too much to hear that.
        let sets_owner = rules.owner && !is_link && !self.target.state().told.contains(OWNERS);
        self.ask(|files| {
            let can = files.abilities();
            // The time comes last, as the others may move it.
            if sets_owner {
                let done = able(can.set_owner, || files.set_owner(way, owner));
                note(OWNERS, done)?;
            }
            if !is_link {
                let done = able(can.set_mode, || files.set_mode(way, metadata.mode));
                note("the server does not set permissions", done)?;
                let done = able(can.set_time, || files.set_time(way, metadata.mtime));
                note("the server does not set times", done)?;
            }
            Ok(())
        })?;
        if !metadata.xattrs.is_empty() {
            self.tell_once("extended attributes are not kept on a server", &mut untold);
        }
        self.target.state().known.change(path, |look| {
            look.mode = Some(metadata.mode);
            look.modified = Some(Modified { time: metadata.mtime, precision: Precision::Second });
        });
        Ok(untold)
    }
}

fn entry_of(look: &Look) -> TargetEntry {
    let default = if look.kind == Kind::Directory { MODE_FOLDER } else { MODE_FILE };
    let (uid, gid) = look.owner.unwrap_or_default();
    TargetEntry {
        kind: look.kind,
        size: look.size.filter(|_| look.kind == Kind::File).unwrap_or(0),
        metadata: Metadata {
            mode: look.mode.unwrap_or(default),
            owner: Arc::new(Owner { uid, gid, ..Owner::default() }),
            mtime: look.modified.map(|modified| modified.time).unwrap_or_default(),
            xattrs: Vec::new(),
        },
        links: 1,
    }
}

impl TargetWriter for FilesWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        let begun = self.target.state().begun.get(path).map(Arc::clone);
        if let Some(spool) = begun {
            let size = Some(lock(&spool).len());
            return Ok(Some(entry_of(&Look { size, ..new_look(Kind::File) })));
        }
        let mut look = self.look(path).map_err(|e| failed("cannot look at", path, e))?;
        let is_vague = |look: &Look| {
            let is_good = |modified: &Modified| modified.precision == Precision::Second;
            look.kind == Kind::File && !look.modified.as_ref().is_some_and(is_good)
        };
        if look.as_ref().is_some_and(is_vague) {
            let way = self.way(path);
            let better = self.ask(|files| files.look_at(&way));
            look = better.map_err(|e| failed("cannot look at", path, e))?;
        }
        Ok(look.as_ref().map(entry_of))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        let way = self.way(path);
        let listed = self.ask(|files| {
            let mut names = Vec::new();
            files.list(&way, &mut |found| {
                names.push(found.name);
                Ok(())
            })?;
            Ok(names)
        });
        let mut names = listed.map_err(|e| failed("cannot list", path, e))?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        let way = self.way(path);
        let made = self.ask(|files| match files.make_folder(&way) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        });
        if made.map_err(|e| failed("cannot make", path, e))? {
            let mut state = self.target.state();
            state.known.put(path, new_look(Kind::Directory));
            state.known.learn(path.as_bytes(), HashMap::new());
            return Ok(());
        }
        let look = self.look(path).map_err(|e| failed("cannot look at", path, e))?;
        let Some(look) = look.filter(|look| look.kind == Kind::Directory) else {
            let message = format!("cannot make {path}: something else stands there");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN));
        };
        if let Some(mode) = look.mode.filter(|mode| mode & 0o700 != 0o700) {
            let set = self.ask(|files| files.set_mode(&way, mode | 0o700));
            set.map_err(|e| failed("cannot make writable", path, e))?;
        }
        Ok(())
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let is_begun = self.target.state().begun.contains_key(path);
        let look = self.look(path).map_err(|e| failed("cannot look at", path, e))?;
        if is_begun || look.is_some() {
            let message = format!("cannot make {path}: something stands there");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN));
        }
        let spool = Arc::new(Mutex::new(Spool::new()));
        self.target.state().begun.insert(path.clone(), Arc::clone(&spool));
        self.open = Some(Open { path: path.clone(), spool: Some(spool), replaces: false });
        Ok(())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let spool = self.target.state().begun.get(path).map(Arc::clone);
        let look = self.look(path).map_err(|e| failed("cannot open", path, e))?;
        let replaces = match &look {
            None if spool.is_some() => false,
            None => {
                let missing = Error::new(ErrorKind::NotFound, "it is not there");
                return Err(failed("cannot open", path, missing));
            }
            Some(look) if look.kind == Kind::File => true,
            Some(_) => {
                let message = format!("cannot open {path}: it is no file");
                return Err(Error::invalid(message).at(ORIGIN));
            }
        };
        self.open = Some(Open { path: path.clone(), spool, replaces });
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).write_at(offset, bytes, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let target = self.target;
        let open = self.opened()?;
        if let Some(spool) = &open.spool {
            return lock(spool).read_at(offset, buffer).map_err(|e| e.at(ORIGIN));
        }
        let path = open.path.clone();
        let way = target.way(&path);
        let read = |session: &mut Taken, is_new: bool, buffer: &mut [u8]| {
            let files = session.files()?;
            if is_new {
                files.open(&way, offset)?;
            }
            files.read_at(offset, buffer)
        };
        let is_new = self.reading.is_none();
        let mut session = match self.reading.take() {
            Some(session) => session,
            None => target.pool.take().map_err(|e| failed("cannot read back", &path, e))?,
        };
        let mut got = read(&mut session, is_new, buffer);
        if got.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) && session.was_idle() {
            target.pool.drop_idle();
            session = target.pool.take().map_err(|e| failed("cannot read back", &path, e))?;
            got = read(&mut session, true, buffer);
        }
        match got {
            Ok(count) => {
                self.reading = Some(session);
                Ok(count)
            }
            Err(e) => Err(failed("cannot read back", &path, e)),
        }
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).clear(offset, length, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        let spool = self.spool()?;
        lock(&spool).set_length(length, &self.target.scratch).map_err(|e| e.at(ORIGIN))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        let Open { path, spool, replaces } = self.take_open()?;
        let begun = self.target.state().begun.remove(&path);
        if let Some(spool) = begun.or(spool) {
            let spool = lock(&spool);
            self.send(&path, &spool, replaces).map_err(|e| failed("cannot write", &path, e))?;
            let look = Look { size: Some(spool.len()), ..new_look(Kind::File) };
            self.target.state().known.put(&path, look);
        }
        let set = self.set(&path, Kind::File, metadata, rules);
        set.map_err(|e| failed("cannot set the metadata of", &path, e))
    }

    fn close_file(&mut self) -> Result<()> {
        let open = self.take_open()?;
        // Others go on with it, and until then it is not to fill the memory.
        if let Some(spool) = &open.spool {
            lock(spool).to_disk(&self.target.scratch).map_err(|e| e.at(ORIGIN))?;
        }
        Ok(())
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let Node::Symlink(to) = node else {
            let message = format!("cannot make {path}: a server takes no pipes and no devices");
            return Err(Error::new(ErrorKind::Unsupported, message).at(ORIGIN));
        };
        if self.look(path).map_err(|e| failed("cannot look at", path, e))?.is_some() {
            let message = format!("cannot make {path}: something stands there");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN));
        }
        let way = self.way(path);
        let made = self.ask(|files| {
            able(files.abilities().symlinks, || files.make_symlink(&way, to))
        });
        made.map_err(|e| failed("cannot make the link", path, e))?;
        self.target.state().known.put(path, new_look(Kind::Symlink));
        let set = self.set(path, Kind::Symlink, metadata, rules);
        set.map_err(|e| failed("cannot set the metadata of", path, e))
    }

    /// Where the server has no second names, the content is sent once more.
    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        if self.look(path).map_err(|e| failed("cannot look at", path, e))?.is_some() {
            let message = format!("cannot make {path}: something stands there");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN));
        }
        let (from, to) = (self.way(existing), self.way(path));
        let scratch = &self.target.scratch;
        let linked = self.ask(|files| {
            if files.abilities().link {
                return files.link(&from, &to);
            }
            let mut spool = Spool::new();
            fetch(files, &from, &mut spool, scratch)?;
            upload(files, &to, &spool)
        });
        linked.map_err(|e| failed("cannot make", path, e))?;
        let look = self.look(existing).map_err(|e| failed("cannot look at", existing, e))?;
        self.target.state().known.put(path, look.unwrap_or_else(|| new_look(Kind::File)));
        Ok(())
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let look = self.look(path).map_err(|e| failed("cannot look at", path, e))?;
        let kind = look.map_or(Kind::File, |look| look.kind);
        let set = self.set(path, kind, metadata, rules);
        set.map_err(|e| failed("cannot set the metadata of", path, e))
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Err(Error::invalid("the root of a target is not removed").at(ORIGIN));
        }
        self.target.state().begun.remove(path);
        let Some(look) = self.look(path).map_err(|e| failed("cannot look at", path, e))? else {
            return Ok(());
        };
        let way = self.way(path);
        let removed = self.ask(|files| match look.kind {
            Kind::Directory => remove_below(files, &way),
            _ => files.remove(&way),
        });
        let mut state = self.target.state();
        match removed {
            Ok(()) => state.known.take(path),
            Err(_) => state.known.forget_folder_of(path),
        }
        drop(state);
        removed.map_err(|e| failed("cannot remove", path, e))
    }

    /// Sends what was closed and not finished. Files are made durable when they are sent, where
    /// the server can do so.
    fn sync(&mut self) -> Result<()> {
        let begun = std::mem::take(&mut self.target.state().begun);
        for (path, spool) in begun {
            let there = self.look(&path).map_err(|e| failed("cannot look at", &path, e))?;
            let spool = lock(&spool);
            let sent = self.send(&path, &spool, there.is_some());
            sent.map_err(|e| failed("cannot write", &path, e))?;
            let look = Look { size: Some(spool.len()), ..new_look(Kind::File) };
            self.target.state().known.put(&path, look);
        }
        Ok(())
    }
}

//! What stands on the server and what is sent there, asked in whole steps that may be done twice.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::target::MetadataRules;
use crate::target::files::FilesTarget;
use crate::target::files::ORIGIN;
use crate::target::files::failed;
use crate::target::files::joined;
use crate::target::files::lock;
use crate::target::files::new_look;
use crate::target::files::session::able;
use crate::target::files::session::upload;
use crate::target::spool::Spool;
use std::collections::HashMap;
use std::sync::Arc;

/// Told once.
const OWNERS: &str = "the server does not set owners";

impl FilesTarget {
    /// Does what may be done twice.
    pub(super) fn ask<T>(&self, work: impl FnMut(&mut dyn Files) -> Result<T>) -> Result<T> {
        self.pool.repeatable(work)
    }

    /// Returns what stands at a path, from what is known of its folder, which is listed once.
    /// `NotFound` where there is no such folder, `AlreadyExists` where something else stands there.
    pub(super) fn look_there(&self, path: &EntryPath) -> Result<Option<Look>> {
        if path.is_root() {
            let way = self.way(path);
            let way: &[u8] = if way.is_empty() { b"." } else { &way };
            let look = self.ask(|files| files.look_at(way))?;
            return Ok(Some(look.unwrap_or_else(|| new_look(Kind::Directory))));
        }
        if let Some(known) = self.state().known.look(path) {
            return Ok(known);
        }
        self.check_folder_of(path)?;
        let way = joined(&self.root, path.parent_bytes());
        let way: &[u8] = if way.is_empty() { b"." } else { &way };
        let names = self.ask(|files| {
            let mut names = HashMap::new();
            files.list(way, &mut |found| {
                names.insert(found.name, found.look);
                Ok(())
            })?;
            Ok(names)
        })?;
        let look = names.get(path.name()).cloned();
        self.state().known.learn(path.parent_bytes(), names);
        Ok(look)
    }

    /// Makes sure that a path's folder is one: a link there would lead elsewhere.
    pub(super) fn check_folder_of(&self, path: &EntryPath) -> Result<()> {
        let Some(folder) = path.parent().filter(|folder| !folder.is_root()) else { return Ok(()) };
        match self.look(&folder)? {
            Some(look) if look.kind == Kind::Directory => Ok(()),
            Some(_) => {
                let message = "a link or a file stands where a folder must be";
                Err(Error::new(ErrorKind::AlreadyExists, message))
            }
            None => Err(Error::new(ErrorKind::NotFound, "its folder is missing")),
        }
    }

    /// As [`Self::look_there`], and files that were begun and not sent stand there as well.
    pub(super) fn look(&self, path: &EntryPath) -> Result<Option<Look>> {
        let begun = self.state().begun.get(path).map(Arc::clone);
        match begun {
            Some(spool) => {
                Ok(Some(Look { size: Some(lock(&spool).len()), ..new_look(Kind::File) }))
            }
            None => self.look_there(path),
        }
    }

    /// As [`Self::look`], where nothing can stand in what is no folder.
    pub(super) fn look_or_nothing(&self, path: &EntryPath) -> Result<Option<Look>> {
        match self.look(path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {
                Ok(None)
            }
            other => other,
        }
    }

    /// Looks whether a path is free for something new.
    pub(super) fn make_room(&self, path: &EntryPath) -> Result<()> {
        let look = self.look(path).map_err(|e| failed("cannot make", path, e))?;
        if look.is_none() {
            return Ok(());
        }
        let message = format!("cannot make {path}: something stands there");
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }

    /// Sends a file that was closed and not finished.
    pub(super) fn send_begun(&self, path: &EntryPath) -> Result<()> {
        let Some(spool) = self.state().begun.remove(path) else { return Ok(()) };
        let there = self.look_there(path).map_err(|e| failed("cannot look at", path, e))?;
        let spool = lock(&spool);
        let sent = self.send(path, &spool, there.is_some());
        sent.map_err(|e| failed("cannot write", path, e))?;
        let look = Look { size: Some(spool.len()), ..new_look(Kind::File) };
        self.state().known.put(path, look);
        Ok(())
    }

    /// Sends a file; one that replaces another is renamed over it once it is whole.
    pub(super) fn send(&self, path: &EntryPath, spool: &Spool, replaces: bool) -> Result<()> {
        let way = self.way(path);
        if !replaces {
            return self.ask(|files| upload(files, &way, spool));
        }
        let name = format!(".icecore-{}", to_hex(&sys::random::<8>()?));
        let folder = joined(&self.root, path.parent_bytes());
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
    pub(super) fn tell_once(&self, what: &'static str, untold: &mut Vec<String>) {
        if self.state().told.insert(what) {
            untold.push(format!("{what}; this is told once"));
        }
    }

    /// Sets what can be set of metadata, and returns words on what could not.
    pub(super) fn set(
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
        let sets_owner = rules.owner && !is_link && !self.state().told.contains(OWNERS);
        self.ask(|files| {
            let can = files.abilities();
            // The time comes last, as the others may move it.
            // Where a protocol has no owners at all (FTP), none were stored from there either.
            if sets_owner && can.set_owner {
                note(OWNERS, files.set_owner(way, owner))?;
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
        if !is_link {
            let time = Timestamp::new(metadata.mtime.seconds(), 0);
            self.state().known.change(path, |look| {
                look.mode = Some(metadata.mode);
                look.owner = rules.owner.then_some(owner).or(look.owner);
                look.modified = Some(Modified { time, precision: Precision::Second });
            });
        }
        Ok(untold)
    }
}

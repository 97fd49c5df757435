//! What stands on the server and what is sent there, asked in whole steps that may be done twice.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::net::files::Files;
use crate::net::files::Look;
use crate::net::files::Marked;
use crate::net::files::Marks;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::files::Proof;
use crate::target::MetadataRules;
use crate::target::files::FilesTarget;
use crate::target::files::ORIGIN;
use crate::target::files::failed;
use crate::target::files::joined;
use crate::target::files::lock;
use crate::target::files::new_look;
use crate::target::files::session::able;
use crate::target::known::Names;
use crate::target::known::Word;
use crate::target::spool::Spool;
use std::sync::Arc;
use std::sync::Mutex;

/// What may be set of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Owner,
    Mode,
    Time,
    /// Of a folder, which some servers set of files only.
    FolderTime,
    Attributes,
}

impl Mark {
    /// Returns what is told of a server that does not keep it.
    pub(super) fn not_kept(self) -> &'static str {
        match self {
            Mark::Owner => "the server does not set owners",
            Mark::Mode => "the server does not set permissions",
            Mark::Time => "the server does not set times",
            Mark::FolderTime => "the server does not set times of folders",
            Mark::Attributes => "the server keeps no extended attributes",
        }
    }
}

/// What a file is to have when it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    marks: Marks,
    proof: Proof,
    /// Whether an owner is to be set before, by servers that do that.
    sets_owner: bool,
}

impl Wish {
    pub(super) fn new(metadata: &Metadata, proof: Proof, sets_owner: bool) -> Self {
        let marks = Marks { mode: metadata.mode, time: metadata.mtime };
        Wish { marks, proof, sets_owner }
    }

    /// The same, proven at once.
    pub(super) fn proven_now(self) -> Self {
        Wish { proof: Proof::Now, ..self }
    }

    /// Returns what a session is to set in one go with the content, and when it proves that.
    pub(super) fn marks(self, files: &dyn Files) -> Option<(Marks, Proof)> {
        let sets_owner = self.sets_owner && files.abilities().set_owner;
        (!sets_owner).then_some((self.marks, self.proof))
    }
}

impl FilesTarget {
    /// Does what may be done twice, and again while the connection breaks.
    pub(super) fn ask<T>(&self, mut work: impl FnMut(&mut dyn Files) -> Result<T>) -> Result<T> {
        self.patiently(|| self.pool.repeatable(&mut work))
    }

    /// Tries again what had no answer, after some time. A server that never answers is not asked
    /// any more: what a restore leaves unfinished is removed file by file, and each would wait.
    pub(super) fn patiently<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        for wait in self.waits {
            self.check_given_up()?;
            match work() {
                Err(e) if e.kind() == ErrorKind::Unreachable => std::thread::sleep(wait),
                other => return other,
            }
        }
        self.check_given_up()?;
        let last = work();
        if last.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) {
            self.state().is_given_up = true;
        }
        last
    }

    fn check_given_up(&self) -> Result<()> {
        if self.state().is_given_up {
            let message = format!("{} does not answer any more", self.pool.shown());
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        Ok(())
    }

    /// Returns the tags of the folders that a path is in, where the server has them.
    pub(super) fn tags_above(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        let mut tags = Vec::new();
        let mut below = path.parent();
        while let Some(folder) = below {
            let tag = self.look_there(&folder)?.map(|look| look.unique).unwrap_or_default();
            tags.extend(Some(tag).filter(|tag| !tag.is_empty()));
            below = folder.parent();
        }
        Ok(tags)
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
        let word = self.state().known.look(path);
        match word {
            Word::There(look) => return Ok(Some(look)),
            Word::Nothing => return Ok(None),
            Word::Alone => return self.look_alone(path),
            Word::Unknown => {}
        }
        self.check_folder_of(path)?;
        let way = joined(&self.root, path.parent_bytes());
        let way: &[u8] = if way.is_empty() { b"." } else { &way };
        let listed = self.ask(|files| {
            let mut names = Names::new();
            files.list(way, &mut |found| {
                names.insert(found.name, found.look);
                Ok(())
            })?;
            Ok(names)
        });
        let names = match listed {
            Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unsupported) => {
                // One that may be entered and not read, or that has more names than are listed.
                self.state().known.learn_unlisted(path.parent_bytes());
                return self.look_alone(path);
            }
            listed => listed?,
        };
        let look = names.get(path.name()).cloned();
        let mut state = self.state();
        state.clashes.meet(path.parent_bytes(), names.keys());
        state.known.learn(path.parent_bytes(), names);
        Ok(look)
    }

    fn look_alone(&self, path: &EntryPath) -> Result<Option<Look>> {
        let way = self.way(path);
        self.ask(|files| files.look_at(&way))
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

    /// Looks whether a path is free for something new, and begins it where it is a file.
    pub(super) fn make_room(
        &self,
        path: &EntryPath,
        spool: Option<&Arc<Mutex<Spool>>>,
    ) -> Result<()> {
        let look = self.look(path).map_err(|e| failed("cannot make", path, e))?;
        if look.is_none() {
            return self.claim(path, spool).map_err(|e| e.at(ORIGIN));
        }
        let message = format!("cannot make {path}: something stands there");
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }

    /// Returns what a file is to have when it is sent.
    pub(super) fn wish(&self, metadata: &Metadata, rules: MetadataRules, proof: Proof) -> Wish {
        Wish::new(metadata, proof, self.sets_owner(Kind::File, rules))
    }

    /// Who may not set an owner once may never, and a round trip each is too much to hear that.
    fn sets_owner(&self, kind: Kind, rules: MetadataRules) -> bool {
        let state = self.state();
        let may = !state.not_kept.contains(&Mark::Owner) && !state.denied.contains(&Mark::Owner);
        rules.owner && kind != Kind::Symlink && may
    }

    /// Sets what can be set of metadata, and returns words on what was refused; a lack of rights is
    /// told once. Of what the server cannot do at all the end of the restore tells.
    pub(super) fn set(
        &self,
        path: &EntryPath,
        kind: Kind,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let way = self.way(path);
        if path.is_root() && (way.is_empty() || way == b"/") {
            // The folder that a login lands in, or the server's own, is not ours.
            return Ok(Vec::new());
        }
        let owner = (metadata.owner.uid, metadata.owner.gid);
        let sets_owner = self.sets_owner(kind, rules);
        let mut refused = Vec::new();
        self.ask(|files| {
            let can = files.abilities();
            // The time comes last, as the others may move it.
            // Where a protocol has no owners at all (FTP), none were stored from there either.
            if sets_owner && can.set_owner {
                self.note(Mark::Owner, files.set_owner(&way, owner), &mut refused)?;
            }
            if kind != Kind::Symlink {
                let done = able(can.set_mode, || files.set_mode(&way, metadata.mode));
                self.note(Mark::Mode, done, &mut refused)?;
                let done = able(can.set_time, || files.set_time(&way, metadata.mtime));
                let is_folder = kind == Kind::Directory && can.set_time;
                let time = if is_folder { Mark::FolderTime } else { Mark::Time };
                self.note(time, done, &mut refused)?;
            }
            Ok(())
        })?;
        self.learn_set(path, kind, metadata, rules);
        Ok(refused)
    }

    /// As [`Self::set`] of a file that was given what it is to have when it was sent.
    pub(super) fn was_set(
        &self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
        marked: Marked,
    ) -> Result<Vec<String>> {
        let mut refused = Vec::new();
        self.note(Mark::Mode, marked.mode, &mut refused)?;
        self.note(Mark::Time, marked.time, &mut refused)?;
        self.learn_set(path, Kind::File, metadata, rules);
        Ok(refused)
    }

    /// Makes a word of what was refused, and remembers what the server cannot do.
    fn note(&self, mark: Mark, done: Result<()>, refused: &mut Vec<String>) -> Result<()> {
        match done {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Unreachable => return Err(e),
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                self.state().not_kept.insert(mark);
            }
            Err(e) if e.kind() == ErrorKind::Denied => {
                if self.state().denied.insert(mark) {
                    refused.push(format!("{}; this is told once", mark.not_kept()));
                }
            }
            Err(e) => refused.push(e.full_message()),
        }
        Ok(())
    }

    /// Remembers what was set.
    fn learn_set(&self, path: &EntryPath, kind: Kind, metadata: &Metadata, rules: MetadataRules) {
        let mut state = self.state();
        if !metadata.xattrs.is_empty() {
            state.not_kept.insert(Mark::Attributes);
        }
        if kind == Kind::Symlink {
            return;
        }
        let owner = (metadata.owner.uid, metadata.owner.gid);
        let time = Timestamp::new(metadata.mtime.seconds(), 0);
        state.known.change(path, |look| {
            look.mode = Some(metadata.mode);
            look.owner = rules.owner.then_some(owner).or(look.owner);
            look.modified = Some(Modified { time, precision: Precision::Second });
        });
    }
}

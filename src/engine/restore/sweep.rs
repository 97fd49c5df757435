//! Deletes what the backup does not have: what stood in a folder and was not met in the stream, and
//! folders in the way.
//!
//! What a restore does not look at it does not delete either: in a folder that goes, what the
//! selection leaves out stays, and with it the folders above it; so do the repository and its cache
//! where they lie in the target, as backups leave them out by themselves. What lies on another file
//! system than the target's root stays as well. Not always can it be told that a place is the
//! repository's, as one server may have two names: so no folder that looks like a repository is
//! deleted, nor anything in one. No recursion: a stack of paths, of which each level of the tree
//! holds those of one folder.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::engine::restore::Own;
use crate::engine::restore::Spared;
use crate::engine::restore::spare::why_spared;
use crate::engine::restore::walk::Walker;
use crate::engine::restore::work::stops;
use crate::format::entry::Entry;
use crate::repository::layout;
use std::collections::VecDeque;

/// Folders that are looked into before one is deleted, on a server that shows links as what they
/// lead to: where two lead back there is no end to them.
const SEEMING_FOLDERS_MAX: usize = 10_000;

/// A folder of the backup in which nothing is deleted.
pub(super) struct Barred {
    path: EntryPath,
    why: Why,
    /// Whether it was told that something stays there.
    is_told: bool,
}

/// Why nothing is deleted in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Another file system is mounted there.
    Mounted,
    /// It looks like a repository.
    Repository,
}

/// What keeps a folder from being deleted whole.
enum Stays {
    /// Something in it is left out, or is the repository's own.
    Something,
    /// This folder looks like a repository.
    Repository(EntryPath),
}

impl Walker<'_, '_> {
    /// Takes notice of a folder in which nothing is deleted. Those in it are within it.
    pub(super) fn bar(&mut self, path: &EntryPath, why: Why) {
        if self.barred_at(path).is_none() {
            self.barred = Some(Barred { path: path.clone(), why, is_told: false });
        }
    }

    fn barred_at(&self, path: &EntryPath) -> Option<Why> {
        let barred = self.barred.as_ref().filter(|barred| path.is_within(&barred.path));
        barred.map(|barred| barred.why)
    }

    /// Says, once for each of them, that nothing is deleted in a barred folder.
    fn tell_barred(&mut self) -> Result<()> {
        let Some(barred) = self.barred.as_mut().filter(|barred| !barred.is_told) else {
            return Ok(());
        };
        barred.is_told = true;
        let (path, why) = (barred.path.clone(), barred.why);
        match why {
            Why::Mounted => {
                let why =
                    "another file system is mounted there: what the backup does not have stays";
                self.work.context.progress.warn(&Warning::note(&path, why));
                Ok(())
            }
            Why::Repository => {
                // The root's path is empty.
                let shown = match path.is_root() {
                    true => self.work.target.location(),
                    false => path.to_string(),
                };
                let message = format!("cannot delete what the backup does not have in {shown}");
                self.work.fail(&path, repository_there(&message))
            }
        }
    }

    /// Leaves an entry out that would change what the restore leaves alone, and says whether it is
    /// one. That is an error, but in the cache: nobody misses anything of that.
    pub(super) fn is_left_alone(&mut self, entry: &Entry) -> Result<bool> {
        let path = &entry.path;
        let is_there = |spared: &Spared| spared.what == Own::Cache && path.is_within(&spared.path);
        if self.work.options.spared.iter().any(is_there) {
            let why = "the cache is there: this is not restored";
            self.work.context.progress.warn(&Warning::note(path, why));
            self.skip(entry);
            return Ok(true);
        }
        match self.refuse_spared(entry) {
            Ok(()) => Ok(false),
            Err(e) => self.fail(entry, e).map(|()| true),
        }
    }

    /// Refuses an entry that would be written into what the restore leaves alone, or in the place
    /// of a folder above it.
    fn refuse_spared(&self, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        for Spared { path: spared, what } in &self.work.options.spared {
            if path.is_within(spared) {
                let message = format!("cannot restore {path}: {what} is there");
                return Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target));
            }
            if spared.is_within(path) && entry.kind() != Kind::Directory {
                let message = format!("cannot restore {path}: {what} is in the folder there");
                return Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target));
            }
        }
        Ok(())
    }

    /// Returns the names in a folder that was there, when what is extra is to be deleted.
    pub(super) fn names_to_sweep(&mut self, path: &EntryPath) -> Result<Option<Vec<Vec<u8>>>> {
        if !self.work.options.delete || self.writer.is_none() {
            return Ok(None);
        }
        match self.writer()?.list(path) {
            Ok(names) => {
                if layout::is_repository(names.iter().map(Vec::as_slice)) {
                    self.bar(path, Why::Repository);
                }
                Ok(Some(names))
            }
            Err(e) => self.work.fail(path, e).map(|()| None),
        }
    }

    /// Deletes what stands before `next` in its folder and was not met in the stream.
    pub(super) fn sweep(&mut self, next: &EntryPath) -> Result<()> {
        let Some(folder) = self.folders.top() else { return Ok(()) };
        let names = folder.extra_before(Some(next.name()));
        let Some(parent) = next.parent().filter(|_| !names.is_empty()) else { return Ok(()) };
        let mut seen = std::mem::take(&mut folder.seen);
        let names = self.without_taken(&mut seen, &parent, names);
        if let Some(folder) = self.folders.top() {
            folder.seen = seen;
        }
        self.remove_extra(&parent, names?)
    }

    /// Deletes things of a folder, in order, but for what the selection leaves out.
    pub(super) fn remove_extra(&mut self, folder: &EntryPath, names: Vec<Vec<u8>>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        if self.barred_at(folder).is_some() {
            return self.tell_barred();
        }
        let mut paths = children(folder, names)?;
        while let Some(path) = paths.pop() {
            self.work.context.cancel.check()?;
            match self.remove_one(&path) {
                Ok(below) => paths.extend(below),
                Err(e) => self.work.fail(&path, e)?,
            }
            // All of a tree may go here, one by one.
            if self.is_plan_full() {
                self.flush(false)?;
            }
        }
        Ok(())
    }

    /// Deletes one thing whole. Of a folder in which something stays it returns what is in it.
    fn remove_one(&mut self, path: &EntryPath) -> Result<Vec<EntryPath>> {
        let mut spared = self.work.options.spared.iter();
        if let Some(Spared { what, .. }) = spared.find(|spared| path.is_within(&spared.path)) {
            self.work.context.progress.warn(&Warning::note(path, format!("{what} stays")));
            return Ok(Vec::new());
        }
        let Some(there) = self.writer()?.stat(path)? else { return Ok(Vec::new()) };
        if self.selection.leaves_out(path, there.kind, there.size)? {
            return Ok(Vec::new());
        }
        if let Some(why) = why_spared(self.selection.source(), there.kind) {
            self.work.context.progress.warn(&Warning::note(path, why));
            return Ok(Vec::new());
        }
        if there.is_mount {
            let message = format!("cannot delete {path}: another file system is mounted there");
            return Err(Error::new(ErrorKind::Busy, message).at(Origin::Target));
        }
        let holds = self.work.options.spared.iter().find(|spared| spared.path.is_within(path));
        let holds = holds.map(|spared| spared.what);
        if let (Some(what), Kind::Symlink) = (holds, there.kind) {
            let why = format!("{what} is behind it, which stays");
            self.work.context.progress.warn(&Warning::note(path, why));
            return Ok(Vec::new());
        }
        // What a link leads to may be what was restored just now, or lie outside of the target.
        let may_go = there.kind == Kind::Directory && holds.is_none() && !self.is_dry();
        if may_go && self.writer()?.remove_link(path)? {
            self.deleted(path);
            return Ok(Vec::new());
        }
        let stays = match there.kind {
            Kind::Directory => self.what_stays(path)?,
            _ => None,
        };
        match stays {
            None => self.delete(path).map(|()| Vec::new()),
            Some(Stays::Repository(at)) if at == *path => {
                Err(repository_there(&format!("cannot delete {path}")))
            }
            Some(_) => {
                let names = self.writer()?.list(path)?;
                children(path, names)
            }
        }
    }

    /// Makes room where a folder stands and something else shall.
    pub(super) fn clear(&mut self, path: &EntryPath) -> Result<()> {
        let is_mount = self.writer()?.stat(path)?.is_some_and(|there| there.is_mount);
        let in_the_way = |why: &str| {
            let message = format!("cannot restore {path}: the folder there {why}");
            Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target)
        };
        match self.barred_at(path) {
            Some(Why::Repository) => {
                return Err(repository_there(&format!("cannot restore {path}")));
            }
            None if !is_mount => {}
            _ => {
                let why = "is on a file system of its own, and nothing on it is deleted";
                return Err(in_the_way(why));
            }
        }
        match self.what_stays(path)? {
            None => {}
            Some(Stays::Something) => return Err(in_the_way("holds what is left out")),
            Some(Stays::Repository(at)) => {
                let message = format!("cannot restore {path} in the place of {at}");
                return Err(repository_there(&message));
            }
        }
        self.delete(path)
    }

    fn delete(&mut self, path: &EntryPath) -> Result<()> {
        if !self.is_dry() {
            self.writer()?.remove(path)?;
        }
        self.deleted(path);
        Ok(())
    }

    fn deleted(&mut self, path: &EntryPath) {
        self.planned(path, "delete");
        self.work.count_deleted();
    }

    /// Says what keeps a folder from being deleted whole, if anything does.
    fn what_stays(&mut self, folder: &EntryPath) -> Result<Option<Stays>> {
        let spared = &self.work.options.spared;
        if spared.iter().any(|spared| spared.path.is_within(folder)) {
            return Ok(Some(Stays::Something));
        }
        let goes_whole = self.selection.leaves_nothing_out();
        let may_not_end = self.writer()?.shows_links_as_folders()?;
        let mut looked_at = 0;
        // Those near the top first: they are seen though there is no end below them.
        let mut folders = VecDeque::from([folder.clone()]);
        while let Some(folder) = folders.pop_front() {
            self.work.context.cancel.check()?;
            looked_at += 1;
            if may_not_end && looked_at > SEEMING_FOLDERS_MAX {
                if goes_whole {
                    return Ok(None);
                }
                let message =
                    format!("cannot delete what {folder} is in: too much seems to be there");
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .hint("a link may lead back to a folder above")
                    .at(Origin::Target));
            }
            let names = match self.writer()?.list_folders(&folder) {
                // What cannot be listed was no repository that this machine could use. Whether it
                // can be deleted shows when it is.
                Err(e) if goes_whole && !stops(&e) => continue,
                listed => listed?,
            };
            if layout::is_repository(names.iter().map(|(name, _)| name.as_slice())) {
                return Ok(Some(Stays::Repository(folder)));
            }
            for (name, is_folder) in names {
                if goes_whole && !is_folder {
                    continue;
                }
                let path = folder.join(&name)?;
                if !goes_whole {
                    let Some(there) = self.writer()?.stat(&path)? else { continue };
                    if self.selection.leaves_out(&path, there.kind, there.size)? {
                        return Ok(Some(Stays::Something));
                    }
                }
                if is_folder {
                    folders.push_back(path);
                }
            }
        }
        Ok(None)
    }
}

/// The error of what would be deleted, and looks like a repository.
fn repository_there(doing: &str) -> Error {
    let why = "an icecore repository is there; remove it yourself if you mean it";
    Error::new(ErrorKind::AlreadyExists, format!("{doing}: {why}")).at(Origin::Target)
}

/// Returns the paths of names in a folder, the last one first.
fn children(folder: &EntryPath, names: Vec<Vec<u8>>) -> Result<Vec<EntryPath>> {
    names.iter().rev().map(|name| folder.join(name)).collect()
}

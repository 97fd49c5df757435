//! Deletes what the backup does not have: what stood in a folder and was not met in the stream, and
//! folders in the way.
//!
//! What a restore does not look at it does not delete either: in a folder that goes, what the
//! selection leaves out stays, and with it the folders above it. What lies on another file system
//! than the target's root stays as well. No recursion: a stack of paths, of which each level of the
//! tree holds those of one folder.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::progress::Warning;
use crate::engine::restore::walk::Walker;

/// A folder of the backup on which another file system is mounted in the target.
pub(super) struct Mounted {
    path: EntryPath,
    /// Whether it was told that something stays there.
    is_told: bool,
}

impl Walker<'_, '_> {
    /// Takes notice of a folder on which another file system is mounted. Those mounted in it are
    /// within it.
    pub(super) fn enter_mounted(&mut self, path: &EntryPath) {
        if !self.is_on_mounted(path) {
            self.mounted = Some(Mounted { path: path.clone(), is_told: false });
        }
    }

    fn is_on_mounted(&self, path: &EntryPath) -> bool {
        self.mounted.as_ref().is_some_and(|mounted| path.is_within(&mounted.path))
    }

    /// Says, once for each of them, that nothing is deleted on a mounted file system.
    fn tell_mounted(&mut self) {
        if let Some(mounted) = self.mounted.as_mut().filter(|mounted| !mounted.is_told) {
            mounted.is_told = true;
            let why = "another file system is mounted there: what the backup does not have stays";
            self.work.context.progress.warn(&Warning::note(&mounted.path, why));
        }
    }

    /// Returns the names in a folder that was there, when what is extra is to be deleted.
    pub(super) fn names_to_sweep(&mut self, path: &EntryPath) -> Result<Option<Vec<Vec<u8>>>> {
        if !self.work.options.delete || self.writer.is_none() {
            return Ok(None);
        }
        match self.writer()?.list(path) {
            Ok(names) => Ok(Some(names)),
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
        if self.is_on_mounted(folder) {
            self.tell_mounted();
            return Ok(());
        }
        let mut paths = children(folder, names)?;
        while let Some(path) = paths.pop() {
            self.work.context.cancel.check()?;
            match self.remove_one(&path) {
                Ok(below) => paths.extend(below),
                Err(e) => self.work.fail(&path, e)?,
            }
        }
        Ok(())
    }

    /// Deletes one thing whole. Of a folder in which something stays it returns what is in it.
    fn remove_one(&mut self, path: &EntryPath) -> Result<Vec<EntryPath>> {
        let Some(there) = self.writer()?.stat(path)? else { return Ok(Vec::new()) };
        if self.selection.leaves_out(path, there.kind, there.size)? {
            return Ok(Vec::new());
        }
        if there.is_mount {
            let message = format!("cannot delete {path}: another file system is mounted there");
            return Err(Error::new(ErrorKind::Busy, message).at(Origin::Target));
        }
        if there.kind == Kind::Directory && self.holds_left_out(path)? {
            let names = self.writer()?.list(path)?;
            return children(path, names);
        }
        self.delete(path).map(|()| Vec::new())
    }

    /// Makes room where a folder stands and something else shall.
    pub(super) fn clear(&mut self, path: &EntryPath) -> Result<()> {
        let there = self.writer()?.stat(path)?;
        if self.is_on_mounted(path) || there.is_some_and(|there| there.is_mount) {
            let message = format!(
                "cannot restore {path}: the folder there is on a file system of its own, and \
                 nothing on it is deleted"
            );
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target));
        }
        if self.holds_left_out(path)? {
            let message = format!("cannot restore {path}: the folder there holds what is left out");
            return Err(Error::new(ErrorKind::AlreadyExists, message).at(Origin::Target));
        }
        self.delete(path)
    }

    fn delete(&mut self, path: &EntryPath) -> Result<()> {
        if !self.is_dry() {
            self.writer()?.remove(path)?;
        }
        self.planned(path, "delete");
        self.work.count_deleted();
        Ok(())
    }

    /// Says whether anything below a folder is left out of the selection.
    fn holds_left_out(&mut self, folder: &EntryPath) -> Result<bool> {
        if self.selection.leaves_nothing_out() {
            return Ok(false);
        }
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            self.work.context.cancel.check()?;
            let names = self.writer()?.list(&folder)?;
            for path in children(&folder, names)? {
                let Some(there) = self.writer()?.stat(&path)? else { continue };
                if self.selection.leaves_out(&path, there.kind, there.size)? {
                    return Ok(true);
                }
                if there.kind == Kind::Directory {
                    folders.push(path);
                }
            }
        }
        Ok(false)
    }
}

/// Returns the paths of names in a folder, the last one first.
fn children(folder: &EntryPath, names: Vec<Vec<u8>>) -> Result<Vec<EntryPath>> {
    names.iter().rev().map(|name| folder.join(name)).collect()
}

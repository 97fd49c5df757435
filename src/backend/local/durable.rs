//! What of the folders below the root is known to be durable, and the syncing of the rest.
//!
//! An object is shown from the moment it has its name, and durable only when the folder is
//! synced after that. Who put it may have died in between; then a power cut takes away what
//! another process has seen and built on: its backup was acknowledged and cannot be read. So two
//! things are done here. Folders are made and synced once per process whoever made them. And
//! folders in which something was shown are noted, to be synced before anything is promised that
//! leans on it: see [`Backend::settle`](crate::backend::Backend::settle).

use crate::backend::key::FolderKey;
use crate::backend::local::disk::Disk;
use crate::backend::local::disk::DiskKind;
use crate::backend::local::failed;
use crate::backend::local::root::Root;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use std::collections::HashSet;
use std::io::ErrorKind as Io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The folders below one root.
#[derive(Debug)]
pub(super) struct Durable {
    disk: Arc<dyn Disk>,
    root: Arc<Root>,
    /// Made or found by this process, and synced with all above them. As another process may
    /// have made a folder and died before syncing, finding it is not enough.
    made: Mutex<HashSet<FolderKey>>,
    /// Something was shown in them since they were settled last.
    shown: Mutex<HashSet<FolderKey>>,
    /// Held while folders are settled: who finds nothing to settle waits for who does it.
    settling: Mutex<()>,
}

fn lock(folders: &Mutex<HashSet<FolderKey>>) -> MutexGuard<'_, HashSet<FolderKey>> {
    folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Durable {
    /// Starts with nothing known.
    pub(super) fn new(disk: Arc<dyn Disk>, root: Arc<Root>) -> Self {
        Durable {
            disk,
            root,
            made: Mutex::default(),
            shown: Mutex::default(),
            settling: Mutex::default(),
        }
    }

    /// Makes a folder and those above it, and syncs what holds them, once per process.
    pub(super) fn make(&self, folder: &FolderKey) -> Result<()> {
        if lock(&self.made).contains(folder) {
            return Ok(());
        }
        let mut made = FolderKey::top();
        for part in folder.as_str().split('/').filter(|part| !part.is_empty()) {
            let above = self.root.join(made.as_str());
            made = made.folder(part)?;
            // Folders side by side share those above them, and each sync may wait for the disk.
            if lock(&self.made).contains(&made) {
                continue;
            }
            self.root.check()?;
            make_folder(&*self.disk, &above.join(part))?;
            sync_folder(&*self.disk, &above)?;
            lock(&self.made).insert(made.clone());
        }
        Ok(())
    }

    /// Forgets which folders were made: somebody has removed one.
    pub(super) fn forget_made(&self) {
        lock(&self.made).clear();
    }

    /// Notes that something was shown in a folder.
    pub(super) fn show(&self, folder: FolderKey) {
        lock(&self.shown).insert(folder);
    }

    /// Makes durable all that was shown.
    pub(super) fn settle(&self) -> Result<()> {
        let _one_at_a_time = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = std::mem::take(&mut *lock(&self.shown)).into_iter();
        while let Some(folder) = shown.next() {
            match self.settle_one(&folder) {
                Ok(()) => {}
                // It is gone, and all that was in it.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => {
                    lock(&self.shown).extend(shown.chain([folder]));
                    return Err(e);
                }
            }
        }
        // What is gone may be gone with its disk.
        self.root.check()
    }

    fn settle_one(&self, folder: &FolderKey) -> Result<()> {
        self.make(folder)?;
        sync_folder(&*self.disk, &self.root.join(folder.as_str()))
    }
}

/// Makes a folder and those above it where they are missing. Those that were there are synced as
/// well: who made them may have died before. One that may not be read by us is left as it is, as
/// this program did not make it.
pub(super) fn make_root(disk: &dyn Disk, root: &Path) -> Result<()> {
    let above: Vec<&Path> = root.ancestors().collect();
    for folder in above.into_iter().rev() {
        let was_there = disk.look(folder).is_ok() || !make_folder(disk, folder)?;
        let synced = folder.parent().map_or(Ok(()), |parent| sync_folder(disk, parent));
        match synced {
            Err(e) if was_there && e.kind() == ErrorKind::Denied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Makes one folder and says whether it was missing.
pub(super) fn make_folder(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let taken = match disk.make_folder(path) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == Io::AlreadyExists => e,
        Err(e) => return Err(failed("make", path, e)),
    };
    match disk.look(path) {
        Ok(look) if look.kind == DiskKind::Folder => Ok(false),
        // Not to be taken for something that stands in the way: a writer would believe that
        // another one was quicker.
        Err(e) if e.kind() != Io::NotFound => Err(failed("look at", path, e)),
        _ => Err(failed("make", path, taken)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.sync_folder(path).map_err(|e| failed("sync", path, e))
}

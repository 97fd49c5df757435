//! The folder of a repository as it was opened, and whether it still is that one.
//!
//! A disk may be unmounted under a run that is at work. Where the repository is the folder on
//! which the disk was mounted, that folder is still there afterwards, empty and on another file
//! system, and would take all that comes. So nothing is made there, and nothing that was stored
//! is acknowledged, before it is seen that the same mount is there as at the beginning.
//!
//! It is told by the mount and not by the number of the folder: file systems that know no such
//! numbers (FUSE, CIFS, FAT) make them up, and may give the same folder another one later. The
//! folder is held open meanwhile. So the number of its mount cannot come again, a disk that is
//! in use is not unmounted by mistake, and no automounter takes it for idle.

use crate::backend::local::disk::Disk;
use crate::backend::local::disk::DiskFile;
use crate::backend::local::shown;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The folder with all objects.
pub(super) struct Root {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    mount: u64,
    /// None where the folder may not be read.
    _held: Option<Box<dyn DiskFile>>,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("path", &self.path).field("mount", &self.mount).finish()
    }
}

impl Root {
    /// Opens a folder that was found there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Self> {
        // Before the look, which by itself does not wake an automounter.
        let held = disk.open(&path).ok();
        let mount = disk.mount(&path)?;
        Ok(Root { disk, path, mount, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// A disk that was taken away must not look like an empty repository.
    ///
    /// # Errors
    /// `Unreachable` when the folder is not there, or on another mount.
    pub(super) fn check(&self) -> Result<()> {
        let doing = format!("cannot reach {}", shown(&self.path));
        let error = match self.disk.mount(&self.path) {
            Ok(mount) if mount == self.mount => return Ok(()),
            Ok(_) => {
                let why = "another file system is there than when it was opened";
                Error::new(ErrorKind::Unreachable, format!("{doing}: {why}"))
                    .hint("its disk was unmounted, or another one mounted over it, meanwhile")
            }
            Err(e) => Error::new(ErrorKind::Unreachable, doing).caused_by(e),
        };
        Err(error.at(Origin::Repository))
    }
}

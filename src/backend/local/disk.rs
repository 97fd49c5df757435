//! What the local backend asks of a file system, as a trait, so that a test can stand in for one
//! and say what a power cut would leave.
//!
//! What counts as durable: the bytes of a file after [`DiskFile::sync`], the names in a folder
//! after [`Disk::sync_folder`], and nothing else. A synced file without a synced name is lost.

use crate::base::sys;
use crate::base::time::Timestamp;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt;
use std::fs::DirBuilder;
use std::fs::DirEntry;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Only the owner sees what is kept.
pub const FOLDER_MODE: u32 = 0o700;
/// The same for files.
pub const FILE_MODE: u32 = 0o600;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else; no object.
    Other,
}

/// What is known of a path without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub kind: DiskKind,
    /// Its size in bytes.
    pub size: u64,
    /// When its content changed last.
    pub modified: Timestamp,
    /// Device and number: two paths with the same are one file.
    pub identity: (u64, u64),
}

/// A file system. Errors are those of the system calls it is named after.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes one folder.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a file and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, whatever stood there.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file one more name.
    ///
    /// # Errors
    /// `AlreadyExists` when anything stands there.
    fn link(&self, existing: &Path, name: &Path) -> io::Result<()>;

    /// Takes a name from a file.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, ...
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Looks at what stands at a path; links are followed.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, ...
    fn look(&self, path: &Path) -> io::Result<Look>;

    /// Returns what tells the mount that a path lies on from all others that there are now.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, ...
    fn mount(&self, path: &Path) -> io::Result<u64> {
        self.look(path).map(|look| look.identity.0)
    }

    /// Returns the names in a folder.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, ...
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Returns the names in a folder with what stands there, where that is told without a look at
    /// each.
    ///
    /// # Errors
    /// Those of [`Disk::names`].
    fn names_and_kinds(&self, path: &Path) -> io::Result<Vec<(OsString, Option<DiskKind>)>> {
        Ok(self.names(path)?.into_iter().map(|name| (name, None)).collect())
    }

    /// Opens a file for reading, without waiting for a pipe's writer.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, ...
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all bytes after those before.
    ///
    /// # Errors
    /// As the system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes its bytes durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self) -> io::Result<()>;

    /// Looks at it.
    ///
    /// # Errors
    /// As the system says.
    fn look(&self) -> io::Result<Look>;

    /// Reads what follows, appending it to `buffer`, but `bytes_max` at most.
    ///
    /// # Errors
    /// As the system says.
    fn read_to_end(&mut self, bytes_max: u64, buffer: &mut Vec<u8>) -> io::Result<()>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(FOLDER_MODE).create(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        sys::sync_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
    }

    fn link(&self, existing: &Path, name: &Path) -> io::Result<()> {
        std::fs::hard_link(existing, name)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        std::fs::metadata(path).map(|metadata| look_of(&metadata))
    }

    fn mount(&self, path: &Path) -> io::Result<u64> {
        match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID) {
            Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(found.stx_mnt_id),
            // The system tells it since Linux 5.8, and a sandbox may forbid to ask. A device has
            // one mount in most cases.
            Ok(_) | Err(Errno::NOSYS | Errno::PERM) => self.look(path).map(|it| it.identity.0),
            Err(e) => Err(e.into()),
        }
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn names_and_kinds(&self, path: &Path) -> io::Result<Vec<(OsString, Option<DiskKind>)>> {
        let kind = |entry: &DirEntry| match entry.file_type() {
            Ok(kind) if kind.is_file() => Some(DiskKind::File),
            Ok(kind) if kind.is_dir() => Some(DiskKind::Folder),
            // A link to a file is one.
            _ => None,
        };
        let entries = std::fs::read_dir(path)?;
        entries.map(|entry| entry.map(|entry| (entry.file_name(), kind(&entry)))).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Box::new(file))
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn look(&self) -> io::Result<Look> {
        self.metadata().map(|metadata| look_of(&metadata))
    }

    fn read_to_end(&mut self, bytes_max: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        Read::take(self, bytes_max).read_to_end(buffer).map(|_| ())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

fn look_of(metadata: &Metadata) -> Look {
    let kind = match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => DiskKind::File,
        (_, true) => DiskKind::Folder,
        _ => DiskKind::Other,
    };
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Look {
        kind,
        size: metadata.len(),
        modified: Timestamp::new(metadata.mtime(), nanos),
        identity: (metadata.dev(), metadata.ino()),
    }
}

/// Says whether this is how a file system without hard links answers (FAT: EPERM).
pub fn has_no_links(e: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
    )
}

/// Says whether this is how a file system answers that cannot rename without replacing: that of
/// FUSE where the program behind it does not know how, NFS, old kernels.
pub fn has_no_rename_new(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_hard_links_a_taken_place_is_still_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let place = folder.path().join("place");
        std::fs::write(&one, "1").expect("written");
        std::fs::write(&two, "2").expect("written");

        RealDisk.rename_new(&one, &place).expect("free");
        let refused = RealDisk.rename_new(&two, &place).expect_err("taken");

        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&place).expect("there"), b"1");
        assert!(has_no_links(&Errno::PERM.into()) && !has_no_links(&refused));
    }
}

//! The served folder, by handles: every name is looked up beneath one open folder, step by step
//! and never through a symbolic link, so that nothing a client says, and nothing that somebody
//! swaps meanwhile, leads out of it.
//!
//! A folder on the way is opened with `O_PATH | O_NOFOLLOW`, one name at a time. `openat2` with
//! `RESOLVE_BENEATH` would be one call instead of a few; it is refused in some containers, and
//! beside a round trip on the network the difference is nothing.

use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::serve::place::Place;
use crate::serve::upload::FILE_MODE;
use crate::serve::upload::MODE_MAX;
use crate::serve::upload::Upload;
use crate::serve::upload::Uploads;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::UTIME_OMIT;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The mode of new folders, before the umask of the program is taken off.
const FOLDER_MODE: u32 = 0o777;
/// How a folder is opened whose names are to be read, or made durable.
const READABLE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: u64,
    /// Numbers of device and inode: they stay with a file, and no other has both.
    pub(super) identity: (u64, u64),
}

/// A name in a folder, with what stands there.
pub(super) type Named = (Vec<u8>, Look);

/// The served folder.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    uploads: Uploads,
}

impl Tree {
    /// Opens the folder; from here on its path does not matter.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, READABLE, Mode::empty())?;
        Ok(Tree { root, uploads: Uploads::default() })
    }

    /// Looks at what stands at a place.
    pub(super) fn look_at(&self, place: &Place) -> io::Result<Look> {
        let Some((parents, name)) = place.split() else {
            return Ok(look_of(&rustix::fs::fstat(&self.root)?));
        };
        look_in(self.enter(parents)?.as_fd(), name)
    }

    /// Returns where a symbolic link leads to.
    pub(super) fn read_link(&self, place: &Place) -> io::Result<Vec<u8>> {
        let (folder, name) = self.folder_of(place)?;
        Ok(rustix::fs::readlinkat(&folder, name, Vec::new())?.into_bytes())
    }

    /// Expects a folder at a place.
    pub(super) fn expect_folder(&self, place: &Place) -> io::Result<()> {
        self.enter(place.names()).map(drop)
    }

    /// Opens a folder to go through its names.
    pub(super) fn list(&self, place: &Place) -> io::Result<Listing<'_>> {
        let folder = self.enter(place.names())?;
        let names = Dir::new(rustix::fs::openat(&folder, ".", READABLE, Mode::empty())?)?;
        Ok(Listing { folder, names, uploads: &self.uploads })
    }

    /// Opens a file to read; returns its size, too.
    pub(super) fn read(&self, place: &Place) -> io::Result<(File, u64)> {
        let (folder, name) = self.folder_of(place)?;
        let (file, stat) = open_file(folder.as_fd(), name, OFlags::RDONLY)?;
        Ok((file, look_of(&stat).size))
    }

    /// Begins a file that takes its place only when it is whole.
    pub(super) fn begin(&self, place: &Place) -> io::Result<Upload<'_>> {
        let (folder, name) = self.folder_of(place)?;
        // Opened for its right to be written alone, as a rename would not ask for it.
        let before = match open_file(folder.as_fd(), name, OFlags::WRONLY) {
            Ok((_, stat)) => Some(stat),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        self.uploads.begin(folder, name, before)
    }

    /// Opens a file to write from `offset` on, or at its end; None where it is still to be made.
    pub(super) fn part(&self, place: &Place, offset: Option<u64>) -> io::Result<Option<File>> {
        let (folder, name) = self.folder_of(place)?;
        let (mut file, stat) = match open_file(folder.as_fd(), name, OFlags::WRONLY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && offset.unwrap_or(0) == 0 => {
                return Ok(None);
            }
            opened => opened?,
        };
        let size = look_of(&stat).size;
        if offset.is_some_and(|offset| offset > size) {
            return Err(io::Error::other("the restart offset is beyond the end of the file"));
        }
        file.seek(SeekFrom::Start(offset.unwrap_or(size)))?;
        Ok(Some(file))
    }

    /// Makes a file that is there from its first byte on.
    pub(super) fn make_part(&self, place: &Place) -> io::Result<File> {
        let (folder, name) = self.folder_of(place)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(File::from(rustix::fs::openat(&folder, name, flags | OFlags::CLOEXEC, mode)?))
    }

    /// Makes what was written into the folder of a place durable.
    pub(super) fn sync_folder_of(&self, place: &Place) -> io::Result<()> {
        sync_folder(self.folder_of(place)?.0.as_fd())
    }

    /// Removes a file, or what else is no folder.
    pub(super) fn remove_file(&self, place: &Place) -> io::Result<()> {
        let (folder, name) = self.folder_of(place)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self, place: &Place) -> io::Result<()> {
        let (folder, name) = self.folder_of(place)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, place: &Place) -> io::Result<()> {
        let Some((parents, name)) = place.split() else { return Err(Errno::EXIST.into()) };
        let folder = self.enter(parents)?;
        rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(FOLDER_MODE))?;
        sync_folder(folder.as_fd())
    }

    /// Renames; a file replaces a file, and a folder only an empty one.
    pub(super) fn rename(&self, from: &Place, to: &Place) -> io::Result<()> {
        let (old_folder, old_name) = self.folder_of(from)?;
        let (new_folder, new_name) = self.folder_of(to)?;
        rustix::fs::renameat(&old_folder, old_name, &new_folder, new_name)?;
        sync_folder(new_folder.as_fd())?;
        let is_one = from.split().map(|row| row.0) == to.split().map(|row| row.0);
        if is_one { Ok(()) } else { sync_folder(old_folder.as_fd()) }
    }

    /// Sets when something was last changed.
    pub(super) fn set_modified(&self, place: &Place, time: Timestamp) -> io::Result<()> {
        let (folder, name) = self.folder_of(place)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.seconds(), tv_nsec: time.nanos().into() },
        };
        Ok(rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets permission bits of what is no symbolic link.
    pub(super) fn set_mode(&self, place: &Place, mode: u32) -> io::Result<()> {
        let (folder, name) = self.folder_of(place)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let thing = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
        if look_of(&rustix::fs::fstat(&thing)?).kind == Kind::Symlink {
            return Err(is_link());
        }
        // Held by a handle, as a name could become a link meanwhile, which chmod follows.
        let path = format!("/proc/self/fd/{}", thing.as_fd().as_raw_fd());
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
    }

    /// Goes down from the root, name by name.
    fn enter(&self, names: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        for name in names {
            folder = rustix::fs::openat(&folder, name.as_slice(), flags, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Returns the folder a place is in, and its name there. The root is in none.
    fn folder_of<'a>(&self, place: &'a Place) -> io::Result<(OwnedFd, &'a [u8])> {
        let Some((parents, name)) = place.split() else { return Err(Errno::ISDIR.into()) };
        Ok((self.enter(parents)?, name))
    }
}

/// The names of a folder.
pub(super) struct Listing<'a> {
    folder: OwnedFd,
    names: Dir,
    uploads: &'a Uploads,
}

impl Listing<'_> {
    /// Returns the next names, at most so many, sorted, and what stands there; what went away
    /// meanwhile and files under way are left out. None at the end.
    pub(super) fn next(&mut self, most: usize) -> io::Result<Option<Vec<Named>>> {
        let mut names = Vec::new();
        while names.len() < most {
            let Some(entry) = self.names.next() else { break };
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !self.uploads.has(name) {
                names.push(name.to_vec());
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        names.sort_unstable();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            match look_in(self.folder.as_fd(), &name) {
                Ok(look) => found.push((name, look)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some(found))
    }

    /// Returns where a symbolic link leads to.
    pub(super) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.folder, name, Vec::new())?.into_bytes())
    }

    /// Says whether the folder has a name.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        look_in(self.folder.as_fd(), name).is_ok()
    }
}

/// Takes from a file what makes it run as somebody else.
pub(super) fn disarm(file: &File) -> io::Result<()> {
    let mode = look_of(&rustix::fs::fstat(file)?).mode;
    if mode & !MODE_MAX == 0 {
        return Ok(());
    }
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & MODE_MAX))?)
}

/// Makes the names of a folder durable. One that may not be read is left to the system.
pub(super) fn sync_folder(folder: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::fs::openat(folder, ".", READABLE, Mode::empty()) {
        Ok(readable) => File::from(readable).sync_all(),
        Err(Errno::ACCESS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn look_in(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Look> {
    Ok(look_of(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Opens a regular file, which is looked at first, as opening alone does something to a device.
fn open_file(folder: BorrowedFd<'_>, name: &[u8], how: OFlags) -> io::Result<(File, Stat)> {
    let is_file = |stat: &Stat| match look_of(stat).kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Errno::ISDIR.into()),
        Kind::Symlink => Err(is_link()),
        Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Err(Errno::PERM.into()),
    };
    is_file(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    is_file(&stat)?;
    Ok((File::from(file), stat))
}

/// The system would speak of too many levels of links, and of its number for that.
fn is_link() -> io::Error {
    io::Error::other("Is a symbolic link, which is not followed")
}

#[allow(clippy::unnecessary_cast, reason = "on some machines it has 32 bits")]
fn links_of(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

fn look_of(stat: &Stat) -> Look {
    Look {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Socket => Kind::Socket,
            FileType::RegularFile | FileType::Unknown => Kind::File,
        },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        links: links_of(stat),
        identity: (stat.st_dev, stat.st_ino),
    }
}

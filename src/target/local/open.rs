//! Opens files that are there for reading and writing, also those of programs that run: these may
//! be read alone, so one that has to change is replaced by a copy of itself.

use crate::base::sys;
use crate::target::local::metadata::Subject;
use crate::target::local::remove::make_writable;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Two threads that open names of one file may take the right to from each other once or twice.
const TRIES: usize = 4;

/// A file that was opened.
pub(super) enum Opened {
    /// For reading and writing.
    Writable(OwnedFd),
    /// For reading: a program runs from it, and the system lets nobody write it.
    Running(OwnedFd),
}

/// Opens a regular file, and gives its owner the right to, if need be.
pub(super) fn open_existing(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Opened> {
    let open = |access: OFlags| {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, access | flags, Mode::empty())
    };
    let mut opened = open(OFlags::RDWR);
    for _ in 1..TRIES {
        if !matches!(opened, Err(Errno::ACCESS)) {
            break;
        }
        make_writable(Subject::Name(folder, name), 0o600)?;
        opened = open(OFlags::RDWR);
    }
    match opened {
        Err(Errno::TXTBSY) => Ok(Opened::Running(open(OFlags::RDONLY)?)),
        opened => Ok(Opened::Writable(opened?)),
    }
}

/// Puts a copy in the place of a file that a program runs from, and opens that. The program keeps
/// what it runs from. Not to be called by two threads at once.
pub(super) fn part(folder: BorrowedFd<'_>, name: &[u8], running: &OwnedFd) -> io::Result<OwnedFd> {
    // Another thread may have done it, or the program may have ended.
    if let Opened::Writable(file) = open_existing(folder, name)? {
        return Ok(file);
    }
    let stat = rustix::fs::fstat(running)?;
    let aside =
        format!(".icecore-{:016x}", u64::from_le_bytes(sys::random().map_err(io::Error::other)?));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(folder, &aside, flags, Mode::RUSR | Mode::WUSR)?;
    let placed = fill(&copy, running, stat.st_mode)
        .and_then(|()| Ok(rustix::fs::renameat(folder, &aside, folder, name)?));
    if let Err(cause) = placed {
        // The failure at hand is the one to report.
        let _ = rustix::fs::unlinkat(folder, &aside, AtFlags::empty());
        return Err(cause);
    }
    Ok(copy)
}

/// Owner and the rest are set when the file is finished.
fn fill(copy: &OwnedFd, running: &OwnedFd, mode: u32) -> io::Result<()> {
    let (mut from, mut to) = (File::from(running.try_clone()?), File::from(copy.try_clone()?));
    io::copy(&mut from, &mut to)?;
    Ok(rustix::fs::fchmod(copy, Mode::from_raw_mode(mode & 0o777 | 0o600))?)
}

//! Reads the names in a folder, following no link.

use crate::base::metadata::Kind;
use crate::target::local::border::is_border;
use crate::target::local::metadata::Subject;
use crate::target::local::metadata::kind_of;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Bytes of one `getdents`: as much as the C library asks for.
const GETDENTS_BYTES: usize = 32 * 1024;

/// Returns the names in a folder, sorted.
pub(super) fn names_in(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let rows = read(open(parent, name)?.as_fd())?;
    Ok(rows.into_iter().map(|(name, _)| name).collect())
}

/// Returns the names in a folder, sorted, each with whether it is a folder on the same file system.
pub(super) fn folders_in(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let folder = open(parent, name)?;
    let rows = read(folder.as_fd())?.into_iter();
    rows.map(|(name, kind)| {
        let is_folder = match kind {
            FileType::Directory | FileType::Unknown => is_folder(folder.as_fd(), &name)?,
            _ => false,
        };
        Ok((name, is_folder))
    })
    .collect()
}

fn is_folder(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match Subject::Name(parent, name).stat() {
        Ok(stat) => Ok(kind_of(&stat) == Kind::Directory && !is_border(parent, name, &stat)?),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn read(folder: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
    let mut entries = RawDir::new(folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(names)
}

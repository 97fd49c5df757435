//! Removes a folder with all below it, however deep, following no link and going into no other
//! file system.
//!
//! No recursion: a stack of names, of which each level holds a handful at a time. A folder is
//! read again after its subfolders went, until it is empty.

use crate::base::handles::Handles;
use crate::target::local::border::is_border;
use crate::target::local::metadata::Subject;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Bytes of one `getdents`: as much as the C library asks for.
const GETDENTS_BYTES: usize = 32 * 1024;
/// Subfolders of one level remembered at a time, so that memory is depth times this.
const SUBFOLDERS_MAX: usize = 64;

/// Removes the folder at `path`.
///
/// # Errors
/// The system's, with the bytes of the path that could not be removed.
pub(super) fn remove_folder(
    handles: &mut Handles,
    path: &[u8],
) -> std::result::Result<(), (Vec<u8>, io::Error)> {
    let mut current = path.to_vec();
    // For each level of `current`, the subfolders still to go into.
    let mut levels: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    while let Some(subfolders) = levels.last_mut() {
        if let Some(name) = subfolders.pop() {
            current.push(b'/');
            current.extend_from_slice(&name);
            levels.push(Vec::new());
            continue;
        }
        match clear(handles, &current) {
            Ok(Cleared::Empty) => {
                remove_empty(handles, &current).map_err(|cause| (current.clone(), cause))?;
                levels.pop();
                if !levels.is_empty() {
                    current.truncate(parent(&current).len());
                }
            }
            Ok(Cleared::Holds(names)) => *subfolders = names,
            Err(cause) => return Err((current, cause)),
        }
    }
    handles.forget();
    Ok(())
}

enum Cleared {
    Empty,
    Holds(Vec<Vec<u8>>),
}

/// Unlinks what is no folder and returns some of the subfolders, if there are any.
fn clear(handles: &mut Handles, folder: &[u8]) -> io::Result<Cleared> {
    let handle = match open_writable(handles, folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Cleared::Empty),
        other => other?,
    };
    let mut subfolders = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
    let mut entries = RawDir::new(&handle, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match rustix::fs::unlinkat(&handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                if !is_folder(handle.as_fd(), name) {
                    return Err(errno.into());
                }
                subfolders.push(name.to_vec());
                if subfolders.len() == SUBFOLDERS_MAX {
                    break;
                }
            }
        }
    }
    Ok(if subfolders.is_empty() { Cleared::Empty } else { Cleared::Holds(subfolders) })
}

fn is_folder(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    use crate::base::metadata::Kind;
    use crate::target::local::metadata::kind_of;
    Subject::Name(parent, name).stat().is_ok_and(|stat| kind_of(&stat) == Kind::Directory)
}

fn remove_empty(handles: &mut Handles, folder: &[u8]) -> io::Result<()> {
    let removed = handles
        .enter(parent(folder))
        .and_then(|parent| Ok(rustix::fs::unlinkat(parent, name(folder), AtFlags::REMOVEDIR)?));
    match removed {
        // Somebody else removes the same.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a folder for reading, and makes it one that can be emptied.
fn open_writable(handles: &mut Handles, folder: &[u8]) -> io::Result<OwnedFd> {
    let parent = handles.enter(parent(folder))?;
    if is_border(parent, name(folder), &Subject::Name(parent, name(folder)).stat()?)? {
        return Err(io::Error::other("another file system is mounted there"));
    }
    make_writable(Subject::Name(parent, name(folder)), 0o700)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name(folder), flags, Mode::empty())?)
}

/// Adds the permission bits that its owner needs to work with a thing.
pub(super) fn make_writable(subject: Subject<'_>, needed: u32) -> io::Result<()> {
    let mode = subject.stat()?.st_mode & 0o7777;
    if mode & needed != needed {
        subject.set_mode(mode | needed)?;
    }
    Ok(())
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(&[], |slash| &path[..slash])
}

fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

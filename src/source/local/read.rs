//! Opens entries one after the other, for one thread.
//!
//! A small file costs `fstatat`, `openat`, `flistxattr`, then the caller's `pread`, then
//! `fstat` and `close`. The first look comes before the opening, because opening is an act: it
//! wakes the writer of a fifo and winds a tape. What is swapped between the two shows at the
//! end, as any other change while reading does.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::handles::Handles;
use crate::base::limits::XATTR_VALUE_BYTES_MAX;
use crate::base::metadata::Extent;
use crate::base::metadata::Kind;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::sys;
use crate::source::OpenedEntry;
use crate::source::SourceEntry;
use crate::source::SourceReader;
use crate::source::local::Inner;
use crate::source::local::ORIGIN;
use crate::source::local::entry::entry_of;
use crate::source::local::entry::kind_of;
use crate::source::local::failed;
use crate::source::local::open_quietly;
use crate::source::local::owners::OwnerCache;
use rustix::fs::AtFlags;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Stretches of data listed for one file; what comes after the last is taken as data, which
/// keeps the content and gives up its later holes.
const EXTENTS_MAX: usize = 64 * 1024;

/// Reads the entries of a folder for one thread.
pub(super) struct LocalReader {
    root: Arc<OwnedFd>,
    handles: Handles,
    owners: OwnerCache,
    open: Option<Open>,
    /// Room for a list of attribute names and for one value; the system's bound on both.
    names: Vec<u8>,
    value: Vec<u8>,
}

struct Open {
    path: EntryPath,
    /// Only of regular files.
    file: Option<OwnedFd>,
}

impl LocalReader {
    /// Makes a reader that has nothing open.
    pub(super) fn new(inner: &Inner) -> Self {
        LocalReader {
            root: Arc::clone(&inner.root),
            handles: Handles::new(Arc::clone(&inner.root)),
            owners: OwnerCache::new(Arc::clone(&inner.owners)),
            open: None,
            names: vec![0; XATTR_VALUE_BYTES_MAX],
            value: vec![0; XATTR_VALUE_BYTES_MAX],
        }
    }

    fn stat(&mut self, path: &EntryPath) -> io::Result<Stat> {
        if path.is_root() {
            return Ok(rustix::fs::fstat(&self.root)?);
        }
        let parent = self.handles.enter(path.parent_bytes())?;
        Ok(rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn entry(&mut self, path: &EntryPath, stat: &Stat) -> Result<SourceEntry> {
        match kind_of(stat) {
            Some(kind) => Ok(entry_of(path.clone(), kind, stat, &mut self.owners)),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!("cannot open {path}: a thing of a kind that is not known"),
            )
            .at(ORIGIN)),
        }
    }

    /// Fills in what only the opened thing tells, and returns the handle of a file.
    fn look_inside(&mut self, opened: &mut OpenedEntry) -> io::Result<Option<OwnedFd>> {
        let path = &opened.entry.path;
        let parent = self.handles.enter(path.parent_bytes())?;
        let mut buffers = Buffers { names: &mut self.names, value: &mut self.value };
        if path.is_root() {
            opened.entry.metadata.xattrs = buffers.xattrs(&Place::Handle(parent))?;
            return Ok(None);
        }
        let name = path.name();
        let by_name = || Place::Path(path_in_proc(parent, name));
        match opened.entry.kind {
            Kind::File => {
                let file = open_quietly(parent, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
                opened.entry.metadata.xattrs = buffers.xattrs(&Place::Handle(file.as_fd()))?;
                if opened.entry.maybe_sparse {
                    opened.extents = extents(file.as_fd(), opened.entry.size)?;
                }
                return Ok(Some(file));
            }
            Kind::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                opened.entry.metadata.xattrs = match open_quietly(parent, name, flags) {
                    Ok(folder) => buffers.xattrs(&Place::Handle(folder.as_fd()))?,
                    // A folder that must not be listed is still an entry with attributes.
                    Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                        buffers.xattrs(&by_name())?
                    }
                    Err(cause) => return Err(cause),
                };
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                opened.link_target = target.into_bytes();
                opened.entry.metadata.xattrs = buffers.xattrs(&by_name())?;
            }
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => {
                opened.entry.metadata.xattrs = buffers.xattrs(&by_name())?;
            }
        }
        Ok(None)
    }

    fn file(&self) -> Result<(&EntryPath, BorrowedFd<'_>)> {
        match &self.open {
            Some(Open { path, file: Some(file) }) => Ok((path, file.as_fd())),
            _ => Err(Error::bug("cannot read: no file is open").at(ORIGIN)),
        }
    }
}

impl SourceReader for LocalReader {
    fn open(&mut self, path: &EntryPath) -> Result<OpenedEntry> {
        self.open = None;
        let stat = self.stat(path).map_err(|cause| cannot_open(path, cause))?;
        let mut opened = OpenedEntry::plain(self.entry(path, &stat)?);
        let file = self.look_inside(&mut opened).map_err(|cause| cannot_open(path, cause))?;
        self.open = Some(Open { path: path.clone(), file });
        Ok(opened)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (path, file) = self.file()?;
        let read = sys::read_up_to(file, buffer, offset);
        read.map_err(|cause| failed("cannot read", path, cause))
    }

    fn finish(&mut self) -> Result<SourceEntry> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Error::bug("cannot finish: nothing is open").at(ORIGIN))?;
        let stat = match &open.file {
            Some(file) => rustix::fs::fstat(file).map_err(io::Error::from),
            None => self.stat(&open.path),
        };
        let stat = stat.map_err(|cause| cannot_open(&open.path, cause))?;
        self.entry(&open.path, &stat)
    }
}

/// A path that leads nowhere any more, because a folder on it became something else, is gone
/// as much as one whose last name is missing.
fn cannot_open(path: &EntryPath, cause: io::Error) -> Error {
    match Errno::from_io_error(&cause) {
        Some(Errno::NOTDIR | Errno::LOOP) => Error::new(
            ErrorKind::NotFound,
            format!("cannot open {path}: something else has taken its place"),
        )
        .caused_by(cause)
        .at(ORIGIN),
        _ => failed("cannot open", path, cause),
    }
}

/// Lists where a file's data is; none when it has no holes or the file system cannot tell.
fn extents(file: BorrowedFd<'_>, size: u64) -> io::Result<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    let mut end = 0;
    while end < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(start) if start >= size => break,
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) if extents.is_empty() => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let is_last = extents.len() + 1 == EXTENTS_MAX;
        let hole = if is_last { Ok(size) } else { rustix::fs::seek(file, SeekFrom::Hole(start)) };
        // The file may change meanwhile; whatever the system says, the list stays in order.
        end = match hole {
            Ok(hole) => hole.min(size),
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        if end <= start {
            break;
        }
        extents.push(Extent { offset: start, length: end - start });
    }
    let is_whole = matches!(extents.as_slice(), [one] if one.offset == 0 && one.length == size);
    Ok((!is_whole).then_some(extents))
}

/// How the attributes of a thing are reached.
enum Place<'a> {
    Handle(BorrowedFd<'a>),
    Path(Vec<u8>),
}

/// The system has no call for attributes by folder handle; this is the way round, and the calls
/// used with it do not follow a link in the last place.
fn path_in_proc(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

struct Buffers<'a> {
    names: &'a mut [u8],
    value: &'a mut [u8],
}

impl Buffers<'_> {
    /// Reads all extended attributes, sorted; none where the file system knows none.
    fn xattrs(&mut self, place: &Place<'_>) -> io::Result<Vec<Xattr>> {
        let listed = match place {
            Place::Handle(handle) => rustix::fs::flistxattr(handle, &mut *self.names),
            Place::Path(path) => rustix::fs::llistxattr(path, &mut *self.names),
        };
        let length = match listed {
            Ok(length) => length,
            // Nothing is there where `/proc` is not mounted.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOENT) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut xattrs = Vec::new();
        for name in self.names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let got = match place {
                Place::Handle(handle) => rustix::fs::fgetxattr(handle, name, &mut *self.value),
                Place::Path(path) => rustix::fs::lgetxattr(path, name, &mut *self.value),
            };
            match got {
                Ok(length) => {
                    xattrs.push(Xattr { name: name.to_vec(), value: self.value[..length].to_vec() })
                }
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        xattrs.sort_unstable();
        // The system may list one twice while others come and go.
        xattrs.dedup_by(|a, b| a.name == b.name);
        Ok(xattrs)
    }
}

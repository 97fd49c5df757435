//! Writes files, folders and other things below the root, for one thread.
//!
//! Other threads may replace folders that this one has handles of: what is not found in a
//! folder that was itself removed is looked for once more from the root.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::handles::Handles;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::base::time::Timestamp;
use crate::target::MetadataRules;
use crate::target::Node;
use crate::target::TargetEntry;
use crate::target::TargetWriter;
use crate::target::local::ORIGIN;
use crate::target::local::border::is_border;
use crate::target::local::failed;
use crate::target::local::metadata;
use crate::target::local::metadata::Subject;
use crate::target::local::names::folders_in;
use crate::target::local::names::names_in;
use crate::target::local::open::Opened;
use crate::target::local::open::open_existing;
use crate::target::local::open::part;
use crate::target::local::remove::make_writable;
use crate::target::local::remove::remove_folder;
use rustix::fs::AtFlags;
use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Zeros written at a time where a file system cannot punch holes.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes below one root.
pub(super) struct LocalWriter {
    root: Arc<OwnedFd>,
    handles: Handles,
    /// The way to the first name of a hard link.
    links: Handles,
    open: Option<Open>,
    parting: Arc<Mutex<()>>,
}

/// The file that is open.
struct Open {
    path: EntryPath,
    file: OwnedFd,
    /// Whether it has other names. Who has looked at it before has seen one alone, or only reads:
    /// a name that somebody put there meanwhile may lead to a file outside.
    is_shared: bool,
    /// Whether it is open for reading alone, as a program runs from it.
    is_running: bool,
}

impl LocalWriter {
    /// Makes a writer that has nothing open. One that parts files from programs locks `parting`.
    pub(super) fn new(root: Arc<OwnedFd>, parting: Arc<Mutex<()>>) -> Self {
        LocalWriter {
            handles: Handles::new(Arc::clone(&root)),
            links: Handles::new(Arc::clone(&root)),
            root,
            open: None,
            parting,
        }
    }

    /// Does something to a name in its folder, which for the root is the root itself and `.`.
    fn within<T>(
        &mut self,
        path: &EntryPath,
        mut act: impl FnMut(BorrowedFd<'_>, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        if path.is_root() {
            return act(self.root.as_fd(), b".");
        }
        let mut act_once =
            |handles: &mut Handles| act(handles.enter(path.parent_bytes())?, path.name());
        match act_once(&mut self.handles) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && self.handles.are_gone() => {
                self.handles.forget();
                act_once(&mut self.handles)
            }
            other => other,
        }
    }

    fn file(&self) -> Result<(&EntryPath, BorrowedFd<'_>)> {
        match &self.open {
            Some(open) => Ok((&open.path, open.file.as_fd())),
            None => Err(Error::bug("cannot write: no file is open").at(ORIGIN)),
        }
    }

    fn writable(&mut self) -> Result<(&EntryPath, BorrowedFd<'_>)> {
        self.open.as_ref().map_or(Ok(()), Open::refuse_shared)?;
        if self.open.as_ref().is_some_and(|open| open.is_running) {
            self.part()?;
        }
        self.file()
    }

    /// Parts the open file from the program that runs from it.
    fn part(&mut self) -> Result<()> {
        let mut open = self.take_file()?;
        let one_at_a_time = Arc::clone(&self.parting);
        let guard = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let parted = self.within(&open.path, |folder, name| {
            let file = part(folder, name, &open.file)?;
            let is_shared = has_other_names(&file, folder, name)?;
            Ok((file, is_shared))
        });
        drop(guard);
        let done = match parted {
            Ok((file, is_shared)) => {
                (open.file, open.is_shared, open.is_running) = (file, is_shared, false);
                open.refuse_shared()
            }
            Err(cause) => Err(failed("cannot replace", &open.path, cause)),
        };
        self.open = Some(open);
        done
    }

    fn take_file(&mut self) -> Result<Open> {
        self.open.take().ok_or_else(|| Error::bug("cannot close: no file is open").at(ORIGIN))
    }
}

impl Open {
    fn refuse_shared(&self) -> Result<()> {
        if !self.is_shared {
            return Ok(());
        }
        let message = format!("cannot write {}: it has got another name meanwhile", self.path);
        Err(Error::new(ErrorKind::AlreadyExists, message).at(ORIGIN))
    }
}

/// Says whether an open file has other names than the one it was opened by, or not even that.
fn has_other_names(file: &OwnedFd, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let (opened, named) = (rustix::fs::fstat(file)?, Subject::Name(folder, name).stat()?);
    // By name, so that the only name it has is seen to be this one.
    Ok((opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino) || named.st_nlink > 1)
}

fn is_no_folder(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOTDIR | Errno::LOOP))
}

/// The error of making something at `path`.
fn cannot_make(path: &EntryPath, cause: io::Error) -> Error {
    if is_no_folder(&cause) {
        let message = format!("cannot make {path}: a link or a file stands where a folder must be");
        return Error::new(ErrorKind::AlreadyExists, message).caused_by(cause).at(ORIGIN);
    }
    failed("cannot make", path, cause)
}

/// Closes a file in a way that shows what the system held back until then.
fn close(path: &EntryPath, file: OwnedFd) -> Result<()> {
    match nix::unistd::close(file) {
        // The descriptor is gone all the same.
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(failed("cannot write", path, errno.into())),
    }
}

fn look(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<TargetEntry> {
    let subject = Subject::Name(folder, name);
    let stat = subject.stat()?;
    let mut entry = entry_of(&stat);
    // The root itself may be what is mounted.
    entry.is_mount =
        entry.kind == Kind::Directory && name != b"." && is_border(folder, name, &stat)?;
    let is_told = match entry.kind {
        Kind::File => entry.links > 1,
        Kind::Directory => false,
        _ => true,
    };
    if is_told && !metadata::has_attributes(subject) {
        entry.identity = Some((stat.st_dev, stat.st_ino));
        entry.node = node_of(folder, name, &stat)?;
    }
    Ok(entry)
}

fn node_of(folder: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<Option<Node>> {
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match metadata::kind_of(stat) {
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
            Some(Node::Symlink(target.into_bytes()))
        }
        Kind::Fifo => Some(Node::Fifo),
        Kind::CharDevice => Some(Node::CharDevice(device.0, device.1)),
        Kind::BlockDevice => Some(Node::BlockDevice(device.0, device.1)),
        Kind::File | Kind::Directory | Kind::Socket => None,
    })
}

fn entry_of(stat: &Stat) -> TargetEntry {
    let kind = metadata::kind_of(stat);
    let is_file = kind == Kind::File;
    let owner = Owner { uid: stat.st_uid, gid: stat.st_gid, ..Owner::default() };
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let size = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    let metadata = Metadata {
        mode: stat.st_mode & 0o7777,
        owner: Arc::new(owner),
        mtime: Timestamp::new(stat.st_mtime, nanos),
        xattrs: Vec::new(),
    };
    let inode = Some((stat.st_dev, stat.st_ino));
    TargetEntry { links: stat.st_nlink, inode, ..TargetEntry::plain(kind, size, metadata) }
}

fn make_node(folder: BorrowedFd<'_>, name: &[u8], node: &Node) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    let (file_type, device) = match node {
        Node::Symlink(target) => return Ok(rustix::fs::symlinkat(&target[..], folder, name)?),
        Node::Fifo => (FileType::Fifo, 0),
        Node::CharDevice(major, minor) => {
            (FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
        }
        Node::BlockDevice(major, minor) => {
            (FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
        }
    };
    Ok(rustix::fs::mknodat(folder, name, file_type, mode, device)?)
}

fn write_zeros(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let end = offset.saturating_add(length).min(size);
    let mut at = offset;
    while at < end {
        let count = (end - at).min(ZEROS.len() as u64);
        sys::write_all_at(file, &ZEROS[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

impl TargetWriter for LocalWriter {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        match self.within(path, look) {
            Ok(entry) => Ok(Some(entry)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound || is_no_folder(&cause) => {
                Ok(None)
            }
            Err(cause) => Err(failed("cannot look at", path, cause)),
        }
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        self.within(path, names_in).map_err(|cause| failed("cannot list", path, cause))
    }

    fn list_folders(&mut self, path: &EntryPath) -> Result<Vec<(Vec<u8>, bool)>> {
        self.within(path, folders_in).map_err(|cause| failed("cannot list", path, cause))
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        self.within(path, |folder, name| match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let there = Subject::Name(folder, name);
                if metadata::kind_of(&there.stat()?) != Kind::Directory {
                    return Err(Errno::EXIST.into());
                }
                make_writable(there, 0o700)
            }
            other => Ok(other?),
        })
        .map_err(|cause| cannot_make(path, cause))
    }

    fn create_new_directory(&mut self, path: &EntryPath) -> Result<()> {
        self.within(path, |folder, name| Ok(rustix::fs::mkdirat(folder, name, Mode::RWXU)?))
            .map_err(|cause| cannot_make(path, cause))
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .within(path, |folder, name| {
                Ok(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?)
            })
            .map_err(|cause| cannot_make(path, cause))?;
        self.open = Some(Open { path: path.clone(), file, is_shared: false, is_running: false });
        Ok(())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.open = None;
        let file = self
            .within(path, |folder, name| {
                // Looked at first: opening a fifo or a device is an act of its own.
                match metadata::kind_of(&Subject::Name(folder, name).stat()?) {
                    Kind::File => {
                        let (file, is_running) = match open_existing(folder, name)? {
                            Opened::Writable(file) => (file, false),
                            Opened::Running(file) => (file, true),
                        };
                        let is_shared = has_other_names(&file, folder, name)?;
                        Ok(Some((file, is_shared, is_running)))
                    }
                    _ => Ok(None),
                }
            })
            .map_err(|cause| failed("cannot open", path, cause))?;
        let Some((file, is_shared, is_running)) = file else {
            return Err(Error::invalid(format!("cannot open {path}: it is no file")).at(ORIGIN));
        };
        self.open = Some(Open { path: path.clone(), file, is_shared, is_running });
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let (path, file) = self.writable()?;
        sys::write_all_at(file, bytes, offset).map_err(|cause| failed("cannot write", path, cause))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (path, file) = self.file()?;
        let read = sys::read_up_to(file, buffer, offset);
        read.map_err(|cause| failed("cannot read back", path, cause))
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let (path, file) = self.writable()?;
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let done = match rustix::fs::fallocate(file, flags, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, offset, length),
            other => other.map_err(io::Error::from),
        };
        done.map_err(|cause| failed("cannot write", path, cause))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        let (path, file) = self.writable()?;
        rustix::fs::ftruncate(file, length)
            .map_err(|errno| failed("cannot write", path, errno.into()))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        let mut open = self.take_file()?;
        if open.is_running {
            // Another thread may have put a copy in its place since.
            self.open_file(&open.path)?;
            open = self.take_file()?;
        }
        open.refuse_shared()?;
        let Open { path, file, .. } = open;
        let trouble = metadata::set(Subject::Handle(file.as_fd()), metadata, rules)
            .map_err(|cause| failed("cannot look at", &path, cause))?;
        close(&path, file)?;
        Ok(trouble)
    }

    fn close_file(&mut self) -> Result<()> {
        let Open { path, file, .. } = self.take_file()?;
        close(&path, file)
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.within(path, |folder, name| {
            make_node(folder, name, node)?;
            metadata::set(Subject::Name(folder, name), metadata, rules)
        })
        .map_err(|cause| cannot_make(path, cause))
    }

    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        let link_once = |handles: &mut Handles, links: &mut Handles| -> io::Result<()> {
            let from = links.enter(existing.parent_bytes())?;
            let to = handles.enter(path.parent_bytes())?;
            let flags = AtFlags::empty();
            Ok(rustix::fs::linkat(from, existing.name(), to, path.name(), flags)?)
        };
        let first = link_once(&mut self.handles, &mut self.links);
        let done = match first {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.handles.forget();
                self.links.forget();
                link_once(&mut self.handles, &mut self.links)
            }
            other => other,
        };
        done.map_err(|cause| cannot_make(path, cause))
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        let done = if path.is_root() {
            metadata::set(Subject::Handle(self.root.as_fd()), metadata, rules)
        } else {
            self.within(path, |folder, name| {
                metadata::set(Subject::Name(folder, name), metadata, rules)
            })
        };
        done.map_err(|cause| failed("cannot set the metadata of", path, cause))
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        if path.is_root() {
            return Err(Error::invalid("the root of a target is not removed").at(ORIGIN));
        }
        let unlinked = self.within(path, |folder, name| {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(errno) => match metadata::kind_of(&Subject::Name(folder, name).stat()?) {
                    Kind::Directory => Ok(false),
                    _ => Err(errno.into()),
                },
            }
        });
        match unlinked {
            Ok(true) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound || is_no_folder(&cause) => {
                return Ok(());
            }
            Err(cause) => return Err(failed("cannot remove", path, cause)),
            Ok(false) => {}
        }
        self.links.forget();
        remove_folder(&mut self.handles, path.as_bytes()).map_err(|(which, cause)| {
            Error::io(format!("cannot remove {}", display(&which)), cause).at(ORIGIN)
        })
    }

    fn sync(&mut self) -> Result<()> {
        rustix::fs::syncfs(&*self.root)
            .map_err(|errno| failed("cannot make durable", &EntryPath::root(), errno.into()))
    }
}

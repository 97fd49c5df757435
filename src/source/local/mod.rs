//! A folder of this machine as a source.
//!
//! Everything goes by folder handles, one name at a time and never through a symlink: a tree
//! deeper than `PATH_MAX` is read like any other, and a folder swapped for a link while the
//! backup runs cannot lead outside. `walk` lists, `read` opens; `base::handles` keeps the way.
//! What a socket holds cannot be stored; what was mounted elsewhere can be left out; and the
//! repository never backs itself up, however it is reached.

use crate::base::cancel::Cancel;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::source::Scan;
use crate::source::Source;
use crate::source::SourceReader;
use crate::source::filter::Filter;
use crate::source::local::entry::entry_of;
use crate::source::local::owners::OwnerCache;
use crate::source::local::owners::Owners;
use crate::source::local::read::LocalReader;
use crate::source::local::walk::Walk;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

mod entry;
mod list;
mod owners;
mod read;
mod walk;

/// Every error of this folder is one of the data that is read.
const ORIGIN: Origin = Origin::Source;

/// How a folder is read.
#[derive(Clone, Debug, Default)]
pub struct LocalOptions {
    /// Whether folders on other file systems are kept without their contents.
    pub one_file_system: bool,
    /// Real paths to leave out, such as the repository's; recognised by device and inode, so
    /// that a link or a second mount of them is left out as well. What is missing is no error.
    pub excluded: Vec<PathBuf>,
    /// What else is left out.
    pub filter: Option<Filter>,
}

/// A folder of this machine.
///
/// ```
/// use icecore::base::cancel::Cancel;
/// use icecore::source::Source;
/// use icecore::source::local::{LocalOptions, LocalSource};
///
/// let folder = std::env::temp_dir().join(format!("icecore-doc-{}", std::process::id()));
/// std::fs::create_dir(&folder).unwrap();
/// std::fs::write(folder.join("a"), b"content").unwrap();
/// let source = LocalSource::open(&folder, LocalOptions::default()).unwrap();
/// let items: Vec<_> = source.scan(&Cancel::new()).unwrap().collect();
/// assert_eq!(items[1].path().as_bytes(), b"a");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
#[derive(Debug)]
pub struct LocalSource {
    inner: Arc<Inner>,
}

/// What walkers and readers share.
#[derive(Debug)]
struct Inner {
    location: PathBuf,
    root: Arc<OwnedFd>,
    /// Device of the root.
    device: u64,
    /// Device and inode of what is left out.
    excluded: Vec<(u64, u64)>,
    options: LocalOptions,
    owners: Arc<Owners>,
}

impl Inner {
    #[expect(clippy::useless_conversion, reason = "the fields of stat differ between machines")]
    fn is_excluded(&self, stat: &Stat) -> bool {
        self.excluded.contains(&(u64::from(stat.st_dev), u64::from(stat.st_ino)))
    }
}

impl LocalSource {
    /// Opens a folder. A symlink given here is followed; no other one ever is.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, `InvalidInput` when it is no folder or when it is
    /// itself left out, `Denied` when it cannot be read.
    pub fn open(path: &Path, options: LocalOptions) -> Result<Self> {
        let root = open_root(path).map_err(|cause| cannot_open(path, cause))?;
        let stat = rustix::fs::fstat(&root).map_err(|e| cannot_open(path, e.into()))?;
        let location = sys::absolute(path).map_err(|e| cannot_open(path, e))?;
        let numbers = |path: &PathBuf| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
        let inner = Inner {
            location,
            root: Arc::new(root),
            device: stat.st_dev,
            excluded: options.excluded.iter().filter_map(numbers).collect(),
            options,
            owners: Arc::default(),
        };
        if inner.is_excluded(&stat) {
            let shown = display(path.as_os_str().as_bytes());
            return Err(Error::invalid(format!(
                "cannot read {shown}: it is the repository or its cache"
            ))
            .at(ORIGIN));
        }
        Ok(LocalSource { inner: Arc::new(inner) })
    }
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn cannot_open(path: &Path, cause: io::Error) -> Error {
    let shown = display(path.as_os_str().as_bytes());
    let error = match cause.kind() {
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("cannot read {shown}: no such folder"))
        }
        io::ErrorKind::NotADirectory => {
            Error::invalid(format!("cannot read {shown}: it is no folder"))
                .hint("name the folder it is in; `--exclude` leaves out what else is there")
        }
        _ => Error::io(format!("cannot read {shown}"), cause),
    };
    error.at(ORIGIN)
}

/// Opens one name in a folder for reading, without touching its access time where that is
/// permitted (to its owner and to root).
fn open_quietly(folder: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(rustix::io::Errno::PERM) => Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}

fn failed(doing: &str, path: &EntryPath, cause: io::Error) -> Error {
    let shown = if path.is_root() { "the root".to_owned() } else { path.to_string() };
    Error::io(format!("{doing} {shown}"), cause).at(ORIGIN)
}

impl Source for LocalSource {
    fn location(&self) -> String {
        display(self.inner.location.as_os_str().as_bytes())
    }

    fn detects_changes(&self) -> bool {
        true
    }

    fn may_be_mapped(&self) -> bool {
        true
    }

    fn scan(&self, cancel: &Cancel) -> Result<Scan<'_>> {
        let root = EntryPath::root();
        let stat = rustix::fs::fstat(&self.inner.root)
            .map_err(|e| failed("cannot look at", &root, e.into()))?;
        let mut owners = OwnerCache::new(Arc::clone(&self.inner.owners));
        let entry = entry_of(root, Kind::Directory, &stat, &mut owners);
        Ok(Box::new(Walk::start(&self.inner, entry, cancel)))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader + Send + '_>> {
        Ok(Box::new(LocalReader::new(&self.inner)))
    }
}

//! A folder of this machine as a target.
//!
//! Everything goes by folder handles below the root's, one name at a time and never through a
//! symlink: whatever stands in the target, and whatever a repository says, nothing outside is
//! written. Paths beyond `PATH_MAX` work. `writer` writes, `metadata` sets what is not
//! content, `remove` clears away, but not across a
//! `border`.

use crate::base::error::Error;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::base::sys;
use crate::target::Target;
use crate::target::TargetWriter;
use crate::target::local::writer::LocalWriter;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

mod border;
mod metadata;
mod names;
mod open;
mod remove;
mod writer;

/// Every error of this folder is one of the place a restore writes to.
const ORIGIN: Origin = Origin::Target;

/// A folder of this machine.
///
/// ```
/// use icecore::base::path::EntryPath;
/// use icecore::target::Target;
/// use icecore::target::local::LocalTarget;
///
/// let folder = std::env::temp_dir().join(format!("icecore-doc-target-{}", std::process::id()));
/// let target = LocalTarget::new(&folder);
/// assert!(!target.prepare().unwrap(), "it was not there");
/// let mut writer = target.writer().unwrap();
/// writer.create_file(&EntryPath::new(b"a").unwrap()).unwrap();
/// writer.write_at(0, b"content").unwrap();
/// writer.close_file().unwrap();
/// assert_eq!(std::fs::read(folder.join("a")).unwrap(), b"content");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
#[derive(Debug)]
pub struct LocalTarget {
    location: PathBuf,
    root: Mutex<Option<Arc<OwnedFd>>>,
    /// Held by the one writer that puts a copy in the place of a running program's file.
    parting: Arc<Mutex<()>>,
}

impl LocalTarget {
    /// Names the folder; nothing is looked at yet. A symlink given here is followed; no other
    /// one ever is.
    pub fn new(path: &Path) -> Self {
        let location = sys::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        LocalTarget { location, root: Mutex::default(), parting: Arc::default() }
    }

    /// Returns the handle of the root, the same one for as long as this target lives.
    fn root(&self) -> Result<Arc<OwnedFd>> {
        let mut root = self.root.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(root) = &*root {
            return Ok(Arc::clone(root));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&self.location, flags, Mode::empty())
            .map_err(|errno| self.cannot_use(errno.into()))?;
        let handle = Arc::new(handle);
        *root = Some(Arc::clone(&handle));
        Ok(handle)
    }

    fn cannot_use(&self, cause: io::Error) -> Error {
        let shown = self.location();
        // An occupied place shows as either, depending on which part of the path it is.
        let error = match cause.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Error::invalid(format!("cannot restore to {shown}: it is no folder"))
            }
            _ => Error::io(format!("cannot restore to {shown}"), cause),
        };
        error.at(ORIGIN)
    }
}

fn failed(doing: &str, path: &EntryPath, cause: io::Error) -> Error {
    let shown = if path.is_root() { "the root".to_owned() } else { path.to_string() };
    Error::io(format!("{doing} {shown}"), cause).at(ORIGIN)
}

impl Target for LocalTarget {
    fn location(&self) -> String {
        display(self.location.as_os_str().as_bytes())
    }

    fn prepare(&self) -> Result<bool> {
        let was_there = self.location.is_dir();
        if !was_there {
            std::fs::create_dir_all(&self.location).map_err(|cause| self.cannot_use(cause))?;
        }
        self.root()?;
        Ok(was_there)
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        Ok(Box::new(LocalWriter::new(self.root()?, Arc::clone(&self.parting))))
    }
}

//! A file on its way in: written under a hidden name of its own beside its place, which it takes
//! in one step when it is whole and durable. What breaks off leaves what was there before.

use crate::base::sys;
use crate::serve::tree::sync_folder;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Uid;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// The mode of new files, before the umask of the program is taken off.
pub(super) const FILE_MODE: u32 = 0o666;
/// The mode of what is to replace a file, until it has that one's: nobody else may read it before.
const HIDDEN_MODE: u32 = 0o600;
/// Bits of a mode that a file keeps whose content is a client's: none that makes it run as somebody
/// else.
pub(super) const MODE_MAX: u32 = 0o1777;
/// How names of files under way begin; sixteen digits follow.
const PREFIX: &str = ".icecore-upload-";

/// The names of files under way. No listing shows them; one that a crash left is no more of these
/// and shown, so that it can be removed.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashSet<Vec<u8>>>);

impl Uploads {
    /// Says whether a name is that of a file under way.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        name.starts_with(PREFIX.as_bytes()) && self.names().contains(name)
    }

    /// Makes the file that is to become `name` in a folder, where `before` is.
    pub(super) fn begin(
        &self,
        folder: OwnedFd,
        name: &[u8],
        before: Option<Stat>,
    ) -> io::Result<Upload<'_>> {
        let number = u64::from_le_bytes(sys::random().map_err(io::Error::other)?);
        let hidden = format!("{PREFIX}{number:016x}").into_bytes();
        self.names().insert(hidden.clone());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = if before.is_some() { HIDDEN_MODE } else { FILE_MODE };
        let mode = Mode::from_raw_mode(mode);
        match rustix::fs::openat(&folder, hidden.as_slice(), flags | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(Upload {
                uploads: self,
                folder,
                hidden,
                name: name.to_vec(),
                file: File::from(file),
                before,
                is_placed: false,
            }),
            Err(e) => {
                self.names().remove(&hidden);
                Err(e.into())
            }
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One file under way; dropped before it took its place, it is gone.
pub(super) struct Upload<'a> {
    uploads: &'a Uploads,
    folder: OwnedFd,
    hidden: Vec<u8>,
    name: Vec<u8>,
    file: File,
    before: Option<Stat>,
    is_placed: bool,
}

impl Upload<'_> {
    /// Returns the file to write into.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the content durable, with the owner and the mode of the file that it is to replace.
    /// Who may not give files away owns what they upload.
    pub(super) fn seal(&self) -> io::Result<()> {
        if let Some(before) = &self.before {
            let (uid, gid) = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
            let now = rustix::fs::fstat(&self.file)?;
            let is_same = (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid);
            if !is_same {
                let _ = rustix::fs::fchown(&self.file, Some(uid), Some(gid));
            }
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(before.st_mode & MODE_MAX))?;
        }
        self.file.sync_all()
    }

    /// Lets it take its place.
    pub(super) fn place(mut self) -> io::Result<()> {
        let (hidden, name) = (self.hidden.as_slice(), self.name.as_slice());
        rustix::fs::renameat(&self.folder, hidden, &self.folder, name)?;
        self.is_placed = true;
        sync_folder(self.folder.as_fd())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed now stays under its hidden name, and is shown from here on.
            let _ = rustix::fs::unlinkat(&self.folder, self.hidden.as_slice(), AtFlags::empty());
        }
        self.uploads.names().remove(&self.hidden);
    }
}

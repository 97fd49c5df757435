//! A folder of the local machine, or one mounted there.
//!
//! ```text
//!   <root>/tmp/<random>      objects being written; whatever lies here is garbage
//!   <root>/reserve           space that prune may release on a full disk
//!   <root>/<key>             objects
//! ```
//!
//! An object is written to `tmp`, synced, moved to its place, and the place's folder is synced:
//! a crash leaves a file in `tmp` or the whole object. What people or file managers put among
//! the objects is left alone: a name that is no key's is never shown. Keys beginning with `tmp`
//! or `reserve` are refused.

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::path::display;
use crate::base::sys;
use crate::base::time::Timestamp;
use rustix::fs::CWD;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind as Io;
use std::io::Read;
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;

mod space;

/// Where objects are written before they are moved to their places.
const TEMPORARY: &str = "tmp";
/// The file that is given up when a prune finds the disk full.
const RESERVE: &str = "reserve";
/// Only the owner sees what is kept.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Requests at a time that a disk makes use of.
const PARALLEL: usize = 4;

/// Objects as files below one folder.
#[derive(Debug)]
pub struct LocalBackend {
    root: PathBuf,
    /// Folders that this process has made or found, and synced with all above them. As another
    /// process may have made a folder and died before syncing, finding it is not enough.
    durable: Mutex<HashSet<FolderKey>>,
}

/// What to do when the place is taken.
#[derive(Clone, Copy)]
enum Taken {
    Replace,
    Refuse,
}

impl LocalBackend {
    /// Opens a folder that is there.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `InvalidInput` when it is no folder.
    pub fn open(path: &Path) -> Result<Self> {
        let root = absolute(path)?;
        let metadata = std::fs::metadata(&root).map_err(|e| failed("open", &root, e))?;
        if !metadata.is_dir() {
            let message = format!("cannot open {}: it is no folder", shown(&root));
            return Err(Error::invalid(message).at(Origin::Repository));
        }
        Ok(LocalBackend { root, durable: Mutex::default() })
    }

    /// Makes the folder, and those above it, where they are missing, and opens it.
    ///
    /// # Errors
    /// `Denied`, `Full`, ...; `InvalidInput` when there is something that is no folder.
    pub fn create(path: &Path) -> Result<Self> {
        let root = absolute(path)?;
        let above: Vec<&Path> = root.ancestors().collect();
        for folder in above.into_iter().rev() {
            if !folder.exists() && make_folder(folder)? {
                sync_parent(folder)?;
            }
        }
        let backend = LocalBackend::open(&root)?;
        if make_folder(&backend.root.join(TEMPORARY))? {
            sync_folder(&backend.root)?;
        }
        Ok(backend)
    }

    fn place(&self, key: &str) -> Result<PathBuf> {
        let first = key.split('/').next().unwrap_or(key);
        if first == TEMPORARY || first == RESERVE {
            let message = format!("{key} cannot be a key in {}", self.location());
            return Err(Error::invalid(message).at(Origin::Repository));
        }
        Ok(self.root.join(key))
    }

    fn store(&self, key: &ObjectKey, bytes: &[u8], taken: Taken) -> Result<()> {
        let place = self.place(key.as_str())?;
        let folder = key.folder();
        self.make_durable(&folder)?;
        let outcome = self.write_into(&place, bytes, taken);
        let outcome = match outcome {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Somebody removed an empty folder since: make it again, once.
                self.lock_durable().clear();
                self.make_durable(&folder)?;
                self.write_into(&place, bytes, taken)
            }
            other => other,
        };
        outcome?;
        sync_folder(&self.root.join(folder.as_str()))
    }

    /// Makes a folder and those above it, and syncs what holds them, once per process.
    fn make_durable(&self, folder: &FolderKey) -> Result<()> {
        if self.lock_durable().contains(folder) {
            return Ok(());
        }
        let mut path = self.root.clone();
        for part in folder.as_str().split('/').filter(|part| !part.is_empty()) {
            let above = path.clone();
            path.push(part);
            make_folder(&path)?;
            sync_folder(&above)?;
        }
        self.lock_durable().insert(folder.clone());
        Ok(())
    }

    fn lock_durable(&self) -> std::sync::MutexGuard<'_, HashSet<FolderKey>> {
        self.durable.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write_into(&self, place: &Path, bytes: &[u8], taken: Taken) -> Result<()> {
        let temporary = self.write_temporary(bytes)?;
        let outcome = match taken {
            Taken::Replace => std::fs::rename(&temporary, place),
            Taken::Refuse => create_from(&temporary, place),
        };
        outcome.map_err(|e| {
            // What cannot be removed is garbage in `tmp`, where garbage may lie.
            let _ = std::fs::remove_file(&temporary);
            failed("store", place, e)
        })
    }

    /// Writes and syncs a file in `tmp` and returns its path.
    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf> {
        let folder = self.root.join(TEMPORARY);
        let path = folder.join(to_hex(&sys::random::<16>()?));
        let create = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let opened = match create() {
            Err(e) if e.kind() == Io::NotFound => {
                self.check_root()?;
                make_folder(&folder)?;
                create()
            }
            other => other,
        };
        let mut file = opened.map_err(|e| failed("write", &path, e))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|e| {
            let _ = std::fs::remove_file(&path);
            failed("write", &path, e)
        })?;
        Ok(path)
    }

    /// A disk that was taken away must not look like an empty repository.
    fn check_root(&self) -> Result<()> {
        match std::fs::metadata(&self.root) {
            Ok(_) => Ok(()),
            Err(e) => {
                let message = format!("cannot reach {}", self.location());
                let error = Error::new(ErrorKind::Unreachable, message).caused_by(e);
                Err(error.at(Origin::Repository))
            }
        }
    }

    fn open_object(&self, key: &ObjectKey) -> Result<(File, u64)> {
        let place = self.place(key.as_str())?;
        let fail = |e: io::Error| {
            if !is_missing(&e) {
                return failed("read", &place, e);
            }
            let gone = self.check_root().err();
            gone.unwrap_or_else(|| failed("read", &place, Io::NotFound.into()))
        };
        // Without waiting: a foreign pipe under a key's name must not hang a restore.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&place).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(fail(Io::NotFound.into()));
        }
        Ok((file, metadata.len()))
    }

    fn too_long(&self, key: &ObjectKey, bytes_max: usize) -> Error {
        let place = self.root.join(key.as_str());
        let message = format!("cannot read {}: it is over {bytes_max} bytes", shown(&place));
        Error::corrupt(message).at(Origin::Repository)
    }

    /// Returns the names of keys in a folder, each once; none when it is missing.
    fn names_in(&self, folder: &FolderKey) -> Result<Vec<String>> {
        let path = self.root.join(folder.as_str());
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if is_missing(&e) => {
                self.check_root()?;
                return Ok(Vec::new());
            }
            Err(e) => return Err(failed("list", &path, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &path, e))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let is_key = !name.contains('/') && folder.object(&name).is_ok();
            let is_ours = *folder == FolderKey::top() && (name == TEMPORARY || name == RESERVE);
            if is_key && !is_ours {
                names.push(name);
            }
        }
        // A file replaced while a folder is read may be shown twice.
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns the row of one name, or none when it went away or is neither file nor folder.
    fn row(&self, folder: &FolderKey, name: &str) -> Result<Option<Listed>> {
        let key = folder.object(name)?;
        let path = self.root.join(key.as_str());
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed("list", &path, e)),
        };
        if metadata.is_dir() {
            return Ok(Some(Listed::Folder(folder.folder(name)?)));
        }
        if !metadata.is_file() {
            return Ok(None);
        }
        let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        let modified = Some(Timestamp::new(metadata.mtime(), nanos));
        Ok(Some(Listed::Object(ObjectInfo { key, size: metadata.len(), modified })))
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> String {
        shown(&self.root)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_create: true, parallel: PARALLEL }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.store(key, bytes, Taken::Replace)
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.store(key, bytes, Taken::Refuse)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let (file, size) = self.open_object(key)?;
        let too_long = || self.too_long(key, bytes_max);
        let expected = usize::try_from(size).map_err(|_| too_long())?;
        if expected > bytes_max {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(expected);
        // One byte more than allowed, as a foreign file may grow under our hands.
        let read = file.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| failed("read", &self.root.join(key.as_str()), e))?;
        if bytes.len() > bytes_max {
            return Err(too_long());
        }
        Ok(bytes)
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>> {
        let (file, size) = self.open_object(key)?;
        let path = self.root.join(key.as_str());
        if range.start > range.end {
            let message = format!("cannot read {}: the stretch is reversed", shown(&path));
            return Err(Error::invalid(message).at(Origin::Repository));
        }
        let ends_early = || {
            let message = format!(
                "cannot read {}: it ends at {size}, {} are needed",
                shown(&path),
                range.end
            );
            Error::corrupt(message).at(Origin::Repository)
        };
        // Looked at before anything is allocated.
        let length = usize::try_from(range.end - range.start).map_err(|_| ends_early())?;
        if range.end > size {
            return Err(ends_early());
        }
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == Io::UnexpectedEof => Err(ends_early()),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let place = self.place(key.as_str())?;
        match std::fs::metadata(&place) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(e) if is_missing(&e) => self.check_root().map(|()| None),
            Err(e) => Err(failed("look at", &place, e)),
        }
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let first = folder.as_str().split('/').next().unwrap_or_default();
        if first == TEMPORARY || first == RESERVE {
            return Ok(());
        }
        for name in self.names_in(folder)? {
            if let Some(row) = self.row(folder, &name)? {
                visit(row)?;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        let place = self.place(key.as_str())?;
        match std::fs::remove_file(&place) {
            Ok(()) => sync_folder(&self.root.join(key.folder().as_str())),
            Err(e) if is_missing(&e) || e.kind() == Io::IsADirectory => self.check_root(),
            Err(e) => Err(failed("delete", &place, e)),
        }
    }

    fn keep_reserve(&self) -> Result<()> {
        self.create_reserve()
    }

    fn release_reserve(&self) -> Result<bool> {
        self.give_up_reserve()
    }

    fn sweep(&self) -> Result<u64> {
        self.sweep_leftovers()
    }
}

/// Gives a temporary file its place unless the place is taken; afterwards it is in `tmp` no more,
/// unless this fails.
fn create_from(temporary: &Path, place: &Path) -> io::Result<()> {
    match std::fs::hard_link(temporary, place) {
        Ok(()) => {
            // The object is stored; a second name in `tmp` that stays is garbage.
            let _ = std::fs::remove_file(temporary);
            Ok(())
        }
        Err(e) if has_no_links(&e) => move_unless_taken(temporary, place),
        // Over NFS the first answer may have been lost and the request sent again.
        Err(e) if e.kind() == Io::AlreadyExists && is_same_file(temporary, place) => {
            let _ = std::fs::remove_file(temporary);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

fn move_unless_taken(temporary: &Path, place: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, temporary, CWD, place, RenameFlags::NOREPLACE)
        .map_err(io::Error::from)
}

/// How file systems without hard links answer (FAT: EPERM).
fn has_no_links(e: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
    )
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), Io::NotFound | Io::NotADirectory)
}

/// Makes one folder and says whether it was missing.
fn make_folder(path: &Path) -> Result<bool> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == Io::AlreadyExists && path.is_dir() => Ok(false),
        Err(e) => Err(failed("make", path, e)),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    match synced {
        Ok(()) => Ok(()),
        // Some network file systems cannot sync folders; there is nothing more to do there.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
            Ok(())
        }
        Err(e) => Err(failed("sync", path, e)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| failed("open", path, e))
}

fn shown(path: &Path) -> String {
    display(path.as_os_str().as_bytes())
}

fn failed(doing: &str, path: &Path, e: io::Error) -> Error {
    Error::io(format!("cannot {doing} {}", shown(path)), e).at(Origin::Repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).expect("a good key")
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_may_look() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("above/repository");
        let backend = LocalBackend::create(&root).expect("created");
        backend.put(&key("packs/ab/c"), b"1").expect("stored");

        for path in ["", "tmp", "packs", "packs/ab"] {
            assert_eq!(mode(&root.join(path)), FOLDER_MODE, "{path}");
        }
        assert_eq!(mode(&root.join("packs/ab/c")), FILE_MODE);
    }

    #[test]
    fn nothing_stays_in_tmp() {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = LocalBackend::create(folder.path()).expect("created");
        backend.put(&key("a"), b"1").expect("stored");
        backend.put_new(&key("b"), b"1").expect("stored");
        assert!(backend.put_new(&key("b"), b"2").is_err());
        assert!(backend.put(&key("a/c"), b"1").is_err());

        let left = std::fs::read_dir(folder.path().join("tmp")).expect("there").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_missing_root_is_an_error_and_not_an_empty_repository() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("disk");
        let missing = LocalBackend::open(&root).expect_err("nothing is made by opening");
        assert_eq!((missing.kind(), missing.origin()), (ErrorKind::NotFound, Origin::Repository));
        let backend = LocalBackend::create(&root).expect("created");
        std::fs::rename(&root, folder.path().join("taken_away")).expect("moved");

        let errors = [
            backend.put(&key("a"), b"1").expect_err("put"),
            backend.get(&key("a"), 9).expect_err("get"),
            backend.stat(&key("a")).expect_err("stat"),
            backend.list(&FolderKey::top(), &mut |_| Ok(())).expect_err("list"),
            backend.delete(&key("a")).expect_err("delete"),
        ];

        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            assert_eq!(error.origin(), Origin::Repository);
        }
    }

    #[test]
    fn the_reserve_is_no_object_and_is_released_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = LocalBackend::create(folder.path()).expect("created");
        backend.create_reserve().expect("made");
        backend.create_reserve().expect("there already");

        backend.list(&FolderKey::top(), &mut |row| panic!("{row:?}")).expect("listed");
        assert_eq!(mode(&folder.path().join("reserve")), FILE_MODE);
        assert!(backend.release_reserve().expect("released"));
        assert!(!backend.release_reserve().expect("nothing left"));
    }

    #[test]
    fn keys_of_its_own_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = LocalBackend::create(folder.path()).expect("created");
        for bad in ["tmp", "tmp/a", "reserve", "reserve/a"] {
            let error = backend.put(&key(bad), b"1").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = LocalBackend::create(folder.path()).expect("created");
        backend.put(&key("packs/ab/c"), b"1").expect("stored");
        std::fs::remove_dir_all(folder.path().join("packs")).expect("removed");
        std::fs::remove_dir_all(folder.path().join("tmp")).expect("removed");

        backend.put(&key("packs/ab/c"), b"1").expect("stored again");

        assert_eq!(backend.get(&key("packs/ab/c"), 1).expect("there"), b"1");
    }

    #[test]
    fn without_hard_links_a_taken_place_is_still_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let place = folder.path().join("place");
        std::fs::write(&one, "1").expect("written");
        std::fs::write(&two, "2").expect("written");

        move_unless_taken(&one, &place).expect("free");
        let refused = move_unless_taken(&two, &place).expect_err("taken");

        assert_eq!(refused.kind(), Io::AlreadyExists);
        assert_eq!(std::fs::read(&place).expect("there"), b"1");
        assert!(has_no_links(&Errno::PERM.into()) && !has_no_links(&refused));
    }
}

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
//! or `reserve` are refused. All that is asked of the file system goes through a [`Disk`].

use crate::backend::Backend;
use crate::backend::Capabilities;
use crate::backend::Durability;
use crate::backend::Listed;
use crate::backend::ObjectInfo;
use crate::backend::key::FolderKey;
use crate::backend::key::ObjectKey;
use crate::backend::local::disk::Disk;
use crate::backend::local::disk::DiskFile;
use crate::backend::local::disk::DiskKind;
use crate::backend::local::disk::RealDisk;
use crate::backend::local::disk::has_no_links;
use crate::backend::local::disk::has_no_rename_new;
use crate::backend::local::durable::Durable;
use crate::backend::local::durable::make_folder;
use crate::backend::local::durable::make_root;
use crate::backend::local::durable::sync_folder;
use crate::backend::local::root::Root;
use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Origin;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::path::display;
use crate::base::sys;
use std::io;
use std::io::ErrorKind as Io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub mod disk;
mod durable;
mod root;
mod space;

/// Where objects are written before they are moved to their places.
const TEMPORARY: &str = "tmp";
/// The file that is given up when a prune finds the disk full.
const RESERVE: &str = "reserve";
/// Requests at a time that a disk makes use of.
const PARALLEL: usize = 4;

/// Objects as files below one folder.
#[derive(Debug)]
pub struct LocalBackend {
    disk: Arc<dyn Disk>,
    root: Arc<Root>,
    durable: Durable,
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
        LocalBackend::open_on(Arc::new(RealDisk), path)
    }

    /// Opens a folder that is there, on a disk.
    ///
    /// # Errors
    /// Those of [`LocalBackend::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let root = absolute(path)?;
        let look = disk.look(&root).map_err(|e| failed("open", &root, e))?;
        if look.kind != DiskKind::Folder {
            let message = format!("cannot open {}: it is no folder", shown(&root));
            return Err(Error::invalid(message).at(Origin::Repository));
        }
        let opened = Root::open(Arc::clone(&disk), root.clone());
        let root = Arc::new(opened.map_err(|e| failed("open", &root, e))?);
        let durable = Durable::new(Arc::clone(&disk), Arc::clone(&root));
        Ok(LocalBackend { disk, root, durable })
    }

    /// Makes the folder, and those above it, where they are missing, and opens it.
    ///
    /// # Errors
    /// `Denied`, `Full`, ...; `InvalidInput` when there is something that is no folder.
    pub fn create(path: &Path) -> Result<Self> {
        LocalBackend::create_on(Arc::new(RealDisk), path)
    }

    /// Makes the folder, and those above it, where they are missing, and opens it, on a disk.
    ///
    /// # Errors
    /// Those of [`LocalBackend::create`].
    pub fn create_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let root = absolute(path)?;
        make_root(&*disk, &root)?;
        let backend = LocalBackend::open_on(disk, &root)?;
        // Nothing is made in a folder of somebody else's.
        if backend.foreign()?.is_none() {
            // Not synced: nothing is promised of it, and a write makes it where it is missing.
            make_folder(&*backend.disk, &backend.root.join(TEMPORARY))?;
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
        self.durable.make(&folder)?;
        let outcome = self.write_into(&place, bytes, taken);
        let outcome = match outcome {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Somebody removed an empty folder since: make it again, once.
                self.durable.forget_made();
                self.durable.make(&folder)?;
                self.write_into(&place, bytes, taken)
            }
            other => other,
        };
        outcome?;
        sync_folder(&*self.disk, &self.root.join(folder.as_str()))?;
        // It may have gone where a disk was mounted before.
        self.root.check()
    }

    fn write_into(&self, place: &Path, bytes: &[u8], taken: Taken) -> Result<()> {
        let temporary = self.write_temporary(bytes)?;
        let outcome = match taken {
            Taken::Replace => self.disk.rename(&temporary, place),
            Taken::Refuse => create_from(&*self.disk, &temporary, place),
        };
        outcome.map_err(|e| {
            // What cannot be removed is garbage in `tmp`, where garbage may lie.
            let _ = self.disk.remove(&temporary);
            match taken {
                Taken::Refuse if has_no_rename_new(&e) => cannot_create(place, e),
                _ => failed("store", place, e),
            }
        })
    }

    /// Writes and syncs a file in `tmp` and returns its path.
    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf> {
        let folder = self.root.join(TEMPORARY);
        let path = folder.join(to_hex(&sys::random::<16>()?));
        let opened = match self.disk.create(&path) {
            Err(e) if e.kind() == Io::NotFound => {
                self.root.check()?;
                make_folder(&*self.disk, &folder)?;
                self.disk.create(&path)
            }
            other => other,
        };
        let mut file = opened.map_err(|e| failed("write", &path, e))?;
        let written = file.write(bytes).and_then(|()| file.sync());
        written.map_err(|e| {
            let _ = self.disk.remove(&path);
            failed("write", &path, e)
        })?;
        Ok(path)
    }

    fn open_object(&self, key: &ObjectKey) -> Result<(Box<dyn DiskFile>, u64)> {
        let place = self.place(key.as_str())?;
        let fail = |e: io::Error| {
            if !is_missing(&e) {
                return failed("read", &place, e);
            }
            let gone = self.root.check().err();
            gone.unwrap_or_else(|| {
                failed("read", &place, io::Error::new(Io::NotFound, "it is missing"))
            })
        };
        // A foreign pipe under a key's name does not hang this: nothing is waited for.
        let file = self.disk.open(&place).map_err(fail)?;
        let look = file.look().map_err(fail)?;
        if look.kind != DiskKind::File {
            return Err(fail(Io::NotFound.into()));
        }
        self.durable.show(key.folder());
        Ok((file, look.size))
    }

    fn too_long(&self, key: &ObjectKey, bytes_max: usize) -> Error {
        let place = self.root.join(key.as_str());
        let message = format!("cannot read {}: it is over {bytes_max} bytes", shown(&place));
        Error::corrupt(message).at(Origin::Repository)
    }

    /// Returns the names of keys in a folder, each once, with what stands there where that is
    /// known; none when the folder is missing.
    fn names_in(&self, folder: &FolderKey) -> Result<Vec<(String, Option<DiskKind>)>> {
        let path = self.root.join(folder.as_str());
        let found = match self.disk.names_and_kinds(&path) {
            Ok(found) => found,
            Err(e) if is_missing(&e) => {
                self.root.check()?;
                return Ok(Vec::new());
            }
            Err(e) => return Err(failed("list", &path, e)),
        };
        if found.is_empty() {
            // As is what a disk leaves behind.
            self.root.check()?;
        }
        let mut names = Vec::new();
        for (name, kind) in found {
            let name = name.into_string().unwrap_or_default();
            let is_key = !name.contains('/') && folder.object(&name).is_ok();
            let is_ours = *folder == FolderKey::top() && (name == TEMPORARY || name == RESERVE);
            if is_key && !is_ours {
                names.push((name, kind));
            }
        }
        // A file replaced while a folder is read may be shown twice.
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        names.dedup_by(|one, other| one.0 == other.0);
        Ok(names)
    }

    /// Returns the names in a folder that is about to be shown.
    fn shown_in(&self, folder: &FolderKey) -> Result<Vec<(String, Option<DiskKind>)>> {
        let first = folder.as_str().split('/').next().unwrap_or_default();
        if first == TEMPORARY || first == RESERVE {
            return Ok(Vec::new());
        }
        let names = self.names_in(folder)?;
        if !names.is_empty() {
            self.durable.show(folder.clone());
        }
        Ok(names)
    }

    /// Returns the row of one name, or none when it went away or is neither file nor folder.
    fn row(&self, folder: &FolderKey, name: &str) -> Result<Option<Listed>> {
        let key = folder.object(name)?;
        let path = self.root.join(key.as_str());
        let look = match self.disk.look(&path) {
            Ok(look) => look,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed("list", &path, e)),
        };
        Ok(match look.kind {
            DiskKind::Folder => Some(Listed::Folder(folder.folder(name)?)),
            DiskKind::File => {
                let modified = Some(look.modified);
                Some(Listed::Object(ObjectInfo { key, size: Some(look.size), modified }))
            }
            DiskKind::Other => None,
        })
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> String {
        shown(self.root.path())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_create: true,
            parallel: PARALLEL,
            uploads: 1,
            durability: Durability::Whole,
        }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.store(key, bytes, Taken::Replace)
    }

    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.store(key, bytes, Taken::Refuse)
    }

    fn get(&self, key: &ObjectKey, bytes_max: usize) -> Result<Vec<u8>> {
        let (mut file, size) = self.open_object(key)?;
        let too_long = || self.too_long(key, bytes_max);
        let expected = usize::try_from(size).map_err(|_| too_long())?;
        if expected > bytes_max {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(expected);
        // One byte more than allowed, as a foreign file may grow under our hands.
        let read = file.read_to_end((bytes_max as u64).saturating_add(1), &mut bytes);
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
        match file.read_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == Io::UnexpectedEof => Err(ends_early()),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let place = self.place(key.as_str())?;
        match self.disk.look(&place) {
            Ok(look) if look.kind == DiskKind::File => {
                self.durable.show(key.folder());
                Ok(Some(look.size))
            }
            Ok(_) => Ok(None),
            Err(e) if is_missing(&e) => self.root.check().map(|()| None),
            Err(e) => Err(failed("look at", &place, e)),
        }
    }

    fn list(&self, folder: &FolderKey, visit: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        for (name, _) in self.shown_in(folder)? {
            if let Some(row) = self.row(folder, &name)? {
                visit(row)?;
            }
        }
        Ok(())
    }

    fn list_names(
        &self,
        folder: &FolderKey,
        visit: &mut dyn FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        for (name, kind) in self.shown_in(folder)? {
            let row = match kind {
                Some(DiskKind::Folder) => Some(Listed::Folder(folder.folder(&name)?)),
                Some(DiskKind::File) => {
                    let key = folder.object(&name)?;
                    Some(Listed::Object(ObjectInfo { key, size: None, modified: None }))
                }
                _ => self.row(folder, &name)?,
            };
            row.map_or(Ok(()), &mut *visit)?;
        }
        Ok(())
    }

    fn foreign(&self) -> Result<Option<String>> {
        self.foreign_name()
    }

    fn settle(&self) -> Result<()> {
        self.durable.settle()
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        let place = self.place(key.as_str())?;
        match self.disk.remove(&place) {
            Ok(()) => sync_folder(&*self.disk, &self.root.join(key.folder().as_str())),
            Err(e) if is_missing(&e) || e.kind() == Io::IsADirectory => self.root.check(),
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
fn create_from(disk: &dyn Disk, temporary: &Path, place: &Path) -> io::Result<()> {
    match disk.link(temporary, place) {
        Ok(()) => {
            // The object is stored; a second name in `tmp` that stays is garbage.
            let _ = disk.remove(temporary);
            Ok(())
        }
        Err(e) if has_no_links(&e) => disk.rename_new(temporary, place),
        // Over NFS the first answer may have been lost and the request sent again.
        Err(e) if e.kind() == Io::AlreadyExists && is_same_file(disk, temporary, place) => {
            let _ = disk.remove(temporary);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

fn cannot_create(place: &Path, e: io::Error) -> Error {
    let why = "the file system has neither hard links nor a rename that replaces nothing";
    Error::new(ErrorKind::Unsupported, format!("cannot store {}: {why}", shown(place)))
        .caused_by(e)
        .hint(
            "keep the repository on another one, or where it is mounted from, over SFTP, FTP or S3",
        )
        .at(Origin::Repository)
}

fn is_same_file(disk: &dyn Disk, one: &Path, other: &Path) -> bool {
    match (disk.look(one), disk.look(other)) {
        (Ok(one), Ok(other)) => one.identity == other.identity,
        _ => false,
    }
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), Io::NotFound | Io::NotADirectory)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    sys::absolute(path).map_err(|e| failed("open", path, e))
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
    use crate::backend::local::disk::FILE_MODE;
    use crate::backend::local::disk::FOLDER_MODE;
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
}

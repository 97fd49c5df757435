//! A file system that has neither hard links nor a rename that replaces nothing, as many on FUSE.

use crate::backend::contract::key;
use icecore::backend::Backend;
use icecore::backend::local::LocalBackend;
use icecore::backend::local::disk::Disk;
use icecore::backend::local::disk::DiskFile;
use icecore::backend::local::disk::Look;
use icecore::backend::local::disk::RealDisk;
use icecore::base::error::ErrorKind;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Answers so to a rename that is to replace nothing.
#[derive(Debug)]
struct Linkless(Errno);

impl Disk for Linkless {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn rename_new(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(self.0.into())
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(Errno::PERM.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn look(&self, path: &Path) -> io::Result<Look> {
        RealDisk.look(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.names(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
}

#[test]
fn where_nothing_can_be_created_for_certain_it_is_said_and_what_to_do() {
    for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("repository");
        let backend = LocalBackend::create_on(Arc::new(Linkless(errno)), &root).expect("created");

        let error = backend.put_new(&key("a"), b"1").expect_err("refused");

        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.to_string().contains("neither hard links"), "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("SFTP")), "{error:?}");
        assert_eq!(backend.stat(&key("a")).expect("looks"), None);
        assert_eq!(root.join("tmp").read_dir().expect("there").count(), 0);
        backend.put(&key("a"), b"2").expect("what may replace is stored");
    }
}

#[test]
fn other_failures_of_a_rename_stay_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(Linkless(Errno::NOSPC));
    let backend = LocalBackend::create_on(disk, folder.path()).expect("created");
    let error = backend.put_new(&key("a"), b"1").expect_err("refused");
    assert_eq!((error.kind(), error.hint_text()), (ErrorKind::Full, None));
}

//! A disk whose syncs take time: who settles beside another waits for it.

use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::local::LocalBackend;
use icecore::backend::local::disk::Disk;
use icecore::backend::local::disk::DiskFile;
use icecore::backend::local::disk::Look;
use icecore::backend::local::disk::RealDisk;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

/// Says when a folder is being synced, and takes until it is told to go on.
#[derive(Debug)]
struct SlowDisk {
    begins: Mutex<mpsc::Sender<()>>,
    goes_on: Mutex<mpsc::Receiver<()>>,
    synced: AtomicUsize,
}

impl Disk for SlowDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if path.ends_with("shown") {
            self.begins.lock().expect("sends").send(()).expect("is heard");
            let told = self.goes_on.lock().expect("waits");
            told.recv_timeout(Duration::from_secs(20)).expect("is told");
            self.synced.fetch_add(1, Ordering::SeqCst);
        }
        RealDisk.sync_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename_new(from, to)
    }

    fn link(&self, existing: &Path, name: &Path) -> io::Result<()> {
        RealDisk.link(existing, name)
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
fn who_settles_second_waits_for_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("repository");
    let key = ObjectKey::new("shown/a").expect("a good key");
    LocalBackend::create(&root).expect("created").put(&key, b"1").expect("stored");
    let (begins, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let (begins, goes_on) = (Mutex::new(begins), Mutex::new(goes_on));
    let disk = Arc::new(SlowDisk { begins, goes_on, synced: AtomicUsize::new(0) });
    let backend = LocalBackend::open_on(Arc::clone(&disk) as Arc<dyn Disk>, &root).expect("opened");
    backend.get(&key, 10).expect("shown");
    std::thread::scope(|scope| {
        scope.spawn(|| backend.settle().expect("settles"));
        has_begun.recv_timeout(Duration::from_secs(20)).expect("begins");
        let second = scope.spawn(|| {
            backend.settle().expect("settles");
            disk.synced.load(Ordering::SeqCst)
        });
        // Time enough for one that does not wait.
        std::thread::sleep(Duration::from_millis(100));
        go_on.send(()).expect("is heard");
        assert_eq!(second.join().expect("ends"), 1, "it did not wait");
    });
}

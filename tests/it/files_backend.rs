//! The backend over FTP and SFTP, on a server in a local folder: the contract in every way a
//! server may have, and connections cut at every call.

use crate::backend::fulfils_the_contract;
use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::ways::FTP;
use crate::support::ways::SFTP;
use crate::support::ways::Ways;
use icecore::backend::Backend;
use icecore::backend::Listed;
use icecore::backend::files::FilesBackend;
use icecore::backend::files::way::Way;
use icecore::backend::key::FolderKey;
use icecore::backend::key::ObjectKey;
use icecore::backend::local::LocalBackend;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::base::time::Clock;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::net::files::Precision;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

mod cuts;
mod steps;

const ROOT: &[u8] = b"above/repository";

struct World {
    server: Arc<Server>,
    pool: Arc<Pool>,
    folder: Folder,
}

pub(crate) fn pool(server: &Arc<Server>, sessions_max: usize) -> Arc<Pool> {
    let options = PoolOptions { sessions_max, ..PoolOptions::default() };
    let door = Arc::new(Door(Arc::clone(server)));
    Pool::new(door, Arc::new(FixedClock::default()), options)
}

fn world(ways: Ways) -> World {
    let folder = Folder::new();
    let server = Server::new(folder.path(), ways);
    let pool = pool(&server, 4);
    World { server, pool, folder }
}

impl World {
    fn create(&self) -> FilesBackend {
        FilesBackend::create(Arc::clone(&self.pool), ROOT, "fake://server".to_owned()).unwrap()
    }

    fn open(&self) -> Result<FilesBackend> {
        FilesBackend::open(Arc::clone(&self.pool), ROOT, "fake://server".to_owned(), None)
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("above/repository")
    }

    /// Serves the same folder in another way.
    fn served_as(&self, ways: Ways) -> FilesBackend {
        let server = Server::new(self.folder.path(), ways);
        let pool = pool(&server, 4);
        FilesBackend::open(pool, ROOT, "fake://other".to_owned(), None).unwrap()
    }
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn listed(backend: &dyn Backend, text: &str) -> BTreeMap<String, Option<u64>> {
    let mut rows = BTreeMap::new();
    let visit = &mut |row| {
        let (name, size) = match row {
            Listed::Object(object) => (object.key.to_string(), object.size),
            Listed::Folder(folder) => (format!("{folder}/"), None),
        };
        assert!(rows.insert(name.clone(), size).is_none(), "{name} is listed twice");
        Ok(())
    };
    backend.list(&FolderKey::new(text).unwrap(), visit).unwrap();
    rows
}

fn names(backend: &dyn Backend, text: &str) -> Vec<String> {
    listed(backend, text).into_keys().collect()
}

fn count_in(path: &Path) -> usize {
    path.read_dir().unwrap().count()
}

/// Every kind of server, and the way that objects are created on it.
fn all_ways() -> Vec<(&'static str, Ways, Way)> {
    vec![
        ("sftp", SFTP, Way::Link),
        ("sftp without rename over", Ways { rename_over: false, ..SFTP }, Way::Link),
        ("sftp without links", Ways { links: false, ..SFTP }, Way::Folder),
        ("ftp", FTP, Way::Folder),
        ("ftp with minutes", Ways { listed: Precision::Minute, ..FTP }, Way::Folder),
        ("ftp with days", Ways { listed: Precision::Vague, ..FTP }, Way::Folder),
        ("ftp, empty folders stay", Ways { empty_folders_refuse: true, ..FTP }, Way::Folder),
        ("ftp, folders replaced", Ways { folders_refuse: false, ..FTP }, Way::Nothing),
        ("ftp, few sessions", Ways { sessions_max: 2, ..FTP }, Way::Folder),
        ("ftp, one session", Ways { sessions_max: 1, ..FTP }, Way::Folder),
    ]
}

#[test]
fn it_fulfils_the_contract_on_every_kind_of_server() {
    for (name, ways, way) in all_ways() {
        let folders = Folder::in_memory();
        let count = AtomicUsize::new(0);
        fulfils_the_contract(&|| {
            let path = folders.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
            std::fs::create_dir(&path).unwrap();
            let pool = pool(&Server::new(&path, ways.clone()), 8);
            let backend = FilesBackend::create(pool, ROOT, name.to_owned()).unwrap();
            assert_eq!(backend.proven(), Some(way), "{name}");
            assert_eq!(backend.capabilities().atomic_create, way != Way::Nothing, "{name}");
            Arc::new(backend)
        });
    }
}

#[test]
fn roots_are_below_the_login_from_the_top_or_the_login_itself() {
    for root in [&b""[..], b"/", b"a", b"/a/b/c", b"a/b/c"] {
        let world = world(FTP);
        let make = || FilesBackend::create(Arc::clone(&world.pool), root, "x".to_owned()).unwrap();
        make().put_new(&key("n/1"), b"one").unwrap();
        let again =
            FilesBackend::open(Arc::clone(&world.pool), root, "x".to_owned(), None).unwrap();
        assert_eq!(again.get(&key("n/1"), 9).unwrap(), b"one");
        assert_eq!(names(&make(), ""), ["n/"]);
        let path = world.folder.path().join(String::from_utf8_lossy(root).trim_start_matches('/'));
        assert!(path.join("n/1+/o").is_file());
    }
}

#[test]
fn opening_what_is_not_there_makes_nothing() {
    let world = world(FTP);
    let error = world.open().err().unwrap();
    assert_eq!((error.kind(), error.origin()), (ErrorKind::NotFound, Origin::Repository));
    assert_eq!(count_in(world.folder.path()), 0);
}

#[test]
fn objects_created_as_folders_are_objects_like_others() {
    let world = world(FTP);
    let backend = world.create();
    backend.put_new(&key("d/7"), b"header").unwrap();
    backend.put(&key("d/7.hidden"), b"marker").unwrap();

    let rows = listed(&backend, "d");
    assert_eq!(rows, [("d/7".into(), None), ("d/7.hidden".into(), Some(6))].into());
    assert_eq!(backend.stat(&key("d/7")).unwrap(), Some(6));
    assert_eq!(backend.get_range(&key("d/7"), 1..4).unwrap(), b"ead");
    assert!(listed(&backend, "d/7").is_empty());
    backend.delete(&key("d/7")).unwrap();
    assert_eq!(names(&backend, "d"), ["d/7.hidden"]);
    assert!(!world.root().join("d/7+").exists());
    assert_eq!(count_in(&world.root().join("tmp")), 0);
}

#[test]
fn a_listing_costs_the_same_for_any_number_of_objects() {
    let world = world(FTP);
    let backend = world.create();
    for number in 0..50 {
        backend.put_new(&key(&format!("d/{number}")), b"header").unwrap();
    }
    let again = world.open().unwrap();
    world.server.cut(None);
    assert_eq!(listed(&again, "d").len(), 50);
    assert_eq!(world.server.calls(), ["list above/repository/d"]);
    // What was listed is read by the questions that one of a kind takes.
    world.server.cut(None);
    again.get(&key("d/7"), 100).unwrap();
    assert_eq!(world.server.calls().len(), 2, "{:?}", world.server.calls());
}

#[test]
fn a_key_that_went_halfway_counts_as_gone() {
    for ways in [FTP, Ways { empty_folders_refuse: true, ..FTP }] {
        let world = world(ways);
        let backend = world.create();
        backend.put_new(&key("d/7"), b"header").unwrap();
        std::fs::remove_file(world.root().join("d/7+/o")).unwrap();

        assert_eq!(backend.stat(&key("d/7")).unwrap(), None);
        assert_eq!(backend.get(&key("d/7"), 9).unwrap_err().kind(), ErrorKind::NotFound);
        backend.put_new(&key("d/7"), b"other").unwrap();
        assert_eq!(backend.get(&key("d/7"), 9).unwrap(), b"other");
    }
}

#[test]
fn what_a_local_folder_holds_is_read_and_written_by_links_alone() {
    let world = world(SFTP);
    let local = LocalBackend::create(&world.root()).unwrap();
    local.put_new(&key("config"), b"config").unwrap();
    local.put_new(&key("d/1"), b"one").unwrap();

    let sftp = world.open().unwrap();
    assert_eq!(sftp.put_new(&key("d/1"), b"two").unwrap_err().kind(), ErrorKind::AlreadyExists);
    sftp.put_new(&key("d/2"), b"two").unwrap();
    assert_eq!(local.put_new(&key("d/2"), b"x").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(local.get(&key("d/2"), 9).unwrap(), b"two");

    // A server without links would let two take one number.
    let ftp = world.served_as(FTP);
    assert_eq!(ftp.get(&key("d/2"), 9).unwrap(), b"two");
    assert!(ftp.capabilities().atomic_create);
    for refused in [
        ftp.put(&key("d/3"), b"x").unwrap_err(),
        ftp.put_new(&key("d/2"), b"x").unwrap_err(),
        ftp.delete(&key("d/2")).unwrap_err(),
        ftp.sweep().unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
        assert_eq!(refused.origin(), Origin::Repository);
    }
    assert_eq!(names(&local, "d"), ["d/1", "d/2"]);
}

#[test]
fn a_repository_made_by_folders_stays_so_over_sftp_and_is_none_for_others() {
    let world = world(FTP);
    let ftp = world.create();
    ftp.put_new(&key("config"), b"config").unwrap();
    ftp.put_new(&key("d/1"), b"one").unwrap();

    let sftp = world.served_as(SFTP);
    assert_eq!(sftp.put_new(&key("d/1"), b"two").unwrap_err().kind(), ErrorKind::AlreadyExists);
    sftp.put_new(&key("d/2"), b"two").unwrap();
    assert_eq!(ftp.put_new(&key("d/2"), b"x").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(names(&sftp, "d"), ["d/1", "d/2"]);
    let local = LocalBackend::open(&world.root()).unwrap();
    assert_eq!(local.stat(&key("config")).unwrap(), None);
}

#[test]
fn a_repository_moved_to_a_server_that_replaces_is_not_written_to() {
    let world = world(FTP);
    world.create().put_new(&key("d/1"), b"one").unwrap();
    let moved = world.served_as(Ways { folders_refuse: false, ..FTP });

    for _ in 0..2 {
        let error = moved.put_new(&key("d/1"), b"two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    }
    assert_eq!(moved.get(&key("d/1"), 9).unwrap(), b"one");
    assert_eq!(moved.proven(), None);
}

#[test]
fn a_proven_server_is_not_tried_again() {
    let world = world(FTP);
    let proven = world.create().proven();
    assert_eq!(proven, Some(Way::Folder));
    let commit = |proven: Option<Way>, name: &str| {
        let pool = Arc::clone(&world.pool);
        let backend = FilesBackend::open(pool, ROOT, "x".to_owned(), proven).unwrap();
        backend.put(&key("d/0"), b"").unwrap();
        world.server.cut(None);
        backend.put_new(&key(name), b"x").unwrap();
        assert_eq!(backend.proven(), Some(Way::Folder));
        world.server.calls().len()
    };
    assert!(commit(proven, "d/1") < commit(None, "d/2"));
}

#[test]
fn creating_again_keeps_the_way() {
    let world = world(Ways { folders_refuse: false, ..FTP });
    assert!(!world.create().capabilities().atomic_create);
    let again = world.served_as(SFTP);
    assert!(!again.capabilities().atomic_create);
    let pool = pool(&Server::new(world.folder.path(), SFTP), 2);
    let made = FilesBackend::create(pool, ROOT, "x".to_owned()).unwrap();
    assert!(!made.capabilities().atomic_create);
    std::fs::write(world.root().join("way+"), b"by hand\n").unwrap();
    assert_eq!(world.open().err().unwrap().kind(), ErrorKind::Unsupported);
}

#[test]
fn foreign_names_are_neither_shown_nor_touched() {
    for ways in [FTP, SFTP] {
        let world = world(ways);
        let backend = world.create();
        backend.put(&key("packs/ab/c"), b"1").unwrap();
        let root = world.root();
        for foreign in [".DS_Store", "packs/Thumbs.db", "packs/a b", "packs/ab/c~", "packs/x+"] {
            std::fs::write(root.join(foreign), b"foreign").unwrap();
        }
        std::fs::create_dir(root.join("lost+found")).unwrap();
        std::fs::write(root.join("reserve"), b"local").unwrap();
        std::fs::write(root.join("tmp/00ff"), b"torn").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("packs/dangling")).unwrap();
        std::fs::create_dir(root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", root.join("packs/disk2")).unwrap();

        assert_eq!(names(&backend, ""), ["elsewhere/", "packs/"]);
        assert_eq!(names(&backend, "packs"), ["packs/ab/", "packs/disk2/"]);
        assert_eq!(names(&backend, "packs/ab"), ["packs/ab/c"]);
        assert!(listed(&backend, "tmp").is_empty());
        assert!(root.join("packs/Thumbs.db").exists());
        for bad in ["tmp", "tmp/a", "reserve", "reserve/a"] {
            let error = backend.put(&key(bad), b"1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
        assert!(backend.release_reserve().unwrap());
        assert!(!backend.release_reserve().unwrap());
    }
}

#[test]
fn a_root_that_was_taken_away_is_an_error_and_not_empty() {
    for ways in [FTP, SFTP] {
        let world = world(ways);
        let backend = world.create();
        backend.put(&key("a/b"), b"1").unwrap();
        std::fs::rename(world.root(), world.folder.path().join("away")).unwrap();

        for error in [
            backend.put(&key("a/c"), b"1").unwrap_err(),
            backend.put_new(&key("a/c"), b"1").unwrap_err(),
            backend.get(&key("a/b"), 9).unwrap_err(),
            backend.get_range(&key("a/b"), 0..1).unwrap_err(),
            backend.stat(&key("a/b")).unwrap_err(),
            backend.list(&FolderKey::top(), &mut |_| Ok(())).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NoRepository, "{error:?}");
            assert_eq!(error.origin(), Origin::Repository);
        }
    }
}

#[test]
fn folders_that_were_removed_are_made_again() {
    for ways in [FTP, SFTP] {
        let world = world(ways);
        let backend = world.create();
        for name in ["a/b/1", "a/b/2"] {
            backend.put(&key(name), b"1").unwrap();
            backend.put_new(&key(&format!("{name}.n")), b"1").unwrap();
            std::fs::remove_dir_all(world.root().join("a")).unwrap();
            std::fs::remove_dir_all(world.root().join("tmp")).unwrap();
        }
        backend.put_new(&key("a/b/3"), b"1").unwrap();
        backend.put(&key("a/b/4"), b"1").unwrap();
        assert_eq!(names(&backend, "a/b"), ["a/b/3", "a/b/4"]);
    }
}

#[test]
fn leftovers_are_swept_when_a_day_old_by_the_servers_clock() {
    for ways in [FTP, SFTP, Ways { listed: Precision::Minute, ..FTP }] {
        let world = world(ways);
        let backend = world.create();
        let tmp = world.root().join("tmp");
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
        for name in ["staged-old", "staged-new"] {
            std::fs::create_dir(tmp.join(name)).unwrap();
            std::fs::write(tmp.join(name).join("o"), [0; 100]).unwrap();
        }
        for name in ["0old", "0new"] {
            std::fs::write(tmp.join(name), [0; 1000]).unwrap();
        }
        for name in ["staged-old", "0old"] {
            std::fs::File::open(tmp.join(name)).unwrap().set_modified(old).unwrap();
        }

        assert_eq!(backend.sweep().unwrap(), 1100);
        let mut left: Vec<_> = tmp.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0new", "staged-new"]);
    }
}

/// A clock that goes on by a day whenever it is asked.
struct Days(AtomicUsize);

impl Clock for Days {
    fn now(&self) -> Timestamp {
        Timestamp::new(86_400 * self.0.fetch_add(1, Ordering::Relaxed) as i64, 0)
    }
}

#[test]
fn an_object_that_a_sweep_empties_while_its_writer_sleeps_is_created_again() {
    let folder = Folder::new();
    let door =
        Arc::new(Door(Server::new(folder.path(), Ways { swept_before: Some("d/7+"), ..FTP })));
    let pool = Pool::new(door, Arc::new(Days(AtomicUsize::new(0))), PoolOptions::default());
    let backend = FilesBackend::create(pool, ROOT, "fake://server".to_owned()).unwrap();

    backend.put_new(&key("d/7"), b"header").expect("it is there");

    assert_eq!(backend.get(&key("d/7"), 100).expect("a header"), b"header");
    assert_eq!(count_in(&folder.path().join("above/repository/tmp")), 0);
    let again = backend.put_new(&key("d/7"), b"other!").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn where_times_tell_nothing_nothing_is_swept_and_no_time_is_shown() {
    let world = world(Ways { listed: Precision::Vague, ..FTP });
    let backend = world.create();
    std::fs::write(world.root().join("tmp/old"), b"x").unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    std::fs::File::open(world.root().join("tmp/old")).unwrap().set_modified(old).unwrap();
    backend.put(&key("a"), b"1").unwrap();

    assert_eq!(backend.sweep().unwrap(), 0);
    let visit = &mut |row| {
        assert!(matches!(row, Listed::Object(object) if object.modified.is_none()));
        Ok(())
    };
    backend.list(&FolderKey::top(), visit).unwrap();
}

/// Over a folder of other files, and over a repository of another program.
#[test]
fn nothing_is_made_where_something_else_is() {
    let random = "00112233445566778899aabbccddeeff";
    for ways in [(|| FTP) as fn() -> Ways, || SFTP] {
        for file in ["config", "My Photos.JPG", "b", "tmp/mine", "reserve", "keys/id_rsa", "keys/K"]
        {
            let world = world(ways());
            let path = world.root().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"mine").unwrap();

            let backend = world.create();

            assert_eq!(backend.foreign().unwrap().as_deref(), Some(file));
            assert_eq!(count_in(&world.root()), 1, "{file}");
            assert_eq!(std::fs::read(path).unwrap(), b"mine");
        }
        let world = world(ways());
        let ours = [format!("tmp/{random}"), format!("keys/{random}+")];
        for file in ["lost+found/x", ".bashrc", "tmp/.nfs0001", "keys/@eaDir/x", &ours[0], &ours[1]]
        {
            let path = world.root().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        assert_eq!(world.create().foreign().unwrap(), None);
    }
}

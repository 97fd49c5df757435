//! Buckets of real stores: SeaweedFS, which knows an atomic create, and `rclone serve s3`, which
//! does not. MinIO takes minutes to build: only where `ICECORE_TEST_MINIO` is set, and then it must
//! not fail to start.

use crate::contract::Shared;
use crate::contract::fulfils_the_contract;
use crate::contract::key;
use crate::contract::listed;
use crate::support::Server;
use icecore::backend::Backend;
use icecore::backend::key::FolderKey;
use icecore::backend::s3::S3Backend;
use icecore::backend::s3::S3Options;
use icecore::backend::wrap::sleeper::Sleeper;
use icecore::backend::wrap::sleeper::SystemSleeper;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Argon2Cost;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::list;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::restore;
use icecore::format::dataset::HiddenRecord;
use icecore::net::s3::client::Client;
use icecore::net::s3::client::Options;
use icecore::net::s3::listing::Depth;
use icecore::net::s3::objects::Beside;
use icecore::net::s3::sign::Credentials;
use icecore::net::s3::upload::Parts;
use icecore::repository::cache::CachePlace;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Cheap enough for tests, and never for anything else.
const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
pub(crate) const BUCKET: &str = "icecore-test";

/// A store with a bucket, for all tests of this program.
pub(crate) struct Store {
    pub(crate) server: Server,
    prefixes: AtomicUsize,
}

pub(crate) static SEAWEEDFS: LazyLock<Store> = LazyLock::new(|| Store::start("seaweedfs"));
pub(crate) static RCLONE: LazyLock<Store> = LazyLock::new(|| Store::start("rclone"));
pub(crate) static MINIO: LazyLock<Store> = LazyLock::new(|| Store::start("minio"));

pub(crate) fn wants_minio() -> bool {
    let wanted = std::env::var_os("ICECORE_TEST_MINIO").is_some();
    if !wanted {
        eprintln!("not tested: MinIO, as ICECORE_TEST_MINIO is not set");
    }
    wanted
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) fn sleeper() -> Arc<dyn Sleeper> {
    Arc::new(SystemSleeper::default())
}

impl Store {
    fn start(kind: &str) -> Self {
        let server = Server::start("s3.py", &[kind]);
        let store = Store { server, prefixes: AtomicUsize::new(0) };
        // A port that is open is not yet a store that takes something.
        for _ in 0..300 {
            if S3Backend::create(&store.options(), clock(), sleeper()).is_ok() {
                return store;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{kind} takes nothing within half a minute");
    }

    fn bucket(&self, name: &str) -> Options {
        let mut bucket = Options::new(name);
        bucket.endpoint = Some(format!("http://127.0.0.1:{}", self.server.port()));
        bucket.credentials = Some(Credentials {
            access_key: self.server.get("access").to_owned(),
            secret_key: Secret::new(self.server.get("secret").into()),
            session_token: None,
        });
        bucket
    }

    /// Returns what its script says of it: `port`, `access`, `secret`.
    pub(crate) fn said(&self, key: &str) -> String {
        self.server.get(key).to_owned()
    }

    /// Returns the bucket with a fresh prefix.
    pub(crate) fn options(&self) -> S3Options {
        let prefix = format!("p/{}", self.prefixes.fetch_add(1, Ordering::Relaxed));
        S3Options { bucket: self.bucket(BUCKET), prefix, atomic_create: None }
    }

    fn backend(&self) -> Shared {
        Arc::new(S3Backend::open(&self.options(), clock(), sleeper()).unwrap())
    }

    /// Returns a repository in the bucket, and what the program needs to reach it.
    pub(crate) fn as_repository(&self) -> (String, Vec<(&'static str, String)>) {
        let prefix = self.options().prefix;
        let variables = vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.server.port())),
            ("AWS_ACCESS_KEY_ID", self.server.get("access").to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.server.get("secret").to_owned()),
        ];
        (format!("s3://{BUCKET}/{prefix}"), variables)
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Returns the access key and the secret that goes with it.
    pub(crate) fn keys(&self) -> (String, String) {
        (self.server.get("access").to_owned(), self.server.get("secret").to_owned())
    }

    pub(crate) fn client(&self, bucket: &str) -> Client {
        let sleeper = sleeper();
        let wait = Arc::new(move |time| sleeper.sleep(time));
        Client::new(&self.bucket(bucket), clock(), wait).unwrap()
    }
}

#[test]
fn seaweedfs_fulfils_the_contract() {
    fulfils_the_contract(&|| SEAWEEDFS.backend());
}

#[test]
fn rclone_fulfils_the_contract() {
    fulfils_the_contract(&|| RCLONE.backend());
}

#[test]
fn minio_fulfils_the_contract() {
    if wants_minio() {
        fulfils_the_contract(&|| MINIO.backend());
        assert!(MINIO.backend().capabilities().atomic_create);
        a_repository_lives_in(&MINIO);
        many_objects_are_all_listed(&MINIO, 2_500);
        large_objects_are_put_in_parts(&MINIO);
        what_stands_beside_an_object_is_kept(&MINIO);
    }
}

#[test]
fn the_class_is_found_out() {
    assert!(SEAWEEDFS.backend().capabilities().atomic_create);
    assert!(!RCLONE.backend().capabilities().atomic_create);
    for backend in [SEAWEEDFS.backend(), RCLONE.backend()] {
        backend.list(&FolderKey::top(), &mut |row| panic!("{row:?} is left")).unwrap();
    }
}

#[test]
fn one_of_eight_programs_wins() {
    let options = SEAWEEDFS.options();
    let barrier = Barrier::new(8);
    // Of those that meet each waits for a second or more.
    let winners: Vec<AtomicUsize> = (0..6).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let (options, barrier, winners) = (&options, &barrier, &winners);
            scope.spawn(move || {
                let backend = S3Backend::open(options, clock(), sleeper()).unwrap();
                for (round, winners) in winners.iter().enumerate() {
                    barrier.wait();
                    match backend.put_new(&key(&format!("d/{round}")), &[number; 100]) {
                        Ok(()) => winners.fetch_add(1, Ordering::Relaxed),
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e:?}");
                            0
                        }
                    };
                }
            });
        }
    });
    assert!(winners.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

fn many_objects_are_all_listed(store: &Store, count: usize) {
    let backend = store.backend();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    backend.put(&key(&format!("many/{number:05}")), b"1").unwrap();
                    if number.is_multiple_of(1000) {
                        backend.put(&key(&format!("many/{number:05}-below/x")), b"1").unwrap();
                    }
                }
            });
        }
    });
    let rows = listed(&backend, "many");
    assert_eq!(rows.len(), count + count.div_ceil(1000));
    assert_eq!(rows.values().filter(|size| **size == Some(1)).count(), count);
}

#[test]
fn twelve_thousand_objects_are_all_listed() {
    many_objects_are_all_listed(&SEAWEEDFS, 12_000);
}

#[test]
fn more_pages_than_one_are_listed_without_an_atomic_create() {
    many_objects_are_all_listed(&RCLONE, 2_500);
}

fn large_objects_are_put_in_parts(store: &Store) {
    let options = store.options();
    let backend = S3Backend::open(&options, clock(), sleeper()).unwrap();
    let large: Vec<u8> = (0..(64 << 20) + 12_345_u32).map(|at| (at % 251) as u8).collect();
    let before = backend.counts().requests;

    backend.put(&key("packs/large"), &large).unwrap();

    assert_eq!(backend.counts().requests - before, 7);
    assert!(backend.get(&key("packs/large"), large.len()).unwrap() == large);
    let stretch = (16 << 20) - 5..(16 << 20) + 5;
    let expected = &large[stretch.start..stretch.end];
    let stretch = stretch.start as u64..stretch.end as u64;
    assert_eq!(backend.get_range(&key("packs/large"), stretch).unwrap(), expected);
    if backend.capabilities().atomic_create {
        let taken = backend.put_new(&key("packs/large"), &large).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken:?}");
        let client = store.client(BUCKET);
        let (left, _) = client.list_uploads(&options.prefix).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn large_objects_are_put_in_parts_on_seaweedfs() {
    large_objects_are_put_in_parts(&SEAWEEDFS);
}

#[test]
fn large_objects_are_put_in_parts_on_rclone() {
    large_objects_are_put_in_parts(&RCLONE);
}

#[test]
fn uploads_under_way_are_not_swept() {
    for store in [&SEAWEEDFS, &RCLONE] {
        let options = store.options();
        let backend = S3Backend::open(&options, clock(), sleeper()).unwrap();
        let client = store.client(BUCKET);
        let place = format!("{}/packs/begun", options.prefix);
        let mut parts = Parts::begin(&client, &place, &Beside::default()).unwrap();
        parts.add(&[7; 1000]).unwrap();

        assert_eq!(backend.sweep().unwrap(), 0);

        let (uploads, now) = client.list_uploads(&options.prefix).unwrap();
        assert_eq!(uploads.len(), 1);
        assert_eq!(client.upload_bytes(&place, &uploads[0].upload).unwrap(), 1000);
        let age = now.unwrap().seconds() - uploads[0].begun.unwrap().seconds();
        assert!((-5..60).contains(&age), "{age}");
        assert_eq!(backend.stat(&key("packs/begun")).unwrap(), None);
        parts.abort().unwrap();
        assert!(client.list_uploads(&options.prefix).unwrap().0.is_empty());
    }
}

/// Three backups, restores of each, a prune and a check, through the library.
fn a_repository_lives_in(store: &Store) {
    let cache = tempfile::tempdir().unwrap();
    let place = CachePlace::Scratch(cache.path().to_owned());
    let options = store.options();
    let backend: Shared = Arc::new(S3Backend::create(&options, clock(), sleeper()).unwrap());
    let password = Secret::new(b"secret".to_vec());
    let settings =
        CreateOptions { password: Some(password.clone()), cost: CHEAP, ..CreateOptions::default() };
    open::create(backend, &settings, &place, SystemClock.now()).unwrap();

    let (progress, cancel) = (Silent, Cancel::new());
    let context = Context { progress: &progress, cancel: &cancel, clock: &SystemClock, threads: 4 };
    let name = "cats".parse().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|at| (at ^ at << 13).to_le_bytes()).collect();
    let versions: Vec<MemorySource> = (0..3_usize)
        .map(|version| {
            let source = MemorySource::new("cats")
                .without_change_detection()
                .file("large", &large[version * 100_000..])
                .file("note", format!("version {version}"));
            (0..200).fold(source, |source, number| {
                let content = format!("{}", number * (1 + version / 2 * number));
                source.file(format!("many/{number:03}"), content)
            })
        })
        .collect();
    for source in &versions {
        // As each run of the program does.
        let backend = Arc::new(S3Backend::open(&options, clock(), sleeper()).unwrap());
        let repository = open::open(backend, Some(&password), &place).unwrap();
        let report =
            backup::run(&repository, &name, source, &BackupOptions::default(), &context).unwrap();
        assert_eq!(report.backup.0 as usize + 1, repository_backups(&repository));
    }

    let backend = Arc::new(S3Backend::open(&options, clock(), sleeper()).unwrap());
    let repository = open::open(backend, Some(&password), &place).unwrap();
    let dataset = repository.dataset(&name).unwrap();
    let hidden = layout::hidden(&dataset.id(), icecore::base::id::BackupId(0)).unwrap();
    let record = HiddenRecord { number: 0, written: SystemClock.now() };
    repository.store().put(ObjectKind::Hidden, &hidden, &record).unwrap();
    let pruning = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    prune::run(&repository, &pruning, &context).unwrap();

    let backups = dataset.backups().unwrap();
    assert_eq!(backups.len(), 2);
    for found in backups {
        let version = found.header.number.0 as usize;
        let snapshot = list::snapshot(&dataset, found).unwrap();
        let target = MemoryTarget::new();
        restore::run(&snapshot, &target, &Default::default(), &context).unwrap();
        let content = |path: &str| target.content(&EntryPath::new(path.as_bytes()).unwrap());
        assert!(content("large").unwrap() == large[version * 100_000..], "version {version}");
        assert_eq!(content("note").unwrap(), format!("version {version}").as_bytes());
        assert_eq!(target.entries().len(), 1 + 2 + 1 + 200);
    }
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let report = check::run(&repository, &options, &context).unwrap();
    assert!(report.is_ok(), "{:#?}", report.findings);
}

fn repository_backups(repository: &icecore::repository::Repository) -> usize {
    let dataset = repository.dataset(&"cats".parse().unwrap()).unwrap();
    dataset.backups().unwrap().len()
}

#[test]
fn a_repository_lives_in_seaweedfs() {
    a_repository_lives_in(&SEAWEEDFS);
}

#[test]
fn a_repository_lives_without_an_atomic_create() {
    a_repository_lives_in(&RCLONE);
}

#[test]
fn what_is_wrong_is_said() {
    let opened = |change: &dyn Fn(&mut S3Options)| {
        let mut options = SEAWEEDFS.options();
        change(&mut options);
        S3Backend::open(&options, clock(), sleeper()).map(|_| ()).unwrap_err()
    };
    let secret = opened(&|options| {
        let credentials = options.bucket.credentials.as_mut().unwrap();
        credentials.secret_key = Secret::new(b"wrong".to_vec());
        options.atomic_create = None;
    });
    assert_eq!(secret.kind(), ErrorKind::Denied, "{secret:?}");
    let unknown = opened(&|options| {
        options.bucket.credentials.as_mut().unwrap().access_key = "NOBODY".into();
    });
    assert_eq!(unknown.kind(), ErrorKind::Denied, "{unknown:?}");
    let missing = opened(&|options| options.bucket.bucket = "no-such-bucket".into());
    assert_eq!(missing.kind(), ErrorKind::NoRepository, "{missing:?}");
    // Its PUT would have made the bucket.
    assert!(!SEAWEEDFS.client("no-such-bucket").has_bucket().unwrap());
    let elsewhere = opened(&|options| {
        options.bucket.endpoint = Some("http://127.0.0.1:1".into());
    });
    assert_eq!(elsewhere.kind(), ErrorKind::Unreachable, "{elsewhere:?}");
}

#[test]
fn a_certificate_is_checked() {
    let server = Server::start("s3.py", &["rclone-tls"]);
    let opened = |host: &str, ca: Option<&str>| {
        let mut options = RCLONE.options();
        options.bucket.endpoint = Some(format!("https://{host}:{}", server.port()));
        options.bucket.http.roots.extra = ca.map(|ca| ca.into());
        S3Backend::create(&options, clock(), sleeper())
    };

    let strange = opened("127.0.0.1", None).map(|_| ()).unwrap_err();
    assert_eq!(strange.kind(), ErrorKind::Denied, "{strange:?}");
    assert!(strange.hint_text().unwrap().contains("--tls-ca"));
    let known = opened("127.0.0.1", Some(server.get("ca"))).unwrap();
    known.put(&key("a"), b"1").unwrap();
    assert_eq!(known.get(&key("a"), 1).unwrap(), b"1");
    opened("localhost", Some(server.get("ca"))).unwrap();
    let other = opened("127.0.0.2", Some(server.get("ca"))).map(|_| ()).unwrap_err();
    assert!(matches!(other.kind(), ErrorKind::Denied | ErrorKind::Unreachable), "{other:?}");
}

#[test]
fn who_may_only_read_reads() {
    let mut options = SEAWEEDFS.options();
    let writer = S3Backend::open(&options, clock(), sleeper()).unwrap();
    writer.put(&key("a"), b"1").unwrap();
    options.bucket.credentials.as_mut().unwrap().access_key = "READER".into();

    let reader = S3Backend::open(&options, clock(), sleeper()).unwrap();

    assert_eq!(reader.get(&key("a"), 1).unwrap(), b"1");
    for refused in [reader.put(&key("b"), b"1"), reader.delete(&key("a"))] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    }
}

fn what_stands_beside_an_object_is_kept(store: &Store) {
    let client = store.client(BUCKET);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let beside = Beside {
        content_type: Some("text/x-test".into()),
        own: vec![pair("mtime", "123.5"), pair("who", "a \u{a0}\u{3000}b")],
        tags: vec![pair("k", "v/+ 1")],
        ..Beside::default()
    };
    for name in ["plain", "sp ace", "plus+x", "%41", "a&b<c>'\"", "\u{6f22}\u{e9}", "q?x=1"] {
        let place = format!("beside/{name}");
        client.put(&place, name.as_bytes(), &beside).unwrap();

        let head = client.head(&place, None).unwrap().unwrap();
        assert_eq!((head.size, &head.own), (name.len() as u64, &beside.own), "{name}");
        assert_eq!(head.content_type, beside.content_type);
        assert_eq!(client.tags(&place, None).unwrap(), beside.tags, "{name}");
        client.set_tags(&place, None, &[pair("other", "2")]).unwrap();
        assert_eq!(client.tags(&place, None).unwrap(), [pair("other", "2")]);
        assert_eq!(client.get(&place, 100).unwrap(), name.as_bytes(), "{name}");
        let mut opened = client.open(&place, None, 1, Some(&head.etag)).unwrap();
        let mut buffer = [0; 100];
        let read = opened.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], &name.as_bytes()[1..]);
    }
    let mut keys = Vec::new();
    let visit = &mut |row| {
        keys.push(row);
        Ok(())
    };
    let now = client.list("beside/", Depth::All, visit).unwrap().unwrap();
    assert_eq!(keys.len(), 7, "{keys:?}");
    assert!((SystemClock.now().seconds() - now.seconds()).abs() < 60);
    assert!(client.head("beside/none", None).unwrap().is_none());
    assert_eq!(client.location().unwrap(), "us-east-1");
}

#[test]
fn what_stands_beside_an_object_is_kept_on_seaweedfs() {
    what_stands_beside_an_object_is_kept(&SEAWEEDFS);
}

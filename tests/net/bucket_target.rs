//! Buckets of real stores as targets: from a folder and back, from one bucket into another, and
//! versions.

use crate::s3::BUCKET;
use crate::s3::RCLONE;
use crate::s3::SEAWEEDFS;
use crate::s3::Store;
use icecore::backend::Backend;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::progress::Collector;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::net::s3::listing::Depth;
use icecore::net::s3::listing::Row;
use icecore::net::s3::listing::VersionRow;
use icecore::net::s3::objects::Beside;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::Source;
use icecore::source::bucket::BucketSource;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::target::Target;
use icecore::target::bucket::BucketTarget;
use icecore::target::local::LocalTarget;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A repository in memory with one dataset.
struct Repo {
    repository: Repository,
    progress: Collector,
    cancel: Cancel,
    scratch: TempDir,
}

impl Repo {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let place = CachePlace::Kept(scratch.path().join("cache"));
        let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let now = SystemClock.now();
        let repository = open::create(store, &CreateOptions::default(), &place, now).unwrap();
        Repo { repository, progress: Collector::default(), cancel: Cancel::new(), scratch }
    }

    fn context(&self) -> Context<'_> {
        Context { progress: &self.progress, cancel: &self.cancel, clock: &SystemClock, threads: 4 }
    }

    fn backup(&self, source: &dyn Source) -> BackupReport {
        let name = "data".parse().unwrap();
        let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
        let report =
            backup::run(&self.repository, &name, source, &options, &self.context()).unwrap();
        assert_eq!(report.errors, []);
        report
    }

    fn restore(&self, target: &dyn Target, options: &RestoreOptions) {
        let dataset = self.repository.dataset(&"data".parse().unwrap()).unwrap();
        let newest = dataset.backups().unwrap().into_iter().max_by_key(|it| it.header.number.0);
        let snapshot = list::snapshot(&dataset, newest.unwrap()).unwrap();
        let report = restore::run(&snapshot, target, options, &self.context()).unwrap();
        assert_eq!(report.errors, []);
    }

    fn target(&self, store: &Store, bucket: &str, prefix: &str) -> BucketTarget {
        BucketTarget::new(store.client(bucket), prefix, self.scratch.path().to_path_buf())
    }
}

fn verified(overwrite: Option<Overwrite>) -> RestoreOptions {
    RestoreOptions { verify: true, overwrite, ..RestoreOptions::default() }
}

/// Returns content, mode, time and kind of all that is below a folder.
fn look(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else if metadata.is_dir() {
                folders.push(path.clone());
                String::new()
            } else {
                format!("{:?}", icecore::base::hash::hash(&std::fs::read(&path).unwrap()))
            };
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let shown = match metadata.is_file() {
                true => format!(
                    "{:o} {} {} {content}",
                    metadata.mode(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                ),
                // Not all stores keep words beside what stands for a folder.
                false => format!("{:?} {content}", metadata.file_type()),
            };
            all.insert(name, shown);
        }
    }
    all
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8], mode: u32| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let large: Vec<u8> = (0..5_000_000_u32).flat_map(|at| (at ^ at << 13).to_le_bytes()).collect();
    put("large", &large, 0o640);
    put("a.html", b"<p>", 0o600);
    put("d/e/deep \u{6f22} +%41", b"odd", 0o755);
    put("d/none", b"", 0o444);
    for number in 0..40 {
        put(&format!("many/{number}.txt"), format!("{number}").as_bytes(), 0o644);
    }
    std::os::unix::fs::symlink("d/none", folder.path().join("link")).unwrap();
    std::fs::create_dir_all(folder.path().join("hollow/more")).unwrap();
    std::fs::set_permissions(folder.path().join("d/e"), PermissionsExt::from_mode(0o700)).unwrap();
    folder
}

fn goes_through(store: &Store, bucket: &str) {
    let folder = folder();
    let first = Repo::new();
    first.backup(&LocalSource::open(folder.path(), LocalOptions::default()).unwrap());

    first.restore(&first.target(store, bucket, "through"), &verified(None));

    let told = first.progress.warnings();
    assert!(
        told.iter().any(|note| note.contains("keeps no times and modes of folders")),
        "{told:?}"
    );
    let second = Repo::new();
    let source = || BucketSource::new(store.client(bucket), "through");
    second.backup(&source());
    // Within the second in which it was put an object may change without a sign.
    std::thread::sleep(std::time::Duration::from_secs(3));
    second.backup(&source());
    let again = second.backup(&source());
    assert_eq!(again.kind, BackupKind::Unchanged, "{:?}", again.counts);
    let back = tempfile::tempdir().unwrap();
    second.restore(&LocalTarget::new(back.path()), &verified(None));
    let (found, expected) = (look(back.path()), look(folder.path()));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in &expected {
        assert_eq!(&found[name], expected, "{name}");
    }

    // Once more, and over what somebody changed.
    let client = store.client(bucket);
    client.put("through/d/none", b"changed", &Beside::default()).unwrap();
    client.put("through/extra/x", b"extra", &Beside::default()).unwrap();
    client.put("through-not/x", b"stays", &Beside::default()).unwrap();
    let options = RestoreOptions { delete: true, ..verified(Some(Overwrite::IfChanged)) };
    first.restore(&first.target(store, bucket, "through"), &options);
    assert_eq!(client.get("through/d/none", 100).unwrap(), b"");
    assert!(client.head("through/extra/x", None).unwrap().is_none());
    assert!(client.head("through-not/x", None).unwrap().is_some());
}

#[test]
fn a_folder_goes_through_seaweedfs() {
    goes_through(&SEAWEEDFS, BUCKET);
}

/// A store that keeps objects as files takes what stands for a folder for a file, and puts it in
/// the place of all that is in the folder: so it gets none.
#[test]
fn content_goes_through_rclone() {
    let folder = folder();
    let first = Repo::new();
    first.backup(&LocalSource::open(folder.path(), LocalOptions::default()).unwrap());

    first.restore(&first.target(&RCLONE, BUCKET, "through"), &verified(None));

    let client = RCLONE.client(BUCKET);
    assert_eq!(client.get("through/a.html", 100).unwrap(), b"<p>");
    let told = first.progress.warnings();
    assert!(told.iter().any(|note| note.contains("keeps no empty folders")), "{told:?}");
    let source = BucketSource::new(RCLONE.client(BUCKET), "through").with_versions();
    let error = source.scan(&Cancel::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

/// Returns what stands in a bucket below a prefix: content and all that is beside it.
fn objects(store: &Store, bucket: &str, prefix: &str) -> BTreeMap<String, String> {
    let client = store.client(bucket);
    let mut keys = Vec::new();
    client
        .list(prefix, Depth::All, &mut |row| {
            if let Row::Object(object) = row {
                keys.push(object.key);
            }
            Ok(())
        })
        .unwrap();
    let look = |key: String| {
        let head = client.head(&key, None).unwrap().unwrap();
        let bytes = match key.ends_with('/') {
            true => Vec::new(),
            false => client.get(&key, 1 << 20).unwrap(),
        };
        let tags = if head.tags > 0 { client.tags(&key, None).unwrap() } else { Vec::new() };
        let beside = (head.content_type, head.own, head.said, tags);
        (key, format!("{:?} {beside:?}", String::from_utf8_lossy(&bytes)))
    };
    keys.into_iter().map(look).collect()
}

#[test]
fn a_bucket_is_the_same_in_another() {
    let client = SEAWEEDFS.client(BUCKET);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let beside = |content_type: &str| Beside {
        content_type: Some(content_type.to_owned()),
        own: vec![pair("mtime", "soon"), pair("umlaut", "\u{e9}"), pair("word", "a  b")],
        said: vec![pair("cache-control", "no-store"), pair("content-language", "de")],
        tags: vec![pair("k", "v w"), pair("l", "")],
    };
    client.put("one/a", b"first", &beside("text/x-a")).unwrap();
    client.put("one/d/e.html", b"second", &beside("x/y")).unwrap();
    client.put("one/d/empty", b"", &beside("x/y")).unwrap();
    client.put("one/plain", b"third", &Beside::default()).unwrap();
    let repo = Repo::new();
    repo.backup(&BucketSource::new(SEAWEEDFS.client(BUCKET), "one"));
    let other = "icecore-other";
    SEAWEEDFS.client(other).create_bucket().unwrap();

    repo.restore(&repo.target(&SEAWEEDFS, other, "one"), &verified(None));

    assert_eq!(objects(&SEAWEEDFS, other, "one/"), objects(&SEAWEEDFS, BUCKET, "one/"));
    let missing = repo.target(&SEAWEEDFS, "icecore-missing", "one");
    assert_eq!(missing.prepare().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Returns the versions of all keys below a prefix, oldest first; None for a mark of deletion.
fn histories(store: &Store, bucket: &str, prefix: &str) -> BTreeMap<String, Vec<Option<String>>> {
    let client = store.client(bucket);
    let mut all: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    let mut rows = Vec::new();
    client
        .list_versions(prefix, Depth::All, &mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    for row in rows {
        let VersionRow::Version(version) = row else { continue };
        let key = &version.object.key;
        let content = (!version.is_deletion).then(|| {
            let mut opened = client.open(key, Some(&version.version), 0, None).unwrap();
            let mut bytes = vec![0; 1000];
            let got = opened.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..got]).into_owned()
        });
        all.entry(key.clone()).or_default().insert(0, content);
    }
    all
}

#[test]
fn versions_go_from_one_bucket_to_another_in_order() {
    let (one, other) = ("icecore-lived", "icecore-again");
    for bucket in [one, other] {
        let client = SEAWEEDFS.client(bucket);
        client.create_bucket().unwrap();
        client.keep_versions().unwrap();
        assert!(client.keeps_versions().unwrap());
    }
    let client = SEAWEEDFS.client(one);
    let put = |key: &str, bytes: &str| {
        client.put(key, bytes.as_bytes(), &Beside::default()).unwrap();
    };
    for number in 0..30 {
        put("p/many", &format!("version {number}"));
    }
    put("p/d/a.txt", "first");
    client.delete("p/d/a.txt").unwrap();
    put("p/d/a.txt", "");
    put("p/d/a.txt", "third");
    put("p/gone", "was here");
    client.delete("p/gone").unwrap();
    put("p/new", "new");
    let repo = Repo::new();
    let source = || BucketSource::new(SEAWEEDFS.client(one), "p").with_versions();
    repo.backup(&source());
    std::thread::sleep(std::time::Duration::from_secs(3));
    repo.backup(&source());
    let again = repo.backup(&source());
    assert_eq!(again.kind, BackupKind::Unchanged, "{:?}", again.counts);

    repo.restore(&repo.target(&SEAWEEDFS, other, "p"), &verified(None));

    let (found, expected) = (histories(&SEAWEEDFS, other, "p/"), histories(&SEAWEEDFS, one, "p/"));
    assert_eq!(found, expected);
    assert_eq!(expected["p/many"].len(), 30);
    let folder = tempfile::tempdir().unwrap();
    repo.restore(&LocalTarget::new(folder.path()), &verified(None));
    let files = look(folder.path());
    let old = files.keys().filter(|name| name.starts_with("many@versions/")).count();
    assert_eq!(old, 29, "{files:?}");
    assert!(files.keys().any(|name| name.starts_with("gone@versions/")), "{files:?}");
}

//! What distance costs: requests and round trips of the real program, counted by a proxy that makes
//! real servers far away. What it prints is seen with `-- --nocapture distance::`.

use crate::distance::proxy::Counts;
use crate::distance::proxy::Proxy;
use crate::distance::proxy::Speech;
use crate::s3::BUCKET;
use crate::s3::SEAWEEDFS;
use crate::support::Server;
use icecore::backend::local::LocalBackend;
use icecore::base::cancel::Cancel;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::net::s3::objects::Beside;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use tempfile::TempDir;

mod proxy;

/// How far away servers are, unless `ICECORE_TEST_ROUND_TRIP_MS` says otherwise. What is counted
/// does not depend on it.
const ROUND_TRIP_MS: u64 = 20;
/// A file as young as a backup is read again by the next one.
const SETTLE: Duration = Duration::from_millis(1_100);
/// Short and long histories.
const SHORT: u64 = 10;
const LONG: u64 = 1_000;

/// A dataset and a repository with its history.
struct History {
    source: TempDir,
    repository: TempDir,
}

fn round_trip() -> Duration {
    let said = std::env::var("ICECORE_TEST_ROUND_TRIP_MS").ok();
    Duration::from_millis(said.map_or(ROUND_TRIP_MS, |text| text.parse().unwrap()))
}

fn memory_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Bytes that look random, and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

impl History {
    /// Makes so many backups, each after one file has changed.
    fn new(backups: u64, make: impl Fn(&Path)) -> Self {
        let (source, repository) = (memory_folder(), memory_folder());
        make(source.path());
        // What was written within the last minute is read again, which takes a lease.
        let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
        let age = |path: &Path, seconds| {
            let time = hour_ago + Duration::from_secs(seconds);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        for path in files_below(source.path()) {
            age(&source.path().join(path), 0);
        }
        let cache = memory_folder();
        let place = CachePlace::Kept(cache.path().to_owned());
        let backend = Arc::new(LocalBackend::create(repository.path()).unwrap());
        let options = CreateOptions::default();
        let opened = open::create(backend, &options, &place, SystemClock.now()).unwrap();
        let context =
            Context { progress: &Silent, cancel: &Cancel::new(), clock: &SystemClock, threads: 2 };
        let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
        for number in 0..backups {
            let changing = source.path().join("changing");
            fs::write(&changing, format!("version {number}")).unwrap();
            age(&changing, number);
            if number + 1 == backups {
                thread::sleep(SETTLE);
            }
            let folder = LocalSource::open(source.path(), LocalOptions::default()).unwrap();
            let name = "data".parse().unwrap();
            let report = backup::run(&opened, &name, &folder, &options, &context).unwrap();
            assert_eq!(report.backup.0, number);
        }
        History { source, repository }
    }

    fn few_files(backups: u64) -> Self {
        History::new(backups, |folder| {
            for number in 0..8_u64 {
                fs::write(folder.join(format!("file-{number}")), noise(number, 2_000)).unwrap();
            }
        })
    }
}

static SHORT_HISTORY: LazyLock<History> = LazyLock::new(|| History::few_files(SHORT));
static LONG_HISTORY: LazyLock<History> = LazyLock::new(|| History::few_files(LONG));
/// Some 24 MB in three packs.
static LARGE: LazyLock<History> = LazyLock::new(|| {
    History::new(1, |folder| {
        for number in 0..5_u64 {
            let name = format!("large-{number}");
            fs::write(folder.join(name), noise(number, 4_500_000)).unwrap();
        }
        for number in 0..300_u64 {
            fs::write(folder.join(format!("small-{number}")), noise(100 + number, 5_000)).unwrap();
        }
    })
});

/// Returns all files below a folder, as paths from there.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for row in fs::read_dir(folder).unwrap() {
            let path = row.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(root).unwrap().to_owned()),
            }
        }
    }
    found
}

/// Whether an object was put under the condition that nothing is there.
fn was_created(path: &Path) -> bool {
    let text = path.to_str().unwrap();
    let is_number = path.file_name().unwrap().to_str().unwrap().parse::<u64>().is_ok();
    text == "config" || is_number && (text.starts_with("datasets/") || text.starts_with("names/"))
}

/// Puts a repository where a server has its files, as it would be if it had been made there: by
/// links, or with folders for what was created.
fn plant(from: &Path, to: &Path, by_folders: bool, owner: &Path) {
    for path in files_below(from).iter().filter(|path| path.as_os_str() != "reserve") {
        let mut place = to.join(path);
        if by_folders && was_created(path) {
            place = PathBuf::from(format!("{}+", place.display())).join("o");
        }
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(from.join(path), place).unwrap();
    }
    fs::create_dir_all(to.join("tmp")).unwrap();
    if by_folders {
        fs::create_dir_all(to.join("taken+")).unwrap();
        fs::write(to.join("taken+/o"), "taken").unwrap();
        fs::write(to.join("way+"), "folder\n").unwrap();
    }
    let reference = format!("--reference={}", owner.display());
    let done = Command::new("chown").args(["-R", &reference]).arg(to).status();
    assert!(done.unwrap().success());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ftp,
    Sftp,
    S3,
}

/// A server that is far away, with a repository.
struct Far {
    kind: Kind,
    proxy: Proxy,
    location: String,
    home: TempDir,
    environment: Vec<(&'static str, String)>,
    _server: Option<Server>,
}

/// What one run of the program took.
#[derive(Debug)]
struct Ran {
    counts: Counts,
    out: String,
}

impl Far {
    fn new(kind: Kind, history: &History) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (repository, one_way) = (history.repository.path(), round_trip() / 2);
        let proxy = |port, speech| Proxy::start(port, one_way, speech).unwrap();
        match kind {
            Kind::Ftp => {
                let server = Server::start("ftp.py", &["proftpd"]);
                let root = PathBuf::from(server.get("root"));
                plant(repository, &root.join("repo"), true, &root);
                let proxy = proxy(server.port(), Speech::Ftp);
                let location =
                    format!("ftp://{}@127.0.0.1:{}/repo", server.get("user"), proxy.port());
                let password = server.get("password").to_owned();
                let environment = vec![("ICECORE_FTP_PASSWORD", password)];
                Far { kind, proxy, location, home, environment, _server: Some(server) }
            }
            Kind::Sftp => {
                let server = Server::start("sftp.py", &["openssh"]);
                let data = PathBuf::from(server.get("data"));
                plant(repository, &data.join("repo"), false, &data);
                let proxy = proxy(server.port(), Speech::Bytes);
                let known = fs::read_to_string(server.get("known_hosts")).unwrap();
                let known = known.replace(server.get("port"), &proxy.port().to_string());
                fs::create_dir(home.path().join(".ssh")).unwrap();
                fs::write(home.path().join(".ssh/known_hosts"), known).unwrap();
                let (user, data) = (server.get("user"), data.display());
                let location = format!("sftp://{user}@127.0.0.1:{}{data}/repo", proxy.port());
                let key = format!("{}/key", server.get("keys"));
                let environment = vec![("ICECORE_SFTP_KEY", key)];
                Far { kind, proxy, location, home, environment, _server: Some(server) }
            }
            Kind::S3 => {
                let prefix = fill_bucket(repository);
                let proxy = proxy(SEAWEEDFS.port(), Speech::Bytes);
                let (access, secret) = SEAWEEDFS.keys();
                let environment = vec![
                    ("AWS_ACCESS_KEY_ID", access),
                    ("AWS_SECRET_ACCESS_KEY", secret),
                    ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", proxy.port())),
                ];
                let location = format!("s3://{BUCKET}/{prefix}");
                Far { kind, proxy, location, home, environment, _server: None }
            }
        }
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.proxy.take();
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command.env_clear().env("HOME", self.home.path()).args(["-r", &self.location]).args(words);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null());
        let start = Instant::now();
        let output = command.output().unwrap();
        let chain = start.elapsed().as_secs_f64() / round_trip().as_secs_f64();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?} {words:?}: {errors}", self.kind);
        // Those who hang up are heard a little later.
        thread::sleep(round_trip());
        let counts = self.proxy.take();
        let ran = Ran { counts, out: String::from_utf8_lossy(&output.stdout).into_owned() };
        eprintln!("{:?} {:<40} {:5.1} round trips, {counts:?}", self.kind, words.join(" "), chain);
        ran
    }

    /// Backs up what has not changed.
    fn unchanged(&self, history: &History) -> Ran {
        let source = history.source.path().to_str().unwrap();
        let ran = self.run(&["--json", "backup", source, "--dataset", "data"]);
        assert!(ran.out.contains("\"unchanged\""), "{}", ran.out);
        ran
    }
}

/// Puts a repository into the bucket of the tests; returns the prefix.
fn fill_bucket(repository: &Path) -> String {
    let prefix = format!("far-{}", repository.file_name().unwrap().to_str().unwrap());
    let prefix = prefix.replace('.', "");
    let files = files_below(repository);
    let files: Vec<&PathBuf> = files.iter().filter(|path| path.as_os_str() != "reserve").collect();
    let left = Mutex::new(files.into_iter());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let client = SEAWEEDFS.client(BUCKET);
                let next = || left.lock().unwrap().next();
                while let Some(path) = next() {
                    let bytes = fs::read(repository.join(path)).unwrap();
                    let key = format!("{prefix}/{}", path.display());
                    client.put(&key, &bytes, &Beside::default()).unwrap();
                }
            });
        }
    });
    // What `init` leaves in a bucket, so that nobody has to try what the store can do.
    let mark = format!("{prefix}/tmp/class");
    SEAWEEDFS.client(BUCKET).put(&mark, b"atomic\n", &Beside::default()).unwrap();
    prefix
}

/// How many requests a run without changes may take.
struct Bounds {
    /// With what was kept of the run before.
    warm: u64,
    /// By how much a long history may cost more then: a folder of a thousand numbers is listed in
    /// some answers.
    growth: u64,
    /// With nothing kept, for all but the index.
    cold: u64,
    /// With nothing kept, for each object of the index; there is one for each backup since the last
    /// prune.
    index_object: u64,
}

/// A run without changes costs the same however many backups there are.
fn costs_the_same(kind: Kind, bounds: &Bounds) {
    let measured = [&*SHORT_HISTORY, &*LONG_HISTORY].map(|history| {
        let far = Far::new(kind, history);
        let cold = far.unchanged(history);
        let warm = far.unchanged(history);
        let objects = files_below(&history.repository.path().join("index")).len() as u64;
        let cold_max = bounds.cold + bounds.index_object * objects;
        assert!(cold.counts.requests <= cold_max, "{cold:?}, {objects} objects");
        assert!(warm.counts.requests <= bounds.warm, "{warm:?}");
        warm
    });
    let [short, long] = &measured;
    assert!(long.counts.requests <= short.counts.requests + bounds.growth, "{measured:?}");
}

#[test]
fn an_unchanged_run_over_ftp_does_not_grow_with_the_history() {
    let bounds = Bounds { warm: 34, growth: 0, cold: 200, index_object: 4 };
    costs_the_same(Kind::Ftp, &bounds);
}

/// When the windows of a channel move depends on who is quicker, so there is some room.
#[test]
fn an_unchanged_run_over_sftp_does_not_grow_with_the_history() {
    let bounds = Bounds { warm: 40, growth: 12, cold: 200, index_object: 3 };
    costs_the_same(Kind::Sftp, &bounds);
}

#[test]
fn an_unchanged_run_over_s3_does_not_grow_with_the_history() {
    let bounds = Bounds { warm: 8, growth: 0, cold: 45, index_object: 1 };
    costs_the_same(Kind::S3, &bounds);
}

/// A restore reads each pack once, and what is small costs little.
fn reads_in_large_pieces(kind: Kind, restore_max: u64, small_max: u64) {
    let far = Far::new(kind, &LARGE);
    let packs = files_below(&LARGE.repository.path().join("packs")).len() as u64;
    let target = far.home.path().join("restored");

    let restored = far.run(&["restore", "data", target.to_str().unwrap()]);
    let content = fs::read(LARGE.source.path().join("small-7")).unwrap();
    let cat = far.run(&["cat", "data:small-7"]);
    let list = far.run(&["list"]);

    assert!(fs::read(target.join("small-7")).unwrap() == content);
    assert!(list.out.contains("data"), "{}", list.out);
    assert_eq!(packs, 3);
    assert!(restored.counts.requests <= restore_max, "{restored:?}");
    // Nothing comes that is not wanted.
    let bytes: u64 = 24_000_000;
    assert!(restored.counts.down < bytes + bytes / 50, "{restored:?}");
    for ran in [cat, list] {
        assert!(ran.counts.requests <= small_max, "{ran:?}");
    }
}

#[test]
fn reads_over_ftp_are_large_and_few() {
    reads_in_large_pieces(Kind::Ftp, 95, 52);
}

#[test]
fn reads_over_sftp_are_large_and_few() {
    reads_in_large_pieces(Kind::Sftp, 130, 45);
}

#[test]
fn reads_over_s3_are_large_and_few() {
    reads_in_large_pieces(Kind::S3, 23, 10);
}

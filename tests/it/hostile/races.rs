//! Somebody who may write in the target, or in the source, swaps folders for links while the
//! program works there: nothing outside is written, and nothing outside is backed up.
//!
//! `ICECORE_RACE_SECONDS=N` goes on for so long.

use crate::support::restored::overwriting;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::engine::backup::BackupOptions;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// What a restore writes that goes to the root of the system in the place of the folder `d5`.
const STRAYS: [&str; 6] = ["f0", "f1", "f2", "f3", "s", "hollow"];
const FOLDERS: u64 = 10;
pub(super) const FILES: u64 = 4;
/// Stands in what is outside, and must never be in a backup.
pub(super) const MARKER: &[u8] = b"what lies outside is nobody's business here";

fn seconds() -> Duration {
    let said = std::env::var("ICECORE_RACE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(said.unwrap_or(2.5))
}

/// What is known of a thing outside: its time of the last change of anything tells of any.
pub(super) type Outside = BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)>;

fn look(folder: &Path, found: &mut Outside) {
    let seen = folder.symlink_metadata().unwrap();
    let content = if seen.is_file() { std::fs::read(folder).unwrap() } else { Vec::new() };
    // The attack itself gives this one other names, which changes that time.
    let is_shared = folder.ends_with("shared");
    let changed = if is_shared { [0, 0] } else { [seen.ctime(), seen.ctime_nsec()] };
    let mut known =
        vec![i64::from(seen.mode()), i64::from(seen.uid()), seen.mtime(), seen.mtime_nsec()];
    known.extend(changed);
    found.insert(folder.to_owned(), (known, content));
    if seen.is_dir() {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.for_each(|entry| look(&entry.unwrap().path(), found));
    }
}

/// What a restore has left in the root of the system, which is nobody's to clear away unseen.
fn strays() -> Vec<&'static str> {
    let is_there = |name: &&str| Path::new("/").join(name).symlink_metadata().is_ok();
    STRAYS.into_iter().filter(is_there).collect()
}

/// Mode, owner and time of the root of the system.
fn root() -> (u32, u32, i64) {
    let seen = Path::new("/").symlink_metadata().unwrap();
    (seen.mode(), seen.uid(), seen.mtime())
}

/// A place with a root to work in, what is outside of it, and what an attacker keeps aside.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    is_over: AtomicBool,
    pub(super) swaps: AtomicU64,
}

/// What is swapped: a folder or a file, and what for.
const SWAPS: [(&str, &str, &str); 6] = [
    ("", "d0", "to the outside"),
    ("d1", "s", "to the outside"),
    ("d2/s", "f0", "to a file outside"),
    ("d3", "s", "up and out"),
    ("d4", "f1", "second name"),
    ("", "d5", "to the root"),
];

impl Stage {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["root", "outside/s", "aside"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for below in ["outside", "outside/s"] {
            for n in 0..FILES {
                std::fs::write(at(&format!("{below}/f{n}")), MARKER).unwrap();
            }
            std::fs::write(at(&format!("{below}/only-outside")), MARKER).unwrap();
        }
        std::fs::write(at("outside/shared"), MARKER).unwrap();
        Stage { folder, is_over: AtomicBool::new(false), swaps: AtomicU64::new(0) }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn outside(&self) -> Outside {
        let mut found = Outside::new();
        look(&self.at("outside"), &mut found);
        found
    }

    /// Makes what is put in the place of something, unless it lies there already.
    fn prepare(&self, number: usize, what: &str) -> PathBuf {
        let path = self.at(&format!("aside/{number}"));
        let outside = self.at("outside");
        if path.symlink_metadata().is_err() {
            let made = match what {
                "to the outside" => symlink(&outside, &path),
                "to a file outside" => symlink(outside.join("f0"), &path),
                "up and out" => symlink("../../outside", &path),
                "to the root" => symlink("/", &path),
                _ => std::fs::hard_link(outside.join("shared"), &path),
            };
            made.unwrap();
        }
        path
    }

    /// Opens a folder of the root without following a link: the attack must not do by mistake
    /// what it wants to see done.
    fn folder_in_root(&self, below: &str) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.at("root"), flags, Mode::empty()).ok()?;
        below.split('/').filter(|name| !name.is_empty()).try_fold(root, |folder, name| {
            rustix::fs::openat(&folder, name, flags, Mode::empty()).ok()
        })
    }

    /// Swaps and swaps back, until it is over.
    fn attack(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            for (number, (parent, name, what)) in SWAPS.iter().enumerate() {
                let evil = self.prepare(number, what);
                let Some(folder) = self.folder_in_root(parent) else { continue };
                let swap = || {
                    let cwd = rustix::fs::CWD;
                    let flags = RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&folder, *name, cwd, &evil, flags).is_ok()
                };
                if swap() {
                    self.swaps.fetch_add(1, Ordering::Relaxed);
                    // Short and long, as it must be there when somebody looks the other way.
                    let pause = self.swaps.load(Ordering::Relaxed) % 7;
                    std::thread::sleep(Duration::from_micros(20 * pause));
                    swap();
                    std::thread::sleep(Duration::from_micros(10 * pause));
                }
            }
        }
    }

    /// Runs something again and again beside the attack; it is told how often it ran.
    fn beside_attack(&self, mut work: impl FnMut(u64)) -> u64 {
        let begin = Instant::now();
        self.beside_attack_while(|round| {
            work(round);
            begin.elapsed() < seconds() || round < 7
        })
    }

    /// Runs something beside the attack until it says that it has seen enough.
    pub(super) fn beside_attack_while(&self, mut work: impl FnMut(u64) -> bool) -> u64 {
        let mut rounds = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| self.attack());
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while work(rounds) {
                    rounds += 1;
                }
                rounds += 1;
            }));
            self.is_over.store(true, Ordering::Relaxed);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        });
        rounds
    }
}

/// Two versions of a tree in which everything that is swapped is a name.
fn backed_up() -> World {
    let world = World::memory();
    for version in 0..2 {
        let source = MemorySource::new("race");
        for folder in 0..FOLDERS {
            for file in 0..FILES {
                let content = noise(3000, version * 1000 + folder * 10 + file);
                source.put_file(format!("d{folder}/f{file}"), &content);
                source.put_file(format!("d{folder}/s/f{file}"), &content);
            }
        }
        let source = source.symlink("d0/link", "f0").fifo("d1/s/pipe").directory("d5/hollow");
        let source = source.hard_link("d6/twin", "d6/f0").xattr("d0/f0", "user.colour", "blue");
        let options = BackupOptions { read_all: true, ..BackupOptions::default() };
        assert_eq!(world.backup_with(&source, &options).unwrap().errors, []);
    }
    world
}

#[test]
fn a_restore_beside_somebody_who_swaps_folders_for_links_stays_inside() {
    let (world, stage) = (backed_up(), Stage::new());
    let before = stage.outside();
    assert!(strays().is_empty(), "/ has names by which this test sees that it is written to");
    let root_before = root();
    let rules = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::IfChanged];
    let (mut with_errors, mut errors, mut ended) = (0, 0, 0);
    let rounds = stage.beside_attack(|round| {
        if round % 5 == 4 {
            // From the beginning, so that folders are made and not only found.
            let gone = stage.at(&format!("gone-{round}"));
            std::fs::rename(stage.at("root"), gone).unwrap();
            std::fs::create_dir(stage.at("root")).unwrap();
        }
        let rule = rules[(round % 4) as usize];
        let options = RestoreOptions { delete: round % 3 == 0, verify: true, ..overwriting(rule) };
        let target = LocalTarget::new(&stage.at("root"));
        match restore::run(&world.snapshot(round % 2), &target, &options, &world.context()) {
            Ok(report) => {
                with_errors += u64::from(!report.errors.is_empty());
                errors += report.errors.len();
                for failure in report.errors {
                    assert!(failure.message.len() > 10, "in words: {failure:?}");
                }
            }
            Err(error) => {
                ended += 1;
                assert_ne!(error.kind(), ErrorKind::Bug, "{error:?}");
            }
        }
        let now = stage.outside();
        let wrong: Vec<_> =
            now.iter().filter(|(path, row)| before.get(*path) != Some(row)).collect();
        assert!(
            wrong.is_empty() && now.len() == before.len(),
            "round {round}, {rule:?}: {wrong:?}"
        );
        let strays = strays();
        assert!(strays.is_empty(), "round {round}, {rule:?}: in / now: {strays:?}");
        // Others may make something there meanwhile; the times in the backup are long ago.
        let (mode, owner, changed) = root();
        assert_eq!((mode, owner), (root_before.0, root_before.1), "round {round}, {rule:?}");
        assert!(changed >= root_before.2, "round {round}, {rule:?}: the time of / is {changed}");
    });
    let swaps = stage.swaps.load(Ordering::Relaxed);
    eprintln!(
        "{rounds} restores beside {swaps} swaps: {with_errors} of them with errors ({errors}), \
         {ended} ended"
    );
    assert!(swaps > 100, "there was an attack");
    // Once it is over the next restore puts all of it right.
    let options = RestoreOptions { delete: true, verify: true, ..overwriting(Overwrite::Always) };
    let target = LocalTarget::new(&stage.at("root"));
    let report = restore::run(&world.snapshot(1), &target, &options, &world.context()).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(stage.outside().len(), before.len());
}

#[test]
fn a_backup_beside_somebody_who_swaps_folders_for_links_stays_inside() {
    let (world, stage) = (World::memory(), Stage::new());
    for folder in 0..FOLDERS {
        for below in ["", "s/"] {
            let at = stage.at(&format!("root/d{folder}/{below}"));
            std::fs::create_dir_all(&at).unwrap();
            for file in 0..FILES {
                std::fs::write(at.join(format!("f{file}")), noise(500, folder * 10 + file))
                    .unwrap();
            }
        }
    }
    let (mut made, mut notes) = (0, 0);
    let rounds = stage.beside_attack(|round| {
        std::fs::write(stage.at("root/round"), round.to_string()).unwrap();
        let source = LocalSource::open(&stage.at("root"), LocalOptions::default()).unwrap();
        let options = BackupOptions { read_all: true, ..BackupOptions::default() };
        let report = match world.backup_with(&source, &options) {
            Ok(report) => report,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Bug, "{error:?}");
                return;
            }
        };
        notes += report.errors.len();
        made += 1;
        let BackupId(number) = report.backup;
        let target = MemoryTarget::new();
        let options = RestoreOptions::default();
        restore::run(&world.snapshot(number), &target, &options, &world.context()).unwrap();
        for (path, _) in target.entries() {
            let name = path.to_string();
            assert!(!name.contains("only-outside"), "{name} was walked into");
            // A second name of a file outside is a file of the source like any other.
            if name != "d4/f1" {
                let content = target.content(&path).unwrap_or_default();
                let is_marked = content.windows(MARKER.len()).any(|it| it == MARKER);
                assert!(!is_marked, "{name} was read through a link");
            }
        }
    });
    let swaps = stage.swaps.load(Ordering::Relaxed);
    eprintln!("{made} backups of {rounds} beside {swaps} swaps, {notes} entries reported");
    assert!(swaps > 100 && made > 3, "there was an attack, and backups");
}

/// A file that is brought up to date in place must be nobody else's: a second name of a file
/// outside that came after the look is not written.
#[test]
fn a_file_that_has_another_name_meanwhile_is_not_written_in_place() {
    use icecore::base::path::EntryPath;
    use icecore::target::Target;
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&outside, MARKER).unwrap();
    std::fs::hard_link(&outside, root.join("f")).unwrap();
    let target = LocalTarget::new(&root);
    target.prepare().unwrap();
    let mut writer = target.writer().unwrap();
    let path = EntryPath::new(b"f").unwrap();
    writer.open_file(&path).unwrap();
    let mut read = [0; 4];
    assert_eq!(writer.read_at(0, &mut read).unwrap(), 4, "it may be looked at");
    assert_eq!(writer.write_at(0, b"evil").expect_err("refused").kind(), ErrorKind::AlreadyExists);
    assert_eq!(writer.set_length(1).expect_err("refused").kind(), ErrorKind::AlreadyExists);
    assert_eq!(writer.punch_hole(0, 9).expect_err("refused").kind(), ErrorKind::AlreadyExists);
    let metadata = icecore::base::metadata::Metadata::default();
    let set = writer.finish_file(&metadata, Default::default());
    assert_eq!(set.expect_err("refused").kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&outside).unwrap(), MARKER);
}

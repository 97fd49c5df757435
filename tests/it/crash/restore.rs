//! Restores that die at every step of writing, or are refused it by the disk, and are done again
//! over what they left.

use crate::crash::depth::Depth;
use crate::crash::mortal::Fate;
use crate::crash::mortal::Mortal;
use crate::support::folder::Folder;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::text;
use crate::support::restored::try_restore;
use crate::support::tree::Fingerprint;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::target::Target;
use icecore::target::local::LocalTarget;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A tree that is written by hand, so that what a restore must give is known without one.
struct Hand {
    folder: Folder,
    seconds: i64,
}

impl Hand {
    fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Gives what is at a path a time of its own, whenever it was written.
    fn stamp(&mut self, below: &str) {
        self.seconds += 1;
        let time = Timespec { tv_sec: 1_000_000_000 + self.seconds, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.at(below), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn file(&mut self, below: &str, bytes: &[u8]) {
        let path = self.at(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As another inode, so that no change can hide.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        self.stamp(below);
    }

    fn symlink(&mut self, below: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.at(below)).unwrap();
        self.stamp(below);
    }

    fn set_mode(&self, below: &str, mode: u32) {
        std::fs::set_permissions(self.at(below), Permissions::from_mode(mode)).unwrap();
    }

    fn remove(&self, below: &str) {
        let path = self.at(below);
        match path.symlink_metadata().unwrap().is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }

    fn back_up(&self, world: &World) -> Fingerprint {
        let source = LocalSource::open(self.folder.path(), LocalOptions::default()).unwrap();
        assert_eq!(world.backup(&source).unwrap().errors, []);
        fingerprint(self.folder.path())
    }

    fn first(&mut self) {
        self.file("a/one", b"first name");
        self.file("a/two", &noise(3000, 1));
        self.file("closed/f", &noise(900, 2));
        self.file("d/deep/er", &text(90_000));
        self.file("long", &text(300_000));
        self.file("turns/into/a/file", b"below");
        self.file("turns into a folder", b"content");
        self.file("z", b"");
        self.file("was empty", b"");
        self.file("rights", b"for one alone");
        self.set_mode("rights", 0o600);
        std::fs::create_dir(self.at("hollow")).unwrap();
        std::fs::create_dir(self.at("was hollow")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, self.at("pipe"), fifo, mode, 0).unwrap();
        std::fs::hard_link(self.at("a/one"), self.at("a/again")).unwrap();
        let holes = std::fs::File::create(self.at("holes")).unwrap();
        holes.set_len(1 << 20).unwrap();
        holes.write_all_at(&[7; 4096], 8192).unwrap();
        holes.write_all_at(&[9; 5000], 1 << 19).unwrap();
        self.stamp("holes");
        self.symlink("link", "a/one");
        self.symlink("leads", "elsewhere");
        self.set_mode("closed", 0o500);
    }

    /// What is of which kind changes.
    fn second(&mut self) {
        let mut long = text(300_000);
        long[150_000..150_010].copy_from_slice(b"other text");
        self.file("long", &long);
        self.file("a/two", &noise(2000, 3));
        self.remove("turns");
        self.file("turns", b"a file now");
        self.remove("turns into a folder");
        self.file("turns into a folder/f", b"below");
        self.remove("link");
        self.remove("leads");
        self.symlink("leads", "z");
        self.file("made/new", &noise(5000, 4));
        self.file("made/empty", b"");
        self.file("was empty", b"not any more");
        std::fs::create_dir(self.at("made/hollow")).unwrap();
        self.remove("was hollow");
        self.file("was hollow", b"");
        self.set_mode("rights", 0o4711);
    }
}

/// Two backups, and what the second must give.
fn two_versions() -> (World, Fingerprint) {
    let mut world = World::memory();
    world.threads = 1;
    let mut hand = Hand { folder: Folder::in_memory(), seconds: 0 };
    hand.first();
    hand.back_up(&world);
    hand.second();
    let wanted = hand.back_up(&world);
    (world, wanted)
}

/// Something to restore over, and how.
struct Case {
    title: &'static str,
    /// The backup that is in the target before.
    over: Option<u64>,
    first: RestoreOptions,
}

fn again(overwrite: Overwrite) -> RestoreOptions {
    RestoreOptions { delete: true, ..overwriting(overwrite) }
}

fn restored(world: &World, number: u64, target: &dyn Target, options: &RestoreOptions) {
    let report = try_restore(world, number, target, options).unwrap();
    assert_eq!(report.errors, []);
}

/// Restores the second backup until it dies, and then again; returns how many steps it took.
fn die_at(world: &World, case: &Case, at: usize, wanted: &Fingerprint) -> usize {
    let folder = Folder::in_memory();
    let place = case.prepare(world, &folder);
    let mortal = Mortal::new(&place, at, Fate::Dies);
    let died = try_restore(world, 1, &mortal, &case.first);
    let what = format!("{}, killed at step {at}", case.title);
    if mortal.steps() > at {
        let error = died.expect_err("it was killed");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{what}: {error:?}");
    }
    assert_done_again(world, &place, wanted, &what);
    mortal.steps()
}

/// Restores the second backup once more, with nothing in its way.
fn assert_done_again(world: &World, place: &Path, wanted: &Fingerprint, what: &str) {
    restored(world, 1, &LocalTarget::new(place), &again(Overwrite::IfChanged));
    let wrong = difference(wanted, &fingerprint(place));
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

/// Restores the second backup while the disk refuses a step. What it refused is said: a full disk
/// ends the restore, and another failure costs what it befell. What is there then is what it was,
/// what it shall be, or named; and the next restore puts all of it right.
fn refuse_at(trial: &Trial<'_>, case: &Case, at: usize, fate: Fate) {
    let folder = Folder::in_memory();
    let place = case.prepare(trial.world, &folder);
    let before = case.over.map(|_| fingerprint(&place)).unwrap_or_default();
    let mortal = Mortal::new(&place, at, fate);
    let done = try_restore(trial.world, 1, &mortal, &case.first);
    let what = format!("{}, step {at} {fate:?}", case.title);
    assert!(mortal.steps() > at, "{what}: it came to that step");
    let errno = match fate {
        Fate::Refused { errno, .. } => errno,
        Fate::Blind => Errno::IO,
        Fate::Dies => panic!("it is not to die"),
    };
    let named: BTreeSet<Vec<u8>> = match done {
        Err(error) => {
            let kind = if errno == Errno::IO { ErrorKind::Io } else { ErrorKind::Full };
            assert_eq!((error.kind(), error.origin()), (kind, Origin::Target), "{what}: {error:?}");
            let text = error.full_message();
            let words = std::io::Error::from(errno).to_string();
            assert!(text.contains(&words), "{what}: {text}");
            BTreeSet::new()
        }
        Ok(report) => {
            assert_eq!(errno, Errno::IO, "{what}: a full disk ends it: {report:?}");
            // What can be done in another way is, and nothing has to be said.
            let wrong = difference(trial.wanted, &fingerprint(&place));
            let is_told = !report.errors.is_empty();
            assert!(is_told || wrong.is_empty(), "{what}: nothing was said: {wrong:#?}");
            let paths = report.errors.iter().map(|it| it.path.as_ref().expect("of an entry"));
            let named: BTreeSet<Vec<u8>> = paths.map(|path| path.as_bytes().to_vec()).collect();
            assert_rest_is_whole(trial.wanted, &fingerprint(&place), &named, &what);
            named
        }
    };
    if errno != Errno::IO {
        assert_eq!(mortal.later(), 0, "{what}: it went on writing");
    }
    for (path, fact) in fingerprint(&place) {
        let was = before.get(&path).map(|fact| fact.content);
        let shall = trial.wanted.get(&path).map(|fact| fact.content);
        let is_known = [was, shall].contains(&Some(fact.content)) || named.contains(&path);
        // A file that is brought up to date in place is half old and half new meanwhile.
        let is_in_place = was.is_some() && shall.is_some();
        let name = String::from_utf8_lossy(&path).into_owned();
        assert!(is_known || is_in_place, "{what}: {name} is there, and is nothing");
    }
    assert_done_again(trial.world, &place, trial.wanted, &what);
}

/// One entry that failed stops no other: what is not named, or below what is, is as it shall be.
fn assert_rest_is_whole(
    wanted: &Fingerprint,
    found: &Fingerprint,
    named: &BTreeSet<Vec<u8>>,
    what: &str,
) {
    let is_excused = |path: &[u8]| {
        let below = |folder: &Vec<u8>| {
            let rest = path.strip_prefix(folder.as_slice());
            rest.is_some_and(|rest| folder.is_empty() || rest.first() == Some(&b'/'))
        };
        named.contains(path) || named.iter().any(below)
    };
    for (path, fact) in wanted.iter().filter(|(path, _)| !is_excused(path)) {
        let name = String::from_utf8_lossy(path).into_owned();
        let there = found.get(path);
        let is_right = there.is_some_and(|it| {
            (it.kind, it.content, &it.link_target) == (fact.kind, fact.content, &fact.link_target)
        });
        assert!(is_right, "{what}: {name} is {there:?}, and nothing says so: {named:?}");
    }
}

/// What each restore of a row of them is compared with.
struct Trial<'a> {
    world: &'a World,
    wanted: &'a Fingerprint,
}

impl Case {
    /// Puts what is to be restored over into a folder; returns where.
    fn prepare(&self, world: &World, folder: &Folder) -> PathBuf {
        let place = folder.path().join("target");
        if let Some(before) = self.over {
            restored(world, before, &LocalTarget::new(&place), &options());
        }
        place
    }
}

fn cases() -> [Case; 3] {
    [
        Case { title: "into nothing", over: None, first: options() },
        Case { title: "over another", over: Some(0), first: again(Overwrite::IfChanged) },
        Case { title: "all over another", over: Some(0), first: again(Overwrite::Always) },
    ]
}

/// Kills restores at each of their steps; returns how many there were.
pub(super) fn die_at_each_step() -> usize {
    let (world, wanted) = two_versions();
    assert!(wanted.contains_key(&b"made/hollow"[..]));
    let mut count = 0;
    for case in &cases() {
        let steps = die_at(&world, case, usize::MAX, &wanted);
        eprintln!("{}: {steps} steps", case.title);
        for at in 0..steps {
            die_at(&world, case, at, &wanted);
        }
        count += steps;
    }
    count
}

/// Lets looks of restores at what is there fail, and syncs, one of five or each; returns how often.
pub(super) fn blind_each_look(depth: &Depth) -> usize {
    let (world, wanted) = two_versions();
    let trial = Trial { world: &world, wanted: &wanted };
    let mut count = 0;
    for case in cases() {
        for verify in [false, true] {
            let first = RestoreOptions { verify, ..case.first.clone() };
            let case = Case { first, ..case };
            let folder = Folder::in_memory();
            let mortal = Mortal::new(&case.prepare(&world, &folder), usize::MAX, Fate::Blind);
            try_restore(&world, 1, &mortal, &case.first).unwrap();
            let looks = mortal.steps();
            eprintln!("{}, verify {verify}: {looks} looks", case.title);
            for at in (0..looks).step_by(if depth.is_deep() { 1 } else { 5 }) {
                refuse_at(&trial, &case, at, Fate::Blind);
                count += 1;
            }
        }
    }
    count
}

/// Refuses each step of restores, in one of six ways or in all of them; returns how often.
pub(super) fn refuse_each_step(depth: &Depth) -> usize {
    let (world, wanted) = two_versions();
    let trial = Trial { world: &world, wanted: &wanted };
    let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::IO];
    let fates: Vec<Fate> = [false, true]
        .iter()
        .flat_map(|&lasts| errnos.map(|errno| Fate::Refused { errno, lasts }))
        .collect();
    let mut count = 0;
    for (nth, case) in cases().iter().enumerate() {
        let steps = die_at(&world, case, usize::MAX, &wanted);
        for at in 0..steps {
            let ways = if depth.is_deep() { fates.len() } else { 1 };
            for way in 0..ways {
                refuse_at(&trial, case, at, fates[(at + nth + way) % fates.len()]);
                count += 1;
            }
        }
    }
    count
}

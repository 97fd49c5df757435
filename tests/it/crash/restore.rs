//! Restores that die at every step of writing, and are done again over what they left.

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
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use icecore::base::metadata::Metadata;
use icecore::base::path::EntryPath;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::target::Expected;
use icecore::target::MetadataRules;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::TargetEntry;
use icecore::target::TargetWriter;
use icecore::target::local::LocalTarget;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use std::fs::Permissions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// A folder to which a restore writes that dies at one of its steps.
struct Mortal {
    inner: LocalTarget,
    dies_at: usize,
    steps: AtomicUsize,
}

/// What of a step is done before the end.
enum Left {
    All,
    Half,
    Nothing,
}

impl Mortal {
    fn new(path: &Path, dies_at: usize) -> Self {
        Mortal { inner: LocalTarget::new(path), dies_at, steps: AtomicUsize::new(0) }
    }

    fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    fn step(&self) -> Left {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        match step.cmp(&self.dies_at) {
            std::cmp::Ordering::Less => Left::All,
            std::cmp::Ordering::Equal => Left::Half,
            std::cmp::Ordering::Greater => Left::Nothing,
        }
    }

    fn look(&self) -> Result<()> {
        if self.steps() > self.dies_at { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> Error {
    Error::new(ErrorKind::Unreachable, "it was killed").at(Origin::Target)
}

impl Target for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> Result<bool> {
        self.inner.prepare()
    }

    fn writer(&self) -> Result<Box<dyn TargetWriter + Send + '_>> {
        Ok(Box::new(MortalWriter { target: self, inner: self.inner.writer()? }))
    }
}

struct MortalWriter<'a> {
    target: &'a Mortal,
    inner: Box<dyn TargetWriter + Send + 'a>,
}

impl MortalWriter<'_> {
    /// Does a step that is done whole or not at all; the last one is done, and nobody hears of it.
    fn step<T>(&mut self, work: impl FnOnce(&mut dyn TargetWriter) -> Result<T>) -> Result<T> {
        match self.target.step() {
            Left::All => work(&mut *self.inner),
            Left::Half => {
                let _ = work(&mut *self.inner);
                Err(dead())
            }
            Left::Nothing => Err(dead()),
        }
    }

    fn look<T>(&mut self, work: impl FnOnce(&mut dyn TargetWriter) -> Result<T>) -> Result<T> {
        self.target.look()?;
        work(&mut *self.inner)
    }
}

impl TargetWriter for MortalWriter<'_> {
    fn stat(&mut self, path: &EntryPath) -> Result<Option<TargetEntry>> {
        self.look(|it| it.stat(path))
    }

    fn list(&mut self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        self.look(|it| it.list(path))
    }

    fn create_directory(&mut self, path: &EntryPath) -> Result<()> {
        self.step(|it| it.create_directory(path))
    }

    fn create_file(&mut self, path: &EntryPath) -> Result<()> {
        self.step(|it| it.create_file(path))
    }

    fn expect(&mut self, expected: &Expected<'_>) {
        self.inner.expect(expected);
    }

    fn holds_expected(&mut self) -> Result<bool> {
        self.look(|it| it.holds_expected())
    }

    fn open_file(&mut self, path: &EntryPath) -> Result<()> {
        self.step(|it| it.open_file(path))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.target.step() {
            Left::All => self.inner.write_at(offset, bytes),
            Left::Half => self.inner.write_at(offset, &bytes[..bytes.len() / 2]).and(Err(dead())),
            Left::Nothing => Err(dead()),
        }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.look(|it| it.read_at(offset, buffer))
    }

    fn punch_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        self.step(|it| it.punch_hole(offset, length))
    }

    fn set_length(&mut self, length: u64) -> Result<()> {
        self.step(|it| it.set_length(length))
    }

    fn finish_file(&mut self, metadata: &Metadata, rules: MetadataRules) -> Result<Vec<String>> {
        self.step(|it| it.finish_file(metadata, rules))
    }

    fn close_file(&mut self) -> Result<()> {
        self.step(|it| it.close_file())
    }

    fn abandon(&mut self, path: &EntryPath) -> Result<()> {
        self.step(|it| it.abandon(path))
    }

    fn create_node(
        &mut self,
        path: &EntryPath,
        node: &Node,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.step(|it| it.create_node(path, node, metadata, rules))
    }

    fn link(&mut self, path: &EntryPath, existing: &EntryPath) -> Result<()> {
        self.step(|it| it.link(path, existing))
    }

    fn set_metadata(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        rules: MetadataRules,
    ) -> Result<Vec<String>> {
        self.step(|it| it.set_metadata(path, metadata, rules))
    }

    fn remove(&mut self, path: &EntryPath) -> Result<()> {
        self.step(|it| it.remove(path))
    }

    fn sync(&mut self) -> Result<()> {
        self.look(|it| it.sync())
    }
}

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
fn die_at(world: &World, case: &Case, dies_at: usize, wanted: &Fingerprint) -> usize {
    let folder = Folder::in_memory();
    let place = folder.path().join("target");
    if let Some(before) = case.over {
        restored(world, before, &LocalTarget::new(&place), &options());
    }
    let mortal = Mortal::new(&place, dies_at);
    let died = try_restore(world, 1, &mortal, &case.first);
    let what = format!("{}, killed at step {dies_at}", case.title);
    if mortal.steps() > dies_at {
        let error = died.expect_err("it was killed");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{what}: {error:?}");
    }
    restored(world, 1, &LocalTarget::new(&place), &again(Overwrite::IfChanged));
    let wrong = difference(wanted, &fingerprint(&place));
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    mortal.steps()
}

/// Kills restores at each of their steps; returns how many there were.
pub(super) fn die_at_each_step() -> usize {
    let (world, wanted) = two_versions();
    assert!(wanted.contains_key(&b"made/hollow"[..]));
    let cases = [
        Case { title: "into nothing", over: None, first: options() },
        Case { title: "over another", over: Some(0), first: again(Overwrite::IfChanged) },
        Case { title: "all over another", over: Some(0), first: again(Overwrite::Always) },
    ];
    let mut count = 0;
    for case in &cases {
        let steps = die_at(&world, case, usize::MAX, &wanted);
        eprintln!("{}: {steps} steps", case.title);
        for at in 0..steps {
            die_at(&world, case, at, &wanted);
        }
        count += steps;
    }
    count
}

//! Random histories of a real folder: every version restores to what the folder was.
//!
//! The oracle is a fingerprint of the folder at the time of each backup, read without the code
//! under test: bytes, kinds, modes, owners, times, attributes, links, holes. In between backups
//! are forgotten, prunes run, and repairs, after damage of which all can be derived. More cases:
//! `ICECORE_MODEL_CASES=500 cargo test --test it model`.

use crate::support::folder::Folder;
use crate::support::folder::is_root;
use crate::support::tree::Fingerprint;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::cancel::Cancel;
use icecore::base::progress::Silent;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::repository::layout;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::target::local::LocalTarget;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Names that steps choose from: few, so that they meet again; some awkward.
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c.txt",
    b"d/e",
    b"d/f",
    b"d/g/h",
    b"d.x",
    b"d!",
    b"\xff\xfe",
    b"i/j\n",
    b"i/k",
    b"l",
];

#[derive(Clone, Debug)]
enum Step {
    Write(u8, u32, u8),
    Patch(u8, u32, u8),
    Grow(u8, u32),
    Sparse(u8, u8),
    Remove(u8),
    Folder(u8),
    Symlink(u8, u8),
    Link(u8, u8),
    Rename(u8, u8),
    Mode(u8, u16),
    Time(u8, i32, u32),
    Attribute(u8, u8),
    Owner(u8, u8),
    Fifo(u8),
    Backup { full: bool, lose_caches: bool },
    Forget(u8),
    Prune { max_unused: u8 },
    Repair { after: Damage, which: u8 },
}

/// What a repair is to make good. All that was there can be derived from the rest.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Nothing,
    Caches,
    Index,
    UnneededPack,
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    prop_oneof![
        6 => (n(), 0_u32..40_000, n()).prop_map(|(p, size, seed)| Step::Write(p, size, seed)),
        1 => (n(), 100_000_u32..3_000_000, n()).prop_map(|(p, size, s)| Step::Write(p, size, s)),
        1 => n().prop_map(|p| Step::Write(p, 0, 0)),
        3 => (n(), any::<u32>(), n()).prop_map(|(p, at, seed)| Step::Patch(p, at, seed)),
        2 => (n(), 0_u32..200_000).prop_map(|(p, size)| Step::Grow(p, size)),
        1 => (n(), n()).prop_map(|(p, seed)| Step::Sparse(p, seed)),
        3 => n().prop_map(Step::Remove),
        2 => n().prop_map(Step::Folder),
        2 => (n(), n()).prop_map(|(p, to)| Step::Symlink(p, to)),
        2 => (n(), n()).prop_map(|(from, to)| Step::Link(from, to)),
        3 => (n(), n()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (n(), 0_u16..0o7777).prop_map(|(p, mode)| Step::Mode(p, mode)),
        2 => (n(), any::<i32>(), 0_u32..1_000_000_000).prop_map(|(p, s, ns)| Step::Time(p, s, ns)),
        1 => (n(), n()).prop_map(|(p, value)| Step::Attribute(p, value)),
        1 => (n(), n()).prop_map(|(p, owner)| Step::Owner(p, owner)),
        1 => n().prop_map(Step::Fifo),
        8 => (0_u8..8, 0_u8..8).prop_map(|(full, lose)| Step::Backup {
            full: full == 0,
            lose_caches: lose == 0,
        }),
        2 => n().prop_map(Step::Forget),
        2 => (0_u8..60).prop_map(|max_unused| Step::Prune { max_unused }),
        2 => (damage(), n()).prop_map(|(after, which)| Step::Repair { after, which }),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => Just(Damage::Nothing),
        1 => Just(Damage::Caches),
        3 => Just(Damage::Index),
        3 => Just(Damage::UnneededPack),
    ]
}

fn path(root: &Path, n: u8) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(NAMES[usize::from(n) % NAMES.len()]))
}

/// Removes whatever stands at a path, and makes the folders above it.
fn clear(path: &Path) {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for folder in above.iter().rev() {
        if fs::symlink_metadata(folder).is_ok_and(|metadata| !metadata.is_dir()) {
            fs::remove_file(folder).unwrap();
        }
        if !folder.exists() {
            fs::create_dir(folder).unwrap();
        }
        unlock(folder);
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Steps may take all rights away; without being root the next step needs them back.
fn unlock(folder: &Path) {
    if !is_root() && folder.starts_with(std::env::temp_dir()) {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn open_for_writing(path: &Path) -> fs::File {
    if !is_root() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::File::options().read(true).write(true).open(path).unwrap()
}

fn write_step(root: &Path, step: &Step) {
    match *step {
        Step::Write(p, size, seed) => {
            clear(&path(root, p));
            let mut bytes = noise(size as usize, u64::from(seed));
            if seed % 2 == 0 {
                bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 4);
            }
            fs::write(path(root, p), bytes).unwrap();
        }
        Step::Patch(p, at, seed) if is_file(&path(root, p)) => {
            let file = open_for_writing(&path(root, p));
            let length = file.metadata().unwrap().len();
            let at = u64::from(at) % length.max(1);
            let bytes = noise(50, seed.into());
            let fits = bytes.len().min((length - at.min(length)) as usize);
            file.write_all_at(&bytes[..fits], at).unwrap();
        }
        Step::Grow(p, size) if is_file(&path(root, p)) => {
            open_for_writing(&path(root, p)).set_len(size.into()).unwrap();
        }
        Step::Sparse(p, seed) => {
            clear(&path(root, p));
            let file = fs::File::create(path(root, p)).unwrap();
            file.set_len(3_000_000).unwrap();
            for n in 0..u64::from(seed % 4) {
                file.write_all_at(&noise(5_000, n + 1), (n * 777_777) & !4095).unwrap();
            }
        }
        _ => other_step(root, step),
    }
}

fn other_step(root: &Path, step: &Step) {
    match *step {
        Step::Remove(p) => clear(&path(root, p)),
        Step::Folder(p) => {
            clear(&path(root, p));
            fs::create_dir(path(root, p)).unwrap();
        }
        Step::Symlink(p, to) => {
            clear(&path(root, p));
            let target = std::ffi::OsStr::from_bytes(NAMES[usize::from(to) % NAMES.len()]);
            std::os::unix::fs::symlink(target, path(root, p)).unwrap();
        }
        Step::Link(from, to) if from % 12 != to % 12 && is_file(&path(root, from)) => {
            clear(&path(root, to));
            if is_file(&path(root, from)) {
                fs::hard_link(path(root, from), path(root, to)).unwrap();
            }
        }
        Step::Rename(from, to) => {
            let (from, to) = (path(root, from), path(root, to));
            let is_apart = !to.starts_with(&from) && !from.starts_with(&to);
            if is_apart && fs::symlink_metadata(&from).is_ok() {
                clear(&to);
                // Clearing the way may have taken the source with it.
                if fs::symlink_metadata(&from).is_ok() {
                    fs::rename(from, to).unwrap();
                }
            }
        }
        Step::Fifo(p) => {
            clear(&path(root, p));
            let mode = rustix::fs::Mode::from_raw_mode(0o640);
            rustix::fs::mknodat(CWD, path(root, p), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        _ => metadata_step(root, step),
    }
}

fn metadata_step(root: &Path, step: &Step) {
    let there = |p: u8| fs::symlink_metadata(path(root, p)).ok();
    match *step {
        Step::Mode(p, mode) => {
            let keep = if is_root() { 0 } else { 0o600 };
            if there(p).is_some_and(|metadata| !metadata.is_symlink()) {
                let is_dir = path(root, p).is_dir();
                let keep = if is_dir && !is_root() { 0o700 } else { keep };
                let mode = fs::Permissions::from_mode(u32::from(mode) | keep);
                fs::set_permissions(path(root, p), mode).unwrap();
            }
        }
        Step::Time(p, seconds, nanos) if there(p).is_some() => {
            let time = Timespec { tv_sec: seconds.into(), tv_nsec: nanos.into() };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, path(root, p), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        Step::Attribute(p, value) if there(p).is_some_and(|m| m.is_file() || m.is_dir()) => {
            let name = format!("user.n{}", value % 3);
            let flags = rustix::fs::XattrFlags::empty();
            let value = vec![value; usize::from(value)];
            rustix::fs::setxattr(path(root, p), name, &value, flags).unwrap();
        }
        Step::Owner(p, owner) if is_root() && there(p).is_some() => {
            let (uid, gid) = (Some(owner.into()), Some(u32::from(owner) + 7));
            std::os::unix::fs::lchown(path(root, p), uid, gid).unwrap();
        }
        _ => {}
    }
}

struct Run {
    world: World,
    source: Folder,
    /// What each visible backup must restore to.
    versions: BTreeMap<u64, Fingerprint>,
    next: u64,
    /// What repairs have done.
    cures: usize,
}

impl Run {
    fn context<'a>(&'a self, cancel: &'a Cancel) -> Context<'a> {
        Context { progress: &Silent, cancel, clock: &SystemClock, threads: 2 }
    }

    fn backup(&mut self, full: bool) {
        let now = fingerprint(self.source.path());
        let source = LocalSource::open(self.source.path(), LocalOptions::default()).unwrap();
        let options = BackupOptions { full, ..BackupOptions::default() };
        let cancel = Cancel::new();
        let context = self.context(&cancel);
        let name = self.world.name();
        let report =
            backup::run(&self.world.repository, &name, &source, &options, &context).unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        if report.kind == BackupKind::Unchanged {
            let (_, last) = self.versions.last_key_value().expect("unchanged against something");
            let overlooked = difference(last, &now);
            assert!(differ_in_folder_times(last, &now), "overlooked: {overlooked:?}");
        } else {
            assert_eq!(report.backup.0, self.next, "numbers count on and never come again");
            self.next += 1;
            self.versions.insert(report.backup.0, now);
        }
    }

    /// Forgets one of the visible backups, the newest too, unless it is the only one.
    fn forget(&mut self, which: u8) {
        if self.versions.len() < 2 {
            return;
        }
        let number = *self.versions.keys().nth(usize::from(which) % self.versions.len()).unwrap();
        self.versions.remove(&number);
        self.world.hide(number);
    }

    fn prune(&mut self, max_unused: f64) {
        let options = PruneOptions { max_unused, ..PruneOptions::default() };
        let cancel = Cancel::new();
        let report = prune::run(&self.world.repository, &options, &self.context(&cancel)).unwrap();
        assert!(report.waits_for.is_empty() && report.stuck.is_empty(), "{report:?}");
        let plan = prune::run(
            &self.world.repository,
            &PruneOptions { dry_run: true, ..options },
            &self.context(&cancel),
        );
        let plan = plan.unwrap().plan;
        assert!(plan.dead.is_empty() && plan.wasteful.is_empty(), "{report:?}, then {plan:?}");
    }

    /// Does the damage; says whether there was something to be damaged.
    fn hurt(&mut self, damage: Damage, which: u8) -> bool {
        let backend = &self.world.backend;
        let keys: Vec<ObjectKey> = match damage {
            Damage::Nothing => return false,
            Damage::Caches => {
                self.world.forget_caches();
                return false;
            }
            Damage::Index => {
                let keys = backend.objects().into_keys();
                keys.filter(|key| key.as_str().starts_with("index/")).collect()
            }
            Damage::UnneededPack => {
                let options =
                    PruneOptions { dry_run: true, force: true, ..PruneOptions::default() };
                let cancel = Cancel::new();
                let context = self.context(&cancel);
                let plan = prune::run(&self.world.repository, &options, &context).unwrap().plan;
                plan.dead.iter().map(|pack| layout::pack(pack).unwrap()).collect()
            }
        };
        let Some(key) = keys.get(usize::from(which) % keys.len().max(1)) else { return false };
        backend.remove_raw(key)
    }

    /// Without damage a repair finds nothing to do and leaves every byte; after it all that was
    /// there is there again, and nothing is said to be lost.
    fn repair(&mut self, damage: Damage, which: u8) {
        let is_hurt = self.hurt(damage, which);
        let before = self.world.backend.objects();
        let cancel = Cancel::new();
        let (context, repository) = (self.context(&cancel), &self.world.repository);
        // By force, as the one pack that is gone may be the only one there was.
        let options =
            RepairOptions { read_packs: which % 4 == 1, read_data: which % 4 == 2, force: is_hurt };
        let plan = repair::plan(repository, &options, &context).unwrap();
        assert_eq!(self.world.backend.objects(), before, "a plan changes nothing");
        let report = repair::execute(repository, plan, &context).unwrap();
        assert!(report.is_whole(), "{damage:?}: {report:?}");
        if !is_hurt {
            assert_eq!(report.actions, [], "a sound repository, {damage:?}");
            assert_eq!(self.world.backend.objects(), before);
        }
        let all = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
        let checked = check::run(repository, &all, &context).unwrap();
        assert!(checked.is_ok(), "{damage:?}: {:?}", checked.findings);
        let again = repair::plan(repository, &options, &context).unwrap();
        assert_eq!(again.actions, [], "after {damage:?} and {:?}", report.actions);
        let numbers: Vec<u64> = self.versions.keys().copied().collect();
        if let Some(&number) = numbers.get(usize::from(which) % numbers.len().max(1)) {
            let target = Folder::new();
            self.check_version(number, target.path(), &RestoreOptions::default());
        }
        self.cures += report.actions.len();
    }

    /// In place, zeros may stay allocated where a hole was: the content is the same.
    fn check_version(&self, number: u64, target: &Path, options: &RestoreOptions) {
        let cancel = Cancel::new();
        let snapshot = self.world.snapshot(number);
        let target_there = LocalTarget::new(target);
        let context = self.context(&cancel);
        let report = restore::run(&snapshot, &target_there, options, &context).unwrap();
        assert!(report.errors.is_empty(), "backup_{number}: {:?}", report.errors);
        let (mut expected, mut found) = (self.versions[&number].clone(), fingerprint(target));
        if options.overwrite.is_some() {
            expected.values_mut().chain(found.values_mut()).for_each(|fact| fact.extents.clear());
        }
        let changes = difference(&expected, &found);
        assert!(changes.is_empty(), "backup_{number} differs: {changes:#?}");
    }
}

/// The time of a folder may differ from that of the last version: it is stored when something
/// else is.
fn differ_in_folder_times(last: &Fingerprint, now: &Fingerprint) -> bool {
    last.iter().all(|(path, before)| {
        now.get(path).is_some_and(|after| {
            let mut same_time = after.clone();
            same_time.mtime = before.mtime;
            let is_folder = before.kind == rustix::fs::FileType::Directory;
            same_time == *before && (is_folder || after.mtime == before.mtime)
        })
    }) && last.len() == now.len()
}

/// Plays a history, restores all of its versions, and says how many cures its repairs have done.
fn run_history(kind: u8, steps: &[Step]) -> usize {
    let world = match kind % 3 {
        0 => World::memory(),
        1 => World::encrypted(),
        _ => World::class_b(),
    };
    let mut run =
        Run { world, source: Folder::new(), versions: BTreeMap::new(), next: 0, cures: 0 };
    for step in steps {
        match step {
            Step::Backup { full, lose_caches } => {
                if *lose_caches {
                    run.world.forget_caches();
                }
                run.backup(*full);
            }
            Step::Forget(which) => run.forget(*which),
            Step::Prune { max_unused } => run.prune(f64::from(*max_unused) / 100.0),
            Step::Repair { after, which } => run.repair(*after, *which),
            other => write_step(run.source.path(), other),
        }
    }
    run.backup(false);
    run.repair(Damage::Index, kind);
    run.prune(0.0);
    let numbers: Vec<u64> = run.versions.keys().copied().collect();
    for &number in &numbers {
        let target = Folder::new();
        run.check_version(number, target.path(), &RestoreOptions::default());
    }
    // All versions over each other in one place, backwards: type swaps and leftovers.
    let target = Folder::new();
    let options = RestoreOptions {
        overwrite: Some(Overwrite::IfChanged),
        delete: true,
        ..RestoreOptions::default()
    };
    for &number in numbers.iter().rev() {
        run.check_version(number, target.path(), &options);
    }
    run.cures
}

#[test]
fn every_version_of_a_random_history_comes_back() {
    let cases = std::env::var("ICECORE_MODEL_CASES").ok().and_then(|text| text.parse().ok());
    let cases = cases.unwrap_or(32);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let history = (any::<u8>(), proptest::collection::vec(step(), 30..45));
    let mut runner = TestRunner::new(config);
    let cures = Cell::new(0);
    let result = runner.run(&history, |(kind, steps)| {
        cures.set(cures.get() + run_history(kind, &steps));
        Ok(())
    });
    result.unwrap();
    eprintln!("{} cures", cures.get());
    assert!(cures.get() > 0 || cases < 8, "no repair had anything to do");
}

//! Disks that are full, that allow no more, or that fail: each call of each workload refused.
//!
//! Whatever the refusal, it is said as what it is, no half file stays, no backup shows whose run
//! failed, and once there is room again the same deed succeeds; then all is judged as the machine
//! shows it, and as after a power cut that leaves nothing but what is durable: a sync that was
//! refused, and called done, shows there alone.

use crate::crash::cuts::Cut;
use crate::crash::depth::Depth;
use crate::crash::disk::Change;
use crate::crash::disk::MemoryDisk;
use crate::crash::disk::REPOSITORY;
use crate::crash::disk::Tree;
use crate::crash::refusal::Account;
use crate::crash::refusal::Asked;
use crate::crash::refusal::Refusal;
use crate::crash::story::Deed;
use crate::crash::story::FIRST_PASSWORD;
use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::story::init;
use crate::crash::story::name;
use crate::crash::verdict::Wreck;
use crate::crash::verdict::bury_the_dead;
use crate::crash::workloads::Workload;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A workload that is about to be done.
struct Scene {
    workload: &'static Workload,
    base: Tree,
    version: usize,
    promises: Vec<Promise>,
}

/// How far a workload came.
struct Played {
    story: Story,
    done: Result<(), Error>,
    /// The deed that failed and those after it.
    left: &'static [Deed],
}

impl Scene {
    fn of(workload: &'static Workload) -> Self {
        let disk = MemoryDisk::new(Tree::new());
        let mut story = Story::new(Arc::new(disk.clone()), workload.is_encrypted);
        story.threads = 1;
        for deed in workload.before {
            deed(&mut story).unwrap();
            bury_the_dead(&story);
        }
        let promises = story.promises.iter().map(|(_, promise)| promise.clone()).collect();
        Scene { workload, base: disk.tree(), version: story.version, promises }
    }

    fn play(&self, disk: &MemoryDisk) -> Played {
        let mut story = Story::new(Arc::new(disk.clone()), self.workload.is_encrypted);
        story.threads = 1;
        story.version = self.version;
        story.promises = self.promises.iter().map(|promise| (0, promise.clone())).collect();
        story.clock.advance(1000);
        let mut left = self.workload.deeds;
        while let [deed, others @ ..] = left {
            if let Err(e) = deed(&mut story) {
                return Played { story, done: Err(e), left };
            }
            left = others;
        }
        Played { story, done: Ok(()), left }
    }

    /// Returns how much the workload asks a disk.
    fn account(&self) -> Account {
        let disk = MemoryDisk::new(self.base.clone());
        disk.refuse(None);
        self.play(&disk).done.unwrap();
        disk.refuse(None)
    }

    /// Judges what is left when a call is refused; says whether it was asked for.
    fn judge(&self, refusal: Refusal) -> Result<bool, String> {
        let disk = MemoryDisk::new(self.base.clone());
        disk.refuse(Some(refusal));
        let Played { mut story, done, left } = self.play(&disk);
        let account = disk.refuse(None);
        if let Err(e) = &done {
            judge_words(e, refusal)?;
        }
        judge_leftovers(&self.base, &disk, &account)?;
        // What is read or synced after the header was put may fail as well: then nobody knows.
        let is_unknown = matches!(account.refused, Some(Change::SyncFolder(_)));
        if refusal.of == Asked::Change && !is_unknown {
            self.judge_headers(&story)?;
        }
        // The process has ended.
        bury_the_dead(&story);
        for deed in left {
            let done = deed(&mut story);
            done.map_err(|e| format!("with room again it fails: {}", e.full_message()))?;
        }
        let tree = disk.tree();
        let cut = Cut::of(&tree);
        let woken = MemoryDisk::new(cut.wake(&cut.nothing_kept()));
        for (medium, what) in [(disk, "as it is shown"), (woken, "after a power cut")] {
            let wreck = Wreck {
                medium: Arc::new(medium),
                is_encrypted: self.workload.is_encrypted,
                version: story.version,
                promises: story.promises.iter().map(|(_, promise)| promise.clone()).collect(),
                cache: None,
                late: None,
                is_repaired: true,
            };
            wreck.judge().map_err(|why| format!("{why} ({what})"))?;
        }
        Ok(account.has_refused())
    }

    /// Of a run that failed there is no backup.
    fn judge_headers(&self, story: &Story) -> Result<(), String> {
        // A copy makes several backups, and those before the one that failed are there.
        if self.workload.name.starts_with("copy") {
            return Ok(());
        }
        let promised: BTreeSet<u64> = story
            .promises
            .iter()
            .filter_map(|(_, promise)| match promise {
                Promise::Backup { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        let shown = story.open().and_then(|repository| repository.dataset(&name())?.backups());
        let shown = shown.unwrap_or_default();
        let numbers = shown.iter().map(|backup| backup.header.number.0);
        match numbers.into_iter().find(|number| !promised.contains(number)) {
            Some(number) => Err(format!("backup_{number} is there, and its run failed")),
            None => Ok(()),
        }
    }
}

/// Opens an encrypted repository with each read refused; returns how often that failed.
pub(super) fn open_with_reads_refused() -> usize {
    let disk = MemoryDisk::new(Tree::new());
    let mut story = Story::new(Arc::new(disk.clone()), true);
    init(&mut story).unwrap();
    let mut failed = 0;
    for at in 0.. {
        let refusal = Refusal::of_read(at);
        disk.refuse(Some(refusal));
        let opened = story.open_with(FIRST_PASSWORD);
        if disk.refuse(None).reads <= at {
            opened.unwrap();
            break;
        }
        if let Err(e) = opened {
            judge_words(&e, refusal).unwrap();
            failed += 1;
        }
    }
    failed
}

/// A full disk is called full, and neither is taken for damage or for a fault of this program.
fn judge_words(e: &Error, refusal: Refusal) -> Result<(), String> {
    let is_right = match (refusal.of, refusal.errno) {
        (_, Errno::NOSPC | Errno::DQUOT) => e.kind() == ErrorKind::Full,
        (Asked::Change, _) => e.kind() == ErrorKind::Io,
        // A root that cannot be looked at is out of reach.
        (Asked::Read, _) => matches!(e.kind(), ErrorKind::Io | ErrorKind::Unreachable),
    };
    if !is_right || e.origin() != Origin::Repository {
        return Err(format!("{:?} of {:?}: {}", e.kind(), e.origin(), e.full_message()));
    }
    Ok(())
}

fn temporary_files(tree: &Tree) -> BTreeSet<PathBuf> {
    let (folder, mut files) = (Path::new(REPOSITORY).join("tmp"), BTreeSet::new());
    tree.visit(&mut |path, bytes| {
        if bytes.is_some() && path.starts_with(&folder) {
            files.insert(path.to_owned());
        }
    });
    files
}

/// Nothing stays of what was being written, unless its removal was refused.
fn judge_leftovers(base: &Tree, disk: &MemoryDisk, account: &Account) -> Result<(), String> {
    let (before, left) = (temporary_files(base), temporary_files(&disk.tree()));
    let is_excused = |path| matches!(&account.refused, Some(Change::Remove(it)) if it == path);
    match left.difference(&before).find(|path| !is_excused(*path)) {
        Some(path) => Err(format!("{} stays", path.display())),
        None => Ok(()),
    }
}

/// Refuses calls of all workloads, one at a time; returns how many writes and reads were refused.
/// An ordinary run refuses each call that it takes in one way, a deep one in all of them.
pub(super) fn refuse_one_by_one(workloads: &'static [Workload], depth: &Depth) -> (usize, usize) {
    let kinds = [
        (Errno::NOSPC, true),
        (Errno::DQUOT, false),
        (Errno::IO, false),
        (Errno::NOSPC, false),
        (Errno::DQUOT, true),
    ];
    let (mut refused, mut wrong) = ((0, 0), Vec::new());
    for (nth, workload) in workloads.iter().enumerate() {
        let scene = Scene::of(workload);
        let account = scene.account();
        let mut judge = |refusal| match scene.judge(refusal) {
            Ok(has_refused) => usize::from(has_refused),
            Err(what) => {
                wrong.push(format!("{}: {what}, with {refusal:?}", workload.name));
                1
            }
        };
        for (which, at) in depth.spread(account.changes, 10, nth).into_iter().enumerate() {
            let ways = if depth.is_deep() { kinds.len() } else { 1 };
            for way in 0..ways {
                let (errno, lasts) = kinds[(nth + which + way) % kinds.len()];
                refused.0 += judge(Refusal { lasts, ..Refusal::of_change(at, errno) });
            }
        }
        for at in depth.spread(account.reads, 2, nth) {
            refused.1 += judge(Refusal::of_read(at));
        }
    }
    assert!(wrong.is_empty(), "{} are not sound: {wrong:#?}", wrong.len());
    refused
}

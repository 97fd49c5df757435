//! Goes through the states that a workload may leave behind, and judges each once.

use crate::crash::cuts::Choice;
use crate::crash::cuts::Cut;
use crate::crash::cuts::hash_of;
use crate::crash::disk::Change;
use crate::crash::disk::MemoryDisk;
use crate::crash::disk::REPOSITORY;
use crate::crash::disk::Site;
use crate::crash::disk::Tree;
use crate::crash::story::CacheImage;
use crate::crash::story::Deed;
use crate::crash::story::Medium;
use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::story::read_cache;
use crate::crash::story::write_cache;
use crate::crash::verdict::Wreck;
use crate::crash::verdict::bury_the_dead;
use crate::crash::workloads::Workload;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::local::LocalBackend;
use icecore::base::error::Result;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

impl Medium for MemoryDisk {
    fn create(&self) -> Result<Arc<dyn Backend>> {
        let disk = Arc::new(self.clone());
        Ok(Arc::new(LocalBackend::create_on(disk, Path::new(REPOSITORY))?))
    }

    fn open(&self) -> Result<Arc<dyn Backend>> {
        let disk = Arc::new(self.clone());
        Ok(Arc::new(LocalBackend::open_on(disk, Path::new(REPOSITORY))?))
    }

    fn position(&self) -> usize {
        MemoryDisk::position(self)
    }

    fn kill_before(&self, folder: Option<&'static str>) {
        MemoryDisk::kill_before(self, folder);
    }

    fn replace(&self, key: &ObjectKey, bytes: &[u8]) {
        self.replace_bytes(&Path::new(REPOSITORY).join(key.as_str()), bytes);
    }
}

/// One state, and what was promised in it.
pub(super) struct Scene {
    /// Which it is: the workload, how many changes were made, and what of the rest was there.
    name: String,
    lost: Vec<String>,
    last: String,
    tree: Tree,
    is_encrypted: bool,
    version: usize,
    promises: Vec<Promise>,
    cache: Arc<CacheImage>,
}

/// What does not hold, and where.
#[derive(Debug)]
pub(super) struct Violation {
    scene: String,
    last: String,
    lost: Vec<String>,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  in state: {} (ICECORE_CRASH_ONLY tries it alone)", self.scene)?;
        writeln!(f, "  last change: {}", self.last)?;
        self.lost.iter().try_for_each(|lost| writeln!(f, "  lost: {lost}"))
    }
}

impl Scene {
    /// Judges the state without a cache, and with the one that the dead run left, there with a
    /// repair before all else.
    pub(super) fn judge(&self) -> std::result::Result<(), Violation> {
        for cache in [None, Some(Arc::clone(&self.cache))] {
            let with = if cache.is_some() { "with the cache" } else { "without a cache" };
            let wreck = Wreck {
                medium: Arc::new(MemoryDisk::new(self.tree.clone())),
                is_encrypted: self.is_encrypted,
                version: self.version,
                promises: self.promises.clone(),
                is_repaired: cache.is_some(),
                cache,
                late: None,
            };
            wreck.judge().map_err(|what| Violation {
                scene: self.name.clone(),
                last: self.last.clone(),
                lost: self.lost.clone(),
                what: format!("{what} ({with})"),
            })?;
        }
        Ok(())
    }
}

/// A workload as it went on a disk.
pub(super) struct Recording {
    name: String,
    seed: u64,
    is_encrypted: bool,
    deeds: Vec<Deed>,
    /// The disk before the first change.
    base: Tree,
    log: Vec<Change>,
    promises: Vec<(usize, Promise)>,
    /// Where each deed begins, and the version of the source there.
    begins: Vec<(usize, usize)>,
    /// The cache before each change, and at the end.
    caches: Vec<Arc<CacheImage>>,
}

/// How a workload is done.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Which syncs are left out.
    pub(super) skip: Option<Site>,
    pub(super) threads: usize,
    /// What is put around the backend.
    pub(super) wrap: fn(Arc<dyn Backend>) -> Arc<dyn Backend>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner { skip: None, threads: 2, wrap: |backend| backend }
    }
}

impl Recording {
    /// Does a workload on a new disk.
    pub(super) fn of(workload: &Workload, seed: u64, manner: Manner) -> Self {
        let disk = MemoryDisk::new(Tree::new());
        let mut story = Story::new(Arc::new(disk.clone()), workload.is_encrypted);
        (story.threads, story.wrap) = (manner.threads, manner.wrap);
        for deed in workload.before {
            deed(&mut story).unwrap();
            bury_the_dead(&story);
        }
        disk.skip(manner.skip);
        let name = workload.name.to_owned();
        Recording::go_on((name, seed), Tree::new(), &disk, story, workload.deeds)
    }

    /// Does the deeds on a disk that holds something already.
    fn go_on(
        (name, seed): (String, u64),
        base: Tree,
        disk: &MemoryDisk,
        mut story: Story,
        deeds: &[Deed],
    ) -> Self {
        let caches = Arc::new(Mutex::new(BTreeMap::new()));
        let (images, folder) = (Arc::clone(&caches), story.cache_folder().to_owned());
        disk.watch(move |position| {
            images.lock().unwrap().insert(position, Arc::new(read_cache(&folder)));
        });
        let mut begins = Vec::new();
        for deed in deeds {
            begins.push((disk.position(), story.version));
            deed(&mut story).unwrap_or_else(|e| panic!("{name}: {}", e.full_message()));
        }
        begins.push((disk.position(), story.version));
        let mut caches = std::mem::take(&mut *caches.lock().unwrap());
        caches.insert(disk.position(), Arc::new(read_cache(story.cache_folder())));
        Recording {
            name,
            seed,
            is_encrypted: story.is_encrypted,
            deeds: deeds.to_vec(),
            base,
            log: disk.log(),
            promises: std::mem::take(&mut story.promises),
            begins,
            caches: caches.into_values().collect(),
        }
    }

    fn start(&self) -> usize {
        self.begins[0].0
    }

    fn tree_at(&self, position: usize) -> Tree {
        let mut tree = self.base.clone();
        self.log[..position].iter().for_each(|change| tree.apply(change).unwrap());
        tree
    }

    fn promised_at(&self, position: usize) -> Vec<Promise> {
        let made = self.promises.iter().filter(|(at, _)| *at <= position);
        made.map(|(_, promise)| promise.clone()).collect()
    }

    fn cache_at(&self, position: usize) -> &Arc<CacheImage> {
        &self.caches[position - self.start()]
    }

    /// Hands over every state that a cut at one of these moments may leave.
    fn scenes_at(&self, moments: impl Iterator<Item = usize>, visit: &mut dyn FnMut(Scene)) {
        let (mut tree, mut applied) = (self.base.clone(), 0);
        for moment in moments {
            self.log[applied..moment].iter().for_each(|change| tree.apply(change).unwrap());
            applied = moment;
            let cut = Cut::of(&tree);
            for choice in cut.choices(self.seed ^ ((moment as u64) << 32)) {
                visit(self.scene(moment, &cut, &choice));
            }
        }
    }

    /// Hands over every state that a cut at any moment may leave.
    pub(super) fn all_scenes(&self, visit: &mut dyn FnMut(Scene)) {
        self.scenes_at(self.moments(), visit);
    }

    pub(super) fn scenes_after_deeds(&self, visit: &mut dyn FnMut(Scene)) {
        self.scenes_at(self.begins.iter().map(|(at, _)| *at), visit);
    }

    fn scene(&self, position: usize, cut: &Cut<'_>, choice: &Choice) -> Scene {
        let last = self.log.get(position.wrapping_sub(1));
        Scene {
            name: format!("{}, seed {}, @{position} {choice:?}", self.name, self.seed),
            lost: cut.lost(choice),
            last: last.map_or_else(String::new, described),
            tree: cut.wake(choice),
            is_encrypted: self.is_encrypted,
            version: self.begins.last().unwrap().1,
            promises: self.promised_at(position),
            cache: Arc::clone(self.cache_at(position)),
        }
    }

    /// Returns the moments at which a process may be killed.
    pub(super) fn moments(&self) -> std::ops::RangeInclusive<usize> {
        self.start()..=self.log.len()
    }

    /// Returns the moments right after something got a name, which is shown and not yet durable.
    pub(super) fn moments_of_names(&self) -> BTreeSet<usize> {
        let moments = self.moments().filter(|moment| {
            let last = moment.checked_sub(1).and_then(|last| self.log.get(last));
            matches!(last, Some(Change::Link(..) | Change::Rename(..) | Change::MakeFolder(_)))
        });
        moments.collect()
    }

    /// Kills the process at a moment and lets another one do the deed again and those after it,
    /// then make one more backup: on the same disk, with nothing synced in between.
    pub(super) fn killed_and_done_again(&self, moment: usize, manner: Manner) -> Recording {
        let base = self.tree_at(moment);
        let disk = MemoryDisk::new(base.clone());
        let mut story = Story::new(Arc::new(disk.clone()), self.is_encrypted);
        (story.threads, story.wrap) = (manner.threads, manner.wrap);
        write_cache(story.cache_folder(), self.cache_at(moment));
        story.promises = self.promised_at(moment).into_iter().map(|p| (0, p)).collect();
        story.clock.advance(10_000);
        bury_the_dead(&story);
        let base = disk.tree();
        disk.skip(manner.skip);
        let begun = self.begins.iter().rposition(|(at, _)| *at <= moment).unwrap();
        let begun = begun.min(self.deeds.len().saturating_sub(1));
        story.version = self.begins[begun].1;
        let once_more: Deed = |story| {
            story.version += 1;
            story.back_up(false).map(|_| ())
        };
        let deeds: Vec<Deed> = self.deeds[begun..].iter().copied().chain([once_more]).collect();
        let name = format!("{}, killed at {moment} and done again", self.name);
        Recording::go_on((name, self.seed), base, &disk, story, &deeds)
    }
}

fn described(change: &Change) -> String {
    match change {
        Change::Write(inode, bytes) => format!("write {} bytes to {inode}", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// States that were not met before.
#[derive(Default)]
pub(super) struct Stage {
    seen: HashSet<([u8; 32], usize)>,
    waiting: Vec<Scene>,
    only: Option<String>,
    /// Of so many states one is looked at; none means all.
    one_of: Option<u8>,
}

impl Stage {
    /// Looks at one state only, when one is named; else at all, or at one of so many.
    pub(super) fn new(only: Option<String>, one_of: Option<u8>) -> Self {
        Stage { only, one_of, ..Stage::default() }
    }

    /// Keeps a state for judging, unless it was met with the same promises.
    pub(super) fn add(&mut self, scene: Scene) {
        let is_wanted = self.only.as_ref().is_none_or(|only| *only == scene.name);
        if !is_wanted {
            return;
        }
        let hash = hash_of(&scene.tree);
        let is_left_out = self.one_of.is_some_and(|many| !hash[0].is_multiple_of(many));
        if !is_left_out && self.seen.insert((hash, scene.promises.len())) {
            self.waiting.push(scene);
        }
    }

    /// Returns how many different states there were.
    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    /// Judges all that wait, on two threads, and stops at the first that is found wanting.
    pub(super) fn judge(&mut self) -> std::result::Result<(), Violation> {
        let waiting = std::mem::take(&mut self.waiting);
        let next = AtomicUsize::new(0);
        let violation = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(scene) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(found) = scene.judge() {
                            violation.lock().unwrap().get_or_insert(found);
                            next.store(waiting.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        violation.into_inner().unwrap().map_or(Ok(()), Err)
    }
}

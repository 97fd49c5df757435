//! A repository with a clock and a cache of its own, and short words for what tests do with it.

use crate::support::odd::Odd;
use crate::support::tree::noise;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Collector;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::frame::ObjectKind;
use icecore::codec::key::Argon2Cost;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::backup::BackupReport;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::prune::PruneReport;
use icecore::format::dataset::DatasetName;
use icecore::format::dataset::HiddenRecord;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::history::Snapshot;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::transaction;
use icecore::source::Source;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

/// Cheap enough for tests, and never for anything else.
pub(crate) const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

pub(crate) struct World {
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) repository: Repository,
    pub(crate) clock: FixedClock,
    pub(crate) progress: Collector,
    pub(crate) cancel: Cancel,
    pub(crate) threads: usize,
    cache: TempDir,
    password: Option<Secret>,
}

/// The repository of a [`World`] as another machine sees it.
pub(crate) struct Elsewhere {
    pub(crate) repository: Repository,
    _cache: TempDir,
}

impl Elsewhere {
    pub(crate) fn backup(&self, dataset: &str, source: &dyn Source, full: bool) -> BackupId {
        let context = Context {
            progress: &Silent,
            cancel: &Cancel::new(),
            clock: &FixedClock::new(Timestamp::new(1_800_000_100, 0)),
            threads: 2,
        };
        let options = BackupOptions { full, ..BackupOptions::default() };
        let name = dataset.parse().unwrap();
        backup::run(&self.repository, &name, source, &options, &context).unwrap().backup
    }

    pub(crate) fn hide(&self, number: u64) {
        hide(&self.repository, number);
    }

    pub(crate) fn prune(&self) -> PruneReport {
        self.try_prune().unwrap()
    }

    pub(crate) fn try_prune(&self) -> Result<PruneReport> {
        let context = Context {
            progress: &Silent,
            cancel: &Cancel::new(),
            clock: &FixedClock::new(Timestamp::new(1_800_000_100, 0)),
            threads: 2,
        };
        let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
        prune::run(&self.repository, &options, &context)
    }
}

fn hide(repository: &Repository, number: u64) {
    let dataset = repository.dataset(&"data".parse().unwrap()).unwrap();
    let key = layout::hidden(&dataset.id(), BackupId(number)).unwrap();
    let record = HiddenRecord { number, written: Timestamp::new(1_800_000_000, 0) };
    repository.store().put(ObjectKind::Hidden, &key, &record).unwrap();
}

impl World {
    pub(crate) fn memory() -> Self {
        Self::with(true, CreateOptions::default())
    }

    pub(crate) fn encrypted() -> Self {
        let password = Some(Secret::new(b"secret".to_vec()));
        Self::with(true, CreateOptions { password, ..CreateOptions::default() })
    }

    /// One without encryption and one with it.
    pub(crate) fn both() -> [Self; 2] {
        [Self::memory(), Self::encrypted()]
    }

    pub(crate) fn class_b() -> Self {
        Self::with(false, CreateOptions::default())
    }

    /// Each block closes its pack.
    pub(crate) fn with_small_packs() -> Self {
        Self::with(true, CreateOptions { pack_bytes: 1024, ..CreateOptions::default() })
    }

    /// Opens what is on a backend, with an empty cache.
    pub(crate) fn on(backend: MemoryBackend) -> Self {
        let backend = Arc::new(backend);
        let cache = cache_folder();
        let place = CachePlace::Kept(cache.path().join("0"));
        let shared: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
        World {
            backend,
            repository: open::open(shared, None, &place).unwrap(),
            clock: FixedClock::new(Timestamp::new(1_900_000_000, 0)),
            progress: Collector::default(),
            cancel: Cancel::new(),
            threads: 2,
            cache,
            password: None,
        }
    }

    pub(crate) fn with(atomic_create: bool, options: CreateOptions) -> Self {
        let backend = Arc::new(MemoryBackend::with_atomic_create(atomic_create));
        let cache = cache_folder();
        let clock = FixedClock::new(Timestamp::new(1_800_000_000, 0));
        let options = CreateOptions { cost: CHEAP, ..options };
        let place = CachePlace::Kept(cache.path().join("0"));
        let shared: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
        let repository =
            open::create(shared, &options, &place, Timestamp::new(1_800_000_000, 0)).unwrap();
        World {
            backend,
            repository,
            clock,
            progress: Collector::default(),
            cancel: Cancel::new(),
            threads: 2,
            cache,
            password: options.password,
        }
    }

    /// Opens the repository anew with an empty cache, as on another machine.
    pub(crate) fn forget_caches(&mut self) {
        let count = std::fs::read_dir(self.cache.path()).unwrap().count();
        let place = CachePlace::Kept(self.cache.path().join(count.to_string()));
        let shared: Arc<dyn Backend> = Arc::clone(&self.backend) as Arc<dyn Backend>;
        self.repository = open::open(shared, self.password.as_ref(), &place).unwrap();
    }

    /// Opens the repository anew on the newest cache, as the next run of the program does, and
    /// counts what is asked of the backend from now on.
    pub(crate) fn count_calls(&mut self) -> Arc<CountingBackend> {
        let count = std::fs::read_dir(self.cache.path()).unwrap().count();
        let place = CachePlace::Kept(self.cache.path().join((count - 1).to_string()));
        let shared: Arc<dyn Backend> = Arc::clone(&self.backend) as Arc<dyn Backend>;
        let counting = Arc::new(CountingBackend::new(shared));
        let counted: Arc<dyn Backend> = Arc::clone(&counting) as Arc<dyn Backend>;
        self.repository = open::open(counted, self.password.as_ref(), &place).unwrap();
        counting
    }

    /// Fills every file of the newest cache with what `fill` makes of it, and opens it anew.
    pub(crate) fn spoil_caches(&mut self, fill: impl Fn(Vec<u8>) -> Vec<u8>) {
        let count = std::fs::read_dir(self.cache.path()).unwrap().count();
        let place = self.cache.path().join((count - 1).to_string());
        let mut folders = vec![place.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let spoiled = fill(std::fs::read(&path).unwrap());
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, spoiled).unwrap();
                }
            }
        }
        let shared: Arc<dyn Backend> = Arc::clone(&self.backend) as Arc<dyn Backend>;
        let kept = CachePlace::Kept(place);
        self.repository = open::open(shared, self.password.as_ref(), &kept).unwrap();
    }

    /// Opens a repository with the newest cache of this one, as one machine would.
    pub(crate) fn open_beside(&self, backend: Arc<dyn Backend>) -> Repository {
        let count = std::fs::read_dir(self.cache.path()).unwrap().count();
        let place = CachePlace::Kept(self.cache.path().join((count - 1).to_string()));
        open::open(backend, self.password.as_ref(), &place).unwrap()
    }

    /// Puts a wrapper around the backend, with an empty cache: what it does is seen from now on.
    pub(crate) fn wrap(&mut self, wrap: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>) {
        let count = std::fs::read_dir(self.cache.path()).unwrap().count();
        let place = CachePlace::Kept(self.cache.path().join(count.to_string()));
        let wrapped = wrap(Arc::clone(&self.backend) as Arc<dyn Backend>);
        self.repository = open::open(wrapped, self.password.as_ref(), &place).unwrap();
    }

    /// Puts a store that can be told to do odd things around the backend, with an empty cache.
    pub(crate) fn make_odd(&mut self) -> Arc<Odd> {
        let odd = Arc::new(Odd::new(Arc::clone(&self.backend) as Arc<dyn Backend>));
        self.wrap(|_| Arc::clone(&odd) as Arc<dyn Backend>);
        odd
    }

    /// Opens the repository as another machine does, with an empty cache of its own.
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        let cache = tempfile::tempdir().unwrap();
        let place = CachePlace::Kept(cache.path().to_owned());
        let shared: Arc<dyn Backend> = Arc::clone(&self.backend) as Arc<dyn Backend>;
        let repository = open::open(shared, self.password.as_ref(), &place).unwrap();
        Elsewhere { repository, _cache: cache }
    }

    /// Makes a backup that is cancelled once so many files were opened.
    pub(crate) fn wrap_cancel_after(&self, source: &MemorySource, files: usize) {
        let cancel = self.cancel.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while source.opened_count() < files {
                    std::thread::yield_now();
                }
                cancel.cancel();
            });
            let error = self.backup(source).expect_err("cancelled");
            assert_eq!(error.kind(), icecore::base::error::ErrorKind::Cancelled, "{error:?}");
        });
    }

    /// Makes what was cancelled possible again.
    pub(crate) fn cancel_again(&mut self) {
        self.cancel = Cancel::new();
    }

    /// Forgets a backup.
    pub(crate) fn hide(&self, number: u64) {
        let dataset = self.repository.dataset(&self.name()).unwrap();
        let key = layout::hidden(&dataset.id(), BackupId(number)).unwrap();
        let record = HiddenRecord { number, written: Timestamp::new(1_800_000_000, 0) };
        self.repository.store().put(ObjectKind::Hidden, &key, &record).unwrap();
    }

    /// Makes one in which the first `dead` of so many files are in a forgotten backup alone, and
    /// returns the source, which has the others.
    pub(crate) fn with_dead_files(files: u64, dead: u64) -> (Self, MemorySource) {
        let world = World::memory();
        let source = MemorySource::new("s");
        (0..files).for_each(|n| source.put_file(format!("f{n}"), noise(20_000, n + 1)));
        world.backup(&source).unwrap();
        (0..dead).for_each(|n| source.remove(format!("f{n}")));
        world.backup(&source).unwrap();
        world.hide(0);
        (world, source)
    }

    /// Removes all leases, as a prune does with those of the dead.
    pub(crate) fn drop_leases(&self) {
        for key in self.backend.objects().into_keys() {
            if key.as_str().starts_with("leases/") {
                self.backend.remove_raw(&key);
            }
        }
    }

    /// Puts all objects back to what they were, and forgets all caches.
    pub(crate) fn reset(&mut self, objects: &BTreeMap<ObjectKey, Vec<u8>>) {
        for key in self.backend.objects().into_keys() {
            if !objects.contains_key(&key) {
                self.backend.remove_raw(&key);
            }
        }
        for (key, bytes) in objects {
            self.backend.insert_raw(key, bytes.clone());
        }
        self.forget_caches();
    }

    /// Says how many backups there are, and that each is readable from end to end.
    pub(crate) fn sound_backups(&self) -> usize {
        let Ok(dataset) = self.repository.dataset(&self.name()) else { return 0 };
        let backups = dataset.backups().unwrap();
        for backup in &backups {
            for path in self.paths(backup.header.number.0) {
                let path = EntryPath::new(path.as_bytes()).unwrap();
                let tracked = self.snapshot(backup.header.number.0).entry(&path).unwrap();
                if tracked.unwrap().entry.file().is_some() {
                    self.content(backup.header.number.0, &path.to_string());
                }
            }
        }
        backups.len()
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            progress: &self.progress,
            cancel: &self.cancel,
            clock: &self.clock,
            threads: self.threads,
        }
    }

    pub(crate) fn name(&self) -> DatasetName {
        "data".parse().unwrap()
    }

    pub(crate) fn backup(&self, source: &dyn Source) -> Result<BackupReport> {
        self.backup_with(source, &BackupOptions::default())
    }

    pub(crate) fn backup_with(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
    ) -> Result<BackupReport> {
        backup::run(&self.repository, &self.name(), source, options, &self.context())
    }

    pub(crate) fn snapshot(&self, number: u64) -> Snapshot {
        let dataset = self.repository.dataset(&self.name()).unwrap();
        let found = transaction::visible(&dataset, BackupId(number)).unwrap();
        dataset.snapshot(&dataset.all_numbers().unwrap(), found).unwrap()
    }

    pub(crate) fn paths(&self, number: u64) -> Vec<String> {
        let entries = self.snapshot(number).entries();
        entries.map(|tracked| tracked.unwrap().entry.path.to_string()).collect()
    }

    pub(crate) fn full_numbers(&self) -> Vec<u64> {
        let dataset = self.repository.dataset(&self.name()).unwrap();
        let backups = dataset.backups().unwrap();
        backups.iter().filter(|b| b.header.is_full()).map(|b| b.header.number.0).collect()
    }

    pub(crate) fn content(&self, number: u64, path: &str) -> Vec<u8> {
        let path = EntryPath::new(path.as_bytes()).unwrap();
        let tracked = self.snapshot(number).entry(&path).unwrap().expect("the entry is there");
        let file = tracked.entry.file().expect("a file").clone();
        let mut content = vec![0; file.size as usize];
        let mut data = Vec::new();
        for run in self.repository.runs_of(&file).unwrap() {
            for place in run.first..run.first + run.count {
                data.extend(self.repository.read_blob(&run.block, place).unwrap());
            }
        }
        let mut at = 0;
        for extent in file.extents() {
            let (start, length) = (extent.offset as usize, extent.length as usize);
            content[start..start + length].copy_from_slice(&data[at..at + length]);
            at += length;
        }
        content
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.password.is_some()
    }

    pub(crate) fn object_count(&self) -> usize {
        self.backend.objects().len()
    }
}

/// Caches of tests lie in memory where the machine has such a place: a thousand backups write
/// some ten thousand small files.
fn cache_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

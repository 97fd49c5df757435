//! One repository with everything in it that can be damaged, and plain copies of its backups.

use crate::support::restored::path;
use crate::support::restored::text;
use crate::support::tree::noise;
use crate::support::world::CHEAP;
use icecore::backend::Backend;
use icecore::backend::Listed;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::record::RecordBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::DatasetId;
use icecore::base::id::LeaseId;
use icecore::base::id::PackId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::sys::ProcessIdentity;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::compress::Compressor;
use icecore::codec::frame::ObjectKind;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::parity;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::format::dataset::DatasetName;
use icecore::format::dataset::LostRecord;
use icecore::format::lease::BeatRecord;
use icecore::format::lease::LeaseRecord;
use icecore::format::pack::EncodedBlock;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::datasets::Dataset;
use icecore::repository::doom;
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::packer::Packer;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryEntry;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const LATER: Timestamp = Timestamp::new(1_900_000_000, 0);

/// A dataset and a number in it.
pub(crate) type Label = (&'static str, u64);
/// What a restore leaves: every path with all that is known of it and its content.
pub(crate) type Tree = BTreeMap<EntryPath, (MemoryEntry, Vec<u8>)>;
type Files = BTreeMap<String, Vec<u8>>;

pub(crate) struct State {
    pub(crate) backend: MemoryBackend,
    password: Option<Secret>,
    caches: tempfile::TempDir,
    /// What each backup holds; the forgotten ones too, whose content is still there.
    pub(crate) trees: BTreeMap<Label, Tree>,
    pub(crate) visible: BTreeSet<Label>,
    pub(crate) ids: BTreeMap<&'static str, DatasetId>,
    /// Objects without which a backup cannot be read.
    pub(crate) needs: BTreeMap<Label, BTreeSet<ObjectKey>>,
    /// The photos as they are now, and what a restore of the next backup gives.
    pub(crate) source: MemorySource,
    pub(crate) next: Tree,
    /// All objects in the order in which they were written.
    pub(crate) order: Vec<ObjectKey>,
}

pub(crate) fn name(text: &str) -> DatasetName {
    text.parse().unwrap()
}

/// Runs something with what every operation is given.
pub(crate) fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let clock = FixedClock::new(LATER);
    work(&Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 })
}

/// Takes a target down to what can be compared.
pub(crate) fn tree_of(target: &MemoryTarget) -> Tree {
    let mut first_names = BTreeMap::new();
    let mut tree = Tree::new();
    for (at, mut entry) in target.entries() {
        let count = first_names.len() as u64;
        entry.inode = *first_names.entry(entry.inode).or_insert(count);
        tree.insert(at.clone(), (entry, target.content(&at).unwrap_or_default()));
    }
    tree
}

impl State {
    /// Opens a backend with an empty cache.
    pub(crate) fn open(&self, backend: &Arc<MemoryBackend>) -> Result<Repository> {
        self.open_any(Arc::clone(backend) as Arc<dyn Backend>)
    }

    /// Returns the packs that a tombstone names.
    pub(crate) fn doomed(&self) -> BTreeSet<ObjectKey> {
        let repository = self.open(&Arc::new(self.backend.clone_state())).unwrap();
        let packs = doom::Tombstones::list(repository.store()).unwrap().packs();
        packs.iter().map(|pack| layout::pack(pack).unwrap()).collect()
    }

    fn open_any(&self, backend: Arc<dyn Backend>) -> Result<Repository> {
        let cache = CachePlace::Scratch(self.caches.path().into());
        open::open(backend, self.password.as_ref(), &cache)
    }

    fn see_order(&mut self) {
        let mut seen = BTreeMap::new();
        let objects = self.backend.objects();
        let folders: BTreeSet<_> = objects.keys().map(ObjectKey::folder).collect();
        for folder in folders {
            let listed = self.backend.list(&folder, &mut |listed| {
                if let Listed::Object(object) = listed {
                    seen.insert(object.modified, object.key);
                }
                Ok(())
            });
            listed.unwrap();
        }
        self.order = seen.into_values().collect();
        assert_eq!(self.order.len(), objects.len());
    }

    /// Restores everything from the sound state, compares it with what was backed up, and looks
    /// which packs that took.
    fn learn(&mut self, models: &BTreeMap<Label, Files>) {
        for (&label, files) in models {
            let copy = Arc::new(self.backend.clone_state());
            let marker = self.hidden_key(label);
            if !self.visible.contains(&label) && !copy.remove_raw(&marker) {
                continue;
            }
            let record = Arc::new(RecordBackend::new(Arc::clone(&copy) as Arc<dyn Backend>));
            let repository = self.open_any(Arc::clone(&record) as Arc<dyn Backend>).unwrap();
            let (target, report) = restore_number(&repository, label);
            assert_eq!(report.unwrap(), [], "{label:?}");
            let tree = tree_of(&target);
            for (at, bytes) in files {
                assert!(tree[&path(at)].1 == *bytes, "{label:?} {at}");
            }
            let keys = record.calls().into_iter().map(|call| call.key);
            let mut needs: BTreeSet<ObjectKey> = keys
                .filter(|key| key.starts_with("packs/") && key.len() > 20)
                .map(|key| ObjectKey::new(key).unwrap())
                .collect();
            self.add_small_needs(&repository, label, &mut needs);
            self.trees.insert(label, tree);
            self.needs.insert(label, needs);
        }
    }

    fn hidden_key(&self, (dataset, n): Label) -> ObjectKey {
        let copy = Arc::new(self.backend.clone_state());
        let id = self.open(&copy).unwrap().dataset(&name(dataset)).unwrap().id();
        layout::hidden(&id, BackupId(n)).unwrap()
    }

    fn add_small_needs(
        &self,
        repository: &Repository,
        (dataset, n): Label,
        needs: &mut BTreeSet<ObjectKey>,
    ) {
        needs.insert(layout::config().unwrap());
        if let Some(password) = &self.password {
            needs.insert(layout::key_slot(&repository.slot_of(password).unwrap()).unwrap());
        }
        let set = repository.dataset(&name(dataset)).unwrap();
        let folder = repository.name_folder(&name(dataset)).unwrap();
        needs.insert(folder.object("0").unwrap());
        let numbers = set.all_numbers().unwrap();
        let backup = set.backup(&numbers, BackupId(n)).unwrap().unwrap();
        let links: Vec<u64> = backup.header.chain.iter().map(|link| link.0).chain([n]).collect();
        let id = set.id();
        for key in self.backend.objects().into_keys() {
            let is_link = |link: &u64| {
                let plain = layout::header(&id, BackupId(*link)).unwrap();
                let with_lease = format!("{plain}-");
                key == plain || key.as_str().starts_with(&with_lease)
            };
            if links.iter().any(is_link) {
                needs.insert(key);
            }
        }
        self.add_marks(needs);
        self.add_indexes(needs);
    }

    /// Without an atomic create a header is read with the marks on its lease.
    fn add_marks(&self, needs: &mut BTreeSet<ObjectKey>) {
        let names = needs.iter().filter_map(|key| key.name().split_once('-'));
        let leases: Vec<String> = names.map(|(_, lease)| format!("{lease}.")).collect();
        for key in self.backend.objects().into_keys() {
            if leases.iter().any(|lease| key.name().starts_with(lease)) {
                needs.insert(key);
            }
        }
    }

    /// An index object is needed when it is gone and a pack is not found by the others.
    fn add_indexes(&self, needs: &mut BTreeSet<ObjectKey>) {
        let packs: Vec<String> = needs
            .iter()
            .filter(|key| key.as_str().starts_with("packs/"))
            .map(|key| key.name().to_owned())
            .collect();
        for key in self.backend.objects().into_keys() {
            if !key.as_str().starts_with("index/") {
                continue;
            }
            let copy = Arc::new(self.backend.clone_state());
            copy.remove_raw(&key);
            let repository = self.open(&copy).unwrap();
            repository.refresh_index().unwrap();
            let found = packs_of(&repository);
            if packs.iter().any(|pack| !found.contains(pack)) {
                needs.insert(key);
            }
        }
    }
}

fn packs_of(repository: &Repository) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for id in repository.index().ids() {
        let visited = repository.index().visit(&id, &mut |location| {
            found.insert(location.pack.pack.to_string());
            Ok(())
        });
        visited.unwrap();
    }
    found
}

/// What a restore leaves, and the errors of its report.
pub(crate) type Restored = (MemoryTarget, Result<Vec<icecore::engine::Failure>>);

/// Restores a backup by its number.
pub(crate) fn restore_number(repository: &Repository, (dataset, n): Label) -> Restored {
    match repository.dataset(&name(dataset)) {
        Ok(set) => restore_backup(&set, n),
        Err(error) => (MemoryTarget::new(), Err(error)),
    }
}

pub(crate) fn restore_backup(set: &Dataset, n: u64) -> Restored {
    let target = MemoryTarget::new();
    let run = || {
        let number = icecore::engine::address::Version::Number(BackupId(n));
        let backup = icecore::engine::address::resolve(set, &number)?.backup;
        let snapshot = icecore::engine::list::snapshot(set, backup)?;
        let options = RestoreOptions::default();
        with_context(|context| restore::run(&snapshot, &target, &options, context))
    };
    let report = run().map(|report| report.errors);
    (target, report)
}

/// Builds the state while it keeps a model of every backup.
struct Builder {
    repository: Repository,
    clock: FixedClock,
    models: BTreeMap<Label, Files>,
    visible: BTreeSet<Label>,
}

impl Builder {
    fn run<T>(&self, work: impl FnOnce(&Context<'_>) -> Result<T>) -> T {
        let cancel = Cancel::new();
        let (progress, clock) = (&Silent, &self.clock);
        work(&Context { progress, cancel: &cancel, clock, threads: 1 }).unwrap()
    }

    fn back_up(&mut self, dataset: &'static str, source: &MemorySource, files: &Files, full: bool) {
        self.clock.advance(3600);
        let options =
            BackupOptions { full, tags: vec!["made".to_owned()], ..BackupOptions::default() };
        let report = self.run(|context| {
            backup::run(&self.repository, &name(dataset), source, &options, context)
        });
        assert_eq!(report.errors, []);
        let label = (dataset, report.backup.0);
        self.models.insert(label, files.clone());
        self.visible.insert(label);
    }

    fn hide(&mut self, label: Label) {
        let dataset = self.repository.dataset(&name(label.0)).unwrap();
        dataset.hide(BackupId(label.1), NOW).unwrap();
        self.visible.remove(&label);
    }

    fn id(&self, dataset: &str) -> DatasetId {
        self.repository.dataset(&name(dataset)).unwrap().id()
    }

    fn put_lease(&self, seed: u8, dataset: &str, number: Option<u64>, dead: bool) {
        let mut process = ProcessIdentity::current();
        if dead {
            process.boot = "another".into();
        }
        let lease = LeaseId::new([seed; 16]);
        let record = LeaseRecord {
            lease,
            dataset: self.id(dataset),
            number: number.map(BackupId),
            parent: Some(BackupId(0)),
            process,
            taken: NOW,
            purpose: "for a test".into(),
        };
        let store = self.repository.store();
        store.put(ObjectKind::Lease, &layout::lease(&lease).unwrap(), &record).unwrap();
        let beat = BeatRecord { lease, beat: 4 };
        store.put(ObjectKind::Beat, &layout::beat(&lease, 4).unwrap(), &beat).unwrap();
    }

    /// Puts every block of a pack into another pack as well.
    fn copy_pack(&self, pack: &PackId) {
        let index = self.repository.index();
        let mut packer = Packer::start(&self.repository, LeaseId::new([0; 16])).unwrap();
        let mut compressor = Compressor::new(3).unwrap();
        let mut copies = Vec::new();
        for id in index.ids() {
            let visited = index.visit(&id, &mut |location| {
                copies.extend((location.pack.pack == *pack).then_some(location));
                Ok(())
            });
            visited.unwrap();
        }
        for location in copies {
            let copy = self.repository.read_copy(&location).unwrap();
            let mut stored = Vec::new();
            compressor.compress(&copy.plain, &mut stored).unwrap();
            let (id, class) = (location.row.block, location.row.class);
            packer.add(EncodedBlock { id, table: (*copy.table).clone(), stored, class }).unwrap();
        }
        packer.finish().unwrap();
    }

    /// The pack with the content of a file.
    fn pack_of(&self, dataset: &str, n: u64, at: &str) -> PackId {
        let set = self.repository.dataset(&name(dataset)).unwrap();
        let numbers = set.all_numbers().unwrap();
        let backup = set.backup(&numbers, BackupId(n)).unwrap().unwrap();
        let snapshot = set.snapshot(&numbers, Arc::new(backup)).unwrap();
        let entry = snapshot.entry(&path(at)).unwrap().unwrap().entry;
        let block = self.repository.runs_of(entry.file().unwrap()).unwrap()[0].block;
        self.repository.locate_block(&block).unwrap()[0].pack.pack
    }
}

fn put(source: &MemorySource, files: &mut Files, at: &str, bytes: Vec<u8>) {
    source.put_file(at, &bytes);
    files.insert(at.to_owned(), bytes);
}

fn photos(builder: &mut Builder) -> (MemorySource, Files) {
    let source = MemorySource::new("photos").symlink("link", "a").directory("hollow");
    let mut files = Files::new();
    put(&source, &mut files, "a", noise(9000, 1));
    put(&source, &mut files, "text", text(20_000));
    put(&source, &mut files, "empty", Vec::new());
    for n in 0..12_u8 {
        put(&source, &mut files, &format!("kept/{n}"), vec![n; 30]);
    }
    let source = source.hard_link("twin", "a").xattr("text", "user.colour", "blue");
    files.insert("twin".into(), files["a"].clone());
    builder.back_up("photos", &source, &files, true);
    put(&source, &mut files, "text", text(30_000));
    builder.back_up("photos", &source, &files, false);
    put(&source, &mut files, "gone", noise(12_000, 2));
    builder.back_up("photos", &source, &files, false);
    source.remove("gone");
    files.remove("gone");
    put(&source, &mut files, "d/e", noise(5000, 3));
    builder.back_up("photos", &source, &files, true);
    put(&source, &mut files, "d/f", noise(4000, 4));
    builder.back_up("photos", &source, &files, false);
    (source, files)
}

/// Builds it: full and partial backups of two datasets, one that is forgotten and gone behind a
/// floor, one that is forgotten and still there, a void, changed tags, a living reader, a dead
/// writer, a tombstone that names a pack which is needed, a pack that is there twice; and parity,
/// where that is wanted.
pub(crate) fn build(atomic_create: bool, is_encrypted: bool, has_parity: bool) -> State {
    let backend = Arc::new(MemoryBackend::with_atomic_create(atomic_create));
    let password = is_encrypted.then(|| Secret::new(b"glacier".to_vec()));
    let caches = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let options = CreateOptions {
        password: password.clone(),
        cost: CHEAP,
        pack_bytes: 1 << 14,
        ..CreateOptions::default()
    };
    let cache = CachePlace::Scratch(caches.path().into());
    let to = Arc::clone(&backend) as Arc<dyn Backend>;
    let repository = open::create(to, &options, &cache, NOW).unwrap();
    let clock = FixedClock::new(NOW);
    let (models, visible) = (BTreeMap::new(), BTreeSet::new());
    let mut builder = Builder { repository, clock, models, visible };
    if is_encrypted {
        let other = Secret::new(b"another one".to_vec());
        builder.repository.add_key(&other, CHEAP, "other", NOW).unwrap();
    }
    let (source, files) = fill(&mut builder);
    if has_parity {
        let added = builder.run(|context| parity::add(&builder.repository, 10, context));
        assert!(added.packs > 3 && added.failed.is_empty());
    }
    let mut state = State {
        backend: backend.clone_state(),
        password,
        caches,
        trees: BTreeMap::new(),
        visible: builder.visible.clone(),
        ids: ["photos", "music"].map(|dataset| (dataset, builder.id(dataset))).into(),
        needs: BTreeMap::new(),
        source,
        next: Tree::new(),
        order: Vec::new(),
    };
    drop(builder.repository);
    state.see_order();
    state.learn(&builder.models);
    state.next = next_of(&state, &files);
    state
}

fn fill(builder: &mut Builder) -> (MemorySource, Files) {
    let (source, mut files) = photos(builder);
    builder.hide(("photos", 2));
    builder.put_lease(1, "photos", Some(5), true);
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    builder.run(|context| prune::run(&builder.repository, &options, context));
    put(&source, &mut files, "d/f", noise(4000, 5));
    builder.back_up("photos", &source, &files, false);
    put(&source, &mut files, "d/g", noise(3000, 6));
    builder.back_up("photos", &source, &files, false);
    let forgotten = builder.models.keys().rev().nth(1).copied().unwrap();
    builder.hide(forgotten);
    let music = MemorySource::new("music");
    let mut songs = Files::new();
    (0..12_u8).for_each(|n| put(&music, &mut songs, &format!("s/{n}"), vec![n; 40]));
    put(&music, &mut songs, "song", noise(8000, 7));
    builder.back_up("music", &music, &songs, true);
    put(&music, &mut songs, "song2", noise(6000, 8));
    builder.back_up("music", &music, &songs, false);
    let set = builder.repository.dataset(&name("photos")).unwrap();
    for text in ["first", "second"] {
        let change = TagChange { add: vec![text.to_owned()], ..TagChange::default() };
        builder.run(|context| tag::run(&set, BackupId(3), &change, context));
    }
    builder.repository.refresh_index().unwrap();
    builder.copy_pack(&builder.pack_of("photos", 0, "a"));
    builder.put_lease(2, "music", None, false);
    builder.put_lease(3, "photos", Some(8), true);
    let doomed = builder.pack_of("music", 1, "song2");
    doom::put_tombstones(builder.repository.store(), &[doomed], &[], 0, NOW).unwrap();
    let key = ObjectKey::new(format!("lost/{}", LeaseId::new([4; 16]))).unwrap();
    let lost = LostRecord { blocks: vec![0; 32], places: vec![vec![]], written: NOW };
    builder.repository.store().put(ObjectKind::Lost, &key, &lost).unwrap();
    put(&source, &mut files, "d/new", noise(7000, 9));
    put(&source, &mut files, "text", text(25_000));
    (source, files)
}

/// What the next backup restores to, from a sound copy.
fn next_of(state: &State, files: &Files) -> Tree {
    let copy = Arc::new(state.backend.clone_state());
    let repository = state.open(&copy).unwrap();
    let options = BackupOptions::default();
    let report = with_context(|context| {
        backup::run(&repository, &name("photos"), &state.source, &options, context)
    });
    let (target, errors) = restore_number(&repository, ("photos", report.unwrap().backup.0));
    assert_eq!(errors.unwrap(), []);
    let tree = tree_of(&target);
    for (at, bytes) in files {
        assert!(tree[&path(at)].1 == *bytes, "{at}");
    }
    tree
}

//! The repository that runs start from, the sources, and what must hold of a store at any moment.

use crate::concurrency::actors::Ended;
use crate::concurrency::actors::forget;
use crate::concurrency::actors::store;
use crate::concurrency::actors::told;
use crate::concurrency::deeds::ELSEWHERE;
use crate::support::tree::noise;
use crate::support::world::CHEAP;
use icecore::backend::Backend;
use icecore::backend::key::FolderKey;
use icecore::backend::list_all;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
#[cfg(feature = "planted")]
use icecore::base::id::IndexId;
use icecore::base::id::KeyId;
#[cfg(feature = "planted")]
use icecore::base::id::LeaseId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::engine::Context;
use icecore::format::dataset::DatasetName;
use icecore::format::entry::EntryNode;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
#[cfg(feature = "planted")]
use icecore::repository::doom;
use icecore::repository::history::Snapshot;
#[cfg(feature = "planted")]
use icecore::repository::layout;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::repository::store::Store;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// What a source or a backup holds: file to content.
pub(super) type Content = BTreeMap<String, Vec<u8>>;

/// Length of each file: enough that a prune finds a pack wasteful in which one of two is dead.
const FILE_BYTES: usize = 2000;

/// Which files stand in the source of each label, as letters. Files of one letter are the same
/// everywhere.
const SOURCES: &[(&str, &str)] = &[
    ("first", "a"),
    ("second", "axy"),
    ("again", "axy"),
    ("thin", "ay"),
    ("third", "axyt"),
    ("w", "axw"),
    ("v", "axv"),
    ("bare", "ab"),
    ("other", "yo"),
    ("after", "axz"),
];

/// Where runs start, and what they are held to.
pub(super) struct World {
    sources: BTreeMap<&'static str, Arc<MemorySource>>,
    contents: BTreeMap<&'static str, Content>,
    /// The repository as it is before each run.
    pub(super) backend: Arc<MemoryBackend>,
    /// The caches of whoever made it so.
    cache: PathBuf,
    /// What seals its objects.
    pub(super) store: Store,
    /// Passwords that may open it; none when it is not encrypted.
    passwords: Vec<Secret>,
    /// The slots of the first two.
    pub(super) slots: Vec<KeyId>,
    /// Another repository with backups of the same dataset.
    elsewhere: Option<Arc<MemoryBackend>>,
    /// Numbers that are taken.
    pub(super) numbers: Vec<u64>,
    scratch: TempDir,
    folders: AtomicU64,
}

/// A name of a dataset and a number in it.
pub(super) type Place = (String, u64);

/// The backups that anybody can see: their labels.
pub(super) type Visible = BTreeMap<Place, String>;

/// What is seen of a store by one who comes to it anew.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) visible: Visible,
    pub(super) hidden: BTreeSet<Place>,
}

impl View {
    /// Returns the label of the newest backup of the dataset that all actors are at.
    pub(super) fn newest(&self) -> Option<&str> {
        let mut labels = self.visible.iter().filter(|(place, _)| place.0 == DATA);
        labels.next_back().map(|(_, label)| label.as_str())
    }

    /// Says what of another view is not as it was; `may_go` is what may be hidden since.
    pub(super) fn lacks(&self, before: &View, may_go: impl Fn(&Place) -> bool) -> Option<String> {
        for (place, label) in &before.visible {
            let there = self.visible.get(place);
            if there != Some(label) && (there.is_some() || !may_go(place)) {
                return Some(format!("{place:?} of {label} is gone from {:?}", self.visible));
            }
        }
        let risen = before.hidden.iter().find(|place| self.visible.contains_key(*place));
        risen.map(|place| format!("{place:?} was forgotten, and is there again"))
    }
}

/// The dataset that all actors are at.
pub(super) const DATA: &str = "data";

/// Returns where the backup of this number and label is.
pub(super) fn place(number: u64, label: &str) -> Place {
    (dataset(label).to_string(), number)
}

pub(super) fn dataset(label: &str) -> DatasetName {
    if label == "other" { "other" } else { DATA }.parse().unwrap()
}

/// Gives a context for work that nobody schedules.
pub(super) fn at_rest<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    at(&FixedClock::new(Timestamp::new(1_800_000_000, 0)), work)
}

pub(super) fn at<T>(clock: &FixedClock, work: impl FnOnce(&Context<'_>) -> T) -> T {
    let cancel = Cancel::new();
    work(&Context { progress: &Silent, cancel: &cancel, clock, threads: 1 })
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn memory_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

impl World {
    /// Makes a repository of a class with backups of these labels, one after the other.
    pub(super) fn new(class_a: bool, labels: &[&'static str]) -> Self {
        World::with(class_a, labels, &[])
    }

    /// Makes one that two passwords open; others may be added.
    pub(super) fn encrypted(class_a: bool) -> Self {
        World::with(class_a, &["first", "second"], &["one", "two", "three", "four"])
    }

    fn with(class_a: bool, labels: &[&'static str], passwords: &[&str]) -> Self {
        let mut sources = BTreeMap::new();
        let mut contents = BTreeMap::new();
        for &(label, letters) in SOURCES {
            let mut source = MemorySource::new("source");
            let mut content = Content::new();
            for letter in letters.chars() {
                let bytes = noise(FILE_BYTES, letter as u64);
                source = source.file(letter.to_string(), &bytes);
                content.insert(letter.to_string(), bytes);
            }
            sources.insert(label, Arc::new(source));
            contents.insert(label, content);
        }
        let scratch = memory_folder();
        let cache = scratch.path().join("warm");
        let backend = Arc::new(MemoryBackend::with_atomic_create(class_a));
        let place = CachePlace::Kept(cache.clone());
        let now = Timestamp::new(1_800_000_000, 0);
        let shared: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
        let password = passwords.first().map(|text| secret(text));
        let options = CreateOptions { password, cost: CHEAP, ..CreateOptions::default() };
        let repository = open::create(shared, &options, &place, now).unwrap();
        let mut slots = Vec::new();
        if let [first, second, ..] = passwords {
            slots.push(repository.slot_of(&secret(first)).unwrap());
            slots.push(repository.add_key(&secret(second), CHEAP, "", now).unwrap());
        }
        repository.dataset_or_new(&dataset(""), now).unwrap();
        let numbers =
            (0..labels.iter().filter(|label| **label != "other").count() as u64).collect();
        let world = World {
            sources,
            contents,
            backend,
            cache,
            store: repository.store().clone(),
            passwords: passwords.iter().map(|text| secret(text)).collect(),
            slots,
            elsewhere: None,
            numbers,
            scratch,
            folders: AtomicU64::new(0),
        };
        for label in labels {
            at_rest(|context| store(&repository, &world, label, context)).unwrap();
        }
        World { backend: Arc::new(without_empty_folders(&world.backend)), ..world }
    }

    /// Makes another repository beside it, with younger backups of the same dataset.
    pub(super) fn and_elsewhere(mut self) -> Self {
        let now = Timestamp::new(1_950_000_000, 0);
        let backend = Arc::new(MemoryBackend::new());
        let repository = self.create_at(Arc::clone(&backend), now);
        for label in ELSEWHERE {
            at(&FixedClock::new(now), |context| store(&repository, &self, label, context)).unwrap();
        }
        self.elsewhere = Some(backend);
        self
    }

    fn create_at(&self, backend: Arc<MemoryBackend>, now: Timestamp) -> Repository {
        let place = CachePlace::Scratch(self.scratch.path().to_owned());
        open::create(backend, &CreateOptions::default(), &place, now).unwrap()
    }

    /// Returns an empty repository that nobody else knows.
    pub(super) fn new_elsewhere(&self, now: Timestamp) -> Repository {
        self.create_at(Arc::new(MemoryBackend::new()), now)
    }

    /// Opens the other repository, as it was made.
    pub(super) fn elsewhere(&self) -> Repository {
        let backend = self.elsewhere.as_ref().expect("it was made").clone_state();
        let place = CachePlace::Scratch(self.scratch.path().to_owned());
        open::open(Arc::new(backend), None, &place).unwrap()
    }

    /// Opens the repository by the first password that does.
    pub(super) fn open(&self, backend: Arc<dyn Backend>, place: &CachePlace) -> Result<Repository> {
        for password in &self.passwords {
            match open::open(Arc::clone(&backend), Some(password), place) {
                Err(e) if e.kind() == ErrorKind::Password => {}
                opened => return opened,
            }
        }
        if self.passwords.is_empty() {
            return open::open(backend, None, place);
        }
        Err(Error::new(ErrorKind::Password, "no password opens the repository any more"))
    }

    /// Forgets a number before the runs begin.
    pub(super) fn hide(&self, number: u64) {
        self.at_base(|repository| {
            let forgot = at_rest(|context| forget(repository, self, number, context)).unwrap();
            assert!(matches!(forgot, Ended::Forgot(_)), "{number} was there");
        });
    }

    /// Dooms the pack of the second backup before the runs begin.
    #[cfg(feature = "planted")]
    pub(super) fn doom_second_pack(&self) {
        self.at_base(|repository| {
            repository.refresh_index().unwrap();
            let second = indexes(&self.backend)[1];
            let packs: Vec<_> =
                repository.index().packs_of(&second).iter().map(|pack| pack.pack).collect();
            let now = Timestamp::new(1_800_000_000, 0);
            doom::put_tombstones(repository.store(), &packs, &[second], 0, now).unwrap();
        });
    }

    /// Makes one in which a block stands in two packs, half of it dead: the newest backup needs
    /// one file of it, and the one that needed both is forgotten. One of the two may be damaged.
    pub(super) fn with_copies(one_is_bad: bool) -> Self {
        let mut world = World::new(true, &["first"]);
        let keep = |label| {
            at_rest(|context| world.at_base(|it| drop(store(it, &world, label, context).unwrap())))
        };
        let aside = Arc::new(world.backend.clone_state());
        world
            .anew(Arc::clone(&aside), |repository| {
                at_rest(|context| drop(store(repository, &world, "second", context).unwrap()));
            })
            .unwrap();
        keep("second");
        keep("thin");
        let there = world.backend.objects();
        for (key, mut bytes) in aside.objects() {
            let is_pack = key.as_str().starts_with("packs/");
            if (is_pack || key.as_str().starts_with("index/")) && !there.contains_key(&key) {
                if one_is_bad && is_pack {
                    let at = bytes.len() / 4;
                    bytes[at] ^= 0x10;
                }
                world.backend.put(&key, &bytes).unwrap();
            }
        }
        world.hide(1);
        world.numbers = vec![0, 1, 2];
        world
    }

    /// Replaces the pack indexes by one.
    #[cfg(feature = "planted")]
    pub(super) fn merge_indexes(&self) {
        let olds = indexes(&self.backend);
        self.at_base(|repository| {
            repository.refresh_index().unwrap();
            let (mut packs, mut rows) = (Vec::new(), Vec::new());
            for id in &olds {
                let visited = repository.index().visit(id, &mut |location| {
                    if packs.last() != Some(&location.pack) {
                        packs.push(location.pack);
                    }
                    rows.push((packs.len() as u32 - 1, location.row));
                    Ok(())
                });
                visited.unwrap();
            }
            let rows: Vec<_> = rows.iter().map(|(pack, row)| (*pack, row)).collect();
            let (store, cache) = (repository.store(), repository.cache());
            let nobody = LeaseId::new([0; 16]);
            repository.index().put(store, cache, nobody, &packs, &rows).unwrap();
            olds.iter().for_each(|id| drop(store.delete(&layout::index(id).unwrap())));
        });
    }

    /// Does something to the repository that runs start from.
    fn at_base(&self, work: impl FnOnce(&Repository)) {
        self.anew(Arc::clone(&self.backend), work).unwrap();
    }

    pub(super) fn source(&self, label: &str) -> Arc<MemorySource> {
        Arc::clone(&self.sources[label])
    }

    pub(super) fn content(&self, label: &str) -> Content {
        self.contents[label].clone()
    }

    /// Returns a new folder for caches: empty, or with those of whoever made the repository.
    pub(super) fn caches(&self, is_warm: bool) -> PathBuf {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.scratch.path().join(number.to_string());
        if is_warm {
            copy_folder(&self.cache, &folder);
        }
        folder
    }

    /// Opens a store anew, with empty caches, for `work`. Says so if that cannot be done.
    pub(super) fn anew<T>(
        &self,
        backend: Arc<MemoryBackend>,
        work: impl FnOnce(&Repository) -> T,
    ) -> std::result::Result<T, String> {
        let folder = self.caches(false);
        let opened = self.open(backend, &CachePlace::Kept(folder.clone()));
        let repository = opened.map_err(|e| format!("cannot open it: {}", told(&e)))?;
        let done = work(&repository);
        drop(repository);
        std::fs::remove_dir_all(folder).unwrap();
        Ok(done)
    }

    /// Looks at a store: every visible backup must be there to the last byte. Says what is
    /// wrong.
    pub(super) fn look(&self, state: MemoryBackend) -> std::result::Result<View, String> {
        self.anew(Arc::new(state), |repository| self.view(repository))?
    }

    /// Looks at an open repository.
    pub(super) fn view(&self, repository: &Repository) -> std::result::Result<View, String> {
        let fail = |e| format!("cannot list the backups: {}", told(&e));
        let mut view = View::default();
        for dataset in repository.datasets().map_err(fail)? {
            let numbers = dataset.all_numbers().map_err(fail)?;
            for n in numbers.iter() {
                let place = (dataset.name().to_string(), n.0);
                if numbers.is_hidden(n) {
                    view.hidden.insert(place.clone());
                }
                let Some(backup) = dataset.backup(&numbers, n).map_err(fail)? else { continue };
                let label = backup.description.clone();
                let snapshot = dataset.snapshot(&numbers, Arc::new(backup));
                match snapshot.and_then(|snapshot| read_all(repository, &snapshot)) {
                    Ok(content) if content == self.contents[label.as_str()] => {}
                    Ok(_) => return Err(format!("backup {} of {label} holds other things", n.0)),
                    Err(e) => return Err(format!("backup {} of {label}: {}", n.0, told(&e))),
                }
                view.visible.insert(place, label);
            }
        }
        Ok(view)
    }
}

/// Returns the index objects in the order in which they were put.
#[cfg(feature = "planted")]
fn indexes(backend: &MemoryBackend) -> Vec<IndexId> {
    let mut found = Vec::new();
    list_all(backend, &FolderKey::new("index").unwrap(), &mut |object| {
        found.push((object.modified, object.key.name().to_owned()));
        Ok(())
    })
    .unwrap();
    found.sort();
    found.iter().map(|(_, name)| name.parse().unwrap()).collect()
}

/// Returns the same objects, put in the same order: folders of leases that are gone cost a call
/// each, and are named by chance.
fn without_empty_folders(backend: &MemoryBackend) -> MemoryBackend {
    let mut rows = Vec::new();
    list_all(backend, &FolderKey::top(), &mut |object| {
        rows.push((object.modified, object.key));
        Ok(())
    })
    .unwrap();
    rows.sort();
    let fresh = MemoryBackend::with_atomic_create(backend.capabilities().atomic_create);
    let objects = backend.objects();
    rows.iter().for_each(|(_, key)| fresh.put(key, &objects[key]).unwrap());
    fresh
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn read_all(repository: &Repository, snapshot: &Snapshot) -> Result<Content> {
    let mut content = Content::new();
    for tracked in snapshot.entries() {
        let tracked = tracked?;
        let EntryNode::File(file) = &tracked.entry.node else { continue };
        let mut bytes = Vec::new();
        for run in repository.runs_of(file)? {
            for place in run.first..run.first + run.count {
                bytes.extend(repository.read_blob(&run.block, place)?);
            }
        }
        content.insert(tracked.entry.path.to_string(), bytes);
    }
    Ok(content)
}

pub(super) fn content_of(target: &MemoryTarget) -> Content {
    let paths = target.entries().into_keys();
    let file = |path: EntryPath| Some((path.to_string(), target.content(&path)?));
    paths.filter_map(file).collect()
}

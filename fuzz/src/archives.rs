//! The repositories that are damaged, and what is known of them: two archives of objects in `data`,
//! one plain and one encrypted, as ids are random and an input must mean the same tomorrow.

use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::DatasetId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::key::Argon2Cost;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryEntry;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::LazyLock;

use super::Bytes;

const ARCHIVES: [&[u8]; 2] =
    [include_bytes!("../data/plain.repository"), include_bytes!("../data/encrypted.repository")];
const PASSWORD: &[u8] = b"secret";
/// When they were begun.
pub const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

/// What is stored, by key.
pub type Objects = BTreeMap<ObjectKey, Vec<u8>>;
/// All that stands in a target, with what is in its files.
pub type Tree = BTreeMap<EntryPath, (MemoryEntry, Option<Vec<u8>>)>;
/// Which backup: its dataset and its number there.
pub type Place = (DatasetId, BackupId);
/// What each backup is.
pub type Known = BTreeMap<Place, Arc<Tree>>;

/// The number in `photos` that the archives hold as forgotten.
pub const FORGOTTEN: BackupId = BackupId(1);

/// What each backup of the plain archive is, and of the encrypted one.
pub static KNOWN: [LazyLock<Known>; 2] =
    [LazyLock::new(|| known(false)), LazyLock::new(|| known(true))];

/// What the archives hold: each state of the source that was backed up.
pub fn states() -> [Vec<(&'static str, Vec<u8>)>; 4] {
    let text = |n: u32| (0..n).flat_map(|k| format!("line {}\n", k * k % 977).into_bytes());
    let noise = |n: u32| (0..n).map(|k| (k.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
    let large: Vec<u8> = text(5_000).collect();
    let larger = [&b"new at the front"[..], &large].concat();
    let note = |n: u32| text(n).collect();
    [
        vec![("note", note(3)), ("a/large", large.clone()), ("a/noise", noise(700))],
        vec![("note", note(4)), ("a/large", larger), ("a/b/c", noise(90)), ("empty", vec![])],
        vec![("note", note(5)), ("a/large", large), ("a/b/c", noise(91))],
        vec![("song", noise(1_000))],
    ]
}

/// Returns the source of a state.
pub fn source(state: &[(&str, Vec<u8>)]) -> MemorySource {
    let source = MemorySource::new("data").symlink("link", "note").fifo("a/pipe");
    let source = source.xattr("link", "user.colour", "red");
    state.iter().fold(source, |source, (path, content)| source.file(path, content))
}

/// Makes the objects of an archive anew.
///
/// # Panics
/// When the repository cannot be made.
pub fn example(is_encrypted: bool) -> Vec<u8> {
    let backend = Arc::new(MemoryBackend::new());
    let options = CreateOptions {
        password: is_encrypted.then(|| Secret::new(PASSWORD.to_vec())),
        cost: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
        pack_bytes: 1024,
        ..CreateOptions::default()
    };
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let repository =
        open::create(Arc::clone(&backend) as _, &options, &scratch, NOW).expect("creates");
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    for (n, state) in states().iter().enumerate() {
        let name = if n == 3 { "music" } else { "photos" }.parse().expect("a name");
        let tags = vec![format!("tag-{n}")];
        let options = BackupOptions { full: n == 2, tags, ..BackupOptions::default() };
        clock.advance(3_600);
        let report = backup::run(&repository, &name, &source(state), &options, &context);
        assert!(report.expect("a backup").errors.is_empty());
    }
    let photos = repository.dataset(&"photos".parse().expect("a name")).expect("a dataset");
    let last = Selection::Numbers(BTreeSet::from([1.to_string().parse().expect("a number")]));
    let plan = forget::plan(&photos, &last, &|_| 0, &context).expect("a plan");
    forget::execute(&plan, &context).expect("forgets");
    archive(&backend.objects())
}

fn archive(objects: &Objects) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, bytes) in objects {
        out.push(key.as_str().len() as u8);
        out.extend_from_slice(key.as_str().as_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// Returns the objects of an archive.
///
/// # Panics
/// When the archive is damaged.
pub fn objects(is_encrypted: bool) -> Objects {
    let mut bytes = Bytes(ARCHIVES[usize::from(is_encrypted)]);
    let mut objects = Objects::new();
    while !bytes.is_empty() {
        let length = usize::from(bytes.byte());
        let key = String::from_utf8(bytes.take(length).to_vec()).expect("a key");
        let length = [(); 4].map(|()| bytes.byte());
        let content = bytes.take(u32::from_le_bytes(length) as usize).to_vec();
        objects.insert(ObjectKey::new(key).expect("a key"), content);
    }
    objects
}

/// Returns all that stands in a target.
pub fn tree(target: &MemoryTarget) -> Tree {
    let row = |(path, entry): (EntryPath, MemoryEntry)| {
        let content = target.content(&path);
        // Numbers go to files as they come, and no file here has two names.
        (path, (MemoryEntry { inode: 0, ..entry }, content))
    };
    target.entries().into_iter().map(row).collect()
}

/// Restores what nobody has changed, the forgotten backup as well, and looks that each is the
/// state that it was made of.
fn known(is_encrypted: bool) -> Known {
    let mut objects = objects(is_encrypted);
    let count = objects.len();
    objects.retain(|key, _| !key.as_str().ends_with(".hidden"));
    assert_eq!(objects.len(), count - 1, "one is forgotten");
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let repository = open_objects(objects, is_encrypted, &scratch).expect("opens");
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    let mut known = Known::new();
    for (name, states) in [("photos", &states()[..3]), ("music", &states()[3..])] {
        let dataset = repository.dataset(&name.parse().expect("a name")).expect("a dataset");
        let backups = dataset.backups().expect("backups");
        assert_eq!(backups.len(), states.len());
        for (backup, state) in backups.into_iter().zip(states) {
            let place = (dataset.id(), backup.header.number);
            let snapshot = list::snapshot(&dataset, backup).expect("a snapshot");
            let target = MemoryTarget::new();
            let report = restore::run(&snapshot, &target, &RestoreOptions::default(), &context);
            assert!(report.expect("restores").errors.is_empty());
            let tree = tree(&target);
            let kinds = |kind: Kind| tree.values().filter(move |(entry, _)| entry.kind == kind);
            let files = tree.iter().filter_map(|(path, (_, content))| {
                content.as_ref().map(|content| (path.to_string(), content.clone()))
            });
            let wanted = state.iter().map(|(path, content)| ((*path).to_owned(), content.clone()));
            assert!(files.eq(wanted.collect::<BTreeMap<_, _>>()), "{name} {place:?}");
            assert_eq!((kinds(Kind::Symlink).count(), kinds(Kind::Fifo).count()), (1, 1));
            known.insert(place, Arc::new(tree));
        }
    }
    known
}

/// Opens what is stored as a repository.
///
/// # Errors
/// Those of opening one.
pub fn open_objects(
    objects: Objects,
    is_encrypted: bool,
    cache: &CachePlace,
) -> Result<Repository> {
    let backend = Arc::new(MemoryBackend::new());
    objects.into_iter().for_each(|(key, bytes)| backend.insert_raw(&key, bytes));
    let password = is_encrypted.then(|| Secret::new(PASSWORD.to_vec()));
    open::open(backend, password.as_ref(), cache)
}

//! A whole repository whose objects are damaged, exchanged or forged: everything that reads it
//! ends with what is right, or with an error of a documented kind.
//!
//! The repositories stand in `data`, as archives of their objects, one plain and one encrypted: the
//! lowest bit of the first byte says which. The rest are edits: what is done, to which object, and
//! with what. Edits that forge make a right checksum again, or seal other plaintext; what nobody
//! has forged is never restored as something that it was not.

use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::RepositoryId;
use icecore::base::limits::MIB;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::codec::frame;
use icecore::codec::key::Argon2Cost;
use icecore::codec::seal::Sealer;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::forget;
use icecore::engine::forget::Selection;
use icecore::engine::list;
use icecore::engine::list::Depth;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::format::config;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Bytes;

const ARCHIVES: [&[u8]; 2] =
    [include_bytes!("../data/plain.repository"), include_bytes!("../data/encrypted.repository")];
const PASSWORD: &[u8] = b"secret";
const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const EDITS_MAX: usize = 8;
/// What a restore may write, and what a file has that is looked into.
const TARGET_BYTES_MAX: u64 = 16 * MIB as u64;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;
/// Every content that a path ever had.
type Contents = BTreeMap<EntryPath, BTreeSet<Vec<u8>>>;

/// What the archives hold: each state of the source that was backed up.
fn states() -> [Vec<(&'static str, Vec<u8>)>; 4] {
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

fn source(state: &[(&str, Vec<u8>)]) -> MemorySource {
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

fn objects(archive: &[u8]) -> Objects {
    let mut bytes = Bytes(archive);
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

fn contents() -> Contents {
    let mut contents = Contents::new();
    for (path, content) in states().into_iter().flatten() {
        let path = EntryPath::new(path.as_bytes()).expect("a path");
        contents.entry(path).or_default().insert(content);
    }
    contents
}

/// Changes bytes of an object, or of what is sealed in it.
fn change(way: u8, content: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let at = usize::from(bytes.short()) % (content.len() + 1);
    match way {
        0 => {
            let with = bytes.byte().max(1);
            content.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
        }
        1 => content.truncate(at),
        2 => {
            let length = usize::from(bytes.byte());
            let new = bytes.take(length);
            let end = (at + new.len()).min(content.len());
            content.splice(at..end, new.iter().copied());
        }
        3 => {
            let length = usize::from(bytes.byte());
            content.splice(at..at, bytes.take(length).iter().copied());
        }
        _ => {
            let end = (at + usize::from(bytes.byte()) + 1).min(content.len());
            content.drain(at..end);
        }
    }
}

/// Does one edit. Returns whether it forged something.
fn edit(objects: &mut Objects, bytes: &mut Bytes<'_>, id: Option<RepositoryId>) -> bool {
    let how = bytes.byte();
    let which = usize::from(bytes.byte());
    let Some(key) = objects.keys().nth(which % objects.len().max(1)).cloned() else {
        return false;
    };
    let mut content = objects[&key].clone();
    let way = how & 7;
    match way {
        5 => {
            objects.remove(&key);
            return false;
        }
        6 => {
            // Another object's bytes, as a store that mixes them up, or rolls back, gives them.
            let other = usize::from(bytes.byte()) % objects.len();
            let other = objects.values().nth(other).cloned().unwrap_or_default();
            objects.insert(key, other);
            return false;
        }
        7 => {
            let length = usize::from(bytes.byte() & 31);
            let name = String::from_utf8_lossy(bytes.take(length)).into_owned();
            let folder = key.folder().as_str().to_owned();
            if let Ok(new) = ObjectKey::new(format!("{folder}/{name}")) {
                objects.insert(new, content);
            }
            return false;
        }
        _ => {}
    }
    let kind = frame::peek_kind(&content);
    match (how >> 6, kind, id) {
        // Other plaintext, sealed as it should be; without encryption anybody can do that.
        (3, Some(kind), Some(id)) => {
            let sealer = Sealer::new(id, None);
            if let Ok(mut plain) = sealer.open(kind, key.as_str(), &content, MIB) {
                change(way, &mut plain, bytes);
                content = sealer.seal(kind, key.as_str(), &plain).expect("seals");
            }
        }
        // Other bytes behind a right checksum.
        (2, Some(_), _) if content.len() > frame::HEAD_BYTES + frame::CHECKSUM_BYTES => {
            content.truncate(content.len() - frame::CHECKSUM_BYTES);
            change(way, &mut content, bytes);
            content.resize(content.len().max(frame::HEAD_BYTES), 0);
            frame::finish(&mut content);
        }
        _ => change(way, &mut content, bytes),
    }
    objects.insert(key, content);
    how & 0x80 != 0
}

/// Whatever is wrong with the objects, these are the kinds of what is said.
fn is_told<T>(done: Result<T>) -> Option<T> {
    let told = |e: &Error| {
        let fits = matches!(
            e.kind(),
            ErrorKind::Corrupt
                | ErrorKind::NotFound
                | ErrorKind::NoRepository
                | ErrorKind::Password
                | ErrorKind::Unsupported
                | ErrorKind::Denied
                | ErrorKind::InvalidInput
                | ErrorKind::Busy
                | ErrorKind::AlreadyExists
                | ErrorKind::Full
        );
        assert!(fits, "{:?}: {}", e.kind(), e.full_message());
    };
    done.inspect_err(told).ok()
}

/// Reads and restores all backups that are shown. Returns whether all of it worked.
fn read_all(
    repository: &Repository,
    context: &Context<'_>,
    known: Option<&Contents>,
) -> Option<()> {
    let datasets = is_told(repository.shown_datasets())?;
    let mut is_all = datasets.problems.is_empty();
    for dataset in datasets.readable.into_iter().take(4) {
        let Some(backups) = is_told(dataset.shown_backups()) else {
            is_all = false;
            continue;
        };
        is_all &= backups.problems.is_empty();
        for backup in backups.readable.into_iter().take(6) {
            let Some(snapshot) = is_told(list::snapshot(&dataset, backup)) else {
                is_all = false;
                continue;
            };
            let listed = is_told(list::entries(&snapshot, &EntryPath::root(), Depth::Tree));
            let entries = listed.into_iter().flatten().take(1_000);
            is_all &= entries.map(is_told).all(|entry| entry.is_some());
            let target = MemoryTarget::new();
            target.set_bytes_max(Some(TARGET_BYTES_MAX));
            let report =
                is_told(restore::run(&snapshot, &target, &RestoreOptions::default(), context));
            let is_whole = report.is_some_and(|report| report.errors.is_empty());
            is_all &= is_whole;
            if let (true, Some(known)) = (is_whole, known) {
                is_right(&target, known);
            }
        }
    }
    is_all.then_some(())
}

fn is_right(target: &MemoryTarget, known: &Contents) {
    for (path, entry) in target.entries() {
        if entry.kind == Kind::File {
            assert!(entry.size <= TARGET_BYTES_MAX, "{path}");
            let content = target.content(&path).expect("a file");
            let is_known = known.get(&path).is_some_and(|contents| contents.contains(&content));
            assert!(is_known, "{path} is restored as what it never was");
        }
    }
}

fn mend(repository: &Repository, context: &Context<'_>, force: bool) -> Option<()> {
    let options = RepairOptions { read_packs: true, read_data: true, force };
    let plan = is_told(repair::plan(repository, &options, context))?;
    is_told(repair::execute(repository, plan, context)).map(drop)
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let how = bytes.byte();
    let is_encrypted = how & 1 == 1;
    let mut objects = objects(ARCHIVES[usize::from(is_encrypted)]);
    let config = objects.get(&ObjectKey::new("config").expect("a key")).expect("a config");
    let id = config::open(config).expect("a config").0.id;
    let id = (!is_encrypted).then_some(id);
    let mut is_forged = false;
    for _ in 0..EDITS_MAX {
        if !bytes.is_empty() {
            is_forged |= edit(&mut objects, &mut bytes, id);
        }
    }
    let backend = Arc::new(MemoryBackend::new());
    objects.into_iter().for_each(|(key, bytes)| backend.insert_raw(&key, bytes));

    let known = contents();
    let known = (!is_forged).then_some(&known);
    let password = is_encrypted.then(|| Secret::new(PASSWORD.to_vec()));
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let Some(repository) = is_told(open::open(backend, password.as_ref(), &scratch)) else {
        return;
    };
    let clock = FixedClock::new(NOW.plus_seconds(86_400));
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    let options = CheckOptions { read_packs: true, read_data: Some(100.0), dataset: None };
    let report = is_told(check::run(&repository, &options, &context));
    let is_read = read_all(&repository, &context, known).is_some();
    if let Some(report) = report.filter(check::CheckReport::is_ok) {
        assert!(is_read || is_forged, "a check finds nothing: {:?}", report.findings);
    }
    if how & 2 != 0 {
        mend(&repository, &context, how & 4 != 0);
        read_all(&repository, &context, known);
    }
    if how & 8 != 0 {
        let (options, name) = (BackupOptions::default(), "photos".parse().expect("a name"));
        let state = &states()[2];
        is_told(backup::run(&repository, &name, &source(state), &options, &context));
        let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
        is_told(prune::run(&repository, &options, &context));
        read_all(&repository, &context, known);
    }
}

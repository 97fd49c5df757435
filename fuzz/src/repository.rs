//! A whole repository whose objects are damaged, exchanged or forged: everything that reads it
//! ends with what is right, or with an error of a documented kind.
//!
//! The repositories stand in `data`, as archives of their objects, one plain and one encrypted: the
//! lowest bit of the first byte says which. The rest are edits: what is done, to which object, and
//! with what. Edits that forge make a right checksum again, or seal other plaintext; where nobody
//! has forged anything each backup that is restored without an error is exactly what it was.

use icecore::backend::key::ObjectKey;
use icecore::base::cancel::Cancel;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::id::RepositoryId;
use icecore::base::limits::MIB;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::codec::frame;
use icecore::codec::seal::Sealer;
use icecore::engine::Context;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
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
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Bytes;
use super::archives;
use super::archives::FORGOTTEN;
use super::archives::KNOWN;
use super::archives::Known;
use super::archives::NOW;
use super::archives::Objects;
use super::archives::Place;
use super::archives::Tree;
use super::archives::source;
use super::archives::states;
use super::archives::tree;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "cannot be opened",
    "untouched and whole",
    "a check finds something",
    "restored as it was",
    "forged",
    "forged within",
    "mended",
    "whole again",
    "backed up",
    "pruned",
];

const EDITS_MAX: usize = 8;
const EVERYTHING: CheckOptions =
    CheckOptions { read_packs: true, read_data: Some(100.0), dataset: None };
/// What a restore may write, and what a file has that is looked into.
const TARGET_BYTES_MAX: u64 = 16 * MIB as u64;

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
                reach("forged within");
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
    if done.is_err() {
        reach("refused");
    }
    done.inspect_err(told).ok()
}

/// What reading everything gave.
struct Read {
    /// Nothing was in the way.
    is_all: bool,
    /// The backups that were restored without an error.
    whole: BTreeSet<Place>,
}

/// Reads and restores all backups that are shown, and compares them with what they are known for.
fn read_all(repository: &Repository, context: &Context<'_>, known: Option<&Known>) -> Read {
    let mut read = Read { is_all: false, whole: BTreeSet::new() };
    let Some(datasets) = is_told(repository.shown_datasets()) else { return read };
    read.is_all = datasets.problems.is_empty();
    for dataset in datasets.readable.into_iter().take(4) {
        let Some(backups) = is_told(dataset.shown_backups()) else {
            read.is_all = false;
            continue;
        };
        read.is_all &= backups.problems.is_empty();
        // Asked for by number, as a person does: a header may stand where another belongs.
        let shown: BTreeSet<BackupId> =
            backups.readable.iter().take(6).map(|backup| backup.header.number).collect();
        for number in (0..4).map(BackupId).chain(shown.iter().copied()).collect::<BTreeSet<_>>() {
            let place = (dataset.id(), number);
            let found = is_told(address::resolve(&dataset, &Version::Number(number)));
            let Some(snapshot) =
                found.and_then(|found| is_told(list::snapshot(&dataset, found.backup)))
            else {
                read.is_all &= !shown.contains(&number);
                continue;
            };
            let listed = is_told(list::entries(&snapshot, &EntryPath::root(), Depth::Tree));
            let entries = listed.into_iter().flatten().take(1_000);
            read.is_all &= entries.map(is_told).all(|entry| entry.is_some());
            let target = MemoryTarget::new();
            target.set_bytes_max(Some(TARGET_BYTES_MAX));
            let report =
                is_told(restore::run(&snapshot, &target, &RestoreOptions::default(), context));
            let is_whole = report.is_some_and(|report| report.errors.is_empty());
            read.is_all &= is_whole;
            if is_whole {
                read.whole.insert(place);
                if let Some(known) = known {
                    is_right(&target, known.get(&place), &place);
                }
            }
        }
    }
    read
}

/// All of it is there and nothing else, as the backup of that number was made.
fn is_right(target: &MemoryTarget, known: Option<&Arc<Tree>>, place: &Place) {
    let Some(known) = known else { panic!("{place:?} never was, and is restored") };
    let found = tree(target);
    let paths: BTreeSet<&EntryPath> = found.keys().chain(known.keys()).collect();
    for path in paths {
        assert!(found.get(path) == known.get(path), "{place:?}: {path} is not what it was");
    }
    reach("restored as it was");
}

/// A check that finds nothing misses no backup but the newest ones of a dataset: that these were
/// there nothing tells to whom sees the repository for the first time.
fn is_prefix(whole: &BTreeSet<Place>, known: &Known) {
    let hidden = |place: &Place| place.1 == FORGOTTEN;
    for missing in known.keys().filter(|place| !whole.contains(*place) && !hidden(place)) {
        let later = whole.iter().find(|place| place.0 == missing.0 && place.1 > missing.1);
        assert!(later.is_none(), "a check finds nothing, and {missing:?} is not there");
    }
}

/// Repairs. Where it says that no damage is left a check of everything finds none.
fn mend(repository: &Repository, context: &Context<'_>, force: bool, is_forged: bool) {
    let options = RepairOptions { read_packs: true, read_data: true, force };
    let Some(plan) = is_told(repair::plan(repository, &options, context)) else { return };
    let Some(report) = is_told(repair::execute(repository, plan, context)) else { return };
    reach("mended");
    if report.is_whole() && !is_forged {
        let again = check::run(repository, &EVERYTHING, context).expect("no damage is left");
        assert!(again.is_ok(), "no damage is left: {:?}", again.findings);
        if !report.actions.is_empty() {
            reach("whole again");
        }
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let how = bytes.byte();
    let is_encrypted = how & 1 == 1;
    let mut objects = archives::objects(is_encrypted);
    let config = objects.get(&ObjectKey::new("config").expect("a key")).expect("a config");
    let id = config::open(config).expect("a config").0.id;
    let id = (!is_encrypted).then_some(id);
    let pristine = objects.clone();
    let mut is_forged = false;
    for _ in 0..EDITS_MAX {
        if !bytes.is_empty() {
            is_forged |= edit(&mut objects, &mut bytes, id);
        }
    }
    let is_untouched = objects == pristine;
    let mut known = (!is_forged).then(|| KNOWN[usize::from(is_encrypted)].clone());
    let scratch = CachePlace::Scratch(std::env::temp_dir());
    let opened = archives::open_objects(objects, is_encrypted, &scratch);
    let Some(repository) = is_told(opened) else {
        assert!(!is_untouched, "nothing was done to it");
        return reach("cannot be opened");
    };
    let clock = FixedClock::new(NOW.plus_seconds(86_400));
    let context = Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 1 };
    let report = is_told(check::run(&repository, &EVERYTHING, &context));
    let mut read = read_all(&repository, &context, known.as_ref());
    let is_ok = report.as_ref().is_some_and(check::CheckReport::is_ok);
    if is_forged {
        reach("forged");
    }
    if report.is_some() && !is_ok {
        reach("a check finds something");
    }
    if let (true, Some(known)) = (is_ok, &known) {
        assert!(read.is_all, "a check finds nothing: {:?}", report.map(|it| it.findings));
        is_prefix(&read.whole, known);
    }
    if let (true, Some(known)) = (is_untouched, &known) {
        let shown = known.keys().filter(|place| place.1 != FORGOTTEN);
        assert!(is_ok && read.is_all && read.whole.iter().eq(shown), "nothing was done to it");
        reach("untouched and whole");
    }
    if how & 2 != 0 {
        mend(&repository, &context, how & 4 != 0, is_forged);
        read = read_on(&repository, &context, known.as_ref(), &read);
    }
    if how & 8 != 0 {
        let (options, name) = (BackupOptions::default(), "photos".parse().expect("a name"));
        let state = &states()[2];
        let report = is_told(backup::run(&repository, &name, &source(state), &options, &context));
        if let (Some(report), Some(known)) = (report, &mut known) {
            // The dataset may be a new one, where the name of the old one is gone.
            let made = (repository.dataset(&name).expect("a dataset").id(), report.backup);
            let tree = KNOWN[usize::from(is_encrypted)].iter().find(|(place, _)| place.1.0 == 2);
            known.insert(made, Arc::clone(tree.expect("it was made of the same state").1));
            reach("backed up");
        }
        let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
        if is_told(prune::run(&repository, &options, &context)).is_some() {
            reach("pruned");
        }
        read_on(&repository, &context, known.as_ref(), &read);
    }
}

/// Reads everything once more: what was whole is whole still.
fn read_on(
    repository: &Repository,
    context: &Context<'_>,
    known: Option<&Known>,
    before: &Read,
) -> Read {
    let after = read_all(repository, context, known);
    let lost: Vec<&Place> = before.whole.difference(&after.whole).collect();
    assert!(lost.is_empty() || known.is_none(), "{lost:?} were whole before");
    after
}

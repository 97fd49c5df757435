//! What a store takes away from an encrypted repository, or puts rubbish in place of: the rows of
//! guarantees.md, "Who can do what", for floors, leases, tombstones, records of what was lost,
//! parity and names. Beside each of them what is there restores as it was.

use crate::damage::operations::OPERATIONS;
use crate::damage::state;
use crate::damage::state::State;
use crate::damage::state::with_context;
use crate::damage::ways::Case;
use crate::damage::ways::kind_of;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::secret::Secret;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::repair;
use icecore::engine::repair::RepairOptions;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use std::path::Path;
use std::sync::Arc;

/// What `damage` has sealed its repositories with.
const PASSWORD: &[u8] = b"glacier";
const RUBBISH: &[u8] = b"no object of any kind";

/// What a store does with each object of a kind, one at a time.
struct Deed {
    kind: &'static str,
    bytes: Option<&'static [u8]>,
    /// On a machine that has seen it before, and on another.
    is_noticed: [bool; 2],
    /// What stops until a repair by force.
    stops: Stops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// All goes on.
    Nothing,
    Prunes,
    PrunesAndBackups,
    /// The same, as nobody knows which numbers are missing; each that is there restores.
    All,
}

const fn taken(kind: &'static str, is_noticed: [bool; 2], stops: Stops) -> Deed {
    Deed { kind, bytes: None, is_noticed, stops }
}

const fn spoilt(kind: &'static str, stops: Stops) -> Deed {
    Deed { kind, bytes: Some(RUBBISH), is_noticed: [true, true], stops }
}

const DEEDS: [Deed; 10] = [
    taken("floor", [true, true], Stops::All),
    taken("lease", [false, false], Stops::Nothing),
    taken("beat", [false, false], Stops::Nothing),
    taken("tombstone", [false, false], Stops::Nothing),
    taken("lost", [false, false], Stops::Nothing),
    taken("parity", [false, false], Stops::Nothing),
    taken("renaming", [false, false], Stops::Nothing),
    spoilt("lease", Stops::Prunes),
    spoilt("tombstone", Stops::PrunesAndBackups),
    spoilt("parity", Stops::Nothing),
];

fn open_with(backend: &Arc<MemoryBackend>, cache: &Path) -> Result<Repository> {
    let backend = Arc::clone(backend) as Arc<dyn Backend>;
    let place = CachePlace::Kept(cache.into());
    open::open(backend, Some(&Secret::new(PASSWORD.into())), &place)
}

/// Says whether a look at all backups and a check of all data find nothing wrong.
fn is_content(repository: &Repository) -> bool {
    let listed = repository.datasets().and_then(|sets| {
        sets.iter().try_for_each(|set| set.backups().map(drop))?;
        Ok(sets.len())
    });
    let options = CheckOptions { read_data: Some(100.0), ..CheckOptions::default() };
    let checked = with_context(|context| check::run(repository, &options, context));
    listed.is_ok_and(|sets| sets > 0) && checked.is_ok_and(|report| report.is_ok())
}

fn prune(repository: &Repository) -> Result<()> {
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    with_context(|context| prune::run(repository, &options, context)).map(drop)
}

fn back_up(repository: &Repository, state: &State) -> Result<()> {
    let (set, options) = (state::name("photos"), BackupOptions::default());
    with_context(|context| backup::run(repository, &set, &state.source, &options, context))
        .map(drop)
}

/// A person's word that nobody is at work puts an end to what stopped.
fn repair(repository: &Repository) {
    let options = RepairOptions { read_packs: false, read_data: true, force: true };
    let done = with_context(|context| {
        let plan = repair::plan(repository, &options, context)?;
        repair::execute(repository, plan, context)
    });
    assert!(done.unwrap().unrepaired.is_empty());
}

/// Judges one object that is gone or spoilt.
fn judge(state: &State, deed: &Deed, key: &ObjectKey) {
    let what = format!("{key}, {} {:?}", deed.kind, deed.stops);
    let backend = Arc::new(state.backend.clone_state());
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    assert!(is_content(&open_with(&backend, caches[0].path()).unwrap()), "it was sound");
    let bytes = deed.bytes.map(<[u8]>::to_vec);
    let case = Case { kind: "deed", way: "deed", changes: vec![(key.clone(), bytes)] };
    case.apply(&backend);

    let found =
        caches.each_ref().map(|cache| !is_content(&open_with(&backend, cache.path()).unwrap()));
    assert_eq!(found, deed.is_noticed, "{what}: on a machine that has seen it, on another");
    let restored = crate::damage::run(state, &case, &backend, &OPERATIONS[0]);
    assert_eq!(restored.complaints, [""; 0], "{what}");
    // The name alone of the other one was changed, so `damage` does not find it by the old one.
    let photos = state.visible.iter().filter(|label| label.0 == "photos");
    let lacks: Vec<_> = photos.filter(|label| !restored.restored.contains(label)).collect();
    assert!(lacks.is_empty(), "{what}: {lacks:?} do not restore by their numbers");

    let other = open_with(&backend, caches[1].path()).unwrap();
    let done = [prune(&other), back_up(&other, state)];
    let stopped = done.map(|done| done.err().map(|error| error.kind()));
    let corrupt = Some(ErrorKind::Corrupt);
    let wanted = match deed.stops {
        Stops::Nothing => [None, None],
        Stops::Prunes => [corrupt, None],
        Stops::PrunesAndBackups | Stops::All => [corrupt, corrupt],
    };
    assert_eq!(stopped, wanted, "{what}: a prune, a backup");
    if deed.stops != Stops::Nothing {
        repair(&other);
        let again = open_with(&backend, caches[1].path()).unwrap();
        prune(&again).and_then(|()| back_up(&again, state)).unwrap();
    }
}

#[test]
fn what_a_store_takes_away_or_spoils_costs_what_is_said_and_no_backup() {
    let mut state = state::build(true, true, true);
    let backend = Arc::new(state.backend.clone_state());
    let cache = tempfile::tempdir().unwrap();
    let repository = open_with(&backend, cache.path()).unwrap();
    // The newest name of a dataset; without it the one before counts.
    let (music, songs) = (state::name("music"), state::name("songs"));
    repository.rename(&music, &songs, state::NOW).unwrap();
    let renaming = repository.name_folder(&music).unwrap().object("1").unwrap();
    state.backend = backend.clone_state();
    let mut tried = 0;
    for deed in &DEEDS {
        let objects = state.backend.objects();
        let is_meant = |(key, bytes): &(&ObjectKey, &Vec<u8>)| match deed.kind {
            "renaming" => **key == renaming,
            kind => kind_of(key, bytes) == kind,
        };
        let keys: Vec<&ObjectKey> =
            objects.iter().filter(is_meant).map(|(key, _)| key).take(2).collect();
        assert!(!keys.is_empty(), "{} is there", deed.kind);
        tried += keys.len();
        keys.into_iter().for_each(|key| judge(&state, deed, key));
    }
    eprintln!("{tried} objects were taken away or spoilt");
}

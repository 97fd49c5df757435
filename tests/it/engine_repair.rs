//! Repair: whatever one object is lost or damaged, what can be derived comes back, the rest is
//! named, and nothing is made worse.

use crate::engine_check;
use crate::engine_check::flip;
use crate::engine_check::world::NOW;
use crate::engine_check::world::World;
use crate::engine_check::world::add_small_objects;
use crate::engine_check::world::name;
use crate::engine_check::world::world;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::engine::Context;
use icecore::engine::check::Severity;
use icecore::engine::list;
use icecore::engine::repair;
use icecore::engine::repair::ActionKind;
use icecore::engine::repair::RepairOptions;
use icecore::engine::repair::RepairPlan;
use icecore::engine::repair::RepairReport;
use icecore::repository::Repository;
use icecore::repository::layout;
use icecore::repository::transaction;
use std::collections::BTreeSet;

mod heal;
mod kill;
mod small;
mod unread;

pub(crate) const FORCE: RepairOptions =
    RepairOptions { read_packs: false, read_data: false, force: true };
pub(crate) const DATA: RepairOptions =
    RepairOptions { read_packs: false, read_data: true, force: true };

pub(crate) fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let clock = FixedClock::new(NOW);
    work(&Context { progress: &Silent, cancel: &Cancel::new(), clock: &clock, threads: 2 })
}

pub(crate) fn plan(repository: &Repository, options: &RepairOptions) -> Result<RepairPlan> {
    with_context(|context| repair::plan(repository, options, context))
}

pub(crate) fn try_run(repository: &Repository, options: &RepairOptions) -> Result<RepairReport> {
    with_context(|context| {
        let plan = repair::plan(repository, options, context)?;
        repair::execute(repository, plan, context)
    })
}

pub(crate) fn run(repository: &Repository, options: &RepairOptions) -> RepairReport {
    try_run(repository, options).expect("repairs")
}

pub(crate) fn kinds(report: &RepairReport) -> Vec<ActionKind> {
    report.actions.iter().map(|action| action.kind).collect()
}

/// Reads a backup from end to end and compares it with what was put into it.
pub(crate) fn reads_whole(repository: &Repository, world: &World, label: &str) -> Result<()> {
    let (dataset, n) = label.split_once('@').expect("a label");
    let n = BackupId(n.parse().expect("a number"));
    // A dataset may have got another name by a repair.
    let id = world.id(dataset);
    let datasets = repository.shown_datasets()?.readable;
    let found = datasets.into_iter().find(|it| it.id() == id);
    let dataset = found.ok_or_else(|| icecore::base::error::Error::corrupt("no such dataset"))?;
    let snapshot = list::snapshot(&dataset, transaction::visible(&dataset, n)?)?;
    let mut entries = BTreeSet::new();
    for tracked in snapshot.entries() {
        let entry = tracked?.entry;
        if let Some(file) = entry.file() {
            for run in repository.runs_of(file)? {
                repository.read_block(&run.block, &[(run.first, run.count)])?;
            }
        }
        assert_eq!(world.trees[label].get(&entry.path), Some(&entry), "nothing false is read");
        entries.insert(entry.path);
    }
    assert_eq!(entries.len(), world.trees[label].len());
    Ok(())
}

/// Returns the backups that cannot be read whole.
pub(crate) fn hurt(repository: &Repository, world: &World) -> BTreeSet<String> {
    let labels = world.trees.keys();
    labels.filter(|label| reads_whole(repository, world, label).is_err()).cloned().collect()
}

pub(crate) fn named(report: &RepairReport) -> BTreeSet<String> {
    let lost = report.lost.iter().map(|loss| loss.backup.clone());
    lost.chain(report.unrepaired.iter().flat_map(|finding| finding.backups.clone())).collect()
}

/// A copy that is damaged before it is opened anew, so that no cache helps.
pub(crate) fn damaged(
    world: &World,
    damage: impl FnOnce(&MemoryBackend),
) -> (std::sync::Arc<MemoryBackend>, Repository) {
    let (backend, repository) = world.copy();
    damage(&backend);
    (backend, repository)
}

fn lose(backend: &MemoryBackend, key: &ObjectKey) {
    assert!(backend.remove_raw(key), "{key} was there");
}

/// Damages the checksum at the end of an object, and nothing else.
pub(crate) fn flip_end(backend: &MemoryBackend, key: &ObjectKey) {
    let length = backend.objects()[key].len();
    flip(backend, key, length - 3);
}

/// What is done to an object; None when that is nothing.
fn ways(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let flipped = |at: usize| {
        let mut bytes = bytes.to_vec();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 0x10;
        Some(bytes)
    };
    let cut = Some(bytes[..bytes.len() / 2].to_vec());
    let longer = Some([bytes, b"x"].concat());
    vec![None, flipped(40), flipped(200), flipped(usize::MAX), cut, longer]
}

#[test]
fn whatever_one_object_is_lost_or_damaged_all_that_can_be_derived_comes_back() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        add_small_objects(&world);
        for (nth, (key, bytes)) in world.backend.objects().into_iter().enumerate() {
            let slot = key.as_str().starts_with("keys/");
            if key.as_str() == "config" || slot {
                continue;
            }
            // The newest that is gone looks like one that never was.
            let newest =
                [world.header_key("photos", 5), world.header_key("music", 0)].contains(&key);
            for (way, bytes) in ways(&bytes).into_iter().enumerate().skip(usize::from(newest)) {
                // Every object is lost once; of the other ways each object has its turn.
                if way > 0 && way % 3 != nth % 3 {
                    continue;
                }
                let (backend, repository) = damaged(&world, |backend| match bytes {
                    None => lose(backend, &key),
                    Some(bytes) => backend.insert_raw(&key, bytes),
                });
                let what = format!("{key} by way {way}");
                let before = backend.objects();
                list::shown_datasets(&repository, None).unwrap_or_else(|e| panic!("{what}: {e:?}"));

                let planned = plan(&repository, &DATA).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                assert_eq!(backend.objects(), before, "a plan changes nothing: {what}");
                let report = run(&repository, &DATA);
                assert_eq!(planned.actions.len(), report.actions.len(), "{what}");

                let checked = engine_check::run(&repository, &engine_check::data());
                assert_eq!(
                    checked.is_ok(),
                    report.unrepaired.is_empty(),
                    "{what}: {report:?} {:?}",
                    checked.findings
                );
                let hurt = hurt(&repository, &world);
                assert!(named(&report).is_superset(&hurt), "{what}: {hurt:?} {report:?}");
                // Of an index, and of what is behind the blocks of a pack, all can be derived.
                let is_end = way == 3 && key.as_str().starts_with("packs/");
                if is_end || key.as_str().starts_with("index/") {
                    assert!(report.is_whole() && hurt.is_empty(), "{what}: {hurt:?} {report:?}");
                }
                let again = run(&repository, &DATA);
                assert_eq!(kinds(&again), [], "{what}: {again:?}");
                assert_eq!(again.lost, [], "{what}");
                repair_never_removes_what_can_be_read(&before, &backend, &what);
                world_goes_on(&repository, &what);
            }
        }
    }
}

/// Every object of before that is gone could not be read.
fn repair_never_removes_what_can_be_read(
    before: &std::collections::BTreeMap<ObjectKey, Vec<u8>>,
    backend: &MemoryBackend,
    what: &str,
) {
    let after = backend.objects();
    for (key, bytes) in before {
        match after.get(key) {
            Some(there) => assert_eq!(there, bytes, "{what} changed {key}"),
            None => {
                let body = bytes.len().saturating_sub(32);
                let sum = icecore::base::hash::hash(&bytes[..body]);
                assert_ne!(sum[..], bytes[body..], "{what} removed {key}");
            }
        }
    }
}

/// A backup can be made of every dataset.
fn world_goes_on(repository: &Repository, what: &str) {
    for dataset in repository.datasets().unwrap_or_else(|e| panic!("{what}: {e:?}")) {
        let source = icecore::source::memory::MemorySource::new("new").file("n", b"new");
        let options = icecore::engine::backup::BackupOptions {
            dataset_was_named: true,
            full: true,
            ..Default::default()
        };
        let made = with_context(|context| {
            icecore::engine::backup::run(repository, dataset.name(), &source, &options, context)
        });
        made.unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
}

#[test]
fn a_sound_repository_needs_nothing() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        add_small_objects(&world);
        let before = world.backend.objects();
        for options in [RepairOptions::default(), DATA] {
            let report = run(&world.repository, &options);
            assert_eq!(kinds(&report), []);
            assert!(report.is_whole());
        }
        assert_eq!(world.backend.objects(), before);
    }
}

#[test]
fn all_indexes_are_made_again_from_the_packs() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        let indexes = |backend: &MemoryBackend| -> Vec<ObjectKey> {
            let keys = backend.objects().into_keys();
            keys.filter(|key| key.as_str().starts_with("index/")).collect()
        };
        let (_, gone) = damaged(&world, |b| indexes(b).iter().for_each(|key| lose(b, key)));
        let (_, bad) = damaged(&world, |b| indexes(b).iter().for_each(|key| flip(b, key, 300)));
        for (repository, dooms) in [(gone, false), (bad, true)] {
            let report = run(&repository, &RepairOptions::default());
            assert!(report.is_whole(), "{report:?}");
            assert!(kinds(&report).contains(&ActionKind::Index));
            assert_eq!(kinds(&report).contains(&ActionKind::Doom), dooms);
            assert_eq!(hurt(&repository, &world), BTreeSet::new());
            let checked = engine_check::run(&repository, &engine_check::data());
            assert!(checked.is_ok(), "{:?}", checked.findings);
        }
    }
}

#[test]
fn a_bad_pack_that_no_index_names_is_known_by_its_footer() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        let bad = world.pack_of("music@0", "x");
        let (_, repository) = damaged(&world, |backend| {
            let keys = backend.objects().into_keys();
            keys.filter(|key| key.as_str().starts_with("index/"))
                .for_each(|key| lose(backend, &key));
            flip(backend, &bad, 500);
            flip_end(backend, &world.pack_of("photos@4", "g"));
        });

        let report = run(&repository, &RepairOptions { read_packs: true, ..Default::default() });

        assert_eq!(report.unrepaired, [], "{report:?}");
        assert!(kinds(&report).contains(&ActionKind::Doom), "{report:?}");
        assert_eq!(named(&report), BTreeSet::from(["music@0".to_owned()]));
        assert_eq!(hurt(&repository, &world), named(&report));
        let checked = engine_check::run(&repository, &engine_check::data());
        assert!(checked.is_ok(), "{:?}", checked.findings);
    }
}

#[test]
fn packs_of_a_writer_at_work_are_left_alone() {
    let world = world(false);
    let (backend, repository) = damaged(&world, |_| {});
    let dataset = repository.dataset(&name("music")).expect("there");
    let writing = transaction::Transaction::begin(&dataset, NOW).expect("begins");
    // It has put a pack, and no index yet.
    let before: BTreeSet<ObjectKey> = backend.objects().into_keys().collect();
    world.copy_blocks_of(&world.pack_of("music@0", "x").name().parse().expect("an id"));
    let there = world.backend.objects();
    let pack =
        there.iter().find(|(key, _)| key.as_str().starts_with("packs/") && !before.contains(*key));
    let (key, bytes) = pack.expect("a new pack");
    backend.insert_raw(key, bytes.clone());

    let report = run(&repository, &DATA);

    assert_eq!(kinds(&report), [], "{report:?}");
    writing.abandon();
}

#[test]
fn the_good_blocks_of_a_bad_pack_are_copied_and_the_pack_is_doomed() {
    for is_encrypted in [false, true] {
        let mut world = World::new(is_encrypted);
        world.back_up("photos", true, &["a", "b"], &[]);
        // The footer is what is damaged, and with it the checksum; every block is good.
        let key = world.pack_of("photos@0", "a");
        let (_, repository) = damaged(&world, |b| flip_end(b, &key));

        let report = run(&repository, &RepairOptions { read_packs: true, ..Default::default() });

        assert!(report.is_whole(), "{report:?}");
        assert_eq!(kinds(&report), [ActionKind::Salvage, ActionKind::Doom]);
        assert_eq!(hurt(&repository, &world), BTreeSet::new());
        let id = key.name().parse().expect("an id");
        let doomed = icecore::repository::doom::Tombstones::list(repository.store());
        assert!(doomed.expect("lists").packs().contains(&id));
        let block = world.trees["photos@0"][&crate::engine_check::world::path("a")]
            .file()
            .expect("a file")
            .content
            .direct()[0]
            .block;
        let copies = repository.locate_block(&block).expect("located");
        assert!(copies.iter().any(|copy| copy.pack.pack != id), "a new copy");
        let checked = engine_check::run(&repository, &engine_check::data());
        assert!(checked.is_ok(), "{:?}", checked.findings);
        let garbage = checked.findings.iter().find(|finding| finding.object == key.as_str());
        assert_eq!(garbage.expect("named").severity, Severity::Garbage);
    }
}

#[test]
fn a_bad_copy_beside_a_good_one_is_doomed_without_a_copy() {
    let world = world(false);
    let key = world.pack_of("music@0", "x");
    world.copy_blocks_of(&key.name().parse().expect("an id"));
    let (_, repository) = damaged(&world, |b| flip(b, &key, 500));

    let report = run(&repository, &DATA);

    assert!(report.is_whole(), "{report:?}");
    assert_eq!(kinds(&report), [ActionKind::Doom]);
    assert_eq!(hurt(&repository, &world), BTreeSet::new());
}

#[test]
fn lost_content_is_declared_and_a_check_is_clean_but_names_who_suffers() {
    for is_encrypted in [false, true] {
        let world = world(is_encrypted);
        let key = world.pack_of("photos@0", "b");
        let (backups, paths) = world.users_of(&key);
        for way in [0, 1] {
            let (_, repository) = damaged(&world, |b| match way {
                0 => lose(b, &key),
                _ => flip(b, &key, 500),
            });

            let report = run(&repository, &DATA);

            assert!(!report.is_whole());
            assert_eq!(report.unrepaired, []);
            assert_eq!(named(&report), backups);
            let lost: BTreeSet<String> =
                report.lost.iter().flat_map(|loss| loss.paths.clone()).collect();
            assert_eq!(lost, paths);
            for options in [engine_check::structure(), engine_check::data()] {
                let checked = engine_check::run(&repository, &options);
                assert!(checked.is_ok(), "{:?}", checked.findings);
                let note = checked.findings.iter().find(|it| it.object.starts_with("lost/"));
                let note = note.expect("a note");
                assert_eq!(note.severity, Severity::Note);
                assert_eq!(note.backups, backups.iter().cloned().collect::<Vec<_>>());
                assert_eq!(note.paths, paths.iter().cloned().collect::<Vec<_>>());
            }
            assert_eq!(hurt(&repository, &world), backups);
        }
    }
}

#[test]
fn a_pack_that_comes_back_is_taken_in_again() {
    let world = world(false);
    let key = world.pack_of("photos@0", "b");
    let bytes = world.backend.objects()[&key].clone();
    let (backend, repository) = damaged(&world, |b| lose(b, &key));
    assert!(!run(&repository, &DATA).is_whole());
    backend.insert_raw(&key, bytes);

    let report = run(&repository, &DATA);

    assert_eq!(kinds(&report), [ActionKind::Index, ActionKind::Remove], "{report:?}");
    assert!(report.is_whole());
    assert_eq!(hurt(&repository, &world), BTreeSet::new());
    let lost = layout::folder("lost").expect("a folder");
    assert_eq!(repository.store().names_below(&lost).expect("lists"), []);
}

#[test]
fn a_store_without_its_packs_is_not_repaired_unless_forced() {
    let world = world(false);
    let (backend, repository) = damaged(&world, |backend| {
        let keys = backend.objects().into_keys();
        keys.filter(|key| key.as_str().starts_with("packs/")).for_each(|key| lose(backend, &key));
    });
    let before = backend.objects();

    let error = try_run(&repository, &RepairOptions::default()).expect_err("refused");

    assert!(error.to_string().contains("is the whole store shown?"), "{error:?}");
    assert_eq!(backend.objects(), before);
    let report = run(&repository, &FORCE);
    assert_eq!(named(&report), world.trees.keys().cloned().collect());
}

#[test]
fn an_index_that_tells_otherwise_than_its_packs_is_replaced() {
    let world = world(false);
    let pack = world.pack_of("music@0", "x").name().parse().expect("an id");
    let (_, repository) = damaged(&world, |_| {});
    repository.refresh_index().expect("loads");
    let index = repository.index();
    let names_it =
        |id: &&icecore::base::id::IndexId| index.packs_of(id).iter().any(|it| it.pack == pack);
    let ids = index.ids();
    let id = ids.iter().find(names_it).expect("an index names it");
    let packs = index.packs_of(id);
    let mut rows = Vec::new();
    let visited = index.visit(id, &mut |location| {
        let number = packs.iter().position(|it| it.pack == location.pack.pack).expect("listed");
        let mut row = location.row;
        row.offset += u32::from(location.pack.pack == pack);
        rows.push((number as u32, row));
        Ok(())
    });
    visited.expect("visits");
    let rows: Vec<_> = rows.iter().map(|(n, row)| (*n, row)).collect();
    let lease = icecore::base::id::LeaseId::new([0; 16]);
    index.put(repository.store(), repository.cache(), lease, &packs, &rows).expect("puts");
    repository.store().delete(&layout::index(id).expect("a key")).expect("deletes");
    repository.refresh_index().expect("loads");

    let report = run(&repository, &DATA);

    assert!(report.is_whole(), "{report:?}");
    assert_eq!(kinds(&report), [ActionKind::ReplaceIndex]);
    assert_eq!(hurt(&repository, &world), BTreeSet::new());
    let checked = engine_check::run(&repository, &engine_check::data());
    assert!(checked.is_ok(), "{:?}", checked.findings);
}

#[test]
fn a_prune_frees_what_was_replaced_and_nothing_is_left_to_find() {
    for is_encrypted in [false, true] {
        let mut world = World::new(is_encrypted);
        world.back_up("photos", true, &["a", "b"], &[]);
        world.back_up("photos", false, &["c"], &[]);
        let bad = world.pack_of("photos@0", "a");
        let indexes: Vec<ObjectKey> = world
            .backend
            .objects()
            .into_keys()
            .filter(|key| key.as_str().starts_with("index/"))
            .collect();
        for (index, is_lost) in indexes.iter().flat_map(|it| [(it, false), (it, true)]) {
            let (backend, repository) = damaged(&world, |backend| {
                match is_lost {
                    true => flip(backend, &bad, 500),
                    false => flip_end(backend, &bad),
                }
                flip(backend, index, 300);
            });
            let report = run(&repository, &DATA);
            let expected = hurt(&repository, &world);
            assert!(named(&report).is_superset(&expected), "{report:?}");

            let options =
                icecore::engine::prune::PruneOptions { force: true, ..Default::default() };
            let pruned =
                with_context(|context| icecore::engine::prune::run(&repository, &options, context));
            pruned.expect("prunes");

            let objects = backend.objects();
            assert!(!objects.contains_key(&bad) && !objects.contains_key(index));
            assert_eq!(hurt(&repository, &world), expected);
            let checked = engine_check::run(&repository, &engine_check::data());
            let left = checked.findings.iter().filter(|it| !it.object.starts_with("lost/"));
            assert_eq!(left.count(), 0, "{:?}", checked.findings);
        }
    }
}

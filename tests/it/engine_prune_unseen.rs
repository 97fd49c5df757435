//! Prune where places or objects are not seen: by a listing, at a look, in a thinned copy. Nothing
//! that is needed goes or is hidden.

use crate::support::pruning::all_rows;
use crate::support::pruning::assert_sound;
use crate::support::pruning::full_backup;
use crate::support::pruning::keys;
use crate::support::pruning::remove_packs;
use crate::support::pruning::thin;
use crate::support::pruning::try_prune;
use crate::support::restored::assert_holds;
use crate::support::restored::options;
use crate::support::restored::restore;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::IndexId;
use icecore::base::id::LeaseId;
use icecore::repository::doom;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Text that compresses, so that it is cut finely.
fn text(length: usize, seed: u64) -> Vec<u8> {
    noise(length / 2, seed).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[test]
fn a_file_of_a_dead_backup_is_read_again_when_places_within_its_runs_are_gone() {
    let mut world = World::memory();
    let mut content = text(28 << 20, 1);
    let other = world.elsewhere();
    let other_source = MemorySource::new("o").file("x", &content);
    other.backup("other", &other_source, false);
    let shared = all_rows(&world.repository);
    for at in (20_000..content.len()).step_by(48_000) {
        content[at] = b'!';
    }
    let source = MemorySource::new("s").file("big", &content);
    for n in 0..8_000 {
        source.put_file(format!("t{n:04}"), format!("{n}"));
    }
    let mut ends: BTreeSet<(_, u32)> = BTreeSet::new();
    {
        // What the backup will lean on, as told by one that is whole.
        let mut whole = World::memory();
        whole.backend = Arc::new(world.backend.clone_state());
        whole.forget_caches();
        whole.backup(&source).unwrap();
        let path = icecore::base::path::EntryPath::new(b"big").unwrap();
        let tracked = whole.snapshot(0).entry(&path).unwrap().unwrap();
        let runs = whole.repository.runs_of(tracked.entry.file().unwrap()).unwrap();
        assert!(runs.len() > 1024, "{} are too few for lists", runs.len());
        assert!(runs.iter().any(|run| run.count > 2));
        for run in runs {
            ends.insert((run.block, run.first));
            ends.insert((run.block, run.first + run.count - 1));
        }
    }
    source.take_opened();
    world.wrap_cancel_after(&source, 7_900);
    world.cancel_again();
    // A prune has meanwhile kept of the shared blocks what others need.
    thin(&world.repository, &shared, &|location, place| {
        ends.contains(&(location.row.block, place))
    });
    remove_packs(&world, &shared);

    let before = source.opened_count();
    world.backup(&source).unwrap();

    let opened = source.opened_count() - before;
    assert!(opened < 7_000, "{opened}: it went on with what was stored");
    world.forget_caches();
    assert!(world.content(0, "big") == content);
}

#[test]
fn places_of_one_run_in_two_copies_are_read_from_both() {
    let mut world = World::memory();
    let content = text(300_000, 3);
    world.backup(&MemorySource::new("s").file("a", &content).file("b", b"b")).unwrap();
    let rows = all_rows(&world.repository);
    thin(&world.repository, &rows, &|_, place| place % 2 == 0);
    thin(&world.repository, &rows, &|_, place| place % 2 == 1);
    remove_packs(&world, &rows);
    world.forget_caches();

    assert_sound(&world);
    let target = MemoryTarget::new();
    let verified = icecore::engine::restore::RestoreOptions { verify: true, ..options() };
    restore(&world, 0, &target, &verified);
    assert_holds(&world, 0, &target);
}

#[test]
fn an_index_object_that_is_not_seen_stops_a_prune_where_others_name_a_thinned_copy_only() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("big", noise(900_000, 7));
    world.backup(&source).unwrap();
    let before: BTreeSet<IndexId> = world.repository.index().ids().into_iter().collect();
    for n in 0..10_u64 {
        source.put_file(format!("f{n}"), noise(20_000, n + 1));
    }
    world.backup(&source).unwrap();
    let rows = all_rows(&world.repository);
    let ids: BTreeSet<IndexId> = world.repository.index().ids().into_iter().collect();
    let second: Vec<IndexId> = ids.difference(&before).copied().collect();
    thin(&world.repository, &rows, &|_, place| place % 2 == 0);
    let odd = world.make_odd();
    let unseen: Vec<String> =
        second.iter().map(|id| layout::index(id).unwrap().to_string()).collect();
    odd.hide(move |key| unseen.iter().any(|unseen| unseen == key));

    let error = try_prune(&world, false).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    odd.behave();
    world.forget_caches();
    assert_eq!(world.sound_backups(), 2);
}

#[test]
fn a_doomed_pack_that_a_listing_lacks_keeps_its_rows() {
    keeps_rows_when_hidden(Operation::Put, &["packs/"]);
}

#[test]
fn so_does_one_whose_tombstone_is_not_listed_either_any_more() {
    keeps_rows_when_hidden(Operation::Get, &["packs/", "tombstones/"]);
}

/// Prunes while a store stops listing what lies in `folders` once a tombstone was put or read.
fn keeps_rows_when_hidden(once: Operation, folders: &'static [&'static str]) {
    let (mut world, _) = World::with_dead_files(40, 30);
    let odd = world.make_odd();
    let is_doomed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_doomed);
    odd.between(move |operation, key| {
        let dooms = operation == once && key.starts_with("tombstones/");
        seen.fetch_or(dooms, Ordering::Relaxed);
        true
    });
    odd.hide(move |key| {
        is_doomed.load(Ordering::Relaxed) && folders.iter().any(|folder| key.starts_with(folder))
    });

    let report = try_prune(&world, false).unwrap();

    assert!(!report.stuck.is_empty(), "{report:?}");
    odd.behave();
    world.forget_caches();
    assert_eq!(world.sound_backups(), 1);
    let report = try_prune(&world, false).unwrap();
    assert!(report.stuck.is_empty() && report.packs_deleted > 0, "{report:?}");
    assert_sound(&world);
}

#[test]
fn an_index_object_that_a_listing_lacks_is_not_deleted_with_its_rows() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("a", noise(30_000, 1));
    world.backup(&source).unwrap();
    source.put_file("large", noise(2_000_000, 2));
    world.backup(&source).unwrap();
    source.remove("large");
    world.backup(&source).unwrap();
    world.hide(1);
    let odd = world.make_odd();
    let old = keys(&world, "index/");
    let is_deleting = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_deleting);
    odd.between(move |operation, key| {
        let deletes = operation == Operation::Delete && key.starts_with("packs/");
        seen.fetch_or(deletes, Ordering::Relaxed);
        true
    });
    odd.hide(move |key| is_deleting.load(Ordering::Relaxed) && old.iter().any(|old| old == key));

    let error = try_prune(&world, false).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    odd.behave();
    world.forget_caches();
    assert_eq!(world.sound_backups(), 2);
    try_prune(&world, false).unwrap();
    assert_eq!(world.sound_backups(), 2);
    assert_sound(&world);
}

/// Backup 0 alone has `a`, 1 is forgotten and retired, 2 is the newest.
fn with_floor(class_b: bool) -> (World, MemorySource) {
    let world = if class_b { World::class_b() } else { World::memory() };
    let source = MemorySource::new("s").file("a", noise(300_000, 1)).file("k", noise(900_000, 4));
    world.backup(&source).unwrap();
    source.remove("a");
    source.put_file("b", noise(50_000, 2));
    full_backup(&world, &source);
    source.remove("b");
    full_backup(&world, &source);
    world.hide(1);
    let report = try_prune(&world, false).unwrap();
    assert_eq!(report.headers_retired, 1, "{report:?}");
    (world, source)
}

#[test]
fn a_header_below_the_floor_that_a_listing_lacks_stops_a_prune() {
    for class_b in [false, true] {
        let (mut world, _) = with_floor(class_b);
        let odd = world.make_odd();
        odd.hide(|key| {
            let name = key.rsplit('/').next().unwrap_or("");
            key.starts_with("datasets/") && (name == "0" || name.starts_with("0-"))
        });

        let error = try_prune(&world, false).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        odd.behave();
        world.forget_caches();
        assert_eq!(world.sound_backups(), 2);
        assert_eq!(world.content(0, "a"), noise(300_000, 1));
    }
}

#[test]
fn a_header_that_remains_below_the_floor_and_is_not_found_is_not_taken_for_retired() {
    for class_b in [false, true] {
        let (mut world, _) = with_floor(class_b);
        let odd = world.make_odd();
        odd.lose(|key| {
            let name = key.rsplit('/').next().unwrap_or("");
            key.starts_with("datasets/") && (name == "0" || name.starts_with("0-"))
        });

        let error = try_prune(&world, true).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        let dataset = world.repository.dataset(&world.name()).unwrap();
        assert!(dataset.backups().is_err(), "it is not one that never was");
        odd.behave();
        world.forget_caches();
        assert_eq!(world.sound_backups(), 2);
        assert_eq!(world.content(0, "a"), noise(300_000, 1));
    }
}

#[test]
fn whoever_lists_numbers_while_a_floor_rises_sees_them_all() {
    // Between the top of the dataset and its numbers, and between the floor's name and its bytes.
    for between in ["list numbers", "get floor"] {
        let (mut world, source) = with_floor(false);
        source.put_file("d", noise(1000, 5));
        full_backup(&world, &source);
        let odd = world.make_odd();
        let elsewhere = world.elsewhere();
        odd.between(move |operation, key| {
            let is_now = match operation {
                Operation::List => {
                    between == "list numbers" && key.starts_with("datasets/") && key.ends_with("/0")
                }
                Operation::Get => between == "get floor" && key.contains("/floor-"),
                _ => false,
            };
            if is_now {
                elsewhere.hide(2);
                assert_eq!(elsewhere.prune().headers_retired, 1);
            }
            !is_now
        });

        assert_eq!(world.sound_backups(), 2, "{between}");
    }
}

#[test]
fn blocks_are_found_while_index_objects_are_replaced_again_and_again() {
    let mut world = World::memory();
    world.backup(&MemorySource::new("s").file("a", noise(100_000, 1))).unwrap();
    let odd = world.make_odd();
    let (elsewhere, backend) = (world.elsewhere(), Arc::clone(&world.backend));
    let mut times = 0;
    odd.between(move |operation, key| {
        if operation == Operation::Get && key.starts_with("index/") && times < 4 {
            times += 1;
            let rows = all_rows(&elsewhere.repository);
            let old = elsewhere.repository.index().ids();
            let packs: Vec<_> = rows.iter().map(|location| location.pack).collect();
            let packs: Vec<_> =
                packs.iter().filter(|pack| pack.pack == packs[0].pack).take(1).copied().collect();
            let numbered: Vec<_> = rows.iter().map(|location| (0, &location.row)).collect();
            let (store, cache) = (elsewhere.repository.store(), elsewhere.repository.cache());
            let lease = LeaseId::new([0; 16]);
            elsewhere.repository.index().put(store, cache, lease, &packs, &numbered).unwrap();
            for id in old {
                backend.remove_raw(&layout::index(&id).unwrap());
            }
        }
        true
    });

    assert_eq!(world.content(0, "a"), noise(100_000, 1));
}

#[test]
fn a_doomed_pack_whose_index_a_listing_lacks_is_not_taken_for_empty() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("k", noise(30_000, 1));
    world.backup(&source).unwrap();
    let (first, indexes) = (all_rows(&world.repository), keys(&world, "index/"));
    source.put_file("a", noise(300_000, 2));
    world.backup(&source).unwrap();
    let before = all_rows(&world.repository);
    let rows: Vec<_> = before.iter().filter(|row| !first.contains(row)).cloned().collect();
    let mut unseen = keys(&world, "index/");
    unseen.retain(|key| !indexes.contains(key));
    thin(&world.repository, &rows, &|_, _| true);
    // Another prune has deleted the copies, and not yet the index that names them.
    for copy in all_rows(&world.repository).iter().filter(|row| !before.contains(row)) {
        world.backend.remove_raw(&layout::pack(&copy.pack.pack).unwrap());
    }
    let doomed: BTreeSet<_> = rows.iter().map(|location| location.pack.pack).collect();
    let doomed: Vec<_> = doomed.into_iter().collect();
    let now = world.context().clock.now();
    doom::put_tombstones(world.repository.store(), &doomed, &[], 0, now).unwrap();
    let odd = world.make_odd();
    odd.hide(move |key| unseen.iter().any(|unseen| unseen == key));

    let report = try_prune(&world, true).unwrap();

    assert!(report.packs_deleted > 0, "{report:?}");
    odd.behave();
    world.forget_caches();
    assert_eq!(world.content(1, "a"), noise(300_000, 2));
}

#[test]
fn an_index_object_put_where_a_listing_has_been_is_found_when_the_old_one_is_gone() {
    let mut world = World::memory();
    world.backup(&MemorySource::new("s").file("a", noise(100_000, 1))).unwrap();
    let odd = world.make_odd();
    let rows = all_rows(&world.repository);
    let ids = world.repository.index().ids();
    assert_eq!(ids.len(), 1);
    let old = layout::index(&ids[0]).unwrap();
    let (elsewhere, backend, gone) = (world.elsewhere(), Arc::clone(&world.backend), old.clone());
    elsewhere.repository.refresh_index().unwrap();
    odd.between(move |operation, key| {
        if operation != Operation::List || key != gone.folder().as_str() {
            return true;
        }
        let packs = elsewhere.repository.index().packs_of(&ids[0]);
        let numbered: Vec<_> = rows.iter().map(|location| (0, &location.row)).collect();
        let (store, cache) = (elsewhere.repository.store(), elsewhere.repository.cache());
        let index = elsewhere.repository.index();
        // The folders were listed before this one: another is seen no more.
        loop {
            let lease = LeaseId::new([0; 16]);
            let (new, _) = index.put(store, cache, lease, &packs, &numbered).unwrap();
            let new = layout::index(&new).unwrap();
            if new.folder() != gone.folder() {
                break;
            }
            backend.remove_raw(&new);
        }
        backend.remove_raw(&gone);
        false
    });

    world.repository.refresh_index().unwrap();

    assert!(!world.backend.objects().contains_key(&old), "nothing happened in between");
    assert_eq!(world.repository.index().ids().len(), 1, "neither was seen");
}

#[test]
fn what_a_prune_has_seen_is_durable_before_it_deletes_for_it() {
    let (mut world, _) = World::with_dead_files(40, 30);
    let odd = world.make_odd();
    let (asked, told) = (Arc::clone(&odd), Arc::new(Mutex::new(BTreeMap::new())));
    let unsettled = Arc::clone(&told);
    let mut listed = 0;
    odd.between(move |operation, key| {
        let folder = ["packs", "index"].into_iter().find(|folder| key.starts_with(folder));
        match (operation, folder) {
            (Operation::List, Some(_)) => listed = asked.settled(),
            (Operation::Delete, Some(folder)) => {
                *unsettled.lock().unwrap().entry(folder).or_insert(0) +=
                    usize::from(asked.settled() == listed);
            }
            _ => {}
        }
        true
    });

    try_prune(&world, false).unwrap();

    assert_eq!(*told.lock().unwrap(), BTreeMap::from([("packs", 0), ("index", 0)]));
}

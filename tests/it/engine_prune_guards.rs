//! What stops a prune before it deletes what a store that shows too little makes look unneeded.

use crate::support::pruning::all_rows;
use crate::support::pruning::full_backup;
use crate::support::pruning::keys;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::id::PackId;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::prune;
use icecore::engine::prune::PruneOptions;
use icecore::engine::prune::PruneReport;
use icecore::repository::Repository;
use icecore::repository::doom;
use icecore::source::memory::MemorySource;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// What a machine does that only looks.
type Look = fn(&Repository, &World);

fn prune_of(repository: &Repository, world: &World) -> Result<PruneReport> {
    prune::run(repository, &PruneOptions::default(), &world.context())
}

/// Makes one with a dataset `data`, and another that is called `other`.
fn two_datasets(own_bytes: usize, other_bytes: usize) -> World {
    let world = World::memory();
    world.backup(&MemorySource::new("s").file("a", noise(own_bytes, 1))).unwrap();
    let other = MemorySource::new("o").file("b", noise(other_bytes, 2));
    world.elsewhere().backup("other", &other, false);
    world
}

/// Three versions: most of what the second needs is in one pack with the others' file.
fn three_versions(others_bytes: usize) -> World {
    let world = two_datasets(300_000, others_bytes);
    let source = MemorySource::new("s").file("a", noise(300_000, 1)).file("c", noise(1_200_000, 3));
    world.backup(&source).unwrap();
    source.remove("c");
    world.backup(&source).unwrap();
    world
}

/// Takes away all that tells of the backups of a dataset, as a store that shows less does, and
/// returns what must be there still: its packs.
fn hide_dataset(world: &World, name: &str) -> Vec<String> {
    let id = world.repository.dataset(&name.parse().unwrap()).unwrap().id().to_string();
    for key in world.backend.objects().into_keys() {
        if key.as_str().starts_with("datasets/") && key.as_str().contains(&id) {
            world.backend.remove_raw(&key);
        }
    }
    keys(world, "packs/")
}

#[test]
fn whoever_only_looked_has_seen_what_there_was() {
    let looks: [(&str, Look); 3] = [
        ("prune", |repository, world| drop(prune_of(repository, world).unwrap())),
        ("check", |repository, world| {
            check::run(repository, &CheckOptions::default(), &world.context()).unwrap();
        }),
        ("list", |repository, _| {
            let dataset = repository.dataset(&"other".parse().unwrap()).unwrap();
            assert_eq!(dataset.backups().unwrap().len(), 1);
        }),
    ];
    for (what, look) in looks {
        let world = two_datasets(900_000, 100_000);
        let machine = world.elsewhere();
        look(&machine.repository, &world);
        let packs = hide_dataset(&world, "other");

        let error = prune_of(&machine.repository, &world).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Denied, "{what}: {error:?}");
        assert_eq!(keys(&world, "packs/"), packs, "{what}");
    }
}

#[test]
fn a_check_misses_what_an_earlier_one_has_seen() {
    let world = two_datasets(1000, 1000);
    let machine = world.elsewhere();
    let is_ok = || {
        let options = CheckOptions::default();
        check::run(&machine.repository, &options, &world.context()).unwrap().is_ok()
    };
    assert!(is_ok());

    hide_dataset(&world, "other");

    assert!(!is_ok());
}

#[test]
fn what_was_doomed_to_be_copied_stays_when_nothing_seems_to_need_it_any_more() {
    let world = two_datasets(300_000, 900_000);
    let own: BTreeSet<PackId> = {
        let alone = World::memory();
        alone.backup(&MemorySource::new("s").file("a", noise(300_000, 1))).unwrap();
        all_rows(&alone.repository).iter().map(|row| row.pack.pack).collect()
    };
    let rows = all_rows(&world.repository);
    let others: BTreeSet<PackId> = rows.iter().map(|row| row.pack.pack).collect();
    let small: Vec<PackId> = others.difference(&own).copied().collect();
    let now = world.context().clock.now();
    // A prune wanted to merge them, and stopped for a writer.
    doom::put_tombstones(world.repository.store(), &small, &[], 0, now).unwrap();
    let packs = hide_dataset(&world, "other");
    let machine = world.elsewhere();

    let error = prune_of(&machine.repository, &world).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(keys(&world, "packs/"), packs);
    // What the prune before meant to free is explained.
    doom::put_tombstones(world.repository.store(), &small, &[], 2_000_000, now).unwrap();
    assert!(prune_of(&machine.repository, &world).unwrap().packs_deleted > 0);
}

#[test]
fn a_forgotten_backup_that_others_are_replayed_from_explains_a_loss_once() {
    let world = three_versions(900_000);
    world.hide(0);
    world.hide(1);
    let machine = world.elsewhere();
    // Frees `c`; the headers stay, as the newest backup is replayed from them.
    assert!(prune_of(&machine.repository, &world).unwrap().packs_deleted > 0);
    hide_dataset(&world, "other");

    // This machine knows that nothing was to go any more, and it has seen the dataset.
    let options = PruneOptions { force: true, dry_run: true, ..PruneOptions::default() };
    let plan = prune::run(&machine.repository, &options, &world.context()).unwrap().plan;
    assert!(plan.freed_bytes > plan.bytes / 2, "{plan:?}");
    machine
        .repository
        .cache()
        .list("seen")
        .iter()
        .filter(|it| it.contains("highest"))
        .for_each(|name| machine.repository.cache().remove(&format!("seen/{name}")));
    let error = prune_of(&machine.repository, &world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("no forgotten backup explains it"), "{error}");
    assert!(try_prune(&world, true).is_ok(), "a person may say so");
}

#[test]
fn small_packs_that_were_doomed_to_be_merged_are_no_loss() {
    let world = World::memory();
    let source = MemorySource::new("s");
    for n in 0..40_u8 {
        source.put_file("a", [n]);
        world.backup(&source).unwrap();
    }
    let rows = all_rows(&world.repository);
    let all: BTreeSet<PackId> = rows.iter().map(|row| row.pack.pack).collect();
    let all: Vec<PackId> = all.into_iter().collect();
    let now = world.context().clock.now();
    doom::put_tombstones(world.repository.store(), &all, &[], 0, now).unwrap();

    assert!(prune_of(&world.elsewhere().repository, &world).unwrap().packs_deleted > 0);
    assert_eq!(world.sound_backups(), 40);
}

#[test]
fn what_a_prune_left_unused_is_still_explained() {
    for is_replayed in [true, false] {
        let world = three_versions(100_000);
        if !is_replayed {
            full_backup(&world, &MemorySource::new("s").file("a", noise(300_000, 1)));
            world.hide(0);
            world.hide(2);
        }
        world.hide(1);
        let machine = world.elsewhere();
        let options = PruneOptions { max_unused: 100.0, ..PruneOptions::default() };
        let report = prune::run(&machine.repository, &options, &world.context()).unwrap();
        assert_eq!(report.headers_retired, 0, "they explain what stays");

        let report = prune_of(&machine.repository, &world);

        assert!(report.is_ok(), "{is_replayed}: {report:?}");
        assert_eq!(report.unwrap().headers_retired, if is_replayed { 0 } else { 3 });
    }
}

#[test]
fn what_is_forgotten_at_any_moment_of_a_prune_is_explained_to_the_next() {
    let mut at = 1;
    loop {
        let mut world = World::memory();
        full_backup(&world, &MemorySource::new("s").file("a", noise(300_000, 1)));
        let more = MemorySource::new("s").file("b", noise(900_000, 2)).file("c", noise(9_000, 3));
        full_backup(&world, &more);
        full_backup(&world, &MemorySource::new("s").file("c", noise(9_000, 3)));
        world.hide(0);
        let odd = world.make_odd();
        let elsewhere = world.elsewhere();
        let mut calls = 0;
        let told = Arc::new(AtomicBool::new(false));
        let has_happened = Arc::clone(&told);
        odd.between(move |_, _| {
            calls += 1;
            if calls < at {
                return true;
            }
            elsewhere.hide(1);
            told.store(true, Ordering::Relaxed);
            false
        });
        prune_of(&world.repository, &world).unwrap();
        odd.behave();
        if !has_happened.load(Ordering::Relaxed) {
            assert!(at > 20, "{at}");
            return;
        }
        world.forget_caches();

        let report = prune_of(&world.repository, &world);

        assert!(report.is_ok(), "{at}: {report:?}");
        assert_eq!(world.sound_backups(), 1);
        let objects = world.backend.objects();
        let packs = objects.iter().filter(|(key, _)| key.as_str().starts_with("packs/"));
        let bytes: usize = packs.map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 30_000, "{at}: what was forgotten is gone, and left {bytes}");
        at += 1;
    }
}

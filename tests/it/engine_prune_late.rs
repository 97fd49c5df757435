//! What comes while a prune deletes: content that it copies is stored again, or a lease is put for
//! a backup that it has freed.

use crate::support::pruning::assert_sound;
use crate::support::pruning::files;
use crate::support::pruning::full_backup;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::wrap::Operation;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::engine::prune::PruneReport;
use icecore::repository::lease::Lease;
use icecore::source::memory::MemorySource;
use std::sync::Arc;
use std::sync::Mutex;

fn prune_all(world: &World) -> PruneReport {
    try_prune(world, false).unwrap()
}

/// A block is stored again while a prune copies what is live of it: when both packs go, there is
/// one copy, and prunes after that have nothing to do.
#[test]
fn a_copy_of_a_part_of_a_block_goes_into_that_of_all_of_it() {
    let all = || {
        let files = [("a", 1), ("b", 2), ("c", 3)];
        files.into_iter().fold(MemorySource::new("s"), |source, (name, seed)| {
            source.file(name, noise(3_000, seed))
        })
    };
    let mut world = World::memory();
    let source = all();
    full_backup(&world, &source);
    source.remove("a");
    source.remove("c");
    full_backup(&world, &source);
    world.hide(0);
    let odd = world.make_odd();
    let elsewhere = world.elsewhere();
    odd.between(move |operation, key| {
        let is_now = operation == Operation::Put && key.starts_with("packs/");
        if is_now {
            elsewhere.backup("other", &all(), false);
        }
        !is_now
    });
    prune_all(&world);
    odd.behave();
    // Small packs are merged, so both go.
    let elsewhere = world.elsewhere();
    for n in 0..12 {
        elsewhere.backup("third", &files(n..n + 1), true);
    }
    let mut deleted = Vec::new();
    for _ in 0..3 {
        deleted.push(prune_all(&world).packs_deleted);
        assert_sound(&world);
    }
    assert!(deleted[0] > 12, "all small packs go: {deleted:?}");
    assert_eq!(deleted[1..], [0, 0], "{deleted:?}");
}

/// Who has put a lease and not looked again may name a backup that goes just then.
#[test]
fn a_lease_that_comes_too_late_for_its_backup_is_named_and_no_damage_is_told() {
    for (class_b, number) in [(false, None), (true, None), (false, Some(BackupId(2)))] {
        let mut world = if class_b { World::class_b() } else { World::memory() };
        full_backup(&world, &files(0..20));
        full_backup(&world, &files(10..20));
        world.hide(0);
        let elsewhere = world.elsewhere();
        let dataset = world.repository.dataset(&world.name()).unwrap().id();
        let now = world.context().clock.now();
        let told = Arc::new(Mutex::new(None));
        let told_now = Arc::clone(&told);
        let odd = world.make_odd();
        let objects = Arc::clone(&world.backend);
        odd.between(move |operation, key| {
            // Its packs are gone, and its header is there.
            if operation != Operation::Delete || !key.starts_with("tombstones/") {
                return true;
            }
            let parent = Some(BackupId(0));
            let store = elsewhere.repository.store();
            let late = Lease::take(store, dataset, number, parent, "restore", now).unwrap();
            let before = objects.objects();
            let pruned = elsewhere.try_prune().unwrap_err();
            assert_eq!(objects.objects(), before);
            let id = late.id();
            late.give_back();
            *told_now.lock().unwrap() = Some((id, pruned));
            false
        });

        assert!(prune_all(&world).packs_deleted > 0);

        let (lease, error) = told.lock().unwrap().take().expect("the packs were gone");
        assert_eq!(error.kind(), ErrorKind::Busy, "{}", error.full_message());
        let text = error.full_message();
        assert!(text.contains("not whole any more, and still held: data@0 by process"), "{text}");
        assert!(text.contains(&format!("(restore; lease {lease})")), "{text}");
        assert!(text.contains("cannot tell what must stay"), "{text}");
        assert!(error.hint_text().unwrap().contains("--end-lease"));
        prune_all(&world);
        assert_sound(&world);
    }
}

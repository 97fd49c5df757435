//! Prune beside records of lost places: what a backup has healed stays, and what comes back or is
//! not named just now is left to the next repair.

use crate::engine_check::flip;
use crate::engine_repair::DATA;
use crate::engine_repair::run;
use crate::support::pruning::all_rows;
use crate::support::pruning::assert_sound;
use crate::support::pruning::thin;
use crate::support::pruning::try_prune;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::base::id::PackId;
use icecore::base::path::EntryPath;
use icecore::engine::backup::BackupKind;
use icecore::engine::repair::ActionKind;
use icecore::repository::doom;
use icecore::repository::index::Location;
use icecore::repository::layout;
use icecore::repository::stock;
use icecore::source::memory::MemorySource;

/// The copies of the first block of a file.
fn copies_of(world: &World, number: u64, at: &str) -> Vec<Location> {
    let path = EntryPath::new(at.as_bytes()).unwrap();
    let tracked = world.snapshot(number).entry(&path).unwrap().unwrap();
    let runs = world.repository.runs_of(tracked.entry.file().unwrap()).unwrap();
    world.repository.locate_block(&runs[0].block).unwrap()
}

fn pack_of(world: &World, number: u64, at: &str) -> ObjectKey {
    layout::pack(&copies_of(world, number, at)[0].pack.pack).unwrap()
}

/// The index objects that name a pack.
fn indexes_of(world: &World, pack: &PackId) -> Vec<ObjectKey> {
    let view = world.repository.index().view();
    let ids = view.objects().map(|(id, _, _)| id);
    let named = ids.filter(|id| view.packs_of(id).any(|it| it.pack == *pack));
    named.map(|id| layout::index(&id).unwrap()).collect()
}

/// Text that compresses, so that it is cut finely.
fn bad() -> Vec<u8> {
    noise(150_000, 2).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Two backups, of which the second alone has `bad`, in a pack of its own.
fn with_bad(mut world: World) -> (World, MemorySource) {
    let source = MemorySource::new("s").file("same", noise(50_000, 1));
    world.backup(&source).unwrap();
    source.put_file("bad", bad());
    world.clock.advance(100);
    world.backup(&source).unwrap();
    world.forget_caches();
    (world, source)
}

/// Takes the pack of `bad` away, repairs, and makes a backup that heals it.
fn lose_and_heal(world: &mut World, source: &MemorySource, with_index: bool) {
    let pack = copies_of(world, 1, "bad")[0].pack.pack;
    for index in indexes_of(world, &pack).iter().filter(|_| with_index) {
        world.backend.remove_raw(index);
    }
    world.backend.remove_raw(&layout::pack(&pack).unwrap());
    world.forget_caches();
    let report = run(&world.repository, &DATA);
    assert!(!report.lost.is_empty() && report.unrepaired.is_empty(), "{report:?}");
    world.clock.advance(100);
    assert_eq!(world.backup(source).unwrap().kind, BackupKind::Unchanged);
    assert_eq!(world.content(1, "bad"), bad());
}

/// Dooms every pack, so that the next prune has to copy all that is needed.
fn doom_all(world: &World) {
    let packs: Vec<PackId> = stock::packs(world.repository.store()).unwrap().into_keys().collect();
    let now = world.context().clock.now();
    doom::put_tombstones(world.repository.store(), &packs, &[], 0, now).unwrap();
}

#[test]
fn what_a_backup_has_healed_outlives_a_merge_of_small_packs() {
    for make in [World::memory, World::encrypted, World::class_b] {
        let (mut world, source) = with_bad(make());
        lose_and_heal(&mut world, &source, false);
        let pack = pack_of(&world, 1, "bad");
        for n in 0..10 {
            source.put_file(format!("f{n}"), noise(150_000, 10 + n));
            world.clock.advance(100);
            world.backup(&source).unwrap();
        }

        let report = try_prune(&world, false).unwrap();

        assert!(!world.backend.objects().contains_key(&pack), "it was not merged: {report:?}");
        world.forget_caches();
        assert_eq!(world.content(1, "bad"), bad());
        assert_eq!(world.sound_backups(), 12);
        assert!(run(&world.repository, &DATA).is_whole());
        assert_sound(&world);
    }
}

#[test]
fn so_does_a_healed_block_of_which_only_a_part_is_needed_any_more() {
    let (mut world, source) = with_bad(World::memory());
    // Without its index all of the block is declared lost, however many places it has.
    lose_and_heal(&mut world, &source, true);
    let healed = copies_of(&world, 1, "bad");
    let places: Vec<u32> = (0..healed[0].row.places).collect();
    assert!(places.len() > 2, "{places:?}");
    let content = [b"more".to_vec(), bad()].concat();
    source.put_file("bad", &content);
    world.clock.advance(100);
    world.backup(&source).unwrap();
    for n in 0..2 {
        world.hide(n);
    }

    for _ in 0..3 {
        doom_all(&world);
        let report = try_prune(&world, true).unwrap();
        assert!(report.stuck.is_empty(), "{report:?}");
        world.forget_caches();
        assert_eq!(world.content(2, "bad"), content);
    }

    let kept = world.repository.locate_block(&healed[0].row.block).unwrap();
    assert!(kept.iter().all(|copy| !copy.row.present.is_empty()), "it was not thinned: {kept:?}");
    assert!(run(&world.repository, &DATA).is_whole());
    assert_sound(&world);
}

#[test]
fn ranges_that_were_lost_and_are_back_are_followed_when_their_pack_is_doomed() {
    let source = MemorySource::new("s");
    for n in 0..3000 {
        source.put_file(format!("many/{n:05}"), format!("number {n}"));
    }
    let mut world = World::memory();
    world.backup(&source).unwrap();
    let objects = world.backend.objects().into_iter();
    let is_content =
        |key: &ObjectKey| ["packs/", "index/"].iter().any(|it| key.as_str().starts_with(it));
    let away: Vec<(ObjectKey, Vec<u8>)> = objects.filter(|(key, _)| is_content(key)).collect();
    for (key, _) in &away {
        world.backend.remove_raw(key);
    }
    world.forget_caches();
    let report = run(&world.repository, &DATA);
    assert!(!report.lost.is_empty(), "{report:?}");
    for (key, bytes) in away {
        world.backend.insert_raw(&key, bytes);
    }
    world.forget_caches();
    doom_all(&world);

    let report = try_prune(&world, true).unwrap();

    assert!(report.packs_deleted > 0 && report.stuck.is_empty(), "{report:?}");
    world.forget_caches();
    assert_eq!(world.sound_backups(), 1);
    assert_eq!(world.paths(0).len(), 3002);
}

#[test]
fn a_pack_that_comes_back_is_there_for_the_next_repair() {
    let (mut world, _) = with_bad(World::memory());
    let key = pack_of(&world, 1, "bad");
    let bytes = world.backend.objects()[&key].clone();
    world.backend.remove_raw(&key);
    world.forget_caches();
    assert!(!run(&world.repository, &DATA).is_whole());
    // It takes away the old index object, which alone names the pack.
    try_prune(&world, true).unwrap();
    world.backend.insert_raw(&key, bytes);

    let report = try_prune(&world, true).unwrap();

    assert!(world.backend.objects().contains_key(&key), "{report:?}");
    assert!(report.plan.busy_bytes > 0, "{report:?}");
    let repaired = run(&world.repository, &DATA);
    assert!(repaired.is_whole(), "{repaired:?}");
    assert!(repaired.actions.iter().any(|action| action.kind == ActionKind::Index));
    world.forget_caches();
    assert_eq!(world.content(1, "bad"), bad());
    // The repair has named it and taken the record away, so all is as it was.
    let report = try_prune(&world, true).unwrap();
    assert_eq!(report.plan.busy_bytes, 0, "{report:?}");
    assert_eq!(world.sound_backups(), 2);
    assert_sound(&world);
}

#[test]
fn a_pack_whose_index_is_damaged_stays_though_a_stale_one_names_its_blocks() {
    let (mut world, _) = with_bad(World::memory());
    let pack = copies_of(&world, 1, "bad")[0].pack.pack;
    let before = all_rows(&world.repository);
    let rows: Vec<Location> = before.iter().filter(|it| it.pack.pack == pack).cloned().collect();
    thin(&world.repository, &rows, &|_, _| true);
    // The copies are gone again, and not yet the index that names them.
    for copy in all_rows(&world.repository).iter().filter(|it| !before.contains(it)) {
        world.backend.remove_raw(&layout::pack(&copy.pack.pack).unwrap());
    }
    for index in indexes_of(&world, &pack) {
        flip(&world.backend, &index, 300);
    }
    world.forget_caches();

    let report = try_prune(&world, true).unwrap();

    let key = layout::pack(&pack).unwrap();
    assert!(world.backend.objects().contains_key(&key), "{report:?}");
    assert!(run(&world.repository, &DATA).is_whole());
    world.forget_caches();
    assert_eq!(world.content(1, "bad"), bad());
}

//! Check of repositories as the backup engine makes them, and its options.

use crate::engine_check::data;
use crate::engine_check::flip;
use crate::engine_check::packs;
use crate::engine_check::run;
use crate::engine_check::structure;
use crate::engine_check::try_check;
use crate::engine_check::world::NOW;
use crate::engine_check::world::name;
use crate::engine_check::world::world;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::id::IndexId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Counter;
use icecore::base::progress::Phase;
use icecore::base::progress::Progress;
use icecore::base::progress::Silent;
use icecore::base::progress::Totals;
use icecore::base::progress::Warning;
use icecore::base::time::FixedClock;
use icecore::engine::Context;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::repository::layout;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

fn source() -> MemorySource {
    let source = MemorySource::new("data")
        .file("a.txt", b"alpha")
        .file("big/one", noise(2_000_000, 1))
        .sparse_file("holes", 3_000_000, &[(0, b"start"), (2_000_000, &noise(500_000, 2))])
        .directory("empty")
        .symlink("link", b"a.txt");
    for n in 0..600 {
        source.put_file(format!("many/{n:04}"), format!("number {n}"));
    }
    source
}

fn three_backups(world: &World) {
    let source = source();
    world.backup(&source).expect("a backup");
    world.clock.advance(10);
    source.put_file("a.txt", b"changed");
    source.put_file("big/two", noise(1_500_000, 3));
    world.backup(&source).expect("a backup");
    world.clock.advance(10);
    source.put_file("big/one", noise(1_000_000, 4));
    world.backup(&source).expect("a backup");
}

#[test]
fn what_the_engine_backs_up_is_sound_at_every_depth() {
    for world in [World::memory(), World::encrypted(), World::class_b()] {
        three_backups(&world);
        for options in [structure(), packs(), data()] {
            let report = run(&world.repository, &options);
            assert_eq!(report.findings, []);
            assert_eq!(report.backups, 3);
        }
    }
}

#[test]
fn those_named_are_those_whose_content_is_in_the_damaged_pack() {
    for world in [World::memory(), World::encrypted()] {
        three_backups(&world);
        let mut users: BTreeMap<_, BTreeSet<(String, String)>> = BTreeMap::new();
        for n in 0..3 {
            for tracked in world.snapshot(n).entries() {
                let entry = tracked.expect("replays").entry;
                for run in entry.file().map_or(&[][..], |file| file.content.direct()) {
                    let copy =
                        world.repository.locate_block(&run.block).expect("located").remove(0);
                    let key = layout::pack(&copy.pack.pack).expect("a key");
                    let user = (format!("data@{n}"), entry.path.to_string());
                    users.entry(key).or_default().insert(user);
                }
            }
        }
        assert!(users.len() > 1, "more packs than one");
        for (key, users) in users {
            let bytes = world.backend.objects()[&key].clone();
            world.backend.remove_raw(&key);
            let report = run(&world.repository, &structure());
            world.backend.insert_raw(&key, bytes);
            let finding = report.findings.iter().find(|finding| finding.object == key.as_str());
            let finding = finding.expect("named");
            let paths: BTreeSet<&String> = users.iter().map(|(_, path)| path).collect();
            let backups: BTreeSet<&String> = users.iter().map(|(backup, _)| backup).collect();
            let named: BTreeSet<&String> = finding.backups.iter().collect();
            assert!(named.is_superset(&backups), "{finding:?}");
            let known = finding.paths.iter().filter(|path| paths.contains(path)).count();
            // A pack that holds ranges as well hides all paths in them but the first.
            let holds_ranges = finding.paths.iter().any(String::is_empty);
            assert!(
                holds_ranges || known >= paths.len().min(15),
                "{known} of {} in {finding:?}",
                paths.len()
            );
        }
    }
}

#[test]
fn one_dataset_can_be_checked_alone() {
    let world = world(false);
    let pack = world.pack_of("photos@0", "a");
    let (backend, repository) = world.copy();
    flip(&backend, &pack, 500);
    let only = |dataset: &str| CheckOptions { dataset: Some(name(dataset)), ..data() };
    let music = run(&repository, &only("music"));
    assert!(music.is_ok());
    assert_eq!((music.datasets, music.backups), (1, 1));
    let photos = run(&repository, &only("photos"));
    assert_eq!(photos.findings[0].object, pack.as_str());
    let error = try_check(&repository, &only("nothing")).expect_err("is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_cancelled_check_stops() {
    let world = world(false);
    let cancel = Cancel::new();
    cancel.cancel();
    let clock = FixedClock::new(NOW);
    let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 2 };
    let error = check::run(&world.repository, &data(), &context).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

/// Takes objects away when the reading begins, after everything was listed.
struct Mover<'a> {
    backend: &'a MemoryBackend,
    goes: [ObjectKey; 2],
}

impl Progress for Mover<'_> {
    fn start(&self, _: Phase, _: Totals) {
        self.goes.iter().for_each(|key| drop(self.backend.delete(key)));
    }
    fn count(&self, _: Counter, _: u64) {}
    fn working_on(&self, _: &EntryPath) {}
    fn warn(&self, _: &Warning) {}
    fn finish(&self) {}
}

#[test]
fn a_prune_that_moves_blocks_meanwhile_makes_no_damage() {
    let world = world(false);
    let pack = world.pack_of("music@0", "x");
    let index = world.repository.index();
    let names_it = |id: &IndexId| {
        let packs = index.packs_of(id);
        packs.iter().any(|other| layout::pack(&other.pack).expect("a key") == pack)
    };
    let id = index.ids().into_iter().find(names_it).expect("an index names it");
    let packs = index.packs_of(&id);
    for pack in packs {
        world.copy_blocks_of(&pack.pack);
    }
    let goes = [pack.clone(), layout::index(&id).expect("a key")];
    let (backend, repository) = world.copy();
    let clock = FixedClock::new(NOW);
    let mover = Mover { backend: &backend, goes };
    let cancel = Cancel::new();
    let context = Context { progress: &mover, cancel: &cancel, clock: &clock, threads: 2 };
    let report = check::run(&repository, &data(), &context).expect("checks");
    assert!(!backend.objects().contains_key(&pack), "it went");
    assert!(report.is_ok(), "{:?}", report.findings);
}

#[test]
fn a_full_index_in_lists_is_read_to_its_end() {
    let mut world = World::memory();
    let source = MemorySource::new("data");
    for n in 0..90_000 {
        source.put_file(format!("many/{n:06}"), b"");
    }
    world.backup(&source).expect("a backup");
    let snapshot = world.snapshot(0);
    let icecore::format::backup::Body::Lists(lists) = &snapshot.backup().header.body else {
        panic!("too few ranges for lists")
    };
    let found = run(&world.repository, &structure());
    assert!(found.is_ok(), "{:?}", found.findings);
    let copy = world.repository.locate_block(&lists[0].block).expect("located").remove(0);
    let key = layout::pack(&copy.pack.pack).expect("a key");
    flip(&world.backend, &key, (copy.row.offset + copy.row.length / 2) as usize);
    world.forget_caches();

    let found = run(&world.repository, &structure());

    let finding = found.findings.iter().find(|finding| finding.object == key.as_str());
    assert_eq!(finding.expect("named").backups, ["data@0"]);
}

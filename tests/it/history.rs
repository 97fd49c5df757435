//! A dataset with a thousand backups: looking at any of them stays a matter of a few calls.
//!
//! What is asserted is what is asked of the backend; seconds are measured by hand.

use crate::support::restored;
use crate::support::world::World;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::backend::wrap::counting::Counts;
use icecore::base::id::BackupId;
use icecore::base::limits::CHAIN_MANIFESTS_MAX;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;
use std::sync::OnceLock;

const BACKUPS: u64 = 1000;
const FILES: u64 = 200;

fn content(file: u64, backup: u64) -> String {
    // The last backup up to this one that changed the file: each changes three.
    let changed = (1..=backup).rev().find(|n| (0..3).any(|c| (n * 7 + c * 61) % FILES == file));
    format!("{file} as of {}", changed.unwrap_or(0))
}

fn name(file: u64) -> String {
    format!("f{:02}/{file}.txt", file / 20)
}

/// Returns a world with so many backups; they are made once for all tests.
fn thousand() -> World {
    static MADE: OnceLock<MemoryBackend> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let mut world = World::memory();
        world.threads = 1;
        let source = MemorySource::new("data");
        (0..FILES).for_each(|file| source.put_file(name(file), content(file, 0)));
        for n in 0..BACKUPS {
            if n > 0 {
                for file in (0..3).map(|c| (n * 7 + c * 61) % FILES) {
                    source.put_file(name(file), content(file, n));
                }
            }
            world.clock.advance(3_600);
            assert_eq!(world.backup(&source).expect("a backup").backup, BackupId(n));
        }
        world.backend.clone_state()
    });
    World::on(made.clone_state())
}

/// Returns what a piece of work asks for, on caches that the same work has filled.
fn cost<T>(world: &mut World, work: impl Fn(&World) -> T) -> (T, Counts) {
    work(world);
    let counting = world.count_calls();
    let before = counting.counts();
    let done = work(world);
    (done, difference(&counting, before))
}

fn difference(counting: &CountingBackend, before: Counts) -> Counts {
    let after = counting.counts();
    Counts {
        puts: after.puts - before.puts,
        puts_new: after.puts_new - before.puts_new,
        gets: after.gets - before.gets,
        range_gets: after.range_gets - before.range_gets,
        stats: after.stats - before.stats,
        lists: after.lists - before.lists,
        deletes: after.deletes - before.deletes,
        bytes_up: after.bytes_up - before.bytes_up,
        bytes_down: after.bytes_down - before.bytes_down,
    }
}

#[test]
fn a_list_with_warm_caches_costs_listings_and_nothing_else() {
    let mut world = thousand();

    let (listed, counts) = cost(&mut world, |world| {
        let dataset = world.repository.dataset(&world.name()).expect("a dataset");
        dataset.backups().expect("backups").len() as u64
    });

    assert_eq!(listed, BACKUPS);
    // The revisions of the name, the top of the dataset, its one folder of numbers.
    assert_eq!(counts, Counts { lists: 3, ..Counts::default() });
    let (_, counts) =
        cost(&mut world, |world| list::datasets(&world.repository).expect("datasets"));
    assert_eq!(counts.gets, 0, "{counts:?}");
}

#[test]
fn any_backup_is_shown_with_the_reads_of_one_chain() {
    for version in [Version::Number(BackupId(500)), Version::Latest(0), Version::Latest(300)] {
        let mut world = thousand();
        let counting: Arc<CountingBackend> = world.count_calls();
        let before = counting.counts();

        let dataset = world.repository.dataset(&world.name()).expect("a dataset");
        let found = address::resolve(&dataset, &version).expect("a backup").backup;
        let snapshot = list::snapshot(&dataset, found).expect("a snapshot");

        // What a relative version or a time needs to know is every header; a number only its own.
        let counts = difference(&counting, before);
        let chain = snapshot.chain().len() as u64;
        assert!(chain <= CHAIN_MANIFESTS_MAX as u64 + 1, "{chain}");
        if !matches!(version, Version::Latest(300)) {
            let name_and_chain = 1 + chain;
            assert!(counts.gets <= name_and_chain, "{version}: {counts:?}, {chain}");
        }
        assert_eq!((counts.range_gets, counts.stats, counts.puts), (0, 0, 0), "{version}");
        assert!(counts.lists <= 5, "{version}: {counts:?}");
    }
}

#[test]
fn no_replay_reads_more_than_one_chain() {
    let mut world = thousand();
    let dataset = world.repository.dataset(&world.name()).expect("a dataset");
    let backups = dataset.backups().expect("backups");
    let longest = backups.iter().max_by_key(|backup| backup.header.chain.len()).expect("one");

    assert!(longest.header.chain.len() <= CHAIN_MANIFESTS_MAX);
    assert!(longest.header.chain.len() > 8, "chains are not tried at all");
    let number = longest.header.number;
    let (files, counts) = cost(&mut world, |world| {
        let snapshot = world.snapshot(number.0);
        snapshot
            .entries()
            .filter(|entry| entry.as_ref().expect("an entry").entry.file().is_some())
            .count()
    });
    assert_eq!(files as u64, FILES);
    // Manifests of a few files stand in their headers; the full index is read once.
    assert!(counts.gets + counts.range_gets <= CHAIN_MANIFESTS_MAX as u64 + 1, "{counts:?}");
}

#[test]
fn a_backup_in_the_middle_is_restored() {
    let world = thousand();
    let target = MemoryTarget::new();

    let report =
        restore::run(&world.snapshot(500), &target, &RestoreOptions::default(), &world.context())
            .expect("a restore");

    assert_eq!((report.files, report.errors.len()), (FILES, 0));
    restored::assert_holds(&world, 500, &target);
    for file in [0, 7, 61, 100, 199] {
        assert_eq!(world.content(500, &name(file)), content(file, 500).into_bytes());
    }
}

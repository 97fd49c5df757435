//! A large file that changes a little each time does not come to lie in ever more blocks, of
//! which ever less is wanted.

use crate::support::world::World;
use icecore::base::path::EntryPath;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::format::entry::Run;
use icecore::source::memory::MemorySource;
use std::collections::BTreeMap;

const PATH: &str = "dump.sql";
/// Rows that are changed together: some chunks long, so that chunks change whole.
const STRETCH_ROWS: usize = 1_000;

/// Rows of a table, each with the version that wrote it last.
fn content(versions: &[u32]) -> Vec<u8> {
    let row = |(number, version)| {
        let noise =
            (number as u64 ^ (u64::from(version) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("row {number} of version {version} {noise:x}\n").into_bytes()
    };
    versions.iter().copied().enumerate().flat_map(row).collect()
}

/// Writes those stretches anew of which `is_changed` says so.
fn change(versions: &mut [u32], version: u32, is_changed: impl Fn(usize) -> bool) {
    for (number, stretch) in versions.chunks_mut(STRETCH_ROWS).enumerate() {
        if is_changed(number) {
            stretch.fill(version);
        }
    }
}

fn runs(world: &World, number: u64) -> Vec<Run> {
    let path = EntryPath::new(PATH.as_bytes()).expect("a path");
    let tracked = world.snapshot(number).entry(&path).expect("readable").expect("there");
    world.repository.runs_of(tracked.entry.file().expect("a file")).expect("runs")
}

/// Returns how many times what it needs has to be decoded for a version.
fn spread(world: &World, number: u64) -> f64 {
    let mut used: BTreeMap<_, u64> = BTreeMap::new();
    for run in runs(world, number) {
        *used.entry(run.block).or_default() += run.bytes;
    }
    let plain =
        |block| u64::from(world.repository.locate_block(block).expect("index")[0].row.plain_length);
    let decoded: u64 = used.keys().map(plain).sum();
    decoded as f64 / used.values().sum::<u64>() as f64
}

/// Makes a file of `rows` rows whose third version needs more than twice its bytes decoded.
fn spread_out(world: &World, rows: usize) -> (MemorySource, Vec<Vec<u8>>, Vec<u32>) {
    let mut versions = vec![0; rows];
    let mut contents = vec![content(&versions)];
    let source = MemorySource::new("data").file(PATH, &contents[0]);
    world.backup(&source).expect("a backup");
    for version in 1..=2 {
        // A tenth is left of the first, two tenths of the second.
        let kept: &[usize] = if version == 1 { &[7, 8, 9] } else { &[5, 6, 9] };
        change(&mut versions, version, |n| !kept.contains(&(n % 10)));
        contents.push(content(&versions));
        source.put_file(PATH, &contents[version as usize]);
        world.clock.advance(10);
        world.backup(&source).expect("a backup");
    }
    (source, contents, versions)
}

#[test]
fn what_little_is_left_in_old_blocks_is_stored_again_and_all_versions_come_back() {
    // As one unit, and as pieces.
    for rows in [150_000, 300_000] {
        let world = World::encrypted();
        let (source, mut contents, mut versions) = spread_out(&world, rows);
        assert!(spread(&world, 2) > 2.0, "{}", spread(&world, 2));

        change(&mut versions, 3, |n| n == 5);
        contents.push(content(&versions));
        source.put_file(PATH, &contents[3]);
        world.clock.advance(10);
        let report = world.backup(&source).expect("a backup");

        assert!(spread(&world, 3) < 2.1, "{}", spread(&world, 3));
        let new = report.counts.new_bytes;
        assert!(new < contents[3].len() as u64 / 2, "no more than has to be: {new}");
        for (number, content) in contents.iter().enumerate() {
            assert!(world.content(number as u64, PATH) == *content, "version {number}");
        }
    }
}

#[test]
fn many_small_changes_stay_within_the_bound() {
    let world = World::memory();
    let mut versions = vec![0; 130_000];
    let source = MemorySource::new("data").file(PATH, content(&versions));
    world.backup(&source).expect("a backup");

    for version in 1..=24 {
        change(&mut versions, version, |n| {
            n as u32 * 7 % 24 == version % 24 || n as u32 % 9 == version % 9
        });
        source.put_file(PATH, content(&versions));
        world.clock.advance(10);
        world.backup(&source).expect("a backup");
    }

    assert!(spread(&world, 24) < 2.1, "{}", spread(&world, 24));
    assert!(world.content(24, PATH) == content(&versions));
}

#[test]
fn a_file_that_is_only_read_again_stays_where_it_is() {
    let world = World::memory();
    let (source, ..) = spread_out(&world, 150_000);
    world.clock.advance(10);
    let options = BackupOptions { read_all: true, ..BackupOptions::default() };

    let report = world.backup_with(&source, &options).expect("nothing to do");

    assert!(spread(&world, 2) > 2.0, "{}", spread(&world, 2));
    assert_eq!((report.kind, report.counts.new_bytes), (BackupKind::Unchanged, 0));
}

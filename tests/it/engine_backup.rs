//! Backups through the library: what is stored, what is not, and what comes back.

use crate::support::world::World;
use icecore::base::id::BackupId;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::source::memory::MemorySource;

fn small() -> MemorySource {
    MemorySource::new("data")
        .file("a.txt", b"alpha")
        .file("sub/b.txt", b"beta")
        .file("sub/big.bin", noise(3_000_000, 1))
        .directory("empty")
        .symlink("link", b"a.txt")
}

pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

#[test]
fn the_first_backup_is_full_and_holds_every_entry() {
    let world = World::memory();

    let report = world.backup(&small()).expect("a backup");

    assert_eq!(report.backup, BackupId(0));
    assert_eq!(report.kind, BackupKind::Full);
    assert_eq!((report.counts.added, report.counts.files), (4, 4));
    assert_eq!(report.counts.bytes, 3_000_009);
    assert!(report.errors.is_empty());
    let paths: Vec<String> = world.paths(0);
    assert_eq!(paths, ["", "a.txt", "empty", "link", "sub", "sub/b.txt", "sub/big.bin"]);
    assert_eq!(world.content(0, "sub/big.bin"), noise(3_000_000, 1));
    assert_eq!(world.content(0, "a.txt"), b"alpha");
}

#[test]
fn a_machine_with_an_empty_cache_reads_the_snapshot_once() {
    let mut world = World::memory();
    let source = small();
    world.backup(&source).expect("a backup");
    world.clock.advance(10);
    world.forget_caches();
    assert_eq!(world.backup(&source).expect("a run").kind, BackupKind::Unchanged);

    let counting = world.count_calls();
    assert_eq!(world.backup(&source).expect("a run").kind, BackupKind::Unchanged);

    // No lease, no index, nothing of a pack: the cache has it now.
    let counts = counting.counts();
    assert_eq!((counts.puts, counts.range_gets), (0, 0), "{counts:?}");
}

#[test]
fn encrypted_and_class_b_repositories_hold_the_same() {
    for mut world in [World::encrypted(), World::class_b()] {
        let source = small();
        world.backup(&source).expect("a backup");
        source.put_file("a.txt", b"changed");
        world.forget_caches();
        world.clock.advance(10);

        let report = world.backup(&source).expect("a backup");

        assert_eq!((report.backup, report.counts.modified), (BackupId(1), 1));
        assert_eq!(world.content(0, "a.txt"), b"alpha");
        assert_eq!(world.content(1, "a.txt"), b"changed");
        assert_eq!(world.content(1, "sub/big.bin"), noise(3_000_000, 1));
        let leases = world.backend.objects().into_keys().filter(|k| k.as_str().contains("leases"));
        // Class B keeps the word of each writer that it was acknowledged.
        let leases = leases.filter(|key| !key.as_str().ends_with(".a"));
        assert_eq!(leases.count(), 0, "leases are given back");
    }
}

#[test]
fn no_change_makes_no_backup_and_stores_nothing() {
    let world = World::memory();
    let source = small();
    world.backup(&source).expect("a backup");
    world.clock.advance(10);
    world.backup(&source).expect("settles racy files");
    let objects = world.object_count();

    world.clock.advance(10);
    let report = world.backup(&source).expect("nothing to do");

    assert_eq!(report.kind, BackupKind::Unchanged);
    assert_eq!(report.backup, BackupId(0));
    assert_eq!(report.counts.files, 4);
    assert_eq!(world.object_count(), objects);
}

#[test]
fn a_partial_backup_stores_what_changed_and_both_versions_come_back() {
    let world = World::memory();
    let source = small();
    world.backup(&source).expect("a backup");
    source.put_file("sub/b.txt", b"changed");
    source.put_file("new.txt", b"new");
    source.remove("a.txt");
    world.clock.advance(10);

    let report = world.backup(&source).expect("a backup");

    assert_eq!(report.kind, BackupKind::Partial);
    let counts = report.counts;
    assert_eq!((counts.added, counts.modified, counts.deleted), (1, 1, 1));
    assert_eq!(counts.new_bytes, 10);
    assert_eq!(world.content(1, "sub/b.txt"), b"changed");
    assert_eq!(world.content(0, "sub/b.txt"), b"beta");
    assert_eq!(world.paths(1), ["", "empty", "link", "new.txt", "sub", "sub/b.txt", "sub/big.bin"]);
}

#[test]
fn a_change_inside_a_large_file_stores_only_the_chunks_around_it() {
    let world = World::memory();
    let mut text: Vec<u8> =
        (0..400_000_u32).flat_map(|n| format!("row {n}\n").into_bytes()).collect();
    let source = MemorySource::new("data").file("dump.sql", &text);
    world.backup(&source).expect("a backup");
    text.splice(2_000_000..2_000_000, b"inserted\n".iter().copied());
    source.put_file("dump.sql", &text);

    let report = world.backup(&source).expect("a backup");

    assert!(report.counts.new_bytes < 100_000, "{}", report.counts.new_bytes);
    assert_eq!(world.content(1, "dump.sql"), text);
}

#[test]
fn lost_caches_change_nothing_but_time() {
    let mut world = World::memory();
    let source = small();
    world.backup(&source).expect("a backup");
    world.forget_caches();
    world.clock.advance(10);
    let unchanged = world.backup(&source).expect("nothing to do");
    assert_eq!(unchanged.kind, BackupKind::Unchanged);
    source.put_file("copy.bin", noise(3_000_000, 1));
    world.forget_caches();
    world.clock.advance(10);

    let report = world.backup(&source).expect("a backup");

    assert_eq!(report.counts.added, 1);
    assert_eq!(report.counts.new_bytes, 0, "the content is known from the repository");
    assert_eq!(world.content(1, "copy.bin"), noise(3_000_000, 1));
}

#[test]
fn a_full_index_on_request_shares_what_did_not_change() {
    let world = World::memory();
    let source = MemorySource::new("data");
    for n in 0..3_000 {
        source.put_file(format!("d{}/f{n}", n % 7), format!("content {n}"));
    }
    let first = world.backup(&source).expect("a backup");
    source.put_file("d3/f10", b"changed");
    world.clock.advance(10);
    let options = BackupOptions { full: true, ..BackupOptions::default() };

    let report = world.backup_with(&source, &options).expect("a backup");

    assert_eq!(report.kind, BackupKind::Full);
    assert_eq!(report.counts.modified, 1);
    assert!(report.counts.stored_bytes * 4 < first.counts.stored_bytes, "{:?}", report.counts);
    assert_eq!(world.paths(1).len(), world.paths(0).len());
    assert_eq!(world.content(1, "d3/f10"), b"changed");
    assert_eq!(world.content(1, "d3/f17"), b"content 17");
}

#[test]
fn a_long_chain_ends_in_a_full_index_and_every_version_comes_back() {
    let world = World::memory();
    let source = MemorySource::new("data");
    for n in 0..400 {
        source.put_file(format!("f{n}"), format!("content {n}"));
    }
    for n in 0..70 {
        source.put_file(format!("f{n}"), format!("version {n}"));
        world.clock.advance(10);
        world.backup(&source).expect("a backup");
    }
    let full: Vec<u64> = world.full_numbers();
    assert_eq!(full, [0, 65]);
    for n in [0, 1, 33, 64, 65, 69] {
        assert_eq!(world.content(n, &format!("f{n}")), format!("version {n}").into_bytes());
        let next = format!("f{}", n + 1);
        assert_eq!(world.content(n, &next), format!("content {}", n + 1).into_bytes());
    }
}

#[test]
fn an_empty_source_is_a_backup() {
    let world = World::memory();

    let report = world.backup(&MemorySource::new("data")).expect("a backup");

    assert_eq!((report.kind, report.counts.files), (BackupKind::Full, 0));
    assert_eq!(world.paths(0), [""]);
}

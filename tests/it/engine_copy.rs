//! Copying backups into another repository: the same comes out of both, nothing twice, and only
//! what is new moves.

mod order;
mod trouble;

use crate::support::pruning::all_rows;
use crate::support::pruning::assert_sound;
use crate::support::pruning::try_prune;
use crate::support::restored;
use crate::support::restored::path;
use crate::support::restored::rich_source;
use crate::support::restored::text;
use crate::support::tree::noise;
use crate::support::world::CHEAP;
use crate::support::world::World;
use icecore::backend::wrap::counting::Counts;
use icecore::base::error::Error;
use icecore::base::id::BackupId;
use icecore::base::secret::Secret;
use icecore::base::time::Timestamp;
use icecore::engine::backup;
use icecore::engine::backup::BackupKind;
use icecore::engine::backup::BackupOptions;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::CopyReport;
use icecore::engine::copy::DatasetCopy;
use icecore::engine::copy::Wanted;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::format::entry::Content;
use icecore::format::entry::EntryNode;
use icecore::format::entry::TrackedEntry;
use icecore::repository::Repository;
use icecore::repository::open::CreateOptions;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeSet;

const WORLDS: [fn() -> World; 4] = [World::memory, World::class_b, World::encrypted, World::other];

impl World {
    /// Encrypted with another password, other chunks, small packs, another level.
    fn other() -> Self {
        let mut options = CreateOptions {
            password: Some(Secret::new(b"another".to_vec())),
            pack_bytes: 256 * 1024,
            compression: 9,
            cost: CHEAP,
            ..CreateOptions::default()
        };
        options.chunks.average_fine = 16 * 1024;
        World::with(true, options)
    }
}

/// All backups of the dataset that tests have.
fn all(from: &Repository) -> Wanted {
    Wanted { dataset: from.dataset(&"data".parse().unwrap()).unwrap(), numbers: None }
}

fn some(from: &Repository, numbers: &[u64]) -> Wanted {
    let numbers: BTreeSet<BackupId> = numbers.iter().map(|&number| BackupId(number)).collect();
    Wanted { numbers: Some(numbers), ..all(from) }
}

fn try_copy(from: &World, to: &World, wanted: Wanted) -> Result<CopyReport, Error> {
    let options = CopyOptions::default();
    copy::run(&from.repository, &to.repository, &[wanted], &options, &to.context())
}

/// Copies what is wanted, and expects that nothing went wrong.
fn copy_some(from: &World, to: &World, wanted: Wanted) -> DatasetCopy {
    let mut report = try_copy(from, to, wanted).unwrap();
    let one = report.datasets.pop().unwrap();
    assert!(one.failures.is_empty() && one.error.is_none(), "{one:?}");
    one
}

fn copy_all(from: &World, to: &World) -> DatasetCopy {
    copy_some(from, to, all(&from.repository))
}

fn numbers(one: &DatasetCopy) -> Vec<(u64, u64)> {
    one.copied.iter().map(|copied| (copied.from.0, copied.to.0)).collect()
}

fn without_content(tracked: TrackedEntry) -> TrackedEntry {
    let mut tracked = tracked;
    if let EntryNode::File(file) = &mut tracked.entry.node {
        file.content = Content::Runs(Vec::new());
    }
    tracked
}

/// Checks that two backups say the same, and that the second brings back what the first does.
fn assert_same(from: &World, number: u64, to: &World, copied: u64) {
    let (a, b) = (from.snapshot(number), to.snapshot(copied));
    let entries = |snapshot: &icecore::repository::history::Snapshot| -> Vec<TrackedEntry> {
        snapshot.entries().map(|tracked| without_content(tracked.unwrap())).collect()
    };
    assert_eq!(entries(&a), entries(&b), "{number} as {copied}");
    for tracked in a.entries() {
        let tracked = tracked.unwrap();
        if tracked.entry.file().is_some() {
            let at = tracked.entry.path.to_string();
            assert!(from.content(number, &at) == to.content(copied, &at), "{at} of {number}");
        }
    }
    let (a, b) = (a.backup(), b.backup());
    assert_eq!((&a.tags, &a.description), (&b.tags, &b.description));
    let (a, b) = (&a.header, &b.header);
    assert_eq!((&a.host, &a.source), (&b.host, &b.source));
    assert_eq!((a.started, a.read_from, a.ended), (b.started, b.read_from, b.ended));
    let counts = |it: &icecore::format::backup::Header| {
        (it.counts.files, it.counts.entries, it.counts.bytes, it.counts.errors)
    };
    assert_eq!(counts(a), counts(b));
    assert_eq!(b.original, Some(a.origin(from.repository.id())));
    let target = MemoryTarget::new();
    restored::restore(to, copied, &target, &restored::options());
    restored::assert_holds(to, copied, &target);
}

/// Changes of every kind, one backup each; the last is one that changes nothing.
fn five_versions(world: &World) -> MemorySource {
    let source = rich_source().file("prose", text(900_000));
    let time = |n: i64| Some(Timestamp::new(1_700_000_000 + n * 1000, 7));
    let options = |n: i64| BackupOptions { time: time(n), ..BackupOptions::default() };
    let tags = vec!["first".to_owned()];
    let description = "the beginning".to_owned();
    world.backup_with(&source, &BackupOptions { tags, description, ..options(0) }).unwrap();
    let mut big = noise(5 << 20, 2);
    big[3 << 20..][..9].copy_from_slice(b"otherwise");
    source.put_file("big", &big);
    source.put_file("a/new", b"new");
    source.remove("c/deep/er/file");
    world.backup_with(&source, &options(1)).unwrap();
    source.edit("prose", |entry| entry.metadata.mode = 0o600);
    source.edit("c", |entry| entry.metadata.mtime = Timestamp::new(5, 5));
    source.put_file("a/one", b"first name, written again");
    world.backup_with(&source, &BackupOptions { full: true, ..options(2) }).unwrap();
    source.put_file("prose", [&text(900_000)[..], b"and an end"].concat());
    let again = source.file("c/hollow/x", noise(3000, 1)).symlink("c/other", "nowhere");
    world.backup_with(&again, &options(3)).unwrap();
    let last = BackupOptions {
        allow_unchanged: true,
        host: Some("elsewhere".to_owned()),
        dataset_was_named: true,
        ..options(4)
    };
    world.backup_with(&again, &last).unwrap();
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let change = TagChange { add: vec!["later".to_owned()], ..TagChange::default() };
    tag::run(&dataset, BackupId(2), &change, &world.context()).unwrap();
    again
}

fn puts(counts: Counts) -> (u64, u64) {
    (counts.puts, counts.puts_new)
}

#[test]
fn every_version_is_the_same_in_every_other_repository_and_is_copied_once() {
    for make in WORLDS {
        let from = make();
        five_versions(&from);
        for make in WORLDS {
            let mut to = make();

            let one = copy_all(&from, &to);

            assert_eq!(numbers(&one), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
            (0..5).for_each(|number| assert_same(&from, number, &to, number));
            assert_eq!(to.snapshot(2).backup().tags, ["later"]);
            assert_sound(&to);
            let counting = to.count_calls();
            let again = copy_all(&from, &to);
            assert_eq!((again.copied.len(), again.present, again.older), (0, 5, 0));
            assert_eq!(puts(counting.counts()), (0, 0), "nothing is written for nothing");
            assert_eq!(again.read_bytes, 0);
        }
    }
}

#[test]
fn a_second_copy_moves_what_is_new_and_nothing_else() {
    for (make, make_other) in [
        (World::memory as fn() -> World, World::memory as fn() -> World),
        (World::encrypted, World::memory),
        (World::memory, World::encrypted),
        (World::encrypted, World::other),
    ] {
        let (mut from, mut to) = (make(), make_other());
        let mut big = noise(12 << 20, 5);
        let source = MemorySource::new("s").file("big", &big).file("prose", text(3 << 20));
        from.backup(&source).unwrap();
        assert_eq!(numbers(&copy_all(&from, &to)), [(0, 0)]);
        big[7 << 20..][..20].copy_from_slice(b"twenty bytes of text");
        source.put_file("big", &big);
        source.put_file("small", noise(5000, 8));
        source.edit("prose", |entry| entry.metadata.mode = 0o600);
        from.backup(&source).unwrap();
        // As the next run of the program on another machine, which knows nothing.
        from.forget_caches();
        to.forget_caches();
        let (read, written) = (from.count_calls(), to.count_calls());

        let one = copy_all(&from, &to);

        assert_eq!((numbers(&one), one.present), (vec![(1, 1)], 1));
        let (read, written) = (read.counts(), written.counts());
        // A chunk of the large file has half a megabyte on average, and four at most.
        let chunk = 2 << 20;
        assert!(read.bytes_down < chunk, "{read:?}");
        assert!(written.bytes_up < chunk, "{written:?}");
        assert!(one.read_bytes < chunk && one.read_bytes > 20, "{one:?}");
        assert!(read.gets + read.range_gets < 40, "{read:?}");
        assert_same(&from, 1, &to, 1);
        assert!(!to.snapshot(1).backup().header.is_full(), "few changes are a partial backup");
    }
}

/// Compressed content is not compressed again: what is stored of each block is as long as it was,
/// also where the other repository would compress otherwise.
#[test]
fn blocks_are_taken_over_as_they_are_stored() {
    let stored = |world: &World| {
        let rows = all_rows(&world.repository).into_iter();
        let content = rows.filter(|location| location.row.class == 0);
        let overhead = if world.is_encrypted() { 16 } else { 0 };
        let mut lengths: Vec<(u32, u32)> = content
            .map(|location| (location.row.plain_length, location.row.length - overhead))
            .collect();
        lengths.sort_unstable();
        lengths
    };
    for make in WORLDS {
        let from = make();
        let source = MemorySource::new("s").file("noise", noise(3 << 20, 5));
        for n in 0..200 {
            source.put_file(format!("f/{n}"), text(20_000 + n * 7));
        }
        source.put_file("prose", text(2 << 20));
        from.backup(&source).unwrap();
        for make in WORLDS {
            let to = make();
            copy_all(&from, &to);
            assert_eq!(stored(&from), stored(&to));
        }
    }
    let (from, to) = (World::memory(), World::memory());
    five_versions(&from);
    copy_all(&from, &to);
    let blocks = |world: &World| -> BTreeSet<_> {
        let rows = all_rows(&world.repository).into_iter();
        rows.filter(|it| it.row.class == 0).map(|it| (it.row.block, it.row.length)).collect()
    };
    assert_eq!(blocks(&from), blocks(&to), "without encryption a block keeps even its name");
}

#[test]
fn of_a_block_of_which_little_is_wanted_only_that_is_copied() {
    for make in WORLDS {
        for make_other in [World::memory, World::other] {
            let (from, to) = (make(), make_other());
            let source = MemorySource::new("s");
            for n in 0..60 {
                source.put_file(format!("{n}"), noise(20_000, n));
            }
            from.backup(&source).unwrap();
            (5..60).for_each(|n| source.remove(format!("{n}")));
            from.backup(&source).unwrap();

            let one = copy_some(&from, &to, some(&from.repository, &[1]));

            assert_eq!(numbers(&one), [(1, 0)]);
            assert_same(&from, 1, &to, 0);
            let plain: u32 = all_rows(&to.repository).iter().map(|it| it.row.plain_length).sum();
            assert!((100_000..110_000).contains(&plain), "{plain}");
            assert_sound(&to);
        }
    }
}

/// Without encryption a table tells the names that its blobs have there.
#[test]
fn what_is_there_in_other_blocks_is_not_read_again() {
    let (mut from, to) = (World::memory(), World::memory());
    let source = MemorySource::new("s");
    for n in 0..200 {
        source.put_file(format!("{n}"), noise(30_000, n));
    }
    from.backup(&source).unwrap();
    (0..200).filter(|n| n % 70 != 0).for_each(|n| source.remove(format!("{n}")));
    from.backup(&source).unwrap();
    copy_some(&from, &to, some(&from.repository, &[1]));
    let name = "other".parse().unwrap();
    let options = BackupOptions::default();
    backup::run(&from.repository, &name, &source, &options, &from.context()).unwrap();
    from.forget_caches();

    let dataset = from.repository.dataset(&name).unwrap();
    let one = copy_some(&from, &to, Wanted { dataset, numbers: None });

    assert_eq!((numbers(&one), one.copied[0].counts.new_bytes), (vec![(0, 0)], 0));
    assert!((1000..50_000).contains(&one.read_bytes), "{one:?}");
}

#[test]
fn blocks_that_a_prune_has_thinned_are_copied_as_well() {
    for make in WORLDS {
        let mut from = make();
        let source = MemorySource::new("s");
        for n in 0..60 {
            source.put_file(format!("{n}"), noise(20_000, n));
        }
        from.backup(&source).unwrap();
        (0..60).filter(|n| n % 2 == 1).for_each(|n| source.remove(format!("{n}")));
        source.put_file("0", b"otherwise");
        from.backup_with(&source, &BackupOptions { full: true, ..Default::default() }).unwrap();
        from.hide(0);
        try_prune(&from, false).unwrap();
        from.forget_caches();
        let thinned = all_rows(&from.repository);
        assert!(thinned.iter().any(|it| !it.row.present.is_empty()), "{thinned:?}");
        for make_other in [World::memory, World::encrypted] {
            let to = make_other();

            assert_eq!(numbers(&copy_all(&from, &to)), [(1, 0)]);

            assert_same(&from, 1, &to, 0);
            assert_sound(&to);
        }
    }
}

#[test]
fn a_backup_goes_on_where_the_copy_stands() {
    let (from, to) = (World::encrypted(), World::memory());
    let source = five_versions(&from);
    copy_all(&from, &to);
    let options = BackupOptions { dataset_was_named: true, ..BackupOptions::default() };
    source.take_opened();

    let report = to.backup_with(&source, &options).unwrap();

    assert_eq!((report.kind, report.backup.0), (BackupKind::Unchanged, 4));
    assert!(source.take_opened().is_empty(), "nothing is read again");
    source.put_file("a/new", b"newer");
    assert_eq!(to.backup_with(&source, &options).unwrap().backup.0, 5);
    assert_eq!(to.content(5, "a/new"), b"newer");
    assert_eq!(source.take_opened(), [path("a/new")]);
}

#[test]
fn a_dry_run_says_what_would_be_copied_and_writes_nothing() {
    let (from, to) = (World::memory(), World::encrypted());
    five_versions(&from);
    copy_some(&from, &to, some(&from.repository, &[0, 1]));
    let (before, before_to) = (from.object_count(), to.object_count());
    let options = CopyOptions { dry_run: true };

    let wanted = [all(&from.repository)];
    let report =
        copy::run(&from.repository, &to.repository, &wanted, &options, &to.context()).unwrap();

    let one = &report.datasets[0];
    assert_eq!((numbers(one), one.present), (vec![(2, 2), (3, 3), (4, 4)], 2));
    assert_eq!(one.copied[0].counts, from.snapshot(2).backup().header.counts);
    assert_eq!((before, before_to), (from.object_count(), to.object_count()));
}

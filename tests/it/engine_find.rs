//! Looking for entries in many backups at once, against looking into each of them.

use crate::support::restored::path;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::base::error::ErrorKind;
use icecore::base::metadata::Kind;
use icecore::base::time::Timestamp;
use icecore::engine::backup::BackupOptions;
use icecore::engine::find;
use icecore::engine::find::Among;
use icecore::engine::find::FindOptions;
use icecore::engine::find::Found;
use icecore::format::entry::Entry;
use icecore::source::filter::Pattern;
use icecore::source::memory::MemorySource;
use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use proptest::strategy::Strategy;
use std::collections::BTreeMap;
use std::sync::Arc;

fn options(pattern: &str) -> FindOptions {
    FindOptions::new(Pattern::new(pattern).unwrap())
}

fn found(world: &World, options: &FindOptions) -> Vec<Found> {
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let numbers = dataset.all_numbers().unwrap();
    let mut all = Vec::new();
    let visit = &mut |found| {
        all.push(found);
        Ok(())
    };
    let context = world.context();
    let report = find::run(&dataset, &numbers, Among::All, options, &context, visit).unwrap();
    assert_eq!((report.found, report.problems.len()), (all.len() as u64, 0));
    all
}

/// Path, and the backups that hold the version: `b@0..2,4`.
fn shown(world: &World, options: &FindOptions) -> Vec<String> {
    let one = |found: Found| {
        let spans = found.spans.iter().map(|span| format!("{}..{}", span.first.0, span.last.0));
        format!("{}@{}", found.entry.path, spans.collect::<Vec<_>>().join(","))
    };
    found(world, options).into_iter().map(one).collect()
}

fn visible(world: &World) -> Vec<u64> {
    let dataset = world.repository.dataset(&world.name()).unwrap();
    dataset.backups().unwrap().iter().map(|backup| backup.header.number.0).collect()
}

/// The same by looking into every backup: versions in order of their paths and first backups,
/// each with the numbers of those that hold it.
fn by_replay(world: &World, wanted: impl Fn(&Entry) -> bool) -> Vec<(Entry, Vec<u64>)> {
    let mut versions: BTreeMap<_, Vec<(Entry, Vec<u64>)>> = BTreeMap::new();
    for number in visible(world) {
        for tracked in world.snapshot(number).entries() {
            let entry = tracked.unwrap().entry;
            if !wanted(&entry) {
                continue;
            }
            let known = versions.entry(entry.path.clone()).or_default();
            match known.iter_mut().find(|(version, _)| *version == entry) {
                Some((_, numbers)) => numbers.push(number),
                None => known.push((entry, vec![number])),
            }
        }
    }
    versions.into_values().flatten().collect()
}

fn expanded(world: &World, found: Vec<Found>) -> Vec<(Entry, Vec<u64>)> {
    let all = visible(world);
    let one = |found: Found| {
        let holds = |n: &u64| found.spans.iter().any(|s| s.first.0 <= *n && *n <= s.last.0);
        let numbers: Vec<u64> = all.iter().copied().filter(|n| holds(n)).collect();
        assert_eq!(numbers.len() as u64, found.backups);
        (found.entry, numbers)
    };
    found.into_iter().map(one).collect()
}

#[test]
fn each_version_is_shown_once_with_the_backups_that_hold_it() {
    let world = World::memory();
    let source = MemorySource::new("s").file("a/b", b"one").file("keep", b"k");
    (0..30).for_each(|n| source.put_file(format!("fill/{n}"), b"x"));
    world.backup(&source).unwrap();
    source.put_file("c", b"x");
    world.backup(&source).unwrap();
    source.put_file("a/b", b"two");
    world.backup(&source).unwrap();
    source.remove("a/b");
    world.backup(&source).unwrap();
    source.put_file("a/b", b"three");
    world.backup_with(&source, &BackupOptions { full: true, ..BackupOptions::default() }).unwrap();
    source.put_file("d", b"x");
    world.backup(&source).unwrap();

    assert_eq!(shown(&world, &options("b")), ["a/b@0..1", "a/b@2..2", "a/b@4..5"]);
    assert_eq!(shown(&world, &options("keep")), ["keep@0..5"]);
    assert_eq!(shown(&world, &options("b/")), [] as [&str; 0], "it is no folder");

    world.hide(2);
    world.hide(4);
    assert_eq!(shown(&world, &options("b")), ["a/b@0..1", "a/b@5..5"]);
    assert_eq!(shown(&world, &options("keep")), ["keep@0..5"], "gaps do not part it");
    assert!(!world.backend.objects().keys().any(|key| key.as_str().starts_with("leases/")));
}

#[test]
fn a_version_that_comes_back_is_still_one() {
    let world = World::memory();
    let source = MemorySource::new("s").file("a", b"one");
    let mut first = None;
    source.edit("a", |entry| first = Some(entry.clone()));
    world.backup(&source).unwrap();
    source.put_file("a", b"other");
    world.backup(&source).unwrap();
    source.put_file("a", b"one");
    source.edit("a", |entry| entry.metadata = first.unwrap().metadata);
    world.backup(&source).unwrap();

    assert_eq!(shown(&world, &options("a")), ["a@0..0,2..2", "a@1..1"]);
}

#[test]
fn what_replaces_an_entry_by_another_kind_ends_it() {
    let world = World::memory();
    let source = MemorySource::new("s").file("x", b"file").file("z", b"");
    world.backup(&source).unwrap();
    source.remove("x");
    let source = source.directory("x");
    world.backup(&source).unwrap();
    source.remove("x");
    world.backup(&source).unwrap();

    assert_eq!(shown(&world, &options("x/")), ["x@1..1"]);
    let files = FindOptions { kind: Some(Kind::File), ..options("x") };
    assert_eq!(shown(&world, &files), ["x@0..0"]);
    let large = FindOptions { larger_than: Some(3), ..options("*") };
    assert_eq!(shown(&world, &large), ["x@0..0"]);
    let larger = FindOptions { larger_than: Some(4), ..options("*") };
    assert_eq!(shown(&world, &larger), [] as [&str; 0]);
    let new = FindOptions { newer_than: Some(Timestamp::new(2_000_000_000, 0)), ..options("*") };
    assert_eq!(shown(&world, &new), [] as [&str; 0]);
}

#[test]
fn one_backup_and_one_folder_of_it_can_be_looked_at() {
    let world = World::memory();
    let source = MemorySource::new("s").file("a/x", b"1").file("b/x", b"2").file("b/c/x", b"3");
    world.backup(&source).unwrap();
    source.put_file("b/x", b"changed");
    world.backup(&source).unwrap();
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let numbers = dataset.all_numbers().unwrap();
    let one = dataset.backups().unwrap().remove(1);
    let within = FindOptions { within: path("b"), ..options("x") };
    let mut paths = Vec::new();
    let visit = &mut |found: Found| {
        assert_eq!((found.spans[0].first.0, found.spans[0].last.0, found.backups), (1, 1, 1));
        paths.push(found.entry.path.to_string());
        Ok(())
    };

    find::run(&dataset, &numbers, Among::One(one), &within, &world.context(), visit).unwrap();

    assert_eq!(paths, ["b/c/x", "b/x"]);
}

#[test]
fn each_manifest_is_read_once() {
    let mut world = World::memory();
    let source = MemorySource::new("s");
    (0..400).for_each(|n| source.put_file(format!("{n:03}"), noise(8, n)));
    for n in 0..40 {
        source.put_file(format!("{n:03}"), noise(9, n));
        world.backup(&source).unwrap();
    }
    let mut counting = None;
    world.wrap(|inner| {
        let wrapped = Arc::new(CountingBackend::new(inner));
        counting = Some(Arc::clone(&wrapped));
        wrapped as Arc<dyn Backend>
    });
    let counting = counting.unwrap();

    assert_eq!(found(&world, &options("039")).len(), 2);

    let counts = counting.counts();
    // 40 headers, 40 objects of the index, the name; blocks of the full index.
    assert!(counts.gets <= 90, "{counts:?}");
    assert!(counts.range_gets <= 8, "{counts:?}");
}

#[test]
fn a_cancelled_search_stops() {
    let world = World::memory();
    world.backup(&MemorySource::new("s").file("a", b"1")).unwrap();
    world.cancel.cancel();
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let numbers = dataset.all_numbers().unwrap();
    let visit = &mut |_| Ok(());

    let context = world.context();
    let ended = find::run(&dataset, &numbers, Among::All, &options("*"), &context, visit);

    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Folder(u8),
    Backup(bool),
    Hide(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8, 0..3_u8).prop_map(|(at, content)| Step::Put(at, content)),
        2 => (0..8_u8).prop_map(Step::Remove),
        1 => (0..8_u8).prop_map(Step::Folder),
        5 => any::<bool>().prop_map(Step::Backup),
        1 => any::<u8>().prop_map(Step::Hide),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_what_a_look_into_each_backup_gives(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let world = World::memory();
        let mut source = MemorySource::new("s");
        // Enough rows that full indexes are not due all the time.
        (0..40).for_each(|n| source.put_file(format!("fill/{n}"), b""));
        world.backup(&source).unwrap();
        let name = |at: u8| format!("{}/{at}", at % 2);
        for step in steps {
            match step {
                Step::Put(at, content) => source.put_file(name(at), [content; 3]),
                Step::Remove(at) => source.remove(name(at)),
                Step::Folder(at) => {
                    source.remove(name(at));
                    source = source.directory(name(at));
                }
                Step::Backup(full) => {
                    let options = BackupOptions { full, ..BackupOptions::default() };
                    world.backup_with(&source, &options).unwrap();
                }
                Step::Hide(which) => {
                    let all = visible(&world);
                    if all.len() > 1 {
                        world.hide(all[usize::from(which) % all.len()]);
                    }
                }
            }
        }

        for pattern in ["*", "3", "1/", "/0/**"] {
            let options = options(pattern);
            let is_match = |entry: &Entry| {
                options.pattern.matches(&entry.path, entry.kind() == Kind::Directory)
            };
            let expected = by_replay(&world, is_match);
            prop_assert_eq!(expanded(&world, found(&world, &options)), expected);
        }
    }
}

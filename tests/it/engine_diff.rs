//! What differs between two backups, or a backup and a folder, against looking at both.

mod copied;

use crate::support::folder::Folder;
use crate::support::restored::path;
use crate::support::restored::rich_source;
use crate::support::restored::text;
use crate::support::tree::build_awkward_tree;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::base::time::Timestamp;
use icecore::engine::address;
use icecore::engine::address::Version;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::diff;
use icecore::engine::diff::DiffReport;
use icecore::engine::diff::DiffRow;
use icecore::engine::diff::FolderOptions;
use icecore::engine::diff::Side;
use icecore::engine::restore;
use icecore::repository::history::Snapshot;
use icecore::source::Source;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::Failure;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prop_assert_eq;
use proptest::proptest;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

fn side(snapshot: Snapshot, at: &str) -> Side {
    Side { snapshot, path: path(at) }
}

fn rows_of(world: &World, a: &Side, b: &Side) -> (Vec<DiffRow>, DiffReport) {
    let mut rows = Vec::new();
    let report = diff::run(a, b, &world.context(), &mut |row| {
        rows.push(row);
        Ok(())
    });
    (rows, report.unwrap())
}

/// `modified a/b content time`
fn shown(row: &DiffRow) -> String {
    let words: Vec<&str> = row.what.iter().map(|what| what.as_str()).collect();
    let text = format!("{} {} {}", row.change.as_str(), row.path, words.join(" "));
    text.trim_end().to_owned()
}

fn between(world: &World, a: u64, b: u64) -> Vec<String> {
    let (rows, _) = rows_of(world, &side(world.snapshot(a), ""), &side(world.snapshot(b), ""));
    rows.iter().map(shown).collect()
}

fn with_folder(world: &World, n: u64, source: &dyn Source, read_all: bool) -> Vec<String> {
    let options = FolderOptions { read_all, ..FolderOptions::default() };
    let mut rows = Vec::new();
    let visit = &mut |row: DiffRow| {
        rows.push(shown(&row));
        Ok(())
    };
    let side = side(world.snapshot(n), "");
    let report = diff::with_folder(&side, source, options, &world.context(), visit).unwrap();
    assert_eq!(report.errors, []);
    rows
}

fn filled() -> MemorySource {
    let source = rich_source();
    // Enough rows that full indexes are not due all the time.
    (0..60).for_each(|n| source.put_file(format!("fill/{n}"), b"x"));
    source
}

fn has_no_lease(world: &World) -> bool {
    !world.backend.objects().keys().any(|key| key.as_str().starts_with("leases/"))
}

#[test]
fn each_thing_that_can_differ_is_named() {
    let world = World::memory();
    let source = filled();
    world.backup(&source).unwrap();
    source.put_file("new", b"123");
    source.remove("a/twin2");
    source.put_file("big", noise(5 << 20, 99));
    source.edit("a/twin", |entry| entry.metadata.mode = 0o600);
    source.edit("c", |entry| entry.metadata.mtime = Timestamp::new(5, 5));
    source.edit("c/hollow", |entry| entry.metadata.mode = 0o700);
    source.remove("c/link");
    source.remove("c/pipe");
    source.remove("c/tty");
    let source = source
        .symlink("c/link", "elsewhere")
        .directory("c/pipe")
        .device("c/tty", Kind::CharDevice, (5, 2))
        .xattr("fill/1", "user.colour", "red");
    let owner = |entry: &mut icecore::source::SourceEntry| {
        Arc::make_mut(&mut entry.metadata.owner).uid = 77;
    };
    source.edit("fill/2", owner);
    // So that the attribute shows to a scan.
    source.edit("fill/1", |entry| entry.detection.ctime = Timestamp::new(1, 1));
    world.backup(&source).unwrap();

    let (a, b) = (side(world.snapshot(0), ""), side(world.snapshot(1), ""));
    let (rows, report) = rows_of(&world, &a, &b);
    let mut told: Vec<String> = rows.iter().map(shown).collect();
    // The time of what was made anew differs too, as that is what the source's clock does.
    told.iter_mut().for_each(|row| *row = row.replace(" time", ""));

    let expected = [
        "modified a/twin mode",
        "deleted a/twin2",
        "modified big content",
        "modified c/hollow mode",
        "modified c/link target",
        "modified c/pipe kind",
        "modified c/tty device",
        "modified fill/1 xattrs",
        "modified fill/2 owner",
        "added new",
    ];
    assert_eq!(told, expected);
    assert_eq!((report.added, report.modified, report.metadata, report.deleted), (1, 4, 4, 1));
    assert_eq!(report.added_bytes, 3);
    assert_eq!((report.modified_bytes, report.deleted_bytes), (5 << 20, 3000));
    assert!(has_no_lease(&world));

    let back = between(&world, 1, 0);
    assert!(back.contains(&"deleted new".to_owned()) && back.contains(&"added a/twin2".to_owned()));
    assert_eq!(between(&world, 1, 1), [] as [&str; 0]);
}

#[test]
fn what_changed_and_changed_back_is_the_same() {
    let world = World::memory();
    let source = filled();
    world.backup(&source).unwrap();
    let mut before = None;
    source.edit("a/twin", |entry| before = Some(entry.clone()));
    source.put_file("a/twin", b"other");
    world.backup(&source).unwrap();
    source.put_file("a/twin", noise(3000, 1));
    source.edit("a/twin", |entry| entry.metadata = before.unwrap().metadata);
    world.backup(&source).unwrap();

    assert_eq!(between(&world, 0, 2), [] as [&str; 0]);
    assert!(between(&world, 0, 1).contains(&"modified a/twin content time".to_owned()));
}

#[test]
fn a_part_of_a_backup_is_compared_with_another() {
    let world = World::memory();
    let source = MemorySource::new("s").file("a/x/1", b"1").file("a/y", b"2").file("b", b"3");
    world.backup(&source).unwrap();
    source.put_file("a/x/1", b"changed");
    source.put_file("b", b"changed");
    world.backup(&source).unwrap();

    let of = |a: &str, b: &str| -> Vec<String> {
        let (rows, _) = rows_of(&world, &side(world.snapshot(0), a), &side(world.snapshot(1), b));
        rows.iter().map(|row| format!("{} {}", row.change.as_str(), row.path)).collect()
    };
    assert_eq!(of("a", "a"), ["modified x/1"]);
    assert_eq!(of("a/x/1", "a/x/1"), ["modified "]);
    assert_eq!(of("a/y", "a/y"), [] as [&str; 0]);
    assert_eq!(of("a/x", "a"), ["deleted 1", "added x", "added x/1", "added y"]);

    let (a, b) = (side(world.snapshot(0), "a/z"), side(world.snapshot(1), "a"));
    let error = diff::run(&a, &b, &world.context(), &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(has_no_lease(&world));
}

/// Another dataset of the same world.
fn back_up_other(world: &World, source: &dyn Source) -> Snapshot {
    let name = "other".parse().unwrap();
    let options = BackupOptions::default();
    backup::run(&world.repository, &name, source, &options, &world.context()).unwrap();
    let dataset = world.repository.dataset(&name).unwrap();
    let numbers = dataset.all_numbers().unwrap();
    let newest = dataset.newest(&numbers).unwrap().unwrap();
    dataset.snapshot(&numbers, Arc::new(newest)).unwrap()
}

#[test]
fn content_of_two_datasets_is_the_same_however_it_was_cut() {
    let world = World::memory();
    // One dataset knew the files when they were small, and goes on cutting them as then.
    let small = MemorySource::new("s").file("grown", text(30_000)).file("same", text(500_000));
    world.backup(&small).unwrap();
    let grown = text(100_000);
    small.put_file("grown", &grown);
    let zeros = vec![0; 200_000];
    let plain = [&zeros[..], &text(50_000)[..], &zeros[..]].concat();
    small.put_file("holes", &plain);
    small.put_file("differs", text(60_000));
    world.backup(&small).unwrap();
    let mut last = text(60_000);
    *last.last_mut().unwrap() ^= 1;
    let other = MemorySource::new("o")
        .file("grown", &grown)
        .file("same", text(500_000))
        .file("differs", last)
        .sparse_file("holes", plain.len(), &[(196_608, &plain[196_608..253_952])]);
    let other = back_up_other(&world, &other);

    let cut = |snapshot: &Snapshot| {
        let tracked = snapshot.entry(&path("grown")).unwrap().unwrap();
        tracked.entry.file().unwrap().cut
    };
    assert_ne!(cut(&world.snapshot(1)), cut(&other), "the test is about other cuts");
    let (rows, report) = rows_of(&world, &side(world.snapshot(1), ""), &side(other, ""));
    let content = |row: &&DiffRow| row.what.contains(&diff::What::Content);
    let paths: Vec<String> = rows.iter().filter(content).map(|row| row.path.to_string()).collect();
    assert_eq!(paths, ["differs"]);
    assert_eq!(report.errors, []);
}

#[test]
fn two_backups_of_a_dataset_are_compared_without_reading_content() {
    let mut world = World::memory();
    let source = MemorySource::new("s");
    (0..3000).for_each(|n| source.put_file(format!("{:02}/{n:05}", n % 50), noise(2000, n)));
    world.backup(&source).unwrap();
    for n in 0..12 {
        source.put_file(format!("17/{n:05}"), noise(2001, n));
        world.backup(&source).unwrap();
    }
    let mut counting = None;
    world.wrap(|inner| {
        let wrapped = Arc::new(CountingBackend::new(inner));
        counting = Some(Arc::clone(&wrapped));
        wrapped as Arc<dyn Backend>
    });
    let counting = counting.unwrap();
    world.repository.refresh_index().unwrap();
    let (a, b) = (side(world.snapshot(11), ""), side(world.snapshot(12), ""));
    let before = counting.counts();

    let (rows, _) = rows_of(&world, &a, &b);

    assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), ["added 17/00011"]);
    let after = counting.counts();
    assert_eq!(after.gets, before.gets, "no header is read again");
    // The folder that changed, and the new file: of the full index one or two ranges at most.
    assert!(after.range_gets - before.range_gets <= 8, "{before:?} {after:?}");
    assert!(after.bytes_down - before.bytes_down < 100_000, "{before:?} {after:?}");
}

#[test]
fn numbers_are_listed_once() {
    let mut world = World::memory();
    let source = MemorySource::new("s").file("a", b"1");
    for n in 0..5_u8 {
        source.put_file("a", [n]);
        world.backup(&source).unwrap();
    }
    let mut counting = None;
    world.wrap(|inner| {
        let wrapped = Arc::new(CountingBackend::new(inner));
        counting = Some(Arc::clone(&wrapped));
        wrapped as Arc<dyn Backend>
    });
    let counting = counting.unwrap();
    let dataset = world.repository.dataset(&world.name()).unwrap();
    let lists = || counting.counts().lists;
    for version in [Version::Latest(0), Version::Latest(2), Version::Number(BackupId(3))] {
        let before = lists();
        let found = address::resolve(&dataset, &version).unwrap();
        dataset.snapshot(&found.numbers, found.backup).unwrap();
        // The top of the dataset, and its thousand.
        assert_eq!(lists() - before, 2, "{version}");
    }
    let found = address::resolve(&dataset, &Version::Latest(4)).unwrap();
    assert_eq!(found.backup.header.number.0, 0);
    let Err(error) = address::resolve(&dataset, &Version::Latest(5)) else { panic!("found") };
    assert!(error.to_string().contains("has only 5 backups"), "{error}");
}

#[test]
fn a_restored_folder_does_not_differ() {
    let (from, into) = (Folder::new(), Folder::new());
    build_awkward_tree(from.path());
    let world = World::memory();
    world.backup(&LocalSource::open(from.path(), LocalOptions::default()).unwrap()).unwrap();
    let target = LocalTarget::new(&into.path().join("new"));
    restore::run(&world.snapshot(0), &target, &Default::default(), &world.context()).unwrap();
    let open = |folder: &std::path::Path| LocalSource::open(folder, LocalOptions::default());
    let copy = open(&into.path().join("new")).unwrap();

    for read_all in [false, true] {
        assert_eq!(with_folder(&world, 0, &copy, read_all), [] as [&str; 0]);
        let original = open(from.path()).unwrap();
        assert_eq!(with_folder(&world, 0, &original, read_all), [] as [&str; 0]);
    }

    let new = into.path().join("new");
    fs::write(new.join("size-1"), b"?").unwrap();
    fs::write(new.join("names/a"), b"longer than before").unwrap();
    fs::remove_file(new.join("links/dangling")).unwrap();
    fs::write(new.join("names.d/extra"), b"").unwrap();
    let touched = new.join("size-4096");
    fs::File::options()
        .write(true)
        .open(&touched)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    let expected = [
        "deleted links/dangling",
        "modified names/a content time",
        "added names.d/extra",
        "modified size-1 content time",
        "modified size-4096 time",
    ];
    assert_eq!(with_folder(&world, 0, &copy, false), expected);
}

/// The same length and time, and other content: only `read_all` sees it in another folder, and
/// the inode tells of it in the very folder that was backed up.
#[test]
fn what_looks_unchanged_is_read_only_when_asked_or_in_doubt() {
    let (from, into) = (Folder::new(), Folder::new());
    fs::write(from.path().join("a"), b"one").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let set = |path: &std::path::Path, content: &[u8]| {
        fs::write(path, content).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    };
    set(&from.path().join("a"), b"one");
    let open = |folder: &std::path::Path| LocalSource::open(folder, LocalOptions::default());
    let world = World::memory();
    world.backup(&open(from.path()).unwrap()).unwrap();
    set(&into.path().join("a"), b"two");
    set(&from.path().join("a"), b"six");
    let (from, into) = (open(from.path()).unwrap(), open(into.path()).unwrap());
    let files = |rows: Vec<String>| -> Vec<String> {
        rows.into_iter().filter(|row| row.contains(" a")).collect()
    };

    assert_eq!(files(with_folder(&world, 0, &into, false)), [] as [&str; 0]);
    assert_eq!(files(with_folder(&world, 0, &into, true)), ["modified a content"]);
    assert_eq!(files(with_folder(&world, 0, &from, false)), ["modified a content"]);
}

#[test]
fn the_folder_may_come_first_and_be_a_part() {
    let world = World::memory();
    let source = MemorySource::new("s").file("sub/a", b"1").file("sub/b", b"2").file("c", b"3");
    world.backup(&source).unwrap();
    let folder = MemorySource::new("f").file("b", b"22").file("d", b"4");
    let options = FolderOptions { folder_first: true, read_all: false };
    let mut rows = Vec::new();
    let visit = &mut |row: DiffRow| {
        rows.push(format!("{} {}", row.change.as_str(), row.path));
        Ok(())
    };

    let side = side(world.snapshot(0), "sub");
    let report = diff::with_folder(&side, &folder, options, &world.context(), visit).unwrap();

    assert_eq!(rows, ["added a", "modified b", "deleted d"]);
    assert_eq!((report.added_bytes, report.modified_bytes, report.deleted_bytes), (1, 1, 1));
    assert!(has_no_lease(&world));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_compared() {
    let world = World::memory();
    let source = MemorySource::new("s").file("a", b"1").file("b", b"2").file("f/c", b"3");
    world.backup(&source).unwrap();
    let folder = MemorySource::new("f").file("a", b"1").file("b", b"!").file("f/c", b"3");
    folder.edit("a", |entry| entry.metadata.mtime = Timestamp::new(9, 9));
    folder.set_failure("a", Some(Failure::Unreadable));
    folder.set_failure("f", Some(Failure::Unlisted));
    let mut rows = Vec::new();
    let visit = &mut |row: DiffRow| {
        rows.push(row.path.to_string());
        Ok(())
    };

    let side = side(world.snapshot(0), "");
    let options = FolderOptions { read_all: true, ..FolderOptions::default() };
    let report = diff::with_folder(&side, &folder, options, &world.context(), visit).unwrap();

    let failed: Vec<String> =
        report.errors.iter().map(|e| e.path.as_ref().unwrap().to_string()).collect();
    assert_eq!(failed, ["a", "f"]);
    assert_eq!(rows.iter().filter(|row| !row.is_empty()).collect::<Vec<_>>(), ["b"]);
}

type Plain = BTreeMap<EntryPath, icecore::format::entry::Entry>;

fn plain(world: &World, n: u64) -> Plain {
    let entries = world.snapshot(n).entries();
    entries.map(|it| it.unwrap().entry).map(|it| (it.path.clone(), it)).collect()
}

fn naive(a: &Plain, b: &Plain) -> Vec<String> {
    let paths: std::collections::BTreeSet<&EntryPath> = a.keys().chain(b.keys()).collect();
    let word = |path: &&EntryPath| match (a.get(path), b.get(path)) {
        (None, Some(_)) => Some(format!("added {path}")),
        (Some(_), None) => Some(format!("deleted {path}")),
        (Some(one), Some(other)) => {
            let mut other = other.clone();
            if one.kind() == Kind::Directory && other.kind() == Kind::Directory {
                other.metadata.mtime = one.metadata.mtime;
            }
            (*one != other).then(|| format!("modified {path}"))
        }
        (None, None) => None,
    };
    paths.iter().filter_map(word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_two_backups_differ_in_what_their_entries_differ_in(
        steps in prop::collection::vec((0..9_u8, 0..4_u8, any::<bool>(), 0..8_u8), 1..40),
        hidden in any::<u8>(),
    ) {
        let world = World::memory();
        let source = MemorySource::new("s");
        (0..40).for_each(|n| source.put_file(format!("fill/{n}"), b""));
        world.backup(&source).unwrap();
        let mut count = 1;
        for (at, content, backs_up, full) in steps {
            let name = format!("{}/{at}", at % 2);
            match content {
                0 => source.remove(&name),
                _ => source.put_file(&name, [content; 3]),
            }
            if backs_up {
                let options = BackupOptions { full: full == 0, ..BackupOptions::default() };
                let report = world.backup_with(&source, &options).unwrap();
                count = report.backup.0 + 1;
                if count == 3 && hidden % 2 == 0 {
                    // What comes next is written on the one before.
                    world.hide(2);
                }
            }
        }
        let is_hidden = |n: u64| n == 2 && count >= 3 && hidden % 2 == 0;
        let visible: Vec<u64> = (0..count).filter(|&n| !is_hidden(n)).collect();
        for &a in &visible {
            for &b in &visible {
                let sides = [a, b].map(|n| side(world.snapshot(n), ""));
                let (rows, _) = rows_of(&world, &sides[0], &sides[1]);
                let one = |row: &DiffRow| format!("{} {}", row.change.as_str(), row.path);
                let told: Vec<String> = rows.iter().map(one).collect();
                let expected = naive(&plain(&world, a), &plain(&world, b));
                prop_assert_eq!(told, expected, "{} {}", a, b);
            }
        }
    }
}

//! Restoring: what comes back, all of it or what was asked for.

use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::assert_holds;
use crate::support::restored::backed_up;
use crate::support::restored::excluding;
use crate::support::restored::options;
use crate::support::restored::path;
use crate::support::restored::put;
use crate::support::restored::restore;
use crate::support::restored::rich_source;
use crate::support::restored::small_source;
use crate::support::restored::try_restore;
use crate::support::tree::build_awkward_tree;
use crate::support::tree::difference;
use crate::support::tree::fingerprint;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::key::ObjectKey;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::metadata::Extent;
use icecore::base::time::Timestamp;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::source::local::LocalOptions;
use icecore::source::local::LocalSource;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

#[test]
fn everything_comes_back_as_it_was() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();

    let report = restore(&world, 0, &target, &RestoreOptions { verify: true, ..options() });

    assert_holds(&world, 0, &target);
    let counts = world.snapshot(0).backup().header.counts;
    assert_eq!((report.files, report.bytes), (counts.files, counts.bytes));
    let leases = |key: &ObjectKey| key.as_str().starts_with("leases/");
    assert!(!world.backend.objects().keys().any(leases), "the reader's lease is given back");
    let expected =
        [Extent { offset: 8192, length: 4096 }, Extent { offset: 1 << 19, length: 8192 }];
    assert_eq!(target.extents(&path("holes")).unwrap(), expected, "holes come back as holes");
    assert_eq!(target.extents(&path("nothing but a hole")).unwrap(), []);
}

#[test]
fn many_windows_give_the_same_as_one() {
    let mut world = backed_up(&rich_source());
    for threads in [1, 3] {
        world.threads = threads;
        let target = MemoryTarget::new();
        let options = RestoreOptions { verify: true, ..options() };

        let snapshot = world.snapshot(0);
        let report = restore::run_bounded(&snapshot, &target, &options, &world.context(), TINY);

        assert_eq!(report.unwrap().errors, []);
        assert_holds(&world, 0, &target);
    }
}

#[test]
fn an_encrypted_backup_comes_back() {
    let world = World::encrypted();
    world.backup(&rich_source()).unwrap();
    let target = MemoryTarget::new();

    restore(&world, 0, &target, &RestoreOptions { verify: true, ..options() });

    assert_holds(&world, 0, &target);
}

#[test]
fn a_file_with_lists_of_runs_comes_back() {
    // Every other piece is known already, so that the runs are short and many.
    let piece = |n: u64| noise(40_000, n);
    let world = World::memory();
    let mut old = MemorySource::new("runs");
    let mut long = Vec::new();
    for n in 0..300 {
        old = old.file(format!("{n:03}"), piece(n));
        long.extend_from_slice(&piece(n));
        long.extend_from_slice(&noise(20_000, n + 1000));
    }
    world.backup(&old).unwrap();
    old.put_file("long", &long);
    world.backup(&old).unwrap();
    let target = MemoryTarget::new();

    let snapshot = world.snapshot(1);
    let context = world.context();
    let report = restore::run_bounded(&snapshot, &target, &options(), &context, TINY).unwrap();

    assert_eq!(report.errors, []);
    assert!(target.content(&path("long")).unwrap() == long);
}

#[test]
fn the_awkward_tree_comes_back_on_disk() {
    let (from, into) = (Folder::new(), Folder::new());
    build_awkward_tree(from.path());
    let world = World::memory();
    let mut before = fingerprint(from.path());
    before.retain(|_, fact| fact.kind != rustix::fs::FileType::Socket);
    world.backup(&LocalSource::open(from.path(), LocalOptions::default()).unwrap()).unwrap();
    let target = LocalTarget::new(&into.path().join("new"));

    let report = try_restore(&world, 0, &target, &RestoreOptions { verify: true, ..options() });

    assert_eq!(report.unwrap().errors, []);
    assert_eq!(difference(&before, &fingerprint(&into.path().join("new"))), [] as [String; 0]);
}

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    put(&target, "precious", b"mine");

    let error = try_restore(&world, 0, &target, &options()).unwrap_err();

    assert_eq!((error.kind(), error.origin()), (ErrorKind::InvalidInput, Origin::Target));
    assert!(error.hint_text().unwrap().contains("--overwrite"));
    assert_eq!(target.entries().len(), 2);
}

#[test]
fn stripping_a_folder_puts_its_contents_into_the_target() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();

    restore(&world, 0, &target, &RestoreOptions { strip: path("c/deep"), ..options() });

    let paths: Vec<String> = target.entries().keys().map(ToString::to_string).collect();
    assert_eq!(paths, ["", "er", "er/file"]);
    assert_eq!(target.content(&path("er/file")).unwrap(), noise(70_000, 3));
}

#[test]
fn stripping_a_file_keeps_its_name() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();

    restore(&world, 0, &target, &RestoreOptions { strip: path("c/deep/er/file"), ..options() });

    assert_eq!(target.content(&path("file")).unwrap(), noise(70_000, 3));
    assert_eq!(target.entries().len(), 2);
}

#[test]
fn selected_paths_come_with_the_folders_above_them() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    let paths = vec![path("c/link"), path("c/deep"), path("a/twin"), path("c/deep/er")];

    restore(&world, 0, &target, &RestoreOptions { paths, ..options() });

    let found = target.entries();
    let shown: Vec<String> = found.keys().map(ToString::to_string).collect();
    let expected = ["", "a", "a/twin", "c", "c/deep", "c/deep/er", "c/deep/er/file", "c/link"];
    assert_eq!(shown, expected);
    assert_eq!(found[&path("a")].metadata.mode, 0o500, "they have their metadata");
    assert_ne!(found[&path("")].metadata.mtime, Timestamp::new(77, 5), "the root has not");
}

#[test]
fn a_path_that_is_not_there_is_not_found() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    let gone = vec![path("a/one"), path("a/on")];

    for options in [
        RestoreOptions { paths: gone, ..options() },
        RestoreOptions { strip: path("nowhere"), ..options() },
        RestoreOptions { strip: path("a"), paths: vec![path("c")], ..options() },
    ] {
        let error = try_restore(&world, 0, &target, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(target.entries().len(), 0, "nothing was made");
}

#[test]
fn the_filter_leaves_out_whole_folders() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    let filter = excluding(&["/c/", "*win*", "holes", "nothing*", "big"]);

    restore(&world, 0, &target, &RestoreOptions { filter, ..options() });

    let paths: Vec<String> = target.entries().keys().map(ToString::to_string).collect();
    assert_eq!(paths, ["", "a", "a/empty", "a/one", "z", "z/last"]);
}

#[test]
fn owners_are_left_alone_when_asked_to() {
    let source = small_source();
    source.edit("a", |entry| {
        let owner = icecore::base::metadata::Owner { uid: 7, gid: 8, ..Default::default() };
        entry.metadata.owner = Arc::new(owner);
    });
    let world = backed_up(&source);
    let denied = MemoryTarget::new();
    denied.deny_owner();

    let report = try_restore(&world, 0, &denied, &options()).unwrap();
    assert_eq!(report.errors.len(), 1);
    assert_eq!(report.errors[0].path, Some(path("a")));
    assert_eq!(denied.content(&path("a")).unwrap(), b"alpha", "the content is there");
    let hints = || world.progress.warnings().iter().filter(|w| w.contains("--no-owner")).count();
    assert_eq!(hints(), 1);

    let target = MemoryTarget::new();
    target.deny_owner();
    restore(&world, 0, &target, &RestoreOptions { owner: false, ..options() });
    assert_eq!(target.entries()[&path("a")].metadata.owner.uid, 0);
}

#[test]
fn a_restore_reads_neighbours_together() {
    let mut source = MemorySource::new("many");
    for n in 0..400 {
        source = source.file(format!("{}/{n}", n % 7), noise(20_000, n));
    }
    let mut world = backed_up(&source);
    let mut counting = None;
    world.wrap(|inner| {
        let backend = Arc::new(CountingBackend::new(inner));
        counting = Some(Arc::clone(&backend));
        backend
    });
    let counting = counting.unwrap();
    let target = MemoryTarget::new();
    let before = counting.counts();

    restore(&world, 0, &target, &options());

    let reads = counting.counts().range_gets - before.range_gets;
    assert!(reads < 60, "{reads} reads for 8 MB in 400 files");
    assert_holds(&world, 0, &target);
}

#[test]
fn what_the_root_did_not_get_is_told_with_the_name_of_the_target() {
    let source = MemorySource::new("owned").file("a", b"alpha");
    source.edit("", |entry| {
        let owner = icecore::base::metadata::Owner { uid: 7, ..Default::default() };
        entry.metadata.owner = Arc::new(owner);
    });
    let world = backed_up(&source);
    let denied = MemoryTarget::new();
    denied.deny_owner();

    let report = try_restore(&world, 0, &denied, &options()).unwrap();

    let messages: Vec<_> = report.errors.iter().map(|failure| &failure.message[..]).collect();
    assert_eq!(messages, ["memory:: owner 7:0 was not set: not permitted"]);
}

//! Restoring over what is there already, deleting, and telling what would be done.

use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::assert_holds;
use crate::support::restored::backed_up;
use crate::support::restored::excluding;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::plan;
use crate::support::restored::put;
use crate::support::restored::restore;
use crate::support::restored::rich_source;
use crate::support::restored::set_mtime;
use crate::support::restored::small_source;
use crate::support::restored::text;
use crate::support::restored::try_plan;
use crate::support::restored::try_restore;
use icecore::base::cancel::Cancel;
use icecore::base::error::ErrorKind;
use icecore::base::limits::RESTORE_WINDOW_ROWS;
use icecore::engine::Context;
use icecore::engine::restore;
use icecore::engine::restore::Bounds;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::PlannedAction;
use icecore::engine::restore::RestoreOptions;
use icecore::source::memory::MemorySource;
use icecore::target::Target;
use icecore::target::local::LocalTarget;
use icecore::target::memory::MemoryTarget;

#[test]
fn always_makes_everything_anew() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    put(&target, "a", b"changed");
    put(&target, "extra", b"extra");
    let before = target.entries();

    let report = restore(&world, 0, &target, &overwriting(Overwrite::Always));

    assert_eq!(report.files, 4);
    assert_eq!(target.content(&path("a")).unwrap(), b"alpha");
    assert_ne!(target.entries()[&path("b")].inode, before[&path("b")].inode);
    assert_eq!(target.content(&path("extra")).unwrap(), b"extra");
    target.writer().unwrap().remove(&path("extra")).unwrap();
}

#[test]
fn if_changed_writes_only_what_differs() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    let before = target.entries();
    let mut wrong = text(300_000);
    wrong[150_000] ^= 1;
    let inode = before[&path("b")].inode;
    {
        let mut writer = target.writer().unwrap();
        writer.open_file(&path("b")).unwrap();
        writer.write_at(150_000, &wrong[150_000..150_001]).unwrap();
        writer.finish_file(&before[&path("b")].metadata, Default::default()).unwrap();
    }

    let report = restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));

    assert!((1..150_000).contains(&report.written_bytes), "{}", report.written_bytes);
    assert_eq!(target.entries()[&path("b")].inode, inode, "in place");
    assert_holds(&world, 0, &target);
    let again = restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));
    assert_eq!((again.written_bytes, again.files), (0, 4));
}

/// Rows of a plan without what is kept.
fn changes(mut plan: Vec<String>) -> Vec<String> {
    plan.retain(|row| !row.starts_with("keep "));
    plan
}

#[test]
fn if_changed_leaves_alone_what_has_several_names_or_no_content() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    let before = target.entries();
    let rule = overwriting(Overwrite::IfChanged);

    let (_, rows) = plan(&world, 0, &target, &rule);
    let report = restore(&world, 0, &target, &RestoreOptions { verify: true, ..rule.clone() });

    // A target does not show attributes, so that what has any counts as changed.
    assert_eq!(changes(rows), ["update a/twin"]);
    assert_eq!((report.written_bytes, report.files), (0, 14));
    let inode = |at: &str| target.entries()[&path(at)].inode;
    for (at, entry) in &before {
        assert_eq!(inode(&at.to_string()), entry.inode, "{at}");
    }

    // One name that became a file of its own is a name again, and no other file changes.
    put(&target, "c/again", b"first name");
    let mut writer = target.writer().unwrap();
    writer.link(&path("aside"), &path("a/one")).unwrap();
    writer.remove(&path("c/link")).unwrap();
    let to = icecore::target::Node::Symlink(b"../a/two".to_vec());
    let old = &before[&path("c/link")].metadata;
    writer.create_node(&path("c/link"), &to, old, Default::default()).unwrap();
    drop(writer);
    let report = restore(&world, 0, &target, &rule);
    assert_eq!(report.written_bytes, 0);
    assert_eq!((inode("c/again"), inode("aside")), (inode("a/one"), inode("a/one")));
    assert_eq!(inode("a/one"), before[&path("a/one")].inode);
    assert_eq!(target.entries()[&path("c/link")].link_target, b"../a/one");
    target.writer().unwrap().remove(&path("aside")).unwrap();
    restore(&world, 0, &target, &rule);
    assert_holds(&world, 0, &target);
}

#[test]
fn if_changed_parts_names_that_the_backup_has_for_several_files() {
    let source = MemorySource::new("links").file("a", b"same").hard_link("b", "a");
    let source = source.file("c", b"same").hard_link("d", "c").file("e", b"same");
    let world = backed_up(&source);
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    let metadata = target.entries()[&path("a")].metadata.clone();
    let mut writer = target.writer().unwrap();
    for name in ["c", "d", "e"] {
        writer.remove(&path(name)).unwrap();
        writer.link(&path(name), &path("a")).unwrap();
    }
    writer.set_metadata(&path("a"), &metadata, Default::default()).unwrap();
    drop(writer);

    restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));

    assert_holds(&world, 0, &target);
    let entries = target.entries();
    let inode = |at: &str| entries[&path(at)].inode;
    assert_eq!((inode("a"), inode("c")), (inode("b"), inode("d")));
    assert!(inode("a") != inode("c") && inode("e") != inode("a") && inode("e") != inode("c"));
}

#[test]
fn if_changed_brings_sizes_and_holes_and_metadata_back() {
    let world = backed_up(&rich_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    {
        let mut writer = target.writer().unwrap();
        for (at, length) in [("big", 6 << 20), ("c/deep/er/file", 100), ("a/empty", 10)] {
            writer.open_file(&path(at)).unwrap();
            writer.set_length(length).unwrap();
            writer.close_file().unwrap();
        }
        writer.open_file(&path("holes")).unwrap();
        writer.write_at(100_000, b"no hole").unwrap();
        writer.close_file().unwrap();
    }
    set_mtime(&target, "c", 5);

    for bounds in [TINY, Bounds::default()] {
        let rule = RestoreOptions { verify: true, ..overwriting(Overwrite::IfChanged) };
        let report =
            restore::run_bounded(&world.snapshot(0), &target, &rule, &world.context(), bounds);

        assert_eq!(report.unwrap().errors, []);
        assert_holds(&world, 0, &target);
        let holes = target.content(&path("holes")).unwrap();
        assert!(holes[100_000..100_010].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn if_changed_does_not_write_through_other_names() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    put(&target, "a", b"other");
    target.writer().unwrap().link(&path("kept"), &path("a")).unwrap();

    restore(&world, 0, &target, &overwriting(Overwrite::IfChanged));

    assert_eq!(target.content(&path("a")).unwrap(), b"alpha");
    assert_eq!(target.content(&path("kept")).unwrap(), b"other");
}

#[test]
fn if_newer_looks_at_times_alone() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    put(&target, "a", b"older");
    set_mtime(&target, "a", 3);
    put(&target, "f/c", b"newer");
    set_mtime(&target, "f/c", 4_000_000_000);

    restore(&world, 0, &target, &overwriting(Overwrite::IfNewer));

    assert_eq!(target.content(&path("a")).unwrap(), b"alpha");
    assert_eq!(target.content(&path("f/c")).unwrap(), b"newer");
}

#[test]
fn never_adds_only_what_is_missing() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    put(&target, "a", b"mine");

    let report = restore(&world, 0, &target, &overwriting(Overwrite::Never));

    assert_eq!(report.files, 3);
    assert_eq!(target.content(&path("a")).unwrap(), b"mine");
    assert_eq!(target.content(&path("f/c")).unwrap(), b"gamma");
}

#[test]
fn a_link_is_not_made_to_a_file_that_was_kept() {
    let source = MemorySource::new("links").file("a", b"content").hard_link("b", "a");
    let source = source.hard_link("c", "a");
    let world = backed_up(&source);
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    put(&target, "a", b"mine");

    restore(&world, 0, &target, &overwriting(Overwrite::Never));

    assert_eq!(target.content(&path("a")).unwrap(), b"mine");
    assert_eq!(target.content(&path("b")).unwrap(), b"content");
    let entries = target.entries();
    assert_eq!(entries[&path("b")].inode, entries[&path("c")].inode);
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_followed() {
    let (into, outside) = (Folder::new(), Folder::new());
    std::os::unix::fs::symlink(outside.path(), into.path().join("f")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("x"), into.path().join("a")).unwrap();
    let world = backed_up(&small_source());
    let target = LocalTarget::new(into.path());
    let rule = RestoreOptions { owner: false, ..overwriting(Overwrite::Always) };

    restore(&world, 0, &target, &rule);

    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(std::fs::read(into.path().join("f/c")).unwrap(), b"gamma");
    assert!(into.path().join("a").symlink_metadata().unwrap().is_file());
}

#[test]
fn delete_removes_what_the_backup_does_not_have() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    for extra in ["0", "aa", "f/b", "f/d", "zz"] {
        put(&target, extra, b"extra");
    }
    let mut writer = target.writer().unwrap();
    writer.create_directory(&path("g")).unwrap();
    writer.create_directory(&path("g/h")).unwrap();

    let rule = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };
    let report = restore(&world, 0, &target, &rule);

    assert_eq!(report.deleted, 6);
    assert_holds(&world, 0, &target);
}

#[test]
fn delete_spares_what_the_selection_leaves_out() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    for extra in ["aa", "f/b", "f/b.keep"] {
        put(&target, extra, b"extra");
    }
    let rule = RestoreOptions {
        delete: true,
        paths: vec![path("f")],
        filter: excluding(&["*.keep"]),
        ..overwriting(Overwrite::IfChanged)
    };

    let report = restore(&world, 0, &target, &rule);

    assert_eq!(report.deleted, 1);
    let paths: Vec<String> = target.entries().keys().map(ToString::to_string).collect();
    assert_eq!(paths, ["", "a", "aa", "b", "f", "f/b.keep", "f/c", "l"]);
}

#[test]
fn delete_spares_what_is_left_out_in_folders_that_go() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    let mut writer = target.writer().unwrap();
    writer.remove(&path("a")).unwrap();
    for folder in ["a", "gone", "x", "x/gone", "x/y"] {
        writer.create_directory(&path(folder)).unwrap();
    }
    drop(writer);
    for extra in ["a/b.keep", "gone/a", "gone/b", "x/a", "x/gone/a", "x/y/b.keep", "x/y/c"] {
        put(&target, extra, b"extra");
    }
    let rule = RestoreOptions {
        delete: true,
        filter: excluding(&["*.keep"]),
        ..overwriting(Overwrite::IfChanged)
    };

    let (dry, rows) = try_plan(&world, 0, &target, &rule).unwrap();
    let report = try_restore(&world, 0, &target, &rule).unwrap();

    let expected = ["skip a", "delete gone", "delete x/a", "delete x/gone", "delete x/y/c"];
    let told = changes(rows).into_iter().filter(|row| !row.starts_with("update"));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!((dry.deleted, report.deleted), (4, 4));
    let [failure] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
    assert_eq!(failure.message, "cannot restore a: the folder there holds what is left out");
    let paths: Vec<String> = target.entries().keys().map(ToString::to_string).collect();
    let stay = ["a", "a/b.keep", "b", "f", "f/c", "l", "x", "x/y", "x/y/b.keep"];
    assert_eq!(paths[1..], stay);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    restore(&world, 0, &target, &options());
    put(&target, "a", b"other");
    put(&target, "aa", b"extra");
    target.writer().unwrap().remove(&path("f/c")).unwrap();
    let before = target.entries();

    let rule = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };
    let (report, rows) = plan(&world, 0, &target, &rule);

    assert_eq!(target.entries(), before);
    let expected =
        ["update ", "update a", "delete aa", "keep b", "update f", "create f/c", "keep l"];
    assert_eq!(rows, expected);
    assert_eq!((report.deleted, report.written_bytes), (1, 0));
}

#[test]
fn a_dry_run_into_nothing_makes_no_root() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();

    let (report, rows) = plan(&world, 0, &target, &options());

    assert_eq!(target.entries().len(), 0);
    assert_eq!(report.files, 4);
    assert!(rows.iter().all(|row| row.starts_with("create ")));
    assert_eq!(rows.len(), 6);
}

#[test]
fn a_plan_is_told_while_it_is_made_in_the_order_of_paths() {
    let more = RESTORE_WINDOW_ROWS + 10;
    let mut source = MemorySource::new("s").file("a", b"alpha").file("z", b"omega");
    for n in 0..more {
        source = source.fifo(format!("n{n:07}"));
    }
    let world = backed_up(&source);
    let target = MemoryTarget::new();
    let only = RestoreOptions { paths: vec![path("a"), path("z")], ..options() };
    restore(&world, 0, &target, &only);
    let rule = overwriting(Overwrite::IfChanged);

    let (_, rows) = plan(&world, 0, &target, &rule);

    assert_eq!(rows.len(), more + 3);
    let paths: Vec<&str> = rows.iter().map(|row| row.split_once(' ').unwrap().1).collect();
    assert!(paths.is_sorted());
    assert_eq!((&*rows[1], &*rows[2], &*rows[more + 2]), ("keep a", "create n0000000", "keep z"));
    // Whoever cancels when the first row is told ends it long before the last is decided.
    let cancel = Cancel::new();
    let context = Context { cancel: &cancel, ..world.context() };
    let mut told = 0;
    let mut visit = |_: &PlannedAction| {
        told += 1;
        cancel.cancel();
        Ok(())
    };
    let ended = restore::plan(&world.snapshot(0), &target, &rule, &context, &mut visit);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!((1..more).contains(&told), "{told}");
}

//! Restoring where something of another kind stands: a folder where a file should be, a file where
//! a folder should be.

use crate::support::restored::backed_up;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::restored::plan;
use crate::support::restored::put;
use crate::support::restored::restore;
use crate::support::restored::set_mtime;
use crate::support::restored::small_source;
use crate::support::restored::try_plan;
use crate::support::restored::try_restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::restore::RestoreReport;
use icecore::target::Node;
use icecore::target::Target;
use icecore::target::memory::MemoryTarget;

const RULES: [Overwrite; 3] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer];

/// A folder that holds something where the file `a` should be, and one that holds nothing where the
/// link `l` should be; an old file where the folder `f` should be.
fn swapped() -> MemoryTarget {
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    put(&target, "f", b"a file");
    set_mtime(&target, "f", 3);
    let mut writer = target.writer().unwrap();
    for folder in ["a", "a/b", "l"] {
        writer.create_directory(&path(folder)).unwrap();
    }
    drop(writer);
    put(&target, "a/b/within", b"mine");
    set_mtime(&target, "a", 3);
    set_mtime(&target, "l", 3);
    target
}

fn failed(report: &RestoreReport) -> Vec<String> {
    report.errors.iter().map(|failure| failure.message.clone()).collect()
}

#[test]
fn a_folder_that_holds_something_stays_and_the_rest_is_restored() {
    let world = backed_up(&small_source());
    for rule in RULES {
        let target = swapped();

        let report = try_restore(&world, 0, &target, &overwriting(rule)).unwrap();

        let why =
            "cannot restore a: a folder that is not empty stands there; `--delete` removes it";
        assert_eq!(failed(&report), [why], "{rule:?}");
        assert_eq!((report.files, report.deleted), (3, 0), "{rule:?}");
        assert_eq!(target.content(&path("a/b/within")).unwrap(), b"mine", "{rule:?}");
        assert_eq!(target.content(&path("f/c")).unwrap(), b"gamma", "{rule:?}");
        assert_eq!(target.entries()[&path("l")].link_target, b"a", "{rule:?}");
    }
}

#[test]
fn delete_removes_a_folder_in_the_way_and_counts_it() {
    let world = backed_up(&small_source());
    for rule in RULES {
        let target = swapped();
        let wanted = RestoreOptions { delete: true, ..overwriting(rule) };
        let before = target.entries();

        let (dry, rows) = plan(&world, 0, &target, &wanted);
        assert_eq!(target.entries(), before);
        let expected = ["delete a", "create a", "create b", "overwrite f", "create f/c"];
        assert_eq!(rows[1..], [&expected[..], &["overwrite l"]].concat(), "{rule:?}");
        let report = restore(&world, 0, &target, &wanted);

        assert_eq!((dry.deleted, report.deleted, report.files), (1, 1, 4), "{rule:?}");
        assert_eq!(target.content(&path("a")).unwrap(), b"alpha", "{rule:?}");
        assert!(!target.entries().contains_key(&path("a/b/within")));
    }
}

#[test]
fn what_is_newer_stays_whatever_it_is() {
    let world = backed_up(&small_source());
    let target = MemoryTarget::new();
    target.prepare().unwrap();
    let rules = Default::default();
    let newer = icecore::base::metadata::Metadata {
        mtime: icecore::base::time::Timestamp::new(4_000_000_000, 0),
        ..Default::default()
    };
    let mut writer = target.writer().unwrap();
    writer.create_node(&path("a"), &Node::Symlink(b"x".to_vec()), &newer, rules).unwrap();
    writer.create_node(&path("b"), &Node::Fifo, &newer, rules).unwrap();
    drop(writer);
    put(&target, "f", b"newer work");
    set_mtime(&target, "f", 4_000_000_000);
    let before = target.entries();

    let (_, rows) = try_plan(&world, 0, &target, &overwriting(Overwrite::IfNewer)).unwrap();
    let report = try_restore(&world, 0, &target, &overwriting(Overwrite::IfNewer)).unwrap();

    assert_eq!(rows[1..], ["keep a", "keep b", "skip f", "skip f/c", "create l"]);
    let [why] = &failed(&report)[..] else { panic!("{:?}", report.errors) };
    assert!(why.contains("this folder and all in it are left out"), "{why}");
    assert!(
        why.contains("cannot restore f: something newer that is no folder stands there"),
        "{why}"
    );
    assert_eq!((report.files, report.deleted), (1, 0));
    for kept in ["a", "b", "f"] {
        assert_eq!(target.entries()[&path(kept)], before[&path(kept)]);
    }
}

#[test]
fn things_of_another_kind_are_a_failure_where_nothing_may_go() {
    let world = backed_up(&small_source());
    let target = swapped();

    let report = try_restore(&world, 0, &target, &overwriting(Overwrite::Never)).unwrap();

    let failed: Vec<_> = report.errors.iter().filter_map(|failure| failure.path.clone()).collect();
    assert_eq!(failed, [path("a"), path("f"), path("l")]);
    assert_eq!(target.content(&path("f")).unwrap(), b"a file");
    assert_eq!(report.files, 1);
}

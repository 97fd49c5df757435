//! `restore` as it is typed: what stands in the way.

use crate::cli::Home;
use crate::cli::column;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

/// Gives a file or a folder a time of 2020.
fn age(path: &Path) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    fs::File::open(path).unwrap().set_modified(then).unwrap();
}

/// A backup of 2020 and a target of today in which kinds are swapped.
fn swapped() -> Home {
    let home = Home::new();
    home.write("in/file", b"old");
    home.write("in/sub/x", b"old");
    home.write("in/plain", b"old");
    for old in ["in/file", "in/sub/x", "in/plain", "in/sub", "in"] {
        age(&home.path(old));
    }
    home.done(&["backup", "in"]);
    home.write("it/sub", b"newer work");
    home.write("it/file/doc", b"newer work");
    std::os::unix::fs::symlink("nowhere", home.path("it/plain")).unwrap();
    home
}

#[test]
fn newer_work_of_another_kind_stays_and_is_told() {
    let home = swapped();
    let restore = ["restore", "in", "it", "--overwrite", "if-newer"];

    let dry = home.json(3, &[&restore[..], &["-n"]].concat());
    let report = home.json(3, &restore);

    let plan = dry["plan"].as_array().unwrap();
    assert_eq!(column(plan, "action"), ["keep", "skip", "keep", "skip", "skip"], "{plan:?}");
    for report in [&dry, &report] {
        let errors = report["errors"].as_array().unwrap();
        assert_eq!(column(errors, "path"), ["file", "sub"], "{report}");
        assert_eq!(report["deleted"], 0);
    }
    assert_eq!(fs::read(home.path("it/sub")).unwrap(), b"newer work");
    assert_eq!(fs::read(home.path("it/file/doc")).unwrap(), b"newer work");
    assert_eq!(fs::read_link(home.path("it/plain")).unwrap(), Path::new("nowhere"));
    let why = "a folder that is not empty stands there; `--delete` removes it";
    home.run(&restore).says(3, why);
}

#[test]
fn a_folder_in_the_way_goes_with_delete_and_is_counted() {
    let home = swapped();
    let restore = ["restore", "in", "it", "--overwrite", "always"];

    home.json(3, &restore);
    assert_eq!(fs::read(home.path("it/file/doc")).unwrap(), b"newer work");
    assert_eq!(fs::read(home.path("it/sub/x")).unwrap(), b"old");
    let dry = home.json(0, &[&restore[..], &["--delete", "-n"]].concat());
    let actions = column(dry["plan"].as_array().unwrap(), "action");
    assert_eq!(actions[1..3], ["delete", "create"]);
    let report = home.json(0, &[&restore[..], &["--delete"]].concat());
    assert_eq!((&dry["deleted"], &report["deleted"]), (&1.into(), &1.into()));
    assert_eq!(fs::read(home.path("it/file")).unwrap(), b"old");
}

//! `restore` as it is typed: what stands in the way, and what is included.

use crate::cli::Home;
use crate::cli::column;
use crate::support::folder::files_below;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
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

#[test]
fn what_is_as_it_was_is_left_alone() {
    let home = Home::new();
    home.write("in/a", &vec![7; 300_000]);
    fs::hard_link(home.path("in/a"), home.path("in/b")).unwrap();
    std::os::unix::fs::symlink("a", home.path("in/l")).unwrap();
    assert!(Command::new("mkfifo").arg(home.path("in/p")).status().unwrap().success());
    home.done(&["backup", "in"]);
    home.done(&["restore", "in", "it"]);
    let inode = |name: &str| fs::symlink_metadata(home.path(name)).unwrap().ino();
    let names = ["it/a", "it/b", "it/l", "it/p"];
    let before = names.map(inode);

    let restore = ["restore", "in", "it", "--overwrite", "if-changed"];
    let dry = home.json(0, &[&restore[..], &["-n"]].concat());
    let report = home.json(0, &[&restore[..], &["--verify"]].concat());

    let actions = column(dry["plan"].as_array().unwrap(), "action");
    assert_eq!(actions, ["keep"; 5], "{dry}");
    assert_eq!((&report["files"], &report["written_bytes"]), (&4.into(), &0.into()));
    assert_eq!(names.map(inode), before);

    fs::write(home.path("it/a"), b"other").unwrap();
    home.done(&restore);
    assert_eq!(fs::read(home.path("it/b")).unwrap(), vec![7; 300_000]);
    assert_eq!(inode("it/a"), inode("it/b"));
}

#[test]
fn only_folders_that_lead_to_something_included_are_made() {
    let home = Home::new();
    for file in ["a.txt", "b/c/d.jpg", "b/e/f.txt", "g/h.txt", "keep.jpg/i/j.txt", "k/l/m.txt"] {
        home.write(&format!("in/{file}"), file.as_bytes());
    }
    fs::create_dir(home.path("in/k/empty")).unwrap();
    home.done(&["backup", "in"]);
    let made = |out: &str, arguments: &[&str]| {
        home.done(&[&["restore", "in", out], arguments].concat());
        let mut find = Command::new("find");
        let found = find.arg(home.path(out)).args(["-printf", "%P\n"]).output().unwrap().stdout;
        let mut found: Vec<String> =
            String::from_utf8(found).unwrap().lines().skip(1).map(str::to_owned).collect();
        found.sort();
        found
    };

    let jpgs = ["b", "b/c", "b/c/d.jpg", "keep.jpg", "keep.jpg/i", "keep.jpg/i/j.txt"];
    assert_eq!(made("jpgs", &["--include", "*.jpg"]), jpgs);
    assert_eq!(made("part", &["--include", "*.jpg", "--path", "b", "--path", "g"]), jpgs[..3]);
    let both = ["--include", "empty/", "--include", "/b/**", "--exclude", "*.jpg"];
    assert_eq!(made("both", &both), ["b", "b/c", "b/e", "b/e/f.txt", "k", "k/empty"]);

    let nothing = home.run(&["restore", "in", "none", "--include", "*.nomatch"]);
    nothing.says(1, "nothing in in@0 matches `*.nomatch`");
    assert!(!home.path("none").exists());
    assert_eq!(
        home.json(1, &["restore", "in", "none", "--include", "x"])["error"]["kind"],
        "not_found"
    );
}

#[test]
fn deleting_spares_what_is_not_included() {
    let home = Home::new();
    home.write("in/a.jpg", b"a");
    home.write("in/b/c.txt", b"c");
    home.done(&["backup", "in"]);
    home.done(&["restore", "in", "it"]);
    for extra in ["x.jpg", "x.txt", "b/x.jpg", "mine/x.txt", "it.jpg/x.txt"] {
        home.write(&format!("it/{extra}"), b"extra");
    }

    let restore = ["restore", "in", "it", "--include", "*.jpg", "--overwrite", "always"];
    let report = home.json(0, &[&restore[..], &["--delete"]].concat());

    assert_eq!(report["deleted"], 2);
    for (name, stays) in [("x.jpg", false), ("it.jpg", false), ("x.txt", true), ("mine", true)] {
        assert_eq!(home.path(&format!("it/{name}")).exists(), stays, "{name}");
    }
}

fn packs(home: &Home) -> BTreeSet<PathBuf> {
    let in_folder =
        |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folders = in_folder(&home.path(".local/share/icecore/packs"));
    folders.flat_map(|folder| in_folder(&folder)).collect()
}

#[test]
fn what_a_lost_pack_held_is_told_with_what_to_do() {
    let home = Home::new();
    home.write("in/a", b"a");
    home.done(&["backup", "in"]);
    let before = packs(&home);
    home.write("in/b", b"b");
    home.done(&["backup", "in"]);
    packs(&home).difference(&before).for_each(|pack| fs::remove_file(pack).unwrap());

    let ran = home.run(&["restore", "in", "it"]);

    ran.says(3, "it is missing");
    ran.says(3, "`icecore check --read-data` tells what is damaged");
    ran.says(3, "`icecore repair --read-data --dry-run` what can be done about it");
    ran.says(3, "in@1: 1 entry could not be restored as it was");
    home.run(&["cat", "in:b"]).says(1, "hint: `icecore check --read-data` tells");
    before.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    home.run(&["restore", "in@0", "it0"]).says(1, "hint: `icecore check --read-data` tells");
}

#[test]
fn a_plan_that_breaks_off_is_one_document_with_its_error() {
    let home = Home::new();
    (0..6000).for_each(|n| home.write(&format!("in/{n:04}"), n.to_string().as_bytes()));
    home.done(&["backup", "in"]);
    let packs = files_below(&home.path(".local/share/icecore/packs"));
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let sound = fs::read(pack).unwrap();
    let plan = ["restore", "in", "out", "--dry-run"];
    assert_eq!(home.json(0, &plan)["plan"].as_array().unwrap().len(), 6001);
    // Metadata lies somewhere in the first fifth, in several blocks.
    let broken_off = (1..20).any(|percent| {
        let at = sound.len() * percent / 100;
        let mut bytes = sound.clone();
        bytes[at..at + 200].fill(0);
        fs::write(pack, bytes).unwrap();
        let ran = home.run(&[&["--json"], &plan[..]].concat());
        let document: Value = serde_json::from_str(&ran.stdout).expect("one document");
        let rows = document["plan"].as_array().map_or(0, Vec::len);
        assert_eq!(ran.code == 0, rows == 6001, "{document}");
        assert_eq!(ran.code == 0, document["error"].is_null(), "{document}");
        ran.code == 1 && rows > 0
    });
    assert!(broken_off, "no damage broke a plan off between two rows");
}

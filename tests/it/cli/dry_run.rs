//! `backup --dry-run`: it tells what the backup then does, and leaves everything as it is.

use crate::cli::Home;
use crate::support::tree::noise;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

#[test]
fn a_dry_run_stores_nothing_and_makes_no_repository() {
    let home = Home::new();
    home.write("a/x", b"1");

    let report = home.json(0, &["backup", "a", "--dry-run"]);

    assert_eq!((&report["added"], &report["dry_run"]), (&1.into(), &true.into()));
    assert!(!home.path(".local").exists());
}

/// Returns what both a dry run and a backup tell, but for what a dry run cannot know.
fn told(report: &Value) -> Value {
    let mut told = report.clone();
    for field in ["seconds", "dry_run", "stored_bytes"] {
        told.as_object_mut().unwrap().remove(field);
    }
    told
}

#[test]
fn a_dry_run_tells_what_the_backup_then_does() {
    let home = Home::new();
    let many: Vec<u8> = noise(9 << 20, 1);
    for (file, content) in [
        ("a/same", &b"same"[..]),
        ("a/grows", &many[..200_000]),
        ("a/large", &many[..]),
        ("a/gone", b"gone"),
        ("a/touched", b"touched"),
        ("a/moded/x", b"x"),
    ] {
        home.write(file, content);
    }
    let both = |flags: &[&str]| {
        let dry = home.json(0, &[&["backup", "a", "--dry-run"], flags].concat());
        let done = home.json(0, &[&["backup", "a"], flags].concat());
        assert_eq!(told(&dry), told(&done), "{flags:?}");
        done
    };

    assert_eq!(both(&[])["kind"], "full");
    // As young as the backup that read it, so it is read again.
    assert_eq!(both(&[])["kind"], "unchanged");
    let again = both(&["--read-all"]);
    assert_eq!((&again["kind"], &again["new_bytes"]), (&"unchanged".into(), &0.into()));

    home.write("a/copy", &many);
    home.write("a/twin", b"new content");
    home.write("a/other twin", b"new content");
    assert_eq!(both(&[])["new_bytes"], 11, "what is known, or comes twice, is not new");

    home.write("a/grows", &many[..300_000]);
    home.write("a/large", &[&many[..5 << 20], b"between", &many[5 << 20..]].concat());
    home.write("a/touched", b"TOUCHED");
    fs::remove_file(home.path("a/gone")).unwrap();
    std::os::unix::fs::symlink("same", home.path("a/link")).unwrap();
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(home.path("a/moded"), mode).unwrap();
    fs::File::create(home.path("a/holes")).unwrap().set_len(20 << 20).unwrap();
    let done = both(&[]);
    assert_eq!((&done["added"], &done["deleted"]), (&2.into(), &1.into()));
    assert_eq!(done["modified"], 4, "the mode of a folder, too");
    assert_eq!(both(&["--allow-unchanged"])["kind"], "partial");
    assert_eq!(both(&["--allow-unchanged", "--full"])["kind"], "full");
    fs::remove_dir_all(home.path("a/moded")).unwrap();
    both(&[]);
}

#[test]
fn a_dry_run_leaves_the_repository_as_it_is() {
    let home = Home::new();
    home.write("a/x", b"1");
    home.write("b/a/x", b"1");
    home.done(&["backup", "a"]);
    home.write("a/x", b"2");
    home.write("a/y", &noise(100_000, 1));
    let store = home.path(".local/share/icecore");
    let before = everything(&store);

    home.done(&["backup", "a", "--dry-run"]);
    home.run(&["backup", "b/a", "--dry-run"]).says(2, "holds backups of");
    home.done(&["backup", "b/a", "--dataset", "a", "--dry-run"]);
    home.done(&["backup", "b", "--dry-run"]);

    assert_eq!(everything(&store), before);
}

/// Returns all paths below a folder, with their times.
fn everything(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            found.push((entry.path(), metadata.modified().unwrap()));
            folders.extend(metadata.is_dir().then(|| entry.path()));
        }
    }
    found.sort();
    found
}

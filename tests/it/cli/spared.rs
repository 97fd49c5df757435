//! A repository, and a cache, that lie in what is backed up and restored.

use crate::cli::Home;
use crate::cli::Ran;
use crate::cli::column;
use crate::cli::serve::Running;
use std::fs;
use std::os::unix::fs::symlink;

/// A folder `w` with a repository, the cache and a backup of itself; then something is added.
fn home() -> Home {
    let mut home = Home::new();
    home.write("w/deep/a", b"alpha");
    home.set("ICECORE_REPOSITORY", "w/deep/repo");
    home.set("XDG_CACHE_HOME", home.path("w/deep").to_str().unwrap());
    home.done(&["init"]);
    home.done(&["backup", "w"]);
    home.write("w/deep/a", b"other");
    home.write("w/deep/z/extra", b"x");
    home
}

/// Restores a dataset so that all else in the target goes.
fn restore(home: &Home, dataset: &str, target: &str, more: &[&str]) -> Ran {
    let words = ["restore", dataset, target, "--overwrite", "if-changed", "--delete"];
    home.run(&[&words, more].concat())
}

fn is_whole(home: &Home) {
    home.done(&["check", "--read-data"]);
    assert_eq!(home.done(&["cat", "w:deep/a"]).stdout, "alpha");
}

#[test]
fn a_restore_in_place_leaves_the_repository_and_its_cache() {
    let home = home();
    let cached = fs::read_dir(home.path("w/deep/icecore")).unwrap().count();
    assert!(cached > 0);

    let dry = restore(&home, "w", "w", &["--json", "-n"]);
    let ran = restore(&home, "w", "w", &["-v"]);

    assert_eq!((dry.code, ran.code), (0, 0), "{dry:?} {ran:?}");
    let plan: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    let plan = plan["plan"].as_array().unwrap();
    assert_eq!(column(plan, "path"), ["", "deep", "deep/a", "deep/z"], "{plan:?}");
    assert!(ran.stderr.contains("deep/repo: the repository stays"), "{ran:?}");
    assert!(ran.stderr.contains("deep/icecore: the cache stays"), "{ran:?}");
    assert_eq!(fs::read(home.path("w/deep/a")).unwrap(), b"alpha");
    assert!(!home.path("w/deep/z").exists());
    assert_eq!(fs::read_dir(home.path("w/deep/icecore")).unwrap().count(), cached);
    is_whole(&home);
}

#[test]
fn the_folder_above_the_repository_stays_where_the_backup_has_none() {
    let home = home();
    home.write("in/b", b"beta");
    home.done(&["backup", "in"]);
    symlink("w", home.path("link")).unwrap();

    let ran = restore(&home, "in", "link", &[]);

    assert_eq!(ran.code, 0, "{ran:?}");
    let names = |below: &str| {
        let rows = fs::read_dir(home.path(below)).unwrap();
        let mut names: Vec<_> = rows.map(|row| row.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("w"), ["b", "deep"]);
    assert_eq!(names("w/deep"), ["icecore", "repo"]);
    is_whole(&home);
}

#[test]
fn nothing_is_restored_into_the_repository_or_in_its_way() {
    let home = home();
    for (name, at) in [("below", "deep/repo/config"), ("itself", "deep/repo"), ("above", "deep")] {
        home.write(&format!("{name}/{at}"), b"in the way");
        home.write(&format!("{name}/plain"), b"plain");
        home.done(&["backup", name]);
        let why = match name {
            "above" => "cannot restore deep: the repository is in the folder there",
            _ => "cannot restore deep/repo: the repository is there",
        };

        for more in [&["-n"][..], &[]] {
            restore(&home, name, "w", more).says(3, why);
        }

        assert_eq!(fs::read(home.path("w/plain")).unwrap(), b"plain");
        is_whole(&home);
    }
}

/// A cache that lay elsewhere was backed up, and lies now where the backup has it.
#[test]
fn what_would_go_into_the_cache_is_left_out_without_an_error() {
    let home = home();
    home.write("old/deep/icecore/deeper/x", b"of a cache");
    home.write("old/deep/plain", b"plain");
    home.done(&["backup", "old"]);

    let ran = restore(&home, "old", "w", &["-v"]);

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("deep/icecore: the cache is there"), "{ran:?}");
    assert_eq!(fs::read(home.path("w/deep/plain")).unwrap(), b"plain");
    assert!(!home.path("w/deep/icecore/deeper").exists());
    is_whole(&home);
}

#[test]
fn a_cache_that_this_run_does_not_use_stays_too() {
    let home = home();
    let cached = fs::read_dir(home.path("w/deep/icecore")).unwrap().count();

    let ran = restore(&home, "w", "w", &["-v", "--no-cache"]);

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("deep/icecore: the cache stays"), "{ran:?}");
    assert_eq!(fs::read_dir(home.path("w/deep/icecore")).unwrap().count(), cached);
    home.done(&["backup", "w", "--no-cache"]);
    let rows = home.done(&["ls", "w:deep"]).stdout;
    assert!(rows.contains('a') && !rows.contains("icecore"), "{rows}");
}

#[test]
fn the_repository_is_no_target() {
    let home = home();
    symlink("w/deep", home.path("link")).unwrap();
    for target in ["w/deep/repo", "link/repo/", "w/deep/repo/packs", "link/repo/new/folder"] {
        let ran = restore(&home, "w", target, &[]);
        ran.says(2, "it is the repository, or in it");
        assert!(!home.path("w/deep/repo/new").exists());
    }
    restore(&home, "w", "link/icecore", &[]).says(2, "it is the cache");
    is_whole(&home);
}

#[test]
fn a_repository_on_a_server_is_left_alone_too() {
    let mut home = Home::new();
    home.write("served/deep/a", b"alpha");
    home.set("ICECORE_SERVE_PASSWORD", "s3cret pw");
    home.set("ICECORE_FTP_PASSWORD", "s3cret pw");
    let running = Running::new(&home, &["serve-ftp", "served", "--listen", "127.0.0.1:0"]);
    let server = format!("ftp://icecore@127.0.0.1:{}", running.port());
    home.set("ICECORE_REPOSITORY", &format!("{server}/deep/repo"));
    home.done(&["init", "--encryption", "none"]);
    home.done(&["backup", &server, "--dataset", "w"]);
    home.write("served/deep/z/extra", b"x");

    let ran = restore(&home, "w", &server, &["-v"]);

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("deep/repo: the repository stays"), "{ran:?}");
    assert!(!home.path("served/deep/z").exists());
    restore(&home, "w", &format!("{server}/deep/repo/x"), &[]).says(2, "or in it");
    is_whole(&home);

    // The same folder by another name: it is not known to be the repository, but looks like one.
    home.write("in/deep/b", b"beta");
    home.done(&["backup", "in"]);
    let why = "cannot delete deep/repo: an icecore repository is there; remove it yourself";
    for more in [&["-n"][..], &[]] {
        restore(&home, "in", "served", more).says(3, why);
    }
    assert!(!home.path("served/deep/a").exists() && home.path("served/deep/b").exists());
    home.write("deeper/b", b"beta");
    home.done(&["backup", "deeper"]);
    restore(&home, "deeper", "served", &[]).says(3, why);
    assert!(!home.path("served/deep/b").exists());
    is_whole(&home);
    assert_eq!(running.stop("-TERM").code, 0);
}

#[test]
fn in_a_repository_that_is_part_of_the_backup_nothing_is_deleted() {
    let home = Home::new();
    let inner = |words: &[&str]| home.done(&[&["-r", "served/repo"], words].concat());
    home.write("in/a", b"alpha");
    home.write("served/a", b"alpha");
    inner(&["init"]);
    inner(&["backup", "in"]);
    home.done(&["backup", "served"]);
    home.write("in/a", b"beta");
    home.write("served/a", b"beta");
    inner(&["backup", "in"]);

    let ran = restore(&home, "served", "served", &[]);

    ran.says(3, "cannot delete what the backup does not have in repo: an icecore repository");
    assert_eq!(fs::read(home.path("served/a")).unwrap(), b"alpha");
    inner(&["check", "--read-data"]);
    assert_eq!(inner(&["cat", "in@1:a"]).stdout, "beta");
}

//! What is chosen: listed files, filters, flags of a backup, and who may write or clear at once.

use crate::cli::Home;
use crate::cli::Ran;
use crate::cli::column;
use icecore::backend::local::LocalBackend;
use icecore::base::id::BackupId;
use icecore::base::time::Timestamp;
use icecore::repository::cache::CachePlace;
use icecore::repository::lease::Lease;
use icecore::repository::open;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

fn tree() -> Home {
    let home = Home::new();
    for file in ["a/x", "a/b/c", "a/b/d", "a/deep/er/e", "a/deep/f", "a/#g", "a/t.tmp"] {
        home.write(file, file.as_bytes());
    }
    home
}

fn files(home: &Home) -> Vec<String> {
    let listed = home.done(&["ls", "-R", "a"]).stdout;
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn only_listed_files_are_backed_up_with_the_folders_above_them() {
    let home = tree();
    home.write("list", b"deep/er/e\n\n./b//d\n#g\n");

    home.done(&["backup", "a", "--files-from", "list"]);
    assert_eq!(files(&home), ["#g", "b/", "b/d", "deep/", "deep/er/", "deep/er/e"]);

    home.write("list", b"deep\nt.tmp\n");
    let report = home.json(0, &["backup", "a", "--files-from", "list", "--exclude", "*.tmp"]);
    assert_eq!((&report["added"], &report["deleted"]), (&1.into(), &2.into()));
    assert_eq!(files(&home), ["deep/", "deep/er/", "deep/er/e", "deep/f"], "excluded is no error");
}

#[test]
fn a_listed_file_that_is_missing_is_an_error_of_that_entry() {
    let home = tree();
    home.write("list", b"b/gone\nb/c\nx/below\nzz\n");

    let report = home.json(3, &["backup", "a", "--files-from", "list"]);

    let errors = column(report["errors"].as_array().unwrap(), "path");
    assert_eq!(errors, ["b/gone", "x/below", "zz"]);
    assert_eq!(files(&home), ["b/", "b/c", "x"]);
}

/// As `find a` prints them, without `-printf %P`: the backup was an empty one, and all of the
/// dataset counted as deleted.
#[test]
fn a_list_of_which_nothing_is_there_is_refused() {
    let home = tree();
    home.done(&["backup", "a"]);
    home.write("list", b"a\na/x\na/b/c\nx/below\n");

    let ran = home.run(&["backup", "a", "--files-from", "list"]);

    ran.says(2, "none of the listed paths (4) is in");
    ran.says(2, "relative to the source");
    assert_eq!(column(home.json(0, &["list", "a"]).as_array().unwrap(), "backup"), ["0"]);
    home.run(&["-r", "new", "backup", "a", "--init", "--files-from", "list"]).says(2, "none of");
    assert!(!home.path("new").exists());
}

#[test]
fn a_list_comes_from_standard_input_and_may_be_separated_by_zeros() {
    let home = tree();
    let mut child = home
        .command(&["backup", "a", "--files-from0", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"x\0b/c\0").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(files(&home), ["b/", "b/c", "x"]);
}

#[test]
fn a_list_that_makes_no_sense_is_bad_usage() {
    let home = tree();
    home.write("c/x", b"x");
    home.write("list", b"x\n");
    home.write("empty", b"\n\n");
    home.write("outside", b"../c/x\n");
    home.write("absolute", b"/etc/passwd\n");

    home.run(&["backup", "a", "--files-from", "empty"]).says(2, "names nothing");
    home.run(&["backup", "a", "--files-from", "outside"]).says(2, "relative to the source");
    home.run(&["backup", "a", "--files-from", "absolute"]).says(2, "it is absolute");
    home.run(&["backup", "a", "--files-from", "missing"]).says(2, "missing");
    home.run(&["backup", "a", "c", "--files-from", "list"]).says(2, "one SOURCE");
    home.run(&["backup", "-", "--files-from", "list"]).says(2, "one SOURCE");
    home.run(&["backup", "a", "--files-from", "list", "--files-from0", "list"]).says(2, "cannot");
    assert!(!home.path(".local").exists());
}

#[test]
fn the_flags_of_a_backup_do_what_they_say() {
    let home = tree();
    home.write("a/cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");
    home.write("a/cache/big", b"x");
    home.write("a/.gitignore", b"x\n");

    let kept = ["--host", "box", "--tag", "t", "--tag", "u", "--description", "why"];
    let time = ["--time", "2026-01-02 03:04:05", "--exclude-caches", "--gitignore", "-x"];
    home.done(&[&["backup", "a", "-d", "a"], &kept[..], &time[..]].concat());
    let again = home.json(0, &[&["backup", "a", "-d", "a", "--read-all"], &time[2..]].concat());
    assert_eq!(again["kind"], "unchanged");
    let kind = |flags: &[&str]| {
        home.json(0, &[&["backup", "a", "-d", "a"], flags, &time[2..]].concat())["kind"].clone()
    };
    assert_eq!(kind(&["--allow-unchanged"]), "partial");
    assert_eq!(kind(&["--allow-unchanged", "--full"]), "full");
    assert_eq!(kind(&["--full"]), "unchanged");

    let listed = files(&home);
    assert!(listed.contains(&"cache/CACHEDIR.TAG".to_owned()), "{listed:?}");
    assert!(!listed.iter().any(|path| path == "cache/big" || path == "x"), "{listed:?}");
    let first = &home.json(0, &["list", "a"])[0];
    assert_eq!(first["time"], "2026-01-02T03:04:05Z");
    assert_eq!((&first["host"], &first["description"]), (&"box".into(), &"why".into()));
    assert_eq!(first["tags"], serde_json::json!(["t", "u"]));
}

#[test]
fn a_list_of_backups_is_filtered_by_tag_host_and_time() {
    let home = tree();
    for (host, time, tag) in [("one", "2026-01-01", "t"), ("two", "2026-01-03", "t")] {
        let flags = ["--host", host, "--time", time, "--tag", tag, "--tag", host];
        home.done(&[&["backup", "a", "-d", "a", "--allow-unchanged"], &flags[..]].concat());
    }
    let backups = |flags: &[&str]| {
        let rows = home.json(0, &[&["list", "a"], flags].concat());
        column(rows.as_array().unwrap(), "backup").join(" ")
    };

    assert_eq!(backups(&[]), "0 1");
    assert_eq!(backups(&["--host", "two"]), "1");
    assert_eq!(backups(&["--host", "three"]), "");
    assert_eq!(backups(&["--since", "2026-01-02"]), "1");
    assert_eq!(backups(&["--tag", "t"]), "0 1");
    assert_eq!(backups(&["--tag", "t", "--tag", "one"]), "0");
    home.run(&["list", "a", "--since", "soon"]).says(2, "no time");

    let datasets = |flags: &[&str]| {
        let rows = home.json(0, &[&["list"], flags].concat());
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| (row["backups"].clone(), row["latest"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(datasets(&["--tag", "one"]), [(1.into(), 0.into())]);
    assert_eq!(datasets(&["--since", "2026-01-01"]), [(2.into(), 1.into())]);
    assert_eq!(datasets(&["--host", "three"]), []);
}

#[test]
fn a_restore_brings_what_is_included_and_leaves_what_is_excluded() {
    let home = tree();
    home.done(&["backup", "a"]);

    home.done(&["restore", "a", "out", "--include", "b/", "--include", "*.tmp", "--exclude", "d"]);

    let there = |path: &str| home.path("out").join(path).exists();
    assert!(there("b/c") && there("t.tmp"));
    assert!(!there("b/d") && !there("x") && !there("deep/f"));
    home.run(&["restore", "a", "out2", "--include", "[z-a]"]).says(2, "no pattern");
}

#[test]
fn a_dataset_that_somebody_else_backs_up_is_busy() {
    let home = tree();
    home.done(&["-r", "store", "backup", "a", "--init"]);
    home.write("a/new", b"new");
    let place = CachePlace::Scratch(home.path(""));
    let backend = Arc::new(LocalBackend::open(&home.path("store")).unwrap());
    let repository = open::open(backend, None, &place).unwrap();
    let dataset = repository.dataset(&"a".parse().unwrap()).unwrap();
    let (one, zero) = (Some(BackupId(1)), Some(BackupId(0)));
    let now = Timestamp::new(1_800_000_000, 0);
    let lease = Lease::take(repository.store(), dataset.id(), one, zero, "backup", now).unwrap();

    let busy = home.json(11, &["-r", "store", "backup", "a"]);
    assert_eq!(busy["error"]["kind"], "busy");
    home.run(&["-r", "store", "backup", "a"]).says(11, "another backup of a is running");
    home.write("c/x", b"x");
    let both = home.json(11, &["-r", "store", "backup", "a", "c"]);
    assert_eq!(both[1]["added"], 1, "another dataset is none of its business");
    lease.give_back();
    assert_eq!(home.json(0, &["-r", "store", "backup", "a"])["backup"], 1);
}

#[test]
fn the_cache_of_one_repository_or_of_all_is_thrown_away() {
    let home = tree();
    home.done(&["-r", "one", "backup", "a", "--init"]);
    home.done(&["-r", "two", "backup", "a", "--init"]);
    home.write(".cache/icecore/notes/mine", b"precious");

    let one = home.json(0, &["-r", "one", "cache", "clear"]);
    assert_eq!(one["repositories"], 1);
    assert!(one["files"].as_u64() > Some(2) && one["bytes"].as_u64() > Some(100), "{one}");
    let none = home.json(0, &["-r", "one", "cache", "clear"]);
    assert_eq!(none, serde_json::json!({"repositories": 0, "files": 0, "bytes": 0}));
    home.write("a/x", b"changed");
    let again = home.json(0, &["-r", "one", "backup", "a"]);
    assert_eq!((&again["added"], &again["modified"]), (&0.into(), &1.into()));
    home.done(&["-r", "one", "check", "--read-data"]);

    std::fs::remove_dir_all(home.path("two")).unwrap();
    home.run(&["-r", "two", "cache", "clear"]).says(10, "no repository");
    let text = home.done(&["cache", "clear", "--all"]).stdout;
    assert!(text.starts_with("freed ") && text.contains(" of 2 repositories"), "{text}");
    assert!(home.path(".cache/icecore/notes/mine").exists());
    home.run(&["cache", "clear", "--cache-dir", "nowhere", "--all"]).says(0, "");
}

/// What matches nothing leaves out nothing: whoever types it believes otherwise.
#[test]
fn a_pattern_that_can_match_nothing_is_refused() {
    let home = tree();
    let backup = |pattern: &str| home.run(&["backup", "a", "--exclude", pattern]);

    for nothing in ["", "  ", "#g", "/", "//", "./", "!/"] {
        backup(nothing).says(2, &format!("{nothing:?} matches nothing"));
    }
    let absolute = format!("{}/a/b", home.path("").display()).replace("//", "/");
    for pattern in [&absolute, &format!("!{absolute}/c")] {
        backup(pattern).says(2, "is written \"/b");
    }
    assert!(!home.path(".local").exists());

    home.write("patterns", b"# said\n\n./b\n!./x\n");
    home.done(&["backup", "a", "--exclude", "./deep/er", "--exclude-from", "patterns"]);
    assert_eq!(files(&home), ["#g", "deep/", "deep/f", "t.tmp", "x"]);
    home.done(&["restore", "a", "out", "--include", "./deep"]);
    assert!(home.path("out/deep/f").exists() && !home.path("out/x").exists());
}

#[test]
fn patterns_come_from_standard_input_which_is_read_once() {
    let home = tree();
    home.write("c/y", b"y");
    let with = |input: &str, arguments: &[&str]| {
        let mut command = home.command(&[&["backup"], arguments].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that is refused does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(child.wait_with_output().unwrap())
    };

    assert_eq!(with("b\n*.tmp\n/y\n", &["a", "c", "--exclude-from", "-"]).code, 0);
    assert_eq!(files(&home), ["#g", "deep/", "deep/er/", "deep/er/e", "deep/f", "x"]);
    assert_eq!(home.done(&["ls", "c"]).stdout, "");

    for both in [
        &["a", "--exclude-from", "-", "--files-from", "-"][..],
        &["a", "--exclude-from", "-", "--exclude-from", "-"],
        &["-", "--exclude-from", "-"],
    ] {
        with("b\n", both).says(2, "standard input can be read only once");
    }
    for list in ["--exclude-from", "--files-from"] {
        home.run(&["backup", "a", list, "missing"]).says(2, "missing");
    }
}

#[test]
fn a_source_may_be_a_single_file() {
    let home = tree();
    let content = vec![b'n'; 100_000];
    home.write("a/notes.txt", &content);
    std::os::unix::fs::symlink("a/x", home.path("link.txt")).unwrap();

    let report = home.json(0, &["backup", "a/notes.txt"]);
    assert_eq!((&report["dataset"], &report["files"]), (&"notes.txt".into(), &1.into()));
    assert_eq!(home.done(&["ls", "-R", "notes.txt"]).stdout, "notes.txt\n");
    let listed = home.json(0, &["list", "notes.txt"]);
    assert_eq!(listed[0]["source"], home.path("a/notes.txt").to_str().unwrap());
    home.done(&["restore", "notes.txt", "out"]);
    assert_eq!(std::fs::read(home.path("out/notes.txt")).unwrap(), content);

    home.write("a/another", b"no matter");
    assert_eq!(home.json(0, &["backup", "./a/../a/notes.txt"])["kind"], "unchanged");
    home.write("a/notes.txt", b"changed");
    assert_eq!(home.rows(&["diff", "notes.txt", "./a/notes.txt"]).len(), 2);
    let report = home.json(0, &["backup", "a/notes.txt"]);
    assert_eq!((&report["modified"], &report["deleted"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(home.done(&["cat", "notes.txt:notes.txt"]).stdout, "changed");

    let report = home.json(0, &["backup", "link.txt", "--dataset", "other"]);
    assert_eq!(report["added"], 1, "{report}");
    assert_eq!(home.done(&["cat", "other:link.txt"]).stdout, "a/x");
    assert_eq!(home.json(0, &["backup", "link.txt", "-d", "other"])["kind"], "unchanged");
    home.run(&["backup", "a/x", "--files-from", "list"]).says(2, "SOURCE that is a folder");
    home.run(&["backup", "a/x", "link.txt", "-d", "both"]).says(2, "several sources");
}

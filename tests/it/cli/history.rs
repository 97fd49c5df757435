//! A small tree through its life: backed up, changed, looked at, brought back.

use crate::cli::Home;
use crate::cli::column;
use crate::support::folder::is_root;
use crate::support::folder::skipped;
use crate::support::tree::noise;
use serde_json::Value;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A home with two backups of `photos`, of two and of three files.
fn two() -> Home {
    let home = Home::new();
    home.write("photos/a.txt", b"one");
    home.write("photos/2024/may/b.jpg", b"a picture");
    home.done(&["backup", "photos", "--tag", "first", "--description", "the beginning"]);
    home.write("photos/a.txt", b"one and two");
    home.write("photos/c.txt", b"three");
    home.write("photos/d.txt", b"four");
    fs::remove_dir_all(home.path("photos/2024")).unwrap();
    home.done(&["backup", "photos"]);
    home
}

#[test]
fn a_backup_ends_with_a_sentence() {
    let home = Home::new();
    home.write("photos/a.txt", b"one");
    home.write("photos/b.txt", &[b'x'; 5000]);

    let first = home.done(&["backup", "photos"]);
    assert!(first.stderr.contains("created a repository"), "{first:?}");
    let start = "photos@0: 2 added, 0 modified, 0 deleted of 2 files (4.9 KiB); 4.9 KiB new, ";
    assert!(first.stdout.starts_with(start), "{first:?}");
    assert!(first.stdout.ends_with(" s\n"), "{first:?}");

    let second = home.done(&["backup", "photos"]);
    assert!(second.stdout.starts_with("photos@0: unchanged, 2 files (4.9 KiB), "), "{second:?}");
    assert_eq!(home.done(&["-q", "backup", "photos"]).stdout, "");
}

#[test]
fn a_backup_in_json_has_its_fields() {
    let home = two();
    home.write("photos/e.txt", b"five");

    let report = home.json(0, &["backup", "photos"]);

    assert_eq!(report["dataset"], "photos");
    assert_eq!(report["backup"], 2);
    assert_eq!(report["kind"], "partial");
    for (field, count) in [("added", 1), ("modified", 0), ("deleted", 0), ("files", 4)] {
        assert_eq!(report[field], count, "{field}: {report}");
    }
    assert_eq!(report["bytes"], 24);
    assert_eq!(report["new_bytes"], 4);
    assert!(report["stored_bytes"].as_u64().unwrap() > 0);
    assert_eq!(report["errors"], serde_json::json!([]));
    assert!(report["seconds"].is_f64());
    assert_eq!(home.json(0, &["backup", "photos"])["kind"], "unchanged");
    assert_eq!(home.json(0, &["backup", "photos", "--allow-unchanged"])["backup"], 3);
}

#[test]
fn datasets_and_backups_are_listed() {
    let home = two();

    let datasets = home.json(0, &["list"]);
    assert_eq!(datasets[0]["dataset"], "photos");
    assert_eq!((&datasets[0]["backups"], &datasets[0]["latest"]), (&2.into(), &1.into()));
    assert_eq!(datasets[0]["bytes"], 20);

    let backups = home.json(0, &["list", "photos"]);
    let [first, second] = backups.as_array().unwrap().as_slice() else { panic!("{backups}") };
    assert_eq!((&first["kind"], &first["added"]), (&"full".into(), &2.into()));
    assert_eq!(
        (&first["tags"][0], &first["description"]),
        (&"first".into(), &"the beginning".into())
    );
    assert_eq!(
        (&second["added"], &second["modified"], &second["deleted"]),
        (&2.into(), &1.into(), &1.into())
    );
    for field in ["time", "host", "source", "files", "new_bytes", "stored_bytes"] {
        assert!(second.get(field).is_some(), "{field}: {second}");
    }
    let tagged = home.json(0, &["list", "photos", "--tag", "first"]);
    assert_eq!(tagged.as_array().unwrap().len(), 1);

    let text = home.done(&["list"]).stdout;
    assert!(text.starts_with("DATASET  BACKUPS") && text.contains("\nphotos "), "{text}");
    assert_eq!(home.done(&["list", "photos"]).stdout.lines().count(), 3);
}

#[test]
fn changes_are_shown_of_partial_and_full_backups() {
    let home = Home::new();
    // Enough of them that the second backup need not be a full one.
    (0..20).for_each(|n| home.write(&format!("photos/kept/{n}"), b"kept"));
    home.write("photos/a.txt", b"one");
    home.write("photos/2024/may/b.jpg", b"a picture");
    home.done(&["backup", "photos"]);
    home.write("photos/a.txt", b"one and two");
    home.write("photos/c.txt", b"three");
    fs::remove_dir_all(home.path("photos/2024")).unwrap();
    home.done(&["backup", "photos"]);
    home.write("photos/c.txt", b"no longer three");
    home.done(&["backup", "photos", "--full"]);

    let of = |backup: &str| {
        let rows = home.rows(&["show", backup, "--changes"]);
        let files: Vec<_> = rows.into_iter().filter(|row| row["kind"] != "directory").collect();
        let pairs = column(&files, "type").into_iter().zip(column(&files, "path"));
        pairs.map(|(change, path)| format!("{change} {path}")).collect::<Vec<_>>()
    };

    let first = of("photos@0");
    assert!(first.len() == 22 && first.iter().all(|row| row.starts_with("added ")), "{first:?}");
    let second = of("photos@1");
    for row in ["deleted 2024/may/b.jpg", "modified a.txt", "added c.txt"] {
        assert!(second.contains(&row.to_owned()), "{row} is not in {second:?}");
    }
    assert_eq!(of("photos@2"), ["modified c.txt"]);
    let shown = home.json(0, &["show", "photos@1"]);
    assert_eq!((&shown["kind"], &shown["parent"]), (&"partial".into(), &0.into()));
    let text = home.done(&["show", "photos@1", "--changes"]).stdout;
    assert!(text.contains("\nmodified  a.txt\n"), "{text}");
}

#[test]
fn a_backup_is_looked_into() {
    let home = two();

    assert_eq!(home.done(&["ls", "photos@0"]).stdout, "2024/\na.txt\n");
    let all = "2024/\n2024/may/\n2024/may/b.jpg\na.txt\n";
    assert_eq!(home.done(&["ls", "-R", "photos@0"]).stdout, all);
    assert_eq!(home.done(&["ls", "photos@0:2024/may/"]).stdout, "2024/may/b.jpg\n");
    assert_eq!(home.done(&["ls", "photos@0:a.txt"]).stdout, "a.txt\n");
    let long = home.done(&["ls", "-l", "photos@0:a.txt"]).stdout;
    assert!(long.starts_with("-rw") && long.contains(" 3 B ") && long.ends_with(" a.txt\n"));
    let rows = home.rows(&["ls", "-R", "photos@0"]);
    assert_eq!(column(&rows, "type"), ["directory", "directory", "file", "file"]);
    assert_eq!(column(&rows, "bytes"), ["0", "0", "9", "3"]);

    assert_eq!(home.done(&["cat", "photos@0:a.txt"]).stdout, "one");
    assert_eq!(home.done(&["cat", "photos:a.txt"]).stdout, "one and two");
}

#[test]
fn a_listing_jumps_over_what_lies_deeper() {
    let home = Home::new();
    (0..2_500).for_each(|n| home.write(&format!("d/big/deep/{n}"), b""));
    home.write("d/big!", b"");
    home.write("d/z", b"");
    home.done(&["backup", "d"]);

    assert_eq!(home.done(&["ls", "d"]).stdout, "big/\nbig!\nz\n");
    assert_eq!(home.done(&["ls", "d:big"]).stdout, "big/deep/\n");
    assert_eq!(home.done(&["ls", "-R", "d:big/deep"]).stdout.lines().count(), 2_500);
}

#[test]
fn names_that_are_not_utf8_stand_beside() {
    let home = Home::new();
    home.write("d/plain", b"");
    let name = std::ffi::OsStr::from_bytes(b"a\xff");
    fs::write(home.path("d").join(name), b"odd").unwrap();
    home.done(&["backup", "d"]);

    let rows = home.rows(&["ls", "d"]);

    assert_eq!(column(&rows, "path_base64"), ["Yf8=", "null"]);
    let address = std::ffi::OsStr::from_bytes(b"d:a\xff");
    let out = home.command(&["cat"]).arg(address).output().unwrap();
    assert_eq!(out.stdout, b"odd");
}

#[test]
fn holes_are_read_as_zeros() {
    let home = Home::new();
    home.write("d/sparse", b"start");
    let file = fs::File::options().write(true).open(home.path("d/sparse")).unwrap();
    file.set_len(1 << 20).unwrap();
    home.done(&["backup", "d"]);

    let out = home.command(&["cat", "d:sparse"]).output().unwrap();

    assert_eq!(out.stdout.len(), 1 << 20);
    assert!(out.stdout.starts_with(b"start\0") && out.stdout[5..].iter().all(|&byte| byte == 0));
}

#[test]
fn any_version_comes_back() {
    let home = two();
    let read = |path: &str| fs::read_to_string(home.path(path)).ok();

    let report = home.json(0, &["restore", "photos@0", "zero"]);
    assert_eq!((&report["files"], &report["bytes"]), (&2.into(), &12.into()));
    assert_eq!(report["written_bytes"], 12);
    assert_eq!(read("zero/a.txt").as_deref(), Some("one"));
    assert_eq!(read("zero/2024/may/b.jpg").as_deref(), Some("a picture"));

    let text = home.done(&["restore", "photos", "one", "--verify"]).stdout;
    assert!(text.starts_with("photos@1: restored 3 files (20 B), 20 B written, "), "{text}");
    assert_eq!(read("one/a.txt").as_deref(), Some("one and two"));

    home.done(&["restore", "photos@backup_0:2024", "stripped"]);
    assert_eq!(read("stripped/may/b.jpg").as_deref(), Some("a picture"));
    home.done(&["restore", "photos@latest~1", "kept", "--path", "2024/may"]);
    assert_eq!(read("kept/2024/may/b.jpg").as_deref(), Some("a picture"));
    assert_eq!(read("kept/a.txt"), None);
    home.done(&["restore", "photos@0", "only", "--include", "*.txt"]);
    assert_eq!((read("only/a.txt").is_some(), read("only/2024/may/b.jpg")), (true, None));
}

#[test]
fn a_target_that_is_not_empty_is_refused_unless_told() {
    let home = two();
    home.done(&["restore", "photos@0", "out"]);
    let present = |path: &str| home.path("out").join(path).exists();

    let refused = home.run(&["restore", "photos@1", "out"]);
    assert_ne!(refused.code, 0);
    refused.says(refused.code, "is not empty");

    let plan = home.json(0, &["restore", "photos@1", "out", "--overwrite", "always", "-n"]);
    assert!(!plan["plan"].as_array().unwrap().is_empty(), "{plan}");
    assert!(!present("c.txt"));

    let flags = ["--overwrite", "if-changed", "--delete"];
    let report = home.json(0, &[&["restore", "photos@1", "out"], &flags[..]].concat());
    assert!(report["deleted"].as_u64().unwrap() > 0, "{report}");
    assert!(present("c.txt") && !present("2024"));
}

#[test]
fn several_sources_are_datasets_of_their_own() {
    let home = Home::new();
    home.write("a/x", b"1");
    home.write("b/x", b"2");

    let reports = home.json(0, &["backup", "a", "b"]);

    assert_eq!(column(reports.as_array().unwrap(), "dataset"), ["a", "b"]);
    let datasets = home.json(0, &["list"]);
    assert_eq!(column(datasets.as_array().unwrap(), "dataset"), ["a", "b"]);
    home.run(&["backup", "a", "missing"]).says(1, "no such folder");
    assert_eq!(home.json(1, &["backup", "missing"])["error"]["kind"], "not_found");
}

/// A disk that is not mounted left all other folders without a backup.
#[test]
fn a_source_that_is_missing_does_not_stop_the_others() {
    let home = Home::new();
    home.write("a/x", b"1");
    home.write("b/x", b"2");

    let ran = home.run(&["backup", "a", "gone", "b", "lost"]);
    let reports = home.json(1, &["backup", "gone", "a"]);
    let none = home.run(&["-r", "new", "backup", "--init", "gone", "lost"]);

    ran.says(1, "cannot read gone: no such folder");
    ran.says(1, "cannot read lost: no such folder");
    assert_eq!(column(home.json(0, &["list"]).as_array().unwrap(), "dataset"), ["a", "b"]);
    assert_eq!(reports[0]["error"]["kind"], "not_found");
    assert_eq!((&reports[1]["dataset"], &reports[1]["kind"]), (&"a".into(), &"unchanged".into()));
    none.says(1, "cannot read gone: no such folder");
    none.says(1, "cannot read lost: no such folder");
    assert!(!home.path("new").exists(), "nothing to keep, no repository");

    home.write("c/x", b"3");
    home.run(&["backup", "c", "gone", "--exclude", ""]).says(2, "matches nothing");
    let datasets = home.json(0, &["list"]);
    assert_eq!(column(datasets.as_array().unwrap(), "dataset"), ["a", "b"], "nothing of c");
}

#[test]
fn what_is_to_be_left_out_is() {
    let home = Home::new();
    for file in ["a/keep", "a/x.tmp", "a/large", "a/marked/y", "a/marked/.nobackup", "a/log"] {
        home.write(file, if file == "a/large" { &[0; 3000] } else { b"1" });
    }
    home.write("patterns", b"# comment\nlog\n");
    let flags = ["--exclude", "*.tmp", "--exclude-from", "patterns"];
    let more = ["--exclude-larger-than", "2k", "--exclude-if-present", ".nobackup"];

    home.done(&[&["backup", "a"], &flags[..], &more[..]].concat());

    let listed = home.done(&["ls", "-R", "a"]).stdout;
    assert!(listed.starts_with("keep\nmarked/\n"), "{listed}");
    assert!(!listed.contains("marked/y") && !listed.contains("x.tmp"), "{listed}");
    assert!(!listed.contains("log") && !listed.contains("large"), "{listed}");
}

#[test]
fn the_repository_and_the_cache_are_left_out() {
    let home = Home::new();
    home.write("x", b"1");

    home.done(&["backup", ".", "--dataset", "home"]);
    let told = home.done(&["backup", ".", "--dataset", "home", "-v"]).stderr;
    assert!(told.contains(".cache/icecore: the repository or its cache is left out"), "{told}");
    let again = home.json(0, &["backup", ".", "--dataset", "home"]);

    assert_eq!(again["kind"], "unchanged");
    let listed = home.done(&["ls", "-R", "home"]).stdout;
    assert!(listed.contains("x\n") && !listed.contains("icecore"), "{listed}");
}

#[test]
fn a_sound_repository_passes_its_check_and_has_stats() {
    let home = two();

    let report = home.json(0, &["check", "--read-data"]);
    assert_eq!((&report["ok"], &report["backups"]), (&true.into(), &2.into()), "{report}");
    assert_eq!(report["findings"], serde_json::json!([]));

    let stats = home.json(0, &["stats"]);
    assert_eq!(stats["datasets"][0]["backups"], 2);
    assert_eq!(stats["datasets"][0]["logical_bytes"], 32);
    assert!(stats["packs"].as_u64().unwrap() >= 1, "{stats}");
    let stored = &stats["stored"];
    let parts = ["content", "metadata", "table", "packing", "index", "record"];
    let parts = parts.map(|part| stored[format!("{part}_bytes")].as_u64().unwrap());
    assert!(parts.iter().all(|&bytes| bytes > 0), "{stored}");
    let repository = home.path(".local/share/icecore");
    let objects = fs::read_dir(&repository).unwrap().map(|entry| entry.unwrap().path());
    let is_object = |path: &PathBuf| !path.ends_with("reserve") && !path.ends_with("tmp");
    let there: u64 = objects.filter(is_object).map(|path| bytes_below(&path)).sum();
    assert_eq!(parts.iter().sum::<u64>(), there, "every byte is for something");
    assert!(home.done(&["stats"]).stdout.contains("photos"));
    assert!(home.done(&["check"]).stdout.starts_with("no damage: "));
}

#[test]
fn damage_is_found_with_exit_code_3() {
    let home = two();
    let packs = home.path(".local/share/icecore/packs");
    fs::remove_dir_all(packs).unwrap();

    let report = home.json(3, &["check"]);

    assert_eq!(report["ok"], false);
    assert_eq!(report["findings"][0]["severity"], "damage");
    home.run(&["check"]).says(3, "damage was found");
}

#[test]
fn what_cannot_be_read_is_named_with_exit_code_3() {
    if is_root() {
        return skipped("nothing is denied to root");
    }
    let home = Home::new();
    home.write("a/x", b"1");
    home.write("a/y", b"2");
    fs::set_permissions(home.path("a/x"), fs::Permissions::from_mode(0o000)).unwrap();

    let report = home.json(3, &["backup", "a"]);

    assert_eq!(report["errors"][0]["path"], "x");
    home.run(&["backup", "a", "--read-all"]).says(3, "x: ");
}

#[test]
fn what_cannot_be_restored_is_named_with_exit_code_3() {
    let home = Home::new();
    home.write("photos/a.txt", b"one");
    home.write("photos/large", &noise(3_000_000, 1));
    home.done(&["backup", "photos"]);
    // In the middle of the pack there is nothing but the large file.
    flip_the_middle(&largest_file(&home.path(".local/share/icecore/packs")));

    let report = home.json(3, &["restore", "photos", "out"]);

    let errors = report["errors"].as_array().unwrap();
    assert_eq!(column(errors, "path"), ["large"]);
    assert!(errors[0]["message"].is_string(), "{report}");
    assert_eq!(fs::read(home.path("out/a.txt")).unwrap(), b"one");
    let ran = home.run(&["restore", "photos", "more"]);
    ran.says(3, "photos@0: 1 entry could not be restored");
    let unread = home.unread(&["restore", "photos", "again"]);
    assert_eq!(unread.code, 3, "an output that nobody reads hides nothing: {unread:?}");
    let cat = home.run(&["cat", "photos:large"]);
    assert_eq!(cat.code, 1);
    assert!(cat.stderr.contains("cannot read large"), "{}", cat.stderr);
}

fn largest_file(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_path_buf()];
    let mut largest = (0, PathBuf::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata => largest = largest.max((metadata.len(), entry.path())),
            }
        }
    }
    largest.1
}

fn flip_the_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn progress_as_json_is_a_line_at_least_at_the_end() {
    let home = Home::new();
    home.write("a/x", b"123");

    let ran = home.done(&["--progress-json", "backup", "a", "--init", "-q"]);

    let last: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&last["phase"], &last["files_done"]), (&"backup".into(), &1.into()));
    assert_eq!(last["bytes_done"], 3);
    for field in ["files_total", "bytes_total", "path", "seconds"] {
        assert!(last.get(field).is_some(), "{field}: {last}");
    }
}

fn bytes_below(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    match metadata.is_dir() {
        true => fs::read_dir(path).unwrap().map(|e| bytes_below(&e.unwrap().path())).sum(),
        false => metadata.len(),
    }
}

/// In autumn 02:10 comes twice in Berlin: a time covers both, and a day all of its 25 hours.
#[test]
fn an_hour_that_comes_twice_counts_to_its_second_end() {
    let mut home = Home::new();
    for (n, time) in
        ["2026-10-24T10:00Z", "2026-10-25T00:10Z", "2026-10-25T01:10Z"].iter().enumerate()
    {
        home.write("photos/a.txt", n.to_string().as_bytes());
        home.done(&["-q", "backup", "photos", "--time", time]);
    }
    home.set("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let number = |address: &str| home.json(0, &["show", address])["backup"].to_string();

    assert_eq!(number("photos@2026-10-25 02:10"), "2");
    assert_eq!(number("photos@2026-10-25 02:09"), "1");
    assert_eq!(number("photos@2026-10-25 01:59"), "0");
    assert_eq!(number("photos@2026-10-25 02:10:00 +02:00"), "1");
    assert_eq!(number("photos@2026-10-25"), "2");
    let since = |time: &str| home.json(0, &["list", "photos", "--since", time]);
    let numbers = |document: Value| column(document.as_array().unwrap(), "backup");
    assert_eq!(numbers(since("2026-10-25")), ["1", "2"]);
    assert_eq!(numbers(since("2026-10-25 02:10")), ["1", "2"]);

    home.run(&["show", "photos@2026-10-25 02:10:60"]).says(2, "is no version of a backup");
    home.run(&["show", "photos@2026-10-25 02:10 CET"]).says(2, "is no version of a backup");
}

#[test]
fn what_is_left_out_does_not_go_without_a_word() {
    let home = Home::new();
    home.write("photos/a.txt", b"1");
    let _socket = std::os::unix::net::UnixListener::bind(home.path("photos/s")).unwrap();

    let first = home.done(&["backup", "photos"]);
    assert!(first.stderr.contains("1 entry has a note"), "{first:?}");
    let quiet = home.done(&["-q", "backup", "photos"]);
    assert_eq!(quiet.stderr, "");
    let verbose = home.done(&["-v", "backup", "photos"]);
    assert!(verbose.stderr.contains("s: a socket is not stored"), "{verbose:?}");
    assert!(!verbose.stderr.contains("has a note"), "{verbose:?}");
}

//! Output that nobody reads, or that has no room.

use crate::cli::Home;
use crate::cli::Ran;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

/// More than what is written at a time.
const DATASETS: usize = 120;

/// Runs a command whose output goes to a disk without room.
fn without_room(home: &Home, arguments: &[&str]) -> Ran {
    let full = File::options().write(true).open("/dev/full").unwrap();
    Ran::of(home.command(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap())
}

/// Makes backups of so many folders, and returns the names of their datasets.
fn many(home: &Home) -> Vec<String> {
    let names: Vec<String> = (0..DATASETS).map(|number| format!("data-{number:03}")).collect();
    for name in &names {
        home.write(&format!("{name}/file"), name.as_bytes());
    }
    back_up_all(home, &names);
    names
}

fn back_up_all(home: &Home, names: &[String]) {
    let sources = names.iter().map(String::as_str);
    home.done(&["backup"].into_iter().chain(sources).collect::<Vec<_>>());
}

fn remove_packs(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => remove_packs(&path),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
}

#[test]
fn what_is_found_damaged_shows_in_the_exit_code_whoever_reads_the_rest() {
    let home = Home::new();
    many(&home);
    remove_packs(&home.path(".local/share/icecore/packs"));
    let read = home.run(&["check"]);
    assert_eq!(read.code, 3, "{read:?}");
    assert!(read.stdout.len() > 10_000, "{} bytes", read.stdout.len());

    assert_eq!(home.unread(&["check"]).code, 3);
    assert_eq!(home.unread(&["repair", "--dry-run"]).code, home.run(&["repair", "-n"]).code);
}

#[test]
fn all_is_forgotten_and_pruned_though_nobody_reads_what() {
    let home = Home::new();
    let names = many(&home);
    for name in &names {
        home.write(&format!("{name}/file"), b"another");
    }
    back_up_all(&home, &names);
    let forget = ["forget", "--all", "--keep-last", "1", "--prune"];
    let planned = home.run(&["forget", "--all", "--keep-last", "1", "--dry-run"]);
    assert!(planned.stdout.len() > 10_000, "{planned:?}");

    assert_eq!(home.unread(&forget).code, 0);

    let listed = home.json(0, &["list"]);
    assert!(listed.as_array().unwrap().iter().all(|row| row["backups"] == 1), "{listed}");
    let pruned = home.json(0, &["prune"]);
    assert_eq!(pruned["bytes_freed"], 0, "it was pruned: {pruned}");
}

#[test]
fn sources_are_backed_up_though_there_is_no_room_for_what_is_said() {
    let home = Home::new();
    home.write("a/x", b"x");
    home.write("b/y", b"y");

    let ran = without_room(&home, &["backup", "a", "b"]);
    ran.says(1, "standard output");
    ran.says(1, "what was asked is done: only what tells of it could not be written");

    for dataset in ["a", "b"] {
        assert_eq!(home.json(0, &["list", dataset]).as_array().unwrap().len(), 1);
    }
    let told = without_room(&home, &["--json", "restore", "a", "out"]);
    told.says(1, "standard output");
    assert_eq!(std::fs::read(home.path("out/x")).unwrap(), b"x");
    let listed = without_room(&home, &["list"]);
    listed.says(1, "standard output");
    assert!(!listed.stderr.contains("is done"), "{listed:?}");
    assert_eq!(home.unread(&["list"]).code, 0);
}

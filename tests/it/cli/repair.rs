//! `repair` and `list` from the outside, on repositories that are damaged.

use crate::cli::Home;
use crate::support::folder::files_below;
use std::fs;
use std::path::PathBuf;

fn two() -> Home {
    let home = Home::new();
    home.write("photos/a", b"alpha");
    home.done(&["backup", "photos"]);
    home.write("photos/b", &b"beta".repeat(5000));
    home.done(&["backup", "photos"]);
    home
}

fn spoil(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_repository_needs_no_repair() {
    let home = two();

    let report = home.json(0, &["repair"]);

    assert_eq!(report["dry_run"], false);
    for list in ["actions", "lost", "unrepaired"] {
        assert_eq!(report[list], serde_json::json!([]), "{report}");
    }
    assert!(home.done(&["repair"]).stdout.starts_with("nothing to repair; "));
}

/// What the hint names has to find the damage: without `--read-data` neither looks inside packs.
#[test]
fn what_is_said_of_damage_leads_to_what_finds_it() {
    let home = two();
    assert!(home.done(&["check"]).stderr.contains("the inside of packs was not read: --read-data"));
    assert_eq!(home.done(&["check", "--read-packs"]).stderr, "");
    assert_eq!(home.done(&["check", "--read-data"]).stderr, "");
    files_below(&home.path(".local/share/icecore/packs")).iter().for_each(spoil);

    let ran = home.run(&["restore", "photos@0", "out"]);

    let hint = ran.stderr.lines().find(|line| line.contains("tells what is damaged")).unwrap();
    let named: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    assert_eq!(named.len(), 2, "{hint}");
    for command in named {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        assert_eq!(home.run(&words).code, 3, "{command}");
    }
}

#[test]
fn an_index_that_is_gone_comes_back_after_a_dry_run_has_said_so() {
    let home = two();
    fs::remove_dir_all(home.path(".local/share/icecore/index")).unwrap();
    home.json(3, &["check"]);

    let planned = home.json(0, &["repair", "--dry-run"]);

    assert_eq!(planned["dry_run"], true);
    assert_eq!(planned["actions"][0]["action"], "index");
    home.json(3, &["check"]);
    let shown = home.done(&["repair"]).stdout;
    assert!(shown.contains("index: packs/") && shown.contains(" done; "), "{shown}");
    assert_eq!(home.json(0, &["check", "--read-data"])["findings"], serde_json::json!([]));
    home.done(&["restore", "photos", "out"]);
    assert_eq!(fs::read(home.path("out/b")).unwrap(), b"beta".repeat(5000));
}

#[test]
fn what_is_lost_is_named_and_stored_anew_by_the_next_backup() {
    let home = two();
    let packs = files_below(&home.path(".local/share/icecore/packs"));
    packs.iter().for_each(spoil);

    let ran = home.run(&["repair", "--read-packs"]);
    ran.says(3, "the next backup of each dataset stores anew");
    let report = home.json(0, &["repair"]);
    assert_eq!(report["actions"], serde_json::json!([]), "{report}");

    home.done(&["backup", "photos"]);
    home.done(&["restore", "photos", "out"]);
    assert_eq!(fs::read(home.path("out/a")).unwrap(), b"alpha");
    assert_eq!(home.json(0, &["check", "--read-data"])["ok"], true);
}

#[test]
fn list_shows_what_it_can_beside_a_damaged_header() {
    let home = two();
    home.write("music/x", b"x");
    home.done(&["backup", "music"]);
    let headers = files_below(&home.path(".local/share/icecore/datasets"));
    let newest = headers.iter().find(|path| path.ends_with("0/1")).expect("a header");
    spoil(newest);
    let list = |arguments: &[&str]| {
        let mut all = vec!["--no-cache"];
        all.extend(arguments);
        home.run(&all)
    };

    let ran = list(&["list"]);
    ran.says(3, "photos@1");
    assert!(ran.stdout.contains("photos") && ran.stdout.contains("music"), "{}", ran.stdout);
    let ran = list(&["list", "photos"]);
    ran.says(3, "photos@1");
    assert!(ran.stdout.contains("full"), "{}", ran.stdout);
    let report = home.json(3, &["--no-cache", "repair"]);
    assert_eq!(report["unrepaired"][0]["backups"], serde_json::json!(["photos@1"]), "{report}");
    // A new backup goes on from what can be read, with the next number.
    home.write("photos/c", b"gamma");
    let made = home.json(0, &["--no-cache", "backup", "photos"]);
    assert_eq!((&made["backup"], &made["added"]), (&2.into(), &2.into()), "{made}");
}

fn copy_over(from: &PathBuf, to: &PathBuf) {
    let bytes = fs::read(from).unwrap();
    fs::remove_file(to).unwrap();
    fs::write(to, bytes).unwrap();
}

/// Without encryption nothing but its place tells that a name is not from there: both names then
/// led to one dataset, the other was gone from every list, and all ended with 0.
#[test]
fn a_name_in_the_place_of_another_is_told_and_cured() {
    let home = two();
    let names = home.path(".local/share/icecore/names");
    let photos = files_below(&names).remove(0);
    home.write("music/x", b"x");
    home.done(&["backup", "music"]);
    let music = files_below(&names).into_iter().find(|path| *path != photos).unwrap();
    copy_over(&music, &photos);

    let ran = home.run(&["--no-cache", "list"]);

    ran.says(3, "holds another dataset's name");
    assert!(!ran.stdout.contains("photos") && ran.stdout.contains("music"), "{ran:?}");
    assert_eq!(home.run(&["--no-cache", "stats"]).code, 1);
    home.done(&["--no-cache", "repair"]);
    assert_eq!(home.json(0, &["--no-cache", "list"]).as_array().unwrap().len(), 2);
    home.done(&["--no-cache", "restore", "photos", "out"]);
}

/// A floor names what remains below it; one of these that was gone was missed by checks and
/// prunes alone, and lists were shorter with exit code 0.
#[test]
fn a_backup_that_is_gone_below_a_floor_is_told_by_whoever_shows_all() {
    let home = two();
    home.done(&["backup", "photos", "--full", "--allow-unchanged"]);
    home.done(&["forget", "photos", "--backup", "1", "--prune"]);
    assert_eq!(home.json(0, &["list", "photos"]).as_array().unwrap().len(), 2);
    let headers = files_below(&home.path(".local/share/icecore/datasets"));
    assert!(headers.iter().any(|path| path.ends_with("floor-2")), "{headers:?}");
    let first = headers.iter().find(|path| path.ends_with("0/0")).unwrap();
    fs::remove_file(first).unwrap();
    home.done(&["-r", "there", "init"]);

    for shows in [&["list"][..], &["list", "photos"], &["find", "a"], &["copy", "--to", "there"]] {
        let ran = home.run(&[&["--no-cache"], shows].concat());
        ran.says(3, "backup_0");
    }

    home.run(&["--no-cache", "stats"]).says(1, "backup_0");
    home.done(&["--no-cache", "restore", "photos", "out"]);
    assert_eq!(home.run(&["--no-cache", "check"]).code, 3);
}

#[test]
fn an_init_beside_a_repository_without_its_config_names_the_config() {
    let home = two();
    fs::remove_file(home.path(".local/share/icecore/config")).unwrap();

    let ran = home.run(&["init"]);

    ran.says(2, "as a repository does, and no config");
    ran.says(2, "put the file `config` back");
    home.run(&["list"]).says(1, "the config of the repository at ");
}

//! `parity` as a person or a script meets it, on a local folder that forgets bits.

use crate::cli::Home;
use crate::support::folder::files_below;
use crate::support::tree::noise;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn home() -> Home {
    let home = Home::new();
    home.write("photos/a.jpg", &noise(400_000, 1));
    home.write("photos/b.txt", b"text");
    home.done(&["-q", "backup", "photos"]);
    home
}

fn largest_pack(home: &Home) -> PathBuf {
    let packs = files_below(&home.path(".local/share/icecore/packs"));
    packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn zero(path: &Path, at: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + length].fill(0);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_a_disk_forgot_is_healed() {
    let home = home();
    let none = home.done(&["parity", "status"]);
    assert!(none.stdout.starts_with("no parity: 1 pack has none"), "{none:?}");
    let added = home.done(&["parity", "add"]);
    assert!(added.stdout.starts_with("1 pack of "), "{added:?}");
    let status = home.json(0, &["parity", "status"]);
    assert_eq!((&status["packs"], &status["packs_with_parity"]), (&1.into(), &1.into()));
    assert_eq!(status["percents"][0], serde_json::json!({"percent": 5, "packs": 1}));
    let again = home.json(0, &["parity", "add"]);
    assert_eq!((&again["packs_had"], &again["packs_added"]), (&1.into(), &0.into()));
    home.done(&["check", "--read-data"]);

    zero(&largest_pack(&home), 100_000, 15_000);
    let checked = home.run(&["check", "--read-packs"]);
    assert_eq!(checked.code, 3);
    assert!(checked.stdout.contains("`icecore repair --read-packs` can heal it"), "{checked:?}");
    let planned = home.json(0, &["repair", "--read-packs", "--dry-run"]);
    assert_eq!(planned["actions"][0]["action"], "heal", "{planned}");
    let repaired = home.json(0, &["repair", "--read-packs"]);
    assert_eq!(repaired["actions"], planned["actions"]);
    home.done(&["check", "--read-data"]);
    let pruned = home.json(0, &["prune"]);
    assert_eq!((&pruned["packs_deleted"], &pruned["parity_deleted"]), (&1.into(), &1.into()));
    home.done(&["parity", "add"]);
    home.done(&["check", "--read-data"]);
    home.done(&["restore", "photos", "back"]);
    assert_eq!(fs::read(home.path("back/a.jpg")).unwrap(), noise(400_000, 1));
}

#[test]
fn more_than_was_chosen_is_said_plainly() {
    let home = home();
    home.done(&["parity", "add", "--percent", "2"]);
    zero(&largest_pack(&home), 100_000, 30_000);
    let checked = home.run(&["check", "--read-packs"]);
    assert_eq!(checked.code, 3);
    assert!(checked.stdout.contains("its parity does not heal it"), "{checked:?}");
    assert_eq!(home.run(&["repair", "--read-packs"]).code, 3);
    let failed = home.run(&["parity", "add", "--percent", "10"]);
    assert_eq!(failed.code, 0, "the doomed pack is not asked for: {failed:?}");
}

#[test]
fn it_is_taken_away_by_a_plan_that_can_be_seen_first() {
    let home = home();
    home.done(&["parity", "add", "--percent", "10%"]);
    let parity = home.path(".local/share/icecore/parity");
    let planned = home.done(&["parity", "remove", "--dry-run"]);
    assert!(planned.stdout.starts_with("would delete 1 parity object"), "{planned:?}");
    assert_eq!(files_below(&parity).len(), 1);
    let removed = home.json(0, &["parity", "remove"]);
    assert_eq!((&removed["objects"], &removed["dry_run"]), (&1.into(), &false.into()));
    assert!(files_below(&parity).is_empty());
    home.done(&["check", "--read-data"]);
}

#[test]
fn a_damaged_pack_is_named_and_gets_none() {
    let home = home();
    zero(&largest_pack(&home), 100_000, 10);
    let added = home.run(&["parity", "add"]);
    added.says(3, "got none: pack");
    assert_eq!(home.json(3, &["parity", "add"])["failed"].as_array().unwrap().len(), 1);
}

#[test]
fn bad_shares_are_bad_usage() {
    let home = home();
    for bad in ["0", "51", "2.5", "x"] {
        home.run(&["parity", "add", "--percent", bad]).says(2, "is no share");
    }
    home.run(&["parity"]).says(2, "Usage");
}

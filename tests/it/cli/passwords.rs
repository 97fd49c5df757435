//! Repositories with a password, and without.

use crate::cli::Home;
use crate::cli::column;
use crate::support::folder::files_below;
use crate::support::tree::noise;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

#[test]
fn a_given_password_means_encrypted() {
    let mut home = Home::new();
    home.write("a/x", b"a secret word");
    home.set("ICECORE_PASSWORD", "one");

    assert_eq!(home.json(0, &["init"])["encryption"], "password");

    home.done(&["backup", "a"]);
    assert_eq!(home.done(&["cat", "a:x"]).stdout, "a secret word");
    home.set("ICECORE_PASSWORD", "two");
    home.run(&["list"]).says(12, "wrong password");
    home.unset("ICECORE_PASSWORD");
    home.run(&["list"]).says(12, "needs a password");
    assert_eq!(home.json(12, &["list"])["error"]["kind"], "password");
}

#[test]
fn a_first_backup_with_a_password_is_encrypted() {
    let mut home = Home::new();
    home.write("a/x", b"x");
    home.set("ICECORE_PASSWORD", "one");

    home.done(&["backup", "a"]);

    home.unset("ICECORE_PASSWORD");
    home.run(&["list"]).says(12, "needs a password");
}

#[test]
fn encryption_without_a_password_is_refused_and_makes_nothing() {
    let mut home = Home::new();

    home.run(&["-r", "s", "init", "--encryption", "password"]).says(12, "ICECORE_PASSWORD");
    assert!(!home.path("s").exists());
    home.set("ICECORE_PASSWORD", "one");
    home.run(&["-r", "s", "init", "--encryption", "none"]).says(2, "a password is given");
    assert!(!home.path("s").exists());
}

#[test]
fn a_password_for_a_repository_without_encryption_is_refused() {
    let mut home = Home::new();
    home.done(&["init"]);

    home.set("ICECORE_PASSWORD", "one");

    home.run(&["list"]).says(12, "not encrypted");
}

/// Who is asked for the password where it is needed was not asked where a storage had put a
/// repository without encryption in the place of the one with it, and stored all in the clear.
#[test]
fn a_repository_that_was_encrypted_is_not_used_in_the_clear() {
    let mut home = Home::new();
    home.write("a/x", b"x");
    home.set("ICECORE_PASSWORD", "one");
    home.done(&["-r", "s", "backup", "--init", "a"]);
    home.unset("ICECORE_PASSWORD");
    home.done(&["-r", "other", "init"]);

    std::fs::rename(home.path("s"), home.path("kept")).unwrap();
    let again = home.run(&["-r", "s", "backup", "--init", "a"]);
    again.says(12, "needs a password");
    std::fs::rename(home.path("other"), home.path("s")).unwrap();
    for spelled in ["s", "./s", "s/../s"] {
        home.run(&["-r", spelled, "backup", "a"]).says(12, "was when last opened from here");
    }
    assert_eq!(std::fs::read_dir(home.path("s/packs")).map_or(0, Iterator::count), 0);

    std::fs::remove_dir_all(home.path("s")).unwrap();
    home.done(&["-r", "s", "init", "--encryption", "none"]);
    home.done(&["-r", "s", "backup", "a"]);
}

/// Anybody could open what was said to be encrypted.
#[test]
fn an_empty_new_password_is_refused() {
    let home = Home::new();
    home.write("empty", b"");
    home.write("line", b"\n");
    home.write("pass", b"one");

    for flags in [["--password-file", "empty"], ["--password-file", "line"]] {
        home.run(&[&["-r", "s", "init"], &flags[..]].concat()).says(12, "empty password");
        home.run(&[&["-r", "s", "backup", "--init", "."], &flags[..]].concat()).says(12, "empty");
    }
    home.run(&["-r", "s", "init", "--password-command", "/bin/true"]).says(12, "empty password");
    assert!(!home.path("s").exists());
    home.done(&["-r", "s", "init", "--password-file", "pass"]);
    let add = ["-r", "s", "--password-file", "pass", "key", "add", "--new-password-file", "empty"];
    let mut home = home;
    home.set("ICECORE_PASSWORD", "");
    home.write("a/x", b"x");
    home.run(&["-r", "p", "init"]).says(12, "empty password");
    home.run(&["-r", "p", "backup", "a", "--init"]).says(12, "ICECORE_PASSWORD is set and empty");
    assert!(!home.path("p").exists());
    home.done(&["-r", "p", "init", "--encryption", "none"]);
    home.done(&["-r", "p", "backup", "a"]);
    home.run(&add).says(12, "empty password");
}

#[test]
fn files_and_commands_give_passwords() {
    let home = Home::new();
    home.write("pass", b"a word\n");

    home.done(&["init", "--password-file", "pass"]);

    home.done(&["list", "--password-file", "pass"]);
    home.done(&["list", "--password-command", "/bin/echo 'a word'"]);
    home.done(&["list", "--password-command", "/bin/cat pass"]);
    home.run(&["list", "--password-command", "/bin/echo other"]).says(12, "wrong password");
    home.run(&["list", "--password-command", "/bin/false"]).says(12, "failed");
    home.run(&["list", "--password-file", "missing"]).says(12, "cannot read");
}

#[test]
fn keys_are_added_removed_and_replaced() {
    let mut home = Home::new();
    home.set("ICECORE_PASSWORD", "one");
    home.done(&["init"]);
    home.write("two", b"two\n");

    home.done(&["key", "add", "--new-password-file", "two", "--label", "second"]);
    let slots = home.json(0, &["key", "list"]);
    assert_eq!(slots.as_array().unwrap().len(), 2);

    home.set("ICECORE_NEW_PASSWORD", "three");
    let change = home.json(0, &["key", "passwd"]);
    assert!(change["added"].is_string() && change["removed"].is_string());
    home.run(&["list"]).says(12, "wrong password");
    home.set("ICECORE_PASSWORD", "three");
    home.done(&["list"]);

    let second = slots.as_array().unwrap().iter().find(|slot| slot["label"] == "second").unwrap();
    home.done(&["key", "remove", &second["key"].as_str().unwrap()[..8]]);
    home.run(&["list", "--password-file", "two"]).says(12, "wrong password");
    let last = home.json(0, &["key", "list"])[0]["key"].as_str().unwrap().to_owned();
    home.run(&["key", "remove", &last]).says(2, "the last password");
    home.run(&["key", "remove", "0123zz"]).says(1, "no key slot begins with");
    home.unset("ICECORE_NEW_PASSWORD");
    home.run(&["key", "add"]).says(12, "ICECORE_NEW_PASSWORD");
}

#[test]
fn without_encryption_there_are_no_keys() {
    let mut home = Home::new();
    home.done(&["init"]);
    home.set("ICECORE_NEW_PASSWORD", "one");

    home.run(&["key", "list"]).says(0, "not encrypted");
    home.run(&["key", "add"]).says(2, "not encrypted");
    home.run(&["key", "passwd"]).says(2, "not encrypted");
}

/// A repository in `s` beside the slot of an `init` that did not come to its end.
fn beside_a_dead_init() -> Home {
    let mut home = Home::new();
    home.set("ICECORE_PASSWORD", "one");
    home.set("ICECORE_REPOSITORY", "s");
    home.done(&["init"]);
    // The reserve comes after the config.
    ["s/config", "s/reserve"].iter().for_each(|it| std::fs::remove_file(home.path(it)).unwrap());
    home.done(&["init"]);
    home
}

#[test]
fn the_password_of_a_repository_stays_beside_the_slot_of_a_dead_init() {
    let mut home = beside_a_dead_init();
    let slots = home.json(0, &["key", "list"]);
    let of = |problem: Value| {
        let slot = slots.as_array().unwrap().iter().find(|slot| slot["problem"] == problem);
        slot.unwrap()["key"].as_str().unwrap().to_owned()
    };
    let (mine, dead) = (of(Value::Null), of("foreign".into()));

    home.run(&["key", "remove", &mine]).says(2, "the last password");
    home.run(&["check"]).says(0, "");
    home.set("ICECORE_NEW_PASSWORD", "two");
    home.done(&["key", "passwd"]);
    home.set("ICECORE_PASSWORD", "two");
    home.run(&["key", "list"]).says(0, &format!("key remove {}", &dead[..8]));
    home.done(&["key", "remove", &dead]);
    home.done(&["list"]);
}

#[test]
fn a_slot_that_cannot_be_read_is_listed_as_such() {
    let home = beside_a_dead_init();
    let slots = home.json(0, &["key", "list"]);
    let slots = slots.as_array().unwrap().iter();
    let dead = slots.clone().find(|slot| slot["problem"] == "foreign").unwrap()["key"].clone();
    let path = format!("s/keys/{}", dead.as_str().unwrap());
    std::fs::write(home.path(&path), b"rubbish").unwrap();

    let again = home.json(0, &["key", "list"]);

    let again = again.as_array().unwrap().iter();
    let row = again.clone().find(|slot| slot["key"] == dead).unwrap();
    assert_eq!(row["problem"], "unreadable");
    assert_eq!((&row["label"], &row["created"]), (&"".into(), &Value::Null));
    assert_eq!(again.filter(|slot| slot["problem"].is_null()).count(), 1);
    home.run(&["key", "list"]).says(0, "cannot be read");
}

/// Who keeps the disks can see what has rotted on them.
#[test]
fn checksums_are_verified_without_a_password() {
    let mut home = Home::new();
    home.set("ICECORE_PASSWORD", "one");
    home.write("a/x", &noise(9_000, 1));
    home.done(&["-r", "r", "backup", "a", "--init"]);
    home.write("a/y", &noise(9_000, 2));
    home.done(&["-r", "r", "backup", "a"]);
    home.unset("ICECORE_PASSWORD");
    home.run(&["-r", "r", "check"]).says(12, "needs a password");
    let sound = home.done(&["-r", "r", "check", "--no-password"]);
    assert!(sound.stdout.starts_with("no damage: "), "{sound:?}");

    let all = files_below(&home.path("r"));
    let is_object =
        |path: &&PathBuf| !path.ends_with("r/reserve") && !path.starts_with(home.path("r/tmp"));
    let objects = all.iter().filter(is_object);
    for path in objects {
        let bytes = fs::read(path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(path, flipped).unwrap();
        let key = path.strip_prefix(home.path("r")).unwrap().to_str().unwrap();
        if key == "config" {
            home.run(&["-r", "r", "check", "--no-password"]).says(1, "config");
        } else {
            let found = home.json(3, &["-r", "r", "check", "--no-password"]);
            assert_eq!(column(found["findings"].as_array().unwrap(), "object"), [key]);
        }
        fs::write(path, bytes).unwrap();
    }

    let packs: Vec<_> = all.iter().filter(|path| path.starts_with(home.path("r/packs"))).collect();
    fs::copy(packs[0], packs[1]).unwrap();
    let found = home.json(3, &["-r", "r", "check", "--no-password"]);
    assert_eq!(found["findings"][0]["message"], "it is the pack of another name");
}

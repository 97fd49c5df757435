//! `icecore copy`, as a person and as a script meet it.

use crate::cli::Home;
use crate::cli::column;

/// A home with an encrypted repository that holds three backups of `photos` and one of `music`.
fn home() -> Home {
    let mut home = Home::new();
    home.set("ICECORE_REPOSITORY", "here");
    home.set("ICECORE_PASSWORD", "one");
    home.write("photos/a", b"first");
    home.write("photos/deep/b", &[7; 100_000]);
    home.done(&["backup", "photos", "--init", "--tag", "begin", "--time", "2026-01-01 10:00"]);
    home.write("photos/a", b"second, and longer");
    home.done(&["backup", "photos", "--time", "2026-02-01 10:00"]);
    home.write("photos/c", b"third");
    home.done(&["backup", "photos", "--time", "2026-03-01 10:00", "--description", "spring"]);
    home.write("music/x", b"la la la");
    home.done(&["backup", "music"]);
    home
}

fn init_there(home: &mut Home, password: Option<&str>) {
    match password {
        Some(password) => {
            home.write("word", format!("{password}\n").as_bytes());
            home.done(&["-r", "there", "init", "--password-file", "word"]);
        }
        None => {
            home.unset("ICECORE_PASSWORD");
            home.done(&["-r", "there", "init"]);
            home.set("ICECORE_PASSWORD", "one");
        }
    }
}

#[test]
fn all_is_copied_and_then_only_what_is_new() {
    let mut home = home();
    init_there(&mut home, Some("two"));
    home.set("ICECORE_TO_PASSWORD", "two");

    let ran = home.done(&["copy", "--to", "there"]);
    assert!(ran.stdout.contains("music: copied 1 backup as music@0; "), "{ran:?}");
    let photos = "photos: copied 3 backups as photos@0 to photos@2; ";
    assert!(ran.stdout.contains(photos), "{ran:?}");

    let there = ["-r", "there", "--password-file", "word"];
    let list = home.json(0, &[&there[..], &["list", "photos"]].concat());
    let rows = list.as_array().unwrap();
    assert_eq!(column(rows, "backup"), ["0", "1", "2"]);
    assert_eq!(rows[0]["tags"][0], "begin");
    assert_eq!(rows[2]["description"], "spring");
    assert_eq!(rows[1]["time"], "2026-02-01T10:00:00Z");
    assert_eq!(rows[2]["added"], 1);
    home.done(&[&there[..], &["restore", "photos@1", "back"]].concat());
    assert_eq!(std::fs::read(home.path("back/a")).unwrap(), b"second, and longer");
    assert_eq!(std::fs::read(home.path("back/deep/b")).unwrap(), [7; 100_000]);
    let show = home.json(0, &[&there[..], &["show", "photos@1"]].concat());
    assert_eq!(show["copy_of"]["backup"], 1);
    let shown = home.done(&[&there[..], &["show", "photos@1"]].concat());
    assert!(shown.stdout.contains("copy of      backup_1 in repository "), "{shown:?}");

    home.write("photos/a", b"fourth");
    home.done(&["backup", "photos"]);
    let report = home.json(0, &["copy", "--to", "there"]);
    assert_eq!(report["to"], home.path("there").to_str().unwrap());
    assert_eq!(column(report["datasets"].as_array().unwrap(), "dataset"), ["music", "photos"]);
    let photos = &report["datasets"][1];
    assert_eq!((&photos["present"], &photos["older"]), (&3.into(), &0.into()));
    let copied = &photos["copied"];
    assert_eq!((&copied[0]["backup"], &copied[0]["to_backup"]), (&3.into(), &3.into()));
    assert_eq!(copied[0]["new_bytes"], 6);
    assert_eq!(copied.as_array().unwrap().len(), 1);
    let again = home.json(0, &["copy", "photos", "--to", "there"]);
    assert_eq!(again["datasets"][0]["copied"].as_array().unwrap().len(), 0);
    assert_eq!(again["datasets"][0]["stored_bytes"], 0);
    home.done(&[&there[..], &["check", "--read-data"]].concat());
}

#[test]
fn backups_are_named_and_a_dry_run_copies_none() {
    let mut home = home();
    init_there(&mut home, None);

    let planned =
        home.json(0, &["copy", "--dry-run", "photos@1", "photos@latest", "--to", "there"]);
    assert_eq!(column(planned["datasets"][0]["copied"].as_array().unwrap(), "backup"), ["1", "2"]);
    assert_eq!(planned["dry_run"], true);
    let would = home.done(&["copy", "-n", "--to", "there"]);
    assert!(would.stdout.contains("photos: would copy 3 backups as photos@0"), "{would:?}");
    home.unset("ICECORE_PASSWORD");
    assert_eq!(home.json(0, &["-r", "there", "list"]).as_array().unwrap().len(), 0);
    home.set("ICECORE_PASSWORD", "one");

    let ran = home.done(&["copy", "photos@1", "--to", "there"]);
    ran.says(0, "is encrypted and");
    home.run(&["copy", "photos@0", "--to", "there"]).says(2, "older than the newest");
    let rest = home.json(0, &["copy", "photos", "--to", "there"]);
    assert_eq!(
        (&rest["datasets"][0]["older"], &rest["datasets"][0]["present"]),
        (&1.into(), &1.into())
    );
    home.run(&["copy", "photos:a", "--to", "there"]).says(2, "without a path");
    home.run(&["copy", "nothing", "--to", "there"]).says(1, "no dataset nothing");
    home.run(&["copy", "photos"]).says(2, "--to");
}

#[test]
fn what_is_wrong_with_the_other_repository_is_told() {
    let mut home = home();

    home.run(&["copy", "--to", "there"]).says(10, "`icecore -r there init`");
    home.run(&["copy", "--to", "here"]).says(12, "ICECORE_TO_PASSWORD");
    home.set("ICECORE_TO_PASSWORD", "one");
    home.run(&["copy", "--to", "here"]).says(2, "are one repository");
    init_there(&mut home, Some("two"));
    home.run(&["copy", "--to", "there"]).says(12, "wrong password");
    home.done(&["copy", "--to", "there", "--to-password-file", "word"]);
    home.done(&["copy", "--to", "there", "--to-password-command", "/bin/cat word"]);
    home.run(&["copy", "--to", "nowhere://x"]).says(2, "nothing is known");
}

#[test]
fn a_profile_says_where_the_other_repository_is() {
    let mut home = home();
    init_there(&mut home, Some("two"));
    let there = home.path("there");
    let text = format!(
        "[profiles.attic.repository]\nlocation = {:?}\npassword-file = {:?}\n",
        there,
        home.path("word")
    );
    home.write("c.toml", text.as_bytes());

    let report = home.json(0, &["--config", "c.toml", "copy", "music", "--to-profile", "attic"]);

    assert_eq!(report["to"], there.to_str().unwrap());
    assert_eq!(report["datasets"][0]["copied"][0]["backup"], 0);
    home.run(&["--config", "c.toml", "copy", "--to-profile", "other"]).says(2, "other");
}

#[test]
fn a_damaged_backup_is_left_out_and_the_exit_code_tells() {
    let mut home = Home::new();
    home.set("ICECORE_REPOSITORY", "here");
    home.write("d/a", &[1; 50_000]);
    home.done(&["backup", "d", "--init"]);
    home.done(&["-r", "there", "init"]);
    let pack = std::fs::read_dir(home.path("here/packs"))
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .next()
        .unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[85] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();

    let report = home.json(3, &["copy", "--to", "there"]);

    let one = &report["datasets"][0];
    assert_eq!(one["errors"][0]["backup"], 0);
    assert!(one["errors"][0]["message"].as_str().unwrap().contains("cannot read a"), "{one}");
    home.run(&["copy", "--to", "there"]).says(3, "d@0 is not copied");
}

/// A repository that is made without the password that `copy` has would be refused by it.
#[test]
fn a_hint_makes_the_other_repository_with_its_password() {
    let mut home = Home::new();
    home.write("photos/a.txt", b"x");
    home.write("word", b"hunter2\n");
    home.done(&["backup", "photos"]);
    let missing = |home: &Home, more: &[&str], hint: &str| {
        home.run(&[&["copy", "--to", "attic"], more].concat()).says(10, hint);
        assert!(!home.path("attic").exists());
    };

    missing(&home, &[], "`icecore -r attic init` makes one there");
    let file = ["--to-password-file", "word"];
    missing(&home, &file, "`icecore -r attic --password-file word init` makes one there");
    let command = ["--to-password-command", "cat word"];
    missing(&home, &command, "`icecore -r attic --password-command 'cat word' init` makes one");
    home.set("ICECORE_TO_PASSWORD", "hunter2");
    let words = "ICECORE_PASSWORD=\"$ICECORE_TO_PASSWORD\" icecore -r attic init";
    missing(&home, &[], words);

    // As a shell does what the hint says.
    let mut shell = std::process::Command::new("sh");
    let line = words.replace("icecore", env!("CARGO_BIN_EXE_icecore"));
    let command = home.command(&[]);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.arg("-c").arg(line).env_clear().envs(variables).current_dir(home.path(""));
    assert!(shell.output().unwrap().status.success());
    home.done(&["copy", "--to", "attic"]);
}

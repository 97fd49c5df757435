//! `forget`, `tag` and `rename` as a person or a script meets them.

use crate::cli::Home;
use crate::cli::column;
use serde_json::Value;
use serde_json::json;

/// A home with backups of `photos` at these times.
fn home(times: &[&str]) -> Home {
    let home = Home::new();
    for (n, time) in times.iter().enumerate() {
        home.write("photos/a.txt", format!("version {n}").as_bytes());
        home.done(&["-q", "backup", "photos", "--time", time]);
    }
    home
}

/// Four backups on three days.
fn four() -> Home {
    home(&["2026-11-18 09:00", "2026-11-18 20:00", "2026-11-19 12:00", "2026-11-20 12:00"])
}

fn numbers(rows: &Value) -> Vec<String> {
    column(rows.as_array().unwrap(), "backup")
}

fn listed(home: &Home) -> Vec<String> {
    numbers(&home.json(0, &["list", "photos"]))
}

#[test]
fn a_dry_run_shows_what_would_go_and_why_the_rest_stays() {
    let home = four();
    let command = ["forget", "photos", "--keep-daily", "2", "--keep-yearly", "all"];

    let dry = home.done(&[&command[..], &["--dry-run"]].concat()).stdout;

    let expected = "\
BACKUP  TIME                 STATE      WHY
     0  2026-11-18 09:00:00  forgotten
     1  2026-11-18 20:00:00  forgotten
     2  2026-11-19 12:00:00  kept       daily 2026-11-19 (2 of 2)
     3  2026-11-20 12:00:00  kept       newest, daily 2026-11-20 (1 of 2), yearly 2026 (1)
photos: 2 forgotten, 2 kept (dry run: nothing was forgotten)
";
    assert_eq!(dry, expected);
    assert_eq!(listed(&home), ["0", "1", "2", "3"]);
    let done = home.done(&command).stdout;
    assert!(done.ends_with("photos: 2 forgotten, 2 kept\n"), "{done}");
    assert_eq!(listed(&home), ["2", "3"]);
    let again = home.done(&command).stdout;
    assert!(again.ends_with("photos: 0 forgotten, 2 kept\n"), "{again}");
}

#[test]
fn the_document_has_its_fields() {
    let home = four();

    let document = home.json(0, &["forget", "photos", "--backup", "3", "photos@0", "-n"]);

    let row = |backup, time: &str| json!({"backup": backup, "time": time});
    let kept =
        |backup, time: &str| json!({"backup": backup, "time": time, "reasons": ["not named"]});
    let expected = json!({
        "datasets": [{
            "dataset": "photos",
            "kept": [kept(1, "2026-11-18T20:00:00Z"), kept(2, "2026-11-19T12:00:00Z")],
            "forgotten": [row(0, "2026-11-18T09:00:00Z"), row(3, "2026-11-20T12:00:00Z")],
        }],
        "dry_run": true,
    });
    assert_eq!(document, expected);
    assert_eq!(listed(&home).len(), 4);
}

#[test]
fn backups_go_by_number_and_say_so_when_they_are_asked_for() {
    let home = four();

    home.done(&["forget", "photos", "--backup", "backup_3,0", "--backup", "photos@1"]);

    assert_eq!(listed(&home), ["2"]);
    home.run(&["restore", "photos@3", "out"]).says(1, "backup_3 of photos was forgotten");
    home.run(&["restore", "photos@9", "out"]).says(1, "photos has no backup_9");
    home.done(&["restore", "photos", "out"]);
    assert_eq!(std::fs::read(home.path("out/a.txt")).unwrap(), b"version 2");
    let refused = home.json(1, &["forget", "photos", "--backup", "2", "3", "9"]);
    assert_eq!(refused["error"]["kind"], "not_found");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("backup_3 was forgotten before, there is no backup_9"), "{message}");
    home.run(&["forget", "photos", "--backup", "2"]).says(2, "cannot forget the only backup");
    assert_eq!(listed(&home), ["2"]);
    assert!(home.done(&["check"]).stdout.starts_with("no damage"));
}

#[test]
fn every_rule_has_its_flag() {
    let home = four();
    home.done(&["-q", "tag", "photos@0", "--add", "old"]);
    for (flags, kept) in [
        (&["--keep-last", "1"][..], &["3"][..]),
        (&["--keep-hourly", "3"], &["1", "2", "3"]),
        (&["--keep-daily", "all"], &["1", "2", "3"]),
        (&["--keep-weekly", "5"], &["3"]),
        (&["--keep-monthly", "5"], &["3"]),
        (&["--keep-yearly", "5"], &["3"]),
        (&["--keep-within", "40h"], &["1", "2", "3"]),
        (&["--keep-within", "1d"], &["2", "3"]),
        (&["--keep-tag", "old", "--keep-tag", "x"], &["0", "3"]),
    ] {
        let document = home.json(0, &[&["forget", "photos", "-n"], flags].concat());
        assert_eq!(numbers(&document["datasets"][0]["kept"]), kept, "{flags:?}");
    }
}

#[test]
fn days_are_those_of_the_persons_zone() {
    let mut home = Home::new();
    home.write("photos/a.txt", b"0");
    // 23:30 and 00:30 in Berlin, one day in UTC.
    home.done(&["-q", "backup", "photos", "--time", "2026-11-19T22:30:00Z"]);
    home.write("photos/a.txt", b"1");
    home.done(&["-q", "backup", "photos", "--time", "2026-11-19T23:30:00Z"]);
    let kept = |home: &Home| {
        let command = ["forget", "photos", "--keep-daily", "9", "-n"];
        numbers(&home.json(0, &command)["datasets"][0]["kept"])
    };

    assert_eq!(kept(&home), ["1"]);
    home.set("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    assert_eq!(kept(&home), ["0", "1"]);
}

#[test]
fn what_fails_for_one_dataset_does_not_stop_the_others() {
    let home = four();
    home.write("letters/b.txt", b"0");
    home.done(&["-q", "backup", "letters"]);
    home.write("letters/b.txt", b"1");
    home.done(&["-q", "backup", "letters", "--tag", "keep"]);
    home.done(&["-q", "tag", "letters@0", "--add", "keep"]);

    let ran = home.run(&["forget", "--all", "--keep-tag", "keep"]);
    ran.says(2, "no backup has the tag keep");
    assert!(ran.stdout.contains("letters: 0 forgotten, 2 kept"), "{ran:?}");
    let document = home.json(2, &["forget", "--all", "--keep-tag", "keep", "-n"]);
    let rows = document["datasets"].as_array().unwrap();
    assert_eq!(column(rows, "dataset"), ["letters", "photos"]);
    assert_eq!(numbers(&rows[0]["kept"]), ["0", "1"]);
    assert_eq!(rows[1]["error"]["kind"], "invalid_input");
    assert_eq!(listed(&home).len(), 4);

    let all = home.json(0, &["forget", "--all", "--keep-last", "1"]);
    let rows = all["datasets"].as_array().unwrap();
    assert_eq!(
        (numbers(&rows[0]["kept"]), numbers(&rows[1]["kept"])),
        (vec!["1".into()], vec!["3".into()])
    );
    assert_eq!(home.done(&["-q", "forget", "--all", "--keep-last", "1"]).code, 0);
}

#[test]
fn bad_usage_of_forget_tag_and_rename_exits_with_2() {
    let home = four();
    for bad in [
        &["forget"][..],
        &["forget", "photos"],
        &["forget", "--all"],
        &["forget", "photos", "--all", "--keep-last", "1"],
        &["forget", "--all", "--backup", "1"],
        &["forget", "photos", "--backup", "1", "--keep-last", "1"],
        &["forget", "photos", "--backup", "1", "--keep-tag", "x"],
        &["forget", "photos", "--backup"],
        &["forget", "photos", "--backup", "latest"],
        &["forget", "photos", "--backup", "-1"],
        &["forget", "photos", "--backup", "other@1"],
        &["forget", "photos@3", "--keep-last", "1"],
        &["forget", "photos", "--keep-last", "0"],
        &["forget", "photos", "--keep-last", "-1"],
        &["forget", "photos", "--keep-daily", "many"],
        &["forget", "photos", "--keep-within", "6m"],
        &["forget", "photos", "--keep-within", "0d"],
        &["forget", "photos", "--keep-within", "30"],
        &["forget", "photos", "--keep-tag", "nobody"],
        &["tag"],
        &["tag", "photos@0:a.txt", "--add", "x"],
        &["tag", "photos", "--add", "x", "--remove", "x"],
        &["tag", "photos", "--add", "x", "--set", "y"],
        &["tag", "photos", "--add", "a,b"],
        &["tag", "photos", "--add", ""],
        &["tag", "--set", "photos"],
        &["rename", "photos"],
        &["rename", "photos", "photos"],
        &["rename", "photos", "a/b"],
        &["rename", "photos@3", "pics"],
    ] {
        let ran = home.run(bad);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{bad:?}: {ran:?}");
        let error = home.json(2, bad);
        assert!(error["error"]["message"].is_string(), "{bad:?}: {error}");
        assert!(error["error"].get("hint").is_some(), "{bad:?}: {error}");
    }
    for missing in [
        &["forget", "other", "--keep-last", "1"][..],
        &["tag", "other", "--add", "x"],
        &["tag", "photos@9", "--add", "x"],
        &["rename", "other", "pics"],
    ] {
        assert_eq!(home.json(1, missing)["error"]["kind"], "not_found", "{missing:?}");
    }
    assert_eq!(listed(&home).len(), 4);
    let nowhere = Home::new();
    nowhere.run(&["forget", "photos"]).says(2, "no rule says what to keep");
    nowhere.run(&["forget", "photos", "--keep-last", "1"]).says(10, "there is no repository");
    assert!(!nowhere.path(".local").exists());
}

#[test]
fn tags_are_shown_and_changed() {
    let home = four();

    let done = home.done(&["tag", "photos@1", "--add", "keep", "--add", "b", "--description", "x"]);
    assert_eq!(done.stdout, "photos@1: tags keep, b; x\n");
    assert_eq!(home.done(&["tag", "photos@1"]).stdout, "photos@1: tags keep, b; x\n");
    assert_eq!(home.done(&["tag", "photos"]).stdout, "photos@3: no tags\n");
    assert_eq!(home.done(&["-q", "tag", "photos@1", "--remove", "b"]).stdout, "");
    let tagged = home.json(0, &["list", "photos", "--tag", "keep"]);
    assert_eq!((numbers(&tagged), &tagged[0]["description"]), (vec!["1".into()], &"x".into()));

    let report = home.json(0, &["tag", "photos@1", "--set", "a", "--set", "c"]);
    let expected = json!({
        "dataset": "photos", "backup": 1, "tags": ["a", "c"], "description": "x", "changed": true,
    });
    assert_eq!(report, expected);
    let report = home.json(0, &["tag", "photos@1", "--set", "--description", ""]);
    assert_eq!((&report["tags"], &report["description"]), (&json!([]), &"".into()));
    assert_eq!(home.json(0, &["tag", "photos@1", "--set"])["changed"], false);
    home.done(&["forget", "photos", "--backup", "1"]);
    home.run(&["tag", "photos@1", "--add", "x"]).says(1, "was forgotten");
}

#[test]
fn a_dataset_is_renamed() {
    let home = four();

    let done = home.done(&["rename", "photos", "pics"]);

    assert_eq!(done.stdout, "photos is now called pics\n");
    assert_eq!(home.json(0, &["list", "pics"]).as_array().unwrap().len(), 4);
    home.run(&["list", "photos"]).says(1, "there is no dataset photos");
    let again = home.done(&["rename", "photos", "pics"]);
    assert_eq!(again.stdout, "photos was renamed to pics before\n");
    let unchanged = home.json(0, &["backup", "photos", "--dataset", "pics"]);
    assert_eq!((&unchanged["kind"], &unchanged["backup"]), (&"unchanged".into(), &3.into()));
    home.done(&["backup", "photos"]);
    home.run(&["rename", "photos", "pics"]).says(1, "there is a dataset pics already");
    let document = home.json(0, &["rename", "photos", "third"]);
    assert_eq!(document, json!({"dataset": "third", "before": "photos"}));
}

#[test]
fn a_rename_that_was_interrupted_is_told_of() {
    let home = four();
    let names = || -> Vec<std::path::PathBuf> {
        let mut folders = vec![home.path(".local/share/icecore/names")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    };
    home.done(&["rename", "photos", "pics"]);
    // The second step, undone.
    let retired = names().into_iter().find(|path| path.ends_with("1")).unwrap();
    std::fs::remove_file(retired).unwrap();

    let ran = home.run(&["list"]);

    ran.says(0, "photos and pics are one dataset");
    assert_eq!(home.json(0, &["list"]).as_array().unwrap().len(), 2);
    let forgotten = home.json(0, &["forget", "--all", "--keep-last", "3"]);
    assert_eq!(forgotten["datasets"].as_array().unwrap().len(), 1, "once, not twice");
    let done = home.done(&["rename", "photos", "pics"]).stdout;
    assert_eq!(done, "photos is now called pics, as an earlier rename began\n");
    assert_eq!(home.run(&["list"]).stderr, "");
}

/// Writes rules for some datasets into the usual config file.
fn configure(home: &Home, rules: &[(&str, &str)]) {
    let table =
        |(name, rule): &(&str, &str)| format!("[backup.datasets.{name}.retention]\n{rule}\n");
    let text: String = rules.iter().map(table).collect();
    home.write(".config/icecore/config.toml", text.as_bytes());
}

#[test]
fn without_typed_rules_those_of_the_config_file_count() {
    let home = four();
    home.run(&["forget", "photos"]).says(2, "[backup.datasets.photos.retention]");
    home.run(&["forget", "photos"]).says(2, "no rule says what to keep");
    configure(&home, &[("photos", "keep-daily = 2\nkeep-yearly = \"all\"")]);

    let planned = home.json(0, &["forget", "photos", "-n"]);
    assert_eq!(numbers(&planned["datasets"][0]["kept"]), ["2", "3"]);
    let why = &planned["datasets"][0]["kept"][1]["reasons"];
    assert_eq!(*why, json!(["newest", "daily 2026-11-20 (1 of 2)", "yearly 2026 (1)"]));
    let typed = home.json(0, &["forget", "photos", "-n", "--keep-last", "3"]);
    assert_eq!(numbers(&typed["datasets"][0]["kept"]), ["1", "2", "3"], "typed rules alone");
    let named = home.json(0, &["forget", "photos", "-n", "--backup", "3"]);
    assert_eq!(numbers(&named["datasets"][0]["kept"]), ["0", "1", "2"]);
    assert_eq!(listed(&home).len(), 4);
    home.run(&["--config", "/dev/null", "forget", "photos"]).says(2, "no rule says what to keep");

    home.done(&["forget", "photos", "--prune"]);
    assert_eq!(listed(&home), ["2", "3"]);
    configure(&home, &[("photos", "keep-within = \"6m\"")]);
    home.run(&["forget", "photos"]).says(2, "config.toml:2: \"6m\" is no duration");
    configure(&home, &[("photos", "keep-last = 0")]);
    home.run(&["forget", "photos"]).says(2, "\"0\" is no number from 1 up");
}

#[test]
fn all_datasets_have_their_own_rules_in_the_config_file() {
    let home = four();
    for (dataset, days) in [("music", ["18", "19"]), ("notes", ["18", "19"])] {
        for day in days {
            home.write(&format!("{dataset}/a.txt"), day.as_bytes());
            home.done(&["-q", "backup", dataset, "--time", &format!("2026-11-{day}")]);
        }
    }
    let of = |dataset: &str| numbers(&home.json(0, &["list", dataset]));
    configure(&home, &[("other", "keep-last = 1")]);
    home.run(&["forget", "--all"]).says(2, "no rule says what to keep");
    configure(&home, &[("photos", "keep-last = 2"), ("music", "keep-last = 1"), ("notes", "")]);

    let ran = home.done(&["forget", "--all"]);

    assert!(
        ran.stderr.contains("notes: no rule says what to keep, so all of it is kept"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("photos: 2 forgotten, 2 kept"), "{ran:?}");
    assert_eq!((of("photos"), of("music")), (vec!["2".into(), "3".into()], vec!["1".to_owned()]));
    assert_eq!(of("notes"), ["0", "1"]);
    let document = home.json(0, &["forget", "--all", "--dry-run"]);
    assert_eq!(column(document["datasets"].as_array().unwrap(), "dataset"), ["music", "photos"]);
    home.done(&["forget", "--all", "--keep-last", "1"]);
    assert_eq!((of("photos").len(), of("notes").len()), (1, 1), "typed rules are for all");
}

#[test]
fn what_is_missing_or_below_one_is_told_in_words() {
    let home = four();

    home.run(&["forget"]).says(2, "go through all of them with --all");
    home.run(&["forget", "--keep-last", "1"]).says(2, "name a DATASET");
    home.run(&["forget", "photos", "--keep-daily", "-1"]).says(2, "\"-1\" is no number from 1 up");
    home.run(&["forget", "photos", "--keep-daily", "0"]).says(2, "\"0\" is no number from 1 up");
    home.run(&["forget", "photos", "--keep-within", "-1"]).says(2, "\"-1\" is no duration");
}

#[test]
fn rules_of_two_names_for_one_dataset_are_for_a_person_to_choose_from() {
    let home = four();
    home.done(&["rename", "photos", "pics"]);
    let names = home.path(".local/share/icecore/names");
    // As a rename leaves it that was killed between its two steps.
    let below = |folder: std::path::PathBuf| {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    };
    let folders = below(names).flat_map(below);
    let retired: Vec<_> = folders.map(|it| it.join("1")).filter(|it| it.exists()).collect();
    assert_eq!(retired.len(), 1);
    std::fs::remove_file(&retired[0]).unwrap();
    let rules = |photos: u64| {
        let rule = |name: &str, last: u64| {
            format!("[backup.datasets.{name}]\nretention = {{ keep-last = {last} }}\n")
        };
        let config = rule("photos", photos) + &rule("pics", 3);
        home.write(".config/icecore/config.toml", config.as_bytes());
    };
    rules(1);

    let ran = home.run(&["forget", "--all"]);

    ran.says(2, "photos and pics are one dataset");
    assert_eq!(numbers(&home.json(0, &["list", "pics"])), ["0", "1", "2", "3"]);
    rules(3);
    home.done(&["forget", "--all"]);
    assert_eq!(numbers(&home.json(0, &["list", "pics"])), ["1", "2", "3"]);
}

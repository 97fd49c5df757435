//! What is said to a person who typed something that makes no sense: in the words of what was
//! typed, and with what to type instead.

use crate::cli::Home;

fn home() -> Home {
    let home = Home::new();
    home.write("photos/2025/a.txt", b"x");
    home.done(&["backup", "photos"]);
    home
}

#[test]
fn each_command_speaks_of_what_it_was_to_do() {
    let home = home();

    home.run(&["diff", "photos", "./nope"]).says(1, "cannot read ./nope: no such folder");
    home.run(&["bench", "nofolder"]).says(1, "cannot read nofolder: no such folder");
    home.run(&["cat", "photos:2025"]).says(2, "2025 is no file but a folder");
    for threads in ["0", "-1", "many"] {
        let words = format!("{threads} is no number of threads: 1 or more");
        home.run(&["--threads", threads, "list"]).says(2, &words);
    }
    home.done(&["--threads", "1", "list"]);
}

#[test]
fn a_name_that_cannot_be_one_is_told_with_the_rule() {
    let home = home();
    let rule = "a name has 1 to 200 bytes and no `@`, `:`, `/` or control characters";

    home.run(&["list", "photos/"]).says(2, rule);
    home.run(&["backup", "photos", "--dataset", "a/b"]).says(2, rule);
    home.run(&["ls", "./photos"]).says(2, rule);
    home.run(&["list", "@"]).says(2, rule);
    home.run(&["list", "photos@2"]).says(2, "`icecore show photos@2` shows that one");
    home.run(&["forget", "photos@0", "--keep-last", "1"]).says(2, "`icecore show photos@0`");
    let error = home.json(2, &["list", "photos/"]);
    assert!(error["error"]["message"].as_str().unwrap().contains(rule), "{error}");
}

/// The plain `icecore init` made the default one.
#[test]
fn what_makes_a_repository_is_told_for_the_place_that_was_typed() {
    let mut home = home();
    home.write("place with blanks/x", b"x");
    std::fs::remove_file(home.path("place with blanks/x")).unwrap();

    home.run(&["-r", "attic", "list"]).says(10, "`icecore -r attic init` makes one there");
    let quoted = "`icecore -r 'place with blanks' init` makes one there";
    for arguments in [&["check"][..], &["key", "list"], &["cache", "clear"], &["backup", "photos"]]
    {
        home.run(&[&["-r", "place with blanks"], arguments].concat()).says(10, quoted);
    }
    home.write("c.toml", b"[profiles.p.repository]\nlocation = \"attic\"\n");
    let ran = home.run(&["--config", "c.toml", "--profile", "p", "list"]);
    ran.says(10, "`icecore --profile p init` makes one there");
    home.set("ICECORE_REPOSITORY", "attic");
    home.run(&["list"]).says(10, "`icecore init` makes one there");
}

#[test]
fn a_version_that_is_none_is_repeated_as_it_was_typed() {
    let home = home();

    let refused = |address: &str| home.run(&["show", address]);
    refused("photos@2026-11-22 25:00").says(2, "\"2026-11-22 25:00\" is no version");
    refused("photos@tomorow:2025/a.txt").says(2, "\"tomorow\" is no version");
}

#[test]
fn a_dry_run_of_a_restore_says_what_would_be() {
    let home = home();
    home.write("out/more", b"x");

    let ran = home.done(&["restore", "photos", "out", "--overwrite", "never", "--delete", "-n"]);

    assert!(ran.stdout.contains("photos@0: would restore 1 file (1 B), 1 to delete, "), "{ran:?}");
    assert!(!ran.stdout.contains("restored") && !ran.stdout.contains("deleted"), "{ran:?}");
    assert!(home.path("out/more").exists());
}

#[test]
fn kinds_may_be_called_by_their_names() {
    let home = home();
    std::os::unix::fs::symlink("2025", home.path("photos/link")).unwrap();
    home.done(&["backup", "photos"]);

    let found = |kind: &str| home.done(&["find", "*", "--type", kind]).stdout;
    for (letter, words) in
        [("f", &["file"][..]), ("d", &["dir", "directory", "folder"]), ("l", &["link", "symlink"])]
    {
        assert_eq!(found(letter).lines().count(), 1, "{letter}");
        words.iter().for_each(|word| assert_eq!(found(word), found(letter), "{word}"));
    }
    home.run(&["find", "*", "--type", "nosuch"]).says(2, "nosuch");
}

#[test]
fn a_share_beside_its_flag_is_told_how_it_is_written() {
    let home = home();

    home.run(&["check", "--read-data", "10%"]).says(2, "write --read-data=10%");
    home.run(&["check", "photos"]).says(2, "write --dataset photos");
    home.done(&["check", "--read-data=100%", "-d", "photos"]);
    home.done(&["check", "--read-data"]);
    home.done(&["repair", "-n"]);
    let help = home.done(&["check", "-h"]).stdout;
    assert!(help.contains("Usage: icecore check [OPTIONS]\n"), "{help}");
}

#[test]
fn a_pattern_is_refused_as_it_was_typed() {
    let home = home();
    let open = |pattern: &str| format!("{pattern:?} is no pattern: a `[` is not closed");

    home.run(&["restore", "photos", "out", "--include", "[z-"]).says(2, &open("[z-"));
    let ran = home.run(&["restore", "photos", "out", "--include", "[z-a]"]);
    ran.says(2, "\"[z-a]\" is no pattern");
    assert!(!ran.stderr.contains("**"), "{ran:?}");
    home.run(&["backup", "photos", "--exclude", "[abc"]).says(2, &open("[abc"));
    home.run(&["find", "["]).says(2, &open("["));
    home.run(&["find", "a[!]"]).says(2, "is written \\[");
    home.write("patterns", b"*.tmp\nx[\n");
    home.run(&["backup", "photos", "--exclude-from", "patterns"]).says(2, &open("x["));
    assert!(!home.path("out").exists());

    // What a file of the tree says stops nothing.
    home.write("photos/.gitignore", b"[abc\n");
    home.write("photos/[abc", b"x");
    home.write("photos/]", b"x");
    home.done(&["backup", "photos", "--gitignore", "--exclude", "[]]"]);
    assert_eq!(home.done(&["ls", "photos"]).stdout, ".gitignore\n2025/\n");
    home.done(&["backup", "photos", "--exclude", "\\[abc", "--exclude", "[a-z]*[0-9]"]);
    assert_eq!(home.done(&["ls", "photos"]).stdout, ".gitignore\n2025/\n]\n");
}

#[test]
fn a_folder_is_one_however_it_is_typed() {
    let home = home();
    home.write("far/away/photos/b.txt", b"b");
    home.write("far/photos/c.txt", b"c");
    std::os::unix::fs::symlink("far/away", home.path("link")).unwrap();
    let root = std::fs::canonicalize(home.path("")).unwrap();
    let source = |backup: usize| {
        let rows = home.json(0, &["list", "photos"]);
        let source = rows[backup]["source"].as_str().unwrap().to_owned();
        source.replace(root.to_str().unwrap(), "").replace(home.path("").to_str().unwrap(), "/")
    };

    for typed in ["photos/../photos/", "./photos/.", "photos/2025/..", "link/../../photos"] {
        let report = home.json(0, &["backup", typed]);
        assert_eq!(report["kind"], "unchanged", "{typed}: {report}");
    }
    // Behind a link, `..` is where the link leads to.
    home.run(&["backup", "link/../photos"]).says(2, "far/photos on ");
    home.done(&["backup", "link/../photos", "-d", "photos"]);
    assert_eq!(source(1).trim_start_matches('/'), "far/photos");
    // Any other link keeps its name.
    home.done(&["backup", "link/photos", "-d", "photos"]);
    assert_eq!(source(2).trim_start_matches('/'), "link/photos");

    let made = home.done(&["-r", "photos/../store", "init"]).stdout;
    assert!(made.contains("/store,") && !made.contains(".."), "{made}");
}

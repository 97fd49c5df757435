//! The config file: what counts, what is refused, and what is never shown.

use crate::cli::Home;
use crate::cli::column;
use serde_json::Value;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

const USUAL: &str = ".config/icecore/config.toml";

fn home(config: &str) -> Home {
    let home = Home::new();
    home.write(USUAL, config.as_bytes());
    home
}

/// Returns value and origin of a key, as `config show --json` tells them.
fn shown(home: &Home, flags: &[&str], key: &str) -> (Value, String) {
    let rows = home.json(0, &[flags, &["config", "show"]].concat());
    let row = rows.as_array().unwrap().iter().find(|row| row["key"] == key);
    let row = row.unwrap_or_else(|| panic!("{key} is not in {rows}"));
    let from = row["from"].as_str().unwrap();
    let root = std::fs::canonicalize(home.path("")).unwrap();
    let short = from.replace(&format!("{}/", home.path("").display()), "");
    let short = short.replace(&format!("{}/", root.display()), "");
    (row["value"].clone(), format!("{} {short}", row["source"].as_str().unwrap()))
}

#[test]
fn a_flag_counts_before_the_environment_before_the_file_before_the_default() {
    let mut home = home(
        "[repository]\nlocation = \"base\"\nlimit-upload = \"10M\"\n\
         [profiles.own]\nuse = [\"used\"]\n[profiles.own.repository]\nlocation = \"own\"\n\
         [profiles.user]\nuse = [\"used\"]\n[profiles.used.repository]\nlocation = \"/used\"\n",
    );
    let key = "repository.location";
    let below = |name: &str| json!(home.path(".config/icecore").join(name).to_str().unwrap());
    let (base, own) = (below("base"), below("own"));

    assert_eq!(shown(&home, &[], key), (base, format!("file {USUAL}:2")));
    assert_eq!(shown(&home, &["--profile", "own"], key).0, own);
    assert_eq!(
        shown(&home, &["--profile", "user"], key),
        (json!("/used"), format!("file {USUAL}:11"))
    );
    home.set("ICECORE_PROFILE", "user");
    assert_eq!(shown(&home, &[], key).0, "/used");
    assert_eq!(shown(&home, &["--profile", "own"], key).0, own);
    let (name, from) = shown(&home, &[], "profile");
    assert_eq!((name, from.as_str()), (json!("user"), "environment ICECORE_PROFILE"));
    home.set("ICECORE_REPOSITORY", "env");
    let named = (json!("env"), "environment ICECORE_REPOSITORY".to_owned());
    assert_eq!(shown(&home, &[], key), named);
    let typed = (json!("typed"), "flag --repository".to_owned());
    assert_eq!(shown(&home, &["-r", "typed"], key), typed);
    let limit = "repository.limit-upload";
    assert_eq!(shown(&home, &[], limit), (json!(10 << 20), format!("file {USUAL}:3")));
    let typed = (json!(1024), "flag --limit-upload".to_owned());
    assert_eq!(shown(&home, &["--limit-upload", "1k"], limit), typed);
    assert_eq!(
        shown(&home, &[], "repository.limit-download"),
        (Value::Null, "default default".into())
    );
}

#[test]
fn a_config_file_is_found_by_flag_by_variable_or_in_its_place() {
    let mut home = home("[backup]\nhost = \"usual\"\n");
    home.write("other.toml", b"[backup]\nhost = \"other\"\n");
    home.write("xdg/icecore/config.toml", b"[backup]\nhost = \"xdg\"\n");
    home.write("env.toml", b"[backup]\nhost = \"env\"\n");

    assert_eq!(shown(&home, &[], "backup.host").0, "usual");
    home.set("XDG_CONFIG_HOME", home.path("xdg").to_str().unwrap());
    assert_eq!(shown(&home, &[], "backup.host").0, "xdg");
    home.set("ICECORE_CONFIG", "env.toml");
    assert_eq!(shown(&home, &[], "backup.host").0, "env");
    assert_eq!(shown(&home, &["--config", "other.toml"], "backup.host").0, "other");
    assert_eq!(shown(&home, &["--config", "/dev/null"], "backup.host").0, Value::Null);
    let text = home.done(&["config", "show"]).stdout;
    assert!(text.contains("env.toml:2") && text.starts_with("KEY "), "{text}");
}

#[test]
fn what_makes_no_sense_is_bad_usage() {
    let home = Home::new();
    for (text, words) in [
        ("[backup]\nexcluds = []\n", "bad.toml:2: unknown field `excluds`"),
        ("[backup]\n\ntags = 5\n", "bad.toml:3: invalid type"),
        ("[profiles.a]\nuse = [\"b\"]\n[profiles.b]\nuse = [\"a\"]\n", "uses itself"),
        ("[profiles.a]\nuse = [\"b\"]\n", "bad.toml:2: there is no profile \"b\""),
        ("[backup.datasets.d]\nsources = [\"a\", \"b\"]\n", "bad.toml:2: several sources"),
        ("[repository\n", "bad.toml:1: "),
    ] {
        home.write("bad.toml", text.as_bytes());
        home.run(&["--config", "bad.toml", "list"]).says(2, words);
        let error = home.json(2, &["--config", "bad.toml", "list"]);
        assert_eq!(error["error"]["kind"], "invalid_input", "{text}");
    }
    home.write("good.toml", b"[profiles.there]\n");
    home.run(&["--config", "good.toml", "--profile", "x", "list"]).says(2, "no profile \"x\"");
    home.run(&["--profile", "x", "list"]).says(2, "no config file");
    home.run(&["--config", "missing.toml", "list"]).says(2, "missing.toml");
    home.run(&["--config", ".", "list"]).says(2, "cannot read the config file");
    home.write("latin.toml", b"# caf\xe9\n");
    home.run(&["--config", "latin.toml", "list"]).says(2, "cannot read the config file");
    home.run(&["--limit-upload", "fast", "list"]).says(2, "no rate");
    // What only talks about the program works all the same.
    home.write("bad.toml", b"[oops]\n");
    home.done(&["--config", "bad.toml", "completions", "bash"]);
    home.done(&["--config", "bad.toml", "man", "backup"]);
    home.done(&["--config", "bad.toml"]);
}

#[test]
fn an_unreadable_config_file_is_bad_usage() {
    if crate::support::folder::is_root() {
        crate::support::folder::skipped("an unreadable config file, as root reads everything");
        return;
    }
    let home = home("[backup]\n");
    let forbidden = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(home.path(USUAL), forbidden).unwrap();

    home.run(&["list"]).says(2, "cannot read the config file");
}

#[test]
fn no_secret_is_shown() {
    let mut home = home(
        "[repository]\nlocation = \"sftp://me:hunter2@host/x\"\n\
         password-command = \"echo hunter2\"\n\
         [credentials.\"ftp://host:2121\"]\nuser = \"me\"\npassword = \"hunter2\"\n\
         [credentials.\"s3://bucket\"]\naccess-key-id = \"AK\"\n\
         secret-access-key = \"hunter2\"\nsession-token = \"hunter2\"\nregion = \"r\"\n",
    );

    let ran = home.done(&["config", "show"]);
    let json = home.done(&["--json", "config", "show"]).stdout;
    assert!(ran.stderr.contains("others can read") && ran.stderr.contains("chmod 600"), "{ran:?}");
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran:?}");
    assert!(!json.contains("hunter2") && json.contains("AK"), "{json}");
    let set = (json!("(set)"), format!("file {USUAL}:6"));
    assert_eq!(shown(&home, &[], "credentials.\"ftp://host:2121\".password"), set);
    assert_eq!(shown(&home, &[], "repository.location").0, "sftp://me@host/x");
    assert_eq!(shown(&home, &[], "repository.password-command").0, "(set)");
    home.set("ICECORE_PASSWORD", "hunter2");
    let set = (json!("(set)"), "environment ICECORE_PASSWORD".to_owned());
    assert_eq!(shown(&home, &[], "repository.password"), set);
    assert_eq!(shown(&home, &[], "repository.password-command").0, Value::Null);
    std::fs::set_permissions(home.path(USUAL), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.done(&["config", "show"]).stderr, "");
    home.write("plain.toml", b"[backup]\n");
    assert_eq!(home.done(&["--config", "plain.toml", "config", "show"]).stderr, "");
}

#[test]
fn without_a_source_the_configured_ones_are_backed_up() {
    let home = home(
        "[repository]\nlocation = \"~/store\"\ncache-dir = \"../../mine\"\n\
         [backup]\ninit = true\ntags = [\"all\"]\nexcludes = [\"*.tmp\"]\nhost = \"box\"\n\
         [backup.datasets.photos]\nsources = [\"~/pictures\"]\n\
         [backup.datasets.notes]\nsources = [\"../../texts\"]\ntags = [\"own\"]\n\
         description = \"d\"\n\
         [backup.datasets.notes.retention]\nkeep-daily = 7\nkeep-within = \"30d\"\n\
         [backup.datasets.other]\nexcludes = [\"b\"]\n",
    );
    home.write("pictures/a.jpg", b"a");
    home.write("pictures/b.tmp", b"b");
    home.write("texts/c", b"c");

    let rows = home.json(0, &["backup"]);
    let datasets = column(rows.as_array().unwrap(), "dataset");
    assert_eq!(datasets, ["notes", "photos"]);
    assert!(home.path("store").is_dir() && home.path("mine").is_dir());
    assert_eq!(home.done(&["ls", "-R", "photos"]).stdout, "a.jpg\n");
    let notes = &home.json(0, &["list", "notes"])[0];
    assert_eq!(notes["tags"], json!(["own"]));
    assert_eq!((&notes["description"], &notes["host"]), (&json!("d"), &json!("box")));
    assert_eq!(home.json(0, &["list", "photos"])[0]["tags"], json!(["all"]));

    home.write("texts/d", b"d");
    let one = home.json(0, &["backup", "--dataset", "notes", "--tag", "typed"]);
    assert_eq!((&one["dataset"], &one["added"]), (&json!("notes"), &json!(1)));
    assert_eq!(home.json(0, &["list", "notes"])[1]["tags"], json!(["typed"]));
    home.write("other/a", b"a");
    home.write("other/b", b"b");
    home.write("other/c.tmp", b"c");
    home.done(&["backup", "other"]);
    assert_eq!(home.done(&["ls", "-R", "other"]).stdout, "a\nc.tmp\n", "its own list counts");
    home.done(&["backup", "other", "--exclude", "a"]);
    assert_eq!(home.done(&["ls", "-R", "other"]).stdout, "b\nc.tmp\n", "a typed list counts");
    let days = shown(&home, &[], "backup.datasets.notes.retention.keep-daily");
    assert_eq!(days.0, 7);
    home.run(&["backup", "--dataset", "other"]).says(2, "what the dataset other is made of");
    home.run(&["--config", "/dev/null", "backup"]).says(2, "nothing says what to back up");
    home.run(&["backup", "--dataset", "nobody"]).says(2, "nobody");
}

/// A backup to a disk that was not mounted made a repository in the folder that is left of it, and
/// filled the disk of the system.
#[test]
fn the_example_of_the_readme_makes_no_repository_on_a_disk_that_is_not_mounted() {
    let readme = include_str!("../../../README.md");
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut home = home(&example.replace("/mnt/usb", "~/usb"));
    home.set("ICECORE_PASSWORD", "secret");
    home.write("photos/a.jpg", b"a");
    home.write("notes/b", b"b");
    std::fs::create_dir(home.path("usb")).unwrap();

    home.run(&["--profile", "usb", "backup"]).says(10, "there is no repository at");

    assert_eq!(std::fs::read_dir(home.path("usb")).unwrap().count(), 0);
    home.done(&["--profile", "usb", "init"]);
    home.done(&["--profile", "usb", "backup"]);
    home.done(&["backup"]);
    assert!(home.path("backups/packs").is_dir() && home.path("usb/backups/packs").is_dir());
}

#[test]
fn a_backup_makes_no_repository_in_a_folder_that_is_not_there() {
    let home = home("[backup]\ninit = true\n");
    home.write("a/x", b"x");

    let ran = home.run(&["-r", "disk/backups", "backup", "a"]);

    ran.says(10, "disk is not there either: is a disk not mounted?");
    assert!(!home.path("disk").exists());
    home.done(&["-r", "disk/backups", "init"]);
    home.done(&["-r", "disk/backups", "backup", "a"]);
    home.done(&["-r", "other/backups", "backup", "a", "--init"]);
}

#[test]
fn a_switch_of_the_file_can_be_turned_off() {
    let home = home("[backup]\ngitignore = true\n");
    home.write("a/.gitignore", b"x\n");
    home.write("a/x", b"x");

    home.done(&["backup", "a"]);
    assert_eq!(home.done(&["ls", "-R", "a"]).stdout, ".gitignore\n");
    home.done(&["backup", "--gitignore=false", "a"]);
    assert_eq!(home.done(&["ls", "-R", "a"]).stdout, ".gitignore\nx\n");
    home.done(&["--config", "/dev/null", "backup", "--gitignore", "a"]);
    assert_eq!(home.done(&["ls", "-R", "a"]).stdout, ".gitignore\n");
}

#[test]
fn the_file_says_where_the_password_is() {
    let mut home = home(
        "[repository]\nlocation = \"store\"\npassword-file = \"secret\"\n\
         [profiles.command.repository]\npassword-command = \"printf hunter2\"\n",
    );
    home.write(".config/icecore/secret", b"hunter2\n");
    home.write("wrong", b"x\n");

    let made = home.json(0, &["init"]);
    assert_eq!(made["encryption"], "password");
    home.done(&["list"]);
    home.done(&["--profile", "command", "list"]);
    home.run(&["--password-file", "wrong", "list"]).says(12, "wrong password");
    home.set("ICECORE_PASSWORD", "y");
    home.run(&["list"]).says(12, "wrong password");
}

#[test]
fn a_bound_on_bandwidth_makes_a_backup_wait() {
    let home = Home::new();
    home.write("a/x", &crate::support::tree::noise(300_000, 1));
    let begin = std::time::Instant::now();

    home.done(&["--limit-upload", "1M/s", "backup", "a"]);

    // The index, the lease and the header wait for the pack.
    assert!(begin.elapsed().as_millis() > 250, "{:?}", begin.elapsed());
    home.done(&["--limit-download", "100M", "restore", "a", "out"]);
}

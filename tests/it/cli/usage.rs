//! The guide, the help, and arguments that make no sense.

use crate::cli::Home;
use crate::cli::Ran;
use std::io::Read;
use std::process::Stdio;

const COMMANDS: [&str; 20] = [
    "init",
    "backup",
    "restore",
    "list",
    "show",
    "ls",
    "cat",
    "tag",
    "rename",
    "forget",
    "check",
    "repair",
    "prune",
    "cache",
    "config",
    "bench",
    "stats",
    "key",
    "completions",
    "man",
];

#[test]
fn without_arguments_a_guide_is_printed() {
    let ran = Home::new().done(&[]);

    assert!(ran.stdout.contains("icecore backup ~/photos"), "{ran:?}");
    assert_eq!(ran.stderr, "");
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();

    let all = home.done(&["--help"]).stdout;

    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not listed: {all}");
        let help = home.done(&[command, "--help"]).stdout;
        assert!(help.contains("Example"), "{command}: {help}");
        let first = help.lines().next().unwrap();
        assert!(!first.ends_with('.') && first.starts_with(char::is_uppercase), "{first}");
        let page = home.done(&["man", command]).stdout;
        assert!(page.contains(&format!("icecore\\-{command}")), "{command}: {page}");
    }
    assert!(home.done(&["--version"]).stdout.starts_with("icecore "));
    assert!(home.done(&["completions", "bash"]).stdout.contains("complete"));
}

#[test]
fn bad_usage_exits_with_2() {
    let home = Home::new();
    home.write("a/x", b"x");
    home.write("b/x", b"x");
    for bad in [
        &["frobnicate"][..],
        &["--frobnicate"],
        &["backup"],
        &["key"],
        &["restore", "a"],
        &["backup", "a", "b", "--dataset", "c"],
        &["backup", "a", "a/"],
        &["backup", "/"],
        &["backup", "a", "--stdin-name", "x"],
        &["backup", "a", "--exclude", "[z-a]"],
        &["backup", "a", "--time", "soon"],
        &["backup", "a", "--exclude-larger-than", "big"],
        &["backup", "/dev/null"],
        &["restore", "a@3", "out", "--before", "2h"],
        &["restore", "a@sometime", "out"],
        &["restore", "a:../x", "out"],
        &["show", "a:b"],
        &["list", "a@3"],
        &["check", "--read-data=200%"],
        &["init", "--chunk-size", "5000"],
        &["init", "--compression", "99"],
        &["-r", "ftp://host/", "init"],
        &["-q", "-v", "list"],
        &["-r", "gopher://host/", "list"],
        &["list", "--threads", "0"],
        &["man", "frobnicate"],
        &["bench", "--seconds", "0"],
        &["bench", "--seconds", "nan"],
        &["bench", "a", "--files", "3"],
        &["config"],
        &["cache"],
        &["--limit-download", "0", "list"],
    ] {
        let ran = home.run(bad);
        assert_eq!(ran.code, 2, "{bad:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{bad:?}");
        let error = home.json(2, bad);
        assert!(error["error"]["message"].is_string(), "{bad:?}: {error}");
        assert!(error["error"]["kind"].is_string(), "{bad:?}: {error}");
        assert!(error["error"].get("hint").is_some(), "{bad:?}: {error}");
    }
    assert!(!home.path(".local").exists(), "no repository came of it");
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_shows_no_password() {
    let home = Home::new();
    for bad in [
        &["-r", "sftp://me:hunter2@127.0.0.1:1/", "list"][..],
        &["backup", "ftps://me:hunter2@127.0.0.1:1/photos"],
        &["-r", "ftp://me:hunter2@127.0.0.1:1/", "init", "--encryption", "none"],
    ] {
        let ran = home.run(bad);
        ran.says(1, "127.0.0.1");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn without_a_default_repository_a_list_is_empty() {
    let home = Home::new();

    home.run(&["list"]).says(0, "icecore backup FOLDER");
    assert_eq!(home.json(0, &["list"]), serde_json::json!([]));
    home.run(&["list", "photos"]).says(10, "there is no repository");
    home.run(&["-r", "elsewhere", "list"]).says(10, "there is no repository");
    assert_eq!(home.json(10, &["check"])["error"]["kind"], "no_repository");
}

#[test]
fn a_second_init_finds_the_first() {
    let home = Home::new();

    let first = home.done(&["-r", "store", "init"]);
    assert!(first.stdout.contains("not encrypted"), "{first:?}");
    assert!(first.stderr.contains("--encryption password"), "{first:?}");
    home.run(&["-r", "store", "init"]).says(1, "already");

    home.write("other/file", b"x");
    home.run(&["-r", "other", "init"]).says(2, "is not empty");
    let document = home.json(0, &["-r", "file:new/deep", "init", "--encryption", "none"]);
    assert_eq!(document["encryption"], "none");
    assert!(home.path("new/deep").is_dir());
}

/// A later prune removed what lay in `tmp` for a day, and a full disk the file `reserve`.
#[test]
fn a_repository_is_made_in_no_folder_that_holds_something() {
    let home = Home::new();
    home.write("source/x", b"x");
    let names = |folder: &str| {
        let names = std::fs::read_dir(home.path(folder)).unwrap().map(|it| it.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    let foreign =
        ["My Photos.JPG", "b", "tmp/mine", "reserve", "keys/id_rsa", "keys/My Key", "way+"];
    for (n, file) in foreign.into_iter().enumerate() {
        let folder = format!("folder{n}");
        home.write(&format!("{folder}/{file}"), b"mine");

        let ran = home.run(&["-r", &folder, "init"]);

        ran.says(2, &format!("is not empty: it holds {file}, which is no part of a repository"));
        assert_eq!(names(&folder), [file.split('/').next().unwrap()], "nothing was made");
        home.run(&["-r", &folder, "backup", "source", "--init"]).says(2, "is not empty");
    }

    let random = "00112233445566778899aabbccddeeff";
    let ours = [format!("tmp/{random}"), format!("keys/{random}")];
    let others = [
        "lost+found/x",
        ".Trash-0/x",
        "$Recycle.Bin/x",
        "@Recycle/x",
        "@Recently-Snapshot/x",
        "#snapshot/x",
        "FOUND.000/x",
        "Thumbs.db",
        "tmp/.nfs0001",
        "keys/@eaDir/x",
    ];
    for file in ours.iter().map(String::as_str).chain(others) {
        home.write(&format!("disk/{file}"), b"left by systems, and by a creation that died");
    }
    home.done(&["-r", "disk", "init"]);
}

/// A home that cannot be written to ended every command, restores too.
#[test]
fn a_cache_that_cannot_be_made_is_done_without_unless_it_was_named() {
    let mut home = Home::new();
    home.write("a/x", b"x");
    home.write("file", b"no folder");
    home.set("XDG_CACHE_HOME", home.path("file").to_str().unwrap());

    let ran = home.done(&["backup", "a"]);
    let back = home.done(&["restore", "a", "back"]);
    home.done(&["-r", "other", "init"]);
    home.done(&["copy", "--to", "other"]);

    for ran in [ran, back] {
        assert_eq!(ran.stderr.matches("nothing is kept in a cache").count(), 1, "{ran:?}");
        assert!(ran.stderr.contains("file/icecore"), "{ran:?}");
    }
    assert!(home.path("back/x").exists());
    assert!(!home.done(&["list", "--no-cache"]).stderr.contains("cache"), "not wanted at all");
    home.run(&["list", "--cache-dir", "file/own"]).says(1, "--no-cache");
    home.unset("XDG_CACHE_HOME");
    assert_eq!(home.done(&["list"]).stderr, "");
}

/// It was called damaged, and by `init` a repository to use as it is.
#[test]
fn a_repository_of_another_program_is_named_as_such() {
    let home = Home::new();
    home.write("a/x", b"x");
    for folder in ["data/00", "index", "keys", "locks", "snapshots"] {
        std::fs::create_dir_all(home.path("restic").join(folder)).unwrap();
    }
    home.write("restic/config", &[0x5a; 155]);
    home.write("borg/config", b"[repository]\nversion = 1\n");
    home.write("borg/README", b"This is a Borg Backup repository.\n");

    for place in ["restic", "borg"] {
        for arguments in [&["list"][..], &["check"], &["init"], &["backup", "a", "--init"]] {
            let ran = home.run(&[&["-r", place], arguments].concat());
            ran.says(1, &format!("{place} was not made by icecore"));
        }
        assert!(!home.path(place).join("tmp").exists());
    }

    // One of ours whose config is damaged is damaged.
    home.done(&["-r", "own", "backup", "a", "--init"]);
    home.write("own/config", b"something else");
    home.run(&["-r", "own", "list"]).says(1, "is damaged");
    home.run(&["-r", "own", "init"]).says(1, "already");
}

#[test]
fn variables_name_the_repository_and_the_folders() {
    let mut home = Home::new();
    home.write("a/x", b"x");
    home.set("XDG_DATA_HOME", home.path("data").to_str().unwrap());
    home.set("XDG_CACHE_HOME", home.path("caches").to_str().unwrap());

    home.done(&["backup", "a"]);

    assert!(home.path("data/icecore").is_dir() && home.path("caches/icecore").is_dir());
    assert!(!home.path(".cache").exists() && !home.path(".local").exists());
    home.set("ICECORE_REPOSITORY", "elsewhere");
    home.run(&["list"]).says(10, "elsewhere");
    home.run(&["backup", "a"]).says(10, "backup --init");
    home.done(&["backup", "a", "--init", "--cache-dir", "mine"]);
    assert!(home.path("elsewhere").is_dir() && home.path("mine").is_dir());
}

#[test]
fn a_reader_that_goes_away_is_success() {
    let home = Home::new();
    let files: Vec<String> = (0..3000).map(|n| format!("a/{n}-{}", "x".repeat(60))).collect();
    files.iter().for_each(|file| home.write(file, b""));
    home.done(&["backup", "a"]);

    let mut child = home
        .command(&["ls", "-R", "a"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn a_password_in_an_address_is_noted_and_one_in_a_bad_address_is_not_shown() {
    let home = Home::new();
    for location in ["ftp://me:hunter2@host/x", "s3://AK:hunter2@bucket"] {
        let ran = home.run(&["-r", location, "list"]);
        ran.says(1, "in the list of processes");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
        home.run(&["backup", location]).says(1, "in the list of processes");
    }
    for bad in ["ftp://me:hunter2@/x", "ftp://me:hunter2@h:0", "s3://AK:hunter2@b:9000/"] {
        for arguments in [&["-r", bad, "list"][..], &["backup", bad]] {
            let ran = home.run(arguments);
            ran.says(2, "address");
            assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
        }
    }
}

#[test]
fn a_repository_elsewhere_is_not_made_unencrypted_by_the_way() {
    let home = Home::new();
    home.write("a/x", b"1");
    home.run(&["-r", "sftp://me@host/x", "init"]).says(2, "--encryption");
}

#[test]
fn files_of_credentials_that_make_no_sense_are_named() {
    let home = Home::new();
    home.write(".netrc", b"machine h\nlogin me\npasswort hunter2\n");
    let ran = home.run(&["-r", "ftp://h/x", "list"]);
    ran.says(2, ".netrc: line 3");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    home.write(".aws/config", b"[default\n");
    home.run(&["backup", "s3://bucket"]).says(2, ".aws/config: line 1");
}

/// To take them for folders would say that all went well, and keep the backups on this machine.
#[test]
fn addresses_as_other_programs_write_them_are_no_folders() {
    let home = Home::new();
    home.write("photos/a.txt", b"x");
    home.done(&["backup", "photos"]);
    let before = home.run(&["list"]).stdout;
    for (location, meant) in [
        ("sftp:me@nas:/backups", "write sftp://me@nas/backups;"),
        ("me@nas:/backups", "write sftp://me@nas/backups;"),
        ("nas:/backups", "write sftp://nas/backups;"),
        ("s3:https://s3.amazonaws.com/bucket", "AWS_ENDPOINT_URL=https://s3.amazonaws.com;"),
        ("rest:https://nas/", "ftp://, ftps://, sftp://"),
        ("FTP://x/y", "schemes are written small: ftp://;"),
    ] {
        for arguments in [
            &["-r", location, "init"][..],
            &["-r", location, "init", "--encryption", "none"],
            &["-r", location, "backup", "photos", "--init"],
            &["backup", location],
            &["restore", "photos", location],
            &["copy", "--to", location],
        ] {
            home.run(arguments).says(2, meant);
        }
    }
    home.run(&["restore", "photos", "s3:/bucket"]).says(2, "write s3://bucket;");
    let config = format!("[repository]\nlocation = {:?}\n", "sftp:me@nas:/backups");
    home.write("c.toml", config.as_bytes());
    home.run(&["--config", "c.toml", "init"]).says(2, "write sftp://me@nas/backups;");
    let left = std::fs::read_dir(home.path("")).unwrap().map(|it| it.unwrap().file_name());
    let mut left: Vec<_> = left.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect();
    left.sort();
    assert_eq!(left, ["c.toml", "photos"]);
    assert_eq!(home.run(&["list"]).stdout, before);

    // A path that nothing else can be, and one that is there.
    home.done(&["-r", "./me@nas:x", "init"]);
    home.done(&["-r", "me@nas:x", "list"]);
    home.done(&["restore", "photos", home.path("s3:out").to_str().unwrap()]);
    let ran = home.run(&["-r", "me:hunter2@nas:/x", "init"]);
    ran.says(2, "write sftp://me@nas/x;");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

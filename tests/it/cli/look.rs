//! `find`, `diff` and `export` as they are typed.

use crate::cli::Home;
use crate::cli::column;
use crate::support::folder::files_below;
use crate::support::folder::skipped;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::process::Stdio;

/// Three backups of `photos` and one of `notes`.
fn home() -> Home {
    let home = Home::new();
    (0..20).for_each(|n| home.write(&format!("photos/kept/{n}.txt"), b"kept"));
    home.write("photos/a.jpg", b"one");
    home.done(&["backup", "photos"]);
    home.write("photos/a.jpg", b"one and two");
    home.write("photos/2024/b.jpg", b"a picture");
    home.done(&["backup", "photos"]);
    fs::remove_file(home.path("photos/a.jpg")).unwrap();
    home.done(&["backup", "photos"]);
    home.write("notes/a.jpg", b"one and two");
    home.done(&["backup", "notes"]);
    home
}

#[test]
fn entries_are_found_in_all_backups_of_all_datasets() {
    let home = home();

    let rows = home.rows(&["find", "*.jpg"]);
    assert!(rows.iter().all(|row| row["type"] == "entry"), "{rows:?}");
    assert_eq!(column(&rows, "dataset"), ["notes", "photos", "photos", "photos"]);
    assert_eq!(column(&rows, "path"), ["a.jpg", "2024/b.jpg", "a.jpg", "a.jpg"]);
    assert_eq!(column(&rows, "first"), ["0", "1", "0", "1"]);
    assert_eq!(column(&rows, "last"), ["0", "2", "0", "1"]);
    assert_eq!(column(&rows, "backups"), ["1", "2", "1", "1"]);
    assert_eq!(column(&rows, "bytes"), ["11", "9", "3", "11"]);
    assert_eq!(column(&rows, "kind")[0], "file");

    let text = home.done(&["find", "b.jpg", "--dataset", "photos"]).stdout;
    assert!(text.starts_with("photos@1..2 ") && text.ends_with(" 2024/b.jpg\n"), "{text}");
    let rows = home.rows(&["find", "*.jpg", "--backup", "photos@1:2024"]);
    assert_eq!(column(&rows, "path"), ["2024/b.jpg"]);
    let rows = home.rows(&["find", "*", "--type", "d", "-d", "photos", "--newer-than", "1h"]);
    assert!(column(&rows, "path").contains(&"2024".to_owned()), "{rows:?}");
    assert_eq!(home.rows(&["find", "*", "--larger-than", "9", "-d", "photos"]).len(), 1);

    home.done(&["find", "*.png"]).says(0, "nothing was found");
    home.run(&["find", "*.png", "--backup", "photos:none"]).says(1, "there is no none in photos@2");
    home.run(&["find", "*", "--dataset", "none"]).says(1, "there is no dataset none");
    home.run(&["find", "[z-a]"]).says(2, "is no pattern");
    home.run(&["find", "!x"]).says(2, "matches nothing");
    home.run(&["find", "x", "-d", "photos", "-b", "photos"]).says(2, "cannot be used with");
}

#[test]
fn a_damaged_backup_hides_no_other_from_find() {
    let home = home();
    (0..2000).for_each(|n| home.write(&format!("many/{n}"), b"one"));
    home.done(&["backup", "many"]);
    let repository = home.path(".local/share/icecore");
    let packs = files_below(&repository.join("packs"));
    (0..2000).for_each(|n| home.write(&format!("many/{n}"), b"another"));
    home.done(&["backup", "many"]);
    let mut lost = files_below(&repository.join("packs"));
    lost.retain(|pack| !packs.contains(pack));
    assert!(!lost.is_empty(), "a manifest is in a pack");
    lost.iter().for_each(|pack| fs::remove_file(pack).unwrap());

    let ran = home.run(&["--json", "find", "1*"]);
    ran.says(3, "many@1 cannot be looked into: ");
    ran.says(3, "hint: `icecore check --read-data` ");
    let rows: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (errors, found): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row["type"] == "error");
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!((&error["dataset"], &error["backup"]), (&"many".into(), &1.into()));
    assert!(error["error"]["message"].as_str().unwrap().contains("many@1"), "{error}");
    let whole = found.iter().filter(|row| row["dataset"] == "many" && row["first"] == 0);
    assert_eq!(whole.count(), 1111, "all that many@0 has");
    let of_photos =
        |rows: &[serde_json::Value]| column(rows, "dataset").contains(&"photos".to_owned());
    assert!(of_photos(&found), "those of a healthy one");
    home.run(&["find", "a.jpg"]).says(3, "many@1");

    // Without the header of photos@1 nothing is known of @2, which needs it, and all of @0.
    let header = files_below(&repository.join("datasets"))
        .into_iter()
        .find(|path| path.ends_with("0/2"))
        .unwrap()
        .with_file_name("1");
    fs::remove_file(header).unwrap();
    let ran = home.run(&["find", "a.jpg"]);
    ran.says(3, "photos@2 cannot be looked into: backup_1, which it needs, is missing or damaged");
    ran.says(3, "backup_1 of photos is missing from the listing");
    let found: Vec<&str> = ran.stdout.lines().filter_map(|row| row.split(' ').next()).collect();
    assert_eq!(found, ["notes@0", "photos@0"]);
}

#[test]
fn a_name_that_is_not_utf8_is_found() {
    let home = Home::new();
    fs::create_dir(home.path("odd")).unwrap();
    fs::write(home.path("odd").join(std::ffi::OsStr::from_bytes(b"a\xff.jpg")), b"x").unwrap();
    home.done(&["backup", "odd"]);
    let rows = home.rows(&["find", "*.jpg"]);
    assert_eq!(
        (&rows[0]["path"], &rows[0]["path_base64"]),
        (&"a\\xff.jpg".into(), &"Yf8uanBn".into())
    );
}

#[test]
fn two_backups_are_compared() {
    let home = home();

    let mut rows = home.rows(&["diff", "photos@0", "photos@2"]);
    let summary = rows.pop().unwrap();
    assert_eq!(column(&rows, "type"), ["added", "added", "deleted"]);
    assert_eq!(column(&rows, "path"), ["2024", "2024/b.jpg", "a.jpg"]);
    assert_eq!((&rows[1]["bytes"], &rows[1]["before"]), (&9.into(), &serde_json::Value::Null));
    assert_eq!(summary["type"], "summary");
    for (field, count) in [("added", 2), ("modified", 0), ("metadata", 0), ("deleted", 1)] {
        assert_eq!(summary[field], count, "{field}: {summary}");
    }
    assert_eq!((&summary["added_bytes"], &summary["deleted_bytes"]), (&9.into(), &3.into()));
    let rows = home.rows(&["diff", "photos@latest~2", "photos@1"]);
    let a = rows.iter().find(|row| row["path"] == "a.jpg").unwrap();
    assert_eq!(
        (&a["type"], &a["changed"]),
        (&"modified".into(), &serde_json::json!(["content", "time"]))
    );
    assert_eq!((&a["before"]["bytes"], &a["after"]["bytes"]), (&3.into(), &11.into()));

    let text = home.done(&["diff", "photos@0", "photos"]).stdout;
    let expected = "added     2024/\nadded     2024/b.jpg  (9 B)\ndeleted   a.jpg  (3 B)\n\
        2 added (9 B), 0 modified (0 B), 0 with other metadata, 1 deleted (3 B)\n";
    assert_eq!(text, expected);
    let quiet = home.done(&["-q", "diff", "photos@0", "photos"]).stdout;
    assert_eq!(quiet.lines().count(), 3);
    // The same content in two datasets.
    let rows = home.rows(&["diff", "photos@1:a.jpg", "notes:a.jpg"]);
    let content = rows.iter().any(|row| row["changed"].to_string().contains("content"));
    assert!(!content, "{rows:?}");

    home.run(&["diff", "photos@0:none", "photos"]).says(1, "there is no none in photos@0");
    home.run(&["diff", "photos@9", "photos"]).says(1, "photos has no backup_9");
    home.run(&["diff", "photos", "photos@0", "--read-all"]).says(2, "--read-all is about a folder");
}

#[test]
fn a_row_is_called_metadata_where_the_summary_counts_it_so() {
    let home = home();
    let path = home.path("photos/kept/1.txt");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    home.done(&["backup", "photos"]);

    let rows = home.rows(&["diff", "photos@2", "photos@3"]);

    let [row, summary] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["type"], &row["path"]), (&"metadata".into(), &"kept/1.txt".into()));
    assert_eq!(row["changed"], serde_json::json!(["mode"]));
    assert_eq!((&summary["modified"], &summary["metadata"]), (&0.into(), &1.into()));
}

#[test]
fn a_backup_is_compared_with_a_folder() {
    let home = home();
    let summary = |arguments: &[&str]| home.rows(arguments).pop().unwrap();

    let same = summary(&["diff", "photos", "./photos"]);
    for field in ["added", "modified", "metadata", "deleted"] {
        assert_eq!(same[field], 0, "{same}");
    }
    home.write("photos/new.txt", b"new");
    home.write("photos/kept/3.txt", b"Kept");
    let rows = home.rows(&["diff", "photos", "photos/"]);
    assert_eq!(column(&rows[..2], "path"), ["kept/3.txt", "new.txt"]);
    assert_eq!(column(&rows[..2], "type"), ["modified", "added"]);
    let rows = home.rows(&["diff", "./photos", "photos", "--read-all"]);
    assert_eq!(column(&rows[..2], "type"), ["modified", "deleted"]);
    let part = summary(&["diff", "photos:kept", "./photos/kept"]);
    assert_eq!((&part["added"], &part["modified"]), (&0.into(), &1.into()));

    home.run(&["diff", "./photos", "./photos"]).says(2, "one of the two has to be a backup");
    home.run(&["diff", "photos", "./none"]).says(1, "no such folder");
    home.run(&["diff", "photos"]).says(2, "B");
}

#[test]
fn an_export_is_unpacked_by_tar() {
    let home = home();
    fs::create_dir(home.path("out")).unwrap();
    let mut export = home.command(&["export", "photos@1"]).stdout(Stdio::piped()).spawn().unwrap();
    let tar = Command::new("tar")
        .args(["-x", "-C"])
        .arg(home.path("out"))
        .stdin(export.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(tar.success() && export.wait().unwrap().success());
    assert_eq!(fs::read(home.path("out/2024/b.jpg")).unwrap(), b"a picture");
    home.done(&["restore", "photos@1", "restored"]);
    let same =
        Command::new("diff").arg("-r").arg(home.path("out")).arg(home.path("restored")).status();
    assert!(same.unwrap().success());
}

#[test]
fn an_export_goes_to_a_file_that_is_whole() {
    let home = home();
    let report = home.json(0, &["export", "photos@1", "-o", "a.tar.zst"]);
    assert_eq!((&report["dataset"], &report["backup"]), (&"photos".into(), &1.into()));
    assert_eq!((&report["format"], &report["files"]), (&"tar.zst".into(), &22.into()));
    assert_eq!(report["bytes"], 100);
    let length = fs::metadata(home.path("a.tar.zst")).unwrap().len();
    assert_eq!(report["written_bytes"], length);
    assert_eq!(report["errors"], serde_json::json!([]));
    assert!(fs::read(home.path("a.tar.zst")).unwrap().starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));

    home.run(&["export", "photos", "-o", "a.tar.zst"]).says(1, "is there already");
    assert_eq!(fs::metadata(home.path("a.tar.zst")).unwrap().len(), length);
    let forced = home.done(&["export", "photos", "-o", "a.tar.zst", "--force"]);
    forced.says(0, "photos@2: exported 21 files");
    home.done(&["export", "photos:2024", "-o", "a.zip"]).says(0, "keeps names, content");
    assert!(fs::read(home.path("a.zip")).unwrap().starts_with(b"PK"));
    home.done(&["export", "photos", "-o", "b", "--format", "zip"]);
    assert!(fs::read(home.path("b")).unwrap().starts_with(b"PK"));
    let left = fs::read_dir(home.path(".")).unwrap();
    let left = left.filter(|e| e.as_ref().unwrap().file_name().as_bytes().ends_with(b".part"));
    assert_eq!(left.count(), 0);

    home.run(&["--json", "export", "photos"]);
    let refused = home.json(2, &["export", "photos"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("standard output"), "{refused}");
    home.run(&["export", "photos:none"]).says(1, "nothing at none");
    home.run(&["export", "photos", "--force"]).says(2, "--output");
    home.run(&["export", "photos", "--format", "rar"]).says(2, "rar");
}

#[test]
fn an_archive_is_not_shown_on_a_terminal_and_must_be_read_to_its_end() {
    let home = home();
    home.write("photos/large", &crate::support::tree::noise(4 << 20, 1));
    home.done(&["backup", "photos"]);
    let mut child = home
        .command(&["export", "photos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("was not read to its end"), "{said}");

    // `script` gives the program a terminal.
    let program = format!("{} export photos", env!("CARGO_BIN_EXE_icecore"));
    let mut script = Command::new("script");
    script.args(["-qec", &program, "/dev/null"]).env_clear().env("HOME", home.path("."));
    match script.env("TERM", "dumb").stdin(Stdio::null()).output() {
        Ok(ran) => {
            assert_eq!(ran.status.code(), Some(2), "{ran:?}");
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(said.contains("nothing to show on a terminal"), "{said}");
        }
        Err(_) => skipped("an export to a terminal: there is no script(1)"),
    }
}

#[test]
fn a_damaged_file_makes_the_exit_code_3() {
    let home = Home::new();
    home.write("d/a", &crate::support::tree::noise(50_000, 1));
    home.done(&["backup", "d"]);
    for path in files_below(&home.path(".local/share/icecore/packs")) {
        // Content comes first in a pack; what names it is behind.
        let mut bytes = fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let report = home.json(3, &["export", "d", "-o", "d.tar"]);
    assert_eq!(report["errors"][0]["path"], "a");
    let listed = Command::new("tar").arg("-tf").arg(home.path("d.tar")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "./\n");
}

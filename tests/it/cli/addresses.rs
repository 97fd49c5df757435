//! Which backup is meant, by number, place and time.

use crate::cli::Home;

/// Three backups of a dataset whose one file says which it is, a day from one to the next.
fn three() -> Home {
    let home = Home::new();
    for (n, day) in ["2026-11-18 10:00", "2026-11-19 10:00", "2026-11-20 10:00"].iter().enumerate()
    {
        home.write("a/n", n.to_string().as_bytes());
        home.done(&["backup", "a", "--time", day]);
    }
    home
}

#[test]
fn versions_name_backups() {
    let home = three();
    for (version, n) in [
        ("", "2"),
        ("@0", "0"),
        ("@backup_1", "1"),
        ("@latest", "2"),
        ("@latest~2", "0"),
        ("@2026-11-19", "1"),
        ("@2026-11-19 10:00", "1"),
        ("@2026-11-19 09:59", "0"),
        ("@2026-11-19T10:00:00Z", "1"),
        ("@2999-01-01", "2"),
    ] {
        let ran = home.run(&["cat", &format!("a{version}:n")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, n), "{version}: {ran:?}");
    }
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let home = three();

    home.run(&["ls", "a@7"]).says(1, "its newest is backup_2");
    home.run(&["ls", "a@latest~3"]).says(1, "only 3 backups");
    home.run(&["ls", "a@2026-11-17"]).says(1, "its first is backup_0");
    home.run(&["ls", "b"]).says(1, "there is no dataset b");
    home.run(&["ls", "a:m"]).says(1, "there is no m in a@2");
    home.run(&["cat", "a"]).says(2, "is no file");
    assert_eq!(home.json(1, &["ls", "a@7"])["error"]["kind"], "not_found");
}

#[test]
fn the_highest_number_counts_when_a_clock_went_back() {
    let home = three();
    home.write("a/n", b"early");
    home.done(&["backup", "a", "--time", "2026-11-19 12:00"]);

    let ran = home.run(&["cat", "a@2026-11-20:n"]);

    ran.says(0, "do not ascend");
    assert_eq!(ran.stdout, "early");
}

#[test]
fn before_is_a_version_by_another_name() {
    let home = three();

    let report = home.json(0, &["restore", "a", "out", "--before", "2026-11-19"]);

    assert_eq!(report["backup"], 1);
    assert_eq!(std::fs::read_to_string(home.path("out/n")).unwrap(), "1");
}

//! Backups of what a command prints, or of standard input.

use crate::cli::Home;
use crate::cli::Ran;
use crate::support::tree;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use std::io::Write;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Starts the program with something to come on its standard input.
fn start(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(&[&["--json"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Backs up `input`, and returns what is said of it.
fn backup(home: &Home, input: &[u8], more: &[&str]) -> Value {
    let mut child = start(home, &[&["backup", "-", "-d", "d"], more].concat());
    child.stdin.take().unwrap().write_all(input).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// More than two pieces of what does not compress.
fn noise() -> Vec<u8> {
    tree::noise(20 << 20, 7)
}

/// Each run wrote all of the input to a temporary file first: without a lease, in the clear, and
/// with the time of the end.
#[test]
fn a_stream_is_stored_while_it_comes() {
    let home = Home::new();
    home.done(&["init"]);
    let content = noise();
    let packs = home.path(".local/share/icecore/packs");
    let mut child = start(&home, &["backup", "-", "-d", "slow"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&content).unwrap();
    let begun = Instant::now();
    while !holds_a_file(&packs) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its input");
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is stored before the end");
        std::thread::yield_now();
    }

    home.run(&["backup", "-", "-d", "slow"]).says(11, "another backup of slow is running");

    let now = SystemClock.now();
    drop(stdin);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let listed = home.json(0, &["list", "slow"]);
    let time = Timestamp::from_rfc3339(listed[0]["time"].as_str().unwrap()).unwrap();
    assert!(time < now, "{time} and {now}");
    assert_eq!(listed[0]["bytes"], content.len());
    home.done(&["restore", "slow", "out"]);
    assert!(std::fs::read(home.path("out/stdin")).unwrap() == content);
}

#[test]
fn the_same_input_twice_is_no_change() {
    let home = Home::new();
    for (input, more) in [(&b"create table"[..], 1), (b"", 2), (&noise(), 3)] {
        let first = backup(&home, input, &[]);
        assert_ne!(first["kind"], "unchanged", "{first}");
        for arguments in [&[][..], &["--dry-run"], &["--full"]] {
            let again = backup(&home, input, arguments);
            assert_eq!(again["kind"], "unchanged", "{again}");
            assert_eq!(again["new_bytes"], 0, "{again}");
        }
        assert_eq!(home.json(0, &["list", "d"]).as_array().unwrap().len(), more);
    }
}

#[test]
fn a_stream_is_cut_as_a_file_and_shares_what_it_has_with_the_one_before() {
    let home = Home::new();
    let mut content = noise();
    home.write("folder/file", &content);
    home.done(&["backup", "folder"]);

    let same = backup(&home, &content, &[]);
    assert_eq!((&same["new_bytes"], &same["added"]), (&0.into(), &1.into()), "{same}");

    content.insert(10 << 20, b'x');
    let would = backup(&home, &content, &["--dry-run"]);
    let changed = backup(&home, &content, &[]);
    assert_eq!(would["new_bytes"], changed["new_bytes"]);
    // The chunk with the change, and those at the forced cuts behind it.
    assert!(changed["new_bytes"].as_u64().unwrap() < 6 << 20, "{changed}");
    assert_eq!(changed["modified"], 1);
    home.done(&["restore", "d", "out"]);
    assert!(std::fs::read(home.path("out/stdin")).unwrap() == content);
}

fn holds_a_file(folder: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.path().is_file() || holds_a_file(&entry.path()))
}

#[test]
fn standard_input_is_one_file() {
    let home = Home::new();
    let arguments = ["backup", "-", "--stdin-name", "shop.sql", "--dataset", "shop"];
    let mut child = start(&home, &arguments);
    child.stdin.take().unwrap().write_all(b"create table").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(home.done(&["cat", "shop:shop.sql"]).stdout, "create table");
    assert_eq!(home.done(&["ls", "-R", "shop"]).stdout, "shop.sql\n");
}

#[test]
fn a_command_that_fails_fails_the_backup() {
    let home = Home::new();
    let backup = |script: &str| {
        let start = ["backup", "-d", "d", "--stdin-name", "out", "--stdin-from-command", "--"];
        home.run(&[&start[..], &["/bin/sh", "-c", script]].concat())
    };

    assert_eq!(backup("echo one").code, 0);
    backup("echo half; exit 7").says(1, "7");
    backup("head -c 20000000 /dev/urandom; exit 7").says(1, "7");
    backup("head -c 20000000 /dev/urandom; kill -9 $$").says(1, "signal");

    assert_eq!(home.done(&["cat", "d:out"]).stdout, "one\n");
    assert_eq!(home.json(0, &["list", "d"]).as_array().unwrap().len(), 1);
}

/// Begins a backup of what a shell prints, and returns once the shell runs.
fn begin(home: &Home, script: &str) -> Child {
    let script = format!("echo > started; {script}");
    let start = ["--json", "backup", "-d", "d", "--stdin-from-command", "--", "/bin/sh", "-c"];
    // Tests that `nohup` starts ignore the signal, and what they start does as well.
    let mut command = home.command_under("/usr/bin/env", &["--default-signal=HUP"]);
    command.args(start).arg(script);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    while !home.path("started").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::yield_now();
    }
    child
}

#[test]
fn the_first_interrupt_stops_the_work() {
    let endless = "while :; do echo x; done";
    let silent = "exec /bin/sleep 60";
    let tries = [(endless, Signal::INT), (silent, Signal::INT), (endless, Signal::HUP)];
    for (script, signal) in tries {
        let home = Home::new();
        let child = begin(&home, script);

        kill_process(Pid::from_child(&child), signal).unwrap();
        if signal == Signal::HUP {
            // As a shell and its terminal do, one right behind the other.
            std::thread::sleep(Duration::from_millis(1));
            let _ = kill_process(Pid::from_child(&child), signal);
        }
        let ran = Ran::of(child.wait_with_output().unwrap());

        assert_eq!(ran.code, 130, "{ran:?}");
        assert!(ran.stdout.contains(r#""kind":"cancelled""#), "{ran:?}");
        let listed = home.json(0, &["list"]);
        assert!(listed.as_array().unwrap().iter().all(|it| it["backups"] == 0), "{listed}");
    }
}

#[test]
fn what_nohup_starts_outlives_its_terminal() {
    let home = Home::new();
    let script = "echo > started; until [ -e go ]; do /bin/sleep 0.02; done; echo all";
    let mut command = home.command_under("/bin/sh", &["-c", r#"trap "" HUP; exec "$0" "$@""#]);
    command.args(["backup", "-d", "d", "--stdin-name", "out"]);
    command.args(["--stdin-from-command", "--", "/bin/sh", "-c", script]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !home.path("started").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the terminal did");
        std::thread::yield_now();
    }

    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    std::fs::write(home.path("go"), "").unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(home.done(&["cat", "d:out"]).stdout, "all\n");
}

#[test]
fn the_second_interrupt_ends_the_program_at_once() {
    let home = Home::new();
    // The end of the command is waited for, so the first one goes unnoticed.
    let mut child = begin(&home, "exec >/dev/null; exec /bin/sleep 20");

    // Two kinds, as two of one kind may become one.
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(130));
}

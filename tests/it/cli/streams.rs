//! Backups of what a command prints, or of standard input.

use crate::cli::Home;
use crate::cli::Ran;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use std::io::Write;
use std::process::Child;
use std::process::Stdio;

#[test]
fn standard_input_is_one_file() {
    let home = Home::new();
    let arguments = ["--json", "backup", "-", "--stdin-name", "shop.sql", "--dataset", "shop"];
    let mut child = home
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
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

    assert_eq!(home.done(&["cat", "d:out"]).stdout, "one\n");
    assert_eq!(home.json(0, &["list", "d"]).as_array().unwrap().len(), 1);
}

/// Begins a backup of what a shell prints, and returns once the shell runs.
fn begin(home: &Home, script: &str) -> Child {
    let script = format!("echo > started; {script}");
    let start = ["--json", "backup", "-d", "d", "--stdin-from-command", "--", "/bin/sh", "-c"];
    let mut command = home.command(&[&start[..], &[&script]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    while !home.path("started").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::yield_now();
    }
    child
}

#[test]
fn the_first_interrupt_stops_the_work() {
    let home = Home::new();
    let child = begin(&home, "while :; do echo x; done");

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.stdout.contains(r#""kind":"cancelled""#), "{ran:?}");
    assert_eq!(home.json(0, &["list"]), serde_json::json!([]));
}

#[test]
fn the_second_interrupt_ends_the_program_at_once() {
    let home = Home::new();
    // Nothing is printed, so the first one goes unnoticed.
    let mut child = begin(&home, "exec /bin/sleep 20");

    // Two kinds, as two of one kind may become one.
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(130));
}

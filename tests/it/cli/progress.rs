//! What a run tells of itself while it works.

use crate::cli::Home;
use crate::cli::Ran;
use serde_json::Value;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// Lines came only when something was counted: none while a large file was read or sent.
#[test]
fn a_line_comes_each_second_whatever_is_waited_for() {
    let home = Home::new();
    let mut command = home.command(&["--progress-json", "backup", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || stderr.lines().try_for_each(|line| sender.send(line.unwrap())));

    let mut seconds = Vec::new();
    while seconds.len() < 3 {
        let line = lines.recv_timeout(Duration::from_secs(60)).expect("a line each second");
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        assert_eq!((&line["phase"], &line["path"]), (&"backup".into(), &"stdin".into()), "{line}");
        seconds.push(line["seconds"].as_f64().unwrap());
    }
    assert!(seconds[2] - seconds[0] < 30.0, "{seconds:?}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn totals_are_never_below_what_is_done() {
    let home = Home::new();
    home.write("a/x", &[1; 1000]);
    home.done(&["backup", "a"]);
    home.write("a/y", &[2; 3000]);
    let last = |ran: &Ran| -> Value {
        serde_json::from_str(ran.stderr.lines().rfind(|line| line.starts_with('{')).unwrap())
            .unwrap()
    };

    let ran = home.done(&["--progress-json", "backup", "a"]);
    let line = last(&ran);
    assert_eq!((&line["files_done"], &line["bytes_done"]), (&2.into(), &4000.into()), "{line}");
    assert_eq!((&line["files_total"], &line["bytes_total"]), (&Value::Null, &Value::Null));
    assert_eq!(line["path"], "y");

    let line = last(&home.done(&["--progress-json", "backup", "a", "--read-all"]));
    assert_eq!((&line["files_total"], &line["bytes_total"]), (&2.into(), &4000.into()), "{line}");
}

//! `bench` runs, tells what it did, and leaves nothing. How fast it is stands nowhere here.

use crate::cli::Home;
use crate::cli::Ran;
use crate::cli::column;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use std::process::Stdio;

fn names_in(home: &Home, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(home.path(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_bench_measures_steps_and_whole_backups_and_leaves_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.path("place")).unwrap();
    let flags =
        ["bench", "--dir", "place", "--seconds", "0.001", "--files", "12", "--size", "200k"];

    let measured = home.json(0, &[&flags[..], &["--threads", "2"]].concat());

    let rows = measured.as_array().unwrap();
    let names = column(rows, "name");
    for word in ["hash", "chunk", "zstd 1", "zstd 3", "random", "text", "seal", "open"] {
        assert!(names.iter().any(|name| name.contains(word)), "{word}: {names:?}");
    }
    assert_eq!(names[names.len() - 3..], ["backup", "backup without changes", "restore"]);
    assert!(rows.iter().all(|row| row["bytes"].as_u64() > Some(0)), "{measured}");
    assert!(rows.iter().all(|row| row["seconds"].as_f64() >= Some(0.0)), "{measured}");
    let [backup, unchanged, restore] = &rows[rows.len() - 3..] else { panic!("{measured}") };
    let about = 200 * 1024;
    let bytes = backup["bytes"].as_u64().unwrap();
    assert!((about / 2..about * 2).contains(&bytes), "{backup}");
    assert_eq!(backup["files"], 12);
    assert!(backup["stored_bytes"].as_u64() > Some(bytes / 10), "{backup}");
    assert_eq!((&unchanged["files"], &unchanged["stored_bytes"]), (&12.into(), &0.into()));
    assert_eq!((&restore["bytes"], &restore["stored_bytes"]), (&backup["bytes"], &Value::Null));
    assert_eq!(names_in(&home, "place"), [""; 0]);
    assert!(!home.path(".local").exists() && !home.path(".cache").exists());
}

#[test]
fn a_bench_of_a_folder_prints_a_table() {
    let home = Home::new();
    home.write("a/x", b"some content");
    home.write("a/b/y", b"more");
    std::fs::create_dir(home.path("place")).unwrap();

    let ran = home.done(&["bench", "a", "--dir", "place", "--seconds", "0.001"]);

    assert!(ran.stdout.starts_with("WHAT  ") && ran.stdout.contains("\nrestore "), "{ran:?}");
    assert_eq!(names_in(&home, "place"), [""; 0]);
    let mut kept = names_in(&home, "a");
    kept.sort();
    assert_eq!(kept, ["b", "x"]);
    home.run(&["bench", "missing", "--dir", "place", "--seconds", "0.001"]).says(1, "missing");
    assert_eq!(names_in(&home, "place"), [""; 0]);
}

#[test]
fn an_interrupted_bench_leaves_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.path("place")).unwrap();
    let flags = ["bench", "--dir", "place", "--seconds", "0.001", "--size", "1G"];
    let child = home.command(&flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while names_in(&home, "place").is_empty() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());

    assert_eq!(ran.code, 130, "{ran:?}");
    assert_eq!(names_in(&home, "place"), [""; 0]);
}

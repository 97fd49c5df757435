//! Bounds on what is reached over a network: on time, and on the line.

use crate::cli::Home;
use crate::cli::serve::Running;
use crate::support::tree::noise;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

#[test]
fn a_silent_server_is_given_up_when_a_person_says() {
    // It lets in whoever comes, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ftp://me:pw@127.0.0.1:{}/x", silent.local_addr().unwrap().port());
    let mut home = Home::new();
    home.write("c.toml", b"[repository]\ntimeout = 1\n");
    let patient = |words: &[&str], home: &Home| {
        let begin = Instant::now();
        home.run(&[words, &["-r", &address, "list"]].concat()).says(1, "within the time limit");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    };

    patient(&["--timeout", "1"], &home);
    patient(&["--config", "c.toml"], &home);
    home.set("ICECORE_TIMEOUT", "1");
    patient(&[], &home);
    patient(&["--connect-timeout", "1"], &home);

    home.set("ICECORE_TIMEOUT", "soon");
    home.run(&["list"]).says(2, "ICECORE_TIMEOUT: \"soon\" is no time limit");
    home.run(&["--connect-timeout", "0", "list"]).says(2, "is no time limit");
    home.write("bad.toml", b"[repository]\n\nconnect-timeout = 0\n");
    home.run(&["--config", "bad.toml", "list"]).says(2, "bad.toml:3");
}

#[test]
fn the_line_to_a_source_and_to_a_target_is_bounded_too() {
    let mut home = Home::new();
    for number in 0..5_u64 {
        home.write(&format!("data/file-{number}"), &noise(100_000, number));
    }
    fs::create_dir(home.path("up")).unwrap();
    home.set("ICECORE_SERVE_PASSWORD", "s3cret pw");
    home.set("ICECORE_FTP_PASSWORD", "s3cret pw");
    let serve = |folder: &str| {
        let words = ["serve-ftp", folder, "--listen", "127.0.0.1:0"];
        let running = Running::new(&home, &words);
        let port = running.port();
        (running, format!("ftp://icecore@127.0.0.1:{port}"))
    };
    let (from, source) = serve("data");
    let (to, up) = serve("up");
    let target = format!("{up}/restored");
    let timed = |words: &[&str]| {
        let begin = Instant::now();
        home.done(words);
        begin.elapsed()
    };

    // The last of five waits for the four before it.
    let down = timed(&["--limit-download", "1M/s", "backup", &source, "--dataset", "d"]);
    let sent = timed(&["--limit-upload", "1M/s", "restore", "d", &target]);

    assert!(down.as_millis() > 350 && sent.as_millis() > 350, "{down:?} {sent:?}");
    assert_eq!(fs::read(home.path("up/restored/file-3")).unwrap(), noise(100_000, 3));
    for running in [from, to] {
        assert_eq!(running.stop("-TERM").code, 0);
    }
}

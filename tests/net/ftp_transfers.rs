//! What an FTP server says of transfers: refusals that come early or late, and of a file that was
//! written its size, mode and time.

use crate::fake::Answer;
use crate::fake::Disk;
use crate::fake::Fake;
use crate::fake::Then;
use crate::fake::honest;
use crate::fake::say;
use crate::files_contract::get;
use crate::files_contract::put;
use crate::ftp_hostile::PATIENT;
use icecore::base::error::ErrorKind;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::files::Files;
use icecore::net::files::Marks;
use icecore::net::files::Proof;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

#[test]
fn a_refusal_is_heard_though_the_connection_for_content_stands() {
    let script = |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "STOR" | "RETR" => say("550 No such file or directory"),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let begun = Instant::now();
    for bytes in [0, 10, 100_000, 3_000_000] {
        let error = put(&mut *session, b"/nothing/new", &vec![1; bytes]).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{bytes}: {error:?}");
        let error = get(&mut *session, b"/nothing/new").expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{bytes}: {error:?}");
        // Left before anybody has heard of it.
        session.create(b"/nothing/new").expect("nothing is heard yet");
        session.keep_alive().expect("the session goes on");
        assert_eq!(session.look_at(b"/nothing").expect("looked at"), None);
    }
    assert!(begun.elapsed() < PATIENT, "nobody waits for silence: {:?}", begun.elapsed());
}

/// The lines that a server was told.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server whose new files have a mode, which MLST tells, and that sets modes by word only.
fn with_modes(
    mode_of: fn(&[u8]) -> &'static str,
) -> (Heard, impl Fn(&str, &[u8], &Disk) -> Answer) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    let script = move |asked: &str, argument: &[u8], disk: &Disk| {
        let line = format!("{asked} {}", String::from_utf8_lossy(argument));
        hears.lock().expect("whole").push(line);
        let disk_has = |disk: &Disk| disk.lock().expect("whole").get(argument).map(Vec::len);
        match asked {
            "FEAT" => say("211-Features\r\n MLST size*;UNIX.mode*;\r\n MFMT\r\n SIZE\r\n211 End"),
            "SITE" => say("200 fine"),
            "MFMT" => say("213 fine"),
            "MLST" => match disk_has(disk) {
                Some(size) => {
                    let mode = mode_of(argument);
                    let facts = format!("type=file;size={size};UNIX.mode={mode};");
                    say(&format!("250-there\r\n {facts} it\r\n250 end"))
                }
                None => say("550 No such file or directory"),
            },
            _ => honest(asked, argument, disk),
        }
    };
    (heard, script)
}

/// Writes a file, and returns what the server was told when its content was there, and whether it
/// has shown that it has all of it.
fn said_until(
    session: &mut dyn Files,
    heard: &Heard,
    (path, mode): (&[u8], u32),
    proof: Proof,
) -> (Vec<String>, bool) {
    session.create(path).expect("created");
    session.write(b"content").expect("written");
    heard.lock().expect("whole").clear();
    let time = Timestamp::new(1_000_000_000, 0);
    let marked = session.finish_with(path, Marks { mode, time }, proof).expect("finished");
    assert!(marked.mode.is_ok() && marked.time.is_ok(), "{marked:?}");
    let mut lines = std::mem::take(&mut *heard.lock().expect("whole"));
    lines.retain(|line| !line.starts_with("STOR"));
    (lines, marked.is_proven)
}

fn said_to_finish(session: &mut dyn Files, heard: &Heard, path: &[u8], mode: u32) -> Vec<String> {
    let (lines, is_proven) = said_until(session, heard, (path, mode), Proof::Now);
    assert!(is_proven);
    lines
}

#[test]
fn a_proof_that_may_come_later_is_given_where_it_costs_no_question() {
    let (heard, script) = with_modes(|_| "0644");
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let mut said =
        |path: &[u8], mode: u32| said_until(&mut *session, &heard, (path, mode), Proof::Later);
    let look = ["MFMT 20010909014640 /1", "MLST /1"].map(str::to_owned);
    assert_eq!(said(b"/1", 0o644), (look.to_vec(), true), "the mode is asked for");
    assert_eq!(said(b"/2", 0o644), (vec!["MFMT 20010909014640 /2".to_owned()], false));
    let chmod = ["SITE CHMOD 750 /3", "MFMT 20010909014640 /3"].map(str::to_owned);
    assert_eq!(said(b"/3", 0o750), (chmod.to_vec(), false));
}

#[test]
fn a_mode_is_asked_for_where_a_new_file_has_another() {
    let (heard, script) = with_modes(|path| if path == b"/odd/1" { "0600" } else { "0644" });
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let mut said = |path: &[u8], mode: u32| said_to_finish(&mut *session, &heard, path, mode);
    let look = ["MFMT 20010909014640 /1", "MLST /1"];
    assert_eq!(said(b"/1", 0o644), look, "the first in a folder");
    assert_eq!(said(b"/2", 0o644), ["MFMT 20010909014640 /2", "SIZE /2"]);
    let chmod = "SITE CHMOD 750 /3";
    assert_eq!(said(b"/3", 0o750), [chmod, "MFMT 20010909014640 /3", "SIZE /3"]);
    assert_eq!(said(b"/4", 0o644), ["MFMT 20010909014640 /4", "SIZE /4"]);
    let chmod = "SITE CHMOD 644 /odd/1";
    let look = ["MFMT 20010909014640 /odd/1", "MLST /odd/1", chmod];
    assert_eq!(said(b"/odd/1", 0o644), look, "another folder has other ways");
}

#[test]
fn without_mlst_the_mode_of_a_new_file_is_seen_in_its_status() {
    for tells in [true, false] {
        let heard = Heard::default();
        let hears = Arc::clone(&heard);
        let script = move |asked: &str, argument: &[u8], disk: &Disk| {
            let line = format!("{asked} {}", String::from_utf8_lossy(argument));
            hears.lock().expect("whole").push(line);
            match asked {
                "FEAT" => say("211-Features\r\n MFMT\r\n SIZE\r\n211 End"),
                "SITE" => say("200 fine"),
                "MFMT" => say("213 fine"),
                "STAT" if tells => {
                    let row = "-rw-r--r--    1 0        0               7 Nov 21 10:00 /x";
                    say(&format!("213-Status follows:\r\n{row}\r\n213 End"))
                }
                "STAT" => say("211 all is well with me"),
                _ => honest(asked, argument, disk),
            }
        };
        let fake = Fake::start(script, Then::HangUp);
        let mut session = fake.client(PATIENT).connect().expect("a session");
        let mut said = |path: &[u8], mode: u32| said_to_finish(&mut *session, &heard, path, mode);
        let first = ["MFMT 20010909014640 /1", "STAT /1", "SIZE /1"];
        if tells {
            assert_eq!(said(b"/1", 0o644), first);
            assert_eq!(said(b"/2", 0o644), ["MFMT 20010909014640 /2", "SIZE /2"]);
            let chmod = "SITE CHMOD 600 /3";
            assert_eq!(said(b"/3", 0o600), [chmod, "MFMT 20010909014640 /3", "SIZE /3"]);
        } else {
            let chmod = "SITE CHMOD 644 /1".to_owned();
            assert_eq!(said(b"/1", 0o644), [&first.map(str::to_owned)[..], &[chmod]].concat());
            let chmod = "SITE CHMOD 644 /2";
            assert_eq!(said(b"/2", 0o644), [chmod, "MFMT 20010909014640 /2", "SIZE /2"]);
        }
    }
}

#[test]
fn a_file_that_came_in_part_is_not_finished() {
    let (_, script) = with_modes(|_| "0644");
    let short = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "MLST" => say("250-there\r\n type=file;size=3;UNIX.mode=0644; it\r\n250 end"),
        _ => script(asked, argument, disk),
    };
    let fake = Fake::start(short, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    session.create(b"/new").expect("created");
    session.write(b"content").expect("written");
    let marks = Marks { mode: 0o644, time: Timestamp::new(1, 0) };
    let error = session.finish_with(b"/new", marks, Proof::Now).expect_err("in part");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[test]
fn a_refusal_counts_though_its_port_is_closed_before_it_is_heard() {
    let script = |asked: &str, argument: &[u8], disk: &Disk| match asked {
        // Nobody listens at the first port there is.
        "EPSV" => say("229 Entering Extended Passive Mode (|||1|)"),
        "STOR" | "RETR" => say("550 No such file or directory"),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    for _ in 0..2 {
        let refused = session.create(b"/nothing/new").expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused:?}");
    }
    session.keep_alive().expect("the session goes on");
}

#[test]
fn a_port_that_nobody_listens_at_ends_the_session() {
    for then in ["150 go on", "425 no data connection"] {
        let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
            "EPSV" => say("229 Entering Extended Passive Mode (|||1|)"),
            "STOR" => say(then),
            _ => honest(asked, argument, disk),
        };
        let fake = Fake::start(script, Then::HangUp);
        let mut session = fake.client(PATIENT).connect().expect("a session");
        let refused = session.create(b"/new").expect_err("no connection");
        assert_eq!(refused.kind(), ErrorKind::Unreachable, "{then}: {refused:?}");
        session.keep_alive().expect_err("out of step");
    }
}

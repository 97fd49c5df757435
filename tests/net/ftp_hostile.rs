//! FTP servers that break off, hang, lie, or send what nobody should.

use crate::fake::Answer;
use crate::fake::Disk;
use crate::fake::Fake;
use crate::fake::Then;
use crate::fake::honest;
use crate::fake::say;
use crate::files_contract::get;
use crate::files_contract::list;
use crate::files_contract::put;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::secret::Secret;
use icecore::net::files::Connect;
use icecore::net::files::Found;
use icecore::net::files::Precision;
use icecore::net::ftp::Options;
use icecore::net::ftp::Security;
use icecore::net::ftp::Server;
use icecore::net::tls::Roots;
use std::time::Duration;
use std::time::Instant;

pub(crate) const PATIENT: Duration = Duration::from_secs(20);
const HASTY: Duration = Duration::from_millis(60);

/// Does a bit of everything, and makes sure of what comes out.
fn errand(server: &Server) -> Result<(), Error> {
    let mut session = server.connect()?;
    let names: Vec<Vec<u8>> =
        list(&mut *session, b"/")?.into_iter().map(|found| found.name).collect();
    assert_eq!(names, [&b"a"[..], b"b"], "a listing is whole or an error");
    let size = session.look_at(b"/a")?.expect("it is there").size;
    assert_eq!(size, Some(300));
    assert_eq!(session.look_at(b"/nothing")?, None);
    assert_eq!(get(&mut *session, b"/a")?, [7; 300], "a file is whole or an error");
    put(&mut *session, b"/new", b"content")?;
    session.remove(b"/new")?;
    session.keep_alive()
}

fn furnished(then: Then) -> Fake {
    let fake = Fake::start(honest, then);
    let mut disk = fake.disk.lock().expect("whole");
    disk.insert(b"/a".to_vec(), vec![7; 300]);
    disk.insert(b"/b".to_vec(), Vec::new());
    drop(disk);
    fake
}

/// How many bytes an honest server says during an errand.
fn bytes_of_an_errand() -> usize {
    let fake = furnished(Then::HangUp);
    fake.allow(1_000_000);
    errand(&fake.client(PATIENT)).expect("nothing is in the way");
    1_000_000 - fake.left()
}

#[test]
fn a_server_that_hangs_up_at_any_byte_is_noticed() {
    let all = bytes_of_an_errand();
    assert!(all > 700, "{all}");
    for bytes in 0..all {
        let fake = furnished(Then::HangUp);
        fake.allow(bytes);
        let error = errand(&fake.client(PATIENT)).expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "after {bytes} of {all}: {error:?}");
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let all = bytes_of_an_errand();
    let begun = Instant::now();
    for bytes in (0..all).step_by(all / 24) {
        let fake = furnished(Then::Silence);
        fake.allow(bytes);
        let error = errand(&fake.client(HASTY)).expect_err("silent");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "after {bytes}: {error:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
}

#[test]
fn a_session_that_broke_stays_broken() {
    let fake = furnished(Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    fake.allow(3);
    assert_eq!(session.look_at(b"/a").expect_err("cut").kind(), ErrorKind::Unreachable);
    fake.allow(1_000_000);
    assert_eq!(session.look_at(b"/a").expect_err("over").kind(), ErrorKind::Unreachable);
    assert_eq!(session.keep_alive().expect_err("over").kind(), ErrorKind::Unreachable);
}

/// Runs an errand with a server that gives another answer to one command.
fn with(verb: &'static str, answer: fn(&[u8], &Disk) -> Answer) -> Result<(), Error> {
    let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked == verb {
        true => answer(argument, disk),
        false => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut disk = fake.disk.lock().expect("whole");
    disk.insert(b"/a".to_vec(), vec![7; 300]);
    disk.insert(b"/b".to_vec(), Vec::new());
    drop(disk);
    errand(&fake.client(HASTY))
}

fn listed(lines: &'static [u8], last: &'static str) -> Result<(), Error> {
    let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "MLSD" => Answer::Send(lines.to_vec(), last),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let listed = list(&mut *session, b"/");
    if listed.as_ref().is_err_and(|e| e.kind() != ErrorKind::Unreachable) {
        session.keep_alive().expect("the session goes on");
    }
    listed.map(|_| ())
}

#[test]
fn listings_that_cannot_be_trusted_are_refused() {
    let fine = b"type=file; a\r\ntype=dir; b\r\n";
    listed(fine, "226 done").expect("fine");
    for (lines, last, kind) in [
        (&b"type=file; ../../etc/passwd\r\n"[..], "226 done", ErrorKind::Corrupt),
        (b"type=dir; ..\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=dir; .\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=dir; /\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=dir; \r\n", "226 done", ErrorKind::Corrupt),
        (b"type=file; a\0b\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=file; a\r\ntype=file; a\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=file; a\r\nb\r\n", "226 done", ErrorKind::Corrupt),
        (b"type=file; a\r\ntype=file; b", "226 done", ErrorKind::Unreachable),
        (b"\xff\xfe\x00\r\n", "226 done", ErrorKind::Corrupt),
        (fine, "226-x\r\n226 Output truncated to 2 matches", ErrorKind::Unsupported),
        (fine, "226-Options: -a\r\n226 3 matches total", ErrorKind::Unsupported),
        (fine, "426 broken off", ErrorKind::Unreachable),
        (fine, "451 local error", ErrorKind::Io),
        (fine, "550 Permission denied", ErrorKind::Denied),
        (fine, "150 still at it", ErrorKind::Io),
        (fine, "nonsense", ErrorKind::Unreachable),
        (fine, "421 Timeout", ErrorKind::Unreachable),
    ] {
        let error = listed(lines, last).expect_err(last);
        assert_eq!(error.kind(), kind, "{last}: {error:?}");
    }
    listed(fine, "226-Options: -a\r\n226 2 matches total").expect("fine");
}

/// Lists the root of a server that knows no MLSD, by what it answers to LIST.
fn listed_by_list(answer: fn(&[u8]) -> Answer, mdtm: &'static str) -> Result<Vec<Found>, Error> {
    let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "FEAT" => say("211-Features\r\n MDTM\r\n SIZE\r\n211 End"),
        "MLSD" | "MLST" => say("500 what?"),
        "LIST" => answer(argument),
        "MDTM" => say(mdtm),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let found = list(&mut *session, b"/");
    session.keep_alive().expect("the session goes on");
    found
}

/// A folder that may not be entered was an empty one where its name says "no files".
#[test]
fn a_folder_without_files_is_told_from_one_that_is_called_so() {
    let folder = b"/no files yet";
    for (entered, listed, is_empty) in [
        ("550 No files yet: I do not let you in", "", false),
        ("550 Can't change directory to /no files yet: Permission denied", "", false),
        ("250 there", "550 /no files yet: Permission denied", false),
        ("250 there", "550 no files yet: Permission denied", false),
        ("250 there", "450 No files found", true),
        ("250 there", "550 No files found.", true),
    ] {
        let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
            "CWD" => say(entered),
            "MLSD" => say(listed),
            _ => honest(asked, argument, disk),
        };
        let fake = Fake::start(script, Then::HangUp);
        let mut session = fake.client(PATIENT).connect().expect("a session");
        match list(&mut *session, folder) {
            Ok(found) => assert!(is_empty && found.is_empty(), "{entered} {listed}"),
            Err(e) => assert!(!is_empty, "{entered} {listed}: {e:?}"),
        }
    }
}

#[test]
fn times_of_a_listing_in_another_zone_are_of_no_use() {
    let rows = |_: &[u8]| {
        let rows = b"total 3\r\n-rw-r--r-- 1 1 1 3 2023-11-14 22:13 a\r\n";
        Answer::Send(rows.to_vec(), "226 done")
    };
    for (mdtm, precision) in [
        ("213 20231114221357", Precision::Minute),
        ("213 20231114164357", Precision::Vague),
        ("550 what?", Precision::Vague),
    ] {
        let found = listed_by_list(rows, mdtm).expect(mdtm);
        assert_eq!(found.len(), 1);
        let modified = found[0].look.modified.expect("told");
        assert_eq!(modified.precision, precision, "{mdtm}");
    }
}

#[test]
fn a_server_that_takes_an_option_for_a_name_is_understood() {
    fn row(argument: &[u8], otherwise: Answer) -> Answer {
        match argument {
            b"-a" => otherwise,
            _ => Answer::Send(b"-rw-r--r-- 1 1 1 3 Nov 14 2023 a\r\n".to_vec(), "226 done"),
        }
    }
    for answer in [
        (|argument| row(argument, say("550 No such file or directory."))) as fn(&[u8]) -> Answer,
        |argument| row(argument, say("501 what?")),
        |argument| row(argument, Answer::Send(Vec::new(), "226 done")),
    ] {
        let found = listed_by_list(answer, "550 no").expect("listed");
        assert_eq!(found.len(), 1);
    }
    let odd = |_: &[u8]| Answer::Send(b"what is this\r\n".to_vec(), "226 done");
    assert_eq!(listed_by_list(odd, "550 no").expect_err("odd").kind(), ErrorKind::Corrupt);
}

#[test]
fn endless_lines_and_replies_end() {
    fn line() -> Answer {
        Answer::Say([b"220-", &vec![b'x'; 4 << 20][..]].concat())
    }
    fn lines() -> Answer {
        Answer::Say([b"220-x\r\n", &b"more\r\n".repeat(1 << 20)[..]].concat())
    }
    for (verb, answer) in [
        ("", (|_, _| line()) as fn(&[u8], &Disk) -> Answer),
        ("", |_, _| lines()),
        ("FEAT", |_, _| line()),
        ("PASS", |_, _| lines()),
        ("MLST", |_, _| lines()),
    ] {
        let error = with(verb, answer).expect_err("endless");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{verb}: {error:?}");
    }
    let error = with("MLSD", |_, _| Answer::Send(vec![b'x'; 4 << 20], "226 done"));
    assert_eq!(error.expect_err("endless").kind(), ErrorKind::Corrupt);
}

#[test]
fn garbage_is_an_error_at_any_command() {
    for verb in [
        "", "USER", "PASS", "FEAT", "TYPE", "PWD", "CWD", "EPSV", "MLSD", "MLST", "SIZE", "RETR",
        "STOR", "DELE", "NOOP",
    ] {
        for garbage in
            ["", "\r\n", "2", "999 x\r\n", "\x00\x01\x02\r\n", "HTTP/1.1 400\r\n", "220-\r\n"]
        {
            let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked == verb {
                true => Answer::Say(garbage.as_bytes().to_vec()),
                false => honest(asked, argument, disk),
            };
            let fake = Fake::start(script, Then::HangUp);
            fake.disk.lock().expect("whole").insert(b"/a".to_vec(), vec![7; 300]);
            fake.disk.lock().expect("whole").insert(b"/b".to_vec(), Vec::new());
            let error = errand(&fake.client(HASTY)).expect_err("garbage");
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{verb} {garbage:?}: {error:?}");
        }
    }
}

#[test]
fn sizes_that_are_wrong_are_noticed() {
    let more = with("SIZE", |_, _| say("213 301")).expect_err("the file is shorter");
    assert_eq!(more.kind(), ErrorKind::Unreachable);
    let lost = with("STOR", |_, _| Answer::Take(b"/elsewhere".to_vec(), "226 done"));
    assert_eq!(lost.expect_err("it is not there").kind(), ErrorKind::Io);
    let odd = with("SIZE", |argument, disk| match argument {
        b"/new" => say("213 6"),
        other => honest("SIZE", other, disk),
    });
    assert_eq!(odd.expect_err("a byte is missing").kind(), ErrorKind::Unreachable);
    let long = with("SIZE", |argument, disk| match argument {
        b"/new" => say("213 8000"),
        other => honest("SIZE", other, disk),
    });
    assert_eq!(long.expect_err("there is more than was sent").kind(), ErrorKind::Io);
}

#[test]
fn a_full_disk_is_full() {
    for last in ["452 no space", "552 over quota", "451 No space left on device"] {
        let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
            "STOR" => Answer::Refuse(last),
            _ => honest(asked, argument, disk),
        };
        let fake = Fake::start(script, Then::HangUp);
        let mut session = fake.client(PATIENT).connect().expect("a session");
        for bytes in [5, 20_000_000] {
            let error = put(&mut *session, b"/new", &vec![1; bytes]).expect_err("full");
            assert_eq!(error.kind(), ErrorKind::Full, "{last}, {bytes} bytes: {error:?}");
            session.keep_alive().expect("the session goes on");
        }
    }
}

#[test]
fn a_server_behind_a_router_is_reached_all_the_same() {
    let script = |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "EPSV" => say("500 what?"),
        "PASV" => Answer::Port("227 Entering Passive Mode (10,11,12,13,P1,P2)."),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    fake.disk.lock().expect("whole").insert(b"/a".to_vec(), vec![7; 300]);
    fake.disk.lock().expect("whole").insert(b"/b".to_vec(), Vec::new());
    errand(&fake.client(PATIENT)).expect("the address is not looked at");
    for answer in ["227 no", "227 (1,2,3,4,5)", "227 (1,2,3,4,0,0)", "500 what?"] {
        let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
            "EPSV" => say("229 Entering (|||x|)"),
            "PASV" => say(answer),
            _ => honest(asked, argument, disk),
        };
        let fake = Fake::start(script, Then::HangUp);
        let error = errand(&fake.client(HASTY)).expect_err("no port");
        assert_ne!(error.kind(), ErrorKind::Bug, "{answer}: {error:?}");
    }
}

#[test]
fn a_download_that_is_left_is_ended_as_pure_ftpd_does() {
    let script = |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "RETR" => Answer::Send(vec![7; 1000], "150 0.002 seconds (measured here)"),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    fake.disk.lock().expect("whole").insert(b"/a".to_vec(), vec![7; 1000]);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    session.open(b"/a", 0).expect("open");
    session.read_at(0, &mut [0; 10]).expect("read");
    assert!(session.look_at(b"/a").expect("in step").is_some());
    // Read to its end, such a word is none that confirms it.
    get(&mut *session, b"/a").expect_err("not confirmed");
}

#[test]
fn the_password_is_not_repeated() {
    let error = with("PASS", |_, _| say("530 hunter2 is wrong")).expect_err("wrong");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!error.full_message().contains("hunter2"), "{}", error.full_message());
}

#[test]
fn a_server_with_too_many_guests_asks_to_wait() {
    for (verb, answer) in [
        ("", (|_, _| say("421 Too many connections")) as fn(&[u8], &Disk) -> Answer),
        ("USER", |_, _| say("421 Service not available")),
        ("PASS", |_, _| say("530 Sorry, the maximum number of clients (3) are connected")),
    ] {
        let error = with(verb, answer).expect_err("full house");
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{verb}: {error:?}");
    }
}

fn secured(script: fn(&str, &[u8], &Disk) -> Answer) -> Error {
    let fake = Fake::start(script, Then::HangUp);
    let mut options = Options::new("127.0.0.1", fake.address.port(), true);
    options.user = Some("me".to_owned());
    options.password = Some(Secret::new(b"hunter2".to_vec()));
    options.roots = Roots::default();
    options.limits.silence = HASTY;
    assert_eq!(options.security, Security::Explicit);
    Server::new(options).expect("good options").connect().err().expect("no TLS")
}

#[test]
fn nothing_is_said_without_tls_where_tls_is_asked_for() {
    let refused = secured(|verb, argument, disk| match verb {
        "" | "AUTH" => honest(verb, argument, disk),
        _ => panic!("{verb} was said in the clear"),
    });
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let injected = secured(|verb, argument, disk| match verb {
        "AUTH" => say("234 go on\r\n230 logged in already"),
        _ => honest(verb, argument, disk),
    });
    assert_eq!(injected.kind(), ErrorKind::Unreachable);
    let garbled = secured(|verb, argument, disk| match verb {
        "AUTH" => say("234 go on"),
        _ => honest(verb, argument, disk),
    });
    assert_eq!(garbled.kind(), ErrorKind::Unreachable);
}

/// Expects that nothing is done to these names, whatever is wanted of them.
fn refuses_all(bad: &[&[u8]]) {
    let fake = furnished(Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    for bad in bad {
        for error in [
            session.look_at(bad).expect_err("refused"),
            session.open(bad, 0).expect_err("refused"),
            session.create(bad).expect_err("refused"),
            session.rename(b"/a", bad).expect_err("refused"),
            session.rename(bad, b"/c").expect_err("refused"),
            session.remove(bad).expect_err("refused"),
            session.make_folder(bad).expect_err("refused"),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
    }
    assert_eq!(get(&mut *session, b"/a").expect("untouched"), [7; 300]);
}

#[test]
fn names_that_end_a_command_are_refused() {
    refuses_all(&[b"/x\r\nDELE /a", b"/x\n", b"/x\ry", b"/x\0y"]);
}

/// Says a name with 0xFF to a server that answers so to the questions how it hears that, and
/// returns under which names it then has something.
fn told_of_0xff(size: &'static [u8], stat: &'static str) -> (Result<(), Error>, Vec<Vec<u8>>) {
    let script = move |asked: &str, argument: &[u8], disk: &Disk| match asked {
        "SIZE" if argument.starts_with(b"/icecore-") => Answer::Say([size, b"\r\n"].concat()),
        "STAT" => say(stat),
        _ => honest(asked, argument, disk),
    };
    let fake = Fake::start(script, Then::HangUp);
    let mut session = fake.client(PATIENT).connect().expect("a session");
    let stored = put(&mut *session, b"/n\xff\xff", b"content");
    session.keep_alive().expect("the session goes on");
    let names = fake.disk.lock().expect("whole").keys().cloned().collect();
    (stored, names)
}

#[test]
fn a_name_with_0xff_is_said_as_the_server_hears_it() {
    let vsftpd = "211-FTP server status:\r\n     vsFTPd 3.0.3 - secure, fast, stable\r\n211 End";
    for (size, stat) in [
        (&b"550 /icecore-\xff\xff-probe: No such file or directory"[..], "500 what?"),
        (b"550 Could not get file size.", vsftpd),
        (b"550 Can't check for file existence", "211 https://www.pureftpd.org/"),
    ] {
        let (stored, names) = told_of_0xff(size, stat);
        stored.expect(stat);
        assert_eq!(names, [b"/n\xff\xff"], "{stat}");
    }
    let telnet = b"550 /icecore-\xff-probe: No such file or directory";
    assert_eq!(told_of_0xff(telnet, "500 what?").1, [b"/n\xff\xff\xff\xff"]);
}

#[test]
fn a_name_with_0xff_is_not_said_where_nobody_knows_how_it_is_heard() {
    for stat in ["500 what?", "211 All is well"] {
        let (stored, names) = told_of_0xff(b"550 No such file or directory", stat);
        assert_eq!(stored.expect_err(stat).kind(), ErrorKind::InvalidInput);
        assert!(names.is_empty(), "{stat}: {names:?}");
    }
    refuses_all(&[b"/a\xff", b"/\xffa", b"/a\xff\xff", b"/a\xff\xfbb"]);
}

//! SFTP sessions with servers made up here: well-behaved, slow to tell all, lying and hostile.

use crate::sftp_fake::ATTRIBUTES;
use crate::sftp_fake::Asked;
use crate::sftp_fake::DATA;
use crate::sftp_fake::EXTENDED;
use crate::sftp_fake::HANDLE;
use crate::sftp_fake::NAMES;
use crate::sftp_fake::STATUS;
use crate::sftp_fake::cut_session;
use crate::sftp_fake::of_file;
use crate::sftp_fake::session;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::time::Timestamp;
use icecore::net::files::Files;
use proptest::prelude::Just;
use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::proptest;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

fn made_up(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn read_all(files: &mut dyn Files, step: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; step];
    loop {
        let length = files.read_at(all.len() as u64, &mut buffer)?;
        all.extend_from_slice(&buffer[..length]);
        if length < step {
            return Ok(all);
        }
    }
}

#[test]
fn a_small_file_costs_two_round_trips_to_read_and_two_to_write() {
    let content = made_up(5000);
    let expected = content.clone();
    let (mut files, rounds) = session(&["fsync@openssh.com"], move |it| of_file(&content, it));
    let since = |rounds: &AtomicUsize| rounds.swap(0, Ordering::Relaxed);
    since(&rounds);

    files.open(b"a", 0).expect("opens");
    assert_eq!(read_all(&mut *files, 65_536).expect("reads"), expected);
    files.close().expect("closes");
    assert_eq!(since(&rounds), 2);

    files.create(b"a").expect("creates");
    files.write(&expected).expect("writes");
    files.finish().expect("finishes");
    // The close of the file that was read rides along.
    assert_eq!(since(&rounds), 2);
}

#[test]
fn a_folder_costs_two_round_trips() {
    let mut shown = 0;
    let (mut files, rounds) = session(&[], move |it| match it.code {
        11 => it.handle(),
        12 => {
            shown += 1;
            if shown == 1 { it.names(&[b".", b"..", b"a\xff", b"\n"]) } else { it.status(1) }
        }
        _ => it.status(0),
    });
    rounds.store(0, Ordering::Relaxed);

    let mut names = Vec::new();
    files
        .list(b"", &mut |found| {
            names.push(found.name);
            Ok(())
        })
        .expect("lists");

    assert_eq!(names, [&b"a\xff"[..], b"\n"]);
    assert_eq!(rounds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_large_file_is_asked_for_ahead() {
    let content = made_up(20 << 20);
    let expected = content.clone();
    let (mut files, rounds) = session(&[], move |it| of_file(&content, it));
    rounds.store(0, Ordering::Relaxed);

    files.open(b"a", 0).expect("opens");
    let all = read_all(&mut *files, 1 << 20).expect("reads");

    assert!(all == expected);
    let rounds = rounds.load(Ordering::Relaxed);
    assert!(rounds < 40, "{rounds} round trips for 640 pieces");
}

#[test]
fn reading_here_and_there_asks_for_nothing_in_vain() {
    let content = made_up(10 << 20);
    let expected = content.clone();
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    let (mut files, _) = session(&[], move |it| {
        let answer = of_file(&content, it);
        counted.fetch_add(answer.len(), Ordering::Relaxed);
        answer
    });

    files.open(b"a", 5_000_000).expect("opens");
    for at in [5_000_000_usize, 17, 9_000_000, 300_000] {
        let mut buffer = vec![0; 100_000];
        let length = files.read_at(at as u64, &mut buffer).expect("reads");
        assert!(buffer[..length] == expected[at..at + 100_000]);
    }

    let given = given.load(Ordering::Relaxed);
    assert!(given < 402_000, "{given} bytes for 400000");
}

#[test]
fn short_answers_and_any_order_are_put_together() {
    let content = made_up(700_000);
    let expected = content.clone();
    let (mut files, _) = session(&[], move |it| match it.code {
        5 => {
            let (offset, length) = it.stretch();
            let rest = &content[(offset as usize).min(content.len())..];
            match rest.len().min(length).min(10_007) {
                0 => it.status(1),
                length => it.data(&rest[..length]),
            }
        }
        _ => of_file(&content, it),
    });
    files.open(b"a", 0).expect("opens");
    assert!(read_all(&mut *files, 123_457).expect("reads") == expected);
}

#[test]
fn a_size_that_lies_loses_nothing() {
    for told in [0, 1, 4_999, 5_001, 400_000, u64::MAX] {
        let content = made_up(300_000);
        let expected = content.clone();
        let (mut files, _) = session(&[], move |it| match it.code {
            8 => it.file(told),
            _ => of_file(&content, it),
        });
        files.open(b"a", 0).expect("opens");
        // One read that wants all at once: whoever reads on gets what was told, or more.
        let mut buffer = vec![0; 400_000];
        let length = files.read_at(0, &mut buffer).expect("reads");
        assert!(buffer[..length] == expected, "told {told}, got {length}");
    }
}

#[test]
fn more_than_was_asked_for_is_refused() {
    let (mut files, _) = session(&[], |it| match it.code {
        5 => it.data(&[0; 5000]),
        _ => of_file(b"", it),
    });
    files.open(b"a", 0).expect("opens");
    let error = files.read_at(0, &mut [0; 100]).expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_session() {
    let (mut files, _) = session(&[], |it| {
        Asked { code: it.code, number: it.number + 1, body: Vec::new() }.status(0)
    });
    let error = files.make_folder(b"a").expect_err("another's answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let error = files.make_folder(b"a").expect_err("it is over");
    assert!(error.full_message().contains("broke before"), "{error:?}");
}

#[test]
fn silence_ends_the_session() {
    let (mut files, _) = session(&[], |_| Vec::new());
    let error = files.look_at(b"a").expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.full_message().contains("sftp://fake"), "{error:?}");
}

#[test]
fn names_that_are_none_are_refused() {
    for name in [&b""[..], b"a/b", b"/", b"../x", b"a\0"] {
        let (mut files, _) = session(&[], move |it| match it.code {
            11 => it.handle(),
            _ => it.names(&[b"good", name]),
        });
        let error = files.list(b"/", &mut |_| Ok(())).expect_err("a bad name");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
}

#[test]
fn a_visitor_can_end_a_listing() {
    let (mut files, _) = session(&[], |it| match it.code {
        11 => it.handle(),
        12 => it.names(&[b"again"]),
        _ => it.status(0),
    });
    let error = files.list(b"/", &mut |_| Err(Error::cancelled()));
    assert_eq!(error.expect_err("ended").kind(), ErrorKind::Cancelled);
    files.keep_alive().expect("the session goes on");
}

#[test]
fn a_listing_that_breaks_off_is_an_error() {
    let mut shown = 0;
    let (mut files, _) = session(&[], move |it| match it.code {
        11 => it.handle(),
        12 => {
            shown += 1;
            if shown == 1 { it.names(&[b"a"]) } else { it.status(4) }
        }
        _ => it.status(0),
    });
    let error = files.list(b"/", &mut |_| Ok(())).expect_err("not all");
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_failed_write_is_told_at_the_latest_at_the_end() {
    for room in [0_u64, 1 << 30] {
        let (mut files, _) = session(&["statvfs@openssh.com"], move |it| match it.code {
            6 => it.status(4),
            200 => {
                let numbers = [4096, 4096, 9, 9, room, 9, 9, 9, 0, 0, 255];
                let body: Vec<u8> = numbers.iter().flat_map(|it: &u64| it.to_be_bytes()).collect();
                it.answer(EXTENDED, &body)
            }
            _ => of_file(b"", it),
        });
        files.create(b"a").expect("creates");
        let done = files.write(b"something").and_then(|()| files.finish());
        let error = done.expect_err("not written");
        let kind = if room == 0 { ErrorKind::Full } else { ErrorKind::Io };
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.full_message().contains("write a on sftp://fake"), "{error:?}");
        files.keep_alive().expect("the session goes on");
    }
}

#[test]
fn a_file_of_another_size_is_not_finished() {
    let (mut files, _) = session(&[], |it| of_file(b"1234", it));
    files.create(b"a").expect("creates");
    files.write(b"12345").expect("writes");
    let error = files.finish().expect_err("a byte is missing");
    assert!(error.full_message().contains("4 bytes there, 5 were sent"), "{error:?}");
}

#[test]
fn limits_that_are_told_are_kept_to() {
    for (told, pieces) in [(261_120_u64, 5), (0, 32), (1, 2048), (u64::MAX, 5)] {
        let longest = Arc::new(AtomicUsize::new(0));
        let writes = Arc::clone(&longest);
        let (mut files, _) = session(&["limits@openssh.com"], move |it| match it.code {
            200 => {
                let body: Vec<u8> = [told; 4].iter().flat_map(|it| it.to_be_bytes()).collect();
                it.answer(EXTENDED, &body)
            }
            6 => {
                writes.fetch_add(1, Ordering::Relaxed);
                it.status(0)
            }
            8 => it.file(1 << 20),
            _ => of_file(b"", it),
        });
        files.create(b"a").expect("creates");
        files.write(&vec![1; 1 << 20]).expect("writes");
        files.finish().expect("finishes");
        assert_eq!(longest.load(Ordering::Relaxed), pieces, "told {told}");
    }
}

#[test]
fn times_that_cannot_be_said_are_refused() {
    let (mut files, _) = session(&[], |it| it.status(0));
    for seconds in [-1, 1 << 32] {
        let error = files.set_time(b"a", Timestamp::new(seconds, 0)).expect_err("out of range");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    files.set_time(b"a", Timestamp::new((1 << 32) - 1, 0)).expect("in range");
}

/// Goes through all there is with one session.
fn go_through(files: &mut dyn Files) -> Result<()> {
    files.open(b"a", 0)?;
    read_all(files, 4096)?;
    files.close()?;
    files.list(b"f", &mut |_| Ok(()))?;
    files.look_at(b"a")?;
    files.create(b"a")?;
    files.write(&[7; 100])?;
    files.finish()?;
    files.remove(b"a")
}

#[test]
fn a_connection_that_ends_at_any_byte_is_an_error() {
    let content = made_up(9000);
    let run = |cut: usize| {
        let content = content.clone();
        let (mut lists, mut is_written) = (0, false);
        let answer = move |it: &Asked| match it.code {
            6 => {
                is_written = true;
                it.status(0)
            }
            8 if is_written => it.file(100),
            12 => {
                lists += 1;
                if lists == 1 { it.names(&[b"x", b"y"]) } else { it.status(1) }
            }
            13 => it.status(0),
            _ => of_file(&content, it),
        };
        cut_session(&[], cut, Arc::default(), answer).and_then(|mut files| go_through(&mut *files))
    };
    run(usize::MAX).expect("the whole of it works");
    let whole = (0..).step_by(64).find(|&cut| run(cut).is_ok()).expect("an end");
    for cut in (0..whole - 64).step_by(13).chain(0..200) {
        let error = run(cut).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "cut at {cut}: {error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_a_server_answers_is_no_panic(
        codes in proptest::collection::vec(
            prop_oneof![Just(STATUS), Just(HANDLE), Just(DATA), Just(NAMES), Just(ATTRIBUTES),
                Just(EXTENDED), any::<u8>()],
            1..12,
        ),
        bodies in proptest::collection::vec(proptest::collection::vec(0..6_u8, 0..60), 1..12),
    ) {
        let mut turn = 0;
        let answer = move |it: &Asked| {
            turn += 1;
            // Some sense, so that what comes later is reached.
            match (turn % 3, it.code) {
                (0, _) => it.answer(codes[turn % codes.len()], &bodies[turn % bodies.len()]),
                _ => of_file(&[1; 500], it),
            }
        };
        let files = cut_session(&["limits@openssh.com"], usize::MAX, Arc::default(), answer);
        if let Ok(mut files) = files {
            for _ in 0..4 {
                let _ = go_through(&mut *files);
                let _ = files.rename(b"a", b"b");
                let _ = files.make_folder(b"a");
                let _ = files.read_link(b"a");
            }
        }
    }
}

//! A store that answers anything: a client asks a server from a script, over real sockets.
//!
//! The first two bytes say which requests are made. The rest is answers with NUL bytes between
//! them, each to one request after the other; in one 0x01 stands for the length of what comes
//! behind its first empty line, and one that begins with 0x02 is followed by the end of the
//! connection. When there are no more the server hangs up.

use super::places::reach;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Result;
use icecore::base::secret::Secret;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::net::http;
use icecore::net::s3::client::Client;
use icecore::net::s3::client::Options;
use icecore::net::s3::listing::Depth;
use icecore::net::s3::listing::Row;
use icecore::net::s3::listing::VersionRow;
use icecore::net::s3::objects::Beside;
use icecore::net::s3::sign::Credentials;
use icecore::net::tcp::Limits;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "listed",
    "listed in pages",
    "listed deep",
    "versions",
    "uploads",
    "looked at",
    "not there",
    "read whole",
    "read a stretch",
    "opened",
    "read to its end",
    "stored",
    "stored as new",
    "taken already",
    "copied",
    "deleted",
    "tags",
    "a region",
    "keeps versions",
    "asked again",
];

const SECRET: &str = "wJalrXUtnFEMIK7MDENG";
const PREFIX: &str = "p/";
const BYTES_MAX: usize = 500;
const ANSWERS_MAX: usize = 40;

fn said(answer: &[u8]) -> Vec<u8> {
    let body = answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let length = (answer.len() - body).to_string();
    let mut out = Vec::new();
    for &byte in &answer[..body] {
        match byte {
            1 => out.extend_from_slice(length.as_bytes()),
            byte => out.push(byte),
        }
    }
    out.extend_from_slice(&answer[body..]);
    out
}

/// Hears a request to its end.
fn hears(reader: &mut BufReader<TcpStream>) -> std::io::Result<bool> {
    let mut length = 0;
    for number in 0.. {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_ascii_lowercase();
        assert!(number > 0 || line.ends_with(" http/1.1"), "no request: {line:?}");
        assert!(!line.contains(&SECRET.to_ascii_lowercase()), "the secret is sent: {line:?}");
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(true)
}

fn serve(listener: &TcpListener, script: &[u8], is_over: &AtomicBool) {
    let mut answers = script.split(|byte| *byte == 0).take(ANSWERS_MAX).filter(|it| !it.is_empty());
    while let Ok((mut stream, _)) = listener.accept() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(copy) = stream.try_clone() else { return };
        let mut reader = BufReader::new(copy);
        while hears(&mut reader).unwrap_or(false) {
            let Some(answer) = answers.next() else { break };
            let (is_last, answer) = match answer.strip_prefix(&[2]) {
                Some(rest) => (true, rest),
                None => (false, answer),
            };
            if stream.write_all(&said(answer)).is_err() || is_last {
                break;
            }
        }
    }
}

fn told(e: &Error) {
    assert_ne!(e.kind(), ErrorKind::Bug, "{}", e.full_message());
    let text = format!("{} {}", e.full_message(), e.hint_text().unwrap_or_default());
    assert!(!text.contains(SECRET), "a secret is told");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 8000, "{} bytes: {text}", text.len());
    reach("refused");
}

fn done<T>(result: Result<T>, place: &'static str) -> Option<T> {
    match result {
        Ok(value) => {
            reach(place);
            Some(value)
        }
        Err(e) => {
            told(&e);
            None
        }
    }
}

/// A listing that ends well shows each key once, and none that was not asked for.
fn lists(client: &Client, depth: Depth) {
    let mut keys = BTreeSet::new();
    let visit = &mut |row: Row| {
        let key = match row {
            Row::Object(object) => object.key,
            Row::Folder(folder) => {
                assert!(depth == Depth::Folder && folder.ends_with('/'), "{folder:?}");
                folder
            }
        };
        assert!(key.starts_with(PREFIX), "{key:?} was not asked for");
        keys.insert(key);
        Ok(())
    };
    let before = client.counts();
    let place = if depth == Depth::All { "listed deep" } else { "listed" };
    if done(client.list(PREFIX, depth, visit), place).is_some() && !keys.is_empty() {
        let after = client.counts();
        if after.requests - after.repeats > before.requests - before.repeats + 1 {
            reach("listed in pages");
        }
    }
}

fn lists_more(client: &Client, bits: u16) {
    if bits & 4 != 0 {
        let visit = &mut |row: VersionRow| {
            let key = match row {
                VersionRow::Version(version) => version.object.key,
                VersionRow::Folder(folder) => folder,
            };
            assert!(key.starts_with(PREFIX), "{key:?} was not asked for");
            Ok(())
        };
        done(client.list_versions(PREFIX, Depth::All, visit), "versions");
    }
    if bits & 8 != 0 {
        done(client.list_uploads(PREFIX), "uploads");
    }
}

fn reads(client: &Client, bits: u16) {
    if bits & 16 != 0 {
        match client.head("p/a", None) {
            Ok(None) => reach("not there"),
            found => drop(done(found, "looked at")),
        }
    }
    if bits & 32 != 0
        && let Some(bytes) = done(client.get("p/a", BYTES_MAX), "read whole")
    {
        assert!(bytes.len() <= BYTES_MAX, "{}", bytes.len());
    }
    if bits & 64 != 0
        && let Some(bytes) = done(client.get_range("p/a", None, 3..20), "read a stretch")
    {
        assert!(bytes.len() <= 17, "{}", bytes.len());
    }
    if bits & 128 != 0
        && let Some(mut opened) = done(client.open("p/a", None, 2, Some("e")), "opened")
    {
        let mut came = 0;
        let mut buffer = [0; 64];
        // What is said to be there comes, or it is said that it does not.
        loop {
            match opened.read(&mut buffer) {
                Ok(0) => {
                    assert_eq!(came, opened.head.size, "it ended early without a word");
                    break reach("read to its end");
                }
                Ok(count) => came += count as u64,
                Err(e) => break told(&e),
            }
            assert!(came <= opened.head.size, "more came than was said");
        }
    }
}

fn writes(client: &Client, bits: u16) {
    let beside = Beside::default();
    if bits & 0x100 != 0 {
        done(client.put("p/a", b"content", &beside), "stored");
    }
    if bits & 0x200 != 0 {
        match client.put_new("p/a", b"content") {
            Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => {
                reach("taken already");
            }
            result => drop(done(result.map_err(|it| it.into_error()), "stored as new")),
        }
    }
    if bits & 0x400 != 0 {
        done(client.copy("p/a", "p/b", Some(&beside)), "copied");
    }
    if bits & 0x800 != 0 {
        done(client.delete("p/a"), "deleted");
    }
    if bits & 0x1000 != 0 {
        done(client.tags("p/a", None), "tags");
    }
    if bits & 0x2000 != 0 {
        done(client.location(), "a region");
    }
    if bits & 0x4000 != 0 {
        done(client.keeps_versions(), "keeps versions");
    }
}

fn ask(port: u16, bits: u16) {
    let mut options = Options::new("b");
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    options.credentials = Some(Credentials {
        access_key: "AKIA".into(),
        secret_key: Secret::new(SECRET.into()),
        session_token: None,
    });
    let limits = Limits { connect: Duration::from_secs(2), silence: Duration::from_millis(300) };
    options.http = http::Options { limits, ..http::Options::default() };
    let clock = Arc::new(FixedClock::new(Timestamp::new(1_800_000_000, 0)));
    let client = Client::new(&options, clock, Arc::new(|_| Ok(()))).expect("a client");
    for (bit, depth) in [(1, Depth::Folder), (2, Depth::All)] {
        if bits & bit != 0 {
            lists(&client, depth);
        }
    }
    lists_more(&client, bits);
    reads(&client, bits);
    writes(&client, bits);
    if client.counts().repeats > 0 {
        reach("asked again");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((bits, script)) = data.split_first_chunk::<2>() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, script, &is_over));
        let asked = std::panic::catch_unwind(|| ask(at.port(), u16::from_le_bytes(*bits)));
        is_over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(at));
        server.join().expect("it does not panic");
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

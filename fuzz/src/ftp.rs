//! An FTP server that says anything: a session over real sockets with a server from a script.
//!
//! The first byte says which requests are made. The rest is parts with NUL bytes between them: the
//! greeting, and then what is said to one line of the client after the other. In a part 0x01 is
//! the port of data as 229 has it, 0x02 as 227 has it. A part that begins with 0x03 is what comes
//! over the next connection of data.

use icecore::base::error::ErrorKind;
use icecore::base::time::FixedClock;
use icecore::base::time::Timestamp;
use icecore::net::files::Connect;
use icecore::net::ftp::Options;
use icecore::net::ftp::Server;
use icecore::net::tcp::Limits;
use std::collections::VecDeque;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use super::places::reach;
use super::sftp::ask;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "turned away",
    "refused",
    "begun",
    "a name is listed",
    "all is listed",
    "looked at",
    "opened",
    "read",
    "created",
    "written",
    "finished",
    "renamed",
    "a folder is made",
    "removed",
    "a time is set",
    "a mode is set",
    "kept alive",
];

/// How long the server waits for a client that waits for it: then it hangs up.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long it waits for the end of what a client sends.
const DATA_PATIENCE: Duration = Duration::from_millis(500);

/// What is left to be sent over connections of data.
type Contents = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// Puts the ports in.
fn said(part: &[u8], port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let mut out = Vec::new();
    for &byte in part {
        match byte {
            1 => out.extend_from_slice(format!("(|||{port}|)").as_bytes()),
            2 => out.extend_from_slice(format!("(127,0,0,1,{high},{low})").as_bytes()),
            byte => out.push(byte),
        }
    }
    out
}

/// Returns a line of the client's that is none.
fn serve(stream: TcpStream, parts: &[&[u8]], port: u16) -> io::Result<Option<Vec<u8>>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let said = line.strip_suffix(b"\r\n");
            if said.is_none_or(|said| said.contains(&b'\r') || said.contains(&0)) {
                return Ok(Some(line));
            }
        }
        stream.write_all(&said(part, port))?;
    }
    Ok(None)
}

/// Sends what is next to whoever connects, until told to stop by a connection of no content.
fn serve_data(listener: &TcpListener, contents: &Contents, is_over: &Mutex<bool>) {
    while let Ok((mut stream, _)) = listener.accept() {
        if is_over.lock().is_ok_and(|is_over| *is_over) {
            return;
        }
        let next = contents.lock().ok().and_then(|mut contents| contents.pop_front());
        let _ = stream.write_all(&next.unwrap_or_default());
        // What the client sends is taken to its end: closed before, it would be told of a break.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(DATA_PATIENCE));
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((bits, script)) = data.split_first() else { return };
    let all: Vec<&[u8]> = script.split(|byte| *byte == 0).take(60).collect();
    let (contents, parts): (Vec<&[u8]>, Vec<&[u8]>) =
        all.into_iter().partition(|part| part.starts_with(&[3]));
    let contents: Contents =
        Arc::new(Mutex::new(contents.iter().map(|part| part[1..].to_vec()).collect()));

    let control = TcpListener::bind("127.0.0.1:0").expect("a port");
    let passive = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = control.local_addr().expect("an address").port();
    let data_at = passive.local_addr().expect("an address");
    let is_over = Mutex::new(false);
    let odd = std::thread::scope(|scope| {
        scope.spawn(|| serve_data(&passive, &contents, &is_over));
        let server = scope.spawn(|| {
            // It hangs up when the script is over, or the client is.
            let accepted = control.accept();
            let served = accepted.and_then(|(stream, _)| serve(stream, &parts, data_at.port()));
            *is_over.lock().expect("nobody panics with it") = true;
            drop(TcpStream::connect(data_at));
            served.ok().flatten()
        });
        talk(port, *bits);
        server.join().expect("it does not panic")
    });
    assert_eq!(odd, None, "a line of the client's is none, or two");
}

fn talk(port: u16, bits: u8) {
    let options = Options {
        limits: Limits { connect: Duration::from_secs(2), silence: Duration::from_secs(2) },
        clock: Arc::new(FixedClock::new(Timestamp::new(1_800_000_000, 0))),
        ..Options::new("127.0.0.1", port, false)
    };
    let server = Server::new(options).expect("nothing that cannot be said");
    match server.connect() {
        Ok(mut files) => {
            reach("begun");
            ask(files.as_mut(), bits);
        }
        Err(e) => {
            assert_ne!(e.kind(), ErrorKind::Bug, "{}", e.full_message());
            reach("turned away");
        }
    }
}

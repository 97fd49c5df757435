//! A client of the FTP server that says anything: whatever it says is answered, or hung up on, and
//! nothing outside of the served folder is read or changed.
//!
//! The lowest bit of the first byte takes the right to write away, the next one logs in
//! beforehand, and the highest one says everything at once, but what asks for a connection of data,
//! as the server waits long for one. The rest is lines with NUL bytes between them; one that begins
//! with 0x03 is what the next upload sends.

use super::places::reach;
use icecore::base::cancel::Cancel;
use icecore::base::secret::Secret;
use icecore::base::time::SystemClock;
use icecore::serve::Limits;
use icecore::serve::Options;
use icecore::serve::Server;
use icecore::serve::users::Rights;
use icecore::serve::users::Users;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "logged in",
    "turned away",
    "not logged in",
    "read only",
    "no such way",
    "no such command",
    "line is too long",
    "all at once",
    "listed",
    "looked at",
    "read",
    "read from the middle",
    "stored",
    "appended",
    "renamed",
    "a folder is made",
    "removed",
    "a time is set",
    "gone into a folder",
    "hung up",
];

const USER: &str = "me";
const PASSWORD: &str = "hunter2hunter2";
/// What stands outside, and what nobody may hear.
const OUTSIDE: &[u8] = b"not for anybody's eyes";
const LINES_MAX: usize = 60;
/// Longer than the server waits for anything here: one that says nothing has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands below a folder: of a file its content, of a link where it leads.
type Tree = BTreeMap<PathBuf, (Option<Vec<u8>>, Option<PathBuf>, Option<SystemTime>)>;

fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("a kind");
            let time = fs::symlink_metadata(&path).and_then(|it| it.modified()).ok();
            let content = kind.is_file().then(|| fs::read(&path).unwrap_or_default());
            let link = kind.is_symlink().then(|| fs::read_link(&path).unwrap_or_default());
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (content, link, time));
        }
    }
    found
}

fn furnish(base: &Path) -> std::io::Result<()> {
    let (outside, served) = (base.join("outside"), base.join("served"));
    fs::create_dir_all(&outside)?;
    fs::create_dir_all(served.join("d"))?;
    fs::write(outside.join("secret"), OUTSIDE)?;
    fs::write(served.join("a"), b"content of a\n")?;
    fs::write(served.join("d/b"), [b'b'; 300])?;
    std::os::unix::fs::symlink("../outside", served.join("out"))?;
    std::os::unix::fs::symlink("../outside/secret", served.join("link"))
}

/// A session as its client sees it.
struct Client<'a> {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    data: Option<TcpStream>,
    uploads: VecDeque<&'a [u8]>,
    /// All that came.
    heard: Vec<u8>,
    has_restart: bool,
    served: PathBuf,
}

impl<'a> Client<'a> {
    fn connect(at: SocketAddr, uploads: VecDeque<&'a [u8]>, served: PathBuf) -> Self {
        let stream = TcpStream::connect(at).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_nodelay(true).expect("an option");
        let lines = BufReader::new(stream.try_clone().expect("a handle"));
        let heard = Vec::new();
        Client { stream, lines, data: None, uploads, heard, has_restart: false, served }
    }

    /// Hears a reply to its last line; None when the server has hung up.
    fn hear(&mut self) -> Option<(u16, Vec<u8>)> {
        loop {
            let mut line = Vec::new();
            match self.lines.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("it neither answers nor hangs up")
                }
                Err(_) => return None,
            }
            self.heard.extend_from_slice(&line);
            assert!(line.ends_with(b"\r\n"), "half a line");
            let is_last = line.len() > 4 && line[3] == b' ' && line[0] != b' ';
            if is_last {
                let code = std::str::from_utf8(&line[..3]).expect("a code");
                return Some((code.parse().expect("a code"), line));
            }
        }
    }

    fn say(&mut self, line: &[u8]) -> Option<(u16, Vec<u8>)> {
        // One that has hung up may have said something before.
        let _ = self.stream.write_all(&[line, b"\r\n"].concat());
        self.hear()
    }

    /// Says a line, and does what the answer asks for. None when the server has hung up.
    fn step(&mut self, line: &[u8]) -> Option<()> {
        let verb = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        let (mut code, text) = self.say(line)?;
        if matches!(code, 227 | 229) {
            self.data = data_port(&text).and_then(|port| {
                let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).ok()?;
                Some(stream)
            });
        }
        let mut moved = Vec::new();
        if code == 150 {
            moved = self.transfer(matches!(verb.as_str(), "STOR" | "APPE" | "STOU"));
            code = self.hear()?.0;
            self.is_as_moved(&verb, code, &moved);
        }
        note(&verb, code, self.has_restart && !moved.is_empty());
        self.has_restart = verb == "REST" && code == 350;
        Some(())
    }

    fn transfer(&mut self, is_up: bool) -> Vec<u8> {
        let Some(mut data) = self.data.take() else { return Vec::new() };
        if is_up {
            let content = self.uploads.pop_front().unwrap_or_default();
            let _ = data.write_all(content);
            return content.to_vec();
        }
        let mut content = Vec::new();
        let _ = data.read_to_end(&mut content);
        self.heard.extend_from_slice(&content);
        content
    }

    /// What was sent well is the end of a file, and what was stored well is in one.
    fn is_as_moved(&self, verb: &str, code: u16, moved: &[u8]) {
        let files = || tree(&self.served).into_values().filter_map(|(content, _, _)| content);
        match (verb, code) {
            ("RETR", 226) => assert!(files().any(|it| it.ends_with(moved)), "no such content"),
            ("STOR" | "APPE", 226) => {
                let holds = |it: &Vec<u8>| {
                    moved.is_empty() || it.windows(moved.len()).any(|part| part == moved)
                };
                assert!(files().any(|it| holds(&it)), "what was stored is not there");
            }
            _ => {}
        }
    }
}

/// Returns the port in the reply to EPSV or PASV.
fn data_port(text: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(text).into_owned();
    let inner = text.split_once('(')?.1.split_once(')')?.0;
    if let Some(port) = inner.strip_prefix("|||") {
        return port.trim_end_matches('|').parse().ok();
    }
    let numbers: Vec<u16> = inner.split(',').filter_map(|part| part.parse().ok()).collect();
    Some(numbers.get(4)? * 256 + numbers.get(5)?)
}

fn note(verb: &str, code: u16, is_rest: bool) {
    reach(match (verb, code) {
        ("PASS", 230) => "logged in",
        ("PASS", 530) => "turned away",
        (_, 530) => "not logged in",
        ("STOR" | "MKD" | "DELE" | "RMD" | "RNFR" | "MFMT" | "SITE" | "APPE", 550) => "read only",
        ("RETR" | "CWD" | "SIZE" | "MLSD", 550) => "no such way",
        (_, 502) => "no such command",
        (_, 500) => "line is too long",
        ("LIST" | "NLST" | "MLSD", 226) => "listed",
        ("MLST", 250) | ("SIZE" | "MDTM", 213) => "looked at",
        ("RETR", 226) if is_rest => "read from the middle",
        ("RETR", 226) => "read",
        ("STOR", 226) => "stored",
        ("APPE", 226) => "appended",
        ("RNTO", 250) => "renamed",
        ("MKD", 257) => "a folder is made",
        ("DELE" | "RMD", 250) => "removed",
        ("MFMT", 213) => "a time is set",
        ("CWD", 250) => "gone into a folder",
        ("QUIT", 221) => "hung up",
        _ => return,
    });
}

/// Talks as the script says, until one of both hangs up; returns all that came.
fn talk(at: SocketAddr, bits: u8, script: &[u8], served: PathBuf) -> Vec<u8> {
    let all: Vec<&[u8]> = script.split(|byte| *byte == 0).take(LINES_MAX).collect();
    let (uploads, lines): (Vec<&[u8]>, Vec<&[u8]>) =
        all.into_iter().partition(|part| part.starts_with(&[3]));
    let mut client = Client::connect(at, uploads.iter().map(|it| &it[1..]).collect(), served);
    client.hear();
    if bits & 2 != 0 {
        client.step(format!("USER {USER}").as_bytes());
        client.step(format!("PASS {PASSWORD}").as_bytes());
    }
    if bits & 0x80 != 0 {
        let waits = |line: &&[u8]| {
            let text = String::from_utf8_lossy(line).to_ascii_uppercase();
            text.contains("SV") || line.contains(&0xff)
        };
        let lines: Vec<&[u8]> = lines.into_iter().filter(|line| !waits(line)).collect();
        let _ = client.stream.write_all(&lines.join(&b"\r\n"[..]));
        reach("all at once");
    } else {
        // Each is one line, so that each has one answer.
        let mut lines = lines.iter().flat_map(|part| part.split(|&byte| byte == b'\n'));
        let _ = lines.try_for_each(|line| client.step(line));
    }
    client.data = None;
    let _ = client.stream.shutdown(Shutdown::Write);
    while client.hear().is_some() {}
    client.heard
}

/// Serves a folder to one client.
fn serve(base: &Path, bits: u8, script: &[u8], log: &Mutex<String>) -> Vec<u8> {
    let mut users = Users::new().expect("random bytes");
    users.add(USER.as_bytes(), &Secret::new(PASSWORD.into())).expect("a user");
    let rights = if bits & 1 == 0 { Rights::Write } else { Rights::Read };
    let limits = Limits { delay: Duration::ZERO, ..Limits::default() };
    let options = Options { rights, limits, ..Options::default() };
    let served = base.join("served");
    let server = Server::bind(&served, ([127, 0, 0, 1], 0).into(), users, options);
    let server = server.expect("a port");
    let at = server.address().expect("an address");
    let cancel = Cancel::new();
    let note = |line: &str| {
        let mut log = log.lock().expect("nobody panics with it");
        log.push_str(line);
        log.push('\n');
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.run(&SystemClock, &cancel, &note));
        let heard = std::panic::catch_unwind(|| talk(at, bits, script, served.clone()));
        cancel.cancel();
        // It looks for somebody to come a few times in a second, or when somebody does.
        drop(TcpStream::connect(at));
        running.join().expect("it does not panic").expect("it serves");
        heard.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|it| it == part)
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((bits, script)) = data.split_first() else { return };
    let base = tempfile::tempdir().expect("a folder");
    furnish(base.path()).expect("furnished");
    let (outside, served) = (base.path().join("outside"), base.path().join("served"));
    let before = (tree(&outside), tree(&served));
    let log = Mutex::new(String::new());
    let heard = serve(base.path(), *bits, script, &log);

    let after = (tree(&outside), tree(&served));
    assert!(after.0 == before.0, "something outside has changed");
    assert!(has(script, OUTSIDE) || !has(&heard, OUTSIDE), "it told what stands outside");
    assert!(bits & 1 == 0 || after.1 == before.1, "something changed by who may only read");
    let links = |tree: &Tree| tree.values().filter(|it| it.1.is_some()).count();
    assert!(links(&after.1) <= links(&before.1), "a link was made");
    let left = after.1.keys().filter_map(|path| path.file_name());
    let left = left.filter(|name| name.as_encoded_bytes().starts_with(b".icecore-upload-"));
    assert!(left.count() == 0 || has(script, b".icecore-upload-"), "an upload is left");
    let log = log.into_inner().expect("nobody panics with it");
    assert!(has(script, PASSWORD.as_bytes()) || !log.contains(PASSWORD), "a password is told");
}

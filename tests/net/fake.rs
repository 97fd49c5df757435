//! An FTP server of a few lines that plays tricks: it answers as a script says, and hangs up or
//! falls silent after so many bytes.

use icecore::base::secret::Secret;
use icecore::net::ftp::Options;
use icecore::net::ftp::Server;
use icecore::net::tcp::Limits;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is done about a command.
pub(crate) enum Answer {
    /// Lines with their ends.
    Say(Vec<u8>),
    /// A port for data is opened, and the reply is this with `PORT`, or `P1,P2`, put in.
    Port(&'static str),
    /// Content goes out, between two replies.
    Send(Vec<u8>, &'static str),
    /// Content comes in and is kept under a name, between two replies.
    Take(Vec<u8>, &'static str),
    /// Some content comes in, and no more is taken.
    Refuse(&'static str),
}

/// Says a line.
pub(crate) fn say(text: &str) -> Answer {
    Answer::Say(format!("{text}\r\n").into_bytes())
}

type Script = dyn Fn(&str, &[u8], &Disk) -> Answer + Send + Sync;

/// Files by path.
pub(crate) type Disk = Mutex<BTreeMap<Vec<u8>, Vec<u8>>>;

/// What happens when the bytes are used up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    HangUp,
    Silence,
}

/// The server. Its threads end with the sessions.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) disk: Arc<Disk>,
    /// Bytes that all connections together may still say.
    budget: Arc<AtomicUsize>,
}

impl Fake {
    /// Starts a server that answers by `script`, which is asked with an empty word for a greeting.
    pub(crate) fn start(
        script: impl Fn(&str, &[u8], &Disk) -> Answer + Send + Sync + 'static,
        then: Then,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let disk = Arc::new(Disk::default());
        let budget = Arc::new(AtomicUsize::new(usize::MAX));
        let script: Arc<Script> = Arc::new(script);
        let (kept, left) = (disk.clone(), budget.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let line = Line { left: left.clone(), then };
                let (script, disk) = (script.clone(), kept.clone());
                std::thread::spawn(move || serve(stream, &*script, &disk, &line));
            }
        });
        Fake { address, disk, budget }
    }

    /// Sets how many bytes may still be said.
    pub(crate) fn allow(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::SeqCst);
    }

    /// Returns how many bytes may still be said.
    pub(crate) fn left(&self) -> usize {
        self.budget.load(Ordering::SeqCst)
    }

    /// Returns a client of it that waits for as long.
    pub(crate) fn client(&self, silence: Duration) -> Server {
        let mut options = Options::new("127.0.0.1", self.address.port(), false);
        options.user = Some("me".to_owned());
        options.password = Some(Secret::new(b"hunter2".to_vec()));
        options.limits = Limits { connect: Duration::from_secs(2), silence };
        Server::new(options).expect("good options")
    }
}

struct Line {
    left: Arc<AtomicUsize>,
    then: Then,
}

impl Line {
    /// Says what may be said; false when that was not all.
    fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> bool {
        let take = |left: usize| Some(left - left.min(bytes.len()));
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        let allowed = left.unwrap_or_default().min(bytes.len());
        let written = stream.write_all(&bytes[..allowed]).is_ok();
        if allowed == bytes.len() {
            return written;
        }
        if self.then == Then::Silence {
            // Until the client has enough of it.
            let _ = stream.read(&mut [0]);
        }
        false
    }
}

fn serve(mut stream: TcpStream, script: &Script, disk: &Disk, line: &Line) {
    let _ = stream.set_nodelay(true);
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut data: Option<TcpListener> = None;
    let (mut verb, mut argument) = (String::new(), Vec::new());
    loop {
        let goes_on = match script(&verb, &argument, disk) {
            Answer::Say(bytes) => line.write(&mut stream, &bytes),
            Answer::Port(text) => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                let port = listener.local_addr().expect("an address").port();
                data = Some(listener);
                let pair = format!("{},{}", port / 256, port % 256);
                let text = text.replace("PORT", &port.to_string()).replace("P1,P2", &pair);
                line.write(&mut stream, format!("{text}\r\n").as_bytes())
            }
            Answer::Send(content, last) => {
                let Some((mut peer, _)) = data.take().and_then(|data| data.accept().ok()) else {
                    return;
                };
                line.write(&mut stream, b"150 here it comes\r\n")
                    && line.write(&mut peer, &content)
                    && {
                        drop(peer);
                        line.write(&mut stream, format!("{last}\r\n").as_bytes())
                    }
            }
            Answer::Take(name, last) => {
                let Some((mut peer, _)) = data.take().and_then(|data| data.accept().ok()) else {
                    return;
                };
                let mut content = Vec::new();
                line.write(&mut stream, b"150 go on\r\n")
                    && peer.read_to_end(&mut content).is_ok()
                    && {
                        disk.lock().expect("whole").insert(name, content);
                        line.write(&mut stream, format!("{last}\r\n").as_bytes())
                    }
            }
            Answer::Refuse(last) => {
                let Some((mut peer, _)) = data.take().and_then(|data| data.accept().ok()) else {
                    return;
                };
                line.write(&mut stream, b"150 go on\r\n") && peer.read(&mut [0; 10]).is_ok() && {
                    drop(peer);
                    line.write(&mut stream, format!("{last}\r\n").as_bytes())
                }
            }
        };
        if !goes_on {
            return;
        }
        let mut text = Vec::new();
        if lines.read_until(b'\n', &mut text).unwrap_or(0) == 0 {
            return;
        }
        let text = text.trim_ascii_end();
        let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
        verb = String::from_utf8_lossy(&text[..end]).into_owned();
        argument = text.get(end + 1..).unwrap_or_default().to_vec();
    }
}

/// A server without folders that does as it should.
pub(crate) fn honest(verb: &str, argument: &[u8], disk: &Disk) -> Answer {
    let mut disk = disk.lock().expect("whole");
    let file = disk.get(argument).cloned();
    match verb {
        "" => say("220 fake"),
        "USER" => say("331 go on"),
        "PASS" => say("230 in"),
        "FEAT" => say("211-Features\r\n MLST type*;size*;modify*;\r\n MFMT\r\n SIZE\r\n211 End"),
        "PWD" => say("257 \"/\""),
        "TYPE" | "NOOP" | "OPTS" => say("200 fine"),
        "CWD" if argument == b"/" => say("250 there"),
        "CWD" => say("550 no such folder"),
        "EPSV" => Answer::Port("229 here (|||PORT|)"),
        "REST" => say("350 from there"),
        "SIZE" => match file {
            Some(content) => say(&format!("213 {}", content.len())),
            None => say("550 No such file or directory"),
        },
        "MLST" => match file {
            Some(content) => {
                let facts = format!("type=file;size={};modify=20261121150000;", content.len());
                say(&format!("250-there\r\n {facts} it\r\n250 end"))
            }
            None => say("550 No such file or directory"),
        },
        "MLSD" => {
            let mut text = b"type=cdir; .\r\n".to_vec();
            for (name, content) in disk.iter() {
                text.extend(format!("type=file;size={}; ", content.len()).bytes());
                text.extend_from_slice(&name[1..]);
                text.extend_from_slice(b"\r\n");
            }
            Answer::Send(text, "226 done")
        }
        "RETR" => match file {
            Some(content) => Answer::Send(content, "226 done"),
            None => say("550 No such file or directory"),
        },
        "STOR" => Answer::Take(argument.to_vec(), "226 done"),
        "DELE" => match disk.remove(argument) {
            Some(_) => say("250 gone"),
            None => say("550 No such file or directory"),
        },
        _ => say("500 what?"),
    }
}

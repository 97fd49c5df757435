//! An HTTP server in this process that answers as a test says: whole, in part, or never.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query as they were sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.target.contains(text)
    }
}

/// What it gets.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Number, further headers, content.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, until the client gives up.
    Hang,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply::Whole(200, Vec::new(), body.into())
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>As asked.</Message></Error>");
        // As stores do, so that also of a head it is known who says so.
        Reply::Whole(status, vec![("x-amz-request-id", "1".to_owned())], body.into_bytes())
    }

    /// What a proxy answers while the store is away.
    pub(crate) fn foreign() -> Self {
        let body = "404 page not found\n".into();
        Reply::Whole(404, vec![("content-type", "text/plain".to_owned())], body)
    }

    pub(crate) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Reply::Whole(status, mut headers, body) => {
                headers.push((name, value.into()));
                Reply::Whole(status, headers, body)
            }
            other => other,
        }
    }
}

/// The server; it lives as long as the program.
pub(crate) struct Fake {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Script = Arc<dyn Fn(usize, &Asked) -> Reply + Send + Sync>;

impl Fake {
    /// Starts one; `answer` gets the number of the request from 0.
    pub(crate) fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Script, _) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream.unwrap(), &script, &seen));
            }
        });
        Fake { port, asked }
    }

    /// Returns all that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, script: &Script, seen: &Mutex<Vec<Asked>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let is_head = asked.method == "HEAD";
        let number = {
            let mut all = seen.lock().unwrap();
            all.push(asked.clone());
            all.len() - 1
        };
        let sent = match script(number, &asked) {
            Reply::Whole(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Word\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let is_said = head.contains("content-length");
                if status != 204 && !is_said {
                    head.push_str(&format!("content-length: {}\r\n", body.len()));
                }
                let body = if is_head { &[][..] } else { &body };
                writer.write_all(&[head.as_bytes(), b"\r\n", body].concat())
            }
            Reply::Raw(bytes) => {
                let _ = writer.write_all(&bytes);
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return;
            }
            Reply::Hang => {
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

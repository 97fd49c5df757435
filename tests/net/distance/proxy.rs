//! A server made far away: a proxy that lets each byte arrive half a round trip after it was sent,
//! and counts what goes to and fro.
//!
//! A turn is what costs a round trip: somebody who has heard an answer says something new. What is
//! said before the answer to the thing before has come belongs to the same turn. The three words by
//! which the system makes a connection are not delayed, so each connection is one round trip more
//! than what the clock shows.
//!
//! Over FTP the ports of data connections are told by replies; these are rewritten, and each data
//! connection goes through a port of its own here.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Bytes taken at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces under way in one direction of a connection.
const PIECES_MAX: usize = 256;

/// What is said through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Something whose words need not be understood.
    Bytes,
    /// FTP in the clear.
    Ftp,
}

/// What went through.
#[allow(dead_code, reason = "not everybody who counts looks at all of it")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections, those for data as well.
    pub(crate) connections: u64,
    /// Turns of all connections but those for data.
    pub(crate) turns: u64,
    /// Turns of the connection that had most.
    pub(crate) longest: u64,
    /// Commands of FTP; of anything else the turns, which over HTTP are requests.
    pub(crate) requests: u64,
    /// Bytes to the server.
    pub(crate) up: u64,
    /// Bytes from the server.
    pub(crate) down: u64,
}

/// A proxy, which ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    one_way: Duration,
    speech: Speech,
    is_ended: AtomicBool,
    up: AtomicU64,
    down: AtomicU64,
    commands: AtomicU64,
    connections: AtomicU64,
    /// Turns of each connection that is not for data.
    turns: Mutex<Vec<Arc<Link>>>,
}

/// What is known of one connection.
struct Link {
    is_data: bool,
    is_answered: AtomicBool,
    turns: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Proxy {
    /// Makes a server on this machine so far away.
    pub(crate) fn start(port: u16, one_way: Duration, speech: Speech) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], port)),
            one_way,
            speech,
            is_ended: AtomicBool::new(false),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            turns: Mutex::default(),
        });
        let port = listener.local_addr()?.port();
        let to_listen = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if to_listen.is_ended.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&to_listen)) else { continue };
                let server = shared.server;
                thread::spawn(move || shared.carry(client, server, false));
            }
        });
        Ok(Proxy { port, shared })
    }

    /// Returns where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns what went through since this was asked last.
    pub(crate) fn take(&self) -> Counts {
        let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let mut links = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turns: Vec<u64> = links.drain(..).map(|link| taken(&link.turns)).collect();
        let commands = taken(&self.shared.commands);
        let all: u64 = turns.iter().sum();
        Counts {
            connections: taken(&self.shared.connections),
            turns: all,
            longest: turns.into_iter().max().unwrap_or(0),
            requests: if self.shared.speech == Speech::Ftp { commands } else { all },
            up: taken(&self.shared.up),
            down: taken(&self.shared.down),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        // Wakes who listens.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// Carries one connection to its end.
    fn carry(self: Arc<Self>, client: TcpStream, server: SocketAddr, is_data: bool) {
        let (is_answered, turns) = (AtomicBool::new(true), AtomicU64::new(0));
        let link = Arc::new(Link { is_data, is_answered, turns });
        self.connections.fetch_add(1, Ordering::Relaxed);
        if !is_data {
            let mut links = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            links.push(Arc::clone(&link));
        }
        thread::sleep(self.one_way);
        // A server that is not there hangs up on its clients.
        let _ = self.both_ways(client, server, &link);
    }

    fn both_ways(
        self: &Arc<Self>,
        client: TcpStream,
        server: SocketAddr,
        link: &Arc<Link>,
    ) -> io::Result<()> {
        let server = TcpStream::connect(server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from, to) = (server.try_clone()?, client.try_clone()?);
        let (shared, known) = (Arc::clone(self), Arc::clone(link));
        let down = thread::spawn(move || shared.pump(from, to, &known, Direction::Down));
        self.pump(client, server, link, Direction::Up);
        let _ = down.join();
        Ok(())
    }

    /// Moves what comes, until no more does.
    fn pump(
        self: &Arc<Self>,
        mut from: TcpStream,
        to: TcpStream,
        link: &Arc<Link>,
        way: Direction,
    ) {
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES_MAX);
        let known = Arc::clone(link);
        let delivering = thread::spawn(move || deliver(&to, &receiver, &known, way));
        let is_rewritten = self.speech == Speech::Ftp && !link.is_data && way == Direction::Down;
        let mut lines = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count) = from.read(&mut piece)
            && count > 0
        {
            let mut bytes = piece[..count].to_vec();
            self.note(link, way, &bytes);
            if is_rewritten {
                lines.extend_from_slice(&bytes);
                let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                let rest = lines.split_off(whole);
                bytes = self.rewritten(&std::mem::replace(&mut lines, rest));
            }
            if sender.send((Instant::now() + self.one_way, bytes)).is_err() {
                break;
            }
        }
        drop(sender);
        let _ = delivering.join();
        let _ = from.shutdown(Shutdown::Read);
    }

    fn note(&self, link: &Link, way: Direction, bytes: &[u8]) {
        let count = bytes.len() as u64;
        if way == Direction::Down {
            self.down.fetch_add(count, Ordering::Relaxed);
            return;
        }
        self.up.fetch_add(count, Ordering::Relaxed);
        if link.is_data {
            return;
        }
        let ends = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.commands.fetch_add(ends, Ordering::Relaxed);
        if link.is_answered.swap(false, Ordering::Relaxed) {
            link.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts ports of this proxy in the place of those that a server tells.
    fn rewritten(self: &Arc<Self>, lines: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let new = told_port(line).and_then(|told| {
                let port = self.port_for_data(told).ok()?;
                Some(match line.starts_with(b"229") {
                    true => format!("229 Extended passive mode (|||{port}|)\r\n"),
                    false => format!("227 Passive (127,0,0,1,{},{})\r\n", port >> 8, port & 0xff),
                })
            });
            match new {
                Some(new) => all.extend_from_slice(new.as_bytes()),
                None => all.extend_from_slice(line),
            }
        }
        all
    }

    /// Opens a port for one data connection with a port of the server.
    fn port_for_data(self: &Arc<Self>, told: u16) -> io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::clone(self);
        let server = SocketAddr::new(self.server.ip(), told);
        thread::spawn(move || {
            if let Ok((client, _)) = listener.accept() {
                shared.carry(client, server, true);
            }
        });
        Ok(port)
    }
}

/// Hands on each piece when its time has come.
fn deliver(
    mut to: &TcpStream,
    pieces: &mpsc::Receiver<(Instant, Vec<u8>)>,
    link: &Link,
    way: Direction,
) {
    for (due, bytes) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if way == Direction::Down {
            // Before it is heard, so that what is said next is a new turn for certain.
            link.is_answered.store(true, Ordering::Relaxed);
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Returns the port that a reply to EPSV or PASV tells.
fn told_port(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    let inside = || Some(text.split_once('(')?.1.split_once(')')?.0);
    if text.starts_with("229 ") {
        return inside()?.trim_matches('|').parse().ok();
    }
    if !text.starts_with("227 ") {
        return None;
    }
    let numbers: Vec<u16> = inside()?.split(',').flat_map(|it| it.trim().parse()).collect();
    let &[_, _, _, _, high, low] = numbers.as_slice() else { return None };
    Some(high << 8 | low)
}

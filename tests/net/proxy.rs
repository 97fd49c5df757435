//! Somebody between the program and a server: passes everything on, counts it in pieces, and cuts
//! one connection or all of them in the middle of a piece. It understands FTP in the clear: where a
//! reply names a port for data, it listens at one of its own and names that.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Most bytes of a piece.
const PIECE_BYTES: usize = 16 * 1024;
/// How long a port for data is kept open for the client.
const DATA_WAIT: Duration = Duration::from_secs(5);

/// Which connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The one that the piece comes over.
    One,
    /// All that are open: the line is gone for a moment.
    All,
}

/// The one in between; it ends with the program.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    is_ftp: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pieces since the count began anew.
    passed: u64,
    cut: Option<(u64, Whom)>,
    links: BTreeMap<u64, [TcpStream; 2]>,
    last: u64,
    /// Connections to the server's own port, all there were.
    clients: u64,
}

/// What becomes of a piece.
enum Verdict {
    Pass,
    /// Half of it goes through, and the connection is cut.
    Cut,
}

impl Proxy {
    /// Stands before a server of this machine.
    pub(crate) fn before(port: u16, is_ftp: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let shared = Arc::new(Shared { server, is_ftp, state: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                shared.state.lock().unwrap().clients += 1;
                thread::spawn(move || {
                    let to = shared.server;
                    relay(&shared, client, to, shared.is_ftp);
                });
            }
        });
        Proxy { port: own, shared }
    }

    /// Counts anew, and cuts at a piece if one is named.
    pub(crate) fn begin(&self, cut: Option<(u64, Whom)>) {
        let mut state = self.shared.state.lock().unwrap();
        (state.passed, state.cut) = (0, cut);
    }

    /// Returns how often somebody came, not counting connections for data.
    pub(crate) fn clients(&self) -> u64 {
        self.shared.state.lock().unwrap().clients
    }

    /// Returns how many pieces went through, and whether the cut has come.
    pub(crate) fn passed(&self) -> (u64, bool) {
        let state = self.shared.state.lock().unwrap();
        (state.passed, state.cut.is_none())
    }
}

impl Shared {
    /// Counts a piece that comes over a link.
    fn count(&self, link: u64) -> Verdict {
        let mut state = self.state.lock().unwrap();
        state.passed += 1;
        let Some((at, whom)) = state.cut.filter(|(at, _)| state.passed >= *at) else {
            return Verdict::Pass;
        };
        debug_assert!(at > 0, "pieces are counted from 1");
        state.cut = None;
        for (_, ends) in state.links.iter().filter(|(it, _)| whom == Whom::All && **it != link) {
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
        Verdict::Cut
    }
}

/// Passes on what comes, until both sides have said all.
fn relay(shared: &Arc<Shared>, client: TcpStream, server: SocketAddr, is_control: bool) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let link = {
        let mut state = shared.state.lock().unwrap();
        state.last += 1;
        let link = state.last;
        state.links.insert(link, [client.try_clone().unwrap(), server.try_clone().unwrap()]);
        link
    };
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let upwards = {
        let shared = Arc::clone(shared);
        thread::spawn(move || pass(&shared, link, &mut from_client, &mut to_server, false))
    };
    let (mut from_server, mut to_client) = (server, client);
    pass(shared, link, &mut from_server, &mut to_client, is_control);
    let _ = upwards.join();
    shared.state.lock().unwrap().links.remove(&link);
}

fn pass(shared: &Arc<Shared>, link: u64, from: &mut TcpStream, to: &mut TcpStream, reads: bool) {
    let mut buffer = vec![0; PIECE_BYTES];
    // What was said of a line that has not ended yet.
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let mut piece = buffer[..length].to_vec();
        if reads {
            begun.extend_from_slice(&piece);
            let end = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = begun.drain(..end).collect();
            piece = lines
                .split_inclusive(|&byte| byte == b'\n')
                .flat_map(|line| renamed(shared, line).unwrap_or_else(|| line.to_vec()))
                .collect();
        }
        match shared.count(link) {
            Verdict::Pass if to.write_all(&piece).is_ok() => {}
            Verdict::Pass => break,
            Verdict::Cut => {
                let _ = to.write_all(&piece[..piece.len() / 2]);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Opens a port where a reply names one, and names it instead.
fn renamed(shared: &Arc<Shared>, line: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(line).ok()?;
    let (start, end) = (text.find('(')? + 1, text.find(')')?);
    let inner = text.get(start..end)?;
    let (port, is_extended) = if text.starts_with("229 ") {
        (inner.trim_matches('|').parse().ok()?, true)
    } else if text.starts_with("227 ") {
        let numbers: Vec<u16> = inner.split(',').map_while(|part| part.parse().ok()).collect();
        let [_, _, _, _, high, low] = numbers[..] else { return None };
        (high * 256 + low, false)
    } else {
        return None;
    };
    let own = data_port(shared, port);
    let inner = match is_extended {
        true => format!("|||{own}|"),
        false => format!("127,0,0,1,{},{}", own / 256, own % 256),
    };
    Some(format!("{}{inner}{}", &text[..start], &text[end..]).into_bytes())
}

/// Listens for one connection to a port of the server.
fn data_port(shared: &Arc<Shared>, port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let started = Instant::now();
        while started.elapsed() < DATA_WAIT {
            if let Ok((client, _)) = listener.accept() {
                client.set_nonblocking(false).unwrap();
                let to = SocketAddr::new(shared.server.ip(), port);
                return relay(&shared, client, to, false);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    own
}

#[test]
fn it_passes_on_what_comes_and_cuts_where_it_is_told() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in server.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut byte = [0; 4];
                while client.read_exact(&mut byte).is_ok() {
                    let _ = client.write_all(&byte);
                }
            });
        }
    });
    let proxy = Proxy::before(port, false);
    let ask = |client: &mut TcpStream| {
        let mut heard = Vec::new();
        client.write_all(b"abcd").unwrap();
        let _ = client.take(4).read_to_end(&mut heard);
        heard
    };
    let [mut one, mut other] =
        [0; 2].map(|_| TcpStream::connect(("127.0.0.1", proxy.port)).unwrap());
    proxy.begin(None);
    assert_eq!((ask(&mut one), ask(&mut other)), (b"abcd".to_vec(), b"abcd".to_vec()));
    assert_eq!(proxy.passed().0, 4);
    proxy.begin(Some((2, Whom::One)));
    assert_eq!(ask(&mut one), b"ab");
    assert_eq!(ask(&mut other), b"abcd");
    proxy.begin(Some((2, Whom::All)));
    let [mut one, mut idle] =
        [0; 2].map(|_| TcpStream::connect(("127.0.0.1", proxy.port)).unwrap());
    let waits = thread::spawn(move || idle.read_to_end(&mut Vec::new()).is_ok());
    thread::sleep(Duration::from_millis(100));
    assert_eq!(ask(&mut one), b"ab");
    let _ = waits.join().unwrap();
    assert!(proxy.passed().1);
}
